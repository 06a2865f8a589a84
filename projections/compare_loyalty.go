package projections

import (
	"bytes"
	"slices"

	"sojourn/domain"
	"sojourn/domain/loyalty"
	"sojourn/domain/policy"
)

// LoyaltyComparison is what two policies make of one programme.
type LoyaltyComparison struct {
	Programme string
	// Old and New are nil where that policy, and all before it, do not have the
	// programme.
	Old, New *LoyaltySide
	// Changed counts the customers that both know, with another balance.
	Changed uint64
	Tiers   Comparison
}

// LoyaltySide is what one policy makes of a programme.
type LoyaltySide struct {
	Members uint64 // customers who are enrolled
	// Totals are those of all customers together.
	Totals loyalty.Totals
	// PointValue is what a point is worth, Liability what all that are available or
	// pending are, in Currency.
	PointValue, Liability domain.Decimal
	Currency              string
}

// points are what a programme says of a customer.
type points struct {
	folded   bool
	enrolled bool
	totals   loyalty.Totals
	tiers    []change
}

// programmeComparison gathers a LoyaltyComparison.
type programmeComparison struct {
	i        int // in the lists of the sides and the customers
	id       string
	at       domain.Millis
	old, new *loyalty.Programme
	out      LoyaltyComparison
	tiers    *comparison
}

// compareProgrammes are the programmes of both sides, those of the new first. Where
// two rulebooks say the same of one, the new side folds it only for customers of whom
// it has other facts.
func compareProgrammes(before, after *previewSide) []*programmeComparison {
	var all []*programmeComparison
	for _, book := range [...]*loyalty.Rulebook{after.rules.book, before.rules.book} {
		for _, p := range book.Programmes() {
			if slices.ContainsFunc(all, func(c *programmeComparison) bool { return c.id == p.ID }) {
				continue
			}
			i := len(all)
			c := &programmeComparison{i: i, id: p.ID, at: before.at.Clock, old: before.rules.book.Programme(p.ID), new: after.rules.book.Programme(p.ID)}
			c.out = LoyaltyComparison{Programme: p.ID, Old: sideOf(c.old, c.at), New: sideOf(c.new, c.at)}
			c.tiers = newComparison(
				func(s *previewed) []change { return s.points[i].tiers },
				func(s *previewed) *loyalty.Balance { return &s.points[i].totals.Balance },
			)
			all = append(all, c)
			before.programmes, after.programmes = append(before.programmes, c.old), append(after.programmes, c.new)
			before.eager, after.eager = append(before.eager, true), append(after.eager, !c.old.Same(c.new))
		}
	}
	return all
}

func sideOf(p *loyalty.Programme, at domain.Millis) *LoyaltySide {
	if p == nil {
		return nil
	}
	return &LoyaltySide{PointValue: p.ValueAt(at), Currency: p.CurrencyAt(at)}
}

// takePoints gives a customer its facts and folds what the side folds by itself.
func (p *previewSide) takePoints(s *previewed, members []*subject) {
	if len(p.programmes) == 0 {
		return
	}
	s.facts = &members[0].facts.Loyalty
	if len(members) > 1 {
		s.facts = &loyalty.Facts{}
		for _, m := range members {
			s.facts.Merge(&m.facts.Loyalty)
		}
	}
	s.points = make([]points, len(p.programmes))
	for i := range s.points {
		if p.eager[i] {
			p.foldProgramme(s, i)
		}
	}
}

// foldPoints folds what is not folded yet.
func (p *previewSide) foldPoints(s *previewed) {
	for i := range s.points {
		if !s.points[i].folded {
			p.foldProgramme(s, i)
		}
	}
}

func (p *previewSide) foldProgramme(s *previewed, i int) {
	out := points{folded: true}
	if pr := p.programmes[i]; pr != nil {
		l := loyalty.Fold(s.facts, pr, p.at.Clock)
		out.enrolled, out.totals, out.tiers = l.Enrolled != policy.Never, l.Totals, tierChanges(l.Transitions)
	}
	s.points[i] = out
}

// settlePoints folds what the new side has left: of a customer that both know with
// equal facts it is what the old side has folded.
func (p *previewSide) settlePoints(was, is *previewed) {
	if is == nil || !slices.ContainsFunc(is.points, func(o points) bool { return !o.folded }) {
		return
	}
	if was != nil {
		p.buf = was.facts.Append(p.buf[:0])
		n := len(p.buf)
		p.buf = is.facts.Append(p.buf)
		if bytes.Equal(p.buf[:n], p.buf[n:]) {
			for i := range is.points {
				if !is.points[i].folded {
					is.points[i] = was.points[i]
				}
			}
		}
	}
	p.foldPoints(is)
}

// add takes a customer as it is on both sides; one of them may be nil.
func (c *programmeComparison) add(was, is *previewed) {
	for _, side := range [...]struct {
		out *LoyaltySide
		s   *previewed
	}{{c.out.Old, was}, {c.out.New, is}} {
		if side.out == nil || side.s == nil {
			continue
		}
		o := &side.s.points[c.i]
		if o.enrolled {
			side.out.Members++
		}
		addTotals(&side.out.Totals, &o.totals)
	}
	if was != nil && is != nil && was.points[c.i].totals.Balance != is.points[c.i].totals.Balance {
		c.out.Changed++
	}
}

func addTotals(to, t *loyalty.Totals) {
	to.Available += t.Available
	to.Pending += t.Pending
	to.Debt += t.Debt
	to.Earned += t.Earned
	to.AdjustedIn += t.AdjustedIn
	to.TransferredIn += t.TransferredIn
	to.Redeemed += t.Redeemed
	to.Expired += t.Expired
	to.Reversed += t.Reversed
	to.AdjustedOut += t.AdjustedOut
	to.TransferredOut += t.TransferredOut
}

func (c *programmeComparison) result() LoyaltyComparison {
	for _, s := range [...]*LoyaltySide{c.out.Old, c.out.New} {
		if s != nil {
			s.Liability = worth(s.Totals.Available+s.Totals.Pending, s.PointValue)
		}
	}
	c.out.Tiers = *c.tiers.result(c.names())
	return c.out
}

// names are the tiers of both policies in order, behind them those that customers
// still hold under neither.
func (c *programmeComparison) names() []string {
	var names []string
	for _, p := range [...]*loyalty.Programme{c.old, c.new} {
		if p == nil {
			continue
		}
		at := 0
		for _, l := range p.LevelsAt(c.at) {
			if i := slices.Index(names, l.Name); i >= 0 {
				at = i + 1
				continue
			}
			names = slices.Insert(names, at, l.Name)
			at++
		}
	}
	var others []string
	for _, counts := range [...]map[string]uint64{c.tiers.old, c.tiers.new} {
		for name := range counts {
			if !slices.Contains(names, name) && !slices.Contains(others, name) {
				others = append(others, name)
			}
		}
	}
	slices.Sort(others)
	return append(names, others...)
}
