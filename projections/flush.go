package projections

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sort"
	"strings"
	"sync"
	"unsafe"

	"github.com/google/uuid"

	"sojourn/condition"
	"sojourn/domain"
	"sojourn/domain/customer"
	"sojourn/domain/lifecycle"
	"sojourn/domain/loyalty"
	"sojourn/eventstore"
	"sojourn/warehouse"
)

// Rows are what one flush writes to the tables.
type Rows struct {
	// Flush is the flush's id: the log range it is of and a random part, the same
	// when it is done again after a crash. After is where the range begins.
	Flush        string
	After        eventstore.Position
	tried, wrote bool // the touchpoints

	Touchpoints *warehouse.TouchpointBlock
	// Tables are the rows of all other tables, as each goroutine of the flush made
	// them: no two have a row of the same key.
	Tables []TableRows
}

// TableRows are rows of all tables but touchpoints.
type TableRows struct {
	Subjects    []warehouse.Subject
	Customers   []warehouse.Customer
	Transitions []warehouse.Transition
	Conflicts   []warehouse.Conflict
	Accounts    []warehouse.Account

	AccountMembers []warehouse.AccountMember
	LoyaltyStatus  []warehouse.LoyaltyStatus
	LoyaltyLedger  []warehouse.LoyaltyMovement
	TierChanges    []warehouse.TierChange
	Satisfaction   []warehouse.Satisfaction
	StatusChanges  []warehouse.StatusChange
	Cases          []warehouse.Case
	Surveys        []warehouse.Survey
	Feedback       []warehouse.Feedback
	Handlings      []warehouse.Handling
	Deliveries     []warehouse.DeliveryFact
	SegmentStays   []warehouse.SegmentStay
}

// flush is everything that one batch of events changes.
type flush struct {
	to       eventstore.Position
	clock    domain.Millis
	rows     Rows
	speeches []speech
	records  []*records // of the state
	// announced: other processes know of it; mending: its rows are written; aloud: see
	// intent.
	announced, mending, aloud bool
}

// wake finds the customers and accounts whose deadline has come by a clock, and has
// computed what time has changed, also of those that an event of the batch was about.
func (f *fold) wake(s *state, clock domain.Millis) error {
	if err := f.wakeAccounts(s, clock); err != nil {
		return err
	}
	ids, err := s.due(customerDeadlines, clock)
	if err != nil {
		return err
	}
	for _, id := range ids {
		c := f.customer(id)
		if f.err != nil {
			return f.err
		}
		if c.deadline == 0 || c.deadline > clock {
			continue
		}
		if !c.changed {
			if _, err := f.whole(id); err != nil {
				return err
			}
		}
		c.comeDue(clock)
		f.change(c)
	}
	return nil
}

// comeDue has the lines computed that time has changed by a clock. A touchpoint that
// the clock had not reached may be in any of them.
func (c *cust) comeDue(clock domain.Millis) {
	future := slices.ContainsFunc(c.members, func(m *subject) bool { return m.facts.LastSeen >= c.deadline })
	if future || c.nextLoyalty != 0 && c.nextLoyalty <= clock {
		c.due |= customer.Loyalty
	}
	if future || c.nextStatus != 0 && c.nextStatus <= clock {
		c.due |= customer.Satisfaction
	}
	if future || c.nextSegment != 0 && c.nextSegment <= clock {
		c.due |= changedSegments
	}
}

// compare looks whether the statements about a customer say what its transitions
// are, and if not has it flushed, with nothing of it as news.
func (f *fold) compare(id uuid.UUID) error {
	c, err := f.whole(id)
	if err != nil {
		return err
	}
	if !c.saysWhatStands() {
		c.news = make([]bool, c.n)
		f.change(c)
	}
	if len(c.members) == 0 {
		if c.said.count() > 0 {
			f.change(c)
		}
		return nil
	}
	is := f.rules.linesAt(c.basis(f.rules), f.clock)
	if !c.saysLines(is) {
		for i := range is {
			is[i].news = make([]bool, len(is[i].all))
		}
		c.lines, c.due = is, allLines
		f.change(c)
	}
	return nil
}

// whole is a customer with its members and transitions; one that is no more has
// neither.
func (f *fold) whole(id uuid.UUID) (*cust, error) {
	c := f.customer(id)
	if f.err != nil {
		return nil, f.err
	}
	if len(c.members) > 0 || c.root == "" {
		return c, nil
	}
	root := f.find(c.root)
	if f.err != nil {
		return nil, f.err
	}
	if root == nil || f.customerOf(root) != c {
		return nil, errors.Join(f.err, fmt.Errorf("state of customer %s does not agree with its subjects", id))
	}
	return c, nil
}

