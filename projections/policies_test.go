package projections

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"sojourn/domain"
	"sojourn/domain/lifecycle"
	"sojourn/domain/policy"
)

// loyalAfter is the default policy with another number of purchases.
func loyalAfter(n int) policy.Policy {
	p := policy.Default()
	p.Lifecycle.LoyalPurchases = n
	return p
}

// A restart undoes no apply: a file counts once, until it is another.
func TestPolicyFileOfAStart(t *testing.T) {
	var c clock
	c.set(day0)
	store := openStore(t, &c)
	defer func() { _ = store.Close() }()
	// The last start of a release that kept no note of files.
	if _, _, err := ApplyPolicy(t.Context(), store, policy.Default(), ""); err != nil {
		t.Fatal(err)
	}
	for i, step := range []struct {
		file    int // purchases in the file that a start reads, 0 where it is an apply
		apply   int
		version int
		applied bool
	}{
		{file: 5, version: 1},                 // A, which is the default
		{apply: 2, version: 2, applied: true}, // B
		{file: 5, version: 2},                 // A again
		{file: 5, version: 2},
		{file: 3, version: 3, applied: true}, // C
		{file: 3, version: 3},
		{apply: 4, version: 4, applied: true}, // D
		{file: 4, version: 4},                 // the file says what was applied
		{apply: 2, version: 5, applied: true},
		{file: 4, version: 5},
		{file: 3, version: 6, applied: true},
	} {
		var version int
		var applied bool
		var err error
		if step.file > 0 {
			version, applied, err = ApplyPolicyFile(t.Context(), store, loyalAfter(step.file), fmt.Sprint("file ", step.file))
		} else {
			version, applied, err = ApplyPolicy(t.Context(), store, loyalAfter(step.apply), fmt.Sprint("api ", step.apply))
		}
		if err != nil || version != step.version || applied != step.applied {
			t.Errorf("step %d: version %d, applied %t, %v; want %+v", i, version, applied, err, step)
		}
	}
	// As long as nothing was applied since, the same text may mean something else
	// to another release.
	if version, applied, err := ApplyPolicyFile(t.Context(), store, loyalAfter(7), "file 3"); err != nil || version != 7 || !applied {
		t.Errorf("the same file read otherwise: version %d, applied %t, %v", version, applied, err)
	}
}

func (s *site) applyNow(r Proposal, version int, applied bool) {
	s.t.Helper()
	v, ok, err := s.views.Apply(s.t.Context(), r)
	if err != nil || v.Version != version || ok != applied {
		s.t.Fatalf("version %d, applied %t, %v; want %d, %t", v.Version, ok, err, version, applied)
	}
}

func (s *site) under(version int) {
	s.t.Helper()
	s.until(fmt.Sprint("policy ", version), func() bool { return s.views.Status().PolicyVersion == version })
}

// tidy waits until what was built is switched to, the tables too.
func (s *site) tidy() {
	s.views.exclusive.Lock()
	defer s.views.exclusive.Unlock()
}

