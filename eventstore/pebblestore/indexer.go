package pebblestore

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"sojourn/eventstore"
)

// rotate freezes the active segment, which the indexer then writes out, and
// makes a new one. The caller holds mu, and nobody appends meanwhile.
func (s *Store) rotate(capacity int) {
	old := s.index.Load()
	if old.active.n == 0 && len(old.active.ids) >= capacity {
		return
	}
	next := &indexState{runs: old.runs, frozen: old.frozen}
	if old.active.n > 0 {
		next.frozen = append(slices.Clip(old.frozen), old.active)
	}
	next.active = newSegment(old.active.number+1, old.active.end(), capacity)
	next.active.expect(old.active.streams.n)
	s.index.Store(next)
	s.indexed.notify()
}

// runIndexer writes frozen segments out, oldest first, and merges runs while
// nothing else waits.
func (s *Store) runIndexer() {
	for {
		changed := s.indexed.wait()
		state := s.index.Load()
		kind, mergeable := state.mergeable()
		var err error
		switch {
		case s.failureErr() != nil:
			return
		case len(state.frozen) > 0:
			if !s.awaitDurable(state.frozen[0].end() - 1) {
				return
			}
			err = s.writeSegment(state.frozen[0])
		case !s.isClosing() && mergeable:
			err = s.merge(kind)
		default:
			select {
			case <-changed:
				continue
			case <-s.failed:
			case <-s.stopIndex:
				// What was frozen before has been written by now.
				if len(s.index.Load().frozen) > 0 {
					continue
				}
			}
			return
		}
		if err != nil {
			s.fail(fmt.Errorf("write the indexes: %w", err))
			return
		}
	}
}

// awaitDurable returns false where the position will not become durable.
func (s *Store) awaitDurable(p eventstore.Position) bool {
	for {
		moved := s.advanced.wait()
		if s.head() >= p {
			return true
		}
		select {
		case <-moved:
		case <-s.failed:
			return false
		}
	}
}

// writeSegment writes a frozen segment as runs, and then lets go of it:
//  1. the runs, side by side, durable under their names, which nothing refers to yet;
//  2. the manifest, which names them: from here on the indexes on disk reach the segment's
//     end;
//  3. what it says of its streams' revisions is remembered;
//  4. the new state, in memory.
func (s *Store) writeSegment(g *segment) error {
	var (
		work    errgroup.Group
		written [runKinds]*runFile
	)
	for kind := range runKinds {
		work.Go(func() (err error) {
			written[kind], err = s.writeRun(g, kind)
			return err
		})
	}
	err := work.Wait()
	runs := s.index.Load().runs
	if err == nil {
		for kind, r := range written {
			runs[kind] = append(slices.Clip(runs[kind]), r)
		}
		err = s.writeManifest(runs)
	}
	if err != nil {
		for _, r := range written {
			if r != nil {
				err = errors.Join(err, r.retire())
			}
		}
		return err
	}
	runtime.KeepAlive(s.committer.revisions.learn(g))
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.index.Load()
	s.index.Store(&indexState{active: now.active, frozen: now.frozen[1:], runs: runs})
	s.indexed.notify()
	return nil
}

// maxMergedRun bounds a merge, in events, and with it the time that the next frozen
// segment may have to wait for it.
const maxMergedRun = 1 << 25

// mergeable returns how many of the newest runs of a kind are to be merged now: as many as
// can be where all the others together are as many times larger than the oldest of them as
// their format says, or none. So an entry is written anew only into a run of that much
// more than its own.
func mergeable(runs []*runFile) int {
	merge, newer := 0, 0
	for n := 1; n <= len(runs); n++ {
		r := runs[len(runs)-n]
		if newer+r.events() > maxMergedRun {
			break
		}
		if f := &runFormats[r.kind]; n >= f.fanIn && r.events()*f.growth <= newer {
			merge = n
		}
		newer += r.events()
	}
	return merge
}

// mergeable returns a kind of runs that are to be merged, if there is one.
func (state *indexState) mergeable() (runKind, bool) {
	for kind, runs := range state.runs {
		if mergeable(runs) > 0 {
			return runKind(kind), true
		}
	}
	return 0, false
}

// merge writes one run of a kind in place of the newest ones.
func (s *Store) merge(kind runKind) error {
	runs := s.index.Load().runs
	n := len(runs[kind]) - mergeable(runs[kind])
	old := runs[kind][n:]
	r, err := mergeRunFiles(s.fs, s.indexDir, s.seed, old)
	if err != nil {
		return err
	}
	runs[kind] = append(slices.Clip(runs[kind][:n]), r)
	if err := s.writeManifest(runs); err != nil {
		return errors.Join(err, r.retire())
	}
	s.mu.Lock()
	now := s.index.Load()
	s.index.Store(&indexState{active: now.active, frozen: now.frozen, runs: runs})
	s.mu.Unlock()
	s.indexed.notify()
	for _, r := range old {
		if err := r.retire(); err != nil {
			s.log.Warn("index run not closed", "path", r.path, "error", err)
		}
		if err := s.fs.Remove(r.path); err != nil {
			s.log.Warn("index run not removed", "path", r.path, "error", err)
		}
	}
	return nil
}

// FlushIndexes writes the indexes of everything appended so far out, and
// returns when that and the merges that follow from it are done, and what a
// start leaves to be loaded is loaded. A running store does so by itself now and
// then; benchmarks and tests wait for it.
func (s *Store) FlushIndexes(ctx context.Context) error {
	c := &call{seal: true}
	g, err := s.queue.put(ctx, c, -1)
	if err != nil {
		return err
	}
	if err := s.await(ctx, c, g); err != nil {
		return err
	}
	select {
	case <-s.committer.revisions.loaded:
	case <-ctx.Done():
		return ctx.Err()
	}
	for {
		changed := s.indexed.wait()
		state := s.index.Load()
		if _, mergeable := state.mergeable(); !mergeable && len(state.frozen) == 0 {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		case <-s.closing:
			return eventstore.ErrClosed
		case <-s.failed:
			return s.failureErr()
		}
	}
}

// FlushTables writes what the log keeps in memory to tables, and returns when
// that is done. The log is durable without it; benchmarks ask for it between
// rounds.
func (s *Store) FlushTables(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.refusal(); err != nil {
		return err
	}
	if err := s.db.Flush(); err != nil {
		return fmt.Errorf("flush the log's tables: %w", err)
	}
	return nil
}
