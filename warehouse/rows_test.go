package warehouse_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"

	"sojourn/warehouse"
	"sojourn/warehouse/warehousetest"
)

// id makes a UUID of a kind and a number.
func id(kind byte, n int) uuid.UUID {
	var b [16]byte
	b[0] = kind
	binary.BigEndian.PutUint64(b[8:], uint64(n)*0x9E3779B97F4A7C15)
	return uuid.NewSHA1(uuid.Nil, b[:])
}

const start = 1_700_000_000_000 // Unix ms

// touchpoint makes row n of a shop with so many customers, the same each time.
func touchpoint(n, customers int) warehouse.Touchpoint {
	r := rand.New(rand.NewPCG(uint64(n), 7))
	c := r.IntN(customers)
	t := warehouse.Touchpoint{
		EventID: id('e', n), SubjectID: id('s', c), Subject: fmt.Sprintf("user:%d", c),
		UserID: fmt.Sprint(c), Source: "shop", Type: "track", Name: []string{"Product Viewed", "Product Added", "Order Completed"}[r.IntN(3)],
		Meaning: "engagement", Channel: []string{"web", "mobile"}[r.IntN(2)],
		OccurredAt: start + int64(r.IntN(180*86400_000)), Position: uint64(n + 1),
		Properties: fmt.Appendf(nil, `{"sku":"SKU-%d","price":%d.%02d,"quantity":%d,"category":"shoes"}`, r.IntN(1000), r.IntN(200), r.IntN(100), 1+r.IntN(4)),
		Context:    fmt.Appendf(nil, `{"userAgent":"Mozilla/5.0 (X11; Linux x86_64)","page":{"url":"https://shop.example/p/%d","path":"/p/%d"},"ip":"203.0.113.%d"}`, r.IntN(1000), r.IntN(1000), r.IntN(255)),
	}
	t.ReceivedAt, t.RecordedAt = t.OccurredAt+120, t.OccurredAt+125
	if t.Name == "Order Completed" {
		t.Meaning, t.Amount, t.HasAmount, t.Currency = "purchase", int64(r.IntN(2_000_000)), true, "USD"
		t.OrderID = fmt.Sprintf("order-%d", n)
	}
	return t
}

