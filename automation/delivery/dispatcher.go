package delivery

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
)

// DispatcherConfig is what a Dispatcher is made of. All fields are needed but
// Disable and Logger.
type DispatcherConfig struct {
	// Senders make the attempts, by kind.
	Senders map[Kind]Sender
	// Destination is a destination as it stands; ok is false for none of that name.
	Destination func(name string) (d Destination, ok bool)
	Deliveries  Deliveries
	// Disable is told of a destination that answered Gone. With an error it is told
	// again at the next such answer.
	Disable func(ctx context.Context, name, reason string) error
	Logger  *slog.Logger
}

// Dispatcher makes attempts when they are due. Each destination has a queue, a
// rate, a limit of attempts at one time and a circuit breaker of its own, so that
// a slow or dead one delays no other.
//
// It keeps nothing: what waits is the engine's to submit again after a restart.
// Its clock is time's, which testing/synctest simulates.
type Dispatcher struct {
	cfg    DispatcherConfig
	ctx    context.Context
	cancel context.CancelFunc
	tasks  sync.WaitGroup

	mu    sync.Mutex
	lanes map[string]*lane
}

// again is how long the Dispatcher waits before it asks the engine once more.
const again = time.Second

// finishWithin is how long a Done may take that a stop meets under way.
const finishWithin = 5 * time.Second

// NewDispatcher starts a dispatcher.
func NewDispatcher(cfg DispatcherConfig) *Dispatcher {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	d := &Dispatcher{cfg: cfg, lanes: make(map[string]*lane)}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	return d
}

// Submit puts jobs into the queues of their destinations. A job that waits or is
// under way already is not taken twice. It does not block; after Stop it does
// nothing.
func (d *Dispatcher) Submit(jobs ...Job) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ctx.Err() != nil {
		return
	}
	for _, j := range jobs {
		l := d.lanes[j.Destination]
		if l == nil {
			l = newLane(d, j.Destination)
			d.lanes[j.Destination] = l
			d.tasks.Go(l.run)
		}
		l.submit(j)
	}
}

// Changed says that a destination is not as it was: it is looked up again, and its
// circuit breaker begins anew.
func (d *Dispatcher) Changed(name string) {
	d.mu.Lock()
	l := d.lanes[name]
	d.mu.Unlock()
	if l != nil {
		l.changed()
	}
}

// Stop ends the attempts under way and waits for what is being recorded of them.
// An attempt that a stop has cut short is not reported: whether it arrived is
// unknown, and it is to be made again. Stopping twice is harmless.
func (d *Dispatcher) Stop() {
	d.mu.Lock()
	d.cancel()
	d.mu.Unlock()
	d.tasks.Wait()
}

// State says in a word how a destination is.
type State string

// The states of a destination.
const (
	StateReady    State = "ready"
	StatePaused   State = "paused"   // it asked to be left alone, see Until
	StateOpen     State = "open"     // the circuit breaker waits, see Until
	StateTesting  State = "testing"  // the breaker lets one attempt at a time through
	StateDisabled State = "disabled" // by a person or by 410
	StateMissing  State = "missing"  // there is none of that name
)

// Status is how a destination and its queue are.
type Status struct {
	Name     string
	State    State
	Until    time.Time // the end of paused and open; zero else
	Waiting  int       // jobs in the queue, those included that are not due yet
	Due      time.Time // of the job that has waited longest; zero for none
	InFlight int       // attempts under way
	Failures int       // in a row
	// What became of the attempts since the start.
	Attempts, Delivered uint64
	LastAttempt         time.Time // its end; zero for none
	LastStatus          int
	LastError           string // empty where the last one was delivered
}

// Status is the state of every destination that has had a job since the start, by
// name.
func (d *Dispatcher) Status() []Status {
	d.mu.Lock()
	lanes := make([]*lane, 0, len(d.lanes))
	for _, l := range d.lanes {
		lanes = append(lanes, l)
	}
	d.mu.Unlock()
	all := make([]Status, len(lanes))
	for i, l := range lanes {
		all[i] = l.status()
	}
	slices.SortFunc(all, func(a, b Status) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// attempt takes a job through one attempt.
func (d *Dispatcher) attempt(l *lane, j Job, dest Destination) {
	a, err := d.cfg.Deliveries.Prepare(d.ctx, j, &dest)
	switch {
	case err != nil:
		if d.ctx.Err() == nil {
			d.cfg.Logger.Warn("a delivery cannot be prepared", "delivery", j.ID, "destination", j.Destination, "error", err)
		}
		l.putBack(j)
		return
	case a == nil:
		l.finished(j)
		return
	}
	a.ID, a.Number, a.Destination = j.ID, j.Number, dest
	var o Outcome
	if s := d.cfg.Senders[dest.Kind]; s != nil {
		o = s.Send(d.ctx, a)
	} else {
		o = Outcome{Retry: true, Error: "this server has nothing to send to a destination of kind " + string(dest.Kind)}
	}
	if d.ctx.Err() != nil && !o.Delivered {
		l.finished(j)
		return
	}
	if o.Gone && d.cfg.Disable != nil {
		if err := d.cfg.Disable(d.ctx, dest.Name, "answered 410 Gone"); err != nil {
			d.cfg.Logger.Error("a destination that is gone cannot be disabled", "destination", dest.Name, "error", err)
		}
	}
	l.observe(o)
	d.done(j, a, o)
	l.finished(j)
}

// done reports an outcome until the engine has taken it.
func (d *Dispatcher) done(j Job, a *Attempt, o Outcome) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(d.ctx))
	defer cancel()
	// From a stop on there is a little time left.
	defer context.AfterFunc(d.ctx, func() { time.AfterFunc(finishWithin, cancel) })()
	for {
		err := d.cfg.Deliveries.Done(ctx, j, a, o)
		if err == nil {
			return
		}
		if d.ctx.Err() == nil || !errors.Is(err, context.Canceled) {
			d.cfg.Logger.Error("the outcome of an attempt is not recorded", "delivery", j.ID, "destination", j.Destination, "error", err)
		}
		select {
		case <-time.After(again):
		case <-d.ctx.Done():
			return
		}
	}
}

// jobKey is what a queue holds once.
type jobKey struct {
	id     uuid.UUID
	number int
}

func (j *Job) key() jobKey { return jobKey{j.ID, j.Number} }
