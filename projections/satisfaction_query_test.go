package projections

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"sojourn/domain"
	"sojourn/domain/customer"
	"sojourn/domain/policy"
	"sojourn/domain/satisfaction"
	"sojourn/eventstore"
)

func event(id, user, name string, at domain.Millis, properties string) sent {
	return sent{id: id, kind: domain.Track, name: name, user: user, at: at, properties: properties}
}

func (s *site) satisfaction(ref string, at At) Satisfaction {
	s.t.Helper()
	is, err := s.views.Satisfaction(s.t.Context(), ref, at)
	if err != nil {
		s.t.Fatalf("satisfaction of %s: %v", ref, err)
	}
	return is
}

// What a customer thinks and how to treat them follows from what happened by then,
// and by what was known then.
func TestSatisfactionOfACustomer(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	const day = domain.Day
	s.send(
		sent{id: "p1", kind: domain.Page, name: "Home", anon: "v1", at: day0 - 30*day},
		event("s1", "42", "Survey Sent", day0-20*day, `{"survey_id":"s-1","kind":"nps"}`),
		event("n1", "42", "Survey Answered", day0-19*day, `{"survey_id":"s-1","kind":"nps","score":9}`),
		event("c1", "42", "Complaint Opened", day0-10*day, `{"complaint_id":"c-1","comment":"Charged twice"}`),
		event("t1", "42", "Ticket Opened", day0-5*day, `{"ticket_id":"t-1"}`),
		event("t2", "42", "Ticket Replied", day0-5*day+3600_000, `{"ticket_id":"t-1","by":"agent"}`),
	)
	type want struct {
		status                       satisfaction.Status
		complaints, tickets, surveys int
		level, reasons               string
	}
	is := func(at At, w want) {
		t.Helper()
		got := s.satisfaction("user:42", at)
		c := s.customer("user:42", at)
		if got.Status != w.status || got.OpenComplaints != w.complaints || got.OpenTickets != w.tickets || len(got.Surveys) != w.surveys ||
			got.Service.Level != w.level || strings.Join(got.Service.Reasons, "; ") != w.reasons {
			t.Errorf("at %+v: %s, %d complaints, %d tickets, %d surveys, service %+v, want %+v", at, got.Status, got.OpenComplaints, got.OpenTickets, len(got.Surveys), got.Service, w)
		}
		// The two calls say the same.
		if fmt.Sprint(*c.Satisfaction, *c.Service, c.AsOf, c.ID) != fmt.Sprint(got.View, got.Service, got.AsOf, got.Customer) {
			t.Errorf("at %+v the customer says\n%+v %+v, its satisfaction\n%+v %+v", at, c.Satisfaction, c.Service, got.View, got.Service)
		}
	}
	asOf := func(m domain.Millis) At { return At{AsOf: m.Time()} }
	is(At{}, want{"unhappy", 1, 1, 1, "recovery", "1 open complaint"})
	is(asOf(day0-20*day), want{"unknown", 0, 0, 1, "standard", ""})
	is(asOf(day0-19*day-1), want{"unknown", 0, 0, 1, "standard", ""})
	is(asOf(day0-19*day), want{"delighted", 0, 0, 1, "standard", ""})
	is(asOf(day0-10*day), want{"unhappy", 1, 0, 1, "recovery", "1 open complaint"})
	is(asOf(day0+1000*day), want{"unknown", 1, 1, 1, "recovery", "1 open complaint"}) // time alone makes it unknown
	now := s.satisfaction("user:42", At{})
	if now.UnknownFrom <= day0 || s.satisfaction("user:42", asOf(now.UnknownFrom-1)).Status != "unhappy" || s.satisfaction("user:42", asOf(now.UnknownFrom)).Status != "unknown" {
		t.Errorf("unknown from %s", now.UnknownFrom)
	}
	if len(now.Past) != 2 || now.Past[0].To != "delighted" || now.Past[1].Reason != "complaint opened" || now.Cause != now.Past[1].Cause {
		t.Errorf("past %+v", now.Past)
	}
	if ticket := now.Cases[1]; ticket.FirstResponse.Took != 3600_000 || ticket.FirstResponse.Verdict != satisfaction.VerdictMet || ticket.Resolution.Verdict != satisfaction.VerdictBreached {
		t.Errorf("ticket %+v", ticket)
	}

	// What comes late was not known before: a detractor's answer, and who was at home.
	s.clock.set(day0 + day)
	s.send(
		event("n2", "42", "Survey Answered", day0-25*day, `{"kind":"nps","score":0}`),
		event("c2", "42", "Complaint Resolved", day0-9*day, `{"complaint_id":"c-1"}`),
		sent{id: "i1", kind: domain.Identify, user: "42", anon: "v1", at: day0, traits: `{"flags":[{"name":"Red_List","reason":"chargebacks","until":"` + (day0 + 40*day).Time().Format(time.DateOnly) + `"}]}`},
	)
	is(At{KnownAt: day0.Time()}, want{"unhappy", 1, 1, 1, "recovery", "1 open complaint"})
	is(At{KnownAt: day0.Time(), AsOf: (day0 - 19*day).Time()}, want{"delighted", 0, 0, 1, "standard", ""})
	is(asOf(day0-19*day), want{"neutral", 0, 0, 1, "standard", ""})
	until := domain.MillisOf((day0 + 40*day).Time().UTC().Truncate(24*time.Hour).AddDate(0, 0, 1))
	got := s.satisfaction("anon:v1", At{})
	if want := (satisfaction.Service{Level: "restricted", Reasons: []string{"red_list until " + until.String() + ": chargebacks"}, Until: until}); fmt.Sprint(got.Service) != fmt.Sprint(want) {
		t.Errorf("on the red list: %+v, want %+v", got.Service, want)
	}
	if after := s.satisfaction("user:42", asOf(got.Service.Until)).Service; after.Level != "standard" {
		t.Errorf("after the red list: %+v", after)
	}
	if _, err := s.views.Satisfaction(t.Context(), "user:43", At{}); !errors.Is(err, ErrNotFound) {
		t.Errorf("a stranger: %v", err)
	}

	// A heavy customer's answers are the same, though the tables give the traits.
	s.views.heavy = 1
	is(asOf(day0-19*day), want{"neutral", 0, 0, 1, "standard", ""})
	s.views.heavy = heavyCustomer

	// A tier gives a level: 2,000 points are gold.
	s.send(event("o1", "7", "Order Completed", day0, `{"order_id":"o1","total":2500,"currency":"USD"}`))
	if c := s.customer("user:7", At{}); c.Service.Level != "priority" || !slices.Equal(c.Service.Reasons, []string{"tier gold"}) {
		t.Errorf("with gold: %+v", c.Service)
	}
	if c := s.customer("user:7", At{AsOf: (day0 + 800*day).Time()}); c.Service.Level != "standard" {
		t.Errorf("when gold is over: %+v", c.Service)
	}
}

