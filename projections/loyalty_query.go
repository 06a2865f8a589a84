package projections

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"

	"sojourn/domain"
	"sojourn/domain/commerce"
	"sojourn/domain/loyalty"
	"sojourn/domain/policy"
)

// LoyaltyStanding is where a customer stands in a programme, in short.
type LoyaltyStanding struct {
	Programme string
	Tier      string // empty before the enrolment
	Balance   loyalty.Balance
	NextTier  string // empty at the highest
	// Missing is what the total lacks to reach it: points, or money in the
	// programme's currency, as decimal text.
	Missing string
}

// LoyaltyTier is the tier that a customer holds. Since is zero before the enrolment,
// Until for the lowest tier.
type LoyaltyTier struct {
	Name         string
	Since, Until time.Time
	Benefits     []string
	// By says what Total and Missing are: policy.ByPoints, or policy.BySpend for
	// money in the programme's currency; both are decimal text.
	By            string
	Total         string
	Next, Missing string // the tier above, empty at the highest, and what the total lacks
	Reason, Cause string // of the last change of tier
}

// Loyalty is what a programme says of a customer.
type Loyalty struct {
	Customer  uuid.UUID
	Programme string
	// Running is false for a programme that has ended: it earns nothing any more.
	Running  bool
	Enrolled time.Time // zero where the customer is not in the programme
	Tier     LoyaltyTier
	Totals   loyalty.Totals
	// ExpiringAt is when points expire next, zero where none will, and Expiring how
	// many. Lots are those with points left, the first to expire first, at most
	// MaxLots.
	ExpiringAt time.Time
	Expiring   int64
	Lots       []loyalty.Lot
	// PointValue is what a point is worth, Worth what the available and pending
	// points are, in Currency.
	PointValue, Worth domain.Decimal
	Currency          string
	AsOf              time.Time
}

// MaxLots is how many lots of points an answer has at most.
const MaxLots = 100

// LoyaltyLine is a line of a customer's ledger. Seq is that of the table
// loyalty_ledger.
type LoyaltyLine struct {
	Seq int
	loyalty.Movement
}

// QuoteRequest is a basket.
type QuoteRequest struct {
	Programme string // the first where empty
	Currency  string // as of an order: the policy's where empty
	Channel   string
	// Total is the amount; where it is nil, the sum of the products that have a
	// price. Products are as the property of an order.
	Total    *domain.Decimal
	Products json.RawMessage
	At       time.Time // the clock of the views where zero
}

// Quote is what a basket would earn.
type Quote struct {
	Customer  uuid.UUID
	Programme string
	At        time.Time
	Amount    domain.Decimal
	Currency  string
	Points    int64
	// Enrolled says whether the customer would be in the programme then, Tier is the
	// one held just before, which may multiply the points.
	Enrolled bool
	Tier     string
	// Worth is what the points would be worth, in ProgrammeCurrency.
	Worth             domain.Decimal
	ProgrammeCurrency string
}

// QuoteError is returned for a basket that is none.
type QuoteError struct{ Reason string }

func (e *QuoteError) Error() string { return e.Reason }

// LoyaltyProgramme is a programme with its rules in force and its figures.
type LoyaltyProgramme struct {
	ID      string
	Running bool
	From    time.Time // before it nothing earns; zero for no beginning
	Rules   loyalty.InForce
	Figures LoyaltyFigures
}

// LoyaltyFigures are the row of a programme in the view loyalty_programmes.
type LoyaltyFigures struct {
	Members, ActiveMembers   uint64
	Points, Debt             int64
	Liability                string // decimal text
	Given, Redeemed, Expired int64
	RedemptionRate, Breakage *float64 // shares of 1; nil where nothing was given
}

// Loyalty answers where a customer stands in a programme, the first where none is
// named. The errors are those of Customer, and ErrNoProgramme.
func (v *Views) Loyalty(ctx context.Context, ref, programme string, at At) (Loyalty, error) {
	a, p, l, err := v.ledger(ctx, ref, programme, at)
	if err != nil {
		return Loyalty{}, err
	}
	return a.loyalty(p, l), nil
}

