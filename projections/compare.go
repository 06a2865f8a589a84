package projections

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"sojourn/domain"
	"sojourn/domain/lifecycle"
	"sojourn/domain/loyalty"
)

// Comparison is where customers stand under an old and a new policy: in which stage of
// the lifecycle, or in which tier of a programme.
//
// They are matched by their ids, so by the subject that gives a customer its id.
// Where the two differ in which subjects are one customer, one that only the old
// policy knows stands in a cell with no To, one that only the new knows in one
// with no From: so the cells of a From add up to what the old policy counts, and
// those of a To to what the new one does. The same goes for a customer that is in a
// programme under one of them only.
type Comparison struct {
	// Old and New count the customers in each stage or tier, all of them in order.
	Old, New []PreviewCount
	// Cells are the pairs that somebody is in, in the same order.
	Cells []PreviewCell
	// Weeks are those in which something changed differently, in order.
	Weeks []PreviewWeek
}

// PreviewCount is how many customers stand somewhere.
type PreviewCount struct {
	Name      string // of the stage or tier
	Customers uint64
}

// PreviewCell is how many customers are in one stage or tier under the old policy
// and in another, or the same, under the new.
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
	// it is the one that its subject belongs to instead. Nil where that is nobody's,
	// or where the customer is not in the programme.
	Old, New *PreviewStanding
}

// PreviewStanding is where a customer stands.
type PreviewStanding struct {
	Customer uuid.UUID
	Name     string // of the stage or tier
	Since    time.Time
	Reason   string // in words
	Cause    string // as in Customer
	Subjects int    // how many it has
	// Balance are its points, where tiers are compared.
	Balance *loyalty.Balance
}

// PreviewWeek counts changes that happened in a week, by the stage or tier they lead
// to.
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
	// programmes are those that are compared, nil for one that this side does not
	// know; eager says which of them it folds by itself.
	programmes []*loyalty.Programme
	eager      []bool
	buf        []byte // of who compares
}

// previewed is a customer of a side that has a stage.
type previewed struct {
	id     uuid.UUID
	first  *subject
	stages []change
	size   int            // subjects
	facts  *loyalty.Facts // nil where no programmes are compared
	points []points       // by programme
}

// previewed is a customer as it is compared.
func (p *previewSide) previewed(c *cust) *previewed {
	s := &previewed{id: c.id, first: c.members[0], stages: stageChanges(c.all[:c.n]), size: len(c.members)}
	p.takePoints(s, c.members)
	return s
}

func stageChanges(all []lifecycle.Transition) []change {
	changes := make([]change, len(all))
	for i := range all {
		t := &all[i]
		changes[i] = change{
			from: string(t.From), to: string(t.To), at: t.At, reason: t.Reason, rule: t.Cause.Rule, touchpoint: t.Cause.Touchpoint,
		}
	}
	return changes
}

