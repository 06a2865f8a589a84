package projections

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"sojourn/domain"
	"sojourn/domain/policy"
	"sojourn/eventstore"
	"sojourn/warehouse"
	"sojourn/warehouse/chdb/chdbtest"
	"sojourn/warehouse/warehousetest"
)

// farSite is a site whose ClickHouse is behind a front, which does with each
// statement what fault says; nil passes it on.
func farSite(t *testing.T, cluster string) (*site, *atomic.Pointer[warehousetest.Handle]) {
	t.Helper()
	var fault atomic.Pointer[warehousetest.Handle]
	s := &site{t: t, dir: t.TempDir()}
	s.clock.set(day0)
	s.store = openStore(t, &s.clock)
	t.Cleanup(func() { _ = s.store.Close() })
	handle := func(proxy http.Handler, w http.ResponseWriter, r *http.Request) {
		if f := fault.Load(); f != nil {
			(*f)(proxy, w, r)
			return
		}
		proxy.ServeHTTP(w, r)
	}
	cfg := warehouse.Config{Cluster: cluster, ReadTimeout: 5 * time.Second}
	if cluster == "" {
		cfg.DSN = "http://" + warehousetest.Front(t, chdbtest.Start(t).Socket(), handle)
	} else {
		cfg.DSN = warehousetest.ClusterDSN(t, handle)
	}
	db, err := warehouse.Open(t.Context(), cfg)
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
	return s, &fault
}

// TestViewsWaitForClickHouse has it fail in every way; the log goes on, and each
// touchpoint is there once when it is well again.
func TestViewsWaitForClickHouse(t *testing.T) {
	t.Parallel()
	for _, cluster := range []string{"", warehousetest.Cluster} {
		t.Run("cluster="+cluster, func(t *testing.T) {
			t.Parallel()
			s, fault := farSite(t, cluster)
			answer := func(code int, name string) warehousetest.Handle {
				return func(_ http.Handler, w http.ResponseWriter, r *http.Request) {
					_, _ = io.Copy(io.Discard, r.Body)
					w.Header().Set("X-ClickHouse-Exception-Code", fmt.Sprint(code))
					w.WriteHeader(http.StatusInternalServerError)
					_, _ = fmt.Fprintf(w, "Code: %d. DB::Exception: It is so. (%s)", code, name)
				}
			}
			sentSoFar := 0
			send := func() (last eventstore.Position) {
				for range 20 {
					sentSoFar++
					stream, e := sent{id: fmt.Sprint(sentSoFar), kind: domain.Track, name: "Product Viewed", user: fmt.Sprintf("u%d", sentSoFar%7), at: day0}.event()
					r, err := s.store.Append(t.Context(), stream, eventstore.Any{}, e)
					if err != nil {
						t.Fatal(err)
					}
					last = r.Position
				}
				return last
			}
			s.wait(send())
			for _, c := range []struct {
				says  string
				fault warehousetest.Handle
			}{
				{"", func(http.Handler, http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }},
				// Everything is done, and no answer says so.
				{"", func(proxy http.Handler, _ http.ResponseWriter, r *http.Request) {
					proxy.ServeHTTP(httptest.NewRecorder(), r)
					panic(http.ErrAbortHandler)
				}},
				{"TOO_MANY_PARTS", answer(252, "TOO_MANY_PARTS")},
				{"TABLE_IS_READ_ONLY", answer(242, "TABLE_IS_READ_ONLY")},
				{"MEMORY_LIMIT_EXCEEDED", answer(241, "MEMORY_LIMIT_EXCEEDED")},
				{"timeout", func(_ http.Handler, _ http.ResponseWriter, r *http.Request) {
					_, _ = io.Copy(io.Discard, r.Body)
					<-r.Context().Done()
				}},
			} {
				fault.Store(&c.fault)
				send()
				s.until("the status to say why", func() bool {
					st := s.views.Status()
					return strings.Contains(st.Err, "clickhouse takes no rows at the moment") && strings.Contains(st.Err, c.says) && st.LagEvents > 0
				})
				last := send() // the log goes on
				fault.Store(nil)
				s.wait(last)
				s.until("the status to be well", func() bool { return s.views.Status().Err == "" })
				if got := s.rows("SELECT concat(toString(count()), ' ', toString(uniqExact(event_id))) AS x FROM touchpoints"); got[0] != fmt.Sprintf("%d %d", sentSoFar, sentSoFar) {
					t.Fatalf("after %q: %s touchpoints, want %d", c.says, got[0], sentSoFar)
				}
			}
			// A stop does not wait for it, and a start finishes the flush.
			away := func(http.Handler, http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
			fault.Store(&away)
			last := send()
			s.until("the status to say why", func() bool { return s.views.Status().Err != "" })
			s.stop()
			fault.Store(nil)
			s.start()
			s.wait(last)
			if got := s.rows("SELECT concat(toString(count()), ' ', toString(uniqExact(event_id))) AS x FROM touchpoints"); got[0] != fmt.Sprintf("%d %d", sentSoFar, sentSoFar) {
				t.Errorf("after a restart: %s touchpoints, want %d", got[0], sentSoFar)
			}
		})
	}
}

// TestARedoneFlushHasItsName: what a crash has cut short is written again under the
// id that it was begun with, and what comes then under another.
func TestARedoneFlushHasItsName(t *testing.T) {
	var c clock
	c.set(day0)
	log := openStore(t, &c)
	defer func() { _ = log.Close() }()
	g := newGeneration(t, vfs.NewMem(), log, &idSink{}, testRules(), &c)
	defer func() { _ = g.state.close() }()
	sink := g.sink.(*idSink)
	add := func(n int) {
		stream, e := sent{id: fmt.Sprint(n), kind: domain.Track, name: "Product Viewed", user: "u", at: day0}.event()
		if _, err := log.Append(t.Context(), stream, eventstore.Any{}, e); err != nil {
			t.Fatal(err)
		}
	}
	flush := func() error { return g.runToEnd(t.Context(), nil) }
	add(1)
	sink.err = errors.New("cut")
	if flush() == nil {
		t.Fatal("the sink's error is lost")
	}
	add(2) // not of the flush that was cut
	sink.err = nil
	if err := g.recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := flush(); err != nil {
		t.Fatal(err)
	}
	if len(sink.ids) < 3 || sink.ids[0] != sink.ids[1] || sink.ids[1] == sink.ids[2] || !strings.HasPrefix(sink.ids[0], "0-1/") {
		t.Errorf("the flushes are %q", sink.ids)
	}
	if len(sink.kept) != 1 || sink.kept[0] != 1 {
		t.Errorf("trimmed to %v, want to the end of the flush that is done again", sink.kept)
	}
}

// idSink is a sink that notes the ids of its flushes, and remembers them.
type idSink struct {
	NullSink
	ids  []string
	kept []eventstore.Position
	err  error
}

func (n *idSink) Remembers() bool { return true }

func (n *idSink) Trim(_ context.Context, after eventstore.Position) error {
	if after > 0 {
		n.kept = append(n.kept, after)
	}
	return nil
}

func (n *idSink) Write(_ context.Context, r *Rows) error {
	n.ids = append(n.ids, r.Flush)
	return n.err
}
