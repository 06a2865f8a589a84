package projections

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"sojourn/domain"
	"sojourn/domain/loyalty"
	"sojourn/domain/policy"
	"sojourn/eventstore"
)

// paid is an order of a user in the default policy's currency.
func paid(id, user string, at domain.Millis, total string) sent {
	m := bought(id, user, at, 0)
	m.properties = fmt.Sprintf(`{"order_id":%q,"total":%q,"currency":"USD"}`, id, total)
	return m
}

// command appends a command for a user at the clock, and waits until the views hold
// it.
func (s *site) command(user string, d commandData) {
	s.t.Helper()
	d.Subject = testKeyer.Stream(domain.Subject{Kind: domain.User, Value: user})
	d.Programme, d.At = policy.DefaultProgramme, s.clock.now().Format(time.RFC3339Nano)
	data, err := json.Marshal(d)
	if err != nil {
		s.t.Fatal(err)
	}
	r, err := s.store.Append(s.t.Context(), domain.GuardStream(domain.SubjectID(d.Subject)), eventstore.Any{}, eventstore.NewEvent{
		ID: uuid.New(), Type: domain.TypeLoyaltyCommand, Data: data,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	if err := s.views.WaitFor(s.t.Context(), r.Position); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) loyalty(ref string, at At) Loyalty {
	s.t.Helper()
	l, err := s.views.Loyalty(s.t.Context(), ref, "", at)
	if err != nil {
		s.t.Fatalf("%s: %v", ref, err)
	}
	return l
}

// ledger reads a ledger page by page.
func (s *site) ledger(ref string, at At, limit int) (lines []string) {
	s.t.Helper()
	for cursor := ""; ; {
		page, next, err := s.views.LoyaltyLedger(s.t.Context(), ref, policy.DefaultProgramme, at, cursor, limit)
		if err != nil || len(page) > limit {
			s.t.Fatalf("%d lines, %v", len(page), err)
		}
		for _, l := range page {
			lines = append(lines, fmt.Sprintf("%d %s %d %+d/%+d/%+d = %d/%d/%d %s %s", l.Seq, l.Kind, l.Points, l.Available, l.Pending, l.Debt,
				l.Balance.Available, l.Balance.Pending, l.Balance.Debt, l.Order, l.Cause))
		}
		if cursor = next; cursor == "" {
			return lines
		}
	}
}

func TestPointsOfACustomer(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	doubled := policy.Default()
	doubled.Loyalty.Programmes = []policy.Programme{{
		ID: policy.DefaultProgramme, Earning: policy.Earning{
			Multipliers: []policy.Multiplier{{Factor: *number("2"), Tiers: []string{"silver"}, Categories: []string{"tea"}}},
		},
	}}
	s.applyNow(Proposal{Policy: doubled}, 2, true)
	s.under(2)
	s.send(
		sent{id: "p1", kind: domain.Page, name: "Home", anon: "v1", at: day0 - 20*domain.Day},
		sent{id: "i1", kind: domain.Identify, user: "42", anon: "v1", at: day0 - 10*domain.Day},
		paid("o1", "42", day0-9*domain.Day, "600.90"),
		bought("o2", "42", day0-8*domain.Day, 10), // in another currency
	)

	l := s.loyalty("anon:v1", At{})
	if l.Customer != s.customer("user:42", At{}).ID || l.Programme != policy.DefaultProgramme || !l.Running || !l.Enrolled.Equal((day0 - 20*domain.Day).Time()) {
		t.Errorf("%+v", l)
	}
	if l.Tier.Name != "silver" || l.Tier.Total != "600" || l.Tier.Next != "gold" || l.Tier.Missing != "1400" || l.Tier.By != policy.ByPoints ||
		!l.Tier.Since.Equal((day0 - 9*domain.Day).Time()) || !l.Tier.Until.Equal((day0 + 356*domain.Day).Time()) || l.Tier.Reason == "" || l.Tier.Cause == "" {
		t.Errorf("tier %+v", l.Tier)
	}
	if l.Totals.Available != 600 || l.Totals.Earned != 600 || l.Worth.String() != "6" || l.Currency != "USD" || l.Expiring != 600 ||
		!l.ExpiringAt.Equal((day0 + 356*domain.Day).Time()) || len(l.Lots) != 1 || l.Lots[0].Order != "o1" {
		t.Errorf("%+v", l)
	}
	if c := s.customer("user:42", At{}).Loyalty; len(c) != 1 || c[0] != (LoyaltyStanding{policy.DefaultProgramme, "silver", loyalty.Balance{Available: 600}, "gold", "1400"}) {
		t.Errorf("%+v", c)
	}
	// Before the purchase, and when the points have expired.
	if l := s.loyalty("user:42", At{AsOf: (day0 - 15*domain.Day).Time()}); l.Tier.Name != "member" || !l.Tier.Until.IsZero() || l.Totals.Earned != 0 || !l.ExpiringAt.IsZero() {
		t.Errorf("%+v", l)
	}
	if l := s.loyalty("user:42", At{AsOf: (day0 + 400*domain.Day).Time()}); l.Totals.Expired != 600 || len(l.Lots) != 0 || l.Tier.Name != "member" {
		t.Errorf("%+v", l)
	}

	// A command, and a touchpoint that comes late.
	s.clock.set(day0 + domain.Day)
	s.command("42", commandData{Command: "redeem", Points: 100, Reason: "a mug"})
	s.clock.set(day0 + 2*domain.Day)
	s.send(paid("o3", "42", day0-3*domain.Day, "50"))
	for _, c := range []struct {
		at        At
		available int64
		redeemed  int64
	}{
		{At{}, 550, 100},
		{At{AsOf: (day0 + domain.Day).Time()}, 550, 100},
		{At{AsOf: day0.Time()}, 650, 0},
		{At{KnownAt: day0.Time()}, 600, 0},
		{At{KnownAt: (day0 + domain.Day).Time()}, 500, 100},
		{At{KnownAt: (day0 + domain.Day).Time(), AsOf: day0.Time()}, 600, 0},
		{At{KnownAt: (day0 + 2*domain.Day).Time()}, 550, 100},
	} {
		l := s.loyalty("user:42", c.at)
		if l.Totals.Available != c.available || l.Totals.Redeemed != c.redeemed {
			t.Errorf("%+v: %+v", c.at, l.Totals)
		}
		if got := s.customer("user:42", c.at).Loyalty; len(got) != 1 || got[0].Balance != l.Totals.Balance {
			t.Errorf("%+v: %+v", c.at, got)
		}
	}

	// The ledger is the table's, however it is read.
	all := s.ledger("user:42", At{}, 1000)
	for limit := 1; limit < 4; limit++ {
		if got := s.ledger("user:42", At{}, limit); !slices.Equal(got, all) {
			t.Errorf("by %d:\n%s", limit, strings.Join(got, "\n"))
		}
	}
	table := s.rows(`SELECT concat(toString(seq), ' ', kind, ' ', toString(points), ' ',
		arrayStringConcat(arrayMap(n -> concat(if(n < 0, '', '+'), toString(n)), [available, pending, debt]), '/'), ' = ',
		arrayStringConcat(arrayMap(n -> toString(n), [balance_available, balance_pending, balance_debt]), '/'), ' ', order_id, ' ', cause) AS x
		FROM loyalty_ledger ORDER BY seq`)
	if !slices.Equal(all, table) || len(all) != 4 || !strings.HasPrefix(all[1], "2 earned 0 +0/+0/+0 = 600/0/0 o2") {
		t.Errorf("the ledger is\n%s\nthe table has\n%s", strings.Join(all, "\n"), strings.Join(table, "\n"))
	}
	if got := s.ledger("user:42", At{KnownAt: day0.Time()}, 10); len(got) != 2 {
		t.Errorf("known: %v", got)
	}

	// What there is not.
	if _, err := s.views.Loyalty(t.Context(), "user:42", "gold", At{}); !errors.Is(err, ErrNoProgramme) {
		t.Errorf("no programme: %v", err)
	}
	if _, err := s.views.Loyalty(t.Context(), "user:nobody", "", At{}); !errors.Is(err, ErrNotFound) {
		t.Errorf("no customer: %v", err)
	}
	if _, err := s.views.Loyalty(t.Context(), "user:42", "", At{AsOf: (day0 - 30*domain.Day).Time()}); !errors.Is(err, ErrNotFound) {
		t.Errorf("before the first touchpoint: %v", err)
	}
	if _, _, err := s.views.LoyaltyLedger(t.Context(), "user:42", "", At{}, "x", 5); !errors.Is(err, ErrBadCursor) {
		t.Errorf("cursor: %v", err)
	}

	s.quoted()

	programmes, err := s.views.LoyaltyProgrammes(t.Context())
	if err != nil || len(programmes) != 1 {
		t.Fatalf("%+v, %v", programmes, err)
	}
	p := programmes[0]
	if p.ID != policy.DefaultProgramme || !p.Running || !p.From.IsZero() || p.Rules.Currency != "USD" ||
		p.Rules.Earning.From != day0.String() || len(p.Rules.Earning.Multipliers) != 1 || p.Rules.Tiers.From != "" || len(p.Rules.Tiers.Levels) != 4 {
		t.Errorf("%+v", p)
	}
	total := s.loyalty("user:42", At{}).Totals
	if f := p.Figures; f.Members != 1 || f.ActiveMembers != 1 || f.Points != total.Available || f.Given != total.Earned || f.Redeemed != 100 ||
		f.RedemptionRate == nil || f.Liability != worth(total.Available, 100).String() {
		t.Errorf("%+v of %+v", f, total)
	}
	if h := s.views.Policies()[1].HoldsFrom; len(h) != 1 || h[0] != (HoldsFrom{Programme: policy.DefaultProgramme, Earning: day0.String()}) {
		t.Errorf("holds from %+v", h)
	}
}

// quoted holds quotes against what is earned then.
func (s *site) quoted() {
	s.t.Helper()
	quote := func(r QuoteRequest) Quote {
		q, err := s.views.LoyaltyQuote(s.t.Context(), "user:42", r)
		if err != nil {
			s.t.Errorf("%+v: %v", r, err)
		}
		return q
	}
	total := domain.Decimal(300_000)
	tea := json.RawMessage(`[{"sku":"1","category":"tea","price":10.30,"quantity":2},{"sku":"2","price":"10"}]`)
	if q := quote(QuoteRequest{Total: &total, Currency: "EUR"}); q.Points != 0 || q.Currency != "EUR" || q.ProgrammeCurrency != "USD" || !q.Enrolled {
		s.t.Errorf("another currency: %+v", q)
	}
	if q := quote(QuoteRequest{Total: &total, At: (day0 - 15*domain.Day).Time(), Products: tea}); q.Points != 30 || q.Tier != "member" {
		s.t.Errorf("as a member, under the rules of the day: %+v", q)
	}
	if q := quote(QuoteRequest{Products: tea, At: (day0 - 25*domain.Day).Time()}); q.Points != 30 || !q.Enrolled || q.Tier != "member" {
		s.t.Errorf("it would be the first touchpoint: %+v", q)
	}
	q := quote(QuoteRequest{Products: tea})
	if q.Points != 51 || q.Tier != "silver" || q.Amount.String() != "30.6" || q.Worth.String() != "0.51" || q.Currency != "USD" {
		s.t.Errorf("%+v", q)
	}
	before := s.loyalty("user:42", At{}).Totals
	m := paid("o4", "42", domain.MillisOf(s.clock.now()), "0")
	m.properties = fmt.Sprintf(`{"order_id":"o4","total":30.6,"products":%s}`, tea)
	s.send(m)
	if after := s.loyalty("user:42", At{}).Totals; after.Earned != before.Earned+q.Points {
		s.t.Errorf("%d were earned, %d quoted", after.Earned-before.Earned, q.Points)
	}
	var bad *QuoteError
	if _, err := s.views.LoyaltyQuote(s.t.Context(), "user:42", QuoteRequest{Products: json.RawMessage(`[{"sku":"1"}]`)}); !errors.As(err, &bad) {
		s.t.Errorf("no price: %v", err)
	}
}
