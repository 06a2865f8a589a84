package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"sojourn/domain"
	"sojourn/domain/satisfaction"
	"sojourn/projections"
)

// SatisfactionViews answer how satisfied customers are.
type SatisfactionViews interface {
	// Satisfaction answers how satisfied a customer is; the errors are those of
	// Customer.
	Satisfaction(ctx context.Context, ref string, at projections.At) (projections.Satisfaction, error)
	// SatisfactionFigures are the figures of many customers, of all the time asked
	// about and by its parts. *projections.QuestionError for what makes no sense.
	SatisfactionFigures(ctx context.Context, q projections.FiguresQuery) (total projections.Figures, parts []projections.Figures, asOf time.Time, err error)
}

type satisfactionBody struct {
	Status         string       `json:"status" enum:"delighted,satisfied,neutral,unhappy,unknown"`
	Since          *time.Time   `json:"since,omitempty" doc:"Missing, as are reason and cause, where it was never another than unknown."`
	Reason         string       `json:"reason,omitempty" doc:"Why, in words."`
	Cause          string       `json:"cause,omitempty" doc:"touchpoint:<event id>, or deadline:faded:<event id of the last signal>."`
	Index          *float64     `json:"index,omitempty" doc:"From 0 to 100; missing while the status is unknown."`
	UncappedIndex  *float64     `json:"uncapped_index,omitempty" doc:"What it would be without open complaints."`
	UnknownFrom    *time.Time   `json:"unknown_from,omitempty" doc:"When the status becomes unknown if nothing more happens."`
	Signals        int          `json:"signals" doc:"Scores that count towards the index."`
	NPS            *measureBody `json:"nps,omitempty" doc:"The last NPS answer that counts; missing where there is none."`
	CSAT           *measureBody `json:"csat,omitempty"`
	CES            *measureBody `json:"ces,omitempty"`
	Review         *measureBody `json:"review,omitempty"`
	Flagged        int          `json:"flagged" doc:"Scores that are kept and counted nowhere."`
	OpenComplaints int          `json:"open_complaints"`
	OpenTickets    int          `json:"open_tickets"`
}

type measureBody struct {
	Score   float64   `json:"score" doc:"As given."`
	Scale   string    `json:"scale" doc:"On which it was given, such as 0-10."`
	Points  float64   `json:"points" doc:"The score from 0, the worst, to 100."`
	At      time.Time `json:"at"`
	EventID uuid.UUID `json:"event_id"`
	Answers int       `json:"answers" doc:"How many count."`
	Change  *float64  `json:"change,omitempty" doc:"By how many points it is above the one before it; missing for the first."`
}

type serviceBody struct {
	Level   string     `json:"level" doc:"How the customer is to be treated, by the policy's service levels."`
	Reasons []string   `json:"reasons" doc:"Why, one for each condition; none for the default level. That of a flag holds what people wrote."`
	Until   *time.Time `json:"until,omitempty" doc:"When the answer changes because a flag ends, if nothing else happens."`
}

func timeOf(m domain.Millis) *time.Time {
	t := m.Time().UTC()
	return &t
}

func satisfactionOf(v *satisfaction.View) satisfactionBody {
	b := satisfactionBody{
		Status: string(v.Status), Signals: v.Signals, Flagged: v.Flagged, OpenComplaints: v.OpenComplaints, OpenTickets: v.OpenTickets,
		NPS: measureOf(&v.NPS), CSAT: measureOf(&v.CSAT), CES: measureOf(&v.CES), Review: measureOf(&v.Review),
	}
	if v.Cause != (satisfaction.Cause{}) {
		b.Since, b.Reason, b.Cause = timeOf(v.Since), v.Reason, v.Cause.String()
	}
	if v.Known {
		b.Index, b.UncappedIndex, b.UnknownFrom = &v.Index, &v.Uncapped, timeOf(v.UnknownFrom)
	}
	return b
}

func measureOf(m *satisfaction.Measure) *measureBody {
	if m.Count == 0 {
		return nil
	}
	b := &measureBody{
		Score: float64(m.Last.Value) / 10_000, Scale: fmt.Sprintf("%d-%d", m.Last.Scale.Low, m.Last.Scale.High), Points: m.Last.Points,
		At: m.At.At.Time().UTC(), EventID: m.At.ID, Answers: m.Count,
	}
	if m.HasChange {
		b.Change = &m.Change
	}
	return b
}

