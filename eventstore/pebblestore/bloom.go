package pebblestore

import "math/bits"

// bloomFilter is a blocked Bloom filter: eight bits of one 64-byte block, one
// in each word, so that a look-up touches one cache line. With 12 bits a key
// about one unknown key in 150 passes (Putze, Sanders, Singler: Cache-, Hash-
// and Space-Efficient Bloom Filters, 2007).
type bloomFilter []uint64

const (
	bloomBitsPerKey = 12
	bloomBlockWords = 8
)

func newBloomFilter(keys int) bloomFilter {
	blocks := max(1, (keys*bloomBitsPerKey+511)/512)
	return make(bloomFilter, blocks*bloomBlockWords)
}

// block is the block of a hash of hashBits bits, and what chooses the bits in it. Blocks
// are in the order of the hashes: whoever adds them in order goes through memory once.
func (f bloomFilter) block(hash uint64) (words *[bloomBlockWords]uint64, bitsOf uint64) {
	hi, _ := bits.Mul64(hash<<(64-hashBits), uint64(len(f)/bloomBlockWords))
	at := int(hi) * bloomBlockWords
	x := hash * 0x9e3779b97f4a7c15
	return (*[bloomBlockWords]uint64)(f[at : at+bloomBlockWords]), (x ^ x>>29) * 0xbf58476d1ce4e5b9
}

func (f bloomFilter) add(hash uint64) {
	words, x := f.block(hash)
	for i := range words {
		words[i] |= 1 << (x >> 58)
		x <<= 6
	}
}

func (f bloomFilter) mayContain(hash uint64) bool {
	words, x := f.block(hash)
	all := uint64(1)
	for i := range words {
		all &= words[i] >> (x >> 58)
		x <<= 6
	}
	return all&1 != 0
}
