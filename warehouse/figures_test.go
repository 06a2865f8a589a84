package warehouse_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"sojourn/warehouse"
	"sojourn/warehouse/chdb"
	"sojourn/warehouse/chdb/chdbtest"
	"sojourn/warehouse/warehousetest"
)

const day = int64(86400_000)

func TestLoyaltyFigures(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db := opened(t)
	now := start + 1000*day
	at := func(position uint64, clock int64) warehouse.Version {
		return warehouse.Version{Position: position, Clock: clock}
	}
	// Programme a: three members, one who is not, one who is gone. The value of a point
	// is that of the newest row.
	row := func(n int, tier string, enrolled int64, v warehouse.Version) warehouse.LoyaltyStatus {
		return warehouse.LoyaltyStatus{CustomerID: id('s', n), Programme: "a", Enrolled: enrolled, Tier: tier, PointValue: 100, Currency: "EUR", Version: v}
	}
	one, two, three := row(1, "gold", start, at(1, now-1)), row(2, "gold", start, at(2, now)), row(3, "member", start, at(3, now-500*day))
	one.Available, one.Pending, one.Earned, one.Redeemed, one.Expired = 100, 20, 300, 150, 30
	two.Debt, two.AdjustedIn, two.Redeemed, two.PointValue = 7, 100, 107, 250
	outside, gone := row(4, "", 0, at(4, now-2)), row(5, "gold", start, at(5, now+day))
	gone.Available, gone.Removed = 1000, true
	// Programme b has given nothing.
	other := row(1, "member", start, at(1, now-1))
	other.Programme, other.Currency = "b", "USD"
	must(t, db.WriteLoyaltyStatus(ctx, 1, []warehouse.LoyaltyStatus{one, two, three, outside, gone, other}))
	line := func(n int, programme, kind string, when int64) warehouse.LoyaltyMovement {
		return warehouse.LoyaltyMovement{CustomerID: id('s', n), Programme: programme, Seq: 1, At: when, Kind: kind, Version: at(1, now)}
	}
	must(t, db.WriteLoyaltyLedger(ctx, 1, []warehouse.LoyaltyMovement{
		line(1, "a", "earned", now-365*day+1), line(2, "a", "redeemed", now-365*day), line(3, "a", "expired", now), line(4, "a", "redeemed", now),
		line(1, "b", "earned", now-400*day),
	}))
	same(t, "loyalty_programmes", text(t, db, "SELECT toString(tuple(*)) FROM loyalty_programmes ORDER BY programme"),
		`('a',3,1,120,0.025,3,'EUR',7,400,257,30,0.6425,0.075)`,
		`('b',1,0,0,0.01,0,'USD',0,0,0,0,NULL,NULL)`)
	same(t, "loyalty_tiers", text(t, db, "SELECT toString(tuple(*)) FROM loyalty_tiers ORDER BY programme, tier"),
		`('a','gold',2,1)`, `('a','member',1,0)`, `('b','member',1,0)`)
}

func TestSatisfactionFigures(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db := opened(t)
	var rows []warehouse.Feedback
	add := func(kind string, good, bad bool, change func(*warehouse.Feedback)) {
		n := len(rows) + 1
		// One customer gave them all: every answer counts.
		f := warehouse.Feedback{
			EventID: id('e', n), SubjectID: id('s', 1), Subject: "user:1", OccurredAt: start + int64(n), Position: uint64(n), Act: "survey_answered",
			Kind: kind, Channel: "email", Score: 10_000, HasScore: true, ScaleLow: 1, ScaleHigh: 7, Good: good, Bad: bad,
		}
		if change != nil {
			change(&f)
		}
		rows = append(rows, f)
	}
	ease := func(n uint8) func(*warehouse.Feedback) { return func(f *warehouse.Feedback) { f.Ease = n } }
	add("nps", true, false, nil)
	add("nps", true, false, nil)
	add("nps", false, false, nil)
	add("nps", false, true, nil)
	add("csat", true, false, nil)
	add("csat", false, false, nil)
	add("ces", true, false, ease(7))
	add("ces", false, false, ease(2))
	add("ces", false, false, ease(3))
	add("ces", true, false, ease(6))
	add("custom", true, false, nil)
	add("nps", true, false, func(f *warehouse.Feedback) { f.Flag = "out_of_scale" })
	add("nps", true, false, func(f *warehouse.Feedback) { f.HasScore = false })
	add("nps", false, true, func(f *warehouse.Feedback) { f.Channel = "store" })
	add("csat", true, false, func(f *warehouse.Feedback) { f.OccurredAt += 20 * day })
	must(t, db.WriteFeedback(ctx, 1, rows))
	same(t, "satisfaction_monthly", text(t, db, "SELECT toString(tuple(*)) FROM satisfaction_monthly ORDER BY month, channel"),
		`('2023-11-01','email',4,25,2,50,4,4.5,50)`,
		`('2023-11-01','store',1,-100,0,NULL,0,NULL,NULL)`,
		`('2023-12-01','email',0,NULL,1,100,0,NULL,NULL)`)
}

