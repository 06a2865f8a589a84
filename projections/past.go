package projections

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"sojourn/domain"
	"sojourn/domain/lifecycle"
	"sojourn/eventstore"
)

const (
	// maxPasts bounds the folds of earlier times that are kept for the next
	// question.
	maxPasts = 2
	// pastIdle is how long one is kept that nobody asks.
	pastIdle = 5 * time.Minute
	// pastPrefix begins the names of their folders, which a start removes.
	pastPrefix = "past-"
)

// pastKey names what was known: the log up to a position, read under a policy.
type pastKey struct {
	position eventstore.Position
	policy   int
}

// past is what all questions about what was known at a time are answered from:
// the log folded anew up to a position, into a temporary folder, with no tables
// and no statements.
type past struct {
	pastKey
	rules *Rules
	// done is closed when g and ids, or err, are there to read.
	done chan struct{}
	g    *generation // nil where nothing was known
	ids  []uuid.UUID // of its customers, in the order of compareIDs
	err  error

	// Of the lock of pasts:
	users  int
	built  bool
	cancel context.CancelFunc // of the build
	idle   *time.Timer
}

// pasts keeps the folds that were asked for last, and shares each between all who
// ask for it at once.
type pasts struct {
	mu     sync.Mutex
	kept   []*past // the one asked for last is the last
	closed bool
	work   sync.WaitGroup // builds, and who holds one
	build  sync.Mutex     // held by the one build under way
}

// known finds what a question about all customers is answered from that has a
// KnownAt; release is to be called when that is done. It is nil where all that the
// views hold was known: then the tables answer. The context bounds the wait; a fold that nobody waits for is
// given up.
func (v *Views) known(ctx context.Context, knownAt time.Time) (p *past, release func(), err error) {
	v.mu.RLock()
	g := v.active
	v.mu.RUnlock()
	if g == nil {
		return nil, nil, errClosed
	}
	if knownAt.IsZero() {
		return nil, func() {}, nil
	}
	known := domain.MillisOf(knownAt)
	at := g.state.checkpoint()
	rules := v.rulesAt(known, g.rules)
	if known >= max(at.Clock, domain.MillisOf(v.cfg.Now())) && rules.Version == g.rules.Version {
		return nil, func() {}, nil
	}
	position, err := lastKnown(ctx, v.cfg.Store, at.Position, known)
	if err != nil {
		return nil, nil, err
	}
	if position == 0 {
		return &past{}, func() {}, nil
	}
	return v.hold(ctx, pastKey{position, rules.Version}, rules)
}

// rulesAt is the policy in force at a time; before the first, that of the views.
func (v *Views) rulesAt(known domain.Millis, rules *Rules) *Rules {
	for _, p := range v.policies {
		if p.recordedAt <= known {
			rules = p.Rules
		}
	}
	return rules
}

// lastKnown is the position of the last event recorded at or before a time, none
// after limit; 0 where there is none. Along the log the times only grow.
func lastKnown(ctx context.Context, store eventstore.Store, limit eventstore.Position, known domain.Millis) (eventstore.Position, error) {
	low, high := eventstore.Position(0), limit
	for low < high {
		middle := low + (high-low)/2
		next := high + 1 // the first event after the middle, where it was known
		for e, err := range store.ReadAll(ctx, middle) {
			if err != nil {
				return 0, fmt.Errorf("find what was known by then: %w", err)
			}
			if domain.MillisOf(e.RecordedAt) <= known {
				next = e.Position
			}
			break
		}
		if next <= high {
			low = next
		} else {
			high = middle
		}
	}
	return low, nil
}

// hold returns the fold of a key, once it is there.
func (v *Views) hold(ctx context.Context, key pastKey, rules *Rules) (*past, func(), error) {
	s := &v.pasts
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil, nil, errClosed
	}
	var p *past
	if i := slices.IndexFunc(s.kept, func(p *past) bool { return p.pastKey == key }); i >= 0 {
		p = s.kept[i]
		s.kept = slices.Delete(s.kept, i, i+1)
	} else {
		p = &past{pastKey: key, rules: rules, done: make(chan struct{})}
		var building context.Context
		building, p.cancel = context.WithCancel(v.ctx)
		s.work.Go(func() { v.buildPast(building, p) })
	}
	s.kept = append(s.kept, p)
	p.users++
	s.work.Add(1)
	if p.idle != nil {
		p.idle.Stop()
	}
	for len(s.kept) > maxPasts {
		oldest := s.kept[0]
		s.kept = s.kept[1:]
		s.rest(oldest)
	}
	s.mu.Unlock()

	release := func() {
		s.mu.Lock()
		p.users--
		s.rest(p)
		s.mu.Unlock()
		s.work.Done()
	}
	select {
	case <-p.done:
		if p.err == nil {
			return p, release, nil
		}
		release()
		return nil, nil, p.err
	case <-ctx.Done():
		release()
		return nil, nil, ctx.Err()
	}
}

// rest decides what becomes of a fold that nobody holds. The caller has the lock.
func (s *pasts) rest(p *past) {
	if p.users > 0 {
		return
	}
	switch {
	case !p.built:
		p.cancel()
		s.forget(p)
	case p.err == nil && !s.closed && slices.Contains(s.kept, p):
		p.idle = time.AfterFunc(pastIdle, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			if p.users == 0 {
				s.forget(p)
				p.remove()
			}
		})
	default:
		s.forget(p)
		p.remove()
	}
}

