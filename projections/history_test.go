package projections

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"sojourn/domain"
	"sojourn/domain/customer"
	"sojourn/domain/lifecycle"
	"sojourn/domain/policy"
	"sojourn/eventstore"
	"sojourn/eventstore/pebblestore"
	"sojourn/warehouse"
)

var testKeyer = domain.NewKeyer([]byte("0123456789abcdef0123456789abcdef"))

// sent is a touchpoint as a test writes it.
type sent struct {
	id               string // message id
	kind             domain.Kind
	name             string
	user, anon, prev string
	at               domain.Millis
	properties       string
	traits           string
	group            string // groupId of a group call
	// A decision about identity instead of a message.
	decision       string // "merge" or "split"
	these, andThem []domain.Subject
}

func (m sent) header() domain.Header {
	return domain.Header{
		Kind: m.kind, OccurredAt: m.at, ReceivedAt: m.at, Source: "test", MessageID: m.id,
		UserID: m.user, AnonymousID: m.anon, PreviousID: m.prev, Name: m.name,
	}
}

func (m sent) event() (string, eventstore.NewEvent) {
	if m.decision != "" {
		typ := domain.TypeIdentityMerged
		if m.decision == "split" {
			typ = domain.TypeIdentitySplit
		}
		data, _ := json.Marshal(decided{streams(m.these), streams(m.andThem), "why", "who"})
		return domain.StreamIdentity, eventstore.NewEvent{ID: domain.EventID("decisions", m.id), Type: typ, Data: data}
	}
	h := m.header()
	typ := domain.TypeTouchpoint
	if h.Kind == domain.Identify || h.Kind == domain.Alias {
		typ = domain.TypeJoin
	}
	return testKeyer.Stream(h.Subject()), eventstore.NewEvent{
		ID: domain.EventID("test", m.id), Type: typ, Metadata: h.Append(nil), Data: m.data(),
	}
}

func streams(all []domain.Subject) []string {
	out := []string{}
	for _, s := range all {
		out = append(out, testKeyer.Stream(s))
	}
	return out
}

func (m sent) data() []byte {
	properties, traits := m.properties, m.traits
	if properties == "" {
		properties = "{}"
	}
	if traits == "" {
		traits = "{}"
	}
	return fmt.Appendf(nil, `{"messageId":%q,"groupId":%q,"properties":%s,"traits":%s,"context":{"ip":"127.0.0.1"}}`, m.id, m.group, properties, traits)
}

// clock is a wall clock that a test sets.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) set(m domain.Millis) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = m.Time()
}

type tb interface {
	Fatalf(format string, args ...any)
	Helper()
}

func openStore(t tb, c *clock) *pebblestore.Store {
	t.Helper()
	s, err := pebblestore.Open("log", pebblestore.Options{FS: vfs.NewMem(), Now: c.now, CacheBytes: 1 << 20, MemTableBytes: 1 << 20})
	if err != nil {
		t.Fatalf("open the store: %v", err)
	}
	return s
}

// memory is a sink that keeps what ClickHouse would show.
type memory struct {
	touchpoints []warehouse.Touchpoint
	subjects    map[uuid.UUID]warehouse.Subject
	customers   map[uuid.UUID]warehouse.Customer
	transitions map[string]warehouse.Transition
	conflicts   map[string]warehouse.Conflict // by event and other
	accounts    map[uuid.UUID]warehouse.Account
	attached    map[string]warehouse.AccountMember // by account and subject
	// fault is asked before (0) and after (1) a write.
	fault func(stage int) error
}

func newMemory() *memory {
	return &memory{
		subjects: map[uuid.UUID]warehouse.Subject{}, customers: map[uuid.UUID]warehouse.Customer{},
		transitions: map[string]warehouse.Transition{}, conflicts: map[string]warehouse.Conflict{},
		accounts: map[uuid.UUID]warehouse.Account{}, attached: map[string]warehouse.AccountMember{},
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
	if m.fault != nil {
		return m.fault(1)
	}
	return nil
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
			strings.Join(trs, "\n"), strings.Join(c.events, " "),
		}
		delete(of, id)
	}
	for id, c := range of {
		t.Fatalf("customer %s has %v and no row in customers", id, *c)
	}
	return p
}

