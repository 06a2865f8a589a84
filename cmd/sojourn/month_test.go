package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"

	"sojourn/automation"
	"sojourn/automation/delivery"
	"sojourn/automation/trigger"
	"sojourn/domain"
	"sojourn/domain/fact"
	"sojourn/domain/policy"
	"sojourn/eventstore"
	"sojourn/eventstore/pebblestore"
	"sojourn/ingest"
	"sojourn/projections"
	"sojourn/warehouse"
	"sojourn/warehouse/chdb/chdbtest"
)

// month is a server in a time of its own: the log, the views and the engine are the
// real ones, and the deliveries arrive where they are sent.
type month struct {
	t      *testing.T
	store  *pebblestore.Store
	views  *projections.Views
	engine *automation.Engine
	intake *ingest.Service

	mu      sync.Mutex
	clock   time.Time
	waiters map[chan time.Time]time.Time
	jobs    []delivery.Job
	sent    int
}

func newMonth(t *testing.T, start time.Time) *month {
	t.Helper()
	m := &month{t: t, clock: start, waiters: map[chan time.Time]time.Time{}}
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var err error
	m.store, err = pebblestore.Open("log", pebblestore.Options{FS: vfs.NewMem(), Now: m.now})
	ok(err)
	t.Cleanup(func() { ok(m.store.Close()) })
	engine := chdbtest.Start(t)
	db, err := warehouse.Open(t.Context(), warehouse.Config{Socket: engine.Socket(), Hold: engine.Hold})
	ok(err)
	t.Cleanup(func() { _ = db.Close() })
	ok(db.Migrate(t.Context()))
	p := policy.Default()
	p.Lifecycle.AtRiskDays, p.Lifecycle.ChurnedDays = 8, 16
	p.Currency = "EUR"
	p = p.Expanded()
	days := 12 // after which points expire
	p.Loyalty.Programmes[0].Expiry.Days = &days
	_, _, err = projections.ApplyPolicyFile(t.Context(), m.store, p, "")
	ok(err)
	keyer := domain.NewKeyer([]byte("a key of 32 bytes for the streams"))
	discard := slog.New(slog.DiscardHandler)
	m.views, err = projections.Start(t.Context(), projections.Config{
		Store: m.store, DB: db, Keyer: keyer, Dir: t.TempDir(), FlushInterval: 5 * time.Millisecond, Now: m.now, Logger: discard,
	})
	ok(err)
	t.Cleanup(func() { ok(m.views.Stop()) })
	m.intake, err = ingest.New(ingest.Config{
		Log: m.store, Index: m.store, Keyer: keyer, Clock: m.now,
		Nobody: func(value string) bool { return m.views.InForce().Identity().Nobody(value) },
	})
	ok(err)
	m.engine, err = automation.New(automation.Config{
		Store: m.store, Views: &customers{views: m.views}, Queue: m, Alone: true, Now: m.now, After: m.after,
		Triggers: automation.NewTriggers(m.store, func(d *trigger.Document) (*trigger.Trigger, error) {
			return trigger.Compile(d, &trigger.Names{})
		}),
		Random: func() float64 { return 0 },
	})
	ok(err)
	m.engine.Start(t.Context())
	t.Cleanup(func() { ok(m.engine.Stop()) })
	return m
}

func (m *month) now() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.clock
}

// after is a timer of the month's own time.
func (m *month) after(d time.Duration) <-chan time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := make(chan time.Time, 1)
	m.waiters[c] = m.clock.Add(d)
	return c
}

// Submit is the engine's queue.
func (m *month) Submit(jobs ...delivery.Job) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.jobs = append(m.jobs, jobs...)
}

// set moves the clock, and waits until the views and the engine have seen the time.
func (m *month) set(at time.Time) {
	m.t.Helper()
	m.mu.Lock()
	m.clock = at
	maps.DeleteFunc(m.waiters, func(c chan time.Time, due time.Time) bool {
		if due.After(at) {
			return false
		}
		c <- at
		return true
	})
	m.mu.Unlock()
	// The engine looks at its ticks before it has dealt with this.
	if _, err := m.store.Append(m.t.Context(), "waking", eventstore.Any{}, eventstore.NewEvent{ID: uuid.New(), Type: "waking.v1", Data: []byte(`{}`)}); err != nil {
		m.t.Fatal(err)
	}
	m.settle()
}

