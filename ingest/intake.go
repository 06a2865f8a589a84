package ingest

import (
	"crypto/rand"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/google/uuid"

	"sojourn/domain"
)

// IntakeConfig is what an Intake is made of; see Config for the fields.
type IntakeConfig struct {
	Clock       func() time.Time
	Rand        io.Reader
	MaxInFlight int64
	Nobody      func(value string) bool
}

// Intake is the part of ingest that needs no log: it bounds what is under way,
// reads messages and says which of them can be used. Its methods may be called
// concurrently.
type Intake struct {
	clock     func() time.Time
	randMu    sync.Mutex
	rand      io.Reader
	nobody    func(value string) bool
	admission *admission
}

// NewIntake makes an Intake.
func NewIntake(c IntakeConfig) (*Intake, error) {
	if c.MaxInFlight < 0 {
		return nil, fmt.Errorf("ingest: %d bytes in flight is below zero", c.MaxInFlight)
	}
	if c.MaxInFlight == 0 {
		c.MaxInFlight = DefaultMaxInFlight
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Rand == nil {
		c.Rand = rand.Reader
	}
	if c.Nobody == nil {
		c.Nobody = domain.NoIdentity
	}
	return &Intake{clock: c.Clock, rand: c.Rand, nobody: c.Nobody, admission: newAdmission(c.MaxInFlight)}, nil
}

// Now is the time of receipt.
func (in *Intake) Now() domain.Millis { return domain.MillisOf(in.clock()) }

// newMessageID is the id of a message that came without one.
func (in *Intake) newMessageID() (string, error) {
	in.randMu.Lock()
	defer in.randMu.Unlock()
	id, err := uuid.NewRandomFromReader(in.rand)
	if err != nil {
		return "", fmt.Errorf("make a message id: %w", err)
	}
	return id.String(), nil
}

// read reads a message into the header of its touchpoint; f is why it cannot
// become one. The header has a message id in any case, the message's own or a new
// one. The strings of h may share the message's bytes.
func (in *Intake) read(env *envelope, m *Message, h *domain.Header, within bool) (f *fault, err error) {
	id := m.ownID()
	if id == "" {
		if id, err = in.newMessageID(); err != nil {
			return nil, err
		}
	}
	if within {
		f = m.header(env, h, in.nobody)
	} else {
		f = &fault{CodeBatchTooLong, fmt.Sprintf("the message stands behind the first %d of its batch", MaxMessages)}
	}
	h.MessageID = id
	return f, nil
}

// Checked is a message of a call as an Intake has read it.
type Checked struct {
	Message    *Message
	ReceivedAt domain.Millis
	// MessageID is the message's own id, or the one it was given; Given says which.
	MessageID string
	Given     bool
	// Subject is the one that the touchpoint is of, zero for a reject.
	Subject domain.Subject
	// Code and Reason say why the message cannot be used; empty where it can. What
	// only the log knows (the id stands for another content) is not in them.
	Code   Code
	Reason string
}

// Check reads the messages of a call as Service.Ingest does before it asks the
// log, and yields each in order. What it yields may share the call's bytes and is
// good until the next. limit is that of Service.Ingest.
func (in *Intake) Check(b *Batch, limit int, each func(Checked)) error {
	env := b.envelope(in.Now)
	var h domain.Header
	for i := range b.Messages {
		m := &b.Messages[i]
		f, err := in.read(env, m, &h, limit == 0 || i < limit)
		if err != nil {
			return err
		}
		c := Checked{Message: m, ReceivedAt: m.receivedAt(env), MessageID: h.MessageID, Given: m.ownID() == ""}
		if f != nil {
			c.Code, c.Reason = f.code, f.reason
		} else {
			c.Subject = h.Subject()
		}
		each(c)
	}
	return nil
}
