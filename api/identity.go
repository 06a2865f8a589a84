package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"sojourn/domain"
	"sojourn/projections"
)

type identitySubjectBody struct {
	Subject       string    `json:"subject"`
	ID            uuid.UUID `json:"id" doc:"The id that the subject bears for itself; that of the customer is the first subject's."`
	FirstPosition uint64    `json:"first_position,omitempty" doc:"Where its first touchpoint stands in the log; missing where it is only named in messages of others."`
}

type joinBody struct {
	EventID uuid.UUID `json:"event_id" doc:"The message that names the two subjects."`
	At      time.Time `json:"at" doc:"Its occurred_at."`
	Subject string    `json:"subject" doc:"The message's own subject."`
	Other   string    `json:"other" doc:"The one it names."`
	Alias   bool      `json:"alias,omitempty" doc:"Whether the other is the previousId of an alias."`
	Outcome string    `json:"outcome" enum:"joined,conflict,kept_apart,not_tried" doc:"What became of it."`
}

type decisionBody struct {
	EventID    uuid.UUID `json:"event_id"`
	Position   uint64    `json:"position" doc:"Its place in the log; pass it as after to see its effect."`
	RecordedAt time.Time `json:"recorded_at"`
	Kind       string    `json:"kind" enum:"merge,split"`
	Subjects   []string  `json:"subjects" doc:"Those named to be merged, or those that leave."`
	Others     []string  `json:"others" doc:"The members that the merged customers had, or the subjects that stay."`
	Reason     string    `json:"reason"`
	Author     string    `json:"author"`
}

func decisionOf(d projections.Decision) decisionBody {
	b := decisionBody{
		EventID: d.Event, Position: uint64(d.Position), RecordedAt: d.RecordedAt.UTC(), Kind: d.Kind,
		Subjects: d.Subjects, Others: d.Others, Reason: d.Reason, Author: d.Author,
	}
	if b.Others == nil {
		b.Others = []string{}
	}
	return b
}

type conflictBody struct {
	EventID       uuid.UUID  `json:"event_id" doc:"The message that names the two subjects."`
	At            time.Time  `json:"at" doc:"Its occurred_at."`
	Subject       string     `json:"subject" doc:"The message's own subject."`
	Customer      *uuid.UUID `json:"customer_id,omitempty" doc:"The customer it belongs to."`
	Other         string     `json:"other" doc:"The subject it names."`
	OtherCustomer *uuid.UUID `json:"other_customer_id,omitempty" doc:"The customer that one belongs to."`
	Status        string     `json:"status" enum:"open,kept_apart" doc:"kept_apart: a person has decided so."`
}

