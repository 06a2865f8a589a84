package warehouse

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
)

// Migrate applies the numbered files of migrations/ that the database has not
// seen, in order, and records each in the table migrations. The tables of a
// generation are not among them: those are made whole by CreateGeneration, and
// a new layout is a new generation.
func (db *DB) Migrate(ctx context.Context) error {
	files, err := fs.Glob(sqlFiles, "migrations/*.sql")
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	applied := map[uint32]bool{}
	for i, file := range files {
		name := strings.TrimSuffix(path.Base(file), ".sql")
		digits, _, _ := strings.Cut(name, "_")
		number, err := strconv.ParseUint(digits, 10, 32)
		if err != nil {
			return fmt.Errorf("migrate: file %s has no number: %w", file, err)
		}
		if applied[uint32(number)] {
			continue
		}
		text, err := sqlFiles.ReadFile(file)
		if err != nil {
			return fmt.Errorf("migrate: %w", err)
		}
		for _, stmt := range db.migrationStatements(string(text)) {
			if err := db.Exec(ctx, stmt); err != nil {
				return fmt.Errorf("migrate %s: %w", name, err)
			}
		}
		if i == 0 { // the first makes the table of migrations, and is repeated at every start
			if applied, err = db.appliedMigrations(ctx); err != nil {
				return err
			}
			if applied[uint32(number)] {
				continue
			}
		}
		err = db.Exec(ctx, fmt.Sprintf("INSERT INTO %s.migrations (number, name) VALUES (%d, %s)",
			db.database, number, quote(name)))
		if err != nil {
			return fmt.Errorf("migrate %s: record it: %w", name, err)
		}
		db.logger.InfoContext(ctx, "applied a clickhouse migration", "migration", name)
	}
	return nil
}

func (db *DB) appliedMigrations(ctx context.Context) (map[uint32]bool, error) {
	rows, err := db.Query(ctx, "SELECT number FROM "+db.database+".migrations")
	if err != nil {
		return nil, fmt.Errorf("read migrations: %w", err)
	}
	defer func() { _ = rows.Close() }()
	applied := map[uint32]bool{}
	for rows.Next() {
		var n uint32
		if err := rows.Scan(&n); err != nil {
			return nil, fmt.Errorf("read migrations: %w", err)
		}
		applied[n] = true
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read migrations: %w", err)
	}
	return applied, nil
}

// statements splits a migration at the semicolons that end a line.
func statements(text string) []string {
	var all []string
	for part := range strings.SplitSeq(text+"\n", ";\n") {
		if part = strings.TrimSpace(part); part != "" {
			all = append(all, part)
		}
	}
	return all
}
