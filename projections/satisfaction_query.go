package projections

import (
	"context"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/tidwall/gjson"

	"sojourn/domain"
	"sojourn/domain/customer"
	"sojourn/domain/satisfaction"
)

// Satisfaction is how satisfied a customer is and how well they were served.
type Satisfaction struct {
	Customer uuid.UUID
	satisfaction.View
	Past    []satisfaction.Transition // up to the time asked about, in order
	Service satisfaction.Service
	AsOf    time.Time
}

// Satisfaction answers how satisfied a customer is, with every case and survey; the
// errors are those of Customer.
func (v *Views) Satisfaction(ctx context.Context, ref string, at At) (Satisfaction, error) {
	a, err := v.answer(ctx, ref, at, nil)
	if err != nil {
		return Satisfaction{}, err
	}
	s := Satisfaction{Customer: a.id, AsOf: a.q.asOf.Time()}
	s.View, s.Past = a.satisfaction()
	s.Service = a.service(&s.View, a.standings())
	return s, nil
}

// satisfaction is how satisfied the customer is at the time asked about.
func (a *answer) satisfaction() (satisfaction.View, []satisfaction.Transition) {
	// What came after the time asked about changes nothing.
	facts := &satisfaction.Facts{}
	if a.read != nil {
		facts = &a.read.Satisfaction
	} else {
		for _, m := range a.members {
			facts.Merge(&m.facts.Satisfaction)
		}
	}
	view, past, _ := facts.View(a.q.asOf, a.q.rules.satisfaction)
	return view, past
}

// service is how the customer is to be treated at the time asked about.
func (a *answer) service(s *satisfaction.View, programmes []LoyaltyStanding) satisfaction.Service {
	p := satisfaction.Profile{
		Value: a.view.Totals.Revenue, OpenComplaints: s.OpenComplaints, OpenTickets: s.OpenTickets,
		Status: s.Status, Flags: flagsOf(a.view.Traits),
	}
	for _, l := range programmes {
		if l.Tier != "" {
			p.Tiers = append(p.Tiers, l.Tier)
		}
	}
	return a.q.rules.satisfaction.Service(p, a.q.asOf)
}

// flagsTrait is the trait that lists a customer's flags.
const flagsTrait = "flags"

// flagsOf are the flags that the trait lists: objects with name, reason and until,
// or bare names. A bare date is the last day of a flag, in UTC. What has no name is
// left out; an end that cannot be read is none.
func flagsOf(traits []customer.Trait) []satisfaction.Flag {
	var all []satisfaction.Flag
	for _, t := range traits {
		if t.Key != flagsTrait {
			continue
		}
		list := gjson.ParseBytes(t.Value)
		if !list.IsArray() {
			return nil
		}
		for _, f := range list.Array() {
			flag := satisfaction.Flag{Name: text(f, "name"), Reason: text(f, "reason")}
			if f.Type == gjson.String {
				flag.Name = f.Str
			}
			if flag.Name = strings.ToLower(strings.TrimSpace(flag.Name)); flag.Name == "" {
				continue
			}
			until := text(f, "until")
			if day, err := time.Parse(time.DateOnly, until); err == nil {
				flag.Until = domain.MillisOf(day.AddDate(0, 0, 1))
			} else if at, err := time.Parse(time.RFC3339, until); err == nil {
				flag.Until = domain.MillisOf(at)
			}
			all = append(all, flag)
		}
	}
	return all
}
