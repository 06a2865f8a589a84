package policy_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"sojourn/domain/policy"
)

func TestDefaultLoyalty(t *testing.T) {
	for name, doc := range map[string]string{
		"the default":           `{}`,
		"a programme by its id": `{"loyalty":{"programmes":[{"id":"default"}]}}`,
		"written out": `{"loyalty":{"programmes":[{"id":"default","currency":"USD","time_zone":"UTC",
			"earning":{"enrolment":"automatic","per_unit":1,"pending_days":0},
			"expiry":{"days":365,"grace_days":30},"value":{"point":"0.01"},
			"tiers":{"by":"points","window":"trailing","days":365,"levels":[{"name":"member","threshold":0},
				{"name":"silver","threshold":500},{"name":"gold","threshold":2000},{"name":"platinum","threshold":"5000"}]}}]}}`,
	} {
		p, err := policy.Decode([]byte(doc))
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		got, err := p.MarshalCanonical()
		if err != nil {
			t.Fatal(err)
		}
		want, err := policy.Default().MarshalCanonical()
		if err != nil || string(got) != string(want) {
			t.Errorf("%s is\n%s\nwant\n%s", name, got, want)
		}
		again, err := policy.Decode(got)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := again.MarshalCanonical(); err != nil || string(b) != string(got) {
			t.Errorf("%s: a policy read back is another one (%v)", name, err)
		}
	}
}

func TestLoyaltyFollowsTheDocument(t *testing.T) {
	p, err := policy.Decode([]byte(`{"currency":"EUR","loyalty":{"programmes":[{"id":"a"},{"id":"b","currency":"GBP","expiry":{"days":0},"earning":{"per_unit":0}}]}}`))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Validate(); err != nil {
		t.Fatal(err)
	}
	list := p.Expanded().Loyalty.Programmes
	if list[0].Currency != "EUR" || list[1].Currency != "GBP" || *list[1].Expiry.Days != 0 || *list[1].Earning.PerUnit != 0 || *list[0].Expiry.Days != 365 {
		t.Errorf("%+v", list)
	}
	if p.Loyalty.Programmes[0].Currency != "" {
		t.Error("the document was changed")
	}
	none, err := policy.Decode([]byte(`{"loyalty":{"programmes":[]}}`))
	if err != nil || len(none.Expanded().Loyalty.Programmes) != 0 {
		t.Errorf("an empty list is no programme: %v", err)
	}
	if b, err := none.MarshalCanonical(); err != nil || !strings.Contains(string(b), `"loyalty":{"programmes":[]}`) {
		t.Errorf("canonical form: %s, %v", b, err)
	}
}

func TestValidateLoyalty(t *testing.T) {
	p, err := policy.Decode([]byte(`{"loyalty":{"programmes":[
		{"id":"A","currency":"eur","time_zone":"Mars/Olympus","from":"soon",
			"earning":{"from":"x","enrolment":"automatc","per_unit":-1,"rates":{"eu":"1","GBP":-1},"pending_days":-1,
				"events":[{"name":" ","points":1},{"name":"Product Reviewed","points":-1},{"name":"product_reviewed","points":1}],
				"birthday":-5,
				"multipliers":[{"factor":0,"channels":["wep"],"tiers":["golf"],"starts":"x","ends":"y"}]},
			"expiry":{"from":"x","days":-1,"grace_days":-1},"value":{"point":-1,"from":"x"},
			"tiers":{"from":"x","by":"pionts","window":"trailng","days":-1,"levels":[{"name":"gold","threshold":1},{"name":"","threshold":0},{"name":"gold","threshold":9}]}},
		{"id":"b","earning":{"pending_days":30,"rates":{"USD":1}},"expiry":{"days":30}},
		{"id":"b","tiers":{"levels":[]}}]}}`))
	if err != nil {
		t.Fatal(err)
	}
	err = p.Validate()
	var problems policy.Problems
	if !errors.As(err, &problems) {
		t.Fatalf("Validate returned %v", err)
	}
	var got []string
	for _, problem := range problems {
		got = append(got, strings.TrimPrefix(problem.PathString(), "loyalty.programmes"))
	}
	want := []string{
		"[0].id", "[0].currency", "[0].time_zone", "[0].from", "[0].earning.from", "[0].expiry.from", "[0].value.from", "[0].tiers.from",
		"[0].earning.enrolment", "[0].earning.per_unit", "[0].earning.rates.GBP", "[0].earning.rates.eu",
		"[0].earning.events[0].name", "[0].earning.events[1].points", "[0].earning.events[2].name", "[0].earning.birthday",
		"[0].earning.multipliers[0].factor", "[0].earning.multipliers[0].channels[0]", "[0].earning.multipliers[0].tiers[0]",
		"[0].earning.multipliers[0].starts", "[0].earning.multipliers[0].ends",
		"[0].earning.pending_days", "[0].expiry.days", "[0].expiry.grace_days", "[0].value.point",
		"[0].tiers.by", "[0].tiers.window",
		"[0].tiers.levels[0].threshold", "[0].tiers.levels[1].name", "[0].tiers.levels[1].threshold", "[0].tiers.levels[2].name",
		"[0].tiers.days",
		"[1].earning.rates.USD", "[1].expiry.days",
		"[2].tiers.levels", "[2].id",
	}
	if !slices.Equal(got, want) {
		t.Errorf("problems at\n%q, want\n%q", got, want)
	}
	for _, part := range []string{"did you mean automatic?", "did you mean points?", "did you mean trailing?", "did you mean gold?", "did you mean web?"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("no %q in\n%v", part, err)
		}
	}
}