// people are the sets of subjects that are one customer, found in the plainest
// way; log is what is known, in the order of the log.
type people struct {
	customers []map[string]bool // of subjects
	conflicts map[string]bool   // "event other"
}

func (p *people) of(subject string) map[string]bool {
	for _, c := range p.customers {
		if c[subject] {
			return c
		}
	}
	c := map[string]bool{subject: true}
	p.customers = append(p.customers, c)
	return c
}

func (p *people) unite(a, b string) {
	x, y := p.of(a), p.of(b)
	if x[b] {
		return
	}
	for s := range y {
		x[s] = true
	}
	p.customers = slices.DeleteFunc(p.customers, func(c map[string]bool) bool { return c[b] && len(c) == len(y) })
}

// emailOf is the e-mail address of an identify.
func (m sent) emailOf() string {
	if m.kind != domain.Identify || !strings.HasPrefix(m.traits, `{"email":"`) {
		return ""
	}
	return strings.TrimSuffix(strings.TrimPrefix(m.traits, `{"email":"`), `"}`)
}

func whoIsWho(log []sent, rules *Rules) *people {
	log = once(log)
	nobody := func(subject string) bool {
		_, value, _ := strings.Cut(subject, ":")
		return rules.compiled.Identity().Nobody(value)
	}
	limits := func(c map[string]bool) map[string]int {
		n := map[string]int{}
		for s := range c {
			kind, _, _ := strings.Cut(s, ":")
			n[kind]++
		}
		return n
	}
	users := map[string]bool{}
	for _, m := range log {
		if m.user != "" {
			users[m.user] = true
		}
	}
	p, auto := &people{conflicts: map[string]bool{}}, &people{}
	var apart [][2]string
	areApart := func(x, y map[string]bool) bool {
		for _, a := range apart {
			if x[a[0]] && y[a[1]] || x[a[1]] && y[a[0]] {
				return true
			}
		}
		return false
	}
	glue := func(subjects []domain.Subject) {
		var sets []string
	next:
		for _, s := range subjects {
			if nobody(s.String()) {
				continue
			}
			for _, o := range sets {
				if p.of(o)[s.String()] {
					continue next
				}
				if !areApart(p.of(o), p.of(s.String())) {
					p.unite(o, s.String())
					continue next
				}
			}
			sets = append(sets, s.String())
		}
	}
	var merged [][]domain.Subject
	for _, m := range slices.Backward(log) {
		if m.decision == "" {
			continue
		}
		glue(m.these)
		if m.decision == "merge" {
			merged = append(merged, append(slices.Clone(m.these), m.andThem...))
			continue
		}
		glue(m.andThem)
		for _, l := range m.these {
			for _, r := range m.andThem {
				lifted := slices.ContainsFunc(merged, func(all []domain.Subject) bool { return slices.Contains(all, l) && slices.Contains(all, r) })
				if !lifted && !nobody(l.String()) && !nobody(r.String()) && !p.of(l.String())[r.String()] {
					apart = append(apart, [2]string{l.String(), r.String()})
				}
			}
		}
	}
	sorted := slices.DeleteFunc(slices.Clone(log), func(m sent) bool { return m.decision != "" })
	slices.SortFunc(sorted, func(a, b sent) int { return refOf(a).Compare(refOf(b)) })
	tried := map[string]bool{}
	var contested [][3]string
	for _, m := range sorted {
		hub := m.header().Subject().String()
		p.of(hub)
		var others []string
		if m.kind == domain.Alias && m.prev != "" {
			if users[m.prev] {
				others = append(others, "user:"+m.prev)
			} else {
				others = append(others, "anon:"+m.prev)
			}
		}
		if (m.kind == domain.Identify || m.kind == domain.Alias) && m.user != "" && m.anon != "" {
			others = append(others, "anon:"+m.anon)
		}
		slices.SortStableFunc(others, func(a, b string) int { return -strings.Compare(a[:4], b[:4]) }) // users before visitors
		if e := m.emailOf(); e != "" {
			others = append(others, "email:"+e)
		}
		for _, o := range others {
			if o == hub || nobody(o) || nobody(hub) {
				continue
			}
			fits := true
			if !auto.of(hub)[o] {
				x, y := limits(auto.of(hub)), limits(auto.of(o))
				for kind, n := range x {
					limit := rules.compiled.Identity().Limit(domain.SubjectKind(kind))
					if alias := m.kind == domain.Alias && o == "user:"+m.prev && rules.Policy.Identity.AliasUsers; kind == "user" && alias {
						continue
					}
					if limit > 0 && y[kind] > 0 && n+y[kind] > limit {
						fits = false
					}
				}
			}
			if !p.of(hub)[o] && (!fits || areApart(p.of(hub), p.of(o))) {
				// Of the messages that name the same two the first is the conflict.
				pair := fmt.Sprint(hub, o, m.kind == domain.Alias && o[5:] == m.prev && o != "anon:"+m.anon)
				if !tried[pair] {
					contested = append(contested, [3]string{domain.EventID("test", m.id).String(), hub, o})
				}
				tried[pair] = true
				continue
			}
			if fits {
				auto.unite(hub, o)
			}
			p.unite(hub, o)
		}
	}
	for _, c := range contested {
		if !p.of(c[1])[c[2]] {
			p.conflicts[c[0]+" "+c[2]] = true
		}
	}
	return p
}

