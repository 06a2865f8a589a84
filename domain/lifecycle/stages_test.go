package lifecycle_test

import (
	"testing"

	"sojourn/domain"
	"sojourn/domain/lifecycle"
	"sojourn/domain/policy"
)

func TestEachRowOfTheStageTable(t *testing.T) {
	run(t, []spec{
		{
			name:  "visitor: any touchpoint",
			given: all(visit(day(0)), visit(day(1))),
			then:  []string{"0d visitor #1: first touchpoint"},
		},
		{
			name:  "lead: a touchpoint under a user id",
			given: all(visit(day(0)), login(day(1)), login(day(2))),
			then:  []string{"0d visitor #1", "1d lead #2: known by user id"},
		},
		{
			name: "lead: an identify with an e-mail",
			given: all(visit(day(0)),
				lifecycle.Touch{Ref: lifecycle.Ref{At: day(1)}, Meaning: policy.Identity, HasEmail: true}),
			then: []string{"0d visitor #1", "1d lead #2: known by e-mail"},
		},
		{
			name:  "lead: a lead event",
			given: all(visit(day(0)), named(day(1), policy.Lead, "Signed Up"), login(day(2))),
			then:  []string{"0d visitor #1", "1d lead #2: Signed Up"},
		},
		{
			name:  "lead at once",
			given: all(login(day(0))),
			then:  []string{"0d lead #1: known by user id"},
		},
		{
			name:  "qualified",
			given: all(visit(day(0)), login(day(1)), named(day(2), policy.Qualified, "Lead Qualified")),
			then:  []string{"0d visitor #1", "1d lead #2", "2d qualified #3: Lead Qualified"},
		},
		{
			name:  "qualified without having been a lead, and no lead after it",
			given: all(visit(day(0)), tryOut(day(1)), login(day(2))),
			then:  []string{"0d visitor #1", "1d qualified #2: Trial Started"},
		},
		{
			name:   "first_purchase",
			given:  all(visit(day(0)), buy(day(1), "a", "29.33")),
			then:   []string{"0d visitor #1", "1d first_purchase #2: first purchase"},
			totals: "1/0 USD 29.33",
		},
		{
			name:   "straight to first_purchase",
			given:  buys(0),
			then:   []string{"0d first_purchase #1: first purchase"},
			totals: "1/0 USD 10",
		},
		{
			name:   "repeat",
			given:  buys(0, 10, 20),
			then:   []string{"0d first_purchase #1", "10d repeat #2: second purchase"},
			totals: "3/0 USD 30",
		},
		{
			name:  "loyal: five or more purchases within 365 days",
			given: buys(0, 50, 100, 150, 200, 250),
			then: []string{
				"0d first_purchase #1", "50d repeat #2", "200d loyal #5: fifth purchase within 365 days",
			},
			totals: "6/0 USD 60",
		},
		{
			name:  "not loyal: five purchases in more than 365 days",
			given: buys(0, 59, 118, 177, 236, 295, 354, 413),
			then:  []string{"0d first_purchase #1", "59d repeat #2", "236d loyal #5"},
		},
		{
			name:  "won_back: more than 120 days after the one before",
			given: buys(0, 143),
			then: []string{
				"0d first_purchase #1", "60d at_risk at_risk of #1: no purchase for 60 days",
				"120d churned churned of #1: no purchase for 120 days", "143d won_back #2: came back after 143 days",
			},
		},
		{
			name:  "won_back before loyal, and loyal with the next",
			given: buys(0, 1, 2, 3, 200, 201),
			then: []string{
				"0d first_purchase #1", "1d repeat #2", "63d at_risk at_risk of #4", "123d churned churned of #4",
				"200d won_back #5: came back after 197 days", "201d loyal #6: five or more purchases within 365 days",
			},
		},
		{
			name:  "at_risk, churned, lost: none in the last 60, 120 and 365 days",
			given: buys(0), until: day(1000),
			then: []string{
				"0d first_purchase #1: first purchase", "60d at_risk at_risk of #1: no purchase for 60 days",
				"120d churned churned of #1: no purchase for 120 days", "365d lost lost of #1: no purchase for 365 days",
			},
		},
		{
			name:  "back from at_risk",
			given: buys(0, 70),
			then:  []string{"0d first_purchase #1", "60d at_risk at_risk of #1", "70d repeat #2: second purchase"},
		},
		{
			name:  "back from lost",
			given: buys(0, 400),
			then: []string{
				"0d first_purchase #1", "60d at_risk at_risk of #1", "120d churned churned of #1",
				"365d lost lost of #1", "400d won_back #2: came back after 400 days",
			},
		},
		{
			name: "the last of many purchases counts", given: buys(0, 10), until: day(70),
			then: []string{"0d first_purchase #1", "10d repeat #2", "70d at_risk at_risk of #2"},
		},
	})
}

