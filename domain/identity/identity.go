// Package identity says which subjects are one customer: a function of the joins
// that messages ask for, of what people decide, and of the policy. The rules are
// those of docs/decisions/0006-who-is-one-customer.md.
package identity

import (
	"cmp"
	"slices"

	"sojourn/domain"
	"sojourn/domain/lifecycle"
)

// Rules are what the policy says of identity.
type Rules interface {
	// Rank is the place of a kind among those that join by themselves; false where
	// it does not.
	Rank(domain.SubjectKind) (int, bool)
	// Limit is how many subjects of a kind joins may bring together, 0 for any
	// number.
	Limit(domain.SubjectKind) int
	// Nobody reports whether a value is no identity.
	Nobody(value string) bool
	// AliasUsers reports whether an alias may join two users.
	AliasUsers() bool
}

// Node is a subject as a graph has it.
type Node struct {
	Kind domain.SubjectKind
	// Nobody is set where its value is no identity.
	Nobody bool
	// Seen is set where a touchpoint is recorded under it. Only a user id that was
	// seen makes the previousId of an alias a user.
	Seen bool
}

// Join is a pair of subjects that a message names together.
type Join struct {
	Ref        lifecycle.Ref // the message
	Hub, Other int           // nodes: the message's own subject, and the one it names
	// Index is its place among those that the message names.
	Index int
	// Alias is set where Other is the previousId of an alias. An alias gives two
	// joins, one for each thing the id may be; Twin is the user it would be.
	Alias bool
	Twin  int
}

// Outcome is what became of a join.
type Outcome uint8

// The outcomes.
const (
	// NotTried: the policy does not list the kind, a value is no identity, or an
	// alias means the other subject.
	NotTried Outcome = iota
	// Joined: both subjects are one customer, by this join or otherwise.
	Joined
	// Conflict: they are not, because it would break a limit.
	Conflict
	// KeptApart: they are not, because people keep the two apart.
	KeptApart
)

// String is the outcome as answers name it.
func (o Outcome) String() string {
	return [...]string{"not_tried", "joined", "conflict", "kept_apart"}[o]
}

// Decision is a merge or a split by hand.
type Decision struct {
	// Position is its place in the log: of two decisions the later holds.
	Position uint64
	// Split tells what the two sets are: of a merge the subjects it names and the
	// members that their customers had; of a split those that leave and those that
	// stay.
	Split         bool
	First, Second []int

	about []int // both, sorted
}

// Graph is a set of subjects, the joins and decisions about them, and which of
// them are one customer. Joins in order are added to what is known; after
// anything else call Solve. Not safe for concurrent use.
type Graph struct {
	rules     Rules
	nodes     []Node
	joins     []Join
	outcomes  []Outcome // Conflict also where the two have become one otherwise
	decisions []Decision

	// auto holds what joins connect by themselves, which is what limits are counted
	// in; all what glue connects, too.
	auto, all forest
	counts    [][]count // by root in auto
	by        [][]int   // by node: the joins that connected it in auto
	degree    []int     // by node: the joins of it
	marks     []marks   // by root in all
	lifts     [][]int   // by decision: the later merges that both sides may share
	last      int       // the last join in order, -1 where there is none
	unsolved  bool
}

type count struct {
	kind domain.SubjectKind
	n    int
}

// marks are the subjects of a set that a split speaks of, by decision and side.
type marks map[int]*[2][]int

func (m *marks) add(decision, side int, nodes ...int) {
	if *m == nil {
		*m = marks{}
	}
	sides := (*m)[decision]
	if sides == nil {
		sides = &[2][]int{}
		(*m)[decision] = sides
	}
	sides[side] = append(sides[side], nodes...)
}

// merge adds what others has.
func (m *marks) merge(others marks) {
	for decision, sides := range others {
		for side, nodes := range sides {
			if len(nodes) > 0 {
				m.add(decision, side, nodes...)
			}
		}
	}
}

// New returns a graph without subjects.
func New(rules Rules) *Graph { return &Graph{rules: rules, last: -1} }

// AddNode adds a subject, connected with nothing yet, and returns its number;
// numbers go up from 0.
func (g *Graph) AddNode(n Node) int {
	i := len(g.nodes)
	g.nodes = append(g.nodes, n)
	g.auto.add()
	g.all.add()
	g.counts = append(g.counts, []count{{n.Kind, 1}})
	g.marks = append(g.marks, nil)
	g.by = append(g.by, nil)
	g.degree = append(g.degree, 0)
	return i
}

// Len is the number of subjects.
func (g *Graph) Len() int { return len(g.nodes) }

// Node returns a subject.
func (g *Graph) Node(i int) Node { return g.nodes[i] }

