package projections

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"sojourn/domain"
	"sojourn/eventstore"
	"sojourn/warehouse"
	"sojourn/warehouse/chdb"
)

var discard = slog.New(slog.DiscardHandler)

func runTests(m *testing.M) {
	growFrom = 1 // the histories of tests have small customers
	fewPending = 2
	// The engine's child process is this test binary, run again.
	chdb.ChildMain()
	goleak.VerifyTestMain(m)
}

// faulty fails an append after it has happened.
type faulty struct {
	eventstore.Store
	fault func() error
}

func (f *faulty) AppendMany(ctx context.Context, parts []eventstore.Append) ([]eventstore.Result, error) {
	r, err := f.Store.AppendMany(ctx, parts)
	if err == nil && f.fault != nil {
		err = f.fault()
	}
	return r, err
}

// recordedTimes draws when each message is recorded: after all of them happened,
// or as the days go by.
func recordedTimes(t *rapid.T, order []sent) []domain.Millis {
	out := make([]domain.Millis, len(order))
	at := day0
	live := rapid.Bool().Draw(t, "live")
	for i, m := range order {
		if live {
			at = max(at, m.at)
			at += domain.Millis(rapid.SampledFrom([]int64{0, 0, 0, 1, int64(10 * domain.Day)}).Draw(t, "later"))
		} else {
			at = max(at, day0+600*domain.Day)
		}
		out[i] = at
	}
	return out
}

// A view depends on the set of touchpoints, the policy and the time, and on
// nothing else: not on the order of arrival, on duplicates, on batches, nor on
// crashes between any two steps of a flush.
func TestViewsAreAFunctionOfTheSet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		set := drawMessages(t)
		rules := segmentRules()
		order := drawOrder(t, set)
		// Some messages come again.
		for range rapid.IntRange(0, 3).Draw(t, "repeats") {
			order = append(order, rapid.SampledFrom(order).Draw(t, "repeat"))
		}
		var c clock
		log := openStore(t, &c)
		defer func() { _ = log.Close() }()
		times := recordedTimes(t, order)
		appendAll(t, log, &c, order, times)
		end := domain.MillisOf(c.now()) + domain.Millis(rapid.SampledFrom([]int{0, 60, 200}).Draw(t, "days after"))*domain.Day

		sink := newMemory()
		store := &faulty{Store: log}
		// After so many steps it crashes, and after so many more again.
		crashes := rapid.SliceOfN(rapid.IntRange(0, 5), 0, 4).Draw(t, "crashes")
		fault := func() error {
			if len(crashes) == 0 {
				return nil
			}
			if crashes[0]--; crashes[0] >= 0 {
				return nil
			}
			crashes = crashes[1:]
			return errCrash
		}
		sink.fault = func(int) error { return fault() }
		store.fault = fault

		dir := vfs.NewMem()
		for {
			g := newGenerationAfterCrashes(t, dir, store, sink, rules, &c)
			g.batchEvents = rapid.IntRange(1, 12).Draw(t, "batch")
			g.state.large = rapid.SampledFrom(larges).Draw(t, "large")
			c.set(end)
			err := g.runToEnd(context.Background(), nil)
			if err == nil && g.fold.silent {
				err = g.reconcile(context.Background())
			}
			if err == nil {
				err = g.settle()
			}
			if err == nil {
				// Time goes on, and nothing happens but that what was said is read.
				crashes = nil
				end += domain.Millis(rapid.IntRange(0, 120).Draw(t, "days more")) * domain.Day
				c.set(end)
				if err := errors.Join(g.runToEnd(t.Context(), nil), g.settle()); err != nil {
					t.Fatalf("run: %v", err)
				}
			}
			at := g.state.checkpoint()
			if cerr := g.state.close(); cerr != nil {
				t.Fatalf("close: %v", cerr)
			}
			if err == nil {
				verified(t, log, sink, rules, &c, at)
				break
			}
			if !errors.Is(err, errCrash) {
				t.Fatalf("run: %v", err)
			}
		}
		sink.picture(t).compare(t, oracle(order, rules, end), "the views at "+end.String()+" are not what the messages say\n"+toldOf(order, times))
		if got, want := sink.contested(), keys(whoIsWho(order, rules).conflicts); !slices.Equal(got, want) {
			t.Fatalf("conflicts\ngot  %q\nwant %q", got, want)
		}
		if got, want := keys(allStanding(t, log)), keys(sink.statements()); !slices.Equal(got, want) {
			t.Fatalf("what was said is not what stands:\nsaid  %q\nviews %q", got, want)
		}
	})
}

