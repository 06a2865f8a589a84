package customer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"sojourn/domain"
	"sojourn/domain/lifecycle"
)

// The binary form of Facts, version 2: the version; first and last seen as zig-zag
// varints; the numbers of touchpoints and of traits as varints; each trait's key
// and value (a length as a varint and the bytes, nothing for a tombstone), its time
// as a zig-zag varint and 16 bytes of id; a byte that says which of loyalty and
// satisfaction have facts, and of each its length in four bytes and the facts; and
// to the end the lifecycle's facts. That a customer was first seen is a fact of the
// lifecycle and not kept twice.
const factsVersion = 2

// Append appends the binary form of the facts to buf. Equal sets give equal bytes.
func (f *Facts) Append(buf []byte) []byte {
	buf = append(buf, factsVersion)
	buf = binary.AppendVarint(buf, int64(f.FirstSeen))
	buf = binary.AppendVarint(buf, int64(f.LastSeen))
	buf = binary.AppendUvarint(buf, f.Touchpoints)
	buf = binary.AppendUvarint(buf, uint64(len(f.Traits)))
	for _, t := range f.Traits {
		buf = binary.AppendUvarint(buf, uint64(len(t.Key)))
		buf = append(buf, t.Key...)
		buf = binary.AppendUvarint(buf, uint64(len(t.Value)))
		buf = append(buf, t.Value...)
		buf = binary.AppendVarint(buf, int64(t.Ref.At))
		buf = append(buf, t.Ref.ID[:]...)
	}
	parts := Changes(0)
	if !f.Loyalty.JustSeen() {
		parts |= Loyalty
	}
	if !f.Satisfaction.Empty() {
		parts |= Satisfaction
	}
	buf = append(buf, byte(parts))
	if parts&Loyalty != 0 {
		buf = appendPart(buf, f.Loyalty.Append)
	}
	if parts&Satisfaction != 0 {
		buf = appendPart(buf, f.Satisfaction.Append)
	}
	return f.Lifecycle.Append(buf)
}

// appendPart appends what a part appends, with its length before it.
func appendPart(buf []byte, part func([]byte) []byte) []byte {
	start := len(buf)
	buf = part(append(buf, 0, 0, 0, 0))
	binary.BigEndian.PutUint32(buf[start:], uint32(len(buf)-start-4))
	return buf
}

// takePart hands the bytes of a part to its parser and returns what follows.
func takePart(b []byte, parse func([]byte) error) ([]byte, error) {
	if len(b) < 4 {
		return nil, errDamaged
	}
	n := binary.BigEndian.Uint32(b)
	if b = b[4:]; uint64(n) > uint64(len(b)) {
		return nil, errDamaged
	}
	return b[n:], parse(b[:n])
}

var errDamaged = errors.New("customer facts are cut short or damaged")

// minTrait is the least number of bytes of a trait.
const minTrait = 1 + 1 + 1 + 16

// Parse replaces the facts by what Append wrote; they are unchanged if it returns
// an error. It keeps nothing of b.
func (f *Facts) Parse(b []byte) error {
	if len(b) == 0 {
		return errDamaged
	}
	if b[0] != factsVersion {
		return fmt.Errorf("customer facts have version %d, this release reads version %d", b[0], factsVersion)
	}
	b = b[1:]
	var n Facts
	var ok [4]bool
	var first, last int64
	var count uint64
	first, b, ok[0] = varint(b)
	last, b, ok[1] = varint(b)
	n.Touchpoints, b, ok[2] = uvarint(b)
	count, b, ok[3] = uvarint(b)
	if ok != [4]bool{true, true, true, true} || count > uint64(len(b)/minTrait) {
		return errDamaged
	}
	n.FirstSeen, n.LastSeen = domain.Millis(first), domain.Millis(last)
	if count > 0 {
		n.Traits = make([]Trait, count)
	}
	for i := range n.Traits {
		t := &n.Traits[i]
		var key, value []byte
		if key, b, ok[0] = chunk(b); !ok[0] {
			return errDamaged
		}
		if value, b, ok[0] = chunk(b); !ok[0] {
			return errDamaged
		}
		t.Key = string(key)
		if len(value) > 0 {
			t.Value = append([]byte(nil), value...)
		}
		var at int64
		if at, b, ok[0] = varint(b); !ok[0] || len(b) < len(t.Ref.ID) {
			return errDamaged
		}
		t.Ref = lifecycle.Ref{At: domain.Millis(at)}
		b = b[copy(t.Ref.ID[:], b):]
		if i > 0 && strings.Compare(n.Traits[i-1].Key, t.Key) >= 0 {
			return errDamaged
		}
	}
	if len(b) == 0 || Changes(b[0])&^(Loyalty|Satisfaction) != 0 {
		return errDamaged
	}
	parts := Changes(b[0])
	b = b[1:]
	var err error
	if parts&Loyalty != 0 {
		if b, err = takePart(b, n.Loyalty.Parse); err != nil {
			return err
		}
	}
	if parts&Satisfaction != 0 {
		if b, err = takePart(b, n.Satisfaction.Parse); err != nil {
			return err
		}
	}
	if err := n.Lifecycle.Parse(b); err != nil {
		return err
	}
	if first, ok := n.Lifecycle.First(); ok {
		n.Loyalty.See(first)
	}
	*f = n
	return nil
}

func uvarint(b []byte) (uint64, []byte, bool) {
	u, n := binary.Uvarint(b)
	if n <= 0 {
		return 0, nil, false
	}
	return u, b[n:], true
}

func varint(b []byte) (int64, []byte, bool) {
	v, n := binary.Varint(b)
	if n <= 0 {
		return 0, nil, false
	}
	return v, b[n:], true
}

func chunk(b []byte) (c, rest []byte, ok bool) {
	n, b, ok := uvarint(b)
	if !ok || n > uint64(len(b)) {
		return nil, nil, false
	}
	return b[:n], b[n:], true
}