// SetSeen notes that a touchpoint was recorded under a subject. Where an alias
// may mean the subject, the graph must be solved again.
func (g *Graph) SetSeen(i int) {
	if g.nodes[i].Seen {
		return
	}
	g.nodes[i].Seen = true
	for _, j := range g.joins {
		if j.Alias && j.Twin == i {
			g.unsolved = true
			return
		}
	}
}

// Joins returns the joins; Outcome tells what became of each, by index. The order
// is that in which they were added, or after Solve that in which they are tried.
func (g *Graph) Joins() []Join { return g.joins }

// Outcome is what became of a join in the end.
func (g *Graph) Outcome(i int) Outcome {
	if g.outcomes[i] != Conflict {
		return g.outcomes[i]
	}
	return g.Between(g.joins[i].Hub, g.joins[i].Other)
}

// Between is what becomes of a join of two subjects that did not join them.
func (g *Graph) Between(a, b int) Outcome {
	x, y := g.all.root(a), g.all.root(b)
	if x == y {
		return Joined
	}
	if g.apart(x, y) {
		return KeptApart
	}
	return Conflict
}

// Decide adds a decision. Solve must be called.
func (g *Graph) Decide(d Decision) {
	g.decisions = append(g.decisions, d)
	g.unsolved = true
}

// Absorb adds the subjects, joins and decisions of another graph under the same
// rules, which have nothing in common with those of g: its nodes follow g's own,
// in order. The other graph must not be used again.
func (g *Graph) Absorb(o *Graph) {
	by := len(g.nodes)
	g.nodes = append(g.nodes, o.nodes...)
	g.auto.absorb(&o.auto)
	g.all.absorb(&o.all)
	g.counts = append(g.counts, o.counts...)
	for _, theirs := range o.marks {
		var ours marks
		for decision, sides := range theirs {
			for side, nodes := range sides {
				ours.add(decision+len(g.decisions), side, shifted(nodes, by)...)
			}
		}
		g.marks = append(g.marks, ours)
	}
	for _, lifts := range o.lifts {
		for i := range lifts {
			lifts[i] += len(g.decisions)
		}
		g.lifts = append(g.lifts, lifts)
	}
	g.degree = append(g.degree, o.degree...)
	joins := len(g.joins)
	for _, by := range o.by {
		for i := range by {
			by[i] += joins
		}
		g.by = append(g.by, by)
	}
	for _, j := range o.joins {
		j.Hub, j.Other, j.Twin = j.Hub+by, j.Other+by, j.Twin+by
		g.joins = append(g.joins, j)
	}
	g.outcomes = append(g.outcomes, o.outcomes...)
	for _, d := range o.decisions {
		d.First, d.Second, d.about = shifted(d.First, by), shifted(d.Second, by), shifted(d.about, by)
		g.decisions = append(g.decisions, d)
	}
	if o.last >= 0 && (g.last < 0 || g.compare(&g.joins[joins+o.last], &g.joins[g.last]) > 0) {
		g.last = joins + o.last
	}
	g.unsolved = g.unsolved || o.unsolved
}

func shifted(nodes []int, by int) []int {
	out := make([]int, len(nodes))
	for i, n := range nodes {
		out[i] = n + by
	}
	return out
}

// Add adds a join and tries it at once, unless it comes before others in the order
// in which they are tried and may change what became of them: Solve must be called
// then.
func (g *Graph) Add(j Join) {
	g.joins = append(g.joins, j)
	g.outcomes = append(g.outcomes, NotTried)
	i := len(g.joins) - 1
	late := g.last >= 0 && g.compare(&g.joins[i], &g.joins[g.last]) < 0
	if !late {
		g.last = i
	}
	stranger := g.stranger(j.Hub) || g.stranger(j.Other)
	g.degree[j.Hub]++
	g.degree[j.Other]++
	switch {
	case g.unsolved:
	case late && stranger:
		// It brings somebody who counts nowhere: when it does changes nothing.
		g.outcomes[i] = g.try(i)
	case late && len(g.decisions) > 0:
		g.unsolved = true
	case late:
		g.outcomes[i], g.unsolved = g.tryLate(i)
	default:
		g.outcomes[i] = g.try(i)
	}
}

// stranger reports whether nothing was said of a subject yet, of a kind of which
// a customer may have any number: with whomever it is put together, nothing else
// changes.
func (g *Graph) stranger(node int) bool {
	return g.degree[node] == 0 && g.all.size[g.all.root(node)] == 1 && len(g.marks[node]) == 0 && g.rules.Limit(g.nodes[node].Kind) == 0
}

