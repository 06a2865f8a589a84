package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// screen is a writer that several goroutines write to and read.
type screen struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// running is a server in this process.
type running struct {
	data, url string
	out       *screen
	stop      func() int // asks it to stop and returns the exit status
}

// startServer starts a server and waits until it answers.
func startServer(t *testing.T, data string, more ...string) running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := running{data: data, out: &screen{}}
	done := make(chan int, 1)
	args := append([]string{"serve", "--data", data, "--listen", "127.0.0.1:0", "--clickhouse-listen", "127.0.0.1:0", "--log-level", "error"}, more...)
	var errOut screen
	go func() { done <- run(ctx, args, strings.NewReader(""), r.out, &errOut) }()
	r.stop = sync.OnceValue(func() int { cancel(); return <-done })
	t.Cleanup(func() { r.stop() })
	deadline := time.Now().Add(time.Minute)
	for tick := time.Tick(20 * time.Millisecond); ; <-tick {
		select {
		case status := <-done:
			done <- status
			t.Fatalf("the server ended with status %d: %s", status, errOut.String())
		default:
		}
		if h, err := readHolder(data); err == nil && h.URL != "" {
			if res, err := http.Get(h.URL + "/readyz"); err == nil {
				_ = res.Body.Close()
				if res.StatusCode == http.StatusOK {
					r.url = h.URL
					return r
				}
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("the server is not ready: %s", errOut.String())
		}
	}
}

// text asks the API.
func (r running) text(t *testing.T, path string) string {
	t.Helper()
	token, err := os.ReadFile(filepath.Join(r.data, "admin-token"))
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %v %s", path, res.Status, err, b)
	}
	return string(b)
}

// get asks the API and reads the answer into v.
func (r running) get(t *testing.T, path string, v any) {
	t.Helper()
	b := r.text(t, path)
	if err := json.Unmarshal([]byte(b), v); err != nil {
		t.Fatalf("%v in %s", err, b)
	}
}

