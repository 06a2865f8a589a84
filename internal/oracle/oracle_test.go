package oracle

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sojourn/domain"
	"sojourn/domain/commerce"
	"sojourn/domain/lifecycle"
	"sojourn/domain/policy"
)

var day0 = domain.MillisOf(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))

func subject(s string) domain.Subject {
	kind, value, _ := strings.Cut(s, ":")
	return domain.Subject{Kind: domain.SubjectKind(kind), Value: value}
}

func subjects(text string) []domain.Subject {
	var out []domain.Subject
	for _, s := range strings.Fields(text) {
		out = append(out, subject(s))
	}
	return out
}

// script is a log as a test writes it. Each event is recorded a millisecond after
// the one before it.
type script struct{ log Log }

func (s *script) add(e Event) *script {
	n := len(s.log)
	e.RecordedAt = day0 + 1000*domain.Day + domain.Millis(n)
	if e.ID == [16]byte{} {
		e.ID = domain.EventID("test", fmt.Sprint("m", n))
	}
	s.log = append(s.log, e)
	return s
}

// touch is a touchpoint of the words "user:u anon:a email:e …" on a day.
func touch(kind domain.Kind, day int, words string) *Touchpoint {
	t := &Touchpoint{Kind: kind, OccurredAt: day0 + days(day), Meaning: policy.Engagement}
	for _, s := range subjects(words) {
		switch s.Kind {
		case domain.User:
			t.User = s.Value
		case domain.Anon:
			t.Anon = s.Value
		case "from":
			t.Previous = s.Value
		case email, phone:
			if t.Traits == nil {
				t.Traits = map[string]json.RawMessage{}
			}
			t.Traits[string(s.Kind)], _ = json.Marshal(s.Value)
		case device:
			t.Device = s.Value
		default:
			t.ExternalIDs = append(t.ExternalIDs, ExternalID{ID: s.Value, Type: string(s.Kind), Collection: "users"})
		}
	}
	return t
}

func (s *script) page(day int, words string) *script {
	return s.add(Event{Touchpoint: touch(domain.Page, day, words)})
}

func (s *script) identify(day int, words string) *script {
	return s.add(Event{Touchpoint: touch(domain.Identify, day, words)})
}

func (s *script) alias(day int, words string) *script {
	return s.add(Event{Touchpoint: touch(domain.Alias, day, words)})
}

func (s *script) merge(named string) *script {
	return s.add(Event{Merge: s.log.MergeOf(subjects(named)...)})
}

func (s *script) split(leave string, from ...string) *script {
	return s.add(Event{Split: s.log.SplitOf(subjects(leave), subjects(strings.Join(from, " "))...)})
}

func (s *script) policy(change func(*Policy)) *script {
	p := DefaultPolicy()
	change(&p)
	return s.add(Event{Policy: &p})
}

// sets is the partition in words: the subjects of a customer with + between, the
// one that gives the id first, the customers in the order of the log.
func sets(id Identity) string {
	var out []string
	for _, c := range id.Customers {
		var words []string
		for _, s := range c {
			words = append(words, s.String())
		}
		out = append(out, strings.Join(words, "+"))
	}
	return strings.Join(out, " ")
}

func outcomes(id Identity) string {
	var out []string
	for _, j := range id.Joins {
		out = append(out, fmt.Sprintf("%s-%s %s", j.Hub, j.Other, j.Outcome))
	}
	return strings.Join(out, ", ")
}

