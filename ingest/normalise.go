package ingest

import (
	"fmt"
	"unicode/utf8"

	"sojourn/domain"
)

// Code is a reason for which a message goes to the rejects or a call is refused.
// Codes are stable; they are the labels of the metrics.
type Code string

// The reasons for which a message goes to the rejects.
const (
	CodeNotAnObject   Code = "not_an_object"
	CodeInvalidUTF8   Code = "invalid_utf8"
	CodeTooDeep       Code = "too_deep"
	CodeTooLarge      Code = "too_large"
	CodeBatchTooLong  Code = "batch_too_long"
	CodeContextTooBig Code = "context_too_large"
	CodeUnknownType   Code = "unknown_type"
	CodeNoEventName   Code = "no_event_name"
	CodeNoID          Code = "no_id"
	CodeBadTime       Code = "bad_time"
	CodeContentDiffer Code = "content_differs"
	CodeInvalidJSON   Code = "invalid_json" // of what did not come over HTTP
	CodeNoMapping     Code = "no_mapping"   // the policy has none for what it was to be made of
)

// RejectCodes are all reasons for which a message goes to the rejects.
var RejectCodes = []Code{
	CodeNotAnObject, CodeInvalidUTF8, CodeTooDeep, CodeTooLarge, CodeBatchTooLong, CodeContextTooBig,
	CodeUnknownType, CodeNoEventName, CodeNoID, CodeBadTime, CodeContentDiffer,
	CodeInvalidJSON, CodeNoMapping,
}

// The limits of what becomes a touchpoint.
const (
	// MaxMessage is the size of a message in bytes, as sent, after decompression.
	MaxMessage = 32_768
	// MaxMessages is the number of messages a Segment batch may hold; those behind
	// go to the rejects.
	MaxMessages = 2_500
)

// fault is why a message cannot become a touchpoint. Reasons name fields and
// never their values, which may be personal.
type fault struct {
	code   Code
	reason string
}

// envelope is what a message does not carry itself.
type envelope struct {
	source       string
	receivedAt   domain.Millis
	sentAt       Scalar
	context      []byte
	integrations []byte

	// What readSentAt found: the batch's time of sending, where there is one.
	sent sentTime
}

type sentTime struct {
	at   domain.Millis
	text string
	set  bool
	bad  bool
}

func readSentTime(v Scalar) (t sentTime) {
	if len(v) == 0 || v[0] == 'n' {
		return t
	}
	t.set = true
	t.at, t.text, t.bad = readTime(v)
	return t
}

// readSentAt reads the time of sending once for all messages of a batch.
func (e *envelope) readSentAt() { e.sent = readSentTime(e.sentAt) }

// kindOf is the type of the call, 0 where the message does not say a known one.
func (m *Message) kindOf() domain.Kind {
	if m.Kind != 0 {
		return m.Kind
	}
	s, ok := m.text(m.kind)
	if !ok {
		return 0
	}
	k, _ := domain.ParseKind(s)
	return k
}

// ownID is the message's own id, empty where it has none that can be used.
func (m *Message) ownID() string {
	s, _ := m.text(m.messageID)
	if s == "" {
		return m.DefaultID
	}
	return s
}

// header reads a message into the header of its touchpoint, all but its message
// id; nobody says which identifiers name nobody. The strings of h may share the message's bytes.
func (m *Message) header(env *envelope, h *domain.Header, nobody func(string) bool) *fault {
	if m.fault != nil {
		return m.fault
	}
	if !m.object {
		return &fault{CodeNotAnObject, "the message is no JSON object"}
	}
	if len(m.Raw) > MaxMessage {
		return &fault{CodeTooLarge, fmt.Sprintf("the message has %d bytes, more than %d", len(m.Raw), MaxMessage)}
	}
	if m.deep {
		return &fault{CodeTooDeep, fmt.Sprintf("the message nests deeper than %d levels", MaxDepth)}
	}
	if !utf8.Valid(m.Raw) {
		return &fault{CodeInvalidUTF8, "the message is not valid UTF-8"}
	}
	if h.Kind = m.kindOf(); h.Kind == 0 {
		if m.isString(m.kind) {
			return &fault{CodeUnknownType, `the message's "type" is not one of track, identify, page, screen, group and alias`}
		}
		return &fault{CodeUnknownType, `the message has no "type"`}
	}
	if f := m.ids(h, nobody); f != nil {
		return f
	}
	if f := m.eventName(h); f != nil {
		return f
	}
	h.Source = env.source
	h.ReceivedAt = m.receivedAt(env)
	h.BatchContext = alias(env.context)
	h.BatchIntegrations = alias(env.integrations)
	return m.times(env, h)
}

