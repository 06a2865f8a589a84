package automation

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"sojourn/automation/trigger"
	"sojourn/condition"
	"sojourn/domain"
	"sojourn/domain/fact"
	"sojourn/eventstore"
)

// daily calls the shop at nine about everybody in vip.
func daily(limits trigger.Limits) trigger.Document {
	return trigger.Document{
		ID: "daily", On: trigger.On{Schedule: &trigger.Schedule{Cron: "0 9 * * *", Segment: "vip"}},
		Limits: limits, Do: trigger.Do{Webhook: &trigger.Webhook{Destination: "shop"}},
	}
}

// joins puts a customer into a segment, and leaves takes it out, as the views and the
// log say.
func (w *world) joins(c *Customer, segment string) uint64 {
	w.t.Helper()
	w.mu.Lock()
	c.Data.Segments = append(slices.Clone(c.Data.Segments), segment)
	at := w.clock
	w.mu.Unlock()
	return w.say(c, domain.TypeSegmentEntered, map[string]any{
		"customer": c.ID, "segment": segment, "at": at.String(), "cause": "touchpoint:" + uuid.NewString(), "news": true,
	})
}

func (w *world) leaves(c *Customer, segment string) {
	w.t.Helper()
	w.mu.Lock()
	c.Data.Segments = slices.DeleteFunc(slices.Clone(c.Data.Segments), func(s string) bool { return s == segment })
	at := w.clock
	w.mu.Unlock()
	w.say(c, domain.TypeSegmentLeft, map[string]any{
		"customer": c.ID, "segment": segment, "at": at.String(), "cause": "touchpoint:" + uuid.NewString(), "news": true,
	})
}

// wake lets time pass up to an instant, and something come, as the engine's timers
// are not the world's.
func (w *world) wake(until domain.Millis) {
	w.t.Helper()
	w.run(until)
	w.append("waking", eventstore.NewEvent{ID: uuid.New(), Type: "something.v1", Data: []byte(`{}`)})
	w.run(until)
}

// counts are how many facts there are of each kind and reason.
func (w *world) counts() string {
	w.t.Helper()
	w.settle()
	all := map[string]int{}
	for _, f := range w.facts() {
		if f.Kind == fact.Planned || f.Kind == fact.Suppressed {
			all[f.Kind.String()+string(f.Reason)]++
		}
	}
	return fmt.Sprint(all)
}

const nine = 21 * domain.Day / 24 // from day0, noon, to nine

func TestASchedule(t *testing.T) {
	w := newWorld(t)
	p, q, r := w.person("p"), w.person("q"), w.person("r")
	w.joins(p, "vip")
	w.joins(q, "vip")
	w.apply(daily(trigger.Limits{}))
	w.wake(day0 + nine - 1)
	w.expect("")
	w.wake(day0 + nine)
	if got := w.counts(); got != "map[planned:2]" || len(w.sent) != 2 {
		t.Fatalf("at nine: %s, %d sent", got, len(w.sent))
	}
	for _, f := range w.facts() {
		if f.Change != nil && (f.Change.Type != "schedule" || f.Change.Programme != "vip" || f.Change.At != day0+nine || f.Change.Cause != "tick:2026-03-03T09:00:00.000Z") {
			t.Errorf("the change is %+v", f.Change)
		}
	}
	// Once, whatever crashes and whoever joins later on the same day; an edit is no new
	// tick.
	w.crash()
	w.joins(r, "vip")
	w.apply(daily(trigger.Limits{CoolDown: "1h"}))
	w.wake(day0 + nine + domain.Day - 1)
	if got := w.counts(); got != "map[planned:2]" {
		t.Fatalf("before the next: %s", got)
	}
	w.wake(day0 + nine + domain.Day)
	if got := w.counts(); got != "map[planned:5]" || len(w.sent) != 5 {
		t.Fatalf("the next day: %s, %d sent", got, len(w.sent))
	}
}

