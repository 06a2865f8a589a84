package api_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/google/uuid"

	"sojourn/projections"
)

var acme = uuid.MustParse("33333333-3333-5333-8333-333333333333")

func (f *fake) Account(_ context.Context, ref string, at projections.At) (projections.Account, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at = at
	switch ref {
	case "account:acme", acme.String():
		return projections.Account{
			ID: acme, GroupID: "acme", Stage: "loyal", StageSince: noon, Reason: "third purchase", Cause: "touchpoint:x", Purchases: 3, Refunds: 1,
			Revenue: map[string]string{"EUR": "12"}, FirstSeen: noon, LastSeen: noon,
			Traits: map[string]json.RawMessage{"plan": json.RawMessage(`"pro"`)}, Members: 2, AsOf: noon,
		}, f.err
	case "account:plain":
		return projections.Account{ID: acme, GroupID: "plain", FirstSeen: noon, LastSeen: noon, AsOf: noon}, nil
	}
	return projections.Account{}, projections.ErrNoAccount
}

func (f *fake) Accounts(ctx context.Context, limit int, cursor string, at projections.At) ([]projections.Account, string, error) {
	f.limit, f.cursor = limit, cursor
	if cursor == "bad" {
		return nil, "", projections.ErrBadCursor
	}
	a, err := f.Account(ctx, "account:plain", at)
	return []projections.Account{a}, "next", err
}

func (f *fake) AccountMembers(_ context.Context, ref string, at projections.At, cursor string, limit int) ([]projections.AccountMember, string, error) {
	f.at, f.cursor, f.limit = at, cursor, limit
	if ref != "account:acme" {
		return nil, "", projections.ErrNoAccount
	}
	return []projections.AccountMember{{Customer: ada, Since: noon}}, "", f.err
}

func (f *fake) AccountTimeline(ctx context.Context, ref string, at projections.At, cursor string, limit int) ([]projections.Entry, string, error) {
	if ref != "account:acme" {
		return nil, "", projections.ErrNoAccount
	}
	return f.Timeline(ctx, "user:42", at, cursor, limit)
}

func TestAccounts(t *testing.T) {
	f := &fake{}
	s, _ := start(t, f)
	const acmeJSON = `{"id":"33333333-3333-5333-8333-333333333333","group_id":"acme","stage":"loyal","stage_since":"2026-03-01T12:00:00Z",
		"reason":"third purchase","cause":"touchpoint:x","purchases":3,"refunds":1,"revenue":{"EUR":"12"},
		"first_seen":"2026-03-01T12:00:00Z","last_seen":"2026-03-01T12:00:00Z","traits":{"plan":"pro"},"members":2,"as_of":"2026-03-01T12:00:00Z"}`
	const plain = `{"id":"33333333-3333-5333-8333-333333333333","group_id":"plain","purchases":0,"refunds":0,"revenue":{},
		"first_seen":"2026-03-01T12:00:00Z","last_seen":"2026-03-01T12:00:00Z","traits":{},"members":0,"as_of":"2026-03-01T12:00:00Z"}`
	want(t, s, "GET", "/api/v1/accounts/account:acme", "", 200, acmeJSON)
	want(t, s, "GET", "/api/v1/accounts/"+acme.String()+"?as_of=2026-03-01&known_at=2026-03-02", "", 200, acmeJSON)
	if got := f.at.AsOf; !got.Equal(time.Date(2026, 3, 1, 23, 59, 59, 999e6, time.UTC)) {
		t.Errorf("a bare date was asked as %v", got)
	}
	if got := f.at.KnownAt; !got.Equal(time.Date(2026, 3, 2, 23, 59, 59, 999e6, time.UTC)) {
		t.Errorf("known_at was asked as %v", got)
	}
	want(t, s, "GET", "/api/v1/accounts/account:plain", "", 200, plain)
	want(t, s, "GET", "/api/v1/accounts?limit=3&cursor=c&as_of=2026-03-01", "", 200, `{"accounts":[`+plain+`],"next_cursor":"next"}`)
	if f.limit != 3 || f.cursor != "c" || f.at.AsOf.IsZero() {
		t.Errorf("asked for %d after %q at %+v", f.limit, f.cursor, f.at)
	}
	want(t, s, "GET", "/api/v1/accounts/account:acme/members?limit=7", "", 200,
		`{"members":[{"customer_id":"11111111-1111-5111-8111-111111111111","since":"2026-03-01T12:00:00Z"}]}`)
	if f.limit != 7 {
		t.Errorf("asked for %d", f.limit)
	}
	code, _, body := ask(t, s, "GET", "/api/v1/accounts/account:acme/timeline?limit=5&cursor=c", "")
	_, _, same := ask(t, s, "GET", "/api/v1/customers/user:42/timeline?limit=5&cursor=c", "")
	if code != 200 || body != same || f.limit != 5 || f.cursor != "c" {
		t.Errorf("the timeline is %d %s, want what a customer's looks like", code, body)
	}

	for _, path := range []string{"", "/members", "/timeline"} {
		wantProblem(t, s, "GET", "/api/v1/accounts/account:nobody"+path, "", 404, "no such account")
		wantProblem(t, s, "GET", "/api/v1/accounts/user:42"+path, "", 422, "account:")
		wantProblem(t, s, "GET", "/api/v1/accounts/account:null"+path, "", 422, "names no account")
		wantProblem(t, s, "GET", "/api/v1/accounts/account:acme"+path+"?after=99", "", 503, "that position")
	}
	wantProblem(t, s, "GET", "/api/v1/accounts?cursor=bad", "", 422, "cursor")
	wantProblem(t, s, "GET", "/api/v1/accounts?limit=0", "", 422, "limit")
	wantProblem(t, s, "GET", "/api/v1/customers/account:acme", "", 422, "account")
}
