package projections

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"

	"sojourn/domain"
	"sojourn/eventstore"
)

// What is said ahead of the rows, with crashes before these are written, is what is
// said one event at a time.
func TestSaidAheadOfTheRows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		order := drawOrder(t, drawMessages(t))
		times := recordedTimes(t, order)
		run := func(play func(g *generation, crash *bool, again func(crashes bool) *generation) *generation) (map[string]bool, map[string][]bool) {
			var c clock
			log := openStore(t, &c)
			defer func() { _ = log.Close() }()
			c.set(day0)
			rules, sink, dir := segmentRules(), newMemory(), vfs.NewMem()
			store := &faulty{Store: log}
			crash := false
			store.fault = func() error {
				if !crash {
					return nil
				}
				crash = false
				return errCrash
			}
			open := func(crashes bool) *generation {
				crash = crashes
				return newGenerationAfterCrashes(t, dir, store, sink, rules, &c)
			}
			g := open(false)
			if err := g.reconcile(t.Context()); err != nil {
				t.Fatalf("reconcile: %v", err)
			}
			appendAll(t, log, &c, order, times)
			g = play(g, &crash, open)
			crash = false
			if err := errors.Join(g.runToEnd(t.Context(), nil), g.settle()); err != nil {
				t.Fatalf("run: %v", err)
			}
			at := g.state.checkpoint()
			if err := g.state.close(); err != nil {
				t.Fatal(err)
			}
			verified(t, log, sink, rules, &c, at)
			return allStanding(t, log), everSaid(t, log)
		}
		one, ever := run(func(g *generation, _ *bool, _ func(bool) *generation) *generation {
			g.batchEvents = 1
			return g
		})
		many, _ := run(func(g *generation, crash *bool, open func(bool) *generation) *generation {
			for range rapid.IntRange(1, 20).Draw(t, "steps") {
				head, err := g.store.Head(t.Context())
				if err == nil && g.fold.position < head {
					err = g.read(t.Context(), head, rapid.IntRange(1, 5).Draw(t, "events"))
				}
				if err != nil {
					t.Fatalf("read: %v", err)
				}
				switch rapid.SampledFrom([]string{"utter", "utter", "flush", "crash", "stop"}).Draw(t, "then") {
				case "utter":
					err = g.utter(t.Context())
				case "flush":
					err = g.flush(t.Context(), g.fold.step, true)
				case "crash":
					*crash = rapid.Bool().Draw(t, "while it speaks")
					if err = g.utter(t.Context()); err == nil || errors.Is(err, errCrash) {
						_ = g.settle() // the flush under way may have met the crash
						if err = g.state.close(); err == nil {
							g = open(rapid.Bool().Draw(t, "crashes again"))
							*crash = false
						}
					}
				case "stop":
					err = g.rest(t.Context())
					if g.uttered {
						t.Fatal("stopped with something said and not written")
					}
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			return g
		})
		if !slices.Equal(keys(one), keys(many)) {
			t.Fatalf("one at a time:\n%s\nahead:\n%s\n%s", strings.Join(keys(one), "\n"), strings.Join(keys(many), "\n"), toldOf(order, times))
		}
		for key, news := range many {
			if !slices.Contains(ever[key], news) {
				t.Fatalf("%s\nis marked %v when said ahead, and %v one at a time\n%s", key, news, ever[key], toldOf(order, times))
			}
		}
	})
}

// Views that follow the log say what has changed at once, however long it is to the
// next rows.
func TestSaysAtOnce(t *testing.T) {
	var c clock
	c.set(day0)
	log := openStore(t, &c)
	defer func() { _ = log.Close() }()
	sink := newMemory()
	g := live(t, sink, log, &c)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- g.run(ctx, time.Hour) }()
	// The first flush is due at once; then there is none for an hour.
	at := login("m1", "u1", "tablet", day0-5*domain.Day).appendTo(t, log)
	said := func(after eventstore.Position) eventstore.Position {
		t.Helper()
		for {
			if err := log.Wait(t.Context(), after); err != nil {
				t.Fatal(err)
			}
			for e, err := range log.ReadAll(t.Context(), after) {
				if err != nil {
					t.Fatal(err)
				}
				after = e.Position
				if e.Type == domain.TypeStageEntered {
					return after
				}
			}
		}
	}
	said(at)
	at = bought("o1", "u1", day0-domain.Day, 30).appendTo(t, log)
	said(at)
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	// The stop has written what was said.
	if got, want := keys(allStanding(t, log)), keys(sink.statements()); !slices.Equal(got, want) {
		t.Fatalf("said  %q\nviews %q", got, want)
	}
}
