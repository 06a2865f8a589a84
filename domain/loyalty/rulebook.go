package loyalty

import (
	"fmt"
	"reflect"
	"slices"
	"time"

	"sojourn/domain"
	"sojourn/domain/policy"
)

// AppliedPolicy is a policy and when it was applied.
type AppliedPolicy struct {
	Policy policy.Policy
	At     domain.Millis
	// Rollback is set where an earlier policy was applied again: its rules about
	// points hold from At, whatever their from and retroactive say.
	Rollback bool
}

// Rulebook is which rules about points hold when, in every programme. It is
// immutable and safe for concurrent use.
type Rulebook struct {
	programmes []*Programme
}

// Programme is the history of one programme's rules.
type Programme struct {
	// ID is the programme's name.
	ID string
	// From is the instant before which nothing earns; policy.Always for none.
	From domain.Millis
	// Running is set while the last policy applied has the programme. One that
	// has ended earns nothing from the moment on that ended it; what was earned
	// lives on.
	Running bool

	// fallback is the currency of an order that names none: the last policy's.
	fallback string

	earning timeline[earning]
	expiry  timeline[expiry]
	value   timeline[domain.Decimal]
	tiers   timeline[tiers]
}

// timeline is a list of versions in the order of time.
type timeline[T any] []version[T]

// version holds from an instant on, until the next does.
type version[T any] struct {
	from   domain.Millis
	source any // the section of the policy, to tell whether another differs
	rules  T
}

// at is the version that holds at an instant: nil where none does yet.
func (l timeline[T]) at(t domain.Millis) *T {
	if i := l.index(t); i >= 0 {
		return &l[i].rules
	}
	return nil
}

func (l timeline[T]) index(t domain.Millis) int {
	i := len(l) - 1
	for i >= 0 && l[i].from > t {
		i--
	}
	return i
}

// put lets rules hold from an instant on, in place of all that was to hold then
// and later. Rules that hold there anyway are not put a second time.
func (l *timeline[T]) put(from domain.Millis, source any, rules T) {
	i := len(*l)
	for i > 0 && (*l)[i-1].from >= from {
		i--
	}
	*l = (*l)[:i]
	if i > 0 && reflect.DeepEqual((*l)[i-1].source, source) {
		return
	}
	*l = append(*l, version[T]{from, source, rules})
}

// Resolve computes which rules hold when from all policies, in the order in which
// they were applied.
func Resolve(history []AppliedPolicy) *Rulebook {
	r := &Rulebook{}
	var before map[string]policy.Programme
	for i, a := range history {
		now := map[string]policy.Programme{}
		var order []*Programme
		for _, doc := range a.Policy.Expanded().Loyalty.Programmes {
			if _, twice := now[doc.ID]; twice {
				continue
			}
			now[doc.ID] = doc
			var last *policy.Programme
			if b, ok := before[doc.ID]; ok {
				last = &b
			}
			p := r.Programme(doc.ID)
			if p == nil {
				p = &Programme{ID: doc.ID}
				p.begin(doc, a, i == 0)
			} else {
				p.change(doc, last, a)
			}
			p.Running = true
			order = append(order, p)
		}
		for _, p := range r.programmes {
			if _, ok := now[p.ID]; ok {
				continue
			}
			if p.Running {
				p.Running = false
				p.earning.put(a.At, nil, earning{})
			}
			order = append(order, p)
		}
		for _, p := range order {
			p.fallback = a.Policy.Currency
		}
		r.programmes, before = order, now
	}
	return r
}

// Programmes are all programmes there ever were: those of the last policy in its
// order, behind them those that have ended. The list must not be changed.
func (r *Rulebook) Programmes() []*Programme { return r.programmes }

// Programme finds a programme; the empty id is the first's. It is nil where
// there is none.
func (r *Rulebook) Programme(id string) *Programme {
	for _, p := range r.programmes {
		if p.ID == id || id == "" {
			return p
		}
	}
	return nil
}

// WantsEvent reports whether an event of a name gives points at any time in any
// programme. Such events belong in the Facts.
func (r *Rulebook) WantsEvent(name string) bool {
	if name == "" {
		return false
	}
	folded := ""
	for _, p := range r.programmes {
		for i := range p.earning {
			e := &p.earning[i].rules
			if len(e.events) == 0 {
				continue
			}
			if folded == "" {
				folded = policy.FoldName(name)
			}
			if _, ok := e.events[folded]; ok {
				return true
			}
		}
	}
	return false
}

