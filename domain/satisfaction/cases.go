package satisfaction

import (
	"sojourn/domain"
)

// CaseKind is what a case is.
type CaseKind uint8

// The kinds of case.
const (
	Ticket CaseKind = iota
	Complaint
	Chat
	Call
)

var caseNames = [...]string{"ticket", "complaint", "chat", "call"}

// String is the kind as policies and tables have it.
func (k CaseKind) String() string { return caseNames[k] }

// ParseCaseKind reads what String wrote.
func ParseCaseKind(s string) (CaseKind, bool) {
	for i, name := range caseNames {
		if name == s {
			return CaseKind(i), true
		}
	}
	return 0, false
}

// Case is one request for help, or complaint, as it stands at a clock.
type Case struct {
	Kind CaseKind
	ID   string // as sent; empty where missing
	// First is its first touchpoint. Opened is that which opened it and gives it
	// its period; HasOpened is false where that has not been seen: such a case is
	// open or not, but is not timed.
	First, Opened Ref
	HasOpened     bool
	Open          bool
	Escalated     bool
	Reopened      int
	Priority      string // the last that was given
	// FirstResponse is over with an agent's first reply, Resolution with the last
	// Resolved, without the time between a Resolved and its Reopened.
	FirstResponse, Resolution Timing
}

// Verdict says whether something was done in time.
type Verdict uint8

// The verdicts. Shares are of those that are Met or Breached.
const (
	VerdictNone    Verdict = iota // there is no target, or it has no object any more
	VerdictPending                // not yet due
	VerdictMet
	VerdictBreached
)

var verdictNames = [...]string{"", "pending", "met", "breached"}

// String is the verdict as tables have it.
func (v Verdict) String() string { return verdictNames[v] }

// Timing is how long something took, by the policy's clock.
type Timing struct {
	Done bool
	Ref  Ref // the touchpoint that ended it, if Done; it may stand before the Opened
	// Took is the time that counted, until it was done or up to the clock.
	Took domain.Millis
	// Target is what it may take, 0 for any time. Due is the instant at which that
	// much has counted, as if nothing more happens; from it on it is a breach,
	// unless it is done at that very instant. Due means something while Pending
	// (zero there while the clock is paused) and if Breached.
	Target, Due domain.Millis
	Verdict     Verdict
}

// Cases are a customer's cases at a clock, in the order of their first touchpoints.
func Cases(f *Facts, r *Rules, clock domain.Millis) []Case {
	var b caseBook
	for _, n := range f.until(clock) {
		b.apply(n)
	}
	cases := make([]Case, len(b.list))
	for i := range b.list {
		cases[i] = b.list[i].view(r, clock)
	}
	return cases
}

// caseBook follows a customer's cases while their facts come in order.
type caseBook struct {
	list []caseState
	byID map[caseKey]int
	open [len(caseNames)]int // how many of each kind
}

type caseKey struct {
	kind CaseKind
	id   string // empty: the last that has no id
}

type caseState struct {
	Case
	reply    Ref
	hasReply bool
	resolved Ref // the last Resolved; what it means while the case is open again is in marks
	marks    []mark
}

// mark is something that matters for the time of a case.
type mark struct {
	at domain.Millis
	is markKind
}

type markKind uint8

const (
	markResolved markKind = iota
	markReopened
	markWaitCustomer
	markWaitAgent
)

// what a touchpoint does to its case.
type does uint8

const (
	doesNothing does = iota
	doesOpen
	doesResolve
	doesClose // resolve what is not resolved
	doesReopen
	doesEscalate
)

var caseActs = [acts]struct {
	kind CaseKind
	does does
	is   bool
}{
	complaintOpened:     {Complaint, doesOpen, true},
	complaintUpdated:    {Complaint, doesNothing, true},
	complaintResolved:   {Complaint, doesResolve, true},
	ticketOpened:        {Ticket, doesOpen, true},
	ticketReplied:       {Ticket, doesNothing, true},
	ticketEscalated:     {Ticket, doesEscalate, true},
	ticketResolved:      {Ticket, doesResolve, true},
	ticketClosed:        {Ticket, doesClose, true},
	ticketReopened:      {Ticket, doesReopen, true},
	chatStarted:         {Chat, doesOpen, true},
	chatMessageReceived: {Chat, doesNothing, true},
	chatEnded:           {Chat, doesClose, true},
	callStarted:         {Call, doesOpen, true},
	callAnswered:        {Call, doesNothing, true},
	callMissed:          {Call, doesClose, true},
	callEnded:           {Call, doesClose, true},
}

// apply takes the next fact; it does nothing where the fact is about no case.
func (b *caseBook) apply(n fact) {
	a := caseActs[n.act]
	if !a.is {
		return
	}
	key := caseKey{a.kind, n.id}
	i, known := b.byID[key]
	if known && n.id == "" && a.does == doesOpen && b.list[i].HasOpened {
		known = false // without an id each Opened is a case of its own
	}
	if !known {
		i = len(b.list)
		b.list = append(b.list, caseState{Case: Case{Kind: a.kind, ID: n.id, First: n.ref, Open: true}})
		if b.byID == nil {
			b.byID = map[caseKey]int{}
		}
		b.byID[key] = i
		b.open[a.kind]++
	}
	c := &b.list[i]
	was := c.Open
	c.take(n, a.does)
	if was && !c.Open {
		b.open[a.kind]--
	}
	if !was && c.Open {
		b.open[a.kind]++
	}
}

