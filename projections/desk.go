package projections

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"sojourn/domain/loyalty"
	"sojourn/eventstore"
)

// desk decides commands about points against everything that the log holds when they
// come, whatever the views' lag: it follows the log behind a checkpoint of the views
// in memory, and the policy in force where the views are not built under it yet.
// Commands that wait are decided together, one after the other, and
// appended in one call. What two desks on one log decide about a customer at once is
// kept apart by the guard stream: the second finds another revision than it expected
// and decides again. See docs/decisions/0008.
type desk struct {
	follower // work guards it
	wake     chan struct{}

	mu      sync.Mutex
	waiting []*errand
	closed  bool

	// unfinished are transfers of which only the first half stands, by its id.
	unfinished map[uuid.UUID]*command
	begun      bool // those that the last process left have been looked for
}

// errand is somebody who waits for a command to be decided.
type errand struct {
	ctx    context.Context
	decide func(*tail, *errand) error // puts what is to be appended into parts

	id       uuid.UUID
	parts    []eventstore.Append
	made     *command // what the first part is, taken into the tail already
	result   CommandResult
	tries    int // how often others came before it
	ended    bool
	err      error
	finished chan struct{}
}

const (
	maxTail     = 200_000 // events
	maxTailAge  = 30 * time.Second
	maxErrands  = 500 // decided together
	maxAttempts = 50  // to decide a command that others come before
	// maxRound is how long commands are decided before what is decided is appended,
	// so that a customer with a long history does not hold up everybody.
	maxRound = 100 * time.Millisecond
)

// errBehind says that the log has grown past what was decided on.
var errBehind = errors.New("the log has grown")

// ErrContended is returned for a command that others came before again and again.
var ErrContended = errors.New("too many commands at once")

// submit has a command decided and waits for it to be durable.
func (d *desk) submit(ctx context.Context, id uuid.UUID, decide func(*tail, *errand) error) (CommandResult, error) {
	e := &errand{ctx: ctx, decide: decide, id: id, finished: make(chan struct{})}
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return CommandResult{}, ErrClosed
	}
	d.waiting = append(d.waiting, e)
	d.mu.Unlock()
	select {
	case d.wake <- struct{}{}:
	default:
	}
	select {
	case <-e.finished:
		return e.result, e.err
	case <-ctx.Done():
		// It may yet be decided; the same key tells.
		return CommandResult{}, ctx.Err()
	}
}

// run decides commands until the context ends.
func (d *desk) run(ctx context.Context) {
	defer d.close()
	retry := time.NewTicker(time.Second)
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.wake:
		case <-retry.C:
			d.mu.Lock()
			idle := len(d.waiting) == 0
			d.mu.Unlock()
			if idle {
				d.letGo()
				d.views.ahead.letGo()
				if d.begun && len(d.unfinished) == 0 {
					continue
				}
			}
		}
		for d.serve(ctx) {
		}
	}
}

// close answers those who wait and lets go of the state.
func (d *desk) close() {
	d.mu.Lock()
	d.closed = true
	all := d.waiting
	d.waiting = nil
	d.mu.Unlock()
	for _, e := range all {
		e.end(ErrClosed)
	}
	d.work.Lock()
	defer d.work.Unlock()
	d.drop()
}

// serve decides some of what waits, and reports whether anything did.
func (d *desk) serve(ctx context.Context) bool {
	d.mu.Lock()
	n := min(len(d.waiting), maxErrands)
	some := d.waiting[:n:n]
	d.waiting = d.waiting[n:]
	d.mu.Unlock()
	d.work.Lock()
	defer d.work.Unlock()
	if err := d.finish(ctx); err != nil {
		d.views.logger.Warn("transfers of points not finished yet", "error", err)
		d.drop()
	}
	if n == 0 {
		return false
	}
	again := d.decide(ctx, some)
	again = slices.DeleteFunc(again, func(e *errand) bool {
		if e.tries < maxAttempts && ctx.Err() == nil {
			return false
		}
		e.end(fmt.Errorf("decide about points: %w", errors.Join(ctx.Err(), ErrContended)))
		return true
	})
	d.mu.Lock()
	d.waiting = append(again, d.waiting...)
	d.mu.Unlock()
	return true
}

// end answers an errand, once.
func (e *errand) end(err error) {
	if !e.ended {
		e.err, e.ended = err, true
		close(e.finished)
	}
}

