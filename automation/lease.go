package automation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"sojourn/domain"
	"sojourn/eventstore"
)

// One engine acts at a time. Who acts stands in a stream of its own, each entry
// appended at the expected revision: a newcomer claims, who acts answers by holding
// on, and a claim that nobody answers in time takes over. So one engine alone
// writes an entry at its start and then none.

// LeaseStream says which engine acts.
const LeaseStream = "automation_engine"

const typeLease = "automation.engine.v1"

// The times of a takeover: how long a claim waits for an answer, and how long an
// engine goes on without having looked whether it still acts.
const (
	claimWait = 3 * time.Second
	lookEvery = time.Second
)

type leaseRecord struct {
	Engine uuid.UUID `json:"engine"` // who says it
	Holder uuid.UUID `json:"holder"` // who acts
	What   string    `json:"what"`   // took, claims or holds
}

// lease is the last entry.
type lease struct {
	leaseRecord
	exists   bool
	revision uint64
}

func (l lease) expected() eventstore.Expected {
	if !l.exists {
		return eventstore.NoStream{}
	}
	return eventstore.Revision(l.revision)
}

// readLease reads the last entry.
func (e *Engine) readLease(ctx context.Context) (l lease, err error) {
	for r, err := range e.cfg.Store.ReadStream(ctx, LeaseStream, eventstore.End, eventstore.Backwards) {
		if errors.Is(err, eventstore.ErrStreamNotFound) {
			return l, nil
		}
		if err != nil {
			return l, fmt.Errorf("read which engine acts: %w", err)
		}
		l.exists, l.revision = true, r.Revision
		if err := json.Unmarshal(r.Data, &l.leaseRecord); err != nil {
			return l, fmt.Errorf("read which engine acts: %w", err)
		}
		return l, nil
	}
	return l, nil
}

// say appends an entry behind l; false where another came before.
func (e *Engine) say(ctx context.Context, l lease, what string) (bool, error) {
	holder := e.id
	if what == "claims" {
		holder = l.Holder
	}
	data, err := json.Marshal(leaseRecord{e.id, holder, what})
	if err != nil {
		return false, err
	}
	next := uint64(0)
	if l.exists {
		next = l.revision + 1
	}
	_, err = e.cfg.Store.Append(ctx, LeaseStream, l.expected(), eventstore.NewEvent{
		ID: domain.StatementID(LeaseStream, next, data), Type: typeLease, Data: data,
	})
	if errors.Is(err, eventstore.ErrWrongRevision) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("say which engine acts: %w", err)
	}
	return true, nil
}

// take returns once this engine is the one that acts.
func (e *Engine) take(ctx context.Context) error {
	waited := lease{} // the claim of another that was waited for
	for {
		l, err := e.readLease(ctx)
		if err != nil {
			return err
		}
		another := l.What == "claims" && l.Engine != e.id && l != waited
		switch {
		case !l.exists || e.cfg.Alone:
			if ok, err := e.say(ctx, l, "took"); ok || err != nil {
				return err
			}
			continue
		case another:
			waited = l
		default:
			if ok, err := e.say(ctx, l, "claims"); err != nil {
				return err
			} else if !ok {
				continue
			}
			l.revision++
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-e.cfg.After(claimWait):
		}
		if another {
			continue
		}
		if ok, err := e.say(ctx, l, "took"); ok || err != nil {
			return err
		}
	}
}

// errDeposed says that another engine acts by now.
var errDeposed = errors.New("another engine has taken over")

// acts looks, now and then or at once, whether this engine is still the one that
// acts, and answers a claim.
func (e *Engine) acts(ctx context.Context, atOnce bool) error {
	if e.dry != nil {
		return nil
	}
	e.leaseMu.Lock()
	defer e.leaseMu.Unlock()
	now := e.cfg.Now()
	if !atOnce && !e.looked.IsZero() && now.Sub(e.looked) < lookEvery && !now.Before(e.looked) {
		return nil
	}
	for {
		l, err := e.readLease(ctx)
		if err != nil {
			return err
		}
		if l.Holder != e.id {
			return errDeposed
		}
		if l.What == "claims" {
			ok, err := e.say(ctx, l, "holds")
			if err != nil {
				return err
			}
			if !ok {
				continue
			}
		}
		e.looked = now
		return nil
	}
}