// What was missed is taken up once each while it is fresh; what is older is on record.
func TestTicksMissedWhileDown(t *testing.T) {
	w := newWorld(t)
	w.joins(w.person("p"), "vip")
	w.apply(daily(trigger.Limits{Freshness: "2d"}))
	if err := w.engine.Stop(); err != nil {
		t.Fatal(err)
	}
	w.clock = day0 + nine + 4*domain.Day + 1000 // five ticks
	w.start()
	w.wake(w.clock + 1000)
	if got := w.counts(); got != "map[planned:2 suppressedstale:3]" || len(w.sent) != 2 {
		t.Errorf("%s, %d sent", got, len(w.sent))
	}
	w.crash()
	w.wake(w.clock + 1000)
	if got := w.counts(); got != "map[planned:2 suppressedstale:3]" {
		t.Errorf("after a crash: %s", got)
	}
	if _, err := w.triggers.Pause(t.Context(), "daily", "", ""); err != nil {
		t.Fatal(err)
	}
	w.wake(day0 + nine + 5*domain.Day)
	if _, err := w.triggers.Resume(t.Context(), "daily", "", ""); err != nil {
		t.Fatal(err)
	}
	w.wake(day0 + nine + 6*domain.Day)
	if got := w.counts(); got != "map[planned:3 suppressedpaused:1 suppressedstale:3]" {
		t.Errorf("after a pause: %s", got)
	}
}

// A tick whose customers are half on record is finished, and a segment that is being
// computed is waited for; other triggers go on meanwhile.
func TestATickIsFinished(t *testing.T) {
	w := newWorld(t)
	for i := range 2*tickCustomers + 10 {
		w.joins(w.person(fmt.Sprint(i)), "vip")
	}
	w.apply(daily(trigger.Limits{}))
	w.apply(welcome(trigger.Limits{}))
	w.mu.Lock()
	w.computing = true
	w.mu.Unlock()
	w.wake(day0 + nine)
	p := w.person("other")
	w.buys(p, "lead", "first_purchase")
	w.wake(w.clock + 1000)
	if got := w.counts(); got != "map[planned:1]" {
		t.Fatalf("while it is computed: %s", got)
	}
	if err := w.engine.Stop(); err != nil {
		t.Fatal(err)
	}
	// A crash has left a part in the log.
	var some []uuid.UUID
	for id, c := range w.people {
		if len(c.Data.Segments) > 0 && len(some) < tickCustomers {
			some = append(some, id)
		}
	}
	at := domain.Millis(day0 + nine)
	d := daily(trigger.Limits{})
	compiled, err := trigger.Compile(&d, &trigger.Names{})
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(tick{Change: compiled.Tick(at), Part: 1, Customers: some})
	if err != nil {
		t.Fatal(err)
	}
	w.append(tickStreams+"daily", eventstore.NewEvent{ID: uuid.New(), Type: typeTick, Data: data})
	w.computing = false
	w.start()
	w.wake(w.clock + 1000)
	if got, want := w.counts(), fmt.Sprintf("map[planned:%d]", 2*tickCustomers+11); got != want {
		t.Errorf("%s, not %s", got, want)
	}
}

// A customer who was sent to under another id is not sent to again, in a merge and
// after a split; who was not in the segment after all is not sent to.
func TestATickAfterAMergeAndASplit(t *testing.T) {
	w := newWorld(t)
	p, q := w.person("p"), w.person("q")
	w.joins(p, "vip")
	revision := w.joins(q, "vip")
	w.apply(daily(trigger.Limits{QuietHours: &trigger.Hours{From: "08:00", To: "12:00"}}))
	w.wake(day0 + nine)
	if got := w.counts(); got != "map[planned:2]" {
		t.Fatal(got)
	}
	w.wake(w.clock + 1000)
	// Late data: q never was in it. p has moved on, and is sent to.
	w.say(q, domain.TypeSegmentWithdrawn, map[string]any{"customer": q.ID, "revisions": []uint64{revision}})
	w.leaves(p, "vip")
	w.wake(day0 + domain.Day)
	if got := w.counts(); got != "map[planned:2 suppressedwithdrawn:1]" || len(w.sent) != 1 {
		t.Fatalf("%s, %d sent", got, len(w.sent))
	}
	// The tick again, under the ids that there are by now: of q, who has borne p's, and
	// of p merged into another.
	first := w.facts()[0].Change
	part := func(n int, id uuid.UUID) {
		data, err := json.Marshal(tick{Change: *first, Part: n, Customers: []uuid.UUID{id}, Done: true})
		if err != nil {
			t.Fatal(err)
		}
		w.append(tickStreams+"daily", eventstore.NewEvent{ID: uuid.New(), Type: typeTick, Data: data})
		w.wake(w.clock + 1000)
	}
	split := w.person("split")
	split.Been = []uuid.UUID{p.ID}
	part(6, split.ID)
	merged := w.person("merged")
	w.merge(merged, p)
	part(7, merged.ID)
	if got := w.counts(); got != "map[planned:2 suppressedwithdrawn:1]" {
		t.Errorf("again: %s", got)
	}
	stranger := w.person("stranger")
	part(8, stranger.ID)
	if got := w.counts(); got != "map[planned:3 suppressedwithdrawn:1]" {
		t.Errorf("another customer: %s", got)
	}
}

