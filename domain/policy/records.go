package policy

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"time"

	"sojourn/domain"
)

// RecordMapping says how a message is made of a record of a Kafka topic. What it
// makes stands in the log as it was made: another mapping reaches the records that
// are read from then on, and the rejects that are replayed.
//
// A path leads into the value (of a CloudEvent: into its data) as gjson's do:
// customer.id, lines.0.sku. ParseRecordPath has those that lead elsewhere.
type RecordMapping struct {
	// Type of the messages: track where it is empty.
	Type string `json:"type,omitempty" yaml:"type"`
	// User, Anonymous and Previous are the paths of the ids; Previous is for alias.
	User      string     `json:"user,omitempty" yaml:"user"`
	Anonymous string     `json:"anonymous,omitempty" yaml:"anonymous"`
	Previous  string     `json:"previous,omitempty" yaml:"previous"`
	Time      RecordTime `json:"time,omitzero" yaml:"time"`
	// Event is the name: of the event for track, of the page for page and screen.
	Event RecordField `json:"event,omitzero" yaml:"event"`
	// Identity are the paths that name a message for ever, such as an order
	// number. They become the message id where the value has no messageId of its
	// own; without them it is the topic, partition and offset.
	Identity []string `json:"identity,omitempty" yaml:"identity"`
	// Properties of track, page and screen, Traits of identify and group: without
	// any the whole value.
	Properties map[string]RecordField `json:"properties,omitempty" yaml:"properties"`
	Traits     map[string]RecordField `json:"traits,omitempty" yaml:"traits"`
	Context    map[string]RecordField `json:"context,omitempty" yaml:"context"`
}

// RecordTime is the path of a message's time and how it is written.
type RecordTime struct {
	// Field is a path; the record's time where it is empty.
	Field string `json:"field,omitempty" yaml:"field"`
	// Format is rfc3339 (where it is empty), unix (seconds), unix_ms, or a layout
	// of Go's package time, read in UTC where it names no zone.
	Format string `json:"format,omitempty" yaml:"format"`
}

// RecordField is a value: from the record, or the same for all.
type RecordField struct {
	Field string `json:"field,omitempty" yaml:"field"`
	// Value is any value of JSON but null.
	Value any `json:"value,omitempty" yaml:"value"`
	// Kind is string or number; where it is empty JSON stays what it is and a
	// header, a key or an attribute is a string.
	Kind string `json:"kind,omitempty" yaml:"kind"`
}

// The formats of a RecordTime that are no layout.
const (
	RFC3339    = "rfc3339"
	Unix       = "unix"
	UnixMillis = "unix_ms"
)

// The kinds of a RecordField.
const (
	StringField = "string"
	NumberField = "number"
)

// RecordRoot is where a path begins.
type RecordRoot uint8

// The roots.
const (
	InValue RecordRoot = iota
	InKey
	InHeader
	InAttribute
	TheTimestamp
	TheTopic
)

// RecordPath is a path that was read.
type RecordPath struct {
	// Set is false for the empty path, which leads nowhere.
	Set  bool
	Root RecordRoot
	// Rest leads on from there; of a header or an attribute it is the name.
	Rest string
}

// ParseRecordPath reads a path. One that begins with a dollar sign does not lead
// into the value:
//
//	$key            the record's key as text; $key.id: into a key that is JSON
//	$header.NAME    the last header of that name
//	$timestamp      the record's time, RFC 3339
//	$topic          the topic
//	$attribute.NAME an attribute of the CloudEvent
func ParseRecordPath(s string) (RecordPath, error) {
	name, rest, _ := strings.Cut(s, ".")
	p := RecordPath{Set: s != "", Rest: rest}
	switch {
	case !strings.HasPrefix(s, "$"):
		p.Rest = s
	case name == "$key":
		p.Root = InKey
	case name == "$header" && rest != "":
		p.Root = InHeader
	case name == "$attribute" && rest != "":
		p.Root = InAttribute
	case s == "$timestamp":
		p.Root = TheTimestamp
	case s == "$topic":
		p.Root = TheTopic
	default:
		return p, fmt.Errorf("%q is none of $key, $header.NAME, $timestamp, $topic and, with CloudEvents, $attribute.NAME", s)
	}
	return p, nil
}

// Kind is the type of the messages.
func (m *RecordMapping) Kind() domain.Kind {
	if m.Type == "" {
		return domain.Track
	}
	kind, _ := domain.ParseKind(m.Type)
	return kind
}

