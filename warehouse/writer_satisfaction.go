package warehouse

import (
	"context"
	"slices"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
)

// WriteSatisfaction writes rows of satisfaction. They are durable when it returns,
// and the newest version of a customer replaces the others, so a repetition is
// harmless.
func (db *DB) WriteSatisfaction(ctx context.Context, g Generation, rows ...[]Satisfaction) error {
	return db.insert(ctx, "satisfaction_"+g.String(), total(rows), slices.Concat([]column{
		each("customer_id", "UUID", rows, func(r *Satisfaction) uuid.UUID { return r.CustomerID }),
		each("status", "LowCardinality(String)", rows, func(r *Satisfaction) string { return r.Status }),
		some("since", timeType, rows, func(r *Satisfaction) (int64, bool) { return r.Since, r.Since != 0 }),
		some("satisfaction_index", "Float64", rows, func(r *Satisfaction) (float64, bool) { return r.Index, r.Known }),
		some("uncapped_index", "Float64", rows, func(r *Satisfaction) (float64, bool) { return r.Uncapped, r.Known }),
		some("unknown_from", timeType, rows, func(r *Satisfaction) (int64, bool) { return r.UnknownFrom, r.UnknownFrom != 0 }),
		each("signals", "UInt32", rows, func(r *Satisfaction) uint32 { return r.Signals }),
	},
		measureColumns("nps", rows, func(r *Satisfaction) *Measure { return &r.NPS }),
		measureColumns("csat", rows, func(r *Satisfaction) *Measure { return &r.CSAT }),
		measureColumns("ces", rows, func(r *Satisfaction) *Measure { return &r.CES }),
		measureColumns("review", rows, func(r *Satisfaction) *Measure { return &r.Review }),
		[]column{
			each("flagged", "UInt32", rows, func(r *Satisfaction) uint32 { return r.Flagged }),
			each("open_complaints", "UInt32", rows, func(r *Satisfaction) uint32 { return r.OpenComplaints }),
			each("open_tickets", "UInt32", rows, func(r *Satisfaction) uint32 { return r.OpenTickets }),
			each("position", "UInt64", rows, func(r *Satisfaction) uint64 { return r.Version.Position }),
			each("clock", timeType, rows, func(r *Satisfaction) int64 { return r.Version.Clock }),
			each("removed", "UInt8", rows, func(r *Satisfaction) uint8 { return bit(r.Removed) }),
		}))
}

// measureColumns are the columns of a kind of score.
func measureColumns(kind string, rows [][]Satisfaction, of func(*Satisfaction) *Measure) []column {
	return []column{
		each(kind+"_answers", "UInt32", rows, func(r *Satisfaction) uint32 { return of(r).Count }),
		some(kind+"_score", amountType, rows, func(r *Satisfaction) (decimal.Decimal, bool) {
			return decimal.New(of(r).Score, -4), of(r).Count > 0
		}),
		some(kind+"_at", timeType, rows, func(r *Satisfaction) (int64, bool) { return of(r).At, of(r).Count > 0 }),
		some(kind+"_change", "Float64", rows, func(r *Satisfaction) (float64, bool) {
			return of(r).Change, of(r).Count > 0 && of(r).HasChange
		}),
	}
}

// WriteStatusTransitions writes rows of satisfaction_transitions. They are durable
// when it returns, and the newest version of a transition replaces the others, so
// a repetition is harmless.
func (db *DB) WriteStatusTransitions(ctx context.Context, g Generation, rows ...[]StatusChange) error {
	return db.insert(ctx, "satisfaction_transitions_"+g.String(), total(rows), []column{
		each("customer_id", "UUID", rows, func(r *StatusChange) uuid.UUID { return r.CustomerID }),
		each("seq", "UInt32", rows, func(r *StatusChange) uint32 { return r.Seq }),
		each("from_status", "LowCardinality(String)", rows, func(r *StatusChange) string { return r.From }),
		each("to_status", "LowCardinality(String)", rows, func(r *StatusChange) string { return r.To }),
		each("at", timeType, rows, func(r *StatusChange) int64 { return r.At }),
		some("satisfaction_index", "Float64", rows, func(r *StatusChange) (float64, bool) { return r.Index, r.To != "unknown" }),
		each("reason", "String", rows, func(r *StatusChange) string { return r.Reason }),
		each("cause", "String", rows, func(r *StatusChange) string { return r.Cause }),
		each("policy_version", "UInt32", rows, func(r *StatusChange) uint32 { return r.PolicyVersion }),
		each("position", "UInt64", rows, func(r *StatusChange) uint64 { return r.Version.Position }),
		each("clock", timeType, rows, func(r *StatusChange) int64 { return r.Version.Clock }),
		each("removed", "UInt8", rows, func(r *StatusChange) uint8 { return bit(r.Removed) }),
	})
}

