package lifecycle_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"sojourn/domain"
	"sojourn/domain/commerce"
	"sojourn/domain/lifecycle"
	"sojourn/domain/policy"
)

// A spec says: given these touchpoints, then these transitions up to a day, and
// these totals. Touchpoints are #1, #2, … in the order in which they are given,
// and that is the order of their ids.
type spec struct {
	name  string
	given []lifecycle.Touch
	// until is the clock; without it, that of the last touchpoint.
	until domain.Millis
	// then has a line for each transition: "when stage cause: reason", where when
	// is days (and milliseconds) after day 0, cause "#3", or "at_risk of #3" for a
	// deadline. Without a reason, any will do.
	then []string
	// totals are "purchases/refunds USD 12.5 EUR 3" at the clock; empty for any.
	totals string
	rules  *policy.Lifecycle
}

var day0 = domain.MillisOf(time.Date(2024, 1, 1, 12, 0, 0, 0, time.UTC))

const ms domain.Millis = 1

// day is an instant n days and some milliseconds after day 0.
func day(n int, extra ...domain.Millis) domain.Millis {
	at := day0 + domain.Millis(n)*domain.Day
	for _, e := range extra {
		at += e
	}
	return at
}

func touch(at domain.Millis, meaning policy.Meaning) lifecycle.Touch {
	return lifecycle.Touch{Ref: lifecycle.Ref{At: at}, Meaning: meaning}
}

func visit(at domain.Millis) lifecycle.Touch { return touch(at, policy.Engagement) }

// login is any touchpoint under a user id.
func login(at domain.Millis) lifecycle.Touch {
	t := visit(at)
	t.UnderUser = true
	return t
}

func named(at domain.Millis, m policy.Meaning, name string) lifecycle.Touch {
	t := touch(at, m)
	t.Name = name
	return t
}

func tryOut(at domain.Millis) lifecycle.Touch { return named(at, policy.Qualified, "Trial Started") }

// money reads "12.50", "12.50 EUR", "" (no amount) or "?" (one that cannot be read).
func money(t lifecycle.Touch, order, amount string) lifecycle.Touch {
	t.Order.ID = order
	text, currency, _ := strings.Cut(amount, " ")
	t.Order.Currency = currency
	switch text {
	case "":
	case "?":
		t.Order.State = commerce.AmountUnreadable
	default:
		d, ok := domain.ParseDecimal(text)
		if !ok {
			panic("bad amount in a spec: " + amount)
		}
		t.Order.Amount, t.Order.State = d, commerce.AmountRead
	}
	return t
}

func buy(at domain.Millis, order, amount string) lifecycle.Touch {
	return money(touch(at, policy.Purchase), order, amount)
}

func update(at domain.Millis, order, amount string) lifecycle.Touch {
	return money(touch(at, policy.OrderUpdate), order, amount)
}

func refund(at domain.Millis, order, amount string) lifecycle.Touch {
	return money(touch(at, policy.Refund), order, amount)
}

func cancel(at domain.Millis, order string) lifecycle.Touch {
	return money(touch(at, policy.Cancellation), order, "")
}

func buys(days ...int) []lifecycle.Touch {
	var ts []lifecycle.Touch
	for _, d := range days {
		ts = append(ts, buy(day(d), fmt.Sprintf("o%d", d), "10"))
	}
	return ts
}

func all(groups ...any) []lifecycle.Touch {
	var ts []lifecycle.Touch
	for _, g := range groups {
		switch g := g.(type) {
		case lifecycle.Touch:
			ts = append(ts, g)
		case []lifecycle.Touch:
			ts = append(ts, g...)
		}
	}
	return ts
}

var rules = policy.Default().Lifecycle

func (s spec) check(t *testing.T) {
	t.Helper()
	r := rules
	if s.rules != nil {
		r = *s.rules
	}
	touches := slices.Clone(s.given)
	last := day0
	for i := range touches {
		if touches[i].ID == uuid.Nil {
			touches[i].ID = uuid.UUID{14: byte((i + 1) >> 8), 15: byte(i + 1)}
		}
		last = max(last, touches[i].At)
	}
	clock := s.until
	if clock == 0 {
		clock = last
	}
	for _, way := range replays {
		facts := way.fold(touches)
		transitions := lifecycle.Transitions(facts, r, "USD")
		var got []string
		from := lifecycle.None
		for _, tr := range transitions {
			if tr.From != from {
				t.Errorf("%s: from %q after %q", way.name, tr.From, from)
			}
			from = tr.To
			if tr.At <= clock {
				got = append(got, line(tr))
			}
		}
		if !slices.EqualFunc(got, s.then, func(got, want string) bool {
			return got == want || !strings.Contains(want, ": ") && strings.HasPrefix(got, want+": ")
		}) {
			t.Errorf("%s: transitions\n\t%s\nwant\n\t%s", way.name, strings.Join(got, "\n\t"), strings.Join(s.then, "\n\t"))
		}
		if got := totalsText(lifecycle.TotalsAt(facts, clock, "USD")); s.totals != "" && got != s.totals {
			t.Errorf("%s: totals %q, want %q", way.name, got, s.totals)
		}
		if t.Failed() {
			return
		}
	}
	if diff := compareWithOracle(touches, r, "USD"); diff != "" {
		t.Errorf("against the oracle: %s", diff)
	}
}

