package warehouse

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	drivercolumn "github.com/ClickHouse/clickhouse-go/v2/lib/column"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/google/uuid"
	"github.com/shopspring/decimal"
)

// PrepareBatch begins an INSERT whose rows are durable when its Send returns.
// The statement is "INSERT INTO table (columns)"; a table without a database is
// in the configured one.
func (db *DB) PrepareBatch(ctx context.Context, query string) (driver.Batch, error) {
	return db.conn.PrepareBatch(db.insertContext(ctx, ""), query)
}

// Flush is the same database for the INSERTs of one flush. On a cluster those of
// touchpoints carry deduplication tokens made of the id, so that a repetition of
// the flush, with the same id and the same rows in the same order, lands once,
// however late an INSERT that was cut comes to its end. Ids of different flushes
// differ, whatever rows they have. All other rows replace themselves and need none.
func (db *DB) Flush(id string) *DB {
	f := *db
	f.flush = id
	return &f
}

// Clustered says whether the tables are those of a cluster, which remember the
// flushes that they have taken (see Flush). Elsewhere touchpoints are trimmed before
// they are written again.
func (db *DB) Clustered() bool { return db.cluster != "" }

// insertContext has the settings of an INSERT; token names it, where its table
// remembers.
func (db *DB) insertContext(ctx context.Context, token string, extra ...clickhouse.QueryOption) context.Context {
	settings := clickhouse.Settings{
		"async_insert": 0,
		// A server that remembers the rows of a cut insert would drop them in its
		// repetition, although they have been trimmed meanwhile.
		"insert_deduplicate":              0,
		"max_partitions_per_insert_block": 0,
	}
	if !db.of.all() {
		settings["log_comment"] = db.of.comment()
	}
	if token != "" {
		settings["insert_deduplicate"] = 1
		settings["insert_deduplication_token"] = token
	} else if db.Clustered() {
		// Later releases remember whatever insert_deduplicate says.
		settings["insert_deduplication_token"] = rand.Text()
	}
	return clickhouse.Context(ctx, append(extra, clickhouse.WithSettings(settings))...)
}

// column is a column of an INSERT and how rows [from, to) are put into it.
type column struct {
	name, typ string
	fill      func(c driver.BatchColumn, from, to int) error
}

// insert writes n rows in INSERTs of at most MaxRowsPerInsert. Each is durable
// when it returns; after an error the earlier ones stand.
func (db *DB) insert(ctx context.Context, table string, n int, columns []column) error {
	return db.insertAs(ctx, table, "", n, columns)
}

// insertAs is insert under the name of a flush, which the table remembers.
func (db *DB) insertAs(ctx context.Context, table, flush string, n int, columns []column) error {
	types := make([]clickhouse.ColumnNameAndType, len(columns))
	query := []byte("INSERT INTO " + db.database + "." + table + " (")
	for i, c := range columns {
		// Named here so that the driver need not ask the server for every batch.
		types[i] = clickhouse.ColumnNameAndType{Name: c.name, Type: c.typ}
		if i > 0 {
			query = append(query, ", "...)
		}
		query = append(query, c.name...)
	}
	query = append(query, ')')
	for from := 0; from < n; from += MaxRowsPerInsert {
		to := min(from+MaxRowsPerInsert, n)
		token := ""
		if flush != "" {
			token = fmt.Sprintf("%s/%s/%d", table, flush, from/MaxRowsPerInsert)
		}
		batch, err := db.conn.PrepareBatch(db.insertContext(ctx, token, clickhouse.WithColumnNamesAndTypes(types)), string(query))
		if err != nil {
			return fmt.Errorf("write %s: %w", table, err)
		}
		for i, c := range columns {
			if err := c.fill(batch.Column(i), from, to); err != nil {
				_ = batch.Abort()
				return fmt.Errorf("write %s: column %s: %w", table, c.name, err)
			}
		}
		if err := batch.Send(); err != nil {
			return fmt.Errorf("write %s: %w", table, err)
		}
	}
	return nil
}

