package api

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/google/uuid"

	"sojourn/condition"
	"sojourn/domain"
	"sojourn/projections"
)

// Segments keeps the segments and who is in them; *projections.Views does.
type Segments interface {
	Segments() []projections.Segment
	// Segment is projections.ErrNoSegment where there is none of the name.
	Segment(name string) (projections.Segment, error)
	// CheckSegment and ApplySegment say *projections.SegmentError for what is wrong.
	CheckSegment(d projections.SegmentDocument) (*condition.Condition, error)
	ApplySegment(ctx context.Context, p projections.SegmentProposal) (s projections.Segment, applied bool, err error)
	// DeleteSegment is projections.ErrNoSegment, or *projections.SegmentError where
	// another segment names it.
	DeleteSegment(ctx context.Context, p projections.SegmentProposal) error
	// The others say projections.ErrNoSegment, and projections.ErrSegmentNotBuilt until
	// the views hold the members.
	SegmentMembers(ctx context.Context, q projections.SegmentQuestion) ([]projections.SegmentMember, string, error)
	EachSegmentMember(ctx context.Context, name string, asOf time.Time, do func(projections.SegmentMember) error) error
	SegmentSizes(ctx context.Context, name string, days int) ([]projections.SegmentSize, error)
	// CountSegments counts the members of each segment that has any.
	CountSegments(ctx context.Context) (map[string]uint64, error)
}

// SegmentRef names a segment in a path.
type SegmentRef struct {
	Name string `path:"name" maxLength:"72" doc:"The segment's name." example:"big-spenders"`
}

// SegmentBody is a segment in force.
type SegmentBody struct {
	Name        string    `json:"name"`
	Description string    `json:"description,omitempty"`
	Condition   string    `json:"condition" doc:"In the language of conditions (docs/segments.md)."`
	Author      string    `json:"author,omitempty" doc:"Of the last change."`
	Reason      string    `json:"reason,omitempty"`
	AppliedAt   time.Time `json:"applied_at"`
	Trigger     string    `json:"trigger,omitempty" doc:"The trigger that it belongs to; it changes and goes with that."`
	Built       bool      `json:"built" doc:"Whether the views hold its members; while they are being computed this is false, and questions about them are answered 503."`
	Members     *uint64   `json:"members,omitempty" doc:"How many customers are in it; missing until built."`
}

func segmentOf(s projections.Segment, counts map[string]uint64) SegmentBody {
	trigger, _ := domain.SegmentTrigger(s.Name)
	b := SegmentBody{s.Name, s.Description, s.Condition, s.Author, s.Reason, s.AppliedAt.UTC(), trigger, s.Built, nil}
	if s.Built && counts != nil {
		n := counts[s.Name]
		b.Members = &n
	}
	return b
}

// SegmentDocument is what a segment is made of.
type SegmentDocument struct {
	Description string `json:"description,omitempty" maxLength:"2000"`
	Condition   string `json:"condition" maxLength:"8192" doc:"In the language of conditions (docs/segments.md)." example:"count(meaning(\"purchase\"), duration(\"30d\")) >= 2"`
}

// SegmentSaid is who changes a segment, and why.
type SegmentSaid struct {
	Author string `json:"author,omitempty" maxLength:"200" doc:"Who decides."`
	Reason string `json:"reason,omitempty" maxLength:"2000" doc:"Why, in your own words."`
}

// SegmentApplied is the answer to a change.
type SegmentApplied struct {
	SegmentBody
	Applied bool `json:"applied" doc:"False where this very segment was in force already."`
}

// SegmentChecked is what is wrong with a segment, or its SQL.
type SegmentChecked struct {
	Valid    bool            `json:"valid"`
	Problems []PolicyProblem `json:"problems" doc:"Line and column are those of the condition; 1 and 1 for what is wrong with the rest."`
	SQL      string          `json:"sql,omitempty" doc:"A query over the public tables that gives the same members."`
}

