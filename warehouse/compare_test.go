package warehouse_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"sojourn/warehouse"
	"sojourn/warehouse/warehousetest"
)

// fill writes the same small shop into a generation.
func fill(t testing.TB, db *warehouse.DB, g warehouse.Generation, v warehouse.Version) {
	t.Helper()
	ctx := context.Background()
	must(t, db.CreateGeneration(ctx, g))
	must(t, db.WriteTouchpoints(ctx, g, block(0, 1000, 50)))
	var customers []warehouse.Customer
	var transitions []warehouse.Transition
	for n := range 50 {
		customers = append(customers, customer(n, v))
		transitions = append(transitions, warehouse.Transition{CustomerID: id('s', n), Seq: 1, To: "visitor", At: start, Version: v})
	}
	must(t, db.WriteCustomers(ctx, g, customers))
	must(t, db.WriteTransitions(ctx, g, transitions))
	must(t, db.WriteAccounts(ctx, g, []warehouse.Account{{AccountID: id('a', 1), GroupID: "acme", Traits: []byte("{}"), Version: v}}))
	must(t, db.WriteAccountMembers(ctx, g, []warehouse.AccountMember{
		{AccountID: id('a', 1), SubjectID: id('s', 5), Since: start, Version: v}, {AccountID: id('a', 1), SubjectID: id('s', 30), Since: start, Version: v},
	}))
	must(t, db.WriteSubjects(ctx, g, []warehouse.Subject{{SubjectID: id('s', 1), Subject: "user:1", CustomerID: id('s', 2), Version: v}}))
	must(t, db.WriteConflicts(ctx, g, []warehouse.Conflict{conflict(1, "open", v), conflict(2, "kept_apart", v), conflict(3, "open", v)}))
	must(t, db.WriteLoyaltyStatus(ctx, g, []warehouse.LoyaltyStatus{status(1, "a", v), status(1, "b", v)}))
	earned := movement(1, "a", 1, v)
	earned.Kind, earned.Points, earned.Available = "earned", 300, 300
	must(t, db.WriteLoyaltyLedger(ctx, g, []warehouse.LoyaltyMovement{earned, movement(1, "a", 2, v)}))
	must(t, db.WriteTierTransitions(ctx, g, []warehouse.TierChange{tierChange(1, "a", 1, v), tierChange(1, "b", 1, v)}))
	must(t, db.WriteSatisfaction(ctx, g, []warehouse.Satisfaction{satisfied(1, v), satisfied(2, v)}))
	must(t, db.WriteStatusTransitions(ctx, g, []warehouse.StatusChange{statusChange(1, 1, v), statusChange(1, 2, v)}))
	must(t, db.WriteCases(ctx, g, []warehouse.Case{ticket(1, 1, v), ticket(1, 2, v)}))
	must(t, db.WriteSurveys(ctx, g, []warehouse.Survey{survey(1, 1, v), survey(1, 2, v)}))
	must(t, db.WriteFeedback(ctx, g, []warehouse.Feedback{answer(1), answer(2), answer(3)}))
	must(t, db.WriteHandlings(ctx, g, []warehouse.Handling{{EventID: id('e', 1), Revision: 1, Status: "assigned"}}))
}

