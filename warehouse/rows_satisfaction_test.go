package warehouse_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/google/uuid"

	"sojourn/warehouse"
)

func satisfied(n int, v warehouse.Version) warehouse.Satisfaction {
	return warehouse.Satisfaction{
		CustomerID: id('s', n), Status: "satisfied", Since: start, Known: true, Index: 70.5, Uncapped: 80.25, UnknownFrom: start + 1, Signals: 3,
		NPS:     warehouse.Measure{Count: 2, Score: 90_000, At: start + 2, Change: -10, HasChange: true},
		CSAT:    warehouse.Measure{Count: 1, Score: 40_000, At: start + 3, Change: 7},
		Review:  warehouse.Measure{Count: 1, Score: 45_000, At: start + 4, HasChange: true},
		CES:     warehouse.Measure{Score: 50_000, At: start, Change: 1, HasChange: true},
		Flagged: 4, OpenComplaints: 5, OpenTickets: 6, Version: v,
	}
}

func statusChange(n int, seq uint32, v warehouse.Version) warehouse.StatusChange {
	return warehouse.StatusChange{
		CustomerID: id('s', n), Seq: seq, From: "unknown", To: "satisfied", At: start, Index: 70.5,
		Reason: "NPS 9", Cause: "touchpoint:x", PolicyVersion: 2, Version: v,
	}
}

func ticket(n int, seq uint32, v warehouse.Version) warehouse.Case {
	return warehouse.Case{
		CustomerID: id('s', n), Seq: seq, Kind: "ticket", ID: "t'1", Opened: start, Event: id('e', 1), Open: true, Escalated: true, Reopened: 2, Priority: "high",
		Response:   warehouse.Timing{Done: true, At: start + 1, Took: 0, Target: 3_600_000, Due: start + 3_600_000, Verdict: "met"},
		Resolution: warehouse.Timing{At: start, Took: 77, Verdict: "pending"},
		Version:    v,
	}
}

func survey(n int, seq uint32, v warehouse.Version) warehouse.Survey {
	return warehouse.Survey{
		CustomerID: id('s', n), Seq: seq, Event: id('e', 1), SentAt: start, Kind: "nps", Survey: "s'1", Campaign: "spring", Channel: "email", Source: "crm",
		Answer: id('e', 2), AnsweredAt: start + 1, Version: v,
	}
}

