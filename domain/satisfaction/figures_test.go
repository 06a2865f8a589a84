package satisfaction_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/google/uuid"

	"sojourn/domain"
	"sojourn/domain/policy"
	"sojourn/domain/satisfaction"
)

func near(a, b float64) bool { return math.Abs(a-b) < 5e-5 }

// TestIntervals compares with values computed elsewhere: t by tables (A&S 26.10,
// scipy.stats.t.ppf), Wilson by Newcombe 1998 (81 of 263, 15 of 148, 0 of 20, 1 of
// 29), adjusted Wald by hand.
func TestIntervals(t *testing.T) {
	for df, want := range map[int]float64{
		1: 12.706204736, 2: 4.302652730, 3: 3.182446305, 4: 2.776445105, 5: 2.570581836, 9: 2.262157163, 10: 2.228138852,
		29: 2.045229642, 30: 2.042272456, 60: 2.000297822, 100: 1.983971519, 1000: 1.962339081, 1_000_000: 1.959966358,
	} {
		if got := satisfaction.StudentT(df); math.Abs(got-want) > 1e-8 {
			t.Errorf("t of %d: %.10f, want %.10f", df, got, want)
		}
	}
	for _, c := range []struct {
		count, n  int
		low, high float64
	}{
		{81, 263, 0.2553, 0.3662}, {15, 148, 0.0624, 0.1605}, {0, 20, 0, 0.1611}, {1, 29, 0.0061, 0.1718}, {20, 20, 1 - 0.1611, 1},
	} {
		got := satisfaction.ShareOf(c.count, c.n)
		if math.Abs(got.Low-c.low) > 6e-5 || math.Abs(got.High-c.high) > 6e-5 || got.Value != float64(c.count)/float64(c.n) {
			t.Errorf("%d of %d: %+v", c.count, c.n, got)
		}
	}
	if got := satisfaction.ShareOf(0, 0); got.Low != 0 || got.High != 1 || got.N != 0 {
		t.Errorf("nothing of nothing: %+v", got)
	}

	// 5 promoters, 3 passives, 2 detractors: 30; of 13 with what is added 5.75 and
	// 2.75, net 3/13, variance 8.5/13 − 9/169 over 13.
	net := satisfaction.NetPromoterOf(5, 3, 2)
	half := 1.959963984540054 * math.Sqrt((8.5/13-9.0/169)/13)
	if net.Value != 30 || !near(net.Low, 100*(3.0/13-half)) || !near(net.High, 100*(3.0/13+half)) {
		t.Errorf("net promoter score %+v", net)
	}
	if net := satisfaction.NetPromoterOf(1, 0, 0); net.Value != 100 || net.High > 100 || net.Low > 0 {
		t.Errorf("of one promoter %+v", net)
	}
	if net := satisfaction.NetPromoterOf(0, 0, 0); net.N != 0 || net.Low != -100 || net.High != 100 {
		t.Errorf("of nobody %+v", net)
	}

	// 2, 4, 6: mean 4, s = 2, t of 2 is 4.30265.
	mean := satisfaction.MeanOf(3, 12, 56)
	if mean.Value != 4 || !mean.Known || !near(mean.Low, 4-4.968275) || !near(mean.High, 4+4.968275) {
		t.Errorf("mean %+v", mean)
	}
	if mean := satisfaction.MeanOf(1, 5, 25); mean.Known || mean.Value != 5 {
		t.Errorf("mean of one %+v", mean)
	}
	if mean := satisfaction.MeanOf(4, 28, 196); mean.Low != 7 || mean.High != 7 {
		t.Errorf("mean of equals %+v", mean)
	}
}

