package projections

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/google/uuid"

	"sojourn/domain"
	"sojourn/domain/loyalty"
	"sojourn/domain/policy"
	"sojourn/eventstore"
)

const (
	// previewPrefix begins the names of the folders of previews, which a start
	// removes.
	previewPrefix = "preview-"
	// previewsKept is for how long a preview can be asked for once it has ended,
	// and maxPreviews how many at most.
	previewsKept = time.Hour
	maxPreviews  = 20
	// previewStateBytes is the cache of each of the two states that a preview
	// compares.
	previewStateBytes = 64 << 20
	// previewRoom is how many subjects and customers each side keeps in memory. Of a
	// larger shop those that are asked for are read from the state, one by one.
	previewRoom = 500_000
)

var (
	// ErrNoPreview is returned for a preview that is not kept (any more).
	ErrNoPreview = errors.New("no such preview")
	// ErrBuilding is returned where the views that answer are not those of the
	// policy in force yet.
	ErrBuilding = errors.New("the views are being built under the policy in force; try again when that is done")
)

// PreviewRunningError is returned where a preview is under way already.
type PreviewRunningError struct{ ID uuid.UUID }

func (e *PreviewRunningError) Error() string {
	return fmt.Sprintf("preview %s is running; wait for it or cancel it", e.ID)
}

// The states of a preview.
const (
	PreviewRunning   = "running"
	PreviewDone      = "done"
	PreviewCancelled = "cancelled"
	PreviewFailed    = "failed"
)

// Preview is what would be were another policy in force, or how far it is.
type Preview struct {
	ID        uuid.UUID
	State     string
	StartedAt time.Time
	EndedAt   time.Time // zero while it runs
	// Done and Total are the events read of those to read; Total is 0 until that
	// is known.
	Done, Total uint64
	Err         string         // where it has failed
	Report      *PreviewReport // where it is done
}

// PreviewReport compares what two policies say of the same log at the same time.
type PreviewReport struct {
	// Both have read the log up to Position and are as of Clock.
	Position eventstore.Position
	Clock    time.Time
	// Policy is the version of the old one, which is in force. Changes are by what
	// the candidate differs from it.
	Policy  int
	Changes []policy.Change
	// Since is the instant as of which the candidate's rules about points were taken
	// for applied; zero where that is Clock. LeftOut are the versions of the policy that
	// were applied later, in order: the candidate's side has nothing of their rules about
	// points.
	Since   time.Time
	LeftOut []int
	// Lifecycle compares the stages of customers, Loyalty their points and tiers in
	// each programme.
	Lifecycle Comparison
	Loyalty   []LoyaltyComparison
}

// previews keeps the preview under way and those that have ended.
type previews struct {
	mu      sync.Mutex
	all     []*preview // the one that began last is the last
	running *preview
	work    sync.WaitGroup
}

type preview struct {
	Preview
	cancel      context.CancelFunc
	done, total atomic.Uint64
}

// StartPreview begins to find out what a policy, which must be valid, would change
// were it in force. It reads the log in the background, leaving the processors to
// whoever else needs them, and writes nothing that anybody reads. One is under way
// at a time, else *PreviewRunningError; ErrBuilding while the views are not those
// of the policy in force.
//
// With since its rules about points are taken as if it had been applied at that
// instant, and what was applied later had not: so the report says what they would
// have done since then. The zero time is now.
func (v *Views) StartPreview(p policy.Policy, since time.Time) (Preview, error) {
	if err := v.previewable(); err != nil {
		return Preview{}, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return Preview{}, err
	}
	s := &v.previews
	s.mu.Lock()
	defer s.mu.Unlock()
	if v.ctx.Err() != nil {
		return Preview{}, ErrClosed
	}
	if s.running != nil {
		return Preview{}, &PreviewRunningError{s.running.ID}
	}
	v.forgetPreviews()
	run := &preview{Preview: Preview{ID: id, State: PreviewRunning, StartedAt: v.cfg.Now().UTC()}}
	var ctx context.Context
	ctx, run.cancel = context.WithCancel(v.ctx)
	s.running = run
	s.all = append(s.all, run)
	s.work.Go(func() {
		report, err := v.preview(ctx, p, since, run)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.running = nil
		run.EndedAt, run.Report = v.cfg.Now().UTC(), report
		switch {
		case err == nil:
			run.State = PreviewDone
		case ctx.Err() != nil:
			run.State, run.Report = PreviewCancelled, nil
		default:
			run.State, run.Err, run.Report = PreviewFailed, err.Error(), nil
			v.logger.Error("a preview has failed", "preview", id, "error", err)
		}
		run.cancel()
	})
	return run.now(), nil
}

// previewable says why there can be no preview now, if there cannot.
func (v *Views) previewable() error {
	v.mu.RLock()
	defer v.mu.RUnlock()
	switch {
	case v.active == nil:
		return ErrClosed
	case !v.ready, v.active.rules.Version != v.policies[len(v.policies)-1].Version:
		return ErrBuilding
	}
	if at := v.active.state.checkpoint(); at.Fold != 0 && at.Fold != foldVersion {
		return ErrBuilding
	}
	return nil
}