func serviceOf(s *satisfaction.Service) serviceBody {
	b := serviceBody{Level: s.Level, Reasons: append([]string{}, s.Reasons...)}
	if s.Until != 0 {
		b.Until = timeOf(s.Until)
	}
	return b
}

type statusChangeBody struct {
	From   string    `json:"from"`
	To     string    `json:"to"`
	At     time.Time `json:"at"`
	Index  *float64  `json:"index,omitempty" doc:"From then on; missing where to is unknown."`
	Reason string    `json:"reason"`
	Cause  string    `json:"cause"`
}

type caseBody struct {
	Kind          string      `json:"kind" enum:"ticket,complaint,chat,call"`
	ID            string      `json:"id,omitempty" doc:"As sent."`
	OpenedAt      *time.Time  `json:"opened_at,omitempty" doc:"Missing where its opening has not been seen: such a case is not timed."`
	EventID       *uuid.UUID  `json:"event_id,omitempty" doc:"The touchpoint that opened it."`
	Open          bool        `json:"open"`
	Escalated     bool        `json:"escalated"`
	Reopened      int         `json:"reopened" doc:"How often."`
	Priority      string      `json:"priority,omitempty"`
	FirstResponse *timingBody `json:"first_response,omitempty" doc:"Over with an agent's first reply."`
	Resolution    *timingBody `json:"resolution,omitempty" doc:"Over with the last Resolved, without the time between a Resolved and its Reopened."`
}

type timingBody struct {
	DoneAt   *time.Time `json:"done_at,omitempty"`
	EventID  *uuid.UUID `json:"event_id,omitempty" doc:"The touchpoint that ended it."`
	TookMS   int64      `json:"took_ms" doc:"Milliseconds by the policy's clock, until it was done or up to as_of."`
	TargetMS int64      `json:"target_ms,omitempty" doc:"What it may take; missing for any time."`
	Due      *time.Time `json:"due,omitempty" doc:"When the target is over, as if nothing more happens; missing where it was met, and while the clock is paused."`
	Verdict  string     `json:"verdict,omitempty" enum:"pending,met,breached" doc:"pending: not yet due. Missing without a target."`
}

type surveyBody struct {
	EventID    uuid.UUID  `json:"event_id" doc:"The Survey Sent."`
	SentAt     time.Time  `json:"sent_at"`
	Kind       string     `json:"kind,omitempty" enum:"nps,csat,ces,custom"`
	Survey     string     `json:"survey_id,omitempty"`
	Campaign   string     `json:"campaign,omitempty"`
	AnswerID   *uuid.UUID `json:"answer_id,omitempty" doc:"The first answer; missing where there is none."`
	AnsweredAt *time.Time `json:"answered_at,omitempty"`
}

func caseOf(c *satisfaction.Case) caseBody {
	b := caseBody{Kind: c.Kind.String(), ID: c.ID, Open: c.Open, Escalated: c.Escalated, Reopened: c.Reopened, Priority: c.Priority}
	if c.HasOpened {
		b.OpenedAt, b.EventID = timeOf(c.Opened.At), &c.Opened.ID
		b.FirstResponse, b.Resolution = timingOf(&c.FirstResponse), timingOf(&c.Resolution)
	}
	return b
}

func timingOf(t *satisfaction.Timing) *timingBody {
	b := &timingBody{TookMS: int64(t.Took), TargetMS: int64(t.Target), Verdict: t.Verdict.String()}
	if t.Done {
		b.DoneAt, b.EventID = timeOf(t.Ref.At), &t.Ref.ID
	}
	if t.Due != 0 && (t.Verdict == satisfaction.VerdictPending || t.Verdict == satisfaction.VerdictBreached) {
		b.Due = timeOf(t.Due)
	}
	return b
}

type shareBody struct {
	N     int      `json:"n" doc:"Of how many."`
	Count int      `json:"count"`
	Value *float64 `json:"value" doc:"count ÷ n; null where n is 0."`
	Low   float64  `json:"low" doc:"The lower end of the 95% interval."`
	High  float64  `json:"high"`
}

