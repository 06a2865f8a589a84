package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"sojourn/api"
	"sojourn/automation"
	"sojourn/automation/delivery"
	"sojourn/automation/trigger"
	"sojourn/condition"
	"sojourn/domain"
	"sojourn/domain/lifecycle"
	"sojourn/domain/policy"
	"sojourn/domain/satisfaction"
	"sojourn/eventstore"
	"sojourn/ingest"
	"sojourn/projections"
)

// automator is the automation of a server: the engine, and what delivers for it.
type automator struct {
	triggers     *automation.Triggers
	engine       *automation.Engine
	destinations *delivery.Destinations
	unsubscribe  http.Handler
	views        *projections.Views
}

// startAutomation starts what acts when a customer changes, where that is this
// process's role; else it answers about it.
func startAutomation(ctx context.Context, c *Config, store eventLog, views *projections.Views, intake *ingest.Service, out *outgoing, registry *prometheus.Registry, log *slog.Logger) (*automator, error) {
	a := &automator{views: views, destinations: out.destinations}
	appends := &appender{intake, views}
	if out.links != nil {
		a.unsubscribe = out.links.Handler(appends, log)
	}
	a.triggers = automation.NewTriggers(store, func(d *trigger.Document) (*trigger.Trigger, error) {
		return trigger.Compile(d, &trigger.Names{})
	})
	q := &lateQueue{}
	var unsubscribe func(uuid.UUID, string) string
	if out.links != nil {
		unsubscribe = out.links.URL
	}
	var err error
	a.engine, err = automation.New(automation.Config{
		Store: store, Views: &customers{views: views}, Queue: q, Triggers: a.triggers, Append: appends.append, Unsubscribe: unsubscribe,
		Alone: c.Store == "", Logger: log, Metrics: automation.NewMetrics(registry),
	})
	if err != nil {
		return nil, err
	}
	q.Dispatcher = out.begin(a.engine)
	if err := registry.Register(delivery.Collector(out.status)); err != nil {
		return nil, err
	}
	if c.Roles.has(roleAutomate) {
		for _, g := range a.engine.Gauges() {
			if err := registry.Register(g); err != nil {
				return nil, err
			}
		}
		// An apply may have been cut off before its segment.
		all, err := a.triggers.List(ctx)
		if err != nil {
			return nil, err
		}
		for _, s := range all {
			if n := len(s.Versions); n > 0 && s.Versions[n-1].Err == nil {
				if err := a.own(ctx, &s.Versions[n-1].Document, s.Versions[n-1].Author, ""); err != nil {
					log.Error("the segment of a trigger cannot be made", "trigger", s.ID, "error", err)
				}
			}
		}
		a.engine.Start(ctx)
	}
	return a, nil
}

// stop ends the engine; what is under way is made again after a start.
func (a *automator) stop() error { return a.engine.Stop() }

// own makes the segment that belongs to a trigger, or deletes the one that does so no
// more.
func (a *automator) own(ctx context.Context, d *trigger.Document, author, reason string) error {
	p := projections.SegmentProposal{Author: author, Reason: reason, Trigger: d.ID}
	var owns bool
	if p.Name, p.Condition, owns = d.Owned(); owns {
		p.Description = "Belongs to the trigger " + d.ID + "."
		_, _, err := a.views.ApplySegment(ctx, p)
		return err
	}
	p.Name = domain.TriggerSegment(d.ID)
	if _, err := a.views.Segment(p.Name); errors.Is(err, projections.ErrNoSegment) {
		return nil
	}
	err := a.views.DeleteSegment(ctx, p)
	if errors.Is(err, projections.ErrNoSegment) {
		return nil
	}
	return err
}

// existing is the last change of a segment, and how many are in it by that.
func (a *automator) existing(ctx context.Context, segment string) (c automation.SegmentChange, n int, err error) {
	s, err := a.views.Segment(segment)
	if err != nil {
		return c, 0, err
	}
	err = a.views.EachSegmentMember(ctx, segment, s.AppliedAt, func(projections.SegmentMember) error {
		n++
		return nil
	})
	return automation.SegmentChange{At: domain.MillisOf(s.AppliedAt), Position: s.Position}, n, err
}

