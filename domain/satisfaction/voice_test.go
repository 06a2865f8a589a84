package satisfaction_test

import (
	_ "embed"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"sojourn/domain/policy"
)

//go:embed testdata/comments.tsv
var labelled string

//go:embed testdata/heldout.tsv
var heldOut string

// tally counts what the rules found of a label.
type tally struct{ right, wrong, missed int }

func (t tally) precision() float64 { return float64(t.right) / float64(max(t.right+t.wrong, 1)) }
func (t tally) recall() float64    { return float64(t.right) / float64(max(t.right+t.missed, 1)) }

// TestDefaultVoice measures the default rules on the labelled comments and prints
// precision and recall (go test -v). What they must not fall below stands a little
// under what they reach. On the labelled comments they had reached 0.91 to 0.95 for
// topics, 0.96 to 0.98 for needs and 0.88 to 0.90 for priorities before they were
// tuned on them. The comments held out were written after that; a few general words
// of the rules were added since, which took priorities there from 0.56 to 0.72.
func TestDefaultVoice(t *testing.T) {
	languages := measureVoice(t, labelled, 0.94)
	if languages["en"] < 100 || languages["zh"] < 100 {
		t.Errorf("comments: %v", languages)
	}
	measureVoice(t, heldOut, 0.70)
}

// measureVoice returns how many comments there are in each language.
func measureVoice(t *testing.T, labelled string, floor float64) map[string]int {
	rules := compile(nil)
	tallies := map[string]*tally{}
	count := func(what, label string, got, want bool) {
		for _, key := range []string{what, what + " " + label} {
			if tallies[key] == nil {
				tallies[key] = &tally{}
			}
			switch {
			case got && want:
				tallies[key].right++
			case got:
				tallies[key].wrong++
			case want:
				tallies[key].missed++
			}
		}
	}
	languages := map[string]int{}
	for line := range strings.Lines(labelled) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(f) != 5 || !slices.Contains(policy.Needs, f[2]) || !slices.Contains(policy.Priorities, f[3]) {
			t.Fatalf("line %q is not labelled", line)
		}
		language := f[0]
		languages[language]++
		var topics []string
		if f[1] != "-" {
			topics = strings.Split(f[1], ",")
		}
		got := rules.Sort(f[4])
		if !sameSet(got.Topics, topics) || got.Need != f[2] || got.Priority != f[3] {
			t.Logf("%v %s %s, labelled %v %s %s: %s", got.Topics, got.Need, got.Priority, topics, f[2], f[3], f[4])
		}
		for _, topic := range slices.Compact(slices.Sorted(slices.Values(append(slices.Clone(got.Topics), topics...)))) {
			count(language+" topic", topic, slices.Contains(got.Topics, topic), slices.Contains(topics, topic))
		}
		for _, need := range policy.Needs {
			count(language+" need", need, got.Need == need, f[2] == need)
		}
		for _, priority := range policy.Priorities {
			count(language+" priority", priority, got.Priority == priority, f[3] == priority)
		}
	}
	var table strings.Builder
	for _, key := range slices.Sorted(maps.Keys(tallies)) {
		c := tallies[key]
		fmt.Fprintf(&table, "\n%-28s precision %.2f  recall %.2f  (%d)", key, c.precision(), c.recall(), c.right+c.missed)
	}
	t.Log(table.String())
	for _, what := range []string{"en topic", "zh topic", "en need", "zh need", "en priority", "zh priority"} {
		if c := tallies[what]; c.precision() < floor || c.recall() < floor {
			t.Errorf("%s: precision %.3f, recall %.3f, floor %v", what, c.precision(), c.recall(), floor)
		}
	}
	return languages
}

func sameSet(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

func TestWords(t *testing.T) {
	rules := compile(func(s *policy.Satisfaction) {
		s.Voice = policy.Voice{Rules: []policy.VoiceRule{
			{Topic: "late", Words: []string{"late", "zu spät", "迟到"}, Unless: []string{"late show", "没迟到"}},
			{Topic: "deliver", Words: []string{"deliver*", "*port"}, Priority: "high"},
			{Topic: "app", Words: []string{"APP"}, Need: "social"},
			{Topic: "number", Patterns: []string{`\b\d{4}\b`}, Need: "emotional", Priority: "medium"},
			{Topic: "late", Words: []string{"behind schedule"}},
		}}
	})
	for comment, want := range map[string]string{
		"Too LATE.":                              "late/functional/low",
		"chocolate, latest":                      "/functional/low",
		"the late show":                          "/functional/low",
		"late, at the late show":                 "late/functional/low",
		"behind  \n schedule and late":           "late/functional/low",
		"undelivered":                            "/functional/low",
		"Deliveries":                             "deliver/functional/high",
		"the airport":                            "deliver/functional/high",
		"你们的app闪退，还迟到":                           "late,app/social/low",
		"他没迟到":                                   "/functional/low",
		"没迟到，是迟到了":                               "late/functional/low",
		"ＡＰＰ":                                    "app/social/low",
		"es kam zu spät an":                      "late/functional/low",
		"es kam zu späten Stunden":               "/functional/low",
		"order 4711 in the app":                  "app,number/social/medium",
		"":                                       "//",
		" \n　":                                   "//",
		strings.Repeat("x ", 20_000) + "late":    "/functional/low",
		"bad \xff bytes are late \x00 and so on": "late/functional/low",
	} {
		got := rules.Sort(comment)
		if text := strings.Join(got.Topics, ",") + "/" + got.Need + "/" + got.Priority; text != want {
			t.Errorf("%.40q is %s, want %s", comment, text, want)
		}
	}
}

func BenchmarkSort(b *testing.B) {
	rules := compile(nil)
	for b.Loop() {
		rules.Sort("This is the third time I ask where my package is and your support has not solved it. 客服也不回复。")
	}
}
