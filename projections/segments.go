package projections

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/google/uuid"

	"sojourn/condition"
	"sojourn/domain"
	"sojourn/domain/customer"
	"sojourn/domain/lifecycle"
	"sojourn/domain/loyalty"
	"sojourn/domain/policy"
	"sojourn/domain/satisfaction"
	"sojourn/warehouse"
)

// Segments are lines beside the tiers and the satisfaction: which of them a customer is
// in is folded from its facts, those that the others follow from and, of the
// touchpoints, traits and accounts that any condition names, facts of their own. Where
// there are no segments nothing of this is kept, read or asked for.

// segmentSet are the segments in force.
type segmentSet struct {
	all   []segment // those that a condition names stand before it
	needs condition.Needs
	// What the conditions count, by name and by meaning: indexes of needs.Touchpoints.
	byName, byMeaning map[string]int
	traits            map[string]bool
}

type segment struct {
	name      string
	condition *condition.Condition
}

// setOf is an empty set that keeps what some needs ask for.
func setOf(needs *condition.Needs) *segmentSet {
	s := &segmentSet{needs: *needs, byName: map[string]int{}, byMeaning: map[string]int{}, traits: map[string]bool{}}
	for i, t := range needs.Touchpoints {
		if t.Name != "" {
			s.byName[t.Name] = i
		} else {
			s.byMeaning[t.Meaning] = i
		}
	}
	for _, key := range needs.Traits {
		s.traits[key] = true
	}
	return s
}

// segmentTouch is what the segments take of a touchpoint.
type segmentTouch struct {
	picked           [2]int // indexes of needs.Touchpoints, -1 where there is none
	amount           domain.Decimal
	currency         string
	traits           []customer.Trait
	groupID          string
	picks, hasAmount bool
}

// touch is what the segments take of a touchpoint, nil where that is nothing.
func (s *segmentSet) touch(r *Rules, h *domain.Header, rule policy.Rule, t *customer.Touch, groupID string) *segmentTouch {
	out := segmentTouch{picked: [2]int{-1, -1}, groupID: groupID}
	for i, found := range [...]func() (int, bool){
		func() (int, bool) { n, ok := s.byName[h.Name]; return n, ok },
		func() (int, bool) { n, ok := s.byMeaning[string(rule.Meaning)]; return n, ok },
	} {
		if n, ok := found(); ok {
			out.picked[i], out.picks = n, true
		}
	}
	if out.picks && hasAmount(&t.Touch) {
		if out.currency = r.currency(&t.Touch); out.currency != "" {
			out.amount, out.hasAmount = t.Order.Amount, true
		}
	}
	for _, trait := range t.Traits {
		if s.traits[trait.Key] {
			out.traits = append(out.traits, trait)
		}
	}
	if !s.needs.Accounts {
		out.groupID = ""
	}
	if !out.picks && len(out.traits) == 0 && out.groupID == "" {
		return nil
	}
	return &out
}

// segmentFacts are what the conditions need of a subject's touchpoints beyond the other
// facts.
type segmentFacts struct {
	touches  [][]occurrence // by index of needs.Touchpoints
	traits   []customer.Trait
	accounts []attached
}

type occurrence struct {
	ref lifecycle.Ref
	// amount counts where currency is not empty.
	amount   domain.Decimal
	currency string
}

type attached struct {
	groupID string
	ref     lifecycle.Ref // the earliest group call
}

func (f *segmentFacts) len() (n int) {
	for _, list := range f.touches {
		n += len(list)
	}
	return n + len(f.traits)
}

func (f *segmentFacts) add(ref lifecycle.Ref, t *segmentTouch, s *segmentSet) {
	if f.touches == nil {
		f.touches = make([][]occurrence, len(s.needs.Touchpoints))
	}
	for _, i := range t.picked {
		if i >= 0 {
			f.touches[i] = append(f.touches[i], occurrence{ref, t.amount, t.currency})
		}
	}
	for _, trait := range t.traits {
		trait.Ref = ref
		f.traits = append(f.traits, trait)
	}
	if t.groupID != "" {
		f.attach(attached{t.groupID, ref})
	}
}

func (f *segmentFacts) attach(a attached) {
	i := slices.IndexFunc(f.accounts, func(b attached) bool { return a.groupID == b.groupID })
	switch {
	case i < 0:
		f.accounts = append(f.accounts, a)
	case a.ref.Compare(f.accounts[i].ref) < 0:
		f.accounts[i] = a
	}
}

func (f *segmentFacts) merge(o *segmentFacts) {
	for i, list := range o.touches {
		if f.touches == nil {
			f.touches = make([][]occurrence, len(o.touches))
		}
		f.touches[i] = append(f.touches[i], list...)
	}
	f.traits = append(f.traits, o.traits...)
	for _, a := range o.accounts {
		f.attach(a)
	}
}

