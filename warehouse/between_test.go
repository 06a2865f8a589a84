package warehouse

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestBetween: rows in several slices are read as if the slices were one.
func TestBetween(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rows := rapid.SliceOfN(rapid.SliceOfN(rapid.Int(), 0, 5), 0, 5).Draw(t, "rows")
		all := slices.Concat(rows...)
		if total(rows) != len(all) {
			t.Fatalf("%d rows in all, want %d", total(rows), len(all))
		}
		from := rapid.IntRange(0, len(all)).Draw(t, "from")
		to := rapid.IntRange(from, len(all)).Draw(t, "to")
		var got []int
		for i, r := range between(rows, from, to) {
			if i != len(got) {
				t.Fatalf("row %d comes as %d", len(got), i)
			}
			got = append(got, *r)
		}
		if !slices.Equal(got, all[from:to]) {
			t.Fatalf("rows %d to %d are %v, want %v", from, to, got, all[from:to])
		}
	})
}
