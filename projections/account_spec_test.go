package projections

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"sojourn/domain"
	"sojourn/domain/policy"
	"sojourn/eventstore"
	"sojourn/warehouse"
)

// grouped is a group call.
func grouped(id, subject, group string, day domain.Millis, traits string) sent {
	m := sent{id: id, kind: domain.Group, group: group, at: day0 + day*domain.Day, traits: traits}
	m.user, _ = strings.CutPrefix(subject, "user:")
	if anon, ok := strings.CutPrefix(subject, "anon:"); ok {
		m.user, m.anon = "", anon
	}
	return m
}

func loggedIn(id, user, anon string, day domain.Millis) sent {
	return sent{id: id, kind: domain.Identify, user: user, anon: anon, at: day0 + day*domain.Day}
}

func buys(id, user string, day domain.Millis, total int) sent {
	return bought(id, user, day0+day*domain.Day, total)
}

// parts is a split of a visitor from a user.
func parts(id, anon, user string) sent {
	return sent{
		id: id, decision: "split",
		these: []domain.Subject{{Kind: domain.Anon, Value: anon}}, andThem: []domain.Subject{{Kind: domain.User, Value: user}},
	}
}

// accounts are questions to a log that views follow, without tables.
func accounts(t *testing.T, p policy.Policy, messages ...sent) (ask func(ref string, at At) string) {
	t.Helper()
	w := worlds["views"](t).(*viewsWorld)
	w.at.set(day0)
	w.build(p)
	logged := map[string]bool{}
	for i, m := range messages {
		w.at.set(day0 + 1000*domain.Day + domain.Millis(i))
		stream, e := m.event()
		if _, err := w.store.Append(t.Context(), stream, eventstore.Any{}, e); err != nil {
			t.Fatal(err)
		}
		if m.isMessage() {
			logged[m.header().Subject().String()] = true
		}
		w.read() // one batch for each
		w.views.active.fold.evict(0)
	}
	w.at.set(day0 + 1000*domain.Day + domain.Millis(len(messages)))
	w.read()
	return func(ref string, at At) string {
		t.Helper()
		a, ok := asked(t, w.views, ref, at, logged)
		if !ok {
			return "none"
		}
		since := strings.TrimPrefix(strings.TrimSuffix(a.UserIDs, "]"), "map[")
		return fmt.Sprintf("%s %d %s {%s} %s", a.Stage, a.Purchases, a.Revenue, since, a.Traits)
	}
}

// since is how a customer and its day in the account are shown.
func since(customer string, day domain.Millis) string {
	return fmt.Sprintf("%s:%d", customer, day0+day*domain.Day)
}

func onDay(day domain.Millis) At { return At{AsOf: (day0 + day*domain.Day).Time()} }

// after is what was known after so many messages.
func knownAfter(n int) At { return At{KnownAt: (day0 + 1000*domain.Day + domain.Millis(n-1)).Time()} }

