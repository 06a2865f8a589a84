package storetest

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/google/uuid"

	"sojourn/eventstore"
)

func testAppend(t *testing.T, open Open) {
	ctx, s := start(t, open)
	a := eventstore.NewEvent{ID: uuid.New(), Type: "a.v1", Metadata: []byte{0, 1, 2}, Data: []byte("first\x00bytes")}
	b := eventstore.NewEvent{ID: uuid.New(), Type: "b.v2", Data: bytes.Repeat([]byte("x"), 100_000)}
	first, err := s.Append(ctx, "stream", eventstore.NoStream{}, a)
	if err != nil {
		t.Fatal(err)
	}
	if first.Revision != 0 || first.Position == 0 || first.Appended != 1 || first.Err != nil {
		t.Fatalf("result %+v", first)
	}
	second, err := s.Append(ctx, "stream", eventstore.Revision(0), b)
	if err != nil {
		t.Fatal(err)
	}
	if second.Revision != 1 || second.Position <= first.Position || second.Appended != 1 {
		t.Fatalf("result %+v", second)
	}
	got := collect(t, s.ReadStream(ctx, "stream", 0, eventstore.Forwards))
	if len(got) != 2 {
		t.Fatalf("%d events", len(got))
	}
	for i, want := range []eventstore.NewEvent{a, b} {
		e := got[i]
		if e.ID != want.ID || e.Type != want.Type || !bytes.Equal(e.Metadata, want.Metadata) || !bytes.Equal(e.Data, want.Data) {
			t.Errorf("event %d is not as it was appended", i)
		}
		if e.Stream != "stream" || e.Revision != uint64(i) || e.Repeat {
			t.Errorf("event %d: stream %s, revision %d, repeat %v", i, e.Stream, e.Revision, e.Repeat)
		}
	}
	if got[0].Position != first.Position || got[1].Position != second.Position {
		t.Errorf("positions differ from the results")
	}
	holdTogether(ctx, t, s)
}

func testAppendNothing(t *testing.T, open Open) {
	ctx, s := start(t, open)
	for _, expected := range []eventstore.Expected{nil, eventstore.Any{}, eventstore.NoStream{}, eventstore.StreamExists{}, eventstore.Revision(7)} {
		res, err := s.Append(ctx, "stream", expected)
		if err != nil || res != (eventstore.Result{}) {
			t.Errorf("%T: %+v, %v", expected, res, err)
		}
	}
	if res, err := s.AppendMany(ctx, nil); err != nil || len(res) != 0 {
		t.Errorf("no parts: %v, %v", res, err)
	}
	if got := collect(t, s.ReadAll(ctx, 0)); len(got) != 0 {
		t.Errorf("%d events", len(got))
	}
	if err := readError(t, s.ReadStream(ctx, "stream", 0, eventstore.Forwards)); err == nil {
		t.Error("the stream exists")
	}
}

func testExpected(t *testing.T, open Open) {
	ctx, s := start(t, open)
	wrong := func(stream string, expected eventstore.Expected, exists bool, actual uint64) {
		t.Helper()
		_, err := s.Append(ctx, stream, expected, event(uuid.NewString()))
		wantWrongRevision(t, err, eventstore.WrongRevisionError{Stream: stream, Expected: expected, Exists: exists, Actual: actual})
	}
	wrong("a", eventstore.StreamExists{}, false, 0)
	wrong("a", eventstore.Revision(0), false, 0)
	wrong("a", eventstore.Revision(eventstore.End), false, 0)
	mustAppend(ctx, t, s, "a", eventstore.NoStream{}, "1")
	wrong("a", eventstore.NoStream{}, true, 0)
	wrong("a", eventstore.Revision(1), true, 0)
	mustAppend(ctx, t, s, "a", eventstore.Revision(0), "2", "3")
	wrong("a", eventstore.Revision(0), true, 2)
	wrong("a", eventstore.Revision(1), true, 2)
	wrong("a", eventstore.Revision(3), true, 2)
	mustAppend(ctx, t, s, "a", eventstore.StreamExists{}, "4")
	mustAppend(ctx, t, s, "a", eventstore.Any{}, "5")
	mustAppend(ctx, t, s, "a", nil, "6")
	mustAppend(ctx, t, s, "b", eventstore.Any{}, "7")
	wantIDs(t, "a", collect(t, s.ReadStream(ctx, "a", 0, eventstore.Forwards)), "1", "2", "3", "4", "5", "6")
	holdTogether(ctx, t, s)
}