// segmentBasis is what segment lines are folded from beside points and satisfaction.
type segmentBasis struct {
	lifecycle *lifecycle.Facts
	facts     *segmentFacts
}

// basis is what a customer's lines are folded from.
func (c *cust) basis(r *Rules) *basis {
	facts := c.facts()
	b := &basis{loyalty: &facts.Loyalty, satisfaction: &facts.Satisfaction}
	if r.segments != nil {
		b.segments = &segmentBasis{&facts.Lifecycle, c.segmentFacts()}
	}
	return b
}

// segmentFacts are those of all its subjects. Where there is but one they are shared.
func (c *cust) segmentFacts() *segmentFacts {
	if len(c.members) == 1 && c.members[0].segments != nil {
		return c.members[0].segments
	}
	all := &segmentFacts{}
	for _, m := range c.members {
		if m.segments != nil {
			all.merge(m.segments)
		}
	}
	return all
}

func (b *basis) clone() *basis {
	l, s := b.loyalty.Clone(), b.satisfaction.Clone()
	out := &basis{loyalty: &l, satisfaction: &s}
	if b.segments != nil {
		stages, own := b.segments.lifecycle.Clone(), &segmentFacts{}
		own.merge(b.segments.facts)
		out.segments = &segmentBasis{&stages, own}
	}
	return out
}

// emptyBasis is that of nobody.
func (r *Rules) emptyBasis() *basis {
	b := &basis{loyalty: &loyalty.Facts{}, satisfaction: &satisfaction.Facts{}}
	if r.segments != nil {
		b.segments = &segmentBasis{&lifecycle.Facts{}, &segmentFacts{}}
	}
	return b
}

// segmentLines are the lines of the segments at an instant. ledgers are the folds of the
// programmes up to it, by programme, computed where they are not given.
func (r *Rules) segmentLines(b *basis, at domain.Millis, ledgers map[string]*loyalty.Ledger) []line {
	lines := make([]line, len(r.segments.all))
	subject := r.conditionSubject(b, &r.segments.needs, r.segments, at, ledgers)
	for i := range r.segments.all {
		s := &r.segments.all[i]
		l := line{what: aboutSegment, programme: s.name, next: domain.MaxTime}
		if subject != nil {
			var steps []condition.Step[bool]
			steps, l.next = s.condition.Changes(subject, at)
			subject.Segments[s.name] = steps
			l.all = make([]change, 0, len(steps))
			for j := range steps {
				c := change{from: segmentOut, to: segmentIn, at: steps[j].At, rule: steps[j].By.Rule, touchpoint: steps[j].By.Touchpoint, reason: "meets the condition of the segment"}
				if !steps[j].Value {
					c.from, c.to, c.reason = segmentIn, segmentOut, "meets the condition of the segment no more"
				}
				l.all = append(l.all, c)
			}
		}
		lines[i] = l
	}
	return lines
}

// From and To of a statement about a segment.
const (
	segmentIn  = "in"
	segmentOut = "out"
)

// steps are the changes of a segment's line.
func (l *line) steps() []condition.Step[bool] {
	all := make([]condition.Step[bool], len(l.all))
	for i := range l.all {
		c := &l.all[i]
		all[i] = condition.Step[bool]{At: c.at, Value: c.to == segmentIn, By: condition.Cause{Rule: c.rule, Touchpoint: c.touchpoint}}
	}
	return all
}

