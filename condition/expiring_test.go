package condition_test

import (
	"strings"
	"testing"

	"sojourn/condition"
	"sojourn/domain"
)

func TestExpiring(t *testing.T) {
	const text = `expiring("club", duration("14d")) >= 100 && expiring("club", duration("1d")) == 0`
	c, err := condition.Compile(text, condition.Env{Programmes: map[string][]string{"club": nil}})
	if err != nil {
		t.Fatal(err)
	}
	soon, now := condition.Expiring{Programme: "club", Within: 14 * domain.Day}, condition.Expiring{Programme: "club", Within: domain.Day}
	if got := c.Needs().Expiring; len(got) != 2 || got[0] != now || got[1] != soon {
		t.Errorf("it needs %v", got)
	}
	s := &condition.Subject{FirstSeen: begin, Expiring: map[condition.Expiring][]condition.Step[int64]{
		soon: {{At: begin + 10, Value: 99}, {At: begin + 20, Value: 150}, {At: begin + 50, Value: 0}},
		now:  {{At: begin + 40, Value: 150}, {At: begin + 50, Value: 0}},
	}}
	for at, want := range map[domain.Millis]struct {
		member bool
		next   domain.Millis
	}{
		0: {false, 10}, 10: {false, 20}, 20: {true, 40}, 39: {true, 40}, 40: {false, 50}, 50: {false, domain.MaxTime - begin},
	} {
		if member, next := c.Eval(s, begin+at, nil); member != want.member || next != begin+want.next {
			t.Errorf("at %d: %v until %d", at, member, next-begin)
		}
	}
	if s.ExpiringAt(soon, begin+30) != 150 || s.ExpiringAt(soon, begin) != 0 {
		t.Error("another number than its steps say")
	}
	for text, want := range map[string]string{
		`expiring("clb", duration("14d")) > 0`:      `1:10: there is no programme "clb"`,
		`expiring("club", duration("0d")) > 0`:      "longer than nothing",
		`expiring("club", since(first_seen)) > 0`:   "a window must be written out",
		`expiring("club") > 0`:                      "does not take",
		`expiring("club", duration("1d")) == "one"`: "",
	} {
		if _, err := condition.Compile(text, condition.Env{Programmes: map[string][]string{"club": nil}}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