func line(tr lifecycle.Transition) string {
	since := tr.At - day0
	when := fmt.Sprintf("%dd", since/domain.Day)
	if rest := since % domain.Day; rest != 0 {
		when += fmt.Sprintf("+%dms", rest)
	}
	cause := fmt.Sprintf("#%d", int(tr.Cause.Touchpoint[14])<<8|int(tr.Cause.Touchpoint[15]))
	if tr.Cause.Rule != "" {
		cause = tr.Cause.Rule + " of " + cause
	}
	return fmt.Sprintf("%s %s %s: %s", when, tr.To, cause, tr.Reason)
}

func totalsText(t lifecycle.Totals) string {
	text := fmt.Sprintf("%d/%d", t.Purchases, t.Refunds)
	for _, c := range slices.Sorted(maps.Keys(t.Revenue)) {
		text += " " + c + " " + t.Revenue[c].String()
	}
	return text
}

// replays are the ways in which the same set of touchpoints may arrive.
var replays = []struct {
	name string
	fold func([]lifecycle.Touch) *lifecycle.Facts
}{
	{"in order", addAll},
	{"backwards", func(ts []lifecycle.Touch) *lifecycle.Facts {
		ts = slices.Clone(ts)
		slices.Reverse(ts)
		return addAll(ts)
	}},
	{"shuffled", func(ts []lifecycle.Touch) *lifecycle.Facts { return addAll(shuffled(ts, 1)) }},
	{"shuffled again", func(ts []lifecycle.Touch) *lifecycle.Facts { return addAll(shuffled(ts, 2)) }},
	{"duplicated, then deduplicated", func(ts []lifecycle.Touch) *lifecycle.Facts {
		var once []lifecycle.Touch
		known := map[uuid.UUID]bool{}
		for _, t := range shuffled(append(slices.Clone(ts), ts...), 3) {
			if !known[t.ID] {
				known[t.ID] = true
				once = append(once, t)
			}
		}
		return addAll(once)
	}},
	{"in batches of one, merged", func(ts []lifecycle.Touch) *lifecycle.Facts {
		var f lifecycle.Facts
		for _, t := range shuffled(ts, 4) {
			f.Merge(addAll([]lifecycle.Touch{t}))
		}
		return &f
	}},
	{"as two subjects, merged and stored in between", func(ts []lifecycle.Touch) *lifecycle.Facts {
		ts = shuffled(ts, 5)
		a, b := stored(addAll(ts[:len(ts)/2])), stored(addAll(ts[len(ts)/2:]))
		b.Merge(a)
		return stored(b)
	}},
	{"looked at after each touchpoint", func(ts []lifecycle.Touch) *lifecycle.Facts {
		var f lifecycle.Facts
		before := lifecycle.Transitions(&f, rules, "USD")
		totals := lifecycle.TotalsAt(&f, domain.MaxTime, "USD")
		for _, t := range shuffled(ts, 6) {
			changed := f.Add(t)
			after := lifecycle.Transitions(&f, rules, "USD")
			totalsAfter := lifecycle.TotalsAt(&f, domain.MaxTime, "USD")
			if !changed && (!slices.Equal(before, after) || totalsText(totals) != totalsText(totalsAfter)) {
				panic("Add said that nothing changed")
			}
			before, totals = after, totalsAfter
		}
		return &f
	}},
}

func addAll(ts []lifecycle.Touch) *lifecycle.Facts {
	var f lifecycle.Facts
	for _, t := range ts {
		f.Add(t)
	}
	return &f
}

func shuffled(ts []lifecycle.Touch, seed uint64) []lifecycle.Touch {
	ts = slices.Clone(ts)
	rand.New(rand.NewPCG(seed, 0)).Shuffle(len(ts), func(i, j int) { ts[i], ts[j] = ts[j], ts[i] })
	return ts
}

func stored(f *lifecycle.Facts) *lifecycle.Facts {
	var g lifecycle.Facts
	if err := g.Parse(f.Append(nil)); err != nil {
		panic(err)
	}
	return &g
}

func run(t *testing.T, specs []spec) {
	for _, s := range specs {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			s.check(t)
		})
	}
}
