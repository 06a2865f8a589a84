// Package projections follows the log and keeps the views: the tables in
// ClickHouse, the statements in the log, and the answers about one customer.
package projections

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/google/uuid"

	"sojourn/domain"
	"sojourn/domain/fact"
	"sojourn/domain/satisfaction"
	"sojourn/eventstore"
)

// ErrNotFound is answered for a customer that has no touchpoint by the time
// asked about.
var ErrNotFound = errors.New("no such customer")

// ErrNoAccount is answered for an account that nothing had happened to by the time
// asked about.
var ErrNoAccount = errors.New("no such account")

// At is the time a question is about. The zero value asks as of now with all
// that is known now.
type At struct {
	// AsOf asks how it was at an instant, with all that is known. Zero: the time
	// of KnownAt where that is set, else the clock of the views.
	AsOf time.Time
	// KnownAt asks what the log would say had it ended with the last event
	// recorded at or before it. Zero: everything that the views have read.
	KnownAt time.Time
}

// Customer is the answer to where a customer stands.
type Customer struct {
	ID         uuid.UUID
	Stage      string
	StageSince time.Time
	Reason     string // of the last transition, in words
	Cause      string // "touchpoint:<event id>" or "deadline:<rule>:<event id it counts from>"
	Purchases  int    // not fully refunded
	Refunds    int    // refund events
	Revenue    map[string]string
	FirstSeen  time.Time
	LastSeen   time.Time
	Traits     map[string]json.RawMessage
	Subjects   []string // "user:42", "anon:8f3a"; the one that gives the id first
	// Loyalty is where it stands in the programmes that it is or was in; nil in lists.
	Loyalty []LoyaltyStanding
	// Satisfaction and Service are how satisfied it is and how it is to be treated; nil
	// in lists.
	Satisfaction *satisfaction.View
	Service      *satisfaction.Service
	AsOf         time.Time
}

// Account is the answer to where an account stands. Where the policy gives accounts
// no stage of their own, first and last seen are those of its group calls, and
// there are neither stage nor totals.
type Account struct {
	ID         uuid.UUID
	GroupID    string
	Stage      string
	StageSince time.Time // zero where there is no stage
	Reason     string
	Cause      string
	Purchases  int
	Refunds    int
	Revenue    map[string]string
	FirstSeen  time.Time
	LastSeen   time.Time
	Traits     map[string]json.RawMessage
	Members    int // customers
	AsOf       time.Time
}

// AccountMember is a customer that group calls attach to an account.
type AccountMember struct {
	Customer uuid.UUID
	Since    time.Time // occurred_at of the first of those calls
}

// Entry is one line of a timeline: a touchpoint, a transition or a delivery, which
// stands at the time at which automation decided on it.
type Entry struct {
	At         time.Time
	Touchpoint *TouchpointEntry
	Transition *TransitionEntry
	Delivery   *fact.Delivery
}

// TouchpointEntry is a touchpoint as the timeline shows it.
type TouchpointEntry struct {
	EventID    uuid.UUID
	Subject    string
	Source     string
	Type       string // track, identify, page, screen, group, alias
	Name       string
	Meaning    string
	Channel    string
	ReceivedAt time.Time
	RecordedAt time.Time
	Position   eventstore.Position
	Amount     string // decimal text, empty where there is none
	Currency   string
	OrderID    string
	Properties json.RawMessage
}

// TransitionEntry is a change of stage as the timeline shows it.
type TransitionEntry struct {
	Seq      int
	From, To string
	Reason   string
	Cause    string
}

// Status tells how far the views are.
type Status struct {
	// Ready says that the views answer: they have been opened, and where this is
	// their first build, have read what the log held at the start.
	Ready bool
	// LagEvents is the number of events that the slowest projection has yet to
	// read.
	LagEvents uint64
	Position  eventstore.Position
	Clock     domain.Millis
	// PolicyVersion is that of the views that answer; Generation their number.
	PolicyVersion int
	Generation    int
	// Building is the number of a generation that is built beside, 0 where none.
	Building int
	// Err is the last error of the runner, empty while all goes well.
	Err string
}
