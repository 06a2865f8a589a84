package ingest

import (
	"unicode/utf8"
	"unsafe"

	"sojourn/domain"
	"sojourn/ingest/internal/jsonread"
)

// span is a part of a message's bytes; the zero span stands for what is missing.
type span struct{ start, end uint32 }

// Message is one message of a call: its bytes as sent and where in them the
// fields stand that every touchpoint has. It reads nothing more than where they
// stand; what they mean is decided when it is ingested.
//
// The message shares the bytes it was parsed from, which must not change while
// it is in use.
type Message struct {
	// Raw is the message as it was sent. Of a message that is no object it is
	// whatever stood there.
	Raw []byte
	// Kind is what the endpoint said the message is; zero leaves it to its "type".
	Kind domain.Kind
	// DefaultID is the message id where the message carries none, as an intake
	// may know a better one than the random one given otherwise.
	DefaultID string
	// ReceivedAt is when the message reached us; zero takes that of its batch.
	ReceivedAt domain.Millis
	// Origin tells, where the message was made of something else, of what: the reject
	// then keeps that, and a replay makes the message anew. from is what the intake
	// needs for it, as JSON.
	Origin func() (raw, from []byte)
	// Call is the call that the message came by, where that is not the batch it is
	// ingested with; its messages are not looked at.
	Call *Batch

	object bool
	deep   bool
	fault  *fault // what is wrong with it before it is looked at

	kind, messageID, userID, anonymousID, previousID span
	event, name, timestamp, sentAt, writeKey         span
}

// Unusable is a message that is a reject, for a reason that its sender knows
// before the service looks at it. Raw is kept as it stands.
func Unusable(raw []byte, code Code, reason string) Message {
	return Message{Raw: raw, fault: &fault{code, reason}}
}

// Reject makes a message a reject, for a reason that whoever hands it on knows.
func (m *Message) Reject(code Code, reason string) { m.fault = &fault{code, reason} }

// MaxDepth is how deep objects and arrays may stand in each other in a message
// that becomes a touchpoint, the message itself counted.
const MaxDepth = 256

// parse reads the next JSON value into m. Of names that occur twice the last one
// counts. The error is jsonread.ErrSyntax where the value is not valid JSON; a
// value that is no object is none.
func (m *Message) parse(d *jsonread.Decoder) error {
	*m = Message{}
	start, object, err := d.Enter('{')
	if err != nil {
		return err
	}
	if !object {
		m.Raw, err = d.Value()
		return err
	}
	m.object = true
	for {
		if end, err := d.Leave(); end || err != nil {
			m.Raw = d.Since(start)
			m.deep = jsonread.Deeper(m.Raw, MaxDepth)
			return err
		}
		name, err := d.Name()
		if err != nil {
			return err
		}
		f := m.field(name)
		v, err := d.Value()
		if err != nil {
			return err
		}
		if f != nil {
			end := d.Offset() - start
			*f = span{uint32(end - len(v)), uint32(end)}
		}
	}
}

func (m *Message) field(name []byte) *span {
	switch string(name) {
	case "type":
		return &m.kind
	case "messageId":
		return &m.messageID
	case "userId":
		return &m.userID
	case "anonymousId":
		return &m.anonymousID
	case "previousId":
		return &m.previousID
	case "event":
		return &m.event
	case "name":
		return &m.name
	case "timestamp":
		return &m.timestamp
	case "sentAt":
		return &m.sentAt
	case "writeKey":
		return &m.writeKey
	}
	return nil
}

// ParseArray reads the array of messages that comes next and appends them to
// dst. The error says that the text is not valid JSON; isArray is false where it
// is JSON but no array.
func ParseArray(dst []Message, d *jsonread.Decoder) (msgs []Message, isArray bool, err error) {
	_, isArray, err = d.Enter('[')
	if err != nil {
		return dst, false, err
	}
	if !isArray {
		_, err = d.Value()
		return dst, false, err
	}
	for {
		if end, err := d.Leave(); end || err != nil {
			return dst, true, err
		}
		if len(dst) < cap(dst) {
			dst = dst[:len(dst)+1]
		} else {
			dst = append(dst, Message{})
		}
		if err := dst[len(dst)-1].parse(d); err != nil {
			return dst, true, err
		}
	}
}

// ParseMessage reads a text that is one message. The error says that it is not
// valid JSON; a text that is JSON but no object is a message too, one that ends
// as a reject.
func ParseMessage(text []byte) (Message, error) {
	var m Message
	if err := jsonread.Read(text, m.parse); err != nil {
		return Message{}, err
	}
	return m, nil
}

// WriteKey is the "writeKey" of the message.
func (m *Message) WriteKey() Scalar {
	if m.writeKey.end == 0 {
		return nil
	}
	return m.Raw[m.writeKey.start:m.writeKey.end]
}

// text reads a field that is a string or a number, a number in its own digits.
// ok is false where the field holds something else; a missing field and null
// are "" and ok. The string may share the message's bytes.
func (m *Message) text(f span) (s string, ok bool) {
	if f.end == 0 {
		return "", true
	}
	return scalarText(m.Raw[f.start:f.end])
}

// scalarText reads a JSON string or number as text; see Message.text.
func scalarText(v []byte) (s string, ok bool) {
	switch c := v[0]; {
	case c == '"':
		inner := v[1 : len(v)-1]
		for _, c := range inner {
			if c == '\\' || c >= utf8.RuneSelf {
				// Not only escapes: what is no UTF-8 is made so.
				return alias(jsonread.Unquote(v)), true
			}
		}
		return alias(inner), true
	case c == '-' || c >= '0' && c <= '9':
		return alias(v), true
	case c == 'n':
		return "", true
	}
	return "", false
}

func (m *Message) receivedAt(env *envelope) domain.Millis {
	if m.ReceivedAt != 0 {
		return m.ReceivedAt
	}
	return env.receivedAt
}

// isString reports whether a field is a JSON string.
func (m *Message) isString(f span) bool { return f.end != 0 && m.Raw[f.start] == '"' }

// isSet reports whether a field is there and not null.
func (m *Message) isSet(f span) bool { return f.end != 0 && m.Raw[f.start] != 'n' }

// alias is b as a string that shares its bytes. It is used for what lives no
// longer than the call whose body b is part of, where a copy of every
// identifier would be most of what ingest allocates.
func alias(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
