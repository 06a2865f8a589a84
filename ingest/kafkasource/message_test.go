package kafkasource

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go/protocol"

	"sojourn/domain"
	"sojourn/domain/policy"
	"sojourn/ingest"
	"sojourn/ingest/internal/ingesttest"
)

var stamp = time.Date(2026, 2, 3, 4, 5, 6, 789_000_000, time.UTC)

func headers(pairs ...string) []protocol.Header {
	var hs []protocol.Header
	for i := 0; i < len(pairs); i += 2 {
		hs = append(hs, protocol.Header{Key: pairs[i], Value: []byte(pairs[i+1])})
	}
	return hs
}

// ce are the headers of a CloudEvent in binary mode.
func ce(pairs ...string) []protocol.Header {
	return headers(append([]string{"ce_specversion", "1.0", "ce_id", "42", "ce_source", "/shop/a", "ce_type", "order.paid"}, pairs...)...)
}

const structured = `{"specversion":"1.0","id":"42","source":"/shop/a","type":"order.paid"`

// orders is a mapping with everything in it.
var orders = policy.RecordMapping{
	User: "customer.id", Anonymous: "$header.visitor",
	Time: policy.RecordTime{Field: "paid", Format: "unix"}, Event: policy.RecordField{Value: "Order Completed"},
	Identity: []string{"$key.order"},
	Properties: map[string]policy.RecordField{
		"total": {Field: "sum", Kind: "number"}, "order_id": {Field: "no", Kind: "string"}, "currency": {Value: "EUR"},
		"sku": {Field: "lines.0.sku"}, "trace": {Field: "$header.trace"}, "topic": {Field: "$topic"}, "at": {Field: "$timestamp"},
		"key": {Field: "$key"}, "none": {Field: "nothing"},
	},
	Context: map[string]policy.RecordField{"region": {Field: "region"}},
}

