package satisfaction

import (
	"math"
	"sort"
	"strconv"

	"sojourn/domain"
)

// Transitions lists every change of status in the order of time, to the end of
// time as if nothing more happened: the instant at which the status will become
// unknown is in it, and a caller cuts at its clock (At ≤ clock). Before the first,
// a customer is Unknown. What it says up to a clock depends on the touchpoints up
// to it alone.
//
// The index is Σ w·2^(−age/half-life)·points ÷ Σ w·2^(−age/half-life) over the
// scored signals: time alone does not move it. Sums are taken in the order of
// Refs and the index is rounded to a millionth.
func Transitions(f *Facts, r *Rules) []Transition {
	f.sort()
	c := course{rules: r, status: Unknown}
	for i := range f.list {
		c.take(&f.list[i])
	}
	c.pass(forever)
	return c.out
}

// course goes through a customer's life.
type course struct {
	rules  *Rules
	out    []Transition
	status Status
	cases  caseBook

	// The sums at the last signal, last, of n signals.
	n            int
	last         Ref
	weight, sum  float64
	known        bool
	begun        bool
	now          domain.Millis
	measures     [kinds]Measure
	flagged      int
	surveys      []Survey
	surveysFolds bool // surveys are followed
}

// take takes the next fact. At one instant there is first what time did before it,
// then touchpoint after touchpoint, then what time alone does at it.
func (c *course) take(n *fact) {
	if !c.begun || n.ref.At != c.now {
		c.pass(n.ref.At)
		c.begun, c.now = true, n.ref.At
	}
	reason := ""
	counts := true
	switch n.act {
	case answered:
		s := c.rules.judge(n.kind, n.state, n.score, n.scale)
		counts = !s.flagged()
		c.measure(n.ref, s)
		if w := c.rules.weight(s); w > 0 {
			c.signal(n.ref, w, s.Points)
			reason = signalReason(s)
		}
	case complaintOpened:
		reason = "complaint opened"
	case complaintUpdated:
		reason = "complaint updated"
	case complaintResolved:
		reason = "complaint resolved"
	}
	if c.surveysFolds && counts {
		c.survey(n)
	}
	open := c.cases.open[Complaint]
	c.cases.apply(*n)
	if c.cases.open[Complaint] > open && n.act == complaintUpdated {
		reason = "complaint known of"
	}
	if c.known {
		if to := c.rules.statusOf(c.index()); to != c.status {
			c.enter(to, n.ref.At, reason, Cause{Touchpoint: n.ref.ID})
		}
	}
}

// signal adds a scored signal to the sums.
func (c *course) signal(ref Ref, w, points float64) {
	if c.n > 0 {
		decay := c.rules.age(ref.At - c.last.At)
		c.weight = float64(c.weight * decay)
		c.sum = float64(c.sum * decay)
	}
	// The conversions keep a compiler from fusing product and sum, which would
	// round in another way on another machine.
	c.weight = c.weight + w
	c.sum = c.sum + float64(w*points)
	c.n++
	c.last = ref
	if c.weight >= c.rules.floor {
		c.known = true
	}
}

// index is what an open complaint leaves of the index.
func (c *course) index() float64 {
	index := roundIndex(c.sum / c.weight)
	if c.cases.open[Complaint] > 0 {
		index = min(index, c.rules.cap)
	}
	return index
}

// roundIndex rounds to a millionth, so that the mean of equal scores is that score
// whatever they weigh.
func roundIndex(x float64) float64 { return math.Round(x*1e6) / 1e6 }

// weightAt is the sum of the weights, aged to an instant not before the last.
func (c *course) weightAt(t domain.Millis) float64 {
	if c.n == 0 {
		return 0
	}
	return float64(c.weight * c.rules.age(t-c.last.At))
}

// fades is the first instant at which the weights' sum is below the floor.
func (c *course) fades() domain.Millis {
	if c.weight < c.rules.floor {
		return c.last.At
	}
	t := c.last.At + domain.Millis(c.rules.halfLife*math.Log2(c.weight/c.rules.floor))
	// The estimate is good to some milliseconds.
	for t > c.last.At && c.weightAt(t-1) < c.rules.floor {
		t--
	}
	for c.weightAt(t) >= c.rules.floor {
		t++
	}
	return t
}

// pass lets time alone go on to just before an instant.
func (c *course) pass(until domain.Millis) {
	if !c.known {
		return
	}
	// Touchpoints at one instant go before what time does at it: what fades there
	// has not faded for them.
	at := c.fades()
	if at >= until {
		return
	}
	c.known = false
	c.enter(Unknown, at, "the last answer is too old", Cause{Rule: RuleFaded, Touchpoint: c.last.ID})
}

