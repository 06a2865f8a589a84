package kafkasource

import (
	"fmt"
	"log/slog"
	"strconv"
	"sync/atomic"

	"sojourn/domain"
	"sojourn/domain/policy"
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
	// CloudEvents it goes before what is read otherwise. One of the policy's that the
	// policy in force does not have, or not for JSON, makes a reject of each message.
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
		ps = append(ps, t.Mapping.problems(t.format())...)
	}
	return ps
}

// named is the name of the policy's mapping that the topic goes by, empty for none.
func (t *Topic) named() string {
	if t.Mapping == nil {
		return ""
	}
	return t.Mapping.Name
}

// topic is a Topic ready to read.
type topic struct {
	Topic
	policy func() *policy.Compiled
	logger *slog.Logger
	last   atomic.Pointer[reading]
}

// reading is how the records of a topic are read, under one policy where that has
// the mapping. It does not change.
type reading struct {
	policy *policy.Compiled
	mapper *mapper // nil for Segment, and where there is none
	// missing says why there is none, where there should be.
	missing string
}

func newTopic(c *Topic, inForce func() *policy.Compiled, logger *slog.Logger) (*topic, error) {
	t := &topic{Topic: *c, policy: inForce, logger: logger}
	if t.named() != "" {
		t.reading() // what is missing is said at once
		return t, nil
	}
	r := &reading{}
	t.last.Store(r)
	if f := t.format(); f == Segment || f == Collected {
		return t, nil
	}
	m := &policy.RecordMapping{}
	if c.Mapping != nil {
		m = &c.Mapping.Own
	}
	var err error
	r.mapper, err = newMapper(m, t.Name, t.format())
	return t, err
}

// reading is how records are read now. It is made once under each policy.
func (t *topic) reading() *reading {
	last := t.last.Load()
	if t.named() == "" {
		return last
	}
	inForce := t.policy()
	if last != nil && last.policy == inForce {
		return last
	}
	r := t.under(inForce)
	// Another partition may have made it, or one under a later policy.
	if t.last.CompareAndSwap(last, r) && r.missing != "" {
		t.logger.Warn("a kafka topic has no mapping: its messages go to the rejects until a policy with it is applied",
			slog.String("topic", t.Name), slog.String("mapping", t.named()), slog.String("reason", r.missing))
	}
	return r
}

// under is how records are read by the named mapping of a policy.
func (t *topic) under(inForce *policy.Compiled) *reading {
	r := &reading{policy: inForce}
	m, ok := inForce.Policy().Mappings[t.named()]
	if !ok {
		r.missing = fmt.Sprintf("the policy in force has no mapping %s", t.named())
		return r
	}
	if t.format() == JSON {
		if ps := m.JSONProblems(); len(ps) > 0 {
			r.missing = fmt.Sprintf("the mapping %s of the policy in force is not for JSON: %s", t.named(), ps[0].Error())
			return r
		}
	}
	var err error
	if r.mapper, err = newMapper(&m, t.Name, t.format()); err != nil {
		r.mapper, r.missing = nil, fmt.Sprintf("the mapping %s of the policy in force cannot be used: %s", t.named(), err)
	}
	return r
}

// keepsRecords reports whether messages are made of records, so that rejects keep
// those.
func (t *topic) keepsRecords() bool { return t.format() == CloudEvents || t.format() == JSON }

// message reads a record. One that is no message goes to the rejects, whole.
func (t *topic) message(r *record, partition int, by *reading) ingest.Message {
	var m ingest.Message
	refused := ""
	switch {
	case by.missing != "":
		m = ingest.Unusable(r.value, ingest.CodeNoMapping, by.missing)
	case t.format() == CloudEvents:
		m, refused = by.mapper.cloudEvent(r)
	case t.format() == JSON:
		m, refused = by.mapper.json(r)
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
	if t.keepsRecords() {
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
