package warehouse

import (
	"encoding/binary"

	"github.com/google/uuid"
)

// AmountScale is the factor between an amount's integer form here and the
// Decimal(18, 4) it becomes: 12.34 is 123400.
const AmountScale = 10_000

// Nobody is the customer_id of what belongs to no customer: of subjects whose value
// is no identity, and of their touchpoints.
var Nobody = uuid.Max

// Touchpoint is one row of touchpoints. All times are Unix milliseconds, UTC.
// The customer is not part of the row: the view looks it up (see Subject).
type Touchpoint struct {
	EventID uuid.UUID
	// SubjectID is the UUIDv5 of the subject's stream name, and the customer's id
	// as long as the subject has not moved to another customer.
	SubjectID uuid.UUID
	Subject   string // "user:42"

	UserID      string
	AnonymousID string
	Source      string
	Type        string // track, identify, …
	Name        string // event name
	Meaning     string
	Channel     string

	OccurredAt int64
	ReceivedAt int64
	RecordedAt int64
	Position   uint64

	// Amount is scaled by AmountScale and counts only where HasAmount is true.
	// Its size is below 10^18.
	Amount    int64
	HasAmount bool
	Currency  string
	OrderID   string
	// Flags are lower-case names with commas between them, without spaces;
	// the view shows an array. Few different values, please.
	Flags string

	Properties []byte // JSON object text, or empty
	Context    []byte // JSON object text, or empty
}

// Subject is one row of subjects: the customer that a subject belongs to. Only
// subjects that have moved away from their own customer ever need a row; one
// that moves back is written with CustomerID equal to SubjectID.
type Subject struct {
	SubjectID  uuid.UUID
	Subject    string // "anon:8f3a"
	Kind       string // "anon"
	CustomerID uuid.UUID
	Version    Version
}

// Customer is one row of customers, whole: the newest version of a customer
// replaces all of the earlier one. Times are Unix milliseconds.
type Customer struct {
	CustomerID uuid.UUID
	UserIDs    []string // in a fixed order, chosen by the writer
	Stage      string
	StageSince int64
	FirstSeen  int64
	LastSeen   int64
	Purchases  uint32 // not fully refunded
	Refunds    uint32 // refund events
	// Revenue is orders less refunds by currency, ordered by currency.
	Revenue []Money
	Traits  []byte // JSON object text, "{}" if empty
	// Outlook is what time alone will change if nothing more happens, soonest
	// first.
	Outlook []StageAt
	Version Version
	// Removed hides the customer from the view (its subjects have moved away).
	Removed bool
}

// Account is one row of accounts, whole, as Customer is. Stage, totals and outlook
// are empty where the policy gives accounts no stage of their own.
type Account struct {
	AccountID  uuid.UUID
	GroupID    string // as sent
	Stage      string
	StageSince int64
	FirstSeen  int64
	LastSeen   int64
	Purchases  uint32
	Refunds    uint32
	Revenue    []Money
	Traits     []byte // JSON object text, "{}" if empty
	Outlook    []StageAt
	Version    Version
	Removed    bool
}

// AccountMember is one row of account_members: a subject that group calls attach
// to an account. The customer is not part of the row: the view looks it up.
type AccountMember struct {
	AccountID uuid.UUID
	SubjectID uuid.UUID
	Since     int64 // Unix milliseconds
	Version   Version
}

// Money is an amount scaled by AmountScale, in a currency.
type Money struct {
	Currency string
	Amount   int64
}

// StageAt is a stage and the instant, in Unix milliseconds, it is entered.
type StageAt struct {
	At    int64
	Stage string
}

// Transition is one row of stage_transitions. A customer's transitions are
// numbered without gaps; where a newer version of a customer has fewer
// of them, the numbers above are written once more with Removed set.
type Transition struct {
	CustomerID    uuid.UUID
	Seq           uint32
	From          string // empty for the first
	To            string
	At            int64 // Unix milliseconds
	Reason        string
	Cause         string // an event id, or the deadline
	PolicyVersion uint32
	Version       Version
	Removed       bool
}

// Version is the position and the clock that a row was computed at. Of several
// rows with one key the greatest version stands (by position, then clock), and
// of equal ones the last written.
type Version struct {
	Position uint64
	Clock    int64 // Unix milliseconds
}

// SubjectNo is the 64-bit key under which the dictionary of moved subjects holds
// a subject: both halves of its id folded into one, so that the fixed bits of a
// UUIDv5 cost no entropy.
func SubjectNo(id uuid.UUID) uint64 {
	return binary.BigEndian.Uint64(id[:8]) ^ binary.BigEndian.Uint64(id[8:])
}

// Conflict is one row of identity_conflicts: a message that names two subjects
// which are not one customer. EventID and OtherID identify it.
type Conflict struct {
	EventID            uuid.UUID
	SubjectID, OtherID uuid.UUID
	Subject, Other     string // the message's own subject, and the one it names
	OccurredAt         int64  // Unix milliseconds
	Status             string // "open", or "kept_apart" where a person has decided so
	Version            Version
	// Removed says that it is no conflict any more; only the key counts then.
	Removed bool
}
