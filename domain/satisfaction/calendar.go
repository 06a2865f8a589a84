package satisfaction

import (
	"slices"
	"time"

	"sojourn/domain"
	"sojourn/domain/policy"
)

// Calendar says how much time counts: all of it (the zero value), or the business
// hours of a zone. It is immutable and safe for concurrent use.
type Calendar struct {
	zone     *time.Location // nil: round the clock
	week     [7][]span
	holidays map[holiday]bool
}

// span is a part of a local day in minutes.
type span struct{ from, to int }

// holiday is a local day; year 0 is every year.
type holiday struct {
	year  int
	month time.Month
	day   int
}

// NewCalendar makes business hours ready to count in. Hours without a span run
// round the clock. The zone is read from the machine's zone files or those in the
// binary; what they say of the past of a zone is part of the answer.
func NewCalendar(h policy.Hours) *Calendar {
	if len(h.Week) == 0 {
		return &Calendar{}
	}
	c := &Calendar{zone: time.UTC, holidays: map[holiday]bool{}}
	if zone, err := time.LoadLocation(h.Zone); err == nil {
		c.zone = zone
	}
	for _, s := range h.Week {
		from, ok1 := policy.ParseClock(s.From)
		to, ok2 := policy.ParseClock(s.To)
		if !ok1 || !ok2 {
			continue
		}
		for _, d := range s.Days {
			if i := slices.Index(policy.Weekdays, d); i >= 0 {
				c.week[i] = append(c.week[i], span{from, to})
			}
		}
	}
	for i := range c.week {
		slices.SortFunc(c.week[i], func(a, b span) int { return a.from - b.from })
	}
	for _, s := range h.Holidays {
		if y, m, d, ok := policy.ParseHoliday(s); ok {
			c.holidays[holiday{y, m, d}] = true
		}
	}
	return c
}

// Between is how much time counts from a to b; nothing where b is not after a.
func (c *Calendar) Between(a, b domain.Millis) domain.Millis {
	if b <= a {
		return 0
	}
	if c.zone == nil {
		return b - a
	}
	var sum domain.Millis
	for from, to := range c.open(a) {
		if from >= b {
			break
		}
		sum += min(to, b) - from
	}
	return sum
}

// After is the first instant by which so much time has counted from a. Where that
// is not within twenty years it is MaxTime.
func (c *Calendar) After(a, d domain.Millis) domain.Millis {
	if d <= 0 {
		return a
	}
	if c.zone == nil {
		return a + d
	}
	end := a + 20*366*domain.Day
	for from, to := range c.open(a) {
		if from >= end {
			break
		}
		if to-from >= d {
			return from + d
		}
		d -= to - from
	}
	return domain.MaxTime
}

// open are the times that count from a on, in order and apart; after a century of
// closed days it ends.
func (c *Calendar) open(a domain.Millis) func(func(from, to domain.Millis) bool) {
	return func(yield func(from, to domain.Millis) bool) {
		year, month, day := a.Time().In(c.zone).Date()
		done := a // what is before it has been counted
		idle := 0
		for i := 0; idle < 100*366; i++ {
			idle++
			noon := time.Date(year, month, day+i, 12, 0, 0, 0, time.UTC)
			y, m, d := noon.Date()
			if c.holidays[holiday{y, m, d}] || c.holidays[holiday{0, m, d}] {
				continue
			}
			for _, s := range c.week[noon.Weekday()] {
				// A clock that is put on or back moves the ends with it; a day that a
				// zone leaves out has no time of its own.
				from := max(done, c.at(y, m, d, s.from))
				to := c.at(y, m, d, s.to)
				if to <= from {
					continue
				}
				idle = 0
				if !yield(from, to) {
					return
				}
				done = to
			}
		}
	}
}

func (c *Calendar) at(y int, m time.Month, d, minutes int) domain.Millis {
	return domain.MillisOf(time.Date(y, m, d, minutes/60, minutes%60, 0, 0, c.zone))
}
