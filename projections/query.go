package projections

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/google/uuid"

	"sojourn/domain"
	"sojourn/domain/customer"
	"sojourn/domain/lifecycle"
	"sojourn/domain/policy"
	"sojourn/eventstore"
)

// MovedError is answered for an id whose customer bears another id by now.
type MovedError struct{ To uuid.UUID }

func (e *MovedError) Error() string { return "the customer's id is now " + e.To.String() }

// snapshot reads the state of a generation at one checkpoint.
type snapshot struct {
	db pebble.Reader
}

func (s snapshot) load(key []byte) ([]byte, error) {
	b, closer, err := s.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the state of the views: %w", err)
	}
	b = append([]byte(nil), b...)
	return b, closer.Close()
}

func (s snapshot) scan(from, below []byte, fn func(key, value []byte) error) error {
	return scan(s.db, from, below, fn)
}

// question is one question about one customer: the subjects it is about, what is
// known of them, and the time.
type question struct {
	store eventstore.Store
	fold  *fold // reads the state; nothing is folded into it
	rules *Rules
	at    checkpoint
	asOf  domain.Millis
	// known bounds what is known; where there is no bound it is MaxTime.
	known   domain.Millis
	history bool // the answer is not simply that of now
	// fresh are the streams of subjects that the state does not know, by id.
	fresh map[uuid.UUID]string
}

// ask opens a question to the state as it is at one checkpoint; done ends it.
func (v *Views) ask(g *generation, at At) (q *question, done func()) {
	g.state.mu.RLock()
	db, cp := g.state.db.NewSnapshot(), g.state.at
	g.state.mu.RUnlock()
	done = func() {
		if err := db.Close(); err != nil {
			v.logger.Warn("snapshot not closed", "error", err)
		}
	}
	return v.pose(g, cp, snapshot{db}, at), done
}

// pose makes a question to a state that was read at a checkpoint.
func (v *Views) pose(g *generation, cp checkpoint, state loader, at At) *question {
	q := &question{store: v.cfg.Store, rules: g.rules, at: cp, asOf: cp.Clock, known: domain.MaxTime}
	if !at.KnownAt.IsZero() {
		q.history = true
		q.known = domain.MillisOf(at.KnownAt)
		q.asOf = q.known
		q.rules = v.rulesAt(q.known, q.rules)
	}
	if !at.AsOf.IsZero() {
		q.history = true
		q.asOf = domain.MillisOf(at.AsOf)
	}
	q.fold = newFold(q.rules, v.cfg.Keyer, state, v.logger)
	q.fold.clock, q.fold.known = cp.Clock, q.known
	return q
}

// Customer answers where a customer stands. ref is a customer's id or a subject
// such as "user:42". ErrNotFound where it has no touchpoint by the time asked
// about, *MovedError where ref is an id that the customer does not bear any more.
func (v *Views) Customer(ctx context.Context, ref string, at At) (Customer, error) {
	a, err := v.answer(ctx, ref, at, nil)
	if err != nil {
		return Customer{}, err
	}
	c := a.customer()
	c.Loyalty = a.standings()
	s, _ := a.satisfaction()
	service := a.service(&s, c.Loyalty)
	c.Satisfaction, c.Service = &s, &service
	return c, nil
}

// answer is what a question found.
type answer struct {
	q       *question
	id      uuid.UUID
	members []*subject
	view    customer.View
	past    []lifecycle.Transition
	// read are the facts of the touchpoints that were known, where the question says
	// what was; commands are not among them.
	read *customer.Facts
}

// heavyCustomer is the number of touchpoints above which what the state does not
// hold of a customer is asked of ClickHouse, which takes about 10 ms however many
// there are. From the log it takes up to 15 µs a touchpoint where they lie scattered
// over it. What was known at an earlier time is always read from the log.
const heavyCustomer = 500

// answer finds where a customer stands and, where page is not nil, the
// touchpoints of that page of its timeline.
func (v *Views) answer(ctx context.Context, ref string, at At, page *page) (a *answer, err error) {
	err = v.question(at, func(g *generation, q *question) error {
		a, err = v.answerFrom(ctx, g, q, ref, page)
		return err
	})
	return a, err
}

