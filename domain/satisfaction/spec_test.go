package satisfaction_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"sojourn/domain"
	"sojourn/domain/policy"
	"sojourn/domain/satisfaction"
)

// A spec says: given these touchpoints, then these transitions up to a clock, these
// scores and these cases. Touchpoints are #1, #2, … in the order in which they are
// given, and that is the order of their ids.
type spec struct {
	name  string
	rules func(*policy.Satisfaction)
	given []satisfaction.Touch
	// until is the clock; without it, that of the last touchpoint.
	until domain.Millis
	// then has a line for each transition up to the clock: "when status index
	// cause: reason". Without a reason, any will do.
	then []string
	// future is the same of the transitions that time alone will bring, if given.
	future []string
	// view is what viewText makes of the view, if given.
	view string
	// cases are what caseText makes of each case, if given.
	cases []string
	// loose is of specs whose complaints the oracle does not follow.
	loose bool
	// sent is what surveysText makes of the surveys, if given.
	sent string
}

var day0 = domain.MillisOf(time.Date(2024, 1, 1, 12, 0, 0, 0, time.UTC)) // a Monday

const (
	ms     domain.Millis = 1
	minute               = 60_000 * ms
	hour                 = 60 * minute
)

func day(n int, extra ...domain.Millis) domain.Millis {
	at := day0 + domain.Millis(n)*domain.Day
	for _, e := range extra {
		at += e
	}
	return at
}

// on is a touchpoint with properties "key=value, …"; a value is JSON, or text.
func on(at domain.Millis, act policy.Act, properties string) satisfaction.Touch {
	return satisfaction.Touch{Ref: satisfaction.Ref{At: at}, Event: satisfaction.Read(act, props(properties))}
}

func props(text string) func(string) []byte {
	p := map[string][]byte{}
	for part := range strings.SplitSeq(text, ", ") {
		if key, value, ok := strings.Cut(part, "="); ok {
			if !json.Valid([]byte(value)) {
				quoted, _ := json.Marshal(value)
				value = string(quoted)
			}
			p[key] = []byte(value)
		}
	}
	return func(key string) []byte { return p[key] }
}

func nps(at domain.Millis, score string) satisfaction.Touch {
	return on(at, policy.ActSurveyAnswered, "kind=nps, score="+score)
}

func csat(at domain.Millis, score string) satisfaction.Touch {
	return on(at, policy.ActSurveyAnswered, "kind=csat, score="+score)
}

func ces(at domain.Millis, score string) satisfaction.Touch {
	return on(at, policy.ActSurveyAnswered, "kind=ces, score="+score)
}

func review(at domain.Millis, rating string) satisfaction.Touch {
	return on(at, policy.ActProductReviewed, "rating="+rating)
}

func complain(at domain.Millis, id string) satisfaction.Touch {
	return on(at, policy.ActComplaintOpened, "complaint_id="+id)
}

func settle(at domain.Millis, id string) satisfaction.Touch {
	return on(at, policy.ActComplaintResolved, "complaint_id="+id)
}

func ticket(at domain.Millis, act policy.Act, properties string) satisfaction.Touch {
	return on(at, act, "ticket_id=\"t\", "+properties)
}

func all(ts ...satisfaction.Touch) []satisfaction.Touch { return ts }

func compile(change func(*policy.Satisfaction)) *satisfaction.Rules {
	p := policy.Default()
	if change != nil {
		change(&p.Satisfaction)
	}
	if err := p.Validate(); err != nil {
		panic(err)
	}
	return satisfaction.Compile(p.Compile())
}

