package segmentapi_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sojourn/domain"
	"sojourn/domain/policy"
	"sojourn/eventstore"
	"sojourn/ingest"
	"sojourn/ingest/internal/ingesttest"
	"sojourn/ingest/segmentapi"
)

// message is a page call of a given size in bytes.
func message(id string, size int) string {
	head := `{"type":"page","messageId":"` + id + `","userId":"u","pad":"`
	return head + strings.Repeat("x", size-len(head)-2) + `"}`
}

func TestSizes(t *testing.T) {
	t.Run("an event of 32768 bytes", func(t *testing.T) {
		s := start(t)
		s.ok(s.post("/v1/page", message("m", 32768)))
		s.ok(s.post("/v1/batch", `{"batch":[`+message("n", 32768)+`]}`))
		if n := len(s.Touchpoints(t)); n != 2 {
			t.Fatalf("%d touchpoints", n)
		}
	})
	t.Run("a larger event is a reject", func(t *testing.T) {
		s := start(t)
		body := message("m", 32769)
		s.ok(s.post("/v1/page", body))
		if r := s.onlyReject(); r.Code != ingest.CodeTooLarge || string(r.Raw) != body || r.MessageID != "m" || r.Source != "shop" {
			t.Fatalf("%s %s", r.Code, r.Reason)
		}
	})
	t.Run("a larger event does not spoil its batch", func(t *testing.T) {
		s := start(t)
		s.ok(s.post("/v1/batch", `{"batch":[`+message("a", 100)+","+message("b", 32769)+","+message("c", 100)+`]}`))
		if n, r := len(s.Touchpoints(t)), s.Rejects(t); n != 2 || len(r) != 1 || r[0].MessageID != "b" {
			t.Fatalf("%d touchpoints, rejects %+v", n, r)
		}
	})
	for _, zipped := range []bool{false, true} {
		t.Run(fmt.Sprintf("a batch of 524288 bytes and one more, gzip %v", zipped), func(t *testing.T) {
			s := start(t)
			send := func(size int) answer {
				body := `{"batch":[` + message("a", 100) + `]}`
				body += strings.Repeat(" ", size-len(body))
				if !zipped {
					return s.post("/v1/batch", body)
				}
				r := s.request("/v1/batch", zip(t, body))
				r.Header.Set("Content-Encoding", "gzip")
				return s.do(r)
			}
			s.ok(send(524288))
			s.refused(send(524289), 400, "batch_too_large")
			if n := len(s.Touchpoints(t)); n != 1 {
				t.Fatalf("%d touchpoints", n)
			}
			all := s.Rejects(t)
			if len(all) != 1 || !all[0].Refused || all[0].Status != 400 || all[0].Code != "batch_too_large" || len(all[0].Raw) != 4096 {
				t.Fatalf("listed %+v", all)
			}
		})
	}
	t.Run("a body far too large", func(t *testing.T) {
		s := start(t)
		s.refused(s.post("/v1/batch", `{"batch":[`+strings.Repeat(" ", 4<<20)+`]}`), 400, "batch_too_large")
	})
	t.Run("a body too large without a key that can be seen", func(t *testing.T) {
		s := start(t)
		r := httptest.NewRequest(http.MethodPost, "/v1/batch", strings.NewReader(strings.Repeat(" ", 600_000)))
		s.refused(s.do(r), 400, "batch_too_large")
		if len(s.Rejects(t)) != 0 {
			t.Fatal("a stranger's body was listed")
		}
	})
	t.Run("a zip bomb", func(t *testing.T) {
		s := start(t)
		bomb := zip(t, strings.Repeat(" ", 64<<20))
		r := s.request("/v1/batch", bomb)
		r.Header.Set("Content-Encoding", "gzip")
		s.refused(s.do(r), 400, "batch_too_large")
	})
	t.Run("gzip that never begins", func(t *testing.T) {
		s := start(t)
		r := s.request("/v1/batch", strings.Repeat(zip(t, ""), 100_000))
		r.Header.Set("Content-Encoding", "gzip")
		s.refused(s.do(r), 400, "batch_too_large")
	})
	t.Run("context beside every message", func(t *testing.T) {
		s := start(t)
		big := `{"x":"` + strings.Repeat("x", 32760) + `"}`
		s.refused(s.post("/v1/batch", `{"context":`+big+`x","batch":[]}`), 400, "invalid_json")
		// Nothing is refused and nothing is lost: the batch is one reject, whole.
		for _, body := range []string{
			`{"context":` + big + `,"integrations":{},"batch":[` + message("m", 100) + `]}`,
			`{"context":{"x":"` + strings.Repeat("x", 20_000) + `"},"batch":[` + strings.TrimSuffix(strings.Repeat("0,", 1000), ",") + `]}`,
		} {
			s := start(t)
			s.ok(s.post("/v1/batch", body))
			if r := s.onlyReject(); r.Code != ingest.CodeContextTooBig || string(r.Raw) != body {
				t.Errorf("reject %s with %d bytes, %d were sent", r.Code, len(r.Raw), len(body))
			}
		}
	})
}

