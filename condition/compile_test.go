package condition

import (
	"errors"
	"strings"
	"testing"

	"sojourn/domain"
)

var testEnv = Env{
	Stages:     []string{"lead", "loyal", "churned"},
	Statuses:   []string{"happy", "unknown"},
	Meanings:   []string{"purchase", "refund"},
	Programmes: map[string][]string{"club": {"basic", "gold"}},
	Segments:   []string{"vip"},
}

func TestCompile(t *testing.T) {
	for _, text := range []string{
		`true`,
		`stage == "loyal"`,
		`"loyal" == stage && !(tier("club") in ["gold"])`,
		`count(named("Order Completed"), duration("30d")) >= 3`,
		`count(meaning("purchase")) > 2.5 || sum(meaning("purchase"), "EUR", duration("1d12h")) == 100`,
		`sum(meaning("purchase"), "EUR") - sum(meaning("refund"), "EUR") >= 99.95`,
		`since(last(meaning("purchase"))) >= duration("30d")`,
		`duration("30d") < since(stage_since)`,
		`first(named("x")) < timestamp("2026-01-01T00:00:00+01:00")`,
		`last(named("x")) > last(named("y"), duration("7d"))`,
		`traits.plan == "pro" && traits["plan size"] >= 3 && traits.vip && !traits.address.known`,
		`has(traits.plan) && traits.plan.startsWith("p") && size(traits.plan) < 10 && traits.plan.size() > 1`,
		`traits.plan in ["a", "b"] || traits.age in [1, 2.5]`,
		`satisfaction == "happy" && satisfaction_index > 80 && open_complaints == 0`,
		`in_account("acme") && in_segment("vip") == false`,
		`points("club") + 5 > 100 && points("club") != -3`,
		`since(tier_since("club")) > duration("1h") && since(first_seen) < duration("1d")`,
		"stage == 'loyal' // said in words\n",
	} {
		if _, err := Compile(text, testEnv); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
	event := testEnv
	event.Event = true
	for _, text := range []string{
		`event.name == "Order Completed" && event.amount > 100 && event.properties.coupon == "x" && event.from != "lead"`,
		`has(event.properties.items.first) && stage == "loyal"`,
	} {
		c, err := Compile(text, event)
		if err != nil {
			t.Errorf("%s: %v", text, err)
		} else if !c.Needs().Event {
			t.Errorf("%s: needs no event", text)
		}
	}
}

func TestRefused(t *testing.T) {
	for _, test := range []struct {
		text   string
		column int
		says   string
	}{
		{``, 1, "missing"},
		{`stage`, 1, "true or false"},
		{`stage == 3`, 7, "== does not take (string, int)"},
		{`stage == "loyall"`, 10, "none of lead, loyal, churned"},
		{`stage in ["loyal", "x"]`, 20, "none of"},
		{`tier("club") == "silver"`, 17, "none of basic, gold"},
		{`tier("clubs") == "gold"`, 6, `no programme "clubs"`},
		{`in_segment("vips")`, 12, `no segment "vips"`},
		{`satisfaction == "glad"`, 17, "none of"},
		{`count(meaning("purchases")) > 1`, 15, "none of purchase, refund"},
		{`count("Order") > 1`, 6, "count does not take"},
		{`count(named(stage)) > 1`, 13, "written out"},
		{`sum(meaning("purchase"), "eur") > 1`, 26, "upper case"},
		{`"ü" == stage && now > 3`, 17, "there is no now"},
		{`stage * 2 == 4`, 7, "* is not part of the language"},
		{`stage == "loyal" ? true : false`, 18, "is not part of the language"},
		{`stage.matches("x")`, 14, "matches"},
		{`[1, 2].all(x, x > 1)`, 11, ""},
		{`traits.a == traits.b`, 7, "nobody says what they are"},
		{`traits.age > count(named("x"))`, 19, "written out"},
		{`traits.age + 1 > 2`, 7, "added"},
		{`satisfaction_index + 1.0 > 2`, 1, "satisfaction_index"},
		{`traits.at < timestamp("2026-01-01T00:00:00Z")`, 7, "does not compare with a time"},
		{`traits == "x"`, 8, "=="},
		{`traits[stage] == "x"`, 8, "written out"},
		{`since(stage_since) > since(first_seen)`, 27, "written out"},
		{`since(timestamp("2026-01-01T00:00:00Z")) > duration("1d")`, 16, "a time of the customer's"},
		{`since(stage_since) > duration("30x")`, 31, "is no duration"},
		{`since(stage_since) > duration("1h1d")`, 31, "is no duration"},
		{`since(stage_since) > duration("-1d")`, 31, "is no duration"},
		{`count(named("x"), duration("0d")) > 1`, 27, "longer than nothing"},
		{`first_seen < timestamp("2026-02-30T00:00:00Z")`, 24, "is no time"},
		{`first_seen < timestamp("2026-02-03T00:00:00.0001Z")`, 24, "is no time"},
		{`points("club") > 1.23456`, 18, "4 behind"},
		{`points("club") > 1e3`, 18, "4 behind"},
		{`1 == 1`, 3, "written out"},
		{`stage in []`, 10, "list"},
		{"stage == 'loyal' &&\n  tier('x') == 'gold'", 8, "no programme"},
		{`event.name == "x"`, 1, "there is no event"},
		{`first_seen - stage_since > duration("1d")`, 12, "- does not take"},
		{`stage == "loyal" &&`, 20, ""},
		{`in_segment("vip") < true`, 19, "< does not take"},
		{`-points("club") > 1`, 1, "- is not part"},
		{`points("club") > 10u`, 16, "> does not take"},
		{`size(traits) > 3`, 5, "size does not take"},
		{`has(traits)`, 5, "has"},
		{strings.Repeat("(", 200) + "true" + strings.Repeat(")", 200), 0, ""},
		{`stage == "` + strings.Repeat("x", maxText) + `"`, 1, "at most"},
	} {
		_, err := Compile(test.text, testEnv)
		var e *Error
		if !errors.As(err, &e) {
			t.Errorf("%s: not refused: %v", test.text, err)
			continue
		}
		if !strings.Contains(e.Message, test.says) || test.column != 0 && e.Column != test.column {
			t.Errorf("%s: %v, not column %d %q", test.text, err, test.column, test.says)
		}
	}

	env := testEnv
	env.Event = true
	if _, err := Compile(`event.propertis.total > 1`, env); err == nil || !strings.Contains(err.Error(), "there are event.amount, event.channel") {
		t.Errorf("a field that no event has: %v", err)
	}
}

func TestNeeds(t *testing.T) {
	c, err := Compile(`count(named("x"), duration("2d")) > sum(named("x"), "EUR", duration("1d")) || count(named("y"), duration("1d")) > count(named("y")) ||
		tier("b") == "g" || tier("a") != tier("b") || traits.k.l == "x" || in_segment("s") && points("p") > 1 && has(traits.k)`, Env{})
	if err != nil {
		t.Fatal(err)
	}
	n := c.Needs()
	if len(n.Touchpoints) != 2 || n.Touchpoints[0] != (Touchpoints{Selector{Name: "x"}, 2 * domain.Day, true}) || n.Touchpoints[1] != (Touchpoints{Selector{Name: "y"}, 0, false}) {
		t.Errorf("touchpoints %v", n.Touchpoints)
	}
	if strings.Join(n.Tiers, " ") != "a b" || strings.Join(n.Traits, " ") != "k" || strings.Join(n.Segments, " ") != "s" || strings.Join(n.Points, " ") != "p" {
		t.Errorf("needs %+v", n)
	}
}
