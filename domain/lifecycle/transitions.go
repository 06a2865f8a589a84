package lifecycle

import (
	"math"
	"slices"
	"strconv"
	"sync"

	"sojourn/domain"
	"sojourn/domain/commerce"
	"sojourn/domain/policy"
)

// Transitions lists every change of stage in the order of time, to the end of
// time as if nothing more happened: the deadlines to come are in it, and a caller
// cuts at its clock (At ≤ clock). currency is the one of purchases that name none.
func Transitions(f *Facts, rules policy.Lifecycle, currency string) []Transition {
	if f.Empty() {
		return nil
	}
	f.sort()
	s := scratch.Get().(*simulation)
	s.limits, s.rules = limitsOf(rules), rules
	s.ledger.open(f.orders, currency)
	if len(f.orders) > len(s.nodes) {
		s.nodes = make([]node, max(len(f.orders), linearAccounts))
	}
	s.run(f)
	s.finish()
	list := slices.Clone(s.out)
	s.release()
	return list
}

// scratch keeps the memory of simulations for the next.
var scratch = sync.Pool{New: func() any { return &simulation{last: -1, from: -1} }}

// maxScratch bounds what is kept, in facts of one customer.
const maxScratch = 1024

func (s *simulation) release() {
	s.ledger.release()
	clear(s.out)
	next := simulation{last: -1, from: -1, ledger: s.ledger}
	if len(s.nodes) <= maxScratch {
		next.out, next.nodes = s.out[:0], s.nodes
	}
	*s = next
	scratch.Put(s)
}

// simulation goes through a customer's life.
type simulation struct {
	limits limits
	rules  policy.Lifecycle
	ledger ledger
	out    []Transition
	stage  Stage // after the last transition

	history history
	// The purchases that count, as a list linked through nodes in the order of
	// their facts: last is the latest, from the earliest of those that make the
	// customer loyal, if there are so many.
	nodes      []node
	last, from int32
	ever       int // purchases that ever counted

	// The instant that touchpoints are taken of, once there was one: the stage
	// before the next of them, and last and from before the first, whose deadlines
	// may stand there.
	begun            bool
	now              domain.Millis
	before           Stage
	wasLast, wasFrom int32
}

// node is a purchase's place in the list; prev and next are -1 at the ends.
type node struct {
	prev, next int32
}

// run takes all touchpoints of the facts.
func (s *simulation) run(f *Facts) {
	marks := [...]*milestone{&f.visitor, &f.lead, &f.qualified}
	order := 0
	next := func() (Ref, bool) {
		var ref Ref
		ok := false
		for _, m := range marks {
			if m != nil && m.set && (!ok || m.ref.Compare(ref) < 0) {
				ref, ok = m.ref, true
			}
		}
		if order < len(f.orders) && (!ok || f.orders[order].ref.Compare(ref) < 0) {
			ref, ok = f.orders[order].ref, true
		}
		return ref, ok
	}
	for ref, ok := next(); ok; ref, ok = next() {
		var shown [3]bool
		for i, m := range marks {
			if m != nil && m.set && m.ref == ref {
				marks[i], shown[i] = nil, true
			}
		}
		from := order
		for order < len(f.orders) && f.orders[order].ref == ref {
			order++
		}
		s.touch(f, ref, shown, from, order)
	}
}

// touch takes the next touchpoint: the milestones it is, and the facts about orders
// that it gave. At one instant there is first what time did before it, then
// touchpoint after touchpoint, then what time alone did at it.
func (s *simulation) touch(f *Facts, ref Ref, shown [3]bool, from, to int) {
	if !s.begun || ref.At != s.now {
		s.begin(ref.At)
	}
	for i := range shown {
		if shown[i] {
			s.history.reached = max(s.history.reached, Reached(i+1))
		}
	}
	var done *orderFact
	did := effect{-1, -1}
	for i := from; i < to; i++ {
		did = s.take(i)
		done = &f.orders[i]
	}
	after := s.limits.stage(&s.history, s.now)
	if after != s.stage && after != s.before {
		s.enter(after, s.now, s.because(f, after, shown, done, did), Cause{Touchpoint: ref.ID})
	}
	s.before = after
}

// begin ends the instant before and lets time go on to another.
func (s *simulation) begin(at domain.Millis) {
	if s.begun {
		s.due(s.now, s.wasLast, s.wasFrom)
	}
	s.pass(at)
	s.begun, s.now = true, at
	s.before = s.limits.stage(&s.history, at)
	s.wasLast, s.wasFrom = s.last, s.from
}

