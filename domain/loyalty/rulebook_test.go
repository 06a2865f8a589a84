package loyalty_test

import (
	"errors"
	"slices"
	"testing"

	"sojourn/domain"
	"sojourn/domain/loyalty"
	"sojourn/domain/policy"
)

func history(rules ...string) []loyalty.AppliedPolicy {
	var list []loyalty.AppliedPolicy
	for i, r := range rules {
		list = append(list, loyalty.AppliedPolicy{Policy: policyOf(r), At: day(float64(10 * i))})
	}
	return list
}

func TestProgrammesOfARulebook(t *testing.T) {
	parse := func(doc string) policy.Policy {
		p, err := policy.Decode([]byte(doc))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	r := loyalty.Resolve([]loyalty.AppliedPolicy{
		{Policy: parse(`{"loyalty":{"programmes":[{"id":"de","currency":"EUR"},{"id":"uk","currency":"GBP","from":"2024-02-01"}]}}`), At: day(0)},
		{Policy: parse(`{"loyalty":{"programmes":[{"id":"fr","currency":"EUR"},{"id":"uk","currency":"GBP","from":"2024-02-01"}]}}`), At: day(50)},
	})
	var ids []string
	for _, p := range r.Programmes() {
		ids = append(ids, p.ID)
	}
	if !slices.Equal(ids, []string{"fr", "uk", "de"}) {
		t.Errorf("programmes %v", ids)
	}
	fr, uk, de := r.Programme(""), r.Programme("uk"), r.Programme("de")
	if fr.ID != "fr" || !fr.Running || !uk.Running || de.Running || r.Programme("us") != nil {
		t.Error("the wrong programmes run")
	}
	if fr.From != day(50) || uk.From != day(30.5) || de.From != policy.Always {
		t.Errorf("from %s, %s, %s", days(fr.From), days(uk.From), days(de.From))
	}
	if fr.CurrencyAt(day(60)) != "EUR" || fr.ValueAt(day(60)) != decimal("0.01") || len(fr.LevelsAt(day(60))) != 4 {
		t.Error("the wrong rules")
	}
	if none := loyalty.Resolve(nil); none.Programme("") != nil || none.WantsEvent("x") {
		t.Error("no policy has programmes")
	}
}

// Several programmes judge the same touchpoints, each by its own rules.
func TestProgrammesSideBySide(t *testing.T) {
	p, err := policy.Decode([]byte(`{"loyalty":{"programmes":[{"id":"us"},{"id":"de","currency":"EUR","earning":{"per_unit":2}}]}}`))
	if err != nil {
		t.Fatal(err)
	}
	rules := loyalty.Resolve([]loyalty.AppliedPolicy{{Policy: p, At: day(0)}})
	spent := redeem(3, 5)
	spent.command.Programme = "de"
	f := factsOf(numbered([]step{buy(0, "a", "10"), buy(1, "b", "20 EUR"), spent}), rules)
	for programme, want := range map[string]int64{"us": 10, "de": 35} {
		l := loyalty.Fold(f, rules.Programme(programme), day(10))
		if err := sound(&l); err != nil {
			t.Error(err)
		}
		if l.Programme != programme || l.Totals.Available != want {
			t.Errorf("%s has %+v", programme, l.Totals)
		}
	}
}

func TestWantsEvent(t *testing.T) {
	r := loyalty.Resolve(history(`{"earning":{"events":[{"name":"Product Reviewed","points":1}]}}`, `{}`))
	for name, want := range map[string]bool{"Product Reviewed": true, "product_reviewed": true, "": false, "Signed In": false} {
		if r.WantsEvent(name) != want {
			t.Errorf("%q: %v", name, !want)
		}
	}
}

func TestCheck(t *testing.T) {
	for _, c := range []struct {
		name    string
		history []string
		then    string
		want    []string
	}{
		{"the first policy may say anything", nil, `{"earning":{"from":"2020-01-01"}}`, nil},
		{"new rules without from", []string{`{}`}, `{"earning":{"per_unit":2}}`, nil},
		{"new rules from an instant to come", []string{`{}`}, `{"earning":{"per_unit":2,"from":"2024-03-01"}}`, nil},
		{
			"new rules from the past",
			[]string{`{}`},
			`{"earning":{"per_unit":2,"from":"2023-03-01"},"expiry":{"days":5,"from":"2023-03-01"},"value":{"point":5,"from":"2023-03-01"},"tiers":{"days":5,"from":"2023-03-01"}}`,
			[]string{
				"loyalty.programmes[0].earning.from", "loyalty.programmes[0].expiry.from",
				"loyalty.programmes[0].value.from", "loyalty.programmes[0].tiers.from",
			},
		},
		{"retroactive rules from the past", []string{`{}`}, `{"earning":{"per_unit":2,"from":"2023-03-01","retroactive":true}}`, nil},
		{"old rules keep their from", []string{`{"earning":{"from":"2020-01-01"}}`}, `{"earning":{"from":"2020-01-01"},"value":{"point":3}}`, nil},
		{"changed rules under an old from", []string{`{"earning":{"from":"2020-01-01"}}`}, `{"earning":{"from":"2020-01-01","per_unit":3}}`, []string{"loyalty.programmes[0].earning.from"}},
		{"a programme keeps its from", []string{`{"from":"2020-01-01"}`}, `{"from":"2020-01-01","value":{"point":2}}`, nil},
		{"another from of a programme", []string{`{"from":"2020-01-01"}`}, `{"from":"2030-01-01"}`, []string{"loyalty.programmes[0].from"}},
		{"a new programme from the past", []string{`none`}, `{"from":"2020-01-01"}`, []string{"loyalty.programmes[0].from"}},
		{"a new programme from the past, retroactive", []string{`none`}, `{"from":"2020-01-01","retroactive":true}`, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := loyalty.Check(history(c.history...), policyOf(c.then), day(20))
			var problems policy.Problems
			if err != nil && !errors.As(err, &problems) {
				t.Fatal(err)
			}
			var got []string
			for _, p := range problems {
				got = append(got, p.PathString())
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("problems at %q, want %q", got, c.want)
			}
		})
	}
}

