package warehouse

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Generation numbers one complete set of tables. Numbers start at 1.
type Generation uint32

// String is the suffix of the generation's tables, such as "g7".
func (g Generation) String() string { return "g" + strconv.FormatUint(uint64(g), 10) }

//go:embed migrations/*.sql tables/*.sql views/*.sql
var sqlFiles embed.FS

// The order matters: the dictionary reads subjects, and the views read all. Views
// of figures read other views and stand behind them.
var (
	tableFiles = []string{
		"touchpoints", "subjects", "customers", "stage_transitions", "identity_conflicts", "accounts", "account_members",
		"loyalty_status", "loyalty_ledger", "tier_transitions",
		"satisfaction", "satisfaction_transitions", "cases", "surveys", "feedback", "feedback_handling",
		"delivery_facts", "segment_stays",
		"moved",
	}
	// touchpoints is the last to be switched, and so the one that tells which
	// generation is active.
	viewFiles = []string{
		"subjects", "customers", "stage_transitions", "identity_conflicts", "accounts", "account_members",
		"loyalty_status", "loyalty_ledger", "tier_transitions",
		"satisfaction", "satisfaction_transitions", "cases", "surveys", "feedback", "deliveries",
		"segment_stays", "segment_members", "segment_changes", "segment_sizes",
		"loyalty_programmes", "loyalty_tiers", "satisfaction_monthly", "feedback_topics",
		"touchpoints",
	}
)

// ErrNoGeneration is returned where a generation is asked for that does not
// exist, or an active one where there is none yet.
var ErrNoGeneration = errors.New("no such generation of views")

// CreateGeneration creates the tables of a generation that do not exist yet, adds the
// columns that those of an earlier release lack, and defines its dictionary anew, with
// the credentials in use. It is safe to repeat, and a start repeats it.
func (db *DB) CreateGeneration(ctx context.Context, g Generation) error {
	for _, name := range tableFiles {
		all, err := db.tableStatements(name, g)
		if err == nil {
			err = db.execAll(ctx, all)
		}
		if err != nil {
			return fmt.Errorf("create %s_%s: %w", name, g, err)
		}
	}
	for i := range addedColumns {
		c := &addedColumns[i]
		there, err := db.hasColumn(ctx, c, g)
		if err == nil && !there {
			err = db.execAll(ctx, db.addStatements(c, g))
		}
		if err != nil {
			return fmt.Errorf("add %s to %s_%s: %w", c.name, c.table, g, err)
		}
	}
	return nil
}

// addedColumn is a column that a release has added to a table: a generation that an
// earlier one has made lacks it, and is shown and written until it is built anew.
type addedColumn struct{ table, name, typ, after string }

var addedColumns = []addedColumn{
	{"loyalty_ledger", "expires_at", "Nullable(" + timeType + ")", "lot"},
}

func (db *DB) hasColumn(ctx context.Context, c *addedColumn, g Generation) (bool, error) {
	var n uint64
	err := db.QueryRow(ctx, "SELECT count() FROM system.columns WHERE database = {database:String} AND table = {table:String} AND name = {name:String}",
		Named("database", db.database), Named("table", c.table+"_"+g.String()), Named("name", c.name)).Scan(&n)
	return n > 0, err
}

// DropGeneration drops whatever exists of a generation; where nothing does, it
// does nothing. It refuses to drop the active one.
func (db *DB) DropGeneration(ctx context.Context, g Generation) error {
	active, err := db.Active(ctx)
	if err != nil && !errors.Is(err, ErrNoGeneration) {
		return err
	}
	if active == g {
		return fmt.Errorf("drop generation %s: it is the active one", g)
	}
	if err == nil {
		if err := db.readAlone(ctx, active, g); err != nil {
			return err
		}
	}
	for _, name := range slices.Backward(tableFiles) {
		if err := db.execAll(ctx, db.dropStatements(name, g)); err != nil {
			return fmt.Errorf("drop %s_%s: %w", name, g, err)
		}
	}
	return nil
}

// Generations lists the generations of which any table exists, in order.
func (db *DB) Generations(ctx context.Context) ([]Generation, error) {
	rows, err := db.Query(ctx, `SELECT DISTINCT toUInt32OrZero(extract(name, '_g([0-9]+)(?:_local)?$')) AS g
FROM system.tables WHERE database = {database:String} AND match(name, {tables:String})
ORDER BY g`, Named("database", db.database), Named("tables", "^("+strings.Join(tableFiles, "|")+")_g[0-9]+(_local)?$"))
	if err != nil {
		return nil, fmt.Errorf("list generations: %w", err)
	}
	defer func() { _ = rows.Close() }()
	var all []Generation
	for rows.Next() {
		var g uint32
		if err := rows.Scan(&g); err != nil {
			return nil, fmt.Errorf("list generations: %w", err)
		}
		all = append(all, Generation(g))
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list generations: %w", err)
	}
	return all, nil
}

// ReloadMoved makes the dictionary of moved subjects read its table again, so
// that the touchpoints view shows the customers of the subjects written before.
// It costs some milliseconds and grows with the number of moved subjects. On a
// cluster it goes through the queue of statements; a node that is away reads the
// table when it is back.
func (db *DB) ReloadMoved(ctx context.Context, g Generation) error {
	if err := db.execAll(ctx, db.reloadStatements(g)); err != nil {
		return fmt.Errorf("reload moved_%s: %w", g, err)
	}
	return nil
}

// MaxPosition is the greatest position among the touchpoints of a generation, 0
// where it has none.
func (db *DB) MaxPosition(ctx context.Context, g Generation) (uint64, error) {
	var position uint64
	row := db.QueryRow(ctx, fmt.Sprintf("SELECT max(position) FROM %s.touchpoints_%s", db.database, g))
	if err := row.Scan(&position); err != nil {
		return 0, fmt.Errorf("find the last position of %s: %w", g, err)
	}
	return position, nil
}

func (db *DB) execAll(ctx context.Context, statements []string) error {
	for _, stmt := range statements {
		if err := db.Exec(ctx, stmt); err != nil {
			return err
		}
	}
	return nil
}

// sqlFile is the text of one of the files, with the names filled in.
func (db *DB) sqlFile(file string, g Generation) (string, error) {
	text, err := sqlFiles.ReadFile(file)
	if err != nil {
		return "", err
	}
	return db.render(string(text), g), nil
}

// render fills in the names that a SQL file leaves open.
func (db *DB) render(text string, g Generation) string {
	return strings.NewReplacer(
		"{database}", db.database,
		"{gen}", g.String(),
		"{credentials}", db.credentials(),
	).Replace(strings.TrimSpace(text))
}

// credentials are those a dictionary needs to read a table of its own server,
// where that server asks for any.
func (db *DB) credentials() string {
	auth := db.options.Auth
	if db.noUsers || auth.Username == "" || (auth.Username == "default" && auth.Password == "") {
		return ""
	}
	return "USER " + quote(auth.Username) + " PASSWORD " + quote(auth.Password) + " "
}

// quote is a string literal of ClickHouse's SQL.
func quote(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}
