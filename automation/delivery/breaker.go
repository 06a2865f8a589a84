package delivery

import "time"

// Numbers of the circuit breaker.
const (
	breakerFailures = 5 // in a row
	breakerFirst    = 10 * time.Second
	breakerLongest  = 10 * time.Minute
	longestPause    = time.Hour // that a Retry-After gives a whole destination
)

// breaker is the circuit breaker of one destination, a function of outcomes and
// times. It opens after breakerFailures in a row; then one attempt at a time tests
// the destination, the next after twice the time, until one is answered. What
// waits meanwhile uses up none of its attempts. (sony/gobreaker reads the clock
// itself, always waits the same time, and does not say when it will let the next
// one through, which is what a queue sleeps for.)
type breaker struct {
	failures int           // in a row
	open     time.Duration // the last wait; 0 while closed
	until    time.Time     // nothing is sent before; zero for no wait
}

// ready is when the next attempt may be made, and how many at one time.
func (b *breaker) ready(concurrency int) (at time.Time, most int) {
	if b.open > 0 {
		return b.until, 1
	}
	return b.until, concurrency
}

// observe takes an outcome in. Only what says that the destination is down counts
// as a failure: no answer, 5xx, 429 of HTTP, or 421 of SMTP. Another refusal is
// about that delivery.
func (b *breaker) observe(o Outcome, now time.Time) {
	down := !o.Delivered && o.Retry && (o.Status == 0 || o.Status == 429 || o.Status == 421 || o.Status >= 500)
	if !down {
		*b = breaker{}
		return
	}
	b.failures++
	if b.failures >= breakerFailures {
		b.open = min(max(2*b.open, breakerFirst), breakerLongest)
		b.until = later(b.until, now.Add(b.open))
	}
	if o.RetryAfter > 0 {
		b.until = later(b.until, now.Add(min(o.RetryAfter, longestPause)))
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