// drawOrder draws an order of arrival.
func drawOrder(t *rapid.T, set []sent) []sent {
	return sensible(rapid.Permutation(set).Draw(t, "order"))
}

// sensible leaves out what no decision would name: subjects that are not known by
// then.
func sensible(order []sent) []sent {
	var out []sent
	known := map[domain.Subject]bool{}
	for _, m := range order {
		if m.decision != "" {
			unknown := func(s domain.Subject) bool { return !known[s] }
			m.these = slices.DeleteFunc(slices.Clone(m.these), unknown)
			m.andThem = slices.DeleteFunc(slices.Clone(m.andThem), unknown)
			if len(m.these) > 0 {
				out = append(out, m)
			}
			continue
		}
		h := m.header()
		known[h.Subject()] = true
		if h.Kind != domain.Identify && h.Kind != domain.Alias {
			out = append(out, m)
			continue
		}
		for _, n := range namedBy(&h, m.data(), testKeyer) {
			kind, _ := domain.SubjectStream(n.stream)
			known[domain.Subject{Kind: kind, Value: n.value}] = true
		}
		out = append(out, m)
	}
	return out
}

// once leaves out what comes again.
func once(log []sent) (out []sent) {
	for _, m := range log {
		if !slices.ContainsFunc(out, func(o sent) bool { return o.id == m.id }) {
			out = append(out, m)
		}
	}
	return out
}

// name names a customer by its first subject in alphabetical order.
func (p *people) name(subject string) string {
	var all []string
	for s := range p.of(subject) {
		all = append(all, s)
	}
	return slices.Min(all)
}

