package projections

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"sojourn/domain"
	"sojourn/eventstore"
	"sojourn/warehouse"
)

// Limits of one batch: it ends at the first that is reached. The fewer batches,
// the fewer versions of each customer are written; which is why one
// may be large.
const (
	maxBatchEvents  = 2_000_000
	maxBatchTouched = 200_000 // subjects
	maxBatchBytes   = 128 << 20
	maxBatchTime    = 3 * time.Second // where somebody waits
)

// maxCached is how many subjects and how many customers a fold keeps in memory
// while it works, about 1 KiB each; after a quiet while it keeps none.
const maxCached = 200_000

// generation is one complete set of views: a number, tables, state and a policy.
// One goroutine reads and folds while the batch before is being written.
type generation struct {
	number warehouse.Generation
	shard  Shard
	rules  *Rules
	store  eventstore.Store
	keyer  domain.Keyer
	sink   Sink
	state  *state
	now    func() time.Time
	logger *slog.Logger
	// changed is told whenever the checkpoint has moved.
	changed func()
	// flushing, where not nil, is told when a flush begins, true, and when it has ended.
	flushing func(bool)

	fold *fold
	// rows, where not nil, is the block that takes the next touchpoints; the other
	// may be on its way into the table.
	rows    *warehouse.TouchpointBlock
	blocks  [2]warehouse.TouchpointBlock
	writing chan error      // of the flush under way, nil where there is none
	spoken  <-chan struct{} // closed when its statements are in the log, or it has failed
	// uttered says that something has been said ahead of its flush, and utteredAt when
	// that was looked at last.
	uttered   bool
	utteredAt time.Time
	// redo is the id of the flush that is being done again, else empty.
	redo string
	// aloud marks the flushes as what intent says.
	aloud bool
	// trouble, where not nil, hears why the rows cannot be written at the moment,
	// and nil when they can.
	trouble func(error)
	// broken says that a flush has failed: the fold is ahead of the state.
	broken bool
	// corrections are statements that stood otherwise than the state had it.
	corrections map[uuid.UUID]said
	flushedAt   time.Time
	// built says that it became active when it was built already.
	built       bool
	batchEvents int // of a batch; tests make it small
	// mute: it will never make statements, and so need not know those of the log.
	mute bool
	// reader: it answers, and makes neither rows nor statements.
	reader bool
	// fence is its hold on its part, nil where no other process can write the views.
	// mending: its state follows what is announced there, and writes nothing.
	fence   *fence
	mending bool
	// workers are how many goroutines fold, 0 for one a processor.
	workers int
	// room is how many subjects and customers its fold keeps in memory, and how many
	// subjects a batch may touch; 0 stands for maxCached and maxBatchTouched.
	room int
}

// recover starts from the state: it finishes the batch that was begun last, if
// any, and forgets whatever was in memory.
func (g *generation) recover(ctx context.Context) error {
	if err := g.settle(); err != nil {
		g.logger.Debug("the last flush has failed", "generation", g.number, "error", err)
	}
	g.broken = true // until all of this has gone well
	g.restart()
	at := g.state.checkpoint()
	in, ok, err := g.state.intent()
	if g.fence != nil {
		in, ok, err = g.hold(ctx)
		at = g.state.checkpoint()
	}
	if err != nil {
		return err
	}
	keep := at.Position
	if s, is := g.sink.(remembering); is && s.Remembers() && ok {
		keep = max(keep, in.To)
	}
	if err := g.sink.Trim(ctx, keep); err != nil {
		return err
	}
	// What was said since is said once more, in the same steps, and the batch done that
	// was under way.
	var said []spoken
	if !g.fold.silent {
		if said, err = g.utterances(ctx, at.Position); err != nil {
			return err
		}
	}
	for ; len(said) > 0 && ok && said[0].at <= in.To; said = said[1:] {
		if said[0].utterance == (utterance{in.To, in.Clock}) {
			continue // by the batch itself
		}
		if err := g.catchUp(ctx, said[0]); err != nil {
			return err
		}
	}
	if ok {
		g.logger.Info("finishing the batch that was under way", "generation", g.number, "from", at.Position, "to", in.To)
		if in.Aloud {
			if err := g.raise(ctx); err != nil {
				return err
			}
		}
		if g.fold.position < in.To {
			if err := g.read(ctx, in.To, 0); err != nil {
				return err
			}
		}
		g.redo = in.ID
		err = g.flush(ctx, in.Clock, at.Reconciled)
		g.redo = ""
		if err = errors.Join(err, g.settle()); err != nil {
			return err
		}
		if in.Aloud {
			g.restart() // it has not said yet what it holds
		}
	}
	for _, u := range said {
		if err := g.catchUp(ctx, u); err != nil {
			return err
		}
	}
	g.broken = false
	return nil
}

