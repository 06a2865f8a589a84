package loyalty_test

import (
	"testing"

	"sojourn/domain/loyalty"
	"sojourn/domain/policy"
)

func TestInForce(t *testing.T) {
	r := loyalty.Resolve(history(`{}`, `{"earning":{"per_unit":2},"tiers":{"days":30,"from":"2024-02-01"}}`, `{"earning":{"per_unit":2},"tiers":{"days":30,"from":"2024-02-01"},"value":{"point":0.02}}`))
	p := r.Programme("")
	for _, c := range []struct {
		at                            float64
		earning, expiry, value, tiers string // from
		perUnit                       string
		days                          int
	}{
		{5, "", "", "", "", "1", 365},
		{10, day(10).String(), "", "", "", "2", 365},
		{25, day(10).String(), "", day(20).String(), "", "2", 365},
		{40, day(10).String(), "", day(20).String(), "2024-02-01T00:00:00.000Z", "2", 30},
	} {
		f := p.InForce(day(c.at))
		if f.Earning.From != c.earning || f.Expiry.From != c.expiry || f.Value.From != c.value || f.Tiers.From != c.tiers {
			t.Errorf("day %v: from %q, %q, %q, %q", c.at, f.Earning.From, f.Expiry.From, f.Value.From, f.Tiers.From)
		}
		if f.Earning.PerUnit.Decimal() != decimal(c.perUnit) || f.Tiers.Days != c.days || f.Currency != "USD" || f.TimeZone != "UTC" {
			t.Errorf("day %v: %+v", c.at, f)
		}
	}
	if f := p.InForce(policy.Never); f.Tiers.Days != 30 {
		t.Errorf("in the end: %+v", f.Tiers)
	}
	// One that has ended earns nothing any more.
	ended := loyalty.Resolve(history(`{}`, `none`))
	if f := ended.Programme("p").InForce(day(11)); f.Earning != nil || f.Tiers == nil {
		t.Errorf("it has ended: %+v", f)
	}
}

func TestSame(t *testing.T) {
	first := func(rules ...string) *loyalty.Programme { return loyalty.Resolve(history(rules...)).Programme("") }
	one := first(`{}`)
	for rules, want := range map[string]bool{
		`{"expiry":{"days":365}}`:                    true, // the default, said
		`{"earning":{"per_unit":2}}`:                 false,
		`{"value":{"point":0.02}}`:                   false,
		`{"tiers":{"days":30}}`:                      false,
		`{"expiry":{"days":1}}`:                      false,
		`{"currency":"EUR"}`:                         false,
		`{"from":"2024-01-01"}`:                      false,
		`{"id":"other"}`:                             false,
		`{"expiry":{"days":365,"retroactive":true}}`: true, // of a first policy
	} {
		if got := one.Same(first(rules)); got != want {
			t.Errorf("%s: %t", rules, got)
		}
	}
	var none *loyalty.Programme
	if one.Same(none) || none.Same(one) || !none.Same(nil) {
		t.Error("none is the same as none only")
	}
	// The same section from another time on.
	if first(`{}`, `{"value":{"point":0.02}}`).Same(first(`{}`, `{"value":{"point":0.02,"retroactive":true}}`)) {
		t.Error("they hold from different times")
	}
}

// An opening balance that comes before its programme begins stands when that does,
// and the ledger says that it will.
func TestOpeningBeforeTheProgrammeBegins(t *testing.T) {
	r := loyalty.Resolve(history(`{"from":"2024-03-01","earning":{"enrolment":"explicit"}}`))
	p := r.Programme("p")
	s := opening(1)
	s.command.Parts = []loyalty.Part{{Points: 700, Expires: policy.Never}}
	f := factsOf([]step{s}, r)
	if l := loyalty.Fold(f, p, day(5)); l.Next != p.From {
		t.Errorf("the next deadline is %s", days(l.Next))
	}
	if l := loyalty.Fold(f, p, p.From); l.Enrolled != p.From || l.Totals.Available != 700 {
		t.Errorf("%+v", l.Totals)
	}
}
