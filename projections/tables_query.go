package projections

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"sojourn/domain/lifecycle"
	"sojourn/warehouse"
)

// ErrBadCursor is answered for a cursor that no page has given.
var ErrBadCursor = errors.New("the cursor is not one that an earlier page has given")

// Customers is a page of customers in a stage, or of all where stage is empty,
// in a fixed order. The next cursor is empty on the last page.
func (v *Views) Customers(ctx context.Context, stage string, limit int, cursor string) ([]Customer, string, error) {
	query := "SELECT customer_id FROM customers WHERE 1"
	var args []any
	if stage != "" {
		query += " AND stage = {stage:String}"
		args = append(args, warehouse.Named("stage", stage))
	}
	if cursor != "" {
		after, err := uuid.Parse(cursor)
		if err != nil {
			return nil, "", ErrBadCursor
		}
		query += " AND customer_id > toUUID({after:String})"
		args = append(args, warehouse.Named("after", after.String()))
	}
	query += fmt.Sprintf(" ORDER BY customer_id LIMIT %d", limit+1)
	rows, err := v.cfg.DB.Query(ctx, query, args...)
	if err != nil {
		return nil, "", fmt.Errorf("list customers: %w", err)
	}
	defer func() { _ = rows.Close() }()
	var ids []uuid.UUID
	for rows.Next() {
		var id uuid.UUID
		if err := rows.Scan(&id); err != nil {
			return nil, "", fmt.Errorf("list customers: %w", err)
		}
		ids = append(ids, id)
	}
	if err := rows.Err(); err != nil {
		return nil, "", fmt.Errorf("list customers: %w", err)
	}
	next := ""
	if len(ids) > limit {
		ids = ids[:limit]
		next = ids[limit-1].String()
	}
	all := make([]Customer, 0, len(ids))
	for _, id := range ids {
		c, err := v.Customer(ctx, id.String(), At{})
		var moved *MovedError
		switch {
		case errors.Is(err, ErrNotFound), errors.As(err, &moved):
			continue // gone since the page was read
		case err != nil:
			return nil, "", err
		case stage != "" && c.Stage != stage:
			continue
		}
		all = append(all, c)
	}
	return all, next, nil
}

// Timeline is a page of a customer's touchpoints and transitions, in the order
// of time; at one instant touchpoints come first. The errors are those of
// Customer, and ErrBadCursor.
func (v *Views) Timeline(ctx context.Context, ref string, at At, cursor string, limit int) ([]Entry, string, error) {
	after, err := parseTimelineCursor(cursor)
	if err != nil {
		return nil, "", err
	}
	a, err := v.answer(ctx, ref, at, true)
	if err != nil {
		return nil, "", err
	}
	entries := a.entries
	for i, t := range a.past {
		entries = append(entries, Entry{At: t.At.Time(), Transition: &TransitionEntry{
			Seq: i + 1, From: string(t.From), To: string(t.To), Reason: t.Reason, Cause: t.Cause.String(),
		}})
	}
	slices.SortFunc(entries, func(a, b Entry) int { return a.place().compare(b.place()) })
	if after != nil {
		n, found := slices.BinarySearchFunc(entries, *after, func(e Entry, p place) int { return e.place().compare(p) })
		if found {
			n++
		}
		entries = entries[n:]
	}
	if len(entries) <= limit {
		return entries, "", nil
	}
	entries = entries[:limit]
	b, err := json.Marshal(entries[limit-1].place())
	if err != nil {
		return nil, "", err
	}
	return entries, base64.RawURLEncoding.EncodeToString(b), nil
}

// place is where an entry stands in its timeline.
type place struct {
	At  int64     `json:"at"`
	Seq int       `json:"seq,omitempty"` // of a transition; 0 for a touchpoint
	ID  uuid.UUID `json:"id"`
}

func (e Entry) place() place {
	if e.Transition != nil {
		return place{At: e.At.UnixMilli(), Seq: e.Transition.Seq}
	}
	return place{At: e.At.UnixMilli(), ID: e.Touchpoint.EventID}
}

func (p place) compare(o place) int {
	return cmp.Or(cmp.Compare(p.At, o.At), cmp.Compare(p.Seq, o.Seq), slices.Compare(p.ID[:], o.ID[:]))
}

func parseTimelineCursor(cursor string) (*place, error) {
	if cursor == "" {
		return nil, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil {
		return nil, ErrBadCursor
	}
	var p place
	if err := json.Unmarshal(b, &p); err != nil {
		return nil, ErrBadCursor
	}
	return &p, nil
}

// Stages counts the customers by stage at an instant; the zero time means now. An
// instant to come is answered as if nothing more happened.
func (v *Views) Stages(ctx context.Context, asOf time.Time) (Stages, error) {
	v.mu.RLock()
	g := v.active
	v.mu.RUnlock()
	if g == nil {
		return Stages{}, errClosed
	}
	clock := g.state.checkpoint().Clock.Time()
	if asOf.IsZero() {
		asOf = clock
	}
	asOf = asOf.UTC().Truncate(time.Millisecond)
	query := `SELECT stage, count() FROM (
    SELECT argMax(to_stage, seq) AS stage FROM stage_transitions
    WHERE at <= fromUnixTimestamp64Milli({as_of:Int64}) GROUP BY customer_id
) GROUP BY stage`
	if !asOf.Before(clock) {
		query = `SELECT if(empty(due), toString(stage), due[-1].2) AS stage_then, count() FROM (
    SELECT stage, arrayFilter(o -> o.1 <= fromUnixTimestamp64Milli({as_of:Int64}), outlook) AS due FROM customers
) GROUP BY stage_then`
	}
	rows, err := v.cfg.DB.Query(ctx, query, warehouse.Named("as_of", asOf.UnixMilli()))
	if err != nil {
		return Stages{}, fmt.Errorf("count the customers by stage: %w", err)
	}
	defer func() { _ = rows.Close() }()
	counts := map[string]uint64{}
	for rows.Next() {
		var stage string
		var n uint64
		if err := rows.Scan(&stage, &n); err != nil {
			return Stages{}, fmt.Errorf("count the customers by stage: %w", err)
		}
		counts[stage] = n
	}
	if err := rows.Err(); err != nil {
		return Stages{}, fmt.Errorf("count the customers by stage: %w", err)
	}
	out := Stages{AsOf: asOf}
	for _, s := range lifecycle.Stages {
		n := counts[string(s)]
		out.Customers += n
		out.Stages = append(out.Stages, StageCount{string(s), n})
	}
	return out, nil
}

// EventNames lists every name seen, by source and type, the most frequent first.
func (v *Views) EventNames(ctx context.Context) ([]EventName, error) {
	rows, err := v.cfg.DB.Query(ctx, `SELECT source, type, name, count() AS n, max(occurred_at), anyLast(meaning), anyLast(channel)
FROM touchpoints GROUP BY source, type, name ORDER BY n DESC, source, type, name`)
	if err != nil {
		return nil, fmt.Errorf("list event names: %w", err)
	}
	defer func() { _ = rows.Close() }()
	var all []EventName
	for rows.Next() {
		var e EventName
		if err := rows.Scan(&e.Source, &e.Type, &e.Name, &e.Count, &e.LastAt, &e.Meaning, &e.Channel); err != nil {
			return nil, fmt.Errorf("list event names: %w", err)
		}
		all = append(all, e)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list event names: %w", err)
	}
	return all, nil
}
