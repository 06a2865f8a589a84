package warehouse

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/url"
	"regexp"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// DefaultDatabase is the database that holds the tables and the public views.
const DefaultDatabase = "sojourn"

// Config says which ClickHouse to use. Exactly one of DSN and Socket is set.
type Config struct {
	// DSN names a server: clickhouse://user:password@host:9000,
	// http://user:password@host:8123 or https://…, with settings as arguments.
	// A database in its path counts where Database is empty.
	DSN string
	// Socket is the private Unix socket of the embedded engine.
	Socket string
	// Database defaults to DefaultDatabase. Letters, digits and underscores.
	Database string
	// MaxConns bounds the connections, and so the concurrent statements.
	// Default 16.
	MaxConns int
	// ReadTimeout bounds one statement that has no deadline of its own.
	// Default 10 minutes.
	ReadTimeout time.Duration
	// Logger defaults to one that discards.
	Logger *slog.Logger
}

// DB is a connection pool to ClickHouse, safe for concurrent use. Statements run
// in the configured database.
type DB struct {
	conn     driver.Conn
	database string
	options  *clickhouse.Options
	logger   *slog.Logger
}

var databaseName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// Open connects and creates the database where it is missing; the tables are
// Migrate's and CreateGeneration's. The error says in one line what is wrong.
func Open(ctx context.Context, cfg Config) (*DB, error) {
	opt, err := options(&cfg)
	if err != nil {
		return nil, err
	}
	// A session cannot start in a database that does not exist yet.
	if err := ensureDatabase(ctx, opt, cfg.Database); err != nil {
		return nil, err
	}
	opt.Auth.Database = cfg.Database
	conn, err := clickhouse.Open(opt)
	if err != nil {
		return nil, fmt.Errorf("open clickhouse: %w", err)
	}
	return &DB{conn: conn, database: cfg.Database, options: opt, logger: cfg.Logger}, nil
}

func ensureDatabase(ctx context.Context, opt *clickhouse.Options, database string) error {
	first := *opt
	first.Auth.Database = "default"
	first.MaxOpenConns, first.MaxIdleConns = 1, 1
	conn, err := clickhouse.Open(&first)
	if err != nil {
		return fmt.Errorf("open clickhouse: %w", err)
	}
	defer func() { _ = conn.Close() }()
	var exists uint8
	if err := conn.QueryRow(ctx, "EXISTS DATABASE "+database).Scan(&exists); err != nil {
		return fmt.Errorf("reach clickhouse: %w", err)
	}
	if exists == 1 {
		return nil
	}
	if err := conn.Exec(ctx, "CREATE DATABASE IF NOT EXISTS "+database); err != nil {
		return fmt.Errorf("create database %s: %w", database, err)
	}
	return nil
}

func options(cfg *Config) (*clickhouse.Options, error) {
	var opt *clickhouse.Options
	switch {
	case cfg.Socket != "" && cfg.DSN != "":
		return nil, errors.New("clickhouse: a socket and a dsn are given, use one")
	case cfg.Socket != "":
		socket := cfg.Socket
		opt = &clickhouse.Options{
			Protocol: clickhouse.HTTP,
			Addr:     []string{"localhost"},
			DialContext: func(ctx context.Context, _ string) (net.Conn, error) {
				var d net.Dialer
				return d.DialContext(ctx, "unix", socket)
			},
		}
	case cfg.DSN != "":
		var err error
		if opt, err = clickhouse.ParseDSN(cfg.DSN); err != nil {
			return nil, fmt.Errorf("clickhouse dsn: %w", redact(err, cfg.DSN))
		}
	default:
		return nil, errors.New("clickhouse: neither a socket nor a dsn is given")
	}
	if cfg.Database == "" && opt.Auth.Database != "default" {
		cfg.Database = opt.Auth.Database
	}
	if cfg.Database == "" {
		cfg.Database = DefaultDatabase
	}
	if !databaseName.MatchString(cfg.Database) {
		return nil, fmt.Errorf("clickhouse database %q: use letters, digits and underscores", cfg.Database)
	}
	if cfg.MaxConns <= 0 {
		cfg.MaxConns = 16
	}
	if cfg.ReadTimeout <= 0 {
		cfg.ReadTimeout = 10 * time.Minute
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	opt.MaxOpenConns = cfg.MaxConns
	opt.MaxIdleConns = cfg.MaxConns
	opt.ConnMaxLifetime = time.Hour
	opt.ReadTimeout = cfg.ReadTimeout
	opt.DialTimeout = 5 * time.Second
	opt.Settings = maps.Clone(opt.Settings)
	return opt, nil
}

// redact keeps a password that stands in a DSN out of an error.
func redact(err error, dsn string) error {
	if u, perr := url.Parse(dsn); perr != nil || u.User != nil {
		return errors.New("cannot be parsed")
	}
	return err
}

// Close closes the pool. Statements under way fail.
func (db *DB) Close() error { return db.conn.Close() }

// Ping asks the server for an answer.
func (db *DB) Ping(ctx context.Context) error { return db.conn.Ping(ctx) }

// Database is the name of the database in use.
func (db *DB) Database() string { return db.database }

// Exec runs a statement that returns no rows. Arguments are clickhouse.Named
// values for {name:Type} parameters.
func (db *DB) Exec(ctx context.Context, query string, args ...any) error {
	return db.conn.Exec(ctx, query, args...)
}

// Query runs a statement and returns its rows, which the caller closes, and
// whose Err it checks.
func (db *DB) Query(ctx context.Context, query string, args ...any) (driver.Rows, error) {
	return db.conn.Query(ctx, query, args...)
}

// QueryRow runs a statement that returns one row; its Scan answers
// sql.ErrNoRows where there is none.
func (db *DB) QueryRow(ctx context.Context, query string, args ...any) driver.Row {
	return db.conn.QueryRow(ctx, query, args...)
}

// Select runs a statement and scans all rows into dest, a pointer to a slice of
// structs with `ch:"column"` tags.
func (db *DB) Select(ctx context.Context, dest any, query string, args ...any) error {
	return db.conn.Select(ctx, dest, query, args...)
}

// Named is the value of a {name:Type} parameter.
func Named(name string, value any) driver.NamedValue { return clickhouse.Named(name, value) }