func TestWhoIsOneCustomer(t *testing.T) {
	for name, c := range map[string]struct {
		log      *script
		sets     string
		outcomes string
	}{
		"a login joins": {
			new(script).page(0, "anon:v1").identify(1, "user:1 anon:v1"),
			"anon:v1+user:1", "user:1-anon:v1 joined",
		},
		"a page with both ids joins nothing": {
			new(script).page(0, "anon:v1").page(1, "user:1 anon:v1"),
			"anon:v1 user:1", "",
		},
		"one device, two users: the earlier has it, whichever arrived first": {
			new(script).identify(2, "user:2 anon:v1").identify(1, "user:1 anon:v1"),
			"user:2 user:1+anon:v1", "user:1-anon:v1 joined, user:2-anon:v1 conflict",
		},
		"each join stands or falls by itself": {
			new(script).identify(1, "user:1 anon:v1").identify(2, "user:2 anon:v1 email:B@x.org "),
			"user:1+anon:v1 user:2+email:b@x.org",
			"user:1-anon:v1 joined, user:2-anon:v1 conflict, user:2-email:b@x.org joined",
		},
		"the hub is the visitor where there is no user": {
			new(script).identify(1, "anon:v1 email:a@x.org").identify(2, "user:1 email:a@x.org"),
			"anon:v1+email:a@x.org+user:1", "anon:v1-email:a@x.org joined, user:1-email:a@x.org joined",
		},
		"of one message the rank decides": {
			new(script).policy(func(p *Policy) {
				p.Join = []domain.SubjectKind{"email", domain.User, domain.Anon}
			}).identify(1, "user:1 email:a@x.org").identify(2, "anon:v1 email:a@x.org").identify(3, "user:2 anon:v1 email:b@x.org"),
			"user:1+anon:v1+email:a@x.org user:2+email:b@x.org",
			"user:1-email:a@x.org joined, anon:v1-email:a@x.org joined, user:2-email:b@x.org joined, user:2-anon:v1 conflict",
		},
		"five e-mail addresses": {
			new(script).identify(1, "user:1 email:a@x.org").identify(2, "user:1 email:b@x.org").identify(3, "user:1 email:c@x.org").
				identify(4, "user:1 email:d@x.org").identify(5, "user:1 email:e@x.org").identify(6, "user:1 email:f@x.org"),
			"user:1+email:a@x.org+email:b@x.org+email:c@x.org+email:d@x.org+email:e@x.org email:f@x.org",
			"user:1-email:a@x.org joined, user:1-email:b@x.org joined, user:1-email:c@x.org joined, user:1-email:d@x.org joined, user:1-email:e@x.org joined, user:1-email:f@x.org conflict",
		},
		"kinds that are not listed": {
			new(script).identify(1, "user:1 device:d1 phone:+49123456789 crm.id:7"),
			"user:1 phone:+49123456789 device:d1 crm.id:7",
			"user:1-phone:+49123456789 not_tried, user:1-device:d1 not_tried, user:1-crm.id:7 not_tried",
		},
		"listed later": {
			new(script).identify(1, "user:1 crm.id:7").identify(2, "anon:v1 crm.id:7").
				policy(func(p *Policy) { p.Join = append(p.Join, "crm.id") }),
			"user:1+anon:v1+crm.id:7", "user:1-crm.id:7 joined, anon:v1-crm.id:7 joined",
		},
		"an alias of two users": {
			new(script).page(1, "user:1").page(1, "user:2").alias(2, "user:2 from:1"),
			"user:1 user:2", "user:2-user:1 conflict",
		},
		"allowed": {
			new(script).policy(func(p *Policy) { p.AliasUsers = true }).page(1, "user:1").page(1, "user:2").alias(2, "user:2 from:1"),
			"user:1+user:2", "user:2-user:1 joined",
		},
		"in one customer anyway is no conflict": {
			new(script).policy(func(p *Policy) { p.AliasUsers = true }).
				identify(1, "user:1 anon:v1").identify(2, "user:2 anon:v1").alias(3, "user:2 from:1"),
			"user:1+anon:v1+user:2", "user:1-anon:v1 joined, user:2-anon:v1 joined, user:2-user:1 joined",
		},
		"a previousId that becomes a user": {
			new(script).alias(1, "user:2 from:1").page(5, "user:1"),
			"user:2 user:1", "user:2-user:1 conflict",
		},
		"and while it is none": {
			new(script).page(0, "anon:1").alias(1, "user:2 from:1"),
			"anon:1+user:2", "user:2-anon:1 joined",
		},
		"nobody's": {
			new(script).identify(1, "user:test anon:v1").identify(2, "user:1 anon:v1").
				policy(func(p *Policy) { p.Nobody = []string{"Test"} }),
			"user:1+anon:v1", "user:test-anon:v1 not_tried, user:1-anon:v1 joined",
		},
		"nobody's telephone number, in another spelling": {
			new(script).identify(1, "user:1 phone:+4930123456").identify(2, "user:2 phone:+4930123456").
				policy(func(p *Policy) { p.Join, p.Nobody = append(p.Join, phone), []string{"+49 30 123456"} }),
			"user:1 user:2", "user:1-phone:+4930123456 not_tried, user:2-phone:+4930123456 not_tried",
		},
		"a merge takes no account of limits": {
			new(script).identify(1, "user:1 anon:v1").identify(2, "user:2 anon:v1").merge("user:2 user:1"),
			"user:1+anon:v1+user:2", "user:1-anon:v1 joined, user:2-anon:v1 joined",
		},
		"nor do limits of a merge": {
			new(script).identify(1, "user:1 anon:v1").page(1, "user:2").merge("user:1 user:2").identify(2, "user:2 anon:v2").identify(3, "user:3 anon:v2"),
			"user:1+anon:v1+anon:v2+user:2 user:3", "user:1-anon:v1 joined, user:2-anon:v2 joined, user:3-anon:v2 conflict",
		},
		"a device moves with a late identify, through a merge": {
			new(script).identify(5, "user:1 anon:v1").page(1, "user:2").merge("user:1 user:2").identify(4, "user:3 anon:v1"),
			"user:1+user:2 user:3+anon:v1", "user:3-anon:v1 joined, user:1-anon:v1 conflict",
		},
		"a split, and the next identify against it": {
			new(script).identify(1, "user:1 anon:v1").split("anon:v1").identify(2, "user:1 anon:v1"),
			"user:1 anon:v1", "user:1-anon:v1 kept_apart, user:1-anon:v1 kept_apart",
		},
		"through others": {
			new(script).identify(1, "user:1 anon:v1 email:a@x.org").split("anon:v1").identify(2, "anon:v1 email:a@x.org"),
			"user:1+email:a@x.org anon:v1",
			"user:1-anon:v1 kept_apart, user:1-email:a@x.org joined, anon:v1-email:a@x.org kept_apart",
		},
		"each side of a split stays one": {
			new(script).identify(1, "user:1 anon:v1").identify(2, "anon:v1 email:a@x.org").split("anon:v1"),
			"user:1+email:a@x.org anon:v1", "user:1-anon:v1 kept_apart, anon:v1-email:a@x.org kept_apart",
		},
		"merge, split, merge": {
			new(script).identify(1, "user:1 anon:v1").identify(1, "user:2 anon:v2").merge("user:1 user:2").
				split("user:2 anon:v2").merge("user:1 user:2"),
			"user:1+anon:v1+anon:v2+user:2", "user:1-anon:v1 joined, user:2-anon:v2 joined",
		},
		"merge, split": {
			new(script).identify(1, "user:1 anon:v1").identify(1, "user:2 anon:v2").merge("user:1 user:2").split("user:2 anon:v2"),
			"user:1+anon:v1 user:2+anon:v2", "user:1-anon:v1 joined, user:2-anon:v2 joined",
		},
		"those that leave stay together": {
			new(script).identify(1, "user:1 anon:v1").identify(2, "user:1 email:a@x.org").split("anon:v1 email:a@x.org"),
			"user:1 anon:v1+email:a@x.org", "user:1-anon:v1 kept_apart, user:1-email:a@x.org kept_apart",
		},
		"limits are counted as if there were no merge": {
			new(script).policy(func(p *Policy) { p.Limits = map[domain.SubjectKind]int{email: 2} }).
				identify(1, "user:1 email:a@x.org").identify(2, "user:2 email:b@x.org").merge("user:1 user:2").identify(3, "user:1 email:c@x.org"),
			"user:1+email:a@x.org+email:b@x.org+email:c@x.org+user:2", "user:1-email:a@x.org joined, user:2-email:b@x.org joined, user:1-email:c@x.org joined",
		},
		"a later merge of others whose customers hold them": {
			new(script).identify(1, "user:1 anon:v1").split("anon:v1").identify(2, "user:2 anon:v1").merge("user:1 user:2"),
			"user:1+anon:v1+user:2", "user:1-anon:v1 joined, user:2-anon:v1 joined",
		},
		"three merged, one leaves": {
			new(script).page(1, "user:1").page(1, "user:2").page(1, "user:3").merge("user:1 user:2").merge("user:2 user:3").split("user:2"),
			"user:1+user:3 user:2", "",
		},
		"a conflict is kept apart": {
			new(script).identify(1, "user:1 anon:v1").identify(2, "user:2 anon:v1").split("anon:v1", "user:2"),
			"user:1+anon:v1 user:2", "user:1-anon:v1 joined, user:2-anon:v1 kept_apart",
		},
		"with all on its side": {
			new(script).identify(1, "user:1 anon:v1").identify(2, "user:2 anon:v1").split("user:1 anon:v1", "user:2"),
			"user:1+anon:v1 user:2", "user:1-anon:v1 joined, user:2-anon:v1 kept_apart",
		},
	} {
		t.Run(name, func(t *testing.T) {
			id := c.log.log.Identity()
			if got := sets(id); got != c.sets {
				t.Errorf("customers\n got  %s\n want %s", got, c.sets)
			}
			if got := outcomes(id); got != c.outcomes {
				t.Errorf("joins\n got  %s\n want %s", got, c.outcomes)
			}
		})
	}
}

