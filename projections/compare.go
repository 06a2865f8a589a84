package projections

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"sojourn/domain"
	"sojourn/domain/lifecycle"
)

// Comparison is where customers stand under an old and a new policy.
//
// They are matched by their ids, so by the subject that gives a customer its id.
// Where the two differ in which subjects are one customer, one that only the old
// policy knows stands in a cell with no To, one that only the new knows in one
// with no From: so the cells of a From add up to what the old policy counts, and
// those of a To to what the new one does.
type Comparison struct {
	// Old and New count the customers in each stage, all stages in order.
	Old, New []StageCount
	// Cells are the pairs of stages that somebody is in, in the order of stages.
	Cells []PreviewCell
	// Weeks are those in which something changed differently, in order.
	Weeks []PreviewWeek
}

// PreviewCell is how many customers are in one stage under the old policy and in
// another, or the same, under the new.
type PreviewCell struct {
	From, To  string // empty where there is no such customer
	Customers uint64
	Examples  []PreviewExample // at most maxExamples, the same at each run
}

const maxExamples = 100

// PreviewExample is one customer under both policies.
type PreviewExample struct {
	Customer uuid.UUID
	Subject  string // the one that gives it its id
	// Old and New say where it stands and why. Where there is no such customer,
	// it is the one that its subject belongs to instead, or nil where that is
	// nobody's.
	Old, New *PreviewStanding
}

// PreviewStanding is where a customer stands.
type PreviewStanding struct {
	Customer uuid.UUID
	Stage    string
	Since    time.Time
	Reason   string // in words
	Cause    string // as in Customer
	Subjects int    // how many it has
}

// PreviewWeek counts changes of stage that happened in a week, by the stage they
// lead to.
type PreviewWeek struct {
	Start time.Time // a Monday, 00:00 UTC
	// Gained are those that only the new policy knows, Lost those that only the
	// old one does.
	Gained, Lost map[string]uint64
}

// previewSide is what one of the two policies makes of the log.
type previewSide struct {
	rules *Rules
	state *state
	fold  *fold
	at    checkpoint
	// cached is how many customers it keeps in memory before it drops them all.
	cached int
}

// previewed is a customer of a side that has a stage.
type previewed struct {
	id     uuid.UUID
	first  *subject
	stands []lifecycle.Transition
	size   int // subjects
}

// each hands on the customers of a side in the order of their ids, some at a time.
func (p *previewSide) each(ctx context.Context, send func([]previewed) bool) error {
	var after uuid.UUID
	var b breath
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		ids, err := p.state.customers(after, 512)
		if err != nil || len(ids) == 0 {
			return err
		}
		after = ids[len(ids)-1]
		some := make([]previewed, 0, len(ids))
		for _, id := range ids {
			c, err := p.fold.whole(id)
			if err != nil {
				return err
			}
			if len(c.members) > 0 && c.n > 0 {
				some = append(some, previewed{c.id, c.members[0], c.all[:c.n], len(c.members)})
			}
			b.take()
		}
		if !send(some) {
			return context.Cause(ctx)
		}
		if len(p.fold.customers) > p.cached {
			p.fold.evict(0)
		}
	}
}

// of is the customer that a subject belongs to, nil where it is nobody's or has no
// touchpoint. Nothing else may use the side meanwhile.
func (p *previewSide) of(stream string) (*PreviewStanding, error) {
	s := p.fold.find(stream)
	if s == nil || s.nobody {
		return nil, p.fold.err
	}
	c := p.fold.customerOf(p.fold.rootOf(s))
	if c == nil || p.fold.err != nil || c.n == 0 {
		return nil, p.fold.err
	}
	return (&previewed{c.id, c.members[0], c.all[:c.n], len(c.members)}).explain(), nil
}

func (s *previewed) stage() lifecycle.Stage { return stageOf(s.stands) }

func (s *previewed) explain() *PreviewStanding {
	last := &s.stands[len(s.stands)-1]
	return &PreviewStanding{
		Customer: s.id, Stage: string(last.To), Since: last.At.Time(), Reason: last.Reason, Cause: last.Cause.String(), Subjects: s.size,
	}
}

// comparison gathers a Comparison.
type comparison struct {
	old, new map[lifecycle.Stage]uint64
	cells    map[[2]lifecycle.Stage]*PreviewCell
	weeks    map[int64]*PreviewWeek
	// open are the examples one side of which is another customer.
	open []openExample
}

type openExample struct {
	cell   *PreviewCell
	i      int
	stream string
}

