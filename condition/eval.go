package condition

import (
	"cmp"
	"math"
	"slices"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/tidwall/gjson"

	"sojourn/domain"
)

// tri is what a condition is of somebody: CEL's error and SQL's NULL are unknown.
type tri uint8

const (
	no tri = iota
	yes
	unknown
)

func truth(b bool) tri {
	if b {
		return yes
	}
	return no
}

// Eval reports whether a customer is a member at an instant, and the next instant at
// which time alone may change that: up to it, exclusive, nothing changes, and it is
// domain.MaxTime where nothing ever will. The event is nil for conditions of segments.
func (c *Condition) Eval(s *Subject, at domain.Millis, event *Event) (member bool, next domain.Millis) {
	e := evaluation{s: s, at: at, event: event, next: domain.MaxTime}
	if s.Until != 0 {
		e.bound(s.Until, Cause{})
	}
	if at < s.FirstSeen {
		e.bound(s.FirstSeen, Cause{Touchpoint: s.First})
		return false, e.next
	}
	return e.truth(c.root) == yes, e.next
}

// evaluation is one look at one customer.
type evaluation struct {
	s     *Subject
	at    domain.Millis
	event *Event
	next  domain.Millis
	by    Cause // what happens at next
}

// bound notes an instant at which the answer may change, and what happens then.
func (e *evaluation) bound(t domain.Millis, by Cause) {
	if t > e.at && t < e.next {
		e.next, e.by = t, by
	}
}

func (e *evaluation) truth(n *node) tri {
	switch n.op {
	case opConst:
		return truth(n.truth)
	case opAnd:
		a, b := e.truth(n.args[0]), e.truth(n.args[1])
		switch {
		case a == no || b == no:
			return no
		case a == unknown || b == unknown:
			return unknown
		}
		return yes
	case opOr:
		a, b := e.truth(n.args[0]), e.truth(n.args[1])
		switch {
		case a == yes || b == yes:
			return yes
		case a == unknown || b == unknown:
			return unknown
		}
		return no
	case opNot:
		switch e.truth(n.args[0]) {
		case yes:
			return no
		case no:
			return yes
		}
		return unknown
	case opHas:
		return truth(e.json(n).Type != gjson.Null)
	case opJSON:
		if v := e.json(n); v.IsBool() {
			return truth(v.Bool())
		}
		return unknown
	case opInAccount:
		since, ok := e.s.Accounts[n.text]
		if ok {
			e.bound(since.At, Cause{Touchpoint: since.ID})
		}
		return truth(ok && since.At <= e.at)
	case opInSegment:
		in, _ := stepAt(e, e.s.Segments[n.text])
		return truth(in.Value)
	case opContains, opStartsWith, opEndsWith:
		a, ok1 := e.text(n.args[0])
		b, ok2 := e.text(n.args[1])
		switch {
		case !ok1 || !ok2:
			return unknown
		case n.op == opContains:
			return truth(strings.Contains(a, b))
		case n.op == opStartsWith:
			return truth(strings.HasPrefix(a, b))
		}
		return truth(strings.HasSuffix(a, b))
	case opIn:
		is := unknown
		for _, value := range n.args[1:] {
			if is = e.compare(equal, n.args[0], value); is != no {
				break
			}
		}
		return is
	case opCompare:
		return e.compare(n.compare, n.args[0], n.args[1])
	}
	return unknown
}

func (e *evaluation) compare(c comparison, a, b *node) tri {
	switch a.kind {
	case kindBool:
		x, y := e.truth(a), e.truth(b)
		if x == unknown || y == unknown {
			return unknown
		}
		return truth(c.holds(cmp.Compare(x, y)))
	case kindText:
		x, ok1 := e.text(a)
		y, ok2 := e.text(b)
		if !ok1 || !ok2 {
			return unknown
		}
		return truth(c.holds(strings.Compare(x, y)))
	case kindNumber:
		if a.op == opCount && b.op == opConst && c != equal && c != notEqual {
			return truth(e.countTo(a, c, b.num))
		}
		x, ok1 := e.number(a)
		y, ok2 := e.number(b)
		if !ok1 || !ok2 {
			return unknown
		}
		return truth(c.holds(x.compare(y)))
	case kindFloat:
		x, ok := e.float(a)
		if !ok {
			return unknown
		}
		return truth(c.holds(cmp.Compare(x, b.float)))
	case kindInstant:
		x, _, ok1 := e.instant(a)
		y, _, ok2 := e.instant(b)
		if !ok1 || !ok2 {
			return unknown
		}
		return truth(c.holds(cmp.Compare(x, y)))
	case kindDuration:
		x, by, ok := e.instant(a.args[0])
		if !ok {
			return unknown
		}
		by.Rule = RuleSegment
		if c != greater && c != lessEqual {
			e.bound(x+b.at, by)
		}
		if c != less && c != greaterEqual {
			e.bound(x+b.at+1, by)
		}
		return truth(c.holds(cmp.Compare(e.at-x, b.at)))
	}
	return unknown
}