// decide decides errands and returns those that are to be decided again.
func (d *desk) decide(ctx context.Context, some []*errand) (again []*errand) {
	if err := d.catchUp(ctx); err != nil {
		d.drop()
		for _, e := range some {
			e.end(err)
		}
		return nil
	}
	parts, of, again := d.decideAll(some)
	if len(parts) == 0 {
		return again
	}
	results, err := d.views.cfg.Store.AppendMany(ctx, parts)
	if err != nil {
		// What became of them is not known; the same keys will tell.
		for _, e := range of {
			e.end(fmt.Errorf("append a command about points: %w", err))
		}
		d.drop()
		return again
	}
	made, lost := d.recorded(of, results)
	again = append(again, lost...)
	if err := d.confirm(ctx, made); err != nil {
		d.drop()
		for _, e := range made {
			e.end(fmt.Errorf("the command stands, but what became of it cannot be told yet: %w", err))
		}
	}
	for _, e := range made {
		if !e.ended {
			again = append(again, e) // another server has had the key for another customer
		}
	}
	return again
}

// decideAll has errands decided one behind the other, for as long as a round may
// take. It returns what is to be appended, of whom each part is, and who is to come
// again.
func (d *desk) decideAll(some []*errand) (parts []eventstore.Append, of, again []*errand) {
	t := d.tail
	began := time.Now()
	for i, e := range some {
		if time.Since(began) > maxRound {
			return parts, of, append(again, some[i:]...)
		}
		if err := e.ctx.Err(); err != nil {
			e.end(err)
			continue
		}
		if t.taken[e.id] {
			again = append(again, e) // the same key once more: the log will tell
			continue
		}
		e.parts, e.made, e.result = nil, nil, CommandResult{}
		err := e.decide(t, e)
		if t.fold.err != nil {
			err = t.fold.err
			d.drop()
			for _, e := range some {
				e.end(err)
			}
			return nil, nil, nil
		}
		switch {
		case errors.Is(err, errBehind):
			e.tries++
			again = append(again, e)
		case err != nil, len(e.parts) == 0:
			e.end(err)
		default:
			for range e.parts {
				of = append(of, e)
			}
			parts = append(parts, e.parts...)
			if e.made != nil {
				t.taken[e.id] = true
			}
		}
	}
	return parts, of, again
}

// recorded goes through the results of an append: made are those whose commands the
// log has taken, lost those that are to be decided again.
func (d *desk) recorded(of []*errand, results []eventstore.Result) (made, lost []*errand) {
	outcome := map[*errand]error{}
	stale := false
	for i, r := range results {
		e := of[i]
		switch {
		case r.Err != nil:
			outcome[e] = cmp.Or(outcome[e], r.Err)
		case r.Appended == 0:
			// The guard stream holds an event of this id: another server was told the
			// same key, and perhaps something else under it.
			outcome[e] = cmp.Or(outcome[e], error(eventstore.ErrWrongRevision))
		}
		e.result.Position = r.Position
	}
	for _, e := range slices.Compact(of) {
		switch err := outcome[e]; {
		case errors.Is(err, eventstore.ErrWrongRevision):
			stale = true
			e.tries++
			lost = append(lost, e)
		case err != nil:
			stale = true
			e.end(fmt.Errorf("append a command about points: %w", err))
		case e.made == nil:
			lost = append(lost, e) // its guard stands now
		default:
			made = append(made, e)
		}
	}
	if stale {
		// The tail holds commands that the log does not.
		d.drop()
	}
	return made, lost
}

// confirm looks after an append which of the commands stand, finishes the transfers
// among them, and answers.
func (d *desk) confirm(ctx context.Context, made []*errand) error {
	if len(made) == 0 {
		return nil
	}
	if err := d.catchUp(ctx); err != nil {
		return err
	}
	var stand []*errand
	for _, e := range made {
		at, err := d.tail.positionOf(e.id)
		if err != nil {
			return err
		}
		if at != e.result.Position {
			e.tries++
			continue
		}
		stand = append(stand, e)
		if e.made.Kind == loyalty.TransferOut {
			e.made.position = at
			d.unfinished[e.id] = e.made
		}
	}
	if err := d.finish(ctx); err != nil {
		return err
	}
	for _, e := range stand {
		e.end(nil)
	}
	return nil
}

// catchUp brings the tail to the end of the log as it is now, with nothing decided,
// and to the policy in force.
func (d *desk) catchUp(ctx context.Context) error {
	err := d.follower.catchUp(ctx)
	if d.tail != nil {
		clear(d.tail.taken)
		clear(d.tail.clearing)
	}
	if err == nil {
		err = d.views.learnPolicies(ctx)
	}
	if err == nil {
		d.tail.rules = d.views.latest().bare()
	}
	return err
}