func TestNormalValues(t *testing.T) {
	for in, want := range map[string]string{
		"email: Ada@X.org ": "ada@x.org", "phone:+49 (170) 123-45.67": "+491701234567", "phone:0049170123456": "+49170123456",
		"phone:0170123456": "", "phone:+12": "", "device: D1": " D1", "user:A": "A",
	} {
		s := subject(in)
		if got := normal(s.Kind, s.Value); got != want {
			t.Errorf("%s is %q, want %q", in, got, want)
		}
	}
}

func bill(meaning policy.Meaning, day int, who, id string, amount string) *Touchpoint {
	t := touch(domain.Track, day, who)
	t.Meaning = meaning
	t.Order = commerce.Order{ID: id}
	if d, ok := domain.ParseDecimal(amount); ok {
		t.Order.Amount, t.Order.State = d, commerce.AmountRead
	}
	return t
}

func (s *script) order(meaning policy.Meaning, day int, who, id, amount string) *script {
	return s.add(Event{Touchpoint: bill(meaning, day, who, id, amount)})
}

func life(a Answer) string {
	var out []string
	for _, tr := range a.Transitions {
		out = append(out, fmt.Sprintf("%d %s", (tr.At-day0)/domain.Day, tr.To))
	}
	return strings.Join(out, ", ")
}