// oracle computes the views from the log, in the plainest way.
func oracle(log []sent, rules *Rules, now domain.Millis) picture {
	who := whoIsWho(log, rules)
	set := slices.DeleteFunc(once(log), func(m sent) bool { return m.decision != "" })
	slices.SortFunc(set, func(a, b sent) int { return refOf(a).Compare(refOf(b)) })
	groups := map[string][]sent{}
	for _, m := range set {
		sub := m.header().Subject()
		if rules.compiled.Identity().Nobody(sub.Value) {
			continue
		}
		key := who.name(sub.String())
		groups[key] = append(groups[key], m)
	}
	p := picture{}
	oracleAccounts(p, set, who, rules, now)
	for _, ms := range groups {
		var facts customer.Facts
		var subjects, userIDs, events []string
		traits := map[string]string{}
		for _, m := range ms {
			h := m.header()
			rule := rules.compiled.Classify(h.Kind, h.Source, h.Name)
			t, tr := touch(&h, refOf(m), rule, m.data())
			facts.Add(t, tr)
			if s := h.Subject().String(); !slices.Contains(subjects, s) {
				subjects = append(subjects, s)
			}
			events = append(events, domain.EventID("test", m.id).String())
			for _, x := range tr {
				if string(x.Value) == "null" {
					delete(traits, x.Key)
				} else {
					traits[x.Key] = string(x.Value)
				}
			}
		}
		for sub := range who.of(subjects[0]) {
			if id, ok := strings.CutPrefix(sub, "user:"); ok {
				userIDs = append(userIDs, id)
			}
		}
		slices.Sort(userIDs)
		slices.Sort(subjects)
		slices.Sort(events)
		all := rules.transitions(&facts)
		past := all[:due(all, now)]
		if len(past) == 0 {
			continue
		}
		var trs []string
		for _, x := range past {
			trs = append(trs, fmt.Sprintf("%s→%s@%d %s %s", x.From, x.To, x.At, x.Reason, x.Cause))
		}
		totals := lifecycle.TotalsAt(&facts.Lifecycle, now, rules.Policy.Currency)
		var money []warehouse.Money
		for cur, a := range totals.Revenue {
			money = append(money, warehouse.Money{Currency: cur, Amount: int64(a)})
		}
		slices.SortFunc(money, func(a, b warehouse.Money) int { return strings.Compare(a.Currency, b.Currency) })
		last := past[len(past)-1]
		if userIDs == nil {
			userIDs = []string{}
		}
		p[strings.Join(subjects, " ")] = portrait{
			string(last.To), int64(last.At), int64(ms[0].at), int64(ms[len(ms)-1].at),
			uint32(totals.Purchases), uint32(totals.Refunds), fmt.Sprint(money), jsonObject(traits), fmt.Sprint(userIDs),
			strings.Join(trs, "\n"), strings.Join(events, " "),
		}
	}
	return p
}

func refOf(m sent) lifecycle.Ref {
	return lifecycle.Ref{At: m.at, ID: domain.EventID("test", m.id)}
}

func jsonObject(m map[string]string) string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	var parts []string
	for _, k := range keys {
		parts = append(parts, fmt.Sprintf("%q:%s", k, m[k]))
	}
	return "{" + strings.Join(parts, ",") + "}"
}

// compare fails with what differs.
func (p picture) compare(t tb, want picture, what string) {
	t.Helper()
	var b strings.Builder
	for k, w := range want {
		g, ok := p[k]
		switch {
		case !ok:
			fmt.Fprintf(&b, "missing [%s]: %+v\n", k, w)
		case g != w:
			fmt.Fprintf(&b, "[%s]\n  got  %+v\n  want %+v\n", k, g, w)
		}
	}
	for k, g := range p {
		if _, ok := want[k]; !ok {
			fmt.Fprintf(&b, "not expected [%s]: %+v\n", k, g)
		}
	}
	if b.Len() > 0 {
		t.Fatalf("%s:\n%s", what, b.String())
	}
}

