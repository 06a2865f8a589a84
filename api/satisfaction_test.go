package api_test

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"sojourn/domain"
	"sojourn/domain/satisfaction"
	"sojourn/projections"
)

// fakeSatisfaction answers what is asked about satisfaction and keeps the question.
type fakeSatisfaction struct {
	asked    projections.At
	figures  projections.FiguresQuery
	feedback projections.FeedbackQuery
	topics   projections.Periods
	handling projections.HandlingRequest
	limit    int
	cursor   string
	err      error
}

var noonMillis = domain.MillisOf(noon)

func ref(at domain.Millis) satisfaction.Ref { return satisfaction.Ref{At: at, ID: moved} }

// content is a customer who is neither delighted nor gone.
var content = satisfaction.View{
	Status: satisfaction.Satisfied, Since: noonMillis, Reason: "NPS 8 of 10", Cause: satisfaction.Cause{Touchpoint: moved},
	Known: true, Index: 20, Uncapped: 80, UnknownFrom: noonMillis + domain.Day, Signals: 2, Flagged: 1, OpenComplaints: 1, OpenTickets: 2,
	NPS: satisfaction.Measure{
		Count: 2, Last: satisfaction.Score{Value: 80_000, Scale: satisfaction.Scale{Low: 0, High: 10}, Points: 80}, At: ref(noonMillis), Change: -10, HasChange: true,
	},
	Review: satisfaction.Measure{Count: 1, Last: satisfaction.Score{Value: 45_000, Scale: satisfaction.Scale{Low: 1, High: 5}, Points: 87.5}, At: ref(noonMillis)},
	Cases: []satisfaction.Case{
		{
			Kind: satisfaction.Ticket, ID: "t-1", First: ref(noonMillis), Opened: ref(noonMillis), HasOpened: true, Open: true, Escalated: true, Reopened: 1, Priority: "urgent",
			FirstResponse: satisfaction.Timing{Done: true, Ref: ref(noonMillis + 1000), Took: 1000, Target: 2000, Verdict: satisfaction.VerdictMet, Due: 7},
			Resolution:    satisfaction.Timing{Took: 5000, Target: 4000, Due: noonMillis + 4000, Verdict: satisfaction.VerdictBreached},
		},
		{Kind: satisfaction.Complaint, First: ref(noonMillis), Open: true},
	},
	Surveys: []satisfaction.Survey{
		{Sent: ref(noonMillis), Kind: satisfaction.NPS, Survey: "s-1", Campaign: "spring", Answered: true, Answer: ref(noonMillis + 1)},
		{Sent: ref(noonMillis)},
	},
}

var careful = satisfaction.Service{Level: "careful", Reasons: []string{"watch_list: returns"}, Until: noonMillis + domain.Day}

const contentJSON = `"status":"satisfied","since":"2026-03-01T12:00:00Z","reason":"NPS 8 of 10","cause":"touchpoint:22222222-2222-5222-8222-222222222222",
	"index":20,"uncapped_index":80,"unknown_from":"2026-03-02T12:00:00Z","signals":2,"flagged":1,"open_complaints":1,"open_tickets":2,
	"nps":{"score":8,"scale":"0-10","points":80,"at":"2026-03-01T12:00:00Z","event_id":"22222222-2222-5222-8222-222222222222","answers":2,"change":-10},
	"review":{"score":4.5,"scale":"1-5","points":87.5,"at":"2026-03-01T12:00:00Z","event_id":"22222222-2222-5222-8222-222222222222","answers":1}`

const carefulJSON = `{"level":"careful","reasons":["watch_list: returns"],"until":"2026-03-02T12:00:00Z"}`

func (f *fakeSatisfaction) Satisfaction(_ context.Context, ref string, at projections.At) (projections.Satisfaction, error) {
	f.asked = at
	switch ref {
	case "user:42", ada.String():
		return projections.Satisfaction{
			Customer: ada, View: content, Service: careful, AsOf: noon,
			Past: []satisfaction.Transition{
				{From: satisfaction.Unknown, To: satisfaction.Satisfied, At: noonMillis, Index: 80, Reason: "NPS 8 of 10", Cause: satisfaction.Cause{Touchpoint: moved}},
				{From: satisfaction.Satisfied, To: satisfaction.Unknown, At: noonMillis + 1, Reason: "the last answer is too old", Cause: satisfaction.Cause{Rule: satisfaction.RuleFaded, Touchpoint: moved}},
			},
		}, f.err
	case moved.String():
		return projections.Satisfaction{}, &projections.MovedError{To: ada}
	case "user:new":
		return projections.Satisfaction{Customer: ada, View: satisfaction.View{Status: satisfaction.Unknown}}, nil
	}
	return projections.Satisfaction{}, projections.ErrNotFound
}

