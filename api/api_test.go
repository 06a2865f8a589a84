package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"sojourn/api"
	"sojourn/automation/delivery"
	"sojourn/domain/loyalty"
	"sojourn/eventstore"
	"sojourn/ingest"
	"sojourn/projections"
	"sojourn/warehouse"
)

const token = "secret"

var (
	ada   = uuid.MustParse("11111111-1111-5111-8111-111111111111")
	moved = uuid.MustParse("22222222-2222-5222-8222-222222222222")
	noon  = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
)

// fake answers every interface of the API.
type fake struct {
	mu      sync.Mutex
	at      projections.At
	stage   string
	limit   int
	cursor  string
	held    eventstore.Position // what the views hold
	status  projections.Status
	keys    []ingest.KeyInfo
	rejects []ingest.Reject
	filter  ingest.ReplayFilter
	err     error
	after   eventstore.Position
	live    []api.Arrival
	diffs   []warehouse.Difference
	block   chan struct{}
	merge   projections.MergeRequest
	split   projections.SplitRequest
	only    string // the status of conflicts asked for

	backupErr    error
	backupClosed atomic.Bool

	points   api.Points
	policies fakePolicies
	segments fakeSegments
	fakeSatisfaction
	fakeLoyalty
}

func (f *fake) Customer(_ context.Context, ref string, at projections.At) (projections.Customer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at = at
	switch ref {
	case "user:42", ada.String():
		return projections.Customer{
			ID: ada, Stage: "repeat", StageSince: noon, Reason: "second purchase", Cause: "touchpoint:x", Purchases: 2, Refunds: 1,
			Revenue: map[string]string{"USD": "29.33"}, FirstSeen: noon, LastSeen: noon,
			Traits: map[string]json.RawMessage{"plan": json.RawMessage(`"pro"`)}, Subjects: []string{"anon:a", "user:42"}, AsOf: noon,
			Satisfaction: &content, Service: &careful,
			Loyalty: []projections.LoyaltyStanding{{Programme: "default", Tier: "member", Balance: loyalty.Balance{Available: 29, Pending: 1}, NextTier: "silver", Missing: "470"}},
		}, f.err
	case moved.String():
		return projections.Customer{}, &projections.MovedError{To: ada}
	case "user:new":
		return projections.Customer{ID: ada}, nil
	}
	return projections.Customer{}, projections.ErrNotFound
}

func (f *fake) Timeline(_ context.Context, ref string, at projections.At, cursor string, limit int) ([]projections.Entry, string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at, f.cursor, f.limit = at, cursor, limit
	if ref == moved.String() {
		return nil, "", &projections.MovedError{To: ada}
	}
	if cursor == "bad" {
		return nil, "", projections.ErrBadCursor
	}
	return []projections.Entry{
		{At: noon, Touchpoint: &projections.TouchpointEntry{EventID: ada, Subject: "user:42", Type: "track", Name: "Order Completed", Amount: "1.50", Properties: json.RawMessage(`{"total":1.5}`), Position: 9}},
		{At: noon, Transition: &projections.TransitionEntry{Seq: 1, To: "first_purchase", Reason: "first purchase"}},
	}, "more", nil
}

func (f *fake) Customers(_ context.Context, stage string, limit int, cursor string, at projections.At) ([]projections.Customer, string, error) {
	f.stage, f.limit, f.cursor, f.at = stage, limit, cursor, at
	return []projections.Customer{{ID: ada, Stage: "loyal"}}, "next", f.err
}

func (f *fake) Stages(_ context.Context, at projections.At) (projections.Stages, error) {
	f.at = at
	return projections.Stages{AsOf: noon, Customers: 3, Stages: []projections.StageCount{{Stage: "loyal", Customers: 1}, {Stage: "lead", Customers: 2}}}, nil
}

func (f *fake) Identity(_ context.Context, ref string, at projections.At) (projections.Identity, error) {
	f.at = at
	switch ref {
	case "email:ada@example.com", ada.String():
		return projections.Identity{
			Customer: ada,
			Subjects: []projections.IdentitySubject{
				{Subject: "anon:a", ID: ada, FirstPosition: 3}, {Subject: "email:ada@example.com", ID: moved},
			},
			Joins: []projections.IdentityJoin{
				{Event: moved, At: noon, Subject: "anon:a", Other: "email:ada@example.com", Outcome: "joined"},
				{Event: moved, At: noon, Subject: "user:7", Other: "anon:a", Alias: true, Outcome: "conflict"},
			},
			Decisions: []projections.Decision{{
				Event: moved, Position: 9, RecordedAt: noon, Kind: "merge", Subjects: []string{"anon:a"}, Reason: "one person", Author: "jo",
			}},
		}, f.err
	case moved.String():
		return projections.Identity{}, &projections.MovedError{To: ada}
	case "user:new":
		return projections.Identity{Customer: ada}, nil
	}
	return projections.Identity{}, projections.ErrNotFound
}

