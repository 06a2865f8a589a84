package esdbstore

import (
	"context"
	"encoding/binary"
	"iter"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"sojourn/eventstore"
	"sojourn/eventstore/storetest"
)

// slice is a part of a log that behaves like a log of its own: its streams have
// a prefix, and its ids are changed in a way that can be undone.
type slice struct {
	*Store
	prefix string
	mask   [16]byte
	begin  eventstore.Position

	mu         sync.Mutex
	seen, head eventstore.Position // how far Head has read, and what it found
}

var slicesMade atomic.Uint64

// openSlice opens stores that share the log of one server.
func openSlice(connection string) storetest.Open {
	return func(t testing.TB) eventstore.Store {
		s, err := Open(context.Background(), Config{Connection: connection})
		if err != nil {
			t.Fatal(err)
		}
		out := &slice{Store: s, prefix: uuid.NewString() + "-"}
		binary.BigEndian.PutUint64(out.mask[:8], uint64(time.Now().UnixNano()))
		binary.BigEndian.PutUint64(out.mask[8:], slicesMade.Add(1))
		if out.begin, err = s.Head(context.Background()); err != nil {
			t.Fatal(err)
		}
		return out
	}
}

func (s *slice) id(id uuid.UUID) uuid.UUID {
	for i := range id {
		id[i] ^= s.mask[i]
	}
	return id
}

// mine makes of an event of the log one of the slice.
func (s *slice) mine(e eventstore.Recorded) (eventstore.Recorded, bool) {
	name, ok := strings.CutPrefix(e.Stream, s.prefix)
	e.Stream, e.ID = name, s.id(e.ID)
	return e, ok
}

func (s *slice) Append(ctx context.Context, stream string, expected eventstore.Expected, events ...eventstore.NewEvent) (eventstore.Result, error) {
	res, err := s.AppendMany(ctx, []eventstore.Append{{Stream: stream, Expected: expected, Events: events}})
	if err != nil {
		return eventstore.Result{}, err
	}
	err, res[0].Err = res[0].Err, nil
	return res[0], err
}

func (s *slice) AppendMany(ctx context.Context, parts []eventstore.Append) ([]eventstore.Result, error) {
	theirs := make([]eventstore.Append, len(parts))
	for i, p := range parts {
		theirs[i] = eventstore.Append{Stream: s.prefix + p.Stream, Expected: p.Expected}
		for _, e := range p.Events {
			e.ID = s.id(e.ID)
			theirs[i].Events = append(theirs[i].Events, e)
		}
	}
	res, err := s.Store.AppendMany(ctx, theirs)
	for i := range res {
		if wrong, ok := res[i].Err.(*eventstore.WrongRevisionError); ok { //nolint:errorlint // it is made right there
			wrong.Stream = strings.TrimPrefix(wrong.Stream, s.prefix)
		}
	}
	return res, err
}

func (s *slice) ReadStream(ctx context.Context, stream string, from uint64, dir eventstore.Direction) iter.Seq2[eventstore.Recorded, error] {
	return s.only(s.Store.ReadStream(ctx, s.prefix+stream, from, dir))
}

func (s *slice) ReadAll(ctx context.Context, after eventstore.Position) iter.Seq2[eventstore.Recorded, error] {
	return s.only(s.Store.ReadAll(ctx, max(after, s.begin)))
}

func (s *slice) only(seq iter.Seq2[eventstore.Recorded, error]) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		for e, err := range seq {
			e, ok := s.mine(e)
			if (ok || err != nil) && !yield(e, err) {
				return
			}
		}
	}
}

func (s *slice) Head(ctx context.Context) (eventstore.Position, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for e, err := range s.Store.ReadAll(ctx, max(s.seen, s.begin)) {
		if err != nil {
			return 0, err
		}
		s.seen = e.Position
		if _, ok := s.mine(e); ok {
			s.head = e.Position
		}
	}
	return s.head, ctx.Err()
}

func (s *slice) Wait(ctx context.Context, after eventstore.Position) error {
	for e, err := range eventstore.Follow(ctx, s.Store, max(after, s.begin)) {
		if err != nil {
			return err
		}
		if _, ok := s.mine(e); ok {
			return nil
		}
	}
	return nil
}

func (s *slice) Lookup(ctx context.Context, ids []uuid.UUID, dst []eventstore.Position) error {
	theirs := make([]uuid.UUID, len(ids))
	for i, id := range ids {
		theirs[i] = s.id(id)
	}
	return s.Store.Lookup(ctx, theirs, dst)
}
