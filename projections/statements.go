package projections

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"sojourn/domain"
	"sojourn/domain/lifecycle"
	"sojourn/eventstore"
	"sojourn/warehouse"
)

// Statement is the data of a stage.entered.v1 event: what Sojourn said of a
// customer. Nothing personal stands in it.
type Statement struct {
	Customer      uuid.UUID `json:"customer"`
	From          string    `json:"from"`
	To            string    `json:"to"`
	At            string    `json:"at"` // RFC 3339, UTC
	Reason        string    `json:"reason"`
	Cause         string    `json:"cause"`
	PolicyVersion int       `json:"policy_version"`
	// News says that it was found because a touchpoint, a join or the clock came
	// and that it changed where the customer stood; else it restates.
	News bool `json:"news"`
	// Position and Clock are what it was computed at.
	Position eventstore.Position `json:"position"`
	Clock    string              `json:"clock"`
}

// Withdrawal is the data of a stage.withdrawn.v1 event: the statements that do
// not hold any more.
type Withdrawal struct {
	Customer uuid.UUID `json:"customer"`
	// Revisions name the statements by their place in this stream.
	Revisions []uint64            `json:"revisions"`
	Position  eventstore.Position `json:"position"`
	Clock     string              `json:"clock"`
}

// The metadata of a statement is what is needed to know which stand without
// reading JSON: version, and the hash of the transition or the revisions
// withdrawn.
const statementVersion = 1

// speech is what is to be appended to one customer's stream of statements.
type speech struct {
	customer *cust
	// desired are the transitions that stand and news their marks.
	desired []lifecycle.Transition
	hashes  []uint64
	news    []bool
	// before is what the stream was taken to hold, and events turn that into what
	// is desired.
	before said
	events []eventstore.NewEvent
}

// said is what a stream of statements holds.
type said struct {
	standing []statementRef
	next     uint64
}

// apply takes an event of the stream into account.
func (s *said) apply(e *eventstore.Recorded) error {
	if e.Revision < s.next {
		return nil
	}
	if e.Revision > s.next {
		return fmt.Errorf("stream %s: revision %d follows %d", e.Stream, e.Revision, s.next)
	}
	s.next++
	m := e.Metadata
	if len(m) < 1 || m[0] != statementVersion {
		return fmt.Errorf("stream %s: statement %d is damaged or of a later release", e.Stream, e.Revision)
	}
	r := reader{b: m[1:]}
	switch e.Type {
	case domain.TypeStageEntered:
		s.standing = append(s.standing, statementRef{e.Revision, r.hash()})
	case domain.TypeStageWithdrawn:
		for n := r.count(); n > 0; n-- {
			rev := r.uvarint()
			s.standing = slices.DeleteFunc(s.standing, func(x statementRef) bool { return x.revision == rev })
		}
	}
	if r.err != nil {
		return fmt.Errorf("stream %s: statement %d is damaged", e.Stream, e.Revision)
	}
	return nil
}

// say makes the events that turn what stands into what is desired: at most one
// withdrawal, then the new statements in order. It returns what stands then.
func (s said) say(sp *speech, at warehouse.Version, policyVersion int) ([]eventstore.NewEvent, said) {
	id, position, clock := sp.customer.id, eventstore.Position(at.Position), domain.Millis(at.Clock).String()
	var events []eventstore.NewEvent
	stream := domain.StatementStream(id)
	out := said{next: s.next}
	var gone []statementRef
	wanted := make(map[uint64]bool, len(sp.hashes))
	for _, h := range sp.hashes {
		wanted[h] = true
	}
	stands := make(map[uint64]bool, len(s.standing))
	for _, st := range s.standing {
		stands[st.hash] = true
		if wanted[st.hash] {
			out.standing = append(out.standing, st)
		} else {
			gone = append(gone, st)
		}
	}
	add := func(typ string, meta []byte, content any) {
		// The types marshal whatever they hold.
		data, _ := json.Marshal(content)
		events = append(events, eventstore.NewEvent{
			ID: domain.StatementID(stream, out.next, data), Type: typ, Metadata: meta, Data: data,
		})
		out.next++
	}
	if len(gone) > 0 {
		w := Withdrawal{Customer: id, Position: position, Clock: clock}
		meta := binary.AppendUvarint([]byte{statementVersion}, uint64(len(gone)))
		for _, g := range gone {
			meta = binary.AppendUvarint(meta, g.revision)
			w.Revisions = append(w.Revisions, g.revision)
		}
		add(domain.TypeStageWithdrawn, meta, w)
	}
	for i := range sp.desired {
		h := sp.hashes[i]
		if stands[h] {
			continue
		}
		t := &sp.desired[i]
		st := Statement{
			Customer: id, From: string(t.From), To: string(t.To), At: t.At.String(),
			Reason: t.Reason, Cause: t.Cause.String(), PolicyVersion: policyVersion,
			News: sp.news[i], Position: position, Clock: clock,
		}
		revision := out.next
		add(domain.TypeStageEntered, binary.BigEndian.AppendUint64([]byte{statementVersion}, h), st)
		out.standing = append(out.standing, statementRef{revision, h})
	}
	return events, out
}

// expected is the state of the stream that the events go onto.
func (s said) expected() eventstore.Expected {
	if s.next == 0 {
		return eventstore.NoStream{}
	}
	return eventstore.Revision(s.next - 1)
}

// readSaid reads a customer's stream of statements.
func readSaid(ctx context.Context, store eventstore.Store, id uuid.UUID) (said, error) {
	var s said
	for e, err := range store.ReadStream(ctx, domain.StatementStream(id), 0, eventstore.Forwards) {
		if errors.Is(err, eventstore.ErrStreamNotFound) {
			return said{}, nil
		}
		if err != nil {
			return said{}, fmt.Errorf("read the statements of %s: %w", id, err)
		}
		if err := s.apply(&e); err != nil {
			return said{}, err
		}
	}
	return s, nil
}
