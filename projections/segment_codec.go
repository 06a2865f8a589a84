package projections

import (
	"bytes"
	"encoding/binary"
	"strings"

	"sojourn/domain"
	"sojourn/domain/customer"
	"sojourn/domain/lifecycle"
)

// append encodes the facts for the state.
func (f *segmentFacts) append(buf []byte) []byte {
	appendRef := func(ref lifecycle.Ref) {
		buf = binary.AppendVarint(buf, int64(ref.At))
		buf = append(buf, ref.ID[:]...)
	}
	buf = append(buf, stateVersion)
	buf = binary.AppendUvarint(buf, uint64(len(f.touches)))
	for _, list := range f.touches {
		buf = binary.AppendUvarint(buf, uint64(len(list)))
		for _, o := range list {
			appendRef(o.ref)
			if buf = appendString(buf, o.currency); o.currency != "" {
				buf = binary.AppendVarint(buf, int64(o.amount))
			}
		}
	}
	buf = binary.AppendUvarint(buf, uint64(len(f.traits)))
	for _, t := range f.traits {
		appendRef(t.Ref)
		buf = appendString(buf, t.Key)
		buf = append(binary.AppendUvarint(buf, uint64(len(t.Value))), t.Value...)
	}
	buf = binary.AppendUvarint(buf, uint64(len(f.accounts)))
	for _, a := range f.accounts {
		appendRef(a.ref)
		buf = appendString(buf, a.groupID)
	}
	return buf
}

// parse reads what append wrote; lists is the number of those of touchpoints.
func (f *segmentFacts) parse(b []byte, lists int) error {
	r := reader{b: b}
	ref := func() lifecycle.Ref { return lifecycle.Ref{At: domain.Millis(r.varint()), ID: r.uuid()} }
	r.version()
	n := r.count()
	if n != 0 && n != uint64(lists) {
		return errState
	}
	if n > 0 {
		f.touches = make([][]occurrence, n)
	}
	for i := range f.touches {
		list := make([]occurrence, 0, r.count())
		for range cap(list) {
			o := occurrence{ref: ref(), currency: r.string()}
			if o.currency != "" {
				o.amount = domain.Decimal(r.varint())
			}
			list = append(list, o)
		}
		f.touches[i] = list
	}
	for n := r.count(); n > 0; n-- {
		f.traits = append(f.traits, customer.Trait{Ref: ref(), Key: r.string(), Value: bytes.Clone(r.take(r.uvarint()))})
	}
	for n := r.count(); n > 0; n-- {
		f.accounts = append(f.accounts, attached{ref: ref(), groupID: strings.Clone(r.string())})
	}
	return r.done()
}