// complete is m with what it leaves out.
func (m RecordMapping) complete() RecordMapping {
	if m.Type == "" {
		m.Type = domain.Track.String()
	}
	if m.Time.Field == "" {
		m.Time.Format = "" // says nothing
	} else if m.Time.Format == "" {
		m.Time.Format = RFC3339
	}
	return m
}

func completeMappings(all map[string]RecordMapping) map[string]RecordMapping {
	all = maps.Clone(all)
	for name, m := range all {
		all[name] = m.complete()
	}
	return all
}

// paths yields the paths of the mapping and where each stands.
func (m *RecordMapping) paths(yield func(path string, at ...string)) {
	yield(m.User, "user")
	yield(m.Anonymous, "anonymous")
	yield(m.Previous, "previous")
	yield(m.Time.Field, "time", "field")
	yield(m.Event.Field, "event", "field")
	for i, path := range m.Identity {
		yield(path, "identity", fmt.Sprint(i))
	}
	m.fields(func(f RecordField, at ...string) { yield(f.Field, append(at, "field")...) })
}

// fields yields the properties, traits and context.
func (m *RecordMapping) fields(yield func(f RecordField, at ...string)) {
	for _, g := range [...]struct {
		key    string
		fields map[string]RecordField
	}{{"properties", m.Properties}, {"traits", m.Traits}, {"context", m.Context}} {
		for _, name := range sortedKeys(g.fields) {
			yield(g.fields[name], g.key, name)
		}
	}
}

// Problems are what is wrong with a mapping, whatever records it is for; their
// paths begin in it.
func (m *RecordMapping) Problems() Problems {
	v := &validator{}
	if _, ok := domain.ParseKind(m.Type); m.Type != "" && !ok {
		v.add([]string{"type"}, "%q is no type of message%s", m.Type, oneOf(m.Type, kindNames()))
	}
	if s, text := m.Event.Value.(string); m.Event.Value != nil && (!text || s == "") {
		v.add([]string{"event", "value"}, "the name must be text")
	}
	if _, text := m.Event.Value.(string); m.Event.Field != "" && text {
		v.add([]string{"event"}, "write field: or value:")
	}
	if f := m.Time.Format; f != "" && f != RFC3339 && f != Unix && f != UnixMillis &&
		time.Date(2001, 12, 29, 13, 14, 15, 0, time.UTC).Format(f) == f {
		v.add([]string{"time", "format"}, "%q is not rfc3339, unix, unix_ms or a layout of Go", f)
	}
	m.paths(func(path string, at ...string) {
		if _, err := ParseRecordPath(path); err != nil {
			v.add(at, "%s", err)
		}
	})
	for i, path := range m.Identity {
		if path == "" {
			v.add([]string{"identity", fmt.Sprint(i)}, "an empty path")
		}
	}
	m.fields(func(f RecordField, at ...string) {
		if (f.Field == "") == (f.Value == nil) {
			v.add(at, "write field: or value:")
		}
		if _, err := json.Marshal(f.Value); err != nil {
			v.add(append(at, "value"), "has no place in JSON")
		}
		if f.Kind != "" && f.Kind != StringField && f.Kind != NumberField {
			v.add(append(at, "kind"), "%q is not string or number", f.Kind)
		}
	})
	return v.problems
}

// JSONProblems are what keeps a mapping that is right otherwise from records that
// are no CloudEvents: these say of themselves neither whose they are nor what.
func (m *RecordMapping) JSONProblems() Problems {
	v := &validator{}
	if m.User == "" && m.Anonymous == "" {
		v.add([]string{"user"}, "name the path of the user (user) or of the visitor (anonymous)")
	}
	if m.Kind() == domain.Track && m.Event.Field == "" && m.Event.Value == nil {
		v.add([]string{"event"}, "a track message needs a name: {value: Order Completed} or {field: kind}")
	}
	m.paths(func(path string, at ...string) {
		if p, err := ParseRecordPath(path); err == nil && p.Root == InAttribute {
			v.add(at, "%q is none of $key, $header.NAME, $timestamp and $topic; attributes are those of CloudEvents", path)
		}
	})
	return v.problems
}

func validateMappings(v *validator, all map[string]RecordMapping) {
	for _, name := range sortedKeys(all) {
		at := []string{"mappings", name}
		if !ValidMappingName(name) {
			v.add(at, "%q is no name of a mapping: use lower case letters, digits, _ and -, a letter first, at most %d", name, maxID)
		}
		m := all[name]
		for _, p := range m.Problems() {
			v.add(append(at, p.Path...), "%s", p.Message)
		}
	}
}

// ValidMappingName reports whether a policy may have a mapping of that name: lower
// case letters, digits, _ and -, a letter first, at most 40.
func ValidMappingName(s string) bool { return validID(s) }
