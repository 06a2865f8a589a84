package automation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"sojourn/automation/delivery"
	"sojourn/automation/trigger"
	"sojourn/condition"
	"sojourn/domain"
	"sojourn/domain/fact"
	"sojourn/eventstore"
)

// job is the next attempt of a delivery that waits.
func (e *Engine) job(p *pending) delivery.Job {
	j := delivery.Job{
		ID: p.First.Delivery, Number: p.Attempts + 1, Destination: p.destination,
		Due: p.SendAt.Time(), GiveUp: e.cfg.Schedule.GiveUp(p.PlannedAt.Time()),
	}
	if p.State == fact.StateAttempted {
		j.Number = max(p.Attempts, 1) // it is made again
	}
	return j
}

func (e *Engine) submit(jobs ...delivery.Job) {
	for _, j := range jobs {
		if j.Destination != "" || e.dry != nil {
			e.cfg.Queue.Submit(j)
		} else {
			e.own.submit(j)
		}
	}
}

// waits is the delivery of a job, where it still waits.
func (e *Engine) waits(id uuid.UUID) (fact.Delivery, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	p := e.waiting[id]
	if p == nil || !e.acting {
		return fact.Delivery{}, false
	}
	return p.Delivery, true
}

// ready is a delivery that may be attempted.
type ready struct {
	fact.Delivery
	trigger  *trigger.Trigger
	customer *Customer
	expected eventstore.Expected // of the stream of its facts
}

// check asks, before every attempt, whether the delivery still stands; nil where it
// is not to be sent, which is on record then.
func (e *Engine) check(ctx context.Context, id uuid.UUID) (*ready, error) {
	p, ok := e.waits(id)
	if !ok {
		return nil, nil
	}
	if err := e.acts(ctx, false); err != nil {
		return nil, err
	}
	c, err := e.customer(ctx, p.Subject, nil)
	if err != nil && !errors.Is(err, ErrNoCustomer) {
		return nil, err
	}
	if c == nil {
		c = &Customer{ID: p.Subject, Subjects: []Subject{{ID: p.Subject}}}
	}
	h, expected, err := e.history(ctx, c, p.Subject)
	if err != nil {
		return nil, err
	}
	d := h.Delivery(id)
	if d == nil || !d.Waits() {
		return nil, nil
	}
	t, paused := e.registry.version(d.First.Trigger, d.First.Version)
	if t == nil {
		return nil, fmt.Errorf("version %d of trigger %s is not there", d.First.Version, d.First.Trigger)
	}
	reason, err := e.against(ctx, t, paused, d, c, h)
	if err != nil {
		return nil, err
	}
	if reason != "" {
		return nil, e.suppress(ctx, d, expected, reason, "")
	}
	return &ready{*d, t, c, expected}, nil
}

// against says what has come between the plan and the attempt.
func (e *Engine) against(ctx context.Context, t *trigger.Trigger, paused bool, d *fact.Delivery, c *Customer, h *fact.History) (fact.Reason, error) {
	stands, err := e.stands(ctx, c.ID, d.First.Change, d.First.Found)
	switch {
	case err != nil:
		return "", err
	case !stands:
		return fact.Withdrawn, nil
	case paused:
		return fact.Paused, nil
	}
	if t.Limits.Consent != nil {
		said, err := e.says(ctx, t, c, e.now())
		if err != nil || !said.consent {
			return fact.Consent, err
		}
	}
	if t.WhileThere && !there(d.First.Change, c) {
		return fact.Moved, nil
	}
	if d.Attempts > 0 || d.Round > 0 {
		return "", nil
	}
	return t.Again(d, h, e.registry.bound()), nil
}

// there reports whether a customer stands where a change led to.
func there(ch *fact.Change, c *Customer) bool {
	in := false
	for _, s := range c.Data.Segments {
		in = in || s == ch.InSegment()
	}
	switch ch.Type {
	case "stage.entered":
		return c.Data.Stage == ch.To
	case "tier.entered":
		return c.Data.Tiers[ch.Programme] == ch.To
	case "satisfaction.entered":
		return c.Data.Status == ch.To
	case "segment.entered", trigger.TypeSchedule, trigger.TypeExpiring:
		return in
	case "segment.left":
		return !in
	}
	return true
}

