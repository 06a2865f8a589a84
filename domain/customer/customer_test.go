package customer_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"sojourn/domain"
	"sojourn/domain/commerce"
	"sojourn/domain/customer"
	"sojourn/domain/lifecycle"
	"sojourn/domain/policy"
)

var start = domain.MillisOf(time.Date(2025, 3, 1, 0, 0, 0, 0, time.UTC))

func ref(at domain.Millis, id byte) lifecycle.Ref {
	return lifecycle.Ref{At: at, ID: uuid.UUID{15: id}}
}

type event struct {
	touch  lifecycle.Touch
	traits []customer.Trait
}

func fold(events []event) *customer.Facts {
	var f customer.Facts
	for _, e := range events {
		f.Add(&customer.Touch{Touch: e.touch, Traits: e.traits}, nil)
	}
	return &f
}

func traits(pairs ...string) []customer.Trait {
	var list []customer.Trait
	for i := 0; i < len(pairs); i += 2 {
		list = append(list, customer.Trait{Key: pairs[i], Value: []byte(pairs[i+1])})
	}
	return list
}

func identify(at domain.Millis, id byte, pairs ...string) event {
	return event{lifecycle.Touch{Ref: ref(at, id), Meaning: policy.Identity, UnderUser: true}, traits(pairs...)}
}

func text(list []customer.Trait) string {
	s := ""
	for _, t := range list {
		s += fmt.Sprintf("%s=%s ", t.Key, t.Value)
	}
	return s
}

func TestTheLastTraitStands(t *testing.T) {
	events := []event{
		identify(start+2, 1, "name", `"Ada"`, "plan", `"pro"`),
		identify(start+1, 2, "name", `"A."`, "city", `"London"`),
		identify(start+3, 3, "city", `null`),
		identify(start+3, 4, "plan", `{"tier":2}`),
		identify(start+2, 5, "colour", `null`),
		identify(start+4, 6, "colour", `"red"`),
	}
	for seed := range uint64(20) {
		rand.New(rand.NewPCG(seed, 0)).Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
		f := fold(events)
		if got, want := text(f.LiveTraits()), `colour="red" name="Ada" plan={"tier":2} `; got != want {
			t.Fatalf("traits %s, want %s", got, want)
		}
		if f.FirstSeen != start+1 || f.LastSeen != start+4 || f.Touchpoints != 6 {
			t.Fatalf("first %v last %v touchpoints %d", f.FirstSeen, f.LastSeen, f.Touchpoints)
		}
	}
}

func TestARemovedTraitStaysRemovedWhenAnOlderOneComesLate(t *testing.T) {
	f := fold([]event{identify(start+2, 1, "city", `null`)})
	f.Merge(fold([]event{identify(start+1, 2, "city", `"London"`)}))
	if got := f.LiveTraits(); len(got) != 0 {
		t.Errorf("traits %s", text(got))
	}
}

func TestValuesAreCopied(t *testing.T) {
	e := identify(start, 1, "name", `"Ada"`)
	f := fold([]event{e})
	copy(e.traits[0].Value, `"Eve"`)
	if got := text(f.Traits); got != `name="Ada" ` {
		t.Errorf("traits %s", got)
	}
}

func TestACloneIsAnotherSet(t *testing.T) {
	f := fold([]event{identify(start, 1, "name", `"Ada"`)})
	before := string(f.Append(nil))
	c := f.Clone()
	c.Add(&customer.Touch{Touch: identify(start+1, 2, "name", `"Eve"`).touch, Traits: traits("name", `"Eve"`, "age", `5`)}, nil)
	c.Add(&customer.Touch{Touch: lifecycle.Touch{Ref: ref(start-1, 3), Meaning: policy.Purchase}}, nil)
	if string(f.Append(nil)) != before {
		t.Error("adding to a clone changed the original")
	}
}

