package projections

import (
	"fmt"
	"slices"
	"strings"

	"sojourn/domain"
	"sojourn/domain/customer"
	"sojourn/domain/lifecycle"
	"sojourn/warehouse"
)

// name names a customer by its first subject in alphabetical order.
func (p *people) name(subject string) string {
	var all []string
	for s := range p.of(subject) {
		all = append(all, s)
	}
	return slices.Min(all)
}

// oracle computes the views from the log, in the plainest way.
func oracle(log []sent, rules *Rules, now domain.Millis) picture {
	who := whoIsWho(log, rules)
	set := slices.DeleteFunc(once(log), func(m sent) bool { return m.decision != "" })
	slices.SortFunc(set, func(a, b sent) int { return refOf(a).Compare(refOf(b)) })
	groups := map[string][]sent{}
	for _, m := range set {
		sub := m.header().Subject()
		if rules.compiled.Identity().Nobody(sub.Value) {
			continue
		}
		key := who.name(sub.String())
		groups[key] = append(groups[key], m)
	}
	p := picture{}
	oracleAccounts(p, set, who, rules, now)
	for _, ms := range groups {
		var facts customer.Facts
		var subjects, userIDs, events []string
		traits := map[string]string{}
		for _, m := range ms {
			h := m.header()
			rule := rules.compiled.Classify(h.Kind, h.Source, h.Name)
			t := rules.touch(&h, refOf(m), rule, m.data())
			facts.Add(&t, rules.book)
			if s := h.Subject().String(); !slices.Contains(subjects, s) {
				subjects = append(subjects, s)
			}
			events = append(events, domain.EventID("test", m.id).String())
			for _, x := range t.Traits {
				if string(x.Value) == "null" {
					delete(traits, x.Key)
				} else {
					traits[x.Key] = string(x.Value)
				}
			}
		}
		for sub := range who.of(subjects[0]) {
			if id, ok := strings.CutPrefix(sub, "user:"); ok {
				userIDs = append(userIDs, id)
			}
		}
		slices.Sort(userIDs)
		slices.Sort(subjects)
		slices.Sort(events)
		all := rules.transitions(&facts)
		past := all[:due(all, now)]
		if len(past) == 0 {
			continue
		}
		var trs []string
		for _, x := range past {
			trs = append(trs, fmt.Sprintf("%s→%s@%d %s %s", x.From, x.To, x.At, x.Reason, x.Cause))
		}
		totals := lifecycle.TotalsAt(&facts.Lifecycle, now, rules.Policy.Currency)
		var money []warehouse.Money
		for cur, a := range totals.Revenue {
			money = append(money, warehouse.Money{Currency: cur, Amount: int64(a)})
		}
		slices.SortFunc(money, func(a, b warehouse.Money) int { return strings.Compare(a.Currency, b.Currency) })
		last := past[len(past)-1]
		if userIDs == nil {
			userIDs = []string{}
		}
		p[strings.Join(subjects, " ")] = portrait{
			string(last.To), int64(last.At), int64(ms[0].at), int64(ms[len(ms)-1].at),
			uint32(totals.Purchases), uint32(totals.Refunds), fmt.Sprint(money), jsonObject(traits), fmt.Sprint(userIDs),
			strings.Join(trs, "\n"), strings.Join(events, " "),
		}
	}
	return p
}
