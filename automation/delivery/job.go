package delivery

import (
	"context"
	"time"

	"github.com/google/uuid"
)

// Job is a delivery that waits for its next attempt.
type Job struct {
	ID          uuid.UUID // of the delivery
	Number      int       // of the attempt, from 1
	Destination string    // its name
	// Due is when the attempt is to be made, at the earliest.
	Due time.Time
	// GiveUp ends the wait for a destination that is down, disabled or too slow;
	// zero for never. See Schedule.GiveUp.
	GiveUp time.Time
}

// Deliveries is the engine's side of the Dispatcher. Both methods may be called
// concurrently, for one delivery in turn: Prepare, then Done.
type Deliveries interface {
	// Prepare makes the attempt ready right before it is made: the queue, the rate
	// and the circuit breaker allow it now. It is the place to ask whether the
	// delivery still stands, to render the message at the first attempt, and to
	// record that an attempt begins. nil and no error: nothing is to be sent, and
	// Done is not called. With an error the job is offered again a second later.
	// The Attempt's ID, Number and Destination are set by the Dispatcher.
	Prepare(ctx context.Context, j Job, d *Destination) (*Attempt, error)
	// Done takes the outcome and records it; a further attempt is a new Job, which
	// Done may submit itself. attempt is nil where none was made by GiveUp.
	// With an error Done is called again, a second later.
	Done(ctx context.Context, j Job, attempt *Attempt, o Outcome) error
}
