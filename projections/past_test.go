package projections

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"sojourn/domain"
	"sojourn/domain/lifecycle"
	"sojourn/domain/policy"
	"sojourn/eventstore"
)

// crowd draws the histories of several groups of people, the same at each run, in
// an order of their own, and the subjects they may be asked by.
func crowd(groups int) (all []sent, refs []string) {
	draw := rapid.Custom(drawMessages)
	for i := range groups {
		in := func(s string) string {
			if s == "" {
				return ""
			}
			return fmt.Sprintf("%s-%d", s, i)
		}
		for _, m := range draw.Example(i + 1) {
			m.id, m.user, m.anon, m.prev = in(m.id), in(m.user), in(m.anon), in(m.prev)
			for _, side := range []*[]domain.Subject{&m.these, &m.andThem} {
				renamed := []domain.Subject{}
				for _, sub := range *side {
					if sub.Kind != domain.Email {
						sub.Value = in(sub.Value)
					}
					renamed = append(renamed, sub)
				}
				*side = renamed
			}
			if o := m.command; o != nil {
				renamed := *o
				for _, sub := range []*domain.Subject{&renamed.subject, &renamed.other} {
					if sub.Kind != domain.Email {
						sub.Value = in(sub.Value)
					}
				}
				renamed.of = in(o.of)
				m.command = &renamed
			}
			all = append(all, m)
			if !m.isMessage() {
				continue
			}
			for _, sub := range []string{"user:" + m.user, "anon:" + m.anon, "anon:" + m.prev} {
				if sub != "user:" && sub != "anon:" && !slices.Contains(refs, sub) {
					refs = append(refs, sub)
				}
			}
		}
	}
	slices.SortFunc(all, func(a, b sent) int {
		x, y := domain.EventID("order", a.id), domain.EventID("order", b.id)
		return slices.Compare(x[:], y[:])
	})
	return sensible(all), refs
}

// pages reads a list to its end, a few at a time.
func (s *site) pages(stage string, at At) []Customer {
	s.t.Helper()
	var all []Customer
	for cursor := ""; ; {
		some, next, err := s.views.Customers(s.t.Context(), stage, 3, cursor, at)
		if err != nil {
			s.t.Fatalf("customers %q %+v: %v", stage, at, err)
		}
		if all = append(all, some...); next == "" {
			return all
		}
		cursor = next
	}
}

// timeline reads a timeline to its end, a few entries at a time, as JSON.
func (s *site) timeline(ref string, at At, limit int) string {
	s.t.Helper()
	var all []Entry
	for cursor := ""; ; {
		some, next, err := s.views.Timeline(s.t.Context(), ref, at, cursor, limit)
		if errors.Is(err, ErrNotFound) {
			return "not found"
		}
		if err != nil {
			s.t.Fatalf("timeline of %s %+v: %v", ref, at, err)
		}
		if all = append(all, some...); next == "" {
			return asJSON(s.t, all)
		}
		cursor = next
	}
}

