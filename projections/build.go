package projections

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/google/uuid"

	"sojourn/domain"
	"sojourn/eventstore"
	"sojourn/warehouse"
)

// Progress tells how far a long piece of work is: events read of those to read.
type Progress func(done, total uint64)

func (p Progress) upTo(to eventstore.Position) func(eventstore.Position) {
	if p == nil {
		return nil
	}
	return func(at eventstore.Position) { p(uint64(min(at, to)), uint64(to)) }
}

// ErrBusy is returned while views are being built or verified already.
var ErrBusy = errors.New("the views are being built or verified already; try again when that is done")

// Rebuild builds the views anew from the log, beside those that answer, and
// switches to them. Nothing is said again that was said before.
func (v *Views) Rebuild(ctx context.Context, progress Progress) error {
	if !v.exclusive.TryLock() {
		return ErrBusy
	}
	defer v.exclusive.Unlock()
	if v.active == nil {
		return ErrClosed
	}
	ctx, cancel := v.untilStop(ctx)
	defer cancel()
	if v.cfg.Workers {
		return v.rebuildByWorkers(ctx)
	}
	return v.build(ctx, v.active.rules, progress)
}

// untilStop is a context that ends with Stop as well.
func (v *Views) untilStop(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(v.ctx, func() { cancel(ErrClosed) })
	return ctx, func() { stop(); cancel(nil) }
}

// errOutdated is why a build under a policy that is in force no more is given up.
var errOutdated = errors.New("another policy has been applied")

// buildLatest builds views under the policy in force, where those that answer are
// of another or of other folds, until it has succeeded or Stop is called.
func (v *Views) buildLatest() {
	v.exclusive.Lock()
	defer v.exclusive.Unlock()
	for wait := time.Second; v.ctx.Err() == nil; {
		ctx, outdate := context.WithCancelCause(v.ctx)
		v.mu.Lock()
		rules := v.rules
		v.outdate = outdate // by a policy that is applied from here on
		v.mu.Unlock()
		err := v.buildUnless(ctx, rules)
		if err != nil && ctx.Err() == nil {
			v.logger.Error("building new views has failed and will be tried again", "in", wait, "error", err)
			_ = pause(ctx, wait) // ended early where there is another to build
			wait = min(2*wait, time.Minute)
		}
		v.mu.Lock()
		v.outdate = nil
		latest := rules == v.rules
		v.mu.Unlock()
		outdate(nil)
		if err == nil && latest {
			return
		}
	}
}

// buildUnless builds views under rules unless those that answer are.
func (v *Views) buildUnless(ctx context.Context, rules *Rules) error {
	at := v.active.state.checkpoint()
	if v.active.rules.Version == rules.Version && v.active.rules.SegmentsVersion == rules.SegmentsVersion && (at.Fold == 0 || at.Fold == foldVersion) {
		return nil
	}
	v.logger.Info("building new views beside the old ones",
		"policy_version", rules.Version, "old_policy_version", v.active.rules.Version)
	return v.build(ctx, rules, nil)
}

// build builds a generation beside the active one and switches to it.
func (v *Views) build(ctx context.Context, rules *Rules, progress Progress) (err error) {
	started := time.Now()
	g, err := v.create(ctx, rules)
	if err != nil {
		return err
	}
	v.setBuilding(g.number)
	defer v.setBuilding(0)
	switched := false
	defer func() {
		if !switched {
			err = errors.Join(err, v.discard(g))
		}
	}()
	// Most of it happens while the old views go on. Where they come to read so fast
	// that the new ones do not get nearer, they stand still a little longer.
	for behind := ^uint64(0); ; {
		to := v.active.state.checkpoint().Position
		left := uint64(to - min(to, g.fold.position))
		if left <= 10_000 || left > behind/2 {
			break
		}
		behind = left
		if err := g.runTo(ctx, to, 0, progress.upTo(to)); err != nil {
			return errors.Join(err, g.settle())
		}
	}
	if !v.cfg.DB.Holds() {
		if err := v.cfg.DB.Prepare(ctx, g.number); err != nil {
			return err
		}
	}
	// From here on the old views stand still, and the new ones catch up with them.
	v.stopLoop()
	old := v.active
	at := old.state.checkpoint()
	if err := g.runTo(ctx, at.Position, at.Clock, progress.upTo(at.Position)); err != nil {
		v.startLoop()
		return errors.Join(err, g.settle())
	}
	// The switch. Once the pointer is durable, a start goes on from here, and
	// nothing stops it half way.
	ctx = context.WithoutCancel(ctx)
	if err := v.point(pointer{Generation: g.number, Built: true}); err != nil {
		// The name may have been written all the same.
		err = errors.Join(err, v.point(pointer{Generation: old.number, Built: old.built}))
		v.startLoop()
		return err
	}
	switched, g.built = true, true
	answer := func() {
		v.mu.Lock()
		v.active = g
		v.mu.Unlock()
		v.moved.send()
		v.startLoop() // its first work is to make the statements agree
	}
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 10*time.Second) {
		err := v.cfg.DB.Switch(ctx, g.number, answer)
		if err == nil {
			break
		}
		answer = func() {} // it does
		v.logger.Error("the tables still show the old views; trying again", "in", wait, "error", err)
		if pause(v.ctx, wait) != nil {
			// The old state is left to the next start, which finishes the switch.
			return errors.Join(fmt.Errorf("switch to the new views (a start finishes it): %w", err), v.closeState(old))
		}
	}
	v.mu.Lock()
	v.shows = g.number
	v.mu.Unlock()
	v.moved.send()
	v.logger.Info("switched to new views", "generation", g.number, "policy_version", rules.Version,
		"position", at.Position, "took", time.Since(started).Round(time.Millisecond))
	return v.discard(old)
}

