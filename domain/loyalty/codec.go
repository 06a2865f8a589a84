package loyalty

import (
	"encoding/binary"
	"errors"
	"fmt"

	"sojourn/domain"
	"sojourn/domain/commerce"
)

// The binary form of Facts, version 1: the version; a byte that says whether a
// touchpoint was seen, and the reference of the first; then four lists, each its
// number of facts and the facts in order, with times as differences from the fact
// before. A reference is the time as a zig-zag varint and 16 bytes of id; a text
// is its length as a varint and its bytes.
//
//   - orders: the reference; a byte (bits 0-1 kind, 2-3 state of the amount, 4 the
//     same currency as the one before, 5 lines follow); the amount where it was
//     read; the order id; the currency where it is another; of a purchase the
//     channel; the number of lines and of each product, category, a byte (bit 0
//     priced), the amount where priced, and the quantity
//   - events: the reference, name, channel, product and category
//   - birthdays: the reference, month and day as a byte each
//   - commands: the reference; a byte each of kind and flags (bit 0 counts for
//     tiers, 1 Of follows, 2 a tier follows); programme, points, Of, the number of
//     parts and of each points and expiry, tier and its end, reason, recorded_at
const factsVersion = 1

const (
	flagSameCurrency = 1 << 4
	flagLines        = 1 << 5
	maxOrderFlags    = 1<<6 - 1

	flagCounts      = 1 << 0
	flagOf          = 1 << 1
	flagTier        = 1 << 2
	maxCommandFlags = 1<<3 - 1
)

// Append appends the binary form of the facts to buf. Equal sets give equal bytes.
func (f *Facts) Append(buf []byte) []byte {
	f.sort()
	buf = append(buf, factsVersion)
	if f.hasSeen {
		buf = appendRef(append(buf, 1), f.seen, 0)
	} else {
		buf = append(buf, 0)
	}
	buf = f.appendOrders(buf)
	var before domain.Millis
	buf = binary.AppendUvarint(buf, uint64(len(f.events)))
	for i := range f.events {
		e := &f.events[i]
		buf = appendRef(buf, e.Ref, before)
		for _, s := range [...]string{e.name, e.channel, e.product, e.category} {
			buf = appendText(buf, s)
		}
		before = e.At
	}
	before = 0
	buf = binary.AppendUvarint(buf, uint64(len(f.birthdays)))
	for i := range f.birthdays {
		b := &f.birthdays[i]
		buf = append(appendRef(buf, b.Ref, before), b.month, b.day)
		before = b.At
	}
	before = 0
	buf = binary.AppendUvarint(buf, uint64(len(f.commands)))
	for i := range f.commands {
		buf = f.commands[i].append(buf, before)
		before = f.commands[i].At
	}
	return buf
}

func (f *Facts) appendOrders(buf []byte) []byte {
	var before domain.Millis
	var currency string
	buf = binary.AppendUvarint(buf, uint64(len(f.orders)))
	for i := range f.orders {
		o := &f.orders[i]
		buf = appendRef(buf, o.Ref, before)
		bits := byte(o.kind) | byte(o.state)<<2
		if o.currency == currency {
			bits |= flagSameCurrency
		}
		if len(o.lines) > 0 {
			bits |= flagLines
		}
		buf = append(buf, bits)
		if o.state == commerce.AmountRead {
			buf = binary.AppendVarint(buf, int64(o.amount))
		}
		buf = appendText(buf, o.id)
		if o.currency != currency {
			buf = appendText(buf, o.currency)
		}
		if o.kind == kindPurchase {
			buf = appendText(buf, o.channel)
		}
		if len(o.lines) > 0 {
			buf = binary.AppendUvarint(buf, uint64(len(o.lines)))
		}
		for k := range o.lines {
			l := &o.lines[k]
			buf = appendText(appendText(buf, l.Product), l.Category)
			if l.Priced {
				buf = binary.AppendVarint(append(buf, 1), int64(l.Amount))
			} else {
				buf = append(buf, 0)
			}
			buf = binary.AppendVarint(buf, int64(l.Quantity))
		}
		before, currency = o.At, o.currency
	}
	return buf
}

