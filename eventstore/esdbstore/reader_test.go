package esdbstore

import (
	"errors"
	"net"
	"testing"
	"time"

	"sojourn/eventstore"
)

// A Reader reads streams without an index, forwards from a revision, and says
// where there is none and where no node answers.
func TestReader(t *testing.T) {
	log, connection := behind(t)
	r, err := NewReader(Config{Connection: connection, RetryFor: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}()
	for _, err := range r.ReadStream(t.Context(), "keys", 0, eventstore.Forwards) {
		if !errors.Is(err, eventstore.ErrStreamNotFound) {
			t.Errorf("no such stream: %v", err)
		}
	}
	for n := range uint64(3) {
		if _, err := log.Append(t.Context(), "keys", eventstore.Any{}, numbered(n)); err != nil {
			t.Fatal(err)
		}
	}
	var revisions []uint64
	for e, err := range r.ReadStream(t.Context(), "keys", 1, eventstore.Forwards) {
		if err != nil {
			t.Fatal(err)
		}
		revisions = append(revisions, e.Revision)
	}
	if len(revisions) != 2 || revisions[0] != 1 {
		t.Errorf("revisions %v", revisions)
	}

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	nobody, err := NewReader(Config{Connection: "esdb://" + l.Addr().String() + "?tls=false", RetryFor: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range nobody.ReadStream(t.Context(), "keys", 0, eventstore.Forwards) {
		if !errors.Is(err, eventstore.ErrUnavailable) {
			t.Errorf("nobody there: %v", err)
		}
	}
	if err := nobody.Close(); err != nil {
		t.Error(err)
	}
	if _, err := NewReader(Config{Connection: "nonsense"}); err == nil {
		t.Error("nonsense is taken as a connection string")
	}
}
