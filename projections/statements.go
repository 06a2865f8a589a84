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
	"sojourn/eventstore"
	"sojourn/warehouse"
)

// Statement is the data of a statement: what Sojourn said of a customer, its stage
// (stage.entered.v1), its tier in a programme (tier.entered.v1) or how satisfied it
// is (satisfaction.entered.v1), that it is in a segment or no more (segment.entered.v1,
// segment.left.v1). Nothing personal stands in it.
type Statement struct {
	Customer  uuid.UUID `json:"customer"`
	Programme string    `json:"programme,omitempty"` // of a tier
	Segment   string    `json:"segment,omitempty"`   // from and to are then "in" and "out"
	From      string    `json:"from"`
	To        string    `json:"to"`
	At        string    `json:"at"`              // RFC 3339, UTC
	Until     string    `json:"until,omitempty"` // the end of a tier's hold, where it has one
	Index     *float64  `json:"index,omitempty"` // of a status that is known, from 0 to 100
	Reason    string    `json:"reason"`
	Cause     string    `json:"cause"`

	PolicyVersion int `json:"policy_version"`
	// News says that it was found because a touchpoint, a join or the clock came
	// and that it changed where the customer stood; else it restates.
	News bool `json:"news"`
	// Position and Clock are what it was computed at.
	Position eventstore.Position `json:"position"`
	Clock    string              `json:"clock"`
}

// Withdrawal is the data of a stage.withdrawn.v1, tier.withdrawn.v1,
// satisfaction.withdrawn.v1 or segment.withdrawn.v1 event: the statements that do not hold any more.
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

// about is what a statement is about.
type about uint8

const (
	aboutStage about = iota
	aboutTier
	aboutStatus
	aboutSegment
	abouts // how many there are
)

// entered and withdrawn are the types of the events.
var (
	entered   = [abouts]string{domain.TypeStageEntered, domain.TypeTierEntered, domain.TypeStatusEntered, domain.TypeSegmentEntered}
	withdrawn = [abouts]string{domain.TypeStageWithdrawn, domain.TypeTierWithdrawn, domain.TypeStatusWithdrawn, domain.TypeSegmentWithdrawn}
)

// isStatement reports whether events of a type are entries of a stream of statements.
func isStatement(typ string) bool {
	return typ == domain.TypeSegmentLeft || slices.Contains(entered[:], typ) || slices.Contains(withdrawn[:], typ)
}

// speech is what is to be appended to one customer's stream of statements.
type speech struct {
	customer uuid.UUID
	// desired are the statements that are to stand, in order; nil where what is said
	// of it is left as it is.
	desired [abouts]*[]sentence
	// before is what the stream was taken to hold, and events turn that into what
	// is desired.
	before said
	events []eventstore.NewEvent
}

// sentence is a statement that is to stand, and the hash of what it says.
type sentence struct {
	hash      uint64
	statement Statement
}

// said is what a stream of statements holds.
type said struct {
	standing [abouts][]statementRef
	next     uint64
}

// says reports whether the statements about something are n of given hashes.
func (s *said) says(what about, n int, hash func(int) uint64) bool {
	standing := s.standing[what]
	if len(standing) != n {
		return false
	}
	for i := range n {
		h := hash(i)
		if standing[i].hash != h && !slices.ContainsFunc(standing, func(s statementRef) bool { return s.hash == h }) {
			return false
		}
	}
	return true
}

// count is the number of statements that stand.
func (s *said) count() (n int) {
	for _, standing := range s.standing {
		n += len(standing)
	}
	return n
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
	typ := e.Type
	if typ == domain.TypeSegmentLeft {
		typ = domain.TypeSegmentEntered // either stands until it is withdrawn
	}
	for what := range abouts {
		switch typ {
		case entered[what]:
			s.standing[what] = append(s.standing[what], statementRef{e.Revision, r.hash()})
		case withdrawn[what]:
			for n := r.count(); n > 0; n-- {
				rev := r.uvarint()
				s.standing[what] = slices.DeleteFunc(s.standing[what], func(x statementRef) bool { return x.revision == rev })
			}
		}
	}
	if r.err != nil {
		return fmt.Errorf("stream %s: statement %d is damaged", e.Stream, e.Revision)
	}
	return nil
}

// say makes the events that turn what stands into what is desired: for each thing
// they are about at most one withdrawal, then the new statements in order. It
// returns what stands then.
func (s said) say(sp *speech, at warehouse.Version, policyVersion int) ([]eventstore.NewEvent, said) {
	position, clock := eventstore.Position(at.Position), domain.Millis(at.Clock).String()
	var events []eventstore.NewEvent
	stream := domain.StatementStream(sp.customer)
	out := said{next: s.next}
	add := func(typ string, meta []byte, content any) {
		// The types marshal whatever they hold.
		data, _ := json.Marshal(content)
		events = append(events, eventstore.NewEvent{
			ID: domain.StatementID(stream, out.next, data), Type: typ, Metadata: meta, Data: data,
		})
		out.next++
	}
	for what := range abouts {
		if sp.desired[what] == nil {
			out.standing[what] = slices.Clone(s.standing[what])
			continue
		}
		desired := *sp.desired[what]
		var gone []statementRef
		wanted := make(map[uint64]bool, len(desired))
		for i := range desired {
			wanted[desired[i].hash] = true
		}
		stands := make(map[uint64]bool, len(s.standing[what]))
		for _, st := range s.standing[what] {
			stands[st.hash] = true
			if wanted[st.hash] {
				out.standing[what] = append(out.standing[what], st)
			} else {
				gone = append(gone, st)
			}
		}
		if len(gone) > 0 {
			w := Withdrawal{Customer: sp.customer, Position: position, Clock: clock}
			meta := binary.AppendUvarint([]byte{statementVersion}, uint64(len(gone)))
			for _, g := range gone {
				meta = binary.AppendUvarint(meta, g.revision)
				w.Revisions = append(w.Revisions, g.revision)
			}
			add(withdrawn[what], meta, w)
		}
		for _, d := range desired {
			if stands[d.hash] {
				continue
			}
			st := d.statement
			st.Customer, st.PolicyVersion, st.Position, st.Clock = sp.customer, policyVersion, position, clock
			revision, typ := out.next, entered[what]
			if what == aboutSegment && st.To == segmentOut {
				typ = domain.TypeSegmentLeft
			}
			add(typ, binary.BigEndian.AppendUint64([]byte{statementVersion}, d.hash), st)
			out.standing[what] = append(out.standing[what], statementRef{revision, d.hash})
		}
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
