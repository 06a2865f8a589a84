package satisfaction

import (
	"bytes"
	"slices"
	"strings"
	"unicode/utf8"

	"sojourn/domain"
	"sojourn/domain/policy"
)

// Kind is what a score is of. The numbers are part of the format of Facts.
type Kind uint8

// The kinds; KindNone is that of an event without one.
const (
	KindNone Kind = iota
	NPS
	CSAT
	CES
	Custom
	Review
	kinds // how many there are
)

var kindNames = [...]string{"", "nps", "csat", "ces", "custom", "review"}

// String is the kind as tables have it.
func (k Kind) String() string {
	if k < kinds {
		return kindNames[k]
	}
	return ""
}

// ParseKind reads what String wrote, in any case; Custom where the word is
// another.
func ParseKind(s string) Kind {
	s = strings.ToLower(strings.TrimSpace(s))
	for k := NPS; k < kinds; k++ {
		if kindNames[k] == s {
			return k
		}
	}
	return Custom
}

// ScoreState says what became of a score. The numbers are part of the format of
// Facts.
type ScoreState uint8

// The states of a score.
const (
	ScoreNone ScoreState = iota
	ScoreRead
	ScoreUnreadable // there is one, but no number
)

// Scale is the lowest and the highest score that could be given. Without one in
// the message both are zero, and the kind's usual scale counts.
type Scale struct{ Low, High int }

// badScale is that of a message whose scale cannot be read.
var badScale = Scale{Low: 1, High: 0}

// By is who did something. The numbers are part of the format of Facts.
type By uint8

// Who can act; ByOther is a machine, or not said.
const (
	ByOther By = iota
	ByAgent
	ByCustomer
)

// Event is what a message says for satisfaction.
type Event struct {
	Act   policy.Act
	Kind  Kind // of a survey or a review
	Score domain.Decimal
	State ScoreState
	Scale Scale
	// Question and Comment are as the message has them: personal data. Facts keep
	// neither.
	Question, Comment string
	// Survey and Campaign say which survey was sent and answered.
	Survey, Campaign string
	// Case is the id of the ticket, complaint, chat or call; empty where missing.
	Case string
	By   By
	// Waiting is for whom the case waits from now on; ByOther where the message
	// does not say.
	Waiting  By
	Priority string // of the case, in lower case
	Product  string // that was reviewed
	// Channel is the one that the message names, of policy.Channels; empty where it
	// names none, and then the policy's counts.
	Channel string
}

// maxWord bounds words that are kept in Facts, in bytes.
const maxWord = 64

// Read reads an event from a message's properties. prop returns the raw JSON value
// of one, or nil where the message has none. docs/events.md names the properties.
// For an empty act Read returns the zero Event.
func Read(act policy.Act, prop func(key string) []byte) Event {
	if act == "" {
		return Event{}
	}
	e := Event{Act: act}
	channel := strings.ToLower(strings.TrimSpace(text(prop("channel"))))
	if channel == "e-mail" {
		channel = policy.Email
	}
	if slices.Contains(policy.Channels, channel) {
		e.Channel = channel
	}
	switch act {
	case policy.ActSurveySent, policy.ActSurveyAnswered, policy.ActNPSAnswered, policy.ActCSATAnswered, policy.ActCESAnswered:
		e.readSurvey(prop)
	case policy.ActProductReviewed:
		e.Kind = Review
		e.Score, e.State, e.Scale = readRating(first(prop, "rating", "score"))
		if s := readScale(prop("scale")); s != (Scale{}) {
			e.Scale = s
		}
		e.Comment = text(first(prop, "review_body", "comment"))
		e.Product = text(prop("product_id"))
		e.Campaign = text(prop("campaign"))
	case policy.ActTicketOpened, policy.ActTicketReplied, policy.ActTicketEscalated,
		policy.ActTicketResolved, policy.ActTicketClosed, policy.ActTicketReopened:
		e.Case = text(prop("ticket_id"))
		e.readCase(prop)
	case policy.ActComplaintOpened, policy.ActComplaintUpdated, policy.ActComplaintResolved:
		e.Case = text(prop("complaint_id"))
		e.readCase(prop)
	case policy.ActChatStarted, policy.ActChatMessageSent, policy.ActChatMessageReceived, policy.ActChatEnded:
		e.Case = text(prop("conversation_id"))
		e.readCase(prop)
		e.Comment = text(prop("message_body"))
	case policy.ActCallStarted, policy.ActCallAnswered, policy.ActCallMissed, policy.ActCallEnded:
		e.Case = text(prop("call_id"))
		e.readCase(prop)
	}
	return e
}

