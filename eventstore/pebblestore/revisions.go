package pebblestore

import (
	"errors"
	"math"
	"math/bits"
	"sync"

	"sojourn/eventstore"
)

// revisions remembers how many events each stream has, so that the first event
// in a while of one of very many customers costs no search on disk. A stream
// takes 12 bytes and what the table leaves empty: its name is not kept, but 76
// bits of seeded hashes, so that in a store of ten million streams there are two
// that it takes for one with a probability of one in 10^9.
//
// While a segment holds more than one event of a stream, what stands here may be older
// than what the segment says, which is asked, too. Before a segment goes away, all it
// says stands here, if the stream does at all.
type revisions struct {
	limit int // streams

	loaded chan struct{} // closed when what the disk held at the start is here, or will not be

	mu     sync.Mutex
	shards [1 << revisionShardBits]revisionShard
	n      int
	all    bool // all that the disk held at the start is here
	full   bool // something was left out for the limit
}

const revisionShardBits = 12

// revisionShard is an open-addressing table. There are many, because one that
// grows keeps the committer waiting. A slot is a fraction of the length, which
// need not be a power of two: it grows by a quarter when it is four fifths full.
type revisionShard struct {
	slots []revisionSlot
	n     int
}

type revisionSlot struct {
	key  revisionKey
	next uint32 // revision of the stream's next event, 0 in an empty slot
}

// revisionKey is what stands for a name within a shard; place chooses the slot.
type revisionKey struct{ place, tag uint32 }

// newRevisions remembers up to a number of streams.
func newRevisions(limit int) *revisions {
	return &revisions{limit: limit, loaded: make(chan struct{})}
}

// key is the shard and the key of a name.
func (r *revisions) key(h nameHash) (*revisionShard, revisionKey) {
	return &r.shards[h.hash>>(64-revisionShardBits)], revisionKey{
		place: uint32(h.hash >> 8), tag: uint32(h.tag)<<16 | uint32(h.hash>>40)&0xfff<<4 | uint32(h.hash)&0xf,
	}
}

func (g *revisionShard) home(place uint32) int {
	hi, _ := bits.Mul64(uint64(place)<<32, uint64(len(g.slots)))
	return int(hi)
}

// slot returns the slot of a key, or the empty one where it is to stand.
func (g *revisionShard) slot(k revisionKey) *revisionSlot {
	for i := g.home(k.place); ; {
		s := &g.slots[i]
		if s.next == 0 || s.key == k {
			return s
		}
		if i++; i == len(g.slots) {
			i = 0
		}
	}
}

func (g *revisionShard) grow() {
	old := g.slots
	g.slots = make([]revisionSlot, max(8, len(old)+len(old)/4))
	for _, s := range old {
		if s.next != 0 {
			*g.slot(s.key) = s
		}
	}
}

// get returns the revision of a stream's next event, 0 where there is no such
// stream. It does not know where ok is false. The caller holds mu.
func (r *revisions) get(h nameHash) (next uint64, ok bool) {
	g, k := r.key(h)
	if g.n > 0 {
		if s := g.slot(k); s.next != 0 {
			// A number that does not fit stands on disk alone.
			return uint64(s.next), s.next != math.MaxUint32
		}
	}
	return 0, r.all && !r.full
}

// touch brings the slot where the search for a hash begins into the processor's
// cache. The caller holds mu.
func (r *revisions) touch(hash uint64) uint64 {
	g := &r.shards[hash>>(64-revisionShardBits)]
	if g.n == 0 {
		return 0
	}
	return uint64(g.slots[g.home(uint32(hash>>8))].next)
}

// warm brings the slots of some streams into the processors' caches, unless somebody
// else is at work here.
func (r *revisions) warm(names []nameHash) (touched uint64) {
	if !r.mu.TryLock() {
		return 0
	}
	defer r.mu.Unlock()
	for i := range names {
		touched ^= r.touch(names[i].hash)
	}
	return touched
}

// set remembers the revision of a stream's next event, which is not 0, unless it knows
// of a later one. The caller holds mu.
func (r *revisions) set(h nameHash, next uint64) {
	g, k := r.key(h)
	if (g.n+1)*5 > len(g.slots)*4 {
		g.grow()
	}
	s := g.slot(k)
	if s.next == 0 {
		if r.n >= r.limit {
			r.full = true
			return
		}
		r.n++
		g.n++
	}
	*s = revisionSlot{key: k, next: max(s.next, uint32(min(next, math.MaxUint32)))}
}

// learn remembers the streams of a segment that is about to go away. Those with one event
// there have been set when it was added.
func (r *revisions) learn(g *segment) (touched uint64) {
	more := make([]*segmentStream, 0, touchAhead)
	set := func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, st := range more {
			touched ^= r.touch(st.hash)
		}
		for _, st := range more {
			r.set(st.id(), st.next())
		}
		more = more[:0]
	}
	for i := range g.streams.n {
		if st := g.streams.at(i); st.count > 1 {
			if more = append(more, st); len(more) == touchAhead {
				set()
			}
		}
	}
	set()
	return touched
}

// loadRevisions reads the revisions of the streams on disk, while the store
// works already. Those that are asked for meanwhile are searched for.
func (s *Store) loadRevisions() {
	defer close(s.committer.revisions.loaded)
	if err := s.readRevisions(); err != nil && !errors.Is(err, eventstore.ErrClosed) {
		s.log.Warn("stream revisions not loaded, they are looked up one by one", "error", err)
	}
}

func (s *Store) readRevisions() error {
	r := s.committer.revisions
	const batch = 512
	heads := make([]blockHead, 0, batch)
	add := func() (goOn bool) {
		if s.isClosing() || s.failureErr() != nil {
			return false
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		for i := range heads {
			h := &heads[i]
			r.set(nameHash{hash: h.key.hash, tag: h.key.tag}, h.end())
		}
		heads = heads[:0]
		return !r.full
	}
	// A stream's last revision is learned first, or else an earlier one would be taken for
	// it: the newest runs come first, and of a stream's blocks in a run the last alone.
	read := func(f *runFile) (goOn bool, err error) {
		var h blockHead
		for c := newRunCursor(f); ; {
			ok, err := c.next()
			if err != nil {
				return false, err
			}
			before := h
			if ok {
				h, _ = readBlockHead(c.record)
			}
			if before.count > 0 && (!ok || !h.key.is(nameHash{hash: before.key.hash, tag: before.key.tag})) {
				heads = append(heads, before)
			}
			if !ok || len(heads) == batch {
				if goOn := add(); !goOn || !ok {
					return goOn, nil
				}
			}
		}
	}
	for runs := s.index.Load().runs[streamRuns]; len(runs) > 0; {
		goOn, err := read(runs[len(runs)-1])
		if errors.Is(err, errRunRetired) {
			// What was read stands already, and is read again.
			runs, heads = s.index.Load().runs[streamRuns], heads[:0]
			continue
		}
		if err != nil || !goOn {
			return err
		}
		runs = runs[:len(runs)-1]
	}
	if add() {
		r.mu.Lock()
		r.all = true
		r.mu.Unlock()
	}
	return nil
}
