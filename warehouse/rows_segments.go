package warehouse

import (
	"context"

	"github.com/google/uuid"
)

// SegmentStay is one row of segment_stays: a customer's stays in a segment are numbered
// from 1 in the order of time, and of those numbers that a customer has no longer a row
// says so.
type SegmentStay struct {
	Segment      string
	CustomerID   uuid.UUID
	Seq          uint32
	Entered      int64 // Unix milliseconds
	EnteredCause string
	Left         int64 // 0 while it lasts
	LeftCause    string
	Version      Version
	Removed      bool
}

// WriteSegmentStays writes rows of segment_stays. They are durable when it returns, and
// the newest version of a stay replaces the others, so a repetition is harmless.
func (db *DB) WriteSegmentStays(ctx context.Context, g Generation, rows ...[]SegmentStay) error {
	return db.insert(ctx, "segment_stays_"+g.String(), total(rows), []column{
		each("segment", "LowCardinality(String)", rows, func(r *SegmentStay) string { return r.Segment }),
		each("customer_id", "UUID", rows, func(r *SegmentStay) uuid.UUID { return r.CustomerID }),
		each("seq", "UInt32", rows, func(r *SegmentStay) uint32 { return r.Seq }),
		each("entered_at", timeType, rows, func(r *SegmentStay) int64 { return r.Entered }),
		each("entered_cause", "String", rows, func(r *SegmentStay) string { return r.EnteredCause }),
		some("left_at", timeType, rows, func(r *SegmentStay) (int64, bool) { return r.Left, r.Left != 0 }),
		each("left_cause", "String", rows, func(r *SegmentStay) string { return r.LeftCause }),
		each("position", "UInt64", rows, func(r *SegmentStay) uint64 { return r.Version.Position }),
		each("clock", timeType, rows, func(r *SegmentStay) int64 { return r.Version.Clock }),
		each("removed", "UInt8", rows, func(r *SegmentStay) uint8 { return bit(r.Removed) }),
	})
}
