package condition

import (
	"cmp"
	"math/bits"

	"sojourn/domain"
)

// number is a whole number of ten-thousandths in 128 bits, as ClickHouse's
// Decimal(38, 4): no sum of amounts that a log can hold leaves it.
type number struct {
	hi int64
	lo uint64
}

const numberOne = 10_000

func numberOf(d domain.Decimal) number { return number{int64(d) >> 63, uint64(d)} }

// wholeNumber is n with no decimals.
func wholeNumber(n int64) number {
	abs := uint64(n)
	if n < 0 {
		abs = -abs
	}
	hi, lo := bits.Mul64(abs, numberOne)
	if n < 0 {
		return number{}.minus(number{int64(hi), lo})
	}
	return number{int64(hi), lo}
}

func (a number) plus(b number) number {
	lo, carry := bits.Add64(a.lo, b.lo, 0)
	hi, _ := bits.Add64(uint64(a.hi), uint64(b.hi), carry)
	return number{int64(hi), lo}
}

func (a number) minus(b number) number {
	lo, borrow := bits.Sub64(a.lo, b.lo, 0)
	hi, _ := bits.Sub64(uint64(a.hi), uint64(b.hi), borrow)
	return number{int64(hi), lo}
}

func (a number) compare(b number) int {
	if c := cmp.Compare(a.hi, b.hi); c != 0 {
		return c
	}
	return cmp.Compare(a.lo, b.lo)
}
