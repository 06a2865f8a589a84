package trigger_test

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"sojourn/automation/trigger"
	"sojourn/domain"
	"sojourn/domain/fact"
)

const hour = domain.Day / 24

var noon = domain.MillisOf(time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)) // a Monday

func compile(t interface {
	Fatalf(string, ...any)
	Helper()
}, l trigger.Limits,
) *trigger.Trigger {
	t.Helper()
	tr, err := trigger.Compile(&trigger.Document{
		ID: "t", On: trigger.On{Transition: &trigger.Transition{}}, Limits: l,
		Do: trigger.Do{Webhook: &trigger.Webhook{Destination: "d"}},
	}, &trigger.Names{})
	if err != nil {
		t.Fatalf("%v", err)
	}
	return tr
}

// sent is a planned send of a trigger.
func sent(name string, place uint64, at domain.Millis) fact.Entry {
	id := uuid.NewSHA1(uuid.Nil, fmt.Appendf(nil, "%s %d", name, place))
	return fact.Entry{Position: place, Fact: fact.Fact{
		Kind: fact.Planned, Delivery: id, Trigger: name, Change: &fact.Change{Type: "stage.entered"}, SendAt: at,
	}}
}

// given is a situation in which every limit but those named would let one send.
type given struct {
	limits            trigger.Limits
	paused, noConsent bool
	age               domain.Millis
	chain             []string
	byHand            bool
	facts             []fact.Entry
	all               []domain.Millis
	global            *trigger.Bound
	zone              string
	at                domain.Millis
	customer          byte
}

func (g *given) decide(t *testing.T) trigger.Decision {
	t.Helper()
	if g.at == 0 {
		g.at = noon
	}
	return compile(t, g.limits).Decide(&trigger.Candidate{
		Delivery: uuid.New(), Customer: uuid.UUID{g.customer}, At: g.at - g.age, Offered: g.at, Chain: g.chain, ByHand: g.byHand,
	}, &trigger.Situation{
		Paused: g.paused, Consent: !g.noConsent, Zone: trigger.Zone(g.zone), History: fact.Fold(g.facts), Sent: g.all, Global: g.global,
	})
}

// no are the limits in their order, each so that it says no.
var no = []struct {
	reason fact.Reason
	set    func(*given)
}{
	{fact.Loop, func(g *given) { g.chain = []string{"t"} }},
	{fact.Paused, func(g *given) { g.paused = true }},
	{fact.Stale, func(g *given) { g.age = domain.Day + 1 }},
	{fact.Consent, func(g *given) { g.limits.Consent = &trigger.Consent{Trait: "ok"}; g.noConsent = true }},
	{fact.Holdout, func(g *given) {
		g.limits.Holdout = 0.1
		held := sent("t", 1, 0)
		held.Kind, held.Reason, held.Arm = fact.Suppressed, fact.Holdout, fact.Held
		g.facts = append(g.facts, held)
	}},
	{fact.Once, func(g *given) { g.limits.Once = true; g.facts = append(g.facts, sent("t", 2, noon-400*domain.Day)) }},
	{fact.AtMost, func(g *given) {
		g.limits.AtMost = &trigger.Count{Times: 1, Per: "30d"}
		g.facts = append(g.facts, sent("t", 3, noon-29*domain.Day))
	}},
	{fact.CoolDown, func(g *given) { g.limits.CoolDown = "7d"; g.facts = append(g.facts, sent("t", 4, noon-6*domain.Day)) }},
	{fact.Cap, func(g *given) { g.limits.Cap = &trigger.Count{Times: 1, Per: "1d"}; g.all = append(g.all, noon-hour) }},
	{fact.GlobalCap, func(g *given) {
		g.global = &trigger.Bound{Times: 1, Per: domain.Day}
		g.facts = append(g.facts, sent("another", 5, noon-hour))
	}},
}

func TestEachLimitSaysNo(t *testing.T) {
	var g given
	if d := g.decide(t); d.Suppress != "" || d.SendAt != noon {
		t.Fatalf("without limits: %+v", d)
	}
	for _, l := range no {
		t.Run(string(l.reason), func(t *testing.T) {
			var g given
			l.set(&g)
			if d := g.decide(t); d.Suppress != l.reason {
				t.Errorf("it says %+v", d)
			}
		})
	}
}

func TestTheFirstLimitIsTheReason(t *testing.T) {
	for i, a := range no {
		for _, b := range no[i+1:] {
			t.Run(string(a.reason+" before "+b.reason), func(t *testing.T) {
				var g given
				b.set(&g)
				a.set(&g)
				if d := g.decide(t); d.Suppress != a.reason {
					t.Errorf("it says %+v", d)
				}
			})
		}
	}
}

