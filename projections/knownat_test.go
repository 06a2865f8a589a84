package projections

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"

	"sojourn/domain"
	"sojourn/domain/customer"
)

// oracleAt is the answer for each subject: who is one customer by what is known,
// of the touchpoints by an instant.
func oracleAt(known []sent, asOf domain.Millis, rules *Rules) map[string]string {
	who := whoIsWho(known, rules)
	key := func(sub domain.Subject) string { return who.name(sub.String()) }
	first := map[string]domain.Subject{} // senior in the log
	subs := map[string]map[string]bool{}
	facts := map[string]*customer.Facts{}
	for _, m := range known { // order of the log
		h := m.header()
		if m.decision != "" || rules.compiled.Identity().Nobody(h.Subject().Value) {
			continue
		}
		k := key(h.Subject())
		if _, ok := first[k]; !ok {
			first[k] = h.Subject()
		}
		if subs[k] == nil {
			subs[k] = map[string]bool{}
		}
		subs[k][h.Subject().String()] = true
		if m.at > asOf {
			continue
		}
		if facts[k] == nil {
			facts[k] = &customer.Facts{}
		}
		rule := rules.compiled.Classify(h.Kind, h.Source, h.Name)
		t := rules.touch(&h, refOf(m), rule, m.data())
		facts[k].Add(&t, rules.book)
	}
	out := map[string]string{}
	for k, f := range facts {
		view, past, _ := f.View(asOf, rules.compiled)
		if len(past) == 0 {
			continue
		}
		s := fmt.Sprintf("%s %s %d %d %v %v %d %d", domain.SubjectID(testKeyer.Stream(first[k])), view.Stage, view.StageSince,
			view.Totals.Purchases, view.Totals.Revenue, view.Totals.Refunds, view.FirstSeen, view.LastSeen)
		for sub := range who.of(k) {
			out[sub] = s
		}
	}
	return out
}

// As of any day, and by what was known then, the answers are those of a naive
// fold of what was recorded by then.
func TestKnownAtAndAsOf(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		set := drawMessages(t)
		order := drawOrder(t, set)
		times := recordedTimes(t, order)
		var c clock
		log := openStore(t, &c)
		defer func() { _ = log.Close() }()
		c.set(day0 - domain.Day)
		appendAll(t, log, &c, order, times)
		c.set(times[len(times)-1] + 700*domain.Day)
		rules := testRules()
		g := newGeneration(t, vfs.NewMem(), log, newMemory(), rules, &c)
		defer func() { _ = g.state.close() }()
		g.batchEvents = 3
		if err := g.runToEnd(context.Background(), nil); err != nil {
			t.Fatal(err)
		}
		v := &Views{cfg: Config{Store: log, Keyer: testKeyer, Now: c.now}, logger: discard, active: g}
		v.policies = []appliedRules{{Rules: rules, recordedAt: day0 - 10*domain.Day}}
		ask := func(at At, known []sent, asOf domain.Millis, what string) {
			want := oracleAt(known, asOf, rules)
			for _, ref := range []string{"user:u1", "user:u2", "user:u3", "user:a2", "anon:a1", "anon:a2", "anon:a3", "anon:a4", "anon:u2", "user:nobody", "email:a@example.com", "email:b@example.com"} {
				got := ""
				cu, err := v.Customer(context.Background(), ref, at)
				if err == nil {
					rev := map[string]domain.Decimal(nil)
					for k, a := range cu.Revenue {
						d, _ := domain.ParseDecimal(a)
						if rev == nil {
							rev = map[string]domain.Decimal{}
						}
						rev[k] = d
					}
					got = fmt.Sprintf("%s %s %d %d %v %v %d %d", cu.ID, cu.Stage, domain.MillisOf(cu.StageSince), cu.Purchases, rev, cu.Refunds, domain.MillisOf(cu.FirstSeen), domain.MillisOf(cu.LastSeen))
				} else if !errors.Is(err, ErrNotFound) {
					t.Fatalf("%s: %v", ref, err)
				}
				w := want[ref]
				if got != w {
					t.Fatalf("%s %s %+v\n got  %s\n want %s", what, ref, at, got, w)
				}
			}
		}
		ask(At{}, order, domain.MillisOf(c.now()), "now")
		asOf := day0 + domain.Millis(rapid.IntRange(0, 1500).Draw(t, "as of"))*domain.Day
		ask(At{AsOf: asOf.Time()}, order, asOf, "as of")
		n := rapid.IntRange(0, len(order)-1).Draw(t, "known")
		then := times[n]
		var known []sent
		for i, m := range order {
			if times[i] <= then {
				known = append(known, m)
			}
		}
		ask(At{KnownAt: then.Time()}, known, then, "known at")
		ask(At{KnownAt: then.Time(), AsOf: asOf.Time()}, known, asOf, "both")
	})
}
