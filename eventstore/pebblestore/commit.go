package pebblestore

import (
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"sojourn/eventstore"
)

// committer decides and writes all appends. Its fields belong to its goroutine,
// but for the counters.
type committer struct {
	s         *Store
	revisions *revisions
	lastTime  int64 // recorded_at of the last event, Unix ms

	// Reused from group to group.
	facts    []fact
	pending  []pendingEvent
	bodies   []int
	refs     []partRef
	gathered int // events in refs
	touched  uint64
	disk     diskLookup

	acks     chan commit
	answered atomic.Int64  // calls in the group that was answered last
	finished chan struct{} // closed when run has returned

	commits, appended, repeats, known atomic.Uint64
}

// commit is a group on its way to the disk.
type commit struct {
	group *group
	batch *pebble.Batch // nil where nothing was new
	last  eventstore.Position
	err   error
}

func (c *committer) init(s *Store) {
	c.s = s
	c.acks = make(chan commit, 2)
	c.finished = make(chan struct{})
	c.disk.s = s
	c.revisions = newRevisions(s.opts.MaxRevisions)
}

// run takes group after group until the queue is stopped and empty.
func (c *committer) run() {
	defer close(c.finished)
	defer close(c.acks)
	for {
		g := c.s.queue.take(int(c.answered.Load()))
		if g == nil {
			return
		}
		c.awaitIndexer()
		done := c.commit(g)
		if c.s.queue.alone() {
			// Nothing to do until the sync is over: one goroutine less to wake.
			c.settle(done)
		} else {
			c.acks <- done
		}
	}
}

// acknowledge settles commits that another one follows at once.
func (c *committer) acknowledge() {
	for done := range c.acks {
		c.settle(done)
	}
}

// settle waits for a commit's sync and makes known what is durable. Commits are
// settled in their order.
func (c *committer) settle(done commit) {
	err := done.err
	if done.batch != nil {
		if syncErr := done.batch.SyncWait(); syncErr != nil {
			c.s.fail(fmt.Errorf("sync the log: %w", syncErr))
		}
	}
	// A write that failed is known by now (failStop), whatever Pebble thinks.
	// Nothing behind it is acknowledged, repeats neither.
	if err == nil {
		err = c.s.failureErr()
	}
	if err == nil && done.batch != nil {
		if closeErr := done.batch.Close(); closeErr != nil {
			c.s.log.Warn("batch not closed", "error", closeErr)
		}
		c.s.durable.Store(uint64(done.last))
		c.s.advanced.notify()
		c.commits.Add(1)
	}
	c.answered.Store(int64(len(done.group.calls)))
	c.s.queue.finish(done.group, err)
}

// stopped waits for run to return: for ever, or for a while once the store has
// failed, because a broken disk may not let Pebble return.
func (c *committer) stopped(failed <-chan struct{}) bool {
	select {
	case <-c.finished:
		return true
	case <-failed:
	}
	t := time.NewTimer(stuckTimeout)
	defer t.Stop()
	select {
	case <-c.finished:
		return true
	case <-t.C:
		return false
	}
}

// awaitIndexer keeps the segments in memory few: the active one, one that is
// being written out, and one behind it.
func (c *committer) awaitIndexer() {
	for {
		changed := c.s.indexed.wait()
		if len(c.s.index.Load().frozen) <= 1 {
			return
		}
		select {
		case <-changed:
		case <-c.s.failed:
			return
		}
	}
}

// commit decides a group and hands it to Pebble. The order is what makes it
// safe:
//  1. decide, in memory, against all that was decided before;
//  2. encode, after which the callers' events are not read any more;
//  3. write the batch to the log, without waiting for the sync;
//  4. acknowledge waits for the sync, and only then are the events seen and the
//     calls answered, also those that only repeat what an earlier group wrote.
func (c *committer) commit(g *group) commit {
	c.pending = c.pending[:0]
	defer c.disk.release()
	first := c.s.index.Load().active.end()
	for _, call := range g.calls {
		if !call.state.CompareAndSwap(callWaiting, callReading) {
			continue
		}
		if err := c.s.failureErr(); err != nil {
			return c.refuse(g, err)
		}
		if call.seal {
			if err := c.decide(); err != nil {
				return c.refuse(g, c.cannotLookUp(err))
			}
			c.s.mu.Lock()
			c.s.rotate(c.s.opts.SegmentEvents)
			c.s.mu.Unlock()
			continue
		}
		if err := c.gather(call); err != nil {
			return c.refuse(g, c.cannotLookUp(err))
		}
	}
	if err := c.decide(); err != nil {
		return c.refuse(g, c.cannotLookUp(err))
	}
	if len(c.pending) == 0 {
		markRead(g)
		return commit{group: g}
	}
	batch := c.encode(first)
	markRead(g)
	c.appended.Add(uint64(len(c.pending)))
	clear(c.pending) // lets go of the callers' events
	if err := c.s.db.ApplyNoSyncWait(batch, pebble.Sync); err != nil {
		c.s.fail(fmt.Errorf("write the log: %w", err))
		return commit{group: g, err: c.s.failureErr()}
	}
	return commit{group: g, batch: batch, last: c.s.index.Load().active.end() - 1}
}

// cannotLookUp stops the store: some of a group may be decided, and what the
// rest needs cannot be read.
func (c *committer) cannotLookUp(err error) error {
	c.s.fail(fmt.Errorf("look up what is known: %w", err))
	return c.s.failureErr()
}

// refuse answers a whole group with an error.
func (c *committer) refuse(g *group, err error) commit {
	clear(c.pending)
	clear(c.refs)
	c.refs, c.gathered = c.refs[:0], 0
	markRead(g)
	return commit{group: g, err: err}
}

func markRead(g *group) {
	for _, call := range g.calls {
		call.state.CompareAndSwap(callReading, callRead)
	}
}

// encode packs the pending events into log records, from a position on.
func (c *committer) encode(first eventstore.Position) *pebble.Batch {
	now := max(c.s.opts.Now().UnixMilli(), c.lastTime)
	c.lastTime = now
	c.bodies = slices.Grow(c.bodies[:0], len(c.pending))
	total := 0
	for i := range c.pending {
		n := c.pending[i].bodyLen()
		c.bodies = append(c.bodies, n)
		total += n + uvarintLen(uint64(n))
	}
	blocks := total/blockTarget + 2
	batch := c.s.db.NewBatchWithSize(total + blocks*(blockHeaderLen+logKeyLen+16) + 64)
	for i := 0; i < len(c.pending); {
		size, end := blockHeaderLen, i
		for end < len(c.pending) && (end == i || size+c.bodies[end] <= blockTarget) {
			size += c.bodies[end] + uvarintLen(uint64(c.bodies[end]))
			end++
		}
		op := batch.SetDeferred(logKeyLen, size)
		putLogKey(op.Key, first)
		dst := op.Value[blockHeaderLen:]
		for k := i; k < end; k++ {
			dst = c.pending[k].encode(dst, c.bodies[k])
		}
		sealBlock(first, now, end-i, op.Value)
		// Finish fails only where the batch is indexed, which this one is not.
		_ = op.Finish()
		first += eventstore.Position(end - i)
		i = end
	}
	return batch
}
