package projections

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"sojourn/domain"
	"sojourn/domain/policy"
	"sojourn/eventstore"
	"sojourn/eventstore/pebblestore"
	"sojourn/warehouse"
	"sojourn/warehouse/chdb/chdbtest"
)

// site is a log, an engine and the views over them.
type site struct {
	t     testing.TB
	store *pebblestore.Store
	db    *warehouse.DB
	dir   string
	clock clock
	views *Views
}

func newSite(t testing.TB) *site {
	t.Helper()
	s := &site{t: t, dir: t.TempDir()}
	s.clock.set(day0)
	s.store = openStore(t, &s.clock)
	t.Cleanup(func() { _ = s.store.Close() })
	engine := chdbtest.Start(t)
	db, err := warehouse.Open(t.Context(), warehouse.Config{Socket: engine.Socket(), Hold: engine.Hold})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	s.db = db
	if err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.apply(policy.Default())
	s.start()
	t.Cleanup(func() { s.stop() })
	s.until("the views", func() bool { return s.views.Status().Ready })
	return s
}

func (s *site) apply(p policy.Policy) int {
	s.t.Helper()
	v, _, err := ApplyPolicy(s.t.Context(), s.store, p, "")
	if err != nil {
		s.t.Fatal(err)
	}
	return v
}

func (s *site) start() {
	s.t.Helper()
	v, err := Start(s.t.Context(), Config{
		Store: s.store, DB: s.db, Keyer: testKeyer, Dir: s.dir, FlushInterval: 20 * time.Millisecond, Now: s.clock.now, Logger: discard,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.views = v
}

func (s *site) stop() {
	if err := s.views.Stop(); err != nil {
		s.t.Error(err)
	}
}

// send appends messages and waits until the views hold them.
func (s *site) send(messages ...sent) {
	s.t.Helper()
	parts := make([]eventstore.Append, len(messages))
	for i, m := range messages {
		stream, e := m.event()
		parts[i] = eventstore.Append{Stream: stream, Expected: eventstore.Any{}, Events: []eventstore.NewEvent{e}}
	}
	results, err := s.store.AppendMany(s.t.Context(), parts)
	if err != nil {
		s.t.Fatal(err)
	}
	var position eventstore.Position
	for _, r := range results {
		if r.Err != nil {
			s.t.Fatal(r.Err)
		}
		position = max(position, r.Position)
	}
	s.wait(position)
}

func (s *site) wait(position eventstore.Position) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 30*time.Second)
	defer cancel()
	if err := s.views.WaitFor(ctx, position); err != nil {
		s.t.Fatalf("wait for %d: %v (%+v)", position, err, s.views.Status())
	}
}

func (s *site) customer(ref string, at At) Customer {
	s.t.Helper()
	c, err := s.views.Customer(s.t.Context(), ref, at)
	if err != nil {
		s.t.Fatalf("customer %s: %v", ref, err)
	}
	return c
}

// until waits for a condition on the views, which change in the background.
func (s *site) until(what string, ok func() bool) {
	s.t.Helper()
	deadline := time.After(30 * time.Second)
	for !ok() {
		ch := s.views.moved.wait()
		if ok() {
			return
		}
		select {
		case <-ch:
		case <-deadline:
			s.t.Fatalf("waited in vain for %s: %+v", what, s.views.Status())
		}
	}
}

// rows are the values of the column x of a query.
func (s *site) rows(query string) []string {
	s.t.Helper()
	rows, err := s.db.Query(s.t.Context(), "SELECT toString(x) FROM ("+query+")")
	if err != nil {
		s.t.Fatalf("%s: %v", query, err)
	}
	defer func() { _ = rows.Close() }()
	var out []string
	for rows.Next() {
		var v string
		if err := rows.Scan(&v); err != nil {
			s.t.Fatal(err)
		}
		out = append(out, v)
	}
	if err := rows.Err(); err != nil {
		s.t.Fatal(err)
	}
	return out
}

func (s *site) verify() *Verification {
	s.t.Helper()
	var v *Verification
	s.until("the old views to be gone", func() bool {
		var err error
		v, err = s.views.Verify(s.t.Context(), 10, nil)
		if err != nil && !errors.Is(err, ErrBusy) {
			s.t.Fatal(err)
		}
		return err == nil
	})
	return v
}