// LoyaltyLedger is a page of a customer's ledger in a programme, in the order of
// time, the newest line last. The errors are those of Loyalty, and ErrBadCursor.
func (v *Views) LoyaltyLedger(ctx context.Context, ref, programme string, at At, cursor string, limit int) ([]LoyaltyLine, string, error) {
	after := 0
	if cursor != "" {
		var err error
		if after, err = strconv.Atoi(cursor); err != nil || after < 1 {
			return nil, "", ErrBadCursor
		}
	}
	_, _, l, err := v.ledger(ctx, ref, programme, at)
	if err != nil {
		return nil, "", err
	}
	var lines []LoyaltyLine
	end := min(len(l.Movements), after+limit)
	for i := after; i < end; i++ {
		lines = append(lines, LoyaltyLine{i + 1, l.Movements[i]})
	}
	if end < len(l.Movements) {
		return lines, strconv.Itoa(end), nil
	}
	return lines, "", nil
}

// LoyaltyQuote says what a basket would earn a customer, were it bought. Nothing is
// written. The errors are those of Loyalty, and *QuoteError.
func (v *Views) LoyaltyQuote(ctx context.Context, ref string, r QuoteRequest) (Quote, error) {
	a, err := v.answer(ctx, ref, At{}, nil)
	if err != nil {
		return Quote{}, err
	}
	p, err := a.programme(r.Programme)
	if err != nil {
		return Quote{}, err
	}
	facts := a.loyaltyFacts()
	at := a.q.asOf
	if !r.At.IsZero() {
		at = domain.MillisOf(r.At)
	}
	// It comes after all that happens at its instant, and no order has its id.
	t := loyalty.Touch{Ref: loyalty.Ref{At: at, ID: uuid.Max}, Meaning: policy.Purchase, Channel: r.Channel, Lines: loyalty.ReadLines(r.Products)}
	t.Order = commerce.Order{ID: "quote " + uuid.Max.String(), Currency: r.Currency, State: commerce.AmountRead}
	switch {
	case r.Total != nil:
		t.Order.Amount = *r.Total
	default:
		for _, l := range t.Lines {
			t.Order.Amount = t.Order.Amount.Add(l.Amount)
		}
		if !slices.ContainsFunc(t.Lines, func(l loyalty.Line) bool { return l.Priced }) {
			return Quote{}, &QuoteError{"name the total, or products with their prices"}
		}
	}
	points := loyalty.Quote(facts, p, a.q.rules.book, t)
	facts.See(t.Ref) // which may enrol
	before := loyalty.Fold(facts, p, at)
	return Quote{
		Customer: a.id, Programme: p.ID, At: at.Time(),
		Amount: t.Order.Amount, Currency: cmp.Or(r.Currency, a.q.rules.Policy.Currency),
		Points: points, Enrolled: before.Enrolled != policy.Never, Tier: before.Tier.Name,
		Worth: worth(points, p.ValueAt(at)), ProgrammeCurrency: p.CurrencyAt(at),
	}, nil
}

