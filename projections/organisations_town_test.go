package projections

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"sojourn/domain"
	"sojourn/eventstore"
	"sojourn/eventstore/pebblestore"
	naive "sojourn/internal/oracle"
	"sojourn/warehouse"
)

// ServeAPI makes the HTTP API over views; the token is "t". The API is above this
// package, so it is set from outside.
var ServeAPI func(*Views) (http.Handler, error)

// town is a log, views in ClickHouse and the API over them, which many
// organisations share. It does one thing at a time, so that a seed says all.
type town struct {
	db    *warehouse.DB
	dir   string
	plan  townPlan
	rng   *rand.Rand
	orgs  []*organisation
	clock clock

	logFS, stateFS *vfs.MemFS
	log            *pebblestore.Store
	gate           *gate
	views          *Views
	api            http.Handler
	number         warehouse.Generation
	rules          *Rules

	mu      sync.Mutex
	crashes []int // how many steps of writing there are before each
	crashed int
}

// failure is what a check found.
type failure struct {
	org  *organisation // nil where it is nobody's in particular
	what string
}

func (f *failure) Error() string { return f.what }

func (o *organisation) failf(format string, args ...any) error {
	return &failure{o, fmt.Sprintf(format, args...)}
}

// drawTown draws the organisations of a seed.
func drawTown(seed int) (townPlan, []*organisation) {
	plan := planOf(seed)
	var orgs []*organisation
	for i := range plan.organisations {
		orgs = append(orgs, rapid.Custom(func(t *rapid.T) *organisation { return drawOrganisation(t, i, plan) }).Example(seed<<12+i))
	}
	return plan, orgs
}

// gate is the log as the views see it: it fails after an append, and lets
// decisions in one by one.
type gate struct {
	eventstore.Store
	fault func() error
}

func (g *gate) AppendMany(ctx context.Context, parts []eventstore.Append) ([]eventstore.Result, error) {
	r, err := g.Store.AppendMany(ctx, parts)
	if err == nil {
		err = g.fault()
	}
	return r, err
}

// turn is that of a decision: it has arrived when it is about to be recorded.
type turn struct {
	arrived, goOn, done chan struct{}
	once                sync.Once
}

type turnKey struct{}

func (g *gate) Append(ctx context.Context, stream string, expected eventstore.Expected, events ...eventstore.NewEvent) (eventstore.Result, error) {
	if t, ok := ctx.Value(turnKey{}).(*turn); ok {
		t.once.Do(func() { close(t.arrived) })
		<-t.goOn
	}
	return g.Store.Append(ctx, stream, expected, events...)
}

// crashing is a sink that fails before and after it writes.
type crashing struct {
	Sink
	fault func() error
}

func (c crashing) Write(ctx context.Context, r *Rows) error {
	if err := c.fault(); err != nil {
		return err
	}
	if err := c.Sink.Write(ctx, r); err != nil {
		return err
	}
	return c.fault()
}

// fault is asked at every step of writing.
func (w *town) fault() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.crashes) == 0 {
		return nil
	}
	if w.crashes[0]--; w.crashes[0] >= 0 {
		return nil
	}
	w.crashes = w.crashes[1:]
	w.crashed++
	return errCrash
}