// changesAfter is the first instant after one from which a point is worth something
// else, or in another currency; policy.Never where there is none.
func (p *Programme) changesAfter(t domain.Millis) domain.Millis {
	next := policy.Never
	if i := p.value.index(t) + 1; i < len(p.value) {
		next = min(next, p.value[i].from)
	}
	if i := p.tiers.index(t) + 1; i < len(p.tiers) {
		next = min(next, p.tiers[i].from)
	}
	return next
}

// ValueAt is what a point is worth at an instant, in the currency of CurrencyAt.
func (p *Programme) ValueAt(t domain.Millis) domain.Decimal {
	if v := p.value.at(t); v != nil {
		return *v
	}
	return 0
}

// CurrencyAt is the programme's currency at an instant.
func (p *Programme) CurrencyAt(t domain.Millis) string {
	if v := p.tiers.at(t); v != nil {
		return v.currency
	}
	return ""
}

// LevelsAt are the tiers at an instant, the lowest first. The list must not be
// changed.
func (p *Programme) LevelsAt(t domain.Millis) []policy.Level {
	if v := p.tiers.at(t); v != nil {
		return v.levels
	}
	return nil
}

// begin fills a programme that no policy had before.
func (p *Programme) begin(doc policy.Programme, a AppliedPolicy, first bool) {
	zone := doc.Location()
	p.From = policy.Always
	if !first {
		p.From = a.At
	}
	p.From = start(doc.From, doc.Retroactive, zone, a, first, p.From)
	from := start(doc.Earning.From, doc.Earning.Retroactive || doc.Retroactive, zone, a, first, policy.Always)
	p.earning.put(from, sourceOf(doc, doc.Earning), compileEarning(doc))
	p.expiry.put(policy.Always, sourceOf(doc, doc.Expiry), compileExpiry(doc))
	p.value.put(policy.Always, sourceOf(doc, doc.Value), doc.Value.Point.Decimal())
	p.tiers.put(policy.Always, sourceOf(doc, doc.Tiers), compileTiers(doc))
}

// start is the instant that a text of a new programme names. Without retroactive
// it is not before the apply, but in the first policy.
func start(text string, retroactive bool, zone *time.Location, a AppliedPolicy, first bool, otherwise domain.Millis) domain.Millis {
	at, ok := policy.Instant(text, zone)
	switch {
	case !ok || a.Rollback:
		return otherwise
	case first || retroactive:
		return at
	}
	return max(at, a.At)
}

// change takes what differs from what the policy before said; last is nil where
// it did not have the programme.
func (p *Programme) change(doc policy.Programme, last *policy.Programme, a AppliedPolicy) {
	zone := doc.Location()
	if at, ok := policy.Instant(doc.From, zone); ok && doc.Retroactive && !a.Rollback && (last == nil || last.From != doc.From || !last.Retroactive) {
		p.From = at
	}
	if last == nil {
		last = &policy.Programme{}
	}
	section(&p.earning, doc, *last, a, doc.Earning, last.Earning, doc.Earning.From, doc.Earning.Retroactive, compileEarning)
	section(&p.expiry, doc, *last, a, doc.Expiry, last.Expiry, doc.Expiry.From, doc.Expiry.Retroactive, compileExpiry)
	section(&p.value, doc, *last, a, doc.Value, last.Value, doc.Value.From, doc.Value.Retroactive, func(d policy.Programme) domain.Decimal { return d.Value.Point.Decimal() })
	section(&p.tiers, doc, *last, a, doc.Tiers, last.Tiers, doc.Tiers.From, doc.Tiers.Retroactive, compileTiers)
}

func section[S, T any](l *timeline[T], doc, last policy.Programme, a AppliedPolicy, now, before S, from string, retroactive bool, compile func(policy.Programme) T) {
	if !changed(doc, last, now, before) {
		return
	}
	l.put(holdsFrom(from, retroactive, doc.Location(), a), sourceOf(doc, now), compile(doc))
}

// changed reports whether a section is another than in the policy before, and so
// is applied at all.
func changed(doc, last policy.Programme, now, before any) bool {
	return doc.Currency != last.Currency || doc.TimeZone != last.TimeZone || !reflect.DeepEqual(now, before)
}