func TestView(t *testing.T) {
	p := policy.Default().Compile()
	ten, _ := domain.ParseDecimal("10")
	f := fold([]event{
		identify(start, 1, "name", `"Ada"`),
		{lifecycle.Touch{
			Ref: ref(start+domain.Day, 2), Meaning: policy.Purchase,
			Order: commerce.Order{ID: "a", Amount: ten, State: commerce.AmountRead},
		}, nil},
	})
	v, past, future := f.View(start+62*domain.Day, p)
	if v.Stage != lifecycle.AtRisk || v.StageSince != start+61*domain.Day || v.Reason != "no purchase for 60 days" ||
		v.Cause != (lifecycle.Cause{Rule: lifecycle.RuleAtRisk, Touchpoint: uuid.UUID{15: 2}}) ||
		v.Totals.Purchases != 1 || v.Totals.Revenue["USD"] != ten || v.FirstSeen != start || v.LastSeen != start+domain.Day ||
		text(v.Traits) != `name="Ada" ` {
		t.Errorf("view %+v", v)
	}
	if len(past) != 3 || len(future) != 2 || future[0].To != lifecycle.Churned || future[1].To != lifecycle.Lost {
		t.Errorf("past %v, future %v", past, future)
	}
	if v, past, future := f.View(start+61*domain.Day-1, p); v.Stage != lifecycle.FirstPurchase || len(past) != 2 || len(future) != 3 {
		t.Errorf("a millisecond before the deadline: %+v", v)
	}
	if v, past, _ := f.View(start-1, p); v.Stage != lifecycle.None || len(past) != 0 {
		t.Errorf("before the first touchpoint: %+v", v)
	}
	var empty customer.Facts
	if v, past, future := empty.View(start, p); v.Stage != lifecycle.None || past != nil || future != nil {
		t.Errorf("a customer without touchpoints: %+v", v)
	}
}

func drawEvents(t *rapid.T) []event {
	n := rapid.IntRange(0, 12).Draw(t, "events")
	var events []event
	for i := range n {
		e := event{touch: lifecycle.Touch{
			Ref:       ref(start+domain.Millis(rapid.IntRange(0, 5).Draw(t, "at"))*30*domain.Day, byte(i)),
			Meaning:   rapid.SampledFrom([]policy.Meaning{policy.Identity, policy.Purchase, policy.Refund, policy.Engagement}).Draw(t, "meaning"),
			UnderUser: rapid.Bool().Draw(t, "user"),
		}}
		e.touch.Order.ID = rapid.SampledFrom([]string{"a", "b"}).Draw(t, "order")
		for _, key := range []string{"x", "y"} {
			if value := rapid.SampledFrom([]string{"", "", "1", `"two"`, "null"}).Draw(t, "value"); value != "" {
				e.traits = append(e.traits, customer.Trait{Key: key, Value: []byte(value)})
			}
		}
		events = append(events, e)
	}
	return events
}

// Whatever the order, the batches and the subjects, equal sets are equal bytes.
func TestOrderOfArrivalChangesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		events := drawEvents(t)
		want := fold(events).Append(nil)
		for seed := range uint64(3) {
			events := slices.Clone(events)
			rand.New(rand.NewPCG(seed, 1)).Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
			var merged customer.Facts
			for _, e := range events {
				part := fold([]event{e})
				var stored customer.Facts
				if err := stored.Parse(part.Append(nil)); err != nil {
					t.Fatal(err)
				}
				merged.Merge(&stored)
			}
			if string(fold(events).Append(nil)) != string(want) || string(merged.Append(nil)) != string(want) {
				t.Fatal("the facts depend on the order")
			}
		}
		var back customer.Facts
		if err := back.Parse(want); err != nil || string(back.Append(nil)) != string(want) {
			t.Fatalf("stored facts are others: %v", err)
		}
		for i := range want {
			if err := new(customer.Facts).Parse(want[:i]); err == nil {
				t.Fatalf("%d of %d bytes were read", i, len(want))
			}
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add([]byte{})
	f.Add(fold([]event{identify(start, 1, "name", `"Ada"`, "age", `null`)}).Append(nil))
	p := policy.Default().Compile()
	f.Fuzz(func(t *testing.T, b []byte) {
		var facts customer.Facts
		if facts.Parse(b) != nil {
			return
		}
		facts.View(start, p)
		again := facts.Append(nil)
		var same customer.Facts
		if err := same.Parse(again); err != nil || string(same.Append(nil)) != string(again) {
			t.Fatalf("what was read cannot be stored: %v", err)
		}
	})
}

func BenchmarkAdd(b *testing.B) {
	f := fold([]event{identify(start, 1, "name", `"Ada"`)})
	view := &customer.Touch{Touch: lifecycle.Touch{Ref: ref(start+1, 2), Meaning: policy.Engagement, UnderUser: true}}
	b.ReportAllocs()
	for b.Loop() {
		f.Add(view, nil)
	}
}
