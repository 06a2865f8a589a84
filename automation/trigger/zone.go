package trigger

import (
	"slices"
	"time"

	"sojourn/domain"
)

// instant is a local time of a day: of one that comes twice the first, of one that
// a clock change skips the first instant after it. minutes are since midnight.
func instant(year int, month time.Month, day, minutes int, zone *time.Location) time.Time {
	wall := time.Date(year, month, day, 0, minutes, 0, 0, time.UTC)
	offset := func(at time.Time) time.Duration {
		_, s := at.In(zone).Zone()
		return time.Duration(s) * time.Second
	}
	before, after := offset(wall.Add(-24*time.Hour)), offset(wall.Add(24*time.Hour))
	first := wall.Add(-max(before, after))
	for _, t := range [...]time.Time{first, wall.Add(-min(before, after))} {
		if l := t.In(zone); l.Hour()*60+l.Minute() == minutes%(24*60) && l.Day() == wall.Day() && l.Month() == wall.Month() {
			return t
		}
	}
	start, _ := wall.Add(-before).In(zone).ZoneBounds()
	return start.UTC()
}

// span is from an instant to another, that left out.
type span struct{ from, to time.Time }

func (s span) holds(t time.Time) bool { return !t.Before(s.from) && t.Before(s.to) }

// hours are those of a Window or of QuietHours.
type hours struct {
	from, to int // minutes since midnight; to is above from, and above 24 h where they end the next day
	days     [7]bool
}

// on is the span that begins on the day of a date.
func (h *hours) on(day time.Time, zone *time.Location) span {
	y, m, d := day.Date()
	next := time.Date(y, m, d+1, 0, 0, 0, 0, time.UTC)
	s := span{from: instant(y, m, d, h.from, zone)}
	if h.to < 24*60 {
		s.to = instant(y, m, d, h.to, zone)
	} else {
		s.to = instant(next.Year(), next.Month(), next.Day(), h.to-24*60, zone)
	}
	return s
}

// spans are those that touch the days around an instant.
func (h *hours) spans(t time.Time, days int, zone *time.Location) []span {
	y, m, d := t.In(zone).Date()
	var all []span
	for i := -1; i <= days; i++ {
		day := time.Date(y, m, d+i, 0, 0, 0, 0, time.UTC)
		if h.days[day.Weekday()] {
			all = append(all, h.on(day, zone))
		}
	}
	return all
}

// horizon is how many days ahead a moment for sending is looked for.
const horizon = 15

// next is the first instant from t on at which the window and the quiet hours let
// one send; ok is false where there is none within two weeks.
func (t *Trigger) next(at domain.Millis, zone *time.Location) (domain.Millis, bool) {
	if t.window == nil && t.quiet == nil {
		return at, true
	}
	if zone == nil {
		zone = time.UTC
	}
	now := at.Time()
	var open, quiet []span
	moments := []time.Time{now}
	if t.window != nil {
		open = t.window.spans(now, horizon, zone)
		for _, s := range open {
			moments = append(moments, s.from)
		}
	}
	if t.quiet != nil {
		quiet = t.quiet.spans(now, horizon, zone)
		for _, s := range quiet {
			moments = append(moments, s.to)
		}
	}
	slices.SortFunc(moments, time.Time.Compare)
	for _, m := range moments {
		in := func(s span) bool { return s.holds(m) }
		if !m.Before(now) && (t.window == nil || slices.ContainsFunc(open, in)) && !slices.ContainsFunc(quiet, in) {
			return domain.MillisOf(m), true
		}
	}
	return 0, false
}

// Zone is the first of some names that is a time zone, else UTC.
func Zone(names ...string) *time.Location {
	for _, name := range names {
		if name == "" || name == "Local" {
			continue
		}
		if l, err := time.LoadLocation(name); err == nil {
			return l
		}
	}
	return time.UTC
}
