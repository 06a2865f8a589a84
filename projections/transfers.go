package projections

import (
	"context"
	"encoding/binary"
	"encoding/json"

	"github.com/google/uuid"

	"sojourn/domain"
	"sojourn/domain/loyalty"
	"sojourn/eventstore"
)

// finish appends the second halves of transfers of which only the first stands.
func (d *desk) finish(ctx context.Context) error {
	if !d.begun {
		if err := d.unfinishedBefore(ctx); err != nil {
			return err
		}
		d.begun = true
	}
	if len(d.unfinished) == 0 {
		return nil
	}
	if err := d.catchUp(ctx); err != nil {
		return err
	}
	var parts []eventstore.Append
	var ids []uuid.UUID
	for id, out := range d.unfinished {
		switch at, err := d.tail.positionOf(out.Of); {
		case err != nil:
			return err
		case at != 0:
			delete(d.unfinished, id)
			continue
		}
		part, err := d.tail.otherHalf(ctx, out)
		if err != nil {
			return err
		}
		parts, ids = append(parts, part), append(ids, id)
	}
	if len(parts) == 0 {
		return nil
	}
	results, err := d.views.cfg.Store.AppendMany(ctx, parts)
	if err != nil {
		return err
	}
	for i, r := range results {
		if r.Err != nil {
			return r.Err
		}
		delete(d.unfinished, ids[i])
	}
	return nil
}

// unfinishedBefore finds the transfers that a process left half done.
func (d *desk) unfinishedBefore(ctx context.Context) error {
	if err := d.catchUp(ctx); err != nil {
		return err
	}
	f := d.tail.fold
	var positions []eventstore.Position
	err := f.state.scan(transferKey([16]byte{}), []byte{'y' + 1}, func(_, value []byte) error {
		positions = append(positions, eventstore.Position(binary.BigEndian.Uint64(value)))
		return nil
	})
	if err != nil {
		return err
	}
	for _, p := range positions {
		e, err := eventAt(ctx, d.views.cfg.Store, p)
		if err != nil {
			return err
		}
		c, err := commandOf(e)
		if err != nil {
			return err
		}
		if f.commands[c.Of] == nil {
			d.unfinished[c.ID] = c
		}
	}
	for _, c := range f.commands {
		if c.Kind == loyalty.TransferOut && f.commands[c.Of] == nil {
			d.unfinished[c.ID] = c
		}
	}
	return nil
}

// otherHalf is the append of a transfer's second event. It is not decided about, so
// whatever the guard stream holds will do.
func (t *tail) otherHalf(ctx context.Context, out *command) (eventstore.Append, error) {
	e, err := eventAt(ctx, t.generation.store, out.position)
	if err != nil {
		return eventstore.Append{}, err
	}
	var d commandData
	if err := json.Unmarshal(e.Data, &d); err != nil {
		return eventstore.Append{}, err
	}
	to := t.fold.subject(d.Other)
	if t.fold.err != nil {
		return eventstore.Append{}, t.fold.err
	}
	id := to.id
	members, err := t.members(to)
	if err != nil {
		return eventstore.Append{}, err
	}
	if first := firstOf(members); first != nil {
		id = first.id
	}
	in := commandData{
		Subject: d.Other, Programme: d.Programme, Command: "transfer_in", At: d.At, Points: d.Points, Of: out.ID,
		Parts: d.Parts, Reason: d.Reason, Author: d.Author, Other: d.Subject,
	}
	data, err := json.Marshal(in) // without a fingerprint, so the next command looks anew
	if err != nil {
		return eventstore.Append{}, err
	}
	return eventstore.Append{Stream: domain.GuardStream(id), Expected: eventstore.Any{}, Events: []eventstore.NewEvent{
		{ID: out.Of, Type: domain.TypeLoyaltyCommand, Data: data},
	}}, t.fold.err
}
