package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/google/uuid"
	"github.com/segmentio/kafka-go"

	"sojourn/domain"
	"sojourn/eventstore"
	"sojourn/eventstore/pebblestore"
	"sojourn/ingest"
	"sojourn/ingest/kafkasource"
)

// The topics of the figures, and how many partitions each has.
const (
	dense      = "enginebench.dense"  // all messages of one time of receipt
	sparse     = "enginebench.sparse" // a message a millisecond
	collected  = "enginebench.collected"
	partitions = 3
)

// message is the n-th message of a round.
func message(n int) []byte {
	return fmt.Appendf(nil, `{"type":"track","messageId":"%s","timestamp":"2026-03-01T09:00:00.123Z","sentAt":"2026-03-01T09:00:01.123Z","userId":"u%d","anonymousId":"%s","event":"Product Viewed",`+
		`"properties":{"product_id":"p%d","name":"Canvas Bag","price":12.5,"currency":"EUR"},"context":{"page":{"path":"/bags/%d"},"locale":"de-DE"}}`,
		uuid.NewString(), n%20_000, uuid.NewString(), n%500, n%500)
}

// kafkaFigures measure the way from a real broker to a durable log beside two
// consumers on kafka-go's own Reader: one that parses the same JSON into the same
// structs and commits the same bytes to Pebble in batches of 1,000, and one that
// only counts. The clock runs from the first message to the last; joining the
// group is not in it.
func kafkaFigures(ctx context.Context, c *config) ([]figure, func() error, error) {
	k := &kafkaBench{config: c}
	if c.broker == "" {
		return nil, nil, errors.New("say by KAFKA_ADDRESS where the broker is")
	}
	end, err := k.topics(ctx, dense, sparse)
	if err != nil {
		return nil, end, err
	}
	for _, topic := range []string{dense, sparse} {
		if err := k.fill(ctx, topic); err != nil {
			return nil, end, err
		}
	}
	return []figure{
		{
			name: "kafkasource", unit: "messages/s", floor: 0.6,
			ours:      func(ctx context.Context) (float64, error) { return k.ours(ctx, dense) },
			yardstick: k.intoPebble, beside: "parsed and committed to Pebble in batches of 1,000",
		},
		{
			name: "kafkasource, a message a millisecond", unit: "messages/s", floor: 0.6,
			ours:      func(ctx context.Context) (float64, error) { return k.ours(ctx, sparse) },
			yardstick: k.intoPebble, beside: "the same",
		},
		{
			name: "kafkasource beside counting", unit: "messages/s",
			ours:      func(ctx context.Context) (float64, error) { return k.ours(ctx, dense) },
			yardstick: func(ctx context.Context) (float64, error) { return k.consume(ctx, nil) }, beside: "only counted",
		},
	}, end, nil
}

type kafkaBench struct {
	*config
	beside atomic.Int64 // bytes that a message becomes in the log beside itself
}

func (k *kafkaBench) client() (*kafka.Client, func()) {
	wire := &kafka.Transport{MetadataTTL: 100 * time.Millisecond}
	return &kafka.Client{Addr: kafka.TCP(k.broker), Transport: wire, Timeout: 30 * time.Second}, wire.CloseIdleConnections
}

// topics makes topics anew; end deletes them.
func (k *kafkaBench) topics(ctx context.Context, names ...string) (end func() error, err error) {
	client, closeClient := k.client()
	remove := func(ctx context.Context) error {
		_, err := client.DeleteTopics(ctx, &kafka.DeleteTopicsRequest{Topics: names})
		return err
	}
	end = func() error {
		defer closeClient()
		return remove(context.WithoutCancel(ctx))
	}
	if err := remove(ctx); err != nil {
		return end, err
	}
	deadline := time.Now().Add(time.Minute)
	for _, name := range names {
		for {
			answer, err := client.CreateTopics(ctx, &kafka.CreateTopicsRequest{
				Topics: []kafka.TopicConfig{{Topic: name, NumPartitions: partitions, ReplicationFactor: 1}},
			})
			if err == nil {
				err = answer.Errors[name]
			}
			if err == nil {
				break
			}
			// One that is being deleted is there for a moment.
			if ctx.Err() != nil || time.Now().After(deadline) {
				return end, fmt.Errorf("make the topic %s: %w", name, err)
			}
			time.Sleep(200 * time.Millisecond)
		}
	}
	return end, nil
}