func TestFeedbackTopics(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db := opened(t)
	comment := func(n int, priority string, topics ...string) warehouse.Feedback {
		a := answer(n)
		a.Priority, a.Topics = priority, topics
		return a
	}
	silent := comment(5, "high", "delivery")
	silent.Comment = ""
	monday := comment(6, "low", "price")
	monday.OccurredAt = time.Date(2023, 11, 20, 0, 0, 0, 0, time.UTC).UnixMilli()
	must(t, db.WriteFeedback(ctx, 1, []warehouse.Feedback{
		comment(1, "high", "delivery", "price"), comment(2, "low", "delivery"), comment(3, "high"), comment(4, "medium", "delivery"), silent, monday,
	}))
	// A person has sorted the fourth anew.
	must(t, db.WriteHandlings(ctx, 1, []warehouse.Handling{{EventID: id('e', 4), Revision: 1, Status: "open", Sorted: true, Topics: []string{"price"}, Priority: "high"}}))
	same(t, "feedback_topics", text(t, db, "SELECT toString(tuple(*)) FROM feedback_topics ORDER BY week, topic"),
		`('2023-11-13','',1,1)`, `('2023-11-13','delivery',2,0.5)`, `('2023-11-13','price',2,1)`, `('2023-11-20','price',1,0)`)
	moves := documented(t, "feedback_topics")["feedback_topics"][0]
	same(t, "how the topics move", text(t, db, "SELECT concat(toString(week), ' ', topic, ' ', toString(change)) FROM ("+moves+") WHERE 1 ORDER BY week, topic"),
		"2023-11-13  1", "2023-11-13 delivery 2", "2023-11-13 price 2", "2023-11-20 price -1")
}

// The documented times to resolve are the nearest ranks of what is resolved.
func TestTimesToResolve(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db := opened(t)
	var rows []warehouse.Case
	for n := range 12 {
		c := ticket(1, uint32(n+1), warehouse.Version{Position: 5})
		c.Resolution = warehouse.Timing{Done: true, At: start + 1, Took: int64(n+1) * 3_600_000, Target: 1, Verdict: "met"}
		switch n {
		case 9:
			c.Resolution.Verdict = "breached"
		case 10: // not yet due
			c.Resolution.Done, c.Resolution.Verdict = false, "pending"
		case 11: // late
			c.Resolution.Done, c.Resolution.Verdict = false, "breached"
		}
		rows = append(rows, c)
	}
	must(t, db.WriteCases(ctx, 1, rows))
	stmt := documented(t, "cases")["cases"][0]
	same(t, "times", text(t, db, "SELECT concat(kind, ' ', toString(opened), ' ', toString(resolved), ' ', toString(p50), ' ', toString(p90), ' ', toString(round(within, 2))) FROM ("+stmt+") WHERE 1"),
		"ticket 12 10 5 9 0.82")
}

// A customer's feedback and that of a period are found by the table's key.
func TestFeedbackIsFoundByItsKey(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db := opened(t)
	if db.Clustered() {
		t.Skip("on a cluster the plan is that of its nodes: run it without SOJOURN_TEST_CLICKHOUSE_CLUSTER")
	}
	rows := make([]warehouse.Feedback, 100_000)
	for n := range rows {
		rows[n] = answer(n % 20_000)
		rows[n].EventID, rows[n].OccurredAt = id('e', n), start+int64(n)*90_000
	}
	must(t, db.WriteFeedback(ctx, 1, rows))
	for _, where := range []string{"subject IN ('user:17')", "occurred_at >= '2024-02-03' AND occurred_at < '2024-02-05'"} {
		plan := strings.Join(text(t, db, "EXPLAIN indexes = 1 SELECT * FROM feedback WHERE "+where), "\n")
		_, plan, _ = strings.Cut(plan, "ReadFromMergeTree ("+db.Database()+".feedback_g1)")
		_, granules, _ := strings.Cut(plan, "Condition: ")
		_, granules, found := strings.Cut(granules, "Granules: ")
		var read, all int
		if _, err := fmt.Sscanf(granules, "%d/%d", &read, &all); err != nil || !found || read*2 > all {
			t.Errorf("%s: reads %d of %d granules (%v):\n%s", where, read, all, err, plan)
		}
	}
}

