package loyalty

import (
	"cmp"
	"container/heap"
	"math/big"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"

	"sojourn/domain"
	"sojourn/domain/policy"
)

// Fold computes the ledger of a programme at an instant, with all that happened
// at or before it. A later instant only appends: the movements and transitions up
// to an instant are the beginning of those up to a later one. At one instant
// there is first a change of the tier rules, then the enrolment, then the events
// in their order, then what time alone did: points become available, expire, are
// given for a birthday, and the hold of a tier ends.
func Fold(f *Facts, p *Programme, until domain.Millis) Ledger {
	return *new(Folder).Fold(f, p, until)
}

// Folder folds one ledger after another in the memory of the one before. The zero
// value is ready; it is not safe for concurrent use.
type Folder struct{ sim sim }

// Fold is like the function of that name. The ledger and its lists are valid until
// the next call.
func (fo *Folder) Fold(f *Facts, p *Programme, until domain.Millis) *Ledger {
	f.sort()
	s := &fo.sim
	s.reset(f, p)
	items := s.items(until)
	s.tiers.p, s.tiers.rules, s.tiers.enrolled, s.tiers.cause = p, p.tiers, s.enrolled, s.enrolCause
	s.run(items, until)
	s.finish(until)
	return &s.out
}

// Quote is how many points a touchpoint would earn, pending ones included, were
// it to happen on top of the facts. It is the touchpoint's own earning: rules in
// force, multipliers and the tier held just before are those at its instant.
func Quote(f *Facts, p *Programme, rules *Rulebook, t Touch) int64 {
	with := f.Clone()
	with.Add(t, rules)
	l := Fold(&with, p, t.At)
	var points int64
	for _, m := range l.Movements {
		if m.Kind == Earned && m.Cause == (Cause{Touchpoint: t.ID}) {
			points += m.Points
		}
	}
	return points
}

// sim goes through a customer's life in a programme.
type sim struct {
	p   *Programme
	f   *Facts
	out Ledger
	now domain.Millis

	enrolled   domain.Millis
	enrolCause Cause
	enrolNext  domain.Millis // the first behind until that an event before it gave
	joined     bool          // the enrolment has happened

	lots      []lot
	spendable []int32 // lots with available points, in spending order
	waiting   []int32 // lots with pending points, in spending order
	deadlines deadlines
	debts     []*debt // those still owed, the oldest first

	orders      map[string]*order
	redemptions map[uuid.UUID]*redemption
	transfers   map[uuid.UUID]CommandKind // by id, both ends

	// birthday is the next; the rest is the identify that told it.
	birthday     domain.Millis
	told         birthdayFact
	birthdayYear int // the last calendar year that gave points

	tiers tierSim
	list  []item
}

// maxKept bounds how many movements a Folder keeps the memory of.
const maxKept = 4096

// reset begins anew and keeps the memory.
func (s *sim) reset(f *Facts, p *Programme) {
	if cap(s.out.Movements) > maxKept {
		*s = sim{}
	}
	clear(s.orders)
	clear(s.redemptions)
	clear(s.transfers)
	*s = sim{
		p: p, f: f,
		out: Ledger{
			Programme: p.ID, Enrolled: policy.Never, ExpiringAt: policy.Never, Next: policy.Never,
			Movements: s.out.Movements[:0], Lots: s.out.Lots[:0], Transitions: s.out.Transitions[:0],
		},
		lots: s.lots[:0], spendable: s.spendable[:0], waiting: s.waiting[:0],
		deadlines: s.deadlines[:0], debts: s.debts[:0],
		orders: s.orders, redemptions: s.redemptions, transfers: s.transfers,
		birthday: policy.Never,
		tiers: tierSim{
			credits: s.tiers.credits[:0], points: s.tiers.points[:0], spend: s.tiers.spend[:0], shadow: s.tiers.shadow[:0],
		},
		list: s.list[:0],
	}
	if s.orders == nil {
		s.orders, s.redemptions, s.transfers = map[string]*order{}, map[uuid.UUID]*redemption{}, map[uuid.UUID]CommandKind{}
	}
}

// lot is a lot on its way.
type lot struct {
	Lot
	order  *order
	offset int64 // of the expired points, those that count as given back
}

// alloc is a number of points of a lot.
type alloc struct {
	lot int32
	n   int64
}