func (c *Command) append(buf []byte, before domain.Millis) []byte {
	buf = appendRef(buf, c.Ref, before)
	flags := byte(0)
	if c.CountsForTier {
		flags |= flagCounts
	}
	if c.Of != [16]byte{} {
		flags |= flagOf
	}
	if c.Tier != "" || c.TierUntil != 0 {
		flags |= flagTier
	}
	buf = append(buf, byte(c.Kind), flags)
	buf = binary.AppendVarint(appendText(buf, c.Programme), c.Points)
	if flags&flagOf != 0 {
		buf = append(buf, c.Of[:]...)
	}
	buf = binary.AppendUvarint(buf, uint64(len(c.Parts)))
	for _, p := range c.Parts {
		buf = binary.AppendVarint(binary.AppendVarint(buf, p.Points), int64(p.Expires))
	}
	if flags&flagTier != 0 {
		buf = binary.AppendVarint(appendText(buf, c.Tier), int64(c.TierUntil))
	}
	return binary.AppendVarint(appendText(buf, c.Reason), int64(c.RecordedAt))
}

func appendRef(buf []byte, r Ref, base domain.Millis) []byte {
	buf = binary.AppendVarint(buf, int64(r.At-base))
	return append(buf, r.ID[:]...)
}

func appendText(buf []byte, s string) []byte {
	buf = binary.AppendUvarint(buf, uint64(len(s)))
	return append(buf, s...)
}

var errDamaged = errors.New("loyalty facts are cut short or damaged")

// Parse replaces the facts by what Append wrote; they are unchanged if it returns
// an error. It keeps nothing of b.
func (f *Facts) Parse(b []byte) error {
	if len(b) < 2 {
		return errDamaged
	}
	if b[0] != factsVersion {
		return fmt.Errorf("loyalty facts have version %d, this release reads version %d", b[0], factsVersion)
	}
	r := reader{rest: string(b[1:])}
	var n Facts
	switch r.byte() {
	case 0:
	case 1:
		n.seen, n.hasSeen = r.ref(0), true
	default:
		return errDamaged
	}
	var currency string
	n.orders = readList(&r, 1+16+1+1, func(before domain.Millis) orderFact { return r.order(before, &currency) })
	n.events = readList(&r, 1+16+4, func(before domain.Millis) eventFact {
		return eventFact{r.ref(before), r.text(), r.text(), r.text(), r.text()}
	})
	n.birthdays = readList(&r, 1+16+2, func(before domain.Millis) birthdayFact {
		b := birthdayFact{r.ref(before), r.byte(), r.byte()}
		if (b.month != 0 || b.day != 0) && !validBirthday(int(b.month), int(b.day)) {
			r.fail()
		}
		return b
	})
	n.commands = readList(&r, 1+16+2+1+1+1+1+1, r.command)
	if !placeable(n.seen.At) {
		r.fail()
	}
	touched := len(n.orders)+len(n.events)+len(n.birthdays) > 0
	if r.bad || r.rest != "" || touched && !n.hasSeen {
		return errDamaged
	}
	*f = n
	return nil
}

// readList reads a list whose facts are at least so many bytes long, and fails
// where they are out of order.
func readList[T placed](r *reader, least int, read func(before domain.Millis) T) []T {
	count := r.uvarint()
	if r.bad || count > uint64(len(r.rest)/least) {
		r.fail()
		return nil
	}
	if count == 0 {
		return nil
	}
	list := make([]T, 0, count)
	var before Ref
	for i := range count {
		v := read(before.At)
		if !placeable(v.place().At) {
			r.fail()
		}
		if r.bad || i > 0 && before.Compare(v.place()) >= 0 {
			r.fail()
			return nil
		}
		before = v.place()
		list = append(list, v)
	}
	return list
}

