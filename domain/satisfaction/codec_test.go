package satisfaction_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"sojourn/domain"
	"sojourn/domain/policy"
	"sojourn/domain/satisfaction"
)

// drawHistory draws touchpoints of one customer, with ids that are distinct and
// times that often collide, and a policy to judge them by.
func drawHistory(t *rapid.T) ([]satisfaction.Touch, func(*policy.Satisfaction)) {
	n := rapid.IntRange(0, 12).Draw(t, "n")
	var ts []satisfaction.Touch
	for i := range n {
		at := day(rapid.IntRange(0, 40).Draw(t, "day") * rapid.SampledFrom([]int{1, 1, 9}).Draw(t, "stride"))
		at += domain.Millis(rapid.IntRange(-1, 1).Draw(t, "ms"))
		act := rapid.SampledFrom(policy.Acts).Draw(t, "act")
		if rapid.Bool().Draw(t, "scored") {
			act = rapid.SampledFrom([]policy.Act{policy.ActSurveyAnswered, policy.ActNPSAnswered, policy.ActProductReviewed, policy.ActComplaintOpened, policy.ActComplaintResolved}).Draw(t, "scored act")
		}
		id := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "id")
		if strings.HasPrefix(string(act), "complaint") {
			// The oracle counts complaints plainly: each is opened first.
			id = fmt.Sprint("c", i%3)
		}
		touch := on(at, act, strings.Join([]string{
			"kind=" + rapid.SampledFrom([]string{"nps", "csat", "ces", "custom"}).Draw(t, "kind"),
			fmt.Sprint("score=", rapid.IntRange(0, 11).Draw(t, "score")),
			fmt.Sprint("rating=", rapid.IntRange(0, 6).Draw(t, "rating")),
			rapid.SampledFrom([]string{"", "", "scale=5", "scale=x"}).Draw(t, "scale"),
			"ticket_id=" + id, "complaint_id=" + id, "conversation_id=" + id, "call_id=" + id,
			rapid.SampledFrom([]string{"", "by=agent", "by=customer"}).Draw(t, "by"),
			rapid.SampledFrom([]string{"", "", "waiting_for=customer"}).Draw(t, "waiting"),
			rapid.SampledFrom([]string{"", "", "priority=urgent"}).Draw(t, "priority"),
			rapid.SampledFrom([]string{"", "survey_id=s"}).Draw(t, "survey"),
			rapid.SampledFrom([]string{"", "campaign=k"}).Draw(t, "campaign"),
		}, ", "))
		touch.ID = uuid.UUID{0: byte(rapid.IntRange(0, 255).Draw(t, "id")), 15: byte(i + 1)}
		ts = append(ts, touch)
	}
	floor := rapid.SampledFrom([]float64{0.25, 0.5, 0.7, 1, 2}).Draw(t, "floor")
	halfLife := rapid.IntRange(1, 120).Draw(t, "half-life")
	pause, business := rapid.Bool().Draw(t, "pause"), rapid.Bool().Draw(t, "business")
	return ts, func(s *policy.Satisfaction) {
		if business {
			office(s)
		}
		s.Floor, s.HalfLifeDays, s.Clocks.PauseWaiting = floor, halfLife, pause
	}
}

func answers(f *satisfaction.Facts, r *satisfaction.Rules, clock domain.Millis) string {
	v, past, future := f.View(clock, r)
	return fmt.Sprintf("%+v %+v %+v %+v", v, past, future, satisfaction.Cases(f, r, clock))
}

// TestEveryWay: order of arrival, duplicates, batches and merges change nothing,
// to the last bit.
func TestEveryWay(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		ts, change := drawHistory(t)
		rules := compile(change)
		clock := day(rapid.IntRange(0, 400).Draw(t, "clock"))
		facts := addAll(ts)
		want, bytes := answers(facts, rules, clock), string(facts.Append(nil))
		for _, way := range replays {
			got := way.fold(ts)
			if s := answers(got, rules, clock); s != want {
				t.Fatalf("%s:\n%s\nwant\n%s", way.name, s, want)
			}
			if string(got.Append(nil)) != bytes {
				t.Fatalf("%s: other bytes", way.name)
			}
		}
	})
}

// TestDefinition compares with the oracle, where each complaint has an Opened
// before its other events.
func TestDefinition(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		ts, change := drawHistory(t)
		slices.SortFunc(ts, func(a, b satisfaction.Touch) int { return a.Compare(b.Ref) })
		known := map[string]bool{}
		ts = slices.DeleteFunc(ts, func(touch satisfaction.Touch) bool {
			switch touch.Event.Act {
			case policy.ActComplaintOpened:
				known[touch.Event.Case] = true
			case policy.ActComplaintUpdated, policy.ActComplaintResolved:
				return !known[touch.Event.Case]
			}
			return touch.Event.Act == policy.ActNPSAnswered || touch.Event.Act == policy.ActCSATAnswered || touch.Event.Act == policy.ActCESAnswered
		})
		if diff := compareWithOracle(ts, compile(change), change); diff != "" {
			t.Fatal(diff)
		}
	})
}