func TestMoreThan2500EventsInABatch(t *testing.T) {
	s := start(t)
	var b strings.Builder
	for i := range 2503 {
		fmt.Fprintf(&b, `,{"type":"page","messageId":"m%d","userId":"u"}`, i)
	}
	body := `{"batch":[` + b.String()[1:] + `]}`
	a := s.ok(s.post("/v1/batch", body))
	rejects := s.Rejects(t)
	if n := len(s.Touchpoints(t)); n != 2500 || len(rejects) != 3 {
		t.Fatalf("%d touchpoints, %d rejects", n, len(rejects))
	}
	for i, r := range rejects {
		if r.Code != ingest.CodeBatchTooLong || r.MessageID != fmt.Sprintf("m%d", 2502-i) {
			t.Fatalf("%+v", r)
		}
	}
	if head, _ := s.Store.Head(t.Context()); a.position(t) != uint64(head) {
		t.Fatalf("position %d, head %d", a.position(t), head)
	}
	s.ok(s.post("/v1/batch", body))
	if n, r := len(s.Touchpoints(t)), len(s.Rejects(t)); n != 2500 || r != 3 {
		t.Fatalf("a repeat made %d touchpoints and %d rejects", n, r)
	}
	result, err := s.Service.Replay(t.Context(), ingest.ReplayFilter{}, nil)
	if err != nil || result.Replayed != 3 || len(s.Touchpoints(t)) != 2503 {
		t.Fatalf("%+v %v", result, err)
	}
}

func TestBatchContextAndIntegrations(t *testing.T) {
	s := start(t)
	s.ok(s.post("/v1/batch", `{"context": {"ip":"1.2.3.4"} ,"integrations":{"All":false},"sentAt":"2026-03-01T12:00:00Z",
		"batch":[{"type":"page","userId":"u","context":{"locale":"de"}},{"type":"bad","messageId":"m"}]}`))
	all := s.Touchpoints(t)
	if len(all) != 1 || all[0].BatchContext != `{"ip":"1.2.3.4"}` || all[0].BatchIntegrations != `{"All":false}` || all[0].SentAt != "2026-03-01T12:00:00Z" {
		t.Fatalf("%+v", all)
	}
	if string(all[0].Event.Data) != `{"type":"page","userId":"u","context":{"locale":"de"}}` {
		t.Fatalf("kept %s", all[0].Event.Data)
	}
	if r := s.Rejects(t); len(r) != 1 || r[0].Context != `{"ip":"1.2.3.4"}` || r[0].Integrations != `{"All":false}` || r[0].SentAt != `"2026-03-01T12:00:00Z"` {
		t.Fatalf("%+v", r)
	}
}

func TestRefusedBodies(t *testing.T) {
	s := start(t)
	for body, code := range map[string]string{
		``: "invalid_json", ` `: "invalid_json", `{`: "invalid_json", `nonsense`: "invalid_json",
		`{"batch":[{"type":"page","userId":"u"},]}`: "invalid_json", `{"batch":[]} x`: "invalid_json",
		"{\"batch\":[],\"context\":{\"a\":\"\xff\"}}": "invalid_json",
		`{}`: "invalid_batch", `[]`: "invalid_batch", `7`: "invalid_batch", `{"batch":{}}`: "invalid_batch", `{"batch":null}`: "invalid_batch",
	} {
		s.refused(s.post("/v1/batch", body), 400, code)
	}
	if n := len(s.Rejects(t)); n != 12 {
		t.Fatalf("%d listed", n)
	}
	s.refused(s.post("/v1/track", `{"userId":`), 400, "invalid_json")
	s.refused(s.post("/v1/track", `{"userId":`), 400, "invalid_json")
	listed := s.Rejects(t)
	if r := listed[0]; len(listed) != 13 || !r.Refused || r.Status != 400 || string(r.Raw) != `{"userId":` || r.Source != "shop" || r.Reason == "" || r.Size != 10 {
		t.Fatalf("%+v", r)
	}
	s.ok(s.post("/v1/batch", `{"batch":[]}`))
	s.ok(s.post("/v1/batch", `{"batch":0,"batch":[{"type":"page","userId":"last one counts"}]}`))
	if tp := s.only(); tp.UserID != "last one counts" {
		t.Fatal(tp.UserID)
	}
}

