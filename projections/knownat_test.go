package projections

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"

	"sojourn/condition"
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
		if !m.isMessage() || rules.compiled.Identity().Nobody(h.Subject().Value) {
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

// standingsAt are the points and the satisfaction of each subject's customer as of an
// instant: those of what is known, who is one customer included, up to it.
func standingsAt(known []sent, asOf domain.Millis, rules *Rules, subject string) portraitLines {
	who := whoIsWho(known, rules)
	var messages, commands []sent
	for _, m := range once(known) {
		switch {
		case m.at > asOf:
		case m.command != nil && who.of(subject)[m.command.subject.String()]:
			commands = append(commands, m)
		case m.isMessage() && who.of(subject)[m.header().Subject().String()]:
			messages = append(messages, m)
		}
	}
	points, opinions := factsOf(messages, commands, rules)
	return standings(points, opinions, rules, asOf)
}

// Points and satisfaction as of any day, and by what was known then, are those of a
// naive fold of what was recorded by then.
func TestPointsAtAnyTime(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		order := drawOrder(t, drawMessages(t))
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
		g.batchEvents = rapid.IntRange(1, 20).Draw(t, "batch")
		if err := g.runToEnd(context.Background(), nil); err != nil {
			t.Fatal(err)
		}
		v := &Views{cfg: Config{Store: log, Keyer: testKeyer, Now: c.now, Dir: dir}, logger: discard, active: g}
		v.ctx, v.cancel = context.WithCancel(context.Background())
		v.policies = []appliedRules{{Rules: rules, recordedAt: day0 - 10*domain.Day}}
		defer v.cancel()
		defer v.pasts.close()
		ask := func(at At, known []sent, asOf domain.Millis) {
			p, release, err := v.known(context.Background(), at.KnownAt)
			if err != nil {
				t.Fatal(err)
			}
			defer release()
			from := g
			if p != nil {
				from = p.g
			}
			seen := map[string]bool{}
			for _, m := range known {
				if m.isMessage() {
					seen[m.header().Subject().String()] = true
				}
			}
			for ref := range seen {
				q := &question{fold: newFold(rules, testKeyer, snapshot{from.state.db}, discard), known: domain.MaxTime}
				members, _, err := q.find(ref)
				if errors.Is(err, ErrNotFound) {
					continue // nobody
				}
				if err != nil {
					t.Fatalf("%s: %v", ref, err)
				}
				var facts customer.Facts
				for _, m := range members {
					facts.Merge(&m.facts)
				}
				got := standings(&facts.Loyalty, &facts.Satisfaction, rules, asOf)
				want := standingsAt(known, asOf, rules, ref)
				// What comes later is no reason for a row of somebody of whom nothing
				// was known yet.
				if facts.FirstSeen > asOf && want == (portraitLines{}) {
					continue
				}
				if facts.Satisfaction.Len() > 0 && want.Satisfaction == "" {
					got.Satisfaction = ""
				}
				if got != want {
					picture{ref: {portraitLines: got}}.compare(t, picture{ref: {portraitLines: want}}, fmt.Sprintf("at %+v\n%s", at, toldOf(order, times)))
				}
			}
		}
		ask(At{}, order, domain.MillisOf(c.now()))
		asOf := day0 + domain.Millis(rapid.IntRange(0, 700).Draw(t, "as of"))*domain.Day
		ask(At{AsOf: asOf.Time()}, order, asOf)
		then := rapid.SampledFrom(times).Draw(t, "known")
		n := 0
		for n < len(times) && times[n] <= then {
			n++
		}
		ask(At{KnownAt: then.Time()}, order[:n], then)
		ask(At{KnownAt: then.Time(), AsOf: asOf.Time()}, order[:n], asOf)
	})
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
		// Asked about several times at once, the answers are the same.
		all := []At{{}, {AsOf: asOf.Time()}, {KnownAt: then.Time()}, {AsOf: asOf.Time(), KnownAt: then.Time()}, {AsOf: then.Time()}}
		needs := &condition.Needs{Stage: true, Traits: []string{"plan"}, Touchpoints: []condition.Touchpoints{{Selector: condition.Selector{Meaning: "purchase"}}}}
		for _, ref := range []string{"user:u1", "user:u2", "anon:a1", "anon:a2"} {
			subject, err := domain.ParseSubject(ref)
			if err != nil {
				t.Fatal(err)
			}
			id := domain.SubjectID(testKeyer.Stream(subject))
			got, err := v.Wholes(context.Background(), log, id, all, needs)
			if err != nil {
				t.Fatalf("%s: %v", ref, err)
			}
			for i, at := range all {
				want, err := v.Whole(context.Background(), id, at, needs)
				if errors.Is(err, ErrNotFound) && got[i] == nil {
					continue
				}
				if err != nil || got[i] == nil || !reflect.DeepEqual(*got[i], want) {
					t.Fatalf("%s %+v\n got  %+v\n want %+v, %v", ref, at, got[i], want, err)
				}
			}
		}
	})
}