func TestSatisfactionRoundTrip(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db := opened(t)
	v := warehouse.Version{Position: 5, Clock: start}
	a, b := id('s', 1).String(), id('s', 2).String()
	const tail = `,5,'2023-11-14 22:13:20.000')`
	rows := func(table, order string) []string {
		return text(t, db, "SELECT toString(tuple(*)) FROM "+table+" ORDER BY "+order)
	}

	unknown := warehouse.Satisfaction{CustomerID: id('s', 2), Status: "unknown", Index: 9, Uncapped: 9, Version: v}
	must(t, db.WriteSatisfaction(ctx, 1, []warehouse.Satisfaction{satisfied(1, v), unknown}))
	same(t, "satisfaction", rows("satisfaction", "status"),
		`('`+a+`','satisfied','2023-11-14 22:13:20.000',70.5,80.25,'2023-11-14 22:13:20.001',3,`+
			`2,9,'2023-11-14 22:13:20.002',-10,1,4,'2023-11-14 22:13:20.003',NULL,0,NULL,NULL,NULL,1,4.5,'2023-11-14 22:13:20.004',0,4,5,6`+tail,
		`('`+b+`','unknown',NULL,NULL,NULL,NULL,0,0,NULL,NULL,NULL,0,NULL,NULL,NULL,0,NULL,NULL,NULL,0,NULL,NULL,NULL,0,0,0`+tail)

	lost := warehouse.StatusChange{CustomerID: id('s', 1), Seq: 2, From: "satisfied", To: "unknown", At: start + 1, Index: 9, Version: v}
	must(t, db.WriteStatusTransitions(ctx, 1, []warehouse.StatusChange{statusChange(1, 1, v), lost}))
	same(t, "satisfaction_transitions", rows("satisfaction_transitions", "seq"),
		`('`+a+`',1,'unknown','satisfied','2023-11-14 22:13:20.000',70.5,'NPS 9','touchpoint:x',2`+tail,
		`('`+a+`',2,'satisfied','unknown','2023-11-14 22:13:20.001',NULL,'','',0`+tail)

	unseen := warehouse.Case{CustomerID: id('s', 1), Seq: 2, Kind: "call", Version: v}
	must(t, db.WriteCases(ctx, 1, []warehouse.Case{ticket(1, 1, v), unseen}))
	same(t, "cases", rows("cases", "seq"),
		`('`+a+`',1,'ticket','t\'1','2023-11-14 22:13:20.000','`+id('e', 1).String()+`',true,true,2,'high',`+
			`'2023-11-14 22:13:20.001',0,3600000,'2023-11-14 23:13:20.000','met',NULL,NULL,NULL,NULL,'pending'`+tail,
		`('`+a+`',2,'call','',NULL,NULL,false,false,0,'',NULL,NULL,NULL,NULL,'',NULL,NULL,NULL,NULL,''`+tail)

	silent := warehouse.Survey{CustomerID: id('s', 1), Seq: 2, Event: id('e', 3), SentAt: start, Version: v}
	must(t, db.WriteSurveys(ctx, 1, []warehouse.Survey{survey(1, 1, v), silent}))
	same(t, "surveys", rows("surveys", "seq"),
		`('`+a+`',1,'`+id('e', 1).String()+`','2023-11-14 22:13:20.000','nps','s\'1','spring','email','crm','`+id('e', 2).String()+`','2023-11-14 22:13:20.001'`+tail,
		`('`+a+`',2,'`+id('e', 3).String()+`','2023-11-14 22:13:20.000','','','','','',NULL,NULL`+tail)
}

func TestSatisfactionRowsReplaceThemselves(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db := opened(t)
	at := func(position uint64) warehouse.Version { return warehouse.Version{Position: position} }
	for i, step := range []struct {
		version warehouse.Version
		word    string
		removed bool
		want    []string // of the customer's line 1
	}{
		{at(5), "first", false, []string{"first"}},
		{at(5), "again", false, []string{"again"}},
		{warehouse.Version{Position: 4, Clock: start}, "older", false, []string{"again"}},
		{warehouse.Version{Position: 5, Clock: 1}, "later", false, []string{"later"}},
		{at(6), "", true, nil},
		{at(7), "back", false, []string{"back"}},
	} {
		s, c, k, u := satisfied(1, step.version), statusChange(1, 1, step.version), ticket(1, 1, step.version), survey(1, 1, step.version)
		s.Status, c.To, k.Priority, u.Campaign = step.word, step.word, step.word, step.word
		s.Removed, c.Removed, k.Removed, u.Removed = step.removed, step.removed, step.removed, step.removed
		must(t, db.WriteSatisfaction(ctx, 1, []warehouse.Satisfaction{s, satisfied(2, at(1))}))
		must(t, db.WriteStatusTransitions(ctx, 1, []warehouse.StatusChange{c, statusChange(1, 2, at(1)), statusChange(2, 1, at(1))}))
		must(t, db.WriteCases(ctx, 1, []warehouse.Case{k, ticket(1, 2, at(1)), ticket(2, 1, at(1))}))
		must(t, db.WriteSurveys(ctx, 1, []warehouse.Survey{u, survey(1, 2, at(1)), survey(2, 1, at(1))}))
		gone := uint64(0)
		if step.removed {
			gone = 1
		}
		for table, q := range map[string]struct {
			column, only string
			rows         uint64
		}{
			"satisfaction":             {"status", "", 2},
			"satisfaction_transitions": {"to_status", " AND seq = 1", 3},
			"cases":                    {"priority", " AND seq = 1", 3},
			"surveys":                  {"campaign", " AND seq = 1", 3},
		} {
			got := text(t, db, "SELECT toString("+q.column+") FROM "+table+" WHERE customer_id = {c:UUID}"+q.only, warehouse.Named("c", id('s', 1)))
			if !slices.Equal(got, step.want) {
				t.Errorf("step %d: %s has %v, want %v", i, table, got, step.want)
			}
			if n := value[uint64](t, db, "SELECT count() FROM "+table); n != q.rows-gone {
				t.Errorf("step %d: %s has %d rows, want %d", i, table, n, q.rows-gone)
			}
		}
	}
}

