// Package collector brings tracking calls to a Kafka topic in place of the log:
// it answers while the log is away, and whoever has the role of a writer moves
// the topic to the log (ingest/kafkasource, Format Collected).
//
// A call is acknowledged when Kafka has all of its messages on every replica in
// sync (acks=all). A message is keyed by its subject, so that the messages of a
// subject stay in order. One that came without a messageId gets one here: what is
// sent to Kafka twice is one event.
package collector

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/sasl"

	"sojourn/ingest"
	"sojourn/ingest/internal/collected"
)

// Config is what a Collector is made of. Brokers and Topic are required.
type Config struct {
	// Brokers are addresses, host:port, of some brokers of the cluster.
	Brokers []string
	// Topic is where messages go. It must be there; it must not be compacted, and
	// take records of MaxRecord bytes.
	Topic string
	// TLS is nil for plain connections, SASL for those without authentication.
	TLS  *tls.Config
	SASL sasl.Mechanism
	// AllowUnreplicated takes a topic whose min.insync.replicas is below 2, where a
	// message that was acknowledged is lost with one disk.
	AllowUnreplicated bool
	// Deadline is how long a call waits for Kafka before it is answered that Kafka
	// is away; default 10 s. Its messages may still reach the topic.
	Deadline time.Duration
	// MaxInFlight bounds the bytes of all calls under way together; default 64 MiB.
	MaxInFlight int64
	// Clock gives received_at; default time.Now. Rand gives the ids of messages
	// that come without one; default crypto/rand.
	Clock func() time.Time
	Rand  io.Reader
	// Logger takes what goes wrong; default: none.
	Logger *slog.Logger
	// Registerer takes the counters; default: nobody reads them.
	Registerer prometheus.Registerer
}

// MaxRecord is what a topic must take as one batch of records, in bytes; Kafka's
// own default for max.message.bytes is a little more. The largest record is a batch
// of 512 KiB that is one reject.
const MaxRecord = 1 << 20

// maxBatch is how much goes to a partition at once, below MaxRecord: what cannot
// be compressed becomes a little larger.
const maxBatch = 900 << 10

// Times of the connection to Kafka.
const (
	defaultDeadline = 10 * time.Second
	linger          = 2 * time.Millisecond
	produceTimeout  = 5 * time.Second
	checkTimeout    = 5 * time.Second
	checkEvery      = time.Second // until the topic has been seen
	attempts        = 5           // of a batch; about 2 s where connections are refused
)

// ErrTopic refuses a topic; it says why.
var ErrTopic = errors.New("a collector cannot use this topic")

// Collector brings calls to Kafka. Its methods may be called concurrently.
type Collector struct {
	*ingest.Intake
	config  Config
	logger  *slog.Logger
	metrics *metrics
	wire    *kafka.Transport
	client  *kafka.Client
	writer  *kafka.Writer

	ready atomic.Bool // the topic has been seen and is good
	away  atomic.Bool // the last write failed
	probe sync.Mutex  // held by the one call that tries, while away
}

