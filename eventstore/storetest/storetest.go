// Package storetest is the conformance suite that every event store passes.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"testing"
	"time"

	"github.com/google/uuid"

	"sojourn/eventstore"
)

// Open returns a new, empty store. The suite closes it.
type Open func(t testing.TB) eventstore.Store

// Run runs the suite. Each test opens a store of its own, and the tests run in
// parallel. RunModel completes it.
func Run(t *testing.T, open Open) {
	tests := []struct {
		name string
		run  func(t *testing.T, open Open)
	}{
		{"Append", testAppend},
		{"AppendNothing", testAppendNothing},
		{"Expected", testExpected},
		{"Repeats", testRepeats},
		{"AppendMany", testAppendMany},
		{"AppendManySameStream", testAppendManySameStream},
		{"AppendManyLarge", testAppendManyLarge},
		{"SameIDTwiceInACall", testSameIDTwice},
		{"IDsInSeveralStreams", testRepeatFlag},
		{"CallerKeepsItsMemory", testCallerMemory},
		{"ReadStream", testReadStream},
		{"ReadMissingStream", testReadMissingStream},
		{"ReadAll", testReadAll},
		{"LeaveEarly", testLeaveEarly},
		{"ReadWhileAppending", testReadWhileAppending},
		{"CloneOutlivesTheStep", testClone},
		{"RecordedAt", testRecordedAt},
		{"Wait", testWait},
		{"Follow", testFollow},
		{"CancelledContext", testCancelled},
		{"Lookup", testLookup},
		{"ConcurrentAppends", testConcurrent},
		{"ConcurrentRevisions", testConcurrentRevisions},
		{"Close", testClose},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.run(t, open)
		})
	}
}

// timeout bounds what a test waits for; a working store needs none of it.
const timeout = 30 * time.Second

func start(t testing.TB, open Open) (context.Context, eventstore.Store) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	s := open(t)
	t.Cleanup(func() {
		cancel()
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return ctx, s
}

// id makes the same event id of the same name.
func id(name string) uuid.UUID { return uuid.NewSHA1(uuid.NameSpaceOID, []byte(name)) }

func event(name string) eventstore.NewEvent {
	return eventstore.NewEvent{
		ID: id(name), Type: "test.v1",
		Metadata: []byte("meta " + name), Data: []byte("data " + name),
	}
}

func events(names ...string) []eventstore.NewEvent {
	var out []eventstore.NewEvent
	for _, n := range names {
		out = append(out, event(n))
	}
	return out
}

func numbered(prefix string, n int) []eventstore.NewEvent {
	var out []eventstore.NewEvent
	for i := range n {
		out = append(out, event(fmt.Sprintf("%s%d", prefix, i)))
	}
	return out
}

func mustAppend(ctx context.Context, t testing.TB, s eventstore.Store, stream string, expected eventstore.Expected, names ...string) eventstore.Result {
	t.Helper()
	res, err := s.Append(ctx, stream, expected, events(names...)...)
	if err != nil {
		t.Fatalf("append %v to %s expecting %v: %v", names, stream, expected, err)
	}
	return res
}

// collect keeps all that an iterator yields.
func collect(t testing.TB, seq iter.Seq2[eventstore.Recorded, error]) []eventstore.Recorded {
	t.Helper()
	var out []eventstore.Recorded
	for e, err := range seq {
		if err != nil {
			t.Fatalf("read: %v", err)
		}
		out = append(out, e.Clone())
	}
	return out
}

// readError is the error with which an iterator ends.
func readError(t testing.TB, seq iter.Seq2[eventstore.Recorded, error]) error {
	t.Helper()
	var last error
	for _, err := range seq {
		if last != nil {
			t.Fatalf("the iterator goes on after the error %v", last)
		}
		last = err
	}
	return last
}

func wantIDs(t testing.TB, what string, got []eventstore.Recorded, names ...string) {
	t.Helper()
	if len(got) != len(names) {
		t.Fatalf("%s: %d events, want %v", what, len(got), names)
	}
	for i, n := range names {
		if got[i].ID != id(n) {
			t.Fatalf("%s: event %d is not %s", what, i, n)
		}
	}
}

func wantWrongRevision(t testing.TB, err error, want eventstore.WrongRevisionError) {
	t.Helper()
	if !errors.Is(err, eventstore.ErrWrongRevision) {
		t.Fatalf("error %v, want a wrong revision", err)
	}
	var got *eventstore.WrongRevisionError
	if !errors.As(err, &got) {
		t.Fatalf("error %v is no *WrongRevisionError", err)
	}
	if *got != want {
		t.Fatalf("got %+v, want %+v", *got, want)
	}
}

// holdTogether checks what must be so in every log: positions and times grow,
// revisions have no gaps, a stream holds an id once, repeats are marked.
func holdTogether(ctx context.Context, t testing.TB, s eventstore.Store) []eventstore.Recorded {
	t.Helper()
	all := collect(t, s.ReadAll(ctx, 0))
	next := make(map[string]uint64)
	inStream := make(map[string]map[uuid.UUID]bool)
	inLog := make(map[uuid.UUID]bool)
	var last eventstore.Recorded
	for i, e := range all {
		if e.Position == 0 || e.Position <= last.Position {
			t.Fatalf("position %d follows %d", e.Position, last.Position)
		}
		if i > 0 && e.RecordedAt.Before(last.RecordedAt) {
			t.Fatalf("recorded_at goes back at position %d", e.Position)
		}
		if e.Revision != next[e.Stream] {
			t.Fatalf("stream %s: revision %d at position %d, want %d", e.Stream, e.Revision, e.Position, next[e.Stream])
		}
		next[e.Stream]++
		if inStream[e.Stream] == nil {
			inStream[e.Stream] = make(map[uuid.UUID]bool)
		}
		if inStream[e.Stream][e.ID] {
			t.Fatalf("stream %s holds %s twice", e.Stream, e.ID)
		}
		inStream[e.Stream][e.ID] = true
		if e.Repeat != inLog[e.ID] {
			t.Fatalf("position %d: repeat is %v, but an earlier event of its id: %v", e.Position, e.Repeat, inLog[e.ID])
		}
		inLog[e.ID] = true
		last = e
	}
	head, err := s.Head(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if head != last.Position {
		t.Fatalf("head is %d, the last event stands at %d", head, last.Position)
	}
	return all
}
