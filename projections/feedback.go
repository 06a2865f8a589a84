package projections

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"sojourn/domain"
	"sojourn/domain/policy"
	"sojourn/domain/satisfaction"
	"sojourn/eventstore"
	"sojourn/warehouse"
)

// feedbackRow is a touchpoint of satisfaction as the table has it: it follows from
// the message and the policy alone. It shares nothing with the event.
func (r *Rules) feedbackRow(e *eventstore.Recorded, h *domain.Header, subject uuid.UUID, rule policy.Rule, s *satisfaction.Event) *warehouse.Feedback {
	row := &warehouse.Feedback{
		EventID: e.ID, SubjectID: subject, Subject: h.Subject().String(), OccurredAt: int64(h.OccurredAt), Position: uint64(e.Position),
		Act: string(s.Act), Kind: s.Kind.String(), Channel: s.Channel, Source: strings.Clone(h.Source),
		Question: s.Question, Comment: s.Comment, Survey: s.Survey, Campaign: s.Campaign, Case: s.Case, Product: s.Product,
	}
	if row.Channel == "" {
		row.Channel = r.channel(rule, h, mergedContext(h.BatchContext, readMessage(e.Data).context))
	}
	if s.Kind != satisfaction.KindNone && s.Act != policy.ActSurveySent {
		score := r.satisfaction.Judge(*s)
		row.HasScore = s.State == satisfaction.ScoreRead
		row.Score, row.Flag, row.Points = int64(score.Value), score.Flag, score.Points
		row.ScaleLow, row.ScaleHigh = int32(score.Scale.Low), int32(score.Scale.High)
		row.Good, row.Bad, row.Ease = score.Good, score.Bad, uint8(score.Ease)
	}
	sorted := r.satisfaction.Sort(s.Comment)
	row.Topics, row.Need, row.Priority = sorted.Topics, sorted.Need, sorted.Priority
	return row
}

// Handling is what people have done about an entry of feedback, as of one revision of
// its stream; each event holds all of it.
type Handling struct {
	Event    uuid.UUID `json:"event"`
	Status   string    `json:"status"` // open, assigned or closed
	Assignee string    `json:"assignee,omitempty"`
	// Topics, Need and Priority stand in place of those by the policy where Sorted.
	Sorted   bool     `json:"sorted,omitempty"`
	Topics   []string `json:"topics,omitempty"`
	Need     string   `json:"need,omitempty"`
	Priority string   `json:"priority,omitempty"`
	Answer   string   `json:"answer,omitempty"`
	Author   string   `json:"author"`
	At       string   `json:"at"` // RFC 3339, UTC
}

func handlingOf(e *eventstore.Recorded) (*warehouse.Handling, error) {
	var h Handling
	if err := json.Unmarshal(e.Data, &h); err != nil {
		return nil, fmt.Errorf("handling of feedback at position %d: %w", e.Position, err)
	}
	at, err := time.Parse(time.RFC3339Nano, h.At)
	if err != nil {
		return nil, fmt.Errorf("handling of feedback at position %d: %w", e.Position, err)
	}
	return &warehouse.Handling{
		EventID: h.Event, Revision: e.Revision + 1, Status: h.Status, Assignee: h.Assignee,
		Sorted: h.Sorted, Topics: h.Topics, Need: h.Need, Priority: h.Priority,
		Answer: h.Answer, Author: h.Author, At: at.UnixMilli(),
	}, nil
}
