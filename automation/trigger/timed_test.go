package trigger_test

import (
	"testing"
	"time"

	"sojourn/automation/trigger"
	"sojourn/condition"
	"sojourn/domain"
)

func scheduled(t *testing.T, cron, zone string) *trigger.Trigger {
	t.Helper()
	d := trigger.Document{
		ID: "a", On: trigger.On{Schedule: &trigger.Schedule{Cron: cron, Segment: "vip", TimeZone: zone}},
		Do: trigger.Do{Webhook: &trigger.Webhook{Destination: "crm"}},
	}
	c, err := trigger.Compile(&d, &trigger.Names{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// The clock of Berlin skips 02:00 to 03:00 on 2026-03-29, and has it twice on
// 2026-10-25.
func TestTicksOfASchedule(t *testing.T) {
	for name, c := range map[string]struct {
		cron, zone, after string
		want              []string
	}{
		"weekly":  {"0 9 * * mon", "", "2026-03-02T09:00:00Z", []string{"2026-03-09T09:00:00Z", "2026-03-16T09:00:00Z"}},
		"zone":    {"0 9 * * *", "Europe/Berlin", "2026-03-28T00:00:00Z", []string{"2026-03-28T08:00:00Z", "2026-03-29T07:00:00Z"}},
		"skipped": {"30 2 * * *", "Europe/Berlin", "2026-03-28T02:00:00Z", []string{"2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"}},
		"twice":   {"30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", []string{"2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"}},
		"hourly":  {"0 * * * *", "Europe/Berlin", "2026-10-24T23:30:00Z", []string{"2026-10-25T00:00:00Z", "2026-10-25T02:00:00Z"}},
		"merged":  {"0,30 2,3 * * *", "Europe/Berlin", "2026-03-29T00:30:00Z", []string{"2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z", "2026-03-30T00:00:00Z"}},
		"between": {"0 * * * *", "Europe/Berlin", "2026-10-25T01:10:00Z", []string{"2026-10-25T02:00:00Z"}},
	} {
		s := scheduled(t, c.cron, c.zone)
		at, err := time.Parse(time.RFC3339, c.after)
		if err != nil {
			t.Fatal(err)
		}
		after := domain.MillisOf(at)
		for _, want := range c.want {
			next, ok := s.NextTick(after)
			if got := next.Time().UTC().Format(time.RFC3339); !ok || got != want {
				t.Errorf("%s: after %s comes %s, not %s", name, after, got, want)
			}
			after = next
		}
	}
}

func TestAnAbsenceIsASegment(t *testing.T) {
	for since, want := range map[string]string{
		"":           `since(last(meaning("purchase"))) >= duration("30d")`,
		"first":      `count(meaning("purchase")) == 1 && since(first(meaning("purchase"))) >= duration("30d")`,
		"first_seen": `count(meaning("purchase")) == 0 && since(first_seen) >= duration("30d")`,
	} {
		d := trigger.Document{
			ID: "quiet", On: trigger.On{Absence: &trigger.Absence{Meaning: "purchase", For: "30d", Since: since}},
			Do: trigger.Do{Webhook: &trigger.Webhook{Destination: "crm"}},
		}
		c, err := trigger.Compile(&d, &trigger.Names{})
		if err != nil {
			t.Fatal(err)
		}
		name, text, ok := c.Owned()
		if !ok || name != "trigger.quiet" || text != want {
			t.Errorf("%q: %s, %s", since, name, text)
		}
		if _, err := condition.Compile(text, condition.Env{}); err != nil {
			t.Error(err)
		}
		o := trigger.Offer{}
		o.Type, o.Programme = "segment.entered", name
		if !c.Matches(&o) {
			t.Error("entering it does not start the trigger")
		}
		o.Programme = "trigger.other"
		if c.Matches(&o) {
			t.Error("another's segment starts it")
		}
	}
}

// Points that expire are a segment, too, asked about once a day: whatever the time of
// the day, the day in the trigger's zone is the cause.
func TestPointsThatExpireAreASegment(t *testing.T) {
	compile := func(x trigger.PointsExpiring) *trigger.Trigger {
		t.Helper()
		d := trigger.Document{ID: "soon", On: trigger.On{PointsExpiring: &x}, Do: trigger.Do{Webhook: &trigger.Webhook{Destination: "crm"}}}
		c, err := trigger.Compile(&d, &trigger.Names{Env: condition.Env{Programmes: map[string][]string{"club": nil}}})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := compile(trigger.PointsExpiring{Programme: "club", Within: "14d"})
	if name, text, ok := c.Owned(); !ok || name != "trigger.soon" || text != `expiring("club", duration("14d")) >= 1` {
		t.Errorf("%s, %s", name, text)
	}
	if x, ok := c.Expiring(); !ok || x != (condition.Expiring{Programme: "club", Within: 14 * domain.Day}) {
		t.Errorf("%+v", x)
	}
	c = compile(trigger.PointsExpiring{Programme: "club", Within: "7d", AtLeast: 100, At: "08:30", TimeZone: "Pacific/Auckland"})
	if _, text, _ := c.Owned(); text != `expiring("club", duration("7d")) >= 100` {
		t.Error(text)
	}
	at, ok := c.NextTick(domain.MillisOf(time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)))
	if got := at.String(); !ok || got != "2026-03-02T19:30:00.000Z" { // the 3rd there
		t.Errorf("it comes at %s", got)
	}
	if ch := c.Tick(at); ch.Type != "points.expiring" || ch.Cause != "day:2026-03-03" || ch.At != at || !ch.Shared() {
		t.Errorf("%+v", ch)
	}
	later := compile(trigger.PointsExpiring{Programme: "club", Within: "9d", At: "21:00", TimeZone: "Pacific/Auckland"})
	next, _ := later.NextTick(at)
	a, b := c.Tick(at), later.Tick(next)
	if next == at || a.Key() != b.Key() {
		t.Errorf("another time of the same day is another cause: %+v, %+v", a, b)
	}
	// As it was kept before a change said which programme it is about.
	was := a
	was.Programme, was.Segment = "trigger.soon", ""
	if a.Programme != "club" || a.Key() != was.Key() {
		t.Errorf("%+v is another cause than %+v", a, was)
	}
	o := trigger.Offer{Change: a}
	if !c.Matches(&o) {
		t.Error("the day does not start it")
	}
	o.Segment = "trigger.other"
	if c.Matches(&o) {
		t.Error("another's day starts it")
	}
}
