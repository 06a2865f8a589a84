package loyalty_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"sojourn/domain"
	"sojourn/domain/commerce"
	"sojourn/domain/loyalty"
	"sojourn/domain/policy"
)

// A spec says: given these rules, touchpoints and commands, then these lines of
// the ledger up to a day, and these changes of tier. Events are #1, #2, … in the
// order in which they are given, and that is the order of their ids.
type spec struct {
	name string
	// rules is the programme as JSON, without its id; {} is the default.
	rules string
	// later are policies that were applied after the first.
	later []applied
	given []step
	// until is the day of the clock; without it, that of the last event.
	until float64
	// then has the lines, "day kind points = available/pending/debt"; empty for
	// any.
	then string
	// tiers has the changes, "day name until day"; empty for any.
	tiers string
	// lots has the lots that have points left, "points until day"; empty for any.
	lots string
	also func(t *testing.T, l *loyalty.Ledger)
}

type applied struct {
	day      float64
	rules    string
	rollback bool
}

// step is a touchpoint or a command.
type step struct {
	touch   *loyalty.Touch
	command *loyalty.Command
}

var day0 = domain.MillisOf(time.Date(2024, 1, 1, 12, 0, 0, 0, time.UTC))

// day is an instant so many days after day 0.
func day(n float64) domain.Millis { return day0 + domain.Millis(n*float64(domain.Day)) }

func id(n int) uuid.UUID { return uuid.UUID{14: byte(n >> 8), 15: byte(n)} }

func decimal(text string) domain.Decimal {
	d, ok := domain.ParseDecimal(text)
	if !ok {
		panic("bad number in a spec: " + text)
	}
	return d
}

func touch(at float64, m policy.Meaning) step {
	t := &loyalty.Touch{Meaning: m, Channel: policy.Web}
	t.At = day(at)
	return step{touch: t}
}

func visit(at float64) step { return touch(at, policy.Engagement) }

// order reads "12.50", "12.50 EUR", "" (no amount) or "?" (one that cannot be
// read), and products as "product:category:price×quantity", "product" alone or
// any part of it.
func order(at float64, m policy.Meaning, id, amount string, products ...string) step {
	s := touch(at, m)
	o := &s.touch.Order
	o.ID = id
	text, currency, _ := strings.Cut(amount, " ")
	o.Currency = currency
	switch text {
	case "":
	case "?":
		o.State = commerce.AmountUnreadable
	default:
		o.Amount, o.State = decimal(text), commerce.AmountRead
	}
	for _, p := range products {
		s.touch.Lines = append(s.touch.Lines, line(p))
	}
	return s
}

func line(text string) loyalty.Line {
	l := loyalty.Line{Quantity: decimal("1")}
	parts := strings.Split(text, ":")
	l.Product = parts[0]
	if len(parts) > 1 {
		l.Category = parts[1]
	}
	if len(parts) > 2 {
		price, quantity, many := strings.Cut(parts[2], "×")
		if many {
			l.Quantity = decimal(quantity)
		}
		if price != "" {
			l.Priced = true
			l.Amount, _ = decimal(price).Mul(l.Quantity)
		}
	}
	return l
}

func buy(at float64, id, amount string, products ...string) step {
	return order(at, policy.Purchase, id, amount, products...)
}

func refund(at float64, id, amount string, products ...string) step {
	return order(at, policy.Refund, id, amount, products...)
}

func update(at float64, id, amount string, products ...string) step {
	return order(at, policy.OrderUpdate, id, amount, products...)
}

func cancelOrder(at float64, id string) step { return order(at, policy.Cancellation, id, "") }

func (s step) by(channel string) step {
	s.touch.Channel = channel
	return s
}

func event(at float64, name string, product ...string) step {
	s := touch(at, policy.Feedback)
	s.touch.Name = name
	for _, p := range product {
		s.touch.Lines = append(s.touch.Lines, line(p))
	}
	return s
}

func born(at float64, month, day int) step {
	s := touch(at, policy.Identity)
	s.touch.Birthday = loyalty.Birthday{Told: true, Month: month, Day: day}
	return s
}

func command(at float64, kind loyalty.CommandKind, points int64) step {
	c := &loyalty.Command{Kind: kind, Points: points, Programme: "p"}
	c.At = day(at)
	return step{command: c}
}

func redeem(at float64, points int64) step { return command(at, loyalty.Redeem, points) }

// undo cancels the redemption that is event #n.
func undo(at float64, n int) step {
	s := command(at, loyalty.Cancel, 0)
	s.command.Of = id(n)
	return s
}

func adjust(at float64, points int64) step { return command(at, loyalty.Adjust, points) }

func (s step) counts() step {
	s.command.CountsForTier = true
	return s
}

