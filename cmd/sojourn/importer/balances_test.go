package importer_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sojourn/cmd/sojourn/importer"
)

// balances reads a text with a mapping, the standard one where it is empty. A
// balance is written as "subject points@expiry … tier until".
func balances(t *testing.T, format importer.Format, yaml, text string) (list []importer.Balance, words, bad []string) {
	t.Helper()
	m := importer.StandardBalances()
	if yaml != "" {
		path := filepath.Join(t.TempDir(), "b.yaml")
		if err := os.WriteFile(path, []byte(yaml), 0o600); err != nil {
			t.Fatal(err)
		}
		var err error
		if m, err = importer.LoadBalanceMapping(path); err != nil {
			t.Fatal(err)
		}
	}
	list, errs, err := importer.Balances(strings.NewReader(text), format, m, "club")
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range list {
		w := b.Subject
		for _, p := range b.Parts {
			w += fmt.Sprintf(" %d@%s", p.Points, when(p.Expires))
		}
		if b.Tier != "" {
			w += " " + b.Tier + " " + when(b.TierUntil)
		}
		words = append(words, w)
	}
	for _, e := range errs {
		bad = append(bad, e.Error())
	}
	return list, words, bad
}

func when(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.Format("2006-01-02T15:04:05.000Z07:00")
}