// piece is the part of a flush that one goroutine makes: of customers and
// subjects that no other piece is about.
type piece struct {
	rows     TableRows
	speeches []speech
	state    records
	touched  []*subject // beside those the fold knows of
	buf      []byte
	err      error
	breath   breath
	folder   loyalty.Folder
}

// flush takes out what has changed since the last flush, as of a clock, and
// encodes the state as it then is.
func (f *fold) flush(clock domain.Millis) (*flush, error) {
	version := warehouse.Version{Position: uint64(f.position), Clock: int64(clock)}
	f.touchAccounts()
	if err := f.loadShown(); err != nil {
		return nil, err
	}
	pieces := inPieces(f.goroutines(), f.changed, func(i, n int, p *piece) { p.rows = f.spare.take(i, n) },
		politely(f, func(p *piece, c *cust) error { return f.flushRecord(c, version, p) }))
	for _, s := range f.touched {
		switch {
		case s.nobody:
			moved(s, warehouse.Nobody, version, pieces[0])
		case s.lone:
			// Only named, and by nobody that it belongs to: it is its own again.
			moved(s, s.id, version, pieces[0])
		}
	}
	for _, p := range pieces {
		f.touched = append(f.touched, p.touched...)
	}
	all := append(slices.Clip(pieces), inPieces(f.goroutines(), f.touched, func(int, int, *piece) {}, politely(f, flushSubject))...)

	first := pieces[0]
	if err := f.flushIdentity(first, version); err != nil {
		return nil, err
	}
	f.flushCommands(first)
	if err := f.flushAccounts(first, version); err != nil {
		return nil, err
	}
	first.rows.Feedback, f.feedback = f.feedback, nil
	first.rows.Handlings, f.handlings = f.handlings, nil
	first.rows.Deliveries, f.deliveries = f.deliveries, nil
	out := &flush{to: f.position, clock: clock}
	for _, p := range pieces {
		f.shard.only(&p.rows)
		out.speeches = append(out.speeches, p.speeches...)
		out.rows.Tables = append(out.rows.Tables, p.rows)
	}
	f.spare.keep(out.rows.Tables)
	for _, p := range all {
		if p.err != nil {
			return nil, p.err
		}
		out.records = append(out.records, &p.state)
	}
	// What stands behind the end of a slice is not collected.
	clear(f.changed)
	clear(f.touched)
	f.changed, f.touched = f.changed[:0], f.touched[:0]
	f.hushed()
	f.events = 0
	f.clock, f.step = clock, max(f.step, clock)
	return out, f.err
}

// inPieces does something for all of a list, in as many pieces as there are
// goroutines, and processors for them, where the list is long. The pieces are in the order of the list.
// ready is called first in each, with its number and how much it has.
func inPieces[T any](goroutines int, all []T, ready func(i, n int, p *piece), do func(*piece, T) error) []*piece {
	n := 1
	if len(all) > 1000 {
		n = min(goroutines, runtime.GOMAXPROCS(0))
	}
	pieces := make([]*piece, n)
	var wait sync.WaitGroup
	for i := range pieces {
		p := &piece{}
		part := all[len(all)*i/n : len(all)*(i+1)/n]
		pieces[i] = p
		wait.Go(func() {
			ready(i, len(part), p)
			for _, x := range part {
				if p.err = do(p, x); p.err != nil {
					return
				}
			}
		})
	}
	wait.Wait()
	return pieces
}

// flushRecord takes out a customer: its rows, what is to be said of it, and its
// record.
func (f *fold) flushRecord(c *cust, version warehouse.Version, p *piece) error {
	c.changed = false
	if len(c.members) > 0 {
		c.advance(domain.Millis(version.Clock))
		for _, m := range c.members {
			moved(m, c.id, version, p)
		}
	}
	if c.foreign {
		return nil
	}
	if err := f.flushCustomer(c, version, p); err != nil {
		return err
	}
	p.buf = c.append(p.buf[:0])
	p.state.set(customerKey(c.id), p.buf)
	return nil
}

// flushSubject takes out a subject's record.
func flushSubject(p *piece, s *subject) error {
	s.dirty = false
	p.buf = s.append(p.buf[:0])
	p.state.set(subjectKey(s.stream), p.buf)
	if s.tiesDirty {
		s.tiesDirty = false
		p.buf = s.ties.append(p.buf[:0])
		p.state.set(tiesKey(s.stream), p.buf)
	}
	if s.membersDirty {
		s.membersDirty = false
		p.buf = appendStrings(append(p.buf[:0], stateVersion), s.members)
		p.state.set(membersKey(s.stream), p.buf)
	}
	if s.segmentsDirty {
		s.segmentsDirty = false
		p.buf = s.segments.append(p.buf[:0])
		p.state.set(segmentsKey(s.stream), p.buf)
	}
	if !s.stored {
		s.stored = true
		p.state.set(idKey(s.id), []byte(s.stream))
	}
	return nil
}

