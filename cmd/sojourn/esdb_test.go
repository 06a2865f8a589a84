package main

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/google/uuid"

	"sojourn/automation"
	"sojourn/domain"
	"sojourn/domain/fact"
)

// esdbClient connects EventStoreDB's own client to the address that a start
// prints.
func esdbClient(t *testing.T, s running, login string, roots *x509.CertPool) *esdb.Client {
	t.Helper()
	connection := regexp.MustCompile(`EventStoreDB (esdb://\S+)`).FindStringSubmatch(s.out.String())
	if connection == nil {
		t.Fatalf("the start prints no address:\n%s", s.out)
	}
	c, err := esdb.ParseConnectionString(strings.Replace(connection[1], "esdb://", "esdb://"+login, 1))
	if err != nil {
		t.Fatal(err)
	}
	c.Logger, c.RootCAs = nil, roots
	client, err := esdb.NewClient(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// everything reads the log of a server.
func everything(t *testing.T, c *esdb.Client) (events []*esdb.RecordedEvent) {
	t.Helper()
	r, err := c.ReadAll(t.Context(), esdb.ReadAllOptions{From: esdb.Start{}}, math.MaxUint64)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for {
		e, err := r.Recv()
		if errors.Is(err, io.EOF) {
			return events
		}
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, e.Event)
	}
}

func isDenied(err error) bool {
	var e *esdb.Error
	return errors.As(err, &e) && e.Code() == esdb.ErrorCodeAccessDenied
}

// TestESDB opens the log of a server to EventStoreDB's clients, and starts a
// second server whose log it is.
func TestESDB(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	data := filepath.Join(t.TempDir(), "data")
	s := startServer(t, data, "--esdb-listen", "127.0.0.1:0", "--esdb-insecure")
	demo := func(data, customers string) {
		t.Helper()
		status, out, errOut := sojourn(ctx, "demo", "--customers", customers, "--days", "40", "--end", "2026-03-01", "--data="+data)
		if status != 0 || !strings.Contains(out, "the views hold them") {
			t.Fatalf("demo: %d %s %s", status, out, errOut)
		}
	}
	demo(data, "20")
	c := esdbClient(t, s, "", nil)
	events := everything(t, c)
	types := make(map[string]int)
	refused := make(map[string]bool)
	for _, e := range events {
		types[e.EventType]++
		if refused[e.StreamID] {
			continue
		}
		refused[e.StreamID] = true
		// Whatever the server writes is its own.
		if !ownStream(e.StreamID) {
			t.Errorf("anyone may write the stream %s", e.StreamID)
		}
	}
	if types[domain.TypeTouchpoint] < 20 || types[domain.TypeStageEntered] == 0 {
		t.Errorf("the log holds %v", types)
	}
	stream := events[len(events)-1].StreamID
	if _, err := c.AppendToStream(ctx, stream, esdb.AppendToStreamOptions{}); !isDenied(err) {
		t.Errorf("an append to %s: %v", stream, err)
	}
	if _, err := c.TombstoneStream(ctx, domain.StreamWriteKeys, esdb.TombstoneStreamOptions{}); err == nil {
		t.Error("anyone may end the stream of the write keys")
	}

	// Events of others stop nothing, whatever they are.
	sub, err := c.SubscribeToAll(ctx, esdb.SubscribeToAllOptions{From: esdb.End{}, Filter: &esdb.SubscriptionFilter{Type: esdb.StreamFilterType, Prefixes: []string{"invoice-"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Close() }()
	foreign := []esdb.EventData{{EventType: "InvoiceSent", ContentType: esdb.ContentTypeJson, Data: []byte(`{"total": 1}`)}}
	for _, typ := range []string{ // and look like some of Sojourn's
		domain.TypeTouchpoint, domain.TypeStageEntered, domain.TypeSegmentWithdrawn, domain.TypeIdentityMerged,
		domain.TypeLoyaltyCommand, domain.TypeFeedbackHandled,
	} {
		foreign = append(foreign, esdb.EventData{EventType: typ, Data: []byte{0xff}})
	}
	header := domain.Header{Kind: domain.Track, OccurredAt: 1, ReceivedAt: 1, Source: "theirs", MessageID: "1", UserID: "nobody", Name: "Order Completed"}
	foreign = append(foreign, esdb.EventData{EventType: domain.TypeTouchpoint, Data: []byte(`{}`), Metadata: header.Append(nil)})
	for _, e := range foreign {
		if _, err := c.AppendToStream(ctx, "invoice-1", esdb.AppendToStreamOptions{}, e); err != nil {
			t.Fatal(err)
		}
	}
	for n := 0; n < len(foreign); {
		e := sub.Recv()
		if e.SubscriptionDropped != nil {
			t.Fatal(e.SubscriptionDropped.Error)
		}
		if e.EventAppeared != nil {
			n++
		}
	}
	demo(data, "25")
	eventually(t, "automation goes on", func() bool { return strings.Contains(s.text(t, "/metrics"), "\nsojourn_automation_acting 1\n") })
	if names := s.text(t, "/api/v1/event-names"); strings.Contains(names, "theirs") {
		t.Errorf("a touchpoint of others is in the views: %s", names)
	}
	if status, out, errOut := sojourn(ctx, "verify", "--data="+data); status != 0 {
		t.Errorf("verify: %d %s %s", status, out, errOut)
	}
	if status := s.stop(); status != 0 {
		t.Errorf("the server ended with status %d", status)
	}

	// A server whose log another one keeps.
	s = startServer(t, data, "--esdb-listen", "127.0.0.1:0", "--esdb-insecure", "--esdb-writable")
	c = esdbClient(t, s, "", nil)
	before := len(everything(t, c))
	other := filepath.Join(t.TempDir(), "other")
	if err := os.MkdirAll(other, 0o700); err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(filepath.Join(data, keyFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(other, keyFile), key, 0o600); err != nil {
		t.Fatal(err)
	}
	connection := regexp.MustCompile(`EventStoreDB (esdb://\S+)`).FindStringSubmatch(s.out.String())[1]
	second := startServer(t, other, "--store", connection)
	demo(other, "30")
	if after := len(everything(t, c)); after < before+20 {
		t.Errorf("the log went from %d events to %d", before, after)
	}
	type stages struct {
		Customers int
		Stages    []struct {
			Stage     string
			Customers int
		}
	}
	var first, theirs stages
	second.get(t, "/api/v1/stages?as_of=2026-02-15", &theirs)
	if theirs.Customers < 20 {
		t.Errorf("the second server says %+v", theirs)
	}
	// The first follows, too.
	for tick := time.Tick(20 * time.Millisecond); ; <-tick {
		s.get(t, "/api/v1/stages?as_of=2026-02-15", &first)
		if first.Customers == theirs.Customers && slices.Equal(first.Stages, theirs.Stages) {
			break
		}
		if ctx.Err() != nil {
			t.Fatalf("one server says %+v, the other %+v", first, theirs)
		}
	}
	second.stop()
	// Its directory is for that log only, and the other's for its own.
	if status, _, errOut := sojourn(ctx, "verify", "--data="+other); status == 0 || !strings.Contains(errOut, "say where with --store") {
		t.Errorf("%d %s", status, errOut)
	}
	s.stop()
	if status, _, errOut := sojourn(ctx, "serve", "--data="+data, "--listen=127.0.0.1:0", "--clickhouse-listen=127.0.0.1:0", "--store", connection); status != 1 || !strings.Contains(errOut, "holds a log of its own") {
		t.Errorf("%d %s", status, errOut)
	}
}

// TestESDBOverTLS asks for tokens.
func TestESDBOverTLS(t *testing.T) {
	cert, key := selfSigned(t)
	pool := x509.NewCertPool()
	if pem, err := os.ReadFile(cert); err != nil || !pool.AppendCertsFromPEM(pem) {
		t.Fatal(err)
	}
	data := filepath.Join(t.TempDir(), "data")
	d, err := openData(t.Context(), data, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.close() }()
	certificate, err := loadCertificate(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	store, err := d.openStore(t.Context(), &Config{}, (&Config{LogLevel: "error"}).logger())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	server, err := d.newESDBServer(&Config{}, store, "admin-secret", certificate, (&Config{LogLevel: "error"}).logger())
	if err != nil {
		t.Fatal(err)
	}
	l, err := listen(t.Context(), "127.0.0.1:0", (&Config{LogLevel: "error"}).logger())
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(l) }()
	defer server.Stop(time.Second)
	s := running{out: &screen{}}
	if _, err := s.out.Write([]byte("EventStoreDB " + esdbURL(Config{}, l.Addr()) + "\n")); err != nil {
		t.Fatal(err)
	}
	secret, err := d.workerToken()
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(data, workerTokenFile)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	for login, want := range map[string]string{
		"": "nothing", "admin:wrong@": "nothing", "worker:admin-secret@": "reads", "boss:admin-secret@": "reads",
		"boss:" + secret + "@": "nothing", "worker:" + secret + "@": "writes",
	} {
		c := esdbClient(t, s, login, pool)
		event := esdb.EventData{EventID: uuid.New(), EventType: "t", Data: []byte("1")}
		got := "writes"
		if _, err := c.AppendToStream(t.Context(), domain.StreamRejects, esdb.AppendToStreamOptions{}, event); err != nil {
			got = "reads"
			if _, err := c.AppendToStream(t.Context(), "free-1", esdb.AppendToStreamOptions{}, event); err != nil {
				got = "nothing"
			}
		}
		if got != want {
			t.Errorf("%q: %s, want %s", login, got, want)
		}
	}
}

func TestOwnStream(t *testing.T) {
	t.Parallel()
	keyer := domain.NewKeyer(make([]byte, domain.KeySize))
	for stream, want := range map[string]bool{
		domain.StreamRejects: true, domain.StreamPolicyFile: true, "some_new_one": true,
		keyer.Stream(domain.Subject{Kind: domain.User, Value: "42"}): true,
		domain.StatementStream(uuid.New()):                           true, "loyalty-" + uuid.NewString(): true, "feedback-" + uuid.NewString(): true,
		fact.Stream(uuid.New()): true, fact.PayloadStream(uuid.New()): true, "automation_ticks-weekly": true, "automation_existing-vip-2": true,
		automation.Stream: true, automation.LeaseStream: true, automation.CheckpointStream: true, "automation-42": false,
		"": false, "order-" + uuid.NewString(): false, "invoice-1": false, "Orders": false, "$settings": false, "user-42": false, "statements-42": false,
		domain.StreamViews: true, domain.WorkerStream(7, 2, 4): true, "views-g7": false, "views-g7-2-of-4x": false, "views-g07-2-of-4": false,
	} {
		if ownStream(stream) != want {
			t.Errorf("%q: %v", stream, !want)
		}
	}
}