// testRepeats holds the rule of the contract, case by case: the stream begins
// with the events given, then the call is made.
func testRepeats(t *testing.T, open Open) {
	list := func(s string) []string {
		var out []string
		for _, r := range s {
			out = append(out, string(r))
		}
		return out
	}
	anyRevision, none, exists := eventstore.Any{}, eventstore.NoStream{}, eventstore.StreamExists{}
	at := func(n uint64) eventstore.Expected { return eventstore.Revision(n) }
	const refused = -1
	tests := []struct {
		held     string
		expected eventstore.Expected
		call     string
		appended int
		after    string
	}{
		// Any and StreamExists leave out what is known and append the rest.
		{"ab", anyRevision, "ab", 0, "ab"},
		{"ab", anyRevision, "ba", 0, "ab"},
		{"ab", anyRevision, "bc", 1, "abc"},
		{"ab", anyRevision, "cb", 1, "abc"},
		{"ab", anyRevision, "cad", 2, "abcd"},
		{"abc", anyRevision, "b", 0, "abc"},
		{"", exists, "a", refused, ""},
		{"ab", exists, "ab", 0, "ab"},
		{"ab", exists, "a", 0, "ab"},
		{"ab", exists, "xby", 2, "abxy"},
		// NoStream: the stream does not exist, or begins with the call's own.
		{"", none, "abc", 3, "abc"},
		{"abc", none, "abc", 0, "abc"},
		{"ab", none, "abc", 1, "abc"},
		{"a", none, "abc", 2, "abc"},
		{"abc", none, "ab", 0, "abc"},
		{"abc", none, "c", 0, "abc"},
		{"abc", none, "cb", 0, "abc"},
		{"abc", none, "abd", refused, "abc"},
		{"ab", none, "ba", 0, "ab"},
		{"ab", none, "bac", refused, "ab"},
		{"ab", none, "ac", refused, "ab"},
		{"ab", none, "c", refused, "ab"},
		{"ab", none, "cab", refused, "ab"},
		{"xab", none, "abc", refused, "xab"},
		// Revision(n): the stream ends there, or goes on with the call's own.
		{"ab", at(1), "cd", 2, "abcd"},
		{"abcd", at(1), "cd", 0, "abcd"},
		{"abc", at(1), "cd", 1, "abcd"},
		{"abcd", at(1), "cde", 1, "abcde"},
		{"abcd", at(1), "c", 0, "abcd"},
		{"abcde", at(1), "cd", 0, "abcde"},
		{"abcde", at(1), "cdf", refused, "abcde"},
		{"abc", at(1), "dc", refused, "abc"},
		{"abc", at(1), "d", refused, "abc"},
		{"abcx", at(1), "cd", refused, "abcx"},
		// What stands at or before n is left out, where the stream ends at n.
		{"ab", at(1), "ac", 1, "abc"},
		{"ab", at(1), "cb", 1, "abc"},
		{"abc", at(2), "ab", 0, "abc"},
		{"abc", at(1), "acd", refused, "abc"},
		// A call that is wholly known succeeds whatever is expected.
		{"ab", at(0), "ab", 0, "ab"},
		{"ab", at(9), "a", 0, "ab"},
		{"ab", none, "b", 0, "ab"},
		{"ab", at(9), "ac", refused, "ab"},
		{"ab", at(2), "c", refused, "ab"},
		// An id that stands twice in a call is known the second time.
		{"", none, "aab", 2, "ab"},
		{"a", at(0), "bb", 1, "ab"},
		{"ab", at(0), "bbc", 1, "abc"},
	}
	ctx, s := start(t, open)
	for i, test := range tests {
		stream := fmt.Sprintf("stream-%d", i)
		name := fmt.Sprintf("%q, %T(%v), %q", test.held, test.expected, test.expected, test.call)
		own := func(letters []string) []eventstore.NewEvent {
			var out []eventstore.NewEvent
			for _, l := range letters {
				out = append(out, event(stream+l))
			}
			return out
		}
		for _, l := range list(test.held) {
			if _, err := s.Append(ctx, stream, eventstore.Any{}, own([]string{l})...); err != nil {
				t.Fatal(err)
			}
		}
		res, err := s.Append(ctx, stream, test.expected, own(list(test.call))...)
		if test.appended == refused {
			want := eventstore.WrongRevisionError{Stream: stream, Expected: test.expected, Exists: test.held != ""}
			if want.Exists {
				want.Actual = uint64(len(test.held) - 1)
			}
			wantWrongRevision(t, err, want)
		} else if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		} else {
			calls := list(test.call)
			revision := slices.Index(list(test.after), calls[len(calls)-1])
			if res.Appended != test.appended || res.Revision != uint64(revision) || res.Position == 0 {
				t.Errorf("%s: result %+v, want %d appended, revision %d", name, res, test.appended, revision)
			}
		}
		if test.after == "" {
			continue
		}
		var after []string
		for _, l := range list(test.after) {
			after = append(after, stream+l)
		}
		got := collect(t, s.ReadStream(ctx, stream, 0, eventstore.Forwards))
		wantIDs(t, name, got, after...)
		if err == nil && got[res.Revision].Position != res.Position {
			t.Errorf("%s: result names position %d, the event stands at %d", name, res.Position, got[res.Revision].Position)
		}
	}
	holdTogether(ctx, t, s)
}

