package automation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/tidwall/gjson"
	"golang.org/x/sync/errgroup"

	"sojourn/automation/trigger"
	"sojourn/condition"
	"sojourn/domain"
	"sojourn/domain/fact"
	"sojourn/eventstore"
)

// offered is a change together with the triggers in force where it was found.
type offered struct {
	trigger.Offer
	triggers []inForce
	event    *condition.Event
}

// batch is a piece of the log that is dealt with at once.
type batch struct {
	engine   *Engine
	offers   []*offered
	facts    []fact.Entry
	triggers []inForce
	read     bool // triggers are those of this place
}

func newBatch(e *Engine) *batch { return &batch{engine: e} }

func (b *batch) inForce() []inForce {
	if !b.read {
		b.triggers, b.read = b.engine.registry.all(), true
	}
	return b.triggers
}

// add takes the next event of the log.
func (b *batch) add(ctx context.Context, r *eventstore.Recorded) error {
	if !domain.Ours(r.Stream, r.Type) {
		return nil
	}
	switch r.Type {
	case TypeApplied, TypePaused, TypeResumed, TypeSettings:
		if r.Stream != Stream {
			return nil
		}
		b.read = false
		return b.engine.registry.apply(r)
	case typeLease:
		if r.Stream == LeaseStream {
			return b.engine.acts(ctx, true)
		}
		return nil
	case typeTick:
		return b.tick(r)
	case domain.TypeTouchpoint, domain.TypeJoin:
		if !r.Repeat {
			return b.touchpoint(r)
		}
		return nil
	}
	if kind, ok := fact.KindOf(r.Type); ok {
		subject, ok := fact.Subject(r.Stream)
		if !ok {
			return nil
		}
		f, err := fact.Decode(kind, r.Data)
		if err != nil {
			return err
		}
		b.facts = append(b.facts, fact.Entry{Fact: f, Position: uint64(r.Position), Subject: subject})
		return nil
	}
	typ, ok := changeTypes[r.Type]
	if !ok {
		return nil
	}
	s, err := readStatement(r.Data)
	if err != nil || !s.News {
		return err
	}
	c, err := s.change(typ)
	if err != nil {
		return err
	}
	return b.offer(trigger.Offer{Change: c, Customer: s.Customer, Found: uint64(r.Position)}, nil)
}

// touchpoint offers a touchpoint to the triggers on touchpoints.
func (b *batch) touchpoint(r *eventstore.Recorded) error {
	some := false
	for _, t := range b.inForce() {
		some = some || t.On.Touchpoint != nil
	}
	if !some {
		return nil
	}
	h, err := domain.ParseHeader(string(r.Metadata))
	if err != nil {
		return nil // what the folds leave out as well
	}
	meaning, channel := b.engine.cfg.Views.Classify(&h)
	subject := domain.SubjectID(r.Stream)
	o := trigger.Offer{
		Change: fact.Change{
			Type: "touchpoint", To: h.Name, At: h.OccurredAt, Cause: "touchpoint:" + r.ID.String(),
		},
		Meaning: meaning, Customer: subject, Subject: subject, Found: uint64(r.Position),
	}
	return b.offer(o, func() (*condition.Event, []string) {
		return eventOf(&h, r.Data, meaning, channel), chainOf(&h, r.Data)
	})
}

// offer keeps a change for the triggers that it starts.
func (b *batch) offer(o trigger.Offer, event func() (*condition.Event, []string)) error {
	all := b.inForce()
	var matching []inForce
	for _, t := range all {
		if t.Matches(&o) {
			matching = append(matching, t)
		}
	}
	if len(matching) == 0 {
		return nil
	}
	x := &offered{Offer: o, triggers: matching}
	if event != nil {
		x.event, x.Chain = event()
	}
	b.offers = append(b.offers, x)
	return nil
}

// workers is how many customers are dealt with at the same time.
const workers = 16

