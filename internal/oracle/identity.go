package oracle

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/google/uuid"

	"sojourn/domain"
)

// Outcome is what became of a join.
type Outcome string

// The outcomes.
const (
	Joined    Outcome = "joined"     // its two subjects are one customer
	Conflict  Outcome = "conflict"   // it would break a limit
	KeptApart Outcome = "kept_apart" // it would bring together what a split keeps apart
	NotTried  Outcome = "not_tried"  // of a kind that the policy does not list, or of nobody
)

// Join is one pair of a message's hub and another subject that it names.
type Join struct {
	Hub, Other domain.Subject
	Event      uuid.UUID
	At         domain.Millis
	Outcome    Outcome
	// Alias is set where Other is the previousId of an alias, and not its
	// anonymousId as well.
	Alias bool

	rank     int
	position int // of Other in the message
}

// Identity says which subjects are one customer.
type Identity struct {
	// Customers are the sets of subjects, each with the one that gives it its id
	// first and the others sorted. Sets without any touchpoint are among them.
	Customers [][]domain.Subject
	// Joins are all pairs in the order in which they are tried.
	Joins []Join
}

// Customer is the set that a subject is in, nil where it is in none.
func (id Identity) Customer(s domain.Subject) []domain.Subject {
	for _, c := range id.Customers {
		if slices.Contains(c, s) {
			return slices.Clone(c)
		}
	}
	return nil
}

// pair is two subjects that are glued, joined or kept apart.
type pair [2]domain.Subject

// connected is the set of all that pairs connect with a subject, itself included.
func connected(s domain.Subject, pairs []pair) []domain.Subject {
	set := []domain.Subject{s}
	for grown := true; grown; {
		grown = false
		for _, p := range pairs {
			a, b := slices.Contains(set, p[0]), slices.Contains(set, p[1])
			switch {
			case a && !b:
				set, grown = append(set, p[1]), true
			case b && !a:
				set, grown = append(set, p[0]), true
			}
		}
	}
	return set
}

// keptApart reports whether one of a pair stands in a and the other in b.
func keptApart(apart []pair, a, b []domain.Subject) bool {
	for _, p := range apart {
		if slices.Contains(a, p[0]) && slices.Contains(b, p[1]) || slices.Contains(a, p[1]) && slices.Contains(b, p[0]) {
			return true
		}
	}
	return false
}

// decide is what the decisions come to: the pairs that are glued, and those that
// are kept apart.
func (l Log) decide(nobody func(domain.Subject) bool) (glue, apart []pair) {
	somebody := func(list []domain.Subject) []domain.Subject {
		return slices.DeleteFunc(slices.Clone(list), nobody)
	}
	var laterMembers [][]domain.Subject
	for _, e := range slices.Backward(l) {
		later := slices.Clone(glue)
		glueAll := func(list []domain.Subject) {
			for i, a := range list {
				for _, b := range list[i+1:] {
					if !keptApart(apart, connected(a, glue), connected(b, glue)) {
						glue = append(glue, pair{a, b})
					}
				}
			}
		}
		switch {
		case e.Merge != nil:
			glueAll(somebody(e.Merge.Named))
			laterMembers = append(laterMembers, slices.Concat(e.Merge.Named, e.Merge.Members))
		case e.Split != nil:
			leave, stay := somebody(e.Split.Leave), somebody(e.Split.Stay)
			glueAll(leave)
			glueAll(stay)
			for _, a := range leave {
				for _, b := range stay {
					forgiven := slices.Contains(connected(a, later), b)
					for _, members := range laterMembers {
						forgiven = forgiven || slices.Contains(members, a) && slices.Contains(members, b)
					}
					if !forgiven {
						apart = append(apart, pair{a, b})
					}
				}
			}
		}
	}
	return glue, apart
}