// openTown lets organisations live in a town and answers when all has been told.
func openTown(ctx context.Context, db *warehouse.DB, dir string, seed int, plan townPlan, orgs []*organisation) (w *town, err error) {
	w = &town{
		db: db, dir: dir, plan: plan, orgs: orgs, rng: rand.New(rand.NewPCG(uint64(seed), 1)),
		logFS: vfs.NewCrashableMem(), stateFS: vfs.NewCrashableMem(),
	}
	w.clock.set(plan.rounds[0])
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close())
		}
	}()
	if err := w.openLog(); err != nil {
		return w, err
	}
	if err := w.apply(ctx, false); err != nil {
		return w, err
	}
	half := w.rng.IntN(len(plan.rounds))
	for round := range plan.rounds {
		w.clock.set(max(plan.rounds[round], domain.MillisOf(w.clock.now())))
		if round == 2 && plan.then != nil {
			if err := w.apply(ctx, true); err != nil {
				return w, err
			}
		}
		w.crashes = nil
		for range w.rng.IntN(4) {
			w.crashes = append(w.crashes, w.rng.IntN(12))
		}
		if err := w.live(ctx, round); err != nil {
			return w, err
		}
		if round == half {
			if err := w.hold(ctx); err != nil {
				return w, err
			}
		}
	}
	// Time goes on.
	w.clock.set(domain.MillisOf(w.clock.now()) + domain.Millis([]int{0, 60, 200}[w.rng.IntN(3)])*domain.Day)
	return w, w.run(ctx)
}

func (w *town) openLog() (err error) {
	w.log, err = pebblestore.Open("log", pebblestore.Options{FS: w.logFS, Now: w.clock.now, CacheBytes: 32 << 20, MemTableBytes: 1 << 20, SegmentEvents: 1 << 16})
	w.gate = &gate{Store: w.log, fault: w.fault}
	return err
}

// apply puts a policy in force, under which the views are built anew.
func (w *town) apply(ctx context.Context, then bool) error {
	p := w.plan.policy
	if then {
		p = *w.plan.then
	}
	if err := p.Validate(); err != nil {
		return err
	}
	if _, _, err := ApplyPolicy(ctx, w.log, p, ""); err != nil {
		return err
	}
	for i, o := range w.orgs {
		o.log = append(o.log, naive.Event{
			RecordedAt: domain.MillisOf(w.clock.now()), ID: domain.EventID("policy", fmt.Sprint(i, then)), Policy: o.policy(p),
		})
	}
	if w.views != nil {
		if err := w.views.Stop(); err != nil {
			return err
		}
		w.views = nil
		w.stateFS = vfs.NewCrashableMem()
	}
	numbers, err := w.db.Generations(ctx)
	if err != nil {
		return err
	}
	w.number = 1
	for _, n := range numbers {
		w.number = n + 1
	}
	if err := w.db.CreateGeneration(ctx, w.number); err != nil {
		return err
	}
	if err := w.hurry(ctx); err != nil {
		return err
	}
	if err := w.db.Activate(ctx, w.number); err != nil {
		return err
	}
	for _, n := range numbers {
		if err := w.db.DropGeneration(ctx, n); err != nil {
			return err
		}
	}
	return w.run(ctx)
}

// hurry has the engine take less care of the new tables, which none of this is
// about: disks keep what was written, and what a crash has left stands in parts
// of its own.
func (w *town) hurry(ctx context.Context) error {
	for _, table := range []string{"touchpoints", "subjects", "customers", "stage_transitions", "identity_conflicts", "loyalty_status", "loyalty_ledger", "tier_transitions", "satisfaction", "satisfaction_transitions", "cases", "surveys", "feedback"} {
		if err := w.db.Exec(ctx, fmt.Sprintf("ALTER TABLE %s.%s_%s MODIFY SETTING fsync_after_insert = 0, fsync_part_directory = 0", w.db.Database(), table, w.number)); err != nil {
			return err
		}
	}
	return w.db.Exec(ctx, fmt.Sprintf("SYSTEM STOP MERGES %s.touchpoints_%s", w.db.Database(), w.number))
}

