package api_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"sojourn/automation/delivery"
	"sojourn/eventstore/pebblestore"
)

// destinations are those of a log in memory.
func destinations(t *testing.T) *delivery.Destinations {
	t.Helper()
	log, err := pebblestore.Open("log", pebblestore.Options{FS: vfs.NewMem(), CacheBytes: 1 << 20, MemTableBytes: 1 << 20, SegmentEvents: 1 << 14})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	sealer, err := delivery.NewSealer(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	d, err := delivery.LoadDestinations(context.Background(), log, sealer, &delivery.Guard{}, func() time.Time { return noon }, nil)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestDestinations(t *testing.T) {
	s, _ := start(t, &fake{})
	var saved struct {
		Name, Kind, URL string
		Enabled         bool
		Secrets         int
		SigningSecret   string  `json:"signing_secret"`
		TimeoutMillis   int64   `json:"timeout_ms"`
		OldUntil        *string `json:"old_secret_until"`
		Reason          string
	}
	call := func(method, path, body string, want int) string {
		t.Helper()
		saved.SigningSecret, saved.OldUntil, saved.Reason = "", nil, ""
		code, _, got := ask(t, s, method, "/api/v1/destinations"+path, body)
		if code != want {
			t.Fatalf("%s %s: %d %s", method, path, code, got)
		}
		if code == 200 {
			if err := json.Unmarshal([]byte(got), &saved); err != nil {
				t.Fatal(err)
			}
		}
		return got
	}
	call("PUT", "/crm", `{"kind":"webhook","url":"https://crm.example/hooks"}`, 200)
	first := saved.SigningSecret
	if !strings.HasPrefix(first, "whsec_") || !saved.Enabled || saved.Secrets != 1 || saved.TimeoutMillis != 15000 || saved.Name != "crm" {
		t.Errorf("%+v", saved)
	}
	call("PUT", "/crm", `{"kind":"webhook","url":"https://crm.example/new","rate":5}`, 200)
	if saved.SigningSecret != "" || saved.URL != "https://crm.example/new" {
		t.Errorf("%+v", saved)
	}
	call("POST", "/crm/rotate", `{"overlap_seconds":3600}`, 200)
	if saved.SigningSecret == "" || saved.SigningSecret == first || saved.Secrets != 2 || saved.OldUntil == nil || *saved.OldUntil != noon.Add(time.Hour).Format(time.RFC3339) {
		t.Errorf("%+v", saved)
	}
	second := saved.SigningSecret
	call("POST", "/crm/disable", `{"reason":"they move house"}`, 200)
	if saved.Enabled || saved.Reason != "they move house" {
		t.Errorf("%+v", saved)
	}
	call("POST", "/crm/enable", "", 200)
	if !saved.Enabled {
		t.Errorf("%+v", saved)
	}
	call("PUT", "/mail", `{"kind":"email","smtp":{"host":"mail.example","port":587,"username":"shop","from":"shop@shop.example"},"secret":"tops3cret"}`, 200)

	var told []string
	told = append(told, call("GET", "", "", 200), call("GET", "/crm", "", 200), call("GET", "/mail", "", 200),
		call("POST", "/nobody/enable", "", 404), call("GET", "/nobody", "", 404), call("POST", "/nobody/rotate", "{}", 404),
		call("PUT", "/x", `{"kind":"webhook","url":"http://169.254.169.254/latest","secret":"tops3cret"}`, 422),
		call("PUT", "/x", `{"kind":"webhook","url":"ftp://x","secret":"tops3cret"}`, 422),
		call("PUT", "/x", `{"kind":"webhook","url":"https://x.example","secret":"tops3cret"}`, 422),
		call("PUT", "/x", `{"kind":"webhook","secret":"tops3cret","more":"tops3cret"}`, 422),
		call("PUT", "/x", `{"kind":"webhook","secret":["tops3cret"]}`, 422),
		call("POST", "/crm/rotate", `{"secret":"`+strings.Repeat("tops3cret", 1000)+`"}`, 422),
		call("PUT", "/mail", `{"kind":"email","smtp":{"host":"evil.example","port":587,"username":"shop","from":"shop@shop.example"}}`, 422),
	)
	for _, text := range told {
		for _, secret := range []string{"tops3cret", first, second} {
			if strings.Contains(text, secret) {
				t.Errorf("a secret is told: %s", text)
			}
		}
	}
	if !strings.Contains(told[0], `"name":"crm"`) || !strings.Contains(told[0], `"name":"mail"`) || !strings.Contains(told[0], `"state":"open"`) {
		t.Error(told[0])
	}
}
