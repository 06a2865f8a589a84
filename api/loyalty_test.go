package api_test

import (
	"context"
	"testing"
	"time"

	"sojourn/domain"
	"sojourn/domain/loyalty"
	"sojourn/domain/policy"
	"sojourn/projections"
)

// fakeLoyalty answers about one customer in the programme club.
type fakeLoyalty struct {
	at        projections.At
	programme string
	cursor    string
	limit     int
	quote     projections.QuoteRequest
	quoteErr  error
}

func (f *fakeLoyalty) ask(ref, programme string, at projections.At) error {
	f.programme, f.at = programme, at
	switch {
	case ref == moved.String():
		return &projections.MovedError{To: ada}
	case ref != "user:42":
		return projections.ErrNotFound
	case programme != "" && programme != "club":
		return projections.ErrNoProgramme
	}
	return nil
}

func (f *fakeLoyalty) Loyalty(_ context.Context, ref, programme string, at projections.At) (projections.Loyalty, error) {
	if err := f.ask(ref, programme, at); err != nil {
		return projections.Loyalty{}, err
	}
	if !at.AsOf.IsZero() {
		return projections.Loyalty{Customer: ada, Programme: "club", Currency: "EUR", AsOf: noon}, nil
	}
	return projections.Loyalty{
		Customer: ada, Programme: "club", Running: true, Enrolled: noon,
		Tier: projections.LoyaltyTier{
			Name: "silver", Since: noon, Until: noon.AddDate(1, 0, 0), By: policy.ByPoints, Total: "510",
			Next: "gold", Missing: "1490", Reason: "reached 510 points", Cause: "touchpoint:x",
		},
		Totals:     loyalty.Totals{Balance: loyalty.Balance{Available: 500, Pending: 10}, Earned: 510},
		ExpiringAt: noon.AddDate(1, 0, 0), Expiring: 510,
		Lots: []loyalty.Lot{{
			Ref: loyalty.Ref{At: millis(noon), ID: ada}, Kind: loyalty.Earned, Order: "o1", Points: 510, Available: 500, Pending: 10,
			AvailableAt: millis(noon), Expires: policy.Never,
		}},
		PointValue: 100, Worth: 51000, Currency: "EUR", AsOf: noon,
	}, nil
}

func (f *fakeLoyalty) LoyaltyLedger(_ context.Context, ref, programme string, at projections.At, cursor string, limit int) ([]projections.LoyaltyLine, string, error) {
	f.cursor, f.limit = cursor, limit
	if cursor == "bad" {
		return nil, "", projections.ErrBadCursor
	}
	if err := f.ask(ref, programme, at); err != nil {
		return nil, "", err
	}
	return []projections.LoyaltyLine{
		{Seq: 1, Movement: loyalty.Movement{
			At: millis(noon), Kind: loyalty.Earned, Points: 510, Available: 510, Lot: 0, Order: "o1",
			Cause: loyalty.Cause{Touchpoint: ada}, Balance: loyalty.Balance{Available: 510},
		}},
		{Seq: 2, Movement: loyalty.Movement{
			At: millis(noon), Kind: loyalty.Redeemed, Points: 100, Debt: 100, Lot: loyalty.NoLot, Value: 10000, Currency: "EUR",
			Cause: loyalty.Cause{Rule: loyalty.RuleExpiry, Touchpoint: ada}, Note: "a mug", Balance: loyalty.Balance{Available: 510, Debt: 100},
		}},
	}, "2", nil
}

func (f *fakeLoyalty) LoyaltyQuote(_ context.Context, ref string, r projections.QuoteRequest) (projections.Quote, error) {
	f.quote = r
	if err := f.ask(ref, r.Programme, projections.At{}); err != nil {
		return projections.Quote{}, err
	}
	return projections.Quote{
		Customer: ada, Programme: "club", At: noon, Amount: 125000, Currency: "EUR", Points: 24, Enrolled: true, Tier: "silver", Worth: 2400, ProgrammeCurrency: "EUR",
	}, f.quoteErr
}

