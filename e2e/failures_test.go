package e2e

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// refused starts a server that cannot run, and returns the one line that it
// says.
func refused(t *testing.T, configure func(*exec.Cmd), args ...string) string {
	t.Helper()
	p := spawn(t, configure, binary, append([]string{"serve"}, args...)...)
	if status := p.wait(30 * time.Second); status != 1 {
		t.Fatalf("status %d, want 1", status)
	}
	if p.out.String() != "" {
		t.Errorf("standard output: %q", p.out.String())
	}
	// The log before it is for who wants to know more.
	var said []string
	for line := range strings.Lines(p.err.String()) {
		if !strings.HasPrefix(line, "time=") {
			said = append(said, strings.TrimSuffix(line, "\n"))
		}
	}
	if len(said) != 1 || !strings.HasPrefix(said[0], "sojourn: ") {
		t.Fatalf("it says %q, want one line", said)
	}
	return said[0]
}

func holds(t *testing.T, line string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(line, part) {
			t.Errorf("%q does not say %q", line, part)
		}
	}
}

const anyPort = "127.0.0.1:0"

func TestTwoServersOnOneDirectory(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	line := refused(t, nil, "--data", s.dir, "--listen", anyPort, "--clickhouse-listen", anyPort)
	holds(t, line, "in use", fmt.Sprint("process ", s.cmd.Process.Pid), s.dir, "--data")
	// The first does not mind.
	s.stages("")
	s.stop()
}

func TestBusyPort(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", anyPort)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	busy := l.Addr().String()
	dir := filepath.Join(t.TempDir(), "data")
	holds(t, refused(t, nil, "--data", dir, "--listen", busy, "--clickhouse-listen", anyPort), busy, "in use", "--listen")
	holds(t, refused(t, nil, "--data", dir, "--listen", anyPort, "--clickhouse-listen", busy), busy, "in use", "--clickhouse-listen")
	// Nothing stays behind that would hinder the next start.
	start(t, dir).stop()
}

func TestMissingLibrary(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	line := refused(t, func(c *exec.Cmd) { c.Env = environment("SOJOURN_CHDB_LIB=/nowhere/libchdb.so") },
		"--data", dir, "--listen", anyPort, "--clickhouse-listen", anyPort)
	holds(t, line, "library", "/nowhere/libchdb.so", "SOJOURN_CHDB_LIB")

	broken := filepath.Join(t.TempDir(), "libchdb.so")
	if err := os.WriteFile(broken, []byte("this is no library"), 0o600); err != nil {
		t.Fatal(err)
	}
	line = refused(t, nil, "--data", dir, "--listen", anyPort, "--clickhouse-listen", anyPort, "--clickhouse-library", broken)
	holds(t, line, broken)
}

// TestFindsTheLibrary starts the binary from a folder that has nothing to do
// with the checkout, as one does with bin/sojourn.
func TestFindsTheLibrary(t *testing.T) {
	t.Parallel()
	tree := t.TempDir()
	if err := checkout(tree); err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	moved := filepath.Join(tree, "bin", "sojourn")
	if err := os.WriteFile(moved, program, 0o755); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "data")
	p := spawn(t, func(c *exec.Cmd) { c.Dir = "/" }, moved, "serve", "--data", dir, "--listen", anyPort, "--clickhouse-listen", anyPort)
	s := &server{process: p, dir: dir}
	s.ready()
	s.stop()
}

func TestUnreadableDirectory(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	if err := os.Mkdir(dir, 0o000); err != nil {
		t.Fatal(err)
	}
	args := []string{"serve", "--data", dir, "--listen", anyPort, "--clickhouse-listen", anyPort}
	name := binary
	if os.Geteuid() == 0 {
		// Root reads everything, unless it lays down the right to.
		name, args = "setpriv", append([]string{"--bounding-set", "-dac_override,-dac_read_search", binary}, args...)
	}
	p := spawn(t, nil, name, args...)
	if status := p.wait(30 * time.Second); status != 1 {
		t.Fatalf("status %d, want 1", status)
	}
	if strings.Count(p.err.String(), "\n") != 1 {
		t.Errorf("it says %q, want one line", p.err.String())
	}
	holds(t, p.err.String(), "sojourn: ", dir, "permission denied", "--data")

	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	holds(t, refused(t, nil, "--data", file, "--listen", anyPort, "--clickhouse-listen", anyPort), file, "not a directory", "--data")
}

// TestWrongSettings checks that what cannot be is said before anything starts.
func TestWrongSettings(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	for _, c := range []struct {
		args []string
		says []string
	}{
		{[]string{"--clickhouse-listen", "0.0.0.0:0"}, []string{"clickhouse-password", "SOJOURN_CLICKHOUSE_PASSWORD"}},
		{[]string{"--tls-cert", "cert.pem"}, []string{"tls-key"}},
		{[]string{"--tls-cert", "nowhere.pem", "--tls-key", "nowhere.key"}, []string{"nowhere.pem", "--tls-cert"}},
		{[]string{"--flush-interval", "2s"}, []string{"flush-interval", "1s"}},
		{[]string{"--policy", "nowhere.yaml"}, []string{"nowhere.yaml"}},
		{[]string{"--config", "nowhere.yaml"}, []string{"nowhere.yaml"}},
		{[]string{"--listen", "nonsense"}, []string{"nonsense", "127.0.0.1:8080"}},
	} {
		line := refused(t, nil, append([]string{"--data", dir}, c.args...)...)
		holds(t, line, c.says...)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("something was started: %v", err)
	}
	if status, _, errOut := sojourn(t, "serve", "--dta", dir); status != 2 || strings.Count(errOut, "\n") != 1 {
		t.Errorf("an unknown flag: status %d, %q", status, errOut)
	}
}

