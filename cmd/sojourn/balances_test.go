package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"sojourn/api/client"
)

// ledgerDouble answers as the endpoint of opening balances does.
type ledgerDouble struct {
	t     *testing.T
	mu    sync.Mutex
	known map[string]client.OpeningBalance
	sizes []int
	busy  int // requests to refuse for now
}

func (d *ledgerDouble) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	problem := func(status int, detail string) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, `{"status":%d,"detail":%q}`, status, detail)
	}
	if r.Method != http.MethodPost || r.URL.Path != "/api/v1/loyalty/opening-balances" || r.Header.Get("Authorization") != "Bearer t" {
		d.t.Errorf("%s %s was asked with %q", r.Method, r.URL.Path, r.Header.Get("Authorization"))
	}
	if d.busy > 0 {
		d.busy--
		problem(503, "busy")
		return
	}
	var body struct {
		Programme string
		Balances  []client.OpeningBalance
	}
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&body); err != nil {
		problem(422, err.Error())
		return
	}
	if body.Programme != "club" {
		problem(404, "there is no loyalty programme "+body.Programme)
		return
	}
	d.sizes = append(d.sizes, len(body.Balances))
	accepted, known, refused := 0, 0, []map[string]string{}
	for _, b := range body.Balances {
		_, there := d.known[b.Row]
		switch {
		case there:
			known++
		case b.Tier == "emerald":
			refused = append(refused, map[string]string{"row": b.Row, "message": "there is no tier emerald"})
		default:
			d.known[b.Row] = b
			accepted++
		}
	}
	if err := json.NewEncoder(w).Encode(map[string]any{"accepted": accepted, "known": known, "errors": refused}); err != nil {
		d.t.Error(err)
	}
}

func TestImportOfBalances(t *testing.T) {
	d := &ledgerDouble{t: t, known: map[string]client.OpeningBalance{}, busy: 1}
	s := httptest.NewServer(d)
	defer s.Close()
	path := filepath.Join(t.TempDir(), "balances.csv")
	write := func(rows string) {
		t.Helper()
		if err := os.WriteFile(path, []byte("user_id,points,expires,tier,tier_until\n"+rows), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	do := func(wantStatus int, want ...string) {
		t.Helper()
		status, out, errOut := sojourn(t.Context(), "import", "balances", path, "--programme", "club", "--server", s.URL, "--token", "t")
		for _, w := range want {
			if !strings.Contains(out+errOut, w) {
				t.Errorf("%q is not in\n%s%s", w, out, errOut)
			}
		}
		if status != wantStatus {
			t.Errorf("status %d, want %d:\n%s%s", status, wantStatus, out, errOut)
		}
	}
	good := "42,80,2027-06-01,gold,2026-12-31\n43,5,,,\n42,120,2027-03-01T00:00:00Z,,\n"
	write(good)
	do(0, "2 balances sent", "2 accepted, 0 known already, 0 refused; 0 rows could not be used")
	do(0, "2 balances sent", "0 accepted, 2 known already")
	write(good + "44,many,,,\n45,1,,emerald,\n46,6,,,\n")
	do(3, `line 5, column points: "many" is no whole number; left out with all rows of user:44`, "line 6: user:45: there is no tier emerald",
		"4 balances sent", "1 accepted, 2 known already, 1 refused; 1 rows could not be used")

	got := map[string]string{}
	for _, b := range d.known {
		text, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		_, got[b.Subject], _ = strings.Cut(string(text), `"parts":`)
	}
	for subject, want := range map[string]string{
		"user:42": `[{"points":120,"expires":"2027-03-01T00:00:00Z"},{"points":80,"expires":"2027-06-01T23:59:59.999Z"}],"tier":"gold","tier_until":"2026-12-31T23:59:59.999Z"}`,
		"user:43": `[{"points":5}]}`,
		"user:46": `[{"points":6}]}`,
	} {
		if got[subject] != want {
			t.Errorf("%s: %s\nwant %s", subject, got[subject], want)
		}
	}
	if len(got) != 3 {
		t.Errorf("%v", got)
	}
}

func TestManyBalancesGoInSeveralRequests(t *testing.T) {
	d := &ledgerDouble{t: t, known: map[string]client.OpeningBalance{}}
	s := httptest.NewServer(d)
	defer s.Close()
	var text strings.Builder
	for n := range 1100 {
		fmt.Fprintf(&text, `{"user_id":"u%d","points":%d}`+"\n", n, n+1)
	}
	for n := range 6 * 900 {
		fmt.Fprintf(&text, `{"user_id":"long%d","points":1,"expires":"2027-01-01T00:%02d:%02dZ"}`+"\n", n%6, n/6/60, n/6%60)
	}
	path := filepath.Join(t.TempDir(), "balances.jsonl")
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	status, out, errOut := sojourn(t.Context(), "import", "balances", path, "--programme", "club", "--server", s.URL, "--token", "t")
	if status != 0 || !strings.Contains(out, "1106 balances sent") || len(d.known) != 1106 {
		t.Errorf("status %d, %d balances\n%s%s", status, len(d.known), out, errOut)
	}
	if fmt.Sprint(d.sizes) != "[500 500 105 1]" {
		t.Errorf("the requests had %v balances", d.sizes)
	}
}

func TestMistakesWithBalances(t *testing.T) {
	d := &ledgerDouble{t: t}
	s := httptest.NewServer(d)
	defer s.Close()
	path := filepath.Join(t.TempDir(), "b.csv")
	if err := os.WriteFile(path, []byte("user_id,points\n1,1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args   string
		status int
		want   string
	}{
		{"x", 2, "name the loyalty programme with --programme"},
		{"--programme club", 2, "takes one argument, the file to import"},
		{"x --programme club --format xls", 2, `--format is csv or jsonl, not "xls"`},
		{"DIR/none --programme club", 1, "none: no such file"},
		{"x --programme club --mapping DIR/none", 1, "mapping: open"},
		{path + " --programme nobody --token t --server " + s.URL, 1, "broke off after 0 balances, and can be started again: there is no loyalty programme nobody"},
		{path + " --programme club --token t --server http://127.0.0.1:1", 1, "no server answers at http://127.0.0.1:1"},
	} {
		args := append([]string{"import", "balances"}, strings.Fields(strings.ReplaceAll(c.args, "DIR", t.TempDir()))...)
		if status, out, errOut := sojourn(t.Context(), args...); status != c.status || !strings.Contains(errOut, c.want) || out != "" {
			t.Errorf("%s: status %d\n%s%s\nwant %d: %s", c.args, status, out, errOut, c.status, c.want)
		}
	}
}
