package automation

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"time"

	"sojourn/automation/delivery"
	"sojourn/domain/fact"
	"sojourn/eventstore"
)

// append makes what Sojourn appends itself.
func (e *Engine) append(ctx context.Context, j delivery.Job) error {
	r, err := e.check(ctx, j.ID)
	if r == nil || err != nil {
		return err
	}
	if err := e.attempt(ctx, r, j.Number); err != nil {
		return err
	}
	a := &Appendix{
		Delivery: j.ID, Customer: r.customer.ID, Subject: r.Subject, At: r.PlannedAt,
		Trigger: r.trigger.ID, Chain: append(append([]string{}, r.First.Chain...), r.trigger.ID),
	}
	for _, s := range r.customer.Subjects {
		if s.ID == r.Subject || a.Stream == "" {
			a.Stream = s.Stream
		}
	}
	switch do := &r.trigger.Do; {
	case do.Touchpoint != nil:
		a.Name = do.Touchpoint.Name
		m, err := e.message(ctx, r)
		var te *delivery.TemplateError
		if errors.As(err, &te) {
			return e.suppress(ctx, &r.Delivery, eventstore.Any{}, fact.Template, te.Error())
		}
		if err != nil {
			return err
		}
		var object map[string]json.RawMessage
		if a.Properties = json.RawMessage(m.Body); json.Unmarshal(m.Body, &object) != nil || object == nil {
			return e.suppress(ctx, &r.Delivery, eventstore.Any{}, fact.Template, "properties: they are no JSON object")
		}
	case do.Points != nil:
		a.Programme, a.Points = do.Points.Programme, do.Points.Points
	}
	start := e.cfg.Now()
	err = e.cfg.Append(ctx, a)
	o := delivery.Outcome{Delivered: err == nil, Retry: err != nil, Latency: e.cfg.Now().Sub(start)}
	if err != nil {
		o.Error = err.Error()
	}
	return e.Done(ctx, j, &delivery.Attempt{}, o)
}

// queue holds what Sojourn appends itself until it is due.
type queue struct {
	mu   sync.Mutex
	jobs []delivery.Job
	wake chan struct{}
}

func (q *queue) submit(j delivery.Job) {
	q.mu.Lock()
	q.jobs = append(q.jobs, j)
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// due takes out what is due, and says how long the next one is away; negative for
// none.
func (q *queue) due(now time.Time) (due []delivery.Job, next time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	next = -1
	q.jobs = slices.DeleteFunc(q.jobs, func(j delivery.Job) bool {
		wait := j.Due.Sub(now)
		if wait <= 0 {
			due = append(due, j)
			return true
		}
		if next < 0 || wait < next {
			next = wait
		}
		return false
	})
	return due, next
}

// runOwn appends what is due, one after another, until the context ends.
func (e *Engine) runOwn(ctx context.Context) {
	for ctx.Err() == nil {
		due, next := e.own.due(e.cfg.Now())
		for _, j := range due {
			if err := e.append(ctx, j); err != nil && ctx.Err() == nil {
				e.cfg.Logger.Warn("what a trigger appends will be tried again", "delivery", j.ID, "error", err)
				j.Due = e.cfg.Now().Add(time.Second)
				e.own.submit(j)
			}
		}
		if len(due) > 0 {
			continue
		}
		var timer <-chan time.Time
		if next >= 0 {
			timer = e.cfg.After(next)
		}
		select {
		case <-ctx.Done():
		case <-e.own.wake:
		case <-timer:
		}
	}
}
