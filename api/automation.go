package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"sojourn/automation"
	"sojourn/automation/trigger"
	"sojourn/domain"
	"sojourn/domain/fact"
	"sojourn/projections"
)

// Automation is what acts when a customer changes; its endpoints are there only
// where Config has one.
type Automation struct {
	Triggers *automation.Triggers
	Engine   *automation.Engine
	// Parse reads the text of a trigger file, and says what is wrong with it by the
	// words that are known now.
	Parse func(source string) (trigger.Document, []PolicyProblem)
	// Own makes the segment that belongs to a trigger, or deletes the one that does so no
	// more. It can be repeated.
	Own func(ctx context.Context, d *trigger.Document, author, reason string) error
	// Existing is the last change of a segment, and how many are in it by that.
	// projections.ErrNoSegment, projections.ErrSegmentNotBuilt.
	Existing func(ctx context.Context, segment string) (c automation.SegmentChange, customers int, err error)
	// Schema is the JSON Schema of a trigger file.
	Schema func() ([]byte, error)
	// Deliveries lists what was done, the newest first, as the tables have it.
	Deliveries func(ctx context.Context, q projections.DeliveryQuery, limit int, cursor string) ([]projections.DeliveryRow, string, error)
}

// TriggerBody is a trigger and where it stands.
type TriggerBody struct {
	ID        string          `json:"id"`
	Name      string          `json:"name,omitempty"`
	Version   int             `json:"version" doc:"The one in force."`
	Paused    bool            `json:"paused"`
	AppliedAt time.Time       `json:"applied_at"`
	Segment   string          `json:"segment,omitempty" doc:"The segment that belongs to it."`
	Author    string          `json:"author,omitempty"`
	Reason    string          `json:"reason,omitempty"`
	Source    string          `json:"source" doc:"The text of its file, as it was given."`
	Document  jsonValue       `json:"document" doc:"What it says."`
	History   []TriggerChange `json:"history,omitempty" doc:"Applies, pauses and resumptions, the last first; of one trigger only."`
}

// TriggerChange is an entry of a trigger's history.
type TriggerChange struct {
	At      time.Time `json:"at"`
	What    string    `json:"what" enum:"applied,paused,resumed"`
	Version int       `json:"version"`
	Author  string    `json:"author,omitempty"`
	Reason  string    `json:"reason,omitempty"`
}

// TriggerID names a trigger in a path.
type TriggerID struct {
	ID string `path:"id" maxLength:"64" doc:"The id of the trigger."`
}

// DeliveryID names a delivery in a path.
type DeliveryID struct {
	ID uuid.UUID `path:"id"`
}

// TriggerApplied is the answer to an apply.
type TriggerApplied struct {
	ID      string `json:"id"`
	Version int    `json:"version"`
	Applied bool   `json:"applied" doc:"False where this version was in force already."`
	Segment string `json:"segment,omitempty" doc:"The segment that belongs to the trigger."`
	Confirm *int   `json:"confirm,omitempty" doc:"Nothing was applied: so many customers are in the segment by its last change. Ask again with this number as confirm."`
}

// TriggerSource is a trigger file.
type TriggerSource struct {
	Source          string `json:"source" doc:"The file's text, YAML or JSON."`
	Author          string `json:"author,omitempty" maxLength:"200"`
	Reason          string `json:"reason,omitempty" maxLength:"2000"`
	Fire            string `json:"fire,omitempty" enum:"existing" doc:"existing: begin with those who are in the segment that starts the trigger, by the segment's last change. Without confirm it is only answered how many those are."`
	Confirm         *int   `json:"confirm,omitempty" minimum:"0" doc:"How many those are, as answered; 409 where it is another number by now."`
	ExpectedVersion int    `json:"expected_version,omitempty" minimum:"0" doc:"Apply only where this version is in force, else 409."`
}