func (f *fakeSatisfaction) SatisfactionFigures(_ context.Context, q projections.FiguresQuery) (projections.Figures, []projections.Figures, time.Time, error) {
	f.figures = q
	total := projections.Figures{From: q.From, To: q.To, Responses: satisfaction.ShareOf(0, 0)}
	total.Opinions = satisfaction.OpinionsOf(nil)
	total.CES = satisfaction.MeanOf(1, 7, 49)
	part := projections.Figures{From: noon, To: noon.Add(time.Hour), Complaints: 1, Orders: 4, Responses: satisfaction.ShareOf(1, 2)}
	part.NPS = satisfaction.NetPromoterOf(5, 3, 2)
	part.CSAT, part.Easy, part.CES = satisfaction.ShareOf(4, 4), satisfaction.ShareOf(1, 3), satisfaction.MeanOf(3, 12, 56)
	part.Cases = []projections.CaseFigures{{Kind: satisfaction.Complaint, Responded: 9, ServiceFigures: satisfaction.ServiceFigures{
		Opened: 9, Resolved: 8, FirstResponseP50: 1, FirstResponseP90: 2, ResolutionP50: 3, ResolutionP90: 4,
		FirstResponseWithin: satisfaction.ShareOf(1, 1), ResolutionWithin: satisfaction.ShareOf(0, 0),
	}}}
	nothing := satisfaction.ServiceOf(nil, satisfaction.Call, satisfaction.Filter{})
	part.Cases = append(part.Cases, projections.CaseFigures{Kind: satisfaction.Chat, Responded: 1, ServiceFigures: nothing}, projections.CaseFigures{Kind: satisfaction.Call, ServiceFigures: nothing})
	return total, []projections.Figures{part}, noon, f.err
}

func (f *fakeSatisfaction) Feedback(_ context.Context, q projections.FeedbackQuery, limit int, cursor string) ([]projections.FeedbackEntry, string, error) {
	f.feedback, f.limit, f.cursor = q, limit, cursor
	if cursor == "bad" {
		return nil, "", projections.ErrBadCursor
	}
	return []projections.FeedbackEntry{
		{
			Event: moved, Customer: ada, Subject: "user:42", At: noon, Act: "survey_answered", Kind: "nps", Channel: "email", Source: "shop", Score: "3", ScaleHigh: 10,
			Question: "Why?", Comment: "Late", Survey: "s-1", Campaign: "spring", Status: "assigned", Assignee: "mia", Topics: []string{"delivery"}, Need: "functional",
			Priority: "high", HandledBy: "jo", HandledAt: noon, Revision: 2,
		},
		{Event: ada, Subject: "anon:x", At: noon, Act: "complaint_opened", Status: "open"},
	}, "more", f.err
}

func (f *fakeSatisfaction) HandleFeedback(_ context.Context, r projections.HandlingRequest) (projections.Handled, error) {
	f.handling = r
	h := projections.Handled{Handling: projections.Handling{Event: r.Event, Status: "assigned", Assignee: "mia", Author: "jo", At: "2026-03-01T12:00:00.000Z"}, Revision: 3, Position: 77}
	switch {
	case r.Event == ada:
		return projections.Handled{}, projections.ErrNoFeedback
	case r.Expected != nil && *r.Expected != 2:
		return projections.Handled{}, &projections.HandlingConflictError{Present: h}
	}
	return h, f.err
}

func (f *fakeSatisfaction) FeedbackTopics(_ context.Context, p projections.Periods) ([]projections.TopicPeriod, error) {
	f.topics = p
	return []projections.TopicPeriod{{From: noon, To: noon.Add(time.Hour), Comments: 3, Topics: []projections.TopicCount{
		{Topic: "delivery", Comments: 2, High: 1}, {Topic: "", Comments: 1, Change: -2, Known: true},
	}}}, f.err
}