// restart has a new fold begin at the state.
func (g *generation) restart() {
	at := g.state.checkpoint()
	f := newFold(g.rules, g.keyer, g.state, g.logger)
	f.plain, f.shard, f.workers = g.mute, g.shard, g.workers
	f.position, f.clock, f.step = at.Position, at.Clock, at.Clock
	f.silent = !at.Reconciled || g.reader
	f.blank = at.Position == 0
	f.strangers.all = f.blank
	g.fold = f
	g.corrections, g.aloud = nil, false
	g.blocks[0].Reset()
	g.blocks[1].Reset()
	g.rows = nil
	if g.sink.WantsTouchpoints() && !g.mending {
		g.rows = &g.blocks[0]
	}
}

// hold claims the worker's part. Where another process held it since, or the state is
// lost, the state is brought to the batch before the last that was announced. The last
// is returned where it is to be done again.
func (g *generation) hold(ctx context.Context) (in intent, ok bool, err error) {
	before, last, err := g.fence.claim(ctx)
	if err != nil || last == nil {
		return in, false, err
	}
	at := g.state.checkpoint()
	behind := func(b *flushed) bool { return b != nil && (at.Position < b.To || at.Clock < b.Clock) }
	if behind(before) {
		if err := g.mend(ctx, before, last.position); err != nil {
			return in, false, err
		}
	}
	return last.intent, behind(last), nil
}

// mend brings a state that is behind to a batch that is in the tables already: it
// folds, and writes and says nothing. What was said of that batch, and before, stands in
// the log before the next was announced, at a position.
func (g *generation) mend(ctx context.Context, to *flushed, next eventstore.Position) error {
	g.logger.Info("following what another process has written of this part of the views", "generation", g.number, "to", to.To)
	g.mending = true
	defer func() { g.mending = false }()
	g.restart()
	f := g.fold
	f.silent = true
	for f.position < to.To {
		if err := g.read(ctx, to.To, g.limit()); err != nil {
			return err
		}
		if err := g.flush(ctx, f.step, false); err != nil {
			return err
		}
	}
	if to.Reconciled {
		// What was said stands behind what it was said of. What was said ahead of a later
		// batch is said once more when that is done.
		if err := g.hearUntil(ctx, utterance{to.To, to.Clock}, next); err != nil {
			return err
		}
	}
	if err := g.flush(ctx, to.Clock, to.Reconciled); err != nil {
		return err
	}
	if err := g.settle(); err != nil {
		return err
	}
	g.mending = false
	g.restart()
	return nil
}

