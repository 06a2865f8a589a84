package main

import (
	"encoding/json"
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
	for text, want := range map[string]string{
		"currncy: EUR\n":                         `p.yaml:1:1: unknown key "currncy"; did you mean "currency"?`,
		"currency: euro\n":                       `p.yaml:1:11: currency: "euro" is no currency`,
		"lifecycle:\n  at_risk_days: many\n":     `p.yaml:2:17: this should be a whole number`,
		"lifecycle:\n  at_risk_days: 200\n":      `p.yaml:1:1: lifecycle.churned_days: 120 must be more than at_risk_days`,
		"events:\n  - {name: A, meaning: buy}\n": `p.yaml:2:24: events[0].meaning: "buy" is no meaning`,
		"events:\n  - name: A\n":                 `p.yaml:2:5: events[0].meaning: is missing`,
		"events:\n  - nme: A\n":                  `p.yaml:2:5: unknown key "nme" under events[0]; did you mean "name"?`,
		"events:\n\t- name: A\n":                 `p.yaml:2:1: `,
		"channels:\n  - {channel: pigeon}\n":     `p.yaml:2:15: channels[0].channel: "pigeon" is no channel`,
		"events: none\n":                         `p.yaml:1:9: this should be a list`,
		"identity: {joins: [user]}\n":            `p.yaml:1:12: unknown key "joins" under identity; did you mean "join"?`,
		"identity:\n  join: [user, user]\n":      `p.yaml:2:16: identity.join[1]: "user" is listed already`,
		"identity:\n  limits: {email: -1}\n":     `p.yaml:2:19: identity.limits.email: -1 is below zero`,
		"identity:\n  limits: {email: many}\n":   `p.yaml:2:19: this should be a whole number`,
		"identity:\n  limits: {user: 1.5}\n":     `p.yaml:2:18: this should be a whole number`,
		"lifecycle: {at_risk_days: 60.5}\n":      `p.yaml:1:27: this should be a whole number`,
		"identity:\n  nobody: [guest, \"\"]\n":   `p.yaml:2:19: identity.nobody[1]: is empty`,
		"standard: true\nstandard: false\n":      `p.yaml:2:1: `,
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

	head, names, _ := strings.Cut(text, "# The standard names:\n")
	head = strings.Replace(head, "standard: true", "standard: false", 1)
	head = strings.Replace(head, "events: []", "", 1)
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
	})
	if err != nil {
		t.Fatal(err)
	}
	const want = `Compared with policy version 1 at position 9 of the log, as of 2026-03-02T12:00:00Z.

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
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}
