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
// touchpoints, the joins that name it, and which customer it belongs to. A
// customer is computed from its subjects, so that joining and parting move no
// facts.
//
// What every touchpoint asks for stands together, next to the facts: the rest is
// seldom in a processor's cache.
type subject struct {
	stream string
	id     uuid.UUID
	kind   domain.SubjectKind
	value  string
	// nobody is set where its value is no identity: it is no customer's.
	nobody bool
	dirty  bool
	stored bool // the state knows its id
	// linked says that there are any ties, grouped that group calls attach it to
	// accounts.
	linked, grouped bool
	// What else is to be written with it.
	tiesDirty, membersDirty, segmentsDirty bool
	// lone is set where it belongs to no customer any more, as it has no touchpoint.
	lone bool
	cust *cust // where cached: the customer it belongs to
	// first is the position of its first touchpoint, 0 where it is only named in
	// messages of others, and firstAt when that was recorded.
	first   eventstore.Position
	firstAt domain.Millis
	facts   customer.Facts
	// kept says that facts has the touchpoints. A fold of part of the customers keeps
	// those of its own, and of members of its accounts; of others it has the commands
	// about points alone.
	kept bool
	// segments are the facts that only segments need, nil where there are none.
	segments *segmentFacts
	// head is the stream of the subject at the head of its customer, empty where
	// that is itself. The head lists the streams of the others: in members, where
	// they are loaded, and always their number.
	head        string
	members     []string
	memberCount int
	// ties are the joins and decisions about it, nil until they are loaded.
	ties *ties
	// accounts are those that group calls attach it to, nil until they are loaded.
	accounts []uuid.UUID
	// moved is the customer that the subjects table has for it, Nil where there is
	// no row, warehouse.Nobody where the row says that it is no customer's.
	moved uuid.UUID
	// been are the customers that it belonged to before, by the order of the log.
	been []uuid.UUID

	cluster *cluster // where cached: the subjects connected with it, solved
	node    int      // in the cluster
}

// ties are what connects a subject with others.
type ties struct {
	// joins are those whose other subject it is; of those of one hub each came
	// after the one before it and is earlier.
	joins []join
	// links are the streams of the subjects that it names.
	links []string
	// decisions are the positions of the merges and splits about it.
	decisions []eventstore.Position

	earliest map[tieKey]int // by hub: of joins
	linked   map[string]bool
}

// join is a message that names the subject beside its own. Of those of one hub
// only those are kept that were the earliest when they were recorded; no question
// can tell the difference.
type join struct {
	ref        lifecycle.Ref
	recordedAt domain.Millis
	hub        string // stream
	index      int    // among those that the message names
	// alias is set where the subject may be the previousId of an alias, and twin is
	// then the stream of the user that the id may be instead.
	alias bool
	twin  string
}

// maxBeen bounds how many customers a subject remembers; of more the last count.
const maxBeen = 1000

// was notes that it belonged to a customer before the one it belongs to now.
func (s *subject) was(id uuid.UUID) {
	if i := slices.Index(s.been, id); i >= 0 {
		s.been = slices.Delete(s.been, i, i+1)
	} else if len(s.been) == maxBeen {
		s.been = slices.Delete(s.been, 0, 1)
	}
	s.been = append(s.been, id)
}

func (s *subject) String() string { return string(s.kind) + ":" + s.value }

// tieKey is what two joins of a subject have in common of which only the earlier
// counts.
type tieKey struct {
	hub   string
	alias bool
}

// find makes joins and links found fast.
func (t *ties) find() {
	if t.earliest != nil {
		return
	}
	t.earliest = make(map[tieKey]int, len(t.joins))
	for i := range t.joins {
		t.earliest[tieKey{t.joins[i].hub, t.joins[i].alias}] = i
	}
	t.linked = make(map[string]bool, len(t.links))
	for _, l := range t.links {
		t.linked[l] = true
	}
}

// news reports whether a join can change anything, and which message said the
// same of a later time, if any.
func (t *ties) news(j *join) (after uuid.UUID, ok bool) {
	t.find()
	i, known := t.earliest[tieKey{j.hub, j.alias}]
	if !known {
		return uuid.Nil, true
	}
	return t.joins[i].ref.ID, j.ref.Compare(t.joins[i].ref) < 0
}

// join keeps a join that is news.
func (t *ties) join(j join) {
	t.find()
	t.earliest[tieKey{j.hub, j.alias}] = len(t.joins)
	t.joins = append(t.joins, j)
}

func (t *ties) link(stream string) {
	t.find()
	if !t.linked[stream] {
		t.linked[stream] = true
		t.links = append(t.links, stream)
	}
}

func (t *ties) append(buf []byte) []byte {
	buf = append(buf, stateVersion)
	buf = binary.AppendUvarint(buf, uint64(len(t.joins)))
	for i := range t.joins {
		j := &t.joins[i]
		buf = binary.AppendVarint(buf, int64(j.ref.At))
		buf = append(buf, j.ref.ID[:]...)
		buf = binary.AppendVarint(buf, int64(j.recordedAt))
		buf = appendString(buf, j.hub)
		buf = binary.AppendUvarint(buf, uint64(j.index))
		alias := byte(0)
		if j.alias {
			alias = 1
		}
		buf = append(buf, alias)
		if j.alias {
			buf = appendString(buf, j.twin)
		}
	}
	buf = appendStrings(buf, t.links)
	buf = binary.AppendUvarint(buf, uint64(len(t.decisions)))
	for _, p := range t.decisions {
		buf = binary.AppendUvarint(buf, uint64(p))
	}
	return buf
}

