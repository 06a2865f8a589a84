package projections

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/google/uuid"

	"sojourn/domain"
	"sojourn/domain/loyalty"
	"sojourn/domain/policy"
	"sojourn/domain/satisfaction"
	naive "sojourn/internal/oracle"
	"sojourn/warehouse"
)

// townTables is what the tables hold.
type townTables struct {
	touchpoints map[uuid.UUID]uuid.UUID // customer by event
	subjects    map[uuid.UUID]uuid.UUID // customer by subject
	customers   map[uuid.UUID]string
	transitions map[uuid.UUID][]string
	conflicts   map[uuid.UUID][]string // by event
	lines       map[uuid.UUID][]string // points and satisfaction by customer
	said        []string

	claimed atomic.Int64 // rows, by organisations
	twice   []string
}

func (w *town) readTables(ctx context.Context) (*townTables, error) {
	tt := &townTables{
		touchpoints: map[uuid.UUID]uuid.UUID{}, subjects: map[uuid.UUID]uuid.UUID{}, customers: map[uuid.UUID]string{},
		transitions: map[uuid.UUID][]string{}, conflicts: map[uuid.UUID][]string{},
		lines: map[uuid.UUID][]string{},
	}
	var a, b uuid.UUID
	var s [8]string
	var n [8]int64
	for _, q := range []struct {
		query string
		into  []any
		take  func()
	}{
		{"SELECT event_id, customer_id FROM touchpoints", []any{&a, &b}, func() {
			if _, ok := tt.touchpoints[a]; ok {
				tt.twice = append(tt.twice, "touchpoint "+a.String())
			}
			tt.touchpoints[a] = b
		}},
		{"SELECT subject_id, customer_id FROM subjects", []any{&a, &b}, func() { tt.subjects[a] = b }},
		{
			`SELECT customer_id, toString(stage), toUnixTimestamp64Milli(stage_since), toUnixTimestamp64Milli(first_seen), toUnixTimestamp64Milli(last_seen),
			toInt64(purchases), toInt64(refunds), toString(mapSort(revenue)), traits, arrayStringConcat(arraySort(user_ids), ' ') FROM customers`,
			[]any{&a, &s[0], &n[0], &n[1], &n[2], &n[3], &n[4], &s[1], &s[2], &s[3]},
			func() {
				tt.customers[a] = fmt.Sprint(s[0], " since ", domain.Millis(n[0]), ", seen ", domain.Millis(n[1]), " to ", domain.Millis(n[2]), ", ", n[3], " purchases, ", n[4], " refunds, ", s[1], ", ", s[2], ", ", s[3])
			},
		},
		{
			"SELECT customer_id, toInt64(seq), toString(from_stage), toString(to_stage), toUnixTimestamp64Milli(at), cause, reason FROM stage_transitions ORDER BY customer_id, seq",
			[]any{&a, &n[0], &s[0], &s[1], &n[1], &s[2], &s[3]},
			func() {
				tt.transitions[a] = append(tt.transitions[a], fmt.Sprint(n[0], " ", domain.Millis(n[1]), " ", s[0], "→", s[1], " ", s[2]))
				tt.said = append(tt.said, fmt.Sprintf("%s %s→%s@%s %s %s", a, s[0], s[1], domain.Millis(n[1]), s[3], s[2]))
			},
		},
		{"SELECT event_id, subject, other, toString(status), subject_id, other_id FROM identity_conflicts", []any{&a, &s[0], &s[1], &s[2], &b, &b}, func() {
			tt.conflicts[a] = append(tt.conflicts[a], s[0]+" "+s[1]+" "+s[2])
		}},
		{
			`SELECT customer_id, programme, tier, toString(tier_total), available, pending, debt, earned, reversed, expired FROM loyalty_status`,
			[]any{&a, &s[0], &s[1], &s[2], &n[0], &n[1], &n[2], &n[3], &n[4], &n[5]},
			func() {
				tt.lines[a] = append(tt.lines[a], fmt.Sprintf("status %s: %s by %s, %d, %d pending, %d owed, of %d, less %d and %d", s[0], s[1], s[2], n[0], n[1], n[2], n[3], n[4], n[5]))
			},
		},
		{
			`SELECT customer_id, programme, toInt64(seq), toUnixTimestamp64Milli(at), kind, points, balance_available, balance_pending, order_id, cause, note FROM loyalty_ledger`,
			[]any{&a, &s[0], &n[0], &n[1], &s[1], &n[2], &n[3], &n[4], &s[2], &s[3], &s[4]},
			func() {
				tt.lines[a] = append(tt.lines[a], fmt.Sprintf("ledger %s %d: %s %s %d, then %d and %d, %s, %s, %s", s[0], n[0], domain.Millis(n[1]), s[1], n[2], n[3], n[4], s[2], s[3], s[4]))
			},
		},
		{
			`SELECT customer_id, programme, from_tier, to_tier, toUnixTimestamp64Milli(at), ifNull(toUnixTimestamp64Milli(until), 0), reason, cause FROM tier_transitions`,
			[]any{&a, &s[0], &s[1], &s[2], &n[0], &n[1], &s[3], &s[4]},
			func() {
				st := tierStatement(a, s[0], s[1], s[2], domain.Millis(n[0]), domain.Millis(n[1]), s[3], s[4])
				tt.lines[a], tt.said = append(tt.lines[a], st), append(tt.said, st)
			},
		},
		{
			`SELECT customer_id, status, toInt64(signals), toInt64(flagged), toInt64(open_complaints), toInt64(open_tickets), toString(ifNull(satisfaction_index, -1)) FROM satisfaction`,
			[]any{&a, &s[0], &n[0], &n[1], &n[2], &n[3], &s[1]},
			func() {
				tt.lines[a] = append(tt.lines[a], fmt.Sprintf("satisfaction %s: %d signals, %d flagged, %d complaints, %d tickets, %s", s[0], n[0], n[1], n[2], n[3], s[1]))
			},
		},
		{
			`SELECT customer_id, from_status, to_status, toUnixTimestamp64Milli(at), toString(ifNull(satisfaction_index, -1)), reason, cause FROM satisfaction_transitions`,
			[]any{&a, &s[0], &s[1], &n[0], &s[2], &s[3], &s[4]},
			func() {
				st := statusStatement(a, s[0], s[1], domain.Millis(n[0]), s[2], s[3], s[4])
				tt.lines[a], tt.said = append(tt.lines[a], st), append(tt.said, st)
			},
		},
		{
			`SELECT customer_id, toInt64(seq), kind, case_id, toInt64(open), toInt64(reopened), resolution_verdict FROM cases`,
			[]any{&a, &n[0], &s[0], &s[1], &n[1], &n[2], &s[2]},
			func() {
				tt.lines[a] = append(tt.lines[a], fmt.Sprintf("case %d: %s %s, open %d, reopened %d, %s", n[0], s[0], s[1], n[1], n[2], s[2]))
			},
		},
	} {
		rows, err := w.db.Query(ctx, q.query)
		if err != nil {
			return nil, err
		}
		for rows.Next() {
			if err := rows.Scan(q.into...); err != nil {
				return nil, errors.Join(err, rows.Close())
			}
			q.take()
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			return nil, err
		}
	}
	return tt, nil
}

