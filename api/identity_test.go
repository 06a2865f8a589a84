package api_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"sojourn/eventstore"
	"sojourn/projections"
)

func TestIdentity(t *testing.T) {
	f := &fake{}
	s, _ := start(t, f)
	const path = "/api/v1/customers/email:ada@example.com/identity"
	want(t, s, "GET", path+"?as_of=2026-02-01&known_at=2026-03-01T12:00:00Z", "", 200, `{"id":"11111111-1111-5111-8111-111111111111",
		"subjects":[{"subject":"anon:a","id":"11111111-1111-5111-8111-111111111111","first_position":3},
			{"subject":"email:ada@example.com","id":"22222222-2222-5222-8222-222222222222"}],
		"joins":[{"event_id":"22222222-2222-5222-8222-222222222222","at":"2026-03-01T12:00:00Z","subject":"anon:a","other":"email:ada@example.com","outcome":"joined"},
			{"event_id":"22222222-2222-5222-8222-222222222222","at":"2026-03-01T12:00:00Z","subject":"user:7","other":"anon:a","alias":true,"outcome":"conflict"}],
		"decisions":[{"event_id":"22222222-2222-5222-8222-222222222222","position":9,"recorded_at":"2026-03-01T12:00:00Z","kind":"merge",
			"subjects":["anon:a"],"others":[],"reason":"one person","author":"jo"}]}`)
	if want := (projections.At{AsOf: time.Date(2026, 2, 1, 23, 59, 59, 999e6, time.UTC), KnownAt: noon}); f.at != want {
		t.Errorf("asked about %+v, want %+v", f.at, want)
	}
	if _, _, got := ask(t, s, "GET", "/api/v1/customers/user:new/identity", ""); strings.Contains(got, "null") {
		t.Error(got)
	}
	wantProblem(t, s, "GET", "/api/v1/customers/user:nobody/identity", "", 404, "no such customer")
	wantProblem(t, s, "GET", "/api/v1/customers/pla-net:earth/identity", "", 422, "use user, anon, email, phone, device")
	h := wantProblem(t, s, "GET", "/api/v1/customers/"+moved.String()+"/identity?known_at=2026-03-01", "", 308, ada.String())
	if got, want := h.Get("Location"), "/api/v1/customers/"+ada.String()+"/identity?known_at=2026-03-01"; got != want {
		t.Errorf("an old id leads to %q, want %q", got, want)
	}
	if code, _, got := ask(t, s, "GET", h.Get("Location"), ""); code != 200 {
		t.Errorf("where it leads is %d %s", code, got)
	}
}

func TestConflicts(t *testing.T) {
	f := &fake{}
	s, _ := start(t, f)
	want(t, s, "GET", "/api/v1/identity/conflicts?status=kept_apart&limit=2&cursor=c1", "", 200, `{"conflicts":[
		{"event_id":"22222222-2222-5222-8222-222222222222","at":"2026-03-01T12:00:00Z","subject":"user:1","customer_id":"11111111-1111-5111-8111-111111111111",
			"other":"anon:tablet","other_customer_id":"22222222-2222-5222-8222-222222222222","status":"open"},
		{"event_id":"11111111-1111-5111-8111-111111111111","at":"2026-03-01T12:00:00Z","subject":"user:2","customer_id":"11111111-1111-5111-8111-111111111111",
			"other":"email:x@example.com","status":"kept_apart"}],
		"next_cursor":"more"}`)
	if f.only != "kept_apart" || f.limit != 2 || f.cursor != "c1" {
		t.Errorf("asked for %q, %d, %q", f.only, f.limit, f.cursor)
	}
	want(t, s, "GET", "/api/v1/identity/conflicts?cursor=end", "", 200, `{"conflicts":[]}`)
	if f.only != "" || f.limit != 50 {
		t.Errorf("asked for %q, %d", f.only, f.limit)
	}
	wantProblem(t, s, "GET", "/api/v1/identity/conflicts?cursor=bad", "", 422, "cursor")
	wantProblem(t, s, "GET", "/api/v1/identity/conflicts?status=joined", "", 422, "status")
	wantProblem(t, s, "GET", "/api/v1/identity/conflicts?limit=1001", "", 422, "limit")
	f.err = errors.New("disk full")
	wantProblem(t, s, "GET", "/api/v1/identity/conflicts", "", 500, "list the conflicts")
}