func TestSatisfaction(t *testing.T) {
	f := &fake{}
	s, _ := start(t, f)
	const path = "/api/v1/customers/user:42/satisfaction"
	const id = `"22222222-2222-5222-8222-222222222222"`
	want(t, s, "GET", path+"?as_of=2026-03-01&known_at=2026-03-02T00:00:00Z", "", 200, `{"id":"11111111-1111-5111-8111-111111111111",`+contentJSON+`,
		"service":`+carefulJSON+`,
		"transitions":[{"from":"unknown","to":"satisfied","at":"2026-03-01T12:00:00Z","index":80,"reason":"NPS 8 of 10","cause":"touchpoint:22222222-2222-5222-8222-222222222222"},
			{"from":"satisfied","to":"unknown","at":"2026-03-01T12:00:00.001Z","reason":"the last answer is too old","cause":"deadline:faded:22222222-2222-5222-8222-222222222222"}],
		"cases":[{"kind":"ticket","id":"t-1","opened_at":"2026-03-01T12:00:00Z","event_id":`+id+`,"open":true,"escalated":true,"reopened":1,"priority":"urgent",
				"first_response":{"done_at":"2026-03-01T12:00:01Z","event_id":`+id+`,"took_ms":1000,"target_ms":2000,"verdict":"met"},
				"resolution":{"took_ms":5000,"target_ms":4000,"due":"2026-03-01T12:00:04Z","verdict":"breached"}},
			{"kind":"complaint","open":true,"escalated":false,"reopened":0}],
		"surveys":[{"event_id":`+id+`,"sent_at":"2026-03-01T12:00:00Z","kind":"nps","survey_id":"s-1","campaign":"spring","answer_id":`+id+`,"answered_at":"2026-03-01T12:00:00.001Z"},
			{"event_id":`+id+`,"sent_at":"2026-03-01T12:00:00Z"}],
		"as_of":"2026-03-01T12:00:00Z"}`)
	if want := (projections.At{AsOf: time.Date(2026, 3, 1, 23, 59, 59, 999e6, time.UTC), KnownAt: time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)}); f.asked != want {
		t.Errorf("asked about %+v, want %+v", f.asked, want)
	}
	if _, _, got := ask(t, s, "GET", "/api/v1/customers/user:new/satisfaction", ""); strings.Contains(got, "null") || strings.Contains(got, "since") {
		t.Error(got)
	}
	wantProblem(t, s, "GET", "/api/v1/customers/user:nobody/satisfaction", "", 404, "no such customer")
	wantProblem(t, s, "GET", "/api/v1/customers/pla-net:earth/satisfaction", "", 422, "use user, anon, email, phone, device")
	h := wantProblem(t, s, "GET", "/api/v1/customers/"+moved.String()+"/satisfaction?as_of=2026-03-01", "", 308, ada.String())
	if got, want := h.Get("Location"), "/api/v1/customers/"+ada.String()+"/satisfaction?as_of=2026-03-01"; got != want {
		t.Errorf("an old id leads to %q, want %q", got, want)
	}
}

func TestSatisfactionFigures(t *testing.T) {
	f := &fake{held: 5}
	s, _ := start(t, f)
	const path = "/api/v1/satisfaction"
	none := `{"n":0,"count":0,"value":null,"low":0,"high":1}`
	_, _, got := ask(t, s, "GET", path+"?from=2026-03-01&to=2026-03-29T12:00:00.1239%2B02:00&tz=Europe/Berlin&by=week&stage=loyal&tier=gold&programme=club&channel=email&source=shop&every=true&after=5", "")
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	asked := f.figures
	if asked.Zone.String() != berlin.String() {
		t.Errorf("asked in %s", asked.Zone)
	}
	asked.Zone = nil
	if want := (projections.FiguresQuery{
		Periods: projections.Periods{From: time.Date(2026, 2, 28, 23, 0, 0, 0, time.UTC), To: time.Date(2026, 3, 29, 10, 0, 0, 123e6, time.UTC), By: "week"},
		Stage:   "loyal", Tier: "gold", Programme: "club", Channel: "email", Source: "shop", Every: true,
	}); asked != want {
		t.Errorf("asked for %+v, want %+v", asked, want)
	}
	for _, part := range []string{
		`"from":"2026-02-28T23:00:00Z","to":"2026-03-29T10:00:00.123Z"`,
		`"nps":{"n":0,"promoters":0,"passives":0,"detractors":0,"value":null,"low":-100,"high":100}`,
		`"ces":{"n":1,"value":7,"low":null,"high":null,"easy":` + none + `}`,
		`"complaint_rate":{"complaints":0,"orders":0,"value":null,"low":null,"high":null},"cases":[]`,
		`"nps":{"n":10,"promoters":5,"passives":3,"detractors":2,"value":30,`,
		`"csat":{"n":4,"count":4,"value":1,"low":0.5`,
		`"response_rate":{"n":2,"count":1,"value":0.5,`,
		`"complaint_rate":{"complaints":1,"orders":4,"value":250,"low":`,
		`"cases":[{"kind":"complaint","opened":9,"resolved":8,"first_response":{"p50_ms":1,"p90_ms":2,"within":{"n":1,"count":1,"value":1,`,
		`"resolution":{"p50_ms":3,"p90_ms":4,"within":` + none,
		// At once is a time, nothing done is none.
		`{"kind":"chat","opened":0,"resolved":0,"first_response":{"p50_ms":0,"p90_ms":0,"within":` + none + `},"resolution":{"p50_ms":null,"p90_ms":null,`,
		`{"kind":"call","opened":0,"resolved":0,"first_response":{"p50_ms":null,"p90_ms":null,`,
		`"as_of":"2026-03-01T12:00:00Z"`,
	} {
		if !strings.Contains(got, part) {
			t.Errorf("the answer has no %s:\n%s", part, got)
		}
	}
	if code, _, got := ask(t, s, "GET", path, ""); code != 200 || strings.Contains(got, `"from":"0001`) || !f.figures.From.IsZero() || f.figures.By != "" || f.figures.Zone != time.UTC {
		t.Errorf("without anything: %d %s, asked %+v", code, got, f.figures)
	}
	for query, says := range map[string]string{
		"tz=Atlantis/Main": "query.tz", "tz=Local": "query.tz", "from=soon": "query.from", "to=2026-13-01": "query.to",
		"from=2026-03-01&to=2026-03-01": "the end is not after", "by=year": "by", "stage=happy": "stage", "every=often": "every", "stages=loyal": "stages",
	} {
		wantProblem(t, s, "GET", path+"?"+query, "", 422, says)
	}
	wantProblem(t, s, "GET", path+"?after=6", "", 503, "position")
	f.fakeSatisfaction.err = &projections.QuestionError{Message: "there is no programme club"}
	wantProblem(t, s, "GET", path, "", 422, "no programme club")
	f.fakeSatisfaction.err = errors.New("disk full")
	wantProblem(t, s, "GET", path, "", 500, "count the satisfaction")
}

