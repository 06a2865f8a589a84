package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"sojourn/api"
	"sojourn/domain"
	"sojourn/domain/policy"
)

func policyOf(t *testing.T, text string) (policy.Policy, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "p.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p, source, err := loadPolicy(path)
	if err == nil && source != text {
		t.Errorf("the text of the policy is %q", source)
	}
	return p, err
}

func TestPolicyFile(t *testing.T) {
	p, err := policyOf(t, "currency: EUR\nlifecycle: {at_risk_days: 30}\nevents:\n  - {names: [Invoice Paid, Paid], meaning: purchase, channel: server, source: erp}\n")
	if err != nil {
		t.Fatal(err)
	}
	want := policy.Default()
	want.Currency, want.Lifecycle.AtRiskDays = "EUR", 30
	want.Events = []policy.Mapping{{Names: []string{"Invoice Paid", "Paid"}, Meaning: policy.Purchase, Channel: policy.Server, Source: "erp"}}
	if !reflect.DeepEqual(p, want) {
		t.Errorf("got  %+v\nwant %+v", p, want)
	}
	p, err = policyOf(t, "identity: {limits: {email: 3}, join: [user, phone], nobody: [guest@shop]}\n")
	if err != nil {
		t.Fatal(err)
	}
	if r := p.Compile().Identity(); r.Limit(domain.Email) != 3 || r.Limit(domain.User) != 1 || r.Limit(domain.Anon) != 0 || !r.Nobody("guest@shop") {
		t.Errorf("%+v", p.Identity)
	}
	if p, _, err := loadPolicy(""); err != nil || !reflect.DeepEqual(p, policy.Default()) {
		t.Errorf("without a file: %+v, %v", p, err)
	}
}

func TestPolicyMistakes(t *testing.T) {
	levels := "satisfaction:\n  service:\n    levels:\n      - {level: vip, tiers: [gold, golden]}\n"
	for text, want := range map[string]string{
		"currncy: EUR\n":                         `p.yaml:1:1: unknown key "currncy"; did you mean "currency"?`,
		"currency: euro\n":                       `p.yaml:1:11: currency: "euro" is no currency`,
		"lifecycle:\n  at_risk_days: many\n":     `p.yaml:2:17: lifecycle.at_risk_days: this should be a whole number`,
		"lifecycle:\n  at_risk_days: 200\n":      `p.yaml:1:1: lifecycle.churned_days: 120 must be more than at_risk_days`,
		"events:\n  - {name: A, meaning: buy}\n": `p.yaml:2:24: events[0].meaning: "buy" is no meaning`,
		"events:\n  - name: A\n":                 `p.yaml:2:5: events[0].meaning: is missing`,
		"events:\n  - nme: A\n":                  `p.yaml:2:5: unknown key "nme" under events[0]; did you mean "name"?`,
		"events:\n\t- name: A\n":                 `p.yaml:2:1: `,
		"channels:\n  - {channel: pigeon}\n":     `p.yaml:2:15: channels[0].channel: "pigeon" is no channel`,
		"events: none\n":                         `p.yaml:1:9: events: this should be a list`,
		"identity: {joins: [user]}\n":            `p.yaml:1:12: unknown key "joins" under identity; did you mean "join"?`,
		"identity:\n  join: [user, user]\n":      `p.yaml:2:16: identity.join[1]: "user" is listed already`,
		"identity:\n  limits: {email: -1}\n":     `p.yaml:2:19: identity.limits.email: -1 is below zero`,
		"identity:\n  limits: {email: many}\n":   `p.yaml:2:19: identity.limits.email: this should be a whole number`,
		"identity:\n  limits: {user: 1.5}\n":     `p.yaml:2:18: identity.limits.user: this should be a whole number`,
		"lifecycle: {at_risk_days: 60.5}\n":      `p.yaml:1:27: lifecycle.at_risk_days: this should be a whole number`,
		"identity:\n  nobody: [guest, \"\"]\n":   `p.yaml:2:19: identity.nobody[1]: is empty`,
		"standard: true\nstandard: false\n":      `p.yaml:2:1: `,
		"mappings:\n  erp: {usr: a}\n":           `p.yaml:2:9: unknown key "usr" under mappings.erp; did you mean "user"?`,
		"mappings:\n  erp: {user: $hdr.a}\n":     `p.yaml:2:15: mappings.erp.user: "$hdr.a" is none of $key`,
		"mappings:\n  erp:\n    properties:\n      total: {field: sum, kind: decimal}\n": `p.yaml:4:33: mappings.erp.properties.total.kind: "decimal" is not string or number`,
		"mappings:\n  erp:\n    properties:\n      total: {kind: number}\n":              `p.yaml:4:7: mappings.erp.properties.total: write field: or value:`,
		"mappings:\n  ERP: {user: a}\n":                                                  `p.yaml:2:3: mappings.ERP: "ERP" is no name of a mapping`,
		"mappings:\n  erp: orders\n":                                                     `p.yaml:2:8: mappings.erp: this should be keys with values`,
		"mappings:\n  erp: {identity: no}\n":                                             `p.yaml:2:19: mappings.erp.identity: this should be a list`,
		levels:                                                                           `p.yaml:4:36: satisfaction.service.levels[0].tiers[1]: "golden" is no tier of a loyalty programme of this policy: did you mean gold?`,
	} {
		_, err := policyOf(t, text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q:\ngot  %v\nwant %s", text, err, want)
		}
	}
}

