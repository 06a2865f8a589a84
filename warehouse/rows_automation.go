package warehouse

import (
	"context"

	"github.com/google/uuid"
)

// DeliveryFact is one row of delivery_facts: what automation did about a delivery.
// The view deliveries has a row for each delivery. A row that is written again
// replaces itself.
type DeliveryFact struct {
	DeliveryID uuid.UUID
	Position   uint64
	SubjectID  uuid.UUID // of the cause
	At         int64     // Unix milliseconds, as the other times
	Round      uint32
	Number     uint32 // of the attempt
	State      string // planned, attempted, delivered, retrying, dead or suppressed

	// Of the first fact of a round; empty in others.
	Trigger             string
	Version             uint32
	Action, Destination string
	Change, Programme   string
	From, To            string
	ChangeAt            int64
	Cause, Arm          string
	Chain               []string

	SendAt  int64
	Reason  string
	Status  int32
	Latency int64 // milliseconds
	Error   string
}

// WriteDeliveryFacts writes rows of delivery_facts. They are durable when it returns.
func (db *DB) WriteDeliveryFacts(ctx context.Context, g Generation, rows ...[]DeliveryFact) error {
	return db.insert(ctx, "delivery_facts_"+g.String(), total(rows), []column{
		each("delivery_id", "UUID", rows, func(r *DeliveryFact) uuid.UUID { return r.DeliveryID }),
		each("position", "UInt64", rows, func(r *DeliveryFact) uint64 { return r.Position }),
		each("subject_id", "UUID", rows, func(r *DeliveryFact) uuid.UUID { return r.SubjectID }),
		each("at", timeType, rows, func(r *DeliveryFact) int64 { return r.At }),
		each("round", "UInt32", rows, func(r *DeliveryFact) uint32 { return r.Round }),
		each("number", "UInt32", rows, func(r *DeliveryFact) uint32 { return r.Number }),
		each("state", "LowCardinality(String)", rows, func(r *DeliveryFact) string { return r.State }),
		each("trigger", "LowCardinality(String)", rows, func(r *DeliveryFact) string { return r.Trigger }),
		each("version", "UInt32", rows, func(r *DeliveryFact) uint32 { return r.Version }),
		each("action", "LowCardinality(String)", rows, func(r *DeliveryFact) string { return r.Action }),
		each("destination", "LowCardinality(String)", rows, func(r *DeliveryFact) string { return r.Destination }),
		each("change", "LowCardinality(String)", rows, func(r *DeliveryFact) string { return r.Change }),
		each("programme", "LowCardinality(String)", rows, func(r *DeliveryFact) string { return r.Programme }),
		each("from_state", "LowCardinality(String)", rows, func(r *DeliveryFact) string { return r.From }),
		each("to_state", "LowCardinality(String)", rows, func(r *DeliveryFact) string { return r.To }),
		each("change_at", timeType, rows, func(r *DeliveryFact) int64 { return r.ChangeAt }),
		each("cause", "String", rows, func(r *DeliveryFact) string { return r.Cause }),
		each("arm", "LowCardinality(String)", rows, func(r *DeliveryFact) string { return r.Arm }),
		each("chain", "Array(String)", rows, func(r *DeliveryFact) []string { return r.Chain }),
		each("send_at", timeType, rows, func(r *DeliveryFact) int64 { return r.SendAt }),
		each("reason", "LowCardinality(String)", rows, func(r *DeliveryFact) string { return r.Reason }),
		each("status", "Int32", rows, func(r *DeliveryFact) int32 { return r.Status }),
		each("latency_ms", "Int64", rows, func(r *DeliveryFact) int64 { return r.Latency }),
		each("error", "String", rows, func(r *DeliveryFact) string { return r.Error }),
	})
}