func TestWhereACustomerStands(t *testing.T) {
	s := new(script).page(0, "anon:v1").identify(2, "user:1 anon:v1 email:a@x.org").
		order(policy.Purchase, 3, "user:1", "o1", "40").
		order(policy.Purchase, 4, "user:2", "o1", "40").
		order(policy.Refund, 10, "user:2", "o1", "15")
	one, ok := s.log.Customer(subject("user:1"), day0+days(70))
	if want := "0 visitor, 2 lead, 3 first_purchase, 63 at_risk"; !ok || life(one) != want {
		t.Errorf("stages %s, want %s", life(one), want)
	}
	if tr := one.Transitions[3]; tr.Cause.Rule != lifecycle.RuleAtRisk || tr.Cause.Touchpoint != s.log[2].ID {
		t.Errorf("at risk because of %s", tr.Cause)
	}
	two, _ := s.log.Customer(subject("user:2"), day0+days(70))
	if two.Totals.Purchases != 1 || two.Totals.Refunds != 1 || two.Totals.Revenue["USD"].String() != "25" {
		t.Errorf("the second: %+v", two.Totals)
	}
	// Merged, the same order under both is one purchase, the earlier.
	s.merge("user:1 user:2")
	both, _ := s.log.Customer(subject("user:2"), day0+days(70))
	if both.Totals.Purchases != 1 || both.Totals.Revenue["USD"].String() != "25" || both.FirstSeen != day0 || both.Subjects[0] != subject("anon:v1") {
		t.Errorf("both: %+v", both)
	}
	// As of the second day nothing had been bought, by all that is known.
	early, _ := s.log.Customer(subject("user:2"), day0+days(2))
	if life(early) != "0 visitor, 2 lead" || early.Traits["email"] != `"a@x.org"` || len(early.Touchpoints) != 2 {
		t.Errorf("as of day 2: %+v", early)
	}
	// Before the merge was known, user 2 had not been seen by then.
	if a, ok := s.log.KnownAt(s.log[4].RecordedAt).Customer(subject("user:2"), day0+days(2)); ok {
		t.Errorf("known at before the merge: %+v", a)
	}
}

