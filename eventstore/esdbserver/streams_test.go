package esdbserver

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"math"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"

	"sojourn/eventstore"
)

func TestAppendAndRead(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	c := f.client(t, "")
	binary := esdb.EventData{EventID: named("b").EventID, EventType: "binary", ContentType: esdb.ContentTypeBinary, Metadata: []byte{0, 9}, Data: []byte{0xff, 0, 1}}
	res, err := c.AppendToStream(deadline(t), "free", esdb.AppendToStreamOptions{ExpectedRevision: esdb.NoStream{}}, named("a"), binary)
	if err != nil {
		t.Fatal(err)
	}
	if res.NextExpectedVersion != 1 || res.CommitPosition != 2 || res.PreparePosition != 2 {
		t.Errorf("result %+v", res)
	}
	r, err := c.ReadStream(deadline(t), "free", esdb.ReadStreamOptions{}, 10)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	a, err := r.Recv()
	if err != nil {
		t.Fatal(err)
	}
	if a.Event.EventID != named("a").EventID || a.Event.EventType != "of-a" || a.Event.ContentType != "application/json" || a.Event.EventNumber != 0 ||
		a.Event.StreamID != "free" || a.Event.Position != (esdb.Position{Commit: 1, Prepare: 1}) || *a.Commit != 1 {
		t.Errorf("%+v", a.Event)
	}
	if age := time.Since(a.Event.CreatedDate); age < -time.Second || age > time.Minute {
		t.Errorf("created %v", a.Event.CreatedDate)
	}
	b, err := r.Recv()
	if err != nil {
		t.Fatal(err)
	}
	if b.Event.ContentType != "application/octet-stream" || !bytes.Equal(b.Event.Data, binary.Data) || !bytes.Equal(b.Event.UserMetadata, binary.Metadata) || b.Event.EventNumber != 1 {
		t.Errorf("%+v", b.Event)
	}
}

func TestExpectedRevisions(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	c := f.client(t, "")
	try := func(expected esdb.ExpectedRevision, name string) error {
		_, err := c.AppendToStream(deadline(t), "free", esdb.AppendToStreamOptions{ExpectedRevision: expected}, named(name))
		return err
	}
	wantCode(t, "stream exists", try(esdb.StreamExists{}, "a"), "wrong-version")
	appendTo(t, c, "free", esdb.NoStream{}, "a")
	appendTo(t, c, "free", esdb.NoStream{}, "a") // again
	err := try(esdb.NoStream{}, "b")
	wantCode(t, "no stream", err, "wrong-version")
	if err == nil || !strings.Contains(err.Error(), "expecting 'no_stream' but got '0'") {
		t.Errorf("%v", err)
	}
	err = try(esdb.Revision(7), "b")
	if err == nil || !strings.Contains(err.Error(), "expecting '7' but got '0'") {
		t.Errorf("%v", err)
	}
	appendTo(t, c, "free", esdb.Revision(0), "b")
	appendTo(t, c, "free", esdb.StreamExists{}, "c")
	r, err := c.ReadStream(deadline(t), "free", esdb.ReadStreamOptions{}, 10)
	if got := told(t, r, err); got != "a b c" {
		t.Errorf("the stream holds %q", got)
	}
}

