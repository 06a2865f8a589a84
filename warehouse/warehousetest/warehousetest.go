// Package warehousetest opens databases for tests: on an engine of their own, or on
// a server.
package warehousetest

import (
	"context"
	"crypto/rand"
	"os"
	"strings"
	"testing"

	"sojourn/warehouse"
	"sojourn/warehouse/chdb/chdbtest"
)

// The environment variables that have Open take a ClickHouse server: its DSN, and
// the name of its cluster where it is a node of one.
const (
	ServerEnv  = "SOJOURN_TEST_CLICKHOUSE"
	ClusterEnv = "SOJOURN_TEST_CLICKHOUSE_CLUSTER"
)

// Open gives a migrated database of the test's own, gone with the test: on the
// server that the environment names, else on an embedded engine. The package's
// TestMain calls chdb.ChildMain first.
func Open(t testing.TB) *warehouse.DB {
	t.Helper()
	dsn := os.Getenv(ServerEnv)
	if dsn == "" {
		return OpenSocket(t, chdbtest.Start(t).Socket())
	}
	ctx := context.Background()
	cluster := os.Getenv(ClusterEnv)
	db := open(t, warehouse.Config{DSN: dsn, Cluster: cluster, Database: "sojourn_test_" + strings.ToLower(rand.Text()[:12])})
	t.Cleanup(func() {
		drop := "DROP DATABASE " + db.Database()
		if cluster != "" {
			drop += " ON CLUSTER `" + cluster + "`"
		}
		if err := db.Exec(ctx, drop+" SYNC"); err != nil {
			t.Errorf("drop the test's database: %v", err)
		}
	})
	return db
}

// OpenSocket gives a migrated database on a running engine.
func OpenSocket(t testing.TB, socket string) *warehouse.DB {
	t.Helper()
	return open(t, warehouse.Config{Socket: socket})
}

// OpenCluster gives a migrated database on an embedded engine that is a cluster of
// one node.
func OpenCluster(t testing.TB, cluster string) *warehouse.DB {
	t.Helper()
	return open(t, warehouse.Config{DSN: ClusterDSN(t), Cluster: cluster})
}

func open(t testing.TB, cfg warehouse.Config) *warehouse.DB {
	t.Helper()
	ctx := context.Background()
	db, err := warehouse.Open(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if err := db.Migrate(ctx); err != nil {
		t.Fatal(err)
	}
	return db
}
