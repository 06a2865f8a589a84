package loyalty_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sojourn/domain"
	"sojourn/domain/commerce"
	"sojourn/domain/loyalty"
	"sojourn/domain/policy"
)

// Rules that the generated histories are judged by.
var ruleSets = []spec{
	{rules: `{}`},
	{rules: `{"expiry":{"days":20,"grace_days":3},"earning":{"pending_days":5}}`},
	{rules: `{"tiers":{"window":"calendar"},"expiry":{"days":0}}`},
	{rules: `{"tiers":{"days":30,"levels":[{"name":"member","threshold":0},{"name":"silver","threshold":60},{"name":"gold","threshold":150}]},
		"earning":{"pending_days":2,"events":[{"name":"Product Reviewed","points":7}],"birthday":11,"rates":{"EUR":"1.5"},
			"multipliers":[{"factor":"1.5","products":["tea"]},{"factor":2,"tiers":["gold"],"channels":["web"]}]}}`},
	{rules: `{"tiers":{"by":"spend","days":40,"levels":[{"name":"base","threshold":0},{"name":"top","threshold":"80.5"}]},"earning":{"enrolment":"explicit"}}`},
	{
		rules: `{"tiers":{"days":30,"levels":[{"name":"member","threshold":0},{"name":"silver","threshold":60}]}}`,
		later: []applied{
			{day: 30, rules: `{"tiers":{"days":50,"levels":[{"name":"member","threshold":0},{"name":"silver","threshold":40},{"name":"gold","threshold":90}]},"expiry":{"days":15}}`},
			{day: 60, rules: `{"earning":{"per_unit":2,"enrolment":"explicit"},"tiers":{"window":"calendar"}}`},
		},
	},
}

// drawHistory draws events over some hundred days, with ids in random order.
func drawHistory(t *rapid.T) []step {
	n := rapid.IntRange(1, 24).Draw(t, "events")
	at := func() float64 {
		// Whole days make events of one instant, and deadlines at events.
		return float64(rapid.IntRange(0, 120).Draw(t, "day"))
	}
	orderID := rapid.SampledFrom([]string{"a", "b", "c", "d"})
	amount := rapid.SampledFrom([]string{"10", "33.33", "60", "99.99", "150", "30 EUR", "", "0.5"})
	products := func() []string {
		return rapid.SampledFrom([][]string{nil, {"tea::10×2", "hat::30"}, {"tea::5"}, {"hat"}, {"mug::3"}}).Draw(t, "products")
	}
	var steps []step
	for i := 0; i < n; i++ {
		switch rapid.IntRange(0, 15).Draw(t, "kind") {
		case 0, 1, 2, 3, 4:
			steps = append(steps, buy(at(), orderID.Draw(t, "order"), amount.Draw(t, "amount"), products()...))
		case 5, 6, 7:
			steps = append(steps, refund(at(), orderID.Draw(t, "order"), amount.Draw(t, "amount"), products()...))
		case 8:
			steps = append(steps, update(at(), orderID.Draw(t, "order"), amount.Draw(t, "amount"), products()...))
		case 9:
			steps = append(steps, redeem(at(), int64(rapid.IntRange(1, 120).Draw(t, "points"))))
		case 10:
			steps = append(steps, undo(at(), rapid.IntRange(1, n).Draw(t, "of")))
		case 11:
			s := adjust(at(), int64(rapid.IntRange(-60, 60).Draw(t, "points")))
			if rapid.Bool().Draw(t, "counts") {
				s = s.counts()
			}
			steps = append(steps, s)
		case 12:
			steps = append(steps, event(at(), "Product Reviewed", "tea"))
		case 13:
			when := at()
			if rapid.Bool().Draw(t, "both") {
				k := len(steps)
				steps = append(steps, send(when, 20, k+2), receive(when, k+1).parts(20, when+9))
			} else {
				steps = append(steps, receive(when, 500).parts(20, when+9))
			}
		case 14:
			steps = append(steps, born(at(), 1+rapid.IntRange(0, 4).Draw(t, "month"), 10))
		case 15:
			steps = append(steps, rapid.SampledFrom([]step{enroll(at()), cancelOrder(at(), "a"), visit(at()), opening(at()).parts(15, 100).tier("silver", 90)}).Draw(t, "other"))
		}
	}
	// The sampled steps share their touchpoints.
	for i := range steps {
		if steps[i].touch != nil {
			c := *steps[i].touch
			steps[i].touch = &c
		} else {
			c := *steps[i].command
			steps[i].command = &c
		}
	}
	return numbered(steps)
}