func tierStatement(customer uuid.UUID, programme, from, to string, at, until domain.Millis, reason, cause string) string {
	st := Statement{Customer: customer, Programme: programme, From: from, To: to, At: at.String(), Reason: reason, Cause: cause}
	if until != 0 {
		st.Until = until.String()
	}
	return st.key(aboutTier)
}

// statusStatement takes an index of -1 for none.
func statusStatement(customer uuid.UUID, from, to string, at domain.Millis, index, reason, cause string) string {
	st := Statement{Customer: customer, From: from, To: to, At: at.String(), Reason: reason, Cause: cause}
	if i, err := strconv.ParseFloat(index, 64); err == nil && i >= 0 {
		st.Index = &i
	}
	return st.key(aboutStatus)
}

// lines are the points and the satisfaction of some subjects, folded anew from the
// messages of the organisation.
func (c *checker) lines(id uuid.UUID, subjects []domain.Subject) (all []string) {
	rules := c.town.rules
	var points loyalty.Facts
	var opinions satisfaction.Facts
	for event, m := range c.o.sent {
		h := m.header()
		if !slices.Contains(subjects, h.Subject()) {
			continue
		}
		t := rules.touch(&h, loyalty.Ref{At: m.at, ID: event}, rules.compiled.Classify(h.Kind, h.Source, h.Name), m.data())
		points.See(t.Ref)
		if t.Loyalty != nil {
			points.Add(*t.Loyalty, rules.book)
		}
		if t.Satisfaction != nil {
			opinions.Add(satisfaction.Touch{Ref: t.Ref, Event: *t.Satisfaction})
		}
	}
	add := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	for _, p := range rules.book.Programmes() {
		l := loyalty.Fold(&points, p, c.now)
		t := l.Totals
		total := domain.Decimal(l.Tier.Total).String()
		if !l.Tier.Spend {
			total = fmt.Sprint(l.Tier.Total)
		}
		add("status %s: %s by %s, %d, %d pending, %d owed, of %d, less %d and %d", p.ID, l.Tier.Name, total, t.Available, t.Pending, t.Debt, t.Earned, t.Reversed, t.Expired)
		for i, m := range l.Movements {
			add("ledger %s %d: %s %s %d, then %d and %d, %s, %s, %s", p.ID, i+1, m.At, m.Kind, m.Points, m.Balance.Available, m.Balance.Pending, m.Order, m.Cause, m.Note)
		}
		for _, x := range l.Transitions {
			until := x.Until
			if until == policy.Never {
				until = 0
			}
			add("%s", tierStatement(id, p.ID, x.From, x.To, x.At, until, x.Reason, x.Cause.String()))
		}
	}
	if !opinions.Empty() {
		v, past, _ := opinions.View(c.now, rules.satisfaction)
		index := func(known bool, i float64) string {
			if !known {
				i = -1
			}
			return strconv.FormatFloat(i, 'f', -1, 64)
		}
		add("satisfaction %s: %d signals, %d flagged, %d complaints, %d tickets, %s", v.Status, v.Signals, v.Flagged, v.OpenComplaints, v.OpenTickets, index(v.Known, v.Index))
		for _, x := range past {
			add("%s", statusStatement(id, string(x.From), string(x.To), x.At, index(x.To != satisfaction.Unknown, x.Index), x.Reason, x.Cause.String()))
		}
		for i, k := range v.Cases {
			add("case %d: %s %s, open %d, reopened %d, %s", i+1, k.Kind, k.ID, flagByte(k.Open), k.Reopened, k.Resolution.Verdict)
		}
	}
	slices.Sort(all)
	return all
}