// holdsFrom is the instant from which the rules of a section hold.
func holdsFrom(from string, retroactive bool, zone *time.Location, a AppliedPolicy) domain.Millis {
	if a.Rollback {
		return a.At
	}
	at, ok := policy.Instant(from, zone)
	switch {
	case ok && (retroactive || at >= a.At):
		return at
	case !ok && retroactive:
		return policy.Always
	}
	return a.At
}

// sourceOf is a section without what says from when on it holds.
func sourceOf(doc policy.Programme, s any) any {
	switch v := s.(type) {
	case policy.Earning:
		v.From, v.Retroactive = "", false
		s = v
	case policy.Expiry:
		v.From, v.Retroactive = "", false
		s = v
	case policy.PointValue:
		v.From, v.Retroactive = "", false
		s = v
	case policy.Tiers:
		v.From, v.Retroactive = "", false
		s = v
	}
	return [...]any{doc.Currency, doc.TimeZone, s}
}

// Check says what keeps a policy from being applied at an instant behind others:
// rules about points that are new and hold from before that instant, and another
// from of a programme, without retroactive. It returns nil or policy.Problems.
func Check(history []AppliedPolicy, candidate policy.Policy, at domain.Millis) error {
	if len(history) == 0 {
		return nil
	}
	last := history[len(history)-1].Policy.Expanded().Loyalty.Programmes
	known := Resolve(history)
	var problems policy.Problems
	for i, doc := range candidate.Expanded().Loyalty.Programmes {
		refuse := func(from string, keys ...string) {
			problems = append(problems, policy.Problem{
				Path:    append([]string{"loyalty", "programmes", fmt.Sprint(i)}, keys...),
				Message: fmt.Sprintf("%s would change what is past: rules about points look forward, unless retroactive: true stands beside it", from),
			})
		}
		past := func(from string, retroactive bool) bool {
			t, ok := policy.Instant(from, doc.Location())
			return ok && t < at && !retroactive
		}
		var before policy.Programme
		if k := slices.IndexFunc(last, func(p policy.Programme) bool { return p.ID == doc.ID }); k >= 0 {
			before = last[k]
		}
		p := known.Programme(doc.ID)
		if t, ok := policy.Instant(doc.From, doc.Location()); ok && !doc.Retroactive && (p == nil && t < at || p != nil && t != p.From) {
			refuse(doc.From, "from")
		}
		covered := p == nil && doc.Retroactive
		for _, s := range [...]struct {
			key         string
			now, before any
			from        string
			retroactive bool
		}{
			{"earning", doc.Earning, before.Earning, doc.Earning.From, doc.Earning.Retroactive || covered},
			{"expiry", doc.Expiry, before.Expiry, doc.Expiry.From, doc.Expiry.Retroactive || covered},
			{"value", doc.Value, before.Value, doc.Value.From, doc.Value.Retroactive || covered},
			{"tiers", doc.Tiers, before.Tiers, doc.Tiers.From, doc.Tiers.Retroactive || covered},
		} {
			if changed(doc, before, s.now, s.before) && past(s.from, s.retroactive) {
				refuse(s.from, s.key, "from")
			}
		}
	}
	if len(problems) == 0 {
		return nil
	}
	return problems
}

// earning is a section ready to ask. The zero value earns nothing.
type earning struct {
	automatic   bool
	open        bool // it earns and enrols at all
	zone        *time.Location
	rates       map[string]domain.Decimal // the programme's currency too
	pending     domain.Millis
	events      map[string]int64 // by folded name
	birthday    int64
	multipliers []multiplier
	lines       bool // a multiplier asks for products or categories
}

type multiplier struct {
	policy.Multiplier
	starts, ends domain.Millis
}

