package lifecycle_test

import (
	"testing"

	"github.com/google/uuid"

	"sojourn/domain/lifecycle"
	"sojourn/domain/policy"
)

func TestWhatCounts(t *testing.T) {
	run(t, []spec{
		{
			name:  "a purchase counts from its instant on",
			given: all(visit(day(0)), buy(day(1), "a", "10")), until: day(1) - 1,
			then: []string{"0d visitor #1"}, totals: "0/0",
		},
		{
			name:  "a refunded purchase is not the last one any more",
			given: all(buys(0), buy(day(30), "b", "10"), refund(day(31), "b", "10")), until: day(60),
			then: []string{"0d first_purchase #1", "30d repeat #2", "31d first_purchase #3", "60d at_risk at_risk of #1"},
		},
		{
			name:  "a refunded purchase is not in the gap before a later one",
			given: all(buys(0), buy(day(59), "b", "10"), cancel(day(59, ms), "b"), buy(day(121), "c", "10")),
			then: []string{
				"0d first_purchase #1", "59d repeat #2", "59d+1ms first_purchase #3", "60d at_risk at_risk of #1",
				"120d churned churned of #1", "121d won_back #4: came back after 121 days",
			},
		},
		{
			name:  "what was so before that instant stays so",
			given: all(buys(0), buy(day(59), "b", "10"), buy(day(118), "c", "10"), cancel(day(119), "b")),
			then:  []string{"0d first_purchase #1", "59d repeat #2"}, until: day(119),
		},
		{
			name:  "purchases with one order_id are one, the earliest",
			given: all(buy(day(0), "a", "10"), buy(day(30), "a", "99"), login(day(31))), until: day(60),
			then: []string{"0d first_purchase #1", "60d at_risk at_risk of #1"}, totals: "1/0 USD 10",
		},
		{
			name:  "the later one of one order is a touchpoint all the same",
			given: all(buy(day(0), "a", "10"), func() lifecycle.Touch { b := buy(day(1), "a", "10"); b.UnderUser = true; return b }(), cancel(day(2), "a")),
			then:  []string{"0d first_purchase #1", "2d lead #3"}, totals: "0/1",
		},
		{
			name:   "of one order at one instant the lower event id is the earliest",
			given:  all(buy(day(0), "a", "10"), buy(day(0), "a", "99")),
			then:   []string{"0d first_purchase #1"},
			totals: "1/0 USD 10",
		},
		{
			name:   "purchases without order_id are each their own",
			given:  all(buy(day(0), "", "10"), buy(day(0), "", "10"), refund(day(1), "", "10"), cancel(day(1), "")),
			then:   []string{"0d first_purchase #1", "0d repeat #2"},
			totals: "2/2 USD 20",
		},
		{
			name:   "a purchase of amount zero is a purchase",
			given:  all(buy(day(0), "a", "0")),
			then:   []string{"0d first_purchase #1"},
			totals: "1/0 USD 0",
		},
		{
			name:   "a purchase whose amount cannot be read, or that has none, counts",
			given:  all(buy(day(0), "a", "?"), buy(day(1), "b", "")),
			then:   []string{"0d first_purchase #1", "1d repeat #2"},
			totals: "2/0",
		},
		{
			name:   "a purchase without currency has the default; currencies are never added",
			given:  all(buy(day(0), "a", "1.10"), buy(day(0), "b", "2.20 USD"), buy(day(0), "c", "3 EUR")),
			then:   []string{"0d first_purchase #1", "0d repeat #2"},
			totals: "3/0 EUR 3 USD 3.3",
		},
	})
}

