package warehouse_test

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"

	"sojourn/warehouse"
	"sojourn/warehouse/warehousetest"
)

// TestTheEngineParsesEveryStatementOfACluster reads the goldens of both modes.
func TestTheEngineParsesEveryStatementOfACluster(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db := warehousetest.Open(t)
	for _, file := range []string{"tables.sql", "views.sql", "cluster.sql"} {
		all, err := os.ReadFile("testdata/" + file)
		must(t, err)
		n := 0
		for stmt := range strings.SplitSeq(string(all), ";\n") {
			if stmt = strings.TrimSpace(stmt); stmt == "" {
				continue
			}
			n++
			if err := db.Exec(ctx, "EXPLAIN AST "+stmt); err != nil {
				t.Errorf("%s: %v\n%s", file, err, stmt)
			}
		}
		if n < 17 {
			t.Errorf("%s has %d statements", file, n)
		}
	}
	if err := db.Exec(ctx, "EXPLAIN AST CREATE TABLE x ON CLUSTER `main` (n UInt64) ENGINE = ReplicatedMergeTree('a' 'b')"); err == nil {
		t.Error("the engine parses what makes no sense")
	}
}

// TestTheDocumentedUsersParse reads the SQL of docs/clickhouse.md, which an embedded
// engine cannot run, and looks that its settings exist.
func TestTheDocumentedUsersParse(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db := warehousetest.Open(t)
	page, err := os.ReadFile("../docs/clickhouse.md")
	must(t, err)
	statements, limits := 0, 0
	for part := range strings.SplitSeq(string(page), "```sql\n") {
		sql, _, found := strings.Cut(part, "\n```")
		if !found || strings.HasPrefix(part, "# ") {
			continue
		}
		for stmt := range strings.SplitSeq(sql, ";") {
			if stmt = strings.TrimSpace(stmt); stmt == "" {
				continue
			}
			statements++
			if err := db.Exec(ctx, "EXPLAIN AST "+stmt); err != nil {
				t.Errorf("%v\n%s", err, stmt)
			}
			if _, settings, found := strings.Cut(stmt, " SETTINGS\n"); found {
				for line := range strings.Lines(settings) {
					limits++
					name := strings.Fields(line)[0]
					if value[uint64](t, db, "SELECT count() FROM system.settings WHERE name = {n:String}", warehouse.Named("n", name)) != 1 {
						t.Errorf("there is no setting %s", name)
					}
				}
			}
		}
	}
	if statements != 7 || limits != 11 {
		t.Errorf("%d statements, %d limits", statements, limits)
	}
}

// TestACluster writes and reads through the tables of all shards.
func TestACluster(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db := warehousetest.OpenCluster(t, warehousetest.Cluster)
	must(t, db.Migrate(ctx)) // a start repeats it
	fill(t, db, 1, warehouse.Version{Position: 1})
	must(t, db.CreateGeneration(ctx, 1))
	must(t, db.Activate(ctx, 1))
	if g, err := db.Active(ctx); g != 1 || err != nil {
		t.Errorf("active is %v, %v", g, err)
	}
	for query, want := range map[string]uint64{
		"SELECT count() FROM touchpoints_g1_local":                                                1000,
		"SELECT count() FROM touchpoints":                                                         1000,
		"SELECT count() FROM system.tables WHERE database = 'sojourn' AND engine = 'Distributed'": 18,
	} {
		if n := value[uint64](t, db, query); n != want {
			t.Errorf("%s: %d, want %d", query, n, want)
		}
	}
	must(t, db.ReloadMoved(ctx, 1))
	if n := value[uint64](t, db, "SELECT count() FROM touchpoints WHERE subject = 'user:1' AND customer_id = {c:UUID}", warehouse.Named("c", id('s', 2))); n == 0 {
		t.Error("the moved subject's touchpoints are not its customer's")
	}
	// A newer row replaces an older one on its shard, and a removal takes it away.
	before := value[uint64](t, db, "SELECT count() FROM customers")
	gone := customer(1, warehouse.Version{Position: 9})
	gone.Removed = true
	must(t, db.WriteCustomers(ctx, 1, []warehouse.Customer{gone}))
	if n := value[uint64](t, db, "SELECT count() FROM customers"); n != before-1 {
		t.Errorf("%d customers after a removal of one of %d", n, before)
	}
	fill(t, db, 2, warehouse.Version{Position: 1})
	c, err := db.Compare(ctx, 1, 2, 5)
	must(t, err)
	if c.Different["customers"] != 1 || c.Different["touchpoints"] != 0 || c.Rows["touchpoints"] != 1000 {
		t.Errorf("compared: %+v", c)
	}
	if n, err := db.TrimTouchpoints(ctx, 2, 600); n != 400 || err != nil {
		t.Errorf("trimmed %d, %v", n, err)
	}
	if n, err := db.MaxPosition(ctx, 2); n != 600 || err != nil {
		t.Errorf("the last position is %d, %v", n, err)
	}
	must(t, db.DropGeneration(ctx, 2))
	if got, err := db.Generations(ctx); !slices.Equal(got, []warehouse.Generation{1}) || err != nil {
		t.Errorf("generations %v, %v", got, err)
	}
	if n := value[uint64](t, db, "SELECT count() FROM system.tables WHERE name LIKE '%_g2%'"); n != 0 {
		t.Errorf("%d tables are left of a dropped generation", n)
	}
}

