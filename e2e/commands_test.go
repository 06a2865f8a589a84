package e2e

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// eventName is an entry of GET /event-names.
type eventName struct {
	Source, Type, Name, Meaning, Channel string
	Count                                int
}

func (s *server) eventNames() []eventName {
	s.t.Helper()
	var answer struct {
		EventNames []eventName `json:"event_names"`
	}
	s.api("GET", "/event-names", nil, &answer)
	return answer.EventNames
}

func TestDemo(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	args := []string{"demo", "--customers", "200", "--days", "60", "--seed", "1", "--end", "2026-03-01", "--data", s.dir}
	holds(t, must(t, args...), "of 200 customers sent", " 0 known already, 0 rejected", "the views hold them")
	touchpoints := s.count("SELECT count() FROM touchpoints")
	stages := s.stages("as_of=2026-02-28")
	if touchpoints < 200*5 || len(stages) < 5 || stages["visitor"] == 0 || stages["first_purchase"] == 0 || stages["repeat"] == 0 {
		t.Errorf("%d touchpoints, stages %v", touchpoints, stages)
	}
	names := s.eventNames()
	meanings := map[string]bool{}
	for _, n := range names {
		meanings[n.Meaning] = true
		if n.Type == "track" && n.Meaning == "unmapped" {
			t.Errorf("%q is unmapped", n.Name)
		}
		if n.Source != "demo-shop" || n.Count == 0 {
			t.Errorf("%+v", n)
		}
	}
	for _, m := range []string{"purchase", "refund", "engagement", "service", "feedback", "lead"} {
		if !meanings[m] {
			t.Errorf("nothing means %s", m)
		}
	}
	// The key of the run is not left in force.
	if list := must(t, "keys", "list", "--data", s.dir); !regexp.MustCompile(`demo-shop\s+\S+Z\s+\S+Z`).MatchString(list) {
		t.Errorf("keys list: %s", list)
	}
	// Sent again, it is there once.
	holds(t, must(t, args...), ": 0 new, ", " 0 rejected")
	if n := s.count("SELECT count() FROM touchpoints"); n != touchpoints {
		t.Errorf("%d touchpoints, %d before", n, touchpoints)
	}
	// Rebuild and verify speak to the server that runs, and work without one.
	holds(t, must(t, "rebuild", "--data", s.dir), "the views are built anew")
	if got := s.stages("as_of=2026-02-28"); fmt.Sprint(got) != fmt.Sprint(stages) {
		t.Errorf("stages after the rebuild %v, before %v", got, stages)
	}
	s.caughtUp()
	holds(t, must(t, "verify", "--data", s.dir), "every view is what the log gives", "customers: 200 rows compared, 0 differ")
	s.stop()
	holds(t, must(t, "verify", "--data", s.dir), "every view is what the log gives")
	holds(t, must(t, "rebuild", "--data", s.dir), "the views are built anew")
	s = start(t, s.dir)
	if got := s.stages("as_of=2026-02-28"); fmt.Sprint(got) != fmt.Sprint(stages) {
		t.Errorf("stages after the rebuild without a server %v, before %v", got, stages)
	}
}