func TestUpdates(t *testing.T) {
	run(t, []spec{
		{
			name:  "an update changes the amount from its own time",
			given: all(buy(day(0), "a", "10"), update(day(2), "a", "15")), until: day(2) - 1,
			then: []string{"0d first_purchase #1"}, totals: "1/0 USD 10",
		},
		{
			name:   "and for the time after it",
			given:  all(buy(day(0), "a", "10"), update(day(2), "a", "15")),
			then:   []string{"0d first_purchase #1"},
			totals: "1/0 USD 15",
		},
		{
			name:   "an update before its order takes effect with the order",
			given:  all(update(day(0), "a", "15"), buy(day(1), "a", "10")),
			then:   []string{"0d visitor #1", "1d first_purchase #2"},
			totals: "1/0 USD 15",
		},
		{
			name:   "the last update stands",
			given:  all(buy(day(0), "a", "10"), update(day(3), "a", "30"), update(day(2), "a", "20"), update(day(3), "a", "31")),
			then:   []string{"0d first_purchase #1"},
			totals: "1/0 USD 31",
		},
		{
			name:   "of updates before the order, too",
			given:  all(update(day(1), "a", "20"), update(day(0), "a", "15"), buy(day(2), "a", "10")),
			then:   []string{"0d visitor #2", "2d first_purchase #3"},
			totals: "1/0 USD 20",
		},
		{
			name:   "one without a readable amount changes nothing",
			given:  all(buy(day(0), "a", "10"), update(day(1), "a", ""), update(day(2), "a", "?")),
			then:   []string{"0d first_purchase #1"},
			totals: "1/0 USD 10",
		},
		{
			name:   "one without an order or of another order changes nothing",
			given:  all(buy(day(0), "a", "10"), update(day(1), "", "50"), update(day(2), "b", "50")),
			then:   []string{"0d first_purchase #1"},
			totals: "1/0 USD 10",
		},
		{
			name:   "an update without currency has its order's",
			given:  all(buy(day(0), "a", "10 EUR"), update(day(1), "a", "12")),
			then:   []string{"0d first_purchase #1"},
			totals: "1/0 EUR 12",
		},
		{
			name:   "an update in another currency changes nothing",
			given:  all(buy(day(0), "a", "10 EUR"), update(day(1), "a", "12 USD")),
			then:   []string{"0d first_purchase #1"},
			totals: "1/0 EUR 10",
		},
		{
			name:   "an update gives an amount to an order without one",
			given:  all(buy(day(0), "a", "?"), update(day(1), "a", "12")),
			then:   []string{"0d first_purchase #1"},
			totals: "1/0 USD 12",
		},
	})
}

func TestRefunds(t *testing.T) {
	first := "0d first_purchase #1: first purchase"
	gone := "1d visitor #2: the only purchase was refunded"
	run(t, []spec{
		{
			name:  "a refund of part takes back that part",
			given: all(buy(day(0), "a", "10"), refund(day(1), "a", "4")),
			then:  []string{first}, totals: "1/1 USD 6",
		},
		{
			name:  "refunds that reach the amount together",
			given: all(buy(day(0), "a", "10"), refund(day(1), "a", "4"), refund(day(2), "a", "6")),
			then:  []string{first, "2d visitor #3: the only purchase was refunded"}, totals: "0/2",
		},
		{
			name:  "to the fourth decimal",
			given: all(buy(day(0), "a", "10"), refund(day(1), "a", "9.9999"), refund(day(2), "a", "0.0001")),
			then:  []string{first, "2d visitor #3"}, totals: "0/2",
		},
		{
			name:  "refunds take back the amount at most",
			given: all(buy(day(0), "a", "10"), buy(day(0), "b", "7"), refund(day(1), "a", "400")),
			then:  []string{first, "0d repeat #2", "1d first_purchase #3"}, totals: "1/1 USD 7",
		},
		{
			name:  "a refund without an amount takes all that is left",
			given: all(buy(day(0), "a", "10"), refund(day(1), "a", "")),
			then:  []string{first, gone}, totals: "0/1",
		},
		{
			name:  "one whose amount cannot be read takes back nothing",
			given: all(buy(day(0), "a", "10"), refund(day(1), "a", "?")),
			then:  []string{first}, totals: "1/1 USD 10",
		},
		{
			name:  "one without an order, or of an unknown one, is kept and takes back nothing",
			given: all(buy(day(0), "a", "10"), refund(day(1), "", ""), refund(day(1), "x", ""), cancel(day(1), "y")),
			then:  []string{first}, totals: "1/3 USD 10",
		},
		{
			name:  "one in another currency is kept and takes back nothing",
			given: all(buy(day(0), "a", "10"), refund(day(1), "a", "10 EUR"), refund(day(2), "a", " EUR")),
			then:  []string{first}, totals: "1/2 USD 10",
		},
		{
			name:  "without a currency it has its order's",
			given: all(buy(day(0), "a", "10 EUR"), refund(day(1), "a", "10")),
			then:  []string{first, gone}, totals: "0/1",
		},
		{
			name:  "the order's is the default where the order names none",
			given: all(buy(day(0), "a", "10"), refund(day(1), "a", "10 USD")),
			then:  []string{first, gone}, totals: "0/1",
		},
		{
			name:  "a refund takes effect at its own time",
			given: all(buy(day(0), "a", "10"), refund(day(1), "a", "10")), until: day(1) - 1,
			then: []string{first}, totals: "1/0 USD 10",
		},
		{
			name:  "a refund before its order takes effect with the order, which never counts",
			given: all(refund(day(0), "a", "10"), buy(day(1), "a", "10"), visit(day(2))),
			then:  []string{"0d visitor #1"}, totals: "0/1",
		},
		{
			name:  "at one instant by event id: the refund first, so the purchase never counts",
			given: all(refund(day(0), "a", "10"), buy(day(0), "a", "10")),
			then:  []string{"0d visitor #1"}, totals: "0/1",
		},
		{
			name:  "at one instant by event id: the order first, so there are two transitions",
			given: all(buy(day(0), "a", "10"), refund(day(0), "a", "10")),
			then:  []string{first, "0d visitor #2: the only purchase was refunded"}, totals: "0/1",
		},
		{
			name:  "refunds before the order reach its amount in force then, updates first",
			given: all(refund(day(0), "a", "10"), update(day(1), "a", "20"), buy(day(2), "a", "10")),
			then:  []string{"0d visitor #1", "2d first_purchase #3"}, totals: "1/1 USD 10",
		},
		{
			name:  "an order is fully refunded through an update that lowers it",
			given: all(buy(day(0), "a", "10"), refund(day(1), "a", "6"), update(day(2), "a", "6")),
			then:  []string{first, "2d visitor #3: the only purchase was refunded"}, totals: "0/1",
		},
		{
			name:  "an update alone refunds nothing, not even one to zero",
			given: all(buy(day(0), "a", "10"), update(day(1), "a", "0")),
			then:  []string{first}, totals: "1/0 USD 0",
		},
		{
			name:  "to zero after a refund",
			given: all(buy(day(0), "a", "10"), refund(day(1), "a", "?"), update(day(2), "a", "0")),
			then:  []string{first, "2d visitor #3"}, totals: "0/1",
		},
		{
			name:  "it stays fully refunded whatever update follows",
			given: all(buy(day(0), "a", "10"), refund(day(1), "a", "10"), update(day(2), "a", "100")),
			then:  []string{first, gone}, totals: "0/1",
		},
		{
			name:  "even at the same instant",
			given: all(buy(day(0), "a", "10"), refund(day(1), "a", "10"), update(day(1), "a", "100")),
			then:  []string{first, gone}, totals: "0/1",
		},
		{
			name:  "amount zero: at its first refund",
			given: all(buy(day(0), "a", "0"), refund(day(1), "a", "0")),
			then:  []string{first, gone}, totals: "0/1",
		},
		{
			name:  "amount below zero: at its first refund",
			given: all(buy(day(0), "a", "-3"), refund(day(1), "a", "1")),
			then:  []string{first, gone}, totals: "0/1",
		},
		{
			name:  "no amount: at its first refund",
			given: all(buy(day(0), "a", "?"), refund(day(1), "a", "1")),
			then:  []string{first, gone}, totals: "0/1",
		},
		{
			name:  "Order Cancelled is a full refund",
			given: all(buy(day(0), "a", "10"), cancel(day(1), "a")),
			then:  []string{first, "1d visitor #2: the only purchase was cancelled"}, totals: "0/1",
		},
		{
			name:  "refunds are counted at their own time, before their order too",
			given: all(refund(day(0), "a", "1"), buy(day(5), "a", "10")), until: day(1),
			then: []string{"0d visitor #1"}, totals: "0/1",
		},
	})
}