func shareOf(s satisfaction.Share) shareBody {
	b := shareBody{N: s.N, Count: s.Count, Low: s.Low, High: s.High}
	if s.N > 0 {
		b.Value = &s.Value
	}
	return b
}

type opinionsBody struct {
	From *time.Time `json:"from,omitempty" doc:"Included; missing for an open end."`
	To   *time.Time `json:"to,omitempty" doc:"Not included; missing for an open end."`
	NPS  struct {
		N          int      `json:"n" doc:"Answers that count."`
		Promoters  int      `json:"promoters"`
		Passives   int      `json:"passives"`
		Detractors int      `json:"detractors"`
		Value      *float64 `json:"value" doc:"% promoters − % detractors, from −100 to 100; null where n is 0."`
		Low        float64  `json:"low" doc:"The lower end of the 95% interval (adjusted Wald)."`
		High       float64  `json:"high"`
	} `json:"nps"`
	CSAT shareBody `json:"csat" doc:"The share of satisfied answers (Wilson)."`
	CES  struct {
		N     int       `json:"n"`
		Value *float64  `json:"value" doc:"The mean of scores turned so that 7 is easy; null where n is 0."`
		Low   *float64  `json:"low" doc:"The lower end of the 95% interval (t); null where n is less than 2."`
		High  *float64  `json:"high"`
		Easy  shareBody `json:"easy" doc:"The share of 5 to 7."`
	} `json:"ces"`
	Responses  shareBody `json:"response_rate" doc:"Of the surveys sent, those that were answered, whenever that was."`
	Complaints struct {
		Complaints int      `json:"complaints" doc:"Opened."`
		Orders     int      `json:"orders" doc:"Placed."`
		Value      *float64 `json:"value" doc:"Complaints for each thousand orders; null without orders."`
		Low        *float64 `json:"low" doc:"The lower end of the 95% interval (Wilson), as if each complaint were about another order; null where there are fewer orders than complaints."`
		High       *float64 `json:"high"`
	} `json:"complaint_rate"`
	Cases []caseFiguresBody `json:"cases" doc:"Of each kind, the cases opened in the time."`
}

type caseFiguresBody struct {
	Kind          string          `json:"kind" enum:"ticket,complaint,chat,call"`
	Opened        int             `json:"opened"`
	Resolved      int             `json:"resolved"`
	FirstResponse timeFiguresBody `json:"first_response"`
	Resolution    timeFiguresBody `json:"resolution"`
}

type timeFiguresBody struct {
	P50    *int64    `json:"p50_ms" doc:"Milliseconds within which half of those that are done were; null where none is."`
	P90    *int64    `json:"p90_ms" doc:"Likewise of nine tenths."`
	Within shareBody `json:"within" doc:"The share in time, of those that met their target or are past it; what is not yet due counts in neither."`
}

func opinionsOf(f *projections.Figures) opinionsBody {
	var b opinionsBody
	b.From, b.To = orOpen(f.From), orOpen(f.To)
	n := &b.NPS
	n.N, n.Promoters, n.Passives, n.Detractors, n.Low, n.High = f.NPS.N, f.NPS.Promoters, f.NPS.Passives, f.NPS.Detractors, f.NPS.Low, f.NPS.High
	if n.N > 0 {
		n.Value = &f.NPS.Value
	}
	b.CSAT = shareOf(f.CSAT)
	b.CES.N, b.CES.Easy = f.CES.N, shareOf(f.Easy)
	if f.CES.N > 0 {
		b.CES.Value = &f.CES.Value
	}
	if f.CES.Known {
		b.CES.Low, b.CES.High = &f.CES.Low, &f.CES.High
	}
	b.Responses = shareOf(f.Responses)
	c := &b.Complaints
	c.Complaints, c.Orders = f.Complaints, f.Orders
	if value, low, high, known := f.ComplaintRate(); f.Orders > 0 {
		c.Value = &value
		if known {
			c.Low, c.High = &low, &high
		}
	}
	b.Cases = make([]caseFiguresBody, len(f.Cases))
	for i := range f.Cases {
		s := &f.Cases[i]
		b.Cases[i] = caseFiguresBody{
			Kind: s.Kind.String(), Opened: s.Opened, Resolved: s.Resolved,
			FirstResponse: timesOf(s.Responded, s.FirstResponseP50, s.FirstResponseP90, s.FirstResponseWithin),
			Resolution:    timesOf(s.Resolved, s.ResolutionP50, s.ResolutionP90, s.ResolutionWithin),
		}
	}
	return b
}

