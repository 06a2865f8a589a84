package projections

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"

	"sojourn/domain"
	"sojourn/eventstore"
	"sojourn/warehouse"
)

// ErrManyWorkers is answered for what needs views that stand still at one place.
var ErrManyWorkers = errors.New("the views are kept by workers, each at its own place of the log, and cannot be held against it here: verify a copy (sojourn copy) on a server by itself")

// errRepartitioned is why a worker of another layout stops.
var errRepartitioned = errors.New("the views are kept by other workers now")

// lookEvery is how often a worker looks what the others have agreed on.
const lookEvery = 300 * time.Millisecond

// switchIn is how long before the switch to new views, less up to a second, all
// processes are told of it. One that is further off than mostAhead is one by a clock that
// is wrong, and nobody waits for it.
const (
	switchIn  = 2 * time.Second
	mostAhead = 3 * time.Second
)

// fewNews is how far apart the workers before may have stopped for what came between
// to be read as one batch.
const fewNews = 200_000 // events

// alone is an error where workers keep views in this database: a server by itself
// would drop them.
func (v *Views) alone(ctx context.Context, tables []warehouse.Generation) error {
	var l layout
	if err := l.update(ctx, v.cfg.Store); err != nil {
		return err
	}
	for _, g := range l.all {
		if slices.Contains(tables, warehouse.Generation(g.Generation)) {
			return fmt.Errorf("workers keep the views in this database (generation g%d, of %d): start with --shard, or name another database", g.Generation, g.Shards)
		}
	}
	return nil
}

func (v *Views) layout() (l layout) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	l.next = v.agreed.next
	for _, g := range v.agreed.all {
		c := *g
		c.built = map[int]bool{}
		for i := range g.built {
			c.built[i] = true
		}
		l.all = append(l.all, &c)
	}
	return l
}

// look learns what the workers have agreed on, and which policies were applied.
func (v *Views) look(ctx context.Context) error {
	l := v.layout()
	if err := l.update(ctx, v.cfg.Store); err != nil {
		return err
	}
	return v.learned(ctx, l)
}

func (v *Views) learned(ctx context.Context, l layout) error {
	if err := v.learnSegments(ctx); err != nil {
		return err
	}
	if err := v.learnPolicies(ctx); err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if l.next > v.agreed.next {
		v.agreed = l
	}
	return nil
}

// openWorker opens the views of a worker or a reader.
func (v *Views) openWorker(ctx context.Context) error {
	if err := v.look(ctx); err != nil {
		return err
	}
	var g *generation
	var err error
	if v.cfg.Reader {
		l := v.layout()
		g, err = v.openReader(l.answeringAt(time.Now()))
	} else {
		if err = v.propose(ctx, true); err != nil {
			return err
		}
		l := v.layout()
		newest, before := l.newest(), l.answering()
		// The one that answers goes on while the next is built.
		if newest != before && before != nil && before.Shards == v.shards() && v.hasState(before) {
			newest = before
		}
		g, err = v.openPart(ctx, newest)
	}
	if err != nil {
		return err
	}
	if err := v.clear(g); err != nil {
		return errors.Join(err, g.state.close())
	}
	v.active = g
	v.ready = g.state.checkpoint().Reconciled && (!g.reader || g.number != 0)
	v.startLoop()
	v.done.Go(v.coordinate)
	if v.cfg.Reader || v.cfg.Shard.whole() {
		v.done.Go(func() { v.desk.run(v.ctx) }) // it decides by the facts of all
	}
	if l := v.layout(); !v.cfg.Reader {
		if a := l.answering(); a != nil && a.Generation == int(g.number) {
			// A switch that all workers were stopped in is finished.
			v.done.Go(func() { _ = v.show(v.ctx, g.number, a.since) })
		}
	}
	return nil
}

func (v *Views) shards() int { return max(v.cfg.Shard.Of, 1) }

func (v *Views) fits(g *laidOut) bool {
	return g.isOf(v.latest()) && g.Fold == foldVersion && g.Shards == v.shards()
}

// isOf reports whether a generation is of rules.
func (g *laidOut) isOf(r *Rules) bool {
	return g != nil && g.Policy == r.Version && g.Segments == r.SegmentsVersion
}

// rulesOfGeneration are the rules that a generation is of.
func (v *Views) rulesOfGeneration(g *laidOut) *Rules {
	return v.rulesOf(checkpoint{Policy: g.Policy, Segments: g.Segments})
}

