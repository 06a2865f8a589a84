package projections

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/google/uuid"

	"sojourn/domain"
	"sojourn/domain/identity"
	"sojourn/domain/lifecycle"
	"sojourn/eventstore"
	"sojourn/warehouse"
)

// cluster is a set of subjects that joins and decisions connect, whether these
// stand or not: nothing outside it bears on which of them are one customer. Joins
// of subjects that the policy does not join connect nothing.
type cluster struct {
	graph    *identity.Graph
	subjects []*subject // by node
	// reported are the conflicts that have been flushed or are about to be.
	reported map[conflictKey]conflict
	// touching are the keys of those by either of their subjects, also of some that
	// are settled; nil until they are looked for.
	touching map[*subject][]conflictKey
}

func (c *cluster) add(s *subject) {
	s.node = c.graph.AddNode(identity.Node{Kind: s.kind, Nobody: s.nobody, Seen: s.first > 0})
	c.subjects = append(c.subjects, s)
	s.cluster = c
}

// forget lets a cluster be loaded anew.
func (c *cluster) forget() {
	for _, s := range c.subjects {
		s.cluster = nil
	}
}

// clusterOf is the cluster of a subject as it is now.
func (f *fold) clusterOf(s *subject) *cluster {
	if s.cluster != nil {
		return s.cluster
	}
	return f.loadCluster(s, f.known)
}

// loadCluster reads the cluster of a subject with what was recorded at or before
// a time. It is solved.
func (f *fold) loadCluster(s *subject, known domain.Millis) *cluster {
	c := &cluster{graph: identity.New(f.rules.compiled.Identity())}
	c.add(s)
	// The graph is complete only when all subjects have their numbers.
	decisions := map[eventstore.Position]*decision{}
	visit := func(stream string, whoever bool) {
		if f.err != nil {
			return
		}
		if o := f.subject(stream); o != nil && o.cluster != c && (whoever || f.joins(o)) {
			c.add(o)
		}
	}
	for i := 0; i < len(c.subjects) && f.err == nil; i++ {
		s := c.subjects[i]
		t := f.tiesOf(s)
		if t == nil {
			continue
		}
		if f.joins(s) {
			for k := range t.joins {
				visit(t.joins[k].hub, false)
			}
			for _, l := range t.links {
				visit(l, false)
			}
		}
		for _, p := range t.decisions {
			if decisions[p] != nil || f.err != nil {
				continue
			}
			d := f.decisionAt(p)
			if d == nil {
				return c
			}
			decisions[p] = d
			for _, stream := range d.streams() {
				visit(stream, true)
			}
		}
	}
	if f.err != nil {
		return c
	}
	for _, s := range c.subjects {
		if s.ties == nil || !f.joins(s) {
			continue
		}
		for i := range s.ties.joins {
			if j := &s.ties.joins[i]; j.recordedAt <= known && f.joins(f.find(j.hub)) {
				c.graph.Add(f.graphJoin(s, j))
			}
		}
	}
	for _, d := range decisions {
		if d.recordedAt <= known {
			c.graph.Decide(f.graphDecision(d))
		}
	}
	c.graph.Solve()
	c.reported = c.conflicts()
	return c
}

// joins reports whether the policy may join a subject with others by itself. Users
// are told apart from visitors even where it does not: an alias asks.
func (f *fold) joins(s *subject) bool {
	_, listed := f.rules.compiled.Identity().Rank(s.kind)
	return !s.nobody && (listed || s.kind == domain.User)
}

// graphJoin is a join by the numbers of its subjects, which are in one cluster.
func (f *fold) graphJoin(s *subject, j *join) identity.Join {
	out := identity.Join{Ref: j.ref, Hub: f.find(j.hub).node, Other: s.node, Index: j.index, Alias: j.alias}
	if j.alias {
		out.Twin = f.find(j.twin).node
	}
	return out
}

