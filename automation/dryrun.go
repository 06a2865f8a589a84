package automation

import (
	"cmp"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"slices"
	"time"

	"github.com/google/uuid"

	"sojourn/automation/delivery"
	"sojourn/automation/trigger"
	"sojourn/condition"
	"sojourn/domain"
	"sojourn/domain/fact"
	"sojourn/eventstore"
)

// Past answers about earlier times. It may be called concurrently.
type Past interface {
	// Then answers about the customer that an id belongs to, as of each of some times:
	// by what was known at each, or where known is false by all that is known today. An
	// answer is as that of Views.Customer, nil where nobody bore the id. What it reads
	// of the log it reads from log, if it can: each stream from its beginning.
	Then(ctx context.Context, log eventstore.Store, id uuid.UUID, at []domain.Millis, known bool, needs *condition.Needs) ([]*Customer, error)
}

// DryRun asks what a trigger would have done over a past period.
type DryRun struct {
	Trigger string
	// From and To bound the period: what is found in it (Known), or has happened in it,
	// the end left out.
	From, To domain.Millis
	// Known follows the log as it was learnt, statement by statement; else each change
	// is taken as known when it happened, by all that is known today.
	Known bool
	// Workers is how many customers are read at the same time; default one for each
	// processor. What the run finds does not depend on it.
	Workers int
	// Messages is how many messages are kept for Each, those of the first.
	Messages int
	// window is how many causes are read ahead together; default windowCauses.
	window int
	// Progress is told how much of the log has been gone through; may be nil.
	Progress func(done, total uint64)
	// Each is given what the trigger would have done about each cause, in the order of
	// its decisions, once that is certain.
	Each func(d *fact.Delivery, m *delivery.Message) error
}

// DryResult counts what a dry run has found.
type DryResult struct {
	Version    int                 `json:"version"`
	Causes     int                 `json:"causes"`
	Sent       int                 `json:"sent"`
	Customers  int                 `json:"customers"` // who would have got something
	Suppressed map[fact.Reason]int `json:"suppressed"`
}

// dry is an engine over the past. It appends to memory.
type dry struct {
	Log
	run   *DryRun
	clock domain.Millis
	place eventstore.Position
	// deciding says that causes are decided on, else attempts are made.
	deciding bool
	// step is where the log has what is decided or attempted now, 0 where it does not.
	step    eventstore.Position
	past    Past
	trigger inForce
	needs   condition.Needs
	engine  *Engine
	ahead   lookahead
	jobs    dueHeap
	// facts are those of the run by subject; own are the deliveries of the trigger that
	// the log has from within the period.
	facts    map[string][]eventstore.Recorded
	payloads map[string][]eventstore.Recorded
	ids      map[uuid.UUID]bool
	// standing are the changes that stand today, and of whom: of a run as occurred.
	standing map[string]uuid.UUID
	deliver  []*dryDelivery
	byID     map[uuid.UUID]*dryDelivery
	seq      eventstore.Position
	messages int
}

type dryDelivery struct {
	fact.Delivery
	message *delivery.Message
}

// spread leaves room between the positions of the log for facts of the run.
const spread = 1 << 12

// ErrNoPast is answered by an engine whose views do not answer about the past.
var ErrNoPast = errors.New("the views answer about the present only")

