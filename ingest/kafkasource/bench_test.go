package kafkasource

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/google/uuid"
	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kgo"

	"sojourn/domain"
	"sojourn/eventstore"
	"sojourn/eventstore/pebblestore"
	"sojourn/ingest"
)

const benchMessages = 200_000

// BenchmarkKafka measures the way from a real broker to a durable log beside two
// consumers on kafka-go's own Reader: one that parses the same JSON into the same
// structs and commits the same bytes to Pebble in batches of 1,000, and one that
// only counts. The clock runs from the first message to the last; joining the
// group is not in it. Run it with SOJOURN_TEST_KAFKA=1 -bench Kafka -benchtime 3x.
func BenchmarkKafka(b *testing.B) {
	k := newKafka(b, "dense", "sparse")
	client := k.client()
	began := time.Now().Add(-benchMessages * time.Millisecond)
	for _, topic := range []string{"dense", "sparse"} {
		var first kgo.FirstErrPromise
		for n := range benchMessages {
			r := &kgo.Record{Topic: topic, Partition: int32(n % 3), Key: fmt.Append(nil, n%20_000), Value: fmt.Appendf(nil,
				`{"type":"track","messageId":"%s","timestamp":"2026-03-01T09:00:00.123Z","sentAt":"2026-03-01T09:00:01.123Z","userId":"u%d","anonymousId":"%s","event":"Product Viewed",`+
					`"properties":{"product_id":"p%d","name":"Canvas Bag","price":12.5,"currency":"EUR"},"context":{"page":{"path":"/bags/%d"},"locale":"de-DE"}}`,
				uuid.NewString(), n%20_000, uuid.NewString(), n%500, n%500)}
			if topic == "sparse" {
				// A message a millisecond: no two of a partition have one time of receipt.
				r.Timestamp = began.Add(time.Duration(n) * time.Millisecond)
			}
			client.Produce(b.Context(), r, first.Promise())
		}
		if err := first.Err(); err != nil {
			b.Fatal(err)
		}
	}
	// The bytes that a message becomes in the log beside itself.
	var beside atomic.Int64
	for _, topic := range []string{"dense", "sparse"} {
		b.Run("sojourn/"+topic, func(b *testing.B) {
			rate(b, func(group string) time.Duration { return ours(b, k, group, topic, &beside) })
		})
	}
	b.Run("pebble", func(b *testing.B) {
		rate(b, func(group string) time.Duration { return intoPebble(b, k, group, int(beside.Load())) })
	})
	b.Run("count", func(b *testing.B) { rate(b, func(group string) time.Duration { return consume(b, k, group, nil) }) })
}

func rate(b *testing.B, run func(group string) time.Duration) {
	total, cpu := time.Duration(0), cpuTime(b)
	for b.Loop() {
		total += run(uuid.NewString())
	}
	// Where others use the machine too this says more than the rate.
	b.ReportMetric(float64((cpuTime(b)-cpu).Nanoseconds())/1000/float64(b.N)/benchMessages, "cpu-µs/message")
	b.ReportMetric(float64(b.N)*benchMessages/total.Seconds(), "messages/s")
	b.ReportMetric(0, "ns/op")
}

// cpuTime is what this process has used of the processors.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// watched is a store that tells when the first append came and counts the events.
type watched struct {
	*pebblestore.Store
	first sync.Once
	began time.Time
	count atomic.Int64
	bytes atomic.Int64 // of metadata, streams and ids
	done  chan struct{}
}

func (w *watched) AppendMany(ctx context.Context, parts []eventstore.Append) ([]eventstore.Result, error) {
	w.first.Do(func() { w.began = time.Now() })
	r, err := w.Store.AppendMany(ctx, parts)
	n := 0
	for _, p := range parts {
		n += len(p.Events)
		for _, e := range p.Events {
			w.bytes.Add(int64(len(p.Stream) + len(e.Metadata) + len(e.ID) + len(e.Type)))
		}
	}
	if err == nil && w.count.Add(int64(n)) == benchMessages {
		close(w.done)
	}
	return r, err
}

func ours(b *testing.B, k *broker, group, topic string, beside *atomic.Int64) time.Duration {
	store, err := pebblestore.Open(b.TempDir(), pebblestore.Options{})
	if err != nil {
		b.Fatal(err)
	}
	w := &watched{Store: store, done: make(chan struct{})}
	service, err := ingest.New(ingest.Config{Log: w, Index: store, Keyer: domain.NewKeyer(make([]byte, domain.KeySize))})
	if err != nil {
		b.Fatal(err)
	}
	stop := start(b, Config{
		Service: service, Brokers: k.addrs, Group: group, Topics: []Topic{{Name: topic, Source: "shop"}}, Logger: slog.New(slog.DiscardHandler),
	})
	select {
	case <-w.done:
	case <-time.After(2 * time.Minute):
		b.Fatalf("%d of %d messages are durable", w.count.Load(), benchMessages)
	}
	// What the store knows is written out before the clock stops.
	if err := store.FlushIndexes(b.Context()); err != nil {
		b.Fatal(err)
	}
	took := time.Since(w.began)
	beside.Store(w.bytes.Load() / benchMessages)
	stop()
	if err := store.Close(); err != nil {
		b.Fatal(err)
	}
	return took
}

// consume reads the dense topic with kafka-go's Reader.
func consume(b *testing.B, k *broker, group string, each func(kafka.Message) error) time.Duration {
	r := kafka.NewReader(kafka.ReaderConfig{
		Brokers: k.addrs, GroupID: group, Topic: "dense", MinBytes: 1, MaxBytes: fetchBytes, MaxWait: fetchWait,
		QueueCapacity: 10_000, CommitInterval: defaultCommit,
	})
	var began time.Time
	for n := range benchMessages {
		m, err := r.FetchMessage(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		if n == 0 {
			began = time.Now()
		}
		if each != nil {
			if err := each(m); err != nil {
				b.Fatal(err)
			}
		}
	}
	took := time.Since(began)
	if err := r.Close(); err != nil {
		b.Fatal(err)
	}
	return took
}

func intoPebble(b *testing.B, k *broker, group string, beside int) time.Duration {
	db, err := pebble.Open(b.TempDir(), &pebble.Options{Logger: quiet{}})
	if err != nil {
		b.Fatal(err)
	}
	batch, n := db.NewBatch(), 0
	value := make([]byte, 0, 4096)
	header := make([]byte, beside)
	took := consume(b, k, group, func(m kafka.Message) error {
		parsed, err := ingest.ParseMessage(m.Value)
		if err != nil {
			return err
		}
		n++
		// What stands beside a message is about as random as its ids.
		copy(header, parsed.Raw[len(parsed.Raw)-min(len(parsed.Raw), beside):])
		value = append(append(value[:0], header...), parsed.Raw...)
		if err := batch.Set(binary.BigEndian.AppendUint64(nil, uint64(n)), value, nil); err != nil || n%1000 != 0 {
			return err
		}
		err = errors.Join(batch.Commit(pebble.Sync), batch.Close())
		batch = db.NewBatch()
		return err
	})
	if err := errors.Join(batch.Close(), db.Close()); err != nil {
		b.Fatal(err)
	}
	return took
}

type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(string, ...any) {}
