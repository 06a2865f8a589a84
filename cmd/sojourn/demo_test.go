package main

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// TestDemoRedeems sends the shop to a double that counts the redemptions.
func TestDemoRedeems(t *testing.T) {
	var mu sync.Mutex
	spent := map[string]string{}
	requests := 0
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/batch", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprint(w, `{"success":true}`)
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprint(w, `{"ready":true,"position":77}`)
	})
	mux.HandleFunc("POST /api/v1/customers/{id}/loyalty/redeem", func(w http.ResponseWriter, r *http.Request) {
		var body struct {
			Points int64
			Reason string
		}
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil || body.Points < 1 || body.Reason == "" {
			t.Errorf("%+v %v", body, err)
		}
		if r.Header.Get("Authorization") != "Bearer t" || !strings.HasPrefix(r.PathValue("id"), "user:c") {
			t.Errorf("%s with %q", r.URL.Path, r.Header.Get("Authorization"))
		}
		mu.Lock()
		defer mu.Unlock()
		if requests++; requests == 1 {
			w.WriteHeader(http.StatusConflict)
			return
		}
		key, command := r.Header.Get("Idempotency-Key"), fmt.Sprintf("%s %d", r.PathValue("id"), body.Points)
		if before, ok := spent[key]; ok && before != command || key == "" {
			t.Errorf("%s under the key %q of %s", command, key, before)
		}
		spent[key] = command
		w.Header().Set("Sojourn-Position", "77")
		_, _ = fmt.Fprint(w, `{}`)
	})
	s := httptest.NewServer(mux)
	defer s.Close()
	args := []string{"demo", "--customers", "150", "--days", "365", "--end", "2026-03-01", "--server", s.URL, "--token", "t", "--write-key", "k"}
	status, out, errOut := sojourn(t.Context(), append(args, "--redeem=false")...)
	if status != 0 || requests != 0 {
		t.Fatalf("status %d, %d redemptions with --redeem=false\n%s%s", status, requests, out, errOut)
	}
	for _, want := range []string{
		"\nTry:\n  curl -s -H \"Authorization: Bearer TOKEN\" \"" + s.URL + "/api/v1/customers/user:c1",
		"/loyalty\"\n", `/api/v1/satisfaction?from=2025-12-01&to=2026-03-01"`,
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	status, out, errOut = sojourn(t.Context(), args...)
	if status != 0 || len(spent) < 3 || !strings.Contains(out, fmt.Sprintf("%d customers have redeemed points, 1 were short of them", len(spent))) {
		t.Errorf("status %d, %d redemptions\n%s%s", status, len(spent), out, errOut)
	}
	first := maps.Clone(spent)
	if status, _, errOut = sojourn(t.Context(), args...); status != 0 || len(spent) != len(first)+1 {
		t.Errorf("status %d, %d redemptions the second time, %d the first\n%s", status, len(spent), len(first), errOut)
	}
}

// TestDemoThroughACollector sends the shop to one server and waits at another, which
// reads from its log what has come.
func TestDemoThroughACollector(t *testing.T) {
	var mu sync.Mutex
	var came []json.RawMessage
	collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body struct{ Batch []json.RawMessage }
		z, err := gzip.NewReader(r.Body)
		if err == nil {
			err = json.NewDecoder(z).Decode(&body)
		}
		if err != nil || r.URL.Path != "/v1/batch" {
			t.Errorf("%s: %v", r.URL.Path, err)
		}
		mu.Lock()
		came = append(came, body.Batch...)
		mu.Unlock()
		_, _ = fmt.Fprint(w, `{"success":true}`)
	}))
	defer collector.Close()
	missing, asked, read := 0, 0, 0
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/tail", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer t" || r.URL.Query().Get("after") != "0" {
			t.Errorf("%s", r.URL)
		}
		mu.Lock()
		defer mu.Unlock()
		asked++
		_, _ = fmt.Fprintln(w, `{"kind":"touchpoint","position":1,"message":{"messageId":"somebody-else"}}`)
		_, _ = fmt.Fprintln(w, `{"kind":"refusal","position":2,"message":"no JSON"}`)
		for i, m := range came[missing:] {
			_, _ = fmt.Fprintf(w, "{\"kind\":\"touchpoint\",\"position\":%d,\"message\":%s}\n", i+3, m)
		}
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		read++ // the first look comes before everything has been read
		_, _ = fmt.Fprintf(w, `{"ready":true,"position":%d}`, len(came)+min(read, 2))
	})
	s := httptest.NewServer(mux)
	defer s.Close()
	args := []string{
		"demo", "--customers", "20", "--days", "90", "--end", "2026-03-01", "--redeem=false",
		"--server", s.URL, "--token", "t", "--write-key", "k", "--collector", collector.URL,
	}
	status, out, errOut := sojourn(t.Context(), args...)
	if status != 0 || asked != 1 || read != 2 || !strings.HasPrefix(out, fmt.Sprintf("%d messages of 20 customers sent in ", len(came))) || strings.Contains(out, "known already") {
		t.Errorf("status %d, the log read %d times, %d looks at the views\n%s%s", status, asked, read, out, errOut)
	}
	came, missing = nil, 1
	status, out, errOut = sojourn(t.Context(), args...)
	if want := fmt.Sprintf("the server stopped before 1 of %d messages had come", len(came)); status != 1 || !strings.Contains(errOut, want) {
		t.Errorf("status %d, want 1 and %q\n%s%s", status, want, out, errOut)
	}
	if status, _, errOut = sojourn(t.Context(), append(args, "--collector", "nowhere")...); status != 2 || !strings.Contains(errOut, "--collector") {
		t.Errorf("status %d %s", status, errOut)
	}
}