// WriteCases writes rows of cases. They are durable when it returns, and the newest
// version of a case replaces the others, so a repetition is harmless. How long what
// is not done has taken is not written: it grows with every moment.
func (db *DB) WriteCases(ctx context.Context, g Generation, rows ...[]Case) error {
	return db.insert(ctx, "cases_"+g.String(), total(rows), slices.Concat([]column{
		each("customer_id", "UUID", rows, func(r *Case) uuid.UUID { return r.CustomerID }),
		each("seq", "UInt32", rows, func(r *Case) uint32 { return r.Seq }),
		each("kind", "LowCardinality(String)", rows, func(r *Case) string { return r.Kind }),
		each("case_id", "String", rows, func(r *Case) string { return r.ID }),
		some("opened_at", timeType, rows, func(r *Case) (int64, bool) { return r.Opened, r.Opened != 0 }),
		some("event_id", "UUID", rows, func(r *Case) (uuid.UUID, bool) { return r.Event, r.Event != uuid.Nil }),
		each("open", "Bool", rows, func(r *Case) bool { return r.Open }),
		each("escalated", "Bool", rows, func(r *Case) bool { return r.Escalated }),
		each("reopened", "UInt32", rows, func(r *Case) uint32 { return r.Reopened }),
		each("priority", "LowCardinality(String)", rows, func(r *Case) string { return r.Priority }),
	},
		timingColumns("response", rows, func(r *Case) *Timing { return &r.Response }),
		timingColumns("resolution", rows, func(r *Case) *Timing { return &r.Resolution }),
		[]column{
			each("position", "UInt64", rows, func(r *Case) uint64 { return r.Version.Position }),
			each("clock", timeType, rows, func(r *Case) int64 { return r.Version.Clock }),
			each("removed", "UInt8", rows, func(r *Case) uint8 { return bit(r.Removed) }),
		}))
}

// timingColumns are the columns of one of a case's times.
func timingColumns(what string, rows [][]Case, of func(*Case) *Timing) []column {
	return []column{
		some(what+"_at", timeType, rows, func(r *Case) (int64, bool) { return of(r).At, of(r).Done }),
		some(what+"_took", "Int64", rows, func(r *Case) (int64, bool) { return of(r).Took, of(r).Done }),
		some(what+"_target", "Int64", rows, func(r *Case) (int64, bool) { return of(r).Target, of(r).Target != 0 }),
		some(what+"_due", timeType, rows, func(r *Case) (int64, bool) { return of(r).Due, of(r).Due != 0 }),
		each(what+"_verdict", "LowCardinality(String)", rows, func(r *Case) string { return of(r).Verdict }),
	}
}

// WriteSurveys writes rows of surveys. They are durable when it returns, and the
// newest version of a survey replaces the others, so a repetition is harmless.
func (db *DB) WriteSurveys(ctx context.Context, g Generation, rows ...[]Survey) error {
	return db.insert(ctx, "surveys_"+g.String(), total(rows), []column{
		each("customer_id", "UUID", rows, func(r *Survey) uuid.UUID { return r.CustomerID }),
		each("seq", "UInt32", rows, func(r *Survey) uint32 { return r.Seq }),
		each("event_id", "UUID", rows, func(r *Survey) uuid.UUID { return r.Event }),
		each("sent_at", timeType, rows, func(r *Survey) int64 { return r.SentAt }),
		each("kind", "LowCardinality(String)", rows, func(r *Survey) string { return r.Kind }),
		each("survey", "String", rows, func(r *Survey) string { return r.Survey }),
		each("campaign", "String", rows, func(r *Survey) string { return r.Campaign }),
		some("answer_id", "UUID", rows, func(r *Survey) (uuid.UUID, bool) { return r.Answer, r.Answer != uuid.Nil }),
		some("answered_at", timeType, rows, func(r *Survey) (int64, bool) { return r.AnsweredAt, r.Answer != uuid.Nil }),
		each("position", "UInt64", rows, func(r *Survey) uint64 { return r.Version.Position }),
		each("clock", timeType, rows, func(r *Survey) int64 { return r.Version.Clock }),
		each("removed", "UInt8", rows, func(r *Survey) uint8 { return bit(r.Removed) }),
	})
}

