package projections

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/cespare/xxhash/v2"
	"github.com/google/uuid"

	"sojourn/domain"
	"sojourn/domain/customer"
	"sojourn/domain/lifecycle"
	"sojourn/domain/loyalty"
)

// cust is a customer as the fold has it: its subjects, all changes of its stage,
// and what the tables and the log hold of them.
type cust struct {
	id      uuid.UUID
	changed bool // in the fold's list of customers to flush
	unsaid  bool // in the fold's list of those of whom there may be something to say
	pending int  // touchpoints in its lane
	// due says which of points and satisfaction are to be computed at the flush.
	due customer.Changes
	// merged are the facts of all its subjects, once they have been asked for, where
	// there are many.
	merged *customer.Facts
	// root is the stream of the subject that the others belong to. members is
	// empty for a customer that is no more: its subjects have moved.
	root    string
	members []*subject
	// foreign is a customer that another shard holds: only who its subjects are is
	// kept here.
	foreign bool

	// all are the changes of stage to the end of time, as if nothing more
	// happened; the first n stand at the clock. news says of each of those n that
	// is not said yet whether it changed where the customer stood when it was
	// found.
	all  []lifecycle.Transition
	n    int
	news []bool

	// rows are the hashes of the rows in stage_transitions by seq, hasRow says
	// that customers has a row.
	rows   []uint64
	hasRow bool
	// said is what the customer's stream of statements holds.
	said said

	// nextLoyalty and nextStatus are the instants at which time alone may change
	// them, 0 where none does.
	nextLoyalty, nextStatus, nextSegment domain.Millis
	// shown is what the tables have of them, nil until it is looked for. packed is
	// its record, part of the customer's; apart says that it is too long for that and
	// has a key of its own.
	shown  *shown
	packed []byte
	apart  bool
	// Of a fold that makes statements: base are the facts as they were before the
	// steps of this batch, nil where there were none, and lines what stood once all
	// steps up to a change of the customer's subjects were judged, nil where none of
	// them has been.
	base  *basis
	steps []taken
	lines []line
	// flushed are the lines of a flush under way.
	flushed []line
	// deadline is the instant under which the customer stands in the index of
	// deadlines, 0 where it does not.
	deadline domain.Millis
	// course is kept of customers with many orders, so that one more costs little.
	course *lifecycle.Course
}

// statementRef is a statement that stands: its revision in the customer's stream
// of statements and the hash of the transition it stated.
type statementRef struct {
	revision uint64
	hash     uint64
}

// transitionHash identifies the content of a transition.
func transitionHash(t *lifecycle.Transition) uint64 {
	var scratch [160]byte
	b := append(scratch[:0], t.From...)
	b = append(b, 0)
	b = append(b, t.To...)
	b = append(b, 0)
	b = binary.BigEndian.AppendUint64(b, uint64(t.At))
	b = append(b, t.Cause.Rule...)
	b = append(b, 0)
	b = append(b, t.Cause.Touchpoint[:]...)
	b = append(b, t.Reason...)
	return xxhash.Sum64(b)
}

// facts are those of all its subjects. Where there is but one they are shared.
func (c *cust) facts() *customer.Facts {
	if len(c.members) == 1 {
		return &c.members[0].facts
	}
	if c.merged != nil {
		return c.merged
	}
	f := &customer.Facts{}
	for _, m := range c.members {
		f.Merge(&m.facts)
	}
	if len(c.members) > growFrom {
		c.merged = f
	}
	return f
}

// take adds a touchpoint to the facts of one of the customer's subjects. It reports
// what may have changed.
func (c *cust) take(s *subject, t *customer.Touch, book *loyalty.Rulebook) customer.Changes {
	if c.merged != nil {
		c.merged.Add(t, book)
	}
	return s.facts.Add(t, book)
}

// leave takes its subjects from a customer; it may get others.
func (c *cust) leave() {
	c.members, c.root, c.merged, c.course = nil, "", nil, nil
	c.base, c.steps = nil, nil
}

// saysWhatStands reports whether the statements that stand are the transitions
// that do.
func (c *cust) saysWhatStands() bool {
	return c.said.says(aboutStage, c.n, func(i int) uint64 { return transitionHash(&c.all[i]) })
}

// advance lets the time come: what is due by t stands, and was found because the
// clock came, so it is news.
func (c *cust) advance(t domain.Millis) {
	for c.n < len(c.all) && c.all[c.n].At <= t {
		c.news = append(c.news, true)
		c.n++
	}
}