// standing reads the log and returns the statements that stand, by customer and
// content, with their mark.
func standing(t tb, s eventstore.Store) map[string]bool {
	t.Helper()
	byStream := map[string]map[uint64]Statement{}
	for e, err := range s.ReadAll(context.Background(), 0) {
		if err != nil {
			t.Fatalf("read the log: %v", err)
		}
		switch e.Type {
		case domain.TypeStageEntered:
			var st Statement
			if err := json.Unmarshal(e.Data, &st); err != nil {
				t.Fatalf("statement: %v", err)
			}
			if byStream[e.Stream] == nil {
				byStream[strings.Clone(e.Stream)] = map[uint64]Statement{}
			}
			byStream[e.Stream][e.Revision] = st
		case domain.TypeStageWithdrawn:
			var w Withdrawal
			if err := json.Unmarshal(e.Data, &w); err != nil {
				t.Fatalf("withdrawal: %v", err)
			}
			for _, r := range w.Revisions {
				if _, ok := byStream[e.Stream][r]; !ok {
					t.Fatalf("%s withdraws revision %d, which does not stand", e.Stream, r)
				}
				delete(byStream[e.Stream], r)
			}
		}
	}
	out := map[string]bool{}
	for _, m := range byStream {
		for _, st := range m {
			key := st.key()
			if _, ok := out[key]; ok {
				t.Fatalf("stated twice: %s", key)
			}
			out[key] = st.News
		}
	}
	return out
}

func (st Statement) key() string {
	return fmt.Sprintf("%s %s→%s@%s %s %s", st.Customer, st.From, st.To, st.At, st.Reason, st.Cause)
}

// everSaid are the marks of all statements, standing or withdrawn, by content.
func everSaid(t tb, s eventstore.Store) map[string][]bool {
	t.Helper()
	out := map[string][]bool{}
	for e, err := range s.ReadAll(context.Background(), 0) {
		if err != nil {
			t.Fatalf("read the log: %v", err)
		}
		if e.Type != domain.TypeStageEntered {
			continue
		}
		var st Statement
		if err := json.Unmarshal(e.Data, &st); err != nil {
			t.Fatalf("statement: %v", err)
		}
		out[st.key()] = append(out[st.key()], st.News)
	}
	return out
}

// statements are the transitions of the tables in the form of standing.
func (m *memory) statements() map[string]bool {
	out := map[string]bool{}
	for _, tr := range m.transitions {
		if !tr.Removed {
			out[fmt.Sprintf("%s %s→%s@%s %s %s", tr.CustomerID, tr.From, tr.To, domain.Millis(tr.At), tr.Reason, tr.Cause)] = true
		}
	}
	return out
}

func keys(m map[string]bool) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

func newGeneration(t tb, dir vfs.FS, store eventstore.Store, sink Sink, rules *Rules, c *clock) *generation {
	t.Helper()
	s, err := openState(dir, "state", 1<<20, discard)
	if err != nil {
		t.Fatalf("open the state: %v", err)
	}
	g := &generation{
		number: 1, rules: rules, store: store, keyer: testKeyer, sink: sink, state: s,
		now: c.now, logger: discard, changed: func() {},
	}
	if err := g.recover(context.Background()); err != nil {
		t.Fatalf("recover: %v", err)
	}
	return g
}

var day0 = domain.MillisOf(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))

