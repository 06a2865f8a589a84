package projections

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"

	"sojourn/domain"
	"sojourn/domain/loyalty"
	"sojourn/domain/policy"
	"sojourn/domain/satisfaction"
)

// nextPolicy is one that differs from the one of testRules in whatever bears on points:
// who is one customer, what a purchase is, and what it earns.
func nextPolicy(t *rapid.T) policy.Policy {
	p := testRules().Policy
	if rapid.Bool().Draw(t, "others are nobody") {
		p.Identity.Nobody = []string{"u3", "a1"}
	}
	if join := rapid.SampledFrom([][]string{nil, {"user"}, {"user", "email"}, {"anon", "user"}}).Draw(t, "join"); join != nil {
		p.Identity.Join = join
	}
	if rapid.Bool().Draw(t, "other meanings") {
		p.Events = append(slices.Clone(p.Events), policy.Mapping{Name: "Order Updated", Meaning: policy.Purchase}, policy.Mapping{Name: "Order Completed", Meaning: policy.Engagement})
	}
	if rapid.Bool().Draw(t, "other points") {
		p.Loyalty.Programmes = slices.Clone(p.Loyalty.Programmes)
		shop := &p.Loyalty.Programmes[0]
		shop.Earning.PerUnit, shop.Earning.Retroactive = number("3"), rapid.Bool().Draw(t, "retroactive")
		shop.Earning.Events = []policy.EventPoints{{Name: "Signed Up", Points: 5}}
	}
	return p
}

// asHeld is the customer of a subject as a desk finds it, in words.
func asHeld(t tb, tail *tail, rules *Rules, ref string, asOf domain.Millis) string {
	t.Helper()
	h, err := tail.holder(context.Background(), ref)
	if errors.Is(err, ErrNotFound) {
		return "nobody"
	}
	if err != nil {
		t.Fatalf("%s: %v", ref, err)
	}
	return fmt.Sprint(h.id, streamsOf(h.members), h.fingerprint(tail.rules.Version), standings(&h.facts, &satisfaction.Facts{}, rules, asOf))
}

// Commands are decided by the policy in force from its apply on: before the views are
// built under it, customers and points are those of a fold of the whole log under it.
func TestCommandsByThePolicyInForce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		order := drawOrder(t, drawMessages(t))
		times := recordedTimes(t, order)
		var c clock
		log := openStore(t, &c)
		defer func() { _ = log.Close() }()
		// The views have some of it, the rest is behind them.
		have := rapid.IntRange(0, len(order)).Draw(t, "the views have")
		appendAll(t, log, &c, order[:have], times)
		old := newGeneration(t, vfs.NewMem(), log, newMemory(), testRules(), &c)
		defer func() { _ = errors.Join(old.settle(), old.state.close()) }()
		if err := old.runToEnd(context.Background(), nil); err != nil {
			t.Fatal(err)
		}
		appendAll(t, log, &c, order[have:], times[have:])
		applied := times[rapid.IntRange(0, len(times)-1).Draw(t, "applied")]
		rules := NewRules(loyalty.AppliedPolicy{Policy: testRules().Policy}, loyalty.AppliedPolicy{Policy: nextPolicy(t), At: applied})

		tailOf := func(g *generation) *tail {
			d := &desk{follower: follower{views: &Views{cfg: Config{Store: log, Keyer: testKeyer, Now: c.now}, logger: discard, active: g}, bare: true}}
			if err := d.follower.catchUp(context.Background()); err != nil {
				t.Fatal(err)
			}
			d.tail.rules = rules.bare()
			return d.tail
		}
		pending := tailOf(old)
		defer func() { _ = pending.snapshot.Close() }()
		g := newGeneration(t, vfs.NewMem(), log, newMemory(), rules, &c)
		defer func() { _ = errors.Join(g.settle(), g.state.close()) }()
		if err := g.runToEnd(context.Background(), nil); err != nil {
			t.Fatal(err)
		}
		built := tailOf(g)
		defer func() { _ = built.snapshot.Close() }()
		if pending.current() || !built.current() {
			t.Fatalf("pending: %t, built: %t", pending.current(), built.current())
		}
		asOf := domain.MillisOf(c.now())
		for _, m := range order {
			if !m.isMessage() {
				continue
			}
			ref := m.header().Subject().String()
			if got, want := asHeld(t, pending, rules, ref, asOf), asHeld(t, built, rules, ref, asOf); got != want {
				t.Fatalf("%s\ngot  %s\nwant %s\n%s", ref, got, want, toldOf(order, times))
			}
		}
	})
}

