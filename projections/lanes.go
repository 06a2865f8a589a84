package projections

import (
	"cmp"
	"runtime"
	"sync"

	"sojourn/domain"
	"sojourn/domain/customer"
)

// The workers of one process are goroutines. Who is one customer is found by one of
// them, event by event, for all. What a touchpoint then changes of its customer it leaves
// to that customer's lane, and at the end of each chunk of the log all lanes run side by
// side, as far as there are processors: each has buckets of its own, and no two of them
// have a customer in common.
// Whatever needs to see a customer as it is has its lane run first, so that how many
// lanes there are decides nothing.

// lane are the touchpoints that some customers have yet to take, in the order of the log.
type lane []pending

// pending is a touchpoint of a subject that its customer has yet to take.
type pending struct {
	c *cust
	s *subject
	a *arrival
	// before and step are those of the fold when it came.
	before, step domain.Millis
}

// fewPending is how many touchpoints are not worth another goroutine. Tests set it.
var fewPending = 128

// goroutines are how many fold at once.
func (f *fold) goroutines() int { return cmp.Or(f.workers, runtime.GOMAXPROCS(0)) }

// openLanes has touchpoints wait for runLanes from here on.
func (f *fold) openLanes() {
	if n := f.goroutines(); n > 1 && !f.polite {
		f.lanes = make([]lane, n)
	}
}

// closeLanes has touchpoints taken as they come.
func (f *fold) closeLanes() {
	f.runLanes()
	f.lanes = nil
}

// take has a customer take a touchpoint, at once or when its lane runs. The arrival must
// stay until then.
func (f *fold) take(c *cust, s *subject, a *arrival) {
	p := pending{c, s, a, f.before, f.step}
	if f.lanes == nil {
		f.taken(&p)
		return
	}
	c.pending++
	l := &f.lanes[bucketOf(c.id)%len(f.lanes)] // a shard's buckets are neighbours
	*l = append(*l, p)
}

// taken has a customer take a touchpoint. It touches nothing of others.
func (f *fold) taken(p *pending) {
	c, t := p.c, &p.a.touch
	f.expect(c, t)
	moved := c.take(p.s, t, f.rules.book)
	f.noteSegments(p.s, p.a.ref, p.a.segments)
	if moved&customer.Stage != 0 {
		c.advance(p.before)
		c.replace(f.transitionsAfter(c, &t.Touch), p.step, false)
	}
	f.took(p, moved)
}

// runLanes has all customers take what they have yet to take.
func (f *fold) runLanes() {
	n := 0
	for _, l := range f.lanes {
		n += len(l)
	}
	if n == 0 {
		return
	}
	goroutines := min(len(f.lanes), runtime.GOMAXPROCS(0))
	if n < fewPending {
		goroutines = 1
	}
	some := func(first int) {
		for i := first; i < len(f.lanes); i += goroutines {
			f.run(f.lanes[i])
		}
	}
	var others sync.WaitGroup
	for first := 1; first < goroutines; first++ {
		others.Go(func() { some(first) })
	}
	some(0)
	others.Wait()
	for i := range f.lanes {
		clear(f.lanes[i]) // it lets go of the arrivals
		f.lanes[i] = f.lanes[i][:0]
	}
}

func (f *fold) run(l lane) {
	for i := range l {
		f.taken(&l[i])
		l[i].c.pending = 0
	}
}

// catchUp has the lanes run where one of some customers, which may be nil, has anything
// yet to take.
func (f *fold) catchUp(all ...*cust) {
	for _, c := range all {
		if c != nil && c.pending > 0 {
			f.runLanes()
			return
		}
	}
}
