package kafkaout

import (
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/google/uuid"
	"github.com/segmentio/kafka-go"

	"sojourn/domain"
	"sojourn/eventstore"
)

// ceSource is the source of the CloudEvents: ids are unique within it.
const ceSource = "/sojourn"

// event begins a CloudEvent 1.0 in Kafka's binary mode: attributes are headers,
// the value is the data.
func event(topic string, e *eventstore.Recorded, key, at string) kafka.Message {
	m := kafka.Message{Topic: topic, Key: []byte(key), Value: e.Data}
	for _, h := range []struct{ name, value string }{
		{"ce_specversion", "1.0"},
		{"ce_id", e.ID.String()},
		{"ce-id", e.ID.String()}, // as HTTP writes it, for those who look for it there
		{"ce_source", ceSource},
		{"ce_type", e.Type},
		{"ce_time", at},
		{"ce_subject", key},
		{"ce_position", strconv.FormatUint(uint64(e.Position), 10)},
		{"content-type", "application/json"},
	} {
		if h.value != "" {
			m.Headers = append(m.Headers, kafka.Header{Key: h.name, Value: []byte(h.value)})
		}
	}
	return m
}

// statement is the message of a statement: the data is the statement's. A later
// withdrawal names it by its revision.
func statement(topic string, e *eventstore.Recorded) (kafka.Message, error) {
	customer, ok := domain.StatementCustomer(e.Stream)
	if !ok {
		return kafka.Message{}, fmt.Errorf("statement %s stands in stream %s, which is no customer's", e.ID, e.Stream)
	}
	var s struct {
		At    string `json:"at"`
		Clock string `json:"clock"` // a withdrawal has no other
	}
	if err := json.Unmarshal(e.Data, &s); err != nil {
		return kafka.Message{}, fmt.Errorf("read statement %s: %w", e.ID, err)
	}
	if s.At == "" {
		s.At = s.Clock
	}
	m := event(topic, e, customer.String(), s.At)
	m.Headers = append(m.Headers, kafka.Header{Key: "ce_revision", Value: strconv.AppendUint(nil, e.Revision, 10)})
	return m, nil
}

// touchpoint is the message of a touchpoint: the data is the message as it was
// sent, what stood beside it on its batch is in headers. A subject that is of no
// customer is keyed by its stream.
func touchpoint(topic string, e *eventstore.Recorded, h *domain.Header, customer uuid.UUID) kafka.Message {
	key := customer.String()
	if customer == uuid.Nil {
		key = e.Stream
	}
	m := event(topic, e, key, h.OccurredAt.String())
	for _, x := range []struct{ name, value string }{
		{"ce_kind", h.Kind.String()},
		{"ce_app", h.Source},
		{"ce_receivedat", h.ReceivedAt.String()},
		{"context", h.BatchContext},
		{"integrations", h.BatchIntegrations},
	} {
		if x.value != "" {
			m.Headers = append(m.Headers, kafka.Header{Key: x.name, Value: []byte(x.value)})
		}
	}
	return m
}
