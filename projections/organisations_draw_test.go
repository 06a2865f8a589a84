package projections

import (
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"sojourn/domain"
	"sojourn/domain/policy"
	naive "sojourn/internal/oracle"
)

// step is one thing that happens in an organisation: a message that comes, or a
// person who decides.
type step struct {
	round    int
	message  told
	decision string   // "merge" or "split", empty for a message
	refs     []string // subjects, or the ids that they bear for themselves
	from     string
}

// organisation is a generated history of a few people over ids of their own.
type organisation struct {
	number int
	steps  []step

	log       naive.Log // what of it is recorded
	next      int       // step
	decisions map[int]string
	sent      map[uuid.UUID]told // the first message of each id
}

// townPlan is what organisations live under: the policy, and when the rounds are
// in which what has happened is recorded.
type townPlan struct {
	policy policy.Policy
	// then is another policy that holds from the third round on.
	then          *policy.Policy
	rounds        []domain.Millis
	organisations int
	batches       []int  // events of a flush
	heavy         uint64 // touchpoints from which on the tables answer
}

// plans is how many there are; seeds choose among them.
const plans = 6

func planOf(seed int) townPlan {
	rounds := func(days ...int) []domain.Millis {
		var all []domain.Millis
		for _, d := range days {
			all = append(all, day0+domain.Millis(d)*domain.Day+domain.Millis(seed%1000))
		}
		return all
	}
	p := policy.Default()
	plan := townPlan{policy: p, rounds: rounds(40, 61, 130, 250, 400, 520), organisations: 400, batches: []int{250, 1000, 3000}, heavy: heavyCustomer}
	id := &plan.policy.Identity
	quick := policy.Lifecycle{AtRiskDays: 10, ChurnedDays: 30, LostDays: 61, WonBackDays: 29, LoyalPurchases: 2, LoyalDays: 30}
	switch seed % plans {
	case 1:
		id.Join = []string{"user", "anon", "email", "phone", "device", "crm.id"}
		id.Limits = map[string]int{"email": 1, "device": 2, "anon": 3}
		id.AliasUsers = true
	case 2:
		id.Join = []string{"email", "crm.id", "user", "anon"}
		id.Limits = map[string]int{"user": 2, "email": 2, "crm.id": 1}
		plan.policy.Lifecycle = quick
	case 3:
		id.Join = []string{"anon", "phone", "email"}
		plan.policy.Currency = "EUR"
		plan.rounds = rounds(520, 521, 522, 523)
	case 4:
		then := policy.Default()
		then.Identity.Join = []string{"user", "anon", "device", "email"}
		then.Identity.Limits = map[string]int{"user": 1, "device": 1}
		then.Identity.AliasUsers = true
		then.Lifecycle = quick
		plan.then = &then
	case 5: // small, by hand and in the smallest batches
		id.Join = []string{"user", "anon", "email", "device"}
		id.AliasUsers = true
		plan.organisations, plan.batches, plan.heavy = 30, []int{2, 7, 25}, 3
	}
	for _, p := range []*policy.Policy{&plan.policy, plan.then} {
		for i := range plan.organisations {
			if p != nil {
				p.Identity.Nobody = append(p.Identity.Nobody, (&organisation{number: i}).nobody())
			}
		}
	}
	return plan
}

// nobody is a value of the organisation's own that is nobody by every policy.
func (o *organisation) nobody() string { return fmt.Sprintf("x.%d", o.number) }

// policy is a policy as the oracle takes it.
func (o *organisation) policy(p policy.Policy) *naive.Policy {
	out := &naive.Policy{
		Currency: p.Currency, Lifecycle: p.Lifecycle, Limits: map[domain.SubjectKind]int{},
		AliasUsers: p.Identity.AliasUsers, Nobody: []string{o.nobody()},
	}
	for _, k := range p.Identity.Join {
		out.Join = append(out.Join, domain.SubjectKind(k))
	}
	for k, n := range p.Identity.Limits {
		out.Limits[domain.SubjectKind(k)] = n
	}
	return out
}

