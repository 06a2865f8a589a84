package warehouse

import "github.com/google/uuid"

// Satisfaction is one row of satisfaction: how satisfied a customer is, whole. Only
// customers with a touchpoint of satisfaction have one. Times are Unix milliseconds,
// 0 where there is none.
type Satisfaction struct {
	CustomerID uuid.UUID
	Status     string
	Since      int64 // of the status; 0 where it was never another than unknown
	// Index is from 0 to 100 and means something where Known.
	Known           bool
	Index, Uncapped float64
	UnknownFrom     int64 // when the status becomes unknown if nothing more happens
	Signals         uint32
	NPS, CSAT, CES  Measure
	Review          Measure
	Flagged         uint32 // scores that are kept and counted nowhere
	OpenComplaints  uint32
	OpenTickets     uint32
	Version         Version
	Removed         bool
}

// Measure is the last score of a kind and its trend.
type Measure struct {
	Count uint32 // answers that count; the rest means nothing where it is 0
	Score int64  // as given, scaled by AmountScale
	At    int64
	// Change is how much the score's points (0 to 100) are above those of the one
	// before it; HasChange is false where there is none.
	Change    float64
	HasChange bool
}

// Case is one row of cases: a ticket, complaint, chat or call of a customer. The
// rows of a customer are numbered without gaps; where a newer version has fewer,
// the numbers above are written once more with Removed set. Times are Unix
// milliseconds, 0 where there is none.
type Case struct {
	CustomerID uuid.UUID
	Seq        uint32
	Kind, ID   string
	Opened     int64     // 0 where its opening has not been seen: such a case is not timed
	Event      uuid.UUID // the touchpoint that opened it
	Open       bool
	Escalated  bool
	Reopened   uint32
	Priority   string
	Response   Timing
	Resolution Timing
	Version    Version
	Removed    bool
}

// Timing is how long something took by the policy's clock, in milliseconds.
type Timing struct {
	Done    bool
	At      int64  // when it was done
	Took    int64  // up to when it was done; what is not done has none
	Target  int64  // 0 for any time
	Due     int64  // when the target is over, if known
	Verdict string // "", "pending", "met" or "breached", at the row's clock
}

// Survey is one row of surveys: a survey that was sent, and whether it has been
// answered. The rows of a customer are numbered as those of Case are.
type Survey struct {
	CustomerID       uuid.UUID
	Seq              uint32
	Event            uuid.UUID // the Survey Sent
	SentAt           int64
	Kind             string // empty where it was sent without
	Survey, Campaign string
	Channel, Source  string
	Answer           uuid.UUID // the first answer, Nil where there is none
	AnsweredAt       int64
	Version          Version
	Removed          bool
}

// Feedback is one row of feedback: a touchpoint of satisfaction, read and sorted by
// the policy. It is not rewritten by joins: the view looks the customer up. A
// repetition of an event replaces it.
type Feedback struct {
	EventID    uuid.UUID
	SubjectID  uuid.UUID
	Subject    string
	OccurredAt int64
	Position   uint64
	Act        string // such as survey_answered, product_reviewed, complaint_opened
	Kind       string // of a score: nps, csat, ces, custom or review
	Channel    string
	Source     string
	// Score is as given, scaled by AmountScale, where HasScore. Flag says why it
	// counts nowhere; Points are from 0 to 100 where it counts.
	Score               int64
	HasScore            bool
	ScaleLow, ScaleHigh int32
	Flag                string
	Points              float64
	Good, Bad           bool
	Ease                uint8 // of a CES score that counts: 7 is easy
	Question, Comment   string
	Survey, Campaign    string
	Case, Product       string
	// Topics, Need and Priority are what the comment is about.
	Topics         []string
	Need, Priority string
}

// Handling is one row of feedback_handling: what people have done about an entry of
// feedback, whole, as of one revision of its stream. The greatest revision stands.
type Handling struct {
	EventID  uuid.UUID // the feedback's
	Revision uint64    // of the stream, from 1
	Status   string    // open, assigned or closed
	Assignee string
	// Topics, Need and Priority stand in place of the policy's where Sorted.
	Sorted         bool
	Topics         []string
	Need, Priority string
	Answer         string
	Author         string
	At             int64 // Unix milliseconds
}

// StatusChange is one row of satisfaction_transitions: a change of status. Rows are
// numbered as those of Transition are.
type StatusChange struct {
	CustomerID    uuid.UUID
	Seq           uint32
	From, To      string
	At            int64
	Index         float64 // means nothing where To is unknown
	Reason, Cause string
	PolicyVersion uint32
	Version       Version
	Removed       bool
}
