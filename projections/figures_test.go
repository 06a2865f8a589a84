package projections

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"sojourn/domain"
	"sojourn/domain/policy"
	"sojourn/domain/satisfaction"
	"sojourn/warehouse"
)

// opinionated is a deployment of generated answers, surveys, cases and orders, in
// the tables and as the rules of domain/satisfaction take them.
type opinionated struct {
	answers []satisfaction.Answer
	sent    []satisfaction.SentRow
	cases   []satisfaction.CaseRow
	orders  []satisfaction.Answer // of which only customer, time and standing matter
}

// held is one change of stage or tier.
type held struct {
	at domain.Millis
	to string
}

func heldAt(steps []held, at domain.Millis) (is string) {
	for _, s := range steps { // by seq
		if s.at <= at {
			is = s.to
		}
	}
	return is
}

func (s *site) fillOpinions(random *rand.Rand, answers int) *opinionated {
	s.t.Helper()
	ctx := s.t.Context()
	s.views.mu.RLock()
	g, rules := s.views.active.number, s.views.active.rules
	s.views.mu.RUnlock()
	version := warehouse.Version{Position: 1, Clock: int64(day0)}
	must := func(err error) {
		s.t.Helper()
		if err != nil {
			s.t.Fatal(err)
		}
	}
	id := func(kind byte, n int) (u uuid.UUID) {
		// Their order as text is not that of their numbers.
		u[0], u[8], u[14], u[15] = byte(n*89), kind, byte(n>>8), byte(n)
		return u
	}
	// A coarse clock, so that things happen at once.
	moment := func() domain.Millis { return day0 + domain.Millis(random.IntN(300))*9*domain.Day/24 }
	const subjects = 60
	customer := func(subject int) uuid.UUID {
		switch {
		case subject%10 == 0:
			return warehouse.Nobody
		case subject%3 == 0:
			return id('s', subject+1)
		}
		return id('s', subject)
	}
	var moves []warehouse.Subject
	stages, tiers := map[uuid.UUID][]held{}, map[uuid.UUID][]held{}
	var stageRows []warehouse.Transition
	var tierRows []warehouse.TierChange
	programme := rules.book.Programmes()[0].ID
	for n := range subjects {
		c := customer(n)
		if c != id('s', n) {
			moves = append(moves, warehouse.Subject{SubjectID: id('s', n), Subject: fmt.Sprint("user:", n), CustomerID: c, Version: version})
			continue
		}
		steps := func(of []string) []held {
			all := make([]held, random.IntN(5))
			for i := range all {
				all[i] = held{moment(), of[random.IntN(len(of))]}
			}
			slices.SortStableFunc(all, func(a, b held) int { return cmp.Compare(a.at, b.at) })
			return all
		}
		stages[c] = steps([]string{"lead", "repeat", "loyal"})
		for i, t := range stages[c] {
			stageRows = append(stageRows, warehouse.Transition{CustomerID: c, Seq: uint32(i + 1), To: t.to, At: int64(t.at), Version: version})
		}
		tiers[c] = steps([]string{"member", "gold"})
		for i, t := range tiers[c] {
			tierRows = append(tierRows, warehouse.TierChange{CustomerID: c, Programme: programme, Seq: uint32(i + 1), To: t.to, At: int64(t.at), Version: version})
		}
		tierRows = append(tierRows, warehouse.TierChange{CustomerID: c, Programme: "another", Seq: 1, To: "gold", At: int64(day0), Version: version})
	}
	must(s.db.WriteSubjects(ctx, g, moves))
	must(s.db.WriteTransitions(ctx, g, stageRows))
	must(s.db.WriteTierTransitions(ctx, g, tierRows))
	must(s.db.ReloadMoved(ctx, g))

	out := &opinionated{}
	var feedback []warehouse.Feedback
	events := 0
	// touched makes a touchpoint of anyone: the row of it, and who and where it was.
	touched := func(act policy.Act) (*warehouse.Feedback, satisfaction.Answer) {
		events++
		subject := random.IntN(subjects)
		f := warehouse.Feedback{
			EventID: id('e', events), SubjectID: id('s', subject), Subject: fmt.Sprint("user:", subject), Position: uint64(events),
			OccurredAt: int64(moment()), Act: string(act), Channel: []string{"email", "store"}[random.IntN(2)], Source: []string{"shop", "till"}[random.IntN(2)],
		}
		feedback = append(feedback, f)
		at := domain.Millis(f.OccurredAt)
		c := customer(subject)
		return &feedback[len(feedback)-1], satisfaction.Answer{
			Customer: c, Ref: satisfaction.Ref{At: at, ID: f.EventID},
			Stage: heldAt(stages[c], at), Tier: heldAt(tiers[c], at), Channel: f.Channel, Source: f.Source,
		}
	}
	kinds := []satisfaction.Kind{satisfaction.NPS, satisfaction.CSAT, satisfaction.CES, satisfaction.Custom, satisfaction.Review}
	for range answers {
		f, a := touched(policy.ActSurveyAnswered)
		e := satisfaction.Event{Act: policy.ActSurveyAnswered, Kind: kinds[random.IntN(len(kinds))], State: satisfaction.ScoreState(random.IntN(8))}
		if e.State > satisfaction.ScoreUnreadable {
			e.State = satisfaction.ScoreRead
		}
		if e.State == satisfaction.ScoreRead {
			e.Score = domain.Decimal(random.IntN(12)) * 10_000
		}
		a.Score = rules.satisfaction.Judge(e)
		f.Kind, f.HasScore, f.Score, f.Flag, f.Points = e.Kind.String(), e.State == satisfaction.ScoreRead, int64(e.Score), a.Score.Flag, a.Score.Points
		f.Good, f.Bad, f.Ease = a.Score.Good, a.Score.Bad, uint8(a.Score.Ease)
		if a.Customer != warehouse.Nobody {
			out.answers = append(out.answers, a)
		}
	}
	seq := map[uuid.UUID]uint32{}
	var surveys []warehouse.Survey
	var cases []warehouse.Case
	for range answers / 3 {
		f, a := touched(policy.ActSurveySent)
		f.Kind = "nps"
		if a.Customer == warehouse.Nobody {
			continue
		}
		seq[a.Customer]++
		row := satisfaction.SentRow{Customer: a.Customer, Stage: a.Stage, Tier: a.Tier, Channel: a.Channel, Source: a.Source}
		row.Sent, row.Kind, row.Answered = a.Ref, satisfaction.NPS, random.IntN(3) == 0
		w := warehouse.Survey{CustomerID: a.Customer, Seq: seq[a.Customer], Event: a.ID, SentAt: int64(a.At), Kind: "nps", Version: version}
		if row.Answered {
			w.Answer, w.AnsweredAt = id('a', 1), int64(a.At)+1
		}
		out.sent, surveys = append(out.sent, row), append(surveys, w)
	}
	for range answers / 3 {
		kind := satisfaction.CaseKind(random.IntN(4))
		_, a := touched([]policy.Act{policy.ActTicketOpened, policy.ActComplaintOpened, policy.ActChatStarted, policy.ActCallStarted}[kind])
		if a.Customer == warehouse.Nobody {
			continue
		}
		seq[a.Customer]++
		row := satisfaction.CaseRow{Customer: a.Customer, Stage: a.Stage, Tier: a.Tier, Channel: a.Channel, Source: a.Source}
		row.Kind = kind
		w := warehouse.Case{CustomerID: a.Customer, Seq: seq[a.Customer], Kind: kind.String(), Version: version}
		if random.IntN(10) > 0 { // its opening has been seen
			row.Opened, row.HasOpened = a.Ref, true
			w.Opened, w.Event = int64(a.At), a.ID
		}
		timing := func(t *satisfaction.Timing) warehouse.Timing {
			t.Done, t.Verdict = random.IntN(2) == 0, satisfaction.Verdict(random.IntN(4))
			if t.Done {
				t.Took = domain.Millis(random.IntN(50)) * 1000
			}
			return warehouse.Timing{Done: t.Done, At: int64(a.At), Took: int64(t.Took), Verdict: t.Verdict.String()}
		}
		w.Response, w.Resolution = timing(&row.FirstResponse), timing(&row.Resolution)
		out.cases, cases = append(out.cases, row), append(cases, w)
	}
	var touchpoints warehouse.TouchpointBlock
	placed := map[string]int{} // by customer and order
	for range answers {
		f, a := touched(policy.ActSurveySent)
		feedback = feedback[:len(feedback)-1] // an order is no feedback
		order := ""
		if random.IntN(4) > 0 {
			order = fmt.Sprint("o", random.IntN(answers/20+1))
		}
		touchpoints.Append(&warehouse.Touchpoint{
			EventID: f.EventID, SubjectID: f.SubjectID, Subject: f.Subject, Source: f.Source, Channel: f.Channel, Type: "track",
			Name: "Order Completed", Meaning: string(policy.Purchase), OccurredAt: f.OccurredAt, Position: f.Position, OrderID: order,
		})
		if a.Customer == warehouse.Nobody {
			continue
		}
		key := a.Customer.String() + order
		if order == "" {
			key += a.ID.String()
		}
		if i, ok := placed[key]; !ok {
			placed[key] = len(out.orders)
			out.orders = append(out.orders, a)
		} else if a.Compare(out.orders[i].Ref) < 0 {
			out.orders[i] = a
		}
	}
	must(s.db.WriteFeedback(ctx, g, feedback))
	must(s.db.WriteSurveys(ctx, g, surveys))
	must(s.db.WriteCases(ctx, g, cases))
	must(s.db.WriteTouchpoints(ctx, g, &touchpoints))
	return out
}