// fullDisk runs in a mount name space of its own: a server on a small file
// system that fills up; after it has ended, there is room, and another server
// starts.
const fullDisk = `
set -eu
mount -t tmpfs -o size=400m none "$1"
head -c 100M /dev/zero >"$1/ballast"
"$2" serve --data "$1/data" --listen 127.0.0.1:0 --clickhouse-listen 127.0.0.1:0 && status=0 || status=$?
echo "the first server ended with status $status"
rm "$1/ballast"
exec "$2" serve --data "$1/data" --listen 127.0.0.1:0 --clickhouse-listen 127.0.0.1:0
`

// limitedFiles stands in for it where no file system may be mounted: no file may
// grow above 2 MiB.
const limitedFiles = `
set -eu
(ulimit -f 2048; exec "$2" serve --data "$1/data" --listen 127.0.0.1:0 --clickhouse-listen 127.0.0.1:0) && status=0 || status=$?
echo "the first server ended with status $status"
exec "$2" serve --data "$1/data" --listen 127.0.0.1:0 --clickhouse-listen 127.0.0.1:0
`

func TestFullDisk(t *testing.T) {
	t.Parallel()
	script, unshare := fullDisk, []string{"unshare", "-rm"}
	if err := exec.Command("unshare", "-rm", "mount", "-t", "tmpfs", "none", t.TempDir()).Run(); err != nil {
		t.Logf("no file system may be mounted here (%v); files are limited in place of it", err)
		script, unshare = limitedFiles, nil
	}
	dir := t.TempDir()
	args := append(unshare, "bash", "-c", script, "bash", dir, binary)
	p := spawn(t, nil, args[0], args[1:]...)
	// The data directory is inside the name space.
	s := &server{process: p, dir: filepath.Join(dir, "data")}
	s.ready()
	if unshare != nil {
		s.dir = filepath.Join("/proc", fmt.Sprint(p.cmd.Process.Pid), "root", s.dir)
	}
	key := s.writeKey("shop")
	filler := strings.Repeat("not much that can be squeezed ", 800)
	acked, ended := 0, errors.New("it still runs")
	for n := 0; ended != nil && n < 100_000; {
		batch := make([]message, 15)
		for i := range batch {
			batch[i] = order(fmt.Sprint("user-", n), fmt.Sprint(n), n%300)
			batch[i]["context"] = message{"page": message{"title": fmt.Sprint(n) + filler}}
			n++
		}
		a, err := track(s.url, key, "/v1/batch", message{"batch": batch})
		switch {
		case err == nil && a.status == 200:
			acked += len(batch)
		case strings.Contains(s.out.String(), "the first server ended"):
			ended = nil
		case err == nil && a.status != 503 && a.status != 429:
			t.Fatalf("with a full disk: %d %s", a.status, a.body)
		}
	}
	if ended != nil {
		t.Fatal("the disk does not become full")
	}
	holds(t, s.out.String(), "the first server ended with status 1")
	var said []string
	for line := range strings.Lines(s.err.String()) {
		if strings.HasPrefix(line, "sojourn: ") {
			said = append(said, line)
		}
	}
	if len(said) != 1 {
		t.Fatalf("it says %q, want one line", said)
	}
	if unshare != nil {
		holds(t, said[0], "no space left on device", "make room")
	} else {
		holds(t, said[0], "file too large")
	}
	t.Logf("%d were acknowledged; then: %s", acked, said[0])

	// With room again nothing is missing that was acknowledged.
	first := s.url
	eventually(t, time.Minute, "the second server is there", func() error {
		at := strings.LastIndex(s.out.String(), "  Address ")
		if m := addressLine.FindStringSubmatch(s.out.String()[max(at, 0):]); m != nil && m[1] != first {
			s.url = m[1]
			return nil
		}
		return errors.New("not yet")
	})
	eventually(t, time.Minute, "it is ready", func() error {
		r, err := s.readyState()
		if err == nil && (!r.Ready || r.Lag > 0 || r.Error != "") {
			err = fmt.Errorf("%+v", r)
		}
		return err
	})
	at := strings.LastIndex(s.out.String(), "  ClickHouse ")
	s.clickhouse = clickhouseLine.FindStringSubmatch(s.out.String()[at:])[1]
	if got := s.count("SELECT uniqExact(user_id) FROM touchpoints"); got < acked || got != s.count("SELECT count() FROM touchpoints") {
		t.Errorf("%d are there, %d were acknowledged", got, acked)
	}
}