func (k *kafkaBench) fill(ctx context.Context, topic string) (err error) {
	wire := &kafka.Transport{}
	defer wire.CloseIdleConnections()
	w := &kafka.Writer{
		Addr: kafka.TCP(k.broker), Topic: topic, Transport: wire, RequiredAcks: kafka.RequireAll, Balancer: &kafka.RoundRobin{},
		BatchSize: 1_000, BatchTimeout: 5 * time.Millisecond,
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	began := time.Now().Add(-time.Duration(k.messages) * time.Millisecond)
	for n := 0; n < k.messages; {
		var batch []kafka.Message
		for ; len(batch) < 3_000 && n < k.messages; n++ {
			m := kafka.Message{Key: fmt.Append(nil, n%20_000), Value: message(n), Time: began}
			if topic == sparse {
				m.Time = began.Add(time.Duration(n) * time.Millisecond)
			}
			batch = append(batch, m)
		}
		// A topic that was made just now has no leader yet.
		for deadline := time.Now().Add(30 * time.Second); ; {
			if err := w.WriteMessages(ctx, batch...); err == nil {
				break
			} else if n > 3_000 || ctx.Err() != nil || time.Now().After(deadline) {
				return fmt.Errorf("fill the topic: %w", err)
			}
		}
	}
	return nil
}

// folder is a new one for a store.
func (c *config) folder() (string, error) { return os.MkdirTemp(c.dir, "store-") }

// watched is a store that tells when the first append came and when all events
// are in.
type watched struct {
	*pebblestore.Store
	want         int64
	first        sync.Once
	began        time.Time
	count, bytes atomic.Int64 // bytes of metadata, streams and ids
	done         chan struct{}
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
	if err == nil && w.count.Add(int64(n)) == w.want {
		close(w.done)
	}
	return r, err
}

// ours is the rate of kafkasource into a new log, whose indexes are written out
// before the clock stops.
func (k *kafkaBench) ours(ctx context.Context, topic string) (_ float64, err error) {
	dir, err := k.folder()
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	store, err := pebblestore.Open(filepath.Join(dir, "log"), pebblestore.Options{})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	w := &watched{Store: store, want: int64(k.messages), done: make(chan struct{})}
	service, err := ingest.New(ingest.Config{Log: w, Index: store, Keyer: domain.NewKeyer(make([]byte, domain.KeySize))})
	if err != nil {
		return 0, err
	}
	source, err := kafkasource.New(kafkasource.Config{
		Service: service, Brokers: []string{k.broker}, Group: uuid.NewString(), Topics: []kafkasource.Topic{{Name: topic, Source: "shop"}},
	})
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- source.Run(ctx) }()
	select {
	case <-w.done:
		err = store.FlushIndexes(ctx)
	case <-ctx.Done():
		err = fmt.Errorf("%d of %d messages are durable: %w", w.count.Load(), k.messages, ctx.Err())
	}
	took := time.Since(w.began)
	cancel()
	if err = errors.Join(err, <-ended); err != nil {
		return 0, err
	}
	k.beside.Store(w.bytes.Load() / int64(k.messages))
	return rate(k.messages, took), nil
}

// consume reads the dense topic with kafka-go's Reader.
func (k *kafkaBench) consume(ctx context.Context, each func(kafka.Message) error) (_ float64, err error) {
	r := kafka.NewReader(kafka.ReaderConfig{
		Brokers: []string{k.broker}, GroupID: uuid.NewString(), Topic: dense, MinBytes: 1, MaxBytes: 2 << 20, MaxWait: 500 * time.Millisecond,
		QueueCapacity: 10_000, CommitInterval: 500 * time.Millisecond,
	})
	defer func() { err = errors.Join(err, r.Close()) }()
	var began time.Time
	for n := range k.messages {
		m, err := r.FetchMessage(ctx)
		if err != nil {
			return 0, err
		}
		if n == 0 {
			began = time.Now()
		}
		if each != nil {
			if err := each(m); err != nil {
				return 0, err
			}
		}
	}
	return rate(k.messages, time.Since(began)), nil
}

// intoPebble is the yardstick: the same bytes, parsed and committed.
func (k *kafkaBench) intoPebble(ctx context.Context) (_ float64, err error) {
	dir, err := k.folder()
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	db, err := pebble.Open(dir, &pebble.Options{Logger: quiet{}})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	batch, n := db.NewBatch(), 0
	defer func() { err = errors.Join(err, batch.Close()) }()
	value := make([]byte, 0, 4096)
	header := make([]byte, k.beside.Load())
	return k.consume(ctx, func(m kafka.Message) error {
		parsed, err := ingest.ParseMessage(m.Value)
		if err != nil {
			return err
		}
		n++
		// What stands beside a message is about as random as its ids.
		copy(header, parsed.Raw[len(parsed.Raw)-min(len(parsed.Raw), len(header)):])
		value = append(append(value[:0], header...), parsed.Raw...)
		if err := batch.Set(binary.BigEndian.AppendUint64(nil, uint64(n)), value, nil); err != nil || n%1000 != 0 {
			return err
		}
		err = errors.Join(batch.Commit(pebble.Sync), batch.Close())
		batch = db.NewBatch()
		return err
	})
}

type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(string, ...any) {}
