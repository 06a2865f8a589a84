package automation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"sojourn/automation/delivery"
	"sojourn/automation/trigger"
	"sojourn/condition"
	"sojourn/domain"
	"sojourn/domain/fact"
	"sojourn/eventstore"
)

// moment is what there was from an instant on.
type moment struct {
	at     domain.Millis
	people map[uuid.UUID]Customer
	owner  map[uuid.UUID]uuid.UUID
}

// remember keeps what there is now.
func (w *world) remember() {
	w.mu.Lock()
	defer w.mu.Unlock()
	m := moment{at: w.clock, people: map[uuid.UUID]Customer{}, owner: maps.Clone(w.owner)}
	for id, c := range w.people {
		copied := *c
		copied.Data.Traits = maps.Clone(c.Data.Traits)
		m.people[id] = copied
	}
	w.moments = append(w.moments, m)
}

// Then answers as of some times; the fake knows no other past than what it remembers.
func (w *world) Then(_ context.Context, _ eventstore.Store, id uuid.UUID, at []domain.Millis, _ bool, _ *condition.Needs) ([]*Customer, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = append(w.asked, len(at))
	if w.refuse != nil {
		if err := w.refuse(); err != nil {
			return nil, err
		}
	}
	all := make([]*Customer, len(at))
	for i := range at {
		var last *moment
		for j := range w.moments {
			if w.moments[j].at <= at[i] {
				last = &w.moments[j]
			}
		}
		if last == nil {
			continue
		}
		of := id
		for to, ok := last.owner[of]; ok; to, ok = last.owner[of] {
			of = to
		}
		if c, ok := last.people[of]; ok {
			all[i] = &c
		}
	}
	return all, nil
}

// planned is what became of each delivery of a trigger, in words: when it was
// decided, and sent or why not.
func planned(all []*fact.Delivery) []string {
	var out []string
	for _, d := range all {
		text := fmt.Sprintf("%s decided %s", d.First.Delivery, d.First.At)
		if d.State == fact.StateSuppressed {
			text += fmt.Sprintf(" suppressed %s at %s", d.Reason, d.Last.At)
		} else {
			text += fmt.Sprintf(" %s for %s", d.State, d.PlannedAt)
		}
		out = append(out, text)
	}
	slices.Sort(out)
	return out
}

// live are the deliveries of a trigger by the facts of the log.
func (w *world) live(id string) []*fact.Delivery {
	var all []*fact.Delivery
	for _, d := range fact.Fold(w.entries()).Deliveries() {
		if d.First.Trigger == id {
			all = append(all, d)
		}
	}
	return all
}

func (w *world) entries() []fact.Entry { return w.facts() }

func (w *world) dryRun(id string, from, to domain.Millis, known bool) []*fact.Delivery {
	w.t.Helper()
	all, _ := w.dryRunBy(&DryRun{Trigger: id, From: from, To: to, Known: known})
	return all
}

// dryRunBy is a dry run with its messages, in the order of its decisions.
func (w *world) dryRunBy(run *DryRun) (all []*fact.Delivery, messages []string) {
	w.t.Helper()
	before := len(w.facts())
	run.Messages = 1000
	run.Each = func(d *fact.Delivery, m *delivery.Message) error {
		all = append(all, d)
		if m != nil {
			messages = append(messages, string(m.Body))
		}
		return nil
	}
	if _, err := w.engine.DryRun(w.t.Context(), run); err != nil {
		w.t.Fatal(err)
	}
	if after := len(w.facts()); after != before {
		w.t.Fatalf("the dry run has appended: %d facts, then %d", before, after)
	}
	return all, messages
}

