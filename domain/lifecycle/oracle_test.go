package lifecycle_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"sojourn/domain"
	"sojourn/domain/commerce"
	"sojourn/domain/lifecycle"
	"sojourn/domain/policy"
)

// The oracle evaluates the definition at every instant at which anything can
// change, from the whole list of touchpoints, and shares no code with what it
// judges.

type oracle struct {
	touches  []lifecycle.Touch // sorted
	rules    policy.Lifecycle
	currency string
}

func newOracle(ts []lifecycle.Touch, rules policy.Lifecycle, currency string) oracle {
	ts = slices.Clone(ts)
	slices.SortFunc(ts, func(a, b lifecycle.Touch) int {
		switch {
		case a.At < b.At:
			return -1
		case a.At > b.At:
			return 1
		case a.ID.String() < b.ID.String():
			return -1
		case a.ID.String() > b.ID.String():
			return 1
		}
		return 0
	})
	return oracle{ts, rules, currency}
}

func millis(days int) domain.Millis { return domain.Millis(days) * 86_400_000 }

// order finds what is known of an order after the first n touchpoints: the index
// of its purchase, its amount, what was taken back, and whether that is all.
func (o oracle) order(id string, n int) (purchase int, amount domain.Decimal, hasAmount bool, taken domain.Decimal, all bool) {
	purchase = -1
	for i, t := range o.touches[:n] {
		if t.Meaning == policy.Purchase && t.Order.ID == id {
			purchase = i
			break
		}
	}
	if purchase < 0 {
		return purchase, amount, hasAmount, taken, all
	}
	currency := o.touches[purchase].Order.Currency
	if currency == "" {
		currency = o.currency
	}
	// Fully refunded at any earlier look is fully refunded now.
	for look := purchase + 1; look <= n; look++ {
		own := o.touches[purchase].Order
		amount, hasAmount, taken = own.Amount, own.State == commerce.AmountRead, 0
		refunds, everything := 0, false
		for _, t := range o.touches[:look] {
			if t.Order.ID != id {
				continue
			}
			same := t.Order.Currency == "" || t.Order.Currency == currency
			switch t.Meaning {
			case policy.OrderUpdate:
				if t.Order.State == commerce.AmountRead && same {
					amount, hasAmount = t.Order.Amount, true
				}
			case policy.Cancellation:
				refunds++
				everything = true
			case policy.Refund:
				refunds++
				if same && t.Order.State == commerce.AmountNone {
					everything = true
				}
				if same && t.Order.State == commerce.AmountRead {
					taken += t.Order.Amount
				}
			}
		}
		if everything || refunds > 0 && (!hasAmount || amount <= 0 || taken >= amount) {
			all = true
		}
	}
	return purchase, amount, hasAmount, taken, all
}

// counting lists the purchases that count after the first n touchpoints.
func (o oracle) counting(n int) []lifecycle.Touch {
	var list []lifecycle.Touch
	for i, t := range o.touches[:n] {
		if t.Meaning != policy.Purchase {
			continue
		}
		if t.Order.ID != "" {
			if purchase, _, _, _, all := o.order(t.Order.ID, n); purchase != i || all {
				continue
			}
		}
		list = append(list, t)
	}
	return list
}

// stage is the table, row by row.
func (o oracle) stage(n int, t domain.Millis) lifecycle.Stage {
	list := o.counting(n)
	if len(list) > 0 {
		since := t - list[len(list)-1].At
		recent := 0
		for _, p := range list {
			if p.At > t-millis(o.rules.LoyalDays) && p.At <= t {
				recent++
			}
		}
		switch {
		case since >= millis(o.rules.LostDays):
			return lifecycle.Lost
		case since >= millis(o.rules.ChurnedDays):
			return lifecycle.Churned
		case since >= millis(o.rules.AtRiskDays):
			return lifecycle.AtRisk
		case len(list) >= 2 && list[len(list)-1].At > list[len(list)-2].At+millis(o.rules.WonBackDays):
			return lifecycle.WonBack
		case recent >= o.rules.LoyalPurchases:
			return lifecycle.Loyal
		case len(list) >= 2:
			return lifecycle.Repeat
		}
		return lifecycle.FirstPurchase
	}
	stage := lifecycle.None
	for _, touch := range o.touches[:n] {
		switch {
		case touch.Meaning == policy.Qualified:
			return lifecycle.Qualified
		case touch.UnderUser || touch.HasEmail || touch.Meaning == policy.Lead:
			stage = lifecycle.Lead
		case stage == lifecycle.None:
			stage = lifecycle.Visitor
		}
	}
	return stage
}

