// Package automation acts the moment a customer changes: it follows the log, offers
// what is news to the triggers (automation/trigger), records what it does as facts
// (domain/fact) and hands what is due to whoever delivers it (automation/delivery).
//
// Everything it knows it has from the log, so it may be killed at any time: a
// delivery is planned as a fact before it is attempted, the ids of facts follow from
// what they say, and an attempt whose end is not known is made again under the same
// delivery id.
package automation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"sojourn/automation/delivery"
	"sojourn/condition"
	"sojourn/domain"
	"sojourn/domain/fact"
	"sojourn/eventstore"
)

// Customer is a customer as far as automation asks.
type Customer struct {
	ID       uuid.UUID
	Subjects []Subject // the one that gives the id first
	// Been are the ids that its subjects have borne before, in any order.
	Been []uuid.UUID
	// Facts are what conditions are asked about.
	Facts *condition.Subject
	// Data is what templates see.
	Data delivery.CustomerData
}

// Subject is a subject of a customer: its id and the stream of its touchpoints.
type Subject struct {
	ID     uuid.UUID
	Stream string
}

// ErrNoCustomer is answered for an id that nobody bears.
var ErrNoCustomer = errors.New("there is no such customer")

// Views answers about customers from what the projections keep.
type Views interface {
	// WaitFor returns when the views hold a position, or with the context's error.
	WaitFor(ctx context.Context, position eventstore.Position) error
	// Customer is by all that the log holds when it is asked, whatever the views' lag:
	// the customer that an id, its own or one of its subjects', belongs
	// to. Its Data is as of now; its Facts, over all time, hold what needs names and
	// are nil where that is nil. ErrNoCustomer.
	Customer(ctx context.Context, id uuid.UUID, needs *condition.Needs) (*Customer, error)
	// Classify is what a touchpoint means by the policy in force.
	Classify(h *domain.Header) (meaning, channel string)
	// Members gives each customer who is in a segment at an instant, in any order; none
	// where there is no such segment. ErrNotReady while it is being computed.
	Members(ctx context.Context, segment string, at domain.Millis, each func(customer uuid.UUID) error) error
}

// Queue takes deliveries that wait for their time; *delivery.Dispatcher does.
type Queue interface {
	Submit(jobs ...delivery.Job)
}

// Log is the event store with its index of ids.
type Log interface {
	eventstore.Store
	eventstore.IDIndex
}

// Config is what an Engine is made of. Store, Views, Queue and Triggers are needed.
type Config struct {
	Store    Log
	Views    Views
	Queue    Queue
	Triggers *Triggers
	// Append makes what a trigger appends itself durable; it is repeated after a
	// crash, with the same delivery id.
	Append func(ctx context.Context, a *Appendix) error
	// Unsubscribe is the link with which a customer withdraws consent; nil for none.
	Unsubscribe func(customer uuid.UUID, consent string) string
	// Alone says that no other process can append to the log, so that nobody needs to
	// be asked before this engine acts.
	Alone bool
	// Schedule is when attempts are made; default delivery.DefaultSchedule.
	Schedule *delivery.Schedule
	// Now and After are the clock; default the wall clock.
	Now    func() time.Time
	After  func(time.Duration) <-chan time.Time
	Random func() float64 // from [0, 1)
	Logger *slog.Logger
	// Metrics counts; default: counters that nobody reads.
	Metrics *Metrics
}

// Engine is what acts. Its methods may be called concurrently.
type Engine struct {
	cfg      Config
	id       uuid.UUID
	registry *registry

	leaseMu sync.Mutex
	looked  time.Time

	// ticked is where the streams of ticks end, and nextTick when the next comes by the
	// triggers up to a revision.
	ticked    map[string]*ticked
	nextTick  domain.Millis
	tickRules uint64

	dry *dry  // of a dry run: what it goes through
	own queue // what Sojourn appends itself

	mu       sync.Mutex
	position eventstore.Position // all events up to it are dealt with
	moved    chan struct{}
	waiting  map[uuid.UUID]*pending
	sent     map[string]map[uuid.UUID]domain.Millis // planned sends, of triggers with a cap
	since    int                                    // events since the last checkpoint
	offered  bool                                   // whether anything was offered since then
	noted    time.Time                              // when it was written
	acting   bool
	err      error
	started  bool
	cancel   context.CancelFunc
	done     chan struct{}
}

// pending is a delivery that has not come to its end.
type pending struct {
	fact.Delivery
	destination string
}

