package projections

import (
	"context"
	"errors"

	"github.com/google/uuid"

	"sojourn/condition"
	"sojourn/eventstore"
)

// Member is a subject of a customer: the id that it bears for itself and the stream
// of its touchpoints.
type Member struct {
	ID     uuid.UUID
	Stream string
}

// Whole is a customer together with its subjects, the one that gives the id first.
type Whole struct {
	Customer
	Members []Member
	// Segments are those that it is in.
	Segments []string
	// Been are the ids that its subjects have borne before.
	Been []uuid.UUID
	// Facts are what conditions may ask, over all time; nil where none were asked for.
	Facts *condition.Subject
}

// Whole answers about the customer that an id belongs to: its own, one that it bore
// before, or that of one of its subjects. Its facts are what is needed, by what was
// known; with AsOf they go beyond it, as all is known. ErrNotFound where there is no
// customer.
func (v *Views) Whole(ctx context.Context, id uuid.UUID, at At, needs *condition.Needs) (w Whole, err error) {
	err = v.question(at, func(g *generation, q *question) error {
		w, err = v.whole(ctx, g, q, id, needs)
		return err
	})
	return w, err
}

// Wholes is Whole at several times, nil where there was no customer. The state is read
// but once, and touchpoints are read from log, so that it may keep what it has read.
func (v *Views) Wholes(ctx context.Context, log eventstore.Store, id uuid.UUID, at []At, needs *condition.Needs) ([]*Whole, error) {
	all := make([]*Whole, len(at))
	err := v.question(At{}, func(g *generation, now *question) error {
		state := &loadOnce{loader: now.fold.state, read: map[string][]byte{}}
		for i := range at {
			q := v.pose(g, now.at, state, at[i])
			q.store = log
			w, err := v.whole(ctx, g, q, id, needs)
			switch {
			case errors.Is(err, ErrNotFound):
			case err != nil:
				return err
			default:
				all[i] = &w
			}
		}
		return nil
	})
	return all, err
}

// loadOnce is a state of which each record is read but once.
type loadOnce struct {
	loader
	read map[string][]byte
}

func (l *loadOnce) load(key []byte) ([]byte, error) {
	if b, ok := l.read[string(key)]; ok {
		return b, nil
	}
	b, err := l.loader.load(key)
	if err == nil {
		l.read[string(key)] = b
	}
	return b, err
}

func (v *Views) whole(ctx context.Context, g *generation, q *question, id uuid.UUID, needs *condition.Needs) (w Whole, err error) {
	a, err := v.owner(ctx, g, q, id)
	if err != nil {
		return w, err
	}
	w.Customer = a.customer()
	w.Loyalty = a.standings()
	s, _ := a.satisfaction()
	w.Satisfaction = &s
	for _, m := range a.members {
		w.Members = append(w.Members, Member{m.id, m.stream})
		w.Been = append(w.Been, m.been...)
	}
	if q.rules.segments != nil {
		b, err := a.basis(ctx, q.rules.segments)
		if err != nil {
			return w, err
		}
		lines := q.rules.segmentLines(b, q.asOf, nil)
		for i := range lines {
			if lines[i].stands() == segmentIn {
				w.Segments = append(w.Segments, lines[i].programme)
			}
		}
	}
	if needs != nil {
		w.Facts, err = a.conditions(ctx, needs)
	}
	return w, err
}

// owner is the answer about the customer that an id belongs to.
func (v *Views) owner(ctx context.Context, g *generation, q *question, id uuid.UUID) (*answer, error) {
	for tries := 0; ; tries++ {
		members, _, err := q.find(id.String())
		if err != nil {
			return nil, err
		}
		a, err := v.answerFrom(ctx, g, q, members[0].id.String(), nil)
		var moved *MovedError // by what was known it bore another id
		if errors.As(err, &moved) && tries < 2 {
			id = moved.To
			continue
		}
		return a, err
	}
}

// basis is what segments are folded from, by what was known, with what a set keeps.
func (a *answer) basis(ctx context.Context, set *segmentSet) (*basis, error) {
	c := &cust{members: a.members}
	var facts *segmentFacts
	var err error
	if a.read == nil && a.q.rules.segments != nil && a.q.rules.segments.covers(set) {
		facts = c.segmentFacts()
	} else if facts, err = a.q.readSegments(ctx, a.members, set); err != nil {
		return nil, err
	}
	known := a.read
	if known == nil {
		known = c.facts()
	}
	return &basis{a.loyaltyFacts(), &known.Satisfaction, &segmentBasis{&known.Lifecycle, facts}}, nil
}

// conditions are what conditions with some needs may ask of the customer.
func (a *answer) conditions(ctx context.Context, needs *condition.Needs) (*condition.Subject, error) {
	q := a.q
	set := setOf(needs)
	b, err := a.basis(ctx, set)
	if err != nil {
		return nil, err
	}
	if a.read == nil && q.rules.segments != nil && q.rules.segments.covers(set) {
		set = q.rules.segments // whose facts these are
	}
	at := max(q.at.Clock, q.asOf)
	if a.read != nil {
		at = q.asOf
	}
	s := q.rules.conditionSubject(b, needs, set, at, nil)
	if s == nil {
		return nil, ErrNotFound
	}
	if len(needs.Segments) > 0 && q.rules.segments != nil {
		if b, err = a.basis(ctx, q.rules.segments); err != nil {
			return nil, err
		}
		lines := q.rules.segmentLines(b, at, nil)
		for i := range lines {
			s.Segments[lines[i].programme] = lines[i].steps()
		}
	}
	return s, nil
}