func drawRules(t *rapid.T) *loyalty.Rulebook {
	return ruleSets[rapid.IntRange(0, len(ruleSets)-1).Draw(t, "rules")].rulebook()
}

// Nothing is lost and nothing made, after every step of a history as it is learnt,
// and at every instant of it.
func TestConservation(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		rules, steps := drawRules(t), drawHistory(t)
		p := rules.Programme("p")
		facts := &loyalty.Facts{}
		for i, s := range steps {
			s.add(facts, rules)
			for _, until := range []domain.Millis{s.ref().At, day(1000)} {
				l := loyalty.Fold(facts, p, until)
				if err := sound(&l); err != nil {
					t.Fatalf("step %d: %v\n%s", i, err, lines(&l))
				}
			}
		}
	})
}

// One history in whatever order, with repeats, in parts and from bytes is one
// ledger.
func TestFactsMerge(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		rules, steps := drawRules(t), drawHistory(t)
		p := rules.Programme("p")
		plain := factsOf(steps, rules)
		want := loyalty.Fold(plain, p, day(1000))
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		told := append(slices.Clone(steps), steps[:random.IntN(len(steps))]...)
		random.Shuffle(len(told), func(i, j int) { told[i], told[j] = told[j], told[i] })
		parts := make([]loyalty.Facts, 3)
		for _, s := range told {
			s.add(&parts[random.IntN(len(parts))], rules)
		}
		var whole loyalty.Facts
		for i := range parts {
			before := string(parts[i].Append(nil))
			whole.Merge(&parts[i])
			if string(parts[i].Append(nil)) != before {
				t.Fatal("a merge changed what was merged in")
			}
		}
		bytes := whole.Append(nil)
		if string(bytes) != string(plain.Append(nil)) {
			t.Fatal("other bytes")
		}
		var read loyalty.Facts
		if err := read.Parse(bytes); err != nil {
			t.Fatal(err)
		}
		for i := range bytes {
			bytes[i] = 0xff // nothing of them is kept
		}
		for how, f := range map[string]*loyalty.Facts{"merged": &whole, "read": &read} {
			if got := loyalty.Fold(f, p, day(1000)); !reflect.DeepEqual(got, want) {
				t.Fatalf("%s:\n%s\nwant\n%s", how, lines(&got), lines(&want))
			}
		}
	})
}

