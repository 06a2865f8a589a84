package pebblestore

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/cockroachdb/pebble/v2"

	"sojourn/eventstore"
)

// ReadOnly is a checkpoint that is read from its beginning and left as it is: no index
// is made, and nothing works in the background.
type ReadOnly struct{ s *Store }

// OpenReadOnly opens what Store.Checkpoint has made in a directory.
func OpenReadOnly(dir string, opts Options) (*ReadOnly, error) {
	opts = opts.withDefaults()
	s := &Store{
		opts: opts, log: opts.Logger, readers: make(map[*logReader]struct{}),
		failed: make(chan struct{}), closing: make(chan struct{}),
	}
	po := PebbleOptions(opts)
	defer po.Cache.Unref()
	po.ReadOnly, po.Logger = true, pebbleLogger{log: s.log, fail: func(err error) { s.log.Error("event log cannot be read", "error", err) }}
	var err error
	if s.db, err = pebble.Open(opts.FS.PathJoin(dir, "log"), po); err != nil {
		return nil, fmt.Errorf("open event store %s: %w", dir, err)
	}
	last, err := s.lastPosition()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open event store %s: %w", dir, err), s.db.Close())
	}
	s.durable.Store(uint64(last))
	return &ReadOnly{s}, nil
}

// lastPosition is that of the log's last event, 0 where there is none.
func (s *Store) lastPosition() (eventstore.Position, error) {
	log, err := s.newLogReader()
	if err != nil {
		return 0, err
	}
	defer log.close()
	if ok, err := log.lastRecord(); err != nil || !ok {
		return 0, err
	}
	return log.b.last(), nil
}

// ReadAll yields all events after a position, in order, as Store.ReadAll does.
func (r *ReadOnly) ReadAll(ctx context.Context, after eventstore.Position) iter.Seq2[eventstore.Recorded, error] {
	return r.s.ReadAll(ctx, after)
}

// Close ends all iterators and releases the directory. It may be called more than
// once.
func (r *ReadOnly) Close() error {
	r.s.closeOnce.Do(func() {
		close(r.s.closing)
		r.s.closeReaders()
		r.s.closeErr = r.s.db.Close()
	})
	return r.s.closeErr
}
