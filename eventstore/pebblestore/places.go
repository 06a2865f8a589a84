package pebblestore

import (
	"encoding/binary"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"sojourn/eventstore"
)

// The stream index on disk: for each stream blocks of up to placesPerBlock
// positions, the first as it is, the others as differences.
const placesPerBlock = 1024

// appendPlaces encodes a block of ascending positions.
func appendPlaces(dst []byte, positions []eventstore.Position) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(positions)))
	last := eventstore.Position(0)
	for _, p := range positions {
		dst = binary.AppendUvarint(dst, uint64(p-last))
		last = p
	}
	return dst
}

// placesCount is the number of positions in a block.
func placesCount(b []byte) (int, error) {
	n, w := binary.Uvarint(b)
	if w <= 0 || n == 0 || n > placesPerBlock {
		return 0, fmt.Errorf("%w: a block of the stream index cannot be read", ErrCorrupt)
	}
	return int(n), nil
}

func decodePlaces(dst []eventstore.Position, b []byte) ([]eventstore.Position, error) {
	n, err := placesCount(b)
	if err != nil {
		return nil, err
	}
	_, w := binary.Uvarint(b)
	b = b[w:]
	last := uint64(0)
	for range n {
		d, w := binary.Uvarint(b)
		if w <= 0 {
			return nil, fmt.Errorf("%w: a block of the stream index cannot be read", ErrCorrupt)
		}
		last += d
		dst = append(dst, eventstore.Position(last))
		b = b[w:]
	}
	return dst, nil
}

// streamPlaces finds where the events of one stream stand: first those on disk,
// then those in the segments.
type streamPlaces struct {
	s      *Store
	stream string
	views  []view // oldest first
	disk   *logReader
	block  []eventstore.Position
}

// visitor is told a revision and its position; it says whether to go on.
type visitor func(revision uint64, p eventstore.Position) (bool, error)

func newStreamPlaces(s *Store, stream string, views []view) *streamPlaces {
	return &streamPlaces{s: s, stream: stream, views: views}
}

func (t *streamPlaces) close() {
	if t.disk != nil {
		t.disk.close()
	}
}

// inMemory is the revision from which on the segments hold the stream.
func (t *streamPlaces) inMemory() uint64 {
	if len(t.views) == 0 {
		return noRevision
	}
	return t.views[0].first
}

// load moves to a block of the stream on disk.
func (t *streamPlaces) load(step func(*pebble.Iterator) bool) (first uint64, ok bool, err error) {
	if t.disk == nil {
		t.disk, err = t.s.newReader(t.s.streams, &pebble.IterOptions{
			LowerBound: appendStreamKey(nil, t.stream, noRevision),
			UpperBound: append(appendStreamKey(nil, t.stream, 0), 0),
		})
		if err != nil {
			return 0, false, err
		}
	}
	ok, err = t.disk.move(func(it *pebble.Iterator) bool {
		ok := step(it)
		if ok {
			first, _ = streamKeyRevision(it.Key())
		}
		return ok
	})
	if err != nil || !ok {
		return 0, false, err
	}
	t.block, err = decodePlaces(t.block[:0], t.disk.buf)
	return first, err == nil, err
}

// seek moves to the block that holds a revision, if one does, or else to the
// last one before it.
func (t *streamPlaces) seek(revision uint64) (uint64, bool, error) {
	key := appendStreamKey(nil, t.stream, revision)
	return t.load(func(it *pebble.Iterator) bool { return it.SeekGE(key) })
}

func (t *streamPlaces) forwards(from uint64, visit visitor) error {
	if memory := t.inMemory(); from < memory {
		first, ok, err := t.seek(from)
		for ; ok && err == nil; first, ok, err = t.load((*pebble.Iterator).Prev) {
			for i, p := range t.block {
				revision := first + uint64(i)
				if revision < from {
					continue
				}
				if revision >= memory {
					break
				}
				if goOn, err := visit(revision, p); err != nil || !goOn {
					return err
				}
			}
		}
		if err != nil {
			return err
		}
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
	from = min(from, memory-1)
	first, ok, err := t.seek(from)
	for ; ok && err == nil; first, ok, err = t.load((*pebble.Iterator).Next) {
		for i := len(t.block) - 1; i >= 0; i-- {
			revision := first + uint64(i)
			if revision > from {
				continue
			}
			if goOn, err := visit(revision, t.block[i]); err != nil || !goOn {
				return err
			}
		}
	}
	return err
}

// exists says whether the stream has an event up to a position.
func (t *streamPlaces) exists(head eventstore.Position) (bool, error) {
	if t.inMemory() > 0 {
		_, ok, err := t.seek(noRevision)
		if err != nil || ok {
			return ok, err
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
