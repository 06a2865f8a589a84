package loyalty

import (
	"slices"
	"sort"
	"strings"

	"github.com/google/uuid"

	"sojourn/domain"
	"sojourn/domain/commerce"
	"sojourn/domain/lifecycle"
	"sojourn/domain/policy"
)

// Ref names an event and gives it its place: by At, then by the bytes of ID.
type Ref = lifecycle.Ref

// MaxPoints bounds the points of one command, either way, and of one earning.
const MaxPoints = 1_000_000_000_000

// Line is a product of an order, a refund or an event.
type Line struct {
	// Product is its product_id, else its sku, else its id.
	Product, Category string
	// Amount is price × quantity; it means nothing where Priced is false.
	Amount domain.Decimal
	Priced bool
	// Quantity is 1 where the message names none.
	Quantity domain.Decimal
}

// Birthday is what an identify says of it.
type Birthday struct {
	// Told is set where the message says anything; Month is 0 where it takes the
	// birthday away.
	Told       bool
	Month, Day int
}

// Touch is what loyalty takes of a touchpoint.
type Touch struct {
	Ref
	Meaning policy.Meaning
	// Name is the event of a track; empty for other messages.
	Name    string
	Channel string
	// Order is what commerce.Read made of it, Lines are its products.
	Order    commerce.Order
	Lines    []Line
	Birthday Birthday
}

// CommandKind is what a command does.
type CommandKind uint8

// The commands. The numbers are part of the format of the state cache.
const (
	Enroll      CommandKind = iota + 1
	Redeem                  // takes Points
	Cancel                  // gives the points of the redemption Of back
	Adjust                  // gives or takes Points
	TransferOut             // takes Points; Of is the id of the TransferIn
	TransferIn              // gives Parts; Of is the id of the TransferOut
	Opening                 // gives Parts and Tier, at the programme's From
)

// Command is a command as it was decided and recorded. Its place is the instant
// of its decision.
type Command struct {
	Ref
	Kind      CommandKind
	Programme string // never empty
	// Points are a whole number: of any sign for Adjust, positive for the others.
	// Those beyond MaxPoints count as MaxPoints.
	Points int64
	Of     uuid.UUID
	// Parts are points with their expiry as decided: of the two transfers, of an
	// opening balance, or of an adjustment. Where a command that gives points has
	// none, they expire as what is earned at its place.
	Parts []Part
	// CountsForTier lets the points of an adjustment count for tiers.
	CountsForTier bool
	// Tier and TierUntil are those of an opening balance.
	Tier      string
	TierUntil domain.Millis
	// Reason is shown in the ledger.
	Reason string
	// RecordedAt is when the log had it. It tells what was known when and changes
	// nothing else.
	RecordedAt domain.Millis
}

// Part is a number of points with their expiry, policy.Never for none.
type Part struct {
	Points  int64
	Expires domain.Millis
}

var nsLoyalty = uuid.MustParse("7c52b1de-50a3-5e0f-9a76-3c1d8e4f6a05")

// TransferInID is the id of the second event of a transfer, made of the first's.
func TransferInID(out uuid.UUID) uuid.UUID { return uuid.NewSHA1(nsLoyalty, out[:]) }

// Facts are what the ledgers of all programmes need of a set of touchpoints and
// commands; the zero value is the empty set. They do not depend on the order in
// which events are added, and an event that is added again changes nothing. They
// are not safe for concurrent use, not even for reading: what came out of order
// is sorted when it is first looked at.
type Facts struct {
	seen      Ref // the first touchpoint
	hasSeen   bool
	unsorted  bool
	orders    []orderFact
	events    []eventFact
	birthdays []birthdayFact
	commands  []Command
}

type orderKind uint8

const (
	kindPurchase orderKind = iota
	kindUpdate
	kindRefund
	kindCancellation
)