// New makes an engine; Start lets it act.
func New(cfg Config) (*Engine, error) {
	if cfg.Store == nil || cfg.Views == nil || cfg.Queue == nil || cfg.Triggers == nil {
		return nil, errors.New("automation needs a log, views, a queue and triggers")
	}
	if cfg.Schedule == nil {
		s := delivery.DefaultSchedule()
		cfg.Schedule = &s
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.After == nil {
		cfg.After = time.After
	}
	if cfg.Random == nil {
		cfg.Random = rand.Float64
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Metrics == nil {
		cfg.Metrics = NewMetrics(nil)
	}
	e := &Engine{cfg: cfg, own: queue{wake: make(chan struct{}, 1)}}
	e.reset()
	return e, nil
}

// reset forgets everything: the log tells it again. Each term has an id of its own.
func (e *Engine) reset() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.id = uuid.New()
	e.registry = newRegistry(e.cfg.Triggers.compile)
	e.ticked, e.nextTick = map[string]*ticked{}, 0
	e.position, e.acting = 0, false
	e.since, e.offered, e.noted = 0, false, e.cfg.Now()
	e.waiting, e.sent = map[uuid.UUID]*pending{}, map[string]map[uuid.UUID]domain.Millis{}
}

func (e *Engine) now() domain.Millis { return domain.MillisOf(e.cfg.Now()) }

// Start lets the engine follow the log until Stop. It may be called once.
func (e *Engine) Start(ctx context.Context) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.started {
		return
	}
	ctx, e.cancel = context.WithCancel(context.WithoutCancel(ctx))
	e.started, e.done = true, make(chan struct{})
	var both sync.WaitGroup
	both.Go(func() { e.run(ctx) })
	both.Go(func() { e.runOwn(ctx) })
	go func() {
		defer close(e.done)
		both.Wait()
	}()
}

// Stop ends what Start has begun. It may be called twice, and without Start.
func (e *Engine) Stop() error {
	e.mu.Lock()
	cancel, done := e.cancel, e.done
	e.mu.Unlock()
	if cancel != nil {
		cancel()
		<-done
	}
	return nil
}

// run takes its turn to act, and begins anew after an error, later and later.
func (e *Engine) run(ctx context.Context) {
	wait := 500 * time.Millisecond
	for ctx.Err() == nil {
		began := e.cfg.Now()
		err := e.term(ctx)
		if ctx.Err() != nil {
			return
		}
		e.setErr(err)
		if errors.Is(err, errDeposed) {
			e.cfg.Logger.Warn("another process runs the automation by now")
		} else {
			e.cfg.Logger.Error("the automation has stopped and will go on", "in", wait, "error", err)
		}
		if e.cfg.Now().Sub(began) > time.Minute {
			wait = 500 * time.Millisecond
		}
		select {
		case <-ctx.Done():
		case <-e.cfg.After(wait):
		}
		wait = min(2*wait, 30*time.Second)
		e.reset()
	}
}

func (e *Engine) setErr(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.err, e.acting = err, err == nil && e.acting
	e.broadcast()
}

// term is the time for which this engine acts.
func (e *Engine) term(ctx context.Context) error {
	if err := e.take(ctx); err != nil {
		return err
	}
	after, err := e.resume(ctx)
	if err != nil {
		return err
	}
	caught := false
	for {
		n := 0
		batch := newBatch(e)
		for r, err := range e.cfg.Store.ReadAll(ctx, after) {
			if err != nil {
				return fmt.Errorf("follow the log: %w", err)
			}
			if err := batch.add(ctx, &r); err != nil {
				return err
			}
			after = r.Position
			if n++; n >= batchEvents || len(batch.offers) >= batchOffers {
				break
			}
		}
		if err := batch.run(ctx); err != nil {
			return err
		}
		full := n >= batchEvents || len(batch.offers) >= batchOffers
		moved, next := false, domain.MaxTime
		if !full {
			if moved, next, err = e.ticks(ctx); err != nil {
				return err
			}
		}
		e.reach(after)
		if err := e.checkpoint(ctx, after, n, len(batch.offers)); err != nil {
			return err
		}
		if full {
			continue
		}
		if !caught {
			// What the facts say waits is known by now.
			caught = true
			e.begin()
		}
		if moved {
			continue
		}
		if err := e.rest(ctx, after, next); err != nil {
			return fmt.Errorf("follow the log: %w", err)
		}
	}
}

// How much of the log is dealt with at once.
const (
	batchEvents = 4096
	batchOffers = 512
)

// begin submits what waits, once the log has been read.
func (e *Engine) begin() {
	e.mu.Lock()
	e.acting, e.err = true, nil
	var jobs []delivery.Job
	for _, p := range e.waiting {
		jobs = append(jobs, e.job(p))
	}
	e.broadcast()
	e.mu.Unlock()
	slices.SortFunc(jobs, func(a, b delivery.Job) int { return a.Due.Compare(b.Due) })
	e.submit(jobs...)
}

