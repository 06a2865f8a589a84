package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"sojourn/internal/freeport"
)

// kafkaConfig writes a configuration file with one topic.
func kafkaConfig(t *testing.T, brokers []string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sojourn.yaml")
	text := fmt.Sprintf("kafka:\n  brokers: ['%s']\n  topics:\n    - {name: events, source: shop}\n"+
		"    - name: orders\n      source: erp\n      format: json\n      mapping:\n"+
		"        {user: $key, event: {value: Order Completed}, identity: [no], properties: {total: {field: sum}, currency: {value: EUR}}}\n",
		strings.Join(brokers, "', '"))
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func kafkaClient(t *testing.T, brokers ...string) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.DefaultProduceTopic("events"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// TestKafkaIntake is the way from a topic to the views, as the configuration
// file says it.
func TestKafkaIntake(t *testing.T) {
	t.Parallel()
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, "events", "orders"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Close)
	client := kafkaClient(t, broker.ListenAddrs()...)
	var records []*kgo.Record
	for n := range 20 {
		records = append(records,
			&kgo.Record{Value: fmt.Appendf(nil, `{"type":"page","messageId":"m%d","userId":"u%d","name":"Home"}`, n, n%5)},
			&kgo.Record{Topic: "orders", Key: fmt.Appendf(nil, "u%d", n%5), Value: fmt.Appendf(nil, `{"no":%d,"sum":"9.90"}`, n)})
	}
	records = append(records, &kgo.Record{Value: []byte("poison")})
	if err := client.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	s := newServer(t, "--config", kafkaConfig(t, broker.ListenAddrs()))
	eventually(t, time.Minute, "everything is in the views", func() error {
		if n := s.count("SELECT count() FROM touchpoints"); n != 40 {
			return fmt.Errorf("%d touchpoints", n)
		}
		// A flush writes one table behind the other.
		if rows := s.rows("SELECT sum(toUInt32(purchases)) AS n, sum(revenue['EUR']) AS eur FROM customers"); fmt.Sprint(rows) != "[map[eur:198 n:20]]" {
			return fmt.Errorf("customers: %v", rows)
		}
		return nil
	})
	eventually(t, time.Minute, "the reject is listed", func() error {
		if n := s.rejects(); n != 1 {
			return fmt.Errorf("%d rejects", n)
		}
		return nil
	})
	total := 0.0
	for _, partition := range []string{"0", "1"} {
		for _, topic := range []string{"events", "orders"} {
			if n := s.metric(`sojourn_kafka_lag_messages{partition="` + partition + `",topic="` + topic + `"}`); n != 0 {
				t.Errorf("lag of %s/%s: %v", topic, partition, n)
			}
			total += s.metric(`sojourn_kafka_messages_total{partition="` + partition + `",topic="` + topic + `"}`)
		}
	}
	if total != 41 {
		t.Errorf("the metrics count %v messages, want 41", total)
	}
	s.stop()
}

// rejects is how many rejects there are, up to 1,000.
func (s *server) rejects() int {
	s.t.Helper()
	var page struct {
		Rejects []json.RawMessage `json:"rejects"`
	}
	s.api("GET", "/rejects?limit=1000", nil, &page)
	return len(page.Rejects)
}

// metric is a line of /metrics, -1 where it is not there.
func (s *server) metric(name string) float64 {
	s.t.Helper()
	req, err := http.NewRequest("GET", s.url+"/metrics", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	a, err := do(req)
	if err != nil {
		return -1
	}
	m := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + ` (\S+)$`).FindStringSubmatch(a.body)
	if m == nil {
		return -1
	}
	v, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		s.t.Fatal(err)
	}
	return v
}

// kafka is a real broker.
type kafka struct {
	t    *testing.T
	dir  string
	port int
}

// startKafka starts a broker, where one is wanted.
func startKafka(t *testing.T) *kafka {
	t.Helper()
	if os.Getenv("SOJOURN_TEST_KAFKA") == "" {
		t.Skip("a real broker is not asked for: make test-kafka starts one (Java and Maven) and runs this")
	}
	port, err := freeport.Find(3) // as many as broker.sh takes
	if err != nil {
		t.Fatal(err)
	}
	k := &kafka{t: t, dir: t.TempDir(), port: port}
	k.do("up")
	t.Cleanup(func() { k.do("wipe") })
	return k
}

func (k *kafka) address() string { return fmt.Sprintf("127.0.0.1:%d", k.port) }

func (k *kafka) do(command string) {
	k.t.Helper()
	cmd := exec.Command(filepath.Join(repository, "deploy/dev/kafka/broker.sh"), command)
	cmd.Env = environment("KAFKA_DIR="+k.dir, fmt.Sprintf("KAFKA_PORT=%d", k.port))
	if out, err := cmd.CombinedOutput(); err != nil {
		k.t.Fatalf("broker.sh %s: %v\n%s", command, err, out)
	}
}

