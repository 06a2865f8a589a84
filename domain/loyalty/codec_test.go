package loyalty_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/uuid"

	"sojourn/domain"
	"sojourn/domain/loyalty"
	"sojourn/domain/policy"
)

// everything is a history with facts of every kind.
func everything() (*loyalty.Facts, *loyalty.Rulebook) {
	s := spec{rules: `{"earning":{"events":[{"name":"Product Reviewed","points":5}],"birthday":3,"multipliers":[{"factor":2,"products":["tea"]}]}}`}
	rules := s.rulebook()
	return factsOf(numbered([]step{
		visit(0), born(1, 2, 29), event(2, "Product Reviewed", "tea:food"),
		buy(3, "a", "10 EUR", "tea:food:5×2", "hat"), update(4, "a", "12 EUR"), refund(5, "a", "3", "tea::1"), cancelOrder(6, "b"), buy(7, "", "?"),
		enroll(8), redeem(9, 5), undo(10, 10), adjust(11, -3).counts(), send(12, 3, 99), receive(13, 98).parts(5, 100, 6, 1e9),
		opening(14).parts(9, 20).tier("gold", 90),
	}), rules), rules
}

func TestDamagedFacts(t *testing.T) {
	facts, _ := everything()
	whole := facts.Append(nil)
	for i := range whole {
		got := loyalty.Facts{}
		if err := got.Parse(whole[:i]); err == nil {
			t.Errorf("%d bytes of the facts were read", i)
		}
		if !got.Empty() {
			t.Errorf("%d bytes left something behind", i)
		}
	}
	for name, b := range map[string][]byte{
		"another version":  append([]byte{99}, whole[1:]...),
		"something behind": append(slices.Clone(whole), 0),
	} {
		var got loyalty.Facts
		if err := got.Parse(b); err == nil {
			t.Errorf("%s was read", name)
		}
	}
	var got loyalty.Facts
	if err := got.Parse(whole); err != nil || string(got.Append(nil)) != string(whole) {
		t.Errorf("the facts were read as others: %v", err)
	}
	if n := len(got.Commands()); n != 7 {
		t.Errorf("%d commands", n)
	}
}

func FuzzParse(f *testing.F) {
	facts, rules := everything()
	f.Add([]byte{})
	f.Add((&loyalty.Facts{}).Append(nil))
	f.Add(facts.Append(nil))
	p := rules.Programme("p")
	f.Fuzz(func(t *testing.T, b []byte) {
		var facts loyalty.Facts
		if facts.Parse(b) != nil {
			return
		}
		l := loyalty.Fold(&facts, p, domain.MaxTime)
		if err := sound(&l); err != nil {
			t.Fatal(err)
		}
		again := facts.Append(nil)
		var same loyalty.Facts
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
	for text, want := range map[string]loyalty.Cause{
		"touchpoint:6ba7b810-9dad-11d1-80b4-00c04fd430c8":         {Touchpoint: id},
		"deadline:expiry:6ba7b810-9dad-11d1-80b4-00c04fd430c8":    {Rule: loyalty.RuleExpiry, Touchpoint: id},
		"deadline:tier_hold:6ba7b810-9dad-11d1-80b4-00c04fd430c8": {Rule: loyalty.RuleTierHold, Touchpoint: id},
	} {
		got, err := loyalty.ParseCause(text)
		if err != nil || got != want || got.String() != text {
			t.Errorf("%s was read as %+v, %v", text, got, err)
		}
	}
	for _, bad := range []string{"", "touchpoint", "touchpoint:", "touchpoint:6ba7b8109dad11d180b400c04fd430c8", "deadline:" + id.String(), "deadline:never:" + id.String(), "luck:" + id.String()} {
		if got, err := loyalty.ParseCause(bad); err == nil {
			t.Errorf("%q was read as %+v", bad, got)
		}
	}
}

func TestAddSaysWhatMatters(t *testing.T) {
	s := spec{rules: `{"earning":{"events":[{"name":"Product Reviewed","points":5}]}}`}
	rules := s.rulebook()
	var f loyalty.Facts
	for i, c := range []struct {
		step step
		want bool
	}{
		{visit(1), true},
		{visit(2), false},
		{visit(0), true},
		{event(3, "Product Viewed"), false},
		{event(3, "product_reviewed"), true},
		{buy(4, "a", "1"), true},
		{update(5, "a", "?"), false},
		{update(5, "a", "2"), true},
		{refund(5, "", "2"), false},
		{refund(5, "a", "2"), true},
		{born(6, 3, 1), true},
	} {
		c.step.touch.ID = id(i + 1)
		if got := f.Add(*c.step.touch, rules); got != c.want {
			t.Errorf("step %d: changed %v, want %v", i, got, c.want)
		}
	}
}

func TestLongTextsAreCutBetweenRunes(t *testing.T) {
	var f loyalty.Facts
	f.AddCommand(loyalty.Command{Kind: loyalty.Adjust, Points: 1 << 62, Programme: "p", Reason: strings.Repeat("ü", 5000)})
	c := f.Commands()[0]
	if len(c.Reason) > 200 || len(c.Reason) < 190 || !utf8.ValidString(c.Reason) || c.Points != loyalty.MaxPoints {
		t.Errorf("%d points, a reason of %d bytes: %q", c.Points, len(c.Reason), c.Reason)
	}
}

// shopper is a customer with so many orders, a third of them refunded, half of
// their points spent.
func shopper(n int) (*loyalty.Facts, *loyalty.Programme) {
	s := spec{}
	rules := s.rulebook()
	f := &loyalty.Facts{}
	for i := range n {
		at := 3 * float64(i)
		if n > 1000 {
			at = float64(i) / 100
		}
		steps := []step{buy(at, fmt.Sprintf("order-%d", i), "10.50")}
		if i%3 == 0 {
			steps = append(steps, refund(at+2, fmt.Sprintf("order-%d", i), "5"))
		}
		if i%2 == 0 {
			steps = append(steps, redeem(at+1, 7))
		}
		for k, s := range steps {
			id := uuid.UUID{0: byte(k + 1), 1: byte(i), 2: byte(i >> 8), 3: byte(i >> 16)}
			if s.touch != nil {
				s.touch.ID = id
			} else {
				s.command.ID = id
			}
			s.add(f, rules)
		}
	}
	return f, rules.Programme("p")
}

// A customer with very many orders is folded in one pass.
func TestManyOrders(t *testing.T) {
	f, p := shopper(100_000)
	l := loyalty.Fold(f, p, domain.MaxTime)
	if err := sound(&l); err != nil {
		t.Error(err)
	}
	if l.Totals.Earned != 1_000_000 || l.Next != policy.Never {
		t.Errorf("%+v, next %s", l.Totals, l.Next)
	}
}

func BenchmarkFold(b *testing.B) {
	for _, n := range []int{0, 5, 50} {
		f, p := shopper(n)
		b.Run(fmt.Sprint(n, " orders"), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				loyalty.Fold(f, p, domain.MaxTime)
			}
		})
	}
}

func BenchmarkCodec(b *testing.B) {
	facts, _ := shopper(5)
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
			var f loyalty.Facts
			if err := f.Parse(buf); err != nil {
				b.Fatal(err)
			}
		}
	})
}