func parseTies(b []byte) (*ties, error) {
	t := &ties{}
	if b == nil {
		return t, nil
	}
	r := reader{b: b}
	r.version()
	for n := r.count(); n > 0; n-- {
		j := join{
			ref:        lifecycle.Ref{At: domain.Millis(r.varint()), ID: r.uuid()},
			recordedAt: domain.Millis(r.varint()), hub: r.string(), index: int(r.uvarint()), alias: r.byte() == 1,
		}
		if j.alias {
			j.twin = r.string()
		}
		t.joins = append(t.joins, j)
	}
	t.links = r.strings()
	for n := r.count(); n > 0; n-- {
		t.decisions = append(t.decisions, eventstore.Position(r.uvarint()))
	}
	return t, r.done()
}

const stateVersion = 4

var errState = errors.New("state record is cut short or damaged")

// What a subject has records of beside its own.
const (
	hasTies = 1 << iota
	hasAccounts
	hasNoFacts
)

// append encodes the subject for the state, without its ties, members and accounts.
func (s *subject) append(buf []byte) []byte {
	buf = append(buf, stateVersion)
	buf = appendString(buf, s.value)
	buf = binary.AppendUvarint(buf, uint64(s.first))
	buf = binary.AppendVarint(buf, int64(s.firstAt))
	buf = appendString(buf, s.head)
	buf = binary.AppendUvarint(buf, uint64(s.memberCount))
	has := byte(0)
	if s.linked {
		has = hasTies
	}
	if s.grouped {
		has |= hasAccounts
	}
	if !s.kept {
		has |= hasNoFacts
	}
	buf = append(buf, has)
	buf = append(buf, s.moved[:]...)
	buf = binary.AppendUvarint(buf, uint64(len(s.been)))
	for _, id := range s.been {
		buf = append(buf, id[:]...)
	}
	return s.facts.Append(buf)
}

// parseSubject reads what append wrote.
func parseSubject(stream string, b []byte) (*subject, error) {
	s, err := newSubject(stream)
	if err != nil {
		return nil, err
	}
	s.stored = true
	r := reader{b: b}
	r.version()
	s.value = r.string()
	s.first = eventstore.Position(r.uvarint())
	s.firstAt = domain.Millis(r.varint())
	s.head = r.string()
	s.memberCount = int(r.uvarint())
	has := r.byte()
	s.linked, s.grouped, s.kept = has&hasTies != 0, has&hasAccounts != 0, has&hasNoFacts == 0
	s.moved = r.uuid()
	for n := r.count(); n > 0; n-- {
		s.been = append(s.been, r.uuid())
	}
	if r.err != nil {
		return nil, r.err
	}
	if err := s.facts.Parse(r.b); err != nil {
		return nil, err
	}
	return s, nil
}

func newSubject(stream string) (*subject, error) {
	kind, ok := domain.SubjectStream(stream)
	if !ok {
		return nil, fmt.Errorf("%q is no subject's stream", stream)
	}
	return &subject{stream: stream, id: domain.SubjectID(stream), kind: kind}, nil
}

func appendStrings(buf []byte, all []string) []byte {
	buf = binary.AppendUvarint(buf, uint64(len(all)))
	for _, s := range all {
		buf = appendString(buf, s)
	}
	return buf
}

func appendString(buf []byte, s string) []byte {
	buf = binary.AppendUvarint(buf, uint64(len(s)))
	return append(buf, s...)
}

// reader reads the parts of a record; err is set where it ends too early.
type reader struct {
	b   []byte
	err error
}

func (r *reader) cut() {
	if r.err == nil {
		r.err = errState
	}
	r.b = nil
}

// version reads the version of a record.
func (r *reader) version() {
	if v := r.byte(); r.err == nil && v != stateVersion {
		r.err = fmt.Errorf("state record has version %d", v)
	}
}

// done is what was wrong with a record that should end here.
func (r *reader) done() error {
	if r.err == nil && len(r.b) > 0 {
		return errState
	}
	return r.err
}

func (r *reader) take(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.cut()
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
		r.cut()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.cut()
		return 0
	}
	r.b = r.b[n:]
	return v
}

// count is a number of things that take a byte each at the least.
func (r *reader) count() uint64 {
	n := r.uvarint()
	if n > uint64(len(r.b)) {
		r.cut()
		return 0
	}
	return n
}

func (r *reader) string() string { return string(r.take(r.uvarint())) }

func (r *reader) strings() []string {
	var all []string
	for n := r.count(); n > 0; n-- {
		all = append(all, r.string())
	}
	return all
}

func (r *reader) uuid() (id uuid.UUID) {
	copy(id[:], r.take(16))
	return id
}
