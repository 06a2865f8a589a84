package pebblestore

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"

	"github.com/google/uuid"

	"sojourn/eventstore"
)

// ReadAll yields all durable events after a position, up to the head as it was
// when the first one was asked for. It reads record by record: about as fast as
// Pebble scans them.
func (s *Store) ReadAll(ctx context.Context, after eventstore.Position) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		if err := s.readAll(ctx, after, yield); err != nil {
			yield(eventstore.Recorded{}, err)
		}
	}
}

func (s *Store) readAll(ctx context.Context, after eventstore.Position, yield func(eventstore.Recorded, error) bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.isClosing() {
		return eventstore.ErrClosed
	}
	head := s.head()
	if after >= head {
		return nil
	}
	r, err := s.newLogReader()
	if err != nil {
		return err
	}
	defer r.close()
	ok, err := r.seek(after + 1)
	var e eventstore.Recorded
	for ; ok && err == nil; ok, err = r.nextRecord() {
		if err := ctx.Err(); err != nil {
			return err
		}
		for r.more() {
			if r.next > head {
				return nil
			}
			if err := r.event(&e); err != nil {
				return err
			}
			if !yield(e, nil) {
				return nil
			}
		}
	}
	return err
}

// ReadStream yields the events of a stream from a revision on. Backwards from
// beyond the stream's end it begins at the end; forwards from there it yields
// nothing.
func (s *Store) ReadStream(ctx context.Context, stream string, from uint64, dir eventstore.Direction) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		if err := s.readStream(ctx, stream, from, dir, yield); err != nil {
			yield(eventstore.Recorded{}, err)
		}
	}
}

func (s *Store) readStream(ctx context.Context, stream string, from uint64, dir eventstore.Direction, yield func(eventstore.Recorded, error) bool) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.isClosing() {
		return eventstore.ErrClosed
	}
	head := s.head()
	places := newStreamPlaces(s, stream)
	log, err := s.newLogReader()
	if err != nil {
		return err
	}
	defer log.close()
	var (
		e     eventstore.Recorded
		found bool
	)
	visit := func(revision uint64, p eventstore.Position) (bool, error) {
		if p > head {
			return bool(dir), nil // not durable: backwards the next one may be
		}
		found = true
		if err := ctx.Err(); err != nil {
			return false, err
		}
		if err := log.at(p, &e); err != nil {
			return false, err
		}
		if e.Stream != stream || e.Revision != revision {
			return false, fmt.Errorf("%w: stream index points to another event at position %d", ErrCorrupt, p)
		}
		return yield(e, nil), nil
	}
	if dir == eventstore.Backwards {
		err = places.backwards(from, visit)
	} else {
		err = places.forwards(from, visit)
	}
	if err != nil || found {
		return err
	}
	exists, err := places.exists(head)
	if err == nil && !exists {
		err = eventstore.ErrStreamNotFound
	}
	return err
}

// Lookup sets dst[i] to the lowest position at which the event ids[i] is
// durable, or to 0. An id the log does not hold costs no disk access in more
// than 99 of 100 cases.
func (s *Store) Lookup(ctx context.Context, ids []uuid.UUID, dst []eventstore.Position) error {
	if len(ids) != len(dst) {
		return fmt.Errorf("look up %d ids into %d positions", len(ids), len(dst))
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.isClosing() {
		return eventstore.ErrClosed
	}
	d := diskLookup{s: s}
	defer d.release()
	head := s.head()
	for i, id := range ids {
		hash := s.seed.idHash(id)
		state := s.index.Load()
		first, err := d.first(state, hash, id)
		for errors.Is(err, errRunRetired) {
			state = s.index.Load()
			first, err = d.first(state, hash, id)
		}
		if err != nil {
			return fmt.Errorf("look up event id: %w", err)
		}
		p := first.position
		if p == 0 {
			if at, ok := state.active.findFirst(hash, id); ok {
				p = state.active.position(at)
			}
		}
		if p > head {
			p = 0
		}
		dst[i] = p
	}
	return nil
}

const noRevision = math.MaxUint64