func TestDeadlines(t *testing.T) {
	five := func() []lifecycle.Touch { return buys(0, 100, 200, 300, 350) }
	toLoyal := []string{
		"0d first_purchase #1", "60d at_risk at_risk of #1", "100d repeat #2: second purchase",
		"160d at_risk at_risk of #2", "200d repeat #3: third purchase", "260d at_risk at_risk of #3",
		"300d repeat #4: fourth purchase", "350d loyal #5: fifth purchase within 365 days",
	}
	run(t, []spec{
		{
			name:  "60 days: not a millisecond before",
			given: buys(0), until: day(60) - 1,
			then: []string{"0d first_purchase #1"},
		},
		{
			name:  "60 days: at exactly that instant",
			given: buys(0), until: day(60),
			then: []string{"0d first_purchase #1", "60d at_risk at_risk of #1"},
		},
		{
			name:  "120 days: not a millisecond before",
			given: buys(0), until: day(120) - 1,
			then: []string{"0d first_purchase #1", "60d at_risk at_risk of #1"},
		},
		{
			name:  "365 days: not a millisecond before",
			given: buys(0), until: day(365) - 1,
			then: []string{"0d first_purchase #1", "60d at_risk at_risk of #1", "120d churned churned of #1"},
		},
		{
			name:  "touchpoints come before deadlines: a purchase exactly 60 days after the last",
			given: buys(0, 60),
			then:  []string{"0d first_purchase #1", "60d repeat #2: second purchase"},
		},
		{
			name:  "a purchase exactly 120 days after the last is no win-back",
			given: buys(0, 120),
			then:  []string{"0d first_purchase #1", "60d at_risk at_risk of #1", "120d repeat #2: second purchase"},
		},
		{
			name:  "a millisecond later it is one",
			given: all(buys(0), buy(day(120, ms), "b", "10")),
			then: []string{
				"0d first_purchase #1", "60d at_risk at_risk of #1", "120d churned churned of #1",
				"120d+1ms won_back #2: came back after 120 days",
			},
		},
		{
			name:  "a purchase exactly 365 days after the last: churned to won_back, never lost",
			given: buys(0, 365),
			then: []string{
				"0d first_purchase #1", "60d at_risk at_risk of #1", "120d churned churned of #1", "365d won_back #2",
			},
		},
		{
			name:  "loyal until the fifth last is 365 days old: not a millisecond before",
			given: five(), until: day(365) - 1,
			then: toLoyal,
		},
		{
			name:  "loyal until the fifth last is 365 days old: at exactly that instant",
			given: five(), until: day(365),
			then: append(toLoyal[:8:8], "365d repeat loyal of #1: fewer than five purchases within 365 days"),
		},
		{
			name:  "a purchase at exactly that instant keeps a customer loyal if it is the fifth of the rest",
			given: append(five(), buys(365)...), until: day(365),
			then: toLoyal,
		},
		{
			name:  "what time alone changes is caused by the deadline, not by a touchpoint that stands there",
			given: all(buys(0), visit(day(60)), login(day(60))),
			then:  []string{"0d first_purchase #1", "60d at_risk at_risk of #1"},
		},
		{
			name:  "nor by a refund there that changes nothing",
			given: all(buys(0), buy(day(0, ms), "b", "10"), cancel(day(60, ms), "o0")),
			then:  []string{"0d first_purchase #1", "0d+1ms repeat #2", "60d+1ms at_risk at_risk of #2"},
		},
		{
			name:  "a refund at the instant of a deadline that does change it",
			given: all(buys(0), refund(day(60), "o0", "")),
			then:  []string{"0d first_purchase #1", "60d visitor #2"},
		},
		{
			name:  "a loyal customer's refund at the instant of the deadline",
			given: all(five(), refund(day(365), "o350", "")),
			then:  append(toLoyal[:8:8], "365d at_risk #6"),
		},
		{
			name:  "and one that changes nothing beyond the deadline",
			given: all(five(), refund(day(365), "o0", "")),
			then:  append(toLoyal[:8:8], "365d repeat loyal of #1"),
		},
		{
			name:  "a purchase and its refund at the instant of a deadline",
			given: all(buys(0), buy(day(60), "b", "10"), refund(day(60), "b", "")),
			then:  []string{"0d first_purchase #1", "60d repeat #2", "60d at_risk #3"},
		},
		{
			name:  "a deadline counts from the last purchase that counts",
			given: all(buys(0, 10), cancel(day(20), "o10")), until: day(60),
			then: []string{"0d first_purchase #1", "10d repeat #2", "20d first_purchase #3", "60d at_risk at_risk of #1"},
		},
	})
}

