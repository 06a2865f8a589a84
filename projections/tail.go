package projections

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/google/uuid"

	"sojourn/domain"
	"sojourn/domain/customer"
	"sojourn/domain/loyalty"
	"sojourn/domain/policy"
	"sojourn/eventstore"
)

// tail is the log behind a checkpoint of the views, folded in memory and thrown away.
type tail struct {
	generation *generation
	// rules are those that commands are decided by: of the policy in force, which the
	// views that answer may not be built under yet.
	rules    *Rules
	snapshot *pebble.Snapshot
	fold     *fold
	decoder  *decoder
	opened   time.Time
	events   int
	fresh    map[uuid.UUID]string // streams of subjects that the state does not know
	// guards are the ends of guard streams, as far as they have been looked at or
	// come by; a decided command moves its own.
	guards map[uuid.UUID]guard
	taken  map[uuid.UUID]bool // commands decided but not yet appended
	// clearing are the customers whose guard streams this round puts in order.
	clearing map[uuid.UUID]bool
}

// take folds an event of the log.
func (t *tail) take(e *eventstore.Recorded) error {
	t.events++
	if id, ok := domain.GuardCustomer(e.Stream); ok {
		g, err := guardOf(e)
		if err != nil {
			// As if it were closed: the next command looks anew.
			t.fold.logger.Error("entry of a guard stream cannot be read", "error", err)
		}
		t.guards[id] = g
	}
	var a arrival
	t.decoder.decode(e, &a)
	t.decoder.text = nil
	if a.kind == touchpoint {
		t.fresh[domain.SubjectID(a.stream)] = a.stream
	}
	return t.fold.apply(&a)
}

// subject is the subject that a reference names: a customer's id, which is that of a
// subject, or "kind:value".
func (t *tail) subject(ref string) (*subject, error) {
	f := t.fold
	var stream string
	if id, err := uuid.Parse(ref); err == nil {
		b, err := f.state.load(idKey(id))
		if err != nil {
			return nil, err
		}
		if stream = string(b); stream == "" {
			stream = t.fresh[id]
		}
	} else {
		s, err := domain.ParseSubject(ref)
		if err != nil {
			return nil, badCommand("%s", err)
		}
		stream = f.keyer.Stream(s)
	}
	if stream == "" {
		return nil, ErrNotFound
	}
	s := f.find(stream)
	if s == nil {
		return nil, errors.Join(f.err, notFoundUnless(f.err))
	}
	return s, nil
}

// holder is the customer that a command is about.
type holder struct {
	subject *subject // that it names
	members []*subject
	id      uuid.UUID
	facts   loyalty.Facts
}

func (t *tail) holder(ctx context.Context, ref string) (*holder, error) {
	s, err := t.subject(ref)
	if err != nil {
		return nil, err
	}
	h := &holder{subject: s}
	if h.members, err = t.members(s); err != nil {
		return nil, err
	}
	first := firstOf(h.members)
	if first == nil {
		return nil, ErrNotFound
	}
	h.id = first.id
	if t.current() {
		for _, m := range h.members {
			h.facts.Merge(&m.facts.Loyalty)
		}
		return h, nil
	}
	var read customer.Facts
	if _, err := t.question().read(ctx, h.members, &read, nil); err != nil {
		return nil, err
	}
	h.facts = read.Loyalty
	for _, m := range h.members {
		for _, c := range m.facts.Loyalty.Commands() {
			h.facts.AddCommand(c)
		}
	}
	return h, nil
}

// alone is the subject that a reference names, where it is no customer's; without a
// subject where nothing is known of it.
func (t *tail) alone(ref string) (*holder, error) {
	s, err := t.subject(ref)
	if errors.Is(err, ErrNotFound) {
		return &holder{}, nil
	}
	return &holder{subject: s, members: []*subject{s}}, err
}

// current reports whether the views that answer are built under the policy in force.
func (t *tail) current() bool { return t.rules.Version == t.fold.rules.Version }

// members are the subjects that are one customer with s by the policy in force, the
// senior first; none where s is nobody's.
func (t *tail) members(s *subject) ([]*subject, error) {
	f := t.fold
	if t.current() {
		if s.nobody {
			return nil, nil
		}
		members := f.members(f.rootOf(s))
		return members, f.err
	}
	q := t.question()
	members, err := q.membersOf(q.fold.subject(s.stream))
	if err != nil {
		return nil, err
	}
	for i, m := range members {
		members[i] = f.subject(m.stream)
	}
	return members, f.err
}