func TestReads(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	c := f.client(t, "")
	f.say(t, "own-1", "a0", "b1", "a2")
	f.say(t, "own-2", "b3")
	f.say(t, "own-1", "a4")
	back := esdb.Backwards
	stream := []struct {
		opts  esdb.ReadStreamOptions
		count uint64
		want  string
	}{
		{esdb.ReadStreamOptions{}, 10, "a0 b1 a2 a4"},
		{esdb.ReadStreamOptions{}, 2, "a0 b1"},
		{esdb.ReadStreamOptions{}, math.MaxUint64, "a0 b1 a2 a4"},
		{esdb.ReadStreamOptions{From: esdb.Revision(2)}, 10, "a2 a4"},
		{esdb.ReadStreamOptions{From: esdb.Revision(9)}, 10, ""},
		{esdb.ReadStreamOptions{From: esdb.End{}}, 10, ""},
		{esdb.ReadStreamOptions{From: esdb.End{}, Direction: back}, 10, "a4 a2 b1 a0"},
		{esdb.ReadStreamOptions{From: esdb.End{}, Direction: back}, 1, "a4"},
		{esdb.ReadStreamOptions{From: esdb.Revision(1), Direction: back}, 10, "b1 a0"},
		{esdb.ReadStreamOptions{From: esdb.Start{}, Direction: back}, 10, "a0"},
	}
	for i, test := range stream {
		r, err := c.ReadStream(deadline(t), "own-1", test.opts, test.count)
		if got := told(t, r, err); got != test.want {
			t.Errorf("stream %d: %q, want %q", i, got, test.want)
		}
	}
	r, err := c.ReadStream(deadline(t), "none", esdb.ReadStreamOptions{}, 1)
	if got := told(t, r, err); got != "not-found" {
		t.Errorf("a missing stream: %q", got)
	}
	at := func(n uint64) esdb.Position { return esdb.Position{Commit: n, Prepare: n} }
	all := []struct {
		opts  esdb.ReadAllOptions
		count uint64
		want  string
	}{
		{esdb.ReadAllOptions{From: esdb.Start{}}, 10, "a0 b1 a2 b3 a4"},
		{esdb.ReadAllOptions{From: esdb.Start{}}, 3, "a0 b1 a2"},
		{esdb.ReadAllOptions{From: at(0)}, 1, "a0"},
		{esdb.ReadAllOptions{From: at(3)}, 10, "a2 b3 a4"}, // that one included
		{esdb.ReadAllOptions{From: esdb.End{}}, 10, ""},
		{esdb.ReadAllOptions{From: esdb.End{}, Direction: back}, 10, "a4 b3 a2 b1 a0"},
		{esdb.ReadAllOptions{From: esdb.End{}, Direction: back}, 2, "a4 b3"},
		{esdb.ReadAllOptions{From: at(3), Direction: back}, 10, "b1 a0"}, // from before it
		{esdb.ReadAllOptions{From: at(900), Direction: back}, 1, "a4"},
		{esdb.ReadAllOptions{From: esdb.Start{}, Direction: back}, 10, ""},
	}
	for i, test := range all {
		r, err := c.ReadAll(deadline(t), test.opts, test.count)
		if got := told(t, r, err); got != test.want {
			t.Errorf("all %d: %q, want %q", i, got, test.want)
		}
	}
}

// TestReadAllBackwardsLong goes through many stretches of the log.
func TestReadAllBackwardsLong(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	c := f.client(t, "")
	const total = 5_000
	var parts []eventstore.Append
	for i := range total {
		e := named(fmt.Sprint(i))
		parts = append(parts, eventstore.Append{Stream: fmt.Sprint("own-", i%7), Events: []eventstore.NewEvent{{ID: e.EventID, Type: "t", Data: e.Data}}})
	}
	if _, err := f.store.AppendMany(deadline(t), parts); err != nil {
		t.Fatal(err)
	}
	r, err := c.ReadAll(deadline(t), esdb.ReadAllOptions{From: esdb.End{}, Direction: esdb.Backwards}, math.MaxUint64)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for i := total - 1; i >= 0; i-- {
		e, err := r.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if got := nameOf(e.Event); got != fmt.Sprint(i) {
			t.Fatalf("event %s, want %d", got, i)
		}
	}
}

