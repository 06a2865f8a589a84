package api

import (
	"context"
	"errors"
	"net/http"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"sojourn/ingest"
	"sojourn/projections"
)

// Unmapped is the meaning of an event name that the policy does not map.
const Unmapped = "unmapped"

type eventNameBody struct {
	Source  string    `json:"source"`
	Type    string    `json:"type" doc:"track, identify, page, screen, group or alias."`
	Name    string    `json:"name" doc:"As it was sent; empty for types without a name."`
	Count   uint64    `json:"count"`
	LastAt  time.Time `json:"last_at" doc:"The latest time at which it happened."`
	Meaning string    `json:"meaning" doc:"What the policy takes it for; unmapped where it has no entry."`
	Channel string    `json:"channel"`
}

type rejectBody struct {
	ID         uuid.UUID `json:"id"`
	Kind       string    `json:"kind" enum:"reject,refusal" doc:"A reject was kept in place of a touchpoint and can be replayed; a refusal is the beginning of a body that was answered with an error."`
	Reason     string    `json:"reason" doc:"A word for programs."`
	Detail     string    `json:"detail,omitempty" doc:"The reason in words."`
	Source     string    `json:"source"`
	MessageID  string    `json:"message_id,omitempty"`
	ReceivedAt time.Time `json:"received_at"`
	RecordedAt time.Time `json:"recorded_at"`
	Position   uint64    `json:"position"`
	Status     int       `json:"status,omitempty" doc:"Of a refusal: the HTTP status of the answer."`
	Raw        string    `json:"raw,omitempty" doc:"The message as it was sent, where it is UTF-8."`
	RawBase64  []byte    `json:"raw_base64,omitempty" doc:"The message as it was sent, where it is not UTF-8."`
	Replayed   bool      `json:"replayed" doc:"It has become a touchpoint since."`
}

const (
	kindTouchpoint = "touchpoint"
	kindReject     = "reject"
	kindRefusal    = "refusal"
)

func rejectKind(r ingest.Reject) string {
	if r.Refused {
		return kindRefusal
	}
	return kindReject
}

func rejectOf(r ingest.Reject) rejectBody {
	b := rejectBody{
		ID: r.ID, Kind: rejectKind(r), Reason: string(r.Code), Detail: r.Reason, Source: r.Source, MessageID: r.MessageID,
		ReceivedAt: r.ReceivedAt.UTC(), RecordedAt: r.RecordedAt.UTC(), Position: uint64(r.Position),
		Status: r.Status, Replayed: r.Replayed,
	}
	if utf8.Valid(r.Raw) {
		b.Raw = string(r.Raw)
	} else {
		b.RawBase64 = r.Raw
	}
	return b
}

func (a *API) eventOperations() {
	const tag = "What arrives"

	type eventNamesOutput struct {
		Body struct {
			EventNames []eventNameBody `json:"event_names"`
		}
	}
	huma.Register(a.huma, operation("list-event-names", http.MethodGet, "/event-names", tag,
		"Every event name seen", "Each name by source, with how often and when it was last seen, and what the policy takes it for.", 503),
		func(ctx context.Context, in *struct{ AfterParam }) (*eventNamesOutput, error) {
			if err := a.await(ctx, in.AfterParam); err != nil {
				return nil, err
			}
			names, err := a.cfg.Views.EventNames(ctx)
			if err != nil {
				return nil, a.viewError("list the event names", projections.At{}, err, nil)
			}
			out := &eventNamesOutput{}
			out.Body.EventNames = make([]eventNameBody, 0, len(names))
			for _, n := range names {
				if n.Meaning == "" {
					n.Meaning = Unmapped
				}
				out.Body.EventNames = append(out.Body.EventNames, eventNameBody{
					n.Source, n.Type, n.Name, n.Count, n.LastAt.UTC(), n.Meaning, n.Channel,
				})
			}
			return out, nil
		})

	type rejectsOutput struct {
		Body struct {
			Rejects    []rejectBody `json:"rejects"`
			NextCursor string       `json:"next_cursor,omitempty" doc:"Missing on the last page."`
		}
	}
	huma.Register(a.huma, operation("list-rejects", http.MethodGet, "/rejects", tag,
		"What could not be used", "Rejects and refusals with their reason and what was sent, newest first.", 503),
		func(ctx context.Context, in *struct {
			AfterParam
			Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"50" doc:"How many at most."`
			Cursor string `query:"cursor" maxLength:"4096" doc:"next_cursor of the page before."`
		},
		) (*rejectsOutput, error) {
			if err := a.reach(ctx, in.AfterParam); err != nil {
				return nil, err
			}
			page, err := a.cfg.Rejects.Rejects(ctx, in.Cursor, in.Limit)
			if errors.Is(err, ingest.ErrCursor) {
				return nil, badCursor()
			}
			if err != nil {
				return nil, a.internal("list the rejects", err)
			}
			out := &rejectsOutput{}
			out.Body.Rejects = make([]rejectBody, 0, len(page.Rejects))
			for _, r := range page.Rejects {
				out.Body.Rejects = append(out.Body.Rejects, rejectOf(r))
			}
			out.Body.NextCursor = page.Next
			return out, nil
		})

	type replayOutput struct {
		Body struct {
			Replayed int    `json:"replayed" doc:"Became touchpoints, or stand in the log with the same content."`
			Failed   int    `json:"failed" doc:"Cannot be used still."`
			Already  int    `json:"already" doc:"Had been replayed before."`
			Position uint64 `json:"position" doc:"The end of the log afterwards; give it as after to a read."`
		}
	}
	replay := operation("replay-rejects", http.MethodPost, "/rejects/replay", tag,
		"Try rejects again", "Sends rejects through ingest again, with the time at which they were first received and under the policy in force. "+
			"Done twice it adds nothing. Without a body all rejects are tried.", 429, 503)
	replay.Metadata = map[string]any{unbounded: true}
	huma.Register(a.huma, replay, func(ctx context.Context, in *struct {
		Body *struct {
			IDs    []uuid.UUID `json:"ids,omitempty" maxItems:"1000" doc:"Only these."`
			Source string      `json:"source,omitempty" maxLength:"128" doc:"Only of this source."`
			Reason string      `json:"reason,omitempty" maxLength:"64" doc:"Only for this reason."`
		}
	},
	) (*replayOutput, error) {
		var f ingest.ReplayFilter
		if in.Body != nil {
			f = ingest.ReplayFilter{IDs: in.Body.IDs, Source: in.Body.Source, Code: ingest.Code(in.Body.Reason)}
		}
		r, err := a.cfg.Rejects.Replay(ctx, f, nil)
		if err != nil {
			return nil, a.internal("replay the rejects", err)
		}
		head, err := a.cfg.Arrivals.Head(ctx)
		if err != nil {
			return nil, a.internal("find the end of the log", err)
		}
		out := &replayOutput{}
		out.Body.Replayed, out.Body.Failed, out.Body.Already, out.Body.Position = r.Replayed, r.Failed, r.Already, uint64(head)
		return out, nil
	})
}

func badCursor() error {
	return huma.Error422UnprocessableEntity("the cursor is not one that this list gave",
		&huma.ErrorDetail{Location: "query.cursor", Message: "unknown cursor"})
}