// WriteTouchpoints appends the rows of a block. They are durable when it
// returns. A repetition makes the rows twice, so after an error or a crash the
// runner trims to its checkpoint first (TrimTouchpoints), but on a cluster repeats
// the Flush.
func (db *DB) WriteTouchpoints(ctx context.Context, g Generation, b *TouchpointBlock) error {
	var scratch []string
	text := func(name string, p *packed) column {
		return column{name, "String", func(c driver.BatchColumn, from, to int) error {
			scratch = p.slice(scratch[:0], from, to)
			return c.Append(scratch)
		}}
	}
	word := func(name string, w *words) column {
		return column{name, "LowCardinality(String)", func(c driver.BatchColumn, from, to int) error {
			return c.Append(w.rows[from:to])
		}}
	}
	flush := ""
	if db.Clustered() {
		flush = db.flush
	}
	return db.insertAs(ctx, "touchpoints_"+g.String(), flush, b.Len(), []column{
		slice("event_id", "UUID", b.eventID),
		slice("subject_id", "UUID", b.subjectID),
		slice("subject_no", "UInt64", b.subjectNo),
		text("subject", &b.subject),
		text("user_id", &b.userID),
		text("anonymous_id", &b.anonID),
		word("source", &b.source),
		word("type", &b.typ),
		word("name", &b.name),
		word("meaning", &b.meaning),
		word("channel", &b.channel),
		slice("occurred_at", timeType, b.occurredAt),
		slice("received_at", timeType, b.receivedAt),
		slice("recorded_at", timeType, b.recordedAt),
		slice("position", "UInt64", b.position),
		{"amount", "Nullable(Decimal(18, 4))", func(c driver.BatchColumn, from, to int) error {
			amounts := make([]*decimal.Decimal, to-from)
			for i := range amounts {
				if b.hasAmount[from+i] {
					d := decimal.New(b.amount[from+i], -4)
					amounts[i] = &d
				}
			}
			return c.Append(amounts)
		}},
		word("currency", &b.currency),
		text("order_id", &b.orderID),
		word("flags", &b.flags),
		text("properties", &b.properties),
		text("context", &b.context),
	})
}

const (
	timeType    = "DateTime64(3, 'UTC')"
	amountType  = "Decimal(18, 4)"
	moneyType   = "Map(String, " + amountType + ")"
	outlookType = "Array(Tuple(at " + timeType + ", stage String))"
)

// outlook is a value of outlookType.
func outlook(all []StageAt) [][]any {
	out := make([][]any, len(all))
	for i, o := range all {
		out[i] = []any{time.UnixMilli(o.At).UTC(), o.Stage}
	}
	return out
}

// slice is a column whose rows stand in a slice of the driver's own type.
func slice[T any](name, typ string, rows []T) column {
	return column{name, typ, func(c driver.BatchColumn, from, to int) error { return c.Append(rows[from:to]) }}
}

// total is how many rows there are in all slices.
func total[R any](rows [][]R) (n int) {
	for _, part := range rows {
		n += len(part)
	}
	return n
}

// between yields the rows from a number on and below another, as if the slices stood
// one behind the other, numbered from 0.
func between[R any](rows [][]R, from, to int) func(yield func(i int, r *R) bool) {
	return func(yield func(i int, r *R) bool) {
		i, n := 0, to-from
		for _, part := range rows {
			skip := min(from, len(part))
			from -= skip
			for k := skip; k < len(part) && i < n; k++ {
				if !yield(i, &part[k]) {
					return
				}
				i++
			}
		}
	}
}

// each is a column made row by row.
func each[R, T any](name, typ string, rows [][]R, value func(*R) T) column {
	return column{name, typ, func(c driver.BatchColumn, from, to int) error {
		out := make([]T, to-from)
		for i, r := range between(rows, from, to) {
			out[i] = value(r)
		}
		return c.Append(out)
	}}
}

// some is a column made row by row that is NULL where value says false.
func some[R, T any](name, typ string, rows [][]R, value func(*R) (T, bool)) column {
	return column{name, "Nullable(" + typ + ")", func(c driver.BatchColumn, from, to int) error {
		values, out := make([]T, to-from), make([]*T, to-from)
		for i, r := range between(rows, from, to) {
			var has bool
			if values[i], has = value(r); has {
				out[i] = &values[i]
			}
		}
		return c.Append(out)
	}}
}