func testAppendMany(t *testing.T, open Open) {
	ctx, s := start(t, open)
	mustAppend(ctx, t, s, "b", eventstore.Any{}, "b0")
	parts := []eventstore.Append{
		{Stream: "a", Expected: eventstore.NoStream{}, Events: events("a0", "a1")},
		{Stream: "b", Expected: eventstore.NoStream{}, Events: events("b1")}, // wrong
		{Stream: "c", Events: events("c0")},
		{Stream: "b", Expected: eventstore.Revision(0), Events: events("b0", "b2")},
		{Stream: "d"},
	}
	check := func(appended [5]int) {
		t.Helper()
		res, err := s.AppendMany(ctx, parts)
		if err != nil {
			t.Fatal(err)
		}
		if len(res) != len(parts) {
			t.Fatalf("%d results for %d parts", len(res), len(parts))
		}
		for i, r := range res {
			if i == 1 {
				wantWrongRevision(t, r.Err, eventstore.WrongRevisionError{Stream: "b", Expected: eventstore.NoStream{}, Exists: true, Actual: uint64(appended[1])})
				continue
			}
			if r.Err != nil || r.Appended != appended[i] {
				t.Errorf("part %d: %+v, want %d appended", i, r, appended[i])
			}
		}
		if res[0].Revision != 1 || res[2].Revision != 0 || res[3].Revision != 1 {
			t.Errorf("results %+v", res)
		}
	}
	check([5]int{2, 0, 1, 1, 0})
	// The same call again changes nothing.
	head, err := s.Head(ctx)
	if err != nil {
		t.Fatal(err)
	}
	parts[3].Expected = eventstore.Any{}
	check([5]int{0, 1, 0, 0, 0})
	if again, err := s.Head(ctx); err != nil || again != head {
		t.Errorf("head moved from %d to %d: %v", head, again, err)
	}
	wantIDs(t, "all", holdTogether(ctx, t, s), "b0", "a0", "a1", "c0", "b2")
}