// verified builds the views anew as of a checkpoint, as verify does, and compares.
func verified(t *rapid.T, log eventstore.Store, sink *memory, rules *Rules, c *clock, at checkpoint) {
	t.Helper()
	fresh := newMemory()
	g := newGeneration(t, vfs.NewMem(), log, fresh, rules, c)
	defer func() { _ = g.state.close() }()
	g.batchEvents = rapid.IntRange(1, 50).Draw(t, "batch of verify")
	if err := g.runTo(t.Context(), at.Position, at.Clock, nil); err != nil {
		t.Fatalf("verify: %v", err)
	}
	sink.picture(t).compare(t, fresh.picture(t), "verify finds")
	every := func(*warehouse.SegmentStay) bool { return true }
	if got, want := sink.staysOf(every, true), fresh.staysOf(every, true); !slices.Equal(got, want) {
		t.Fatalf("verify finds stays\n%s\nnot\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	found := Verification{Rows: map[string]uint64{}, Different: map[string]uint64{}}
	if err := g.verifyStatements(t.Context(), &found, 10); err != nil || !found.Equal() {
		t.Fatalf("verify of the statements: %+v, %v", found, err)
	}
}

func newGenerationAfterCrashes(t *rapid.T, dir vfs.FS, store eventstore.Store, sink Sink, rules *Rules, c *clock) *generation {
	for {
		g, err := tryGeneration(dir, store, sink, rules, c)
		if err == nil {
			return g
		}
		if !errors.Is(err, errCrash) {
			t.Fatalf("recover: %v", err)
		}
	}
}

func tryGeneration(dir vfs.FS, store eventstore.Store, sink Sink, rules *Rules, c *clock) (*generation, error) {
	s, err := openState(dir, "state", 1<<20, discard)
	if err != nil {
		return nil, err
	}
	g := &generation{
		number: 1, rules: rules, store: store, keyer: testKeyer, sink: sink, state: s,
		now: c.now, logger: discard, changed: func() {},
	}
	if err := g.recover(context.Background()); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return g, nil
}

// What is news is judged as if the log were read one event and one deadline at a
// time, whatever the batch.
func TestNewsDoesNotDependOnTheBatch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		set := drawMessages(t)
		order := drawOrder(t, set)
		times := recordedTimes(t, order)
		run := func(batch int) (stands map[string]bool, ever map[string][]bool) {
			var c clock
			log := openStore(t, &c)
			defer func() { _ = log.Close() }()
			dir := vfs.NewMem()
			c.set(day0)
			sink := newMemory()
			g := newGeneration(t, dir, log, sink, segmentRules(), &c)
			defer func() { _ = g.state.close() }()
			g.batchEvents = batch
			// Live from the start, on an empty log.
			if err := g.reconcile(context.Background()); err != nil {
				t.Fatalf("reconcile: %v", err)
			}
			appendAll(t, log, &c, order, times)
			// The clock moves no further than the last event, so that only the batch
			// differs.
			if err := g.runToEnd(context.Background(), nil); err != nil {
				t.Fatalf("run: %v", err)
			}
			return allStanding(t, log), everSaid(t, log)
		}
		one, ever := run(1)
		many, _ := run(rapid.IntRange(2, 50).Draw(t, "batch"))
		if !slices.Equal(keys(one), keys(many)) {
			t.Fatalf("one at a time:\n%s\nin batches:\n%s\n%s", strings.Join(keys(one), "\n"), strings.Join(keys(many), "\n"), toldOf(order, times))
		}
		for key, news := range many {
			// What was withdrawn and came back may have been left standing by the
			// larger batch, with the mark of its first time.
			if !slices.Contains(ever[key], news) {
				t.Fatalf("%s\nis marked %v in batches, and %v one at a time\n%s", key, news, ever[key], toldOf(order, times))
			}
		}
	})
}

// A rebuild from nothing says nothing again.
func TestRebuildSaysNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		set := drawMessages(t)
		order := drawOrder(t, set)
		var c clock
		log := openStore(t, &c)
		defer func() { _ = log.Close() }()
		appendAll(t, log, &c, order, recordedTimes(t, order))
		build := func() (*memory, eventstore.Position) {
			dir := vfs.NewMem()
			sink := newMemory()
			g := newGeneration(t, dir, log, sink, segmentRules(), &c)
			defer func() { _ = g.state.close() }()
			if err := g.runToEnd(context.Background(), nil); err != nil {
				t.Fatalf("run: %v", err)
			}
			if err := g.reconcile(context.Background()); err != nil {
				t.Fatalf("reconcile: %v", err)
			}
			head, err := log.Head(context.Background())
			if err != nil {
				t.Fatalf("head: %v", err)
			}
			return sink, head
		}
		first, head := build()
		again, after := build()
		if head != after {
			t.Fatalf("the log grew from %d to %d", head, after)
		}
		again.picture(t).compare(t, first.picture(t), "the rebuilt views differ")
	})
}
