package esdbserver

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"
	"go.uber.org/goleak"

	"sojourn/eventstore"
	"sojourn/eventstore/pebblestore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// own are the streams that the tests take for Sojourn's.
func own(stream string) bool { return strings.HasPrefix(stream, "own-") }

// fixture is a server over a store in memory.
type fixture struct {
	store   *pebblestore.Store
	server  *Server
	address string
	now     time.Time // the server's clock stands still where it is set
}

func start(t testing.TB, change func(*Config)) *fixture {
	t.Helper()
	p, err := pebblestore.Open("store", pebblestore.Options{FS: vfs.NewMem(), CacheBytes: 1 << 20, MemTableBytes: 1 << 20, SegmentEvents: 1 << 14})
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{store: p}
	c := Config{Store: p, Own: own, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)), Now: func() time.Time {
		if f.now.IsZero() {
			return time.Now()
		}
		return f.now
	}}
	if change != nil {
		change(&c)
	}
	if f.server, err = New(c); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.address = l.Addr().String()
	served := make(chan error, 1)
	go func() { served <- f.server.Serve(l) }()
	t.Cleanup(func() {
		f.server.Stop(5 * time.Second)
		if err := <-served; err != nil {
			t.Error(err)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

// client is EventStoreDB's own client, connected to a server.
func (f *fixture) client(t testing.TB, settings string) *esdb.Client {
	t.Helper()
	return connect(t, fmt.Sprintf("esdb://%s?tls=false%s", f.address, settings), nil)
}

func connect(t testing.TB, connection string, roots *x509.CertPool) *esdb.Client {
	t.Helper()
	c, err := esdb.ParseConnectionString(connection)
	if err != nil {
		t.Fatal(err)
	}
	c.Logger, c.RootCAs = nil, roots
	client, err := esdb.NewClient(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	})
	return client
}

func deadline(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// named makes an event whose data are its name in JSON.
func named(name string) esdb.EventData {
	return esdb.EventData{EventID: uuid.NewSHA1(uuid.Nil, []byte(name)), EventType: "of-" + name[:1], ContentType: esdb.ContentTypeJson, Data: []byte(`"` + name + `"`)}
}

func appendTo(t testing.TB, c *esdb.Client, stream string, expected esdb.ExpectedRevision, names ...string) *esdb.WriteResult {
	t.Helper()
	var events []esdb.EventData
	for _, n := range names {
		events = append(events, named(n))
	}
	res, err := c.AppendToStream(deadline(t), stream, esdb.AppendToStreamOptions{ExpectedRevision: expected}, events...)
	if err != nil {
		t.Fatalf("append %v to %s: %v", names, stream, err)
	}
	return res
}

// say appends to the store itself, as Sojourn does.
func (f *fixture) say(t testing.TB, stream string, names ...string) {
	t.Helper()
	for _, n := range names {
		e := eventstore.NewEvent{ID: uuid.NewSHA1(uuid.Nil, []byte(n)), Type: "of-" + n[:1], Metadata: []byte{1, 2}, Data: []byte(`"` + n + `"`)}
		if _, err := f.store.Append(deadline(t), stream, eventstore.Any{}, e); err != nil {
			t.Fatal(err)
		}
	}
}

// told reads a stream to its end and lists the names of its events.
func told(t testing.TB, r *esdb.ReadStream, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var out []string
	for {
		e, err := r.Recv()
		if errors.Is(err, io.EOF) {
			return strings.Join(out, " ")
		}
		if err != nil {
			return strings.TrimSpace(strings.Join(out, " ") + " " + codeOf(err))
		}
		out = append(out, nameOf(e.Event))
	}
}

func nameOf(e *esdb.RecordedEvent) string {
	if e == nil {
		return "nothing"
	}
	if strings.HasPrefix(e.EventType, "$") {
		return e.EventType
	}
	return strings.Trim(string(e.Data), `"`)
}

// codeOf names the kind of a client's error.
func codeOf(err error) string {
	var e *esdb.Error
	if !errors.As(err, &e) {
		return fmt.Sprintf("an error of no kind: %v", err)
	}
	switch e.Code() {
	case esdb.ErrorCodeResourceNotFound:
		return "not-found"
	case esdb.ErrorCodeStreamDeleted:
		return "deleted"
	case esdb.ErrorCodeAccessDenied:
		return "denied"
	case esdb.ErrorCodeUnauthenticated:
		return "unauthenticated"
	case esdb.ErrorCodeWrongExpectedVersion:
		return "wrong-version"
	case esdb.ErrorCodeUnsupportedFeature:
		return "unsupported"
	case esdb.ErrorUnavailable:
		return "unavailable"
	case esdb.ErrorCodeDeadlineExceeded:
		return "deadline"
	}
	return e.Error()
}

func wantCode(t testing.TB, what string, err error, want string) {
	t.Helper()
	if err == nil {
		t.Errorf("%s: no error, want %s", what, want)
	} else if got := codeOf(err); got != want {
		t.Errorf("%s: %s, want %s", what, got, want)
	}
}

// selfSigned makes a certificate for loopback and the pool that trusts it.
func selfSigned(t testing.TB) (*tls.Config, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12}, pool
}

func TestAccessOverTLS(t *testing.T) {
	t.Parallel()
	config, roots := selfSigned(t)
	f := start(t, func(c *Config) {
		c.TLS = config
		c.Authorize = func(user, password string) Access {
			switch {
			case user == "worker" && password == "worker-secret":
				return Worker
			case password == "admin-secret":
				return Outside
			}
			return Denied
		}
	})
	f.say(t, "own-1", "a")
	as := func(login string) *esdb.Client { return connect(t, "esdb://"+login+f.address, roots) }
	write := func(c *esdb.Client, stream string) error {
		_, err := c.AppendToStream(deadline(t), stream, esdb.AppendToStreamOptions{}, named("x"))
		return err
	}
	for _, login := range []string{"", "admin:wrong@", "worker:admin@", ":x@"[:0]} {
		c := as(login)
		_, err := c.AppendToStream(deadline(t), "free", esdb.AppendToStreamOptions{}, named("x"))
		if err == nil {
			t.Fatalf("%q may write", login)
		}
		r, err := c.ReadStream(deadline(t), "own-1", esdb.ReadStreamOptions{}, 1)
		if got := told(t, r, err); got != "unauthenticated" {
			t.Errorf("%q reads %s", login, got)
		}
	}
	admin := as("anyone:admin-secret@")
	r, err := admin.ReadStream(deadline(t), "own-1", esdb.ReadStreamOptions{}, 10)
	if got := told(t, r, err); got != "a" {
		t.Errorf("the admin reads %q", got)
	}
	if err := write(admin, "free"); err != nil {
		t.Error(err)
	}
	if err := write(admin, "own-1"); err == nil {
		t.Error("the admin writes Sojourn's streams")
	}
	if err := write(as("worker:worker-secret@"), "own-1"); err != nil {
		t.Errorf("a worker may not write: %v", err)
	}
	// The token of the admin makes nobody a worker.
	if err := write(as("worker:admin-secret@"), "own-1"); err == nil {
		t.Error("the admin's token lets a worker write")
	}
}

// TestDiscovery connects as to a cluster.
func TestDiscovery(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	for _, connection := range []string{
		"esdb+discover://" + f.address + "?tls=false",
		"esdb://" + f.address + "," + f.address + "?tls=false&nodePreference=leader",
	} {
		c := connect(t, connection, nil)
		appendTo(t, c, "free", esdb.Any{}, "a")
		v, err := c.GetServerVersion()
		if err != nil || fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Patch) != ProtocolVersion {
			t.Errorf("version %v, %v", v, err)
		}
	}
}

func TestNotServed(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	c := f.client(t, "")
	// The client does not ask for what ServerFeatures does not list.
	wantCode(t, "persistent subscription to all", c.CreatePersistentSubscriptionToAll(deadline(t), "group", esdb.PersistentAllSubscriptionOptions{}), "unsupported")
	err := c.CreatePersistentSubscription(deadline(t), "free", "group", esdb.PersistentStreamSubscriptionOptions{})
	wantCode(t, "persistent subscription", err, "unsupported")
	if err == nil || !strings.Contains(err.Error(), "Sojourn does not serve persistent subscriptions") {
		t.Errorf("the refusal says %v", err)
	}
	config, err := esdb.ParseConnectionString("esdb://" + f.address + "?tls=false")
	if err != nil {
		t.Fatal(err)
	}
	config.Logger = nil
	p, err := esdb.NewProjectionClient(config)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.Close() }()
	err = p.Create(deadline(t), "totals", "fromAll()", esdb.CreateProjectionOptions{})
	if err == nil || !strings.Contains(err.Error(), "Unimplemented") || !strings.Contains(err.Error(), "server-side projections") {
		t.Errorf("the refusal says %v", err)
	}
}

// TestStopEndsSubscriptions stops a server that others listen to.
func TestStopEndsSubscriptions(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	c := f.client(t, "")
	sub, err := c.SubscribeToAll(deadline(t), esdb.SubscribeToAllOptions{From: esdb.Start{}})
	if err != nil {
		t.Fatal(err)
	}
	if e := sub.Recv(); e.CaughtUp == nil {
		t.Fatalf("the first answer is %+v", e)
	}
	began := time.Now()
	f.server.Stop(20 * time.Second)
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("the stop took %v", took)
	}
	if e := sub.Recv(); e.SubscriptionDropped == nil {
		t.Errorf("the subscription goes on with %+v", e)
	}
}
