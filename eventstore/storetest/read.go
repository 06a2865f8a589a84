package storetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"sojourn/eventstore"
)

func testReadStream(t *testing.T, open Open) {
	ctx, s := start(t, open)
	const n = 50
	for i := range n {
		// Other streams lie in between, and streams whose names begin alike.
		mustAppend(ctx, t, s, "stream", eventstore.Any{}, fmt.Sprint("e", i))
		mustAppend(ctx, t, s, "stream2", eventstore.Any{}, fmt.Sprint("f", i))
		mustAppend(ctx, t, s, "strea", eventstore.Any{}, fmt.Sprint("g", i))
	}
	names := func(from, to int) []string {
		var out []string
		for i := from; i <= to; i++ {
			out = append(out, fmt.Sprint("e", i))
		}
		return out
	}
	reversed := func(from int) []string {
		var out []string
		for i := from; i >= 0; i-- {
			out = append(out, fmt.Sprint("e", i))
		}
		return out
	}
	for _, from := range []uint64{0, 1, 25, n - 1} {
		got := collect(t, s.ReadStream(ctx, "stream", from, eventstore.Forwards))
		wantIDs(t, fmt.Sprint("forwards from ", from), got, names(int(from), n-1)...)
		for i, e := range got {
			if e.Revision != from+uint64(i) || e.Stream != "stream" {
				t.Fatalf("forwards from %d: revision %d of %s at %d", from, e.Revision, e.Stream, i)
			}
		}
		got = collect(t, s.ReadStream(ctx, "stream", from, eventstore.Backwards))
		wantIDs(t, fmt.Sprint("backwards from ", from), got, reversed(int(from))...)
		for i, e := range got {
			if e.Revision != from-uint64(i) {
				t.Fatalf("backwards from %d: revision %d at %d", from, e.Revision, i)
			}
		}
	}
	for _, from := range []uint64{n, n + 10, eventstore.End} {
		got := collect(t, s.ReadStream(ctx, "stream", from, eventstore.Forwards))
		wantIDs(t, "forwards from beyond the end", got)
		got = collect(t, s.ReadStream(ctx, "stream", from, eventstore.Backwards))
		wantIDs(t, "backwards from beyond the end", got, reversed(n-1)...)
	}
	// An iterator can be run again.
	again := s.ReadStream(ctx, "stream", n-2, eventstore.Forwards)
	wantIDs(t, "first run", collect(t, again), names(n-2, n-1)...)
	wantIDs(t, "second run", collect(t, again), names(n-2, n-1)...)
}

func testReadMissingStream(t *testing.T, open Open) {
	ctx, s := start(t, open)
	mustAppend(ctx, t, s, "there", eventstore.Any{}, "1")
	for _, dir := range []eventstore.Direction{eventstore.Forwards, eventstore.Backwards} {
		for _, from := range []uint64{0, 5, eventstore.End} {
			for _, stream := range []string{"missing", "the", "there2"} {
				if err := readError(t, s.ReadStream(ctx, stream, from, dir)); !errors.Is(err, eventstore.ErrStreamNotFound) {
					t.Errorf("%s from %d: %v", stream, from, err)
				}
			}
		}
	}
}

func testReadAll(t *testing.T, open Open) {
	ctx, s := start(t, open)
	if got := collect(t, s.ReadAll(ctx, 0)); len(got) != 0 {
		t.Fatalf("a new store holds %d events", len(got))
	}
	if head, err := s.Head(ctx); err != nil || head != 0 {
		t.Fatalf("head of a new store: %d, %v", head, err)
	}
	var names []string
	for i := range 60 {
		name := fmt.Sprint("e", i)
		names = append(names, name)
		mustAppend(ctx, t, s, fmt.Sprint("s", i%7), eventstore.Any{}, name)
	}
	if _, err := s.Append(ctx, "s0", eventstore.Any{}, numbered("m", 40)...); err != nil {
		t.Fatal(err)
	}
	for i := range 40 {
		names = append(names, fmt.Sprint("m", i))
	}
	all := holdTogether(ctx, t, s)
	wantIDs(t, "all", all, names...)
	for i, e := range all {
		wantIDs(t, fmt.Sprint("after event ", i), collect(t, s.ReadAll(ctx, e.Position)), names[i+1:]...)
		wantIDs(t, fmt.Sprint("before event ", i), collect(t, s.ReadAll(ctx, e.Position-1)), names[i:]...)
	}
	head := all[len(all)-1].Position
	if got := collect(t, s.ReadAll(ctx, head+1000)); len(got) != 0 {
		t.Errorf("%d events after the end", len(got))
	}
}

