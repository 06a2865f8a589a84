// Package satisfaction decides how satisfied a customer is and how well they were
// served: a pure function of their surveys, reviews, complaints, tickets, chats and
// calls, of the policy and of the time. It gathers what the decision needs (Facts),
// lists every change of status, past and to come (Transitions), times the cases
// (Cases), sorts comments (Rules.Sort), says how a customer is to be treated
// (Rules.Service) and computes the figures of many customers (Figures).
package satisfaction

import (
	"fmt"
	"strings"

	"github.com/google/uuid"

	"sojourn/domain"
	"sojourn/domain/lifecycle"
)

// Status is how satisfied a customer is.
type Status string

// The statuses. A customer of whom nothing is known is Unknown from the start.
const (
	Delighted Status = "delighted"
	Satisfied Status = "satisfied"
	Neutral   Status = "neutral"
	Unhappy   Status = "unhappy"
	Unknown   Status = "unknown"
)

// Ref names a touchpoint and gives it its place.
type Ref = lifecycle.Ref

// Transition is one change of status.
type Transition struct {
	From, To Status
	At       domain.Millis
	// Index is the index from then on; it means nothing where To is Unknown.
	Index  float64
	Reason string // in plain words, without personal data
	Cause  Cause
}

// RuleFaded is the rule by which time alone makes a status unknown: the aged
// weights of all signals came below the floor.
const RuleFaded = "faded"

// Cause is the touchpoint that changed a status, or the deadline that did.
type Cause struct {
	// Rule is the deadline's; empty where the touchpoint itself is the cause.
	Rule string
	// Touchpoint is the cause, or the last signal before the deadline.
	Touchpoint uuid.UUID
}

// String is "touchpoint:<id>" or "deadline:faded:<id of the last signal>".
func (c Cause) String() string {
	if c.Rule == "" {
		return "touchpoint:" + c.Touchpoint.String()
	}
	return "deadline:" + c.Rule + ":" + c.Touchpoint.String()
}

// ParseCause reads what String wrote.
func ParseCause(s string) (Cause, error) {
	var c Cause
	rest, ok := strings.CutPrefix(s, "touchpoint:")
	if !ok {
		if rest, ok = strings.CutPrefix(s, "deadline:"+RuleFaded+":"); !ok {
			return Cause{}, fmt.Errorf("%q is no cause of a status", s)
		}
		c.Rule = RuleFaded
	}
	id, err := uuid.Parse(rest)
	if err != nil || len(rest) != 36 {
		return Cause{}, fmt.Errorf("%q is no cause of a status: it ends with no id", s)
	}
	c.Touchpoint = id
	return c, nil
}
