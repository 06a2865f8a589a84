package client_test

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"sojourn/api/client"
)

// server takes batches; answer decides what the n-th request gets.
func server(t *testing.T, answer func(n int, w http.ResponseWriter) bool) (*client.Client, func() map[string]int) {
	t.Helper()
	var mu sync.Mutex
	seen, n := map[string]int{}, 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		z, err := gzip.NewReader(r.Body)
		if err != nil {
			t.Error(err)
			return
		}
		var b struct{ Batch []struct{ MessageID string } }
		if err := json.NewDecoder(z).Decode(&b); err != nil {
			t.Error(err)
		}
		if key, _, _ := r.BasicAuth(); key != "key" || r.URL.Path != "/v1/batch" {
			t.Errorf("%s with key %q", r.URL.Path, key)
		}
		mu.Lock()
		defer mu.Unlock()
		n++
		if !answer(n, w) {
			return
		}
		for _, m := range b.Batch {
			seen[m.MessageID]++
		}
		w.Header().Set("Sojourn-Position", fmt.Sprint(n))
		w.Header().Set("Sojourn-Rejected", "1")
		_, _ = fmt.Fprint(w, `{"success":true}`)
	}))
	t.Cleanup(s.Close)
	c, err := client.New(s.URL, "")
	if err != nil {
		t.Fatal(err)
	}
	return c, func() map[string]int { mu.Lock(); defer mu.Unlock(); return seen }
}

func TestSenderSendsEverythingAndTriesAgain(t *testing.T) {
	c, seen := server(t, func(n int, w http.ResponseWriter) bool {
		switch n {
		case 1:
			w.Header().Set("Retry-After", "0")
			w.WriteHeader(http.StatusTooManyRequests)
		case 2:
			w.WriteHeader(http.StatusServiceUnavailable)
		case 3:
			panic(http.ErrAbortHandler) // the connection breaks
		default:
			return true
		}
		return false
	})
	s := c.NewSender(t.Context(), "key", nil)
	const total = 2345
	for i := range total {
		if err := s.Add(fmt.Appendf(nil, `{"messageId":"m%d","pad":"%s"}`, i, strings.Repeat("x", i%700))); err != nil {
			t.Fatal(err)
		}
	}
	sent, err := s.Close()
	if err != nil {
		t.Fatal(err)
	}
	if len(seen()) != total || sent.Messages != total || sent.Rejected == 0 || sent.Accepted() != total-sent.Rejected || sent.Position < 4 {
		t.Errorf("%d arrived, %+v", len(seen()), sent)
	}
	for id, n := range seen() {
		if n != 1 {
			t.Errorf("%s arrived %d times", id, n)
		}
	}
}

func TestSenderGivesUpWhereThereIsNoPoint(t *testing.T) {
	c, _ := server(t, func(_ int, w http.ResponseWriter) bool {
		w.WriteHeader(http.StatusUnauthorized)
		return false
	})
	s := c.NewSender(t.Context(), "key", nil)
	if err := s.Add([]byte(`{}`)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Close(); err == nil || !strings.Contains(err.Error(), "keys create") {
		t.Errorf("%v", err)
	}
}

func TestSenderEndsWithItsContext(t *testing.T) {
	c, _ := server(t, func(_ int, w http.ResponseWriter) bool {
		w.WriteHeader(http.StatusServiceUnavailable)
		return false
	})
	ctx, cancel := context.WithCancel(t.Context())
	s := c.NewSender(ctx, "key", nil)
	if err := s.Add([]byte(`{}`)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := s.Close(); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestNoServer(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	s.Close()
	c, err := client.New(s.URL, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Ready(t.Context()); !errors.Is(err, client.ErrNoServer) || !strings.Contains(err.Error(), "sojourn serve") {
		t.Errorf("%v", err)
	}
	for _, bad := range []string{"", "127.0.0.1:8080", "ftp://x", "http://"} {
		if _, err := client.New(bad, ""); err == nil {
			t.Errorf("%q is an address", bad)
		}
	}
}
