package loyalty

import (
	"math/big"
	"math/bits"
	"slices"

	"sojourn/domain"
	"sojourn/domain/commerce"
)

// order is what is known of one order.
type order struct {
	id       string
	purchase int32   // index of the purchase, or -1 while it has not come
	waits    []int32 // what came before the purchase, in order

	amount   domain.Decimal
	state    commerce.AmountState
	currency string
	lines    []Line
	refunds  []refund
	taken    domain.Decimal // the sum of the refunds' amounts
	refunded bool           // a refund found it
	full     bool           // nothing is left of it, for ever
	// rest is what the first settled of the refunds leave of the lines, nil until it is
	// asked for; an update asks anew.
	rest    []*big.Rat
	settled int

	// The rules of its day, nil where it earns nothing; its instant, channel and
	// the tier held just before.
	rules   *earning
	at      domain.Millis
	channel string
	tier    string

	given   int64 // the points it has given: those that its remaining amount earns
	spent   int64 // what it counts as spend, in ten-thousandths
	lots    []int32
	credits []int
}

// refund is one that takes back something, but not all.
type refund struct {
	amount domain.Decimal
	known  bool // the amount; else it is that of the products
	lines  []Line
}

// takeOrder takes the next fact about an order.
func (s *sim) takeOrder(i int) {
	f := &s.f.orders[i]
	if f.id == "" {
		if f.kind == kindPurchase {
			s.purchase(&order{purchase: -1}, i)
		}
		return
	}
	o := s.orders[f.id]
	if o == nil {
		o = &order{id: f.id, purchase: -1}
		s.orders[f.id] = o
	}
	switch {
	case f.kind == kindPurchase && o.purchase < 0:
		s.purchase(o, i)
	case f.kind == kindPurchase: // one order is one purchase, the earliest
	case o.purchase < 0:
		o.waits = append(o.waits, int32(i))
	default:
		o.apply(f)
		s.settle(o, f)
	}
}

// purchase is the order itself. What came before it takes effect at its instant:
// first the last of the updates, which is the amount in force then, and after it
// the refunds.
func (s *sim) purchase(o *order, i int) {
	f := &s.f.orders[i]
	o.purchase, o.amount, o.state, o.lines = int32(i), f.amount, f.state, f.lines
	o.at, o.channel, o.currency = f.At, f.channel, f.currency
	o.rules, o.tier = s.earns(), s.tiers.held.name
	if o.currency == "" {
		o.currency = s.p.fallback
	}
	for _, k := range slices.Backward(o.waits) {
		if w := &s.f.orders[k]; w.kind == kindUpdate && o.apply(w) {
			break
		}
	}
	for _, k := range o.waits {
		if w := &s.f.orders[k]; w.kind != kindUpdate {
			o.apply(w)
		}
	}
	o.waits = nil
	if o.rules == nil {
		return
	}
	switch _, rated := o.rules.rates[o.currency]; {
	case o.state == commerce.AmountRead && !rated:
		s.move(Movement{
			Kind: Earned, Lot: NoLot, Order: o.id, Cause: Cause{Touchpoint: f.ID},
			Note: "an amount in " + o.currency + ", which earns nothing in this programme",
		})
	case o.state != commerce.AmountRead:
		note := "an order without an amount"
		if o.state == commerce.AmountUnreadable {
			note = "an order whose amount cannot be read"
		}
		s.move(Movement{Kind: Earned, Lot: NoLot, Order: o.id, Cause: Cause{Touchpoint: f.ID}, Note: note})
	}
	s.settle(o, f)
}

