package warehouse

import (
	"unsafe"

	"github.com/google/uuid"
)

// MaxRowsPerInsert is how many rows one INSERT carries at most; longer writes
// are split. From about 10,000 rows on, fsync and the round trip cost nothing.
const MaxRowsPerInsert = 50_000

// TouchpointBlock collects touchpoint rows column by column for one INSERT. The
// zero value is empty and ready; Reset makes it ready for reuse and keeps its
// memory. It is not safe for concurrent use.
type TouchpointBlock struct {
	eventID, subjectID                 []uuid.UUID
	subjectNo, position                []uint64
	subject, userID, anonID, orderID   packed
	source, typ, name, meaning         words
	channel, currency, flags           words
	occurredAt, receivedAt, recordedAt []int64
	amount                             []int64
	hasAmount                          []bool
	properties, context                packed
}

// Append copies a row into the block: nothing of t is kept, so its strings and
// byte slices may be reused at once.
func (b *TouchpointBlock) Append(t *Touchpoint) {
	b.eventID = append(b.eventID, t.EventID)
	b.subjectID = append(b.subjectID, t.SubjectID)
	b.subjectNo = append(b.subjectNo, SubjectNo(t.SubjectID))
	b.position = append(b.position, t.Position)
	b.subject.add(t.Subject)
	b.userID.add(t.UserID)
	b.anonID.add(t.AnonymousID)
	b.orderID.add(t.OrderID)
	b.source.add(t.Source)
	b.typ.add(t.Type)
	b.name.add(t.Name)
	b.meaning.add(t.Meaning)
	b.channel.add(t.Channel)
	b.currency.add(t.Currency)
	b.flags.add(t.Flags)
	b.occurredAt = append(b.occurredAt, t.OccurredAt)
	b.receivedAt = append(b.receivedAt, t.ReceivedAt)
	b.recordedAt = append(b.recordedAt, t.RecordedAt)
	b.amount = append(b.amount, t.Amount)
	b.hasAmount = append(b.hasAmount, t.HasAmount)
	b.properties.addBytes(t.Properties)
	b.context.addBytes(t.Context)
}

// Len is the number of rows in the block.
func (b *TouchpointBlock) Len() int { return len(b.eventID) }

// Bytes is about how much memory the rows take, for callers that flush by size.
func (b *TouchpointBlock) Bytes() int {
	return len(b.eventID)*120 + len(b.subject.buf) + len(b.userID.buf) + len(b.anonID.buf) +
		len(b.orderID.buf) + len(b.properties.buf) + len(b.context.buf)
}

// Reset empties the block and keeps its memory.
func (b *TouchpointBlock) Reset() {
	b.eventID, b.subjectID = b.eventID[:0], b.subjectID[:0]
	b.subjectNo, b.position = b.subjectNo[:0], b.position[:0]
	for _, s := range []*packed{&b.subject, &b.userID, &b.anonID, &b.orderID, &b.properties, &b.context} {
		s.reset()
	}
	for _, w := range []*words{&b.source, &b.typ, &b.name, &b.meaning, &b.channel, &b.currency, &b.flags} {
		w.rows = w.rows[:0]
	}
	b.occurredAt, b.receivedAt, b.recordedAt = b.occurredAt[:0], b.receivedAt[:0], b.recordedAt[:0]
	b.amount, b.hasAmount = b.amount[:0], b.hasAmount[:0]
}

// packed is a column of strings in one buffer.
type packed struct {
	buf []byte
	end []int
}

func (s *packed) add(v string) {
	s.buf = append(s.buf, v...)
	s.end = append(s.end, len(s.buf))
}

func (s *packed) addBytes(v []byte) {
	s.buf = append(s.buf, v...)
	s.end = append(s.end, len(s.buf))
}

func (s *packed) reset() { s.buf, s.end = s.buf[:0], s.end[:0] }

// slice appends rows [from, to) to dst without copying their bytes; they stay
// valid until the next add or reset.
func (s *packed) slice(dst []string, from, to int) []string {
	start := 0
	if from > 0 {
		start = s.end[from-1]
	}
	for _, end := range s.end[from:to] {
		dst = append(dst, unsafe.String(unsafe.SliceData(s.buf[start:end]), end-start))
		start = end
	}
	return dst
}

// words is a column of few different strings, kept once each.
type words struct {
	rows []string
	seen map[string]string
}

// maxWords bounds the memory for words that are not so few after all.
const maxWords = 10_000

func (w *words) add(v string) {
	known, ok := w.seen[v]
	if !ok {
		if w.seen == nil || len(w.seen) >= maxWords {
			w.seen = make(map[string]string)
		}
		known = string(append([]byte(nil), v...))
		w.seen[known] = known
	}
	w.rows = append(w.rows, known)
}

// Row is row i of the block. Its strings and bytes are valid until the next
// Append or Reset.
func (b *TouchpointBlock) Row(i int) Touchpoint {
	text := func(p *packed) string { return p.slice(nil, i, i+1)[0] }
	return Touchpoint{
		EventID: b.eventID[i], SubjectID: b.subjectID[i], Subject: text(&b.subject),
		UserID: text(&b.userID), AnonymousID: text(&b.anonID), Source: b.source.rows[i], Type: b.typ.rows[i],
		Name: b.name.rows[i], Meaning: b.meaning.rows[i], Channel: b.channel.rows[i],
		OccurredAt: b.occurredAt[i], ReceivedAt: b.receivedAt[i], RecordedAt: b.recordedAt[i], Position: b.position[i],
		Amount: b.amount[i], HasAmount: b.hasAmount[i], Currency: b.currency.rows[i], OrderID: text(&b.orderID),
		Flags: b.flags.rows[i], Properties: []byte(text(&b.properties)), Context: []byte(text(&b.context)),
	}
}