// debt is what one command or refund could not take.
type debt struct {
	owed int64
	paid []alloc
}

// redemption remembers where its points came from.
type redemption struct {
	from      []alloc
	debt      *debt
	cancelled bool
}

// The phases of an instant.
const (
	phaseTierRule = iota
	phaseEnrolment
	phaseEvent
	phaseAvailable
	phaseExpiry
	phaseBirthday
	phaseTierHold
)

// item is an event at its place.
type item struct {
	Ref
	kind  uint8
	index int32
}

const (
	itemOrder uint8 = iota
	itemEvent
	itemBirthday
	itemCommand
)

// items are the events that the programme looks at, in order. On the way it finds
// the enrolment.
func (s *sim) items(until domain.Millis) []item {
	s.enrolled, s.enrolNext = policy.Never, policy.Never
	enrol := func(at, event domain.Millis, c Cause) {
		if at < s.enrolled {
			s.enrolled, s.enrolCause = at, c
		}
		if event <= until && at > until {
			s.enrolNext = min(s.enrolNext, at)
		}
	}
	if s.f.hasSeen {
		at := s.p.enrolment(s.f.seen.At)
		c := Cause{Touchpoint: s.f.seen.ID}
		if at != s.f.seen.At {
			c.Rule = RuleEnrolment
		}
		enrol(at, s.f.seen.At, c)
	}
	items := slices.Grow(s.list, len(s.f.orders)+len(s.f.events)+len(s.f.commands))
	for i := range s.f.orders {
		items = append(items, item{s.f.orders[i].Ref, itemOrder, int32(i)})
	}
	for i := range s.f.events {
		items = append(items, item{s.f.events[i].Ref, itemEvent, int32(i)})
	}
	if slices.ContainsFunc(s.p.earning, func(v version[earning]) bool { return v.rules.birthday > 0 }) {
		for i := range s.f.birthdays {
			items = append(items, item{s.f.birthdays[i].Ref, itemBirthday, int32(i)})
		}
	}
	for i := range s.f.commands {
		c := &s.f.commands[i]
		if c.Programme != s.p.ID {
			continue
		}
		it := item{c.Ref, itemCommand, int32(i)}
		switch c.Kind {
		case Opening:
			if s.p.From != policy.Always {
				it.At = s.p.From
			}
			enrol(it.At, c.At, Cause{Touchpoint: c.ID})
		case Enroll:
			enrol(max(c.At, s.p.From), c.At, Cause{Touchpoint: c.ID})
		}
		if c.Kind == TransferOut || c.Kind == TransferIn {
			s.transfers[c.ID] = c.Kind
		}
		items = append(items, it)
	}
	slices.SortFunc(items, func(a, b item) int {
		return cmp.Or(a.Compare(b.Ref), cmp.Compare(a.kind, b.kind))
	})
	s.list = items
	return items
}

// run takes everything up to an instant, one phase of one instant after another.
func (s *sim) run(items []item, until domain.Millis) {
	next := 0
	for {
		at, phase := policy.Never, 0
		offer := func(t domain.Millis, ph int) {
			if t < at || t == at && ph < phase {
				at, phase = t, ph
			}
		}
		if t, ok := s.tiers.nextRule(); ok {
			offer(t, phaseTierRule)
		}
		if !s.joined {
			offer(s.enrolled, phaseEnrolment)
		}
		if next < len(items) {
			offer(items[next].At, phaseEvent)
		}
		if len(s.deadlines) > 0 {
			offer(s.deadlines[0].at, int(s.deadlines[0].phase))
		}
		offer(s.birthday, phaseBirthday)
		offer(s.tiers.held.until(), phaseTierHold)
		if at > until || at == policy.Never {
			return
		}
		s.now = at
		switch phase {
		case phaseTierRule:
			s.changeTier(Cause{RuleTierRule, s.tiers.held.cause}, "the rules of the tiers changed", func(h *holding) { s.tiers.changeRule(h, at, len(s.tiers.credits)) })
		case phaseEnrolment:
			s.joined = true
			s.out.Enrolled = s.enrolled
			s.changeTier(s.enrolCause, "joined the programme", func(h *holding) { s.tiers.enter(h, at, len(s.tiers.credits)) })
		case phaseEvent:
			s.event(items[next])
			next++
		case phaseAvailable, phaseExpiry:
			d := heap.Pop(&s.deadlines).(deadline)
			if phase == phaseAvailable {
				s.mature(d.lot)
			} else {
				s.expire(d.lot)
			}
		case phaseBirthday:
			s.celebrate()
		case phaseTierHold:
			s.changeTier(Cause{RuleTierHold, s.tiers.held.cause}, "the hold of "+s.tiers.held.name+" ended", func(h *holding) { s.tiers.endHold(h, len(s.tiers.credits)) })
		}
	}
}