func TestTail(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	key := s.writeKey("shop")
	s.send(key, order("1", "before", 2))
	all := spawn(t, nil, binary, "tail", "--data", s.dir, "--after", "0")
	rejects := spawn(t, nil, binary, "tail", "--data", s.dir, "--after", "0", "--type", "reject", "--json")
	late := spawn(t, nil, binary, "tail", "--data", s.dir)
	seen := func(p *process, parts ...string) {
		t.Helper()
		eventually(t, 20*time.Second, "tail prints what came", func() error {
			for _, part := range parts {
				if !strings.Contains(p.out.String(), part) {
					return fmt.Errorf("no %q in %q", part, p.out.String())
				}
			}
			return nil
		})
	}
	seen(all, "Order Completed")
	// The follower without a position may come later than one message.
	n := 0
	eventually(t, 20*time.Second, "tail prints what comes", func() error {
		n++
		s.send(key, message{"type": "page", "anonymousId": "v", "name": fmt.Sprint("Page ", n)})
		if !strings.Contains(late.out.String(), "Page ") {
			return errors.New("nothing is printed")
		}
		return nil
	})
	if a, err := track(s.url, key, "/v1/track", message{"event": "Nobody Did This", "messageId": "x"}); err != nil || a.status != 200 {
		t.Fatalf("%d %s %v", a.status, a.body, err)
	}
	seen(all, "reject", "Nobody Did This", fmt.Sprint("Page ", n), "purchase", "shop")
	seen(late, "reject", "Nobody Did This")
	seen(rejects, `"kind":"reject"`, "Nobody Did This")
	if strings.Contains(late.out.String(), "Order Completed") || strings.Contains(rejects.out.String(), "Order Completed") {
		t.Errorf("too much is printed: %q, %q", late.out.String(), rejects.out.String())
	}
	// Ctrl-C ends it, and the end of the server does.
	all.signal(syscall.SIGINT)
	if status := all.wait(10 * time.Second); status != 0 {
		t.Errorf("status %d after Ctrl-C", status)
	}
	s.stop()
	late.wait(10 * time.Second)
}

func TestKeys(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	key := strings.TrimSpace(must(t, "keys", "create", "shop", "--data", s.dir))
	other := strings.TrimSpace(must(t, "keys", "create", "app", "--data", s.dir))
	list := must(t, "keys", "list", "--data", s.dir)
	holds(t, list, "shop", "app")
	if strings.Contains(list, key) {
		t.Error("the list shows a key")
	}
	status := func(key string) int {
		a, err := track(s.url, key, "/v1/page", message{"anonymousId": "v"})
		if err != nil {
			t.Fatal(err)
		}
		return a.status
	}
	if got := status(key); got != 200 {
		t.Errorf("a new key: %d", got)
	}
	must(t, "keys", "revoke", "shop", "--data", s.dir)
	if a, b := status(key), status(other); a != 401 || b != 200 {
		t.Errorf("a revoked key: %d, the other: %d", a, b)
	}
	s.kill()
	s = start(t, s.dir)
	if a, b := status(key), status(other); a != 401 || b != 200 {
		t.Errorf("after a restart, a revoked key: %d, the other: %d", a, b)
	}
	// Without the token nobody makes keys.
	a, err := do(newRequest(t, "GET", s.url+"/api/v1/write-keys"))
	if err != nil || a.status != 401 || a.header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("%d %v %v", a.status, a.header, err)
	}
	if exit, _, errOut := sojourn(t, "keys", "list", "--server", s.url, "--token", "wrong"); exit != 1 || strings.Count(errOut, "\n") != 1 {
		t.Errorf("with a wrong token: status %d, %q", exit, errOut)
	}
	if info, err := os.Stat(filepath.Join(s.dir, "admin-token")); err != nil || info.Mode() != 0o600 {
		t.Errorf("the token's file: %v %v", info.Mode(), err)
	}
}

// TestOwnWritesAreRead reads each write at once, with its position.
func TestOwnWritesAreRead(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	key := s.writeKey("shop")
	for n := range 10 {
		pos := s.send(key, order("1", fmt.Sprint(n), 0))
		after := fmt.Sprint("after=", pos)
		if c := s.customer("user:1", after); c.Purchases != n+1 {
			t.Fatalf("after %d purchases the customer has %d", n+1, c.Purchases)
		}
		if got := s.count("SELECT toUInt64(purchases) FROM customers"); got != n+1 {
			t.Fatalf("after %d purchases the view has %d", n+1, got)
		}
	}
	// A position that never comes.
	begun := time.Now()
	if a := s.api("GET", "/customers/user:1?after=1000000", nil, nil); a.status != 503 {
		t.Errorf("%d %s", a.status, a.body)
	}
	if took := time.Since(begun); took < 9*time.Second || took > 20*time.Second {
		t.Errorf("it waited for %v, want 10 s", took)
	}
}