// DeliveryBody is what was done, or not done, for one cause.
type DeliveryBody struct {
	ID          uuid.UUID  `json:"id"`
	Customer    uuid.UUID  `json:"customer"`
	Trigger     string     `json:"trigger"`
	Version     int        `json:"version"`
	Action      string     `json:"action"`
	Destination string     `json:"destination,omitempty"`
	Change      string     `json:"change" doc:"stage.entered, tier.entered, satisfaction.entered, segment.entered, segment.left, touchpoint, schedule or points.expiring."`
	Programme   string     `json:"programme,omitempty" doc:"Of a tier and of points that expire; of a segment its name."`
	From        string     `json:"from,omitempty"`
	To          string     `json:"to,omitempty"`
	ChangeAt    time.Time  `json:"change_at"`
	Cause       string     `json:"cause"`
	Arm         string     `json:"arm,omitempty" doc:"Of a trigger with a holdout: treated or held."`
	DecidedAt   time.Time  `json:"decided_at"`
	State       string     `json:"state" enum:"planned,attempted,retrying,delivered,suppressed,dead"`
	Reason      string     `json:"reason,omitempty" doc:"Why it is suppressed: the first limit that said no."`
	PlannedFor  *time.Time `json:"planned_for,omitempty"`
	NextAt      *time.Time `json:"next_at,omitempty" doc:"When it is tried again."`
	Attempts    int        `json:"attempts" doc:"Of all rounds; each sending by hand begins one."`
	DeliveredAt *time.Time `json:"delivered_at,omitempty"`
	Status      int        `json:"status,omitempty" doc:"Of the last answer."`
	Error       string     `json:"error,omitempty"`
}

func deliveryOfRow(r *projections.DeliveryRow) DeliveryBody {
	return DeliveryBody{
		ID: r.ID, Customer: r.Customer, Trigger: r.Trigger, Version: int(r.Version), Action: r.Action, Destination: r.Destination,
		Change: r.Change, Programme: r.Programme, From: r.From, To: r.To, ChangeAt: r.ChangeAt.UTC(), Cause: r.Cause, Arm: r.Arm,
		DecidedAt: r.BeganAt.UTC(), State: r.State, Reason: r.Reason, PlannedFor: utc(r.PlannedFor), NextAt: utc(r.NextAt),
		Attempts: int(r.Attempts), DeliveredAt: utc(r.DeliveredAt), Status: int(r.Status), Error: r.Error,
	}
}

func utc(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	u := t.UTC()
	return &u
}

// deliveryOf is a delivery as its facts say it.
func deliveryOf(d *fact.Delivery) *DeliveryBody {
	f := &d.First
	b := &DeliveryBody{
		ID: f.Delivery, Trigger: f.Trigger, Version: f.Version, Action: f.Action, Destination: f.To,
		Change: f.Change.Type, Programme: f.Change.Programme, From: f.Change.From, To: f.Change.To, ChangeAt: f.Change.At.Time(), Cause: f.Change.Cause,
		Arm: string(d.Arm), DecidedAt: f.At.Time(), State: string(d.State), Reason: string(d.Reason), Attempts: d.Total,
		Status: d.Last.Status, Error: d.Last.Error,
	}
	b.Customer, _ = uuid.Parse(f.Customer)
	at := func(m domain.Millis) *time.Time { t := m.Time(); return &t }
	if d.PlannedAt != 0 {
		b.PlannedFor = at(d.PlannedAt)
	}
	switch d.State {
	case fact.StateRetrying:
		b.NextAt = at(d.SendAt)
	case fact.StateDelivered:
		b.DeliveredAt = at(d.Last.At)
	}
	return b
}

// triggerProblems answers 422 with the place of every mistake.
func triggerProblems(problems []PolicyProblem) error {
	return huma.Error422UnprocessableEntity("the trigger is not valid", mistakes(problems)...)
}

func (a *API) automationOperations() {
	if a.cfg.Automation == nil {
		return
	}
	a.triggerOperations()
	a.deliveryOperations()
	a.dryRunOperations()
}