func TestCompare(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db := warehousetest.Open(t)
	fill(t, db, 1, warehouse.Version{Position: 5, Clock: start})
	fill(t, db, 2, warehouse.Version{Position: 9, Clock: start + 1}) // rows computed later are the same rows
	got, err := db.Compare(ctx, 1, 2, 10)
	must(t, err)
	if !got.Equal() || len(got.Differences) != 0 {
		t.Fatalf("equal generations differ: %+v", got)
	}
	if got.Rows["touchpoints"] != 1000 || got.Rows["customers"] != 50 || got.Rows["stage_transitions"] != 50 || got.Rows["subjects"] != 1 ||
		got.Rows["identity_conflicts"] != 3 || got.Rows["loyalty_ledger"] != 2 || got.Rows["feedback"] != 3 {
		t.Errorf("rows compared: %v", got.Rows)
	}

	// One row more, one changed, one removed, one doubled, one moved.
	must(t, db.WriteTouchpoints(ctx, 2, block(2000, 2001, 50)))
	must(t, db.WriteTouchpoints(ctx, 2, block(7, 8, 50)))
	changed := customer(3, warehouse.Version{Position: 10})
	changed.Stage = "lost"
	removed := customer(4, warehouse.Version{Position: 10})
	removed.Removed = true
	must(t, db.WriteCustomers(ctx, 2, []warehouse.Customer{changed, removed}))
	must(t, db.WriteSubjects(ctx, 2, []warehouse.Subject{{SubjectID: id('s', 30), Subject: "user:30", CustomerID: id('s', 31), Version: warehouse.Version{Position: 1}}}))
	settled := conflict(3, "", warehouse.Version{Position: 10})
	settled.Removed = true
	must(t, db.WriteConflicts(ctx, 2, []warehouse.Conflict{conflict(1, "kept_apart", warehouse.Version{Position: 10}), settled}))
	must(t, db.WriteAccounts(ctx, 2, []warehouse.Account{{AccountID: id('a', 1), GroupID: "acme", Traits: []byte(`{"plan":1}`), Version: warehouse.Version{Position: 10}}}))
	must(t, db.WriteAccountMembers(ctx, 2, []warehouse.AccountMember{{AccountID: id('a', 1), SubjectID: id('s', 5), Since: start - 1, Version: warehouse.Version{Position: 10}}}))
	later := warehouse.Version{Position: 10}
	balance, line, tier := status(1, "b", later), movement(1, "a", 2, later), tierChange(1, "b", 1, later)
	balance.Debt, line.Removed, tier.Until = 4, true, 0
	must(t, db.WriteLoyaltyStatus(ctx, 2, []warehouse.LoyaltyStatus{balance}))
	must(t, db.WriteLoyaltyLedger(ctx, 2, []warehouse.LoyaltyMovement{line}))
	must(t, db.WriteTierTransitions(ctx, 2, []warehouse.TierChange{tier}))
	mood, turn, help := satisfied(2, later), statusChange(1, 2, later), ticket(1, 2, later)
	mood.Known, turn.Removed, help.Response.Took = false, true, 5
	must(t, db.WriteSatisfaction(ctx, 2, []warehouse.Satisfaction{mood}))
	must(t, db.WriteStatusTransitions(ctx, 2, []warehouse.StatusChange{turn}))
	must(t, db.WriteCases(ctx, 2, []warehouse.Case{help}))
	must(t, db.WriteSurveys(ctx, 2, []warehouse.Survey{survey(1, 3, later)}))
	// What a person did about an entry is compared with it, and so is its customer.
	must(t, db.WriteHandlings(ctx, 2, []warehouse.Handling{{EventID: id('e', 1), Revision: 2, Status: "closed"}}))
	must(t, db.WriteSubjects(ctx, 2, []warehouse.Subject{{SubjectID: id('s', 3), Subject: "user:3", CustomerID: id('s', 2), Version: later}}))
	got, err = db.Compare(ctx, 1, 2, 3)
	must(t, err)
	moved := value[uint64](t, db, "SELECT count() FROM touchpoints_g1 WHERE subject IN ('user:3', 'user:30')")
	want := map[string]uint64{
		"touchpoints": 2 + moved, "customers": 2, "stage_transitions": 0, "subjects": 2, "identity_conflicts": 2, "accounts": 1, "account_members": 3,
		"loyalty_status": 1, "loyalty_ledger": 1, "tier_transitions": 1,
		"satisfaction": 1, "satisfaction_transitions": 1, "cases": 1, "surveys": 1, "feedback": 2,
	}
	for table, n := range want {
		if got.Different[table] != n {
			t.Errorf("%s: %d rows differ, want %d", table, got.Different[table], n)
		}
	}
	count := map[string]int{}
	for _, d := range got.Differences {
		count[d.Table]++
		if d.A == d.B {
			t.Errorf("no difference in %+v", d)
		}
	}
	if count["touchpoints"] != 3 || count["customers"] != 2 || count["subjects"] != 2 || count["identity_conflicts"] != 2 {
		t.Errorf("differences: %v, want the first three of a table", count)
	}
	i := slices.IndexFunc(got.Differences, func(d warehouse.Difference) bool { return d.Key == id('s', 3).String() && d.Table == "customers" })
	if i < 0 || !strings.Contains(got.Differences[i].A, `"stage":"loyal"`) || !strings.Contains(got.Differences[i].B, `"stage":"lost"`) ||
		strings.Contains(got.Differences[i].A, "position") {
		t.Errorf("the changed customer is not shown: %+v", got.Differences)
	}
	i = slices.IndexFunc(got.Differences, func(d warehouse.Difference) bool { return d.Key == id('s', 4).String() })
	if i < 0 || got.Differences[i].A == "" || got.Differences[i].B != "" {
		t.Errorf("the removed customer is not shown: %+v", got.Differences)
	}
}

func BenchmarkCompare(b *testing.B) {
	ctx := context.Background()
	db := warehousetest.Open(b)
	for g := warehouse.Generation(1); g <= 2; g++ {
		must(b, db.CreateGeneration(ctx, g))
		for n := 0; n < 1_000_000; n += warehouse.MaxRowsPerInsert {
			must(b, db.WriteTouchpoints(ctx, g, block(n, n+warehouse.MaxRowsPerInsert, 100_000)))
		}
	}
	b.ResetTimer()
	for b.Loop() {
		got, err := db.Compare(ctx, 1, 2, 10)
		must(b, err)
		if !got.Equal() {
			b.Fatal("equal generations differ")
		}
	}
	must(b, db.WriteSubjects(ctx, 2, []warehouse.Subject{{SubjectID: id('s', 30), CustomerID: id('s', 31)}}))
	began := time.Now()
	_, err := db.Compare(ctx, 1, 2, 10)
	must(b, err)
	b.ReportMetric(time.Since(began).Seconds(), "s-with-differences")
}
