package projections

import "slices"

// spare is the memory of the rows of the last flush, which the next one makes its rows
// in: a batch of a rebuild has some hundred megabytes of them.
type spare struct {
	tables []TableRows // of each piece
}

// take is empty room for the rows of the i-th piece of a flush of so many
// customers, most of which have a row or two in these tables. The rows of the flush
// before must have been written. Pieces may take theirs at the same time.
func (s *spare) take(i, customers int) (r TableRows) {
	if i < len(s.tables) {
		r = s.tables[i]
	}
	r.Feedback, r.Handlings, r.Deliveries = nil, nil, nil // of the fold's own memory
	emptied(&r.Subjects, 0)
	emptied(&r.Customers, customers)
	emptied(&r.Transitions, 2*customers)
	emptied(&r.Conflicts, 0)
	emptied(&r.Accounts, 0)
	emptied(&r.AccountMembers, 0)
	emptied(&r.LoyaltyStatus, customers)
	emptied(&r.LoyaltyLedger, customers)
	emptied(&r.TierChanges, customers)
	emptied(&r.Satisfaction, 0)
	emptied(&r.StatusChanges, 0)
	emptied(&r.Cases, 0)
	emptied(&r.Surveys, 0)
	emptied(&r.SegmentStays, 0)
	return r
}

// emptied takes the rows out of a slice and makes room for some.
func emptied[R any](rows *[]R, room int) {
	clear(*rows)
	*rows = slices.Grow((*rows)[:0], room)
}

// keep keeps the memory of the rows of a flush. That of pieces it did not have goes.
func (s *spare) keep(tables []TableRows) { s.tables = slices.Clone(tables) }
