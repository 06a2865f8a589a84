package segmentapi_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"sojourn/ingest/internal/ingesttest"
)

var fuzzSeeds = []string{
	`{"batch":[{"type":"track","messageId":"m","event":"E","userId":"u"},{"type":"page"},0,null,"x",[]]}`,
	`{"batch":[{"type":"track","messageId":"m","event":"E","userId":"u"},{"type":"track","messageId":"m","event":"F","userId":"u"}]}`,
	`{"type":"identify","userId":42,"anonymousId":"\ud83d","timestamp":"2026-03-01T00:00:00Z","sentAt":"2026-03-01"}`,
	`{"context":{},"integrations":7,"sentAt":false,"batch":[{"userId":-1e5,"type":"alias","previousId":{}}]}`,
	`{"userId":"\u0000","event":"","name":[],"messageId":{},"type":true}`, `{"batch":`, `[]`, ``, "\xff", `{"a":"` + "\xff" + `"}`,
	`{"batch":[{"type":"track","messageId":"m","event":"E","userId":"u","timestamp":1,"x":{"a":1,"a":2}}],"batch":[{"batch":[]}]}`,
}

// FuzzTracking sends anything to the tracking endpoints: nothing is an error of
// ours, and every message of an accepted body is accounted for.
func FuzzTracking(f *testing.F) {
	for _, seed := range fuzzSeeds {
		for _, path := range []string{"batch", "track", "alias"} {
			f.Add(path, []byte(seed), false)
		}
		f.Add("batch", []byte(seed), true)
	}
	f.Fuzz(func(t *testing.T, path string, body []byte, zipped bool) {
		s := startOver(t, ingesttest.Over(t, ingesttest.NewMemory()))
		target := &url.URL{Path: "/v1/" + path}
		sent := string(body)
		if zipped {
			sent = zip(t, sent)
		}
		for range 2 {
			r := s.request("/", sent)
			r.URL = target
			if zipped {
				r.Header.Set("Content-Encoding", "gzip")
			}
			a := s.do(r)
			switch {
			case a.StatusCode == 200 && a.body == `{"success":true}`, a.StatusCode == 400, a.StatusCode == 404, a.StatusCode == 405:
			default:
				t.Fatalf("answered %d %s", a.StatusCode, a.body)
			}
			if (a.StatusCode == 400) == json.Valid(body) && (path == "track" || path == "alias") && len(body) < 9000 {
				t.Fatalf("answered %d, and encoding/json says %v", a.StatusCode, json.Valid(body))
			}
			if a.StatusCode == 200 && path == "batch" {
				account(t, s, body)
			}
		}
	})
}

// account compares the log with what the standard library finds in a body.
func account(t *testing.T, s *server, body []byte) {
	t.Helper()
	var call map[string]json.RawMessage
	var items []json.RawMessage
	if err := json.Unmarshal(body, &call); err != nil {
		t.Fatalf("accepted what encoding/json refuses: %v", err)
	}
	if err := json.Unmarshal(call["batch"], &items); err != nil {
		t.Fatalf("accepted a batch that encoding/json refuses: %v", err)
	}
	kept := make(map[string]bool)
	for _, tp := range s.Touchpoints(t) {
		kept[string(tp.Event.Data)] = true
	}
	for _, r := range s.Rejects(t) {
		kept[string(r.Raw)] = true
	}
	if len(items) > 0 && len(kept) == 0 {
		t.Fatalf("of %d items nothing is kept", len(items))
	}
	for _, item := range items {
		var m struct{ MessageID json.RawMessage }
		if kept[string(item)] {
			continue
		}
		// Only a repeat of another item's id may be missing.
		if json.Unmarshal(item, &m) != nil || len(m.MessageID) == 0 {
			t.Fatalf("%q is neither in the log nor in the rejects", item)
		}
	}
}

// FuzzPixel sends anything as the query of a pixel.
func FuzzPixel(f *testing.F) {
	f.Add(byte(0), "data=eyJ1c2VySWQiOiJ1In0")
	f.Add(byte(2), "userId=u&properties.a=1&properties=x&context.=1&.x=2&messageId=m")
	kinds := []string{"track", "identify", "page", "screen", "group", "alias", "nothing"}
	f.Fuzz(func(t *testing.T, kind byte, query string) {
		s := startOver(t, ingesttest.Over(t, ingesttest.NewMemory()))
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.URL = &url.URL{Path: "/v1/pixel/" + kinds[int(kind)%len(kinds)], RawQuery: query + "&writeKey=" + s.Key}
		if a := s.do(r); a.StatusCode != 200 || a.Header.Get("Content-Type") != "image/gif" {
			t.Fatalf("answered %d", a.StatusCode)
		}
	})
}
