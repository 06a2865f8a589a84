package automation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"sojourn/domain"
	"sojourn/domain/fact"
	"sojourn/eventstore"
)

// statement is what automation reads of a statement.
type statement struct {
	Customer  uuid.UUID `json:"customer"`
	Programme string    `json:"programme"`
	Segment   string    `json:"segment"`
	From      string    `json:"from"`
	To        string    `json:"to"`
	At        string    `json:"at"`
	Reason    string    `json:"reason"`
	Cause     string    `json:"cause"`
	News      bool      `json:"news"`
	// Position is what it was computed at: views that hold it hold the change.
	Position  eventstore.Position `json:"position"`
	Revisions []uint64            `json:"revisions"` // of a withdrawal
}

// changeTypes are the events that say a change, by the change's type.
var changeTypes = map[string]string{
	domain.TypeStageEntered:   "stage.entered",
	domain.TypeTierEntered:    "tier.entered",
	domain.TypeStatusEntered:  "satisfaction.entered",
	domain.TypeSegmentEntered: "segment.entered",
	domain.TypeSegmentLeft:    "segment.left",
}

func readStatement(data []byte) (s statement, err error) {
	if err = json.Unmarshal(data, &s); err != nil {
		return s, fmt.Errorf("read a statement: %w", err)
	}
	return s, nil
}

func (s *statement) change(typ string) (fact.Change, error) {
	at, err := time.Parse(time.RFC3339Nano, s.At)
	if err != nil {
		return fact.Change{}, fmt.Errorf("read a statement: %w", err)
	}
	c := fact.Change{
		Type: typ, Programme: s.Programme, From: s.From, To: s.To,
		At: domain.MillisOf(at), Reason: s.Reason, Cause: s.Cause,
	}
	if s.Segment != "" {
		c.Programme = s.Segment
	}
	return c, nil
}

// sentence is a change that was said of a customer.
type sentence struct {
	key       string
	position  eventstore.Position
	withdrawn bool
}

// said reads what was said of a customer.
func (e *Engine) said(ctx context.Context, customer uuid.UUID) (map[uint64]*sentence, error) {
	all := map[uint64]*sentence{}
	for r, err := range e.cfg.Store.ReadStream(ctx, domain.StatementStream(customer), 0, eventstore.Forwards) {
		if errors.Is(err, eventstore.ErrStreamNotFound) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read what was said of a customer: %w", err)
		}
		s, err := readStatement(r.Data)
		if err != nil {
			return nil, err
		}
		if typ, ok := changeTypes[r.Type]; ok {
			c, err := s.change(typ)
			if err != nil {
				return nil, err
			}
			all[r.Revision] = &sentence{key: strings.Clone(c.Key()), position: r.Position}
			continue
		}
		for _, revision := range s.Revisions {
			if x := all[revision]; x != nil {
				x.withdrawn = true
			}
		}
	}
	return all, nil
}

// stands reports whether a change is still said of a customer, by whatever policy.
func (e *Engine) stands(ctx context.Context, customer uuid.UUID, c *fact.Change, found uint64) (bool, error) {
	if c.Shared() {
		return e.member(ctx, customer, c, found)
	}
	switch c.Type {
	case "stage.entered", "tier.entered", "satisfaction.entered", "segment.entered", "segment.left":
	default:
		return true, nil
	}
	if e.dry != nil && e.dry.stands(customer, c) {
		return true, nil
	}
	all, err := e.said(ctx, customer)
	if err != nil {
		return false, err
	}
	key := c.Key()
	for _, s := range all {
		if !s.withdrawn && s.key == key {
			return true, nil
		}
	}
	return false, nil
}

// foundBefore reports whether a change was said of a customer by a place in the log.
func (e *Engine) foundBefore(ctx context.Context, customer uuid.UUID, c *fact.Change, place eventstore.Position) (bool, error) {
	if c.Type == "touchpoint" || c.Shared() || place == 0 {
		return false, nil
	}
	all, err := e.said(ctx, customer)
	if err != nil {
		return false, err
	}
	key := c.Key()
	for _, s := range all {
		if s.key == key && s.position <= place {
			return true, nil
		}
	}
	return false, nil
}
