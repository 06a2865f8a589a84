package pebblestore

import "math/bits"

// nameTable finds the places of streams in a list by the hashes of their names: an
// open-addressing table rather than a map, because hundreds of names are looked up in a
// row and the loads of the slots, which do not depend on one another, overlap. Names may
// share what a slot has of a hash; whoever asks compares them.
type nameTable struct {
	// A slot is the upper half of a hash and 1 + a place; 0 is empty. Where the search
	// begins is made of its top bits, so that the table grows without the hashes, by a
	// pass from end to end.
	slots []uint64
	shift uint // 64 less the number of bits that choose a slot
	n     int
}

const minNameSlots = 1 << 6

// touchAhead is how many places in memory are loaded at once before they are used one
// after the other, so that the waits overlap.
const touchAhead = 64

// newNameTable makes room for some names, which are less than 2^31.
func newNameTable(names int) nameTable {
	b := bits.Len(uint(max(minNameSlots, 2*names) - 1))
	return nameTable{slots: make([]uint64, 1<<b), shift: 64 - uint(b)}
}

// touch loads the slot where the search for a hash begins.
func (t *nameTable) touch(hash uint64) uint64 { return t.slots[hash>>t.shift] }

// first returns the place that stands in the very slot where the search for a hash
// begins, or -1. It need not be the one that is looked for.
func (t *nameTable) first(hash uint64) int {
	if slot := t.slots[hash>>t.shift]; slot != 0 && slot>>32 == hash>>32 {
		return int(uint32(slot)) - 1
	}
	return -1
}

// find yields the places under a hash.
func (t *nameTable) find(hash uint64) func(yield func(place int) bool) {
	return func(yield func(place int) bool) {
		mask := uint64(len(t.slots) - 1)
		for i := hash >> t.shift; t.slots[i] != 0; i = (i + 1) & mask {
			if slot := t.slots[i]; slot>>32 == hash>>32 && !yield(int(uint32(slot))-1) {
				return
			}
		}
	}
}

// add adds a place under a hash.
func (t *nameTable) add(hash uint64, place int) {
	if t.n++; 2*t.n > len(t.slots) {
		old := t.slots
		*t = nameTable{slots: make([]uint64, 2*len(old)), shift: t.shift - 1, n: t.n}
		for _, slot := range old {
			if slot != 0 {
				t.put(slot)
			}
		}
	}
	t.put(hash>>32<<32 | uint64(place+1))
}

// put puts a slot into the first free place.
func (t *nameTable) put(slot uint64) {
	mask := uint64(len(t.slots) - 1)
	i := slot >> t.shift
	for t.slots[i] != 0 {
		i = (i + 1) & mask
	}
	t.slots[i] = slot
}