// A month of purchases, late ones too, with merges, withdrawals, another policy that
// says the same anew, consent given and taken, runs live; then a dry run of each
// trigger goes through it.
func TestADryRunSaysWhatWasDone(t *testing.T) {
	sent := map[string]int{}
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t)
		defer func() { _ = w.engine.Stop() }()
		on := trigger.On{Transition: &trigger.Transition{To: []string{"loyal"}}}
		hook := trigger.Do{Webhook: &trigger.Webhook{Destination: "shop"}}
		triggers := []trigger.Document{
			{ID: "plain", On: on, Limits: trigger.Limits{CoolDown: "3d", Holdout: 0.2}, Do: hook},
			{ID: "careful", On: on, Limits: trigger.Limits{
				Consent: &trigger.Consent{Trait: "ok"}, AtMost: &trigger.Count{Times: 2, Per: "10d"},
				Window: &trigger.Window{Days: []string{"mon", "wed", "fri"}, From: "09:00", To: "17:00"},
				Cap:    &trigger.Count{Times: 3, Per: "2d"},
			}, Do: hook},
			{ID: "there", On: on, WhileThere: true, Limits: trigger.Limits{QuietHours: &trigger.Hours{From: "18:00", To: "08:00"}}, Do: hook},
			{ID: "bought", On: trigger.On{Touchpoint: &trigger.Touchpoint{Meaning: "purchase"}}, Where: "event.properties.total >= 5", Limits: trigger.Limits{
				AtMost: &trigger.Count{Times: 2, Per: "5d"}, QuietHours: &trigger.Hours{From: "12:00", To: "14:00"},
			}, Do: hook},
			{ID: "daily", On: trigger.On{Schedule: &trigger.Schedule{Cron: "0 9 * * *", Segment: "vip"}}, Limits: trigger.Limits{
				AtMost: &trigger.Count{Times: 3, Per: "10d"}, QuietHours: &trigger.Hours{From: "08:00", To: "10:00"},
			}, Do: hook},
			{ID: "soon", On: trigger.On{PointsExpiring: &trigger.PointsExpiring{Programme: "club", Within: "7d", At: "20:30", TimeZone: "Europe/Berlin"}}, Limits: trigger.Limits{
				CoolDown: "2d", Window: &trigger.Window{From: "08:00", To: "19:00"},
			}, Do: hook},
		}
		for _, d := range triggers {
			w.apply(d)
		}
		if err := w.triggers.Set(t.Context(), Settings{Cap: &trigger.Count{Times: 2, Per: "2d"}}, ""); err != nil {
			t.Fatal(err)
		}
		w.settle()
		from := w.clock
		people := []*Customer{w.person("a"), w.person("b"), w.person("c"), w.person("d")}
		w.remember()
		type saying struct {
			c        *Customer
			revision uint64
			at       domain.Millis
			cause    string
		}
		var said []saying
		gone := map[*Customer]bool{}
		for range rapid.IntRange(1, 25).Draw(rt, "steps") {
			w.run(w.clock + domain.Millis(rapid.Int64Range(1, int64(30*domain.Day/25)).Draw(rt, "pause")))
			p := people[rapid.IntRange(0, 3).Draw(rt, "who")]
			if gone[p] {
				continue
			}
			switch rapid.IntRange(0, 8).Draw(rt, "what") {
			case 0, 1, 2: // a purchase, some of them late
				at := w.clock
				if rapid.Bool().Draw(rt, "late") {
					at -= domain.Millis(rapid.Int64Range(0, int64(2*domain.Day)).Draw(rt, "how late"))
				}
				p.Data.Stage = "loyal" // before the engine hears of the touchpoint
				id := w.touchAt(p, "Order Completed", fmt.Sprintf(`{"properties":{"total":%d}}`, rapid.IntRange(0, 9).Draw(rt, "total")), at)
				w.remember()
				cause := "touchpoint:" + id.String()
				said = append(said, saying{p, w.enters(p, "repeat", "loyal", at, cause), at, cause})
			case 3:
				p.Data.Stage = rapid.SampledFrom([]string{"loyal", "at_risk"}).Draw(rt, "stage")
			case 4:
				p.Data.Traits["ok"] = json.RawMessage(rapid.SampledFrom([]string{"true", "false"}).Draw(rt, "consent"))
			case 5: // late data: it does not hold any more, or a policy says it again
				if len(said) > 0 {
					s := said[rapid.IntRange(0, len(said)-1).Draw(rt, "which")]
					if gone[s.c] {
						continue
					}
					w.say(s.c, domain.TypeStageWithdrawn, map[string]any{"customer": s.c.ID, "revisions": []uint64{s.revision}})
					if rapid.Bool().Draw(rt, "again") {
						w.enters(s.c, "visitor", "loyal", s.at, s.cause)
					}
				}
			case 7, 8:
				segment := rapid.SampledFrom([]string{"vip", "trigger.soon"}).Draw(rt, "segment")
				if slices.Contains(p.Data.Segments, segment) {
					w.leaves(p, segment)
				} else {
					w.joins(p, segment)
				}
			case 6:
				q := people[rapid.IntRange(0, 3).Draw(rt, "with whom")]
				if q == p || gone[q] {
					continue
				}
				w.merge(p, q)
				gone[q] = true
				w.remember()
				for i := range said { // what was said of one is said of the other, restated
					if s := &said[i]; s.c == q {
						s.revision = w.say(p, domain.TypeStageEntered, map[string]any{
							"customer": p.ID, "from": "repeat", "to": "loyal", "at": s.at.String(), "reason": "so it is", "cause": s.cause, "news": false,
						})
						s.c = p
					}
				}
			}
			w.remember()
			w.settle()
		}
		w.wake(w.clock)
		to := w.clock + 1
		w.run(w.clock + 10*domain.Day)
		w.wake(w.clock)
		for _, d := range triggers {
			live := slices.DeleteFunc(w.live(d.ID), func(d *fact.Delivery) bool { return d.First.At >= to })
			for _, x := range live {
				if x.State == fact.StateDelivered {
					sent[d.ID]++
				}
			}
			want, got := planned(live), planned(w.dryRun(d.ID, from, to, true))
			if !slices.Equal(want, got) {
				rt.Fatalf("trigger %s: live\n  %s\ndry\n  %s", d.ID, strings.Join(want, "\n  "), strings.Join(got, "\n  "))
			}
			// However many read, and however far ahead, what is found is the same, in the
			// same order.
			for _, known := range []bool{true, false} {
				one, said := w.dryRunBy(&DryRun{Trigger: d.ID, From: from, To: to, Known: known, Workers: 1, window: 1})
				many, saidToo := w.dryRunBy(&DryRun{
					Trigger: d.ID, From: from, To: to, Known: known,
					Workers: rapid.IntRange(2, 8).Draw(rt, "workers"), window: rapid.SampledFrom([]int{2, 3, 7, windowCauses}).Draw(rt, "window"),
				})
				if !reflect.DeepEqual(one, many) || !slices.Equal(said, saidToo) {
					rt.Fatalf("trigger %s: one at a time\n  %s\nmany\n  %s", d.ID, strings.Join(planned(one), "\n  "), strings.Join(planned(many), "\n  "))
				}
			}
		}
	})
	for _, id := range []string{"plain", "careful", "there", "bought", "daily", "soon"} {
		if sent[id] == 0 {
			t.Errorf("the trigger %s has sent nothing in any month", id)
		}
	}
}