func (e *Engine) broadcast() {
	if e.moved != nil {
		close(e.moved)
		e.moved = nil
	}
}

func (e *Engine) reach(position eventstore.Position) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.position = position
	e.broadcast()
}

// WaitFor returns when the engine has dealt with a position and acts, or with the
// context's error.
func (e *Engine) WaitFor(ctx context.Context, position eventstore.Position) error {
	for {
		e.mu.Lock()
		if e.acting && e.position >= position {
			e.mu.Unlock()
			return nil
		}
		if e.moved == nil {
			e.moved = make(chan struct{})
		}
		moved := e.moved
		e.mu.Unlock()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-moved:
		}
	}
}

// State tells how far the engine is.
type State struct {
	// Acting says that this process is the one that acts, and has read the log.
	Acting   bool
	Position eventstore.Position
	Waiting  int // deliveries that have not come to their end
	Err      string
}

// State tells how far the engine is.
func (e *Engine) State() State {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := State{Acting: e.acting, Position: e.position, Waiting: len(e.waiting)}
	if e.err != nil {
		s.Err = e.err.Error()
	}
	return s
}

// CheckpointStream holds how far an engine was, and what waited then.
const CheckpointStream = "automation_checkpoints"

const typeCheckpoint = "automation.checkpoint.v1"

// A checkpoint is written after so many events, or after a while where changes were
// offered: what lies behind it is offered again after a crash.
const (
	checkpointEvents  = 50_000
	checkpointEvery   = 10 * time.Second
	checkpointWaiting = 5_000 // at most this many deliveries stand in one
)

type checkpointRecord struct {
	Position eventstore.Position                    `json:"position"`
	Waiting  []fact.Delivery                        `json:"waiting,omitempty"`
	Sent     map[string]map[uuid.UUID]domain.Millis `json:"sent,omitempty"`
}

// checkpoint notes how far the engine is, so that another need not begin at the
// start of the log. While too much waits, the one before stands.
func (e *Engine) checkpoint(ctx context.Context, position eventstore.Position, events, offers int) error {
	now := e.cfg.Now()
	e.mu.Lock()
	e.since += events
	e.offered = e.offered || offers > 0
	due := e.since >= checkpointEvents || e.offered && now.Sub(e.noted) >= checkpointEvery
	if !due || len(e.waiting) > checkpointWaiting {
		e.mu.Unlock()
		return nil
	}
	e.since, e.offered, e.noted = 0, false, now
	rec := checkpointRecord{Position: position, Sent: e.sent}
	for _, p := range e.waiting {
		rec.Waiting = append(rec.Waiting, p.Delivery)
	}
	data, err := json.Marshal(rec)
	e.mu.Unlock()
	if err != nil {
		return fmt.Errorf("note how far the automation is: %w", err)
	}
	if err := e.acts(ctx, true); err != nil {
		return err
	}
	_, err = e.cfg.Store.Append(ctx, CheckpointStream, eventstore.Any{}, eventstore.NewEvent{
		ID: uuid.NewSHA1(e.id, fmt.Appendf(nil, "checkpoint %d", position)), Type: typeCheckpoint, Data: data,
	})
	if err != nil {
		return fmt.Errorf("note how far the automation is: %w", err)
	}
	return nil
}

// resume takes up the last checkpoint.
func (e *Engine) resume(ctx context.Context) (eventstore.Position, error) {
	var rec checkpointRecord
	for r, err := range e.cfg.Store.ReadStream(ctx, CheckpointStream, eventstore.End, eventstore.Backwards) {
		if errors.Is(err, eventstore.ErrStreamNotFound) {
			break
		}
		if err == nil {
			err = json.Unmarshal(r.Data, &rec)
		}
		if err != nil {
			return 0, fmt.Errorf("read how far the automation was: %w", err)
		}
		break
	}
	for r, err := range e.cfg.Store.ReadStream(ctx, Stream, 0, eventstore.Forwards) {
		if errors.Is(err, eventstore.ErrStreamNotFound) || err == nil && r.Position > rec.Position {
			break
		}
		if err == nil {
			err = e.registry.apply(&r)
		}
		if err != nil {
			return 0, fmt.Errorf("read the triggers: %w", err)
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range rec.Waiting {
		d := &rec.Waiting[i]
		e.waiting[d.First.Delivery] = &pending{*d, d.First.To}
	}
	if rec.Sent != nil {
		e.sent = rec.Sent
	}
	return rec.Position, nil
}
