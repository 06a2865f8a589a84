package delivery

import "time"

// Schedule is when attempts are made.
type Schedule struct {
	// Waits are the times between an attempt and the next.
	Waits []time.Duration
	// Jitter is the part of a wait, from 0 to 1, by which it may be longer.
	Jitter float64
}

// DefaultSchedule is that of the Standard Webhooks spec: ten attempts over three
// days (75 h 35 min and the jitter).
func DefaultSchedule() Schedule {
	return Schedule{
		Waits: []time.Duration{
			5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour,
			10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour,
		},
		Jitter: 0.1,
	}
}

// Next is how long to wait after attempt number n (from 1) with an outcome that
// asks for a retry; ok is false where there is no further attempt, and the
// delivery goes to the dead-letter list. random is from [0, 1). What the receiver
// asked for by Retry-After makes the wait longer, never shorter.
func (s Schedule) Next(n int, o Outcome, random float64) (wait time.Duration, ok bool) {
	if o.Delivered || !o.Retry || n < 1 || n > len(s.Waits) {
		return 0, false
	}
	wait = s.Waits[n-1]
	wait += time.Duration(s.Jitter * random * float64(wait))
	return max(wait, min(o.RetryAfter, MaxRetryAfter)), true
}

// GiveUp is when a delivery first due at a time is given up where no attempt
// could be made: after the longest that all its attempts can take without
// Retry-After.
func (s Schedule) GiveUp(due time.Time) time.Time {
	var sum time.Duration
	for _, w := range s.Waits {
		sum += w
	}
	return due.Add(sum + time.Duration(s.Jitter*float64(sum)))
}
