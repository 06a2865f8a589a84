package projections

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"

	"sojourn/domain"
	"sojourn/eventstore"
	"sojourn/warehouse"
)

// live is a generation that makes statements from the first event on.
func live(t *testing.T, sink Sink, store eventstore.Store, c *clock) *generation {
	g := newGeneration(t, vfs.NewMem(), store, sink, testRules(), c)
	t.Cleanup(func() { _ = g.settle(); _ = g.state.close() })
	if err := g.reconcile(t.Context()); err != nil {
		t.Fatal(err)
	}
	return g
}

// appendTo appends a message and returns its position.
func (m sent) appendTo(t *testing.T, log eventstore.Store) eventstore.Position {
	t.Helper()
	stream, e := m.event()
	r, err := log.Append(t.Context(), stream, eventstore.Any{}, e)
	if err != nil {
		t.Fatal(err)
	}
	return r.Position
}

// A flush that fails while the loop is being stopped is done again after it.
func TestFailedFlushThenStopAndStart(t *testing.T) {
	var c clock
	c.set(day0)
	log := openStore(t, &c)
	defer func() { _ = log.Close() }()
	sink := newMemory()
	g := live(t, sink, log, &c)
	v := &Views{cfg: Config{Store: log, FlushInterval: time.Millisecond, Now: c.now}, logger: discard, active: g}
	v.ctx, v.cancel = context.WithCancel(context.Background())
	g.changed = v.moved.send
	broken := make(chan struct{}, 100)
	var mu sync.Mutex
	fails := true
	sink.fault = func(stage int) error {
		mu.Lock()
		defer mu.Unlock()
		if stage == 0 && fails {
			broken <- struct{}{}
			return errors.New("the engine was killed")
		}
		return nil
	}
	v.startLoop()
	bought("o1", "42", day0-domain.Day, 30).appendTo(t, log)
	<-broken
	v.stopLoop() // verify, or a rebuild that fails as well
	mu.Lock()
	fails = false
	mu.Unlock()
	v.startLoop()
	position := bought("o2", "43", day0-domain.Day, 30).appendTo(t, log)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := v.WaitFor(ctx, position); err != nil {
		t.Fatal(err)
	}
	v.stopLoop()
	if len(sink.touchpoints) != 2 {
		t.Errorf("the views hold position %d, and %d touchpoints of 2", g.state.checkpoint().Position, len(sink.touchpoints))
	}
	if len(sink.customers) != 2 {
		t.Errorf("%d customers of 2", len(sink.customers))
	}
}

