package projections

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"

	"sojourn/domain"
	"sojourn/domain/policy"
	"sojourn/eventstore"
)

// A refusal and then damage in one round: each errand is ended once.
func TestDeskEndsEachErrandOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	d := s.views.desk
	d.work.Lock()
	defer d.work.Unlock()
	refused := &errand{ctx: t.Context(), finished: make(chan struct{}), decide: func(*tail, *errand) error { return badCommand("no") }}
	damaged := &errand{ctx: t.Context(), finished: make(chan struct{}), decide: func(t *tail, _ *errand) error {
		t.fold.err = errors.New("damaged")
		return nil
	}}
	d.decide(t.Context(), []*errand{refused, damaged})
}

// Two servers get one key at once, with other bodies: one of them is told.
func TestOneKeyAtOnceWithOtherBodies(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.send(buy("o", "ann", day0-9*domain.Day, "300"))
	o := s.another()
	if _, err := o.do(redeem("user:ann", 1, "first")); err != nil { // o knows the guard's end
		t.Fatal(err)
	}
	small, large := redeem("user:ann", 10, "k"), redeem("user:ann", 200, "k")
	var once sync.Once
	c, err := o.views.desk.submit(t.Context(), commandID("key", "k"), func(t *tail, e *errand) error {
		once.Do(func() { s.must(small) })
		return o.views.decideCommand(t, e, &large)
	})
	if !errors.As(err, new(*KeyError)) {
		t.Errorf("%+v, %v", c, err)
	}
	c, err = o.do(redeem("user:ann", 250, "l"))
	if err != nil || c.Balance.Available != 39 {
		t.Errorf("behind it: %+v, %v", c, err)
	}
}

// Two servers get one key at once for transfers of two customers; the first stops
// before its second half.
func TestOneKeyAtOnceForTwoTransfers(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	all := []sent{
		buy("o", "ann", day0-9*domain.Day, "300"), buy("p", "ben", day0-8*domain.Day, "100"),
		buy("q", "cat", day0-7*domain.Day, "1"), buy("r", "dan", day0-7*domain.Day, "1"),
	}
	s.send(all...)
	s.must(CommandRequest{Command: "transfer", Customer: "user:ann", To: "user:cat", Points: 50, Key: "k"})
	var out eventstore.Recorded
	for e, err := range s.store.ReadAll(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		if e.ID == commandID("key", "k") {
			out = e.Clone()
		}
	}
	o := newSite(t)
	o.send(all...)
	r := CommandRequest{Command: "transfer", Customer: "user:ben", To: "user:dan", Points: 50, Key: "k"}
	var once sync.Once
	c, err := o.views.desk.submit(t.Context(), commandID("key", "k"), func(tl *tail, e *errand) error {
		once.Do(func() {
			if _, err := o.store.Append(t.Context(), out.Stream, nil, out.NewEvent); err != nil {
				t.Error(err)
			}
		})
		return o.views.decideCommand(tl, e, &r)
	})
	if !errors.As(err, new(*KeyError)) {
		t.Errorf("%+v, %v", c, err)
	}
	o.settled()
	o.stop()
	o.start()
	// A command of somebody else comes behind what a start finishes.
	if _, err := o.do(redeem("user:ann", 1_000_000, "none")); !errors.As(err, new(*ShortError)) {
		t.Fatal(err)
	}
	o.settled()
	for who, want := range map[string]int64{"ann": 250, "ben": 100, "cat": 51, "dan": 1} {
		l, err := o.views.Loyalty(t.Context(), "user:"+who, "", At{})
		if err != nil || l.Totals.Available != want {
			t.Errorf("%s has %d, want %d (%v)", who, l.Totals.Available, want, err)
		}
	}
}

// At the very instant of expiry a redemption still counts.
func TestRedeemAtTheInstantOfExpiry(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	now := domain.MillisOf(s.clock.now())
	s.send(buy("o", "ann", now-365*domain.Day, "300"))
	c, err := s.do(redeem("user:ann", 300, "1"))
	if err != nil || c.Balance.Debt != 0 {
		t.Errorf("%+v, %v", c, err)
	}
}