func (e *Engine) suppress(ctx context.Context, d *fact.Delivery, expected eventstore.Expected, reason fact.Reason, why string) error {
	return e.record(ctx, d.Subject, expected, &fact.Fact{
		Kind: fact.Suppressed, Delivery: d.First.Delivery, Round: d.Round, At: e.now(), Reason: reason, Error: why,
	})
}

// Prepare makes an attempt ready, as delivery.Deliveries asks for it.
func (e *Engine) Prepare(ctx context.Context, j delivery.Job, _ *delivery.Destination) (*delivery.Attempt, error) {
	for {
		a, err := e.prepare(ctx, j)
		if !errors.Is(err, errMoved) || ctx.Err() != nil {
			return a, err
		}
	}
}

func (e *Engine) prepare(ctx context.Context, j delivery.Job) (*delivery.Attempt, error) {
	r, err := e.check(ctx, j.ID)
	if r == nil || err != nil {
		return nil, err
	}
	m, err := e.message(ctx, r)
	var te *delivery.TemplateError
	if errors.As(err, &te) {
		return nil, e.suppress(ctx, &r.Delivery, r.expected, fact.Template, te.Error())
	}
	if err != nil {
		return nil, err
	}
	if err := e.attempt(ctx, r, j.Number); err != nil {
		return nil, err
	}
	a := &delivery.Attempt{Message: m, Customer: r.customer.ID}
	if r.trigger.Limits.Consent != nil {
		a.Category = consentName(r.trigger.Limits.Consent)
	}
	return a, nil
}

// consentName is what the link of an e-mail withdraws.
func consentName(c *trigger.Consent) string {
	if c.Trait != "" {
		return "trait:" + c.Trait
	}
	return c.Category
}

func (e *Engine) attempt(ctx context.Context, r *ready, number int) error {
	return e.record(ctx, r.Subject, r.expected, &fact.Fact{
		Kind: fact.Attempted, Delivery: r.First.Delivery, Round: r.Round, Number: number, At: e.now(),
	})
}

// message is what was rendered at the first attempt, else it is rendered now and
// kept before anything is sent.
func (e *Engine) message(ctx context.Context, r *ready) (m delivery.Message, err error) {
	id := r.First.Delivery
	if m, ok, err := e.kept(ctx, id); ok || err != nil {
		return m, err
	}
	data, err := e.data(ctx, r)
	if err != nil {
		return m, err
	}
	if m, err = r.trigger.Templates.Render(data); err != nil {
		return m, err
	}
	b, err := json.Marshal(m)
	if err != nil {
		return m, fmt.Errorf("keep a message: %w", err)
	}
	_, err = e.cfg.Store.Append(ctx, fact.PayloadStream(id), eventstore.NoStream{}, eventstore.NewEvent{
		ID: uuid.NewSHA1(id, []byte("message")), Type: fact.TypeMessage, Data: b,
	})
	if errors.Is(err, eventstore.ErrWrongRevision) {
		m, _, err = e.kept(ctx, id)
		return m, err
	}
	if err != nil {
		return m, fmt.Errorf("keep a message: %w", err)
	}
	// Of two that were kept under one id the first stands.
	m, _, err = e.kept(ctx, id)
	return m, err
}

func (e *Engine) kept(ctx context.Context, id uuid.UUID) (m delivery.Message, ok bool, err error) {
	for r, err := range e.cfg.Store.ReadStream(ctx, fact.PayloadStream(id), 0, eventstore.Forwards) {
		if errors.Is(err, eventstore.ErrStreamNotFound) {
			return m, false, nil
		}
		if err == nil {
			err = json.Unmarshal(r.Data, &m)
		}
		if err != nil {
			return m, false, fmt.Errorf("read a message: %w", err)
		}
		return m, true, nil
	}
	return m, false, nil
}

