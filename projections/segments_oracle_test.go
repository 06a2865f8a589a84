package projections

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tidwall/gjson"

	"sojourn/domain"
	"sojourn/domain/customer"
	"sojourn/domain/loyalty"
	"sojourn/domain/policy"
	"sojourn/domain/satisfaction"
	"sojourn/warehouse"
)

// testSegments are segments, each beside the same thing said in Go in the plainest way.
var testSegments = []struct {
	name, condition string
	is              func(l *life, t domain.Millis) bool
}{
	{"all", `true`, func(*life, domain.Millis) bool { return true }},
	{"buyers", `count(meaning("purchase"), duration("60d")) >= 2`, func(l *life, t domain.Millis) bool {
		return len(l.touches(t-60*domain.Day, t, func(m *lived) bool { return m.touch.Meaning == policy.Purchase })) >= 2
	}},
	{"fans", `tier("shop") in ["silver", "gold"] && points("shop") > 5 || points("club") >= 20`, func(l *life, t domain.Millis) bool {
		shop, club := l.ledger("shop", t), l.ledger("club", t)
		return (shop.Tier.Name == "silver" || shop.Tier.Name == "gold") && shop.Totals.Available > 5 || club.Totals.Available >= 20
	}},
	{"gone", `in_segment("quiet") && !in_segment("buyers") && since(stage_since) >= duration("1d")`, func(l *life, t domain.Millis) bool {
		stage := l.stage(t)
		return l.in("quiet", t) && !l.in("buyers", t) && t-stage.at >= domain.Day
	}},
	{"plan", `traits.plan in ["m1", "m3", "m5"] || has(traits.gone) && !in_account("bolt")`, func(l *life, t domain.Millis) bool {
		plan, gone := l.trait("plan", t), l.trait("gone", t)
		bolt := l.touches(domain.MinTime, t, func(m *lived) bool { return m.sent.group == "bolt" })
		return slices.Contains([]string{`"m1"`, `"m3"`, `"m5"`}, plan) || gone != "" && gone != "null" && len(bolt) == 0
	}},
	{"quiet", `since(last(meaning("purchase"))) >= duration("59d") && stage != "lost"`, func(l *life, t domain.Millis) bool {
		bought := l.touches(domain.MinTime, t, func(m *lived) bool { return m.touch.Meaning == policy.Purchase })
		return len(bought) > 0 && t-bought[len(bought)-1].sent.at >= 59*domain.Day && l.stage(t).to != "lost"
	}},
	{"soon", `expiring("shop", duration("30d")) >= 3 || expiring("club", duration("7d")) > 0`, func(l *life, t domain.Millis) bool {
		return l.expiring("shop", t, 30*domain.Day) >= 3 || l.expiring("club", t, 7*domain.Day) > 0
	}},
	{"spenders", `sum(named("Order Completed"), "EUR", duration("90d")) > 25.5`, func(l *life, t domain.Millis) bool {
		var sum domain.Decimal
		for _, m := range l.touches(t-90*domain.Day, t, func(m *lived) bool { return m.touch.Name == "Order Completed" }) {
			amount, _ := domain.ReadDecimal([]byte(gjson.Get(m.sent.properties, "total").Raw))
			sum += amount
		}
		return sum > 255_000
	}},
	{"upset", `satisfaction == "unhappy" || satisfaction_index < 60 || open_complaints > 0`, func(l *life, t domain.Millis) bool {
		v, _, _ := l.opinions.View(t, l.rules.satisfaction)
		return v.Status == satisfaction.Unhappy || v.Known && v.Index < 60 || v.OpenComplaints > 0
	}},
}

// segmentRules are the rules of the tests, with segments.
func segmentRules() *Rules {
	h := segmentHistory{logger: discard}
	for _, s := range testSegments {
		h.events = append(h.events, segmentEvent{SegmentDocument: SegmentDocument{Name: s.name, Condition: s.condition}})
	}
	rules := testRules().with(&h, len(h.events))
	if len(rules.segments.all) != len(testSegments) {
		panic("a segment of the tests cannot be read")
	}
	return rules
}

// life is a customer's, of its messages and commands.
type life struct {
	rules    *Rules
	messages []lived // in order
	stages   []change
	segments map[string]func(l *life, t domain.Millis) bool
	points   *loyalty.Facts
	opinions *satisfaction.Facts
}

type lived struct {
	sent  sent
	touch customer.Touch
}

func (l *life) touches(after, to domain.Millis, which func(*lived) bool) (all []*lived) {
	for i := range l.messages {
		if m := &l.messages[i]; m.sent.at > after && m.sent.at <= to && which(m) {
			all = append(all, m)
		}
	}
	return all
}

func (l *life) stage(t domain.Millis) (now change) {
	for _, c := range l.stages {
		if c.at <= t {
			now = c
		}
	}
	return now
}

func (l *life) ledger(programme string, t domain.Millis) loyalty.Ledger {
	for _, p := range l.rules.book.Programmes() {
		if p.ID == programme {
			return loyalty.Fold(l.points, p, t)
		}
	}
	return loyalty.Ledger{}
}

// expiring is how many points are left at an instant of lots that expire within a time.
func (l *life) expiring(programme string, t, within domain.Millis) (points int64) {
	for _, lot := range l.ledger(programme, t).Lots {
		if lot.Expires != policy.Never && lot.Expires <= t+within {
			points += lot.Available + lot.Pending
		}
	}
	return points
}