func triggerBody(s *automation.Status, history bool) (TriggerBody, error) {
	b := TriggerBody{ID: s.ID, Paused: s.Paused, Version: len(s.Versions)}
	if b.Version > 0 {
		b.Segment, _, _ = s.Versions[b.Version-1].Document.Owned()
	}
	if b.Version > 0 {
		v := s.Versions[b.Version-1]
		document, err := v.Document.Canonical()
		if err != nil {
			return b, err
		}
		b.Name, b.AppliedAt, b.Author, b.Reason, b.Source, b.Document = v.Document.Name, v.AppliedAt.UTC(), v.Author, v.Reason, v.Source, document
	}
	for i := len(s.Changes) - 1; history && i >= 0; i-- {
		c := s.Changes[i]
		b.History = append(b.History, TriggerChange{c.At.UTC(), c.What, c.Version, c.Author, c.Reason})
	}
	return b, nil
}

func (a *API) triggerError(doing string, err error) error {
	switch {
	case errors.Is(err, automation.ErrNoTrigger), errors.Is(err, automation.ErrNoDelivery):
		return huma.Error404NotFound(err.Error())
	case errors.Is(err, automation.ErrMoved), errors.Is(err, automation.ErrNotAgain):
		return huma.Error409Conflict(err.Error())
	}
	return a.internal(doing, err)
}

// existing puts into a proposal the change of the segment whose customers are asked
// for; ask is the number to confirm first, nil where it was confirmed.
func (a *API) existing(ctx context.Context, d *trigger.Document, in *TriggerSource, p *automation.Proposal) (ask *int, err error) {
	if d.On.Segment == nil || d.On.Segment.Entered == "" {
		return nil, huma.Error422UnprocessableEntity("fire: existing is for triggers on entering a segment: on: {segment: {entered: …}}")
	}
	change, n, err := a.cfg.Automation.Existing(ctx, d.On.Segment.Entered)
	if err != nil {
		return nil, a.segmentError("count who is in the segment", err)
	}
	fresh := trigger.DefaultFreshness
	if d.Limits.Freshness != "" {
		if fresh, err = trigger.ParsePeriod(d.Limits.Freshness); err != nil {
			return nil, huma.Error422UnprocessableEntity(err.Error())
		}
	}
	switch {
	case domain.MillisOf(time.Now())-change.At > fresh:
		return nil, huma.Error422UnprocessableEntity(fmt.Sprintf("the segment was last changed at %s, so all of it would be stale; a longer limits.freshness lets it through", change.At))
	case in.Confirm == nil:
		return &n, nil
	case *in.Confirm != n:
		return nil, huma.Error409Conflict(fmt.Sprintf("%d customers are in the segment by now, not %d", n, *in.Confirm))
	}
	p.Existing = &change
	return nil, nil
}

