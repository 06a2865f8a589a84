package ingesttest

import (
	"context"
	"iter"
	"sync"

	"github.com/google/uuid"

	"sojourn/eventstore"
)

// Memory is a log in plain memory with what ingest asks of one, and no more: a
// new one costs nothing, which fuzzing needs.
type Memory struct {
	mu      sync.Mutex
	all     []eventstore.Recorded // position is index + 1
	streams map[string][]int
	ids     map[uuid.UUID]eventstore.Position
}

// NewMemory makes an empty log.
func NewMemory() *Memory {
	return &Memory{streams: make(map[string][]int), ids: make(map[uuid.UUID]eventstore.Position)}
}

// Append appends under Any.
func (m *Memory) Append(ctx context.Context, stream string, _ eventstore.Expected, events ...eventstore.NewEvent) (eventstore.Result, error) {
	results, err := m.AppendMany(ctx, []eventstore.Append{{Stream: stream, Events: events}})
	return results[0], err
}

// AppendMany appends under Any.
func (m *Memory) AppendMany(_ context.Context, parts []eventstore.Append) ([]eventstore.Result, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	results := make([]eventstore.Result, len(parts))
	for i, part := range parts {
		for _, e := range part.Events {
			r := eventstore.Recorded{NewEvent: e, Stream: part.Stream, Revision: uint64(len(m.streams[part.Stream]))}
			if at, known := m.ids[e.ID]; known {
				if first := m.all[at-1]; first.Stream == part.Stream {
					results[i].Revision, results[i].Position = first.Revision, at
					continue
				}
				r.Repeat = true
			}
			r.Position = eventstore.Position(len(m.all) + 1)
			r = r.Clone()
			if !r.Repeat {
				m.ids[e.ID] = r.Position
			}
			m.streams[part.Stream] = append(m.streams[part.Stream], len(m.all))
			m.all = append(m.all, r)
			results[i] = eventstore.Result{Revision: r.Revision, Position: r.Position, Appended: results[i].Appended + 1}
		}
	}
	return results, nil
}

// ReadAll yields the events after a position.
func (m *Memory) ReadAll(_ context.Context, after eventstore.Position) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		m.mu.Lock()
		all := m.all
		m.mu.Unlock()
		for i := int(after); i < len(all); i++ {
			if !yield(all[i], nil) {
				return
			}
		}
	}
}

// ReadStream yields the events of a stream.
func (m *Memory) ReadStream(_ context.Context, stream string, from uint64, dir eventstore.Direction) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		m.mu.Lock()
		all, places := m.all, m.streams[stream]
		m.mu.Unlock()
		if len(places) == 0 {
			yield(eventstore.Recorded{}, eventstore.ErrStreamNotFound)
			return
		}
		step := 1
		if dir == eventstore.Backwards {
			step, from = -1, min(from, uint64(len(places)-1))
		}
		for i := int(from); i >= 0 && i < len(places); i += step {
			if !yield(all[places[i]], nil) {
				return
			}
		}
	}
}

// Head is the position of the last event.
func (m *Memory) Head(context.Context) (eventstore.Position, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return eventstore.Position(len(m.all)), nil
}

// Lookup finds events by id.
func (m *Memory) Lookup(_ context.Context, ids []uuid.UUID, dst []eventstore.Position) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, id := range ids {
		dst[i] = m.ids[id]
	}
	return nil
}

// Close does nothing.
func (m *Memory) Close() error { return nil }
