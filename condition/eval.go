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
		e.bound(s.Until)
	}
	if at < s.FirstSeen {
		e.bound(s.FirstSeen)
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
}

// bound notes an instant at which the answer may change.
func (e *evaluation) bound(t domain.Millis) {
	if t > e.at && t < e.next {
		e.next = t
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
			e.bound(since)
		}
		return truth(ok && since <= e.at)
	case opInSegment:
		in, _, _ := stepAt(e, e.s.Segments[n.text])
		return truth(in)
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
		x, ok1 := e.instant(a)
		y, ok2 := e.instant(b)
		if !ok1 || !ok2 {
			return unknown
		}
		return truth(c.holds(cmp.Compare(x, y)))
	case kindDuration:
		x, ok := e.instant(a.args[0])
		if !ok {
			return unknown
		}
		e.bound(x + b.at)
		if c != less && c != greaterEqual {
			e.bound(x + b.at + 1)
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
		stage, _, ok := stepAt(e, e.s.Stage)
		return stage, ok
	case opStatus:
		status, _, ok := stepAt(e, e.s.Status)
		if !ok {
			return "unknown", true
		}
		return status, true
	case opTier:
		tier, _, ok := stepAt(e, e.s.Tiers[n.text])
		return tier, ok && tier != ""
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
		open, _, _ := stepAt(e, e.s.Complaints)
		return wholeNumber(open), true
	case opPoints:
		points, _, ok := stepAt(e, e.s.Points[n.text])
		return wholeNumber(points), ok
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
		index, _, ok := stepAt(e, e.s.Index)
		return index, ok && !math.IsNaN(index)
	}
	v := e.json(n)
	if v.Type != gjson.Number {
		return 0, false
	}
	f, err := strconv.ParseFloat(v.Raw, 64)
	return f, err == nil
}

func (e *evaluation) instant(n *node) (domain.Millis, bool) {
	switch n.op {
	case opConst:
		return n.at, true
	case opFirstSeen:
		return e.s.FirstSeen, true
	case opStageSince:
		_, since, ok := stepAt(e, e.s.Stage)
		return since, ok
	case opStatusSince:
		_, since, ok := stepAt(e, e.s.Status)
		return since, ok
	case opTierSince:
		tier, since, ok := stepAt(e, e.s.Tiers[n.text])
		return since, ok && tier != ""
	case opFirst:
		w := e.window(n)
		if w.from == w.to {
			w.enters(e)
			return 0, false
		}
		w.leaves(e)
		return w.list[w.from].At, true
	case opLast:
		w := e.window(n)
		w.enters(e)
		if w.from == w.to {
			return 0, false
		}
		last := w.list[w.to-1].At
		if n.window != 0 {
			e.bound(last + n.window)
		}
		return last, true
	}
	return 0, false
}

// stepAt is the value of a list of steps, with the instant since when it is so; false
// before the first step.
func stepAt[T any](e *evaluation, steps []Step[T]) (value T, since domain.Millis, ok bool) {
	i := sort.Search(len(steps), func(i int) bool { return steps[i].At > e.at })
	if i < len(steps) {
		e.bound(steps[i].At)
	}
	if i == 0 {
		return value, 0, false
	}
	return steps[i-1].Value, steps[i-1].At, true
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
func (w *window) enters(e *evaluation) {
	if w.to < len(w.list) {
		e.bound(w.list[w.to].At)
	}
}

// leaves notes when the first touchpoint goes out.
func (w *window) leaves(e *evaluation) {
	if w.length != 0 && w.from < w.to {
		e.bound(w.list[w.from].At + w.length)
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
		if i := w.to + enough - count - 1; i < len(w.list) {
			e.bound(w.list[i].At)
		}
	case enough > 0 && w.length != 0:
		e.bound(w.list[w.to-enough].At + w.length)
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
		raw, _, _ := stepAt(e, e.s.Traits[path[0]])
		v, path = gjson.ParseBytes(raw), path[1:]
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
	for at := s.FirstSeen; ; at = next {
		if at > clock {
			return changes, at
		}
		var member bool
		if member, next = c.Eval(s, at, nil); member != in {
			in = member
			changes = append(changes, Step[bool]{at, in})
		}
		if next > clock || next == domain.MaxTime {
			return slices.Clip(changes), next
		}
	}
}
