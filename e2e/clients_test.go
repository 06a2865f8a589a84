package e2e

import (
	"encoding/json"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// node runs one of the clients and reads the JSON that it prints.
func node(t *testing.T, out any, script string, args ...string) {
	t.Helper()
	dir := filepath.Join(repository, "e2e", "clients")
	if _, err := os.Stat(filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal("the clients are not installed: run deploy/test-setup.sh, as make test does")
	}
	p := spawn(t, func(c *exec.Cmd) { c.Dir = dir }, "node", append([]string{script}, args...)...)
	if status := p.wait(90 * time.Second); status != 0 {
		t.Fatalf("%s: status %d", script, status)
	}
	if err := json.Unmarshal([]byte(p.out.String()), out); err != nil {
		t.Fatalf("%s: %v", script, err)
	}
}

// names lists the touchpoints of a timeline as type and name.
func names(timeline []entry) []string {
	var got []string
	for _, e := range timeline {
		if e.Touchpoint != nil {
			got = append(got, strings.TrimSpace(e.Touchpoint.Type+" "+e.Touchpoint.Name))
		}
	}
	return got
}

func TestSegmentNode(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	var got struct {
		Delivered int
		Problems  []string
	}
	node(t, &got, "node.mjs", s.url, s.writeKey("backend"))
	if got.Delivered != 48 || len(got.Problems) > 0 {
		t.Fatalf("the client delivered %d of 48 and says %v", got.Delivered, got.Problems)
	}
	s.caughtUp()
	c := s.customer("user:node-1", "")
	for day, want := range map[string]string{"2026-01-02": "visitor", "2026-01-03": "lead", "2026-01-06": "first_purchase", "2026-03-07": "at_risk"} {
		if c := s.customer("user:node-1", "as_of="+day); c.Stage != want {
			t.Errorf("as of %s: %+v, want %s", day, c, want)
		}
	}
	if c.Purchases != 1 || c.Traits["email"] != "jo@example.com" {
		t.Errorf("%+v", c)
	}
	slices.Sort(c.Subjects)
	if want := []string{"anon:visitor-1", "anon:visitor-2", "email:jo@example.com", "user:node-1"}; !slices.Equal(c.Subjects, want) {
		t.Errorf("subjects %v, want %v", c.Subjects, want)
	}
	timeline := s.timeline("user:node-1", "")
	if want := []string{
		"page Home", "track Product Viewed", "identify", "group", "screen Cart",
		"track Order Completed", "alias", "track Something Of Ours",
	}; !slices.Equal(names(timeline), want) {
		t.Errorf("timeline %q, want %q", names(timeline), want)
	}
	for _, e := range timeline {
		// Pages and screens say by their type where they were seen.
		if p := e.Touchpoint; p != nil && p.Channel != "server" && p.Type != "page" && p.Type != "screen" {
			t.Errorf("%s %s came by channel %s", p.Type, p.Name, p.Channel)
		}
	}
	if n := s.count("SELECT uniqExact(customer_id) FROM touchpoints WHERE name = 'Signed Up' AND source = 'backend'"); n != 40 {
		t.Errorf("%d of 40 have signed up", n)
	}
}

func TestSegmentBrowser(t *testing.T) {
	t.Parallel()
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatalf("%v: run deploy/test-setup.sh, or install Debian's package chromium", err)
	}
	s := newServer(t)
	var got struct {
		AnonymousID        string
		Shop               string
		Requests, Problems []string
	}
	node(t, &got, "browser.mjs", s.url, s.writeKey("web"), chromium)
	if len(got.Problems) > 0 {
		t.Errorf("the browser says %q", got.Problems)
	}
	settings := false
	for _, r := range got.Requests {
		_, address, _ := strings.Cut(r, " http")
		u, err := url.Parse("http" + address)
		if err != nil || u.Hostname() != "127.0.0.1" {
			t.Errorf("a request left the machine: %s", r)
		}
		settings = settings || strings.HasSuffix(u.Path, "/settings") && strings.HasPrefix(r, "200 GET "+s.url)
	}
	if !settings {
		t.Errorf("the settings were not read from Sojourn: %q", got.Requests)
	}
	s.caughtUp()
	c := s.customer("user:browser-1", "")
	if c.Stage != "first_purchase" || c.Purchases != 1 || c.Traits["name"] != "Sam" {
		t.Errorf("%+v", c)
	}
	slices.Sort(c.Subjects)
	if want := []string{"anon:" + got.AnonymousID, "email:sam@example.com", "user:browser-1"}; !slices.Equal(c.Subjects, want) {
		t.Errorf("subjects %v, want %v", c.Subjects, want)
	}
	// The page views before the login are the customer's.
	timeline := s.timeline("user:browser-1", "")
	if want := []string{
		"page Home", "track Product Viewed", "page Account", "identify", "track Order Completed", "group",
	}; !slices.Equal(names(timeline), want) {
		t.Errorf("timeline %q, want %q", names(timeline), want)
	}
	for _, e := range timeline {
		if p := e.Touchpoint; p != nil && p.Channel != "web" {
			t.Errorf("%s %s came by channel %s", p.Type, p.Name, p.Channel)
		}
	}
	var stages []string
	for _, e := range timeline {
		if e.Transition != nil {
			stages = append(stages, e.Transition.To)
		}
	}
	if want := []string{"visitor", "lead", "first_purchase"}; !slices.Equal(stages, want) {
		t.Errorf("stages %v, want %v", stages, want)
	}
}

func TestClickHouseJavaScriptClient(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	now := time.Now().Add(-time.Hour).UTC().Format(time.RFC3339)
	s.send(s.writeKey("shop"),
		message{"type": "identify", "messageId": "1", "userId": "42", "timestamp": now},
		message{
			"type": "track", "messageId": "2", "userId": "42", "event": "Order Completed", "timestamp": now,
			"properties": message{"order_id": "1", "total": 12.5, "currency": "USD"},
		})
	s.caughtUp()
	var got map[string]any
	node(t, &got, "clickhouse.mjs", s.clickhouse)
	want := map[string]any{
		"ping": true,
		"customers": []any{map[string]any{
			"user_ids": []any{"42"}, "stage": "first_purchase", "purchases": 1.0, "revenue": map[string]any{"USD": 12.5},
		}},
		"transitions":     []any{map[string]any{"to_stage": "lead"}, map[string]any{"to_stage": "first_purchase"}},
		"insert":          "ACCESS_DENIED",
		"insertIntoTable": "ACCESS_DENIED",
		"drop":            "ACCESS_DENIED",
		"create":          "ACCESS_DENIED",
		"file":            "ACCESS_DENIED",
		"streamed":        100_000.0,
	}
	for key, w := range want {
		if !reflect.DeepEqual(got[key], w) {
			t.Errorf("%s: %#v, want %#v", key, got[key], w)
		}
	}
	if n := s.count("SELECT count() FROM touchpoints"); n != 2 {
		t.Errorf("there are %d touchpoints, want 2", n)
	}
}
