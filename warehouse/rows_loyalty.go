package warehouse

import "github.com/google/uuid"

// LoyaltyStatus is one row of loyalty_status: where a customer stands in a
// programme, whole. Times are Unix milliseconds; 0 is none, or never.
type LoyaltyStatus struct {
	CustomerID uuid.UUID
	Programme  string
	Enrolled   int64 // 0 where the customer is not in the programme
	Tier       string
	TierSince  int64
	TierUntil  int64 // the end of the hold, 0 for the lowest tier
	// TierTotal is what counts for tiers in the window, in points or, where
	// TierBySpend, ten-thousandths of the currency; TierMissing is what it lacks to
	// reach NextTier, which is empty at the highest.
	TierTotal   int64
	TierBySpend bool
	NextTier    string
	TierMissing int64
	// The balance, and where it came from.
	Available, Pending, Debt          int64
	Earned, AdjustedIn, TransferredIn int64
	// Redeemed is net of what was cancelled.
	Redeemed, Expired, Reversed, AdjustedOut, TransferredOut int64
	// Expiring points expire next, at ExpiringAt.
	ExpiringAt int64
	Expiring   int64
	// PointValue is what a point is worth at the row's clock, scaled by AmountScale.
	PointValue int64
	Currency   string
	Version    Version
	Removed    bool
}

// LoyaltyMovement is one row of loyalty_ledger: a line of a customer's ledger in a
// programme. The lines are numbered without gaps; where a newer version has fewer,
// the numbers above are written once more with Removed set.
type LoyaltyMovement struct {
	CustomerID uuid.UUID
	Programme  string
	Seq        uint32
	At         int64 // Unix milliseconds
	Kind       string
	Points     int64
	// What the line does to the balance, and the balance after it.
	Available, Pending, Debt                      int64
	BalanceAvailable, BalancePending, BalanceDebt int64
	Lot                                           int32 // -1 where it moves none
	ExpiresAt                                     int64 // of the lot, Unix milliseconds; 0 where it moves none, or one that never expires
	OrderID                                       string
	Value                                         int64 // of redeemed points, scaled by AmountScale
	Currency                                      string
	Cause, Note                                   string
	Version                                       Version
	Removed                                       bool
}

// TierChange is one row of tier_transitions, numbered as those of Transition are,
// for each programme.
type TierChange struct {
	CustomerID    uuid.UUID
	Programme     string
	Seq           uint32
	From, To      string
	At            int64 // Unix milliseconds
	Until         int64 // the end of the hold, 0 for never
	Reason, Cause string
	PolicyVersion uint32
	Version       Version
	Removed       bool
}
