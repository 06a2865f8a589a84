package policy

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // a programme's time zone is the same on every machine

	"sojourn/domain"
)

// Loyalty is the loyalty section of a policy. Rules about points look forward:
// which of them hold at an instant is the matter of domain/loyalty.Resolve, from
// all policies that were applied.
type Loyalty struct {
	// Programmes run side by side; the first is the one that is meant where none
	// is named. Nil stands for the default programme, an empty list for none.
	Programmes []Programme `json:"programmes" yaml:"programmes"`
}

// Programme is one loyalty programme. What it leaves out is filled in by
// Policy.Expanded.
type Programme struct {
	// ID names it: lower case letters, digits, _ and -, a letter first.
	ID string `json:"id" yaml:"id"`
	// Currency is the one that PerUnit and a spend are counted in; the policy's
	// where empty.
	Currency string `json:"currency" yaml:"currency"`
	// TimeZone is an IANA name: calendar years, birthdays and bare dates are in
	// it. UTC where empty.
	TimeZone string `json:"time_zone" yaml:"time_zone"`
	// From is the instant before which nothing earns, and that of opening
	// balances. Empty: the moment at which the programme is first applied, none in
	// the first policy.
	From string `json:"from,omitempty" yaml:"from,omitempty"`
	// Retroactive lets From lie in the past.
	Retroactive bool       `json:"retroactive,omitempty" yaml:"retroactive,omitempty"`
	Earning     Earning    `json:"earning" yaml:"earning"`
	Expiry      Expiry     `json:"expiry" yaml:"expiry"`
	Value       PointValue `json:"value" yaml:"value"`
	Tiers       Tiers      `json:"tiers" yaml:"tiers"`
}

// The ways into a programme.
const (
	Automatic = "automatic" // from the first touchpoint
	Explicit  = "explicit"  // from the enrolment on
)

// Earning says what gives points. Of it and the three sections behind it: From is
// the instant from which it holds, the moment of apply where empty (none in the
// first policy); Retroactive lets From lie in the past, and without From
// re-judges all history.
type Earning struct {
	From        string `json:"from,omitempty" yaml:"from,omitempty"`
	Retroactive bool   `json:"retroactive,omitempty" yaml:"retroactive,omitempty"`
	// Enrolment is Automatic or Explicit.
	Enrolment string `json:"enrolment" yaml:"enrolment"`
	// PerUnit is the number of points for a unit of the programme's currency;
	// 1 where nil.
	PerUnit *Number `json:"per_unit" yaml:"per_unit"`
	// Rates are the points for a unit of other currencies. A currency without a
	// rate earns nothing.
	Rates map[string]Number `json:"rates" yaml:"rates"`
	// PendingDays is how long points wait until they can be spent.
	PendingDays int `json:"pending_days" yaml:"pending_days"`
	// Events give points for an event of a name.
	Events []EventPoints `json:"events" yaml:"events"`
	// Birthday is the number of points for a birthday.
	Birthday int64 `json:"birthday" yaml:"birthday"`
	// Multipliers: the factors of all that fit are multiplied.
	Multipliers []Multiplier `json:"multipliers" yaml:"multipliers"`
}

// EventPoints gives points for each event of a name, spelt in whatever case, with
// spaces, underscores, hyphens or none.
type EventPoints struct {
	Name   string `json:"name" yaml:"name"`
	Points int64  `json:"points" yaml:"points"`
}

// Multiplier multiplies the points of what fits all that it names.
type Multiplier struct {
	Factor     Number   `json:"factor" yaml:"factor"`
	Products   []string `json:"products,omitempty" yaml:"products,omitempty"`
	Categories []string `json:"categories,omitempty" yaml:"categories,omitempty"`
	Channels   []string `json:"channels,omitempty" yaml:"channels,omitempty"`
	// Tiers are those held just before.
	Tiers []string `json:"tiers,omitempty" yaml:"tiers,omitempty"`
	// Starts and Ends are the period, the end outside it; empty for none.
	Starts string `json:"starts,omitempty" yaml:"starts,omitempty"`
	Ends   string `json:"ends,omitempty" yaml:"ends,omitempty"`
}

// Expiry says how long points live.
type Expiry struct {
	From        string `json:"from,omitempty" yaml:"from,omitempty"`
	Retroactive bool   `json:"retroactive,omitempty" yaml:"retroactive,omitempty"`
	// Days count from earning; 0 for ever, 365 where nil.
	Days *int `json:"days" yaml:"days"`
	// GraceDays is how long points of a cancelled redemption live that would have
	// expired meanwhile; 30 where nil.
	GraceDays *int `json:"grace_days" yaml:"grace_days"`
}

