package satisfaction_test

import (
	"fmt"
	"math"
	"slices"

	"sojourn/domain"
	"sojourn/domain/policy"
	"sojourn/domain/satisfaction"
)

// compareWithOracle judges the transitions by the definition: at each instant in
// question the index is the quotient of two sums over all signals by then, taken
// anew, and complaints are open by a plain count.
func compareWithOracle(ts []satisfaction.Touch, rules *satisfaction.Rules, change func(*policy.Satisfaction)) string {
	p := policy.Default()
	if change != nil {
		change(&p.Satisfaction)
	}
	s := p.Satisfaction
	weights := map[satisfaction.Kind]float64{
		satisfaction.NPS: s.Weights.NPS, satisfaction.CSAT: s.Weights.CSAT, satisfaction.CES: s.Weights.CES,
		satisfaction.Review: s.Weights.Review, satisfaction.Custom: s.Weights.Custom,
	}
	ts = slices.Clone(ts)
	slices.SortFunc(ts, func(a, b satisfaction.Touch) int { return a.Compare(b.Ref) })
	statusAt := func(at domain.Millis) (satisfaction.Status, bool) {
		var weight, sum float64
		open := map[string]bool{}
		for _, t := range ts {
			if t.At > at {
				break
			}
			switch t.Event.Act {
			case policy.ActComplaintOpened, policy.ActComplaintUpdated:
				if id := t.Event.Case; t.Event.Act == policy.ActComplaintOpened || !slices.Contains(keys(open), id) {
					open[id] = true
				}
			case policy.ActComplaintResolved:
				open[t.Event.Case] = false
			case policy.ActSurveyAnswered, policy.ActProductReviewed:
				score := rules.Judge(t.Event)
				if score.Flag == "" && score.Scale != (satisfaction.Scale{}) {
					w := weights[score.Kind] * math.Exp2(-float64(at-t.At)/float64(s.HalfLifeDays)/float64(domain.Day))
					weight += w
					sum += w * score.Points
				}
			}
		}
		if weight < s.Floor {
			return satisfaction.Unknown, math.Abs(weight-s.Floor) > 1e-12
		}
		index := math.Round(sum/weight*1e6) / 1e6
		for _, is := range open {
			if is {
				index = min(index, s.ComplaintCap)
			}
		}
		// What rounding may decide is not for the oracle.
		sure := math.Abs(weight-s.Floor) > 1e-12
		for _, bound := range []float64{s.Status.Delighted, s.Status.Satisfied, s.Status.Neutral} {
			sure = sure && (index == bound || math.Abs(index-bound) > 1e-5)
		}
		switch {
		case index >= s.Status.Delighted:
			return satisfaction.Delighted, sure
		case index >= s.Status.Satisfied:
			return satisfaction.Satisfied, sure
		case index >= s.Status.Neutral:
			return satisfaction.Neutral, sure
		}
		return satisfaction.Unhappy, sure
	}
	facts := addAll(ts)
	transitions := satisfaction.Transitions(facts, rules)
	var instants []domain.Millis
	for _, t := range ts {
		instants = append(instants, t.At-1, t.At, t.At+1, t.At+37*domain.Day)
	}
	from := satisfaction.Unknown
	for i, tr := range transitions {
		if tr.From != from || tr.To == from || i > 0 && tr.At < transitions[i-1].At {
			return fmt.Sprintf("transition %d is %+v after %s", i, tr, from)
		}
		from = tr.To
		instants = append(instants, tr.At-1, tr.At, tr.At+1)
	}
	for _, at := range instants {
		want, sure := statusAt(at)
		got := satisfaction.Unknown
		for _, tr := range transitions {
			if tr.At <= at {
				got = tr.To
			}
		}
		if sure && got != want {
			return fmt.Sprintf("at %s it is %s, by the definition %s", since(at), got, want)
		}
		view, past, _ := facts.View(at, rules)
		if view.Status != got || !slices.Equal(past, transitions[:len(past)]) || view.Known != (got != satisfaction.Unknown) {
			return fmt.Sprintf("at %s the view is %s with %d transitions, the transitions say %s", since(at), view.Status, len(past), got)
		}
		// Up to an instant, what comes after it changes nothing.
		var before satisfaction.Facts
		for _, t := range ts {
			if t.At <= at {
				before.Add(t)
			}
		}
		if v, p, _ := before.View(at, rules); fmt.Sprint(v) != fmt.Sprint(view) || !slices.Equal(p, past) {
			return fmt.Sprintf("at %s what comes later changes the view", since(at))
		}
	}
	return ""
}

func keys(m map[string]bool) []string {
	var list []string
	for k := range m {
		list = append(list, k)
	}
	return list
}