func (e *Event) readSurvey(prop func(string) []byte) {
	switch e.Act {
	case policy.ActNPSAnswered:
		e.Kind = NPS
	case policy.ActCSATAnswered:
		e.Kind = CSAT
	case policy.ActCESAnswered:
		e.Kind = CES
	default:
		if word := text(prop("kind")); word != "" {
			e.Kind = ParseKind(word)
		} else if e.Act != policy.ActSurveySent {
			e.Kind = Custom
		}
	}
	e.Survey, e.Campaign = text(prop("survey_id")), text(prop("campaign"))
	e.Question, e.Comment = text(prop("question")), text(prop("comment"))
	if e.Act != policy.ActSurveySent {
		if raw := first(prop, "score"); raw != nil {
			e.State = ScoreUnreadable
			if d, ok := domain.ReadDecimal(raw); ok {
				e.Score, e.State = d, ScoreRead
			}
		}
		e.Scale = readScale(prop("scale"))
	}
}

func (e *Event) readCase(prop func(string) []byte) {
	e.Comment = text(first(prop, "comment", "message", "subject"))
	e.Priority = cut(strings.ToLower(strings.TrimSpace(text(prop("priority")))), maxWord)
	switch strings.ToLower(text(prop("by"))) {
	case "agent":
		e.By = ByAgent
	case "customer":
		e.By = ByCustomer
	case "":
		// Who replies to a ticket and does not say is an agent, and so is who
		// writes to a customer in a chat.
		if e.Act == policy.ActTicketReplied || e.Act == policy.ActChatMessageReceived || e.Act == policy.ActCallAnswered {
			e.By = ByAgent
		}
	}
	switch strings.ToLower(text(prop("waiting_for"))) {
	case "agent":
		e.Waiting = ByAgent
	case "customer":
		e.Waiting = ByCustomer
	}
}

// first is the first of the properties that is there and not null.
func first(prop func(string) []byte, keys ...string) []byte {
	for _, key := range keys {
		if raw := bytes.TrimSpace(prop(key)); len(raw) > 0 && string(raw) != "null" {
			return raw
		}
	}
	return nil
}

// text is a JSON string, or a number as its own text; empty for anything else.
func text(raw []byte) string {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 {
		return ""
	}
	if c := raw[0]; c == '-' || c >= '0' && c <= '9' {
		return string(raw)
	}
	s, _ := domain.JSONString(raw)
	return s
}

func readScale(raw []byte) Scale {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 || string(raw) == "null" {
		return Scale{}
	}
	if low, high, ok := policy.ParseScale(text(raw)); ok {
		return Scale{low, high}
	}
	return badScale
}

// readRating reads a rating, which arrives as text: "4", "4.5", "4,5", "4/5",
// "4 out of 5", "4 stars", "★★★★☆".
func readRating(raw []byte) (domain.Decimal, ScoreState, Scale) {
	if raw == nil {
		return 0, ScoreNone, Scale{}
	}
	s := strings.ToLower(strings.TrimSpace(text(raw)))
	if full := strings.Count(s, "★"); full > 0 {
		empty := strings.Count(s, "☆")
		if utf8.RuneCountInString(s) != full+empty {
			return 0, ScoreUnreadable, Scale{}
		}
		d, _ := domain.ParseDecimal("1")
		return d * domain.Decimal(full), ScoreRead, Scale{}
	}
	for _, unit := range [...]string{"stars", "star", "points", "point", "星", "分"} {
		s = strings.TrimSpace(strings.TrimSuffix(s, unit))
	}
	var scale Scale
	for _, sep := range [...]string{"/", "out of", " of "} {
		if value, of, ok := strings.Cut(s, sep); ok {
			s = value
			if scale = badScale; strings.TrimSpace(of) != "" {
				if low, high, ok := policy.ParseScale(of); ok {
					scale = Scale{low, high}
				}
			}
			break
		}
	}
	if strings.Count(s, ",") == 1 && !strings.Contains(s, ".") {
		s = strings.Replace(s, ",", ".", 1)
	}
	d, ok := domain.ParseDecimal(s)
	if !ok {
		return 0, ScoreUnreadable, Scale{}
	}
	return d, ScoreRead, scale
}

// cut cuts s to at most n bytes without breaking a rune.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return strings.Clone(s[:n])
}
