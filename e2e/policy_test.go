package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// policyState is what the server says of its policy.
type policyState struct {
	Version      int    `json:"version"`
	ViewsVersion int    `json:"views_version"`
	Source       string `json:"source"`
	Author       string `json:"author"`
	Applied      bool   `json:"applied"`
}

func (s *server) policy() policyState {
	s.t.Helper()
	var p policyState
	s.api("GET", "/policies/current", nil, &p)
	return p
}

// under waits until the views are those of a version of the policy, and have read
// everything.
func (s *server) under(version int) {
	s.t.Helper()
	eventually(s.t, time.Minute, fmt.Sprint("the views are under policy ", version), func() error {
		if p := s.policy(); p.Version != version || p.ViewsVersion != version {
			return fmt.Errorf("%+v", p)
		}
		return nil
	})
	s.caughtUp()
}

// report is what sojourn policy preview --json prints.
type report struct {
	PolicyVersion int `json:"policy_version"`
	Changes       []struct{ Key, From, To string }
	Lifecycle     struct {
		Matrix []struct {
			From, To  string
			Customers int
			Examples  []struct {
				Subject  string
				Old, New *struct{ Stage, Reason string }
			}
		}
	}
}

// sides are the customers by stage that a matrix has of its two policies.
func (r *report) sides() (old, candidate map[string]int) {
	old, candidate = map[string]int{}, map[string]int{}
	for _, c := range r.Lifecycle.Matrix {
		if c.From != "none" {
			old[c.From] += c.Customers
		}
		if c.To != "none" {
			candidate[c.To] += c.Customers
		}
	}
	return old, candidate
}

