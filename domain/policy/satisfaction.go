package policy

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"sojourn/domain"
)

// Act is what a message does for satisfaction. docs/events.md describes the
// properties of each.
type Act string

// The acts.
const (
	ActSurveySent          Act = "survey_sent"
	ActSurveyAnswered      Act = "survey_answered" // of the kind that the message names
	ActNPSAnswered         Act = "nps_answered"
	ActCSATAnswered        Act = "csat_answered"
	ActCESAnswered         Act = "ces_answered"
	ActProductReviewed     Act = "product_reviewed"
	ActComplaintOpened     Act = "complaint_opened"
	ActComplaintUpdated    Act = "complaint_updated"
	ActComplaintResolved   Act = "complaint_resolved"
	ActTicketOpened        Act = "ticket_opened"
	ActTicketReplied       Act = "ticket_replied"
	ActTicketEscalated     Act = "ticket_escalated"
	ActTicketResolved      Act = "ticket_resolved"
	ActTicketClosed        Act = "ticket_closed" // resolves what is not resolved yet
	ActTicketReopened      Act = "ticket_reopened"
	ActChatStarted         Act = "chat_started"
	ActChatMessageSent     Act = "chat_message_sent"     // by the customer
	ActChatMessageReceived Act = "chat_message_received" // by the customer, from an agent
	ActChatEnded           Act = "chat_ended"
	ActCallStarted         Act = "call_started"
	ActCallAnswered        Act = "call_answered"
	ActCallMissed          Act = "call_missed"
	ActCallEnded           Act = "call_ended"
)

// Acts are those that a mapping may give.
var Acts = []Act{
	ActSurveySent, ActSurveyAnswered, ActNPSAnswered, ActCSATAnswered, ActCESAnswered, ActProductReviewed,
	ActComplaintOpened, ActComplaintUpdated, ActComplaintResolved,
	ActTicketOpened, ActTicketReplied, ActTicketEscalated, ActTicketResolved, ActTicketClosed, ActTicketReopened,
	ActChatStarted, ActChatMessageSent, ActChatMessageReceived, ActChatEnded,
	ActCallStarted, ActCallAnswered, ActCallMissed, ActCallEnded,
}

// Satisfaction says how opinions are scored, when service is late, what comments
// are about, and how a customer is to be treated. A list that is nil is the
// default's; one that is empty has nothing in it.
type Satisfaction struct {
	// HalfLifeDays is the age at which a signal counts half. A day is 24 hours.
	HalfLifeDays int `json:"half_life_days" yaml:"half_life_days"`
	// Weights of the signals of the index; 0 leaves a kind out.
	Weights SignalWeights `json:"weights" yaml:"weights"`
	// Floor is the sum of aged weights below which the index is unknown.
	Floor float64 `json:"floor" yaml:"floor"`
	// ComplaintCap is the most that the index can be while a complaint is open.
	ComplaintCap float64 `json:"complaint_cap" yaml:"complaint_cap"`
	// Status says from which index on a customer is what.
	Status StatusBounds `json:"status" yaml:"status"`
	// CSAT has the scales of CSAT and the scores that count as satisfied. An
	// answer on a scale that is not listed is counted nowhere.
	CSAT []CSATScale `json:"csat" yaml:"csat"`
	// CESEasy is the end of the CES scale that means easy: high (7) or low (1).
	CESEasy string `json:"ces_easy" yaml:"ces_easy"`
	// Hours are the business hours.
	Hours Hours `json:"hours" yaml:"hours"`
	// Clocks says what runs in them.
	Clocks Clocks `json:"clocks" yaml:"clocks"`
	// Targets say how long service may take: the first that fits.
	Targets []Target `json:"targets" yaml:"targets"`
	// Voice sorts comments.
	Voice Voice `json:"voice" yaml:"voice"`
	// Service says how a customer is to be treated.
	Service ServiceLevels `json:"service" yaml:"service"`
}

