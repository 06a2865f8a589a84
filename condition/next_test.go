package condition_test

import (
	"math/rand/v2"
	"testing"

	"sojourn/condition"
	"sojourn/domain"
)

// TestNext holds what Eval says of the next instant against every instant.
func TestNext(t *testing.T) {
	for seed := range uint64(4000) {
		d := draw{rand.New(rand.NewPCG(seed, 7))}
		text := d.condition(d.IntN(3))
		c, err := condition.Compile(text, condition.Env{})
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		s := d.subject()
		const margin = 5
		members := make([]bool, span+100)
		for i := range members {
			members[i], _ = c.Eval(s, begin-margin+domain.Millis(i), nil)
		}
		for i := range members {
			at := begin - margin + domain.Millis(i)
			_, next := c.Eval(s, at, nil)
			if next <= at {
				t.Fatalf("seed %d: %s: the next instant after %d is %d", seed, text, i, next-at)
			}
			for j := i + 1; j < len(members) && begin-margin+domain.Millis(j) < next; j++ {
				if members[j] != members[i] {
					t.Fatalf("seed %d: %s: at %d nothing was to change before %d, and changed at %d", seed, text, i, next-begin+margin, j)
				}
			}
		}
		changes, _ := c.Changes(s, begin-margin+domain.Millis(len(members)-1))
		in := false
		for i, is := range members {
			for len(changes) > 0 && changes[0].At == begin-margin+domain.Millis(i) {
				if changes[0].Value == in {
					t.Fatalf("seed %d: %s: a change to what was", seed, text)
				}
				in, changes = changes[0].Value, changes[1:]
			}
			if in != is {
				t.Fatalf("seed %d: %s: changes say %v at %d", seed, text, in, i)
			}
		}
	}
}

// TestWakes: a count that is compared with a number is looked at when it reaches it,
// not with each touchpoint that comes or goes.
func TestWakes(t *testing.T) {
	c, err := condition.Compile(`count(named("x"), duration("10d")) >= 3`, condition.Env{})
	if err != nil {
		t.Fatal(err)
	}
	s := &condition.Subject{FirstSeen: begin, Touchpoints: map[condition.Selector][]condition.Touch{}}
	for i := range domain.Millis(9) {
		s.Touchpoints[condition.Selector{Name: "x"}] = append(s.Touchpoints[condition.Selector{Name: "x"}], condition.Touch{At: begin + i*domain.Day})
	}
	member, next := c.Eval(s, begin, nil)
	if member || next != begin+2*domain.Day {
		t.Errorf("at first %v until %s", member, next)
	}
	member, next = c.Eval(s, begin+8*domain.Day, nil)
	if !member || next != begin+16*domain.Day {
		t.Errorf("with nine %v until %s", member, next)
	}
	member, next = c.Eval(s, begin+16*domain.Day, nil)
	if member || next != domain.MaxTime {
		t.Errorf("at last %v until %s", member, next)
	}
}
