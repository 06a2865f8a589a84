package api

import (
	"context"
	"errors"
	"net/http"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"
)

// ErrBadCursor is returned by Rejects for a cursor that it did not give.
var ErrBadCursor = errors.New("bad cursor")

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
	ID         uuid.UUID  `json:"id"`
	Kind       string     `json:"kind" enum:"reject,refusal" doc:"A reject was kept in place of a touchpoint and can be replayed; a refusal is a body that was answered 400 or 401."`
	Reason     string     `json:"reason" doc:"A word for programs."`
	Detail     string     `json:"detail,omitempty" doc:"The reason in words."`
	Source     string     `json:"source"`
	MessageID  string     `json:"message_id,omitempty"`
	ReceivedAt time.Time  `json:"received_at"`
	RecordedAt time.Time  `json:"recorded_at"`
	Position   uint64     `json:"position"`
	Raw        string     `json:"raw,omitempty" doc:"The message as it was sent, where it is UTF-8."`
	RawBase64  []byte     `json:"raw_base64,omitempty" doc:"The message as it was sent, where it is not UTF-8."`
	ReplayedAt *time.Time `json:"replayed_at,omitempty"`
}

func rejectOf(r Reject) rejectBody {
	b := rejectBody{
		ID: r.ID, Kind: r.Kind, Reason: r.Reason, Detail: r.Detail, Source: r.Source, MessageID: r.MessageID,
		ReceivedAt: r.ReceivedAt.UTC(), RecordedAt: r.RecordedAt.UTC(), Position: uint64(r.Position),
	}
	if utf8.Valid(r.Raw) {
		b.Raw = string(r.Raw)
	} else {
		b.RawBase64 = r.Raw
	}
	if !r.ReplayedAt.IsZero() {
		t := r.ReplayedAt.UTC()
		b.ReplayedAt = &t
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
				return nil, a.viewError("list the event names", err, nil)
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
			Source  string `query:"source" maxLength:"128" doc:"Only of this source."`
			Reason  string `query:"reason" maxLength:"64" doc:"Only for this reason."`
			Pending bool   `query:"pending" doc:"Without those that a replay has accepted."`
			Limit   int    `query:"limit" minimum:"1" maximum:"1000" default:"50" doc:"How many at most."`
			Cursor  string `query:"cursor" maxLength:"4096" doc:"next_cursor of the page before."`
		},
		) (*rejectsOutput, error) {
			if in.After > 0 {
				if err := a.await(ctx, in.AfterParam); err != nil {
					return nil, err
				}
			}
			rs, next, err := a.cfg.Rejects.Rejects(ctx, RejectFilter{Source: in.Source, Reason: in.Reason, Pending: in.Pending}, in.Limit, in.Cursor)
			if errors.Is(err, ErrBadCursor) {
				return nil, badCursor()
			}
			if err != nil {
				return nil, a.internal("list the rejects", err)
			}
			out := &rejectsOutput{}
			out.Body.Rejects = make([]rejectBody, 0, len(rs))
			for _, r := range rs {
				out.Body.Rejects = append(out.Body.Rejects, rejectOf(r))
			}
			out.Body.NextCursor = next
			return out, nil
		})

	type replayOutput struct {
		Body struct {
			Accepted  int    `json:"accepted" doc:"Became touchpoints."`
			Duplicate int    `json:"duplicate" doc:"Stood in the log already."`
			Rejected  int    `json:"rejected" doc:"Cannot be used still."`
			Position  uint64 `json:"position" doc:"The log's position afterwards; give it as after to a read."`
		}
	}
	replay := operation("replay-rejects", http.MethodPost, "/rejects/replay", tag,
		"Try rejects again", "Sends rejects through ingest again, with the time at which they were first received and under the policy in force. "+
			"Done twice it adds nothing. Without a body all rejects are tried.", 429, 503)
	replay.Metadata = map[string]any{"stream": true} // may take as long as there are rejects
	huma.Register(a.huma, replay, func(ctx context.Context, in *struct {
		Body *struct {
			IDs    []uuid.UUID `json:"ids,omitempty" maxItems:"1000" doc:"Only these."`
			Source string      `json:"source,omitempty" maxLength:"128" doc:"Only of this source."`
			Reason string      `json:"reason,omitempty" maxLength:"64" doc:"Only for this reason."`
		}
	},
	) (*replayOutput, error) {
		f, ids := RejectFilter{Pending: true}, []uuid.UUID(nil)
		if in.Body != nil {
			f.Source, f.Reason, ids = in.Body.Source, in.Body.Reason, in.Body.IDs
		}
		r, err := a.cfg.Rejects.Replay(ctx, f, ids)
		if err != nil {
			return nil, a.internal("replay the rejects", err)
		}
		out := &replayOutput{}
		out.Body.Accepted, out.Body.Duplicate, out.Body.Rejected, out.Body.Position = r.Accepted, r.Duplicate, r.Rejected, uint64(r.Position)
		return out, nil
	})
}

func badCursor() error {
	return huma.Error422UnprocessableEntity("the cursor is not one that this list gave",
		&huma.ErrorDetail{Location: "query.cursor", Message: "unknown cursor"})
}
