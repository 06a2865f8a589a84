package projections

import (
	"context"

	"golang.org/x/sync/errgroup"

	"sojourn/eventstore"
	"sojourn/warehouse"
)

// tables writes the rows of a generation into its tables in ClickHouse.
type tables struct {
	db         *warehouse.DB
	generation warehouse.Generation
}

func (t tables) WantsTouchpoints() bool { return true }

func (t tables) Trim(ctx context.Context, after eventstore.Position) error {
	_, err := t.db.TrimTouchpoints(ctx, t.generation, uint64(after))
	return err
}

// Write inserts into the tables side by side: none needs another's rows, and each
// waits for the disk.
func (t tables) Write(ctx context.Context, r *Rows) error {
	g, ctx := errgroup.WithContext(ctx)
	if r.Touchpoints != nil && r.Touchpoints.Len() > 0 {
		g.Go(func() error { return t.db.WriteTouchpoints(ctx, t.generation, r.Touchpoints) })
	}
	if len(r.Transitions) > 0 {
		g.Go(func() error { return t.db.WriteTransitions(ctx, t.generation, r.Transitions) })
	}
	if len(r.Customers) > 0 {
		g.Go(func() error { return t.db.WriteCustomers(ctx, t.generation, r.Customers) })
	}
	if len(r.Conflicts) > 0 {
		g.Go(func() error { return t.db.WriteConflicts(ctx, t.generation, r.Conflicts) })
	}
	if len(r.Accounts) > 0 {
		g.Go(func() error { return t.db.WriteAccounts(ctx, t.generation, r.Accounts) })
	}
	if len(r.AccountMembers) > 0 {
		g.Go(func() error { return t.db.WriteAccountMembers(ctx, t.generation, r.AccountMembers) })
	}
	if len(r.Subjects) > 0 {
		g.Go(func() error {
			if err := t.db.WriteSubjects(ctx, t.generation, r.Subjects); err != nil {
				return err
			}
			return t.db.ReloadMoved(ctx, t.generation)
		})
	}
	return g.Wait()
}

// NullSink takes no rows: it is for measuring the fold by itself.
type NullSink struct{}

// WantsTouchpoints is false.
func (NullSink) WantsTouchpoints() bool { return false }

// Trim does nothing.
func (NullSink) Trim(context.Context, eventstore.Position) error { return nil }

// Write does nothing.
func (NullSink) Write(context.Context, *Rows) error { return nil }
