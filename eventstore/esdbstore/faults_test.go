package esdbstore

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"sojourn/eventstore"
	"sojourn/eventstore/esdbserver"
	"sojourn/eventstore/pebblestore"
)

// proxy stands between a store and its server, and fails as networks do.
type proxy struct {
	l      net.Listener
	target string

	mu      sync.Mutex
	conns   map[net.Conn]bool
	down    bool
	stalled chan struct{} // closed when what comes may pass; nil where nothing is held
	done    sync.WaitGroup
}

func newProxy(t testing.TB, connection string) (*proxy, string) {
	t.Helper()
	address := strings.TrimSuffix(strings.TrimPrefix(connection, "esdb://"), "?tls=false")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{l: l, target: address, conns: make(map[net.Conn]bool)}
	p.done.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.done.Go(func() { p.pass(c) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		p.unstall()
		p.cut(true)
		p.done.Wait()
	})
	return p, "esdb://" + l.Addr().String() + "?tls=false"
}

func (p *proxy) pass(c net.Conn) {
	defer func() { _ = c.Close() }()
	s, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer func() { _ = s.Close() }()
	p.mu.Lock()
	if p.down {
		p.mu.Unlock()
		return
	}
	p.conns[c], p.conns[s] = true, true
	p.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { p.copy(s, c); _ = s.Close() })
	both.Go(func() { p.copy(c, s); _ = c.Close() })
	both.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
	delete(p.conns, s)
}

func (p *proxy) copy(to io.Writer, from io.Reader) {
	buf := make([]byte, 16<<10)
	for {
		n, err := from.Read(buf)
		p.mu.Lock()
		stalled := p.stalled
		p.mu.Unlock()
		if stalled != nil {
			<-stalled
		}
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// cut breaks all connections; down refuses new ones, too.
func (p *proxy) cut(down bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = down
	for c := range p.conns {
		_ = c.Close()
	}
}

func (p *proxy) up() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = false
}

// stall holds everything back until unstall.
func (p *proxy) stall() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stalled = make(chan struct{})
}

func (p *proxy) unstall() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stalled != nil {
		close(p.stalled)
		p.stalled = nil
	}
}