// What is known of an instant does not depend on what happened behind it, and
// the clock only cuts.
func TestTheClockOnlyCuts(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		rules, steps := drawRules(t), drawHistory(t)
		p := rules.Programme("p")
		cut := day(float64(rapid.IntRange(0, 150).Draw(t, "cut")))
		var before []step
		for _, s := range steps {
			if s.ref().At <= cut {
				before = append(before, s)
			}
		}
		facts := factsOf(steps, rules)
		got, known := loyalty.Fold(facts, p, cut), loyalty.Fold(factsOf(before, rules), p, cut)
		if !reflect.DeepEqual(got, known) {
			t.Fatalf("what comes later changed it:\n%s\n%s\nwithout\n%s\n%s", lines(&got), tierLines(&got), lines(&known), tierLines(&known))
		}
		all := loyalty.Fold(facts, p, day(1000))
		if n := len(got.Movements); !slices.Equal(got.Movements, all.Movements[:n]) || n < len(all.Movements) && all.Movements[n].At <= cut {
			t.Fatalf("no beginning:\n%s\nof\n%s", lines(&got), lines(&all))
		}
		if n := len(got.Transitions); !slices.Equal(got.Transitions, all.Transitions[:n]) || n < len(all.Transitions) && all.Transitions[n].At <= cut {
			t.Fatalf("no beginning:\n%s\nof\n%s", tierLines(&got), tierLines(&all))
		}
		// Time alone does nothing before Next, and says so.
		outlook := loyalty.Fold(factsOf(before, rules), p, day(1000))
		first := policy.Never
		if n := len(got.Movements); n < len(outlook.Movements) {
			first = outlook.Movements[n].At
		}
		if n := len(got.Transitions); n < len(outlook.Transitions) {
			first = min(first, outlook.Transitions[n].At)
		}
		if first < got.Next || got.Next <= cut {
			t.Fatalf("next is %s, but at %s something happens", days(got.Next), days(first))
		}
	})
}

// Rules about points look forward: a policy that is not retroactive changes
// nothing before its apply.
func TestAnApplyLeavesThePast(t *testing.T) {
	t.Parallel()
	documents := []string{"none"}
	for _, s := range ruleSets {
		documents = append(documents, s.rules)
		for _, a := range s.later {
			documents = append(documents, a.rules)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		steps := drawHistory(t)
		document := rapid.SampledFrom(documents)
		s := spec{rules: document.Filter(func(d string) bool { return d != "none" }).Draw(t, "rules")}
		at := 0
		for range rapid.IntRange(1, 4).Draw(t, "policies") {
			at += rapid.IntRange(0, 60).Draw(t, "days")
			s.later = append(s.later, applied{float64(at), document.Draw(t, "rules"), rapid.Bool().Draw(t, "rollback")})
		}
		with := s.rulebook()
		s.later = s.later[:len(s.later)-1]
		without := s.rulebook()
		got := loyalty.Fold(factsOf(steps, with), with.Programme("p"), day(float64(at))-1)
		want := loyalty.Fold(factsOf(steps, without), without.Programme("p"), day(float64(at))-1)
		if !slices.Equal(got.Movements, want.Movements) || !slices.Equal(got.Transitions, want.Transitions) || !reflect.DeepEqual(got.Lots, want.Lots) {
			t.Fatalf("an apply on day %d changed the past:\n%s\n%s\nfrom\n%s\n%s", at, lines(&got), tierLines(&got), lines(&want), tierLines(&want))
		}
	})
}

// An order has given exactly what its remaining amount earns.
func TestOrdersGiveWhatRemains(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		steps := drawHistory(t)
		rules := ruleSets[rapid.IntRange(0, 2).Draw(t, "rules")].rulebook()
		for i := range steps {
			if s := steps[i].touch; s != nil {
				s.Lines = nil
			}
		}
		l := loyalty.Fold(factsOf(steps, rules), rules.Programme("p"), day(1000))
		gave := map[string]int64{}
		for _, m := range l.Movements {
			switch m.Kind {
			case loyalty.Earned:
				gave[m.Order] += m.Points
			case loyalty.Reversed, loyalty.Offset:
				gave[m.Order] -= m.Points
			}
		}
		sorted := slices.Clone(steps)
		slices.SortFunc(sorted, func(a, b step) int { return a.ref().Compare(b.ref()) })
		for _, order := range []string{"a", "b", "c", "d"} {
			if want := remaining(sorted, order); gave[order] != want {
				t.Fatalf("order %s gave %d, want %d\n%s", order, gave[order], want, lines(&l))
			}
		}
	})
}