// TestAFlushLandsOnce repeats INSERTs of a flush, and trims between two flushes of
// one range, as after the loss of the state.
func TestAFlushLandsOnce(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db := warehousetest.OpenCluster(t, warehousetest.Cluster)
	must(t, db.CreateGeneration(ctx, 1))
	count := func() uint64 { return value[uint64](t, db, "SELECT count() FROM touchpoints_g1") }
	// More than one INSERT, and rows of seven months in each.
	rows := block(0, warehouse.MaxRowsPerInsert+1000, 100)
	for range 3 {
		must(t, db.Flush("0-51000/a").WriteTouchpoints(ctx, 1, rows))
	}
	if n := count(); n != uint64(rows.Len()) {
		t.Errorf("%d rows after three times the same flush, want %d", n, rows.Len())
	}
	_, err := db.TrimTouchpoints(ctx, 1, 0)
	must(t, err)
	must(t, db.Flush("0-51000/b").WriteTouchpoints(ctx, 1, rows))
	if n := count(); n != uint64(rows.Len()) {
		t.Errorf("%d rows after another flush of the range, want %d", n, rows.Len())
	}
}

// TestNoViewIsDeniedOverShards plans every view, and what analysts ask of them, for
// two shards.
func TestNoViewIsDeniedOverShards(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db := warehousetest.OpenCluster(t, warehousetest.Twice)
	fill(t, db, 1, warehouse.Version{Position: 1})
	must(t, db.Activate(ctx, 1))
	// Both shards are this node's one table, which takes the second's share of an
	// INSERT for a repetition of the first's.
	here, all := value[uint64](t, db, "SELECT count() FROM touchpoints_g1_local"), value[uint64](t, db, "SELECT count() FROM touchpoints")
	if here == 0 || here == 1000 || all != 2*here {
		t.Errorf("%d rows here and %d of all shards", here, all)
	}
	views := text(t, db, "SELECT name FROM system.tables WHERE database = 'sojourn' AND engine = 'View' ORDER BY name")
	if len(views) != 25 {
		t.Errorf("views: %v", views)
	}
	queries := []string{
		"SELECT count() FROM touchpoints WHERE customer_id IN (SELECT customer_id FROM customers WHERE stage = 'loyal')",
		"SELECT count() FROM touchpoints AS t JOIN customers AS c ON c.customer_id = t.customer_id",
		"SELECT customer_no, windowFunnel(86400000)(toUInt64(toUnixTimestamp64Milli(occurred_at)), name = 'Product Viewed', name = 'Order Completed') FROM touchpoints GROUP BY customer_no",
	}
	for _, v := range views {
		queries = append(queries, "SELECT * FROM "+v)
	}
	for _, q := range queries {
		if err := db.Exec(ctx, q+" FORMAT Null"); err != nil {
			t.Errorf("%s: %v", q, err)
		}
	}
}