// DryRun goes through a past period with the version of a trigger that is in force,
// as if it had been applied and not paused all the while. In its limits count the
// facts from before the period and those of other triggers, and in place of its own
// within it what it plans. It appends nothing.
//
// It holds in memory what it would have recorded, some KB for each cause, as
// its limits are asked about all of it; as occurred also each cause of the period from
// the beginning on, some hundred bytes. What it reads of customers it holds for two
// windows of causes (windowCauses) and for what is planned behind them, and of
// touchpoints those of one customer for each worker, up to keepBytes.
func (e *Engine) DryRun(ctx context.Context, run *DryRun) (*DryResult, error) {
	past, ok := e.cfg.Views.(Past)
	if !ok {
		return nil, ErrNoPast
	}
	registry, err := e.cfg.Triggers.read(ctx)
	if err != nil {
		return nil, err
	}
	s := registry.byID[run.Trigger]
	if s == nil || len(s.Versions) == 0 {
		return nil, ErrNoTrigger
	}
	if err := s.last().Err; err != nil {
		return nil, err
	}
	s.Paused = false
	t := inForce{Trigger: s.last().compiled}
	d := &dry{
		Log: e.cfg.Store, run: run, past: past, facts: map[string][]eventstore.Recorded{}, payloads: map[string][]eventstore.Recorded{},
		ids: map[uuid.UUID]bool{}, byID: map[uuid.UUID]*dryDelivery{}, clock: run.From, trigger: t,
		standing: map[string]uuid.UUID{},
	}
	if t.Condition != nil {
		d.needs.Add(t.Condition.Needs())
	}
	d.needs.Accounts = true // of the message
	if x, ok := t.Expiring(); ok {
		d.needs.Add(&condition.Needs{Expiring: []condition.Expiring{x}})
	}
	d.ahead.known = map[instant]*answer{}
	if run.Workers == 0 {
		run.Workers = runtime.GOMAXPROCS(0)
	}
	if run.window == 0 {
		run.window = windowCauses
	}
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		cancel()
		d.ahead.wait()
	}()
	d.engine = &Engine{
		cfg: e.cfg, id: uuid.New(), dry: d, acting: true, registry: registry,
		waiting: map[uuid.UUID]*pending{}, sent: map[string]map[uuid.UUID]domain.Millis{},
	}
	d.engine.cfg.Store, d.engine.cfg.Queue, d.engine.cfg.Metrics = d, d, NewMetrics(nil)
	d.engine.cfg.Now = func() time.Time { return d.clock.Time() }
	head, err := e.cfg.Store.Head(ctx)
	if err != nil {
		return nil, fmt.Errorf("find the end of the log: %w", err)
	}
	if run.Known {
		err = d.asKnown(ctx, t, head, e.now())
	} else {
		err = d.asOccurred(ctx, t, head, e.now())
	}
	if err == nil {
		err = d.settle(ctx)
	}
	if err == nil {
		err = d.due(ctx, domain.MaxTime, domain.MillisOf(e.cfg.Now()))
	}
	if err != nil {
		return nil, err
	}
	return d.result(t.Version)
}

func (d *dry) result(version int) (*DryResult, error) {
	r := &DryResult{Version: version, Suppressed: map[fact.Reason]int{}}
	customers := map[string]bool{}
	for _, x := range d.deliver {
		r.Causes++
		if x.State == fact.StateSuppressed {
			r.Suppressed[x.Reason]++
		} else {
			r.Sent++
			customers[x.First.Customer] = true
		}
		if d.run.Each != nil {
			if err := d.run.Each(&x.Delivery, x.message); err != nil {
				return nil, err
			}
		}
	}
	r.Customers = len(customers)
	return r, nil
}

func (d *dry) progress(at, head eventstore.Position) {
	if d.run.Progress != nil {
		d.run.Progress(uint64(at), uint64(head))
	}
}

// asKnown follows the log as it was recorded.
func (d *dry) asKnown(ctx context.Context, t inForce, head eventstore.Position, now domain.Millis) error {
	n := 0
	ticks := d.ticks(t, now)
	for r, err := range d.Log.ReadAll(ctx, 0) {
		if err != nil {
			return fmt.Errorf("read the log: %w", err)
		}
		at := domain.MillisOf(r.RecordedAt)
		if r.Position > head || at >= d.run.To {
			break
		}
		if err := ticks.known(ctx, d, at); err != nil {
			return err
		}
		if err := ticks.hear(&r); err != nil {
			return err
		}
		if n++; n%10_000 == 0 {
			d.progress(r.Position, head)
		}
		if at < d.run.From {
			continue
		}
		offers, err := d.offers(&r, t, true)
		if err != nil {
			return err
		}
		for _, o := range offers {
			if err := d.offer(ctx, o, at); err != nil {
				return err
			}
		}
	}
	return ticks.known(ctx, d, domain.MaxTime)
}

