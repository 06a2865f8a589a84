package pebblestore

import (
	"math/bits"
	"slices"
	"sync/atomic"

	"github.com/google/uuid"

	"sojourn/eventstore"
)

// segment holds the indexes of a run of consecutive positions in memory: an
// open-addressing table of event ids, and for every stream the chain of its
// events. The committer alone adds to the active segment; a frozen one does not
// change and goes away once it is written out.
//
// The table may be read at any time: what a slot points to is written before the
// slot. Everything else of an active segment is read under Store.mu.
type segment struct {
	number uint32
	base   eventstore.Position // of index 0
	n      int                 // events in the segment

	table atomic.Pointer[idTable]

	ids    []uuid.UUID
	local  []uint32 // the stream's place in streams
	offset []uint32 // revision less the stream's first here; the top bit marks a repeat
	prev   []uint32 // 1 + index of the stream's event before this one, 0 for none

	streams pages[segmentStream]
	names   nameTable // of places in streams

	// grown has a bit for the top of the hash of each stream with more than one event here.
	// Of another stream revisions know its event here, or nothing of the stream.
	grown [1 << (grownBits - 6)]uint64
}

const grownBits = 20

// segmentStream is what a segment holds of one stream: 32 bytes, so that one place in
// memory is waited for. It does not move.
type segmentStream struct {
	hash  uint64 // of its name
	first uint64 // revision of its first event in the segment
	count uint32 // events in the segment
	last  uint32 // 1 + index of its last event
	tag   uint16 // of its name
}

func (st *segmentStream) id() nameHash { return nameHash{hash: st.hash, tag: st.tag} }

const repeatBit = 1 << 31

func newSegment(number uint32, base eventstore.Position, capacity int) *segment {
	g := &segment{
		number: number,
		base:   base,
		ids:    make([]uuid.UUID, capacity),
		local:  make([]uint32, capacity),
		offset: make([]uint32, capacity),
		prev:   make([]uint32, capacity),
		names:  newNameTable(0),
	}
	g.table.Store(newIDTable(min(minTableBits, bits.Len(uint(capacity*2-1)))))
	return g
}

// idTable is the open-addressing table of a segment. It is doubled when it is
// more than 70 % full, so that a young segment's table fits into the caches.
type idTable struct {
	// A slot is a hash (44 bits) and an index (20 bits); 0 is empty.
	slots []uint64
	shift uint // 64 less the number of bits that choose a slot
}

const minTableBits = 12

func newIDTable(slotBits int) *idTable {
	return &idTable{slots: make([]uint64, 1<<slotBits), shift: 64 - uint(slotBits)}
}

// home is the slot where the search for a hash begins. It is made of the
// hash's top bits, so that the table is nearly sorted by hash.
func (t *idTable) home(hash uint64) uint64 { return hash << slotIndexBits >> t.shift }

// add puts a slot into the first free place.
func (t *idTable) add(slot uint64) {
	mask := uint64(len(t.slots) - 1)
	i := t.home(slot >> slotIndexBits)
	for t.slots[i] != 0 {
		i = (i + 1) & mask
	}
	atomic.StoreUint64(&t.slots[i], slot)
}

// doubled returns a table of twice the size. Both are walked from end to end.
func (t *idTable) doubled() *idTable {
	next := newIDTable(64 - int(t.shift) + 1)
	for _, slot := range t.slots {
		if slot != 0 {
			next.add(slot)
		}
	}
	return next
}

func (g *segment) full() bool { return g.n == len(g.ids) }

// end is the position behind the last one.
func (g *segment) end() eventstore.Position { return g.base + eventstore.Position(g.n) }

func (g *segment) position(i uint32) eventstore.Position { return g.base + eventstore.Position(i) }

// findFirst returns the index of the first event of an id.
func (g *segment) findFirst(hash uint64, id uuid.UUID) (uint32, bool) {
	t := g.table.Load()
	mask := uint64(len(t.slots) - 1)
	for i := t.home(hash); ; i = (i + 1) & mask {
		slot := atomic.LoadUint64(&t.slots[i])
		if slot == 0 {
			return 0, false
		}
		if slot>>slotIndexBits == hash {
			at := uint32(slot & (1<<slotIndexBits - 1))
			if g.ids[at] == id && g.offset[at]&repeatBit == 0 {
				return at, true
			}
		}
	}
}

// findRepeat returns the index of the repeat of an id in a stream.
func (g *segment) findRepeat(hash uint64, id uuid.UUID, local uint32) (uint32, bool) {
	t := g.table.Load()
	mask := uint64(len(t.slots) - 1)
	for i := t.home(hash); ; i = (i + 1) & mask {
		slot := atomic.LoadUint64(&t.slots[i])
		if slot == 0 {
			return 0, false
		}
		if slot>>slotIndexBits == hash {
			at := uint32(slot & (1<<slotIndexBits - 1))
			if g.ids[at] == id && g.offset[at]&repeatBit != 0 && g.local[at] == local {
				return at, true
			}
		}
	}
}

// expect makes room for some streams in an empty segment.
func (g *segment) expect(streams int) { g.names = newNameTable(streams) }

// next is the revision of the stream's next event.
func (st *segmentStream) next() uint64 { return st.first + uint64(st.count) }

// addStream adds a stream that the segment does not hold, with the revision that
// its next event gets, and returns its place.
func (g *segment) addStream(id nameHash, next uint64) uint32 {
	local := g.streams.n
	g.names.add(id.hash, local)
	g.streams.add(segmentStream{hash: id.hash, tag: id.tag, first: next})
	return uint32(local)
}

