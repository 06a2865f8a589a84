package automation

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"sojourn/condition"
	"sojourn/domain"
	"sojourn/eventstore"
)

// A dry run decides about one cause after another, as the limits look at what was
// planned before, but what it reads of the log and of customers does not depend on
// that: it is read ahead, a window of causes at a time, for many customers at the same
// time and for each of them but once.

// windowCauses is how many causes are read ahead together.
const windowCauses = 4096

// timesTogether is of how many times one customer is asked about at once: until all of
// them are answered the views keep a state open, and each answer has facts of its own.
const timesTogether = 16

// lookahead is what a dry run has read ahead.
type lookahead struct {
	gathering []*cause
	ready     *window
	// known are the answers of the windows up to the one that is decided on.
	known map[instant]*answer
	// events are those behind the causes of the window that is decided on.
	events map[uuid.UUID]eventstore.Recorded
}

// cause is an offer and when it is decided on.
type cause struct {
	*offered
	at domain.Millis
	// met says that there is a customer, who meets the trigger's condition.
	met bool
}

// instant is a customer, by any id, at a time.
type instant struct {
	customer uuid.UUID
	at       domain.Millis
}

// answer is what there is to know about a customer at a time.
type answer struct {
	customer *Customer // nil where there is none
	said     answers
}

// window are causes that are being read, and what was found.
type window struct {
	causes []*cause
	done   chan struct{}
	err    error

	mu     sync.Mutex
	known  map[instant]*answer
	events map[uuid.UUID]eventstore.Recorded
}

// wait returns when nothing is read any more.
func (l *lookahead) wait() {
	if l.ready != nil {
		<-l.ready.done
	}
}

// offer takes the next cause; it is decided on when enough of them have come.
func (d *dry) offer(ctx context.Context, o *offered, at domain.Millis) error {
	d.ahead.gathering = append(d.ahead.gathering, &cause{offered: o, at: at})
	if len(d.ahead.gathering) < d.run.window {
		return nil
	}
	return d.turn(ctx)
}

// settle decides on all that was offered.
func (d *dry) settle(ctx context.Context) error {
	for len(d.ahead.gathering) > 0 || d.ahead.ready != nil {
		if err := d.turn(ctx); err != nil {
			return err
		}
	}
	return nil
}

// turn begins to read what has been gathered, and decides on what was read before.
func (d *dry) turn(ctx context.Context) error {
	l := &d.ahead
	var next *window
	if len(l.gathering) > 0 {
		next = &window{causes: l.gathering, done: make(chan struct{}), known: map[instant]*answer{}, events: map[uuid.UUID]eventstore.Recorded{}}
		l.gathering = nil
	}
	w := l.ready
	if w != nil {
		<-w.done
	}
	l.ready = next
	if next != nil {
		go func() {
			defer close(next.done)
			next.err = d.read(ctx, next)
		}()
	}
	if w == nil {
		return nil
	}
	if w.err != nil {
		return w.err
	}
	maps.DeleteFunc(l.known, func(i instant, _ *answer) bool { return i.at < d.clock })
	maps.Copy(l.known, w.known)
	l.events = w.events
	for _, c := range w.causes {
		if !c.met {
			continue
		}
		if err := d.due(ctx, c.at, c.at); err != nil {
			return err
		}
		if err := d.decide(ctx, c.offered, c.at); err != nil {
			return err
		}
	}
	return nil
}

