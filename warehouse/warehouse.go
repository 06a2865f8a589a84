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
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// DefaultDatabase is the database that holds the tables and the public views.
const DefaultDatabase = "sojourn"

// Config says which ClickHouse to use. Exactly one of DSN and Socket is set.
type Config struct {
	// DSN names a server: clickhouse://user:password@host:9000 (with secure=true
	// over TLS), http://user:password@host:8123 or https://…, with settings as
	// arguments. A database in its path counts where Database is empty. Several
	// hosts, separated by commas, are nodes of one Cluster; the first that answers
	// is used.
	DSN string
	// Cluster is the name of a cluster in the server's remote_servers. With it the
	// tables are made on all its nodes: replicated, and one for all shards on top.
	// Empty for a server by itself.
	Cluster string
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
	// Hold, where not nil, has statements from outside wait until release is called,
	// and returns when those under way have found the tables that they read.
	Hold func(context.Context) (release func(), err error)
	// Logger defaults to one that discards.
	Logger *slog.Logger
}

// DB is a connection pool to ClickHouse, safe for concurrent use. Statements run
// in the configured database.
type DB struct {
	conn     driver.Conn
	database string
	cluster  string // empty for a server by itself
	flush    string // what the INSERTs belong to; see Flush
	of       SubjectNos
	noUsers  bool // whoever logs in, the server has no users
	options  *clickhouse.Options
	hold     func(context.Context) (func(), error) // Config.Hold
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
	db := &DB{database: cfg.Database, cluster: cfg.Cluster, options: opt, hold: cfg.Hold, logger: cfg.Logger}
	if err := db.ensureDatabase(ctx); err != nil {
		return nil, err
	}
	opt.Auth.Database = cfg.Database
	if db.conn, err = clickhouse.Open(opt); err != nil {
		return nil, fmt.Errorf("open clickhouse: %w", err)
	}
	if opt.Auth.Username != "" {
		// The embedded engine of another process knows no users.
		var user string
		if err := db.QueryRow(ctx, "SELECT currentUser()").Scan(&user); err != nil {
			return nil, errors.Join(fmt.Errorf("open clickhouse: %w", err), db.Close())
		}
		db.noUsers = user != opt.Auth.Username
	}
	return db, nil
}

// Validate says what is wrong with a configuration, without a connection. It
// repeats no password.
func (cfg Config) Validate() error {
	_, err := options(&cfg)
	return err
}

func (db *DB) ensureDatabase(ctx context.Context) error {
	first := *db.options
	first.Auth.Database = "default"
	first.MaxOpenConns, first.MaxIdleConns = 1, 1
	conn, err := clickhouse.Open(&first)
	if err != nil {
		return fmt.Errorf("open clickhouse: %w", err)
	}
	defer func() { _ = conn.Close() }()
	var exists uint8
	if err := conn.QueryRow(ctx, "EXISTS DATABASE "+db.database).Scan(&exists); err != nil {
		return fmt.Errorf("reach clickhouse: %w", err)
	}
	if exists == 1 && db.cluster == "" {
		return nil
	}
	if err := conn.Exec(ctx, "CREATE DATABASE IF NOT EXISTS "+db.database+db.onCluster()); err != nil {
		return fmt.Errorf("create database %s: %w", db.database, err)
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
		switch scheme, _, _ := strings.Cut(cfg.DSN, "://"); scheme {
		case "clickhouse", "tcp", "http", "https":
		default:
			return nil, errors.New("clickhouse dsn: it begins with clickhouse://, http:// or https://")
		}
		var err error
		if opt, err = clickhouse.ParseDSN(secured(cfg.DSN)); err != nil {
			return nil, fmt.Errorf("clickhouse dsn: %w", redact(err, cfg.DSN))
		}
		if len(opt.Addr) > 1 && cfg.Cluster == "" {
			return nil, errors.New("clickhouse dsn: several hosts are nodes of a cluster; name it (clickhouse-cluster)")
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
	if cfg.Cluster != "" && !clusterName.MatchString(cfg.Cluster) {
		return nil, fmt.Errorf("clickhouse cluster %q: use letters, digits, underscores and hyphens", cfg.Cluster)
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
	// A connection keeps a buffer as large as the largest INSERT that it sent.
	opt.ConnMaxLifetime = time.Minute
	opt.ReadTimeout = cfg.ReadTimeout
	opt.DialTimeout = 5 * time.Second
	opt.Settings = maps.Clone(opt.Settings)
	if cfg.Cluster != "" {
		withDefaults(opt, clusterSettings)
	}
	return opt, nil
}

// secured adds to an https DSN what the driver asks for besides.
func secured(dsn string) string {
	if !strings.HasPrefix(dsn, "https://") || strings.Contains(dsn, "secure=") {
		return dsn
	}
	if strings.Contains(dsn, "?") {
		return dsn + "&secure=true"
	}
	return dsn + "?secure=true"
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
