package automation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"sojourn/automation/trigger"
	"sojourn/domain"
	"sojourn/domain/fact"
	"sojourn/eventstore"
)

// What many customers have as a cause at once is an event of its own, which names
// them: a tick of a schedule, or the change of a segment whose customers a trigger
// was asked to begin with. It is offered where it stands in the log, so that a crash
// offers the same again.
const typeTick = "automation.tick.v1"

// The streams of these events, by trigger.
const (
	tickStreams     = "automation_ticks-"
	existingStreams = "automation_existing-"
)

// tick is the data of such an event. The first names nobody: views that hold it have
// seen the time pass. Those that follow name the customers, the last says Done.
type tick struct {
	Change    fact.Change `json:"change"`
	Part      int         `json:"part"`
	Customers []uuid.UUID `json:"customers,omitempty"`
	Done      bool        `json:"done,omitempty"`
}

// tickCustomers is how many customers one event names.
const tickCustomers = 500

// ErrNotReady is answered by views that compute a segment and cannot say yet who is
// in it.
var ErrNotReady = errors.New("the segment is being computed")

// SegmentChange is a change of a segment: when it was applied, and where in the log.
type SegmentChange struct {
	At       domain.Millis       `json:"at"`
	Position eventstore.Position `json:"position"`
}

// existingOf is the change by which those enter who are in a segment by its change.
func existingOf(segment string, c *SegmentChange) fact.Change {
	return fact.Change{
		Type: "segment.entered", Programme: segment, At: c.At,
		Reason: "in by the change of the segment", Cause: fmt.Sprintf("segment:%d", c.Position),
	}
}

// tickEvent is the id of an event about a change: it holds no version, so that of two
// engines, and before and after a crash, it is one. A day may have more than one, where
// the trigger's time of the day has changed.
func tickEvent(stream string, c *fact.Change, part int) uuid.UUID {
	name := fmt.Appendf(nil, "%s\x00%s\x00%d", stream, c.Key(), part)
	if c.Type == trigger.TypeExpiring {
		name = fmt.Appendf(name, "\x00%d", c.At)
	}
	return uuid.NewSHA1(uuid.NameSpaceOID, name)
}

// ticked is where a stream of ticks ends.
type ticked struct {
	tick
	exists   bool
	revision uint64
	named    map[uuid.UUID]bool // by a tick that is not done
}

func (e *Engine) lastTick(ctx context.Context, stream string) (*ticked, error) {
	if s := e.ticked[stream]; s != nil {
		return s, nil
	}
	s := &ticked{named: map[uuid.UUID]bool{}}
	for r, err := range e.cfg.Store.ReadStream(ctx, stream, eventstore.End, eventstore.Backwards) {
		if errors.Is(err, eventstore.ErrStreamNotFound) {
			break
		}
		var t tick
		if err == nil {
			err = json.Unmarshal(r.Data, &t)
		}
		if err != nil {
			return nil, fmt.Errorf("read the ticks of a trigger: %w", err)
		}
		if !s.exists {
			s.tick, s.exists, s.revision = t, true, r.Revision
		}
		for _, id := range t.Customers {
			s.named[id] = true
		}
		if s.Done || t.Part == 0 {
			break
		}
	}
	e.ticked[stream] = s
	return s, nil
}

// again is how long a segment that is being computed is left alone.
const again = domain.Millis(1000)

// ticks takes what the clock has brought, once the log has been read to a position.
// moved says that there is more in the log now; else next is when to look again,
// domain.MaxTime for never.
func (e *Engine) ticks(ctx context.Context) (moved bool, next domain.Millis, err error) {
	now, rules := e.now(), e.registry.revision()
	if now < e.nextTick && rules == e.tickRules {
		return false, e.nextTick, nil
	}
	next, e.nextTick = domain.MaxTime, 0
	for _, t := range e.registry.all() {
		stream, change, due, err := e.dueTick(ctx, &t, now)
		switch {
		case err != nil:
			return false, 0, err
		case due > now:
			next = min(next, due)
			continue
		}
		err = e.takeTick(ctx, stream, change)
		if errors.Is(err, ErrNotReady) {
			next = min(next, now+again)
			continue
		}
		return true, 0, err
	}
	e.nextTick, e.tickRules = next, rules
	return false, next, nil
}