func (s *sim) event(it item) {
	switch it.kind {
	case itemOrder:
		s.takeOrder(int(it.index))
	case itemEvent:
		s.takeEvent(&s.f.events[it.index])
	case itemBirthday:
		s.told = s.f.birthdays[it.index]
		s.birthday = s.nextBirthday(s.now)
	case itemCommand:
		s.command(&s.f.commands[it.index])
	}
}

// earns are the earning rules at the present instant; nil where the customer earns
// nothing now.
func (s *sim) earns() *earning {
	if s.now < s.enrolled || s.now < s.p.From {
		return nil
	}
	if e := s.p.earning.at(s.now); e != nil && e.open {
		return e
	}
	return nil
}

// takeEvent gives the points for an event.
func (s *sim) takeEvent(e *eventFact) {
	rules := s.earns()
	if rules == nil {
		return
	}
	points := rules.events[policy.FoldName(e.name)]
	if points == 0 {
		return
	}
	line := Line{Product: e.product, Category: e.category}
	points = rules.multiplied(points, s.now, e.channel, s.tiers.held.name, &line)
	s.earnOnce(e.Ref, points, rules.pending, Cause{Touchpoint: e.ID}, e.name)
}

// multiplied is a number of points multiplied by all that fits, rounded down.
func (e *earning) multiplied(points int64, at domain.Millis, channel, tier string, l *Line) int64 {
	r := new(big.Rat).SetInt64(points)
	for i := range e.multipliers {
		if m := &e.multipliers[i]; m.fits(at, channel, tier, l) {
			r.Mul(r, ratOf(m.Factor.Decimal()))
		}
	}
	return floor(r)
}

// earnOnce gives points that no refund takes back.
func (s *sim) earnOnce(ref Ref, points int64, pending domain.Millis, cause Cause, note string) {
	if points <= 0 {
		return
	}
	s.tiers.add(credit{at: s.now, points: points, cause: ref.ID})
	s.earnLot(ref, nil, points, pending, cause, note)
	s.raise(ref.ID)
}

// celebrate gives the points for a birthday, once a calendar year.
func (s *sim) celebrate() {
	year := s.now.Time().In(s.zone()).Year()
	rules := s.earns()
	if rules != nil && rules.birthday > 0 {
		s.birthdayYear = year
		ref := Ref{At: s.now, ID: uuid.NewSHA1(nsLoyalty, []byte("birthday "+strconv.Itoa(year)))}
		points := rules.multiplied(rules.birthday, s.now, "", s.tiers.held.name, &Line{})
		s.tiers.add(credit{at: s.now, points: points, cause: s.told.ID})
		if points > 0 {
			s.earnLot(ref, nil, points, rules.pending, Cause{RuleBirthday, s.told.ID}, "birthday")
		}
		s.raise(s.told.ID)
	}
	s.birthday = s.nextBirthday(s.now + 1)
}

func (s *sim) zone() *time.Location {
	e := s.p.earning.at(s.now)
	if e == nil || e.zone == nil {
		return time.UTC
	}
	return e.zone
}

// nextBirthday is the first birthday at or after an instant in a year that has
// given no points for one.
func (s *sim) nextBirthday(from domain.Millis) domain.Millis {
	if s.told.month == 0 {
		return policy.Never
	}
	zone := s.zone()
	year := max(from.Time().In(zone).Year(), s.birthdayYear+1)
	for {
		month, day := time.Month(s.told.month), int(s.told.day)
		if month == time.February && day == 29 && time.Date(year, 2, 29, 0, 0, 0, 0, zone).Day() != 29 {
			day = 28
		}
		at := domain.MillisOf(time.Date(year, month, day, 0, 0, 0, 0, zone))
		switch {
		case at > domain.MaxTime:
			return policy.Never
		case at >= from:
			return at
		}
		year++
	}
}

