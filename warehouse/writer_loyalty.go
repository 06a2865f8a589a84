package warehouse

import (
	"context"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
)

// WriteLoyaltyStatus writes rows of loyalty_status. They are durable when it
// returns, and the newest version of a customer and programme replaces the others,
// so a repetition is harmless.
func (db *DB) WriteLoyaltyStatus(ctx context.Context, g Generation, rows ...[]LoyaltyStatus) error {
	return db.insert(ctx, "loyalty_status_"+g.String(), total(rows), []column{
		each("customer_id", "UUID", rows, func(r *LoyaltyStatus) uuid.UUID { return r.CustomerID }),
		each("programme", "LowCardinality(String)", rows, func(r *LoyaltyStatus) string { return r.Programme }),
		some("enrolled_at", timeType, rows, func(r *LoyaltyStatus) (int64, bool) { return r.Enrolled, r.Enrolled != 0 }),
		each("tier", "LowCardinality(String)", rows, func(r *LoyaltyStatus) string { return r.Tier }),
		some("tier_since", timeType, rows, func(r *LoyaltyStatus) (int64, bool) { return r.TierSince, r.TierSince != 0 }),
		some("tier_until", timeType, rows, func(r *LoyaltyStatus) (int64, bool) { return r.TierUntil, r.TierUntil != 0 }),
		each("tier_by", "LowCardinality(String)", rows, func(r *LoyaltyStatus) string { return r.tierBy() }),
		each("tier_total", "Decimal(38, 4)", rows, func(r *LoyaltyStatus) decimal.Decimal { return r.tierUnits(r.TierTotal) }),
		each("next_tier", "LowCardinality(String)", rows, func(r *LoyaltyStatus) string { return r.NextTier }),
		each("tier_missing", "Decimal(38, 4)", rows, func(r *LoyaltyStatus) decimal.Decimal { return r.tierUnits(r.TierMissing) }),
		each("available", "Int64", rows, func(r *LoyaltyStatus) int64 { return r.Available }),
		each("pending", "Int64", rows, func(r *LoyaltyStatus) int64 { return r.Pending }),
		each("debt", "Int64", rows, func(r *LoyaltyStatus) int64 { return r.Debt }),
		each("earned", "Int64", rows, func(r *LoyaltyStatus) int64 { return r.Earned }),
		each("adjusted_in", "Int64", rows, func(r *LoyaltyStatus) int64 { return r.AdjustedIn }),
		each("transferred_in", "Int64", rows, func(r *LoyaltyStatus) int64 { return r.TransferredIn }),
		each("redeemed", "Int64", rows, func(r *LoyaltyStatus) int64 { return r.Redeemed }),
		each("expired", "Int64", rows, func(r *LoyaltyStatus) int64 { return r.Expired }),
		each("reversed", "Int64", rows, func(r *LoyaltyStatus) int64 { return r.Reversed }),
		each("adjusted_out", "Int64", rows, func(r *LoyaltyStatus) int64 { return r.AdjustedOut }),
		each("transferred_out", "Int64", rows, func(r *LoyaltyStatus) int64 { return r.TransferredOut }),
		some("expiring_at", timeType, rows, func(r *LoyaltyStatus) (int64, bool) { return r.ExpiringAt, r.ExpiringAt != 0 }),
		each("expiring", "Int64", rows, func(r *LoyaltyStatus) int64 { return r.Expiring }),
		each("point_value", amountType, rows, func(r *LoyaltyStatus) decimal.Decimal { return decimal.New(r.PointValue, -4) }),
		each("currency", "LowCardinality(String)", rows, func(r *LoyaltyStatus) string { return r.Currency }),
		each("position", "UInt64", rows, func(r *LoyaltyStatus) uint64 { return r.Version.Position }),
		each("clock", timeType, rows, func(r *LoyaltyStatus) int64 { return r.Version.Clock }),
		each("removed", "UInt8", rows, func(r *LoyaltyStatus) uint8 { return bit(r.Removed) }),
	})
}

// tierBy is what the tiers of the programme count.
func (r *LoyaltyStatus) tierBy() string {
	if r.TierBySpend {
		return "spend"
	}
	return "points"
}

// tierUnits is what counts for a tier, in points or in the currency.
func (r *LoyaltyStatus) tierUnits(n int64) decimal.Decimal {
	if r.TierBySpend {
		return decimal.New(n, -4)
	}
	return decimal.New(n, 0)
}