func (f *fold) graphDecision(d *decision) identity.Decision {
	nodes := func(streams []string) []int {
		all := make([]int, len(streams))
		for i, s := range streams {
			all[i] = f.find(s).node
		}
		return all
	}
	out := identity.Decision{Position: uint64(d.position), Split: d.split, First: nodes(d.Subjects), Second: nodes(d.Others)}
	return out
}

// tiesOf are the ties of a subject, nil where it has none.
func (f *fold) tiesOf(s *subject) *ties {
	if s.ties != nil || !s.linked || f.err != nil {
		return s.ties
	}
	b, err := f.state.load(tiesKey(s.stream))
	if err == nil {
		s.ties, err = parseTies(b)
	}
	if err != nil {
		f.err = fmt.Errorf("state of %s: %w", s.stream, err)
	}
	return s.ties
}

// tie is the ties of a subject, to be changed.
func (f *fold) tie(s *subject) *ties {
	if f.tiesOf(s) == nil {
		s.ties, s.linked = &ties{}, true
	}
	s.tiesDirty = true
	f.dirty(s)
	return s.ties
}

func (f *fold) membersOf(head *subject) []string {
	if head.members != nil || head.memberCount == 0 || f.err != nil {
		return head.members
	}
	b, err := f.state.load(membersKey(head.stream))
	r := reader{b: b}
	if err == nil {
		r.version()
		head.members = r.strings()
		err = r.done()
	}
	if err == nil && len(head.members) != head.memberCount {
		err = errState
	}
	if err != nil {
		f.err = fmt.Errorf("state of the customer of %s: %w", head.stream, err)
	}
	return head.members
}

// identify keeps the joins that a message asks for and finds what they change: the
// new sets of subjects, each one customer from now on. Where a customer has only
// grown, that is done already, and its transitions are to be found anew.
func (f *fold) identify(a *arrival, s *subject, fresh bool) (groups [][]*subject, grown bool) {
	type news struct {
		other *subject
		join  join
		// after is the message that came before this one in the log and is later in
		// time.
		after uuid.UUID
	}
	var added []news
	for i := range a.named {
		n := &a.named[i]
		o := f.subjectAt(keyOf(n.stream), n.stream, n.value)
		if f.err != nil {
			return nil, false
		}
		if o.value == "" {
			f.name(o, n.value)
			f.dirty(o)
		}
		j := join{ref: a.ref, recordedAt: a.recordedAt, hub: s.stream, index: i, alias: n.alias, twin: n.twin}
		if t := f.tiesOf(o); t == nil {
			added = append(added, news{o, j, uuid.Nil})
		} else if after, ok := t.news(&j); ok {
			added = append(added, news{o, j, after})
		}
	}
	if len(added) == 0 && (!fresh || !s.linked) {
		return nil, false
	}
	if fresh {
		s.first = 0 // the cluster as it was
	}
	c := f.clusterOf(s)
	active := added[:0:0]
	for _, n := range added {
		if !f.joins(s) || !f.joins(n.other) {
			continue // kept, and not tried
		}
		active = append(active, n)
		c = f.unite(c, f.clusterOf(n.other))
	}
	if fresh {
		s.first = a.position
	}
	if f.err != nil {
		return nil, false
	}
	for _, n := range added {
		f.tie(n.other).join(n.join)
		f.tie(s).link(n.other.stream)
	}
	if fresh {
		c.graph.SetSeen(s.node)
	}
	var unions []*subject
	for _, n := range active {
		i, apart := len(c.graph.Joins()), !c.graph.Same(s.node, n.other.node)
		c.graph.Add(f.graphJoin(n.other, &n.join))
		if !c.graph.Solved() {
			continue
		}
		switch outcome := c.graph.Outcome(i); {
		case outcome == identity.Joined && apart:
			unions = append(unions, n.other)
		case outcome == identity.Conflict || outcome == identity.KeptApart:
			// Of several that name the same two the earliest is the conflict.
			f.settled(c, conflictKey{n.after, n.other.id})
			k, x := c.conflict(i)
			c.report(k, x)
			f.conflicts[k] = x
		}
	}
	if !c.graph.Solved() {
		return f.resolve(c), false
	}
	if len(unions) > 0 && len(c.reported) > 0 {
		f.relabel(c, s)
	}
	for _, o := range unions {
		switch {
		case f.rootOf(s) == f.rootOf(o):
		case len(groups) == 0 && f.grow(s, o, s, fresh):
			grown = true
		default:
			groups = f.groups(c, []*subject{s})
		}
		if f.err != nil {
			return nil, false
		}
	}
	return groups, grown
}