// tryLate finds what would have become of a join in its turn, where there are no
// decisions. If it joins something, what came after it must be tried anew;
// otherwise nothing is changed.
func (g *Graph) tryLate(i int) (o Outcome, changes bool) {
	j := &g.joins[i]
	if !g.tried(j) {
		return NotTried, false
	}
	a := g.then(j.Hub, j)
	if slices.Contains(a, j.Other) {
		return Joined, false
	}
	if !g.fits(g.kinds(a), g.kinds(g.then(j.Other, j)), j) {
		return Conflict, false
	}
	return NotTried, true
}

// then is the set that a subject was in when a join had its turn.
func (g *Graph) then(node int, before *Join) []int {
	set := []int{node}
	from := map[int]bool{node: true}
	for i := 0; i < len(set); i++ {
		for _, k := range g.by[set[i]] {
			j := &g.joins[k]
			next := j.Hub + j.Other - set[i]
			if !from[next] && g.compare(j, before) < 0 {
				from[next] = true
				set = append(set, next)
			}
		}
	}
	return set
}

func (g *Graph) kinds(set []int) []count {
	var all []count
	for _, n := range set {
		all = addCount(all, count{g.nodes[n].Kind, 1})
	}
	return all
}

func addCount(all []count, c count) []count {
	i := slices.IndexFunc(all, func(x count) bool { return x.kind == c.kind })
	if i < 0 {
		return append(all, c)
	}
	all[i].n += c.n
	return all
}

// Solved reports whether Solve need not be called.
func (g *Graph) Solved() bool { return !g.unsolved }

// Solve finds out anew which subjects are one customer.
func (g *Graph) Solve() {
	g.auto.reset()
	g.all.reset()
	for i, n := range g.nodes {
		g.counts[i] = append(g.counts[i][:0:0], count{n.Kind, 1})
		g.marks[i], g.by[i] = nil, g.by[i][:0]
	}
	g.decide()
	slices.SortFunc(g.joins, func(a, b Join) int { return g.compare(&a, &b) })
	for i := range g.joins {
		g.outcomes[i] = g.try(i)
	}
	g.last = len(g.joins) - 1
	g.unsolved = false
}

// compare orders joins as they are tried.
func (g *Graph) compare(a, b *Join) int {
	if c := a.Ref.Compare(b.Ref); c != 0 {
		return c
	}
	rank := func(j *Join) int {
		r, ok := g.rules.Rank(g.nodes[j.Other].Kind)
		if !ok {
			return 1 << 30
		}
		return r
	}
	return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Index, b.Index))
}

// tried reports whether the policy lets a join be tried.
func (g *Graph) tried(j *Join) bool {
	// Where the two are one subject, or an id is the other one, there is nothing to
	// join.
	return g.allowed(j.Hub) && g.allowed(j.Other) && j.Hub != j.Other &&
		(!j.Alias || g.nodes[j.Twin].Seen == (j.Other == j.Twin))
}

func (g *Graph) allowed(node int) bool {
	n := &g.nodes[node]
	if n.Nobody {
		return false
	}
	_, ok := g.rules.Rank(n.Kind)
	return ok
}

// try lets a join join its subjects, if it may.
func (g *Graph) try(i int) Outcome {
	j := &g.joins[i]
	if !g.tried(j) {
		return NotTried
	}
	a, b := g.auto.root(j.Hub), g.auto.root(j.Other)
	x, y := g.all.root(j.Hub), g.all.root(j.Other)
	fits := a == b || g.fits(g.counts[a], g.counts[b], j)
	if x != y {
		if !fits || g.apart(x, y) {
			return Conflict
		}
	}
	if a != b && fits {
		g.joinAuto(a, b)
		g.by[j.Hub], g.by[j.Other] = append(g.by[j.Hub], i), append(g.by[j.Other], i)
	}
	g.joinAll(x, y)
	return Joined
}

// fits reports whether two sets are within the limits together.
func (g *Graph) fits(a, b []count, j *Join) bool {
	for _, x := range a {
		limit := g.rules.Limit(x.kind)
		if limit == 0 || x.kind == domain.User && j.Alias && j.Other == j.Twin && g.rules.AliasUsers() {
			continue
		}
		for _, y := range b {
			if x.kind == y.kind && x.n+y.n > limit {
				return false
			}
		}
	}
	return true
}

func (g *Graph) joinAuto(a, b int) {
	root, other := g.auto.union(a, b)
	for _, y := range g.counts[other] {
		g.counts[root] = addCount(g.counts[root], y)
	}
	g.counts[other] = nil
}

