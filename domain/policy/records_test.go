package policy_test

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"sojourn/domain"
	"sojourn/domain/policy"
)

// orders is a mapping with everything in it.
func orders() policy.RecordMapping {
	return policy.RecordMapping{
		Type: "track", User: "customer.id", Anonymous: "$header.visitor", Previous: "$key.old",
		Time: policy.RecordTime{Field: "paid", Format: "02.01.2006 15:04"}, Event: policy.RecordField{Field: "$attribute.type"},
		Identity:   []string{"$key", "$topic"},
		Properties: map[string]policy.RecordField{"total": {Field: "sum", Kind: "number"}, "shop": {Value: uint64(math.MaxUint64)}, "none": {Value: map[string]any{}}},
		Traits:     map[string]policy.RecordField{"plan": {Value: false}},
		Context:    map[string]policy.RecordField{"at": {Field: "$timestamp", Kind: "string"}},
	}
}

func with(m policy.RecordMapping) policy.Policy {
	p := policy.Default()
	p.Mappings = map[string]policy.RecordMapping{"erp": m}
	return p
}

// Given a mapping that is right, when one thing in it is changed, then that is what
// Validate finds, where it stands.
func TestMistakesOfMappings(t *testing.T) {
	if err := with(orders()).Validate(); err != nil {
		t.Fatal(err)
	}
	if err := with(policy.RecordMapping{}).Validate(); err != nil { // a CloudEvent needs none of it
		t.Error(err)
	}
	for want, change := range map[string]func(*policy.RecordMapping){
		`mappings.erp.type: "buy" is no type of message: use track, identify`: func(m *policy.RecordMapping) { m.Type = "buy" },
		`mappings.erp.user: "$hdr.x" is none of $key, $header.NAME`:           func(m *policy.RecordMapping) { m.User = "$hdr.x" },
		`mappings.erp.anonymous: "$header" is none of`:                        func(m *policy.RecordMapping) { m.Anonymous = "$header" },
		`mappings.erp.previous: "$timestamp.x" is none of`:                    func(m *policy.RecordMapping) { m.Previous = "$timestamp.x" },
		`mappings.erp.time.field: "$" is none of`:                             func(m *policy.RecordMapping) { m.Time.Field = "$" },
		`mappings.erp.time.format: "whenever" is not rfc3339, unix`:           func(m *policy.RecordMapping) { m.Time.Format = "whenever" },
		`mappings.erp.event.field: "$attribute." is none of`:                  func(m *policy.RecordMapping) { m.Event.Field = "$attribute." },
		`mappings.erp.event.value: the name must be text`:                     func(m *policy.RecordMapping) { m.Event.Value = 3 },
		`mappings.erp.event: write field: or value:`:                          func(m *policy.RecordMapping) { m.Event.Value = "Order Completed" },
		`mappings.erp.identity[1]: an empty path`:                             func(m *policy.RecordMapping) { m.Identity[1] = "" },
		`mappings.erp.identity[0]: "$kee" is none of`:                         func(m *policy.RecordMapping) { m.Identity[0] = "$kee" },
		`mappings.erp.properties.total: write field: or value:`:               func(m *policy.RecordMapping) { m.Properties["total"] = policy.RecordField{} },
		`mappings.erp.properties.shop: write field: or value:`:                func(m *policy.RecordMapping) { m.Properties["shop"] = policy.RecordField{Field: "a", Value: 1} },
		`mappings.erp.properties.shop.value: has no place in JSON`:            func(m *policy.RecordMapping) { m.Properties["shop"] = policy.RecordField{Value: math.NaN()} },
		`mappings.erp.properties.total.field: "$x" is none of`:                func(m *policy.RecordMapping) { m.Properties["total"] = policy.RecordField{Field: "$x"} },
		`mappings.erp.traits.plan.kind: "float" is not string or number`:      func(m *policy.RecordMapping) { m.Traits["plan"] = policy.RecordField{Field: "p", Kind: "float"} },
		`mappings.erp.context.at: write field: or value:`:                     func(m *policy.RecordMapping) { m.Context["at"] = policy.RecordField{Kind: "number"} },
	} {
		m := orders()
		change(&m)
		err := with(m).Validate()
		var problems policy.Problems
		if !errors.As(err, &problems) || len(problems) != 1 || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	for _, name := range []string{"", "ERP", "1st", "shop.orders", strings.Repeat("a", 41)} {
		p := policy.Default()
		p.Mappings = map[string]policy.RecordMapping{name: orders()}
		if err := p.Validate(); err == nil || !strings.Contains(err.Error(), "is no name of a mapping") || policy.ValidMappingName(name) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// Given a mapping that is right for CloudEvents, when records of any JSON are to be
// read by it, then what only CloudEvents bring is missing.
func TestMappingsForJSON(t *testing.T) {
	paths := func(ps policy.Problems) string {
		var all []string
		for _, p := range ps {
			all = append(all, p.PathString())
		}
		return strings.Join(all, " ")
	}
	for want, m := range map[string]policy.RecordMapping{
		"":                            {Type: "page", Anonymous: "a"},
		"user event":                  {},
		"user":                        {Type: "identify", Previous: "p"},
		"event":                       {User: "u"},
		"event.field":                 orders(),
		"identity[0]":                 {Type: "page", User: "u", Identity: []string{"$attribute.id"}},
		"user traits.by.field":        {Type: "identify", Traits: map[string]policy.RecordField{"by": {Field: "$attribute.source"}}},
		"user event context.by.field": {Context: map[string]policy.RecordField{"by": {Field: "$attribute.source"}}},
	} {
		if ps := m.Problems(); len(ps) > 0 {
			t.Errorf("%+v: %v", m, ps)
		}
		if got := paths(m.JSONProblems()); got != want {
			t.Errorf("%+v: %q, want %q", m, got, want)
		}
	}
}

func TestRecordPaths(t *testing.T) {
	for s, want := range map[string]policy.RecordPath{
		"":                   {},
		"a.b.0":              {Set: true, Rest: "a.b.0"},
		"$key":               {Set: true, Root: policy.InKey},
		"$key.a.b":           {Set: true, Root: policy.InKey, Rest: "a.b"},
		"$header.a.b":        {Set: true, Root: policy.InHeader, Rest: "a.b"},
		"$attribute.subject": {Set: true, Root: policy.InAttribute, Rest: "subject"},
		"$timestamp":         {Set: true, Root: policy.TheTimestamp},
		"$topic":             {Set: true, Root: policy.TheTopic},
	} {
		if got, err := policy.ParseRecordPath(s); err != nil || got != want {
			t.Errorf("%q: %+v, %v", s, got, err)
		}
	}
}

// Given a policy with mappings, when it is kept and read back, then it is the same,
// to the last digit; without any, what is kept is what it was before there were any.
func TestMappingsAreKept(t *testing.T) {
	a, err := with(orders()).MarshalCanonical()
	if err != nil {
		t.Fatal(err)
	}
	p, err := policy.Decode(a)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Validate(); err != nil {
		t.Error(err)
	}
	b, err := p.MarshalCanonical()
	if err != nil || string(a) != string(b) {
		t.Errorf("%v\n%s\n%s", err, a, b)
	}
	if !strings.Contains(string(a), `"shop":{"value":18446744073709551615}`) {
		t.Errorf("%s", a)
	}
	m := p.Compile().Policy().Mappings["erp"]
	if m.Kind() != domain.Track || m.Identity[1] != "$topic" || m.Traits["plan"].Value != false {
		t.Errorf("%+v", m)
	}
	p.Mappings = map[string]policy.RecordMapping{}
	if b, err = p.MarshalCanonical(); err != nil || strings.Contains(string(b), "mappings") {
		t.Errorf("%v, %s", err, b)
	}
	// What is left out and what is said are the same.
	said, err := with(policy.RecordMapping{Type: "track", User: "u", Time: policy.RecordTime{Field: "t", Format: "rfc3339"}}).MarshalCanonical()
	if err != nil {
		t.Fatal(err)
	}
	left, err := with(policy.RecordMapping{User: "u", Time: policy.RecordTime{Field: "t"}}).MarshalCanonical()
	if err != nil || string(said) != string(left) {
		t.Errorf("%v\n%s\n%s", err, said, left)
	}
}

func TestUnknownKeysOfMappings(t *testing.T) {
	_, err := policy.Decode([]byte(`{"mappings":{"erp":{"usr":"u","properties":{"a":{"feild":"x"},"b":{"value":{"any":{"thing":1}}}},"time":{"field":"t"}}}}`))
	var problems policy.Problems
	if !errors.As(err, &problems) || len(problems) != 2 {
		t.Fatal(err)
	}
	for _, want := range []string{
		`mappings.erp.properties.a.feild: "feild" is no key of a policy: did you mean field?`,
		`mappings.erp.usr: "usr" is no key of a policy: did you mean user?`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in\n%v", want, err)
		}
	}
}

func TestDiffOfMappings(t *testing.T) {
	from, to := with(orders()), with(orders())
	m := to.Mappings["erp"]
	m.User, m.Type, m.Identity = "$key", "", []string{"no"}
	m.Properties["total"] = policy.RecordField{Field: "sum"}
	delete(m.Properties, "none")
	m.Context["region"] = policy.RecordField{Value: "eu"}
	to.Mappings["erp"] = m
	to.Mappings["crm"] = policy.RecordMapping{Type: "identify", User: "id"}
	changes, err := policy.Diff(from, to)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range changes {
		got = append(got, fmt.Sprintf("%s: %s -> %s", c.Key, c.From, c.To))
	}
	want := []string{
		`mappings.crm.type:  -> "identify"`,
		`mappings.crm.user:  -> "id"`,
		`mappings.erp.user: "customer.id" -> "$key"`,
		`mappings.erp.identity: ["$key","$topic"] -> ["no"]`,
		`mappings.erp.properties.none.value: {} -> `,
		`mappings.erp.properties.total.kind: "number" -> `,
		`mappings.erp.context.region.value:  -> "eu"`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if changes, err = policy.Diff(from, with(orders())); err != nil || len(changes) != 0 {
		t.Errorf("%+v, %v", changes, err)
	}
}
