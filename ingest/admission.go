package ingest

import (
	"context"
	"errors"
	"sync"
)

var (
	// ErrOverloaded asks the caller to come again in a moment: as many bytes are
	// under way as the configuration allows. Nothing of the call is in the log.
	ErrOverloaded = errors.New("ingest is overloaded")
	// ErrAway says that what keeps the messages does not take them now. Some of the
	// call may be kept; the same call again is harmless.
	ErrAway = errors.New("ingest cannot keep messages now")
	// ErrStopping refuses a call because the server is stopping.
	ErrStopping = errors.New("ingest is stopping")
)

// admission bounds the bytes under way and knows when none are left.
type admission struct {
	mu       sync.Mutex
	limit    int64
	bytes    int64
	calls    int
	stopping bool
	idle     chan struct{} // closed when stopping and no call is left
}

func newAdmission(limit int64) *admission {
	return &admission{limit: limit, idle: make(chan struct{})}
}

// enter begins a call; where forced it is neither refused nor limited.
func (a *admission) enter(bytes int64, forced bool) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !forced {
		if a.stopping {
			return ErrStopping
		}
		if a.bytes+bytes > a.limit {
			return ErrOverloaded
		}
	}
	a.bytes += bytes
	a.calls++
	return nil
}

func (a *admission) grow(bytes int64) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if bytes > 0 && a.bytes+bytes > a.limit {
		return ErrOverloaded
	}
	a.bytes += bytes
	return nil
}

func (a *admission) leave(bytes int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.bytes -= bytes
	a.calls--
	a.settle()
}

// settle tells those who wait that the last call has ended.
func (a *admission) settle() {
	if !a.stopping || a.calls > 0 {
		return
	}
	select {
	case <-a.idle:
	default:
		close(a.idle)
	}
}

func (a *admission) drain(ctx context.Context) error {
	a.mu.Lock()
	a.stopping = true
	a.settle()
	a.mu.Unlock()
	select {
	case <-a.idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (a *admission) inFlight() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.bytes
}

// Reservation is a call's share of the bytes that may be under way.
type Reservation struct {
	a     *admission
	bytes int64
	done  bool
}

// Reserve asks for room for a call whose body takes so many bytes, before it is
// read. The error is ErrOverloaded or ErrStopping. Release gives the room back.
func (in *Intake) Reserve(bytes int64) (*Reservation, error) {
	if err := in.admission.enter(bytes, false); err != nil {
		return nil, err
	}
	return &Reservation{a: in.admission, bytes: bytes}, nil
}

// Hold takes room that a call takes longer than the call itself, where what it
// handed on is still in memory; it is never refused. Release gives the room back.
func (in *Intake) Hold(bytes int64) *Reservation {
	_ = in.admission.enter(bytes, true) // forced, so there is no error
	return &Reservation{a: in.admission, bytes: bytes}
}

// InFlight is how many bytes are under way.
func (in *Intake) InFlight() int64 { return in.admission.inFlight() }

// Resize changes a reservation to what the call turned out to take. The error is
// ErrOverloaded, and then the reservation stays what it was.
func (r *Reservation) Resize(bytes int64) error {
	if err := r.a.grow(bytes - r.bytes); err != nil {
		return err
	}
	r.bytes = bytes
	return nil
}

// Bytes is what the reservation holds.
func (r *Reservation) Bytes() int64 { return r.bytes }

// Release ends the call. Calling it again does nothing.
func (r *Reservation) Release() {
	if !r.done {
		r.done = true
		r.a.leave(r.bytes)
	}
}

// Drain refuses new calls from now on (ErrStopping) and waits until those under
// way have ended or the context has. It may be called more than once.
func (in *Intake) Drain(ctx context.Context) error { return in.admission.drain(ctx) }
