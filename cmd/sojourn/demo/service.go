package demo

import "math"

// What a survey asks for; the upper half of a survey's value, whose lower half is
// the score.
const (
	nps uint8 = iota
	csat
	ces
)

// Who replied to a case.
const (
	byAgent uint8 = iota
	byCustomer
)

func clamp(x float64) float64 { return min(max(x, 0), 1) }

// feel moves the mood.
func (v *visitor) feel(by float64) { v.mood = clamp(v.mood + by) }

// score is how the mood shows on a scale.
func (v *visitor) score(low, high int) uint8 {
	x := clamp(v.mood + 0.11*v.r.NormFloat64())
	return uint8(low + int(math.Round(x*float64(high-low))))
}

// wait is a time of a mean, in ms.
func (v *visitor) wait(mean int64) int64 { return second + int64(v.r.ExpFloat64()*float64(mean)) }

// leave lets who is upset drop out, in most cases.
func (v *visitor) leave(at int64) {
	if v.mood < 0.62 && v.r.Float64() < 1.3*(1-v.mood) {
		v.died = min(v.died, at+v.wait(20*day))
	}
}

// survey goes out, and half are answered.
func (v *visitor) survey(at int64, kind, dev uint8) {
	n := v.surveys
	v.surveys++
	v.add(at, surveySent, 0, loggedIn|fromServer, n).value = kind << 4
	if v.r.Float64() > 0.5 {
		return
	}
	var score uint8
	switch kind {
	case nps:
		score = v.score(0, 10)
	case csat:
		score = v.score(1, 5)
	case ces:
		score = v.score(1, 7)
	}
	at += minute + v.wait(day)
	v.add(at, surveyAnswered, dev, loggedIn, n).value = kind<<4 | score
	v.leave(at)
}

// service is a request for help: by ticket, chat or call.
func (v *visitor) service(at int64) {
	switch x := v.r.Float64(); {
	case x < 0.45:
		v.ticket(at)
	case x < 0.8:
		v.chat(at)
	default:
		v.call(at)
	}
}

func (v *visitor) nextCase() uint32 {
	v.cases++
	return v.cases - 1
}

const (
	desk   = loggedIn | fromServer // the shop's help desk reports it
	urgent = 3                     // the last of the priorities
)

func (v *visitor) ticket(at int64) {
	r, n := v.r, v.nextCase()
	v.add(at, ticketOpened, 0, desk, n)
	reply, work := 3*hour, day
	if r.Float64() < 0.15 {
		reply, work = 14*hour, 3*day // a bad day at the desk
		v.feel(-0.15)
	}
	if v.p.trouble(n).priority == urgent {
		reply, work = reply/6, work/4
	}
	say := func(after int64, k kind, who uint8) {
		at += v.wait(after)
		v.add(at, k, 0, desk, n).value = who
	}
	say(reply, ticketReplied, byAgent)
	if r.Float64() < 0.4 {
		say(5*hour, ticketReplied, byCustomer)
		say(reply, ticketReplied, byAgent)
	}
	if r.Float64() < 0.12 {
		v.feel(-0.1)
		say(4*hour, ticketEscalated, byAgent)
		say(reply, ticketReplied, byAgent)
	}
	if r.Float64() < 0.04 {
		v.feel(-0.35) // and nobody ever resolved it
		v.complain(at + v.wait(4*day))
		return
	}
	say(work, ticketResolved, byAgent)
	if r.Float64() < 0.1 {
		v.feel(-0.2)
		say(day, ticketReopened, byCustomer)
		say(reply, ticketReplied, byAgent)
		say(work, ticketResolved, byAgent)
	}
	v.asked(at)
}

// asked is the survey after a case.
func (v *visitor) asked(at int64) {
	if v.r.Float64() < 0.6 {
		v.survey(at+v.wait(hour), csat, 0)
	} else {
		v.leave(at)
	}
}

func (v *visitor) chat(at int64) {
	r, n := v.r, v.nextCase()
	start := at
	v.add(at, chatStarted, 0, loggedIn, n)
	answered := r.Float64() < 0.94
	for range 1 + r.IntN(2) {
		if !answered {
			v.feel(-0.15)
			break
		}
		at += v.wait(50 * second)
		v.add(at, chatReceived, 0, desk, n)
		at += v.wait(40 * second)
		v.add(at, chatSent, 0, loggedIn, n)
	}
	at += v.wait(3 * minute)
	v.add(at, chatEnded, 0, loggedIn, n).value = uint8(min((at-start)/minute, 255))
	v.asked(at)
}

func (v *visitor) call(at int64) {
	n := v.nextCase()
	start := at
	v.add(at, callStarted, 0, desk, n)
	at += v.wait(25 * second)
	if v.r.Float64() < 0.15 {
		v.feel(-0.1)
		v.add(at, callMissed, 0, desk, n)
		return
	}
	v.add(at, callAnswered, 0, desk, n)
	at += v.wait(4 * minute)
	v.add(at, callEnded, 0, desk, n).value = uint8(min((at-start)/minute, 255))
	v.asked(at)
}

// complain is a complaint; one in twelve is never settled.
func (v *visitor) complain(at int64) {
	r, n := v.r, v.nextCase()
	v.feel(-0.3)
	v.add(at, complaintOpened, 0, desk, n)
	for range 1 + r.IntN(2) {
		at += v.wait(9 * hour)
		v.add(at, complaintUpdated, 0, desk, n).value = byAgent
	}
	if r.Float64() < 0.08 {
		v.leave(at)
		return
	}
	at += v.wait(3 * day)
	v.add(at, complaintResolved, 0, desk, n)
	if r.Float64() < 0.6 {
		v.feel(0.2) // it was settled well
	}
	v.leave(at)
}

// trouble is what a case is about; it is the same in all of its messages.
type trouble struct {
	topic    *topic
	priority uint8
	text     uint64 // which of the topic's texts
}

func (p person) trouble(n uint32) trouble {
	h := mix(p.salt ^ mix(uint64(n)+1<<40))
	t := trouble{topic: &topics[h%uint64(len(topics))], text: h >> 8}
	switch x := h >> 40 % 100; {
	case x < 8:
		t.priority = urgent
	case x < 25:
		t.priority = 2
	case x < 80:
		t.priority = 1
	}
	return t
}