// WriteLoyaltyLedger writes rows of loyalty_ledger. They are durable when it
// returns, and the newest version of a line replaces the others, so a repetition
// is harmless.
func (db *DB) WriteLoyaltyLedger(ctx context.Context, g Generation, rows ...[]LoyaltyMovement) error {
	return db.insert(ctx, "loyalty_ledger_"+g.String(), total(rows), []column{
		each("customer_id", "UUID", rows, func(r *LoyaltyMovement) uuid.UUID { return r.CustomerID }),
		each("programme", "LowCardinality(String)", rows, func(r *LoyaltyMovement) string { return r.Programme }),
		each("seq", "UInt32", rows, func(r *LoyaltyMovement) uint32 { return r.Seq }),
		each("at", timeType, rows, func(r *LoyaltyMovement) int64 { return r.At }),
		each("kind", "LowCardinality(String)", rows, func(r *LoyaltyMovement) string { return r.Kind }),
		each("points", "Int64", rows, func(r *LoyaltyMovement) int64 { return r.Points }),
		each("available", "Int64", rows, func(r *LoyaltyMovement) int64 { return r.Available }),
		each("pending", "Int64", rows, func(r *LoyaltyMovement) int64 { return r.Pending }),
		each("debt", "Int64", rows, func(r *LoyaltyMovement) int64 { return r.Debt }),
		each("balance_available", "Int64", rows, func(r *LoyaltyMovement) int64 { return r.BalanceAvailable }),
		each("balance_pending", "Int64", rows, func(r *LoyaltyMovement) int64 { return r.BalancePending }),
		each("balance_debt", "Int64", rows, func(r *LoyaltyMovement) int64 { return r.BalanceDebt }),
		some("lot", "Int32", rows, func(r *LoyaltyMovement) (int32, bool) { return r.Lot, r.Lot >= 0 }),
		some("expires_at", timeType, rows, func(r *LoyaltyMovement) (int64, bool) { return r.ExpiresAt, r.ExpiresAt != 0 }),
		each("order_id", "String", rows, func(r *LoyaltyMovement) string { return r.OrderID }),
		each("value", amountType, rows, func(r *LoyaltyMovement) decimal.Decimal { return decimal.New(r.Value, -4) }),
		each("currency", "LowCardinality(String)", rows, func(r *LoyaltyMovement) string { return r.Currency }),
		each("cause", "String", rows, func(r *LoyaltyMovement) string { return r.Cause }),
		each("note", "String", rows, func(r *LoyaltyMovement) string { return r.Note }),
		each("position", "UInt64", rows, func(r *LoyaltyMovement) uint64 { return r.Version.Position }),
		each("clock", timeType, rows, func(r *LoyaltyMovement) int64 { return r.Version.Clock }),
		each("removed", "UInt8", rows, func(r *LoyaltyMovement) uint8 { return bit(r.Removed) }),
	})
}

// WriteTierTransitions writes rows of tier_transitions. They are durable when it
// returns, and the newest version of a transition replaces the others, so a
// repetition is harmless.
func (db *DB) WriteTierTransitions(ctx context.Context, g Generation, rows ...[]TierChange) error {
	return db.insert(ctx, "tier_transitions_"+g.String(), total(rows), []column{
		each("customer_id", "UUID", rows, func(r *TierChange) uuid.UUID { return r.CustomerID }),
		each("programme", "LowCardinality(String)", rows, func(r *TierChange) string { return r.Programme }),
		each("seq", "UInt32", rows, func(r *TierChange) uint32 { return r.Seq }),
		each("from_tier", "LowCardinality(String)", rows, func(r *TierChange) string { return r.From }),
		each("to_tier", "LowCardinality(String)", rows, func(r *TierChange) string { return r.To }),
		each("at", timeType, rows, func(r *TierChange) int64 { return r.At }),
		some("until", timeType, rows, func(r *TierChange) (int64, bool) { return r.Until, r.Until != 0 }),
		each("reason", "String", rows, func(r *TierChange) string { return r.Reason }),
		each("cause", "String", rows, func(r *TierChange) string { return r.Cause }),
		each("policy_version", "UInt32", rows, func(r *TierChange) uint32 { return r.PolicyVersion }),
		each("position", "UInt64", rows, func(r *TierChange) uint64 { return r.Version.Position }),
		each("clock", timeType, rows, func(r *TierChange) int64 { return r.Version.Clock }),
		each("removed", "UInt8", rows, func(r *TierChange) uint8 { return bit(r.Removed) }),
	})
}