// question asks the active views something, at one checkpoint.
func (v *Views) question(at At, do func(*generation, *question) error) error {
	v.readers.RLock()
	defer v.readers.RUnlock()
	v.mu.RLock()
	g := v.active
	v.mu.RUnlock()
	if g == nil {
		return ErrClosed
	}
	q, done := v.ask(g, at)
	defer done()
	return do(g, q)
}

// answerFrom answers from the state of a generation; where that has no tables,
// from the log alone.
func (v *Views) answerFrom(ctx context.Context, g *generation, q *question, ref string, page *page) (*answer, error) {
	members, asked, err := q.find(ref)
	if err != nil {
		return nil, err
	}
	a := &answer{q: q, members: members}
	var facts customer.Facts
	if q.known == domain.MaxTime {
		a.id = members[0].id
		for _, m := range members {
			facts.Merge(&m.facts)
		}
		// Where touchpoints came after the time asked about, the facts do not tell
		// which was the last by then, nor the traits.
		before := q.history && q.asOf < facts.LastSeen
		switch {
		case !before && page == nil:
		case g.number != 0 && v.cfg.DB != nil && facts.Touchpoints > v.heavy:
			t := touchpointTable{v.cfg.DB, g.number, q, members}
			if page != nil { // which shows neither of the two
				err = t.read(ctx, page)
			} else {
				err = t.cut(ctx, &facts)
			}
		default:
			facts = customer.Facts{}
			_, err = q.read(ctx, members, &facts, page)
		}
	} else {
		a.id, err = q.read(ctx, members, &facts, page)
		a.read = &facts
	}
	if err != nil {
		return nil, err
	}
	if asked != uuid.Nil && asked != a.id && a.id != uuid.Nil {
		return nil, &MovedError{To: a.id}
	}
	a.view, a.past, _ = facts.View(q.asOf, q.rules.compiled)
	if facts.Touchpoints == 0 || a.view.Stage == lifecycle.None {
		return nil, ErrNotFound
	}
	return a, nil
}

// find resolves what is asked about to the subjects of a customer, the senior
// first. asked is the id where the question named one.
func (q *question) find(ref string) (members []*subject, asked uuid.UUID, err error) {
	s, asked, err := q.subject(ref)
	if err != nil {
		return nil, asked, err
	}
	if members, err = q.membersOf(s); err != nil {
		return nil, asked, err
	}
	if len(members) == 0 || members[0].first == 0 {
		return nil, asked, ErrNotFound
	}
	return members, asked, nil
}

// subject is the subject that a reference names: its own id, or "kind:value".
func (q *question) subject(ref string) (s *subject, asked uuid.UUID, err error) {
	var stream string
	if id, perr := uuid.Parse(ref); perr == nil {
		asked = id
		b, err := q.fold.state.load(idKey(id))
		if err != nil {
			return nil, asked, err
		}
		if stream = string(b); stream == "" {
			stream = q.fresh[id]
		}
	} else {
		s, err := domain.ParseSubject(ref)
		if err != nil {
			return nil, asked, err
		}
		stream = q.fold.keyer.Stream(s)
	}
	if stream == "" {
		return nil, asked, ErrNotFound
	}
	if s = q.fold.find(stream); s == nil {
		return nil, asked, errors.Join(q.fold.err, notFoundUnless(q.fold.err))
	}
	return s, asked, nil
}

func notFoundUnless(err error) error {
	if err != nil {
		return nil
	}
	return ErrNotFound
}

// membersOf are the subjects that were one customer with s by what was known, the
// senior first; none where s is nobody's.
func (q *question) membersOf(s *subject) ([]*subject, error) {
	f := q.fold
	if s.nobody {
		return nil, nil
	}
	if q.known == domain.MaxTime {
		root := f.rootOf(s)
		if f.err != nil {
			return nil, f.err
		}
		members := f.members(root)
		return members, f.err
	}
	c := q.clusterOf(s)
	if f.err != nil {
		return nil, f.err
	}
	var members []*subject
	for _, n := range c.graph.Group(s.node) {
		members = append(members, c.subjects[n])
	}
	sortMembers(members)
	return members, nil
}

// clusterOf is the cluster of a subject by what was known.
func (q *question) clusterOf(s *subject) *cluster {
	if s.cluster != nil {
		return s.cluster
	}
	return q.fold.loadCluster(s, q.known)
}

