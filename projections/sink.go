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
	write(g, r.LoyaltyStatus, func(rows []warehouse.LoyaltyStatus) error { return t.db.WriteLoyaltyStatus(ctx, t.generation, rows) })
	write(g, r.LoyaltyLedger, func(rows []warehouse.LoyaltyMovement) error { return t.db.WriteLoyaltyLedger(ctx, t.generation, rows) })
	write(g, r.TierChanges, func(rows []warehouse.TierChange) error { return t.db.WriteTierTransitions(ctx, t.generation, rows) })
	write(g, r.Satisfaction, func(rows []warehouse.Satisfaction) error { return t.db.WriteSatisfaction(ctx, t.generation, rows) })
	write(g, r.StatusChanges, func(rows []warehouse.StatusChange) error { return t.db.WriteStatusTransitions(ctx, t.generation, rows) })
	write(g, r.Cases, func(rows []warehouse.Case) error { return t.db.WriteCases(ctx, t.generation, rows) })
	write(g, r.Surveys, func(rows []warehouse.Survey) error { return t.db.WriteSurveys(ctx, t.generation, rows) })
	write(g, r.Feedback, func(rows []warehouse.Feedback) error { return t.db.WriteFeedback(ctx, t.generation, rows) })
	write(g, r.Handlings, func(rows []warehouse.Handling) error { return t.db.WriteHandlings(ctx, t.generation, rows) })
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

// write inserts rows where there are any.
func write[R any](g *errgroup.Group, rows []R, do func([]R) error) {
	if len(rows) > 0 {
		g.Go(func() error { return do(rows) })
	}
}

// NullSink takes no rows: it is for measuring the fold by itself.
type NullSink struct{}

// WantsTouchpoints is false.
func (NullSink) WantsTouchpoints() bool { return false }

// Trim does nothing.
func (NullSink) Trim(context.Context, eventstore.Position) error { return nil }

// Write does nothing.
func (NullSink) Write(context.Context, *Rows) error { return nil }