func TestInbox(t *testing.T) {
	f := &fake{}
	s, _ := start(t, f)
	want(t, s, "GET", "/api/v1/feedback?status=assigned&topic=delivery&need=functional&priority=high&assignee=mia&limit=2&cursor=c1", "", 200, `{"feedback":[
		{"event_id":"22222222-2222-5222-8222-222222222222","customer_id":"11111111-1111-5111-8111-111111111111","subject":"user:42","at":"2026-03-01T12:00:00Z",
			"act":"survey_answered","kind":"nps","channel":"email","source":"shop","score":"3","scale_high":10,"question":"Why?","comment":"Late","survey_id":"s-1",
			"campaign":"spring","status":"assigned","assignee":"mia","sorted":false,"topics":["delivery"],"need":"functional","priority":"high",
			"handled_by":"jo","handled_at":"2026-03-01T12:00:00Z","revision":2},
		{"event_id":"11111111-1111-5111-8111-111111111111","subject":"anon:x","at":"2026-03-01T12:00:00Z","act":"complaint_opened","status":"open","sorted":false,"topics":[],"revision":0}],
		"next_cursor":"more"}`)
	if want := (projections.FeedbackQuery{Status: "assigned", Topic: "delivery", Need: "functional", Priority: "high", Assignee: "mia"}); f.feedback != want || f.fakeSatisfaction.limit != 2 || f.fakeSatisfaction.cursor != "c1" {
		t.Errorf("asked for %+v", f.feedback)
	}
	wantProblem(t, s, "GET", "/api/v1/feedback?cursor=bad", "", 422, "cursor")
	wantProblem(t, s, "GET", "/api/v1/feedback?status=done", "", 422, "status")
	wantProblem(t, s, "GET", "/api/v1/feedback?status=open,done", "", 422, "status")
	if code, _, got := ask(t, s, "GET", "/api/v1/feedback?status=open,assigned", ""); code != 200 || f.feedback.Status != "open,assigned" {
		t.Errorf("two statuses: %d %s, asked %+v", code, got, f.feedback)
	}
	f.fakeSatisfaction.err = errors.New("disk full")
	wantProblem(t, s, "GET", "/api/v1/feedback", "", 500, "list the feedback")
}