func (f *fake) Conflicts(_ context.Context, status string, limit int, cursor string) ([]projections.ConflictEntry, string, error) {
	f.only, f.limit, f.cursor = status, limit, cursor
	switch cursor {
	case "bad":
		return nil, "", projections.ErrBadCursor
	case "end":
		return nil, "", f.err
	}
	return []projections.ConflictEntry{
		{Event: moved, At: noon, Subject: "user:1", Other: "anon:tablet", Customer: ada, OtherCustomer: moved, Status: "open"},
		{Event: ada, At: noon, Subject: "user:2", Other: "email:x@example.com", Customer: ada, Status: "kept_apart"},
	}, "more", f.err
}

func (f *fake) Merge(_ context.Context, r projections.MergeRequest) (projections.Decision, error) {
	f.merge = r
	return projections.Decision{
		Event: moved, Position: 51, RecordedAt: noon, Kind: "merge", Subjects: r.Subjects, Others: []string{"anon:a"}, Reason: r.Reason, Author: r.Author,
	}, f.err
}

func (f *fake) Split(_ context.Context, r projections.SplitRequest) (projections.Decision, error) {
	f.split = r
	return projections.Decision{
		Event: moved, Position: 52, RecordedAt: noon, Kind: "split", Subjects: r.Subjects, Reason: r.Reason, Author: r.Author,
	}, f.err
}

func (f *fake) EventNames(context.Context) ([]projections.EventName, error) {
	return []projections.EventName{
		{Source: "shop", Type: "track", Name: "Order Completed", Count: 7, LastAt: noon, Meaning: "purchase", Channel: "web"},
		{Source: "shop", Type: "track", Name: "Thing Happened", Count: 1, LastAt: noon},
	}, nil
}

func (f *fake) WaitFor(ctx context.Context, pos eventstore.Position) error {
	f.mu.Lock()
	held := f.held
	f.mu.Unlock()
	if pos <= held {
		return nil
	}
	<-ctx.Done()
	return ctx.Err()
}

func (f *fake) Status() projections.Status { return f.status }

func (f *fake) Create(_ context.Context, source string) (string, ingest.KeyInfo, error) {
	k := ingest.KeyInfo{ID: "k1", Source: source, CreatedAt: noon}
	f.keys = append(f.keys, k)
	return "wk_shown_once", k, f.err
}

func (f *fake) List() []ingest.KeyInfo { return f.keys }

func (f *fake) Revoke(_ context.Context, id string) ([]ingest.KeyInfo, error) {
	for i := range f.keys {
		if f.keys[i].ID == id {
			f.keys[i].RevokedAt = noon
			return f.keys[i : i+1], nil
		}
	}
	return nil, ingest.ErrNoSuchKey
}

func (f *fake) Rejects(_ context.Context, cursor string, limit int) (ingest.RejectPage, error) {
	f.limit, f.cursor = limit, cursor
	if cursor == "bad" {
		return ingest.RejectPage{}, ingest.ErrCursor
	}
	return ingest.RejectPage{Rejects: f.rejects, Next: "7"}, f.err
}

func (f *fake) Replay(_ context.Context, q ingest.ReplayFilter, _ func(ingest.ReplayResult)) (ingest.ReplayResult, error) {
	f.filter = q
	return ingest.ReplayResult{Replayed: 2, Failed: 3, Already: 1}, f.err
}

func (f *fake) Head(context.Context) (eventstore.Position, error) { return 50, nil }

func (f *fake) Arrivals(ctx context.Context, after eventstore.Position) iter.Seq2[api.Arrival, error] {
	f.mu.Lock()
	f.after = after
	f.mu.Unlock()
	return func(yield func(api.Arrival, error) bool) {
		for _, a := range f.live {
			if !yield(a, nil) {
				return
			}
		}
		<-ctx.Done()
		yield(api.Arrival{}, ctx.Err())
	}
}

func (f *fake) Rebuild(_ context.Context, progress projections.Progress) error {
	progress(1, 2)
	if f.block != nil {
		<-f.block
	}
	progress(2, 2)
	return f.err
}

func (f *fake) Verify(_ context.Context, _ int, progress projections.Progress) (*projections.Verification, error) {
	progress(2, 2)
	return &projections.Verification{
		Position: 2, Clock: noon, Policy: 1, Rows: map[string]uint64{"customers": 5},
		Different: map[string]uint64{"customers": uint64(len(f.diffs))}, Differences: f.diffs,
	}, f.err
}