// apply takes an update, a refund or a cancellation into the order. It reports
// whether it changed it.
func (o *order) apply(f *orderFact) bool {
	same := f.currency == "" || f.currency == o.currency
	switch f.kind {
	case kindUpdate:
		if f.state != commerce.AmountRead || !same {
			return false
		}
		o.amount, o.state, o.rest = f.amount, commerce.AmountRead, nil
		if len(f.lines) > 0 {
			o.lines = f.lines
		}
	case kindRefund:
		o.refunded = true
		names := namesProducts(f.lines)
		switch {
		case f.state == commerce.AmountNone && !names:
			o.full = true // all that is left
		case f.state == commerce.AmountUnreadable || f.state == commerce.AmountRead && !same:
			// kept, and takes nothing back
		default:
			r := refund{amount: f.amount, known: f.state == commerce.AmountRead}
			if names {
				r.lines = f.lines
			}
			o.refunds = append(o.refunds, r)
			o.taken = o.taken.Add(f.amount)
		}
	case kindCancellation:
		o.full = true
	case kindPurchase:
		return false
	}
	if o.refunded && (o.state != commerce.AmountRead || o.plain() && o.taken >= o.amount || !o.plain() && o.sum(nil).Sign() <= 0) {
		o.full = true
	}
	return true
}

func namesProducts(lines []Line) bool {
	return slices.ContainsFunc(lines, func(l Line) bool { return l.Product != "" })
}

// plain reports whether the lines of the order make no difference.
func (o *order) plain() bool {
	if o.rules != nil && o.rules.lines {
		return false
	}
	for i := range o.refunds {
		if !o.refunds[i].known {
			return false
		}
	}
	return true
}

// left is the remaining amount.
func (o *order) left() domain.Decimal {
	switch {
	case o.full || o.state != commerce.AmountRead:
		return 0
	case o.plain():
		return o.amount.Sub(o.taken)
	}
	return decimalOf(o.sum(nil))
}

// points are those that the remaining amount earns under the rules of the order's
// day, rounded down.
func (o *order) points() int64 {
	rate := o.rules.rates[o.currency]
	if o.full || o.state != commerce.AmountRead || rate == 0 {
		return 0
	}
	if o.plain() {
		amount := o.amount.Sub(o.taken)
		factor := o.factor(&Line{})
		if factor == nil {
			return floorProduct(amount, rate)
		}
		return floor(factor.Mul(factor, ratOf(rate)).Mul(factor, ratOf(amount)))
	}
	sum := o.sum(o.factor)
	return floor(sum.Mul(sum, ratOf(rate)))
}

// factor is the product of the multipliers that fit a line; nil for 1.
func (o *order) factor(l *Line) *big.Rat {
	var r *big.Rat
	for i := range o.rules.multipliers {
		if m := &o.rules.multipliers[i]; m.fits(o.at, o.channel, o.tier, l) {
			if r == nil {
				r = big.NewRat(1, 1)
			}
			r.Mul(r, ratOf(m.Factor.Decimal()))
		}
	}
	return r
}

// sum adds what is left of the lines, each times its factor.
func (o *order) sum(factor func(*Line) *big.Rat) *big.Rat {
	lines := o.lines
	if len(lines) == 0 {
		lines = []Line{{}}
	}
	rest := o.rest
	if rest == nil {
		rest, o.settled = shares(ratOf(o.amount), lines), 0
	}
	for ; o.settled < len(o.refunds); o.settled++ {
		o.refunds[o.settled].takeFrom(rest, lines)
		o.rest = rest
	}
	sum := new(big.Rat)
	for i := range lines {
		n := rest[i]
		if factor != nil {
			if f := factor(&lines[i]); f != nil {
				n = f.Mul(f, n)
			}
		}
		sum.Add(sum, n)
	}
	return sum
}

// shares deals an amount out to lines: in proportion to price × quantity, where
// none has a price to quantity.
func shares(amount *big.Rat, lines []Line) []*big.Rat {
	weights := make([]domain.Decimal, len(lines))
	total := new(big.Rat)
	for _, weigh := range [...]func(*Line) domain.Decimal{
		func(l *Line) domain.Decimal { return max(0, l.Amount) },
		func(l *Line) domain.Decimal { return l.Quantity },
		func(*Line) domain.Decimal { return unit },
	} {
		for i := range lines {
			weights[i] = weigh(&lines[i])
			total.Add(total, ratOf(weights[i]))
		}
		if total.Sign() > 0 {
			break
		}
	}
	list := make([]*big.Rat, len(lines))
	for i, w := range weights {
		list[i] = new(big.Rat).Quo(ratOf(w), total)
		list[i].Mul(list[i], amount)
	}
	return list
}