// A customer who goes back: each pair of stages, the later one first, that one
// refund can bring about.
func TestEachWayBack(t *testing.T) {
	stages := func(ts ...lifecycle.Touch) []lifecycle.Touch { return ts }
	run(t, []spec{
		{
			name:  "first_purchase to visitor",
			given: all(visit(day(0)), buy(day(1), "a", "10"), refund(day(2), "a", "10")),
			then:  []string{"0d visitor #1", "1d first_purchase #2", "2d visitor #3: the only purchase was refunded"},
		},
		{
			name:  "first_purchase to lead",
			given: all(login(day(0)), buy(day(1), "a", "10"), cancel(day(2), "a")),
			then:  []string{"0d lead #1", "1d first_purchase #2", "2d lead #3: the only purchase was cancelled"},
		},
		{
			name:  "first_purchase to qualified",
			given: all(tryOut(day(0)), buy(day(1), "a", "10"), refund(day(2), "a", "")),
			then:  []string{"0d qualified #1", "1d first_purchase #2", "2d qualified #3: the only purchase was refunded"},
		},
		{
			name:  "repeat to first_purchase",
			given: all(buy(day(0), "a", "10"), buy(day(1), "b", "10"), refund(day(2), "a", "10")),
			then:  []string{"0d first_purchase #1", "1d repeat #2", "2d first_purchase #3: a purchase was refunded, one is left"},
		},
		{
			name: "repeat to lead: two refunds at the instant of a deadline",
			given: all(login(day(0)), buy(day(1), "a", "10"), buy(day(1, ms), "b", "10"),
				refund(day(61, ms), "a", ""), refund(day(61, ms), "b", "")),
			then: []string{"0d lead #1", "1d first_purchase #2", "1d+1ms repeat #3", "61d+1ms lead #5: the last purchase left was refunded"},
		},
		{
			name:  "repeat to won_back",
			given: all(buys(0, 130), buy(day(140), "c", "10"), refund(day(141), "c", "10")),
			then: []string{
				"0d first_purchase #1", "60d at_risk at_risk of #1", "120d churned churned of #1", "130d won_back #2",
				"140d repeat #3: third purchase", "141d won_back #4: a purchase was refunded, 130 days before the last",
			},
		},
		{
			name:  "repeat to at_risk",
			given: all(buys(0), buy(day(50), "b", "10"), refund(day(61), "b", "10")),
			then:  []string{"0d first_purchase #1", "50d repeat #2", "61d at_risk #3: a purchase was refunded, none other for 60 days"},
		},
		{
			name:  "repeat to churned",
			given: all(buys(0, 59), buy(day(118), "c", "10"), cancel(day(177), "o59"), cancel(day(177, ms), "c")),
			then: []string{
				"0d first_purchase #1", "59d repeat #2", "177d+1ms churned #5: a purchase was cancelled, none other for 120 days",
			},
		},
		{
			name:  "loyal to repeat",
			given: all(buys(0, 1, 2, 3, 4), refund(day(5), "o2", "10")),
			then:  []string{"0d first_purchase #1", "1d repeat #2", "4d loyal #5", "5d repeat #6: a purchase was refunded, four are left"},
		},
		{
			name:  "loyal to won_back",
			given: all(buys(0, 1, 2, 3, 130, 135), refund(day(136), "o135", "10")),
			then: []string{
				"0d first_purchase #1", "1d repeat #2", "63d at_risk at_risk of #4", "123d churned churned of #4",
				"130d won_back #5", "135d loyal #6", "136d won_back #7: a purchase was refunded, 127 days before the last",
			},
		},
		{
			name:  "loyal to at_risk",
			given: all(buys(0, 1, 2, 3, 60), refund(day(64), "o60", "10")),
			then:  []string{"0d first_purchase #1", "1d repeat #2", "60d loyal #5", "64d at_risk #6"},
		},
		{
			name:  "loyal to churned",
			given: all(buys(0, 1, 2, 3), buy(day(62), "x", "10"), buy(day(121), "y", "10"), cancel(day(122), "x"), cancel(day(123), "y")),
			then: []string{
				"0d first_purchase #1", "1d repeat #2", "62d loyal #5",
				"123d churned #8: a purchase was cancelled, none other for 120 days",
			},
		},
		{
			name:  "won_back to first_purchase",
			given: all(buys(0, 130), refund(day(131), "o0", "")),
			then: []string{
				"0d first_purchase #1", "60d at_risk at_risk of #1", "120d churned churned of #1", "130d won_back #2",
				"131d first_purchase #3: a purchase was refunded, one is left",
			},
		},
		{
			name:  "won_back to churned",
			given: all(buys(0, 130), refund(day(131), "o130", "")),
			then: []string{
				"0d first_purchase #1", "60d at_risk at_risk of #1", "120d churned churned of #1", "130d won_back #2",
				"131d churned #3: a purchase was refunded, none other for 120 days",
			},
		},
		{
			name:  "won_back to lost",
			given: all(buys(0, 364), refund(day(366), "o364", "")),
			then: []string{
				"0d first_purchase #1", "60d at_risk at_risk of #1", "120d churned churned of #1", "364d won_back #2",
				"366d lost #3: a purchase was refunded, none other for 365 days",
			},
		},
		{
			name:  "at_risk to visitor",
			given: all(buys(0), refund(day(61), "o0", "")),
			then:  []string{"0d first_purchase #1", "60d at_risk at_risk of #1", "61d visitor #2: the only purchase was refunded"},
		},
		{
			name:  "at_risk to lead",
			given: all(login(day(0)), buys(1), refund(day(62), "o1", "")),
			then:  []string{"0d lead #1", "1d first_purchase #2", "61d at_risk at_risk of #2", "62d lead #3"},
		},
		{
			name:  "at_risk to qualified, reached after the purchase",
			given: all(buys(0), tryOut(day(1)), refund(day(61), "o0", "")),
			then:  []string{"0d first_purchase #1", "60d at_risk at_risk of #1", "61d qualified #3"},
		},
		{
			name:  "at_risk to churned",
			given: all(buys(0, 100), cancel(day(161), "o100")),
			then: []string{
				"0d first_purchase #1", "60d at_risk at_risk of #1", "100d repeat #2", "160d at_risk at_risk of #2",
				"161d churned #3: a purchase was cancelled, none other for 120 days",
			},
		},
		{
			name:  "at_risk to lost",
			given: all(buys(0, 310), refund(day(371), "o310", "")),
			then: []string{
				"0d first_purchase #1", "60d at_risk at_risk of #1", "120d churned churned of #1", "310d won_back #2",
				"370d at_risk at_risk of #2", "371d lost #3: a purchase was refunded, none other for 365 days",
			},
		},
		{
			name:  "churned to lost",
			given: all(buys(0, 310), refund(day(431), "o310", "")),
			then: []string{
				"0d first_purchase #1", "60d at_risk at_risk of #1", "120d churned churned of #1", "310d won_back #2",
				"370d at_risk at_risk of #2", "430d churned churned of #2", "431d lost #3",
			},
		},
		{
			name:  "won_back to lead: two refunds at the instant of a deadline",
			given: all(login(day(0)), buys(0, 130), cancel(day(190), "o0"), cancel(day(190), "o130")),
			then: []string{
				"0d lead #1", "0d first_purchase #2", "60d at_risk at_risk of #2", "120d churned churned of #2",
				"130d won_back #3", "190d lead #5: the last purchase left was cancelled",
			},
		},
		{
			name:  "churned to visitor",
			given: all(buys(0), refund(day(121), "o0", "")),
			then:  []string{"0d first_purchase #1", "60d at_risk at_risk of #1", "120d churned churned of #1", "121d visitor #2"},
		},
		{
			name:  "churned to lead",
			given: all(login(day(0)), buys(1), refund(day(122), "o1", "")),
			then:  []string{"0d lead #1", "1d first_purchase #2", "61d at_risk at_risk of #2", "121d churned churned of #2", "122d lead #3"},
		},
		{
			name:  "churned to qualified",
			given: all(tryOut(day(0)), buys(1), refund(day(122), "o1", "")),
			then:  []string{"0d qualified #1", "1d first_purchase #2", "61d at_risk at_risk of #2", "121d churned churned of #2", "122d qualified #3"},
		},
		{
			name:  "lost to visitor",
			given: all(buys(0), refund(day(366), "o0", "")),
			then: []string{
				"0d first_purchase #1", "60d at_risk at_risk of #1", "120d churned churned of #1", "365d lost lost of #1",
				"366d visitor #2: the only purchase was refunded",
			},
		},
		{
			name:  "lost to lead",
			given: all(login(day(0)), buys(0), refund(day(366), "o0", "")),
			then: []string{
				"0d lead #1", "0d first_purchase #2", "60d at_risk at_risk of #2", "120d churned churned of #2",
				"365d lost lost of #2", "366d lead #3",
			},
		},
		{
			name:  "lost to qualified",
			given: all(tryOut(day(0)), buys(0), refund(day(366), "o0", "")),
			then: []string{
				"0d qualified #1", "0d first_purchase #2", "60d at_risk at_risk of #2", "120d churned churned of #2",
				"365d lost lost of #2", "366d qualified #3",
			},
		},
		{
			name:  "and up again",
			given: stages(buy(day(0), "a", "10"), refund(day(1), "a", "10"), buy(day(2), "b", "10")),
			then:  []string{"0d first_purchase #1", "1d visitor #2", "2d first_purchase #3: first purchase"},
		},
	})
}

