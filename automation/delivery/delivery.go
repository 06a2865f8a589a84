// Package delivery is everything of automation that goes over the wire:
// destinations and their secrets, the bodies made of templates, the attempt
// itself (webhook, e-mail, Kafka), the schedule of attempts, and a Dispatcher
// that keeps a slow or dead destination from delaying any other.
//
// It decides nothing about who gets what: the engine in automation does, and
// records what became of each attempt. A delivery is made at least once; its id
// is the same on every attempt, so that a receiver can tell a repeat.
package delivery

import (
	"context"
	"time"

	"github.com/google/uuid"
)

// Kind is what a destination is.
type Kind string

// The kinds of destinations.
const (
	Webhook Kind = "webhook" // HTTP POST, signed by the Standard Webhooks spec
	Email   Kind = "email"   // through an SMTP server
	Kafka   Kind = "kafka"   // a message in a topic
)

// Message is what a delivery carries, as rendered at its first attempt. It is
// kept (its JSON form is stable) and repeated unchanged on every later attempt.
type Message struct {
	// Body is that of a webhook or of a Kafka message; at most MaxBody bytes.
	Body Text `json:"body,omitempty"`
	// Header are further headers of a webhook, a Kafka message or an e-mail.
	Header map[string]string `json:"header,omitempty"`
	// Key is that of a Kafka message.
	Key string `json:"key,omitempty"`

	// The parts of an e-mail. At least one of Text and HTML is there; both are one
	// message in two forms.
	To      string `json:"to,omitempty"`
	Subject string `json:"subject,omitempty"`
	Text    string `json:"text,omitempty"`
	HTML    string `json:"html,omitempty"`
}

// Attempt is one try to deliver.
type Attempt struct {
	ID     uuid.UUID // of the delivery; the idempotency key, the same on every attempt
	Number int       // from 1
	// Destination is as it stands at this attempt, not at the first one: a rotated
	// secret or a corrected address holds for what waits, too.
	Destination Destination
	Message
	// Customer and Category are whom an e-mail is for, and the consent that its
	// link withdraws; no link where Category is empty.
	Customer uuid.UUID
	Category string
}

// Outcome is what became of an attempt.
type Outcome struct {
	// Delivered: the receiver has taken it.
	Delivered bool
	// Retry: another attempt may do better. Without Delivered and Retry the
	// delivery has failed for good.
	Retry bool
	// RetryAfter is how long the receiver asked to be left alone, 0 where it did
	// not ask; at most MaxRetryAfter.
	RetryAfter time.Duration
	// Gone: the receiver answered 410, so the destination is to be disabled.
	Gone bool
	// Status is that of HTTP or SMTP; 0 where none came.
	Status int
	// Response is the first KiB of the answer.
	Response []byte
	// Latency is the time from the start of the attempt to its outcome.
	Latency time.Duration
	// Error says in words why it was not delivered; it holds no secret, and of the
	// customer nothing but what the receiver itself says.
	Error string
}

// Sender makes attempts. Send returns when the outcome is known, within the
// destination's time-out; the context's end is a time-out, too. It may be called
// concurrently.
type Sender interface {
	Send(ctx context.Context, a *Attempt) Outcome
}

// Limits.
const (
	MaxBody       = 256 << 10      // of a rendered body or part, in bytes
	MaxResponse   = 1 << 10        // of an answer that is kept, in bytes
	MaxRetryAfter = 24 * time.Hour // of what a receiver can ask for
)
