package warehouse

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The public views are replaced one after the other, and are switched to another
// generation all at once. Statements wait for that where they can be made to
// (Config.Hold). Elsewhere first each is made to read either of two generations, by what
// the view active_generation says; then that one view is replaced; then each is made to
// read the new generation alone. What active_generation says changes with the time at
// which a statement began, so that a statement that reads several views, and each view
// finds out for itself, is told the same by all of them.

// activeGeneration is the view that says which generation the public views read.
const activeGeneration = "active_generation"

const (
	// settles is how long it takes at most until all nodes have a view that was
	// replaced.
	settles = 500 * time.Millisecond
	// findsWithin is how long a statement takes at most to find out which tables it
	// reads.
	findsWithin = time.Second
	// agreedAhead is how long before it a switch is agreed at most: one that is further
	// off is one of a clock that was set back.
	agreedAhead = 3 * time.Second
)

// Activate makes the public views read a generation. It is safe to repeat, and a start
// repeats it, which finishes a switch that a crash has cut short and brings the views up
// to the release in use.
func (db *DB) Activate(ctx context.Context, g Generation) error {
	now, err := db.pointed(ctx)
	switch {
	case err != nil:
		return err
	case now.g == g && now.exists:
		if err := db.over(ctx, now, findsWithin); err != nil {
			return err
		}
	case now.g != 0 && now.g != g && !db.Holds():
		return db.Switch(ctx, g, func() {})
	default:
		if err := db.point(ctx, pointer{g: g}, 0); err != nil {
			return err
		}
	}
	return db.define(ctx, g)
}

// Prepare makes the public views such that they can be switched to a generation at one
// instant: Switch, PointAt and SwitchAt do no more then than to say when. It is safe to
// repeat, also by several processes, and waits until a switch under way is over. Views
// that cannot be made so, because the tables of the active generation cannot be read any
// more, are left as they are; they are switched one after the other then.
func (db *DB) Prepare(ctx context.Context, g Generation) error {
	now, err := db.pointed(ctx)
	if err != nil || now.g == 0 || now.g == g {
		return err
	}
	// Until whoever did that has defined the views.
	if err := db.over(ctx, now, 3*findsWithin); err != nil {
		return err
	}
	if !now.exists {
		if err := db.point(ctx, pointer{g: now.g}, 0); err != nil {
			return err
		}
	}
	err = db.either(ctx, now.g, g)
	if err == nil || ctx.Err() != nil || Transient(err) {
		return err
	}
	// Tables that are missing, or lack what this release has added.
	if err = db.CreateGeneration(ctx, now.g); err == nil {
		err = db.either(ctx, now.g, g)
	}
	if err == nil || ctx.Err() != nil || Transient(err) {
		return err
	}
	db.logger.Warn("statements will see the tables switched one after the other", "error", err)
	return nil
}

// either has the public views read the one of two generations that active_generation
// says.
func (db *DB) either(ctx context.Context, before, g Generation) error {
	for _, name := range viewFiles {
		stmt, err := db.eitherStatement(name, before, g)
		if err == nil && stmt != "" {
			err = db.Exec(ctx, stmt)
		}
		if err != nil {
			return fmt.Errorf("prepare the switch to %s: view %s: %w", g, name, err)
		}
	}
	return nil
}

// readAlone has the public views read the active generation alone, where any reads
// another that is to be dropped.
func (db *DB) readAlone(ctx context.Context, active, g Generation) error {
	var n uint64
	err := db.QueryRow(ctx, "SELECT count() FROM system.tables WHERE database = {database:String} AND engine = 'View' AND match(create_table_query, {table:String})",
		Named("database", db.database), Named("table", "_"+g.String()+"\\b")).Scan(&n)
	if err != nil {
		return fmt.Errorf("find the views of %s: %w", g, err)
	}
	if n == 0 {
		return nil
	}
	return db.define(ctx, active)
}

// Holds reports whether statements from outside wait for Switch, so that nothing need be
// prepared for it.
func (db *DB) Holds() bool { return db.hold != nil }

