package domain_test

import (
	"encoding/json"
	"math/big"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"sojourn/domain"
)

func TestParseDecimal(t *testing.T) {
	for text, want := range map[string]string{
		"29.33": "29.33", "0": "0", "-0": "0", "-4.50": "-4.5", "+7": "7", "007": "7", ".5": "0.5", "5.": "5",
		"  12.5\t": "12.5", "1e3": "1000", "1.5E-2": "0.015", "1E+2": "100", "0e999999999999": "0", "1e-999999999999": "0",
		"0.00005": "0.0001", "0.00004999999999999999999999999": "0", "-0.00005": "-0.0001", "0.12345": "0.1235", "-0.12345": "-0.1235",
		"1.00004": "1", "1.00005": "1.0001", "0.00001e1": "0.0001", "9.99995": "10",
		"99999999999999.9999": "99999999999999.9999", "-99999999999999.9999": "-99999999999999.9999",
		"99999999999999.99994999": "99999999999999.9999", "0.000000000000000000000000000001e30": "1",
		"100000000000000000000000000e-20": "1000000", "12345678901234567890e-10": "1234567890.1235",
	} {
		got, ok := domain.ParseDecimal(text)
		if !ok || got.String() != want {
			t.Errorf("%q is %s, %v, want %s", text, got, ok, want)
		}
	}
	for _, text := range []string{
		"", " ", "-", "+", ".", "-.", "e5", ".e5", "1e", "1e+", "1e5.0", "1e-", "--1", "1-", "1 000", "1,5", "1_000", "0x10", "0b1",
		"NaN", "Inf", "-Infinity", "1.2.3", "12a", "١", "1\x00", "100000000000000", "-100000000000000", "1e14", "1e999999999999",
		"99999999999999.99995", "$5", "5 USD",
	} {
		if got, ok := domain.ParseDecimal(text); ok {
			t.Errorf("%q was read as %s", text, got)
		}
	}
}

func TestReadDecimal(t *testing.T) {
	for raw, want := range map[string]string{
		`12.5`: "12.5", `"12.5"`: "12.5", `" 7 "`: "7", ` -3 `: "-3", `"1e2"`: "100", `"\u0031"`: "1",
	} {
		if got, ok := domain.ReadDecimal([]byte(raw)); !ok || got.String() != want {
			t.Errorf("%s is %s, %v, want %s", raw, got, ok, want)
		}
	}
	for _, raw := range []string{``, `null`, `true`, `""`, `"abc"`, `{}`, `[1]`, `"1`, `1"`, `"1" 2`, `"\q"`, `+1`, `NaN`} {
		if got, ok := domain.ReadDecimal([]byte(raw)); ok {
			t.Errorf("%s was read as %s", raw, got)
		}
	}
}

// Any decimal text is read as exact arithmetic rounds it.
func TestParseDecimalIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`-?[0-9]{1,16}(\.[0-9]{1,8})?(e-?[0-9]{1,2})?`).Draw(t, "text")
		exact, ok := new(big.Rat).SetString(text)
		if !ok {
			t.Fatalf("%q is no number", text)
		}
		exact.Mul(exact, big.NewRat(10_000, 1))
		negative := exact.Sign() < 0
		exact.Abs(exact)
		exact.Add(exact, big.NewRat(1, 2))
		want := new(big.Int).Quo(exact.Num(), exact.Denom())
		fits := want.Cmp(big.NewInt(1_000_000_000_000_000_000)) < 0
		if negative {
			want.Neg(want)
		}
		got, ok := domain.ParseDecimal(text)
		if ok != fits || ok && int64(got) != want.Int64() {
			t.Fatalf("%q is %d, %v, want %d, %v", text, got, ok, want, fits)
		}
	})
}

func TestDecimalTextRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := domain.Decimal(rapid.Int64Range(-999_999_999_999_999_999, 999_999_999_999_999_999).Draw(t, "d"))
		text := d.String()
		if got, ok := domain.ParseDecimal(text); !ok || got != d {
			t.Fatalf("%d is written %q and read as %d", d, text, got)
		}
		if strings.HasSuffix(text, ".") || strings.Contains(text, ".") && strings.HasSuffix(text, "0") {
			t.Fatalf("%q is not the shortest text", text)
		}
		var back domain.Decimal
		b, err := json.Marshal(d)
		if err != nil || json.Unmarshal(b, &back) != nil || back != d {
			t.Fatalf("JSON %s is read as %s", b, back)
		}
	})
}

func TestDecimalArithmetic(t *testing.T) {
	dec := func(s string) domain.Decimal {
		d, ok := domain.ParseDecimal(s)
		if !ok {
			t.Fatalf("%q", s)
		}
		return d
	}
	top := dec("99999999999999.9999")
	for _, c := range []struct{ got, want domain.Decimal }{
		{dec("1.5").Add(dec("2.25")), dec("3.75")},
		{dec("1").Sub(dec("2.5")), dec("-1.5")},
		{top.Add(dec("1")), top},
		{(-top).Sub(top), -top},
		{(-top).Add(top), 0},
		{dec("-3").Abs(), dec("3")},
	} {
		if c.got != c.want {
			t.Errorf("got %s, want %s", c.got, c.want)
		}
	}
	for _, c := range []struct{ a, b, want string }{
		{"19", "2", "38"},
		{"-19.99", "3", "-59.97"},
		{"0.0001", "0.5", "0.0001"},
		{"0.0001", "0.4", "0"},
		{"99999999999999.9999", "1", "99999999999999.9999"},
		{"-2", "-2", "4"},
	} {
		if got, ok := dec(c.a).Mul(dec(c.b)); !ok || got != dec(c.want) {
			t.Errorf("%s × %s is %s, %v, want %s", c.a, c.b, got, ok, c.want)
		}
	}
	for _, c := range [][2]string{{"99999999999999", "2"}, {"99999999999999", "99999999999999"}} {
		if got, ok := dec(c[0]).Mul(dec(c[1])); ok {
			t.Errorf("%s × %s is %s", c[0], c[1], got)
		}
	}
	var d domain.Decimal
	if err := json.Unmarshal([]byte(`"x"`), &d); err == nil {
		t.Error("x was read as an amount")
	}
	if !top.Valid() || (top + 1).Valid() {
		t.Error("the range is wrong")
	}
}

func FuzzParseDecimal(f *testing.F) {
	f.Add("12.50")
	f.Add("-1e-5")
	f.Fuzz(func(t *testing.T, s string) {
		d, ok := domain.ParseDecimal(s)
		if !ok {
			return
		}
		if again, ok := domain.ParseDecimal(d.String()); !ok || again != d || !d.Valid() {
			t.Fatalf("%q is %d, written %s, read as %d", s, d, d, again)
		}
	})
}

func BenchmarkParseDecimal(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		domain.ParseDecimal("1234.56")
	}
}
