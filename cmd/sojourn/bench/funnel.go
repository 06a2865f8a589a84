package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"sojourn/warehouse"
)

// The sizes of figure 10: customers, of whom every tenth has been merged, and
// their touchpoints, ten each.
const (
	funnelCustomers = 1_000_000
	funnelQuick     = 2_000
	funnelTouches   = 10
	// funnelAsks is how often each side is asked in a round, in turn; the median
	// counts.
	funnelAsks = 5
)

// funnelQuery is the four-step funnel as docs/tables.md recommends it.
const funnelQuery = `SELECT steps, countIf(customer_no != 1) AS customers FROM (
    SELECT customer_no, windowFunnel(604800000)(toUInt64(toUnixTimestamp64Milli(occurred_at)),
        name = 'Product Viewed', name = 'Product Added', name = 'Checkout Started', name = 'Order Completed') AS steps
    FROM touchpoints WHERE name IN ('Product Viewed', 'Product Added', 'Checkout Started', 'Order Completed')
    GROUP BY customer_no)
GROUP BY steps HAVING customers > 0 ORDER BY steps`

// funnelRows makes touchpoints with names as frequent as in the shop: those of a customer within three days of two
// months. Every tenth customer came first as a visitor, whose id the customer
// bears since it logged in: half of its touchpoints stand under a subject that
// has moved.
const funnelRows = `INSERT INTO touchpoints_g1 (event_id, subject_id, subject_no, subject, user_id, source, type, name, meaning, channel,
    occurred_at, received_at, recorded_at, position)
SELECT generateUUIDv4(), reinterpretAsUUID(sipHash128(subject)), cityHash64(subject), subject, if(visitor, '', toString(customer)),
    'shop', 'track',
    ['Product Viewed', 'Product Viewed', 'Product Viewed', 'Product Viewed', 'Product Viewed', 'Product Added', 'Product Added', 'Checkout Started',
     'Order Completed', '', '', '', '', 'Product List Viewed', 'Product List Viewed', 'Email Opened'][1 + random % 16],
    '', 'web', at, at, at, number + 1
FROM (
    SELECT number, intHash64(number) AS random, number % {customers:UInt64} AS customer,
        intDiv(number, {customers:UInt64}) AS nth, customer % 10 = 0 AND nth < {half:UInt64} AS visitor,
        concat(if(visitor, 'anon:', 'user:'), toString(customer)) AS subject,
        toDateTime64('2026-01-01 00:00:00', 3, 'UTC') + toIntervalSecond(intHash64(customer) % 4838400 + nth * 25000 + random % 5000) AS at
    FROM numbers({from:UInt64}, {n:UInt64}))`

// funnelMoved are the subjects of the logins.
const funnelMoved = `INSERT INTO subjects_g1 (subject_id, subject_no, subject, kind, customer_id, position, clock)
SELECT reinterpretAsUUID(sipHash128(subject)), cityHash64(subject), subject, 'user',
    reinterpretAsUUID(sipHash128(concat('anon:', toString(number)))), 1, now64(3)
FROM (SELECT number, concat('user:', toString(number)) AS subject FROM numbers({customers:UInt64}) WHERE number % 10 = 0)`

// funnel takes figure 10: the four-step funnel over merged customers, beside the
// same over a table that is laid out alike, whose customer ids are final.
func (b *bench) funnel(ctx context.Context) (err error) {
	dir := filepath.Join(b.dir, "funnel")
	db, stop, err := b.engine(ctx, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop(), os.RemoveAll(dir)) }()
	if err := b.fillFunnel(ctx, db); err != nil {
		return fmt.Errorf("figure 10: %w", err)
	}
	line := Line{
		Figure: "10", Name: "funnel of four steps, every tenth customer merged", Unit: "ms", YardstickName: "customer ids final",
		Floor: 1.15, Most: true,
	}
	final := strings.Replace(funnelQuery, "FROM touchpoints", "FROM touchpoints_final", 1)
	for round := range b.Rounds {
		var took, took2 []float64
		for range funnelAsks {
			t, answer, err := b.ask(ctx, db, funnelQuery)
			if err != nil {
				return fmt.Errorf("figure 10: %w", err)
			}
			t2, same, err := b.ask(ctx, db, final)
			if err != nil {
				return fmt.Errorf("figure 10: %w", err)
			}
			if answer != same {
				return fmt.Errorf("figure 10: the funnels differ: %s and %s", answer, same)
			}
			took, took2 = append(took, t), append(took2, t2)
		}
		ours, yardstick := median(took), median(took2)
		line.OursRounds, line.YardstickRounds = append(line.OursRounds, ours), append(line.YardstickRounds, yardstick)
		b.say("figure 10: round %d of %d: %.0f ms, with final ids %.0f ms", round+1, b.Rounds, ours, yardstick)
	}
	b.report.add(line)
	return nil
}

// fillFunnel makes both tables, merged into as few parts as they get.
func (b *bench) fillFunnel(ctx context.Context, db *warehouse.DB) error {
	customers := uint64(b.size(funnelCustomers, funnelQuick))
	rows := customers * funnelTouches
	if err := errors.Join(db.CreateGeneration(ctx, 1), db.Activate(ctx, 1)); err != nil {
		return err
	}
	if err := db.Exec(ctx, funnelMoved, warehouse.Named("customers", customers)); err != nil {
		return err
	}
	if err := db.ReloadMoved(ctx, 1); err != nil {
		return err
	}
	const piece = 1_000_000
	for from := uint64(0); from < rows; from += piece {
		err := db.Exec(ctx, funnelRows, warehouse.Named("customers", customers), warehouse.Named("half", uint64(funnelTouches/2)),
			warehouse.Named("from", from), warehouse.Named("n", min(piece, rows-from)))
		if err != nil {
			return err
		}
		b.say("figure 10: %d of %d touchpoints", min(from+piece, rows), rows)
	}
	for _, stmt := range []string{
		"OPTIMIZE TABLE touchpoints_g1 FINAL",
		"CREATE TABLE touchpoints_final AS touchpoints_g1",
		"ALTER TABLE touchpoints_final ADD COLUMN customer_no UInt64 AFTER event_id",
		"INSERT INTO touchpoints_final SELECT event_id, bitXor(subject_no, dictGet('moved_g1', 'no_change', subject_no)) AS customer_no, * EXCEPT event_id FROM touchpoints_g1",
		"OPTIMIZE TABLE touchpoints_final FINAL",
	} {
		if err := db.Exec(ctx, stmt); err != nil {
			return err
		}
	}
	return nil
}

// ask times a funnel, in milliseconds, and returns its answer.
func (b *bench) ask(ctx context.Context, db *warehouse.DB, query string) (took float64, answer string, err error) {
	begun := time.Now()
	rows, err := db.Query(ctx, query)
	if err != nil {
		return 0, "", err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	var out []string
	for rows.Next() {
		var steps uint8
		var n uint64
		if err := rows.Scan(&steps, &n); err != nil {
			return 0, "", err
		}
		out = append(out, fmt.Sprintf("%d: %d", steps, n))
	}
	return ms(time.Since(begun)), strings.Join(out, ", "), rows.Err()
}