func (q *question) knows(e *eventstore.Recorded) bool {
	return e.Position <= q.at.Position && domain.MillisOf(e.RecordedAt) <= q.known
}

// read folds the touchpoints of the members from the log, and puts them into page
// where that is not nil. The customer's id is that of the member which stood first
// by what was known. It keeps no more in memory than facts and page do.
func (q *question) read(ctx context.Context, members []*subject, facts *customer.Facts, page *page) (id uuid.UUID, err error) {
	var first eventstore.Position
	for _, m := range members {
		for e, err := range q.store.ReadStream(ctx, m.stream, 0, eventstore.Forwards) {
			if errors.Is(err, eventstore.ErrStreamNotFound) {
				break
			}
			if err != nil {
				return id, fmt.Errorf("read the touchpoints of a customer: %w", err)
			}
			if !q.knows(&e) {
				break
			}
			if e.Repeat || e.Type != domain.TypeTouchpoint && e.Type != domain.TypeJoin {
				continue
			}
			if first == 0 || e.Position < first {
				first, id = e.Position, m.id
			}
			h, err := domain.ParseHeader(string(e.Metadata))
			if err != nil {
				continue
			}
			if h.OccurredAt > q.asOf {
				continue
			}
			ref := lifecycle.Ref{At: h.OccurredAt, ID: e.ID}
			rule := q.rules.compiled.Classify(h.Kind, h.Source, h.Name)
			t := q.rules.touch(&h, ref, rule, e.Data)
			facts.Add(&t, q.rules.book)
			if page != nil && page.wants(place{At: int64(ref.At), ID: ref.ID}) {
				page.add(Entry{At: h.OccurredAt.Time(), Touchpoint: q.entry(&e, &h, m, rule, &t.Touch)})
			}
		}
	}
	return id, nil
}

// entry is a touchpoint as the timeline shows it; it shares nothing with e.
func (q *question) entry(e *eventstore.Recorded, h *domain.Header, m *subject, rule policy.Rule, t *lifecycle.Touch) *TouchpointEntry {
	msg := readMessage(e.Data)
	out := &TouchpointEntry{
		EventID: e.ID, Subject: m.String(), Source: h.Source, Type: h.Kind.String(), Name: h.Name,
		Meaning:    string(rule.Meaning),
		Channel:    q.rules.channel(rule, h, mergedContext(h.BatchContext, msg.context)),
		ReceivedAt: h.ReceivedAt.Time(), RecordedAt: e.RecordedAt, Position: e.Position,
		Currency: q.rules.currency(t), OrderID: t.Order.ID,
		Properties: json.RawMessage(append([]byte(nil), msg.propertiesOf(h.Kind)...)),
	}
	if hasAmount(t) {
		out.Amount = t.Order.Amount.String()
	}
	return out
}

// customer is the answer about the customer itself.
func (a *answer) customer() Customer {
	v := &a.view
	c := Customer{
		ID: a.id, Stage: string(v.Stage), StageSince: v.StageSince.Time(), Reason: v.Reason, Cause: v.Cause.String(),
		Purchases: v.Totals.Purchases, Refunds: v.Totals.Refunds, Revenue: map[string]string{},
		FirstSeen: v.FirstSeen.Time(), LastSeen: v.LastSeen.Time(),
		Traits: make(map[string]json.RawMessage, len(v.Traits)), AsOf: a.q.asOf.Time(),
	}
	for cur, amount := range v.Totals.Revenue {
		c.Revenue[cur] = amount.String()
	}
	for _, t := range v.Traits {
		c.Traits[t.Key] = json.RawMessage(t.Value)
	}
	for _, m := range a.members {
		c.Subjects = append(c.Subjects, m.String())
	}
	return c
}

// Stages counts the customers by stage.
type Stages struct {
	AsOf      time.Time
	Customers uint64
	Stages    []StageCount // all stages, in the order a customer goes through them
}

// StageCount is how many customers are in a stage.
type StageCount struct {
	Stage     string
	Customers uint64
}

// EventName is a name that messages bear, as seen from one source.
type EventName struct {
	Source, Type, Name string
	Count              uint64
	LastAt             time.Time // the latest occurred_at
	Meaning, Channel   string    // by the policy of the views
}
