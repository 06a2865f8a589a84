// Package warehousetest opens databases for tests, on an engine of their own.
package warehousetest

import (
	"context"
	"testing"

	"sojourn/warehouse"
	"sojourn/warehouse/chdb/chdbtest"
)

// Open starts an embedded engine and gives a migrated database on it, both
// closed with the test. The package's TestMain calls chdb.ChildMain first.
func Open(t testing.TB) *warehouse.DB {
	t.Helper()
	return OpenSocket(t, chdbtest.Start(t).Socket())
}

// OpenSocket gives a migrated database on a running engine.
func OpenSocket(t testing.TB, socket string) *warehouse.DB {
	t.Helper()
	ctx := context.Background()
	db, err := warehouse.Open(ctx, warehouse.Config{Socket: socket})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if err := db.Migrate(ctx); err != nil {
		t.Fatal(err)
	}
	return db
}
