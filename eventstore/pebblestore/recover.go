package pebblestore

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/cockroachdb/errors/oserror"

	"sojourn/eventstore"
)

// recover brings the indexes to the end of the log. Everything Pebble holds
// after Open is durable: it writes what it replays to tables before it returns.
func (s *Store) recover() error {
	begun := time.Now()
	m, err := s.loadManifest()
	if err != nil {
		return err
	}
	s.seed = m.seed
	log, err := s.newLogReader()
	if err != nil {
		return err
	}
	defer log.close()
	ok, err := log.lastRecord()
	if err != nil {
		return fmt.Errorf("read the end of the log: %w", err)
	}
	head := eventstore.Position(0)
	if ok {
		head = log.b.last()
		s.committer.lastTime = log.b.recordedAt
	}
	if m.indexed > head {
		return fmt.Errorf("%w: it ends at position %d, the indexes at %d", ErrCorrupt, head, m.indexed)
	}
	s.durable.Store(uint64(head))
	s.index.Store(&indexState{active: newSegment(1, m.indexed+1, s.opts.SegmentEvents)})
	if err := s.openRuns(m); err != nil {
		return err
	}
	if err := s.removeStrays(); err != nil {
		return err
	}
	if err := s.replay(m.indexed+1, head); err != nil {
		return err
	}
	s.log.Info("event store opened", "head", uint64(head), "read_again", uint64(head-m.indexed),
		"duration", time.Since(begun))
	return nil
}

// openRuns opens the runs of the manifest; those that are damaged are written
// anew from the log.
func (s *Store) openRuns(m manifest) error {
	var runs [runKinds][]*runFile
	add := func(r *runFile) {
		runs[r.kind] = append(runs[r.kind], r)
		s.index.Store(&indexState{active: s.index.Load().active, runs: runs})
	}
	changed := false
	for kind := range runKinds {
		for _, info := range m.runs[kind] {
			r, err := openRunFile(s.fs, s.indexDir, info, s.seed)
			if err == nil {
				add(r)
				continue
			}
			if !errors.Is(err, errBadRun) && !oserror.IsNotExist(err) {
				return err
			}
			s.log.Warn("index run is made anew from the log", "error", err)
			changed = true
			for first := info.first; first <= info.last; first += eventstore.Position(s.opts.SegmentEvents) {
				last := min(first+eventstore.Position(s.opts.SegmentEvents)-1, info.last)
				r, err := s.rebuildRun(kind, first, last)
				if err != nil {
					return err
				}
				add(r)
			}
		}
	}
	if !changed {
		return nil
	}
	return s.writeManifest(runs)
}

// rebuildRun writes the run of some positions from the log.
func (s *Store) rebuildRun(kind runKind, first, last eventstore.Position) (*runFile, error) {
	g := newSegment(0, first, int(last-first+1))
	err := s.scan(first, last, func(events []eventstore.Recorded) error {
		for i := range events {
			e := &events[i]
			name := s.seed.nameHash(e.Stream)
			local, ok := g.stream(name)
			if !ok {
				local = g.addStream(name, e.Revision)
			}
			g.add(s.indexHash(e, name), e.ID, local, e.Repeat)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return s.writeRun(g, kind)
}

// removeStrays removes what a crash left behind while indexes were written.
func (s *Store) removeStrays() error {
	names, err := s.fs.List(s.indexDir)
	if err != nil {
		return fmt.Errorf("list index runs: %w", err)
	}
	kept := make(map[string]bool)
	for _, runs := range s.index.Load().runs {
		for _, r := range runs {
			kept[r.fileName()] = true
		}
	}
	ours := []string{runFormats[idRuns].ext, runFormats[streamRuns].ext, tmpSuffix}
	for _, name := range names {
		if kept[name] || !slices.ContainsFunc(ours, func(ext string) bool { return strings.HasSuffix(name, ext) }) {
			continue
		}
		if err := s.fs.Remove(s.fs.PathJoin(s.indexDir, name)); err != nil {
			return fmt.Errorf("remove stray index run: %w", err)
		}
	}
	return nil
}

// indexHash is the hash under which an event of the log is indexed.
func (s *Store) indexHash(e *eventstore.Recorded, stream nameHash) uint64 {
	if e.Repeat {
		return s.seed.repeatHash(e.ID, stream)
	}
	return s.seed.idHash(e.ID)
}

// replayTold is how often a long replay says how far it is.
const replayTold = 10 * time.Second

// replay adds the events behind the indexes on disk to segments again. Where
// there are many, full segments are written out on the way.
func (s *Store) replay(first, last eventstore.Position) error {
	if first > last {
		return nil
	}
	c := &s.committer
	var names []nameHash
	told := time.Now()
	return s.scan(first, last, func(events []eventstore.Recorded) error {
		if time.Since(told) > replayTold {
			told = time.Now()
			s.log.Info("indexes are made from the log", "position", uint64(events[0].Position), "of", uint64(last))
		}
		if err := s.makeRoom(len(events)); err != nil {
			return err
		}
		g := s.index.Load().active
		names = names[:0]
		for i := range events {
			names = append(names, s.seed.nameHash(events[i].Stream))
			c.touched ^= g.names.touch(names[i].hash)
		}
		c.revisions.mu.Lock()
		defer c.revisions.mu.Unlock()
		for i := range events {
			if err := s.readd(g, names[i], &events[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

// makeRoom sees to it that the active segment takes some more events.
func (s *Store) makeRoom(events int) error {
	state := s.index.Load()
	if state.active.n+events <= len(state.active.ids) {
		return nil
	}
	s.rotate(max(events, s.opts.SegmentEvents))
	if state = s.index.Load(); len(state.frozen) > 1 {
		if err := s.writeSegment(state.frozen[0]); err != nil {
			return err
		}
	}
	return nil
}

// readd adds an event of the log to a segment. The caller holds the lock of revisions.
func (s *Store) readd(g *segment, name nameHash, e *eventstore.Recorded) error {
	local, ok := g.stream(name)
	if !ok {
		local = s.committer.addStream(g, name, e.Revision)
	} else if due := g.streams.at(int(local)).next(); e.Revision != due {
		return fmt.Errorf("%w: revision %d at position %d stands where %d is due",
			ErrCorrupt, e.Revision, e.Position, due)
	}
	g.add(s.indexHash(e, name), e.ID, local, e.Repeat)
	return nil
}

func isDiskFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
