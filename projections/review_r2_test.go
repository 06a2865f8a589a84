package projections

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"

	"sojourn/domain"
	"sojourn/eventstore"
	"sojourn/eventstore/pebblestore"
)

// A decision that is not written yet must survive an eviction: the flush that is
// to write it begins with one, and the next batch is folded while it is written.
func TestReviewDecisionSurvivesEviction(t *testing.T) {
	var c clock
	c.set(day0)
	log := openStore(t, &c)
	defer func() { _ = log.Close() }()
	sink := newMemory()
	g := live(t, sink, log, &c)
	step := func() {
		t.Helper()
		head, err := log.Head(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := g.read(t.Context(), head, 0); err != nil {
			t.Fatal(err)
		}
	}
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
	go_ := make(chan struct{})
	sink.fault = func(stage int) error {
		if stage == 0 {
			<-go_
		}
		return nil
	}
	if err := g.flush(t.Context(), day0, true); err != nil {
		t.Fatal(err)
	}
	login("m4", "u1", "phone", day0-2*domain.Day).appendTo(t, log)
	head, _ := log.Head(t.Context())
	err := g.read(t.Context(), head, 0)
	close(go_)
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
func TestReviewIdentityIsOfOneCheckpoint(t *testing.T) {
	var c clock
	c.set(day0)
	log := openStore(t, &c)
	defer func() { _ = log.Close() }()
	sink := newMemory()
	g := live(t, sink, log, &c)
	step := func() {
		head, err := log.Head(t.Context())
		if err == nil {
			err = g.read(t.Context(), head, 0)
		}
		if err == nil {
			err = g.flush(t.Context(), day0, true)
		}
		if err == nil {
			err = g.settle()
		}
		if err != nil {
			t.Error(err)
		}
	}
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
func TestReviewSubjectsAsKnown(t *testing.T) {
	var c clock
	c.set(day0)
	log := openStore(t, &c)
	defer func() { _ = log.Close() }()
	g := live(t, newMemory(), log, &c)
	v := &Views{cfg: Config{Store: log, Keyer: testKeyer, Now: c.now}, logger: discard, active: g, heavy: heavyCustomer}
	step := func() {
		t.Helper()
		head, err := log.Head(t.Context())
		if err == nil {
			err = g.read(t.Context(), head, 0)
		}
		if err == nil {
			err = g.flush(t.Context(), domain.MillisOf(c.now()), true)
		}
		if err == nil {
			err = g.settle()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
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

// replayTime is how long it takes to fold messages.
func replayTime(t *testing.T, n int, message func(i int) sent) time.Duration {
	t.Helper()
	var c clock
	c.set(day0)
	store, err := pebblestore.Open("log", pebblestore.Options{FS: vfs.NewMem(), Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	parts := make([]eventstore.Append, n)
	for i := range n {
		stream, e := message(i).event()
		parts[i] = eventstore.Append{Stream: stream, Events: []eventstore.NewEvent{e}}
	}
	if _, err := store.AppendMany(t.Context(), parts); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if _, err := Replay(t.Context(), store, testKeyer, testRules(), NullSink{}, t.TempDir()); err != nil {
		t.Fatal(err)
	}
	return time.Since(start)
}

// The cost of an event must not grow with how many subjects are connected.
func growth(t *testing.T, n int, message func(n int) func(i int) sent) {
	t.Helper()
	one, eight := replayTime(t, n, message(n)), replayTime(t, 8*n, message(8*n))
	t.Logf("%d events in %s, %d in %s", n, one, 8*n, eight)
	if eight > 24*one {
		t.Errorf("eight times the events take %.0f times as long", float64(eight)/float64(one))
	}
}

// A server that sends a new anonymousId with each call of one user.
func TestReviewUserWithManyVisitors(t *testing.T) {
	growth(t, 1000, func(n int) func(i int) sent {
		return func(i int) sent {
			return login(fmt.Sprint("m", i), "guest", fmt.Sprint("a", i), day0-domain.Millis(n-i)*1000)
		}
	})
}

// The same, with one page view each afterwards.
func TestReviewPagesOfManyVisitors(t *testing.T) {
	growth(t, 2000, func(n int) func(i int) sent {
		return func(i int) sent {
			if i < n/2 {
				return login(fmt.Sprint("m", i), "guest", fmt.Sprint("a", i), day0-domain.Millis(n-i)*1000)
			}
			return sent{id: fmt.Sprint("m", i), kind: domain.Page, anon: fmt.Sprint("a", i-n/2), at: day0 - domain.Millis(n-i)*1000}
		}
	})
}

// Many people with the same telephone number, a kind that joins nothing by default,
// come a little out of order: each is a customer of two subjects.
func TestReviewSharedPhoneOutOfOrder(t *testing.T) {
	growth(t, 1000, func(n int) func(i int) sent {
		return func(i int) sent {
			m := login(fmt.Sprint("m", i), fmt.Sprint("u", i), fmt.Sprint("a", i), day0-domain.Millis(n-i^1)*1000)
			m.traits = `{"phone":"+49 30 1234567"}` // a kind that joins nothing by default
			return m
		}
	})
}

// One account with many members, each of whom has bought.
func TestReviewAccountWithManyMembers(t *testing.T) {
	growth(t, 2000, func(n int) func(i int) sent {
		return func(i int) sent {
			who, at := fmt.Sprint("u", i/2), day0-domain.Millis(n-i)*1000
			if i%2 == 0 {
				return bought(fmt.Sprint("m", i), who, at, 10)
			}
			return sent{id: fmt.Sprint("m", i), kind: domain.Group, user: who, group: "acme", at: at}
		}
	})
}

// Views do not depend on what is dropped from memory before each flush.
func TestReviewEvictionChangesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rules := testRules()
		order := drawOrder(t, drawMessages(t))
		var c clock
		log := openStore(t, &c)
		defer func() { _ = log.Close() }()
		appendAll(t, log, &c, order, recordedTimes(t, order))
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
			for _, d := range g.fold.newDecisions { // or TestReviewDecisionSurvivesEviction
				g.fold.decisions[d.position] = d
			}
			if err := g.flush(t.Context(), g.fold.step, true); err != nil {
				t.Fatalf("flush: %v", err)
			}
		}
		if err := g.flush(t.Context(), end, true); err != nil {
			t.Fatalf("flush: %v", err)
		}
		if err := g.settle(); err != nil {
			t.Fatal(err)
		}
		sink.picture(t).compare(t, oracle(order, rules, end), "the views are not what the messages say")
		if got, want := sink.contested(), keys(whoIsWho(order, rules).conflicts); !slices.Equal(got, want) {
			t.Fatalf("conflicts\ngot  %q\nwant %q", got, want)
		}
		if got, want := keys(standing(t, log)), keys(sink.statements()); !slices.Equal(got, want) {
			t.Fatalf("statements\ngot  %q\nwant %q", got, want)
		}
	})
}

// folded is a generation that has read n messages, and views that ask it.
func folded(t *testing.T, n int, message func(i int) sent) (*generation, *Views, *clock) {
	t.Helper()
	c := &clock{}
	c.set(day0)
	log := openStore(t, c)
	t.Cleanup(func() { _ = log.Close() })
	g := live(t, newMemory(), log, c)
	parts := make([]eventstore.Append, n)
	for i := range n {
		stream, e := message(i).event()
		parts[i] = eventstore.Append{Stream: stream, Events: []eventstore.NewEvent{e}}
	}
	if _, err := log.AppendMany(t.Context(), parts); err != nil {
		t.Fatal(err)
	}
	if err := g.runToEnd(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	return g, &Views{cfg: Config{Store: log, Keyer: testKeyer, Now: c.now}, logger: discard, active: g, heavy: heavyCustomer}, c
}

func employee(n int) func(i int) sent {
	return func(i int) sent {
		who, at := fmt.Sprint("u", i/2), day0-domain.Millis(n-i)*1000
		if i%2 == 0 {
			m := login(fmt.Sprint("m", i), who, "", at)
			m.traits = `{"phone":"+49 30 1234567"}`
			return m
		}
		return sent{id: fmt.Sprint("m", i), kind: domain.Group, user: who, group: "acme", at: at}
	}
}

// A question about an account reads each cluster of its members once; it holds the
// lock that a flush waits for.
func TestReviewAccountOfOneCluster(t *testing.T) {
	ask := func(n int) time.Duration {
		_, v, c := folded(t, n, employee(n))
		start := time.Now()
		if _, err := v.Account(t.Context(), "account:acme", At{KnownAt: c.now()}); err != nil {
			t.Fatal(err)
		}
		return time.Since(start)
	}
	one, eight := ask(400), ask(3200)
	t.Logf("200 members in %s, 1600 in %s", one, eight)
	if eight > 24*one {
		t.Errorf("eight times the members take %.0f times as long", float64(eight)/float64(one))
	}
}

// What one touchpoint of a member costs does not grow with the other members.
func TestReviewTouchpointOfALargeAccount(t *testing.T) {
	one := func(n int) time.Duration {
		g, v, _ := folded(t, n, employee(n))
		start := time.Now()
		for i := range 20 {
			sent{id: fmt.Sprint("p", i), kind: domain.Page, user: "u7", at: day0 - domain.Millis(i)}.appendTo(t, v.cfg.Store)
			if err := g.runToEnd(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
		}
		return time.Since(start) / 20
	}
	few, many := one(1000), one(16000)
	t.Logf("a flush with 500 members %s, with 8000 %s", few, many)
	if many > 4*few {
		t.Errorf("sixteen times the members make a flush %.0f times as long", float64(many)/float64(few))
	}
}

// A decision about two people of a shared tablet does not make the logins of all
// others dear.
func TestReviewDecisionOnASharedTablet(t *testing.T) {
	growth(t, 500, func(n int) func(i int) sent {
		return func(i int) sent {
			if i == 10 {
				two := []domain.Subject{{Kind: domain.User, Value: "u0"}, {Kind: domain.User, Value: "u1"}}
				return sent{id: "d", decision: "merge", these: two, andThem: two}
			}
			return login(fmt.Sprint("m", i), fmt.Sprint("u", i), "tablet", day0-domain.Millis(n-i)*1000)
		}
	})
}