func (m *Message) ids(h *domain.Header, nobody func(string) bool) *fault {
	read := func(f span) (id string, ok bool) {
		if id, ok = m.text(f); nobody(id) {
			id = ""
		}
		return id, ok
	}
	var ok [2]bool
	h.UserID, ok[0] = read(m.userID)
	h.AnonymousID, ok[1] = read(m.anonymousID)
	h.PreviousID = ""
	if h.Kind == domain.Alias {
		h.PreviousID, _ = read(m.previousID)
	}
	if h.UserID != "" || h.AnonymousID != "" {
		return nil
	}
	for i, field := range [...]string{"userId", "anonymousId"} {
		if !ok[i] {
			return &fault{CodeNoID, fmt.Sprintf("the message's %q is neither a string nor a number, and it has no other id", field)}
		}
	}
	if m.isSet(m.userID) || m.isSet(m.anonymousID) {
		return &fault{CodeNoID, "the message's ids are no identity (empty, null, undefined, anonymous, -1, only zeros and dashes, or among the policy's identity.nobody)"}
	}
	return &fault{CodeNoID, `the message has neither a "userId" nor an "anonymousId"`}
}

func (m *Message) eventName(h *domain.Header) *fault {
	h.Name = ""
	switch h.Kind {
	case domain.Track:
		name, _ := m.text(m.event)
		if name == "" {
			return &fault{CodeNoEventName, `the track message has no "event" that is a name`}
		}
		h.Name = name
	case domain.Page, domain.Screen:
		h.Name, _ = m.text(m.name)
	}
	return nil
}

// times sets when the message happened. A sender whose clock is wrong says the
// same wrong time twice, so where there are both, only the time between counts.
func (m *Message) times(env *envelope, h *domain.Header) *fault {
	sent := &env.sent
	if m.isSet(m.sentAt) {
		own := readSentTime(m.Raw[m.sentAt.start:m.sentAt.end])
		sent = &own
	}
	if sent.bad {
		return &fault{CodeBadTime, `"sentAt" is no time that can be read (ISO 8601)`}
	}
	h.SentAt = sent.text
	h.OccurredAt = m.receivedAt(env)
	if m.isSet(m.timestamp) {
		t, _, bad := readTime(m.Raw[m.timestamp.start:m.timestamp.end])
		if bad {
			return &fault{CodeBadTime, `"timestamp" is no time that can be read (ISO 8601)`}
		}
		if sent.set {
			t += m.receivedAt(env) - sent.at
		}
		h.OccurredAt = t
	}
	h.Flags = 0
	if h.OccurredAt > m.receivedAt(env) {
		h.OccurredAt = m.receivedAt(env)
		h.Flags |= domain.FlagFuture
	}
	if h.OccurredAt < domain.MinTime || h.OccurredAt > domain.MaxTime {
		return &fault{CodeBadTime, fmt.Sprintf("the message's time is before %s or after %s", domain.MinTime, domain.MaxTime)}
	}
	return nil
}

func readTime(v Scalar) (t domain.Millis, text string, bad bool) {
	if v[0] != '"' {
		return 0, "", true
	}
	text, _ = v.Text()
	t, ok := parseTime(text)
	return t, text, !ok
}
