package kafkasource

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/tidwall/gjson"

	"sojourn/domain"
	"sojourn/ingest"
)

// Mapping says how a message is made of a record. A path leads into the value
// (of a CloudEvent: into its data) as gjson's do: customer.id, lines.0.sku. Paths
// that begin with a dollar sign lead elsewhere:
//
//	$key            the record's key as text; $key.id: into a key that is JSON
//	$header.NAME    the last header of that name
//	$timestamp      the record's time, RFC 3339
//	$topic          the topic
//	$attribute.NAME an attribute of the CloudEvent
type Mapping struct {
	// Type of the messages: track where it is empty.
	Type string `yaml:"type"`
	// User, Anonymous and Previous are the paths of the ids; Previous is for alias.
	User      string `yaml:"user"`
	Anonymous string `yaml:"anonymous"`
	Previous  string `yaml:"previous"`
	Time      Time   `yaml:"time"`
	// Event is the name: of the event for track, of the page for page and screen.
	Event Field `yaml:"event"`
	// Identity are the paths that name a message for ever, such as an order
	// number. They become the message id where the value has no messageId of its
	// own; without them it is the topic, partition and offset.
	Identity []string `yaml:"identity"`
	// Properties of track, page and screen, Traits of identify and group: without
	// any the whole value.
	Properties Fields `yaml:"properties"`
	Traits     Fields `yaml:"traits"`
	Context    Fields `yaml:"context"`
}

// Time is the path of the time and how it is written.
type Time struct {
	// Field is a path; the record's time where it is empty.
	Field string `yaml:"field"`
	// Format is rfc3339 (where it is empty), unix (seconds), unix_ms, or a layout
	// of Go's package time, read in UTC where it names no zone.
	Format string `yaml:"format"`
}

// Field is a value: from the record, or the same for all.
type Field struct {
	Field string `yaml:"field"`
	Value any    `yaml:"value"`
	// Kind is string or number; where it is empty JSON stays what it is and a
	// header, a key or an attribute is a string.
	Kind string `yaml:"kind"`
}

// Fields are values by their names.
type Fields map[string]Field