// TestRejects sends one bad item between two good ones, and alone.
func TestRejects(t *testing.T) {
	for name, tt := range map[string]struct {
		item string
		code ingest.Code
		id   string
	}{
		"no object":               {`"text"`, ingest.CodeNotAnObject, ""},
		"an array":                {`[1,2]`, ingest.CodeNotAnObject, ""},
		"null":                    {`null`, ingest.CodeNotAnObject, ""},
		"no id":                   {`{"type":"page","messageId":"m"}`, ingest.CodeNoID, "m"},
		"ids that are none":       {`{"type":"page","messageId":"m","userId":"null","anonymousId":0}`, ingest.CodeNoID, "m"},
		"an object as id":         {`{"type":"page","messageId":"m","userId":{"id":1}}`, ingest.CodeNoID, "m"},
		"true as id":              {`{"type":"page","messageId":"m","userId":true}`, ingest.CodeNoID, "m"},
		"alias with previous id":  {`{"type":"alias","messageId":"m","previousId":"p"}`, ingest.CodeNoID, "m"},
		"track without a name":    {`{"type":"track","messageId":"m","userId":"u"}`, ingest.CodeNoEventName, "m"},
		"track with an odd name":  {`{"type":"track","messageId":"m","userId":"u","event":{}}`, ingest.CodeNoEventName, "m"},
		"timestamp in words":      {`{"type":"page","messageId":"m","userId":"u","timestamp":"yesterday"}`, ingest.CodeBadTime, "m"},
		"timestamp as number":     {`{"type":"page","messageId":"m","userId":"u","timestamp":1700000000}`, ingest.CodeBadTime, "m"},
		"empty timestamp":         {`{"type":"page","messageId":"m","userId":"u","timestamp":""}`, ingest.CodeBadTime, "m"},
		"30 February":             {`{"type":"page","messageId":"m","userId":"u","timestamp":"2026-02-30T00:00:00Z"}`, ingest.CodeBadTime, "m"},
		"before 1900":             {`{"type":"page","messageId":"m","userId":"u","timestamp":"0001-01-01T00:00:00Z"}`, ingest.CodeBadTime, "m"},
		"sentAt in words":         {`{"type":"page","messageId":"m","userId":"u","sentAt":"now"}`, ingest.CodeBadTime, "m"},
		"sentAt far from the day": {`{"type":"page","messageId":"m","userId":"u","timestamp":"1970-01-01T00:00:00Z","sentAt":"2199-01-01T00:00:00Z"}`, ingest.CodeBadTime, "m"},
		"not UTF-8":               {"{\"type\":\"page\",\"messageId\":\"m\",\"userId\":\"\xff\"}", ingest.CodeInvalidUTF8, "m"},
		"too deep":                {`{"type":"page","messageId":"m","userId":"u","x":` + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000) + `}`, ingest.CodeTooDeep, "m"},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			a := s.ok(s.post("/v1/batch", `{"batch":[{"type":"page","userId":"a"},`+tt.item+`,{"type":"page","userId":"b"}]}`))
			rejects := s.Rejects(t)
			if len(s.Touchpoints(t)) != 2 || len(rejects) != 1 {
				t.Fatalf("%d touchpoints, rejects %+v", len(s.Touchpoints(t)), rejects)
			}
			r := rejects[0]
			if r.Code != tt.code || r.Reason == "" || string(r.Raw) != tt.item || r.Source != "shop" || r.Replayed || !r.ReceivedAt.Equal(ingesttest.Now) {
				t.Fatalf("%+v", r)
			}
			if tt.id != "" && r.MessageID != tt.id || tt.id == "" && len(r.MessageID) != 36 {
				t.Fatalf("message id %q", r.MessageID)
			}
			if head, _ := s.Store.Head(t.Context()); a.position(t) != uint64(head) {
				t.Fatalf("position %d, head %d", a.position(t), head)
			}
			s.ok(s.post("/v1/batch", `{"batch":[`+tt.item+`]}`))
			want := 1
			if tt.id == "" {
				want = 2 // without a message id nothing tells that it is the same
			}
			if n := len(s.Rejects(t)); n != want {
				t.Fatalf("sent again, %d rejects", n)
			}

			single := start(t)
			single.ok(single.post("/v1/track", tt.item))
			if r := single.onlyReject(); r.Type != "track" || string(r.Raw) != tt.item {
				t.Fatalf("%+v", r)
			}
		})
	}
	for item, reason := range map[string]string{
		`{"userId":"u"}`:                 "no \"type\"",
		`{"type":"charge","userId":"u"}`: "not one of",
		`{"type":7,"userId":"u"}`:        "no \"type\"",
		`{"type":"Track","userId":"u"}`:  "not one of",
	} {
		s := start(t)
		s.ok(s.post("/v1/batch", `{"batch":[`+item+`]}`))
		if r := s.onlyReject(); r.Code != ingest.CodeUnknownType || !strings.Contains(r.Reason, reason) {
			t.Errorf("%s: %s %s", item, r.Code, r.Reason)
		}
	}
}

