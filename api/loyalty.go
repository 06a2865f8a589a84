package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"sojourn/domain"
	"sojourn/domain/loyalty"
	"sojourn/domain/policy"
	"sojourn/projections"
)

// LoyaltyViews answers questions about points and tiers. The errors are those of
// Views.Customer, and projections.ErrNoProgramme; an empty programme is the first.
type LoyaltyViews interface {
	Loyalty(ctx context.Context, ref, programme string, at projections.At) (projections.Loyalty, error)
	// LoyaltyLedger is a page of the ledger, the newest line last.
	LoyaltyLedger(ctx context.Context, ref, programme string, at projections.At, cursor string, limit int) ([]projections.LoyaltyLine, string, error)
	// LoyaltyQuote is what a basket would earn; *projections.QuoteError where it is
	// none.
	LoyaltyQuote(ctx context.Context, ref string, r projections.QuoteRequest) (projections.Quote, error)
	// LoyaltyProgrammes are the programmes in the order of the policy.
	LoyaltyProgrammes(ctx context.Context) ([]projections.LoyaltyProgramme, error)
}

// ProgrammeParam names a programme.
type ProgrammeParam struct {
	Programme string `query:"programme" maxLength:"40" doc:"The id of the programme; without it the first of the policy."`
}

type standingBody struct {
	Programme string `json:"programme"`
	Tier      string `json:"tier,omitempty" doc:"Missing where the customer is not in the programme."`
	Available int64  `json:"available" doc:"Points that can be spent."`
	Pending   int64  `json:"pending" doc:"Points that become available later."`
	Debt      int64  `json:"debt" doc:"Points owed, which the next ones pay."`
	NextTier  string `json:"next_tier,omitempty" doc:"Missing at the highest tier."`
	Missing   string `json:"missing,omitempty" doc:"What the next tier still asks for, decimal text: points, or money in the programme's currency."`
}

func standingsOf(all []projections.LoyaltyStanding) []standingBody {
	if all == nil {
		return nil
	}
	out := make([]standingBody, len(all))
	for i, s := range all {
		out[i] = standingBody{s.Programme, s.Tier, s.Balance.Available, s.Balance.Pending, s.Balance.Debt, s.NextTier, s.Missing}
	}
	return out
}

type tierBody struct {
	Name     string     `json:"name"`
	Since    time.Time  `json:"since"`
	Until    *time.Time `json:"until,omitempty" doc:"The end of the hold, when the window's total decides anew; missing for the lowest tier."`
	Benefits []string   `json:"benefits"`
	By       string     `json:"by" enum:"points,spend" doc:"What total and missing are: points, or money in the programme's currency."`
	Total    string     `json:"total" doc:"What counts for tiers in the window, decimal text."`
	Next     string     `json:"next_tier,omitempty" doc:"Missing at the highest."`
	Missing  string     `json:"missing,omitempty" doc:"What the total lacks to reach the next tier, decimal text."`
	Reason   string     `json:"reason" doc:"Of the last change of tier, in words."`
	Cause    string     `json:"cause" doc:"touchpoint:<event id> or deadline:<rule>:<event id it counts from>."`
}

type totalsBody struct {
	Earned         int64 `json:"earned"`
	AdjustedIn     int64 `json:"adjusted_in" doc:"Opening balances too."`
	TransferredIn  int64 `json:"transferred_in"`
	Redeemed       int64 `json:"redeemed" doc:"Less what was cancelled."`
	Expired        int64 `json:"expired"`
	Reversed       int64 `json:"reversed" doc:"Taken back for refunds."`
	AdjustedOut    int64 `json:"adjusted_out"`
	TransferredOut int64 `json:"transferred_out"`
}

