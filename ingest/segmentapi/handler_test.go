package segmentapi_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"sojourn/domain"
	"sojourn/ingest"
	"sojourn/ingest/internal/ingesttest"
	"sojourn/ingest/segmentapi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server is a handler over a store in memory.
type server struct {
	*ingesttest.Env
	t       testing.TB
	handler http.Handler
}

func start(t testing.TB, change ...func(*segmentapi.Config)) *server {
	t.Helper()
	return startOver(t, ingesttest.Start(t), change...)
}

func startOver(t testing.TB, env *ingesttest.Env, change ...func(*segmentapi.Config)) *server {
	t.Helper()
	c := segmentapi.Config{Service: env.Service, Keys: env.Keys}
	for _, f := range change {
		f(&c)
	}
	h, err := segmentapi.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return &server{env, t, h}
}

type answer struct {
	*http.Response
	body string
}

func (s *server) do(r *http.Request) answer {
	s.t.Helper()
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r)
	res := w.Result()
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return answer{res, string(b)}
}

// post sends a body under the good write key.
func (s *server) post(path, body string) answer {
	s.t.Helper()
	return s.do(s.request(path, body))
}

func (s *server) request(path, body string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	r.SetBasicAuth(s.Key, "")
	return r
}

func (a answer) position(t testing.TB) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(a.Header.Get("Sojourn-Position"), 10, 64)
	if err != nil {
		t.Fatalf("Sojourn-Position: %v", err)
	}
	return n
}

// ok fails the test where the answer is not exactly success.
func (s *server) ok(a answer) answer {
	s.t.Helper()
	if a.StatusCode != 200 || a.body != `{"success":true}` || a.Header.Get("Content-Type") != "application/json" {
		s.t.Fatalf("answered %d %q %q", a.StatusCode, a.Header.Get("Content-Type"), a.body)
	}
	a.position(s.t)
	return a
}

// only is the single touchpoint of the log.
func (s *server) only() ingesttest.Touchpoint {
	s.t.Helper()
	all := s.Touchpoints(s.t)
	if len(all) != 1 {
		s.t.Fatalf("%d touchpoints, want 1; rejects: %+v", len(all), s.Rejects(s.t))
	}
	return all[0]
}

// onlyReject is the single reject, with no touchpoint beside it.
func (s *server) onlyReject() ingest.Reject {
	s.t.Helper()
	if n := len(s.Touchpoints(s.t)); n != 0 {
		s.t.Fatalf("%d touchpoints beside the reject", n)
	}
	all := s.Rejects(s.t)
	if len(all) != 1 {
		s.t.Fatalf("%d rejects, want 1: %+v", len(all), all)
	}
	return all[0]
}

func (s *server) refused(a answer, status int, code string) {
	s.t.Helper()
	var got struct{ Code, Message string }
	if err := json.Unmarshal([]byte(a.body), &got); err != nil {
		s.t.Fatalf("%d %q: %v", a.StatusCode, a.body, err)
	}
	if a.StatusCode != status || got.Code != code || got.Message == "" || a.Header.Get("Content-Type") != "application/json" {
		s.t.Fatalf("answered %d %s, want %d %s", a.StatusCode, a.body, status, code)
	}
}