// SegmentMember is a customer in a segment.
type SegmentMember struct {
	CustomerID uuid.UUID `json:"customer_id"`
	Since      time.Time `json:"since"`
	Cause      string    `json:"cause" doc:"What it came in by: touchpoint:<event id> or deadline:<rule>:<event id it counts from>."`
}

// SegmentSize is the size of a segment on a day on which it changed.
type SegmentSize struct {
	Day     string `json:"day" format:"date" doc:"In UTC."`
	Members uint64 `json:"members" doc:"At the end of the day, and until the next day of the list."`
	Entered uint64 `json:"entered"`
	Left    uint64 `json:"left"`
}

// segmentError is the answer to what went wrong with a segment.
func (a *API) segmentError(doing string, err error) error {
	var wrong *projections.SegmentError
	switch {
	case errors.As(err, &wrong) && wrong.Line > 0:
		return huma.Error422UnprocessableEntity("the segment is not valid", &huma.ErrorDetail{
			Message: domain.Excerpt(wrong.Message), Location: fmt.Sprintf("body.condition:%d:%d", wrong.Line, wrong.Column),
		})
	case errors.As(err, &wrong):
		return huma.Error422UnprocessableEntity(domain.Excerpt(wrong.Error()))
	case errors.Is(err, projections.ErrNoSegment):
		return huma.Error404NotFound(err.Error())
	case errors.Is(err, projections.ErrSegmentNotBuilt):
		return unavailable(err.Error())
	case errors.Is(err, projections.ErrBadCursor):
		return badCursor()
	}
	return a.internal(doing, err)
}

