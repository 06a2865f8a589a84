package projections

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/google/uuid"

	"sojourn/domain"
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
	said        []string

	claimed atomic.Int64 // rows, by organisations
	twice   []string
}

func (w *town) readTables(ctx context.Context) (*townTables, error) {
	tt := &townTables{
		touchpoints: map[uuid.UUID]uuid.UUID{}, subjects: map[uuid.UUID]uuid.UUID{}, customers: map[uuid.UUID]string{},
		transitions: map[uuid.UUID][]string{}, conflicts: map[uuid.UUID][]string{},
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

// rest complains of rows that no organisation has claimed.
func (tt *townTables) rest() error {
	if len(tt.twice) > 0 {
		return &failure{what: "stands twice: " + strings.Join(tt.twice, ", ")}
	}
	if got, want := int(tt.claimed.Load()), len(tt.touchpoints)+len(tt.subjects)+len(tt.customers)+len(tt.transitions)+len(tt.conflicts); got != want {
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
		if got, want := keys(standing(&t, w.log)), slices.Sorted(slices.Values(tt.said)); !slices.Equal(got, want) {
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