func TestIdentifiers(t *testing.T) {
	for _, tt := range []struct{ user, anon, wantUser, wantAnon string }{
		{`"u1"`, `"a1"`, "u1", "a1"},
		{`42`, `"a"`, "42", "a"},
		{`-7`, `"a"`, "-7", "a"},
		{`12345678901234567890`, `"a"`, "12345678901234567890", "a"},
		{`1e3`, `"a"`, "1e3", "a"},
		{`42.0`, `"a"`, "42.0", "a"},
		{`0`, `"a"`, "", "a"},
		{`-1`, `"a"`, "", "a"},
		{`-0`, `"a"`, "", "a"},
		{`"-1"`, `"a"`, "", "a"},
		{`"null"`, `"a"`, "", "a"},
		{`"NULL"`, `"a"`, "", "a"},
		{`" undefined "`, `"a"`, "", "a"},
		{`"anonymous"`, `"a"`, "", "a"},
		{`"Anonymous"`, `"a"`, "", "a"},
		{`"00000000-0000-0000-0000-000000000000"`, `"a"`, "", "a"},
		{`"---"`, `"a"`, "", "a"},
		{`"  "`, `"a"`, "", "a"},
		{`""`, `"a"`, "", "a"},
		{`null`, `"a"`, "", "a"},
		{`true`, `"a"`, "", "a"},
		{`["u"]`, `"a"`, "", "a"},
		{`{"id":"u"}`, `"a"`, "", "a"},
		{`"u"`, `"undefined"`, "u", ""},
		{`"nullable"`, `"-1x"`, "nullable", "-1x"},
		{`"007"`, `"0a"`, "007", "0a"},
		{`"\u0075\ud83d\ude00"`, `"é"`, "u\U0001F600", "é"},
		{`"a\ud83d"`, `"a"`, "a\uFFFD", "a"},
		{`" u "`, `"a"`, " u ", "a"},
	} {
		s := start(t)
		s.ok(s.post("/v1/identify", `{"userId":`+tt.user+`,"anonymousId":`+tt.anon+`}`))
		tp := s.only()
		if tp.UserID != tt.wantUser || tp.AnonymousID != tt.wantAnon {
			t.Errorf("%s, %s became %q, %q", tt.user, tt.anon, tp.UserID, tp.AnonymousID)
		}
		if tp.Event.Type != domain.TypeJoin || tp.Event.Stream != s.Keyer.Stream(tp.Subject()) {
			t.Errorf("%s, %s: %s in %s", tt.user, tt.anon, tp.Event.Type, tp.Event.Stream)
		}
	}
}

