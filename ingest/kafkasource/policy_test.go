package kafkasource

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"

	"sojourn/domain"
	"sojourn/domain/policy"
	"sojourn/ingest"
	"sojourn/ingest/internal/ingesttest"
)

// inForce is a policy that a test changes.
type inForce struct {
	last  atomic.Pointer[policy.Compiled]
	asked atomic.Int64
}

func (f *inForce) now() *policy.Compiled {
	f.asked.Add(1)
	return f.last.Load()
}

// apply puts a policy in force that has these mappings.
func (f *inForce) apply(t *testing.T, mappings map[string]policy.RecordMapping) {
	t.Helper()
	p := policy.Default()
	p.Mappings = mappings
	if err := p.Validate(); err != nil {
		t.Fatal(err)
	}
	// As a server has it from the log.
	b, err := p.MarshalCanonical()
	if err != nil {
		t.Fatal(err)
	}
	if p, err = policy.Decode(b); err != nil {
		t.Fatal(err)
	}
	f.last.Store(p.Compile())
}

// erp makes messages of a name of orders.
func erp(event string) policy.RecordMapping {
	return policy.RecordMapping{
		User: "customer.id", Event: policy.RecordField{Value: event}, Identity: []string{"no"},
		Properties: map[string]policy.RecordField{"total": {Field: "sum"}, "shop": {Value: 12345678901234567}},
	}
}

func order(n int) []byte { return fmt.Appendf(nil, `{"no":%d,"customer":{"id":"u"},"sum":1.50}`, n) }