// data is what the templates of a delivery see.
func (e *Engine) data(ctx context.Context, r *ready) (*delivery.Data, error) {
	ch := r.First.Change
	d := &delivery.Data{
		Delivery: r.First.Delivery.String(),
		Trigger:  delivery.TriggerData{ID: r.trigger.ID, Name: r.trigger.Name, Version: r.trigger.Version},
		Type:     ch.Type, At: ch.At.Time(), Customer: r.customer.Data, Reason: ch.Reason,
	}
	d.Before, d.After = sides(ch)
	needs := &condition.Needs{Accounts: true}
	expiring, isExpiring := r.trigger.Expiring()
	if isExpiring {
		needs.Expiring = []condition.Expiring{expiring}
	}
	member, err := e.customer(ctx, r.customer.ID, needs)
	if err == nil && member.Facts != nil {
		for id, since := range member.Facts.Accounts {
			if since.At <= e.now() {
				d.Customer.Accounts = append(d.Customer.Accounts, id)
			}
		}
		slices.Sort(d.Customer.Accounts)
		if isExpiring && ch.Type == trigger.TypeExpiring {
			d.Before = map[string]any{}
			d.After = map[string]any{"programme": expiring.Programme, "points": member.Facts.ExpiringAt(expiring, ch.At)}
		}
	}
	if err != nil && !errors.Is(err, ErrNoCustomer) {
		return nil, err
	}
	if consent := r.trigger.Limits.Consent; consent != nil && e.cfg.Unsubscribe != nil {
		d.UnsubscribeURL = e.cfg.Unsubscribe(r.customer.ID, consentName(consent))
	}
	id, ok := ch.Touchpoint()
	if !ok || len(ch.Cause) < 11 || ch.Cause[:11] != "touchpoint:" {
		return d, nil
	}
	ev, ok, err := e.find(ctx, id)
	if err != nil || !ok || ev.Type != domain.TypeTouchpoint && ev.Type != domain.TypeJoin {
		return d, err
	}
	h, err := domain.ParseHeader(string(ev.Metadata))
	if err != nil {
		return d, nil
	}
	meaning, _ := e.cfg.Views.Classify(&h)
	var m struct {
		Properties, Traits, Context json.RawMessage
	}
	if err := json.Unmarshal(ev.Data, &m); err != nil {
		return d, nil // a message that is read otherwise than it was taken is sent without
	}
	if m.Properties == nil {
		m.Properties = m.Traits
	}
	for _, part := range []*json.RawMessage{&m.Properties, &m.Context} {
		if string(*part) == "null" {
			*part = nil
		}
	}
	d.Event = &delivery.EventData{
		ID: id.String(), Name: h.Name, Meaning: meaning, OccurredAt: h.OccurredAt.Time(),
		Properties: m.Properties, Context: m.Context,
	}
	return d, nil
}

// sides are where the customer stood before a change, and after.
func sides(c *fact.Change) (before, after map[string]any) {
	pair := func(key string) (map[string]any, map[string]any) {
		return map[string]any{key: c.From}, map[string]any{key: c.To}
	}
	switch c.Type {
	case "stage.entered":
		return pair("stage")
	case "tier.entered":
		before, after = pair("tier")
		before["program"], after["program"] = c.Programme, c.Programme
		return before, after
	case "satisfaction.entered":
		return pair("status")
	case "segment.entered", "segment.left":
		in := c.Type == "segment.entered"
		return map[string]any{"segment": c.Programme, "member": !in}, map[string]any{"segment": c.Programme, "member": in}
	}
	if c.Type == trigger.TypeSchedule {
		return map[string]any{}, map[string]any{"segment": c.Programme, "member": true}
	}
	return map[string]any{}, map[string]any{}
}

