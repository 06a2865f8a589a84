package projections

import (
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"

	"sojourn/domain"
	"sojourn/domain/loyalty"
	"sojourn/warehouse"
)

// What time alone does to points shows at the clock of a flush also where the last
// batch was about the customer and not about points.
func TestTimePassesForWhoIsInTheBatch(t *testing.T) {
	var c clock
	c.set(day0)
	log := openStore(t, &c)
	defer func() { _ = log.Close() }()
	bought("o1", "42", day0-1, 30).appendTo(t, log)
	last := sent{id: "p1", kind: domain.Page, user: "42", at: day0}.appendTo(t, log)
	sink := newMemory()
	g := newGeneration(t, vfs.NewMem(), log, sink, testRules(), &c)
	defer func() { _ = g.state.close() }()
	g.batchEvents = 1
	if err := g.runTo(t.Context(), last, day0+100*domain.Day, nil); err != nil {
		t.Fatal(err)
	}
	for _, r := range sink.loyalty {
		if r.Pending != 0 || r.Expired != 30 {
			t.Errorf("after a hundred days: %+v", r)
		}
	}
	if len(sink.loyalty) != 1 {
		t.Errorf("%d rows of loyalty_status", len(sink.loyalty))
	}
}

// shopFloor is a log that views follow step by step.
type shopFloor struct {
	t     *testing.T
	clock clock
	sink  *memory
	g     *generation
}

