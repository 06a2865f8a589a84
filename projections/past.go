package projections

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"

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
	// done is closed when g or err is there to read.
	done chan struct{}
	g    *generation // nil where nothing was known
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
// views hold was known: then the tables answer. The context bounds the wait. A fold
// that nobody waits for any more is given up, but after a deadline goes on for a
// while.
func (v *Views) known(ctx context.Context, knownAt time.Time) (p *past, release func(), err error) {
	v.mu.RLock()
	g := v.active
	v.mu.RUnlock()
	if g == nil {
		return nil, nil, ErrClosed
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
	for _, p := range v.applied() {
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
		return nil, nil, ErrClosed
	}
	var p *past
	if i := slices.IndexFunc(s.kept, func(p *past) bool { return p.pastKey == key }); i >= 0 {
		p = s.kept[i]
		s.kept = slices.Delete(s.kept, i, i+1)
	} else {
		for _, o := range slices.Clone(s.kept) {
			if o.users == 0 && !o.built {
				s.end(o) // nobody waits for it, and this one is waited for
			}
		}
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
		s.rest(oldest, false)
	}
	s.mu.Unlock()

	release := func() {
		s.mu.Lock()
		p.users--
		s.rest(p, errors.Is(ctx.Err(), context.DeadlineExceeded))
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

// rest decides what becomes of a fold that nobody holds: it stays for a while where
// it may be asked for again, which after a deadline goes for one under way, too.
// The caller has the lock.
func (s *pasts) rest(p *past, deadline bool) {
	if p.users > 0 {
		return
	}
	if p.idle != nil {
		p.idle.Stop()
	}
	if s.closed || p.err != nil || !p.built && !deadline || !slices.Contains(s.kept, p) {
		s.end(p)
		return
	}
	p.idle = time.AfterFunc(pastIdle, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if p.users == 0 {
			s.end(p)
		}
	})
}

// end gives up the build of a fold, or removes it. The caller has the lock.
func (s *pasts) end(p *past) {
	s.forget(p)
	if p.built {
		p.remove()
	} else {
		p.cancel()
	}
}

func (s *pasts) forget(p *past) {
	s.kept = slices.DeleteFunc(s.kept, func(o *past) bool { return o == p })
}

// remove closes and deletes it. What is left after an error goes at the next
// start.
func (p *past) remove() {
	g := p.g
	p.g = nil
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
		s.rest(p, false)
	}
	s.mu.Unlock()
	s.work.Wait()
}

// buildPast builds one, after those that were asked for before.
func (v *Views) buildPast(ctx context.Context, p *past) {
	s := &v.pasts
	s.build.Lock()
	g, err := v.foldPast(ctx, p)
	s.build.Unlock()
	p.cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	p.g, p.err, p.built = g, err, true
	if err != nil {
		s.forget(p)
	}
	close(p.done)
	s.rest(p, false)
}

func (v *Views) foldPast(ctx context.Context, p *past) (_ *generation, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(v.cfg.Dir, pastPrefix)
	if err != nil {
		return nil, fmt.Errorf("fold an earlier time: %w", err)
	}
	state, err := openState(vfs.Default, dir, stateCacheBytes, v.logger)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	g := &generation{
		rules: p.rules, store: v.cfg.Store, keyer: v.cfg.Keyer, sink: pastSink{db: state.db}, state: state, mute: true,
		now: v.cfg.Now, logger: v.logger, changed: func() {},
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, g.settle(), state.close(), os.RemoveAll(dir))
		}
	}()
	started := time.Now()
	if err := g.recover(ctx); err != nil {
		return nil, err
	}
	g.fold.clock, g.fold.step = endOfTime, endOfTime
	if err := g.runTo(ctx, p.position, endOfTime, nil); err != nil {
		return nil, err
	}
	g.fold = nil // the state has it all
	v.logger.Info("folded the log up to an earlier time", "position", p.position, "policy_version", p.policy,
		"took", time.Since(started).Round(time.Millisecond))
	return g, nil
}

// pastSink keeps all changes of stage beside the state, in the order of lists: under
// the customer and their number.
type pastSink struct {
	NullSink
	db *pebble.DB
}

// pastRows is the letter of its records, which the state has for nothing else.
const pastRows = '~'

// endOfTime is the clock of a past: at it all changes of stage stand, those to come
// as well.
const endOfTime = math.MaxInt64 - 1

// pastKeyOf is the key of a customer's records, without the number. ClickHouse
// orders ids by their second half, then by the first; lists are in this order
// wherever they come from, so that a cursor holds.
func pastKeyOf(id uuid.UUID) []byte {
	key := make([]byte, 0, 1+16+4)
	key = append(key, pastRows)
	key = append(key, id[8:]...)
	return append(key, id[:8]...)
}

// Write implements Sink.
func (s pastSink) Write(_ context.Context, rows *Rows) error {
	batch := s.db.NewBatch()
	for _, table := range rows.Tables {
		for _, t := range table.Transitions {
			key := binary.BigEndian.AppendUint32(pastKeyOf(t.CustomerID), t.Seq)
			var err error
			if t.Removed {
				err = batch.Delete(key, nil)
			} else {
				err = batch.Set(key, append(binary.BigEndian.AppendUint64(nil, uint64(t.At)), t.To...), nil)
			}
			if err != nil {
				return errors.Join(err, batch.Close())
			}
		}
	}
	return batch.Commit(pebble.NoSync)
}

// each hands on the customers after one, in the order of lists, with their stages
// at an instant; those that had no touchpoint by then are left out. It ends when fn
// returns errStop.
func (p *past) each(ctx context.Context, after uuid.UUID, asOf domain.Millis, fn func(uuid.UUID, lifecycle.Stage) error) error {
	if p.g == nil {
		return nil
	}
	var key [16]byte // of the customer at hand
	var stage lifecycle.Stage
	last := func() error {
		if stage == lifecycle.None {
			return nil
		}
		s := stage
		stage = lifecycle.None
		return fn(uuid.UUID(slices.Concat(key[8:], key[:8])), s)
	}
	n := 0
	from := pastKeyOf(after)
	if after != uuid.Nil {
		from = binary.BigEndian.AppendUint64(from, math.MaxUint64)
	}
	err := p.g.state.scan(from, []byte{pastRows + 1}, func(k, value []byte) error {
		if n++; n%10_000 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if !bytes.Equal(k[1:17], key[:]) {
			if err := last(); err != nil {
				return err
			}
			copy(key[:], k[1:])
		}
		if at := domain.Millis(binary.BigEndian.Uint64(value)); at <= asOf {
			stage = lifecycle.Stage(value[8:])
		}
		return nil
	})
	if err == nil {
		err = last()
	}
	if errors.Is(err, errStop) {
		err = nil
	}
	return err
}

// count counts the customers by stage at an instant.
func (p *past) count(ctx context.Context, asOf domain.Millis) (map[string]uint64, error) {
	counts := map[string]uint64{}
	err := p.each(ctx, uuid.Nil, asOf, func(_ uuid.UUID, s lifecycle.Stage) error {
		counts[string(s)]++
		return nil
	})
	return counts, err
}

// list finds up to limit customers in a stage, or of all where it is empty, after
// another.
func (p *past) list(ctx context.Context, stage string, after uuid.UUID, limit int, asOf domain.Millis) ([]uuid.UUID, error) {
	var ids []uuid.UUID
	err := p.each(ctx, after, asOf, func(id uuid.UUID, s lifecycle.Stage) error {
		if stage == "" || string(s) == stage {
			ids = append(ids, id)
		}
		if len(ids) == limit {
			return errStop
		}
		return nil
	})
	return ids, err
}