func TestRejects(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	key := s.writeKey("shop")
	// Two more than a batch may hold, and one with a time that is none.
	batch := make([]message, 2502)
	for i := range batch {
		batch[i] = message{"type": "page", "userId": fmt.Sprint("u", i%100), "messageId": fmt.Sprint("m", i), "timestamp": "2026-01-01T00:00:00Z"}
	}
	batch[7]["timestamp"] = "half past nine"
	a, err := track(s.url, key, "/v1/batch", message{"batch": batch})
	if err != nil || a.status != 200 || a.body != `{"success":true}` || a.header.Get("Sojourn-Rejected") != "3" {
		t.Fatalf("%d %s %v %v", a.status, a.body, a.header, err)
	}
	// A body that is no JSON is refused.
	req := newRequest(t, "POST", s.url+"/v1/track")
	req.Body, req.ContentLength = nil, 0
	req.SetBasicAuth(key, "")
	if a, err := do(req); err != nil || a.status != 400 {
		t.Errorf("%d %s %v", a.status, a.body, err)
	}
	type reject struct {
		Kind, Reason, Source, Raw string
		MessageID                 string `json:"message_id"`
		Replayed                  bool
	}
	list := func() (rejects []reject) {
		t.Helper()
		var answer struct {
			Rejects []reject `json:"rejects"`
		}
		s.api("GET", "/rejects", nil, &answer)
		for _, r := range answer.Rejects {
			if r.Kind == "reject" {
				rejects = append(rejects, r)
			}
		}
		return rejects
	}
	rejects := list()
	if len(rejects) != 3 {
		t.Fatalf("%+v", rejects)
	}
	for _, r := range rejects {
		if r.Source != "shop" || r.Reason == "" || !strings.Contains(r.Raw, `"`+r.MessageID+`"`) {
			t.Errorf("%+v", r)
		}
	}
	var replay struct{ Replayed, Failed, Already int }
	s.api("POST", "/rejects/replay", nil, &replay)
	if replay.Replayed != 2 || replay.Failed != 1 {
		t.Errorf("%+v", replay)
	}
	s.kill()
	s = start(t, s.dir)
	s.api("POST", "/rejects/replay", nil, &replay)
	if replay.Replayed != 0 || replay.Failed != 1 || replay.Already != 2 {
		t.Errorf("done again: %+v", replay)
	}
	s.caughtUp()
	if n := s.count("SELECT count() FROM touchpoints"); n != 2501 {
		t.Errorf("there are %d touchpoints, want 2501", n)
	}
	replayed := 0
	for _, r := range list() {
		if r.Replayed {
			replayed++
		}
	}
	if replayed != 2 {
		t.Errorf("%d rejects are marked as replayed, want 2", replayed)
	}
	s.verify()
}

