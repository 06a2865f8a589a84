package condition_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/google/uuid"

	"sojourn/condition"
	"sojourn/domain"
	"sojourn/warehouse"
	"sojourn/warehouse/chdb"
	"sojourn/warehouse/warehousetest"
)

func TestMain(m *testing.M) {
	chdb.ChildMain()
	os.Exit(m.Run())
}

const clock = begin + span/2

// TestSameMembers: a condition evaluated for each customer in Go, and for all in
// ClickHouse, gives the same members.
func TestSameMembers(t *testing.T) {
	ctx := context.Background()
	db := warehousetest.Open(t)
	if err := db.CreateGeneration(ctx, 1); err != nil {
		t.Fatal(err)
	}
	if err := db.Activate(ctx, 1); err != nil {
		t.Fatal(err)
	}
	d := draw{rand.New(rand.NewPCG(1, 2))}
	in := inserts{}
	subjects := map[uuid.UUID]*condition.Subject{}
	for i := range 300 {
		id := uuid.NewSHA1(uuid.Nil, []byte(strconv.Itoa(i)))
		s, ledgers := d.person()
		subjects[id] = s
		in.subject(id, i, s)
		in.ledgers(id, ledgers)
	}
	in.flush(t, db)
	unlike, soon := 0, 0
	for range 600 {
		text := d.condition(d.IntN(3))
		c, err := condition.Compile(text, condition.Env{})
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		sql, err := c.SQL(clock)
		if err != nil {
			t.Fatal(err)
		}
		var rows []struct {
			ID uuid.UUID `ch:"customer_id"`
		}
		if err := db.Select(ctx, &rows, sql); err != nil {
			t.Fatalf("%s: %v\n%s", text, err, sql)
		}
		members := map[uuid.UUID]bool{}
		for _, r := range rows {
			if members[r.ID] {
				t.Fatalf("%s: a member twice\n%s", text, sql)
			}
			members[r.ID] = true
		}
		some := false
		for id, s := range subjects {
			member, _ := c.Eval(s, clock, nil)
			if member != members[id] {
				t.Fatalf("%s: of %+v Go says %v, ClickHouse %v\n%s", text, s, member, members[id], sql)
			}
			some = some || member
		}
		if some && len(members) < len(subjects) {
			unlike++
			if len(c.Needs().Expiring) > 0 {
				soon++
			}
		}
	}
	if unlike < 200 || soon < 20 {
		t.Errorf("only %d conditions tell customers apart, %d of them by points that expire", unlike, soon)
	}
}

// inserts gathers rows of the public tables.
type inserts map[string][]string

func (in inserts) row(table string, columns string, values ...any) {
	var b strings.Builder
	for i, v := range values {
		if i > 0 {
			b.WriteString(", ")
		}
		switch v := v.(type) {
		case nil:
			b.WriteString("NULL")
		case string:
			b.WriteString("'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(v) + "'")
		case uuid.UUID:
			b.WriteString("'" + v.String() + "'")
		case domain.Millis:
			b.WriteString("'" + v.Time().Format("2006-01-02 15:04:05.000") + "'")
		default:
			fmt.Fprint(&b, v)
		}
	}
	key := table + " (" + columns + ")"
	in[key] = append(in[key], "("+b.String()+")")
}

func (in inserts) flush(t *testing.T, db *warehouse.DB) {
	for table, rows := range in {
		if err := db.Exec(context.Background(), "INSERT INTO "+table+" VALUES "+strings.Join(rows, ", ")); err != nil {
			t.Fatal(table, err)
		}
	}
}

// last is what a list of steps says at the clock.
func last[T any](steps []condition.Step[T]) (s condition.Step[T], ok bool) {
	for _, step := range steps {
		if step.At <= clock {
			s, ok = step, true
		}
	}
	return s, ok
}

// ledgers writes the lines that stand at the clock.
func (in inserts) ledgers(id uuid.UUID, ledgers map[string][]move) {
	for programme, lines := range ledgers {
		for i, m := range lines {
			var expires any
			if m.expires != 0 {
				expires = m.expires
			}
			// Points that cannot be spent yet expire as well.
			available, pending := m.points, int64(0)
			if i%3 == 0 {
				available, pending = pending, available
			}
			if m.at <= clock {
				in.row("loyalty_ledger_g1", "customer_id, programme, seq, at, available, pending, lot, expires_at", id, programme, i+1, m.at, available, pending, i, expires)
			}
		}
	}
}

func (in inserts) subject(id uuid.UUID, no int, s *condition.Subject) {
	traits := map[string]json.RawMessage{}
	for key, steps := range s.Traits {
		if v, ok := last(steps); ok && string(v.Value) != "null" {
			traits[key] = json.RawMessage(v.Value)
		}
	}
	raw, _ := json.Marshal(traits)
	stage, _ := last(s.Stage)
	in.row("customers_g1", "customer_id, stage, stage_since, first_seen, traits", id, stage.Value, stage.At, s.FirstSeen, string(condition.Plain(raw)))
	for name, steps := range s.Tiers {
		tier, _ := last(steps)
		points, ok := last(s.Points[name])
		if !ok && tier.Value == "" {
			continue
		}
		if !ok { // a member of a programme has points
			s.Points[name] = []condition.Step[int64]{{At: s.FirstSeen, Value: 0}}
			points.Value = 0
		}
		var since any = tier.At
		if tier.Value == "" {
			since = nil
		}
		in.row("loyalty_status_g1", "customer_id, programme, tier, tier_since, available", id, name, tier.Value, since, points.Value)
	}
	for name, steps := range s.Points {
		if _, ok := s.Tiers[name]; !ok {
			if points, ok := last(steps); ok {
				in.row("loyalty_status_g1", "customer_id, programme, available", id, name, points.Value)
			}
		}
	}
	status, known := last(s.Status)
	index, indexed := last(s.Index)
	complaints, complained := last(s.Complaints)
	if known || indexed || complained {
		var since, value any
		if known {
			since = status.At
		} else {
			status.Value = "unknown"
		}
		if indexed && !math.IsNaN(index.Value) {
			value = index.Value
		}
		in.row("satisfaction_g1", "customer_id, status, since, satisfaction_index, open_complaints", id, status.Value, since, value, complaints.Value)
	}
	for name, since := range s.Accounts {
		account := uuid.NewSHA1(uuid.Nil, []byte(name))
		in.row("accounts_g1", "account_id, group_id", account, name)
		in.row("account_members_g1", "account_id, subject_id, since", account, id, since.At)
	}
	for name, steps := range s.Segments {
		if is, _ := last(steps); is.Value {
			in.row("segment_stays_g1", "segment, customer_id, seq", name, id, 1)
		}
	}
	n := 0
	for sel, touches := range s.Touchpoints {
		for _, touch := range touches {
			n++
			var amount any
			currency := ""
			if touch.Currency != "" {
				amount, currency = touch.Amount, touch.Currency
			}
			in.row("touchpoints_g1", "event_id, subject_id, subject_no, subject, name, meaning, occurred_at, amount, currency",
				uuid.NewSHA1(id, []byte(strconv.Itoa(n))), id, no+2, id.String(), sel.Name, sel.Meaning, touch.At, amount, currency)
		}
	}
}
