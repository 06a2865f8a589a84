package pebblestore

import (
	"encoding/binary"
	"math/bits"
	"unsafe"

	"github.com/dchest/siphash"
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
func (s *hashSeed) repeatHash(id uuid.UUID, stream nameHash) uint64 {
	return toHashBits(mum(s.idHash(id)^s[1], stream.hash^s[2]))
}

// nameHash stands for the name of a stream in the indexes: 80 bits of SipHash-2-4 (Aumasson
// and Bernstein, SipHash: a fast short-input PRF, 2012) under a key that is drawn with the
// indexes, so that nobody can choose names that collide. In a store of a hundred million
// streams there are two that are taken for one with a probability of one in 10^8; the
// events that are read are compared with the name.
type nameHash struct {
	hash uint64
	tag  uint16
}

func (s *hashSeed) nameHash(stream string) nameHash {
	hash, tag := siphash.Hash128(s[0], s[1], unsafe.Slice(unsafe.StringData(stream), len(stream)))
	return nameHash{hash: hash, tag: uint16(tag)}
}

func (s *hashSeed) fingerprint() uint64 { return mum(s[0]^s[2], s[1]|1) }

func toHashBits(h uint64) uint64 {
	h >>= slotIndexBits
	if h == 0 {
		return 1 // an empty slot is zero
	}
	return h
}