func (o oracle) transitions() []lifecycle.Transition {
	var instants []domain.Millis
	for _, t := range o.touches {
		instants = append(instants, t.At)
		if t.Meaning == policy.Purchase {
			for _, d := range []int{o.rules.AtRiskDays, o.rules.ChurnedDays, o.rules.LostDays, o.rules.LoyalDays} {
				instants = append(instants, t.At+millis(d))
			}
		}
	}
	slices.Sort(instants)
	instants = slices.Compact(instants)
	var list []lifecycle.Transition
	stage := lifecycle.None
	enter := func(to lifecycle.Stage, at domain.Millis, cause lifecycle.Cause) {
		list = append(list, lifecycle.Transition{From: stage, To: to, At: at, Cause: cause})
		stage = to
	}
	n := 0
	for _, t := range instants {
		start := n
		before := o.stage(n, t)
		for ; n < len(o.touches) && o.touches[n].At == t; n++ {
			after := o.stage(n+1, t)
			if after != stage && after != before {
				enter(after, t, lifecycle.Cause{Touchpoint: o.touches[n].ID})
			}
			before = after
		}
		if before == stage {
			continue
		}
		list := o.counting(start)
		switch before {
		case lifecycle.AtRisk, lifecycle.Churned, lifecycle.Lost:
			enter(before, t, lifecycle.Cause{Rule: string(before), Touchpoint: list[len(list)-1].ID})
		default:
			enter(before, t, lifecycle.Cause{Rule: "loyal", Touchpoint: list[len(list)-o.rules.LoyalPurchases].ID})
		}
	}
	return list
}

// until is the number of touchpoints at or before t.
func (o oracle) until(t domain.Millis) int {
	n := 0
	for n < len(o.touches) && o.touches[n].At <= t {
		n++
	}
	return n
}

func (o oracle) totals(t domain.Millis) lifecycle.Totals {
	n := o.until(t)
	var totals lifecycle.Totals
	for _, touch := range o.touches[:n] {
		if touch.Meaning == policy.Refund || touch.Meaning == policy.Cancellation {
			totals.Refunds++
		}
	}
	for _, p := range o.counting(n) {
		totals.Purchases++
		amount, readable, taken := p.Order.Amount, p.Order.State == commerce.AmountRead, domain.Decimal(0)
		if p.Order.ID != "" {
			_, amount, readable, taken, _ = o.order(p.Order.ID, n)
		}
		if !readable {
			continue
		}
		if totals.Revenue == nil {
			totals.Revenue = map[string]domain.Decimal{}
		}
		currency := p.Order.Currency
		if currency == "" {
			currency = o.currency
		}
		totals.Revenue[currency] += amount - taken
	}
	return totals
}

// compareWithOracle returns what differs: the transitions, and the stage and the
// totals at every instant at which something changes, and a millisecond before.
func compareWithOracle(ts []lifecycle.Touch, rules policy.Lifecycle, currency string) string {
	o := newOracle(ts, rules, currency)
	facts := addAll(ts)
	want, got := o.transitions(), lifecycle.Transitions(facts, rules, currency)
	texts := [2][]string{}
	for i, list := range [...][]lifecycle.Transition{got, want} {
		for _, tr := range list {
			texts[i] = append(texts[i], fmt.Sprintf("%s %s→%s %s", tr.At, tr.From, tr.To, tr.Cause))
		}
	}
	if !slices.Equal(texts[0], texts[1]) {
		return fmt.Sprintf("transitions\n%q\nwant\n%q", texts[0], texts[1])
	}
	for i, tr := range got {
		if tr.Reason == "" || tr.To == tr.From || i > 0 && tr.At < got[i-1].At {
			return fmt.Sprintf("transition %d is %+v", i, tr)
		}
	}
	var looks []domain.Millis
	for _, tr := range got {
		looks = append(looks, tr.At-1, tr.At)
	}
	for _, t := range ts {
		looks = append(looks, t.At-1, t.At, t.At+1)
	}
	for _, at := range looks {
		n := o.until(at)
		stage := o.stage(n, at)
		last := lifecycle.None
		for _, tr := range got {
			if tr.At <= at {
				last = tr.To
			}
		}
		if last != stage {
			return fmt.Sprintf("the last transition by %s leads to %q, the stage then is %q", at, last, stage)
		}
		var instants []domain.Millis
		for _, p := range o.counting(n) {
			instants = append(instants, p.At)
		}
		reached := lifecycle.ReachedNothing
		for _, t := range o.touches[:n] {
			switch {
			case t.Meaning == policy.Qualified:
				reached = max(reached, lifecycle.ReachedQualified)
			case t.UnderUser || t.HasEmail || t.Meaning == policy.Lead:
				reached = max(reached, lifecycle.ReachedLead)
			default:
				reached = max(reached, lifecycle.ReachedVisitor)
			}
		}
		if defined := lifecycle.StageAt(instants, reached, at, rules); defined != stage {
			return fmt.Sprintf("StageAt(%s) is %q, want %q", at, defined, stage)
		}
		if a, b := totalsText(lifecycle.TotalsAt(facts, at, currency)), totalsText(o.totals(at)); a != b {
			return fmt.Sprintf("totals at %s are %q, want %q", at, a, b)
		}
		// What comes later changes nothing of what was.
		var cut lifecycle.Facts
		for _, t := range ts {
			if t.At <= at {
				cut.Add(t)
			}
		}
		known := lifecycle.Transitions(&cut, rules, currency)
		if len(known) > 0 || n > 0 {
			past := func(list []lifecycle.Transition) []lifecycle.Transition {
				return slices.DeleteFunc(slices.Clone(list), func(tr lifecycle.Transition) bool { return tr.At > at })
			}
			if !slices.Equal(past(known), past(got)) {
				return fmt.Sprintf("at %s the past depends on the future", at)
			}
		}
	}
	return ""
}

