package projections

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"sojourn/domain"
	"sojourn/domain/loyalty"
	"sojourn/warehouse"
	"sojourn/warehouse/chdb/chdbtest"
)

// another is a second server on the same log, with views of its own.
func (s *site) another() *site {
	s.t.Helper()
	o := &site{t: s.t, dir: filepath.Join(s.t.TempDir(), "other"), store: s.store}
	o.clock.set(domain.MillisOf(s.clock.now()))
	engine := chdbtest.Start(s.t)
	db, err := warehouse.Open(s.t.Context(), warehouse.Config{Socket: engine.Socket(), Hold: engine.Hold})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = db.Close() })
	if err := db.Migrate(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	o.db = db
	o.start()
	s.t.Cleanup(func() { o.stop() })
	o.until("the other views", func() bool { return o.views.Status().Ready })
	return o
}

func buy(id, user string, at domain.Millis, total string) sent {
	return sent{
		id: id, kind: domain.Track, name: "Order Completed", user: user, at: at,
		properties: `{"order_id":"` + id + `","total":` + total + `,"currency":"USD"}`,
	}
}

func (s *site) do(r CommandRequest) (CommandResult, error) { return s.views.Command(s.t.Context(), r) }

func (s *site) must(r CommandRequest) CommandResult {
	s.t.Helper()
	c, err := s.do(r)
	if err != nil {
		s.t.Fatalf("%+v: %v", r, err)
	}
	return c
}

func redeem(who string, points int64, key string) CommandRequest {
	return CommandRequest{Command: "redeem", Customer: who, Points: points, Key: key}
}

// Two servers, two subjects, a join between, each key twice: no point is spent twice.
func TestNoPointIsSpentTwice(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.send(
		sent{id: "v", kind: domain.Page, anon: "a", at: day0 - 3*domain.Day},
		sent{id: "j", kind: domain.Identify, user: "42", anon: "a", at: day0 - 2*domain.Day},
		sent{id: "w", kind: domain.Page, anon: "b", at: day0 - domain.Day},
		buy("o", "42", day0-domain.Day, "5000"),
	)
	servers := []*site{s, s.another()}
	const n = 1000
	var done, short atomic.Int64
	var wait sync.WaitGroup
	for i := range n {
		wait.Go(func() {
			who := [...]string{"user:42", "anon:a"}[i/2%2]
			r := redeem(who, 10, fmt.Sprint("k", i))
			var first CommandResult
			for turn := range 2 {
				c, err := servers[(i+turn)%2].do(r)
				var lack *ShortError
				switch {
				case errors.As(err, &lack):
					if turn == 1 && first.Event != uuid.Nil {
						t.Errorf("%s: done, then short", r.Key)
					} else if turn == 1 {
						short.Add(1)
					}
					if lack.Balance.Available >= 10 {
						t.Errorf("short with %+v", lack.Balance)
					}
				case err != nil:
					t.Errorf("%s: %v", r.Key, err)
				case turn == 0:
					first = c
					done.Add(1)
				case first.Event == uuid.Nil:
					t.Errorf("%s: short, then done with nothing given back", r.Key)
				case !c.Repeated || c.Balance != first.Balance || c.Event != first.Event || c.Position != first.Position:
					t.Errorf("%s: %+v, then %+v", r.Key, first, c)
				}
			}
		})
		if i == n/3 {
			stream, e := sent{id: "k", kind: domain.Identify, user: "42", anon: "b", at: day0}.event()
			if _, err := s.store.Append(t.Context(), stream, nil, e); err != nil {
				t.Fatal(err)
			}
		}
	}
	wait.Wait()
	if done.Load() != n/2 || short.Load() != n/2 {
		t.Errorf("%d done, %d short", done.Load(), short.Load())
	}
	if _, err := s.do(redeem("anon:b", 1, "last")); !errors.As(err, new(*ShortError)) {
		t.Errorf("one more: %v", err)
	}
	for _, server := range servers {
		server.settled()
		if got := server.rows("SELECT (available, redeemed, debt) AS x FROM loyalty_status"); len(got) != 1 || got[0] != "(0,5000,0)" {
			t.Errorf("balance %v", got)
		}
	}
	if v := s.verify(); !v.Equal() {
		t.Errorf("verify: %+v", v)
	}
}