func testAppendManySameStream(t *testing.T, open Open) {
	ctx, s := start(t, open)
	parts := []eventstore.Append{
		{Stream: "a", Expected: eventstore.NoStream{}, Events: events("1", "2")},
		{Stream: "a", Expected: eventstore.Revision(1), Events: events("3")},
		{Stream: "a", Expected: eventstore.NoStream{}, Events: events("4")}, // wrong
		{Stream: "b", Events: events("5")},
		{Stream: "a", Expected: eventstore.StreamExists{}, Events: events("2", "6")},
		{Stream: "a", Expected: eventstore.Revision(3), Events: events("7")},
	}
	for round := range 2 {
		res, err := s.AppendMany(ctx, parts)
		if err != nil {
			t.Fatal(err)
		}
		actual := uint64(2)
		if round == 1 {
			actual = 4
		}
		wantWrongRevision(t, res[2].Err, eventstore.WrongRevisionError{Stream: "a", Expected: eventstore.NoStream{}, Exists: true, Actual: actual})
		for i, revision := range map[int]uint64{0: 1, 1: 2, 3: 0, 4: 3, 5: 4} {
			if res[i].Err != nil || res[i].Revision != revision {
				t.Errorf("round %d, part %d: %+v, want revision %d", round, i, res[i], revision)
			}
		}
	}
	wantIDs(t, "a", collect(t, s.ReadStream(ctx, "a", 0, eventstore.Forwards)), "1", "2", "3", "6", "7")
	holdTogether(ctx, t, s)
}

// testAppendManyLarge appends more at once than any store commits at once.
func testAppendManyLarge(t *testing.T, open Open) {
	ctx, s := start(t, open)
	var parts []eventstore.Append
	data := bytes.Repeat([]byte("0123456789abcdef"), 512)
	for i := range 1_500 {
		e := event(fmt.Sprintf("large%d", i))
		e.Data = data
		parts = append(parts, eventstore.Append{Stream: fmt.Sprintf("s%d", i%7), Events: []eventstore.NewEvent{e}})
	}
	for round := range 2 {
		res, err := s.AppendMany(ctx, parts)
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range res {
			if r.Err != nil || r.Revision != uint64(i/7) || r.Appended != 1-round {
				t.Fatalf("round %d, part %d: %+v", round, i, r)
			}
		}
	}
	if all := holdTogether(ctx, t, s); len(all) != len(parts) {
		t.Fatalf("%d events", len(all))
	}
}