// WriteSubjects writes rows of subjects. They are durable when it returns, and
// the newest version of a subject replaces the others, so a repetition is
// harmless. The touchpoints view shows them after ReloadMoved.
func (db *DB) WriteSubjects(ctx context.Context, g Generation, rows ...[]Subject) error {
	return db.insert(ctx, "subjects_"+g.String(), total(rows), []column{
		each("subject_id", "UUID", rows, func(r *Subject) uuid.UUID { return r.SubjectID }),
		each("subject_no", "UInt64", rows, func(r *Subject) uint64 { return SubjectNo(r.SubjectID) }),
		each("subject", "String", rows, func(r *Subject) string { return r.Subject }),
		each("kind", "LowCardinality(String)", rows, func(r *Subject) string { return r.Kind }),
		each("customer_id", "UUID", rows, func(r *Subject) uuid.UUID { return r.CustomerID }),
		each("position", "UInt64", rows, func(r *Subject) uint64 { return r.Version.Position }),
		each("clock", timeType, rows, func(r *Subject) int64 { return r.Version.Clock }),
	})
}

// WriteCustomers writes rows of customers. They are durable when it returns, and
// the newest version of a customer replaces the others, so a repetition is
// harmless.
func (db *DB) WriteCustomers(ctx context.Context, g Generation, rows ...[]Customer) error {
	return db.insert(ctx, "customers_"+g.String(), total(rows), []column{
		each("customer_id", "UUID", rows, func(r *Customer) uuid.UUID { return r.CustomerID }),
		each("user_ids", "Array(String)", rows, func(r *Customer) []string { return r.UserIDs }),
		each("stage", "LowCardinality(String)", rows, func(r *Customer) string { return r.Stage }),
		each("stage_since", timeType, rows, func(r *Customer) int64 { return r.StageSince }),
		each("first_seen", timeType, rows, func(r *Customer) int64 { return r.FirstSeen }),
		each("last_seen", timeType, rows, func(r *Customer) int64 { return r.LastSeen }),
		each("purchases", "UInt32", rows, func(r *Customer) uint32 { return r.Purchases }),
		each("refunds", "UInt32", rows, func(r *Customer) uint32 { return r.Refunds }),
		each("revenue", moneyType, rows, func(r *Customer) *moneyMap { return &moneyMap{r.Revenue} }),
		each("traits", "String", rows, func(r *Customer) []byte { return r.Traits }),
		each("outlook", outlookType, rows, func(r *Customer) [][]any { return outlook(r.Outlook) }),
		each("position", "UInt64", rows, func(r *Customer) uint64 { return r.Version.Position }),
		each("clock", timeType, rows, func(r *Customer) int64 { return r.Version.Clock }),
		each("removed", "UInt8", rows, func(r *Customer) uint8 { return bit(r.Removed) }),
	})
}

// WriteTransitions writes rows of stage_transitions. They are durable when it
// returns, and the newest version of a customer's transition replaces the
// others, so a repetition is harmless.
func (db *DB) WriteTransitions(ctx context.Context, g Generation, rows ...[]Transition) error {
	return db.insert(ctx, "stage_transitions_"+g.String(), total(rows), []column{
		each("customer_id", "UUID", rows, func(r *Transition) uuid.UUID { return r.CustomerID }),
		each("seq", "UInt32", rows, func(r *Transition) uint32 { return r.Seq }),
		each("from_stage", "LowCardinality(String)", rows, func(r *Transition) string { return r.From }),
		each("to_stage", "LowCardinality(String)", rows, func(r *Transition) string { return r.To }),
		each("at", timeType, rows, func(r *Transition) int64 { return r.At }),
		each("reason", "String", rows, func(r *Transition) string { return r.Reason }),
		each("cause", "String", rows, func(r *Transition) string { return r.Cause }),
		each("policy_version", "UInt32", rows, func(r *Transition) uint32 { return r.PolicyVersion }),
		each("position", "UInt64", rows, func(r *Transition) uint64 { return r.Version.Position }),
		each("clock", timeType, rows, func(r *Transition) int64 { return r.Version.Clock }),
		each("removed", "UInt8", rows, func(r *Transition) uint8 { return bit(r.Removed) }),
	})
}