// open opens the views as a start does after a crash.
func (w *town) open(ctx context.Context) error {
	policies, err := readPolicies(ctx, w.log)
	if err != nil {
		return err
	}
	s, err := openState(w.stateFS, "state", 32<<20, discard)
	if err != nil {
		return err
	}
	s.large = larges[w.rng.IntN(len(larges))]
	w.rules = policies[len(policies)-1].Rules
	v := &Views{
		cfg:    Config{Store: w.gate, DB: w.db, Keyer: testKeyer, Dir: w.dir, Now: w.clock.now, Logger: discard},
		logger: discard, heavy: w.plan.heavy, policies: policies, ready: true,
	}
	v.ctx, v.cancel = context.WithCancel(context.WithoutCancel(ctx))
	w.views = v
	v.active = &generation{
		number: w.number, rules: w.rules, store: w.gate, keyer: testKeyer, state: s,
		sink: crashing{tables{w.db, w.number, Shard{}}, w.fault},
		now:  w.clock.now, logger: discard, changed: v.moved.send,
		batchEvents: w.plan.batches[w.rng.IntN(len(w.plan.batches))],
	}
	if err := v.active.recover(ctx); err != nil {
		return err
	}
	w.api, err = ServeAPI(v)
	return err
}

// run lets the views read everything, through all crashes.
func (w *town) run(ctx context.Context) error {
	for {
		err := w.runOnce(ctx)
		if err == nil || !errors.Is(err, errCrash) {
			return err
		}
		_ = w.views.active.settle() // it has crashed too
		// What was not synced may be lost.
		lost := vfs.CrashCloneCfg{UnsyncedDataPercent: []int{0, 50, 100}[w.rng.IntN(3)], RNG: w.rng}
		logFS, stateFS := w.logFS.CrashClone(lost), w.stateFS.CrashClone(lost)
		if err := w.close(); err != nil {
			return err
		}
		w.logFS, w.stateFS = logFS, stateFS
		if err := w.openLog(); err != nil {
			return err
		}
	}
}

func (w *town) runOnce(ctx context.Context) error {
	if w.views == nil {
		if err := w.open(ctx); err != nil {
			return err
		}
	}
	g := w.views.active
	for {
		err := g.runToEnd(ctx, nil)
		if err == nil && g.fold.silent {
			err = g.reconcile(ctx)
		}
		if err == nil {
			err = g.settle()
		}
		if err != nil {
			return err
		}
		// What was said at the end is to be read as well.
		if head, err := w.log.Head(ctx); err != nil || g.fold.position >= head {
			return err
		}
	}
}

func (w *town) close() error {
	var err error
	if w.views != nil {
		err = w.views.Stop()
		w.views = nil
	}
	if w.log != nil {
		err = errors.Join(err, w.log.Close())
		w.log = nil
	}
	return err
}

// tick moves the clock a little, or not.
func (w *town) tick() domain.Millis {
	now := domain.MillisOf(w.clock.now()) + domain.Millis(w.rng.IntN(2))
	w.clock.set(now)
	return now
}

// live tells what happens in a round: messages of all at random, until each has
// come to its next decision; then the decisions.
func (w *town) live(ctx context.Context, round int) error {
	for {
		var messages, decisions []*organisation
		for _, o := range w.orgs {
			for i := o.next; i < len(o.steps) && o.steps[i].round == round; i++ {
				if o.steps[i].decision != "" {
					decisions = append(decisions, o)
					break
				}
				messages = append(messages, o)
			}
		}
		w.rng.Shuffle(len(messages), func(i, j int) { messages[i], messages[j] = messages[j], messages[i] })
		for len(messages) > 0 {
			n := min(len(messages), 1+w.rng.IntN(50))
			if err := w.send(ctx, messages[:n]); err != nil {
				return err
			}
			messages = messages[n:]
		}
		if err := w.run(ctx); err != nil {
			return err
		}
		if len(decisions) == 0 {
			return nil
		}
		if err := w.decide(ctx, decisions); err != nil {
			return err
		}
	}
}