func TestByHandSkipsUpToStale(t *testing.T) {
	for _, l := range no[1:] {
		g := given{byHand: true}
		l.set(&g)
		want := l.reason
		if want == fact.Paused || want == fact.Stale {
			want = ""
		}
		if d := g.decide(t); d.Suppress != want {
			t.Errorf("%s by hand: %+v", l.reason, d)
		}
	}
}

func TestPeriods(t *testing.T) {
	for name, c := range map[string]struct {
		g    given
		want fact.Reason
	}{
		// (t − period, t]
		"a period ago is outside":   {given{limits: trigger.Limits{CoolDown: "7d"}, facts: []fact.Entry{sent("t", 1, noon-7*domain.Day)}}, ""},
		"just inside":               {given{limits: trigger.Limits{CoolDown: "7d"}, facts: []fact.Entry{sent("t", 1, noon-7*domain.Day+1)}}, fact.CoolDown},
		"at the same instant":       {given{limits: trigger.Limits{CoolDown: "7d"}, facts: []fact.Entry{sent("t", 1, noon)}}, fact.CoolDown},
		"another trigger's":         {given{limits: trigger.Limits{CoolDown: "7d"}, facts: []fact.Entry{sent("u", 1, noon)}}, ""},
		"freshness is its own age":  {given{age: domain.Day}, ""},
		"one less than the most":    {given{limits: trigger.Limits{AtMost: &trigger.Count{Times: 2, Per: "1d"}}, facts: []fact.Entry{sent("t", 1, noon)}}, ""},
		"a period ends at the send": {given{limits: trigger.Limits{CoolDown: "7d", QuietHours: &trigger.Hours{From: "11:00", To: "13:00"}}, facts: []fact.Entry{sent("t", 1, noon-7*domain.Day+1)}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if d := c.g.decide(t); d.Suppress != c.want {
				t.Errorf("%+v", d)
			}
		})
	}
}

func TestWhatWasNotSentCountsInNoLimit(t *testing.T) {
	planned := sent("t", 1, noon-hour)
	gone := fact.Entry{Position: 2, Fact: fact.Fact{Kind: fact.Suppressed, Delivery: planned.Delivery, Reason: fact.Withdrawn}}
	g := given{limits: trigger.Limits{Once: true}, facts: []fact.Entry{planned, gone}}
	if d := g.decide(t); d.Suppress != "" {
		t.Errorf("%+v", d)
	}
	failed := fact.Entry{Position: 2, Fact: fact.Fact{Kind: fact.Failed, Delivery: planned.Delivery, Dead: true}}
	g.facts[1] = failed // it was planned, so it counts
	if d := g.decide(t); d.Suppress != fact.Once {
		t.Errorf("%+v", d)
	}
}

func TestSendTimes(t *testing.T) {
	at := func(s string) domain.Millis {
		m, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return domain.MillisOf(m)
	}
	office := &trigger.Window{Days: []string{"mon", "tue", "wed", "thu", "fri"}, From: "09:00", To: "18:00"}
	night := &trigger.Hours{From: "22:00", To: "07:00"}
	for name, c := range map[string]struct {
		limits   trigger.Limits
		zone     string
		at, want string
	}{
		"within":                           {trigger.Limits{Window: office}, "UTC", "2026-03-02T12:00:00Z", "2026-03-02T12:00:00Z"},
		"the end is outside":               {trigger.Limits{Window: office}, "UTC", "2026-03-02T18:00:00Z", "2026-03-03T09:00:00Z"},
		"over the week-end":                {trigger.Limits{Window: office}, "UTC", "2026-03-06T18:00:00Z", "2026-03-09T09:00:00Z"},
		"in the customer's zone":           {trigger.Limits{Window: office}, "America/New_York", "2026-03-02T12:00:00Z", "2026-03-02T14:00:00Z"},
		"quiet over midnight":              {trigger.Limits{QuietHours: night}, "UTC", "2026-03-02T23:00:00Z", "2026-03-03T07:00:00Z"},
		"quiet after midnight":             {trigger.Limits{QuietHours: night}, "UTC", "2026-03-03T06:59:59Z", "2026-03-03T07:00:00Z"},
		"window and quiet":                 {trigger.Limits{Window: &trigger.Window{From: "06:00", To: "23:00"}, QuietHours: night}, "UTC", "2026-03-02T22:30:00Z", "2026-03-03T07:00:00Z"},
		"a window over midnight":           {trigger.Limits{Window: &trigger.Window{Days: []string{"mon"}, From: "22:00", To: "02:00"}}, "UTC", "2026-03-03T01:00:00Z", "2026-03-03T01:00:00Z"},
		"to 24:00":                         {trigger.Limits{Window: &trigger.Window{From: "20:00", To: "24:00"}}, "UTC", "2026-03-02T23:59:00Z", "2026-03-02T23:59:00Z"},
		"a start that is skipped":          {trigger.Limits{Window: &trigger.Window{From: "02:30", To: "05:00"}}, "Europe/Berlin", "2026-03-28T23:30:00Z", "2026-03-29T01:00:00Z"},
		"a start that comes twice":         {trigger.Limits{Window: &trigger.Window{From: "02:30", To: "05:00"}}, "Europe/Berlin", "2026-10-24T22:30:00Z", "2026-10-25T00:30:00Z"},
		"an end that comes twice":          {trigger.Limits{QuietHours: &trigger.Hours{From: "22:00", To: "02:30"}}, "Europe/Berlin", "2026-10-24T22:30:00Z", "2026-10-25T00:30:00Z"},
		"a day that an island has skipped": {trigger.Limits{Window: &trigger.Window{From: "09:00", To: "18:00"}}, "Pacific/Apia", "2011-12-30T05:00:00Z", "2011-12-30T19:00:00Z"},
	} {
		t.Run(name, func(t *testing.T) {
			g := given{limits: c.limits, zone: c.zone, at: at(c.at)}
			if d := g.decide(t); d.SendAt != at(c.want) {
				t.Errorf("at %s, not %s", d.SendAt, c.want)
			}
		})
	}
}