// behind is a log in memory that is served, and closes with the test.
func behind(t testing.TB) (*pebblestore.Store, string) {
	t.Helper()
	p := memory(t)
	server, address := serve(t, p)
	t.Cleanup(func() {
		server.Stop(time.Second)
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p, address
}

func open(t testing.TB, c Config) *Store {
	t.Helper()
	s, err := Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func event(name string) eventstore.NewEvent {
	return eventstore.NewEvent{ID: uuid.NewSHA1(uuid.Nil, []byte(name)), Type: "test.v1", Metadata: []byte{1}, Data: []byte(name)}
}

func contents(t testing.TB, s eventstore.Store) (names []string) {
	t.Helper()
	for e, err := range s.ReadAll(context.Background(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, string(e.Data))
	}
	return names
}

// TestFollowAcrossDrops follows a log by connections that are cut again and
// again: no event is missed and none comes twice.
func TestFollowAcrossDrops(t *testing.T) {
	t.Parallel()
	log, address := behind(t)
	p, address := newProxy(t, address)
	s := open(t, Config{Connection: address})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	const total = 400
	say := func(n int) {
		t.Helper()
		if _, err := log.Append(ctx, fmt.Sprint("s", n%3), eventstore.Any{}, event(fmt.Sprint(n))); err != nil {
			t.Fatal(err)
		}
	}
	say(0)
	n := 0
	for e, err := range eventstore.Follow(ctx, s, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if string(e.Data) != fmt.Sprint(n) {
			t.Fatalf("event %d is %s", n, e.Data)
		}
		if n++; n == total {
			break
		}
		if n%20 == 0 {
			p.cut(false)
		}
		say(n)
	}
	if n != total {
		t.Errorf("%d events", n)
	}
}

// TestReadAcrossDrops cuts the connection in the middle of long reads.
func TestReadAcrossDrops(t *testing.T) {
	t.Parallel()
	log, address := behind(t)
	var events []eventstore.NewEvent
	for i := range 3_000 {
		e := event(fmt.Sprint(i))
		e.Metadata = make([]byte, 2_000)
		events = append(events, e)
	}
	if _, err := log.Append(t.Context(), "s", eventstore.Any{}, events...); err != nil {
		t.Fatal(err)
	}
	p, address := newProxy(t, address)
	s := open(t, Config{Connection: address})
	if err := s.index.cover(t.Context(), 3_000); err != nil {
		t.Fatal(err)
	}
	for name, seq := range map[string]func(func(eventstore.Recorded, error) bool){
		"all":       s.ReadAll(t.Context(), 0),
		"forwards":  s.ReadStream(t.Context(), "s", 0, eventstore.Forwards),
		"backwards": s.ReadStream(t.Context(), "s", eventstore.End, eventstore.Backwards),
	} {
		n := 0
		for e, err := range seq {
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			want := n
			if name == "backwards" {
				want = 2_999 - n
			}
			if e.Revision != uint64(want) {
				t.Fatalf("%s: event %d has revision %d", name, n, e.Revision)
			}
			if n++; n%700 == 0 {
				p.cut(false)
			}
		}
		if n != 3_000 {
			t.Errorf("%s: %d events", name, n)
		}
	}
}

// TestAppendAcrossDrops appends by connections that are cut: each event is there
// exactly once, and what was acknowledged is there.
func TestAppendAcrossDrops(t *testing.T) {
	t.Parallel()
	for _, single := range []bool{false, true} {
		t.Run(fmt.Sprintf("single=%v", single), func(t *testing.T) {
			t.Parallel()
			log, address := behind(t)
			p, address := newProxy(t, address)
			s := open(t, Config{Connection: address, SingleAppends: single})
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			const writers, each = 4, 40
			var acknowledged atomic.Int64
			var wg sync.WaitGroup
			for w := range writers {
				wg.Go(func() {
					for i := range each {
						stream := fmt.Sprint("own-", w)
						var expected eventstore.Expected = eventstore.NoStream{}
						if i > 0 {
							expected = eventstore.Revision(i - 1)
						}
						res, err := s.AppendMany(ctx, []eventstore.Append{
							{Stream: stream, Expected: expected, Events: []eventstore.NewEvent{event(fmt.Sprint(stream, i))}},
							{Stream: "shared", Events: []eventstore.NewEvent{event(fmt.Sprint("shared", w/2, "-", i))}},
						})
						if err != nil || res[0].Err != nil || res[1].Err != nil || res[0].Revision != uint64(i) {
							t.Errorf("%v %+v", err, res)
							return
						}
						if acknowledged.Add(1)%16 == 0 {
							p.cut(false)
						}
					}
				})
			}
			wg.Wait()
			seen := make(map[string]int)
			for _, name := range contents(t, log) {
				seen[name]++
			}
			if want := writers*each + writers/2*each; len(seen) != want {
				t.Errorf("%d events, want %d", len(seen), want)
			}
			for name, n := range seen {
				if n != 1 {
					t.Errorf("%s stands %d times", name, n)
				}
			}
		})
	}
}

// lostAnswers lets appends reach the server and loses the first answers.
func lostAnswers(n int64) grpc.DialOption {
	var left atomic.Int64
	left.Store(n)
	return grpc.WithStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
		s, err := streamer(ctx, desc, cc, method, opts...)
		if err != nil || !strings.HasSuffix(method, "Append") {
			return s, err
		}
		return &deaf{s, &left}, nil
	})
}

type deaf struct {
	grpc.ClientStream
	left *atomic.Int64
}

func (d *deaf) RecvMsg(m any) error {
	if err := d.ClientStream.RecvMsg(m); err != nil || d.left.Add(-1) < 0 {
		return err
	}
	return status.Error(codes.Unavailable, "the answer is lost")
}

// brokenOff ends the sending of the first appends behind some of their messages,
// though the server may still be told that these were all: gRPC does so when it
// goes over to another connection in the middle of a call.
func brokenOff(n int64, messages int) grpc.DialOption {
	var left atomic.Int64
	left.Store(n)
	return grpc.WithStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
		s, err := streamer(ctx, desc, cc, method, opts...)
		if err != nil || !strings.HasSuffix(method, "Append") || left.Add(-1) < 0 {
			return s, err
		}
		return &hoarse{s, messages}, nil
	})
}

type hoarse struct {
	grpc.ClientStream
	left int
}

func (h *hoarse) SendMsg(m any) error {
	if h.left--; h.left < 0 {
		return io.EOF
	}
	return h.ClientStream.SendMsg(m)
}

// TestBrokenOff loses the events of an append on the way, all or some: none of
// it may be taken for appended.
func TestBrokenOff(t *testing.T) {
	t.Parallel()
	for messages := range 3 {
		for _, single := range []bool{false, true} {
			log, address := behind(t)
			s := open(t, Config{Connection: address, SingleAppends: single, DialOptions: []grpc.DialOption{brokenOff(1, messages)}})
			for i, expected := range []eventstore.Expected{eventstore.NoStream{}, eventstore.Revision(1)} {
				res, err := s.Append(t.Context(), "s", expected, event(fmt.Sprint("a", i)), event(fmt.Sprint("b", i)))
				if err != nil || res.Revision != uint64(2*i+1) || res.Position != eventstore.Position(2*i+2) || res.Appended != 2 {
					t.Errorf("%d messages, single %v, append %d: %+v, %v", messages, single, i, res, err)
				}
			}
			if got := strings.Join(contents(t, log), " "); got != "a0 b0 a1 b1" {
				t.Errorf("%d messages, single %v: the log holds %q", messages, single, got)
			}
		}
	}
}

