package satisfaction_test

import (
	"testing"

	"pgregory.net/rapid"

	"sojourn/domain"
	"sojourn/domain/satisfaction"
)

// TestPoints: what stands from a point on, up to the next, is what the view says of
// that time.
func TestPoints(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		ts, change := drawHistory(t)
		rules, facts := compile(change), addAll(ts)
		points := satisfaction.Points(facts, rules)
		for i, p := range points {
			if i+1 < len(points) && points[i+1].At == p.At {
				continue
			}
			to := p.At + 1000*domain.Day
			if i+1 < len(points) {
				to = points[i+1].At - 1
			}
			for _, at := range []domain.Millis{p.At, p.At + (to-p.At)/2, to} {
				v, _, _ := facts.View(at, rules)
				if v.Status != p.Status || v.Known != p.Known || v.OpenComplaints != p.OpenComplaints || v.Known && v.Index != p.Index {
					t.Fatalf("at %s the view is %+v, and the point %+v", at, v, p)
				}
			}
		}
		if len(points) > 0 {
			if v, _, _ := facts.View(points[0].At-1, rules); v.Known || v.OpenComplaints > 0 {
				t.Fatalf("before the first point stands %+v", v)
			}
		}
	})
}