func TestLinks(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	c := f.client(t, "")
	f.say(t, "own-1", "a0", "b1")
	link := func(to string) esdb.EventData { return esdb.EventData{EventType: "$>", Data: []byte(to)} }
	if _, err := c.AppendToStream(deadline(t), "links", esdb.AppendToStreamOptions{}, link("1@own-1"), link("0@gone"), link("?")); err != nil {
		t.Fatal(err)
	}
	for resolve, want := range map[bool]string{true: "b1 nothing nothing", false: "$> $> $>"} {
		r, err := c.ReadStream(deadline(t), "links", esdb.ReadStreamOptions{ResolveLinkTos: resolve}, 10)
		if got := told(t, r, err); got != want {
			t.Errorf("resolve %v: %q, want %q", resolve, got, want)
		}
	}
}

// TestSojournsStreams holds everybody off the streams that Sojourn writes.
func TestSojournsStreams(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	c := f.client(t, "")
	f.say(t, "own-1", "a")
	head, err := f.store.Head(deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	ctx := deadline(t)
	_, err = c.AppendToStream(ctx, "own-1", esdb.AppendToStreamOptions{}, named("x"))
	if err == nil {
		t.Error("an outsider appends")
	}
	_, err = c.AppendToStream(ctx, "own-new", esdb.AppendToStreamOptions{})
	wantCode(t, "append", err, "denied")
	_, err = c.DeleteStream(ctx, "own-1", esdb.DeleteStreamOptions{})
	wantCode(t, "delete", err, "denied")
	_, err = c.TombstoneStream(ctx, "own-1", esdb.TombstoneStreamOptions{})
	wantCode(t, "tombstone", err, "denied")
	meta := esdb.StreamMetadata{}
	meta.SetMaxCount(1)
	_, err = c.SetStreamMetadata(ctx, "own-1", esdb.AppendToStreamOptions{}, meta)
	if err == nil {
		t.Error("an outsider sets metadata")
	}
	if after, err := f.store.Head(ctx); err != nil || after != head {
		t.Errorf("the log went from %d to %d: %v", head, after, err)
	}
}

// TestWorkers lets Sojourn's own processes write its streams, and delete none.
func TestWorkers(t *testing.T) {
	t.Parallel()
	f := start(t, func(c *Config) { c.Authorize = func(string, string) Access { return Worker } })
	c := f.client(t, "")
	appendTo(t, c, "own-1", esdb.NoStream{}, "a", "b")
	_, err := c.DeleteStream(deadline(t), "own-1", esdb.DeleteStreamOptions{})
	wantCode(t, "delete", err, "denied")
	_, err = c.TombstoneStream(deadline(t), "own-1", esdb.TombstoneStreamOptions{})
	wantCode(t, "tombstone", err, "denied")
	r, err := c.ReadStream(deadline(t), "own-1", esdb.ReadStreamOptions{}, 9)
	if got := told(t, r, err); got != "a b" {
		t.Errorf("%q", got)
	}
}

func TestDeletedStream(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	c := f.client(t, "")
	ctx := deadline(t)
	read := func() string {
		r, err := c.ReadStream(ctx, "free", esdb.ReadStreamOptions{}, 10)
		return told(t, r, err)
	}
	appendTo(t, c, "free", esdb.NoStream{}, "a", "b")
	meta := esdb.StreamMetadata{}
	meta.AddCustomProperty("owner", "jo")
	if _, err := c.SetStreamMetadata(ctx, "free", esdb.AppendToStreamOptions{}, meta); err != nil {
		t.Fatal(err)
	}
	_, err := c.DeleteStream(ctx, "free", esdb.DeleteStreamOptions{ExpectedRevision: esdb.Revision(7)})
	if err == nil || !strings.Contains(err.Error(), "FailedPrecondition") {
		t.Errorf("delete at another revision: %v", err)
	}
	if res, err := c.DeleteStream(ctx, "free", esdb.DeleteStreamOptions{ExpectedRevision: esdb.Revision(1)}); err != nil || res.Position.Commit != 4 {
		t.Fatalf("%+v, %v", res, err)
	}
	if got := read(); got != "not-found" {
		t.Errorf("deleted, it holds %q", got)
	}
	_, err = c.AppendToStream(ctx, "free", esdb.AppendToStreamOptions{ExpectedRevision: esdb.StreamExists{}}, named("x"))
	wantCode(t, "append to what is deleted", err, "wrong-version")
	// It begins anew behind what it held.
	if res := appendTo(t, c, "free", esdb.NoStream{}, "c"); res.NextExpectedVersion != 2 {
		t.Errorf("the first event has revision %d", res.NextExpectedVersion)
	}
	if got := read(); got != "c" {
		t.Errorf("made anew, it holds %q", got)
	}
	kept, err := c.GetStreamMetadata(ctx, "free", esdb.ReadStreamOptions{From: esdb.End{}, Direction: esdb.Backwards})
	if err != nil {
		t.Fatal(err)
	}
	if kept.CustomProperty("owner") != "jo" || *kept.TruncateBefore() != 2 {
		t.Errorf("metadata %+v", kept)
	}
	// The log holds everything still.
	r, err := c.ReadAll(ctx, esdb.ReadAllOptions{From: esdb.Start{}}, 100)
	if got := told(t, r, err); got != "a b $metadata $metadata $metadata c" {
		t.Errorf("the log holds %q", got)
	}
}

func TestTombstone(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	c := f.client(t, "")
	ctx := deadline(t)
	appendTo(t, c, "free", esdb.NoStream{}, "a")
	sub, err := c.SubscribeToStream(ctx, "free", esdb.SubscribeToStreamOptions{From: esdb.Start{}})
	if err != nil {
		t.Fatal(err)
	}
	if res, err := c.TombstoneStream(ctx, "free", esdb.TombstoneStreamOptions{ExpectedRevision: esdb.Revision(0)}); err != nil || res.Position.Commit != 2 {
		t.Fatalf("%+v, %v", res, err)
	}
	r, err := c.ReadStream(ctx, "free", esdb.ReadStreamOptions{}, 10)
	if got := told(t, r, err); got != "deleted" {
		t.Errorf("it holds %q", got)
	}
	_, err = c.AppendToStream(ctx, "free", esdb.AppendToStreamOptions{}, named("b"))
	wantCode(t, "append", err, "deleted")
	_, err = c.TombstoneStream(ctx, "free", esdb.TombstoneStreamOptions{})
	wantCode(t, "again", err, "deleted")
	if e := sub.Recv(); e.EventAppeared == nil {
		t.Errorf("the subscription begins with %+v", e)
	}
	for {
		e := sub.Recv()
		if e.CaughtUp != nil {
			continue
		}
		if e.SubscriptionDropped == nil {
			t.Errorf("the subscription goes on with %+v", e)
		}
		break
	}
}

func TestStreamMetadata(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	c := f.client(t, "")
	ctx := deadline(t)
	appendTo(t, c, "free", esdb.NoStream{}, "a", "b", "c", "d")
	set := func(change func(*esdb.StreamMetadata)) {
		t.Helper()
		m := esdb.StreamMetadata{}
		change(&m)
		if _, err := c.SetStreamMetadata(ctx, "free", esdb.AppendToStreamOptions{}, m); err != nil {
			t.Fatal(err)
		}
	}
	read := func(dir esdb.Direction, from esdb.StreamPosition) string {
		r, err := c.ReadStream(ctx, "free", esdb.ReadStreamOptions{Direction: dir, From: from}, 10)
		return told(t, r, err)
	}
	set(func(m *esdb.StreamMetadata) { m.SetMaxCount(2) })
	if got := read(esdb.Forwards, esdb.Start{}) + "|" + read(esdb.Backwards, esdb.End{}); got != "c d|d c" {
		t.Errorf("max count: %q", got)
	}
	set(func(m *esdb.StreamMetadata) { m.SetTruncateBefore(1) })
	if got := read(esdb.Forwards, esdb.Start{}) + "|" + read(esdb.Backwards, esdb.End{}); got != "b c d|d c b" {
		t.Errorf("truncate before: %q", got)
	}
	set(func(m *esdb.StreamMetadata) { m.SetMaxAge(time.Minute) })
	if got := read(esdb.Forwards, esdb.Start{}); got != "a b c d" {
		t.Errorf("max age: %q", got)
	}
	f.now = time.Now().Add(time.Hour)
	if got := read(esdb.Forwards, esdb.Start{}) + read(esdb.Backwards, esdb.End{}); got != "" {
		t.Errorf("an hour later: %q", got)
	}
}

// names reads a subscription until it has caught up and as many events came.
func names(t testing.TB, sub *esdb.Subscription, count int) string {
	t.Helper()
	var out []string
	for n, caughtUp := 0, false; n < count || !caughtUp; {
		e := sub.Recv()
		switch {
		case e.EventAppeared != nil:
			out = append(out, nameOf(e.EventAppeared.Event))
			n++
		case e.CaughtUp != nil:
			out = append(out, "|")
			caughtUp = true
		case e.CheckPointReached != nil:
			out = append(out, fmt.Sprint("@", e.CheckPointReached.Commit))
		default:
			t.Fatalf("after %q: %+v", out, e.SubscriptionDropped)
		}
	}
	return strings.Join(out, " ")
}

func TestSubscriptions(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	c := f.client(t, "")
	ctx := deadline(t)
	f.say(t, "own-1", "a0", "b1")
	f.say(t, "own-2", "c2")
	filter := func(kind esdb.FilterType, prefix, regex string) *esdb.SubscriptionFilter {
		out := &esdb.SubscriptionFilter{Type: kind, Regex: regex}
		if prefix != "" {
			out.Prefixes = strings.Split(prefix, ",")
		}
		return out
	}
	all := []struct {
		opts   esdb.SubscribeToAllOptions
		events int
		want   string
	}{
		{esdb.SubscribeToAllOptions{From: esdb.Start{}}, 5, "a0 b1 c2 | a3 d4"},
		{esdb.SubscribeToAllOptions{From: esdb.Position{Commit: 1, Prepare: 1}}, 4, "b1 c2 | a3 d4"},
		{esdb.SubscribeToAllOptions{From: esdb.End{}}, 2, "| a3 d4"},
		{esdb.SubscribeToAllOptions{From: esdb.Start{}, Filter: filter(esdb.StreamFilterType, "own-2,none", "")}, 2, "c2 | d4"},
		{esdb.SubscribeToAllOptions{From: esdb.Start{}, Filter: filter(esdb.EventFilterType, "of-a", "")}, 2, "a0 @3 | a3"},
		{esdb.SubscribeToAllOptions{From: esdb.Start{}, Filter: filter(esdb.EventFilterType, "", "^of-[cd]$")}, 2, "c2 | d4"},
		{esdb.SubscribeToAllOptions{
			From: esdb.Start{}, Filter: filter(esdb.EventFilterType, "of-d", ""), MaxSearchWindow: 1, CheckpointInterval: 2,
		}, 1, "@2 @3 | d4"},
	}
	var subs []*esdb.Subscription
	for _, test := range all {
		sub, err := c.SubscribeToAll(ctx, test.opts)
		if err != nil {
			t.Fatal(err)
		}
		subs = append(subs, sub)
	}
	stream := []struct {
		name   string
		opts   esdb.SubscribeToStreamOptions
		events int
		want   string
	}{
		{"own-1", esdb.SubscribeToStreamOptions{From: esdb.Start{}}, 3, "a0 b1 | a3"},
		{"own-1", esdb.SubscribeToStreamOptions{From: esdb.Revision(0)}, 2, "b1 | a3"},
		{"own-1", esdb.SubscribeToStreamOptions{From: esdb.End{}}, 1, "| a3"},
		{"own-3", esdb.SubscribeToStreamOptions{From: esdb.Start{}}, 1, "| e5"}, // comes later
	}
	for _, test := range stream {
		sub, err := c.SubscribeToStream(ctx, test.name, test.opts)
		if err != nil {
			t.Fatal(err)
		}
		subs = append(subs, sub)
	}
	// All have caught up before more comes.
	got := make([]string, len(subs))
	for i, sub := range subs {
		got[i] = names(t, sub, 0)
	}
	f.say(t, "own-1", "a3")
	f.say(t, "own-2", "d4")
	f.say(t, "own-3", "e5")
	for i, sub := range subs {
		want, events := "", 0
		if i < len(all) {
			want, events = all[i].want, all[i].events
		} else {
			want, events = stream[i-len(all)].want, stream[i-len(all)].events
		}
		for n := strings.Count(got[i], " ") + 1 - strings.Count(got[i], "|") - strings.Count(got[i], "@"); n < events; n++ {
			for {
				e := sub.Recv()
				if e.EventAppeared != nil {
					got[i] += " " + nameOf(e.EventAppeared.Event)
					break
				}
				if e.CheckPointReached == nil {
					t.Fatalf("subscription %d: after %q: %+v", i, got[i], e)
				}
			}
		}
		if got[i] != want {
			t.Errorf("subscription %d: %q, want %q", i, got[i], want)
		}
		if err := sub.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := c.SubscribeToAll(ctx, esdb.SubscribeToAllOptions{Filter: filter(esdb.StreamFilterType, "", "(?!x)")}); err == nil || !strings.Contains(err.Error(), "RE2") {
		t.Errorf("a lookaround: %v", err)
	}
}

// counting counts the iterators of a store that are open, and what they yield.
type counting struct {
	eventstore.Store
	open, yielded atomic.Int64
}

func (c *counting) ReadAll(ctx context.Context, after eventstore.Position) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		c.open.Add(1)
		defer c.open.Add(-1)
		for e, err := range c.Store.ReadAll(ctx, after) {
			c.yielded.Add(1)
			if !yield(e, err) {
				return
			}
		}
	}
}