// PointValue says what a point is worth.
type PointValue struct {
	From        string `json:"from,omitempty" yaml:"from,omitempty"`
	Retroactive bool   `json:"retroactive,omitempty" yaml:"retroactive,omitempty"`
	// Point is the worth of one in the programme's currency; 0.01 where nil.
	Point *Number `json:"point" yaml:"point"`
}

// What tiers go by, and over which window.
const (
	ByPoints = "points"
	BySpend  = "spend"

	Trailing = "trailing"
	Calendar = "calendar"
)

// Tiers says what makes a tier.
type Tiers struct {
	From        string `json:"from,omitempty" yaml:"from,omitempty"`
	Retroactive bool   `json:"retroactive,omitempty" yaml:"retroactive,omitempty"`
	// By is ByPoints or BySpend (net of refunds, in the programme's currency).
	By string `json:"by" yaml:"by"`
	// Window is Trailing (Days long) or Calendar (a year).
	Window string `json:"window" yaml:"window"`
	Days   int    `json:"days" yaml:"days"`
	// Levels are in ascending order; the first begins at 0.
	Levels []Level `json:"levels" yaml:"levels"`
}

// Level is one tier.
type Level struct {
	Name string `json:"name" yaml:"name"`
	// Threshold is what the window's total must reach.
	Threshold Number `json:"threshold" yaml:"threshold"`
	// Benefits are names for whoever grants them.
	Benefits []string `json:"benefits" yaml:"benefits"`
}

// Number is a decimal number of a policy, written as a number or as text.
type Number domain.Decimal

// Decimal is the number.
func (n Number) Decimal() domain.Decimal { return domain.Decimal(n) }

// MarshalJSON writes the number as text.
func (n Number) MarshalJSON() ([]byte, error) { return n.Decimal().MarshalJSON() }

// UnmarshalJSON reads a number or a text that holds one.
func (n *Number) UnmarshalJSON(raw []byte) error {
	d, ok := domain.ReadDecimal(raw)
	if !ok {
		return fmt.Errorf("%s is no decimal number", raw)
	}
	*n = Number(d)
	return nil
}

// MarshalYAML writes the number plainly.
func (n Number) MarshalYAML() ([]byte, error) { return []byte(n.Decimal().String()), nil }

// UnmarshalYAML reads a number, in quotes or not. What is none it takes as one
// that Validate refuses, which can say where it stands.
func (n *Number) UnmarshalYAML(raw []byte) error {
	*n = noNumber
	if d, ok := domain.ParseDecimal(string(bytes.Trim(bytes.TrimSpace(raw), `"'`))); ok {
		*n = Number(d)
	}
	return nil
}

// noNumber is below all numbers that can be read.
const noNumber Number = math.MinInt64

// DefaultProgramme is the id of the programme of a policy that names none.
const DefaultProgramme = "default"

func ref[T any](v T) *T { return &v }

// complete is l with all that it leaves out. It shares nothing with l that
// complete changes.
func (l Loyalty) complete(currency string) Loyalty {
	if l.Programmes == nil {
		l.Programmes = []Programme{{ID: DefaultProgramme}}
	}
	l.Programmes = slices.Clone(l.Programmes)
	for i := range l.Programmes {
		l.Programmes[i] = l.Programmes[i].complete(currency)
	}
	return l
}

// tierNames are the tiers of all programmes, each once, in their order.
func (l Loyalty) tierNames() (names []string) {
	for _, p := range l.Programmes {
		for _, t := range p.Tiers.Levels {
			if !slices.Contains(names, t.Name) {
				names = append(names, t.Name)
			}
		}
	}
	return names
}

func (p Programme) complete(currency string) Programme {
	orElse := func(s *string, other string) {
		if *s == "" {
			*s = other
		}
	}
	orElse(&p.Currency, currency)
	orElse(&p.TimeZone, "UTC")
	e := &p.Earning
	orElse(&e.Enrolment, Automatic)
	if e.PerUnit == nil {
		e.PerUnit = ref(Number(one))
	}
	if e.Rates == nil {
		e.Rates = map[string]Number{}
	}
	if e.Events == nil {
		e.Events = []EventPoints{}
	}
	if e.Multipliers == nil {
		e.Multipliers = []Multiplier{}
	}
	if p.Expiry.Days == nil {
		p.Expiry.Days = ref(365)
	}
	if p.Expiry.GraceDays == nil {
		p.Expiry.GraceDays = ref(30)
	}
	if p.Value.Point == nil {
		p.Value.Point = ref(Number(one / 100))
	}
	t := &p.Tiers
	orElse(&t.By, ByPoints)
	orElse(&t.Window, Trailing)
	if t.Days == 0 {
		t.Days = 365
	}
	if t.Levels == nil {
		t.Levels = []Level{
			{Name: "member"},
			{Name: "silver", Threshold: 500 * Number(one)},
			{Name: "gold", Threshold: 2000 * Number(one)},
			{Name: "platinum", Threshold: 5000 * Number(one)},
		}
	}
	t.Levels = slices.Clone(t.Levels)
	for i := range t.Levels {
		if t.Levels[i].Benefits == nil {
			t.Levels[i].Benefits = []string{}
		}
	}
	return p
}

