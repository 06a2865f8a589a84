package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/google/uuid"

	"sojourn/domain/loyalty"
	"sojourn/domain/policy"
	"sojourn/eventstore"
	"sojourn/eventstore/storebench"
	"sojourn/projections"
	"sojourn/warehouse"
	"sojourn/warehouse/chdb"
)

// ending is a log that ends at a position, whatever stands behind it.
type ending struct {
	eventstore.Store
	at eventstore.Position
}

func (s ending) Head(context.Context) (eventstore.Position, error) { return s.at, nil }

// first is the log up to its first n touchpoints, and the number of its events.
func (d *data) first(ctx context.Context, n int) (s ending, events int, err error) {
	touchpoints := 0
	for e, err := range d.store.ReadAll(ctx, 0) {
		if err != nil {
			return s, events, err
		}
		events++
		s.at = e.Position
		if len(e.Metadata) > 0 {
			if touchpoints++; touchpoints == n {
				break
			}
		}
	}
	s.Store = d.store
	return s, events, nil
}

func rules() *projections.Rules {
	return projections.NewRules(loyalty.AppliedPolicy{Policy: policy.Default()})
}

// stateDir is an empty folder for the state of a replay.
func (b *bench) stateDir() (string, error) { return os.MkdirTemp(b.dir, "state-") }

// replayInto replays a log into a sink, from nothing.
func (b *bench) replayInto(ctx context.Context, d *data, log ending, sink projections.Sink) (err error) {
	dir, err := b.stateDir()
	if err != nil {
		return err
	}
	at, err := projections.Replay(ctx, log, d.keyer, rules(), sink, dir)
	if err == nil && at != log.at {
		err = fmt.Errorf("the replay ended at position %d, not at %d", at, log.at)
	}
	return err
}

// fold takes figure 3: the replay of a million events with a null sink, beside a
// raw Pebble scan of the same records.
func (b *bench) fold(ctx context.Context, d *data) (err error) {
	log, events, err := d.first(ctx, b.Events)
	if err != nil {
		return err
	}
	dir := filepath.Join(b.dir, "scan")
	raw, err := storebench.OpenRaw(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, raw.Close(), os.RemoveAll(dir)) }()
	if err := copyRaw(ctx, raw, log); err != nil {
		return err
	}
	line := Line{
		Figure: "3", Name: "replay through the fold, null sink", Unit: "events/s", YardstickName: "raw Pebble scan",
		Floor: 0.25, Goal: 0.40,
	}
	for round := range b.Rounds {
		ours, err := timed(events, func() error {
			return b.profiled(3, round, func() error { return b.replayInto(ctx, d, log, projections.NullSink{}) })
		})
		if err != nil {
			return err
		}
		scan, err := timed(events, func() error {
			n, err := storebench.RawScan(raw)
			if err == nil && n != events {
				err = fmt.Errorf("the scan read %d records, not %d", n, events)
			}
			return err
		})
		if err != nil {
			return err
		}
		line.OursRounds, line.YardstickRounds = append(line.OursRounds, ours), append(line.YardstickRounds, scan)
		b.say("figure 3: round %d of %d: %s, scan %s events/s", round+1, b.Rounds, number(ours), number(scan))
	}
	b.report.add(line)
	return nil
}

// copyRaw copies the events of a log to a raw database, one record each.
func copyRaw(ctx context.Context, db *pebble.DB, log ending) error {
	batch := db.NewBatch()
	var value []byte
	for e, err := range log.ReadAll(ctx, 0) {
		if err != nil {
			return err
		}
		if e.Position > log.at {
			break
		}
		value = append(value[:0], e.ID[:]...)
		for _, part := range [][]byte{[]byte(e.Type), []byte(e.Stream), e.Metadata, e.Data} {
			value = binary.AppendUvarint(value, uint64(len(part)))
			value = append(value, part...)
		}
		if err := batch.Set(binary.BigEndian.AppendUint64([]byte{'l'}, uint64(e.Position)), value, nil); err != nil {
			return err
		}
		if batch.Len() > 4<<20 {
			if err := batch.Commit(pebble.NoSync); err != nil {
				return err
			}
			batch = db.NewBatch()
		}
	}
	return errors.Join(batch.Commit(pebble.Sync), db.Flush())
}

// finished keeps the rows that stand in the end.
type finished struct {
	touchpoints []*warehouse.TouchpointBlock
	customers   map[uuid.UUID]warehouse.Customer
	subjects    map[uuid.UUID]warehouse.Subject
	transitions map[transitionKey]warehouse.Transition
}

type transitionKey struct {
	customer uuid.UUID
	seq      uint32
}

func (f *finished) WantsTouchpoints() bool { return true }

func (f *finished) Trim(context.Context, eventstore.Position) error { return nil }

func (f *finished) Write(_ context.Context, rows *projections.Rows) error {
	if t := rows.Touchpoints; t != nil {
		for i := range t.Len() {
			last := len(f.touchpoints) - 1
			if last < 0 || f.touchpoints[last].Len() == warehouse.MaxRowsPerInsert {
				f.touchpoints = append(f.touchpoints, &warehouse.TouchpointBlock{})
				last++
			}
			row := t.Row(i)
			f.touchpoints[last].Append(&row)
		}
	}
	for _, some := range rows.Tables {
		for _, c := range some.Customers {
			f.customers[c.CustomerID] = c
		}
		for _, s := range some.Subjects {
			f.subjects[s.SubjectID] = s
		}
		for _, t := range some.Transitions {
			f.transitions[transitionKey{t.CustomerID, t.Seq}] = t
		}
	}
	return nil
}

