package kafkasource

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"sojourn/domain/policy"
	"sojourn/internal/freeport"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if err := stopReal(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
		os.Exit(code)
	}))
}

// within bounds every wait of these tests.
const within = 60 * time.Second

// broker is one of kfake in this process, or a real one.
type broker struct {
	*kfake.Cluster // nil for a real one
	t              testing.TB
	addrs          []string
	sasl           string // the address that asks for SASL; of a real one
	admin          *kafka.Client
}

func newBroker(t testing.TB, topics []string, opts ...kfake.Opt) *broker {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{
		kfake.NumBrokers(1), kfake.SeedTopics(3, topics...), kfake.GroupMinSessionTimeout(100 * time.Millisecond),
	}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	b := &broker{Cluster: c, t: t, addrs: c.ListenAddrs()}
	b.connect()
	return b
}

// needsKafka skips a test that needs a real broker where none is wanted.
func needsKafka(t testing.TB) {
	t.Helper()
	if os.Getenv("SOJOURN_TEST_KAFKA") == "" {
		t.Skip("a real broker is not asked for: make test-kafka starts one (Java and Maven) and runs this")
	}
}

// real is the real broker of these tests, once one has asked for it.
var real struct {
	once sync.Once
	dir  string
	port int
	err  error
}

// script runs broker.sh for it.
func script(command string) error {
	cmd := exec.Command("../../deploy/dev/kafka/broker.sh", command)
	cmd.Env = append(os.Environ(), "KAFKA_DIR="+real.dir, fmt.Sprintf("KAFKA_PORT=%d", real.port))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("broker.sh %s: %w\n%s", command, err, out)
	}
	return nil
}

func startReal() {
	if real.dir, real.err = os.MkdirTemp("", "kafka"); real.err != nil {
		return
	}
	if real.port, real.err = freeport.Find(3); real.err == nil {
		real.err = script("up")
	}
}

func stopReal() error {
	if real.port == 0 {
		return nil
	}
	return errors.Join(script("wipe"), os.RemoveAll(real.dir))
}

// newKafka gives a test the real broker, with the topics empty and without the
// group sojourn.
func newKafka(t testing.TB, topics ...string) *broker {
	t.Helper()
	needsKafka(t)
	if real.once.Do(startReal); real.err != nil {
		t.Fatal(real.err)
	}
	b := &broker{t: t, addrs: []string{fmt.Sprintf("127.0.0.1:%d", real.port)}, sasl: fmt.Sprintf("127.0.0.1:%d", real.port+2)}
	b.connect()
	for _, name := range topics {
		eventually(t, "the topic "+name, func() bool {
			answer, err := b.admin.CreateTopics(t.Context(), &kafka.CreateTopicsRequest{
				Topics: []kafka.TopicConfig{{Topic: name, NumPartitions: 3, ReplicationFactor: 1}},
			})
			return err == nil && (answer.Errors[name] == nil || errors.Is(answer.Errors[name], kafka.TopicAlreadyExists))
		})
	}
	t.Cleanup(func() {
		if _, err := b.admin.DeleteTopics(context.Background(), &kafka.DeleteTopicsRequest{Topics: topics}); err != nil {
			t.Error(err)
		}
		if _, err := b.admin.DeleteGroups(context.Background(), &kafka.DeleteGroupsRequest{GroupIDs: []string{"sojourn"}}); err != nil {
			t.Error(err)
		}
	})
	return b
}

// brokers runs a test on kfake and, where it is wanted, on a real broker.
func brokers(t *testing.T, topics []string, test func(t *testing.T, b *broker)) {
	t.Run("kfake", func(t *testing.T) { test(t, newBroker(t, topics)) })
	t.Run("Kafka", func(t *testing.T) { test(t, newKafka(t, topics...)) })
}

func (b *broker) connect() {
	wire := &kafka.Transport{MetadataTTL: 100 * time.Millisecond}
	b.admin = &kafka.Client{Addr: kafka.TCP(b.addrs...), Transport: wire, Timeout: within}
	b.t.Cleanup(wire.CloseIdleConnections)
}

func (b *broker) client(opts ...kgo.Opt) *kgo.Client {
	b.t.Helper()
	c, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(b.addrs...), kgo.RecordPartitioner(kgo.ManualPartitioner()),
	}, opts...)...)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(c.Close)
	return c
}

func (b *broker) produce(records ...*kgo.Record) {
	b.t.Helper()
	produce(b.t, b.client(), records...)
}

func produce(t testing.TB, c *kgo.Client, records ...*kgo.Record) {
	t.Helper()
	if err := c.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// committed is the group's offset of a partition, -1 where there is none.
func (b *broker) committed(group, topic string, partition int) int64 {
	answer, err := b.admin.OffsetFetch(context.Background(), &kafka.OffsetFetchRequest{GroupID: group, Topics: map[string][]int{topic: {partition}}})
	if err != nil || answer.Error != nil {
		return -1
	}
	for _, p := range answer.Topics[topic] {
		return p.CommittedOffset
	}
	return -1
}

// end is the offset behind the last message of a partition, markers counted.
func (b *broker) end(topic string, partition int) int64 {
	b.t.Helper()
	answer, err := b.admin.ListOffsets(context.Background(), &kafka.ListOffsetsRequest{
		Topics: map[string][]kafka.OffsetRequest{topic: {kafka.LastOffsetOf(partition)}},
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return answer.Topics[topic][0].LastOffset
}

// stable waits until the group has so many members that all have partitions.
func (b *broker) stable(group string, members int) {
	b.t.Helper()
	eventually(b.t, fmt.Sprintf("a group of %d", members), func() bool {
		answer, err := b.admin.DescribeGroups(context.Background(), &kafka.DescribeGroupsRequest{GroupIDs: []string{group}})
		return err == nil && len(answer.Groups) == 1 && answer.Groups[0].GroupState == "Stable" && len(answer.Groups[0].Members) == members
	})
}

func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatal("still not: " + what)
		}
	}
}

// output collects what is logged.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) has(s string) bool { return o.count(s) > 0 }

func (o *output) count(s string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.Count(o.buf.String(), s)
}

func (o *output) logger() *slog.Logger { return slog.New(slog.NewTextHandler(o, nil)) }

// own is a mapping that stands in the configuration itself.
func own(m policy.RecordMapping) *Mapping { return &Mapping{Own: m} }
