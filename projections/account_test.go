package projections

import (
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"

	"sojourn/domain"
	"sojourn/domain/customer"
	"sojourn/domain/lifecycle"
	"sojourn/warehouse"
)

// pictureAccounts adds what the tables say of accounts; name names a customer by
// its subjects.
func (m *memory) pictureAccounts(p picture, name func(uuid.UUID) string) {
	for id, row := range m.accounts {
		if row.Removed {
			continue
		}
		since := map[string]int64{} // by customer
		for _, a := range m.attached {
			if a.AccountID != id {
				continue
			}
			c := a.SubjectID
			if s, ok := m.subjects[c]; ok {
				c = s.CustomerID
			}
			if c == uuid.Nil {
				continue
			}
			if at, ok := since[name(c)]; !ok || a.Since < at {
				since[name(c)] = a.Since
			}
		}
		p["account:"+row.GroupID] = portrait{
			Stage: row.Stage, Since: row.StageSince, First: row.FirstSeen, Last: row.LastSeen,
			Purchases: row.Purchases, Refunds: row.Refunds, Revenue: fmt.Sprint(row.Revenue), Traits: string(row.Traits),
			Transitions: fmt.Sprint(row.Outlook), UserIDs: fmt.Sprint(since),
		}
	}
}

// oracleAccounts adds what is to be said of accounts, found in the plainest way;
// set is in the order of time.
func oracleAccounts(p picture, set []sent, who *people, rules *Rules, now domain.Millis) {
	nobody := rules.compiled.Identity().Nobody
	for _, group := range []string{"acme", "bolt"} {
		var all portrait
		exists := false
		traits := map[string]string{}
		since := map[string]int64{}
		attached := map[string]bool{} // subjects
		for _, m := range set {
			if m.group != group {
				continue
			}
			if !exists {
				all.First = int64(m.at)
			}
			exists, all.Last = true, int64(m.at)
			h := m.header()
			for _, x := range readTraits(m.traits, refOf(m)) {
				if traits[x.Key] = string(x.Value); x.Removed() {
					delete(traits, x.Key)
				}
			}
			subject := h.Subject()
			if nobody(subject.Value) {
				continue
			}
			attached[subject.String()] = true
			var seen []string
			for _, o := range set {
				if s := o.header().Subject(); who.of(subject.String())[s.String()] && !nobody(s.Value) && !slices.Contains(seen, s.String()) {
					seen = append(seen, s.String())
				}
			}
			slices.Sort(seen)
			if c := strings.Join(seen, " "); since[c] == 0 {
				since[c] = int64(m.at)
			}
		}
		var facts customer.Facts
		for _, m := range set {
			h := m.header()
			member := false
			for s := range attached {
				member = member || who.of(s)[h.Subject().String()]
			}
			if !member || nobody(h.Subject().Value) {
				continue
			}
			t, _ := touch(&h, refOf(m), rules.compiled.Classify(h.Kind, h.Source, h.Name), m.data())
			facts.Add(t, nil)
			all.First, all.Last = min(all.First, int64(m.at)), max(all.Last, int64(m.at))
		}
		if !exists || all.First > int64(now) {
			continue
		}
		transitions := rules.transitions(&facts)
		n := due(transitions, now)
		if n > 0 {
			all.Stage, all.Since = string(transitions[n-1].To), int64(transitions[n-1].At)
		}
		outlook := []warehouse.StageAt{}
		for _, x := range transitions[n:] {
			outlook = append(outlook, warehouse.StageAt{At: int64(x.At), Stage: string(x.To)})
		}
		totals := lifecycle.TotalsAt(&facts.Lifecycle, now, rules.Policy.Currency)
		var money []warehouse.Money
		for cur, a := range totals.Revenue {
			money = append(money, warehouse.Money{Currency: cur, Amount: int64(a)})
		}
		slices.SortFunc(money, func(a, b warehouse.Money) int { return strings.Compare(a.Currency, b.Currency) })
		all.Purchases, all.Refunds, all.Revenue = uint32(totals.Purchases), uint32(totals.Refunds), fmt.Sprint(money)
		all.Traits, all.UserIDs, all.Transitions = jsonObject(traits), fmt.Sprint(since), fmt.Sprint(outlook)
		p["account:"+group] = all
	}
}