// parts are pairs of points and the day on which they expire.
func (s step) parts(pairs ...float64) step {
	for i := 0; i < len(pairs); i += 2 {
		s.command.Parts = append(s.command.Parts, loyalty.Part{Points: int64(pairs[i]), Expires: day(pairs[i+1])})
	}
	return s
}

func (s step) tier(name string, until float64) step {
	s.command.Tier, s.command.TierUntil = name, day(until)
	return s
}

func enroll(at float64) step { return command(at, loyalty.Enroll, 0) }

func opening(at float64) step { return command(at, loyalty.Opening, 0) }

// send and receive are the ends of a transfer; the other end is event #n.
func send(at float64, points int64, n int) step {
	s := command(at, loyalty.TransferOut, points)
	s.command.Of = id(n)
	return s
}

func receive(at float64, n int) step {
	s := command(at, loyalty.TransferIn, 0)
	s.command.Of = id(n)
	return s
}

// policyOf is the policy with programme p of the rules.
func policyOf(rules string) policy.Policy {
	if rules == "" {
		rules = "{}"
	}
	doc := `{"loyalty":{"programmes":[` + strings.Replace(rules, "{", `{"id":"p",`, 1) + `]}}`
	if rules == "{}" {
		doc = `{"loyalty":{"programmes":[{"id":"p"}]}}`
	}
	if rules == "none" {
		doc = `{"loyalty":{"programmes":[]}}`
	}
	p, err := policy.Decode([]byte(doc))
	if err != nil {
		panic(err)
	}
	if err := p.Validate(); err != nil {
		panic(err)
	}
	return p
}

func (s *spec) rulebook() *loyalty.Rulebook {
	history := []loyalty.AppliedPolicy{{Policy: policyOf(s.rules), At: day(-1000)}}
	for _, a := range s.later {
		history = append(history, loyalty.AppliedPolicy{Policy: policyOf(a.rules), At: day(a.day), Rollback: a.rollback})
	}
	return loyalty.Resolve(history)
}

// numbered gives the events their ids.
func numbered(given []step) []step {
	for i := range given {
		if t := given[i].touch; t != nil {
			t.ID = id(i + 1)
		} else {
			given[i].command.ID = id(i + 1)
		}
	}
	return given
}

func (s step) ref() loyalty.Ref {
	if s.touch != nil {
		return s.touch.Ref
	}
	return s.command.Ref
}

func (s step) add(f *loyalty.Facts, rules *loyalty.Rulebook) {
	if s.touch != nil {
		f.Add(*s.touch, rules)
	} else {
		f.AddCommand(*s.command)
	}
}

func factsOf(steps []step, rules *loyalty.Rulebook) *loyalty.Facts {
	f := &loyalty.Facts{}
	for _, s := range steps {
		s.add(f, rules)
	}
	return f
}

// days is an instant in days after day 0, with the milliseconds that are over.
func days(at domain.Millis) string {
	if at == policy.Never {
		return "ever"
	}
	text := strconv.FormatFloat(float64(at-day0)/float64(domain.Day), 'f', 4, 64)
	return strings.TrimSuffix(strings.TrimRight(text, "0"), ".")
}

func lines(l *loyalty.Ledger) string {
	var list []string
	for _, m := range l.Movements {
		list = append(list, fmt.Sprintf("%s %s %d = %d/%d/%d", days(m.At), m.Kind, m.Points, m.Balance.Available, m.Balance.Pending, m.Balance.Debt))
	}
	return strings.Join(list, "\n")
}

func tierLines(l *loyalty.Ledger) string {
	var list []string
	for _, tr := range l.Transitions {
		list = append(list, fmt.Sprintf("%s %s until %s", days(tr.At), tr.To, days(tr.Until)))
	}
	return strings.Join(list, "\n")
}

func lotLines(l *loyalty.Ledger) string {
	var list []string
	for _, lot := range l.Lots {
		if n := lot.Pending + lot.Available; n > 0 {
			list = append(list, fmt.Sprintf("%d until %s", n, days(lot.Expires)))
		}
	}
	return strings.Join(list, "\n")
}

// want is a text of lines that may be indented or separated by semicolons.
func want(text string) string {
	var list []string
	for _, part := range strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == ';' }) {
		if part = strings.TrimSpace(part); part != "" {
			list = append(list, part)
		}
	}
	return strings.Join(list, "\n")
}