// compareSides goes through the customers of both, each side in a goroutine of its
// own.
func compareSides(ctx context.Context, before, after *previewSide) (*Comparison, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var work sync.WaitGroup
	read := func(p *previewSide) func() (*previewed, bool) {
		chunks := make(chan []previewed, 4)
		work.Go(func() {
			defer close(chunks)
			err := p.each(ctx, func(some []previewed) bool {
				select {
				case chunks <- some:
					return true
				case <-ctx.Done():
					return false
				}
			})
			if err != nil {
				cancel(err)
			}
		})
		var some []previewed
		return func() (*previewed, bool) {
			for len(some) == 0 {
				var ok bool
				if some, ok = <-chunks; !ok {
					return nil, false
				}
			}
			s := &some[0]
			some = some[1:]
			return s, true
		}
	}
	c := &comparison{
		old: map[lifecycle.Stage]uint64{}, new: map[lifecycle.Stage]uint64{},
		cells: map[[2]lifecycle.Stage]*PreviewCell{}, weeks: map[int64]*PreviewWeek{},
	}
	nextOld, nextNew := read(before), read(after)
	was, more := nextOld()
	is, yet := nextNew()
	for more || yet {
		order := 0
		switch {
		case !yet:
			order = -1
		case !more:
			order = 1
		default:
			order = slices.Compare(was.id[:], is.id[:])
		}
		switch {
		case order < 0:
			c.add(was, nil)
			was, more = nextOld()
		case order > 0:
			c.add(nil, is)
			is, yet = nextNew()
		default:
			c.add(was, is)
			was, more = nextOld()
			is, yet = nextNew()
		}
	}
	work.Wait()
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	for _, o := range c.open {
		e := &o.cell.Examples[o.i]
		side, to := after, &e.New
		if e.Old == nil {
			side, to = before, &e.Old
		}
		other, err := side.of(o.stream)
		if err != nil {
			return nil, err
		}
		*to = other
	}
	return c.result(), nil
}

// add takes a customer as it is on both sides; one of them may be nil.
func (c *comparison) add(was, is *previewed) {
	var cell [2]lifecycle.Stage
	var before, now []lifecycle.Transition
	one := is
	if was != nil {
		one, cell[0], before = was, was.stage(), was.stands
		c.old[cell[0]]++
	}
	if is != nil {
		cell[1], now = is.stage(), is.stands
		c.new[cell[1]]++
	}
	p := c.cells[cell]
	if p == nil {
		p = &PreviewCell{From: string(cell[0]), To: string(cell[1])}
		c.cells[cell] = p
	}
	p.Customers++
	if len(p.Examples) < maxExamples {
		e := PreviewExample{Customer: one.id, Subject: one.first.String()}
		if was != nil {
			e.Old = was.explain()
		}
		if is != nil {
			e.New = is.explain()
		}
		if was == nil || is == nil {
			c.open = append(c.open, openExample{p, len(p.Examples), one.first.stream})
		}
		p.Examples = append(p.Examples, e)
	}
	c.transitions(before, now)
}

// transitions counts what only one of two lists, each in the order of time, has.
func (c *comparison) transitions(was, is []lifecycle.Transition) {
	for len(was) > 0 || len(is) > 0 {
		at := domain.Millis(0)
		if len(was) > 0 {
			at = was[0].At
		}
		if len(is) > 0 && (len(was) == 0 || is[0].At < at) {
			at = is[0].At
		}
		a, b := was[:due(was, at)], is[:due(is, at)]
		was, is = was[len(a):], is[len(b):]
		for i := range a {
			if !hasChange(b, &a[i]) {
				c.week(at).Lost[string(a[i].To)]++
			}
		}
		for i := range b {
			if !hasChange(a, &b[i]) {
				c.week(at).Gained[string(b[i].To)]++
			}
		}
	}
}

// hasChange reports whether a list of the same instant has a change of stage,
// whatever its reason.
func hasChange(list []lifecycle.Transition, t *lifecycle.Transition) bool {
	return slices.ContainsFunc(list, func(o lifecycle.Transition) bool { return o.From == t.From && o.To == t.To })
}

// week is the one of an instant. 1970-01-01 was a Thursday.
func (c *comparison) week(at domain.Millis) *PreviewWeek {
	const length, monday = 7 * domain.Day, 3 * domain.Day
	n := int64((at + monday) / length)
	if (at+monday)%length < 0 {
		n--
	}
	w := c.weeks[n]
	if w == nil {
		w = &PreviewWeek{
			Start: (domain.Millis(n)*length - monday).Time(), Gained: map[string]uint64{}, Lost: map[string]uint64{},
		}
		c.weeks[n] = w
	}
	return w
}

func (c *comparison) result() *Comparison {
	out := &Comparison{Old: stageCounts(c.old), New: stageCounts(c.new), Cells: []PreviewCell{}, Weeks: []PreviewWeek{}}
	all := append(slices.Clone(lifecycle.Stages), lifecycle.None)
	for _, from := range all {
		for _, to := range all {
			if p := c.cells[[2]lifecycle.Stage{from, to}]; p != nil {
				out.Cells = append(out.Cells, *p)
			}
		}
	}
	for _, w := range c.weeks {
		out.Weeks = append(out.Weeks, *w)
	}
	slices.SortFunc(out.Weeks, func(a, b PreviewWeek) int { return a.Start.Compare(b.Start) })
	return out
}

func stageCounts(n map[lifecycle.Stage]uint64) []StageCount {
	all := make([]StageCount, len(lifecycle.Stages))
	for i, s := range lifecycle.Stages {
		all[i] = StageCount{string(s), n[s]}
	}
	return all
}