type lotBody struct {
	Kind        string     `json:"kind" doc:"earned, adjusted_in, transferred_in, or cancelled."`
	At          time.Time  `json:"at" doc:"When the points came."`
	Event       uuid.UUID  `json:"event" doc:"What gave them."`
	OrderID     string     `json:"order_id,omitempty"`
	Points      int64      `json:"points" doc:"How many came."`
	Available   int64      `json:"available" doc:"How many are left that can be spent."`
	Pending     int64      `json:"pending" doc:"How many are left that become available later."`
	AvailableAt time.Time  `json:"available_at"`
	ExpiresAt   *time.Time `json:"expires_at,omitempty" doc:"At this very instant they can still be spent; missing for never."`
}

type loyaltyBody struct {
	ID         uuid.UUID   `json:"id" doc:"The customer's."`
	Programme  string      `json:"programme"`
	Running    bool        `json:"running" doc:"False for a programme that has ended: it earns nothing any more."`
	Enrolled   *time.Time  `json:"enrolled,omitempty" doc:"Since when the customer is in the programme; missing where it is not."`
	Tier       *tierBody   `json:"tier,omitempty" doc:"Missing where the customer is not in the programme."`
	Balance    balanceBody `json:"balance"`
	Worth      string      `json:"worth" doc:"What the available and pending points are worth, decimal text."`
	PointValue string      `json:"point_value" doc:"What one is worth, decimal text."`
	Currency   string      `json:"currency" doc:"The programme's."`
	Expiring   *expiryBody `json:"expiring,omitempty" doc:"The points that expire next; missing where none will."`
	Lots       []lotBody   `json:"lots" doc:"Points left, by when they came; those that expire first come first, at most 100."`
	Totals     totalsBody  `json:"totals" doc:"Where the balance comes from: earned + adjusted_in + transferred_in + debt = available + pending + redeemed + expired + reversed + adjusted_out + transferred_out."`
	AsOf       time.Time   `json:"as_of" doc:"The time the answer is about."`
}

type expiryBody struct {
	At     time.Time `json:"at"`
	Points int64     `json:"points"`
}