func TestHandleFeedback(t *testing.T) {
	f := &fake{held: 5}
	s, _ := start(t, f)
	path := "/api/v1/feedback/" + moved.String()
	text := func(s string) *string { return &s }
	two := uint64(2)
	const answer = `{"event_id":"22222222-2222-5222-8222-222222222222","revision":3,"status":"assigned","assignee":"mia","sorted":false,"topics":[],
		"handled_by":"jo","handled_at":"2026-03-01T12:00:00.000Z"}`
	for _, c := range []struct {
		do, body string
		want     projections.HandlingRequest
	}{
		{"assign", `{"assignee":"mia","author":"jo","expected":2}`, projections.HandlingRequest{Assignee: "mia", Expected: &two}},
		{"assign", `{"assignee":"","author":"jo"}`, projections.HandlingRequest{}},
		{"sort", `{"topics":["a","b"],"need":"social","priority":"low","author":"jo"}`, projections.HandlingRequest{Topics: &[]string{"a", "b"}, Need: text("social"), Priority: text("low")}},
		{"sort", `{"topics":[],"author":"jo"}`, projections.HandlingRequest{Topics: &[]string{}}},
		{"close", `{"answer":"Sorry!","author":"jo"}`, projections.HandlingRequest{Answer: "Sorry!"}},
	} {
		want(t, s, "POST", path+"/"+c.do+"?after=5", c.body, 200, answer)
		c.want.Event, c.want.Do, c.want.Author = moved, c.do, "jo"
		if !reflect.DeepEqual(f.handling, c.want) {
			t.Errorf("%s %s: asked for %+v, want %+v", c.do, c.body, f.handling, c.want)
		}
	}
	if _, h, _ := ask(t, s, "POST", path+"/close", `{"answer":"Sorry!","author":"jo"}`); h.Get("Sojourn-Position") != "77" {
		t.Errorf("Sojourn-Position is %q", h.Get("Sojourn-Position"))
	}
	wantProblem(t, s, "POST", path+"/assign", `{"assignee":"mia","author":"jo","expected":1}`, 409, `"present":{"event_id":"22222222-2222-5222-8222-222222222222","revision":3,"status":"assigned","assignee":"mia"`)
	wantProblem(t, s, "POST", "/api/v1/feedback/"+ada.String()+"/assign", `{"assignee":"mia","author":"jo"}`, 404, "no such entry")
	f.handling = projections.HandlingRequest{}
	for _, c := range [][3]string{
		{"assign", `{"author":"jo"}`, "assignee"},
		{"assign", `{"assignee":"mia"}`, "author"},
		{"assign", `{"assignee":"mia","author":""}`, "author"},
		{"assign", `{"assignee":"mia","author":"jo","expected":-1}`, "expected"},
		{"assign", `{"assignee":"mia","author":"jo","who":1}`, "who"},
		{"sort", `{"author":"jo"}`, "name topics"},
		{"sort", `{"topics":[""],"author":"jo"}`, "body.topics[0]"},
		{"sort", `{"need":"none","author":"jo"}`, "need"},
		{"close", `{"answer":"","author":"jo"}`, "answer"},
		{"close", `{"author":"jo"}`, "answer"},
	} {
		wantProblem(t, s, "POST", path+"/"+c[0], c[1], 422, c[2])
	}
	wantProblem(t, s, "POST", "/api/v1/feedback/42/close", `{"answer":"x","author":"jo"}`, 422, "event")
	wantProblem(t, s, "POST", path+"/close?after=6", `{"answer":"x","author":"jo"}`, 503, "position")
	if f.handling.Event != uuid.Nil {
		t.Errorf("a request that was refused was passed on: %+v", f.handling)
	}
}

func TestFeedbackTopics(t *testing.T) {
	f := &fake{}
	s, _ := start(t, f)
	want(t, s, "GET", "/api/v1/feedback/topics?from=2026-03-01&tz=Asia/Shanghai", "", 200, `{"periods":[{"from":"2026-03-01T12:00:00Z","to":"2026-03-01T13:00:00Z","comments":3,
		"topics":[{"topic":"delivery","comments":2,"high":1},{"topic":"","comments":1,"high":0,"change":-2}]}]}`)
	if f.topics.By != "week" || !f.topics.From.Equal(time.Date(2026, 2, 28, 16, 0, 0, 0, time.UTC)) || !f.topics.To.IsZero() {
		t.Errorf("asked for %+v", f.topics)
	}
	wantProblem(t, s, "GET", "/api/v1/feedback/topics?by=hour", "", 422, "by")
	f.fakeSatisfaction.err = &projections.QuestionError{Message: "more than 1000 parts"}
	wantProblem(t, s, "GET", "/api/v1/feedback/topics", "", 422, "1000 parts")
	// The document knows what a lost race answers.
	_, _, doc := ask(t, s, "GET", "/openapi.json", "")
	for _, has := range []string{`"present":{"$ref":"#/components/schemas/HandledBody"}`, `"uncapped_index"`} {
		if !strings.Contains(doc, has) {
			t.Errorf("the document has no %s", has)
		}
	}
}