// remaining is the whole units that are left of an order, told plainly.
func remaining(sorted []step, id string) int64 {
	var amount, taken domain.Decimal
	readable, bought, refunded, closed := false, false, false, false
	currency := "USD"
	of := func(s step, m policy.Meaning) bool {
		return s.touch != nil && s.touch.Meaning == m && s.touch.Order.ID == id
	}
	for _, s := range sorted {
		if of(s, policy.Purchase) {
			if o := s.touch.Order; o.Currency != "" {
				currency = o.Currency
			}
			break
		}
	}
	var early []step
	var apply func(s step)
	apply = func(s step) {
		o := s.touch.Order
		foreign := o.Currency != "" && o.Currency != currency
		switch {
		case of(s, policy.Purchase):
			if bought {
				return
			}
			bought, amount, readable = true, o.Amount, o.State == commerce.AmountRead
			for _, e := range early {
				if of(e, policy.OrderUpdate) {
					apply(e)
				}
			}
			for _, e := range early {
				if !of(e, policy.OrderUpdate) {
					apply(e)
				}
			}
		case of(s, policy.OrderUpdate) && o.State == commerce.AmountRead && !foreign:
			amount, readable = o.Amount, true
			closed = closed || refunded && taken >= amount
		case of(s, policy.Cancellation):
			closed = true
		case of(s, policy.Refund):
			refunded = true
			if o.State == commerce.AmountNone {
				closed = true
			} else if !foreign {
				taken = taken.Add(o.Amount)
			}
			closed = closed || !readable || taken >= amount
		}
	}
	for _, s := range sorted {
		if s.touch == nil || s.touch.Order.ID != id {
			continue
		}
		if !bought && !of(s, policy.Purchase) {
			early = append(early, s)
			continue
		}
		apply(s)
	}
	if !bought || closed || !readable || currency != "USD" {
		return 0
	}
	return int64(amount.Sub(taken)) / 10_000
}

// The tiers are those of a plain telling that starts from the beginning at each
// refund.
func TestTiersAgainstTheirDefinition(t *testing.T) {
	t.Parallel()
	levels := []plainLevel{{"member", 0}, {"silver", 60}, {"gold", 150}}
	const doc = `{"name":"member","threshold":0},{"name":"silver","threshold":60},{"name":"gold","threshold":150}`
	rapid.Check(t, func(t *rapid.T) {
		calendar := rapid.Bool().Draw(t, "calendar")
		s := spec{rules: `{"tiers":{"days":30,"levels":[` + doc + `]}}`}
		if calendar {
			s.rules = `{"tiers":{"window":"calendar","levels":[` + doc + `]}}`
		}
		rules := s.rulebook()
		var steps []step
		n := rapid.IntRange(1, 20).Draw(t, "events")
		reach := 160
		if calendar {
			reach = 1500
		}
		for range n {
			at := float64(rapid.IntRange(0, reach).Draw(t, "day"))
			if rapid.Bool().Draw(t, "midnight") {
				at += 0.5
			}
			id := fmt.Sprint(rapid.IntRange(0, 5).Draw(t, "order"))
			amount := fmt.Sprint(rapid.SampledFrom([]int{20, 50, 60, 100, 150, 210}).Draw(t, "amount"))
			if rapid.IntRange(0, 2).Draw(t, "refund") == 0 {
				steps = append(steps, refund(at, id, amount))
			} else {
				steps = append(steps, buy(at, id, amount))
			}
		}
		l := loyalty.Fold(factsOf(numbered(steps), rules), rules.Programme("p"), day(4000))
		plain := plainTiers{levels: levels, calendar: calendar}
		if got, want := tierLines(&l), plain.tell(&l); got != want {
			t.Fatalf("tiers\n%s\nwant\n%s\nof\n%s", got, want, lines(&l))
		}
	})
}

type plainLevel struct {
	name      string
	threshold int64
}

type plainCredit struct {
	at     domain.Millis
	points int64
	order  string
}

type plainTiers struct {
	levels   []plainLevel
	calendar bool
}

