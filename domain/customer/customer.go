// Package customer holds what is kept of a customer: the facts of its subjects,
// merged, and the answers that follow from them.
package customer

import (
	"bytes"
	"slices"
	"sort"
	"strings"

	"sojourn/domain"
	"sojourn/domain/lifecycle"
	"sojourn/domain/loyalty"
	"sojourn/domain/policy"
	"sojourn/domain/satisfaction"
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
	Traits       []Trait
	Lifecycle    lifecycle.Facts
	Loyalty      loyalty.Facts
	Satisfaction satisfaction.Facts
}

// Touch is what the facts take of a touchpoint.
type Touch struct {
	lifecycle.Touch
	// Traits are those that it gives. Their Ref is the touchpoint's whatever they
	// say; keys and values are copied.
	Traits []Trait
	// Loyalty is nil where it can neither give nor take points, Satisfaction where
	// it is not about satisfaction.
	Loyalty      *loyalty.Touch
	Satisfaction *satisfaction.Event
}

// Changes says which answers may have changed.
type Changes uint8

// The answers: stage, transitions and totals; points and tiers; satisfaction.
const (
	Stage Changes = 1 << iota
	Loyalty
	Satisfaction
)

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
	Traits     []Trait // sorted by key, without tombstones; values are the facts' own
}

// Add adds a touchpoint that the set does not hold yet, in any order. It reports
// what may have changed; FirstSeen, LastSeen and Traits may have changed even where
// that is nothing. Of events it keeps those that give points under the rules, so
// facts are added anew where these change.
func (f *Facts) Add(t *Touch, rules *loyalty.Rulebook) (c Changes) {
	if f.Touchpoints == 0 || t.At < f.FirstSeen {
		f.FirstSeen = t.At
	}
	if f.Touchpoints == 0 || t.At > f.LastSeen {
		f.LastSeen = t.At
	}
	f.Touchpoints++
	for _, trait := range t.Traits {
		trait.Ref = t.Ref
		f.setTrait(trait, true)
	}
	if f.Lifecycle.Add(t.Touch) {
		c = Stage
	}
	if t.Loyalty == nil && f.Loyalty.See(t.Ref) || t.Loyalty != nil && f.Loyalty.Add(*t.Loyalty, rules) {
		c |= Loyalty
	}
	if t.Satisfaction != nil && f.Satisfaction.Add(satisfaction.Touch{Ref: t.Ref, Event: *t.Satisfaction}) {
		c |= Satisfaction
	}
	return c
}

func (f *Facts) setTrait(t Trait, copied bool) {
	i, found := slices.BinarySearchFunc(f.Traits, t.Key, func(have Trait, key string) int {
		return strings.Compare(have.Key, key)
	})
	if found && f.Traits[i].Ref.Compare(t.Ref) > 0 {
		return
	}
	if t.Removed() {
		t.Value = nil
	} else if copied {
		t.Value = bytes.Clone(t.Value)
	}
	if found {
		f.Traits[i].Value, f.Traits[i].Ref = t.Value, t.Ref
		return
	}
	if copied {
		t.Key = strings.Clone(t.Key)
	}
	f.Traits = slices.Insert(f.Traits, i, t)
}

// Merge adds the touchpoints of o, none of which f may hold; o stays as it is, and
// the bytes of its traits are shared.
func (f *Facts) Merge(o *Facts) {
	f.Loyalty.Merge(&o.Loyalty) // commands may stand without a touchpoint
	if o.Touchpoints == 0 {
		return
	}
	if f.Touchpoints == 0 {
		f.FirstSeen, f.LastSeen = o.FirstSeen, o.LastSeen
	} else {
		f.FirstSeen = min(f.FirstSeen, o.FirstSeen)
		f.LastSeen = max(f.LastSeen, o.LastSeen)
	}
	f.Touchpoints += o.Touchpoints
	for _, t := range o.Traits {
		f.setTrait(t, false)
	}
	f.Lifecycle.Merge(&o.Lifecycle)
	f.Satisfaction.Merge(&o.Satisfaction)
}

// Clone returns a copy that shares nothing that changes.
func (f *Facts) Clone() *Facts {
	c := *f
	c.Traits = slices.Clone(f.Traits)
	c.Lifecycle = f.Lifecycle.Clone()
	c.Loyalty = f.Loyalty.Clone()
	c.Satisfaction = f.Satisfaction.Clone()
	return &c
}

// View answers at a clock, with the transitions up to it (past) and those that
// time alone will bring (future), both in order. FirstSeen, LastSeen and Traits are
// those of all the touchpoints: to ask about an instant before LastSeen, fold the
// touchpoints up to it.
func (f *Facts) View(clock domain.Millis, p *policy.Compiled) (v View, past, future []lifecycle.Transition) {
	all := lifecycle.Transitions(&f.Lifecycle, p.Lifecycle(), p.Currency())
	n := sort.Search(len(all), func(i int) bool { return all[i].At > clock })
	past, future = all[:n:n], all[n:]
	v.FirstSeen, v.LastSeen = f.FirstSeen, f.LastSeen
	v.Traits = f.LiveTraits()
	v.Totals = lifecycle.TotalsAt(&f.Lifecycle, clock, p.Currency())
	if n > 0 {
		now := past[n-1]
		v.Stage, v.StageSince, v.Reason, v.Cause = now.To, now.At, now.Reason, now.Cause
	}
	return v, past, future
}

// LiveTraits are the traits without tombstones, sorted by key.
func (f *Facts) LiveTraits() []Trait {
	removed := 0
	for _, t := range f.Traits {
		if t.Removed() {
			removed++
		}
	}
	if removed == 0 {
		return f.Traits[:len(f.Traits):len(f.Traits)]
	}
	live := make([]Trait, 0, len(f.Traits)-removed)
	for _, t := range f.Traits {
		if !t.Removed() {
			live = append(live, t)
		}
	}
	return live
}
