package pebblestore

import (
	"errors"
	"fmt"

	"sojourn/eventstore"
)

// placesPerBlock is how many of a stream's events one block of a run holds at most.
const placesPerBlock = 1024

// streamPlaces finds where the events of one stream stand: first those in runs,
// then those in the segments.
type streamPlaces struct {
	s     *Store
	name  nameHash
	runs  []*runFile // of streams, oldest first
	views []view     // oldest first

	buf    []byte
	heads  []blockHead
	bodies [][]byte
	places []eventstore.Position
}

// visitor is told a revision and its position; it says whether to go on.
type visitor func(revision uint64, p eventstore.Position) (bool, error)

// newStreamPlaces takes what the segments hold of a stream at an instant, and the runs of
// that instant.
func newStreamPlaces(s *Store, stream string) *streamPlaces {
	t := &streamPlaces{s: s, name: s.seed.nameHash(stream)}
	s.mu.RLock()
	defer s.mu.RUnlock()
	state := s.index.Load()
	t.runs = state.runs[streamRuns]
	for _, g := range state.frozen {
		if v, ok := g.view(t.name); ok {
			t.views = append(t.views, v)
		}
	}
	if v, ok := state.active.view(t.name); ok {
		t.views = append(t.views, v)
	}
	return t
}

// inMemory is the revision from which on the segments hold the stream.
func (t *streamPlaces) inMemory() uint64 {
	if len(t.views) == 0 {
		return noRevision
	}
	return t.views[0].first
}

// onDisk does something with the runs, again if they were merged meanwhile.
func (t *streamPlaces) onDisk(do func() error) error {
	for {
		err := do()
		if !errors.Is(err, errRunRetired) {
			return err
		}
		t.runs = t.s.index.Load().runs[streamRuns]
	}
}

// chunk reads the stream's blocks in a chunk of a run.
func (t *streamPlaces) chunk(f *runFile, i int) error {
	t.heads, t.bodies = t.heads[:0], t.bodies[:0]
	if t.buf == nil {
		t.buf = make([]byte, 2*runChunkLen)
	}
	b, _, err := f.read(i, t.buf[:min(len(t.buf), int(f.chunks[i].size))])
	if err != nil {
		return err
	}
	for len(b) > 0 {
		h, n := readBlockHead(b)
		if n == 0 {
			return f.unreadable()
		}
		if h.key.is(t.name) {
			t.heads, t.bodies = append(t.heads, h), append(t.bodies, b[n:])
		}
		b = b[n+h.places:]
	}
	return nil
}

// block decodes the i-th of the blocks that were read.
func (t *streamPlaces) block(f *runFile, i int) error {
	var ok bool
	if t.places, ok = appendPlaces(t.places[:0], t.heads[i], t.bodies[i]); !ok {
		return f.unreadable()
	}
	return nil
}

// holds says whether a run may hold the stream.
func (t *streamPlaces) holds(f *runFile) bool {
	return f.filter.mayContain(t.name.hash >> slotIndexBits)
}

func (t *streamPlaces) forwards(from uint64, visit visitor) error {
	next, goOn := from, true
	err := t.onDisk(func() error {
		last := t.name.key(noRevision)
		for _, f := range t.runs {
			if next >= t.inMemory() {
				break
			}
			if !t.holds(f) {
				continue
			}
			for i := f.search(t.name.key(next)); i < len(f.chunks) && f.chunks[i].first.compare(last) <= 0; i++ {
				if err := t.chunk(f, i); err != nil {
					return err
				}
				for k, h := range t.heads {
					if h.end() <= next {
						continue
					}
					if err := t.block(f, k); err != nil {
						return err
					}
					for i, p := range t.places {
						revision := h.key.n + uint64(i)
						if revision < next {
							continue
						}
						if revision >= t.inMemory() {
							return nil
						}
						var err error
						if goOn, err = visit(revision, p); err != nil || !goOn {
							return err
						}
						next = revision + 1
					}
				}
			}
		}
		return nil
	})
	if err != nil || !goOn {
		return err
	}
	for _, v := range t.views {
		revision := max(from, v.first)
		for _, p := range v.positions(from) {
			if goOn, err := visit(revision, p); err != nil || !goOn {
				return err
			}
			revision++
		}
	}
	return nil
}

func (t *streamPlaces) backwards(from uint64, visit visitor) error {
	for i := len(t.views) - 1; i >= 0; i-- {
		for revision, p := range t.views[i].backwards {
			if revision > from {
				continue
			}
			if goOn, err := visit(revision, p); err != nil || !goOn {
				return err
			}
		}
	}
	memory := t.inMemory()
	if memory == 0 {
		return nil
	}
	end := min(from, memory-1) + 1 // what stands before it is still to be visited
	return t.onDisk(func() error {
		for ri := len(t.runs) - 1; ri >= 0 && end > 0; ri-- {
			f, first := t.runs[ri], t.name.key(0)
			if !t.holds(f) {
				continue
			}
			for i := f.search(t.name.key(end - 1)); i >= 0; i-- {
				if err := t.chunk(f, i); err != nil {
					return err
				}
				for k := len(t.heads) - 1; k >= 0; k-- {
					h := &t.heads[k]
					if h.key.n >= end {
						continue
					}
					if err := t.block(f, k); err != nil {
						return err
					}
					for i := len(t.places) - 1; i >= 0; i-- {
						revision := h.key.n + uint64(i)
						if revision >= end {
							continue
						}
						if goOn, err := visit(revision, t.places[i]); err != nil || !goOn {
							return err
						}
						end = revision
					}
				}
				if f.chunks[i].first.compare(first) < 0 {
					break
				}
			}
		}
		return nil
	})
}

// exists says whether the stream has an event up to a position.
func (t *streamPlaces) exists(head eventstore.Position) (bool, error) {
	if t.inMemory() > 0 {
		next, err := t.nextRevision()
		if err != nil || next > 0 {
			return next > 0, err
		}
	}
	for _, v := range t.views {
		for _, p := range v.backwards {
			if p <= head {
				return true, nil
			}
		}
	}
	return false, nil
}

// nextRevision returns the revision that follows the last one in runs, 0 where they do not
// hold the stream.
func (t *streamPlaces) nextRevision() (next uint64, err error) {
	err = t.onDisk(func() error {
		for i := len(t.runs) - 1; i >= 0; i-- {
			f := t.runs[i]
			if !t.holds(f) {
				continue
			}
			if err := t.chunk(f, f.search(t.name.key(noRevision))); err != nil {
				return err
			}
			if n := len(t.heads); n > 0 {
				next = t.heads[n-1].end()
				return nil
			}
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("read stream index: %w", err)
	}
	return next, nil
}
