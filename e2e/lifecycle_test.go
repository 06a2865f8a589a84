package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// order is a purchase some days ago.
func order(user, id string, daysAgo int) message {
	return message{
		"type": "track", "event": "Order Completed", "userId": user, "messageId": "order-" + id,
		"timestamp":  time.Now().Add(-time.Hour - time.Duration(daysAgo)*24*time.Hour).UTC().Format(time.RFC3339),
		"properties": message{"order_id": id, "total": "10.00", "currency": "EUR"},
	}
}

func TestSecondStart(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	s := start(t, dir)
	key, token := s.writeKey("shop"), s.token()
	pos := s.send(key, order("1", "a", 3), order("1", "b", 1), order("2", "c", 200))
	want := s.customer("user:1", fmt.Sprint("after=", pos))
	if want.Stage != "repeat" || want.Revenue["EUR"] != "20" && want.Revenue["EUR"] != "20.0000" && want.Revenue["EUR"] != "20.00" {
		t.Fatalf("%+v", want)
	}
	for _, end := range []func(){s.stop, func() { s.kill() }} {
		end()
		begun := time.Now()
		s = start(t, dir)
		if took := time.Since(begun); took > 5*time.Second {
			t.Errorf("the start took %v", took)
		}
		if s.token() != token {
			t.Error("the admin token is another one")
		}
		got := s.customer("user:1", "")
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("after the start: %+v, want %+v", got, want)
		}
		if stages := s.stages(""); stages["repeat"] != 1 || stages["churned"] != 1 {
			t.Errorf("stages %v", stages)
		}
		// The write key is in force still, and what is known is known.
		a, err := track(s.url, key, "/v1/track", order("1", "a", 3))
		if err != nil || a.status != 200 {
			t.Errorf("%d %s %v", a.status, a.body, err)
		}
		// The line above has another timestamp than the first: a reject.
		if n := s.count("SELECT count() FROM touchpoints"); n != 3 {
			t.Errorf("there are %d touchpoints, want 3", n)
		}
	}
}

// TestStopWhileBusy stops a server that has a follower, a slow query and
// senders.
func TestStopWhileBusy(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(sig.String(), func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			s := start(t, dir)
			key := s.writeKey("shop")
			tail := spawn(t, nil, binary, "tail", "--data", dir, "--after", "0")
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			req, err := http.NewRequestWithContext(ctx, "POST", s.clickhouse, strings.NewReader("SELECT count() FROM numbers(1e12) WHERE sipHash64(number) = 1"))
			if err != nil {
				t.Fatal(err)
			}
			query := make(chan error, 1)
			go func() {
				res, err := tlsClient.Do(req)
				if err == nil {
					res.Body.Close()
				}
				query <- err
			}()
			acked := make(chan int, 1)
			go func() {
				n := 0
				for ; ctx.Err() == nil; n++ {
					a, err := track(s.url, key, "/v1/track", order(fmt.Sprint("user-", n), fmt.Sprint(n), n%300))
					if err != nil || a.status != 200 {
						if err == nil && a.status != 503 {
							t.Errorf("while stopping: %d %s", a.status, a.body)
						}
						break
					}
				}
				acked <- n
			}()
			eventually(t, 30*time.Second, "the follower sees something, and the query runs", func() error {
				if !strings.Contains(tail.out.String(), "Order Completed") {
					return errors.New("nothing is printed")
				}
				return nil
			})
			children := childrenOf(s.cmd.Process.Pid)
			begun := time.Now()
			s.signal(sig)
			if code := s.wait(10 * time.Second); code != 0 {
				t.Errorf("status %d", code)
			}
			t.Logf("stopped within %v", time.Since(begun))
			for _, pid := range children {
				gone(t, pid)
			}
			cancel()
			<-query
			n := <-acked
			tail.wait(10 * time.Second)

			s = start(t, dir)
			s.caughtUp()
			// One more may have come in whose answer was cut off.
			if got := s.count("SELECT count() FROM touchpoints"); got < n || got > n+1 {
				t.Errorf("%d touchpoints are there, %d were acknowledged", got, n)
			}
		})
	}
}

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

const (
	anyPort = "127.0.0.1:0"
)

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
	defer l.Close()
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

func TestTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	certificate(t, cert, key)
	s := newServer(t, "--tls-cert", cert, "--tls-key", key)
	if !strings.HasPrefix(s.url, "https://") {
		t.Fatalf("the address is %s", s.url)
	}
	pos := s.send(s.writeKey("shop"), order("1", "a", 0))
	if c := s.customer("user:1", fmt.Sprint("after=", pos)); c.Stage != "first_purchase" {
		t.Errorf("%+v", c)
	}
	// Plain HTTP is not spoken there.
	a, err := do(newRequest(t, "GET", "http"+strings.TrimPrefix(s.url, "https")+"/readyz"))
	if err == nil && a.status == 200 {
		t.Error("plain HTTP is answered")
	}
	// The settings send the SDKs to https.
	a, err = do(newRequest(t, "GET", s.url+"/v1/projects/"+s.writeKey("web")+"/settings"))
	if err != nil || !strings.Contains(a.body, `"protocol":"https"`) {
		t.Errorf("%v %s", err, a.body)
	}
}

func newRequest(t *testing.T, method, url string) *http.Request {
	t.Helper()
	req, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// certificate writes a certificate of 127.0.0.1 and its key.
func certificate(t *testing.T, certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "sojourn"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{
		certFile: {Type: "CERTIFICATE", Bytes: cert},
		keyFile:  {Type: "PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
