// Package kafkaout writes what Sojourn says of customers (statements), and if
// wanted every touchpoint, to Kafka topics, keyed by customer.
//
// Delivery is at least once, in order per customer. What a crash leaves in doubt
// is read from the topic and not written again; what is still written twice, as
// by an answer of a broker that was lost, has the same ce_id.
package kafkaout

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/sasl"

	"sojourn/domain"
	"sojourn/eventstore"
)

// Log is what a Sender needs of the event store.
type Log interface {
	ReadAll(ctx context.Context, after eventstore.Position) iter.Seq2[eventstore.Recorded, error]
	Head(ctx context.Context) (eventstore.Position, error)
	Wait(ctx context.Context, after eventstore.Position) error
}

// Customers names customers by their subjects.
type Customers interface {
	// WaitFor returns when everything up to a position is known, or with the
	// context's error.
	WaitFor(ctx context.Context, position eventstore.Position) error
	// CustomerOf is the customer that a subject is of now; ok is false where there
	// is none.
	CustomerOf(ctx context.Context, subject domain.Subject) (customer uuid.UUID, ok bool, err error)
}

// Config is what a Sender is made of. Log, Brokers, Checkpoint and one of the
// topics are required.
type Config struct {
	Log     Log
	Brokers []string
	// TLS is nil for plain connections, SASL for those without authentication.
	TLS  *tls.Config
	SASL sasl.Mechanism
	// Statements is the topic of changes of stage, tier and satisfaction status,
	// Touchpoints that of every touchpoint; empty for none.
	Statements, Touchpoints string
	// Customers is needed with Touchpoints.
	Customers Customers
	// FromEnd begins at the end of the log where there is no checkpoint; else a
	// Sender begins at its beginning.
	FromEnd bool
	// Checkpoint is the file that says how far the log is sent.
	Checkpoint string
	// Logger takes what goes wrong; default: none.
	Logger *slog.Logger
	// Registerer takes the counters; default: nobody reads them.
	Registerer prometheus.Registerer
}

// The limits of what goes to Kafka at once. All of it that is for one partition
// is one request, so that Kafka has it as a whole or not at all.
const (
	maxMessages = 2_000
	maxBytes    = 900 << 10 // below Kafka's default for max.message.bytes
)

// Times of a Sender.
const (
	linger          = time.Millisecond
	requestTimeout  = 10 * time.Second
	checkpointEvery = time.Second
	minBackoff      = 100 * time.Millisecond
	maxBackoff      = 5 * time.Second
)

// Sender follows the log. It may be run once.
type Sender struct {
	config Config
	logger *slog.Logger
	wire   *kafka.Transport
	client *kafka.Client
	writer *kafka.Writer

	sent, skipped prometheus.Counter
	position      prometheus.Gauge

	at      checkpoint          // what Kafka has
	saved   eventstore.Position // the position on disk
	savedAt time.Time           //
	there   map[uuid.UUID]bool  // ids in the topics behind the checkpoint, until doubt ends
	doubt   eventstore.Position // the head of the log when the topics were read
	mu      sync.Mutex          // of ends
	ends    map[partition]int64 // of what was written since the checkpoint
}

// New makes a Sender. It does not connect.
func New(c Config) (*Sender, error) {
	switch {
	case c.Log == nil || len(c.Brokers) == 0 || c.Checkpoint == "":
		return nil, errors.New("sending to Kafka needs the log, brokers and a checkpoint")
	case c.Statements == "" && c.Touchpoints == "":
		return nil, errors.New("sending to Kafka needs a topic of statements or of touchpoints")
	case c.Touchpoints != "" && c.Customers == nil:
		return nil, errors.New("touchpoints are keyed by customers, which nobody names")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Sender{config: c, logger: c.Logger, ends: make(map[partition]int64)}
	s.sent = prometheus.NewCounter(prometheus.CounterOpts{Name: "sojourn_kafka_out_messages_total", Help: "Messages written to Kafka."})
	s.skipped = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "sojourn_kafka_out_skipped_total", Help: "Messages that Kafka had already, after a failure or a start.",
	})
	s.position = prometheus.NewGauge(prometheus.GaugeOpts{Name: "sojourn_kafka_out_position", Help: "Position of the log up to which everything is in Kafka."})
	if c.Registerer != nil {
		c.Registerer.MustRegister(s.sent, s.skipped, s.position)
	}
	s.wire = &kafka.Transport{
		TLS: c.TLS, SASL: c.SASL, ClientID: "sojourn-out", MetadataTTL: 2 * time.Second,
		Dial: (&net.Dialer{Timeout: 3 * time.Second}).DialContext,
	}
	addr := kafka.TCP(c.Brokers...)
	s.client = &kafka.Client{Addr: addr, Transport: s.wire}
	s.writer = &kafka.Writer{
		Addr: addr, Transport: s.wire, Balancer: kafka.Murmur2Balancer{Consistent: true},
		RequiredAcks: kafka.RequireAll, Compression: kafka.Snappy,
		// Not less than a chunk has; see write.
		BatchSize: maxMessages, BatchBytes: 1 << 30, BatchTimeout: linger,
		ReadTimeout: requestTimeout, WriteTimeout: requestTimeout,
		// What failed may have been written: the topics tell.
		MaxAttempts: 1,
		Completion: func(messages []kafka.Message, err error) {
			if err != nil || len(messages) == 0 {
				return
			}
			last := &messages[len(messages)-1]
			s.mu.Lock()
			defer s.mu.Unlock()
			s.ends[partition{last.Topic, last.Partition}] = last.Offset + 1
		},
	}
	return s, nil
}

