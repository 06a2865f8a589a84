package trigger

import (
	"hash/fnv"
	"math"
	"slices"
	"time"

	"github.com/google/uuid"

	"sojourn/domain"
	"sojourn/domain/fact"
)

// MaxDepth is how many triggers a chain has at most.
const MaxDepth = 5

// Candidate is a change that is offered to a trigger whose on and where it meets.
type Candidate struct {
	Delivery uuid.UUID
	Customer uuid.UUID
	// At is when it happened, and Offered when it is first offered.
	At, Offered domain.Millis
	// Chain are the triggers that led to it, the first first.
	Chain []string
	// ByHand says that a person sends what was stale: the limits up to stale are not
	// asked.
	ByHand bool
}

// Situation is what is so when a candidate is decided on.
type Situation struct {
	Paused  bool
	Consent bool           // the customer says yes; asked only where the trigger asks for it
	Zone    *time.Location // the customer's; nil is UTC
	History *fact.History
	// Sent are the planned sends of the trigger to all customers, where it has a cap.
	Sent []domain.Millis
	// Global bounds what one customer gets from all triggers; nil is no bound.
	Global *Bound
}

// Decision is what is to be done about a candidate.
type Decision struct {
	// Suppress says why nothing is sent; where it is empty the delivery is planned
	// for SendAt.
	Suppress fact.Reason
	SendAt   domain.Millis
	Arm      fact.Arm
}

// Bound is so many times within a period.
type Bound struct {
	Times int
	Per   domain.Millis
}

// Decide asks the limits in their order; the first that says no is the reason.
// Window and quiet hours only delay, so a period ends at the instant that they
// lead to.
func (t *Trigger) Decide(c *Candidate, s *Situation) Decision {
	if slices.Contains(c.Chain, t.ID) || len(c.Chain) >= MaxDepth {
		return Decision{Suppress: fact.Loop}
	}
	if !c.ByHand {
		switch {
		case s.Paused:
			return Decision{Suppress: fact.Paused}
		case c.Offered-c.At > t.freshness:
			return Decision{Suppress: fact.Stale}
		}
	}
	if t.Limits.Consent != nil && !s.Consent {
		return Decision{Suppress: fact.Consent}
	}
	var d Decision
	if d.Arm, _ = s.History.Arm(t.ID); d.Arm == fact.NoArm && t.Limits.Holdout > 0 {
		d.Arm = assign(t.ID, c.Customer, t.Limits.Holdout)
	}
	if d.Arm == fact.Held {
		d.Suppress = fact.Holdout
		return d
	}
	at := t.sendAt(c.Offered, s.Zone)
	if d.Suppress = t.bounded(at, s, nil, c.Delivery); d.Suppress == "" {
		d.SendAt = at
	}
	return d
}

// SendAt is when something is sent about what is offered at an instant, if at all, to a
// customer who is in a zone by what it has said.
func (t *Trigger) SendAt(offered domain.Millis, zone string) domain.Millis {
	return t.sendAt(offered, Zone(zone, t.Limits.TimeZone))
}

func (t *Trigger) sendAt(offered domain.Millis, zone *time.Location) domain.Millis {
	if at, ok := t.next(offered, zone); ok {
		return at
	}
	return offered // the document is refused that has no such moment in any week
}

// Again asks the limits that a merge may have put into the way of a planned
// delivery: of two under one limit the later planned is suppressed.
func (t *Trigger) Again(d *fact.Delivery, h *fact.History, global *Bound) fact.Reason {
	return t.bounded(d.PlannedAt, &Situation{History: h, Global: global}, d, d.First.Delivery)
}

// bounded asks the limits that count, for a send at an instant, against the
// sends that were planned before another delivery (nil: all).
func (t *Trigger) bounded(at domain.Millis, s *Situation, before *fact.Delivery, self uuid.UUID) fact.Reason {
	count := func(trigger string, per domain.Millis) int {
		return s.History.Sends(trigger, at-per, at, before, self)
	}
	switch {
	case t.Limits.Once && s.History.Sends(t.ID, math.MinInt64, math.MaxInt64, before, self) > 0:
		return fact.Once
	case t.atMost != nil && count(t.ID, t.atMost.Per) >= t.atMost.Times:
		return fact.AtMost
	case t.coolDown > 0 && count(t.ID, t.coolDown) > 0:
		return fact.CoolDown
	}
	if t.cap != nil {
		n := 0
		for _, sent := range s.Sent {
			if sent > at-t.cap.Per && sent <= at {
				n++
			}
		}
		if n >= t.cap.Times {
			return fact.Cap
		}
	}
	if s.Global != nil && count("", s.Global.Per) >= s.Global.Times {
		return fact.GlobalCap
	}
	return ""
}

// assign decides the arm of a customer by a hash, so that it needs no dice.
func assign(trigger string, customer uuid.UUID, share float64) fact.Arm {
	h := fnv.New64a()
	_, _ = h.Write([]byte(trigger))
	_, _ = h.Write([]byte{0})
	_, _ = h.Write(customer[:])
	x := h.Sum64()
	// FNV's high bits know little of the last bytes.
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	x ^= x >> 33
	if float64(x>>11)/(1<<53) < share {
		return fact.Held
	}
	return fact.Treated
}
