package projections

import (
	"context"
	"crypto/rand"
	"fmt"
	mathrand "math/rand/v2"
	"time"

	"golang.org/x/sync/errgroup"

	"sojourn/eventstore"
	"sojourn/warehouse"
)

// Sink takes the rows of a flush. What Write has written once more must read as
// if it had been written once, except for touchpoints, which Trim takes back.
type Sink interface {
	// WantsTouchpoints says whether rows of touchpoints are to be made at all.
	WantsTouchpoints() bool
	// Trim removes the touchpoints after a position.
	Trim(ctx context.Context, after eventstore.Position) error
	// Write makes rows durable.
	Write(ctx context.Context, rows *Rows) error
}

// tables writes the rows of a generation into its tables in ClickHouse.
type tables struct {
	db         *warehouse.DB
	generation warehouse.Generation
	shard      Shard
}

func (t tables) WantsTouchpoints() bool { return true }

// remembering is a sink that may know a flush that is written once more by its id
// (Rows.Flush): then its touchpoints need not be trimmed.
type remembering interface{ Remembers() bool }

// Remembers is true on a cluster.
func (t tables) Remembers() bool { return t.db.Clustered() }

func (t tables) Trim(ctx context.Context, after eventstore.Position) error {
	_, err := t.db.Of(t.shard.subjects()).TrimTouchpoints(ctx, t.generation, uint64(after))
	return err
}

// Write inserts into the tables side by side: none needs another's rows, and each
// waits for the disk. What is written is taken out of r, so that after an error
// Write goes on with the rest.
func (t tables) Write(ctx context.Context, r *Rows) error {
	db, gen := t.db.Of(t.shard.subjects()).Flush(r.Flush), t.generation
	var g errgroup.Group
	if r.Touchpoints != nil && r.Touchpoints.Len() > 0 && !r.wrote {
		g.Go(func() error {
			if r.tried && !t.Remembers() {
				if err := t.Trim(ctx, r.After); err != nil {
					return err
				}
			}
			r.tried = true
			err := db.WriteTouchpoints(ctx, gen, r.Touchpoints)
			r.wrote = err == nil
			return err
		})
	}
	write(ctx, &g, gen, r, func(t *TableRows) *[]warehouse.Transition { return &t.Transitions }, db.WriteTransitions)
	write(ctx, &g, gen, r, func(t *TableRows) *[]warehouse.Customer { return &t.Customers }, db.WriteCustomers)
	write(ctx, &g, gen, r, func(t *TableRows) *[]warehouse.Conflict { return &t.Conflicts }, db.WriteConflicts)
	write(ctx, &g, gen, r, func(t *TableRows) *[]warehouse.Account { return &t.Accounts }, db.WriteAccounts)
	write(ctx, &g, gen, r, func(t *TableRows) *[]warehouse.AccountMember { return &t.AccountMembers }, db.WriteAccountMembers)
	write(ctx, &g, gen, r, func(t *TableRows) *[]warehouse.LoyaltyStatus { return &t.LoyaltyStatus }, db.WriteLoyaltyStatus)
	write(ctx, &g, gen, r, func(t *TableRows) *[]warehouse.LoyaltyMovement { return &t.LoyaltyLedger }, db.WriteLoyaltyLedger)
	write(ctx, &g, gen, r, func(t *TableRows) *[]warehouse.TierChange { return &t.TierChanges }, db.WriteTierTransitions)
	write(ctx, &g, gen, r, func(t *TableRows) *[]warehouse.Satisfaction { return &t.Satisfaction }, db.WriteSatisfaction)
	write(ctx, &g, gen, r, func(t *TableRows) *[]warehouse.StatusChange { return &t.StatusChanges }, db.WriteStatusTransitions)
	write(ctx, &g, gen, r, func(t *TableRows) *[]warehouse.Case { return &t.Cases }, db.WriteCases)
	write(ctx, &g, gen, r, func(t *TableRows) *[]warehouse.Survey { return &t.Surveys }, db.WriteSurveys)
	write(ctx, &g, gen, r, func(t *TableRows) *[]warehouse.Feedback { return &t.Feedback }, db.WriteFeedback)
	write(ctx, &g, gen, r, func(t *TableRows) *[]warehouse.Handling { return &t.Handlings }, db.WriteHandlings)
	write(ctx, &g, gen, r, func(t *TableRows) *[]warehouse.DeliveryFact { return &t.Deliveries }, db.WriteDeliveryFacts)
	write(ctx, &g, gen, r, func(t *TableRows) *[]warehouse.SegmentStay { return &t.SegmentStays }, db.WriteSegmentStays)
	subjects := func(ctx context.Context, gen warehouse.Generation, rows ...[]warehouse.Subject) error {
		if err := db.WriteSubjects(ctx, gen, rows...); err != nil {
			return err
		}
		return db.ReloadMoved(ctx, gen)
	}
	write(ctx, &g, gen, r, func(t *TableRows) *[]warehouse.Subject { return &t.Subjects }, subjects)
	return g.Wait()
}

// write inserts the rows of a table where there are any, and takes them out when they
// are written.
func write[R any](ctx context.Context, g *errgroup.Group, gen warehouse.Generation, r *Rows, of func(*TableRows) *[]R, do func(context.Context, warehouse.Generation, ...[]R) error) {
	var rows [][]R
	for i := range r.Tables {
		if some := *of(&r.Tables[i]); len(some) > 0 {
			rows = append(rows, some)
		}
	}
	if len(rows) == 0 {
		return
	}
	g.Go(func() error {
		err := do(ctx, gen, rows...)
		if err == nil {
			for i := range r.Tables {
				*of(&r.Tables[i]) = nil
			}
		}
		return err
	})
}

// newFlushID names a flush of a range of buckets and of the log. The random part keeps
// it apart from one of the same ranges in another life of the state, whose rows were
// trimmed.
func newFlushID(s Shard, after, to eventstore.Position) string {
	id := fmt.Sprintf("%d-%d/%s", after, to, rand.Text())
	if s.whole() {
		return id
	}
	return s.String() + "/" + id
}

// How long a sink that is away, overloaded or read-only is left alone: the first
// time, and at most. Each wait is cut by up to a half, at random.
const (
	firstSinkWait = 250 * time.Millisecond
	maxSinkWait   = 30 * time.Second
	// graceOfSink is how long a write under way is waited for when nobody has
	// patience any more.
	graceOfSink = 15 * time.Second
)

// writeRows writes the rows of a flush, and comes again while ClickHouse does not
// take them and patience lasts. The log goes on meanwhile: it costs lag.
func (g *generation) writeRows(ctx, patience context.Context, rows *Rows) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(patience, func() {
		if pause(ctx, graceOfSink) == nil {
			cancel()
		}
	})()
	told := false
	defer func() {
		if told {
			g.trouble(nil)
		}
	}()
	for wait := firstSinkWait; ; wait = min(2*wait, maxSinkWait) {
		err := g.sink.Write(ctx, rows)
		if err == nil || !warehouse.Transient(err) {
			return err
		}
		err = fmt.Errorf("clickhouse takes no rows at the moment: %w", err)
		if g.trouble != nil {
			g.trouble(err)
			told = true
		}
		left := wait - time.Duration(mathrand.Int64N(int64(wait)/2))
		g.logger.Warn("the views wait for clickhouse", "generation", g.number, "in", left.Round(time.Millisecond), "error", err)
		if pause(patience, left) != nil {
			return err
		}
		if g.fence != nil {
			if err := g.fence.check(ctx); err != nil {
				return err
			}
		}
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