// now is how far it is. The caller has the lock.
func (r *preview) now() Preview {
	p := r.Preview
	p.Done, p.Total = r.done.Load(), r.total.Load()
	return p
}

// forgetPreviews drops those that ended long ago. The caller has the lock.
func (v *Views) forgetPreviews() {
	s := &v.previews
	now := v.cfg.Now()
	s.all = slices.DeleteFunc(s.all, func(r *preview) bool {
		return r.State != PreviewRunning && now.Sub(r.EndedAt) >= previewsKept
	})
	for i := 0; len(s.all) > maxPreviews-1 && i < len(s.all); {
		if s.all[i].State == PreviewRunning {
			i++
			continue
		}
		s.all = slices.Delete(s.all, i, i+1)
	}
}

// Previews are the preview under way and those that ended within the last hour,
// the last 20 at most, the one that began last first. They have no reports.
func (v *Views) Previews() []Preview {
	s := &v.previews
	s.mu.Lock()
	defer s.mu.Unlock()
	v.forgetPreviews()
	all := make([]Preview, 0, len(s.all))
	for _, r := range slices.Backward(s.all) {
		p := r.now()
		p.Report = nil
		all = append(all, p)
	}
	return all
}

// Preview is how far a preview is, with the report once it is done. ErrNoPreview
// where it is not kept any more.
func (v *Views) Preview(id uuid.UUID) (Preview, error) {
	return v.previewOf(id, func(*preview) {})
}

// CancelPreview gives up a preview that is under way; it has ended a moment later.
// One that has ended stays as it is.
func (v *Views) CancelPreview(id uuid.UUID) (Preview, error) {
	return v.previewOf(id, func(r *preview) { r.cancel() })
}

func (v *Views) previewOf(id uuid.UUID, do func(*preview)) (Preview, error) {
	s := &v.previews
	s.mu.Lock()
	defer s.mu.Unlock()
	v.forgetPreviews()
	for _, r := range s.all {
		if r.ID == id {
			do(r)
			return r.now(), nil
		}
	}
	return Preview{}, ErrNoPreview
}

// preview compares. The old side is a copy of the state of the views that answer,
// so only the new one is folded, up to where the copy is.
func (v *Views) preview(ctx context.Context, p policy.Policy, since time.Time, run *preview) (_ *PreviewReport, err error) {
	started := time.Now()
	dir, err := os.MkdirTemp(v.cfg.Dir, previewPrefix)
	if err != nil {
		return nil, fmt.Errorf("preview a policy: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	before, err := v.copyActive(filepath.Join(dir, "old"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, before.state.close()) }()
	at := before.at
	run.total.Store(uint64(at.Position))
	changes, err := policy.Diff(before.rules.Policy, p)
	if err != nil {
		return nil, err
	}

	all := v.applied()[:before.rules.Version]
	history := historyOf(all)
	applied := loyalty.AppliedPolicy{Policy: p, At: at.Clock}
	var leftOut []int
	if !since.IsZero() {
		applied.At = domain.MillisOf(since)
		history = historyUntil(all, applied.At)
		for i := range all[len(history):] {
			leftOut = append(leftOut, all[len(history)+i].Version)
		}
	}
	state, err := openStateForOnce(filepath.Join(dir, "new"), previewStateBytes, v.logger)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, state.close()) }()
	g := &generation{
		rules: NewRules(append(history, applied)...), store: &politeStore{v.cfg.Store, v, &run.done}, keyer: v.cfg.Keyer,
		sink: NullSink{}, state: state, mute: true, room: previewRoom, now: v.cfg.Now, logger: v.logger, changed: func() {},
	}
	if err := g.recover(ctx); err != nil {
		return nil, err
	}
	g.fold.polite = true
	preloaded := make(chan error, 1)
	go func() { preloaded <- before.preload(ctx) }()
	err = g.runTo(ctx, at.Position, at.Clock, nil)
	if err = errors.Join(err, <-preloaded); err != nil {
		return nil, errors.Join(err, g.settle())
	}
	run.done.Store(uint64(at.Position))
	folded := time.Since(started)
	// What the fold has in memory need not be read again.
	after := &previewSide{rules: g.rules, state: state, fold: g.fold, at: at, cached: previewRoom}
	stages, programmes, err := compareSides(ctx, before, after)
	if err != nil {
		return nil, err
	}
	v.logger.Info("previewed a policy", "position", at.Position, "policy_version", before.rules.Version,
		"folded", folded.Round(time.Millisecond), "took", time.Since(started).Round(time.Millisecond))
	return &PreviewReport{
		Position: at.Position, Clock: at.Clock.Time(), Policy: before.rules.Version, Changes: changes, Since: since, LeftOut: leftOut,
		Lifecycle: *stages, Loyalty: programmes,
	}, nil
}

