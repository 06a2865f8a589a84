package chdb_test

import (
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"testing"

	"sojourn/warehouse/chdb"
	"sojourn/warehouse/chdb/chdbtest"
)

// TestWorkerPort lets other processes of Sojourn write, and nobody else, also after
// the engine was killed.
func TestWorkerPort(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e := chdbtest.Start(t, func(c *chdb.Config) {
		c.Workers, c.WorkerPassword = l.(*net.TCPListener), "secret"
	})
	ask := func(user, password, query string, headers ...string) (int, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+l.Addr().String()+"/?query="+url.QueryEscape(query), http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		if user != "" {
			r.SetBasicAuth(user, password)
		}
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			return 0, err.Error()
		}
		defer func() { _ = res.Body.Close() }()
		b, err := io.ReadAll(res.Body)
		if err != nil {
			return 0, err.Error()
		}
		return res.StatusCode, strings.TrimSpace(string(b))
	}
	for _, c := range [][]string{
		{"", ""},
		{"worker", ""},
		{"worker", "Secret"},
		{"default", "secret"},
		{"worker", "secret", "Origin", "https://example.com"},
		{"worker", "secret", "Sec-Fetch-Site", "none"},
		{"", "", "X-ClickHouse-User", "worker", "X-ClickHouse-Key", "wrong"},
	} {
		if status, body := ask(c[0], c[1], "SELECT 1", c[2:]...); status != http.StatusForbidden || strings.Contains(body, "secret") {
			t.Errorf("%q: %d %s", c, status, body)
		}
	}
	for _, query := range []string{"CREATE DATABASE d", "CREATE TABLE d.t (n UInt8) ENGINE = MergeTree ORDER BY n", "INSERT INTO d.t VALUES (7)"} {
		if status, body := ask("worker", "secret", query); status != http.StatusOK {
			t.Fatalf("%s: %d %s", query, status, body)
		}
	}
	if status, body := ask("", "", "SELECT n FROM d.t", "X-ClickHouse-User", "worker", "X-ClickHouse-Key", "secret"); status != http.StatusOK || body != "7" {
		t.Errorf("%d %s", status, body)
	}
	if err := syscall.Kill(e.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	until(t, "the port answers again", func() bool {
		status, body := ask("worker", "secret", "SELECT n FROM d.t")
		return status == http.StatusOK && body == "7"
	})
}