// settle waits until everything that follows from the log and the time is in the log.
func (m *month) settle() {
	m.t.Helper()
	deadline := time.Now().Add(time.Minute)
	now := domain.MillisOf(m.now())
	for {
		head, err := m.store.Head(m.t.Context())
		if err != nil {
			m.t.Fatal(err)
		}
		s := m.views.Status()
		policies := m.views.Policies()
		if s.Err == "" && s.Building == 0 && s.PolicyVersion == policies[len(policies)-1].Version && s.Position >= head && s.Clock >= now {
			ctx, cancel := context.WithDeadline(m.t.Context(), deadline)
			err := m.engine.WaitFor(ctx, head)
			cancel()
			if err != nil {
				m.t.Fatalf("the engine stands still: %v, %+v", err, m.engine.State())
			}
			if again, err := m.store.Head(m.t.Context()); err == nil && again == head {
				return
			}
			continue
		}
		if time.Now().After(deadline) {
			m.t.Fatalf("the views stand still: %+v at %s, the log ends at %d", s, now, head)
		}
		ctx, cancel := context.WithTimeout(m.t.Context(), time.Millisecond)
		<-ctx.Done()
		cancel()
	}
}

// run lets time pass, and attempts what is due on the way.
func (m *month) run(until time.Time) {
	m.t.Helper()
	for {
		m.mu.Lock()
		slices.SortStableFunc(m.jobs, func(a, b delivery.Job) int { return a.Due.Compare(b.Due) })
		if len(m.jobs) == 0 || m.jobs[0].Due.After(until) {
			m.mu.Unlock()
			m.set(until)
			m.mu.Lock()
			more := slices.ContainsFunc(m.jobs, func(j delivery.Job) bool { return !j.Due.After(until) })
			m.mu.Unlock()
			if !more {
				return
			}
			continue
		}
		j := m.jobs[0]
		m.jobs = m.jobs[1:]
		late := j.Due.Before(m.clock)
		m.mu.Unlock()
		if !late {
			m.set(j.Due)
		}
		a, err := m.engine.Prepare(m.t.Context(), j, &delivery.Destination{Name: j.Destination})
		if err != nil {
			m.t.Fatal(err)
		}
		if a == nil {
			continue
		}
		m.sent++
		if err := m.engine.Done(m.t.Context(), j, a, delivery.Outcome{Delivered: true, Status: 200}); err != nil {
			m.t.Fatal(err)
		}
		m.settle()
	}
}

// send takes a message in.
func (m *month) send(message map[string]any) {
	m.t.Helper()
	text, err := json.Marshal(message)
	if err != nil {
		m.t.Fatal(err)
	}
	parsed, err := ingest.ParseMessage(text)
	if err != nil {
		m.t.Fatal(err)
	}
	out, err := m.intake.Ingest(m.t.Context(), &ingest.Batch{Source: "shop", Messages: []ingest.Message{parsed}}, 0)
	if err != nil || out.Rejected > 0 {
		m.t.Fatalf("%s: %+v, %v", text, out, err)
	}
}

// live are the deliveries of a trigger by the facts in the log, in words.
func (m *month) live(id string, before domain.Millis) []string {
	m.t.Helper()
	var entries []fact.Entry
	for r, err := range m.store.ReadAll(m.t.Context(), 0) {
		if err != nil {
			m.t.Fatal(err)
		}
		kind, ok := fact.KindOf(r.Type)
		if !ok {
			continue
		}
		f, err := fact.Decode(kind, r.Data)
		if err != nil {
			m.t.Fatal(err)
		}
		entries = append(entries, fact.Entry{Fact: f, Position: uint64(r.Position)})
	}
	var all []string
	for _, d := range fact.Fold(entries).Deliveries() {
		if d.First.Trigger == id && d.First.At < before {
			all = append(all, became(d))
		}
	}
	slices.Sort(all)
	return all
}

func (m *month) dry(id string, from, to domain.Millis) []string {
	m.t.Helper()
	var all []string
	_, err := m.engine.DryRun(m.t.Context(), &automation.DryRun{
		Trigger: id, From: from, To: to, Known: true,
		Each: func(d *fact.Delivery, _ *delivery.Message) error {
			all = append(all, became(d))
			return nil
		},
	})
	if err != nil {
		m.t.Fatal(err)
	}
	slices.Sort(all)
	return all
}