func (s *pasts) forget(p *past) {
	s.kept = slices.DeleteFunc(s.kept, func(o *past) bool { return o == p })
}

// remove closes and deletes it. What is left after an error goes at the next
// start.
func (p *past) remove() {
	if p.idle != nil {
		p.idle.Stop()
	}
	g := p.g
	p.g, p.ids = nil, nil
	if g == nil {
		return
	}
	if err := errors.Join(g.state.close(), os.RemoveAll(g.state.dir)); err != nil {
		g.logger.Warn("a fold of an earlier time could not be removed", "error", err)
	}
}

// close gives up what is being built and removes everything, once nobody holds
// it any more.
func (s *pasts) close() {
	s.mu.Lock()
	s.closed = true
	for _, p := range slices.Clone(s.kept) {
		s.rest(p)
	}
	s.mu.Unlock()
	s.work.Wait()
}

// buildPast builds one, after those that were asked for before.
func (v *Views) buildPast(ctx context.Context, p *past) {
	s := &v.pasts
	s.build.Lock()
	g, ids, err := v.foldPast(ctx, p)
	s.build.Unlock()
	p.cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	p.g, p.ids, p.err, p.built = g, ids, err, true
	if err != nil {
		s.forget(p)
	}
	close(p.done)
	s.rest(p)
}

func (v *Views) foldPast(ctx context.Context, p *past) (_ *generation, _ []uuid.UUID, err error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	dir, err := os.MkdirTemp(v.cfg.Dir, pastPrefix)
	if err != nil {
		return nil, nil, fmt.Errorf("fold an earlier time: %w", err)
	}
	state, err := openState(vfs.Default, dir, stateCacheBytes, v.logger)
	if err != nil {
		return nil, nil, errors.Join(err, os.RemoveAll(dir))
	}
	g := &generation{
		rules: p.rules, store: v.cfg.Store, keyer: v.cfg.Keyer, sink: NullSink{}, state: state, mute: true,
		now: v.cfg.Now, logger: v.logger, changed: func() {},
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, g.settle(), state.close(), os.RemoveAll(dir))
		}
	}()
	started := time.Now()
	if err := g.recover(ctx); err != nil {
		return nil, nil, err
	}
	if err := g.runTo(ctx, p.position, 0, nil); err != nil {
		return nil, nil, err
	}
	g.fold = nil // the state has it all
	var ids []uuid.UUID
	for after := uuid.Nil; ; after = ids[len(ids)-1] { // in the order of the state
		some, err := state.customers(after, 100_000)
		if err != nil {
			return nil, nil, err
		}
		if len(some) == 0 {
			break
		}
		ids = append(ids, some...)
	}
	slices.SortFunc(ids, compareIDs)
	v.logger.Info("folded the log up to an earlier time", "position", p.position, "policy_version", p.policy,
		"customers", len(ids), "took", time.Since(started).Round(time.Millisecond))
	return g, ids, nil
}

// compareIDs orders ids as ClickHouse does: by their second half, then by the
// first. Lists are in this order wherever they come from, so that a cursor holds.
func compareIDs(a, b uuid.UUID) int {
	if c := slices.Compare(a[8:], b[8:]); c != 0 {
		return c
	}
	return slices.Compare(a[:8], b[:8])
}

// pastChunk is how many customers are looked at with one fold, which keeps them.
const pastChunk = 256

// stagesOf finds the stages of up to pastChunk customers at an instant, None for
// one that had no touchpoint by then.
func (p *past) stagesOf(ids []uuid.UUID, asOf domain.Millis) ([]lifecycle.Stage, error) {
	f := newFold(p.rules, p.g.keyer, snapshot{p.g.state.db}, p.g.logger)
	out := make([]lifecycle.Stage, len(ids))
	for i, id := range ids {
		c, err := f.whole(id)
		if err != nil {
			return nil, err
		}
		out[i] = stageOf(c.all[:due(c.all, asOf)])
	}
	return out, nil
}

// count counts the customers by stage at an instant.
func (p *past) count(ctx context.Context, asOf domain.Millis) (map[string]uint64, error) {
	var mu sync.Mutex
	counts := map[string]uint64{}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for ids := range slices.Chunk(p.ids, pastChunk) {
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			stages, err := p.stagesOf(ids, asOf)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			for _, s := range stages {
				counts[string(s)]++
			}
			return nil
		})
	}
	return counts, g.Wait()
}

// list finds up to limit customers in a stage, or of all where it is empty, that
// stand after another in the order of lists; Nil stands before all.
func (p *past) list(ctx context.Context, stage string, after uuid.UUID, limit int, asOf domain.Millis) ([]uuid.UUID, error) {
	n, found := slices.BinarySearchFunc(p.ids, after, compareIDs)
	if found {
		n++
	}
	var out []uuid.UUID
	for ids := range slices.Chunk(p.ids[n:], pastChunk) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		stages, err := p.stagesOf(ids, asOf)
		if err != nil {
			return nil, err
		}
		for i, s := range stages {
			if s == lifecycle.None || stage != "" && string(s) != stage {
				continue
			}
			if out = append(out, ids[i]); len(out) == limit {
				return out, nil
			}
		}
	}
	return out, nil
}