// TestNobody sends what the policy in force lists as no identity.
func TestNobody(t *testing.T) {
	p, err := policy.Decode([]byte(`{"identity":{"nobody":["guest@shop"]}}`))
	if err != nil {
		t.Fatal(err)
	}
	inForce := p.Compile()
	listed := func() *server {
		return startOver(t, ingesttest.Start(t, func(c *ingest.Config) {
			c.Nobody = func(v string) bool { return inForce.Identity().Nobody(v) }
		}))
	}
	anon := domain.Subject{Kind: domain.Anon, Value: "a"}
	for _, guest := range []string{`"guest@shop"`, `" Guest@Shop\t"`, `"null"`} {
		s := listed()
		s.ok(s.post("/v1/track", `{"event":"E","userId":`+guest+`,"anonymousId":"a"}`))
		if tp := s.only(); tp.UserID != "" || tp.Subject() != anon || tp.Event.Stream != s.Keyer.Stream(anon) {
			t.Errorf("%s: recorded under %v in %s", guest, tp.Subject(), tp.Event.Stream)
		}
		s = listed()
		s.ok(s.post("/v1/alias", `{"userId":"u","previousId":`+guest+`}`))
		if tp := s.only(); tp.UserID != "u" || tp.PreviousID != "" {
			t.Errorf("%s: previous id %q", guest, tp.PreviousID)
		}
		for _, ids := range []string{`"userId":` + guest, `"anonymousId":` + guest, `"userId":` + guest + `,"anonymousId":"-1"`} {
			s = listed()
			s.ok(s.post("/v1/track", `{"event":"E",`+ids+`}`))
			if r := s.onlyReject(); r.Code != ingest.CodeNoID || !strings.Contains(r.Reason, "identity.nobody") {
				t.Errorf("%s: %s %s", ids, r.Code, r.Reason)
			}
		}
	}
	s := listed()
	body := `{"event":"E","messageId":"m","userId":"guest@shop"}`
	s.ok(s.post("/v1/track", body))
	s.onlyReject()
	inForce = policy.Default().Compile()
	s.ok(s.post("/v1/track", body))
	if tp := s.only(); tp.UserID != "guest@shop" {
		t.Errorf("under another policy: %v", tp.Subject())
	}
}

func TestAlias(t *testing.T) {
	for body, want := range map[string]domain.Subject{
		`{"userId":"u","previousId":"p"}`:      {Kind: domain.User, Value: "u"},
		`{"userId":"u","previousId":7}`:        {Kind: domain.User, Value: "u"},
		`{"userId":"u","previousId":"null"}`:   {Kind: domain.User, Value: "u"},
		`{"userId":"u"}`:                       {Kind: domain.User, Value: "u"},
		`{"anonymousId":"a","previousId":"p"}`: {Kind: domain.Anon, Value: "a"},
	} {
		s := start(t)
		s.ok(s.post("/v1/alias", body))
		if tp := s.only(); tp.Subject() != want || tp.Event.Type != domain.TypeJoin {
			t.Errorf("%s: %v %s", body, tp.Subject(), tp.Event.Type)
		}
	}
}

