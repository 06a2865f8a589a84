package projections

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"sojourn/warehouse"
)

// Buckets is how many buckets there are. Whatever has an id is in one of them for
// ever: that of the customer is the customer's, and each row is written by whoever
// holds the bucket of its key.
const Buckets = 1024

// bucketOf is the bucket of an id.
func bucketOf(id uuid.UUID) int { return int(warehouse.SubjectNo(id) >> 54) }

// Shard is a contiguous range of buckets: the Index-th of Of parts, which differ by
// one bucket at most. The zero Shard holds all of them.
type Shard struct {
	Index int // from 1
	Of    int
}

// ParseShard reads a shard such as 2/4.
func ParseShard(text string) (Shard, error) {
	index, of, ok := strings.Cut(text, "/")
	i, err1 := strconv.Atoi(index)
	n, err2 := strconv.Atoi(of)
	if !ok || err1 != nil || err2 != nil || n < 1 || n > Buckets || i < 1 || i > n {
		return Shard{}, fmt.Errorf("%q is no shard such as 2/4, the second of four (of at most %d)", text, Buckets)
	}
	return Shard{i, n}, nil
}

// String is the shard as ParseShard reads it.
func (s Shard) String() string { return fmt.Sprintf("%d/%d", max(s.Index, 1), max(s.Of, 1)) }

// whole says that the shard holds everything.
func (s Shard) whole() bool { return s.Of <= 1 }

// holds reports whether the shard has the bucket of an id.
func (s Shard) holds(id uuid.UUID) bool {
	if s.whole() {
		return true
	}
	b := bucketOf(id)
	return b >= Buckets*(s.Index-1)/s.Of && b < Buckets*s.Index/s.Of
}

// subjects are the numbers of the subjects in the shard.
func (s Shard) subjects() warehouse.SubjectNos {
	if s.whole() {
		return warehouse.SubjectNos{}
	}
	from, below := uint64(Buckets*(s.Index-1)/s.Of), uint64(Buckets*s.Index/s.Of)
	return warehouse.SubjectNos{From: from << 54, To: below<<54 - 1} // of the last, 0 − 1
}

// only leaves the rows whose keys the shard holds, of those that every fold makes. The
// rows of customers, points, satisfaction and accounts are made only where they belong.
func (s Shard) only(r *TableRows) {
	if s.whole() {
		return
	}
	r.Subjects = slices.DeleteFunc(r.Subjects, func(r warehouse.Subject) bool { return !s.holds(r.SubjectID) })
	r.Conflicts = slices.DeleteFunc(r.Conflicts, func(r warehouse.Conflict) bool { return !s.holds(r.EventID) })
	r.Handlings = slices.DeleteFunc(r.Handlings, func(r warehouse.Handling) bool { return !s.holds(r.EventID) })
	r.Deliveries = slices.DeleteFunc(r.Deliveries, func(r warehouse.DeliveryFact) bool { return !s.holds(r.DeliveryID) })
}
