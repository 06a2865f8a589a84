package satisfaction

import (
	"cmp"
	"slices"
	"strings"

	"sojourn/domain"
	"sojourn/domain/policy"
)

// Facts are what satisfaction needs of a set of touchpoints; the zero value is the
// empty set. They do not depend on the order in which touchpoints are added, and a
// touchpoint added twice is in the set once: whatever is computed goes through them
// in the order of their Refs, so that sums of floating-point numbers are equal bit
// for bit. They hold no comment. They are not safe for concurrent use, not even
// for reading: what came out of order is sorted when it is first looked at.
type Facts struct {
	list     []fact // sorted by ref if !unsorted
	unsorted bool
}

// Touch is what satisfaction takes of a touchpoint.
type Touch struct {
	Ref
	Event Event
}

// fact is a touchpoint that matters.
type fact struct {
	ref      Ref
	id       string // of the case, or of the survey
	word     string // the case's priority, or the survey's campaign
	score    domain.Decimal
	scale    Scale
	act      act
	kind     Kind
	state    ScoreState
	by, wait By
}

// act is a policy.Act in a byte. The numbers are part of the format of Facts.
type act uint8

const (
	surveySent act = iota
	answered
	complaintOpened
	complaintUpdated
	complaintResolved
	ticketOpened
	ticketReplied
	ticketEscalated
	ticketResolved
	ticketClosed
	ticketReopened
	chatStarted
	chatMessageReceived
	chatEnded
	callStarted
	callAnswered
	callMissed
	callEnded
	acts // how many there are
)

// actOf is false for what leaves no fact: messages that a customer writes in a
// chat change nothing.
func actOf(a policy.Act) (act, bool) {
	switch a {
	case policy.ActSurveySent:
		return surveySent, true
	case policy.ActSurveyAnswered, policy.ActNPSAnswered, policy.ActCSATAnswered, policy.ActCESAnswered, policy.ActProductReviewed:
		return answered, true
	case policy.ActComplaintOpened:
		return complaintOpened, true
	case policy.ActComplaintUpdated:
		return complaintUpdated, true
	case policy.ActComplaintResolved:
		return complaintResolved, true
	case policy.ActTicketOpened:
		return ticketOpened, true
	case policy.ActTicketReplied:
		return ticketReplied, true
	case policy.ActTicketEscalated:
		return ticketEscalated, true
	case policy.ActTicketResolved:
		return ticketResolved, true
	case policy.ActTicketClosed:
		return ticketClosed, true
	case policy.ActTicketReopened:
		return ticketReopened, true
	case policy.ActChatStarted:
		return chatStarted, true
	case policy.ActChatMessageReceived:
		return chatMessageReceived, true
	case policy.ActChatEnded:
		return chatEnded, true
	case policy.ActCallStarted:
		return callStarted, true
	case policy.ActCallAnswered:
		return callAnswered, true
	case policy.ActCallMissed:
		return callMissed, true
	case policy.ActCallEnded:
		return callEnded, true
	}
	return 0, false
}

// Add adds a touchpoint to the set; any order will do. It reports whether that may
// have changed an answer: it is false for touchpoints that are not about
// satisfaction.
func (f *Facts) Add(t Touch) bool {
	e := &t.Event
	a, ok := actOf(e.Act)
	if !ok || a == chatMessageReceived && e.By != ByAgent {
		return false
	}
	n := fact{ref: t.Ref, act: a, kind: e.Kind}
	switch a {
	case answered, surveySent:
		n.id, n.word = strings.Clone(e.Survey), strings.Clone(e.Campaign)
		if a == answered {
			n.state, n.scale = e.State, e.Scale
			if n.state == ScoreRead {
				n.score = e.Score
			}
		}
	default:
		n.kind = KindNone
		n.id, n.by = strings.Clone(e.Case), e.By
		if a != chatMessageReceived { // of which few are kept
			n.word, n.wait = strings.Clone(cut(e.Priority, maxWord)), e.Waiting
		}
	}
	if l := len(f.list); l > 0 && f.list[l-1].ref.Compare(t.Ref) >= 0 {
		f.unsorted = true
	}
	f.list = append(f.list, n)
	// A talkative customer's chats must not pile up.
	f.unsorted = f.unsorted || a == chatMessageReceived
	return true
}

// Merge adds the touchpoints of o; o stays as it is.
func (f *Facts) Merge(o *Facts) {
	if len(o.list) == 0 {
		return
	}
	if n := len(f.list); n > 0 && f.list[n-1].ref.Compare(o.list[0].ref) >= 0 || o.unsorted {
		f.unsorted = true
	}
	for i := range o.list {
		f.unsorted = f.unsorted || o.list[i].act == chatMessageReceived
	}
	f.list = append(f.list, o.list...)
}

// Clone returns a copy that shares nothing that changes.
func (f *Facts) Clone() Facts {
	return Facts{slices.Clone(f.list), f.unsorted}
}

// Len is the number of touchpoints that matter.
func (f *Facts) Len() int { return len(f.list) }

// Empty reports whether the set holds no touchpoint that matters.
func (f *Facts) Empty() bool { return len(f.list) == 0 }

// Last is the last touchpoint that matters; zero where there is none.
func (f *Facts) Last() Ref {
	f.sort()
	if len(f.list) == 0 {
		return Ref{}
	}
	return f.list[len(f.list)-1].ref
}

func (f *Facts) sort() {
	if !f.unsorted {
		return
	}
	slices.SortFunc(f.list, compareFacts)
	// Once each touchpoint, and of the messages of a conversation the earliest,
	// which is its first response.
	var answered map[string]bool
	var before Ref
	kept := f.list[:0]
	for i, n := range f.list {
		if i > 0 && n.ref == before {
			continue
		}
		before = n.ref
		if n.act == chatMessageReceived && n.id != "" {
			if answered[n.id] {
				continue
			}
			if answered == nil {
				answered = map[string]bool{}
			}
			answered[n.id] = true
		}
		kept = append(kept, n)
	}
	clear(f.list[len(kept):])
	f.list, f.unsorted = kept, false
}

func compareFacts(a, b fact) int {
	return cmp.Or(
		a.ref.Compare(b.ref), cmp.Compare(a.act, b.act), strings.Compare(a.id, b.id), strings.Compare(a.word, b.word),
		cmp.Compare(a.kind, b.kind), cmp.Compare(a.state, b.state), cmp.Compare(a.score, b.score),
		cmp.Compare(a.scale.Low, b.scale.Low), cmp.Compare(a.scale.High, b.scale.High), cmp.Compare(a.by, b.by), cmp.Compare(a.wait, b.wait),
	)
}

// until are the facts up to a clock, the clock included.
func (f *Facts) until(clock domain.Millis) []fact {
	f.sort()
	n, _ := slices.BinarySearchFunc(f.list, clock, func(n fact, clock domain.Millis) int {
		if n.ref.At <= clock {
			return -1
		}
		return 1
	})
	return f.list[:n]
}