// read folds the events after the fold's position, up to a position and at most
// limit of them (0: all). One goroutine decodes while this one folds.
func (g *generation) read(ctx context.Context, to eventstore.Position, limit int) error {
	f := g.fold
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	f.history = g.history(ctx)
	chunks, free := make(chan *chunk, chunksAhead), make(chan *chunk, chunksAhead+2)
	d := &decoder{rules: g.rules, keyer: g.keyer, logger: g.logger, statements: f.silent && !g.mute && !g.reader, hurry: !f.silent || g.reader, rows: g.rows, shard: g.shard}
	var readErr error
	after, writing := f.position, g.writing
	d.written = func() bool { return writing == nil || len(writing) > 0 }
	go func() {
		defer close(chunks)
		readErr = d.read(ctx, g.store, after, to, limit, func(c *chunk) bool {
			select {
			case chunks <- c:
				return true
			case <-ctx.Done():
				return false
			}
		}, func() *chunk {
			select {
			case c := <-free:
				c.arrivals = c.arrivals[:0]
				return c
			default:
				return new(chunk) // most reads are of a few events
			}
		})
	}()
	var err error
	var b breath
	f.openLanes()
	defer f.closeLanes()
	for c := range chunks {
		for i := range c.arrivals {
			if err != nil {
				break
			}
			if err = f.apply(&c.arrivals[i]); err != nil {
				cancel()
			}
			if f.polite && i%16 == 0 {
				b.take()
			}
		}
		f.runLanes() // they have the chunk's arrivals
		if limit > 0 && len(f.touched) >= cmp.Or(g.room, maxBatchTouched) {
			d.enough.Store(true)
		}
		select {
		case free <- c:
		default:
		}
	}
	if err != nil {
		return err
	}
	return readErr
}

// history reads touchpoints from the log as the fold takes them.
func (g *generation) history(ctx context.Context) history {
	d := decoder{rules: g.rules, keyer: g.keyer, logger: g.logger}
	return func(stream string, to eventstore.Position, do func(*arrival) bool) error {
		for e, err := range g.store.ReadStream(ctx, stream, 0, eventstore.Forwards) {
			if err != nil {
				return err
			}
			if e.Position > to {
				break
			}
			var a arrival
			if d.decode(&e, &a); a.kind == touchpoint && !do(&a) {
				break
			}
		}
		return nil
	}
}

// clean reports whether all that was read has been flushed.
func (g *generation) clean() bool {
	f := g.fold
	return !g.broken && len(f.changed) == 0 && len(f.touched) == 0 && len(f.conflicts) == 0 && len(f.newDecisions) == 0 && len(f.handlings) == 0 && len(f.deliveries) == 0 && (g.rows == nil || g.rows.Len() == 0) && f.err == nil
}

// idle reports whether the events read since the last flush change nothing.
func (g *generation) idle(clock domain.Millis) (bool, error) {
	if !g.clean() || len(g.corrections) > 0 {
		return false, nil
	}
	at, ok, err := g.state.nextDeadline()
	return !ok || at > clock, err
}

// flush takes out what has changed, as of a clock, and begins to write it once
// the flush before is done; settle waits for it.
func (g *generation) flush(ctx context.Context, clock domain.Millis, reconciled bool) error {
	if err := g.settle(); err != nil {
		return err
	}
	f := g.fold
	f.history = g.history(context.WithoutCancel(ctx)) // a stop finishes it
	f.evict(cmp.Or(g.room, maxCached))
	clock = max(clock, f.clock)
	g.flushedAt = time.Now()
	quiet, err := g.idle(clock)
	if err != nil {
		return err
	}
	if at := g.state.checkpoint(); quiet && at.Reconciled == reconciled {
		f.clock, f.step, f.events = clock, max(f.step, clock), 0
		g.state.pass(f.position, clock)
		g.changed()
		return nil
	}
	for id, s := range g.corrections {
		c, err := f.whole(id)
		if err != nil {
			return err
		}
		c.said = s
		f.change(c)
	}
	g.corrections = nil
	if err := f.wake(g.state, clock); err != nil {
		return err
	}
	if g.flushing != nil {
		g.flushing(true)
	}
	fl, err := f.flush(clock)
	if err != nil {
		return err
	}
	if g.rows != nil {
		fl.rows.Touchpoints = g.rows
		if g.rows == &g.blocks[0] {
			g.rows = &g.blocks[1]
		} else {
			g.rows = &g.blocks[0]
		}
	}
	fl.rows.After, fl.rows.Flush = g.state.checkpoint().Position, g.redo
	fl.announced, fl.mending, fl.aloud = g.redo != "" || g.mending, g.mending, g.aloud
	if fl.rows.Flush == "" {
		fl.rows.Flush = newFlushID(g.shard, fl.rows.After, fl.to)
	}
	g.writing = make(chan error, 1)
	// A write that has begun is finished even where the caller gives up, so that a
	// clean stop leaves nothing to be done again.
	// Only ClickHouse, where it is away, is not waited for any longer.
	spoken := make(chan struct{})
	g.spoken, g.uttered = spoken, false
	go func(done chan<- error) {
		once := sync.OnceFunc(func() { close(spoken) })
		defer once()
		err := g.write(context.WithoutCancel(ctx), ctx, fl, reconciled, once)
		if g.flushing != nil {
			g.flushing(false)
		}
		done <- err
	}(g.writing)
	return nil
}