// WriteConflicts writes rows of identity_conflicts. They are durable when it
// returns, and the newest version of a conflict replaces the others, so a
// repetition is harmless.
func (db *DB) WriteConflicts(ctx context.Context, g Generation, rows ...[]Conflict) error {
	return db.insert(ctx, "identity_conflicts_"+g.String(), total(rows), []column{
		each("event_id", "UUID", rows, func(r *Conflict) uuid.UUID { return r.EventID }),
		each("subject_id", "UUID", rows, func(r *Conflict) uuid.UUID { return r.SubjectID }),
		each("subject", "String", rows, func(r *Conflict) string { return r.Subject }),
		each("other_id", "UUID", rows, func(r *Conflict) uuid.UUID { return r.OtherID }),
		each("other", "String", rows, func(r *Conflict) string { return r.Other }),
		each("occurred_at", timeType, rows, func(r *Conflict) int64 { return r.OccurredAt }),
		each("status", "LowCardinality(String)", rows, func(r *Conflict) string { return r.Status }),
		each("position", "UInt64", rows, func(r *Conflict) uint64 { return r.Version.Position }),
		each("clock", timeType, rows, func(r *Conflict) int64 { return r.Version.Clock }),
		each("removed", "UInt8", rows, func(r *Conflict) uint8 { return bit(r.Removed) }),
	})
}

// WriteAccounts writes rows of accounts. They are durable when it returns, and the
// newest version of an account replaces the others, so a repetition is harmless.
func (db *DB) WriteAccounts(ctx context.Context, g Generation, rows ...[]Account) error {
	return db.insert(ctx, "accounts_"+g.String(), total(rows), []column{
		each("account_id", "UUID", rows, func(r *Account) uuid.UUID { return r.AccountID }),
		each("group_id", "String", rows, func(r *Account) string { return r.GroupID }),
		each("stage", "LowCardinality(String)", rows, func(r *Account) string { return r.Stage }),
		each("stage_since", timeType, rows, func(r *Account) int64 { return r.StageSince }),
		each("first_seen", timeType, rows, func(r *Account) int64 { return r.FirstSeen }),
		each("last_seen", timeType, rows, func(r *Account) int64 { return r.LastSeen }),
		each("purchases", "UInt32", rows, func(r *Account) uint32 { return r.Purchases }),
		each("refunds", "UInt32", rows, func(r *Account) uint32 { return r.Refunds }),
		each("revenue", moneyType, rows, func(r *Account) *moneyMap { return &moneyMap{r.Revenue} }),
		each("traits", "String", rows, func(r *Account) []byte { return r.Traits }),
		each("outlook", outlookType, rows, func(r *Account) [][]any { return outlook(r.Outlook) }),
		each("position", "UInt64", rows, func(r *Account) uint64 { return r.Version.Position }),
		each("clock", timeType, rows, func(r *Account) int64 { return r.Version.Clock }),
		each("removed", "UInt8", rows, func(r *Account) uint8 { return bit(r.Removed) }),
	})
}

// WriteAccountMembers writes rows of account_members. They are durable when it
// returns, and the newest version of a pair replaces the others, so a repetition
// is harmless. The view shows a subject's customer after ReloadMoved.
func (db *DB) WriteAccountMembers(ctx context.Context, g Generation, rows ...[]AccountMember) error {
	return db.insert(ctx, "account_members_"+g.String(), total(rows), []column{
		each("account_id", "UUID", rows, func(r *AccountMember) uuid.UUID { return r.AccountID }),
		each("subject_id", "UUID", rows, func(r *AccountMember) uuid.UUID { return r.SubjectID }),
		each("subject_no", "UInt64", rows, func(r *AccountMember) uint64 { return SubjectNo(r.SubjectID) }),
		each("since", timeType, rows, func(r *AccountMember) int64 { return r.Since }),
		each("position", "UInt64", rows, func(r *AccountMember) uint64 { return r.Version.Position }),
		each("clock", timeType, rows, func(r *AccountMember) int64 { return r.Version.Clock }),
	})
}

func bit(b bool) uint8 {
	if b {
		return 1
	}
	return 0
}

// moneyMap is a Map(String, Decimal(18, 4)) in the order it was given.
type moneyMap struct{ all []Money }

// Put is called by the driver when it reads; rows here are only written.
func (m *moneyMap) Put(any, any) {}

// Iterator is what the driver writes from.
func (m *moneyMap) Iterator() drivercolumn.MapIterator { return &moneyIterator{all: m.all, at: -1} }

type moneyIterator struct {
	all []Money
	at  int
}

func (i *moneyIterator) Next() bool { i.at++; return i.at < len(i.all) }
func (i *moneyIterator) Key() any   { return i.all[i.at].Currency }
func (i *moneyIterator) Value() any { return decimal.New(i.all[i.at].Amount, -4) }