func compileEarning(doc policy.Programme) earning {
	e := earning{
		automatic: doc.Earning.Enrolment == policy.Automatic, open: true,
		zone:     doc.Location(),
		rates:    map[string]domain.Decimal{},
		pending:  policy.Days(doc.Earning.PendingDays),
		events:   map[string]int64{},
		birthday: doc.Earning.Birthday,
	}
	for currency, rate := range doc.Earning.Rates {
		e.rates[currency] = rate.Decimal()
	}
	e.rates[doc.Currency] = doc.Earning.PerUnit.Decimal()
	for _, ev := range doc.Earning.Events {
		if name := policy.FoldName(ev.Name); e.events[name] == 0 {
			e.events[name] = ev.Points
		}
	}
	for _, m := range doc.Earning.Multipliers {
		c := multiplier{m, policy.Always, policy.Never}
		if at, ok := policy.Instant(m.Starts, e.zone); ok {
			c.starts = at
		}
		if at, ok := policy.Instant(m.Ends, e.zone); ok {
			c.ends = at
		}
		e.multipliers = append(e.multipliers, c)
		e.lines = e.lines || len(m.Products) > 0 || len(m.Categories) > 0
	}
	return e
}

// fits reports whether the points of a line are multiplied. The tier is the one
// held just before.
func (m *multiplier) fits(at domain.Millis, channel, tier string, l *Line) bool {
	in := func(list []string, s string) bool { return len(list) == 0 || s != "" && slices.Contains(list, s) }
	return at >= m.starts && at < m.ends && in(m.Channels, channel) && in(m.Tiers, tier) &&
		in(m.Products, l.Product) && in(m.Categories, l.Category)
}

type expiry struct {
	life  domain.Millis // 0 for ever
	grace domain.Millis
}

func compileExpiry(doc policy.Programme) expiry {
	return expiry{policy.Days(*doc.Expiry.Days), policy.Days(*doc.Expiry.GraceDays)}
}

// expires is the instant at which points of a moment expire.
func (p *Programme) expires(at domain.Millis) domain.Millis {
	if v := p.expiry.at(at); v != nil && v.life > 0 {
		return at + v.life
	}
	return policy.Never
}

type tiers struct {
	currency string
	spend    bool
	calendar bool
	window   domain.Millis
	zone     *time.Location
	levels   []policy.Level
}

func compileTiers(doc policy.Programme) tiers {
	return tiers{
		currency: doc.Currency,
		spend:    doc.Tiers.By == policy.BySpend,
		calendar: doc.Tiers.Window == policy.Calendar,
		window:   policy.Days(doc.Tiers.Days),
		zone:     doc.Location(),
		levels:   doc.Tiers.Levels,
	}
}

// level is the index of the tier that a total gives.
func (t *tiers) level(total int64) int {
	i := len(t.levels) - 1
	for i > 0 && t.threshold(i) > total {
		i--
	}
	return i
}

// threshold is what a tier asks for, in points or ten-thousandths of the
// currency.
func (t *tiers) threshold(i int) int64 {
	n := t.levels[i].Threshold.Decimal()
	if t.spend {
		return int64(n)
	}
	return ceilUnits(n)
}

// ceilUnits is the least whole number that reaches a decimal.
func ceilUnits(d domain.Decimal) int64 {
	const unit = 10_000
	n := int64(d) / unit
	if int64(d)%unit > 0 {
		n++
	}
	return n
}

// yearOf is the first instant of the calendar year of an instant, and of the
// next.
func yearOf(at domain.Millis, zone *time.Location) (first, next domain.Millis) {
	y := at.Time().In(zone).Year()
	return yearStart(y, zone), yearStart(y+1, zone)
}

func yearStart(year int, zone *time.Location) domain.Millis {
	return domain.MillisOf(time.Date(year, 1, 1, 0, 0, 0, 0, zone))
}

// holdEnd is the end of the hold of a tier that was reached at an instant.
func (t *tiers) holdEnd(at domain.Millis) domain.Millis {
	if !t.calendar {
		return at + t.window
	}
	_, next := yearOf(at, t.zone)
	_, next = yearOf(next, t.zone)
	return next
}

// heldAgain is the end of the hold that follows one which ends at an instant.
func (t *tiers) heldAgain(at domain.Millis) domain.Millis {
	if !t.calendar {
		return at + t.window
	}
	return t.holdEnd(at - 1) // of the year then ending
}

// enrolment is the instant at which a customer of whom a touchpoint was first
// seen at an instant is in the programme by itself; policy.Never where it is not.
func (p *Programme) enrolment(seen domain.Millis) domain.Millis {
	for i := range p.earning {
		v := &p.earning[i]
		end := policy.Never
		if i+1 < len(p.earning) {
			end = p.earning[i+1].from
		}
		if at := max(seen, v.from, p.From); v.rules.automatic && at < end {
			return at
		}
	}
	return policy.Never
}