func testLeaveEarly(t *testing.T, open Open) {
	ctx, s := start(t, open)
	if _, err := s.Append(ctx, "s", eventstore.Any{}, numbered("e", 200)...); err != nil {
		t.Fatal(err)
	}
	for stop := 1; stop < 200; stop += 17 {
		for _, seq := range []func(func(eventstore.Recorded, error) bool){
			s.ReadAll(ctx, 0),
			s.ReadStream(ctx, "s", 0, eventstore.Forwards),
			s.ReadStream(ctx, "s", eventstore.End, eventstore.Backwards),
		} {
			n := 0
			for _, err := range seq {
				if err != nil {
					t.Fatal(err)
				}
				if n++; n == stop {
					break
				}
			}
		}
	}
	// Appending inside the loop that reads must not deadlock.
	for e, err := range s.ReadAll(ctx, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Revision < 3 {
			mustAppend(ctx, t, s, "other", eventstore.Any{}, fmt.Sprint("o", e.Revision))
		}
	}
}

// testReadWhileAppending reads what others write: each reading is a beginning
// of the log without holes, and longer than the one before.
func testReadWhileAppending(t *testing.T, open Open) {
	ctx, s := start(t, open)
	const total = 1_000
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range total / 4 {
			if _, err := s.Append(ctx, fmt.Sprint("s", i%3), eventstore.Any{}, numbered(fmt.Sprintf("%d-", i), 4)...); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for range 2 {
		wg.Go(func() {
			var seen []uuid.UUID
			for len(seen) < total && ctx.Err() == nil {
				next := make(map[string]uint64)
				i := 0
				for e, err := range s.ReadAll(ctx, 0) {
					if err != nil {
						t.Error(err)
						return
					}
					stream := strings.Clone(e.Stream) // a map outlives the step
					if e.Revision != next[stream] {
						t.Errorf("stream %s: revision %d, want %d", stream, e.Revision, next[stream])
						return
					}
					next[stream]++
					if i < len(seen) && seen[i] != e.ID {
						t.Errorf("event %d was another before", i)
						return
					}
					if i == len(seen) {
						seen = append(seen, e.ID)
					}
					i++
				}
				if i < len(seen) {
					t.Errorf("%d events after %d", i, len(seen))
					return
				}
			}
		})
	}
	wg.Wait()
}

func testClone(t *testing.T, open Open) {
	ctx, s := start(t, open)
	for i := range 500 {
		mustAppend(ctx, t, s, fmt.Sprint("stream", i%5), eventstore.Any{}, fmt.Sprint("e", i))
	}
	for i, e := range collect(t, s.ReadAll(ctx, 0)) {
		name := fmt.Sprint("e", i)
		if e.Stream != fmt.Sprint("stream", i%5) || e.Type != "test.v1" ||
			string(e.Data) != "data "+name || string(e.Metadata) != "meta "+name {
			t.Fatalf("event %d changed after the iterator went on", i)
		}
	}
}

func testRecordedAt(t *testing.T, open Open) {
	ctx, s := start(t, open)
	before := time.Now()
	for i := range 20 {
		mustAppend(ctx, t, s, fmt.Sprint("s", i%3), eventstore.Any{}, fmt.Sprint("e", i))
	}
	after := time.Now()
	for _, e := range holdTogether(ctx, t, s) {
		if e.RecordedAt.Location() != time.UTC {
			t.Errorf("recorded_at is in %v", e.RecordedAt.Location())
		}
		if e.RecordedAt.Nanosecond()%int(time.Millisecond) != 0 {
			t.Errorf("recorded_at %v is finer than a millisecond", e.RecordedAt)
		}
		// A second of grace for a store whose clock is another machine's.
		if e.RecordedAt.Before(before.Add(-time.Second)) || e.RecordedAt.After(after.Add(time.Second)) {
			t.Errorf("recorded_at %v lies outside of %v to %v", e.RecordedAt, before, after)
		}
	}
}

func testWait(t *testing.T, open Open) {
	ctx, s := start(t, open)
	first := mustAppend(ctx, t, s, "s", eventstore.Any{}, "1")
	if err := s.Wait(ctx, 0); err != nil {
		t.Fatal(err)
	}
	if err := s.Wait(ctx, first.Position-1); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 3)
	for range cap(done) {
		go func() { done <- s.Wait(ctx, first.Position) }()
	}
	second := mustAppend(ctx, t, s, "s", eventstore.Any{}, "2")
	for range cap(done) {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	waiting, cancel := context.WithCancel(ctx)
	go func() { done <- s.Wait(waiting, second.Position) }()
	// A repeat is no new event.
	mustAppend(ctx, t, s, "s", eventstore.Any{}, "2")
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatalf("a cancelled wait: %v", err)
	}
}