func TestAccountHistories(t *testing.T) {
	staged := policy.Default()
	staged.Lifecycle.Accounts = true
	type then struct {
		ref  string
		at   At
		want string
	}
	for name, spec := range map[string]struct {
		given  []sent
		policy policy.Policy
		then   []then
	}{
		"members come one after the other, and their orders are the account's": {
			given: []sent{
				buys("o1", "ada", 900, 10), grouped("g1", "user:ada", "acme", 910, `{"plan":"free"}`),
				buys("o2", "ben", 920, 5), grouped("g2", "user:ben", "acme", 930, `{"plan":"pro","seats":2}`),
			},
			policy: staged,
			then: []then{
				{"account:acme", At{}, `at_risk 2 [{EUR 150000}] {` + since("user:ada", 910) + " " + since("user:ben", 930) + `} {"plan":"pro","seats":2}`},
				// As of a day the members are those of that day; what they did before
				// they were members counts.
				{"account:acme", onDay(925), `repeat 2 [{EUR 150000}] {` + since("user:ada", 910) + `} {"plan":"free"}`},
				{"account:acme", onDay(905), `first_purchase 1 [{EUR 100000}] {} {}`},
				{"account:acme", onDay(899), "none"},
				{"account:acme", onDay(935), `repeat 2 [{EUR 150000}] {` + since("user:ada", 910) + " " + since("user:ben", 930) + `} {"plan":"pro","seats":2}`},
				{"account:acme", knownAfter(2), `at_risk 1 [{EUR 100000}] {` + since("user:ada", 910) + `} {"plan":"free"}`},
				{"account:acme", knownAfter(1), "none"},
				{"account:other", At{}, "none"},
			},
		},
		"without the policy an account has members and traits, and no stage": {
			given: []sent{
				buys("o1", "ada", 900, 10), grouped("g1", "user:ada", "acme", 910, `{"plan":"free"}`), buys("o2", "ada", 920, 5),
			},
			policy: policy.Default(),
			then: []then{
				{"account:acme", At{}, ` 0 [] {` + since("user:ada", 910) + `} {"plan":"free"}`},
				{"account:acme", onDay(905), "none"},
			},
		},
		"a trait is the latest by its own time, whenever it arrives": {
			given: []sent{
				grouped("g1", "user:ada", "acme", 910, `{"plan":"free","seats":1,"city":"Rome"}`),
				grouped("g2", "user:ada", "acme", 930, `{"plan":"pro","city":null}`),
				grouped("g3", "user:ben", "acme", 920, `{"plan":"trial","seats":3,"city":"Bonn"}`),
			},
			policy: policy.Default(),
			then: []then{
				{"account:acme", At{}, ` 0 [] {` + since("user:ada", 910) + " " + since("user:ben", 920) + `} {"plan":"pro","seats":3}`},
				{"account:acme", onDay(925), ` 0 [] {` + since("user:ada", 910) + " " + since("user:ben", 920) + `} {"city":"Bonn","plan":"trial","seats":3}`},
				{"account:acme", knownAfter(2), ` 0 [] {` + since("user:ada", 910) + `} {"plan":"pro","seats":1}`},
			},
		},
		"a visitor who logs in as a member is one member, since the earlier call": {
			given: []sent{
				grouped("g1", "anon:v", "acme", 910, ""), grouped("g2", "user:ada", "acme", 900, ""), buys("o1", "ada", 905, 5),
				loggedIn("i1", "ada", "v", 930),
			},
			policy: staged,
			then: []then{
				{"account:acme", At{}, `at_risk 1 [{EUR 50000}] {` + since("anon:v user:ada", 900) + `} {}`},
				{"account:acme", knownAfter(3), `at_risk 1 [{EUR 50000}] {` + since("anon:v", 910) + " " + since("user:ada", 900) + `} {}`},
			},
		},
		"who logs in brings what was done before; a split takes it away": {
			given: []sent{
				grouped("g1", "anon:v", "acme", 910, ""), buys("o1", "ada", 960, 5), loggedIn("i1", "ada", "v", 970), parts("d1", "v", "ada"),
			},
			policy: staged,
			then: []then{
				{"account:acme", knownAfter(2), `visitor 0 [] {` + since("anon:v", 910) + `} {}`},
				{"account:acme", knownAfter(3), `first_purchase 1 [{EUR 50000}] {` + since("anon:v user:ada", 910) + `} {}`},
				{"account:acme", At{}, `visitor 0 [] {` + since("anon:v", 910) + `} {}`},
			},
		},
		"a customer may be a member of two accounts, and two customers of one": {
			given: []sent{
				grouped("g1", "user:ada", "acme", 910, `{"plan":1}`), grouped("g2", "user:ada", "bolt", 920, `{"plan":2}`),
				grouped("g3", "user:ben", "bolt", 925, ""), buys("o1", "ada", 980, 5), buys("o2", "ben", 990, 7),
				grouped("g4", "user:ada", "acme", 995, `{"plan":3}`),
			},
			policy: staged,
			then: []then{
				{"account:acme", At{}, `first_purchase 1 [{EUR 50000}] {` + since("user:ada", 910) + `} {"plan":3}`},
				{"account:bolt", At{}, `repeat 2 [{EUR 120000}] {` + since("user:ada", 920) + " " + since("user:ben", 925) + `} {"plan":2}`},
				{"account:acme", onDay(985), `first_purchase 1 [{EUR 50000}] {` + since("user:ada", 910) + `} {"plan":1}`},
			},
		},
		"an earlier call that arrives late makes the member earlier": {
			given:  []sent{grouped("g1", "user:ada", "acme", 930, ""), grouped("g2", "user:ada", "acme", 910, ""), grouped("g3", "user:ada", "acme", 920, "")},
			policy: policy.Default(),
			then: []then{
				{"account:acme", At{}, ` 0 [] {` + since("user:ada", 910) + `} {}`},
				{"account:acme", knownAfter(1), ` 0 [] {` + since("user:ada", 930) + `} {}`},
				{"account:acme", onDay(915), ` 0 [] {` + since("user:ada", 910) + `} {}`},
			},
		},
		"time alone changes an account's stage": {
			given:  []sent{grouped("g1", "user:ada", "acme", 800, ""), buys("o1", "ada", 810, 5), buys("o2", "ben", 890, 5), grouped("g2", "user:ben", "acme", 890, "")},
			policy: staged,
			then: []then{
				{"account:acme", onDay(949), `repeat 2 [{EUR 100000}] {` + since("user:ada", 800) + " " + since("user:ben", 890) + `} {}`},
				{"account:acme", onDay(950), `at_risk 2 [{EUR 100000}] {` + since("user:ada", 800) + " " + since("user:ben", 890) + `} {}`},
				{"account:acme", onDay(1500), `lost 2 [{EUR 100000}] {` + since("user:ada", 800) + " " + since("user:ben", 890) + `} {}`},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			ask := accounts(t, spec.policy, spec.given...)
			for _, q := range spec.then {
				if got := ask(q.ref, q.at); got != q.want {
					t.Errorf("%s %+v\n got  %s\n want %s", q.ref, q.at, got, q.want)
				}
			}
			// In the other order the end is the same.
			if !slices.ContainsFunc(spec.given, func(m sent) bool { return m.decision != "" }) {
				given := slices.Clone(spec.given)
				slices.Reverse(given)
				ask := accounts(t, spec.policy, given...)
				for _, q := range spec.then {
					if got := ask(q.ref, q.at); q.at.KnownAt.IsZero() && got != q.want {
						t.Errorf("in the other order: %s %+v\n got  %s\n want %s", q.ref, q.at, got, q.want)
					}
				}
			}
		})
	}
}

