package automation

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"sojourn/automation/trigger"
	"sojourn/condition"
	"sojourn/domain"
	"sojourn/domain/fact"
	"sojourn/eventstore"
)

func (e *Engine) customer(ctx context.Context, id uuid.UUID, needs *condition.Needs) (*Customer, error) {
	if e.dry != nil {
		return e.dry.customer(ctx, id)
	}
	c, err := e.cfg.Views.Customer(ctx, id, needs)
	if err != nil && !errors.Is(err, ErrNoCustomer) {
		return nil, fmt.Errorf("ask for a customer: %w", err)
	}
	return c, err
}

// history folds the facts of a customer, and where the stream of one of its
// subjects ends.
func (e *Engine) history(ctx context.Context, c *Customer, subject uuid.UUID) (*fact.History, eventstore.Expected, error) {
	var entries []fact.Entry
	expected := eventstore.Expected(eventstore.NoStream{})
	ids := make([]uuid.UUID, 0, len(c.Subjects)+1)
	known := false
	for _, s := range c.Subjects {
		ids, known = append(ids, s.ID), known || s.ID == subject
	}
	if !known { // whose cause is a command, or a subject that is nobody's
		ids = append(ids, subject)
	}
	for _, id := range ids {
		for r, err := range e.cfg.Store.ReadStream(ctx, fact.Stream(id), 0, eventstore.Forwards) {
			if errors.Is(err, eventstore.ErrStreamNotFound) {
				break
			}
			if err != nil {
				return nil, nil, fmt.Errorf("read what automation did: %w", err)
			}
			if id == subject {
				expected = eventstore.Revision(r.Revision)
			}
			kind, ok := fact.KindOf(r.Type)
			if !ok {
				continue
			}
			f, err := fact.Decode(kind, r.Data)
			if err != nil {
				return nil, nil, err
			}
			entries = append(entries, fact.Entry{Fact: f, Position: uint64(r.Position), Subject: id})
		}
	}
	return fact.Fold(entries), expected, nil
}

// record appends a fact to the stream of its subject, which must end as expected:
// errMoved where it does not. A fact that is known already is no error.
func (e *Engine) record(ctx context.Context, subject uuid.UUID, expected eventstore.Expected, f *fact.Fact) error {
	_, err := e.cfg.Store.Append(ctx, fact.Stream(subject), expected, eventstore.NewEvent{
		ID: f.ID(), Type: f.Kind.Type(), Data: f.Encode(),
	})
	if errors.Is(err, eventstore.ErrWrongRevision) {
		return errMoved
	}
	if err != nil {
		return fmt.Errorf("record what automation did: %w", err)
	}
	e.cfg.Metrics.count(f)
	return nil
}

// errMoved says that another fact was recorded meanwhile; what was decided is
// decided anew.
var errMoved = errors.New("another fact of the customer was recorded meanwhile")

// decide asks the triggers about a change.
func (e *Engine) decide(ctx context.Context, o *offered) error {
	if err := e.trace(ctx, o); err != nil {
		return err
	}
	for i := range o.triggers {
		for {
			err := e.decideOne(ctx, o, &o.triggers[i])
			if errors.Is(err, errMoved) && ctx.Err() == nil {
				continue
			}
			if err != nil && !errors.Is(err, ErrNoCustomer) {
				return err
			}
			break
		}
	}
	return nil
}

func (e *Engine) decideOne(ctx context.Context, o *offered, t *inForce) error {
	id := t.Delivery(&o.Offer)
	var needs *condition.Needs
	if t.Condition != nil {
		needs = t.Condition.Needs()
	}
	c, err := e.customer(ctx, o.Subject, needs)
	if err != nil {
		return err
	}
	if e.dry == nil && !meets(t.Trigger, c, o) { // a dry run has asked it ahead
		return nil
	}
	h, expected, err := e.history(ctx, c, o.Subject)
	if err != nil {
		return err
	}
	if before, err := e.decidedBefore(ctx, t.Trigger, o, c, h); err != nil || before {
		return err
	}
	if before, err := e.foundBefore(ctx, o.Customer, &o.Change, t.position); err != nil || before {
		return err
	}
	now := e.now()
	cand := trigger.Candidate{Delivery: id, Customer: c.ID, At: o.At, Offered: now, Chain: o.Chain}
	d, err := e.ask(ctx, t.Trigger, t.paused, &cand, c, h)
	if err != nil {
		return err
	}
	f := e.decided(t.Trigger, o, &cand, d)
	return e.record(ctx, o.Subject, expected, f)
}

// meets reports whether a customer meets the condition of a trigger at the time of a
// change.
func meets(t *trigger.Trigger, c *Customer, o *offered) bool {
	if t.Condition == nil {
		return true
	}
	in, _ := t.Condition.Eval(c.Facts, o.At, o.event)
	return in
}