func (v *Views) setBuilding(n warehouse.Generation) {
	v.mu.Lock()
	v.building = n
	v.mu.Unlock()
}

// closeState closes the state of a generation once no question is being answered
// from it any more.
func (v *Views) closeState(g *generation) error {
	v.desk.release(g)
	v.ahead.release(g)
	v.readers.Lock()
	defer v.readers.Unlock()
	return g.state.close()
}

// discard drops a generation that is not active.
func (v *Views) discard(g *generation) error {
	ctx := context.WithoutCancel(v.ctx)
	err := v.closeState(g)
	return errors.Join(err, v.cfg.DB.DropGeneration(ctx, g.number), os.RemoveAll(g.state.dir))
}

// Verification is what Verify found.
type Verification struct {
	Position eventstore.Position
	Clock    time.Time
	Policy   int
	// Rows counts those compared, Different those that differ, by table; the
	// statements in the log count as a table of their own.
	Rows, Different map[string]uint64
	Differences     []warehouse.Difference
}

// Equal is true where nothing differs.
func (r *Verification) Equal() bool {
	for _, n := range r.Different {
		if n > 0 {
			return false
		}
	}
	return true
}

// Verify recomputes every view from the log, as of the checkpoint of the views
// that answer, and compares. These stand still meanwhile; the intake goes on. At
// most limit differences of each table are returned, all are counted.
func (v *Views) Verify(ctx context.Context, limit int, progress Progress) (_ *Verification, err error) {
	if v.cfg.Workers {
		return nil, ErrManyWorkers
	}
	if !v.exclusive.TryLock() {
		return nil, ErrBusy
	}
	defer v.exclusive.Unlock()
	if v.active == nil {
		return nil, ErrClosed
	}
	ctx, cancel := v.untilStop(ctx)
	defer cancel()
	if s := v.Status(); s.Err != "" {
		return nil, fmt.Errorf("the views have stopped: %s", s.Err)
	}
	// What the log holds now is to be verified, so the views are to hold it.
	head, err := v.cfg.Store.Head(ctx)
	if err != nil {
		return nil, err
	}
	if err := v.WaitFor(ctx, head); err != nil {
		return nil, err
	}
	g, err := v.create(ctx, v.active.rules)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, v.discard(g)) }()
	v.stopLoop()
	defer v.startLoop() // before discard, which waits for a command that may wait for the views
	at := v.active.state.checkpoint()
	if err := g.runTo(ctx, at.Position, at.Clock, progress.upTo(at.Position)); err != nil {
		return nil, errors.Join(err, g.settle())
	}
	c, err := v.cfg.DB.Compare(ctx, v.active.number, g.number, limit)
	if err != nil {
		return nil, err
	}
	r := &Verification{
		Position: at.Position, Clock: at.Clock.Time(), Policy: g.rules.Version,
		Rows: c.Rows, Different: c.Different, Differences: c.Differences,
	}
	if at.Reconciled {
		if err := g.verifyStatements(ctx, r, limit); err != nil {
			return nil, err
		}
	}
	return r, nil
}

const statementsTable = "statements"

// verifyStatements compares the statements that stand in the log with the
// transitions that stand.
func (g *generation) verifyStatements(ctx context.Context, r *Verification, limit int) error {
	// The views may have been stopped when something was said ahead of their rows.
	head, err := g.store.Head(ctx)
	if err != nil {
		return err
	}
	if err := g.hearUntil(ctx, utterance{g.fold.position, g.fold.clock}, head); err != nil {
		return err
	}
	if err := g.flush(ctx, g.fold.clock, false); err != nil {
		return err
	}
	if err := g.settle(); err != nil {
		return err
	}
	var after uuid.UUID
	for {
		ids, err := g.state.customers(after, 5000)
		if err != nil || len(ids) == 0 {
			return err
		}
		after = ids[len(ids)-1]
		g.fold.evict(maxCached)
		for _, id := range ids {
			c, err := g.fold.whole(id)
			if err != nil {
				return err
			}
			r.Rows[statementsTable] += uint64(c.said.count())
			var lines []line
			if len(c.members) > 0 {
				lines = g.rules.linesAt(c.basis(g.rules), g.fold.clock)
			}
			if c.saysWhatStands() && c.saysLines(lines) {
				continue
			}
			r.Different[statementsTable]++
			if r.Different[statementsTable] <= uint64(limit) {
				r.Differences = append(r.Differences, warehouse.Difference{
					Table: statementsTable, Key: id.String(), A: g.sayings(c), B: saying(c.all[:c.n], lines),
				})
			}
		}
	}
}

// sayings names the statements that stand of a customer by their revisions.
func (g *generation) sayings(c *cust) string {
	revisions := make([]uint64, 0, c.said.count())
	for _, standing := range c.said.standing {
		for _, s := range standing {
			revisions = append(revisions, s.revision)
		}
	}
	slices.Sort(revisions)
	return fmt.Sprintf("revisions %d of %s", revisions, domain.StatementStream(c.id))
}