// Commands at once behind a join close each guard once.
func TestGuardsAreClosedOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	var all []sent
	const devices = 40
	for i := range devices {
		all = append(all, sent{id: fmt.Sprint("v", i), kind: domain.Page, anon: fmt.Sprint("a", i), at: day0 - 3*domain.Day})
	}
	for i := range devices {
		all = append(all, sent{id: fmt.Sprint("j", i), kind: domain.Identify, user: "42", anon: fmt.Sprint("a", i), at: day0 - 2*domain.Day})
	}
	all = append(all, buy("o", "42", day0-domain.Day, "5000"))
	s.send(all...)
	d := s.views.desk
	var wait sync.WaitGroup
	d.work.Lock()
	wait.Go(func() { _, _ = s.do(redeem("user:nobody", 1, "none")) })
	for i := range 200 {
		wait.Go(func() {
			if _, err := s.do(redeem("user:42", 10, fmt.Sprint("k", i))); err != nil {
				t.Error(err)
			}
		})
	}
	for { // until all of them wait
		d.mu.Lock()
		n := len(d.waiting)
		d.mu.Unlock()
		if n >= 200 {
			break
		}
		runtime.Gosched()
	}
	d.work.Unlock()
	wait.Wait()
	guards := 0
	for e, err := range s.store.ReadAll(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Type == domain.TypeLoyaltyGuard {
			guards++
		}
	}
	if guards > 2*devices {
		t.Errorf("%d guard entries for %d subjects", guards, devices)
	}
}

// Two servers, one of them under a newer policy that does not join what the other's
// does: no point is spent twice.
func TestNoPointIsSpentTwiceUnderTwoPolicies(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.send(
		sent{id: "w", kind: domain.Page, user: "42", at: day0 - 4*domain.Day},
		sent{id: "o", kind: domain.Track, name: "Order Completed", anon: "a", at: day0 - 3*domain.Day, properties: `{"order_id":"o","total":100,"currency":"USD"}`},
		sent{id: "j", kind: domain.Identify, user: "42", anon: "a", at: day0 - 2*domain.Day},
	)
	o := s.another()
	if _, err := o.do(CommandRequest{Command: "adjust", Customer: "user:42", Points: 1, Reason: "x", Key: "first"}); err != nil {
		t.Fatal(err)
	}
	s.stop()
	p := policy.Default()
	p.Identity.Join = []string{"user", "email"}
	v := s.apply(p)
	s.start()
	s.until("the new policy", func() bool { return s.views.Status().PolicyVersion == v && s.views.Status().Ready })
	r := redeem("user:42", 100, "k")
	var once sync.Once
	c, err := o.views.desk.submit(t.Context(), commandID("key", "k"), func(tl *tail, e *errand) error {
		once.Do(func() { t.Log(s.must(redeem("anon:a", 100, "l"))) })
		return o.views.decideCommand(tl, e, &r)
	})
	if !errors.As(err, new(*ShortError)) {
		t.Errorf("spent twice: %+v, %v", c, err)
	}
}

// A key gives its answer for ever, also once another programme is the policy's first.
func TestAKeyIsKnownWhenAnotherProgrammeIsTheFirst(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.send(buy("o", "ann", day0-9*domain.Day, "300"))
	first := s.must(redeem("user:ann", 10, "k"))
	s.stop()
	p := policy.Default()
	p.Loyalty.Programmes = []policy.Programme{{ID: "vip"}, {ID: policy.DefaultProgramme}}
	v := s.apply(p)
	s.start()
	s.until("the new policy", func() bool { return s.views.Status().PolicyVersion == v && s.views.Status().Ready })
	if c, err := s.do(redeem("user:ann", 10, "k")); err != nil || c.Event != first.Event {
		t.Errorf("%+v, %v", c, err)
	}
}