// New makes a Collector. It does not connect.
func New(c Config) (*Collector, error) {
	if len(c.Brokers) == 0 || c.Topic == "" {
		return nil, errors.New("a collector needs brokers and a topic")
	}
	if c.Deadline == 0 {
		c.Deadline = defaultDeadline
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	intake, err := ingest.NewIntake(ingest.IntakeConfig{Clock: c.Clock, Rand: c.Rand, MaxInFlight: c.MaxInFlight})
	if err != nil {
		return nil, err
	}
	addr := kafka.TCP(c.Brokers...)
	wire := &kafka.Transport{
		TLS: c.TLS, SASL: c.SASL, ClientID: "sojourn-collector", MetadataTTL: 2 * time.Second,
		Dial: (&net.Dialer{Timeout: 3 * time.Second}).DialContext,
	}
	return &Collector{
		Intake: intake, config: c, logger: c.Logger, metrics: newMetrics(c.Registerer, intake),
		wire: wire, client: &kafka.Client{Addr: addr, Transport: wire},
		writer: &kafka.Writer{
			Addr: addr, Topic: c.Topic, Transport: wire,
			// Java's own partitioner: whoever reads the topic finds a key where it expects it.
			Balancer:     kafka.Murmur2Balancer{Consistent: true},
			RequiredAcks: kafka.RequireAll, Compression: kafka.Snappy,
			BatchSize: 10_000, BatchBytes: maxBatch, BatchTimeout: linger,
			ReadTimeout: produceTimeout, WriteTimeout: produceTimeout,
			MaxAttempts: attempts, WriteBackoffMin: 50 * time.Millisecond, WriteBackoffMax: time.Second,
		},
	}, nil
}

// Run looks at the topic, which calls wait for, and returns when the context has
// ended and everything under way is written or given up. Brokers that are away
// and a topic that is not there yet delay it; the error is ErrTopic where the
// topic is one that a collector must not use.
func (c *Collector) Run(ctx context.Context) error {
	defer c.wire.CloseIdleConnections()
	err := c.await(ctx)
	if err == nil {
		<-ctx.Done()
	}
	c.ready.Store(false)
	return errors.Join(err, c.writer.Close())
}

// Ready reports whether Kafka takes messages, as far as the last write tells.
func (c *Collector) Ready() bool { return c.ready.Load() && !c.away.Load() }

// await returns nil when the topic is good or the context has ended.
func (c *Collector) await(ctx context.Context) error {
	tick := time.NewTicker(checkEvery)
	defer tick.Stop()
	for said := false; ; said = true {
		err := c.check(ctx)
		switch {
		case err == nil:
			c.ready.Store(true)
			return nil
		case errors.Is(err, ErrTopic):
			return err
		case !said && ctx.Err() == nil:
			c.logger.LogAttrs(ctx, slog.LevelWarn, "the collector's topic cannot be looked at, trying again",
				slog.String("topic", c.config.Topic), slog.Any("error", err))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// check looks at the topic.
func (c *Collector) check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	topic := c.config.Topic
	meta, err := c.client.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{topic}})
	if err != nil {
		return err
	}
	if len(meta.Topics) != 1 || meta.Topics[0].Error != nil {
		return fmt.Errorf("topic %s: %w", topic, errors.Join(kafka.UnknownTopicOrPartition, meta.Topics[0].Error))
	}
	copies := 0
	for i, p := range meta.Topics[0].Partitions {
		if i == 0 || len(p.Replicas) < copies {
			copies = len(p.Replicas)
		}
	}
	answer, err := c.client.DescribeConfigs(ctx, &kafka.DescribeConfigsRequest{Resources: []kafka.DescribeConfigRequestResource{{
		ResourceType: kafka.ResourceTypeTopic, ResourceName: topic,
		ConfigNames: []string{minInSync, cleanup, maxBytes},
	}}})
	if err != nil {
		return err
	}
	settings := make(map[string]string)
	for _, r := range answer.Resources {
		if r.Error != nil {
			return fmt.Errorf("read the settings of topic %s: %w", topic, r.Error)
		}
		for _, e := range r.ConfigEntries {
			settings[e.ConfigName] = e.ConfigValue
		}
	}
	return c.judge(copies, settings)
}

// The settings of a topic that count.
const (
	minInSync = "min.insync.replicas"
	cleanup   = "cleanup.policy"
	maxBytes  = "max.message.bytes"
)

func (c *Collector) judge(copies int, settings map[string]string) error {
	refuse := func(format string, args ...any) error {
		return fmt.Errorf("%w: topic %s %s", ErrTopic, c.config.Topic, fmt.Sprintf(format, args...))
	}
	number := func(name string) int {
		n, _ := strconv.Atoi(settings[name]) // what is missing counts as 0
		return n
	}
	if v := settings[cleanup]; v != "" && v != "delete" {
		return refuse("has %s=%s, which throws messages away: set it to delete", cleanup, v)
	}
	if _, told := settings[maxBytes]; told && number(maxBytes) < MaxRecord {
		return refuse("has %s=%d, and %d are needed", maxBytes, number(maxBytes), MaxRecord)
	}
	if n := number(minInSync); (n < 2 || copies < 2) && !c.config.AllowUnreplicated {
		return refuse("has %d replicas and %s=%d, so that what was acknowledged is lost with one disk: have two in sync, or give --allow-unreplicated", copies, minInSync, n)
	}
	return nil
}

// Ingest brings the messages of a call to Kafka. When it returns without an error
// Kafka has every message, those that cannot be used marked as rejects. The
// error is ingest.ErrAway where Kafka does not take them; some may be there, and
// the same call again is harmless where its messages have ids of their own. What
// only the log can tell (duplicates, the position) is not in the outcome.
func (c *Collector) Ingest(ctx context.Context, b *ingest.Batch, limit int) (ingest.Outcome, error) {
	out := ingest.Outcome{Ahead: true}
	records := make([]kafka.Message, 0, len(b.Messages))
	err := c.Check(b, limit, func(m ingest.Checked) {
		r := collected.Record{
			Source: b.Source, ReceivedAt: m.ReceivedAt, SentAt: b.SentAt, Context: b.Context, Integrations: b.Integrations,
			Code: string(m.Code), Reason: m.Reason,
		}
		if m.Message.Kind != 0 {
			r.Type = m.Message.Kind.String()
		}
		key := m.Subject.String()
		if m.Code != "" {
			key = m.MessageID // of any partition
			out.Rejected++
		} else {
			out.Accepted++
		}
		if m.Given || m.Code != "" {
			r.MessageID = m.MessageID
		}
		records = append(records, kafka.Message{Key: []byte(key), Value: m.Message.Raw, Headers: r.Headers()})
	})
	if err != nil {
		return ingest.Outcome{}, err
	}
	if err := c.write(ctx, records); err != nil {
		return ingest.Outcome{}, err
	}
	c.metrics.messages.Add(float64(out.Accepted))
	c.metrics.rejects.Add(float64(out.Rejected))
	return out, nil
}

// Refuse sends a refused call to the same topic, to be listed beside the rejects.
func (c *Collector) Refuse(ctx context.Context, r ingest.Refusal) error {
	record := collected.Record{
		Source: r.Source, ReceivedAt: r.ReceivedAt, Code: string(r.Code), Reason: r.Reason, Status: r.Status, Size: len(r.Body),
	}
	body := append([]byte(nil), r.Body[:min(len(r.Body), ingest.RefusalBytes)]...)
	return c.write(ctx, []kafka.Message{{Key: []byte(r.Source), Value: body, Headers: record.Headers()}})
}

// write returns when Kafka has all records, or does not take them:
//
//  1. While the last write has failed one call at a time tries; the others are
//     told at once, so that nothing piles up before brokers that are away.
//  2. What Kafka does not answer in time is told to be away. It stays in memory
//     until Kafka or the writer has decided, and counts as under way for as long.
func (c *Collector) write(ctx context.Context, records []kafka.Message) error {
	if len(records) == 0 {
		return nil
	}
	if !c.ready.Load() {
		return ingest.ErrAway
	}
	if c.away.Load() {
		if !c.probe.TryLock() {
			return ingest.ErrAway
		}
		defer c.probe.Unlock()
	}
	done := make(chan error, 1)
	go func() { done <- c.writer.WriteMessages(context.WithoutCancel(ctx), records...) }()
	timer := time.NewTimer(c.config.Deadline)
	defer timer.Stop()
	var err error
	select {
	case err = <-done:
	case <-timer.C:
		size := int64(0)
		for i := range records {
			size += int64(len(records[i].Key) + len(records[i].Value))
		}
		held := c.Hold(size)
		go func() {
			err := <-done
			held.Release()
			// The call has been told already.
			c.logger.LogAttrs(ctx, slog.LevelDebug, "a late write to kafka has ended", slog.Any("error", err))
		}()
		err = fmt.Errorf("kafka has not answered within %v", c.config.Deadline)
	}
	if err == nil {
		if c.away.CompareAndSwap(true, false) {
			c.logger.LogAttrs(ctx, slog.LevelInfo, "kafka takes messages again", slog.String("topic", c.config.Topic))
		}
		return nil
	}
	c.metrics.failed.Add(float64(len(records)))
	if !c.away.Swap(true) {
		c.logger.LogAttrs(ctx, slog.LevelError, "kafka does not take messages; calls are answered 503 until it does",
			slog.String("topic", c.config.Topic), slog.Any("error", first(err)))
	}
	return ingest.ErrAway
}

// first is the first error of a write of several messages.
func first(err error) error {
	var all kafka.WriteErrors
	if errors.As(err, &all) {
		for _, e := range all {
			if e != nil {
				return e
			}
		}
	}
	return err
}

type metrics struct{ messages, rejects, failed prometheus.Counter }

func newMetrics(r prometheus.Registerer, in *ingest.Intake) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "sojourn_collector_" + name, Help: help})
	}
	m := &metrics{
		messages: counter("messages_total", "Messages that Kafka has."),
		rejects:  counter("rejects_total", "Messages that Kafka has, marked as rejects."),
		failed:   counter("failed_total", "Messages that Kafka did not take and that were not acknowledged."),
	}
	if r != nil {
		r.MustRegister(m.messages, m.rejects, m.failed, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "sojourn_collector_in_flight_bytes", Help: "Bytes of the calls that are under way.",
		}, func() float64 { return float64(in.InFlight()) }))
	}
	return m
}