// TestLostAnswers appends what the server has taken already.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	for _, single := range []bool{false, true} {
		log, address := behind(t)
		s := open(t, Config{Connection: address, SingleAppends: single, DialOptions: []grpc.DialOption{lostAnswers(2)}})
		for i, expected := range []eventstore.Expected{eventstore.NoStream{}, eventstore.Revision(1), eventstore.Any{}} {
			res, err := s.Append(t.Context(), "s", expected, event(fmt.Sprint("a", i)), event(fmt.Sprint("b", i)))
			if err != nil || res.Revision != uint64(2*i+1) || res.Position != eventstore.Position(2*i+2) {
				t.Errorf("append %d: %+v, %v", i, res, err)
			}
		}
		if got := strings.Join(contents(t, log), " "); got != "a0 b0 a1 b1 a2 b2" {
			t.Errorf("the log holds %q", got)
		}
	}
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	_, address := behind(t)
	p, address := newProxy(t, address)
	s := open(t, Config{Connection: address, RetryFor: 200 * time.Millisecond})
	p.cut(true)
	check := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, ErrUnreachable) || !errors.Is(err, eventstore.ErrUnavailable) {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, err := s.Append(t.Context(), "s", nil, event("a"))
	check("append", err)
	_, err = s.Head(t.Context())
	check("head", err)
	for _, err := range s.ReadAll(t.Context(), 0) {
		check("read", err)
	}
	// It works again as soon as the server does, and so does what follows it.
	p.up()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for { // gRPC has a back-off of its own, of a second at most
		_, err := s.Append(ctx, "s", nil, event("a"))
		if err == nil {
			break
		}
		if !errors.Is(err, ErrUnreachable) {
			t.Fatal(err)
		}
	}
	if err := s.Wait(ctx, 0); err != nil {
		t.Error(err)
	}
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = nobody.Close()
	for _, c := range []string{"esdb://admin:geheim@%s?tls=false", "esdb://%[1]s,%[1]s?tls=false", "esdb+discover://%s?tls=false"} {
		_, err = Open(t.Context(), Config{Connection: fmt.Sprintf(c, nobody.Addr()), RetryFor: 100 * time.Millisecond})
		check("open", err)
		if err != nil && strings.Contains(err.Error(), "geheim") {
			t.Errorf("the error tells the password: %v", err)
		}
	}
}

// TestStalled holds every byte back: calls end at their deadline.
func TestStalled(t *testing.T) {
	t.Parallel()
	_, address := behind(t)
	p, address := newProxy(t, address)
	s := open(t, Config{Connection: address + "&defaultDeadline=100", RetryFor: 300 * time.Millisecond})
	if _, err := s.Append(t.Context(), "s", nil, event("a")); err != nil {
		t.Fatal(err)
	}
	p.stall()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := s.Append(ctx, "s", nil, event("b")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the caller's deadline: %v", err)
	}
	if _, err := s.Append(t.Context(), "s", nil, event("b")); !errors.Is(err, ErrUnreachable) {
		t.Errorf("the store's deadline: %v", err)
	}
	p.unstall()
	if res, err := s.Append(t.Context(), "s", nil, event("b")); err != nil || res.Revision != 1 {
		t.Errorf("afterwards: %+v, %v", res, err)
	}
}

// TestTLS connects with a certificate of its own making and credentials.
func TestTLS(t *testing.T) {
	t.Parallel()
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
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	log, _ := behind(t)
	server, err := esdbserver.New(esdbserver.Config{
		Store: log, Own: func(string) bool { return true },
		TLS: &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12},
		Authorize: func(user, password string) esdbserver.Access {
			switch user + ":" + password {
			case "worker:geheim":
				return esdbserver.Worker
			case "reader:geheim":
				return esdbserver.Outside
			}
			return esdbserver.Denied
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(l) }()
	defer server.Stop(time.Second)
	at := l.Addr().String()
	s := open(t, Config{Connection: "esdb://worker:geheim@" + at + "?tlsCaFile=" + ca})
	if _, err := s.Append(t.Context(), "s", nil, event("a")); err != nil {
		t.Error(err)
	}
	// Cluster discovery goes the same way.
	seeds := open(t, Config{Connection: "esdb+discover://worker:geheim@" + at + "?tlsCaFile=" + ca})
	if res, err := seeds.Append(t.Context(), "s", nil, event("b")); err != nil || res.Revision != 1 {
		t.Errorf("%+v, %v", res, err)
	}
	for _, single := range []bool{false, true} {
		reader := open(t, Config{Connection: "esdb://reader:geheim@" + at + "?tlsCaFile=" + ca, SingleAppends: single, RetryFor: time.Minute})
		if got := strings.Join(contents(t, reader), " "); got != "a b" {
			t.Errorf("the log holds %q", got)
		}
		if _, err := reader.Append(t.Context(), "s", nil, event("c"), event("d")); !errors.Is(err, ErrDenied) {
			t.Errorf("a reader appends: %v", err)
		}
	}
	// None of this is tried for a minute.
	if _, err := Open(t.Context(), Config{Connection: "esdb://worker:falsch@" + at + "?tlsCaFile=" + ca, RetryFor: time.Minute}); !errors.Is(err, ErrDenied) || strings.Contains(err.Error(), "falsch") {
		t.Errorf("a wrong password: %v", err)
	}
	if _, err := Open(t.Context(), Config{Connection: "esdb://worker:geheim@" + at, RetryFor: 100 * time.Millisecond}); !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("an unknown certificate: %v", err)
	}
}

