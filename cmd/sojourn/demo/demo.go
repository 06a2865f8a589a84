// Package demo makes the tracking messages of a shop that never was: visitors
// that come anonymously and log in some day, customers who buy at rates of their
// own and drop out unseen, weekends and a Christmas season, refunds of orders and
// of parts of them, people who buy for their companies, tickets, chats, calls,
// complaints, surveys and reviews in English and Chinese, and leads that never
// buy. Who was treated badly gives low scores and tends not to come back.
//
// Everything follows from the configuration alone: the same seed and the same
// end give the same messages with the same message ids, so that sending them
// twice adds nothing.
package demo

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"time"
)

// Config says what shop to make.
type Config struct {
	Customers int       // how many people come, 1 to 10,000,000
	Days      int       // length of the history, 1 to 3,650
	Seed      uint64    // another seed is another shop
	End       time.Time // the history ends before this instant
}

// Validate checks the ranges.
func (c Config) Validate() error {
	switch {
	case c.Customers < 1 || c.Customers > 10_000_000:
		return fmt.Errorf("customers must be 1 to 10000000, not %d", c.Customers)
	case c.Days < 1 || c.Days > 3650:
		return fmt.Errorf("days must be 1 to 3650, not %d", c.Days)
	case c.End.IsZero():
		return fmt.Errorf("the end of the history is missing")
	}
	return nil
}

// chunk is how many customers are simulated at a time.
const chunk = 20_000

// Messages yields the history as JSON objects of the tracking API, about 400
// bytes each, with timestamp and without sentAt. They come in the order of time,
// for 20,000 customers after the other. A message is valid until the next step.
func Messages(cfg Config) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		s := newShop(cfg)
		var buf []byte
		for first := 0; first < cfg.Customers; first += chunk {
			for _, e := range s.history(first, min(first+chunk, cfg.Customers)) {
				buf = s.appendMessage(buf[:0], e)
				if !yield(buf) {
					return
				}
			}
		}
	}
}

// Count is how many messages Messages yields.
func Count(cfg Config) int {
	s, n := newShop(cfg), 0
	for first := 0; first < cfg.Customers; first += chunk {
		n += len(s.history(first, min(first+chunk, cfg.Customers)))
	}
	return n
}

func (s *shop) history(first, end int) []event {
	var es []event
	for i := first; i < end; i++ {
		es = s.simulate(es, i)
	}
	slices.SortFunc(es, func(a, b event) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.customer, b.customer), cmp.Compare(a.seq, b.seq))
	})
	return es
}

// Endless yields messages of the same shop without an end, for load: each from
// another of the customers at random, no two alike, half a million and more a
// second. Their times run from the beginning of the history to its end, 5 s
// from one to the next, and begin again. A message is valid until the next step.
func Endless(cfg Config) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		s := newShop(cfg)
		var buf []byte
		span := s.end - s.start
		for n := uint64(0); ; n++ {
			e := s.random(n)
			e.at = s.start + int64(n)*5000%span
			buf = s.appendMessage(buf[:0], e)
			if !yield(buf) {
				return
			}
		}
	}
}

// random is the n-th message of the endless stream, its time apart.
func (s *shop) random(n uint64) event {
	salt := mix(s.seed ^ mix(n+1))
	e := event{salt: salt, customer: uint32(mix(salt) % uint64(s.customers)), flags: loggedIn}
	p := s.person(int(e.customer))
	e.device = uint8(salt >> 8 % 2)
	switch r := salt >> 16 % 100; {
	case r < 30:
		e.kind = productViewed
	case r < 55:
		e.kind = pageViewed
	case r < 67:
		e.kind = productListViewed
	case r < 79:
		e.kind = productAdded
	case r < 85:
		e.kind = checkoutStarted
	case r < 92:
		e.kind, e.order = orderCompleted, uint32(salt>>32)
	case r < 95:
		e.kind = emailOpened
	case r < 97:
		e.kind = identified
	case r < 98:
		e.kind = chatStarted
	case r < 99:
		e.kind, e.value = surveyAnswered, nps<<4|uint8(salt>>24%11)
	default:
		e.kind = productSearched
	}
	if p.never {
		e.flags = 0
		if e.kind == orderCompleted || e.kind == emailOpened || e.kind == identified {
			e.kind = productViewed
		}
	}
	return e
}

// mix is splitmix64's finaliser: a hash of 64 bits.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