// SignalWeights weigh the kinds of scored signal.
type SignalWeights struct {
	NPS    float64 `json:"nps" yaml:"nps"`
	CSAT   float64 `json:"csat" yaml:"csat"`
	CES    float64 `json:"ces" yaml:"ces"`
	Review float64 `json:"review" yaml:"review"`
	Custom float64 `json:"custom" yaml:"custom"`
}

// StatusBounds are the least indices of three statuses; what is below Neutral is
// unhappy.
type StatusBounds struct {
	Delighted float64 `json:"delighted" yaml:"delighted"`
	Satisfied float64 `json:"satisfied" yaml:"satisfied"`
	Neutral   float64 `json:"neutral" yaml:"neutral"`
}

// CSATScale is a scale such as "1-5" and its scores that count as satisfied.
type CSATScale struct {
	Scale     string `json:"scale" yaml:"scale"`
	Satisfied []int  `json:"satisfied" yaml:"satisfied"`
}

// High and Low are the ends of a scale.
const (
	High = "high"
	Low  = "low"
)

// Hours are business hours: local times of a zone on days of the week. Without
// any span the clock runs round the clock.
type Hours struct {
	Zone string `json:"zone" yaml:"zone"` // of the IANA database
	Week []Span `json:"week" yaml:"week"`
	// Holidays are closed the whole day: "2026-04-03", or "12-25" for every year.
	Holidays []string `json:"holidays" yaml:"holidays"`
}

// Span is a time of the day on days of the week.
type Span struct {
	Days []string `json:"days" yaml:"days"` // of Weekdays
	From string   `json:"from" yaml:"from"` // such as 09:00
	To   string   `json:"to" yaml:"to"`     // such as 17:30; 24:00 is the end of the day
}

// Weekdays are the names of the days, from Sunday as in package time.
var Weekdays = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

// RoundTheClock and Business are how a clock runs.
const (
	RoundTheClock = "always"
	Business      = "business"
)

// Clocks says how service is timed.
type Clocks struct {
	FirstResponse string `json:"first_response" yaml:"first_response"` // RoundTheClock or Business
	Resolution    string `json:"resolution" yaml:"resolution"`
	// PauseWaiting stops the clock of a resolution while a case waits for the
	// customer.
	PauseWaiting bool `json:"pause_waiting" yaml:"pause_waiting"`
}

// Cases are the kinds of case.
var Cases = []string{"ticket", "complaint", "chat", "call"}

// Target is how long service may take for the cases that fit all it names. A time
// of 0 is none.
type Target struct {
	Case                 string `json:"case" yaml:"case"`
	Priority             string `json:"priority,omitempty" yaml:"priority,omitempty"` // as the case's last, in lower case
	FirstResponseMinutes int    `json:"first_response_minutes" yaml:"first_response_minutes"`
	ResolutionMinutes    int    `json:"resolution_minutes" yaml:"resolution_minutes"`
}

// Voice sorts comments into topics, needs and priorities.
type Voice struct {
	// Standard has the standard rules stand behind the policy's own. An own topic
	// replaces the standard one of that name.
	Standard bool        `json:"standard" yaml:"standard"`
	Rules    []VoiceRule `json:"rules" yaml:"rules"`
}

// VoiceRule gives the comments that it fits a topic, a need, a priority, or
// several of them. A comment has the topics of all rules that fit, the need of the
// first of them that names one (else functional) and the highest priority (else
// low).
type VoiceRule struct {
	Topic    string `json:"topic,omitempty" yaml:"topic,omitempty"`
	Need     string `json:"need,omitempty" yaml:"need,omitempty"`
	Priority string `json:"priority,omitempty" yaml:"priority,omitempty"`
	// Words are words and phrases in any case. In scripts that part words a word
	// is a whole one, unless it ends (or begins) with *; in the others (Chinese,
	// Japanese, Thai, …) it stands anywhere.
	Words []string `json:"words,omitempty" yaml:"words,omitempty"`
	// Patterns are regular expressions (RE2), matched in lower case.
	Patterns []string `json:"patterns,omitempty" yaml:"patterns,omitempty"`
	// Unless are words that, where they stand, are not looked at.
	Unless []string `json:"unless,omitempty" yaml:"unless,omitempty"`
}