func openShop(t *testing.T) *shopFloor {
	s := &shopFloor{t: t, sink: newMemory()}
	s.clock.set(day0)
	log := openStore(t, &s.clock)
	t.Cleanup(func() { _ = log.Close() })
	s.g = newGeneration(t, vfs.NewMem(), log, s.sink, testRules(), &s.clock)
	t.Cleanup(func() { _ = s.g.settle(); _ = s.g.state.close() })
	if err := s.g.reconcile(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

// then lets days go by since day0, and messages come at the end of them.
func (s *shopFloor) then(days int, messages ...sent) {
	s.t.Helper()
	s.clock.set(day0 + domain.Millis(days)*domain.Day)
	for _, m := range messages {
		m.at = day0 + domain.Millis(days)*domain.Day
		m.appendTo(s.t, s.g.store)
	}
	if err := s.g.runToEnd(s.t.Context(), nil); err != nil {
		s.t.Fatal(err)
	}
	s.sink.picture(s.t) // complains of what does not add up
}

// status is the row of the only customer in the shop.
func (s *shopFloor) status() (row warehouse.LoyaltyStatus) {
	s.t.Helper()
	for _, r := range s.sink.loyalty {
		if r.Programme == "shop" && !r.Removed {
			if row.Programme != "" {
				s.t.Fatalf("two customers: %+v and %+v", row, r)
			}
			row = r
		}
	}
	return row
}

func (s *shopFloor) balance(available, pending, debt int64) {
	s.t.Helper()
	if r := s.status(); r.Available != available || r.Pending != pending || r.Debt != debt {
		s.t.Errorf("%d available, %d pending, debt %d; want %d, %d, %d: %+v", r.Available, r.Pending, r.Debt, available, pending, debt, r)
	}
}

func redeemed(id string, points int64) sent {
	return sent{id: id, command: &ordered{kind: "redeem", programme: "shop", subject: domain.Subject{Kind: domain.User, Value: "42"}, points: points}}
}

func refunded(id, order, total string) sent {
	return sent{id: id, kind: domain.Track, name: "Order Refunded", user: "42", properties: `{"order_id":"` + order + `","currency":"EUR"` + total + `}`}
}

// Buy, refund, keep the points: a loyalty engine forgot them (odoo #257854).
func TestBuyRefundKeepThePoints(t *testing.T) {
	s := openShop(t)
	s.then(0, bought("o1", "42", day0, 30))
	s.balance(0, 30, 0)
	s.then(1, refunded("r1", "o1", ""))
	s.balance(0, 0, 0)
	if r := s.status(); r.Reversed != 30 || r.Tier != "member" || r.TierTotal != 0 {
		t.Errorf("after the refund: %+v", r)
	}
	// Spent first, they are owed, and what comes next pays for them.
	s.then(10, bought("o2", "42", day0, 40))
	s.then(16, redeemed("x1", 25))
	s.balance(15, 0, 0)
	s.then(17, refunded("r2", "o2", `,"total":30`))
	s.balance(0, 0, 15)
	s.then(18, bought("o3", "42", day0, 20))
	s.balance(0, 20, 15)
	s.then(24)
	s.balance(5, 0, 0)
	// The same refund told again takes nothing more.
	s.then(25, refunded("r2", "o2", `,"total":30`))
	s.balance(5, 0, 0)
}

// History mistaken for balance: an engine showed the sum of all lines that were ever
// written as what there is to spend (odoo #206048).
func TestHistoryIsNoBalance(t *testing.T) {
	s := openShop(t)
	s.then(0, bought("o1", "42", day0, 50))
	s.then(10, redeemed("x1", 20))
	s.then(20, bought("o2", "42", day0, 10), sent{id: "c1", command: &ordered{
		kind: "cancel", programme: "shop", subject: domain.Subject{Kind: domain.User, Value: "42"}, of: "x1",
	}})
	s.then(30)
	s.balance(60, 0, 0)
	s.then(100) // those of the first order have expired
	s.balance(10, 0, 0)
	if r := s.status(); r.Earned != 60 || r.Expired != 50 || r.Redeemed != 0 {
		t.Errorf("status %+v", r)
	}
	var history, balance int64
	for _, r := range s.sink.ledger {
		if r.Programme == "shop" && !r.Removed {
			history += r.Points
			balance += r.Available
		}
	}
	if balance != 10 || history == balance {
		t.Errorf("the lines move %d points and come to a balance of %d", history, balance)
	}
}

// Whatever is transferred out of a customer comes into another, at each step.
func TestTransfersAreConserved(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		order := drawOrder(t, drawMessages(t))
		var c clock
		c.set(day0)
		log := openStore(t, &c)
		defer func() { _ = log.Close() }()
		sink := newMemory()
		g := newGeneration(t, vfs.NewMem(), log, sink, testRules(), &c)
		defer func() { _ = g.settle(); _ = g.state.close() }()
		seen := map[domain.Subject]bool{}
		var told []sent
		for i, m := range order {
			steps := []sent{m}
			switch {
			case m.isMessage():
				seen[m.header().Subject()] = m.user != "nobody"
			case m.command == nil:
			case m.command.kind == "transfer_in":
				continue
			case m.command.kind == "transfer_out":
				if !seen[m.command.subject] || !seen[m.command.other] {
					continue
				}
				in := m
				in.id += "in"
				in.command = &ordered{
					kind: "transfer_in", programme: m.command.programme, subject: m.command.other, other: m.command.subject,
					points: m.command.points, of: m.id, parts: []loyalty.Part{{Points: m.command.points, Expires: m.at + 30*domain.Day}},
				}
				steps = append(steps, in)
			}
			times := slices.Repeat([]domain.Millis{day0 + 500*domain.Day + domain.Millis(i)*domain.Day}, len(steps))
			appendAll(t, log, &c, steps, times)
			told = append(told, steps...)
			if err := g.runToEnd(t.Context(), nil); err != nil {
				t.Fatalf("run: %v", err)
			}
			in, out := map[string]int64{}, map[string]int64{}
			for _, r := range sink.loyalty {
				if !r.Removed {
					in[r.Programme] += r.TransferredIn
					out[r.Programme] += r.TransferredOut
				}
			}
			for _, programme := range []string{"shop", "club"} {
				if in[programme] != out[programme] {
					t.Fatalf("%s: %d points were transferred out, and %d in\n%s", programme, out[programme], in[programme], toldOf(told, nil))
				}
			}
		}
	})
}