// A from in the past that was let through without retroactive holds from the
// apply on.
func TestRulesNeverReachBackByThemselves(t *testing.T) {
	s := spec{later: []applied{{day: 10, rules: `{"earning":{"per_unit":2,"from":"2023-01-01"}}`}}}
	rules := s.rulebook()
	l := loyalty.Fold(factsOf(numbered([]step{buy(5, "a", "10"), buy(15, "b", "10")}), rules), rules.Programme("p"), day(20))
	if l.Totals.Available != 30 {
		t.Errorf("%+v", l.Totals)
	}
}

func TestQuote(t *testing.T) {
	s := spec{rules: `{"earning":{"pending_days":7,"multipliers":[{"factor":2,"tiers":["silver"]}]}}`}
	rules := s.rulebook()
	p := rules.Programme("p")
	f := factsOf(numbered([]step{buy(0, "a", "600"), redeem(8, 700)}), rules)
	before := string(f.Append(nil))
	basket := buy(10, "", "49.99").touch
	basket.ID = id(99)
	if got := loyalty.Quote(f, p, rules, *basket); got != 99 { // of 99.98
		t.Errorf("%d points", got)
	}
	if string(f.Append(nil)) != before {
		t.Error("a quote changed the facts")
	}
}

func TestSpend(t *testing.T) {
	s := spec{rules: forEver}
	rules := s.rulebook()
	f := factsOf(numbered([]step{buy(0, "a", "10"), adjust(1, 0).parts(5, 50, 5, 50, 7, 40)}), rules)
	l := loyalty.Fold(f, rules.Programme("p"), day(2))
	want := []loyalty.Part{{Points: 7, Expires: day(40)}, {Points: 10, Expires: day(50)}, {Points: 3, Expires: policy.Never}}
	if got, ok := l.Spend(20); !ok || !slices.Equal(got, want) {
		t.Errorf("%v, %v", got, ok)
	}
	for _, n := range []int64{0, -1, 28} {
		if got, ok := l.Spend(n); ok || got != nil {
			t.Errorf("%d of 27 points: %v", n, got)
		}
	}
	if l.Totals.Available != 27 {
		t.Errorf("%+v", l.Totals)
	}
}