// propose begins a generation where the newest is not the one that this worker is to
// keep. A worker that starts may change the number of workers; one that runs stops
// where it has been changed.
func (v *Views) propose(ctx context.Context, starting bool) error {
	for {
		l := v.layout()
		newest := l.newest()
		switch {
		case newest != nil && !starting && newest.Shards != v.shards():
			return fmt.Errorf("%w: %d of them, and this one is %s", errRepartitioned, newest.Shards, v.cfg.Shard)
		case newest != nil && !starting && newest.Fold > foldVersion:
			return fmt.Errorf("%w, of a later release", errRepartitioned)
		}
		tables, err := v.cfg.DB.Generations(ctx)
		if err != nil {
			return err
		}
		lost := starting && newest != nil && len(newest.built) > 0 && !slices.Contains(tables, warehouse.Generation(newest.Generation))
		if v.fits(newest) && !lost {
			return nil
		}
		if err := v.begin(ctx, &l, v.shards(), tables); err != nil {
			return err
		}
	}
}

// begin begins a generation; where another process was faster, it has learned of that.
func (v *Views) begin(ctx context.Context, l *layout, shards int, tables []warehouse.Generation) error {
	r := v.latest()
	g := laidOut{Generation: 1, Policy: r.Version, Segments: r.SegmentsVersion, Fold: foldVersion, Shards: shards}
	if newest := l.newest(); newest != nil {
		g.Generation = newest.Generation + 1
	}
	if n := len(tables); n > 0 {
		g.Generation = max(g.Generation, int(tables[n-1])+1)
	}
	if err := l.append(ctx, v.cfg.Store, domain.TypeViewsBegun, g); err != nil {
		return err
	}
	return v.learned(ctx, *l)
}

func (v *Views) partDir(g *laidOut) string {
	return filepath.Join(v.cfg.Dir, fmt.Sprintf("g%d-%d-of-%d", g.Generation, max(v.cfg.Shard.Index, 1), g.Shards))
}

func (v *Views) hasState(g *laidOut) bool {
	_, err := os.Stat(v.partDir(g))
	return err == nil
}

// openPart opens this worker's part of a generation. Its loop claims it first, and
// finishes the batch that was under way, whoever began it.
func (v *Views) openPart(ctx context.Context, of *laidOut) (*generation, error) {
	number := warehouse.Generation(of.Generation)
	// All workers create the tables; where they get into each other's way, again.
	for tries := 1; ; tries++ {
		err := v.cfg.DB.CreateGeneration(ctx, number)
		if err == nil {
			break
		}
		if tries == 10 {
			return nil, err
		}
		if err := pause(ctx, time.Duration(tries)*50*time.Millisecond); err != nil {
			return nil, err
		}
	}
	s, err := openState(vfs.Default, v.partDir(of), stateCacheBytes, v.logger)
	if err != nil {
		return nil, err
	}
	shard := Shard{max(v.cfg.Shard.Index, 1), of.Shards}
	g := &generation{
		number: number, shard: shard, rules: v.rulesOfGeneration(of), store: v.cfg.Store, keyer: v.cfg.Keyer,
		sink: tables{v.cfg.DB, number, shard}, state: s, now: v.cfg.Now, logger: v.logger, changed: v.moved.send, flushing: v.previews.flushing, trouble: v.setTrouble,
		fence:  &fence{store: v.cfg.Store, stream: domain.WorkerStream(of.Generation, shard.Index, shard.Of), worker: uuid.New()},
		broken: true,
	}
	return g, nil
}

// openReader opens a state that follows the log and answers, under the policy of a
// generation; nil for none yet.
func (v *Views) openReader(of *laidOut) (*generation, error) {
	rules, number := v.latest(), warehouse.Generation(0)
	if of != nil {
		rules, number = v.rulesOfGeneration(of), warehouse.Generation(of.Generation)
	}
	dir := filepath.Join(v.cfg.Dir, fmt.Sprintf("reader-p%d-s%d-f%d", rules.Version, rules.SegmentsVersion, foldVersion))
	s, err := openState(vfs.Default, dir, stateCacheBytes, v.logger)
	if err != nil {
		return nil, err
	}
	g := &generation{
		number: number, reader: true, rules: rules, store: v.cfg.Store, keyer: v.cfg.Keyer, sink: NullSink{}, state: s,
		now: v.cfg.Now, logger: v.logger, changed: v.moved.send, flushing: v.previews.flushing, trouble: v.setTrouble, broken: true,
	}
	return g, nil
}