// Done records what became of an attempt, as delivery.Deliveries asks for it.
func (e *Engine) Done(ctx context.Context, j delivery.Job, a *delivery.Attempt, o delivery.Outcome) error {
	p, ok := e.waits(j.ID)
	if !ok {
		return nil
	}
	f := &fact.Fact{
		Kind: fact.Delivered, Delivery: j.ID, Round: p.Round, Number: j.Number, At: e.now(),
		Status: o.Status, Latency: o.Latency.Milliseconds(), Error: o.Error,
	}
	if !o.Delivered {
		f.Kind, f.Dead = fact.Failed, true
		if wait, ok := e.cfg.Schedule.Next(j.Number, o, e.cfg.Random()); ok && a != nil {
			f.Dead, f.SendAt = false, f.At+domain.Millis(wait.Milliseconds())
		}
	}
	parts := []eventstore.Append{{Stream: fact.Stream(p.Subject), Expected: eventstore.Any{}, Events: []eventstore.NewEvent{
		{ID: f.ID(), Type: f.Kind.Type(), Data: f.Encode()},
	}}}
	if a != nil {
		response, err := json.Marshal(struct {
			Round    int    `json:"round"`
			Number   int    `json:"number"`
			Status   int    `json:"status"`
			Response []byte `json:"response"`
		}{p.Round, j.Number, o.Status, o.Response})
		if err != nil {
			return err
		}
		parts = append(parts, eventstore.Append{Stream: fact.PayloadStream(j.ID), Expected: eventstore.Any{}, Events: []eventstore.NewEvent{
			{ID: uuid.NewSHA1(f.ID(), []byte("response")), Type: fact.TypeResponse, Data: response},
		}})
	}
	results, err := e.cfg.Store.AppendMany(ctx, parts)
	if err == nil {
		for _, r := range results {
			err = errors.Join(err, r.Err)
		}
	}
	if err != nil {
		return fmt.Errorf("record an attempt: %w", err)
	}
	e.cfg.Metrics.count(f)
	e.cfg.Metrics.latency.Observe(o.Latency.Seconds())
	return nil
}

// ErrNotAgain is answered where a delivery is not one that can be sent by hand.
var ErrNotAgain = errors.New("only what was suppressed as stale and what has failed for good can be sent again")

// ErrNoDelivery is answered for an id that no delivery has.
var ErrNoDelivery = errors.New("there is no such delivery")

// Again sends a delivery by hand: a stale one through the limits after stale, one of
// the dead letters as it is. It is planned, or suppressed for another reason, when
// this returns. subject is that of the delivery's cause.
func (e *Engine) Again(ctx context.Context, id, subject uuid.UUID, by string) (*fact.Delivery, error) {
	for {
		c, err := e.customer(ctx, subject, nil)
		if err != nil {
			return nil, err
		}
		h, expected, err := e.history(ctx, c, subject)
		if err != nil {
			return nil, err
		}
		d := h.Delivery(id)
		if d == nil {
			return nil, ErrNoDelivery
		}
		stale := d.State == fact.StateSuppressed && d.Reason == fact.Stale
		if !stale && d.State != fact.StateDead {
			return nil, ErrNotAgain
		}
		now := e.now()
		f := &fact.Fact{Kind: fact.Planned, Delivery: id, Round: d.Round + 1, At: now, SendAt: now, By: by}
		f.Trigger, f.Version, f.Action, f.To, f.Customer = d.First.Trigger, d.First.Version, d.First.Action, d.First.To, d.First.Customer
		f.Change, f.Chain, f.Arm = d.First.Change, d.First.Chain, d.Arm
		if stale {
			registry, err := e.cfg.Triggers.read(ctx) // this process need not be the one that acts
			if err != nil {
				return nil, err
			}
			t, paused := registry.version(d.First.Trigger, d.First.Version)
			if t == nil {
				return nil, ErrNoTrigger
			}
			cand := trigger.Candidate{Delivery: id, Customer: c.ID, At: d.First.Change.At, Offered: now, Chain: d.First.Chain, ByHand: true}
			decision, err := e.ask(ctx, t, paused, &cand, c, h)
			if err != nil {
				return nil, err
			}
			f.Arm, f.SendAt = decision.Arm, decision.SendAt
			if decision.Suppress != "" {
				f.Kind, f.Reason = fact.Suppressed, decision.Suppress
			}
		}
		err = e.record(ctx, subject, expected, f)
		if errors.Is(err, errMoved) {
			continue
		}
		if err != nil {
			return nil, err
		}
		d.Apply(&fact.Entry{Fact: *f, Position: ^uint64(0), Subject: subject})
		return d, nil
	}
}
