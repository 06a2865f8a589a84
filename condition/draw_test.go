package condition_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"sojourn/condition"
	"sojourn/domain"
)

// The tests draw customers and conditions from a small world of some hundred
// milliseconds and few names, so that edges meet.

const (
	begin = domain.Millis(1_700_000_000_000)
	span  = 200
)

var (
	stages    = []string{"visitor", "lead", "loyal", "at_risk"}
	statuses  = []string{"satisfied", "unhappy", "unknown"}
	tiers     = []string{"basic", "gold", ""}
	events    = []string{"Order Completed", "O'Brien \\ 50%", "Page"}
	meanings  = []string{"purchase", "refund"}
	accounts  = []string{"acme", "x'y"}
	segments  = []string{"vip", "new"}
	clubs     = []string{"club", "shop"}
	curencies = []string{"EUR", "USD"}
	keys      = []string{"plan", "age", "vip", "address", "no 'key'"}
	values    = []string{
		`"pro"`, `"prö"`, `"p"`, `""`, `"a\"b\\c"`, `"\u00fc"`, `3`, `3.0`, `2.5`, `-1`, `1e2`, `0.1`, `12345678901234567890`, `1e300`, `true`, `false`,
		`null`, `[1]`, `{"city":"Bern","plan":"pro","age":3}`, `{"city":{"city":true}}`, `{}`, `"2.5"`, `9007199254740993`, `-0.0`,
		`123456789012345678901234567890`, `-99999999999999999999`, `18446744073709551615`, `1e999`, `[1e999]`, `"\ud800"`, `"\ud83d\ude00"`, `"x\udc00\ud83d\ude00"`, `{"city":1e999,"plan":"\ud83dpro"}`,
	}
	texts   = []string{"pro", "prö", "p", "", `a"b\c`, "ü", "Bern", "2.5", "loyal", "gold", "😀", "\ufffd"}
	withins = []domain.Millis{1, 10, 40, 79}
	numbers = []string{"3", "2.5", "-1", "100", "0", "0.1", "1.0", "2", "9007199254740993", "12345678901234.5"}
)

type draw struct{ *rand.Rand }

func pick[T any](d draw, list []T) T { return list[d.IntN(len(list))] }

func (d draw) at() domain.Millis { return begin + domain.Millis(d.IntN(span)) }

func steps[T any](d draw, most int, from domain.Millis, value func() T) []condition.Step[T] {
	var all []condition.Step[T]
	for range d.IntN(most + 1) {
		all = append(all, condition.Step[T]{At: max(from, d.at()), Value: value()})
	}
	slices.SortStableFunc(all, func(a, b condition.Step[T]) int { return int(a.At - b.At) })
	return all
}

// move is a line of a ledger: points of a lot that expires then, 0 for never.
type move struct {
	at, expires domain.Millis
	points      int64
}

// ledger draws the lines of some lots: points that come, are spent, and at last expire.
func (d draw) ledger(from domain.Millis) (all []move) {
	for range d.IntN(5) {
		came := max(from, d.at())
		var expires domain.Millis
		if d.IntN(6) > 0 {
			expires = came + domain.Millis(d.IntN(100))
		}
		left := int64(1 + d.IntN(4))
		all = append(all, move{came, expires, left})
		for range d.IntN(3) {
			n := int64(d.IntN(int(left) + 1))
			if at := came + domain.Millis(d.IntN(100)); expires == 0 || at <= expires {
				all = append(all, move{at, expires, -n})
				left -= n
			}
		}
		if expires != 0 {
			all = append(all, move{expires, expires, -left})
		}
	}
	return all
}

// soon are the steps of how many points of a ledger expire within a time: what each
// instant says, asked one after the other.
func soon(ledger []move, within domain.Millis) (all []condition.Step[int64]) {
	before := int64(0)
	for at := begin - 100; at < begin+2*span; at++ {
		points := int64(0)
		for _, m := range ledger {
			if m.at <= at && m.expires != 0 && m.expires <= at+within {
				points += m.points
			}
		}
		if points != before {
			all = append(all, condition.Step[int64]{At: at, Value: points})
			before = points
		}
	}
	return all
}