// stream returns a stream's place.
func (g *segment) stream(id nameHash) (uint32, bool) {
	for local := range g.names.find(id.hash) {
		if st := g.streams.at(local); st.hash == id.hash && st.tag == id.tag {
			return uint32(local), true
		}
	}
	return 0, false
}

// add appends an event to the segment; hash is that of its id or, for a repeat,
// of id and stream.
func (g *segment) add(hash uint64, id uuid.UUID, local uint32, repeat bool) {
	at := uint32(g.n)
	st := g.streams.at(int(local))
	g.ids[at] = id
	g.local[at] = local
	g.offset[at] = st.count
	if repeat {
		g.offset[at] |= repeatBit
	}
	g.prev[at] = st.last
	st.last = at + 1
	if st.count++; st.count == 2 {
		g.grown[st.hash>>(64-grownBits+6)] |= 1 << (st.hash >> (64 - grownBits) % 64)
	}
	g.n++

	t := g.table.Load()
	if g.n*10 > len(t.slots)*7 {
		t = t.doubled()
		g.table.Store(t)
	}
	t.add(hash<<slotIndexBits | uint64(at))
}

// revision is the revision of the event at an index.
func (g *segment) revision(at uint32) uint64 {
	return g.streams.at(int(g.local[at])).first + uint64(g.offset[at]&^repeatBit)
}

// view is what a segment holds of a stream at an instant. It stays right while
// the segment grows.
type view struct {
	g     *segment
	first uint64 // revision of the stream's first event in the segment
	count uint32
	last  uint32
}

func (g *segment) view(id nameHash) (view, bool) {
	local, ok := g.stream(id)
	if !ok || g.streams.at(int(local)).count == 0 {
		return view{}, false
	}
	st := g.streams.at(int(local))
	return view{g: g, first: st.first, count: st.count, last: st.last}, true
}

// backwards yields the places of the events from the last to the first.
func (v view) backwards(yield func(revision uint64, p eventstore.Position) bool) {
	revision := v.first + uint64(v.count)
	for at := v.last; at != 0; at = v.g.prev[at-1] {
		revision--
		if !yield(revision, v.g.position(at-1)) {
			return
		}
	}
}

// positions returns the places of the events from a revision on, in order.
func (v view) positions(from uint64) []eventstore.Position {
	var out []eventstore.Position
	for revision, p := range v.backwards {
		if revision < from {
			break
		}
		out = append(out, p)
	}
	slices.Reverse(out)
	return out
}

// sortedSlots returns the slots of an open-addressing table in ascending order. Where the
// search for a slot begins is made of its top bits, so the table is in that order but for
// collisions, and one pass with short moves sorts it.
func sortedSlots(slots []uint64, shift uint, n int) []uint64 {
	out := make([]uint64, 0, n)
	insert := func(slot uint64) {
		i := len(out)
		out = append(out, slot)
		for i > 0 && slot < out[i-1] {
			out[i] = out[i-1]
			i--
		}
		out[i] = slot
	}
	// Slots that wrapped round the end of the table stand at its beginning and belong
	// behind all others.
	wrapped := 0
	for wrapped < len(slots) && slots[wrapped] != 0 {
		wrapped++
	}
	wraps := func(i int) bool { return i < wrapped && slots[i]>>shift > uint64(i) }
	for i, slot := range slots {
		if slot != 0 && !wraps(i) {
			insert(slot)
		}
	}
	for i := range wrapped {
		if wraps(i) {
			insert(slots[i])
		}
	}
	return out
}

// byHash returns the places of the streams in the order of their hashes and tags.
func (g *segment) byHash() []uint32 {
	slots := sortedSlots(g.names.slots, g.names.shift, g.streams.n)
	order := make([]uint32, len(slots))
	for i, slot := range slots {
		order[i] = uint32(slot) - 1
	}
	// A slot has the upper half of a hash: where two are alike, the rest decides.
	for from := 0; from < len(slots); {
		to := from + 1
		for to < len(slots) && slots[to]>>32 == slots[from]>>32 {
			to++
		}
		if to > from+1 {
			slices.SortFunc(order[from:to], func(a, b uint32) int {
				return g.streams.at(int(a)).id().key(0).compare(g.streams.at(int(b)).id().key(0))
			})
		}
		from = to
	}
	return order
}

// mayHaveGrown says whether the segment may hold more than one event of a stream.
func (g *segment) mayHaveGrown(id nameHash) bool {
	return g.grown[id.hash>>(64-grownBits+6)]>>(id.hash>>(64-grownBits)%64)&1 != 0
}

// byStream returns the segment's events, grouped by stream and in order, and
// where each stream's begin.
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

// mayContain says whether the segment may hold a hash; it does not if it says
// so.
func (g *segment) mayContain(hash uint64) bool {
	t := g.table.Load()
	mask := uint64(len(t.slots) - 1)
	for i := t.home(hash); ; i = (i + 1) & mask {
		slot := atomic.LoadUint64(&t.slots[i])
		if slot == 0 {
			return false
		}
		if slot>>slotIndexBits == hash {
			return true
		}
	}
}

// touch brings the slots where the search for some hashes begins into the
// processor's cache. The sum keeps the compiler from dropping the loads.
func (g *segment) touch(facts []fact) (sum uint64) {
	t := g.table.Load()
	for i := range facts {
		sum += t.slots[t.home(facts[i].hash)]
	}
	return sum
}