// drawOrganisation draws a history over ids that no other number has.
func drawOrganisation(t *rapid.T, number int, plan townPlan) *organisation {
	o := &organisation{number: number}
	ids := func(names ...string) []string {
		var all []string
		for _, n := range names {
			all = append(all, fmt.Sprintf("%s.%d", n, number))
		}
		return all
	}
	one := func(label string, of []string) string { return rapid.SampledFrom(of).Draw(t, label) }
	chance := func(label string, n, of int) bool { return rapid.IntRange(1, of).Draw(t, label) <= n }
	// Few of each, so that they meet: s is a user and a visitor, x is nobody.
	few := rapid.IntRange(2, 4).Draw(t, "people")
	users := ids("u1", "u2", "s", "u3", "x")
	anons := ids("a1", "a2", "s", "a3", "u1", "x")
	if few < 4 {
		users, anons = users[:few], anons[:few]
	}
	emails := ids("e1", "e2", "e3")
	devices := ids("d1", "d2", "d3")
	crm := ids("c1", "c2", "c3")
	phones := make([]string, 2)
	for i := range phones {
		phones[i] = fmt.Sprintf("+4930%05d%d", number, i)
	}
	var refs []string
	for kind, values := range map[string][]string{"user": users, "anon": anons, "email": {}, "phone": phones, "device": devices[:2], "crm.id": crm[:2]} {
		for _, v := range values {
			refs = append(refs, kind+":"+v)
		}
	}
	for _, e := range emails[:2] {
		refs = append(refs, "email:"+e+"@example.com")
	}
	slices.Sort(refs)

	n := rapid.IntRange(5, 16).Draw(t, "steps")
	if chance("many", 1, 10) {
		n = rapid.IntRange(17, 40).Draw(t, "many steps")
	}
	roundOf := make([]int, n)
	for i := range roundOf {
		roundOf[i] = rapid.IntRange(0, len(plan.rounds)-1).Draw(t, "round")
	}
	slices.Sort(roundOf)
	var instants []domain.Millis // of what has happened already
	var messages []told
	for i, round := range roundOf {
		if i > 1 && chance("decision", 1, 6) {
			s := step{round: round, decision: one("which", []string{"merge", "split"})}
			pool := refs
			if chance("of those in messages", 4, 5) {
				pool = nil
				for _, m := range messages {
					h := m.header()
					pool = append(pool, h.Subject().String())
				}
				pool = append(pool, refs[:2]...)
			}
			for range rapid.IntRange(1, 3).Draw(t, "refs") {
				s.refs = append(s.refs, one("ref", pool))
			}
			if s.decision == "merge" && len(s.refs) == 1 {
				s.refs = append(s.refs, one("ref", pool))
			}
			if s.decision == "split" && chance("from", 1, 2) {
				s.from = one("from", pool)
			}
			for k := range s.refs {
				if chance("by id", 1, 5) {
					s.refs[k] = idOf(s.refs[k]).String()
				}
			}
			o.steps = append(o.steps, s)
			continue
		}
		if len(messages) > 0 && chance("repeat", 1, 12) {
			again := rapid.SampledFrom(messages).Draw(t, "again")
			if chance("under another", 1, 2) {
				again.user, again.anon, again.prev = one("user", users), one("anon", anons), ""
			}
			if known := slices.IndexFunc(messages, func(m told) bool { return m.id == again.id }); known >= 0 {
				first := messages[known].header()
				if h := again.header(); h.Subject() == first.Subject() {
					again = messages[known]
				}
			}
			o.steps = append(o.steps, step{round: round, message: again})
			continue
		}
		m := told{sent: sent{id: fmt.Sprintf("m%d.%d", i, number), kind: domain.Track}}
		m.at = day0 + domain.Millis(rapid.SampledFrom([]int{0, 1, 2, 20, 30, 39, 60, 61, 100, 121, 200, 365, 426}).Draw(t, "day"))*domain.Day
		if len(instants) > 0 && chance("near", 1, 2) {
			m.at = rapid.SampledFrom(instants).Draw(t, "instant")
			rules := plan.policy.Lifecycle
			m.at += domain.Millis(rapid.SampledFrom([]int{0, 0, 1, rules.AtRiskDays, rules.ChurnedDays, rules.LostDays, rules.LoyalDays, rules.WonBackDays}).Draw(t, "days"))*domain.Day +
				domain.Millis(rapid.IntRange(-1, 1).Draw(t, "ms"))
		}
		if m.at > plan.rounds[round] { // ingest lets nothing happen after it was received
			m.at = plan.rounds[round] - domain.Millis(rapid.IntRange(0, 2).Draw(t, "ms before"))
		}
		instants = append(instants, m.at)
		switch rapid.IntRange(0, 2).Draw(t, "who") {
		case 0:
			m.user = one("user", users)
		case 1:
			m.anon = one("anon", anons)
		case 2:
			m.user, m.anon = one("user", users), one("anon", anons)
		}
		order := fmt.Sprintf(`"order_id":%q`, one("order", []string{"o1", "o2", "o3", "o4"}))
		if chance("no order id", 1, 10) {
			order = `"x":1`
		}
		if c := one("currency", []string{"EUR", "USD", ""}); c != "" {
			order += fmt.Sprintf(`,"currency":%q`, c)
		}
		if a := one("amount", []string{"0", "10", "20", "12.34", "", `"dear"`}); a != "" {
			order += `,"total":` + a
		}
		order = "{" + order + "}"
		what := rapid.IntRange(0, 29).Draw(t, "what")
		switch {
		case what < 9:
			m.kind = domain.Identify
			traits := []string{}
			if chance("email", 1, 3) {
				e := one("address", emails) + "@example.com"
				if chance("spelt otherwise", 1, 4) {
					e = one("spelling", []string{" " + strings.ToUpper(e), e + "\t", "at " + e + "@example.com", "e1"})
				}
				traits = append(traits, fmt.Sprintf(`"email":%q`, e))
			}
			if chance("phone", 1, 5) {
				p := one("number", phones)
				if chance("spelt otherwise", 1, 2) {
					p = one("spelling", []string{"00" + p[1:3] + " " + p[3:5] + "/" + p[5:], p[:3] + " (0)" + p[3:], p[3:]})
				}
				traits = append(traits, fmt.Sprintf(`"phone":%q`, p))
			}
			for _, key := range []string{"plan", "city"} {
				if chance("trait", 1, 2) {
					traits = append(traits, fmt.Sprintf(`%q:%s`, key, one("value", []string{"null", "1", `"a"`, `"b"`, `{"x":[1]}`})))
				}
			}
			m.traits = "{" + strings.Join(traits, ",") + "}"
			o.others(t, &m, devices, map[string][]string{"crm.id": crm, "email": emails, "user": users, "device": devices})
		case what < 12:
			m.kind = domain.Alias
			m.prev = one("previous", append(slices.Clone(anons), users...))
			if chance("with others", 1, 4) {
				o.others(t, &m, devices, map[string][]string{"crm.id": crm, "email": emails, "user": users, "device": devices})
			}
		case what < 14:
			m.kind, m.name = domain.Page, "Home"
		case what < 19:
			m.name, m.properties = "Order Completed", order
		case what < 21:
			m.name, m.properties = "Order Refunded", order
		case what < 22:
			m.name, m.properties = "Order Updated", order
		case what >= 25:
			drawOpinion(t, &m.sent)
		default:
			m.name = one("name", []string{"Order Cancelled", "Signed Up", "Checkout Started", "Product Viewed"})
			m.properties = order
		}
		messages = append(messages, m)
		o.steps = append(o.steps, step{round: round, message: m})
	}
	return o
}