func TestTimes(t *testing.T) {
	const received = "2026-03-01T12:00:00.000Z"
	for _, tt := range []struct {
		name, timestamp, sentAt string
		want                    string
		future                  bool
	}{
		{"neither", ``, ``, received, false},
		{"null", `null`, `null`, received, false},
		{"timestamp alone", `"2025-01-02T03:04:05.678Z"`, ``, "2025-01-02T03:04:05.678Z", false},
		{"sentAt alone", ``, `"2020-01-01T00:00:00Z"`, received, false},
		{"a right clock", `"2026-03-01T11:59:50.000Z"`, `"2026-03-01T11:59:59.900Z"`, "2026-03-01T11:59:50.100Z", false},
		{"a clock an hour ahead", `"2026-03-01T12:59:50.000Z"`, `"2026-03-01T13:00:00.000Z"`, "2026-03-01T11:59:50.000Z", false},
		{"a clock in the seventies", `"1970-01-01T00:00:10Z"`, `"1970-01-01T00:01:10Z"`, "2026-03-01T11:59:00.000Z", false},
		{"sent before it happened", `"2026-03-01T12:00:10Z"`, `"2026-03-01T12:00:00Z"`, received, true},
		{"the future", `"2030-01-01T00:00:00Z"`, ``, received, true},
		{"the far future", `"9999-12-31T23:59:59Z"`, ``, received, true},
		{"at receipt", `"2026-03-01T12:00:00.000Z"`, ``, received, false},
		{"decimals cut off", `"2025-01-02T03:04:05.6789999Z"`, ``, "2025-01-02T03:04:05.678Z", false},
		{"an offset", `"2025-01-02T05:04:05+02:00"`, ``, "2025-01-02T03:04:05.000Z", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			msg := `{"type":"page","userId":"u"`
			if tt.timestamp != "" {
				msg += `,"timestamp":` + tt.timestamp
			}
			onBatch := ""
			if tt.sentAt != "" {
				onBatch = `"sentAt":` + tt.sentAt + `,`
			}
			check := func(s *server) {
				t.Helper()
				tp := s.only()
				if got := tp.OccurredAt.String(); got != tt.want || (tp.Flags&domain.FlagFuture != 0) != tt.future || tp.ReceivedAt.String() != received {
					t.Errorf("occurred at %s, flags %d, received at %s", got, tp.Flags, tp.ReceivedAt)
				}
				if want := strings.Trim(strings.TrimPrefix(tt.sentAt, "null"), `"`); tp.SentAt != want {
					t.Errorf("sentAt %q, want %q", tp.SentAt, want)
				}
			}
			s := start(t)
			s.ok(s.post("/v1/batch", `{`+onBatch+`"batch":[`+msg+`}]}`))
			check(s)
			s = start(t)
			if tt.sentAt != "" {
				msg += `,"sentAt":` + tt.sentAt
			}
			s.ok(s.post("/v1/page", msg+`}`))
			check(s)
		})
	}
	t.Run("the message's own sentAt goes first", func(t *testing.T) {
		s := start(t)
		s.ok(s.post("/v1/batch", `{"sentAt":"2026-03-01T13:00:00Z","batch":[{"type":"page","userId":"u","timestamp":"2026-03-01T12:00:00Z","sentAt":"2026-03-01T12:00:05Z"}]}`))
		if tp := s.only(); tp.OccurredAt.String() != "2026-03-01T11:59:55.000Z" {
			t.Fatal(tp.OccurredAt)
		}
	})
}

func TestCORS(t *testing.T) {
	s := start(t)
	for _, path := range []string{"/v1/batch", "/v1/t", "/v1/pixel/track", "/v1/m", "/v1/projects/x/settings", "/projects/x/settings", "/v1/whatever"} {
		r := httptest.NewRequest(http.MethodOptions, path, nil)
		r.Header.Set("Origin", "https://shop.example")
		r.Header.Set("Access-Control-Request-Method", "POST")
		a := s.do(r)
		if a.StatusCode != http.StatusNoContent || a.body != "" {
			t.Fatalf("%s: %d %q", path, a.StatusCode, a.body)
		}
		for name, want := range map[string]string{
			"Access-Control-Allow-Origin":      "https://shop.example",
			"Access-Control-Allow-Credentials": "true",
			"Access-Control-Allow-Methods":     "GET, POST, OPTIONS",
			"Access-Control-Allow-Headers":     "Authorization, Content-Type, X-Retry-Count",
			"Access-Control-Max-Age":           "900",
			"Access-Control-Expose-Headers":    "Retry-After",
			"Vary":                             "Origin",
		} {
			if got := strings.Join(a.Header.Values(name), "|"); got != want {
				t.Errorf("%s: %s is %q, want %q", path, name, got, want)
			}
		}
	}
	for _, body := range []string{`{"userId":"u"}`, `{`} {
		r := s.request("/v1/page", body)
		r.Header.Set("Origin", "null")
		a := s.do(r)
		if a.Header.Get("Access-Control-Allow-Origin") != "null" || a.Header.Get("Access-Control-Allow-Credentials") != "true" ||
			a.Header.Get("Access-Control-Expose-Headers") != "Retry-After" {
			t.Errorf("%d: %v", a.StatusCode, a.Header)
		}
	}
	if a := s.post("/v1/page", `{"userId":"u"}`); a.Header.Get("Access-Control-Allow-Origin") != "" || a.Header.Get("Vary") != "Origin" {
		t.Errorf("without Origin: %v", a.Header)
	}
}