// deadline is something that will happen to a lot.
type deadline struct {
	at    domain.Millis
	phase uint8
	lot   int32
}

// deadlines are a heap.
type deadlines []deadline

func (d deadlines) Len() int { return len(d) }
func (d deadlines) Less(i, j int) bool {
	a, b := &d[i], &d[j]
	return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.phase, b.phase), cmp.Compare(a.lot, b.lot)) < 0
}
func (d deadlines) Swap(i, j int) { d[i], d[j] = d[j], d[i] }
func (d *deadlines) Push(x any)   { *d = append(*d, x.(deadline)) }
func (d *deadlines) Pop() any {
	last := (*d)[len(*d)-1]
	*d = (*d)[:len(*d)-1]
	return last
}

// move writes a line and keeps the balance and the totals.
func (s *sim) move(m Movement) {
	t := &s.out.Totals
	m.At = s.now
	t.Available += m.Available
	t.Pending += m.Pending
	t.Debt += m.Debt
	switch m.Kind {
	case Earned:
		t.Earned += m.Points
	case AdjustedIn:
		t.AdjustedIn += m.Points
	case TransferredIn:
		t.TransferredIn += m.Points
	case Redeemed:
		t.Redeemed += m.Points
	case Cancelled:
		t.Redeemed -= m.Points
	case Expired:
		t.Expired += m.Points
	case Reversed:
		t.Reversed += m.Points
	case AdjustedOut:
		t.AdjustedOut += m.Points
	case TransferredOut:
		t.TransferredOut += m.Points
	case Available, Offset, Repaid: // nothing came and nothing went
	}
	m.Balance = t.Balance
	s.out.Movements = append(s.out.Movements, m)
}

// changeTier lets a step act on the tier that is held and writes down what it
// changed. Without a reason it is the total that was reached.
func (s *sim) changeTier(cause Cause, reason string, step func(*holding)) {
	h := &s.tiers.held
	from, was := h.name, h.on
	step(h)
	if h.on && (!was || h.name != from) {
		if reason == "" {
			reason = s.tiers.reached(s.now)
		}
		s.out.Transitions = append(s.out.Transitions, Transition{
			From: from, To: h.name, At: s.now, Until: h.until(), Reason: reason, Cause: cause,
		})
		s.out.Tier.Since = s.now
	}
}

// raise lifts the tier where the total has reached a higher one.
func (s *sim) raise(cause uuid.UUID) {
	if !s.tiers.held.on {
		return
	}
	s.changeTier(Cause{Touchpoint: cause}, "", func(h *holding) { s.tiers.raise(h, s.now, len(s.tiers.credits), cause) })
}

// finish fills in what the ledger says of its instant.
func (s *sim) finish(until domain.Millis) {
	out := &s.out
	out.Lots = slices.Grow(out.Lots, len(s.lots))[:len(s.lots)]
	next := func(at domain.Millis) {
		if at > until {
			out.Next = min(out.Next, at)
		}
	}
	for i := range s.lots {
		l := &s.lots[i].Lot
		out.Lots[i] = *l
		if l.Pending > 0 {
			next(l.AvailableAt)
		}
		if n := l.Pending + l.Available; n > 0 && l.Expires != policy.Never {
			next(l.Expires)
			if l.Expires < out.ExpiringAt {
				out.ExpiringAt, out.Expiring = l.Expires, 0
			}
			if l.Expires == out.ExpiringAt {
				out.Expiring += n
			}
		}
	}
	next(s.birthday)
	next(s.p.changesAfter(until))
	if t, ok := s.tiers.nextRule(); ok {
		next(t)
	}
	if !s.joined {
		next(s.enrolNext)
		return
	}
	h := &s.tiers.held
	next(h.until())
	rules := &s.p.tiers[h.rule].rules
	t := &out.Tier
	t.Name, t.Until, t.Spend = h.name, h.until(), rules.spend
	t.Total = s.tiers.total(rules, until, len(s.tiers.credits))
	next(s.tiers.leaves(rules, until))
	for i := range rules.levels {
		if rules.levels[i].Name == h.name {
			t.Benefits = rules.levels[i].Benefits
		}
	}
	if h.level+1 < len(rules.levels) {
		t.Next = rules.levels[h.level+1].Name
		t.Missing = max(0, rules.threshold(h.level+1)-t.Total)
	}
}