// lateQueue is the dispatcher, which is made of the engine.
type lateQueue struct{ *delivery.Dispatcher }

// names are the words that a trigger may use now.
func (a *automator) names() *trigger.Names {
	n := &trigger.Names{Env: conditionEnv(a.views)}
	n.Destinations, n.Kinds = []string{}, map[string]delivery.Kind{}
	for _, d := range a.destinations.List() {
		n.Destinations = append(n.Destinations, d.Name)
		n.Kinds[d.Name] = d.Kind
	}
	return n
}

// standardEnv are the words that a condition may use whatever the policy.
func standardEnv() (e condition.Env) {
	for _, s := range lifecycle.Stages {
		e.Stages = append(e.Stages, string(s))
	}
	for _, s := range []satisfaction.Status{satisfaction.Delighted, satisfaction.Satisfied, satisfaction.Neutral, satisfaction.Unhappy, satisfaction.Unknown} {
		e.Statuses = append(e.Statuses, string(s))
	}
	for _, m := range policy.Meanings {
		e.Meanings = append(e.Meanings, string(m))
	}
	return e
}

// conditionEnv are the words that a condition may use now.
func conditionEnv(views *projections.Views) condition.Env {
	e := standardEnv()
	e.Programmes = map[string][]string{}
	all := views.Policies()
	for _, p := range all[len(all)-1].Policy.Expanded().Loyalty.Programmes {
		e.Programmes[p.ID] = []string{}
		for _, l := range p.Tiers.Levels {
			e.Programmes[p.ID] = append(e.Programmes[p.ID], l.Name)
		}
	}
	e.Segments = []string{}
	for _, s := range views.Segments() {
		e.Segments = append(e.Segments, s.Name)
	}
	return e
}

// customers answers the engine from the views.
type customers struct{ views *projections.Views }

// Then answers about a customer as of some times.
func (c *customers) Then(ctx context.Context, log eventstore.Store, id uuid.UUID, at []domain.Millis, known bool, needs *condition.Needs) ([]*automation.Customer, error) {
	times := make([]projections.At, len(at))
	for i, t := range at {
		if known {
			times[i].KnownAt = t.Time()
		} else {
			times[i].AsOf = t.Time()
		}
	}
	found, err := c.views.Wholes(ctx, log, id, times, needs)
	if err != nil {
		return nil, err
	}
	all := make([]*automation.Customer, len(found))
	for i, w := range found {
		if w != nil {
			all[i] = automationCustomer(w)
		}
	}
	return all, nil
}

// WaitFor returns when the views hold a position.
func (c *customers) WaitFor(ctx context.Context, position eventstore.Position) error {
	return c.views.WaitFor(ctx, position)
}

// Classify is what a touchpoint means by the policy in force.
func (c *customers) Classify(h *domain.Header) (meaning, channel string) {
	rule := c.views.InForce().Classify(h.Kind, h.Source, h.Name)
	return string(rule.Meaning), rule.Channel
}

// Members gives each customer who is in a segment at an instant.
func (c *customers) Members(ctx context.Context, segment string, at domain.Millis, each func(uuid.UUID) error) error {
	err := c.views.EachSegmentMember(ctx, segment, at.Time(), func(m projections.SegmentMember) error { return each(m.Customer) })
	switch {
	case errors.Is(err, projections.ErrNoSegment):
		return nil
	case errors.Is(err, projections.ErrSegmentNotBuilt):
		return automation.ErrNotReady
	}
	return err
}

// Customer is the customer that an id belongs to.
func (c *customers) Customer(ctx context.Context, id uuid.UUID, needs *condition.Needs) (*automation.Customer, error) {
	w, err := c.views.WholeAhead(ctx, id, needs)
	if errors.Is(err, projections.ErrNotFound) {
		return nil, automation.ErrNoCustomer
	}
	if err != nil {
		return nil, err
	}
	return automationCustomer(&w), nil
}

