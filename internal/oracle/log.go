// Package oracle answers who is one customer and where each stands, in the
// plainest way there is: from the whole log, anew for every question. Tests hold
// the real views against it. It is written to be compared with the words of
// docs/decisions/0006-who-is-one-customer.md and of the stage table, sentence by
// sentence, never for speed: its cost grows with the cube of a customer's
// touchpoints. It shares no rule with what it judges.
package oracle

import (
	"encoding/json"
	"slices"

	"github.com/google/uuid"

	"sojourn/domain"
	"sojourn/domain/commerce"
	"sojourn/domain/policy"
)

// Log is a log in its own order. It may hold duplicates.
type Log []Event

// Event is one event of the log; exactly one of the pointers is set. An event
// whose id another before it has is a duplicate.
type Event struct {
	RecordedAt domain.Millis
	ID         uuid.UUID

	Touchpoint *Touchpoint
	Merge      *Merge
	Split      *Split
	Policy     *Policy
}

// Touchpoint is a message as it was sent, and what the policy made of it.
type Touchpoint struct {
	Kind domain.Kind
	// The identifiers, empty where missing or no identity when it was received.
	User, Anon, Previous string
	OccurredAt           domain.Millis
	Device               string // context.device.id
	ExternalIDs          []ExternalID
	Traits               map[string]json.RawMessage // of an identify
	Meaning              policy.Meaning
	Order                commerce.Order // what commerce.Read made of it
}

// ExternalID is an entry of context.externalIds as sent.
type ExternalID struct{ ID, Type, Collection string }

// Merge is a decision that the named subjects are one customer. Members are all
// subjects that their customers had when it was made.
type Merge struct{ Named, Members []domain.Subject }

// Split is a decision that those that leave are another customer than those that
// stay.
type Split struct{ Leave, Stay []domain.Subject }

// Policy is the part of a policy that the oracle goes by.
type Policy struct {
	Currency  string
	Lifecycle policy.Lifecycle
	// Join are the kinds that join automatically, by rank.
	Join []domain.SubjectKind
	// Limits are how many subjects of a kind one customer may have; 0 is any
	// number. For a kind without one: a user, any number of anon, five of others.
	Limits     map[domain.SubjectKind]int
	AliasUsers bool
	Nobody     []string
}

// DefaultPolicy is the one of a log that holds none.
func DefaultPolicy() Policy {
	p := policy.Default()
	return Policy{
		Currency: p.Currency, Lifecycle: p.Lifecycle,
		Join: []domain.SubjectKind{domain.User, domain.Anon, email},
	}
}

// The kinds of subject that are normalised or have a field of their own.
const (
	email  domain.SubjectKind = "email"
	phone  domain.SubjectKind = "phone"
	device domain.SubjectKind = "device"
)

// KnownAt is the log as if it had ended with the last event recorded at or before
// an instant.
func (l Log) KnownAt(t domain.Millis) Log {
	var known Log
	for _, e := range l {
		if e.RecordedAt <= t {
			known = append(known, e)
		}
	}
	return known
}

// once is the log without duplicates: of several events with one id the first
// stands.
func (l Log) once() Log {
	seen := map[uuid.UUID]bool{}
	var out Log
	for _, e := range l {
		if !seen[e.ID] {
			seen[e.ID] = true
			out = append(out, e)
		}
	}
	return out
}

// policy is the one in force at the end of the log.
func (l Log) policy() Policy {
	for _, e := range slices.Backward(l) {
		if e.Policy != nil {
			return *e.Policy
		}
	}
	return DefaultPolicy()
}

// MergeOf is the merge of the named subjects if it were decided at the end of the
// log.
func (l Log) MergeOf(named ...domain.Subject) *Merge {
	return &Merge{named, l.membersOf(named)}
}

// SplitOf is the split of subjects of one customer from the rest of it, or from
// the customer of another subject where one is given, if it were decided at the
// end of the log. The rest of their own customer stays with those that leave from
// another's.
func (l Log) SplitOf(leave []domain.Subject, from ...domain.Subject) *Split {
	var stay []domain.Subject
	for _, s := range l.membersOf(append(from, leave[0])[:1]) {
		if !slices.Contains(leave, s) {
			stay = append(stay, s)
		}
	}
	return &Split{leave, stay}
}

func (l Log) membersOf(named []domain.Subject) []domain.Subject {
	id := l.Identity()
	var members []domain.Subject
	for _, n := range named {
		for _, s := range append(id.Customer(n), n) {
			if !slices.Contains(members, s) {
				members = append(members, s)
			}
		}
	}
	slices.SortFunc(members, compareSubjects)
	return members
}