// drawMessages draws a small history of a few people who share devices.
func drawMessages(t *rapid.T) []sent {
	n := rapid.IntRange(1, 40).Draw(t, "messages")
	users := []string{"u1", "u2", "u3", "a2", "nobody"}
	anons := []string{"a1", "a2", "a3", "a4"}
	emails := []string{"a@example.com", "b@example.com"}
	var subjects []domain.Subject
	for _, u := range users[:4] { // a decision names only subjects that are somebody
		subjects = append(subjects, domain.Subject{Kind: domain.User, Value: u})
	}
	for _, a := range anons {
		subjects = append(subjects, domain.Subject{Kind: domain.Anon, Value: a})
	}
	for _, e := range emails {
		subjects = append(subjects, domain.Subject{Kind: domain.Email, Value: e})
	}
	// Days around the deadlines, and instants that coincide.
	days := []int{0, 1, 2, 30, 59, 60, 61, 119, 120, 121, 180, 240, 300, 365, 366, 425, 486, 500}
	all := make([]sent, n)
	for i := range all {
		m := sent{id: fmt.Sprintf("m%d", i), kind: domain.Track}
		if i > 0 && rapid.IntRange(0, 9).Draw(t, "decision") == 9 {
			m.decision = rapid.SampledFrom([]string{"merge", "split"}).Draw(t, "which")
			some := rapid.Permutation(subjects).Draw(t, "subjects")
			n := rapid.IntRange(1, 3).Draw(t, "these")
			m.these, m.andThem = some[:n], some[n:n+rapid.IntRange(0, 3).Draw(t, "and them")]
			all[i] = m
			continue
		}
		m.at = day0 + domain.Millis(rapid.SampledFrom(days).Draw(t, "day"))*domain.Day + domain.Millis(rapid.IntRange(0, 1).Draw(t, "ms"))
		who := rapid.IntRange(0, 2).Draw(t, "who")
		if who > 0 {
			m.user = rapid.SampledFrom(users).Draw(t, "user")
		}
		if who != 1 {
			m.anon = rapid.SampledFrom(anons).Draw(t, "anon")
		}
		order := fmt.Sprintf(`"order_id":"o%d"`, rapid.IntRange(0, 4).Draw(t, "order"))
		amount := rapid.IntRange(0, 3).Draw(t, "amount") * 10
		switch rapid.IntRange(0, 9).Draw(t, "what") {
		case 0, 1:
			m.kind = domain.Identify
			m.traits = fmt.Sprintf(`{"plan":%q,"gone":%s}`, m.id, rapid.SampledFrom([]string{"1", "null"}).Draw(t, "gone"))
			if rapid.Bool().Draw(t, "email") {
				m.traits = fmt.Sprintf(`{"email":%q}`, rapid.SampledFrom(emails).Draw(t, "address"))
			}
		case 2:
			if m.user != "" || rapid.Bool().Draw(t, "of a visitor") {
				m.kind = domain.Alias
				m.prev = rapid.SampledFrom(append(anons, "u2")).Draw(t, "previous")
			}
		case 3, 4, 5:
			m.name = "Order Completed"
			m.properties = fmt.Sprintf(`{%s,"total":%d,"currency":"EUR"}`, order, amount)
		case 6:
			m.name = "Order Refunded"
			m.properties = fmt.Sprintf(`{%s,"total":%d}`, order, amount)
		case 7:
			m.name = "Order Updated"
			m.properties = fmt.Sprintf(`{%s,"total":%d}`, order, amount)
		case 8:
			if rapid.Bool().Draw(t, "group call") {
				m.kind, m.group = domain.Group, rapid.SampledFrom([]string{"acme", "bolt", "nobody", "null"}).Draw(t, "account")
				m.traits = fmt.Sprintf(`{"size":%q,"gone":%s}`, m.id, rapid.SampledFrom([]string{"1", "null"}).Draw(t, "gone"))
				break
			}
			m.name = "Signed Up"
		default:
			m.name = "Product Viewed"
		}
		all[i] = m
	}
	return all
}

// appendAll appends messages in an order, each recorded at an instant of its own
// or of the one before.
func appendAll(t tb, s eventstore.Store, c *clock, order []sent, recorded []domain.Millis) {
	t.Helper()
	for i, m := range order {
		c.set(recorded[i])
		stream, e := m.event()
		if _, err := s.Append(context.Background(), stream, eventstore.Any{}, e); err != nil {
			t.Fatalf("append: %v", err)
		}
	}
}

var errCrash = errors.New("crash")

func testRules() *Rules {
	p := policy.Default()
	p.Identity.Nobody = []string{"nobody"}
	p.Lifecycle.Accounts = true
	return NewRules(1, p)
}

func TestMain(m *testing.M) { runTests(m) }
