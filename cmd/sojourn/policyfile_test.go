package main

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

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

func TestPolicyCheck(t *testing.T) {
	path := filepath.Join(t.TempDir(), "p.yaml")
	if err := os.WriteFile(path, []byte("currency: eur\nstandrd: true\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	status, _, errOut := sojourn(t.Context(), "policy", "check", path)
	if status != 1 || !strings.Contains(errOut, "p.yaml:2:1: ") {
		t.Errorf("%d %s", status, errOut)
	}
}