// Those who are in a segment by its change are offered where that is asked for.
func TestExistingMembersAreAskedFor(t *testing.T) {
	w := newWorld(t)
	p, q := w.person("p"), w.person("q")
	w.joins(p, "vip")
	d := trigger.Document{
		ID: "vips", On: trigger.On{Segment: &trigger.Segment{Entered: "vip"}},
		Do: trigger.Do{Webhook: &trigger.Webhook{Destination: "shop"}},
	}
	w.clock += 1000
	w.apply(d)
	w.wake(w.clock + 1000)
	w.expect("")
	ask := func(position eventstore.Position) {
		t.Helper()
		change := &SegmentChange{At: w.clock, Position: position}
		if _, applied, err := w.triggers.Apply(t.Context(), Proposal{Document: d, Existing: change}); err != nil || !applied {
			t.Fatalf("%v, %v", applied, err)
		}
		w.wake(w.clock + 1000)
	}
	ask(7)
	w.expect(once)
	if c := w.facts()[0].Change; c.Type != "segment.entered" || c.Programme != "vip" || c.Cause != "segment:7" {
		t.Errorf("the change is %+v", c)
	}
	ask(7)
	w.crash()
	w.wake(w.clock + 1000)
	w.expect(once)
	w.joins(q, "vip")
	w.wake(w.clock + 1000)
	w.expect(once + " " + once)
	ask(99)
	if got := w.counts(); got != "map[planned:4]" {
		t.Error(got)
	}
	w.remember()
	w.moments[0].at = domain.MinTime
	want := planned(w.live("vips"))
	if got := planned(w.dryRun("vips", day0+1, w.clock+1, true)); !slices.Equal(want, got) {
		t.Errorf("live\n  %s\ndry\n  %s", strings.Join(want, "\n  "), strings.Join(got, "\n  "))
	}
}

// A dry run as it was learnt says what was done, and of a schedule that was not in
// force what would have been.
func TestADryRunOfASchedule(t *testing.T) {
	w := newWorld(t)
	from := w.clock
	p, q := w.person("p"), w.person("q")
	w.remember()
	w.moments[0].at = domain.MinTime
	revision := w.joins(p, "vip")
	w.wake(from + nine - 1000)
	w.joins(q, "vip")
	w.remember()
	w.apply(daily(trigger.Limits{QuietHours: &trigger.Hours{From: "08:00", To: "12:00"}, AtMost: &trigger.Count{Times: 2, Per: "30d"}}))
	w.wake(from + nine + 1000)
	w.say(p, domain.TypeSegmentWithdrawn, map[string]any{"customer": p.ID, "revisions": []uint64{revision}})
	for i := range domain.Millis(4) {
		w.wake(from + nine + 1000 + i*domain.Day)
		w.wake(from + (i+1)*domain.Day)
		if i == 0 { // it was not in the segment by what is known since
			w.mu.Lock()
			p.Data.Segments = nil
			w.mu.Unlock()
		}
	}
	if got := w.counts(); got != "map[planned:3 suppressedat_most:2 suppressedwithdrawn:1]" {
		t.Fatal(got)
	}
	to := w.clock + 1
	want, got := planned(w.live("daily")), planned(w.dryRun("daily", from, to, true))
	if !slices.Equal(want, got) {
		t.Errorf("live\n  %s\ndry\n  %s", strings.Join(want, "\n  "), strings.Join(got, "\n  "))
	}
	// As it occurred, p was never in.
	if all := w.dryRun("daily", from, to, false); len(all) != 4 || all[0].First.Customer != q.ID.String() || all[3].Reason != fact.AtMost {
		t.Errorf("as it occurred: %v", planned(all))
	}
	// At ten it would have been the same, an hour later.
	d := daily(trigger.Limits{})
	d.ID, d.On.Schedule.Cron = "ten", "0 10 * * *"
	w.apply(d)
	all := w.dryRun("ten", from, to, true)
	if len(all) != 4 || all[0].PlannedAt != from+nine+domain.Day/24 {
		t.Errorf("at ten: %v", planned(all))
	}
}