// question asks by the policy in force while the views that answer are built under
// another: of the state only what no policy bears on.
func (t *tail) question() *question {
	f := t.fold
	q := &question{
		store: t.generation.store, rules: t.rules, at: checkpoint{Position: f.position},
		asOf: domain.MaxTime, known: domain.MaxTime - 1, // everything, but not by the groups of the state
	}
	q.fold = newFold(t.rules, f.keyer, unflushed{f}, f.logger)
	q.fold.known = q.known
	return q
}

// unflushed reads the state of a fold with the subjects, ties and decisions that the
// fold has in memory.
type unflushed struct{ fold *fold }

func (u unflushed) load(key []byte) ([]byte, error) {
	switch key[0] {
	case subjectKey("")[0]:
		if s := u.fold.subjects[keyOf(string(key[1:]))]; s != nil {
			return s.append(nil), nil
		}
	case tiesKey("")[0]:
		if s := u.fold.subjects[keyOf(string(key[1:]))]; s != nil && s.ties != nil {
			return s.ties.append(nil), nil
		}
	case decisionKey(0)[0]:
		if d := u.fold.decisions[eventstore.Position(binary.BigEndian.Uint64(key[1:]))]; d != nil {
			return d.append(nil)
		}
	}
	return u.fold.state.load(key)
}

func (u unflushed) scan(from, below []byte, fn func(key, value []byte) error) error {
	return u.fold.state.scan(from, below, fn)
}

// now is the instant of a command: behind every other of the customer, so that their
// order is that in which they were decided.
func (t *tail) now(h *holder, now time.Time) domain.Millis {
	at := domain.MillisOf(now)
	if all := h.facts.Commands(); len(all) > 0 {
		at = max(at, all[len(all)-1].At+1)
	}
	return at
}

// known is the event of a command that was decided before, by its id.
func (t *tail) known(ctx context.Context, id uuid.UUID) (*eventstore.Recorded, error) {
	position, err := t.positionOf(id)
	if err != nil || position == 0 {
		return nil, err
	}
	return eventAt(ctx, t.generation.store, position)
}

// positionOf is where a command stands in the log, 0 where it does not.
func (t *tail) positionOf(id uuid.UUID) (eventstore.Position, error) {
	if c := t.fold.commands[id]; c != nil {
		return c.position, nil
	}
	b, err := t.fold.state.load(commandKey(id))
	if err != nil || b == nil {
		return 0, err
	}
	return eventstore.Position(binary.BigEndian.Uint64(b)), nil
}

func eventAt(ctx context.Context, store eventstore.Store, position eventstore.Position) (*eventstore.Recorded, error) {
	for e, err := range store.ReadAll(ctx, position-1) {
		if err == nil && e.Position != position {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read the command at position %d: %w", position, err)
		}
		e = e.Clone()
		return &e, nil
	}
	return nil, fmt.Errorf("the log holds no event at position %d", position)
}

// put has a command appended to the guard stream and takes it into the tail, for
// those that are decided behind it.
func (t *tail) put(e *errand, h *holder, g guard, expected eventstore.Expected, d *commandData) error {
	data, err := json.Marshal(d)
	if err != nil {
		return err
	}
	now := time.Now() // an estimate: the log has the last word
	c, err := commandOf(&eventstore.Recorded{NewEvent: eventstore.NewEvent{ID: e.id, Data: data}, RecordedAt: now})
	if err != nil {
		return err
	}
	e.parts = append(e.parts, eventstore.Append{Stream: domain.GuardStream(h.id), Expected: expected, Events: []eventstore.NewEvent{
		{ID: e.id, Type: domain.TypeLoyaltyCommand, Data: data},
	}})
	e.made = c
	t.guards[h.id] = g.next(d.Guard)
	t.fold.command(c)
	return t.fold.err
}

// expiresOf is the expiry of points as an event has it.
func expiresOf(at domain.Millis) string {
	if at == policy.Never {
		return ""
	}
	return at.String()
}
