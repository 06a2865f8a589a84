package segmentapi_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"sojourn/eventstore/pebblestore"
	"sojourn/ingest/internal/ingesttest"
	"sojourn/ingest/segmentapi"
)

// BenchmarkCall is POST /v1/batch of 100 events over loopback: the whole call to
// a store on disk, against a handler that only parses the same body with the
// same parser into the same structs.
func BenchmarkCall(b *testing.B) {
	store, err := pebblestore.Open(b.TempDir(), pebblestore.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := store.Close(); err != nil {
			b.Error(err)
		}
	}()
	s := startOver(b, ingesttest.Over(b, store))
	b.Run("whole", func(b *testing.B) { s.drive(b, s.handler) })
	b.Run("parse-only", func(b *testing.B) {
		s.drive(b, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body := make([]byte, r.ContentLength)
			if _, err := io.ReadFull(r.Body, body); err != nil {
				b.Error(err)
			}
			if n, err := segmentapi.ParseOnly(body); err != nil || n != 100 {
				b.Error(n, err)
			}
			_, _ = w.Write([]byte(`{"success":true}`))
		}))
	})
}

var sent atomic.Uint64

func (s *server) drive(b *testing.B, handler http.Handler) {
	srv := httptest.NewServer(handler)
	defer srv.Close()
	b.SetParallelism(64)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		seed := sent.Add(1)
		body := trackingBatch(rand.New(rand.NewPCG(seed, 3)), 100)
		req, err := http.NewRequest(http.MethodPost, srv.URL+"/v1/batch", bytes.NewReader(body))
		if err != nil {
			b.Error(err)
			return
		}
		req.SetBasicAuth(s.Key, "")
		var wire bytes.Buffer
		if err := req.Write(&wire); err != nil {
			b.Error(err)
			return
		}
		text := wire.Bytes()
		var ids [][]byte
		for at := 0; ; {
			i := bytes.Index(text[at:], []byte(`"messageId":"`))
			if i < 0 {
				break
			}
			at += i + len(`"messageId":"`)
			ids = append(ids, text[at:at+36])
		}
		conn, err := net.Dial("tcp", srv.Listener.Addr().String())
		if err != nil {
			b.Error(err)
			return
		}
		defer func() { _ = conn.Close() }()
		in := bufio.NewReader(conn)
		for pb.Next() {
			for _, id := range ids {
				copy(id, fmt.Appendf(id[:0:0], "%016x", sent.Add(1)))
			}
			if _, err := conn.Write(text); err != nil {
				b.Error(err)
				return
			}
			res, err := http.ReadResponse(in, nil)
			if err != nil {
				b.Error(err)
				return
			}
			_, _ = io.Copy(io.Discard, res.Body)
			_ = res.Body.Close()
			if res.StatusCode != http.StatusOK {
				b.Errorf("answered %s", res.Status)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)*100/b.Elapsed().Seconds(), "events/s")
}