// soon calls the shop at nine about everybody whose points expire soon.
func soon(at string) trigger.Document {
	return trigger.Document{
		ID: "soon", On: trigger.On{PointsExpiring: &trigger.PointsExpiring{Programme: "club", Within: "14d", AtLeast: 100, At: at}},
		Do: trigger.Do{Webhook: &trigger.Webhook{Destination: "shop"}},
	}
}

// One delivery a customer and day, whatever crashes, who merges and when the trigger is
// edited; who had no such points by what is known at the send gets none.
func TestPointsExpiring(t *testing.T) {
	w := newWorld(t)
	p, q, r := w.person("p"), w.person("q"), w.person("r")
	expiring := condition.Expiring{Programme: "club", Within: 14 * domain.Day}
	p.Facts.Expiring = map[condition.Expiring][]condition.Step[int64]{expiring: {{At: day0, Value: 120}, {At: day0 + 2*domain.Day, Value: 0}}}
	w.joins(p, "trigger.soon")
	w.joins(q, "trigger.soon")
	w.apply(soon(""))
	w.wake(day0 + nine - 1)
	w.expect("")
	w.wake(day0 + nine)
	if got := w.counts(); got != "map[planned:2]" || len(w.sent) != 2 {
		t.Fatalf("at nine: %s, %d sent", got, len(w.sent))
	}
	for _, f := range w.facts() {
		if f.Change != nil && (f.Change.Type != "points.expiring" || f.Change.Programme != "club" || f.Change.At != day0+nine || f.Change.Cause != "day:2026-03-03") {
			t.Errorf("the change is %+v", f.Change)
		}
	}
	if !slices.ContainsFunc(w.sent, func(s sending) bool { return strings.Contains(s.body, `"after":{"points":120,"programme":"club"}`) }) {
		t.Errorf("nobody is told how many: %s", w.sent[0].body)
	}
	if tested, err := w.engine.Test(t.Context(), "soon", p.ID); err != nil || tested.Suppress != "" || tested.Change.Programme != "club" || !strings.Contains(string(tested.Message.Body), `"points":120`) {
		t.Errorf("tried on p: %+v, %v", tested, err)
	}
	if _, err := w.engine.Test(t.Context(), "soon", r.ID); !errors.Is(err, ErrNoChange) {
		t.Errorf("tried on r: %v", err)
	}
	// Another time of the same day is no other cause, for whoever was there.
	w.crash()
	w.merge(p, q)
	w.joins(r, "trigger.soon")
	w.apply(soon("21:00"))
	w.wake(day0 + nine + domain.Day/2)
	if got := w.counts(); got != "map[planned:3]" {
		t.Fatalf("in the evening: %s", got)
	}
	// The next day, p for both; while the call waits it shows that r had spent the points.
	d := soon("21:00")
	d.Limits.QuietHours = &trigger.Hours{From: "20:00", To: "22:00"}
	w.apply(d)
	w.wake(day0 + nine + domain.Day/2 + domain.Day)
	if got := w.counts(); got != "map[planned:5]" || len(w.sent) != 3 {
		t.Fatalf("the next evening: %s, %d sent", got, len(w.sent))
	}
	w.say(r, domain.TypeSegmentWithdrawn, map[string]any{"customer": r.ID, "revisions": []uint64{0}})
	w.wake(day0 + nine + domain.Day/2 + domain.Day + domain.Day/24)
	if got := w.counts(); got != "map[planned:5 suppressedwithdrawn:1]" || len(w.sent) != 4 {
		t.Fatalf("at ten: %s, %d sent", got, len(w.sent))
	}
}

// Who spends the points between the tick and the send has merely moved on.
func TestPointsSpentBeforeTheSend(t *testing.T) {
	w := newWorld(t)
	p := w.person("p")
	d := soon("")
	d.Limits.QuietHours = &trigger.Hours{From: "08:00", To: "10:00"}
	for day, whileThere := range []bool{false, true} {
		w.joins(p, "trigger.soon")
		d.WhileThere = whileThere
		w.apply(d)
		at := day0 + nine + domain.Millis(day)*domain.Day
		w.wake(at + domain.Day/48)
		w.leaves(p, "trigger.soon")
		w.wake(at + domain.Day/24)
		if want := []string{"map[planned:1]", "map[planned:2 suppressedmoved_on:1]"}[day]; w.counts() != want || len(w.sent) != 1 {
			t.Errorf("on day %d: %s, %d sent", day, w.counts(), len(w.sent))
		}
	}
}
