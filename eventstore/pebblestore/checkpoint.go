package pebblestore

import (
	"context"
	"fmt"

	"sojourn/eventstore"
)

// Checkpoint makes a store in a directory that does not exist yet and whose
// parent does, while this store works. It holds every event that was durable
// when it was called, perhaps some that came meanwhile, and nothing
// between them is missing: it is a beginning of this log. Tables are hard links where the file
// system has them, so it takes little time and room at first; they keep the room
// of what is compacted away meanwhile, so remove it soon. It has no indexes:
// opening it makes them.
//
// A checkpoint that fails, for want of room, say, is removed, and the store goes
// on.
func (s *Store) Checkpoint(ctx context.Context, dir string) (err error) {
	s.checkpoints.Lock() // Close waits
	defer s.checkpoints.Unlock()
	if s.isClosing() {
		return eventstore.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.failureErr(); err != nil {
		return err
	}
	// From here on nothing that fails below it is a failure of the store.
	s.fs.spare.Store(&dir)
	defer func() {
		// Pebble panics where it cannot name the format of the copy durably.
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
			if cause, ok := p.(error); ok {
				err = cause
			}
		}
		if err != nil {
			err = fmt.Errorf("checkpoint of the event store: %w", err)
			if e := s.opts.FS.RemoveAll(dir); e != nil {
				s.log.Warn("unfinished checkpoint not removed", "directory", dir, "error", e)
			}
		}
	}()
	if err := s.fs.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	// Appends are written with Sync, so what is durable is in the database's log,
	// which is part of it.
	return s.db.Checkpoint(s.fs.PathJoin(dir, "log"))
}