// orderFact is a touchpoint that speaks of an order.
type orderFact struct {
	Ref
	kind     orderKind
	state    commerce.AmountState
	amount   domain.Decimal
	id       string
	currency string
	channel  string // of a purchase
	lines    []Line
}

// eventFact is an event that may give points.
type eventFact struct {
	Ref
	name, channel     string
	product, category string
}

// birthdayFact is an identify that tells a birthday, or with month 0 takes it
// away.
type birthdayFact struct {
	Ref
	month, day uint8
}

// maxText bounds the names and reasons that are kept, in bytes.
const maxText = 200

// keep copies a text, cut to at most maxText bytes without breaking a rune.
func keep(s string) string {
	if len(s) > maxText {
		n := maxText
		for n > 0 && s[n]&0xc0 == 0x80 {
			n--
		}
		s = s[:n]
	}
	return strings.Clone(s)
}

// Add adds a touchpoint in any order. Of events it keeps those that give points
// under the rules, so facts are added anew where these change. It reports whether
// a ledger may have changed: it is false for most touchpoints.
func (f *Facts) Add(t Touch, rules *Rulebook) bool {
	changed := f.See(t.Ref)
	switch t.Meaning {
	case policy.Purchase:
		f.addOrder(t, kindPurchase)
		changed = true
	case policy.OrderUpdate:
		if t.Order.ID != "" && t.Order.State == commerce.AmountRead {
			f.addOrder(t, kindUpdate)
			changed = true
		}
	case policy.Refund:
		if t.Order.ID != "" {
			f.addOrder(t, kindRefund)
			changed = true
		}
	case policy.Cancellation:
		if t.Order.ID != "" {
			f.addOrder(t, kindCancellation)
			changed = true
		}
	}
	if rules.WantsEvent(t.Name) {
		e := eventFact{Ref: t.Ref, name: keep(t.Name), channel: strings.Clone(t.Channel)}
		if len(t.Lines) > 0 {
			e.product, e.category = keep(t.Lines[0].Product), keep(t.Lines[0].Category)
		}
		f.events = add(f, f.events, e)
		changed = true
	}
	if b := t.Birthday; b.Told {
		if !validBirthday(b.Month, b.Day) {
			b.Month, b.Day = 0, 0
		}
		f.birthdays = add(f, f.birthdays, birthdayFact{t.Ref, uint8(b.Month), uint8(b.Day)})
		changed = true
	}
	return changed
}

// See adds a touchpoint that gives and takes no points. It reports whether a ledger
// may have changed: the first touchpoint may enrol.
func (f *Facts) See(ref Ref) bool {
	if f.hasSeen && ref.Compare(f.seen) >= 0 {
		return false
	}
	f.seen, f.hasSeen = ref, true
	return true
}

// After is the instant of the first event behind one, policy.Never where there is
// none.
func (f *Facts) After(t domain.Millis) domain.Millis {
	f.sort()
	next := policy.Never
	if f.hasSeen && f.seen.At > t {
		next = f.seen.At
	}
	return min(next, firstAfter(f.orders, t), firstAfter(f.events, t), firstAfter(f.birthdays, t), firstAfter(f.commands, t))
}

func firstAfter[T placed](list []T, t domain.Millis) domain.Millis {
	i := sort.Search(len(list), func(i int) bool { return list[i].place().At > t })
	if i == len(list) {
		return policy.Never
	}
	return list[i].place().At
}

// Len is the number of orders, events, birthdays and commands.
func (f *Facts) Len() int {
	return len(f.orders) + len(f.events) + len(f.birthdays) + len(f.commands)
}

// JustSeen reports whether all that the set tells is when the customer was first
// seen.
func (f *Facts) JustSeen() bool {
	return f.Len() == 0
}

