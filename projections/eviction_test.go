package projections

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"

	"sojourn/domain"
	"sojourn/eventstore"
)

// readAll lets a generation read what the log holds, as one batch.
func readAll(t *testing.T, g *generation) {
	t.Helper()
	head, err := g.store.Head(t.Context())
	if err == nil {
		err = g.read(t.Context(), head, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// flushAll reads, flushes as of a clock, and waits until that is durable.
func flushAll(t *testing.T, g *generation, clock domain.Millis) {
	t.Helper()
	readAll(t, g)
	if err := errors.Join(g.flush(t.Context(), clock, true), g.settle()); err != nil {
		t.Fatal(err)
	}
}

// A decision that is not written yet must survive an eviction: the flush that is
// to write it begins with one, and the next batch is folded while it is written.
func TestDecisionSurvivesEviction(t *testing.T) {
	var c clock
	c.set(day0)
	log := openStore(t, &c)
	defer func() { _ = log.Close() }()
	sink := newMemory()
	g := live(t, sink, log, &c)
	step := func() { readAll(t, g) }
	login("m1", "u1", "tablet", day0-5*domain.Day).appendTo(t, log)
	login("m2", "u2", "tablet", day0-4*domain.Day).appendTo(t, log)
	login("m3", "u3", "tablet", day0-3*domain.Day).appendTo(t, log)
	step()
	if err := g.flush(t.Context(), day0, true); err != nil {
		t.Fatal(err)
	}
	user := func(v string) domain.Subject { return domain.Subject{Kind: domain.User, Value: v} }
	sent{
		id: "d1", decision: "merge", these: []domain.Subject{user("u1"), user("u2")},
		andThem: []domain.Subject{user("u1"), {Kind: domain.Anon, Value: "tablet"}, user("u2")},
	}.appendTo(t, log)
	step()
	// What flush does first where more than maxCached subjects are in memory.
	if err := g.settle(); err != nil {
		t.Fatal(err)
	}
	g.fold.evict(0)
	// The write takes a while.
	write := make(chan struct{})
	sink.fault = func(stage int) error {
		if stage == 0 {
			<-write
		}
		return nil
	}
	if err := g.flush(t.Context(), day0, true); err != nil {
		t.Fatal(err)
	}
	login("m4", "u1", "phone", day0-2*domain.Day).appendTo(t, log)
	head, _ := log.Head(t.Context())
	err := g.read(t.Context(), head, 0)
	close(write)
	if err != nil {
		t.Errorf("the batch behind a decision cannot be folded: %v", err)
	}
	_ = g.settle()
}

// slowReads does something while a stream is being read.
type slowReads struct {
	eventstore.Store
	meanwhile func()
}

func (s *slowReads) ReadStream(ctx context.Context, stream string, from uint64, d eventstore.Direction) iter.Seq2[eventstore.Recorded, error] {
	if f := s.meanwhile; f != nil {
		s.meanwhile = nil
		f()
	}
	return s.Store.ReadStream(ctx, stream, from, d)
}

// An answer about identity is of one checkpoint.
func TestIdentityIsOfOneCheckpoint(t *testing.T) {
	var c clock
	c.set(day0)
	log := openStore(t, &c)
	defer func() { _ = log.Close() }()
	sink := newMemory()
	g := live(t, sink, log, &c)
	step := func() { flushAll(t, g, day0) }
	sent{id: "m1", kind: domain.Page, anon: "a1", at: day0 - 5*domain.Day}.appendTo(t, log)
	sent{id: "m2", kind: domain.Page, user: "u1", at: day0 - 4*domain.Day}.appendTo(t, log)
	sent{id: "m3", kind: domain.Page, user: "u1", at: day0 - 2*domain.Day}.appendTo(t, log)
	step()
	store := &slowReads{Store: log}
	v := &Views{cfg: Config{Store: store, Keyer: testKeyer, Now: c.now}, logger: discard, active: g, heavy: heavyCustomer}
	store.meanwhile = func() {
		login("m4", "u1", "a1", day0-domain.Day).appendTo(t, log)
		step()
	}
	got, err := v.Identity(t.Context(), "user:u1", At{AsOf: (day0 - 3*domain.Day).Time()})
	if err != nil {
		t.Fatal(err)
	}
	if got.Customer != got.Subjects[0].ID {
		t.Errorf("the customer is %s, and the subject that gives it its id is %+v", got.Customer, got.Subjects[0])
	}
}

// What is answered with known_at is what was answered then, the order of the
// subjects included.
func TestSubjectsAsKnown(t *testing.T) {
	var c clock
	c.set(day0)
	log := openStore(t, &c)
	defer func() { _ = log.Close() }()
	g := live(t, newMemory(), log, &c)
	v := &Views{cfg: Config{Store: log, Keyer: testKeyer, Now: c.now}, logger: discard, active: g, heavy: heavyCustomer}
	step := func() { flushAll(t, g, domain.MillisOf(c.now())) }
	anons := []string{"a1", "a2", "a3", "a4"}
	for i, a := range anons {
		login(fmt.Sprint("m", i), "u1", a, day0-domain.Day+domain.Millis(i)).appendTo(t, log)
	}
	step()
	then := c.now()
	before, err := v.Customer(t.Context(), "user:u1", At{})
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range slices.Backward(before.Subjects[1:]) {
		c.set(day0 + domain.Day + domain.Millis(10-i))
		sent{id: fmt.Sprint("p", i), kind: domain.Page, anon: s[len("anon:"):], at: day0 + domain.Day}.appendTo(t, log)
		step()
	}
	after, err := v.Customer(t.Context(), "user:u1", At{KnownAt: then})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(before.Subjects, after.Subjects) {
		t.Errorf("then   %v\nknown_at %v", before.Subjects, after.Subjects)
	}
}

// Views do not depend on what is dropped from memory before each flush.
func TestEvictionChangesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rules := segmentRules()
		order := drawOrder(t, drawMessages(t))
		var c clock
		log := openStore(t, &c)
		defer func() { _ = log.Close() }()
		times := recordedTimes(t, order)
		appendAll(t, log, &c, order, times)
		end := max(domain.MillisOf(c.now()), day0) + domain.Millis(rapid.SampledFrom([]int{0, 60, 200}).Draw(t, "days after"))*domain.Day
		sink := newMemory()
		g := newGeneration(t, vfs.NewMem(), log, sink, rules, &c)
		defer func() { _ = g.settle(); _ = g.state.close() }()
		if err := g.reconcile(t.Context()); err != nil {
			t.Fatal(err)
		}
		batch, limit := rapid.IntRange(1, 6).Draw(t, "batch"), rapid.IntRange(0, 12).Draw(t, "limit")
		c.set(end)
		for {
			head, err := log.Head(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if g.fold.position >= head {
				break
			}
			if err := g.read(t.Context(), head, batch); err != nil {
				t.Fatalf("read: %v", err)
			}
			if err := g.settle(); err != nil {
				t.Fatal(err)
			}
			g.fold.evict(limit)
			if err := g.flush(t.Context(), g.fold.step, true); err != nil {
				t.Fatalf("flush: %v", err)
			}
		}
		g.room = rapid.IntRange(0, 4).Draw(t, "room")
		if err := g.flushUntil(t.Context(), end, true); err != nil {
			t.Fatalf("flush: %v", err)
		}
		if err := g.settle(); err != nil {
			t.Fatal(err)
		}
		sink.picture(t).compare(t, oracle(order, rules, end), "the views at "+end.String()+" are not what the messages say\n"+toldOf(order, times))
		if got, want := sink.contested(), keys(whoIsWho(order, rules).conflicts); !slices.Equal(got, want) {
			t.Fatalf("conflicts\ngot  %q\nwant %q", got, want)
		}
		if got, want := keys(allStanding(t, log)), keys(sink.statements()); !slices.Equal(got, want) {
			t.Fatalf("statements\ngot  %q\nwant %q", got, want)
		}
	})
}

// However many customers come due while nobody looks, a flush takes no more of them
// than a batch may touch, but for those of one instant.
func TestManyDueAtOnce(t *testing.T) {
	var c clock
	c.set(day0)
	log := openStore(t, &c)
	defer func() { _ = log.Close() }()
	sink := newMemory()
	g := live(t, sink, log, &c)
	for i := range 40 {
		at := day0 - domain.Millis(i/2+1)*(domain.Day+3_600_000) // by twos
		if i >= 30 {
			at = day0 - 30*domain.Day
		}
		bought(fmt.Sprint("o", i), fmt.Sprint("u", i), at, 30).appendTo(t, log)
	}
	flushAll(t, g, day0)
	g.room = 4
	end := day0 + 400*domain.Day
	most := 0
	sink.fault = func(stage int) error {
		if stage == 0 {
			n := 0
			for _, t := range g.fold.spare.tables {
				n += len(t.Customers)
			}
			most = max(most, n)
		}
		return nil
	}
	if err := errors.Join(g.flushUntil(t.Context(), end, true), g.settle()); err != nil {
		t.Fatal(err)
	}
	if most != 10 { // those of one instant
		t.Errorf("a flush wrote %d customers", most)
	}
	fresh := newMemory()
	again := newGeneration(t, vfs.NewMem(), log, fresh, testRules(), &c)
	defer func() { _ = again.state.close() }()
	if err := again.runTo(t.Context(), g.state.checkpoint().Position, end, nil); err != nil {
		t.Fatal(err)
	}
	sink.picture(t).compare(t, fresh.picture(t), "the time taken in steps")
}