func TestEveryEndpoint(t *testing.T) {
	for path, want := range map[string]domain.Kind{
		"identify": domain.Identify, "track": domain.Track, "page": domain.Page,
		"screen": domain.Screen, "group": domain.Group, "alias": domain.Alias,
	} {
		for _, p := range []string{"/v1/" + path, "/v1/" + path[:1], "/v1/" + path + "/", "/v1/" + path[:1] + "/"} {
			t.Run(p, func(t *testing.T) {
				s := start(t)
				body := `{"messageId":"m1","userId":"u1","anonymousId":"a1","event":"Tried","name":"Home","previousId":"p1","groupId":"g1"}`
				s.ok(s.post(p, body))
				tp := s.only()
				if tp.Kind != want || string(tp.Event.Data) != body || tp.MessageID != "m1" || tp.Source != "shop" {
					t.Fatalf("%+v", tp)
				}
				if tp.Event.Stream != s.Keyer.Stream(domain.Subject{Kind: domain.User, Value: "u1"}) {
					t.Fatalf("stands in %s", tp.Event.Stream)
				}
				if tp.Event.ID != domain.EventID("shop", "m1") {
					t.Fatal("the event id is not made of source and message id")
				}
				wantName := map[domain.Kind]string{domain.Track: "Tried", domain.Page: "Home", domain.Screen: "Home"}[want]
				if tp.Name != wantName {
					t.Fatalf("name %q, want %q", tp.Name, wantName)
				}
				joins := want == domain.Identify || want == domain.Alias
				if (tp.Event.Type == domain.TypeJoin) != joins {
					t.Fatalf("event type %s", tp.Event.Type)
				}
				if want == domain.Alias && tp.PreviousID != "p1" || want != domain.Alias && tp.PreviousID != "" {
					t.Fatalf("previous id %q", tp.PreviousID)
				}
			})
		}
	}
	for _, p := range []string{"/v1/batch", "/v1/b", "/v1/import", "/v1/batch/", "/v1/import/"} {
		t.Run(p, func(t *testing.T) {
			s := start(t)
			s.ok(s.post(p, `{"batch":[{"type":"page","messageId":"m1","userId":"u1"}]}`))
			if tp := s.only(); tp.Kind != domain.Page {
				t.Fatalf("%+v", tp)
			}
		})
	}
}

func TestTheEndpointGivesTheType(t *testing.T) {
	s := start(t)
	s.ok(s.post("/v1/page", `{"type":"track","userId":"u","name":"Home"}`))
	if tp := s.only(); tp.Kind != domain.Page || tp.Name != "Home" {
		t.Fatalf("%+v", tp)
	}
}

func TestMetricsEndpointDiscards(t *testing.T) {
	s := start(t)
	for _, path := range []string{"/v1/m", "/v1/m/"} {
		a := s.do(httptest.NewRequest(http.MethodPost, path, strings.NewReader("whatever")))
		if a.StatusCode != 200 || a.body != `{"success":true}` {
			t.Fatalf("%d %q", a.StatusCode, a.body)
		}
	}
	if len(s.Touchpoints(t))+len(s.Rejects(t)) != 0 {
		t.Fatal("something was kept")
	}
}

func TestMethodsAndPaths(t *testing.T) {
	s := start(t)
	for _, tt := range []struct {
		method, path string
		status       int
		code         string
	}{
		{"GET", "/v1/track", 405, "method_not_allowed"},
		{"PUT", "/v1/batch", 405, "method_not_allowed"},
		{"HEAD", "/v1/batch", 405, ""},
		{"DELETE", "/v1/m", 405, "method_not_allowed"},
		{"POST", "/v1/pixel/track", 405, "method_not_allowed"},
		{"POST", "/v1/projects/x/settings", 405, "method_not_allowed"},
		{"POST", "/v1/nothing", 404, "not_found"},
		{"POST", "/v1/track//", 404, "not_found"},
		{"GET", "/projects/x/y/settings", 404, "not_found"},
	} {
		a := s.do(httptest.NewRequest(tt.method, tt.path, nil))
		if tt.code != "" {
			s.refused(a, tt.status, tt.code)
		} else if a.StatusCode != tt.status {
			t.Errorf("%s %s answered %d", tt.method, tt.path, a.StatusCode)
		}
		if tt.status == 405 && !strings.Contains(a.Header.Get("Allow"), "OPTIONS") {
			t.Errorf("%s %s: Allow %q", tt.method, tt.path, a.Header.Get("Allow"))
		}
	}
}

