package api

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"sojourn/domain"
	"sojourn/projections"
)

// Asked is the time a question is about.
type Asked struct {
	AsOf    instant `query:"as_of" doc:"How it was at this time, with all that is known today: RFC 3339, or a date, which means its last millisecond (UTC)."`
	KnownAt instant `query:"known_at" doc:"What was known at this time: as if the log had ended with the last event recorded by then. RFC 3339 or a date."`
}

func (q Asked) at() projections.At { return projections.At{AsOf: q.AsOf.Time, KnownAt: q.KnownAt.Time} }

// Page is a part of a list.
type Page struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"50" doc:"How many at most."`
	Cursor string `query:"cursor" maxLength:"4096" doc:"next_cursor of the page before."`
}

// CustomerRef names a customer in a path.
type CustomerRef struct {
	ID string `path:"id" maxLength:"32768" doc:"A customer id, or one of the customer's subjects, whatever its kind: user:42, anon:8f3a, email:ada@example.com, ios.idfa:6d92." example:"user:42"`
}

type customerBody struct {
	ID         uuid.UUID            `json:"id"`
	Stage      string               `json:"stage" doc:"visitor, lead, qualified, first_purchase, repeat, loyal, won_back, at_risk, churned or lost."`
	StageSince time.Time            `json:"stage_since"`
	Reason     string               `json:"reason" doc:"Why the customer is in the stage, in words."`
	Cause      string               `json:"cause" doc:"What caused the last transition: touchpoint:<event id> or deadline:<rule>:<event id it counts from>."`
	Purchases  int                  `json:"purchases" doc:"Purchases that are not fully refunded."`
	Refunds    int                  `json:"refunds" doc:"Refund events."`
	Revenue    map[string]string    `json:"revenue" doc:"Orders less refunds, by currency, as decimal text."`
	FirstSeen  time.Time            `json:"first_seen"`
	LastSeen   time.Time            `json:"last_seen"`
	Traits     map[string]jsonValue `json:"traits"`
	Subjects   []string             `json:"subjects" doc:"The customer's subjects; the one that gives the id comes first."`
	Loyalty    []standingBody       `json:"loyalty,omitempty" doc:"Where the customer stands in the loyalty programmes that it is or was in; missing where there are none, and in lists."`
	AsOf       time.Time            `json:"as_of" doc:"The time the answer is about."`

	Satisfaction *satisfactionBody `json:"satisfaction,omitempty" doc:"How satisfied the customer is; missing in lists."`
	Service      *serviceBody      `json:"service,omitempty" doc:"How the customer is to be treated, and why; missing in lists."`
}

func customerOf(c projections.Customer) customerBody {
	b := customerBody{
		ID: c.ID, Stage: c.Stage, StageSince: c.StageSince.UTC(), Reason: c.Reason, Cause: c.Cause,
		Purchases: c.Purchases, Refunds: c.Refunds, Revenue: c.Revenue,
		FirstSeen: c.FirstSeen.UTC(), LastSeen: c.LastSeen.UTC(), Traits: c.Traits, Subjects: c.Subjects, AsOf: c.AsOf.UTC(),
		Loyalty: standingsOf(c.Loyalty),
	}
	if c.Satisfaction != nil && c.Service != nil {
		s, service := satisfactionOf(c.Satisfaction), serviceOf(c.Service)
		b.Satisfaction, b.Service = &s, &service
	}
	if b.Revenue == nil {
		b.Revenue = map[string]string{}
	}
	if b.Traits == nil {
		b.Traits = map[string]jsonValue{}
	}
	if b.Subjects == nil {
		b.Subjects = []string{}
	}
	return b
}

type entryBody struct {
	At         time.Time       `json:"at"`
	Touchpoint *touchpointBody `json:"touchpoint,omitempty"`
	Transition *transitionBody `json:"transition,omitempty"`
	Delivery   *DeliveryBody   `json:"delivery,omitempty" doc:"What automation did, at the time it decided on it."`
}

type touchpointBody struct {
	EventID    uuid.UUID `json:"event_id"`
	Subject    string    `json:"subject"`
	Source     string    `json:"source"`
	Type       string    `json:"type"`
	Name       string    `json:"name"`
	Meaning    string    `json:"meaning"`
	Channel    string    `json:"channel"`
	ReceivedAt time.Time `json:"received_at"`
	RecordedAt time.Time `json:"recorded_at"`
	Position   uint64    `json:"position"`
	Amount     string    `json:"amount,omitempty" doc:"Decimal text."`
	Currency   string    `json:"currency,omitempty"`
	OrderID    string    `json:"order_id,omitempty"`
	Properties jsonValue `json:"properties,omitempty"`
}

type transitionBody struct {
	Seq    int    `json:"seq"`
	From   string `json:"from" doc:"Empty for the first."`
	To     string `json:"to"`
	Reason string `json:"reason"`
	Cause  string `json:"cause"`
}

func entryOf(e projections.Entry) entryBody {
	b := entryBody{At: e.At.UTC()}
	if t := e.Touchpoint; t != nil {
		b.Touchpoint = &touchpointBody{
			EventID: t.EventID, Subject: t.Subject, Source: t.Source, Type: t.Type, Name: t.Name,
			Meaning: t.Meaning, Channel: t.Channel, ReceivedAt: t.ReceivedAt.UTC(), RecordedAt: t.RecordedAt.UTC(),
			Position: uint64(t.Position), Amount: t.Amount, Currency: t.Currency, OrderID: t.OrderID, Properties: t.Properties,
		}
	}
	if t := e.Transition; t != nil {
		b.Transition = &transitionBody{Seq: t.Seq, From: t.From, To: t.To, Reason: t.Reason, Cause: t.Cause}
	}
	if e.Delivery != nil {
		b.Delivery = deliveryOf(e.Delivery)
	}
	return b
}

type timelineOutput struct {
	Body struct {
		Entries    []entryBody `json:"entries" doc:"Touchpoints, transitions and deliveries in the order of time."`
		NextCursor string      `json:"next_cursor,omitempty" doc:"Missing on the last page."`
	}
}

func timelineOf(es []projections.Entry, next string) *timelineOutput {
	out := &timelineOutput{}
	out.Body.Entries = make([]entryBody, 0, len(es))
	for _, e := range es {
		out.Body.Entries = append(out.Body.Entries, entryOf(e))
	}
	out.Body.NextCursor = next
	return out
}

type stageBody struct {
	Stage     string `json:"stage"`
	Customers uint64 `json:"customers"`
}

type stagesBody struct {
	AsOf      time.Time   `json:"as_of"`
	Customers uint64      `json:"customers"`
	Stages    []stageBody `json:"stages"`
}

func (a *API) customerOperations() {
	const tag = "Customers"

	type customersOutput struct {
		Body struct {
			Customers  []customerBody `json:"customers"`
			NextCursor string         `json:"next_cursor,omitempty" doc:"Missing on the last page."`
		}
	}
	huma.Register(a.huma, operation("list-customers", http.MethodGet, "/customers", tag,
		"List customers", "All customers, or those in a stage, now or at another time; each as it was then. "+
			"With known_at the log is read up to there first, which takes a while where nobody has asked about that time lately.", 503),
		func(ctx context.Context, in *struct {
			Asked
			Page
			AfterParam
			Stage string `query:"stage" enum:"visitor,lead,qualified,first_purchase,repeat,loyal,won_back,at_risk,churned,lost" doc:"Only customers who are in this stage, or were at the time asked about."`
		},
		) (*customersOutput, error) {
			if err := a.await(ctx, in.AfterParam); err != nil {
				return nil, err
			}
			cs, next, err := a.cfg.Views.Customers(ctx, in.Stage, in.Limit, in.Cursor, in.at())
			if err != nil {
				return nil, a.viewError("list customers", in.at(), err, nil)
			}
			out := &customersOutput{}
			out.Body.Customers = make([]customerBody, 0, len(cs))
			for _, c := range cs {
				out.Body.Customers = append(out.Body.Customers, customerOf(c))
			}
			out.Body.NextCursor = next
			return out, nil
		})

	type customerOutput struct{ Body customerBody }
	huma.Register(a.huma, operation("get-customer", http.MethodGet, "/customers/{id}", tag,
		"Where a customer stands", "The stage of a customer now or at another time, and why. "+
			"Where two histories have become one customer, the id that is no longer in use redirects (308) to the other.", 308, 404, 503),
		func(ctx context.Context, in *struct {
			CustomerRef
			Asked
			AfterParam
			RequestQuery
		},
		) (*customerOutput, error) {
			if err := a.askable(ctx, in.ID, in.AfterParam); err != nil {
				return nil, err
			}
			c, err := a.cfg.Views.Customer(ctx, in.ID, in.at())
			if err != nil {
				return nil, a.viewError("read the customer", in.at(), err, func(id uuid.UUID) string {
					return "/api/v1/customers/" + id.String() + in.suffix()
				})
			}
			return &customerOutput{customerOf(c)}, nil
		})

	huma.Register(a.huma, operation("get-timeline", http.MethodGet, "/customers/{id}/timeline", tag,
		"A customer's timeline", "The customer's touchpoints and changes of stage, one list in the order of time.", 308, 404, 503),
		func(ctx context.Context, in *struct {
			CustomerRef
			Asked
			Page
			AfterParam
			RequestQuery
		},
		) (*timelineOutput, error) {
			if err := a.askable(ctx, in.ID, in.AfterParam); err != nil {
				return nil, err
			}
			es, next, err := a.cfg.Views.Timeline(ctx, in.ID, in.at(), in.Cursor, in.Limit)
			if err != nil {
				return nil, a.viewError("read the timeline", in.at(), err, func(id uuid.UUID) string {
					return "/api/v1/customers/" + id.String() + "/timeline" + in.suffix()
				})
			}
			return timelineOf(es, next), nil
		})

	type stagesOutput struct{ Body stagesBody }
	huma.Register(a.huma, operation("get-stages", http.MethodGet, "/stages", tag,
		"Customers by stage", "How many customers were in each stage at a time. A customer with no touchpoint by then is not counted. "+
			"With known_at the log is read up to there first, which takes a while where nobody has asked about that time lately.", 503),
		func(ctx context.Context, in *struct {
			Asked
			AfterParam
		},
		) (*stagesOutput, error) {
			if err := a.await(ctx, in.AfterParam); err != nil {
				return nil, err
			}
			s, err := a.cfg.Views.Stages(ctx, in.at())
			if err != nil {
				return nil, a.viewError("count the stages", in.at(), err, nil)
			}
			out := &stagesOutput{stagesBody{AsOf: s.AsOf.UTC(), Customers: s.Customers, Stages: []stageBody{}}}
			for _, c := range s.Stages {
				out.Body.Stages = append(out.Body.Stages, stageBody{c.Stage, c.Customers})
			}
			return out, nil
		})
}

// askable checks a customer's reference before anything waits for it.
func (a *API) askable(ctx context.Context, ref string, p AfterParam) error {
	if err := checkRef("path.id", ref); err != nil {
		return err
	}
	return a.await(ctx, p)
}

// checkRef refuses what is neither an id nor a subject; location is where the
// request has it.
func checkRef(location, ref string) error {
	if _, err := uuid.Parse(ref); err == nil && len(ref) == 36 {
		return nil
	}
	if _, err := domain.ParseSubject(ref); err != nil {
		return huma.Error422UnprocessableEntity("name a customer by its id or by one of its subjects, such as user:42 or email:ada@example.com",
			&huma.ErrorDetail{Location: location, Message: err.Error(), Value: domain.Excerpt(ref)})
	}
	return nil
}

// viewError maps the errors of the views to answers. at is the time that was
// asked about, moved gives the address of the question about another customer.
func (a *API) viewError(doing string, at projections.At, err error, moved func(uuid.UUID) string) error {
	then := ""
	if at != (projections.At{}) {
		then = " by that time"
	}
	var m *projections.MovedError
	switch {
	case errors.Is(err, projections.ErrNotFound):
		return huma.Error404NotFound(projections.ErrNotFound.Error() + then)
	case errors.Is(err, projections.ErrNoAccount):
		return huma.Error404NotFound(projections.ErrNoAccount.Error() + then)
	case errors.Is(err, projections.ErrBadCursor):
		return badCursor()
	case errors.As(err, &m) && moved != nil:
		return huma.ErrorWithHeaders(huma.NewError(http.StatusPermanentRedirect, "the customer bears another id by now: "+m.To.String()),
			http.Header{"Location": {moved(m.To)}})
	}
	return a.internal(doing, err)
}

// RequestQuery keeps the query of a request for a redirect.
type RequestQuery struct{ raw string }

// Resolve is called by huma with each request.
func (q *RequestQuery) Resolve(ctx huma.Context) []error {
	u := ctx.URL()
	q.raw = u.RawQuery
	return nil
}

func (q *RequestQuery) suffix() string {
	if q.raw == "" {
		return ""
	}
	return (&url.URL{RawQuery: q.raw}).String()
}
