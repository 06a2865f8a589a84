// Package lifecycle decides where a customer stands: a pure function of the
// purchases that count, of how far the customer had come before the first, and of
// the time. It gathers what the decision needs (Facts) and lists every change of
// it (Transitions), past and to come.
package lifecycle

import (
	"bytes"
	"cmp"
	"fmt"
	"strings"

	"github.com/google/uuid"

	"sojourn/domain"
	"sojourn/domain/commerce"
	"sojourn/domain/policy"
)

// Stage is where a customer stands.
type Stage string

// The stages; the empty one is that of a customer who has no touchpoint yet.
const (
	None          Stage = ""
	Visitor       Stage = "visitor"
	Lead          Stage = "lead"
	Qualified     Stage = "qualified"
	FirstPurchase Stage = "first_purchase"
	Repeat        Stage = "repeat"
	Loyal         Stage = "loyal"
	WonBack       Stage = "won_back"
	AtRisk        Stage = "at_risk"
	Churned       Stage = "churned"
	Lost          Stage = "lost"
)

// Stages are all stages but None, in the order a customer goes through them.
var Stages = []Stage{Visitor, Lead, Qualified, FirstPurchase, Repeat, Loyal, WonBack, AtRisk, Churned, Lost}

// Ref names a touchpoint and gives it its place: by At, then by the bytes of ID.
type Ref struct {
	At domain.Millis
	ID uuid.UUID
}

// Compare orders touchpoints: negative where a stands before b.
func (a Ref) Compare(b Ref) int {
	if c := cmp.Compare(a.At, b.At); c != 0 {
		return c
	}
	return bytes.Compare(a.ID[:], b.ID[:])
}

// Touch is what the lifecycle takes of a touchpoint.
type Touch struct {
	Ref
	Meaning policy.Meaning
	// UnderUser: it was recorded under a user id.
	UnderUser bool
	// HasEmail: it is an identify whose traits hold an e-mail.
	HasEmail bool
	// Name is the event's name, for reasons.
	Name string
	// Order is what commerce.Read made of it.
	Order commerce.Order
}

// Transition is one change of stage.
type Transition struct {
	From, To Stage // From is None for a customer's first
	At       domain.Millis
	Reason   string // in plain words, without personal data
	Cause    Cause
}

// The rules by which time alone changes a stage.
const (
	RuleAtRisk  = "at_risk"
	RuleChurned = "churned"
	RuleLost    = "lost"
	RuleLoyal   = "loyal" // a loyal customer's count fell below the number
)

// Cause is the touchpoint that changed a stage, or the deadline that did.
type Cause struct {
	// Rule is the deadline's; empty where the touchpoint itself is the cause.
	Rule string
	// Touchpoint is the cause, or the purchase that the deadline counts from.
	Touchpoint uuid.UUID
}

// String is "touchpoint:<id>" or "deadline:<rule>:<id of the purchase>".
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
		case RuleAtRisk, RuleChurned, RuleLost, RuleLoyal:
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

// Totals are a customer's purchases and what they brought.
type Totals struct {
	// Purchases are those not fully refunded; Refunds all refund and cancellation
	// events, whether they found their order or not.
	Purchases, Refunds int
	// Revenue is the orders less their refunds, by currency. A currency stands in
	// it where a purchase in it has a readable amount and is not fully refunded;
	// nil where there is none.
	Revenue map[string]domain.Decimal
}

// Reached is how far a customer had come by an instant, purchases aside.
type Reached uint8

// How far one can come.
const (
	ReachedNothing Reached = iota
	ReachedVisitor
	ReachedLead
	ReachedQualified
)

// StageAt is the definition: the stage at t of a customer who had come so far by
// t and whose purchases, those that count at t, happened at the given instants in
// ascending order, none after t.
func StageAt(purchases []domain.Millis, reached Reached, t domain.Millis, rules policy.Lifecycle) Stage {
	n := len(purchases)
	h := history{count: n, reached: reached}
	if n > 0 {
		h.last = purchases[n-1]
	}
	if n > 1 {
		h.before = purchases[n-2]
	}
	if k := rules.LoyalPurchases; k > 0 && n >= k {
		h.loyalFrom = purchases[n-k]
	}
	l := limitsOf(rules)
	return l.stage(&h, t)
}

// history is what the stage table looks at.
type history struct {
	count     int           // purchases that count
	last      domain.Millis // the last, if count ≥ 1
	before    domain.Millis // the one before it, if count ≥ 2
	loyalFrom domain.Millis // the earliest of the last limits.purchases, if there are so many
	reached   Reached
}

// limits are a policy's numbers in milliseconds.
type limits struct {
	atRisk, churned, lost, wonBack, loyal domain.Millis
	purchases                             int
}

func limitsOf(r policy.Lifecycle) limits {
	return limits{
		atRisk: policy.Days(r.AtRiskDays), churned: policy.Days(r.ChurnedDays), lost: policy.Days(r.LostDays),
		wonBack: policy.Days(r.WonBackDays), loyal: policy.Days(r.LoyalDays), purchases: r.LoyalPurchases,
	}
}

// stage is the stage table, row by row from the top.
func (l *limits) stage(h *history, t domain.Millis) Stage {
	if h.count == 0 {
		return [...]Stage{None, Visitor, Lead, Qualified}[h.reached]
	}
	switch idle := t - h.last; {
	case idle >= l.lost:
		return Lost
	case idle >= l.churned:
		return Churned
	case idle >= l.atRisk:
		return AtRisk
	case h.count >= 2 && h.last-h.before > l.wonBack:
		return WonBack
	case h.count >= l.purchases && t-h.loyalFrom < l.loyal:
		return Loyal
	case h.count >= 2:
		return Repeat
	}
	return FirstPurchase
}