func orMissing(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

func loyaltyOf(l *projections.Loyalty) loyaltyBody {
	t := &l.Totals
	out := loyaltyBody{
		ID: l.Customer, Programme: l.Programme, Running: l.Running, Enrolled: orMissing(l.Enrolled),
		Balance: balanceOf(t.Balance), Worth: l.Worth.String(), PointValue: l.PointValue.String(), Currency: l.Currency,
		Lots: []lotBody{}, AsOf: l.AsOf.UTC(),
		Totals: totalsBody{t.Earned, t.AdjustedIn, t.TransferredIn, t.Redeemed, t.Expired, t.Reversed, t.AdjustedOut, t.TransferredOut},
	}
	if k := &l.Tier; k.Name != "" {
		out.Tier = &tierBody{
			Name: k.Name, Since: k.Since.UTC(), Until: orMissing(k.Until), Benefits: append([]string{}, k.Benefits...),
			By: k.By, Total: k.Total, Next: k.Next, Missing: k.Missing, Reason: k.Reason, Cause: k.Cause,
		}
	}
	if !l.ExpiringAt.IsZero() {
		out.Expiring = &expiryBody{l.ExpiringAt.UTC(), l.Expiring}
	}
	for i := range l.Lots {
		o := &l.Lots[i]
		b := lotBody{
			Kind: string(o.Kind), At: o.Ref.At.Time(), Event: o.Ref.ID, OrderID: o.Order, Points: o.Points,
			Available: o.Available, Pending: o.Pending, AvailableAt: o.AvailableAt.Time(),
		}
		if o.Expires != policy.Never {
			at := o.Expires.Time()
			b.ExpiresAt = &at
		}
		out.Lots = append(out.Lots, b)
	}
	return out
}

func balanceOf(b loyalty.Balance) balanceBody { return balanceBody{b.Available, b.Pending, b.Debt} }

type lineBody struct {
	Seq       int         `json:"seq" doc:"1, 2, … in the order of time. Late touchpoints number the lines anew."`
	At        time.Time   `json:"at"`
	Kind      string      `json:"kind" enum:"earned,available,redeemed,cancelled,expired,reversed,offset,adjusted_in,adjusted_out,transferred_in,transferred_out,repaid"`
	Points    int64       `json:"points" doc:"How many; 0 where the line only says why there are none."`
	Available int64       `json:"available" doc:"What the line adds to the available points; below 0 it takes."`
	Pending   int64       `json:"pending" doc:"Likewise."`
	Debt      int64       `json:"debt" doc:"Likewise."`
	Balance   balanceBody `json:"balance" doc:"What is there after the line."`
	Lot       *int        `json:"lot,omitempty" doc:"Points that came together bear one number, from 0; missing where the line moves debt, or nothing."`
	OrderID   string      `json:"order_id,omitempty"`
	Value     string      `json:"value,omitempty" doc:"Of a redemption what the points were worth, decimal text."`
	Currency  string      `json:"currency,omitempty"`
	Cause     string      `json:"cause" doc:"touchpoint:<event id>, of a command too, or deadline:<rule>:<event id it counts from>."`
	Note      string      `json:"note" doc:"In plain words; of a command the reason it gave."`
}

func lineOf(l *projections.LoyaltyLine) lineBody {
	out := lineBody{
		Seq: l.Seq, At: l.At.Time(), Kind: string(l.Kind), Points: l.Points, Available: l.Available, Pending: l.Pending, Debt: l.Debt,
		Balance: balanceOf(l.Balance), OrderID: l.Order, Currency: l.Currency, Cause: l.Cause.String(), Note: l.Note,
	}
	if l.Lot != loyalty.NoLot {
		lot := l.Lot
		out.Lot = &lot
	}
	if l.Currency != "" {
		out.Value = l.Value.String()
	}
	return out
}

type quoteBody struct {
	ID        uuid.UUID `json:"id" doc:"The customer's."`
	Programme string    `json:"programme"`
	At        time.Time `json:"at" doc:"The time of the purchase."`
	Amount    string    `json:"amount" doc:"Decimal text."`
	Currency  string    `json:"currency" doc:"The amount's."`
	Points    int64     `json:"points" doc:"What it would earn, pending points included."`
	Enrolled  bool      `json:"enrolled" doc:"Whether the customer is in the programme then; one who is not earns nothing."`
	Tier      string    `json:"tier,omitempty" doc:"The one held just before, which may multiply the points."`
	Worth     string    `json:"worth" doc:"What the points would be worth, decimal text …"`
	WorthIn   string    `json:"worth_currency" doc:"… in the programme's currency."`
}

type programmeBody struct {
	ID       string         `json:"id"`
	Running  bool           `json:"running" doc:"False where the policy in force does not have it any more: it earns nothing."`
	From     *time.Time     `json:"from,omitempty" doc:"Before it nothing earns; missing for no beginning."`
	Currency string         `json:"currency"`
	TimeZone string         `json:"time_zone"`
	Rules    programmeRules `json:"rules" doc:"The rules in force, as a policy has them. The from of a section is since when it holds; missing for no beginning. A section is missing that has not begun, or of a programme that has ended the earning."`
	Figures  figuresBody    `json:"figures" doc:"From the view loyalty_programmes."`
}

type programmeRules struct {
	Earning jsonValue `json:"earning,omitempty"`
	Expiry  jsonValue `json:"expiry,omitempty"`
	Value   jsonValue `json:"value,omitempty"`
	Tiers   jsonValue `json:"tiers,omitempty"`
}

type figuresBody struct {
	Members        uint64   `json:"members"`
	ActiveMembers  uint64   `json:"active_members" doc:"With points earned or redeemed in the last 365 days."`
	Points         int64    `json:"points" doc:"All that are available or pending."`
	Liability      string   `json:"liability" doc:"What they are worth, decimal text."`
	Debt           int64    `json:"debt" doc:"Points that customers owe."`
	Given          int64    `json:"given" doc:"Points earned or adjusted in, ever."`
	Redeemed       int64    `json:"redeemed"`
	Expired        int64    `json:"expired"`
	RedemptionRate *float64 `json:"redemption_rate,omitempty" doc:"redeemed ÷ given; missing where nothing was given."`
	Breakage       *float64 `json:"breakage,omitempty" doc:"expired ÷ given, likewise."`
}

func loyaltyProgrammeOf(p *projections.LoyaltyProgramme) (programmeBody, error) {
	f := &p.Figures
	out := programmeBody{
		ID: p.ID, Running: p.Running, From: orMissing(p.From), Currency: p.Rules.Currency, TimeZone: p.Rules.TimeZone,
		Figures: figuresBody{f.Members, f.ActiveMembers, f.Points, f.Liability, f.Debt, f.Given, f.Redeemed, f.Expired, f.RedemptionRate, f.Breakage},
	}
	var errs []error
	section := func(to *jsonValue, has bool, s any) {
		if has {
			b, err := json.Marshal(s)
			*to, errs = b, append(errs, err)
		}
	}
	section(&out.Rules.Earning, p.Rules.Earning != nil, p.Rules.Earning)
	section(&out.Rules.Expiry, p.Rules.Expiry != nil, p.Rules.Expiry)
	section(&out.Rules.Value, p.Rules.Value != nil, p.Rules.Value)
	section(&out.Rules.Tiers, p.Rules.Tiers != nil, p.Rules.Tiers)
	return out, errors.Join(errs...)
}

func (a *API) loyaltyOperations() {
	const tag = "Loyalty"

	type loyaltyOutput struct{ Body loyaltyBody }
	huma.Register(a.huma, operation("get-loyalty", http.MethodGet, "/customers/{id}/loyalty", tag,
		"Points and tier of a customer", "Where a customer stands in a loyalty programme now or at another time: tier, balance, what expires next.", 308, 404, 503),
		func(ctx context.Context, in *struct {
			CustomerRef
			ProgrammeParam
			Asked
			AfterParam
			RequestQuery
		},
		) (*loyaltyOutput, error) {
			if err := a.askable(ctx, in.ID, in.AfterParam); err != nil {
				return nil, err
			}
			l, err := a.cfg.Views.Loyalty(ctx, in.ID, in.Programme, in.at())
			if err != nil {
				return nil, a.loyaltyError("read the points", in.Programme, in.at(), err, "/loyalty"+in.suffix())
			}
			return &loyaltyOutput{loyaltyOf(&l)}, nil
		})

	type ledgerOutput struct {
		Body struct {
			Lines      []lineBody `json:"lines" doc:"In the order of time, the newest last."`
			NextCursor string     `json:"next_cursor,omitempty" doc:"Missing on the last page."`
		}
	}
	huma.Register(a.huma, operation("get-loyalty-ledger", http.MethodGet, "/customers/{id}/loyalty/ledger", tag,
		"A customer's ledger of points", "Every movement of points in a programme, each with its cause and the balance after it, the newest last.", 308, 404, 503),
		func(ctx context.Context, in *struct {
			CustomerRef
			ProgrammeParam
			Asked
			Page
			AfterParam
			RequestQuery
		},
		) (*ledgerOutput, error) {
			if err := a.askable(ctx, in.ID, in.AfterParam); err != nil {
				return nil, err
			}
			lines, next, err := a.cfg.Views.LoyaltyLedger(ctx, in.ID, in.Programme, in.at(), in.Cursor, in.Limit)
			if err != nil {
				return nil, a.loyaltyError("read the ledger", in.Programme, in.at(), err, "/loyalty/ledger"+in.suffix())
			}
			out := &ledgerOutput{}
			out.Body.Lines, out.Body.NextCursor = make([]lineBody, len(lines)), next
			for i := range lines {
				out.Body.Lines[i] = lineOf(&lines[i])
			}
			return out, nil
		})

	type quoteOutput struct{ Body quoteBody }
	huma.Register(a.huma, operation("quote-loyalty", http.MethodPost, "/customers/{id}/loyalty/quote", tag,
		"What a basket would earn", "How many points a purchase would earn the customer, were it made now or at another time. Nothing is written.", 308, 404, 503),
		func(ctx context.Context, in *struct {
			CustomerRef
			AfterParam
			RequestQuery
			Body struct {
				Programme string    `json:"programme,omitempty" maxLength:"40" doc:"The id of the programme; without it the first of the policy."`
				Total     jsonValue `json:"total,omitempty" doc:"The amount, a number or decimal text; without it the sum of price × quantity of the products."`
				Currency  string    `json:"currency,omitempty" maxLength:"16" doc:"The policy's where it is not given."`
				Products  jsonValue `json:"products,omitempty" doc:"A list of products as in Order Completed: product_id (else sku), category, price, quantity. They share the total in proportion to price × quantity."`
				Channel   string    `json:"channel,omitempty" enum:"web,mobile,email,phone,chat,store,social,survey,server"`
				At        instant   `json:"at,omitempty" doc:"When; now where it is not given. RFC 3339, or a date, which means its last millisecond (UTC)."`
			}
		},
		) (*quoteOutput, error) {
			if err := a.askable(ctx, in.ID, in.AfterParam); err != nil {
				return nil, err
			}
			r := projections.QuoteRequest{
				Programme: in.Body.Programme, Currency: strings.ToUpper(strings.TrimSpace(in.Body.Currency)),
				Channel: in.Body.Channel, Products: in.Body.Products, At: in.Body.At.Time,
			}
			if len(in.Body.Total) > 0 {
				total, ok := domain.ReadDecimal(in.Body.Total)
				if !ok {
					return nil, huma.Error422UnprocessableEntity("the total is no amount",
						&huma.ErrorDetail{Location: "body.total", Message: "write a number or decimal text", Value: domain.Excerpt(string(in.Body.Total))})
				}
				r.Total = &total
			}
			q, err := a.cfg.Views.LoyaltyQuote(ctx, in.ID, r)
			var bad *projections.QuoteError
			switch {
			case errors.As(err, &bad):
				return nil, huma.Error422UnprocessableEntity(bad.Reason)
			case err != nil:
				return nil, a.loyaltyError("quote the basket", r.Programme, projections.At{}, err, "/loyalty/quote"+in.suffix())
			}
			return &quoteOutput{quoteBody{
				ID: q.Customer, Programme: q.Programme, At: q.At.UTC(), Amount: q.Amount.String(), Currency: q.Currency,
				Points: q.Points, Enrolled: q.Enrolled, Tier: q.Tier, Worth: q.Worth.String(), WorthIn: q.ProgrammeCurrency,
			}}, nil
		})

	type programmesOutput struct {
		Body struct {
			Programmes []programmeBody `json:"programmes" doc:"In the order of the policy, those that have ended last."`
		}
	}
	huma.Register(a.huma, operation("list-loyalty-programmes", http.MethodGet, "/loyalty/programmes", tag,
		"The loyalty programmes", "The programmes with their rules in force now and their figures.", 503),
		func(ctx context.Context, in *struct{ AfterParam }) (*programmesOutput, error) {
			if err := a.await(ctx, in.AfterParam); err != nil {
				return nil, err
			}
			all, err := a.cfg.Views.LoyaltyProgrammes(ctx)
			if err != nil {
				return nil, a.internal("list the loyalty programmes", err)
			}
			out := &programmesOutput{}
			out.Body.Programmes = make([]programmeBody, len(all))
			for i := range all {
				if out.Body.Programmes[i], err = loyaltyProgrammeOf(&all[i]); err != nil {
					return nil, a.internal("write the rules of a programme", err)
				}
			}
			return out, nil
		})
}

// loyaltyError maps the errors of questions about points. behind is what follows the
// customer's id in the address of the same question about another.
func (a *API) loyaltyError(doing, programme string, at projections.At, err error, behind string) error {
	if errors.Is(err, projections.ErrNoProgramme) {
		if programme == "" {
			return huma.Error404NotFound("the policy has no loyalty programme")
		}
		return huma.Error404NotFound("there is no loyalty programme " + domain.Excerpt(programme) + "; GET /api/v1/loyalty/programmes lists them")
	}
	return a.viewError(doing, at, err, func(id uuid.UUID) string { return "/api/v1/customers/" + id.String() + behind })
}