func TestFlags(t *testing.T) {
	day := domain.MillisOf(time.Date(2026, 3, 31, 0, 0, 0, 0, time.UTC))
	for trait, want := range map[string][]satisfaction.Flag{
		`[]`: nil, `null`: nil, `"red_list"`: nil, `{"name":"red_list"}`: nil, `[1,null,{},{"name":" "},[],{"reason":"x"}]`: nil,
		`["red_list"]`: {{Name: "red_list"}},
		`[{"name":" Watch_List ","reason":"returns","until":"2026-03-31"},{"name":"vip","until":"2026-03-31T12:00:00+02:00"}]`: {
			{Name: "watch_list", Reason: "returns", Until: day + domain.Day}, {Name: "vip", Until: day + 10*3600_000},
		},
		`[{"name":"red_list","until":"some day"},{"name":"red_list","until":null}]`: {{Name: "red_list"}, {Name: "red_list"}},
	} {
		got := flagsOf([]customer.Trait{{Key: "plan", Value: []byte(`["red_list"]`)}, {Key: "flags", Value: []byte(trait)}})
		if !slices.Equal(got, want) {
			t.Errorf("%s: %+v, want %+v", trait, got, want)
		}
	}
}

// The inbox: who has an entry, what it is about and how it ended is what people
// said last, whoever comes at once and however often.
func TestInbox(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	comment := func(id string, at domain.Millis, text string) sent {
		return event(id, "42", "Survey Answered", at, fmt.Sprintf(`{"kind":"nps","score":3,"comment":%q}`, text))
	}
	s.send(
		comment("n0", day0-600*domain.Day, "Hm"),
		comment("n1", day0-3, "The delivery was late"), comment("n2", day0-2, "Too expensive"), comment("n3", day0-2, "Nice"),
		event("n4", "42", "Survey Answered", day0, `{"kind":"nps","score":3}`), // without a comment: nothing to do
		event("c1", "42", "Complaint Opened", day0-1, `{"complaint_id":"c-1"}`),
	)
	id := func(m string) uuid.UUID { return domain.EventID("test", m) }
	list := func(q FeedbackQuery) (all []FeedbackEntry) {
		t.Helper()
		cursor := ""
		for {
			page, next, err := s.views.Feedback(t.Context(), q, 1, cursor)
			if err != nil || len(page) > 1 {
				t.Fatal(page, err)
			}
			all = append(all, page...)
			if cursor = next; next == "" {
				return all
			}
		}
	}
	names := func(q FeedbackQuery) string {
		var out []string
		for _, e := range list(q) {
			for _, m := range []string{"n0", "n1", "n2", "n3", "n4", "c1"} {
				if e.Event == id(m) {
					out = append(out, m)
				}
			}
		}
		return strings.Join(out, " ")
	}
	same := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	twins := "n2 n3"
	if id("n3").String() > id("n2").String() {
		twins = "n3 n2"
	}
	same("all, the newest first", names(FeedbackQuery{}), "c1 "+twins+" n1 n0")
	same("open", names(FeedbackQuery{Status: "open"}), "c1 "+twins+" n1 n0")
	same("about delivery", names(FeedbackQuery{Topic: "delivery"}), "n1")
	same("about nothing known", names(FeedbackQuery{Topic: "nothing known"}), "")
	if _, _, err := s.views.Feedback(t.Context(), FeedbackQuery{}, 1, "!"); !errors.Is(err, ErrBadCursor) {
		t.Errorf("a bad cursor: %v", err)
	}

	handle := func(r HandlingRequest) Handled {
		t.Helper()
		h, err := s.views.HandleFeedback(t.Context(), r)
		if err != nil {
			t.Fatalf("%+v: %v", r, err)
		}
		s.wait(h.Position)
		return h
	}
	n1 := id("n1")
	assign := HandlingRequest{Event: n1, Do: FeedbackAssign, Assignee: "mia", Author: "jo"}
	first := handle(assign)
	if first.Revision != 1 || first.Status != "assigned" || first.Assignee != "mia" || first.Sorted || !slices.Contains(first.Topics, "delivery") || first.At == "" {
		t.Errorf("assigned: %+v", first)
	}
	s.clock.set(day0 + 1000)
	if again := handle(assign); fmt.Sprint(again) != fmt.Sprint(first) {
		t.Errorf("again: %+v, want %+v", again, first)
	}
	same("assigned to mia", names(FeedbackQuery{Status: "assigned", Assignee: "mia"}), "n1")
	same("still open", names(FeedbackQuery{Status: "open"}), "c1 "+twins+" n0")
	same("open or assigned", names(FeedbackQuery{Status: "open,assigned"}), "c1 "+twins+" n1 n0")
	same("assigned or closed", names(FeedbackQuery{Status: "closed,assigned"}), "n1")
	if e := list(FeedbackQuery{Assignee: "mia"})[0]; e.Revision != 1 || e.HandledBy != "jo" || e.HandledAt.UnixMilli() != int64(day0) || e.Comment != "The delivery was late" ||
		e.Score != "3" || e.ScaleHigh != 10 || e.Customer != s.customer("user:42", At{}).ID {
		t.Errorf("the entry: %+v", e)
	}
	// Sorting changes only what it names.
	high := "high"
	sorted := handle(HandlingRequest{Event: n1, Do: FeedbackSort, Priority: &high, Author: "mia"})
	if sorted.Revision != 2 || !sorted.Sorted || sorted.Priority != "high" || !slices.Equal(sorted.Topics, first.Topics) || sorted.Need != first.Need || sorted.Assignee != "mia" {
		t.Errorf("sorted: %+v", sorted)
	}
	topics := []string{"couriers"}
	handle(HandlingRequest{Event: n1, Do: FeedbackSort, Topics: &topics, Author: "mia"})
	same("sorted by a person", names(FeedbackQuery{Topic: "couriers", Priority: "high", Need: first.Need}), "n1")
	same("not as the policy has it", names(FeedbackQuery{Topic: "delivery"}), "")
	// Who names the revision that they have seen loses a race, and learns who won.
	seen := uint64(2)
	closing := HandlingRequest{Event: n1, Do: FeedbackClose, Answer: "Sorry!", Author: "mia", Expected: &seen}
	var lost *HandlingConflictError
	if _, err := s.views.HandleFeedback(t.Context(), closing); !errors.As(err, &lost) || lost.Present.Revision != 3 || !slices.Equal(lost.Present.Topics, topics) {
		t.Errorf("a lost race: %v %+v", err, lost)
	}
	seen = 3
	closed := handle(closing)
	if closed.Revision != 4 || closed.Status != "closed" || closed.Answer != "Sorry!" || !slices.Equal(closed.Topics, topics) {
		t.Errorf("closed: %+v", closed)
	}
	handle(HandlingRequest{Event: n1, Do: FeedbackAssign, Author: "jo"}) // given back
	if again := handle(closing); fmt.Sprint(again) != fmt.Sprint(closed) {
		t.Errorf("the same request, late: %+v, want %+v", again, closed)
	}
	other := closing
	other.Answer = "No"
	if _, err := s.views.HandleFeedback(t.Context(), other); !errors.As(err, &lost) || lost.Present.Status != "open" || lost.Present.Revision != 5 {
		t.Errorf("another request of that revision: %v", err)
	}
	beyond := uint64(9)
	other.Expected = &beyond
	if _, err := s.views.HandleFeedback(t.Context(), other); !errors.As(err, &lost) {
		t.Errorf("a revision to come: %v", err)
	}
	if _, err := s.views.HandleFeedback(t.Context(), HandlingRequest{Event: uuid.New(), Do: FeedbackClose, Answer: "x", Author: "jo"}); !errors.Is(err, ErrNoFeedback) {
		t.Errorf("an unknown entry: %v", err)
	}
	// What needs nothing may be taken up.
	handle(HandlingRequest{Event: id("n4"), Do: FeedbackAssign, Assignee: "mia", Author: "jo"})
	same("taken up", names(FeedbackQuery{Assignee: "mia"}), "n4")

	// Of all who handle an entry at once each is heard, and each once.
	const many = 8
	c1 := id("c1")
	done := make(chan error, 2*many)
	for i := range 2 * many {
		go func() {
			topics := []string{fmt.Sprint("t", i/2)}
			_, err := s.views.HandleFeedback(t.Context(), HandlingRequest{Event: c1, Do: FeedbackSort, Topics: &topics, Author: fmt.Sprint(i)})
			done <- err
		}()
	}
	for range 2 * many {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	n := 0
	for e, err := range s.store.ReadStream(t.Context(), domain.FeedbackStream(c1), 0, eventstore.Forwards) {
		if err != nil || e.Type != domain.TypeFeedbackHandled {
			t.Fatal(e.Type, err)
		}
		n++
	}
	if n != 2*many {
		t.Errorf("%d events, want %d", n, 2*many)
	}
	// A policy that sorts otherwise leaves what people have said.
	p := policy.Default()
	p.Satisfaction.Voice.Rules = append([]policy.VoiceRule{{Topic: "niceties", Words: []string{"nice"}}}, p.Satisfaction.Voice.Rules...)
	s.stop()
	s.apply(p)
	s.start()
	s.until("the new policy", func() bool {
		return s.views.Status().PolicyVersion == 2 && names(FeedbackQuery{Topic: "niceties"}) == "n3"
	})
	same("as people said", names(FeedbackQuery{Topic: "couriers"}), "n1")
	if v := s.verify(); !v.Equal() {
		t.Errorf("verify: %+v", v)
	}
}

func TestHowTopicsMove(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	monday := domain.MillisOf(time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC))
	n := 0
	said := func(at domain.Millis, comment string) sent {
		n++
		return event(fmt.Sprint("n", n), "42", "Survey Answered", at, fmt.Sprintf(`{"kind":"nps","score":3,"comment":%q}`, comment))
	}
	s.clock.set(monday + 60*domain.Day)
	const late, dear, quiet = "The delivery was late", "Too expensive", "Hm"
	s.send(
		said(monday-1, late), // of the week before
		said(monday, late), said(monday+domain.Day, late), said(monday+2*domain.Day, dear), said(monday+2*domain.Day, quiet),
		said(monday+7*domain.Day, late),
		said(monday+21*domain.Day, late),
	)
	p := Periods{By: "week", From: monday.Time(), To: (monday + 28*domain.Day).Time()}
	text := func(all []TopicPeriod) string {
		var out []string
		for _, w := range all {
			line := w.From.Format("01-02") + "–" + w.To.Format("01-02") + fmt.Sprint(" ", w.Comments, ":")
			for _, c := range w.Topics {
				line += fmt.Sprintf(" %s %d", c.Topic, c.Comments)
				if c.Known {
					line += fmt.Sprintf(" (%+d)", c.Change)
				}
			}
			out = append(out, line)
		}
		return strings.Join(out, "\n")
	}
	all, err := s.views.FeedbackTopics(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := text(all), `03-02–03-09 4: delivery 2  1 price 1
03-09–03-16 1: delivery 1 (-1)  0 (-1) price 0 (-1)
03-23–03-30 1: delivery 1 (+1)`; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	p.Zone, p.From = time.FixedZone("Nowhere/Land", 3600), time.Time{}
	var bad *QuestionError
	if _, err := s.views.FeedbackTopics(t.Context(), p); !errors.As(err, &bad) {
		t.Errorf("a zone that the engine does not know: %v", err)
	}
	p.Zone, err = time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	if all, err = s.views.FeedbackTopics(t.Context(), p); err != nil || len(all) != 3 || all[0].Comments != 5 || all[0].From.Hour() != 23 {
		t.Errorf("in Berlin the first belongs to the week: %v\n%s", err, text(all))
	}
}