// Switch makes the public views read a generation, all of them at one instant: a
// statement reads one generation only. It calls at at that instant, and if it fails
// before. Where Config.Hold has statements from outside wait meanwhile, none of them sees
// anything from before at, once at has returned; elsewhere the instant is a full second,
// half of one from now or later, and a statement belongs to what was there when it began.
//
// A statement that takes over a second to find its tables may find some of each.
func (db *DB) Switch(ctx context.Context, g Generation, at func()) error {
	at = sync.OnceFunc(at)
	defer at()
	if db.Holds() {
		switch release, err := db.hold(ctx); {
		case err == nil:
			defer release()
		case ctx.Err() == nil:
			db.logger.Warn("statements see the tables switched one after the other", "error", err)
		}
		at()
		return db.Activate(ctx, g)
	}
	if err := db.Prepare(ctx, g); err != nil {
		return err
	}
	if err := db.PointAt(ctx, g, time.Time{}); err != nil {
		return err
	}
	now, err := db.pointed(ctx)
	if err != nil {
		return err
	}
	if err := db.over(ctx, now, 0); err != nil {
		return err
	}
	at()
	if err := wait(ctx, findsWithin); err != nil {
		return err
	}
	return db.define(ctx, g)
}

// PointAt has the views that Prepare has prepared read a generation from an instant on, a
// full second by the clock of ClickHouse; from the next one that all nodes learn of in
// time where that is too near, or further off than a switch is ever agreed. Where they
// are to do so already, nothing changes.
func (db *DB) PointAt(ctx context.Context, g Generation, since time.Time) error {
	clock, err := db.Now(ctx)
	if err != nil {
		return err
	}
	if soonest := clock.Add(settles + time.Second - 1).Truncate(time.Second); since.Before(soonest) || since.After(clock.Add(agreedAhead)) {
		since = soonest
	}
	now, err := db.pointed(ctx)
	if err != nil || now.exists && now.g == g {
		return err
	}
	return db.point(ctx, pointer{g: g, since: since}, now.g)
}

// SwitchAt makes the public views read a generation from an instant on, a full second by
// the clocks of ClickHouse and of this machine. Several processes may do it with the same
// instant, and repeat it. It returns when no view reads another generation any more.
// Where a later generation is shown already, it changes nothing.
func (db *DB) SwitchAt(ctx context.Context, g Generation, since time.Time) error {
	now, err := db.pointed(ctx)
	if err != nil || now.g > g {
		return err
	}
	if now.g != g || !now.exists {
		if err := db.Prepare(ctx, g); err != nil {
			return err
		}
		if now, err = db.pointed(ctx); err != nil || now.g > g {
			return err
		}
		if err := db.PointAt(ctx, g, since); err != nil {
			return err
		}
	}
	if now, err = db.pointed(ctx); err != nil {
		return err
	}
	if err := db.over(ctx, now, findsWithin); err != nil {
		return err
	}
	defined, err := db.defined(ctx, g)
	if err != nil || defined {
		return err
	}
	if now, err = db.pointed(ctx); err != nil || now.g != g {
		return err
	}
	return db.define(ctx, g)
}

// Now is the time by the clock of ClickHouse.
func (db *DB) Now(ctx context.Context) (now time.Time, err error) {
	if err := db.QueryRow(ctx, "SELECT now64(3)").Scan(&now); err != nil {
		return now, fmt.Errorf("ask for the time: %w", err)
	}
	return now, nil
}

// defined reports whether all public views were defined for a generation; they may have
// been prepared for a later one since.
func (db *DB) defined(ctx context.Context, g Generation) (bool, error) {
	var n uint64
	err := db.QueryRow(ctx, "SELECT count() FROM system.tables WHERE database = {database:String} AND engine = 'View' AND name != '"+activeGeneration+"' AND comment = {generation:String}",
		Named("database", db.database), Named("generation", g.String())).Scan(&n)
	if err != nil {
		return false, fmt.Errorf("find the views of %s: %w", g, err)
	}
	return n == uint64(len(viewFiles)), nil
}

func wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// pointer is what active_generation says: a generation from an instant on, zero for
// ever since.
type pointer struct {
	g      Generation
	since  time.Time
	exists bool // else it is of views that an earlier release has made
}

// over waits until a while after active_generation began to say what it says.
func (db *DB) over(ctx context.Context, p pointer, after time.Duration) error {
	if p.since.IsZero() {
		return ctx.Err()
	}
	now, err := db.Now(ctx)
	if err != nil {
		return err
	}
	return wait(ctx, min(p.since.Sub(now), agreedAhead)+after)
}

// pointed is the pointer as it is; g is 0 where nothing was activated yet.
func (db *DB) pointed(ctx context.Context) (p pointer, err error) {
	rows, err := db.Query(ctx, `SELECT name, comment FROM system.tables
WHERE database = {database:String} AND name IN ('`+activeGeneration+`', 'touchpoints') AND engine = 'View' ORDER BY name DESC`, Named("database", db.database))
	if err != nil {
		return p, fmt.Errorf("find the active generation: %w", err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var name, comment string
		if err := rows.Scan(&name, &comment); err != nil {
			return p, fmt.Errorf("find the active generation: %w", err)
		}
		generation, since, _ := strings.Cut(comment, " since ")
		n, err := strconv.ParseUint(strings.TrimPrefix(generation, "g"), 10, 32)
		if err != nil {
			continue
		}
		p = pointer{g: Generation(n), exists: name == activeGeneration}
		if seconds, err := strconv.ParseInt(since, 10, 64); err == nil {
			p.since = time.Unix(seconds, 0)
		}
	}
	if err := rows.Err(); err != nil {
		return p, fmt.Errorf("find the active generation: %w", err)
	}
	return p, nil
}

// point has active_generation say a generation from an instant on, and another before it.
func (db *DB) point(ctx context.Context, p pointer, before Generation) error {
	says, comment := strconv.Itoa(int(p.g)), p.g.String()
	if !p.since.IsZero() && before != 0 {
		says = fmt.Sprintf("if(toUnixTimestamp(initialQueryStartTime()) < %d, %d, %d)", p.since.Unix(), before, p.g)
		comment += fmt.Sprintf(" since %d", p.since.Unix())
	}
	err := db.Exec(ctx, db.onAll(fmt.Sprintf("CREATE OR REPLACE VIEW %s AS\nSELECT toUInt32(%s) AS generation\nCOMMENT '%s'", activeGeneration, says, comment)))
	if err != nil {
		return fmt.Errorf("switch to %s: %w", p.g, err)
	}
	return nil
}

// eitherStatement makes a public view read the one of two generations that
// active_generation says; it is empty for a view that reads other views only.
func (db *DB) eitherStatement(view string, before, g Generation) (string, error) {
	old, err := db.viewSelect(view, before)
	if err != nil {
		return "", err
	}
	text, err := db.viewSelect(view, g)
	if err != nil || text == old {
		return "", err
	}
	says := "(SELECT generation FROM " + db.database + "." + activeGeneration + ")"
	return db.onAll(fmt.Sprintf("CREATE OR REPLACE VIEW %s AS\nSELECT * FROM\n(\n%s\n)\nWHERE %s != %d\nUNION ALL\nSELECT * FROM\n(\n%s\n)\nWHERE %s = %d\nCOMMENT '%s'",
		view, old, says, g, text, says, g, before)), nil
}

// define makes the public views read a generation, one after the other.
func (db *DB) define(ctx context.Context, g Generation) error {
	for _, name := range viewFiles {
		stmt, err := db.viewStatement(name, g)
		if err == nil {
			err = db.Exec(ctx, stmt)
		}
		if err != nil {
			return fmt.Errorf("activate %s: view %s: %w", g, name, err)
		}
	}
	return nil
}

// Active tells which generation the public views read or are about to read, or
// ErrNoGeneration.
func (db *DB) Active(ctx context.Context) (Generation, error) {
	p, err := db.pointed(ctx)
	if err == nil && p.g == 0 {
		err = ErrNoGeneration
	}
	return p.g, err
}
