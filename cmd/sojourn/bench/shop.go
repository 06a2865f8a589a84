package bench

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"time"

	"github.com/google/uuid"

	"sojourn/cmd/sojourn/demo"
	"sojourn/domain"
	"sojourn/eventstore"
	"sojourn/ingest"
)

// source is the source that all messages are of.
const source = "shop"

// shopOf is a shop whose history ends about now if all that is sent in a run is
// sent: then no message is late, as none is in a shop that is running.
func shopOf(c *Config) demo.Config {
	n := c.Held + c.Rounds*(c.size(intakeEvents, intakeQuick)+c.size(importRows, importQuick))
	days := n*5/86_400 + 2
	return demo.Config{
		Customers: customers, Days: days, Seed: 1,
		End: time.Now().UTC().Truncate(24 * time.Hour),
	}
}

// messages is the endless stream of the shop's messages, taken piece by piece.
type messages struct {
	next func() ([]byte, bool)
	stop func()
}

func newMessages(c demo.Config) *messages {
	next, stop := iter.Pull(demo.Endless(c))
	return &messages{next, stop}
}

// take returns the next n messages, which stand one behind the other in one
// piece of memory.
func (m *messages) take(n int) [][]byte {
	buf := make([]byte, 0, n*420)
	ends := make([]int, n)
	for i := range n {
		text, _ := m.next()
		buf = append(buf, text...)
		ends[i] = len(buf)
	}
	out := make([][]byte, n)
	from := 0
	for i, end := range ends {
		out[i] = buf[from:end:end]
		from = end
	}
	return out
}

// parse makes messages of the tracking API's parser of texts.
func parse(texts [][]byte) ([]ingest.Message, error) {
	msgs := make([]ingest.Message, len(texts))
	for i, t := range texts {
		var err error
		if msgs[i], err = ingest.ParseMessage(t); err != nil {
			return nil, fmt.Errorf("the shop's message %s: %w", t, err)
		}
	}
	return msgs, nil
}

// capture is a log that keeps what ingest would append, so that the events of
// figure 1 are those of figure 2.
type capture struct{ parts []eventstore.Append }

func (c *capture) AppendMany(_ context.Context, parts []eventstore.Append) ([]eventstore.Result, error) {
	results := make([]eventstore.Result, len(parts))
	for i, p := range parts {
		results[i] = eventstore.Result{Position: 1, Appended: len(p.Events)}
		p.Events = slices.Clone(p.Events)
		for j := range p.Events {
			p.Events[j].Metadata = slices.Clone(p.Events[j].Metadata)
			p.Events[j].Data = slices.Clone(p.Events[j].Data)
		}
		c.parts = append(c.parts, p)
	}
	return results, nil
}

var errNoReading = errors.New("this log is not read")

func (c *capture) ReadAll(context.Context, eventstore.Position) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) { yield(eventstore.Recorded{}, errNoReading) }
}

func (c *capture) ReadStream(context.Context, string, uint64, eventstore.Direction) iter.Seq2[eventstore.Recorded, error] {
	return c.ReadAll(context.Background(), 0)
}

// Lookup knows no id.
func (c *capture) Lookup(_ context.Context, _ []uuid.UUID, dst []eventstore.Position) error {
	clear(dst)
	return nil
}

// events are the shop's messages as ingest appends them.
type events struct {
	messages *messages
	capture  capture
	service  *ingest.Service
	at       int
}

func newEvents(c demo.Config, keyer domain.Keyer) (*events, error) {
	e := &events{messages: newMessages(c)}
	var err error
	e.service, err = ingest.New(ingest.Config{
		Log: &e.capture, Index: &e.capture, Keyer: keyer, Logger: slog.New(slog.DiscardHandler),
	})
	return e, err
}

// next is the next event.
func (e *events) next() (string, eventstore.NewEvent, error) {
	if e.at == len(e.capture.parts) {
		e.capture.parts, e.at = e.capture.parts[:0], 0
		msgs, err := parse(e.messages.take(1000))
		if err != nil {
			return "", eventstore.NewEvent{}, err
		}
		if _, err := e.service.Ingest(context.Background(), &ingest.Batch{Source: source, Messages: msgs}, 0); err != nil {
			return "", eventstore.NewEvent{}, err
		}
	}
	p := e.capture.parts[e.at]
	e.at++
	return p.Stream, p.Events[0], nil
}