// TestServe walks through what a user does: start, keys, demo, import, tail,
// verify, rebuild, stop, and start again.
func TestServe(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	s := startServer(t, data)
	ctx, d := t.Context(), "--data="+data
	ok := func(args ...string) (out string) {
		t.Helper()
		status, out, errOut := sojourn(ctx, args...)
		if status != 0 {
			t.Fatalf("%v: status %d: %s", args, status, errOut)
		}
		return out
	}
	for _, want := range []string{"is ready", s.url, "admin-token (made now)", "sojourn demo", "/api/v1/stages", "?query="} {
		if !strings.Contains(s.out.String(), want) {
			t.Errorf("the start does not print %q:\n%s", want, s.out)
		}
	}

	// A second server is refused, on this directory and on this port.
	status, _, errOut := sojourn(ctx, "serve", d)
	if status != 1 || !strings.Contains(errOut, "in use") || strings.Count(errOut, "\n") != 1 {
		t.Errorf("a second server: %d %s", status, errOut)
	}
	address := strings.TrimPrefix(s.url, "http://")
	status, _, errOut = sojourn(ctx, "serve", "--data", t.TempDir(), "--listen", address)
	if status != 1 || !strings.Contains(errOut, "choose another address with --listen") || strings.Count(errOut, "\n") != 1 {
		t.Errorf("a busy port: %d %s", status, errOut)
	}

	key := strings.TrimSpace(ok("keys", "create", "shop", d))
	if len(key) < 32 || strings.Contains(key, " ") {
		t.Errorf("the key is %q", key)
	}
	tailed, untail := tailInBackground(t, d)
	out := ok("demo", "--customers", "40", "--days", "60", "--end", "2026-03-01", "--write-key", key, d)
	if !strings.Contains(out, ", 0 known already, 0 rejected") || !strings.Contains(out, "the views hold them") ||
		!strings.Contains(out, "3 triggers are applied and paused") || !strings.Contains(out, "\n  sojourn trigger dry-run welcome --from 2025-12-01 --data ") {
		t.Errorf("demo: %s", out)
	}
	if out = ok("trigger", "list", d); strings.Count(out, " paused ") != 3 || !strings.Contains(out, "\nwin-back ") {
		t.Errorf("the shop's triggers: %s", out)
	}
	if out = ok("trigger", "apply", "../../docs/examples/automation/welcome.yaml", d); !strings.Contains(out, "it is paused; sojourn trigger resume welcome") {
		t.Errorf("one of them applied again: %s", out)
	}
	if out = ok("destination", "list", d); strings.Count(out, " disabled ") != 2 {
		t.Errorf("the shop's destinations: %s", out)
	}
	out = ok("demo", "--customers", "40", "--days", "60", "--end", "2026-03-01", "--write-key", key, d)
	if !strings.Contains(out, ": 0 new, ") || strings.Contains(out, "are applied and paused") {
		t.Errorf("demo a second time: %s", out)
	}
	untail(tailed, "Order Completed")

	rows := filepath.Join(t.TempDir(), "rows.csv")
	mapping := filepath.Join(t.TempDir(), "m.yaml")
	if err := os.WriteFile(mapping, []byte("source: erp\nuser: 1\ntime: {column: 2, format: YYYY-MM-DD}\nevent: {value: Order Completed}\nproperties:\n  total: {column: 3, kind: number}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(rows, []byte("ann,2026-01-01,5.00\nann,2026-01-01,5.00\nben,someday,7\n,2026-01-01,7\nann,2026-01-02,\"x\"y\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"4 rows sent in", "4 rows sent in"} {
		status, out, errOut = sojourn(ctx, "import", "--format", "csv", "--mapping", mapping, d, rows)
		if status != 3 || !strings.Contains(out, want) || !strings.Contains(out, "2 rejected; 1 could not be read") {
			t.Errorf("import %d: %d %s", i, status, out)
		}
		for _, want := range []string{`line 3: time: "someday"`, "line 5: "} {
			if !strings.Contains(errOut, want) {
				t.Errorf("import %d does not say %q: %s", i, want, errOut)
			}
		}
	}
	var ann struct {
		Stage     string
		Purchases int
		Revenue   map[string]string
	}
	s.get(t, "/api/v1/customers/user:ann?as_of=2026-01-15", &ann)
	if ann.Stage != "repeat" || ann.Purchases != 2 {
		t.Errorf("after the import of two equal rows, twice: %+v", ann)
	}
	var stages struct{ Customers int }
	s.get(t, "/api/v1/stages", &stages)
	if stages.Customers < 41 || stages.Customers > 45 {
		t.Errorf("%d customers", stages.Customers)
	}
	var rejects struct {
		Rejects []struct{ Reason, Source string }
	}
	s.get(t, "/api/v1/rejects", &rejects)
	if len(rejects.Rejects) != 2 || rejects.Rejects[0].Source != "erp" {
		t.Errorf("rejects %+v", rejects)
	}

	if out := ok("verify", d); !strings.Contains(out, "every view is what the log gives") {
		t.Errorf("verify: %s", out)
	}
	if out := ok("rebuild", d); !strings.Contains(out, "built anew") {
		t.Errorf("rebuild: %s", out)
	}
	ok("keys", "revoke", "shop", d)
	if out := ok("keys", "list", d); strings.Count(out, "shop ") != 1 || strings.Count(out, "Z\n") == 0 {
		t.Errorf("keys: %s", out)
	}
	status, _, errOut = sojourn(ctx, "demo", "--customers", "1", "--write-key", key, d)
	if status != 1 || !strings.Contains(errOut, "does not know this write key") {
		t.Errorf("a revoked key: %d %s", status, errOut)
	}

	begun := time.Now()
	if status := s.stop(); status != 0 {
		t.Errorf("the server ended with status %d", status)
	}
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("stopping took %v", took)
	}
	// Without a server the command does the work itself.
	if out := ok("verify", d, "--log-level", "error"); !strings.Contains(out, "every view is what the log gives") {
		t.Errorf("verify without a server: %s", out)
	}
	again := startServer(t, data)
	var after struct{ Customers int }
	again.get(t, "/api/v1/stages", &after)
	if after != stages {
		t.Errorf("after a restart there are %d customers, before %d", after.Customers, stages.Customers)
	}
	if strings.Contains(again.out.String(), "made now") {
		t.Error("the second start made another token")
	}
}