// TestPolicyWhileServing previews and applies policies on a server that takes in
// messages, and ends it in between.
func TestPolicyWhileServing(t *testing.T) {
	t.Parallel()
	dir, files := filepath.Join(t.TempDir(), "data"), t.TempDir()
	file := func(name, text string) string {
		t.Helper()
		path := filepath.Join(files, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	a := file("a.yaml", "lifecycle: {loyal_purchases: 5}\n")
	b := file("b.yaml", "# Two are enough.\nlifecycle: {loyal_purchases: 2, at_risk_days: 40}\nidentity: {join: [user], nobody: [till-1]}\n")
	c := file("c.yaml", "lifecycle: {loyal_purchases: 3}\n")
	broken := file("broken.yaml", "lifecycle:\n  loyal_purchases: 0\n")

	s := start(t, dir, "--policy", a)
	key := s.writeKey("shop")
	var messages []message
	for i := range 60 {
		user := fmt.Sprint("u", i)
		for n := range i % 4 {
			messages = append(messages, order(user, fmt.Sprint(i, "-", n), 10+30*n))
		}
		messages = append(messages, message{
			"type": "identify", "userId": user, "anonymousId": fmt.Sprint("v", i), "messageId": fmt.Sprint("identify-", i), "traits": message{"n": i},
		}, message{"type": "page", "anonymousId": fmt.Sprint("v", i), "messageId": fmt.Sprint("page-", i), "name": "Home"})
	}
	s.send(key, messages...)
	till := message{"type": "track", "userId": "till-1", "event": "Product Viewed", "messageId": "till-1"}
	s.send(key, till)
	s.caughtUp()

	// A preview says what is before and after the apply.
	preview := func(path string) report {
		t.Helper()
		var r report
		if err := json.Unmarshal([]byte(must(t, "policy", "preview", path, "--data", dir, "--json")), &r); err != nil {
			t.Fatal(err)
		}
		return r
	}
	r := preview(b)
	old, candidate := r.sides()
	if before := s.stages(""); !maps.Equal(before, old) || r.PolicyVersion != 1 || len(r.Changes) != 4 {
		t.Errorf("before: %v, the preview says %v: %+v", before, old, r.Changes)
	}
	for _, cell := range r.Lifecycle.Matrix {
		for _, e := range cell.Examples {
			if e.Subject == "" || e.Old == nil && e.New == nil || e.Old != nil && e.Old.Reason == "" {
				t.Errorf("%s>%s: %+v", cell.From, cell.To, e)
			}
		}
	}
	if text := must(t, "policy", "preview", b, "--data", dir); !strings.Contains(text, "lifecycle.loyal_purchases: 5 -> 2") || !strings.Contains(text, "repeat -> loyal: ") {
		t.Errorf("for people:\n%s", text)
	}
	if p := s.policy(); p.Version != 1 {
		t.Errorf("after a preview: %+v", p)
	}
	for _, command := range []string{"preview", "apply"} {
		if status, _, errOut := sojourn(t, "policy", command, broken, "--data", dir); status != 1 || !strings.Contains(errOut, "broken.yaml:2:20: ") {
			t.Errorf("%s: %d %s", command, status, errOut)
		}
	}
	if a := s.api("POST", "/policies", message{"source": "lifecycle:\n  loyal_purchases: 0\n"}, nil); a.status != 422 || !strings.Contains(a.body, "body.source:2:20") {
		t.Errorf("a mistake: %d %s", a.status, a.body)
	}

	if out := must(t, "policy", "diff", b, "--data", dir); !strings.Contains(out, "lifecycle.at_risk_days: 60 -> 40\n") {
		t.Errorf("diff: %s", out)
	}
	must(t, "policy", "apply", b, "--data", dir, "--author", "jo", "--reason", "two are enough")
	// The intake goes by it at once, whatever the views are under.
	till["messageId"] = "till-2"
	if a, err := track(s.url, key, "/v1/track", till); err != nil || a.header.Get("Sojourn-Rejected") == "" {
		t.Errorf("nobody was taken in: %d %v %v", a.status, a.header, err)
	}
	s.under(2)
	if after := s.stages(""); !maps.Equal(after, candidate) {
		t.Errorf("after: %v, the preview said %v", after, candidate)
	}
	if out := must(t, "policy", "apply", b, "--data", dir); !strings.Contains(out, "version 2 says the same") {
		t.Errorf("once more: %s", out)
	}
	s.verify()

	// A restart with the same file undoes no apply, a kill neither; another file
	// is applied.
	s.stop()
	s = start(t, dir, "--policy", a)
	s.under(2)
	var applied policyState
	s.api("POST", "/policies", message{"source": "lifecycle: {loyal_purchases: 4}\n"}, &applied)
	if applied.Version != 3 || !applied.Applied {
		t.Errorf("%+v", applied)
	}
	s.api("POST", "/policies/rollback", message{"version": 2, "author": "jo"}, &applied)
	if between := s.policy(); between.ViewsVersion == 4 {
		t.Log("the views were switched before the kill")
	}
	s.kill()
	s = start(t, dir, "--policy", a)
	s.under(4)
	if p := s.policy(); !strings.HasPrefix(p.Source, "# Two are enough.") || p.Author != "jo" {
		t.Errorf("after the kill: %+v", p)
	}
	if after := s.stages(""); !maps.Equal(after, candidate) {
		t.Errorf("after the rollback: %v, want %v", after, candidate)
	}
	if out := must(t, "policy", "history", "--data", dir); strings.Count(out, "\n") != 5 || !strings.Contains(out, "rollback to 2") || !strings.Contains(out, "two are enough") {
		t.Errorf("history: %s", out)
	}
	s.stop()
	s = start(t, dir, "--policy", c)
	s.under(5)
	if out := must(t, "policy", "diff", "4", "5", "--data", dir); !strings.Contains(out, "lifecycle.loyal_purchases: 2 -> 3\n") {
		t.Errorf("diff: %s", out)
	}
	s.verify()
}

// Whoever asks in SQL sees all tables switched at once, and none from before once the
// API has answered from the new views.
func TestSwitchIsOne(t *testing.T) {
	t.Parallel()
	s := start(t, filepath.Join(t.TempDir(), "data"))
	key := s.writeKey("shop")
	s.send(key, order("42", "a", 10), order("42", "b", 20))
	s.caughtUp()
	const query = "SELECT (SELECT stage FROM customers) AS stage, (SELECT to_stage FROM stage_transitions ORDER BY seq DESC LIMIT 1) AS last"
	stop := make(chan struct{})
	var asking sync.WaitGroup
	asking.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			a := s.ask(query)
			if stages := strings.Fields(a.body); a.status != 200 || len(stages) != 2 || stages[0] != stages[1] {
				t.Errorf("question %d: %d %s", n, a.status, a.body)
				return
			}
		}
	})
	for i := range 6 {
		stage, loyal := "repeat", 9
		if i%2 == 0 {
			stage, loyal = "loyal", 2
		}
		s.api("POST", "/policies", message{"source": fmt.Sprintf("lifecycle: {loyal_purchases: %d}\n", loyal)}, nil)
		eventually(t, time.Minute, "the API answers by the new policy", func() error {
			if c := s.customer("user:42", ""); c.Stage != stage {
				return errors.New(c.Stage)
			}
			return nil
		})
		if a := s.ask(query); strings.TrimSpace(a.body) != stage+"\t"+stage {
			t.Errorf("policy %d: the API says %s, then SQL %q", i+2, stage, a.body)
		}
	}
	close(stop)
	asking.Wait()
	s.stop()
}