// read finds what is behind the causes of a window and about whom they are, and asks
// about those customers as of each decision, whether they meet the trigger's condition
// then, and as of the attempt that may follow.
func (d *dry) read(ctx context.Context, w *window) error {
	var order []uuid.UUID
	byCustomer := map[uuid.UUID][]*cause{}
	for _, c := range w.causes {
		if byCustomer[c.Customer] == nil {
			order = append(order, c.Customer)
		}
		byCustomer[c.Customer] = append(byCustomer[c.Customer], c)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(d.run.Workers)
	for _, id := range order {
		g.Go(func() error { return d.readCustomer(ctx, w, byCustomer[id]) })
	}
	return g.Wait()
}

func (d *dry) readCustomer(ctx context.Context, w *window, causes []*cause) error {
	log := newReadOnce(d.Log)
	var subjects []uuid.UUID
	bySubject := map[uuid.UUID][]*cause{}
	for _, c := range causes {
		if err := d.find(ctx, w, c.offered); err != nil {
			return err
		}
		if bySubject[c.Subject] == nil {
			subjects = append(subjects, c.Subject)
		}
		bySubject[c.Subject] = append(bySubject[c.Subject], c)
	}
	for _, subject := range subjects {
		for some := range slices.Chunk(bySubject[subject], timesTogether) {
			if err := d.readSome(ctx, log, w, subject, some); err != nil {
				return err
			}
		}
	}
	return nil
}

// readSome asks about a customer as of some causes, and of those that meet the trigger's
// condition keeps the answers.
func (d *dry) readSome(ctx context.Context, log *readOnce, w *window, subject uuid.UUID, causes []*cause) error {
	if err := ctx.Err(); err != nil { // answers from memory do not look
		return err
	}
	at := make([]domain.Millis, len(causes))
	for i, c := range causes {
		at[i] = c.at
	}
	found, err := d.ask(ctx, log, subject, at)
	if err != nil {
		return err
	}
	var later []domain.Millis
	for i, c := range causes {
		a := found[i]
		if c.met = a.customer != nil && meets(d.trigger.Trigger, a.customer, c.offered); !c.met {
			continue
		}
		if send := d.trigger.SendAt(c.at, a.said.zone); send != c.at {
			later = append(later, send)
		}
	}
	sent, err := d.ask(ctx, log, subject, later)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, c := range causes {
		if c.met {
			keep(w.known, subject, c.at, found[i])
		}
	}
	for i, a := range sent {
		keep(w.known, subject, later[i], a)
	}
	return nil
}

// keep keeps an answer under the id that was asked for and the customer's own, and of the
// facts those that a message may hold: the condition has been asked.
func keep(known map[instant]*answer, id uuid.UUID, at domain.Millis, a *answer) {
	known[instant{id, at}] = a
	if a.customer != nil {
		if f := a.customer.Facts; f != nil {
			a.customer.Facts = &condition.Subject{FirstSeen: f.FirstSeen, First: f.First, Until: f.Until, Expiring: f.Expiring, Accounts: f.Accounts}
		}
		known[instant{a.customer.ID, at}] = a
	}
}

// find finds what is behind an offer.
func (d *dry) find(ctx context.Context, w *window, o *offered) error {
	if o.Subject == uuid.Nil {
		var r eventstore.Recorded
		id, ok := o.Touchpoint()
		if ok {
			var err error
			if r, ok, err = d.engine.look(ctx, id); err != nil {
				return err
			}
		}
		if d.engine.traceTo(o, &r, ok); ok {
			w.mu.Lock()
			w.events[id] = r
			w.mu.Unlock()
		}
		return nil
	}
	if o.Type != "touchpoint" || o.event != nil {
		return nil
	}
	for r, err := range d.Log.ReadAll(ctx, eventstore.Position(o.Found)-1) {
		if err != nil {
			return fmt.Errorf("read a touchpoint: %w", err)
		}
		again, err := d.offers(&r, d.trigger, false)
		if err == nil && len(again) == 1 {
			o.event, o.Chain = again[0].event, again[0].Chain
		}
		return err
	}
	return nil
}

// ask asks about a customer as of some times.
func (d *dry) ask(ctx context.Context, log *readOnce, id uuid.UUID, at []domain.Millis) ([]*answer, error) {
	if len(at) == 0 {
		return nil, nil
	}
	customers, err := d.past.Then(ctx, log, id, at, d.run.Known, &d.needs)
	if err != nil {
		return nil, fmt.Errorf("ask for a customer: %w", err)
	}
	all := make([]*answer, len(at))
	for i, c := range customers {
		all[i] = &answer{customer: c}
		if c == nil {
			continue
		}
		until := domain.MaxTime
		if d.run.Known {
			until = at[i]
		}
		if all[i].said, err = d.engine.saysBy(ctx, &learnt{log, until}, d.trigger.Trigger, c, at[i]); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// answer is what there is to know about a customer at the clock of the run.
func (d *dry) answer(ctx context.Context, id uuid.UUID) (*answer, error) {
	if a := d.ahead.known[instant{id, d.clock}]; a != nil {
		return a, nil
	}
	all, err := d.ask(ctx, newReadOnce(d.Log), id, []domain.Millis{d.clock})
	if err != nil {
		return nil, err
	}
	keep(d.ahead.known, id, d.clock, all[0])
	return all[0], nil
}

func (d *dry) customer(ctx context.Context, id uuid.UUID) (*Customer, error) {
	a, err := d.answer(ctx, id)
	if err == nil && a.customer == nil {
		err = ErrNoCustomer
	}
	if err != nil {
		return nil, err
	}
	return a.customer, nil
}

// keepBytes is how much of the log is kept while one customer is asked about.
const keepBytes = 64 << 20

// readOnce is a log of which each stream is read but once, from its beginning, unless
// the streams together are longer than it may keep. It is for one goroutine.
type readOnce struct {
	Log
	room    int // bytes
	streams map[string][]eventstore.Recorded
	long    map[string]bool // there was no room for them
}

func newReadOnce(log Log) *readOnce {
	return &readOnce{Log: log, room: keepBytes, streams: map[string][]eventstore.Recorded{}, long: map[string]bool{}}
}

// ReadStream reads a stream, forwards from its beginning as it was when it was asked
// for first.
func (l *readOnce) ReadStream(ctx context.Context, stream string, from uint64, dir eventstore.Direction) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		if from == 0 && dir == eventstore.Forwards && !l.long[stream] {
			if err := l.keep(ctx, stream); err != nil {
				yield(eventstore.Recorded{}, err)
				return
			}
		}
		all, ok := l.streams[stream]
		if from != 0 || dir != eventstore.Forwards || !ok {
			l.Log.ReadStream(ctx, stream, from, dir)(yield)
			return
		}
		if len(all) == 0 {
			yield(eventstore.Recorded{}, eventstore.ErrStreamNotFound)
			return
		}
		for i := range all {
			if !yield(all[i], nil) {
				return
			}
		}
	}
}

// keep reads a stream, if it was not read yet and there is room for it.
func (l *readOnce) keep(ctx context.Context, stream string) error {
	if _, ok := l.streams[stream]; ok {
		return nil
	}
	var all []eventstore.Recorded
	room := l.room
	for r, err := range l.Log.ReadStream(ctx, stream, 0, eventstore.Forwards) {
		if errors.Is(err, eventstore.ErrStreamNotFound) {
			break
		}
		if err != nil {
			return err
		}
		if room -= len(r.Data) + len(r.Metadata); room < 0 {
			l.long[stream] = true
			return nil
		}
		all = append(all, r.Clone())
	}
	l.room, l.streams[stream] = room, slices.Clip(all)
	return nil
}

// learnt are streams as they were at a time.
type learnt struct {
	log   streams
	until domain.Millis
}

// streams reads streams; the event store does.
type streams interface {
	ReadStream(ctx context.Context, stream string, from uint64, dir eventstore.Direction) iter.Seq2[eventstore.Recorded, error]
}

// ReadStream reads what was recorded by then.
func (l *learnt) ReadStream(ctx context.Context, stream string, from uint64, dir eventstore.Direction) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		for r, err := range l.log.ReadStream(ctx, stream, from, dir) {
			if err == nil && domain.MillisOf(r.RecordedAt) > l.until || !yield(r, err) {
				return
			}
		}
	}
}
