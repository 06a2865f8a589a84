package warehouse_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sojourn/warehouse"
	"sojourn/warehouse/warehousetest"
)

// three asks three views that are replaced early, in between and last.
const three = "SELECT (SELECT count() FROM customers), (SELECT count() FROM identity_conflicts), (SELECT count() FROM touchpoints)"

// filled makes generations with as many rows in each table of three as their number.
func filled(t *testing.T, db *warehouse.DB, generations ...warehouse.Generation) {
	t.Helper()
	ctx := t.Context()
	for _, g := range generations {
		must(t, db.CreateGeneration(ctx, g))
		must(t, db.WriteTouchpoints(ctx, g, block(0, int(g), 1)))
		for i := range int(g) {
			must(t, db.WriteCustomers(ctx, g, []warehouse.Customer{customer(i, warehouse.Version{})}))
			must(t, db.WriteConflicts(ctx, g, []warehouse.Conflict{conflict(i, "open", warehouse.Version{})}))
		}
	}
}

// asking asks the three views over and over until the test calls stop, and fails where
// an answer is of two generations. It counts the answers of each.
func asking(t *testing.T, db *warehouse.DB) (counts *[5]atomic.Int64, stop func()) {
	t.Helper()
	counts = &[5]atomic.Int64{}
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() {
		tick := time.NewTicker(5 * time.Millisecond) // the test is not alone
		defer tick.Stop()
		for ; ctx.Err() == nil; <-tick.C {
			var a, b, c uint64
			if err := db.QueryRow(context.Background(), three).Scan(&a, &b, &c); err != nil || a != b || b != c || a >= uint64(len(counts)) {
				t.Errorf("the views have %d, %d and %d rows: %v", a, b, c, err)
				return
			}
			counts[a].Add(1)
		}
	})
	return counts, func() {
		cancel()
		group.Wait()
	}
}

// both fails where g1 or g2 was not among the answers.
func both(t *testing.T, counts *[5]atomic.Int64) {
	t.Helper()
	if counts[1].Load() == 0 || counts[2].Load() == 0 {
		t.Errorf("%d answers of g1, %d of g2", counts[1].Load(), counts[2].Load())
	}
}

// A statement that reads several views reads one generation, whenever it comes, where
// nothing holds statements back.
func TestSwitch(t *testing.T) {
	t.Parallel()
	t.Run("on a server", func(t *testing.T) { testSwitch(t, warehousetest.Open(t)) })
	t.Run("on a cluster", func(t *testing.T) { testSwitch(t, warehousetest.OpenCluster(t, warehousetest.Cluster)) })
}

func testSwitch(t *testing.T, db *warehouse.DB) {
	t.Parallel()
	ctx := t.Context()
	filled(t, db, 1, 2)
	must(t, db.Activate(ctx, 1))
	counts, stop := asking(t, db)
	called := 0
	must(t, db.Switch(ctx, 2, func() { called++ }))
	if called != 1 {
		t.Errorf("told %d times of the switch", called)
	}
	if active, err := db.Active(ctx); err != nil || active != 2 {
		t.Errorf("active is %v, %v", active, err)
	}
	stop()
	both(t, counts)
	must(t, db.DropGeneration(ctx, 1))
	if got := text(t, db, "SELECT toString(tuple(*)) FROM ("+three+")"); !slices.Equal(got, []string{"(2,2,2)"}) {
		t.Errorf("at the end the views have %v", got)
	}
}

// Several processes switch at an instant that they have agreed on; the one that comes
// last changes nothing any more.
func TestSwitchAt(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := warehousetest.Open(t)
	filled(t, db, 1, 2)
	must(t, db.Activate(ctx, 1))
	_, stop := asking(t, db)
	defer stop()
	since := time.Now().Add(2 * time.Second).Truncate(time.Second)
	var group sync.WaitGroup
	for range 3 {
		group.Go(func() { must(t, db.SwitchAt(ctx, 2, since)) })
	}
	group.Wait()
	if time.Now().Before(since) {
		t.Error("switched too soon")
	}
	must(t, db.SwitchAt(ctx, 2, since))
	if got := text(t, db, "SELECT comment FROM system.tables WHERE database = 'sojourn' AND engine = 'View' AND name != 'active_generation' GROUP BY comment"); !slices.Equal(got, []string{"g2"}) {
		t.Errorf("the views are of %v", got)
	}
}

