package satisfaction

import "math"

// z95 is the 97.5% quantile of the normal distribution.
const z95 = 1.959963984540054

// Share is a share of n with its 95% interval, all from 0 to 1.
type Share struct {
	Count, N         int
	Value, Low, High float64 // mean nothing where N is 0
}

// ShareOf is count of n, with Wilson's score interval (E. B. Wilson, "Probable
// inference, the law of succession, and statistical inference", JASA 22, 1927).
func ShareOf(count, n int) Share {
	s := Share{Count: count, N: n, High: 1}
	if n == 0 {
		return s
	}
	p, m := float64(count)/float64(n), float64(n)
	z2 := float64(z95 * z95)
	centre := p + z2/(2*m)
	half := z95 * math.Sqrt(float64(p*(1-p))/m+z2/float64(4*m*m))
	s.Value = p
	s.Low = max(0, (centre-half)/(1+z2/m))
	s.High = min(1, (centre+half)/(1+z2/m))
	// At the ends the formula's own result is the end itself, but for rounding.
	if count == 0 {
		s.Low = 0
	}
	if count == n {
		s.High = 1
	}
	return s
}

// NetPromoter is a net promoter score with its 95% interval, from −100 to 100.
type NetPromoter struct {
	Promoters, Passives, Detractors, N int
	Value, Low, High                   float64 // mean nothing where N is 0
}

// NetPromoterOf is % promoters − % detractors, with the adjusted Wald interval that
// adds ¾ to promoters, 1½ to passives and ¾ to detractors (B. Rocks, "Interval
// estimation for the 'Net Promoter Score'", The American Statistician 70, 2016).
func NetPromoterOf(promoters, passives, detractors int) NetPromoter {
	n := promoters + passives + detractors
	s := NetPromoter{Promoters: promoters, Passives: passives, Detractors: detractors, N: n, Low: -100, High: 100}
	if n == 0 {
		return s
	}
	s.Value = 100 * float64(promoters-detractors) / float64(n)
	m := float64(n) + 3
	p, d := (float64(promoters)+0.75)/m, (float64(detractors)+0.75)/m
	net := p - d
	half := z95 * math.Sqrt(max(0, p+d-float64(net*net))/m)
	s.Low, s.High = max(-100, 100*(net-half)), min(100, 100*(net+half))
	return s
}

// Mean is a mean of whole scores with its 95% interval.
type Mean struct {
	N                int
	Value, Low, High float64 // mean nothing where N is 0
	// Known is false where N is less than 2: then Low and High say nothing.
	Known bool
}

// MeanOf is the mean of n whole scores with their sum and the sum of their squares,
// and the interval by Student's t. Where all scores are equal the interval is that
// point.
func MeanOf(n int, sum, squares int64) Mean {
	if n == 0 {
		return Mean{}
	}
	m := Mean{N: n, Value: float64(sum) / float64(n)}
	m.Low, m.High = m.Value, m.Value
	if n == 1 {
		return m
	}
	m.Known = true
	// n·Σx² − (Σx)² is a whole number, so nothing is lost to rounding.
	v := float64(int64(n)*squares-sum*sum) / (float64(n) * float64(n-1))
	half := StudentT(n-1) * math.Sqrt(v/float64(n))
	m.Low, m.High = m.Value-half, m.Value+half
	return m
}

// StudentT is the 97.5% quantile of Student's t with so many degrees of freedom, at
// least 1. The distribution's tail is half the incomplete beta function
// I(ν/(ν+t²); ν/2, ½) (Abramowitz & Stegun 26.7.1 and 26.5.27), which is solved for
// t by halving the interval until it cannot be halved any more.
func StudentT(df int) float64 {
	if df < 1 {
		return math.NaN()
	}
	nu := float64(df)
	low, high := 1.9, 13.0 // from the normal quantile's side to that of ν = 1
	for {
		t := low + (high-low)/2
		if t <= low || t >= high {
			return t
		}
		if incompleteBeta(nu/(nu+t*t), nu/2, 0.5) > 0.05 {
			low = t
		} else {
			high = t
		}
	}
}

// incompleteBeta is the regularised incomplete beta function by its continued
// fraction (DLMF 8.17.22), evaluated from the front by Lentz's method.
func incompleteBeta(x, a, b float64) float64 {
	if x <= 0 || x >= 1 {
		return min(max(x, 0), 1)
	}
	if x > (a+1)/(a+b+2) { // where the fraction converges fast for the other tail
		return 1 - incompleteBeta(1-x, b, a)
	}
	la, _ := math.Lgamma(a)
	lb, _ := math.Lgamma(b)
	lab, _ := math.Lgamma(a + b)
	front := math.Exp(lab-la-lb+a*math.Log(x)+b*math.Log1p(-x)) / a
	const tiny = 1e-300
	notZero := func(v float64) float64 {
		if math.Abs(v) < tiny {
			return tiny
		}
		return v
	}
	c, d := 1.0, 1/notZero(1-(a+b)*x/(a+1))
	f := d
	for m := 1.0; m < 10_000; m++ {
		k := m * (b - m) * x / ((a + 2*m - 1) * (a + 2*m))
		d = 1 / notZero(1+k*d)
		c = notZero(1 + k/c)
		f *= d * c
		k = -(a + m) * (a + b + m) * x / ((a + 2*m) * (a + 2*m + 1))
		d = 1 / notZero(1+k*d)
		c = notZero(1 + k/c)
		f *= d * c
		if math.Abs(d*c-1) < 1e-15 {
			break
		}
	}
	return front * f
}