func TestOrderAtOneInstant(t *testing.T) {
	second := buy(day(0), "b", "10")
	second.ID = uuid.UUID{0: 1}
	run(t, []spec{
		{
			name:  "only the touchpoints so far count",
			given: all(visit(day(0)), login(day(0)), tryOut(day(0)), buy(day(0), "a", "10"), buy(day(0), "b", "10")),
			then: []string{
				"0d visitor #1", "0d lead #2", "0d qualified #3: Trial Started", "0d first_purchase #4", "0d repeat #5",
			},
		},
		{
			name:  "by event id, the first byte first",
			given: all(second, buy(day(0), "a", "10")),
			then:  []string{"0d first_purchase #2", "0d repeat #0"},
		},
	})
}

func TestOtherRules(t *testing.T) {
	quick := policy.Lifecycle{AtRiskDays: 2, ChurnedDays: 4, LostDays: 8, WonBackDays: 1, LoyalPurchases: 3, LoyalDays: 5}
	run(t, []spec{
		{
			name:  "the policy's numbers, in the reasons too",
			given: buys(0, 1, 2, 4), rules: &quick, until: day(100),
			then: []string{
				"0d first_purchase #1", "1d repeat #2", "2d loyal #3: third purchase within 5 days",
				"4d won_back #4: came back after 2 days",
				"6d at_risk at_risk of #4: no purchase for 2 days", "8d churned churned of #4: no purchase for 4 days",
				"12d lost lost of #4: no purchase for 8 days",
			},
		},
		{
			name:  "fewer than three",
			given: all(buys(0, 1, 2), buy(day(3), "d", "1"), buy(day(4), "e", "1"), cancel(day(4, ms), "o2"), cancel(day(4, 2), "d")),
			rules: &policy.Lifecycle{AtRiskDays: 3, ChurnedDays: 4, LostDays: 8, WonBackDays: 3, LoyalPurchases: 3, LoyalDays: 5},
			until: day(6),
			then: []string{
				"0d first_purchase #1", "1d repeat #2", "2d loyal #3: third purchase within 5 days",
				"5d repeat loyal of #1: fewer than three purchases within 5 days",
			},
		},
	})
}