// replace puts other transitions in place of those the customer had. What stands
// already keeps its mark; of what is new, only the last can have changed where
// the customer stands now, and has, where the stage is another than before and
// not a person's decision has found it.
func (c *cust) replace(all []lifecycle.Transition, now domain.Millis, decided bool) {
	n := due(all, now)
	moved := !decided && stageOf(all[:n]) != stageOf(c.all[:c.n])
	c.news = remark(c.all[:c.n], c.news, all[:n], moved)
	c.all, c.n = all, n
}

// remark are the marks of a list of changes that takes the place of another. What
// stood already keeps its mark; of what is new only the last gets one, where moved
// says that it changed where the customer stands.
func remark[T comparable](was []T, news []bool, is []T, moved bool) []bool {
	same := 0
	for same < len(is) && same < len(was) && is[same] == was[same] {
		same++
	}
	marks := append(make([]bool, 0, len(is)), news[:same]...)
	for i := same; i < len(is); i++ {
		mark := moved && i == len(is)-1
		for j := same; j < len(was); j++ {
			if is[i] == was[j] {
				mark = news[j]
				break
			}
		}
		marks = append(marks, mark)
	}
	return marks
}

// due counts the transitions that stand at t.
func due(all []lifecycle.Transition, t domain.Millis) int {
	n := 0
	for n < len(all) && all[n].At <= t {
		n++
	}
	return n
}

func stageOf(past []lifecycle.Transition) lifecycle.Stage {
	if len(past) == 0 {
		return ""
	}
	return past[len(past)-1].To
}

// append encodes the customer for the state; the transitions are computed anew.
func (c *cust) append(buf []byte) []byte {
	buf = append(buf, stateVersion)
	root := ""
	if len(c.members) > 0 {
		root = c.root
	}
	buf = appendString(buf, root)
	row := byte(0)
	if c.hasRow {
		row = 1
	}
	if c.apart {
		row |= 2
	}
	buf = append(buf, row)
	for _, at := range [...]domain.Millis{c.deadline, c.nextLoyalty, c.nextStatus, c.nextSegment} {
		buf = binary.AppendVarint(buf, int64(at))
	}
	buf = binary.AppendUvarint(buf, c.said.next)
	buf = binary.AppendUvarint(buf, uint64(len(c.rows)))
	for _, h := range c.rows {
		buf = binary.BigEndian.AppendUint64(buf, h)
	}
	for _, standing := range c.said.standing {
		buf = binary.AppendUvarint(buf, uint64(len(standing)))
		for _, s := range standing {
			buf = binary.AppendUvarint(buf, s.revision)
			buf = binary.BigEndian.AppendUint64(buf, s.hash)
		}
	}
	buf = binary.AppendUvarint(buf, uint64(len(c.packed)))
	return append(buf, c.packed...)
}

// parse reads what append wrote; the members are left to the fold.
func (c *cust) parse(b []byte) error {
	r := reader{b: b}
	r.version()
	c.root = r.string()
	row := r.byte()
	c.hasRow, c.apart = row&1 != 0, row&2 != 0
	c.deadline = domain.Millis(r.varint())
	c.nextLoyalty, c.nextStatus, c.nextSegment = domain.Millis(r.varint()), domain.Millis(r.varint()), domain.Millis(r.varint())
	c.said.next = r.uvarint()
	for n := r.count(); n > 0; n-- {
		c.rows = append(c.rows, r.hash())
	}
	for i := range c.said.standing {
		for n := r.count(); n > 0; n-- {
			c.said.standing[i] = append(c.said.standing[i], statementRef{r.uvarint(), r.hash()})
		}
	}
	if packed := r.take(r.uvarint()); len(packed) > 0 {
		c.packed = bytes.Clone(packed)
	}
	return r.done()
}

func (r *reader) hash() uint64 {
	if b := r.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// saying is what stands of a customer in words.
func saying(all []lifecycle.Transition, lines []line) string {
	var b strings.Builder
	for i, t := range all {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s at %s (%s)", t.To, t.At, t.Cause)
	}
	for i := range lines {
		for j := range lines[i].all {
			t := &lines[i].all[j]
			fmt.Fprintf(&b, "; %s %s at %s (%s)", cmp.Or(lines[i].programme, "satisfaction"), t.to, t.at, t.cause())
		}
	}
	return b.String()
}