// finish ends the last instant and lets time go on to its end. It changes nothing
// but out and stage.
func (s *simulation) finish() {
	if s.begun {
		s.due(s.now, s.wasLast, s.wasFrom)
	}
	s.pass(math.MaxInt64)
}

func (s *simulation) enter(to Stage, at domain.Millis, reason string, cause Cause) {
	s.out = append(s.out, Transition{From: s.stage, To: to, At: at, Reason: reason, Cause: cause})
	s.stage = to
}

// take applies a fact about an order and keeps the list of purchases that count.
func (s *simulation) take(i int) effect {
	did := s.ledger.apply(i)
	facts := s.ledger.facts
	if p := did.counts; p >= 0 {
		// What waited takes effect at its order's place, so a purchase that begins
		// to count is always the latest.
		s.nodes[p] = node{s.last, -1}
		if s.last >= 0 {
			s.nodes[s.last].next = p
		}
		s.last = p
		s.history.count++
		s.ever++
		switch k := s.limits.purchases; {
		case s.history.count == k:
			s.from = p
			for range k - 1 {
				s.from = s.nodes[s.from].prev
			}
		case s.history.count > k:
			s.from = s.nodes[s.from].next
		}
	}
	if p := did.uncount; p >= 0 {
		n := s.nodes[p]
		// The purchases from s.from on are the last k. Without one of them the one
		// before s.from moves up.
		if s.from >= 0 && p >= s.from {
			s.from = s.nodes[s.from].prev
		}
		if n.prev >= 0 {
			s.nodes[n.prev].next = n.next
		}
		if n.next >= 0 {
			s.nodes[n.next].prev = n.prev
		} else {
			s.last = n.prev
		}
		s.history.count--
	}
	h := &s.history
	if s.last >= 0 {
		h.last = facts[s.last].ref.At
		if b := s.nodes[s.last].prev; b >= 0 {
			h.before = facts[b].ref.At
		}
	}
	if s.from >= 0 {
		h.loyalFrom = facts[s.from].ref.At
	}
	return did
}

// pass lets time alone go on to just before an instant.
func (s *simulation) pass(until domain.Millis) {
	if s.history.count == 0 {
		return
	}
	for {
		at, ok := s.deadline()
		if !ok || at >= until {
			return
		}
		s.due(at, s.last, s.from)
	}
}

// deadline is the next instant at which time alone changes the stage.
func (s *simulation) deadline() (domain.Millis, bool) {
	h, l := &s.history, &s.limits
	switch s.stage {
	case Lost:
		return 0, false
	case Churned:
		return h.last + l.lost, true
	case AtRisk:
		return h.last + l.churned, true
	}
	at := h.last + l.atRisk
	if s.stage == Loyal {
		at = min(at, h.loyalFrom+l.loyal)
	}
	return at, true
}

// due records what time alone has changed at an instant, where last and from were
// the purchases that deadlines counted from before it. If the touchpoints there had
// changed the stage, it would have been recorded with them.
func (s *simulation) due(at domain.Millis, last, from int32) {
	to := s.limits.stage(&s.history, at)
	if to == s.stage {
		return
	}
	var rule, reason string
	id := last
	switch to {
	case AtRisk:
		rule, reason = RuleAtRisk, idleReason(s.rules.AtRiskDays)
	case Churned:
		rule, reason = RuleChurned, idleReason(s.rules.ChurnedDays)
	case Lost:
		rule, reason = RuleLost, idleReason(s.rules.LostDays)
	default:
		rule, id = RuleLoyal, from
		reason = "fewer than " + cardinal(s.rules.LoyalPurchases) + " purchases within " + days(s.rules.LoyalDays)
	}
	s.enter(to, at, reason, Cause{Rule: rule, Touchpoint: s.ledger.facts[id].ref.ID})
}

// because says in words why a touchpoint changed the stage.
func (s *simulation) because(f *Facts, to Stage, shown [3]bool, fact *orderFact, did effect) string {
	switch {
	case did.counts >= 0:
		return s.purchaseReason(to, did.counts)
	case did.uncount >= 0:
		return s.refundReason(to, fact)
	case shown[2]:
		if f.qualified.name != "" {
			return f.qualified.name
		}
		return "showed intent to buy"
	case shown[1]:
		switch {
		case f.lead.why == whyEmail:
			return "known by e-mail"
		case f.lead.why == whyUser:
			return "known by user id"
		case f.lead.name != "":
			return f.lead.name
		}
		return "became known"
	}
	return "first touchpoint"
}

