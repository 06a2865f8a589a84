package fact

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/google/uuid"

	"sojourn/domain"
)

// State is where a delivery stands.
type State string

// The states of a delivery.
const (
	StatePlanned    State = "planned"   // waits for its time or its attempt
	StateAttempted  State = "attempted" // an attempt is under way, or was when the engine ended
	StateRetrying   State = "retrying"  // has failed and will be attempted again
	StateDelivered  State = "delivered"
	StateSuppressed State = "suppressed"
	StateDead       State = "dead" // has failed for good; can be sent again
)

// Delivery is what the facts say of one delivery.
type Delivery struct {
	// First is the fact that began it, Last the last one.
	First, Last Fact
	State       State
	Subject     uuid.UUID
	Round       int
	Attempts    int // of this round
	Total       int // attempts of all rounds
	Arm         Arm // the last that a fact of it says
	// PlannedAt is when its message is or was to be sent by the plan of this round,
	// 0 where it was never planned; SendAt is when the next attempt is due.
	PlannedAt, SendAt domain.Millis
	Reason            Reason // where it is suppressed
	// Sent says that an attempt was begun in any round.
	Sent bool
	// Decided is the time of the fact that planned it.
	Decided domain.Millis

	at uint64 // the position of the last fact
}

// Waits reports whether the engine has something left to do for it.
func (d *Delivery) Waits() bool {
	return d.State == StatePlanned || d.State == StateAttempted || d.State == StateRetrying
}

// Counts reports whether it counts in limits: it is planned, and what was planned
// was not suppressed before it was sent.
func (d *Delivery) Counts() bool { return d.PlannedAt != 0 && d.State != StateSuppressed }

// Entry is a fact and where it stands in the log.
type Entry struct {
	Fact
	Position uint64
	Subject  uuid.UUID
}

// History is what the facts of a customer say, folded in the order of the log.
// The zero History holds nothing.
type History struct {
	byID  map[uuid.UUID]*Delivery
	order []*Delivery
	arms  map[string]arms
}

type arms struct {
	arm   Arm
	mixed bool
}

// Fold folds facts, in whatever order they come.
func Fold(entries []Entry) *History {
	entries = slices.Clone(entries)
	slices.SortStableFunc(entries, func(a, b Entry) int { return cmp.Compare(a.Position, b.Position) })
	h := &History{}
	for i := range entries {
		h.Add(&entries[i])
	}
	return h
}

// Add takes the next fact of the log; one that is known already changes nothing.
func (h *History) Add(e *Entry) {
	if h.byID == nil {
		h.byID, h.arms = map[uuid.UUID]*Delivery{}, map[string]arms{}
	}
	d := h.byID[e.Delivery]
	if d == nil {
		if e.Change == nil {
			return // of a delivery whose beginning is another subject's
		}
		d = &Delivery{First: e.Fact, Subject: e.Subject}
		h.byID[e.Delivery] = d
		h.order = append(h.order, d)
	}
	if !d.Apply(e) {
		return
	}
	if e.Arm != NoArm {
		a, known := h.arms[e.Trigger]
		if !known {
			a.arm = e.Arm
		}
		a.mixed = a.mixed || a.arm != e.Arm
		h.arms[e.Trigger] = a
	}
}

// Apply takes the next fact of the delivery; it returns false where that is known
// already, or of a round that is over.
func (d *Delivery) Apply(e *Entry) bool {
	if d.at != 0 && d.at >= e.Position || e.Round < d.Round {
		return false
	}
	d.at, d.Last = e.Position, e.Fact
	if e.Arm != NoArm {
		d.Arm = e.Arm
	}
	switch e.Kind {
	case Planned:
		d.Round, d.Attempts, d.State, d.Reason = e.Round, 0, StatePlanned, ""
		d.PlannedAt, d.SendAt, d.Decided = e.SendAt, e.SendAt, e.At
	case Attempted:
		d.State, d.Attempts, d.Sent = StateAttempted, e.Number, true
		d.Total++
	case Delivered:
		d.State, d.Attempts = StateDelivered, e.Number
	case Failed:
		d.State, d.Attempts, d.SendAt = StateRetrying, e.Number, e.SendAt
		if e.Dead {
			d.State = StateDead
		}
	case Suppressed:
		d.State, d.Reason, d.Round = StateSuppressed, e.Reason, e.Round
	}
	return true
}

// Delivery is the delivery of an id, nil where there is none.
func (h *History) Delivery(id uuid.UUID) *Delivery { return h.byID[id] }

// Deliveries are all, in the order in which they began.
func (h *History) Deliveries() []*Delivery { return h.order }

// Arm is the side of a trigger's holdout that the customer is on, and whether
// facts of both sides stand, as after a merge. The first in the log counts.
func (h *History) Arm(trigger string) (Arm, bool) {
	a := h.arms[trigger]
	return a.arm, a.mixed
}

// earlier says of two deliveries which was planned before the other; of those of one
// instant, which stand in the log as chance has it, the lower id.
func (d *Delivery) earlier(than *Delivery) bool {
	if d.Decided != than.Decided {
		return d.Decided < than.Decided
	}
	return bytes.Compare(d.First.Delivery[:], than.First.Delivery[:]) < 0
}

// Sends counts the planned sends of a trigger (of all where it is empty) in
// (after, until] that were decided before another delivery, nil for all; without the
// delivery of an id.
func (h *History) Sends(trigger string, after, until domain.Millis, before *Delivery, without uuid.UUID) int {
	n := 0
	for _, d := range h.order {
		if !d.Counts() || trigger != "" && d.First.Trigger != trigger || d.First.Delivery == without {
			continue
		}
		if d.PlannedAt > after && d.PlannedAt <= until && (before == nil || d.earlier(before)) {
			n++
		}
	}
	return n
}
