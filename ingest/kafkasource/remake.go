package kafkasource

import (
	"encoding/json"
	"log/slog"
	"time"

	"github.com/segmentio/kafka-go/protocol"

	"sojourn/domain/policy"
	"sojourn/ingest"
)

// origin is a record without its value, as a reject keeps it.
type origin struct {
	Topic     string         `json:"topic"`
	Partition int            `json:"partition"`
	Offset    int64          `json:"offset"`
	Time      int64          `json:"time,omitempty"` // Unix milliseconds
	Key       []byte         `json:"key,omitempty"`
	Null      bool           `json:"null,omitempty"` // the value is null, and not empty
	Headers   []originHeader `json:"headers,omitempty"`
}

type originHeader struct {
	Name  string `json:"name"`
	Value []byte `json:"value"`
}

// from is a record as a reject keeps it beside the value.
func (t *topic) from(r *record, partition int) []byte {
	o := origin{Topic: t.Name, Partition: partition, Offset: r.offset, Key: r.key, Null: r.value == nil}
	if !r.time.IsZero() {
		o.Time = r.time.UnixMilli()
	}
	for _, h := range r.headers {
		o.Headers = append(o.Headers, originHeader{h.Key, h.Value})
	}
	b, _ := json.Marshal(o) // it marshals whatever it holds
	return b
}

// Remake makes messages of rejects that came from these topics, by the mapping
// that each has when it is asked; it is ingest.Config.Remake. inForce is
// Config.Policy. Topics that cannot be read are left out: New says what is wrong
// with them.
func Remake(topics []Topic, inForce func() *policy.Compiled) func(from, raw []byte) (ingest.Message, bool) {
	byName := make(map[string]*topic)
	for i := range topics {
		if t, err := newTopic(&topics[i], inForce, slog.New(slog.DiscardHandler)); err == nil && t.keepsRecords() {
			byName[t.Name] = t
		}
	}
	return func(from, raw []byte) (ingest.Message, bool) {
		var o origin
		if err := json.Unmarshal(from, &o); err != nil || byName[o.Topic] == nil {
			return ingest.Message{}, false
		}
		r := &record{offset: o.Offset, key: o.Key, value: raw}
		if o.Null {
			r.value = nil
		}
		if o.Time != 0 {
			r.time = time.UnixMilli(o.Time)
		}
		for _, h := range o.Headers {
			r.headers = append(r.headers, protocol.Header{Key: h.Name, Value: h.Value})
		}
		t := byName[o.Topic]
		return t.message(r, o.Partition, t.reading()), true
	}
}