// Run sends until the context ends. Brokers that are away, and a log that cannot
// be read, delay it; the error is about the checkpoint.
func (s *Sender) Run(ctx context.Context) (err error) {
	defer s.wire.CloseIdleConnections()
	defer func() { err = errors.Join(err, s.writer.Close()) }()
	found := false
	if s.at, found, err = readCheckpoint(s.config.Checkpoint); err != nil {
		return err
	}
	s.saved = s.at.Position
	wait := minBackoff
	for known := false; ctx.Err() == nil; {
		err := func() error {
			if !found && s.config.FromEnd {
				head, err := s.config.Log.Head(ctx)
				if err != nil {
					return err
				}
				s.at.Position = head
			}
			found = true
			if !known {
				if err := s.readBehind(ctx); err != nil {
					return err
				}
				known = true
			}
			return s.pass(ctx)
		}()
		if err == nil {
			wait = minBackoff
			if err = s.save(); err == nil {
				err = s.config.Log.Wait(ctx, s.at.Position)
			}
			if err == nil {
				continue
			}
		}
		if ctx.Err() != nil {
			break
		}
		known = false
		s.logger.LogAttrs(ctx, slog.LevelWarn, "not sent to kafka, trying again", slog.Any("error", err))
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
		wait = min(2*wait, maxBackoff)
	}
	return s.save()
}

// pass sends what the log holds behind the checkpoint.
func (s *Sender) pass(ctx context.Context) error {
	var c chunk
	flush := func() error {
		if err := s.write(ctx, &c); err != nil {
			return err
		}
		c.reset()
		if time.Since(s.savedAt) >= checkpointEvery {
			return s.save()
		}
		return nil
	}
	for e, err := range s.config.Log.ReadAll(ctx, s.at.Position) {
		if err != nil {
			return err
		}
		if s.wants(&e) {
			c.add(e.Clone())
		}
		c.last = e.Position
		if c.full() {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if c.last == 0 {
		return nil
	}
	return flush()
}

// wants reports whether an event goes to a topic.
func (s *Sender) wants(e *eventstore.Recorded) bool {
	if !domain.Ours(e.Stream, e.Type) {
		return false
	}
	switch e.Type {
	case domain.TypeTouchpoint, domain.TypeJoin:
		return s.config.Touchpoints != "" && !e.Repeat
	case domain.TypeStageEntered, domain.TypeStageWithdrawn, domain.TypeTierEntered, domain.TypeTierWithdrawn,
		domain.TypeStatusEntered, domain.TypeStatusWithdrawn:
		return s.config.Statements != "" && !e.Repeat
	}
	return false
}

// chunk is what goes to Kafka at once.
type chunk struct {
	events []eventstore.Recorded
	bytes  int
	last   eventstore.Position // read, sent or not
	read   int
}

func (c *chunk) add(e eventstore.Recorded) {
	c.events = append(c.events, e)
	c.bytes += len(e.Data) + len(e.Metadata) + 512
}

// full is true also where much was read and nothing is to be sent, so that the
// checkpoint moves.
func (c *chunk) full() bool {
	c.read++
	return len(c.events) == maxMessages || c.bytes >= maxBytes || c.read >= 100*maxMessages
}

func (c *chunk) reset() { *c = chunk{events: c.events[:0]} }

// write returns when Kafka has a chunk, and moves the position behind it:
//
//  1. What stands in a topic behind the checkpoint is left out.
//  2. The rest is written, for each partition in one request, which Kafka takes
//     as a whole or not at all: what fails leaves no hole in the order of a
//     customer. The next chunk is written only when this one is there.
func (s *Sender) write(ctx context.Context, c *chunk) error {
	messages := make([]kafka.Message, 0, len(c.events))
	known := make(map[domain.Subject]uuid.UUID)
	waited := false
	for i := range c.events {
		e := &c.events[i]
		if s.there[e.ID] {
			s.skipped.Inc()
			continue
		}
		if e.Type != domain.TypeTouchpoint && e.Type != domain.TypeJoin {
			m, err := statement(s.config.Statements, e)
			if err != nil {
				return err
			}
			messages = append(messages, m)
			continue
		}
		if !waited {
			if err := s.config.Customers.WaitFor(ctx, c.last); err != nil {
				return fmt.Errorf("wait for the customers: %w", err)
			}
			waited = true
		}
		h, err := domain.ParseHeader(string(e.Metadata))
		if err != nil {
			return fmt.Errorf("read event %s: %w", e.ID, err)
		}
		subject := h.Subject()
		customer, ok := known[subject]
		if !ok {
			if customer, _, err = s.config.Customers.CustomerOf(ctx, subject); err != nil {
				return fmt.Errorf("name a customer: %w", err)
			}
			known[subject] = customer
		}
		messages = append(messages, touchpoint(s.config.Touchpoints, e, &h, customer))
	}
	if len(messages) > 0 {
		if err := s.writer.WriteMessages(ctx, messages...); err != nil {
			return first(err)
		}
		s.sent.Add(float64(len(messages)))
	}
	s.at.Position = c.last
	s.settle()
	s.position.Set(float64(c.last))
	return nil
}

// settle notes where the topics end, once no doubt is left: until then a start
// must read again what was read to find out.
func (s *Sender) settle() {
	if s.at.Position < s.doubt {
		return
	}
	s.there = nil
	s.mu.Lock()
	defer s.mu.Unlock()
	for p, end := range s.ends {
		s.at.set(p, end)
	}
}

// save writes the checkpoint, where it has moved.
func (s *Sender) save() error {
	if s.at.Position == s.saved {
		return nil
	}
	if err := s.at.write(s.config.Checkpoint); err != nil {
		return fmt.Errorf("keep the checkpoint of what is sent to kafka: %w", err)
	}
	s.saved, s.savedAt = s.at.Position, time.Now()
	return nil
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