// figures are the figures by the rules of domain/satisfaction, nil where there is
// nothing.
func (o *opinionated) figures(q FiguresQuery, from, to time.Time) *Figures {
	f := satisfaction.Filter{Stage: q.Stage, Tier: q.Tier, Channel: q.Channel, Source: q.Source}
	if !from.IsZero() {
		f.From = domain.MillisOf(from)
	}
	if !to.IsZero() {
		f.To = domain.MillisOf(to)
	}
	is := func(tier string) bool { return q.Programme == "" || tier != "" }
	out := &Figures{From: from, To: to}
	var answers []satisfaction.Answer
	for _, a := range o.answers {
		if is(a.Tier) {
			answers = append(answers, a)
		}
	}
	out.Opinions = satisfaction.OpinionsOf(satisfaction.Choose(answers, f, q.Every))
	var sent []satisfaction.SentRow
	for _, r := range o.sent {
		if is(r.Tier) {
			sent = append(sent, r)
		}
	}
	out.Responses = satisfaction.ResponseRate(sent, f)
	var cases []satisfaction.CaseRow
	for _, r := range o.cases {
		if is(r.Tier) {
			cases = append(cases, r)
		}
	}
	opened := 0
	for kind := satisfaction.Ticket; kind <= satisfaction.Call; kind++ {
		c := CaseFigures{Kind: kind, ServiceFigures: satisfaction.ServiceOf(cases, kind, f)}
		responded := cases[:0:0]
		for _, r := range cases {
			if r.FirstResponse.Done {
				responded = append(responded, r)
			}
		}
		c.Responded = satisfaction.ServiceOf(responded, kind, f).Opened
		opened += c.Opened
		out.Cases = append(out.Cases, c)
	}
	out.Complaints = out.Cases[satisfaction.Complaint].Opened
	for _, a := range o.orders {
		if is(a.Tier) && (f.From == 0 || a.At >= f.From) && (f.To == 0 || a.At < f.To) && (f.Stage == "" || f.Stage == a.Stage) &&
			(f.Tier == "" || f.Tier == a.Tier) && (f.Channel == "" || f.Channel == a.Channel) && (f.Source == "" || f.Source == a.Source) {
			out.Orders++
		}
	}
	if out.NPS.N+out.CSAT.N+out.CES.N+out.Responses.N+out.Orders+opened == 0 {
		return nil
	}
	return out
}

