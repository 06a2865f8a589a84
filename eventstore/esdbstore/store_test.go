package esdbstore

import (
	"context"
	"log/slog"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"

	"sojourn/eventstore"
	"sojourn/eventstore/esdbserver"
	"sojourn/eventstore/pebblestore"
	"sojourn/eventstore/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// stack is a store over the wire: what stands behind it closes with it.
type stack struct {
	*Store
	memory *pebblestore.Store
	server *esdbserver.Server
}

func (s *stack) Close() error {
	if err := s.Store.Close(); err != nil {
		return err
	}
	s.server.Stop(time.Second)
	return s.memory.Close()
}

func memory(t testing.TB) *pebblestore.Store {
	t.Helper()
	p, err := pebblestore.Open("store", pebblestore.Options{FS: vfs.NewMem(), CacheBytes: 1 << 20, MemTableBytes: 1 << 20, SegmentEvents: 1 << 14})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// serve serves a store on loopback. Everything in it is Sojourn's.
func serve(t testing.TB, store eventstore.Store) (*esdbserver.Server, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, err := esdbserver.New(esdbserver.Config{
		Store: store, Own: func(s string) bool { return !strings.HasPrefix(s, "$") },
		Authorize: func(string, string) esdbserver.Access { return esdbserver.Worker },
		Logger:    slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(l) }()
	return server, "esdb://" + l.Addr().String() + "?tls=false"
}

func overTheWire(c Config) storetest.Open {
	return func(t testing.TB) eventstore.Store {
		p := memory(t)
		server, address := serve(t, p)
		c := c
		c.Connection = address
		s, err := Open(context.Background(), c)
		if err != nil {
			t.Fatal(err)
		}
		return &stack{s, p, server}
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	storetest.Run(t, overTheWire(Config{}))
}

func TestConformanceSingleAppends(t *testing.T) {
	t.Parallel()
	storetest.Run(t, overTheWire(Config{SingleAppends: true}))
}

func TestModel(t *testing.T) {
	t.Parallel()
	storetest.RunModel(t, overTheWire(Config{}))
}

// TestSlices runs the suite on one server that all its tests share.
func TestSlices(t *testing.T) {
	p := memory(t)
	server, address := serve(t, p)
	t.Cleanup(func() {
		server.Stop(time.Second)
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Run("suite", func(t *testing.T) { storetest.Run(t, openSlice(address)) })
}

// TestRealServer holds a server that no one here wrote to the same contract:
// SOJOURN_TEST_ESDB names one that may be written to.
func TestRealServer(t *testing.T) {
	connection := os.Getenv("SOJOURN_TEST_ESDB")
	if connection == "" {
		t.Skip("SOJOURN_TEST_ESDB names no server; docs/eventstoredb.md says how to start one")
	}
	t.Run("Batch", func(t *testing.T) { storetest.Run(t, openSlice(connection)) })
	t.Run("Model", func(t *testing.T) { storetest.RunModel(t, openSlice(connection)) })
}
