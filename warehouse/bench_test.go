package warehouse_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"sojourn/warehouse"
	"sojourn/warehouse/chdb/chdbtest"
	"sojourn/warehouse/warehousetest"
)

// BenchmarkWarehouse prints what docs/performance.md cites of this package:
// SOJOURN_BENCH_ROWS rows (a million unless told) written, trimmed and moved.
func BenchmarkWarehouse(b *testing.B) {
	rows := 1_000_000
	if s := os.Getenv("SOJOURN_BENCH_ROWS"); s != "" {
		if _, err := fmt.Sscan(s, &rows); err != nil {
			b.Fatal(err)
		}
	}
	ctx := context.Background()
	e := chdbtest.Start(b)
	db := warehousetest.OpenSocket(b, e.Socket())
	must(b, db.CreateGeneration(ctx, 1))
	must(b, db.Activate(ctx, 1))
	customers := max(rows/10, 1)
	var blocks []*warehouse.TouchpointBlock
	for n := 0; n < rows; n += warehouse.MaxRowsPerInsert {
		blocks = append(blocks, block(n, min(n+warehouse.MaxRowsPerInsert, rows), customers))
	}
	b.ResetTimer()
	began := time.Now()
	for _, blk := range blocks {
		must(b, db.WriteTouchpoints(ctx, 1, blk))
	}
	took := time.Since(began)
	b.ReportMetric(float64(rows)/took.Seconds(), "touchpoints/s")
	step := func(name string, f func()) {
		began := time.Now()
		f()
		b.ReportMetric(float64(time.Since(began).Microseconds())/1000, name+"-ms")
	}
	step("trim-nothing", func() { _, err := db.TrimTouchpoints(ctx, 1, uint64(rows)); must(b, err) })
	step("trim-100k", func() { _, err := db.TrimTouchpoints(ctx, 1, uint64(rows-100_000)); must(b, err) })
	var moved []warehouse.Subject
	for n := range customers / 10 {
		moved = append(moved, warehouse.Subject{SubjectID: id('s', n), CustomerID: id('s', n+1), Version: warehouse.Version{Position: 1}})
	}
	step("write-moved", func() { must(b, db.WriteSubjects(ctx, 1, moved)) })
	step("reload", func() { must(b, db.ReloadMoved(ctx, 1)) })
	var all []warehouse.Customer
	for n := range customers {
		all = append(all, customer(n, warehouse.Version{Position: 9}))
	}
	step("write-customers", func() { must(b, db.WriteCustomers(ctx, 1, all)) })
	step("one-customer", func() {
		value[string](b, db, "SELECT stage FROM customers WHERE customer_id = {c:UUID}", warehouse.Named("c", id('s', 1)))
	})
	step("stage-count", func() { value[uint64](b, db, "SELECT count() FROM customers WHERE stage = 'loyal'") })
	step("customer-touchpoints", func() {
		value[uint64](b, db, "SELECT count() FROM touchpoints WHERE customer_id = {c:UUID}", warehouse.Named("c", id('s', 1)))
	})
	step("subject-touchpoints", func() { value[uint64](b, db, "SELECT count() FROM touchpoints WHERE subject = 'user:1'") })
}