// became is what became of a delivery: when it was decided on, and sent or why not.
func became(d *fact.Delivery) string {
	if d.State == fact.StateSuppressed {
		return fmt.Sprintf("%s decided %s suppressed %s at %s", d.First.Delivery, d.First.At, d.Reason, d.Last.At)
	}
	return fmt.Sprintf("%s decided %s %s for %s", d.First.Delivery, d.First.At, d.State, d.PlannedAt)
}

// monthTriggers act on all kinds of changes, with all kinds of limits.
const monthTriggers = `
{"id":"first","on":{"transition":{"to":["first_purchase"]}},"limits":{"holdout":0.3}}
{"id":"care","on":{"transition":{"to":["at_risk"]}},"while_there":true,"limits":{"cool_down":"6d","quiet_hours":{"from":"18:00","to":"08:00"}}}
{"id":"back","on":{"transition":{"to":["won_back","repeat"]}},"limits":{"consent":{"trait":"ok"},"at_most":{"times":1,"per":"10d"}}}
{"id":"keen","on":{"segment":{"entered":"keen"}},"limits":{"send_window":{"days":["mon","wed","fri"],"from":"09:00","to":"17:00"}}}
{"id":"off","on":{"segment":{"left":"keen"}},"limits":{"cap":{"times":2,"per":"2d"}}}
{"id":"seen","on":{"touchpoint":{"name":"Product Viewed"}},"where":"count(meaning(\"purchase\")) >= 1 && event.properties.price > 10","limits":{"at_most":{"times":2,"per":"5d"}}}
{"id":"mood","on":{"satisfaction":{"to":["unhappy"]}},"limits":{"once":true}}
{"id":"daily","on":{"schedule":{"cron":"0 9 * * *","segment":"keen"}},"limits":{"at_most":{"times":3,"per":"8d"}}}
{"id":"gone","on":{"absence":{"meaning":"purchase","for":"5d","since":"last"}}}
{"id":"points","on":{"points_expiring":{"programme":"default","within":"4d","at_least":30}},"limits":{"cool_down":"2d"}}
`

// TestAMonthAndItsDryRun runs triggers through a month of the real views, with late
// data, refunds, logins that join, merges and splits by people, and a new policy in the
// middle; then a dry run of each, as known, says the same sends and suppressions at
// the same times. SOJOURN_TEST_MONTHS says how many months; one where it does not.
func TestAMonthAndItsDryRun(t *testing.T) {
	t.Parallel()
	months, _ := strconv.Atoi(os.Getenv("SOJOURN_TEST_MONTHS"))
	for seed := range max(1, months) {
		t.Run(fmt.Sprint("seed ", seed+1), func(t *testing.T) { aMonth(t, uint64(seed+1)) })
	}
}

