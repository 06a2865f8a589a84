package projections

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"sojourn/domain"
	"sojourn/eventstore"
	"sojourn/warehouse"
)

func TestShards(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 2, 3, 4, 7, 1023, 1024} {
		held := 0
		for range 200 {
			id := uuid.New()
			for i := 1; i <= n; i++ {
				s := Shard{i, n}
				if !s.holds(id) {
					continue
				}
				held++
				if no, of := warehouse.SubjectNo(id), s.subjects(); n > 1 && (no < of.From || no > of.To) {
					t.Fatalf("%s holds %s, but its range %d-%d does not have %d", s, id, of.From, of.To, no)
				}
			}
		}
		if held != 200 {
			t.Errorf("of %d shards %d hold one of 200 ids", n, held)
		}
	}
	if last := (Shard{3, 3}).subjects(); last.To != ^uint64(0) {
		t.Errorf("the last range ends at %d", last.To)
	}
	for _, bad := range []string{"", "1", "0/1", "2/1", "1/0", "1/1025", "a/b", "1/2/3", "-1/2"} {
		if s, err := ParseShard(bad); err == nil {
			t.Errorf("%q is read as %s", bad, s)
		}
	}
	if s, err := ParseShard("2/4"); err != nil || s != (Shard{2, 4}) || s.String() != "2/4" {
		t.Error(s, err)
	}
}

// part is what one of several workers writes of a table that all of them write. It
// complains of rows that are another's.
type part struct {
	*memory
	t     tb
	shard Shard
}

func (p part) Trim(_ context.Context, after eventstore.Position) error {
	p.touchpoints = slices.DeleteFunc(p.touchpoints, func(t warehouse.Touchpoint) bool {
		return t.Position > uint64(after) && p.shard.holds(t.SubjectID)
	})
	return nil
}

func (p part) Write(ctx context.Context, r *Rows) error {
	mine := func(what string, id uuid.UUID) {
		p.t.Helper()
		if !p.shard.holds(id) {
			p.t.Fatalf("shard %s writes %s %s of another", p.shard, what, id)
		}
	}
	for i := range r.Touchpoints.Len() {
		mine("the touchpoint of", r.Touchpoints.Row(i).SubjectID)
	}
	for _, r := range r.Tables {
		for _, s := range r.Subjects {
			mine("subject", s.SubjectID)
		}
		for _, c := range r.Customers {
			mine("customer", c.CustomerID)
		}
		for _, c := range r.Transitions {
			mine("a transition of", c.CustomerID)
		}
		for _, c := range r.Conflicts {
			mine("a conflict of", c.EventID)
		}
		for _, a := range r.Accounts {
			mine("account", a.AccountID)
		}
		for _, a := range r.AccountMembers {
			mine("a member of", a.AccountID)
		}
		for _, f := range r.Feedback {
			mine("the feedback of", f.SubjectID)
		}
		for _, l := range r.LoyaltyLedger {
			mine("points of", l.CustomerID)
		}
		for _, s := range r.Satisfaction {
			mine("satisfaction of", s.CustomerID)
		}
		for _, s := range r.SegmentStays {
			mine("a stay of", s.CustomerID)
		}
	}
	return p.memory.Write(ctx, r)
}

