package warehouse_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"sojourn/warehouse"
	"sojourn/warehouse/warehousetest"
)

// opened gives a database with an active generation.
func opened(t *testing.T) *warehouse.DB {
	t.Helper()
	db := warehousetest.Open(t)
	must(t, db.CreateGeneration(context.Background(), 1))
	must(t, db.Activate(context.Background(), 1))
	return db
}

func status(n int, programme string, v warehouse.Version) warehouse.LoyaltyStatus {
	return warehouse.LoyaltyStatus{
		CustomerID: id('s', n), Programme: programme, Enrolled: start, Tier: "silver", TierSince: start + 1, TierUntil: start + 2,
		TierTotal: 600, NextTier: "gold", TierMissing: 1400,
		Available: 1, Pending: 2, Debt: 3, Earned: 4, AdjustedIn: 5, TransferredIn: 6,
		Redeemed: 7, Expired: 8, Reversed: 9, AdjustedOut: 10, TransferredOut: 11,
		ExpiringAt: start + 3, Expiring: 12, PointValue: 100, Currency: "EUR", Version: v,
	}
}

func movement(n int, programme string, seq uint32, v warehouse.Version) warehouse.LoyaltyMovement {
	return warehouse.LoyaltyMovement{
		CustomerID: id('s', n), Programme: programme, Seq: seq, At: start, Kind: "redeemed", Points: 100,
		Available: -100, Pending: 1, Debt: 2, BalanceAvailable: 3, BalancePending: 4, BalanceDebt: 5, Lot: 0, ExpiresAt: start + 4, OrderID: "o'1",
		Value: 12_345, Currency: "EUR", Cause: "touchpoint:x", Note: "spent", Version: v,
	}
}

func tierChange(n int, programme string, seq uint32, v warehouse.Version) warehouse.TierChange {
	return warehouse.TierChange{
		CustomerID: id('s', n), Programme: programme, Seq: seq, From: "member", To: "silver", At: start, Until: start + 1,
		Reason: "600 points in 365 days", Cause: "touchpoint:x", PolicyVersion: 2, Version: v,
	}
}

func TestLoyaltyRoundTrip(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db := opened(t)
	v := warehouse.Version{Position: 5, Clock: start}
	a := id('s', 1).String()
	// By spend, of a customer who is not enrolled and holds nothing; the greatest totals.
	spend := warehouse.LoyaltyStatus{CustomerID: id('s', 1), Programme: "b'", TierTotal: 1<<63 - 1, TierBySpend: true, TierMissing: 5, Version: v}
	most := spend
	most.Programme, most.TierBySpend = "c", false
	must(t, db.WriteLoyaltyStatus(ctx, 1, []warehouse.LoyaltyStatus{status(1, "a", v), spend, most}))
	same(t, "loyalty_status", text(t, db, "SELECT toString(tuple(*)) FROM loyalty_status ORDER BY programme"),
		`('`+a+`','a','2023-11-14 22:13:20.000','silver','2023-11-14 22:13:20.001','2023-11-14 22:13:20.002','points',600,'gold',1400,1,2,3,4,5,6,7,8,9,10,11,'2023-11-14 22:13:20.003',12,0.01,'EUR',5,'2023-11-14 22:13:20.000')`,
		`('`+a+`','b\'',NULL,'',NULL,NULL,'spend',922337203685477.5807,'',0.0005,0,0,0,0,0,0,0,0,0,0,0,NULL,0,0,'',5,'2023-11-14 22:13:20.000')`,
		`('`+a+`','c',NULL,'',NULL,NULL,'points',9223372036854775807,'',5,0,0,0,0,0,0,0,0,0,0,0,NULL,0,0,'',5,'2023-11-14 22:13:20.000')`)

	none := warehouse.LoyaltyMovement{CustomerID: id('s', 1), Programme: "a", Seq: 2, At: start, Kind: "earned", Lot: -1, Version: v}
	must(t, db.WriteLoyaltyLedger(ctx, 1, []warehouse.LoyaltyMovement{movement(1, "a", 1, v), none}))
	same(t, "loyalty_ledger", text(t, db, "SELECT toString(tuple(*)) FROM loyalty_ledger ORDER BY seq"),
		`('`+a+`','a',1,'2023-11-14 22:13:20.000','redeemed',100,-100,1,2,3,4,5,0,'2023-11-14 22:13:20.004','o\'1',1.2345,'EUR','touchpoint:x','spent',5,'2023-11-14 22:13:20.000')`,
		`('`+a+`','a',2,'2023-11-14 22:13:20.000','earned',0,0,0,0,0,0,0,NULL,NULL,'',0,'','','',5,'2023-11-14 22:13:20.000')`)

	first := warehouse.TierChange{CustomerID: id('s', 1), Programme: "a", Seq: 1, To: "member", At: start, Version: v}
	must(t, db.WriteTierTransitions(ctx, 1, []warehouse.TierChange{first, tierChange(1, "a", 2, v)}))
	same(t, "tier_transitions", text(t, db, "SELECT toString(tuple(*)) FROM tier_transitions ORDER BY seq"),
		`('`+a+`','a',1,'','member','2023-11-14 22:13:20.000',NULL,'','',0,5,'2023-11-14 22:13:20.000')`,
		`('`+a+`','a',2,'member','silver','2023-11-14 22:13:20.000','2023-11-14 22:13:20.001','600 points in 365 days','touchpoint:x',2,5,'2023-11-14 22:13:20.000')`)
}