// sound says what no ledger may break.
func sound(l *loyalty.Ledger) error {
	if !l.Totals.Conserved() {
		return fmt.Errorf("not conserved: %+v", l.Totals)
	}
	var b loyalty.Balance
	last := policy.Always
	for i, m := range l.Movements {
		b.Available += m.Available
		b.Pending += m.Pending
		b.Debt += m.Debt
		switch {
		case b != m.Balance:
			return fmt.Errorf("line %d does not explain the balance: %+v", i, m)
		case b.Available < 0 || b.Pending < 0 || b.Debt < 0 || m.Points < 0:
			return fmt.Errorf("line %d is below zero: %+v", i, m)
		case m.At < last:
			return fmt.Errorf("line %d is out of order: %+v", i, m)
		case m.Cause == (loyalty.Cause{}):
			return fmt.Errorf("line %d has no cause: %+v", i, m)
		}
		last = m.At
	}
	if b != l.Totals.Balance {
		return fmt.Errorf("the lines give %+v, the balance is %+v", b, l.Totals.Balance)
	}
	if b.Debt > 0 && b.Available > 0 {
		return fmt.Errorf("points that could pay the debt: %+v", b)
	}
	var sum loyalty.Balance
	for i, lot := range l.Lots {
		sum.Available += lot.Available
		sum.Pending += lot.Pending
		if n := lot.Pending + lot.Available + lot.Redeemed + lot.Expired + lot.Reversed + lot.Adjusted + lot.Transferred + lot.Repaid; n != lot.Points {
			return fmt.Errorf("lot %d does not add up: %+v", i, lot)
		}
	}
	if sum.Available != b.Available || sum.Pending != b.Pending {
		return fmt.Errorf("the lots have %+v, the balance is %+v", sum, b)
	}
	from := ""
	for i, tr := range l.Transitions {
		if tr.From != from || tr.To == from {
			return fmt.Errorf("transition %d is from %q, not %q: %+v", i, tr.From, from, tr)
		}
		from = tr.To
	}
	if from != l.Tier.Name {
		return fmt.Errorf("the tier is %q, the transitions end with %q", l.Tier.Name, from)
	}
	return nil
}

func TestSpecs(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range specs {
		if seen[s.name] {
			t.Errorf("%q is there twice", s.name)
		}
		seen[s.name] = true
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			steps := numbered(s.given)
			rules := s.rulebook()
			p := rules.Programme("p")
			until := day(s.until)
			if s.until == 0 {
				for _, g := range steps {
					until = max(until, g.ref().At)
				}
			}
			facts := factsOf(steps, rules)
			got := loyalty.Fold(facts, p, until)
			if err := sound(&got); err != nil {
				t.Error(err)
			}
			for what, texts := range map[string][2]string{
				"lines": {lines(&got), s.then}, "tiers": {tierLines(&got), s.tiers}, "lots": {lotLines(&got), s.lots},
			} {
				if texts[1] != "" && texts[0] != want(texts[1]) {
					t.Errorf("%s:\n%s\nwant\n%s", what, texts[0], want(texts[1]))
				}
			}
			if s.also != nil {
				s.also(t, &got)
			}
			same(t, steps, rules, got, until)
		})
	}
	if len(specs) < 60 {
		t.Errorf("%d histories", len(specs))
	}
}

// same tells the history in other orders, with repeats, in parts, and from bytes.
func same(t *testing.T, steps []step, rules *loyalty.Rulebook, want loyalty.Ledger, until domain.Millis) {
	t.Helper()
	p := rules.Programme("p")
	random := rand.New(rand.NewPCG(1, uint64(len(steps))))
	check := func(how string, f *loyalty.Facts) {
		t.Helper()
		if got := loyalty.Fold(f, p, until); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: another ledger\n%s\n%s", how, lines(&got), tierLines(&got))
		}
	}
	for range 3 {
		twice := append(slices.Clone(steps), steps...)
		random.Shuffle(len(twice), func(i, j int) { twice[i], twice[j] = twice[j], twice[i] })
		check("shuffled and repeated", factsOf(twice, rules))
		var whole loyalty.Facts
		for cut := 0; cut < len(twice); {
			n := 1 + random.IntN(len(twice)-cut)
			whole.Merge(factsOf(twice[cut:cut+n], rules))
			cut += n
		}
		check("merged", &whole)
		var read loyalty.Facts
		if err := read.Parse(whole.Append(nil)); err != nil {
			t.Error(err)
		}
		check("stored", &read)
	}
	// What the clock cuts is a beginning of the rest.
	f := factsOf(steps, rules)
	for _, m := range want.Movements {
		early := loyalty.Fold(f, p, m.At)
		n := len(early.Movements)
		if n == 0 || n > len(want.Movements) || !slices.Equal(early.Movements, want.Movements[:n]) ||
			n < len(want.Movements) && want.Movements[n].At <= m.At {
			t.Errorf("at %s another past:\n%s", days(m.At), lines(&early))
		}
		if k := len(early.Transitions); k > len(want.Transitions) || !slices.Equal(early.Transitions, want.Transitions[:k]) {
			t.Errorf("at %s other tiers:\n%s", days(m.At), tierLines(&early))
		}
		if early.Next != policy.Never && early.Next <= m.At {
			t.Errorf("at %s the next deadline is %s", days(m.At), days(early.Next))
		}
	}
}
