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
	"io"
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
	if want.Stage != "repeat" || want.Revenue["EUR"] != "20" {
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
		// That was known, or under a known id with another time: a reject.
		if n := s.count("SELECT count() FROM touchpoints"); n != 3 {
			t.Errorf("there are %d touchpoints, want 3", n)
		}
	}
}

// TestStopWhileBusy stops a server that has a follower, a statement under way
// and a sender.
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
			// A statement without an end, whose reader has stopped reading.
			endless, err := tlsClient.Get(s.clickhouse + "/?query=SELECT+number+FROM+system.numbers")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = endless.Body.Close() }()
			if _, err := io.ReadFull(endless.Body, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
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
			eventually(t, 30*time.Second, "the follower sees something", func() error {
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

// TestConfiguration gives settings by file, environment and flag; the later
// named goes before the earlier.
func TestConfiguration(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	file := filepath.Join(t.TempDir(), "sojourn.yaml")
	text := "listen: 127.0.0.1:1\nclickhouse_listen: \"off\"\npublic_url: http://wrong.example\nlog_format: json\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p := spawn(t, func(c *exec.Cmd) {
		c.Env = environment("SOJOURN_LISTEN=127.0.0.1:0", "SOJOURN_PUBLIC_URL=http://wrong.example", "SOJOURN_ADMIN_TOKEN=mine", "SOJOURN_DATA="+dir)
	}, binary, "serve", "--config", file, "--public-url", "https://track.example/in")
	s := &server{process: p, dir: dir}
	s.ready()
	if s.clickhouse != "" || len(p.err.String()) > 0 && p.err.String()[0] != '{' {
		t.Errorf("the file does not count: %q %q", s.clickhouse, p.err.String())
	}
	if _, err := os.Stat(filepath.Join(dir, "admin-token")); err == nil {
		t.Error("a token was made although one was given")
	}
	get := func(path, token string) answer {
		t.Helper()
		req := newRequest(t, "GET", s.url+path)
		req.Header.Set("Authorization", "Bearer "+token)
		a, err := do(req)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	if a := get("/api/v1/stages", "mine"); a.status != 200 {
		t.Errorf("with the token given: %d %s", a.status, a.body)
	}
	if a := get("/api/v1/stages", "yours"); a.status != 401 {
		t.Errorf("with another: %d %s", a.status, a.body)
	}
	key := strings.TrimSpace(must(t, "keys", "create", "web", "--server", s.url, "--token", "mine"))
	holds(t, get("/v1/projects/"+key+"/settings", "").body, `"apiHost":"track.example/in/v1"`, `"protocol":"https"`)
	holds(t, get("/healthz", "").body, "ok")
	holds(t, get("/metrics", "").body, "sojourn_log_position", "sojourn_views_lag_events")
	holds(t, get("/openapi.json", "").body, `"openapi":"3.1`, `"/api/v1/customers/{id}"`, `"/api/v1/rejects/replay"`)
	s.stop()

	if err := os.WriteFile(file, []byte("lisden: 127.0.0.1:1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p = spawn(t, nil, binary, "serve", "--config", file, "--data", dir)
	if status := p.wait(10 * time.Second); status != 1 {
		t.Errorf("an unknown key: status %d", status)
	}
	holds(t, p.err.String(), file+":1:1", "lisden", "listen")
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