// subject draws a customer.
func (d draw) subject() *condition.Subject {
	s, _ := d.person()
	return s
}

// person draws a customer, and the ledgers that its steps are of, by programme.
func (d draw) person() (*condition.Subject, map[string][]move) {
	s := &condition.Subject{
		Expiring: map[condition.Expiring][]condition.Step[int64]{},
		Tiers:    map[string][]condition.Step[string]{}, Points: map[string][]condition.Step[int64]{}, Traits: map[string][]condition.Step[[]byte]{},
		Accounts: map[string]condition.Touch{}, Segments: map[string][]condition.Step[bool]{}, Touchpoints: map[condition.Selector][]condition.Touch{},
	}
	s.FirstSeen = begin + domain.Millis(d.IntN(60))
	s.Stage = append([]condition.Step[string]{{At: s.FirstSeen, Value: "visitor"}}, steps(d, 3, s.FirstSeen, func() string { return pick(d, stages) })...)
	s.Status = steps(d, 3, s.FirstSeen, func() string { return pick(d, statuses) })
	s.Index = steps(d, 3, s.FirstSeen, func() float64 { return pick(d, []float64{0, 50.0001, 80, 80.5, math.NaN()}) })
	s.Complaints = steps(d, 2, s.FirstSeen, func() int64 { return int64(d.IntN(3)) })
	for _, p := range clubs {
		if d.IntN(3) > 0 {
			s.Tiers[p] = steps(d, 3, s.FirstSeen, func() string { return pick(d, tiers) })
		}
		if d.IntN(3) > 0 {
			s.Points[p] = steps(d, 3, s.FirstSeen, func() int64 { return int64(d.IntN(5) - 1) })
		}
	}
	for _, k := range keys {
		s.Traits[k] = steps(d, 3, s.FirstSeen, func() []byte { return []byte(pick(d, values)) })
	}
	for _, a := range accounts {
		if d.IntN(3) == 0 {
			s.Accounts[a] = condition.Touch{At: d.at()}
		}
	}
	for _, a := range segments {
		s.Segments[a] = steps(d, 2, s.FirstSeen, func() bool { return d.IntN(2) == 0 })
	}
	touches := func() []condition.Touch {
		var all []condition.Touch
		for range d.IntN(8) {
			t := condition.Touch{At: max(s.FirstSeen, d.at())}
			if d.IntN(3) > 0 {
				t.Amount, _ = domain.ParseDecimal(pick(d, []string{"3", "2.5", "1", "99999999999999.9999", "-1"}))
				t.Currency = pick(d, curencies)
			}
			all = append(all, t)
		}
		slices.SortStableFunc(all, func(a, b condition.Touch) int { return int(a.At - b.At) })
		return all
	}
	for _, name := range events {
		s.Touchpoints[condition.Selector{Name: name}] = touches()
	}
	for _, m := range meanings {
		s.Touchpoints[condition.Selector{Meaning: m}] = touches()
	}
	ledgers := map[string][]move{}
	for _, p := range clubs {
		ledgers[p] = d.ledger(s.FirstSeen)
		for _, within := range withins {
			s.Expiring[condition.Expiring{Programme: p, Within: within}] = soon(ledgers[p], within)
		}
	}
	return s, ledgers
}

func quoted(s string) string { return strconv.Quote(s) }

func list(all []string) string { return "[" + strings.Join(all, ", ") + "]" }