// The engine's figures are those of the rules, whatever is asked.
func TestFiguresAreThoseOfTheRules(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	random := rand.New(rand.NewPCG(7, 11))
	all := s.fillOpinions(random, 3000)
	pick := func(of ...string) string { return of[random.IntN(len(of))] }
	programme := s.views.active.rules.book.Programmes()[0].ID
	some := map[string]int{}
	for i := range 30 {
		q := FiguresQuery{
			Stage: pick("", "", "lead", "loyal"), Tier: pick("", "", "member", "gold"), Channel: pick("", "", "email"), Source: pick("", "", "till"),
			Every: random.IntN(2) == 0,
		}
		if q.Tier == "" {
			q.Programme = pick("", programme)
		}
		zone, err := time.LoadLocation(pick("UTC", "Europe/Berlin", "America/St_Johns", "Pacific/Apia", "Asia/Shanghai"))
		if err != nil {
			t.Fatal(err)
		}
		q.By, q.Zone = pick("", "day", "week", "month"), zone
		moment := func() time.Time {
			if random.IntN(3) == 0 {
				return time.Time{}
			}
			return (day0 + domain.Millis(random.IntN(300))*9*domain.Day/24).Time()
		}
		q.From, q.To = moment(), moment()
		total, parts, _, err := s.views.SatisfactionFigures(t.Context(), q)
		if err != nil {
			t.Fatalf("%+v: %v", q, err)
		}
		if q.Tier != "" {
			q.Programme = programme
		}
		want := all.figures(q, q.From, q.To)
		if want == nil {
			some["nothing"]++
			want = (&opinionated{}).none(q.From, q.To)
		}
		if !reflect.DeepEqual(total, *want) {
			t.Fatalf("%d: %+v:\n got %+v\nwant %+v", i, q, total, *want)
		}
		some["answers"] += total.NPS.N + total.CSAT.N + total.CES.N
		some["orders"] += total.Orders
		if q.By == "" {
			if parts != nil {
				t.Fatalf("%+v: parts %+v", q, parts)
			}
			continue
		}
		var wanted []Figures
		begin := time.Date(2020, 1, 6, 0, 0, 0, 0, zone) // a Monday
		if q.By == "month" {
			begin = time.Date(2020, 1, 1, 0, 0, 0, 0, zone)
		}
		for at := begin; at.Year() < 2030; {
			var next time.Time
			switch q.By {
			case "day":
				next = time.Date(at.Year(), at.Month(), at.Day()+1, 0, 0, 0, 0, zone)
			case "week":
				next = time.Date(at.Year(), at.Month(), at.Day()+7, 0, 0, 0, 0, zone)
			case "month":
				next = time.Date(at.Year(), at.Month()+1, 1, 0, 0, 0, 0, zone)
			}
			from, to := at.UTC(), next.UTC()
			if !q.From.IsZero() && from.Before(q.From) {
				from = q.From
			}
			if !q.To.IsZero() && to.After(q.To) {
				to = q.To
			}
			if at = next; from.Before(to) {
				if f := all.figures(q, from, to); f != nil {
					wanted = append(wanted, *f)
				}
			}
		}
		if len(parts) != len(wanted) {
			t.Fatalf("%d: %+v: %d parts, want %d", i, q, len(parts), len(wanted))
		}
		for j := range parts {
			if !reflect.DeepEqual(parts[j], wanted[j]) {
				t.Fatalf("%d: %+v: part %d:\n got %+v\nwant %+v", i, q, j, parts[j], wanted[j])
			}
		}
		some["parts"] += len(parts)
	}
	t.Log(some)
	if some["answers"] < 500 || some["parts"] < 150 || some["orders"] < 3000 {
		t.Errorf("too little was compared: %v", some)
	}
	var bad *QuestionError
	if _, _, _, err := s.views.SatisfactionFigures(t.Context(), FiguresQuery{Programme: "unheard-of"}); !errors.As(err, &bad) {
		t.Errorf("a programme that there is not: %v", err)
	}
}

