package warehouse

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// SubjectNos is a range of numbers of subjects (SubjectNo), both ends included. The
// zero value stands for all.
type SubjectNos struct{ From, To uint64 }

func (n SubjectNos) all() bool { return n == SubjectNos{} }

// comment marks the INSERTs of a range.
func (n SubjectNos) comment() string { return fmt.Sprintf("sojourn subjects %d-%d", n.From, n.To) }

// above is the condition on rows of a range above a position.
func (n SubjectNos) above(position uint64) string {
	where := fmt.Sprintf("position > %d", position)
	if !n.all() {
		where += fmt.Sprintf(" AND subject_no BETWEEN %d AND %d", n.From, n.To)
	}
	return where
}

// Of is the same database for one of several writers: that of the touchpoints of a
// range of subjects. TrimTouchpoints leaves those of the others alone.
func (db *DB) Of(subjects SubjectNos) *DB {
	o := *db
	o.of = subjects
	return &o
}

// TrimTouchpoints deletes the touchpoints of a generation above a position, and
// returns how many there were. With it a runner makes its writes exactly once:
// it trims to its checkpoint before it goes on after a crash. The rows are
// hidden from every reader when it returns, and stay so after a crash. Where
// there are none it only reads an index; where they stand in parts of their own,
// as those of a batch that was just cut do, it takes milliseconds; where they
// have been merged with earlier ones, seconds for a million rows.
//
// An INSERT whose client has given up could still land behind the trim: those that
// run are killed first, and as long as one of them has not ended it is an error.
// On a cluster nothing is killed: there the table remembers what it has taken (see
// Flush), and only rows that no repetition brings again are trimmed.
func (db *DB) TrimTouchpoints(ctx context.Context, g Generation, position uint64) (uint64, error) {
	above := db.of.above(position)
	if db.cluster != "" {
		return db.trimCluster(ctx, g, position)
	}
	table := fmt.Sprintf("%s.touchpoints_%s", db.database, g)
	if err := db.endInserts(ctx, table); err != nil {
		return 0, fmt.Errorf("trim touchpoints_%s: %w", g, err)
	}
	parts, rows, err := db.partsAbove(ctx, table, above)
	if err != nil {
		return 0, fmt.Errorf("trim touchpoints_%s: %w", g, err)
	}
	if rows == 0 {
		return 0, nil
	}
	for _, part := range parts {
		// 1. What a merge has taken away meanwhile is left to 2.
		_ = db.Exec(ctx, fmt.Sprintf("ALTER TABLE %s DROP PART %s", table, quote(part)))
	}
	var left uint64
	row := db.QueryRow(ctx, "SELECT count() FROM "+table+" WHERE "+above)
	if err := row.Scan(&left); err != nil {
		return 0, fmt.Errorf("trim touchpoints_%s: %w", g, err)
	}
	if left == 0 {
		return rows, nil
	}
	// 2. Rows among others are masked, in every part that has any.
	stmt := fmt.Sprintf("DELETE FROM %s WHERE %s SETTINGS lightweight_deletes_sync = 2", table, above)
	if err := db.Exec(ctx, stmt); err != nil {
		return 0, fmt.Errorf("trim touchpoints_%s: %w", g, err)
	}
	return rows, nil
}

// How long endInserts waits for what it has killed, and how often it looks. A
// server that is reading from a client sees that it is killed when the client's
// time is up.
const (
	endWithin = 40 * time.Second
	endEvery  = 20 * time.Millisecond
)

// errInsertRuns is what errors.Is finds where an INSERT that was given up has not
// come to its end.
var errInsertRuns = errors.New("an earlier insert is still running")

// endInserts ends the writer's INSERTs into a table that still run.
func (db *DB) endInserts(ctx context.Context, table string) error {
	const running = " WHERE query_kind = 'Insert' AND startsWith(query, %s)"
	where := fmt.Sprintf(running, quote("INSERT INTO "+table+" "))
	if !db.of.all() {
		where += " AND Settings['log_comment'] = " + quote(db.of.comment())
	}
	count := func() (n uint64, err error) {
		err = db.QueryRow(ctx, "SELECT count() FROM system.processes"+where).Scan(&n)
		return n, err
	}
	n, err := count()
	if n == 0 || err != nil {
		return err
	}
	if err := db.Exec(ctx, "KILL QUERY"+where+" ASYNC"); err != nil {
		return err
	}
	tick := time.NewTicker(endEvery)
	defer tick.Stop()
	for end := time.Now().Add(endWithin); n > 0; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		if n, err = count(); err != nil {
			return err
		}
		if n > 0 && time.Now().After(end) {
			return errInsertRuns
		}
	}
	return nil
}

// trimCluster deletes by a mutation, which reaches the rows of every replica, and
// is done on those that are there when it returns.
func (db *DB) trimCluster(ctx context.Context, g Generation, position uint64) (rows uint64, err error) {
	row := db.QueryRow(ctx, fmt.Sprintf("SELECT count() FROM %s.touchpoints_%s WHERE %s", db.database, g, db.of.above(position)))
	if err := row.Scan(&rows); err != nil {
		return 0, fmt.Errorf("trim touchpoints_%s: %w", g, err)
	}
	if rows == 0 {
		return 0, nil
	}
	if err := db.Exec(ctx, db.trimStatement(g, position)); err != nil {
		return 0, fmt.Errorf("trim touchpoints_%s: %w", g, err)
	}
	return rows, nil
}

func (db *DB) trimStatement(g Generation, position uint64) string {
	return fmt.Sprintf("ALTER TABLE %s%s DELETE WHERE %s SETTINGS mutations_sync = 2", db.local("touchpoints", g), db.onCluster(), db.of.above(position))
}

// partsAbove lists the parts that hold nothing but rows of a condition, and counts
// these rows in all parts.
func (db *DB) partsAbove(ctx context.Context, table, above string) (parts []string, rows uint64, err error) {
	found, err := db.Query(ctx, fmt.Sprintf(`SELECT _part, countIf(%s), count()
FROM %s WHERE _part IN (SELECT DISTINCT _part FROM %s WHERE %s)
GROUP BY _part ORDER BY _part`, above, table, table, above))
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = found.Close() }()
	for found.Next() {
		var (
			part       string
			above, all uint64
		)
		if err := found.Scan(&part, &above, &all); err != nil {
			return nil, 0, err
		}
		rows += above
		if above == all {
			parts = append(parts, part)
		}
	}
	return parts, rows, found.Err()
}