// What came after a decision in the same millisecond was not known to it.
func TestADryRunInOneMillisecond(t *testing.T) {
	w := newWorld(t)
	p := w.person("p")
	if err := w.triggers.Set(t.Context(), Settings{Cap: &trigger.Count{Times: 1, Per: "2d"}}, ""); err != nil {
		t.Fatal(err)
	}
	evening := day0 + domain.Day/3
	w.apply(welcome(trigger.Limits{Window: &trigger.Window{From: "20:00", To: "21:00"}}))
	w.apply(trigger.Document{
		ID: "seen", On: trigger.On{Touchpoint: &trigger.Touchpoint{Meaning: "engagement"}}, Do: trigger.Do{Webhook: &trigger.Webhook{Destination: "shop"}},
	})
	w.buys(p, "lead", "first_purchase")
	w.say(p, domain.TypeStageWithdrawn, map[string]any{"customer": p.ID, "revisions": []uint64{0}})
	w.remember()
	w.settle()
	w.run(evening - 1)
	w.mu.Lock()
	w.clock = evening
	w.mu.Unlock()
	w.touch(p, "Page Viewed", "")
	w.remember()
	w.settle() // the plan for the evening stands and fills the cap
	w.run(evening)
	live := planned(w.live("seen"))
	if len(live) != 1 || !strings.Contains(live[0], "suppressed global_cap") || !strings.Contains(planned(w.live("welcome"))[0], "withdrawn at "+evening.String()) {
		t.Fatalf("live %v, and of the plan %v", live, planned(w.live("welcome")))
	}
	if got := planned(w.dryRun("seen", day0, evening+1, true)); !slices.Equal(got, live) {
		t.Errorf("live %v, dry %v", live, got)
	}
}

