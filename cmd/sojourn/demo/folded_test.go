package demo_test

import (
	"encoding/json"
	"slices"
	"testing"
	"time"
	"unicode"

	"github.com/google/uuid"

	"sojourn/cmd/sojourn/demo"
	"sojourn/domain"
	"sojourn/domain/commerce"
	"sojourn/domain/customer"
	"sojourn/domain/lifecycle"
	"sojourn/domain/loyalty"
	"sojourn/domain/policy"
	"sojourn/domain/satisfaction"
)

// folded is the shop as the default policy sees it.
type folded struct {
	customers map[string]*customer.Facts
	events    map[policy.Act]int
	comments  map[bool]int // Chinese or not
	topics    int          // comments of which the default rules find the topic
	answers   []answer     // to the question of NPS
	purchases map[string][]time.Time
	accounts  map[string]map[string]bool // the users of each
	birthdays int
	named     int // refunds that name products
	bad       []string
}

type answer struct {
	user  string
	at    time.Time
	score float64
}

func fold(t *testing.T, c demo.Config) *folded {
	t.Helper()
	rules := policy.Default().Compile()
	book := loyalty.Resolve([]loyalty.AppliedPolicy{{Policy: policy.Default()}})
	voice := satisfaction.Compile(rules)
	f := &folded{
		customers: map[string]*customer.Facts{}, events: map[policy.Act]int{}, comments: map[bool]int{},
		purchases: map[string][]time.Time{}, accounts: map[string]map[string]bool{},
	}
	users := map[string]string{}
	type message struct {
		Type, Event, MessageID, UserID, AnonymousID, GroupID string
		Timestamp                                            time.Time
		Properties, Traits                                   map[string]json.RawMessage
	}
	type place struct {
		c  *customer.Facts
		id string
	}
	opened, sent := map[place]bool{}, map[place]bool{}
	for turn := range 2 {
		for b := range demo.Messages(c) {
			var m message
			if err := json.Unmarshal(b, &m); err != nil {
				t.Fatalf("%v in %s", err, b)
			}
			if turn == 0 {
				if m.UserID != "" && m.AnonymousID != "" {
					users[m.AnonymousID] = m.UserID
				}
				continue
			}
			user := m.UserID
			if user == "" {
				if user = users[m.AnonymousID]; user == "" {
					user = m.AnonymousID
				}
			}
			facts := f.customers[user]
			if facts == nil {
				facts = &customer.Facts{}
				f.customers[user] = facts
			}
			kind, _ := domain.ParseKind(m.Type)
			rule := rules.Classify(kind, "demo-shop", m.Event)
			if kind == domain.Track && rule.Meaning == policy.Unmapped {
				t.Fatalf("%q means nothing", m.Event)
			}
			ref := lifecycle.Ref{At: domain.Millis(m.Timestamp.UnixMilli()), ID: uuid.MustParse(m.MessageID)}
			prop := func(key string) []byte { return m.Properties[key] }
			touch := customer.Touch{Touch: lifecycle.Touch{
				Ref: ref, Meaning: rule.Meaning, UnderUser: m.UserID != "", Name: m.Event, Order: commerce.Read(rule.Meaning, prop),
			}}
			if commerce.HasOrder(rule.Meaning) {
				touch.Loyalty = &loyalty.Touch{Ref: ref, Meaning: rule.Meaning, Name: m.Event, Order: touch.Order, Lines: loyalty.ReadLines(prop("products"))}
			}
			switch {
			case rule.Meaning == policy.Purchase:
				f.purchases[user] = append(f.purchases[user], m.Timestamp)
			case rule.Meaning == policy.Refund && touch.Loyalty.Lines != nil:
				f.named++
			case kind == domain.Group:
				if f.accounts[m.GroupID] == nil {
					f.accounts[m.GroupID] = map[string]bool{}
				}
				f.accounts[m.GroupID][user] = true
			case kind == domain.Identify && m.Traits["birthday"] != nil:
				if !loyalty.ReadBirthday(m.Traits["birthday"]).Told {
					t.Fatalf("no birthday: %s", b)
				}
				f.birthdays++
			}
			if rule.Act != "" {
				e := satisfaction.Read(rule.Act, prop)
				touch.Satisfaction = &e
				f.events[rule.Act]++
				if e.Comment != "" && e.Kind != satisfaction.KindNone {
					f.comments[slices.ContainsFunc([]rune(e.Comment), func(r rune) bool { return unicode.Is(unicode.Han, r) })]++
					if len(voice.Sort(e.Comment).Topics) > 0 {
						f.topics++
					}
				}
				switch rule.Act {
				case policy.ActTicketOpened, policy.ActComplaintOpened, policy.ActChatStarted, policy.ActCallStarted:
					opened[place{facts, e.Case}] = true
				case policy.ActSurveySent:
					sent[place{facts, e.Survey}] = true
				case policy.ActSurveyAnswered:
					if !sent[place{facts, e.Survey}] {
						f.bad = append(f.bad, "an answer to no survey: "+string(b))
					}
					if e.Kind == satisfaction.NPS {
						score, err := json.Number(m.Properties["score"]).Float64()
						if err != nil {
							t.Fatal(err)
						}
						f.answers = append(f.answers, answer{user, m.Timestamp, score})
					}
				case policy.ActProductReviewed:
					if m.Properties["rating"][0] != '"' {
						f.bad = append(f.bad, "a rating that is no text: "+string(b))
					}
				default:
					if !opened[place{facts, e.Case}] {
						f.bad = append(f.bad, "a case that nobody opened: "+string(b))
					}
				}
			}
			facts.Add(&touch, book)
		}
	}
	return f
}

