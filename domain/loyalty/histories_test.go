package loyalty_test

import (
	"strings"
	"testing"

	"sojourn/domain/loyalty"
	"sojourn/domain/policy"
)

// Rules that several histories share.
const (
	forEver  = `{"expiry":{"days":0}}`
	pending  = `{"earning":{"pending_days":14}}`
	hundred  = `{"expiry":{"days":100,"grace_days":10}}`
	calendar = `{"tiers":{"window":"calendar"},"expiry":{"days":0}}`
)

var specs = []spec{
	// Earning.
	{
		name:  "a visitor is a member and has nothing",
		given: []step{visit(0)},
		tiers: "0 member until ever",
		also: func(t *testing.T, l *loyalty.Ledger) {
			if l.Enrolled != day(0) || len(l.Movements) != 0 || l.Tier.Next != "silver" || l.Tier.Missing != 500 || l.Next != policy.Never {
				t.Errorf("%+v", l)
			}
		},
	},
	{
		name:  "one point per whole unit, rounded down per order",
		given: []step{buy(0, "a", "19.99"), buy(1, "b", "0.99"), buy(2, "c", "100")},
		then:  "0 earned 19 = 19/0/0; 2 earned 100 = 119/0/0",
	},
	{
		name:  "an order without an amount, or with one that cannot be read, earns nothing and says so",
		given: []step{buy(0, "a", ""), buy(1, "b", "?")},
		then:  "0 earned 0 = 0/0/0; 1 earned 0 = 0/0/0",
		also: func(t *testing.T, l *loyalty.Ledger) {
			if l.Movements[0].Note != "an order without an amount" || l.Movements[1].Note != "an order whose amount cannot be read" {
				t.Errorf("%+v", l.Movements)
			}
		},
	},
	{
		name:  "an amount that an update tells later earns then",
		given: []step{buy(0, "a", ""), update(3, "a", "50")},
		then:  "0 earned 0 = 0/0/0; 3 earned 50 = 50/0/0",
	},
	{
		name:  "another currency without a rate earns nothing and the ledger says so",
		given: []step{buy(0, "a", "100 EUR")},
		then:  "0 earned 0 = 0/0/0",
		also: func(t *testing.T, l *loyalty.Ledger) {
			if !strings.Contains(l.Movements[0].Note, "EUR") {
				t.Errorf("%q", l.Movements[0].Note)
			}
		},
	},
	{
		name:  "another currency earns at its own rate",
		rules: `{"earning":{"per_unit":2,"rates":{"EUR":"2.2","JPY":0.01}}}`,
		given: []step{buy(0, "a", "100 EUR"), buy(1, "b", "1999 JPY"), buy(2, "c", "10.60")},
		then:  "0 earned 220 = 220/0/0; 1 earned 19 = 239/0/0; 2 earned 21 = 260/0/0",
	},
	{
		name:  "an order earns once, whatever its source",
		given: []step{buy(0, "a", "100"), buy(0.5, "a", "100"), buy(1, "a", "300")},
		then:  "0 earned 100 = 100/0/0",
	},
	{
		name:  "orders without an id are orders of their own",
		given: []step{buy(0, "", "10"), buy(0, "", "10"), refund(1, "", "10")},
		then:  "0 earned 10 = 10/0/0; 0 earned 10 = 20/0/0",
	},
	{
		name:  "an event earns",
		rules: `{"earning":{"events":[{"name":"Product Reviewed","points":50}]}}`,
		given: []step{event(0, "Product Reviewed"), event(1, "product_reviewed"), event(2, "Product Viewed")},
		then:  "0 earned 50 = 50/0/0; 1 earned 50 = 100/0/0",
	},
	{
		name:  "an event is multiplied by its product and its channel",
		rules: `{"earning":{"events":[{"name":"Product Reviewed","points":5}],"multipliers":[{"factor":1.5,"products":["tea"]},{"factor":2,"channels":["mobile"]}]}}`,
		given: []step{event(0, "Product Reviewed", "tea"), event(1, "Product Reviewed", "mug").by(policy.Mobile), event(2, "Product Reviewed", "tea").by(policy.Mobile)},
		then:  "0 earned 7 = 7/0/0; 1 earned 10 = 17/0/0; 2 earned 15 = 32/0/0",
	},
	{
		name:  "a birthday earns once a calendar year",
		rules: `{"earning":{"birthday":100},"expiry":{"days":0}}`,
		given: []step{born(0, 3, 1), visit(800)},
		then:  "59.5 earned 100 = 100/0/0; 424.5 earned 100 = 200/0/0; 789.5 earned 100 = 300/0/0",
	},
	{
		name:  "a birthday that is told anew earns no second time in its year",
		rules: `{"earning":{"birthday":100},"expiry":{"days":0}}`,
		given: []step{born(0, 3, 1), born(90, 6, 1), visit(530)},
		then:  "59.5 earned 100 = 100/0/0; 516.5 earned 100 = 200/0/0",
	},
	{
		name:  "who was born on 29 February has the 28th in other years",
		rules: `{"earning":{"birthday":10},"expiry":{"days":0}}`,
		given: []step{born(0, 2, 29), visit(430)},
		then:  "58.5 earned 10 = 10/0/0; 423.5 earned 10 = 20/0/0",
	},
	{
		name:  "a birthday begins in the programme's time zone",
		rules: `{"time_zone":"Asia/Tokyo","earning":{"birthday":10}}`,
		given: []step{born(0, 1, 5), visit(10)},
		then:  "3.125 earned 10 = 10/0/0",
	},
	{
		name:  "a birthday that is taken away earns no more",
		rules: `{"earning":{"birthday":10}}`,
		given: []step{born(0, 3, 1), born(10, 0, 0), visit(100)},
		also: func(t *testing.T, l *loyalty.Ledger) {
			if len(l.Movements) != 0 || l.Next != policy.Never {
				t.Errorf("%s, next %s", lines(l), days(l.Next))
			}
		},
	},
	{
		name:  "multipliers of product and category touch their lines only",
		rules: `{"earning":{"multipliers":[{"factor":3,"products":["tea"]},{"factor":2,"categories":["cups"]}]}}`,
		given: []step{buy(0, "a", "60", "tea:food:10×2", "mug:cups:10", "hat:clothes:30")},
		then:  "0 earned 110 = 110/0/0",
	},
	{
		name:  "lines share a discounted total in proportion",
		rules: `{"earning":{"multipliers":[{"factor":4,"products":["a"]}]}}`,
		given: []step{buy(0, "o", "1", "a::1", "b::2")},
		then:  "0 earned 2 = 2/0/0",
	},
	{
		name:  "a period multiplies what happens in it, its end outside",
		rules: `{"earning":{"multipliers":[{"factor":2,"starts":"2024-01-11","ends":"2024-01-21"}]}}`,
		given: []step{buy(9, "a", "10"), buy(9.5, "b", "10"), buy(19.4999, "c", "10"), buy(19.5, "d", "10")},
		then:  "9 earned 10 = 10/0/0; 9.5 earned 20 = 30/0/0; 19.4999 earned 20 = 50/0/0; 19.5 earned 10 = 60/0/0",
	},
	{
		name:  "the tier held just before multiplies",
		rules: `{"earning":{"multipliers":[{"factor":2,"tiers":["silver"]}]}}`,
		given: []step{buy(0, "a", "500"), buy(1, "b", "10")},
		then:  "0 earned 500 = 500/0/0; 1 earned 20 = 520/0/0",
		tiers: "0 member until ever; 0 silver until 365",
	},
	{
		name:  "who is not enrolled in an explicit programme earns nothing",
		rules: `{"earning":{"enrolment":"explicit"}}`,
		given: []step{buy(0, "a", "100"), refund(1, "a", "100")},
		also: func(t *testing.T, l *loyalty.Ledger) {
			if l.Enrolled != policy.Never || l.Tier.Name != "" || len(l.Movements) != 0 {
				t.Errorf("%+v", l)
			}
		},
	},
	{
		name:  "an explicit programme earns from the enrolment on",
		rules: `{"earning":{"enrolment":"explicit"}}`,
		given: []step{buy(0, "a", "100"), buy(2, "b", "10"), enroll(2), buy(3, "c", "20"), update(4, "a", "900")},
		then:  "2 earned 10 = 10/0/0; 3 earned 20 = 30/0/0",
		tiers: "2 member until ever",
	},
	{
		name:  "nothing earns before the programme's from",
		rules: `{"from":"2024-01-11T12:00:00Z"}`,
		given: []step{buy(9, "a", "100"), buy(10, "b", "10")},
		then:  "10 earned 10 = 10/0/0",
		tiers: "10 member until ever",
	},

	// Lots.
	{
		name:  "points are pending and then available",
		rules: pending,
		given: []step{buy(0, "a", "100")},
		until: 14,
		then:  "0 earned 100 = 0/100/0; 14 available 100 = 100/0/0",
	},
	{
		name:  "points that become available at an instant come after its redemptions",
		rules: pending,
		given: []step{buy(0, "a", "100"), redeem(14, 60)},
		then:  "0 earned 100 = 0/100/0; 14 redeemed 60 = 0/100/60; 14 available 100 = 100/0/60; 14 repaid 60 = 40/0/0",
	},
	{
		name:  "points expire a year after they were earned",
		given: []step{buy(0, "a", "100"), buy(100, "b", "50")},
		until: 400,
		then:  "0 earned 100 = 100/0/0; 100 earned 50 = 150/0/0; 365 expired 100 = 50/0/0",
		also: func(t *testing.T, l *loyalty.Ledger) {
			if l.ExpiringAt != day(465) || l.Expiring != 50 || l.Next != day(465) {
				t.Errorf("%d points expire at %s, next %s", l.Expiring, days(l.ExpiringAt), days(l.Next))
			}
		},
	},
	{
		name:  "at the very instant of expiry a redemption still counts",
		given: []step{buy(0, "a", "100"), redeem(365, 100)},
		until: 365,
		then:  "0 earned 100 = 100/0/0; 365 redeemed 100 = 0/0/0",
	},
	{
		name:  "a redemption behind the expiry finds nothing and is owed",
		given: []step{buy(0, "a", "100"), redeem(365.001, 100)},
		then:  "0 earned 100 = 100/0/0; 365 expired 100 = 0/0/0; 365.001 redeemed 100 = 0/0/100",
	},
	{
		name:  "pending points expire too",
		rules: `{"earning":{"pending_days":14},"expiry":{"days":100}}`,
		later: []applied{{day: -10, rules: `{"earning":{"pending_days":14},"expiry":{"days":20,"grace_days":1}}`}},
		given: []step{buy(0, "a", "100"), redeem(1, 10)},
		until: 30,
		then:  "0 earned 100 = 0/100/0; 1 redeemed 10 = 0/100/10; 14 available 100 = 100/0/10; 14 repaid 10 = 90/0/0; 20 expired 90 = 0/0/0",
	},
	{
		name:  "history mistaken for balance (odoo #206048)",
		rules: forEver,
		given: []step{buy(0, "a", "300"), redeem(1, 200), buy(2, "b", "50"), redeem(3, 150)},
		then:  "0 earned 300 = 300/0/0; 1 redeemed 200 = 100/0/0; 2 earned 50 = 150/0/0; 3 redeemed 100 = 50/0/0; 3 redeemed 50 = 0/0/0",
		also: func(t *testing.T, l *loyalty.Ledger) {
			// What was ever earned is 350; what can be spent is nothing.
			if l.Totals.Earned != 350 || l.Totals.Available != 0 || l.Tier.Total != 350 {
				t.Errorf("%+v", l.Totals)
			}
			if _, ok := l.Spend(1); ok {
				t.Error("history can be spent")
			}
		},
	},
	{
		name:  "lots are spent by expiry before earning",
		rules: forEver,
		given: []step{buy(0, "a", "10"), adjust(1, 0).parts(20, 50), adjust(2, 0).parts(30, 40), redeem(3, 45)},
		then:  "0 earned 10 = 10/0/0; 1 adjusted_in 20 = 30/0/0; 2 adjusted_in 30 = 60/0/0; 3 redeemed 30 = 30/0/0; 3 redeemed 15 = 15/0/0",
		lots:  "10 until ever; 5 until 50",
	},
	{
		name:  "lots of one expiry are spent by earning, those of one earning by event id",
		rules: forEver,
		given: []step{buy(1, "b", "10"), buy(1, "c", "10"), buy(0, "a", "10"), redeem(2, 15)},
		also: func(t *testing.T, l *loyalty.Ledger) {
			if m := l.Movements[3:]; m[0].Order != "a" || m[1].Order != "b" || m[1].Points != 5 {
				t.Errorf("%+v", m)
			}
		},
	},
	{
		name:  "a redemption says what the points were worth",
		rules: `{"value":{"point":"0.05"}}`,
		later: []applied{{day: 2, rules: `{"value":{"point":"0.10"}}`}},
		given: []step{buy(0, "a", "100"), redeem(1, 10), redeem(3, 10)},
		also: func(t *testing.T, l *loyalty.Ledger) {
			if a, b := l.Movements[1], l.Movements[2]; a.Value != decimal("0.5") || b.Value != decimal("1") || a.Currency != "USD" {
				t.Errorf("%v %v", a, b)
			}
		},
	},

	// Refunds.
	{
		name:  "buy, refund, keep the points (odoo #257854)",
		given: []step{buy(0, "a", "100"), refund(1, "a", "100")},
		then:  "0 earned 100 = 100/0/0; 1 reversed 100 = 0/0/0",
	},
	{
		name:  "buy, redeem, refund: the points are owed",
		given: []step{buy(0, "a", "100"), redeem(1, 100), refund(2, "a", "100")},
		then:  "0 earned 100 = 100/0/0; 1 redeemed 100 = 0/0/0; 2 reversed 100 = 0/0/100",
	},
	{
		name:  "a debt is paid by the next points that become available",
		given: []step{buy(0, "a", "100"), redeem(1, 100), refund(2, "a", "100"), buy(3, "b", "30"), buy(4, "c", "90")},
		then: `0 earned 100 = 100/0/0; 1 redeemed 100 = 0/0/0; 2 reversed 100 = 0/0/100
			3 earned 30 = 30/0/100; 3 repaid 30 = 0/0/70; 4 earned 90 = 90/0/70; 4 repaid 70 = 20/0/0`,
	},
	{
		name:  "a debt does not expire",
		given: []step{buy(0, "a", "100"), redeem(1, 100), refund(2, "a", "100"), buy(900, "b", "100")},
		then:  "0 earned 100 = 100/0/0; 1 redeemed 100 = 0/0/0; 2 reversed 100 = 0/0/100; 900 earned 100 = 100/0/100; 900 repaid 100 = 0/0/0",
	},
	{
		name:  "after a refund an order has given what its remaining amount earns",
		given: []step{buy(0, "a", "99.50"), refund(1, "a", "0.60"), refund(2, "a", "0.95"), refund(3, "a", "98")},
		then:  "0 earned 99 = 99/0/0; 1 reversed 1 = 98/0/0; 2 reversed 1 = 97/0/0; 3 reversed 97 = 0/0/0",
	},
	{
		name:  "a refund of more than the order takes what the order gave",
		given: []step{buy(0, "a", "50"), buy(0, "b", "50"), refund(1, "a", "500")},
		then:  "0 earned 50 = 50/0/0; 0 earned 50 = 100/0/0; 1 reversed 50 = 50/0/0",
	},
	{
		name:  "a cancelled order has given nothing, and an update does not bring it back",
		given: []step{buy(0, "a", "50"), cancelOrder(1, "a"), update(2, "a", "80"), refund(3, "a", "10")},
		then:  "0 earned 50 = 50/0/0; 1 reversed 50 = 0/0/0",
	},
	{
		name:  "a refund takes from its own lots, the pending first",
		rules: pending,
		given: []step{buy(0, "a", "100"), update(10, "a", "150"), refund(20, "a", "70")},
		then:  "0 earned 100 = 0/100/0; 10 earned 50 = 0/150/0; 14 available 100 = 100/50/0; 20 reversed 50 = 100/0/0; 20 reversed 20 = 80/0/0",
	},
	{
		name:  "what has expired counts as given back",
		rules: hundred,
		given: []step{buy(0, "a", "100"), redeem(1, 40), refund(200, "a", "100")},
		then:  "0 earned 100 = 100/0/0; 1 redeemed 40 = 60/0/0; 100 expired 60 = 0/0/0; 200 offset 60 = 0/0/0; 200 reversed 40 = 0/0/40",
	},
	{
		name:  "what has expired counts as given back once",
		rules: hundred,
		given: []step{buy(0, "a", "100"), redeem(1, 40), refund(200, "a", "50"), refund(201, "a", "50")},
		then: `0 earned 100 = 100/0/0; 1 redeemed 40 = 60/0/0; 100 expired 60 = 0/0/0
			200 offset 50 = 0/0/0; 201 offset 10 = 0/0/0; 201 reversed 40 = 0/0/40`,
	},
	{
		name:  "what is missing comes from other lots, available before pending",
		rules: pending,
		given: []step{buy(0, "a", "100"), buy(1, "b", "30"), redeem(14.5, 100), buy(20, "c", "200"), refund(21, "a", "100")},
		then: `0 earned 100 = 0/100/0; 1 earned 30 = 0/130/0; 14 available 100 = 100/30/0; 14.5 redeemed 100 = 0/30/0
			15 available 30 = 30/0/0; 20 earned 200 = 30/200/0; 21 reversed 30 = 0/200/0; 21 reversed 70 = 0/130/0`,
	},
	{
		name:  "a refund before its order takes effect at the order",
		given: []step{refund(0, "a", "40"), update(1, "a", "90"), buy(2, "a", "100"), refund(3, "a", "10")},
		then:  "2 earned 50 = 50/0/0; 3 reversed 10 = 40/0/0",
	},
	{
		name:  "a refund in another currency takes nothing back",
		given: []step{buy(0, "a", "100"), refund(1, "a", "100 EUR"), refund(2, "a", "50 USD")},
		then:  "0 earned 100 = 100/0/0; 2 reversed 50 = 50/0/0",
	},
	{
		name:  "a refund without an amount takes all that is left",
		given: []step{buy(0, "a", "100"), refund(1, "a", "30"), refund(2, "a", "")},
		then:  "0 earned 100 = 100/0/0; 1 reversed 30 = 70/0/0; 2 reversed 70 = 0/0/0",
	},
	{
		name:  "an update changes what an order gives",
		given: []step{buy(0, "a", "100"), update(1, "a", "150"), update(2, "a", "20")},
		then:  "0 earned 100 = 100/0/0; 1 earned 50 = 150/0/0; 2 reversed 100 = 50/0/0; 2 reversed 30 = 20/0/0",
	},
	{
		name:  "a refund that names products takes back theirs",
		rules: `{"earning":{"multipliers":[{"factor":3,"products":["tea"]}]}}`,
		given: []step{buy(0, "a", "60", "tea::10×2", "hat::40"), refund(1, "a", "40", "hat::40"), refund(2, "a", "10", "tea::10")},
		then:  "0 earned 100 = 100/0/0; 1 reversed 40 = 60/0/0; 2 reversed 30 = 30/0/0",
	},
	{
		name:  "any other refund takes from all lines in proportion",
		rules: `{"earning":{"multipliers":[{"factor":3,"products":["tea"]}]}}`,
		given: []step{buy(0, "a", "60", "tea::10×2", "hat::40"), refund(1, "a", "30")},
		then:  "0 earned 100 = 100/0/0; 1 reversed 50 = 50/0/0",
	},
	{
		name:  "a refund that names products without amounts takes back their part",
		given: []step{buy(0, "a", "60", "tea::10×2", "hat::40"), refund(1, "a", "", "tea"), refund(2, "a", "", "hat::×1")},
		then:  "0 earned 60 = 60/0/0; 1 reversed 10 = 50/0/0; 2 reversed 40 = 10/0/0",
	},
	{
		name:  "a refund of more than its products were takes the rest from all lines",
		rules: `{"earning":{"multipliers":[{"factor":2,"products":["tea"]}]}}`,
		given: []step{buy(0, "a", "50", "tea::10", "hat::40"), refund(1, "a", "20", "tea::10")},
		then:  "0 earned 60 = 60/0/0; 1 reversed 30 = 30/0/0",
	},
	{
		name:  "a refund is judged by the rules of its order's day",
		rules: `{}`,
		later: []applied{{day: 5, rules: `{"earning":{"per_unit":10}}`}},
		given: []step{buy(0, "a", "100"), buy(6, "b", "10"), refund(7, "a", "40"), refund(8, "b", "5")},
		then:  "0 earned 100 = 100/0/0; 6 earned 100 = 200/0/0; 7 reversed 40 = 160/0/0; 8 reversed 50 = 110/0/0",
	},

	// Commands.
	{
		name:  "a late refund leaves a redemption and shows the debt",
		given: []step{buy(0, "a", "100"), redeem(5, 80), refund(2, "a", "50")},
		then:  "0 earned 100 = 100/0/0; 2 reversed 50 = 50/0/0; 5 redeemed 50 = 0/0/0; 5 redeemed 30 = 0/0/30",
	},
	{
		name:  "a cancelled redemption gives its points back to their lots",
		rules: hundred,
		given: []step{buy(0, "a", "30"), buy(1, "b", "30"), redeem(2, 50), undo(3, 3)},
		then: `0 earned 30 = 30/0/0; 1 earned 30 = 60/0/0; 2 redeemed 30 = 30/0/0; 2 redeemed 20 = 10/0/0
			3 cancelled 30 = 40/0/0; 3 cancelled 20 = 60/0/0`,
		lots: "30 until 100; 30 until 101",
		also: func(t *testing.T, l *loyalty.Ledger) {
			if l.Totals.Redeemed != 0 {
				t.Errorf("%+v", l.Totals)
			}
		},
	},
	{
		name:  "what had expired meanwhile comes back for the grace time",
		rules: hundred,
		given: []step{buy(0, "a", "30"), redeem(2, 20), undo(150, 2)},
		until: 161,
		then:  "0 earned 30 = 30/0/0; 2 redeemed 20 = 10/0/0; 100 expired 10 = 0/0/0; 150 cancelled 20 = 20/0/0; 160 expired 20 = 0/0/0",
	},
	{
		name:  "a cancel at the very instant of expiry gives back to the lot",
		rules: hundred,
		given: []step{buy(0, "a", "30"), redeem(2, 20), undo(100, 2)},
		then:  "0 earned 30 = 30/0/0; 2 redeemed 20 = 10/0/0; 100 cancelled 20 = 30/0/0; 100 expired 30 = 0/0/0",
	},
	{
		name:  "a redemption is cancelled once",
		given: []step{buy(0, "a", "30"), redeem(2, 20), undo(3, 2), undo(4, 2)},
		then:  "0 earned 30 = 30/0/0; 2 redeemed 20 = 10/0/0; 3 cancelled 20 = 30/0/0; 4 cancelled 0 = 30/0/0",
	},
	{
		name:  "a cancel of a redemption that is another customer's moves nothing",
		given: []step{buy(0, "a", "30"), undo(3, 99)},
		then:  "0 earned 30 = 30/0/0; 3 cancelled 0 = 30/0/0",
	},
	{
		name:  "a cancelled redemption takes its debt along",
		given: []step{redeem(0, 50), undo(1, 1), buy(2, "a", "10")},
		then:  "0 redeemed 50 = 0/0/50; 1 cancelled 50 = 0/0/0; 2 earned 10 = 10/0/0",
	},
	{
		name:  "what repaid the debt of a cancelled redemption comes back",
		given: []step{redeem(0, 50), buy(1, "a", "30"), undo(2, 1)},
		then:  "0 redeemed 50 = 0/0/50; 1 earned 30 = 30/0/50; 1 repaid 30 = 0/0/20; 2 cancelled 20 = 0/0/0; 2 cancelled 30 = 30/0/0",
	},
	{
		name:  "points that a cancel gives back pay another debt",
		given: []step{buy(0, "a", "100"), redeem(1, 100), refund(2, "a", "100"), undo(3, 2)},
		then:  "0 earned 100 = 100/0/0; 1 redeemed 100 = 0/0/0; 2 reversed 100 = 0/0/100; 3 cancelled 100 = 100/0/100; 3 repaid 100 = 0/0/0",
	},
	{
		name:  "adjustments give and take",
		given: []step{visit(0), adjust(1, 50), adjust(2, -20), adjust(3, -50)},
		then:  "1 adjusted_in 50 = 50/0/0; 2 adjusted_out 20 = 30/0/0; 3 adjusted_out 30 = 0/0/0; 3 adjusted_out 20 = 0/0/20",
	},
	{
		name:  "adjusted points expire like earned ones, or as they say",
		rules: hundred,
		given: []step{visit(0), adjust(1, 50), adjust(2, 0).parts(20, 30)},
		lots:  "50 until 101; 20 until 30",
	},
	{
		name:  "a transfer takes from the lots in spending order",
		given: []step{buy(0, "a", "30"), buy(1, "b", "30"), send(2, 40, 99)},
		then:  "0 earned 30 = 30/0/0; 1 earned 30 = 60/0/0; 2 transferred_out 30 = 30/0/0; 2 transferred_out 10 = 20/0/0",
	},
	{
		name:  "a transfer brings the lots' expiry as decided",
		given: []step{visit(0), receive(2, 99).parts(30, 100, 10, 200)},
		until: 150,
		then:  "2 transferred_in 30 = 30/0/0; 2 transferred_in 10 = 40/0/0; 100 expired 30 = 10/0/0",
	},
	{
		name:  "a transfer that late facts left without points is owed",
		given: []step{buy(0, "a", "30"), send(2, 30, 99), refund(1, "a", "30")},
		then:  "0 earned 30 = 30/0/0; 1 reversed 30 = 0/0/0; 2 transferred_out 30 = 0/0/30",
	},
	{
		name:  "while both ends are one customer a transfer moves nothing",
		given: []step{buy(0, "a", "30"), send(2, 30, 3), receive(2, 2).parts(30, 365)},
		then:  "0 earned 30 = 30/0/0",
	},
	{
		name:  "an opening balance is dated at the programme's from",
		rules: `{"from":"2024-01-11T12:00:00Z","expiry":{"days":100}}`,
		given: []step{opening(50).parts(30, 60, 70, 400), visit(0)},
		until: 60,
		then:  "10 adjusted_in 30 = 30/0/0; 10 adjusted_in 70 = 100/0/0; 60 expired 30 = 70/0/0",
		tiers: "10 member until ever",
	},
	{
		name:  "an opening balance brings its tier to its end",
		rules: `{"from":"2024-01-11T12:00:00Z","earning":{"enrolment":"explicit"}}`,
		given: []step{opening(50).parts(30, 360).tier("gold", 200)},
		until: 300,
		tiers: "10 member until ever; 10 gold until 200; 200 member until ever",
	},

	// Tiers.
	{
		name:  "up at once, held for a year from the upgrade",
		given: []step{buy(0, "a", "499"), buy(10, "b", "1"), buy(20, "c", "1500")},
		tiers: "0 member until ever; 10 silver until 375; 20 gold until 385",
		also: func(t *testing.T, l *loyalty.Ledger) {
			if l.Tier.Since != day(20) || l.Tier.Next != "platinum" || l.Tier.Missing != 3000 || l.Tier.Total != 2000 {
				t.Errorf("%+v", l.Tier)
			}
		},
	},
	{
		name:  "several steps up at once",
		given: []step{buy(0, "a", "5000")},
		tiers: "0 member until ever; 0 platinum until 365",
	},
	{
		name:  "several steps down at the end of the hold",
		given: []step{buy(0, "a", "5000"), buy(100, "b", "600")},
		until: 800,
		tiers: "0 member until ever; 0 platinum until 365; 365 silver until 730; 730 member until ever",
	},
	{
		name:  "a tier that its total still gives is held as long again",
		given: []step{buy(0, "a", "600"), buy(300, "b", "600")},
		until: 700,
		tiers: "0 member until ever; 0 silver until 365",
		also: func(t *testing.T, l *loyalty.Ledger) {
			if l.Tier.Until != day(730) || l.Tier.Since != day(0) || l.Next != day(730) {
				t.Errorf("%+v", l.Tier)
			}
		},
	},
	{
		name:  "pending points count at the instant of earning",
		rules: pending,
		given: []step{buy(0, "a", "600")},
		tiers: "0 member until ever; 0 silver until 365",
	},
	{
		name:  "spending, expiry, debt and transfers do not count",
		rules: hundred,
		given: []step{buy(0, "a", "600"), redeem(1, 100), receive(2, 98).parts(5000, 90), send(3, 100, 99), redeem(4, 9000), visit(300)},
		tiers: "0 member until ever; 0 silver until 365",
	},
	{
		name:  "adjustments count only if they say so",
		given: []step{visit(0), adjust(1, 1000), adjust(2, 600).counts()},
		tiers: "0 member until ever; 2 silver until 367",
	},
	{
		name:  "at a refund the customer falls to the tier that would be held",
		given: []step{buy(0, "a", "600"), buy(10, "b", "1500"), refund(20, "b", "1500")},
		tiers: "0 member until ever; 0 silver until 365; 10 gold until 375; 20 silver until 365",
	},
	{
		name:  "a refund takes from the tier what was spent or expired as well",
		rules: hundred,
		given: []step{buy(0, "a", "600"), redeem(1, 600), refund(2, "a", "600"), buy(3, "b", "700"), refund(200, "b", "700")},
		tiers: "0 member until ever; 0 silver until 365; 2 member until ever; 3 silver until 368; 200 member until ever",
	},
	{
		name:  "points earned meanwhile at the higher tier stay",
		rules: `{"earning":{"multipliers":[{"factor":2,"tiers":["silver"]}]},"expiry":{"days":0}}`,
		given: []step{buy(0, "a", "600"), buy(1, "b", "100"), refund(2, "a", "600")},
		then:  "0 earned 600 = 600/0/0; 1 earned 200 = 800/0/0; 2 reversed 600 = 200/0/0",
		tiers: "0 member until ever; 0 silver until 365; 2 member until ever",
	},
	{
		name:  "a refund of what is long past its window lowers no tier",
		given: []step{buy(0, "a", "600"), buy(300, "b", "600"), refund(400, "a", "600")},
		tiers: "0 member until ever; 0 silver until 365",
	},
	{
		name:  "tiers by net spend",
		rules: `{"tiers":{"by":"spend","levels":[{"name":"base","threshold":0},{"name":"top","threshold":"100.50"}]},"earning":{"per_unit":0}}`,
		given: []step{buy(0, "a", "100.49"), buy(1, "b", "500 EUR"), buy(2, "c", "0.01"), refund(3, "c", "0.01")},
		tiers: "0 base until ever; 2 top until 367; 3 base until ever",
	},
	{
		name:  "a calendar tier is held to the end of the next calendar year",
		rules: calendar,
		given: []step{buy(100, "a", "600")},
		until: 800,
		tiers: "100 member until ever; 100 silver until 730.5; 730.5 member until ever",
	},
	{
		name:  "a calendar tier is decided by the year then ending",
		rules: calendar,
		given: []step{buy(100, "a", "2000"), buy(400, "b", "500"), buy(730.5, "c", "500")},
		until: 1100,
		tiers: "100 member until ever; 100 gold until 730.5; 730.5 silver until 1095.5",
	},
	{
		name:  "a calendar year's total does not reach into the next",
		rules: calendar,
		given: []step{buy(365, "a", "300"), buy(366, "b", "300"), buy(367, "c", "200")},
		tiers: "365 member until ever; 367 silver until 1095.5",
	},
	{
		name:  "a calendar year is one of the programme's time zone",
		rules: `{"time_zone":"America/New_York","tiers":{"window":"calendar"}}`,
		given: []step{buy(365.6, "a", "500")},
		tiers: "365.6 member until ever; 365.6 silver until 730.7083",
	},

	{
		name:  "at the instant at which a hold ends a refund comes before its end",
		given: []step{buy(0, "a", "600"), buy(1, "b", "10"), refund(365, "b", "10")},
		tiers: "0 member until ever; 0 silver until 365; 365 member until ever",
		also: func(t *testing.T, l *loyalty.Ledger) {
			if c := l.Transitions[2].Cause; c != (loyalty.Cause{Rule: loyalty.RuleTierHold, Touchpoint: id(1)}) {
				t.Errorf("the cause is %s", c)
			}
		},
	},
	{
		name:  "what the first instant of a calendar year brings counts for it",
		rules: calendar,
		given: []step{buy(100, "a", "600"), buy(730.5, "b", "600")},
		tiers: "100 member until ever; 100 silver until 730.5",
		also: func(t *testing.T, l *loyalty.Ledger) {
			if l.Tier.Until != day(1460.5) {
				t.Errorf("held until %s", days(l.Tier.Until))
			}
		},
	},
	{
		name:  "a refund takes from what an order counted last",
		given: []step{buy(0, "a", "400"), update(10, "a", "900"), refund(20, "a", "300"), buy(366, "b", "1600")},
		until: 400,
		tiers: "0 member until ever; 10 silver until 375",
	},

	// Rules look forward.
	{
		name:  "own lots are taken in spending order",
		later: []applied{{day: 5, rules: `{"expiry":{"days":10}}`}},
		given: []step{buy(0, "a", "100"), update(6, "a", "150"), refund(7, "a", "60")},
		lots:  "90 until 365",
	},
	{
		name:  "the lowest tier that a new one is put below is held for a window",
		rules: `{"tiers":{"levels":[{"name":"member","threshold":0},{"name":"silver","threshold":500}]}}`,
		later: []applied{{day: 10, rules: `{"tiers":{"levels":[{"name":"basic","threshold":0},{"name":"member","threshold":10},{"name":"silver","threshold":500}]}}`}},
		given: []step{buy(0, "a", "5")},
		until: 400,
		tiers: "0 member until ever; 375 basic until ever",
	},
	{
		name:  "who comes at the moment at which a programme becomes explicit is not in it",
		later: []applied{{day: 10, rules: `{"earning":{"enrolment":"explicit"}}`}},
		given: []step{visit(10)},
		also: func(t *testing.T, l *loyalty.Ledger) {
			if l.Enrolled != policy.Never || l.Next != policy.Never {
				t.Errorf("%+v", l)
			}
		},
	},
	{
		name:  "a touchpoint is judged by the rules in force when it happened",
		later: []applied{{day: 10, rules: `{"earning":{"per_unit":2},"expiry":{"days":10}}`}},
		given: []step{buy(9, "a", "100"), buy(10, "b", "100")},
		until: 30,
		then:  "9 earned 100 = 100/0/0; 10 earned 200 = 300/0/0; 20 expired 200 = 100/0/0",
	},
	{
		name:  "a late touchpoint is judged by the rules of its day",
		later: []applied{{day: 10, rules: `{"earning":{"per_unit":2}}`}},
		given: []step{buy(20, "a", "10"), buy(5, "b", "10")},
		then:  "5 earned 10 = 10/0/0; 20 earned 20 = 30/0/0",
	},
	{
		name:  "retroactive rules judge history anew",
		later: []applied{{day: 10, rules: `{"earning":{"per_unit":2,"retroactive":true}}`}},
		given: []step{buy(0, "a", "10"), buy(20, "b", "10")},
		then:  "0 earned 20 = 20/0/0; 20 earned 20 = 40/0/0",
	},
	{
		name:  "retroactive rules with a from judge history from there on",
		later: []applied{{day: 10, rules: `{"earning":{"per_unit":2,"from":"2024-01-06T12:00:00Z","retroactive":true}}`}},
		given: []step{buy(4, "a", "10"), buy(5, "b", "10"), buy(20, "c", "10")},
		then:  "4 earned 10 = 10/0/0; 5 earned 20 = 30/0/0; 20 earned 20 = 50/0/0",
	},
	{
		name:  "rules may begin later than they are applied",
		later: []applied{{day: 1, rules: `{"earning":{"per_unit":2,"from":"2024-01-11T12:00:00Z"}}`}},
		given: []step{buy(5, "a", "10"), buy(10, "b", "10")},
		then:  "5 earned 10 = 10/0/0; 10 earned 20 = 30/0/0",
	},
	{
		name: "what the rules between gave stays after a rollback",
		later: []applied{
			{day: 10, rules: `{"earning":{"per_unit":2}}`},
			{day: 20, rules: `{}`, rollback: true},
		},
		given: []step{buy(5, "a", "10"), buy(15, "b", "10"), buy(25, "c", "10")},
		then:  "5 earned 10 = 10/0/0; 15 earned 20 = 30/0/0; 25 earned 10 = 40/0/0",
	},
	{
		name: "a policy that leaves the rules as they are begins nothing anew",
		later: []applied{
			{day: 10, rules: `{"earning":{"per_unit":2,"retroactive":true}}`},
			{day: 20, rules: `{"earning":{"per_unit":2,"retroactive":true},"value":{"point":1}}`},
			{day: 30, rules: `{"earning":{"per_unit":3}}`},
			{day: 40, rules: `{"earning":{"per_unit":3},"value":{"point":1}}`},
		},
		given: []step{buy(0, "a", "10"), buy(25, "b", "10"), buy(35, "c", "10"), buy(45, "d", "10")},
		then:  "0 earned 20 = 20/0/0; 25 earned 20 = 40/0/0; 35 earned 30 = 70/0/0; 45 earned 30 = 100/0/0",
	},
	{
		name:  "a changed tier rule lifts everybody at its from",
		later: []applied{{day: 10, rules: `{"tiers":{"levels":[{"name":"member","threshold":0},{"name":"silver","threshold":100}]}}`}},
		given: []step{buy(0, "a", "200")},
		until: 20,
		tiers: "0 member until ever; 10 silver until 375",
	},
	{
		name:  "a changed tier rule lowers nobody before the hold's end",
		later: []applied{{day: 10, rules: `{"tiers":{"levels":[{"name":"member","threshold":0},{"name":"silver","threshold":1000}]}}`}},
		given: []step{buy(0, "a", "600"), buy(300, "b", "600")},
		until: 400,
		tiers: "0 member until ever; 0 silver until 365; 365 member until ever",
	},
	{
		name:  "a tier whose name is gone is held to the end of its hold",
		later: []applied{{day: 10, rules: `{"tiers":{"levels":[{"name":"basic","threshold":0},{"name":"bronze","threshold":100}]}}`}},
		given: []step{buy(0, "a", "600")},
		until: 400,
		tiers: "0 member until ever; 0 silver until 365; 365 basic until ever",
	},
	{
		name:  "the lowest tier takes its new name at once",
		later: []applied{{day: 10, rules: `{"tiers":{"levels":[{"name":"basic","threshold":0},{"name":"bronze","threshold":100}]}}`}},
		given: []step{buy(0, "a", "60")},
		until: 400,
		tiers: "0 member until ever; 10 basic until ever",
	},
	{
		name:  "a programme that has ended earns nothing and keeps what it gave",
		later: []applied{{day: 10, rules: "none"}},
		given: []step{buy(0, "a", "60"), buy(20, "b", "60"), redeem(21, 10), refund(22, "a", "30")},
		then:  "0 earned 60 = 60/0/0; 21 redeemed 10 = 50/0/0; 22 reversed 30 = 20/0/0",
	},
	{
		name:  "who was in the programme stays in it when it becomes explicit",
		later: []applied{{day: 10, rules: `{"earning":{"enrolment":"explicit"}}`}},
		given: []step{visit(0), buy(20, "a", "60")},
		then:  "20 earned 60 = 60/0/0",
	},
	{
		name:  "who comes after a programme has become explicit is not in it",
		later: []applied{{day: 10, rules: `{"earning":{"enrolment":"explicit"}}`}},
		given: []step{buy(20, "a", "60")},
		also: func(t *testing.T, l *loyalty.Ledger) {
			if len(l.Movements) != 0 {
				t.Error(lines(l))
			}
		},
	},
	{
		name:  "a programme of a later policy begins when it is applied",
		rules: "none",
		later: []applied{{day: 10, rules: "{}"}},
		given: []step{buy(5, "a", "60"), buy(10, "b", "70")},
		then:  "10 earned 70 = 70/0/0",
		tiers: "10 member until ever",
	},
}
