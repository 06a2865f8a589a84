package kafkasource

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"sojourn/domain"
	"sojourn/domain/policy"
	"sojourn/ingest"
	"sojourn/ingest/internal/ingesttest"
)

// A mistake in a mapping is cured: what it made unusable is kept as it came, and
// a replay goes through the mapping of today.
func TestReplayThroughAnotherMapping(t *testing.T) {
	b := newBroker(t, []string{"orders", "events"})
	topics := func(user, event string) []Topic {
		return []Topic{
			{Name: "orders", Source: "erp", Format: JSON, Mapping: own(policy.RecordMapping{
				User: user, Event: policy.RecordField{Value: "Order Completed"}, Identity: []string{"no"},
				Properties: map[string]policy.RecordField{"total": {Field: "sum"}, "tenant": {Field: "$header.tenant"}, "key": {Field: "$key"}},
			})},
			{Name: "events", Source: "app", Format: CloudEvents, Mapping: own(policy.RecordMapping{User: "$attribute.who", Event: policy.RecordField{Field: event}})},
		}
	}
	right := Remake(topics("customer.id", "$attribute.type"), nil)
	cured := false
	e := ingesttest.Start(t, func(c *ingest.Config) {
		c.Remake = func(from, raw []byte) (ingest.Message, bool) {
			if !cured {
				return Remake(topics("customer.nr", "nothing"), nil)(from, raw)
			}
			return right(from, raw)
		}
	})
	at := ingesttest.Now.Add(-time.Hour)
	b.produce(
		&kgo.Record{
			Topic: "orders", Timestamp: at, Key: []byte{0xff, 'k'}, Headers: []kgo.RecordHeader{{Key: "tenant", Value: []byte("x")}},
			Value: []byte(`{"no":7,"customer":{"id":"u1"},"sum":12.50}`),
		},
		&kgo.Record{Topic: "orders", Value: []byte(`{"no":`)},
		&kgo.Record{Topic: "events", Timestamp: at, Value: []byte(`{"n":1}`), Headers: []kgo.RecordHeader{
			{Key: "ce_specversion", Value: []byte("1.0")},
			{Key: "ce_id", Value: []byte("e1")},
			{Key: "ce_source", Value: []byte("s")},
			{Key: "ce_type", Value: []byte("Seen")},
			{Key: "ce_who", Value: []byte("u2")},
		}},
	)
	stop := start(t, config(b, e.Service, topics("customer.nr", "nothing")...))
	eventually(t, "three rejects", func() bool { return len(e.Rejects(t)) == 3 })
	stop()
	for _, r := range e.Rejects(t) {
		if r.From == nil || r.Refused {
			t.Errorf("%s %s has no origin", r.Code, r.Raw)
		}
	}
	replay := func(want ingest.ReplayResult) {
		t.Helper()
		if got, err := e.Service.Replay(t.Context(), ingest.ReplayFilter{}, nil); err != nil || got != want {
			t.Errorf("%+v, %v, want %+v", got, err, want)
		}
	}
	replay(ingest.ReplayResult{Failed: 3})
	cured = true
	replay(ingest.ReplayResult{Replayed: 2, Failed: 1})
	replay(ingest.ReplayResult{Already: 2, Failed: 1})
	all := e.Touchpoints(t)
	if len(all) != 2 {
		t.Fatalf("%d touchpoints", len(all))
	}
	for _, tp := range all {
		want, id := `{"type":"track","messageId":"s/e1","userId":"u2","timestamp":"2026-03-01T11:00:00.000Z","event":"Seen","properties":{"n":1},"context":{"cloudevent":{"id":"e1","source":"s","specversion":"1.0","type":"Seen","who":"u2"}}}`, "s/e1"
		if tp.Source == "erp" {
			want, id = `{"type":"track","messageId":"7","userId":"u1","timestamp":"2026-03-01T11:00:00.000Z","event":"Order Completed","properties":{"key":"/2s=","tenant":"x","total":12.50}}`, "7"
		}
		if string(tp.Event.Data) != want || tp.MessageID != id || tp.ReceivedAt != domain.MillisOf(at) {
			t.Errorf("%s %s\n%s, want\n%s", tp.MessageID, tp.ReceivedAt, tp.Event.Data, want)
		}
	}
}