// settled takes a conflict back, if it was reported.
func (f *fold) settled(c *cluster, k conflictKey) {
	if _, ok := c.reported[k]; ok {
		delete(c.reported, k)
		f.conflicts[k] = conflict{outcome: identity.Joined}
	}
}

// report keeps a conflict.
func (c *cluster) report(k conflictKey, x conflict) {
	if _, known := c.reported[k]; !known && c.touching != nil {
		c.touch(k, x)
	}
	c.reported[k] = x
}

func (c *cluster) touch(k conflictKey, x conflict) {
	c.touching[x.hub] = append(c.touching[x.hub], k)
	c.touching[x.other] = append(c.touching[x.other], k)
}

// find makes conflicts found by their subjects.
func (c *cluster) find() {
	if c.touching == nil {
		c.touching = make(map[*subject][]conflictKey, 2*len(c.reported))
		for k, x := range c.reported {
			c.touch(k, x)
		}
	}
}

// relabel looks at the conflicts of a customer again that has become one with
// another: those between others stay what they are.
func (f *fold) relabel(c *cluster, of *subject) {
	c.find()
	for _, n := range c.graph.Group(of.node) {
		s := c.subjects[n]
		keys := c.touching[s]
		kept := keys[:0]
		for _, k := range keys {
			x, ok := c.reported[k]
			if !ok {
				continue
			}
			switch is := c.graph.Between(x.hub.node, x.other.node); is {
			case x.outcome:
			case identity.Joined:
				f.settled(c, k)
				continue
			default:
				x.outcome = is
				c.reported[k], f.conflicts[k] = x, x
			}
			kept = append(kept, k)
		}
		c.touching[s] = kept
	}
}

// unite makes one cluster of two.
func (f *fold) unite(a, b *cluster) *cluster {
	if a == b || f.err != nil {
		return a
	}
	if len(a.subjects) < len(b.subjects) {
		a, b = b, a
	}
	by := len(a.subjects)
	a.graph.Absorb(b.graph)
	for _, s := range b.subjects {
		s.node += by
		s.cluster = a
	}
	a.subjects = append(a.subjects, b.subjects...)
	if len(a.reported) < len(b.reported) {
		a.reported, b.reported, a.touching, b.touching = b.reported, a.reported, b.touching, a.touching
	}
	if a.touching != nil && len(b.reported) > 0 {
		b.find()
		maps.Copy(a.touching, b.touching)
	}
	maps.Copy(a.reported, b.reported)
	return a
}

// resolve solves a cluster anew and returns the customers that have changed.
func (f *fold) resolve(c *cluster) [][]*subject {
	c.graph.Solve()
	is := c.conflicts()
	for k := range c.reported {
		if _, still := is[k]; !still {
			f.conflicts[k] = conflict{outcome: identity.Joined}
		}
	}
	for k, x := range is {
		if c.reported[k] != x {
			f.conflicts[k] = x
		}
	}
	c.reported, c.touching = is, nil
	return f.groups(c, c.subjects)
}

// groups are the customers of some subjects, as far as they have changed.
func (f *fold) groups(c *cluster, of []*subject) [][]*subject {
	var groups [][]*subject
	seen := map[int]bool{}
	for _, s := range of {
		root := c.graph.Root(s.node)
		if s.nobody || seen[root] {
			continue
		}
		seen[root] = true
		nodes := c.graph.Group(s.node)
		group := make([]*subject, len(nodes))
		for i, n := range nodes {
			group[i] = c.subjects[n]
		}
		if f.err == nil && f.regrouped(group) {
			groups = append(groups, group)
		}
	}
	return groups
}