func (c *caseState) take(n fact, what does) {
	if n.word != "" {
		c.Priority = n.word
	}
	switch what {
	case doesOpen:
		switch {
		case !c.HasOpened:
			// What came before the Opened takes effect at its instant.
			c.Opened, c.HasOpened = n.ref, true
			for i := range c.marks {
				c.marks[i].at = n.ref.At
			}
		case !c.Open:
			c.reopen(n.ref)
		}
	case doesReopen:
		if !c.Open {
			c.reopen(n.ref)
		}
	case doesResolve, doesClose:
		if c.Open || what == doesResolve {
			c.Open, c.resolved = false, n.ref
			c.marks = append(c.marks, mark{n.ref.At, markResolved})
		}
	case doesEscalate:
		c.Escalated = true
	}
	if n.by == ByAgent && what == doesNothing && !c.hasReply {
		c.reply, c.hasReply = n.ref, true
	}
	if c.Kind > Complaint {
		return // who speaks to one another waits for nobody
	}
	wait := n.wait
	if wait == ByOther && what == doesNothing {
		// An answer is waited for from the other side.
		switch n.by {
		case ByAgent:
			wait = ByCustomer
		case ByCustomer:
			wait = ByAgent
		}
	}
	switch wait {
	case ByCustomer:
		c.marks = append(c.marks, mark{n.ref.At, markWaitCustomer})
	case ByAgent:
		c.marks = append(c.marks, mark{n.ref.At, markWaitAgent})
	}
}

func (c *caseState) reopen(ref Ref) {
	c.Open = true
	c.Reopened++
	c.marks = append(c.marks, mark{ref.At, markReopened})
}

// stretch is a time in which a case was open and counts; to is forever where it
// goes on.
type stretch struct{ from, to domain.Millis }

const forever domain.Millis = 1<<63 - 1

// stretches are the times that count from the opening to the last Resolved. A
// Resolved of what is resolved prolongs the stretch before it: the last Resolved
// ends a resolution. With pause the time in which it waits for the customer is
// left out.
func (c *caseState) stretches(pause bool) []stretch {
	var list []stretch
	from, open, waiting := c.Opened.At, true, false
	end := func(at domain.Millis) {
		if at > from && (!pause || !waiting) {
			list = append(list, stretch{from, at})
		}
		from = at
	}
	for _, m := range c.marks {
		switch m.is {
		case markResolved:
			end(m.at)
			open = false
		case markReopened:
			from, open, waiting = m.at, true, false
		case markWaitCustomer, markWaitAgent:
			if open {
				end(m.at)
				waiting = m.is == markWaitCustomer
			}
		}
	}
	if open {
		end(forever)
	}
	return list
}

// view is the case with its times.
func (c *caseState) view(r *Rules, clock domain.Millis) Case {
	v := c.Case
	if !c.HasOpened {
		return v
	}
	t := r.targetOf(c.Kind, c.Priority)
	if !c.hasReply {
		v.FirstResponse = measure(r.firstResponse, c.stretches(false), Timing{Target: t.firstResponse}, c.Open, clock)
	} else {
		list := c.stretches(false)
		for i := range list {
			list[i].to = min(list[i].to, c.reply.At)
		}
		v.FirstResponse = measure(r.firstResponse, list, Timing{Done: true, Ref: c.reply, Target: t.firstResponse}, c.Open, clock)
	}
	resolution := Timing{Target: t.resolution}
	if !c.Open {
		resolution.Done, resolution.Ref = true, c.resolved
	}
	v.Resolution = measure(r.resolution, c.stretches(r.pauseWaiting), resolution, c.Open, clock)
	return v
}

// measure completes a timing: how much of the stretches counts, when that comes to
// the target, and what follows from it. open: the case can still go on.
func measure(cal *Calendar, list []stretch, t Timing, open bool, clock domain.Millis) Timing {
	left, due := t.Target, forever
	for _, s := range list {
		if s.to <= s.from {
			continue
		}
		if due == forever && t.Target > 0 {
			switch at := cal.After(s.from, left); {
			case left == 0 || at < s.to:
				due = at
			default:
				// What ends a stretch at the very instant goes before the deadline,
				// which is then at the beginning of the next.
				left -= cal.Between(s.from, s.to)
			}
		}
		t.Took += cal.Between(s.from, min(s.to, clock))
	}
	switch {
	case t.Target == 0:
	case t.Done && due == forever:
		t.Verdict = VerdictMet
	case due <= clock:
		t.Verdict, t.Due = VerdictBreached, due
	case open:
		t.Verdict = VerdictPending
		if due < forever {
			t.Due = due
		}
	}
	return t
}

func (r *Rules) targetOf(kind CaseKind, priority string) target {
	for _, t := range r.targets {
		if t.kind == kind && (t.priority == "" || t.priority == priority) {
			return t
		}
	}
	return target{}
}