// settle waits until the flush under way is durable.
func (g *generation) settle() error {
	if g.writing == nil {
		return nil
	}
	err := <-g.writing
	g.writing = nil
	g.broken = g.broken || err != nil
	return err
}

// write makes a flush durable; it waits for a sink that is away while patience
// lasts. The order matters:
func (g *generation) write(ctx, patience context.Context, fl *flush, reconciled bool, spoken func()) error {
	// 1. Which batch this is, so that after a crash the very same is done again:
	// the same rows, the same statements. One of several processes announces it in the
	// log, where it learns whether another has taken its place.
	in := intent{To: fl.to, Clock: fl.clock, ID: fl.rows.Flush, Aloud: fl.aloud}
	if g.fence != nil && !fl.announced {
		if err := g.fence.begin(ctx, in, reconciled); err != nil {
			return err
		}
	}
	if err := g.state.begin(in); err != nil {
		return err
	}
	// 2. The statements, at the revision they follow: a repetition adds nothing.
	corrections, err := g.speak(ctx, fl.speeches, warehouse.Version{Position: uint64(fl.to), Clock: int64(fl.clock)})
	if err != nil {
		return err
	}
	spoken()
	// 3. The rows. Touchpoints are trimmed to the checkpoint before they are
	// written again; the rest replaces itself.
	if !fl.mending {
		if err := g.writeRows(ctx, patience, &fl.rows); err != nil {
			return err
		}
	}
	if fl.rows.Touchpoints != nil {
		fl.rows.Touchpoints.Reset()
	}
	// 4. The state and the checkpoint, at once: only now is the batch done.
	at := checkpoint{
		Position: fl.to, Clock: fl.clock, Policy: g.rules.Version, Segments: g.rules.SegmentsVersion, Fold: foldVersion,
		Reconciled: reconciled,
	}
	if err := g.state.commit(fl.records, at); err != nil {
		return err
	}
	g.corrections = corrections
	// 5. Those who wait for a position look again.
	g.changed()
	return nil
}

const speechesPerAppend = 2000

// speak appends the statements of a flush. It returns what stands for those
// customers whose streams held something else than the state had it.
func (g *generation) speak(ctx context.Context, all []speech, version warehouse.Version) (map[uuid.UUID]said, error) {
	var corrections map[uuid.UUID]said
	for len(all) > 0 {
		n := min(len(all), speechesPerAppend)
		parts := make([]eventstore.Append, n)
		for i := range parts {
			sp := &all[i]
			parts[i] = eventstore.Append{
				Stream: domain.StatementStream(sp.customer), Expected: sp.before.expected(), Events: sp.events,
			}
		}
		results, err := g.appendPatiently(ctx, parts)
		if err != nil {
			return nil, fmt.Errorf("append statements: %w", err)
		}
		for i, r := range results {
			if r.Err == nil {
				continue
			}
			if !errors.Is(r.Err, eventstore.ErrWrongRevision) {
				return nil, fmt.Errorf("append statements: %w", r.Err)
			}
			after, err := g.sayAgain(ctx, &all[i], version)
			if err != nil {
				return nil, err
			}
			if corrections == nil {
				corrections = map[uuid.UUID]said{}
			}
			corrections[all[i].customer] = after
		}
		all = all[n:]
	}
	return corrections, nil
}