func (l *life) trait(key string, t domain.Millis) (value string) {
	for _, m := range l.touches(domain.MinTime, t, func(m *lived) bool { return m.sent.kind == domain.Identify }) {
		if v := gjson.Get(m.sent.traits, key); v.Exists() {
			value = v.Raw
		}
	}
	return value
}

func (l *life) in(segment string, t domain.Millis) bool {
	return l.segments[segment](l, t)
}

// turnsOf lists by segment the instants at which a customer enters and leaves, in
// turn, up to a time: it asks at every instant at which anything could change.
func turnsOf(messages, commands []sent, rules *Rules, now domain.Millis) map[string][]domain.Millis {
	out := map[string][]domain.Millis{}
	if rules.segments == nil || len(messages) == 0 {
		return out
	}
	l := &life{rules: rules, segments: map[string]func(*life, domain.Millis) bool{}}
	for _, s := range testSegments {
		l.segments[s.name] = s.is
	}
	var facts customer.Facts
	ask := map[domain.Millis]bool{now: true}
	for _, m := range messages {
		h := m.header()
		touch := rules.touch(&h, refOf(m), rules.compiled.Classify(h.Kind, h.Source, h.Name), m.data())
		facts.Add(&touch, rules.book)
		l.messages = append(l.messages, lived{m, touch})
		for _, days := range []domain.Millis{0, 59, 60, 90} {
			ask[m.at+days*domain.Day] = true
		}
	}
	slices.SortFunc(l.messages, func(a, b lived) int { return a.touch.Compare(b.touch.Ref) })
	for _, x := range rules.transitions(&facts) {
		l.stages = append(l.stages, change{to: string(x.To), at: x.At})
		ask[x.At], ask[x.At+domain.Day] = true, true
	}
	l.points, l.opinions = factsOf(messages, commands, rules)
	for _, p := range rules.book.Programmes() {
		ledger := loyalty.Fold(l.points, p, now)
		for _, x := range ledger.Transitions {
			ask[x.At] = true
		}
		for _, m := range ledger.Movements {
			ask[m.At] = true
		}
		for _, lot := range ledger.Lots {
			if lot.Expires != policy.Never {
				ask[lot.Expires-30*domain.Day], ask[lot.Expires-7*domain.Day] = true, true
			}
		}
	}
	for _, x := range satisfaction.Transitions(l.opinions, rules.satisfaction) {
		ask[x.At] = true
	}
	instants := slices.Sorted(maps.Keys(ask))
	for _, s := range testSegments {
		in := false
		for _, t := range instants {
			if t < l.messages[0].sent.at || t > now {
				continue
			}
			if is := s.is(l, t); is != in {
				in = is
				out[s.name] = append(out[s.name], t)
			}
		}
	}
	return out
}

// segmentsAt are the changes of a customer's segments up to an instant. When they are is
// asked of the oracle; what they are caused by is what the conditions say of the same
// facts.
func (c *saidCustomer) segmentsAt(rules *Rules, t domain.Millis, add func(name string, st Statement)) {
	var facts customer.Facts
	own := &segmentFacts{}
	for _, m := range c.messages {
		h := m.header()
		rule := rules.compiled.Classify(h.Kind, h.Source, h.Name)
		touch := rules.touch(&h, refOf(m), rule, m.data())
		facts.Add(&touch, rules.book)
		group := ""
		if m.kind == domain.Group {
			group = readGrouping(m.data(), refOf(m), testKeyer).groupID
		}
		if s := rules.segments.touch(rules, &h, rule, &touch, group); s != nil {
			own.add(refOf(m), s, rules.segments)
		}
	}
	points, opinions := factsOf(c.messages, c.commands, rules)
	turns := turnsOf(c.messages, c.commands, rules, t)
	for _, l := range rules.segmentLines(&basis{points, opinions, &segmentBasis{&facts.Lifecycle, own}}, t, nil) {
		if len(l.all) != len(turns[l.programme]) {
			panic(fmt.Sprintf("%s turns at %v, not %+v", l.programme, turns[l.programme], l.all))
		}
		for i, x := range l.all {
			add(l.programme, Statement{Segment: l.programme, From: x.from, To: x.to, At: turns[l.programme][i].String(), Cause: x.cause()})
		}
	}
}

// staysInWords are the stays of a membership.
func staysInWords(all map[string][]domain.Millis) string {
	var words []string
	for name, turns := range all {
		for i := 0; i < len(turns); i += 2 {
			left := domain.Millis(0)
			if i+1 < len(turns) {
				left = turns[i+1]
			}
			words = append(words, stayInWords(name, i/2+1, turns[i], left))
		}
	}
	slices.Sort(words)
	return strings.Join(words, "\n")
}

func stayInWords(name string, seq int, entered, left domain.Millis) string {
	return fmt.Sprintf("%s %d %d-%d", name, seq, entered, left)
}

// stays are the rows of a customer in words, and its causes where these are asked for.
func (m *memoryLines) staysOf(which func(*warehouse.SegmentStay) bool, causes bool) (words []string) {
	for _, r := range m.stays {
		if r.Removed || !which(&r) {
			continue
		}
		word := stayInWords(r.Segment, int(r.Seq), domain.Millis(r.Entered), domain.Millis(r.Left))
		if causes {
			word = fmt.Sprintf("%s %s by %s, %s", r.CustomerID, word, r.EnteredCause, cmp.Or(r.LeftCause, "-"))
		}
		words = append(words, word)
	}
	slices.Sort(words)
	return words
}
