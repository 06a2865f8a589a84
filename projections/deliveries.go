package projections

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"

	"sojourn/domain"
	"sojourn/domain/fact"
	"sojourn/eventstore"
	"sojourn/warehouse"
)

// deliveryFactOf is the row of a fact of automation; nil where the event is none.
func deliveryFactOf(e *eventstore.Recorded) (*warehouse.DeliveryFact, error) {
	kind, ok := fact.KindOf(e.Type)
	if !ok {
		return nil, nil
	}
	subject, ok := fact.Subject(e.Stream)
	if !ok {
		return nil, nil
	}
	f, err := fact.Decode(kind, e.Data)
	if err != nil {
		return nil, err
	}
	state := kind.String()
	if kind == fact.Failed {
		if state = string(fact.StateRetrying); f.Dead {
			state = string(fact.StateDead)
		}
	}
	r := &warehouse.DeliveryFact{
		DeliveryID: f.Delivery, Position: uint64(e.Position), SubjectID: subject, At: int64(f.At),
		Round: uint32(f.Round), Number: uint32(f.Number), State: state,
		Trigger: f.Trigger, Version: uint32(f.Version), Action: f.Action, Destination: f.To, Arm: string(f.Arm), Chain: f.Chain,
		SendAt: int64(f.SendAt), Reason: string(f.Reason), Status: int32(f.Status), Latency: f.Latency, Error: f.Error,
	}
	if c := f.Change; c != nil {
		r.Change, r.Programme, r.From, r.To, r.ChangeAt, r.Cause = c.Type, c.Programme, c.From, c.To, int64(c.At), c.Cause
	}
	return r, nil
}

// DeliveryRow is a row of the view deliveries.
type DeliveryRow struct {
	ID, Customer, Subject uuid.UUID
	Trigger               string
	Version               uint32
	Action, Destination   string
	Change, Programme     string
	From, To              string
	ChangeAt              time.Time
	Cause, Arm            string
	BeganAt               time.Time
	State, Reason         string
	PlannedFor, NextAt    *time.Time
	Attempts              uint64
	DeliveredAt           *time.Time
	Status                int32
	Error                 string
	Position              uint64
}

// DeliveryQuery selects deliveries; what is empty selects all.
type DeliveryQuery struct{ Trigger, State, Reason, Destination string }

// Deliveries is a page of what automation did, the newest first, as the tables have
// it. The next cursor is empty on the last page; ErrBadCursor for one that no page
// has given.
func (v *Views) Deliveries(ctx context.Context, q DeliveryQuery, limit int, cursor string) ([]DeliveryRow, string, error) {
	where, args := "1", []any{}
	for _, c := range [...]struct{ column, value string }{
		{"trigger", q.Trigger}, {"state", q.State}, {"reason", q.Reason}, {"destination", q.Destination},
	} {
		if c.value != "" {
			where += fmt.Sprintf(" AND %s = {%s:String}", c.column, c.column)
			args = append(args, warehouse.Named(c.column, c.value))
		}
	}
	if cursor != "" {
		if _, err := strconv.ParseUint(cursor, 10, 64); err != nil {
			return nil, "", ErrBadCursor
		}
		where += " AND position < {before:UInt64}"
		args = append(args, warehouse.Named("before", cursor))
	}
	all := []DeliveryRow{}
	err := v.each(ctx, func(scan func(...any) error) error {
		var d DeliveryRow
		err := scan(&d.ID, &d.Customer, &d.Subject, &d.Trigger, &d.Version, &d.Action, &d.Destination, &d.Change, &d.Programme,
			&d.From, &d.To, &d.ChangeAt, &d.Cause, &d.Arm, &d.BeganAt, &d.State, &d.Reason, &d.PlannedFor, &d.NextAt,
			&d.Attempts, &d.DeliveredAt, &d.Status, &d.Error, &d.Position)
		all = append(all, d)
		return err
	}, `SELECT delivery_id, customer_id, subject_id, trigger, version, action, destination, change, programme,
    from_state, to_state, change_at, cause, arm, began_at, state, reason, planned_for, next_at,
    attempts, delivered_at, status, error, position
FROM deliveries WHERE `+where+fmt.Sprintf(" ORDER BY position DESC LIMIT %d", limit+1), args...)
	if err != nil {
		return nil, "", fmt.Errorf("list the deliveries: %w", err)
	}
	if len(all) <= limit {
		return all, "", nil
	}
	return all[:limit], strconv.FormatUint(all[limit-1].Position, 10), nil
}

// deliveries puts what automation did for a customer onto a page of its timeline,
// each at the time of its change.
func (q *question) deliveries(ctx context.Context, members []*subject, p *page) error {
	var entries []fact.Entry
	for _, m := range members {
		for e, err := range q.store.ReadStream(ctx, fact.Stream(m.id), 0, eventstore.Forwards) {
			if errors.Is(err, eventstore.ErrStreamNotFound) {
				break
			}
			if err != nil {
				return fmt.Errorf("read what automation did: %w", err)
			}
			if !q.knows(&e) {
				break
			}
			kind, ok := fact.KindOf(e.Type)
			if !ok {
				continue
			}
			f, err := fact.Decode(kind, e.Data)
			if err != nil {
				return err
			}
			if f.At <= q.asOf {
				entries = append(entries, fact.Entry{Fact: f, Position: uint64(e.Position), Subject: m.id})
			}
		}
	}
	for _, d := range fact.Fold(entries).Deliveries() {
		e := Entry{At: domain.Millis(d.First.At).Time(), Delivery: d}
		if p.wants(e.place()) {
			p.add(e)
		}
	}
	return nil
}