// one is a Decimal of 1.
const one domain.Decimal = 10_000

// Location is the programme's time zone; UTC where it is unknown.
func (p Programme) Location() *time.Location {
	if loc, err := time.LoadLocation(p.TimeZone); err == nil && p.TimeZone != "Local" {
		return loc
	}
	return time.UTC
}

// Instant reads an instant of a policy: RFC 3339, or a date, which is its first
// instant in the time zone. ok is false for anything else and for the empty
// text.
func Instant(text string, zone *time.Location) (at domain.Millis, ok bool) {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		if t, err = time.ParseInLocation(time.DateOnly, text, zone); err != nil {
			return 0, false
		}
	}
	at = domain.MillisOf(t)
	return at, at >= domain.MinTime && at <= domain.MaxTime
}

// The bounds of a programme's numbers.
const (
	maxPoints     = 1_000_000_000
	maxFactor     = 1_000 * one
	maxRate       = 1_000_000 * one
	maxThreshold  = 1_000_000_000_000 * one
	maxProgrammes = 100
	maxLevels     = 100
)

func (l Loyalty) validate(v *validator) {
	if len(l.Programmes) > maxProgrammes {
		v.add([]string{"loyalty", "programmes"}, "%d are more than %d", len(l.Programmes), maxProgrammes)
	}
	seen := map[string]int{}
	for i, p := range l.Programmes {
		at := func(keys ...string) []string {
			return append([]string{"loyalty", "programmes", fmt.Sprint(i)}, keys...)
		}
		p.validate(v, at)
		if before, ok := seen[p.ID]; ok && p.ID != "" {
			v.add(at("id"), "%q is the id of loyalty.programmes[%d] already", p.ID, before)
		} else {
			seen[p.ID] = i
		}
	}
}

func (p Programme) validate(v *validator, at func(...string) []string) {
	if !validID(p.ID) {
		v.add(at("id"), "%q is no id: use lower case letters, digits, _ and -, a letter first, at most %d", p.ID, maxID)
	}
	validCurrency(v, at("currency"), p.Currency)
	if _, err := time.LoadLocation(p.TimeZone); err != nil || p.TimeZone == "Local" {
		v.add(at("time_zone"), "%q is no time zone: write a name such as Europe/Berlin", p.TimeZone)
	}
	instant := func(path []string, text string) {
		if text == "" {
			return
		}
		if _, ok := Instant(text, time.UTC); !ok {
			v.add(path, "%q is no time: write 2026-01-31 or 2026-01-31T12:00:00Z", text)
		}
	}
	instant(at("from"), p.From)
	instant(at("earning", "from"), p.Earning.From)
	instant(at("expiry", "from"), p.Expiry.From)
	instant(at("value", "from"), p.Value.From)
	instant(at("tiers", "from"), p.Tiers.From)
	p.validateEarning(v, func(keys ...string) []string { return append(at("earning"), keys...) }, instant)
	days := func(path []string, n, least int) {
		if n < least || n > maxDays {
			v.add(path, "%d is not between %d and %d days", n, least, maxDays)
		}
	}
	days(at("earning", "pending_days"), p.Earning.PendingDays, 0)
	days(at("expiry", "days"), *p.Expiry.Days, 0)
	days(at("expiry", "grace_days"), *p.Expiry.GraceDays, 0)
	if n := *p.Expiry.Days; n > 0 && n <= p.Earning.PendingDays {
		v.add(at("expiry", "days"), "%d must be more than earning.pending_days, which is %d", n, p.Earning.PendingDays)
	}
	inRange(v, at("value", "point"), *p.Value.Point, maxRate)
	p.validateTiers(v, func(keys ...string) []string { return append(at("tiers"), keys...) })
	days(at("tiers", "days"), p.Tiers.Days, 1)
}