// TestTheShopUnderTheDefaultPolicy holds loyalty and satisfaction of the shop to
// what one would expect of a real one.
func TestTheShopUnderTheDefaultPolicy(t *testing.T) {
	c := cfg
	c.Customers, c.Days = 2000, 365
	f := fold(t, c)
	for i, b := range f.bad {
		if t.Errorf("%s", b); i == 5 {
			break
		}
	}
	for _, act := range policy.Acts {
		switch act {
		case policy.ActNPSAnswered, policy.ActCSATAnswered, policy.ActCESAnswered, policy.ActTicketClosed:
			// Other names for the same.
		default:
			if f.events[act] == 0 {
				t.Errorf("no %s", act)
			}
		}
	}

	rules := policy.Default().Compile()
	judge := satisfaction.Compile(rules)
	book := loyalty.Resolve([]loyalty.AppliedPolicy{{Policy: policy.Default()}})
	clock := domain.Millis(c.End.UnixMilli())
	tiers, stages, statuses := map[string]int{}, map[lifecycle.Stage]int{}, map[satisfaction.Status]int{}
	var ledgers loyalty.Totals
	flagged, openTickets, openComplaints, late, timed := 0, 0, 0, 0, 0
	for _, facts := range f.customers {
		v, _, _ := facts.View(clock, rules)
		stages[v.Stage]++
		l := loyalty.Fold(&facts.Loyalty, book.Programme(""), clock)
		tiers[l.Tier.Name]++
		if !l.Totals.Conserved() {
			t.Errorf("totals %+v", l.Totals)
		}
		ledgers.Earned += l.Totals.Earned
		ledgers.Reversed += l.Totals.Reversed
		ledgers.Available += l.Totals.Available
		s, _, _ := facts.Satisfaction.View(clock, judge)
		statuses[s.Status]++
		flagged += s.Flagged
		openTickets += s.OpenTickets
		openComplaints += s.OpenComplaints
		for _, one := range s.Cases {
			timed++
			if one.FirstResponse.Verdict == satisfaction.VerdictBreached || one.Resolution.Verdict == satisfaction.VerdictBreached {
				late++
			}
		}
	}
	t.Logf("stages %v", stages)
	t.Logf("tiers %v, points %+v", tiers, ledgers)
	t.Logf("statuses %v, %d tickets and %d complaints open, %d of %d cases late", statuses, openTickets, openComplaints, late, timed)
	t.Logf("events %v, comments %v, %d with a topic; %d accounts, %d birthdays, %d refunds of products", f.events, f.comments, f.topics, len(f.accounts), f.birthdays, f.named)

	for _, tier := range []string{"member", "silver", "gold", "platinum"} {
		if tiers[tier] < 5 {
			t.Errorf("%d customers are %s", tiers[tier], tier)
		}
	}
	if tiers["member"] <= tiers["silver"] || tiers["silver"] <= tiers["platinum"] || tiers["gold"] <= tiers["platinum"] {
		t.Errorf("tiers %v", tiers)
	}
	for _, status := range []satisfaction.Status{satisfaction.Delighted, satisfaction.Satisfied, satisfaction.Neutral, satisfaction.Unhappy} {
		if statuses[status] < 10 {
			t.Errorf("%d customers are %s", statuses[status], status)
		}
	}
	if flagged > 0 || ledgers.Reversed == 0 || openTickets == 0 || openComplaints == 0 || f.named < 10 || f.birthdays < 300 {
		t.Errorf("%d scores off their scale, %d points reversed, %d tickets and %d complaints open, %d refunds of products, %d birthdays",
			flagged, ledgers.Reversed, openTickets, openComplaints, f.named, f.birthdays)
	}
	share := func(name string, got, of int, low, high float64) {
		t.Helper()
		if s := float64(got) / float64(max(of, 1)); s < low || s > high {
			t.Errorf("%s: %d of %d is %.3f, want %.3f to %.3f", name, got, of, s, low, high)
		}
	}
	share("answers by survey", f.events[policy.ActSurveyAnswered], f.events[policy.ActSurveySent], 0.4, 0.6)
	share("Chinese comments", f.comments[true], f.comments[true]+f.comments[false], 0.1, 0.35)
	share("comments with a topic", f.topics, f.comments[true]+f.comments[false], 0.5, 1)
	share("cases that were late", late, timed, 0.05, 0.4)
	members := 0
	for _, m := range f.accounts {
		members += len(m)
	}
	if len(f.accounts) < 5 || members <= len(f.accounts) {
		t.Errorf("%d accounts have %d members", len(f.accounts), members)
	}
}

