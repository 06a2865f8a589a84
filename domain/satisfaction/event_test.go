package satisfaction_test

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"sojourn/domain"
	"sojourn/domain/policy"
	"sojourn/domain/satisfaction"
)

func read(t *testing.T, act policy.Act, properties string) satisfaction.Event {
	t.Helper()
	var p map[string]json.RawMessage
	if err := json.Unmarshal([]byte(properties), &p); err != nil {
		t.Fatalf("%s: %v", properties, err)
	}
	return satisfaction.Read(act, func(key string) []byte { return p[key] })
}

func TestRead(t *testing.T) {
	type event = satisfaction.Event
	for _, c := range []struct {
		act        policy.Act
		properties string
		want       event
	}{
		{"", `{"score":9}`, event{}},
		{policy.ActSurveySent, `{"survey_id":7,"kind":"NPS","campaign":"spring","score":9}`, event{Kind: satisfaction.NPS, Survey: "7", Campaign: "spring"}},
		{policy.ActSurveySent, `{}`, event{}},
		{
			policy.ActSurveyAnswered, `{"kind":"csat","score":"4","scale":"1-5","question":"How was it?","comment":"gut","campaign":null}`,
			event{Kind: satisfaction.CSAT, State: satisfaction.ScoreRead, Score: 40_000, Scale: satisfaction.Scale{Low: 1, High: 5}, Question: "How was it?", Comment: "gut"},
		},
		{policy.ActSurveyAnswered, `{"score":3,"scale":7}`, event{Kind: satisfaction.Custom, State: satisfaction.ScoreRead, Score: 30_000, Scale: satisfaction.Scale{Low: 1, High: 7}}},
		{policy.ActSurveyAnswered, `{"kind":"mood","score":true,"scale":"a lot"}`, event{Kind: satisfaction.Custom, State: satisfaction.ScoreUnreadable, Scale: satisfaction.Scale{Low: 1}}},
		{policy.ActNPSAnswered, `{"kind":"csat","score":null}`, event{Kind: satisfaction.NPS}},
		{policy.ActCSATAnswered, `{"score":5}`, event{Kind: satisfaction.CSAT, State: satisfaction.ScoreRead, Score: 50_000}},
		{policy.ActCESAnswered, `{"score":5}`, event{Kind: satisfaction.CES, State: satisfaction.ScoreRead, Score: 50_000}},
		{
			policy.ActProductReviewed, `{"product_id":"p1","review_id":"r","review_body":"fits","rating":"4.5"}`,
			event{Kind: satisfaction.Review, State: satisfaction.ScoreRead, Score: 45_000, Comment: "fits", Product: "p1"},
		},
		{policy.ActProductReviewed, `{"rating":"7","scale":10}`, event{Kind: satisfaction.Review, State: satisfaction.ScoreRead, Score: 70_000, Scale: satisfaction.Scale{Low: 1, High: 10}}},
		{policy.ActTicketOpened, `{"ticket_id":12,"priority":" Urgent ","subject":"late"}`, event{Case: "12", Priority: "urgent", Comment: "late"}},
		{policy.ActTicketReplied, `{"ticket_id":"12"}`, event{Case: "12", By: satisfaction.ByAgent}},
		{policy.ActTicketReplied, `{"ticket_id":"12","by":"Customer","waiting_for":"agent"}`, event{Case: "12", By: satisfaction.ByCustomer, Waiting: satisfaction.ByAgent}},
		{policy.ActTicketReplied, `{"ticket_id":"12","by":"system","waiting_for":"customer"}`, event{Case: "12", Waiting: satisfaction.ByCustomer}},
		{policy.ActComplaintUpdated, `{"complaint_id":"c"}`, event{Case: "c"}},
		{policy.ActChatMessageReceived, `{"conversation_id":"x","message_body":"Hi"}`, event{Case: "x", By: satisfaction.ByAgent, Comment: "Hi"}},
		{policy.ActCallAnswered, `{"call_id":"k"}`, event{Case: "k", By: satisfaction.ByAgent}},
		{policy.ActCallStarted, `{"call_id":{}}`, event{}},
		{policy.ActTicketOpened, `{"channel":"E-Mail"}`, event{Channel: policy.Email}},
		{policy.ActComplaintOpened, `{"channel":"phone"}`, event{Channel: policy.Phone}},
		{policy.ActComplaintOpened, `{"channel":"fax"}`, event{}},
	} {
		c.want.Act = c.act
		if got := read(t, c.act, c.properties); got != c.want {
			t.Errorf("%s %s:\n%+v, want\n%+v", c.act, c.properties, got, c.want)
		}
	}
}