func TestMessages(t *testing.T) {
	for name, c := range map[string]struct {
		topic  Topic
		record record
		// want is the message in the log as JSON; id and at what its header says.
		want, id, at string
		kind         domain.Kind
		// reject is the reason where there is no message, in words where it is a
		// refusal.
		reject string
	}{
		"segment as sent": {
			record: record{value: []byte(` {"type":"page","userId":"u","messageId":"m","x":1.00} `)},
			want:   `{"type":"page","userId":"u","messageId":"m","x":1.00}`, id: "m",
		},
		"segment without an id":   {record: record{offset: 7, value: []byte(`{"type":"page","userId":"u"}`)}, want: `{"type":"page","userId":"u"}`, id: "kafka/t/3/7"},
		"segment that is no JSON": {record: record{value: []byte(`{`)}, reject: "the value is not valid JSON"},
		"structured": {
			topic:  Topic{Format: CloudEvents},
			record: record{value: []byte(structured + `,"time":"2026-02-01T00:00:00Z","subject":"u1","data":{"sum":5.10},"region":"eu","flag":true}`)},
			want: `{"type":"track","messageId":"%2Fshop%2Fa/42","userId":"u1","timestamp":"2026-02-01T00:00:00Z","event":"order.paid","properties":{"sum":5.10},
				"context":{"cloudevent":{"specversion":"1.0","id":"42","source":"/shop/a","type":"order.paid","subject":"u1","time":"2026-02-01T00:00:00Z","region":"eu","flag":"true"}}}`,
			id: "%2Fshop%2Fa/42", at: "2026-02-01T00:00:00.000Z",
		},
		"structured, said so by the header": {
			topic:  Topic{Format: CloudEvents},
			record: record{headers: headers("content-type", "application/cloudevents+json; charset=UTF-8", "ce_specversion", "9"), value: []byte(structured + `,"userid":"u2","data":[1]}`)},
			want: `{"type":"track","messageId":"%2Fshop%2Fa/42","userId":"u2","timestamp":"2026-02-03T04:05:06.789Z","event":"order.paid","properties":{"value":[1]},
				"context":{"cloudevent":{"specversion":"1.0","id":"42","source":"/shop/a","type":"order.paid","userid":"u2"}}}`,
			id: "%2Fshop%2Fa/42", at: "2026-02-03T04:05:06.789Z",
		},
		"structured with base64": {
			topic:  Topic{Format: CloudEvents, Mapping: own(policy.RecordMapping{User: "who"})},
			record: record{value: []byte(structured + `,"datacontenttype":"application/json","data_base64":"eyJ3aG8iOiJ1MyJ9"}`)},
			want: `{"type":"track","messageId":"%2Fshop%2Fa/42","userId":"u3","timestamp":"2026-02-03T04:05:06.789Z","event":"order.paid","properties":{"who":"u3"},
				"context":{"cloudevent":{"specversion":"1.0","id":"42","source":"/shop/a","type":"order.paid","datacontenttype":"application/json"}}}`,
			id: "%2Fshop%2Fa/42",
		},
		"structured with base64 that is none": {
			topic: Topic{Format: CloudEvents}, record: record{value: []byte(structured + `,"data_base64":"?"}`)},
			reject: "the CloudEvent's data is not what its content type says",
		},
		"structured without a source": {
			topic: Topic{Format: CloudEvents}, record: record{value: []byte(`{"specversion":"1.0","id":"42","type":"order.paid"}`)}, reject: "unknown_type",
		},
		"structured that is no JSON": {
			topic: Topic{Format: CloudEvents}, record: record{value: []byte(`x`)}, reject: "the value is not valid JSON",
		},
		"binary": {
			topic:  Topic{Format: CloudEvents},
			record: record{headers: ce("content-type", "application/json", "ce_subject", "nobody-asks"), value: []byte(` {"userId":7,"anonymousId":"a"} `)},
			want: `{"type":"track","messageId":"%2Fshop%2Fa/42","userId":7,"anonymousId":"a","timestamp":"2026-02-03T04:05:06.789Z","event":"order.paid",
				"properties":{"userId":7,"anonymousId":"a"},
				"context":{"cloudevent":{"specversion":"1.0","id":"42","source":"/shop/a","type":"order.paid","subject":"nobody-asks","datacontenttype":"application/json"}}}`,
			id: "%2Fshop%2Fa/42",
		},
		"binary, its own messageId first": {
			topic:  Topic{Format: CloudEvents},
			record: record{headers: ce("ce_userid", "u"), value: []byte(`{"messageId":"mine"}`)},
			want: `{"type":"track","messageId":"mine","userId":"u","timestamp":"2026-02-03T04:05:06.789Z","event":"order.paid","properties":{"messageId":"mine"},
				"context":{"cloudevent":{"specversion":"1.0","id":"42","source":"/shop/a","type":"order.paid","userid":"u"}}}`,
			id: "mine",
		},
		"binary, text": {
			topic:  Topic{Format: CloudEvents},
			record: record{headers: ce("content-type", "text/plain; charset=utf-8", "ce_subject", "u"), value: []byte("hello \"you\"")},
			want: `{"type":"track","messageId":"%2Fshop%2Fa/42","userId":"u","timestamp":"2026-02-03T04:05:06.789Z","event":"order.paid","properties":{"value":"hello \"you\""},
				"context":{"cloudevent":{"specversion":"1.0","id":"42","source":"/shop/a","type":"order.paid","subject":"u","datacontenttype":"text/plain; charset=utf-8"}}}`,
			id: "%2Fshop%2Fa/42",
		},
		"binary, bytes": {
			topic:  Topic{Format: CloudEvents, Mapping: own(policy.RecordMapping{User: "$key", Context: map[string]policy.RecordField{"by": {Field: "$attribute.source"}}})},
			record: record{key: []byte("u9"), headers: ce("content-type", "application/protobuf"), value: []byte{0xff, 0}},
			want: `{"type":"track","messageId":"%2Fshop%2Fa/42","userId":"u9","timestamp":"2026-02-03T04:05:06.789Z","event":"order.paid","properties":{"value":"/wA="},
				"context":{"by":"/shop/a"}}`,
			id: "%2Fshop%2Fa/42",
		},
		"binary without data": {
			topic:  Topic{Format: CloudEvents},
			record: record{headers: ce("ce_subject", "u")},
			want: `{"type":"track","messageId":"%2Fshop%2Fa/42","userId":"u","timestamp":"2026-02-03T04:05:06.789Z","event":"order.paid","properties":{},
				"context":{"cloudevent":{"specversion":"1.0","id":"42","source":"/shop/a","type":"order.paid","subject":"u"}}}`,
			id: "%2Fshop%2Fa/42",
		},
		"binary that is not the JSON it says": {
			topic: Topic{Format: CloudEvents}, record: record{headers: ce("content-type", "application/json"), value: []byte("{")},
			reject: "the CloudEvent's data is not what its content type says",
		},
		"binary of nobody": {topic: Topic{Format: CloudEvents}, record: record{headers: ce(), value: []byte(`{"a":1}`)}, reject: "no_id"},
		"a Segment message in a CloudEvent": {
			topic:  Topic{Format: CloudEvents},
			record: record{headers: headers("ce_specversion", "1.0", "ce_id", "42", "ce_source", "s", "ce_type", "identify", "ce_time", "2026-02-01T00:00:00Z"), value: []byte(`{"userId":"u","traits":{"a":1}}`)},
			want:   `{"timestamp":"2026-02-01T00:00:00Z","userId":"u","traits":{"a":1}}`, id: "s/42", at: "2026-02-01T00:00:00.000Z", kind: domain.Identify,
		},
		"a Segment message in a CloudEvent, with all of its own": {
			topic:  Topic{Format: CloudEvents},
			record: record{headers: headers("ce_specversion", "1.0", "ce_id", "42", "ce_source", "s", "ce_type", "page"), value: []byte(`{"userId":"u","messageId":"m","timestamp":"2026-02-02T00:00:00Z"}`)},
			want:   `{"userId":"u","messageId":"m","timestamp":"2026-02-02T00:00:00Z"}`, id: "m", at: "2026-02-02T00:00:00.000Z", kind: domain.Page,
		},
		"JSON": {
			topic: Topic{Format: JSON, Mapping: own(orders)},
			record: record{
				key: []byte(`{"order":"o-1"}`), headers: headers("trace", "old", "trace", "new", "visitor", "v"),
				value: []byte(`{"customer":{"id":12345678901234567890},"sum":"10.50","no":77,"paid":1770000000.5,"lines":[{"sku":"s"}],"region":"eu"}`),
			},
			want: `{"type":"track","messageId":"o-1","userId":12345678901234567890,"anonymousId":"v","timestamp":"2026-02-02T02:40:00.500Z","event":"Order Completed",
				"properties":{"total":10.50,"order_id":"77","currency":"EUR","sku":"s","trace":"new","topic":"t","at":"2026-02-03T04:05:06.789Z","key":"{\"order\":\"o-1\"}","none":null},
				"context":{"region":"eu"}}`,
			id: "o-1", at: "2026-02-02T02:40:00.500Z",
		},
		"JSON, the whole value": {
			topic:  Topic{Format: JSON, Mapping: own(policy.RecordMapping{User: "u", Event: policy.RecordField{Field: "what"}})},
			record: record{offset: 9, value: []byte(` {"u":"1","what":"Seen","n":1.50} `)},
			want:   `{"type":"track","userId":"1","timestamp":"2026-02-03T04:05:06.789Z","event":"Seen","properties":{"u":"1","what":"Seen","n":1.50}}`,
			id:     "kafka/t/3/9", at: "2026-02-03T04:05:06.789Z",
		},
		"JSON, two parts of an identity": {
			topic:  Topic{Format: JSON, Mapping: own(policy.RecordMapping{Type: "identify", User: "$key", Identity: []string{"a", "b"}, Traits: map[string]policy.RecordField{"plan": {Field: "p"}}})},
			record: record{key: []byte("u"), value: []byte(`{"a":"x/y","b":2,"p":"pro"}`)},
			want:   `{"type":"identify","messageId":"x%2Fy/2","userId":"u","timestamp":"2026-02-03T04:05:06.789Z","traits":{"plan":"pro"}}`, id: "x%2Fy/2", kind: domain.Identify,
		},
		"JSON, its own messageId first": {
			topic:  Topic{Format: JSON, Mapping: own(policy.RecordMapping{Type: "page", User: "u", Identity: []string{"a"}, Properties: map[string]policy.RecordField{"a": {Field: "a"}}})},
			record: record{value: []byte(`{"u":"1","a":"x","messageId":"m"}`)},
			want:   `{"type":"page","messageId":"m","userId":"1","timestamp":"2026-02-03T04:05:06.789Z","properties":{"a":"x"}}`, id: "m", kind: domain.Page,
		},
		"JSON, alias": {
			topic:  Topic{Format: JSON, Mapping: own(policy.RecordMapping{Type: "alias", User: "new", Previous: "old", Properties: map[string]policy.RecordField{"by": {Value: "crm"}}})},
			record: record{value: []byte(`{"new":"b","old":"a"}`)},
			want:   `{"type":"alias","userId":"b","previousId":"a","timestamp":"2026-02-03T04:05:06.789Z","properties":{"by":"crm"}}`, id: "kafka/t/3/0", kind: domain.Alias,
		},
		"JSON, a layout of Go": {
			topic:  Topic{Format: JSON, Mapping: own(policy.RecordMapping{Type: "page", User: "u", Time: policy.RecordTime{Field: "at", Format: "02.01.2006 15:04"}})},
			record: record{value: []byte(`{"u":"1","at":"24.12.2025 18:30"}`)},
			want:   `{"type":"page","userId":"1","timestamp":"2025-12-24T18:30:00.000Z","properties":{"u":"1","at":"24.12.2025 18:30"}}`, id: "kafka/t/3/0", at: "2025-12-24T18:30:00.000Z", kind: domain.Page,
		},
		"JSON, unix_ms as text": {
			topic:  Topic{Format: JSON, Mapping: own(policy.RecordMapping{Type: "page", User: "u", Time: policy.RecordTime{Field: "at", Format: "unix_ms"}, Properties: map[string]policy.RecordField{"x": {Value: 1}}})},
			record: record{value: []byte(`{"u":"1","at":"1770000000123"}`)},
			want:   `{"type":"page","userId":"1","timestamp":"2026-02-02T02:40:00.123Z","properties":{"x":1}}`, id: "kafka/t/3/0", at: "2026-02-02T02:40:00.123Z", kind: domain.Page,
		},
		"JSON, a time that is none": {
			topic:  Topic{Format: JSON, Mapping: own(policy.RecordMapping{Type: "page", User: "u", Time: policy.RecordTime{Field: "at", Format: "unix"}})},
			record: record{value: []byte(`{"u":"1","at":"soon"}`)}, reject: "bad_time",
		},
		"JSON, of nobody":     {topic: Topic{Format: JSON, Mapping: own(orders)}, record: record{value: []byte(`{"sum":1}`)}, reject: "no_id"},
		"JSON that is none":   {topic: Topic{Format: JSON, Mapping: own(orders)}, record: record{value: []byte(`{"sum":1`)}, reject: "the value is not valid JSON"},
		"JSON, no UTF-8 key":  {topic: Topic{Format: JSON, Mapping: own(policy.RecordMapping{Type: "page", User: "$key"})}, record: record{key: []byte{0xff}, value: []byte(`{}`)}, want: `{"type":"page","userId":"/w==","timestamp":"2026-02-03T04:05:06.789Z","properties":{}}`, id: "kafka/t/3/0", kind: domain.Page},
		"JSON, a null value":  {topic: Topic{Format: JSON, Mapping: own(policy.RecordMapping{Type: "page", User: "$key"})}, record: record{key: []byte("u")}, want: `{"type":"page","userId":"u","timestamp":"2026-02-03T04:05:06.789Z","properties":{}}`, id: "kafka/t/3/0", kind: domain.Page},
		"JSON, no key at all": {topic: Topic{Format: JSON, Mapping: own(policy.RecordMapping{Type: "page", User: "$key"})}, record: record{value: []byte(`{}`)}, reject: "no_id"},
	} {
		t.Run(name, func(t *testing.T) {
			c.topic.Name, c.topic.Source = "t", "shop"
			if ps := c.topic.problems(); len(ps) > 0 {
				t.Fatal(ps)
			}
			made, err := newTopic(&c.topic, nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			c.record.time = stamp
			p := &partition{topic: made, id: 3, source: &Source{}}
			e := ingesttest.Start(t)
			p.source.service = e.Service
			f := &parsed{}
			f.messages, f.refusals = p.parse(&fetched{records: []record{c.record}})
			if _, ok := p.store(t.Context(), f); !ok {
				t.Fatal("not stored")
			}
			if c.reject != "" {
				rejects := e.Rejects(t)
				if len(rejects) != 1 || len(e.Touchpoints(t)) != 0 {
					t.Fatalf("rejects %+v, touchpoints %d", rejects, len(e.Touchpoints(t)))
				}
				r := rejects[0]
				if string(r.Code) != c.reject && (r.Refused || r.Reason != c.reject || r.MessageID != "kafka/t/3/0" || !bytes.Equal(r.Raw, c.record.value)) {
					t.Errorf("rejected for %s, %s", r.Code, r.Reason)
				}
				return
			}
			all := e.Touchpoints(t)
			if len(all) != 1 {
				t.Fatalf("%d touchpoints, rejects %+v", len(all), e.Rejects(t))
			}
			tp := all[0]
			if got, want := generic(t, tp.Event.Data), generic(t, []byte(c.want)); !reflect.DeepEqual(got, want) {
				t.Errorf("%s, want\n%s", tp.Event.Data, c.want)
			}
			if tp.MessageID != c.id || tp.Event.ID != domain.EventID("shop", c.id) {
				t.Errorf("message id %q, want %q", tp.MessageID, c.id)
			}
			if c.at != "" && tp.OccurredAt.String() != c.at {
				t.Errorf("occurred at %s, want %s", tp.OccurredAt, c.at)
			}
			if tp.ReceivedAt != domain.MillisOf(stamp) {
				t.Errorf("received at %s", tp.ReceivedAt)
			}
			if c.kind != 0 && tp.Kind != c.kind {
				t.Errorf("kind %s, want %s", tp.Kind, c.kind)
			}
		})
	}
}

// generic is JSON as values, numbers in their own digits.
func generic(t *testing.T, b []byte) (v any) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

// A value larger than the store takes is a reject too, and a fetch that was
// compressed well may be far larger than that.
func TestLargeFetch(t *testing.T) {
	e := ingesttest.Start(t)
	made, err := newTopic(&Topic{Name: "t", Source: "shop"}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	p := &partition{topic: made, source: &Source{service: e.Service}}
	f := &parsed{}
	value := func(size int) []byte { return fmt.Appendf(nil, `{"type":"page","x":"%s"}`, strings.Repeat("x", size)) }
	for i := range 80 {
		f.records = append(f.records, record{offset: int64(i), time: stamp, key: []byte("k"), value: value(1 << 20)})
	}
	f.records = append(f.records, record{offset: 80, time: stamp, value: value(20 << 20)}, record{offset: 81, time: stamp, value: message(1)})
	f.messages, f.refusals = p.parse(&f.fetched)
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // each call is tried once
	sum, ok := p.store(ctx, f)
	if !ok || sum.Rejected != 81 || len(e.Touchpoints(t)) != 1 {
		t.Fatalf("%v, %+v, %d touchpoints", ok, sum, len(e.Touchpoints(t)))
	}
	page, err := e.Service.Rejects(t.Context(), "", 1)
	if err != nil || page.Rejects[0].Code != ingest.CodeTooLarge || !page.Rejects[0].Refused || page.Rejects[0].Size != len(f.records[80].value) {
		t.Errorf("%v, %+v", err, page.Rejects[0].Reason)
	}
}
