package projections

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"

	"sojourn/domain"
	"sojourn/eventstore"
	"sojourn/warehouse"
)

// Config says what the views are made of.
type Config struct {
	Store eventstore.Store
	DB    *warehouse.DB
	Keyer domain.Keyer
	// Dir holds the state of the generations. It may be deleted: the views are
	// then built anew.
	Dir string
	// Workers says that processes share the views: this one makes the rows and
	// statements of its Shard, or with Reader none and answers only. Whoever has the
	// API answers about every customer from a state of its own. See
	// docs/decisions/0010.
	Workers bool
	Reader  bool
	Shard   Shard
	// Failed hears, once, why a worker has stopped for good: another process has its
	// part (ErrFenced), or the views are kept by another number of workers.
	Failed func(error)
	// FlushInterval is the shortest time between two flushes while everything has
	// been read. Default 500 ms.
	FlushInterval time.Duration
	// Preview computes previews elsewhere: in another process, say, that has
	// PreviewTask.Run do it, so that what it costs is at nobody's expense. It ends, and
	// whatever it has begun, soon after its context does. Default: in this process.
	Preview func(ctx context.Context, t *PreviewTask, progress func(done, total uint64)) (*PreviewReport, error)
	// Now is the wall clock. Default time.Now.
	Now    func() time.Time
	Logger *slog.Logger
}

// Views keeps the views and answers from them. One generation answers; another
// may be built beside it.
type Views struct {
	cfg    Config
	logger *slog.Logger

	mu sync.RWMutex
	// active answers questions; loop is its running loop, nil while it stands
	// still.
	active   *generation
	loop     *loop
	building warehouse.Generation
	// policies are those that were applied; a longer slice takes its place.
	policies []appliedRules
	segments segmentHistory
	// rules are those of the last policy, with the segments in force.
	rules *Rules
	// shows is the generation that the tables show.
	shows warehouse.Generation
	// outdate gives up the build under a policy that is in force no more, nil
	// where none is under way.
	outdate context.CancelCauseFunc
	ready   bool
	lastErr error
	trouble error           // why rows cannot be written at the moment
	ctx     context.Context // of Start, for the loops

	// Of workers: what they agreed on (mu), the generation that is built beside the
	// active one, and its loop.
	agreed   layout
	next     *generation
	nextLoop *loop
	failed   sync.Once

	inForce   atomic.Pointer[Rules] // of the last of policies
	applying  sync.Mutex            // held by the one apply under way
	exclusive sync.Mutex            // rebuild, verify and a switch, one at a time
	// readers is held for reading while a question is answered from a state, so
	// that it is not closed under it.
	readers sync.RWMutex
	// heavy is the number of touchpoints above which a customer's answers come
	// from the tables; pasts answer what was known earlier.
	heavy    uint64
	pasts    pasts
	previews previews
	moved    broadcast
	desk     *desk
	ahead    ahead
	done     sync.WaitGroup
	cancel   context.CancelFunc
}

// loop is a generation that follows the log in a goroutine.
type loop struct {
	cancel context.CancelFunc
	done   chan struct{}
}

const stateCacheBytes = 32 << 20