func TestRatings(t *testing.T) {
	for rating, want := range map[string]string{
		`"5"`: "5", `5`: "5", `"4.50"`: "4.5", `"4,5"`: "4.5", `" 3 "`: "3", `"4/5"`: "4 1-5", `"9 / 10"`: "9 1-10", `"4 out of 5"`: "4 1-5", `"4 of 5 stars"`: "4 1-5",
		`"5 stars"`: "5", `"1 Star"`: "1", `"★★★☆☆"`: "3", `"★★★★★"`: "5", `"5星"`: "5", `"4分"`: "4",
		`"good"`: "?", `"★★ ok"`: "?", `""`: "?", `"1,5,3"`: "?", `{}`: "?", `null`: "", `"4/x"`: "4 1-0",
	} {
		e := read(t, policy.ActProductReviewed, `{"rating":`+rating+`}`)
		got := ""
		switch e.State {
		case satisfaction.ScoreRead:
			got = e.Score.String()
			if e.Scale != (satisfaction.Scale{}) {
				got += fmt.Sprintf(" %d-%d", e.Scale.Low, e.Scale.High)
			}
		case satisfaction.ScoreUnreadable:
			got = "?"
		}
		if got != want {
			t.Errorf("%s is read as %q, want %q", rating, got, want)
		}
	}
}

// TestTheExamplesOfTheDocs reads each example of docs/events.md: the policy knows
// its name, and the act is the one in brackets above it.
func TestTheExamplesOfTheDocs(t *testing.T) {
	doc, err := os.ReadFile("../../docs/events.md")
	if err != nil {
		t.Fatal(err)
	}
	c := policy.Default().Compile()
	seen := map[policy.Act]bool{}
	for section := range strings.SplitSeq(string(doc), "\n### ") {
		name, rest, _ := strings.Cut(section, "\n")
		example := regexp.MustCompile("(?s)```json\n(.*?)```").FindStringSubmatch(rest)
		if example == nil {
			continue
		}
		var message struct {
			Type, Event string
			Properties  map[string]json.RawMessage
		}
		if err := json.Unmarshal([]byte(example[1]), &message); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		rule := c.Classify(domain.Track, "x", message.Event)
		if message.Type != "track" || message.Event != name || rule.Act == "" || !strings.Contains(rest, "(`"+string(rule.Act)+"`)") {
			t.Errorf("%s is read as %q", name, rule.Act)
		}
		for key := range message.Properties {
			if !strings.Contains(rest, "`"+key+"`") {
				t.Errorf("%s: %s is not described", name, key)
			}
		}
		e := satisfaction.Read(rule.Act, func(key string) []byte { return message.Properties[key] })
		_, hasScore := message.Properties["score"]
		_, hasRating := message.Properties["rating"]
		if (hasScore || hasRating) != (e.State == satisfaction.ScoreRead) {
			t.Errorf("%s is read as %+v", name, e)
		}
		seen[rule.Act] = true
	}
	for _, act := range policy.Acts {
		switch act {
		case policy.ActNPSAnswered, policy.ActCSATAnswered, policy.ActCESAnswered, policy.ActTicketClosed:
			if !strings.Contains(string(doc), "`"+string(act)+"`") {
				t.Errorf("%s is not described", act)
			}
		default:
			if !seen[act] {
				t.Errorf("%s has no example", act)
			}
		}
	}
}

// TestEveryActLeavesAFact keeps the acts of the policy and those of the facts
// together.
func TestEveryActLeavesAFact(t *testing.T) {
	for _, act := range policy.Acts {
		var f satisfaction.Facts
		touch := on(day(0), act, "score=9, rating=3")
		if got, want := f.Add(touch), act != policy.ActChatMessageSent; got != want || f.Empty() == want {
			t.Errorf("%s: changed %v, want %v", act, got, want)
		}
		if got := f.Last(); got != touch.Ref && act != policy.ActChatMessageSent {
			t.Errorf("%s: the last is %+v", act, got)
		}
	}
	// The names that people know.
	c := policy.Default().Compile()
	for name, want := range map[string]policy.Act{
		"Survey Sent": policy.ActSurveySent, "survey_answered": policy.ActSurveyAnswered, "NPS": policy.ActNPSAnswered,
		"Product Reviewed": policy.ActProductReviewed, "Complaint Opened": policy.ActComplaintOpened, "Complaint Updated": policy.ActComplaintUpdated,
		"Complaint Resolved": policy.ActComplaintResolved, "Ticket Opened": policy.ActTicketOpened, "Ticket Replied": policy.ActTicketReplied,
		"Ticket Escalated": policy.ActTicketEscalated, "Ticket Resolved": policy.ActTicketResolved, "Ticket Reopened": policy.ActTicketReopened,
		"Live Chat Conversation Started": policy.ActChatStarted, "Live Chat Message Sent": policy.ActChatMessageSent,
		"Live Chat Message Received": policy.ActChatMessageReceived, "Live Chat Conversation Ended": policy.ActChatEnded,
		"Call Started": policy.ActCallStarted, "Call Answered": policy.ActCallAnswered, "Call Missed": policy.ActCallMissed, "Call Ended": policy.ActCallEnded,
		"Order Completed": "", "Ticket Updated": "",
	} {
		if got := c.Classify(domain.Track, "shop", name); got.Act != want || got.Meaning == policy.Unmapped {
			t.Errorf("%s is %+v, want %s", name, got, want)
		}
	}
}