// regrouped reports whether subjects that are one customer now were not exactly
// one before.
func (f *fold) regrouped(group []*subject) bool {
	head := f.rootOf(group[0])
	if f.err != nil || head.memberCount+1 != len(group) {
		return true
	}
	for _, s := range group[1:] {
		if f.rootOf(s) != head {
			return true
		}
	}
	return false
}

// conflictKey is a message and the subject it names beside its own.
type conflictKey struct {
	event uuid.UUID
	other uuid.UUID
}

type conflict struct {
	outcome    identity.Outcome
	ref        lifecycle.Ref
	hub, other *subject
	alias      bool
}

func (c *cluster) conflict(i int) (conflictKey, conflict) {
	j := c.graph.Joins()[i]
	hub, other := c.subjects[j.Hub], c.subjects[j.Other]
	return conflictKey{j.Ref.ID, other.id}, conflict{c.graph.Outcome(i), j.Ref, hub, other, j.Alias}
}

// conflicts are all there are. A message that names subjects which an earlier one
// named already is none of its own.
func (c *cluster) conflicts() map[conflictKey]conflict {
	all := map[conflictKey]conflict{}
	type pair struct {
		hub, other int
		alias      bool
	}
	first := map[pair]bool{}
	for i, j := range c.graph.Joins() { // in the order of time, as solved
		p := pair{j.Hub, j.Other, j.Alias}
		if o := c.graph.Outcome(i); o != identity.Conflict && o != identity.KeptApart || first[p] {
			continue
		}
		first[p] = true
		k, x := c.conflict(i)
		all[k] = x
	}
	return all
}

// conflictRow is a conflict as the table has it.
func conflictRow(k conflictKey, x conflict, version warehouse.Version) warehouse.Conflict {
	r := warehouse.Conflict{EventID: k.event, OtherID: k.other, Version: version}
	if x.outcome == identity.Joined {
		r.Removed = true
		return r
	}
	r.Status = "open"
	if x.outcome == identity.KeptApart {
		r.Status = x.outcome.String()
	}
	r.OccurredAt = int64(x.ref.At)
	r.SubjectID, r.Subject, r.Other = x.hub.id, x.hub.String(), x.other.String()
	return r
}

// regroup makes customers of the given sets of subjects. The touchpoint at hand,
// if any, is taken by s; with decided set nothing that changes is news.
func (f *fold) regroup(groups [][]*subject, s *subject, fresh, decided bool, take func()) {
	var before []*cust
	note := func(list []*cust, c *cust) []*cust {
		if c != nil && !slices.Contains(list, c) {
			return append(list, c)
		}
		return list
	}
	noteHead := func(o *subject) {
		if fresh && o == s && o.head == "" && o.memberCount == 0 {
			return // it was nobody's before
		}
		before = note(before, f.customerOf(f.rootOf(o)))
	}
	if s != nil && !s.nobody {
		noteHead(s)
	}
	for _, g := range groups {
		for _, o := range g {
			noteHead(o)
		}
	}
	if f.err != nil {
		return
	}
	f.catchUp(before...)
	was := map[*subject]uuid.UUID{}
	for _, c := range before {
		c.advance(f.before)
		f.part(c)
		for _, m := range c.members {
			m.cust = nil
			was[m] = c.id
		}
		c.leave()
		f.change(c)
	}
	var heads []*subject
	for _, g := range groups {
		heads = append(heads, f.setHead(g))
	}
	if s != nil && !s.nobody {
		if h := f.rootOf(s); !slices.Contains(heads, h) {
			heads = append(heads, h)
		}
	}
	take()
	var after []*cust
	for i, h := range heads {
		c := f.attach(h)
		if c == nil && i < len(groups) {
			for _, m := range groups[i] {
				if id, ok := was[m]; ok {
					m.was(id) // a command may name it all the same
				}
				m.lone = true
				f.dirty(m)
			}
		}
		after = note(after, c)
	}
	if f.err != nil {
		return
	}
	for _, c := range after {
		if !slices.Contains(before, c) {
			// It is new or comes back: nothing of it stood.
			c.all, c.n, c.news, c.lines = nil, 0, nil, nil
		}
		for _, m := range c.members {
			if id, ok := was[m]; ok && id != c.id {
				m.was(id)
				f.dirty(m)
			}
		}
		if !c.foreign {
			f.replaceLines(c, decided)
			c.replace(f.rules.transitions(c.facts()), f.step, decided)
		}
		f.change(c)
	}
	for _, c := range before {
		if len(c.members) == 0 {
			c.all, c.n, c.news, c.lines = nil, 0, nil, nil
		}
	}
}

