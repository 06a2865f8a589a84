package lifecycle_test

import (
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"sojourn/domain"
	"sojourn/domain/lifecycle"
	"sojourn/domain/policy"
)

// After each touchpoint, in whatever order they come, a course has the transitions
// of all that have come.
func TestACourseHasTheTransitions(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		for range 10 {
			ts, rules := drawHistory(t)
			if rapid.Bool().Draw(t, "in order") {
				slices.SortFunc(ts, func(a, b lifecycle.Touch) int { return a.Compare(b.Ref) })
			}
			n := rapid.IntRange(0, len(ts)).Draw(t, "at once")
			first := addAll(ts[:n])
			c := lifecycle.NewCourse(first, rules, "USD")
			skip := rapid.IntRange(1, 3).Draw(t, "between questions")
			for i := n; i <= len(ts); i++ {
				if i > n {
					c.Add(ts[i-1])
				}
				if i%skip != 0 && i < len(ts) {
					continue
				}
				got, want := c.Transitions(), lifecycle.Transitions(addAll(ts[:i]), rules, "USD")
				if !slices.Equal(got, want) {
					t.Fatalf("after %d of %+v\ngot  %v\nwant %v", i, ts, got, want)
				}
			}
			if !slices.Equal(lifecycle.Transitions(first, rules, "USD"), lifecycle.Transitions(addAll(ts[:n]), rules, "USD")) {
				t.Fatal("the course changed what it began with")
			}
		}
	})
}

// What was so up to an instant does not depend on what came after it.
func TestWhatWasSoStaysSo(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		for range 10 {
			ts, rules := drawHistory(t)
			at := rapid.SampledFrom(ts).Draw(t, "touchpoint").At +
				rapid.SampledFrom([]domain.Millis{0, 0, -1, 1, 59 * domain.Day, 60 * domain.Day, 365 * domain.Day}).Draw(t, "later")
			all := addAll(ts)
			then := addAll(slices.DeleteFunc(slices.Clone(ts), func(t lifecycle.Touch) bool { return t.At > at }))
			if got, want := upTo(lifecycle.Transitions(all, rules, "USD"), at), upTo(lifecycle.Transitions(then, rules, "USD"), at); !slices.Equal(got, want) {
				t.Fatalf("as of %v of %+v\ngot  %v\nwant %v", at, ts, got, want)
			}
			if got, want := lifecycle.TotalsAt(all, at, "USD"), lifecycle.TotalsAt(then, at, "USD"); !reflect.DeepEqual(got, want) {
				t.Fatalf("as of %v of %+v\ngot  %v\nwant %v", at, ts, got, want)
			}
		}
	})
}

func upTo(all []lifecycle.Transition, at domain.Millis) []lifecycle.Transition {
	return slices.DeleteFunc(slices.Clone(all), func(t lifecycle.Transition) bool { return t.At > at })
}

// BenchmarkCourse is one more purchase, and the transitions after it, of a customer
// with so many.
func BenchmarkCourse(b *testing.B) {
	for _, n := range []int{10, 100, 1000, 20_000} {
		f := benchmarkFacts(n)
		next := func(i int) lifecycle.Touch {
			return lifecycle.Touch{Ref: lifecycle.Ref{At: day0 + domain.Millis(30*(n+1))*domain.Day + domain.Millis(i), ID: uuid.UUID{14: byte(i >> 8), 15: byte(i)}}, Meaning: policy.Purchase}
		}
		b.Run(fmt.Sprint("course/", n), func(b *testing.B) {
			c := lifecycle.NewCourse(f, rules, "USD")
			c.Transitions()
			for i := 0; b.Loop(); i++ {
				c.Add(next(i))
				c.Transitions()
			}
		})
		b.Run(fmt.Sprint("anew/", n), func(b *testing.B) {
			for b.Loop() {
				lifecycle.Transitions(f, rules, "USD")
			}
		})
	}
}