// What was prepared shows nothing yet, and what it was prepared for can be given up.
func TestPrepareIsUndone(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := warehousetest.Open(t)
	filled(t, db, 1, 2, 3)
	must(t, db.Prepare(ctx, 2)) // nothing is active: nothing to prepare
	must(t, db.Activate(ctx, 1))
	for _, next := range []warehouse.Generation{2, 3} {
		must(t, db.Prepare(ctx, next))
		must(t, db.Prepare(ctx, next))
		if active, err := db.Active(ctx); err != nil || active != 1 {
			t.Errorf("active is %v, %v", active, err)
		}
		if got := text(t, db, "SELECT DISTINCT toString(n) FROM (SELECT arrayJoin([(SELECT count() FROM customers), (SELECT count() FROM touchpoints)]) AS n)"); !slices.Equal(got, []string{"1"}) {
			t.Errorf("prepared for %s the views have %v", next, got)
		}
	}
	must(t, db.DropGeneration(ctx, 3))
	if left := text(t, db, "SELECT name FROM system.tables WHERE database = 'sojourn' AND create_table_query LIKE '%\\_g3%'"); len(left) > 0 {
		t.Errorf("of g3 there is left %v", left)
	}
	// A switch that was cut short after its instant is finished by a start.
	must(t, db.Prepare(ctx, 2))
	must(t, db.Exec(ctx, "CREATE OR REPLACE VIEW active_generation AS SELECT toUInt32(2) AS generation COMMENT 'g2'"))
	if got := fmt.Sprint(value[uint64](t, db, "SELECT count() FROM surveys"), value[uint64](t, db, "SELECT count() FROM customers")); got != "0 2" {
		t.Errorf("the views have %s", got)
	}
	must(t, db.Activate(ctx, 2))
	must(t, db.DropGeneration(ctx, 1))
	if n := value[uint64](t, db, "SELECT count() FROM touchpoints"); n != 2 {
		t.Errorf("%d touchpoints", n)
	}
}

// Who comes too late for the instant that was agreed, switches all views at another.
func TestSwitchAtTooLate(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := warehousetest.Open(t)
	filled(t, db, 1, 2, 3)
	must(t, db.Activate(ctx, 1))
	counts, stop := asking(t, db)
	must(t, db.SwitchAt(ctx, 2, time.Now().Add(-5*time.Second).Truncate(time.Second)))
	stop()
	if counts[1].Load() == 0 {
		t.Error("nobody asked before the switch")
	}
	if n := value[uint64](t, db, "SELECT count() FROM customers"); n != 2 {
		t.Errorf("%d customers", n)
	}
	// An instant that is hours away is one by a clock that is wrong.
	must(t, db.SwitchAt(ctx, 3, time.Now().Add(time.Hour)))
	if n := value[uint64](t, db, "SELECT count() FROM customers"); n != 3 {
		t.Errorf("%d customers", n)
	}
	// One that was held up switches nothing back.
	must(t, db.SwitchAt(ctx, 2, time.Time{}))
	if active, err := db.Active(ctx); err != nil || active != 3 {
		t.Errorf("active is %v, %v", active, err)
	}
	if got := text(t, db, "SELECT toString(tuple(*)) FROM ("+three+")"); !slices.Equal(got, []string{"(3,3,3)"}) {
		t.Errorf("the views have %v", got)
	}
}

// A switch away from tables that are not all there, or cannot be read, is a switch.
func TestSwitchFromDamagedTables(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := warehousetest.Open(t)
	filled(t, db, 1, 2, 3)
	must(t, db.Activate(ctx, 1))
	must(t, db.Exec(ctx, "DROP TABLE segment_stays_g1 SYNC"))
	counts, stop := asking(t, db)
	must(t, db.Switch(ctx, 2, func() {}))
	stop()
	both(t, counts)
	must(t, db.Exec(ctx, "DROP TABLE surveys_g2 SYNC"))
	must(t, db.Exec(ctx, "CREATE TABLE surveys_g2 (x UInt8) ENGINE = Memory"))
	must(t, db.Switch(ctx, 3, func() {}))
	if got := text(t, db, "SELECT toString(tuple(*)) FROM ("+three+")"); !slices.Equal(got, []string{"(3,3,3)"}) {
		t.Errorf("the views have %v", got)
	}
}

// Whatever view reads a generation that is dropped, reads the active one then.
func TestDropReadsAlone(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := warehousetest.Open(t)
	filled(t, db, 1, 2)
	must(t, db.Activate(ctx, 1))
	var before string
	must(t, db.QueryRow(ctx, "SELECT create_table_query FROM system.tables WHERE database = 'sojourn' AND name = 'customers'").Scan(&before))
	must(t, db.Switch(ctx, 2, func() {}))
	must(t, db.Exec(ctx, strings.Replace(before, "CREATE VIEW", "CREATE OR REPLACE VIEW", 1)))
	if n := value[uint64](t, db, "SELECT count() FROM customers"); n != 1 {
		t.Fatalf("%d customers", n)
	}
	must(t, db.DropGeneration(ctx, 1))
	if n := value[uint64](t, db, "SELECT count() FROM customers"); n != 2 {
		t.Errorf("%d customers", n)
	}
}

// A start in the second before a switch is one of the switch.
func TestActivateFinishesSwitch(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := warehousetest.Open(t)
	filled(t, db, 1, 2)
	must(t, db.Activate(ctx, 1))
	must(t, db.Prepare(ctx, 2))
	must(t, db.PointAt(ctx, 2, time.Now().Add(2*time.Second).Truncate(time.Second)))
	counts, stop := asking(t, db)
	must(t, db.Activate(ctx, 2))
	// Back, as where the program had not noted it yet.
	must(t, db.Activate(ctx, 1))
	stop()
	both(t, counts)
	if n := value[uint64](t, db, "SELECT count() FROM touchpoints"); n != 1 {
		t.Errorf("%d touchpoints", n)
	}
}
