package pebblestore

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sojourn/eventstore"
)

// call is a part of an append call on its way through the committer.
type call struct {
	parts   []eventstore.Append
	results []eventstore.Result
	bytes   int64
	names   []nameHash  // of the parts' streams
	hashes  []uint64    // of the parts' event ids in a row, some marked candidate
	seen    *indexState // what candidate was found out from
	seal    bool        // asks for the active segment to be frozen; has no parts
	state   atomic.Int32
}

// The states of a call. A waiting call can be taken back; one that the
// committer reads cannot be left, because its events belong to the caller.
const (
	callWaiting int32 = iota
	callReading
	callRead
	callWithdrawn
)

// group is what one commit makes durable.
type group struct {
	calls []*call
	bytes int64
	done  chan struct{} // closed when the outcome stands
	err   error         // read after done
	ended bool
}

// maxGroupBytes bounds what is gathered for one commit, so that a batch stays
// well below half a memtable and the next group is gathered while it syncs.
const maxGroupBytes = 4 << 20

// pipelineBytes is how much must wait before a commit is begun while another is
// still being synced: small groups had better wait and become one.
const pipelineBytes = 256 << 10

// queue holds the calls that wait for the committer.
type queue struct {
	mu       sync.Mutex
	ready    sync.Cond // the committer waits for work
	groups   []*group  // the last one still gathers
	bytes    int64     // of all calls that are not answered yet
	waiting  int64     // of those that are not taken yet
	inflight []*group  // taken, and not answered yet
	limit    int64
	stopErr  error         // why nothing is taken any more
	room     chan struct{} // closed when bytes are given back; nil while nobody waits
	starved  bool          // the committer waits
}

func (q *queue) init(limit int64) {
	q.ready.L = &q.mu
	q.limit = limit
}

// stop refuses every further call. Groups that wait already are still taken.
func (q *queue) stop(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.stopErr == nil {
		q.stopErr = err
	}
	q.wakeRoom()
	q.ready.Signal()
}

func (q *queue) wakeRoom() {
	if q.room != nil {
		close(q.room)
		q.room = nil
	}
}

func (q *queue) queuedBytes() int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.bytes
}

// put adds a call to the group that gathers. It waits for room until the
// context ends or patience runs out, which is ErrOverloaded; without a limit on
// patience (negative) it waits for the context alone.
func (q *queue) put(ctx context.Context, c *call, patience time.Duration) (*group, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	var timeout <-chan time.Time
	for {
		if q.stopErr != nil {
			return nil, q.stopErr
		}
		if q.bytes == 0 || q.bytes+c.bytes <= q.limit {
			break
		}
		if patience == 0 {
			return nil, eventstore.ErrOverloaded
		}
		if timeout == nil && patience > 0 {
			t := time.NewTimer(patience)
			defer t.Stop()
			timeout = t.C
		}
		if q.room == nil {
			q.room = make(chan struct{})
		}
		room := q.room
		q.mu.Unlock()
		var err error
		select {
		case <-room:
		case <-timeout:
			err = eventstore.ErrOverloaded
		case <-ctx.Done():
			err = ctx.Err()
		}
		q.mu.Lock()
		if err != nil {
			return nil, err
		}
	}
	var g *group
	if n := len(q.groups); n > 0 {
		g = q.groups[n-1]
	}
	if g == nil || g.bytes > 0 && g.bytes+c.bytes > maxGroupBytes {
		g = &group{done: make(chan struct{})}
		q.groups = append(q.groups, g)
	}
	g.calls = append(g.calls, c)
	g.bytes += c.bytes
	q.bytes += c.bytes
	q.waiting += c.bytes
	if q.starved && q.takeable() {
		q.starved = false
		q.ready.Signal()
	}
	return g, nil
}

func (q *queue) takeable() bool {
	if len(q.groups) == 0 {
		return q.stopErr != nil
	}
	return len(q.inflight) == 0 || len(q.inflight) < 2 && q.waiting >= pipelineBytes
}

// take waits for the next group; nil means that the queue is stopped and empty.
// expect is how many calls were answered last: their senders are likely to come
// again at once, and are worth yielding for.
func (q *queue) take(expect int) *group {
	q.mu.Lock()
	defer q.mu.Unlock()
	for !q.takeable() {
		q.starved = true
		q.ready.Wait()
	}
	if len(q.groups) == 0 {
		return nil
	}
	// Writers that were just woken stand before us in the scheduler's queue: let
	// them add to this group as long as it grows.
	for range 8 {
		n := len(q.groups[0].calls)
		if len(q.groups) > 1 || n >= expect || q.stopErr != nil {
			break
		}
		q.mu.Unlock()
		runtime.Gosched()
		q.mu.Lock()
		if len(q.groups[0].calls) == n {
			break
		}
	}
	g := q.groups[0]
	q.groups = q.groups[1:]
	q.waiting -= g.bytes
	q.inflight = append(q.inflight, g)
	return g
}

// alone says whether only one group is under way and too little waits to begin
// another before it is synced.
func (q *queue) alone() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.inflight) == 1 && q.waiting < pipelineBytes
}

// finish ends a group that was taken and gives its bytes back.
func (q *queue) finish(g *group, err error) {
	q.mu.Lock()
	q.inflight = slices.DeleteFunc(q.inflight, func(other *group) bool { return other == g })
	q.bytes -= g.bytes
	q.wakeRoom()
	if q.starved && q.takeable() {
		q.starved = false
		q.ready.Signal()
	}
	first := g.end(err)
	q.mu.Unlock()
	// Those who wake up want the lock at once.
	if first {
		close(g.done)
	}
}

// abandon answers every group that was not answered yet: after a failure the
// committer may be stuck in the disk for good.
func (q *queue) abandon(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, list := range [][]*group{q.inflight, q.groups} {
		for _, g := range list {
			if g.end(err) {
				close(g.done)
			}
		}
	}
}

// end sets a group's outcome, unless it stands already. The queue's lock is held.
func (g *group) end(err error) bool {
	if g.ended {
		return false
	}
	g.ended, g.err = true, err
	return true
}

// await returns when the outcome of a call stands. A context that ends, or a
// store that fails, takes a call back that has not been read yet; a call that
// has been read is waited for as long as the store works, so that a commit
// under way has a known outcome.
func (s *Store) await(ctx context.Context, c *call, g *group) error {
	if ctx.Done() == nil {
		<-g.done
	} else {
		select {
		case <-g.done:
		case <-ctx.Done():
			if c.state.CompareAndSwap(callWaiting, callWithdrawn) {
				return ctx.Err()
			}
			<-g.done
		}
	}
	if g.err == nil {
		return nil
	}
	// The committer may not have read the call yet, or not to its end: the events
	// are the caller's again when this returns.
	for !c.state.CompareAndSwap(callWaiting, callWithdrawn) && c.state.Load() == callReading {
		runtime.Gosched()
	}
	return g.err
}