func (e *evaluation) text(n *node) (string, bool) {
	switch n.op {
	case opConst:
		return n.text, true
	case opStage:
		stage, ok := stepAt(e, e.s.Stage)
		return stage.Value, ok
	case opStatus:
		status, ok := stepAt(e, e.s.Status)
		if !ok {
			return "unknown", true
		}
		return status.Value, true
	case opTier:
		tier, ok := stepAt(e, e.s.Tiers[n.text])
		return tier.Value, ok && tier.Value != ""
	case opJSON:
		v := e.json(n)
		if v.Type != gjson.String {
			return "", false
		}
		return domain.JSONString([]byte(v.Raw))
	case opEventField:
		if e.event != nil {
			return eventFields[n.text](e.event), true
		}
	}
	return "", false
}

func (e *evaluation) number(n *node) (number, bool) {
	switch n.op {
	case opConst:
		return n.num, true
	case opAdd, opSubtract:
		a, ok1 := e.number(n.args[0])
		b, ok2 := e.number(n.args[1])
		if n.op == opAdd {
			return a.plus(b), ok1 && ok2
		}
		return a.minus(b), ok1 && ok2
	case opSize:
		text, ok := e.text(n.args[0])
		return wholeNumber(int64(utf8.RuneCountInString(text))), ok
	case opComplaints:
		open, _ := stepAt(e, e.s.Complaints)
		return wholeNumber(open.Value), true
	case opPoints:
		points, ok := stepAt(e, e.s.Points[n.text])
		return wholeNumber(points.Value), ok
	case opExpiring:
		points, _ := stepAt(e, e.s.Expiring[Expiring{n.text, n.window}])
		return wholeNumber(points.Value), true
	case opEventAmount:
		if e.event == nil || e.event.Currency == "" {
			return number{}, false
		}
		return numberOf(e.event.Amount), true
	case opCount:
		w := e.window(n)
		w.enters(e)
		w.leaves(e)
		return wholeNumber(int64(w.to - w.from)), true
	case opSum:
		w := e.window(n)
		w.enters(e)
		w.leaves(e)
		return e.s.sum(n.sel, n.text, w.from, w.to), true
	}
	return number{}, false
}

func (e *evaluation) float(n *node) (float64, bool) {
	if n.op == opIndex {
		index, ok := stepAt(e, e.s.Index)
		return index.Value, ok && !math.IsNaN(index.Value)
	}
	v := e.json(n)
	if v.Type != gjson.Number {
		return 0, false
	}
	f, err := strconv.ParseFloat(v.Raw, 64)
	return f, err == nil
}

// instant is a time, and what happened then.
func (e *evaluation) instant(n *node) (at domain.Millis, by Cause, ok bool) {
	switch n.op {
	case opConst:
		return n.at, Cause{}, true
	case opFirstSeen:
		return e.s.FirstSeen, Cause{Touchpoint: e.s.First}, true
	case opStageSince:
		stage, ok := stepAt(e, e.s.Stage)
		return stage.At, stage.By, ok
	case opStatusSince:
		status, ok := stepAt(e, e.s.Status)
		return status.At, status.By, ok
	case opTierSince:
		tier, ok := stepAt(e, e.s.Tiers[n.text])
		return tier.At, tier.By, ok && tier.Value != ""
	case opFirst:
		w := e.window(n)
		if w.from == w.to {
			w.enters(e)
			return 0, by, false
		}
		w.leaves(e)
		return w.list[w.from].At, Cause{Touchpoint: w.list[w.from].ID}, true
	case opLast:
		w := e.window(n)
		w.enters(e)
		if w.from == w.to {
			return 0, by, false
		}
		w.goes(e, w.to-1)
		return w.list[w.to-1].At, Cause{Touchpoint: w.list[w.to-1].ID}, true
	}
	return 0, by, false
}

// stepAt is the step that holds; false before the first.
func stepAt[T any](e *evaluation, steps []Step[T]) (step Step[T], ok bool) {
	i := sort.Search(len(steps), func(i int) bool { return steps[i].At > e.at })
	if i < len(steps) {
		e.bound(steps[i].At, steps[i].By)
	}
	if i == 0 {
		return step, false
	}
	return steps[i-1], true
}

// ExpiringAt is how many points expire within a time from an instant on.
func (s *Subject) ExpiringAt(x Expiring, at domain.Millis) int64 {
	e := evaluation{s: s, at: at}
	points, _ := stepAt(&e, s.Expiring[x])
	return points.Value
}

