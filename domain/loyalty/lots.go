package loyalty

import (
	"bytes"
	"cmp"
	"container/heap"
	"slices"
	"strconv"

	"sojourn/domain"
	"sojourn/domain/policy"
)

// compareLots is the spending order: by expiry, then earning, then event id.
func compareLots(a, b *Lot) int {
	return cmp.Or(cmp.Compare(a.Expires, b.Expires), cmp.Compare(a.Ref.At, b.Ref.At), bytes.Compare(a.Ref.ID[:], b.Ref.ID[:]))
}

// spendingOrder lists the lots that have available points.
func spendingOrder(lots []Lot) []int {
	var order []int
	for i := range lots {
		if lots[i].Available > 0 {
			order = append(order, i)
		}
	}
	slices.SortStableFunc(order, func(a, b int) int { return compareLots(&lots[a], &lots[b]) })
	return order
}

func (s *sim) compare(a, b int32) int {
	return cmp.Or(compareLots(&s.lots[a].Lot, &s.lots[b].Lot), cmp.Compare(a, b))
}

// put adds a lot to a list in spending order; take removes it.
func (s *sim) put(list *[]int32, lot int32) {
	if i, found := slices.BinarySearchFunc(*list, lot, s.compare); !found {
		*list = slices.Insert(*list, i, lot)
	}
}

func (s *sim) take(list *[]int32, lot int32) {
	if len(*list) > 0 && (*list)[0] == lot {
		*list = (*list)[1:] // most are taken from the front
	} else if i, found := slices.BinarySearchFunc(*list, lot, s.compare); found {
		*list = slices.Delete(*list, i, i+1)
	}
}

// change moves a lot's available and pending points and keeps the lists.
func (s *sim) change(i int32, available, pending int64) {
	l := &s.lots[i]
	hadAvailable, hadPending := l.Available > 0, l.Pending > 0
	l.Available += available
	l.Pending += pending
	if has := l.Available > 0; has != hadAvailable {
		if has {
			s.put(&s.spendable, i)
		} else {
			s.take(&s.spendable, i)
		}
	}
	if has := l.Pending > 0; has != hadPending {
		if has {
			s.put(&s.waiting, i)
		} else {
			s.take(&s.waiting, i)
		}
	}
}

// open adds a lot of no points yet.
func (s *sim) open(l lot) int32 {
	i := int32(len(s.lots))
	s.lots = append(s.lots, l)
	if l.Expires != policy.Never {
		heap.Push(&s.deadlines, deadline{max(l.Expires, s.now), phaseExpiry, i}) // what came too late is over at once
	}
	if l.AvailableAt > s.now {
		heap.Push(&s.deadlines, deadline{l.AvailableAt, phaseAvailable, i})
	}
	return i
}

// earnLot adds the points of an earning.
func (s *sim) earnLot(ref Ref, o *order, points int64, pending domain.Millis, cause Cause, note string) {
	l := lot{order: o}
	l.Lot = Lot{Ref: ref, Kind: Earned, Points: points, AvailableAt: s.now + pending, Expires: s.p.expires(s.now)}
	l.Ref.At = s.now
	if o != nil {
		l.Order = o.id
	}
	i := s.open(l)
	m := Movement{Kind: Earned, Points: points, Lot: int(i), Order: l.Order, Cause: cause, Note: note}
	if pending > 0 {
		s.change(i, 0, points)
		m.Pending = points
		s.move(m)
	} else {
		s.change(i, points, 0)
		m.Available = points
		s.move(m)
		s.repay(i, cause)
	}
	if o != nil {
		o.lots = append(o.lots, i)
	}
}

// arrive adds points that a command gives: available at once.
func (s *sim) arrive(c *Command, kind Kind, points int64, expires domain.Millis) {
	l := lot{Lot: Lot{Ref: Ref{At: s.now, ID: c.ID}, Kind: kind, Points: points, AvailableAt: s.now, Expires: expires}}
	i := s.open(l)
	s.change(i, points, 0)
	cause := Cause{Touchpoint: c.ID}
	s.move(Movement{Kind: kind, Points: points, Available: points, Lot: int(i), Cause: cause, Note: c.Reason})
	s.repay(i, cause)
}

// mature makes a lot's pending points available.
func (s *sim) mature(i int32) {
	n := s.lots[i].Pending
	if n == 0 {
		return
	}
	s.change(i, n, -n)
	cause := Cause{RuleAvailable, s.lots[i].Ref.ID}
	s.move(Movement{Kind: Available, Points: n, Available: n, Pending: -n, Lot: int(i), Order: s.lots[i].Order, Cause: cause})
	s.repay(i, cause)
}