func (a *API) triggerOperations() {
	const tag = "Triggers"
	au := a.cfg.Automation

	type triggerListOutput struct {
		Body struct {
			Triggers []TriggerBody `json:"triggers"`
		}
	}
	huma.Register(a.huma, operation("list-triggers", http.MethodGet, "/triggers", tag, "List triggers", "All triggers, by id.", 503),
		func(ctx context.Context, _ *struct{}) (*triggerListOutput, error) {
			all, err := au.Triggers.List(ctx)
			if err != nil {
				return nil, a.internal("list the triggers", err)
			}
			out := &triggerListOutput{}
			out.Body.Triggers = []TriggerBody{}
			for i := range all {
				b, err := triggerBody(&all[i], false)
				if err != nil {
					return nil, a.internal("list the triggers", err)
				}
				out.Body.Triggers = append(out.Body.Triggers, b)
			}
			return out, nil
		})

	type triggerOutput struct{ Body TriggerBody }
	get := func(ctx context.Context, id string) (*triggerOutput, error) {
		s, err := au.Triggers.Get(ctx, id)
		if err != nil {
			return nil, a.triggerError("read the trigger", err)
		}
		b, err := triggerBody(&s, true)
		if err != nil {
			return nil, a.internal("read the trigger", err)
		}
		return &triggerOutput{b}, nil
	}
	huma.Register(a.huma, operation("get-trigger", http.MethodGet, "/triggers/{id}", tag, "A trigger", "A trigger with its history.", 404, 503),
		func(ctx context.Context, in *TriggerID) (*triggerOutput, error) { return get(ctx, in.ID) })
	type triggerHistoryOutput struct {
		Body struct {
			History []TriggerChange `json:"history" doc:"The last first."`
		}
	}
	huma.Register(a.huma, operation("get-trigger-history", http.MethodGet, "/triggers/{id}/history", tag, "A trigger's history", "Applies, pauses and resumptions, the last first.", 404, 503),
		func(ctx context.Context, in *TriggerID) (*triggerHistoryOutput, error) {
			t, err := get(ctx, in.ID)
			if err != nil {
				return nil, err
			}
			out := &triggerHistoryOutput{}
			out.Body.History = t.Body.History
			return out, nil
		})

	type triggerAppliedOutput struct{ Body TriggerApplied }
	apply := func(ctx context.Context, id string, in *TriggerSource) (*triggerAppliedOutput, error) {
		d, problems := au.Parse(in.Source)
		if len(problems) > 0 {
			return nil, triggerProblems(problems)
		}
		if id != "" && d.ID != id {
			return nil, huma.Error422UnprocessableEntity("the document's id is " + d.ID + ", not " + id)
		}
		p := automation.Proposal{Document: d, Source: in.Source, Author: in.Author, Reason: in.Reason, Expected: in.ExpectedVersion}
		out := &triggerAppliedOutput{TriggerApplied{ID: d.ID}}
		out.Body.Segment, _, _ = d.Owned()
		if in.Fire != "" {
			ask, err := a.existing(ctx, &d, in, &p)
			if err != nil {
				return nil, err
			}
			if out.Body.Confirm = ask; ask != nil {
				return out, nil
			}
		}
		var err error
		if out.Body.Version, out.Body.Applied, err = au.Triggers.Apply(ctx, p); err != nil {
			return nil, a.triggerError("apply the trigger", err)
		}
		if err := au.Own(ctx, &d, in.Author, in.Reason); err != nil {
			return nil, a.segmentError("make the segment of the trigger; it is applied, apply it again", err)
		}
		return out, nil
	}
	const applying = "Puts a trigger in force where it differs from the version that is. It acts on changes that are found from then on."
	huma.Register(a.huma, operation("apply-trigger", http.MethodPost, "/triggers", tag, "Apply a trigger", applying, 409, 429, 503),
		func(ctx context.Context, in *struct{ Body TriggerSource }) (*triggerAppliedOutput, error) {
			return apply(ctx, "", &in.Body)
		})
	huma.Register(a.huma, operation("put-trigger", http.MethodPut, "/triggers/{id}", tag, "Apply a trigger under its id", applying, 409, 429, 503),
		func(ctx context.Context, in *struct {
			TriggerID
			Body TriggerSource
		},
		) (*triggerAppliedOutput, error) {
			return apply(ctx, in.ID, &in.Body)
		})

	type triggerValidOutput struct {
		Body struct {
			Valid    bool            `json:"valid"`
			Problems []PolicyProblem `json:"problems"`
		}
	}
	huma.Register(a.huma, operation("validate-trigger", http.MethodPost, "/triggers/validate", tag, "Check a trigger", "What is wrong with a trigger file, each mistake with its place. Nothing is kept.", 503),
		func(_ context.Context, in *struct {
			Body struct {
				Source string `json:"source"`
			}
		},
		) (*triggerValidOutput, error) {
			_, problems := au.Parse(in.Body.Source)
			out := &triggerValidOutput{}
			out.Body.Valid, out.Body.Problems = len(problems) == 0, append([]PolicyProblem{}, problems...)
			return out, nil
		})
	type triggerSchemaOutput struct {
		ContentType string `header:"Content-Type"`
		Body        []byte
	}
	huma.Register(a.huma, operation("get-trigger-schema", http.MethodGet, "/triggers/schema", tag, "The schema of a trigger", "JSON Schema of a trigger file, for editors."),
		func(context.Context, *struct{}) (*triggerSchemaOutput, error) {
			b, err := au.Schema()
			if err != nil {
				return nil, a.internal("write the schema", err)
			}
			return &triggerSchemaOutput{"application/schema+json", b}, nil
		})

	// goesOn is an error where a trigger that is to go on names what is not there any more.
	goesOn := func(ctx context.Context, id string) error {
		s, err := au.Triggers.Get(ctx, id)
		if err != nil {
			return a.triggerError("read the trigger", err)
		}
		if n := len(s.Versions); n > 0 && s.Paused && s.Versions[n-1].Source != "" {
			if _, problems := au.Parse(s.Versions[n-1].Source); len(problems) > 0 {
				return triggerProblems(problems)
			}
		}
		return nil
	}
	for _, p := range []struct {
		what, summary, description string
		set                        func(ctx context.Context, id, author, reason string) (bool, error)
	}{
		{"pause", "Pause a trigger", "What happens while it is paused is recorded as suppressed and not sent on resume; what was planned is not sent.", au.Triggers.Pause},
		{"resume", "Resume a trigger", "It acts on what is found from then on. 422 where it names what is not there any more.", au.Triggers.Resume},
	} {
		huma.Register(a.huma, operation(p.what+"-trigger", http.MethodPost, "/triggers/{id}/"+p.what, tag, p.summary, p.description, 404, 429, 503),
			func(ctx context.Context, in *struct {
				TriggerID
				Body struct {
					Author string `json:"author,omitempty" maxLength:"200"`
					Reason string `json:"reason,omitempty" maxLength:"2000"`
				} `required:"false"`
			},
			) (*triggerOutput, error) {
				if p.what == "resume" {
					if err := goesOn(ctx, in.ID); err != nil {
						return nil, err
					}
				}
				if _, err := p.set(ctx, in.ID, in.Body.Author, in.Body.Reason); err != nil {
					return nil, a.triggerError(p.what+" the trigger", err)
				}
				return get(ctx, in.ID)
			})
	}

	type triggerTestOutput struct{ Body automation.Tested }
	huma.Register(a.huma, operation("test-trigger", http.MethodPost, "/triggers/{id}/test", tag, "Try a trigger on a customer",
		"What it would decide about a customer now, were the last change that it is about found this moment, and the message that it would send. Nothing is recorded and nothing is sent.", 404, 409, 503),
		func(ctx context.Context, in *struct {
			TriggerID
			Body struct {
				Customer string `json:"customer" doc:"An id, or a subject such as user:42."`
			}
		},
		) (*triggerTestOutput, error) {
			if err := checkRef("body.customer", in.Body.Customer); err != nil {
				return nil, err
			}
			c, err := a.cfg.Views.Customer(ctx, in.Body.Customer, projections.At{})
			if err != nil {
				return nil, a.viewError("find the customer", projections.At{}, err, nil)
			}
			t, err := au.Engine.Test(ctx, in.ID, c.ID)
			if errors.Is(err, automation.ErrNoChange) {
				return nil, huma.Error409Conflict(err.Error())
			}
			if err != nil {
				return nil, a.triggerError("try the trigger", err)
			}
			return &triggerTestOutput{*t}, nil
		})

	type triggerSettingsOutput struct{ Body automation.Settings }
	huma.Register(a.huma, operation("get-automation-settings", http.MethodGet, "/automation/settings", tag, "What holds for all triggers", "The cap on what one customer gets from all triggers together.", 503),
		func(ctx context.Context, _ *struct{}) (*triggerSettingsOutput, error) {
			s, err := au.Triggers.Settings(ctx)
			if err != nil {
				return nil, a.internal("read the settings", err)
			}
			return &triggerSettingsOutput{s}, nil
		})
	huma.Register(a.huma, operation("put-automation-settings", http.MethodPut, "/automation/settings", tag, "Set what holds for all triggers", "It holds for what is decided from then on.", 429, 503),
		func(ctx context.Context, in *struct{ Body automation.Settings }) (*triggerSettingsOutput, error) {
			if c := in.Body.Cap; c != nil {
				if _, err := trigger.ParsePeriod(c.Per); err != nil || c.Times < 1 {
					return nil, huma.Error422UnprocessableEntity("a cap is a number of times, at least 1, and a period such as 7d")
				}
			}
			if err := au.Triggers.Set(ctx, in.Body, ""); err != nil {
				return nil, a.internal("keep the settings", err)
			}
			return &triggerSettingsOutput{in.Body}, nil
		})
}