// window are the touchpoints list[from:to] that lie in (t − window, t].
type window struct {
	list     []Touch
	from, to int
	length   domain.Millis
}

func (e *evaluation) window(n *node) window {
	w := window{list: e.s.Touchpoints[n.sel], length: n.window}
	w.to = sort.Search(len(w.list), func(i int) bool { return w.list[i].At > e.at })
	if n.window != 0 {
		w.from = sort.Search(w.to, func(i int) bool { return w.list[i].At > e.at-n.window })
	}
	return w
}

// enters notes when the next touchpoint comes in.
func (w *window) enters(e *evaluation) { w.comes(e, w.to) }

// leaves notes when the first touchpoint goes out.
func (w *window) leaves(e *evaluation) {
	if w.from < w.to {
		w.goes(e, w.from)
	}
}

func (w *window) comes(e *evaluation, i int) {
	if i < len(w.list) {
		e.bound(w.list[i].At, Cause{Touchpoint: w.list[i].ID})
	}
}

func (w *window) goes(e *evaluation, i int) {
	if w.length != 0 {
		e.bound(w.list[i].At+w.length, Cause{RuleSegment, w.list[i].ID})
	}
}

// countTo compares a count with a number. Its answer changes when as many have come,
// or gone, as it takes: not with each that does.
func (e *evaluation) countTo(n *node, c comparison, to number) bool {
	w := e.window(n)
	count := w.to - w.from
	is := c.holds(wholeNumber(int64(count)).compare(to))
	// Of the counts 0, 1, … the comparison says one thing below some number of
	// touchpoints and the other from there on.
	enough := sort.Search(len(w.list)+1, func(i int) bool {
		return wholeNumber(int64(i)).compare(to) >= 0 && (c == less || c == greaterEqual) || wholeNumber(int64(i)).compare(to) > 0
	})
	switch {
	case count < enough:
		w.comes(e, w.to+enough-count-1)
	case enough > 0:
		w.goes(e, w.to-enough)
	}
	return is
}

type sumKey struct {
	Selector
	currency string
}

// sum adds the amounts of touchpoints[from:to] in a currency.
func (s *Subject) sum(sel Selector, currency string, from, to int) number {
	key := sumKey{sel, currency}
	sums, ok := s.sums[key]
	if !ok {
		sums = append(sums, number{})
		for _, t := range s.Touchpoints[sel] {
			last := sums[len(sums)-1]
			if t.Currency == currency {
				last = last.plus(numberOf(t.Amount))
			}
			sums = append(sums, last)
		}
		if s.sums == nil {
			s.sums = map[sumKey][]number{}
		}
		s.sums[key] = sums
	}
	return sums[to].minus(sums[from])
}

// json is the value of a trait, or of one of the event's properties; of type Null
// where there is none.
func (e *evaluation) json(n *node) gjson.Result {
	var v gjson.Result
	path := n.path
	if n.event {
		if e.event == nil {
			return v
		}
		v = gjson.ParseBytes(e.event.Properties)
	} else {
		trait, _ := stepAt(e, e.s.Traits[path[0]])
		v, path = gjson.ParseBytes(trait.Value), path[1:]
	}
	for _, key := range path {
		if !v.IsObject() {
			return gjson.Result{}
		}
		var of gjson.Result
		v.ForEach(func(k, value gjson.Result) bool {
			if k.String() != key {
				return true
			}
			of = value
			return false
		})
		v = of
	}
	if v.Type == gjson.Number {
		if _, err := strconv.ParseFloat(v.Raw, 64); err != nil {
			return gjson.Result{} // beyond a double; see Plain
		}
	}
	return v
}

// Changes lists when membership changes, from the first touchpoint to a clock, and the
// next instant behind the clock at which time alone may change it. The first change is
// the first entering.
func (c *Condition) Changes(s *Subject, clock domain.Millis) (changes []Step[bool], next domain.Millis) {
	in := false
	for at := s.FirstSeen; at <= clock; at = next {
		var member bool
		if member, next = c.Eval(s, at, nil); member != in {
			in = member
			changes = append(changes, Step[bool]{at, in, c.why(s, at)})
		}
		if next > clock {
			return slices.Clip(changes), next
		}
	}
	return nil, s.FirstSeen
}

// why is what happens at an instant at which a condition changes. It is asked about
// from the millisecond before, so that the same facts always name the same cause; of
// several things that happen at once, it is the one that stands first in the condition.
func (c *Condition) why(s *Subject, at domain.Millis) Cause {
	if at <= s.FirstSeen {
		return Cause{Touchpoint: s.First}
	}
	e := evaluation{s: s, at: at - 1, next: domain.MaxTime}
	e.truth(c.root)
	return e.by
}