// send records the next message of each, at one instant.
func (w *town) send(ctx context.Context, orgs []*organisation) error {
	now := w.tick()
	var parts []eventstore.Append
	for _, o := range orgs {
		m := o.steps[o.next].message
		stream, e := m.event()
		h := m.header()
		e.Metadata, e.Data = h.Append(nil), m.data()
		parts = append(parts, eventstore.Append{Stream: stream, Expected: eventstore.Any{}, Events: []eventstore.NewEvent{e}})
		o.log = append(o.log, naive.Event{RecordedAt: now, ID: e.ID, Touchpoint: touchpointOf(m)})
		if o.sent == nil {
			o.sent = map[uuid.UUID]told{}
		}
		if _, again := o.sent[e.ID]; !again {
			o.sent[e.ID] = m
		}
		o.next++
	}
	results, err := w.log.AppendMany(ctx, parts)
	for _, r := range results {
		err = errors.Join(err, r.Err)
	}
	return err
}

// decide asks for one decision of each; all decide upon the same log.
func (w *town) decide(ctx context.Context, orgs []*organisation) error {
	turns := make([]*turn, len(orgs))
	answers := make([]*httptest.ResponseRecorder, len(orgs))
	for i, o := range orgs {
		t := &turn{arrived: make(chan struct{}), goOn: make(chan struct{}), done: make(chan struct{})}
		turns[i] = t
		s := o.steps[o.next]
		body := map[string]any{"subjects": s.refs, "reason": fmt.Sprint("because ", o.next), "author": fmt.Sprint("organisation ", o.number)}
		if s.from != "" {
			body["from"] = s.from
		}
		data, err := json.Marshal(body)
		if err != nil {
			return err
		}
		r := httptest.NewRequestWithContext(context.WithValue(ctx, turnKey{}, t), http.MethodPost, "/api/v1/identity/"+s.decision, strings.NewReader(string(data)))
		r.Header.Set("Authorization", "Bearer t")
		r.Header.Set("Content-Type", "application/json")
		answers[i] = httptest.NewRecorder()
		go func() {
			w.api.ServeHTTP(answers[i], r)
			close(t.done)
		}()
	}
	for _, t := range turns {
		select {
		case <-t.arrived:
		case <-t.done:
		}
	}
	var bad error
	for i, o := range orgs {
		now := w.tick()
		close(turns[i].goOn)
		<-turns[i].done
		if err := w.decided(o, answers[i], now); err != nil && bad == nil {
			bad = err
		}
		o.next++
	}
	return bad
}

// decided holds what became of a request against what it should, and takes it
// into the organisation's log.
func (w *town) decided(o *organisation, answer *httptest.ResponseRecorder, now domain.Millis) error {
	s := o.steps[o.next]
	if o.decisions == nil {
		o.decisions = map[int]string{}
	}
	o.decisions[o.next] = fmt.Sprint(answer.Code)
	status, these, others := o.sides(s)
	if answer.Code != status {
		return o.failf("%s %v from %q: status %d, want %d: %s", s.decision, s.refs, s.from, answer.Code, status, answer.Body)
	}
	if status != http.StatusCreated {
		return nil
	}
	var body struct {
		EventID          uuid.UUID `json:"event_id"`
		Subjects, Others []string
	}
	if err := json.Unmarshal(answer.Body.Bytes(), &body); err != nil {
		return err
	}
	o.decisions[o.next] = fmt.Sprintf("%v | %v", body.Subjects, body.Others)
	if got, want := sortedWords(body.Subjects)+" | "+sortedWords(body.Others), sortedWords(wordsOf(these))+" | "+sortedWords(wordsOf(others)); got != want {
		return o.failf("%s %v from %q\n got  %s\n want %s", s.decision, s.refs, s.from, got, want)
	}
	e := naive.Event{RecordedAt: now, ID: body.EventID}
	if s.decision == "merge" {
		e.Merge = &naive.Merge{Named: subjectsOf(body.Subjects), Members: subjectsOf(body.Others)}
	} else {
		e.Split = &naive.Split{Leave: subjectsOf(body.Subjects), Stay: subjectsOf(body.Others)}
	}
	o.log = append(o.log, e)
	return nil
}