func (s spec) check(t *testing.T) {
	t.Helper()
	rules := compile(s.rules)
	touches := number(s.given)
	clock := s.until
	for _, touch := range touches {
		if s.until == 0 {
			clock = max(clock, touch.At)
		}
	}
	for _, way := range replays {
		facts := way.fold(touches)
		view, past, future := facts.View(clock, rules)
		same := func(what string, got, want []string) {
			if !slices.EqualFunc(got, want, func(got, want string) bool {
				return got == want || !strings.Contains(want, ": ") && strings.HasPrefix(got, want+": ")
			}) {
				t.Errorf("%s: %s\n\t%s\nwant\n\t%s", way.name, what, strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
			}
		}
		same("transitions", lines(past), s.then)
		if s.future != nil {
			same("transitions to come", lines(future), s.future)
		}
		if got := viewText(view); s.view != "" && got != s.view {
			t.Errorf("%s: view\n\t%s\nwant\n\t%s", way.name, got, s.view)
		}
		if s.cases != nil {
			var got []string
			for _, c := range view.Cases {
				got = append(got, caseText(c))
			}
			same("cases", got, s.cases)
		}
		if got := surveysText(view.Surveys); s.sent != "" && got != s.sent {
			t.Errorf("%s: surveys %q, want %q", way.name, got, s.sent)
		}
		if t.Failed() {
			return
		}
	}
	if diff := compareWithOracle(touches, rules, s.rules); diff != "" && !s.loose {
		t.Errorf("against the definition: %s", diff)
	}
}

func number(ts []satisfaction.Touch) []satisfaction.Touch {
	ts = slices.Clone(ts)
	for i := range ts {
		ts[i].ID = uuid.UUID{14: byte((i + 1) >> 8), 15: byte(i + 1)}
	}
	return ts
}

func since(at domain.Millis) string {
	d := at - day0
	text := fmt.Sprintf("%dd", d/domain.Day)
	if rest := d % domain.Day; rest != 0 {
		text += "+" + length(rest)
	}
	return text
}

func length(d domain.Millis) string {
	switch {
	case d%hour == 0:
		return fmt.Sprintf("%dh", d/hour)
	case d%minute == 0:
		return fmt.Sprintf("%dm", d/minute)
	}
	return fmt.Sprintf("%dms", d)
}

func refText(id uuid.UUID) string { return fmt.Sprintf("#%d", int(id[14])<<8|int(id[15])) }

func lines(list []satisfaction.Transition) []string {
	var got []string
	for _, tr := range list {
		cause := refText(tr.Cause.Touchpoint)
		if tr.Cause.Rule != "" {
			cause = tr.Cause.Rule + " of " + cause
		}
		index := ""
		if tr.To != satisfaction.Unknown {
			index = fmt.Sprintf(" %.4g", tr.Index)
		}
		got = append(got, fmt.Sprintf("%s %s%s %s: %s", since(tr.At), tr.To, index, cause, tr.Reason))
	}
	return got
}

func viewText(v satisfaction.View) string {
	text := string(v.Status)
	if v.Known {
		text += fmt.Sprintf(" %.4g", v.Index)
		if v.Uncapped != v.Index {
			text += fmt.Sprintf(" (%.4g)", v.Uncapped)
		}
	}
	for _, m := range []satisfaction.Measure{v.NPS, v.CSAT, v.CES, v.Review} {
		if m.Count == 0 {
			continue
		}
		text += fmt.Sprintf(", %s %s ×%d", m.Last.Kind, m.Last.Value, m.Count)
		if m.HasChange {
			text += fmt.Sprintf(" %+.4g", m.Change)
		}
	}
	if v.Flagged > 0 {
		text += fmt.Sprintf(", %d flagged", v.Flagged)
	}
	return text + fmt.Sprintf(", open %d/%d", v.OpenComplaints, v.OpenTickets)
}

func caseText(c satisfaction.Case) string {
	text := c.Kind.String()
	if c.ID != "" {
		text += " " + c.ID
	}
	if c.Open {
		text += " open"
	}
	if c.Escalated {
		text += " escalated"
	}
	if c.Reopened > 0 {
		text += fmt.Sprintf(" reopened×%d", c.Reopened)
	}
	if c.Priority != "" {
		text += " " + c.Priority
	}
	if !c.HasOpened {
		return text + " not timed"
	}
	timing := func(t satisfaction.Timing) string {
		text := length(t.Took)
		if !t.Done {
			text = "…" + text
		}
		if t.Verdict != satisfaction.VerdictNone {
			text += " " + t.Verdict.String()
		}
		if t.Due != 0 {
			text += " due " + since(t.Due)
		}
		return text
	}
	return text + "; first response " + timing(c.FirstResponse) + "; resolution " + timing(c.Resolution)
}

func surveysText(list []satisfaction.Survey) string {
	var parts []string
	for _, s := range list {
		text := refText(s.Sent.ID)
		if s.Answered {
			text += " by " + refText(s.Answer.ID)
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, ", ")
}

// replays are the ways in which the same set of touchpoints may arrive.
var replays = []struct {
	name string
	fold func([]satisfaction.Touch) *satisfaction.Facts
}{
	{"in order", addAll},
	{"backwards", func(ts []satisfaction.Touch) *satisfaction.Facts {
		ts = slices.Clone(ts)
		slices.Reverse(ts)
		return addAll(ts)
	}},
	{"shuffled", func(ts []satisfaction.Touch) *satisfaction.Facts { return addAll(shuffled(ts, 1)) }},
	{"twice", func(ts []satisfaction.Touch) *satisfaction.Facts {
		return addAll(shuffled(append(slices.Clone(ts), ts...), 2))
	}},
	{"in batches of one, merged", func(ts []satisfaction.Touch) *satisfaction.Facts {
		var f satisfaction.Facts
		for _, t := range shuffled(ts, 3) {
			f.Merge(addAll([]satisfaction.Touch{t}))
		}
		return &f
	}},
	{"as two subjects, stored and merged", func(ts []satisfaction.Touch) *satisfaction.Facts {
		ts = shuffled(ts, 4)
		a, b := stored(addAll(ts[:len(ts)/2])), stored(addAll(ts[len(ts)/2:]))
		b.Merge(a)
		return stored(b)
	}},
	{"as two subjects, merged as they are", func(ts []satisfaction.Touch) *satisfaction.Facts {
		ts = slices.Clone(ts)
		slices.SortFunc(ts, func(a, b satisfaction.Touch) int { return a.Compare(b.Ref) })
		a, b := ts[:len(ts)/2], ts[len(ts)/2:]
		slices.Reverse(b)
		f := addAll(a)
		f.Merge(addAll(b))
		return f
	}},
	{"looked at after each touchpoint", func(ts []satisfaction.Touch) *satisfaction.Facts {
		var f satisfaction.Facts
		rules := compile(nil)
		for _, t := range shuffled(ts, 5) {
			before := fmt.Sprint(f.View(domain.MaxTime, rules))
			if !f.Add(t) && before != fmt.Sprint(f.View(domain.MaxTime, rules)) {
				panic("Add said that nothing changed")
			}
		}
		return &f
	}},
}

func addAll(ts []satisfaction.Touch) *satisfaction.Facts {
	var f satisfaction.Facts
	for _, t := range ts {
		f.Add(t)
	}
	return &f
}

func shuffled(ts []satisfaction.Touch, seed uint64) []satisfaction.Touch {
	ts = slices.Clone(ts)
	rand.New(rand.NewPCG(seed, 0)).Shuffle(len(ts), func(i, j int) { ts[i], ts[j] = ts[j], ts[i] })
	return ts
}

func stored(f *satisfaction.Facts) *satisfaction.Facts {
	var g satisfaction.Facts
	if err := g.Parse(f.Append(nil)); err != nil {
		panic(err)
	}
	return &g
}

func run(t *testing.T, specs []spec) {
	for _, s := range specs {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			s.check(t)
		})
	}
}
