package policy_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"sojourn/domain"
	"sojourn/domain/policy"
)

func TestSatisfactionOfADocument(t *testing.T) {
	p, err := policy.Decode([]byte(`{"satisfaction":{"half_life_days":30,"weights":{"custom":0.5},"csat":[{"scale":"1-7","satisfied":[6,7]}],
		"ces_easy":"low","hours":{"zone":"Asia/Shanghai","week":[{"days":["mon"],"from":"09:00","to":"18:30"}],"holidays":["10-01","2026-02-17"]},
		"clocks":{"resolution":"business"},"targets":[{"case":"chat","first_response_minutes":1}],
		"voice":{"rules":[{"topic":"delivery","words":["drone*"]},{"priority":"high","patterns":["\\bsos\\b"]}]},
		"service":{"flags":["vip"],"levels":[{"level":"best","flags":["vip"],"value":"500"}]}},
		"events":[{"name":"Zendesk Closed","meaning":"service","as":"ticket_resolved"}]}`))
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
	again, err := read.MarshalCanonical()
	if err != nil || string(again) != string(encoded) {
		t.Errorf("a policy read back is another one (%v)", err)
	}
	for _, c := range []*policy.Compiled{p.Compile(), read.Compile()} {
		s := c.Satisfaction()
		if s.HalfLifeDays != 30 || s.Weights != (policy.SignalWeights{NPS: 1, CSAT: 1, CES: 1, Review: 0.5, Custom: 0.5}) || s.CESEasy != policy.Low ||
			s.Floor != 0.25 || s.Clocks != (policy.Clocks{FirstResponse: policy.RoundTheClock, Resolution: policy.Business}) {
			t.Errorf("%+v", s)
		}
		if want := []policy.Target{{Case: "chat", FirstResponseMinutes: 1}}; !reflect.DeepEqual(s.Targets, want) {
			t.Errorf("targets %+v", s.Targets)
		}
		if want := []policy.CSATScale{{Scale: "1-7", Satisfied: []int{6, 7}}}; !reflect.DeepEqual(s.CSAT, want) {
			t.Errorf("scales %+v", s.CSAT)
		}
		if want := []policy.ServiceLevel{{Level: "best", Flags: []string{"vip"}, Value: "500"}}; !reflect.DeepEqual(s.Service.Levels, want) {
			t.Errorf("levels %+v", s.Service.Levels)
		}
		var delivery, quality int
		for _, r := range s.Voice.Rules {
			switch r.Topic {
			case "delivery":
				delivery++
				if !slices.Equal(r.Words, []string{"drone*"}) {
					t.Errorf("an own topic is the standard's: %q", r.Words)
				}
			case "quality":
				quality++
			}
		}
		if s.Voice.Standard || delivery != 1 || quality != 1 || s.Voice.Rules[1].Patterns == nil {
			t.Errorf("voice: standard %v, %d rules of delivery, %d of quality", s.Voice.Standard, delivery, quality)
		}
		if r := c.Classify(domain.Track, "x", "zendesk_closed"); r.Act != policy.ActTicketResolved || r.Meaning != policy.Service {
			t.Errorf("an own name is %+v", r)
		}
	}
}

func TestSatisfactionLists(t *testing.T) {
	read := func(text string) *policy.Satisfaction {
		p, err := policy.Decode([]byte(`{"satisfaction":` + text + `}`))
		if err != nil {
			t.Fatal(err)
		}
		return p.Compile().Satisfaction()
	}
	if s := read(`{}`); len(s.CSAT) != 1 || len(s.Targets) == 0 || len(s.Service.Levels) == 0 || len(s.Voice.Rules) < 10 {
		t.Errorf("lists that are not named are %+v", s)
	}
	if s := read(`{"csat":[],"targets":[],"service":{"levels":[],"flags":[]},"voice":{"standard":false}}`); len(s.CSAT)+len(s.Targets)+len(s.Service.Levels)+len(s.Service.Flags)+len(s.Voice.Rules) != 0 {
		t.Errorf("empty lists are %+v", s)
	}
	// What was made of a policy shares no list with the next.
	read(`{}`).Targets[0].ResolutionMinutes = 1
	if s := read(`{}`); s.Targets[0].ResolutionMinutes == 1 {
		t.Error("the default's lists are shared")
	}
}