// The needs and the priorities, the most urgent first.
var (
	Needs      = []string{"functional", "emotional", "social"}
	Priorities = []string{"high", "medium", "low"}
)

// ServiceLevels gives each customer a level of service.
type ServiceLevels struct {
	// Default is the level of those that no other fits.
	Default string `json:"default" yaml:"default"`
	// Flags are the names that a flag may have.
	Flags []string `json:"flags" yaml:"flags"`
	// Levels are tried in order; the first whose conditions all hold decides.
	Levels []ServiceLevel `json:"levels" yaml:"levels"`
}

// ServiceLevel is a level and its conditions.
type ServiceLevel struct {
	Level string `json:"level" yaml:"level"`
	// Flags: the customer bears one of them, not expired.
	Flags []string `json:"flags,omitempty" yaml:"flags,omitempty"`
	// Tiers: the customer holds one of these loyalty tiers, of any programme of the
	// policy.
	Tiers []string `json:"tiers,omitempty" yaml:"tiers,omitempty"`
	// Value: purchases less refunds come to at least this much in the policy's
	// currency; decimal text.
	Value string `json:"value,omitempty" yaml:"value,omitempty"`
	// OpenComplaints and OpenTickets: at least so many are open.
	OpenComplaints int `json:"open_complaints,omitempty" yaml:"open_complaints,omitempty"`
	OpenTickets    int `json:"open_tickets,omitempty" yaml:"open_tickets,omitempty"`
	// Statuses: the customer's satisfaction is one of them.
	Statuses []string `json:"statuses,omitempty" yaml:"statuses,omitempty"`
}

// Statuses are the names of the statuses of satisfaction, the best first.
var Statuses = []string{"delighted", "satisfied", "neutral", "unhappy", "unknown"}

func defaultSatisfaction() Satisfaction {
	return Satisfaction{
		HalfLifeDays: 90,
		Weights:      SignalWeights{NPS: 1, CSAT: 1, CES: 1, Review: 0.5},
		Floor:        0.25,
		ComplaintCap: 40,
		Status:       StatusBounds{Delighted: 85, Satisfied: 65, Neutral: 45},
		CESEasy:      High,
		Hours:        Hours{Zone: "UTC"},
		Clocks:       Clocks{FirstResponse: RoundTheClock, Resolution: RoundTheClock},
		Voice:        Voice{Standard: true},
		Service:      ServiceLevels{Default: "standard"},
	}
}

// complete is s with the default's lists where it has none, and with the standard
// rules of voice written out. It shares no list of the default.
func (s Satisfaction) complete() Satisfaction {
	if s.CSAT == nil {
		s.CSAT = []CSATScale{{Scale: "1-5", Satisfied: []int{4, 5}}}
	}
	if s.Hours.Week == nil {
		s.Hours.Week = []Span{}
	}
	if s.Hours.Holidays == nil {
		s.Hours.Holidays = []string{}
	}
	if s.Targets == nil {
		s.Targets = []Target{
			{Case: "ticket", Priority: "urgent", FirstResponseMinutes: 60, ResolutionMinutes: 24 * 60},
			{Case: "ticket", FirstResponseMinutes: 8 * 60, ResolutionMinutes: 72 * 60},
			{Case: "complaint", FirstResponseMinutes: 24 * 60, ResolutionMinutes: 7 * 24 * 60},
			{Case: "chat", FirstResponseMinutes: 2},
			{Case: "call", FirstResponseMinutes: 1},
		}
	}
	if s.Voice.Rules == nil {
		s.Voice.Rules = []VoiceRule{}
	}
	if s.Voice.Standard {
		s.Voice = s.Voice.expanded()
	}
	if s.Service.Flags == nil {
		s.Service.Flags = []string{"red_list", "watch_list"}
	}
	if s.Service.Levels == nil {
		s.Service.Levels = []ServiceLevel{
			{Level: "restricted", Flags: []string{"red_list"}},
			{Level: "careful", Flags: []string{"watch_list"}},
			{Level: "recovery", OpenComplaints: 1},
			{Level: "priority", Tiers: []string{"gold", "platinum"}},
		}
	}
	return s
}