func automationCustomer(w *projections.Whole) *automation.Customer {
	out := &automation.Customer{ID: w.ID, Been: w.Been, Facts: w.Facts, Data: delivery.CustomerData{
		ID: w.ID.String(), Stage: w.Stage, Since: w.StageSince, Traits: w.Traits,
		Tiers: map[string]string{}, Points: map[string]string{}, Status: string(w.Satisfaction.Status),
		Segments: append([]string{}, w.Segments...), Accounts: []string{},
	}}
	for _, l := range w.Loyalty {
		out.Data.Tiers[l.Programme] = l.Tier
		out.Data.Points[l.Programme] = strconv.FormatInt(l.Balance.Available, 10)
	}
	_ = json.Unmarshal(w.Traits["timezone"], &out.Data.Timezone) // no text is no zone
	for _, m := range w.Members {
		out.Subjects = append(out.Subjects, automation.Subject(m))
	}
	return out
}

// appender makes durable what automation has Sojourn append.
type appender struct {
	intake *ingest.Service
	views  *projections.Views
}

// AutomationSource is the source of what automation appends.
const automationSource = "automation"

// append appends a touchpoint or gives points. The id is the delivery's, so that a
// repeat adds nothing.
func (p *appender) append(ctx context.Context, a *automation.Appendix) error {
	if a.Points != 0 {
		_, err := p.views.Command(ctx, projections.CommandRequest{
			Command: "adjust", Customer: a.Customer.String(), Programme: a.Programme, Points: a.Points,
			Reason: automation.ReasonOf(a.Chain), Author: automation.Author, Key: "delivery-" + a.Delivery.String(),
		})
		return err
	}
	message := map[string]any{
		"type": "track", "event": a.Name, "messageId": a.Delivery.String(), "timestamp": a.At.String(), "properties": a.Properties,
		"context": map[string]any{"automation": map[string]any{"chain": a.Chain, "delivery": a.Delivery}},
	}
	return p.touch(ctx, a.Customer, message)
}

// touch appends a message under a user or visitor of a customer.
func (p *appender) touch(ctx context.Context, customer uuid.UUID, message map[string]any) error {
	w, err := p.views.Whole(ctx, customer, projections.At{}, nil)
	if err != nil {
		return err
	}
	key := ""
	for _, s := range w.Subjects {
		kind, value, _ := strings.Cut(s, ":")
		switch {
		case kind == string(domain.User):
			key, message["userId"] = "userId", value
		case kind == string(domain.Anon) && key == "":
			key, message["anonymousId"] = "anonymousId", value
		}
		if key == "userId" {
			delete(message, "anonymousId")
			break
		}
	}
	if key == "" {
		return errors.New("the customer has no user id and no anonymous id to append under")
	}
	text, err := json.Marshal(message)
	if err != nil {
		return err
	}
	m, err := ingest.ParseMessage(text)
	if err != nil {
		return err
	}
	out, err := p.intake.Ingest(ctx, &ingest.Batch{Source: automationSource, Messages: []ingest.Message{m}}, 0)
	if err != nil {
		return err
	}
	if out.Rejected > 0 {
		return errors.New("what was to be appended is among the rejects")
	}
	return nil
}

// Unsubscribe appends that a customer withdraws consent: to a category, or of a
// trait where it is written trait:name.
func (p *appender) Unsubscribe(ctx context.Context, customer uuid.UUID, category string) error {
	message := map[string]any{"messageId": uuid.NewString()}
	if trait, ok := strings.CutPrefix(category, "trait:"); ok {
		message["type"], message["traits"] = "identify", map[string]any{trait: false}
	} else {
		message["type"], message["event"] = "track", "Unsubscribed"
		message["context"] = map[string]any{"consent": map[string]any{"categoryPreferences": map[string]any{category: false}}}
	}
	return p.touch(ctx, customer, message)
}

// api is what the API needs of it.
func (a *automator) api() *api.Automation {
	return &api.Automation{
		Triggers: a.triggers, Engine: a.engine, Schema: trigger.Schema, Deliveries: a.views.Deliveries,
		Own: a.own, Existing: a.existing,
		Parse: func(source string) (trigger.Document, []api.PolicyProblem) {
			d, err := readTrigger("trigger", []byte(source), a.names())
			return d, problemsOf(err)
		},
	}
}
