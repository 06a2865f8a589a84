package trigger

import (
	"encoding/json"
	"reflect"
	"strings"
)

// docs say what an editor shows beside a key, by path.
var docs = map[string]string{
	"id":                           "Its name in facts and addresses; it never changes.",
	"name":                         "What people call it.",
	"on":                           "What starts it: exactly one of " + onKinds + ".",
	"on.transition":                "A change of stage; without from or to from or to any.",
	"on.tier":                      "A change of tier.",
	"on.satisfaction":              "A change of how satisfied the customer is.",
	"on.touchpoint":                "A touchpoint of a name or a meaning.",
	"on.segment":                   "Entering or leaving a segment.",
	"on.absence":                   "That a touchpoint has not come for a time.",
	"on.absence.for":               "Such as 30d.",
	"on.absence.since":             "What the time counts from: last (default) or first, of that touchpoint, or first_seen.",
	"on.schedule":                  "Every customer who is in a segment, at times by the clock.",
	"on.schedule.cron":             "Minute, hour, day of the month, month, day of the week, such as 0 9 * * mon; or @daily and the like.",
	"on.schedule.time_zone":        "That of the times; UTC where it is not given.",
	"on.points_expiring":           "Every customer who has points that expire soon, at a time of each day.",
	"on.points_expiring.within":    "How soon, such as 14d.",
	"on.points_expiring.at_least":  "The least number of points; 1 where it is not given.",
	"on.points_expiring.at":        "The time of the day; 09:00 where it is not given.",
	"on.points_expiring.time_zone": "That of the time and the day; UTC where it is not given.",
	"where":                        "A condition in CEL over the customer as of that moment, and the event.",
	"limits":                       "When nothing is sent, or later. The first that says no is the recorded reason.",
	"limits.freshness":             "How old a change may be when it is first offered; 24h where it is not given.",
	"limits.consent":               "Where the customer says yes; unknown means no.",
	"limits.consent.trait":         "A trait that must be true.",
	"limits.consent.category":      "A category of context.consent.categoryPreferences that must be true.",
	"limits.holdout":               "The share of customers, from 0 to 1, who get nothing.",
	"limits.once":                  "At most one send to a customer, ever.",
	"limits.at_most":               "At most so many sends to a customer within a period.",
	"limits.cool_down":             "No send to a customer within this time of another.",
	"limits.send_window":           "Sends wait for these hours, in the customer's zone.",
	"limits.send_window.days":      "mon to sun; every day where none is named.",
	"limits.quiet_hours":           "Sends wait for the end of these hours, in the customer's zone.",
	"limits.time_zone":             "The zone of customers who have none; UTC where it is not given.",
	"limits.cap":                   "At most so many sends to all customers together within a period.",
	"while_there":                  "Send only while the customer still stands where the change led to.",
	"do":                           "What it does: exactly one of webhook, email, kafka, touchpoint or points.",
	"do.webhook.body":              "A template; everything as JSON where it is not given.",
	"do.touchpoint.properties":     "A template of a JSON object.",
	"do.email.to":                  "A template; the trait email where it is not given.",
	"do.points.programme":          "The first where none is named.",
}

// Schema is the JSON Schema (2020-12) of a trigger file, for editors. What it lets
// through may still be refused: Compile looks at more.
func Schema() ([]byte, error) {
	s := schemaOf(reflect.TypeFor[Document](), "")
	s["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	s["title"] = "Sojourn trigger"
	s["required"] = []string{"id", "on", "do"}
	properties := s["properties"].(map[string]any)
	for _, key := range []string{"on", "do"} {
		one := properties[key].(map[string]any)
		one["minProperties"], one["maxProperties"] = 1, 1
	}
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return nil, err
	}
	return append(b, '\n'), nil
}

func schemaOf(t reflect.Type, path string) map[string]any {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	s := map[string]any{}
	if doc := docs[path]; doc != "" {
		s["description"] = doc
	}
	switch t.Kind() {
	case reflect.Bool:
		s["type"] = "boolean"
	case reflect.String:
		s["type"] = "string"
	case reflect.Float64:
		s["type"] = "number"
	case reflect.Int, reflect.Int64:
		s["type"] = "integer"
	case reflect.Slice:
		s["type"], s["items"] = "array", schemaOf(t.Elem(), path+"[]")
	case reflect.Map:
		s["type"], s["additionalProperties"] = "object", schemaOf(t.Elem(), path+".*")
	case reflect.Struct:
		properties := map[string]any{}
		for i := range t.NumField() {
			f := t.Field(i)
			key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			properties[key] = schemaOf(f.Type, strings.TrimPrefix(path+"."+key, "."))
		}
		s["type"], s["properties"], s["additionalProperties"] = "object", properties, false
	}
	return s
}