// However many causes a customer has, few times are asked about at once, and what is
// planned for later only of those that meet the condition; no more is kept of them than
// a message may hold.
func TestADryRunAsksLittleAtOnce(t *testing.T) {
	w := newWorld(t)
	p := w.person("p")
	p.Facts.Accounts = map[string]condition.Touch{"acme": {At: day0}}
	w.remember()
	w.moments[0].at = domain.MinTime
	const causes, sends = 10*timesTogether + 3, 2
	for i := range causes {
		name := "Page Viewed"
		if i < sends {
			name = "Order Completed"
		}
		w.touchAt(p, name, "", day0+domain.Millis(i))
	}
	w.wake(day0 + domain.Day/2)
	doc := welcome(trigger.Limits{Window: &trigger.Window{From: "20:00", To: "21:00"}})
	doc.On = trigger.On{Touchpoint: &trigger.Touchpoint{Meaning: "engagement"}}
	doc.Where = `event.name == "Page Viewed" && event.type == "nothing" || event.name == "Order Completed"`
	for meaning, want := range map[string]int{"engagement": 0, "purchase": sends} {
		doc.On.Touchpoint = &trigger.Touchpoint{Meaning: meaning}
		w.apply(doc)
		w.asked = nil
		all, said := w.dryRunBy(&DryRun{Trigger: "welcome", From: day0, To: day0 + domain.Day})
		if len(all) != want || len(said) != want {
			t.Errorf("%s: %v, %q", meaning, planned(all), said)
		}
		for _, m := range said {
			if !strings.Contains(m, `"accounts":["acme"]`) {
				t.Errorf("the message %s", m)
			}
		}
		sum, most := 0, slices.Max(w.asked)
		for _, n := range w.asked {
			sum += n
		}
		offered := causes - sends
		if meaning == "purchase" {
			offered = sends
		}
		if most > timesTogether || sum != offered+want {
			t.Errorf("%s: asked about %d times, at most %d at once", meaning, sum, most)
		}
	}
}

// An error while it reads ahead, or that nobody waits any more, ends a dry run, and it
// asks nothing more.
func TestADryRunEnds(t *testing.T) {
	w := newWorld(t)
	w.remember()
	w.moments[0].at = domain.MinTime
	for i := range 100 {
		w.touch(w.person(fmt.Sprint(i)), "Order Completed", "")
	}
	w.remember()
	doc := welcome(trigger.Limits{})
	doc.On = trigger.On{Touchpoint: &trigger.Touchpoint{Meaning: "purchase"}}
	w.apply(doc)
	trouble := errors.New("the disk is gone")
	for _, known := range []bool{false, true} {
		for _, window := range []int{7, windowCauses} {
			for _, cancelled := range []bool{false, true} {
				ctx, cancel := context.WithCancel(t.Context())
				w.asked, w.refuse = nil, func() error {
					if !cancelled {
						return trouble
					}
					cancel()
					return nil
				}
				want := trouble
				if cancelled {
					want = context.Canceled
				}
				_, err := w.engine.DryRun(ctx, &DryRun{Trigger: "welcome", From: day0 - 1, To: day0 + domain.Day, Known: known, Workers: 2, window: window})
				if !errors.Is(err, want) || len(w.asked) > 4 {
					t.Errorf("known %v, window %d: %v, asked %d times", known, window, err, len(w.asked))
				}
				cancel()
			}
		}
	}
}

