package kafkasource

import (
	"fmt"
	"strconv"

	"sojourn/domain"
	"sojourn/ingest"
)

// Format is what the values of a topic are.
type Format string

// The formats.
const (
	// Segment: a message as the tracking API takes it.
	Segment Format = "segment"
	// CloudEvents: a CloudEvent in structured or in binary mode.
	CloudEvents Format = "cloudevents"
	// JSON: any JSON, with a mapping.
	JSON Format = "json"
	// Collected: what a collector wrote (ingest/collector). Each message says its
	// source itself; the topic's is that of what no collector wrote.
	Collected Format = "collected"
)

// Topic is a topic to consume.
type Topic struct {
	Name string `yaml:"name"`
	// Source is the app or system that the messages count to. With the message id
	// it makes the event's id.
	Source string `yaml:"source"`
	// Format is Segment where it is empty.
	Format Format `yaml:"format"`
	// Mapping makes messages of what is not one: needed with JSON; with
	// CloudEvents it goes before what is read otherwise.
	Mapping *Mapping `yaml:"mapping"`
}

func (t *Topic) format() Format {
	if t.Format == "" {
		return Segment
	}
	return t.Format
}

func (t *Topic) problems() (ps []string) {
	bad := func(format string, args ...any) { ps = append(ps, fmt.Sprintf(format, args...)) }
	if t.Name == "" {
		bad("name: name the topic")
	}
	if !ingest.ValidSource(t.Source) {
		bad("source: %s", ingest.ErrSourceName.Error())
	}
	switch t.format() {
	case Segment:
		if t.Mapping != nil {
			bad("mapping: a Segment message needs none; take it away, or set format: json")
		}
	case JSON:
		if t.Mapping == nil {
			bad("mapping: JSON needs one, at least user and event")
		}
	case Collected:
		if t.Mapping != nil {
			bad("mapping: a collector's message needs none")
		}
	case CloudEvents:
	default:
		bad("format: %q is not segment, cloudevents or json", t.Format)
	}
	if t.Mapping != nil {
		for _, p := range t.Mapping.problems(t.format()) {
			bad("mapping.%s", p)
		}
	}
	return ps
}

// topic is a Topic ready to read.
type topic struct {
	Topic
	mapper *mapper // nil for Segment
}

func newTopic(c *Topic) (*topic, error) {
	t := &topic{Topic: *c}
	if f := t.format(); f == Segment || f == Collected {
		return t, nil
	}
	m := c.Mapping
	if m == nil {
		m = &Mapping{}
	}
	var err error
	t.mapper, err = newMapper(m, t.Name, t.format())
	return t, err
}

// message reads a record. One that is no message goes to the rejects, whole.
func (t *topic) message(r *record, partition int) ingest.Message {
	var m ingest.Message
	refused := ""
	switch t.format() {
	case CloudEvents:
		m, refused = t.mapper.cloudEvent(r)
	case JSON:
		m, refused = t.mapper.json(r)
	default:
		var err error
		if m, err = ingest.ParseMessage(r.value); err != nil {
			refused = "the value is not valid JSON"
		}
	}
	if refused != "" {
		m = ingest.Unusable(r.value, ingest.CodeInvalidJSON, refused)
	}
	if m.DefaultID == "" {
		m.DefaultID = placeID(t.Name, partition, r.offset)
	}
	if t.mapper != nil {
		m.Origin = func() (raw, from []byte) { return r.value, t.from(r, partition) }
	}
	return m
}

// placeID is the id of a message that brings none: where it stands.
func placeID(topic string, partition int, offset int64) string {
	b := make([]byte, 0, len(topic)+32)
	b = append(append(append(b, "kafka/"...), topic...), '/')
	b = append(strconv.AppendInt(b, int64(partition), 10), '/')
	return string(strconv.AppendInt(b, offset, 10))
}

// receivedAt is when a message reached Kafka, which may be long before it is
// read: a sender's own times are judged by it. A stamp in the future is a wrong
// clock's.
func receivedAt(r *record, now domain.Millis) domain.Millis {
	if r.time.IsZero() {
		return now
	}
	return min(domain.MillisOf(r.time), now)
}