// each hands on the customers of a side in the order of their ids, some at a time.
func (p *previewSide) each(ctx context.Context, send func([]*previewed) bool) error {
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
		some := make([]*previewed, 0, len(ids))
		for _, id := range ids {
			c, err := p.fold.whole(id)
			if err != nil {
				return err
			}
			if len(c.members) > 0 && c.n > 0 {
				some = append(some, p.previewed(c))
			}
			if p.fold.polite {
				b.take()
			}
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
func (p *previewSide) of(stream string) (*previewed, error) {
	s := p.fold.find(stream)
	if s == nil || s.nobody {
		return nil, p.fold.err
	}
	c := p.fold.customerOf(p.fold.rootOf(s))
	if c == nil || p.fold.err != nil || c.n == 0 {
		return nil, p.fold.err
	}
	one := p.previewed(c)
	p.foldPoints(one)
	return one, nil
}

// comparison gathers a Comparison.
type comparison struct {
	// course is how a customer came to where it stands, empty where it stands
	// nowhere; balance are its points, nil where they are not compared.
	course  func(*previewed) []change
	balance func(*previewed) *loyalty.Balance

	old, new map[string]uint64
	cells    map[[2]string]*PreviewCell
	weeks    map[int64]*PreviewWeek
	// open are the examples one side of which is another customer.
	open []openExample
}

func newComparison(course func(*previewed) []change, balance func(*previewed) *loyalty.Balance) *comparison {
	return &comparison{
		course: course, balance: balance, old: map[string]uint64{}, new: map[string]uint64{},
		cells: map[[2]string]*PreviewCell{}, weeks: map[int64]*PreviewWeek{},
	}
}

type openExample struct {
	cell   *PreviewCell
	i      int
	stream string
	old    bool // it is the old side
}

// explain says where a customer stands, nil where it stands nowhere.
func (c *comparison) explain(s *previewed) *PreviewStanding {
	if s == nil {
		return nil
	}
	all := c.course(s)
	if len(all) == 0 {
		return nil
	}
	last := &all[len(all)-1]
	return &PreviewStanding{
		Customer: s.id, Name: last.to, Since: last.at.Time(), Reason: last.reason, Cause: last.cause(), Subjects: s.size, Balance: c.balance(s),
	}
}

// compareSides goes through the customers of both, each side in a goroutine of its
// own.
func compareSides(ctx context.Context, before, after *previewSide) (*Comparison, []LoyaltyComparison, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var work sync.WaitGroup
	programmes := compareProgrammes(before, after)
	read := func(p *previewSide) func() (*previewed, bool) {
		chunks := make(chan []*previewed, 4)
		work.Go(func() {
			defer close(chunks)
			err := p.each(ctx, func(some []*previewed) bool {
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
		var some []*previewed
		return func() (*previewed, bool) {
			for len(some) == 0 {
				var ok bool
				if some, ok = <-chunks; !ok {
					return nil, false
				}
			}
			s := some[0]
			some = some[1:]
			return s, true
		}
	}
	stages := newComparison(func(s *previewed) []change { return s.stages }, func(*previewed) *loyalty.Balance { return nil })
	all := []*comparison{stages}
	for _, p := range programmes {
		all = append(all, p.tiers)
	}
	add := func(was, is *previewed) {
		after.settlePoints(was, is)
		for _, c := range all {
			c.add(was, is)
		}
		for _, p := range programmes {
			p.add(was, is)
		}
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
			add(was, nil)
			was, more = nextOld()
		case order > 0:
			add(nil, is)
			is, yet = nextNew()
		default:
			add(was, is)
			was, more = nextOld()
			is, yet = nextNew()
		}
	}
	work.Wait()
	if err := context.Cause(ctx); err != nil {
		return nil, nil, err
	}
	for _, c := range all {
		for _, o := range c.open {
			e := &o.cell.Examples[o.i]
			side, to := after, &e.New
			if o.old {
				side, to = before, &e.Old
			}
			other, err := side.of(o.stream)
			if err != nil {
				return nil, nil, err
			}
			*to = c.explain(other)
		}
	}
	names := make([]string, len(lifecycle.Stages))
	for i, s := range lifecycle.Stages {
		names[i] = string(s)
	}
	var loyalty []LoyaltyComparison
	for _, p := range programmes {
		loyalty = append(loyalty, p.result())
	}
	return stages.result(names), loyalty, nil
}

// add takes a customer as it is on both sides; one of them may be nil.
func (c *comparison) add(was, is *previewed) {
	var from, to string
	var before, now []change
	one := is
	if was != nil {
		one, before = was, c.course(was)
	}
	if is != nil {
		now = c.course(is)
	}
	if len(before) > 0 {
		from = before[len(before)-1].to
		c.old[from]++
	}
	if len(now) > 0 {
		to = now[len(now)-1].to
		c.new[to]++
	}
	if len(before)+len(now) == 0 {
		return
	}
	p := c.cells[[2]string{from, to}]
	if p == nil {
		p = &PreviewCell{From: from, To: to}
		c.cells[[2]string{from, to}] = p
	}
	p.Customers++
	if len(p.Examples) < maxExamples {
		if was == nil || is == nil {
			c.open = append(c.open, openExample{p, len(p.Examples), one.first.stream, was == nil})
		}
		p.Examples = append(p.Examples, PreviewExample{Customer: one.id, Subject: one.first.String(), Old: c.explain(was), New: c.explain(is)})
	}
	c.transitions(before, now)
}

// transitions counts what only one of two lists, each in the order of time, has.
func (c *comparison) transitions(was, is []change) {
	for len(was) > 0 || len(is) > 0 {
		at := domain.Millis(0)
		if len(was) > 0 {
			at = was[0].at
		}
		if len(is) > 0 && (len(was) == 0 || is[0].at < at) {
			at = is[0].at
		}
		a, b := was[:upTo(was, at)], is[:upTo(is, at)]
		was, is = was[len(a):], is[len(b):]
		for i := range a {
			if !hasChange(b, &a[i]) {
				c.week(at).Lost[a[i].to]++
			}
		}
		for i := range b {
			if !hasChange(a, &b[i]) {
				c.week(at).Gained[b[i].to]++
			}
		}
	}
}

// upTo counts the changes up to an instant.
func upTo(all []change, at domain.Millis) int {
	n := 0
	for n < len(all) && all[n].at <= at {
		n++
	}
	return n
}

// hasChange reports whether a list of the same instant has a change, whatever its
// reason.
func hasChange(list []change, t *change) bool {
	return slices.ContainsFunc(list, func(o change) bool { return o.from == t.from && o.to == t.to })
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

// result is the comparison of what bears these names, in order.
func (c *comparison) result(names []string) *Comparison {
	out := &Comparison{Old: previewCounts(names, c.old), New: previewCounts(names, c.new), Cells: []PreviewCell{}, Weeks: []PreviewWeek{}}
	all := append(slices.Clone(names), "")
	for _, from := range all {
		for _, to := range all {
			if p := c.cells[[2]string{from, to}]; p != nil {
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

func previewCounts(names []string, n map[string]uint64) []PreviewCount {
	all := make([]PreviewCount, len(names))
	for i, name := range names {
		all[i] = PreviewCount{name, n[name]}
	}
	return all
}