// same holds the rows of a table against those wanted.
func same(t *testing.T, table string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got\n%s\nwant\n%s", table, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestLoyaltyRowsReplaceThemselves(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db := opened(t)
	// A programme and a number are part of the key; an older version changes nothing,
	// a newer one decides, one with Removed hides.
	at := func(position uint64) warehouse.Version { return warehouse.Version{Position: position} }
	for i, step := range []struct {
		version warehouse.Version
		word    string
		removed bool
		want    []string // of programme a, line 1
	}{
		{at(5), "first", false, []string{"first"}},
		{at(5), "again", false, []string{"again"}},
		{warehouse.Version{Position: 4, Clock: start}, "older", false, []string{"again"}},
		{warehouse.Version{Position: 5, Clock: 1}, "later", false, []string{"later"}},
		{at(6), "", true, nil},
		{at(7), "back", false, []string{"back"}},
	} {
		s, m, c := status(1, "a", step.version), movement(1, "a", 1, step.version), tierChange(1, "a", 1, step.version)
		s.Tier, m.Kind, c.To = step.word, step.word, step.word
		s.Removed, m.Removed, c.Removed = step.removed, step.removed, step.removed
		must(t, db.WriteLoyaltyStatus(ctx, 1, []warehouse.LoyaltyStatus{s, status(1, "b", at(1)), status(2, "a", at(1))}))
		must(t, db.WriteLoyaltyLedger(ctx, 1, []warehouse.LoyaltyMovement{m, movement(1, "a", 2, at(1)), movement(1, "b", 1, at(1)), movement(2, "a", 1, at(1))}))
		must(t, db.WriteTierTransitions(ctx, 1, []warehouse.TierChange{c, tierChange(1, "a", 2, at(1)), tierChange(1, "b", 1, at(1)), tierChange(2, "a", 1, at(1))}))
		gone := uint64(0)
		if step.removed {
			gone = 1
		}
		for table, q := range map[string]struct {
			column, only string
			rows         uint64
		}{
			"loyalty_status":   {"tier", "", 3},
			"loyalty_ledger":   {"kind", " AND seq = 1", 4},
			"tier_transitions": {"to_tier", " AND seq = 1", 4},
		} {
			got := text(t, db, "SELECT toString("+q.column+") FROM "+table+" WHERE programme = 'a' AND customer_id = {c:UUID}"+q.only, warehouse.Named("c", id('s', 1)))
			if !slices.Equal(got, step.want) {
				t.Errorf("step %d: %s has %v, want %v", i, table, got, step.want)
			}
			if n := value[uint64](t, db, "SELECT count() FROM "+table); n != q.rows-gone {
				t.Errorf("step %d: %s has %d rows, want %d", i, table, n, q.rows-gone)
			}
		}
	}
}

// A generation of a release before loyalty_ledger said when points expire is shown and
// written by this one, until it is built anew.
func TestTheLedgerOfAnEarlierRelease(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db := warehousetest.Open(t)
	must(t, db.CreateGeneration(ctx, 1))
	must(t, db.WriteLoyaltyLedger(ctx, 1, []warehouse.LoyaltyMovement{movement(1, "a", 1, warehouse.Version{Position: 1})}))
	must(t, db.Exec(ctx, "ALTER TABLE loyalty_ledger_g1 DROP COLUMN expires_at"))
	if err := db.Activate(ctx, 1); err == nil {
		t.Fatal("the view reads a column that is not there")
	}
	for range 2 {
		must(t, db.CreateGeneration(ctx, 1))
	}
	must(t, db.Activate(ctx, 1))
	must(t, db.WriteLoyaltyLedger(ctx, 1, []warehouse.LoyaltyMovement{movement(1, "a", 2, warehouse.Version{Position: 2})}))
	same(t, "loyalty_ledger", text(t, db, "SELECT toString((seq, lot, expires_at)) FROM loyalty_ledger ORDER BY seq"),
		"(1,0,NULL)", "(2,0,'2023-11-14 22:13:20.004')")
}
