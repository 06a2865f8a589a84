package kafkasource

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/tidwall/gjson"

	"sojourn/domain"
	"sojourn/domain/policy"
	"sojourn/ingest"
)

// Mapping is what makes the messages of a topic: a mapping of the policy in force, or
// one that stands in the configuration itself.
type Mapping struct {
	// Name is that of the policy's; empty where it is Own.
	Name string               `yaml:"-"`
	Own  policy.RecordMapping `yaml:",inline"`
}

// UnmarshalYAML reads a name, or the mapping itself.
func (m *Mapping) UnmarshalYAML(decode func(any) error) error {
	if decode(&m.Name) == nil {
		return nil
	}
	return decode(&m.Own)
}

func (m *Mapping) problems(format Format) (ps []string) {
	if m.Name != "" {
		if !policy.ValidMappingName(m.Name) {
			ps = append(ps, fmt.Sprintf("mapping: %q is no name of a mapping: use lower case letters, digits, _ and -, a letter first", m.Name))
		}
		return ps
	}
	found := m.Own.Problems()
	if format == JSON {
		found = append(found, m.Own.JSONProblems()...)
	}
	for _, p := range found {
		ps = append(ps, "mapping."+p.Error())
	}
	return ps
}

// field is a policy.RecordField ready to write.
type field struct {
	name     []byte // as JSON, with the colon
	path     policy.RecordPath
	constant []byte
	kind     string
}

// mapper makes messages of the records of a topic. Its methods may be called
// concurrently.
type mapper struct {
	topic                     string
	kind                      domain.Kind
	user, anonymous, previous policy.RecordPath
	at                        policy.RecordPath
	format                    string
	event                     *field
	identity                  []policy.RecordPath
	facts                     []field // properties or traits
	all                       bool    // the whole value is the facts
	context                   []field
}

func newMapper(m *policy.RecordMapping, topic string, format Format) (*mapper, error) {
	out := &mapper{topic: topic, kind: m.Kind(), format: m.Time.Format}
	var err error
	paths := func(s string) policy.RecordPath {
		p, parseErr := policy.ParseRecordPath(s)
		if parseErr != nil {
			err = parseErr
		}
		return p
	}
	one := func(name string, f policy.RecordField) field {
		made := field{name: append(quote(name), ':'), path: paths(f.Field), kind: f.Kind}
		if f.Value != nil {
			var constantErr error
			if made.constant, constantErr = json.Marshal(f.Value); constantErr != nil {
				err = fmt.Errorf("%s: %w", name, constantErr)
			}
		}
		return made
	}
	out.user, out.anonymous, out.previous, out.at = paths(m.User), paths(m.Anonymous), paths(m.Previous), paths(m.Time.Field)
	for _, p := range m.Identity {
		out.identity = append(out.identity, paths(p))
	}
	name := "name"
	if out.kind == domain.Track {
		name = "event"
	}
	switch {
	case m.Event.Field != "" || m.Event.Value != nil:
		f := one(name, m.Event)
		f.kind = policy.StringField
		out.event = &f
	case format == CloudEvents && out.kind == domain.Track:
		out.event = &field{name: append(quote(name), ':'), path: policy.RecordPath{Set: true, Root: policy.InAttribute, Rest: "type"}}
	}
	facts := m.Properties
	if out.traits() {
		facts = m.Traits
	}
	out.all = len(facts) == 0
	for _, n := range slices.Sorted(maps.Keys(facts)) {
		out.facts = append(out.facts, one(n, facts[n]))
	}
	for _, n := range slices.Sorted(maps.Keys(m.Context)) {
		out.context = append(out.context, one(n, m.Context[n]))
	}
	return out, err
}

func (m *mapper) traits() bool { return m.kind == domain.Identify || m.kind == domain.Group }

// input is a record as a mapping sees it.
type input struct {
	record     *record
	topic      string
	value      []byte // valid JSON
	attributes map[string]string
}

// at finds what a path leads to, as JSON; nil where there is nothing, or null.
func (in *input) at(p policy.RecordPath) []byte {
	text := func(s string, ok bool) []byte {
		if !ok {
			return nil
		}
		return quote(s)
	}
	within := func(doc []byte, path string) []byte {
		r := gjson.GetBytes(doc, path)
		if !r.Exists() || r.Type == gjson.Null {
			return nil
		}
		return []byte(r.Raw)
	}
	if !p.Set {
		return nil
	}
	switch p.Root {
	case policy.InKey:
		if p.Rest == "" {
			return text(string(in.record.key), in.record.key != nil)
		}
		if !gjson.ValidBytes(in.record.key) {
			return nil
		}
		return within(in.record.key, p.Rest)
	case policy.InHeader:
		for _, h := range slices.Backward(in.record.headers) {
			if h.Key == p.Rest {
				return text(string(h.Value), h.Value != nil)
			}
		}
		return nil
	case policy.InAttribute:
		s, ok := in.attributes[p.Rest]
		return text(s, ok)
	case policy.TheTimestamp:
		return text(in.record.time.UTC().Format(timeLayout), !in.record.time.IsZero())
	case policy.TheTopic:
		return text(in.topic, true)
	}
	return within(in.value, p.Rest)
}

const timeLayout = "2006-01-02T15:04:05.000Z"

