package ingest

import (
	"sojourn/domain"
	"sojourn/eventstore"
)

// Scalar is the JSON text of a value, nil where it is missing.
type Scalar []byte

// Text reads a JSON string, or a number in its own digits. ok is false where the
// value is something else; a missing value and null are "" and ok.
func (v Scalar) Text() (s string, ok bool) {
	if v == nil {
		return "", true
	}
	return scalarText(v)
}

// Batch is the messages of one call and what they share.
type Batch struct {
	// Source is the one whose write key came with the call.
	Source string
	// ReceivedAt is when the call reached us; zero takes the service's clock.
	ReceivedAt domain.Millis
	// SentAt is the sender's own time of sending, nil where there is none. A
	// message's own counts before it.
	SentAt Scalar
	// Context and Integrations are JSON objects, in UTF-8, that are to be merged
	// under each message's own; nil where there are none.
	Context, Integrations []byte
	Messages              []Message
}

func (b *Batch) envelope(now func() domain.Millis) *envelope {
	env := &envelope{
		source: b.Source, receivedAt: b.ReceivedAt, sentAt: b.SentAt,
		context: b.Context, integrations: b.Integrations,
	}
	if env.receivedAt == 0 {
		env.receivedAt = now()
	}
	env.readSentAt()
	return env
}

// Outcome tells what became of the messages of a call. All of it is durable.
type Outcome struct {
	// Accepted are in the log now, Duplicates stood there before with the same
	// content, and Rejected are among the rejects. Together they are all messages
	// of the call.
	Accepted, Duplicates, Rejected int
	// Position is the highest of the events that the messages of the call are in
	// the log, of the rejects and of the originals of duplicates too; 0 where the
	// call had no message.
	Position eventstore.Position
	// Ahead says that what was kept is on its way to the log and not in it yet, so
	// that Position and Duplicates are not known.
	Ahead bool
}
