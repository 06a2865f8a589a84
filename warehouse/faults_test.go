package warehouse_test

import (
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sojourn/warehouse"
	"sojourn/warehouse/chdb/chdbtest"
	"sojourn/warehouse/warehousetest"
)

// unwell opens a database through a front that treats its INSERTs as the test
// wants; nil lets them through.
func unwell(t *testing.T) (*warehouse.DB, *atomic.Pointer[http.HandlerFunc], http.Handler) {
	t.Helper()
	var fault atomic.Pointer[http.HandlerFunc]
	var through http.Handler
	addr := warehousetest.Front(t, chdbtest.Start(t).Socket(), func(proxy http.Handler, w http.ResponseWriter, r *http.Request) {
		through = proxy
		if f := fault.Load(); f != nil && strings.HasPrefix(r.URL.Query().Get("query"), "INSERT INTO sojourn.touchpoints_g1 ") {
			(*f)(w, r)
			return
		}
		proxy.ServeHTTP(w, r)
	})
	ctx := context.Background()
	db, err := warehouse.Open(ctx, warehouse.Config{DSN: "http://" + addr})
	must(t, err)
	t.Cleanup(func() { _ = db.Close() })
	must(t, db.CreateGeneration(ctx, 1))
	return db, &fault, through
}

// exception answers as ClickHouse does.
func exception(status, code int, name string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("X-ClickHouse-Exception-Code", fmt.Sprint(code))
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, "Code: %d. DB::Exception: It is so. (%s) (version 26.7)", code, name)
	}
}

func hangUp(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

func TestWhatPasses(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db, fault, through := unwell(t)
	checkpoint := 0
	for _, c := range []struct {
		name   string
		fault  http.HandlerFunc
		passes bool
	}{
		{"hangs up", hangUp, true},
		{"hangs", func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body) // only then the end of the connection is seen
			<-r.Context().Done()
		}, true},
		{"cuts the request", func(w http.ResponseWriter, r *http.Request) {
			r.Body = io.NopCloser(&cut{r.Body, 4000})
			through.ServeHTTP(w, r)
		}, true},
		{"cuts the answer", func(_ http.ResponseWriter, r *http.Request) {
			through.ServeHTTP(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler)
		}, true},
		{"too many parts", exception(500, 252, "TOO_MANY_PARTS"), true},
		{"read-only", exception(500, 242, "TABLE_IS_READ_ONLY"), true},
		{"memory", exception(500, 241, "MEMORY_LIMIT_EXCEEDED"), true},
		{"time", exception(408, 159, "TIMEOUT_EXCEEDED"), true},
		{"no quorum", exception(500, 285, "TOO_FEW_LIVE_REPLICAS"), true},
		{"a proxy", func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "no backend", http.StatusServiceUnavailable)
		}, true},
		{"no such column", exception(404, 16, "NO_SUCH_COLUMN_IN_TABLE"), false},
		{"wrong password", exception(403, 516, "AUTHENTICATION_FAILED"), false},
		{"not ClickHouse", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "hello", 404) }, false},
	} {
		fault.Store(&c.fault)
		limited := ctx
		if c.name == "hangs" {
			var cancel context.CancelFunc
			limited, cancel = context.WithTimeout(ctx, 200*time.Millisecond)
			defer cancel()
		}
		err := db.WriteTouchpoints(limited, 1, block(checkpoint, checkpoint+500, 50))
		if err == nil || warehouse.Transient(err) != c.passes {
			t.Errorf("%s: %v; transient %v, want %v", c.name, err, warehouse.Transient(err), c.passes)
		}
		fault.Store(nil)
		_, err = db.TrimTouchpoints(ctx, 1, uint64(checkpoint))
		must(t, err)
		must(t, db.WriteTouchpoints(ctx, 1, block(checkpoint, checkpoint+500, 50)))
		checkpoint += 500
		if n := value[uint64](t, db, "SELECT count() FROM touchpoints_g1"); n != uint64(checkpoint) {
			t.Fatalf("%s: %d rows, want %d", c.name, n, checkpoint)
		}
	}
	if warehouse.Transient(nil) || warehouse.Transient(context.Canceled) {
		t.Error("what is no trouble of ClickHouse's passes")
	}
}

// cut ends in an error after so many bytes.
type cut struct {
	r    io.Reader
	left int
}

func (c *cut) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, io.ErrUnexpectedEOF
	}
	n, err := c.r.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

// TestAnInsertThatWasGivenUpLandsNowhere: the client gives up while the server still
// takes its rows, which come to their end behind the trim.
func TestAnInsertThatWasGivenUpLandsNowhere(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db, fault, through := unwell(t)
	one := db.Of(warehouse.SubjectNos{To: 1<<63 - 1})
	goOn, done := make(chan struct{}), make(chan int, 1)
	impatient, giveUp := context.WithCancel(ctx)
	var slow http.HandlerFunc = func(_ http.ResponseWriter, r *http.Request) {
		rows, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		in, out := io.Pipe()
		go func() {
			_, _ = out.Write(rows[:len(rows)/2])
			giveUp()
			<-goOn
			_, _ = out.Write(rows[len(rows)/2:])
			_ = out.Close()
		}()
		late := r.Clone(context.WithoutCancel(r.Context()))
		late.Body, late.ContentLength = in, -1
		answer := httptest.NewRecorder()
		through.ServeHTTP(answer, late)
		done <- answer.Code
	}
	fault.Store(&slow)
	if err := one.WriteTouchpoints(impatient, 1, block(0, 50_000, 50)); err == nil {
		t.Fatal("the client has not given up")
	}
	fault.Store(nil)
	// Another writer leaves it alone.
	if _, err := db.Of(warehouse.SubjectNos{From: 1 << 63, To: math.MaxUint64}).TrimTouchpoints(ctx, 1, 0); err != nil {
		t.Error(err)
	}
	if n := value[uint64](t, db, "SELECT count() FROM system.processes WHERE query_kind = 'Insert' AND is_cancelled = 0"); n != 1 {
		t.Errorf("%d inserts run", n)
	}
	trimmed := make(chan error, 1)
	go func() { _, err := one.TrimTouchpoints(ctx, 1, 0); trimmed <- err }()
	again(t, "the kill", func() error {
		var n uint64
		err := db.QueryRow(ctx, "SELECT count() FROM system.processes WHERE query_kind = 'Insert' AND is_cancelled = 0").Scan(&n)
		if err == nil && n > 0 {
			err = fmt.Errorf("%d inserts run", n)
		}
		return err
	})
	close(goOn)
	must(t, <-trimmed)
	must(t, db.WriteTouchpoints(ctx, 1, block(0, 50_000, 50)))
	if status := <-done; status == 200 {
		t.Error("the insert that was given up has landed")
	}
	if n := value[uint64](t, db, "SELECT count() FROM touchpoints_g1"); n != 50_000 {
		t.Errorf("%d rows, want 50000", n)
	}
}