// A policy is applied while the views answer, and they are switched to it; the one
// that is applied last is the one that stays, whatever restarts come between.
func TestApplyWhileServing(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.send(shop()...)
	s.clock.set(day0 + 10*domain.Day)
	listed := loyalAfter(2)
	listed.Identity.Nobody = []string{"guest"}
	r := Proposal{Policy: listed, Source: "two", Author: "jo", Reason: "to try it", Expected: 1}
	if s.views.InForce().Identity().Nobody("guest") {
		t.Error("guest is nobody already")
	}
	s.applyNow(r, 2, true)
	if !s.views.InForce().Identity().Nobody("guest") {
		t.Error("the list of nobodies is not in force at once")
	}
	s.under(2)
	if c := s.customer("user:42", At{}); c.Stage != string(lifecycle.Loyal) {
		t.Errorf("under the new policy: %+v", c)
	}
	if c := s.customer("user:42", At{KnownAt: day0.Time()}); c.Stage != string(lifecycle.Repeat) {
		t.Errorf("by what was known before: %+v", c)
	}
	// A repetition applies nothing, whatever it expects; what differs must be told
	// what it replaces.
	s.applyNow(r, 2, false)
	if _, _, err := s.views.Apply(t.Context(), Proposal{Policy: loyalAfter(9), Expected: 1}); !errors.Is(err, ErrPolicyMoved) {
		t.Errorf("a proposal that knows an older policy: %v", err)
	}
	// Two at once.
	s.applyNow(Proposal{Policy: loyalAfter(3)}, 3, true)
	s.applyNow(Proposal{Policy: loyalAfter(4)}, 4, true)
	s.under(4)
	// A server that ends before the switch ends with the last.
	s.applyNow(Proposal{Policy: listed, Source: "two"}, 5, true)
	s.stop()
	if _, _, err := s.views.Apply(t.Context(), r); !errors.Is(err, ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
	s.start()
	s.under(5)
	if !s.views.InForce().Identity().Nobody("guest") {
		t.Error("the list of nobodies is not in force after a start")
	}

	if _, _, err := s.views.Rollback(t.Context(), 6, Proposal{}); !errors.Is(err, ErrNoPolicyVersion) {
		t.Errorf("back to what never was: %v", err)
	}
	v, applied, err := s.views.Rollback(t.Context(), 1, Proposal{Author: "jo", Reason: "back"})
	if err != nil || v.Version != 6 || !applied || v.RollbackTo != 1 || v.Author != "jo" || v.Reason != "back" || !v.AppliedAt.Equal(s.clock.now()) {
		t.Errorf("rollback: %+v, %t, %v", v, applied, err)
	}
	s.under(6)
	if c := s.customer("user:42", At{}); c.Stage != string(lifecycle.Repeat) {
		t.Errorf("after the rollback: %+v", c)
	}
	all := s.views.Policies()
	if len(all) != 6 || all[1].Source != "two" || all[1].Author != "jo" || all[1].Reason != "to try it" || all[1].Policy.Lifecycle.LoyalPurchases != 2 {
		t.Errorf("history: %+v", all)
	}
	s.until("the statements", func() bool { return s.views.Status().LagEvents == 0 })
	s.tidy()
	if r, err := s.views.Verify(t.Context(), 10, nil); err != nil || !r.Equal() {
		t.Errorf("verify: %+v, %v", r, err)
	}
}

// earningFrom is the default policy with other points for a purchase, from a time on.
func earningFrom(perUnit, from string, retroactive bool) policy.Policy {
	p := policy.Default()
	p.Loyalty.Programmes = []policy.Programme{{
		ID: policy.DefaultProgramme, Earning: policy.Earning{PerUnit: number(perUnit), From: from, Retroactive: retroactive},
	}}
	return p
}

// Rules about points look forward unless they say that they do not.
func TestPoliciesThatLookBack(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	past, later := (day0 - domain.Day).String(), (day0 + 5*domain.Day).String()
	refused := func(p policy.Policy) {
		t.Helper()
		_, applied, err := s.views.Apply(t.Context(), Proposal{Policy: p})
		var problems policy.Problems
		if applied || !errors.As(err, &problems) || len(problems) != 1 || problems[0].PathString() != "loyalty.programmes[0].earning.from" {
			t.Errorf("applied %t: %v", applied, err)
		}
		if err := s.views.CheckPolicy(p, time.Time{}); !errors.As(err, &problems) {
			t.Errorf("check: %v", err)
		}
	}
	holds := func(version int, earning string) {
		t.Helper()
		if h := s.views.Policies()[version-1].HoldsFrom; len(h) != 1 || h[0] != (HoldsFrom{Programme: policy.DefaultProgramme, Earning: earning}) {
			t.Errorf("version %d holds from %+v, want %q", version, h, earning)
		}
	}
	holds(1, "")
	refused(earningFrom("2", past, false))
	if got := len(s.views.Policies()); got != 1 {
		t.Errorf("%d versions", got)
	}
	s.applyNow(Proposal{Policy: earningFrom("2", past, true)}, 2, true)
	holds(2, past)
	s.applyNow(Proposal{Policy: earningFrom("3", later, false)}, 3, true)
	holds(3, later)
	// What is in force already may be said again, and beside it what is no rule about
	// points, however long ago it began.
	s.clock.set(day0 + 10*domain.Day)
	s.applyNow(Proposal{Policy: earningFrom("3", later, false)}, 3, false)
	same := earningFrom("3", later, false)
	same.Lifecycle.LoyalPurchases = 2
	s.applyNow(Proposal{Policy: same}, 4, true)
	holds(4, later)
	refused(earningFrom("4", later, false))
	if _, _, err := ApplyPolicy(t.Context(), s.store, earningFrom("4", past, false), ""); err == nil {
		t.Error("a start applies it")
	}
	// A rollback holds from its own moment.
	if v, applied, err := s.views.Rollback(t.Context(), 2, Proposal{}); err != nil || !applied || v.Version != 5 {
		t.Fatalf("%+v, %t, %v", v, applied, err)
	}
	holds(5, (day0 + 10*domain.Day).String())
	// As if applied earlier, it would have looked forward.
	p := earningFrom("4", (day0 + domain.Day).String(), false)
	if err := s.views.CheckPolicy(p, day0.Time()); err != nil {
		t.Errorf("since: %v", err)
	}
	if err := s.views.CheckPolicy(p, (day0 + 2*domain.Day).Time()); err == nil {
		t.Error("since: it looks back")
	}
}