func (p Programme) validateEarning(v *validator, at func(...string) []string, instant func([]string, string)) {
	e := p.Earning
	if known := []string{Automatic, Explicit}; !slices.Contains(known, e.Enrolment) {
		v.add(at("enrolment"), "%q is no way into a programme%s", e.Enrolment, oneOf(e.Enrolment, known))
	}
	inRange(v, at("per_unit"), *e.PerUnit, maxRate)
	for _, currency := range sortedKeys(e.Rates) {
		validCurrency(v, at("rates", currency), currency)
		inRange(v, at("rates", currency), e.Rates[currency], maxRate)
		if currency == p.Currency {
			v.add(at("rates", currency), "is the programme's own currency: its rate is per_unit")
		}
	}
	points := func(path []string, n int64) {
		if n < 0 || n > maxPoints {
			v.add(path, "%d is not between 0 and %d points", n, maxPoints)
		}
	}
	for i, m := range e.Events {
		if fold(nil, m.Name) == nil {
			v.add(at("events", fmt.Sprint(i), "name"), "is missing")
		}
		points(at("events", fmt.Sprint(i), "points"), m.Points)
		for _, before := range e.Events[:i] {
			if SameName(before.Name, m.Name) {
				v.add(at("events", fmt.Sprint(i), "name"), "%q is listed already", m.Name)
				break
			}
		}
	}
	points(at("birthday"), e.Birthday)
	for i, m := range e.Multipliers {
		at := func(keys ...string) []string { return at(append([]string{"multipliers", fmt.Sprint(i)}, keys...)...) }
		if inRange(v, at("factor"), m.Factor, maxFactor) && m.Factor == 0 {
			v.add(at("factor"), "is 0: write what the points are multiplied by")
		}
		for k, c := range m.Channels {
			if !slices.Contains(Channels, c) {
				v.add(at("channels", fmt.Sprint(k)), "%q is no channel%s", c, oneOf(c, Channels))
			}
		}
		for k, name := range m.Tiers {
			if names := p.Tiers.names(); !slices.Contains(names, name) && len(names) > 1 {
				v.add(at("tiers", fmt.Sprint(k)), "%q is no tier of the programme%s", name, oneOf(name, names))
			}
		}
		instant(at("starts"), m.Starts)
		instant(at("ends"), m.Ends)
	}
}

func (t Tiers) names() []string {
	names := make([]string, len(t.Levels))
	for i, l := range t.Levels {
		names[i] = l.Name
	}
	return names
}

func (p Programme) validateTiers(v *validator, at func(...string) []string) {
	t := p.Tiers
	if known := []string{ByPoints, BySpend}; !slices.Contains(known, t.By) {
		v.add(at("by"), "%q is nothing tiers go by%s", t.By, oneOf(t.By, known))
	}
	if known := []string{Trailing, Calendar}; !slices.Contains(known, t.Window) {
		v.add(at("window"), "%q is no window%s", t.Window, oneOf(t.Window, known))
	}
	if len(t.Levels) == 0 || len(t.Levels) > maxLevels {
		v.add(at("levels"), "there must be between 1 and %d", maxLevels)
	}
	for i, l := range t.Levels {
		at := func(key string) []string { return at("levels", fmt.Sprint(i), key) }
		switch {
		case strings.TrimSpace(l.Name) == "":
			v.add(at("name"), "is missing")
		case slices.Index(t.names(), l.Name) < i:
			v.add(at("name"), "%q is listed already", l.Name)
		}
		switch {
		case !inRange(v, at("threshold"), l.Threshold, maxThreshold):
		case i == 0 && l.Threshold != 0:
			v.add(at("threshold"), "the first tier begins at 0")
		case i > 0 && l.Threshold <= t.Levels[i-1].Threshold:
			v.add(at("threshold"), "%s must be more than that of %s, which is %s",
				l.Threshold.Decimal(), t.Levels[i-1].Name, t.Levels[i-1].Threshold.Decimal())
		}
	}
}

const maxID = 40

func validID(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (i == 0 || (c < '0' || c > '9') && c != '_' && c != '-') {
			return false
		}
	}
	return s != "" && len(s) <= maxID
}

func inRange(v *validator, path []string, n Number, most domain.Decimal) bool {
	switch {
	case n == noNumber:
		v.add(path, "is no decimal number")
	case n < 0 || n.Decimal() > most:
		v.add(path, "%s is not between 0 and %s", n.Decimal(), most)
	default:
		return true
	}
	return false
}

// SameName reports whether two names are one: they differ only in case, spaces,
// underscores and hyphens.
func SameName(a, b string) bool {
	var x, y [foldSize]byte
	return string(fold(x[:0], a)) == string(fold(y[:0], b))
}

// FoldName is the form in which two names that SameName are equal.
func FoldName(name string) string { return string(fold(nil, name)) }

// Never is an instant that does not come, Always one that has always been.
const (
	Never  domain.Millis = math.MaxInt64
	Always domain.Millis = math.MinInt64
)