func (f *Facts) addOrder(t Touch, kind orderKind) {
	o := orderFact{
		Ref: t.Ref, kind: kind, id: t.Order.ID,
		amount: t.Order.Amount, state: t.Order.State, currency: t.Order.Currency,
	}
	if kind == kindPurchase {
		o.channel = strings.Clone(t.Channel)
	}
	if kind != kindCancellation && len(t.Lines) > 0 {
		o.lines = slices.Clone(t.Lines)
		for i := range o.lines {
			l := &o.lines[i]
			l.Product, l.Category = keep(l.Product), keep(l.Category)
			if !l.Priced {
				l.Amount = 0
			}
		}
	}
	f.orders = add(f, f.orders, o)
}

// AddCommand adds a command in any order.
func (f *Facts) AddCommand(c Command) {
	c.Points = max(-MaxPoints, min(c.Points, MaxPoints))
	c.Parts = slices.Clone(c.Parts)
	for i := range c.Parts {
		c.Parts[i].Points = max(0, min(c.Parts[i].Points, MaxPoints))
		c.Parts[i].Expires = bounded(c.Parts[i].Expires)
	}
	c.TierUntil = bounded(c.TierUntil)
	c.Reason, c.Tier, c.Programme = keep(c.Reason), keep(c.Tier), keep(c.Programme)
	f.commands = add(f, f.commands, c)
}

// bounded is an end within the times that touchpoints may have, or never.
func bounded(t domain.Millis) domain.Millis {
	if t > domain.MaxTime {
		return policy.Never
	}
	return max(t, domain.MinTime)
}

// placed is a fact with its place.
type placed interface{ place() Ref }

func (o orderFact) place() Ref    { return o.Ref }
func (e eventFact) place() Ref    { return e.Ref }
func (b birthdayFact) place() Ref { return b.Ref }
func (c Command) place() Ref      { return c.Ref }

func add[T placed](f *Facts, list []T, v T) []T {
	if n := len(list); n > 0 && list[n-1].place().Compare(v.place()) >= 0 {
		f.unsorted = true
	}
	return append(list, v)
}

// Merge adds the events of o, which stays as it is.
func (f *Facts) Merge(o *Facts) {
	if o.hasSeen && (!f.hasSeen || o.seen.Compare(f.seen) < 0) {
		f.seen, f.hasSeen = o.seen, true
	}
	f.unsorted = f.unsorted || o.unsorted
	f.orders = join(f, f.orders, o.orders)
	f.events = join(f, f.events, o.events)
	f.birthdays = join(f, f.birthdays, o.birthdays)
	f.commands = join(f, f.commands, o.commands)
}

func join[T placed](f *Facts, to, from []T) []T {
	if len(from) == 0 {
		return to
	}
	if n := len(to); n > 0 && to[n-1].place().Compare(from[0].place()) >= 0 {
		f.unsorted = true
	}
	return append(to, from...)
}

// Clone returns a copy that shares nothing that changes.
func (f *Facts) Clone() Facts {
	c := *f
	c.orders, c.events = slices.Clone(f.orders), slices.Clone(f.events)
	c.birthdays, c.commands = slices.Clone(f.birthdays), slices.Clone(f.commands)
	return c
}

// Empty reports whether the set holds nothing.
func (f *Facts) Empty() bool { return !f.hasSeen && len(f.commands) == 0 }

// Commands are the commands of the set in their order. The list must not be
// changed.
func (f *Facts) Commands() []Command {
	f.sort()
	return f.commands
}

func (f *Facts) sort() {
	if !f.unsorted {
		return
	}
	f.orders = inOrder(f.orders)
	f.events = inOrder(f.events)
	f.birthdays = inOrder(f.birthdays)
	f.commands = inOrder(f.commands)
	f.unsorted = false
}

// inOrder sorts facts and leaves out those that are there twice.
func inOrder[T placed](list []T) []T {
	slices.SortStableFunc(list, func(a, b T) int { return a.place().Compare(b.place()) })
	return slices.CompactFunc(list, func(a, b T) bool { return a.place() == b.place() })
}