// expire ends a lot.
func (s *sim) expire(i int32) {
	l := &s.lots[i]
	available, pending := l.Available, l.Pending
	n := available + pending
	if n == 0 {
		return
	}
	l.Expired += n
	s.change(i, -available, -pending)
	s.move(Movement{
		Kind: Expired, Points: n, Available: -available, Pending: -pending, Lot: int(i), Order: s.lots[i].Order,
		Cause: Cause{RuleExpiry, s.lots[i].Ref.ID},
	})
}

// repay pays debts with a lot's available points, the oldest first.
func (s *sim) repay(i int32, cause Cause) {
	for len(s.debts) > 0 && s.lots[i].Available > 0 {
		d := s.debts[0]
		n := min(d.owed, s.lots[i].Available)
		s.change(i, -n, 0)
		s.lots[i].Repaid += n
		d.owed -= n
		d.paid = append(d.paid, alloc{i, n})
		if d.owed == 0 {
			s.debts = s.debts[1:]
		}
		s.move(Movement{Kind: Repaid, Points: n, Available: -n, Debt: -n, Lot: int(i), Cause: cause})
	}
}

// bucket is where the points of a lot go in a movement that takes them.
func (l *Lot) bucket(kind Kind) *int64 {
	switch kind {
	case Redeemed:
		return &l.Redeemed
	case Reversed:
		return &l.Reversed
	case AdjustedOut:
		return &l.Adjusted
	case TransferredOut:
		return &l.Transferred
	}
	return nil
}

// withdraw takes at most n points of a lot and returns how many are still missing.
func (s *sim) withdraw(i int32, m Movement, n int64, pending bool) int64 {
	l := &s.lots[i]
	have := l.Available
	if pending {
		have = l.Pending
	}
	k := min(n, have)
	if k == 0 {
		return n
	}
	*l.bucket(m.Kind) += k
	m.Points, m.Lot = k, int(i)
	if m.Order == "" {
		m.Order = l.Order
	}
	m.Value = s.worth(m.Kind, k)
	if pending {
		m.Pending = -k
		s.change(i, 0, -k)
	} else {
		m.Available = -k
		s.change(i, -k, 0)
	}
	s.move(m)
	return n - k
}

// worth is what points are worth when they are redeemed.
func (s *sim) worth(kind Kind, points int64) domain.Decimal {
	if kind != Redeemed {
		return 0
	}
	return valueOf(points, s.p.ValueAt(s.now))
}

// spend takes n points in spending order: of the available, and with pending of
// those too. What is missing becomes debt.
func (s *sim) spend(m Movement, n int64, pending bool) (from []alloc, owed *debt) {
	for n > 0 && len(s.spendable) > 0 {
		i := s.spendable[0]
		rest := s.withdraw(i, m, n, false)
		from, n = append(from, alloc{i, n - rest}), rest
	}
	for pending && n > 0 && len(s.waiting) > 0 {
		n = s.withdraw(s.waiting[0], m, n, true)
	}
	if n > 0 {
		owed = &debt{owed: n}
		s.debts = append(s.debts, owed)
		m.Points, m.Debt, m.Lot, m.Value = n, n, NoLot, s.worth(m.Kind, n)
		m.Note = noted(m.Note, "more than there was: owed")
		s.move(m)
	}
	return from, owed
}

func noted(note, more string) string {
	if note == "" {
		return more
	}
	return note + "; " + more
}

// command does what a command of this programme says.
func (s *sim) command(c *Command) {
	cause := Cause{Touchpoint: c.ID}
	m := Movement{Lot: NoLot, Cause: cause, Note: c.Reason}
	switch c.Kind {
	case Enroll: // the enrolment has its own phase
	case Redeem:
		if c.Points <= 0 {
			return
		}
		m.Kind, m.Currency = Redeemed, s.p.CurrencyAt(s.now)
		from, owed := s.spend(m, c.Points, false)
		s.redemptions[c.ID] = &redemption{from: from, debt: owed}
	case Cancel:
		s.cancel(c)
	case Adjust:
		s.adjust(c)
	case TransferOut, TransferIn:
		if s.other(c) {
			return // both ends are one customer
		}
		if c.Kind == TransferIn {
			s.arriveParts(c, TransferredIn)
		} else if c.Points > 0 {
			m.Kind = TransferredOut
			s.spend(m, c.Points, false)
		}
	case Opening:
		s.adjust(c)
		if c.Tier != "" {
			cr := credit{at: s.now, cause: c.ID, grant: c.Tier, until: c.TierUntil}
			s.tiers.add(cr)
			if s.tiers.held.on {
				s.changeTier(cause, "held in the programme before", func(h *holding) { s.tiers.grant(h, s.now, &cr) })
			}
		}
	}
}

