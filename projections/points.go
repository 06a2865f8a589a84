package projections

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"sojourn/domain"
	"sojourn/domain/loyalty"
	"sojourn/domain/policy"
	"sojourn/eventstore"
)

// CommandRequest asks for something to be done about a customer's points.
type CommandRequest struct {
	// Command is redeem, cancel, adjust, transfer or enroll.
	Command string
	// Customer is an id, also one that the customer does not bear any more, or a
	// subject such as user:42. The command stays with the subject that it names;
	// that of an id is the one whose id it is.
	Customer string
	// Programme is the first where it is empty.
	Programme string
	// Points are to be redeemed, transferred, or adjusted by, then of either sign.
	Points int64
	// Redemption is the event of the redemption to cancel.
	Redemption uuid.UUID
	// To is the customer that points are transferred to.
	To string
	// CountsForTier lets an adjustment count for tiers.
	CountsForTier  bool
	Reason, Author string
	// Key is the Idempotency-Key: what a key has done once is answered again.
	Key string
}

// CommandResult is what was done.
type CommandResult struct {
	Event     uuid.UUID
	Position  eventstore.Position
	Customer  uuid.UUID // as it was when the command was decided
	Programme string
	Command   string
	At        time.Time
	Points    int64
	// Value is what redeemed points are worth, in Currency; empty for other commands.
	Value, Currency string
	// Balance is that behind the command, when it was decided.
	Balance loyalty.Balance
	// Repeated is set where the key had been used for the same before.
	Repeated bool
}

// commandAnswer is what the one who gave a command was told.
type commandAnswer struct {
	// Request is a hash of what was asked, but for the customer.
	Request   string    `json:"request"`
	Customer  uuid.UUID `json:"customer"`
	Available int64     `json:"available"`
	Pending   int64     `json:"pending"`
	Debt      int64     `json:"debt"`
	Value     string    `json:"value,omitempty"`
	Currency  string    `json:"currency,omitempty"`
}

// ErrNoProgramme is returned for a programme that no policy has.
var ErrNoProgramme = errors.New("no such loyalty programme")

// CommandError says what is wrong with a command.
type CommandError struct{ Message string }

func (e *CommandError) Error() string { return e.Message }

func badCommand(format string, args ...any) error {
	return &CommandError{fmt.Sprintf(format, args...)}
}

// ShortError says that a command asks for more points than are available.
type ShortError struct {
	Asked   int64
	Balance loyalty.Balance
}

func (e *ShortError) Error() string {
	return fmt.Sprintf("%d points asked for, %d are available", e.Asked, e.Balance.Available)
}

// The limits of a command.
const (
	MaxKey    = 255 // bytes of an Idempotency-Key
	maxReason = 2000
)

var nsCommand = uuid.MustParse("b3f7f0b2-92a5-5f4c-8d57-60e3f19a2f07")

// commandID is the id of the event of a command: a key names one in the whole log.
func commandID(kind, key string) uuid.UUID {
	return uuid.NewSHA1(nsCommand, []byte(kind+"\x00"+key))
}

// request is a hash of what is asked for, as it was written, but for the customer.
func (r *CommandRequest) request() string {
	data, _ := json.Marshal([]any{r.Command, r.Programme, r.Points, r.Redemption, r.To, r.CountsForTier, r.Reason, r.Author})
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:16])
}

// Command decides a command about points against everything that the log holds, and
// records it. It is durable on return. Refusals are *CommandError, *ShortError where
// points are short, ErrNotFound and ErrNoProgramme; they are not remembered, so the
// key may be used again. A *KeyError refuses a key that was used for something else.
// After any other error the command may have been done: the same request again, with
// the same key, does it at most once.
func (v *Views) Command(ctx context.Context, r CommandRequest) (CommandResult, error) {
	if err := r.validate(); err != nil {
		return CommandResult{}, err
	}
	id := commandID("key", r.Key)
	return v.desk.submit(ctx, id, func(t *tail, e *errand) error { return v.decideCommand(t, e, &r) })
}

// KeyError refuses an Idempotency-Key that was used for something else.
type KeyError struct{ Message string }

func (e *KeyError) Error() string { return e.Message }

