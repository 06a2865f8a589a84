package trigger_test

import (
	"encoding/json"
	"strings"
	"testing"

	"sojourn/automation/trigger"
	"sojourn/condition"
)

func TestCompileNamesEveryMistake(t *testing.T) {
	names := &trigger.Names{
		Env: condition.Env{
			Stages: []string{"lead", "loyal"}, Statuses: []string{"unhappy"}, Meanings: []string{"purchase"},
			Programmes: map[string][]string{"main": {"base", "gold"}}, Segments: []string{"vip"},
		},
		Destinations: []string{"crm"},
	}
	hook := `"do":{"webhook":{"destination":"crm"}}`
	on := `"on":{"transition":{"to":["loyal"]}}`
	for text, want := range map[string]string{
		`{"id":"Ä",` + on + `,` + hook + `}`:                                                                                                    `id: "Ä" is no id`,
		`{"id":"a",` + hook + `}`:                                                                                                               "on: say exactly one of",
		`{"id":"a","on":{"transition":{},"tier":{}},` + hook + `}`:                                                                              "on: say exactly one of",
		`{"id":"a","on":{"transition":{"to":["loyl"]}},` + hook + `}`:                                                                           `on.transition.to[0]: "loyl" is no stage; did you mean "loyal"?`,
		`{"id":"a","on":{"tier":{"programme":"main","to":["silver"]}},` + hook + `}`:                                                            `on.tier.to[0]: "silver" is no tier; known are base, gold`,
		`{"id":"a","on":{"touchpoint":{}},` + hook + `}`:                                                                                        "on.touchpoint: say either its name or its meaning",
		`{"id":"a","on":{"segment":{"entered":"vp"}},` + hook + `}`:                                                                             `on.segment.entered: "vp" is no segment`,
		`{"id":"a","on":{"absence":{"meaning":"buy","for":"30d"}},` + hook + `}`:                                                                `on.absence.meaning: "buy" is no meaning; known are purchase`,
		`{"id":"a","on":{"absence":{"meaning":"purchase","for":"soon"}},` + hook + `}`:                                                          `on.absence.for: "soon" is no time`,
		`{"id":"a","on":{"absence":{"meaning":"purchase","for":"1.5h"}},` + hook + `}`:                                                          `on.absence: `,
		`{"id":"a","on":{"absence":{"meaning":"purchase","for":"30d","since":"frst"}},` + hook + `}`:                                            `on.absence.since: "frst" is no point to count from; did you mean "first"?`,
		`{"id":"a","on":{"points_expiring":{"within":"7d"}},` + hook + `}`:                                                                      "on.points_expiring.programme: name the programme",
		`{"id":"a","on":{"points_expiring":{"programme":"man","within":"7d"}},` + hook + `}`:                                                    `on.points_expiring.programme: "man" is no programme; did you mean "main"?`,
		`{"id":"a","on":{"points_expiring":{"programme":"main","within":"soon"}},` + hook + `}`:                                                 `on.points_expiring.within: "soon" is no time`,
		`{"id":"a","on":{"points_expiring":{"programme":"main","within":"7d","at_least":-1}},` + hook + `}`:                                     `on.points_expiring.at_least: -1 is not`,
		`{"id":"a","on":{"points_expiring":{"programme":"main","within":"7d","at":"9"}},` + hook + `}`:                                          `on.points_expiring.at: "9" is no time of the day`,
		`{"id":"a","on":{"points_expiring":{"programme":"main","within":"7d","time_zone":"Mars"}},` + hook + `}`:                                `on.points_expiring.time_zone: "Mars" is no time zone`,
		`{"id":"a","on":{"schedule":{"cron":"daily","segment":"vip"}},` + hook + `}`:                                                            `on.schedule.cron: "daily" are no times such as`,
		`{"id":"a","on":{"schedule":{"cron":"0 0 30 2 *","segment":"vip"}},` + hook + `}`:                                                       `on.schedule.cron: "0 0 30 2 *" never comes`,
		`{"id":"a","on":{"schedule":{"cron":"@every 1h","segment":"vip"}},` + hook + `}`:                                                        `on.schedule.cron: say the times as`,
		`{"id":"a","on":{"schedule":{"cron":"@daily","segment":"vp","time_zone":"Mars"}},` + hook + `}`:                                         `on.schedule.time_zone: "Mars" is no time zone`,
		`{"id":"a","on":{"schedule":{"cron":"@daily"}},` + hook + `}`:                                                                           `on.schedule.segment: say the segment`,
		`{"id":"a",` + on + `,"where":"traits.vip ==",` + hook + `}`:                                                                            "where: 1:14: ",
		`{"id":"a",` + on + `,"limits":{"freshness":"soon"},` + hook + `}`:                                                                      `limits.freshness: "soon" is no time such as`,
		`{"id":"a",` + on + `,"limits":{"holdout":1},` + hook + `}`:                                                                             "limits.holdout: 1 is no share",
		`{"id":"a",` + on + `,"limits":{"consent":{}},` + hook + `}`:                                                                            "limits.consent: say either",
		`{"id":"a",` + on + `,"limits":{"at_most":{"times":0,"per":"1d"}},` + hook + `}`:                                                        "limits.at_most.times: 0 is not",
		`{"id":"a",` + on + `,"limits":{"time_zone":"Berlin"},` + hook + `}`:                                                                    `limits.time_zone: "Berlin" is no time zone`,
		`{"id":"a",` + on + `,"limits":{"send_window":{"from":"9","to":"10:00"}},` + hook + `}`:                                                 `limits.send_window.from: "9" is no time of the day`,
		`{"id":"a",` + on + `,"limits":{"send_window":{"from":"09:00","to":"10:00","days":["mn"]}},` + hook + `}`:                               `limits.send_window.days[0]: "mn" is no day of the week; did you mean "mon"?`,
		`{"id":"a",` + on + `,"limits":{"send_window":{"from":"09:00","to":"10:00"},"quiet_hours":{"from":"08:00","to":"11:00"}},` + hook + `}`: "leave no moment",
		`{"id":"a",` + on + `,"do":{}}`:                                                                                                         "do: say exactly one of",
		`{"id":"a",` + on + `,"do":{"webhook":{"destination":"cm"}}}`:                                                                           `do.webhook.destination: "cm" is no destination; did you mean "crm"?`,
		`{"id":"a",` + on + `,"do":{"webhook":{"destination":"crm","body":"{{.customer"}}}`:                                                     "do.webhook.body: ",
		`{"id":"a",` + on + `,"do":{"points":{"points":0}}}`:                                                                                    "do.points.points: 0 is not",
		`{"id":"a","on":{"touchpoint":{"meaning":"purchase"}},"while_there":true,` + hook + `}`:                                                 "while_there: a touchpoint leads nowhere",
	} {
		d, err := trigger.Decode([]byte(text))
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if _, err := trigger.Compile(&d, names); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\n  says %v\n  not  %s", text, err, want)
		}
	}
	d, err := trigger.Decode([]byte(`{"id":"a",` + on + `,"where":"traits.vip == true","limits":{"once":true,"cool_down":"1d12h"},` + hook + `}`))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := trigger.Compile(&d, names); err != nil {
		t.Error(err)
	}
}

func TestSchemaHasEveryKey(t *testing.T) {
	b, err := trigger.Schema()
	if err != nil {
		t.Fatal(err)
	}
	var s struct {
		Properties map[string]struct {
			Properties map[string]any
		}
	}
	if err := json.Unmarshal(b, &s); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"transition", "tier", "satisfaction", "touchpoint", "segment", "absence", "schedule", "points_expiring"} {
		if s.Properties["on"].Properties[key] == nil {
			t.Errorf("on has no %s", key)
		}
	}
	if s.Properties["limits"].Properties["send_window"] == nil {
		t.Errorf("the schema is %s", b)
	}
}