func aMonth(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 11))
	start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	m := newMonth(t, start)
	for name, condition := range map[string]string{
		"keen":  `count(meaning("purchase"), duration("15d")) >= 2`,
		"quiet": `since(last(meaning("purchase"))) >= duration("10d")`,
	} {
		if _, _, err := m.views.ApplySegment(t.Context(), projections.SegmentProposal{
			SegmentDocument: projections.SegmentDocument{Name: name, Condition: condition},
		}); err != nil {
			t.Fatal(err)
		}
	}
	m.set(start)
	var ids []string
	triggers := automation.NewTriggers(m.store, func(d *trigger.Document) (*trigger.Trigger, error) {
		return trigger.Compile(d, &trigger.Names{})
	})
	for line := range strings.Lines(strings.TrimSpace(monthTriggers)) {
		line = strings.TrimSuffix(strings.TrimSpace(line), "}") + `,"do":{"webhook":{"destination":"crm"}}}`
		d, err := readTrigger("trigger", []byte(line), &trigger.Names{Env: conditionEnv(m.views), Destinations: []string{"crm"}, Kinds: map[string]delivery.Kind{"crm": delivery.Webhook}})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := triggers.Apply(t.Context(), automation.Proposal{Document: d}); err != nil {
			t.Fatal(err)
		}
		if err := (&automator{views: m.views}).own(t.Context(), &d, "", ""); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, d.ID)
	}
	m.settle()
	from := domain.MillisOf(start)

	const steps, people = 70, 8
	sent := 0
	user := func() string { return fmt.Sprint("u", rng.IntN(people)) }
	known := map[string]bool{}
	message := func(kind string, late bool) map[string]any {
		sent++
		at := m.now()
		if late && rng.IntN(3) == 0 {
			at = at.Add(-time.Duration(rng.Int64N(int64(4 * 24 * time.Hour))))
		}
		u := user()
		known[u] = true
		return map[string]any{"type": kind, "userId": u, "messageId": fmt.Sprint("m", sent), "timestamp": at.Format(time.RFC3339Nano)}
	}
	var orders []string
	for step := range steps {
		m.run(m.now().Add(time.Duration(rng.Int64N(int64(2 * 30 * 24 * time.Hour / steps)))).Truncate(time.Millisecond))
		// A dry run knows what came at an instant, not whether before what was sent then.
		m.set(m.now().Add(time.Millisecond))
		switch what := rng.IntN(13); {
		case step == steps/2:
			p := m.views.Policies()
			next := p[len(p)-1].Policy
			next.Lifecycle.AtRiskDays = 6
			if _, _, err := m.views.Apply(t.Context(), projections.Proposal{Policy: next}); err != nil {
				t.Fatal(err)
			}
		case what < 5:
			s := message("track", true)
			orders = append(orders, fmt.Sprint("o", sent))
			s["event"], s["properties"] = "Order Completed", map[string]any{"order_id": orders[len(orders)-1], "total": 20 + rng.IntN(80), "currency": "EUR"}
			m.send(s)
		case what < 7:
			s := message("track", true)
			s["event"], s["properties"] = "Product Viewed", map[string]any{"price": rng.IntN(40)}
			m.send(s)
		case what == 7:
			s := message("identify", false)
			s["traits"] = map[string]any{"ok": rng.IntN(3) > 0}
			m.send(s)
		case what == 8:
			s := message("track", true)
			s["event"], s["properties"] = "Survey Answered", map[string]any{"kind": "csat", "score": 1 + rng.IntN(5)}
			m.send(s)
		case what == 9: // a visitor who turns out to be one of them, or to be two
			s := message("track", true)
			visitor := fmt.Sprint("v", rng.IntN(people))
			delete(s, "userId")
			s["anonymousId"], s["event"], s["properties"] = visitor, "Product Viewed", map[string]any{"price": 30}
			m.send(s)
			if rng.IntN(2) == 0 {
				m.settle()
				m.set(m.now().Add(time.Millisecond))
				s = message("identify", false)
				s["anonymousId"] = visitor
				m.send(s)
			}
		case what == 10 && len(orders) > 0:
			s := message("track", false)
			s["event"], s["properties"] = "Order Refunded", map[string]any{"order_id": orders[rng.IntN(len(orders))]}
			m.send(s)
		default:
			a, b := user(), user()
			if a == b || !known[a] || !known[b] {
				continue
			}
			r := projections.MergeRequest{Subjects: []string{"user:" + a, "user:" + b}, Author: "test"}
			_, err := m.views.Merge(t.Context(), r)
			if what == 12 {
				_, err = m.views.Split(t.Context(), projections.SplitRequest{Subjects: r.Subjects[:1], From: r.Subjects[1], Author: "test"})
			}
			var refused *projections.DecisionError
			if err != nil && !errors.As(err, &refused) {
				t.Fatal(err)
			}
		}
		m.settle()
	}
	m.set(m.now())
	to := domain.MillisOf(m.now()) + 1
	m.run(m.now().Add(8 * 24 * time.Hour))
	if m.sent < 20 {
		t.Errorf("%d deliveries in all: the month is too quiet to prove anything", m.sent)
	}
	counts := map[string]int{}
	for _, id := range ids {
		want, got := m.live(id, to), m.dry(id, from, to)
		counts[id] = len(want)
		if !slices.Equal(want, got) {
			t.Errorf("trigger %s: live\n  %s\ndry\n  %s", id, strings.Join(want, "\n  "), strings.Join(got, "\n  "))
		}
	}
	t.Log(m.sent, "sent;", counts)
}