// answer is entry n of feedback, of subject n: an NPS score with a comment.
func answer(n int) warehouse.Feedback {
	return warehouse.Feedback{
		EventID: id('e', n), SubjectID: id('s', n), Subject: fmt.Sprintf("user:%d", n), OccurredAt: start + int64(n), Position: uint64(n),
		Act: "survey_answered", Kind: "nps", Channel: "survey", Source: "crm",
		Score: 90_000, HasScore: true, ScaleHigh: 10, Points: 90, Good: true,
		Question: "Why'?", Comment: "送货很慢", Survey: "s1", Campaign: "spring", Topics: []string{"delivery", "it's"}, Need: "functional", Priority: "high",
	}
}

func TestFeedbackRoundTrip(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db := opened(t)
	opening := warehouse.Feedback{EventID: id('e', 2), SubjectID: id('s', 2), Subject: "user:2", OccurredAt: start + 2, Position: 1 << 63, Act: "ticket_opened", Case: "t1"}
	// A custom score without a scale counts for no points, nor does a flagged one.
	custom := warehouse.Feedback{EventID: id('e', 3), SubjectID: id('s', 3), OccurredAt: start + 3, Act: "survey_answered", Kind: "custom", Score: -5, HasScore: true}
	flagged := warehouse.Feedback{
		EventID: id('e', 4), SubjectID: id('s', 4), OccurredAt: -1, Act: "survey_answered", Kind: "ces",
		Score: 80_000, HasScore: true, ScaleLow: 1, ScaleHigh: 7, Flag: "out_of_scale", Points: 50, Product: "p1",
	}
	easy := flagged
	easy.EventID, easy.Flag, easy.Score, easy.Points, easy.Ease = id('e', 5), "", 70_000, 100, 7
	must(t, db.WriteFeedback(ctx, 1, []warehouse.Feedback{answer(1), opening, custom, flagged, easy}))
	row := func(n int, rest string) string {
		return `('` + id('e', n).String() + `','` + id('s', min(n, 4)).String() + `',` + rest + `)`
	}
	const unhandled = `,'','',NULL`
	want := []string{
		row(1, `'user:1','2023-11-14 22:13:20.001',1,'survey_answered','nps','survey','crm',9,0,10,'',90,true,false,NULL,'Why\'?','送货很慢','s1','spring','','','open','',false,['delivery','it\'s'],'functional','high'`+unhandled),
		row(2, `'user:2','2023-11-14 22:13:20.002',9223372036854775808,'ticket_opened','','','',NULL,0,0,'',NULL,false,false,NULL,'','','','','t1','','open','',false,[],'',''`+unhandled),
		row(3, `'','2023-11-14 22:13:20.003',0,'survey_answered','custom','','',-0.0005,0,0,'',NULL,false,false,NULL,'','','','','','','','',false,[],'',''`+unhandled),
		row(4, `'','1969-12-31 23:59:59.999',0,'survey_answered','ces','','',8,1,7,'out_of_scale',NULL,false,false,NULL,'','','','','','p1','','',false,[],'',''`+unhandled),
		row(5, `'','1969-12-31 23:59:59.999',0,'survey_answered','ces','','',7,1,7,'',100,false,false,7,'','','','','','p1','','',false,[],'',''`+unhandled),
	}
	const all = "SELECT toString(tuple(*)) FROM feedback ORDER BY occurred_at < '1970-01-01', occurred_at, score DESC"
	same(t, "feedback", text(t, db, all), want...)
	// Whatever a reader's settings, the entries without a handling read the same.
	same(t, "feedback with NULLs", text(t, db, all+" SETTINGS join_use_nulls = 1, prefer_column_name_to_alias = 1"), want...)
}

