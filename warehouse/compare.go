package warehouse

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// Difference is one row that two generations do not agree on.
type Difference struct {
	Table string // "customers"
	Key   string // the row's key in words
	// A and B are the row as a JSON object; one of them is empty where a
	// generation does not have the row, and holds several lines where it has
	// several of one key.
	A, B string
}

// Comparison is what Compare found.
type Comparison struct {
	// Rows counts the keys compared, Different those that differ, by table.
	Rows, Different map[string]uint64
	// Differences are the first of them, in the order of the tables' keys.
	Differences []Difference
}

// Equal is true where no row differs.
func (c *Comparison) Equal() bool {
	for _, n := range c.Different {
		if n > 0 {
			return false
		}
	}
	return true
}

// compared are the public tables: what identifies a row, and what is left out
// because it tells when a row was computed and not what it says.
var compared = []struct {
	table, key string
	except     string
}{
	{"touchpoints", "toString(event_id)", ""},
	{"customers", "toString(customer_id)", " EXCEPT (position, clock)"},
	{"stage_transitions", "concat(toString(customer_id), ' ', leftPad(toString(seq), 10, '0'))", " EXCEPT (position, clock)"},
	{"subjects", "toString(subject_id)", ""},
	{"identity_conflicts", "concat(toString(event_id), ' ', toString(other_id))", ""},
	{"accounts", "toString(account_id)", " EXCEPT (position, clock)"},
	{"account_members", "concat(toString(account_id), ' ', toString(customer_id))", ""},
	{"loyalty_status", "concat(toString(customer_id), ' ', programme)", " EXCEPT (position, clock)"},
	{"loyalty_ledger", "concat(toString(customer_id), ' ', programme, ' ', leftPad(toString(seq), 10, '0'))", " EXCEPT (position, clock)"},
	{"tier_transitions", "concat(toString(customer_id), ' ', programme, ' ', leftPad(toString(seq), 10, '0'))", " EXCEPT (position, clock)"},
	{"satisfaction", "toString(customer_id)", " EXCEPT (position, clock)"},
	{"satisfaction_transitions", "concat(toString(customer_id), ' ', leftPad(toString(seq), 10, '0'))", " EXCEPT (position, clock)"},
	{"cases", "concat(toString(customer_id), ' ', leftPad(toString(seq), 10, '0'))", " EXCEPT (position, clock)"},
	{"surveys", "concat(toString(customer_id), ' ', leftPad(toString(seq), 10, '0'))", " EXCEPT (position, clock)"},
	{"feedback", "toString(event_id)", ""},
	{"segment_stays", "concat(segment, ' ', toString(customer_id), ' ', leftPad(toString(seq), 10, '0'))", " EXCEPT (position, clock)"},
	{"deliveries", "toString(delivery_id)", ""},
}

const (
	compareParts = 256
	// comparePass is how many rows of both generations one pass holds keys of.
	comparePass = 4_000_000
)

// Compare compares every public table of two generations row by row, and gives
// at most limit differences of each table and the number of them all. The
// position and the clock that a row of a customer was computed at do not count.
// The dictionaries of both generations are reloaded first.
//
// Memory is bounded: sums of 256 parts of each table are compared first, then
// the keys and hashes of the parts that differ, some at a time, and in the end
// the rows that differ are read.
func (db *DB) Compare(ctx context.Context, a, b Generation, limit int) (*Comparison, error) {
	out := &Comparison{Rows: map[string]uint64{}, Different: map[string]uint64{}}
	for _, g := range []Generation{a, b} {
		if err := db.ReloadMoved(ctx, g); err != nil {
			return nil, err
		}
	}
	for _, c := range compared {
		t := tableComparison{db: db, table: c.table, key: c.key, columns: "*" + c.except}
		var err error
		if t.a, err = db.viewSelect(c.table, a); err == nil {
			t.b, err = db.viewSelect(c.table, b)
		}
		if err == nil {
			err = t.run(ctx, limit, out)
		}
		if err != nil {
			return nil, fmt.Errorf("compare %s of %s and %s: %w", c.table, a, b, err)
		}
	}
	return out, nil
}

// viewSelect is what the public view of a generation selects.
func (db *DB) viewSelect(view string, g Generation) (string, error) {
	text, err := db.viewStatement(view, g)
	if err != nil {
		return "", err
	}
	_, body, found := strings.Cut(text, " AS\n")
	body, _, cut := strings.Cut(body, "\nCOMMENT ")
	if !found || !cut {
		return "", fmt.Errorf("the view %s is not written as expected", view)
	}
	return body, nil
}

