package lifecycle

import (
	"encoding/binary"
	"errors"
	"fmt"

	"sojourn/domain"
	"sojourn/domain/commerce"
)

// The binary form of Facts, version 1: the version; a byte of flags (bits 0-2 say
// which of visitor, lead and qualified are set, bits 3-4 why the lead is one); for
// each that is set its reference and its name; the number of facts about orders;
// and for each of them, in order, its reference with the time as the difference
// from the one before, a byte (bits 0-1 kind, 2-3 state of the amount, 4 the same
// currency as the one before), the amount where it was read, the order id, and the
// currency where it is another. A reference is the time as a zig-zag varint and 16
// bytes of id; a string is its length as a varint and its bytes.
const factsVersion = 1

const (
	flagSameCurrency = 1 << 4
	maxOrderFlags    = 1<<5 - 1
)

// Append appends the binary form of the facts to buf. Equal sets give equal bytes.
func (f *Facts) Append(buf []byte) []byte {
	f.sort()
	flags := byte(f.lead.why) << 3
	marks := [...]*milestone{&f.visitor, &f.lead, &f.qualified}
	for i, m := range marks {
		if m.set {
			flags |= 1 << i
		}
	}
	buf = append(buf, factsVersion, flags)
	for _, m := range marks {
		if m.set {
			buf = appendRef(buf, m.ref, 0)
			buf = appendString(buf, m.name)
		}
	}
	buf = binary.AppendUvarint(buf, uint64(len(f.orders)))
	var before domain.Millis
	var currency string
	for i := range f.orders {
		o := &f.orders[i]
		buf = appendRef(buf, o.ref, before)
		bits := byte(o.kind) | byte(o.state)<<2
		if o.currency == currency {
			bits |= flagSameCurrency
		}
		buf = append(buf, bits)
		if o.state == commerce.AmountRead {
			buf = binary.AppendVarint(buf, int64(o.amount))
		}
		buf = appendString(buf, o.id)
		if o.currency != currency {
			buf = appendString(buf, o.currency)
		}
		before, currency = o.ref.At, o.currency
	}
	return buf
}

func appendRef(buf []byte, r Ref, base domain.Millis) []byte {
	buf = binary.AppendVarint(buf, int64(r.At-base))
	return append(buf, r.ID[:]...)
}

func appendString(buf []byte, s string) []byte {
	buf = binary.AppendUvarint(buf, uint64(len(s)))
	return append(buf, s...)
}

var errDamaged = errors.New("lifecycle facts are cut short or damaged")

// minOrder is the least number of bytes of a fact about an order.
const minOrder = 1 + 16 + 1 + 1

// Parse replaces the facts by what Append wrote; they are unchanged if it returns
// an error. It keeps nothing of b.
func (f *Facts) Parse(b []byte) error {
	if len(b) < 3 {
		return errDamaged
	}
	if b[0] != factsVersion {
		return fmt.Errorf("lifecycle facts have version %d, this release reads version %d", b[0], factsVersion)
	}
	flags := b[1]
	r := reader{rest: string(b[2:])}
	var n Facts
	if flags>>5 != 0 || why(flags>>3) > whyUser || flags&1 == 0 && flags != 0 {
		return errDamaged
	}
	for i, m := range [...]*milestone{&n.visitor, &n.lead, &n.qualified} {
		if flags&(1<<i) != 0 {
			*m = milestone{ref: r.ref(0), set: true, name: r.string()}
		}
	}
	if n.lead.set {
		n.lead.why = why(flags >> 3)
	} else if flags>>3 != 0 {
		return errDamaged
	}
	count := r.uvarint()
	if r.bad || count > uint64(len(r.rest)/minOrder) || count > 0 && !n.visitor.set {
		return errDamaged
	}
	if count > 0 {
		n.orders = make([]orderFact, count)
	}
	var before domain.Millis
	var currency string
	for i := range n.orders {
		o := &n.orders[i]
		o.ref = r.ref(before)
		bits := r.byte()
		o.kind, o.state = orderKind(bits&3), commerce.AmountState(bits>>2&3)
		if bits > maxOrderFlags || o.state > commerce.AmountUnreadable {
			return errDamaged
		}
		if o.state == commerce.AmountRead {
			o.amount = domain.Decimal(r.varint())
		}
		o.id = r.string()
		if bits&flagSameCurrency == 0 {
			currency = r.string()
		}
		o.currency = currency
		if r.bad || !o.amount.Valid() || i > 0 && n.orders[i-1].ref.Compare(o.ref) > 0 {
			return errDamaged
		}
		before = o.ref.At
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

func (r *reader) fail() { r.bad, r.rest = true, "" }

func (r *reader) byte() byte {
	if r.rest == "" {
		r.fail()
		return 0
	}
	b := r.rest[0]
	r.rest = r.rest[1:]
	return b
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
	r.fail()
	return 0
}

func (r *reader) varint() int64 {
	u := r.uvarint()
	return int64(u>>1) ^ -int64(u&1)
}

func (r *reader) string() string {
	n := r.uvarint()
	if n > uint64(len(r.rest)) {
		r.fail()
		return ""
	}
	s := r.rest[:n]
	r.rest = r.rest[n:]
	return s
}

func (r *reader) ref(base domain.Millis) Ref {
	ref := Ref{At: base + domain.Millis(r.varint())}
	if len(r.rest) < len(ref.ID) {
		r.fail()
		return Ref{}
	}
	copy(ref.ID[:], r.rest)
	r.rest = r.rest[len(ref.ID):]
	return ref
}
