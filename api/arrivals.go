package api

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"

	"sojourn/domain"
	"sojourn/domain/policy"
	"sojourn/eventstore"
	"sojourn/ingest"
)

// Follow makes Arrivals of the log. rules are the policy by which meaning and
// channel are told; it is asked for each event.
func Follow(log eventstore.Store, rules func() *policy.Compiled) Arrivals {
	return follower{log, rules}
}

type follower struct {
	log   eventstore.Store
	rules func() *policy.Compiled
}

func (f follower) Head(ctx context.Context) (eventstore.Position, error) { return f.log.Head(ctx) }

func (f follower) Arrivals(ctx context.Context, after eventstore.Position) iter.Seq2[Arrival, error] {
	return func(yield func(Arrival, error) bool) {
		for e, err := range eventstore.Follow(ctx, f.log, after) {
			if err != nil {
				yield(Arrival{}, err)
				return
			}
			v, ok, err := f.arrival(e)
			if err != nil {
				yield(Arrival{}, fmt.Errorf("event %s at position %d: %w", e.ID, e.Position, err))
				return
			}
			if ok && !yield(v, nil) {
				return
			}
		}
	}
}

func (f follower) arrival(e eventstore.Recorded) (v Arrival, ok bool, err error) {
	v = Arrival{Position: e.Position, RecordedAt: e.RecordedAt, EventID: e.ID}
	if !domain.Ours(e.Stream, e.Type) {
		return v, false, nil
	}
	switch e.Type {
	case domain.TypeTouchpoint, domain.TypeJoin:
		if e.Repeat {
			return v, false, nil
		}
		h, err := domain.ParseHeader(string(e.Metadata))
		if err != nil {
			return v, false, err
		}
		v.Kind, v.OccurredAt, v.Source = kindTouchpoint, h.OccurredAt.Time(), h.Source
		v.Type, v.Name, v.Subject, v.Message = h.Kind.String(), h.Name, h.Subject().String(), e.Data
		rules := f.rules()
		rule := rules.Classify(h.Kind, h.Source, h.Name)
		v.Meaning, v.Channel = string(rule.Meaning), rule.Channel
		if rule.ByRule {
			v.Channel = rules.Channel(h.Kind, h.Source, library(e.Data, h.BatchContext))
		}
		return v, true, nil
	case domain.TypeReject, domain.TypeRefusal:
		r, err := ingest.ParseReject(e)
		if err != nil {
			return v, false, err
		}
		v.Kind, v.Source, v.Type, v.Reason, v.Message = rejectKind(r), r.Source, r.Type, string(r.Code), r.Raw
		return v, true, nil
	}
	return v, false, nil
}

// library is the name of the tracking library that sent a message.
func library(message []byte, batchContext string) string {
	type sender struct {
		Library struct {
			Name string `json:"name"`
		} `json:"library"`
	}
	var m struct {
		Context sender `json:"context"`
	}
	// What cannot be read names no library.
	if _ = json.Unmarshal(message, &m); m.Context.Library.Name == "" && batchContext != "" {
		_ = json.Unmarshal([]byte(batchContext), &m.Context)
	}
	return m.Context.Library.Name
}
