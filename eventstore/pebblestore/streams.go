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

// touchAhead is how many places in memory are loaded at once before they are used one
// after the other, so that the waits overlap.
const touchAhead = 64

// streamTable holds stream heads by name. It belongs to the committer's goroutine.
type streamTable struct {
	seed  maphash.Seed
	names nameTable
	pages[stream]
}

// keptNames is how many names a streamTable has room for at least.
const keptNames = 1 << 11

func newStreamTable() streamTable {
	return streamTable{seed: maphash.MakeSeed(), names: newNameTable(keptNames)}
}

// hash may be called by anybody.
func (t *streamTable) hash(name string) uint64 { return maphash.String(t.seed, name) }

// guess returns the stream that stands first under a hash, or nil. Its name is
// still to be compared.
func (t *streamTable) guess(hash uint64) *stream {
	if i := t.names.first(hash); i >= 0 {
		if st := t.at(i); st.hash == hash {
			return st
		}
	}
	return nil
}

func (t *streamTable) get(hash uint64, name string) *stream {
	for i := range t.names.find(hash) {
		if st := t.at(i); st.hash == hash && st.name == name {
			return st
		}
	}
	return nil
}

// add adds a stream that is not there. The name is cloned, or else it might
// keep a whole request alive.
func (t *streamTable) add(hash uint64, name string, next uint64) *stream {
	t.names.add(hash, t.n)
	return t.pages.add(stream{hash: hash, name: strings.Clone(name), next: next})
}

// keep drops the streams that no segment from a number on holds, and remembers
// their revisions. No *stream obtained before stays valid. The result means nothing,
// but keeps the compiler from dropping loads.
func (t *streamTable) keep(segment uint32, r *revisions) (touched uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	kept := 0
	for from := 0; from < t.n; from += touchAhead {
		to := min(from+touchAhead, t.n)
		for i := from; i < to; i++ {
			if st := t.at(i); st.segment < segment {
				touched ^= r.touch(st.hash)
			}
		}
		for i := from; i < to; i++ {
			st := t.at(i)
			switch {
			case st.segment >= segment:
				*t.at(kept) = *st
				kept++
			case st.next > 0:
				r.set(nameHash{st.hash, r.tag(st.name)}, st.next, true)
			}
		}
	}
	t.cut(kept)
	t.names = newNameTable(max(keptNames, kept))
	for from := 0; from < t.n; from += touchAhead {
		to := min(from+touchAhead, t.n)
		for i := from; i < to; i++ {
			touched ^= t.names.touch(t.at(i).hash)
		}
		for i := from; i < to; i++ {
			t.names.add(t.at(i).hash, i)
		}
	}
	return touched
}