func asJSON(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// times are questions about different times, with the log as it was at different
// times.
func times(known ...time.Time) []At {
	var all []At
	for _, k := range known {
		all = append(all, At{KnownAt: k})
		for _, d := range []int{-1, 0, 60, 121, 365, 486, 900} {
			all = append(all, At{KnownAt: k, AsOf: (day0 + domain.Millis(d)*domain.Day).Time()})
		}
	}
	return all
}

// What is said of all customers at a time is what is said of each of them, under
// the policy of that time and with what was known then.
func TestListsAndCountsAtAnyTime(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	all, refs := crowd(6)
	third := len(all) / 3
	// The first third comes as the days go by, the second in one moment, and after
	// it another policy.
	s.clock.set(day0 + 40*domain.Day)
	s.send(all[:third]...)
	s.send(bought("x1", "two", day0+238*domain.Day, 1), bought("x2", "two", day0+239*domain.Day, 1))
	refs = append(refs, "user:two")
	s.clock.set(day0 + 240*domain.Day)
	s.send(all[third : 2*third]...)
	first := time.UnixMilli(int64(day0 + 100*domain.Day))
	second := time.UnixMilli(int64(day0 + 240*domain.Day))
	s.clock.set(day0 + 300*domain.Day)
	s.stop()
	p := policy.Default()
	p.Lifecycle.LoyalPurchases = 2
	s.apply(p)
	s.start()
	s.until("the new policy", func() bool { return s.views.Status().PolicyVersion == 2 })
	s.clock.set(day0 + 360*domain.Day)
	s.send(all[2*third:]...)
	s.clock.set(day0 + 510*domain.Day)
	s.until("the clock", func() bool { return s.views.Status().Clock == day0+510*domain.Day })
	head, err := s.store.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}

	before := time.UnixMilli(int64(day0 - domain.Day))
	for _, at := range times(time.Time{}, before, first, second, second.Add(70*24*time.Hour), s.clock.now(), s.clock.now().Add(time.Hour)) {
		want := map[uuid.UUID]Customer{}
		for _, ref := range refs {
			c, err := s.views.Customer(t.Context(), ref, at)
			if errors.Is(err, ErrNotFound) {
				continue
			}
			if err != nil {
				t.Fatalf("%s %+v: %v", ref, at, err)
			}
			c.Loyalty, c.Satisfaction, c.Service = nil, nil, nil // which lists leave out
			want[c.ID] = c
		}
		stages, err := s.views.Stages(t.Context(), at)
		if err != nil {
			t.Fatalf("stages %+v: %v", at, err)
		}
		if !at.AsOf.IsZero() && !stages.AsOf.Equal(at.AsOf) || int(stages.Customers) != len(want) {
			t.Errorf("%+v: as of %v there are %d customers, want %d", at, stages.AsOf, stages.Customers, len(want))
		}
		for _, count := range append(stages.Stages, StageCount{}) {
			var of []Customer
			for _, c := range want {
				if count.Stage == "" || c.Stage == count.Stage {
					of = append(of, c)
				}
			}
			slices.SortFunc(of, func(a, b Customer) int { return compareIDs(a.ID, b.ID) })
			if count.Stage != "" && int(count.Customers) != len(of) {
				t.Errorf("%+v: %d are %s, want %d", at, count.Customers, count.Stage, len(of))
			}
			if got, want := asJSON(t, s.pages(count.Stage, at)), asJSON(t, append([]Customer(nil), of...)); got != want {
				t.Errorf("%+v: those who are %q\n got  %s\n want %s", at, count.Stage, got, want)
			}
		}
	}
	if after, err := s.store.Head(t.Context()); err != nil || after != head {
		t.Errorf("the log grew from %d to %d: %v", head, after, err)
	}
	// Loyal after two by the second policy only.
	loyal := func(known time.Time) uint64 {
		st, err := s.views.Stages(t.Context(), At{KnownAt: known, AsOf: second})
		if err != nil {
			t.Fatal(err)
		}
		return st.Stages[slices.Index(lifecycle.Stages, lifecycle.Loyal)].Customers
	}
	if was, is := loyal(second), loyal(time.UnixMilli(int64(day0+300*domain.Day))); was >= is {
		t.Errorf("%d are loyal under the first policy, %d under the second", was, is)
	}
}

// The tables answer what the log answers.
func TestHeavyCustomersAreAnsweredAlike(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	all, refs := crowd(4)
	s.clock.set(day0 + 600*domain.Day)
	s.send(all...)
	// What is recorded later is in the tables, and not in what was known.
	for _, at := range []int{-10, 0, 1, 2, 30, 60, 121, 300, 366, 500, 700} {
		asOf := At{AsOf: (day0 + domain.Millis(at)*domain.Day).Time()}
		known := asOf
		known.KnownAt = s.clock.now()
		for _, ref := range refs {
			answers := func(heavy uint64, at At) (string, string) {
				s.views.heavy = heavy
				c, err := s.views.Customer(t.Context(), ref, at)
				if err != nil && !errors.Is(err, ErrNotFound) {
					t.Fatal(err)
				}
				return asJSON(t, c), s.timeline(ref, at, 2)
			}
			c, line := answers(math.MaxUint64, asOf)
			if tc, tline := answers(0, asOf); tc != c || tline != line {
				t.Errorf("%s %+v\nlog    %s %s\ntables %s %s", ref, asOf, c, line, tc, tline)
			}
			if kc, kline := answers(0, known); kc != c || kline != line {
				t.Errorf("%s %+v\nlog   %s %s\nknown %s %s", ref, asOf, c, line, kc, kline)
			}
		}
	}
}

func (s *site) pastDirs() int {
	s.t.Helper()
	dirs, err := filepath.Glob(filepath.Join(s.dir, pastPrefix+"*"))
	if err != nil {
		s.t.Fatal(err)
	}
	return len(dirs)
}

