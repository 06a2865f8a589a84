package projections

import (
	"fmt"
	"slices"
	"strings"

	"sojourn/domain"
)

// people are the sets of subjects that are one customer, found in the plainest
// way; log is what is known, in the order of the log.
type people struct {
	customers []map[string]bool // of subjects
	conflicts map[string]bool   // "event other"
}

func (p *people) of(subject string) map[string]bool {
	for _, c := range p.customers {
		if c[subject] {
			return c
		}
	}
	c := map[string]bool{subject: true}
	p.customers = append(p.customers, c)
	return c
}

func (p *people) unite(a, b string) {
	x, y := p.of(a), p.of(b)
	if x[b] {
		return
	}
	for s := range y {
		x[s] = true
	}
	p.customers = slices.DeleteFunc(p.customers, func(c map[string]bool) bool { return c[b] && len(c) == len(y) })
}

// emailOf is the e-mail address of an identify.
func (m sent) emailOf() string {
	if m.kind != domain.Identify || !strings.HasPrefix(m.traits, `{"email":"`) {
		return ""
	}
	return strings.TrimSuffix(strings.TrimPrefix(m.traits, `{"email":"`), `"}`)
}

func whoIsWho(log []sent, rules *Rules) *people {
	log = once(log)
	nobody := func(subject string) bool {
		_, value, _ := strings.Cut(subject, ":")
		return rules.compiled.Identity().Nobody(value)
	}
	limits := func(c map[string]bool) map[string]int {
		n := map[string]int{}
		for s := range c {
			kind, _, _ := strings.Cut(s, ":")
			n[kind]++
		}
		return n
	}
	users := map[string]bool{}
	for _, m := range log {
		if m.user != "" {
			users[m.user] = true
		}
	}
	p, auto := &people{conflicts: map[string]bool{}}, &people{}
	var apart [][2]string
	areApart := func(x, y map[string]bool) bool {
		for _, a := range apart {
			if x[a[0]] && y[a[1]] || x[a[1]] && y[a[0]] {
				return true
			}
		}
		return false
	}
	glue := func(subjects []domain.Subject) {
		var sets []string
	next:
		for _, s := range subjects {
			if nobody(s.String()) {
				continue
			}
			for _, o := range sets {
				if p.of(o)[s.String()] {
					continue next
				}
				if !areApart(p.of(o), p.of(s.String())) {
					p.unite(o, s.String())
					continue next
				}
			}
			sets = append(sets, s.String())
		}
	}
	var merged [][]domain.Subject
	for _, m := range slices.Backward(log) {
		if m.decision == "" {
			continue
		}
		glue(m.these)
		if m.decision == "merge" {
			merged = append(merged, append(slices.Clone(m.these), m.andThem...))
			continue
		}
		glue(m.andThem)
		for _, l := range m.these {
			for _, r := range m.andThem {
				lifted := slices.ContainsFunc(merged, func(all []domain.Subject) bool { return slices.Contains(all, l) && slices.Contains(all, r) })
				if !lifted && !nobody(l.String()) && !nobody(r.String()) && !p.of(l.String())[r.String()] {
					apart = append(apart, [2]string{l.String(), r.String()})
				}
			}
		}
	}
	sorted := slices.DeleteFunc(slices.Clone(log), func(m sent) bool { return !m.isMessage() })
	slices.SortFunc(sorted, func(a, b sent) int { return refOf(a).Compare(refOf(b)) })
	tried := map[string]bool{}
	var contested [][3]string
	for _, m := range sorted {
		hub := m.header().Subject().String()
		p.of(hub)
		var others []string
		if m.kind == domain.Alias && m.prev != "" {
			if users[m.prev] {
				others = append(others, "user:"+m.prev)
			} else {
				others = append(others, "anon:"+m.prev)
			}
		}
		if (m.kind == domain.Identify || m.kind == domain.Alias) && m.user != "" && m.anon != "" {
			others = append(others, "anon:"+m.anon)
		}
		slices.SortStableFunc(others, func(a, b string) int { return -strings.Compare(a[:4], b[:4]) }) // users before visitors
		if e := m.emailOf(); e != "" {
			others = append(others, "email:"+e)
		}
		for _, o := range others {
			if o == hub || nobody(o) || nobody(hub) {
				continue
			}
			fits := true
			if !auto.of(hub)[o] {
				x, y := limits(auto.of(hub)), limits(auto.of(o))
				for kind, n := range x {
					limit := rules.compiled.Identity().Limit(domain.SubjectKind(kind))
					if alias := m.kind == domain.Alias && o == "user:"+m.prev && rules.Policy.Identity.AliasUsers; kind == "user" && alias {
						continue
					}
					if limit > 0 && y[kind] > 0 && n+y[kind] > limit {
						fits = false
					}
				}
			}
			if !p.of(hub)[o] && (!fits || areApart(p.of(hub), p.of(o))) {
				// Of the messages that name the same two the first is the conflict.
				pair := fmt.Sprint(hub, o, m.kind == domain.Alias && o[5:] == m.prev && o != "anon:"+m.anon)
				if !tried[pair] {
					contested = append(contested, [3]string{domain.EventID("test", m.id).String(), hub, o})
				}
				tried[pair] = true
				continue
			}
			if fits {
				auto.unite(hub, o)
			}
			p.unite(hub, o)
		}
	}
	for _, c := range contested {
		if !p.of(c[1])[c[2]] {
			p.conflicts[c[0]+" "+c[2]] = true
		}
	}
	return p
}