func TestTraitsAndDuplicates(t *testing.T) {
	s := new(script)
	traits := func(day int, id, plan, city string) {
		m := touch(domain.Identify, day, "user:1")
		m.Traits = map[string]json.RawMessage{"plan": json.RawMessage(plan)}
		if city != "" {
			m.Traits["city"] = json.RawMessage(city)
		}
		s.add(Event{ID: domain.EventID("test", id), Touchpoint: m})
	}
	traits(5, "a", `"pro"`, "null")
	traits(1, "b", `"free"`, `"Rome"`)
	traits(9, "a", `"none"`, "") // a duplicate of the first
	a, _ := s.log.Customer(subject("user:1"), day0+days(10))
	if a.Traits["plan"] != `"pro"` || len(a.Traits) != 1 || a.LastSeen != day0+days(5) {
		t.Errorf("now: %+v", a)
	}
	a, _ = s.log.Customer(subject("user:1"), day0+days(4))
	if a.Traits["plan"] != `"free"` || a.Traits["city"] != `"Rome"` {
		t.Errorf("as of day 4: %+v", a)
	}
}

// drawScript draws a log of a few people, and decisions as they are made: of
// subjects that are known, with the members that they have then.
func drawScript(t *rapid.T, decisions bool) *script {
	s := new(script)
	draw := func(label string, from ...string) string { return rapid.SampledFrom(from).Draw(t, label) }
	if rapid.Bool().Draw(t, "policy") {
		s.policy(func(p *Policy) {
			p.AliasUsers = rapid.Bool().Draw(t, "alias users")
			p.Limits = map[domain.SubjectKind]int{email: 2}
			p.Join = append(p.Join, device)
		})
	}
	for range rapid.IntRange(1, 16).Draw(t, "events") {
		day := rapid.IntRange(0, 5).Draw(t, "day")
		user, anon := draw("user", "user:1", "user:2", "user:3"), draw("anon", "anon:a", "anon:b", "anon:c", "")
		mail := draw("email", "", "email:x@x.org", "email:y@x.org", "email:z@x.org", "device:d")
		what := rapid.IntRange(0, 12).Draw(t, "what")
		known := s.log.Identity().Customers
		switch {
		case what < 5:
			s.identify(day, user+" "+anon+" "+mail)
		case what == 5:
			s.identify(day, "anon:a "+mail)
		case what == 6:
			s.alias(day, user+" "+draw("previous", "from:1", "from:a", "from:b"))
		case len(known) > 0 && decisions:
			all := slices.Concat(known...)
			some := rapid.SliceOfNDistinct(rapid.SampledFrom(all), 1, min(3, len(all)), rapid.ID[domain.Subject]).Draw(t, "subjects")
			if what == 7 && len(some) > 1 {
				s.add(Event{Merge: s.log.MergeOf(some...)})
				break
			}
			d := s.log.SplitOf(some[:1], some[1:]...)
			if own := s.log.Identity().Customer(some[0]); len(own) > 2 && rapid.Bool().Draw(t, "two") {
				d = s.log.SplitOf(own[:2])
			}
			if len(d.Stay) > 0 {
				s.add(Event{Split: d})
			}
		default:
			s.page(day, user)
		}
	}
	return s
}

