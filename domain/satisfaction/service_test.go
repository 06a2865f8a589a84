package satisfaction_test

import (
	"strings"
	"testing"

	"sojourn/domain"
	"sojourn/domain/policy"
	"sojourn/domain/satisfaction"
)

func TestService(t *testing.T) {
	rules := compile(func(s *policy.Satisfaction) {
		s.Service.Levels = []policy.ServiceLevel{
			{Level: "restricted", Flags: []string{"red_list"}},
			{Level: "careful", Flags: []string{"watch_list"}},
			{Level: "rescue", Tiers: []string{"gold", "platinum"}, OpenComplaints: 1},
			{Level: "priority", Tiers: []string{"platinum", "gold"}},
			{Level: "priority", Value: "1000.50", Statuses: []string{"delighted", "satisfied"}},
			{Level: "recovery", OpenTickets: 2},
		}
	})
	red := func(reason string, until domain.Millis) satisfaction.Flag {
		return satisfaction.Flag{Name: "red_list", Reason: reason, Until: until}
	}
	usd := func(text string) map[string]domain.Decimal {
		d, _ := domain.ParseDecimal(text)
		return map[string]domain.Decimal{"USD": d, "EUR": 10 * d}
	}
	type profile = satisfaction.Profile
	for _, c := range []struct {
		name string
		p    profile
		want string // level, reasons, and until when
	}{
		{"nothing is known", profile{}, "standard"},
		{"a flag goes before all", profile{Tiers: []string{"gold"}, OpenComplaints: 3, Flags: []satisfaction.Flag{red("returns empty boxes", 0)}}, "restricted (red_list: returns empty boxes)"},
		{"until it ends", profile{Flags: []satisfaction.Flag{red("", day(1))}}, "restricted (red_list until 2024-01-02T12:00:00.000Z) until 1d"},
		{"it has ended", profile{Flags: []satisfaction.Flag{red("x", day(0))}}, "standard"},
		{"the one that lasts longest", profile{Flags: []satisfaction.Flag{red("a", day(1)), red("b", 0), red("c", 0), red("d", day(2))}}, "restricted (red_list: b)"},
		{"what comes after it", profile{Flags: []satisfaction.Flag{red("a", day(1)), {Name: "watch_list"}}}, "restricted (red_list until 2024-01-02T12:00:00.000Z: a) until 1d"},
		{"a flag that decides nothing does not end it", profile{Flags: []satisfaction.Flag{{Name: "watch_list", Until: day(3)}, red("a", 0)}}, "restricted (red_list: a)"},
		{"a flag that no level names", profile{Flags: []satisfaction.Flag{{Name: "vip"}}}, "standard"},
		{"all conditions hold", profile{Tiers: []string{"gold"}, OpenComplaints: 1}, "rescue (tier gold, 1 open complaint)"},
		{"else the next", profile{Tiers: []string{"member", "gold"}}, "priority (tier gold)"},
		{"value and status", profile{Value: usd("1000.50"), Status: satisfaction.Satisfied}, "priority (value 1000.5 USD, at least 1000.5, satisfaction satisfied)"},
		{"a little less", profile{Value: usd("1000.49"), Status: satisfaction.Satisfied}, "standard"},
		{"another status", profile{Value: usd("2000"), Status: satisfaction.Unknown}, "standard"},
		{"open tickets", profile{OpenTickets: 3}, "recovery (3 open tickets)"},
	} {
		s := rules.Service(c.p, day(0))
		got := s.Level
		if s.Reasons != nil {
			got += " (" + strings.Join(s.Reasons, ", ") + ")"
		}
		if s.Until != 0 {
			got += " until " + since(s.Until)
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	byDefault := compile(nil)
	for level, p := range map[string]profile{
		"restricted": {Flags: []satisfaction.Flag{{Name: "red_list"}}, OpenComplaints: 1},
		"careful":    {Flags: []satisfaction.Flag{{Name: "watch_list"}}, OpenComplaints: 1},
		"recovery":   {OpenComplaints: 1, Tiers: []string{"gold"}},
		"priority":   {Tiers: []string{"platinum"}},
		"standard":   {Tiers: []string{"silver"}},
	} {
		if got := byDefault.Service(p, day(0)); got.Level != level {
			t.Errorf("by default %+v is %+v, want %s", p, got, level)
		}
	}
}