// Start opens the views, finishes what a crash has cut short, and begins to
// follow the log. Where there are none yet, or none that this release and the
// policy in force can go on with, they are built: beside the old ones where
// those can answer meanwhile. The context bounds Start only; Stop ends what it
// has begun.
func Start(ctx context.Context, cfg Config) (*Views, error) {
	if cfg.FlushInterval <= 0 {
		cfg.FlushInterval = 500 * time.Millisecond
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	v := &Views{cfg: cfg, logger: cfg.Logger, heavy: heavyCustomer}
	v.ctx, v.cancel = context.WithCancel(context.WithoutCancel(ctx))
	v.ahead.views = v
	v.desk = &desk{follower: follower{views: v, bare: true}, wake: make(chan struct{}, 1), unfinished: map[uuid.UUID]*command{}}
	if err := v.open(ctx); err != nil {
		return nil, errors.Join(err, v.Stop())
	}
	return v, nil
}

// ErrClosed is answered once Stop has been called.
var ErrClosed = errors.New("the views are closed")

func (v *Views) open(ctx context.Context) (err error) {
	if v.policies, err = readPolicies(ctx, v.cfg.Store); err != nil {
		return err
	}
	if v.segments, err = readSegments(ctx, v.cfg.Store, segmentHistory{logger: v.logger}); err != nil {
		return err
	}
	v.renew()
	latest := v.latest()
	v.inForce.Store(latest)
	if err := os.MkdirAll(v.cfg.Dir, 0o750); err != nil {
		return fmt.Errorf("create the folder of the views: %w", err)
	}
	if v.cfg.Workers {
		return v.openWorker(ctx)
	}
	numbers, err := v.cfg.DB.Generations(ctx)
	if err != nil {
		return err
	}
	if err := v.alone(ctx, numbers); err != nil {
		return err
	}
	named, err := v.readPointer()
	if err != nil {
		return err
	}
	number := named.Generation
	if number == 0 || !slices.Contains(numbers, number) || !v.exists(number) {
		if v.active, err = v.create(ctx, latest); err != nil {
			return err
		}
		if err := v.point(pointer{Generation: v.active.number}); err != nil {
			return err
		}
	} else if v.active, err = v.reopen(ctx, number); err != nil {
		return err
	}
	// Once more at every start: it finishes a switch that was cut short.
	if err := v.cfg.DB.Activate(ctx, v.active.number); err != nil {
		return err
	}
	v.shows = v.active.number
	if err := v.dropOthers(ctx); err != nil {
		return err
	}
	v.active.built = named.Built
	v.ready = v.active.state.checkpoint().Reconciled
	v.startLoop()
	v.done.Go(v.buildLatest)
	v.done.Go(func() { v.desk.run(v.ctx) })
	return nil
}

// create makes a generation that holds nothing yet.
func (v *Views) create(ctx context.Context, rules *Rules) (*generation, error) {
	numbers, err := v.cfg.DB.Generations(ctx)
	if err != nil {
		return nil, err
	}
	next := warehouse.Generation(1)
	if len(numbers) > 0 {
		next = numbers[len(numbers)-1] + 1
	}
	for v.exists(next) {
		next++
	}
	if err := v.cfg.DB.CreateGeneration(ctx, next); err != nil {
		return nil, err
	}
	return v.openGeneration(ctx, next, rules)
}

// reopen opens the generation that was active. Its policy is the one it was
// built under.
func (v *Views) reopen(ctx context.Context, number warehouse.Generation) (*generation, error) {
	if err := v.cfg.DB.CreateGeneration(ctx, number); err != nil {
		return nil, err
	}
	g, err := v.openGeneration(ctx, number, nil)
	if err != nil {
		return nil, err
	}
	return g, nil
}

func (v *Views) stateDir(n warehouse.Generation) string { return filepath.Join(v.cfg.Dir, n.String()) }

func (v *Views) exists(n warehouse.Generation) bool {
	_, err := os.Stat(v.stateDir(n))
	return err == nil
}

// openGeneration opens the state of a generation and finishes the batch that was
// under way. rules are those of a new one; nil stands for those of its
// checkpoint.
func (v *Views) openGeneration(ctx context.Context, n warehouse.Generation, rules *Rules) (*generation, error) {
	s, err := openState(vfs.Default, v.stateDir(n), stateCacheBytes, v.logger)
	if err != nil {
		return nil, err
	}
	if rules == nil {
		rules = v.rulesOf(s.checkpoint())
	}
	g := &generation{
		number: n, rules: rules, store: v.cfg.Store, keyer: v.cfg.Keyer,
		sink: tables{v.cfg.DB, n, v.cfg.Shard}, shard: v.cfg.Shard, state: s, now: v.cfg.Now, logger: v.logger, changed: v.moved.send, flushing: v.previews.flushing, trouble: v.setTrouble,
	}
	if err := g.recover(ctx); err != nil {
		if at := s.checkpoint(); at.Fold == 0 || at.Fold == foldVersion {
			return nil, errors.Join(err, s.close())
		}
		v.logger.Warn("the views of an earlier release cannot go on until they are built anew", "generation", n, "error", err)
	}
	return g, nil
}

// pointer is the file that names the generation that answers.
type pointer struct {
	Generation warehouse.Generation `json:"generation"`
	// Built says that it was built before it became active: only its statements
	// may be left to reconcile.
	Built bool `json:"built"`
}

func (v *Views) readPointer() (p pointer, err error) {
	b, err := os.ReadFile(filepath.Join(v.cfg.Dir, "active.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	if err != nil {
		return p, fmt.Errorf("read which views are active: %w", err)
	}
	if err := json.Unmarshal(b, &p); err != nil {
		v.logger.Warn("the file that names the active views is damaged; building them anew", "error", err)
		return pointer{}, nil
	}
	return p, nil
}

// point makes durable which generation answers: by writing the name beside the
// old one, and renaming.
func (v *Views) point(p pointer) error {
	b, err := json.Marshal(p)
	if err != nil {
		return err
	}
	if err := replaceFile(filepath.Join(v.cfg.Dir, "active.json"), b); err != nil {
		return fmt.Errorf("write which views are active: %w", err)
	}
	return nil
}

func replaceFile(path string, data []byte) error {
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// dropOthers removes what is left of generations other than the active one.
func (v *Views) dropOthers(ctx context.Context) error {
	numbers, err := v.cfg.DB.Generations(ctx)
	if err != nil {
		return err
	}
	for _, n := range numbers {
		if n != v.active.number {
			if err := v.cfg.DB.DropGeneration(ctx, n); err != nil {
				return err
			}
		}
	}
	entries, err := os.ReadDir(v.cfg.Dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() && e.Name() != v.active.number.String() {
			if err := os.RemoveAll(filepath.Join(v.cfg.Dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// startLoop lets the active generation follow the log.
func (v *Views) startLoop() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.ctx.Err() != nil {
		return
	}
	ctx, cancel := context.WithCancel(v.ctx)
	l := &loop{cancel: cancel, done: make(chan struct{})}
	v.loop = l
	g := v.active
	go func() {
		defer close(l.done)
		v.follow(ctx, g)
	}()
}

// stopLoop lets the active generation stand still at a checkpoint.
func (v *Views) stopLoop() {
	v.mu.Lock()
	l := v.loop
	v.loop = nil
	v.mu.Unlock()
	if l != nil {
		l.cancel()
		<-l.done
	}
}

// follow runs a generation until the context ends. After an error it starts again
// from the state, later and later.
func (v *Views) follow(ctx context.Context, g *generation) {
	defer func() { _ = g.settle() }() // wherever it was stopped; recover does again what has failed
	wait := 500 * time.Millisecond
	var err error
	if !g.clean() {
		// It was stopped in the middle of a batch.
		err = g.recover(ctx)
	}
	for {
		started := time.Now()
		if err == nil {
			err = v.followOnce(ctx, g)
		}
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, ErrFenced) {
			v.fail(err)
			return
		}
		v.setErr(err)
		if time.Since(started) > time.Minute {
			wait = 500 * time.Millisecond
		}
		v.logger.Error("the views have stopped and will go on", "in", wait, "error", err)
		if pause(ctx, wait) != nil {
			return
		}
		wait = min(2*wait, 30*time.Second)
		err = g.recover(ctx)
	}
}

func (v *Views) followOnce(ctx context.Context, g *generation) error {
	if g.reader {
		if err := v.wait(ctx, g); err != nil {
			return err
		}
	} else if v.cfg.Workers && g.fold.silent {
		if err := v.take(ctx, g); err != nil {
			return errors.Join(g.settle(), err)
		}
	} else if g.fold.silent {
		// Views that were built beside others go on where those stopped, and what
		// has come since is news as ever. A first build has nobody to go on from.
		catchUp := func() error { return g.runToEnd(ctx, nil) }
		if g.built {
			catchUp = func() error { return g.goOn(ctx, 0) }
		}
		if err := catchUp(); err != nil {
			return errors.Join(g.settle(), err)
		}
		if err := g.reconcile(ctx); err != nil {
			return errors.Join(g.settle(), err)
		}
	}
	v.setErr(nil)
	return g.run(ctx, v.cfg.FlushInterval)
}

func (v *Views) setErr(err error) {
	v.mu.Lock()
	v.lastErr = err
	if err == nil {
		v.ready = true
	}
	v.mu.Unlock()
	v.moved.send()
}

// setTrouble notes why ClickHouse takes no rows at the moment, and nil when it does
// again.
func (v *Views) setTrouble(err error) {
	v.mu.Lock()
	v.trouble = err
	v.mu.Unlock()
	v.moved.send()
}

// Stop ends everything that Start has begun, at a checkpoint, and closes the
// state. It may be called twice.
func (v *Views) Stop() error {
	v.mu.Lock() // no more is begun
	v.previews.mu.Lock()
	v.cancel()
	v.previews.mu.Unlock()
	v.mu.Unlock()
	v.done.Wait()
	v.ahead.close()
	v.pasts.close()
	v.previews.work.Wait()
	v.exclusive.Lock() // a rebuild or verification has ended
	defer v.exclusive.Unlock()
	v.stopLoop()
	nextErr := v.stopNext()
	v.readers.Lock() // no question is being answered any more
	defer v.readers.Unlock()
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.active == nil {
		return nextErr
	}
	err := v.active.state.close()
	v.active = nil
	return errors.Join(nextErr, err)
}

// Status tells how far the views are.
func (v *Views) Status() Status {
	v.mu.RLock()
	defer v.mu.RUnlock()
	s := Status{Building: int(v.building)}
	if v.lastErr != nil {
		s.Err = v.lastErr.Error()
	}
	if s.Err == "" && v.trouble != nil {
		s.Err = v.trouble.Error()
	}
	if v.active == nil {
		return s
	}
	at := v.active.state.checkpoint()
	s.Ready = v.ready
	s.Position, s.Clock = at.Position, at.Clock
	s.PolicyVersion, s.Generation = v.active.rules.Version, int(v.active.number)
	if head, err := v.cfg.Store.Head(v.ctx); err == nil && head > at.Position {
		s.LagEvents = uint64(head - at.Position)
	}
	return s
}

// WaitFor returns when the views hold a position, or with the context's error.
func (v *Views) WaitFor(ctx context.Context, position eventstore.Position) error {
	for {
		ch := v.moved.wait()
		v.mu.RLock()
		ok := v.active != nil && v.active.state.checkpoint().Position >= position
		v.mu.RUnlock()
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-v.ctx.Done():
			return ErrClosed
		case <-ch:
		}
	}
}

// broadcast wakes all who wait.
type broadcast struct {
	mu sync.Mutex
	ch chan struct{}
}

func (b *broadcast) wait() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch == nil {
		b.ch = make(chan struct{})
	}
	return b.ch
}

func (b *broadcast) send() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch != nil {
		close(b.ch)
		b.ch = nil
	}
}