func TestMerge(t *testing.T) {
	f := &fake{held: 5}
	s, _ := start(t, f)
	const path = "/api/v1/identity/merge"
	body := `{"subjects":["Email:Ada@example.com","` + moved.String() + `"],"reason":"she called","author":"jo"}`
	want(t, s, "POST", path+"?after=5", body, 201, `{"event_id":"22222222-2222-5222-8222-222222222222","position":51,"recorded_at":"2026-03-01T12:00:00Z",
		"kind":"merge","subjects":["Email:Ada@example.com","`+moved.String()+`"],"others":["anon:a"],"reason":"she called","author":"jo"}`)
	if r := f.merge; !slices.Equal(r.Subjects, []string{"Email:Ada@example.com", moved.String()}) || r.Reason != "she called" || r.Author != "jo" {
		t.Errorf("asked for %+v", r)
	}
	if _, h, _ := ask(t, s, "POST", path, body); h.Get("Sojourn-Position") != "51" {
		t.Errorf("Sojourn-Position is %q", h.Get("Sojourn-Position"))
	}
	f.merge = projections.MergeRequest{}
	for bad, says := range map[string]string{
		`{"subjects":["user:1"],"reason":"r","author":"a"}`:                                         "subjects",
		`{"reason":"r","author":"a"}`:                                                               "subjects",
		`{"subjects":["user:1","user:2"],"author":"a"}`:                                             "reason",
		`{"subjects":["user:1","user:2"],"reason":"","author":"a"}`:                                 "reason",
		`{"subjects":["user:1","user:2"],"reason":"r"}`:                                             "author",
		`{"subjects":["user:1","pla-net:earth"],"reason":"r","author":"a"}`:                         `"location":"body.subjects[1]"`,
		`{"subjects":["pla-net:earth","user:1"],"reason":"r","author":"a"}`:                         "use user, anon, email, phone, device or the type of an external id",
		`{"subjects":["user:1","42"],"reason":"r","author":"a"}`:                                    "such as user:42 or email:ada@example.com",
		`{"subjects":["user:1","user:null"],"reason":"r","author":"a"}`:                             "names nobody",
		`{"subjects":["user:1","user:2"],"reason":"r","author":"a","from":"x"}`:                     "from",
		`{"subjects":[` + strings.Repeat(`"user:1",`, 100) + `"user:2"],"reason":"r","author":"a"}`: "subjects",
	} {
		wantProblem(t, s, "POST", path, bad, 422, says)
	}
	wantProblem(t, s, "POST", path+"?after=6", body, 503, "position")
	if f.merge.Subjects != nil {
		t.Errorf("a request that was refused was passed on: %+v", f.merge)
	}
	f.err = &projections.DecisionError{Message: "name at least two different subjects"}
	wantProblem(t, s, "POST", path, body, 422, "two different subjects")
	f.err = fmt.Errorf("user:9: %w", projections.ErrNotFound)
	wantProblem(t, s, "POST", path, body, 404, `nothing is known of user:9"`)
	f.err = eventstore.ErrOverloaded
	wantProblem(t, s, "POST", path, body, 429, "overloaded")
	f.err = errors.New("secret of the house")
	wantProblem(t, s, "POST", path, body, 500, "record the decision")
}

func TestSplit(t *testing.T) {
	f := &fake{}
	s, _ := start(t, f)
	const path = "/api/v1/identity/split"
	want(t, s, "POST", path, `{"subjects":["phone:+49301234567"],"reason":"two people","author":"jo"}`, 201,
		`{"event_id":"22222222-2222-5222-8222-222222222222","position":52,"recorded_at":"2026-03-01T12:00:00Z",
		"kind":"split","subjects":["phone:+49301234567"],"others":[],"reason":"two people","author":"jo"}`)
	_, h, _ := ask(t, s, "POST", path, `{"subjects":["user:1","user:2"],"from":"`+ada.String()+`","reason":"two people","author":"jo"}`)
	if h.Get("Sojourn-Position") != "52" {
		t.Errorf("Sojourn-Position is %q", h.Get("Sojourn-Position"))
	}
	if r := f.split; !slices.Equal(r.Subjects, []string{"user:1", "user:2"}) || r.From != ada.String() || r.Reason != "two people" || r.Author != "jo" {
		t.Errorf("asked for %+v", r)
	}
	for bad, says := range map[string]string{
		`{"subjects":[],"reason":"r","author":"a"}`:                            "subjects",
		`{"subjects":["user:1"],"author":"a"}`:                                 "reason",
		`{"subjects":["user:1"],"reason":"r"}`:                                 "author",
		`{"subjects":["pla-net:earth"],"reason":"r","author":"a"}`:             `"location":"body.subjects[0]"`,
		`{"subjects":["user:1"],"from":"pla-net:x","reason":"r","author":"a"}`: `"location":"body.from"`,
		`{"subjects":["user:1"],"from":"email:ada","reason":"r","author":"a"}`: "no e-mail address",
		`{"subjects":["user:1"],"from":"","reason":"r","author":"a"}`:          `"location":"body.from"`,
		`{"subjects":["user:1"],"from":" ","reason":"r","author":"a"}`:         `"location":"body.from"`,
	} {
		f.split = projections.SplitRequest{}
		wantProblem(t, s, "POST", path, bad, 422, says)
		if f.split.Subjects != nil {
			t.Errorf("%s was asked of the views", bad)
		}
	}
	f.err = &projections.DecisionError{Message: "it would leave nobody behind"}
	wantProblem(t, s, "POST", path, `{"subjects":["user:1"],"reason":"r","author":"a"}`, 422, "nobody behind")
}

// Nobody decides anything without the token.
func TestIdentityNeedsTheToken(t *testing.T) {
	f := &fake{}
	s, _ := start(t, f)
	for path, method := range map[string]string{
		"/api/v1/identity/merge": "POST", "/api/v1/identity/split": "POST", "/api/v1/identity/conflicts": "GET",
		"/api/v1/customers/" + ada.String() + "/identity": "GET",
	} {
		body := ""
		if method == "POST" {
			body = `{"subjects":["user:1","user:2"],"reason":"r","author":"a"}`
		}
		if code, _, got := askAs(t, s, method, path, body, "Bearer wrong"); code != 401 {
			t.Errorf("%s: %d %s", path, code, got)
		}
	}
	if f.merge.Subjects != nil || f.split.Subjects != nil {
		t.Error("a decision was made")
	}
}