// growFrom is from how many subjects beside its head on a customer grows by what
// joins it, instead of being put together anew. Tests set it.
var growFrom = 8

// grow lets the smaller of two customers, those of x and y, join the larger, where
// that is large and keeps its id. It reports whether it did; the touchpoint at hand
// is s's and is not taken yet.
func (f *fold) grow(x, y, s *subject, fresh bool) bool {
	large, small := f.rootOf(x), f.rootOf(y)
	if f.err != nil {
		return false
	}
	if large.memberCount < small.memberCount {
		large, small = small, large
	}
	if large.memberCount < growFrom {
		return false
	}
	f.catchUp(large.cust, small.cust)
	c := f.customerOf(large)
	joining := f.members(small)
	if f.err != nil || c == nil || bySeniority(c.members[0], joining[0]) > 0 {
		return false
	}
	stranger := fresh && small == s && small.memberCount == 0 // it was nobody's before
	if !stranger {
		if gone := f.customerOf(small); gone != nil {
			for _, m := range gone.members {
				m.was(gone.id)
			}
			gone.advance(f.before)
			gone.leave()
			gone.all, gone.n, gone.news, gone.lines = nil, 0, nil, nil
			f.change(gone)
		}
	}
	if !c.foreign {
		c.advance(f.before)
		c.facts() // has them merged
		f.part(c)
	}
	streams := f.membersOf(large)
	for _, m := range joining {
		if !c.foreign {
			f.keep(m)
		}
		streams = append(streams, m.stream)
		m.membersDirty = m.membersDirty || m.memberCount > 0
		m.head, m.members, m.memberCount = large.stream, nil, 0
		m.cust, m.lone = c, false
		f.dirty(m)
		c.members = append(c.members, m)
		if !c.foreign && m.facts.Touchpoints+uint64(m.facts.Loyalty.Len()) > 0 {
			c.merged.Merge(&m.facts)
			c.course = nil
		}
	}
	large.members, large.memberCount, large.membersDirty = streams, len(streams), true
	f.dirty(large)
	f.change(c)
	return f.err == nil
}

// setHead puts one of the subjects of a customer at its head: the one that is at
// the head of most of them already.
func (f *fold) setHead(group []*subject) *subject {
	head := group[0]
	for _, s := range group {
		if s.head == "" && (head.head != "" || s.memberCount > head.memberCount ||
			s.memberCount == head.memberCount && strings.Compare(s.stream, head.stream) < 0) {
			head = s
		}
	}
	if head.head != "" {
		slices.SortFunc(group, func(a, b *subject) int { return strings.Compare(a.stream, b.stream) })
		head = group[0]
	}
	members := make([]string, 0, len(group)-1)
	for _, s := range group {
		if s == head {
			continue
		}
		members = append(members, s.stream)
		if s.head != head.stream || s.memberCount > 0 {
			s.head = head.stream
			s.membersDirty = s.membersDirty || s.memberCount > 0
			s.members, s.memberCount = nil, 0
			f.dirty(s)
		}
	}
	slices.Sort(members)
	head.head = ""
	head.members, head.memberCount, head.membersDirty = members, len(members), true
	f.dirty(head)
	return head
}