func TestFeedbackReplacesItself(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db := opened(t)
	one, again := answer(1), answer(1)
	again.Priority = "low"
	older := again
	older.Position, older.Priority = 0, "medium"
	must(t, db.WriteFeedback(ctx, 1, []warehouse.Feedback{one, answer(2)}))
	must(t, db.WriteFeedback(ctx, 1, []warehouse.Feedback{again}))
	must(t, db.WriteFeedback(ctx, 1, []warehouse.Feedback{older}))
	same(t, "feedback", text(t, db, "SELECT concat(subject, ' ', priority) FROM feedback ORDER BY subject"), "user:1 low", "user:2 high")
}

func TestFeedbackFollowsItsSubject(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db := opened(t)
	must(t, db.WriteFeedback(ctx, 1, []warehouse.Feedback{answer(1), answer(2), answer(3), answer(4)}))
	v := warehouse.Version{Position: 5}
	must(t, db.WriteSubjects(ctx, 1, []warehouse.Subject{
		{SubjectID: id('s', 2), Subject: "user:2", CustomerID: id('s', 1), Version: v},
		{SubjectID: id('s', 3), Subject: "user:3", CustomerID: warehouse.Nobody, Version: v},
	}))
	must(t, db.ReloadMoved(ctx, 1))
	for _, c := range []struct {
		customer uuid.UUID
		want     []string
	}{
		{id('s', 1), []string{"user:1", "user:2"}}, {id('s', 2), nil}, {warehouse.Nobody, []string{"user:3"}}, {id('s', 4), []string{"user:4"}},
	} {
		got := text(t, db, "SELECT subject FROM feedback WHERE customer_id = {c:UUID} ORDER BY subject", warehouse.Named("c", c.customer))
		same(t, "feedback of "+c.customer.String(), got, c.want...)
	}
}

func TestFeedbackHandling(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db := opened(t)
	must(t, db.WriteFeedback(ctx, 1, []warehouse.Feedback{answer(1), answer(2)}))
	const query = "SELECT concat(status, ' ', assignee, ' ', toString(sorted), ' ', toString(topics), ' ', need, ' ', priority, ' ', answer, ' ', handled_by, ' ', toString(ifNull(toUnixTimestamp64Milli(handled_at), 0))) FROM feedback WHERE event_id = {e:UUID}"
	read := func(n int) []string { return text(t, db, query, warehouse.Named("e", id('e', n))) }
	h := func(revision uint64, status string) warehouse.Handling {
		return warehouse.Handling{EventID: id('e', 1), Revision: revision, Status: status, Assignee: "ben", Author: "ada", At: start}
	}
	const sorted = `['delivery','it\'s'] functional high`
	same(t, "untouched", read(1), "open  false "+sorted+"   0")
	must(t, db.WriteHandlings(ctx, 1, []warehouse.Handling{h(1, "assigned")}))
	same(t, "assigned", read(1), fmt.Sprintf("assigned ben false %s  ada %d", sorted, start))
	closed := h(3, "closed")
	closed.Sorted, closed.Topics, closed.Need, closed.Priority, closed.Answer = true, []string{"price"}, "emotional", "low", "Sorry!"
	// Revisions may be written in any order, and twice.
	must(t, db.WriteHandlings(ctx, 1, []warehouse.Handling{closed, h(2, "open"), closed}))
	must(t, db.WriteHandlings(ctx, 1, []warehouse.Handling{h(2, "open")}))
	want := fmt.Sprintf("closed ben true ['price'] emotional low Sorry! ada %d", start)
	same(t, "closed", read(1), want)
	// A person may say that it is about nothing.
	nothing := h(4, "closed")
	nothing.Sorted = true
	must(t, db.WriteHandlings(ctx, 1, []warehouse.Handling{nothing}))
	same(t, "about nothing", read(1), fmt.Sprintf("closed ben true []    ada %d", start))
	same(t, "another entry", read(2), "open  false "+sorted+"   0")
	if n := value[uint64](t, db, "SELECT count() FROM feedback"); n != 2 {
		t.Errorf("%d entries, want 2", n)
	}
}
