package projections

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

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
	flushes atomic.Pointer[chan bool] // of the one under way
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

// flushing tells the preview under way that a flush begins or has ended.
func (s *previews) flushing(begins bool) {
	to := s.flushes.Load()
	for to != nil {
		select {
		case *to <- begins:
			return
		default:
		}
		select {
		case <-*to: // nobody has heard it, and now it is old
		default:
		}
	}
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

// preview has the task of a preview done: by whom Config.Preview says, or here, where
// it gives way to everybody else.
func (v *Views) preview(ctx context.Context, p policy.Policy, since time.Time, run *preview) (_ *PreviewReport, err error) {
	started := time.Now()
	dir, err := os.MkdirTemp(v.cfg.Dir, previewPrefix)
	if err != nil {
		return nil, fmt.Errorf("preview a policy: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	t := &PreviewTask{Dir: dir, Candidate: p, Since: since}
	if err := v.copyActive(t); err != nil {
		return nil, err
	}
	progress := func(done, total uint64) {
		run.done.Store(done)
		run.total.Store(total)
	}
	var report *PreviewReport
	if v.cfg.Preview != nil {
		flushes := make(chan bool, 1)
		t.Flushing = flushes
		v.previews.flushes.Store(&flushes)
		report, err = v.cfg.Preview(ctx, t, progress)
		v.previews.flushes.Store(nil)
	} else {
		report, err = t.run(ctx, &politeLog{v.cfg.Store, v}, v.cfg.Keyer, true, v.logger, progress)
	}
	if err != nil {
		return nil, err
	}
	v.logger.Info("previewed a policy", "position", report.Position, "policy_version", report.Policy, "took", time.Since(started).Round(time.Millisecond))
	return report, nil
}

// copyActive copies the state of the views that answer, at a checkpoint: files
// that never change are shared, so it takes a moment whatever their size.
func (v *Views) copyActive(t *PreviewTask) error {
	v.readers.RLock() // it is not closed meanwhile
	defer v.readers.RUnlock()
	if err := v.previewable(); err != nil {
		return err
	}
	v.mu.RLock()
	g := v.active
	v.mu.RUnlock()
	at, err := g.state.copyTo(t.state())
	if err != nil {
		return err
	}
	t.Position, t.Clock, t.Applied = at.Position, at.Clock, historyOf(v.applied()[:g.rules.Version])
	return nil
}

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

// politeLog is a log whose reader gives way to everybody else, and goes slowly while
// the views that answer have much to read.
type politeLog struct {
	PreviewLog
	views *Views
}

const (
	politeEvents = 1024                  // between two looks at the views
	politeLag    = 10_000                // events
	politePause  = 20 * time.Millisecond // at each look, where they lag more
)

// ReadAll implements PreviewLog.
func (s *politeLog) ReadAll(ctx context.Context, after eventstore.Position) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		n := 0
		var b breath
		for e, err := range s.PreviewLog.ReadAll(ctx, after) {
			if n%16 == 0 {
				b.take()
			}
			if n%politeEvents == 0 && err == nil && s.views.Status().LagEvents > politeLag && pause(ctx, politePause) != nil {
				yield(eventstore.Recorded{}, ctx.Err())
				return
			}
			n++
			if !yield(e, err) {
				return
			}
		}
	}
}
