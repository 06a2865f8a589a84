package automation

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/tidwall/gjson"

	"sojourn/domain"
	"sojourn/eventstore"
)

// textTrait is a trait of a customer that is text.
func textTrait(c *Customer, key string) string {
	var s string
	if raw := c.Data.Traits[key]; len(raw) == 0 || json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}

// newest is the value of the newest touchpoint that has one, by occurred_at, then
// by event id.
type newest struct {
	at    domain.Millis
	id    uuid.UUID
	value gjson.Result
}

func (n *newest) see(at domain.Millis, id uuid.UUID, v gjson.Result) {
	if v.Exists() && (!n.value.Exists() || at > n.at || at == n.at && bytes.Compare(id[:], n.id[:]) > 0) {
		n.at, n.id, n.value = at, id, v
	}
}

// contexts reads from the touchpoints of a customer, up to an instant, what their
// context says of its consent to a category and of its zone.
func contexts(ctx context.Context, log streams, c *Customer, category string, at domain.Millis) (a answers, err error) {
	var consent, zone newest
	for _, s := range c.Subjects {
		for r, err := range log.ReadStream(ctx, s.Stream, 0, eventstore.Forwards) {
			if errors.Is(err, eventstore.ErrStreamNotFound) {
				break
			}
			if err != nil {
				return a, fmt.Errorf("read the touchpoints of a customer: %w", err)
			}
			if r.Repeat || r.Type != domain.TypeTouchpoint && r.Type != domain.TypeJoin {
				continue
			}
			h, err := domain.ParseHeader(string(r.Metadata))
			if err != nil || h.OccurredAt > at {
				continue
			}
			for _, object := range [...]string{gjson.GetBytes(r.Data, "context").Raw, h.BatchContext} {
				if object == "" {
					continue
				}
				root := gjson.Parse(object)
				if category != "" {
					// The category may have dots and stars in its name.
					root.Get("consent.categoryPreferences").ForEach(func(key, v gjson.Result) bool {
						if key.Str == category {
							consent.see(h.OccurredAt, r.ID, v)
						}
						return true
					})
				}
				zone.see(h.OccurredAt, r.ID, root.Get("timezone"))
			}
		}
	}
	a.consent = consent.value.Type == gjson.True
	if zone.value.Type == gjson.String {
		a.zone = zone.value.Str
	}
	return a, nil
}
