package projections

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"sojourn/condition"
	"sojourn/domain"
)

// follower keeps a tail: what the views have at a checkpoint with the rest of the log
// folded on top.
type follower struct {
	views *Views
	bare  bool // without segments

	// work is held while the tail is used.
	work sync.Mutex
	tail *tail
}

// drop forgets the tail.
func (d *follower) drop() {
	if d.tail == nil {
		return
	}
	if err := d.tail.snapshot.Close(); err != nil {
		d.views.logger.Warn("snapshot not closed", "error", err)
	}
	d.tail = nil
}

// letGo forgets a tail that nobody has asked for a while.
func (d *follower) letGo() {
	d.work.Lock()
	defer d.work.Unlock()
	if d.tail != nil && time.Since(d.tail.opened) > maxTailAge {
		d.drop()
	}
}

// release lets go of a generation's state, which is about to be closed.
func (d *follower) release(g *generation) {
	d.work.Lock()
	defer d.work.Unlock()
	if d.tail != nil && d.tail.generation == g {
		d.drop()
	}
}

// catchUp brings the tail to the end of the log as it is now. Where the views are far
// behind, it lets them come nearer first.
func (d *follower) catchUp(ctx context.Context) error {
	v := d.views
	for {
		if err := d.open(); err != nil {
			return err
		}
		t := d.tail
		head, err := v.cfg.Store.Head(ctx)
		if err != nil {
			return fmt.Errorf("read the log: %w", err)
		}
		if head <= t.fold.position+maxTail {
			for e, err := range v.cfg.Store.ReadAll(ctx, t.fold.position) {
				if err != nil {
					return fmt.Errorf("read the log: %w", err)
				}
				if err := t.take(&e); err != nil {
					return err
				}
				if t.events >= maxTail {
					break
				}
			}
			if t.events < maxTail {
				return nil
			}
		}
		near := max(t.generation.state.checkpoint().Position+1, head-min(head, maxTail/2))
		d.drop()
		if err := v.WaitFor(ctx, near); err != nil {
			return err
		}
	}
}

// open has a tail that begins at a checkpoint of the views that answer.
func (d *follower) open() error {
	v := d.views
	v.readers.RLock()
	defer v.readers.RUnlock()
	v.mu.RLock()
	g := v.active
	v.mu.RUnlock()
	if g == nil {
		return ErrClosed
	}
	if t := d.tail; t != nil && t.generation == g && t.events < maxTail && time.Since(t.opened) < maxTailAge &&
		g.state.checkpoint().Position <= t.fold.position {
		return nil
	}
	d.drop()
	rules := g.rules
	if d.bare {
		rules = rules.bare()
	}
	g.state.mu.RLock()
	db, cp := g.state.db.NewSnapshot(), g.state.at
	g.state.mu.RUnlock()
	t := &tail{
		generation: g, rules: rules, snapshot: db, opened: time.Now(),
		fold:    newFold(rules, v.cfg.Keyer, snapshot{db}, v.logger),
		decoder: &decoder{rules: rules, keyer: v.cfg.Keyer, logger: v.logger},
		fresh:   map[uuid.UUID]string{}, guards: map[uuid.UUID]guard{}, taken: map[uuid.UUID]bool{}, clearing: map[uuid.UUID]bool{},
	}
	t.fold.silent = true
	t.fold.position, t.fold.clock = cp.Position, cp.Clock
	d.tail = t
	return nil
}

// ahead answers about customers by everything that the log holds, ahead of the views.
type ahead struct {
	follower
	closed bool
}

// close lets go of the state for good.
func (a *ahead) close() {
	a.work.Lock()
	defer a.work.Unlock()
	a.closed = true
	a.drop()
}

// WholeAhead is Whole as of now, by all that the log holds when it is asked, whatever
// the views' lag: as of the last event, so that what only time has changed since is
// not in it. One is answered after the other.
func (v *Views) WholeAhead(ctx context.Context, id uuid.UUID, needs *condition.Needs) (w Whole, err error) {
	a := &v.ahead
	a.work.Lock()
	defer a.work.Unlock()
	if a.closed {
		return w, ErrClosed
	}
	if err := a.catchUp(ctx); err != nil {
		a.drop()
		return w, err
	}
	v.readers.RLock() // the state is not closed meanwhile
	defer v.readers.RUnlock()
	t := a.tail
	at := t.generation.state.checkpoint()
	at.Position, at.Clock = t.fold.position, max(t.fold.clock, t.fold.step)
	w, err = v.whole(ctx, t.generation, &question{
		store: v.cfg.Store, fold: t.fold, rules: t.fold.rules, at: at, asOf: at.Clock, known: domain.MaxTime, fresh: t.fresh,
	}, id, needs)
	if t.fold.err != nil {
		a.drop()
	}
	return w, err
}