func (a *API) identityOperations() {
	const tag = "Identity"
	type identityOutput struct {
		Body struct {
			ID        uuid.UUID             `json:"id" doc:"The customer's id."`
			Subjects  []identitySubjectBody `json:"subjects" doc:"The customer's subjects; the one that gives the id comes first."`
			Joins     []joinBody            `json:"joins" doc:"The messages that name a subject of the customer together with another, in the order in which they are tried."`
			Decisions []decisionBody        `json:"decisions" doc:"The merges and splits about a subject of the customer, in the order of the log."`
		}
	}
	huma.Register(a.huma, operation("get-identity", http.MethodGet, "/customers/{id}/identity", tag,
		"Why a customer is one", "The subjects of a customer and the event behind each pair of them, conflicts among them.", 308, 404, 503),
		func(ctx context.Context, in *struct {
			CustomerRef
			Asked
			AfterParam
			RequestQuery
		},
		) (*identityOutput, error) {
			if err := a.askable(ctx, in.ID, in.AfterParam); err != nil {
				return nil, err
			}
			is, err := a.cfg.Views.Identity(ctx, in.ID, in.at())
			if err != nil {
				return nil, a.viewError("read the identity", in.at(), err, func(id uuid.UUID) string {
					return "/api/v1/customers/" + id.String() + "/identity" + in.suffix()
				})
			}
			out := &identityOutput{}
			b := &out.Body
			b.ID, b.Subjects, b.Joins, b.Decisions = is.Customer, []identitySubjectBody{}, []joinBody{}, []decisionBody{}
			for _, s := range is.Subjects {
				b.Subjects = append(b.Subjects, identitySubjectBody{s.Subject, s.ID, uint64(s.FirstPosition)})
			}
			for _, j := range is.Joins {
				b.Joins = append(b.Joins, joinBody{j.Event, j.At.UTC(), j.Subject, j.Other, j.Alias, j.Outcome})
			}
			for _, d := range is.Decisions {
				b.Decisions = append(b.Decisions, decisionOf(d))
			}
			return out, nil
		})

	type conflictsOutput struct {
		Body struct {
			Conflicts  []conflictBody `json:"conflicts"`
			NextCursor string         `json:"next_cursor,omitempty" doc:"Missing on the last page."`
		}
	}
	huma.Register(a.huma, operation("list-conflicts", http.MethodGet, "/identity/conflicts", tag,
		"List conflicts", "Messages that name two subjects which are not one customer: joining them would break a limit of the policy, or bring together what people keep apart. "+
			"A merge or a split settles one.", 503),
		func(ctx context.Context, in *struct {
			AfterParam
			Status string `query:"status" enum:"open,kept_apart" doc:"Only those that nobody has decided about yet, or only those that people keep apart."`
			Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"50" doc:"How many at most."`
			Cursor string `query:"cursor" maxLength:"4096" doc:"next_cursor of the page before."`
		},
		) (*conflictsOutput, error) {
			if err := a.await(ctx, in.AfterParam); err != nil {
				return nil, err
			}
			all, next, err := a.cfg.Views.Conflicts(ctx, in.Status, in.Limit, in.Cursor)
			if err != nil {
				return nil, a.viewError("list the conflicts", projections.At{}, err, nil)
			}
			out := &conflictsOutput{}
			out.Body.Conflicts, out.Body.NextCursor = []conflictBody{}, next
			known := func(id uuid.UUID) *uuid.UUID {
				if id == uuid.Nil {
					return nil
				}
				return &id
			}
			for _, c := range all {
				out.Body.Conflicts = append(out.Body.Conflicts, conflictBody{
					c.Event, c.At.UTC(), c.Subject, known(c.Customer), c.Other, known(c.OtherCustomer), c.Status,
				})
			}
			return out, nil
		})

	type decisionOutput struct {
		Position string `header:"Sojourn-Position" doc:"The position of the decision."`
		Body     decisionBody
	}
	answer := func(d projections.Decision, err error) (*decisionOutput, error) {
		var bad *projections.DecisionError
		switch {
		case errors.As(err, &bad):
			return nil, huma.Error422UnprocessableEntity(bad.Message)
		case errors.Is(err, projections.ErrNotFound):
			return nil, huma.Error404NotFound("nothing is known of " + domain.Excerpt(strings.TrimSuffix(err.Error(), ": "+projections.ErrNotFound.Error())))
		case err != nil:
			return nil, a.viewError("record the decision", projections.At{}, err, nil)
		}
		return &decisionOutput{strconv.FormatUint(uint64(d.Position), 10), decisionOf(d)}, nil
	}
	merge := operation("merge-customers", http.MethodPost, "/identity/merge", tag,
		"Merge customers", "From now on the named subjects, or the customers of the given ids, are one customer, with everything that joins them by itself. It stands above every automatic join; a later split undoes it.", 404, 503)
	merge.DefaultStatus = http.StatusCreated
	huma.Register(a.huma, merge, func(ctx context.Context, in *struct {
		AfterParam
		Body struct {
			Subjects []string `json:"subjects" minItems:"2" maxItems:"100" doc:"At least two subjects (user:42) or customer ids."`
			Reason   string   `json:"reason" minLength:"1" maxLength:"2000" doc:"Why, in your own words."`
			Author   string   `json:"author" minLength:"1" maxLength:"200" doc:"Who decides."`
		}
	},
	) (*decisionOutput, error) {
		if err := a.decidable(ctx, in.AfterParam, in.Body.Subjects, ""); err != nil {
			return nil, err
		}
		return answer(a.cfg.Views.Merge(ctx, projections.MergeRequest{Subjects: in.Body.Subjects, Reason: in.Body.Reason, Author: in.Body.Author}))
	})
	split := operation("split-customer", http.MethodPost, "/identity/split", tag,
		"Split a customer", "From now on the named subjects are a customer of their own, apart from those they leave behind. "+
			"With from, they and everybody they are one customer with are kept apart from that customer, which settles a conflict.", 404, 503)
	split.DefaultStatus = http.StatusCreated
	huma.Register(a.huma, split, func(ctx context.Context, in *struct {
		AfterParam
		Body struct {
			Subjects []string `json:"subjects" minItems:"1" maxItems:"100" doc:"The subjects that leave; with from, ids of customers too."`
			From     string   `json:"from,omitempty" minLength:"1" doc:"The customer to be kept apart from: its id or one of its subjects. Without it: the one they are in."`
			Reason   string   `json:"reason" minLength:"1" maxLength:"2000" doc:"Why, in your own words."`
			Author   string   `json:"author" minLength:"1" maxLength:"200" doc:"Who decides."`
		}
	},
	) (*decisionOutput, error) {
		if err := a.decidable(ctx, in.AfterParam, in.Body.Subjects, in.Body.From); err != nil {
			return nil, err
		}
		return answer(a.cfg.Views.Split(ctx, projections.SplitRequest{
			Subjects: in.Body.Subjects, From: in.Body.From, Reason: in.Body.Reason, Author: in.Body.Author,
		}))
	})
}

// decidable checks the subjects of a decision, and the customer it is about where
// it names one, before anything waits for it.
func (a *API) decidable(ctx context.Context, after AfterParam, subjects []string, from string) error {
	for i, ref := range subjects {
		if err := checkRef(fmt.Sprintf("body.subjects[%d]", i), ref); err != nil {
			return err
		}
	}
	if from != "" {
		if err := checkRef("body.from", from); err != nil {
			return err
		}
	}
	return a.await(ctx, after)
}