// Points that only the new policy gives can be spent from its apply on, on the server
// where it was applied and on another, and each stays spent when the views are switched.
func TestRedeemBeforeTheSwitch(t *testing.T) {
	s := newSite(t)
	s.send(buy("o", "ann", day0-9*domain.Day, "300"))
	o := s.another()
	for _, server := range []*site{s, o} {
		server.views.exclusive.Lock() // nothing is built
	}
	if _, err := s.do(redeem("user:ann", 400, "early")); !errors.As(err, new(*ShortError)) {
		t.Errorf("before the apply: %v", err)
	}
	s.applyNow(Proposal{Policy: earningFrom("2", "", true)}, 2, true)
	if c := s.must(redeem("user:ann", 400, "1")); c.Balance != (loyalty.Balance{Available: 200}) {
		t.Errorf("where it was applied: %+v", c)
	}
	if c := o.must(redeem("user:ann", 150, "2")); c.Balance != (loyalty.Balance{Available: 50}) {
		t.Errorf("elsewhere: %+v", c)
	}
	if c := s.must(redeem("user:ann", 400, "1")); !c.Repeated || c.Balance != (loyalty.Balance{Available: 200}) {
		t.Errorf("the same key: %+v", c)
	}
	var short *ShortError
	if _, err := s.do(redeem("user:ann", 51, "3")); !errors.As(err, &short) || short.Balance.Available != 50 {
		t.Errorf("more than there is: %v", err)
	}
	if v := s.views.Status().PolicyVersion; v != 1 {
		t.Errorf("the views are under policy %d", v)
	}
	for _, server := range []*site{s, o} {
		server.views.exclusive.Unlock()
		server.under(2)
		server.tidy() // this SQL does not come through the port, which would hold it
		server.settled()
		if got := server.rows("SELECT (available, redeemed, debt) AS x FROM loyalty_status"); len(got) != 1 || got[0] != "(50,550,0)" {
			t.Errorf("balance %v", got)
		}
	}
	if c := s.must(redeem("user:ann", 50, "4")); c.Balance != (loyalty.Balance{}) {
		t.Errorf("behind the switch: %+v", c)
	}
	if v := s.verify(); !v.Equal() {
		t.Errorf("verify: %+v", v)
	}
}

// A key gives its answer also when the policy says that its subject names nobody.
func TestAKeyOfNobody(t *testing.T) {
	s := newSite(t)
	s.send(buy("o", "ann", day0-9*domain.Day, "300"))
	first := s.must(redeem("user:ann", 120, "1"))
	p := testRules().Policy
	p.Identity.Nobody = []string{"ann"}
	s.applyNow(Proposal{Policy: p}, 2, true)
	for _, when := range []string{"before the switch", "behind it"} {
		if c := s.must(redeem("user:ann", 120, "1")); !c.Repeated || c.Event != first.Event || c.Balance != first.Balance {
			t.Errorf("%s: %+v", when, c)
		}
		if _, err := s.do(redeem("user:ann", 121, "1")); !errors.As(err, new(*KeyError)) {
			t.Errorf("%s, another body: %v", when, err)
		}
		if _, err := s.do(redeem("user:ann", 1, "2")); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s, another key: %v", when, err)
		}
		s.under(2)
	}
}
