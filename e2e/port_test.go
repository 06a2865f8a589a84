package e2e

import (
	"fmt"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestClickHousePortOnlyReads tries to write, and to reach the machine's files
// and network, through the port that is open to the outside.
func TestClickHousePortOnlyReads(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	pos := s.send(s.writeKey("shop"), order("1", "a", 0))
	s.customer("user:1", fmt.Sprint("after=", pos))
	file := filepath.Join(s.dir, "admin-token")
	secret := s.token()
	refused := func(what string, a answer) {
		t.Helper()
		if a.status < 400 {
			t.Errorf("%s is answered %d %s", what, a.status, a.body)
		}
		if strings.Contains(a.body, secret) {
			t.Errorf("%s shows the admin token", what)
		}
	}
	for _, query := range []string{
		"SELECT * FROM file('" + file + "', 'LineAsString')",
		"SELECT file('" + file + "')",
		"SELECT * FROM file('../admin-token', 'LineAsString')",
		"SELECT * FROM `file`('" + file + "', 'LineAsString')",
		"SELECT * FROM /* */ file /* */ ('" + file + "', LineAsString, 's String')",
		"WITH t AS (SELECT * FROM file('" + file + "', LineAsString)) SELECT * FROM t",
		"SELECT 1 UNION ALL SELECT length(line) FROM file('" + file + "', LineAsString)",
		"DESCRIBE file('" + file + "')",
		"EXPLAIN SELECT * FROM file('" + file + "')",
		"SELECT * FROM fileCluster('default', '" + file + "', 'LineAsString')",
		"SELECT * FROM url('" + s.url + "/healthz', 'LineAsString')",
		"SELECT * FROM remote('127.0.0.1', 'system.one')",
		"SELECT * FROM executable('cat " + file + "', 'LineAsString', 's String')",
		"SELECT * FROM s3('" + s.url + "/x', 'LineAsString')",
		"SELECT * FROM mysql('127.0.0.1:1', 'a', 'b', 'c', 'd')",
		"SELECT * FROM sqlite('" + file + "', 't')",
		"SELECT * FROM customers INTO OUTFILE '" + filepath.Join(s.dir, "stolen") + "'",
		"SELECT * FROM customers FORMAT Null SETTINGS readonly = 0",
		"SELECT catboostEvaluate('" + file + "', 1)",
		"INSERT INTO touchpoints (name) VALUES ('Forged')",
		"INSERT INTO FUNCTION file('" + filepath.Join(s.dir, "stolen") + "', 'CSV') SELECT 1",
		"CREATE TABLE t (s String) ENGINE = File(LineAsString, '" + file + "')",
		"CREATE DICTIONARY d (s String) PRIMARY KEY s SOURCE(FILE(PATH '" + file + "' FORMAT 'LineAsString')) LAYOUT(FLAT())",
		"CREATE TEMPORARY TABLE t (n Int8)",
		"CREATE FUNCTION f AS (x) -> x",
		"ALTER TABLE customers_g1 DELETE WHERE 1",
		"TRUNCATE TABLE customers_g1",
		"DROP VIEW customers",
		"RENAME TABLE customers TO clients",
		"SYSTEM SHUTDOWN",
		"SYSTEM STOP MERGES",
		"KILL QUERY WHERE 1",
		"SET readonly = 0",
		"ATTACH TABLE t FROM '/tmp' (n Int8) ENGINE = MergeTree ORDER BY n",
		"BACKUP TABLE customers TO File('/tmp/stolen')",
		"SELECT 1; DROP VIEW customers",
	} {
		refused(query, s.ask(query))
		// The same in the address, as a browser or curl sends it.
		a, err := do(newRequest(t, "GET", s.clickhouse+"/?query="+url.QueryEscape(query)))
		if err != nil {
			t.Fatal(err)
		}
		refused("GET "+query, a)
	}
	const harmless = "SELECT count() FROM touchpoints"
	for what, change := range map[string]func(*http.Request){
		"a page of another site":  func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") },
		"an origin that is none":  func(r *http.Request) { r.Header.Set("Origin", "null") },
		"a name that was rebound": func(r *http.Request) { r.Host = "evil.example" },
		"a client that may write": func(r *http.Request) { r.URL.RawQuery = "readonly=0&query=DROP+VIEW+customers" },
		"another setting":         func(r *http.Request) { r.URL.RawQuery += "&allow_ddl=1&user_files_path=/" },
	} {
		req := newRequest(t, "GET", s.clickhouse+"/?query="+url.QueryEscape(harmless))
		change(req)
		a, err := do(req)
		if err != nil {
			t.Fatal(err)
		}
		refused(what, a)
	}
	// What is allowed is answered, and nothing was changed.
	if n := s.count(harmless); n != 1 {
		t.Errorf("there are %d touchpoints, want 1", n)
	}
	if n := s.count("SELECT count() FROM customers"); n != 1 {
		t.Errorf("there are %d customers, want 1", n)
	}
	if found, _ := filepath.Glob(filepath.Join(s.dir, "*stolen*")); len(found) > 0 {
		t.Errorf("a query wrote %v", found)
	}
}

// TestClickHousePassword opens the port to the network, with a password.
func TestClickHousePassword(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	s := launch(t, dir, func(c *exec.Cmd) { c.Env = environment("SOJOURN_CLICKHOUSE_PASSWORD=open sesame") }, "--clickhouse-listen", "0.0.0.0:0")
	s.ready()
	u, err := url.Parse(s.clickhouse)
	if err != nil {
		t.Fatal(err)
	}
	address := "http://127.0.0.1:" + u.Port() + "/?query=SELECT+42"
	for password, want := range map[string]bool{"": false, "wrong": false, "open sesame": true} {
		req := newRequest(t, "GET", address)
		if password != "" {
			req.SetBasicAuth("default", password)
		}
		a, err := do(req)
		if err != nil {
			t.Fatal(err)
		}
		if got := a.status == 200 && a.body == "42\n"; got != want {
			t.Errorf("password %q: %d %s", password, a.status, a.body)
		}
		if password != "" {
			req = newRequest(t, "GET", address)
			req.Header.Set("X-ClickHouse-User", "default")
			req.Header.Set("X-ClickHouse-Key", password)
			if a, err = do(req); err != nil || (a.status == 200) != want {
				t.Errorf("password %q as a header: %d %s %v", password, a.status, a.body, err)
			}
		}
	}
	s.stop()
}