func (c *course) enter(to Status, at domain.Millis, reason string, cause Cause) {
	t := Transition{From: c.status, To: to, At: at, Reason: reason, Cause: cause}
	if to != Unknown {
		t.Index = c.index()
	}
	c.out = append(c.out, t)
	c.status = to
}

// signalReason says what a score was, such as "NPS 9 of 10".
func signalReason(s Score) string {
	name := [...]string{NPS: "NPS", CSAT: "CSAT", CES: "CES", Custom: "survey", Review: "review"}[s.Kind]
	return name + " " + s.Value.String() + " of " + strconv.Itoa(s.Scale.High)
}

// Measure is what a customer's scores of one kind say.
type Measure struct {
	Count int // those that count
	// Last is the last of them, At its touchpoint.
	Last Score
	At   Ref
	// Change is Last's points less those of the one before it; HasChange is false
	// where there is none.
	Change    float64
	HasChange bool
}

func (c *course) measure(ref Ref, s Score) {
	if s.flagged() {
		c.flagged++
	}
	if s.Flag != "" {
		return
	}
	m := &c.measures[s.Kind]
	if m.Count > 0 {
		m.Change, m.HasChange = roundIndex(s.Points-m.Last.Points), true
	}
	m.Count++
	m.Last, m.At = s, ref
}

// Survey is one survey that was sent.
type Survey struct {
	Sent             Ref
	Kind             Kind // KindNone where it was sent without
	Survey, Campaign string
	Answered         bool
	Answer           Ref // the first answer that counts, if Answered
}

// survey follows what was sent and what was answered, with a score that counts or
// without one. An answer is to the last
// survey sent before it of the same survey_id; where it names none, of the same
// campaign; of the same kind in any case, unless it was sent without.
func (c *course) survey(n *fact) {
	switch {
	case n.act == surveySent:
		c.surveys = append(c.surveys, Survey{Sent: n.ref, Kind: n.kind, Survey: n.id, Campaign: n.word})
	case n.act == answered && n.kind != Review:
		for i := len(c.surveys) - 1; i >= 0; i-- {
			s := &c.surveys[i]
			if s.Kind != KindNone && s.Kind != n.kind ||
				n.id != "" && s.Survey != n.id ||
				n.id == "" && n.word != "" && s.Campaign != n.word {
				continue
			}
			if !s.Answered {
				s.Answered, s.Answer = true, n.ref
			}
			return
		}
	}
}

// View is the answer about a customer at a clock.
type View struct {
	Status Status
	// Since is when the status began; it means nothing where there was no
	// transition yet. Reason and Cause are that transition's.
	Since  domain.Millis
	Reason string
	Cause  Cause
	// Index means something where Known. Uncapped is what it would be without an
	// open complaint.
	Known           bool
	Index, Uncapped float64
	// Signals is the number of scored signals, Weight what they weigh together at
	// the clock.
	Signals int
	Weight  float64
	// UnknownFrom is when the status becomes unknown if nothing more happens; it
	// means something where Known.
	UnknownFrom domain.Millis
	// NPS, CSAT, CES and Review are the last scores and their trend.
	NPS, CSAT, CES, Review Measure
	// Flagged is the number of scores that are kept and counted nowhere.
	Flagged                     int
	OpenComplaints, OpenTickets int
	Cases                       []Case
	Surveys                     []Survey
}

// View answers at a clock from the touchpoints up to it, with the transitions up to
// it (past) and those that time alone will bring (future), both in order.
func (f *Facts) View(clock domain.Millis, r *Rules) (v View, past, future []Transition) {
	c := course{rules: r, status: Unknown, surveysFolds: true}
	for _, n := range f.until(clock) {
		c.take(&n)
	}
	if c.known && c.fades() > clock {
		v.Known = true
		v.Index, v.Uncapped = c.index(), roundIndex(c.sum/c.weight)
		v.UnknownFrom = c.fades()
	}
	v.Signals, v.Weight = c.n, c.weightAt(clock)
	v.NPS, v.CSAT, v.CES, v.Review = c.measures[NPS], c.measures[CSAT], c.measures[CES], c.measures[Review]
	v.Flagged = c.flagged
	v.OpenComplaints, v.OpenTickets = c.cases.open[Complaint], c.cases.open[Ticket]
	v.Surveys = c.surveys
	v.Cases = make([]Case, len(c.cases.list))
	for i := range c.cases.list {
		v.Cases[i] = c.cases.list[i].view(r, clock)
	}
	c.pass(forever)
	n := sort.Search(len(c.out), func(i int) bool { return c.out[i].At > clock })
	past, future = c.out[:n:n], c.out[n:]
	v.Status = Unknown
	if n > 0 {
		now := past[n-1]
		v.Status, v.Since, v.Reason, v.Cause = now.To, now.At, now.Reason, now.Cause
	}
	return v, past, future
}
