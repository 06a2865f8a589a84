package projections

import (
	"encoding/hex"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/tidwall/gjson"

	"sojourn/domain"
	"sojourn/domain/commerce"
	"sojourn/domain/customer"
	"sojourn/domain/lifecycle"
	"sojourn/domain/loyalty"
	"sojourn/domain/policy"
	"sojourn/domain/satisfaction"
	"sojourn/eventstore"
	"sojourn/warehouse"
)

// Rules are a policy as a projection uses it.
type Rules struct {
	Version  int
	Policy   policy.Policy
	compiled *policy.Compiled
	// book holds which rules about points hold when, by all policies up to this one.
	book         *loyalty.Rulebook
	satisfaction *satisfaction.Rules
	segments     *segmentSet // nil where there are none
	// SegmentsVersion is how many events about segments they follow from.
	SegmentsVersion int
}

// NewRules compiles the last of the policies that were applied, oldest first; its
// version is their number.
func NewRules(history ...loyalty.AppliedPolicy) *Rules {
	p := history[len(history)-1].Policy
	compiled := p.Compile()
	return &Rules{
		Version: len(history), Policy: p, compiled: compiled,
		book: loyalty.Resolve(history), satisfaction: satisfaction.Compile(compiled),
	}
}

func (r *Rules) transitions(f *customer.Facts) []lifecycle.Transition {
	return lifecycle.Transitions(&f.Lifecycle, r.Policy.Lifecycle, r.Policy.Currency)
}

// currency is the one of an order's touchpoint as its row has it: a purchase
// that names none has the policy's.
func (r *Rules) currency(t *lifecycle.Touch) string {
	if t.Order.Currency == "" && t.Meaning == policy.Purchase {
		return r.Policy.Currency
	}
	return t.Order.Currency
}

// channel is the one of a message's rule, or where that leaves it to the library
// that sent the message, the one of the channel rules.
func (r *Rules) channel(rule policy.Rule, h *domain.Header, context string) string {
	if !rule.ByRule || context == "" {
		return rule.Channel
	}
	return r.compiled.Channel(h.Kind, h.Source, gjson.Get(context, "library.name").Str)
}

// loader reads the records of the state.
type loader interface {
	// load is the record of a key, nil where there is none; it is valid until the
	// next call.
	load(key []byte) ([]byte, error)
	// scan yields the records from a key on and below another. The slices are valid
	// until fn returns, which may not load.
	scan(from, below []byte, fn func(key, value []byte) error) error
}

// fold takes events in the order of the log and keeps the subjects and customers
// they are about. It reads the state and never writes it: what has changed is
// taken out at each flush (see flush.go).
//
// Every event is judged by itself: what a customer's history is before it and
// after it decides which changes are news, so that the size of a batch decides
// nothing.
type fold struct {
	rules  *Rules
	keyer  domain.Keyer
	state  loader
	logger *slog.Logger
	// silent folds make no statements and learn what has been said from the log.
	silent bool
	polite bool // it gives way to every other goroutine
	// workers are how many goroutines fold, 0 for one a processor. lanes are what they
	// have yet to do, nil while touchpoints are taken as they come.
	workers int
	lanes   []lane
	// plain folds make no rows of points and satisfaction: nobody asks for them.
	plain bool
	// shard is what it makes rows and statements of. It knows who is one customer
	// everywhere, and keeps no history of the customers of others, nor the facts of
	// their subjects: these are read from the log, by history, when they are asked for.
	shard   Shard
	history history
	// strangers are the subjects of others of which nothing is kept.
	strangers strangers
	// blank says that the state holds nothing of subjects and customers that is not in
	// memory.
	blank bool
	// inHand is the subject of the touchpoint at hand until its facts have that.
	inHand *subject

	position eventstore.Position
	// clock is that of the last flush, step that of the event at hand, and before
	// the instant up to which time had passed when that event came.
	clock, step, before domain.Millis

	// known is the time of which a question asks what was known then; MaxTime for a
	// fold that follows the log.
	known domain.Millis

	subjects  map[streamKey]*subject
	customers map[uuid.UUID]*cust
	decisions map[eventstore.Position]*decision
	accounts  map[uuid.UUID]*account
	// What is to be flushed.
	touched      []*subject // dirty
	changed      []*cust
	unsaid       []*cust // since utter; those of them that changed are in changed, too
	conflicts    map[conflictKey]conflict
	newDecisions []*decision
	commands     map[uuid.UUID]*command
	feedback     []warehouse.Feedback
	handlings    []warehouse.Handling
	deliveries   []warehouse.DeliveryFact
	// changedAccounts are those with calls of their own; the accounts of customers
	// that have changed are found at the flush.
	changedAccounts []*account
	events          int
	spare           spare
	err             error
}

