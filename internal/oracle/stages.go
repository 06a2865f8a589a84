package oracle

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"

	"github.com/google/uuid"

	"sojourn/domain"
	"sojourn/domain/commerce"
	"sojourn/domain/lifecycle"
	"sojourn/domain/policy"
)

// Answer is what there is to say of a customer.
type Answer struct {
	// Subjects are all of the customer's; the first gives it its id.
	Subjects   []domain.Subject
	Stage      lifecycle.Stage
	StageSince domain.Millis
	// Transitions are those up to the time asked about, without their Reason.
	Transitions         []lifecycle.Transition
	Totals              lifecycle.Totals
	FirstSeen, LastSeen domain.Millis
	Traits              map[string]string // raw JSON; those removed are not in it
	Touchpoints         []uuid.UUID       // in order of occurred_at, then event id
}

// Customers answers for every customer that has a touchpoint at or before an
// instant. Cut the log with KnownAt to ask by what was known then.
func (l Log) Customers(asOf domain.Millis) []Answer {
	l = l.once()
	p := l.policy()
	var answers []Answer
	for _, subjects := range l.Identity().Customers {
		c := history{p: p}
		for _, e := range l {
			if t := e.Touchpoint; t != nil && t.OccurredAt <= asOf && slices.Contains(subjects, t.recordedUnder()) {
				c.touches = append(c.touches, e)
			}
		}
		if len(c.touches) == 0 {
			continue
		}
		slices.SortFunc(c.touches, func(a, b Event) int {
			return cmp.Or(cmp.Compare(a.Touchpoint.OccurredAt, b.Touchpoint.OccurredAt), bytes.Compare(a.ID[:], b.ID[:]))
		})
		a := Answer{
			Subjects: subjects, Totals: c.totals(), Traits: c.traits(),
			FirstSeen: c.at(0), LastSeen: c.at(len(c.touches) - 1),
		}
		for _, e := range c.touches {
			a.Touchpoints = append(a.Touchpoints, e.ID)
		}
		for _, tr := range c.transitions() {
			if tr.At <= asOf {
				a.Transitions = append(a.Transitions, tr)
				a.Stage, a.StageSince = tr.To, tr.At
			}
		}
		answers = append(answers, a)
	}
	return answers
}

// Customer answers for the customer of a subject; false where it has no touchpoint
// by then.
func (l Log) Customer(s domain.Subject, asOf domain.Millis) (Answer, bool) {
	for _, a := range l.Customers(asOf) {
		if slices.Contains(a.Subjects, s) {
			return a, true
		}
	}
	return Answer{}, false
}

// history is one customer's touchpoints, in order of occurred_at, then event id.
type history struct {
	p       Policy
	touches []Event
}

func (c history) at(i int) domain.Millis { return c.touches[i].Touchpoint.OccurredAt }

func days(n int) domain.Millis { return domain.Millis(n) * 24 * 60 * 60 * 1000 }

func (c history) traits() map[string]string {
	traits := map[string]string{}
	for _, e := range c.touches {
		if e.Touchpoint.Kind != domain.Identify {
			continue
		}
		for key, value := range e.Touchpoint.Traits {
			if string(value) == "null" {
				delete(traits, key)
			} else {
				traits[key] = string(value)
			}
		}
	}
	return traits
}

// order is what is known of an order after the first n touchpoints.
type order struct {
	purchase int // index of its purchase, the earliest
	amount   domain.Decimal
	readable bool // amount is one
	taken    domain.Decimal
	full     bool // fully refunded
}

// order is about an order that has a purchase among the first n touchpoints.
func (c history) order(id string, n int) order {
	var o order
	for i, e := range slices.Backward(c.touches[:n]) {
		if e.Touchpoint.Meaning == policy.Purchase && e.Touchpoint.Order.ID == id {
			o.purchase = i
		}
	}
	bought := c.touches[o.purchase].Touchpoint.Order
	// Fully refunded at any earlier look is fully refunded now.
	for look := o.purchase + 1; look <= n; look++ {
		o.amount, o.readable, o.taken = bought.Amount, bought.State == commerce.AmountRead, 0
		refunds, everything := 0, false
		for _, e := range c.touches[:look] {
			said := e.Touchpoint.Order
			if said.ID != id {
				continue
			}
			same := said.Currency == "" || said.Currency == cmp.Or(bought.Currency, c.p.Currency)
			switch e.Touchpoint.Meaning {
			case policy.OrderUpdate:
				if said.State == commerce.AmountRead && same {
					o.amount, o.readable = said.Amount, true
				}
			case policy.Cancellation:
				refunds++
				everything = true
			case policy.Refund:
				refunds++
				if same && said.State == commerce.AmountNone {
					everything = true
				}
				if same && said.State == commerce.AmountRead {
					o.taken += said.Amount
				}
			}
		}
		if everything || refunds > 0 && (!o.readable || o.amount <= 0 || o.taken >= o.amount) {
			o.full = true
		}
	}
	return o
}