// takeFrom takes the refund from what is left of the lines: from those of the
// products that it names, each as much as it says; what they do not have left,
// and a refund that names none, from all lines in proportion.
func (r *refund) takeFrom(rest []*big.Rat, lines []Line) {
	missing := ratOf(r.amount)
	if len(r.lines) > 0 {
		want := make([]*big.Rat, len(lines)) // what is taken from each line
		named := false
		sum := new(big.Rat)
		for i := range r.lines {
			l := &r.lines[i]
			group := linesOf(l.Product, lines)
			if len(group) == 0 {
				continue
			}
			named = true
			n := r.worth(l, group, rest, lines)
			sum.Add(sum, n)
			deal(n, group, rest, want)
		}
		switch {
		case !r.known:
			// A product that the order does not have takes nothing.
			missing = new(big.Rat).Set(sum)
		case named && sum.Sign() > 0:
			scale := new(big.Rat).Quo(missing, sum)
			for _, w := range want {
				if w != nil {
					w.Mul(w, scale)
				}
			}
		}
		var group []int
		for i, w := range want {
			if w == nil {
				continue
			}
			group = append(group, i)
			take(rest[i], w, missing)
		}
		takeProportion(rest, group, missing)
	}
	all := make([]int, len(lines))
	for i := range all {
		all[i] = i
	}
	takeProportion(rest, all, missing)
}

// linesOf are the lines of a product.
func linesOf(product string, lines []Line) []int {
	var group []int
	for i := range lines {
		if product != "" && lines[i].Product == product {
			group = append(group, i)
		}
	}
	return group
}

// worth is what a line of a refund takes of its product: its price × quantity, or
// without a price its part of the quantity that was ordered.
func (r *refund) worth(l *Line, group []int, rest []*big.Rat, lines []Line) *big.Rat {
	if l.Priced {
		return ratOf(max(0, l.Amount))
	}
	have, ordered := new(big.Rat), domain.Decimal(0)
	for _, i := range group {
		have.Add(have, rest[i])
		ordered = ordered.Add(lines[i].Quantity)
	}
	if ordered > l.Quantity {
		have.Mul(have, ratOf(l.Quantity))
		have.Quo(have, ratOf(ordered))
	}
	return have
}

// deal adds n to what is wanted of a group's lines, in proportion to what is left
// of them.
func deal(n *big.Rat, group []int, rest, want []*big.Rat) {
	sum := new(big.Rat)
	for _, i := range group {
		sum.Add(sum, rest[i])
		if want[i] == nil {
			want[i] = new(big.Rat)
		}
	}
	if sum.Sign() <= 0 {
		return
	}
	for _, i := range group {
		part := new(big.Rat).Quo(rest[i], sum)
		want[i].Add(want[i], part.Mul(part, n))
	}
}

// take moves what is wanted from rest, at most all of it and at most missing.
func take(rest, want, missing *big.Rat) {
	n := want
	if n.Cmp(rest) > 0 {
		n = rest
	}
	if n.Cmp(missing) > 0 {
		n = missing
	}
	n = new(big.Rat).Set(n)
	rest.Sub(rest, n)
	missing.Sub(missing, n)
}

// takeProportion takes what is missing from lines in proportion to what is left
// of them.
func takeProportion(rest []*big.Rat, group []int, missing *big.Rat) {
	sum := new(big.Rat)
	for _, i := range group {
		sum.Add(sum, rest[i])
	}
	if sum.Sign() <= 0 || missing.Sign() <= 0 {
		return
	}
	n := new(big.Rat).Set(missing)
	if n.Cmp(sum) > 0 {
		n.Set(sum)
	}
	keep := new(big.Rat).Sub(sum, n)
	keep.Quo(keep, sum)
	for _, i := range group {
		rest[i].Mul(rest[i], keep)
	}
	missing.Sub(missing, n)
}