func newFold(rules *Rules, keyer domain.Keyer, state loader, logger *slog.Logger) *fold {
	return &fold{
		rules: rules, keyer: keyer, state: state, logger: logger, known: domain.MaxTime,
		subjects: map[streamKey]*subject{}, customers: map[uuid.UUID]*cust{},
		decisions: map[eventstore.Position]*decision{}, conflicts: map[conflictKey]conflict{},
		accounts: map[uuid.UUID]*account{}, commands: map[uuid.UUID]*command{},
	}
}

// apply takes one event.
func (f *fold) apply(a *arrival) error {
	f.position = a.position
	f.events++
	// What was due before the event came, was found before it.
	before := f.step
	f.step = max(f.step, a.recordedAt)
	f.before = max(before, f.step-1)
	switch a.kind {
	case touchpoint:
		f.touchpoint(a)
	case statement:
		f.statement(&a.statement)
	case decisionMade:
		f.decide(a.decision)
	case commanded:
		f.command(a.command)
	case handled:
		f.handlings = append(f.handlings, *a.handling)
	case automated:
		f.deliveries = append(f.deliveries, *a.delivery)
	}
	return f.err
}

func (f *fold) touchpoint(a *arrival) {
	if f.passes(a) {
		return
	}
	s := f.subjectAt(a.key, a.stream, a.value)
	if f.err != nil {
		return
	}
	fresh := s.first == 0
	if fresh {
		s.first, s.firstAt = a.position, a.recordedAt
		if s.value == "" {
			f.name(s, a.value)
		}
	}
	if fresh || s.kept {
		f.dirty(s)
	}
	f.inHand = s
	defer func() { f.inHand = nil }()
	if a.feedback != nil {
		f.feedback = append(f.feedback, *a.feedback)
	}
	if a.group.groupID != "" {
		f.group(a, s)
	}
	grown := false
	if len(a.named) > 0 || fresh && s.linked {
		var groups [][]*subject
		if groups, grown = f.identify(a, s, fresh); len(groups) > 0 {
			f.regroup(groups, s, fresh, false, func() { f.add(s, a) })
			return
		}
	}
	if s.nobody || f.err != nil {
		f.add(s, a)
		return
	}
	c := s.cust
	if c == nil {
		if c = f.customerOf(f.rootOf(s)); f.err != nil {
			return
		}
	}
	if c.foreign {
		if s.kept { // for the accounts that it is a member of
			s.facts.Add(&a.touch, f.rules.book)
			f.noteSegments(s, a.ref, a.segments)
			f.change(c)
		}
		return
	}
	f.change(c)
	if !grown {
		f.take(c, s, a)
		return
	}
	c.take(s, &a.touch, f.rules.book)
	f.noteSegments(s, a.ref, a.segments)
	c.advance(f.before)
	c.replace(f.transitionsAfter(c, &a.touch.Touch), f.step, false)
	f.replaceLines(c, false)
}

// add adds a touchpoint to the facts of a subject whose customer is put together anew,
// or which has none.
func (f *fold) add(s *subject, a *arrival) {
	if s.kept {
		s.facts.Add(&a.touch, f.rules.book)
		f.noteSegments(s, a.ref, a.segments)
	}
	f.inHand = nil
}

