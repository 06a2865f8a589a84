package projections

import (
	"fmt"
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
// stand or not: nothing outside it bears on which of them are one customer.
type cluster struct {
	graph    *identity.Graph
	subjects []*subject // by node
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
	return f.loadCluster(s, domain.MaxTime)
}

// loadCluster reads the cluster of a subject with what was recorded at or before
// a time. It is solved.
func (f *fold) loadCluster(s *subject, known domain.Millis) *cluster {
	c := &cluster{graph: identity.New(f.rules.compiled.Identity())}
	c.add(s)
	// The graph is complete only when all subjects have their numbers.
	decisions := map[eventstore.Position]*decision{}
	visit := func(stream string) {
		if f.err != nil {
			return
		}
		if o := f.subject(stream); o != nil && o.cluster != c {
			c.add(o)
		}
	}
	for i := 0; i < len(c.subjects) && f.err == nil; i++ {
		t := f.tiesOf(c.subjects[i])
		if t == nil {
			continue
		}
		for k := range t.joins {
			visit(t.joins[k].hub)
			if t.joins[k].alias {
				visit(t.joins[k].twin)
			}
		}
		for _, l := range t.links {
			visit(l)
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
				visit(stream)
			}
		}
	}
	if f.err != nil {
		return c
	}
	for _, s := range c.subjects {
		if s.ties == nil {
			continue
		}
		for i := range s.ties.joins {
			if j := &s.ties.joins[i]; j.recordedAt <= known {
				c.graph.Add(f.graphJoin(s, j))
			}
		}
	}
	for _, d := range decisions {
		if d.recordedAt <= known {
			c.graph.Decide(f.graphDecision(d))
		}
	}
	if known < domain.MaxTime {
		c.asKnown(known)
	}
	c.graph.Solve()
	return c
}

// asKnown has the graph take for unseen what was not seen yet.
func (c *cluster) asKnown(known domain.Millis) {
	for _, s := range c.subjects {
		if s.firstAt > known {
			c.graph.SetUnseen(s.node)
		}
	}
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

// identify keeps the joins that a message asks for and finds what they change: it
// returns the new sets of subjects, each one customer from now on, or none where
// nothing changes.
func (f *fold) identify(a *arrival, s *subject, fresh bool) [][]*subject {
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
		o := f.subject(n.stream)
		if f.err != nil {
			return nil
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
	reread := fresh && s.linked
	if len(added) == 0 && !reread {
		return nil
	}
	// The cluster as it was, before anything is added to it.
	if fresh {
		s.first = 0
	}
	c := f.clusterOf(s)
	for _, n := range added {
		c = f.unite(c, f.clusterOf(n.other))
		if n.join.alias {
			c = f.unite(c, f.clusterOf(f.subject(n.join.twin)))
		}
	}
	if f.err != nil {
		return nil
	}
	if fresh {
		s.first = a.position
		c.graph.SetSeen(s.node)
	}
	before := len(c.graph.Joins())
	for _, n := range added {
		t := f.tie(n.other)
		t.join(n.join)
		f.tie(s).link(n.other.stream)
		if n.join.alias && n.join.twin != n.other.stream {
			twin := f.subject(n.join.twin)
			t.link(twin.stream)
			f.tie(twin).link(n.other.stream)
		}
		c.graph.Add(f.graphJoin(n.other, &n.join))
	}
	if c.graph.Solved() {
		for i, n := range added {
			if n.after != uuid.Nil && c.graph.Outcome(before+i) == identity.Conflict {
				// Of several that name the same two the earliest is the conflict.
				f.conflicts[conflictKey{n.after, n.other.id}] = conflict{outcome: identity.Joined}
			}
		}
	}
	return f.resolve(c, before)
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
	return a
}

// resolve solves a cluster to which something has been added and returns the
// customers that have changed. before is how many joins it had until then.
func (f *fold) resolve(c *cluster, before int) [][]*subject {
	var touched []*subject
	if c.graph.Solved() {
		// Only what was added last has been tried.
		for i := before; i < len(c.graph.Joins()); i++ {
			j := c.graph.Joins()[i]
			if f.reportConflict(c, i); c.graph.Outcome(i) == identity.Joined {
				touched = append(touched, c.subjects[j.Hub])
			}
		}
	} else {
		was := c.conflicts(before)
		c.graph.Solve()
		is := c.conflicts(len(c.graph.Joins()))
		for k, v := range was {
			if is[k] != v {
				f.conflicts[k] = conflict{outcome: identity.Joined}
			}
		}
		for k, v := range is {
			if was[k] != v {
				f.conflicts[k] = v
			}
		}
		touched = c.subjects
	}
	var groups [][]*subject
	seen := map[int]bool{}
	for _, s := range touched {
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

// conflictKey is a pair of subjects by their ids: of the messages that name them
// together the earliest is the conflict.
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

// conflicts are those among the first n joins. A message that names subjects
// which an earlier one named already is none of its own.
func (c *cluster) conflicts(n int) map[conflictKey]conflict {
	all := map[conflictKey]conflict{}
	type pair struct {
		hub, other int
		alias      bool
	}
	first := map[pair]conflictKey{}
	for i := range n {
		if o := c.graph.Outcome(i); o != identity.Conflict && o != identity.KeptApart {
			continue
		}
		j := c.graph.Joins()[i]
		key, x := c.conflict(i)
		p := pair{j.Hub, j.Other, j.Alias}
		if k, ok := first[p]; ok {
			if all[k].ref.Compare(x.ref) <= 0 {
				continue
			}
			delete(all, k)
		}
		first[p] = key
		all[key] = x
	}
	return all
}

// reportConflict notes what became of a join that was tried by itself.
func (f *fold) reportConflict(c *cluster, i int) {
	if o := c.graph.Outcome(i); o == identity.Conflict || o == identity.KeptApart {
		k, x := c.conflict(i)
		f.conflicts[k] = x
	}
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
	for _, c := range before {
		c.advance(f.before)
		for _, m := range c.members {
			m.cust = nil
		}
		c.members, c.root, c.course = nil, "", nil
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
			c.all, c.n, c.news = nil, 0, nil
		}
		c.replace(f.rules.transitions(c.facts()), f.step, decided)
		f.change(c)
	}
	for _, c := range before {
		if len(c.members) == 0 {
			c.all, c.n, c.news = nil, 0, nil
		}
	}
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