func TestSatisfactionMistakes(t *testing.T) {
	p := policy.Default()
	s := &p.Satisfaction
	s.HalfLifeDays, s.Floor, s.ComplaintCap, s.CESEasy = 0, 0, 101, "up"
	s.Weights.NPS = -1
	s.Status = policy.StatusBounds{Delighted: 60, Satisfied: 60, Neutral: 70}
	s.CSAT = []policy.CSATScale{{Scale: "five"}, {Scale: "1-5", Satisfied: []int{4, 6}}, {Scale: "5"}}
	s.Hours = policy.Hours{
		Zone: "Europe/Berln",
		Week: []policy.Span{
			{From: "9:00", To: "24:01"},
			{Days: []string{"mon", "tu"}, From: "10:00", To: "10:00"},
		},
		Holidays: []string{"12-25", "02-30", "2026-02-29", "02-29"},
	}
	s.Clocks = policy.Clocks{FirstResponse: "buziness", Resolution: policy.RoundTheClock}
	s.Targets = []policy.Target{{Case: "tickets", Priority: "High", FirstResponseMinutes: -1}}
	s.Voice.Rules = []policy.VoiceRule{
		{},
		{Topic: "a", Words: []string{" ", "*"}, Unless: []string{""}},
		{Need: "functionl", Priority: "hi", Patterns: []string{"(", "x*"}},
	}
	s.Service = policy.ServiceLevels{Levels: []policy.ServiceLevel{
		{},
		{Level: "a", Flags: []string{"red_list", "blue"}, Tiers: []string{"gold", "goldd", "diamond"}, Value: "many", OpenTickets: -1, Statuses: []string{"happy"}},
	}}
	p.Events = []policy.Mapping{{Name: "A", Meaning: policy.Service, As: "ticket_open"}}
	var problems policy.Problems
	if err := p.Validate(); !errors.As(err, &problems) {
		t.Fatal(err)
	}
	var got []string
	for _, problem := range problems {
		got = append(got, strings.TrimPrefix(problem.PathString(), "satisfaction."))
	}
	want := []string{
		"half_life_days", "weights.nps", "floor", "complaint_cap", "status.satisfied", "status.neutral",
		"csat[0].scale", "csat[1].satisfied[1]", "csat[2].scale", "ces_easy",
		"hours.zone", "hours.week[0].days", "hours.week[0].from", "hours.week[0].to", "hours.week[1].days[1]", "hours.week[1].to",
		"hours.holidays[1]", "hours.holidays[2]", "clocks.first_response",
		"targets[0].case", "targets[0].first_response_minutes", "targets[0].priority",
		"voice.rules[0]", "voice.rules[0]", "voice.rules[1].words[0]", "voice.rules[1].words[1]", "voice.rules[1].unless[0]",
		"voice.rules[2].need", "voice.rules[2].priority", "voice.rules[2].patterns[0]", "voice.rules[2].patterns[1]",
		"service.default", "service.levels[0].level", "service.levels[0]",
		"service.levels[1].value", "service.levels[1].flags[1]", "service.levels[1].tiers[1]", "service.levels[1].tiers[2]", "service.levels[1].statuses[0]", "service.levels[1].open_tickets",
		"events[0].as",
	}
	if !slices.Equal(got, want) {
		t.Errorf("problems at\n%q, want\n%q", got, want)
	}
	for _, part := range []string{"did you mean ticket?", "did you mean ticket_opened?", "did you mean functional?", "did you mean business?", "did you mean tue?", "did you mean gold?", `"diamond" is no tier of a loyalty programme of this policy: use member, silver, gold or platinum`} {
		if err := p.Validate(); !strings.Contains(err.Error(), part) {
			t.Errorf("no %q in\n%v", part, err)
		}
	}
	if _, err := policy.Decode([]byte(`{"satisfaction":{"targets":[{"kase":"ticket"}],"weihts":{}}}`)); err == nil ||
		!strings.Contains(err.Error(), "did you mean case?") || !strings.Contains(err.Error(), "did you mean weights?") {
		t.Errorf("unknown keys: %v", err)
	}
}