// history yields the touchpoints of a stream up to a position, until do returns false.
type history func(stream string, to eventstore.Position, do func(*arrival) bool) error

// keep has the facts of a subject from here on. What a fold of part of the customers
// has left out is read from the log, but for the touchpoint at hand where that is yet
// to be taken.
func (f *fold) keep(s *subject) {
	if s.kept || f.err != nil {
		return
	}
	to := f.position
	if s == f.inHand {
		to--
	}
	if s.first != 0 && s.first <= to {
		var facts customer.Facts
		err := f.history(s.stream, to, func(a *arrival) bool {
			facts.Add(&a.touch, f.rules.book)
			f.noteSegments(s, a.ref, a.segments)
			return true
		})
		if err != nil {
			f.err = fmt.Errorf("read the touchpoints of a subject: %w", err)
			return
		}
		facts.Merge(&s.facts) // its commands
		s.facts = facts
	}
	s.kept = true
	f.dirty(s)
}

// manyOrders is from how many orders on it pays to keep a course.
const manyOrders = 64

// transitionsAfter are the transitions of a customer whose facts have just taken
// a touchpoint.
func (f *fold) transitionsAfter(c *cust, t *lifecycle.Touch) []lifecycle.Transition {
	if c.course != nil {
		c.course.Add(*t)
		return c.course.Transitions()
	}
	facts := c.facts()
	if facts.Lifecycle.Orders() < manyOrders {
		return f.rules.transitions(facts)
	}
	c.course = lifecycle.NewCourse(&facts.Lifecycle, f.rules.Policy.Lifecycle, f.rules.Policy.Currency)
	return c.course.Transitions()
}

// statement learns what was said from the log.
func (f *fold) statement(e *eventstore.Recorded) {
	id, ok := domain.StatementCustomer(e.Stream)
	if !ok || !f.shard.holds(id) {
		return
	}
	c, err := f.whole(id)
	if err == nil {
		err = c.said.apply(e)
	}
	if err != nil {
		f.err = err
		return
	}
	f.change(c)
}

// rootOf is the subject at the head of the customer that s belongs to.
func (f *fold) rootOf(s *subject) *subject {
	if s.head == "" {
		return s
	}
	return f.subject(s.head)
}

// customerOf is the customer whose head is root, with its members and the
// changes of stage that stood at the last flush, or nil where none of its
// subjects has a touchpoint.
func (f *fold) customerOf(root *subject) *cust {
	if root.cust != nil {
		return root.cust
	}
	c := f.attach(root)
	if c != nil && !c.foreign {
		c.all = f.rules.transitions(c.facts())
		c.n = due(c.all, f.clock)
		c.news = make([]bool, c.n)
	}
	return c
}

// attach finds the customer whose head is root and makes its subjects its
// members.
func (f *fold) attach(root *subject) *cust {
	if f.err != nil {
		return nil
	}
	if root.cust != nil {
		return root.cust
	}
	members := f.members(root)
	first := firstOf(members)
	if f.err != nil || first == nil {
		return nil
	}
	c := f.customer(first.id)
	if f.err != nil {
		return nil
	}
	c.root = root.stream
	c.members = members
	for _, m := range members {
		m.cust, m.lone = c, false
		if !c.foreign {
			f.keep(m)
		}
	}
	if f.err != nil {
		return nil
	}
	return c
}

// members are the subjects of the customer whose head is root, the one that
// gives the id first, then in the order of the log.
func (f *fold) members(root *subject) []*subject {
	streams := f.membersOf(root)
	members := append(make([]*subject, 0, 1+len(streams)), root)
	for _, stream := range streams {
		if m := f.subject(stream); f.err == nil {
			members = append(members, m)
		}
	}
	sortMembers(members)
	return members
}

func sortMembers(members []*subject) { slices.SortStableFunc(members, bySeniority) }

