package esdbserver

import (
	"context"
	"encoding/json"
	"errors"
	"hash/maphash"
	"math"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"sojourn/eventstore"
)

// The types of the events by which EventStoreDB tells a stream's metadata and
// its end.
const (
	typeMetadata  = "$metadata"
	typeTombstone = "$streamDeleted"
)

// metadataOf names the stream whose metadata a stream holds.
func metadataOf(stream string) (of string, ok bool) {
	if of, ok = strings.CutPrefix(stream, "$$"); ok {
		return of, true
	}
	return stream, false
}

var lockSeed = maphash.MakeSeed()

// lock keeps other writes to a stream, and to its metadata, away until what it
// returns is called.
func (s *Server) lock(stream string) (unlock func()) {
	of, _ := metadataOf(stream)
	m := &s.foreign[maphash.String(lockSeed, of)%uint64(len(s.foreign))]
	m.Lock()
	return m.Unlock
}

// rules are the metadata of a stream that say which of its events are shown.
type rules struct {
	Before   *int64 `json:"$tb"`       // the first revision that is shown
	MaxCount *int64 `json:"$maxCount"` // how many are shown, the last ones
	MaxAge   *int64 `json:"$maxAge"`   // how old the oldest is, in seconds
}

// state is what stands in the log of a stream that is not Sojourn's.
type state struct {
	exists    bool // it holds an event, shown or not
	last      uint64
	tombstone bool
	rules     rules
	metadata  map[string]json.RawMessage // the rules and whatever stands beside them
}

// first is the first revision that is shown for its number.
func (st *state) first() uint64 {
	first := uint64(0)
	if tb := st.rules.Before; tb != nil && *tb > 0 {
		first = uint64(*tb)
	}
	if n := st.rules.MaxCount; n != nil && *n > 0 && st.last >= uint64(*n) {
		first = max(first, st.last-uint64(*n)+1)
	}
	return first
}

// shown says whether the stream is one to its readers and writers: a deleted
// stream holds events, but none that is shown.
func (st *state) shown() bool {
	return st.exists && (st.rules.Before == nil || *st.rules.Before <= 0 || uint64(*st.rules.Before) <= st.last)
}

// state reads what is known of a stream.
func (s *Server) state(ctx context.Context, stream string) (*state, error) {
	st := &state{metadata: map[string]json.RawMessage{}}
	e, ok, err := s.last(ctx, stream)
	if err != nil {
		return nil, err
	}
	if ok {
		st.exists, st.last, st.tombstone = true, e.Revision, e.Type == typeTombstone
	}
	if _, meta := metadataOf(stream); meta || stream == "" {
		return st, nil
	}
	e, ok, err = s.last(ctx, "$$"+stream)
	if err != nil || !ok || e.Type != typeMetadata {
		return st, err
	}
	// What cannot be read hides nothing.
	if json.Unmarshal(e.Data, &st.metadata) != nil || json.Unmarshal(e.Data, &st.rules) != nil {
		st.rules, st.metadata = rules{}, map[string]json.RawMessage{}
	}
	return st, nil
}

// last reads the last event of a stream.
func (s *Server) last(ctx context.Context, stream string) (eventstore.Recorded, bool, error) {
	for e, err := range s.store.ReadStream(ctx, stream, eventstore.End, eventstore.Backwards) {
		if errors.Is(err, eventstore.ErrStreamNotFound) {
			break
		}
		return e.Clone(), err == nil, err
	}
	return eventstore.Recorded{}, false, nil
}

// writeForeign appends to a stream that is not Sojourn's, and is locked. A
// deleted stream begins anew behind its hidden events.
func (s *Server) writeForeign(ctx context.Context, p eventstore.Append) (eventstore.Result, error) {
	if len(p.Events) == 0 {
		return eventstore.Result{}, nil
	}
	if p.Expected == nil {
		p.Expected = eventstore.Any{}
	}
	st, err := s.state(ctx, p.Stream)
	if err != nil {
		return eventstore.Result{}, err
	}
	if st.tombstone {
		return eventstore.Result{}, streamDeleted(p.Stream)
	}
	if st.exists && !st.shown() {
		wrong := &eventstore.WrongRevisionError{Stream: p.Stream, Expected: p.Expected}
		switch x := p.Expected.(type) {
		case eventstore.NoStream:
			p.Expected = eventstore.Revision(st.last)
		case eventstore.StreamExists:
			return eventstore.Result{}, wrong
		case eventstore.Revision:
			if uint64(x) != st.last {
				return eventstore.Result{}, wrong
			}
		}
		// First the metadata: until the events stand, the stream holds none.
		if err := s.truncate(ctx, p.Stream, st, int64(st.last)+1); err != nil {
			return eventstore.Result{}, err
		}
	}
	return s.store.Append(ctx, p.Stream, p.Expected, p.Events...)
}

// truncate sets the first revision of a stream that is shown.
func (s *Server) truncate(ctx context.Context, stream string, st *state, before int64) error {
	if st.rules.Before != nil && *st.rules.Before == before {
		return nil
	}
	st.metadata["$tb"] = strconv.AppendInt(nil, before, 10)
	data, err := json.Marshal(st.metadata)
	if err != nil {
		return err
	}
	_, err = s.store.Append(ctx, "$$"+stream, eventstore.Any{}, eventstore.NewEvent{ID: uuid.New(), Type: typeMetadata, Data: data})
	return err
}

// remove deletes a stream, for ever with a tombstone. The result is where the
// log says so.
func (s *Server) remove(ctx context.Context, stream string, expected eventstore.Expected, tombstone bool) (uint64, error) {
	if err := s.mayWrite(ctx, stream); err != nil {
		return 0, err
	}
	if s.own(stream) {
		return 0, accessDenied(stream, "Sojourn's streams are never deleted")
	}
	if _, meta := metadataOf(stream); meta {
		return 0, invalid("a stream's metadata are not deleted, but written anew")
	}
	defer s.lock(stream)()
	st, err := s.state(ctx, stream)
	if err != nil {
		return 0, err
	}
	if st.tombstone {
		return 0, streamDeleted(stream)
	}
	if !holds(expected, st) {
		return 0, &eventstore.WrongRevisionError{Stream: stream, Expected: expected, Exists: st.shown(), Actual: st.last}
	}
	if tombstone {
		res, err := s.store.Append(ctx, stream, eventstore.Any{}, eventstore.NewEvent{ID: uuid.New(), Type: typeTombstone})
		return uint64(res.Position), err
	}
	if err := s.truncate(ctx, stream, st, math.MaxInt64); err != nil {
		return 0, err
	}
	e, _, err := s.last(ctx, "$$"+stream)
	return uint64(e.Position), err
}

// holds says whether a stream is as it is expected to be.
func holds(expected eventstore.Expected, st *state) bool {
	switch x := expected.(type) {
	case eventstore.NoStream:
		return !st.shown()
	case eventstore.StreamExists:
		return st.shown()
	case eventstore.Revision:
		return st.shown() && uint64(x) == st.last
	}
	return true
}
