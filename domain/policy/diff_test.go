package policy_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"sojourn/domain/policy"
)

func TestDiff(t *testing.T) {
	from := policy.Default()
	from.Events = []policy.Mapping{{Name: "Invoice Paid", Meaning: policy.Purchase, Source: "erp"}, {Type: "page", Meaning: policy.Lead}}
	from.Channels = []policy.ChannelRule{{Source: "till", Channel: policy.Store}, {Library: "x", Channel: policy.Web}}
	to := from
	to.Currency = "EUR"
	to.Lifecycle.AtRiskDays = 30
	to.Identity.Join = []string{"user", "email"}
	to.Identity.Limits = map[string]int{"email": 3}
	to.Events = []policy.Mapping{
		{Names: []string{"Invoice Paid", "Paid"}, Meaning: policy.Refund, Channel: policy.Server, Source: "erp"}, {Name: "NPS", Meaning: policy.Lead},
	}
	to.Channels = []policy.ChannelRule{{Source: "shop", Channel: policy.Web}, {Source: "till", Channel: policy.Store}}
	want := `currency: "USD" -> "EUR"
lifecycle.at_risk_days: 60 -> 30
identity.join: ["user","anon","email"] -> ["user","email"]
identity.limits.email:  -> 3
loyalty.programmes[default].currency: "USD" -> "EUR"
events[track "Invoice Paid" from erp]: purchase -> refund by server
events[page]: lead -> 
events[track "Paid" from erp]:  -> refund by server
events[track "NPS"]: feedback by survey -> lead
channels{source:shop,channel:web}:  -> {"source":"shop","channel":"web"}
channels{library:x,channel:web}: {"library":"x","channel":"web"} -> 
`
	for range 5 {
		changes, err := policy.Diff(from, to)
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		for _, c := range changes {
			fmt.Fprintf(&b, "%s: %s -> %s\n", c.Key, c.From, c.To)
		}
		if b.String() != want {
			t.Fatalf("got\n%s\nwant\n%s", b.String(), want)
		}
	}
	if same, err := policy.Diff(from, from.Expanded()); err != nil || len(same) != 0 {
		t.Errorf("%+v, %v", same, err)
	}
	// The order of channel rules decides.
	turned := from
	turned.Channels = []policy.ChannelRule{from.Channels[1], from.Channels[0]}
	if changes, err := policy.Diff(from, turned); err != nil || len(changes) != 1 || changes[0].Key != "channels" {
		t.Errorf("%+v, %v", changes, err)
	}
}

// The schema knows exactly the keys that a policy has, and what it says of a key is
// about one that is there.
func TestSchema(t *testing.T) {
	b, err := policy.Schema()
	if err != nil {
		t.Fatal(err)
	}
	var s map[string]any
	if err := json.Unmarshal(b, &s); err != nil {
		t.Fatal(err)
	}
	described := 0
	var walk func(s map[string]any, path ...string)
	walk = func(s map[string]any, path ...string) {
		if s["description"] != nil {
			described++
		}
		if items, ok := s["items"].(map[string]any); ok {
			walk(items, append(path, "0")...)
		}
		if any, ok := s["additionalProperties"].(map[string]any); ok {
			walk(any, append(path, "x")...)
		}
		properties, _ := s["properties"].(map[string]any)
		keys := policy.Keys(path...)
		if len(keys) != len(properties) {
			t.Errorf("%v: the schema has %d keys, the policy %v", path, len(properties), keys)
		}
		for _, key := range keys {
			child, ok := properties[key].(map[string]any)
			if !ok {
				t.Errorf("%v: no key %s", path, key)
				continue
			}
			walk(child, append(path, key)...)
		}
	}
	walk(s)
	if described != 144 {
		t.Errorf("%d keys are described", described)
	}
	at := func(keys ...string) any {
		v := any(s)
		for _, k := range keys {
			v = v.(map[string]any)[k]
		}
		return v
	}
	if d := at("properties", "lifecycle", "properties", "churned_days", "default"); d != 120.0 {
		t.Errorf("default of churned_days: %v", d)
	}
	if e := at("properties", "events", "items", "properties", "channel", "enum").([]any); len(e) != len(policy.Channels) {
		t.Errorf("channels: %v", e)
	}
	if r := at("properties", "events", "items", "required"); !reflect.DeepEqual(r, []any{"meaning"}) {
		t.Errorf("required: %v", r)
	}
}

// Every key of the sections about points and satisfaction is described, and every
// description is of a key.
func TestSchemaDescribesPointsAndSatisfaction(t *testing.T) {
	type schema struct {
		Description string
		Enum        []string
		Properties  map[string]*schema
		Items       *schema
	}
	b, err := policy.Schema()
	if err != nil {
		t.Fatal(err)
	}
	var root schema
	if err := json.Unmarshal(b, &root); err != nil {
		t.Fatal(err)
	}
	keys := 0
	var walk func(path string, s *schema)
	walk = func(path string, s *schema) {
		for key, p := range s.Properties {
			keys++
			switch path + "." + key {
			case "satisfaction.weights." + key, "satisfaction.status." + key: // each is what its name says
			default:
				if p.Description == "" && (p.Items == nil || len(p.Items.Enum) == 0) {
					t.Errorf("%s.%s is not described", path, key)
				}
			}
			walk(path+"."+key, p)
		}
		if s.Items != nil {
			walk(path+"[]", s.Items)
		}
	}
	walk("loyalty", root.Properties["loyalty"])
	walk("satisfaction", root.Properties["satisfaction"])
	if keys < 60 {
		t.Errorf("%d keys", keys)
	}
	if by := root.Properties["loyalty"].Properties["programmes"].Items.Properties["tiers"].Properties["by"]; !slices.Equal(by.Enum, []string{"points", "spend"}) {
		t.Errorf("by is %+v", by)
	}
}