// bySeniority orders subjects by their first place in the log; those that are
// only named in a join come last.
func bySeniority(a, b *subject) int {
	switch {
	case (a.first == 0) != (b.first == 0):
		if a.first == 0 {
			return 1
		}
		return -1
	case a.first < b.first:
		return -1
	case a.first > b.first:
		return 1
	}
	return strings.Compare(a.stream, b.stream)
}

// firstOf is the subject that gives a customer its id.
func firstOf(members []*subject) *subject {
	if len(members) == 0 || members[0].first == 0 {
		return nil
	}
	return members[0]
}

// streamKey is the hash in the name of a subject's stream, by which subjects are
// found faster than by the name.
type streamKey [16]byte

// keyOf is the zero key for a stream that is no subject's.
func keyOf(stream string) (key streamKey) {
	if n := len(stream) - 2*len(key); n > 0 {
		if _, err := hex.Decode(key[:], []byte(stream[n:])); err != nil {
			return streamKey{}
		}
	}
	return key
}

// subject is the subject whose touchpoints stand in a stream, new where it is
// not known yet.
func (f *fold) subject(stream string) *subject { return f.subjectAt(keyOf(stream), stream, "") }

// subjectAt is subject, of a stream whose key is at hand, and the value where that is.
func (f *fold) subjectAt(key streamKey, stream, value string) *subject {
	if s := f.findAt(key, stream); s != nil || f.err != nil {
		return s
	}
	s, err := newSubject(strings.Clone(stream))
	if err != nil {
		f.err = err
		return nil
	}
	s.kept = f.shard.whole()
	f.subjects[key] = s
	if !f.shard.holds(s.id) {
		f.recall(key, s, value)
	}
	return s
}

// name sets the value of a subject, as the first message that bears it has it.
func (f *fold) name(s *subject, value string) {
	s.value = strings.Clone(value)
	s.nobody = f.rules.compiled.Identity().Nobody(value)
}

// find is the subject of a stream, or nil where it is not known.
func (f *fold) find(stream string) *subject { return f.findAt(keyOf(stream), stream) }

func (f *fold) findAt(key streamKey, stream string) *subject {
	if s, ok := f.subjects[key]; ok {
		return s
	}
	if f.err != nil || f.blank {
		return nil
	}
	b, err := f.state.load(subjectKey(stream))
	if err != nil || b == nil {
		f.err = err
		return nil
	}
	stream = strings.Clone(stream)
	s, err := parseSubject(stream, b)
	if err != nil {
		f.err = fmt.Errorf("state of %s: %w", stream, err)
		return nil
	}
	s.nobody = f.rules.compiled.Identity().Nobody(s.value)
	if f.rules.segments != nil {
		if err := f.loadSegments(s); err != nil {
			f.err = err
			return nil
		}
	}
	if s.firstAt > f.known {
		s.first, s.firstAt = 0, 0
	}
	f.subjects[key] = s
	return s
}

// customer is the record of a customer, without its members.
func (f *fold) customer(id uuid.UUID) *cust {
	if c, ok := f.customers[id]; ok {
		return c
	}
	c := &cust{id: id, foreign: !f.shard.holds(id)}
	if c.foreign {
		f.customers[id] = c
		return c // it has no record here
	}
	if f.blank {
		f.customers[id] = c
		return c
	}
	b, err := f.state.load(customerKey(id))
	if err == nil && b != nil {
		err = c.parse(b)
	}
	if err != nil {
		f.err = fmt.Errorf("state of customer %s: %w", id, err)
		return nil
	}
	f.customers[id] = c
	return c
}

func (f *fold) dirty(s *subject) {
	if !s.dirty {
		s.dirty = true
		f.touched = append(f.touched, s)
	}
}

func (f *fold) change(c *cust) {
	if !c.changed {
		c.changed = true
		f.changed = append(f.changed, c)
	}
	if !c.unsaid && !f.silent && !c.foreign {
		c.unsaid = true
		f.unsaid = append(f.unsaid, c)
	}
}

func hasAmount(t *lifecycle.Touch) bool { return t.Order.State == commerce.AmountRead }
