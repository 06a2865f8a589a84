package projections

// guardEntry is what an entry of a guard stream says of the customer it was decided
// for: a fingerprint of its subjects.
type guardEntry struct {
	Subjects string `json:"subjects"`
}

// commandReply is the answer to a command, kept with it so that a repetition gets
// the same.
type commandReply struct {
	Request   string `json:"request"` // a hash of what was asked
	Available int64  `json:"available"`
	Pending   int64  `json:"pending"`
	Debt      int64  `json:"debt"`
}