// What is put right about a customer that is not in memory leaves it whole.
func TestCorrectionAfterEviction(t *testing.T) {
	var c clock
	c.set(day0)
	log := openStore(t, &c)
	defer func() { _ = log.Close() }()
	sink := newMemory()
	g := live(t, sink, log, &c)
	bought("o1", "42", day0-domain.Day, 30).appendTo(t, log)
	if err := g.runToEnd(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	// Somebody else has said something in the customer's stream.
	id := domain.SubjectID(testKeyer.Stream(domain.Subject{Kind: domain.User, Value: "42"}))
	s, err := readSaid(t.Context(), log, id)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := log.Append(t.Context(), domain.StatementStream(id), s.expected(), eventstore.NewEvent{
		ID: uuid.New(), Type: domain.TypeStageWithdrawn, Metadata: []byte{statementVersion, 1, 0}, Data: []byte(`{"revisions":[0]}`),
	}); err != nil {
		t.Fatal(err)
	}
	head := bought("o2", "42", day0-1, 30).appendTo(t, log)
	// run: read, flush; and the next flush, which settles the first and evicts.
	if err := g.read(t.Context(), head, 0); err != nil {
		t.Fatal(err)
	}
	if err := g.flush(t.Context(), g.fold.step, true); err != nil {
		t.Fatal(err)
	}
	if err := g.settle(); err != nil {
		t.Fatal(err)
	}
	if len(g.corrections) != 1 {
		t.Fatalf("%d corrections", len(g.corrections))
	}
	g.fold.evict(0) // flush does so with maxCached, run with 0 after a quiet while
	if err := g.flush(t.Context(), g.fold.step, true); err != nil {
		t.Fatal(err)
	}
	if err := g.settle(); err != nil {
		t.Fatal(err)
	}
	rows := 0
	for _, r := range sink.customers {
		if !r.Removed {
			rows++
		}
	}
	if rows != 1 {
		t.Errorf("customers has %d rows, want 1", rows)
	}
	if got := len(standing(t, log)); got != 2 {
		t.Errorf("%d statements stand, want 2: %v", got, standing(t, log))
	}
	if _, err := g.fold.whole(id); err != nil {
		t.Error(err)
	}
}

// What arrives during a switch is news.
func TestNewsDuringASwitch(t *testing.T) {
	var c clock
	c.set(day0)
	log := openStore(t, &c)
	defer func() { _ = log.Close() }()
	old := live(t, newMemory(), log, &c)
	bought("o1", "42", day0-2, 30).appendTo(t, log)
	if err := old.runToEnd(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	at := old.state.checkpoint()
	g := newGeneration(t, vfs.NewMem(), log, newMemory(), testRules(), &c)
	defer func() { _ = g.settle(); _ = g.state.close() }()
	if err := g.runTo(t.Context(), at.Position, at.Clock, nil); err != nil {
		t.Fatal(err)
	}
	g.built = true
	position := bought("o2", "42", day0-1, 30).appendTo(t, log)
	v := &Views{cfg: Config{Store: log, FlushInterval: time.Millisecond, Now: c.now}, logger: discard, active: g}
	v.ctx, v.cancel = context.WithCancel(context.Background())
	g.changed = v.moved.send
	v.startLoop()
	if err := v.WaitFor(t.Context(), position); err != nil {
		t.Fatal(err)
	}
	v.stopLoop()
	said := standing(t, log)
	if len(said) != 2 {
		t.Errorf("statements: %v", said)
	}
	for key, news := range said {
		if !news {
			t.Errorf("found because a touchpoint came, and marked restated: %s", key)
		}
	}
}

// speechless is a store to which the first statements cannot be appended.
type speechless struct {
	eventstore.Store
	left int
}

func (s *speechless) AppendMany(ctx context.Context, parts []eventstore.Append) ([]eventstore.Result, error) {
	for _, p := range parts {
		if _, ok := domain.StatementCustomer(p.Stream); ok {
			if s.left--; s.left >= 0 {
				return nil, errors.New("the power is gone")
			}
		}
	}
	return s.Store.AppendMany(ctx, parts)
}

// A worker goes on where the slowest of those before it was, up to where the fastest
// was, and what comes to be known there is news, said once: also where it is cut off
// before it has said it, or before its rows are written.
func TestNewsWhileGoingOn(t *testing.T) {
	for speech := range 3 {
		for rows := range 3 {
			var c clock
			c.set(day0)
			log := openStore(t, &c)
			bought("o1", "42", day0-2, 30).appendTo(t, log)
			before := live(t, newMemory(), log, &c)
			if err := before.runToEnd(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			at := before.state.checkpoint()
			quiet, sink, left := &speechless{Store: log, left: speech}, newMemory(), rows
			sink.fault = func(stage int) error {
				if left--; left >= 0 {
					return errors.New("the engine was killed")
				}
				return nil
			}
			left = 0
			g := newGeneration(t, vfs.NewMem(), quiet, sink, testRules(), &c)
			if err := g.runTo(t.Context(), at.Position, at.Clock, nil); err != nil {
				t.Fatal(err)
			}
			left = rows
			bought("o2", "42", day0-1, 30).appendTo(t, log)
			to := bought("o3", "43", day0-1, 30).appendTo(t, log)
			failed := 0
			for {
				err := g.goOn(t.Context(), to)
				for err != nil {
					if failed++; failed > 10 {
						t.Fatal(err)
					}
					err = g.recover(t.Context())
					if err == nil && !g.fold.silent {
						t.Fatal("it has not said what it holds, and is not silent")
					}
				}
				if g.fold.position >= to {
					break
				}
			}
			if failed != speech+rows {
				t.Fatalf("%d cuts of %d and %d", failed, speech, rows)
			}
			if err := errors.Join(g.goOn(t.Context(), to), g.reconcile(t.Context()), g.settle()); err != nil {
				t.Fatal(err)
			}
			said := standing(t, log)
			if len(said) != 3 {
				t.Errorf("statements: %v", said)
			}
			for key, news := range said {
				if !news {
					t.Errorf("cut off %d times before it said it and %d before it wrote it: restated %s", speech, rows, key)
				}
			}
			if err := errors.Join(g.state.close(), log.Close()); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// A reconciliation can be stopped.
func TestReconcileStops(t *testing.T) {
	var c clock
	c.set(day0)
	log := openStore(t, &c)
	defer func() { _ = log.Close() }()
	first := live(t, newMemory(), log, &c)
	for i := range 300 {
		bought(fmt.Sprint("m", i), fmt.Sprint("u", i), day0-domain.Millis(i), 1).appendTo(t, log)
	}
	if err := first.runToEnd(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	sink := newMemory()
	g := newGeneration(t, vfs.NewMem(), log, sink, testRules(), &c)
	defer func() { _ = g.state.close() }()
	if err := g.runToEnd(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	g.fold.evict(0)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := g.reconcile(ctx)
	if !errors.Is(err, context.Canceled) || g.clean() {
		t.Errorf("reconcile: %v, clean %v", err, g.clean())
	}
}

// A touchpoint that is later than the clock (the machine's was set back between
// receipt and append) counts when the clock has come to it.
func TestTouchpointAfterTheClock(t *testing.T) {
	var c clock
	c.set(day0)
	log := openStore(t, &c)
	defer func() { _ = log.Close() }()
	sink := newMemory()
	g := live(t, sink, log, &c)
	bought("o1", "42", day0-2, 30).appendTo(t, log)
	sent{
		id: "r1", kind: domain.Track, name: "Order Refunded", user: "42", at: day0 + 5000,
		properties: `{"order_id":"o1","total":10,"currency":"EUR"}`,
	}.appendTo(t, log)
	if err := g.runToEnd(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	c.set(day0 + domain.Day)
	if err := g.runToEnd(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	at := g.state.checkpoint()
	fresh := newMemory()
	again := newGeneration(t, vfs.NewMem(), log, fresh, testRules(), &c)
	defer func() { _ = again.state.close() }()
	if err := again.runTo(t.Context(), at.Position, at.Clock, nil); err != nil {
		t.Fatal(err)
	}
	sink.picture(t).compare(t, fresh.picture(t), "verify at the same checkpoint")
}

// A read that is cut off while the decoder is ahead leaves no row twice.
func TestReadCutOff(t *testing.T) {
	var c clock
	c.set(day0)
	log := openStore(t, &c)
	defer func() { _ = log.Close() }()
	sink := newMemory()
	g := live(t, sink, log, &c)
	const n = 8 * chunkEvents
	bought("m0", "u0", day0, 1).appendTo(t, log)
	flushAll(t, g, day0)
	g.fold.evict(0) // or else it knows that nothing stands in the state alone
	for i := 1; i < n; i++ {
		bought(fmt.Sprint("m", i), fmt.Sprint("u", i%100), day0-domain.Millis(i), 1).appendTo(t, log)
	}
	ctx, cancel := context.WithCancel(t.Context())
	g.fold.state = &cancelling{g.fold.state, cancel}
	if err := g.run(ctx, time.Millisecond); !errors.Is(err, context.Canceled) {
		t.Fatalf("run: %v", err)
	}
	at := g.state.checkpoint()
	if slices.ContainsFunc(sink.touchpoints, func(r warehouse.Touchpoint) bool { return r.Position > uint64(at.Position) }) {
		t.Errorf("there are touchpoints beyond the checkpoint %d", at.Position)
	}
	if !g.clean() {
		if err := g.recover(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.runToEnd(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if len(sink.touchpoints) != n {
		t.Errorf("%d rows of touchpoints, %d were sent", len(sink.touchpoints), n)
	}
}

// cancelling ends a context at the first look into the state.
type cancelling struct {
	loader
	cancel func()
}

func (l *cancelling) load(key []byte) ([]byte, error) {
	l.cancel()
	return l.loader.load(key)
}

// A visitor who is only named in joins stays its user's when another user names
// it in vain, also where that user's customer is not in memory.
func TestNamedVisitorStaysWithItsUser(t *testing.T) {
	var c clock
	c.set(day0)
	log := openStore(t, &c)
	defer func() { _ = log.Close() }()
	sink := newMemory()
	g := live(t, sink, log, &c)
	for i, user := range []string{"u1", "u2"} {
		sent{id: user, kind: domain.Identify, user: user, anon: "v1", at: day0 + domain.Millis(i) - 10}.appendTo(t, log)
		if err := g.runToEnd(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		g.fold.evict(0)
	}
	visitor := domain.SubjectID(testKeyer.Stream(domain.Subject{Kind: domain.Anon, Value: "v1"}))
	user := domain.SubjectID(testKeyer.Stream(domain.Subject{Kind: domain.User, Value: "u1"}))
	if got := sink.subjects[visitor].CustomerID; got != user {
		t.Errorf("the visitor is %s, want the first user's customer %s", got, user)
	}
}

// The state of an earlier release whose last batch was cut short does not keep the
// views from starting.
func TestStartOnTheStateOfAnEarlierRelease(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.send(buy("o", "ann", day0-9*domain.Day, "300"))
	s.settled()
	dir := s.views.active.state.dir
	s.stop()
	st, err := openState(vfs.Default, dir, 1<<20, discard)
	if err != nil {
		t.Fatal(err)
	}
	stream, e := buy("p", "ann", day0-8*domain.Day, "200").event()
	r, err := s.store.Append(t.Context(), stream, nil, e)
	if err != nil {
		t.Fatal(err)
	}
	var b records
	if err := st.scan([]byte{'s'}, []byte{'t'}, func(k, v []byte) error {
		v = append([]byte{}, v...)
		v[0] = 2
		b.set(k, v)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	at := st.checkpoint()
	at.Fold = 3
	if err := st.commit([]*records{&b}, at); err != nil {
		t.Fatal(err)
	}
	if err := st.begin(intent{To: r.Position, Clock: at.Clock + 1}); err != nil {
		t.Fatal(err)
	}
	if err := st.close(); err != nil {
		t.Fatal(err)
	}
	s.start()
	s.until("the views", func() bool { return s.views.Status().Ready })
}