// TestKafkaKill sends a million messages through a real broker and kills that,
// and the server, again and again. At the end each message is in ClickHouse once,
// and each poisoned one among the rejects.
func TestKafkaKill(t *testing.T) {
	k := startKafka(t)
	messages := 1_000_000
	if given := os.Getenv("SOJOURN_TEST_KAFKA_MESSAGES"); given != "" {
		var err error
		if messages, err = strconv.Atoi(given); err != nil {
			t.Fatal(err)
		}
	}
	const poisoned, kills, partitions = 100, 8, 4
	seed := uint64(time.Now().UnixNano())
	t.Logf("%d messages, seed %d", messages, seed)
	random := rand.New(rand.NewPCG(seed, 0))

	client := kafkaClient(t, k.address())
	create := kmsg.NewPtrCreateTopicsRequest()
	for _, name := range []string{"events", "orders"} {
		topic := kmsg.NewCreateTopicsRequestTopic()
		topic.Topic, topic.NumPartitions, topic.ReplicationFactor = name, partitions, 1
		create.Topics = append(create.Topics, topic)
	}
	if _, err := create.RequestWith(t.Context(), client); err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
	defer cancel()
	sent := make(chan error, 1)
	go func() {
		var first kgo.FirstErrPromise
		for n := range messages {
			// The times are spread over a day, as those of a topic that was not read
			// for a while.
			at := time.Now().Add(-24*time.Hour + time.Duration(n)*24*time.Hour/time.Duration(messages))
			user := strconv.Itoa(n % 20_000)
			client.Produce(ctx, &kgo.Record{Key: []byte(user), Timestamp: at, Value: fmt.Appendf(nil,
				`{"type":"track","messageId":"m-%d","userId":"u-%s","event":"Product Viewed","sentAt":"2026-03-01T10:00:00.250Z","timestamp":"2026-03-01T10:00:00.000Z",`+
					`"properties":{"n":%d,"product_id":"p-%d","name":"Canvas Bag","price":12.5,"currency":"EUR"},"context":{"page":{"path":"/bags/%d"},"locale":"de-DE"}}`,
				n, user, n, n%500, n%500)}, first.Promise())
			if n%(messages/poisoned) == 0 {
				client.Produce(ctx, &kgo.Record{Value: fmt.Appendf(nil, `{"poison":%d`, n)}, first.Promise())
			}
		}
		sent <- first.Err()
	}()

	dir := filepath.Join(t.TempDir(), "data")
	config := kafkaConfig(t, []string{k.address()})
	started := time.Now()
	s := start(t, dir, "--config", config)
	moments := make([]int, kills)
	for i := range moments {
		moments[i] = random.IntN(messages * 9 / 10)
	}
	slices.Sort(moments)
	for i, moment := range moments {
		eventually(t, 5*time.Minute, fmt.Sprintf("the log holds %d events", moment), func() error {
			if at := s.metric("sojourn_log_position"); at < float64(moment) {
				return fmt.Errorf("it holds %v", at)
			}
			return nil
		})
		t.Logf("kill %d behind %d events", i, moment)
		if i%3 != 2 {
			s.kill()
		}
		if i%3 != 0 {
			k.do("kill")
			k.do("up")
		}
		if i%3 != 2 {
			s = start(t, dir, "--config", config)
		}
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Minute, "all messages are in ClickHouse", func() error {
		if n := s.count("SELECT count() FROM touchpoints"); n < messages {
			return fmt.Errorf("%d are", n)
		}
		return nil
	})
	t.Logf("all there after %v", time.Since(started).Round(time.Second))
	got := s.rows("SELECT toUInt64(count()) AS rows, uniqExact(event_id) AS events, uniqExact(JSONExtractInt(properties, 'n')) AS ns, " +
		"sum(JSONExtractInt(properties, 'n')) AS sum, countIf(dateDiff('millisecond', occurred_at, received_at) != 250) AS skewed FROM touchpoints")
	want := fmt.Sprintf("[map[events:%d ns:%d rows:%d skewed:0 sum:%d]]", messages, messages, messages, messages*(messages-1)/2)
	if fmt.Sprint(got) != want {
		t.Errorf("%v, want %s", got, want)
	}
	if n := s.rejects(); n != poisoned {
		t.Errorf("%d rejects, want %d", n, poisoned)
	}
	eventually(t, time.Minute, "no partition lags", func() error {
		for p := range partitions {
			if lag := s.metric(fmt.Sprintf(`sojourn_kafka_lag_messages{partition="%d",topic="events"}`, p)); lag != 0 {
				return fmt.Errorf("partition %d lags by %v", p, lag)
			}
		}
		return nil
	})
	s.stop()
}