// rows are the finished rows, in the order of their tables.
type rows struct {
	touchpoints []*warehouse.TouchpointBlock
	customers   []warehouse.Customer
	subjects    []warehouse.Subject
	transitions []warehouse.Transition
}

func (f *finished) rows() rows {
	r := rows{touchpoints: f.touchpoints}
	for _, c := range f.customers {
		if !c.Removed {
			r.customers = append(r.customers, c)
		}
	}
	for _, s := range f.subjects {
		r.subjects = append(r.subjects, s)
	}
	for _, t := range f.transitions {
		if !t.Removed {
			r.transitions = append(r.transitions, t)
		}
	}
	byID := func(a, b uuid.UUID) int { return slices.Compare(a[:], b[:]) }
	slices.SortFunc(r.customers, func(a, b warehouse.Customer) int { return byID(a.CustomerID, b.CustomerID) })
	slices.SortFunc(r.subjects, func(a, b warehouse.Subject) int { return byID(a.SubjectID, b.SubjectID) })
	slices.SortFunc(r.transitions, func(a, b warehouse.Transition) int {
		if c := byID(a.CustomerID, b.CustomerID); c != 0 {
			return c
		}
		return int(a.Seq) - int(b.Seq)
	})
	return r
}

// insert writes the rows, in as few INSERTs as they fit in.
func (r *rows) insert(ctx context.Context, db *warehouse.DB, g warehouse.Generation) error {
	for _, t := range r.touchpoints {
		if err := db.WriteTouchpoints(ctx, g, t); err != nil {
			return err
		}
	}
	return errors.Join(
		db.WriteTransitions(ctx, g, r.transitions),
		db.WriteCustomers(ctx, g, r.customers),
		db.WriteSubjects(ctx, g, r.subjects),
	)
}

// engine starts a ClickHouse engine and connects to it.
func (b *bench) engine(ctx context.Context, dir string) (*warehouse.DB, func() error, error) {
	log := slog.New(slog.DiscardHandler)
	engine, err := chdb.Start(ctx, chdb.Config{Dir: dir, Library: b.Library, Logger: log})
	if err != nil {
		return nil, nil, err
	}
	db, err := warehouse.Open(ctx, warehouse.Config{Socket: engine.Socket(), Logger: log})
	if err != nil {
		return nil, nil, errors.Join(err, engine.Close())
	}
	stop := func() error { return errors.Join(db.Close(), engine.Close()) }
	if err := db.Migrate(ctx); err != nil {
		return nil, nil, errors.Join(err, stop())
	}
	return db, stop, nil
}

// replay takes figure 4: the replay into ClickHouse, beside inserting the same
// finished rows.
func (b *bench) replay(ctx context.Context, d *data) (err error) {
	log, events, err := d.first(ctx, b.Events)
	if err != nil {
		return err
	}
	dir := filepath.Join(b.dir, "engine")
	db, stop, err := b.engine(ctx, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop(), os.RemoveAll(dir)) }()
	all := finished{
		customers: map[uuid.UUID]warehouse.Customer{}, subjects: map[uuid.UUID]warehouse.Subject{},
		transitions: map[transitionKey]warehouse.Transition{},
	}
	if err := b.replayInto(ctx, d, log, &all); err != nil {
		return err
	}
	done := all.rows()
	b.report.note("Figure 4 writes %d touchpoints, %d transitions, %d customers and %d subjects.",
		b.Events, len(done.transitions), len(done.customers), len(done.subjects))
	line := Line{
		Figure: "4", Name: "replay into ClickHouse, exactly once", Unit: "events/s", YardstickName: "INSERT of the same rows",
		Floor: 0.25, Goal: 0.50,
	}
	generation := warehouse.Generation(0)
	into := func(write func(warehouse.Generation) error) (float64, error) {
		generation++
		g := generation
		if err := db.CreateGeneration(ctx, g); err != nil {
			return 0, err
		}
		rate, err := timed(events, func() error { return write(g) })
		// What the engine has left to do with the rows must not slow what follows.
		return rate, errors.Join(err, db.DropGeneration(ctx, g))
	}
	for round := range b.Rounds {
		ours, err := into(func(g warehouse.Generation) error {
			return b.profiled(4, round, func() error { return b.replayInto(ctx, d, log, projections.TableSink(db, g)) })
		})
		if err != nil {
			return err
		}
		plain, err := into(func(g warehouse.Generation) error { return done.insert(ctx, db, g) })
		if err != nil {
			return err
		}
		line.OursRounds, line.YardstickRounds = append(line.OursRounds, ours), append(line.YardstickRounds, plain)
		b.say("figure 4: round %d of %d: %s, plain INSERT %s events/s", round+1, b.Rounds, number(ours), number(plain))
	}
	b.report.add(line)
	return nil
}