// LoyaltyProgrammes are all programmes there ever were, in the order of the policy,
// those that have ended last: their rules at the clock of the views, and the figures
// that the tables have.
func (v *Views) LoyaltyProgrammes(ctx context.Context) ([]LoyaltyProgramme, error) {
	var all []LoyaltyProgramme
	err := v.question(At{}, func(_ *generation, q *question) error {
		for _, p := range q.rules.book.Programmes() {
			all = append(all, LoyaltyProgramme{ID: p.ID, Running: p.Running, From: unlessAlways(p.From), Rules: p.InForce(q.asOf), Figures: LoyaltyFigures{Liability: "0"}})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = v.each(ctx, func(scan func(...any) error) error {
		var id string
		var f LoyaltyFigures
		if err := scan(&id, &f.Members, &f.ActiveMembers, &f.Points, &f.Debt, &f.Liability, &f.Given, &f.Redeemed, &f.Expired, &f.RedemptionRate, &f.Breakage); err != nil {
			return err
		}
		if i := slices.IndexFunc(all, func(p LoyaltyProgramme) bool { return p.ID == id }); i >= 0 {
			all[i].Figures = f
		}
		return nil
	}, "SELECT programme, members, active_members, points, debt, toString(liability), given, redeemed, expired, redemption_rate, breakage FROM loyalty_programmes")
	if err != nil {
		return nil, fmt.Errorf("read the figures of the loyalty programmes: %w", err)
	}
	return all, nil
}

// ledger folds the ledger of a customer in a programme.
func (v *Views) ledger(ctx context.Context, ref, programme string, at At) (*answer, *loyalty.Programme, *loyalty.Ledger, error) {
	a, err := v.answer(ctx, ref, at, nil)
	if err != nil {
		return nil, nil, nil, err
	}
	p, err := a.programme(programme)
	if err != nil {
		return nil, nil, nil, err
	}
	l := loyalty.Fold(a.loyaltyFacts(), p, a.q.asOf)
	return a, p, &l, nil
}

// programme finds a programme of the policy that a question is answered by, the
// first where none is named.
func (a *answer) programme(id string) (*loyalty.Programme, error) {
	if p := a.q.rules.book.Programme(id); p != nil {
		return p, nil
	}
	return nil, ErrNoProgramme
}

// loyaltyFacts are what the ledgers of the customer follow from, by what was known.
// They are the caller's.
func (a *answer) loyaltyFacts() *loyalty.Facts {
	if a.read == nil {
		facts := &loyalty.Facts{}
		for _, m := range a.members {
			facts.Merge(&m.facts.Loyalty)
		}
		return facts
	}
	facts := a.read.Loyalty.Clone()
	for _, m := range a.members {
		for _, c := range m.facts.Loyalty.Commands() {
			if c.RecordedAt <= a.q.known {
				facts.AddCommand(c)
			}
		}
	}
	return &facts
}

// standings are where the customer stands in each programme that it is or was in.
func (a *answer) standings() []LoyaltyStanding {
	all := []LoyaltyStanding{}
	programmes := a.q.rules.book.Programmes()
	if len(programmes) == 0 {
		return all
	}
	facts := a.loyaltyFacts()
	for _, p := range programmes {
		l := loyalty.Fold(facts, p, a.q.asOf)
		if l.Enrolled == policy.Never && len(l.Movements) == 0 {
			continue
		}
		s := LoyaltyStanding{Programme: p.ID, Tier: l.Tier.Name, Balance: l.Totals.Balance, NextTier: l.Tier.Next}
		if l.Tier.Next != "" {
			s.Missing = ofTier(&l.Tier, l.Tier.Missing)
		}
		all = append(all, s)
	}
	return all
}

// ofTier is a number that a tier counts, as decimal text.
func ofTier(t *loyalty.Tier, n int64) string {
	if t.Spend {
		return domain.Decimal(n).String()
	}
	return strconv.FormatInt(n, 10)
}

// loyalty is the answer about one programme.
func (a *answer) loyalty(p *loyalty.Programme, l *loyalty.Ledger) Loyalty {
	out := Loyalty{
		Customer: a.id, Programme: p.ID, Running: p.Running, Enrolled: unlessNever(l.Enrolled),
		Totals: l.Totals, ExpiringAt: unlessNever(l.ExpiringAt), Expiring: l.Expiring,
		PointValue: p.ValueAt(a.q.asOf), Currency: p.CurrencyAt(a.q.asOf), AsOf: a.q.asOf.Time(),
	}
	out.Worth = worth(l.Totals.Available+l.Totals.Pending, out.PointValue)
	for i := range l.Lots {
		if l.Lots[i].Available+l.Lots[i].Pending > 0 {
			out.Lots = append(out.Lots, l.Lots[i])
		}
	}
	slices.SortStableFunc(out.Lots, func(a, b loyalty.Lot) int { return cmp.Compare(a.Expires, b.Expires) })
	out.Lots = out.Lots[:min(len(out.Lots), MaxLots)]
	if l.Enrolled == policy.Never {
		return out
	}
	t := &l.Tier
	out.Tier = LoyaltyTier{
		Name: t.Name, Since: t.Since.Time(), Until: unlessNever(t.Until), Benefits: t.Benefits,
		By: policy.ByPoints, Total: ofTier(t, t.Total), Next: t.Next,
	}
	if t.Spend {
		out.Tier.By = policy.BySpend
	}
	if t.Next != "" {
		out.Tier.Missing = ofTier(t, t.Missing)
	}
	if n := len(l.Transitions); n > 0 {
		last := &l.Transitions[n-1]
		out.Tier.Reason, out.Tier.Cause = last.Reason, last.Cause.String()
	}
	return out
}

// worth is what points, which are not negative, are worth; held at the end of what
// an amount can be.
func worth(points int64, value domain.Decimal) domain.Decimal {
	hi, lo := bits.Mul64(uint64(points), uint64(value))
	if hi != 0 || lo > math.MaxInt64 {
		lo = math.MaxInt64
	}
	return domain.Decimal(lo).Add(0)
}

func unlessNever(t domain.Millis) time.Time {
	if t == policy.Never {
		return time.Time{}
	}
	return t.Time()
}

func unlessAlways(t domain.Millis) time.Time {
	if t == policy.Always {
		return time.Time{}
	}
	return t.Time()
}