// counting are the indices of the purchases that count after the first n
// touchpoints.
func (c history) counting(n int) []int {
	var list []int
	for i, e := range c.touches[:n] {
		if e.Touchpoint.Meaning != policy.Purchase {
			continue
		}
		if id := e.Touchpoint.Order.ID; id != "" {
			if o := c.order(id, n); o.purchase != i || o.full {
				continue
			}
		}
		list = append(list, i)
	}
	return list
}

// stage is the table, row by row from the top, at an instant after the first n
// touchpoints.
func (c history) stage(n int, t domain.Millis) lifecycle.Stage {
	rules, list := c.p.Lifecycle, c.counting(n)
	if len(list) == 0 {
		stage := lifecycle.None
		for _, e := range c.touches[:n] {
			switch {
			case e.Touchpoint.Meaning == policy.Qualified:
				return lifecycle.Qualified
			case e.Touchpoint.isLead():
				stage = lifecycle.Lead
			case stage == lifecycle.None:
				stage = lifecycle.Visitor
			}
		}
		return stage
	}
	last := c.at(list[len(list)-1])
	recent := 0
	for _, i := range list {
		if c.at(i) > t-days(rules.LoyalDays) && c.at(i) <= t {
			recent++
		}
	}
	switch {
	case t-last >= days(rules.LostDays):
		return lifecycle.Lost
	case t-last >= days(rules.ChurnedDays):
		return lifecycle.Churned
	case t-last >= days(rules.AtRiskDays):
		return lifecycle.AtRisk
	case len(list) >= 2 && last-c.at(list[len(list)-2]) > days(rules.WonBackDays):
		return lifecycle.WonBack
	case recent >= rules.LoyalPurchases:
		return lifecycle.Loyal
	case len(list) >= 2:
		return lifecycle.Repeat
	}
	return lifecycle.FirstPurchase
}

// isLead: under a user id, an identify with an e-mail, or a lead event.
func (t *Touchpoint) isLead() bool {
	var address string
	mail := t.Kind == domain.Identify && json.Unmarshal(t.Traits["email"], &address) == nil && address != ""
	return t.User != "" || mail || t.Meaning == policy.Lead
}

// transitions looks at the stage at every instant at which it can change: first
// after each touchpoint there, then at what time alone has changed.
func (c history) transitions() []lifecycle.Transition {
	rules := c.p.Lifecycle
	var instants []domain.Millis
	for i, e := range c.touches {
		instants = append(instants, c.at(i))
		if e.Touchpoint.Meaning == policy.Purchase {
			for _, d := range []int{rules.AtRiskDays, rules.ChurnedDays, rules.LostDays, rules.LoyalDays} {
				instants = append(instants, c.at(i)+days(d))
			}
		}
	}
	slices.Sort(instants)
	var list []lifecycle.Transition
	stage := lifecycle.None
	enter := func(to lifecycle.Stage, at domain.Millis, cause lifecycle.Cause) {
		list = append(list, lifecycle.Transition{From: stage, To: to, At: at, Cause: cause})
		stage = to
	}
	n := 0
	for _, t := range slices.Compact(instants) {
		start := n
		before := c.stage(n, t) // what time alone makes of it
		for ; n < len(c.touches) && c.at(n) == t; n++ {
			after := c.stage(n+1, t)
			if after != stage && after != before {
				enter(after, t, lifecycle.Cause{Touchpoint: c.touches[n].ID})
			}
			before = after
		}
		if before == stage {
			continue
		}
		// A deadline, counted from a purchase that counted before this instant.
		purchases := c.counting(start)
		rule, from := string(before), len(purchases)-1
		switch before {
		case lifecycle.AtRisk, lifecycle.Churned, lifecycle.Lost:
		default:
			rule, from = lifecycle.RuleLoyal, len(purchases)-rules.LoyalPurchases
		}
		enter(before, t, lifecycle.Cause{Rule: rule, Touchpoint: c.touches[purchases[from]].ID})
	}
	return list
}

func (c history) totals() lifecycle.Totals {
	n := len(c.touches)
	var totals lifecycle.Totals
	for _, e := range c.touches {
		if m := e.Touchpoint.Meaning; m == policy.Refund || m == policy.Cancellation {
			totals.Refunds++
		}
	}
	for _, i := range c.counting(n) {
		totals.Purchases++
		said := c.touches[i].Touchpoint.Order
		o := order{amount: said.Amount, readable: said.State == commerce.AmountRead}
		if said.ID != "" {
			o = c.order(said.ID, n)
		}
		if !o.readable {
			continue
		}
		if totals.Revenue == nil {
			totals.Revenue = map[string]domain.Decimal{}
		}
		totals.Revenue[cmp.Or(said.Currency, c.p.Currency)] += o.amount - o.taken
	}
	return totals
}