func TestSettings(t *testing.T) {
	type settings struct {
		Integrations map[string]struct{ APIKey, APIHost, Protocol string }
		Metrics      struct{ SampleRate *float64 }
	}
	get := func(s *server, path string, tls bool) (settings, answer) {
		t.Helper()
		target := "http://track.example:8080" + path
		if tls {
			target = "https://track.example:8080" + path
		}
		a := s.do(httptest.NewRequest(http.MethodGet, target, nil))
		var got settings
		if a.StatusCode == 200 {
			if err := json.Unmarshal([]byte(a.body), &got); err != nil {
				t.Fatal(err)
			}
		}
		return got, a
	}
	for _, tt := range []struct {
		public         string
		tls            bool
		host, protocol string
	}{
		{"", false, "track.example:8080/v1", "http"},
		{"", true, "track.example:8080/v1", "https"},
		{"https://in.shop.example", false, "in.shop.example/v1", "https"},
		{"http://in.shop.example:81/sojourn/", true, "in.shop.example:81/sojourn/v1", "http"},
	} {
		s := start(t, func(c *segmentapi.Config) { c.PublicURL = tt.public })
		for _, path := range []string{"/v1/projects/" + s.Key + "/settings", "/projects/" + s.Key + "/settings", "/projects/" + s.Key + "/settings/"} {
			got, a := get(s, path, tt.tls)
			io := got.Integrations["Segment.io"]
			if a.StatusCode != 200 || a.Header.Get("Content-Type") != "application/json" || len(got.Integrations) != 1 ||
				io.APIKey != s.Key || io.APIHost != tt.host || io.Protocol != tt.protocol {
				t.Errorf("%s %+v: %d %s", path, tt, a.StatusCode, a.body)
			}
			if got.Metrics.SampleRate == nil || *got.Metrics.SampleRate != 0 {
				t.Errorf("the SDK would send its metrics elsewhere: %s", a.body)
			}
		}
		_, a := get(s, "/projects/nobody/settings", false)
		s.refused(a, 404, "unknown_project")
	}
	for _, bad := range []string{"shop.example", "ftp://shop.example", "https://", "https://user@shop.example", "https://shop.example?x=1", "://"} {
		s := ingesttest.Start(t)
		if _, err := segmentapi.New(segmentapi.Config{Service: s.Service, Keys: s.Keys, PublicURL: bad}); err == nil {
			t.Errorf("public URL %q was taken", bad)
		}
	}
}