// documented are the statements of some sections of docs/tables.md, by section.
func documented(t *testing.T, sections ...string) map[string][]string {
	t.Helper()
	page, err := os.ReadFile("../docs/tables.md")
	must(t, err)
	all := map[string][]string{}
	for section := range strings.SplitSeq(string(page), "\n## ") {
		title, body, _ := strings.Cut(section, "\n")
		if !slices.Contains(sections, title) {
			continue
		}
		for i, part := range strings.Split(body, "```") {
			if code, is := strings.CutPrefix(part, "sql\n"); is && i%2 == 1 {
				for stmt := range strings.SplitSeq(code, ";\n") {
					if strings.TrimSpace(stmt) != "" {
						all[title] = append(all[title], stmt)
					}
				}
			}
		}
	}
	for _, title := range sections {
		if len(all[title]) == 0 {
			t.Fatalf("docs/tables.md has no statement in its section %s", title)
		}
	}
	return all
}

// The documented examples find something at the public port in a shop that has all
// kinds of rows.
func TestDocumentedExamples(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	engine := chdbtest.Start(t, func(c *chdb.Config) { c.Listen = "127.0.0.1:0" })
	db := warehousetest.OpenSocket(t, engine.Socket())
	fill(t, db, 1, warehouse.Version{Position: 5, Clock: start})
	must(t, db.Activate(ctx, 1))
	args := url.Values{"param_customer": {id('s', 1).String()}, "param_programme": {"a"}}
	for section, stmts := range documented(t, "loyalty_status", "loyalty_ledger", "tier_transitions", "loyalty_programmes and loyalty_tiers",
		"satisfaction", "satisfaction_transitions", "cases", "surveys", "feedback", "satisfaction_monthly", "feedback_topics") {
		for _, stmt := range stmts {
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+engine.PublicAddr()+"/?"+args.Encode(), strings.NewReader(stmt))
			must(t, err)
			answer, err := http.DefaultClient.Do(req)
			must(t, err)
			body, err := io.ReadAll(answer.Body)
			_ = answer.Body.Close()
			if err != nil || answer.StatusCode != http.StatusOK || len(body) == 0 {
				t.Errorf("%s: %d %s (%v):\n%s", section, answer.StatusCode, body, err, stmt)
			}
			t.Logf("%s\n%s", stmt, body)
		}
	}
}

// The documented way to the stage and the tier at the moment of an answer.
func TestStandingAtAnswer(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db := opened(t)
	var stmt string
	for _, s := range documented(t, "feedback")["feedback"] {
		if strings.Contains(s, "ASOF") {
			stmt = s
		}
	}
	if stmt == "" {
		t.Fatal("docs/tables.md has no ASOF JOIN in its section feedback")
	}
	v := warehouse.Version{Position: 5, Clock: start}
	said := func(n int, who uuid.UUID, when int64) warehouse.Feedback {
		a := answer(n)
		a.SubjectID, a.OccurredAt = who, start+when
		return a
	}
	who := id('s', 1)
	must(t, db.WriteFeedback(ctx, 1, []warehouse.Feedback{
		said(1, who, 9), said(2, who, 10), said(3, who, 19), said(4, id('s', 2), 20), said(5, id('s', 3), 20),
	}))
	must(t, db.WriteSubjects(ctx, 1, []warehouse.Subject{{SubjectID: id('s', 2), Subject: "user:2", CustomerID: who, Version: v}}))
	must(t, db.ReloadMoved(ctx, 1))
	stage := func(seq uint32, to string, when int64) warehouse.Transition {
		return warehouse.Transition{CustomerID: who, Seq: seq, To: to, At: start + when, Version: v}
	}
	tier := func(programme string, seq uint32, to string, when int64) warehouse.TierChange {
		return warehouse.TierChange{CustomerID: who, Programme: programme, Seq: seq, To: to, At: start + when, Version: v}
	}
	// Several changes at one instant: the last of them counts.
	must(t, db.WriteTransitions(ctx, 1, []warehouse.Transition{stage(1, "visitor", 10), stage(2, "lead", 10), stage(3, "first_purchase", 10), stage(4, "repeat", 20)}))
	must(t, db.WriteTierTransitions(ctx, 1, []warehouse.TierChange{
		tier("a", 1, "member", 10), tier("a", 2, "silver", 10), tier("a", 3, "gold", 20), tier("b", 1, "blue", 0),
	}))
	rows, err := db.Query(ctx, "SELECT concat(toString(toUnixTimestamp64Milli(occurred_at)), ' ', stage, ' ', tier) FROM ("+stmt+") WHERE 1 ORDER BY occurred_at, stage", warehouse.Named("programme", "a"))
	must(t, err)
	defer func() { _ = rows.Close() }()
	var got []string
	for rows.Next() {
		var s string
		must(t, rows.Scan(&s))
		got = append(got, s)
	}
	must(t, rows.Err())
	at := func(n int64, rest string) string { return fmt.Sprint(start+n) + rest }
	same(t, "standing", got, at(9, "  "), at(10, " first_purchase silver"), at(19, " first_purchase silver"), at(20, "  "), at(20, " repeat gold"))
}