// dueTick is what a trigger takes next, and when; domain.MaxTime for never.
func (e *Engine) dueTick(ctx context.Context, t *inForce, now domain.Millis) (stream string, c fact.Change, due domain.Millis, err error) {
	_, ticks := t.Ticks()
	switch {
	case ticks:
		stream = tickStreams + t.ID
		s, err := e.lastTick(ctx, stream)
		if err != nil {
			return stream, c, 0, err
		}
		after := t.since
		if s.exists {
			if !s.Done {
				return stream, s.Change, now, nil
			}
			after = max(after, s.Change.At)
		}
		at, ok := t.NextTick(after)
		if !ok {
			return stream, c, domain.MaxTime, nil
		}
		return stream, t.Tick(at), at, nil
	case t.On.Segment != nil && t.On.Segment.Entered != "":
		stream = existingStreams + t.ID
		s, err := e.lastTick(ctx, stream)
		switch {
		case err != nil:
			return stream, c, 0, err
		case s.exists && !s.Done:
			return stream, s.Change, now, nil
		case t.existing == nil:
			return stream, c, domain.MaxTime, nil
		}
		if c = existingOf(t.On.Segment.Entered, t.existing); s.exists && s.Change.Key() == c.Key() {
			return stream, c, domain.MaxTime, nil
		}
		return stream, c, now, nil
	}
	return "", c, domain.MaxTime, nil
}

// takeTick appends a tick with its customers, or what is missing of it.
func (e *Engine) takeTick(ctx context.Context, stream string, c fact.Change) error {
	if err := e.acts(ctx, false); err != nil {
		return err
	}
	s, err := e.lastTick(ctx, stream)
	if err != nil {
		return err
	}
	if !s.exists || s.Done {
		if err := e.appendTick(ctx, stream, s, tick{Change: c}); err != nil {
			return err
		}
	}
	head, err := e.cfg.Store.Head(ctx)
	if err != nil {
		return fmt.Errorf("find the end of the log: %w", err)
	}
	if err := e.cfg.Views.WaitFor(ctx, head); err != nil {
		return fmt.Errorf("wait for the views: %w", err)
	}
	part := tick{Change: s.Change, Part: s.Part + 1}
	err = e.cfg.Views.Members(ctx, c.InSegment(), c.At, func(id uuid.UUID) error {
		if s.named[id] {
			return nil
		}
		if part.Customers = append(part.Customers, id); len(part.Customers) < tickCustomers {
			return nil
		}
		err := e.appendTick(ctx, stream, s, part)
		part.Customers = nil
		part.Part++
		return err
	})
	if err != nil {
		return err
	}
	part.Done = true
	return e.appendTick(ctx, stream, s, part)
}

func (e *Engine) appendTick(ctx context.Context, stream string, s *ticked, t tick) error {
	data, err := json.Marshal(t)
	if err != nil {
		return fmt.Errorf("keep a tick: %w", err)
	}
	expected := eventstore.Expected(eventstore.NoStream{})
	if s.exists {
		expected = eventstore.Revision(s.revision)
	}
	r, err := e.cfg.Store.Append(ctx, stream, expected, eventstore.NewEvent{ID: tickEvent(stream, &t.Change, t.Part), Type: typeTick, Data: data})
	if errors.Is(err, eventstore.ErrWrongRevision) {
		return errDeposed
	}
	if err != nil {
		return fmt.Errorf("keep a tick: %w", err)
	}
	if t.Part == 0 {
		clear(s.named)
	}
	for _, id := range t.Customers {
		s.named[id] = true
	}
	s.tick, s.exists, s.revision = t, true, r.Revision
	s.Customers = nil
	return nil
}

// rest waits until the log goes on behind a position, or until an instant.
func (e *Engine) rest(ctx context.Context, after eventstore.Position, until domain.Millis) error {
	if until == domain.MaxTime {
		return e.cfg.Store.Wait(ctx, after)
	}
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	// No timer is longer than an hour, as a clock may be set meanwhile.
	timer := e.cfg.After(min(time.Duration(max(until-e.now(), 1))*time.Millisecond, time.Hour))
	go func() {
		select {
		case <-timer:
			cancel()
		case <-waiting.Done():
		}
	}()
	err := e.cfg.Store.Wait(waiting, after)
	if err != nil && waiting.Err() != nil {
		return ctx.Err()
	}
	return err
}

