package api_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"
)

// TestOpenAPI checks the document by the rules of OpenAPI 3.1 that a reader
// trips over: the version, operations with unique ids and described answers,
// declared path parameters, and references that lead somewhere.
func TestOpenAPI(t *testing.T) {
	s, _ := start(t, &fake{})
	_, h, body := ask(t, s, "GET", "/openapi.json", "")
	if ct := h.Get("Content-Type"); !strings.Contains(ct, "json") {
		t.Errorf("content type %q", ct)
	}
	var doc map[string]any
	if err := json.Unmarshal([]byte(body), &doc); err != nil {
		t.Fatal(err)
	}
	if v, _ := doc["openapi"].(string); !strings.HasPrefix(v, "3.1.") {
		t.Fatalf("openapi is %v", doc["openapi"])
	}
	info, _ := doc["info"].(map[string]any)
	if info["title"] == "" || info["version"] == "" {
		t.Errorf("info is %v", info)
	}

	resolve(t, doc, doc)

	var got []string
	ids := map[string]bool{}
	for path, item := range doc["paths"].(map[string]any) {
		for method, v := range item.(map[string]any) {
			op := v.(map[string]any)
			got = append(got, strings.ToUpper(method)+" "+path)
			id, _ := op["operationId"].(string)
			if id == "" || ids[id] {
				t.Errorf("%s %s: operationId %q is missing or used twice", method, path, id)
			}
			ids[id] = true
			if op["summary"] == nil {
				t.Errorf("%s %s has no summary", method, path)
			}
			answers, _ := op["responses"].(map[string]any)
			if len(answers) == 0 {
				t.Errorf("%s %s has no responses", method, path)
			}
			for code, a := range answers {
				if d, _ := a.(map[string]any)["description"].(string); d == "" {
					t.Errorf("%s %s: response %s has no description", method, path, code)
				}
			}
			declared := map[string]bool{}
			for _, p := range list(op["parameters"]) {
				m := p.(map[string]any)
				if m["schema"] == nil {
					t.Errorf("%s %s: parameter %v has no schema", method, path, m["name"])
				}
				if m["in"] == "path" {
					declared["{"+m["name"].(string)+"}"] = m["required"] == true
				}
			}
			for _, part := range strings.Split(path, "/") {
				if strings.HasPrefix(part, "{") && !declared[part] {
					t.Errorf("%s %s: %s is not declared as a required parameter", method, path, part)
				}
			}
			if private := strings.HasPrefix(path, "/api/"); private && len(list(op["security"])) == 0 {
				t.Errorf("%s %s does not ask for the token", method, path)
			}
		}
	}
	slices.Sort(got)
	want := []string{
		"DELETE /api/v1/policies/previews/{id}", "DELETE /api/v1/segments/{name}", "DELETE /api/v1/write-keys/{id}",
		"GET /api/v1/accounts", "GET /api/v1/accounts/{id}", "GET /api/v1/accounts/{id}/members", "GET /api/v1/accounts/{id}/timeline", "GET /api/v1/backup",
		"GET /api/v1/customers", "GET /api/v1/customers/{id}", "GET /api/v1/customers/{id}/identity",
		"GET /api/v1/customers/{id}/loyalty", "GET /api/v1/customers/{id}/loyalty/ledger", "GET /api/v1/customers/{id}/satisfaction", "GET /api/v1/customers/{id}/timeline",
		"GET /api/v1/destinations", "GET /api/v1/destinations/{name}",
		"GET /api/v1/event-names", "GET /api/v1/feedback", "GET /api/v1/feedback/topics", "GET /api/v1/identity/conflicts",
		"GET /api/v1/loyalty/programmes",
		"GET /api/v1/policies", "GET /api/v1/policies/current", "GET /api/v1/policies/previews", "GET /api/v1/policies/previews/{id}",
		"GET /api/v1/policies/schema", "GET /api/v1/policies/{version}",
		"GET /api/v1/rejects", "GET /api/v1/satisfaction",
		"GET /api/v1/segments", "GET /api/v1/segments/{name}", "GET /api/v1/segments/{name}/members", "GET /api/v1/segments/{name}/members.csv", "GET /api/v1/segments/{name}/sizes",
		"GET /api/v1/stages", "GET /api/v1/tail", "GET /api/v1/write-keys",
		"GET /healthz", "GET /readyz",
		"POST /api/v1/customers/{id}/loyalty/adjust", "POST /api/v1/customers/{id}/loyalty/cancel", "POST /api/v1/customers/{id}/loyalty/enroll",
		"POST /api/v1/customers/{id}/loyalty/quote", "POST /api/v1/customers/{id}/loyalty/redeem", "POST /api/v1/customers/{id}/loyalty/transfer",
		"POST /api/v1/destinations/{name}/disable", "POST /api/v1/destinations/{name}/enable", "POST /api/v1/destinations/{name}/rotate",
		"POST /api/v1/feedback/{event}/assign", "POST /api/v1/feedback/{event}/close", "POST /api/v1/feedback/{event}/sort",
		"POST /api/v1/identity/merge", "POST /api/v1/identity/split", "POST /api/v1/loyalty/opening-balances",
		"POST /api/v1/policies", "POST /api/v1/policies/diff", "POST /api/v1/policies/previews", "POST /api/v1/policies/rollback", "POST /api/v1/policies/validate",
		"POST /api/v1/rebuild", "POST /api/v1/rejects/replay", "POST /api/v1/segments/validate", "POST /api/v1/verify", "POST /api/v1/write-keys",
		"PUT /api/v1/destinations/{name}", "PUT /api/v1/segments/{name}",
	}
	if !slices.Equal(got, want) {
		t.Errorf("operations:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func list(v any) []any {
	l, _ := v.([]any)
	return l
}

// resolve follows every $ref below v.
func resolve(t *testing.T, doc map[string]any, v any) {
	t.Helper()
	switch v := v.(type) {
	case []any:
		for _, x := range v {
			resolve(t, doc, x)
		}
	case map[string]any:
		for k, x := range v {
			ref, isText := x.(string)
			if k != "$ref" || !isText {
				resolve(t, doc, x)
				continue
			}
			at, rest := any(doc), strings.TrimPrefix(ref, "#/")
			for _, part := range strings.Split(rest, "/") {
				m, _ := at.(map[string]any)
				at = m[part]
			}
			if at == nil {
				t.Errorf("%s leads nowhere", ref)
			}
		}
	}
}

// TestEveryReadWaits holds docs/api.md to its word: every read of what the log holds
// takes after, and waits.
func TestEveryReadWaits(t *testing.T) {
	s, a := start(t, &fake{held: 5})
	immediate := []string{"/api/v1/backup", "/api/v1/policies/previews", "/api/v1/policies/previews/{id}", "/api/v1/policies/schema", "/api/v1/tail"}
	for path, item := range a.OpenAPI().Paths {
		if item.Get == nil || !strings.HasPrefix(path, "/api/") || slices.Contains(immediate, path) {
			continue
		}
		if !slices.ContainsFunc(item.Get.Parameters, func(p *huma.Param) bool { return p.Name == "after" && p.In == "query" }) {
			t.Errorf("GET %s takes no after", path)
			continue
		}
		at := strings.NewReplacer("/accounts/{id}", "/accounts/account:acme", "{id}", "user:42", "{version}", "1").Replace(path)
		if code, _, body := ask(t, s, "GET", at+"?after=6", ""); code != 503 || !strings.Contains(body, "position") {
			t.Errorf("GET %s: %d %s", at, code, body)
		}
		if code, _, body := ask(t, s, "GET", at+"?after=5", ""); code != 200 && code != 404 { // the fake knows not everybody everywhere
			t.Errorf("GET %s: %d %s", at, code, body)
		}
	}
}

func TestDocsPageLoadsNothing(t *testing.T) {
	s, _ := start(t, &fake{})
	_, h, body := ask(t, s, "GET", "/docs", "")
	if !strings.Contains(body, "/api/v1/customers/{id}") {
		t.Error("the page does not list the operations")
	}
	for _, bad := range []string{"http://", "https://", "<script", "<img", "<link"} {
		if strings.Contains(body, bad) {
			t.Errorf("the page has %q", bad)
		}
	}
	if h.Get("Content-Security-Policy") == "" {
		t.Error("no content security policy")
	}
}