type plainHold struct {
	level int
	ends  domain.Millis
}

func (p *plainTiers) level(total int64) int {
	level := 0
	for i, l := range p.levels {
		if total >= l.threshold {
			level = i
		}
	}
	return level
}

func (p *plainTiers) total(credits []plainCredit, at domain.Millis) int64 {
	var total int64
	for _, c := range credits {
		in := c.at <= at && c.at > at-30*domain.Day
		if p.calendar {
			in = c.at <= at && c.at.Time().Year() == at.Time().Year()
		}
		if in {
			total += c.points
		}
	}
	return total
}

func (p *plainTiers) holdEnd(at domain.Millis, years int) domain.Millis {
	if p.calendar {
		return domain.MillisOf(time.Date(at.Time().Year()+years, 1, 1, 0, 0, 0, 0, time.UTC))
	}
	return at + 30*domain.Day
}

// pass ends the holds before an instant.
func (p *plainTiers) pass(h plainHold, credits []plainCredit, to domain.Millis, told func(plainHold, domain.Millis)) plainHold {
	for h.level > 0 && h.ends < to {
		at := h.ends
		total := p.total(credits, at)
		if p.calendar {
			// The year then ending, and what the one that begins has already.
			total = max(total, p.total(credits, at-1))
			if p.level(p.total(credits, at)) > p.level(p.total(credits, at-1)) {
				h = plainHold{p.level(total), p.holdEnd(at, 2)}
				told(h, at)
				continue
			}
		}
		h = plainHold{p.level(total), p.holdEnd(at, 1)}
		told(h, at)
	}
	return h
}

// walk goes through credits from the beginning to an instant.
func (p *plainTiers) walk(credits []plainCredit, now domain.Millis) plainHold {
	var h plainHold
	ignore := func(plainHold, domain.Millis) {}
	for i, c := range credits {
		h = p.pass(h, credits[:i], c.at, ignore)
		if level := p.level(p.total(credits[:i+1], c.at)); level > h.level {
			h = plainHold{level, p.holdEnd(c.at, 2)}
		}
	}
	return p.pass(h, credits, now, ignore)
}

func (p *plainTiers) tell(l *loyalty.Ledger) string {
	var out loyalty.Ledger
	name := ""
	told := func(h plainHold, at domain.Millis) {
		if to := p.levels[h.level].name; to != name {
			ends := h.ends
			if h.level == 0 {
				ends = policy.Never
			}
			out.Transitions = append(out.Transitions, loyalty.Transition{To: to, At: at, Until: ends})
			name = to
		}
	}
	var h plainHold
	told(h, l.Enrolled)
	var credits []plainCredit
	for i := 0; i < len(l.Movements); {
		// All lines of one cause are one event.
		first := i
		var less int64
		for ; i < len(l.Movements) && l.Movements[i].Cause == l.Movements[first].Cause && l.Movements[i].At == l.Movements[first].At; i++ {
			if k := l.Movements[i].Kind; k == loyalty.Reversed || k == loyalty.Offset {
				less += l.Movements[i].Points
			}
		}
		m := l.Movements[first]
		h = p.pass(h, credits, m.At, told)
		switch {
		case m.Kind == loyalty.Earned:
			credits = append(credits, plainCredit{m.At, m.Points, m.Order})
			if level := p.level(p.total(credits, m.At)); level > h.level {
				h = plainHold{level, p.holdEnd(m.At, 2)}
				told(h, m.At)
			}
		case less > 0:
			k := len(credits) - 1
			for ; k >= 0; k-- {
				if credits[k].order == m.Order {
					n := min(less, credits[k].points)
					credits[k].points -= n
					less -= n
				}
			}
			if w := p.walk(credits, m.At); w.level < h.level {
				h = w
				told(h, m.At)
			}
		}
	}
	p.pass(h, credits, day(4000), told)
	return tierLines(&out)
}