func testFollow(t *testing.T, open Open) {
	ctx, s := start(t, open)
	mustAppend(ctx, t, s, "s", eventstore.Any{}, "0")
	mustAppend(ctx, t, s, "s", eventstore.Any{}, "1")
	following, cancel := context.WithCancel(ctx)
	defer cancel()
	const total = 300
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 2; i < total; i++ {
			if _, err := s.Append(ctx, fmt.Sprint("s", i%4), eventstore.Any{}, event(fmt.Sprint(i))); err != nil {
				t.Error(err)
				return
			}
		}
	})
	n := 0
	var last error
	for e, err := range eventstore.Follow(following, s, 0) {
		if err != nil {
			last = err
			continue
		}
		if e.ID != id(fmt.Sprint(n)) {
			t.Fatalf("event %d is another", n)
		}
		if n++; n == total {
			cancel()
		}
	}
	wg.Wait()
	if n != total || !errors.Is(last, context.Canceled) {
		t.Fatalf("%d events, then %v", n, last)
	}
}

func testCancelled(t *testing.T, open Open) {
	ctx, s := start(t, open)
	mustAppend(ctx, t, s, "s", eventstore.Any{}, "1")
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	check := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, err := s.Append(cancelled, "s", eventstore.Any{}, event("2"))
	check("append", err)
	_, err = s.AppendMany(cancelled, []eventstore.Append{{Stream: "s", Events: events("3")}})
	check("append many", err)
	check("read stream", readError(t, s.ReadStream(cancelled, "s", 0, eventstore.Forwards)))
	check("read all", readError(t, s.ReadAll(cancelled, 0)))
	check("wait", s.Wait(cancelled, 1<<60))
	_, err = s.Head(cancelled)
	check("head", err)
	wantIDs(t, "the log", collect(t, s.ReadAll(ctx, 0)), "1")
}

func testLookup(t *testing.T, open Open) {
	ctx, s := start(t, open)
	index, ok := s.(eventstore.IDIndex)
	if !ok {
		return // the store keeps no index of ids, which the contract allows
	}
	first := mustAppend(ctx, t, s, "a", eventstore.Any{}, "x").Position
	second := mustAppend(ctx, t, s, "a", eventstore.Any{}, "y").Position
	mustAppend(ctx, t, s, "b", eventstore.Any{}, "x") // a repeat stands higher
	ids := []uuid.UUID{id("y"), id("missing"), id("x"), uuid.Nil, id("x")}
	got := []eventstore.Position{9, 9, 9, 9, 9}
	if err := index.Lookup(ctx, ids, got); err != nil {
		t.Fatal(err)
	}
	for i, want := range []eventstore.Position{second, 0, first, 0, first} {
		if got[i] != want {
			t.Errorf("id %d: position %d, want %d", i, got[i], want)
		}
	}
	if err := index.Lookup(ctx, nil, nil); err != nil {
		t.Errorf("no ids: %v", err)
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if err := index.Lookup(cancelled, ids, got); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func testClose(t *testing.T, open Open) {
	ctx, s := start(t, open)
	mustAppend(ctx, t, s, "s", eventstore.Any{}, "1", "2")
	waiting := make(chan error, 1)
	go func() { waiting <- s.Wait(ctx, 1<<60) }()
	for _, err := range s.ReadAll(ctx, 0) { // closing while someone reads
		if err == nil {
			err = s.Close()
		}
		if err != nil && !errors.Is(err, eventstore.ErrClosed) {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatalf("closing twice: %v", err)
	}
	check := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, eventstore.ErrClosed) {
			t.Errorf("%s: %v", what, err)
		}
	}
	check("wait", <-waiting)
	_, err := s.Append(ctx, "s", eventstore.Any{}, event("3"))
	check("append", err)
	_, err = s.AppendMany(ctx, []eventstore.Append{{Stream: "s", Events: events("3")}})
	check("append many", err)
	check("read stream", readError(t, s.ReadStream(ctx, "s", 0, eventstore.Forwards)))
	check("read all", readError(t, s.ReadAll(ctx, 0)))
	check("wait after", s.Wait(ctx, 0))
	_, err = s.Head(ctx)
	check("head", err)
	if index, ok := s.(eventstore.IDIndex); ok {
		check("lookup", index.Lookup(ctx, []uuid.UUID{id("1")}, make([]eventstore.Position, 1)))
	}
}
