package domain

import (
	"bytes"
	"encoding/json"
	"math"
	"math/bits"
	"strconv"
	"strings"
)

// Decimal is an amount with four decimals, kept as a whole number of
// ten-thousandths: the form of ClickHouse's Decimal(18, 4). Its magnitude stays
// below 10^14.
type Decimal int64

const (
	decimalScale  = 4
	decimalOne    = 10_000
	maxDecimal    = Decimal(1_000_000_000_000_000_000 - 1) // 10^14 less one ten-thousandth
	decimalDigits = 18
)

// ParseDecimal reads a decimal number in JSON's own notation or a looser one (a
// leading plus sign, leading zeros, a point at either end); spaces around it are
// left out. What stands behind the fourth decimal is rounded half away from zero.
// It is false for whatever is no decimal number (NaN, hexadecimal, separators,
// nothing) and for a magnitude of 10^14 or more.
func ParseDecimal(text string) (Decimal, bool) {
	s := strings.TrimSpace(text)
	negative := false
	if s != "" && (s[0] == '-' || s[0] == '+') {
		negative = s[0] == '-'
		s = s[1:]
	}
	// The digits without leading zeros; those beyond what fits beside the
	// rounding digit cannot matter and are only counted.
	var digits uint64
	var kept int     // significant digits in digits
	var dropped int  // digits left out behind them
	var decimals int // digits read behind the point
	seen, point := false, false
	i := 0
scan:
	for ; i < len(s); i++ {
		c := s[i]
		switch {
		case c >= '0' && c <= '9':
			seen = true
			if point {
				decimals++
			}
			if kept == 0 && c == '0' {
				continue
			}
			if kept > decimalDigits {
				dropped++
				continue
			}
			digits = digits*10 + uint64(c-'0')
			kept++
		case c == '.' && !point:
			point = true
		default:
			break scan
		}
	}
	if !seen {
		return 0, false
	}
	exp := 0
	if i < len(s) {
		if s[i] != 'e' && s[i] != 'E' {
			return 0, false
		}
		var ok bool
		if exp, ok = exponent(s[i+1:]); !ok {
			return 0, false
		}
	}
	if digits == 0 {
		return 0, true
	}
	// The value is digits × 10^shift in ten-thousandths.
	shift := exp - decimals + dropped + decimalScale
	switch {
	case shift > 0:
		if kept+shift > decimalDigits {
			return 0, false
		}
		for ; shift > 0; shift-- {
			digits *= 10
		}
	case shift < 0:
		if -shift > kept {
			return 0, true
		}
		// All kept digits but the first -shift-1 of the tail decide nothing: half
		// away from zero looks at one digit.
		for ; shift < -1; shift++ {
			digits /= 10
		}
		digits = (digits + 5) / 10
	}
	if digits > uint64(maxDecimal) {
		return 0, false
	}
	if negative {
		return -Decimal(digits), true
	}
	return Decimal(digits), true
}

// exponent reads the part behind the e; far exponents are cut to ±1,000,000,000,
// which no number of digits in a message makes up for.
func exponent(s string) (int, bool) {
	negative := false
	if s != "" && (s[0] == '-' || s[0] == '+') {
		negative = s[0] == '-'
		s = s[1:]
	}
	if s == "" {
		return 0, false
	}
	n := 0
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = min(n*10+int(s[i]-'0'), 1_000_000_000)
	}
	if negative {
		n = -n
	}
	return n, true
}

// ReadDecimal reads an amount from a raw JSON value: a number from its own text,
// or a string that holds one. Anything else is false.
func ReadDecimal(raw []byte) (Decimal, bool) {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 {
		return 0, false
	}
	if c := raw[0]; c == '-' || c >= '0' && c <= '9' {
		return ParseDecimal(string(raw))
	}
	text, ok := JSONString(raw)
	if !ok {
		return 0, false
	}
	return ParseDecimal(text)
}

// JSONString reads a raw JSON value that is a string.
func JSONString(raw []byte) (string, bool) {
	if len(raw) < 2 || raw[0] != '"' || raw[len(raw)-1] != '"' {
		return "", false
	}
	inner := raw[1 : len(raw)-1]
	plain := true
	for _, c := range inner {
		if c == '\\' || c == '"' || c < ' ' || c >= 0x80 {
			plain = false
			break
		}
	}
	if plain {
		return string(inner), true
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return "", false
	}
	return s, true
}

// String is the shortest plain decimal text: "29.33", "-4.5", "0".
func (d Decimal) String() string {
	var buf [24]byte
	return string(d.Append(buf[:0]))
}

// Append appends the text of String to buf.
func (d Decimal) Append(buf []byte) []byte {
	u := uint64(d)
	if d < 0 {
		buf = append(buf, '-')
		u = -u
	}
	buf = strconv.AppendUint(buf, u/decimalOne, 10)
	rest := u % decimalOne
	if rest == 0 {
		return buf
	}
	buf = append(buf, '.')
	for unit := uint64(decimalOne / 10); rest > 0; unit /= 10 {
		buf = append(buf, byte('0'+rest/unit))
		rest %= unit
	}
	return buf
}

// MarshalJSON writes a decimal as a JSON string, so that no reader turns it into
// a float.
func (d Decimal) MarshalJSON() ([]byte, error) {
	buf := append(make([]byte, 0, 26), '"')
	return append(d.Append(buf), '"'), nil
}

// UnmarshalJSON reads a JSON number or a string that holds one.
func (d *Decimal) UnmarshalJSON(raw []byte) error {
	v, ok := ReadDecimal(raw)
	if !ok {
		return &json.UnsupportedValueError{Str: "not a decimal amount: " + string(raw)}
	}
	*d = v
	return nil
}

// Add returns d + e, held at the ends of the range.
func (d Decimal) Add(e Decimal) Decimal { return clampDecimal(int64(d), int64(e)) }

// Sub returns d − e, held at the ends of the range.
func (d Decimal) Sub(e Decimal) Decimal { return clampDecimal(int64(d), -int64(e)) }

func clampDecimal(a, b int64) Decimal {
	switch {
	case b > 0 && a > math.MaxInt64-b:
		return maxDecimal
	case b < 0 && a < math.MinInt64-b:
		return -maxDecimal
	}
	return max(-maxDecimal, min(maxDecimal, Decimal(a+b)))
}

// Abs is the amount without its sign.
func (d Decimal) Abs() Decimal {
	if d < 0 {
		return -d
	}
	return d
}

// Mul returns d × e rounded half away from zero; false where it is out of range.
func (d Decimal) Mul(e Decimal) (Decimal, bool) {
	hi, lo := bits.Mul64(uint64(d.Abs()), uint64(e.Abs()))
	if hi >= decimalOne {
		return 0, false
	}
	q, r := bits.Div64(hi, lo, decimalOne)
	if r >= decimalOne/2 {
		q++
	}
	if q > uint64(maxDecimal) {
		return 0, false
	}
	if (d < 0) != (e < 0) {
		return -Decimal(q), true
	}
	return Decimal(q), true
}

// Valid reports whether d is in range, as every decimal that was read is.
func (d Decimal) Valid() bool { return d >= -maxDecimal && d <= maxDecimal }
