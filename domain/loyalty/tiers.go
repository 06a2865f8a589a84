package loyalty

import (
	"slices"
	"sort"

	"github.com/google/uuid"

	"sojourn/domain"
	"sojourn/domain/policy"
)

// tierSim follows the tier of a customer. What counts is a list of credits in the
// order of time; a refund lowers those of its order, where they stand.
type tierSim struct {
	p        *Programme
	rules    timeline[tiers]
	enrolled domain.Millis
	cause    Cause

	credits []credit
	// points and spend are the sums of the credits before each.
	points, spend []int64
	held          holding

	// shadow is the tier that would be held before each credit, had all orders
	// been for what is left of them now; those up to shadow[fresh] are right.
	shadow []holding
	fresh  int
}

// credit is what counts for a tier from an instant on.
type credit struct {
	at            domain.Millis
	points, spend int64
	cause         uuid.UUID
	// grant is the tier that an opening balance gave, held until an instant.
	grant string
	until domain.Millis
}

// holding is a tier that is held. The zero value is that of a customer who is not
// in the programme.
type holding struct {
	on    bool
	rule  int // index of the version of the tier rules
	level int // the lowest level is held without end
	name  string
	ends  domain.Millis
	cause uuid.UUID // what gave it
}

// until is the end of the hold.
func (h *holding) until() domain.Millis {
	if !h.on || h.level == 0 {
		return policy.Never
	}
	return h.ends
}

// add appends a credit and returns its index.
func (t *tierSim) add(c credit) int {
	if len(t.points) == 0 {
		t.points, t.spend = append(t.points, 0), append(t.spend, 0)
	}
	n := len(t.credits)
	t.credits = append(t.credits, c)
	t.points = append(t.points, t.points[n]+c.points)
	t.spend = append(t.spend, t.spend[n]+c.spend)
	return n
}

// lower takes points and spend away from a credit.
func (t *tierSim) lower(i int, points, spend int64) {
	t.credits[i].points -= points
	t.credits[i].spend -= spend
	for k := i; k < len(t.credits); k++ {
		t.points[k+1] -= points
		t.spend[k+1] -= spend
	}
	t.fresh = min(t.fresh, i)
}

// between is what the credits of [from, to) count, of the first n.
func (t *tierSim) between(rules *tiers, from, to domain.Millis, n int) int64 {
	if n == 0 {
		return 0
	}
	first := sort.Search(n, func(i int) bool { return t.credits[i].at >= from })
	last := n
	if to != policy.Never {
		last = sort.Search(n, func(i int) bool { return t.credits[i].at >= to })
	}
	sums := t.points
	if rules.spend {
		sums = t.spend
	}
	return sums[max(first, last)] - sums[first]
}

// total is that of the window at an instant, of the first n credits.
func (t *tierSim) total(rules *tiers, at domain.Millis, n int) int64 {
	if rules.calendar {
		first, next := yearOf(at, rules.zone)
		return t.between(rules, first, next, n)
	}
	// A window is half open: what is just as old as it is long is outside.
	return t.between(rules, at-rules.window+1, policy.Never, n)
}

// leaves is the first instant after one at which time alone changes the total of
// the window; policy.Never where none does.
func (t *tierSim) leaves(rules *tiers, at domain.Millis) domain.Millis {
	if rules.calendar {
		if _, next := yearOf(at, rules.zone); t.total(rules, at, len(t.credits)) != 0 {
			return next
		}
		return policy.Never
	}
	first := sort.Search(len(t.credits), func(i int) bool { return t.credits[i].at > at-rules.window })
	for _, c := range t.credits[first:] {
		if rules.spend && c.spend != 0 || !rules.spend && c.points != 0 {
			return c.at + rules.window
		}
	}
	return policy.Never
}

// nextRule is the next change of the tier rules.
func (t *tierSim) nextRule() (domain.Millis, bool) { return t.ruleAfter(&t.held) }

func (t *tierSim) ruleAfter(h *holding) (domain.Millis, bool) {
	if !h.on || h.rule+1 >= len(t.rules) {
		return 0, false
	}
	return t.rules[h.rule+1].from, true
}

// enter is the enrolment.
func (t *tierSim) enter(h *holding, at domain.Millis, n int) {
	*h = holding{on: true, rule: max(0, t.rules.index(at)), cause: t.cause.Touchpoint}
	h.name = t.rules[h.rule].rules.levels[0].Name
	t.raise(h, at, n, t.cause.Touchpoint)
}

