package condition_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"sojourn/condition"
	"sojourn/domain"
)

// TestDocs holds the table of docs/segments.md against the language: each condition
// compiles, and its SQL is what the table says.
func TestDocs(t *testing.T) {
	text, err := os.ReadFile("../docs/segments.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile("(?m)^\\| `([^|]*)` \\| [^|]+ \\| `([^|]*)` \\|$").FindAllStringSubmatch(string(text), -1)
	if len(rows) < 20 {
		t.Fatalf("only %d rows are read", len(rows))
	}
	const at = begin
	instant := regexp.MustCompile(`toDateTime64\('([^']+)', 3, 'UTC'\)`)
	for _, row := range rows {
		c, err := condition.Compile(row[1], condition.Env{})
		if err != nil {
			t.Errorf("%s: %v", row[1], err)
			continue
		}
		sql, err := c.SQL(at)
		if err != nil {
			t.Fatal(err)
		}
		sql = instant.ReplaceAllStringFunc(sql, func(s string) string {
			for name, back := range map[string]domain.Millis{"T": 0, "T−1d": domain.Day, "T−7d": 7 * domain.Day, "T−30d": 30 * domain.Day, "T−90d": 90 * domain.Day, "T+14d": -14 * domain.Day} {
				if strings.Contains(s, (at - back).Time().Format("2006-01-02 15:04:05.000")) {
					return name
				}
			}
			return s
		})
		if !strings.Contains(sql, row[2]) {
			t.Errorf("%s is in SQL\n%s\nwithout\n%s", row[1], sql, row[2])
		}
	}
}
