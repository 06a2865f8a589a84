package pebblestore

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"runtime"
	"slices"
	"strings"

	"github.com/cockroachdb/errors/oserror"
	"github.com/cockroachdb/pebble/v2/objstorage/objstorageprovider"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"

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
	next.active.expect(len(old.active.streams))
	s.index.Store(next)
	s.indexed.notify()
}

// runIndexer writes frozen segments out, oldest first, and merges runs while
// nothing else waits.
func (s *Store) runIndexer() {
	for {
		changed := s.indexed.wait()
		state := s.index.Load()
		var err error
		switch {
		case s.failureErr() != nil:
			return
		case len(state.frozen) > 0:
			if !s.awaitDurable(state.frozen[0].end() - 1) {
				return
			}
			err = s.writeSegment(state.frozen[0])
		case !s.isClosing() && mergeable(state.runs, s.opts.SegmentEvents) > 0:
			err = s.merge(state.runs)
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

// writeSegment writes a frozen segment's ids as a run and its streams as a
// table, and then lets go of it:
//  1. the run, durable under its name, which nothing refers to yet;
//  2. the table with the streams and the manifest, which Pebble takes in as a
//     whole: from here on the indexes on disk reach the segment's end;
//  3. the new state, in memory.
func (s *Store) writeSegment(g *segment) error {
	state := s.index.Load()
	info := runInfo{first: g.base, last: g.end() - 1, count: g.n}
	r, err := writeRun(s.fs, s.runDir, s.seed, info, func(add func(entry) error) error {
		for _, e := range g.sorted() {
			if err := add(e); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	runs := append(slices.Clip(state.runs), r)
	if err := s.ingest(g, runs); err != nil {
		return errors.Join(err, r.close())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.index.Load()
	s.index.Store(&indexState{active: now.active, frozen: now.frozen[1:], runs: runs})
	s.indexed.notify()
	return nil
}

// ingest writes a table with a segment's streams, if there is one, and the
// manifest, and has Pebble take it in. It is durable on return.
func (s *Store) ingest(g *segment, runs []*run) (err error) {
	path := s.fs.PathJoin(s.runDir, "index.sst"+tmpSuffix)
	f, err := s.fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("write index table: %w", err)
	}
	po := indexOptions(s.opts, nil)
	po.EnsureDefaults()
	format := s.streams.FormatMajorVersion().MaxTableFormat()
	w := sstable.NewWriter(objstorageprovider.NewFileWritable(f), po.MakeWriterOptions(0, format))
	m := manifest{seed: s.seed}
	for _, r := range runs {
		m.runs = append(m.runs, r.runInfo)
		m.indexed = r.last
	}
	err = w.Set(manifestKey, m.encode())
	if err == nil && g != nil {
		err = g.writeStreams(w)
	}
	// Close syncs the file.
	if err = errors.Join(err, w.Close()); err != nil {
		return fmt.Errorf("write index table: %w", err)
	}
	if err := s.streams.Ingest(context.Background(), []string{path}); err != nil {
		return fmt.Errorf("take in index table: %w", err)
	}
	if err := s.fs.Remove(path); err != nil && !oserror.IsNotExist(err) {
		return fmt.Errorf("remove index table: %w", err)
	}
	return nil
}

// writeStreams writes the blocks of all streams in the order of their keys.
func (g *segment) writeStreams(w *sstable.Writer) error {
	var (
		events, begin = g.byStream()
		places        []eventstore.Position
		key, value    []byte
	)
	const ahead = 64
	order := g.byKey()
	touched := 0
	for i, local := range order {
		if i%ahead == 0 {
			// They lie anywhere in memory: these loads overlap.
			for _, local := range order[i:min(i+ahead, len(order))] {
				touched += int(g.streams[local].name[0]) + int(events[begin[local]])
			}
		}
		st := &g.streams[local]
		own := events[begin[local]:][:st.count]
		for at := (len(own) - 1) / placesPerBlock * placesPerBlock; at >= 0; at -= placesPerBlock {
			places = places[:0]
			for _, i := range own[at:min(at+placesPerBlock, len(own))] {
				places = append(places, g.position(i))
			}
			key = appendStreamKey(key[:0], st.name, st.first+uint64(at))
			value = appendPlaces(value[:0], places)
			if err := w.Set(key, value); err != nil {
				return err
			}
		}
	}
	runtime.KeepAlive(touched) // or else the compiler drops the loads
	return nil
}

// byStream returns the segment's events, grouped by stream and in order, and
// where each stream's begin. Following the chains would wait for memory at each
// step.
func (g *segment) byStream() (events, begin []uint32) {
	begin = make([]uint32, len(g.streams))
	next := make([]uint32, len(g.streams))
	sum := uint32(0)
	for i := range g.streams {
		begin[i], next[i] = sum, sum
		sum += g.streams[i].count
	}
	events = make([]uint32, g.n)
	for i := range g.n {
		local := g.local[i]
		events[next[local]] = uint32(i)
		next[local]++
	}
	return events, begin
}

// byKey returns the places of the streams in the order of their keys: by length
// and then by name.
func (g *segment) byKey() []uint32 {
	type sortKey struct {
		length uint32
		local  uint32
		head   uint64 // the name's bytes behind what all names begin with
	}
	common := len(g.streams[0].name)
	for i := range g.streams {
		common = commonPrefix(g.streams[0].name[:common], g.streams[i].name)
	}
	keys := make([]sortKey, len(g.streams))
	for i := range g.streams {
		name := g.streams[i].name
		var head [8]byte
		copy(head[:], name[common:])
		keys[i] = sortKey{uint32(len(name)), uint32(i), binary.BigEndian.Uint64(head[:])}
	}
	slices.SortFunc(keys, func(a, b sortKey) int {
		switch {
		case a.length != b.length:
			return cmp.Compare(a.length, b.length)
		case a.head != b.head:
			return cmp.Compare(a.head, b.head)
		}
		return strings.Compare(g.streams[a.local].name, g.streams[b.local].name)
	})
	order := make([]uint32, len(keys))
	for i := range keys {
		order[i] = keys[i].local
	}
	return order
}

func commonPrefix(a, b string) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// Runs are merged four at a time. maxMergedRun bounds a merge, and with it the
// time that the next frozen segment may have to wait for it.
const (
	mergeFanIn   = 4
	maxMergedRun = 1 << 25
)

// mergeable returns how many of the newest runs are to be merged now: none, or
// four that are no smaller than a step of four below the oldest of them.
func mergeable(runs []*run, segmentEvents int) int {
	if len(runs) < mergeFanIn {
		return 0
	}
	last := runs[len(runs)-mergeFanIn:]
	tier := func(r *run) int { return bits.Len(uint(r.count/max(1, segmentEvents/4))) / 2 }
	total := 0
	for _, r := range last {
		if tier(r) > tier(last[0]) {
			return 0
		}
		total += r.count
	}
	if total > maxMergedRun {
		return 0
	}
	return mergeFanIn
}

// merge writes one run in place of the newest ones.
func (s *Store) merge(runs []*run) error {
	n := len(runs) - mergeable(runs, s.opts.SegmentEvents)
	old := runs[n:]
	r, err := mergeRuns(s.fs, s.runDir, s.seed, old)
	if err != nil {
		return err
	}
	merged := append(slices.Clip(runs[:n]), r)
	if err := s.ingest(nil, merged); err != nil {
		return errors.Join(err, r.close())
	}
	s.mu.Lock()
	now := s.index.Load()
	s.index.Store(&indexState{active: now.active, frozen: now.frozen, runs: merged})
	s.mu.Unlock()
	s.indexed.notify()
	for _, r := range old {
		if err := r.close(); err != nil {
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
		if len(state.frozen) == 0 && mergeable(state.runs, s.opts.SegmentEvents) == 0 {
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