// raise lifts a tier at once where the total asks for it.
func (t *tierSim) raise(h *holding, at domain.Millis, n int, cause uuid.UUID) {
	rules := &t.rules[h.rule].rules
	if level := rules.level(t.total(rules, at, n)); level > h.level {
		h.level, h.name, h.ends, h.cause = level, rules.levels[level].Name, rules.holdEnd(at), cause
	}
}

// grant is the tier of an opening balance: held to its end unless a higher one is.
func (t *tierSim) grant(h *holding, at domain.Millis, c *credit) {
	rules := &t.rules[h.rule].rules
	level := slices.IndexFunc(rules.levels, func(l policy.Level) bool { return l.Name == c.grant })
	if c.until > at && level > 0 && (level > h.level || level == h.level && c.until > h.ends) {
		h.level, h.name, h.ends, h.cause = level, c.grant, c.until, c.cause
	}
}

// changeRule looks at the customer when the next version of the rules begins: up
// at once, down only at the hold's end. A tier whose name the new rules do not
// have is held under its name to the end of its hold.
func (t *tierSim) changeRule(h *holding, at domain.Millis, n int) {
	h.rule++
	rules := &t.rules[h.rule].rules
	level := slices.IndexFunc(rules.levels, func(l policy.Level) bool { return l.Name == h.name })
	switch {
	case level >= 0:
		if h.level == 0 && level > 0 {
			h.ends = rules.holdEnd(at)
		}
		h.level = level
	case h.level == 0:
		h.name = rules.levels[0].Name
	default:
		h.level = min(h.level, len(rules.levels)-1)
		if h.level == 0 {
			h.name = rules.levels[0].Name
		}
	}
	t.raise(h, at, n, h.cause)
}

// endHold decides anew at the end of a hold, by the window's total then.
func (t *tierSim) endHold(h *holding, n int) {
	at := h.ends
	rules := &t.rules[h.rule].rules
	total := int64(0)
	if rules.calendar {
		first, _ := yearOf(at-1, rules.zone)
		total = t.between(rules, first, at, n)
	} else {
		total = t.total(rules, at, n)
	}
	h.level = rules.level(total)
	h.name, h.ends = rules.levels[h.level].Name, rules.heldAgain(at)
	// Of a calendar year that has just begun there may be something already.
	t.raise(h, at, n, h.cause)
}

// advance lets time go on to an instant, with the first n credits: what happens at
// it before its events included, what happens behind them left out.
func (t *tierSim) advance(h *holding, to domain.Millis, n int) {
	if !h.on {
		if t.enrolled > to {
			return
		}
		t.enter(h, t.enrolled, n)
	}
	for {
		at, ok := t.ruleAfter(h)
		if until := h.until(); until < to && (!ok || until < at) {
			t.endHold(h, n)
			continue
		}
		if !ok || at > to {
			return
		}
		t.changeRule(h, at, n)
	}
}

// wouldBe is the tier that would be held now, behind all credits, had all orders
// been for what is left of them from the start.
func (t *tierSim) wouldBe(now domain.Millis) holding {
	if len(t.shadow) == 0 {
		t.shadow = append(t.shadow, holding{})
	}
	h := t.shadow[t.fresh]
	t.shadow = t.shadow[:t.fresh+1]
	for i := t.fresh; i < len(t.credits); i++ {
		c := &t.credits[i]
		t.advance(&h, c.at, i)
		if h.on {
			if c.grant != "" {
				t.grant(&h, c.at, c)
			}
			t.raise(&h, c.at, i+1, c.cause)
		}
		t.shadow = append(t.shadow, h)
	}
	t.fresh = len(t.credits)
	t.advance(&h, now, len(t.credits))
	return h
}

// fall brings the customer down to the tier that would be held, if that is lower.
func (t *tierSim) fall(h *holding, now domain.Millis, cause uuid.UUID) {
	if w := t.wouldBe(now); w.level < h.level {
		w.cause = cause
		*h = w
	}
}

// reached says why a tier was reached.
func (t *tierSim) reached(at domain.Millis) string {
	rules := &t.rules[t.held.rule].rules
	total := t.total(rules, at, len(t.credits))
	text := domain.Decimal(total).String() + " " + rules.currency + " spent in "
	if !rules.spend {
		text = counted(total, "point") + " in "
	}
	if rules.calendar {
		return text + "the calendar year"
	}
	return text + counted(int64(rules.window/domain.Day), "day")
}
