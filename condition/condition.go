// Package condition is the language of segments and of the where of triggers: a
// subset of CEL over what is known of one customer. A condition is compiled once,
// evaluated for a customer at an instant, and rendered as SQL over the public
// tables; both give the same members. It is pure: no clock, no I/O.
//
// The logic has three values, as CEL's errors and SQL's NULL have: what is absent,
// or of another type than it is compared with, is unknown, and unknown is not a
// member. Time enters only through counts, sums, first, last and since, each with a
// constant window, so that Eval can say when its answer may change next.
package condition

import (
	"fmt"

	"github.com/google/uuid"

	"sojourn/domain"
)

// Env says what a condition may name. A nil list or map leaves its names unchecked,
// which is how a saved condition is read under another policy.
type Env struct {
	Stages     []string
	Statuses   []string
	Meanings   []string
	Programmes map[string][]string // a programme's tiers
	Segments   []string            // those that in_segment may name
	// Event says that the condition is asked about an event: a trigger's where.
	Event bool
}

// Error is why a condition is refused.
type Error struct {
	Line, Column int // from 1; the column counts code points
	Message      string
}

func (e *Error) Error() string { return fmt.Sprintf("%d:%d: %s", e.Line, e.Column, e.Message) }

// Condition is a compiled condition; safe for concurrent use.
type Condition struct {
	text  string
	root  *node
	needs Needs
}

// String is the condition's text as it was compiled.
func (c *Condition) String() string { return c.text }

// Needs says what a condition asks of a Subject; what it does not name may be left
// empty there.
func (c *Condition) Needs() *Needs { return &c.needs }

// Needs lists are sorted and without duplicates.
type Needs struct {
	Stage        bool // also for stage_since
	Satisfaction bool // status and its since, index, open complaints
	Accounts     bool
	Event        bool
	Tiers        []string // programmes
	Points       []string // programmes
	Traits       []string // top-level keys
	Segments     []string
	Touchpoints  []Touchpoints
	Expiring     []Expiring
}

// Expiring are the points of a programme, pending ones too, that expire within a time.
type Expiring struct {
	Programme string
	Within    domain.Millis
}

// Selector picks touchpoints: by the event's name or by its meaning; one of the two
// is empty.
type Selector struct{ Name, Meaning string }

// Touchpoints says that a condition counts, sums or times touchpoints.
type Touchpoints struct {
	Selector
	// Window is the longest that it looks back, 0 where it looks back to the first.
	Window domain.Millis
	// Amounts says that amounts are summed.
	Amounts bool
}

// Step is a value from At on, up to the next step; the value before the first is
// absent. Of steps at one instant the last holds.
type Step[T any] struct {
	At    domain.Millis
	Value T
	By    Cause
}

// Cause is what changed something: a touchpoint or, where Rule is not empty, the
// deadline that counts from it.
type Cause struct {
	Rule       string
	Touchpoint uuid.UUID
}

// RuleSegment is the rule of a deadline that a condition itself sets: a touchpoint that
// leaves a window, or the time since it.
const RuleSegment = "segment"

// Touch is a touchpoint that a condition counts.
type Touch struct {
	At domain.Millis
	ID uuid.UUID
	// Amount counts where Currency is not empty.
	Amount   domain.Decimal
	Currency string
}

// Subject is what is known of one customer, over time: what is known today of each
// instant, with all that time alone will bring if nothing more happens. Lists are in
// the order of At. A Subject may be used by one goroutine at a time.
type Subject struct {
	// FirstSeen is the first touchpoint's, First; before it nobody is there to be a
	// member.
	FirstSeen domain.Millis
	First     uuid.UUID
	Stage     []Step[string]
	// Status is unknown before the first step. Index is NaN where there is none.
	Status     []Step[string]
	Index      []Step[float64]
	Complaints []Step[int64] // open ones, 0 before the first step
	// Tiers and Points are by programme. Before the first step, and where the tier is
	// empty, the customer is not in the programme.
	Tiers  map[string][]Step[string]
	Points map[string][]Step[int64] // available
	// Expiring is how many points expire within a time from then on, 0 before the first
	// step.
	Expiring map[Expiring][]Step[int64]
	// Traits are raw JSON by top-level key; nil or null removes the trait.
	Traits map[string][]Step[[]byte]
	// Accounts are by groupId, each with the touchpoint since which the customer is a
	// member.
	Accounts map[string]Touch
	// Segments are the memberships of segments that are named; false before the first
	// step.
	Segments    map[string][]Step[bool]
	Touchpoints map[Selector][]Touch
	// Until is the first instant of which the lists say nothing; 0 where they go on
	// for ever.
	Until domain.Millis

	sums map[sumKey][]number
}

// Event is the touchpoint, or the change, that a trigger's where is asked about.
type Event struct {
	Type, Name, Meaning, Channel, Source string
	// Amount counts where Currency is not empty.
	Amount     domain.Decimal
	Currency   string
	Properties []byte // a JSON object, as sent
	// From and To are those of a change of stage, tier or status, and Programme that
	// of a tier; empty for others.
	From, To, Programme string
}
