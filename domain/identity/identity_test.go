package identity_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"sojourn/domain"
	"sojourn/domain/identity"
	"sojourn/domain/lifecycle"
	"sojourn/domain/policy"
)

func rules(change func(*policy.Policy)) identity.Rules {
	p := policy.Default()
	if change != nil {
		change(&p)
	}
	return p.Compile().Identity()
}

// people are the nodes of a graph: users, visitors, e-mails.
var kinds = []domain.SubjectKind{domain.User, domain.User, domain.User, domain.Anon, domain.Anon, domain.Anon, domain.Email, domain.Email, domain.Phone}

func ref(at, id int) lifecycle.Ref {
	return lifecycle.Ref{At: domain.Millis(at), ID: uuid.UUID{14: byte(id >> 8), 15: byte(id)}}
}

func withPeople(r identity.Rules) *identity.Graph {
	g := identity.New(r)
	for _, k := range kinds {
		g.AddNode(identity.Node{Kind: k, Seen: k == domain.User})
	}
	return g
}

// picture is what a graph says: who is one customer, and what became of each join.
func picture(g *identity.Graph) string {
	var lines []string
	for i := range g.Len() {
		group := g.Group(i)
		slices.Sort(group)
		lines = append(lines, fmt.Sprint(group))
	}
	var joins []string
	for i, j := range g.Joins() {
		joins = append(joins, fmt.Sprintf("%d-%d %v %s", j.Hub, j.Other, j.Ref.ID[14:], g.Outcome(i)))
	}
	slices.Sort(joins)
	return fmt.Sprint(lines, joins)
}

func drawJoin(t *rapid.T, id int) identity.Join {
	j := identity.Join{
		Ref: ref(rapid.IntRange(0, 9).Draw(t, "at"), id), Hub: rapid.IntRange(0, 5).Draw(t, "hub"),
		Other: rapid.IntRange(0, len(kinds)-1).Draw(t, "other"),
	}
	if rapid.IntRange(0, 4).Draw(t, "alias") == 0 {
		j.Alias, j.Twin = true, rapid.IntRange(0, 2).Draw(t, "twin")
		if rapid.Bool().Draw(t, "a user") {
			j.Other = j.Twin
		}
	}
	return j
}

// Whatever the order in which joins and decisions come, and however graphs are
// put together, the end is that of solving everything at once.
func TestTheEndIsThatOfSolvingAnew(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rules(func(p *policy.Policy) {
			p.Identity.AliasUsers = rapid.Bool().Draw(t, "alias users")
			p.Identity.Limits["email"] = rapid.IntRange(1, 2).Draw(t, "emails")
		})
		grown, fresh := withPeople(r), withPeople(r)
		for id := range rapid.IntRange(0, 25).Draw(t, "steps") {
			if rapid.IntRange(0, 7).Draw(t, "decision") == 0 {
				some := rapid.Permutation([]int{0, 1, 2, 3, 4, 5, 6, 7, 8}).Draw(t, "subjects")
				d := identity.Decision{Position: uint64(id), Split: rapid.Bool().Draw(t, "split"), First: some[:2], Second: some[2:4]}
				grown.Decide(d)
				fresh.Decide(d)
			} else {
				j := drawJoin(t, id)
				grown.Add(j)
				fresh.Add(j)
			}
			if !grown.Solved() {
				grown.Solve()
			}
		}
		fresh.Solve()
		if got, want := picture(grown), picture(fresh); got != want {
			t.Fatalf("step by step\n%s\nat once\n%s", got, want)
		}
	})
}

