package kafkaout

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"
	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"sojourn/domain"
	"sojourn/eventstore"
	"sojourn/eventstore/pebblestore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const within = 60 * time.Second

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

// bench is a log, a broker and a checkpoint. The broker is one of kfake in this
// process, or the real one whose address SOJOURN_TEST_KAFKA_ADDRESS gives; make
// test-kafka does.
type bench struct {
	*kfake.Cluster          // nil for a real one
	addrs                   []string
	statements, touchpoints string // topics
	t                       *testing.T
	store                   *pebblestore.Store
	file                    string
	dense                   int // statements said
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t, statements: "statements", touchpoints: "touchpoints", file: filepath.Join(t.TempDir(), "kafka-out")}
	if real := os.Getenv("SOJOURN_TEST_KAFKA_ADDRESS"); real != "" {
		b.addrs = []string{real}
		wire := &kafka.Transport{}
		t.Cleanup(wire.CloseIdleConnections)
		client := &kafka.Client{Addr: kafka.TCP(real), Transport: wire}
		for _, name := range []*string{&b.statements, &b.touchpoints} {
			*name += "-" + uuid.NewString()
			answer, err := client.CreateTopics(t.Context(), &kafka.CreateTopicsRequest{
				Topics: []kafka.TopicConfig{{Topic: *name, NumPartitions: 3, ReplicationFactor: 1}},
			})
			if err != nil || answer.Errors[*name] != nil {
				t.Fatal(err, answer)
			}
		}
	} else {
		c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(3, b.statements, b.touchpoints))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		b.Cluster, b.addrs = c, c.ListenAddrs()
	}
	store, err := pebblestore.Open("log", pebblestore.Options{FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	b.store = store
	return b
}

// start runs a sender until stop, or the end of the test.
func (b *bench) start(change ...func(*Config)) (stop func()) {
	b.t.Helper()
	c := Config{
		Log: b.store, Brokers: b.addrs, Statements: b.statements, Checkpoint: b.file,
		Logger: slog.New(slog.NewTextHandler(b.t.Output(), nil)),
	}
	for _, f := range change {
		f(&c)
	}
	s, err := New(c)
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			b.t.Error(err)
		}
	})
	b.t.Cleanup(stop)
	return stop
}

func customer(n int) uuid.UUID { return uuid.NewSHA1(uuid.Nil, fmt.Append(nil, "customer ", n)) }

// say appends statements about customers in turn.
func (b *bench) say(n int) {
	b.t.Helper()
	for range n {
		id := customer(b.dense % 7)
		data := fmt.Appendf(nil, `{"customer":%q,"from":"","to":"lead","at":"2026-03-01T10:00:00.000Z","n":%d}`, id, b.dense)
		b.append(domain.StatementStream(id), eventstore.NewEvent{ID: uuid.New(), Type: domain.TypeStageEntered, Data: data})
		b.dense++
	}
}

func (b *bench) append(stream string, e eventstore.NewEvent) {
	b.t.Helper()
	if _, err := b.store.Append(context.Background(), stream, eventstore.Any{}, e); err != nil {
		b.t.Fatal(err)
	}
}

// topic is everything that a topic holds now, a partition after the other.
func (b *bench) topic(name string) (all []*kgo.Record) {
	b.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(b.addrs...), kgo.ConsumeTopics(name), kgo.FetchMaxWait(50*time.Millisecond))
	if err != nil {
		b.t.Fatal(err)
	}
	defer client.Close()
	req := kmsg.NewListOffsetsRequest()
	topic := kmsg.NewListOffsetsRequestTopic()
	topic.Topic = name
	for p := range int32(3) {
		part := kmsg.NewListOffsetsRequestTopicPartition()
		part.Partition, part.Timestamp = p, -1
		topic.Partitions = append(topic.Partitions, part)
	}
	req.Topics = append(req.Topics, topic)
	answer, err := req.RequestWith(context.Background(), client)
	if err != nil {
		b.t.Fatal(err)
	}
	want := 0
	for _, p := range answer.Topics[0].Partitions {
		want += int(p.Offset)
	}
	for len(all) < want {
		f := client.PollFetches(context.Background())
		if err := f.Err(); err != nil {
			b.t.Fatal(err)
		}
		all = append(all, f.Records()...)
	}
	slices.SortStableFunc(all, func(x, y *kgo.Record) int { return int(x.Partition - y.Partition) })
	return all
}

