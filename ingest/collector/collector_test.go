package collector_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"sojourn/eventstore"
	"sojourn/ingest"
	"sojourn/ingest/collector"
	"sojourn/ingest/internal/ingesttest"
	"sojourn/ingest/kafkasource"
	"sojourn/ingest/segmentapi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const within = 60 * time.Second

// broker is one of kfake in this process, or the real one whose address
// SOJOURN_TEST_KAFKA_ADDRESS gives; make test-kafka does.
type broker struct {
	*kfake.Cluster // nil for a real one
	addrs          []string
	topic          string // a new one
}

func newBroker(t *testing.T) *broker {
	t.Helper()
	if real := os.Getenv("SOJOURN_TEST_KAFKA_ADDRESS"); real != "" {
		b := &broker{addrs: []string{real}, topic: "collected-" + uuid.NewString()}
		wire := &kafka.Transport{}
		t.Cleanup(wire.CloseIdleConnections)
		client := &kafka.Client{Addr: kafka.TCP(real), Transport: wire}
		answer, err := client.CreateTopics(t.Context(), &kafka.CreateTopicsRequest{
			Topics: []kafka.TopicConfig{{Topic: b.topic, NumPartitions: 3, ReplicationFactor: 1}},
		})
		if err != nil || answer.Errors[b.topic] != nil {
			t.Fatal(err, answer)
		}
		return b
	}
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(3, "collected"), kfake.GroupMinSessionTimeout(100*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return &broker{Cluster: c, addrs: c.ListenAddrs(), topic: "collected"}
}

// run runs something until stop, or the end of the test.
func run(t *testing.T, f func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatal("still not: " + what)
		}
	}
}

func logger(t *testing.T) *slog.Logger { return slog.New(slog.NewTextHandler(t.Output(), nil)) }

// server is the tracking API before a service.
type server struct {
	*httptest.Server
	key string
}

func serve(t *testing.T, service segmentapi.Service, keys segmentapi.Keys, key string) server {
	t.Helper()
	h, err := segmentapi.New(segmentapi.Config{Service: service, Keys: keys, Logger: logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	s := server{httptest.NewServer(h), key}
	t.Cleanup(s.Close)
	return s
}

func (s server) post(t *testing.T, path, body string) (status int, header http.Header) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth(s.key, "")
	res, err := s.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, res.Body)
	if err := res.Body.Close(); err != nil {
		t.Error(err)
	}
	return res.StatusCode, res.Header
}

// collect starts a collector and waits until it takes calls.
func collect(t *testing.T, c *broker, change ...func(*collector.Config)) *collector.Collector {
	t.Helper()
	config := collector.Config{
		Brokers: c.addrs, Topic: c.topic, AllowUnreplicated: true, Logger: logger(t),
		Clock: func() time.Time { return ingesttest.Now },
	}
	for _, f := range change {
		f(&config)
	}
	col, err := collector.New(config)
	if err != nil {
		t.Fatal(err)
	}
	run(t, col.Run)
	eventually(t, "a collector that takes calls", func() bool {
		_, err := col.Ingest(t.Context(), &ingest.Batch{Source: "probe", Messages: []ingest.Message{probe(t)}}, 0)
		return err == nil
	})
	return col
}