// offers are the changes that an event offers to the trigger.
func (d *dry) offers(r *eventstore.Recorded, t inForce, news bool) ([]*offered, error) {
	b := &batch{engine: d.engine, triggers: []inForce{t}, read: true}
	switch {
	case !domain.Ours(r.Stream, r.Type):
	case r.Type == domain.TypeTouchpoint || r.Type == domain.TypeJoin:
		if t.On.Touchpoint == nil || r.Repeat {
			return nil, nil
		}
		c := r.Clone()
		if err := b.touchpoint(&c); err != nil {
			return nil, err
		}
	case r.Type == typeTick:
		if err := b.tick(r); err != nil {
			return nil, err
		}
		b.offers = slices.DeleteFunc(b.offers, func(o *offered) bool { return !d.ticked(t, &o.Offer) })
	case changeTypes[r.Type] != "":
		s, err := readStatement(r.Data)
		if err != nil || news && !s.News {
			return nil, err
		}
		c, err := s.change(changeTypes[r.Type])
		if err != nil {
			return nil, err
		}
		if err := b.offer(trigger.Offer{Change: c, Customer: s.Customer, Found: uint64(r.Position)}, nil); err != nil {
			return nil, err
		}
	}
	return b.offers, nil
}

// asOccurred takes the changes that stand today, each when it happened.
func (d *dry) asOccurred(ctx context.Context, t inForce, head eventstore.Position, now domain.Millis) error {
	type revision struct {
		stream string
		number uint64
	}
	type found struct {
		*offered
		withdrawn bool
	}
	var all []*found
	said := map[revision]*found{}
	n := 0
	ticks := d.ticks(t, now)
	for r, err := range d.Log.ReadAll(ctx, 0) {
		if err != nil {
			return fmt.Errorf("read the log: %w", err)
		}
		if r.Position > head {
			break
		}
		if err := ticks.hear(&r); err != nil {
			return err
		}
		if n++; n%10_000 == 0 {
			d.progress(r.Position, 2*head)
		}
		switch r.Type {
		case domain.TypeStageWithdrawn, domain.TypeTierWithdrawn, domain.TypeStatusWithdrawn, domain.TypeSegmentWithdrawn:
			if !domain.Ours(r.Stream, r.Type) {
				continue
			}
			s, err := readStatement(r.Data)
			if err != nil {
				return err
			}
			for _, number := range s.Revisions {
				if f := said[revision{r.Stream, number}]; f != nil {
					f.withdrawn = true
				}
			}
			continue
		}
		offers, err := d.offers(&r, t, false)
		if err != nil {
			return err
		}
		for _, o := range offers {
			if o.At < d.run.From || o.At >= d.run.To {
				continue
			}
			// What it holds is read again when its turn comes.
			o.event, o.Chain = nil, nil
			f := &found{offered: o}
			all = append(all, f)
			if o.Type != "touchpoint" && !o.Shared() {
				said[revision{r.Clone().Stream, r.Revision}] = f
			}
		}
	}
	clear(said)
	err := ticks.before(domain.MaxTime, func(c *fact.Change, customers []uuid.UUID) error {
		for _, customer := range customers {
			o := trigger.Offer{Change: *c, Customer: customer, Found: uint64(head)}
			all = append(all, &found{offered: &offered{Offer: o, triggers: []inForce{t}}})
		}
		return nil
	})
	if err != nil {
		return err
	}
	slices.SortStableFunc(all, func(a, b *found) int { return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.Found, b.Found)) })
	for i, f := range all {
		if i%1000 == 0 {
			d.progress(head+eventstore.Position(uint64(i)*uint64(head)/uint64(len(all))), 2*head)
		}
		if f.withdrawn {
			continue
		}
		d.standing[f.Key()] = f.Customer
		if err := d.offer(ctx, f.offered, f.At); err != nil {
			return err
		}
	}
	return nil
}

