package demo

import (
	"iter"
	"strconv"
)

// Member is a customer with points under the default policy.
type Member struct {
	User string // the user id
	// Points are those that are there at the end of the history, or fewer: orders
	// that were changed or partly refunded are left out.
	Points int64
	// Redeems is how many of them the customer spends at the end of the history;
	// most customers none.
	Redeems int64
	// Key names the redemption, in all histories.
	Key string
}

// Members yields the customers with points among the first 20,000. They follow
// from the configuration alone, as the messages do.
func Members(cfg Config) iter.Seq[Member] {
	return func(yield func(Member) bool) {
		s := newShop(cfg)
		var es []event
		for i := range min(cfg.Customers, chunk) {
			p := s.person(i)
			if countries[p.country].currency != "USD" {
				continue // the default policy gives points for dollars
			}
			es = s.simulate(es[:0], i)
			m := Member{Points: s.points(p, es)}
			if m.Points <= 0 {
				continue
			}
			m.User = string(appendUser(nil, uint32(i)))
			if h := mix(p.salt + 1<<35); h%4 == 0 {
				m.Redeems = m.Points * int64(10+h>>8%40) / 100 / 50 * 50
				m.Key = "demo-" + strconv.FormatUint(s.seed, 36) + "-" + m.User
			}
			if !yield(m) {
				return
			}
		}
	}
}

// points adds up the orders of a year that stayed as they were.
func (s *shop) points(p person, es []event) (points int64) {
	changed := map[uint32]bool{}
	for _, e := range es {
		switch e.kind {
		case orderRefunded, orderCancelled, orderUpdated:
			changed[e.order] = true
		}
	}
	for _, e := range es {
		if e.kind == orderCompleted && e.at > s.end-364*day && !changed[e.order] {
			_, cents := p.order(e.order)
			points += int64(cents / 100)
		}
	}
	return points
}