// TestDefaultPolicyFile reads what sojourn policy default prints: as it stands it
// is the default policy, and with its comments taken away and standard turned
// off it still means the same.
func TestDefaultPolicyFile(t *testing.T) {
	status, text, _ := sojourn(t.Context(), "policy", "default")
	if status != 0 {
		t.Fatal(status)
	}
	canonical := func(p policy.Policy) string {
		b, err := p.MarshalCanonical()
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	p, err := policyOf(t, text)
	if err != nil || canonical(p) != canonical(policy.Default()) {
		t.Fatalf("%v\n%s", err, canonical(p))
	}
	// With another currency the programme has that, too.
	p, err = policyOf(t, strings.Replace(text, "currency: USD", "currency: EUR", 1))
	if err != nil || p.Expanded().Loyalty.Programmes[0].Currency != "EUR" {
		t.Errorf("%v, %+v", err, p.Loyalty)
	}
	for _, comment := range []string{
		"# Points for a unit of the programme's currency; an order's are rounded down.\n        per_unit: 1\n",
		"# The age at which a signal counts half.\n  half_life_days: 90\n",
	} {
		if !strings.Contains(text, comment) {
			t.Errorf("without %q", comment)
		}
	}

	head, names, _ := strings.Cut(text, "# The standard names:\n")
	head = strings.Replace(head, "\nstandard: true", "\nstandard: false", 1)
	head = strings.Replace(head, "\nevents: []", "\n", 1)
	names = regexp.MustCompile(`(?m)^#`).ReplaceAllString(names, " ")
	p, err = policyOf(t, head+"events:\n"+names)
	if err != nil {
		t.Fatal(err)
	}
	if want := policy.Default().Expanded().Events; !reflect.DeepEqual(p.Events, want) {
		t.Errorf("got  %+v\nwant %+v", p.Events, want)
	}
}

// TestTheExampleOfTheDocs: what docs/policy.md shows is a policy.
func TestTheExampleOfTheDocs(t *testing.T) {
	doc, err := os.ReadFile("../../docs/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(doc), -1) {
		p, err := policyOf(t, block[1])
		if err != nil {
			t.Errorf("%v in\n%s", err, block[1])
		}
		if strings.HasPrefix(block[1], "satisfaction:") {
			if h := p.Satisfaction.Hours; len(h.Holidays) != 2 || h.Holidays[1] != "2026-04-03" || h.Week[0].From != "09:00" || len(p.Satisfaction.Service.Levels) != 3 {
				t.Errorf("%+v", p.Satisfaction)
			}
		}
	}
}

func TestPolicyValidate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "p.yaml")
	if err := os.WriteFile(path, []byte("currency: eur\nstandrd: true\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	// Nothing that has a mistake gets as far as a server.
	for _, command := range []string{"validate", "check", "diff", "preview", "apply"} {
		status, _, errOut := sojourn(t.Context(), "policy", command, path)
		if status != 1 || !strings.Contains(errOut, "p.yaml:2:1: ") {
			t.Errorf("%s: %d %s", command, status, errOut)
		}
	}
	status, out, _ := sojourn(t.Context(), "policy", "schema")
	if status != 0 || !json.Valid([]byte(out)) || !strings.Contains(out, "loyal_purchases") {
		t.Errorf("schema: %d %s", status, out)
	}
	if status, _, errOut := sojourn(t.Context(), "policy", "rollback", "first"); status != 2 || !strings.Contains(errOut, "no version") {
		t.Errorf("rollback: %d %s", status, errOut)
	}
}

// What the API is told of mistakes has every one of them, and its place.
func TestPolicyProblems(t *testing.T) {
	p, problems := parsePolicy("lifecycle: {at_risk_days: 30}\n", nil)
	if len(problems) != 0 || p.Lifecycle.AtRiskDays != 30 {
		t.Errorf("%+v, %+v", p, problems)
	}
	_, problems = parsePolicy("lifecycle: {at_risk_days: 0}\nevents:\n  - {name: A, meaning: buy}\n", nil)
	if len(problems) != 2 || problems[0].Line != 1 || problems[0].Column != 27 || problems[1].Line != 3 ||
		problems[1].Column != 24 || !strings.Contains(problems[1].Message, "no meaning") {
		t.Errorf("%+v", problems)
	}
	for text, line := range map[string]int{"currency: EUR\nx: 1\n": 2, "events:\n\t- name: A\n": 2, "currency: [\n": 1} {
		if _, problems := parsePolicy(text, nil); len(problems) != 1 || problems[0].Line != line {
			t.Errorf("%q: %+v", text, problems)
		}
	}
}

// What the past rules out has its place in the file, too.
func TestPolicyProblemsOfTheCheck(t *testing.T) {
	check := func(p policy.Policy) error {
		if p.Loyalty.Programmes[0].Earning.From == "2020-01-01" {
			return policy.Problems{{Path: []string{"loyalty", "programmes", "0", "earning", "from"}, Message: "would change what is past"}}
		}
		return nil
	}
	const text = "loyalty:\n  programmes:\n    - id: club\n      earning: {from: %s}\n"
	if _, problems := parsePolicy(fmt.Sprintf(text, "2020-01-02"), check); len(problems) != 0 {
		t.Errorf("%+v", problems)
	}
	_, problems := parsePolicy(fmt.Sprintf(text, "2020-01-01"), check)
	if len(problems) != 1 || problems[0] != (api.PolicyProblem{Line: 4, Column: 23, Message: "loyalty.programmes[0].earning.from: would change what is past"}) {
		t.Errorf("%+v", problems)
	}
}

func TestHoldsComment(t *testing.T) {
	at := time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
	v := api.PolicyInForce{PolicyVersion: api.PolicyVersion{Version: 2, AppliedAt: at}, HoldsFrom: []api.HoldsFrom{{Programme: "club"}}}
	if got := holdsComment(&v); got != "" {
		t.Errorf("no beginning: %q", got)
	}
	v.HoldsFrom = append(v.HoldsFrom, api.HoldsFrom{Programme: "de", From: &at, Tiers: &at})
	const want = "\n# Version 2 was applied at 2026-03-02T12:00:00Z. Rules about points hold from\n" +
		"#   loyalty.programmes[de]: 2026-03-02T12:00:00Z\n#   loyalty.programmes[de].tiers: 2026-03-02T12:00:00Z\n"
	if got := holdsComment(&v); got != want {
		t.Errorf("%q", got)
	}
}

func TestPrintReport(t *testing.T) {
	at := time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
	ada, bob := uuid.MustParse("11111111-1111-5111-8111-111111111111"), uuid.MustParse("22222222-2222-5222-8222-222222222222")
	standing := func(id uuid.UUID, stage, reason string) *api.PreviewStanding {
		return &api.PreviewStanding{ID: id, Stage: stage, Since: at, Reason: reason}
	}
	var b strings.Builder
	err := printReport(&b, &api.PreviewReport{
		Position: 9, Clock: at, PolicyVersion: 1, Changes: []api.PolicyChange{{Key: "lifecycle.loyal_purchases", From: "5", To: "2"}, {Key: "identity.limits.email", To: "3"}},
		Lifecycle: api.PreviewComparison{
			Matrix: []api.PreviewCell{
				{From: "lead", To: "lead", Customers: 12},
				{From: "repeat", To: "loyal", Customers: 3, Examples: []api.PreviewExample{{ID: ada, Subject: "user:1", Old: standing(ada, "repeat", "second purchase"), New: standing(ada, "loyal", "2 purchases")}}},
				{From: "repeat", To: "none", Customers: 2, Examples: []api.PreviewExample{
					{ID: ada, Subject: "user:1", Old: standing(ada, "repeat", "second purchase"), New: standing(bob, "loyal", "2 purchases")},
					{ID: ada, Subject: "anon:x", Old: standing(ada, "repeat", "second purchase")},
				}},
			},
			Weeks: []api.PreviewWeek{{Week: "2026-03-02", Gained: map[string]uint64{"loyal": 3}, Lost: map[string]uint64{"repeat": 1, "loyal": 1}}},
		},
		Since: &at, LeftOut: []int{2, 3, 4},
		Loyalty: []api.PreviewProgramme{
			{
				Programme: "club", Changed: 2,
				Old: &api.PreviewPoints{Members: 4, Available: 900, Pending: 10, Liability: "9.1", PointValue: "0.01", Currency: "EUR", Earned: 950, Reversed: 40},
				New: &api.PreviewPoints{Members: 5, Available: 1800, Pending: 20, Liability: "36.4", PointValue: "0.02", Currency: "EUR", Debt: 5, Earned: 1900, Redeemed: 1, Expired: 2, Reversed: 80},
				Tiers: api.PreviewTiers{
					Old: []api.PreviewTierCount{{Tier: "member"}, {Tier: "gold"}}, New: []api.PreviewTierCount{{Tier: "member"}, {Tier: "gold"}},
					Matrix: []api.PreviewTierCell{
						{From: "member", To: "member", Customers: 3},
						{From: "member", To: "gold", Customers: 1, Examples: []api.PreviewTierExample{{
							ID: ada, Subject: "user:1",
							Old: &api.PreviewTierStanding{ID: ada, Tier: "member", Since: at, Reason: "joined the programme", Available: 450},
							New: &api.PreviewTierStanding{ID: ada, Tier: "gold", Since: at, Reason: "reached 900 points", Available: 900, Pending: 20, Debt: 5},
						}}},
						{From: "none", To: "member", Customers: 1, Examples: []api.PreviewTierExample{{
							ID: bob, Subject: "user:2", New: &api.PreviewTierStanding{ID: bob, Tier: "member", Since: at, Reason: "joined the programme"},
						}}},
					},
					Weeks: []api.PreviewWeek{{Week: "2026-03-02", Gained: map[string]uint64{"gold": 1}, Lost: map[string]uint64{"bronze": 1}}},
				},
			},
			{Programme: "new", New: &api.PreviewPoints{Liability: "0", PointValue: "0.01", Currency: "EUR"}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	const want = `Compared with policy version 1 at position 9 of the log, as of 2026-03-02T12:00:00Z.
The candidate's rules about points are taken for applied at 2026-03-02T12:00:00Z.
Versions 2 to 4 were applied later: their rules about points are left out of what would be.

The candidate changes:
lifecycle.loyal_purchases: 5 -> 2
identity.limits.email: (none) -> 3

Customers by stage, down as it is, across as it would be:
          lead  repeat  loyal  none  total
    lead    12       ·      ·     ·     12
  repeat     ·       ·      3     2      5
   loyal     ·       ·      ·     ·      0
    none     ·       ·      ·     ·      0
   total    12       ·      3     2     17

Changes of stage gained and lost, by the week they happened in:
  2026-03-02  repeat +0 −1, loyal +3 −1

repeat -> loyal: 3, such as
  user:1 (11111111-1111-5111-8111-111111111111)
    as it is:       repeat since 2026-03-02, second purchase
    as it would be: loyal since 2026-03-02, 2 purchases

repeat -> none: 2, such as
  user:1 (11111111-1111-5111-8111-111111111111)
    as it is:       repeat since 2026-03-02, second purchase
    as it would be: part of 22222222-2222-5222-8222-222222222222, which is loyal since 2026-03-02, 2 purchases
  anon:x (11111111-1111-5111-8111-111111111111)
    as it is:       repeat since 2026-03-02, second purchase
    as it would be: nobody's

Programme club
  as it is:       4 members, 900 points available and 10 pending, worth 9.1 EUR at 0.01; 0 owed; ever earned 950, redeemed 0, expired 0, reversed 40
  as it would be: 5 members, 1800 points available and 20 pending, worth 36.4 EUR at 0.02; 5 owed; ever earned 1900, redeemed 1, expired 2, reversed 80
  2 customers would have other points

Customers of club by tier, down as it is, across as it would be:
          member  gold  none  total
  member       3     1     ·      4
    gold       ·     ·     ·      0
    none       1     ·     ·      1
   total       4     1     ·      5

Changes of tier gained and lost, by the week they happened in:
  2026-03-02  gold +1 −0, bronze +0 −1

member -> gold: 1, such as
  user:1 (11111111-1111-5111-8111-111111111111)
    as it is:       member since 2026-03-02, joined the programme; 450 points
    as it would be: gold since 2026-03-02, reached 900 points; 900 points and 20 pending, 5 owed

none -> member: 1, such as
  user:2 (22222222-2222-5222-8222-222222222222)
    as it is:       not in the programme
    as it would be: member since 2026-03-02, joined the programme; 0 points

Programme new
  as it is:       there is no such programme
  as it would be: 0 members, 0 points available and 0 pending, worth 0 EUR at 0.01; 0 owed; ever earned 0, redeemed 0, expired 0, reversed 0
  0 customers would have other points
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}
