package automation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"sojourn/automation/delivery"
	"sojourn/automation/trigger"
	"sojourn/domain"
	"sojourn/domain/fact"
	"sojourn/eventstore"
)

// Response is the beginning of an answer to an attempt.
type Response struct {
	Round    int           `json:"round"`
	Number   int           `json:"number"`
	Status   int           `json:"status"`
	Response delivery.Text `json:"response"`
}

// Payload is what was sent and answered.
type Payload struct {
	Message   json.RawMessage
	Responses []Response
}

// Delivery reads a delivery from the log; ErrNoDelivery.
func (e *Engine) Delivery(ctx context.Context, id uuid.UUID) (*fact.Delivery, *Payload, error) {
	first := fact.Fact{Kind: fact.Planned, Delivery: id}
	r, ok, err := e.find(ctx, first.ID())
	if err != nil {
		return nil, nil, err
	}
	subject, known := fact.Subject(r.Stream)
	if !ok || !known {
		return nil, nil, ErrNoDelivery
	}
	h, _, err := e.history(ctx, &Customer{}, subject)
	if err != nil {
		return nil, nil, err
	}
	d := h.Delivery(id)
	if d == nil {
		return nil, nil, ErrNoDelivery
	}
	p := &Payload{}
	for r, err := range e.cfg.Store.ReadStream(ctx, fact.PayloadStream(id), 0, eventstore.Forwards) {
		if errors.Is(err, eventstore.ErrStreamNotFound) {
			break
		}
		if err != nil {
			return nil, nil, fmt.Errorf("read what was sent: %w", err)
		}
		if r.Type == fact.TypeMessage {
			p.Message = append(p.Message, r.Data...)
			continue
		}
		var one Response
		if err := json.Unmarshal(r.Data, &one); err != nil {
			return nil, nil, fmt.Errorf("read an answer: %w", err)
		}
		p.Responses = append(p.Responses, one)
	}
	return d, p, nil
}

// Tested is what a trigger would decide about a customer.
type Tested struct {
	// Where says whether the condition holds; nothing is decided where it does not.
	Where bool `json:"where"`
	// Change is the one that it was tried with.
	Change   TestedChange      `json:"change"`
	Suppress fact.Reason       `json:"suppress,omitempty"`
	SendAt   string            `json:"send_at,omitempty"`
	Arm      fact.Arm          `json:"arm,omitempty"`
	Message  *delivery.Message `json:"message,omitempty"`
	Error    string            `json:"error,omitempty"`
}

// TestedChange is a change as fact.Change has it, with its time in RFC 3339.
type TestedChange struct {
	Type      string    `json:"type"`
	Programme string    `json:"programme,omitempty"`
	From      string    `json:"from,omitempty"`
	To        string    `json:"to,omitempty"`
	At        time.Time `json:"at"`
	Reason    string    `json:"reason,omitempty"`
	Cause     string    `json:"cause"`
}

// ErrNoChange is answered where a customer has had no change that a trigger is about.
var ErrNoChange = errors.New("the customer has had no change that this trigger is about")

// Test tries the version in force of a trigger on the last change of a customer that
// it is about, as if that was found this moment. Nothing is recorded or sent.
func (e *Engine) Test(ctx context.Context, id string, customer uuid.UUID) (*Tested, error) {
	r, err := e.cfg.Triggers.read(ctx)
	if err != nil {
		return nil, err
	}
	s := r.byID[id]
	if s == nil || len(s.Versions) == 0 {
		return nil, ErrNoTrigger
	}
	if err := s.last().Err; err != nil {
		return nil, err
	}
	t := s.last().compiled
	c, err := e.customer(ctx, customer, nil)
	if err != nil {
		return nil, err
	}
	o, err := e.lastChange(ctx, t, c)
	if err != nil {
		return nil, err
	}
	o.Customer = c.ID
	if err := e.trace(ctx, o); err != nil {
		return nil, err
	}
	out := &Tested{Where: true, Change: TestedChange{
		o.Type, o.Programme, o.From, o.To, o.At.Time(), o.Reason, o.Cause,
	}}
	if t.Condition != nil {
		if c, err = e.customer(ctx, customer, t.Condition.Needs()); err != nil {
			return nil, err
		}
		if out.Where, _ = t.Condition.Eval(c.Facts, o.At, o.event); !out.Where {
			return out, nil
		}
	}
	h, _, err := e.history(ctx, c, o.Subject)
	if err != nil {
		return nil, err
	}
	now := e.now()
	// Of no delivery that is there: one that was sent for this change counts.
	cand := trigger.Candidate{Customer: c.ID, At: now, Offered: now, Chain: o.Chain}
	d, err := e.ask(ctx, t, s.Paused, &cand, c, h)
	if err != nil {
		return nil, err
	}
	out.Suppress, out.Arm = d.Suppress, d.Arm
	if d.Suppress == "" {
		out.SendAt = d.SendAt.String()
	}
	if t.Templates == nil {
		return out, nil
	}
	change := o.Change
	data, err := e.data(ctx, &ready{
		Delivery: fact.Delivery{First: fact.Fact{Delivery: t.Delivery(&o.Offer), Change: &change}}, trigger: t, customer: c,
	})
	if err != nil {
		return nil, err
	}
	m, err := t.Templates.Render(data)
	if err != nil {
		out.Error = err.Error()
		return out, nil
	}
	out.Message = &m
	return out, nil
}

// lastChange is the last change of a customer that a trigger is about: of one at times
// by the clock, as if such a time were this moment.
func (e *Engine) lastChange(ctx context.Context, t *trigger.Trigger, c *Customer) (*offered, error) {
	if segment, ok := t.Ticks(); ok {
		if !slices.Contains(c.Data.Segments, segment) {
			return nil, ErrNoChange
		}
		return &offered{Offer: trigger.Offer{Change: t.Tick(e.now())}}, nil
	}
	var last *offered
	for r, err := range e.cfg.Store.ReadStream(ctx, domain.StatementStream(c.ID), 0, eventstore.Forwards) {
		if errors.Is(err, eventstore.ErrStreamNotFound) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read what was said of a customer: %w", err)
		}
		typ, ok := changeTypes[r.Type]
		if !ok {
			continue
		}
		s, err := readStatement(r.Data)
		if err != nil {
			return nil, err
		}
		ch, err := s.change(typ)
		if err != nil {
			return nil, err
		}
		o := trigger.Offer{Change: ch, Found: uint64(r.Position)}
		if t.Matches(&o) && (last == nil || ch.At >= last.At) {
			last = &offered{Offer: o}
		}
	}
	if t.On.Touchpoint == nil {
		if last == nil {
			return nil, ErrNoChange
		}
		return last, nil
	}
	for _, s := range c.Subjects {
		for r, err := range e.cfg.Store.ReadStream(ctx, s.Stream, 0, eventstore.Forwards) {
			if errors.Is(err, eventstore.ErrStreamNotFound) {
				break
			}
			if err != nil {
				return nil, fmt.Errorf("read the touchpoints of a customer: %w", err)
			}
			r = r.Clone()
			b := &batch{engine: e, read: true, triggers: []inForce{{Trigger: t}}}
			if r.Repeat || r.Type != domain.TypeTouchpoint && r.Type != domain.TypeJoin {
				continue
			}
			if err := b.touchpoint(&r); err != nil {
				return nil, err
			}
			for _, o := range b.offers {
				if last == nil || o.At >= last.At {
					last = o
				}
			}
		}
	}
	if last == nil {
		return nil, ErrNoChange
	}
	return last, nil
}