func (fs Fields) names() []string {
	names := make([]string, 0, len(fs))
	for n := range fs {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

func (m *Mapping) kind() string {
	if m.Type == "" {
		return "track"
	}
	return m.Type
}

func (m *Mapping) problems(format Format) (ps []string) {
	bad := func(format string, args ...any) { ps = append(ps, fmt.Sprintf(format, args...)) }
	path := func(name, p string) {
		if _, err := parsePath(p, format); err != nil {
			bad("%s: %s", name, err)
		}
	}
	kind, ok := domain.ParseKind(m.kind())
	if !ok {
		bad("type: %q is not track, identify, page, screen, group or alias", m.Type)
	}
	if format == JSON && m.User == "" && m.Anonymous == "" {
		bad("user: name the path of the user (user) or of the visitor (anonymous)")
	}
	if format == JSON && kind == domain.Track && m.Event.Field == "" && m.Event.Value == nil {
		bad("event: a track message needs a name: {value: Order Completed} or {field: kind}")
	}
	if s, text := m.Event.Value.(string); m.Event.Value != nil && (!text || s == "") {
		bad("event.value: the name must be text")
	}
	switch m.Time.Format {
	case "", "rfc3339", "unix", "unix_ms":
	default:
		if time.Date(2001, 12, 29, 13, 14, 15, 0, time.UTC).Format(m.Time.Format) == m.Time.Format {
			bad("time.format: %q is not rfc3339, unix, unix_ms or a layout of Go", m.Time.Format)
		}
	}
	path("user", m.User)
	path("anonymous", m.Anonymous)
	path("previous", m.Previous)
	path("time.field", m.Time.Field)
	path("event.field", m.Event.Field)
	for i, p := range m.Identity {
		if p == "" {
			bad("identity[%d]: an empty path", i)
		}
		path(fmt.Sprintf("identity[%d]", i), p)
	}
	for _, g := range []struct {
		name   string
		fields Fields
	}{{"properties", m.Properties}, {"traits", m.Traits}, {"context", m.Context}} {
		for _, name := range g.fields.names() {
			f := g.fields[name]
			where := g.name + "." + name
			path(where, f.Field)
			if (f.Field == "") == (f.Value == nil) {
				bad("%s: write field: or value:", where)
			}
			if f.Kind != "" && f.Kind != "string" && f.Kind != "number" {
				bad("%s.kind: %q is not string or number", where, f.Kind)
			}
		}
	}
	return ps
}

// root is where a path begins.
type root uint8

const (
	inValue root = iota
	inKey
	inHeader
	inAttribute
	theTimestamp
	theTopic
)

// path is a parsed path; set is false for the empty one.
type path struct {
	set  bool
	root root
	rest string // within it; the name of a header or attribute
}

func parsePath(s string, format Format) (path, error) {
	name, rest, _ := strings.Cut(s, ".")
	p := path{set: s != "", rest: rest}
	switch {
	case !strings.HasPrefix(s, "$"):
		p.rest = s
	case name == "$key":
		p.root = inKey
	case name == "$header" && rest != "":
		p.root = inHeader
	case name == "$attribute" && rest != "" && format == CloudEvents:
		p.root = inAttribute
	case s == "$timestamp":
		p.root = theTimestamp
	case s == "$topic":
		p.root = theTopic
	default:
		return p, fmt.Errorf("%q is none of $key, $header.NAME, $timestamp, $topic and, with CloudEvents, $attribute.NAME", s)
	}
	return p, nil
}

// field is a Field ready to write.
type field struct {
	name     []byte // as JSON, with the colon
	path     path
	constant []byte
	kind     string
}

// mapper makes messages of the records of a topic. Its methods may be called
// concurrently.
type mapper struct {
	topic                     string
	kind                      domain.Kind
	user, anonymous, previous path
	at                        path
	format                    string
	event                     *field
	identity                  []path
	facts                     []field // properties or traits
	all                       bool    // the whole value is the facts
	context                   []field
}

func newMapper(m *Mapping, topic string, format Format) (*mapper, error) {
	out := &mapper{topic: topic, format: m.Time.Format}
	out.kind, _ = domain.ParseKind(m.kind())
	var err error
	paths := func(s string) path {
		p, parseErr := parsePath(s, format)
		if parseErr != nil {
			err = parseErr
		}
		return p
	}
	one := func(name string, f Field) field {
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
		f.kind = "string"
		out.event = &f
	case format == CloudEvents && out.kind == domain.Track:
		out.event = &field{name: append(quote(name), ':'), path: path{set: true, root: inAttribute, rest: "type"}}
	}
	facts := m.Properties
	if out.traits() {
		facts = m.Traits
	}
	out.all = len(facts) == 0
	for _, n := range facts.names() {
		out.facts = append(out.facts, one(n, facts[n]))
	}
	for _, n := range m.Context.names() {
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
func (in *input) at(p path) []byte {
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
	if !p.set {
		return nil
	}
	switch p.root {
	case inKey:
		if p.rest == "" {
			return text(string(in.record.key), in.record.key != nil)
		}
		if !gjson.ValidBytes(in.record.key) {
			return nil
		}
		return within(in.record.key, p.rest)
	case inHeader:
		for _, h := range slices.Backward(in.record.headers) {
			if h.Key == p.rest {
				return text(string(h.Value), h.Value != nil)
			}
		}
		return nil
	case inAttribute:
		s, ok := in.attributes[p.rest]
		return text(s, ok)
	case theTimestamp:
		return text(in.record.time.UTC().Format(timeLayout), !in.record.time.IsZero())
	case theTopic:
		return text(in.topic, true)
	}
	return within(in.value, p.rest)
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
	if own := scalar(in.at(path{set: true, rest: "messageId"})); own != "" {
		id = own
	} else if id == "" {
		id = m.id(in)
	}
	if id != "" {
		b = append(append(b, `,"messageId":`...), quote(id)...)
	}
	user, anonymous := in.at(m.user), in.at(m.anonymous)
	if in.attributes != nil && !m.user.set && !m.anonymous.set {
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
	if !m.at.set {
		if t, ok := in.attributes["time"]; ok {
			return quote(t)
		}
		return in.at(path{set: true, root: theTimestamp})
	}
	found := in.at(m.at)
	if found == nil || m.format == "" || m.format == "rfc3339" {
		return found
	}
	text := scalar(found)
	unit := float64(0)
	switch m.format {
	case "unix":
		unit = 1000
	case "unix_ms":
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
	case f.kind == "string" && v[0] != '"':
		return append(b, quote(string(v))...)
	case f.kind == "number" && v[0] == '"':
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