func bought(id, user string, at domain.Millis, total int) sent {
	return sent{
		id: id, kind: domain.Track, name: "Order Completed", user: user, at: at,
		properties: fmt.Sprintf(`{"order_id":%q,"total":%d,"currency":"EUR"}`, id, total),
	}
}

// shop is a visitor who logs in and buys twice, and another who only looks.
func shop() []sent {
	return []sent{
		{id: "p1", kind: domain.Page, name: "Home", anon: "v1", at: day0 - 20*domain.Day},
		{id: "i1", kind: domain.Identify, user: "42", anon: "v1", at: day0 - 10*domain.Day, traits: `{"email":"ada@example.com","plan":"free"}`},
		bought("o1", "42", day0-9*domain.Day, 30),
		bought("o2", "42", day0-2*domain.Day, 12),
		{id: "p2", kind: domain.Page, name: "Home", anon: "v2", at: day0 - domain.Day},
	}
}

func TestWhereACustomerStands(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.send(shop()...)

	c := s.customer("user:42", At{})
	if c.Stage != "repeat" || c.Purchases != 2 || c.Revenue["EUR"] != "42" || string(c.Traits["plan"]) != `"free"` {
		t.Errorf("now: %+v", c)
	}
	if want := []string{"anon:v1", "user:42", "email:ada@example.com"}; !slices.Equal(c.Subjects, want) {
		t.Errorf("subjects %v, want %v", c.Subjects, want)
	}
	if visitor := s.customer("anon:v1", At{}); visitor.ID != c.ID {
		t.Errorf("the visitor is %s, the user %s", visitor.ID, c.ID)
	}
	// The user's own id leads to the customer's.
	own := domain.SubjectID(testKeyer.Stream(domain.Subject{Kind: domain.User, Value: "42"}))
	var moved *MovedError
	if _, err := s.views.Customer(t.Context(), own.String(), At{}); !errors.As(err, &moved) || moved.To != c.ID {
		t.Errorf("the user's own id: %v", err)
	}
	for _, tc := range []struct {
		at   domain.Millis
		want string
	}{
		{day0 - 20*domain.Day, "visitor"},
		{day0 - 10*domain.Day, "lead"},
		{day0 - 9*domain.Day, "first_purchase"},
		{day0 - 2*domain.Day - 1, "first_purchase"},
		{day0 - 2*domain.Day, "repeat"},
		{day0 + 58*domain.Day - 1, "repeat"},
		{day0 + 58*domain.Day, "at_risk"}, // a time to come, as if nothing more happened
		{day0 + 118*domain.Day, "churned"},
	} {
		at := At{AsOf: tc.at.Time()}
		if got := s.customer("user:42", at); got.Stage != tc.want {
			t.Errorf("as of %s: %s, want %s", tc.at, got.Stage, tc.want)
		}
		stages, err := s.views.Stages(t.Context(), at)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(stages.Stages, func(c StageCount) bool { return c.Stage == tc.want && c.Customers >= 1 }) {
			t.Errorf("stages as of %s: %+v, want one %s", tc.at, stages, tc.want)
		}
	}
	if _, err := s.views.Customer(t.Context(), "user:42", At{AsOf: (day0 - 21*domain.Day).Time()}); !errors.Is(err, ErrNotFound) {
		t.Errorf("before the first touchpoint: %v", err)
	}
	entries, next, err := s.views.Timeline(t.Context(), "user:42", At{}, "", 3)
	if err != nil || next == "" {
		t.Fatalf("timeline: %v", err)
	}
	rest, next, err := s.views.Timeline(t.Context(), "user:42", At{}, next, 100)
	if err != nil || next != "" {
		t.Fatalf("timeline: %v", err)
	}
	var line []string
	for _, e := range append(entries, rest...) {
		if e.Touchpoint != nil {
			line = append(line, e.Touchpoint.Type)
		} else {
			line = append(line, "→"+e.Transition.To)
		}
	}
	if got, want := strings.Join(line, " "), "page →visitor identify →lead track →first_purchase track →repeat"; got != want {
		t.Errorf("timeline %q, want %q", got, want)
	}
	page, next, err := s.views.Customers(t.Context(), "", 1, "", At{})
	if err != nil || len(page) != 1 || next == "" {
		t.Fatalf("customers: %v %q %v", page, next, err)
	}
	page2, next, err := s.views.Customers(t.Context(), "", 1, next, At{})
	if err != nil || len(page2) != 1 || next != "" || page[0].ID == page2[0].ID {
		t.Fatalf("customers: %v %q %v", page2, next, err)
	}
	if got := s.rows("SELECT count() AS x FROM touchpoints WHERE customer_id = '" + c.ID.String() + "'"); got[0] != "4" {
		t.Errorf("touchpoints of the customer: %v", got)
	}
	if v := s.verify(); !v.Equal() || v.Rows["touchpoints"] != 5 || v.Rows["customers"] != 2 || v.Rows["statements"] != 5+2 {
		t.Errorf("verify: %+v", v)
	}
}

