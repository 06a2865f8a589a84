package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"sojourn/api"
	"sojourn/api/client"
	"sojourn/cmd/sojourn/yamlfile"
	"sojourn/warehouse/chdb"
)

// selfSigned writes a certificate for 127.0.0.1 and its key.
func selfSigned(t *testing.T) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "EC PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// TestHTTPServer checks what the server does around its handlers: HTTPS, and
// the stop, which lets a request under way end and ends connections without one.
func TestHTTPServer(t *testing.T) {
	cert, key := selfSigned(t)
	certificate, err := loadCertificate(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	entered, release := make(chan struct{}), make(chan struct{})
	tracking := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/slow" {
			close(entered)
			<-release
		}
		w.WriteHeader(http.StatusOK)
	})
	admin, err := api.New(api.Config{Token: "t"})
	if err != nil {
		t.Fatal(err)
	}
	s := newServer(tracking, admin, nil, certificate, slog.New(slog.DiscardHandler))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.serve(l) }()

	pool := x509.NewCertPool()
	pem, err := os.ReadFile(cert)
	if err != nil || !pool.AppendCertsFromPEM(pem) {
		t.Fatal(err)
	}
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	get := func(path string) (int, error) {
		res, err := c.Get("https://" + l.Addr().String() + path)
		if err != nil {
			return 0, err
		}
		return res.StatusCode, res.Body.Close()
	}
	for path, want := range map[string]int{"/v1/t": 200, "/projects/x/settings": 200, "/healthz": 200, "/api/v1/stages": 401, "/else": 404} {
		if status, err := get(path); err != nil || status != want {
			t.Errorf("%s: %d, %v, want %d", path, status, err, want)
		}
	}
	if res, err := http.Get("http://" + l.Addr().String() + "/healthz"); err == nil {
		_ = res.Body.Close()
		if res.StatusCode == http.StatusOK {
			t.Error("plain HTTP is answered where HTTPS is configured")
		}
	}

	slow := make(chan int, 1)
	go func() {
		status, _ := get("/v1/slow")
		slow <- status
	}()
	<-entered
	// A connection kept in reserve does not hold the stop up.
	reserve, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{RootCAs: pool})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = reserve.Close() }()
	stopped := make(chan error, 1)
	go func() { stopped <- s.stop() }()
	for !s.stopping.Load() {
		runtime.Gosched()
	}
	close(release)
	if status := <-slow; status != 200 {
		t.Errorf("the request under way was answered %d", status)
	}
	if err := <-stopped; err != nil {
		t.Errorf("stop: %v", err)
	}
	if err := <-served; err != nil {
		t.Errorf("serve: %v", err)
	}
	if _, err := get("/healthz"); err == nil {
		t.Error("the server answers after the stop")
	}
	if err := s.stop(); err != nil {
		t.Errorf("stop a second time: %v", err)
	}
}

func TestGateWhileStopping(t *testing.T) {
	var s server
	h := s.gate(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }))
	for _, stopping := range []bool{false, true} {
		s.stopping.Store(stopping)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, nil)
		if want := map[bool]int{false: 200, true: 503}[stopping]; w.Code != want {
			t.Errorf("stopping %v: %d", stopping, w.Code)
		}
		if stopping && w.Header().Get("Retry-After") == "" {
			t.Error("no Retry-After while stopping")
		}
	}
}

func TestExplain(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{&net.OpError{Op: "listen", Net: "tcp", Err: os.NewSyscallError("bind", syscall.EADDRINUSE)}, "choose another address with --listen"},
		{fmt.Errorf("start: %w", chdb.ErrAddressInUse), "--clickhouse-listen"},
		{&fs.PathError{Op: "write", Path: "data/log", Err: syscall.ENOSPC}, "the disk is full: make room"},
		{&fs.PathError{Op: "write", Path: "data/log", Err: syscall.EDQUOT}, "quota"},
		{&fs.PathError{Op: "open", Path: "data", Err: syscall.EACCES}, "give this user access"},
		{&fs.PathError{Op: "mkdir", Path: "data", Err: syscall.EROFS}, "read-only"},
		{&client.StatusError{Status: 401, Detail: "the admin token is wrong"}, "--token or SOJOURN_ADMIN_TOKEN"},
		{errors.Join(errors.New("one"), errors.New("two")), "one; two"},
		{
			errors.Join(&yamlfile.Error{File: "a", Line: 1, Column: 1, Message: "one"}, &yamlfile.Error{File: "a", Line: 2, Column: 3, Message: "two"}),
			"a:1:1: one\na:2:3: two",
		},
	} {
		got := explain(c.err)
		if !strings.Contains(got, c.want) || strings.Contains(got, "\n") != strings.Contains(c.want, "\n") {
			t.Errorf("%v: %q, want %q", c.err, got, c.want)
		}
	}
}