// sayAgain says what is left to say where the stream holds something else than
// was thought.
func (g *generation) sayAgain(ctx context.Context, sp *speech, version warehouse.Version) (said, error) {
	for range 10 {
		s, err := readSaid(ctx, g.store, sp.customer)
		if err != nil {
			return said{}, err
		}
		events, after := s.say(sp, version, g.rules.Version)
		if len(events) == 0 {
			return after, nil
		}
		results, err := g.appendPatiently(ctx, []eventstore.Append{{
			Stream: domain.StatementStream(sp.customer), Expected: s.expected(), Events: events,
		}})
		if err == nil {
			err = results[0].Err
		}
		if err == nil {
			return after, nil
		}
		if !errors.Is(err, eventstore.ErrWrongRevision) {
			return said{}, fmt.Errorf("append statements: %w", err)
		}
	}
	return said{}, fmt.Errorf("append statements of %s: another writer is always ahead; stop the other server", sp.customer)
}

// appendPatiently appends and comes again while the store is overloaded.
func (g *generation) appendPatiently(ctx context.Context, parts []eventstore.Append) ([]eventstore.Result, error) {
	wait := 5 * time.Millisecond
	for {
		results, err := g.store.AppendMany(ctx, parts)
		if !errors.Is(err, eventstore.ErrOverloaded) {
			return results, err
		}
		if err := pause(ctx, wait); err != nil {
			return nil, err
		}
		wait = min(2*wait, time.Second)
	}
}

