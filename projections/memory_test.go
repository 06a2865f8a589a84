package projections

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"

	"sojourn/eventstore"
	"sojourn/warehouse"
)

// memory is a sink that keeps what ClickHouse would show.
type memory struct {
	touchpoints []warehouse.Touchpoint
	subjects    map[uuid.UUID]warehouse.Subject
	customers   map[uuid.UUID]warehouse.Customer
	transitions map[string]warehouse.Transition
	conflicts   map[string]warehouse.Conflict // by event and other
	accounts    map[uuid.UUID]warehouse.Account
	attached    map[string]warehouse.AccountMember // by account and subject
	memoryLines
	// fault is asked before (0) and after (1) a write.
	fault func(stage int) error
}

func newMemory() *memory {
	return &memory{
		subjects: map[uuid.UUID]warehouse.Subject{}, customers: map[uuid.UUID]warehouse.Customer{},
		transitions: map[string]warehouse.Transition{}, conflicts: map[string]warehouse.Conflict{},
		accounts: map[uuid.UUID]warehouse.Account{}, attached: map[string]warehouse.AccountMember{},
		memoryLines: newMemoryLines(),
	}
}

func (m *memory) WantsTouchpoints() bool { return true }

func (m *memory) Trim(_ context.Context, after eventstore.Position) error {
	m.touchpoints = slices.DeleteFunc(m.touchpoints, func(t warehouse.Touchpoint) bool { return t.Position > uint64(after) })
	return nil
}

func newer(a, b warehouse.Version) bool {
	return cmp.Or(cmp.Compare(a.Position, b.Position), cmp.Compare(a.Clock, b.Clock)) >= 0
}

func (m *memory) Write(_ context.Context, r *Rows) error {
	if m.fault != nil {
		if err := m.fault(0); err != nil {
			return err
		}
	}
	if r.Touchpoints != nil {
		for i := range r.Touchpoints.Len() {
			row := r.Touchpoints.Row(i)
			row.Subject = strings.Clone(row.Subject)
			m.touchpoints = append(m.touchpoints, row)
		}
	}
	for i := range r.Tables {
		if err := m.writeTables(&r.Tables[i]); err != nil {
			return err
		}
	}
	if m.fault != nil {
		return m.fault(1)
	}
	return nil
}

func (m *memory) writeTables(r *TableRows) error {
	for _, s := range r.Subjects {
		if old, ok := m.subjects[s.SubjectID]; !ok || newer(s.Version, old.Version) {
			m.subjects[s.SubjectID] = s
		}
	}
	for _, c := range r.Customers {
		if old, ok := m.customers[c.CustomerID]; !ok || newer(c.Version, old.Version) {
			m.customers[c.CustomerID] = c
		}
	}
	for _, t := range r.Transitions {
		key := fmt.Sprintf("%s/%06d", t.CustomerID, t.Seq)
		if old, ok := m.transitions[key]; !ok || newer(t.Version, old.Version) {
			m.transitions[key] = t
		}
	}
	for _, c := range r.Conflicts {
		key := fmt.Sprintf("%s %s", c.EventID, c.OtherID)
		if old, ok := m.conflicts[key]; !ok || newer(c.Version, old.Version) {
			m.conflicts[key] = c
		}
	}
	for _, a := range r.Accounts {
		if old, ok := m.accounts[a.AccountID]; !ok || newer(a.Version, old.Version) {
			m.accounts[a.AccountID] = a
		}
	}
	for _, a := range r.AccountMembers {
		key := fmt.Sprintf("%s %s", a.AccountID, a.SubjectID)
		if old, ok := m.attached[key]; !ok || newer(a.Version, old.Version) {
			m.attached[key] = a
		}
	}
	return m.write(r)
}

// contested are the conflicts of the table.
func (m *memory) contested() []string {
	all := []string{}
	for _, c := range m.conflicts {
		if !c.Removed {
			all = append(all, c.EventID.String()+" "+c.Other)
		}
	}
	slices.Sort(all)
	return all
}

// picture is what the views say, customer by customer, by their subjects.
type picture map[string]portrait

type portrait struct {
	Stage       string
	Since       int64
	First, Last int64
	Purchases   uint32
	Refunds     uint32
	Revenue     string
	Traits      string
	UserIDs     string
	Transitions string
	Touchpoints string
	portraitLines
}

// picture reads the tables as their views show them, and complains of rows that
// are there twice or belong to nobody.
func (m *memory) picture(t tb) picture {
	t.Helper()
	type collected struct {
		subjects, events []string
		transitions      []warehouse.Transition
	}
	of := map[uuid.UUID]*collected{}
	get := func(id uuid.UUID) *collected {
		if of[id] == nil {
			of[id] = &collected{}
		}
		return of[id]
	}
	events := map[uuid.UUID]bool{}
	for _, tp := range m.touchpoints {
		if events[tp.EventID] {
			t.Fatalf("touchpoint %s stands twice", tp.EventID)
		}
		events[tp.EventID] = true
		id := tp.SubjectID
		if s, ok := m.subjects[id]; ok {
			if id = s.CustomerID; id == warehouse.Nobody {
				continue // nobody's
			}
		}
		c := get(id)
		if !slices.Contains(c.subjects, tp.Subject) {
			c.subjects = append(c.subjects, tp.Subject)
		}
		c.events = append(c.events, tp.EventID.String())
	}
	for _, tr := range m.transitions {
		if !tr.Removed {
			c := get(tr.CustomerID)
			c.transitions = append(c.transitions, tr)
		}
	}
	p := picture{}
	m.pictureAccounts(p, func(id uuid.UUID) string {
		slices.Sort(get(id).subjects)
		return strings.Join(get(id).subjects, " ")
	})
	for id, row := range m.customers {
		if row.Removed {
			continue
		}
		c := get(id)
		slices.Sort(c.subjects)
		slices.Sort(c.events)
		slices.SortFunc(c.transitions, func(a, b warehouse.Transition) int { return cmp.Compare(a.Seq, b.Seq) })
		var trs []string
		for i, tr := range c.transitions {
			if int(tr.Seq) != i+1 {
				t.Fatalf("customer %s: transition %d has seq %d", id, i+1, tr.Seq)
			}
			trs = append(trs, fmt.Sprintf("%s→%s@%d %s %s", tr.From, tr.To, tr.At, tr.Reason, tr.Cause))
		}
		p[strings.Join(c.subjects, " ")] = portrait{
			row.Stage, row.StageSince, row.FirstSeen, row.LastSeen, row.Purchases, row.Refunds,
			fmt.Sprint(row.Revenue), string(row.Traits), fmt.Sprint(row.UserIDs),
			strings.Join(trs, "\n"), strings.Join(c.events, " "), m.lines(t, id),
		}
		delete(of, id)
	}
	for id := range m.portrayed() {
		if row, ok := m.customers[id]; !ok || row.Removed {
			t.Fatalf("customer %s has %+v and no row in customers", id, m.lines(t, id))
		}
	}
	for id, c := range of {
		t.Fatalf("customer %s has %v and no row in customers", id, *c)
	}
	return p
}