func (a *API) segmentOperations() {
	const tag = "Segments"
	type segmentsOutput struct {
		Body struct {
			Segments []SegmentBody `json:"segments"`
		}
	}
	huma.Register(a.huma, operation("list-segments", http.MethodGet, "/segments", tag,
		"List segments", "All segments in force, by name, with the number of their members.", 503),
		func(ctx context.Context, in *struct{ AfterParam }) (*segmentsOutput, error) {
			if err := a.reach(ctx, in.AfterParam); err != nil {
				return nil, err
			}
			all := a.cfg.Segments.Segments()
			out := &segmentsOutput{}
			out.Body.Segments = make([]SegmentBody, 0, len(all))
			if len(all) == 0 {
				return out, nil
			}
			counts, err := a.cfg.Segments.CountSegments(ctx)
			if err != nil {
				return nil, a.internal("count the members of segments", err)
			}
			for _, s := range all {
				out.Body.Segments = append(out.Body.Segments, segmentOf(s, counts))
			}
			return out, nil
		})

	type segmentOutput struct{ Body SegmentBody }
	huma.Register(a.huma, operation("get-segment", http.MethodGet, "/segments/{name}", tag,
		"A segment", "What a segment is, and how many customers are in it.", 404, 503),
		func(ctx context.Context, in *struct {
			SegmentRef
			AfterParam
		},
		) (*segmentOutput, error) {
			if err := a.reach(ctx, in.AfterParam); err != nil {
				return nil, err
			}
			s, err := a.cfg.Segments.Segment(in.Name)
			if err != nil {
				return nil, a.segmentError("read the segment", err)
			}
			counts, err := a.cfg.Segments.CountSegments(ctx)
			if err != nil {
				return nil, a.internal("count the members of segments", err)
			}
			return &segmentOutput{segmentOf(s, counts)}, nil
		})

	type segmentAppliedOutput struct{ Body SegmentApplied }
	huma.Register(a.huma, operation("apply-segment", http.MethodPut, "/segments/{name}", tag,
		"Make or change a segment", "It is durable when this answers. Its members are then computed over the whole log, beside the views that answer; built of GET /segments/{name} tells when that is done. "+
			"Who is in it by the change itself enters without being news."),
		func(ctx context.Context, in *struct {
			SegmentRef
			Body struct {
				SegmentDocument
				SegmentSaid
			}
		},
		) (*segmentAppliedOutput, error) {
			s, applied, err := a.cfg.Segments.ApplySegment(ctx, projections.SegmentProposal{
				SegmentDocument: projections.SegmentDocument{Name: in.Name, Description: in.Body.Description, Condition: in.Body.Condition},
				Author:          in.Body.Author, Reason: in.Body.Reason,
			})
			if err != nil {
				return nil, a.segmentError("change the segment", err)
			}
			return &segmentAppliedOutput{SegmentApplied{segmentOf(s, nil), applied}}, nil
		})

	huma.Register(a.huma, operation("delete-segment", http.MethodDelete, "/segments/{name}", tag,
		"Delete a segment", "The statements about it are withdrawn once the views are built without it. 422 where another segment, or a trigger that is not paused, names it.", 404),
		func(ctx context.Context, in *struct {
			SegmentRef
			Author string `query:"author" maxLength:"200" doc:"Who decides."`
			Reason string `query:"reason" maxLength:"2000" doc:"Why, in your own words."`
		},
		) (*struct{}, error) {
			if au := a.cfg.Automation; au != nil {
				id, err := au.Triggers.OfSegment(ctx, in.Name)
				if err != nil {
					return nil, a.internal("read the triggers", err)
				}
				if id != "" {
					return nil, huma.Error422UnprocessableEntity("the trigger " + id + " names it; change or pause that first")
				}
			}
			err := a.cfg.Segments.DeleteSegment(ctx, projections.SegmentProposal{
				SegmentDocument: projections.SegmentDocument{Name: in.Name}, Author: in.Author, Reason: in.Reason,
			})
			if err != nil {
				return nil, a.segmentError("delete the segment", err)
			}
			return nil, nil
		})

	type segmentCheckedOutput struct{ Body SegmentChecked }
	huma.Register(a.huma, operation("validate-segment", http.MethodPost, "/segments/validate", tag,
		"Check a segment", "Says what is wrong with a segment, if anything, and else the SQL that gives its members. Nothing is changed."),
		func(_ context.Context, in *struct {
			Body struct {
				Name string `json:"name" maxLength:"64"`
				SegmentDocument
			}
		},
		) (*segmentCheckedOutput, error) {
			c, err := a.cfg.Segments.CheckSegment(projections.SegmentDocument{Name: in.Body.Name, Description: in.Body.Description, Condition: in.Body.Condition})
			out := &segmentCheckedOutput{SegmentChecked{Problems: []PolicyProblem{}}}
			var wrong *projections.SegmentError
			switch {
			case errors.As(err, &wrong):
				out.Body.Problems = append(out.Body.Problems, PolicyProblem{max(wrong.Line, 1), max(wrong.Column, 1), wrong.Message})
				return out, nil
			case err != nil:
				return nil, a.internal("check the segment", err)
			}
			out.Body.Valid = true
			if out.Body.SQL, err = c.SQL(a.cfg.Views.Status().Clock); err != nil {
				return nil, a.internal("write the segment as SQL", err)
			}
			return out, nil
		})

	type segmentMembersOutput struct {
		Body struct {
			Members    []SegmentMember `json:"members"`
			NextCursor string          `json:"next_cursor,omitempty" doc:"Missing on the last page, and of a sample."`
		}
	}
	huma.Register(a.huma, operation("list-segment-members", http.MethodGet, "/segments/{name}/members", tag,
		"A segment's members", "The customers in a segment, now or at another time, by their ids; or a sample of them.", 404, 503),
		func(ctx context.Context, in *struct {
			SegmentRef
			AsOf   instant `query:"as_of" doc:"Who was in it at this time, with all that is known today: RFC 3339, or a date, which means its last millisecond (UTC)."`
			Sample bool    `query:"sample" doc:"As many as limit says, from all over the segment, the same each time."`
			Page
			AfterParam
		},
		) (*segmentMembersOutput, error) {
			if err := a.await(ctx, in.AfterParam); err != nil {
				return nil, err
			}
			all, next, err := a.cfg.Segments.SegmentMembers(ctx, projections.SegmentQuestion{
				Name: in.Name, AsOf: in.AsOf.Time, Limit: in.Limit, Cursor: in.Cursor, Sample: in.Sample,
			})
			if err != nil {
				return nil, a.segmentError("list the members", err)
			}
			out := &segmentMembersOutput{}
			out.Body.Members = make([]SegmentMember, 0, len(all))
			for _, m := range all {
				out.Body.Members = append(out.Body.Members, SegmentMember{m.Customer, m.Since.UTC(), m.Cause})
			}
			out.Body.NextCursor = next
			return out, nil
		})

	a.exportSegment(tag)

	type segmentSizesOutput struct {
		Body struct {
			Sizes []SegmentSize `json:"sizes" doc:"The days on which the segment changed, the earliest first."`
		}
	}
	huma.Register(a.huma, operation("get-segment-sizes", http.MethodGet, "/segments/{name}/sizes", tag,
		"A segment's size over time", "How many customers were in the segment at the end of each day on which that changed.", 404, 503),
		func(ctx context.Context, in *struct {
			SegmentRef
			Days int `query:"days" minimum:"1" maximum:"10000" default:"365" doc:"How many such days at most, the last ones."`
			AfterParam
		},
		) (*segmentSizesOutput, error) {
			if err := a.await(ctx, in.AfterParam); err != nil {
				return nil, err
			}
			all, err := a.cfg.Segments.SegmentSizes(ctx, in.Name, in.Days)
			if err != nil {
				return nil, a.segmentError("read the sizes", err)
			}
			out := &segmentSizesOutput{}
			out.Body.Sizes = make([]SegmentSize, 0, len(all))
			for _, s := range all {
				out.Body.Sizes = append(out.Body.Sizes, SegmentSize{s.Day.Format(time.DateOnly), s.Members, s.Entered, s.Left})
			}
			return out, nil
		})
}