func probe(t *testing.T) ingest.Message {
	t.Helper()
	m, err := ingest.ParseMessage([]byte(`{"type":"page","messageId":"probe","userId":"probe"}`))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// write moves the topic to a log.
func write(t *testing.T, c *broker, service *ingest.Service) (stop func()) {
	t.Helper()
	source, err := kafkasource.New(kafkasource.Config{
		Service: service, Brokers: c.addrs, Group: c.topic + "-writers", Logger: logger(t),
		Topics:         []kafkasource.Topic{{Name: c.topic, Source: "collector", Format: kafkasource.Collected}},
		CommitInterval: 20 * time.Millisecond, SessionTimeout: 6 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	return run(t, source.Run)
}

// calls are of every kind that differs on its way.
var calls = []struct{ path, body string }{
	{"/v1/track", `{"messageId":"t1","userId":"u1","event":"Viewed","timestamp":"2026-03-01T11:00:00Z","sentAt":"2026-03-01T11:00:05Z"}`},
	{"/v1/track", `{"messageId":"t1","userId":"u1","event":"Viewed","timestamp":"2026-03-01T11:00:00Z","sentAt":"2026-03-01T11:00:06Z"}`}, // again
	{"/v1/track", `{"messageId":"t1","userId":"u1","event":"Other"}`},                                                                     // another content
	{"/v1/identify", `{"messageId":"i1","userId":"u1","anonymousId":"a1","traits":{"plan":"pro"}}`},
	{"/v1/batch", `{"sentAt":"2026-03-01T11:00:05Z","context":{"ip":"10.0.0.1"},"integrations":{"All":true},"batch":[
		{"type":"page","messageId":"b1","anonymousId":"a1","timestamp":"2026-03-01T10:00:00Z"},
		{"type":"track","messageId":"b2","anonymousId":"a1"}, 7, {"type":"nonsense","messageId":"b4","userId":"u2"},
		{"type":"track","messageId":"b5","userId":"0","event":"Of nobody"}]}`},
	{"/v1/batch", `{"batch":[` + strings.Repeat(`{"type":"page","userId":"u9","messageId":"same"},`, 2500) + `{"type":"page","userId":"u9","messageId":"behind"}]}`},
	{"/v1/batch", `{"context":{"x":"` + strings.Repeat("x", 40_000) + `"},"batch":[{"type":"page","userId":"u9","messageId":"m"}]}`},
	{"/v1/batch", `{"batch":7}`},
	{"/v1/track", `no JSON`},
	{"/v1/batch", `{"batch":[{"type":"page","userId":"u9","messageId":"` + strings.Repeat("y", 524_288) + `"}]}`},
}

// What came through a collector and Kafka stands in the log as what came
// straight: every touchpoint, reject and refused call, with the same ids.
func TestSameAsStraight(t *testing.T) {
	c := newBroker(t)
	straight, through := ingesttest.Start(t), ingesttest.Start(t)
	direct := serve(t, straight.Service, straight.Keys, straight.Key)
	collected := serve(t, collect(t, c), through.Keys, through.Key)
	stop := write(t, c, through.Service)
	for i, call := range calls {
		want, _ := direct.post(t, call.path, call.body)
		got, header := collected.post(t, call.path, call.body)
		if got != want {
			t.Errorf("call %d is answered %d, and straight %d", i, got, want)
		}
		if at := header.Get(segmentapi.PositionHeader); at != "" {
			t.Errorf("call %d is answered with the position %s", i, at)
		}
	}
	if len(straight.Touchpoints(t)) < 4 || len(straight.Rejects(t)) < 10 {
		t.Fatalf("the calls make %d touchpoints and %d rejects", len(straight.Touchpoints(t)), len(straight.Rejects(t)))
	}
	eventually(t, "everything in the log", func() bool {
		return len(through.Touchpoints(t)) == len(straight.Touchpoints(t))+1 && len(through.Rejects(t)) == len(straight.Rejects(t))
	})
	stop()
	// Which of two messages with one id came first is another partition's matter;
	// the ids given to those without one are random.
	touchpoints := func(e *ingesttest.Env) (all []string) {
		for _, tp := range e.Touchpoints(t) {
			if tp.Source != "probe" {
				all = append(all, fmt.Sprintf("%s %s %s %s %+v", tp.Event.ID, tp.Event.Stream, tp.Event.Type, tp.Event.Data, tp.Header))
			}
		}
		slices.Sort(all)
		return all
	}
	if got, want := touchpoints(through), touchpoints(straight); !slices.Equal(got, want) {
		t.Errorf("touchpoints\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	rejects := func(e *ingesttest.Env) (all []ingest.Reject) {
		all = e.Rejects(t)
		for i := range all {
			r := &all[i]
			r.Position, r.RecordedAt = 0, time.Time{}
			if r.Code == ingest.CodeNotAnObject || r.Code == ingest.CodeContextTooBig {
				r.ID, r.MessageID = [16]byte{}, ""
			}
		}
		slices.SortFunc(all, func(a, b ingest.Reject) int {
			return cmp.Or(cmp.Compare(a.Code, b.Code), slices.Compare(a.Raw, b.Raw))
		})
		return all
	}
	got, want := rejects(through), rejects(straight)
	for i := range want {
		g, w := fmt.Sprintf("%+v", got[i]), fmt.Sprintf("%+v", want[i])
		if g != w {
			t.Errorf("reject %d is\n%.900s\nwant\n%.900s", i, g, w)
		}
	}
}

// A message is keyed by its subject; one without an id gets one that stays when
// it is read twice.
func TestOrderAndIdentity(t *testing.T) {
	c := newBroker(t)
	e := ingesttest.Start(t)
	s := serve(t, collect(t, c), e.Keys, e.Key)
	const each = 40
	var group sync.WaitGroup
	for u := range 5 {
		group.Go(func() {
			for n := range each {
				if status, _ := s.post(t, "/v1/track", fmt.Sprintf(`{"userId":"u%d","event":"E","properties":{"n":%d}}`, u, n)); status != http.StatusOK {
					t.Errorf("status %d", status)
				}
			}
		})
	}
	group.Wait()
	stop := write(t, c, e.Service)
	full := func() bool { return len(e.Touchpoints(t)) == 5*each+1 }
	eventually(t, "everything in the log", full)
	stop()
	// Another group reads everything again and adds nothing.
	source, err := kafkasource.New(kafkasource.Config{
		Service: e.Service, Brokers: c.addrs, Group: c.topic + "-again", Logger: logger(t),
		Topics:         []kafkasource.Topic{{Name: c.topic, Source: "collector", Format: kafkasource.Collected}},
		CommitInterval: 20 * time.Millisecond, SessionTimeout: 6 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	run(t, source.Run)
	wire := &kafka.Transport{}
	defer wire.CloseIdleConnections()
	client := &kafka.Client{Addr: kafka.TCP(c.addrs...), Transport: wire}
	eventually(t, "the topic read again", func() bool {
		sum := int64(0)
		answer, err := client.OffsetFetch(t.Context(), &kafka.OffsetFetchRequest{GroupID: c.topic + "-again", Topics: map[string][]int{c.topic: {0, 1, 2}}})
		if err == nil {
			for _, p := range answer.Topics[c.topic] {
				sum += max(p.CommittedOffset, 0)
			}
		}
		return sum == 5*each+1
	})
	if !full() || len(e.Rejects(t)) != 0 {
		t.Fatalf("%d touchpoints, %d rejects", len(e.Touchpoints(t)), len(e.Rejects(t)))
	}
	next := make(map[string]int)
	for _, tp := range e.Touchpoints(t) {
		if tp.UserID == "probe" {
			continue
		}
		if want := fmt.Sprintf(`"n":%d}`, next[tp.UserID]); !strings.Contains(string(tp.Event.Data), want) {
			t.Fatalf("%s holds %s, want %s", tp.UserID, tp.Event.Data, want)
		}
		next[tp.UserID]++
	}
}

// While Kafka takes nothing calls are answered 503, and what was acknowledged
// before, between and after is in the log.
func TestKafkaAway(t *testing.T) {
	c := newBroker(t)
	if c.Cluster == nil {
		t.Skip("a real broker does not hang up when it is asked to: without SOJOURN_TEST_KAFKA_ADDRESS this runs on one in the process, and e2e.TestKafkaCollectorOutage (make test-kafka) ends a real one")
	}
	e := ingesttest.Start(t)
	s := serve(t, collect(t, c), e.Keys, e.Key)
	var away sync.Mutex
	failing := false
	c.ControlKey(int16(kmsg.Produce), func(r kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		away.Lock()
		defer away.Unlock()
		if failing {
			return nil, errors.New("the broker has hung up"), true
		}
		return nil, nil, false
	})
	set := func(f bool) {
		away.Lock()
		failing = f
		away.Unlock()
	}
	acknowledged := make(map[string]bool)
	n := 0
	send := func() int {
		n++
		id := fmt.Sprintf("m%d", n)
		status, header := s.post(t, "/v1/track", fmt.Sprintf(`{"messageId":%q,"userId":"u%d","event":"E"}`, id, n%7))
		switch status {
		case http.StatusOK:
			acknowledged[id] = true
		case http.StatusServiceUnavailable:
			if header.Get("Retry-After") == "" {
				t.Error("503 without Retry-After")
			}
		default:
			t.Fatalf("status %d", status)
		}
		return status
	}
	for range 20 {
		send()
	}
	set(true)
	eventually(t, "503", func() bool { return send() == http.StatusServiceUnavailable })
	set(false)
	eventually(t, "200", func() bool { return send() == http.StatusOK })
	for range 20 {
		send()
	}
	write(t, c, e.Service)
	eventually(t, "everything that was acknowledged", func() bool {
		in := make(map[string]bool)
		for _, tp := range e.Touchpoints(t) {
			in[tp.MessageID] = true
		}
		for id := range acknowledged {
			if !in[id] {
				return false
			}
		}
		return len(acknowledged) >= 41
	})
}

func TestTopicsThatAreRefused(t *testing.T) {
	c := newBroker(t)
	set := func(name, value string) {
		client, err := kgo.NewClient(kgo.SeedBrokers(c.addrs...))
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		req := kmsg.NewIncrementalAlterConfigsRequest()
		resource := kmsg.NewIncrementalAlterConfigsRequestResource()
		resource.ResourceType, resource.ResourceName = kmsg.ConfigResourceTypeTopic, c.topic
		entry := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
		entry.Name, entry.Value = name, &value
		resource.Configs = append(resource.Configs, entry)
		req.Resources = append(req.Resources, resource)
		answer, err := req.RequestWith(t.Context(), client)
		if err != nil || answer.Resources[0].ErrorCode != 0 {
			t.Fatal(err, answer)
		}
	}
	refused := func(allow bool, want string) {
		t.Helper()
		col, err := collector.New(collector.Config{Brokers: c.addrs, Topic: c.topic, AllowUnreplicated: allow})
		if err != nil {
			t.Fatal(err)
		}
		if err := col.Run(t.Context()); !errors.Is(err, collector.ErrTopic) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	refused(false, "--allow-unreplicated")
	set("max.message.bytes", "1000")
	refused(true, "max.message.bytes=1000")
	set("cleanup.policy", "compact")
	refused(true, "cleanup.policy=compact")
}

// A record that no collector wrote stops nothing.
func TestForeignRecord(t *testing.T) {
	c := newBroker(t)
	e := ingesttest.Start(t)
	client, err := kgo.NewClient(kgo.SeedBrokers(c.addrs...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := client.ProduceSync(t.Context(),
		&kgo.Record{Topic: c.topic, Value: []byte(`{"type":"page","userId":"u"}`)},
		&kgo.Record{Topic: c.topic, Value: []byte(`{"type":"page","userId":"u"}`), Headers: []kgo.RecordHeader{
			{Key: "sojourn", Value: []byte("1")}, {Key: "source", Value: []byte("app")}, {Key: "reject", Value: []byte("new_code")},
		}},
		&kgo.Record{Topic: c.topic, Value: []byte(`{"type":"page","userId":"v"}`), Headers: []kgo.RecordHeader{
			{Key: "sojourn", Value: []byte("2")}, {Key: "source", Value: []byte("app")},
		}},
	).FirstErr(); err != nil {
		t.Fatal(err)
	}
	write(t, c, e.Service)
	eventually(t, "three rejects", func() bool { return len(e.Rejects(t)) == 3 })
	var got []string
	for _, r := range e.Rejects(t) {
		got = append(got, fmt.Sprint(r.Code, " ", r.Source, " ", r.Refused))
	}
	slices.Sort(got)
	if want := []string{"new_code app false", "not_collected collector true", "not_collected collector true"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// keyLog is a log of keys that may be away.
type keyLog struct {
	ingest.KeyReader
	mu   sync.Mutex
	away bool
}

func (k *keyLog) set(away bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.away = away
}

func (k *keyLog) ReadStream(ctx context.Context, stream string, from uint64, dir eventstore.Direction) iter.Seq2[eventstore.Recorded, error] {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.away {
		return func(yield func(eventstore.Recorded, error) bool) { yield(eventstore.Recorded{}, errors.New("away")) }
	}
	return k.KeyReader.ReadStream(ctx, stream, from, dir)
}

// A key that is known is good while the log is away, after a start too; one that
// is not is 503 then, and 401 only where the log says so.
func TestKnownKeys(t *testing.T) {
	e := ingesttest.Start(t)
	log := &keyLog{KeyReader: e.Store}
	path := filepath.Join(t.TempDir(), "write-keys")
	open := func() (*ingest.KnownKeys, func()) {
		k, err := ingest.OpenKnownKeys(path, log, logger(t))
		if err != nil {
			t.Fatal(err)
		}
		return k, run(t, func(ctx context.Context) error { k.Run(ctx); return nil })
	}
	// With nothing known and nobody to ask it is no key's fault.
	log.set(true)
	keys, stop := open()
	if _, err := keys.Source(e.Key); !errors.Is(err, ingest.ErrKeysAway) {
		t.Errorf("at the first start without a log: %v", err)
	}
	log.set(false)
	if source, err := keys.Source(e.Key); source != "shop" || err != nil {
		t.Errorf("%s, %v", source, err)
	}
	if _, err := keys.Source("nonsense"); !errors.Is(err, ingest.ErrNoSuchKey) {
		t.Errorf("unknown to the log: %v", err)
	}
	// A key is good from the return of its making on.
	made, _, err := e.Keys.Create(t.Context(), "app")
	if err != nil {
		t.Fatal(err)
	}
	if source, err := keys.Source(made); source != "app" || err != nil {
		t.Errorf("%s, %v", source, err)
	}
	log.set(true)
	if _, err := keys.Source("nonsense"); !errors.Is(err, ingest.ErrKeysAway) {
		t.Errorf("unknown, with the log away: %v", err)
	}
	stop()
	if _, err := keys.Source("nonsense"); !errors.Is(err, ingest.ErrKeysAway) {
		t.Errorf("after the end: %v", err)
	}
	keys, _ = open()
	for key, want := range map[string]string{e.Key: "shop", made: "app"} {
		if source, err := keys.Source(key); source != want || err != nil {
			t.Errorf("after a start without a log: %s, %v", source, err)
		}
	}
	s := serve(t, e.Service, keys, "nonsense")
	if status, _ := s.post(t, "/v1/page", `{"userId":"u"}`); status != http.StatusServiceUnavailable {
		t.Errorf("an unknown key is %d", status)
	}
	if _, err := e.Keys.Revoke(t.Context(), made); err != nil {
		t.Fatal(err)
	}
	log.set(false)
	eventually(t, "the key revoked", func() bool {
		_, err := keys.Source(made)
		return errors.Is(err, ingest.ErrNoSuchKey)
	})
	if status, _ := s.post(t, "/v1/page", `{"userId":"u"}`); status != http.StatusUnauthorized {
		t.Errorf("an unknown key is %d", status)
	}
}