// settle gives or takes back points until the order has given exactly those that
// its remaining amount earns.
func (s *sim) settle(o *order, f *orderFact) {
	if o.rules == nil {
		return
	}
	points, spent := o.points(), int64(0)
	if o.currency == s.p.CurrencyAt(o.at) {
		spent = int64(max(0, o.left()))
	}
	more, moreSpent := points-o.given, spent-o.spent
	if more == 0 && moreSpent == 0 {
		return
	}
	o.given, o.spent = points, spent
	cause := Cause{Touchpoint: f.ID}
	if more > 0 || moreSpent > 0 {
		o.credits = append(o.credits, s.tiers.add(credit{at: s.now, points: max(0, more), spend: max(0, moreSpent), cause: f.ID}))
	}
	switch {
	case more > 0:
		s.earnLot(f.Ref, o, more, o.rules.pending, cause, "")
	case more < 0:
		s.reverse(o, -more, cause)
	}
	if more > 0 || moreSpent > 0 {
		s.raise(f.ID)
	}
	if more < 0 || moreSpent < 0 {
		s.lower(o, max(0, -more), max(0, -moreSpent))
		s.changeTier(cause, "less is left of an order", func(h *holding) {
			if h.on && h.level > 0 {
				s.tiers.fall(h, s.now, f.ID)
			}
		})
	}
}

// lower takes what an order has counted for tiers away again, the latest first.
func (s *sim) lower(o *order, points, spend int64) {
	for _, i := range slices.Backward(o.credits) {
		p, q := min(points, s.tiers.credits[i].points), min(spend, s.tiers.credits[i].spend)
		if p > 0 || q > 0 {
			s.tiers.lower(i, p, q)
		}
		points, spend = points-p, spend-q
	}
}

// reverse takes points of an order back: of its own lots, pending first; what of
// them has expired counts as given back; what is still missing comes from other
// lots, the available and then the pending; the rest is owed.
func (s *sim) reverse(o *order, n int64, cause Cause) {
	m := Movement{Kind: Reversed, Lot: NoLot, Order: o.id, Cause: cause}
	own := slices.Clone(o.lots)
	slices.SortFunc(own, s.compare)
	for _, pending := range [...]bool{true, false} {
		for _, i := range own {
			n = s.withdraw(i, m, n, pending)
		}
	}
	for _, i := range own {
		l := &s.lots[i]
		if k := min(n, l.Expired-l.offset); k > 0 {
			l.offset += k
			n -= k
			s.move(Movement{Kind: Offset, Points: k, Lot: int(i), Order: o.id, Cause: cause, Note: "they had expired, which counts as given back"})
		}
	}
	s.spend(m, n, true)
}

// Numbers.

func ratOf(d domain.Decimal) *big.Rat { return big.NewRat(int64(d), int64(unit)) }

// floor is the greatest whole number not above r, between 0 and MaxPoints.
func floor(r *big.Rat) int64 {
	if r.Sign() <= 0 {
		return 0
	}
	q := new(big.Int).Quo(r.Num(), r.Denom())
	if !q.IsInt64() || q.Int64() > MaxPoints {
		return MaxPoints
	}
	return q.Int64()
}

// floorProduct is floor of a × b.
func floorProduct(a, b domain.Decimal) int64 {
	if a <= 0 || b <= 0 {
		return 0
	}
	const square = uint64(unit) * uint64(unit)
	hi, lo := bits.Mul64(uint64(a), uint64(b))
	if hi >= square {
		return MaxPoints
	}
	q, _ := bits.Div64(hi, lo, square)
	return int64(min(q, MaxPoints))
}

// decimalOf rounds half up.
func decimalOf(r *big.Rat) domain.Decimal {
	d, _ := domain.ParseDecimal(r.FloatString(4))
	return d
}

// valueOf is what points are worth at a price of one, 0 where that is out of
// range.
func valueOf(points int64, price domain.Decimal) domain.Decimal {
	hi, lo := bits.Mul64(uint64(points), uint64(price))
	if v := domain.Decimal(lo); hi == 0 && v >= 0 && v.Valid() {
		return v
	}
	return 0
}