func testSameIDTwice(t *testing.T, open Open) {
	ctx, s := start(t, open)
	twice := events("a", "b", "a")
	res, err := s.Append(ctx, "s", eventstore.Any{}, twice...)
	if err != nil {
		t.Fatal(err)
	}
	if res.Appended != 2 || res.Revision != 0 {
		t.Errorf("result %+v: the last event of the call is the first of the stream", res)
	}
	many, err := s.AppendMany(ctx, []eventstore.Append{
		{Stream: "s", Events: events("c", "c")},
		{Stream: "s", Events: events("c")},
		{Stream: "t", Events: events("c", "c")},
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, appended := range []int{1, 0, 1} {
		if many[i].Err != nil || many[i].Appended != appended {
			t.Errorf("part %d: %+v, want %d appended", i, many[i], appended)
		}
	}
	wantIDs(t, "s", collect(t, s.ReadStream(ctx, "s", 0, eventstore.Forwards)), "a", "b", "c")
	wantIDs(t, "t", collect(t, s.ReadStream(ctx, "t", 0, eventstore.Forwards)), "c")
	holdTogether(ctx, t, s)
}

func testRepeatFlag(t *testing.T, open Open) {
	ctx, s := start(t, open)
	mustAppend(ctx, t, s, "a", eventstore.Any{}, "x", "y")
	if res := mustAppend(ctx, t, s, "b", eventstore.NoStream{}, "x"); res.Appended != 1 {
		t.Fatalf("an id of another stream is new to this one: %+v", res)
	}
	mustAppend(ctx, t, s, "c", eventstore.Any{}, "z", "y")
	if _, err := s.AppendMany(ctx, []eventstore.Append{
		{Stream: "d", Events: events("n")},
		{Stream: "e", Events: events("n", "x")},
	}); err != nil {
		t.Fatal(err)
	}
	// Repeats are known where they stand, like any event.
	for _, part := range []struct{ stream, id string }{{"b", "x"}, {"c", "y"}, {"e", "n"}, {"e", "x"}, {"a", "x"}} {
		if res := mustAppend(ctx, t, s, part.stream, eventstore.Any{}, part.id); res.Appended != 0 {
			t.Errorf("%s in %s was appended again", part.id, part.stream)
		}
	}
	all := holdTogether(ctx, t, s)
	wantIDs(t, "all", all, "x", "y", "x", "z", "y", "n", "n", "x")
	for i, repeat := range []bool{false, false, true, false, true, false, true, true} {
		if all[i].Repeat != repeat {
			t.Errorf("event %d: repeat %v", i, all[i].Repeat)
		}
	}
	for e, err := range s.ReadStream(ctx, "b", 0, eventstore.Forwards) {
		if err != nil || !e.Repeat {
			t.Errorf("the stream does not tell the repeat: %v", err)
		}
	}
}

func testCallerMemory(t *testing.T, open Open) {
	ctx, s := start(t, open)
	e := event("mine")
	want := slices.Clone(e.Data)
	if _, err := s.Append(ctx, "s", eventstore.Any{}, e); err != nil {
		t.Fatal(err)
	}
	clear(e.Data)
	clear(e.Metadata)
	got := collect(t, s.ReadStream(ctx, "s", 0, eventstore.Forwards))
	if !bytes.Equal(got[0].Data, want) {
		t.Error("the log changed with the caller's memory")
	}
}

func testConcurrent(t *testing.T, open Open) {
	ctx, s := start(t, open)
	const writers, each = 16, 60
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				own := fmt.Sprintf("own-%d", w)
				// Each id is sent by two writers to the shared stream.
				shared := event(fmt.Sprintf("shared-%d-%d", w/2, i))
				var expected eventstore.Expected = eventstore.NoStream{}
				if i > 0 {
					expected = eventstore.Revision(i - 1)
				}
				res, err := s.AppendMany(ctx, []eventstore.Append{
					{Stream: own, Expected: expected, Events: []eventstore.NewEvent{event(fmt.Sprintf("%s-%d", own, i))}},
					{Stream: "shared", Events: []eventstore.NewEvent{shared}},
				})
				if err != nil {
					t.Error(err)
					return
				}
				for _, r := range res {
					if r.Err != nil {
						t.Error(r.Err)
						return
					}
				}
				if head, err := s.Head(ctx); err != nil || head < res[0].Position || head < res[1].Position {
					t.Errorf("head %d lags behind what was acknowledged: %v", head, err)
				}
			}
		})
	}
	wg.Wait()
	if all := holdTogether(ctx, t, s); len(all) != writers*each+writers/2*each {
		t.Errorf("%d events", len(all))
	}
}

// testConcurrentRevisions lets writers race for every revision: each is won once.
func testConcurrentRevisions(t *testing.T, open Open) {
	ctx, s := start(t, open)
	const writers, rounds = 8, 40
	var wg sync.WaitGroup
	won := make([][]uint64, writers)
	for w := range writers {
		wg.Go(func() {
			for round := range rounds {
				var expected eventstore.Expected = eventstore.NoStream{}
				if round > 0 {
					expected = eventstore.Revision(round - 1)
				}
				res, err := s.Append(ctx, "race", expected, event(fmt.Sprintf("%d-%d", w, round)))
				if err == nil {
					won[w] = append(won[w], res.Revision)
				}
				// Go on from where the stream is, whoever has won.
				if !waitRevision(ctx, t, s, uint64(round)) {
					return
				}
			}
		})
	}
	wg.Wait()
	var all []uint64
	for _, revisions := range won {
		all = append(all, revisions...)
	}
	slices.Sort(all)
	if len(all) != rounds || all[0] != 0 || all[rounds-1] != rounds-1 || len(slices.Compact(all)) != rounds {
		t.Errorf("won revisions %v", all)
	}
	holdTogether(ctx, t, s)
}

func waitRevision(ctx context.Context, t testing.TB, s eventstore.Store, revision uint64) bool {
	for {
		head, err := s.Head(ctx)
		if err != nil {
			t.Error(err)
			return false
		}
		for e, err := range s.ReadStream(ctx, "race", eventstore.End, eventstore.Backwards) {
			if err == nil && e.Revision >= revision {
				return true
			}
			break
		}
		if err := s.Wait(ctx, head); err != nil {
			t.Error(err)
			return false
		}
	}
}
