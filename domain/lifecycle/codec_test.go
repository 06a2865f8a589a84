package lifecycle_test

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"sojourn/domain"
	"sojourn/domain/lifecycle"
	"sojourn/domain/policy"
)

func TestStoredFactsAreTheSame(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		ts, rules := drawHistory(t)
		facts := addAll(ts)
		bytes := facts.Append(nil)
		var got lifecycle.Facts
		if err := got.Parse(bytes); err != nil {
			t.Fatal(err)
		}
		if string(got.Append(nil)) != string(bytes) {
			t.Fatal("other bytes")
		}
		if !slices.Equal(lifecycle.Transitions(&got, rules, "USD"), lifecycle.Transitions(facts, rules, "USD")) {
			t.Fatal("other transitions")
		}
		// Nothing of the bytes is kept.
		for i := range bytes {
			bytes[i] = 0xff
		}
		if !slices.Equal(lifecycle.Transitions(&got, rules, "USD"), lifecycle.Transitions(facts, rules, "USD")) {
			t.Fatal("the facts share the bytes they were read from")
		}
	})
}

func TestDamagedFacts(t *testing.T) {
	facts := addAll(all(login(day(0)), tryOut(day(1)), buy(day(2), "a", "10 EUR"), refund(day(3), "a", "3")))
	for i := range facts.Append(nil) {
		var got lifecycle.Facts
		if err := got.Parse(facts.Append(nil)[:i]); err == nil {
			t.Errorf("%d bytes of the facts were read", i)
		}
		if !got.Empty() {
			t.Errorf("%d bytes left something behind", i)
		}
	}
	whole := facts.Append(nil)
	for name, b := range map[string][]byte{
		"another version":  append([]byte{99}, whole[1:]...),
		"unknown flags":    append([]byte{whole[0], 0xff}, whole[2:]...),
		"something behind": append(slices.Clone(whole), 0),
	} {
		var got lifecycle.Facts
		if err := got.Parse(b); err == nil {
			t.Errorf("%s was read", name)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte{})
	f.Add((&lifecycle.Facts{}).Append(nil))
	f.Add(addAll(all(login(day(0)), tryOut(day(1)), buys(2, 2, 3), buy(day(2), "a", "10 EUR"), refund(day(3), "a", "3"))).Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		var facts lifecycle.Facts
		if facts.Parse(b) != nil {
			return
		}
		lifecycle.Transitions(&facts, rules, "USD")
		lifecycle.TotalsAt(&facts, domain.MaxTime, "USD")
		again := facts.Append(nil)
		var same lifecycle.Facts
		if err := same.Parse(again); err != nil {
			t.Fatalf("what was read cannot be read again: %v", err)
		}
		if string(same.Append(nil)) != string(again) {
			t.Fatal("other bytes the second time")
		}
	})
}

func TestCause(t *testing.T) {
	id := uuid.MustParse("6ba7b810-9dad-11d1-80b4-00c04fd430c8")
	for text, want := range map[string]lifecycle.Cause{
		"touchpoint:6ba7b810-9dad-11d1-80b4-00c04fd430c8":       {Touchpoint: id},
		"deadline:at_risk:6ba7b810-9dad-11d1-80b4-00c04fd430c8": {Rule: lifecycle.RuleAtRisk, Touchpoint: id},
		"deadline:loyal:6ba7b810-9dad-11d1-80b4-00c04fd430c8":   {Rule: lifecycle.RuleLoyal, Touchpoint: id},
	} {
		got, err := lifecycle.ParseCause(text)
		if err != nil || got != want || got.String() != text {
			t.Errorf("%s was read as %+v, %v", text, got, err)
		}
	}
	for _, bad := range []string{"", "touchpoint", "touchpoint:", "touchpoint:6ba7b8109dad11d180b400c04fd430c8", "deadline:" + id.String(), "deadline:never:" + id.String(), "luck:" + id.String()} {
		if got, err := lifecycle.ParseCause(bad); err == nil {
			t.Errorf("%q was read as %+v", bad, got)
		}
	}
}