// A topic goes by the mapping of the policy that is in force when a message is read;
// one that is not there yet costs no message and holds up no partition.
func TestMappingOfThePolicy(t *testing.T) {
	b := newBroker(t, []string{"orders", "events", "later"})
	var rules inForce
	rules.apply(t, map[string]policy.RecordMapping{
		"erp":  erp("Ordered"),
		"crm":  {User: "$attribute.who"},
		"none": {User: "u", Event: policy.RecordField{Value: "Never"}},
	})
	topics := []Topic{
		{Name: "orders", Source: "erp", Format: JSON, Mapping: &Mapping{Name: "erp"}},
		{Name: "events", Source: "crm", Format: CloudEvents, Mapping: &Mapping{Name: "crm"}},
		{Name: "later", Source: "pos", Format: JSON, Mapping: &Mapping{Name: "till"}},
	}
	registry := prometheus.NewRegistry()
	e := ingesttest.Start(t, func(c *ingest.Config) {
		c.Remake, c.Metrics = Remake(topics, rules.now), ingest.NewMetrics(registry)
	})
	var log output
	c := config(b, e.Service, topics...)
	c.Policy, c.Logger = rules.now, log.logger()
	start(t, c)
	if !log.has("topic=later mapping=till") || log.has("mapping=erp") || log.has("mapping=crm") {
		t.Error("the start does not say which mapping is missing")
	}

	at := ingesttest.Now.Add(-time.Hour)
	b.produce(
		&kgo.Record{Topic: "orders", Timestamp: at, Value: order(1)},
		&kgo.Record{Topic: "events", Timestamp: at, Value: []byte(`{}`), Headers: []kgo.RecordHeader{
			{Key: "ce_specversion", Value: []byte("1.0")},
			{Key: "ce_id", Value: []byte("e1")},
			{Key: "ce_source", Value: []byte("s")},
			{Key: "ce_type", Value: []byte("Seen")},
			{Key: "ce_who", Value: []byte("u2")},
		}},
		&kgo.Record{Topic: "later", Timestamp: at, Key: []byte("k"), Value: order(7)},
		&kgo.Record{Topic: "later", Timestamp: at},
		&kgo.Record{Topic: "later", Timestamp: at, Value: []byte(`no JSON`)},
	)
	eventually(t, "two touchpoints and three rejects", func() bool {
		return len(e.Touchpoints(t)) == 2 && len(e.Rejects(t)) == 3 && b.committed("sojourn", "later", 0) == 3
	})
	for i, r := range e.Rejects(t) { // the newest first
		if r.Code != ingest.CodeNoMapping || r.Reason != "the policy in force has no mapping till" || r.Refused ||
			r.MessageID != fmt.Sprintf("kafka/later/0/%d", 2-i) || r.From == nil {
			t.Errorf("%+v", r)
		}
	}
	if n := value(t, registry, "sojourn_ingest_rejects_total", "reason", "no_mapping"); n != 3 {
		t.Errorf("the metric counts %v rejects without a mapping", n)
	}
	if got, err := e.Service.Replay(t.Context(), ingest.ReplayFilter{}, nil); err != nil || got != (ingest.ReplayResult{Failed: 3}) {
		t.Errorf("%+v, %v", got, err)
	}

	rules.apply(t, map[string]policy.RecordMapping{"erp": erp("Order Completed"), "crm": {User: "$attribute.who"}, "till": erp("Sold")})
	b.produce(&kgo.Record{Topic: "orders", Timestamp: at, Value: order(2)}, &kgo.Record{Topic: "later", Timestamp: at, Value: order(8)})
	eventually(t, "two more touchpoints", func() bool { return len(e.Touchpoints(t)) == 4 })
	// The null value names nobody.
	for _, want := range []ingest.ReplayResult{{Replayed: 1, Failed: 2}, {Already: 1, Failed: 2}} {
		if got, err := e.Service.Replay(t.Context(), ingest.ReplayFilter{}, nil); err != nil || got != want {
			t.Errorf("%+v, %v, want %+v", got, err, want)
		}
	}
	got := make(map[string]string)
	for _, tp := range e.Touchpoints(t) {
		got[tp.Source+" "+tp.MessageID] = tp.Name
		if tp.ReceivedAt != domain.MillisOf(at) {
			t.Errorf("%s received at %s", tp.MessageID, tp.ReceivedAt)
		}
		if tp.Source != "crm" && !strings.Contains(string(tp.Event.Data), `"properties":{"shop":12345678901234567,"total":1.50}`) {
			t.Errorf("%s", tp.Event.Data)
		}
	}
	want := map[string]string{"erp 1": "Ordered", "erp 2": "Order Completed", "crm s/e1": "Seen", "pos 8": "Sold", "pos 7": "Sold"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// What a fetch holds is read by one policy's mapping, which is made once.
func TestOneMappingForAFetch(t *testing.T) {
	e := ingesttest.Start(t)
	var rules inForce
	rules.apply(t, map[string]policy.RecordMapping{"erp": erp("First")})
	var log output
	made, err := newTopic(&Topic{Name: "t", Source: "erp", Format: JSON, Mapping: &Mapping{Name: "erp"}}, rules.now, log.logger())
	if err != nil {
		t.Fatal(err)
	}
	p := &partition{topic: made, source: &Source{service: e.Service}}
	fetch := func(from int) *fetched {
		f := &fetched{}
		for n := range 50 {
			f.records = append(f.records, record{offset: int64(from + n), time: stamp, value: order(from + n)})
		}
		return f
	}
	read := func(from int) {
		t.Helper()
		f := &parsed{}
		f.messages, f.refusals = p.parse(fetch(from))
		if _, ok := p.store(t.Context(), f); !ok {
			t.Fatal("not stored")
		}
	}
	first := made.reading()
	rules.asked.Store(0)
	read(0)
	read(50)
	if n := rules.asked.Load(); n != 2 || made.reading() != first {
		t.Errorf("the policy was asked %d times for two fetches; the mapping was made anew: %v", n, made.reading() != first)
	}
	rules.apply(t, map[string]policy.RecordMapping{"erp": erp("Second")})
	read(100)
	rules.apply(t, map[string]policy.RecordMapping{"erp": {User: "$attribute.who"}})
	read(150)
	read(200)
	names := make(map[string]int)
	for _, tp := range e.Touchpoints(t) {
		names[tp.Name]++
	}
	if fmt.Sprint(names) != "map[First:100 Second:50]" {
		t.Errorf("%v", names)
	}
	rejects := e.Rejects(t)
	if len(rejects) != 100 || rejects[0].Code != ingest.CodeNoMapping ||
		!strings.HasPrefix(rejects[0].Reason, "the mapping erp of the policy in force is not for JSON: event: a track message needs a name") {
		t.Fatalf("%d rejects, %+v", len(rejects), rejects[0])
	}
	if n := log.count("no mapping"); n != 1 {
		t.Errorf("the log says %d times that there is no mapping", n)
	}
}

// value is a metric with one label, -1 where there is none.
func value(t *testing.T, r prometheus.Gatherer, name, label, of string) float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if l := m.GetLabel(); f.GetName() == name && len(l) == 1 && l[0].GetName() == label && l[0].GetValue() == of {
				return m.GetCounter().GetValue()
			}
		}
	}
	return -1
}
