package projections

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"

	"sojourn/domain"
	"sojourn/domain/lifecycle"
	"sojourn/domain/loyalty"
	"sojourn/domain/policy"
	"sojourn/eventstore"
	"sojourn/eventstore/pebblestore"
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
	// A command about points instead of a message.
	command *ordered
}

// isMessage is false for decisions and commands.
func (m sent) isMessage() bool { return m.decision == "" && m.command == nil }

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
	if m.command != nil {
		return m.command.event(m)
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
	s, err := pebblestore.Open("log", pebblestore.Options{FS: vfs.NewMem(), Now: c.now, CacheBytes: 1 << 20, MemTableBytes: 1 << 20, SegmentEvents: 1 << 16})
	if err != nil {
		t.Fatalf("open the store: %v", err)
	}
	return s
}

// drawOrder draws an order of arrival: any, or nearly that of time.
func drawOrder(t *rapid.T, set []sent) []sent {
	order := rapid.Permutation(set).Draw(t, "order")
	if rapid.Bool().Draw(t, "as it happens") {
		late := order[:len(order)/8]
		rest := order[len(late):]
		slices.SortStableFunc(rest, func(a, b sent) int { return cmp.Compare(a.at, b.at) })
		for _, m := range late {
			rest = slices.Insert(slices.Clip(rest), rapid.IntRange(0, len(rest)).Draw(t, "late"), m)
		}
		order = rest
	}
	return sensible(order)
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
		if m.command != nil {
			if known[m.command.subject] {
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
			fmt.Fprintf(&b, "[%s]\n", k)
			differing(&b, reflect.ValueOf(g), reflect.ValueOf(w))
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

// differing writes the fields that differ.
func differing(b *strings.Builder, got, want reflect.Value) {
	for i := range got.NumField() {
		g, w := got.Field(i), want.Field(i)
		switch {
		case g.Equal(w):
		case g.Kind() == reflect.Struct:
			differing(b, g, w)
		default:
			fmt.Fprintf(b, "  %s\n", got.Type().Field(i).Name)
			was, is := strings.Split(fmt.Sprint(w), "\n"), strings.Split(fmt.Sprint(g), "\n")
			for _, line := range is {
				if !slices.Contains(was, line) {
					fmt.Fprintf(b, "    got  %s\n", line)
				}
			}
			for _, line := range was {
				if !slices.Contains(is, line) {
					fmt.Fprintf(b, "    want %s\n", line)
				}
			}
		}
	}
}

// standing reads the log and returns the statements about stages that stand, by
// customer and content, with their mark.
func standing(t tb, s eventstore.Store) map[string]bool {
	t.Helper()
	return standingOf(t, s, aboutStage)
}

// allStanding are the statements about everything that stand.
func allStanding(t tb, s eventstore.Store) map[string]bool {
	t.Helper()
	return standingOf(t, s, aboutStage, aboutTier, aboutStatus, aboutSegment)
}

func standingOf(t tb, s eventstore.Store, of ...about) map[string]bool {
	t.Helper()
	type place struct {
		what   about
		stream string
	}
	stand := map[place]map[uint64]Statement{}
	for e, err := range s.ReadAll(context.Background(), 0) {
		if err != nil {
			t.Fatalf("read the log: %v", err)
		}
		for _, what := range of {
			at := place{what, e.Stream}
			typ := e.Type
			if typ == domain.TypeSegmentLeft {
				typ = domain.TypeSegmentEntered
			}
			switch typ {
			case entered[what]:
				var st Statement
				if err := json.Unmarshal(e.Data, &st); err != nil {
					t.Fatalf("statement: %v", err)
				}
				if stand[at] == nil {
					at.stream = strings.Clone(e.Stream)
					stand[at] = map[uint64]Statement{}
				}
				stand[at][e.Revision] = st
			case withdrawn[what]:
				var w Withdrawal
				if err := json.Unmarshal(e.Data, &w); err != nil {
					t.Fatalf("withdrawal: %v", err)
				}
				for _, r := range w.Revisions {
					if _, ok := stand[at][r]; !ok {
						t.Fatalf("%s withdraws revision %d, which does not stand", e.Stream, r)
					}
					delete(stand[at], r)
				}
			}
		}
	}
	out := map[string]bool{}
	for at, m := range stand {
		for _, st := range m {
			key := st.key(at.what)
			if _, ok := out[key]; ok {
				t.Fatalf("stated twice: %s", key)
			}
			out[key] = st.News
		}
	}
	return out
}

func (st Statement) key(what about) string {
	key := fmt.Sprintf("%s %s→%s@%s %s %s", st.Customer, st.From, st.To, st.At, st.Reason, st.Cause)
	switch what {
	case aboutSegment:
		return fmt.Sprintf("segment %s %s %s→%s@%s %s", st.Segment, st.Customer, st.From, st.To, st.At, st.Cause)
	case aboutTier:
		return fmt.Sprintf("tier %s of %s until %s", key, st.Programme, cmp.Or(st.Until, "-"))
	case aboutStatus:
		index := "-"
		if st.Index != nil {
			index = fmt.Sprint(*st.Index)
		}
		return fmt.Sprintf("status %s at %s", key, index)
	}
	return key
}

// everSaid are the marks of all statements, standing or withdrawn, by content.
func everSaid(t tb, s eventstore.Store) map[string][]bool {
	t.Helper()
	out := map[string][]bool{}
	for e, err := range s.ReadAll(context.Background(), 0) {
		if err != nil {
			t.Fatalf("read the log: %v", err)
		}
		what := slices.Index(entered[:], e.Type)
		if e.Type == domain.TypeSegmentLeft {
			what = int(aboutSegment)
		}
		if what < 0 {
			continue
		}
		var st Statement
		if err := json.Unmarshal(e.Data, &st); err != nil {
			t.Fatalf("statement: %v", err)
		}
		key := st.key(about(what))
		out[key] = append(out[key], st.News)
	}
	return out
}

// statements are the transitions of the tables in the form of allStanding.
func (m *memory) statements() map[string]bool {
	out := map[string]bool{}
	for _, r := range m.tiers {
		if !r.Removed {
			st := Statement{Customer: r.CustomerID, Programme: r.Programme, From: r.From, To: r.To, At: domain.Millis(r.At).String(), Reason: r.Reason, Cause: r.Cause}
			if r.Until != 0 {
				st.Until = domain.Millis(r.Until).String()
			}
			out[st.key(aboutTier)] = true
		}
	}
	for _, r := range m.statuses {
		if !r.Removed {
			st := Statement{Customer: r.CustomerID, From: r.From, To: r.To, At: domain.Millis(r.At).String(), Reason: r.Reason, Cause: r.Cause}
			if r.To != "unknown" {
				st.Index = &r.Index
			}
			out[st.key(aboutStatus)] = true
		}
	}
	for _, r := range m.stays {
		if r.Removed {
			continue
		}
		out[Statement{Customer: r.CustomerID, Segment: r.Segment, From: "out", To: "in", At: domain.Millis(r.Entered).String(), Cause: r.EnteredCause}.key(aboutSegment)] = true
		if r.Left != 0 {
			out[Statement{Customer: r.CustomerID, Segment: r.Segment, From: "in", To: "out", At: domain.Millis(r.Left).String(), Cause: r.LeftCause}.key(aboutSegment)] = true
		}
	}
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
	all := make([]sent, n, n+n/4)
	for i := range n {
		m := sent{id: fmt.Sprintf("m%d", i), kind: domain.Track}
		m.at = day0 + domain.Millis(rapid.SampledFrom(days).Draw(t, "day"))*domain.Day + domain.Millis(rapid.IntRange(0, 1).Draw(t, "ms"))
		if i > 0 && rapid.IntRange(0, 9).Draw(t, "decision") == 9 {
			m.decision = rapid.SampledFrom([]string{"merge", "split"}).Draw(t, "which")
			some := rapid.Permutation(subjects).Draw(t, "subjects")
			n := rapid.IntRange(1, 3).Draw(t, "these")
			m.these, m.andThem = some[:n], some[n:n+rapid.IntRange(0, 3).Draw(t, "and them")]
			all[i] = m
			continue
		}
		if i > 0 && rapid.IntRange(0, 9).Draw(t, "command") >= 8 {
			more := drawCommand(t, m, all[:i], subjects)
			all[i] = more[0]
			all = append(all, more[1:]...)
			continue
		}
		who := rapid.IntRange(0, 2).Draw(t, "who")
		if who > 0 {
			m.user = rapid.SampledFrom(users).Draw(t, "user")
		}
		if who != 1 {
			m.anon = rapid.SampledFrom(anons).Draw(t, "anon")
		}
		order := fmt.Sprintf(`"order_id":"o%d"`, rapid.IntRange(0, 4).Draw(t, "order"))
		amount := rapid.IntRange(0, 3).Draw(t, "amount") * 10
		switch rapid.IntRange(0, 14).Draw(t, "what") {
		case 0, 1:
			m.kind = domain.Identify
			m.traits = fmt.Sprintf(`{"plan":%q,"birthday":%s,"gone":%s}`, m.id, rapid.SampledFrom([]string{"7", "null", `"2000-02-29"`, `"--03-02"`}).Draw(t, "birthday"), rapid.SampledFrom([]string{"1", "null"}).Draw(t, "gone"))
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
			m.properties = fmt.Sprintf(`{%s,"total":%d,"currency":"EUR"%s}`, order, amount, drawProducts(t))
		case 6:
			m.name = "Order Refunded"
			m.properties = fmt.Sprintf(`{%s,"total":%d%s}`, order, amount, drawProducts(t))
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
		case 9, 10, 11, 12:
			drawOpinion(t, &m)
		case 13:
			m.name, m.properties = "Order Cancelled", "{"+order+"}"
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
	p.Loyalty.Programmes = testProgrammes
	return NewRules(loyalty.AppliedPolicy{Policy: p})
}

func TestMain(m *testing.M) { runTests(m) }
