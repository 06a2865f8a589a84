package warehouse

import (
	"context"
	"fmt"
)

// TrimTouchpoints deletes the touchpoints of a generation above a position, and
// returns how many there were. With it a runner makes its writes exactly once:
// it trims to its checkpoint before it goes on after a crash. The rows are
// hidden from every reader when it returns, and stay so after a crash. Where
// there are none it only reads an index; where they stand in parts of their own,
// as those of a batch that was just cut do, it takes milliseconds; where they
// have been merged with earlier ones, seconds for a million rows.
func (db *DB) TrimTouchpoints(ctx context.Context, g Generation, position uint64) (uint64, error) {
	table := fmt.Sprintf("%s.touchpoints_%s", db.database, g)
	parts, rows, err := db.partsAbove(ctx, table, position)
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
	row := db.QueryRow(ctx, "SELECT count() FROM "+table+" WHERE position > {position:UInt64}", Named("position", position))
	if err := row.Scan(&left); err != nil {
		return 0, fmt.Errorf("trim touchpoints_%s: %w", g, err)
	}
	if left == 0 {
		return rows, nil
	}
	// 2. Rows among others are masked, in every part that has any.
	stmt := fmt.Sprintf("DELETE FROM %s WHERE position > %d SETTINGS lightweight_deletes_sync = 2", table, position)
	if err := db.Exec(ctx, stmt); err != nil {
		return 0, fmt.Errorf("trim touchpoints_%s: %w", g, err)
	}
	return rows, nil
}

// partsAbove lists the parts that hold nothing but rows above a position, and
// counts these rows in all parts.
func (db *DB) partsAbove(ctx context.Context, table string, position uint64) (parts []string, rows uint64, err error) {
	found, err := db.Query(ctx, fmt.Sprintf(`SELECT _part, countIf(position > {position:UInt64}), count()
FROM %s WHERE _part IN (SELECT DISTINCT _part FROM %s WHERE position > {position:UInt64})
GROUP BY _part ORDER BY _part`, table, table), Named("position", position))
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
