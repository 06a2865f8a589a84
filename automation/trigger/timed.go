package trigger

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/robfig/cron/v3"

	"sojourn/condition"
	"sojourn/domain"
)

// TypeSchedule is the type of a change that a tick of a schedule is, for a customer
// in its segment.
const TypeSchedule = "schedule"

var cronParser = cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor)

// parseCron reads the times of a schedule, without a zone.
func parseCron(s string) (cron.Schedule, error) {
	if strings.HasPrefix(s, "@every") || strings.Contains(s, "TZ=") {
		return nil, errors.New("say the times as minute, hour, day of the month, month and day of the week, such as 0 9 * * mon, and the zone as time_zone")
	}
	c, err := cronParser.Parse(s)
	if err != nil {
		return nil, fmt.Errorf("%q are no times such as 0 9 * * mon: %w", s, err)
	}
	if c.Next(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)).IsZero() {
		return nil, fmt.Errorf("%q never comes", s)
	}
	return c, nil
}

// foldHours is more than what any clock has ever been put back at once.
const foldHours = 26 * time.Hour

// NextTick is the first time of a schedule after an instant; false where there is
// none. A local time that a clock change skips is the first instant after it, and
// one that comes twice is the first.
func (t *Trigger) NextTick(after domain.Millis) (domain.Millis, bool) {
	if t.ticks == nil {
		return 0, false
	}
	l := after.Time().In(t.tickZone)
	wall := time.Date(l.Year(), l.Month(), l.Day(), l.Hour(), l.Minute(), l.Second(), 0, time.UTC)
	// Where the clock goes back, a local time may lie behind one that is later.
	if _, end := l.ZoneBounds(); end.IsZero() || end.Sub(l) > foldHours {
		if start, _ := l.ZoneBounds(); start.IsZero() || l.Sub(start) > foldHours {
			return t.tickFrom(wall, after)
		}
	}
	return t.tickFrom(wall.Add(-foldHours), after)
}

func (t *Trigger) tickFrom(wall time.Time, after domain.Millis) (domain.Millis, bool) {
	for {
		if wall = t.ticks.Next(wall); wall.IsZero() {
			return 0, false
		}
		y, m, d := wall.Date()
		at := domain.MillisOf(instant(y, m, d, wall.Hour()*60+wall.Minute(), t.tickZone))
		if at > after {
			return at, true
		}
	}
}

func (v *validator) schedule(s *Schedule, t *Trigger, n *Names) {
	var err error
	if t.ticks, err = parseCron(s.Cron); err != nil {
		v.add(err.Error(), "on", "schedule", "cron")
	}
	t.tickZone = time.UTC
	if s.TimeZone != "" {
		zone, err := time.LoadLocation(s.TimeZone)
		if err != nil || s.TimeZone == "Local" {
			v.add(fmt.Sprintf("%q is no time zone such as Europe/Berlin", s.TimeZone), "on", "schedule", "time_zone")
		} else {
			t.tickZone = zone
		}
	}
	if s.Segment == "" {
		v.add("say the segment whose customers it is for", "on", "schedule", "segment")
		return
	}
	v.word("segment", s.Segment, n.Segments, "on", "schedule", "segment")
}

// Owned is the segment that belongs to the trigger: its name and its condition. ok
// is false where it needs none. The document must have been compiled.
func (d *Document) Owned() (name, condition string, ok bool) {
	a := d.On.Absence
	if a == nil {
		return "", "", false
	}
	of := "named(" + strconv.Quote(a.Name) + ")"
	if a.Meaning != "" {
		of = "meaning(" + strconv.Quote(a.Meaning) + ")"
	}
	long := " >= duration(" + strconv.Quote(a.For) + ")"
	switch a.Since {
	case "first":
		condition = "count(" + of + ") == 1 && since(first(" + of + "))" + long
	case "first_seen":
		condition = "count(" + of + ") == 0 && since(first_seen)" + long
	default:
		condition = "since(last(" + of + "))" + long
	}
	return domain.TriggerSegment(d.ID), condition, true
}

var sinces = []string{"last", "first", "first_seen"}

func (v *validator) absence(d *Document, n *Names) {
	a := d.On.Absence
	if (a.Name == "") == (a.Meaning == "") {
		v.add("say either its name or its meaning", "on", "absence")
	} else if a.Meaning != "" {
		v.word("meaning", a.Meaning, n.Meanings, "on", "absence", "meaning")
	}
	v.period(a.For, "on", "absence", "for")
	if a.Since != "" {
		v.word("point to count from", a.Since, sinces, "on", "absence", "since")
	}
	if len(v.problems) > 0 {
		return
	}
	_, text, _ := d.Owned()
	if _, err := condition.Compile(text, n.Env); err != nil {
		v.add(err.Error(), "on", "absence")
	}
}