// TestMembersHaveWhatTheySpend holds the redemptions to the ledgers.
func TestMembersHaveWhatTheySpend(t *testing.T) {
	c := cfg
	c.Customers, c.Days = 1000, 400
	f := fold(t, c)
	book := loyalty.Resolve([]loyalty.AppliedPolicy{{Policy: policy.Default()}})
	members, redemptions := 0, 0
	keys := map[string]bool{}
	for m := range demo.Members(c) {
		members++
		l := loyalty.Fold(&f.customers[m.User].Loyalty, book.Programme(""), domain.Millis(c.End.UnixMilli()))
		if l.Totals.Available < m.Points {
			t.Errorf("%s has %d points, not %d", m.User, l.Totals.Available, m.Points)
		}
		if m.Redeems == 0 {
			continue
		}
		redemptions++
		if m.Redeems < 0 || m.Redeems > l.Totals.Available || keys[m.Key] {
			t.Errorf("%s spends %d of %d points under %s", m.User, m.Redeems, l.Totals.Available, m.Key)
		}
		keys[m.Key] = true
	}
	if members < 100 || redemptions < members/10 || redemptions > members/2 {
		t.Errorf("%d of %d members redeem points", redemptions, members)
	}
}

// TestTheUnhappyLeave compares who buys again after a score.
func TestTheUnhappyLeave(t *testing.T) {
	f := fold(t, cfg)
	var promoters, detractors, again, despite, passives int
	for _, a := range f.answers {
		if a.at.After(cfg.End.AddDate(0, 0, -180)) {
			continue
		}
		back := slices.ContainsFunc(f.purchases[a.user], func(at time.Time) bool { return at.After(a.at.AddDate(0, 0, 45)) })
		switch {
		case a.score >= 9:
			promoters++
			if back {
				again++
			}
		case a.score <= 6:
			detractors++
			if back {
				despite++
			}
		default:
			passives++
		}
	}
	t.Logf("%d of %d promoters and %d of %d detractors bought again, %d passives", again, promoters, despite, detractors, passives)
	if n := promoters + passives + detractors; promoters < n/4 || detractors < n/12 || detractors > n/2 {
		t.Errorf("%d promoters, %d passives, %d detractors", promoters, passives, detractors)
	}
	if float64(again)/float64(promoters) < 1.25*float64(despite)/float64(detractors) {
		t.Errorf("%d of %d promoters bought again, %d of %d detractors", again, promoters, despite, detractors)
	}
}