// TestCoverage: of samples drawn with a known seed about 95% have the truth in
// their interval, few answers or many.
func TestCoverage(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{5, 10, 30, 200} {
		const runs = 4000
		var share, net, mean int
		for range runs {
			good, promoters, detractors := 0, 0, 0
			var sum, squares int64
			for range n {
				if random.Float64() < 0.7 {
					good++
				}
				switch u := random.Float64(); {
				case u < 0.5:
					promoters++
				case u < 0.7:
					detractors++
				}
				x := int64(1 + random.IntN(7))
				sum, squares = sum+x, squares+x*x
			}
			if s := satisfaction.ShareOf(good, n); s.Low <= 0.7 && 0.7 <= s.High {
				share++
			}
			if s := satisfaction.NetPromoterOf(promoters, n-promoters-detractors, detractors); s.Low <= 30 && 30 <= s.High {
				net++
			}
			if s := satisfaction.MeanOf(n, sum, squares); s.Low <= 4 && 4 <= s.High {
				mean++
			}
		}
		for what, hits := range map[string]int{"share": share, "net promoter score": net, "mean": mean} {
			if p := float64(hits) / runs; p < 0.91 || p > 0.99 {
				t.Errorf("%s of %d: the truth is within %.3f of the intervals", what, n, p)
			}
		}
	}
}

func answer(customer byte, at domain.Millis, touch satisfaction.Touch, where ...string) satisfaction.Answer {
	a := satisfaction.Answer{Customer: uuid.UUID{customer}, Score: compile(nil).Judge(touch.Event)}
	a.At, a.ID = at, uuid.UUID{14: customer, 15: byte(at % 251)}
	for i, w := range where {
		*[]*string{&a.Stage, &a.Tier, &a.Channel, &a.Source}[i] = w
	}
	return a
}

func TestOpinions(t *testing.T) {
	rows := []satisfaction.Answer{
		answer(1, day(0), nps(0, "2"), "lead", "gold", "email", "crm"),
		answer(1, day(5), nps(0, "10"), "loyal", "gold", "email", "crm"),
		answer(1, day(6), nps(0, "11"), "loyal", "gold", "email", "crm"), // counts nowhere
		answer(2, day(1), nps(0, "8"), "loyal", "", "web", "shop"),
		answer(3, day(2), nps(0, "6"), "loyal", "", "web", "shop"),
		answer(1, day(3), csat(0, "5"), "loyal", "", "web", "shop"),
		answer(2, day(3), csat(0, "3"), "loyal", "", "web", "shop"),
		answer(1, day(4), ces(0, "7"), "loyal", "", "web", "shop"),
		answer(2, day(4), ces(0, "4"), "loyal", "", "web", "shop"),
		answer(3, day(4), review(0, "5"), "loyal", "", "web", "shop"),
		answer(4, day(7), ces(0, "5"), "new", "", "web", "shop"),
	}
	for _, c := range []struct {
		name   string
		filter satisfaction.Filter
		every  bool
		want   string
	}{
		{"a customer's last answer counts", satisfaction.Filter{}, false, "nps 1/1/1 0, csat 1/2, ces 5.333, easy 2/3"},
		{"or every one", satisfaction.Filter{}, true, "nps 1/1/2 -25, csat 1/2, ces 5.333, easy 2/3"},
		{"filters go first: the last of those in the period", satisfaction.Filter{To: day(5)}, false, "nps 0/1/2 -66.67, csat 1/2, ces 5.5, easy 1/2"},
		{"the beginning belongs to a period, the end does not", satisfaction.Filter{From: day(1), To: day(2)}, false, "nps 0/1/0 0, csat 0/0, ces 0, easy 0/0"},
		{"by the stage at the answer", satisfaction.Filter{Stage: "lead"}, false, "nps 0/0/1 -100, csat 0/0, ces 0, easy 0/0"},
		{"by tier, channel and source", satisfaction.Filter{Tier: "gold", Channel: "email", Source: "crm"}, false, "nps 1/0/0 100, csat 0/0, ces 0, easy 0/0"},
	} {
		for seed := range uint64(5) {
			shuffled := append([]satisfaction.Answer(nil), rows...)
			rand.New(rand.NewPCG(seed, 0)).Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
			o := satisfaction.OpinionsOf(satisfaction.Choose(shuffled, c.filter, c.every))
			got := fmt.Sprintf("nps %d/%d/%d %.4g, csat %d/%d, ces %.4g, easy %d/%d", o.NPS.Promoters, o.NPS.Passives, o.NPS.Detractors, o.NPS.Value,
				o.CSAT.Count, o.CSAT.N, o.CES.Value, o.Easy.Count, o.Easy.N)
			if got != c.want {
				t.Fatalf("%s: %s, want %s", c.name, got, c.want)
			}
		}
	}
	low := satisfaction.Compile(func() *policy.Compiled {
		p := policy.Default()
		p.Satisfaction.CESEasy = policy.Low
		return p.Compile()
	}())
	row := satisfaction.Answer{Score: low.Judge(ces(0, "2").Event)}
	if o := satisfaction.OpinionsOf([]satisfaction.Answer{row}); o.CES.Value != 6 || o.Easy.Count != 1 {
		t.Errorf("2 of 7 where 1 is easy: %+v", o)
	}
}