// flushIdentity takes out the conflicts that have come or gone, and the decisions.
func (f *fold) flushIdentity(out *piece, version warehouse.Version) error {
	for k, c := range f.conflicts {
		out.rows.Conflicts = append(out.rows.Conflicts, conflictRow(k, c, version))
	}
	slices.SortFunc(out.rows.Conflicts, func(a, b warehouse.Conflict) int {
		return cmp.Or(slices.Compare(a.EventID[:], b.EventID[:]), slices.Compare(a.OtherID[:], b.OtherID[:]))
	})
	clear(f.conflicts)
	for _, d := range f.newDecisions {
		record, err := d.append(nil)
		if err != nil {
			return err
		}
		out.state.set(decisionKey(d.position), record)
	}
	f.newDecisions = f.newDecisions[:0]
	return nil
}

// moved writes the subject's row where its customer is another than the table
// has.
func moved(s *subject, customer uuid.UUID, version warehouse.Version, out *piece) {
	was := s.moved
	if was == uuid.Nil {
		was = s.id
	}
	if was == customer {
		return
	}
	s.moved = customer
	out.rows.Subjects = append(out.rows.Subjects, warehouse.Subject{
		SubjectID: s.id, Subject: s.String(), Kind: string(s.kind), CustomerID: customer, Version: version,
	})
	if !s.dirty {
		s.dirty = true
		out.touched = append(out.touched, s)
	}
}

func (f *fold) flushCustomer(c *cust, version warehouse.Version, p *piece) error {
	stands := c.all[:c.n]
	hashes := make([]uint64, len(stands))
	for i := range stands {
		hashes[i] = transitionHash(&stands[i])
	}
	row := func(i int) warehouse.Transition {
		r := warehouse.Transition{CustomerID: c.id, Seq: uint32(i + 1), PolicyVersion: uint32(f.rules.Version), Version: version}
		if i >= len(stands) {
			r.Removed = true
			return r
		}
		t := &stands[i]
		r.From, r.To, r.At = string(t.From), string(t.To), int64(t.At)
		r.Reason, r.Cause = t.Reason, t.Cause.String()
		return r
	}
	for i := range max(len(stands), len(c.rows)) {
		if i >= len(stands) || i >= len(c.rows) || hashes[i] != c.rows[i] {
			p.rows.Transitions = append(p.rows.Transitions, row(i))
		}
	}
	c.rows = hashes
	sp := speech{customer: c.id, before: c.said}
	f.speakOfStage(c, &sp)
	if err := f.flushLines(c, version, p, &sp); err != nil {
		return err
	}
	if f.say(c, &sp, version) {
		p.speeches = append(p.speeches, sp)
	}
	switch {
	case c.n > 0:
		p.rows.Customers = append(p.rows.Customers, f.customerRow(c, version))
		c.hasRow = true
	case c.hasRow:
		p.rows.Customers = append(p.rows.Customers, warehouse.Customer{CustomerID: c.id, Version: version, Removed: true})
		c.hasRow = false
	}
	var deadline domain.Millis
	if c.n < len(c.all) {
		deadline = c.all[c.n].At
	}
	for _, next := range [...]domain.Millis{c.nextLoyalty, c.nextStatus, c.nextSegment} {
		if next != 0 && (deadline == 0 || next < deadline) {
			deadline = next
		}
	}
	// A touchpoint that the clock has not reached counts when it does.
	if next := domain.Millis(version.Clock) + 1; slices.ContainsFunc(c.members, func(m *subject) bool { return m.facts.LastSeen >= next && m.facts.Touchpoints > 0 }) {
		if deadline == 0 || next < deadline {
			deadline = next
		}
	}
	moveDeadline(&p.state, customerDeadlines, c.id, &c.deadline, deadline)
	return nil
}

// moveDeadline moves what stands in an index of deadlines at one instant to another;
// 0 is none.
func moveDeadline(state *records, index byte, id uuid.UUID, at *domain.Millis, to domain.Millis) {
	if *at == to {
		return
	}
	if *at != 0 {
		state.delete(deadlineKey(index, *at, id))
	}
	*at = to
	if to != 0 {
		state.set(deadlineKey(index, to, id), nil)
	}
}

