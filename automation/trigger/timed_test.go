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
