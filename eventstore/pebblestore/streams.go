package pebblestore

import (
	"hash/maphash"
	"strings"
)

// stream is the head of a stream: what the next append to it needs.
type stream struct {
	hash    uint64
	name    string
	next    uint64 // revision of the next event; 0 where there is no stream
	segment uint32 // number of the last segment that holds events of it
	local   uint32 // its place there
}

// streamTable holds stream heads by name. It is an open-addressing table rather
// than a map because the committer looks hundreds of names up in a row: the
// loads of the slots do not depend on one another and overlap. It belongs to the
// committer's goroutine.
type streamTable struct {
	seed  maphash.Seed
	slots []uint64 // tag (32 bits of the hash) and 1 + index; 0 is empty
	pages []*streamPage
	n     int
}

const streamPageLen = 1 << 10

// streamPage never moves, so that a *stream stays valid while the table grows.
type streamPage [streamPageLen]stream

func newStreamTable() streamTable {
	return streamTable{seed: maphash.MakeSeed(), slots: make([]uint64, 1<<12)}
}

// hash may be called by anybody.
func (t *streamTable) hash(name string) uint64 { return maphash.String(t.seed, name) }

func (t *streamTable) at(i int) *stream { return &t.pages[i/streamPageLen][i%streamPageLen] }

// slot returns the slot where the search for a hash begins.
func (t *streamTable) slot(hash uint64) uint64 { return t.slots[hash&uint64(len(t.slots)-1)] }

// guess returns the stream that stands first under a hash, or nil. Its name is
// still to be compared.
func (t *streamTable) guess(hash uint64) *stream {
	slot := t.slot(hash)
	if slot == 0 || slot>>32 != hash>>32 {
		return nil
	}
	if st := t.at(int(uint32(slot)) - 1); st.hash == hash {
		return st
	}
	return nil
}

func (t *streamTable) get(hash uint64, name string) *stream {
	mask := uint64(len(t.slots) - 1)
	for i := hash & mask; ; i = (i + 1) & mask {
		slot := t.slots[i]
		if slot == 0 {
			return nil
		}
		if slot>>32 == hash>>32 {
			if st := t.at(int(uint32(slot)) - 1); st.hash == hash && st.name == name {
				return st
			}
		}
	}
}

// add adds a stream that is not there. The name is cloned, or else it might
// keep a whole request alive.
func (t *streamTable) add(hash uint64, name string, next uint64) *stream {
	if t.n*2 >= len(t.slots) {
		t.grow(len(t.slots) * 2)
	}
	if t.n == len(t.pages)*streamPageLen {
		t.pages = append(t.pages, new(streamPage))
	}
	st := t.at(t.n)
	*st = stream{hash: hash, name: strings.Clone(name), next: next}
	t.place(hash, t.n)
	t.n++
	return st
}

func (t *streamTable) place(hash uint64, index int) {
	mask := uint64(len(t.slots) - 1)
	i := hash & mask
	for t.slots[i] != 0 {
		i = (i + 1) & mask
	}
	t.slots[i] = hash>>32<<32 | uint64(index+1)
}

func (t *streamTable) grow(slots int) {
	t.slots = make([]uint64, slots)
	for i := range t.n {
		t.place(t.at(i).hash, i)
	}
}

// keep drops the streams that no segment from a number on holds, and remembers
// their revisions. No *stream obtained before stays valid.
func (t *streamTable) keep(segment uint32, r *revisions) {
	r.mu.Lock()
	defer r.mu.Unlock()
	kept := 0
	for i := range t.n {
		st := t.at(i)
		switch {
		case st.segment >= segment:
			*t.at(kept) = *st
			kept++
		case st.next > 0:
			r.set(st.hash, st.name, st.next, true)
		}
	}
	pages := (kept + streamPageLen - 1) / streamPageLen
	clear(t.pages[pages:])
	t.pages = t.pages[:pages]
	for i := kept; i < pages*streamPageLen; i++ {
		*t.at(i) = stream{}
	}
	t.n = kept
	size := len(newStreamTable().slots)
	for size < 2*kept {
		size *= 2
	}
	t.grow(size)
}
