package satisfaction

import "sojourn/domain"

// Point is what stands of a customer's satisfaction from an instant on.
type Point struct {
	At     domain.Millis
	Status Status
	// Index means something where Known.
	Known          bool
	Index          float64
	OpenComplaints int
	Cause          Cause
}

// Points lists what stands after each touchpoint, and after what time alone does, in
// the order of time and to its end, as if nothing more happened. Of several at one
// instant the last stands. Before the first the status is Unknown.
func Points(f *Facts, r *Rules) []Point {
	f.sort()
	c := course{rules: r, status: Unknown}
	all := make([]Point, 0, len(f.list)+1)
	note := func(at domain.Millis, cause Cause) {
		p := Point{At: at, Status: c.status, Known: c.known, OpenComplaints: c.cases.open[Complaint], Cause: cause}
		if c.known {
			p.Index = c.index()
		}
		all = append(all, p)
	}
	pass := func(until domain.Millis) {
		n := len(c.out)
		if c.pass(until); len(c.out) > n {
			note(c.out[n].At, c.out[n].Cause)
		}
	}
	for i := range f.list {
		n := &f.list[i]
		if c.begun && n.ref.At != c.now {
			pass(n.ref.At)
		}
		c.take(n)
		note(n.ref.At, Cause{Touchpoint: n.ref.ID})
	}
	pass(forever)
	return all
}
