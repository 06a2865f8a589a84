package lifecycle

import (
	"slices"

	"sojourn/domain/policy"
)

// Course computes Transitions for a set of touchpoints that grows. It keeps what
// its computation has come to, so that a touchpoint that comes in order costs the
// same however many there were; one that comes late costs as much as computing
// anew. It keeps some 200 bytes for each touchpoint that speaks of an order. Not
// safe for concurrent use.
type Course struct {
	facts    Facts
	rules    policy.Lifecycle
	currency string
	sim      *simulation // nil where it is to be begun anew
	last     Ref         // of the touchpoints that the simulation has taken
}

// NewCourse begins with a set of touchpoints, which it copies.
func NewCourse(f *Facts, rules policy.Lifecycle, currency string) *Course {
	return &Course{facts: f.Clone(), rules: rules, currency: currency}
}

// Add adds a touchpoint that the set does not hold yet, in any order.
func (c *Course) Add(t Touch) {
	f := &c.facts
	was := [...]bool{f.visitor.set, f.lead.set, f.qualified.set}
	orders := len(f.orders)
	if !f.Add(t) || c.sim == nil {
		return
	}
	if t.Ref.Compare(c.last) <= 0 {
		c.sim = nil
		return
	}
	is := [...]bool{f.visitor.set, f.lead.set, f.qualified.set}
	var shown [3]bool
	for i := range shown {
		shown[i] = is[i] && !was[i]
	}
	c.sim.ledger.facts = f.orders
	for len(c.sim.nodes) < len(f.orders) {
		c.sim.nodes = append(c.sim.nodes, node{})
	}
	c.sim.touch(f, t.Ref, shown, orders, len(f.orders))
	c.last = t.Ref
}

// Transitions equals the function of that name for all touchpoints of the set. The
// list is the caller's.
func (c *Course) Transitions() []Transition {
	if c.facts.Empty() {
		return nil
	}
	if c.sim == nil {
		c.begin()
	}
	s := c.sim
	n, stage := len(s.out), s.stage
	s.finish()
	list := slices.Clone(s.out)
	s.out, s.stage = s.out[:n], stage
	return list
}

func (c *Course) begin() {
	f := &c.facts
	f.sort()
	s := &simulation{last: -1, from: -1, limits: limitsOf(c.rules), rules: c.rules}
	s.ledger.open(f.orders, c.currency)
	if s.ledger.byID == nil {
		s.ledger.byID = map[string]int32{}
	}
	s.nodes = make([]node, len(f.orders))
	s.run(f)
	c.sim = s
	c.last = f.last()
}

// last is the last touchpoint that matters; the set must not be empty.
func (f *Facts) last() Ref {
	last := f.visitor.ref
	for _, m := range [...]*milestone{&f.lead, &f.qualified} {
		if m.set && m.ref.Compare(last) > 0 {
			last = m.ref
		}
	}
	if n := len(f.orders); n > 0 && f.orders[n-1].ref.Compare(last) > 0 {
		last = f.orders[n-1].ref
	}
	return last
}