// TestTimings: a case's verdict, once met or breached while it is not reopened,
// and its due instant agree with every instant between.
func TestTimings(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		ts, change := drawHistory(t)
		rules := compile(change)
		facts := addAll(ts)
		clock := day(rapid.IntRange(0, 400).Draw(t, "clock"), domain.Millis(rapid.IntRange(0, 86_400_000).Draw(t, "ms")))
		// As if nothing more happened: the facts up to the clock.
		var known satisfaction.Facts
		for _, touch := range ts {
			if touch.At <= clock {
				known.Add(touch)
			}
		}
		if a, b := fmt.Sprint(satisfaction.Cases(&known, rules, clock)), fmt.Sprint(satisfaction.Cases(facts, rules, clock)); a != b {
			t.Fatalf("what comes later changes a case:\n%s\n%s", a, b)
		}
		for i, c := range satisfaction.Cases(&known, rules, clock) {
			for which, timing := range []satisfaction.Timing{c.FirstResponse, c.Resolution} {
				at := func(clock domain.Millis) satisfaction.Timing {
					c := satisfaction.Cases(&known, rules, clock)[i]
					return []satisfaction.Timing{c.FirstResponse, c.Resolution}[which]
				}
				switch timing.Verdict {
				case satisfaction.VerdictPending:
					if timing.Took > timing.Target || timing.Due != 0 && timing.Due <= clock {
						t.Fatalf("pending: %+v at %d", timing, clock)
					}
					if timing.Due != 0 && timing.Due < domain.MaxTime {
						if got := at(timing.Due - 1); got.Verdict != satisfaction.VerdictPending && timing.Due-1 >= clock {
							t.Fatalf("just before it is due: %+v", got)
						}
						if got := at(timing.Due); got.Verdict != satisfaction.VerdictBreached || got.Due != timing.Due || got.Took != timing.Target {
							t.Fatalf("when it is due: %+v, said before %+v", got, timing)
						}
					}
				case satisfaction.VerdictMet:
					if !timing.Done || timing.Took > timing.Target {
						t.Fatalf("met: %+v", timing)
					}
				case satisfaction.VerdictBreached:
					if timing.Took < timing.Target || timing.Due > clock {
						t.Fatalf("breached: %+v", timing)
					}
				}
			}
		}
	})
}

func TestStoredFactsAreTheSame(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		ts, change := drawHistory(t)
		rules := compile(change)
		facts := addAll(ts)
		bytes := facts.Append(nil)
		var got satisfaction.Facts
		if err := got.Parse(bytes); err != nil {
			t.Fatal(err)
		}
		clone := got.Clone()
		for i := range bytes {
			bytes[i] = 0xff
		}
		if answers(&got, rules, day(400)) != answers(facts, rules, day(400)) {
			t.Fatal("other answers, or the facts share the bytes they were read from")
		}
		clone.Add(nps(day(500), "3"))
		if answers(&got, rules, day(600)) != answers(facts, rules, day(600)) {
			t.Fatal("a clone changes its origin")
		}
	})
}

func someFacts() *satisfaction.Facts {
	return addAll(number(all(nps(day(0), "9"), review(day(1), "4/5"), complain(day(2), "c"), ticket(day(3), opened, "priority=high"),
		ticket(day(3, hour), replied, "by=agent, waiting_for=customer"), on(day(4), policy.ActSurveySent, "survey_id=s, campaign=k"),
		on(day(5), policy.ActChatMessageReceived, "conversation_id=x"), on(day(6), policy.ActSurveyAnswered, "score=x, scale=y"))))
}