// run decides about what is offered, in the order of the log for each customer, and
// takes up what the facts say.
func (b *batch) run(ctx context.Context) error {
	for i := range b.facts {
		b.engine.heard(&b.facts[i])
	}
	if len(b.offers) == 0 {
		return nil
	}
	if err := b.engine.acts(ctx, false); err != nil {
		return err
	}
	var order []uuid.UUID
	byCustomer := map[uuid.UUID][]*offered{}
	alone := false // a cap counts the sends to all customers, in the order of the log
	for _, o := range b.offers {
		c, err := b.engine.customer(ctx, o.Customer, nil)
		if errors.Is(err, ErrNoCustomer) {
			continue
		}
		if err != nil {
			return err
		}
		if byCustomer[c.ID] == nil {
			order = append(order, c.ID)
		}
		byCustomer[c.ID] = append(byCustomer[c.ID], o)
		for _, t := range o.triggers {
			alone = alone || t.Limits.Cap != nil
		}
	}
	if alone {
		for _, o := range b.offers {
			if err := b.engine.decide(ctx, o); err != nil {
				return err
			}
		}
		return nil
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(workers)
	for _, id := range order {
		g.Go(func() error {
			for _, o := range byCustomer[id] {
				if err := b.engine.decide(ctx, o); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// find reads the event of an id from the log.
func (e *Engine) find(ctx context.Context, id uuid.UUID) (r eventstore.Recorded, ok bool, err error) {
	if e.dry != nil {
		if r, ok := e.dry.ahead.events[id]; ok {
			return r, true, nil
		}
	}
	return e.look(ctx, id)
}

func (e *Engine) look(ctx context.Context, id uuid.UUID) (r eventstore.Recorded, ok bool, err error) {
	var at [1]eventstore.Position
	if err := e.cfg.Store.Lookup(ctx, []uuid.UUID{id}, at[:]); err != nil {
		return r, false, fmt.Errorf("find a touchpoint: %w", err)
	}
	if at[0] == 0 {
		return r, false, nil
	}
	for r, err := range e.cfg.Store.ReadAll(ctx, at[0]-1) {
		if err != nil {
			return r, false, fmt.Errorf("read a touchpoint: %w", err)
		}
		return r.Clone(), true, nil
	}
	return r, false, nil
}

// trace finds what is behind a change: whose touchpoint it is, what it was, and
// which triggers led to it.
func (e *Engine) trace(ctx context.Context, o *offered) error {
	if o.Subject != uuid.Nil {
		return nil
	}
	var r eventstore.Recorded
	id, ok := o.Touchpoint()
	if ok {
		var err error
		if r, ok, err = e.find(ctx, id); err != nil {
			return err
		}
	}
	e.traceTo(o, &r, ok)
	return nil
}

// traceTo takes what is behind a change from an event, where there is one.
func (e *Engine) traceTo(o *offered, r *eventstore.Recorded, ok bool) {
	o.Subject = o.Customer
	o.event = &condition.Event{Type: o.Type}
	if ok {
		customer, guarded := domain.GuardCustomer(r.Stream)
		switch {
		case guarded:
			o.Subject, o.Chain = customer, chainOfCommand(r.Data)
			if stream := gjson.GetBytes(r.Data, "subject").Str; stream != "" {
				o.Subject = domain.SubjectID(stream)
			}
		case r.Type == domain.TypeTouchpoint || r.Type == domain.TypeJoin:
			h, err := domain.ParseHeader(string(r.Metadata))
			if err != nil {
				break
			}
			o.Subject = domain.SubjectID(r.Stream)
			meaning, channel := e.cfg.Views.Classify(&h)
			o.event, o.Chain = eventOf(&h, r.Data, meaning, channel), chainOf(&h, r.Data)
		}
	}
	o.event.From, o.event.To, o.event.Programme = o.From, o.To, o.Programme
}

// eventOf is a touchpoint as conditions see it.
func eventOf(h *domain.Header, data []byte, meaning, channel string) *condition.Event {
	ev := &condition.Event{Type: h.Kind.String(), Name: h.Name, Meaning: meaning, Channel: channel, Source: h.Source}
	key := "properties"
	if h.Kind == domain.Identify || h.Kind == domain.Group {
		key = "traits"
	}
	if p := gjson.GetBytes(data, key); p.IsObject() {
		ev.Properties = []byte(p.Raw)
	}
	return ev
}

// chainKey is where a touchpoint that automation appends says what led to it.
const chainKey = "context.automation.chain"

// chainOf are the triggers that led to a touchpoint.
func chainOf(h *domain.Header, data []byte) []string {
	chain := gjson.GetBytes(data, chainKey)
	if h.BatchContext != "" && !chain.Exists() {
		chain = gjson.Get(h.BatchContext, strings.TrimPrefix(chainKey, "context."))
	}
	var all []string
	for _, v := range chain.Array() {
		if v.Type == gjson.String && len(all) < trigger.MaxDepth {
			all = append(all, v.Str)
		}
	}
	return all
}

// The author and the reason of a command about points that automation gives: the
// reason names the chain of triggers.
const (
	Author       = "automation"
	reasonPrefix = "trigger "
)

// ReasonOf is the reason of what a chain of triggers leads to.
func ReasonOf(chain []string) string { return reasonPrefix + strings.Join(chain, " > ") }

// chainOfCommand are the triggers that led to a command about points.
func chainOfCommand(data []byte) []string {
	reason, ok := strings.CutPrefix(gjson.GetBytes(data, "reason").Str, reasonPrefix)
	if !ok || gjson.GetBytes(data, "author").Str != Author {
		return nil
	}
	return strings.Split(reason, " > ")
}

// Appendix is what a trigger has Sojourn append.
type Appendix struct {
	Delivery uuid.UUID
	// Stream is that of the subject under whom a touchpoint is appended.
	Customer, Subject uuid.UUID
	Stream            string
	At                domain.Millis
	// Name and Properties are those of a touchpoint; Programme and Points those of
	// points, where Points is not 0.
	Name       string
	Properties json.RawMessage
	Programme  string
	Points     int64
	// Chain are the triggers that led to it, this one included.
	Chain   []string
	Trigger string
}