// others gives a message a device and external ids.
func (o *organisation) others(t *rapid.T, m *told, devices []string, ids map[string][]string) {
	if rapid.IntRange(1, 4).Draw(t, "device") == 1 {
		m.device = rapid.SampledFrom(devices).Draw(t, "which device")
	}
	for range max(0, rapid.IntRange(-2, 2).Draw(t, "external ids")) {
		kind := rapid.SampledFrom([]string{"crm.id", "crm.id", "CRM.ID", "no kind", "loyalty_card", "email", "user", "device"}).Draw(t, "type")
		of := ids["crm.id"]
		if own := ids[kind]; own != nil {
			of = own
		}
		id := rapid.SampledFrom(of).Draw(t, "external id")
		if kind == "email" {
			id += "@example.com"
		}
		m.external = append(m.external, naive.ExternalID{
			ID: id, Type: kind,
			Collection: rapid.SampledFrom([]string{"users", "users", "", "accounts"}).Draw(t, "collection"),
		})
	}
}

// tell is the history in words, as far as it has gone.
func (o *organisation) tell() string {
	var b strings.Builder
	for i, s := range o.steps {
		fmt.Fprintf(&b, "round %d ", s.round)
		switch {
		case s.decision != "":
			fmt.Fprintf(&b, "%s %s", s.decision, strings.Join(s.refs, " "))
			if s.from != "" {
				fmt.Fprintf(&b, " from %s", s.from)
			}
			fmt.Fprintf(&b, ": %s", o.decisions[i])
		default:
			m := s.message
			fmt.Fprintf(&b, "of %s: %s", m.at, m.kind)
			for _, x := range [][2]string{{"user", m.user}, {"anon", m.anon}, {"previous", m.prev}, {"device", m.device}} {
				if x[1] != "" {
					fmt.Fprintf(&b, " %s:%s", x[0], x[1])
				}
			}
			for _, x := range m.external {
				fmt.Fprintf(&b, " %s(%s):%s", x.Type, x.Collection, x.ID)
			}
			fmt.Fprintf(&b, " %s %s %s (%s)", m.name, m.properties, m.traits, m.id)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// alone is the history without what has become of it.
func (o *organisation) alone() *organisation {
	return &organisation{number: o.number, steps: slices.Clone(o.steps)}
}

// knownIn are all subjects that the messages of a log bear or name. An alias makes
// two known, of which one may be nothing.
func knownIn(l naive.Log) map[domain.Subject]bool {
	known := map[domain.Subject]bool{}
	for _, c := range l.Identity().Customers {
		for _, s := range c {
			known[s] = true
		}
	}
	seen := map[uuid.UUID]bool{}
	for _, e := range l {
		t := e.Touchpoint
		if t == nil || seen[e.ID] {
			continue
		}
		seen[e.ID] = true
		known[hubOf(t)] = true
		if t.Kind == domain.Alias && t.Previous != "" {
			known[domain.Subject{Kind: domain.User, Value: t.Previous}] = true
			known[domain.Subject{Kind: domain.Anon, Value: t.Previous}] = true
		}
		if t.Kind == domain.Alias || t.Kind == domain.Identify {
			if t.Anon != "" {
				known[domain.Subject{Kind: domain.Anon, Value: t.Anon}] = true
			}
			for _, x := range t.ExternalIDs {
				if x.Type == "user" && x.Collection != "accounts" { // who may be nobody
					known[domain.Subject{Kind: domain.User, Value: x.ID}] = true
				}
			}
		}
	}
	return known
}

func hubOf(t *naive.Touchpoint) domain.Subject {
	if t.User != "" {
		return domain.Subject{Kind: domain.User, Value: t.User}
	}
	return domain.Subject{Kind: domain.Anon, Value: t.Anon}
}
