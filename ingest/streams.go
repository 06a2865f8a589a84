package ingest

import (
	"hash/maphash"
	"strings"
	"sync/atomic"

	"sojourn/domain"
)

// streams remembers the names of the streams of subjects seen lately: a visitor
// sends many messages in a row, and the keyed hash is the dearest thing that
// ingest does to a message. It is a table of fixed size in which a newcomer takes
// the place of whoever stands there; it needs no lock.
type streams struct {
	keyer domain.Keyer
	seed  maphash.Seed
	slots []atomic.Pointer[streamName]
}

type streamName struct {
	subject domain.Subject
	name    string
}

const (
	// streamSlots bounds the table: some 20 MB when it is full.
	streamSlots = 1 << 17
	// maxRemembered is the length of an identifier that is remembered.
	maxRemembered = 64
)

func newStreams(keyer domain.Keyer) *streams {
	return &streams{keyer: keyer, seed: maphash.MakeSeed(), slots: make([]atomic.Pointer[streamName], streamSlots)}
}

// of is the stream of a subject. The subject's value is not kept.
func (s *streams) of(subject domain.Subject) string {
	if len(subject.Value) > maxRemembered {
		return s.keyer.Stream(subject)
	}
	slot := &s.slots[maphash.String(s.seed, subject.Value)%uint64(len(s.slots))]
	if known := slot.Load(); known != nil && known.subject == subject {
		return known.name
	}
	name := s.keyer.Stream(subject)
	subject.Value = strings.Clone(subject.Value)
	slot.Store(&streamName{subject, name})
	return name
}