// ask asks the limits of a trigger.
func (e *Engine) ask(ctx context.Context, t *trigger.Trigger, paused bool, cand *trigger.Candidate, c *Customer, h *fact.History) (trigger.Decision, error) {
	s := trigger.Situation{Paused: paused, History: h, Global: e.registry.bound()}
	said, err := e.says(ctx, t, c, cand.Offered)
	if err != nil {
		return trigger.Decision{}, err
	}
	s.Consent = said.consent
	s.Zone = trigger.Zone(said.zone, t.Limits.TimeZone)
	if t.Limits.Cap != nil {
		e.mu.Lock()
		for id, at := range e.sent[t.ID] {
			if id != cand.Delivery {
				s.Sent = append(s.Sent, at)
			}
		}
		e.mu.Unlock()
	}
	return t.Decide(cand, &s), nil
}

// decided is the first fact of a delivery.
func (e *Engine) decided(t *trigger.Trigger, o *offered, cand *trigger.Candidate, d trigger.Decision) *fact.Fact {
	change := o.Change
	f := &fact.Fact{
		Kind: fact.Planned, Delivery: cand.Delivery, At: cand.Offered,
		Trigger: t.ID, Version: t.Version, Action: t.Do.Action(), To: t.Do.Destination(),
		Customer: cand.Customer.String(), Found: o.Found, Change: &change, Arm: d.Arm, Chain: o.Chain,
		SendAt: d.SendAt,
	}
	if d.Suppress != "" {
		f.Kind, f.Reason = fact.Suppressed, d.Suppress
	} else if t.Limits.Cap != nil {
		// The next decision counts it, before it has come round with the log.
		e.count(f)
	}
	return f
}

// count notes a planned send of a trigger with a cap.
func (e *Engine) count(f *fact.Fact) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.sent[f.Trigger] == nil {
		e.sent[f.Trigger] = map[uuid.UUID]domain.Millis{}
	}
	e.sent[f.Trigger][f.Delivery] = f.SendAt
}

// heard takes up what a fact of the log says is left to do.
func (e *Engine) heard(f *fact.Entry) {
	e.mu.Lock()
	p := e.waiting[f.Delivery]
	switch {
	case p == nil && f.Kind == fact.Planned && f.Change != nil:
		p = &pending{fact.Delivery{First: f.Fact, Subject: f.Subject}, f.To}
		e.waiting[f.Delivery] = p
		p.Apply(f)
	case p == nil || !p.Apply(f):
		e.mu.Unlock()
		return
	}
	if f.Kind == fact.Planned && e.capped(f.Trigger) {
		if e.sent[f.Trigger] == nil {
			e.sent[f.Trigger] = map[uuid.UUID]domain.Millis{}
		}
		e.sent[f.Trigger][f.Delivery] = f.SendAt
	}
	if !p.Waits() {
		if p.State == fact.StateSuppressed {
			delete(e.sent[p.First.Trigger], f.Delivery)
		}
		delete(e.waiting, f.Delivery)
		e.mu.Unlock()
		return
	}
	submit := e.acting && (p.State == fact.StatePlanned || p.State == fact.StateRetrying)
	j := e.job(p)
	e.mu.Unlock()
	if submit {
		e.submit(j)
	}
}

// capped reports whether a trigger has a cap, and forgets sends that no period
// reaches any more.
func (e *Engine) capped(id string) bool {
	e.registry.mu.RLock()
	defer e.registry.mu.RUnlock()
	s := e.registry.byID[id]
	if s == nil || len(s.Versions) == 0 || s.last().Document.Limits.Cap == nil {
		return false
	}
	per, err := trigger.ParsePeriod(s.last().Document.Limits.Cap.Per)
	if err != nil {
		return false
	}
	for d, at := range e.sent[id] {
		if at <= e.now()-per {
			delete(e.sent[id], d)
		}
	}
	return true
}

// answers is what a customer said that a limit asks for.
type answers struct {
	consent bool
	zone    string
}

// says is what a customer has said by an instant of consent and zone, where a trigger asks
// for them.
func (e *Engine) says(ctx context.Context, t *trigger.Trigger, c *Customer, at domain.Millis) (answers, error) {
	if e.dry != nil {
		a, err := e.dry.answer(ctx, c.ID)
		if err != nil {
			return answers{}, err
		}
		return a.said, nil
	}
	return e.saysBy(ctx, e.cfg.Store, t, c, at)
}

func (e *Engine) saysBy(ctx context.Context, log streams, t *trigger.Trigger, c *Customer, at domain.Millis) (a answers, err error) {
	zoned := t.Limits.Window != nil || t.Limits.QuietHours != nil
	if zoned {
		a.zone = textTrait(c, "timezone")
		if _, err := time.LoadLocation(a.zone); err != nil {
			a.zone = ""
		}
	}
	category := ""
	if consent := t.Limits.Consent; consent != nil {
		if consent.Trait != "" {
			a.consent = string(c.Data.Traits[consent.Trait]) == "true"
		}
		category = consent.Category
	}
	if category == "" && (!zoned || a.zone != "") {
		return a, nil
	}
	said, err := contexts(ctx, log, c, category, at)
	if err != nil {
		return a, err
	}
	if category != "" {
		a.consent = said.consent
	}
	if zoned && a.zone == "" {
		a.zone = said.zone
	}
	return a, nil
}