func (f *fakeLoyalty) LoyaltyProgrammes(context.Context) ([]projections.LoyaltyProgramme, error) {
	rate := 0.25
	point := policy.Number(100)
	return []projections.LoyaltyProgramme{{
		ID: "club", Running: true, From: noon,
		Rules:   loyalty.InForce{Currency: "EUR", TimeZone: "UTC", Value: &policy.PointValue{From: "2026-03-01T12:00:00.000Z", Point: &point}},
		Figures: projections.LoyaltyFigures{Members: 3, ActiveMembers: 2, Points: 100, Liability: "1", Given: 120, Redeemed: 30, RedemptionRate: &rate},
	}}, nil
}

func millis(t time.Time) domain.Millis { return domain.MillisOf(t) }

func TestLoyalty(t *testing.T) {
	f := &fake{}
	s, _ := start(t, f)
	const url = "/api/v1/customers/user:42/loyalty"
	want(t, s, "GET", url, "", 200, `{"id":"11111111-1111-5111-8111-111111111111","programme":"club","running":true,"enrolled":"2026-03-01T12:00:00Z",
		"tier":{"name":"silver","since":"2026-03-01T12:00:00Z","until":"2027-03-01T12:00:00Z","benefits":[],"by":"points","total":"510",
		"next_tier":"gold","missing":"1490","reason":"reached 510 points","cause":"touchpoint:x"},
		"balance":{"available":500,"pending":10,"debt":0},"worth":"5.1","point_value":"0.01","currency":"EUR",
		"expiring":{"at":"2027-03-01T12:00:00Z","points":510},
		"lots":[{"kind":"earned","at":"2026-03-01T12:00:00Z","event":"11111111-1111-5111-8111-111111111111","order_id":"o1","points":510,"available":500,"pending":10,"available_at":"2026-03-01T12:00:00Z"}],
		"totals":{"earned":510,"adjusted_in":0,"transferred_in":0,"redeemed":0,"expired":0,"reversed":0,"adjusted_out":0,"transferred_out":0},"as_of":"2026-03-01T12:00:00Z"}`)
	want(t, s, "GET", url+"?programme=club&as_of=2026-01-01", "", 200, `{"id":"11111111-1111-5111-8111-111111111111","programme":"club","running":false,
		"balance":{"available":0,"pending":0,"debt":0},"worth":"0","point_value":"0","currency":"EUR","lots":[],
		"totals":{"earned":0,"adjusted_in":0,"transferred_in":0,"redeemed":0,"expired":0,"reversed":0,"adjusted_out":0,"transferred_out":0},"as_of":"2026-03-01T12:00:00Z"}`)
	if f.programme != "club" || f.fakeLoyalty.at.AsOf.IsZero() {
		t.Errorf("asked about %q at %+v", f.programme, f.fakeLoyalty.at)
	}
	want(t, s, "GET", url+"/ledger?limit=2&cursor=5", "", 200, `{"lines":[
		{"seq":1,"at":"2026-03-01T12:00:00Z","kind":"earned","points":510,"available":510,"pending":0,"debt":0,"balance":{"available":510,"pending":0,"debt":0},"lot":0,"order_id":"o1","cause":"touchpoint:11111111-1111-5111-8111-111111111111","note":""},
		{"seq":2,"at":"2026-03-01T12:00:00Z","kind":"redeemed","points":100,"available":0,"pending":0,"debt":100,"balance":{"available":510,"pending":0,"debt":100},"value":"1","currency":"EUR","cause":"deadline:expiry:11111111-1111-5111-8111-111111111111","note":"a mug"}],
		"next_cursor":"2"}`)
	if f.fakeLoyalty.cursor != "5" || f.fakeLoyalty.limit != 2 {
		t.Errorf("asked from %q for %d", f.fakeLoyalty.cursor, f.fakeLoyalty.limit)
	}
	wantProblem(t, s, "GET", url+"/ledger?cursor=bad", "", 422, "cursor")
	for _, path := range []string{"", "/ledger"} {
		wantProblem(t, s, "GET", "/api/v1/customers/user:nobody/loyalty"+path, "", 404, "no such customer")
		wantProblem(t, s, "GET", url+path+"?programme=gold", "", 404, "no loyalty programme gold")
		wantProblem(t, s, "GET", "/api/v1/customers/nobody/loyalty"+path, "", 422, "name a customer")
		h := wantProblem(t, s, "GET", "/api/v1/customers/"+moved.String()+"/loyalty"+path+"?programme=club", "", 308, ada.String())
		if to := h.Get("Location"); to != "/api/v1/customers/"+ada.String()+"/loyalty"+path+"?programme=club" {
			t.Errorf("moved to %s", to)
		}
	}

	const quoted = `{"id":"11111111-1111-5111-8111-111111111111","programme":"club","at":"2026-03-01T12:00:00Z","amount":"12.5","currency":"EUR",
		"points":24,"enrolled":true,"tier":"silver","worth":"0.24","worth_currency":"EUR"}`
	want(t, s, "POST", url+"/quote", `{"total":"12.50","currency":"eur","channel":"store","at":"2026-03-01T12:00:00Z"}`, 200, quoted)
	if q := f.quote; q.Total == nil || *q.Total != 125000 || q.Currency != "EUR" || q.Channel != "store" || !q.At.Equal(noon) || q.Products != nil {
		t.Errorf("quoted %+v", q)
	}
	want(t, s, "POST", url+"/quote", `{"products":[{"sku":"a","price":12.5}]}`, 200, quoted)
	if q := f.quote; q.Total != nil || string(q.Products) != `[{"sku":"a","price":12.5}]` || !q.At.IsZero() {
		t.Errorf("quoted %+v", q)
	}
	// A date is its last millisecond, as in a question.
	want(t, s, "POST", url+"/quote", `{"total":1,"at":"2026-03-01"}`, 200, quoted)
	if at := f.quote.At; !at.Equal(time.Date(2026, 3, 1, 23, 59, 59, 999e6, time.UTC)) {
		t.Errorf("quoted at %v", at)
	}
	for _, at := range []string{"yesterday", "2026-02-30", ""} {
		wantProblem(t, s, "POST", url+"/quote", `{"total":1,"at":"`+at+`"}`, 422, "is no time")
	}
	wantProblem(t, s, "POST", url+"/quote", `{"total":1,"at":5}`, 422, "body.at")
	if want(t, s, "POST", url+"/quote", `{"total":1,"at":null}`, 200, quoted); !f.quote.At.IsZero() {
		t.Errorf("quoted at %v", f.quote.At)
	}
	wantProblem(t, s, "POST", url+"/quote", `{"total":"lots"}`, 422, "body.total")
	wantProblem(t, s, "POST", url+"/quote", `{"channel":"pigeon"}`, 422, "channel")
	wantProblem(t, s, "POST", url+"/quote", `{"total":1,"programme":"gold"}`, 404, "no loyalty programme gold")
	f.quoteErr = &projections.QuoteError{Reason: "name the total"}
	wantProblem(t, s, "POST", url+"/quote", `{}`, 422, "name the total")

	want(t, s, "GET", "/api/v1/loyalty/programmes", "", 200, `{"programmes":[{"id":"club","running":true,"from":"2026-03-01T12:00:00Z","currency":"EUR","time_zone":"UTC",
		"rules":{"value":{"from":"2026-03-01T12:00:00.000Z","point":"0.01"}},
		"figures":{"members":3,"active_members":2,"points":100,"liability":"1","debt":0,"given":120,"redeemed":30,"expired":0,"redemption_rate":0.25}}]}`)
}
