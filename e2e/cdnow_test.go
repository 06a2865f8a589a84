package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// cdnowFile is the sample of real purchases, which is read where it lies.
func cdnowFile(t *testing.T) string {
	t.Helper()
	path := os.Getenv("SOJOURN_CDNOW")
	if path == "" {
		path = filepath.Join(repository, "..", "shared", "data", "cdnow", "CDNOW_sample.txt")
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("the CDNOW sample is not there: %v; name the file by SOJOURN_CDNOW", err)
	}
	return path
}

// cdnowPurchases reads the file by itself: the days on which each customer
// bought, in the order of the file.
func cdnowPurchases(t *testing.T, path string) (purchases map[string][]time.Time, rows int) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	purchases = map[string][]time.Time{}
	for line := range strings.Lines(string(text)) {
		columns := strings.Fields(line)
		if len(columns) == 0 {
			continue
		}
		day, err := time.Parse("20060102", columns[2])
		if err != nil {
			t.Fatalf("line %d: %v", rows+1, err)
		}
		purchases[columns[0]] = append(purchases[columns[0]], day)
		rows++
	}
	return purchases, rows
}

// naiveStage reads the table from the top, for a customer of whom
// nothing but purchases is known and none was refunded. It is empty before the
// first purchase.
func naiveStage(purchases []time.Time, at time.Time) string {
	const day = 24 * time.Hour
	n, lastYear := 0, 0
	var last, before time.Time // the last purchase and the one before it
	for _, p := range purchases {
		if p.After(at) {
			continue
		}
		n++
		if p.After(at.Add(-365 * day)) {
			lastYear++
		}
		switch {
		case !p.Before(last):
			last, before = p, last
		case p.After(before):
			before = p
		}
	}
	switch {
	case n == 0:
		return ""
	case at.Sub(last) >= 365*day:
		return "lost"
	case at.Sub(last) >= 120*day:
		return "churned"
	case at.Sub(last) >= 60*day:
		return "at_risk"
	case n > 1 && last.Sub(before) > 120*day:
		return "won_back"
	case lastYear >= 5:
		return "loyal"
	case n >= 2:
		return "repeat"
	default:
		return "first_purchase"
	}
}

// TestCDNOW imports real purchases, twice, and compares the stages with a
// computation that shares nothing with Sojourn's.
func TestCDNOW(t *testing.T) {
	t.Parallel()
	file := cdnowFile(t)
	purchases, rows := cdnowPurchases(t, file)
	s := newServer(t)
	args := []string{
		"import", "--data", s.dir, "--format", "csv",
		"--mapping", filepath.Join(repository, "docs", "examples", "cdnow.yaml"), file,
	}
	for _, want := range []string{
		fmt.Sprintf("%d accepted, 0 known already, 0 rejected; 0 could not be read", rows),
		fmt.Sprintf("0 accepted, %d known already, 0 rejected; 0 could not be read", rows),
	} {
		if out := must(t, args...); !strings.Contains(out, want) {
			t.Fatalf("the import says %q, want %q in it", out, want)
		}
		for query, want := range map[string]int{
			"SELECT count() FROM touchpoints":                        rows,
			"SELECT uniqExact(event_id) FROM touchpoints":            rows,
			"SELECT count() FROM customers":                          len(purchases),
			"SELECT toUInt64(sum(purchases)) FROM customers":         rows,
			"SELECT countIf(amount = 0) FROM touchpoints":            countZero(t, file),
			"SELECT countIf(meaning != 'purchase') FROM touchpoints": 0,
		} {
			if got := s.count(query); got != want {
				t.Errorf("%s: %d, want %d", query, got, want)
			}
		}
	}

	for _, asOf := range []string{
		"1996-12-31", "1997-01-01", "1997-01-01T00:00:00Z", "1997-01-31", "1997-03-01T23:59:59.999Z",
		"1997-03-02T00:00:00Z", // 60 days after the first day: those who bought then and not since are at risk
		"1997-05-01T00:00:00Z", // 120 days
		"1997-06-30", "1997-12-31", "1998-01-01T00:00:00Z", "1998-02-14T12:00:00+02:00", "1998-06-30", "1999-03-01", "",
	} {
		at := time.Now()
		if asOf != "" {
			var err error
			if at, err = time.Parse(time.RFC3339, asOf); err != nil {
				if at, err = time.Parse(time.DateOnly, asOf); err != nil {
					t.Fatal(err)
				}
				at = at.Add(24*time.Hour - time.Millisecond)
			}
		}
		want := map[string]int{}
		for _, ps := range purchases {
			if stage := naiveStage(ps, at); stage != "" {
				want[stage]++
			}
		}
		query := ""
		if asOf != "" {
			query = "as_of=" + strings.ReplaceAll(asOf, "+", "%2B")
		}
		if got := s.stages(query); !maps.Equal(got, want) {
			t.Errorf("stages as of %q: %v, want %v", asOf, got, want)
		}
	}

	// Every change of stage of every customer, against the table at and just
	// before its instant. There can be several at one instant: two purchases.
	transitions := s.rows(`SELECT user_ids[1] AS user, toUnixTimestamp64Milli(at) AS ms,
		argMin(from_stage, seq) AS left, argMax(to_stage, seq) AS reached
		FROM stage_transitions INNER JOIN customers USING (customer_id) GROUP BY user, ms`)
	if len(transitions) < len(purchases) {
		t.Fatalf("%d transitions of %d customers", len(transitions), len(purchases))
	}
	for _, tr := range transitions {
		ms, err := tr["ms"].(json.Number).Int64()
		if err != nil {
			t.Fatal(err)
		}
		at := time.UnixMilli(ms).UTC()
		ps := purchases[tr["user"].(string)]
		left, reached := naiveStage(ps, at.Add(-time.Millisecond)), naiveStage(ps, at)
		if left != tr["left"] || reached != tr["reached"] {
			t.Errorf("%v at %v: from %s to %s, the table says from %s to %s", tr["user"], at, tr["left"], tr["reached"], left, reached)
		}
	}
	s.caughtUp()
	s.verify()
	s.stop()
}

// countZero counts the rows of amount zero.
func countZero(t *testing.T, path string) int {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(text)) {
		if columns := strings.Fields(line); len(columns) > 0 && columns[len(columns)-1] == "0.00" {
			n++
		}
	}
	if n == 0 {
		t.Fatal("the sample has no purchase of amount zero")
	}
	return n
}