type tableComparison struct {
	db                  *DB
	table, key, columns string
	a, b                string // what to select
}

func (t *tableComparison) run(ctx context.Context, limit int, out *Comparison) error {
	rows, parts, sizes, err := t.parts(ctx)
	if err != nil {
		return err
	}
	out.Rows[t.table] = rows
	out.Different[t.table] = 0
	var keys []string
	for len(parts) > 0 {
		n, size := 1, sizes[0]
		for n < len(parts) && size+sizes[n] <= comparePass {
			size += sizes[n]
			n++
		}
		different, some, err := t.keys(ctx, parts[:n], limit)
		if err != nil {
			return err
		}
		out.Different[t.table] += different
		keys = append(keys, some...)
		parts, sizes = parts[n:], sizes[n:]
	}
	slices.Sort(keys)
	found, err := t.differences(ctx, keys[:min(len(keys), limit)])
	out.Differences = append(out.Differences, found...)
	return err
}

// both selects an expression of both sides' rows.
func (t *tableComparison) both(expressions string) string {
	one := func(side, from string) string {
		return fmt.Sprintf("SELECT %s AS side, %s FROM (SELECT %s AS key, %s FROM (%s))",
			side, expressions, t.key, t.columns, from)
	}
	return one("0", t.a) + " UNION ALL " + one("1", t.b)
}

// rowHash is a hash of all columns of a row, key included.
const rowHash = "sipHash64(toString(tuple(*)))"

// parts finds the parts that differ, how many rows they have, and how many keys
// there are in all.
func (t *tableComparison) parts(ctx context.Context) (keys uint64, parts []uint16, sizes []uint64, err error) {
	rows, err := t.db.Query(ctx, `SELECT toUInt16(part) AS part, sumIf(n, side = 0), sumIf(n, side = 1), sumIf(h, side = 0) != sumIf(h, side = 1)
FROM (SELECT side, part, count() AS n, sum(hash) AS h
      FROM (`+t.both(fmt.Sprintf("sipHash64(key) %% %d AS part, %s AS hash", compareParts, rowHash))+`)
      GROUP BY side, part)
GROUP BY part ORDER BY part`)
	if err != nil {
		return 0, nil, nil, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var (
			part   uint16
			na, nb uint64
			differ uint8
		)
		if err := rows.Scan(&part, &na, &nb, &differ); err != nil {
			return 0, nil, nil, err
		}
		keys += max(na, nb)
		if na != nb || differ == 1 {
			parts = append(parts, part)
			sizes = append(sizes, na+nb)
		}
	}
	return keys, parts, sizes, rows.Err()
}

// keys counts the keys that differ in some parts, and gives the first of them.
func (t *tableComparison) keys(ctx context.Context, parts []uint16, limit int) (uint64, []string, error) {
	list := strings.Trim(strings.Join(strings.Fields(fmt.Sprint(parts)), ","), "[]")
	from := fmt.Sprintf(`SELECT key FROM (SELECT side, key, hash FROM (%s) WHERE part IN (%s))
GROUP BY key HAVING countIf(side = 0) != countIf(side = 1) OR sumIf(hash, side = 0) != sumIf(hash, side = 1)`,
		t.both(fmt.Sprintf("sipHash64(key) %% %d AS part, key, %s AS hash", compareParts, rowHash)), list)
	var (
		n    uint64
		some []string
	)
	err := t.db.QueryRow(ctx, fmt.Sprintf("SELECT count(), groupArraySorted(%d)(key) FROM (%s)", max(limit, 1), from)).Scan(&n, &some)
	return n, some, err
}

// differences reads the rows of some keys.
func (t *tableComparison) differences(ctx context.Context, keys []string) ([]Difference, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	rows, err := t.db.Query(ctx, fmt.Sprintf(`SELECT key, arrayStringConcat(arraySort(groupArrayIf(row, side = 0)), '\n'), arrayStringConcat(arraySort(groupArrayIf(row, side = 1)), '\n')
FROM (SELECT side, key, toJSONString(row) AS row FROM (%s) WHERE key IN {keys:Array(String)})
GROUP BY key ORDER BY key SETTINGS enable_named_columns_in_function_tuple = 1`,
		t.both("key, tuple(* EXCEPT (key)) AS row")), Named("keys", keys))
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var all []Difference
	for rows.Next() {
		d := Difference{Table: t.table}
		if err := rows.Scan(&d.Key, &d.A, &d.B); err != nil {
			return nil, err
		}
		all = append(all, d)
	}
	return all, rows.Err()
}
