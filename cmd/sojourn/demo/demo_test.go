package demo_test

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"sojourn/cmd/sojourn/demo"
)

var cfg = demo.Config{Customers: 3000, Days: 730, Seed: 7, End: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)}

type message struct {
	Type, Event, MessageID, UserID, AnonymousID string
	Timestamp                                   time.Time
	SentAt                                      *string
	Name                                        string
	Properties                                  struct {
		OrderID  string `json:"order_id"`
		Total    json.Number
		Currency string
	}
	Traits  map[string]any
	Context struct{ Library struct{ Name string } }
}

func read(t *testing.T, b []byte) message {
	t.Helper()
	var m message
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatalf("%v in %s", err, b)
	}
	return m
}

func TestSameSeedSameMessages(t *testing.T) {
	small := cfg
	small.Customers, small.Days = 50, 90
	collect := func(c demo.Config) (all []string) {
		for m := range demo.Messages(c) {
			all = append(all, string(m))
		}
		return all
	}
	one := collect(small)
	if !slices.Equal(one, collect(small)) {
		t.Fatal("the same configuration gave other messages")
	}
	if demo.Count(small) != len(one) {
		t.Errorf("Count says %d of %d", demo.Count(small), len(one))
	}
	ids := map[string]bool{}
	for _, m := range one {
		ids[read(t, []byte(m)).MessageID] = true
	}
	if len(ids) != len(one) {
		t.Errorf("%d messages have %d ids", len(one), len(ids))
	}
	for name, other := range map[string]demo.Config{
		"seed": {Customers: 50, Days: 90, Seed: 8, End: cfg.End},
		"end":  {Customers: 50, Days: 90, Seed: 7, End: cfg.End.AddDate(0, 0, 1)},
	} {
		for _, m := range collect(other) {
			if ids[read(t, []byte(m)).MessageID] {
				t.Fatalf("another %s gave the same message id", name)
			}
		}
	}
}

