// Package ingesttest starts an ingest service over a store in memory, for tests.
package ingesttest

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"sojourn/domain"
	"sojourn/eventstore"
	"sojourn/eventstore/pebblestore"
	"sojourn/ingest"
)

// Now is the instant at which the services of this package receive everything
// until a test moves it.
var Now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// Store is a log with its index of event ids.
type Store interface {
	ingest.Log
	ingest.KeyLog
	eventstore.IDIndex
	Head(ctx context.Context) (eventstore.Position, error)
	Close() error
}

// Env is a service and what it stands on.
type Env struct {
	Store   Store
	Service *ingest.Service
	Keys    *ingest.Keys
	Keyer   domain.Keyer
	Clock   *Clock
	// Key is a write key of the source "shop".
	Key string
}

// Clock is a clock that a test sets; a test that uses it sends one call at a
// time.
type Clock struct{ T time.Time }

// TB is what a test or a property's run has.
type TB interface {
	Helper()
	Fatal(args ...any)
}

// New starts a service over an empty store in memory. The caller closes Store.
func New(t TB, change ...func(*ingest.Config)) *Env {
	t.Helper()
	store, err := pebblestore.Open("log", pebblestore.Options{FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	return Over(t, store, change...)
}

// Over starts a service over a store.
func Over(t TB, store Store, change ...func(*ingest.Config)) *Env {
	t.Helper()
	e := &Env{Store: store, Keyer: domain.NewKeyer(make([]byte, domain.KeySize)), Clock: &Clock{T: Now}}
	c := ingest.Config{
		Log: store, Index: store, Keyer: e.Keyer, Logger: slog.New(slog.DiscardHandler),
		Clock: func() time.Time { return e.Clock.T },
	}
	for _, f := range change {
		f(&c)
	}
	var err error
	if e.Service, err = ingest.New(c); err != nil {
		t.Fatal(err)
	}
	if e.Keys, err = ingest.LoadKeys(context.Background(), store, c.Clock); err != nil {
		t.Fatal(err)
	}
	if e.Key, _, err = e.Keys.Create(context.Background(), "shop"); err != nil {
		t.Fatal(err)
	}
	return e
}

// Start is New for a test, which closes the store at its end.
func Start(t testing.TB, change ...func(*ingest.Config)) *Env {
	t.Helper()
	e := New(t, change...)
	t.Cleanup(func() {
		if err := e.Store.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// Touchpoint is a touchpoint as the log holds it.
type Touchpoint struct {
	domain.Header
	Event eventstore.Recorded
}

// Touchpoints are all touchpoints of the log, in order, repeats left out.
func (e *Env) Touchpoints(t TB) []Touchpoint {
	t.Helper()
	var all []Touchpoint
	for ev, err := range e.Store.ReadAll(context.Background(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		if ev.Type != domain.TypeTouchpoint && ev.Type != domain.TypeJoin {
			continue
		}
		if ev.Repeat {
			t.Fatal("the log holds an event id twice")
		}
		ev = ev.Clone()
		h, err := domain.ParseHeader(string(ev.Metadata))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, Touchpoint{h, ev})
	}
	return all
}

// Rejects are all rejects and refusals, newest first.
func (e *Env) Rejects(t TB) []ingest.Reject {
	t.Helper()
	var all []ingest.Reject
	for cursor := ""; ; {
		page, err := e.Service.Rejects(context.Background(), cursor, 100)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, page.Rejects...)
		if cursor = page.Next; cursor == "" {
			return all
		}
	}
}