func header(r *kgo.Record, name string) string {
	for _, h := range r.Headers {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}

// exactly checks that the topic has every statement once, in order per customer.
func (b *bench) exactly() {
	b.t.Helper()
	seen := make(map[string]bool)
	next := make(map[string]int)
	for _, r := range b.topic(b.statements) {
		id := header(r, "ce_id")
		if seen[id] {
			b.t.Errorf("%s is there twice", id)
		}
		seen[id] = true
		n := 0
		if _, err := fmt.Sscanf(string(r.Value[strings.LastIndex(string(r.Value), `"n":`):]), `"n":%d`, &n); err != nil {
			b.t.Fatal(err)
		}
		key := string(r.Key)
		if at, known := next[key]; known && n != at+7 || key != customer(n%7).String() {
			b.t.Errorf("%s: statement %d follows %d", key, n, at)
		}
		next[key] = n
	}
	if len(seen) != b.dense {
		b.t.Errorf("%d statements, want %d", len(seen), b.dense)
	}
}

func (b *bench) sent(n int) {
	b.t.Helper()
	eventually(b.t, fmt.Sprintf("%d messages", n), func() bool { return len(b.topic(b.statements)) >= n })
}

func TestStatements(t *testing.T) {
	b := newBench(t)
	b.say(1)
	id := customer(0)
	b.append("touchpoints", eventstore.NewEvent{ID: uuid.New(), Type: domain.TypeTouchpoint})
	b.append(domain.StatementStream(id), eventstore.NewEvent{
		ID: uuid.New(), Type: domain.TypeTierWithdrawn, Data: fmt.Appendf(nil, `{"customer":%q,"revisions":[0],"clock":"2026-03-02T10:00:00.000Z"}`, id),
	})
	b.start()
	b.sent(2)
	got := b.topic(b.statements)
	first, second := got[0], got[1]
	for name, want := range map[string]string{
		"ce_specversion": "1.0", "ce_source": "/sojourn", "ce_type": domain.TypeStageEntered, "ce_time": "2026-03-01T10:00:00.000Z",
		"ce_subject": id.String(), "ce_position": "1", "ce_revision": "0", "content-type": "application/json", "ce-id": header(first, "ce_id"),
	} {
		if got := header(first, name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if string(first.Key) != id.String() || string(second.Key) != id.String() || !strings.Contains(string(first.Value), `"to":"lead"`) {
		t.Errorf("%s: %s", first.Key, first.Value)
	}
	if header(second, "ce_type") != domain.TypeTierWithdrawn || header(second, "ce_time") != "2026-03-02T10:00:00.000Z" || header(second, "ce_revision") != "1" {
		t.Errorf("%v", second.Headers)
	}
}

// known are customers by subject.
type known map[string]uuid.UUID

func (known) WaitFor(context.Context, eventstore.Position) error { return nil }

func (k known) CustomerOf(_ context.Context, s domain.Subject) (uuid.UUID, bool, error) {
	id, ok := k[s.String()]
	return id, ok, nil
}

func TestTouchpoints(t *testing.T) {
	b := newBench(t)
	h := domain.Header{
		Kind: domain.Track, Source: "shop", MessageID: "m", UserID: "1", Name: "Viewed", BatchContext: `{"ip":"10.0.0.1"}`,
		OccurredAt: 1_772_359_200_000, ReceivedAt: 1_772_359_201_000,
	}
	keyer := domain.NewKeyer(make([]byte, domain.KeySize))
	stream := keyer.Stream(h.Subject())
	b.append("invoice-1", eventstore.NewEvent{ID: uuid.New(), Type: domain.TypeTouchpoint, Data: []byte("somebody else's")})
	b.append(stream, eventstore.NewEvent{ID: uuid.New(), Type: domain.TypeTouchpoint, Metadata: h.Append(nil), Data: []byte(`{"event":"Viewed"}`)})
	h.UserID = "2"
	stream = keyer.Stream(h.Subject())
	b.append(stream, eventstore.NewEvent{ID: uuid.New(), Type: domain.TypeJoin, Metadata: h.Append(nil), Data: []byte(`{}`)})
	b.say(1)
	b.start(func(c *Config) {
		c.Touchpoints, c.Customers = b.touchpoints, known{"user:1": customer(1)}
	})
	b.sent(1)
	got := b.topic(b.touchpoints)
	if len(got) != 2 {
		t.Fatalf("%d touchpoints", len(got))
	}
	slices.SortFunc(got, func(x, y *kgo.Record) int { return strings.Compare(header(x, "ce_type"), header(y, "ce_type")) })
	if string(got[0].Key) != stream {
		t.Errorf("a touchpoint of nobody has the key %s", got[0].Key)
	}
	r := got[1]
	for name, want := range map[string]string{
		"ce_type": domain.TypeTouchpoint, "ce_time": "2026-03-01T10:00:00.000Z", "ce_subject": customer(1).String(), "ce_kind": "track",
		"ce_app": "shop", "ce_receivedat": "2026-03-01T10:00:01.000Z", "context": `{"ip":"10.0.0.1"}`, "integrations": "",
	} {
		if got := header(r, name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if string(r.Key) != customer(1).String() || string(r.Value) != `{"event":"Viewed"}` {
		t.Errorf("%s: %s", r.Key, r.Value)
	}
}

// What stands in the topic behind the checkpoint is not written again, however
// old that is.
func TestCrash(t *testing.T) {
	for name, lose := range map[string]func(b *bench, old []byte) error{
		"an old checkpoint": func(b *bench, old []byte) error { return os.WriteFile(b.file, old, 0o600) },
		"no checkpoint":     func(b *bench, _ []byte) error { return os.Remove(b.file) },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.say(10)
			stop := b.start()
			b.sent(10)
			stop()
			old, err := os.ReadFile(b.file)
			if err != nil {
				t.Fatal(err)
			}
			b.say(2_500)
			stop = b.start()
			b.sent(2_510)
			stop()
			b.say(30)
			// It crashes again in the midst, as it were: twice the same checkpoint.
			for range 2 {
				if err := lose(b, old); err != nil {
					t.Fatal(err)
				}
				stop = b.start()
				b.sent(b.dense)
				stop()
				b.say(1)
			}
			b.start()
			b.sent(b.dense)
			b.exactly()
		})
	}
}

// Kafka that fails now and then delays, and changes nothing of the order.
func TestKafkaFails(t *testing.T) {
	b := newBench(t)
	if b.Cluster == nil {
		t.Skip("a real broker does not hang up when it is asked to; without SOJOURN_TEST_KAFKA_ADDRESS this runs on one in the process")
	}
	var mu sync.Mutex
	asked := 0
	b.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		b.KeepControl()
		mu.Lock()
		defer mu.Unlock()
		if asked++; asked%3 == 1 && asked < 12 {
			return nil, errors.New("the broker has hung up"), true
		}
		return nil, nil, false
	})
	b.say(100)
	b.start()
	b.sent(100)
	for range 5 {
		b.say(20)
		b.sent(b.dense)
	}
	b.exactly()
	mu.Lock()
	defer mu.Unlock()
	if asked < 12 {
		t.Errorf("only %d requests", asked)
	}
}

func TestFromEnd(t *testing.T) {
	b := newBench(t)
	b.say(5)
	newest := func(c *Config) { c.FromEnd = true }
	stop := b.start(newest)
	eventually(t, "a checkpoint", func() bool {
		_, found, err := readCheckpoint(b.file)
		return found && err == nil
	})
	stop()
	b.say(2)
	b.start(newest)
	b.sent(2)
	if got := b.topic(b.statements); len(got) != 2 {
		t.Errorf("%d statements", len(got))
	}
}

func TestDamagedCheckpoint(t *testing.T) {
	b := newBench(t)
	if err := os.WriteFile(b.file, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{Log: b.store, Brokers: b.addrs, Statements: b.statements, Checkpoint: b.file})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "checkpoint") {
		t.Error(err)
	}
}
