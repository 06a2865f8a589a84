package policy

import (
	"encoding"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"strings"
)

// hint is what an editor is told of a key beside its type.
type hint struct {
	doc      string
	enum     []string
	min, max int // of a number, where max is not 0
	required bool
}

// hints are by path; [] stands for any entry of a list and * for any key. A key
// without one is described by its type alone.
func hints() map[string]hint {
	meanings, kinds := words(Meanings), kindNames()
	all := map[string]hint{
		"currency":                  {doc: "The currency of a purchase that names none; ISO 4217."},
		"lifecycle":                 {doc: "When a customer is in which stage. A day is 24 hours."},
		"lifecycle.at_risk_days":    {doc: "Days without a purchase until a customer is at risk.", min: 1, max: maxDays},
		"lifecycle.churned_days":    {doc: "Days without a purchase until a customer has churned; more than at_risk_days.", min: 1, max: maxDays},
		"lifecycle.lost_days":       {doc: "Days without a purchase until a customer is lost; more than churned_days.", min: 1, max: maxDays},
		"lifecycle.won_back_days":   {doc: "A purchase more than so many days after the one before wins back.", min: 1, max: maxDays},
		"lifecycle.loyal_purchases": {doc: "So many purchases within loyal_days make loyal.", min: 2, max: maxLoyalPurchases},
		"lifecycle.loyal_days":      {doc: "The days within which loyal_purchases make loyal.", min: 1, max: maxDays},
		"lifecycle.accounts":        {doc: "Whether accounts have a stage of their own, from their members' touchpoints."},
		"identity":                  {doc: "Which subjects are one customer."},
		"identity.join":             {doc: "The kinds of subject that join customers by themselves, the first first: user, anon, email, phone, device, or the type of an external id. Joins of other kinds are kept and not tried."},
		"identity.limits":           {doc: "How many subjects of a kind one customer may have; 0 is any number, a kind that is not named has 5, user 1, anon any number."},
		"identity.limits.*":         {max: 1<<31 - 1},
		"identity.alias_users":      {doc: "Whether an alias may join two users."},
		"identity.nobody":           {doc: "Values that are no identity, such as a till's guest account; for every kind, in any case."},
		"standard":                  {doc: "Whether the names of Segment's specs are known, behind your own."},
		"events":                    {doc: "What names mean. A mapping with a source goes before one without, one with the name before one without; yours go before the standard ones."},
		"events[].name":             {doc: "The name it fits."},
		"events[].names":            {doc: "The names it fits; without any, all messages of the type and source."},
		"events[].type":             {doc: "The type of message; track where it is not given.", enum: kinds},
		"events[].source":           {doc: "Only messages of this source."},
		"events[].meaning":          {doc: "What it means.", enum: meanings, required: true},
		"events[].channel":          {doc: "The channel; without it the channel rules decide.", enum: Channels},
		"channels":                  {doc: "The channel of a message whose mapping names none: the first rule that fits all that it names."},
		"channels[].type":           {doc: "The type of message.", enum: kinds},
		"channels[].source":         {doc: "The source of the message."},
		"channels[].library":        {doc: "The beginning of context.library.name."},
		"channels[].channel":        {doc: "The channel it gives.", enum: Channels, required: true},
	}
	maps.Copy(all, loyaltyHints())
	maps.Copy(all, satisfactionHints())
	maps.Copy(all, mappingHints())
	return all
}

// Schema is the JSON Schema (2020-12) of a policy file, for editors. What it lets
// through may still be refused: Validate looks at more.
func Schema() ([]byte, error) {
	s := schemaOf(reflect.TypeFor[Policy](), "", hints(), defaults())
	s["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	s["title"] = "Sojourn policy"
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode the schema of a policy: %w", err)
	}
	return append(b, '\n'), nil
}

// defaults are the values of the default policy by path.
func defaults() map[string]any {
	all := map[string]any{}
	var walk func(path string, v any)
	walk = func(path string, v any) {
		if object, ok := v.(map[string]any); ok {
			for key, x := range object {
				walk(join(path, key), x)
			}
			return
		}
		all[path] = v
	}
	b, err := json.Marshal(Default())
	var v any
	if err == nil && json.Unmarshal(b, &v) == nil {
		walk("", v)
	}
	return all
}

func join(path, key string) string { return strings.TrimPrefix(path+"."+key, ".") }

func schemaOf(t reflect.Type, path string, hints map[string]hint, defaults map[string]any) map[string]any {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	s := map[string]any{}
	h := hints[path]
	if h.doc != "" {
		s["description"] = h.doc
	}
	if d, ok := defaults[path]; ok && d != nil {
		s["default"] = d
	}
	if h.enum != nil {
		s["enum"] = h.enum
	}
	if p := reflect.PointerTo(t); p.Implements(reflect.TypeFor[json.Marshaler]()) || p.Implements(reflect.TypeFor[encoding.TextMarshaler]()) {
		return s // written in a way of its own
	}
	switch t.Kind() {
	case reflect.Bool:
		s["type"] = "boolean"
	case reflect.String:
		s["type"] = "string"
	case reflect.Int, reflect.Int32, reflect.Int64, reflect.Uint, reflect.Uint32, reflect.Uint64:
		s["type"] = "integer"
		if h.max != 0 {
			s["minimum"], s["maximum"] = h.min, h.max
		}
	case reflect.Float64:
		s["type"] = "number"
	case reflect.Slice, reflect.Array:
		s["type"], s["items"] = "array", schemaOf(t.Elem(), path+"[]", hints, defaults)
	case reflect.Map:
		s["type"], s["additionalProperties"] = "object", schemaOf(t.Elem(), path+".*", hints, defaults)
	case reflect.Struct:
		properties, required := map[string]any{}, []string{}
		for i := range t.NumField() {
			key := jsonKey(t.Field(i))
			if key == "" || key == "-" {
				continue
			}
			at := join(path, key)
			properties[key] = schemaOf(t.Field(i).Type, at, hints, defaults)
			if hints[at].required {
				required = append(required, key)
			}
		}
		s["type"], s["properties"], s["additionalProperties"] = "object", properties, false
		if len(required) > 0 {
			s["required"] = required
		}
	}
	return s
}