// TestBelievable holds the shop to what one would expect of a real one.
func TestBelievable(t *testing.T) {
	type life struct {
		user           bool
		anonymousFirst bool
		orders         int
		orderAt        map[string]time.Time
	}
	lives := map[string]*life{}  // by user, else by visitor
	users := map[string]string{} // visitor to user
	for b := range demo.Messages(cfg) {
		if m := read(t, b); m.Type == "identify" {
			users[m.AnonymousID] = m.UserID
		}
	}
	var n, size, orders, refunds, server, mobile, tickets, surveys int
	byMonth := map[time.Month]int{}
	var before time.Time
	ids := map[string]bool{}
	libraries := map[string]int{}
	for b := range demo.Messages(cfg) {
		m := read(t, b)
		n++
		size += len(b)
		if ids[m.MessageID] {
			t.Fatalf("message id %s comes twice", m.MessageID)
		}
		ids[m.MessageID] = true
		if m.SentAt != nil || m.UserID == "" && m.AnonymousID == "" {
			t.Fatalf("%s", b)
		}
		if m.Timestamp.Before(before) || !m.Timestamp.Before(cfg.End) || m.Timestamp.Before(cfg.End.AddDate(0, 0, -cfg.Days)) {
			t.Fatalf("time %v after %v", m.Timestamp, before)
		}
		before = m.Timestamp
		libraries[m.Context.Library.Name]++
		id := m.UserID
		if id == "" {
			if id = users[m.AnonymousID]; id == "" {
				id = m.AnonymousID
			}
		}
		l := lives[id]
		if l == nil {
			l = &life{orderAt: map[string]time.Time{}, anonymousFirst: m.UserID == ""}
			lives[id] = l
		}
		if m.UserID != "" {
			l.user = true
		}
		switch m.Event {
		case "Order Completed":
			orders++
			l.orders++
			byMonth[m.Timestamp.Month()]++
			l.orderAt[m.Properties.OrderID] = m.Timestamp
			if v, err := m.Properties.Total.Float64(); err != nil || v <= 0 || len(m.Properties.Currency) != 3 {
				t.Fatalf("an order without an amount: %s", b)
			}
		case "Order Refunded", "Order Cancelled":
			refunds++
			if at, ok := l.orderAt[m.Properties.OrderID]; !ok || m.Timestamp.Before(at) {
				t.Fatalf("a refund before its order: %s", b)
			}
		case "Ticket Opened", "Live Chat Conversation Started", "Call Started":
			tickets++
		case "Survey Answered":
			surveys++
		}
		if m.Context.Library.Name == "@segment/analytics-node" {
			server++
		}
		if m.Context.Library.Name == "analytics-swift" || m.Context.Library.Name == "analytics-kotlin" {
			mobile++
		}
	}
	var anonymous, leads, buyers, joined int
	var sum, squares float64
	for _, l := range lives {
		switch {
		case !l.user:
			anonymous++
		case l.orders == 0:
			leads++
		default:
			buyers++
			sum += float64(l.orders)
			squares += float64(l.orders * l.orders)
		}
		if l.user && l.anonymousFirst {
			joined++
		}
	}
	mean := sum / float64(buyers)
	variance := squares/float64(buyers) - mean*mean
	share := func(name string, got, of int, low, high float64) {
		t.Helper()
		if s := float64(got) / float64(of); s < low || s > high {
			t.Errorf("%s: %d of %d is %.3f, want %.3f to %.3f", name, got, of, s, low, high)
		}
	}
	t.Logf("%d messages of %d bytes, %d orders of %d buyers (mean %.1f, variance %.1f), %d refunds, %d tickets, %d surveys, libraries %v, months %v",
		n, size/n, orders, buyers, mean, variance, refunds, tickets, surveys, libraries, byMonth)
	share("customers", len(lives), cfg.Customers, 0.99, 1.01)
	share("visitors that stay anonymous", anonymous, cfg.Customers, 0.2, 0.45)
	share("leads that never buy", leads, cfg.Customers, 0.15, 0.45)
	share("buyers", buyers, cfg.Customers, 0.25, 0.6)
	share("users that came anonymously first", joined, leads+buyers, 0.95, 1)
	share("refunds", refunds, orders, 0.05, 0.13)
	share("messages of a server", server, n, 0.02, 0.3)
	share("messages of an app", mobile, n, 0.02, 0.4)
	share("tickets by order", tickets, orders, 0.02, 0.5)
	share("surveys by order", surveys, orders, 0.05, 0.2)
	if variance < 2*mean {
		t.Errorf("the purchases of a customer have mean %.2f and variance %.2f: the rates do not differ", mean, variance)
	}
	if byMonth[time.December] < byMonth[time.February]*5/4 {
		t.Errorf("no Christmas season: %v", byMonth)
	}
	if avg := size / n; avg < 330 || avg > 480 {
		t.Errorf("a message has %d bytes", avg)
	}
}

func TestEndless(t *testing.T) {
	c := cfg
	c.Customers = 100_000
	n, size, users, ids := 0, 0, map[string]bool{}, map[string]bool{}
	for b := range demo.Endless(c) {
		m := read(t, b)
		size += len(b)
		ids[m.MessageID] = true
		users[m.UserID+m.AnonymousID] = true
		if m.UserID == "" && m.AnonymousID == "" {
			t.Fatalf("%s", b)
		}
		if n++; n == 20_000 {
			break
		}
	}
	if len(ids) != n || len(users) < n*3/4 {
		t.Errorf("%d messages have %d ids and %d customers", n, len(ids), len(users))
	}
	if avg := size / n; avg < 360 || avg > 480 {
		t.Errorf("a message has %d bytes", avg)
	}
}

func TestValidate(t *testing.T) {
	if err := cfg.Validate(); err != nil {
		t.Error(err)
	}
	for _, bad := range []demo.Config{
		{Customers: 0, Days: 1, End: cfg.End},
		{Customers: 1, Days: 0, End: cfg.End},
		{Customers: 1, Days: 1},
		{Customers: 10_000_001, Days: 1, End: cfg.End},
		{Customers: 1, Days: 3651, End: cfg.End},
	} {
		if bad.Validate() == nil {
			t.Errorf("%+v is valid", bad)
		}
	}
}

func BenchmarkEndless(b *testing.B) {
	c := cfg
	c.Customers = 100_000
	b.ReportAllocs()
	n := 0
	for m := range demo.Endless(c) {
		b.SetBytes(int64(len(m)))
		if n++; n >= b.N {
			break
		}
	}
}