// stands reports whether a change is known to be said of a customer today, without a
// look at what was said.
func (d *dry) stands(customer uuid.UUID, c *fact.Change) bool {
	of, ok := d.standing[c.Key()]
	return ok && of == customer
}

// due attempts what is due before an instant. now bounds the clock: what is planned
// for the future is asked about as of now.
func (d *dry) due(ctx context.Context, until, now domain.Millis) error {
	for len(d.jobs) > 0 && domain.MillisOf(d.jobs[0].Due) < until {
		j := heap.Pop(&d.jobs).(dueJob)
		d.clock = max(d.clock, min(domain.MillisOf(j.Due), max(now, d.clock)))
		x := d.byID[j.ID]
		if err := d.findStep(ctx, &fact.Fact{Kind: fact.Attempted, Delivery: j.ID, Number: 1}, &fact.Fact{Kind: fact.Suppressed, Delivery: j.ID}); err != nil {
			return err
		}
		r, err := d.engine.check(ctx, j.ID)
		if err != nil {
			return err
		}
		if r == nil {
			continue
		}
		if r.trigger.Templates != nil {
			m, err := d.engine.message(ctx, r)
			var te *delivery.TemplateError
			if errors.As(err, &te) {
				if err := d.engine.suppress(ctx, &r.Delivery, eventstore.Any{}, fact.Template, te.Error()); err != nil {
					return err
				}
				continue
			}
			if err != nil {
				return err
			}
			if d.messages++; d.messages <= d.run.Messages {
				x.message = &m
			}
		}
		delete(d.payloads, fact.PayloadStream(j.ID))
		f := &fact.Fact{Kind: fact.Delivered, Delivery: j.ID, Round: r.Round, Number: 1, At: domain.MillisOf(j.Due)}
		if err := d.engine.record(ctx, r.Subject, eventstore.Any{}, f); err != nil {
			return err
		}
	}
	return nil
}

// Submit takes what the engine would attempt.
func (d *dry) Submit(jobs ...delivery.Job) {
	for _, j := range jobs {
		heap.Push(&d.jobs, dueJob{j, len(d.ids)})
	}
}

// dueJob is a job and in which order it came.
type dueJob struct {
	delivery.Job
	order int
}

type dueHeap []dueJob

func (h dueHeap) Len() int { return len(h) }
func (h dueHeap) Less(i, j int) bool {
	if c := h[i].Due.Compare(h[j].Due); c != 0 {
		return c < 0
	}
	return h[i].order < h[j].order
}
func (h dueHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *dueHeap) Push(x any)   { *h = append(*h, x.(dueJob)) }
func (h *dueHeap) Pop() any {
	old := *h
	x := old[len(old)-1]
	*h = old[:len(old)-1]
	return x
}

// ReadStream reads what the log held at the clock of the run, and the facts and
// messages of the run.
func (d *dry) ReadStream(ctx context.Context, stream string, from uint64, dir eventstore.Direction) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		_, facts := fact.Subject(stream)
		own := map[uuid.UUID]bool{}
		n := 0
		if _, payload := d.payloads[stream]; !payload {
			for r, err := range d.Log.ReadStream(ctx, stream, from, dir) {
				if errors.Is(err, eventstore.ErrStreamNotFound) {
					break
				}
				at := domain.MillisOf(r.RecordedAt)
				if err == nil && !facts && d.run.Known && at > d.clock {
					break
				}
				if err == nil && facts {
					kind, ok := fact.KindOf(r.Type)
					if !ok {
						continue
					}
					f, err := fact.Decode(kind, r.Data)
					if err != nil {
						yield(r, err)
						return
					}
					own[f.Delivery] = own[f.Delivery] || f.Trigger == d.run.Trigger && f.Change != nil && at >= d.run.From
					if own[f.Delivery] || !d.knows(&f, r.Position, at) {
						continue
					}
					r.Position = d.placeOf(&f, r.Position)
				}
				n++
				if !yield(r, err) || err != nil {
					return
				}
			}
		}
		more := d.facts[stream]
		if !facts {
			more = d.payloads[stream]
		}
		for _, r := range more {
			n++
			if !yield(r, nil) {
				return
			}
		}
		if n == 0 {
			yield(eventstore.Recorded{}, eventstore.ErrStreamNotFound)
		}
	}
}

