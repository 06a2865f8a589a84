package projections

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"sojourn/domain"
	"sojourn/domain/customer"
	"sojourn/domain/lifecycle"
	"sojourn/eventstore"
)

// subject is what a projection keeps of one subject: the facts of its own
// touchpoints, and the joins that name it. A customer is computed from its
// subjects, so that joining and parting move no facts.
type subject struct {
	stream string
	id     uuid.UUID
	kind   domain.SubjectKind
	value  string
	// first is the position of its first touchpoint; 0 where it is only named in
	// a join.
	first eventstore.Position
	facts customer.Facts
	// edges are the joins that name an anonymous subject, and owner the stream of
	// the user it belongs to by them, empty where it belongs to nobody.
	edges []edge
	owner string
	// links are the streams of the anonymous subjects that any join names together
	// with this user.
	links []string
	// moved is the customer that the subjects table has for it, Nil where there is
	// no row.
	moved uuid.UUID

	cust   *cust // where cached: the customer it belongs to
	dirty  bool
	stored bool // the state knows its id
}

// edge is a join as its anonymous subject keeps it. Of the joins that name the
// same user in the same way only those are kept that were the earliest when they
// were recorded; no question can tell the difference.
type edge struct {
	customer.Edge
	recordedAt domain.Millis
}

func (s *subject) String() string { return string(s.kind) + ":" + s.value }

// addEdge keeps a join and reports whether it can change anything.
func (s *subject) addEdge(e edge) bool {
	for _, o := range s.edges {
		if o.User == e.User && o.Alias == e.Alias && o.Ref.Compare(e.Ref) <= 0 {
			return false
		}
	}
	s.edges = append(s.edges, e)
	return true
}

// link keeps the stream of an anonymous subject that a join names together with
// this user. The caller marks s as dirty.
func (s *subject) link(stream string) {
	if !slices.Contains(s.links, stream) {
		s.links = append(s.links, stream)
	}
}

const stateVersion = 1

var errState = errors.New("state record is cut short or damaged")

// append encodes the subject for the state.
func (s *subject) append(buf []byte) []byte {
	buf = append(buf, stateVersion)
	buf = appendString(buf, s.value)
	buf = binary.AppendUvarint(buf, uint64(s.first))
	buf = appendString(buf, s.owner)
	buf = append(buf, s.moved[:]...)
	buf = binary.AppendUvarint(buf, uint64(len(s.edges)))
	for _, e := range s.edges {
		buf = binary.AppendVarint(buf, int64(e.Ref.At))
		buf = append(buf, e.Ref.ID[:]...)
		buf = binary.AppendVarint(buf, int64(e.recordedAt))
		alias := byte(0)
		if e.Alias {
			alias = 1
		}
		buf = append(buf, alias)
		buf = appendString(buf, e.User)
	}
	buf = binary.AppendUvarint(buf, uint64(len(s.links)))
	for _, l := range s.links {
		buf = appendString(buf, l)
	}
	return s.facts.Append(buf)
}

// parseSubject reads what append wrote.
func parseSubject(stream string, b []byte) (*subject, error) {
	kind, ok := domain.SubjectStream(stream)
	if !ok {
		return nil, fmt.Errorf("%q is no subject's stream", stream)
	}
	s := &subject{stream: stream, id: domain.SubjectID(stream), kind: kind, stored: true}
	r := reader{b: b}
	if v := r.byte(); v != stateVersion {
		return nil, fmt.Errorf("state record has version %d", v)
	}
	s.value = r.string()
	s.first = eventstore.Position(r.uvarint())
	s.owner = r.string()
	s.moved = r.uuid()
	for n := r.count(); n > 0; n-- {
		var e edge
		e.Ref = lifecycle.Ref{At: domain.Millis(r.varint()), ID: r.uuid()}
		e.recordedAt = domain.Millis(r.varint())
		e.Alias = r.byte() == 1
		e.User = r.string()
		e.Anon = s.value
		s.edges = append(s.edges, e)
	}
	for n := r.count(); n > 0; n-- {
		s.links = append(s.links, r.string())
	}
	if r.bad {
		return nil, errState
	}
	if err := s.facts.Parse(r.b); err != nil {
		return nil, err
	}
	return s, nil
}

func appendString(buf []byte, s string) []byte {
	buf = binary.AppendUvarint(buf, uint64(len(s)))
	return append(buf, s...)
}

// reader reads the parts of a record; bad is set where it ends too early.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.bad, r.b = true, nil
		return nil
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

// count is a number of things that take a byte each at the least.
func (r *reader) count() uint64 {
	n := r.uvarint()
	if n > uint64(len(r.b)) {
		r.bad, r.b = true, nil
		return 0
	}
	return n
}

func (r *reader) string() string { return string(r.take(r.uvarint())) }

func (r *reader) uuid() (id uuid.UUID) {
	copy(id[:], r.take(16))
	return id
}