// TestServeGoesByItsPolicy sends an identifier that the policy lists as no
// identity.
func TestServeGoesByItsPolicy(t *testing.T) {
	dir := t.TempDir()
	data, file := filepath.Join(dir, "data"), filepath.Join(dir, "policy.yaml")
	if err := os.WriteFile(file, []byte("identity: {nobody: [guest@shop]}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := startServer(t, data, "--policy", file)
	status, key, errOut := sojourn(t.Context(), "keys", "create", "shop", "--data="+data)
	if status != 0 {
		t.Fatal(errOut)
	}
	res, err := http.Post(s.url+"/v1/page", "application/json",
		strings.NewReader(`{"userId":"Guest@Shop","writeKey":"`+strings.TrimSpace(key)+`"}`))
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusOK || res.Header.Get("Sojourn-Rejected") != "1" {
		t.Errorf("answered %s, %s rejected", res.Status, res.Header.Get("Sojourn-Rejected"))
	}
}

// tailInBackground runs sojourn tail; the function waits until its output holds
// a text, and ends it.
func tailInBackground(t *testing.T, data string) (*screen, func(*screen, string)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var out screen
	done := make(chan int, 1)
	go func() {
		done <- run(ctx, []string{"tail", data, "--after", "0", "--type", "track"}, strings.NewReader(""), &out, io.Discard)
	}()
	return &out, func(s *screen, want string) {
		t.Helper()
		defer cancel()
		deadline := time.Now().Add(30 * time.Second)
		for tick := time.Tick(10 * time.Millisecond); !strings.Contains(s.String(), want); <-tick {
			if time.Now().After(deadline) {
				t.Fatalf("tail did not print %q", want)
			}
		}
		cancel()
		if status := <-done; status != 0 {
			t.Errorf("tail ended with status %d", status)
		}
	}
}

func TestDirectoriesThatCannotBeUsed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	status, _, errOut := sojourn(t.Context(), "serve", "--data", filepath.Join(file, "data"), "--listen", "127.0.0.1:0")
	if status != 1 || !strings.Contains(errOut, "choose another with --data") || strings.Count(errOut, "\n") != 1 {
		t.Errorf("a file in the way: %d %s", status, errOut)
	}
	// A log without its key must not be gone on with.
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "log"), 0o700); err != nil {
		t.Fatal(err)
	}
	status, _, errOut = sojourn(t.Context(), "serve", "--data", dir, "--listen", "127.0.0.1:0")
	if status != 1 || !strings.Contains(errOut, "restore the file from a backup") {
		t.Errorf("a log without its key: %d %s", status, errOut)
	}
}

func TestMissingLibrary(t *testing.T) {
	status, _, errOut := sojourn(t.Context(), "serve", "--data", t.TempDir(), "--listen", "127.0.0.1:0",
		"--clickhouse-listen", "off", "--clickhouse-library", filepath.Join(t.TempDir(), "none.so"))
	if status != 1 || !strings.Contains(errOut, "the clickhouse library is missing") || strings.Count(errOut, "\n") != 1 {
		t.Errorf("%d %s", status, errOut)
	}
}

func TestServerURL(t *testing.T) {
	for _, c := range []struct{ address, cert, want string }{
		{"127.0.0.1:8080", "", "http://127.0.0.1:8080"},
		{"0.0.0.0:8080", "", "http://127.0.0.1:8080"},
		{"[::]:8080", "c", "https://127.0.0.1:8080"},
		{"[::1]:8080", "", "http://[::1]:8080"},
	} {
		a, err := net.ResolveTCPAddr("tcp", c.address)
		if err != nil {
			t.Fatal(err)
		}
		if got := serverURL(Config{TLSCert: c.cert}, a); got != c.want {
			t.Errorf("%s: %s, want %s", c.address, got, c.want)
		}
	}
}