// drawDecided draws a log in which more joins come behind the last decision.
func drawDecided(t *rapid.T) *script {
	s := drawScript(t, true)
	for _, e := range drawScript(t, false).log {
		e.ID = domain.EventID("later", e.ID.String())
		s.add(e)
	}
	return s
}

func sorted(id Identity) string {
	var out []string
	for _, c := range id.Customers {
		slices.SortFunc(c, compareSubjects)
		out = append(out, fmt.Sprint(c))
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// Where no one decides, the order of arrival changes no customer.
func TestAnyOrderOfArrival(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawScript(t, false)
		want := sorted(s.log.Identity())
		shuffled := Log(rapid.Permutation(s.log).Draw(t, "order"))
		if got := sorted(shuffled.Identity()); got != want {
			t.Fatalf("got  %s\nwant %s", got, want)
		}
	})
}

// What was decided last holds, whatever was decided before and comes after.
func TestTheLastDecisionHolds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawDecided(t)
		id := s.log.Identity()
		one := func(a, b domain.Subject) bool { return slices.Contains(id.Customer(a), b) }
		for _, e := range slices.Backward(s.log) {
			if e.Merge != nil {
				for _, n := range e.Merge.Named[1:] {
					if !one(e.Merge.Named[0], n) {
						t.Fatalf("merged %v, which are %s", e.Merge.Named, sets(id))
					}
				}
				break
			}
			if e.Split != nil {
				for _, side := range [][]domain.Subject{e.Split.Leave, e.Split.Stay} {
					for _, n := range side[1:] {
						if !one(side[0], n) {
							t.Fatalf("%v is one side of a split, and is %s", side, sets(id))
						}
					}
				}
				if one(e.Split.Leave[0], e.Split.Stay[0]) {
					t.Fatalf("%v was split from %v: %s", e.Split.Leave, e.Split.Stay, sets(id))
				}
				break
			}
		}
	})
}

// No customer holds two subjects that are kept apart.
func TestNobodyIsHeldApartAndTogether(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawDecided(t)
		_, apart := s.log.decide(DefaultPolicy().isNobody)
		id := s.log.Identity()
		for _, p := range apart {
			if slices.Contains(id.Customer(p[0]), p[1]) {
				t.Fatalf("%v are kept apart and in one customer: %s, %s%s", p, sets(id), outcomes(id), s.tell())
			}
		}
	})
}

