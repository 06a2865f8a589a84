package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

const candidate = "lifecycle: {loyal_purchases: 2, at_risk_days: 40}\nidentity: {join: [user]}\n"

// previewState is what the server says of a preview; report is its text.
type previewState struct {
	ID, State, Error string
	Done, Total      uint64
}

// startPreview starts one, and waits for the end of the one before.
func (s *server) startPreview() string {
	s.t.Helper()
	var p previewState
	eventually(s.t, time.Minute, "a preview starts", func() error {
		if a := s.api("POST", "/policies/previews", message{"source": candidate}, &p); a.status != 202 {
			return fmt.Errorf("%d %s", a.status, a.body)
		}
		return nil
	})
	return p.ID
}

// ended waits for the end of a preview and returns all that is said of it.
func (s *server) ended(id string) (p previewState, all string) {
	s.t.Helper()
	eventually(s.t, time.Minute, "the preview ends", func() error {
		if all = s.api("GET", "/policies/previews/"+id, nil, &p).body; p.State == "running" {
			return errors.New(all)
		}
		return nil
	})
	_, all, _ = strings.Cut(all, `"report":`)
	return p, all
}

// previewWorker is the process that computes the preview of a server once that has
// the lowest priority, 0 for none.
func previewWorker(s *server) int {
	for _, pid := range childrenOf(s.cmd.Process.Pid) {
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if !strings.Contains(string(line), "\x00preview-worker\x00") || len(stat) == 0 {
			continue
		}
		// Niceness and scheduling policy, of which 5 is SCHED_IDLE.
		if f := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:])); f[16] == "19" && f[38] == "5" {
			return pid
		}
	}
	return 0
}

// held starts a preview and stops the process that computes it in the middle.
func (s *server) held() (id string, pid int) {
	s.t.Helper()
	for range 100 {
		id = s.startPreview()
		p := previewState{State: "running"}
		for pid = 0; pid == 0 && p.State == "running"; pid = previewWorker(s) {
			s.api("GET", "/policies/previews/"+id+"?examples=0", nil, &p)
		}
		if pid == 0 || syscall.Kill(pid, syscall.SIGSTOP) != nil {
			continue
		}
		s.api("GET", "/policies/previews/"+id+"?examples=0", nil, &p)
		if p.State == "running" && (p.Total == 0 || p.Done < p.Total) {
			return id, pid
		}
		_ = syscall.Kill(pid, syscall.SIGCONT)
	}
	s.t.Fatal("every preview has ended before its process was found")
	return "", 0
}

// previewFolders are the folders of previews in the data directory.
func (s *server) previewFolders() []string {
	s.t.Helper()
	found, err := filepath.Glob(filepath.Join(s.dir, "views", "preview-*"))
	if err != nil {
		s.t.Fatal(err)
	}
	return found
}

// TestPreviewProcess ends the process that computes a preview, and the server beside
// it, in every way.
func TestPreviewProcess(t *testing.T) {
	t.Parallel()
	s := start(t, filepath.Join(t.TempDir(), "data"))
	key := s.writeKey("shop")
	for batch := range 10 {
		var messages []message
		for i := range 300 {
			user := fmt.Sprint("u", batch, "-", i%100)
			messages = append(messages, order(user, fmt.Sprint(batch, "-", i), 10+i%90),
				message{"type": "page", "userId": user, "anonymousId": fmt.Sprint("v", batch, "-", i), "messageId": fmt.Sprint("page-", batch, "-", i), "name": "Home"})
		}
		s.send(key, messages...)
	}
	s.caughtUp()
	clean := func(when string) {
		t.Helper()
		if left := s.previewFolders(); len(left) > 0 {
			t.Errorf("%s: left behind: %v", when, left)
		}
	}

	p, report := s.ended(s.startPreview())
	if p.State != "done" || p.Done != p.Total || p.Total < 6000 || !strings.Contains(report, `"from":"repeat","to":"loyal"`) {
		t.Fatalf("%+v: %s", p, report)
	}
	clean("done")

	id, pid := s.held()
	if len(s.previewFolders()) != 1 {
		t.Errorf("while it runs: %v", s.previewFolders())
	}
	if a := s.api("POST", "/policies/previews", message{"source": candidate}, nil); a.status != 409 || !strings.Contains(a.body, id) {
		t.Errorf("a second one: %d %s", a.status, a.body)
	}
	s.api("DELETE", "/policies/previews/"+id, nil, nil)
	if p, _ := s.ended(id); p.State != "cancelled" {
		t.Errorf("%+v", p)
	}
	gone(t, pid)
	clean("cancelled")

	id, pid = s.held()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if p, _ := s.ended(id); p.State != "failed" || !strings.Contains(p.Error, "ended before its time (signal: killed)") {
		t.Errorf("%+v", p)
	}
	clean("killed")

	// The server minds none of it, and says the same again.
	s.verify()
	again, said := s.ended(s.startPreview())
	if clock, same := withoutClock(said), withoutClock(report); again.State != "done" || clock != same {
		t.Errorf("%+v: %s\nwant %s", again, clock, same)
	}

	_, _ = s.held()
	s.stop()
	clean("the server was stopped")

	s = start(t, s.dir)
	s.caughtUp()
	_, _ = s.held()
	s.kill() // it waits for the process, too
	if len(s.previewFolders()) != 1 {
		t.Errorf("the server was killed: %v", s.previewFolders())
	}
	s = start(t, s.dir)
	clean("the start after the kill")
}

// TestPreviewOfALogElsewhere previews on a server whose log is another's.
func TestPreviewOfALogElsewhere(t *testing.T) {
	t.Parallel()
	owner := newServer(t, "--esdb-listen", "127.0.0.1:0", "--esdb-insecure", "--esdb-writable")
	address := regexp.MustCompile(`(?m)^  EventStoreDB (\S+)$`).FindStringSubmatch(owner.out.String())
	if address == nil {
		t.Fatalf("the server does not say where:\n%s", owner.out.String())
	}
	s := launch(t, filepath.Join(t.TempDir(), "data"), func(c *exec.Cmd) {
		key, err := os.ReadFile(filepath.Join(owner.dir, "stream-key"))
		if err != nil {
			t.Fatal(err)
		}
		c.Env = append(c.Env, fmt.Sprintf("SOJOURN_STREAM_KEY=%x", key))
	}, "--store", address[1])
	s.ready()
	s.send(s.writeKey("shop"), order("ada", "1", 10), order("ada", "2", 10), order("bob", "3", 10))
	s.caughtUp()
	p, report := s.ended(s.startPreview())
	if p.State != "done" || !strings.Contains(report, `{"from":"repeat","to":"loyal","customers":1,`) {
		t.Errorf("%+v: %s", p, report)
	}
	if left := s.previewFolders(); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// withoutClock is a report without the instant and the position that it is as of.
func withoutClock(report string) string {
	_, rest, _ := strings.Cut(report, `"policy_version":`)
	return rest
}