// accountTimeline reads an account's timeline to its end, a few entries at a time,
// as JSON.
func (s *site) accountTimeline(ref string, at At, limit int) string {
	s.t.Helper()
	all := []Entry{}
	for cursor := ""; ; {
		some, next, err := s.views.AccountTimeline(s.t.Context(), ref, at, cursor, limit)
		if errors.Is(err, ErrNoAccount) {
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

func (s *site) accountList(at At) (refs []string) {
	s.t.Helper()
	for cursor := ""; ; {
		some, next, err := s.views.Accounts(s.t.Context(), 1, cursor, at)
		if err != nil {
			s.t.Fatalf("accounts %+v: %v", at, err)
		}
		for _, a := range some {
			refs = append(refs, a.GroupID)
			one, err := s.views.Account(s.t.Context(), a.ID.String(), at)
			if err != nil || asJSON(s.t, one) != asJSON(s.t, a) {
				s.t.Errorf("%+v: listed %+v, asked %+v %v", at, a, one, err)
			}
		}
		if cursor = next; cursor == "" {
			slices.Sort(refs)
			return refs
		}
	}
}

// The tables, the lists and the timelines of accounts, under one policy and the
// next.
func TestAccountTables(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.clock.set(day0 + 100*domain.Day)
	s.send(
		grouped("g1", "user:ada", "acme", 10, `{"plan":"pro"}`), buys("o1", "ada", 20, 5), buys("o2", "ben", 30, 7),
		grouped("g2", "anon:v", "acme", 40, ""), grouped("g3", "user:ben", "bolt", 50, ""), grouped("g4", "user:0", "null", 50, ""),
	)
	const accounts = "SELECT concat(group_id, ' ', stage, ' ', toString(purchases), ' ', traits) AS x FROM accounts ORDER BY group_id"
	const members = `SELECT concat(group_id, ' ', toString(count()), ' ', toString(min(since))) AS x
FROM account_members JOIN accounts USING (account_id) GROUP BY group_id ORDER BY group_id`
	want := func(query string, rows ...string) {
		t.Helper()
		if got := s.rows(query); !slices.Equal(got, rows) {
			t.Errorf("%s\n got  %q\n want %q", query, got, rows)
		}
	}
	want(accounts, `acme  0 {"plan":"pro"}`, `bolt  0 {}`)
	want(members, "acme 2 2026-01-11 00:00:00.000", "bolt 1 2026-02-20 00:00:00.000")

	s.stop()
	p := policy.Default()
	p.Lifecycle.Accounts = true
	s.apply(p)
	s.start()
	s.until("the new policy", func() bool { return s.views.Status().PolicyVersion == 2 })
	if v := s.verify(); !v.Equal() { // and the old tables are gone
		t.Errorf("verify: %+v", v)
	}
	want(accounts, `acme at_risk 1 {"plan":"pro"}`, `bolt at_risk 1 {}`)
	first := s.clock.now()
	s.clock.set(day0 + 110*domain.Day)
	// The visitor is ben.
	s.send(loggedIn("i1", "ben", "v", 101))
	want(accounts, `acme at_risk 2 {"plan":"pro"}`, `bolt at_risk 1 {}`)
	want(members, "acme 2 2026-01-11 00:00:00.000", "bolt 1 2026-02-20 00:00:00.000")
	s.send(grouped("g5", "user:eve", "corp", 105, ""), loggedIn("i2", "ada", "w", 106))
	s.clock.set(day0 + 200*domain.Day)
	s.until("the clock", func() bool { return s.views.Status().Clock == day0+200*domain.Day })
	want(accounts, `acme churned 2 {"plan":"pro"}`, `bolt churned 1 {}`, `corp lead 0 {}`)
	if v := s.verify(); !v.Equal() || v.Rows["accounts"] != 3 || v.Rows["account_members"] != 4 {
		t.Errorf("verify: %+v", v)
	}

	for at, want := range map[At][]string{
		{}:                                     {"acme", "bolt", "corp"},
		onDay(60):                              {"acme", "bolt"},
		onDay(15):                              {"acme"},
		onDay(5):                               nil,
		{KnownAt: first}:                       {"acme", "bolt"},
		{KnownAt: first, AsOf: onDay(15).AsOf}: {"acme"},
		{KnownAt: day0.Time()}:                 nil,
	} {
		if got := s.accountList(at); !slices.Equal(got, want) {
			t.Errorf("%+v: accounts %v, want %v", at, got, want)
		}
	}

	// The tables answer what the log answers.
	for _, ref := range []string{"account:acme", "account:bolt", "account:corp", "account:none"} {
		for _, day := range []domain.Millis{5, 15, 20, 35, 60, 103, 150, 500} {
			answers := func(heavy uint64, limit int) string {
				s.views.heavy = heavy
				a, err := s.views.Account(t.Context(), ref, onDay(day))
				if err != nil && !errors.Is(err, ErrNoAccount) {
					t.Fatal(err)
				}
				return asJSON(t, a) + s.accountTimeline(ref, onDay(day), limit)
			}
			if log, tables := answers(math.MaxUint64, 2), answers(0, 3); log != tables {
				t.Errorf("%s on day %d\nlog    %s\ntables %s", ref, day, log, tables)
			}
		}
	}
	entries, _, err := s.views.AccountTimeline(t.Context(), "account:acme", onDay(60), "", 100)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		if e.Transition != nil {
			got = append(got, "→"+e.Transition.To)
		} else {
			got = append(got, e.Touchpoint.Subject+" "+e.Touchpoint.Type)
		}
	}
	// Both customers' touchpoints, and stages of their purchases together.
	line := []string{
		"user:ada group", "→lead", "user:ada track", "→first_purchase", "user:ben track", "→repeat", "anon:v group", "user:ben group",
	}
	if !slices.Equal(got, line) {
		t.Errorf("the timeline of acme\n got  %q\n want %q", got, line)
	}

	// Verify finds whatever is changed behind its back.
	for table, damage := range map[string]string{
		"accounts":        "ALTER TABLE accounts_%s UPDATE traits = '{}' WHERE group_id = 'acme' SETTINGS mutations_sync = 2",
		"account_members": "ALTER TABLE account_members_%s DELETE WHERE subject_no IN (SELECT min(subject_no) FROM account_members_%[1]s) SETTINGS mutations_sync = 2",
	} {
		if err := s.db.Exec(t.Context(), fmt.Sprintf(damage, warehouse.Generation(s.views.Status().Generation))); err != nil {
			t.Fatalf("%s: %v", damage, err)
		}
		if v := s.verify(); v.Different[table] != 1 {
			t.Errorf("damage to %s was not found: %+v", table, v)
		}
	}
}