func TestWriteKey(t *testing.T) {
	s := start(t)
	basic := func(v string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(v)) }
	const good, wrong, missing = "", "invalid_write_key", "missing_write_key"
	for name, tt := range map[string]struct {
		header, inBody string
		code           string
	}{
		"basic with colon":            {basic(s.Key + ":"), "", good},
		"basic without colon":         {basic(s.Key), "", good},
		"basic with password":         {basic(s.Key + ":secret"), "", good},
		"basic without padding":       {strings.TrimRight(basic(s.Key+":x"), "="), "", good},
		"basic in lower case":         {"basic " + strings.TrimPrefix(basic(s.Key+":"), "Basic "), "", good},
		"body":                        {"", s.Key, good},
		"bearer and body":             {"Bearer abc.def.ghi", s.Key, good},
		"basic before body":           {basic(s.Key + ":"), "nonsense", good},
		"empty basic and body":        {basic(":"), s.Key, good},
		"missing":                     {"", "", missing},
		"bearer alone":                {"Bearer " + s.Key, "", missing},
		"empty basic alone":           {basic(":"), "", missing},
		"wrong basic":                 {basic("nobody:"), "", wrong},
		"wrong basic, good body":      {basic("nobody:"), s.Key, wrong},
		"wrong body":                  {"", "nobody", wrong},
		"basic that is no base64":     {"Basic %%%", "", wrong},
		"bearer and wrong body":       {"Bearer abc", "nobody", wrong},
		"key in another case":         {"", strings.ToLower(s.Key), wrong},
		"the beginning of a good key": {"", s.Key[:42], wrong},
	} {
		t.Run(name, func(t *testing.T) {
			for path, body := range map[string]string{
				"/v1/track": `{"userId":"u","event":"E"`, "/v1/batch": `{"batch":[{"type":"track","userId":"u","event":"E"}]`,
			} {
				if tt.inBody != "" {
					body += `,"writeKey":"` + tt.inBody + `"`
				}
				r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body+"}"))
				if tt.header != "" {
					r.Header.Set("Authorization", tt.header)
				}
				s := &server{s.Env, t, s.handler}
				if a := s.do(r); tt.code == good {
					s.ok(a)
				} else {
					s.refused(a, 401, tt.code)
				}
			}
		})
	}
	if n := len(s.Touchpoints(t)); n != 2*9 {
		t.Fatalf("%d touchpoints", n)
	}
	if n := len(s.Rejects(t)); n != 0 {
		t.Fatalf("%d rejects", n)
	}
}

func TestARevokedKeyIsRefused(t *testing.T) {
	s := start(t)
	s.ok(s.post("/v1/page", `{"userId":"u"}`))
	if _, err := s.Keys.Revoke(t.Context(), "shop"); err != nil {
		t.Fatal(err)
	}
	s.refused(s.post("/v1/page", `{"userId":"u"}`), 401, "invalid_write_key")
}

func TestAnyContentTypeAndGzip(t *testing.T) {
	s := start(t)
	body := `{"messageId":"m","userId":"u"}`
	for i, contentType := range []string{"", "text/plain", "application/json; charset=utf-8", "application/x-www-form-urlencoded", "image/png"} {
		r := s.request("/v1/page", strings.Replace(body, `"m"`, `"m`+strconv.Itoa(i)+`"`, 1))
		r.Header.Set("Content-Type", contentType)
		s.ok(s.do(r))
	}
	for _, encoding := range []string{"gzip", "GZIP", "x-gzip"} {
		r := s.request("/v1/page", zip(t, strings.Replace(body, `"m"`, `"`+encoding+`"`, 1)))
		r.Header.Set("Content-Encoding", encoding)
		s.ok(s.do(r))
	}
	if n := len(s.Touchpoints(t)); n != 8 {
		t.Fatalf("%d touchpoints", n)
	}
	r := s.request("/v1/page", body)
	r.Header.Set("Content-Encoding", "gzip")
	s.refused(s.do(r), 400, "invalid_gzip")
	r = s.request("/v1/page", zip(t, body)[:20])
	r.Header.Set("Content-Encoding", "gzip")
	s.refused(s.do(r), 400, "invalid_gzip")
	r = s.request("/v1/page", body)
	r.Header.Set("Content-Encoding", "br")
	s.refused(s.do(r), 400, "unsupported_encoding")
	if n := len(s.Rejects(t)); n != 3 {
		t.Fatalf("%d refusals listed", n)
	}
}

func zip(t testing.TB, text string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}
