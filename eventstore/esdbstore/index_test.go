package esdbstore

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"

	"sojourn/eventstore"
)

// TestRestart appends again what stores before this one have appended, with an
// index that was kept, one that was lost, and one of another log.
func TestRestart(t *testing.T) {
	t.Parallel()
	log, address := behind(t)
	dir := filepath.Join(t.TempDir(), "index")
	ctx := t.Context()
	first, err := Open(ctx, Config{Connection: address, Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		if _, err := first.Append(ctx, fmt.Sprint("s", i%5), eventstore.Any{}, event(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	if err := first.index.cover(ctx, 50); err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	again := func(name string, c Config, covered uint64) {
		t.Helper()
		s, err := Open(ctx, c)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		defer func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}()
		if covered > 0 && s.index.covered.Load() < covered {
			t.Errorf("%s: the index begins at %d", name, s.index.covered.Load())
		}
		for i := range 50 {
			res, err := s.Append(ctx, fmt.Sprint("s", i%5), eventstore.Any{}, event(fmt.Sprint(i)))
			if err != nil || res.Appended != 0 || res.Position != eventstore.Position(i+1) {
				t.Fatalf("%s: event %d: %+v, %v", name, i, res, err)
			}
		}
		dst := make([]eventstore.Position, 1)
		if err := s.Lookup(ctx, []uuid.UUID{event("49").ID}, dst); err != nil || dst[0] != 50 {
			t.Errorf("%s: look-up says %d, %v", name, dst[0], err)
		}
	}
	again("kept", Config{Connection: address, Dir: dir}, 50)
	again("in memory", Config{Connection: address}, 0)
	again("lost", Config{Connection: address, Dir: filepath.Join(t.TempDir(), "index")}, 0)

	// The index of another log is no use.
	other, otherAddress := behind(t)
	for i := range 60 {
		if _, err := other.Append(ctx, "s", eventstore.Any{}, event(fmt.Sprint("other", i))); err != nil {
			t.Fatal(err)
		}
	}
	s, err := Open(ctx, Config{Connection: otherAddress, Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	dst := make([]eventstore.Position, 2)
	if err := s.Lookup(ctx, []uuid.UUID{event("49").ID, event("other49").ID}, dst); err != nil || dst[0] != 0 || dst[1] != 50 {
		t.Errorf("look-up says %v, %v", dst, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// A damaged one is made anew.
	files, err := filepath.Glob(filepath.Join(dir, "MANIFEST-*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, f := range files {
		if err := os.WriteFile(f, []byte("no manifest"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	again("damaged", Config{Connection: address, Dir: dir}, 0)
	if n := len(contents(t, log)); n != 50 {
		t.Errorf("the log holds %d events", n)
	}
}

// TestTwoWriters appends the same events by two stores at once, under every
// expectation: each stands once.
func TestTwoWriters(t *testing.T) {
	t.Parallel()
	log, address := behind(t)
	stores := []*Store{open(t, Config{Connection: address}), open(t, Config{Connection: address, SingleAppends: true})}
	var wg sync.WaitGroup
	const total = 60
	for _, s := range stores {
		for range 2 {
			wg.Go(func() {
				for i := range total {
					res, err := s.Append(t.Context(), fmt.Sprint("s", i%3), eventstore.Any{}, event(fmt.Sprint(i)), event(fmt.Sprint(i, "b")))
					if err != nil || res.Position == 0 {
						t.Errorf("%+v, %v", res, err)
						return
					}
				}
			})
		}
	}
	wg.Wait()
	seen := make(map[string]bool)
	for _, name := range contents(t, log) {
		if seen[name] {
			t.Errorf("%s stands twice", name)
		}
		seen[name] = true
	}
	if len(seen) != 2*total {
		t.Errorf("%d events", len(seen))
	}
}

// TestSystemStreams leaves out what a server keeps for itself.
func TestSystemStreams(t *testing.T) {
	t.Parallel()
	log, address := behind(t)
	ctx := t.Context()
	s := open(t, Config{Connection: address})
	say := func(stream, name string) {
		t.Helper()
		if _, err := log.Append(ctx, stream, eventstore.Any{}, event(name)); err != nil {
			t.Fatal(err)
		}
	}
	say("s", "a")
	say("$stats", "x")
	say("s", "b")
	say("$$s", "y")
	if got := strings.Join(contents(t, s), " "); got != "a b" {
		t.Errorf("the log holds %q", got)
	}
	if head, err := s.Head(ctx); err != nil || head != 3 {
		t.Errorf("head %d, %v", head, err)
	}
	// The index goes past what it leaves out, and waiting does not end by it.
	if err := s.index.cover(ctx, 4); err != nil {
		t.Fatal(err)
	}
	waiting, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- s.Wait(waiting, 3) }()
	cancel()
	if err := <-done; err == nil {
		t.Error("a system event ends the wait")
	}
}

// TestClockBack keeps recorded_at from going back where a server's clock does.
func TestClockBack(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	x, err := loadIndex(fs, "index")
	if err != nil {
		t.Fatal(err)
	}
	created := []int64{100, 200, 150, 180, 200, 250, 240, 230, 260, 255}
	want := []int64{100, 200, 200, 200, 200, 250, 250, 250, 260, 260}
	check := func() {
		t.Helper()
		for i, ms := range created {
			e := eventstore.Recorded{Position: eventstore.Position(10 * (i + 1)), RecordedAt: time.UnixMilli(ms).UTC()}
			if err := x.complete(t.Context(), &e); err != nil {
				t.Fatal(err)
			}
			if got := e.RecordedAt.UnixMilli(); got != want[i] {
				t.Errorf("event %d: %d, want %d", i, got, want[i])
			}
		}
	}
	// In batches of three, so that going back is met within one and between two.
	for i := 0; i < len(created); i += 3 {
		var events []eventstore.Recorded
		for k := i; k < min(i+3, len(created)); k++ {
			e := event(fmt.Sprint(k))
			events = append(events, eventstore.Recorded{
				NewEvent: e, Stream: "s", Revision: uint64(k), Position: eventstore.Position(10 * (k + 1)), RecordedAt: time.UnixMilli(created[k]).UTC(),
			})
		}
		if err := x.add(events, events[len(events)-1].Position); err != nil {
			t.Fatal(err)
		}
	}
	check()
	if n := len(x.times); n != 3 {
		t.Errorf("%d times are kept, want one for each time that the clock went back", n)
	}
	if err := x.close(); err != nil {
		t.Fatal(err)
	}
	if x, err = loadIndex(fs, "index"); err != nil {
		t.Fatal(err)
	}
	check()
	if err := x.close(); err != nil {
		t.Fatal(err)
	}
}

// The way of the index to the log's end is told where it takes a while, and its end.
func TestCatchingIsTold(t *testing.T) {
	t.Parallel()
	var told strings.Builder
	log := slog.New(slog.NewTextHandler(&told, nil))
	c := catching{from: 100, to: 300, began: time.Now()}
	c.told(log, 150)
	c.told(log, 300)
	if told.Len() > 0 {
		t.Errorf("a fast start says %s", &told)
	}
	c = catching{from: 100, to: 300, began: time.Now().Add(-time.Minute)}
	c.told(log, 150)
	c.told(log, 160) // right behind
	c.told(log, 300)
	c.told(log, 400)
	lines := strings.Split(strings.TrimSpace(told.String()), "\n")
	if len(lines) != 2 || !strings.Contains(lines[0], "done=25%") || !strings.Contains(lines[1], "whole log") {
		t.Errorf("%q", lines)
	}
}
