package delivery

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"
)

// HeaderDelivery is the header of a Kafka message that holds the delivery's id.
const HeaderDelivery = "delivery-id"

// Topics produces messages, acknowledged by all replicas in sync. There is no
// idempotent producer here: a message may come twice, with one delivery id.
type Topics struct {
	guard *Guard
	tls   *tls.Config

	mu      sync.Mutex
	writers map[string]*topicWriter // by name of the destination
}

type topicWriter struct {
	*kafka.Writer
	as string // what it was made of
}

// NewTopics makes a sender; roots may be nil: those of the system.
func NewTopics(guard *Guard, roots *tls.Config) *Topics {
	if roots == nil {
		roots = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	return &Topics{guard: guard, tls: roots, writers: make(map[string]*topicWriter)}
}

// Close closes all connections.
func (t *Topics) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var errs []error
	for name, w := range t.writers {
		errs = append(errs, w.close())
		delete(t.writers, name)
	}
	return errors.Join(errs...)
}

func (w *topicWriter) close() error {
	err := w.Writer.Close()
	w.Transport.(*kafka.Transport).CloseIdleConnections()
	return err
}

// Send produces one message. A message that is too large has failed for good;
// everything else asks for a retry. Outcome.Status is always 0.
func (t *Topics) Send(ctx context.Context, a *Attempt) Outcome {
	started := time.Now()
	ctx, cancel := context.WithTimeout(ctx, a.Destination.Timeout())
	defer cancel()
	o := Outcome{Delivered: true}
	w, err := t.writer(&a.Destination)
	if err == nil {
		m := kafka.Message{Key: []byte(a.Key), Value: a.Body, Headers: []kafka.Header{{Key: HeaderDelivery, Value: []byte(a.ID.String())}}}
		for name, value := range a.Header {
			m.Headers = append(m.Headers, kafka.Header{Key: name, Value: []byte(value)})
		}
		slices.SortFunc(m.Headers, func(a, b kafka.Header) int { return cmp.Compare(a.Key, b.Key) })
		err = w.WriteMessages(ctx, m)
	}
	if err != nil {
		var many kafka.WriteErrors
		if errors.As(err, &many) && len(many) > 0 && many[0] != nil {
			err = many[0]
		}
		var tooLarge kafka.MessageTooLargeError
		o = Outcome{Retry: !errors.As(err, &tooLarge) && !errors.Is(err, kafka.MessageSizeTooLarge), Error: cause(err)}
	}
	o.Latency = time.Since(started)
	return o
}

// writer is the writer of a destination as it stands now.
func (t *Topics) writer(d *Destination) (*topicWriter, error) {
	password := ""
	if len(d.Secrets) > 0 {
		password = d.Secrets[0].Reveal()
	}
	as := fmt.Sprintf("%+v %q", *d.Topic, password)
	t.mu.Lock()
	defer t.mu.Unlock()
	if w := t.writers[d.Name]; w != nil {
		if w.as == as {
			return w, nil
		}
		delete(t.writers, d.Name)
		// It waits for what is under way.
		go func() { _ = w.close() }()
	}
	transport := &kafka.Transport{Dial: t.guard.Dialer().DialContext, ClientID: "sojourn"}
	if d.Topic.TLS {
		transport.TLS = t.tls.Clone()
	}
	if d.Topic.SASL != "" {
		var err error
		if transport.SASL, err = mechanism(d.Topic, password); err != nil {
			return nil, err
		}
	}
	w := &topicWriter{as: as, Writer: &kafka.Writer{
		Addr: kafka.TCP(d.Topic.Brokers...), Topic: d.Topic.Name, Balancer: kafka.Murmur2Balancer{},
		MaxAttempts: 1, BatchTimeout: 5 * time.Millisecond, RequiredAcks: kafka.RequireAll, BatchBytes: 2 * MaxBody,
		ReadTimeout: MaxTimeout, WriteTimeout: MaxTimeout, Transport: transport,
	}}
	t.writers[d.Name] = w
	return w, nil
}

func mechanism(t *Topic, password string) (sasl.Mechanism, error) {
	switch strings.ToLower(t.SASL) {
	case "plain":
		return plain.Mechanism{Username: t.Username, Password: password}, nil
	case "scram-sha-256":
		return scram.Mechanism(scram.SHA256, t.Username, password)
	case "scram-sha-512":
		return scram.Mechanism(scram.SHA512, t.Username, password)
	}
	return nil, fmt.Errorf("%q is no mechanism", t.SASL)
}
