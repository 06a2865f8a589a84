package warehouse_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"sojourn/warehouse"
	"sojourn/warehouse/chdb/chdbtest"
	"sojourn/warehouse/warehousetest"
)

// again repeats what a restarting engine makes fail.
func again(t testing.TB, what string, f func() error) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for ; ; <-tick.C {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
	}
}

// TestExactlyOnceAcrossKills kills the engine again and again while a runner
// writes, as projections do: the rows, the customers, then its checkpoint.
func TestExactlyOnceAcrossKills(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	e := chdbtest.Start(t)
	db := warehousetest.OpenSocket(t, e.Socket())
	must(t, db.CreateGeneration(ctx, 1))
	must(t, db.Activate(ctx, 1))

	const rows, batch, kills = 20_000, 1_000, 4
	stop := make(chan struct{})
	var killer sync.WaitGroup
	killer.Go(func() {
		for n := range kills {
			select {
			case <-stop:
				return
			case <-time.After(time.Duration(100+67*n) * time.Millisecond):
			}
			if pid := e.PID(); pid != 0 {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	})
	failures := 0
	for checkpoint := 0; checkpoint < rows; {
		next := checkpoint + batch
		err := db.WriteTouchpoints(ctx, 1, block(checkpoint, next, 500))
		if err == nil {
			var customers []warehouse.Customer
			for n := range 20 {
				customers = append(customers, customer(n, warehouse.Version{Position: uint64(next)}))
			}
			err = db.WriteCustomers(ctx, 1, customers)
		}
		if err == nil {
			checkpoint = next
			continue
		}
		failures++
		again(t, "trim", func() error { _, err := db.TrimTouchpoints(ctx, 1, uint64(checkpoint)); return err })
	}
	close(stop)
	killer.Wait()
	if failures == 0 {
		t.Error("no write has failed; the test has tested nothing")
	}
	t.Logf("%d failed writes", failures)
	again(t, "count", func() error {
		var n, ids, last, customers uint64
		err := db.QueryRow(ctx, "SELECT count(), uniqExact(event_id), max(position), (SELECT count() FROM customers) FROM touchpoints").Scan(&n, &ids, &last, &customers)
		if err == nil && (n != rows || ids != rows || last != rows || customers != 20) {
			t.Errorf("%d rows, %d different, last %d, %d customers", n, ids, last, customers)
		}
		return err
	})
}

// TestARepetitionAfterATrimIsKept writes, trims and writes the same rows again:
// a server that remembers inserts must not take the second for the first.
func TestARepetitionAfterATrimIsKept(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db := warehousetest.Open(t)
	must(t, db.CreateGeneration(ctx, 1))
	for range 3 {
		_, err := db.TrimTouchpoints(ctx, 1, 0)
		must(t, err)
		must(t, db.WriteTouchpoints(ctx, 1, block(0, 5_000, 100)))
	}
	if n := value[uint64](t, db, "SELECT count() FROM touchpoints_g1"); n != 5_000 {
		t.Errorf("%d rows, want 5000", n)
	}
}

// TestDSN goes to the same engine as to a server elsewhere, by an address.
func TestDSN(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	e := chdbtest.Start(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("unix", e.Socket())
			if err != nil {
				_ = in.Close()
				continue
			}
			go func() { _, _ = io.Copy(out, in); _ = out.Close() }()
			go func() { _, _ = io.Copy(in, out); _ = in.Close() }()
		}
	}()
	db, err := warehouse.Open(ctx, warehouse.Config{DSN: fmt.Sprintf("http://%s/journeys?max_execution_time=30", l.Addr())})
	must(t, err)
	t.Cleanup(func() { _ = db.Close() })
	must(t, db.Migrate(ctx))
	fill(t, db, 1, warehouse.Version{Position: 1})
	must(t, db.Activate(ctx, 1))
	if n := value[uint64](t, db, "SELECT count() FROM journeys.touchpoints"); n != 1000 {
		t.Errorf("%d rows", n)
	}
	if n := value[string](t, db, "SELECT toString(getSetting('max_execution_time'))"); n != "30" {
		t.Errorf("the DSN's setting is %s", n)
	}
	for _, dsn := range []string{"http://127.0.0.1:1", "clickhouse://127.0.0.1:1"} {
		if _, err := warehouse.Open(ctx, warehouse.Config{DSN: dsn}); !warehouse.Transient(err) {
			t.Errorf("a server that is not there was opened: %v", err)
		}
	}
}

// TestDictionaryAfterARestart finds moved subjects without a reload.
func TestDictionaryAfterARestart(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	e := chdbtest.Start(t)
	db := warehousetest.OpenSocket(t, e.Socket())
	fill(t, db, 1, warehouse.Version{Position: 1})
	must(t, db.Activate(ctx, 1))
	const query = "SELECT count() FROM touchpoints WHERE subject = 'user:1' AND customer_id = {c:UUID}"
	must(t, db.ReloadMoved(ctx, 1))
	before := value[uint64](t, db, query, warehouse.Named("c", id('s', 2)))
	if before == 0 {
		t.Fatal("nothing has moved")
	}
	must(t, syscall.Kill(e.PID(), syscall.SIGKILL))
	again(t, "count", func() error {
		var n uint64
		err := db.QueryRow(ctx, query, warehouse.Named("c", id('s', 2))).Scan(&n)
		if err == nil && n != before {
			t.Errorf("%d touchpoints of the moved subject after a restart, want %d", n, before)
		}
		return err
	})
	// What was written and not reloaded before a crash is there after it.
	must(t, db.WriteSubjects(ctx, 1, []warehouse.Subject{{SubjectID: id('s', 5), Subject: "user:5", CustomerID: id('s', 6)}}))
	must(t, syscall.Kill(e.PID(), syscall.SIGKILL))
	again(t, "count", func() error {
		var n uint64
		err := db.QueryRow(ctx, "SELECT count() FROM touchpoints WHERE subject = 'user:5' AND customer_id != {c:UUID}", warehouse.Named("c", id('s', 6))).Scan(&n)
		if err == nil && n != 0 {
			t.Errorf("%d touchpoints of the second moved subject are not its customer's", n)
		}
		return err
	})
}
