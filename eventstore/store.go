// Package eventstore is the contract every log behind Sojourn keeps: streams,
// revisions, positions, and bytes. It knows no domain type.
//
// The embedded default is eventstore/pebblestore; eventstore/storetest is the
// conformance suite that every implementation passes.
package eventstore

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Position is the place of an event in the whole log. Positions only grow and
// start above zero; there may be gaps between them. Zero is before the first
// event.
type Position uint64

// NewEvent is an event to append.
type NewEvent struct {
	// ID makes a repeated append harmless: a stream holds an id once.
	ID uuid.UUID
	// Type is an explicit, versioned name such as "touchpoint.v1".
	Type string
	// Metadata and Data are opaque to the store.
	Metadata, Data []byte
}

// Recorded is an event as the log holds it.
//
// Where a Recorded comes from an iterator, its strings and byte slices are
// valid only until the iterator's next step; Clone keeps them. That goes for
// the key of a map, too.
type Recorded struct {
	NewEvent
	Stream   string
	Revision uint64 // place in the stream, from 0, without gaps
	Position Position
	// RecordedAt is the time of the append, UTC, to the millisecond, and never
	// before that of an event at a lower position.
	RecordedAt time.Time
	// Repeat says that an event of the same id stands at a lower position, in
	// another stream. Views leave such an event out.
	Repeat bool
}

// Clone returns a copy of r that stays valid after the iterator has moved on.
func (r Recorded) Clone() Recorded {
	r.Stream = strings.Clone(r.Stream)
	r.Type = strings.Clone(r.Type)
	r.Metadata = slices.Clone(r.Metadata)
	r.Data = slices.Clone(r.Data)
	return r
}

// Expected is the state a stream must be in for an append to go through: one of
// Any, NoStream, StreamExists and Revision.
type Expected interface{ expected() }

// Any appends whatever the stream holds.
type Any struct{}

// NoStream appends only where the stream does not exist.
type NoStream struct{}

// StreamExists appends only where the stream holds an event.
type StreamExists struct{}

// Revision appends only where the stream's last event has this revision.
type Revision uint64

func (Any) expected()          {}
func (NoStream) expected()     {}
func (StreamExists) expected() {}
func (Revision) expected()     {}

// Append is the part of a call that goes to one stream.
type Append struct {
	Stream   string
	Expected Expected // nil means Any
	Events   []NewEvent
}

// Result tells what became of one Append.
type Result struct {
	// Revision is that of the last event of the call in its stream, and Position
	// its place in the log, whether it was appended now or stood there before.
	Revision uint64
	Position Position
	// Appended counts the events that are new; the rest stood there before.
	Appended int
	// Err is nil, or says why nothing of this part was appended:
	// a *WrongRevisionError or ErrTooLarge.
	Err error
}

var (
	// ErrStreamNotFound is returned by reads of a stream that has no event.
	ErrStreamNotFound = errors.New("stream not found")
	// ErrWrongRevision is what errors.Is finds in a *WrongRevisionError.
	ErrWrongRevision = errors.New("wrong expected revision")
	// ErrTooLarge refuses an event above the store's documented limit.
	ErrTooLarge = errors.New("event too large")
	// ErrOverloaded asks the caller to come again later; nothing was appended.
	ErrOverloaded = errors.New("event store overloaded")
	// ErrClosed is returned by every call after Close.
	ErrClosed = errors.New("event store closed")
	// ErrUnavailable is returned by every append after a write to the disk has
	// failed (the cause is wrapped): what was not yet acknowledged is unknown, so
	// the store refuses everything until it is opened anew.
	ErrUnavailable = errors.New("event store unavailable")
)

// WrongRevisionError says what an append expected and what the stream holds.
type WrongRevisionError struct {
	Stream   string
	Expected Expected
	Exists   bool   // whether the stream has any event
	Actual   uint64 // revision of its last event, where it exists
}

func (e *WrongRevisionError) Error() string {
	want := "any revision"
	switch x := e.Expected.(type) {
	case NoStream:
		want = "no stream"
	case StreamExists:
		want = "an existing stream"
	case Revision:
		want = fmt.Sprintf("revision %d", uint64(x))
	}
	have := "does not exist"
	if e.Exists {
		have = fmt.Sprintf("is at revision %d", e.Actual)
	}
	return fmt.Sprintf("wrong expected revision: stream %q %s, expected %s", e.Stream, have, want)
}

// Is makes errors.Is(err, ErrWrongRevision) true.
func (e *WrongRevisionError) Is(target error) bool { return target == ErrWrongRevision }

// Direction is the order in which a stream is read.
type Direction bool

// The directions of a read.
const (
	Forwards  Direction = false
	Backwards Direction = true
)

// End is the revision to start from to read a stream backwards from its end.
const End = ^uint64(0)

// Store is the log.
//
// Appending the events a stream holds already is harmless: under Any and
// StreamExists they are left out and the rest is appended; under NoStream and
// Revision(n) the rest is appended only where the stream ends at that revision
// or with the call's own first events right behind it. A call whose events are
// all known succeeds; everything else is a wrong revision.
type Store interface {
	// Append appends events to one stream, atomically: all of them or none. They
	// are durable when it returns without an error.
	Append(ctx context.Context, stream string, expected Expected, events ...NewEvent) (Result, error)
	// AppendMany appends to many streams. Each part is atomic by itself and has
	// its own result, in the order of the parts; several parts may name the same
	// stream and are taken in order. All parts without an error are durable when
	// it returns. The error is for the call as a whole (overload, closed, a failed
	// disk); then nothing is known of any part, and repeating the call is safe.
	AppendMany(ctx context.Context, parts []Append) ([]Result, error)
	// ReadStream yields the events of a stream from a revision on, that one
	// included. ErrStreamNotFound is yielded where the stream has no event.
	ReadStream(ctx context.Context, stream string, from uint64, dir Direction) iter.Seq2[Recorded, error]
	// ReadAll yields all durable events after a position, in order, and ends at
	// the end of the log as it stood at some instant during the call.
	ReadAll(ctx context.Context, after Position) iter.Seq2[Recorded, error]
	// Head is the position of the last durable event, 0 where there is none.
	Head(ctx context.Context) (Position, error)
	// Wait returns when the log holds a durable event after a position, or with
	// the context's error.
	Wait(ctx context.Context, after Position) error
	// Close releases the store. Appends under way are finished or refused.
	Close() error
}

// IDIndex is kept by stores that can find an event by its id in the whole log.
type IDIndex interface {
	// Lookup sets dst[i] to the lowest position at which the event ids[i] is
	// durable, or to 0 where the log does not hold it. len(dst) must be len(ids).
	Lookup(ctx context.Context, ids []uuid.UUID, dst []Position) error
}

// Follow yields all events after a position and then those that come, until the
// context ends (which yields its error) or the caller stops.
func Follow(ctx context.Context, s Store, after Position) iter.Seq2[Recorded, error] {
	return func(yield func(Recorded, error) bool) {
		for {
			for e, err := range s.ReadAll(ctx, after) {
				if err != nil {
					yield(Recorded{}, err)
					return
				}
				after = e.Position
				if !yield(e, nil) {
					return
				}
			}
			if err := s.Wait(ctx, after); err != nil {
				yield(Recorded{}, err)
				return
			}
		}
	}
}