// TestShardsAreOneView has several workers write the views, each a few events ahead
// of or behind the others, through joins, merges, crashes, and states that are lost or
// that another process has overtaken; what they write together
// is what the messages say, and the statements are those of one worker.
func TestShardsAreOneView(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		set := drawMessages(t)
		rules := segmentRules()
		order := drawOrder(t, set)
		var c clock
		c.set(day0)
		log := openStore(t, &c)
		defer func() { _ = log.Close() }()
		n := rapid.IntRange(2, 5).Draw(t, "shards")
		sink := newMemory()
		workers, dirs, older := make([]*generation, n), make([]vfs.FS, n), make([]vfs.FS, n)
		open := func(i int) {
			s, err := openState(dirs[i], "state", 1<<20, discard)
			if err != nil {
				t.Fatalf("open the state: %v", err)
			}
			s.large = rapid.SampledFrom(larges).Draw(t, "large")
			shard := Shard{i + 1, n}
			workers[i] = &generation{
				number: 1, shard: shard, rules: rules, store: log, keyer: testKeyer, sink: part{sink, t, shard}, state: s,
				now: c.now, logger: discard, changed: func() {}, batchEvents: rapid.IntRange(1, 12).Draw(t, "batch"), room: rapid.IntRange(0, 4).Draw(t, "room"),
				fence: &fence{store: log, stream: domain.WorkerStream(1, shard.Index, n), worker: uuid.New()},
			}
			if err := workers[i].recover(t.Context()); err != nil {
				t.Fatalf("recover: %v", err)
			}
		}
		for i := range workers {
			dirs[i] = vfs.NewMem()
			open(i)
		}
		defer func() {
			for _, g := range workers {
				if g != nil {
					_ = errors.Join(g.settle(), g.state.close())
				}
			}
		}()
		step := func(i int) {
			g := workers[i]
			crash := rapid.IntRange(0, 5).Draw(t, "crash")
			sink.fault = func(stage int) error {
				if stage == crash {
					return errCrash
				}
				return nil
			}
			if rapid.IntRange(0, 3).Draw(t, "forgets what it need not keep") == 0 {
				g.fold.evict(0)
			}
			var err error
			if !g.fold.silent && rapid.Bool().Draw(t, "says it ahead of the rows") {
				head, herr := log.Head(t.Context())
				if err = errors.Join(herr, g.read(t.Context(), head, rapid.IntRange(1, 5).Draw(t, "events"))); err == nil {
					err = g.utter(t.Context())
				}
				if err == nil && crash == 2 {
					err = errCrash
				}
			}
			if err == nil {
				err = g.runToEnd(t.Context(), nil)
			}
			if err == nil && g.fold.silent {
				err = g.reconcile(t.Context())
			}
			if err = errors.Join(err, g.settle()); err != nil && !errors.Is(err, errCrash) {
				t.Fatalf("run: %v", err)
			}
			sink.fault = nil
			if err != nil {
				if err := g.state.close(); err != nil {
					t.Fatalf("close: %v", err)
				}
				workers[i] = nil
				switch rapid.IntRange(0, 3).Draw(t, "the state is") {
				case 0: // lost
					dirs[i], older[i] = vfs.NewMem(), nil
				case 1: // as it was at some time, as another process has it
					if older[i] == nil {
						older[i] = vfs.NewMem()
					}
					dirs[i], older[i] = older[i], dirs[i]
				}
				open(i)
			}
		}
		times := recordedTimes(t, order)
		for len(order) > 0 {
			k := rapid.IntRange(1, len(order)).Draw(t, "messages")
			appendAll(t, log, &c, order[:k], times[:k])
			order, times = order[k:], times[k:]
			for i := range workers {
				if rapid.Bool().Draw(t, "goes on") {
					step(i)
				}
			}
		}
		end := domain.MillisOf(c.now()) + domain.Millis(rapid.SampledFrom([]int{0, 60, 200}).Draw(t, "days after"))*domain.Day
		c.set(end)
		for range 2 {
			for _, g := range workers {
				err := g.runToEnd(t.Context(), nil)
				if err == nil && g.fold.silent {
					err = g.reconcile(t.Context())
				}
				if err = errors.Join(err, g.settle()); err != nil {
					t.Fatalf("run: %v", err)
				}
			}
		}
		one := newMemory()
		g := newGeneration(t, vfs.NewMem(), log, one, rules, &c)
		defer func() { _ = g.state.close() }()
		if err := errors.Join(g.runTo(t.Context(), workers[0].fold.position, end, nil), g.settle()); err != nil {
			t.Fatalf("one worker: %v", err)
		}
		sink.picture(t).compare(t, one.picture(t), "the views of several workers are not those of one")
		if got, want := sink.contested(), one.contested(); !slices.Equal(got, want) {
			t.Fatalf("conflicts\ngot  %q\nwant %q", got, want)
		}
		if got, want := keys(allStanding(t, log)), keys(one.statements()); !slices.Equal(got, want) {
			t.Fatalf("what was said is not what stands:\nsaid  %q\nviews %q", got, want)
		}
	})
}
