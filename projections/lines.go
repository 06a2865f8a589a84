package projections

import (
	"encoding/binary"
	"math"
	"slices"

	"github.com/cespare/xxhash/v2"
	"github.com/google/uuid"

	"sojourn/domain"
	"sojourn/domain/customer"
	"sojourn/domain/lifecycle"
	"sojourn/domain/loyalty"
	"sojourn/domain/policy"
	"sojourn/domain/satisfaction"
)

// Statements are about lines beside the stage: how satisfied a customer is, and its
// tier in each programme. A line is folded anew from the facts at each flush that
// has changed them. Which of its changes are news is judged only where there is
// something to say: then the touchpoints of the batch are gone through one by one,
// so that the size of a batch decides nothing.

// change is a change of a tier or a status.
type change struct {
	from, to   string
	at, until  domain.Millis // until is the end of a tier's hold, 0 where there is none
	index      float64       // of a status that is known
	reason     string
	rule       string // of a deadline
	touchpoint uuid.UUID
}

// cause is as in a stage's statement.
func (c *change) cause() string {
	if c.rule == "" {
		return "touchpoint:" + c.touchpoint.String()
	}
	return "deadline:" + c.rule + ":" + c.touchpoint.String()
}

// hash identifies the content of a change of a line.
func (c *change) hash(programme string) uint64 {
	var scratch [200]byte
	b := scratch[:0]
	for _, s := range [...]string{programme, c.from, c.to, c.reason, c.rule} {
		b = append(append(b, s...), 0)
	}
	for _, n := range [...]uint64{uint64(c.at), uint64(c.until), math.Float64bits(c.index)} {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	return xxhash.Sum64(append(b, c.touchpoint[:]...))
}

func (c *change) sentence(programme string, news bool) sentence {
	st := Statement{
		Programme: programme, From: c.from, To: c.to, At: c.at.String(), Reason: c.reason, Cause: c.cause(), News: news,
	}
	if c.until != 0 {
		st.Until = c.until.String()
	}
	if programme == "" && c.to != string(satisfaction.Unknown) {
		st.Index = &c.index
	}
	return sentence{c.hash(programme), st}
}

// changedSegments says that the segments may have changed, beside what facts say.
const changedSegments customer.Changes = 1 << 7

// allLines are all that lines are about.
const allLines = customer.Loyalty | customer.Satisfaction | changedSegments

// line is what stands of one thing at an instant.
type line struct {
	what      about
	programme string // of a tier; of a segment its name
	all       []change
	news      []bool
	next      domain.Millis // the next instant at which time alone may change it; MaxTime where none
}

// basis is what lines are folded from.
type basis struct {
	loyalty      *loyalty.Facts
	satisfaction *satisfaction.Facts
	segments     *segmentBasis // nil where there are no segments
}

// taken is a touchpoint or command that a batch has added to a customer's basis.
type taken struct {
	ref          loyalty.Ref
	loyalty      *loyalty.Touch
	satisfaction *satisfaction.Event
	command      *loyalty.Command
	// Where there are segments: touch is the whole of it, and segments what these take.
	touch    *lifecycle.Touch
	segments *segmentTouch
	// before is the instant up to which time had passed when it came, at its own.
	before, at domain.Millis
}

func (b *basis) take(s *taken, book *loyalty.Rulebook, segments *segmentSet) {
	switch {
	case s.command != nil:
		b.loyalty.AddCommand(*s.command)
		return
	case s.loyalty != nil:
		b.loyalty.Add(*s.loyalty, book)
	default:
		b.loyalty.See(s.ref)
	}
	if s.satisfaction != nil {
		b.satisfaction.Add(satisfaction.Touch{Ref: s.ref, Event: *s.satisfaction})
	}
	if s.touch != nil {
		b.segments.lifecycle.Add(*s.touch)
	}
	if s.segments != nil {
		b.segments.facts.add(s.ref, s.segments, segments)
	}
}

// statusChanges are the changes of status up to a clock, and the first behind it.
func statusChanges(all []satisfaction.Transition, clock domain.Millis) (changes []change, next domain.Millis) {
	for i := range all {
		t := &all[i]
		if t.At > clock {
			return changes, t.At
		}
		changes = append(changes, change{
			from: string(t.From), to: string(t.To), at: t.At, index: t.Index,
			reason: t.Reason, rule: t.Cause.Rule, touchpoint: t.Cause.Touchpoint,
		})
	}
	return changes, domain.MaxTime
}

func tierChanges(all []loyalty.Transition) []change {
	changes := make([]change, len(all))
	for i := range all {
		t := &all[i]
		changes[i] = change{
			from: t.From, to: t.To, at: t.At,
			reason: t.Reason, rule: t.Cause.Rule, touchpoint: t.Cause.Touchpoint,
		}
		if t.Until != policy.Never {
			changes[i].until = t.Until
		}
	}
	return changes
}

// linesAt are the lines of a basis at an instant, without marks.
func (r *Rules) linesAt(b *basis, at domain.Millis) []line {
	all := make([]line, 0, 1+len(r.book.Programmes()))
	status := line{what: aboutStatus, next: domain.MaxTime}
	if !b.satisfaction.Empty() {
		status.all, status.next = statusChanges(satisfaction.Transitions(b.satisfaction, r.satisfaction), at)
	}
	all = append(all, status)
	var ledgers map[string]*loyalty.Ledger
	if r.segments != nil {
		ledgers = map[string]*loyalty.Ledger{}
	}
	for _, p := range r.book.Programmes() {
		l := loyalty.Fold(b.loyalty, p, at)
		all = append(all, line{what: aboutTier, programme: p.ID, all: tierChanges(l.Transitions), next: min(l.Next, b.loyalty.After(at))})
		if ledgers != nil {
			kept := l // so that l stays off the heap where there are no segments
			ledgers[p.ID] = &kept
		}
	}
	if r.segments != nil {
		all = append(all, r.segmentLines(b, at, ledgers)...)
	}
	return all
}

// stands is where the customer stands in a line.
func (l *line) stands() string {
	if len(l.all) == 0 {
		return ""
	}
	return l.all[len(l.all)-1].to
}

// expect keeps what a customer's lines follow from, before a touchpoint is added
// that may change them.
func (f *fold) expect(c *cust, t *customer.Touch) {
	if f.silent || c.foreign || c.base != nil {
		return
	}
	if f.rules.segments == nil && t != nil && t.Loyalty == nil && t.Satisfaction == nil &&
		slices.ContainsFunc(c.members, func(m *subject) bool { return m.facts.Touchpoints > 0 && m.facts.FirstSeen < t.At }) {
		return
	}
	if c.lines == nil && !slices.ContainsFunc(c.members, func(m *subject) bool { return m.facts.Touchpoints > 0 }) {
		// Nobody was there: whatever commands its subjects had, nothing of it stood.
		c.lines = f.rules.linesAt(f.rules.emptyBasis(), f.clock)
		for i := range c.lines {
			c.lines[i].next = domain.MaxTime
		}
	}
	c.base = c.basis(f.rules).clone()
}

// took notes that a touchpoint was added, and what it may have changed.
func (f *fold) took(p *pending, changed customer.Changes) {
	c, t, segments := p.c, &p.a.touch, p.a.segments
	if f.rules.segments == nil {
		changed &= customer.Loyalty | customer.Satisfaction
	} else if changed != 0 || segments != nil {
		changed |= changedSegments
	}
	c.due |= changed &^ customer.Stage
	if changed != 0 && !f.silent {
		step := taken{ref: t.Ref, loyalty: t.Loyalty, satisfaction: t.Satisfaction, before: p.before, at: p.step}
		if f.rules.segments != nil {
			touch := t.Touch
			step.touch, step.segments = &touch, segments
		}
		c.steps = append(c.steps, step)
	}
}

// manySteps bounds what is folded to judge the changes of one batch, in facts. A
// customer with more of both takes several steps as one.
const manySteps = 1 << 18

// settle brings the marks of a customer's lines up to its last step.
func (f *fold) settle(c *cust) {
	if f.silent {
		return
	}
	base := c.base
	if base == nil {
		base = c.basis(f.rules)
	}
	if c.lines == nil {
		c.lines = f.rules.linesAt(base, f.clock)
		for i := range c.lines {
			c.lines[i].news = make([]bool, len(c.lines[i].all))
		}
	}
	size := base.loyalty.Len() + base.satisfaction.Len() + len(c.steps)
	if base.segments != nil {
		size += base.segments.facts.len()
	}
	together := 1 + len(c.steps)*size/manySteps
	for i := 0; i < len(c.steps); i += together {
		some := c.steps[i:min(i+together, len(c.steps))]
		f.pass(c, base, some[0].before)
		for j := range some {
			base.take(&some[j], f.rules.book, f.rules.segments)
		}
		c.relay(f.rules.linesAt(base, some[len(some)-1].at), false)
	}
	c.base, c.steps = nil, nil
}

// pass lets the time come: what is due by t was found because the clock came.
func (f *fold) pass(c *cust, base *basis, t domain.Millis) {
	if !slices.ContainsFunc(c.lines, func(l line) bool { return l.next <= t }) {
		return
	}
	is := f.rules.linesAt(base, t)
	for i := range is {
		news := c.lines[i].news
		for len(news) < len(is[i].all) {
			news = append(news, true)
		}
		is[i].news = news
	}
	c.lines = is
}

// relay puts lines in place of those that a customer had.
func (c *cust) relay(is []line, decided bool) {
	for i := range is {
		var was line
		if c.lines != nil {
			was = c.lines[i]
		}
		is[i].news = remark(was.all, was.news, is[i].all, !decided && is[i].stands() != was.stands())
	}
	c.lines = is
}

// part settles a customer whose subjects are about to change.
func (f *fold) part(c *cust) {
	if f.silent || c.foreign {
		return
	}
	f.settle(c)
	f.pass(c, c.basis(f.rules), f.before)
}

// replaceLines makes the lines of a customer those of its subjects as they are now.
func (f *fold) replaceLines(c *cust, decided bool) {
	c.due = allLines
	if !f.silent {
		c.relay(f.rules.linesAt(c.basis(f.rules), f.step), decided)
	}
}