func (r *CommandRequest) validate() error {
	switch {
	case r.Key == "":
		return badCommand("the header Idempotency-Key is missing: give each command a key of its own, and its repetitions the same")
	case len(r.Key) > MaxKey:
		return badCommand("an Idempotency-Key has at most %d bytes", MaxKey)
	case len(r.Reason) > maxReason || len(r.Author) > maxReason:
		return badCommand("reason and author have at most %d bytes each", maxReason)
	case r.Points > loyalty.MaxPoints || r.Points < -loyalty.MaxPoints:
		return badCommand("a command is about at most %d points", loyalty.MaxPoints)
	}
	switch r.Command {
	case "redeem", "transfer":
		if r.Points <= 0 {
			return badCommand("points must be above zero")
		}
		if r.Command == "transfer" && r.To == "" {
			return badCommand("say to whom the points go")
		}
	case "adjust":
		if r.Points == 0 {
			return badCommand("points must not be zero: write how many are given, or with a minus taken")
		}
		if strings.TrimSpace(r.Reason) == "" {
			return badCommand("say why (reason)")
		}
	case "cancel":
		if r.Redemption == uuid.Nil {
			return badCommand("name the event of the redemption to cancel")
		}
	case "enroll":
	default:
		return badCommand("%q is no command: use redeem, cancel, adjust, transfer or enroll", r.Command)
	}
	return nil
}

func (v *Views) decideCommand(t *tail, e *errand, r *CommandRequest) error {
	h, missing := t.holder(e.ctx, r.Customer)
	if missing != nil && !errors.Is(missing, ErrNotFound) {
		return missing
	}
	if before, err := t.known(e.ctx, e.id); err != nil || before != nil {
		if err == nil && missing != nil {
			h, err = t.alone(r.Customer)
		}
		if err == nil {
			err = t.again(e, before, h, r.request())
		}
		return err
	}
	if missing != nil {
		return missing
	}
	p := t.rules.book.Programme(r.Programme)
	if p == nil {
		return fmt.Errorf("%w: %s", ErrNoProgramme, domain.Excerpt(r.Programme))
	}
	g, print, clear, err := t.clear(h, e)
	if err != nil || !clear {
		return err
	}
	at := t.now(h, v.cfg.Now())
	d := &commandData{
		Subject: h.subject.stream, Programme: p.ID, Command: r.Command, At: at.String(), Points: r.Points,
		CountsForTier: r.CountsForTier, Reason: r.Reason, Author: r.Author, Guard: print,
	}
	// What time does at the command's own instant comes behind it.
	l := loyalty.Fold(&h.facts, p, at-1)
	if err := t.fill(e.ctx, d, h, r, &l, e.id); err != nil {
		return err
	}
	made, err := d.command(&eventstore.Recorded{NewEvent: eventstore.NewEvent{ID: e.id}})
	if err != nil {
		return err
	}
	after := h.facts.Clone()
	after.AddCommand(made)
	behind := loyalty.Fold(&after, p, at)
	d.Answer = &commandAnswer{
		Request: r.request(), Customer: h.id,
		Available: behind.Totals.Available, Pending: behind.Totals.Pending, Debt: behind.Totals.Debt,
	}
	var value domain.Decimal
	for _, m := range behind.Movements {
		if m.Cause != (loyalty.Cause{Touchpoint: e.id}) {
			continue
		}
		if m.Debt > 0 {
			return &ShortError{r.Points, l.Totals.Balance}
		}
		if m.Kind == loyalty.Redeemed {
			value = value.Add(m.Value)
			d.Answer.Value, d.Answer.Currency = value.String(), m.Currency
		}
	}
	e.result = resultOf(e.id, d, at)
	return t.put(e, h, g, g.expected(), d)
}

// fill completes a command with what it asks for, or says why it cannot be.
func (t *tail) fill(ctx context.Context, d *commandData, h *holder, r *CommandRequest, l *loyalty.Ledger, id uuid.UUID) error {
	switch {
	case r.Command == "redeem" && r.Points > l.Totals.Available, r.Command == "adjust" && -r.Points > l.Totals.Available:
		return &ShortError{max(r.Points, -r.Points), l.Totals.Balance}
	case r.Command == "cancel":
		d.Of = r.Redemption
		return cancellable(&h.facts, d.Programme, r.Redemption)
	case r.Command == "transfer":
		to, err := t.holder(ctx, r.To)
		if err != nil {
			return fmt.Errorf("to: %w", err)
		}
		if to.id == h.id {
			return badCommand("%s and %s are one customer", r.Customer, r.To)
		}
		parts, ok := l.Spend(r.Points)
		if !ok {
			return &ShortError{r.Points, l.Totals.Balance}
		}
		for _, part := range parts {
			d.Parts = append(d.Parts, partOfLot{part.Points, expiresOf(part.Expires)})
		}
		d.Command, d.Other, d.Of = "transfer_out", to.subject.stream, loyalty.TransferInID(id)
	}
	return nil
}

// resultOf is a command as it is answered.
func resultOf(id uuid.UUID, d *commandData, at domain.Millis) CommandResult {
	name := d.Command
	if name == "transfer_out" {
		name = "transfer"
	}
	r := CommandResult{Event: id, Programme: d.Programme, Command: name, At: at.Time(), Points: d.Points}
	if a := d.Answer; a != nil {
		r.Customer, r.Value, r.Currency = a.Customer, a.Value, a.Currency
		r.Balance = loyalty.Balance{Available: a.Available, Pending: a.Pending, Debt: a.Debt}
	}
	return r
}