func TestStageAt(t *testing.T) {
	at := func(days ...int) []domain.Millis {
		var list []domain.Millis
		for _, d := range days {
			list = append(list, day(d))
		}
		return list
	}
	for _, c := range []struct {
		purchases []domain.Millis
		reached   lifecycle.Reached
		t         domain.Millis
		want      lifecycle.Stage
	}{
		{nil, lifecycle.ReachedNothing, day(0), lifecycle.None},
		{nil, lifecycle.ReachedVisitor, day(0), lifecycle.Visitor},
		{nil, lifecycle.ReachedLead, day(0), lifecycle.Lead},
		{nil, lifecycle.ReachedQualified, day(900), lifecycle.Qualified},
		{at(0), lifecycle.ReachedQualified, day(0), lifecycle.FirstPurchase},
		{at(0), lifecycle.ReachedVisitor, day(60) - 1, lifecycle.FirstPurchase},
		{at(0), lifecycle.ReachedVisitor, day(60), lifecycle.AtRisk},
		{at(0), lifecycle.ReachedVisitor, day(120) - 1, lifecycle.AtRisk},
		{at(0), lifecycle.ReachedVisitor, day(120), lifecycle.Churned},
		{at(0), lifecycle.ReachedVisitor, day(365) - 1, lifecycle.Churned},
		{at(0), lifecycle.ReachedVisitor, day(365), lifecycle.Lost},
		{at(0, 0), lifecycle.ReachedVisitor, day(0), lifecycle.Repeat},
		{at(0, 120), lifecycle.ReachedVisitor, day(120), lifecycle.Repeat},
		{append(at(0), day(120)+1), lifecycle.ReachedVisitor, day(120) + 1, lifecycle.WonBack},
		{at(0, 121), lifecycle.ReachedVisitor, day(181), lifecycle.AtRisk},
		{at(0, 1, 2, 3, 4), lifecycle.ReachedVisitor, day(4), lifecycle.Loyal},
		{at(0, 100, 200, 300, 350), lifecycle.ReachedVisitor, day(365) - 1, lifecycle.Loyal},
		{at(0, 100, 200, 300, 350), lifecycle.ReachedVisitor, day(365), lifecycle.Repeat},
	} {
		if got := lifecycle.StageAt(c.purchases, c.reached, c.t, rules); got != c.want {
			t.Errorf("purchases %v, reached %d, at %v: %q, want %q", c.purchases, c.reached, c.t, got, c.want)
		}
	}
}