// joins are all joins of the log in the order in which they are tried.
func (l Log) joins(p Policy) []Join {
	isUser := map[string]bool{}
	for _, e := range l {
		if e.Touchpoint != nil {
			isUser[e.Touchpoint.User] = true
		}
	}
	var all []Join
	for _, e := range l {
		if e.Touchpoint == nil {
			continue
		}
		for i, other := range e.Touchpoint.others(isUser) {
			rank := slices.Index(p.Join, other.Kind)
			if rank < 0 {
				rank = len(p.Join)
			}
			t := e.Touchpoint
			isPrevious := t.Kind == domain.Alias && i == 0 && other.Value == t.Previous
			all = append(all, Join{
				Hub: t.recordedUnder(), Other: other, Event: e.ID, At: t.OccurredAt,
				Alias: isPrevious && other != domain.Subject{Kind: domain.Anon, Value: t.Anon}, rank: rank, position: i,
			})
		}
	}
	slices.SortFunc(all, func(a, b Join) int {
		return cmp.Or(cmp.Compare(a.At, b.At), bytes.Compare(a.Event[:], b.Event[:]),
			cmp.Compare(a.rank, b.rank), cmp.Compare(a.position, b.position))
	})
	return all
}

// breaksLimit reports whether for some kind both sets have subjects and together
// more than one customer may have. Where alias is set the number of users does not
// matter.
func (p Policy) breaksLimit(a, b []domain.Subject, alias bool) bool {
	count := func(set []domain.Subject, kind domain.SubjectKind) (n int) {
		for _, s := range set {
			if s.Kind == kind {
				n++
			}
		}
		return n
	}
	for _, s := range a {
		if alias && p.AliasUsers && s.Kind == domain.User {
			continue
		}
		n, limited := p.limit(s.Kind)
		if have, more := count(a, s.Kind), count(b, s.Kind); limited && more > 0 && have+more > n {
			return true
		}
	}
	return false
}

// Identity says which subjects are one customer by all that the log holds.
func (l Log) Identity() Identity {
	l = l.once()
	p := l.policy()
	glue, apart := l.decide(p.isNobody)
	joins := l.joins(p)

	// Decisions first; then the automatic joins one by one.
	var standing []pair // the automatic joins that stand
	for i := range joins {
		j := &joins[i]
		if p.isNobody(j.Hub) || p.isNobody(j.Other) || !slices.Contains(p.Join, j.Hub.Kind) || !slices.Contains(p.Join, j.Other.Kind) {
			j.Outcome = NotTried
			continue
		}
		// Limits are counted as if there were no glue.
		a, b := connected(j.Hub, standing), connected(j.Other, standing)
		if !slices.Contains(a, j.Other) && p.breaksLimit(a, b, j.Alias && j.Other.Kind == domain.User) {
			continue
		}
		everything := slices.Concat(standing, glue)
		a, b = connected(j.Hub, everything), connected(j.Other, everything)
		if !slices.Contains(a, j.Other) && keptApart(apart, a, b) {
			continue
		}
		standing = append(standing, pair{j.Hub, j.Other})
	}
	everything := slices.Concat(standing, glue)
	for i := range joins {
		j := &joins[i]
		a, b := connected(j.Hub, everything), connected(j.Other, everything)
		switch {
		case j.Outcome == NotTried:
		case slices.Contains(a, j.Other):
			j.Outcome = Joined
		case keptApart(apart, a, b):
			j.Outcome = KeptApart
		default:
			j.Outcome = Conflict
		}
	}
	return Identity{l.sets(p, everything), joins}
}

// sets are the customers that pairs make of all subjects, nobody's left out.
func (l Log) sets(p Policy, pairs []pair) [][]domain.Subject {
	// In the order of their first touchpoint; those only named come last.
	var subjects []domain.Subject
	see := func(s domain.Subject) {
		if !p.isNobody(s) && !slices.Contains(subjects, s) {
			subjects = append(subjects, s)
		}
	}
	for _, e := range l {
		if e.Touchpoint != nil {
			see(e.Touchpoint.recordedUnder())
		}
	}
	for _, j := range l.joins(p) {
		see(j.Other)
	}
	for _, e := range l {
		if e.Merge != nil {
			for _, s := range slices.Concat(e.Merge.Named, e.Merge.Members) {
				see(s)
			}
		}
		if e.Split != nil {
			for _, s := range slices.Concat(e.Split.Leave, e.Split.Stay) {
				see(s)
			}
		}
	}
	var sets [][]domain.Subject
	done := map[domain.Subject]bool{}
	for _, first := range subjects {
		if done[first] {
			continue
		}
		set := connected(first, pairs)
		for _, s := range set {
			done[s] = true
		}
		slices.SortFunc(set[1:], compareSubjects)
		sets = append(sets, set)
	}
	return sets
}