// TestPolicy gives a server that has run a policy of its own.
func TestPolicy(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	s := start(t, dir)
	key := s.writeKey("billing")
	pay := order("1", "a", 1)
	pay["event"] = "Rechnung Bezahlt"
	s.send(key, pay)
	s.caughtUp()
	if c := s.customer("user:1", ""); c.Stage != "lead" {
		t.Errorf("%+v", c)
	}
	if n := s.eventNames(); len(n) != 1 || n[0].Meaning != "unmapped" {
		t.Errorf("%+v", n)
	}
	known := time.Now().UTC().Format(time.RFC3339Nano)
	s.stop()

	file := filepath.Join(t.TempDir(), "policy.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("events:\n  - {name: Rechnung Bezahlt, meaning: purchase, channel: emial}\n")
	p := spawn(t, nil, binary, "serve", "--data", dir, "--listen", anyPort, "--clickhouse-listen", anyPort, "--policy", file)
	if status := p.wait(10 * time.Second); status != 1 {
		t.Errorf("a policy that is none: status %d", status)
	}
	holds(t, p.err.String(), file+":2:", "emial")

	write("events:\n  - {name: Rechnung Bezahlt, meaning: purchase, channel: email}\n")
	s = start(t, dir, "--policy", file)
	eventually(t, 30*time.Second, "the views are under the new policy", func() error {
		c := s.customer("user:1", "")
		if c.Stage != "first_purchase" {
			return fmt.Errorf("%+v", c)
		}
		return nil
	})
	s.caughtUp()
	if n := s.eventNames(); len(n) != 1 || n[0].Meaning != "purchase" || n[0].Channel != "email" {
		t.Errorf("%+v", n)
	}
	// What was known before goes by the policy of then.
	if c := s.customer("user:1", "known_at="+url.QueryEscape(known)); c.Stage != "lead" || c.Purchases != 0 {
		t.Errorf("known before: %+v", c)
	}
	s.verify()
	s.stop()
	s = start(t, dir, "--policy", file)
	if c := s.customer("user:1", ""); c.Stage != "first_purchase" {
		t.Errorf("after a restart: %+v", c)
	}
}

var curlLine = regexp.MustCompile(`(?m)^  curl -s (?:-H '([^']*): ([^']*)' )?'([^']*)'$`)

// TestMakeRun runs what make run runs, twice on one directory.
func TestMakeRun(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	run := func() *process {
		t.Helper()
		p := spawn(t, func(c *exec.Cmd) {
			c.Env = environment("SOJOURN_BINARY="+binary, "SOJOURN_DATA="+dir, "SOJOURN_LISTEN="+anyPort,
				"SOJOURN_CLICKHOUSE_LISTEN="+anyPort, "DEMO_CUSTOMERS=100", "DEMO_DAYS=90")
		}, filepath.Join(repository, "deploy", "run-demo.sh"))
		t.Cleanup(func() {
			for _, pid := range childrenOf(p.cmd.Process.Pid) {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		})
		eventually(t, time.Minute, "it says what to try", func() error {
			if !strings.Contains(p.out.String(), "Ctrl-C") {
				if p.over() {
					t.Fatal("it has ended")
				}
				return errors.New("not yet")
			}
			return nil
		})
		return p
	}
	stop := func(p *process) {
		t.Helper()
		children := childrenOf(p.cmd.Process.Pid)
		if len(children) != 1 {
			t.Errorf("the script has the children %v, want the server", children)
		}
		p.signal(syscall.SIGINT)
		if status := p.wait(10 * time.Second); status != 0 {
			t.Errorf("status %d after Ctrl-C", status)
		}
		for _, pid := range children {
			gone(t, pid)
		}
	}
	var first []string
	for turn := range 2 {
		p := run()
		out := p.out.String()
		if sent := strings.Contains(out, "messages of 100 customers sent"); sent != (turn == 0) {
			t.Errorf("run %d: sent is %v", turn+1, sent)
		}
		token, err := os.ReadFile(filepath.Join(dir, "admin-token"))
		if err != nil {
			t.Fatal(err)
		}
		holds(t, out, "Address      http://127.0.0.1:", "Admin token  "+strings.TrimSpace(string(token)))
		commands := curlLine.FindAllStringSubmatch(out, -1)
		if len(commands) != 3 {
			t.Fatalf("%d commands to try, want 3", len(commands))
		}
		var answers []string
		for _, c := range commands {
			req := newRequest(t, "GET", c[3])
			if c[1] != "" {
				req.Header.Set(c[1], c[2])
			}
			a, err := do(req)
			if err != nil || a.status != 200 {
				t.Errorf("%s: %d %s %v", c[0], a.status, a.body, err)
			}
			answers = append(answers, a.body)
		}
		if turn == 0 {
			first = answers
			holds(t, answers[0], `"customers":`, `"visitor"`)
			holds(t, answers[1], `"stage":"at_risk"`)
			holds(t, answers[2], "Order Completed", "purchase")
		} else if answers[2] != first[2] {
			t.Errorf("the second run has %s, the first had %s", answers[2], first[2])
		}
		stop(p)
	}

	// A directory with a log of one's own is not filled with a shop.
	dir = filepath.Join(t.TempDir(), "own")
	start(t, dir).stop()
	p := run()
	if strings.Contains(p.out.String(), "demo shop") {
		t.Error("a shop was sent into a directory of one's own")
	}
	stop(p)
}