// customerRow is the customer as of the clock of a flush.
func (f *fold) customerRow(c *cust, version warehouse.Version) warehouse.Customer {
	facts := c.facts()
	clock := domain.Millis(version.Clock)
	last := &c.all[c.n-1]
	totals := lifecycle.TotalsAt(&facts.Lifecycle, clock, f.rules.Policy.Currency)
	return warehouse.Customer{
		CustomerID: c.id, UserIDs: userIDs(c.members),
		Stage: string(last.To), StageSince: int64(last.At),
		FirstSeen: int64(facts.FirstSeen), LastSeen: int64(facts.LastSeen),
		Purchases: uint32(totals.Purchases), Refunds: uint32(totals.Refunds),
		Revenue: moneyOf(totals), Outlook: outlookOf(c.all[c.n:]), Traits: traitsJSON(facts), Version: version,
	}
}

// moneyOf is the revenue in the order of currencies.
func moneyOf(t lifecycle.Totals) (all []warehouse.Money) {
	for cur, amount := range t.Revenue {
		all = append(all, warehouse.Money{Currency: cur, Amount: int64(amount)})
	}
	slices.SortFunc(all, func(a, b warehouse.Money) int { return strings.Compare(a.Currency, b.Currency) })
	return all
}

// outlookOf is what changes of stage to come look like in a row.
func outlookOf(future []lifecycle.Transition) (all []warehouse.StageAt) {
	for _, t := range future {
		all = append(all, warehouse.StageAt{At: int64(t.At), Stage: string(t.To)})
	}
	return all
}

// userIDs are the values of the users among the subjects, in order.
func userIDs(members []*subject) []string {
	ids := []string{}
	for _, m := range members {
		if m.kind == domain.User {
			ids = append(ids, m.value)
		}
	}
	sort.Strings(ids)
	return ids
}

// traitsJSON is the JSON object of the traits that stand, by key.
func traitsJSON(f *customer.Facts) []byte {
	out := []byte{'{'}
	for _, t := range f.LiveTraits() {
		if len(out) > 1 {
			out = append(out, ',')
		}
		key, _ := json.Marshal(t.Key)
		out = append(out, key...)
		out = append(out, ':')
		out = append(out, condition.Plain(t.Value)...)
	}
	return append(out, '}')
}

func bytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// evict drops what has not changed from memory once there is more than limit.
// It must only be called when the state holds all that has been flushed.
func (f *fold) evict(limit int) {
	f.evictAccounts(limit)
	f.strangers.evict(limit)
	if len(f.subjects) <= limit && len(f.customers) <= limit {
		return
	}
	f.blank = false
	keep := limit * 3 / 4
	for id, c := range f.customers {
		if len(f.subjects) <= keep && len(f.customers) <= keep {
			return
		}
		if c.changed || slices.ContainsFunc(c.members, func(m *subject) bool { return m.dirty }) {
			continue
		}
		for _, m := range c.members {
			f.forget(keyOf(m.stream), m)
		}
		delete(f.customers, id)
	}
	for key, s := range f.subjects {
		if len(f.subjects) <= keep {
			return
		}
		if !s.dirty && s.cust == nil {
			f.forget(key, s)
		}
	}
	clear(f.decisions)
	for _, d := range f.newDecisions {
		f.decisions[d.position] = d // the state does not have them yet
	}
	// Maps and lists keep the room that they once took.
	if len(f.subjects) == 0 && len(f.customers) == 0 {
		f.spare = spare{}
		f.subjects, f.customers = map[streamKey]*subject{}, map[uuid.UUID]*cust{}
	}
}

// evictAccounts drops accounts once they and their members are more than limit.
func (f *fold) evictAccounts(limit int) {
	n := len(f.accounts)
	for _, a := range f.accounts {
		n += len(a.memberships)
	}
	for id, a := range f.accounts {
		if n <= limit {
			return
		}
		if !a.changed {
			n -= 1 + len(a.memberships)
			delete(f.accounts, id)
		}
	}
}

// forget drops a subject from memory.
func (f *fold) forget(key streamKey, s *subject) {
	if s.cluster != nil {
		s.cluster.forget()
	}
	delete(f.subjects, key)
}

// The keys of the state. Each kind of record has a letter of its own.
func subjectKey(stream string) []byte { return append([]byte{'s'}, stream...) }
func customerKey(id [16]byte) []byte  { return append([]byte{'k'}, id[:]...) }
func idKey(id [16]byte) []byte        { return append([]byte{'i'}, id[:]...) }
func tiesKey(stream string) []byte    { return append([]byte{'t'}, stream...) }
func membersKey(stream string) []byte { return append([]byte{'m'}, stream...) }

func decisionKey(p eventstore.Position) []byte {
	return binary.BigEndian.AppendUint64([]byte{'x'}, uint64(p))
}

func deadlineKey(index byte, at domain.Millis, id [16]byte) []byte {
	// The sign bit is flipped, so that times before 1970 sort first.
	b := binary.BigEndian.AppendUint64([]byte{index}, uint64(at)^(1<<63))
	return append(b, id[:]...)
}