// again answers a key that was used before.
func (t *tail) again(e *errand, before *eventstore.Recorded, h *holder, request string) error {
	var d commandData
	if err := json.Unmarshal(before.Data, &d); err != nil {
		return err
	}
	if !slices.ContainsFunc(h.members, func(m *subject) bool { return m.stream == d.Subject }) {
		return &KeyError{"this Idempotency-Key was used for another customer"}
	}
	if d.Answer == nil || d.Answer.Request != request {
		return &KeyError{"this Idempotency-Key was used for another command, or for one with another body"}
	}
	at, err := time.Parse(time.RFC3339Nano, d.At)
	if err != nil {
		return err
	}
	e.result = resultOf(before.ID, &d, domain.MillisOf(at))
	e.result.Position, e.result.Repeated = before.Position, true
	return t.fold.err
}

// cancellable says why a redemption cannot be cancelled.
func cancellable(f *loyalty.Facts, programme string, redemption uuid.UUID) error {
	all := f.Commands()
	i := slices.IndexFunc(all, func(c loyalty.Command) bool {
		return c.ID == redemption && c.Kind == loyalty.Redeem && c.Programme == programme
	})
	if i < 0 {
		return badCommand("the customer has no redemption %s in this programme", redemption)
	}
	if slices.ContainsFunc(all, func(c loyalty.Command) bool { return c.Kind == loyalty.Cancel && c.Of == redemption }) {
		return badCommand("the redemption %s is cancelled already", redemption)
	}
	return nil
}

// OpeningBalance is what a customer brings along from another loyalty engine.
type OpeningBalance struct {
	// Row identifies it: the same row again is known.
	Row string
	// Subject is whose it is, such as user:42; nothing need be known of it yet, but
	// only with a touchpoint it is a customer.
	Subject string
	// Parts are points with their expiry.
	Parts []OpeningPart
	// Tier is the tier that it holds, until TierUntil; both may be empty.
	Tier      string
	TierUntil time.Time
}

// OpeningPart is a number of points with their expiry.
type OpeningPart struct {
	Points  int64
	Expires time.Time // zero for never
}

// OpenBalance records an opening balance, dated at its programme's from. It is
// durable on return; known is set where the row was recorded before. The errors are
// those of Command.
func (v *Views) OpenBalance(ctx context.Context, programme string, b OpeningBalance) (known bool, err error) {
	if b.Row == "" || len(b.Row) > MaxKey {
		return false, badCommand("row must have 1 to %d bytes: it tells a repetition", MaxKey)
	}
	ref, err := domain.ParseSubject(b.Subject)
	if err != nil {
		return false, badCommand("%s", err)
	}
	for _, p := range b.Parts {
		if p.Points <= 0 || p.Points > loyalty.MaxPoints {
			return false, badCommand("points must be from 1 to %d", loyalty.MaxPoints)
		}
	}
	r, err := v.desk.submit(ctx, commandID("row", b.Row), func(t *tail, e *errand) error {
		f := t.fold
		p := t.rules.book.Programme(programme)
		if p == nil {
			return fmt.Errorf("%w: %s", ErrNoProgramme, domain.Excerpt(programme))
		}
		if t.rules.compiled.Identity().Nobody(ref.Value) {
			return badCommand("%s names nobody by the policy", ref)
		}
		if before, err := t.positionOf(e.id); err != nil || before != 0 {
			e.result.Repeated = before != 0
			return err
		}
		at := domain.MillisOf(v.cfg.Now())
		if b.Tier != "" && !slices.ContainsFunc(p.LevelsAt(at), func(l policy.Level) bool { return l.Name == b.Tier }) {
			return badCommand("%q is no tier of the programme", b.Tier)
		}
		stream := f.keyer.Stream(ref)
		s := f.subject(stream)
		if f.err != nil {
			return f.err
		}
		if s.value == "" {
			f.name(s, ref.Value)
		}
		h := &holder{subject: s, id: s.id}
		members, err := t.members(s)
		if err != nil {
			return err
		}
		if first := firstOf(members); first != nil {
			h.id = first.id
		}
		d := &commandData{Subject: stream, Programme: p.ID, Command: "opening", At: at.String(), Tier: b.Tier}
		for _, part := range b.Parts {
			of := partOfLot{Points: part.Points}
			if !part.Expires.IsZero() {
				of.Expires = domain.MillisOf(part.Expires).String()
			}
			d.Points += part.Points
			d.Parts = append(d.Parts, of)
		}
		if !b.TierUntil.IsZero() {
			d.TierUntil = domain.MillisOf(b.TierUntil).String()
		}
		g, err := t.guard(e.ctx, h.id)
		if err != nil {
			return err
		}
		return t.put(e, h, g, eventstore.Any{}, d)
	})
	return r.Repeated, err
}