// runTo reads up to a position, batch by batch, and ends with a checkpoint there
// as of a clock. progress, where not nil, hears of each batch.
func (g *generation) runTo(ctx context.Context, to eventstore.Position, clock domain.Millis, progress func(eventstore.Position)) error {
	for g.fold.position < to {
		before := g.fold.position
		if err := g.read(ctx, to, g.limit()); err != nil {
			return err
		}
		if g.fold.position == before {
			break
		}
		if g.fold.position < to {
			if err := g.flush(ctx, g.fold.step, !g.fold.silent); err != nil {
				return err
			}
		}
		if progress != nil {
			progress(g.fold.position)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	if err := g.flushUntil(ctx, max(clock, g.fold.step), !g.fold.silent); err != nil {
		return err
	}
	return g.settle()
}

// flushUntil flushes as of a clock. Where very many customers have come due by then,
// it takes the time in steps, with a flush for each.
func (g *generation) flushUntil(ctx context.Context, clock domain.Millis, reconciled bool) error {
	for {
		if err := g.settle(); err != nil {
			return err
		}
		t, err := g.state.dueBy(clock, cmp.Or(g.room, maxBatchTouched))
		if err != nil {
			return err
		}
		t = max(t, min(g.fold.step, clock))
		if err := g.flush(ctx, t, reconciled); err != nil || t >= clock {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

func (g *generation) limit() int {
	if g.batchEvents > 0 {
		return g.batchEvents
	}
	return maxBatchEvents
}

// runToEnd reads until it has read everything at some instant.
func (g *generation) runToEnd(ctx context.Context, progress func(eventstore.Position)) error {
	for {
		now := domain.MillisOf(g.now())
		head, err := g.store.Head(ctx)
		if err != nil {
			return err
		}
		if err := g.runTo(ctx, head, 0, progress); err != nil {
			return err
		}
		if head, err = g.store.Head(ctx); err != nil {
			return err
		}
		if g.fold.position >= head {
			return g.runTo(ctx, g.fold.position, now, nil)
		}
	}
}

// hear learns from the log what was said after the fold's position, and nothing
// else: what was said of a position stands behind it.
func (g *generation) hear(ctx context.Context) error {
	head, err := g.store.Head(ctx)
	if err != nil {
		return err
	}
	return g.hearUntil(ctx, utterance{math.MaxUint64, domain.MaxTime}, head)
}

// hearUntil is hear, of what was said as of an instant or before, in each stream up to the
// first that was said later: a process that did not know yet that it was fenced may have
// said that ahead. Whoever speaks there next reads the rest (sayAgain). The log is read up
// to a position.
func (g *generation) hearUntil(ctx context.Context, until utterance, end eventstore.Position) error {
	later := map[string]bool{}
	for e, err := range g.store.ReadAll(ctx, g.fold.position) {
		if err != nil {
			return err
		}
		if e.Position > end {
			break
		}
		if id, ok := domain.StatementCustomer(e.Stream); !ok || !g.shard.holds(id) {
			continue
		}
		if u, ok, err := utteredAt(&e); err != nil {
			return err
		} else if !ok || later[e.Stream] {
			continue
		} else if u.at > until.at || u.at == until.at && u.clock > until.clock {
			later[strings.Clone(e.Stream)] = true
			continue
		}
		if g.fold.statement(&e); g.fold.err != nil {
			return g.fold.err
		}
	}
	return nil
}

// reconcile makes the statements say what the views have, and from then on keeps
// them so. What differs was found by no touchpoint and no clock, so it is
// restated. The generation must have read everything.
func (g *generation) reconcile(ctx context.Context) error {
	f := g.fold
	if err := g.settle(); err != nil {
		return err
	}
	// Cut off half way, it is to be begun anew from the state.
	f.silent, g.broken = false, true
	var after uuid.UUID
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		f.evict(maxCached)
		ids, err := g.state.customers(after, 5000)
		if err != nil {
			return err
		}
		for _, id := range ids {
			if err := f.compare(id); err != nil {
				return err
			}
		}
		last := len(ids) == 0
		if !last {
			after = ids[len(ids)-1]
		}
		if len(f.changed) > 0 || last {
			if err := g.flush(ctx, f.clock, last); err != nil {
				return err
			}
			if err := g.settle(); err != nil {
				return err
			}
		}
		if last {
			g.broken = false
			return nil
		}
	}
}

// run follows the log until the context ends: it reads what is there, says what there
// is to say, writes the rows, and waits. Between two flushes lies at least the
// interval while it has read everything, and nothing while it has not.
func (g *generation) run(ctx context.Context, interval time.Duration) error {
	quietSince, freed := time.Now(), 0
	for {
		if err := ctx.Err(); err != nil {
			return errors.Join(g.rest(ctx), err)
		}
		// The clock is looked at before the log's end: what is appended later is
		// recorded later.
		now := domain.MillisOf(g.now())
		head, err := g.store.Head(ctx)
		if err != nil {
			return err
		}
		read := g.fold.position < head
		if read {
			if err := g.read(ctx, head, g.limit()); err != nil {
				return errors.Join(g.settle(), err)
			}
		}
		caughtUp := g.fold.position >= head
		switch {
		case !caughtUp:
			if err := g.flush(ctx, g.fold.step, true); err != nil {
				return err
			}
			continue
		case time.Since(g.flushedAt) < interval:
			if err := g.utter(ctx); err != nil {
				return errors.Join(g.settle(), err)
			}
		default:
			if err := g.flushUntil(ctx, max(g.fold.step, now), true); err != nil {
				return err
			}
		}
		if read {
			quietSince, freed = time.Now(), 0
		} else if freed < len(freeAfter) && time.Since(quietSince) > freeAfter[freed] {
			freed++
			if err := g.settle(); err != nil {
				return err
			}
			g.fold.evict(0)
			g.blocks = [2]warehouse.TouchpointBlock{}
			debug.FreeOSMemory()
		}
		if err := g.await(ctx, interval); err != nil {
			return errors.Join(g.rest(ctx), err)
		}
	}
}

// freeAfter is after how long a time with nothing to read memory is given back: what
// the fold holds, and once more when the driver has let go of its buffers.
var freeAfter = [...]time.Duration{5 * time.Second, 90 * time.Second}

// await returns when there is something to read, but not at once after something was
// said, or when the interval since the last flush is over.
func (g *generation) await(ctx context.Context, interval time.Duration) error {
	left := interval - time.Since(g.flushedAt)
	if left <= 0 {
		left = interval
	}
	tick, cancel := context.WithTimeout(ctx, left)
	defer cancel()
	if err := g.store.Wait(tick, g.fold.position); err != nil && tick.Err() == nil {
		return err
	}
	if ctx.Err() == nil && tick.Err() == nil {
		_ = pause(tick, utterEvery-time.Since(g.utteredAt))
	}
	return ctx.Err()
}

// pause waits, or returns the context's error.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