// rest complains of rows that no organisation has claimed.
func (tt *townTables) rest() error {
	if len(tt.twice) > 0 {
		return &failure{what: "stands twice: " + strings.Join(tt.twice, ", ")}
	}
	if got, want := int(tt.claimed.Load()), len(tt.touchpoints)+len(tt.subjects)+len(tt.customers)+len(tt.transitions)+len(tt.conflicts)+len(tt.lines); got != want {
		return &failure{what: fmt.Sprintf("%d rows of the tables are of organisations, of %d", got, want)}
	}
	return nil
}

// tables holds the rows of the organisation against the oracle.
func (c *checker) tables(tt *townTables) error {
	identity := c.o.log.Identity()
	answers := c.o.log.Customers(c.now)
	claim := func() { tt.claimed.Add(1) }
	bears := map[domain.Subject]uuid.UUID{} // the customer of a subject that has touchpoints
	hubs := map[domain.Subject]bool{}
	seen := map[uuid.UUID]bool{}
	for _, e := range c.o.log {
		if e.Touchpoint != nil && !seen[e.ID] {
			hubs[hubOf(e.Touchpoint)] = true
		}
		seen[e.ID] = true
	}
	for _, set := range identity.Customers {
		for _, s := range set {
			if hubs[set[0]] {
				bears[s] = ownID(set[0])
			} else {
				bears[s] = ownID(s)
			}
		}
	}
	clear(seen)
	for _, e := range c.o.log {
		if e.Touchpoint == nil || seen[e.ID] {
			continue
		}
		seen[e.ID] = true
		want, somebody := bears[hubOf(e.Touchpoint)]
		if !somebody {
			want = warehouse.Nobody
		}
		got, ok := tt.touchpoints[e.ID]
		if !ok || got != want {
			return c.o.failf("touchpoints: %s of %s is %s, want %s", e.ID, hubOf(e.Touchpoint), got, want)
		}
		claim()
	}
	for _, s := range c.subjects {
		got, ok := tt.subjects[ownID(s)]
		want, somebody := bears[s]
		if ok {
			claim()
		}
		if !somebody && s.Value == c.o.nobody() {
			if want = warehouse.Nobody; !hubs[s] {
				want = got // named only, and nobody
			}
		}
		if !somebody && s.Value != c.o.nobody() {
			want = ownID(s) // what an alias might have meant
		}
		if !ok {
			got = ownID(s)
			if !somebody && !hubs[s] {
				continue
			}
		}
		if got != want {
			return c.o.failf("subjects: %s is %s, want %s", s, got, want)
		}
	}
	for _, a := range answers {
		id := ownID(a.Subjects[0])
		var users, money []string
		for _, s := range a.Subjects {
			if s.Kind == domain.User {
				users = append(users, s.Value)
			}
		}
		for currency, amount := range a.Totals.Revenue {
			money = append(money, fmt.Sprintf("'%s':%s", currency, amount))
		}
		slices.Sort(money)
		want := fmt.Sprint(a.Stage, " since ", a.StageSince, ", seen ", a.FirstSeen, " to ", a.LastSeen, ", ", a.Totals.Purchases, " purchases, ", a.Totals.Refunds, " refunds, {", strings.Join(money, ","), "}, ", jsonObject(a.Traits), ", ", sortedWords(users))
		if got := tt.customers[id]; got != want {
			return c.o.failf("customers: %s\n got  %s\n want %s", id, got, want)
		}
		claim()
		var transitions []string
		for i, tr := range a.Transitions {
			transitions = append(transitions, fmt.Sprint(i+1, " ", tr.At, " ", tr.From, "→", tr.To, " ", tr.Cause))
		}
		got, lines := slices.Sorted(slices.Values(tt.lines[id])), c.lines(id, a.Subjects)
		if !slices.Equal(got, lines) {
			return c.o.failf("points and satisfaction: %s %v\n got  %s\n want %s", id, a.Subjects, strings.Join(got, "\n      "), strings.Join(lines, "\n      "))
		}
		claim()
		if got := tt.transitions[id]; !slices.Equal(got, transitions) {
			return c.o.failf("stage_transitions: %s %v\n got  %s\n want %s", id, a.Subjects, strings.Join(got, "\n      "), strings.Join(transitions, "\n      "))
		}
		claim()
	}
	for _, s := range c.subjects {
		id := ownID(s)
		if !slices.ContainsFunc(answers, func(a naive.Answer) bool { return ownID(a.Subjects[0]) == id }) && (tt.customers[id] != "" || tt.transitions[id] != nil) {
			return c.o.failf("customers: %s of %s is there: %s %s", id, s, tt.customers[id], tt.transitions[id])
		}
	}
	type pair struct {
		hub, other domain.Subject
		alias      bool
	}
	first := map[pair]bool{}
	conflicts := map[uuid.UUID][]string{}
	for _, j := range identity.Joins {
		p := pair{j.Hub, j.Other, j.Alias}
		if j.Outcome != naive.Conflict && j.Outcome != naive.KeptApart || first[p] {
			continue
		}
		first[p] = true
		conflicts[j.Event] = append(conflicts[j.Event], fmt.Sprint(j.Hub, " ", j.Other, " ", map[naive.Outcome]string{naive.Conflict: "open", naive.KeptApart: "kept_apart"}[j.Outcome]))
	}
	for id := range seen {
		slices.Sort(conflicts[id])
		got := slices.Sorted(slices.Values(tt.conflicts[id]))
		if !slices.Equal(got, conflicts[id]) {
			return c.o.failf("identity_conflicts: %s\n got  %q\n want %q", id, got, conflicts[id])
		}
		if got != nil {
			claim()
		}
	}
	return nil
}

// statements holds what was said and not withdrawn against the transitions.
func (w *town) statements(ctx context.Context, tt *townTables) error {
	var t failing
	func() {
		defer func() {
			if p := recover(); p != nil && p != any(&t) {
				panic(p)
			}
		}()
		if got, want := keys(allStanding(&t, w.log)), slices.Sorted(slices.Values(tt.said)); !slices.Equal(got, want) {
			for i := range max(len(got), len(want)) {
				if i >= len(got) || i >= len(want) || got[i] != want[i] {
					t.err = fmt.Errorf("statements: %d stand, want %d; the first that differs\n got  %s\n want %s", len(got), len(want), got[min(i, len(got)-1)], want[min(i, len(want)-1)])
					return
				}
			}
		}
	}()
	return cmp.Or(t.err, ctx.Err())
}
