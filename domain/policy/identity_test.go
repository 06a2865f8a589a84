package policy_test

import (
	"encoding/json"
	"errors"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"sojourn/domain"
	"sojourn/domain/policy"
)

func TestDefaultIdentity(t *testing.T) {
	for name, c := range map[string]*policy.Compiled{
		"the default":           policy.Default().Compile(),
		"the default, expanded": policy.Default().Expanded().Compile(),
	} {
		r := c.Identity()
		for rank, kind := range []domain.SubjectKind{domain.User, domain.Anon, domain.Email} {
			if got, ok := r.Rank(kind); !ok || got != rank {
				t.Errorf("%s: %s has rank %d, %v", name, kind, got, ok)
			}
		}
		for _, kind := range []domain.SubjectKind{domain.Phone, domain.Device, "ios.idfa"} {
			if got, ok := r.Rank(kind); ok {
				t.Errorf("%s: %s has rank %d", name, kind, got)
			}
		}
		for kind, want := range map[domain.SubjectKind]int{domain.User: 1, domain.Anon: 0, domain.Email: 5, domain.Phone: 5, domain.Device: 5, "ios.idfa": 5} {
			if got := r.Limit(kind); got != want {
				t.Errorf("%s: limit of %s is %d, want %d", name, kind, got, want)
			}
		}
		if r.AliasUsers() || r.Nobody("guest") || !r.Nobody(" NULL ") || c.Lifecycle().Accounts {
			t.Errorf("%s is not the default", name)
		}
	}
}

func TestIdentityOfADocument(t *testing.T) {
	p, err := policy.Decode([]byte(`{"lifecycle":{"accounts":true},"identity":{"join":["email","user","ga_client_id"],
		"limits":{"email":0,"user":2,"ios.idfa":1},"alias_users":true,"nobody":[" Guest@Shop ","ÄÖ","00-x","+49 30 123456","001 (202) 555-0100"," ADA@Example.com"]}}`))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Validate(); err != nil {
		t.Fatal(err)
	}
	encoded, err := p.MarshalCanonical()
	if err != nil {
		t.Fatal(err)
	}
	read, err := policy.Decode(encoded)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []*policy.Compiled{p.Compile(), read.Compile()} {
		r := c.Identity()
		for kind, want := range map[domain.SubjectKind]int{domain.Email: 0, domain.User: 1, "ga_client_id": 2, domain.Anon: -1} {
			if got, ok := r.Rank(kind); ok != (want >= 0) || ok && got != want {
				t.Errorf("%s has rank %d, %v", kind, got, ok)
			}
		}
		for kind, want := range map[domain.SubjectKind]int{domain.Email: 0, domain.User: 2, "ios.idfa": 1, domain.Anon: 0, domain.Phone: 5} {
			if got := r.Limit(kind); got != want {
				t.Errorf("limit of %s is %d, want %d", kind, got, want)
			}
		}
		for value, want := range map[string]bool{
			"guest@shop": true, "GUEST@shop\n": true, " Guest@Shop ": true, "äö": true, "Äö": true, "00-X": true,
			"guest@shops": false, "guest": false, "42": false,
			"null": true, "-1": true, "": true, "0-0": true,
			"+49 30 123456": true, "+4930123456": true, "+4930123457": false, "4930123456": false,
			"+12025550100": true, "0012025550100": false, "12025550100": false,
			"ada@example.com": true,
		} {
			if got := r.Nobody(value); got != want {
				t.Errorf("%q names nobody: %v", value, got)
			}
		}
		if !r.AliasUsers() || !c.Lifecycle().Accounts {
			t.Error("what the document turned on is off")
		}
		long := strings.Repeat("X", 100)
		if n := testing.AllocsPerRun(100, func() { r.Nobody("Guest@Shop"); r.Nobody(long); r.Limit(domain.User) }); n != 0 {
			t.Errorf("%v allocations", n)
		}
	}
	if n := strings.Count(string(encoded), `"identity":{"join":["email","user","ga_client_id"],"limits":{"anon":0,"email":0,"ios.idfa":1,"user":2},"alias_users":true,"nobody":[" Guest@Shop ","ÄÖ","00-x","+49 30 123456","001 (202) 555-0100"," ADA@Example.com"]}`); n != 1 {
		t.Errorf("canonical form: %s", encoded)
	}
}