func (g *Graph) joinAll(x, y int) {
	if x == y {
		return
	}
	root, other := g.all.union(x, y)
	if len(g.marks[root]) < len(g.marks[other]) {
		g.marks[root], g.marks[other] = g.marks[other], g.marks[root]
	}
	g.marks[root].merge(g.marks[other])
	g.marks[other] = nil
}

// apart reports whether a decision keeps two sets apart.
func (g *Graph) apart(x, y int) bool {
	a, b := g.marks[x], g.marks[y]
	if len(a) > len(b) {
		a, b = b, a
	}
	for decision, ours := range a {
		theirs := b[decision]
		if theirs == nil {
			continue
		}
		for side, nodes := range ours {
			for _, n := range nodes {
				for _, o := range theirs[1-side] {
					if !g.lifted(decision, n, o) {
						return true
					}
				}
			}
		}
	}
	return false
}

// lifted reports whether a later merge has brought together the customers that
// two subjects were of.
func (g *Graph) lifted(split, a, b int) bool {
	for _, m := range g.lifts[split] {
		d := &g.decisions[m]
		if d.holds(a) && d.holds(b) {
			return true
		}
	}
	return false
}

// holds reports whether a decision is about a subject.
func (d *Decision) holds(node int) bool {
	_, ok := slices.BinarySearch(d.about, node)
	return ok
}

// decide lays the decisions out: from the last to the first, so that each gives
// way to all that came later.
func (g *Graph) decide() {
	slices.SortFunc(g.decisions, func(a, b Decision) int { return cmp.Compare(a.Position, b.Position) })
	g.lifts = make([][]int, len(g.decisions))
	var merges []int
	for i := len(g.decisions) - 1; i >= 0; i-- {
		d := &g.decisions[i]
		d.about = append(append(make([]int, 0, len(d.First)+len(d.Second)), d.First...), d.Second...)
		slices.Sort(d.about)
		g.glue(d.First)
		if !d.Split {
			merges = append(merges, i)
			continue
		}
		g.glue(d.Second)
		g.lifts[i] = slices.Clone(merges)
		g.mark(i, 0, d.First)
		g.mark(i, 1, d.Second)
	}
}

// glue makes one customer of some subjects, as far as later decisions let it.
func (g *Graph) glue(nodes []int) {
	var sets []int // a subject of each set that could not be glued to another
next:
	for _, n := range nodes {
		if g.nodes[n].Nobody {
			continue
		}
		for _, s := range sets {
			x, y := g.all.root(s), g.all.root(n)
			if x == y {
				continue next
			}
			if !g.apart(x, y) {
				g.joinAll(x, y)
				continue next
			}
		}
		sets = append(sets, n)
	}
}

func (g *Graph) mark(decision, side int, nodes []int) {
	for _, n := range nodes {
		if !g.nodes[n].Nobody {
			g.marks[g.all.root(n)].add(decision, side, n)
		}
	}
}

// Same reports whether two subjects are one customer.
func (g *Graph) Same(a, b int) bool { return g.all.root(a) == g.all.root(b) }

// Group lists the subjects of the customer of one, itself first.
func (g *Graph) Group(node int) []int { return g.all.group(node) }

// Root is a number that the subjects of one customer have in common, until the
// graph changes.
func (g *Graph) Root(node int) int { return g.all.root(node) }

// forest keeps disjoint sets.
type forest struct {
	parent, size []int
	next         []int // the subjects of a set in a circle
}

func (f *forest) add() {
	n := len(f.parent)
	f.parent, f.size, f.next = append(f.parent, n), append(f.size, 1), append(f.next, n)
}

func (f *forest) reset() {
	for i := range f.parent {
		f.parent[i], f.size[i], f.next[i] = i, 1, i
	}
}

func (f *forest) absorb(o *forest) {
	by := len(f.parent)
	for i := range o.parent {
		f.parent, f.next = append(f.parent, o.parent[i]+by), append(f.next, o.next[i]+by)
	}
	f.size = append(f.size, o.size...)
}

func (f *forest) root(i int) int {
	for f.parent[i] != i {
		f.parent[i] = f.parent[f.parent[i]]
		i = f.parent[i]
	}
	return i
}

// union joins two roots and returns the one that stays.
func (f *forest) union(a, b int) (root, other int) {
	if f.size[a] < f.size[b] {
		a, b = b, a
	}
	f.parent[b] = a
	f.size[a] += f.size[b]
	f.next[a], f.next[b] = f.next[b], f.next[a]
	return a, b
}

func (f *forest) group(i int) []int {
	all := make([]int, 0, f.size[f.root(i)])
	all = append(all, i)
	for n := f.next[i]; n != i; n = f.next[n] {
		all = append(all, n)
	}
	return all
}
