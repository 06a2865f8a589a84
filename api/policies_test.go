package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"sojourn/api"
	"sojourn/domain/loyalty"
	"sojourn/domain/policy"
	"sojourn/projections"
)

// parsePolicy knows two mistakes, files that give a currency, and places whatever
// the check finds in line 7.
func parsePolicy(source string, check func(policy.Policy) error) (policy.Policy, []api.PolicyProblem) {
	p := policy.Default()
	if strings.Contains(source, "mistake") {
		return p, []api.PolicyProblem{{Line: 2, Column: 17, Message: "this should be a whole number"}, {Line: 3, Column: 1, Message: "unknown key"}}
	}
	if _, currency, ok := strings.Cut(source, "currency: "); ok {
		p.Currency = currency
	}
	var problems policy.Problems
	if check != nil && errors.As(check(p), &problems) {
		var all []api.PolicyProblem
		for _, pr := range problems {
			all = append(all, api.PolicyProblem{Line: 7, Column: 1, Message: pr.PathString() + ": " + pr.Message})
		}
		return p, all
	}
	return p, nil
}

// aboutThePast is what the check of a policy finds.
var aboutThePast = policy.Problems{{Path: []string{"loyalty", "programmes", "0", "earning", "from"}, Message: "would change what is past"}}

// fakePolicies keeps policies that differ by their currency.
type fakePolicies struct {
	all       []projections.PolicyVersion
	proposal  projections.Proposal
	err       error
	previewed policy.Policy
	since     time.Time
	checked   time.Time // the since of the last check
	past      bool      // the check finds something
	run       projections.Preview
}

var previewID = uuid.MustParse("33333333-3333-7333-8333-333333333333")

func (f *fakePolicies) Policies() []projections.PolicyVersion {
	first := projections.PolicyVersion{
		Version: 1, AppliedAt: noon, Policy: policy.Default(),
		HoldsFrom: []projections.HoldsFrom{{Programme: "default", Tiers: "2026-03-01T12:00:00.000Z"}},
	}
	return append([]projections.PolicyVersion{first}, f.all...)
}

func (f *fakePolicies) Apply(_ context.Context, r projections.Proposal) (projections.PolicyVersion, bool, error) {
	f.proposal = r
	if f.err != nil {
		return projections.PolicyVersion{}, false, f.err
	}
	all := f.Policies()
	if last := all[len(all)-1]; last.Policy.Currency == r.Policy.Currency {
		return last, false, nil
	}
	v := projections.PolicyVersion{Version: len(all) + 1, AppliedAt: noon, Source: r.Source, Author: r.Author, Reason: r.Reason, Policy: r.Policy}
	f.all = append(f.all, v)
	return v, true, nil
}

func (f *fakePolicies) Rollback(ctx context.Context, to int, r projections.Proposal) (projections.PolicyVersion, bool, error) {
	all := f.Policies()
	if to > len(all) {
		return projections.PolicyVersion{}, false, projections.ErrNoPolicyVersion
	}
	r.Policy, r.Source = all[to-1].Policy, all[to-1].Source
	v, applied, err := f.Apply(ctx, r)
	v.RollbackTo = to
	return v, applied, err
}

func (f *fakePolicies) CheckPolicy(_ policy.Policy, since time.Time) error {
	f.checked = since
	if f.past {
		return aboutThePast
	}
	return nil
}

func (f *fakePolicies) StartPreview(p policy.Policy, since time.Time) (projections.Preview, error) {
	f.previewed, f.since = p, since
	return f.run, f.err
}

func (f *fakePolicies) Previews() []projections.Preview { return []projections.Preview{f.run} }

func (f *fakePolicies) Preview(id uuid.UUID) (projections.Preview, error) {
	if id != f.run.ID {
		return projections.Preview{}, projections.ErrNoPreview
	}
	return f.run, nil
}

func (f *fakePolicies) CancelPreview(id uuid.UUID) (projections.Preview, error) { return f.Preview(id) }

