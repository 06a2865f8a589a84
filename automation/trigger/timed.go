package trigger

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/robfig/cron/v3"

	"sojourn/condition"
	"sojourn/domain"
	"sojourn/domain/fact"
)

// TypeSchedule is the type of a change that a tick of a schedule is, for a customer
// in its segment.
const TypeSchedule = "schedule"

// TypeExpiring is the type of a change that a day is for a customer whose points
// expire soon.
const TypeExpiring = "points.expiring"

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

// Tick is the change that a time of NextTick is for each customer who is in a segment
// then. Of points that expire the cause is the day in the zone of the trigger, at
// whatever time of it that is.
func (t *Trigger) Tick(at domain.Millis) fact.Change {
	if s := t.On.Schedule; s != nil {
		return fact.Change{
			Type: TypeSchedule, Programme: s.Segment, At: at,
			Reason: "schedule " + s.Cron, Cause: "tick:" + at.String(),
		}
	}
	x := t.On.PointsExpiring
	return fact.Change{
		Type: TypeExpiring, Programme: x.Programme, Segment: domain.TriggerSegment(t.ID), At: at,
		Reason: fmt.Sprintf("%d points or more of %s expire within %s", max(x.AtLeast, 1), x.Programme, x.Within),
		Cause:  "day:" + at.Time().In(t.tickZone).Format(time.DateOnly),
	}
}

// Expiring are the points that the trigger is about; false where it is about others.
func (t *Trigger) Expiring() (x condition.Expiring, ok bool) {
	if t.On.PointsExpiring == nil {
		return x, false
	}
	within, err := ParsePeriod(t.On.PointsExpiring.Within)
	return condition.Expiring{Programme: t.On.PointsExpiring.Programme, Within: within}, err == nil
}

// Ticks is the segment whose customers it is for at times by the clock; false where it
// has no such times.
func (t *Trigger) Ticks() (segment string, ok bool) {
	switch {
	case t.On.Schedule != nil:
		return t.On.Schedule.Segment, true
	case t.On.PointsExpiring != nil:
		return domain.TriggerSegment(t.ID), true
	}
	return "", false
}

func (v *validator) zone(t *Trigger, name string, path ...string) {
	t.tickZone = time.UTC
	if name == "" {
		return
	}
	zone, err := time.LoadLocation(name)
	if err != nil || name == "Local" {
		v.add(fmt.Sprintf("%q is no time zone such as Europe/Berlin", name), path...)
		return
	}
	t.tickZone = zone
}

func (v *validator) schedule(s *Schedule, t *Trigger, n *Names) {
	var err error
	if t.ticks, err = parseCron(s.Cron); err != nil {
		v.add(err.Error(), "on", "schedule", "cron")
	}
	v.zone(t, s.TimeZone, "on", "schedule", "time_zone")
	if s.Segment == "" {
		v.add("say the segment whose customers it is for", "on", "schedule", "segment")
		return
	}
	v.word("segment", s.Segment, n.Segments, "on", "schedule", "segment")
}

// Owned is the segment that belongs to the trigger: its name and its condition. ok
// is false where it needs none. The document must have been compiled.
func (d *Document) Owned() (name, condition string, ok bool) {
	if x := d.On.PointsExpiring; x != nil {
		condition = fmt.Sprintf("expiring(%q, duration(%q)) >= %d", x.Programme, x.Within, max(x.AtLeast, 1))
		return domain.TriggerSegment(d.ID), condition, true
	}
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

func (v *validator) expiring(t *Trigger, n *Names) {
	x := t.On.PointsExpiring
	path := func(key string) []string { return []string{"on", "points_expiring", key} }
	if x.Programme == "" {
		v.add("name the programme", path("programme")...)
	} else if n.Programmes != nil {
		v.word("programme", x.Programme, slices.Sorted(maps.Keys(n.Programmes)), path("programme")...)
	}
	v.period(x.Within, path("within")...)
	if x.AtLeast < 0 {
		v.add(fmt.Sprintf("%d is not a number of points", x.AtLeast), path("at_least")...)
	}
	clock, err := time.Parse("15:04", cmp.Or(x.At, "09:00"))
	if err != nil {
		v.add(fmt.Sprintf("%q is no time of the day such as 08:30", x.At), path("at")...)
	}
	t.ticks, _ = parseCron(fmt.Sprintf("%d %d * * *", clock.Minute(), clock.Hour()))
	v.zone(t, x.TimeZone, path("time_zone")...)
	if len(v.problems) > 0 {
		return
	}
	_, text, _ := t.Owned()
	if _, err := condition.Compile(text, n.Env); err != nil {
		v.add(err.Error(), "on", "points_expiring")
	}
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