func TestHoldout(t *testing.T) {
	held := 0
	for i := range 256 {
		g := given{limits: trigger.Limits{Holdout: 0.25}, customer: byte(i)}
		d := g.decide(t)
		if d.Suppress == fact.Holdout {
			held++
		}
		if again := g.decide(t); again.Suppress != d.Suppress || again.Arm != d.Arm || d.Arm == fact.NoArm {
			t.Fatalf("customer %d: %+v, then %+v", i, d, again)
		}
		// A changed share moves nobody.
		first := sent("t", 1, noon-400*domain.Day)
		first.Arm = d.Arm
		g.limits.Holdout = 0.9
		g.facts = []fact.Entry{first}
		if moved := g.decide(t); moved.Arm != d.Arm {
			t.Fatalf("customer %d was %s and is %s", i, d.Arm, moved.Arm)
		}
	}
	if held < 40 || held > 90 {
		t.Errorf("%d of 256 are held out of a share of a quarter", held)
	}
	// Of both arms the earlier stands, and it shows.
	a, b := sent("t", 1, noon), sent("t", 2, noon)
	a.Arm, b.Arm = fact.Held, fact.Treated
	if arm, mixed := fact.Fold([]fact.Entry{b, a}).Arm("t"); arm != fact.Held || !mixed {
		t.Errorf("%s, mixed: %v", arm, mixed)
	}
}

func TestChainsEndAtDepthFive(t *testing.T) {
	g := given{chain: []string{"a", "b", "c", "d"}}
	if d := g.decide(t); d.Suppress != "" {
		t.Errorf("at depth 4: %+v", d)
	}
	g.chain = append(g.chain, "e")
	if d := g.decide(t); d.Suppress != fact.Loop {
		t.Errorf("at depth 5: %+v", d)
	}
}

// Whatever comes, no period holds more planned sends than it may, at the time of
// each plan; and the facts say the same in whatever batch they are folded.
func TestLimitsAreNeverExceeded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		most, days := rapid.IntRange(1, 4).Draw(t, "most"), rapid.IntRange(1, 9).Draw(t, "days")
		limits := trigger.Limits{AtMost: &trigger.Count{Times: most, Per: fmt.Sprintf("%dd", days)}}
		if rapid.Bool().Draw(t, "window") {
			limits.Window = &trigger.Window{Days: []string{"mon", "thu"}, From: "09:00", To: "10:00"}
		}
		tr := compile(t, limits)
		var facts []fact.Entry
		now := noon
		for place := range uint64(rapid.IntRange(1, 40).Draw(t, "causes")) {
			now += domain.Millis(rapid.Int64Range(0, int64(2*domain.Day)).Draw(t, "pause"))
			h := fact.Fold(facts)
			d := tr.Decide(&trigger.Candidate{Delivery: uuid.New(), At: now, Offered: now}, &trigger.Situation{History: h})
			if d.Suppress != "" {
				continue
			}
			if d.SendAt < now {
				t.Fatalf("planned for %s at %s", d.SendAt, now)
			}
			facts = append(facts, sent("t", place+1, d.SendAt))
			n := 0
			for _, f := range facts {
				if f.SendAt > d.SendAt-domain.Millis(days)*domain.Day && f.SendAt <= d.SendAt {
					n++
				}
			}
			if n > most {
				t.Fatalf("%d sends within %d days", n, days)
			}
		}
		shuffled := rapid.Permutation(slices.Concat(facts, facts)).Draw(t, "order")
		a, b := fact.Fold(facts), fact.Fold(shuffled)
		if x, y := a.Sends("t", math.MinInt64, math.MaxInt64, nil, uuid.Nil), b.Sends("t", math.MinInt64, math.MaxInt64, nil, uuid.Nil); x != y || x != len(facts) {
			t.Fatalf("%d, %d and %d sends", x, y, len(facts))
		}
	})
}
