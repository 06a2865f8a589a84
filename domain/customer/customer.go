// Package customer holds what is kept of a customer: the facts of its subjects,
// merged, and the answers that follow from them.
package customer

import (
	"sojourn/domain"
	"sojourn/domain/lifecycle"
	"sojourn/domain/policy"
)

// Facts are what the answers need of a set of touchpoints: one subject's, and
// merged those of a customer. The zero value is the empty set. Not safe for
// concurrent use, not even for reading.
type Facts struct {
	// FirstSeen and LastSeen are the earliest and the latest occurred_at; they
	// mean nothing while Touchpoints is zero.
	FirstSeen, LastSeen domain.Millis
	Touchpoints         uint64
	// Traits are sorted by key; those removed by a null stay as tombstones.
	Traits    []Trait
	Lifecycle lifecycle.Facts
}

// Trait is one trait as an identify gave it.
type Trait struct {
	Key   string
	Value []byte        // raw JSON; null removes the trait
	Ref   lifecycle.Ref // the identify; the last one that names a key decides
}

// Removed reports whether the trait is a tombstone.
func (t Trait) Removed() bool { return len(t.Value) == 0 || string(t.Value) == "null" }

// View is the answer about a customer at a clock.
type View struct {
	Stage      lifecycle.Stage // None where the customer has no touchpoint by then
	StageSince domain.Millis
	Reason     string
	Cause      lifecycle.Cause
	Totals     lifecycle.Totals
	FirstSeen  domain.Millis
	LastSeen   domain.Millis
	Traits     []Trait // sorted by key, without tombstones
}

// Add adds a touchpoint that the set does not hold yet, in any order, with the
// traits it gives (their Ref is set to the touchpoint's). It reports whether stage,
// transitions or totals may have changed; FirstSeen, LastSeen and Traits may have
// changed even where it is false.
func (f *Facts) Add(t lifecycle.Touch, traits []Trait) bool { return false }

// Merge adds the touchpoints of o, none of which f may hold; o stays as it is.
func (f *Facts) Merge(o *Facts) {}

// Clone returns a copy that shares nothing that changes.
func (f *Facts) Clone() *Facts { return nil }

// Append appends the binary form of the facts to buf. Equal sets give equal bytes.
func (f *Facts) Append(buf []byte) []byte { return buf }

// Parse replaces the facts by what Append wrote. It keeps nothing of b.
func (f *Facts) Parse(b []byte) error { return nil }

// View answers at a clock, with the transitions up to it (past) and those that
// time alone will bring (future), both in order. FirstSeen, LastSeen and Traits are
// those of all the touchpoints: to ask about an instant before LastSeen, fold the
// touchpoints up to it.
func (f *Facts) View(clock domain.Millis, p *policy.Compiled) (v View, past, future []lifecycle.Transition) {
	return View{}, nil, nil
}
