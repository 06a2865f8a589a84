// Package loyalty keeps the points and tiers of a customer: a pure function of
// the touchpoints and commands of the customer (Facts), of the rules that were in
// force when (Rulebook), and of the time. Fold lists every movement of points and
// every change of tier, past and to come.
package loyalty

import (
	"fmt"
	"strings"

	"github.com/google/uuid"

	"sojourn/domain"
)

// Kind says what a movement is.
type Kind string

// The kinds of movement, each with what it does to the balance.
const (
	Earned         Kind = "earned"          // points came, pending or available
	Available      Kind = "available"       // pending points became available
	Redeemed       Kind = "redeemed"        // points were spent
	Cancelled      Kind = "cancelled"       // points of a redemption came back
	Expired        Kind = "expired"         // points ran out
	Reversed       Kind = "reversed"        // points were taken back, for a refund
	Offset         Kind = "offset"          // points to be taken back had expired, which counts as given back: nothing moves
	AdjustedIn     Kind = "adjusted_in"     // points were given by hand, or as an opening balance
	AdjustedOut    Kind = "adjusted_out"    // points were taken by hand
	TransferredIn  Kind = "transferred_in"  // points came from another customer
	TransferredOut Kind = "transferred_out" // points went to another customer
	Repaid         Kind = "repaid"          // points that became available paid a debt
)

// The rules by which time alone moves points or tiers.
const (
	RuleAvailable = "available" // pending points become available
	RuleExpiry    = "expiry"
	RuleBirthday  = "birthday"
	RuleEnrolment = "enrolment" // the programme began after the first touchpoint
	RuleTierHold  = "tier_hold" // the hold of a tier ended
	RuleTierRule  = "tier_rule" // the rules about tiers changed
)

// Cause is the event behind a movement or a change of tier, or the deadline.
type Cause struct {
	// Rule is the deadline's; empty where the event itself is the cause.
	Rule string
	// Touchpoint is the touchpoint or command, or the one that the deadline counts
	// from.
	Touchpoint uuid.UUID
}

// String is "touchpoint:<id>" or "deadline:<rule>:<id>".
func (c Cause) String() string {
	if c.Rule == "" {
		return "touchpoint:" + c.Touchpoint.String()
	}
	return "deadline:" + c.Rule + ":" + c.Touchpoint.String()
}

// ParseCause reads what String wrote.
func ParseCause(s string) (Cause, error) {
	kind, rest, _ := strings.Cut(s, ":")
	var c Cause
	switch kind {
	case "touchpoint":
	case "deadline":
		c.Rule, rest, _ = strings.Cut(rest, ":")
		switch c.Rule {
		case RuleAvailable, RuleExpiry, RuleBirthday, RuleEnrolment, RuleTierHold, RuleTierRule:
		default:
			return Cause{}, fmt.Errorf("%q is no cause: unknown deadline %q", s, c.Rule)
		}
	default:
		return Cause{}, fmt.Errorf("%q is no cause: it begins with neither touchpoint nor deadline", s)
	}
	id, err := uuid.Parse(rest)
	if err != nil || len(rest) != 36 {
		return Cause{}, fmt.Errorf("%q is no cause: it ends with no id", s)
	}
	c.Touchpoint = id
	return c, nil
}

// NoLot is the lot of a movement that moves none.
const NoLot = -1

// Movement is one line of the ledger.
type Movement struct {
	At     domain.Millis
	Kind   Kind
	Points int64 // never negative; 0 where the line only explains why there are none
	// What the line does to the balance.
	Available, Pending, Debt int64
	// Lot is the index of the lot that it moves, or NoLot: then it moves debt, or
	// nothing.
	Lot   int
	Order string // the order that it is about, if any
	// Value is what the points were worth when they were redeemed, in Currency.
	Value    domain.Decimal
	Currency string
	Cause    Cause
	// Note explains in plain words, without personal data but what a command gave
	// as its reason.
	Note string
	// Balance is that after this line.
	Balance Balance
}

// Balance is what a customer has.
type Balance struct {
	Available, Pending, Debt int64
}

// Totals are the balance and where it came from.
type Totals struct {
	Balance
	Earned, AdjustedIn, TransferredIn int64
	// Redeemed is net of what was cancelled.
	Redeemed, Expired, Reversed, AdjustedOut, TransferredOut int64
}

// Conserved reports whether what came is what is there and what went.
func (t Totals) Conserved() bool {
	return t.Earned+t.AdjustedIn+t.TransferredIn+t.Debt ==
		t.Available+t.Pending+t.Redeemed+t.Expired+t.Reversed+t.AdjustedOut+t.TransferredOut
}

// Lot is a number of points that came together. Its points are the sum of what
// became of them.
type Lot struct {
	// Ref is the earning: its instant, and the event that gave the points.
	Ref    Ref
	Kind   Kind   // Earned, AdjustedIn, TransferredIn, or Cancelled for what a cancelled redemption gave back behind its expiry
	Order  string // the order that earned it, if any
	Points int64
	// AvailableAt is when the points can be spent, Expires when they expire,
	// policy.Never for never; at that very instant they can still be spent.
	AvailableAt, Expires domain.Millis

	Pending, Available, Redeemed, Expired, Reversed, Adjusted, Transferred, Repaid int64
}

// Transition is one change of tier.
type Transition struct {
	From, To string // From is empty for a customer's first
	At       domain.Millis
	// Until is the end of the hold, policy.Never for the lowest tier.
	Until  domain.Millis
	Reason string // in plain words, without personal data
	Cause  Cause
}

// Tier is where a customer stands in a programme.
type Tier struct {
	Name  string // empty before the enrolment
	Since domain.Millis
	// Until is the end of the hold, policy.Never for the lowest tier.
	Until    domain.Millis
	Benefits []string
	// Total is what counts for tiers in the window, in points or, where Spend is
	// set, ten-thousandths of the currency.
	Total int64
	Spend bool
	// Next is the tier above, empty at the highest; Missing is what the total
	// lacks to reach it.
	Next    string
	Missing int64
}

// Ledger is everything a programme says of a customer at an instant.
type Ledger struct {
	Programme string
	// Enrolled is when the customer came into the programme; policy.Never while
	// that has not happened.
	Enrolled    domain.Millis
	Totals      Totals
	Movements   []Movement // in the order of time
	Lots        []Lot      // in the order in which they came
	Tier        Tier
	Transitions []Transition
	// ExpiringAt is when the next points expire, policy.Never where none will, and
	// Expiring is how many.
	ExpiringAt domain.Millis
	Expiring   int64
	// Next is the next instant at which time alone may change anything;
	// policy.Never where none will.
	Next domain.Millis
}

// Spend says which points a command would spend: in spending order, with their
// expiry, which a transfer takes along. ok is false where points is not positive
// or more than is available.
func (l *Ledger) Spend(points int64) (parts []Part, ok bool) {
	if points <= 0 || points > l.Totals.Available {
		return nil, false
	}
	for _, i := range spendingOrder(l.Lots) {
		n := min(points, l.Lots[i].Available)
		if k := len(parts) - 1; k >= 0 && parts[k].Expires == l.Lots[i].Expires {
			parts[k].Points += n
		} else {
			parts = append(parts, Part{n, l.Lots[i].Expires})
		}
		if points -= n; points == 0 {
			break
		}
	}
	return parts, true
}