func (d draw) condition(depth int) string {
	if depth > 0 {
		switch d.IntN(5) {
		case 0, 1:
			return "(" + d.condition(depth-1) + " && " + d.condition(depth-1) + ")"
		case 2, 3:
			return "(" + d.condition(depth-1) + " || " + d.condition(depth-1) + ")"
		default:
			return "!(" + d.condition(depth-1) + ")"
		}
	}
	both := pick(d, []string{"==", "!=", "<", "<=", ">", ">="})
	same := pick(d, []string{"==", "!="})
	compare := func(op, a, b string) string {
		if d.IntN(4) == 0 {
			a, b = b, a
		}
		return a + " " + op + " " + b
	}
	switch d.IntN(15) {
	case 0:
		return compare(same, "stage", quoted(pick(d, stages)))
	case 1:
		return d.text() + " in " + list([]string{quoted(pick(d, texts)), quoted(pick(d, stages))})
	case 2:
		return d.text() + pick(d, []string{".contains(", ".startsWith(", ".endsWith("}) + quoted(pick(d, texts)) + ")"
	case 3:
		return compare(both, d.text(), quoted(pick(d, texts)))
	case 4:
		return d.text() + " " + both + " " + pick(d, []string{"stage", "satisfaction", `tier("club")`})
	case 5, 6:
		return compare(both, d.number(), pick(d, []string{"0", "1", "2", "3", "2.5", "-1", d.number()}))
	case 7:
		if d.IntN(3) == 0 {
			return compare(both, "satisfaction_index", pick(d, []string{"50", "80", "80.5", "50.0001"}))
		}
		return compare(both, d.trait(), pick(d, numbers))
	case 8:
		return d.trait() + " in " + list([]string{pick(d, numbers), pick(d, numbers)})
	case 9:
		return pick(d, []string{d.trait(), "!" + d.trait(), d.trait() + " " + same + " true", "has(" + d.key() + ")"})
	case 10:
		return pick(d, []string{"in_account(" + quoted(pick(d, accounts)) + ")", "in_segment(" + quoted(pick(d, segments)) + ")", "in_segment(" + quoted(pick(d, segments)) + ") == false"})
	case 11, 12:
		return compare(both, "since("+d.instant()+")", d.duration())
	case 13:
		return d.instant() + " " + both + " " + d.instant()
	default:
		return compare(both, d.instant(), fmt.Sprintf("timestamp(%q)", d.at().String()))
	}
}

func (d draw) duration() string { return fmt.Sprintf("duration(\"%dms\")", d.IntN(80)) }

func (d draw) window() string {
	if d.IntN(3) == 0 {
		return ""
	}
	return fmt.Sprintf(", duration(\"%dms\")", 1+d.IntN(80))
}

func (d draw) selector() string {
	if d.IntN(2) == 0 {
		return "meaning(" + quoted(pick(d, meanings)) + ")"
	}
	return "named(" + quoted(pick(d, events)) + ")"
}

func (d draw) key() string {
	return "traits." + pick(d, []string{"plan", "age", "vip", "address", "address.city", "address.city.city", "address.plan"})
}

func (d draw) trait() string {
	if d.IntN(6) == 0 {
		return `traits["no 'key'"]`
	}
	return d.key()
}

func (d draw) text() string {
	return pick(d, []string{"stage", "satisfaction", "tier(" + quoted(pick(d, clubs)) + ")", d.trait(), d.trait()})
}

func (d draw) number() string {
	return pick(d, []string{
		"count(" + d.selector() + d.window() + ")", "count(" + d.selector() + d.window() + ")", "open_complaints", "points(" + quoted(pick(d, clubs)) + ")", d.expiring(), d.expiring() + " + points(" + quoted(pick(d, clubs)) + ")",
		"sum(" + d.selector() + ", " + quoted(pick(d, curencies)) + d.window() + ")", "size(" + d.text() + ")",
		"count(" + d.selector() + d.window() + ") + 1 - open_complaints", "sum(" + d.selector() + ", \"EUR\"" + d.window() + ") - sum(" + d.selector() + ", \"USD\")",
	})
}

func (d draw) expiring() string {
	return fmt.Sprintf("expiring(%q, duration(\"%dms\"))", pick(d, clubs), pick(d, withins))
}

func (d draw) instant() string {
	return pick(d, []string{
		"stage_since", "first_seen", "satisfaction_since", "tier_since(" + quoted(pick(d, clubs)) + ")",
		"first(" + d.selector() + d.window() + ")", "last(" + d.selector() + d.window() + ")",
	})
}