// expanded is v with the standard rules written out. An own rule with the topic of
// a standard one stands in its place.
func (v Voice) expanded() Voice {
	own := map[string]bool{}
	for _, r := range v.Rules {
		if r.Topic != "" {
			own[r.Topic] = true
		}
	}
	rules := slices.Clone(v.Rules)
	for _, r := range standardVoice() {
		if r.Topic == "" || !own[r.Topic] {
			rules = append(rules, r)
		}
	}
	return Voice{Rules: rules}
}

// ParseScale reads a scale such as "1-5" or "0..10", or a single number n of at
// least 2 for 1 to n.
func ParseScale(s string) (low, high int, ok bool) {
	s = strings.TrimSpace(s)
	from, to, found := strings.Cut(s, "..")
	if !found {
		from, to, found = strings.Cut(s, "-")
	}
	if !found {
		from, to = "1", s
	}
	low, err1 := strconv.Atoi(strings.TrimSpace(from))
	high, err2 := strconv.Atoi(strings.TrimSpace(to))
	if err1 != nil || err2 != nil || low < 0 || low >= high || high > MaxScale {
		return 0, 0, false
	}
	return low, high, true
}

// MaxScale is the highest end of a scale.
const MaxScale = 1000

// ParseClock reads a local time such as 09:30 into minutes of the day.
func ParseClock(s string) (minutes int, ok bool) {
	if len(s) != 5 || s[2] != ':' {
		return 0, false
	}
	h, err1 := strconv.ParseUint(s[:2], 10, 8)
	m, err2 := strconv.ParseUint(s[3:], 10, 8)
	if err1 != nil || err2 != nil || m > 59 || h > 24 || h == 24 && m > 0 {
		return 0, false
	}
	return int(h)*60 + int(m), true
}

// ParseHoliday reads a day: "2026-04-03", or "12-25" with year 0 for every year.
func ParseHoliday(s string) (year int, month time.Month, day int, ok bool) {
	if t, err := time.Parse("2006-01-02", s); err == nil {
		return t.Year(), t.Month(), t.Day(), t.Year() > 0
	}
	// 0004 is a leap year, so that 29 February is a day.
	if t, err := time.Parse("2006-01-02", "0004-"+s); err == nil {
		return 0, t.Month(), t.Day(), true
	}
	return 0, 0, 0, false
}

// maxMinutes bounds a target: ten years.
const maxMinutes = 10 * 366 * 24 * 60