func drawHistory(t *rapid.T) ([]lifecycle.Touch, policy.Lifecycle) {
	rules := rules
	gaps := []domain.Millis{
		0, 0, 1, domain.Day, 10 * domain.Day, millis(30), millis(60) - 1, millis(60), millis(60) + 1,
		millis(120) - 1, millis(120), millis(120) + 1, millis(245), millis(365) - 1, millis(365), -millis(60), -millis(120), -1,
	}
	if rapid.Bool().Draw(t, "short") {
		rules = policy.Lifecycle{
			AtRiskDays: rapid.IntRange(1, 3).Draw(t, "at risk"), ChurnedDays: 4, LostDays: 6,
			WonBackDays:    rapid.IntRange(1, 6).Draw(t, "won back"),
			LoyalPurchases: rapid.IntRange(2, 4).Draw(t, "loyal purchases"),
			LoyalDays:      rapid.IntRange(1, 8).Draw(t, "loyal days"),
		}
		gaps = []domain.Millis{0, 0, 0, 1, domain.Day - 1, domain.Day, domain.Day, domain.Day + 1, 2 * domain.Day, 4 * domain.Day, -domain.Day, -2 * domain.Day}
	}
	meanings := []policy.Meaning{
		policy.Purchase, policy.Purchase, policy.Purchase, policy.Refund, policy.Refund, policy.OrderUpdate,
		policy.Cancellation, policy.Engagement, policy.Lead, policy.Qualified, policy.Unmapped,
	}
	n := rapid.IntRange(1, 14).Draw(t, "touchpoints")
	ids := rapid.Permutation([]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14}).Draw(t, "ids")
	at := day0
	var ts []lifecycle.Touch
	for i := range n {
		at += rapid.SampledFrom(gaps).Draw(t, "gap")
		m := rapid.SampledFrom(meanings).Draw(t, "meaning")
		touch := lifecycle.Touch{
			Ref: lifecycle.Ref{At: at, ID: uuid.UUID{15: ids[i]}}, Meaning: m, Name: "E",
			UnderUser: rapid.IntRange(0, 3).Draw(t, "user") == 0, HasEmail: rapid.IntRange(0, 7).Draw(t, "email") == 0,
		}
		if commerce.HasOrder(m) {
			touch = money(touch,
				rapid.SampledFrom([]string{"", "a", "a", "b", "b", "c"}).Draw(t, "order"),
				rapid.SampledFrom([]string{"10", "10", "5", "5", "15", "0", "-5", "", "?"}).Draw(t, "amount")+
					rapid.SampledFrom([]string{"", "", " USD", " EUR"}).Draw(t, "currency"))
			if m == policy.Refund {
				touch.Order.Amount = touch.Order.Amount.Abs()
			}
			if m == policy.Cancellation {
				touch.Order.Amount, touch.Order.State = 0, commerce.AmountNone
			}
		}
		ts = append(ts, touch)
	}
	return ts, rules
}

func TestAgainstTheOracle(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		for range 10 {
			ts, rules := drawHistory(t)
			if diff := compareWithOracle(ts, rules, "USD"); diff != "" {
				t.Fatal(diff)
			}
		}
	})
}

func TestOrderOfArrivalChangesNothing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		ts, rules := drawHistory(t)
		want := addAll(ts)
		bytes := string(want.Append(nil))
		for _, way := range replays {
			got := way.fold(ts)
			if !slices.Equal(lifecycle.Transitions(got, rules, "USD"), lifecycle.Transitions(want, rules, "USD")) {
				t.Fatalf("%s: other transitions", way.name)
			}
			if string(got.Append(nil)) != bytes {
				t.Fatalf("%s: other bytes", way.name)
			}
		}
	})
}