func TestLoyaltyUnknownKey(t *testing.T) {
	_, err := policy.Decode([]byte(`{"loyalty":{"programmes":[{"id":"a","earning":{"multipliers":[{"factr":2}]},"tier":{}}]}}`))
	for _, part := range []string{
		`loyalty.programmes[0].earning.multipliers[0].factr: "factr" is no key of a policy: did you mean factor?`,
		`loyalty.programmes[0].tier: "tier" is no key of a policy: did you mean tiers?`,
	} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("no %q in\n%v", part, err)
		}
	}
}

func TestNumber(t *testing.T) {
	var got struct {
		Plain, Quoted, Whole, Exact policy.Number
	}
	if err := yaml.Unmarshal([]byte("plain: 1.5\nquoted: \"0.01\"\nwhole: 3 # three\nexact: 0.1\n"), &got); err != nil {
		t.Fatal(err)
	}
	if got.Plain != 15_000 || got.Quoted != 100 || got.Whole != 30_000 || got.Exact != 1_000 {
		t.Errorf("%+v", got)
	}
	// What is no number is found by Validate, which can say where it stands.
	p := policy.Default()
	if err := yaml.Unmarshal([]byte("loyalty: {programmes: [{id: a, value: {point: much}, earning: {multipliers: [{factor: two}]}, tiers: {levels: [{name: x, threshold: few}]}}]}"), &p); err != nil {
		t.Fatal(err)
	}
	err := p.Validate()
	for _, path := range []string{"value.point", "earning.multipliers[0].factor", "tiers.levels[0].threshold"} {
		if want := "loyalty.programmes[0]." + path + ": is no decimal number"; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in\n%v", want, err)
		}
	}
	written, err := yaml.Marshal(map[string]policy.Number{"factor": 15_000})
	if err != nil || string(written) != "factor: 1.5\n" {
		t.Errorf("%q, %v", written, err)
	}
}

func TestInstant(t *testing.T) {
	tokyo, err := time.LoadLocation("Asia/Tokyo")
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"2024-01-11":                "2024-01-10T15:00:00.000Z",
		"2024-01-11T12:00:00Z":      "2024-01-11T12:00:00.000Z",
		"2024-01-11T12:00:00+01:00": "2024-01-11T11:00:00.000Z",
	} {
		if at, ok := policy.Instant(text, tokyo); !ok || at.String() != want {
			t.Errorf("%s is %s, %v", text, at, ok)
		}
	}
	for _, bad := range []string{"", "soon", "2024-13-01", "1700-01-01", "9999-01-01"} {
		if at, ok := policy.Instant(bad, time.UTC); ok {
			t.Errorf("%q is %s", bad, at)
		}
	}
}