// json makes a message of a record whose value is any JSON; null for none.
func (m *mapper) json(r *record) (ingest.Message, string) {
	value := bytes.Trim(r.value, space)
	if r.value == nil {
		value = []byte("null")
	}
	if !valid(value) {
		return ingest.Message{}, "the value is not valid JSON"
	}
	return m.message(&input{record: r, topic: m.topic, value: value}, "")
}

// message writes the message that the mapping makes. id is its id where the
// value has no messageId of its own; empty leaves it to the mapping.
func (m *mapper) message(in *input, id string) (ingest.Message, string) {
	b := append(make([]byte, 0, len(in.value)+256), `{"type":"`...)
	b = append(append(b, m.kind.String()...), '"')
	if own := scalar(in.at(policy.RecordPath{Set: true, Rest: "messageId"})); own != "" {
		id = own
	} else if id == "" {
		id = m.id(in)
	}
	if id != "" {
		b = append(append(b, `,"messageId":`...), quote(id)...)
	}
	user, anonymous := in.at(m.user), in.at(m.anonymous)
	if in.attributes != nil && !m.user.Set && !m.anonymous.Set {
		user, anonymous = in.person()
	}
	for _, v := range []struct {
		name  string
		value []byte
	}{{`,"userId":`, user}, {`,"anonymousId":`, anonymous}, {`,"previousId":`, in.at(m.previous)}, {`,"timestamp":`, m.time(in)}} {
		if v.value != nil {
			b = append(append(b, v.name...), v.value...)
		}
	}
	if m.event != nil {
		b = m.event.append(append(b, ','), in)
	}
	name := `,"properties":`
	if m.traits() {
		name = `,"traits":`
	}
	b = append(b, name...)
	switch {
	case !m.all:
		b = object(b, m.facts, in)
	case in.value[0] == '{':
		b = append(b, in.value...)
	case string(in.value) == "null":
		b = append(b, "{}"...)
	default:
		b = append(append(append(b, `{"value":`...), in.value...), '}')
	}
	switch {
	case len(m.context) > 0:
		b = object(append(b, `,"context":`...), m.context, in)
	case in.attributes != nil:
		b = in.appendAttributes(append(b, `,"context":{"cloudevent":`...))
		b = append(b, '}')
	}
	msg, err := ingest.ParseMessage(append(b, '}'))
	if err != nil {
		return ingest.Message{}, "the value is not valid JSON"
	}
	return msg, ""
}

// id is the message id that the mapping names, empty where there is none.
func (m *mapper) id(in *input) string {
	parts := make([]string, 0, len(m.identity))
	some := false
	for _, p := range m.identity {
		s := scalar(in.at(p))
		some = some || s != ""
		parts = append(parts, s)
	}
	if !some {
		return ""
	}
	return join(parts)
}

// join makes one id of several, so that no two lists give the same.
func join(parts []string) string {
	if len(parts) == 1 {
		return parts[0]
	}
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	return strings.Join(parts, "/")
}

// time is the message's time as JSON. What cannot be read stays as it is, for
// the service to reject; without a path it is the CloudEvent's or the record's.
func (m *mapper) time(in *input) []byte {
	if !m.at.Set {
		if t, ok := in.attributes["time"]; ok {
			return quote(t)
		}
		return in.at(policy.RecordPath{Set: true, Root: policy.TheTimestamp})
	}
	found := in.at(m.at)
	if found == nil || m.format == "" || m.format == policy.RFC3339 {
		return found
	}
	text := scalar(found)
	unit := float64(0)
	switch m.format {
	case policy.Unix:
		unit = 1000
	case policy.UnixMillis:
		unit = 1
	default:
		t, err := time.Parse(m.format, text)
		if err != nil {
			return found
		}
		return quote(t.UTC().Format(timeLayout))
	}
	n, err := strconv.ParseFloat(text, 64)
	// Beyond this a millisecond is no whole number, and no time either.
	if n *= unit; err != nil || !(n > -1e15 && n < 1e15) {
		return found
	}
	return quote(time.UnixMilli(int64(n)).UTC().Format(timeLayout))
}

// append writes a field with its name. What is missing is null.
func (f *field) append(b []byte, in *input) []byte {
	b = append(b, f.name...)
	if f.constant != nil {
		return append(b, f.constant...)
	}
	v := in.at(f.path)
	switch {
	case v == nil:
		return append(b, "null"...)
	case f.kind == policy.StringField && v[0] != '"':
		return append(b, quote(string(v))...)
	case f.kind == policy.NumberField && v[0] == '"':
		if s := scalar(v); gjson.Valid(s) && gjson.Parse(s).Type == gjson.Number {
			return append(b, s...)
		}
	}
	return append(b, v...)
}

func object(b []byte, fields []field, in *input) []byte {
	b = append(b, '{')
	for i := range fields {
		if i > 0 {
			b = append(b, ',')
		}
		b = fields[i].append(b, in)
	}
	return append(b, '}')
}

// scalar is the text of a JSON string or number, empty for everything else.
func scalar(v []byte) string {
	s, _ := ingest.Scalar(v).Text()
	return s
}

// quote is s as JSON. What is no UTF-8 becomes base64, so that no two texts give
// the same.
func quote(s string) []byte {
	if !utf8.ValidString(s) {
		s = base64.StdEncoding.EncodeToString([]byte(s))
	}
	// It is valid, so there is no error.
	b, _ := jsontext.AppendQuote(nil, s)
	return b
}

// valid reports whether a value is JSON as the service reads it.
func valid(value []byte) bool {
	_, err := ingest.ParseMessage(value)
	return err == nil
}