// clear removes the states of generations that are no more, or that this process does
// not hold any more.
func (v *Views) clear(g *generation) error {
	entries, err := os.ReadDir(v.cfg.Dir)
	if err != nil {
		return err
	}
	keep := []string{filepath.Base(g.state.dir)}
	l := v.layout()
	if newest := l.newest(); newest != nil {
		keep = append(keep, filepath.Base(v.partDir(newest)))
	}
	for _, e := range entries {
		if e.IsDir() && !slices.Contains(keep, e.Name()) {
			if err := os.RemoveAll(filepath.Join(v.cfg.Dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// fail tells why a worker has stopped for good.
func (v *Views) fail(err error) {
	v.setErrOnly(err)
	v.failed.Do(func() {
		v.logger.Error("the worker stops", "error", err)
		if v.cfg.Failed != nil {
			v.cfg.Failed(err)
		}
	})
}

func (v *Views) setErrOnly(err error) {
	v.mu.Lock()
	v.lastErr = err
	v.mu.Unlock()
	v.moved.send()
}

// coordinate follows what the workers agree on, until the context ends.
func (v *Views) coordinate() {
	ctx := v.ctx
	var drop time.Time
	for pause(ctx, lookEvery) == nil {
		err := v.look(ctx)
		if err == nil {
			if v.cfg.Reader {
				err = v.readOn()
			} else {
				err = v.workOn(ctx, &drop)
			}
		}
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, errRepartitioned), errors.Is(err, ErrFenced):
			v.fail(err)
			v.stopLoop()
			return
		case err != nil:
			v.logger.Warn("the workers cannot agree at the moment", "error", err)
		}
	}
}

// workOn has the next generation built and this one fenced, and drops those that are
// no more, a while after they have been replaced.
func (v *Views) workOn(ctx context.Context, drop *time.Time) error {
	if err := v.propose(ctx, false); err != nil {
		return err
	}
	l := v.layout()
	newest := l.newest()
	if err := v.giveUp(func(g *generation) bool {
		return int(g.number) != newest.Generation && !l.find(int(g.number)).active
	}); err != nil {
		return err
	}
	next, active := v.hasNext(), v.activeGeneration()
	if err := active.fence.check(ctx); err != nil {
		return err
	}
	if int(active.number) != newest.Generation && !next {
		g, err := v.openPart(ctx, newest)
		if err != nil {
			return err
		}
		v.startNext(g)
	}
	if len(newest.built) == newest.Shards && !newest.active {
		return v.agreeOn(ctx, l, newest)
	}
	if v.cfg.Shard.Index > 1 || next || !newest.active {
		*drop = time.Time{}
		return nil
	}
	// Others may be switching still.
	if drop.IsZero() {
		*drop = time.Now().Add(max(0, time.Until(newest.since)) + 10*time.Second)
	}
	if time.Now().Before(*drop) {
		return nil
	}
	*drop = time.Now().Add(time.Hour)
	numbers, err := v.cfg.DB.Generations(ctx)
	if err != nil {
		return err
	}
	for _, n := range numbers {
		if int(n) < newest.Generation {
			if err := v.cfg.DB.DropGeneration(ctx, n); err != nil {
				return err
			}
		}
	}
	return nil
}

// agreeOn has a generation, which is built, answer: where another does, from a second on
// that is near, and that all processes and the tables learn of before it has come.
func (v *Views) agreeOn(ctx context.Context, l layout, g *laidOut) error {
	part := layoutPart{Generation: g.Generation}
	if l.answering() != nil {
		if err := v.cfg.DB.Prepare(ctx, warehouse.Generation(g.Generation)); err != nil {
			return err
		}
		part.Since = time.Now().Add(switchIn).Unix()
	}
	if err := l.append(ctx, v.cfg.Store, domain.TypeViewsActive, part); err != nil {
		return err
	}
	if err := v.learned(ctx, l); err != nil {
		return err
	}
	if a := l.answering(); a == nil || a.Generation != g.Generation {
		return nil
	}
	if g.since.IsZero() {
		return nil
	}
	// Each worker has it shown, too; this is the part that must be done in time.
	return v.cfg.DB.PointAt(ctx, warehouse.Generation(g.Generation), g.since)
}

func (v *Views) activeGeneration() *generation {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.active
}

// answers is the number of the generation that this process answers from.
func (v *Views) answers() int {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return int(v.active.number)
}

func (v *Views) hasNext() bool {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.next != nil
}

// startNext lets a generation be built beside the active one.
func (v *Views) startNext(g *generation) {
	ctx, cancel := context.WithCancel(v.ctx)
	l := &loop{cancel: cancel, done: make(chan struct{})}
	v.mu.Lock()
	v.next, v.nextLoop, v.building = g, l, g.number
	v.mu.Unlock()
	go func() {
		defer close(l.done)
		v.follow(ctx, g)
	}()
}

// giveUp ends what is built beside the active generation where it will never answer,
// because another was begun before all parts of it were built.
func (v *Views) giveUp(overtaken func(*generation) bool) error {
	v.mu.RLock()
	g := v.next
	v.mu.RUnlock()
	if g == nil || !overtaken(g) {
		return nil
	}
	return errors.Join(v.stopNext(), os.RemoveAll(g.state.dir))
}

// stopNext ends what is built beside the active generation.
func (v *Views) stopNext() error {
	v.mu.Lock()
	g, l := v.next, v.nextLoop
	v.next, v.nextLoop, v.building = nil, nil, 0
	v.mu.Unlock()
	if l == nil {
		return nil
	}
	l.cancel()
	<-l.done
	return g.state.close()
}

// take builds this worker's part of a generation, waits until the others have theirs,
// and puts it in the place of the one that answered. Where that was this process's,
// it goes on exactly where that stopped; else where the slowest of the workers before
// did. What came behind that is news as ever, as far as it was not said already.
func (v *Views) take(ctx context.Context, g *generation) error {
	old := v.activeGeneration()
	if old == g {
		old = nil
	}
	l := v.layout()
	var from, to eventstore.Position
	var since time.Time
	handedOn := false
	if before := l.before(int(g.number)); old == nil && before != nil {
		var err error
		if from, to, handedOn, err = before.reached(ctx, v.cfg.Store); err != nil {
			return err
		}
		handedOn = handedOn && to-from <= fewNews
	}
	for reported := false; ; {
		var err error
		switch {
		case old != nil:
			err = g.runTo(ctx, old.state.checkpoint().Position, 0, nil)
		case handedOn:
			err = g.runTo(ctx, from, 0, nil)
		default:
			err = g.runToEnd(ctx, nil)
		}
		if err != nil {
			return err
		}
		l := v.layout()
		if me := l.find(int(g.number)); me.active {
			since = me.since
			break
		} else if !reported {
			if reported = me.built[g.shard.Index]; !reported {
				if err := l.append(ctx, v.cfg.Store, domain.TypeViewsBuilt, layoutPart{Generation: int(g.number), Shard: g.shard.Index}); err != nil {
					return err
				}
			}
			if err := v.learned(ctx, l); err != nil {
				return err
			}
			continue
		}
		if err := pause(ctx, lookEvery/3); err != nil {
			return err
		}
	}
	if old == nil {
		if err := v.show(ctx, g.number, since); err != nil {
			return err
		}
	} else {
		v.mu.Lock()
		if v.ctx.Err() == nil { // or else Stop does not wait for it
			v.done.Go(func() { _ = v.show(v.ctx, g.number, since) }) // a start does it again
		}
		v.mu.Unlock()
		if err := v.waitUntil(ctx, since); err != nil {
			return err
		}
		v.stopLoop()
		at := old.state.checkpoint()
		if err := g.runTo(ctx, at.Position, at.Clock, nil); err != nil {
			v.startLoop()
			return err
		}
		g.built = true
		if err := v.replace(g); err != nil {
			return err
		}
		if err := v.discardState(old); err != nil {
			return err
		}
	}
	if old != nil || handedOn {
		if err := g.goOn(ctx, to); err != nil {
			return err
		}
	}
	v.logger.Info("switched to new views", "generation", g.number, "shard", g.shard.String(), "policy_version", g.rules.Version, "position", g.fold.position)
	return g.reconcile(ctx)
}

// show has the tables show a generation from an instant on, and tries until it has or
// another has taken its place.
func (v *Views) show(ctx context.Context, g warehouse.Generation, since time.Time) error {
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		l := v.layout()
		if a := l.answering(); a != nil && a.Generation > int(g) {
			return nil
		}
		err := v.cfg.DB.SwitchAt(ctx, g, since)
		if err == nil {
			return nil
		}
		v.logger.Warn("the tables still show the old views; trying again", "error", err)
		if err := pause(ctx, wait); err != nil {
			return err
		}
	}
}

// waitUntil waits until an instant by the clock of the machine, if it is near.
func (v *Views) waitUntil(ctx context.Context, at time.Time) error {
	if wait := time.Until(at); !at.IsZero() && wait > 0 && wait <= mostAhead {
		return pause(ctx, wait)
	}
	return nil
}

// before is the generation that answered before another, nil where there was none.
func (l *layout) before(generation int) (before *laidOut) {
	for _, g := range l.all {
		if g.Generation >= generation {
			break
		}
		if g.active {
			before = g
		}
	}
	return before
}

// raise has a silent fold speak of what it reads from here on: it knows what was said of
// it by others, and by itself before a crash.
func (g *generation) raise(ctx context.Context) error {
	if err := g.hear(ctx); err != nil {
		return err
	}
	g.fold.silent, g.aloud = false, true
	return nil
}

// goOn reads up to a position that some of the workers before had come to, and up to
// where anything was said ahead of a batch that was never written, as one batch: what was
// said of it is not said again, and the rest is news.
func (g *generation) goOn(ctx context.Context, to eventstore.Position) error {
	g.broken = true // cut off, it begins anew from the state
	if err := g.raise(ctx); err != nil {
		return err
	}
	said, err := g.utterances(ctx, g.fold.position)
	if err != nil {
		return err
	}
	var clock domain.Millis
	for _, u := range said {
		to, clock = max(to, u.at), max(clock, u.clock)
	}
	for g.fold.position < to {
		before := g.fold.position
		if err := g.read(ctx, to, 0); err != nil {
			return err
		}
		if g.fold.position == before {
			break
		}
	}
	if err := g.flush(ctx, max(g.fold.step, clock), false); err != nil {
		return err
	}
	g.aloud = false
	return g.settle()
}

// replace has a generation answer in the place of the active one. It is called by the
// loop of the next, which is the active one's from here on.
func (v *Views) replace(g *generation) error {
	v.readers.Lock()
	defer v.readers.Unlock()
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.ctx.Err() != nil {
		return ErrClosed // Stop closes both
	}
	v.active, v.loop = g, v.nextLoop
	v.next, v.nextLoop, v.building = nil, nil, 0
	v.moved.send()
	return nil
}

// discardState closes and removes the state of a generation that was replaced.
func (v *Views) discardState(g *generation) error {
	return errors.Join(v.closeState(g), os.RemoveAll(g.state.dir))
}

// readOn keeps a reader with the generation that answers.
func (v *Views) readOn() error {
	l := v.layout()
	newest, answering, active := l.newest(), l.answering(), v.activeGeneration()
	if newest == nil {
		return nil
	}
	if now := l.answeringAt(time.Now()); now.isOf(active.rules) && int(active.number) != now.Generation {
		// The tables are others; the state stays.
		v.readers.Lock()
		v.mu.Lock()
		active.number = warehouse.Generation(now.Generation)
		v.mu.Unlock()
		v.readers.Unlock()
		v.moved.send()
	}
	if err := v.giveUp(func(g *generation) bool { return !newest.isOf(g.rules) && !answering.isOf(g.rules) }); err != nil {
		return err
	}
	if !newest.isOf(active.rules) && !v.hasNext() {
		g, err := v.openReader(newest)
		if err != nil {
			return err
		}
		v.startNext(g)
	}
	return nil
}

// wait has a reader's state follow the log silently until the workers' tables are of
// its policy, and puts it in the place of the one that answered.
func (v *Views) wait(ctx context.Context, g *generation) error {
	var since time.Time
	for {
		if err := g.runToEnd(ctx, nil); err != nil {
			return errors.Join(g.settle(), err)
		}
		l := v.layout()
		if a := l.answering(); a != nil && (a.isOf(g.rules) || v.activeGeneration() == g) {
			since = a.since
			break
		}
		if err := pause(ctx, lookEvery/3); err != nil {
			return err
		}
	}
	old := v.activeGeneration()
	if old == g {
		return nil
	}
	if err := v.waitUntil(ctx, since); err != nil {
		return err
	}
	if err := g.runToEnd(ctx, nil); err != nil {
		return errors.Join(g.settle(), err)
	}
	v.stopLoop()
	if err := v.replace(g); err != nil {
		return err
	}
	return v.discardState(old)
}

// rebuildByWorkers has all workers build a generation, and waits until it answers.
func (v *Views) rebuildByWorkers(ctx context.Context) error {
	if err := v.look(ctx); err != nil {
		return err
	}
	l := v.layout()
	newest := l.newest()
	if newest == nil || !newest.active {
		return ErrBusy
	}
	tables, err := v.cfg.DB.Generations(ctx)
	if err != nil {
		return err
	}
	if err := v.begin(ctx, &l, newest.Shards, tables); err != nil {
		return err
	}
	begun := v.layout()
	wanted := begun.newest().Generation
	for {
		l := v.layout()
		// Another may have overtaken it.
		if g := l.answeringAt(time.Now()); g != nil && g.Generation >= wanted && v.answers() >= wanted {
			return nil
		}
		if err := pause(ctx, lookEvery); err != nil {
			return err
		}
	}
}