func same(t *testing.T, what string, got, want []string) {
	t.Helper()
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("%s:\n%s\nwant:\n%s", what, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestBalancesOfCSV(t *testing.T) {
	list, words, bad := balances(t, importer.CSV, "", "\xef\xbb\xbfuser_id,email,points,expires,tier,tier_until,name\n"+
		"42,,80,2027-06-01T12:00:00+02:00,gold,2026-12-31,Ada\n"+
		",Ada@Example.com,15.00,,,,\n"+
		"42,,120,2027-03-01,,,Ada\n"+
		"42,,20,2027-03-01,gold,2026-12-31,Ada\n"+
		"43,,,,silver,,\n"+
		"44,,0,,,,\n")
	same(t, "balances", words, []string{
		"user:42 140@2027-03-01T23:59:59.999Z 80@2027-06-01T10:00:00.000Z gold 2026-12-31T23:59:59.999Z",
		"email:ada@example.com 15@never",
		"user:43 silver never",
	})
	same(t, "problems", bad, nil)
	if list[0].Line != 2 || list[1].Line != 3 || list[2].Line != 6 {
		t.Errorf("lines %d, %d, %d", list[0].Line, list[1].Line, list[2].Line)
	}
}

func TestBalancesOfJSONLines(t *testing.T) {
	_, words, bad := balances(t, importer.JSONL, `
phone: contact.phone
subject: ref
points: balance
expires: {column: valid, format: YYYYMMDD, zone: America/New_York}
tier: level
tier_until: {column: level_end, format: unix}
`, `{"contact":{"phone":"+49 30 1234567"},"balance":120,"valid":"20270301"}
{"ref":"loyalty_card:77","balance":"5","level":"gold","level_end":1800000000}
{"contact":{"phone":"+49301234567"},"balance":7,"valid":null}
`)
	same(t, "balances", words, []string{
		"phone:+49301234567 120@2027-03-02T04:59:59.999Z 7@never",
		"loyalty_card:77 5@never gold 2027-01-15T08:00:00.000Z",
	})
	same(t, "problems", bad, nil)
}

// TestABadRowLeavesItsSubjectOut: else the corrected file would be another balance
// and count beside the first.
func TestABadRowLeavesItsSubjectOut(t *testing.T) {
	_, words, bad := balances(t, importer.CSV, "", "user_id,points,expires,tier,tier_until\n"+
		"1,10,,,\n"+
		"2,12.5,,,\n"+
		"1,10,1 March,,\n"+
		"3,-4,,,\n"+
		"4,5,,gold,\n"+
		",5,,,\n"+
		"4,5,,silver,\n"+
		"5,5,,,2027-01-01\n"+
		"6,,,,\n"+
		"null,1,,,\n"+
		"7,7,\"2027-01-01,,\"x\n"+
		"8,8,2027-01-01,gold,2028-01-01\n")
	same(t, "balances", words, []string{"user:8 8@2027-01-01T23:59:59.999Z gold 2028-01-01T23:59:59.999Z"})
	same(t, "problems", bad, []string{
		`line 3, column points: "12.5" is no whole number; left out with all rows of user:2`,
		`line 4, column expires: "1 March" is not written as the mapping says; left out with all rows of user:1`,
		`line 5, column points: "-4" is below zero; a debt cannot be an opening balance; left out with all rows of user:3`,
		`line 7, column user_id: it is empty: whose points are these?; left out`,
		`line 8, column tier: user:4 has another tier or another end of it in line 6; left out with all rows of user:4`,
		`line 9, column tier_until: the end of a tier, but no tier; left out with all rows of user:5`,
		`line 10: neither points nor a tier; left out with all rows of user:6`,
		`line 11, column user_id: "null" names nobody: empty, null, undefined, anonymous, -1 and what is only zeros and dashes are no identity; left out`,
		`line 12: extraneous or missing " in quoted-field; left out`,
	})
}

func TestTooManyExpiries(t *testing.T) {
	var text strings.Builder
	text.WriteString("user_id,points,expires\n9,1,\n")
	at := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	for range 1001 {
		fmt.Fprintf(&text, "8,1,%s\n", at.Format(time.RFC3339))
		at = at.Add(time.Second)
	}
	_, words, bad := balances(t, importer.CSV, "", text.String())
	if len(words) != 1 || len(bad) != 1 || !strings.HasPrefix(bad[0], "line 1003, column points: the points of user:8 expire at more than 1000 instants") {
		t.Errorf("%d balances, %q", len(words), bad)
	}
}

func TestRowsNameABalanceByWhatItSays(t *testing.T) {
	name := func(text string) string {
		list, _, bad := balances(t, importer.CSV, "", "user_id,points,expires,tier\n"+text)
		if len(list) != 1 || bad != nil {
			t.Fatalf("%v %v", list, bad)
		}
		return list[0].Row
	}
	one := name("42,10,2027-01-01,gold\n42,5,,\n")
	for _, equal := range []string{"42,5,,\n42,10,2027-01-01,gold\n", "42,4,,gold\n42,10,2027-01-01T23:59:59.999Z,\n42,1,,\n"} {
		if name(equal) != one {
			t.Errorf("%q has another name", equal)
		}
	}
	seen := map[string]string{one: "itself"}
	for _, other := range []string{"43,10,2027-01-01,gold\n43,5,,\n", "42,11,2027-01-01,gold\n42,5,,\n", "42,10,2027-01-02,gold\n42,5,,\n", "42,10,2027-01-01,\n42,5,,\n"} {
		n := name(other)
		if seen[n] != "" {
			t.Errorf("%q has the name of %s", other, seen[n])
		}
		seen[n] = other
	}
	list, _, err := importer.Balances(strings.NewReader("user_id,points,expires,tier\n42,10,2027-01-01,gold\n42,5,,\n"), importer.CSV, importer.StandardBalances(), "other")
	if err != nil || list[0].Row == one {
		t.Error("another programme gives the same name")
	}
}

func TestMistakesInBalanceMappings(t *testing.T) {
	for yaml, want := range map[string]string{
		"usr: a\n":    `b.yaml:1:1: unknown key "usr"; did you mean "user"?`,
		"points: p\n": "name the column that says whose the points are",
		"user: u\n":   "name the column of the points (points) or of the tier (tier)",
		"user: u\npoints: p\nexpires: {column: e, format: soon}\n": `b.yaml:3:30: "soon" is no format`,
		"user: u\npoints: p\nexpires: {column: e, zone: Berlin}\n": `"Berlin" is no time zone`,
		"user: u\npoints: p\ntier_until: {format: unix}\n":         "name the column of the time",
		"user: u\npoints: p\nseparator: both\n":                    `"both" is no separator`,
	} {
		path := filepath.Join(t.TempDir(), "b.yaml")
		if err := os.WriteFile(path, []byte(yaml), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := importer.LoadBalanceMapping(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q:\ngot  %v\nwant %s", yaml, err, want)
		}
	}
	read := func(m *importer.BalanceMapping, text string) error {
		_, _, err := importer.Balances(strings.NewReader(text), importer.CSV, m, "p")
		return err
	}
	if err := read(importer.StandardBalances(), "id,points\n1,2\n"); err == nil || !strings.Contains(err.Error(), "the file has the columns id, points; needed are one of user_id") {
		t.Error(err)
	}
	if err := read(&importer.BalanceMapping{Header: true, User: "customer", Points: "points"}, "id,points\n1,2\n"); err == nil || !strings.Contains(err.Error(), `the mapping names column "customer", the file has id, points`) {
		t.Error(err)
	}
}
