package projections

import (
	"fmt"
	"testing"
	"time"

	"sojourn/domain"
	"sojourn/eventstore"
)

// fill appends n messages, a thousand at a time, and waits until the views hold
// them.
func (s *site) fill(n int, message func(i int) sent) {
	s.t.Helper()
	var position eventstore.Position
	parts := make([]eventstore.Append, 0, 1000)
	for i := range n {
		stream, e := message(i).event()
		parts = append(parts, eventstore.Append{Stream: stream, Events: []eventstore.NewEvent{e}})
		if len(parts) == cap(parts) || i == n-1 {
			r, err := s.store.AppendMany(s.t.Context(), parts)
			if err != nil {
				s.t.Fatal(err)
			}
			position = r[len(r)-1].Position
			parts = parts[:0]
		}
	}
	if err := s.views.WaitFor(s.t.Context(), position); err != nil {
		s.t.Fatal(err)
	}
	s.until("the end of the log", func() bool { return s.views.Status().LagEvents == 0 })
}

// BenchmarkHeavyCustomer asks about a customer with a million touchpoints, 20,000
// of them purchases.
func BenchmarkHeavyCustomer(b *testing.B) {
	const n = 1_000_000
	s := newSite(b)
	s.fill(n, func(i int) sent {
		m := sent{
			id: fmt.Sprint("m", i), kind: domain.Page, name: "Home", user: "bot", at: day0 - domain.Millis(n-i)*10_000,
			properties: `{"path":"/p/1","title":"A page of the shop","url":"https://shop.example/p/1"}`,
		}
		switch i % 50 {
		case 0:
			m.kind, m.name = domain.Track, "Order Completed"
			m.properties = fmt.Sprintf(`{"order_id":"o%d","total":%d.50,"currency":"EUR"}`, i, i%100)
		case 1:
			m.kind, m.name, m.traits = domain.Identify, "", fmt.Sprintf(`{"email":"a@example.com","visits":%d}`, i)
		}
		return m
	})
	if c, err := s.views.Customer(b.Context(), "user:bot", At{}); err != nil || c.Purchases != n/50 {
		b.Fatalf("%d purchases: %v", c.Purchases, err)
	}
	middle := (day0 - n/2*10_000).Time()
	ask := func(name string, do func() error) {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if err := do(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	customer := func(at At) func() error {
		return func() error { _, err := s.views.Customer(b.Context(), "user:bot", at); return err }
	}
	_, cursor, err := s.views.Timeline(b.Context(), "user:bot", At{AsOf: middle}, "", 50)
	if err != nil {
		b.Fatal(err)
	}
	timeline := func(at At, cursor string) func() error {
		return func() error { _, _, err := s.views.Timeline(b.Context(), "user:bot", at, cursor, 50); return err }
	}
	ask("customer", customer(At{}))
	ask("customer_as_of", customer(At{AsOf: middle}))
	ask("timeline_first", timeline(At{}, ""))
	ask("timeline_next", timeline(At{}, cursor))
	ask("timeline_as_of", timeline(At{AsOf: middle}, ""))
	ask("customer_known_at", customer(At{KnownAt: s.clock.now(), AsOf: middle}))
	ask("timeline_known_at", timeline(At{KnownAt: s.clock.now()}, cursor))
}

// BenchmarkKnownAt counts and lists the customers of a log of a million
// touchpoints by what was known.
func BenchmarkKnownAt(b *testing.B) {
	const n, customers = 1_000_000, 100_000
	s := newSite(b)
	s.fill(n, func(i int) sent {
		who := int(uint64(i) * 0x9e3779b97f4a7c15 >> 33 % customers)
		m := sent{
			id: fmt.Sprint("m", i), kind: domain.Page, name: "Home", user: fmt.Sprint("u", who), anon: fmt.Sprint("a", who),
			at: day0 - domain.Millis(n-i)*20_000,
		}
		switch i % 20 {
		case 0:
			m.kind, m.name, m.traits = domain.Identify, "", `{"email":"a@example.com"}`
		case 1:
			m.kind, m.name = domain.Track, "Order Completed"
			m.properties = fmt.Sprintf(`{"order_id":"o%d","total":%d.50,"currency":"EUR"}`, i, i%100)
		case 2, 3:
			m.user = ""
		}
		return m
	})
	known := s.clock.now()
	s.clock.set(day0 + domain.Day)
	middle := (day0 - n/2*20_000).Time()
	timed := func(name string, at At, do func(at At) error) {
		started := time.Now()
		if err := do(at); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(time.Since(started).Milliseconds()), name+"-ms")
	}
	stages := func(at At) error { _, err := s.views.Stages(b.Context(), at); return err }
	list := func(stage string) func(at At) error {
		return func(at At) error { _, _, err := s.views.Customers(b.Context(), stage, 50, "", at); return err }
	}
	for b.Loop() {
		timed("first", At{KnownAt: known}, stages)
		timed("again", At{KnownAt: known, AsOf: middle}, stages)
		timed("list", At{KnownAt: known}, list("loyal"))
		timed("list-as-of", At{KnownAt: known, AsOf: middle}, list("repeat"))
		timed("tables-stages", At{AsOf: middle}, stages)
		timed("tables-list", At{AsOf: middle}, list("repeat"))
		timed("tables-list-all", At{AsOf: middle}, list(""))
		timed("tables-list-now", At{}, list("repeat"))
	}
}

// BenchmarkFoldHeavy folds the purchases of one customer into nothing, in order and
// shuffled.
func BenchmarkFoldHeavy(b *testing.B) {
	for _, n := range []int{1000, 2000, 4000} {
		for _, way := range []string{"ordered", "shuffled"} {
			b.Run(fmt.Sprintf("%s/%d", way, n), func(b *testing.B) {
				var c clock
				c.set(day0)
				store := openStore(b, &c)
				defer func() { _ = store.Close() }()
				parts := make([]eventstore.Append, n)
				for i := range n {
					at := i
					if way == "shuffled" {
						at = i * 617 % n
					}
					stream, e := bought(fmt.Sprint("o", i), "bot", day0-domain.Millis(n-at)*60_000, 1).event()
					parts[i] = eventstore.Append{Stream: stream, Events: []eventstore.NewEvent{e}}
				}
				if _, err := store.AppendMany(b.Context(), parts); err != nil {
					b.Fatal(err)
				}
				for b.Loop() {
					if _, err := Replay(b.Context(), store, testKeyer, testRules(), NullSink{}, b.TempDir()); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*n), "µs/purchase")
			})
		}
	}
}