func TestPolicies(t *testing.T) {
	f := &fake{}
	f.status = projections.Status{Ready: true, Position: 5, PolicyVersion: 1}
	s, _ := start(t, f)
	const first = `{"version":1,"applied_at":"2026-03-01T12:00:00Z","source":""}`
	want(t, s, "GET", "/api/v1/policies", "", 200, `{"policies":[`+first+`]}`)

	// Mistakes have their places, and nothing is applied.
	want(t, s, "POST", "/api/v1/policies/validate", `{"source":"currency: EUR"}`, 200, `{"valid":true,"problems":[]}`)
	want(t, s, "POST", "/api/v1/policies/validate", `{"source":"a mistake"}`, 200,
		`{"valid":false,"problems":[{"line":2,"column":17,"message":"this should be a whole number"},{"line":3,"column":1,"message":"unknown key"}]}`)
	for _, path := range []string{"", "/diff", "/previews"} {
		_, _, body := ask(t, s, "POST", "/api/v1/policies"+path, `{"source":"a mistake"}`)
		if !strings.Contains(body, `{"message":"this should be a whole number","location":"body.source:2:17"}`) {
			t.Errorf("%s: %s", path, body)
		}
		wantProblem(t, s, "POST", "/api/v1/policies"+path, `{"source":"a mistake"}`, 422, "unknown key")
	}
	if f.policies.proposal.Source != "" || f.policies.previewed.Currency != "" {
		t.Error("a policy with mistakes went further")
	}

	const second = `{"version":2,"applied_at":"2026-03-01T12:00:00Z","author":"jo","reason":"we moved","source":"currency: EUR"`
	apply := `{"source":"currency: EUR","author":"jo","reason":"we moved","expected_version":1}`
	want(t, s, "POST", "/api/v1/policies", apply, 200, second+`,"applied":true}`)
	if p := f.policies.proposal; p.Expected != 1 || p.Policy.Currency != "EUR" {
		t.Errorf("%+v", p)
	}
	want(t, s, "POST", "/api/v1/policies", apply, 200, second+`,"applied":false}`)
	want(t, s, "GET", "/api/v1/policies?limit=1", "", 200, `{"policies":[`+second+`}],"next_cursor":"1"}`)
	want(t, s, "GET", "/api/v1/policies?limit=1&cursor=1", "", 200, `{"policies":[`+first+`]}`)
	wantProblem(t, s, "GET", "/api/v1/policies?cursor=9", "", 422, "no cursor")
	_, _, body := ask(t, s, "GET", "/api/v1/policies/current", "")
	var current struct {
		Version      int
		ViewsVersion int `json:"views_version"`
		Policy       policy.Policy
	}
	if err := json.Unmarshal([]byte(body), &current); err != nil || current.Version != 2 || current.ViewsVersion != 1 || current.Policy.Currency != "EUR" || len(current.Policy.Events) == 0 {
		t.Errorf("%s, %v", body, err)
	}
	if _, _, body := ask(t, s, "GET", "/api/v1/policies/1", ""); !strings.Contains(body, `"currency":"USD"`) ||
		!strings.Contains(body, `"holds_from":[{"programme":"default","tiers":"2026-03-01T12:00:00Z"}]`) {
		t.Errorf("version 1: %s", body)
	}
	wantProblem(t, s, "GET", "/api/v1/policies/3", "", 404, "the last is 2")

	const changes = `"changes":[{"key":"currency","from":"\"USD\"","to":"\"EUR\""},{"key":"loyalty.programmes[default].currency","from":"\"USD\"","to":"\"EUR\""}]}`
	want(t, s, "POST", "/api/v1/policies/diff", `{"from":1,"to":2}`, 200, `{"from":1,`+changes)
	want(t, s, "POST", "/api/v1/policies/diff", `{"from":1,"source":"currency: EUR"}`, 200, `{"from":1,`+changes)
	want(t, s, "POST", "/api/v1/policies/diff", `{"source":"currency: EUR"}`, 200, `{"from":2,"changes":[]}`)
	wantProblem(t, s, "POST", "/api/v1/policies/diff", `{"to":1,"source":"x"}`, 422, "either")
	wantProblem(t, s, "POST", "/api/v1/policies/diff", `{"to":9}`, 404, "version 9")

	want(t, s, "POST", "/api/v1/policies/rollback", `{"version":1,"author":"jo"}`, 200,
		`{"version":3,"applied_at":"2026-03-01T12:00:00Z","author":"jo","rollback_to":1,"source":"","applied":true}`)
	wantProblem(t, s, "POST", "/api/v1/policies/rollback", `{"version":9}`, 404, "no such version")
	f.policies.err = fmt.Errorf("%w: version 4", projections.ErrPolicyMoved)
	wantProblem(t, s, "POST", "/api/v1/policies", apply, 409, "version 4")

	// What would change the past without saying so.
	f.policies.err, f.policies.past, f.policies.proposal = nil, true, projections.Proposal{}
	for _, path := range []string{"", "/previews"} {
		_, _, body := ask(t, s, "POST", "/api/v1/policies"+path, `{"source":"currency: CHF"}`)
		if !strings.Contains(body, `{"message":"loyalty.programmes[0].earning.from: would change what is past","location":"body.source:7:1"}`) {
			t.Errorf("%s: %s", path, body)
		}
	}
	want(t, s, "POST", "/api/v1/policies/validate", `{"source":"currency: CHF"}`, 200,
		`{"valid":false,"problems":[{"line":7,"column":1,"message":"loyalty.programmes[0].earning.from: would change what is past"}]}`)
	want(t, s, "POST", "/api/v1/policies/diff", `{"from":1,"source":"currency: EUR"}`, 200, `{"from":1,`+changes)
	if f.policies.proposal.Source != "" {
		t.Error("it was applied all the same")
	}
	// Where another policy came between the check and the apply.
	f.policies.past, f.policies.err = false, aboutThePast
	_, _, body = ask(t, s, "POST", "/api/v1/policies", `{"source":"currency: CHF"}`)
	if !strings.Contains(body, `"status":422`) || !strings.Contains(body, `{"message":"would change what is past","location":"loyalty.programmes[0].earning.from"}`) {
		t.Errorf("apply: %s", body)
	}

	status, h, body := ask(t, s, "GET", "/api/v1/policies/schema", "")
	if status != 200 || h.Get("Content-Type") != "application/schema+json" || !strings.Contains(body, "at_risk_days") || !json.Valid([]byte(body)) {
		t.Errorf("schema: %d %v %s", status, h, body)
	}
}