func block(from, to, customers int) *warehouse.TouchpointBlock {
	b := &warehouse.TouchpointBlock{}
	for n := from; n < to; n++ {
		t := touchpoint(n, customers)
		b.Append(&t)
	}
	return b
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// value scans the one value of a statement.
func value[T any](t testing.TB, db *warehouse.DB, query string, args ...any) T {
	t.Helper()
	var v T
	if err := db.QueryRow(context.Background(), query, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return v
}

// text is a statement's rows, one line each.
func text(t testing.TB, db *warehouse.DB, query string, args ...any) []string {
	t.Helper()
	rows, err := db.Query(context.Background(), query, args...)
	must(t, err)
	defer func() { _ = rows.Close() }()
	var all []string
	for rows.Next() {
		var s string
		must(t, rows.Scan(&s))
		all = append(all, s)
	}
	must(t, rows.Err())
	return all
}

func TestTouchpointRoundTrip(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db := warehousetest.Open(t)
	must(t, db.CreateGeneration(ctx, 1))
	must(t, db.Activate(ctx, 1))

	var b warehouse.TouchpointBlock
	row := warehouse.Touchpoint{
		EventID: id('e', 1), SubjectID: id('s', 1), Subject: "user:ü\x00'\n", UserID: "ü\x00'\n", AnonymousID: "a-1",
		Source: "shop", Type: "track", Name: "Order Completed", Meaning: "purchase", Channel: "web",
		OccurredAt: start, ReceivedAt: start + 1, RecordedAt: start + 2, Position: 1<<63 + 5,
		Amount: -123_456, HasAmount: true, Currency: "EUR", OrderID: "o-1", Flags: "time_clamped,amount_unreadable",
		Properties: []byte(`{"a":"\u0000","b":"😀"}`), Context: []byte("{}"),
	}
	b.Append(&row)
	// The block must have kept nothing of the row.
	copy(row.Properties, "XXXXXXXXXXX")
	row = warehouse.Touchpoint{EventID: id('e', 2), SubjectID: id('s', 2), Subject: "anon:x", OccurredAt: -62_000, Amount: 77}
	b.Append(&row)
	must(t, db.WriteTouchpoints(ctx, 1, &b))

	got := text(t, db, `SELECT toString(tuple(*)) FROM touchpoints ORDER BY occurred_at DESC`)
	want := []string{
		`('` + id('e', 1).String() + `','` + id('s', 1).String() + `','user:ü\0\'\n','ü\0\'\n','a-1','shop','track','Order Completed','purchase','web','2023-11-14 22:13:20.000','2023-11-14 22:13:20.001','2023-11-14 22:13:20.002',9223372036854775813,-12.3456,'EUR','o-1',['time_clamped','amount_unreadable'],'{"a":"\\u0000","b":"😀"}','{}',` + no('s', 1) + `)`,
		`('` + id('e', 2).String() + `','` + id('s', 2).String() + `','anon:x','','','','','','','','1969-12-31 23:58:58.000','1970-01-01 00:00:00.000','1970-01-01 00:00:00.000',0,NULL,'','',[],'','',` + no('s', 2) + `)`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// no is a customer's number, as text.
func no(kind byte, n int) string { return strconv.FormatUint(warehouse.SubjectNo(id(kind, n)), 10) }

func TestMovedSubjects(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db := warehousetest.Open(t)
	must(t, db.CreateGeneration(ctx, 3))
	must(t, db.Activate(ctx, 3))
	must(t, db.WriteTouchpoints(ctx, 3, block(0, 2000, 50)))
	const query = "SELECT count() FROM touchpoints WHERE customer_id = {c:UUID}"
	own := value[uint64](t, db, query, warehouse.Named("c", id('s', 7)))
	other := value[uint64](t, db, query, warehouse.Named("c", id('s', 8)))
	if own == 0 || other == 0 {
		t.Fatalf("the shop has customers without touchpoints: %d, %d", own, other)
	}
	move := warehouse.Subject{SubjectID: id('s', 7), Subject: "user:7", Kind: "user", CustomerID: id('s', 8), Version: warehouse.Version{Position: 10, Clock: start}}
	must(t, db.WriteSubjects(ctx, 3, []warehouse.Subject{move, move}))
	must(t, db.ReloadMoved(ctx, 3))
	if got := value[uint64](t, db, query, warehouse.Named("c", id('s', 8))); got != own+other {
		t.Errorf("after the move the customer has %d touchpoints, want %d", got, own+other)
	}
	if got := text(t, db, "SELECT DISTINCT toString(customer_no) FROM touchpoints WHERE customer_id = '"+id('s', 8).String()+"'"); !slices.Equal(got, []string{no('s', 8)}) {
		t.Errorf("the customer's number is %s, want %s", got, no('s', 8))
	}
	if got := value[uint64](t, db, "SELECT count() FROM subjects WHERE customer_id = {c:UUID} AND subject = 'user:7'", warehouse.Named("c", id('s', 8))); got != 1 {
		t.Errorf("subjects has %d rows of the move, want 1", got)
	}
	// An older version changes nothing, a newer one moves the subject back.
	older := move
	older.CustomerID, older.Version = id('s', 9), warehouse.Version{Position: 9, Clock: start + 1000}
	must(t, db.WriteSubjects(ctx, 3, []warehouse.Subject{older}))
	must(t, db.ReloadMoved(ctx, 3))
	if got := value[uint64](t, db, query, warehouse.Named("c", id('s', 8))); got != own+other {
		t.Errorf("after an older version the customer has %d touchpoints, want %d", got, own+other)
	}
	move.CustomerID, move.Version.Clock = move.SubjectID, start+1
	must(t, db.WriteSubjects(ctx, 3, []warehouse.Subject{move}))
	must(t, db.ReloadMoved(ctx, 3))
	if got := value[uint64](t, db, query, warehouse.Named("c", id('s', 7))); got != own {
		t.Errorf("after the move back the customer has %d touchpoints, want %d", got, own)
	}
	if got := value[uint64](t, db, "SELECT count() FROM subjects"); got != 0 {
		t.Errorf("subjects has %d rows after the move back, want 0", got)
	}
}

func customer(n int, v warehouse.Version) warehouse.Customer {
	return warehouse.Customer{
		CustomerID: id('s', n), UserIDs: []string{fmt.Sprint(n), "b'"}, Stage: "loyal", StageSince: start,
		FirstSeen: start - 1, LastSeen: start + 1, Purchases: 5, Refunds: 1,
		Revenue: []warehouse.Money{{Currency: "EUR", Amount: 10_000}, {Currency: "USD", Amount: -5}},
		Traits:  []byte(`{"email":"a@example.com"}`),
		Outlook: []warehouse.StageAt{{At: start + 60*86400_000, Stage: "at_risk"}, {At: start + 120*86400_000, Stage: "churned"}},
		Version: v,
	}
}

func TestCustomersReplaceThemselves(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db := warehousetest.Open(t)
	must(t, db.CreateGeneration(ctx, 1))
	must(t, db.Activate(ctx, 1))
	one := customer(1, warehouse.Version{Position: 5, Clock: start})
	must(t, db.WriteCustomers(ctx, 1, []warehouse.Customer{one, customer(2, one.Version)}))
	must(t, db.WriteCustomers(ctx, 1, []warehouse.Customer{one}))
	got := text(t, db, "SELECT toString(tuple(*)) FROM customers WHERE customer_id = {c:UUID}", warehouse.Named("c", one.CustomerID))
	want := []string{`('` + one.CustomerID.String() + `',['1','b\''],'loyal','2023-11-14 22:13:20.000','2023-11-14 22:13:19.999','2023-11-14 22:13:20.001',5,1,{'EUR':1,'USD':-0.0005},'{"email":"a@example.com"}',[('2024-01-13 22:13:20.000','at_risk'),('2024-03-13 22:13:20.000','churned')],5,'2023-11-14 22:13:20.000')`}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	// The greater position wins, then the greater clock, then the last written.
	for i, step := range []struct {
		stage   string
		version warehouse.Version
		want    string
	}{
		{"lead", warehouse.Version{Position: 4, Clock: start + 9_000}, "loyal"},
		{"churned", warehouse.Version{Position: 5, Clock: start + 1}, "churned"},
		{"lost", warehouse.Version{Position: 1 << 62, Clock: 0}, "lost"},
		{"won_back", warehouse.Version{Position: 1 << 62, Clock: 0}, "won_back"},
	} {
		c := customer(1, step.version)
		c.Stage = step.stage
		must(t, db.WriteCustomers(ctx, 1, []warehouse.Customer{c}))
		if got := value[string](t, db, "SELECT stage FROM customers WHERE customer_id = {c:UUID}", warehouse.Named("c", one.CustomerID)); got != step.want {
			t.Errorf("step %d: the stage is %s, want %s", i, got, step.want)
		}
	}
	gone := customer(1, warehouse.Version{Position: 1 << 62, Clock: 1})
	gone.Removed = true
	must(t, db.WriteCustomers(ctx, 1, []warehouse.Customer{gone}))
	if got := value[uint64](t, db, "SELECT count() FROM customers"); got != 1 {
		t.Errorf("%d customers after a removal, want 1", got)
	}
}

func TestAccounts(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db := warehousetest.Open(t)
	must(t, db.CreateGeneration(ctx, 1))
	must(t, db.Activate(ctx, 1))
	a := warehouse.Account{
		AccountID: id('a', 1), GroupID: "ac'me", Stage: "loyal", StageSince: start, FirstSeen: start - 1, LastSeen: start + 1,
		Purchases: 2, Refunds: 1, Revenue: []warehouse.Money{{Currency: "EUR", Amount: 10_000}}, Traits: []byte(`{"plan":1}`),
		Outlook: []warehouse.StageAt{{At: start + 60*86400_000, Stage: "at_risk"}}, Version: warehouse.Version{Position: 5, Clock: start},
	}
	older, gone := a, a
	older.Stage, older.Version.Position = "lead", 4
	gone.AccountID, gone.Removed = id('a', 2), true
	must(t, db.WriteAccounts(ctx, 1, []warehouse.Account{a, older, gone}))
	got := text(t, db, "SELECT toString(tuple(*)) FROM accounts")
	want := []string{`('` + a.AccountID.String() + `','ac\'me','loyal','2023-11-14 22:13:20.000','2023-11-14 22:13:19.999','2023-11-14 22:13:20.001',2,1,{'EUR':1},'{"plan":1}',[('2024-01-13 22:13:20.000','at_risk')],5,'2023-11-14 22:13:20.000')`}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}

	// Two members of one customer are one, since the first of them; nobody is none.
	v := warehouse.Version{Position: 5}
	member := func(subject int, since int64, position uint64) warehouse.AccountMember {
		return warehouse.AccountMember{AccountID: a.AccountID, SubjectID: id('s', subject), Since: since, Version: warehouse.Version{Position: position}}
	}
	must(t, db.WriteAccountMembers(ctx, 1, []warehouse.AccountMember{member(1, start, 1), member(2, start+9, 1), member(2, start-2, 2), member(3, start, 1), member(4, start+3, 1)}))
	must(t, db.WriteSubjects(ctx, 1, []warehouse.Subject{
		{SubjectID: id('s', 2), Subject: "user:2", CustomerID: id('s', 1), Version: v}, {SubjectID: id('s', 3), Subject: "user:3", CustomerID: warehouse.Nobody, Version: v},
	}))
	must(t, db.ReloadMoved(ctx, 1))
	got = text(t, db, "SELECT toString(tuple(*)) FROM account_members ORDER BY since")
	want = []string{
		`('` + a.AccountID.String() + `','` + id('s', 1).String() + `','2023-11-14 22:13:19.998')`,
		`('` + a.AccountID.String() + `','` + id('s', 4).String() + `','2023-11-14 22:13:20.003')`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestTransitionsReplaceThemselves(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db := warehousetest.Open(t)
	must(t, db.CreateGeneration(ctx, 1))
	must(t, db.Activate(ctx, 1))
	row := func(seq uint32, to string, position uint64) warehouse.Transition {
		return warehouse.Transition{CustomerID: id('s', 1), Seq: seq, From: "visitor", To: to, At: start, Reason: "known by an e-mail", Cause: id('e', 1).String(), PolicyVersion: 2, Version: warehouse.Version{Position: position}}
	}
	must(t, db.WriteTransitions(ctx, 1, []warehouse.Transition{row(1, "lead", 3), row(2, "qualified", 3)}))
	second := row(2, "", 4)
	second.Removed = true
	must(t, db.WriteTransitions(ctx, 1, []warehouse.Transition{row(1, "first_purchase", 4), second}))
	got := text(t, db, "SELECT toString(tuple(*)) FROM stage_transitions")
	want := []string{`('` + id('s', 1).String() + `',1,'visitor','first_purchase','2023-11-14 22:13:20.000','known by an e-mail','` + id('e', 1).String() + `',2,4,'1970-01-01 00:00:00.000')`}
	if !slices.Equal(got, want) {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

// The touchpoints of a subject that is nobody's bear nobody's id, those of other
// subjects keep theirs.
func TestNobodysTouchpoints(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db := warehousetest.Open(t)
	must(t, db.CreateGeneration(ctx, 1))
	must(t, db.Activate(ctx, 1))
	must(t, db.WriteTouchpoints(ctx, 1, block(0, 500, 20)))
	const count = "SELECT count() FROM touchpoints WHERE customer_id = {c:UUID}"
	own := value[uint64](t, db, count, warehouse.Named("c", id('s', 7)))
	till := warehouse.Subject{SubjectID: id('s', 7), Subject: "user:7", Kind: "user", CustomerID: warehouse.Nobody, Version: warehouse.Version{Position: 10}}
	must(t, db.WriteSubjects(ctx, 1, []warehouse.Subject{till}))
	must(t, db.ReloadMoved(ctx, 1))
	if got := value[uint64](t, db, count, warehouse.Named("c", warehouse.Nobody)); got != own || own == 0 {
		t.Errorf("%d touchpoints are nobody's, want %d", got, own)
	}
	if got := value[uint64](t, db, "SELECT uniqExact(customer_id) FROM touchpoints"); got != 20 {
		t.Errorf("%d customers, want 19 and nobody", got)
	}
	if got := value[uint64](t, db, "SELECT any(customer_no) FROM touchpoints WHERE customer_id = {c:UUID}", warehouse.Named("c", warehouse.Nobody)); got != 1 {
		t.Errorf("nobody's number is %d, want 1", got)
	}
	// The documented ways from any id to the customer of today.
	const current = "SELECT ifNull((SELECT customer_id FROM subjects WHERE subject_id = {id:UUID}), {id:UUID})"
	for n, want := range map[int]uuid.UUID{7: warehouse.Nobody, 8: id('s', 8)} {
		if got := value[uuid.UUID](t, db, current, warehouse.Named("id", id('s', n))); got != want {
			t.Errorf("the customer of %s is %s, want %s", id('s', n), got, want)
		}
		if got := value[uuid.UUID](t, db, `SELECT if(s.subject_id = r.customer_id, s.customer_id, r.customer_id) AS customer_now
FROM (SELECT {id:UUID} AS customer_id) AS r LEFT JOIN subjects AS s ON s.subject_id = r.customer_id`, warehouse.Named("id", id('s', n))); got != want {
			t.Errorf("by a join the customer of %s is %s, want %s", id('s', n), got, want)
		}
	}
}

func conflict(n int, status string, v warehouse.Version) warehouse.Conflict {
	return warehouse.Conflict{
		EventID: id('e', n), SubjectID: id('s', n), Subject: fmt.Sprintf("user:%d'", n), OtherID: id('s', 1000), Other: "anon:tablet",
		OccurredAt: start + int64(n), Status: status, Version: v,
	}
}

func TestConflictsReplaceThemselves(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db := warehousetest.Open(t)
	must(t, db.CreateGeneration(ctx, 1))
	must(t, db.Activate(ctx, 1))
	one := conflict(1, "open", warehouse.Version{Position: 5, Clock: start})
	// One message may name several subjects, and several messages one subject.
	beside := one
	beside.OtherID, beside.Other = id('s', 1001), "email:a@example.com"
	must(t, db.WriteConflicts(ctx, 1, []warehouse.Conflict{one, beside, conflict(2, "open", one.Version)}))
	must(t, db.WriteConflicts(ctx, 1, []warehouse.Conflict{one}))
	got := text(t, db, "SELECT toString(tuple(*)) FROM identity_conflicts WHERE event_id = {e:UUID} ORDER BY other", warehouse.Named("e", one.EventID))
	row := func(other uuid.UUID, name, status string) string {
		return `('` + one.EventID.String() + `','` + one.SubjectID.String() + `','user:1\'','` + other.String() + `','` + name +
			`','2023-11-14 22:13:20.001','` + status + `')`
	}
	if want := []string{row(one.OtherID, "anon:tablet", "open"), row(beside.OtherID, "email:a@example.com", "open")}; !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	// An older version changes nothing, a newer one decides, one with Removed hides it,
	// and it may come back.
	removed := warehouse.Conflict{EventID: one.EventID, OtherID: one.OtherID, Version: warehouse.Version{Position: 7}, Removed: true}
	for i, step := range []struct {
		write warehouse.Conflict
		want  []string
	}{
		{conflict(1, "kept_apart", warehouse.Version{Position: 4, Clock: start + 1}), []string{"open"}},
		{conflict(1, "kept_apart", warehouse.Version{Position: 6}), []string{"kept_apart"}},
		{removed, nil},
		{conflict(1, "open", warehouse.Version{Position: 8}), []string{"open"}},
	} {
		must(t, db.WriteConflicts(ctx, 1, []warehouse.Conflict{step.write}))
		got := text(t, db, "SELECT toString(status) FROM identity_conflicts WHERE event_id = {e:UUID} AND other_id = {o:UUID}",
			warehouse.Named("e", one.EventID), warehouse.Named("o", one.OtherID))
		if !slices.Equal(got, step.want) {
			t.Errorf("step %d: %v, want %v", i, got, step.want)
		}
	}
	if n := value[uint64](t, db, "SELECT count() FROM identity_conflicts"); n != 3 {
		t.Errorf("%d conflicts, want 3", n)
	}
}

func TestTrimTouchpoints(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db := warehousetest.Open(t)
	must(t, db.CreateGeneration(ctx, 1))
	must(t, db.WriteTouchpoints(ctx, 1, block(0, 100_000, 10_000)))
	for _, step := range []struct{ position, removed, left uint64 }{
		{100_000, 0, 100_000}, {95_000, 5_000, 95_000}, {95_000, 0, 95_000},
	} {
		began := time.Now()
		n, err := db.TrimTouchpoints(ctx, 1, step.position)
		must(t, err)
		t.Logf("trim to %d: %d rows in %v", step.position, n, time.Since(began))
		if n != step.removed {
			t.Errorf("trim to %d removed %d rows, want %d", step.position, n, step.removed)
		}
		if left := value[uint64](t, db, "SELECT count() FROM touchpoints_g1"); left != step.left {
			t.Errorf("%d rows are left, want %d", left, step.left)
		}
		if last, err := db.MaxPosition(ctx, 1); err != nil || last != step.left {
			t.Errorf("the last position is %d (%v), want %d", last, err, step.left)
		}
	}
	if err := db.WriteTouchpoints(ctx, 1, block(95_000, 100_000, 10_000)); err != nil {
		t.Error(err)
	}
	if n := value[uint64](t, db, "SELECT uniqExact(event_id) FROM touchpoints_g1"); n != 100_000 {
		t.Errorf("%d different rows after the repetition, want 100000", n)
	}
	// One of two writers trims its own.
	one, two := db.Of(warehouse.SubjectNos{To: 1<<63 - 1}), db.Of(warehouse.SubjectNos{From: 1 << 63, To: math.MaxUint64})
	const above = "SELECT count() FROM touchpoints_g1 WHERE position > 90000"
	mine := value[uint64](t, db, above+" AND subject_no < bitShiftLeft(1::UInt64, 63)")
	if n, err := one.TrimTouchpoints(ctx, 1, 90_000); err != nil || n != mine || mine == 0 || mine == 10_000 {
		t.Errorf("the first of two trimmed %d rows of %d: %v", n, mine, err)
	}
	if n, err := two.TrimTouchpoints(ctx, 1, 90_000); err != nil || n != 10_000-mine {
		t.Errorf("the second of two trimmed %d rows of %d: %v", n, 10_000-mine, err)
	}
}

func TestGenerations(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db := warehousetest.Open(t)
	if _, err := db.Active(ctx); !errors.Is(err, warehouse.ErrNoGeneration) {
		t.Errorf("an empty database has an active generation: %v", err)
	}
	for _, g := range []warehouse.Generation{1, 2, 12} {
		must(t, db.CreateGeneration(ctx, g))
		must(t, db.CreateGeneration(ctx, g))
	}
	must(t, db.WriteTouchpoints(ctx, 1, block(0, 10, 3)))
	must(t, db.WriteTouchpoints(ctx, 12, block(0, 20, 3)))
	for _, g := range []warehouse.Generation{1, 12, 12} {
		must(t, db.Activate(ctx, g))
		if active, err := db.Active(ctx); err != nil || active != g {
			t.Errorf("the active generation is %v (%v), want %v", active, err, g)
		}
	}
	if n := value[uint64](t, db, "SELECT count() FROM touchpoints"); n != 20 {
		t.Errorf("the view has %d rows, want those of g12", n)
	}
	if err := db.DropGeneration(ctx, 12); err == nil {
		t.Error("the active generation was dropped")
	}
	must(t, db.WriteConflicts(ctx, 1, []warehouse.Conflict{conflict(1, "open", warehouse.Version{})}))
	if n := value[uint64](t, db, "SELECT count() FROM identity_conflicts"); n != 0 {
		t.Errorf("the view has %d conflicts of another generation", n)
	}
	must(t, db.DropGeneration(ctx, 1))
	must(t, db.DropGeneration(ctx, 1))
	if left := text(t, db, "SELECT name FROM system.tables WHERE database = 'sojourn' AND endsWith(name, '_g1')"); len(left) > 0 {
		t.Errorf("of g1 there is left %v", left)
	}
	all, err := db.Generations(ctx)
	must(t, err)
	if !slices.Equal(all, []warehouse.Generation{2, 12}) {
		t.Errorf("generations %v, want [g2 g12]", all)
	}
	must(t, db.Migrate(ctx))
	if n := value[uint64](t, db, "SELECT count() FROM migrations WHERE number = 1"); n != 1 {
		t.Errorf("migration 1 is recorded %d times", n)
	}
}