// Each stream of a customer is read once, and one for which there is no room every time;
// what is read is the same.
func TestReadOnce(t *testing.T) {
	w := newWorld(t)
	short, long := w.person("short"), w.person("long")
	w.touch(short, "Order Completed", "")
	for range 10 {
		w.touch(long, "Order Completed", fmt.Sprintf(`{"properties":{"note":%q}}`, strings.Repeat("x", 100)))
	}
	read := func(log streams, stream string, from uint64, dir eventstore.Direction) (all []eventstore.Recorded, err error) {
		for r, err := range log.ReadStream(t.Context(), stream, from, dir) {
			if err != nil {
				return all, err
			}
			all = append(all, r.Clone())
		}
		return all, nil
	}
	log := newReadOnce(w.store)
	log.room = 1000
	for range 2 {
		for _, stream := range []string{long.Subjects[0].Stream, short.Subjects[0].Stream, "none"} {
			for _, from := range []uint64{0, 3} {
				got, err := read(log, stream, from, eventstore.Forwards)
				want, wantErr := read(w.store, stream, from, eventstore.Forwards)
				if !errors.Is(err, wantErr) || !reflect.DeepEqual(got, want) {
					t.Errorf("%s from %d: %v, %v, not %v, %v", stream, from, got, err, want, wantErr)
				}
			}
			for _, err := range log.ReadStream(t.Context(), stream, 0, eventstore.Forwards) {
				if err == nil {
					break
				}
			}
		}
	}
	if n := len(log.streams[short.Subjects[0].Stream]); n != 1 || log.streams[long.Subjects[0].Stream] != nil {
		t.Errorf("it has kept %d events of the short one and %d of the long", n, len(log.streams[long.Subjects[0].Stream]))
	}
	w.touch(short, "Order Completed", "")
	if got, err := read(log, short.Subjects[0].Stream, 0, eventstore.Forwards); len(got) != 1 || err != nil {
		t.Errorf("it was read again: %d, %v", len(got), err)
	}
}

// As it occurred, what came late is taken when it happened, and what holds no more
// is not there.
func TestADryRunAsItOccurred(t *testing.T) {
	w := newWorld(t)
	p, q := w.person("a"), w.person("b")
	w.remember()
	late := w.touchAt(p, "Order Completed", "", w.clock-5*domain.Day)
	w.enters(p, "lead", "first_purchase", w.clock-5*domain.Day, "touchpoint:"+late.String())
	w.buys(q, "lead", "first_purchase")
	w.say(q, domain.TypeStageWithdrawn, map[string]any{"customer": q.ID, "revisions": []uint64{0}})
	w.moments[0].at = domain.MinTime // who they are was so all the while
	w.apply(welcome(trigger.Limits{Once: true}))
	all := w.dryRun("welcome", w.clock-10*domain.Day, w.clock+1, false)
	if len(all) != 1 || all[0].State != fact.StateDelivered || all[0].PlannedAt != w.clock-5*domain.Day {
		t.Errorf("%d: %v", len(all), planned(all))
	}
	if _, said := w.dryRunBy(&DryRun{Trigger: "welcome", From: w.clock - 10*domain.Day, To: w.clock + 1}); len(said) != 1 || !strings.Contains(said[0], p.ID.String()) {
		t.Errorf("messages %q", said)
	}
	// As known it is stale, and what was said and withdrawn was sent.
	all = w.dryRun("welcome", w.clock-10*domain.Day, w.clock+1, true)
	if len(all) != 2 || all[0].Reason != fact.Stale || all[1].State == fact.StateSuppressed && all[1].Reason != fact.Withdrawn {
		t.Errorf("%d: %v", len(all), planned(all))
	}
}