// Folds of earlier times are shared, few, and leave nothing behind.
func TestPastsAreShared(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for i := range 4 {
		s.clock.set(day0 + domain.Millis(i)*domain.Day)
		s.send(bought(fmt.Sprint("o", i), fmt.Sprint("p", i), day0, 1))
	}
	s.clock.set(day0 + 10*domain.Day)
	at := func(day int) At { return At{KnownAt: (day0 + domain.Millis(day)*domain.Day).Time()} }
	count := func(ctx context.Context, day int) (uint64, error) {
		st, err := s.views.Stages(ctx, at(day))
		return st.Customers, err
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if n, err := count(t.Context(), 1); n != 2 || err != nil {
				t.Errorf("on the second day %d customers: %v", n, err)
			}
		})
	}
	all.Wait()
	if n := s.pastDirs(); n != 1 {
		t.Errorf("%d folds for one time", n)
	}
	for day, want := range []uint64{1, 2, 3, 4, 4} {
		if n, err := count(t.Context(), day); n != want || err != nil {
			t.Errorf("day %d: %d customers, want %d: %v", day, n, want, err)
		}
	}
	if n := s.pastDirs(); n != maxPasts {
		t.Errorf("%d folds are kept, want %d", n, maxPasts)
	}
	// A fold goes on for who comes again after a deadline, and is given up with who
	// goes away.
	position, err := lastKnown(t.Context(), s.store, math.MaxInt64, day0)
	if err != nil {
		t.Fatal(err)
	}
	key, rules := pastKey{position, 1}, s.views.active.rules
	kept := func() bool {
		s.views.pasts.mu.Lock()
		defer s.views.pasts.mu.Unlock()
		return slices.ContainsFunc(s.views.pasts.kept, func(p *past) bool { return p.pastKey == key })
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := s.views.hold(gone, key, rules); !errors.Is(err, context.Canceled) || kept() {
		t.Errorf("without waiting, kept %v: %v", kept(), err)
	}
	late, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	if _, _, err := s.views.hold(late, key, rules); !errors.Is(err, context.DeadlineExceeded) || !kept() {
		t.Errorf("after the deadline, kept %v: %v", kept(), err)
	}
	if n, err := count(t.Context(), 0); n != 1 || err != nil {
		t.Errorf("on the first day %d customers: %v", n, err)
	}
	// One that is idle goes.
	s.views.pasts.mu.Lock()
	p := s.views.pasts.kept[len(s.views.pasts.kept)-1]
	p.idle.Reset(0)
	s.views.pasts.mu.Unlock()
	for deadline := time.Now().Add(30 * time.Second); ; runtime.Gosched() {
		s.views.pasts.mu.Lock()
		left := slices.Contains(s.views.pasts.kept, p)
		s.views.pasts.mu.Unlock()
		if !left {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("an idle fold stays")
		}
	}
	s.stop()
	if n := s.pastDirs(); n != 0 {
		t.Errorf("%d folds are left after a stop", n)
	}
	if _, err := count(t.Context(), 0); !errors.Is(err, ErrClosed) {
		t.Errorf("after a stop: %v", err)
	}
	// What a crash has left goes at the next start.
	if err := os.Mkdir(filepath.Join(s.dir, pastPrefix+"left"), 0o750); err != nil {
		t.Fatal(err)
	}
	s.start()
	if n := s.pastDirs(); n != 0 {
		t.Errorf("%d folds are left after a start", n)
	}
}

// Lists are in the order of ClickHouse's ids wherever they come from.
func TestOrderOfIDs(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	if !slices.IsSortedFunc(s.rows("SELECT x FROM (SELECT reinterpretAsUUID(sipHash128(number)) AS x FROM numbers(1000)) ORDER BY x"),
		func(a, b string) int { return compareIDs(uuid.MustParse(a), uuid.MustParse(b)) }) {
		t.Error("ClickHouse orders ids otherwise")
	}
}

func compareIDs(a, b uuid.UUID) int { return bytes.Compare(pastKeyOf(a), pastKeyOf(b)) }

func TestLastKnown(t *testing.T) {
	var c clock
	log := openStore(t, &c)
	defer func() { _ = log.Close() }()
	recorded := []domain.Millis{10, 10, 20, 30, 30, 30, 40}
	var all []sent
	for i := range recorded {
		all = append(all, bought(fmt.Sprint(i), "u", 0, 1))
	}
	appendAll(t, log, &c, all, recorded)
	for known := domain.Millis(9); known <= 41; known++ {
		for limit := range len(recorded) + 1 {
			want := 0
			for i, at := range recorded[:limit] {
				if at <= known {
					want = i + 1
				}
			}
			got, err := lastKnown(t.Context(), log, eventstore.Position(limit), known)
			if err != nil || got != eventstore.Position(want) {
				t.Errorf("known at %d of the first %d: %d, want %d: %v", known, limit, got, want, err)
			}
		}
	}
}

// A page is the first entries after a place, whatever their order.
func TestPage(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var all []Entry
		for i := range rapid.IntRange(0, 40).Draw(t, "entries") {
			at := time.UnixMilli(int64(rapid.IntRange(0, 10).Draw(t, "at")))
			if rapid.Bool().Draw(t, "transition") {
				all = append(all, Entry{At: at, Transition: &TransitionEntry{Seq: i + 1}})
			} else {
				all = append(all, Entry{At: at, Touchpoint: &TouchpointEntry{EventID: domain.EventID("page", fmt.Sprint(i))}})
			}
		}
		p := &page{after: place{At: math.MinInt64}, limit: rapid.IntRange(1, 5).Draw(t, "limit")}
		if len(all) > 0 && rapid.Bool().Draw(t, "after") {
			p.after = rapid.SampledFrom(all).Draw(t, "place").place()
		}
		for _, e := range all {
			if p.wants(e.place()) {
				p.add(e)
			}
		}
		p.cut()
		want := slices.DeleteFunc(slices.Clone(all), func(e Entry) bool { return e.place().compare(p.after) <= 0 })
		slices.SortFunc(want, func(a, b Entry) int { return a.place().compare(b.place()) })
		want = want[:min(len(want), p.limit)]
		if !slices.EqualFunc(p.entries, want, func(a, b Entry) bool { return a.place() == b.place() }) {
			t.Fatalf("got %v, want %v", p.entries, want)
		}
	})
}