func TestPreviews(t *testing.T) {
	f := &fake{}
	s, _ := start(t, f)
	f.policies.run = projections.Preview{ID: previewID, State: projections.PreviewRunning, StartedAt: noon, Done: 3, Total: 9}
	const running = `{"id":"33333333-3333-7333-8333-333333333333","state":"running","started_at":"2026-03-01T12:00:00Z","done":3,"total":9}`
	want(t, s, "POST", "/api/v1/policies/previews", `{"source":"currency: EUR"}`, 202, running)
	if f.policies.previewed.Currency != "EUR" {
		t.Errorf("previewed %+v", f.policies.previewed)
	}
	_, h, _ := ask(t, s, "POST", "/api/v1/policies/previews", `{"source":""}`)
	if where := h.Get("Location"); where != "/api/v1/policies/previews/"+previewID.String() {
		t.Errorf("location %s", where)
	}
	if !f.policies.since.IsZero() {
		t.Errorf("since %v", f.policies.since)
	}
	want(t, s, "POST", "/api/v1/policies/previews", `{"source":"","since":"2026-01-01"}`, 202, running)
	if since := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC); !f.policies.since.Equal(since) || !f.policies.checked.Equal(since) {
		t.Errorf("since %v, checked %v", f.policies.since, f.policies.checked)
	}
	wantProblem(t, s, "POST", "/api/v1/policies/previews", `{"source":"","since":"yesterday"}`, 422, "body.since")
	wantProblem(t, s, "POST", "/api/v1/policies/previews", `{"source":"","since":"2199-01-01"}`, 422, "future")
	want(t, s, "GET", h.Get("Location"), "", 200, running)
	want(t, s, "GET", "/api/v1/policies/previews", "", 200, `{"previews":[`+running+`]}`)
	want(t, s, "DELETE", h.Get("Location"), "", 200, running)
	wantProblem(t, s, "GET", "/api/v1/policies/previews/"+ada.String(), "", 404, "an hour")
	wantProblem(t, s, "DELETE", "/api/v1/policies/previews/"+ada.String(), "", 404, "an hour")
	wantProblem(t, s, "GET", "/api/v1/policies/previews/x", "", 422, "id")
	f.policies.err = &projections.PreviewRunningError{ID: previewID}
	wantProblem(t, s, "POST", "/api/v1/policies/previews", `{"source":""}`, 409, previewID.String())
	f.policies.err = projections.ErrBuilding
	wantProblem(t, s, "POST", "/api/v1/policies/previews", `{"source":""}`, 503, "being built")

	standing := func(id uuid.UUID, stage string) *projections.PreviewStanding {
		return &projections.PreviewStanding{Customer: id, Name: stage, Since: noon, Reason: "because", Cause: "touchpoint:x", Subjects: 2}
	}
	gold := standing(ada, "gold")
	gold.Balance = &loyalty.Balance{Available: 30, Pending: 5, Debt: 1}
	f.policies.run.State, f.policies.run.EndedAt = projections.PreviewDone, noon.Add(time.Second)
	f.policies.run.Report = &projections.PreviewReport{
		Position: 9, Clock: noon, Policy: 1, Changes: []policy.Change{{Key: "currency", From: `"USD"`, To: `"EUR"`}},
		Lifecycle: projections.Comparison{
			Old: []projections.PreviewCount{{Name: "lead", Customers: 2}}, New: []projections.PreviewCount{{Name: "lead", Customers: 1}},
			Cells: []projections.PreviewCell{{From: "lead", Customers: 2, Examples: []projections.PreviewExample{
				{Customer: ada, Subject: "user:42", Old: standing(ada, "lead"), New: standing(moved, "loyal")}, {Customer: moved, Subject: "user:7", Old: standing(moved, "lead")},
			}}},
			Weeks: []projections.PreviewWeek{{Start: time.Date(2026, 2, 23, 0, 0, 0, 0, time.UTC), Gained: map[string]uint64{"loyal": 1}, Lost: map[string]uint64{}}},
		},
		Since: noon.Add(-time.Hour), LeftOut: []int{2, 3},
		Loyalty: []projections.LoyaltyComparison{{
			Programme: "club", Changed: 1,
			New: &projections.LoyaltySide{
				Members: 2, Totals: loyalty.Totals{Balance: loyalty.Balance{Available: 30, Pending: 5, Debt: 1}, Earned: 40, Redeemed: 3, Expired: 2, Reversed: 1},
				PointValue: 100, Liability: 3500, Currency: "EUR",
			},
			Tiers: projections.Comparison{
				Old: []projections.PreviewCount{{Name: "gold"}}, New: []projections.PreviewCount{{Name: "gold", Customers: 1}},
				Cells: []projections.PreviewCell{{To: "gold", Customers: 1, Examples: []projections.PreviewExample{{Customer: ada, Subject: "user:42", New: gold}}}},
			},
		}},
	}
	want(t, s, "GET", "/api/v1/policies/previews/"+previewID.String()+"?examples=1", "", 200, `{
		"id":"33333333-3333-7333-8333-333333333333","state":"done","started_at":"2026-03-01T12:00:00Z","ended_at":"2026-03-01T12:00:01Z","done":3,"total":9,
		"report":{"position":9,"clock":"2026-03-01T12:00:00Z","policy_version":1,"since":"2026-03-01T11:00:00Z","left_out":[2,3],"changes":[{"key":"currency","from":"\"USD\"","to":"\"EUR\""}],
		"lifecycle":{"old":[{"stage":"lead","customers":2}],"new":[{"stage":"lead","customers":1}],
		"matrix":[{"from":"lead","to":"none","customers":2,"examples":[{"id":"11111111-1111-5111-8111-111111111111","subject":"user:42",
		"old":{"id":"11111111-1111-5111-8111-111111111111","stage":"lead","since":"2026-03-01T12:00:00Z","reason":"because","cause":"touchpoint:x","subjects":2},
		"new":{"id":"22222222-2222-5222-8222-222222222222","stage":"loyal","since":"2026-03-01T12:00:00Z","reason":"because","cause":"touchpoint:x","subjects":2}}]}],
		"weeks":[{"week":"2026-02-23","gained":{"loyal":1},"lost":{}}]},
		"loyalty":[{"programme":"club","changed":1,
		"new":{"members":2,"available":30,"pending":5,"debt":1,"point_value":"0.01","liability":"0.35","currency":"EUR","earned":40,"redeemed":3,"expired":2,"reversed":1},
		"tiers":{"old":[{"tier":"gold","customers":0}],"new":[{"tier":"gold","customers":1}],"weeks":[],
		"matrix":[{"from":"none","to":"gold","customers":1,"examples":[{"id":"11111111-1111-5111-8111-111111111111","subject":"user:42",
		"new":{"id":"11111111-1111-5111-8111-111111111111","tier":"gold","since":"2026-03-01T12:00:00Z","reason":"because","cause":"touchpoint:x","subjects":2,"available":30,"pending":5,"debt":1}}]}]}}]}}`)
}
