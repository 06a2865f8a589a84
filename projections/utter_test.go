package projections

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"
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

// saidAhead is a generation that was cut off when something was said ahead of the rows,
// and what it had come to.
func saidAhead(t *testing.T, log eventstore.Store, c *clock) (at checkpoint, end eventstore.Position) {
	t.Helper()
	old := live(t, newMemory(), log, c)
	bought("o1", "42", day0-2, 30).appendTo(t, log)
	if err := old.runToEnd(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	at = old.state.checkpoint()
	end = bought("o2", "42", day0-1, 30).appendTo(t, log)
	if err := errors.Join(old.read(t.Context(), end, 0), old.utter(t.Context())); err != nil {
		t.Fatal(err)
	}
	if len(standing(t, log)) != 2 || old.state.checkpoint() != at {
		t.Fatalf("at %+v, said %v", old.state.checkpoint(), standing(t, log))
	}
	return at, end
}

// Views that go on where others were cut off take nothing back of what these have said
// ahead of their rows, and say it once.
func TestSwitchWhereSomethingWasSaidAhead(t *testing.T) {
	var c clock
	c.set(day0)
	log := openStore(t, &c)
	defer func() { _ = log.Close() }()
	at, end := saidAhead(t, log, &c)
	g := newGeneration(t, vfs.NewMem(), log, newMemory(), testRules(), &c)
	defer func() { _ = g.settle(); _ = g.state.close() }()
	if err := g.runTo(t.Context(), at.Position, at.Clock, nil); err != nil {
		t.Fatal(err)
	}
	head, err := log.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	g.built = true
	v := &Views{cfg: Config{Store: log, FlushInterval: time.Millisecond, Now: c.now}, logger: discard, active: g}
	v.ctx, v.cancel = context.WithCancel(context.Background())
	g.changed = v.moved.send
	v.startLoop()
	if err := v.WaitFor(t.Context(), end); err != nil {
		t.Fatal(err)
	}
	v.stopLoop()
	if again, err := log.Head(t.Context()); err != nil || again != head {
		t.Errorf("the log ends at %d, and after the switch at %d, %v: %v", head, again, err, standing(t, log))
	}
}

// What is said ahead of the rows is no difference between statements and views.
func TestVerifyWhereSomethingWasSaidAhead(t *testing.T) {
	var c clock
	c.set(day0)
	log := openStore(t, &c)
	defer func() { _ = log.Close() }()
	at, _ := saidAhead(t, log, &c)
	g := newGeneration(t, vfs.NewMem(), log, newMemory(), testRules(), &c)
	defer func() { _ = g.settle(); _ = g.state.close() }()
	if err := g.runTo(t.Context(), at.Position, at.Clock, nil); err != nil {
		t.Fatal(err)
	}
	r := &Verification{Rows: map[string]uint64{}, Different: map[string]uint64{}}
	if err := g.verifyStatements(t.Context(), r, 10); err != nil {
		t.Fatal(err)
	}
	if !r.Equal() || r.Rows[statementsTable] == 0 {
		t.Errorf("%+v", r)
	}
}

// parting is a store that loses whoever reads it as soon as lost is set.
type parting struct {
	eventstore.Store
	lost func() bool
}

func (p parting) Head(ctx context.Context) (eventstore.Position, error) {
	if p.lost() {
		return 0, context.Canceled
	}
	return p.Store.Head(ctx)
}

// Views stand still only when the flush under way is done, wherever they were stopped.
func TestStandStillAfterTheFlush(t *testing.T) {
	var c clock
	c.set(day0)
	log := openStore(t, &c)
	defer func() { _ = log.Close() }()
	sink := newMemory()
	g := live(t, sink, log, &c)
	v := &Views{cfg: Config{Store: log, FlushInterval: time.Millisecond, Now: c.now}, logger: discard, active: g}
	v.ctx, v.cancel = context.WithCancel(context.Background())
	g.changed = v.moved.send
	begun, stopped := make(chan struct{}), make(chan struct{})
	sink.fault = func(stage int) error {
		if stage == 0 {
			close(begun)
			select {
			case <-stopped:
			case <-time.After(time.Second): // the loop waits for this flush already
				v.cancel()
			}
		}
		return nil
	}
	g.store = parting{log, func() bool {
		select {
		case <-begun:
			v.cancel() // in the middle of a round
			close(stopped)
			return true
		default:
			return false
		}
	}}
	bought("o1", "42", day0-domain.Day, 30).appendTo(t, log)
	v.startLoop()
	<-v.ctx.Done()
	v.stopLoop()
	if g.writing != nil {
		t.Error("a flush is under way")
	}
}

// Of two processes that hold a part for a moment the one that is fenced may say something
// ahead before it learns of that. Whoever takes the part later begins with an empty disk
// all the same.
func TestTakesOverWhereTwoHaveSpoken(t *testing.T) {
	var c clock
	c.set(day0)
	log := openStore(t, &c)
	defer func() { _ = log.Close() }()
	sink, shard := newMemory(), Shard{1, 1}
	open := func() *generation {
		s, err := openState(vfs.NewMem(), "state", 1<<20, discard)
		if err != nil {
			t.Fatal(err)
		}
		g := &generation{
			number: 1, shard: shard, rules: testRules(), store: log, keyer: testKeyer, sink: part{sink, t, shard}, state: s,
			now: c.now, logger: discard, changed: func() {},
			fence: &fence{store: log, stream: domain.WorkerStream(1, 1, 1), worker: uuid.New()},
		}
		t.Cleanup(func() { _ = errors.Join(g.settle(), g.state.close()) })
		if err := g.recover(t.Context()); err != nil {
			t.Fatalf("recover: %v", err)
		}
		return g
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	first := open()
	must(errors.Join(first.runToEnd(t.Context(), nil), first.reconcile(t.Context())))
	bought("o1", "42", day0-3, 30).appendTo(t, log)
	must(errors.Join(first.runToEnd(t.Context(), nil), first.settle()))
	second := open()
	o2 := bought("o2", "42", day0-1, 30).appendTo(t, log)
	o3 := bought("o3", "42", day0-2, 30).appendTo(t, log)
	must(errors.Join(first.read(t.Context(), o3, 0), first.utter(t.Context())))
	must(errors.Join(second.read(t.Context(), o2, 0), second.utter(t.Context()), second.flush(t.Context(), second.fold.step, true), second.settle()))
	must(errors.Join(second.runToEnd(t.Context(), nil), second.settle()))
	third := open()
	must(errors.Join(third.runToEnd(t.Context(), nil), third.settle()))
	if got, want := keys(allStanding(t, log)), keys(sink.statements()); !slices.Equal(got, want) {
		t.Errorf("said  %q\nviews %q", got, want)
	}
}

// What was said ahead is said again after a crash in the same steps, and each step is
// about those of whom something was said in it, so that nothing is taken back.
func TestSaysNoMoreAfterACrash(t *testing.T) {
	var c clock
	c.set(day0)
	log := openStore(t, &c)
	defer func() { _ = log.Close() }()
	sink, dir := newMemory(), vfs.NewMem()
	g := newGeneration(t, dir, log, sink, testRules(), &c)
	step := func(m sent) {
		t.Helper()
		at := m.appendTo(t, log)
		if err := errors.Join(g.read(t.Context(), at, 0), g.utter(t.Context())); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.reconcile(t.Context()); err != nil {
		t.Fatal(err)
	}
	bought("o1", "x", day0-59*domain.Day, 30).appendTo(t, log)
	if err := errors.Join(g.runToEnd(t.Context(), nil), g.settle()); err != nil {
		t.Fatal(err)
	}
	step(sent{id: "late", kind: domain.Track, name: "Product Viewed", user: "x", at: day0 - 58*domain.Day})
	c.set(day0 + 100*domain.Day)
	step(bought("o2", "y", day0+99*domain.Day, 30))
	step(bought("o3", "x", day0+99*domain.Day, 30))
	head, err := log.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := g.state.close(); err != nil { // a crash
		t.Fatal(err)
	}
	g = newGeneration(t, dir, log, sink, testRules(), &c)
	defer func() { _ = errors.Join(g.settle(), g.state.close()) }()
	for e, err := range log.ReadAll(t.Context(), head) {
		t.Errorf("said after the crash: %s %s, %v", e.Type, e.Data, err)
	}
	if err := errors.Join(g.rest(t.Context()), g.settle()); err != nil {
		t.Fatal(err)
	}
	if got, want := keys(allStanding(t, log)), keys(sink.statements()); !slices.Equal(got, want) {
		t.Errorf("said  %q\nviews %q", got, want)
	}
}