// tick offers a tick to its trigger, once for each customer that it names.
func (b *batch) tick(r *eventstore.Recorded) error {
	id, ok := strings.CutPrefix(r.Stream, tickStreams)
	if !ok {
		if id, ok = strings.CutPrefix(r.Stream, existingStreams); !ok {
			return nil
		}
	}
	var one []inForce
	for _, t := range b.inForce() {
		if t.ID == id {
			one = append(one, t)
		}
	}
	if len(one) == 0 {
		return nil
	}
	var t tick
	if err := json.Unmarshal(r.Data, &t); err != nil {
		return fmt.Errorf("read a tick: %w", err)
	}
	t.Change.Cause = strings.Clone(t.Change.Cause)
	for _, customer := range t.Customers {
		o := trigger.Offer{Change: t.Change, Customer: customer, Found: uint64(r.Position)}
		if one[0].Matches(&o) {
			b.offers = append(b.offers, &offered{Offer: o, triggers: one})
		}
	}
	return nil
}

// decided reports whether a cause that many customers share was decided on before,
// under whatever id this one bore.
func (e *Engine) decidedBefore(ctx context.Context, t *trigger.Trigger, o *offered, c *Customer, h *fact.History) (bool, error) {
	if !o.Shared() {
		return h.Delivery(t.Delivery(&o.Offer)) != nil, nil
	}
	ids := append([]uuid.UUID{o.Customer, c.ID}, c.Been...)
	for _, s := range c.Subjects {
		ids = append(ids, s.ID)
	}
	slices.SortFunc(ids, func(a, b uuid.UUID) int { return strings.Compare(string(a[:]), string(b[:])) })
	for _, id := range slices.Compact(ids) {
		delivery := t.DeliveryOf(&o.Offer, id)
		if h.Delivery(delivery) != nil {
			return true, nil
		}
		if e.dry != nil {
			continue
		}
		// After a split it may stand with another customer.
		first := fact.Fact{Kind: fact.Planned, Delivery: delivery}
		if _, ok, err := e.find(ctx, first.ID()); ok || err != nil {
			return ok, err
		}
	}
	return false, nil
}

// stay is what was said of a customer and a segment: that it came or went.
type stay struct {
	at            domain.Millis
	revision      uint64
	in, withdrawn bool
}

// stays are those of a customer and a segment, by the revisions of the statements.
type stays struct {
	customer uuid.UUID
	all      map[uint64]*stay
	// changed is the position of the last statement or withdrawal.
	changed eventstore.Position
}

// hear takes a statement of a customer; only those about the segment count.
func (s *stays) hear(r *eventstore.Recorded, segment string) error {
	switch r.Type {
	case domain.TypeSegmentEntered, domain.TypeSegmentLeft:
		said, err := readStatement(r.Data)
		if err != nil || said.Segment != segment {
			return err
		}
		c, err := said.change(r.Type)
		if err != nil {
			return err
		}
		if s.all == nil {
			s.all = map[uint64]*stay{}
		}
		s.customer = said.Customer
		s.all[r.Revision] = &stay{at: c.At, revision: r.Revision, in: r.Type == domain.TypeSegmentEntered}
		s.changed = r.Position
	case domain.TypeSegmentWithdrawn:
		if len(s.all) == 0 {
			return nil
		}
		said, err := readStatement(r.Data)
		if err != nil {
			return err
		}
		for _, revision := range said.Revisions {
			if x := s.all[revision]; x != nil {
				x.withdrawn, s.changed = true, r.Position
			}
		}
	}
	return nil
}

// in reports whether the customer was in the segment at an instant.
func (s *stays) in(at domain.Millis) bool {
	var last *stay
	for _, x := range s.all {
		if !x.withdrawn && x.at <= at && (last == nil || x.at > last.at || x.at == last.at && x.revision > last.revision) {
			last = x
		}
	}
	return last != nil && last.in
}

// member reports whether it is still said of a customer that it was in a segment at
// the time of a change, which was found at a position.
func (e *Engine) member(ctx context.Context, customer uuid.UUID, c *fact.Change, found uint64) (bool, error) {
	var s stays
	for r, err := range e.cfg.Store.ReadStream(ctx, domain.StatementStream(customer), 0, eventstore.Forwards) {
		if errors.Is(err, eventstore.ErrStreamNotFound) {
			break
		}
		if err != nil {
			return false, fmt.Errorf("read what was said of a customer: %w", err)
		}
		if err := s.hear(&r, c.InSegment()); err != nil {
			return false, err
		}
	}
	// The views may have known it before it was said.
	return uint64(s.changed) <= found || s.in(c.At), nil
}

// IsCauseStream reports whether a stream is one of those that name the customers of a
// cause that many share: of a trigger's ticks, or of those who were in its segment.
func IsCauseStream(stream string) bool {
	return strings.HasPrefix(stream, tickStreams) || strings.HasPrefix(stream, existingStreams)
}