func (s *simulation) purchaseReason(to Stage, p int32) string {
	h := &s.history
	switch to {
	case FirstPurchase:
		return "first purchase"
	case WonBack:
		return "came back after " + days(int((h.last-h.before)/domain.Day))
	case Loyal:
		if before := s.nodes[s.from].prev; before < 0 ||
			h.last-s.ledger.facts[before].ref.At >= s.limits.loyal {
			return ordinal(s.rules.LoyalPurchases) + " purchase within " + days(s.rules.LoyalDays)
		}
		return cardinal(s.rules.LoyalPurchases) + " or more purchases within " + days(s.rules.LoyalDays)
	}
	if h.count < len(ordinalPurchases) {
		return ordinalPurchases[h.count]
	}
	return ordinal(h.count) + " purchase"
}

func (s *simulation) refundReason(to Stage, fact *orderFact) string {
	what := "refunded"
	if fact.kind == kindCancellation {
		what = "cancelled"
	}
	h := &s.history
	switch {
	case h.count == 0 && s.ever == 1:
		return "the only purchase was " + what
	case h.count == 0:
		return "the last purchase left was " + what
	}
	switch to {
	case AtRisk:
		return "a purchase was " + what + ", none other for " + days(s.rules.AtRiskDays)
	case Churned:
		return "a purchase was " + what + ", none other for " + days(s.rules.ChurnedDays)
	case Lost:
		return "a purchase was " + what + ", none other for " + days(s.rules.LostDays)
	case WonBack:
		return "a purchase was " + what + ", " + days(int((h.last-h.before)/domain.Day)) + " before the last"
	case FirstPurchase:
		return "a purchase was " + what + ", one is left"
	}
	return "a purchase was " + what + ", " + cardinal(h.count) + " are left"
}

// The reasons of the default policy are constants: they are by far the most.
func idleReason(n int) string {
	switch n {
	case 60:
		return "no purchase for 60 days"
	case 120:
		return "no purchase for 120 days"
	case 365:
		return "no purchase for 365 days"
	}
	return "no purchase for " + days(n)
}

func days(n int) string {
	if n == 1 {
		return "1 day"
	}
	return strconv.Itoa(n) + " days"
}

var (
	ordinals = [...]string{
		1: "first", 2: "second", 3: "third", 4: "fourth", 5: "fifth", 6: "sixth",
		7: "seventh", 8: "eighth", 9: "ninth", 10: "tenth",
	}
	ordinalPurchases = [...]string{
		1: "first purchase", 2: "second purchase", 3: "third purchase", 4: "fourth purchase", 5: "fifth purchase",
		6: "sixth purchase", 7: "seventh purchase", 8: "eighth purchase", 9: "ninth purchase", 10: "tenth purchase",
	}
	cardinals = [...]string{
		1: "one", 2: "two", 3: "three", 4: "four", 5: "five", 6: "six",
		7: "seven", 8: "eight", 9: "nine", 10: "ten",
	}
)

func ordinal(n int) string {
	if n < len(ordinals) {
		return ordinals[n]
	}
	suffix := "th"
	if n/10%10 != 1 {
		switch n % 10 {
		case 1:
			suffix = "st"
		case 2:
			suffix = "nd"
		case 3:
			suffix = "rd"
		}
	}
	return strconv.Itoa(n) + suffix
}

func cardinal(n int) string {
	if n < len(cardinals) {
		return cardinals[n]
	}
	return strconv.Itoa(n)
}

// TotalsAt is what a customer has bought by t, t included.
func TotalsAt(f *Facts, t domain.Millis, currency string) Totals {
	var totals Totals
	if len(f.orders) == 0 {
		return totals
	}
	f.sort()
	s := scratch.Get().(*simulation)
	defer s.release()
	l := &s.ledger
	l.open(f.orders, currency)
	for i := range f.orders {
		o := &f.orders[i]
		if o.ref.At > t {
			break
		}
		if o.kind == kindRefund || o.kind == kindCancellation {
			totals.Refunds++
		}
		l.apply(i)
	}
	for i := range l.accounts {
		a := &l.accounts[i]
		if a.purchase < 0 || a.full {
			continue
		}
		totals.Purchases++
		if a.state != commerce.AmountRead {
			continue
		}
		if totals.Revenue == nil {
			totals.Revenue = make(map[string]domain.Decimal, 1)
		}
		c := l.orderCurrency(a)
		totals.Revenue[c] = totals.Revenue[c].Add(a.left())
	}
	return totals
}