// none are the figures of nothing.
func (*opinionated) none(from, to time.Time) *Figures {
	f := &Figures{From: from, To: to, Opinions: satisfaction.OpinionsOf(nil), Responses: satisfaction.ShareOf(0, 0)}
	for kind := satisfaction.Ticket; kind <= satisfaction.Call; kind++ {
		f.Cases = append(f.Cases, CaseFigures{Kind: kind, ServiceFigures: satisfaction.ServiceOf(nil, kind, satisfaction.Filter{})})
	}
	return f
}

func TestComplaintRate(t *testing.T) {
	for _, c := range []struct {
		complaints, orders int
		value, low, high   float64
		known              bool
	}{
		{0, 0, 0, 0, 0, false},
		{3, 2, 1500, 0, 0, false},
		{0, 20, 0, 0, 161.1, true},
		{81, 263, 308, 255.3, 366.2, true},
	} {
		f := Figures{Complaints: c.complaints, Orders: c.orders}
		value, low, high, known := f.ComplaintRate()
		near := func(a, b float64) bool { return a-b < 0.06 && b-a < 0.06 }
		if known != c.known || !near(value, c.value) || !near(low, c.low) || !near(high, c.high) {
			t.Errorf("%d of %d: %v %v %v %t", c.complaints, c.orders, value, low, high, known)
		}
	}
}
