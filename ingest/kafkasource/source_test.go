package kafkasource

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"sojourn/domain"
	"sojourn/domain/policy"
	"sojourn/eventstore"
	"sojourn/ingest"
	"sojourn/ingest/internal/ingesttest"
)

func config(b *broker, service *ingest.Service, topics ...Topic) Config {
	return Config{
		Service: service, Brokers: b.addrs, Group: "sojourn", Topics: topics,
		CommitInterval: 20 * time.Millisecond, SessionTimeout: 6 * time.Second,
	}
}

// start runs a source until stop, or the end of the test.
func start(t testing.TB, c Config) (stop func()) {
	t.Helper()
	if c.Logger == nil {
		c.Logger = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func message(n int) []byte {
	return fmt.Appendf(nil, `{"type":"track","messageId":"m%d","userId":"u%d","event":"Viewed","timestamp":"2026-02-01T10:00:00.000Z"}`, n, n%7)
}

var shop = Topic{Name: "events", Source: "shop"}

func TestSegmentMessages(t *testing.T) {
	brokers(t, []string{"events"}, testSegmentMessages)
}

func testSegmentMessages(t *testing.T, b *broker) {
	e := ingesttest.Start(t)
	at := ingesttest.Now.Add(-time.Hour)
	b.produce(
		&kgo.Record{Topic: "events", Timestamp: at, Value: []byte(`{"type":"track","messageId":"a","userId":"u","event":"Viewed","timestamp":"2026-03-01T10:00:00Z","sentAt":"2026-03-01T10:00:05Z"}`)},
		&kgo.Record{Topic: "events", Partition: 2, Timestamp: at.Add(time.Second), Value: []byte(`{"type":"page","userId":"u"}`)},
		&kgo.Record{Topic: "events", Partition: 1, Timestamp: ingesttest.Now.Add(time.Hour), Value: []byte(`{"type":"page","messageId":"c","userId":"u"}`)},
	)
	start(t, config(b, e.Service, shop))
	eventually(t, "three touchpoints", func() bool { return len(e.Touchpoints(t)) == 3 })
	got := make(map[string]ingesttest.Touchpoint)
	for _, tp := range e.Touchpoints(t) {
		got[tp.MessageID] = tp
	}
	// The sender's clock is judged by when the message reached Kafka, whenever it
	// is read: 11:00:00 there were 10:00:05 with the sender.
	if tp := got["a"]; tp.ReceivedAt != domain.MillisOf(at) || tp.OccurredAt != domain.MillisOf(at.Add(-5*time.Second)) || tp.Source != "shop" {
		t.Errorf("a: %+v", tp.Header)
	}
	// Without an id it is where it stands, without a time when it reached Kafka.
	if tp := got["kafka/events/2/0"]; tp.OccurredAt != domain.MillisOf(at.Add(time.Second)) || tp.Event.ID != domain.EventID("shop", "kafka/events/2/0") {
		t.Errorf("without an id: %+v", tp.Header)
	}
	// A stamp in the future is a wrong clock's.
	if tp := got["c"]; tp.ReceivedAt != domain.MillisOf(ingesttest.Now) {
		t.Errorf("c: %+v", tp.Header)
	}
}

// slow is a log whose appends wait until they may go on, or fail.
type slow struct {
	ingesttest.Store
	mu      sync.Mutex
	fail    error
	hold    chan struct{} // appends wait for it where it is not nil
	waiting int
}

func (s *slow) AppendMany(ctx context.Context, parts []eventstore.Append) ([]eventstore.Result, error) {
	s.mu.Lock()
	fail, hold := s.fail, s.hold
	s.waiting++
	s.mu.Unlock()
	if hold != nil {
		<-hold
	}
	if fail != nil {
		return nil, fail
	}
	return s.Store.AppendMany(ctx, parts)
}

func (s *slow) set(fail error, hold chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail, s.hold, s.waiting = fail, hold, 0
}

func (s *slow) asked() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waiting > 0
}

func TestCommittedOnlyWhenDurable(t *testing.T) {
	brokers(t, []string{"events"}, testCommittedOnlyWhenDurable)
}

func testCommittedOnlyWhenDurable(t *testing.T, b *broker) {
	store := &slow{Store: ingesttest.NewMemory()}
	e := ingesttest.Over(t, store)
	store.set(eventstore.ErrUnavailable, nil)
	b.produce(&kgo.Record{Topic: "events", Value: message(1)}, &kgo.Record{Topic: "events", Value: message(2)})
	stop := start(t, config(b, e.Service, shop))
	eventually(t, "an append", store.asked)
	stop()
	if at := b.committed("sojourn", "events", 0); at > 0 {
		t.Errorf("offset %d is committed, and nothing is durable", at)
	}
	// The same store takes it later: nothing is lost.
	store.set(nil, nil)
	stop = start(t, config(b, e.Service, shop))
	eventually(t, "two touchpoints", func() bool { return len(e.Touchpoints(t)) == 2 })
	stop()
	if at := b.committed("sojourn", "events", 0); at != 2 {
		t.Errorf("offset %d is committed, want 2", at)
	}
}

// A source that stops while an append is under way waits for it and commits it.
func TestStopCommitsWhatIsUnderWay(t *testing.T) {
	b := newBroker(t, []string{"events"})
	store := &slow{Store: ingesttest.NewMemory()}
	e := ingesttest.Over(t, store)
	hold := make(chan struct{})
	store.set(nil, hold)
	b.produce(&kgo.Record{Topic: "events", Value: message(1)})
	stop := start(t, config(b, e.Service, shop))
	eventually(t, "an append", store.asked)
	stopped := make(chan struct{})
	go func() { defer close(stopped); stop() }()
	close(hold)
	<-stopped
	if at := b.committed("sojourn", "events", 0); at != 1 {
		t.Errorf("offset %d is committed, want 1", at)
	}
}

func TestPoison(t *testing.T) {
	brokers(t, []string{"events"}, testPoison)
}

func testPoison(t *testing.T, b *broker) {
	e := ingesttest.Start(t)
	registry := prometheus.NewRegistry()
	long := strings.Repeat("x", 40_000)
	values := []string{
		`nonsense`, ``, `{"type":"track"}`, `[1]`, "\xff\xfe\x00", `{"type":"track","userId":"u","event":"` + long + `"}`,
		`{"type":"track","userId":"u","event":"E","timestamp":"yesterday"}`,
	}
	var records []*kgo.Record
	for i, v := range values {
		records = append(records, &kgo.Record{Topic: "events", Value: []byte(v)}, &kgo.Record{Topic: "events", Value: message(i)})
	}
	records = append(records, &kgo.Record{Topic: "events", Value: nil})
	b.produce(records...)
	c := config(b, e.Service, shop)
	c.Registerer = registry
	stop := start(t, c)
	eventually(t, "the partition read to its end", func() bool { return b.committed("sojourn", "events", 0) == int64(len(records)) })
	if n := len(e.Touchpoints(t)); n != len(values) {
		t.Errorf("%d touchpoints, want %d", n, len(values))
	}
	var got []string
	for _, r := range e.Rejects(t) {
		got = append(got, string(r.Code)+" "+string(r.Raw[:min(len(r.Raw), 60)]))
	}
	slices.Sort(got)
	want := []string{
		"bad_time " + values[6][:60], "invalid_json ", "invalid_json ", "invalid_json nonsense", "invalid_json \xff\xfe\x00", "no_id " + values[2],
		"not_an_object [1]", "too_large " + values[5][:60],
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("rejects\n%q, want\n%q", got, want)
	}
	if err := testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP sojourn_kafka_lag_messages Messages of an assigned partition that are not durable here yet.
# TYPE sojourn_kafka_lag_messages gauge
sojourn_kafka_lag_messages{partition="0",topic="events"} 0
sojourn_kafka_lag_messages{partition="1",topic="events"} 0
sojourn_kafka_lag_messages{partition="2",topic="events"} 0
`), "sojourn_kafka_lag_messages"); err != nil {
		t.Error(err)
	}
	for name, want := range map[string]float64{"rejects": 8, "messages": 15} {
		if got := metric(t, registry, "sojourn_kafka_"+name+"_total", "0"); got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	stop()
	if n := testutil.CollectAndCount(registry, "sojourn_kafka_lag_messages"); n != 0 {
		t.Errorf("the lag of %d partitions is told after the end", n)
	}
	// What is kept can be replayed as a whole, and still fails.
	if r, err := e.Service.Replay(t.Context(), ingest.ReplayFilter{}, nil); err != nil || r.Failed != 8 || r.Replayed != 0 {
		t.Errorf("replay: %+v, %v", r, err)
	}
}

// metric is the value of a counter or gauge of a partition, -1 where there is none.
func metric(t *testing.T, r *prometheus.Registry, name, partition string) float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.Metric {
			for _, l := range m.Label {
				if f.GetName() == name && l.GetName() == "partition" && l.GetValue() == partition {
					return m.GetCounter().GetValue() + m.GetGauge().GetValue()
				}
			}
		}
	}
	return -1
}

func TestLag(t *testing.T) {
	b := newBroker(t, []string{"events"})
	store := &slow{Store: ingesttest.NewMemory()}
	e := ingesttest.Over(t, store)
	registry := prometheus.NewRegistry()
	c := config(b, e.Service, shop)
	c.Registerer = registry
	start(t, c)
	b.produce(&kgo.Record{Topic: "events", Value: message(0)})
	eventually(t, "one touchpoint", func() bool { return len(e.Touchpoints(t)) == 1 })
	hold := make(chan struct{})
	store.set(nil, hold)
	for n := range 5 {
		b.produce(&kgo.Record{Topic: "events", Value: message(n + 1)})
	}
	// While the store takes nothing, nothing is fetched, and the lag grows.
	eventually(t, "the lag of all five", func() bool { return metric(t, registry, "sojourn_kafka_lag_messages", "0") == 5 })
	store.set(nil, nil)
	close(hold)
	eventually(t, "no lag", func() bool {
		return metric(t, registry, "sojourn_kafka_messages_total", "0") == 6 && metric(t, registry, "sojourn_kafka_lag_messages", "0") == 0
	})
}

// transactional makes a client that writes in transactions.
func (b *broker) transactional(id string) *kgo.Client { return b.client(kgo.TransactionalID(id)) }

func transact(t *testing.T, c *kgo.Client, end kgo.TransactionEndTry, values ...[]byte) {
	t.Helper()
	if err := c.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	for _, v := range values {
		produce(t, c, &kgo.Record{Topic: "events", Value: v})
	}
	if err := c.EndTransaction(t.Context(), end); err != nil {
		t.Fatal(err)
	}
}

func TestTransactions(t *testing.T) {
	brokers(t, []string{"events"}, testTransactions)
}

func testTransactions(t *testing.T, b *broker) {
	e := ingesttest.Start(t)
	one, two := b.transactional("one"), b.transactional("two")
	b.produce(&kgo.Record{Topic: "events", Value: message(1)})
	transact(t, one, kgo.TryAbort, message(100), message(101))
	transact(t, one, kgo.TryCommit, message(2))
	// Two transactions, one within the other; the outer one fails.
	if err := two.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	produce(t, two, &kgo.Record{Topic: "events", Value: message(102)})
	transact(t, one, kgo.TryCommit, message(3), message(4))
	produce(t, two, &kgo.Record{Topic: "events", Value: message(103)})
	b.produce(&kgo.Record{Topic: "events", Value: message(5)})
	if err := two.EndTransaction(t.Context(), kgo.TryAbort); err != nil {
		t.Fatal(err)
	}
	transact(t, two, kgo.TryCommit, message(6))
	transact(t, one, kgo.TryAbort, message(104))
	start(t, config(b, e.Service, shop))
	eventually(t, "the partition read to its end, the last marker too", func() bool {
		// A broker writes the marker after it has answered.
		end := b.end("events", 0)
		return end == 17 && b.committed("sojourn", "events", 0) == end
	})
	var got []string
	for _, tp := range e.Touchpoints(t) {
		got = append(got, tp.MessageID)
	}
	slices.Sort(got)
	if want := []string{"m1", "m2", "m3", "m4", "m5", "m6"}; !slices.Equal(got, want) {
		t.Errorf("touchpoints %v, want %v", got, want)
	}
	if r := e.Rejects(t); len(r) != 0 {
		t.Errorf("%d rejects: %+v", len(r), r[0])
	}
	// A transaction that is open hides what is behind it until it ends.
	if err := one.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	produce(t, one, &kgo.Record{Topic: "events", Value: message(7)})
	b.produce(&kgo.Record{Topic: "events", Value: message(8)}, &kgo.Record{Topic: "events", Partition: 1, Value: message(9)})
	eventually(t, "the other partition read", func() bool { return len(e.Touchpoints(t)) == 7 })
	if err := one.EndTransaction(t.Context(), kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	eventually(t, "both messages", func() bool { return len(e.Touchpoints(t)) == 9 })
}

func TestRebalance(t *testing.T) {
	brokers(t, []string{"events", "more"}, testRebalance)
}

func testRebalance(t *testing.T, b *broker) {
	const messages = 3000
	e := ingesttest.Start(t)
	topics := []Topic{shop, {Name: "more", Source: "shop"}}
	var stops []func()
	member := func() { stops = append(stops, start(t, config(b, e.Service, topics...))) }
	client := b.client()
	sent := 0
	send := func(upTo int) {
		var records []*kgo.Record
		for ; sent < upTo; sent++ {
			topic := "events"
			if sent%2 == 1 {
				topic = "more"
			}
			records = append(records, &kgo.Record{Topic: topic, Partition: int32(sent % 3), Value: message(sent)})
		}
		produce(t, client, records...)
	}
	member()
	send(messages / 4)
	b.stable("sojourn", 1)
	member()
	member()
	send(messages / 2)
	b.stable("sojourn", 3)
	send(messages * 3 / 4)
	stops[0]()
	b.stable("sojourn", 2)
	send(messages)
	eventually(t, "all touchpoints", func() bool { return len(e.Touchpoints(t)) >= messages })
	// ingesttest.Touchpoints fails where the log holds an event id twice.
	if got := len(e.Touchpoints(t)); got != messages {
		t.Errorf("%d touchpoints, want %d", got, messages)
	}
	for _, stop := range stops {
		stop()
	}
	for _, topic := range []string{"events", "more"} {
		for p := range 3 {
			if at, end := b.committed("sojourn", topic, p), b.end(topic, p); at != end {
				t.Errorf("%s/%d: offset %d is committed, want %d", topic, p, at, end)
			}
		}
	}
}

// A member that dies commits nothing more; who takes over reads what it had read
// since, and adds nothing twice.
func TestReadAgain(t *testing.T) {
	b := newBroker(t, []string{"events"})
	e := ingesttest.Start(t)
	for n := range 50 {
		b.produce(&kgo.Record{Topic: "events", Value: message(n)}, &kgo.Record{Topic: "events", Value: []byte(`{"type":"page","userId":"u"}`)},
			&kgo.Record{Topic: "events", Value: []byte(`{"type":"page"}`)})
	}
	first := config(b, e.Service, shop)
	stop := start(t, first)
	eventually(t, "all touchpoints", func() bool { return len(e.Touchpoints(t)) == 100 })
	stop()
	head, err := e.Store.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	again := config(b, e.Service, shop)
	again.Group = "again"
	start(t, again)
	eventually(t, "the partition read again", func() bool { return b.committed("again", "events", 0) == 150 })
	if now, err := e.Store.Head(t.Context()); err != nil || now != head {
		t.Errorf("the log went on from %d to %d (%v)", head, now, err)
	}
}

func TestNewPartitionsAndTopics(t *testing.T) {
	b := newBroker(t, []string{"events"})
	e := ingesttest.Start(t)
	start(t, config(b, e.Service, shop, Topic{Name: "later", Source: "shop"}))
	b.produce(&kgo.Record{Topic: "events", Value: message(1)})
	eventually(t, "the topic that is there", func() bool { return len(e.Touchpoints(t)) == 1 })
	if err := b.CreateTopic("later", 1, nil); err != nil {
		t.Fatal(err)
	}
	b.produce(&kgo.Record{Topic: "later", Value: message(2)})
	eventually(t, "the topic that came later", func() bool { return len(e.Touchpoints(t)) == 2 })
	request := kmsg.NewPtrCreatePartitionsRequest()
	request.Topics = []kmsg.CreatePartitionsRequestTopic{{Topic: "events", Count: 4}}
	if _, err := request.RequestWith(t.Context(), b.client()); err != nil {
		t.Fatal(err)
	}
	b.produce(&kgo.Record{Topic: "events", Partition: 3, Value: message(3)})
	eventually(t, "the new partition", func() bool { return len(e.Touchpoints(t)) == 3 })
}

func TestOffsetsThatAreGone(t *testing.T) {
	b := newBroker(t, []string{"events"})
	e := ingesttest.Start(t)
	registry := prometheus.NewRegistry()
	b.produce(&kgo.Record{Topic: "events", Value: message(1)})
	stop := start(t, config(b, e.Service, shop))
	eventually(t, "one committed", func() bool { return b.committed("sojourn", "events", 0) == 1 })
	stop()
	for n := range 5 {
		b.produce(&kgo.Record{Topic: "events", Value: message(n + 2)})
	}
	if err := b.DeleteRecords("events", 0, 4); err != nil {
		t.Fatal(err)
	}
	c := config(b, e.Service, shop)
	c.Registerer = registry
	start(t, c)
	eventually(t, "what is left", func() bool { return len(e.Touchpoints(t)) == 3 })
	eventually(t, "the count of what is lost", func() bool { return metric(t, registry, "sojourn_kafka_lost_offsets_total", "0") == 3 })
}

// Compaction leaves offsets without a message, at the end of a batch too.
func TestCompactedTopic(t *testing.T) {
	b := newBroker(t, nil)
	if err := b.CreateTopic("events", 1, map[string]string{"cleanup.policy": "compact"}); err != nil {
		t.Fatal(err)
	}
	e := ingesttest.Start(t)
	client := b.client()
	for n := range 20 { // one batch each, of ten messages with two keys
		var records []*kgo.Record
		for i := range 10 {
			records = append(records, &kgo.Record{Topic: "events", Key: fmt.Appendf(nil, "%d", i%2*n%5), Value: message(10*n + i)})
		}
		produce(t, client, records...)
	}
	b.Compact()
	end := b.end("events", 0)
	start(t, config(b, e.Service, shop))
	eventually(t, "the partition read to its end", func() bool { return b.committed("sojourn", "events", 0) == end })
	if n := len(e.Touchpoints(t)); n == 0 || n == 200 {
		t.Errorf("%d touchpoints: the topic was not compacted", n)
	}
}

func TestFromEnd(t *testing.T) {
	b := newBroker(t, []string{"events"})
	e := ingesttest.Start(t)
	b.produce(&kgo.Record{Topic: "events", Value: message(1)})
	c := config(b, e.Service, shop)
	c.FromEnd = true
	stop := start(t, c)
	eventually(t, "the end committed", func() bool { return b.committed("sojourn", "events", 0) == 1 })
	stop()
	// Written while nobody reads, but after the group had its place.
	b.produce(&kgo.Record{Topic: "events", Value: message(2)})
	start(t, c)
	eventually(t, "the second message", func() bool { return len(e.Touchpoints(t)) == 1 })
	if tp := e.Touchpoints(t)[0]; tp.MessageID != "m2" {
		t.Errorf("message %s", tp.MessageID)
	}
}

// A broker that is away delays and loses nothing.
func TestBrokerErrors(t *testing.T) {
	b := newBroker(t, []string{"events"})
	e := ingesttest.Start(t)
	b.produce(&kgo.Record{Topic: "events", Value: message(1)})
	left := 3
	b.ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) {
		if left--; left >= 0 {
			b.KeepControl()
			return nil, errors.New("the connection breaks"), true
		}
		return nil, nil, false
	})
	start(t, config(b, e.Service, shop))
	eventually(t, "the message", func() bool { return len(e.Touchpoints(t)) == 1 })
}

func TestAuthentication(t *testing.T) {
	for _, mechanism := range []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"} {
		t.Run(mechanism, func(t *testing.T) {
			// A certificate that somebody else made.
			web := httptest.NewUnstartedServer(nil)
			web.StartTLS()
			certificate := web.TLS.Certificates[0]
			roots := x509.NewCertPool()
			roots.AddCert(web.Certificate())
			web.Close()
			b := newBroker(t, []string{"events"}, kfake.EnableSASL(), kfake.Superuser(mechanism, "sojourn", "secret"),
				kfake.TLS(&tls.Config{Certificates: []tls.Certificate{certificate}}))
			e := ingesttest.Start(t)
			good, err := Password(mechanism, "sojourn", "secret")
			if err != nil {
				t.Fatal(err)
			}
			bad, err := Password(mechanism, "sojourn", "wrong")
			if err != nil {
				t.Fatal(err)
			}
			c := config(b, e.Service, shop)
			c.TLS = &tls.Config{RootCAs: roots, ServerName: "example.com", MinVersion: tls.VersionTLS12}
			c.SASL = bad
			var log output
			c.Logger = log.logger()
			stop := start(t, c)
			eventually(t, "a refusal in the log", func() bool { return log.has("kafka topics not read") })
			stop()
			if b.GroupInfo("sojourn") != nil {
				t.Error("the group was joined with a wrong password")
			}
			c.SASL = good
			start(t, c)
			eventually(t, "a member", func() bool {
				info := b.GroupInfo("sojourn")
				return info != nil && len(info.Members) == 1
			})
			if log.has("secret") {
				t.Error("the log holds the password")
			}
		})
	}
}

func TestOAuthBearer(t *testing.T) {
	token := "abc"
	m := OAuthBearer{Token: func(context.Context) (string, error) { return token, nil }, Extensions: map[string]string{"logicalCluster": "lkc-1"}}
	session, first, err := m.Start(t.Context())
	if want := "n,,\x01auth=Bearer abc\x01logicalCluster=lkc-1\x01\x01"; err != nil || string(first) != want || m.Name() != "OAUTHBEARER" {
		t.Errorf("%q, %v, want %q", first, err, want)
	}
	if done, _, err := session.Next(t.Context(), nil); !done || err != nil {
		t.Error(done, err)
	}
	if done, _, err := session.Next(t.Context(), []byte(`{"status":"invalid_token"}`)); done || err == nil || !strings.Contains(err.Error(), "invalid_token") {
		t.Error(done, err)
	}
	for _, token = range []string{"", "a\x01b", "a\n"} {
		if _, _, err := m.Start(t.Context()); err == nil {
			t.Errorf("token %q was taken", token)
		}
	}
}

func TestValidate(t *testing.T) {
	service := ingesttest.Start(t).Service
	good := Config{Service: service, Brokers: []string{"127.0.0.1:9092"}, Group: "g", Topics: []Topic{shop}}
	if _, err := New(good); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Config){
		"kafka.brokers: name at least one":             func(c *Config) { c.Brokers = nil },
		`"nowhere" is no address`:                      func(c *Config) { c.Brokers = []string{"nowhere"} },
		"kafka.group":                                  func(c *Config) { c.Group = "" },
		"kafka.topics: name at least one":              func(c *Config) { c.Topics = nil },
		"kafka.topics[1]: events stands here twice":    func(c *Config) { c.Topics = []Topic{shop, shop} },
		"topics[0].name":                               func(c *Config) { c.Topics = []Topic{{Source: "a"}} },
		"topics[0].source":                             func(c *Config) { c.Topics = []Topic{{Name: "a", Source: "a b"}} },
		`topics[0].format: "avro"`:                     func(c *Config) { c.Topics = []Topic{{Name: "a", Source: "a", Format: "avro"}} },
		"topics[0].mapping: JSON needs one":            func(c *Config) { c.Topics = []Topic{{Name: "a", Source: "a", Format: JSON}} },
		"topics[0].mapping: a Segment message needs":   func(c *Config) { c.Topics = []Topic{{Name: "a", Source: "a", Mapping: own(policy.RecordMapping{})}} },
		"mapping.user: name the path":                  mapped(policy.RecordMapping{}),
		"mapping.event: a track message needs a name":  mapped(policy.RecordMapping{User: "u"}),
		`mapping.type: "buy"`:                          mapped(policy.RecordMapping{User: "u", Type: "buy"}),
		`mapping.user: "$hdr.x" is none of`:            mapped(policy.RecordMapping{User: "$hdr.x"}),
		`mapping.user: "$attribute.id" is none of`:     mapped(policy.RecordMapping{User: "$attribute.id"}),
		"mapping.time.format":                          mapped(policy.RecordMapping{User: "u", Time: policy.RecordTime{Format: "whenever"}}),
		"mapping.identity[0]: an empty path":           mapped(policy.RecordMapping{User: "u", Identity: []string{""}}),
		"mapping.properties.a: write field: or value:": mapped(policy.RecordMapping{User: "u", Properties: map[string]policy.RecordField{"a": {}}}),
		"mapping.traits.a.kind":                        mapped(policy.RecordMapping{User: "u", Traits: map[string]policy.RecordField{"a": {Field: "x", Kind: "float"}}}),
		`topics[0].mapping: "ERP" is no name`: func(c *Config) {
			c.Topics = []Topic{{Name: "a", Source: "a", Format: JSON, Mapping: &Mapping{Name: "ERP"}}}
		},
		"topics[0].mapping: a Kafka source with": func(c *Config) {
			c.Topics = []Topic{{Name: "a", Source: "a", Format: JSON, Mapping: &Mapping{Name: "erp"}}}
		},
		"mapping.event.value: the name must be text": mapped(policy.RecordMapping{User: "u", Event: policy.RecordField{Value: 3}}),
	} {
		c := good
		change(&c)
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func mapped(m policy.RecordMapping) func(*Config) {
	return func(c *Config) { c.Topics = []Topic{{Name: "a", Source: "a", Format: JSON, Mapping: own(m)}} }
}
