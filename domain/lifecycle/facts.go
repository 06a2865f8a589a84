package lifecycle

import (
	"cmp"
	"slices"
	"strings"

	"sojourn/domain"
	"sojourn/domain/commerce"
	"sojourn/domain/policy"
)

// Facts are what the lifecycle needs of a set of touchpoints; the zero value is
// the empty set. They do not depend on the order in which touchpoints are added.
// They are not safe for concurrent use, not even for reading: what came out of
// order is sorted when it is first looked at.
type Facts struct {
	visitor, lead, qualified milestone
	orders                   []orderFact // sorted by ref if !unsorted
	unsorted                 bool
}

// milestone is the earliest touchpoint that showed something.
type milestone struct {
	ref  Ref
	set  bool
	why  why
	name string // of the event, for the reason
}

// why says what made a touchpoint a milestone; the more telling stands before.
type why uint8

const (
	whyEvent why = iota // the event's meaning
	whyEmail            // an identify with an e-mail
	whyUser             // recorded under a user id
)

// orderFact is a touchpoint that speaks of an order.
type orderFact struct {
	ref      Ref
	amount   domain.Decimal
	id       string
	currency string
	kind     orderKind
	state    commerce.AmountState
}

type orderKind uint8

const (
	kindPurchase orderKind = iota
	kindUpdate
	kindRefund
	kindCancellation
)

// maxName bounds the name of an event kept for a reason, in bytes.
const maxName = 200

func (m *milestone) offer(ref Ref, w why, name string) bool {
	if m.set && m.ref.Compare(ref) <= 0 {
		return false
	}
	if len(name) > maxName {
		name = cutRunes(name, maxName)
	}
	*m = milestone{ref, true, w, strings.Clone(name)}
	return true
}

// cutRunes cuts s to at most n bytes without breaking a rune.
func cutRunes(s string, n int) string {
	for n > 0 && s[n]&0xc0 == 0x80 {
		n--
	}
	return s[:n]
}

// Add adds a touchpoint to the set, which must not hold it yet; any order will do.
// It reports whether that may have changed Transitions or Totals: it is false for
// most touchpoints, and then neither need be computed again.
func (f *Facts) Add(t Touch) bool {
	changed := f.visitor.offer(t.Ref, whyEvent, "")
	switch t.Meaning {
	case policy.Lead:
		changed = f.lead.offer(t.Ref, whyEvent, t.Name) || changed
	case policy.Qualified:
		changed = f.qualified.offer(t.Ref, whyEvent, t.Name) || changed
	case policy.Purchase:
		f.addOrder(t, kindPurchase)
		changed = true
	case policy.OrderUpdate:
		if t.Order.ID != "" && t.Order.State == commerce.AmountRead {
			f.addOrder(t, kindUpdate)
			changed = true
		}
	case policy.Refund:
		f.addOrder(t, kindRefund)
		changed = true
	case policy.Cancellation:
		f.addOrder(t, kindCancellation)
		changed = true
	}
	switch {
	case t.HasEmail:
		changed = f.lead.offer(t.Ref, whyEmail, "") || changed
	case t.UnderUser:
		changed = f.lead.offer(t.Ref, whyUser, "") || changed
	}
	return changed
}

// First is the earliest touchpoint of the set; ok is false where it is empty.
func (f *Facts) First() (first Ref, ok bool) { return f.visitor.ref, f.visitor.set }

func (f *Facts) addOrder(t Touch, kind orderKind) {
	if n := len(f.orders); n > 0 && f.orders[n-1].ref.Compare(t.Ref) > 0 {
		f.unsorted = true
	}
	f.orders = append(f.orders, orderFact{
		ref: t.Ref, kind: kind, id: t.Order.ID,
		amount: t.Order.Amount, state: t.Order.State, currency: t.Order.Currency,
	})
}

// Merge adds the touchpoints of o, none of which f may hold; o stays as it is.
func (f *Facts) Merge(o *Facts) {
	for _, m := range [...]struct{ to, from *milestone }{
		{&f.visitor, &o.visitor}, {&f.lead, &o.lead}, {&f.qualified, &o.qualified},
	} {
		if m.from.set && (!m.to.set || m.from.ref.Compare(m.to.ref) < 0) {
			*m.to = *m.from
		}
	}
	if len(o.orders) == 0 {
		return
	}
	if n := len(f.orders); n > 0 && f.orders[n-1].ref.Compare(o.orders[0].ref) > 0 || o.unsorted {
		f.unsorted = true
	}
	f.orders = append(f.orders, o.orders...)
}

// Clone returns a copy that shares nothing that changes.
func (f *Facts) Clone() Facts {
	c := *f
	c.orders = slices.Clone(f.orders)
	return c
}

// Orders is the number of touchpoints in the set that speak of an order.
func (f *Facts) Orders() int { return len(f.orders) }

// Empty reports whether the set holds no touchpoint.
func (f *Facts) Empty() bool { return !f.visitor.set }

func (f *Facts) sort() {
	if !f.unsorted {
		return
	}
	slices.SortFunc(f.orders, func(a, b orderFact) int {
		return cmp.Or(a.ref.Compare(b.ref), cmp.Compare(a.kind, b.kind))
	})
	f.unsorted = false
}