func TestCommands(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.send(buy("o", "ann", day0-9*domain.Day, "300"), buy("p", "ben", day0-8*domain.Day, "100"), sent{id: "v", kind: domain.Page, anon: "x", at: day0 - domain.Day})
	first := s.must(redeem("user:ann", 120, "1"))
	if first.Balance != (loyalty.Balance{Available: 180}) || first.Value != "1.2" || first.Currency != "USD" || first.Programme != "default" {
		t.Errorf("redeem: %+v", first)
	}
	again := s.must(redeem("user:ann", 120, "1"))
	again.Repeated = false
	if again != first {
		t.Errorf("the same key: %+v, want %+v", again, first)
	}
	for name, r := range map[string]CommandRequest{
		"another body":     redeem("user:ann", 121, "1"),
		"another command":  {Command: "adjust", Customer: "user:ann", Points: 120, Reason: "x", Key: "1"},
		"another customer": redeem("user:ben", 120, "1"),
		"nobody known":     redeem("user:zoe", 120, "1"),
		"no customer's id": redeem("00000000-0000-4000-8000-000000000001", 120, "1"),
	} {
		if _, err := s.do(r); !errors.As(err, new(*KeyError)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A refusal is not remembered.
	var short *ShortError
	if _, err := s.do(redeem("user:ann", 181, "2")); !errors.As(err, &short) || short.Balance.Available != 180 {
		t.Errorf("too many: %v", err)
	}
	s.must(redeem("user:ann", 80, "2"))
	if c := s.must(CommandRequest{Command: "cancel", Customer: "user:ann", Redemption: first.Event, Key: "3"}); c.Balance.Available != 220 {
		t.Errorf("cancel: %+v", c)
	}
	if _, err := s.do(CommandRequest{Command: "cancel", Customer: "user:ann", Redemption: first.Event, Key: "4"}); !errors.As(err, new(*CommandError)) {
		t.Errorf("cancel again: %v", err)
	}
	if c := s.must(CommandRequest{Command: "adjust", Customer: "user:ann", Points: -20, Reason: "a mistake", Key: "5"}); c.Balance.Available != 200 {
		t.Errorf("adjust: %+v", c)
	}
	if c := s.must(CommandRequest{Command: "transfer", Customer: "user:ann", To: "user:ben", Points: 50, Key: "6"}); c.Balance.Available != 150 {
		t.Errorf("transfer: %+v", c)
	}
	if c := s.must(redeem("user:ben", 150, "7")); c.Balance.Available != 0 {
		t.Errorf("what was transferred can be spent: %+v", c)
	}
	for name, r := range map[string]CommandRequest{
		"nobody":       redeem("user:zoe", 1, "8"),
		"no programme": {Command: "redeem", Customer: "user:ann", Points: 1, Programme: "vip", Key: "8"},
		"no key":       redeem("user:ann", 1, ""),
		"nothing":      redeem("user:ann", 0, "8"),
		"to oneself":   {Command: "transfer", Customer: "user:ann", To: "user:ann", Points: 1, Key: "8"},
	} {
		if _, err := s.do(r); err == nil {
			t.Errorf("%s: done", name)
		}
	}
	// A customer merged away answers under its old id, and its keys are known.
	old := s.customer("anon:x", At{}).ID
	s.send(sent{id: "j", kind: domain.Identify, user: "ann", anon: "x", at: day0})
	if c := s.must(redeem(old.String(), 10, "9")); c.Balance.Available != 140 {
		t.Errorf("by the old id: %+v", c)
	}
	if c := s.must(redeem(old.String(), 120, "1")); c.Event != first.Event {
		t.Errorf("the key under the old id: %+v", c)
	}
	s.settled()
	if got := s.rows("SELECT (available, earned, redeemed, adjusted_out, transferred_out) AS x FROM loyalty_status WHERE transferred_out > 0"); len(got) != 1 || got[0] != "(140,300,90,20,50)" {
		t.Errorf("status %v", got)
	}
	if v := s.verify(); !v.Equal() {
		t.Errorf("verify: %+v", v)
	}
	// After a restart the keys are still known.
	s.stop()
	s.start()
	if c := s.must(redeem("user:ann", 120, "1")); c.Event != first.Event {
		t.Errorf("the key after a restart: %+v", c)
	}
}

// A split takes the commands along with the subject they named.
func TestASplitTakesCommandsAlong(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.send(
		buy("o", "ann", day0-9*domain.Day, "300"),
		sent{id: "v", kind: domain.Page, anon: "x", at: day0 - 2*domain.Day},
		sent{id: "j", kind: domain.Identify, user: "ann", anon: "x", at: day0 - domain.Day},
	)
	s.must(redeem("user:ann", 100, "1"))
	s.must(CommandRequest{Command: "adjust", Customer: "anon:x", Points: 40, Reason: "hello", Key: "2"})
	if _, err := s.views.Split(t.Context(), SplitRequest{Subjects: []string{"anon:x"}, Reason: "another person", Author: "mia"}); err != nil {
		t.Fatal(err)
	}
	if c := s.must(redeem("anon:x", 10, "3")); c.Balance.Available != 30 {
		t.Errorf("who left: %+v", c)
	}
	if c := s.must(redeem("user:ann", 10, "4")); c.Balance.Available != 190 {
		t.Errorf("who stayed: %+v", c)
	}
	s.settled()
	if v := s.verify(); !v.Equal() {
		t.Errorf("verify: %+v", v)
	}
}

// What was decided before the views had it is decided on, whatever their lag.
func TestDecidedOnTheWholeLog(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.send(buy("o", "ann", day0-9*domain.Day, "300"))
	s.views.stopLoop()
	defer s.views.startLoop()
	stream, e := buy("p", "ann", day0-8*domain.Day, "200").event()
	if _, err := s.store.Append(t.Context(), stream, nil, e); err != nil {
		t.Fatal(err)
	}
	if c := s.must(redeem("user:ann", 500, "1")); c.Balance.Available != 0 {
		t.Errorf("%+v", c)
	}
	if _, err := s.do(redeem("user:ann", 1, "2")); !errors.As(err, new(*ShortError)) {
		t.Errorf("one more: %v", err)
	}
	stream, e = buy("q", "new", day0-8*domain.Day, "200").event()
	if _, err := s.store.Append(t.Context(), stream, nil, e); err != nil {
		t.Fatal(err)
	}
	if c := s.must(redeem(domain.SubjectID(stream).String(), 1, "3")); c.Balance.Available != 199 {
		t.Errorf("one that the views do not know: %+v", c)
	}
}

func TestOpeningBalances(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.send(buy("o", "ann", day0-9*domain.Day, "300"))
	b := OpeningBalance{Row: "r1", Subject: "user:ann", Parts: []OpeningPart{{Points: 700, Expires: (day0 + 40*domain.Day).Time()}}, Tier: "gold", TierUntil: (day0 + 90*domain.Day).Time()}
	for i, want := range []bool{false, true} {
		if known, err := s.views.OpenBalance(t.Context(), "", b); err != nil || known != want {
			t.Errorf("time %d: %v, %v", i, known, err)
		}
	}
	if _, err := s.views.OpenBalance(t.Context(), "", OpeningBalance{Row: "r2", Subject: "user:ann", Tier: "diamond"}); !errors.As(err, new(*CommandError)) {
		t.Errorf("a tier that is none: %v", err)
	}
	s.settled()
	if got := s.rows("SELECT (tier, available, adjusted_in) AS x FROM loyalty_status"); len(got) != 1 || got[0] != "('gold',1000,700)" {
		t.Errorf("status %v", got)
	}
}

// A transfer whose second half was never written is finished at the next start.
func TestHalfATransferIsFinished(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.send(buy("o", "ann", day0-9*domain.Day, "300"), buy("p", "ben", day0-8*domain.Day, "100"))
	s.must(CommandRequest{Command: "transfer", Customer: "user:ann", To: "user:ben", Points: 50, Key: "1"})
	s.settled()
	// A second log holds all of it but the second half.
	o := newSite(t)
	for e, err := range s.store.ReadAll(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		if e.ID == loyalty.TransferInID(commandID("key", "1")) || e.Type == domain.TypePolicyApplied {
			continue
		}
		if e.Type != domain.TypeTouchpoint && e.Type != domain.TypeLoyaltyCommand && e.Type != domain.TypeLoyaltyGuard {
			continue
		}
		if _, err := o.store.Append(t.Context(), e.Stream, nil, e.Clone().NewEvent); err != nil {
			t.Fatal(err)
		}
	}
	o.settled()
	if got := o.rows("SELECT sum(available) AS x FROM loyalty_status"); got[0] != "350" {
		t.Fatalf("half done: %v", got)
	}
	o.stop()
	o.start()
	o.until("the second half", func() bool { return o.rows("SELECT sum(available) AS x FROM loyalty_status")[0] == "400" })
}

// A command that waits for the views while they are verified does not keep them
// standing still.
func TestACommandWaitsOutAVerification(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.send(buy("o", "ann", day0-9*domain.Day, "300"))
	var begin sync.Once
	v, err := s.views.Verify(t.Context(), 1, func(_, _ uint64) {
		begin.Do(func() {
			stream, e := buy("p", "ann", day0-8*domain.Day, "200").event()
			r, err := s.store.Append(t.Context(), stream, nil, e)
			if err != nil {
				t.Error(err)
			}
			d := s.views.desk
			d.work.Lock() // as it is while the log is far ahead of the views
			go func() {
				defer d.work.Unlock()
				if err := s.views.WaitFor(t.Context(), r.Position); err != nil {
					t.Error(err)
				}
			}()
		})
	})
	if err != nil || !v.Equal() {
		t.Errorf("verify: %+v, %v", v, err)
	}
}

// settled waits until the views hold all of the log, a minute later: commands given
// at one instant count a millisecond after one another.
func (s *site) settled() {
	s.t.Helper()
	later := s.clock.now().Add(time.Minute)
	s.clock.set(domain.MillisOf(later))
	s.until("the next minute", func() bool { return !s.views.active.state.checkpoint().Clock.Time().Before(later) })
	head, err := s.store.Head(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	s.wait(head)
}
