package satisfaction

import (
	"encoding/binary"
	"errors"
	"fmt"

	"sojourn/domain"
	"sojourn/domain/policy"
)

// The binary form of Facts, version 1: the version; the number of facts; and for
// each of them, in order, its time as the difference from the one before, 16 bytes
// of id, the act, a byte (bits 0-2 kind, 3-4 state of the score, 5 whether there is
// a scale), a byte (bits 0-1 by whom, 2-3 who is waited for), the id and the word.
// Then the score where it was read and the ends of the scale where there is one. A
// time is a zig-zag varint, and so are score and ends; a string is its length as a
// varint and its bytes.
const factsVersion = 1

const flagScale = 1 << 5

// Append appends the binary form of the facts to buf. Equal sets give equal bytes.
func (f *Facts) Append(buf []byte) []byte {
	f.sort()
	buf = append(buf, factsVersion)
	buf = binary.AppendUvarint(buf, uint64(len(f.list)))
	var before domain.Millis
	for i := range f.list {
		n := &f.list[i]
		buf = binary.AppendVarint(buf, int64(n.ref.At-before))
		before = n.ref.At
		buf = append(buf, n.ref.ID[:]...)
		bits := byte(n.kind) | byte(n.state)<<3
		if n.scale != (Scale{}) {
			bits |= flagScale
		}
		buf = append(buf, byte(n.act), bits, byte(n.by)|byte(n.wait)<<2)
		buf = appendString(buf, n.id)
		buf = appendString(buf, n.word)
		if n.state == ScoreRead {
			buf = binary.AppendVarint(buf, int64(n.score))
		}
		if n.scale != (Scale{}) {
			buf = binary.AppendVarint(buf, int64(n.scale.Low))
			buf = binary.AppendVarint(buf, int64(n.scale.High))
		}
	}
	return buf
}

func appendString(buf []byte, s string) []byte {
	buf = binary.AppendUvarint(buf, uint64(len(s)))
	return append(buf, s...)
}

var errDamaged = errors.New("satisfaction facts are cut short or damaged")

// minFact is the least number of bytes of a fact.
const minFact = 1 + 16 + 3 + 2

// Parse replaces the facts by what Append wrote; they are unchanged if it returns
// an error. It keeps nothing of b.
func (f *Facts) Parse(b []byte) error {
	if len(b) == 0 {
		return errDamaged
	}
	if b[0] != factsVersion {
		return fmt.Errorf("satisfaction facts have version %d, this release reads version %d", b[0], factsVersion)
	}
	r := reader{rest: string(b[1:])}
	count := r.uvarint()
	if r.bad || count > uint64(len(r.rest)/minFact) {
		return errDamaged
	}
	var n Facts
	if count > 0 {
		n.list = make([]fact, count)
	}
	var before Ref
	responded := map[string]bool{}
	for i := range n.list {
		x := &n.list[i]
		x.ref.At = before.At + domain.Millis(r.varint())
		copy(x.ref.ID[:], r.take(len(x.ref.ID)))
		a, bits, who := r.byte(), r.byte(), r.byte()
		x.act, x.kind, x.state = act(a), Kind(bits&7), ScoreState(bits>>3&3)
		x.by, x.wait = By(who&3), By(who>>2)
		x.id, x.word = r.string(), r.string()
		if x.state == ScoreRead {
			x.score = domain.Decimal(r.varint())
		}
		if bits&flagScale != 0 {
			low, high := r.varint(), r.varint()
			if x.scale = (Scale{int(low), int(high)}); x.scale == (Scale{}) || low < 0 || high < 0 || low > policy.MaxScale || high > policy.MaxScale {
				return errDamaged
			}
		}
		if r.bad || x.act >= acts || x.kind >= kinds || bits > flagScale<<1-1 || x.state > ScoreUnreadable ||
			x.by > ByCustomer || x.wait > ByCustomer || !x.score.Valid() || len(x.word) > maxWord && x.act > answered ||
			x.ref.At < domain.MinTime || x.ref.At > domain.MaxTime || i > 0 && before.Compare(x.ref) >= 0 ||
			x.act == chatMessageReceived && responded[x.id] {
			return errDamaged
		}
		if x.act == chatMessageReceived && x.id != "" {
			responded[x.id] = true
		}
		before = x.ref
	}
	if r.bad || r.rest != "" {
		return errDamaged
	}
	*f = n
	return nil
}

// reader takes values off the front of rest; after the first that is not there it
// is bad and gives zero values.
type reader struct {
	rest string
	bad  bool
}

func (r *reader) take(n int) string {
	if n > len(r.rest) {
		r.bad, r.rest = true, ""
		return ""
	}
	s := r.rest[:n]
	r.rest = r.rest[n:]
	return s
}

func (r *reader) byte() byte {
	if s := r.take(1); s != "" {
		return s[0]
	}
	return 0
}

func (r *reader) uvarint() uint64 {
	var x uint64
	for i := 0; i < len(r.rest) && i < binary.MaxVarintLen64; i++ {
		b := r.rest[i]
		x |= uint64(b&0x7f) << (7 * i)
		if b < 0x80 {
			r.rest = r.rest[i+1:]
			return x
		}
	}
	r.bad, r.rest = true, ""
	return 0
}

func (r *reader) varint() int64 {
	u := r.uvarint()
	return int64(u>>1) ^ -int64(u&1)
}

func (r *reader) string() string {
	n := r.uvarint()
	if n > uint64(len(r.rest)) {
		r.bad, r.rest = true, ""
		return ""
	}
	return r.take(int(n))
}
