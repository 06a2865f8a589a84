package chdb_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"testing"
)

// TestOfficialJavaScriptClient runs @clickhouse/client against the public port.
func TestOfficialJavaScriptClient(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat(filepath.Join("e2e", "node_modules", "@clickhouse", "client")); err != nil {
		t.Fatal("the client is not installed: run `npm ci --prefix warehouse/chdb/e2e`, as `make test` does")
	}
	e := shop(t)
	cmd := exec.Command("node", "client.mjs", "http://"+e.PublicAddr())
	cmd.Dir = "e2e"
	cmd.Stderr = os.Stderr
	text, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	var got map[string]any
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	want := map[string]any{
		"ping":     true,
		"each":     []any{map[string]any{"subject": "user:1", "name": "Order Completed", "amount": 12.5}},
		"json":     []any{map[string]any{"n": 2.0}},
		"id":       "my-id",
		"settings": []any{map[string]any{"t": 2.0}},
		"streamed": 300_000.0,
		"unknown":  "47 UNKNOWN_IDENTIFIER",
		"file":     "497 ACCESS_DENIED",
		"setting":  "497 ACCESS_DENIED",
		"insert":   "497 ACCESS_DENIED",
		"command":  "497 ACCESS_DENIED",
		"aborted":  "undefined undefined",
	}
	for key, w := range want {
		if !reflect.DeepEqual(got[key], w) {
			t.Errorf("%s: %#v, want %#v", key, got[key], w)
		}
	}
	until(t, "the aborted statement has ended", func() bool { return running(t, e) == 0 })
}
