package projections

import (
	"context"
	"errors"

	"github.com/google/uuid"
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
}

// Whole answers about the customer that an id belongs to now: its own, one that it
// bore before, or that of one of its subjects. ErrNotFound where there is none.
func (v *Views) Whole(ctx context.Context, id uuid.UUID, at At) (w Whole, err error) {
	err = v.question(at, func(g *generation, q *question) error {
		var a *answer
		// With KnownAt the customer may have borne another id.
		for ref, tries := id, 0; ; tries++ {
			members, _, err := q.find(ref.String())
			if err != nil {
				return err
			}
			a, err = v.answerFrom(ctx, g, q, members[0].id.String(), nil)
			var moved *MovedError
			if errors.As(err, &moved) && tries < 2 {
				ref = moved.To
				continue
			}
			if err != nil {
				return err
			}
			break
		}
		w.Customer = a.customer()
		w.Loyalty = a.standings()
		s, _ := a.satisfaction()
		w.Satisfaction = &s
		for _, m := range a.members {
			w.Members = append(w.Members, Member{m.id, m.stream})
		}
		return nil
	})
	return w, err
}
