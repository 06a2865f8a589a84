package pebblestore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"

	"github.com/cockroachdb/errors/oserror"
	"github.com/cockroachdb/pebble/v2/objstorage/objstorageprovider"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
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
		var err error
		switch {
		case s.failureErr() != nil:
			return
		case len(state.frozen) > 0:
			if !s.awaitDurable(state.frozen[0].end() - 1) {
				return
			}
			err = s.writeSegment(state.frozen[0])
		case !s.isClosing() && mergeable(state.runs) > 0:
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

// writeSegment writes a frozen segment's ids as a run and its streams as tables, side
// by side, and then lets go of it:
//  1. the run, durable under its name, which nothing refers to yet, and the tables, which
//     have the manifest, too;
//  2. Pebble takes the tables in as a whole: from here on the indexes on disk reach the
//     segment's end;
//  3. what it says of its streams' revisions is remembered;
//  4. the new state, in memory.
func (s *Store) writeSegment(g *segment) error {
	state := s.index.Load()
	info := runInfo{first: g.base, last: g.end() - 1, count: g.n}
	var (
		work   errgroup.Group
		r      *run
		tables []string
	)
	work.Go(func() (err error) {
		r, err = writeRun(s.fs, s.runDir, s.seed, info, func(add func(entry) error) error {
			for _, e := range g.sorted() {
				if err := add(e); err != nil {
					return err
				}
			}
			return nil
		})
		return err
	})
	work.Go(func() (err error) {
		tables, err = s.writeTables(g, append(infosOf(state.runs), info))
		return err
	})
	err := work.Wait()
	if err == nil {
		err = s.ingest(tables)
	}
	if err != nil {
		if r != nil {
			err = errors.Join(err, r.close())
		}
		return err
	}
	runtime.KeepAlive(s.committer.revisions.learn(g))
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.index.Load()
	s.index.Store(&indexState{active: now.active, frozen: now.frozen[1:], runs: append(slices.Clip(state.runs), r)})
	s.indexed.notify()
	return nil
}

func infosOf(runs []*run) []runInfo {
	infos := make([]runInfo, len(runs), len(runs)+1)
	for i, r := range runs {
		infos[i] = r.runInfo
	}
	return infos
}

// A segment's streams are written as up to maxTables tables by as many processors; each
// of several has at least as many streams as a tableShare-th of a segment's events.
const (
	maxTables  = 4
	tableShare = 32
)

// writeTables writes the manifest and, where there is a segment, its streams. It returns
// the paths of the tables, which are durable and hold keys one behind the other.
func (s *Store) writeTables(g *segment, runs []runInfo) ([]string, error) {
	m := manifest{seed: s.seed, runs: runs}
	if n := len(runs); n > 0 {
		m.indexed = runs[n-1].last
	}
	var order, events, begin []uint32
	if g != nil {
		order = g.byKey()
		events, begin = g.byStream()
	}
	n := max(1, min(maxTables, runtime.GOMAXPROCS(0), len(order)/max(1, s.opts.SegmentEvents/tableShare)))
	paths := make([]string, n)
	var work errgroup.Group
	for i := range paths {
		paths[i] = s.fs.PathJoin(s.runDir, fmt.Sprintf("index-%d.sst%s", i, tmpSuffix))
		part := order[len(order)*i/n : len(order)*(i+1)/n]
		work.Go(func() error {
			return s.writeTable(paths[i], func(w *sstable.Writer) error {
				if i == 0 {
					if err := w.Set(manifestKey, m.encode()); err != nil {
						return err
					}
				}
				return g.writeStreams(w, part, events, begin)
			})
		})
	}
	if err := work.Wait(); err != nil {
		return nil, fmt.Errorf("write index tables: %w", err)
	}
	return paths, nil
}

// writeManifest makes the manifest one of other runs that end where its own do.
func (s *Store) writeManifest(runs []*run) error {
	tables, err := s.writeTables(nil, infosOf(runs))
	if err != nil {
		return err
	}
	return s.ingest(tables)
}

// writeTable writes a table. It is durable on return.
func (s *Store) writeTable(path string, fill func(*sstable.Writer) error) error {
	f, err := s.fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	po := indexOptions(s.opts, nil)
	po.EnsureDefaults()
	w := sstable.NewWriter(objstorageprovider.NewFileWritable(f), po.MakeWriterOptions(0, s.streams.FormatMajorVersion().MaxTableFormat()))
	err = fill(w)
	return errors.Join(err, w.Close()) // Close syncs the file
}

// ingest has Pebble take tables in, all or none of them, and removes them here. What is
// in them is durable on return.
func (s *Store) ingest(tables []string) error {
	if err := s.streams.Ingest(context.Background(), tables); err != nil {
		return fmt.Errorf("take in index tables: %w", err)
	}
	for _, path := range tables {
		if err := s.fs.Remove(path); err != nil && !oserror.IsNotExist(err) {
			return fmt.Errorf("remove index table: %w", err)
		}
	}
	return nil
}

// writeStreams writes the blocks of some streams, which are in the order of their keys.
func (g *segment) writeStreams(w *sstable.Writer, order, events, begin []uint32) error {
	var (
		places     []eventstore.Position
		key, value []byte
	)
	touched := 0
	for i, local := range order {
		if i%touchAhead == 0 {
			// They lie anywhere in memory: these loads overlap.
			for _, local := range order[i:min(i+touchAhead, len(order))] {
				st := g.streams.at(int(local))
				touched += int(st.last) + int(st.name[0]) + int(st.name[len(st.name)-1])
			}
		}
		st := g.streams.at(int(local))
		last := [1]uint32{st.last - 1}
		own := last[:]
		if st.count > 1 {
			own = events[begin[local]:][:st.count]
		}
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
	begin = make([]uint32, g.streams.n)
	next := make([]uint32, g.streams.n)
	sum := uint32(0)
	for i := range g.streams.n {
		begin[i], next[i] = sum, sum
		sum += g.streams.at(i).count
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
	keys := make([]streamKey, g.streams.n)
	common := g.streams.at(0).name
	for i := range keys {
		common = common[:commonPrefix(common, g.streams.at(i).name)]
	}
	for i := range keys {
		name := g.streams.at(i).name
		var head [8]byte
		copy(head[:], name[len(common):])
		keys[i] = streamKey{uint32(len(name)), uint32(i), binary.BigEndian.Uint64(head[:])}
	}
	keys = byHead(keys)
	for from := 0; from < len(keys); {
		to := from + 1
		for to < len(keys) && keys[to].length == keys[from].length && keys[to].head == keys[from].head {
			to++
		}
		if to > from+1 {
			slices.SortFunc(keys[from:to], func(a, b streamKey) int {
				return strings.Compare(g.streams.at(int(a.local)).name, g.streams.at(int(b.local)).name)
			})
		}
		from = to
	}
	order := make([]uint32, len(keys))
	for i := range keys {
		order[i] = keys[i].local
	}
	return order
}

// streamKey is what byKey sorts by, and the place in the segment.
type streamKey struct {
	length uint32 // of the name
	local  uint32
	head   uint64 // the name's bytes behind what all names begin with
}

// byHead sorts by length and head, byte by byte from the last. Names are mostly
// hashes, of which a comparison takes as long to foresee as to make.
func byHead(keys []streamKey) []streamKey {
	const bytes = 10 // eight of the head and two of the length
	digit := func(k *streamKey, i int) byte {
		if i < 8 {
			return byte(k.head >> (8 * i))
		}
		return byte(k.length >> (8 * (i - 8)))
	}
	var counts [bytes][256]int
	for i := range keys {
		for d := range bytes {
			counts[d][digit(&keys[i], d)]++
		}
	}
	other := make([]streamKey, len(keys))
	for d := range bytes {
		if len(keys) == 0 || counts[d][digit(&keys[0], d)] == len(keys) {
			continue // all the same
		}
		next, sum := &counts[d], 0
		for b, n := range next {
			next[b], sum = sum, sum+n
		}
		for i := range keys {
			b := digit(&keys[i], d)
			other[next[b]] = keys[i]
			next[b]++
		}
		keys, other = other, keys
	}
	return keys
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

// Runs are merged four at least at a time. maxMergedRun bounds a merge, and with it the
// time that the next frozen segment may have to wait for it.
const (
	mergeFanIn   = 4
	maxMergedRun = 1 << 25
)

// mergeable returns how many of the newest runs are to be merged now: as many as can be
// where the oldest of them is no larger than the others together, or none. So an entry
// is written anew only into a run of twice the size.
func mergeable(runs []*run) int {
	merge, newer := 0, 0
	for n := 1; n <= len(runs); n++ {
		count := runs[len(runs)-n].count
		if newer+count > maxMergedRun {
			break
		}
		if n >= mergeFanIn && count <= newer {
			merge = n
		}
		newer += count
	}
	return merge
}

// merge writes one run in place of the newest ones.
func (s *Store) merge(runs []*run) error {
	n := len(runs) - mergeable(runs)
	old := runs[n:]
	r, err := mergeRuns(s.fs, s.runDir, s.seed, old)
	if err != nil {
		return err
	}
	merged := append(slices.Clip(runs[:n]), r)
	if err := s.writeManifest(merged); err != nil {
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
		if len(state.frozen) == 0 && mergeable(state.runs) == 0 {
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