func TestConnectionStrings(t *testing.T) {
	t.Parallel()
	for _, c := range []string{"", "http://host", "esdb://", "esdb://user:geheim@host:port", "esdb://user:geheim@host:1?userCertFile=x", "esdb://us%er:geheim@h"} {
		_, err := Open(t.Context(), Config{Connection: c})
		if err == nil || strings.Contains(err.Error(), "geheim") {
			t.Errorf("%q: %v", c, err)
		}
	}
}

// holding keeps the answers to appends to one stream back, as a server does that
// is slow with it.
type holding struct {
	grpc.ClientStream
	release chan struct{}

	mu   sync.Mutex
	held []*streams.BatchAppendResp
}

func (h *holding) RecvMsg(m any) error {
	resp, ok := m.(*streams.BatchAppendResp)
	for {
		h.mu.Lock()
		select {
		case <-h.release:
			if ok && len(h.held) > 0 {
				proto.Merge(resp, h.held[0])
				h.held = h.held[1:]
				h.mu.Unlock()
				return nil
			}
		default:
		}
		h.mu.Unlock()
		err := h.ClientStream.RecvMsg(m)
		if err != nil || !ok || string(resp.GetStreamIdentifier().GetStreamName()) != "slow" {
			return err
		}
		h.mu.Lock()
		h.held = append(h.held, proto.CloneOf(resp))
		h.mu.Unlock()
		proto.Reset(resp)
	}
}

// TestSlowStream appends to many streams while one is not answered: the others
// do not wait for it.
func TestSlowStream(t *testing.T) {
	t.Parallel()
	_, address := behind(t)
	release := make(chan struct{})
	s := open(t, Config{Connection: address, DialOptions: []grpc.DialOption{grpc.WithStreamInterceptor(
		func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			c, err := streamer(ctx, desc, cc, method, opts...)
			if err != nil || !strings.HasSuffix(method, "BatchAppend") {
				return c, err
			}
			return &holding{ClientStream: c, release: release}, nil
		})}})
	slow := make(chan error, 1)
	go func() {
		_, err := s.Append(t.Context(), "slow", nil, event("slow"))
		slow <- err
	}()
	// It is there, but not answered.
	if err := s.Wait(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 20 {
				if _, err := s.Append(t.Context(), fmt.Sprint("s", w), nil, event(fmt.Sprint(w, "-", i))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	select {
	case err := <-slow:
		t.Errorf("the slow append was answered: %v", err)
	default:
	}
	close(release)
	// The next answer brings it along.
	if _, err := s.Append(t.Context(), "s0", nil, event("last")); err != nil {
		t.Fatal(err)
	}
	if err := <-slow; err != nil {
		t.Error(err)
	}
}

// TestFollowingEnds takes the store's rights away while it follows the log: what
// waits hears of it, because nothing comes any more.
func TestFollowingEnds(t *testing.T) {
	t.Parallel()
	log := memory(t)
	var denied atomic.Bool
	server, err := esdbserver.New(esdbserver.Config{Store: log, Authorize: func(string, string) esdbserver.Access {
		if denied.Load() {
			return esdbserver.Denied
		}
		return esdbserver.Outside
	}})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() {
		server.Stop(time.Second)
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	})
	p, address := newProxy(t, "esdb://"+l.Addr().String()+"?tls=false")
	s := open(t, Config{Connection: address})
	if _, err := log.Append(t.Context(), "s", nil, event("a")); err != nil {
		t.Fatal(err)
	}
	if err := s.Wait(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	waiting := make(chan error, 1)
	go func() { waiting <- s.Wait(t.Context(), eventstore.Position(1<<62)) }()
	denied.Store(true)
	p.cut(false)
	if err := <-waiting; !errors.Is(err, ErrDenied) || !errors.Is(err, eventstore.ErrUnavailable) {
		t.Errorf("%v", err)
	}
}