// What came late was not known before.
func TestKnownAt(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.send(shop()[:1]...)
	s.clock.set(day0 + domain.Day)
	s.send(shop()[1:]...)
	before := s.customer("anon:v1", At{KnownAt: day0.Time()})
	if before.Stage != "visitor" || len(before.Subjects) != 1 {
		t.Errorf("known at the first day: %+v", before)
	}
	if _, err := s.views.Customer(t.Context(), "user:42", At{KnownAt: day0.Time()}); !errors.Is(err, ErrNotFound) {
		t.Errorf("the user was not known: %v", err)
	}
	after := s.customer("anon:v1", At{KnownAt: (day0 + domain.Day).Time(), AsOf: (day0 - 9*domain.Day).Time()})
	if after.Stage != "first_purchase" || len(after.Subjects) != 3 {
		t.Errorf("known at the second day: %+v", after)
	}
}

// Time alone moves a customer, is stated, and survives a restart.
func TestDeadlinesFire(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.send(shop()...)
	s.clock.set(day0 + 58*domain.Day)
	s.until("at_risk", func() bool { return s.customer("user:42", At{}).Stage == "at_risk" })
	s.stop()
	s.clock.set(day0 + 118*domain.Day)
	s.start()
	s.until("churned", func() bool { return s.customer("user:42", At{}).Stage == "churned" })
	s.until("the row", func() bool {
		return len(s.rows("SELECT customer_id AS x FROM customers WHERE stage = 'churned'")) == 1
	})
	news := 0
	for _, mark := range standing(t, s.store) {
		if mark {
			news++
		}
	}
	if news < 3 {
		t.Errorf("%d statements are news", news)
	}
	if v := s.verify(); !v.Equal() {
		t.Errorf("verify: %+v", v)
	}
}