func TestOverloadAndStop(t *testing.T) {
	env := ingesttest.Start(t, func(c *ingest.Config) { c.MaxInFlight = 1000 })
	s := startOver(t, env)
	body := `{"userId":"u"}`
	room, err := s.Service.Reserve(990)
	if err != nil {
		t.Fatal(err)
	}
	a := s.post("/v1/page", body)
	s.refused(a, 429, "overloaded")
	if a.Header.Get("Retry-After") != "1" {
		t.Fatalf("Retry-After %q", a.Header.Get("Retry-After"))
	}
	r := httptest.NewRequest(http.MethodGet, "/v1/pixel/page?userId=u&writeKey="+s.Key, nil)
	if a := s.do(r); a.StatusCode != 200 {
		t.Fatalf("the pixel answered %d", a.StatusCode)
	}
	room.Release()
	room.Release()
	s.ok(s.post("/v1/page", body))
	// A body that turns out larger than its header said.
	chunked := s.request("/v1/page", `{"userId":"u","x":"`+strings.Repeat("x", 2000)+`"}`)
	chunked.ContentLength = -1
	s.refused(s.do(chunked), 429, "overloaded")
	if len(s.Rejects(t)) != 0 || len(s.Touchpoints(t)) != 1 {
		t.Fatal("an overloaded call left something")
	}

	room, err = s.Service.Reserve(1)
	if err != nil {
		t.Fatal(err)
	}
	drained := make(chan error, 1)
	go func() { drained <- s.Service.Drain(t.Context()) }()
	for a = s.post("/v1/page", body); a.StatusCode == 200; a = s.post("/v1/page", body) {
		continue
	}
	s.refused(a, 503, "stopping")
	select {
	case err := <-drained:
		t.Fatalf("drained with a call under way: %v", err)
	default:
	}
	room.Release()
	if err := <-drained; err != nil {
		t.Fatal(err)
	}
	if err := s.Service.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestAClosedStoreIs503(t *testing.T) {
	env := ingesttest.New(t)
	s := startOver(t, env)
	if err := env.Store.Close(); err != nil {
		t.Fatal(err)
	}
	s.refused(s.post("/v1/page", `{"userId":"u"}`), 503, "stopping")
}

// failing is a log that takes nothing.
type failing struct {
	ingest.Log
	err error
}

func (f failing) AppendMany(context.Context, []eventstore.Append) ([]eventstore.Result, error) {
	return nil, fmt.Errorf("append: %w", f.err)
}

func TestAnswersToTheStore(t *testing.T) {
	for err, want := range map[error]struct {
		status int
		code   string
	}{
		eventstore.ErrOverloaded:  {429, "overloaded"},
		eventstore.ErrUnavailable: {503, "unavailable"},
		eventstore.ErrClosed:      {503, "stopping"},
		context.DeadlineExceeded:  {503, "unavailable"},
	} {
		s := startOver(t, ingesttest.Start(t, func(c *ingest.Config) { c.Log = failing{c.Log, err} }))
		for range 2 { // what failed once can be tried again
			a := s.post("/v1/page", `{"messageId":"m","userId":"u"}`)
			s.refused(a, want.status, want.code)
			if (a.Header.Get("Retry-After") == "1") != (want.status == 429) {
				t.Fatalf("Retry-After %q", a.Header.Get("Retry-After"))
			}
		}
		s.refused(s.post("/v1/page", `{`), 400, "invalid_json")
		s.pixel("/v1/pixel/page?userId=u&writeKey=" + s.Key)
	}
}

func TestCountsForASender(t *testing.T) {
	s := start(t)
	body := `{"batch":[{"type":"page","messageId":"m","userId":"u"},{"type":"bad"}]}`
	a := s.ok(s.post("/v1/batch", body))
	if a.Header.Get("Sojourn-Rejected") != "1" || a.Header.Get("Sojourn-Duplicates") != "" {
		t.Fatalf("%v", a.Header)
	}
	if a = s.ok(s.post("/v1/batch", body)); a.Header.Get("Sojourn-Duplicates") != "1" {
		t.Fatalf("%v", a.Header)
	}
}

func TestMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	env := ingesttest.Start(t, func(c *ingest.Config) { c.Metrics = ingest.NewMetrics(registry) })
	s := startOver(t, env, func(c *segmentapi.Config) { c.Registerer = registry })
	body := `{"batch":[{"type":"page","messageId":"m","userId":"u"},{"type":"bad"},{"type":"page"}]}`
	s.ok(s.post("/v1/batch", body))
	s.ok(s.post("/v1/batch", body))
	s.refused(s.post("/v1/page", `{`), 400, "invalid_json")
	s.refused(s.do(httptest.NewRequest(http.MethodPost, "/v1/page", strings.NewReader(`{}`))), 401, "missing_write_key")
	if _, err := s.Service.Replay(t.Context(), ingest.ReplayFilter{}, nil); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			got[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	for name, want := range map[string]float64{
		"sojourn_tracking_requests_total batch": 2, "sojourn_tracking_requests_total page": 2,
		"sojourn_tracking_refused_total invalid_json": 1, "sojourn_tracking_refused_total missing_write_key": 1,
		"sojourn_tracking_bytes_total":              float64(2*len(body) + 1 + 2),
		"sojourn_ingest_accepted_total":             1,
		"sojourn_ingest_duplicates_total":           1,
		"sojourn_ingest_rejects_total no_id":        2,
		"sojourn_ingest_rejects_total too_deep":     0,
		"sojourn_ingest_rejects_total unknown_type": 2,
		"sojourn_ingest_in_flight_bytes":            0,
		"sojourn_ingest_replayed_total":             0,
	} {
		if v, ok := got[name]; !ok || v != want {
			t.Errorf("%s is %v, want %v", name, v, want)
		}
	}
}

func TestASlowBodyIs408(t *testing.T) {
	s := start(t, func(c *segmentapi.Config) { c.BodyTimeout = time.Nanosecond })
	srv := httptest.NewServer(s.handler)
	defer srv.Close()
	body, hold := newSlowBody()
	defer close(hold)
	req, err := http.NewRequest(http.MethodPost, srv.URL+"/v1/page", body)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth(s.Key, "")
	req.ContentLength = 100
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	res, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusRequestTimeout {
		t.Fatal(res.Status)
	}
}

// slowBody gives a little and then nothing until it is let go.
type slowBody struct {
	hold <-chan struct{}
	sent bool
}

func newSlowBody() (*slowBody, chan struct{}) {
	hold := make(chan struct{})
	return &slowBody{hold: hold}, hold
}

func (b *slowBody) Read(p []byte) (int, error) {
	if !b.sent {
		b.sent = true
		return copy(p, `{"userId"`), nil
	}
	<-b.hold
	return 0, http.ErrBodyReadAfterClose
}
