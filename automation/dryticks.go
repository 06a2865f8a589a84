package automation

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"

	"sojourn/automation/trigger"
	"sojourn/domain"
	"sojourn/domain/fact"
	"sojourn/eventstore"
)

// dryTicks are the ticks of a schedule, or the days of points that expire, in a dry run, for those who were in its
// segment by the statements of the log. It is nil for other triggers.
type dryTicks struct {
	trigger  inForce
	segment  string
	next     domain.Millis
	until    domain.Millis // left out
	byStream map[string]*stays
	read     eventstore.Position
}

// ticks are those in the period of the run, and not in the future.
func (d *dry) ticks(t inForce, now domain.Millis) *dryTicks {
	segment, ok := t.Ticks()
	if !ok {
		return nil
	}
	s := &dryTicks{trigger: t, segment: segment, until: min(d.run.To, now+1), byStream: map[string]*stays{}}
	s.advance(d.run.From - 1)
	return s
}

func (s *dryTicks) advance(after domain.Millis) {
	next, ok := s.trigger.NextTick(after)
	if s.next = next; !ok || next >= s.until {
		s.next = domain.MaxTime
	}
}

// hear takes an event of the log.
func (s *dryTicks) hear(r *eventstore.Recorded) error {
	if s == nil {
		return nil
	}
	s.read = r.Position
	switch r.Type {
	case domain.TypeSegmentEntered, domain.TypeSegmentLeft, domain.TypeSegmentWithdrawn:
	default:
		return nil
	}
	all := s.byStream[r.Stream]
	if all == nil {
		all = &stays{}
		s.byStream[strings.Clone(r.Stream)] = all
	}
	return all.hear(r, s.segment)
}

// before gives the ticks before an instant, each with who was in the segment by what
// has been heard.
func (s *dryTicks) before(at domain.Millis, each func(c *fact.Change, customers []uuid.UUID) error) error {
	if s == nil {
		return nil
	}
	for s.next < at {
		c := s.trigger.Tick(s.next)
		var customers []uuid.UUID
		for _, x := range s.byStream {
			if x.in(c.At) {
				customers = append(customers, x.customer)
			}
		}
		slices.SortFunc(customers, func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) })
		if err := each(&c, customers); err != nil {
			return err
		}
		s.advance(s.next)
	}
	return nil
}

// known offers the ticks before an instant which the log does not have: where it does,
// it says who was found, and when.
func (s *dryTicks) known(ctx context.Context, d *dry, at domain.Millis) error {
	return s.before(at, func(c *fact.Change, customers []uuid.UUID) error {
		var place [1]eventstore.Position
		id := tickEvent(tickStreams+s.trigger.ID, c, 0)
		if err := d.Lookup(ctx, []uuid.UUID{id}, place[:]); err != nil {
			return fmt.Errorf("find a tick: %w", err)
		}
		if place[0] != 0 {
			return nil
		}
		for _, customer := range customers {
			o := &offered{Offer: trigger.Offer{Change: *c, Customer: customer, Found: uint64(s.read)}, triggers: []inForce{s.trigger}}
			if err := d.offer(ctx, o, c.At); err != nil {
				return err
			}
		}
		return nil
	})
}

// ticked reports whether an event of the log is one that the trigger of the run would
// have had: of its schedule as it is, or of those it was asked to begin with.
func (d *dry) ticked(t inForce, o *trigger.Offer) bool {
	if _, ok := t.Ticks(); !ok {
		return true
	}
	at, ok := t.NextTick(o.At - 1)
	return d.run.Known && ok && at == o.At
}