// checkTrigger is an error where a list is asked for a trigger that is not there.
func (a *API) checkTrigger(ctx context.Context, id string) error {
	if id == "" {
		return nil
	}
	_, err := a.cfg.Automation.Triggers.Get(ctx, id)
	switch {
	case errors.Is(err, automation.ErrNoTrigger):
		return huma.Error404NotFound(fmt.Sprintf("there is no trigger %q", domain.Excerpt(id)))
	case err != nil:
		return a.internal("find the trigger", err)
	}
	return nil
}

func joinReasons() string {
	words := make([]string, len(fact.Reasons))
	for i, r := range fact.Reasons {
		words[i] = string(r)
	}
	return strings.Join(words, ", ")
}

func (a *API) deliveryOperations() {
	const tag = "Deliveries"
	au := a.cfg.Automation
	type deliveryListOutput struct {
		Body struct {
			Deliveries []DeliveryBody `json:"deliveries" doc:"The newest first."`
			NextCursor string         `json:"next_cursor,omitempty"`
		}
	}
	huma.Register(a.huma, operation("list-deliveries", http.MethodGet, "/deliveries", tag, "What automation did",
		"Deliveries, sent or suppressed, the newest first, as the tables have them. state=dead is the dead-letter list.", 404, 503),
		func(ctx context.Context, in *struct {
			Trigger     string `query:"trigger" maxLength:"64" doc:"404 where there is none of this id."`
			State       string `query:"state" enum:"planned,attempted,retrying,delivered,suppressed,dead"`
			Reason      string `query:"reason" maxLength:"32" doc:"Why it is suppressed; 422 for a word that is no reason."`
			Destination string `query:"destination" maxLength:"64"`
			Cursor      string `query:"cursor" maxLength:"64"`
			Limit       int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
			AfterParam
		},
		) (*deliveryListOutput, error) {
			if err := a.await(ctx, in.AfterParam); err != nil {
				return nil, err
			}
			if err := a.checkTrigger(ctx, in.Trigger); err != nil {
				return nil, err
			}
			if in.Reason != "" && !slices.Contains(fact.Reasons, fact.Reason(in.Reason)) {
				return nil, huma.Error422UnprocessableEntity(fmt.Sprintf("%q is no reason; there are %s", domain.Excerpt(in.Reason), joinReasons()))
			}
			rows, next, err := au.Deliveries(ctx, projections.DeliveryQuery{Trigger: in.Trigger, State: in.State, Reason: in.Reason, Destination: in.Destination}, in.Limit, in.Cursor)
			if err != nil {
				return nil, a.viewError("list the deliveries", projections.At{}, err, nil)
			}
			out := &deliveryListOutput{}
			out.Body.Deliveries, out.Body.NextCursor = []DeliveryBody{}, next
			for i := range rows {
				out.Body.Deliveries = append(out.Body.Deliveries, deliveryOfRow(&rows[i]))
			}
			return out, nil
		})

	type deliveryOneOutput struct {
		Body struct {
			DeliveryBody
			Message   jsonValue             `json:"message,omitempty" doc:"What is sent, once it was first attempted."`
			Responses []automation.Response `json:"responses,omitempty" doc:"The beginnings of the answers."`
		}
	}
	huma.Register(a.huma, operation("get-delivery", http.MethodGet, "/deliveries/{id}", tag, "A delivery", "A delivery with what was sent and answered, as the log has it.", 404, 503),
		func(ctx context.Context, in *DeliveryID) (*deliveryOneOutput, error) {
			d, p, err := au.Engine.Delivery(ctx, in.ID)
			if err != nil {
				return nil, a.triggerError("read the delivery", err)
			}
			out := &deliveryOneOutput{}
			out.Body.DeliveryBody, out.Body.Message, out.Body.Responses = *deliveryOf(d), p.Message, p.Responses
			return out, nil
		})
	type deliveryAgainOutput struct{ Body DeliveryBody }
	huma.Register(a.huma, operation("send-delivery-again", http.MethodPost, "/deliveries/{id}/send", tag, "Send a delivery by hand",
		"Sends what was suppressed as stale, through the limits after stale, or what has failed for good; under the same delivery id.", 404, 409, 429, 503),
		func(ctx context.Context, in *struct {
			DeliveryID
			Body struct {
				Author string `json:"author,omitempty" maxLength:"200"`
			} `required:"false"`
		},
		) (*deliveryAgainOutput, error) {
			d, _, err := au.Engine.Delivery(ctx, in.ID)
			if err == nil {
				d, err = au.Engine.Again(ctx, in.ID, d.Subject, in.Body.Author)
			}
			if err != nil {
				return nil, a.triggerError("send the delivery", err)
			}
			return &deliveryAgainOutput{*deliveryOf(d)}, nil
		})
	type deliveryAllOutput struct {
		Body struct {
			Planned    int `json:"planned" doc:"They will be attempted."`
			Suppressed int `json:"suppressed" doc:"A limit said no."`
		}
	}
	all := operation("send-deliveries-again", http.MethodPost, "/deliveries/send", tag, "Send all by hand",
		"Sends every delivery of a list again: all dead letters of a trigger or a destination, or all that was stale of a trigger.", 404, 429, 503)
	all.Metadata = map[string]any{unbounded: true}
	huma.Register(a.huma, all, func(ctx context.Context, in *struct {
		Body struct {
			State       string `json:"state" enum:"dead,stale"`
			Trigger     string `json:"trigger,omitempty"`
			Destination string `json:"destination,omitempty"`
			Author      string `json:"author,omitempty" maxLength:"200"`
		}
	},
	) (*deliveryAllOutput, error) {
		if in.Body.Trigger == "" && in.Body.Destination == "" {
			return nil, huma.Error422UnprocessableEntity("name the trigger or the destination")
		}
		if err := a.checkTrigger(ctx, in.Body.Trigger); err != nil {
			return nil, err
		}
		q := projections.DeliveryQuery{Trigger: in.Body.Trigger, Destination: in.Body.Destination, State: in.Body.State}
		if in.Body.State == "stale" {
			q.State, q.Reason = string(fact.StateSuppressed), string(fact.Stale)
		}
		out := &deliveryAllOutput{}
		for cursor := ""; ; {
			rows, next, err := au.Deliveries(ctx, q, 1000, cursor)
			if err != nil {
				return nil, a.internal("list the deliveries", err)
			}
			for i := range rows {
				d, err := au.Engine.Again(ctx, rows[i].ID, rows[i].Subject, in.Body.Author)
				switch {
				case errors.Is(err, automation.ErrNotAgain): // sent meanwhile
				case err != nil:
					return nil, a.triggerError("send the delivery", err)
				case d.State == fact.StateSuppressed:
					out.Body.Suppressed++
				default:
					out.Body.Planned++
				}
			}
			if cursor = next; cursor == "" {
				return out, nil
			}
		}
	})
}