// validate says what is wrong. tiers are those of the policy's loyalty programmes.
func (s Satisfaction) validate(v *validator, tiers []string) {
	at := func(keys ...string) []string { return append([]string{"satisfaction"}, keys...) }
	number := func(x, low, high float64, keys ...string) {
		if !(x >= low && x <= high) { // NaN too
			v.add(at(keys...), "%v is not between %v and %v", x, low, high)
		}
	}
	choice := func(word string, known []string, keys ...string) {
		if !slices.Contains(known, word) {
			v.add(at(keys...), "%q is not known%s", word, oneOf(word, known))
		}
	}
	if s.HalfLifeDays < 1 || s.HalfLifeDays > maxDays {
		v.add(at("half_life_days"), "%d is not between 1 and %d days", s.HalfLifeDays, maxDays)
	}
	w := s.Weights
	number(w.NPS, 0, 1000, "weights", "nps")
	number(w.CSAT, 0, 1000, "weights", "csat")
	number(w.CES, 0, 1000, "weights", "ces")
	number(w.Review, 0, 1000, "weights", "review")
	number(w.Custom, 0, 1000, "weights", "custom")
	number(s.Floor, 1e-6, 1000, "floor")
	number(s.ComplaintCap, 0, 100, "complaint_cap")
	number(s.Status.Delighted, 0, 100, "status", "delighted")
	number(s.Status.Satisfied, 0, 100, "status", "satisfied")
	number(s.Status.Neutral, 0, 100, "status", "neutral")
	if s.Status.Satisfied >= s.Status.Delighted {
		v.add(at("status", "satisfied"), "%v must be less than delighted, which is %v", s.Status.Satisfied, s.Status.Delighted)
	}
	if s.Status.Neutral >= s.Status.Satisfied {
		v.add(at("status", "neutral"), "%v must be less than satisfied, which is %v", s.Status.Neutral, s.Status.Satisfied)
	}
	scales := map[[2]int]bool{}
	for i, c := range s.CSAT {
		n := fmt.Sprint(i)
		low, high, ok := ParseScale(c.Scale)
		switch {
		case !ok:
			v.add(at("csat", n, "scale"), "%q is no scale: write its ends, such as 1-5", c.Scale)
			continue
		case scales[[2]int{low, high}]:
			v.add(at("csat", n, "scale"), "%q is listed already", c.Scale)
		}
		scales[[2]int{low, high}] = true
		for j, score := range c.Satisfied {
			if score < low || score > high {
				v.add(at("csat", n, "satisfied", fmt.Sprint(j)), "%d is not on the scale %s", score, c.Scale)
			}
		}
	}
	choice(s.CESEasy, []string{High, Low}, "ces_easy")
	s.Hours.validate(v, at)
	choice(s.Clocks.FirstResponse, []string{RoundTheClock, Business}, "clocks", "first_response")
	choice(s.Clocks.Resolution, []string{RoundTheClock, Business}, "clocks", "resolution")
	for i, t := range s.Targets {
		n := fmt.Sprint(i)
		choice(t.Case, Cases, "targets", n, "case")
		for _, f := range [...]struct {
			key   string
			value int
		}{{"first_response_minutes", t.FirstResponseMinutes}, {"resolution_minutes", t.ResolutionMinutes}} {
			if f.value < 0 || f.value > maxMinutes {
				v.add(at("targets", n, f.key), "%d is not between 0 (none) and %d minutes", f.value, maxMinutes)
			}
		}
		if t.Priority != strings.ToLower(t.Priority) {
			v.add(at("targets", n, "priority"), "%q must be in lower case", t.Priority)
		}
	}
	for i, r := range s.Voice.Rules {
		r.validate(v, func(keys ...string) []string {
			return at(append([]string{"voice", "rules", fmt.Sprint(i)}, keys...)...)
		})
	}
	s.Service.validate(v, tiers, func(keys ...string) []string { return at(append([]string{"service"}, keys...)...) })
}

func (h Hours) validate(v *validator, at func(...string) []string) {
	if _, err := time.LoadLocation(h.Zone); err != nil || h.Zone == "" || h.Zone == "Local" {
		v.add(at("hours", "zone"), "%q is no time zone: write one such as Europe/Berlin", h.Zone)
	}
	for i, s := range h.Week {
		n := fmt.Sprint(i)
		if len(s.Days) == 0 {
			v.add(at("hours", "week", n, "days"), "is missing%s", oneOf("", Weekdays))
		}
		for j, d := range s.Days {
			if !slices.Contains(Weekdays, d) {
				v.add(at("hours", "week", n, "days", fmt.Sprint(j)), "%q is no day of the week%s", d, oneOf(d, Weekdays))
			}
		}
		from, okFrom := ParseClock(s.From)
		to, okTo := ParseClock(s.To)
		if !okFrom {
			v.add(at("hours", "week", n, "from"), "%q is no time of the day: write one such as 09:00", s.From)
		}
		if !okTo {
			v.add(at("hours", "week", n, "to"), "%q is no time of the day: write one such as 17:30", s.To)
		}
		if okFrom && okTo && to <= from {
			v.add(at("hours", "week", n, "to"), "%s must be later than from, which is %s", s.To, s.From)
		}
	}
	for i, day := range h.Holidays {
		if _, _, _, ok := ParseHoliday(day); !ok {
			v.add(at("hours", "holidays", fmt.Sprint(i)), "%q is no day: write one such as 2026-04-03, or 12-25 for every year", day)
		}
	}
}