// TestLimitsThatAreNotNamed takes the limits away as decoders do that put a map of
// their own in place of the default's.
func TestLimitsThatAreNotNamed(t *testing.T) {
	for _, limits := range []map[string]int{nil, {}, {"user": 1}, {"anon": 0}} {
		p := policy.Default()
		p.Identity.Limits, p.Identity.Nobody = limits, nil
		if r := p.Compile().Identity(); r.Limit(domain.User) != 1 || r.Limit(domain.Anon) != 0 || r.Limit(domain.Email) != 5 {
			t.Errorf("limits of %v: user %d, anon %d", limits, r.Limit(domain.User), r.Limit(domain.Anon))
		}
		got, err := p.MarshalCanonical()
		want, _ := policy.Default().MarshalCanonical()
		if err != nil || string(got) != string(want) {
			t.Errorf("limits of %v: canonical form %s, %v", limits, got, err)
		}
	}
}

func TestPoliciesShareNoLimits(t *testing.T) {
	p := policy.Default()
	e, c := p.Expanded(), p.Compile()
	p.Identity.Limits["user"], p.Identity.Limits["email"] = 7, 8
	p.Identity.Join[0] = "phone"
	if d := policy.Default(); d.Identity.Limits["user"] != 1 || len(d.Identity.Limits) != 2 || d.Identity.Join[0] != "user" {
		t.Errorf("the next default is %+v", d.Identity)
	}
	if e.Identity.Limits["user"] != 1 || c.Identity().Limit(domain.User) != 1 || c.Policy().Identity.Limits["email"] != 0 {
		t.Errorf("what was made of it is %+v", e.Identity)
	}
	if _, err := policy.Decode([]byte(`{"identity":{"limits":{"user":9}}}`)); err != nil || policy.Default().Identity.Limits["user"] != 1 {
		t.Errorf("a document changes the default: %v", err)
	}
}

// TestAPolicyOfAnOlderRelease reads a canonical form without the section.
func TestAPolicyOfAnOlderRelease(t *testing.T) {
	encoded, err := policy.Default().MarshalCanonical()
	if err != nil {
		t.Fatal(err)
	}
	var doc map[string]json.RawMessage
	if err := json.Unmarshal(encoded, &doc); err != nil {
		t.Fatal(err)
	}
	delete(doc, "identity")
	doc["lifecycle"] = json.RawMessage(strings.Replace(string(doc["lifecycle"]), `,"accounts":false`, "", 1))
	if strings.Contains(string(doc["lifecycle"]), "accounts") {
		t.Fatal("the older form has accounts")
	}
	old, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	p, err := policy.Decode(old)
	if err != nil {
		t.Fatal(err)
	}
	if want := policy.Default(); !reflect.DeepEqual(p.Identity, want.Identity) || p.Lifecycle != want.Lifecycle {
		t.Errorf("%+v %+v", p.Identity, p.Lifecycle)
	}
}

func TestIdentityMistakes(t *testing.T) {
	p := policy.Default()
	p.Identity = policy.Identities{
		Join:   []string{"user", "E-Mail", "Anon", "user", "ios.idfa"},
		Limits: map[string]int{"user": -1, "no kind": 1, "Email": 2, "anon": 0},
		Nobody: []string{"guest", " ", ""},
	}
	var problems policy.Problems
	if err := p.Validate(); !errors.As(err, &problems) {
		t.Fatal(err)
	}
	want := map[string]string{
		"identity.join[1]":        "no kind of subject: use user, anon",
		"identity.join[2]":        "write it in lower case, anon",
		"identity.join[3]":        "is listed already",
		"identity.limits.Email":   "write it in lower case, email",
		"identity.limits.no kind": "no kind of subject",
		"identity.limits.user":    "-1 is below zero",
		"identity.nobody[1]":      "is empty",
		"identity.nobody[2]":      "is empty",
	}
	var paths []string
	for _, p := range problems {
		path := p.PathString()
		paths = append(paths, path)
		if part, ok := want[path]; !ok || !strings.Contains(p.Message, part) {
			t.Errorf("%s: %s", path, p.Message)
		}
	}
	if !slices.Equal(paths, slices.Sorted(maps.Keys(want))) {
		t.Errorf("problems at %q", paths)
	}
	_, err := policy.Decode([]byte(`{"identity":{"limit":{}}}`))
	if err == nil || !strings.Contains(err.Error(), `did you mean limits?`) {
		t.Error(err)
	}
}
