package ingest

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"sojourn/domain"
)

func TestParseTime(t *testing.T) {
	for text, want := range map[string]string{
		"2026-03-01T12:34:56.789Z":            "2026-03-01T12:34:56.789Z",
		"2026-03-01T12:34:56Z":                "2026-03-01T12:34:56.000Z",
		"2026-03-01T12:34:56.7Z":              "2026-03-01T12:34:56.700Z",
		"2026-03-01T12:34:56.7899999999999Z":  "2026-03-01T12:34:56.789Z",
		"2026-03-01T12:34:56,789Z":            "2026-03-01T12:34:56.789Z",
		"2026-03-01t12:34:56.789z":            "2026-03-01T12:34:56.789Z",
		"2026-03-01 12:34:56.789":             "2026-03-01T12:34:56.789Z",
		"2026-03-01T12:34:56.789":             "2026-03-01T12:34:56.789Z",
		"2026-03-01 12:34:56 UTC":             "2026-03-01T12:34:56.000Z",
		"2026-03-01 13:34:56 +0100":           "2026-03-01T12:34:56.000Z",
		"2026-03-01T12:34:56.123456+00:00":    "2026-03-01T12:34:56.123Z",
		"2026-03-01T12:34:56.1234567-05:30":   "2026-03-01T18:04:56.123Z",
		"2026-03-01T12:34:56+0530":            "2026-03-01T07:04:56.000Z",
		"2026-03-01T12:34:56+05":              "2026-03-01T07:34:56.000Z",
		"2026-03-01T12:34Z":                   "2026-03-01T12:34:00.000Z",
		"2026-03-01":                          "2026-03-01T00:00:00.000Z",
		"20260301":                            "2026-03-01T00:00:00.000Z",
		"20260301T123456Z":                    "2026-03-01T12:34:56.000Z",
		"20260301T123456.789Z":                "2026-03-01T12:34:56.789Z",
		"20260301T1234Z":                      "2026-03-01T12:34:00.000Z",
		"2024-02-29T00:00:00Z":                "2024-02-29T00:00:00.000Z",
		"2000-02-29T00:00:00Z":                "2000-02-29T00:00:00.000Z",
		"2026-12-31T24:00:00Z":                "2027-01-01T00:00:00.000Z",
		"1969-12-31T23:59:59.9999Z":           "1969-12-31T23:59:59.999Z",
		"0001-01-01T00:00:00Z":                "0001-01-01T00:00:00.000Z",
		"2026-03-01T12:34:56.789000000+00:00": "2026-03-01T12:34:56.789Z",
	} {
		got, ok := parseTime(text)
		if !ok || got.String() != want {
			t.Errorf("%s is %s (%v), want %s", text, got, ok, want)
		}
	}
	for _, text := range []string{
		"", "yesterday", "1700000000", "1700000000000", "2026", "2026-03", "2026-3-1", "01/03/2026", "2026-13-01", "2026-00-01",
		"2026-02-29", "2023-02-29T00:00:00Z", "2100-02-29", "2026-04-31", "2026-03-01T", "2026-03-01T1", "2026-03-01T12", "2026-03-01T25:00:00Z",
		"2026-03-01T12:60:00Z", "2026-03-01T12:00:60Z", "2026-03-01T24:00:01Z", "2026-03-01T12:34:56.Z", "2026-03-01T12:34:56X",
		"2026-03-01T12:34:56+1", "2026-03-01T12:34:56+24:00", "2026-03-01T12:34:56+01:60", "2026-03-01T12:34:56 ", "2026-03-01T12:34:56ZZ",
		"-2026-03-01T12:34:56Z", "+002026-03-01T00:00:00Z", "2026-03-01T12:34:5xZ", "2026-W10-7", "2026-03-01T12:34:56.78\u0669Z",
		"Sun Mar 01 2026 12:34:56 GMT+0000", "2026-03-01T12:34:", "2026-03-01T123", "20260301T1", "2026-03-01T12:34:56.000000000000000000000000000000000000000000000Z+",
	} {
		if got, ok := parseTime(text); ok {
			t.Errorf("%q was read as %s", text, got)
		}
	}
}

// TestParseTimeAgrees holds the reading to the standard library's.
func TestParseTimeAgrees(t *testing.T) {
	layouts := []string{time.RFC3339, time.RFC3339Nano, "2006-01-02T15:04:05.000Z07:00", "2006-01-02 15:04:05.999999-0700", "20060102T150405Z0700"}
	rapid.Check(t, func(t *rapid.T) {
		ms := rapid.Int64Range(int64(domain.MinTime), int64(domain.MaxTime)).Draw(t, "ms")
		zone := time.FixedZone("", rapid.IntRange(-14*60, 14*60).Draw(t, "zone")*60)
		at := time.UnixMilli(ms).Add(time.Duration(rapid.IntRange(0, 999_999).Draw(t, "ns"))).In(zone)
		text := at.Format(rapid.SampledFrom(layouts).Draw(t, "layout"))
		want, err := time.Parse(time.RFC3339Nano, text)
		got, ok := parseTime(text)
		if !ok || err == nil && got != domain.MillisOf(want) {
			t.Fatalf("%s is %s (%v), want %s", text, got, ok, domain.MillisOf(want))
		}
	})
}

func FuzzParseTime(f *testing.F) {
	f.Add("2026-03-01T12:34:56.789Z")
	f.Add("20260301T123456+0100")
	f.Fuzz(func(t *testing.T, text string) {
		got, ok := parseTime(text)
		want, err := time.Parse(time.RFC3339Nano, text)
		if err == nil && text[len("2006-01-02T3")] == ':' {
			return // time.Parse takes an hour of one digit, which is not RFC 3339
		}
		if err == nil && (!ok || got != domain.MillisOf(want)) && len(text) <= 64 {
			t.Fatalf("%q is %s (%v), want %s", text, got, ok, domain.MillisOf(want))
		}
	})
}