// TestTiersOfServiceLevels takes the tiers of any programme of the policy, and
// leaves the default's levels alone.
func TestTiersOfServiceLevels(t *testing.T) {
	tiers := func(names ...string) policy.Tiers {
		var t policy.Tiers
		for i, name := range names {
			t.Levels = append(t.Levels, policy.Level{Name: name, Threshold: policy.Number(domain.Decimal(i) * 10_000)})
		}
		return t
	}
	p := policy.Default()
	p.Loyalty.Programmes = []policy.Programme{{ID: "a", Tiers: tiers("blue", "red")}, {ID: "b", Tiers: tiers("guest", "friend")}}
	if err := p.Validate(); err != nil {
		t.Errorf("without levels: %v", err)
	}
	p.Satisfaction.Service.Levels = []policy.ServiceLevel{{Level: "x", Tiers: []string{"red", "friend"}}}
	if err := p.Validate(); err != nil {
		t.Errorf("tiers of two programmes: %v", err)
	}
	p.Loyalty.Programmes = p.Loyalty.Programmes[:1]
	if err := p.Validate(); err == nil || !strings.Contains(err.Error(), `service.levels[0].tiers[1]: "friend" is no tier`) {
		t.Errorf("a tier of a programme that is gone: %v", err)
	}
	p.Loyalty.Programmes = []policy.Programme{}
	if err := p.Validate(); err == nil || !strings.Contains(err.Error(), "the policy has no loyalty programme") {
		t.Errorf("tiers without a programme: %v", err)
	}
}

// TestAPolicyWithoutSatisfaction reads a canonical form of an older release.
func TestAPolicyWithoutSatisfaction(t *testing.T) {
	encoded, err := policy.Default().MarshalCanonical()
	if err != nil {
		t.Fatal(err)
	}
	var doc map[string]json.RawMessage
	if err := json.Unmarshal(encoded, &doc); err != nil {
		t.Fatal(err)
	}
	delete(doc, "satisfaction")
	old, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	p, err := policy.Decode(old)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := p.Expanded().Satisfaction, policy.Default().Expanded().Satisfaction; !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
}

func TestScalesClocksAndHolidays(t *testing.T) {
	for text, want := range map[string][2]int{"1-5": {1, 5}, " 0 - 10 ": {0, 10}, "1..7": {1, 7}, "5": {1, 5}, "0-1": {0, 1}} {
		if low, high, ok := policy.ParseScale(text); !ok || low != want[0] || high != want[1] {
			t.Errorf("%q is %d to %d, %v", text, low, high, ok)
		}
	}
	for _, text := range []string{"", "1", "5-1", "3-3", "a-b", "-5", "1-5-7", "0", "1-100000"} {
		if low, high, ok := policy.ParseScale(text); ok {
			t.Errorf("%q is %d to %d", text, low, high)
		}
	}
	for text, want := range map[string]int{"00:00": 0, "09:30": 570, "23:59": 1439, "24:00": 1440, "9:00": -1, "24:01": -1, "12:60": -1, "ab:cd": -1, "+1:00": -1} {
		got, ok := policy.ParseClock(text)
		if !ok {
			got = -1
		}
		if got != want {
			t.Errorf("%q is %d, want %d", text, got, want)
		}
	}
	if y, m, d, ok := policy.ParseHoliday("2024-02-29"); !ok || y != 2024 || m != time.February || d != 29 {
		t.Error("2024-02-29 is no day")
	}
	if y, m, d, ok := policy.ParseHoliday("12-25"); !ok || y != 0 || m != time.December || d != 25 {
		t.Error("12-25 is no day")
	}
}
