package automation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"

	"sojourn/automation/delivery"
	"sojourn/automation/trigger"
	"sojourn/condition"
	"sojourn/domain"
	"sojourn/domain/fact"
	"sojourn/eventstore"
	"sojourn/eventstore/pebblestore"
)

// world is a log, views and a queue that a test moves by hand.
type world struct {
	t        *testing.T
	store    *pebblestore.Store
	triggers *Triggers
	engine   *Engine
	keyer    domain.Keyer

	mu        sync.Mutex
	clock     domain.Millis
	jobs      []delivery.Job
	owner     map[uuid.UUID]uuid.UUID // of subjects that belong to another's customer
	people    map[uuid.UUID]*Customer
	sent      []sending
	fail      func(j delivery.Job) *delivery.Outcome
	added     []*Appendix
	computing bool // segments
	// moments are what there was, for dry runs.
	moments []moment
	// asked is of how many times each question of a dry run was.
	asked []int
	// refuse fails such questions, where it is not nil.
	refuse func() error
}

type sending struct {
	id   uuid.UUID
	at   domain.Millis
	body string
}

var day0 = domain.MillisOf(time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)) // a Monday

func newWorld(t *testing.T) *world {
	w := &world{
		t: t, clock: day0, keyer: domain.NewKeyer(make([]byte, domain.KeySize)),
		owner: map[uuid.UUID]uuid.UUID{}, people: map[uuid.UUID]*Customer{},
	}
	var err error
	w.store, err = pebblestore.Open("log", pebblestore.Options{FS: vfs.NewMem(), Now: w.now, CacheBytes: 1 << 20, MemTableBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	w.triggers = NewTriggers(w.store, func(d *trigger.Document) (*trigger.Trigger, error) {
		return trigger.Compile(d, &trigger.Names{})
	})
	w.start()
	t.Cleanup(func() {
		_ = w.engine.Stop()
		_ = w.store.Close()
	})
	return w
}

func (w *world) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.clock.Time()
}

// start lets an engine act, another than before: as after a crash.
func (w *world) start() {
	w.t.Helper()
	var err error
	w.engine, err = New(Config{
		Store: w.store, Views: w, Queue: w, Triggers: w.triggers, Alone: true,
		Now: w.now, Random: func() float64 { return 0 },
		Append: func(_ context.Context, a *Appendix) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.added = append(w.added, a)
			return nil
		},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.engine.Start(w.t.Context())
}

func (w *world) crash() {
	w.t.Helper()
	if err := w.engine.Stop(); err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	w.jobs = nil
	w.mu.Unlock()
	w.start()
}

func (w *world) Submit(jobs ...delivery.Job) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.jobs = append(w.jobs, jobs...)
}

func (w *world) WaitFor(context.Context, eventstore.Position) error { return nil }

// Members are those whose data has the segment; the fake knows no other time.
func (w *world) Members(_ context.Context, segment string, _ domain.Millis, each func(uuid.UUID) error) error {
	w.mu.Lock()
	if w.computing {
		w.mu.Unlock()
		return ErrNotReady
	}
	var all []uuid.UUID
	for id, c := range w.people {
		if slices.Contains(c.Data.Segments, segment) {
			all = append(all, id)
		}
	}
	w.mu.Unlock()
	for _, id := range all {
		if err := each(id); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) Classify(h *domain.Header) (string, string) {
	if h.Name == "Order Completed" {
		return "purchase", "web"
	}
	return "engagement", "web"
}

func (w *world) Customer(_ context.Context, id uuid.UUID, _ *condition.Needs) (*Customer, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for range 10 {
		if to, ok := w.owner[id]; ok {
			id = to
			continue
		}
		break
	}
	c := w.people[id]
	if c == nil {
		return nil, ErrNoCustomer
	}
	copied := *c
	return &copied, nil
}

// person makes a customer of one subject.
func (w *world) person(name string) *Customer {
	w.mu.Lock()
	defer w.mu.Unlock()
	stream := w.keyer.Stream(domain.Subject{Kind: domain.User, Value: name})
	id := domain.SubjectID(stream)
	if w.people[id] == nil {
		w.people[id] = &Customer{
			ID: id, Subjects: []Subject{{id, stream}},
			Facts: &condition.Subject{FirstSeen: domain.MinTime},
			Data:  delivery.CustomerData{ID: id.String(), Traits: map[string]json.RawMessage{}, Tiers: map[string]string{}, Points: map[string]string{}},
		}
	}
	return w.people[id]
}

// merge makes b part of a.
func (w *world) merge(a, b *Customer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	a.Subjects = append(slices.Clone(a.Subjects), b.Subjects...)
	w.owner[b.ID] = a.ID
	delete(w.people, b.ID)
}

func (w *world) append(stream string, e eventstore.NewEvent) eventstore.Position {
	w.t.Helper()
	r, err := w.store.Append(w.t.Context(), stream, eventstore.Any{}, e)
	if err != nil {
		w.t.Fatal(err)
	}
	return r.Position
}

// touch appends a touchpoint of a customer's first subject.
func (w *world) touch(c *Customer, name, message string, chain ...string) uuid.UUID {
	w.t.Helper()
	return w.touchAt(c, name, message, domain.MillisOf(w.now()), chain...)
}

func (w *world) touchAt(c *Customer, name, message string, at domain.Millis, chain ...string) uuid.UUID {
	w.t.Helper()
	id := uuid.New()
	h := domain.Header{Kind: domain.Track, OccurredAt: at, ReceivedAt: at, Source: "shop", MessageID: id.String(), Name: name}
	if message == "" {
		message = `{}`
	}
	if len(chain) > 0 {
		b, _ := json.Marshal(chain)
		message = fmt.Sprintf(`{"context":{"automation":{"chain":%s}}}`, b)
	}
	w.append(c.Subjects[0].Stream, eventstore.NewEvent{ID: id, Type: domain.TypeTouchpoint, Metadata: h.Append(nil), Data: []byte(message)})
	return id
}

// enters says that a customer has entered a stage because of a touchpoint.
func (w *world) enters(c *Customer, from, to string, at domain.Millis, cause string) uint64 {
	w.t.Helper()
	return w.say(c, domain.TypeStageEntered, map[string]any{
		"customer": c.ID, "from": from, "to": to, "at": at.String(), "reason": "so it is", "cause": cause, "news": true,
	})
}

func (w *world) say(c *Customer, typ string, content map[string]any) uint64 {
	w.t.Helper()
	data, err := json.Marshal(content)
	if err != nil {
		w.t.Fatal(err)
	}
	r, err := w.store.Append(w.t.Context(), domain.StatementStream(c.ID), eventstore.Any{}, eventstore.NewEvent{ID: uuid.New(), Type: typ, Data: data})
	if err != nil {
		w.t.Fatal(err)
	}
	return r.Revision
}

// buys is a touchpoint and the stage that it leads to.
func (w *world) buys(c *Customer, from, to string) {
	w.t.Helper()
	id := w.touch(c, "Order Completed", `{"properties":{"total":12}}`)
	w.mu.Lock()
	c.Data.Stage = to
	w.mu.Unlock()
	w.enters(c, from, to, domain.MillisOf(w.now()), "touchpoint:"+id.String())
}

func (w *world) apply(yaml trigger.Document) {
	w.t.Helper()
	if _, _, err := w.triggers.Apply(w.t.Context(), Proposal{Document: yaml}); err != nil {
		w.t.Fatal(err)
	}
	w.settle()
}

// settle waits until the engine has dealt with all of the log.
func (w *world) settle() {
	w.t.Helper()
	for {
		head, err := w.store.Head(w.t.Context())
		if err != nil {
			w.t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(w.t.Context(), 20*time.Second)
		err = w.engine.WaitFor(ctx, head)
		cancel()
		if err != nil {
			w.t.Fatalf("the engine stands still: %v, %+v", err, w.engine.State())
		}
		if now, err := w.store.Head(w.t.Context()); err == nil && now == head {
			return
		}
	}
}

// run lets time pass up to an instant and attempts what is due on the way.
func (w *world) run(until domain.Millis) {
	w.t.Helper()
	for {
		w.settle()
		w.mu.Lock()
		slices.SortStableFunc(w.jobs, func(a, b delivery.Job) int { return a.Due.Compare(b.Due) })
		if len(w.jobs) == 0 || domain.MillisOf(w.jobs[0].Due) > until {
			w.clock = max(w.clock, until)
			w.mu.Unlock()
			return
		}
		j := w.jobs[0]
		w.jobs = w.jobs[1:]
		w.clock = max(w.clock, domain.MillisOf(j.Due))
		w.mu.Unlock()
		w.attempt(j)
	}
}

func (w *world) attempt(j delivery.Job) {
	w.t.Helper()
	a, err := w.engine.Prepare(w.t.Context(), j, &delivery.Destination{Name: j.Destination})
	if err != nil {
		w.t.Fatal(err)
	}
	if a == nil {
		return
	}
	o := delivery.Outcome{Delivered: true, Status: 200, Response: []byte("thanks")}
	if w.fail != nil {
		if f := w.fail(j); f != nil {
			o = *f
		}
	}
	w.mu.Lock()
	w.sent = append(w.sent, sending{j.ID, w.clock, string(a.Body)})
	w.mu.Unlock()
	if err := w.engine.Done(w.t.Context(), j, a, o); err != nil {
		w.t.Fatal(err)
	}
}

// facts are the facts of all customers in the order of the log.
func (w *world) facts() []fact.Entry {
	w.t.Helper()
	var all []fact.Entry
	for r, err := range w.store.ReadAll(w.t.Context(), 0) {
		if err != nil {
			w.t.Fatal(err)
		}
		if kind, ok := fact.KindOf(r.Type); ok {
			if subject, ok := fact.Subject(r.Stream); ok {
				f, err := fact.Decode(kind, r.Data)
				if err != nil {
					w.t.Fatal(err)
				}
				all = append(all, fact.Entry{Fact: f, Position: uint64(r.Position), Subject: subject})
			}
		}
	}
	return all
}

// story is what the facts say, one word each.
func (w *world) story() string {
	w.t.Helper()
	w.settle()
	var words []string
	for _, f := range w.facts() {
		word := f.Kind.String()
		if f.Reason != "" {
			word += "(" + string(f.Reason) + ")"
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}

func (w *world) expect(story string) {
	w.t.Helper()
	if got := w.story(); got != story {
		w.t.Fatalf("the facts are\n  %s\nnot\n  %s", got, story)
	}
}

// welcome calls the shop when somebody makes a first purchase.
func welcome(limits trigger.Limits) trigger.Document {
	return trigger.Document{
		ID: "welcome", On: trigger.On{Transition: &trigger.Transition{To: []string{"first_purchase"}}},
		Limits: limits, Do: trigger.Do{Webhook: &trigger.Webhook{Destination: "shop"}},
	}
}

const once = "planned attempted delivered"

func TestAChangeIsDelivered(t *testing.T) {
	w := newWorld(t)
	w.apply(welcome(trigger.Limits{}))
	p := w.person("42")
	w.buys(p, "lead", "first_purchase")
	w.run(w.clock + 1000)
	w.expect(once)
	if len(w.sent) != 1 {
		t.Fatalf("%d were sent", len(w.sent))
	}
	var sent struct{ Data delivery.Data }
	if err := json.Unmarshal([]byte(w.sent[0].body), &sent); err != nil {
		t.Fatal(err)
	}
	body := sent.Data
	if body.Before["stage"] != "lead" || body.After["stage"] != "first_purchase" || body.Reason != "so it is" ||
		body.Event == nil || string(body.Event.Properties) != `{"total":12}` || body.Delivery != w.sent[0].id.String() {
		t.Errorf("the body is %s", w.sent[0].body)
	}
	// The same change said again, by another policy, is the same cause.
	f := w.facts()[0]
	w.enters(p, "visitor", "first_purchase", f.Change.At, f.Change.Cause)
	w.run(w.clock + 1000)
	w.expect(once)
}

func TestWhatIsOldNewsOrBeforeTheApplyIsNot(t *testing.T) {
	w := newWorld(t)
	p := w.person("42")
	w.buys(p, "lead", "first_purchase")
	w.apply(welcome(trigger.Limits{}))
	w.run(w.clock + 1000)
	w.expect("")
	// Found again as news: it was first found before the apply.
	for r, err := range w.store.ReadStream(t.Context(), domain.StatementStream(p.ID), 0, eventstore.Forwards) {
		if err != nil {
			t.Fatal(err)
		}
		data := slices.Clone(r.Data)
		w.say(p, domain.TypeStageWithdrawn, map[string]any{"customer": p.ID, "revisions": []uint64{0}})
		w.append(domain.StatementStream(p.ID), eventstore.NewEvent{ID: uuid.New(), Type: domain.TypeStageEntered, Data: data})
		break
	}
	w.run(w.clock + 1000)
	w.expect("")
	// What restates is not offered.
	q := w.person("43")
	w.say(q, domain.TypeStageEntered, map[string]any{
		"customer": q.ID, "from": "", "to": "first_purchase", "at": w.clock.String(), "cause": "touchpoint:" + uuid.NewString(), "news": false,
	})
	w.expect("")
	// What is found late is stale, and can be sent by hand, once.
	id := w.touchAt(q, "Order Completed", "", w.clock-2*domain.Day)
	w.enters(q, "", "first_purchase", w.clock-2*domain.Day, "touchpoint:"+id.String())
	w.run(w.clock + 1000)
	w.expect("suppressed(stale)")
	f := w.facts()[0]
	if _, err := w.engine.Again(t.Context(), f.Delivery, f.Subject, "ada"); err != nil {
		t.Fatal(err)
	}
	w.run(w.clock + 1000)
	w.expect("suppressed(stale) " + once)
	if _, err := w.engine.Again(t.Context(), f.Delivery, f.Subject, "ada"); !errors.Is(err, ErrNotAgain) {
		t.Errorf("sent twice: %v", err)
	}
}

func TestACrashAtAnyMomentSendsOneID(t *testing.T) {
	for at := range 4 {
		t.Run(fmt.Sprint(at), func(t *testing.T) {
			w := newWorld(t)
			w.apply(welcome(trigger.Limits{Once: true}))
			p := w.person("42")
			w.buys(p, "lead", "first_purchase")
			if at > 0 {
				w.settle()
			}
			if at > 1 { // an attempt begins and nobody learns its end
				j := w.jobs[0]
				if _, err := w.engine.Prepare(t.Context(), j, nil); err != nil {
					t.Fatal(err)
				}
			}
			if at > 2 {
				w.crash()
				w.settle()
			}
			w.crash()
			w.run(w.clock + 1000)
			w.expect(once)
			if len(w.sent) != 1 {
				t.Errorf("%d were sent", len(w.sent))
			}
		})
	}
}

func TestFailuresAreTriedAgainAndThenAreDeadLetters(t *testing.T) {
	w := newWorld(t)
	w.apply(welcome(trigger.Limits{}))
	w.fail = func(delivery.Job) *delivery.Outcome { return &delivery.Outcome{Retry: true, Status: 500} }
	w.buys(w.person("42"), "lead", "first_purchase")
	w.run(w.clock + 5*domain.Day)
	n := len(delivery.DefaultSchedule().Waits) + 1
	w.expect("planned" + strings.Repeat(" attempted failed", n))
	bodies := map[string]bool{}
	for _, s := range w.sent {
		bodies[s.body] = true
	}
	if len(w.sent) != n || len(bodies) != 1 {
		t.Errorf("%d attempts with %d bodies", len(w.sent), len(bodies))
	}
	w.fail = nil
	f := w.facts()[0]
	if _, err := w.engine.Again(t.Context(), f.Delivery, f.Subject, "ada"); err != nil {
		t.Fatal(err)
	}
	w.crash()
	w.run(w.clock + 1000)
	w.expect("planned" + strings.Repeat(" attempted failed", n) + " " + once)
	if last := w.sent[len(w.sent)-1]; last.id != w.sent[0].id || last.body != w.sent[0].body {
		t.Error("what is sent again is another delivery")
	}
}

func TestSendingAgainKeepsTheArm(t *testing.T) {
	w := newWorld(t)
	w.apply(welcome(trigger.Limits{Holdout: 1e-9}))
	w.fail = func(delivery.Job) *delivery.Outcome { return &delivery.Outcome{Status: 410} }
	p := w.person("42")
	id := w.touchAt(p, "Order Completed", "", w.clock-2*domain.Day)
	w.enters(p, "", "first_purchase", w.clock-2*domain.Day, "touchpoint:"+id.String())
	w.run(w.clock + 1000)
	for range 2 { // of what was stale, then of a dead letter
		f := w.facts()[0]
		if _, err := w.engine.Again(t.Context(), f.Delivery, f.Subject, "ada"); err != nil {
			t.Fatal(err)
		}
		w.run(w.clock + 1000)
	}
	w.expect("suppressed(stale) planned attempted failed planned attempted failed")
	for _, f := range w.facts() {
		if f.Kind == fact.Planned && f.Arm != fact.Treated {
			t.Errorf("round %d is planned for the arm %q", f.Round, f.Arm)
		}
	}
}

func TestBetweenPlanAndSend(t *testing.T) {
	night := trigger.Limits{QuietHours: &trigger.Hours{From: "11:00", To: "13:00"}, Consent: &trigger.Consent{Trait: "ok"}}
	for name, c := range map[string]struct {
		reason string
		there  bool
		change func(w *world, p *Customer)
	}{
		"nothing": {"", true, func(*world, *Customer) {}},
		"withdrawn": {"withdrawn", false, func(w *world, p *Customer) {
			w.say(p, domain.TypeStageWithdrawn, map[string]any{"customer": p.ID, "revisions": []uint64{0}})
		}},
		"said anew": {"", false, func(w *world, p *Customer) {
			f := w.facts()[0]
			w.say(p, domain.TypeStageWithdrawn, map[string]any{"customer": p.ID, "revisions": []uint64{0}})
			w.enters(p, "visitor", "first_purchase", f.Change.At, f.Change.Cause)
		}},
		"paused": {"paused", false, func(w *world, _ *Customer) {
			if _, err := w.triggers.Pause(w.t.Context(), "welcome", "", ""); err != nil {
				w.t.Fatal(err)
			}
		}},
		"consent":       {"consent", false, func(_ *world, p *Customer) { p.Data.Traits["ok"] = json.RawMessage("false") }},
		"moved on":      {"", false, func(_ *world, p *Customer) { p.Data.Stage = "repeat" }},
		"not there now": {"moved_on", true, func(_ *world, p *Customer) { p.Data.Stage = "repeat" }},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			d := welcome(night)
			d.WhileThere = c.there
			w.apply(d)
			p := w.person("42")
			p.Data.Traits["ok"] = json.RawMessage("true")
			w.buys(p, "lead", "first_purchase")
			w.settle()
			c.change(w, p)
			w.run(w.clock + domain.Day)
			want := once
			if c.reason != "" {
				want = "planned suppressed(" + c.reason + ")"
			}
			w.expect(want)
		})
	}
}

func TestAMergeBringsTwoUnderOneLimit(t *testing.T) {
	w := newWorld(t)
	w.apply(welcome(trigger.Limits{Once: true, QuietHours: &trigger.Hours{From: "11:00", To: "13:00"}}))
	a, b := w.person("a"), w.person("b")
	w.buys(a, "lead", "first_purchase")
	w.run(w.clock + 1)
	w.buys(b, "lead", "first_purchase")
	w.settle()
	// What was said of b is said of a now.
	f := w.facts()[0]
	if f.Subject != b.ID {
		f = w.facts()[1]
	}
	w.merge(a, b)
	w.enters(a, "lead", "first_purchase", f.Change.At, f.Change.Cause)
	w.run(w.clock + domain.Day)
	if len(w.sent) != 1 {
		t.Fatalf("%d were sent: %s", len(w.sent), w.story())
	}
	if first := w.facts()[0]; w.sent[0].id != first.Delivery {
		t.Error("the later one was sent")
	}
}

func TestPropertiesAreAnObject(t *testing.T) {
	for _, properties := range []string{`[1, 2]`, `null`, `{{json .reason}}`} {
		w := newWorld(t)
		w.apply(trigger.Document{
			ID: "list", On: trigger.On{Touchpoint: &trigger.Touchpoint{Name: "A"}},
			Do: trigger.Do{Touchpoint: &trigger.Append{Name: "B", Properties: properties}},
		})
		w.touch(w.person("42"), "A", "")
		w.settle()
		deadline := time.After(20 * time.Second)
		for !strings.Contains(w.story(), "suppressed") { // it is appended apart
			select {
			case <-deadline:
				t.Fatalf("%s: %s", properties, w.story())
			default:
			}
		}
		w.expect("planned attempted suppressed(template)")
	}
}

func TestNoLoops(t *testing.T) {
	w := newWorld(t)
	add := func(id, on, name string) {
		w.apply(trigger.Document{
			ID: id, On: trigger.On{Touchpoint: &trigger.Touchpoint{Name: on}},
			Do: trigger.Do{Touchpoint: &trigger.Append{Name: name}},
		})
	}
	add("ping", "A", "B")
	add("pong", "B", "A")
	p := w.person("42")
	w.touch(p, "A", "")
	w.run(w.clock + 1000)
	for range 10 { // what is appended comes back as a touchpoint
		deadline := time.After(20 * time.Second)
		for {
			w.mu.Lock()
			n := len(w.added)
			w.mu.Unlock()
			if n > 0 || strings.Contains(w.story(), "loop") {
				break
			}
			select {
			case <-deadline:
				t.Fatal("nothing was appended")
			default:
			}
		}
		w.mu.Lock()
		added := w.added
		w.added = nil
		w.mu.Unlock()
		for _, a := range added {
			w.touch(p, a.Name, "", a.Chain...)
		}
		w.settle()
	}
	if n := strings.Count(w.story(), "planned"); n != 2 || !strings.HasSuffix(w.story(), "suppressed(loop)") {
		t.Errorf("the facts are %s", w.story())
	}
}

func TestAnotherTakesOver(t *testing.T) {
	w := newWorld(t)
	w.apply(welcome(trigger.Limits{}))
	tick := make(chan time.Time)
	second, err := New(Config{
		Store: w.store, Views: w, Queue: w, Triggers: w.triggers, Now: w.now,
		After: func(time.Duration) <-chan time.Time { return tick },
	})
	if err != nil {
		t.Fatal(err)
	}
	second.Start(t.Context())
	defer func() { _ = second.Stop() }()
	// The first one answers the claim, however often the second one waits.
	answered := uint64(0)
	for range 3 {
		for deadline := time.Now().Add(20 * time.Second); ; {
			l, err := second.readLease(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if l.What == "holds" && l.revision > answered {
				answered = l.revision
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("nobody answers the claim: %+v", l)
			}
		}
		tick <- time.Time{}
	}
	if second.State().Acting || !w.engine.State().Acting {
		t.Fatal("both act, or the wrong one")
	}
	if err := w.engine.Stop(); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	go func() {
		for {
			select {
			case tick <- time.Time{}:
			case <-stop:
				return
			}
		}
	}()
	defer close(stop)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := second.WaitFor(ctx, 1); err != nil {
		t.Fatal(err)
	}
	if err := w.engine.acts(ctx, true); !errors.Is(err, errDeposed) {
		t.Errorf("the first one may still act: %v", err)
	}
}

// What waits for its time is in the checkpoint, and so is what a cap counts.
func TestACheckpointHasWhatWaits(t *testing.T) {
	w := newWorld(t)
	w.apply(welcome(trigger.Limits{
		QuietHours: &trigger.Hours{From: "11:00", To: "13:00"}, Cap: &trigger.Count{Times: 1, Per: "1d"},
	}))
	w.run(w.clock + 2*domain.Millis(checkpointEvery.Milliseconds()))
	w.buys(w.person("a"), "lead", "first_purchase")
	w.run(w.clock + 1000)
	for written := false; !written; {
		for _, err := range w.store.ReadStream(t.Context(), CheckpointStream, 0, eventstore.Forwards) {
			written = err == nil
		}
		w.touch(w.person("z"), "Page Viewed", "")
		w.settle()
	}
	w.run(w.clock + 2*domain.Millis(checkpointEvery.Milliseconds()))
	w.crash()
	w.buys(w.person("b"), "lead", "first_purchase")
	w.run(w.clock + domain.Day)
	w.expect("planned suppressed(cap) attempted delivered")
}

// A trigger that this release cannot run stops no other.
func TestABrokenTriggerStopsNoOther(t *testing.T) {
	w := newWorld(t)
	broken := welcome(trigger.Limits{})
	broken.ID, broken.Where = "broken", "gone(1)"
	w.apply(broken)
	w.apply(welcome(trigger.Limits{}))
	w.buys(w.person("a"), "lead", "first_purchase")
	w.run(w.clock + 1000)
	w.expect(once)
	if _, err := w.engine.Test(t.Context(), "broken", w.person("a").ID); err == nil {
		t.Error("it can be tried")
	}
}