// conditionSubject is what conditions with some needs may ask of a customer, as is known
// at an instant; nil where there is no touchpoint. The facts are those that a set keeps.
func (r *Rules) conditionSubject(b *basis, needs *condition.Needs, set *segmentSet, at domain.Millis, ledgers map[string]*loyalty.Ledger) *condition.Subject {
	first, ok := b.segments.lifecycle.First()
	if !ok {
		return nil
	}
	s := &condition.Subject{
		FirstSeen: first.At, First: first.ID,
		Tiers: map[string][]condition.Step[string]{}, Points: map[string][]condition.Step[int64]{},
		Expiring: map[condition.Expiring][]condition.Step[int64]{},
		Traits:   map[string][]condition.Step[[]byte]{}, Accounts: map[string]condition.Touch{},
		Segments: map[string][]condition.Step[bool]{}, Touchpoints: map[condition.Selector][]condition.Touch{},
	}
	if needs.Stage {
		for _, t := range lifecycle.Transitions(b.segments.lifecycle, r.Policy.Lifecycle, r.Policy.Currency) {
			s.Stage = append(s.Stage, condition.Step[string]{At: t.At, Value: string(t.To), By: condition.Cause(t.Cause)})
		}
	}
	if needs.Satisfaction && !b.satisfaction.Empty() {
		r.satisfactionSteps(s, b.satisfaction)
	}
	if len(needs.Tiers)+len(needs.Points)+len(needs.Expiring) > 0 {
		r.loyaltySteps(s, b.loyalty, needs, at, ledgers)
	}
	facts := b.segments.facts
	traits := slices.Clone(facts.traits)
	slices.SortStableFunc(traits, func(a, b customer.Trait) int { return a.Ref.Compare(b.Ref) })
	for i := range traits {
		t := &traits[i]
		s.Traits[t.Key] = append(s.Traits[t.Key], condition.Step[[]byte]{At: t.Ref.At, Value: t.Value, By: condition.Cause{Touchpoint: t.Ref.ID}})
	}
	for _, a := range facts.accounts {
		if !r.compiled.Identity().Nobody(a.groupID) {
			s.Accounts[a.groupID] = condition.Touch{At: a.ref.At, ID: a.ref.ID}
		}
	}
	for i, list := range facts.touches {
		sorted := list
		byRef := func(a, b occurrence) int { return a.ref.Compare(b.ref) }
		if !slices.IsSortedFunc(list, byRef) {
			sorted = slices.Clone(list)
			slices.SortFunc(sorted, byRef)
		}
		touches := make([]condition.Touch, len(sorted))
		for j, o := range sorted {
			touches[j] = condition.Touch{At: o.ref.At, ID: o.ref.ID, Amount: o.amount, Currency: o.currency}
		}
		s.Touchpoints[set.needs.Touchpoints[i].Selector] = touches
	}
	return s
}

func (r *Rules) satisfactionSteps(s *condition.Subject, facts *satisfaction.Facts) {
	for _, p := range satisfaction.Points(facts, r.satisfaction) {
		by := condition.Cause(p.Cause)
		index := math.NaN()
		if p.Known {
			index = p.Index
		}
		before := string(satisfaction.Unknown)
		if n := len(s.Status); n > 0 {
			before = s.Status[n-1].Value
		}
		if string(p.Status) != before {
			s.Status = append(s.Status, condition.Step[string]{At: p.At, Value: string(p.Status), By: by})
		}
		s.Index = append(s.Index, condition.Step[float64]{At: p.At, Value: index, By: by})
		s.Complaints = append(s.Complaints, condition.Step[int64]{At: p.At, Value: int64(p.OpenComplaints), By: by})
	}
}

func (r *Rules) loyaltySteps(s *condition.Subject, facts *loyalty.Facts, needs *condition.Needs, at domain.Millis, ledgers map[string]*loyalty.Ledger) {
	until := func(t domain.Millis) {
		if t != policy.Never && (s.Until == 0 || t < s.Until) {
			s.Until = t
		}
	}
	until(facts.After(at))
	for _, p := range r.book.Programmes() {
		_, tier := slices.BinarySearch(needs.Tiers, p.ID)
		_, points := slices.BinarySearch(needs.Points, p.ID)
		expiring := slices.ContainsFunc(needs.Expiring, func(x condition.Expiring) bool { return x.Programme == p.ID })
		if !tier && !points && !expiring {
			continue
		}
		l := ledgers[p.ID]
		if l == nil {
			folded := loyalty.Fold(facts, p, at)
			l = &folded
		}
		until(l.Next)
		for i := range l.Transitions {
			t := &l.Transitions[i]
			s.Tiers[p.ID] = append(s.Tiers[p.ID], condition.Step[string]{At: t.At, Value: t.To, By: condition.Cause(t.Cause)})
		}
		var steps []condition.Step[int64]
		for i := range l.Movements {
			m := &l.Movements[i]
			steps = append(steps, condition.Step[int64]{At: m.At, Value: m.Balance.Available, By: condition.Cause(m.Cause)})
		}
		if l.Enrolled != policy.Never && (len(steps) == 0 || l.Enrolled < steps[0].At) {
			steps = slices.Insert(steps, 0, condition.Step[int64]{At: l.Enrolled})
		}
		s.Points[p.ID] = steps
		for _, x := range needs.Expiring {
			if x.Programme == p.ID {
				s.Expiring[x] = expiringSteps(l, x.Within)
			}
		}
	}
}