// knows reports whether a fact of the log stood before what is decided now. Causes
// are taken in the order of the log, and triggers in that of their ids, whatever the
// time by the clock was. Of the rest, what was recorded in the millisecond of the step
// that is taken came before it where the log has that step behind it.
func (d *dry) knows(f *fact.Fact, position eventstore.Position, recorded domain.Millis) bool {
	if !d.deciding || !d.run.Known || f.Change == nil || f.Round > 0 {
		return recorded < d.clock || recorded == d.clock && (d.step == 0 || position < d.step)
	}
	return f.Found < uint64(d.place) || f.Found == uint64(d.place) && f.Trigger < d.run.Trigger
}

// placeOf gives a fact of the log its place among those of the run: at that of what
// was found, in the order in which triggers are asked.
func (d *dry) placeOf(f *fact.Fact, position eventstore.Position) eventstore.Position {
	switch {
	case !d.run.Known || f.Change == nil || f.Round > 0:
		return position * spread
	case f.Trigger < d.run.Trigger:
		return eventstore.Position(f.Found) * spread
	}
	return eventstore.Position(f.Found+1)*spread - 1
}

// decide offers a change to the trigger.
func (d *dry) decide(ctx context.Context, o *offered, at domain.Millis) error {
	d.clock, d.place, d.deciding = at, eventstore.Position(o.Found), true
	defer func() { d.deciding = false }()
	if err := d.findStep(ctx, &fact.Fact{Kind: fact.Planned, Delivery: d.trigger.Delivery(&o.Offer)}); err != nil {
		return err
	}
	return d.engine.decide(ctx, o)
}

// findStep notes where the log has the step that a run as known takes next, recorded as the
// first of some facts that it holds.
func (d *dry) findStep(ctx context.Context, facts ...*fact.Fact) error {
	if d.step = 0; !d.run.Known {
		return nil
	}
	ids, at := make([]uuid.UUID, len(facts)), make([]eventstore.Position, len(facts))
	for i, f := range facts {
		ids[i] = f.ID()
	}
	if err := d.Lookup(ctx, ids, at); err != nil {
		return fmt.Errorf("find what was done: %w", err)
	}
	for _, position := range at {
		if d.step == 0 {
			d.step = position
		}
	}
	return nil
}

// Append keeps in memory what the engine records.
func (d *dry) Append(_ context.Context, stream string, _ eventstore.Expected, events ...eventstore.NewEvent) (eventstore.Result, error) {
	for _, e := range events {
		if d.ids[e.ID] {
			continue
		}
		d.ids[e.ID] = true
		d.seq = max(d.seq+1, d.place*spread+spread/2)
		r := eventstore.Recorded{NewEvent: e, Stream: stream, Position: d.seq, RecordedAt: d.clock.Time()}
		subject, ok := fact.Subject(stream)
		if !ok {
			d.payloads[stream] = append(d.payloads[stream], r)
			continue
		}
		r.Revision = uint64(len(d.facts[stream]))
		d.facts[stream] = append(d.facts[stream], r)
		kind, _ := fact.KindOf(e.Type)
		f, err := fact.Decode(kind, e.Data)
		if err != nil {
			return eventstore.Result{}, err
		}
		entry := fact.Entry{Fact: f, Position: uint64(d.seq), Subject: subject}
		x := d.byID[f.Delivery]
		if x == nil {
			x = &dryDelivery{Delivery: fact.Delivery{First: f, Subject: subject}}
			d.byID[f.Delivery] = x
			d.deliver = append(d.deliver, x)
		}
		x.Apply(&entry)
		d.engine.heard(&entry)
	}
	return eventstore.Result{}, nil
}