// WriteFeedback writes rows of feedback. They are durable when it returns. A row of
// an event at its subject and time replaces that of a lower or the same position,
// so a repetition is harmless. The view shows the customers of moved subjects after
// ReloadMoved.
func (db *DB) WriteFeedback(ctx context.Context, g Generation, rows ...[]Feedback) error {
	return db.insert(ctx, "feedback_"+g.String(), total(rows), []column{
		each("event_id", "UUID", rows, func(r *Feedback) uuid.UUID { return r.EventID }),
		each("subject_id", "UUID", rows, func(r *Feedback) uuid.UUID { return r.SubjectID }),
		each("subject_no", "UInt64", rows, func(r *Feedback) uint64 { return SubjectNo(r.SubjectID) }),
		each("subject", "String", rows, func(r *Feedback) string { return r.Subject }),
		each("occurred_at", timeType, rows, func(r *Feedback) int64 { return r.OccurredAt }),
		each("position", "UInt64", rows, func(r *Feedback) uint64 { return r.Position }),
		each("act", "LowCardinality(String)", rows, func(r *Feedback) string { return r.Act }),
		each("kind", "LowCardinality(String)", rows, func(r *Feedback) string { return r.Kind }),
		each("channel", "LowCardinality(String)", rows, func(r *Feedback) string { return r.Channel }),
		each("source", "LowCardinality(String)", rows, func(r *Feedback) string { return r.Source }),
		some("score", amountType, rows, func(r *Feedback) (decimal.Decimal, bool) { return decimal.New(r.Score, -4), r.HasScore }),
		each("scale_low", "Int32", rows, func(r *Feedback) int32 { return r.ScaleLow }),
		each("scale_high", "Int32", rows, func(r *Feedback) int32 { return r.ScaleHigh }),
		each("flag", "LowCardinality(String)", rows, func(r *Feedback) string { return r.Flag }),
		some("points", "Float64", rows, func(r *Feedback) (float64, bool) {
			return r.Points, r.HasScore && r.Flag == "" && r.ScaleLow < r.ScaleHigh
		}),
		each("good", "Bool", rows, func(r *Feedback) bool { return r.Good }),
		each("bad", "Bool", rows, func(r *Feedback) bool { return r.Bad }),
		some("ease", "UInt8", rows, func(r *Feedback) (uint8, bool) { return r.Ease, r.Ease != 0 }),
		each("question", "String", rows, func(r *Feedback) string { return r.Question }),
		each("comment", "String", rows, func(r *Feedback) string { return r.Comment }),
		each("survey", "String", rows, func(r *Feedback) string { return r.Survey }),
		each("campaign", "String", rows, func(r *Feedback) string { return r.Campaign }),
		each("case_id", "String", rows, func(r *Feedback) string { return r.Case }),
		each("product", "String", rows, func(r *Feedback) string { return r.Product }),
		each("topics", "Array(String)", rows, func(r *Feedback) []string { return r.Topics }),
		each("need", "LowCardinality(String)", rows, func(r *Feedback) string { return r.Need }),
		each("priority", "LowCardinality(String)", rows, func(r *Feedback) string { return r.Priority }),
	})
}

// WriteHandlings writes rows of feedback_handling. They are durable when it returns,
// and the greatest revision of an entry replaces the others, so a repetition is
// harmless.
func (db *DB) WriteHandlings(ctx context.Context, g Generation, rows ...[]Handling) error {
	return db.insert(ctx, "feedback_handling_"+g.String(), total(rows), []column{
		each("event_id", "UUID", rows, func(r *Handling) uuid.UUID { return r.EventID }),
		each("revision", "UInt64", rows, func(r *Handling) uint64 { return r.Revision }),
		each("status", "LowCardinality(String)", rows, func(r *Handling) string { return r.Status }),
		each("assignee", "String", rows, func(r *Handling) string { return r.Assignee }),
		each("sorted", "Bool", rows, func(r *Handling) bool { return r.Sorted }),
		each("topics", "Array(String)", rows, func(r *Handling) []string { return r.Topics }),
		each("need", "LowCardinality(String)", rows, func(r *Handling) string { return r.Need }),
		each("priority", "LowCardinality(String)", rows, func(r *Handling) string { return r.Priority }),
		each("answer", "String", rows, func(r *Handling) string { return r.Answer }),
		each("author", "String", rows, func(r *Handling) string { return r.Author }),
		each("at", timeType, rows, func(r *Handling) int64 { return r.At }),
	})
}