func TestLongNamesAreCutBetweenRunes(t *testing.T) {
	facts := addAll(all(named(day(0), policy.Lead, strings.Repeat("ü", 5000))))
	reason := lifecycle.Transitions(facts, rules, "USD")[0].Reason
	if len(reason) > 200 || len(reason) < 190 || !utf8.ValidString(reason) {
		t.Errorf("a reason of %d bytes: %q", len(reason), reason)
	}
}

func TestAddSaysWhatMatters(t *testing.T) {
	var f lifecycle.Facts
	for i, step := range []struct {
		touch lifecycle.Touch
		want  bool
	}{
		{visit(day(1)), true},
		{visit(day(2)), false},
		{visit(day(0)), true},
		{login(day(3)), true},
		{login(day(4)), false},
		{tryOut(day(3)), true},
		{tryOut(day(5)), false},
		{buy(day(6), "a", "1"), true},
		{update(day(7), "a", "?"), false},
		{update(day(7), "", "1"), false},
		{update(day(7), "a", "1"), true},
		{refund(day(8), "", ""), true}, // counted among the refunds
	} {
		step.touch.ID = uuid.UUID{15: byte(i)}
		if got := f.Add(step.touch); got != step.want {
			t.Errorf("step %d: changed %v, want %v", i, got, step.want)
		}
	}
}

// A customer with very many purchases, half of them refunded and all out of
// order, is folded in one pass.
func TestManyPurchases(t *testing.T) {
	const n = 100_000
	var ts []lifecycle.Touch
	for i := range n {
		order := string(rune('a'+i%26)) + uuid.NewSHA1(uuid.Nil, []byte{byte(i), byte(i >> 8), byte(i >> 16)}).String()
		b := buy(day0+domain.Millis(i)*60_000, order, "1")
		b.ID = uuid.UUID{0: byte(i), 1: byte(i >> 8), 2: byte(i >> 16)}
		r := refund(b.At+domain.Day, order, "")
		r.ID = uuid.UUID{0: byte(i), 1: byte(i >> 8), 2: byte(i >> 16), 3: 1}
		ts = append(ts, b)
		if i%2 == 0 {
			ts = append(ts, r)
		}
	}
	facts := addAll(shuffled(ts, 1))
	if got := len(lifecycle.Transitions(facts, rules, "USD")); got < 4 {
		t.Errorf("%d transitions", got)
	}
	if got := totalsText(lifecycle.TotalsAt(facts, domain.MaxTime, "USD")); got != "50000/50000 USD 50000" {
		t.Errorf("totals %s", got)
	}
}

func BenchmarkAdd(b *testing.B) {
	ts := all(visit(day(0)), login(day(1)))
	facts := addAll(ts)
	visitor, purchase := login(day(2)), buy(day(3), "order-1", "10")
	b.Run("page view", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			facts.Add(visitor)
		}
	})
	b.Run("first purchase", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var f lifecycle.Facts
			f.Add(purchase)
		}
	})
}

func benchmarkFacts(n int) *lifecycle.Facts {
	ts := all(visit(day(0)), login(day(1)), tryOut(day(2)))
	for i := range n {
		order := "order-" + uuid.UUID{0: byte(i), 1: byte(i >> 8)}.String()
		ts = append(ts, buy(day(3+30*i), order, "10"))
		if i%4 == 3 {
			ts = append(ts, refund(day(5+30*i), order, "5"))
		}
	}
	for i := range ts {
		ts[i].ID = uuid.UUID{0: byte(i), 1: byte(i >> 8)}
	}
	return addAll(ts)
}

func BenchmarkTransitions(b *testing.B) {
	for name, n := range map[string]int{"visitor": 0, "5 purchases": 5, "50 purchases": 50} {
		facts := benchmarkFacts(n)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				lifecycle.Transitions(facts, rules, "USD")
			}
		})
	}
}

func BenchmarkTotals(b *testing.B) {
	facts := benchmarkFacts(5)
	b.ReportAllocs()
	for b.Loop() {
		lifecycle.TotalsAt(facts, domain.MaxTime, "USD")
	}
}

func BenchmarkCodec(b *testing.B) {
	facts := benchmarkFacts(5)
	buf := facts.Append(nil)
	b.Run("append", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			buf = facts.Append(buf[:0])
		}
	})
	b.Run("parse", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var f lifecycle.Facts
			if err := f.Parse(buf); err != nil {
				b.Fatal(err)
			}
		}
	})
}