func (r VoiceRule) validate(v *validator, at func(...string) []string) {
	if r.Topic == "" && r.Need == "" && r.Priority == "" {
		v.add(at(), "gives nothing: name a topic, a need or a priority")
	}
	if len(r.Words) == 0 && len(r.Patterns) == 0 {
		v.add(at(), "fits nothing: give it words or patterns")
	}
	if r.Need != "" && !slices.Contains(Needs, r.Need) {
		v.add(at("need"), "%q is no need%s", r.Need, oneOf(r.Need, Needs))
	}
	if r.Priority != "" && !slices.Contains(Priorities, r.Priority) {
		v.add(at("priority"), "%q is no priority%s", r.Priority, oneOf(r.Priority, Priorities))
	}
	for _, list := range [...]struct {
		key   string
		words []string
	}{{"words", r.Words}, {"unless", r.Unless}} {
		for i, w := range list.words {
			if strings.Trim(w, "* \t\n") == "" {
				v.add(at(list.key, fmt.Sprint(i)), "is empty, which stands everywhere")
			}
		}
	}
	for i, p := range r.Patterns {
		if _, err := regexp.Compile(p); err != nil {
			v.add(at("patterns", fmt.Sprint(i)), "%v", err)
		} else if regexp.MustCompile(p).MatchString("") {
			v.add(at("patterns", fmt.Sprint(i)), "%q fits every comment", p)
		}
	}
}

func (s ServiceLevels) validate(v *validator, tiers []string, at func(...string) []string) {
	if strings.TrimSpace(s.Default) == "" {
		v.add(at("default"), "is missing: it is the level of those that no other fits")
	}
	flags := s.Flags
	if flags == nil {
		flags = Satisfaction{}.complete().Service.Flags
	}
	for i, f := range s.Flags {
		if strings.TrimSpace(f) == "" {
			v.add(at("flags", fmt.Sprint(i)), "is empty")
		}
	}
	for i, l := range s.Levels {
		n := fmt.Sprint(i)
		if strings.TrimSpace(l.Level) == "" {
			v.add(at("levels", n, "level"), "is missing")
		}
		if len(l.Flags) == 0 && len(l.Tiers) == 0 && l.Value == "" && l.OpenComplaints == 0 && l.OpenTickets == 0 && len(l.Statuses) == 0 {
			v.add(at("levels", n), "has no condition: make it the default")
		}
		if _, ok := domain.ParseDecimal(l.Value); l.Value != "" && !ok {
			v.add(at("levels", n, "value"), "%q is no amount: write one such as 500", l.Value)
		}
		for j, f := range l.Flags {
			if !slices.Contains(flags, f) {
				v.add(at("levels", n, "flags", fmt.Sprint(j)), "%q is no flag of service.flags", f)
			}
		}
		for j, t := range l.Tiers {
			switch {
			case slices.Contains(tiers, t):
			case len(tiers) == 0:
				v.add(at("levels", n, "tiers", fmt.Sprint(j)), "%q is no tier: the policy has no loyalty programme", t)
			default:
				v.add(at("levels", n, "tiers", fmt.Sprint(j)), "%q is no tier of a loyalty programme of this policy%s", t, oneOf(t, tiers))
			}
		}
		for j, st := range l.Statuses {
			if !slices.Contains(Statuses, st) {
				v.add(at("levels", n, "statuses", fmt.Sprint(j)), "%q is no status%s", st, oneOf(st, Statuses))
			}
		}
		for _, f := range [...]struct {
			key   string
			value int
		}{{"open_complaints", l.OpenComplaints}, {"open_tickets", l.OpenTickets}} {
			if f.value < 0 || f.value > math.MaxInt32 {
				v.add(at("levels", n, f.key), "%d is below zero", f.value)
			}
		}
	}
}
