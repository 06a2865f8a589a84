package pebblestore

import (
	"encoding/binary"
	"math/bits"

	"github.com/cespare/xxhash/v2"
	"github.com/google/uuid"
)

// Event ids are indexed by a seeded hash of 44 bits: the seed is drawn when the
// store is made, so that nobody can choose ids that collide. An index answers
// with candidates only; the id itself is always compared.
const (
	slotIndexBits = 20
	hashBits      = 64 - slotIndexBits
)

type hashSeed [3]uint64

func mum(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

// idHash is the hash under which the first event of an id is indexed.
func (s *hashSeed) idHash(id uuid.UUID) uint64 {
	a := binary.LittleEndian.Uint64(id[:8]) ^ s[0]
	b := binary.LittleEndian.Uint64(id[8:]) ^ s[1]
	return toHashBits(mum(mum(a, b)^s[2], a+0x9e3779b97f4a7c15))
}

// repeatHash is the hash under which the repeat of an id in another stream is
// indexed. The first event of an id stands under idHash alone, so that an id
// which is repeated in many streams never makes a long chain.
func (s *hashSeed) repeatHash(id uuid.UUID, stream string) uint64 {
	return toHashBits(mum(s.idHash(id)^s[1], xxhash.Sum64String(stream)^s[2]))
}

func toHashBits(h uint64) uint64 {
	h >>= slotIndexBits
	if h == 0 {
		return 1 // an empty slot is zero
	}
	return h
}