// Over all customers transfers in are transfers out.
func TestTransferBetweenCustomers(t *testing.T) {
	s := spec{rules: forEver}
	rules := s.rulebook()
	p := rules.Programme("p")
	giver := factsOf(numbered([]step{buy(0, "a", "10"), adjust(1, 0).parts(5, 50)}), rules)
	at := loyalty.Fold(giver, p, day(2))
	parts, ok := at.Spend(8)
	if !ok {
		t.Fatal("nothing to send")
	}
	out := loyalty.Command{Ref: loyalty.Ref{At: day(2), ID: id(50)}, Kind: loyalty.TransferOut, Programme: "p", Points: 8}
	out.Of = loyalty.TransferInID(out.ID)
	in := loyalty.Command{Ref: loyalty.Ref{At: day(2), ID: out.Of}, Kind: loyalty.TransferIn, Programme: "p", Of: out.ID, Parts: parts}
	taker := factsOf(numbered([]step{visit(0)}), rules)
	giver.AddCommand(out)
	taker.AddCommand(in)
	a, b := loyalty.Fold(giver, p, day(3)), loyalty.Fold(taker, p, day(3))
	if a.Totals.TransferredOut != 8 || b.Totals.TransferredIn != 8 || b.ExpiringAt != day(50) || b.Expiring != 5 {
		t.Errorf("%+v, %+v", a.Totals, b.Totals)
	}
	// They become one customer.
	giver.Merge(taker)
	if both := loyalty.Fold(giver, p, day(3)); both.Totals.Available != 15 || both.Totals.TransferredIn+both.Totals.TransferredOut != 0 {
		t.Errorf("%+v", both.Totals)
	}
}

func TestReadLines(t *testing.T) {
	got := loyalty.ReadLines([]byte(` [{"product_id":"p1","sku":"s","category":"food","price":"2.50","quantity":3},
		{"sku":7,"price":1e1},{"id":"x","quantity":"2"},{"product_id":"","price":"?"},{"price":-1,"quantity":-1}]`))
	one := decimal("1")
	want := []loyalty.Line{
		{Product: "p1", Category: "food", Amount: decimal("7.5"), Priced: true, Quantity: decimal("3")},
		{Product: "7", Amount: decimal("10"), Priced: true, Quantity: one},
		{Product: "x", Quantity: decimal("2")},
		{Quantity: one},
		{Amount: decimal("-1"), Priced: true, Quantity: one},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	for _, bad := range []string{"", "null", "{}", `"x"`, "[1]", "[", "[]"} {
		if got := loyalty.ReadLines([]byte(bad)); got != nil {
			t.Errorf("%s was read as %+v", bad, got)
		}
	}
	props := map[string]string{"product_id": `"tea"`, "category": `"food"`}
	prop := func(key string) []byte { return []byte(props[key]) }
	if got := loyalty.ReadLine(prop); len(got) != 1 || got[0].Product != "tea" || got[0].Category != "food" {
		t.Errorf("%+v", got)
	}
	props = nil
	if got := loyalty.ReadLine(prop); got != nil {
		t.Errorf("%+v", got)
	}
}

func TestReadBirthday(t *testing.T) {
	for raw, want := range map[string]loyalty.Birthday{
		`"2000-02-29"`:           {Told: true, Month: 2, Day: 29},
		`"1980-12-01T00:00:00Z"`: {Told: true, Month: 12, Day: 1},
		`"1980-12-01 00:00:00"`:  {Told: true, Month: 12, Day: 1},
		`"--02-29"`:              {Told: true, Month: 2, Day: 29},
		`null`:                   {Told: true},
		`"2001-02-29"`:           {},
		`"soon"`:                 {},
		`12`:                     {},
		``:                       {},
	} {
		if got := loyalty.ReadBirthday([]byte(raw)); got != want {
			t.Errorf("%s was read as %+v", raw, got)
		}
	}
}

// Birthdays go on to the end of time.
func TestBirthdaysToTheEndOfTime(t *testing.T) {
	s := spec{rules: `{"earning":{"birthday":1}}`}
	rules := s.rulebook()
	f := factsOf(numbered([]step{born(0, 12, 31)}), rules)
	l := loyalty.Fold(f, rules.Programme("p"), domain.MaxTime)
	if err := sound(&l); err != nil {
		t.Error(err)
	}
	if l.Totals.Earned != 2299-2024+1 {
		t.Errorf("%+v", l.Totals)
	}
}