// copyActive copies the state of the views that answer, at a checkpoint: files
// that never change are shared, so it takes a moment whatever their size.
func (v *Views) copyActive(dir string) (*previewSide, error) {
	v.readers.RLock() // it is not closed meanwhile
	defer v.readers.RUnlock()
	if err := v.previewable(); err != nil {
		return nil, err
	}
	v.mu.RLock()
	g := v.active
	v.mu.RUnlock()
	at := g.state.checkpoint()
	if err := g.state.db.Checkpoint(dir, pebble.WithFlushedWAL()); err != nil {
		return nil, fmt.Errorf("copy the state of the views: %w", err)
	}
	s, err := openStateToRead(dir, previewStateBytes, v.logger)
	if err != nil {
		return nil, err
	}
	// The state may have been flushed since, or have passed over events and time
	// that changed nothing, which it does not write.
	if c := s.checkpoint(); c.Position > at.Position || c.Clock > at.Clock {
		at = c
	}
	f := newFold(g.rules, v.cfg.Keyer, s, v.logger)
	f.position, f.clock, f.step = at.Position, at.Clock, at.Clock
	return &previewSide{rules: g.rules, state: s, fold: f, at: at, cached: 20_000}, nil
}

// preload reads the state in the order in which it stands, which is much faster than
// one record after another as they are asked for; not where it is too large for
// that.
func (p *previewSide) preload(ctx context.Context) error {
	f := p.fold
	var b breath
	records := 0
	each := func(kind byte, take func(key string, value []byte) error) error {
		return p.state.scan([]byte{kind}, []byte{kind + 1}, func(key, value []byte) error {
			if records++; records > 3*previewRoom {
				return errTooMany
			}
			if records%512 == 0 && ctx.Err() != nil {
				return ctx.Err()
			}
			b.take()
			return take(string(key[1:]), value)
		})
	}
	err := each(subjectKey("")[0], func(stream string, value []byte) error {
		s, err := parseSubject(stream, value)
		if err != nil {
			return fmt.Errorf("state of %s: %w", stream, err)
		}
		s.nobody = f.rules.compiled.Identity().Nobody(s.value)
		f.subjects[keyOf(stream)] = s
		return nil
	})
	if err == nil {
		err = each(membersKey("")[0], func(stream string, value []byte) error {
			if s := f.subjects[keyOf(stream)]; s != nil && s.memberCount > 0 {
				r := reader{b: value}
				r.version()
				s.members = r.strings()
				return r.done()
			}
			return nil
		})
	}
	if err == nil {
		err = each(customerKey([16]byte{})[0], func(id string, value []byte) error {
			c := &cust{}
			copy(c.id[:], id)
			f.customers[c.id] = c
			return c.parse(value)
		})
	}
	switch {
	case errors.Is(err, errTooMany):
		clear(f.subjects)
		clear(f.customers)
		return nil
	case err != nil:
		return fmt.Errorf("read the state of the views: %w", err)
	}
	p.cached = previewRoom
	return f.err
}

var errTooMany = errors.New("too many records to be kept in memory")

// breath lets a goroutine that works in the background give way to everybody else:
// it stands still for a moment now and then. To call runtime.Gosched would not do:
// as long as there is anything to run, a processor does not look at the network.
type breath struct{ last time.Time }

const (
	breathEvery = time.Millisecond // of work
	breathPause = 50 * time.Microsecond
)

func (b *breath) take() {
	if time.Since(b.last) >= breathEvery {
		time.Sleep(breathPause)
		b.last = time.Now()
	}
}

// politely has do give way where the fold is polite.
func politely[T any](f *fold, do func(*piece, T) error) func(*piece, T) error {
	if !f.polite {
		return do
	}
	return func(p *piece, x T) error {
		p.breath.take()
		return do(p, x)
	}
}

// politeStore is a log whose reader gives way to everybody else, and goes slowly
// while the views that answer have much to read.
type politeStore struct {
	eventstore.Store
	views *Views
	read  *atomic.Uint64 // the position it has come to
}

const (
	politeEvents = 1024                  // between two looks at the views
	politeLag    = 10_000                // events
	politePause  = 20 * time.Millisecond // at each look, where they lag more
)

// ReadAll implements eventstore.Store.
func (s *politeStore) ReadAll(ctx context.Context, after eventstore.Position) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		n := 0
		var b breath
		for e, err := range s.Store.ReadAll(ctx, after) {
			if n%16 == 0 {
				b.take()
			}
			if n%politeEvents == 0 && err == nil {
				s.read.Store(uint64(e.Position))
				if s.views.Status().LagEvents > politeLag && pause(ctx, politePause) != nil {
					yield(eventstore.Recorded{}, ctx.Err())
					return
				}
			}
			n++
			if !yield(e, err) {
				return
			}
		}
	}
}