// TestSlowSubscriber subscribes and takes nothing: the server holds no reader of
// the store meanwhile.
func TestSlowSubscriber(t *testing.T) {
	t.Parallel()
	var c *counting
	f := start(t, func(config *Config) {
		c = &counting{Store: config.Store}
		config.Store = c
	})
	const total = 4_000
	var parts []eventstore.Append
	for i := range total {
		parts = append(parts, eventstore.Append{Stream: "own-1", Events: []eventstore.NewEvent{{ID: named(fmt.Sprint(i)).EventID, Type: "t", Data: make([]byte, 10<<10)}}})
	}
	ctx := deadline(t)
	if _, err := f.store.AppendMany(ctx, parts); err != nil {
		t.Fatal(err)
	}
	sub, err := f.client(t, "").SubscribeToAll(ctx, esdb.SubscribeToAllOptions{From: esdb.Start{}})
	if err != nil {
		t.Fatal(err)
	}
	for c.yielded.Load() == 0 || c.open.Load() > 0 {
		if ctx.Err() != nil {
			t.Fatalf("%d readers are open after %d events", c.open.Load(), c.yielded.Load())
		}
		runtime.Gosched()
	}
	if n := c.yielded.Load(); n >= total {
		t.Errorf("the server read %d events for a client that takes none", n)
	}
	for range total {
		if e := sub.Recv(); e.EventAppeared == nil {
			t.Fatalf("%+v", e)
		}
	}
}

// TestDeadline ends a call whose deadline passes.
func TestDeadline(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	c := f.client(t, "")
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	<-ctx.Done()
	_, err := c.AppendToStream(ctx, "free", esdb.AppendToStreamOptions{}, named("a"))
	wantCode(t, "append", err, "deadline")
}