func placeable(t domain.Millis) bool { return t >= domain.MinTime && t <= domain.MaxTime }

func (r *reader) order(before domain.Millis, currency *string) orderFact {
	o := orderFact{Ref: r.ref(before)}
	bits := r.byte()
	o.kind, o.state = orderKind(bits&3), commerce.AmountState(bits>>2&3)
	if bits > maxOrderFlags || o.state > commerce.AmountUnreadable {
		r.fail()
	}
	if o.state == commerce.AmountRead {
		o.amount = domain.Decimal(r.varint())
	}
	o.id = r.text()
	if bits&flagSameCurrency == 0 {
		if *currency == r.peekText() {
			r.fail() // it would be written otherwise
		}
		*currency = r.text()
	}
	o.currency = *currency
	if o.kind == kindPurchase {
		o.channel = r.text()
	}
	if bits&flagLines != 0 {
		n := r.uvarint()
		if n == 0 || n > uint64(len(r.rest)/4) {
			r.fail()
			return o
		}
		o.lines = make([]Line, n)
		for i := range o.lines {
			l := &o.lines[i]
			l.Product, l.Category = r.text(), r.text()
			switch r.byte() {
			case 0:
			case 1:
				l.Priced, l.Amount = true, domain.Decimal(r.varint())
			default:
				r.fail()
			}
			l.Quantity = domain.Decimal(r.varint())
			if !l.Amount.Valid() || !l.Quantity.Valid() || l.Quantity < 0 {
				r.fail()
			}
		}
	}
	if !o.amount.Valid() {
		r.fail()
	}
	return o
}

func (r *reader) command(before domain.Millis) Command {
	c := Command{Ref: r.ref(before)}
	c.Kind = CommandKind(r.byte())
	flags := r.byte()
	if c.Kind < Enroll || c.Kind > Opening || flags > maxCommandFlags {
		r.fail()
	}
	c.CountsForTier = flags&flagCounts != 0
	c.Programme, c.Points = r.text(), r.varint()
	if flags&flagOf != 0 {
		c.Of = r.id()
	}
	n := r.uvarint()
	if n > uint64(len(r.rest)/2) {
		r.fail()
		return c
	}
	if n > 0 {
		c.Parts = make([]Part, n)
	}
	for i := range c.Parts {
		c.Parts[i] = Part{r.varint(), domain.Millis(r.varint())}
		if p := c.Parts[i].Points; p < 0 || p > MaxPoints {
			r.fail()
		}
		if c.Parts[i].Expires != bounded(c.Parts[i].Expires) {
			r.fail()
		}
	}
	if flags&flagTier != 0 {
		c.Tier, c.TierUntil = r.text(), domain.Millis(r.varint())
	}
	c.Reason, c.RecordedAt = r.text(), domain.Millis(r.varint())
	if c.Points < -MaxPoints || c.Points > MaxPoints || c.TierUntil != bounded(c.TierUntil) ||
		flags&flagOf != 0 && c.Of == [16]byte{} || (flags&flagTier != 0) != (c.Tier != "" || c.TierUntil != 0) {
		r.fail()
	}
	return c
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

func (r *reader) text() string {
	n := r.uvarint()
	if n > uint64(len(r.rest)) {
		r.fail()
		return ""
	}
	s := r.rest[:n]
	r.rest = r.rest[n:]
	return s
}

// peekText is the text that stands next.
func (r *reader) peekText() string {
	ahead := *r
	return ahead.text()
}

func (r *reader) id() (id [16]byte) {
	if len(r.rest) < len(id) {
		r.fail()
		return id
	}
	copy(id[:], r.rest)
	r.rest = r.rest[len(id):]
	return id
}

func (r *reader) ref(base domain.Millis) Ref {
	return Ref{At: base + domain.Millis(r.varint()), ID: r.id()}
}