// One customer's life is what the fold makes of it: neither is right by itself.
func TestAgainstTheFold(t *testing.T) {
	meanings := []policy.Meaning{policy.Purchase, policy.Purchase, policy.Purchase, policy.Refund, policy.OrderUpdate, policy.Cancellation, policy.Lead, policy.Qualified, policy.Engagement}
	rapid.Check(t, func(t *rapid.T) {
		s, clock := new(script), day0+days(rapid.SampledFrom([]int{60, 200, 500, 2000}).Draw(t, "clock"))
		var facts lifecycle.Facts
		for range rapid.IntRange(1, 12).Draw(t, "touchpoints") {
			m := bill(rapid.SampledFrom(meanings).Draw(t, "meaning"), rapid.SampledFrom([]int{0, 1, 30, 59, 60, 120, 121, 240, 365, 486}).Draw(t, "day"),
				"anon:v1", rapid.SampledFrom([]string{"", "a", "b", "c"}).Draw(t, "order"), rapid.SampledFrom([]string{"", "0", "5", "10"}).Draw(t, "amount"))
			if m.Meaning == policy.Cancellation {
				m.Order.Amount, m.Order.State = 0, commerce.AmountNone
			}
			if !commerce.HasOrder(m.Meaning) {
				m.Order = commerce.Order{}
			}
			s.add(Event{Touchpoint: m})
			if m.OccurredAt <= clock {
				facts.Add(lifecycle.Touch{Ref: lifecycle.Ref{At: m.OccurredAt, ID: s.log[len(s.log)-1].ID}, Meaning: m.Meaning, Order: m.Order})
			}
		}
		p := DefaultPolicy()
		want := lifecycle.Transitions(&facts, p.Lifecycle, p.Currency)
		a, _ := s.log.Customer(subject("anon:v1"), clock)
		var texts [2][]string
		for i, list := range [...][]lifecycle.Transition{a.Transitions, want} {
			for _, tr := range list {
				if tr.At <= clock {
					texts[i] = append(texts[i], fmt.Sprintf("%s %s→%s %s", tr.At, tr.From, tr.To, tr.Cause))
				}
			}
		}
		if !slices.Equal(texts[0], texts[1]) {
			t.Fatalf("oracle\n%q\nfold\n%q", texts[0], texts[1])
		}
		if got, want := fmt.Sprintf("%+v", a.Totals), fmt.Sprintf("%+v", lifecycle.TotalsAt(&facts, clock, p.Currency)); got != want {
			t.Fatalf("oracle %s, fold %s", got, want)
		}
	})
}

// tell is a log in words.
func (s *script) tell() string {
	var b strings.Builder
	for _, e := range s.log {
		switch {
		case e.Touchpoint != nil:
			t := e.Touchpoint
			fmt.Fprintf(&b, "\nday %d %s user %q anon %q previous %q traits %s device %q", (t.OccurredAt-day0)/domain.Day, t.Kind, t.User, t.Anon, t.Previous, t.Traits, t.Device)
		case e.Merge != nil:
			fmt.Fprintf(&b, "\nmerge %v with the members %v", e.Merge.Named, e.Merge.Members)
		case e.Split != nil:
			fmt.Fprintf(&b, "\nsplit %v from %v", e.Split.Leave, e.Split.Stay)
		case e.Policy != nil:
			fmt.Fprintf(&b, "\npolicy %+v", *e.Policy)
		}
	}
	return b.String()
}

// A merge and a split of all that had come with it leave everything as it was,
// but where the merge moved more than the two: what it let join counts towards the
// limits, so that others may come and go.
func TestAMistakenMerge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawDecided(t)
		before := s.log.Identity()
		if len(before.Customers) < 2 {
			return
		}
		two := rapid.SliceOfNDistinct(rapid.IntRange(0, len(before.Customers)-1), 2, 2, rapid.ID[int]).Draw(t, "two")
		a, b := before.Customers[two[0]], before.Customers[two[1]]
		s.add(Event{Merge: s.log.MergeOf(a[0], b[0])})
		merged := s.log.Identity()
		if len(merged.Customers) != len(before.Customers)-1 || len(merged.Customer(a[0])) != len(a)+len(b) {
			return
		}
		s.add(Event{Split: s.log.SplitOf(b)})
		if got, want := sorted(s.log.Identity()), sorted(before); got != want {
			t.Fatalf("after the split\n %s\nbefore the merge\n %s\nbefore: %s\nafter: %s%s", got, want, outcomes(before), outcomes(s.log.Identity()), s.tell())
		}
	})
}
