package projections

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"
	"pgregory.net/rapid"

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
			if c == warehouse.Nobody {
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

// oracleAccounts adds what is to be said of accounts, found in the plainest way; set
// is in the order of time.
func oracleAccounts(p picture, set []sent, who *people, rules *Rules, now domain.Millis) {
	oracleAccountsTo(p, set, who, rules, now, domain.MaxTime)
}

// oracleAccountsTo leaves out what happened after an instant, but for who is a
// member at any time.
func oracleAccountsTo(p picture, set []sent, who *people, rules *Rules, now, cut domain.Millis) {
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
			h := m.header()
			if m.at > cut {
				if !nobody(h.Subject().Value) {
					attached[h.Subject().String()] = true
				}
				continue
			}
			if !exists {
				all.First = int64(m.at)
			}
			exists, all.Last = true, int64(m.at)
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
			if !member || nobody(h.Subject().Value) || m.at > cut {
				continue
			}
			if !exists {
				exists, all.First = true, int64(m.at)
			}
			t := rules.touch(&h, refOf(m), rules.compiled.Classify(h.Kind, h.Source, h.Name), m.data())
			facts.Add(&t, rules.book)
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

// asked is what the answers say of an account, without the outlook; members are
// named by the subjects of theirs that stand in the log.
func asked(t tb, v *Views, ref string, at At, logged map[string]bool) (portrait, bool) {
	t.Helper()
	ctx := context.Background()
	a, err := v.Account(ctx, ref, at)
	if errors.Is(err, ErrNoAccount) {
		return portrait{}, false
	}
	if err != nil {
		t.Fatalf("%s %+v: %v", ref, at, err)
	}
	var money []warehouse.Money
	for cur, amount := range a.Revenue {
		d, _ := domain.ParseDecimal(amount)
		money = append(money, warehouse.Money{Currency: cur, Amount: int64(d)})
	}
	slices.SortFunc(money, func(a, b warehouse.Money) int { return strings.Compare(a.Currency, b.Currency) })
	traits := map[string]string{}
	for k, x := range a.Traits {
		traits[k] = string(x)
	}
	out := portrait{
		Stage: a.Stage, First: a.FirstSeen.UnixMilli(), Last: a.LastSeen.UnixMilli(),
		Purchases: uint32(a.Purchases), Refunds: uint32(a.Refunds), Revenue: fmt.Sprint(money), Traits: jsonObject(traits),
	}
	if a.Stage != "" {
		out.Since = a.StageSince.UnixMilli()
	}
	since := map[string]int64{}
	for cursor := ""; ; {
		some, next, err := v.AccountMembers(ctx, ref, at, cursor, 1)
		if err != nil {
			t.Fatalf("members of %s %+v: %v", ref, at, err)
		}
		for _, m := range some {
			// As of a later day, as the customer may have nothing that day.
			c, err := v.Customer(ctx, m.Customer.String(), At{KnownAt: at.KnownAt, AsOf: domain.MaxTime.Time()})
			if err != nil {
				t.Fatalf("member %s of %s %+v: %v", m.Customer, ref, at, err)
			}
			slices.Sort(c.Subjects)
			name := strings.Join(slices.DeleteFunc(c.Subjects, func(s string) bool { return !logged[s] }), " ")
			since[name] = m.Since.UnixMilli()
		}
		if cursor = next; cursor == "" {
			break
		}
	}
	if len(since) != a.Members {
		t.Fatalf("%s %+v: %d members, listed %v", ref, at, a.Members, since)
	}
	out.UserIDs = fmt.Sprint(since)
	return out, true
}

// As of any day, and by what was known then, the answers about accounts are those
// of a naive look at what was recorded by then.
func TestAccountsAtAnyTime(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		set := drawMessages(t)
		order := drawOrder(t, set)
		times := recordedTimes(t, order)
		var c clock
		log := openStore(t, &c)
		defer func() { _ = log.Close() }()
		c.set(day0 - domain.Day)
		appendAll(t, log, &c, order, times)
		c.set(times[len(times)-1] + 700*domain.Day)
		rules := testRules()
		g := newGeneration(t, vfs.NewMem(), log, newMemory(), rules, &c)
		defer func() { _ = g.state.close() }()
		g.batchEvents = 3
		if err := g.runToEnd(context.Background(), nil); err != nil {
			t.Fatal(err)
		}
		v := &Views{cfg: Config{Store: log, Keyer: testKeyer, Now: c.now}, logger: discard, active: g}
		v.policies = []appliedRules{{Rules: rules, recordedAt: day0 - 10*domain.Day}}
		ask := func(at At, known []sent, asOf domain.Millis) {
			set := slices.DeleteFunc(once(known), func(m sent) bool { return m.decision != "" })
			slices.SortFunc(set, func(a, b sent) int { return refOf(a).Compare(refOf(b)) })
			logged := map[string]bool{}
			for _, m := range set {
				logged[m.header().Subject().String()] = true
			}
			want, got := picture{}, picture{}
			oracleAccountsTo(want, set, whoIsWho(known, rules), rules, asOf, asOf)
			for _, ref := range []string{"account:acme", "account:bolt", "account:nobody"} {
				if p, ok := asked(t, v, ref, at, logged); ok {
					got[ref] = p
				}
			}
			for k, p := range want {
				p.Transitions = ""
				want[k] = p
			}
			got.compare(t, want, fmt.Sprintf("the answers at %+v", at))
		}
		day := func(what string) domain.Millis {
			return day0 + domain.Millis(rapid.IntRange(0, 600).Draw(t, what))*domain.Day
		}
		ask(At{}, order, domain.MillisOf(c.now()))
		asOf := day("as of")
		ask(At{AsOf: asOf.Time()}, order, asOf)
		known := rapid.SampledFrom(times).Draw(t, "known")
		n := 0
		for n < len(times) && times[n] <= known {
			n++
		}
		ask(At{KnownAt: known.Time()}, order[:n], known)
		ask(At{KnownAt: known.Time(), AsOf: asOf.Time()}, order[:n], asOf)
	})
}