// exportSegment is the list of all members as CSV.
func (a *API) exportSegment(tag string) {
	const csvType = "text/csv"
	op := operation("export-segment", http.MethodGet, "/segments/{name}/members.csv", tag, "Export a segment",
		"All members of a segment, now or at another time, as CSV: customer_id, since, cause. Where an export breaks off, so does the connection.", 404, 503)
	op.Metadata = map[string]any{unbounded: true}
	op.Responses = map[string]*huma.Response{"200": {
		Description: "CSV with a line of names",
		Content:     map[string]*huma.MediaType{csvType: {Schema: &huma.Schema{Type: huma.TypeString}}},
	}}
	huma.Register(a.huma, op, func(ctx context.Context, in *struct {
		SegmentRef
		AsOf instant `query:"as_of" doc:"As of the list of members."`
		AfterParam
	},
	) (*huma.StreamResponse, error) {
		if err := a.await(ctx, in.AfterParam); err != nil {
			return nil, err
		}
		// What cannot be asked is said before the first line.
		if _, _, err := a.cfg.Segments.SegmentMembers(ctx, projections.SegmentQuestion{Name: in.Name, AsOf: in.AsOf.Time, Limit: 1}); err != nil {
			return nil, a.segmentError("export the segment", err)
		}
		return &huma.StreamResponse{Body: func(hctx huma.Context) {
			_, w := humago.Unwrap(hctx)
			rc := http.NewResponseController(w)
			defer context.AfterFunc(a.streams, func() { _ = rc.SetWriteDeadline(time.Now()) })()
			hctx.SetHeader("Content-Type", csvType)
			hctx.SetStatus(http.StatusOK)
			out := csv.NewWriter(&patient{w: w, rc: rc, stopping: a.streams})
			err := out.Write([]string{"customer_id", "since", "cause"})
			if err == nil {
				err = a.cfg.Segments.EachSegmentMember(hctx.Context(), in.Name, in.AsOf.Time, func(m projections.SegmentMember) error {
					return out.Write([]string{m.Customer.String(), m.Since.UTC().Format(time.RFC3339Nano), m.Cause})
				})
			}
			if err != nil {
				a.cfg.Log.Error("api: an export of a segment broke off", "segment", in.Name, "error", err)
				// The client is to notice: the connection ends before the answer does.
				_ = rc.SetWriteDeadline(time.Now())
				return
			}
			out.Flush()
		}}, nil
	})
}
