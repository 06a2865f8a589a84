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
	"sojourn/domain/policy"
	"sojourn/eventstore"
)

// Rules are a policy as a projection uses it.
type Rules struct {
	Version  int
	Policy   policy.Policy
	compiled *policy.Compiled
}

// NewRules compiles a policy.
func NewRules(version int, p policy.Policy) *Rules {
	return &Rules{Version: version, Policy: p, compiled: p.Compile()}
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

// loader reads the records of the state; nil where there is none. What it
// returns is valid until the next call.
type loader interface {
	load(key []byte) ([]byte, error)
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

	position eventstore.Position
	// clock is that of the last flush, step that of the event at hand, and before
	// the instant up to which time had passed when that event came.
	clock, step, before domain.Millis
	// aliases says that an alias was ever seen: only then can a new user id undo a
	// join.
	aliases bool

	subjects  map[streamKey]*subject
	customers map[uuid.UUID]*cust
	touched   []*subject  // dirty
	moves     []ownership // of the event at hand
	changed   []*cust
	events    int
	err       error
}

func newFold(rules *Rules, keyer domain.Keyer, state loader, logger *slog.Logger) *fold {
	return &fold{
		rules: rules, keyer: keyer, state: state, logger: logger,
		subjects: map[streamKey]*subject{}, customers: map[uuid.UUID]*cust{},
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
	}
	return f.err
}

func (f *fold) touchpoint(a *arrival) {
	s := f.subjectAt(a.key, a.stream)
	if f.err != nil {
		return
	}
	fresh := s.first == 0
	if fresh {
		s.first = a.position
		s.value = strings.Clone(a.value)
	}
	f.dirty(s)
	if f.changesOwners(a, s, fresh) {
		f.rejoin(s, &a.touch, a.traits, fresh)
		return
	}
	c := s.cust
	if c == nil {
		if c = f.customerOf(f.rootOf(s)); f.err != nil {
			return
		}
	}
	if s.facts.Add(a.touch, a.traits) {
		c.advance(f.before)
		c.replace(f.rules.transitions(c.facts()), f.step)
	}
	f.change(c)
}

// ownership is an anonymous subject whose owner changes.
type ownership struct {
	anon  *subject
	owner string
}

// changesOwners keeps the join that an event makes, if any, and finds what
// becomes of the anonymous subjects that it bears on. It reports whether any
// changes hands; f.moves then holds them.
func (f *fold) changesOwners(a *arrival, s *subject, fresh bool) bool {
	f.moves = f.moves[:0]
	if a.join {
		j := f.subject(a.joinStream)
		if f.err != nil {
			return false
		}
		if j.value == "" {
			j.value = strings.Clone(a.joinedValue)
		}
		if j.addEdge(edge{customer.Edge{Ref: a.ref, Anon: j.value, User: s.value, Alias: a.alias}, a.recordedAt}) {
			f.dirty(j)
			f.aliases = f.aliases || a.alias
		}
		s.link(j.stream)
		f.move(j)
	}
	if fresh && s.kind == domain.User && f.aliases {
		if a := f.find(f.keyer.Stream(domain.Subject{Kind: domain.Anon, Value: s.value})); a != nil {
			f.move(a)
		}
	}
	return len(f.moves) > 0 && f.err == nil
}

func (f *fold) move(a *subject) {
	if owner := f.ownerOf(a); owner != a.owner && f.err == nil {
		f.moves = append(f.moves, ownership{a, owner})
	}
}

// ownerOf is the stream of the user that an anonymous subject belongs to by its
// joins.
func (f *fold) ownerOf(a *subject) string {
	if len(a.edges) == 0 {
		return ""
	}
	edges := make([]customer.Edge, len(a.edges))
	for i := range a.edges {
		edges[i] = a.edges[i].Edge
	}
	user, ok := customer.Joins(edges, func(value string) bool {
		u := f.find(f.keyer.Stream(domain.Subject{Kind: domain.User, Value: value}))
		return u != nil && u.first > 0
	})
	if !ok {
		return ""
	}
	return f.keyer.Stream(domain.Subject{Kind: domain.User, Value: user})
}

// rejoin takes a touchpoint with which subjects change hands.
func (f *fold) rejoin(s *subject, t *lifecycle.Touch, traits []customer.Trait, fresh bool) {
	var before []*cust
	note := func(list []*cust, c *cust) []*cust {
		if c != nil && !slices.Contains(list, c) {
			return append(list, c)
		}
		return list
	}
	roots := []*subject{s}
	if !fresh {
		before = note(before, f.customerOf(f.rootOf(s)))
	}
	for _, m := range f.moves {
		heads := []*subject{f.rootOf(m.anon)}
		if m.owner != "" {
			heads = append(heads, f.subject(m.owner))
		}
		if f.err != nil {
			return
		}
		roots = append(append(roots, heads...), m.anon)
		for _, r := range heads {
			if r != s || !fresh {
				before = note(before, f.customerOf(r))
			}
		}
	}
	if f.err != nil {
		return
	}
	for _, c := range before {
		c.advance(f.before)
		for _, m := range c.members {
			m.cust = nil
		}
		c.members, c.root = nil, ""
		f.change(c)
	}
	for _, m := range f.moves {
		m.anon.owner = m.owner
		f.dirty(m.anon)
	}
	s.facts.Add(*t, traits)
	var after []*cust
	for _, r := range roots {
		if r == f.rootOf(r) {
			after = note(after, f.attach(r))
		}
	}
	if f.err != nil {
		return
	}
	for _, c := range after {
		if !slices.Contains(before, c) {
			// It is new or comes back: nothing of it stood.
			c.all, c.n, c.news = nil, 0, nil
		}
		c.replace(f.rules.transitions(c.facts()), f.step)
		f.change(c)
	}
	for _, c := range before {
		if len(c.members) == 0 {
			c.all, c.n, c.news = nil, 0, nil
		}
	}
}

// statement learns what was said from the log.
func (f *fold) statement(e *eventstore.Recorded) {
	id, ok := domain.StatementCustomer(e.Stream)
	if !ok {
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
	if s.owner == "" {
		return s
	}
	return f.subject(s.owner)
}

// customerOf is the customer whose head is root, with its members and the
// changes of stage that stood at the last flush, or nil where none of its
// subjects has a touchpoint.
func (f *fold) customerOf(root *subject) *cust {
	if root.cust != nil {
		return root.cust
	}
	c := f.attach(root)
	if c != nil {
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
		m.cust = c
	}
	return c
}

// members are the subjects of the customer whose head is root, the one that
// gives the id first, then in the order of the log.
func (f *fold) members(root *subject) []*subject {
	members := []*subject{root}
	for _, l := range root.links {
		if a := f.subject(l); f.err == nil && a.owner == root.stream {
			members = append(members, a)
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
func (f *fold) subject(stream string) *subject { return f.subjectAt(keyOf(stream), stream) }

func (f *fold) subjectAt(key streamKey, stream string) *subject {
	if s := f.findAt(key, stream); s != nil || f.err != nil {
		return s
	}
	kind, ok := domain.SubjectStream(stream)
	if !ok || key == (streamKey{}) {
		f.err = fmt.Errorf("touchpoint in stream %q, which is no subject's", stream)
		return nil
	}
	stream = strings.Clone(stream)
	s := &subject{stream: stream, id: domain.SubjectID(stream), kind: kind}
	f.subjects[key] = s
	return s
}

// find is the subject of a stream, or nil where it is not known.
func (f *fold) find(stream string) *subject { return f.findAt(keyOf(stream), stream) }

func (f *fold) findAt(key streamKey, stream string) *subject {
	if s, ok := f.subjects[key]; ok {
		return s
	}
	if f.err != nil {
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
	f.subjects[key] = s
	return s
}

// customer is the record of a customer, without its members.
func (f *fold) customer(id uuid.UUID) *cust {
	if c, ok := f.customers[id]; ok {
		return c
	}
	c := &cust{id: id}
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
}

func hasAmount(t *lifecycle.Touch) bool { return t.Order.State == commerce.AmountRead }
