package pebblestore

import (
	"encoding/binary"
	"runtime"
	"sort"

	"github.com/cockroachdb/pebble/v2/vfs"

	"sojourn/eventstore"
)

// A file of ids has a record for each event: six bytes of the hash of its id, and five of
// its position.
const idRecordLen = 11

func nextID(b []byte) (runKey, int) {
	if len(b) < idRecordLen {
		return runKey{}, 0
	}
	return idKey(b), idRecordLen
}

func putID(dst []byte, k runKey) {
	hash := k.hash >> slotIndexBits
	binary.BigEndian.PutUint32(dst, uint32(hash>>16))
	binary.BigEndian.PutUint16(dst[4:], uint16(hash))
	putPosition(dst[6:], eventstore.Position(k.n))
}

func idKey(b []byte) runKey {
	_ = b[idRecordLen-1]
	hash := uint64(binary.BigEndian.Uint32(b))<<16 | uint64(binary.BigEndian.Uint16(b[4:]))
	return runKey{hash: hash << slotIndexBits, n: uint64(getPosition(b[6:]))}
}

const positionLen = 5

func putPosition(dst []byte, p eventstore.Position) {
	dst[0] = byte(p >> 32)
	binary.BigEndian.PutUint32(dst[1:], uint32(p))
}

func getPosition(b []byte) eventstore.Position {
	return eventstore.Position(b[0])<<32 | eventstore.Position(binary.BigEndian.Uint32(b[1:]))
}

// find appends the positions that stand under the hash of an id, in ascending order.
func (f *runFile) find(dst []eventstore.Position, hash uint64) ([]eventstore.Position, error) {
	if !f.filter.mayContain(hash) {
		return dst, nil
	}
	hash <<= slotIndexBits
	var buf [runChunkLen]byte
	for i := f.search(runKey{hash: hash}); i < len(f.chunks) && f.chunks[i].first.hash <= hash; i++ {
		b, _, err := f.read(i, buf[:])
		if err != nil {
			return dst, err
		}
		n := len(b) / idRecordLen
		at := sort.Search(n, func(k int) bool { return idKey(b[k*idRecordLen:]).hash >= hash })
		for ; at < n; at++ {
			k := idKey(b[at*idRecordLen:])
			if k.hash != hash {
				return dst, nil
			}
			dst = append(dst, eventstore.Position(k.n))
		}
	}
	return dst, nil
}

// writeIDs writes the ids of a segment.
func (g *segment) writeIDs(fs vfs.FS, dir string, seed hashSeed) (*runFile, error) {
	return writeRunFile(fs, dir, g.info(idRuns), seed, g.n, func(w *runWriter) error {
		var record [idRecordLen]byte
		t := g.table.Load()
		for _, slot := range sortedSlots(t.slots, t.shift, g.n) {
			k := runKey{hash: slot &^ (1<<slotIndexBits - 1), n: uint64(g.position(uint32(slot & (1<<slotIndexBits - 1))))}
			putID(record[:], k)
			if err := w.add(k, record[:]); err != nil {
				return err
			}
		}
		return nil
	})
}

// A file of streams has blocks of up to placesPerBlock events of a stream: eight bytes of
// the hash of its name and two of its tag, the revision of the first event, doubled, and
// one more where there are several; then their number and the length of what follows the
// first position; five bytes of that, and the differences that follow (uvarints).
const blockKeyLen = 10

func nextBlock(b []byte) (runKey, int) {
	h, n := readBlockHead(b)
	return h.key, n + h.places
}

// blockHead is what a block of a stream begins with.
type blockHead struct {
	key    runKey
	count  int // of events
	places int // bytes of their positions
}

// end is the revision behind the block's last.
func (h *blockHead) end() uint64 { return h.key.n + uint64(h.count) }

func (h nameHash) key(revision uint64) runKey { return runKey{hash: h.hash, tag: h.tag, n: revision} }

// is says whether a key is of a stream.
func (k runKey) is(h nameHash) bool { return k.hash == h.hash && k.tag == h.tag }