// timesOf are the figures of the times that so many cases took.
func timesOf(done int, p50, p90 domain.Millis, within satisfaction.Share) timeFiguresBody {
	b := timeFiguresBody{Within: shareOf(within)}
	if done > 0 {
		half, most := int64(p50), int64(p90)
		b.P50, b.P90 = &half, &most
	}
	return b
}

// orOpen is a bound, nil for an open end.
func orOpen(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// PeriodParams are the time that figures are about.
type PeriodParams struct {
	From string `query:"from" maxLength:"64" doc:"The beginning, itself included: RFC 3339, or a date, which begins at midnight in tz." example:"2026-03-01"`
	To   string `query:"to" maxLength:"64" doc:"The end, itself not included, likewise." example:"2026-04-01"`
	TZ   string `query:"tz" maxLength:"64" default:"UTC" doc:"The time zone in which dates and parts begin." example:"Europe/Berlin"`
}

// periods reads the time, in parts by day, week or month where by is not empty.
func (p PeriodParams) periods(by string) (out projections.Periods, err error) {
	bad := func(name, value, why string) error {
		return huma.Error422UnprocessableEntity(why, &huma.ErrorDetail{Location: "query." + name, Message: why, Value: domain.Excerpt(value)})
	}
	out.By = by
	if out.Zone, err = time.LoadLocation(p.TZ); err != nil || p.TZ == "" || p.TZ == "Local" {
		return out, bad("tz", p.TZ, "there is no such time zone: name one such as Europe/Berlin")
	}
	for _, b := range [...]struct {
		name, value string
		to          *time.Time
	}{{"from", p.From, &out.From}, {"to", p.To, &out.To}} {
		if b.value == "" {
			continue
		}
		if day, err := time.ParseInLocation(time.DateOnly, b.value, out.Zone); err == nil {
			*b.to = day.UTC()
		} else if t, err := time.Parse(time.RFC3339, b.value); err == nil {
			*b.to = t.UTC().Truncate(time.Millisecond)
		} else {
			return out, bad(b.name, b.value, "write a date such as 2026-03-01 or RFC 3339 such as 2026-03-01T12:00:00Z")
		}
	}
	if !out.From.IsZero() && !out.To.IsZero() && !out.From.Before(out.To) {
		return out, bad("to", p.To, "the end is not after the beginning")
	}
	return out, nil
}

// questionError maps the errors of a question about many customers.
func (a *API) questionError(doing string, err error) error {
	var bad *projections.QuestionError
	if errors.As(err, &bad) {
		return huma.Error422UnprocessableEntity(bad.Message)
	}
	return a.viewError(doing, projections.At{}, err, nil)
}

func (a *API) satisfactionOperations() {
	const tag = "Satisfaction"

	type satisfactionOutput struct {
		Body struct {
			ID uuid.UUID `json:"id" doc:"The customer's id."`
			satisfactionBody
			Service     serviceBody        `json:"service"`
			Transitions []statusChangeBody `json:"transitions" doc:"All changes of status, in order."`
			Cases       []caseBody         `json:"cases" doc:"Tickets, complaints, chats and calls, in the order of their first touchpoints."`
			Surveys     []surveyBody       `json:"surveys" doc:"The surveys sent, in order."`
			AsOf        time.Time          `json:"as_of" doc:"The time the answer is about."`
		}
	}
	huma.Register(a.huma, operation("get-satisfaction", http.MethodGet, "/customers/{id}/satisfaction", tag,
		"How satisfied a customer is", "Status, index and why; the last answers; every case with its times and every survey; and how to treat the customer.", 308, 404, 503),
		func(ctx context.Context, in *struct {
			CustomerRef
			Asked
			AfterParam
			RequestQuery
		},
		) (*satisfactionOutput, error) {
			if err := a.askable(ctx, in.ID, in.AfterParam); err != nil {
				return nil, err
			}
			s, err := a.cfg.Views.Satisfaction(ctx, in.ID, in.at())
			if err != nil {
				return nil, a.viewError("read the satisfaction", in.at(), err, func(id uuid.UUID) string {
					return "/api/v1/customers/" + id.String() + "/satisfaction" + in.suffix()
				})
			}
			out := &satisfactionOutput{}
			b := &out.Body
			b.ID, b.satisfactionBody, b.Service, b.AsOf = s.Customer, satisfactionOf(&s.View), serviceOf(&s.Service), s.AsOf.UTC()
			b.Transitions, b.Cases, b.Surveys = []statusChangeBody{}, []caseBody{}, []surveyBody{}
			for _, t := range s.Past {
				c := statusChangeBody{From: string(t.From), To: string(t.To), At: t.At.Time().UTC(), Reason: t.Reason, Cause: t.Cause.String()}
				if t.To != satisfaction.Unknown {
					c.Index = &t.Index
				}
				b.Transitions = append(b.Transitions, c)
			}
			for i := range s.Cases {
				b.Cases = append(b.Cases, caseOf(&s.Cases[i]))
			}
			for _, v := range s.Surveys {
				o := surveyBody{EventID: v.Sent.ID, SentAt: v.Sent.At.Time().UTC(), Kind: v.Kind.String(), Survey: v.Survey, Campaign: v.Campaign}
				if v.Answered {
					o.AnswerID, o.AnsweredAt = &v.Answer.ID, timeOf(v.Answer.At)
				}
				b.Surveys = append(b.Surveys, o)
			}
			return out, nil
		})

	type figuresOutput struct {
		Body struct {
			AsOf    time.Time      `json:"as_of" doc:"The clock of the views that the figures are from."`
			Total   opinionsBody   `json:"total" doc:"Of all the time asked about."`
			Periods []opinionsBody `json:"periods,omitempty" doc:"With by: the parts in which there is anything, in order. The last answer of a customer counts in each of them."`
		}
	}
	huma.Register(a.huma, operation("get-satisfaction-figures", http.MethodGet, "/satisfaction", tag,
		"Figures of satisfaction", "NPS, CSAT, CES, response and complaint rate, and how fast cases were answered and resolved, with 95% intervals. "+
			"Filters apply first; then the last answer of each customer and kind counts. Stage and tier are those at the moment of the answer.", 503),
		func(ctx context.Context, in *struct {
			PeriodParams
			AfterParam
			By        string `query:"by" enum:"day,week,month" doc:"Also by days, weeks (from Monday) or months, at most 1,000 of them."`
			Stage     string `query:"stage" enum:"visitor,lead,qualified,first_purchase,repeat,loyal,won_back,at_risk,churned,lost" doc:"Only of those who were in this stage at that moment."`
			Tier      string `query:"tier" maxLength:"200" doc:"Only of those who held this loyalty tier at that moment."`
			Programme string `query:"programme" maxLength:"200" doc:"The programme of the tier; without it the policy's first. Alone: only of those who held any tier of it."`
			Channel   string `query:"channel" maxLength:"200" doc:"Only what came by this channel."`
			Source    string `query:"source" maxLength:"200" doc:"Only what this source sent."`
			Every     bool   `query:"every" doc:"Every answer counts, not only a customer's last."`
		},
		) (*figuresOutput, error) {
			p, err := in.periods(in.By)
			if err != nil {
				return nil, err
			}
			if err := a.await(ctx, in.AfterParam); err != nil {
				return nil, err
			}
			total, parts, asOf, err := a.cfg.Views.SatisfactionFigures(ctx, projections.FiguresQuery{
				Periods: p, Stage: in.Stage, Tier: in.Tier, Programme: in.Programme, Channel: in.Channel, Source: in.Source, Every: in.Every,
			})
			if err != nil {
				return nil, a.questionError("count the satisfaction", err)
			}
			out := &figuresOutput{}
			out.Body.AsOf, out.Body.Total = asOf.UTC(), opinionsOf(&total)
			for i := range parts {
				out.Body.Periods = append(out.Body.Periods, opinionsOf(&parts[i]))
			}
			return out, nil
		})
}