// expiringSteps are how many points expire within a time from each instant on: those
// of lots whose expiry is that near, by what was left of them.
func expiringSteps(l *loyalty.Ledger, within domain.Millis) []condition.Step[int64] {
	var moves []condition.Step[int64] // Value is what is added
	left := make([]int64, len(l.Lots))
	near := func(lot int) domain.Millis { return l.Lots[lot].Expires - within }
	for i := range l.Movements {
		m := &l.Movements[i]
		if m.Lot == loyalty.NoLot || l.Lots[m.Lot].Expires == policy.Never {
			continue
		}
		if n := m.Available + m.Pending; m.At < near(m.Lot) {
			left[m.Lot] += n
		} else if n != 0 {
			moves = append(moves, condition.Step[int64]{At: m.At, Value: n, By: condition.Cause(m.Cause)})
		}
	}
	for i, n := range left {
		if n != 0 {
			by := condition.Cause{Rule: condition.RuleSegment, Touchpoint: l.Lots[i].Ref.ID}
			moves = append(moves, condition.Step[int64]{At: near(i), Value: n, By: by})
		}
	}
	slices.SortStableFunc(moves, func(a, b condition.Step[int64]) int { return cmp.Compare(a.At, b.At) })
	for i := 1; i < len(moves); i++ {
		moves[i].Value += moves[i-1].Value
	}
	return moves
}

// sentenceOf is what a statement says of a change of a line.
func (l *line) sentenceOf(i int) sentence {
	c := &l.all[i]
	if l.what != aboutSegment {
		return c.sentence(l.programme, l.news[i])
	}
	return sentence{c.hash(l.programme), Statement{
		Segment: l.programme, From: c.from, To: c.to, At: c.at.String(), Reason: c.reason, Cause: c.cause(), News: l.news[i],
	}}
}

// shownSegment is what the table has of a customer's stays in a segment.
type shownSegment struct {
	name  string
	stays []uint64
}

func (s *shown) segment(name string) *shownSegment {
	i, ok := slices.BinarySearchFunc(s.segments, name, func(s shownSegment, name string) int { return cmp.Compare(s.name, name) })
	if !ok {
		s.segments = slices.Insert(s.segments, i, shownSegment{name: name})
	}
	return &s.segments[i]
}

// showSegments writes the rows of a customer's stays, and keeps the lines to be said.
func (f *fold) showSegments(c *cust, version warehouse.Version, p *piece) {
	c.nextSegment = 0
	c.flushed = slices.DeleteFunc(c.flushed, func(l line) bool { return l.what == aboutSegment })
	if f.rules.segments == nil {
		return
	}
	var h hasher
	for _, l := range f.rules.segmentLines(c.basis(f.rules), domain.Millis(version.Clock), nil) {
		if !f.silent {
			c.flushed = append(c.flushed, l)
		}
		if l.next != domain.MaxTime && (c.nextSegment == 0 || l.next < c.nextSegment) {
			c.nextSegment = l.next
		}
		if len(l.all) == 0 && !slices.ContainsFunc(c.shown.segments, func(s shownSegment) bool { return s.name == l.programme }) {
			continue
		}
		hashes := make([]uint64, (len(l.all)+1)/2)
		for i := range hashes {
			h.reset()
			for _, change := range l.all[2*i : min(2*i+2, len(l.all))] {
				h.int(int64(change.at)).str(change.cause())
			}
			hashes[i] = h.sum()
		}
		s := c.shown.segment(l.programme)
		s.stays = differ(&p.rows.SegmentStays, s.stays, hashes, func(i int) warehouse.SegmentStay { return stayRow(c.id, l.programme, l.all, i, version) })
		if len(s.stays) == 0 {
			c.shown.segments = slices.DeleteFunc(c.shown.segments, func(s shownSegment) bool { return s.name == l.programme })
		}
	}
}

// stayRow is the row of a stay, a removed one behind the end of the changes.
func stayRow(id uuid.UUID, segment string, all []change, i int, version warehouse.Version) warehouse.SegmentStay {
	r := warehouse.SegmentStay{Segment: segment, CustomerID: id, Seq: uint32(i + 1), Version: version, Removed: 2*i >= len(all)}
	if r.Removed {
		return r
	}
	r.Entered, r.EnteredCause = int64(all[2*i].at), all[2*i].cause()
	if 2*i+1 < len(all) {
		r.Left, r.LeftCause = int64(all[2*i+1].at), all[2*i+1].cause()
	}
	return r
}

// noteSegments takes a touchpoint into the facts of one of a customer's subjects.
func (f *fold) noteSegments(s *subject, ref lifecycle.Ref, t *segmentTouch) {
	if t == nil {
		return
	}
	if s.segments == nil {
		s.segments = &segmentFacts{}
	}
	s.segments.add(ref, t, f.rules.segments)
	s.segmentsDirty = true
}

func segmentsKey(stream string) []byte { return append([]byte{'q'}, stream...) }

// loadSegments reads the facts that segments need of a subject.
func (f *fold) loadSegments(s *subject) error {
	b, err := f.state.load(segmentsKey(s.stream))
	if err != nil || b == nil {
		return err
	}
	s.segments = &segmentFacts{}
	if err := s.segments.parse(b, len(f.rules.segments.needs.Touchpoints)); err != nil {
		return fmt.Errorf("state of %s: %w", s.stream, err)
	}
	return nil
}