// other reports whether the other end of a transfer is this customer's too.
func (s *sim) other(c *Command) bool {
	kind, ok := s.transfers[c.Of]
	return ok && kind != c.Kind
}

// adjust gives or takes points.
func (s *sim) adjust(c *Command) {
	points := c.Points
	if len(c.Parts) > 0 {
		points = 0
		for _, p := range c.Parts {
			points += p.Points
		}
	}
	if points == 0 {
		return
	}
	if c.CountsForTier {
		s.tiers.add(credit{at: s.now, points: points, cause: c.ID})
	}
	if points > 0 {
		s.arriveParts(c, AdjustedIn)
	} else {
		s.spend(Movement{Kind: AdjustedOut, Lot: NoLot, Cause: Cause{Touchpoint: c.ID}, Note: c.Reason}, -points, false)
	}
	if c.CountsForTier {
		s.raise(c.ID)
	}
}

// arriveParts adds the points of a command, with their expiry as decided.
func (s *sim) arriveParts(c *Command, kind Kind) {
	if len(c.Parts) == 0 && c.Points > 0 {
		s.arrive(c, kind, c.Points, s.p.expires(s.now))
	}
	for _, p := range c.Parts {
		if p.Points > 0 {
			s.arrive(c, kind, p.Points, p.Expires)
		}
	}
}

// cancel gives the points of a redemption back to their lots.
func (s *sim) cancel(c *Command) {
	cause := Cause{Touchpoint: c.ID}
	r := s.redemptions[c.Of]
	if r == nil || r.cancelled {
		why := "the redemption is cancelled already"
		if r == nil {
			why = "the redemption is not this customer's"
		}
		s.move(Movement{Kind: Cancelled, Lot: NoLot, Cause: cause, Note: noted(c.Reason, why)})
		return
	}
	r.cancelled = true
	back := r.from
	if d := r.debt; d != nil {
		back = append(slices.Clone(back), d.paid...)
		if n := d.owed; n > 0 {
			s.debts = slices.DeleteFunc(s.debts, func(o *debt) bool { return o == d })
			d.owed = 0
			s.move(Movement{Kind: Cancelled, Points: n, Debt: -n, Lot: NoLot, Cause: cause, Note: c.Reason})
		}
	}
	filled := make([]int32, 0, len(back))
	for k, a := range back {
		filled = append(filled, s.giveBack(a, k >= len(r.from), c, cause))
	}
	for _, i := range filled {
		s.repay(i, cause)
	}
}

// giveBack puts points that were redeemed, or that repaid a redemption's debt,
// back into their lot; where that has expired, into one of their own that lives
// for the grace time. It returns the lot they are in.
func (s *sim) giveBack(a alloc, repaid bool, c *Command, cause Cause) int32 {
	from := &s.lots[a.lot]
	if repaid {
		from.Repaid -= a.n
	} else {
		from.Redeemed -= a.n
	}
	i, note := a.lot, c.Reason
	if from.Expires < s.now {
		grace := domain.Millis(0)
		if v := s.p.expiry.at(s.now); v != nil {
			grace = v.grace
		}
		// The points leave the lot that is over and are a lot of their own.
		from.Points -= a.n
		l := lot{order: from.order, Lot: Lot{
			Ref: from.Ref, Kind: Cancelled, Order: from.Order, Points: a.n,
			AvailableAt: s.now, Expires: s.now + grace,
		}}
		i = s.open(l)
		if l.order != nil {
			l.order.lots = append(l.order.lots, i)
		}
		note = noted(note, "they had expired and live for the grace time")
	}
	s.change(i, a.n, 0)
	s.move(Movement{Kind: Cancelled, Points: a.n, Available: a.n, Lot: int(i), Order: s.lots[i].Order, Cause: cause, Note: note})
	return i
}

func counted(n int64, thing string) string {
	text := strconv.FormatInt(n, 10) + " " + thing
	if n != 1 {
		text += "s"
	}
	return text
}