func start(t *testing.T, f *fake) (*httptest.Server, *api.API) {
	t.Helper()
	if f.status == (projections.Status{}) {
		f.status = projections.Status{Ready: true, Position: 5}
	}
	a, err := api.New(api.Config{
		Version: "test", Token: token, Views: f, Points: f.points, WriteKeys: f, Rejects: f, Arrivals: f, Maintenance: f,
		Policies: &f.policies, Segments: &f.segments, ParsePolicy: parsePolicy,
		Backup:       func(context.Context, bool) (api.Backup, error) { return f, f.backupErr },
		Destinations: destinations(t),
		DeliveryStatus: func() []delivery.Status {
			return []delivery.Status{{Name: "crm", State: delivery.StateOpen, Until: noon, Waiting: 3}}
		},
		Registry: prometheus.NewRegistry(), WaitTimeout: 20 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(a)
	t.Cleanup(func() { a.StopStreams(); s.Close() })
	return s, a
}

// ask sends a request with the admin token and returns status, header and body.
func ask(t *testing.T, s *httptest.Server, method, path, body string) (int, http.Header, string) {
	t.Helper()
	return askAs(t, s, method, path, body, "Bearer "+token)
}

func askAs(t *testing.T, s *httptest.Server, method, path, body, auth string) (int, http.Header, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if auth != "" {
		req.Header.Set("Authorization", auth)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	c := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, res.Header, string(b)
}

// want asks and compares the status and the JSON of the answer.
func want(t *testing.T, s *httptest.Server, method, path, body string, status int, answer string) {
	t.Helper()
	code, h, got := ask(t, s, method, path, body)
	if code != status {
		t.Fatalf("%s %s: %d %s", method, path, code, got)
	}
	if answer == "" {
		if got != "" {
			t.Fatalf("%s %s: body %s", method, path, got)
		}
		return
	}
	if ct := h.Get("Content-Type"); ct != "application/json" {
		t.Errorf("%s %s: content type %q", method, path, ct)
	}
	var g, w any
	if err := json.Unmarshal([]byte(got), &g); err != nil {
		t.Fatalf("%s %s: %v in %s", method, path, err, got)
	}
	if err := json.Unmarshal([]byte(answer), &w); err != nil {
		t.Fatal(err)
	}
	gb, _ := json.Marshal(g)
	wb, _ := json.Marshal(w)
	if string(gb) != string(wb) {
		t.Errorf("%s %s:\ngot  %s\nwant %s", method, path, gb, wb)
	}
}

// wantProblem asks and expects a problem with a text in it.
func wantProblem(t *testing.T, s *httptest.Server, method, path, body string, status int, text string) http.Header {
	t.Helper()
	code, h, got := ask(t, s, method, path, body)
	if code != status || h.Get("Content-Type") != "application/problem+json" || !strings.Contains(got, text) {
		t.Errorf("%s %s: %d %s %s, want %d with %q", method, path, code, h.Get("Content-Type"), got, status, text)
	}
	var p struct {
		Status int
		Title  string
	}
	if err := json.Unmarshal([]byte(got), &p); err != nil || p.Status != status || p.Title == "" {
		t.Errorf("%s %s: no problem: %s", method, path, got)
	}
	return h
}

const adaJSON = `{"id":"11111111-1111-5111-8111-111111111111","stage":"repeat","stage_since":"2026-03-01T12:00:00Z",
	"reason":"second purchase","cause":"touchpoint:x","purchases":2,"refunds":1,"revenue":{"USD":"29.33"},
	"first_seen":"2026-03-01T12:00:00Z","last_seen":"2026-03-01T12:00:00Z","traits":{"plan":"pro"},
	"subjects":["anon:a","user:42"],"as_of":"2026-03-01T12:00:00Z",
	"loyalty":[{"programme":"default","tier":"member","available":29,"pending":1,"debt":0,"next_tier":"silver","missing":"470"}],"satisfaction":{` + contentJSON + `},"service":` + carefulJSON + `}`

func TestCustomer(t *testing.T) {
	f := &fake{}
	s, _ := start(t, f)
	want(t, s, "GET", "/api/v1/customers/user:42", "", 200, adaJSON)
	want(t, s, "GET", "/api/v1/customers/"+ada.String()+"?as_of=2026-03-01&known_at=2026-03-02T00:00:00.1239%2B01:00", "", 200, adaJSON)
	if got := f.at.AsOf; !got.Equal(time.Date(2026, 3, 1, 23, 59, 59, 999e6, time.UTC)) {
		t.Errorf("a bare date was asked as %v", got)
	}
	if got := f.at.KnownAt; !got.Equal(time.Date(2026, 3, 1, 23, 0, 0, 123e6, time.UTC)) {
		t.Errorf("known_at was asked as %v", got)
	}
	wantProblem(t, s, "GET", "/api/v1/customers/user:nobody", "", 404, "no such customer")
	for _, path := range []string{"/api/v1/customers/user:nobody", "/api/v1/customers/user:nobody/identity"} {
		wantProblem(t, s, "GET", path, "", 404, `"no such customer"`)
		wantProblem(t, s, "GET", path+"?as_of=2026-03-01", "", 404, `"no such customer by that time"`)
		wantProblem(t, s, "GET", path+"?known_at=2026-03-01", "", 404, `"no such customer by that time"`)
	}
	wantProblem(t, s, "GET", "/api/v1/customers/pla-net:earth", "", 422, "pla-net")
	wantProblem(t, s, "GET", "/api/v1/customers/42", "", 422, "such as user:42 or email:ada@example.com")
	wantProblem(t, s, "GET", "/api/v1/customers/email:ada", "", 422, "no e-mail address")
	wantProblem(t, s, "GET", "/api/v1/customers/user:42?as_of=yesterday", "", 422, "as_of")
	wantProblem(t, s, "GET", "/api/v1/customers/user:42?asof=2026-03-01", "", 422, "asof")
}

// TestErrorsRepeatLittle sends inputs that are too long to be repeated whole.
func TestErrorsRepeatLittle(t *testing.T) {
	s, _ := start(t, &fake{})
	long := strings.Repeat("ä", 5000)
	for _, c := range []struct {
		method, path, body string
		code               int
	}{
		{"GET", "/api/v1/customers/" + long, "", 422},
		{"GET", "/api/v1/customers/" + long + ":x", "", 422},
		{"GET", "/api/v1/customers/email:" + long, "", 422},
		{"GET", "/api/v1/customers/phone:" + long, "", 422},
		{"GET", "/api/v1/customers/account:" + long, "", 422},
		{"GET", "/api/v1/customers/user:" + strings.Repeat("0", 5000), "", 422},
		{"GET", "/api/v1/accounts/" + long, "", 422},
		{"GET", "/api/v1/accounts/account:" + strings.Repeat("0", 5000), "", 422},
		{"GET", "/api/v1/customers/user:42?as_of=" + long, "", 422},
		{"GET", "/api/v1/customers?limit=" + long, "", 422},
		{"GET", "/api/v1/customers?stage=" + long, "", 422},
		{"GET", "/api/v1/customers?" + long + "=1", "", 422},
		{"GET", "/api/v1/" + long, "", 404},
		{"POST", "/api/v1/identity/merge", `{"subjects":["user:1","` + long + `"],"reason":"r","author":"a"}`, 422},
		{"POST", "/api/v1/identity/merge", `{"subjects":["user:1"],"` + long + `":1,"author":"` + long + `"}`, 422},
		{"POST", "/api/v1/identity/merge", `["` + long + `"]`, 422},
		{"POST", "/api/v1/identity/merge", long, 400},
	} {
		code, _, got := ask(t, s, c.method, c.path, c.body)
		if code != c.code || strings.Contains(got, strings.Repeat("ä", 201)) || strings.Contains(got, strings.Repeat("0", 201)) || len(got) > 4000 {
			t.Errorf("%s %.60s: %d, want %d, with %d bytes: %.900s", c.method, c.path, code, c.code, len(got), got)
		}
	}
}

func TestCustomerWithNothingYetHasNoNulls(t *testing.T) {
	s, _ := start(t, &fake{})
	_, _, got := ask(t, s, "GET", "/api/v1/customers/user:new", "")
	if strings.Contains(got, "null") {
		t.Error(got)
	}
}

func TestMovedCustomerRedirects(t *testing.T) {
	s, _ := start(t, &fake{})
	for path, to := range map[string]string{
		"/api/v1/customers/" + moved.String() + "?as_of=2026-03-01": "/api/v1/customers/" + ada.String() + "?as_of=2026-03-01",
		"/api/v1/customers/" + moved.String() + "/timeline?limit=7": "/api/v1/customers/" + ada.String() + "/timeline?limit=7",
		"/api/v1/customers/" + moved.String():                       "/api/v1/customers/" + ada.String(),
	} {
		h := wantProblem(t, s, "GET", path, "", 308, ada.String())
		if got := h.Get("Location"); got != to {
			t.Errorf("%s leads to %q, want %q", path, got, to)
		}
	}
}

func TestTimeline(t *testing.T) {
	f := &fake{}
	s, _ := start(t, f)
	want(t, s, "GET", "/api/v1/customers/user:42/timeline?limit=2&cursor=c1", "", 200, `{"entries":[
		{"at":"2026-03-01T12:00:00Z","touchpoint":{"event_id":"11111111-1111-5111-8111-111111111111","subject":"user:42","source":"",
		"type":"track","name":"Order Completed","meaning":"","channel":"","received_at":"0001-01-01T00:00:00Z","recorded_at":"0001-01-01T00:00:00Z",
		"position":9,"amount":"1.50","properties":{"total":1.5}}},
		{"at":"2026-03-01T12:00:00Z","transition":{"seq":1,"from":"","to":"first_purchase","reason":"first purchase","cause":""}}],
		"next_cursor":"more"}`)
	if f.limit != 2 || f.cursor != "c1" {
		t.Errorf("asked with limit %d and cursor %q", f.limit, f.cursor)
	}
	ask(t, s, "GET", "/api/v1/customers/user:42/timeline", "")
	if f.limit != 50 {
		t.Errorf("the default limit is %d", f.limit)
	}
	wantProblem(t, s, "GET", "/api/v1/customers/user:42/timeline?cursor=bad", "", 422, "cursor")
	wantProblem(t, s, "GET", "/api/v1/customers/user:42/timeline?limit=1001", "", 422, "limit")
	wantProblem(t, s, "GET", "/api/v1/customers/user:42/timeline?limit=0", "", 422, "limit")
}

func TestCustomers(t *testing.T) {
	f := &fake{held: 5}
	s, _ := start(t, f)
	code, _, got := ask(t, s, "GET", "/api/v1/customers?stage=loyal&limit=3&cursor=x", "")
	if code != 200 || !strings.Contains(got, `"next_cursor":"next"`) || !strings.Contains(got, ada.String()) {
		t.Errorf("%d %s", code, got)
	}
	if f.stage != "loyal" || f.limit != 3 || f.cursor != "x" {
		t.Errorf("asked for %q, %d, %q", f.stage, f.limit, f.cursor)
	}
	if f.at != (projections.At{}) {
		t.Errorf("without a time it asked about %+v", f.at)
	}
	ask(t, s, "GET", "/api/v1/customers?stage=loyal&as_of=2026-02-01&known_at=2026-03-01T12:00:00Z&cursor=x&after=5", "")
	if want := (projections.At{AsOf: time.Date(2026, 2, 1, 23, 59, 59, 999e6, time.UTC), KnownAt: noon}); f.at != want || f.cursor != "x" {
		t.Errorf("asked about %+v from %q, want %+v", f.at, f.cursor, want)
	}
	wantProblem(t, s, "GET", "/api/v1/customers?stage=happy", "", 422, "stage")
	wantProblem(t, s, "GET", "/api/v1/customers?known_at=then", "", 422, "known_at")
	wantProblem(t, s, "GET", "/api/v1/customers?known_at=2026-03-01&after=9", "", 503, "position")
}

func TestStages(t *testing.T) {
	f := &fake{held: 5}
	s, _ := start(t, f)
	want(t, s, "GET", "/api/v1/stages?as_of=1997-06-30", "", 200,
		`{"as_of":"2026-03-01T12:00:00Z","customers":3,"stages":[{"stage":"loyal","customers":1},{"stage":"lead","customers":2}]}`)
	if want := (projections.At{AsOf: time.Date(1997, 6, 30, 23, 59, 59, 999e6, time.UTC)}); f.at != want {
		t.Errorf("asked about %+v, want %+v", f.at, want)
	}
	ask(t, s, "GET", "/api/v1/stages?as_of=1997-06-30&known_at=2026-03-01T12:00:00Z&after=5", "")
	if want := (projections.At{AsOf: time.Date(1997, 6, 30, 23, 59, 59, 999e6, time.UTC), KnownAt: noon}); f.at != want {
		t.Errorf("asked about %+v, want %+v", f.at, want)
	}
	ask(t, s, "GET", "/api/v1/stages", "")
	if f.at != (projections.At{}) {
		t.Errorf("without a time it asked about %+v", f.at)
	}
	wantProblem(t, s, "GET", "/api/v1/stages?known_at=then", "", 422, "known_at")
	wantProblem(t, s, "GET", "/api/v1/stages?known_at=2026-03-01&after=9", "", 503, "position")
}

func TestWriteKeys(t *testing.T) {
	f := &fake{}
	s, _ := start(t, f)
	want(t, s, "POST", "/api/v1/write-keys", `{"source":"shop"}`, 201, `{"id":"k1","source":"shop","write_key":"wk_shown_once"}`)
	want(t, s, "GET", "/api/v1/write-keys", "", 200, `{"write_keys":[{"id":"k1","source":"shop","created_at":"2026-03-01T12:00:00Z"}]}`)
	want(t, s, "DELETE", "/api/v1/write-keys/k1", "", 204, "")
	want(t, s, "GET", "/api/v1/write-keys", "", 200,
		`{"write_keys":[{"id":"k1","source":"shop","created_at":"2026-03-01T12:00:00Z","revoked_at":"2026-03-01T12:00:00Z"}]}`)
	wantProblem(t, s, "DELETE", "/api/v1/write-keys/k9", "", 404, "no write key")
	for _, bad := range []string{`{"source":""}`, `{"source":"a b"}`, `{}`, `{"source":"shop","more":1}`, `{"source":7}`} {
		wantProblem(t, s, "POST", "/api/v1/write-keys", bad, 422, "body")
	}
	wantProblem(t, s, "POST", "/api/v1/write-keys", `{"source`, 400, "")
	wantProblem(t, s, "POST", "/api/v1/write-keys", `{"source":"`+strings.Repeat("a", 1<<20)+`"}`, 413, "")
}

func TestEventNames(t *testing.T) {
	s, _ := start(t, &fake{})
	want(t, s, "GET", "/api/v1/event-names", "", 200, `{"event_names":[
		{"source":"shop","type":"track","name":"Order Completed","count":7,"last_at":"2026-03-01T12:00:00Z","meaning":"purchase","channel":"web"},
		{"source":"shop","type":"track","name":"Thing Happened","count":1,"last_at":"2026-03-01T12:00:00Z","meaning":"unmapped","channel":""}]}`)
}

func TestRejects(t *testing.T) {
	f := &fake{rejects: []ingest.Reject{
		{ID: ada, Code: "bad_time", Reason: "no time", Source: "shop", MessageID: "m", ReceivedAt: noon, RecordedAt: noon, Position: 3, Raw: []byte(`{"a":1}`)},
		{ID: ada, Refused: true, Status: 400, Code: "not_json", Source: "shop", ReceivedAt: noon, RecordedAt: noon, Position: 4, Raw: []byte{0xff, 0xfe}, Replayed: true},
	}}
	s, _ := start(t, f)
	want(t, s, "GET", "/api/v1/rejects?limit=2&cursor=9", "", 200, `{"rejects":[
		{"id":"11111111-1111-5111-8111-111111111111","kind":"reject","reason":"bad_time","detail":"no time","source":"shop","message_id":"m",
		"received_at":"2026-03-01T12:00:00Z","recorded_at":"2026-03-01T12:00:00Z","position":3,"raw":"{\"a\":1}","replayed":false},
		{"id":"11111111-1111-5111-8111-111111111111","kind":"refusal","reason":"not_json","source":"shop","status":400,
		"received_at":"2026-03-01T12:00:00Z","recorded_at":"2026-03-01T12:00:00Z","position":4,"raw_base64":"//4=","replayed":true}],
		"next_cursor":"7"}`)
	if f.limit != 2 || f.cursor != "9" {
		t.Errorf("asked for %d behind %q", f.limit, f.cursor)
	}
	wantProblem(t, s, "GET", "/api/v1/rejects?cursor=bad", "", 422, "cursor")
}

func TestReplay(t *testing.T) {
	f := &fake{}
	s, _ := start(t, f)
	answer := `{"replayed":2,"failed":3,"already":1,"position":50}`
	want(t, s, "POST", "/api/v1/rejects/replay", "", 200, answer)
	if f.filter.IDs != nil || f.filter.Source != "" || f.filter.Code != "" {
		t.Errorf("asked %+v", f.filter)
	}
	want(t, s, "POST", "/api/v1/rejects/replay", `{"ids":["`+ada.String()+`"],"source":"shop","reason":"bad_time"}`, 200, answer)
	if len(f.filter.IDs) != 1 || f.filter.IDs[0] != ada || f.filter.Source != "shop" || f.filter.Code != "bad_time" {
		t.Errorf("asked %+v", f.filter)
	}
	wantProblem(t, s, "POST", "/api/v1/rejects/replay", `{"ids":["x"]}`, 422, "ids")
}

func TestAfterWaitsForTheViews(t *testing.T) {
	f := &fake{held: 5}
	s, _ := start(t, f)
	for _, path := range []string{
		"/api/v1/customers", "/api/v1/customers/user:42", "/api/v1/customers/user:42/timeline",
		"/api/v1/stages", "/api/v1/event-names", "/api/v1/rejects",
		"/api/v1/customers/email:ada@example.com/identity", "/api/v1/identity/conflicts",
	} {
		if code, _, got := ask(t, s, "GET", path+"?after=5", ""); code != 200 {
			t.Errorf("%s: %d %s", path, code, got)
		}
		h := wantProblem(t, s, "GET", path+"?after=6", "", 503, "position")
		if h.Get("Retry-After") == "" {
			t.Errorf("%s: no Retry-After", path)
		}
		wantProblem(t, s, "GET", path+"?after=x", "", 422, "after")
	}
}

func TestViewsThatAreNotReady(t *testing.T) {
	s, _ := start(t, &fake{status: projections.Status{LagEvents: 12, Err: "disk full"}})
	wantProblem(t, s, "GET", "/api/v1/stages", "", 503, "being built")
	want(t, s, "GET", "/readyz", "", 503,
		`{"ready":false,"lag_events":12,"position":0,"policy_version":0,"building":false,"error":"disk full"}`)
	want(t, s, "GET", "/healthz", "", 200, `{"status":"ok"}`)
}

func TestReady(t *testing.T) {
	s, _ := start(t, &fake{status: projections.Status{Ready: true, Position: 8, PolicyVersion: 2, Building: 3}})
	want(t, s, "GET", "/readyz", "", 200, `{"ready":true,"lag_events":0,"position":8,"policy_version":2,"building":true}`)
}

func TestToken(t *testing.T) {
	s, _ := start(t, &fake{})
	for _, auth := range []string{"", "Bearer", "Bearer ", "Bearer wrong", "Basic secret", token} {
		for _, path := range []string{"/api/v1/stages", "/api/v1/nothing", "/api/v1/tail"} {
			code, h, got := askAs(t, s, "GET", path, "", auth)
			if code != 401 || h.Get("WWW-Authenticate") == "" || h.Get("Content-Type") != "application/problem+json" {
				t.Errorf("%s with %q: %d %s", path, auth, code, got)
			}
		}
	}
	if code, _, _ := askAs(t, s, "GET", "/api/v1/stages", "", "bearer "+token); code != 200 {
		t.Errorf("the scheme is not case-insensitive: %d", code)
	}
	for _, path := range []string{"/healthz", "/readyz", "/metrics", "/openapi.json", "/docs"} {
		if code, _, _ := askAs(t, s, "GET", path, "", ""); code != 200 {
			t.Errorf("%s asks for a token: %d", path, code)
		}
	}
	if _, err := api.New(api.Config{}); err == nil {
		t.Error("an API without a token was made")
	}
}

func TestUnknownPathsAndMethods(t *testing.T) {
	s, _ := start(t, &fake{})
	wantProblem(t, s, "GET", "/api/v1/nothing", "", 404, "/api/v1/nothing")
	wantProblem(t, s, "GET", "/", "", 404, "/openapi.json")
	h := wantProblem(t, s, "PUT", "/api/v1/write-keys", "", 405, "PUT")
	if allow := h.Get("Allow"); !strings.Contains(allow, "POST") || !strings.Contains(allow, "GET") {
		t.Errorf("Allow: %q", allow)
	}
}

func TestInternalErrorsSayNothing(t *testing.T) {
	s, _ := start(t, &fake{err: errors.New("secret of the house")})
	_, _, got := ask(t, s, "GET", "/api/v1/customers", "")
	if strings.Contains(got, "secret") {
		t.Error(got)
	}
	wantProblem(t, s, "GET", "/api/v1/customers", "", 500, "log")
	s, _ = start(t, &fake{err: eventstore.ErrOverloaded})
	wantProblem(t, s, "POST", "/api/v1/write-keys", `{"source":"shop"}`, 429, "overloaded")
}

// closedPoints are the points of views that were stopped.
type closedPoints struct{}

func (closedPoints) Command(context.Context, projections.CommandRequest) (projections.CommandResult, error) {
	return projections.CommandResult{}, fmt.Errorf("redeem: %w", projections.ErrClosed)
}

func (closedPoints) OpenBalance(context.Context, string, projections.OpeningBalance) (bool, error) {
	return false, projections.ErrClosed
}

// TestAStopIsUnavailable: whoever asks views that were stopped asks again, of the
// next server.
func TestAStopIsUnavailable(t *testing.T) {
	s, _ := start(t, &fake{err: fmt.Errorf("list: %w", projections.ErrClosed), points: closedPoints{}})
	for _, ask := range [][3]string{
		{"GET", "/api/v1/customers", ""},
		{"POST", "/api/v1/customers/user:42/loyalty/redeem", `{"points":1}`},
		{"POST", "/api/v1/loyalty/opening-balances", `{"balances":[{"row":"1","subject":"user:42","parts":[]}]}`},
	} {
		if h := wantProblem(t, s, ask[0], ask[1], ask[2], 503, "the server is stopping"); h.Get("Retry-After") == "" {
			t.Errorf("%s does not say when to ask again", ask[1])
		}
	}
}

func TestMetrics(t *testing.T) {
	s, _ := start(t, &fake{})
	ask(t, s, "GET", "/api/v1/customers/user:42", "")
	_, _, got := ask(t, s, "GET", "/metrics", "")
	if !strings.Contains(got, `sojourn_api_requests_total{route="GET /api/v1/customers/{id}",status="200"} 1`) {
		t.Error(got)
	}
	if strings.Contains(got, "user:42") {
		t.Error("the metrics name a customer")
	}
}

// lines opens a stream and returns a function that reads its next line.
func lines(t *testing.T, s *httptest.Server, method, path string, line any) func() bool {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = res.Body.Close() })
	if res.StatusCode != 200 || res.Header.Get("Content-Type") != "application/x-ndjson" {
		t.Fatalf("%s: %s", path, res.Status)
	}
	r := bufio.NewScanner(res.Body)
	return func() bool {
		if !r.Scan() {
			return false
		}
		if err := json.Unmarshal(r.Bytes(), line); err != nil {
			t.Fatalf("%v in %s", err, r.Bytes())
		}
		return true
	}
}

func TestTail(t *testing.T) {
	f := &fake{live: []api.Arrival{
		{Kind: "touchpoint", Position: 51, Source: "shop", Type: "track", Name: "A", OccurredAt: noon, Message: []byte(`{"x":1}`)},
		{Kind: "touchpoint", Position: 52, Source: "app", Type: "page", Name: "B", OccurredAt: noon},
		{Kind: "reject", Position: 53, Source: "shop", Reason: "bad_time", Message: []byte(`{"x`)},
	}}
	s, a := start(t, f)
	for query, wantNames := range map[string]string{
		"": "A B bad_time", "?source=shop": "A bad_time", "?type=page": "B", "?type=reject": "bad_time",
		"?type=touchpoint&after=0": "A B",
	} {
		var l api.ArrivalLine
		next := lines(t, s, "GET", "/api/v1/tail"+query, &l)
		var got []string
		for range strings.Fields(wantNames) {
			l = api.ArrivalLine{}
			if !next() {
				t.Fatal("the stream ended")
			}
			got = append(got, l.Name+l.Reason)
		}
		if g := strings.Join(got, " "); g != wantNames {
			t.Errorf("%q: %s, want %s", query, g, wantNames)
		}
		f.mu.Lock()
		if want := eventstore.Position(50); strings.Contains(query, "after=0") == (f.after == want) {
			t.Errorf("%q: began after %d", query, f.after)
		}
		f.mu.Unlock()
	}
	wantProblem(t, s, "GET", "/api/v1/tail?type=order", "", 422, "type")

	var l api.ArrivalLine
	next := lines(t, s, "GET", "/api/v1/tail?type=reject", &l)
	if !next() || string(l.Message) != `"{\"x"` {
		t.Errorf("what is no JSON came as %s", l.Message)
	}
	a.StopStreams()
	if next() {
		t.Error("the stream goes on after the stop")
	}
}

func TestRebuildAndVerify(t *testing.T) {
	f := &fake{diffs: []warehouse.Difference{{Table: "customers", Key: "c1", A: `{"purchases":2}`, B: `{"purchases":3}`}, {Table: "customers", Key: "c2", B: "{}"}}}
	s, _ := start(t, f)
	read := func(path string) (ls []api.JobLine) {
		var l api.JobLine
		for next := lines(t, s, "POST", path, &l); next(); l = (api.JobLine{}) {
			ls = append(ls, l)
		}
		return ls
	}
	ls := read("/api/v1/rebuild")
	if len(ls) != 3 || ls[0] != (api.JobLine{Done: 1, Total: 2}) || ls[2] != (api.JobLine{Done: 2, Total: 2, Result: "ok"}) {
		t.Errorf("rebuild: %+v", ls)
	}
	ls = read("/api/v1/verify")
	if len(ls) != 4 || ls[1].Difference != `customers c1: the view has {"purchases":2}, the log gives {"purchases":3}` ||
		ls[2].Difference != "customers c2: the view has no row, the log gives {}" {
		t.Errorf("verify: %+v", ls)
	}
	if last := ls[3]; last.Result != "different" || last.Verified.Different["customers"] != 2 || last.Verified.Rows["customers"] != 5 {
		t.Errorf("verify ended with %+v", last)
	}
	f.diffs = nil
	if ls = read("/api/v1/verify"); ls[len(ls)-1].Result != "ok" {
		t.Errorf("verify without a difference ended with %+v", ls[len(ls)-1])
	}
	f.err = errors.New("no room left")
	ls = read("/api/v1/rebuild")
	if last := ls[len(ls)-1]; last.Result != "error" || !strings.Contains(last.Error, "no room") {
		t.Errorf("a job that broke off ended with %+v", last)
	}
}

func TestOneJobAtATime(t *testing.T) {
	f := &fake{block: make(chan struct{})}
	s, _ := start(t, f)
	var l api.JobLine
	next := lines(t, s, "POST", "/api/v1/rebuild", &l)
	if !next() {
		t.Fatal("no progress")
	}
	wantProblem(t, s, "POST", "/api/v1/verify", "", 409, "running")
	close(f.block)
	for next() {
	}
	if l.Result != "ok" {
		t.Errorf("%+v", l)
	}
}
