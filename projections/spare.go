package projections

import (
	"slices"

	"sojourn/warehouse"
)

// spare is the memory of the rows of earlier flushes: a batch of a rebuild has some
// hundred megabytes of them.
type spare struct {
	pieces []Rows
	out    Rows // those of the last flush, which is written while the next batch is read
}

// piece is empty room for the rows of the i-th piece of a flush of so many
// customers, most of which have a row or two in these tables.
func (s *spare) piece(i, customers int) (r Rows) {
	if i < len(s.pieces) {
		r = s.pieces[i]
	}
	r.Customers = slices.Grow(r.Customers, customers)
	r.Transitions = slices.Grow(r.Transitions, 2*customers)
	r.LoyaltyStatus = slices.Grow(r.LoyaltyStatus, customers)
	r.LoyaltyLedger = slices.Grow(r.LoyaltyLedger, customers)
	r.TierChanges = slices.Grow(r.TierChanges, customers)
	return r
}

// gather puts the rows that the pieces have one behind the other. The rows of the
// flush before must have been written.
func (s *spare) gather(out *Rows, pieces []*piece) {
	s.pieces = slices.Grow(s.pieces[:0], len(pieces))[:len(pieces)]
	gather(&out.Subjects, &s.out.Subjects, pieces, s, func(r *Rows) *[]warehouse.Subject { return &r.Subjects })
	gather(&out.Customers, &s.out.Customers, pieces, s, func(r *Rows) *[]warehouse.Customer { return &r.Customers })
	gather(&out.Transitions, &s.out.Transitions, pieces, s, func(r *Rows) *[]warehouse.Transition { return &r.Transitions })
	gather(&out.LoyaltyStatus, &s.out.LoyaltyStatus, pieces, s, func(r *Rows) *[]warehouse.LoyaltyStatus { return &r.LoyaltyStatus })
	gather(&out.LoyaltyLedger, &s.out.LoyaltyLedger, pieces, s, func(r *Rows) *[]warehouse.LoyaltyMovement { return &r.LoyaltyLedger })
	gather(&out.TierChanges, &s.out.TierChanges, pieces, s, func(r *Rows) *[]warehouse.TierChange { return &r.TierChanges })
	gather(&out.Satisfaction, &s.out.Satisfaction, pieces, s, func(r *Rows) *[]warehouse.Satisfaction { return &r.Satisfaction })
	gather(&out.StatusChanges, &s.out.StatusChanges, pieces, s, func(r *Rows) *[]warehouse.StatusChange { return &r.StatusChanges })
	gather(&out.Cases, &s.out.Cases, pieces, s, func(r *Rows) *[]warehouse.Case { return &r.Cases })
	gather(&out.SegmentStays, &s.out.SegmentStays, pieces, s, func(r *Rows) *[]warehouse.SegmentStay { return &r.SegmentStays })
	gather(&out.Surveys, &s.out.Surveys, pieces, s, func(r *Rows) *[]warehouse.Survey { return &r.Surveys })
}

func gather[T any](out, was *[]T, pieces []*piece, s *spare, of func(*Rows) *[]T) {
	n := 0
	for _, p := range pieces {
		n += len(*of(&p.rows))
	}
	clear(*was)
	all := slices.Grow((*was)[:0], n)
	for i, p := range pieces {
		rows := *of(&p.rows)
		all = append(all, rows...)
		clear(rows)
		*of(&s.pieces[i]) = rows[:0]
	}
	*out, *was = all, all
}