func TestGraphsOfStrangersAreOneGraph(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rules(nil)
		two := []*identity.Graph{withPeople(r), withPeople(r)}
		whole := identity.New(r)
		for range two {
			for _, k := range kinds {
				whole.AddNode(identity.Node{Kind: k, Seen: k == domain.User})
			}
		}
		id := 0
		add := func(side int) {
			j := drawJoin(t, id)
			two[side].Add(j)
			if !two[side].Solved() {
				two[side].Solve()
			}
			by := side * len(kinds)
			j.Hub, j.Other, j.Twin = j.Hub+by, j.Other+by, j.Twin+by
			whole.Add(j)
			id++
		}
		decide := func(side int) {
			d := identity.Decision{Position: uint64(id), Split: rapid.Bool().Draw(t, "split"), First: []int{0, 3}, Second: []int{1, 4}}
			two[side].Decide(d)
			two[side].Solve()
			by := side * len(kinds)
			whole.Decide(identity.Decision{Position: d.Position, Split: d.Split, First: []int{by, 3 + by}, Second: []int{1 + by, 4 + by}})
			id++
		}
		for range rapid.IntRange(0, 15).Draw(t, "steps") {
			side := rapid.IntRange(0, 1).Draw(t, "side")
			if rapid.IntRange(0, 5).Draw(t, "decision") == 0 {
				decide(side)
			} else {
				add(side)
			}
		}
		two[0].Absorb(two[1])
		// They meet: the first user of each knows the other's first visitor.
		last := identity.Join{Ref: ref(rapid.IntRange(0, 9).Draw(t, "at"), 1000), Hub: 0, Other: 3 + len(kinds)}
		for _, g := range []*identity.Graph{two[0], whole} {
			g.Add(last)
			g.Solve()
		}
		if got, want := picture(two[0]), picture(whole); got != want {
			t.Fatalf("put together\n%s\nfrom the start\n%s", got, want)
		}
	})
}

func TestRules(t *testing.T) {
	join := func(at, hub, other int) identity.Join {
		return identity.Join{Ref: ref(at, at), Hub: hub, Other: other}
	}
	for _, c := range []struct {
		why       string
		change    func(*policy.Policy)
		joins     []identity.Join
		decisions []identity.Decision
		same      [][2]int
		apart     [][2]int
	}{
		{
			why:   "one user, any number of visitors",
			joins: []identity.Join{join(1, 0, 3), join(2, 0, 4), join(3, 0, 5), join(4, 1, 5)},
			same:  [][2]int{{0, 3}, {0, 4}, {0, 5}}, apart: [][2]int{{0, 1}},
		},
		{
			why:    "the limit of a kind",
			change: func(p *policy.Policy) { p.Identity.Limits["email"] = 1 },
			joins:  []identity.Join{join(1, 0, 6), join(2, 0, 7)},
			same:   [][2]int{{0, 6}}, apart: [][2]int{{0, 7}},
		},
		{
			why:   "a kind that the policy does not list",
			joins: []identity.Join{join(1, 0, 8)}, apart: [][2]int{{0, 8}},
		},
		{
			why:       "a merge is laid over the joins",
			joins:     []identity.Join{join(1, 0, 3), join(2, 1, 3)},
			decisions: []identity.Decision{{Position: 3, First: []int{0, 1}}},
			same:      [][2]int{{0, 1}, {1, 3}},
		},
		{
			why:       "a split holds, also through others",
			joins:     []identity.Join{join(1, 0, 3), join(2, 3, 6), join(3, 0, 6)},
			decisions: []identity.Decision{{Position: 3, Split: true, First: []int{3}, Second: []int{0}}},
			same:      [][2]int{{3, 6}}, apart: [][2]int{{0, 3}, {0, 6}},
		},
		{
			why:   "the later decision holds",
			joins: []identity.Join{join(1, 0, 3)},
			decisions: []identity.Decision{
				{Position: 2, Split: true, First: []int{3}, Second: []int{0}}, {Position: 3, First: []int{0, 3}},
			},
			same: [][2]int{{0, 3}},
		},
		{
			why:   "a merge forgives what its customers were split by",
			joins: []identity.Join{join(1, 0, 3), join(2, 1, 3)},
			decisions: []identity.Decision{
				{Position: 2, Split: true, First: []int{3}, Second: []int{0}}, {Position: 3, First: []int{0, 1}, Second: []int{0, 1, 3}},
			},
			same: [][2]int{{0, 1}, {0, 3}},
		},
	} {
		g := withPeople(rules(c.change))
		for _, j := range c.joins {
			g.Add(j)
		}
		for _, d := range c.decisions {
			g.Decide(d)
		}
		g.Solve()
		for _, p := range c.same {
			if !g.Same(p[0], p[1]) {
				t.Errorf("%s: %d and %d are not one customer", c.why, p[0], p[1])
			}
		}
		for _, p := range c.apart {
			if g.Same(p[0], p[1]) {
				t.Errorf("%s: %d and %d are one customer", c.why, p[0], p[1])
			}
		}
	}
}