func TestDamagedFacts(t *testing.T) {
	whole := someFacts().Append(nil)
	for i := range whole {
		var got satisfaction.Facts
		if err := got.Parse(whole[:i]); err == nil {
			t.Errorf("%d bytes of the facts were read", i)
		}
		if !got.Empty() {
			t.Errorf("%d bytes left something behind", i)
		}
	}
	if n := len(addAll(all(nps(day(0), "9"), nps(day(0), "9"))).Append(nil)); n != len(addAll(all(nps(day(0), "9"))).Append(nil)) {
		t.Error("one touchpoint twice is kept twice")
	}
	backwards := addAll(number(all(nps(0, "9"), nps(0, "8")))).Append(nil)
	half := (len(backwards) - 2) / 2
	backwards = slices.Concat(backwards[:2], backwards[2+half:], backwards[2:2+half])
	for name, b := range map[string][]byte{
		"out of order":     backwards,
		"past all time":    addAll(all(nps(domain.MaxTime+1, "9"))).Append(nil),
		"another version":  append([]byte{99}, whole[1:]...),
		"something behind": append(slices.Clone(whole), 0),
	} {
		var got satisfaction.Facts
		if err := got.Parse(b); err == nil {
			t.Errorf("%s was read", name)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte{})
	f.Add((&satisfaction.Facts{}).Append(nil))
	f.Add(someFacts().Append(nil))
	rules := compile(office)
	f.Fuzz(func(t *testing.T, b []byte) {
		var facts satisfaction.Facts
		if facts.Parse(b) != nil {
			return
		}
		facts.View(day(100), rules)
		again := facts.Append(nil)
		var same satisfaction.Facts
		if err := same.Parse(again); err != nil {
			t.Fatalf("what was read cannot be read again: %v", err)
		}
		if string(same.Append(nil)) != string(again) {
			t.Fatal("other bytes the second time")
		}
	})
}

// TestEqualScores: the index of answers that all say the same is what they say,
// whatever they weigh.
func TestEqualScores(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		score := rapid.IntRange(0, 10).Draw(t, "score")
		var ts []satisfaction.Touch
		for range rapid.IntRange(1, 20).Draw(t, "n") {
			ts = append(ts, nps(day(rapid.IntRange(0, 60).Draw(t, "day"), domain.Millis(rapid.IntRange(0, 86_400_000).Draw(t, "ms"))), fmt.Sprint(score)))
		}
		weight := rapid.Float64Range(0.5, 3).Draw(t, "weight")
		rules := compile(func(s *policy.Satisfaction) { s.Weights.NPS, s.Floor = weight, 1e-3 })
		if v, _, _ := addAll(number(ts)).View(day(61), rules); v.Index != float64(10*score) {
			t.Fatalf("%d times %d is %v", len(ts), score, v.Index)
		}
	})
}

// TestMergedChats: the first message of a conversation is known whichever subject
// it is of.
func TestMergedChats(t *testing.T) {
	ts := number(all(on(day(0), policy.ActChatMessageReceived, "conversation_id=x"), on(day(1), policy.ActChatMessageReceived, "conversation_id=x")))
	merged := stored(addAll(ts[:1]))
	merged.Merge(stored(addAll(ts[1:])))
	if string(merged.Append(nil)) != string(addAll(ts).Append(nil)) || string(merged.Append(nil)) != string(addAll(ts[:1]).Append(nil)) {
		t.Error("the second message is kept")
	}
}

func TestAChatLeavesFewFacts(t *testing.T) {
	var f satisfaction.Facts
	for i := range 1000 {
		touch := on(day(0, domain.Millis(i)*minute), policy.ActChatMessageReceived, "conversation_id=x")
		touch.ID = uuid.UUID{14: byte(i >> 8), 15: byte(i)}
		f.Add(touch)
	}
	if n := len(f.Append(nil)); n > 100 {
		t.Errorf("a thousand messages leave %d bytes", n)
	}
	if f.Add(on(day(0), policy.ActChatMessageSent, "")) || f.Add(on(day(0), "", "")) {
		t.Error("what says nothing changed something")
	}
}

func TestCause(t *testing.T) {
	id := uuid.MustParse("6ba7b810-9dad-11d1-80b4-00c04fd430c8")
	for text, want := range map[string]satisfaction.Cause{
		"touchpoint:" + id.String():     {Touchpoint: id},
		"deadline:faded:" + id.String(): {Rule: satisfaction.RuleFaded, Touchpoint: id},
	} {
		got, err := satisfaction.ParseCause(text)
		if err != nil || got != want || got.String() != text {
			t.Errorf("%s was read as %+v, %v", text, got, err)
		}
	}
	for _, bad := range []string{"", "touchpoint", "touchpoint:", "touchpoint:6ba7b8109dad11d180b400c04fd430c8", "deadline:" + id.String(), "deadline:lost:" + id.String()} {
		if got, err := satisfaction.ParseCause(bad); err == nil {
			t.Errorf("%q was read as %+v", bad, got)
		}
	}
}

func BenchmarkTransitions(b *testing.B) {
	rules := compile(nil)
	for name, n := range map[string]int{"5 answers": 5, "50 answers": 50} {
		var ts []satisfaction.Touch
		for i := range n {
			ts = append(ts, nps(day(10*i), fmt.Sprint(i%11)), complain(day(10*i+3), fmt.Sprint(i)), settle(day(10*i+5), fmt.Sprint(i)))
		}
		facts := addAll(number(ts))
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				satisfaction.Transitions(facts, rules)
			}
		})
	}
}
