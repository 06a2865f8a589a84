package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// process is a run of the binary, or of another program.
type process struct {
	t        testing.TB
	cmd      *exec.Cmd
	out, err output
	ended    chan struct{}
	status   error // of Wait; once ended is closed
}

// output collects what a process prints.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// environment is that of the processes: none of the settings of who runs the
// tests, nor of how the tests collect their garbage, and those given.
func environment(extra ...string) []string {
	env := slices.DeleteFunc(os.Environ(), func(kv string) bool {
		return strings.HasPrefix(kv, "SOJOURN_") || strings.HasPrefix(kv, "GOGC=") || strings.HasPrefix(kv, "GOMEMLIMIT=")
	})
	return append(env, extra...)
}

// spawn starts a process that is killed with the test. configure may be nil.
func spawn(t testing.TB, configure func(*exec.Cmd), name string, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(name, args...), ended: make(chan struct{})}
	p.cmd.Env = environment()
	p.cmd.Dir = t.TempDir()
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.err
	// A child that keeps the output open does not hold up the end.
	p.cmd.WaitDelay = 5 * time.Second
	// Tests that are killed take what they started along.
	p.cmd.SysProcAttr = attributes()
	if configure != nil {
		configure(p.cmd)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.status = p.cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		select {
		case <-p.ended:
		default:
			p.kill()
		}
		if strings.Contains(p.err.String(), "WARNING: DATA RACE") {
			t.Error("the race detector has found something")
		}
		if t.Failed() {
			t.Logf("%s %s\n--- standard output:\n%s--- standard error:\n%s", filepath.Base(name), strings.Join(args, " "), tailOf(p.out.String()), tailOf(p.err.String()))
		}
	})
	return p
}

func tailOf(s string) string {
	const most = 8 << 10
	if len(s) > most {
		return "…" + s[len(s)-most:]
	}
	return s
}

// wait returns when the process has ended, with its exit status; -1 stands for
// a signal.
func (p *process) wait(within time.Duration) int {
	p.t.Helper()
	select {
	case <-p.ended:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(within):
		p.t.Fatalf("%s has not ended within %v", strings.Join(p.cmd.Args, " "), within)
		return 0
	}
}

// over tells whether the process has ended.
func (p *process) over() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Fatal(err)
	}
}

// kill ends the process as kill -9 does, and waits until it and its children
// are gone.
func (p *process) kill() {
	p.t.Helper()
	children := childrenOf(p.cmd.Process.Pid)
	p.signal(syscall.SIGKILL)
	p.wait(20 * time.Second)
	for _, pid := range children {
		gone(p.t, pid)
	}
}

// gone waits until a process has ended.
func gone(t testing.TB, pid int) {
	t.Helper()
	eventually(t, 15*time.Second, fmt.Sprintf("process %d has ended", pid), func() error {
		if state, _ := processStat(pid); state != "" && state != "Z" && state != "X" {
			return fmt.Errorf("its state is %s", state)
		}
		return nil
	})
}

// processStat reads the state and the parent of a process; the state is empty
// where there is none.
func processStat(pid int) (state string, parent int) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", 0
	}
	// The name in parentheses may hold anything.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	parent, _ = strconv.Atoi(fields[1])
	return fields[0], parent
}

// childrenOf lists the running children of a process.
func childrenOf(pid int) []int {
	var children []int
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		child, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if state, parent := processStat(child); parent == pid && state != "Z" {
			children = append(children, child)
		}
	}
	return children
}

// eventually waits until a condition holds.
func eventually(t testing.TB, within time.Duration, what string, condition func() error) {
	t.Helper()
	deadline := time.After(within)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := condition()
		if err == nil {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("%s: not within %v: %v", what, within, err)
		case <-tick.C:
		}
	}
}

// server is a running sojourn serve.
type server struct {
	*process
	dir        string // the data directory
	url        string
	clickhouse string // empty where that port is off
}

// start starts a server on a data directory and free ports, and returns when it
// is ready.
func start(t testing.TB, dir string, args ...string) *server {
	t.Helper()
	s := launch(t, dir, nil, args...)
	s.ready()
	return s
}

// launch starts a server and does not wait for it.
func launch(t testing.TB, dir string, configure func(*exec.Cmd), args ...string) *server {
	t.Helper()
	all := append([]string{"serve", "--data", dir, "--listen", "127.0.0.1:0", "--clickhouse-listen", "127.0.0.1:0"}, args...)
	return &server{process: spawn(t, configure, binary, all...), dir: dir}
}

var (
	addressLine    = regexp.MustCompile(`(?m)^  Address +(\S+)$`)
	clickhouseLine = regexp.MustCompile(`(?m)^  ClickHouse +(\S+) `)
)

// ready waits until the server answers; it takes the addresses from what a user
// reads.
func (s *server) ready() {
	s.t.Helper()
	s.greeted()
	eventually(s.t, time.Minute, "the server is ready", func() error {
		if s.over() {
			s.t.Fatalf("the server ended: %s", s.err.String())
		}
		r, err := s.readyState()
		if err == nil && !r.Ready {
			err = fmt.Errorf("%+v", r)
		}
		return err
	})
}

// greeted waits until the server has printed its addresses.
func (s *server) greeted() {
	s.t.Helper()
	s.greetedWithin(time.Minute)
}

func (s *server) greetedWithin(d time.Duration) {
	s.t.Helper()
	eventually(s.t, d, "the server prints its address", func() error {
		m := addressLine.FindStringSubmatch(s.out.String())
		if m == nil || !strings.Contains(s.out.String(), "Try:") {
			if s.over() {
				s.t.Fatalf("the server ended: %s", s.err.String())
			}
			return errors.New("it has not")
		}
		s.url = m[1]
		if m := clickhouseLine.FindStringSubmatch(s.out.String()); m != nil {
			s.clickhouse = m[1]
		}
		return nil
	})
}

// stop asks the server to stop, and checks that it does so cleanly and in time
// and leaves no child behind.
func (s *server) stop() {
	s.t.Helper()
	children := childrenOf(s.cmd.Process.Pid)
	s.signal(syscall.SIGTERM)
	if code := s.wait(10 * time.Second); code != 0 {
		s.t.Fatalf("the server ended with status %d: %s", code, tailOf(s.err.String()))
	}
	for _, pid := range children {
		gone(s.t, pid)
	}
}

// sojourn runs a command to its end.
func sojourn(t testing.TB, args ...string) (status int, out, errOut string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env = environment()
	cmd.Dir = t.TempDir()
	var o, e bytes.Buffer
	cmd.Stdout, cmd.Stderr = &o, &e
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if ctx.Err() != nil {
		t.Fatalf("sojourn %s took too long: %s", strings.Join(args, " "), e.String())
	}
	return cmd.ProcessState.ExitCode(), o.String(), e.String()
}

// must runs a command that succeeds, and returns its standard output.
func must(t testing.TB, args ...string) string {
	t.Helper()
	status, out, errOut := sojourn(t, args...)
	if status != 0 {
		t.Fatalf("sojourn %s: status %d\n%s%s", strings.Join(args, " "), status, out, errOut)
	}
	return out
}