// appendBlock appends a block of ascending positions.
func appendBlock(dst []byte, k runKey, places []eventstore.Position) []byte {
	dst = binary.BigEndian.AppendUint64(dst, k.hash)
	dst = binary.BigEndian.AppendUint16(dst, k.tag)
	if len(places) == 1 {
		dst = binary.AppendUvarint(dst, k.n<<1)
	} else {
		n := 0
		for i, p := range places[1:] {
			n += uvarintLen(uint64(p - places[i]))
		}
		dst = binary.AppendUvarint(dst, k.n<<1|1)
		dst = binary.AppendUvarint(dst, uint64(len(places)))
		dst = binary.AppendUvarint(dst, uint64(n))
	}
	var first [positionLen]byte
	putPosition(first[:], places[0])
	dst = append(dst, first[:]...)
	for i, p := range places[1:] {
		dst = binary.AppendUvarint(dst, uint64(p-places[i]))
	}
	return dst
}

// readBlockHead reads the head of a block and its length; h.places bytes follow. Both are
// 0 where it cannot be read.
func readBlockHead(b []byte) (h blockHead, n int) {
	if len(b) < blockKeyLen {
		return blockHead{}, 0
	}
	h = blockHead{
		key:   runKey{hash: binary.BigEndian.Uint64(b), tag: binary.BigEndian.Uint16(b[8:])},
		count: 1, places: positionLen,
	}
	n = blockKeyLen
	revision, w := binary.Uvarint(b[n:])
	if w <= 0 {
		return blockHead{}, 0
	}
	n += w
	h.key.n = revision >> 1
	if revision&1 != 0 {
		count, w := binary.Uvarint(b[n:])
		if w <= 0 || count == 0 || count > placesPerBlock {
			return blockHead{}, 0
		}
		n += w
		more, w := binary.Uvarint(b[n:])
		if w <= 0 || more > uint64(len(b)) {
			return blockHead{}, 0
		}
		n += w
		h.count, h.places = int(count), positionLen+int(more)
	}
	if len(b)-n < h.places {
		return blockHead{}, 0
	}
	return h, n
}

// appendPlaces appends the positions of a block to dst; it says whether they can be read.
func appendPlaces(dst []eventstore.Position, h blockHead, b []byte) ([]eventstore.Position, bool) {
	p := getPosition(b)
	dst = append(dst, p)
	b = b[positionLen:h.places]
	for range h.count - 1 {
		d, w := binary.Uvarint(b)
		if w <= 0 {
			return dst, false
		}
		p += eventstore.Position(d)
		dst = append(dst, p)
		b = b[w:]
	}
	return dst, true
}

// writeStreams writes the blocks of a segment's streams.
func (g *segment) writeStreams(fs vfs.FS, dir string, seed hashSeed) (*runFile, error) {
	return writeRunFile(fs, dir, g.info(streamRuns), seed, g.streams.n, func(w *runWriter) error {
		var (
			places        []eventstore.Position
			record        []byte
			few           [8]uint32
			events, begin []uint32
			touched       uint32
		)
		order := g.byHash()
		for i, local := range order {
			if i%touchAhead == 0 {
				// They lie anywhere in memory: these loads overlap.
				for _, local := range order[i:min(i+touchAhead, len(order))] {
					touched ^= g.streams.at(int(local)).last
				}
			}
			st := g.streams.at(int(local))
			var own []uint32
			if int(st.count) <= len(few) {
				own = few[:st.count]
				at := st.last
				for k := len(own) - 1; k >= 0; k-- {
					own[k] = at - 1
					at = g.prev[at-1]
				}
			} else {
				// Following a long chain would wait for memory at each step.
				if events == nil {
					events, begin = g.byStream()
				}
				own = events[begin[local]:][:st.count]
			}
			for at := 0; at < len(own); at += placesPerBlock {
				places = places[:0]
				for _, i := range own[at:min(at+placesPerBlock, len(own))] {
					places = append(places, g.position(i))
				}
				k := st.id().key(st.first + uint64(at))
				record = appendBlock(record[:0], k, places)
				if err := w.add(k, record); err != nil {
					return err
				}
			}
		}
		runtime.KeepAlive(touched) // or else the compiler drops the loads
		return nil
	})
}

func (g *segment) info(kind runKind) runInfo {
	return runInfo{kind: kind, first: g.base, last: g.end() - 1}
}

// writeRun writes one of a segment's runs, durable under its name.
func (s *Store) writeRun(g *segment, kind runKind) (*runFile, error) {
	if kind == idRuns {
		return g.writeIDs(s.fs, s.indexDir, s.seed)
	}
	return g.writeStreams(s.fs, s.indexDir, s.seed)
}