func TestResponseRate(t *testing.T) {
	row := func(at domain.Millis, answered bool, channel string) satisfaction.SentRow {
		return satisfaction.SentRow{Survey: satisfaction.Survey{Sent: satisfaction.Ref{At: at}, Answered: answered}, Channel: channel}
	}
	rows := []satisfaction.SentRow{row(day(0), true, "email"), row(day(1), false, "email"), row(day(2), true, "web"), row(day(3), true, "email")}
	got := satisfaction.ResponseRate(rows, satisfaction.Filter{From: day(0), To: day(3), Channel: "email"})
	if got.Count != 1 || got.N != 2 {
		t.Errorf("%+v", got)
	}
}

func TestServiceFigures(t *testing.T) {
	rules := compile(nil)
	var rows []satisfaction.CaseRow
	tell := func(clock domain.Millis, ts ...satisfaction.Touch) {
		for _, c := range satisfaction.Cases(addAll(number(ts)), rules, clock) {
			rows = append(rows, satisfaction.CaseRow{Case: c, Channel: "email"})
		}
	}
	tell(day(9), ticket(day(0), opened, ""), ticket(day(0, hour), replied, ""), ticket(day(1), resolved, ""))
	tell(day(9), ticket(day(0), opened, ""), ticket(day(0, 9*hour), replied, ""), ticket(day(4), resolved, ""))
	tell(day(9), ticket(day(1), opened, ""))                                                                    // long due
	tell(day(9), ticket(day(8, 23*hour), opened, ""), ticket(day(9), replied, ""))                              // not yet due
	tell(day(9), ticket(day(-1), opened, ""), ticket(day(-1, hour), replied, ""), ticket(day(1), resolved, "")) // opened before
	tell(day(9), ticket(day(1), replied, ""))                                                                   // whose opening is not known
	tell(day(9), complain(day(1), "c"))
	got := satisfaction.ServiceOf(rows, satisfaction.Ticket, satisfaction.Filter{From: day(0), To: day(9), Channel: "email"})
	want := satisfaction.ServiceFigures{
		Opened: 4, Resolved: 2,
		FirstResponseP50: hour, FirstResponseP90: 9 * hour,
		ResolutionP50: 24 * hour, ResolutionP90: 96 * hour,
		FirstResponseWithin: satisfaction.ShareOf(2, 4), ResolutionWithin: satisfaction.ShareOf(1, 3),
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v\nwant\n%+v", got, want)
	}
	if got := satisfaction.ServiceOf(rows, satisfaction.Ticket, satisfaction.Filter{}); got.Opened != 5 {
		t.Errorf("without a filter %+v", got)
	}
}

func TestQuantile(t *testing.T) {
	var values []domain.Millis
	for i := range 10 {
		values = append(values, domain.Millis(10-i))
	}
	for percent, want := range map[int]domain.Millis{50: 5, 90: 9, 91: 10, 100: 10, 1: 1, 0: 1} {
		if got := satisfaction.Quantile(values, percent); got != want {
			t.Errorf("%d%%: %d, want %d", percent, got, want)
		}
	}
	if got := satisfaction.Quantile(nil, 50); got != 0 {
		t.Errorf("of nothing %d", got)
	}
	if got := satisfaction.PerThousand(3, 1500); got != 2 {
		t.Errorf("complaints per 1,000 orders: %v", got)
	}
	if got := satisfaction.PerThousand(3, 0); got != 0 {
		t.Errorf("without orders: %v", got)
	}
}