// Verify finds whatever is changed in a table behind its back, names the table
// and the row, and nothing else.
func TestVerifyFindsDamage(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.send(shop()...)
	// A tablet that two users share is a conflict; who it is stays with the first.
	s.send(sent{id: "i2", kind: domain.Identify, user: "43", anon: "v1", at: day0 - domain.Day})
	// One row of each table of points and satisfaction at least.
	s.send(
		sent{id: "s1", kind: domain.Track, name: "Survey Sent", user: "42", at: day0 - 3, properties: `{"survey_id":"x","kind":"nps"}`},
		sent{id: "s2", kind: domain.Track, name: "Survey Answered", user: "42", at: day0 - 2, properties: `{"survey_id":"x","kind":"nps","score":9}`},
		sent{id: "s3", kind: domain.Track, name: "Complaint Opened", user: "42", at: day0 - 1, properties: `{"complaint_id":"c1","comment":"late"}`},
	)
	one := func(query string) string {
		t.Helper()
		rows := s.rows(query)
		if len(rows) != 1 {
			t.Fatalf("%s: %v, want one row", query, rows)
		}
		return rows[0]
	}
	complaint := one("SELECT event_id AS x FROM feedback WHERE act = 'complaint_opened'")
	order := one("SELECT event_id AS x FROM touchpoints WHERE order_id = 'o1'")
	ada := one("SELECT customer_id AS x FROM customers WHERE stage = 'repeat'")
	email := one("SELECT subject_id AS x FROM subjects WHERE subject = 'email:ada@example.com'")
	conflict := one("SELECT concat(toString(event_id), ' ', toString(other_id)) AS x FROM identity_conflicts WHERE subject = 'user:43' AND other = 'anon:v1'")
	other := domain.EventID("test", "never sent").String()
	type damage struct {
		name string
		do   string // {g} is the generation
		key  string
	}
	kinds := map[string][3]damage{
		"touchpoints": {
			{"changed", "ALTER TABLE touchpoints_{g} UPDATE amount = 31 WHERE order_id = 'o1'", order},
			{"missing", "ALTER TABLE touchpoints_{g} DELETE WHERE order_id = 'o1'", order},
			{"more", "INSERT INTO touchpoints_{g} SELECT * REPLACE (toUUID('" + other + "') AS event_id) FROM touchpoints_{g} WHERE order_id = 'o1'", other},
		},
		"customers": {
			{"changed", "ALTER TABLE customers_{g} UPDATE stage = 'lost' WHERE stage = 'repeat'", ada},
			{"missing", "ALTER TABLE customers_{g} DELETE WHERE stage = 'repeat'", ada},
			{"more", "INSERT INTO customers_{g} SELECT * REPLACE (toUUID('" + other + "') AS customer_id) FROM customers_{g} WHERE stage = 'repeat'", other},
		},
		"stage_transitions": {
			{"changed", "ALTER TABLE stage_transitions_{g} UPDATE reason = 'for fun' WHERE to_stage = 'repeat'", ada + " 0000000004"},
			{"missing", "ALTER TABLE stage_transitions_{g} DELETE WHERE to_stage = 'repeat'", ada + " 0000000004"},
			{"more", "INSERT INTO stage_transitions_{g} SELECT * REPLACE (5 AS seq) FROM stage_transitions_{g} WHERE to_stage = 'repeat'", ada + " 0000000005"},
		},
		"subjects": {
			{"changed", "ALTER TABLE subjects_{g} UPDATE customer_id = toUUID('" + other + "') WHERE kind = 'email'", email},
			{"missing", "ALTER TABLE subjects_{g} DELETE WHERE kind = 'email'", email},
			{"more", "INSERT INTO subjects_{g} SELECT * REPLACE (toUUID('" + other + "') AS subject_id, 7 AS subject_no) FROM subjects_{g} WHERE kind = 'email'", other},
		},
		"identity_conflicts": {
			{"changed", "ALTER TABLE identity_conflicts_{g} UPDATE status = 'kept_apart' WHERE 1", conflict},
			{"missing", "ALTER TABLE identity_conflicts_{g} DELETE WHERE 1", conflict},
			{"more", "INSERT INTO identity_conflicts_{g} SELECT * REPLACE (toUUID('" + other + "') AS event_id) FROM identity_conflicts_{g}", other + strings.TrimPrefix(conflict, conflict[:36])},
		},
		"loyalty_status": {
			{"changed", "ALTER TABLE loyalty_status_{g} UPDATE earned = 7 WHERE customer_id = toUUID('" + ada + "')", ada + " default"},
			{"missing", "ALTER TABLE loyalty_status_{g} DELETE WHERE customer_id = toUUID('" + ada + "')", ada + " default"},
			{"more", "INSERT INTO loyalty_status_{g} SELECT * REPLACE (toUUID('" + other + "') AS customer_id) FROM (SELECT * FROM loyalty_status_{g} WHERE customer_id = toUUID('" + ada + "'))", other + " default"},
		},
		"loyalty_ledger": {
			{"changed", "ALTER TABLE loyalty_ledger_{g} UPDATE note = 'for fun' WHERE customer_id = toUUID('" + ada + "') AND seq = 1", ada + " default 0000000001"},
			{"missing", "ALTER TABLE loyalty_ledger_{g} DELETE WHERE customer_id = toUUID('" + ada + "') AND seq = 1", ada + " default 0000000001"},
			{"more", "INSERT INTO loyalty_ledger_{g} SELECT * REPLACE (9 AS seq) FROM (SELECT * FROM loyalty_ledger_{g} WHERE customer_id = toUUID('" + ada + "') AND seq = 1)", ada + " default 0000000009"},
		},
		"tier_transitions": {
			{"changed", "ALTER TABLE tier_transitions_{g} UPDATE to_tier = 'gold' WHERE customer_id = toUUID('" + ada + "') AND seq = 1", ada + " default 0000000001"},
			{"missing", "ALTER TABLE tier_transitions_{g} DELETE WHERE customer_id = toUUID('" + ada + "') AND seq = 1", ada + " default 0000000001"},
			{"more", "INSERT INTO tier_transitions_{g} SELECT * REPLACE (9 AS seq) FROM (SELECT * FROM tier_transitions_{g} WHERE customer_id = toUUID('" + ada + "') AND seq = 1)", ada + " default 0000000009"},
		},
		"satisfaction": {
			{"changed", "ALTER TABLE satisfaction_{g} UPDATE open_complaints = 0 WHERE customer_id = toUUID('" + ada + "')", ada},
			{"missing", "ALTER TABLE satisfaction_{g} DELETE WHERE customer_id = toUUID('" + ada + "')", ada},
			{"more", "INSERT INTO satisfaction_{g} SELECT * REPLACE (toUUID('" + other + "') AS customer_id) FROM (SELECT * FROM satisfaction_{g} WHERE customer_id = toUUID('" + ada + "'))", other},
		},
		"satisfaction_transitions": {
			{"changed", "ALTER TABLE satisfaction_transitions_{g} UPDATE to_status = 'neutral' WHERE customer_id = toUUID('" + ada + "') AND seq = 1", ada + " 0000000001"},
			{"missing", "ALTER TABLE satisfaction_transitions_{g} DELETE WHERE customer_id = toUUID('" + ada + "') AND seq = 1", ada + " 0000000001"},
			{"more", "INSERT INTO satisfaction_transitions_{g} SELECT * REPLACE (9 AS seq) FROM (SELECT * FROM satisfaction_transitions_{g} WHERE customer_id = toUUID('" + ada + "') AND seq = 1)", ada + " 0000000009"},
		},
		"cases": {
			{"changed", "ALTER TABLE cases_{g} UPDATE open = false WHERE customer_id = toUUID('" + ada + "') AND seq = 1", ada + " 0000000001"},
			{"missing", "ALTER TABLE cases_{g} DELETE WHERE customer_id = toUUID('" + ada + "') AND seq = 1", ada + " 0000000001"},
			{"more", "INSERT INTO cases_{g} SELECT * REPLACE (9 AS seq) FROM (SELECT * FROM cases_{g} WHERE customer_id = toUUID('" + ada + "') AND seq = 1)", ada + " 0000000009"},
		},
		"surveys": {
			{"changed", "ALTER TABLE surveys_{g} UPDATE answer_id = NULL WHERE customer_id = toUUID('" + ada + "') AND seq = 1", ada + " 0000000001"},
			{"missing", "ALTER TABLE surveys_{g} DELETE WHERE customer_id = toUUID('" + ada + "') AND seq = 1", ada + " 0000000001"},
			{"more", "INSERT INTO surveys_{g} SELECT * REPLACE (9 AS seq) FROM (SELECT * FROM surveys_{g} WHERE customer_id = toUUID('" + ada + "') AND seq = 1)", ada + " 0000000009"},
		},
		"feedback": {
			{"changed", "ALTER TABLE feedback_{g} UPDATE comment = 'on time' WHERE act = 'complaint_opened'", complaint},
			{"missing", "ALTER TABLE feedback_{g} DELETE WHERE act = 'complaint_opened'", complaint},
			{"more", "INSERT INTO feedback_{g} SELECT * REPLACE (toUUID('" + other + "') AS event_id) FROM (SELECT * FROM feedback_{g} WHERE act = 'complaint_opened')", other},
		},
	}
	for i := range 3 {
		if v := s.verify(); !v.Equal() {
			t.Fatalf("before any damage: %+v", v)
		}
		active, err := s.db.Active(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for table, kind := range kinds {
			do := strings.ReplaceAll(kind[i].do, "{g}", active.String())
			if strings.HasPrefix(do, "ALTER") {
				do += " SETTINGS mutations_sync = 2"
			}
			if err := s.db.Exec(t.Context(), do); err != nil {
				t.Fatalf("%s %s: %v", table, kind[i].name, err)
			}
		}
		v := s.verify()
		for table, kind := range kinds {
			var found []string
			for _, d := range v.Differences {
				if d.Table == table {
					found = append(found, d.Key)
				}
			}
			if v.Different[table] != 1 || !slices.Equal(found, []string{kind[i].key}) {
				t.Errorf("a row of %s is %s: %d differences, %v, want %s", table, kind[i].name, v.Different[table], found, kind[i].key)
			}
		}
		if i < 2 {
			if err := s.views.Rebuild(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			s.until("the rebuilt views", func() bool { return s.views.Status().LagEvents == 0 })
		}
	}
	// A rebuild mends it, and says nothing again.
	head, err := s.store.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.views.Rebuild(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	s.until("the rebuilt views", func() bool { return s.views.Status().LagEvents == 0 })
	if v := s.verify(); !v.Equal() {
		t.Errorf("after the rebuild: %+v", v)
	}
	after, err := s.store.Head(t.Context())
	if err != nil || after != head {
		t.Errorf("the log grew from %d to %d: %v", head, after, err)
	}
	// It goes on.
	s.send(bought("o3", "42", day0, 1))
	if c := s.customer("user:42", At{}); c.Purchases != 3 {
		t.Errorf("after the rebuild: %+v", c)
	}
}

// A policy that is in force already is not applied again, whatever its names.
func TestPolicyInForce(t *testing.T) {
	var c clock
	c.set(day0)
	store := openStore(t, &c)
	defer func() { _ = store.Close() }()
	p := policy.Default()
	p.Identity.Nobody = []string{"<till & \u2028 counter>"}
	p.Events = append([]policy.Mapping{{Name: "R&D <Demo>", Meaning: policy.Lead}}, p.Events...)
	for i, want := range []bool{true, false, false} {
		version, applied, err := ApplyPolicy(t.Context(), store, p, "text")
		if err != nil || version != 1 || applied != want {
			t.Errorf("time %d: version %d, applied %t, %v", i+1, version, applied, err)
		}
	}
	all, err := readPolicies(t.Context(), store)
	if err != nil || len(all) != 1 {
		t.Fatalf("%d policies, %v", len(all), err)
	}
	if rule := all[0].compiled.Classify(domain.Track, "test", "R&D <Demo>"); rule.Meaning != policy.Lead {
		t.Errorf("the name came back otherwise: %+v", rule)
	}
	p.Identity.Nobody = nil
	if version, applied, err := ApplyPolicy(t.Context(), store, p, ""); err != nil || version != 2 || !applied {
		t.Errorf("another policy: version %d, applied %t, %v", version, applied, err)
	}
}

// A new policy builds new views beside the old; at the switch what differs is
// withdrawn and restated, as no news.
func TestNewPolicy(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.send(shop()...)
	s.send(bought("o3", "7", day0, 5))
	s.stop()
	p := policy.Default()
	p.Lifecycle.LoyalPurchases = 2
	if v := s.apply(p); v != 2 {
		t.Fatalf("version %d", v)
	}
	s.start()
	s.until("the new policy", func() bool { return s.views.Status().PolicyVersion == 2 })
	if c := s.customer("user:42", At{}); c.Stage != "loyal" {
		t.Errorf("under the new policy: %+v", c)
	}
	s.until("the statements", func() bool {
		_, ok := statementTo(t, s, "loyal")
		return ok
	})
	if st, _ := statementTo(t, s, "loyal"); st.News || st.PolicyVersion != 2 {
		t.Errorf("restated: %+v", st)
	}
	if v := s.verify(); !v.Equal() || v.Policy != 2 {
		t.Errorf("verify: %+v", v)
	}
	if got := s.rows("SELECT DISTINCT policy_version AS x FROM stage_transitions"); len(got) != 1 || got[0] != "2" {
		t.Errorf("policy versions %v", got)
	}
	// The old tables are gone.
	s.until("one generation", func() bool {
		g, err := s.db.Generations(t.Context())
		return err == nil && len(g) == 1
	})
}

func statementTo(t *testing.T, s *site, to string) (found Statement, ok bool) {
	t.Helper()
	for e, err := range s.store.ReadAll(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Type != domain.TypeStageEntered {
			continue
		}
		var st Statement
		if err := json.Unmarshal(e.Data, &st); err != nil {
			t.Fatal(err)
		}
		if st.To == to {
			found, ok = st, true
		}
	}
	return found, ok
}

// Without the state, and without the tables, the views are built anew and say
// nothing again.
func TestLostViews(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.send(shop()...)
	want := s.customer("user:42", At{})
	head, err := s.store.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.stop()
	s.dir = t.TempDir()
	s.start()
	s.until("the views", func() bool { return s.views.Status().Ready })
	s.wait(head)
	if got := s.customer("user:42", At{}); got.ID != want.ID || got.Stage != want.Stage {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if v := s.verify(); !v.Equal() {
		t.Errorf("verify: %+v", v)
	}
	if after, err := s.store.Head(t.Context()); err != nil || after != head {
		t.Errorf("the log grew from %d to %d: %v", head, after, err)
	}
}

// Rebuilding and verifying while messages come loses none and finds nothing
// wrong.
func TestRebuildAndVerifyUnderLoad(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	stop := make(chan struct{})
	sent := make(chan int)
	go func() {
		n := 0
		defer func() { sent <- n }()
		for {
			select {
			case <-stop:
				return
			default:
			}
			parts := make([]eventstore.Append, 20)
			for i := range parts {
				stream, e := bought(fmt.Sprint("m", n), fmt.Sprint(n%50), day0-domain.Millis(n), 1).event()
				parts[i] = eventstore.Append{Stream: stream, Events: []eventstore.NewEvent{e}}
				n++
			}
			r, err := s.store.AppendMany(context.Background(), parts)
			if err == nil && n%1000 == 0 {
				err = s.views.WaitFor(context.Background(), r[0].Position)
			}
			if err != nil {
				t.Error(err)
				return
			}
		}
	}()
	for i := range 4 {
		if i%2 == 0 {
			if err := s.views.Rebuild(t.Context(), nil); err != nil {
				t.Error(err)
			}
			continue
		}
		if v := s.verify(); !v.Equal() {
			t.Errorf("verify: %+v", v)
		}
	}
	close(stop)
	n := <-sent
	head, err := s.store.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.wait(head)
	if got := s.rows("SELECT count() AS x FROM touchpoints"); got[0] != fmt.Sprint(n) {
		t.Errorf("%s touchpoints, %d were sent", got, n)
	}
	if v := s.verify(); !v.Equal() {
		t.Errorf("verify: %+v", v)
	}
}

// TestAfterAStop has questions, waits and commands say that the views are closed.
func TestAfterAStop(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.send(buy("o", "ann", day0, "300"))
	s.stop()
	_, _, err := s.views.Customers(t.Context(), "", 10, "", At{})
	_, customer := s.views.Customer(t.Context(), "user:ann", At{})
	_, stages := s.views.Stages(t.Context(), At{})
	_, command := s.do(redeem("user:ann", 10, "k"))
	wait := s.views.WaitFor(t.Context(), 1_000_000)
	for i, err := range []error{err, customer, stages, command, wait} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%d: %v", i, err)
		}
	}
}

// TestTheOperationPage holds docs/operation.md to what verify compares and what
// statements there are.
func TestTheOperationPage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/operation.md")
	if err != nil {
		t.Fatal(err)
	}
	s := newSite(t)
	s.send(buy("o", "ann", day0, "300"))
	r, err := s.views.Verify(t.Context(), 10, nil)
	if err != nil {
		t.Fatal(err)
	}
	names := slices.Collect(maps.Keys(r.Rows))
	names = slices.DeleteFunc(names, func(table string) bool { return table == statementsTable })
	names = append(append(names, entered[:]...), withdrawn[:]...)
	names = append(names, domain.TypeLoyaltyCommand, domain.TypeLoyaltyGuard, domain.TypeFeedbackHandled, domain.TypeIdentityMerged, domain.TypeIdentitySplit,
		domain.StreamPolicy, domain.StreamPolicyFile, domain.StreamIdentity, domain.StreamWriteKeys, domain.StreamRejects)
	for _, name := range names {
		if !strings.Contains(string(page), "`"+name+"`") {
			t.Errorf("it does not name %s", name)
		}
	}
	if len(r.Rows) < 10 {
		t.Errorf("too little was compared: %v", r.Rows)
	}
}
