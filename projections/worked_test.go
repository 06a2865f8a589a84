package projections

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"sojourn/domain"
	naive "sojourn/internal/oracle"
)

// world is what a worked history happens in. What it is told is recorded at its
// clock; what it is asked is answered when all of that has been read.
type world interface {
	// clock sets the wall clock, which never goes back.
	clock(t domain.Millis)
	// send records a message; one with a known id is a duplicate.
	send(m told)
	// apply puts a policy in force.
	apply(p naive.Policy)
	// merge and split take subjects such as "user:1"; from is empty where those
	// that leave, leave their own customer.
	merge(subjects []string, reason, author string)
	split(subjects []string, from, reason, author string)

	// customer answers about a subject or a customer's id, wherever that leads;
	// false where there is no customer by that time. Subjects are all of the
	// customer's, those that are only named too.
	customer(ref string, at At) (Customer, bool)
	// stages are the transitions of the customer of a subject, each as
	// "stage 2026-01-01T09:00:00.000Z".
	stages(ref string) []string
	// outcomes are what became of the joins between two subjects, whichever of
	// them is the hub, in the order in which they are tried.
	outcomes(a, b string) []string
	// conflicts are the open ones, each as "user:1 - anon:v1" with the hub first,
	// each once, sorted.
	conflicts() []string
}

// worlds are those that the worked histories are held against, by name.
var worlds = map[string]func(t *testing.T) world{
	"oracle": func(*testing.T) world { return &oracleWorld{} },
}

// told is a message as a worked history tells it.
type told struct {
	sent
	device   string
	external []naive.ExternalID
}

// data is the message as JSON, as it was sent.
func (m told) data() []byte {
	type externalID struct {
		ID         string `json:"id"`
		Type       string `json:"type"`
		Collection string `json:"collection"`
		Encoding   string `json:"encoding"`
	}
	context := map[string]any{}
	if m.device != "" {
		context["device"] = map[string]string{"id": m.device}
	}
	if m.external != nil {
		var ids []externalID
		for _, x := range m.external {
			ids = append(ids, externalID{x.ID, x.Type, x.Collection, "none"})
		}
		context["externalIds"] = ids
	}
	data, err := json.Marshal(map[string]any{
		"messageId":  m.id,
		"properties": json.RawMessage(cmp.Or(m.properties, "{}")),
		"traits":     json.RawMessage(cmp.Or(m.traits, "{}")),
		"context":    context,
	})
	if err != nil {
		panic(err) // the interpreter wrote it wrong
	}
	return data
}

// TestWorkedHistories tells each history of testdata/histories.md to each world.
func TestWorkedHistories(t *testing.T) {
	text, err := os.ReadFile("testdata/histories.md")
	if err != nil {
		t.Fatal(err)
	}
	histories := readHistories(t, string(text))
	if len(histories) < 25 {
		t.Fatalf("%d histories, want at least 25", len(histories))
	}
	for name, open := range worlds {
		t.Run(name, func(t *testing.T) {
			for _, h := range histories {
				t.Run(h.title, func(t *testing.T) {
					(&teller{t: t, world: open(t), policy: naive.DefaultPolicy()}).tell(h)
				})
			}
		})
	}
}

type workedHistory struct {
	title string
	line  int // of the first line, in the file
	lines []string
}

// readHistories finds the fenced blocks, each under its heading.
func readHistories(t *testing.T, text string) []workedHistory {
	var all []workedHistory
	title, inside := "", false
	for i, line := range strings.Split(text, "\n") {
		switch {
		case strings.HasPrefix(line, "## "):
			title = strings.TrimPrefix(line, "## ")
		case line == "```history":
			if title == "" {
				t.Fatalf("line %d: a second history under one heading, or none", i+1)
			}
			all = append(all, workedHistory{title: title, line: i + 2})
			title, inside = "", true
		case line == "```":
			inside = false
		case inside:
			h := &all[len(all)-1]
			h.lines = append(h.lines, line)
		}
	}
	return all
}

// teller reads a history line by line.
type teller struct {
	t      *testing.T
	world  world
	policy naive.Policy
	now    domain.Millis
	sent   int
	last   told
	where  string
}

func (w *teller) fatalf(format string, args ...any) {
	w.t.Helper()
	w.t.Fatalf("%s: %s", w.where, fmt.Sprintf(format, args...))
}

func (w *teller) errorf(format string, args ...any) {
	w.t.Helper()
	w.t.Errorf("%s: %s", w.where, fmt.Sprintf(format, args...))
}

var (
	instantForm = `day (\d+) (\d\d):(\d\d)`
	whenLine    = regexp.MustCompile(`^` + instantForm + ` +(.*)$`)
	lateForm    = regexp.MustCompile(`^late, of ` + instantForm + `: (.*)$`)
	mergeForm   = regexp.MustCompile(`^merge (.*) because "(.*)" by "(.*)"$`)
	splitForm   = regexp.MustCompile(`^split (.*?)(?: from (\S+))? because "(.*)" by "(.*)"$`)
	orderForm   = regexp.MustCompile(`^(orders|refunds) (\S+)(?: for (\d+))?$`)
	viewForm    = regexp.MustCompile(`^views (\S+)$`)
	aliasForm   = regexp.MustCompile(`^alias user:(\S+) from (\S+)$`)

	knownForm    = regexp.MustCompile(`^known at ` + instantForm + ` (.*)$`)
	asOfForm     = regexp.MustCompile(`^as of ` + instantForm + ` (.*)$`)
	customerIs   = regexp.MustCompile(`^(.*?) (?:is|are) one customer(?:: (.*))?$`)
	unknownIs    = regexp.MustCompile(`^(\S+) is not known$`)
	outcomeIs    = regexp.MustCompile(`^(\S+) - (\S+) is (joined|a conflict|kept apart|not tried)$`)
	conflictsAre = regexp.MustCompile(`^the open conflicts are (.*)$`)
	leadsTo      = regexp.MustCompile(`^the id of (\S+) leads to (\S+)$`)
	lifeWas      = regexp.MustCompile(`^(\S+) was (.*)$`)
	stageForm    = regexp.MustCompile(`^(\w+) ` + instantForm + `$`)
	seenForm     = regexp.MustCompile(`^(first|last) seen ` + instantForm + `$`)
	countForm    = regexp.MustCompile(`^(\d+) (purchase|refund)s?$`)
	moneyForm    = regexp.MustCompile(`^([A-Z]{3}) (\d+)$`)
)

// instant reads the three groups of instantForm.
func instant(groups []string) domain.Millis {
	var n [3]int
	for i := range n {
		n[i], _ = strconv.Atoi(groups[i]) // the form says that they are numbers
	}
	return day0 + domain.Millis(n[0]-1)*domain.Day + domain.Millis(n[1]*60+n[2])*60_000
}

func (w *teller) tell(h workedHistory) {
	for i, line := range h.lines {
		w.where = fmt.Sprintf("histories.md:%d: %s", h.line+i, line)
		if then, ok := strings.CutPrefix(line, "then "); ok {
			w.then(then)
			continue
		}
		m := whenLine.FindStringSubmatch(line)
		if m == nil {
			w.fatalf("begins with neither a time nor then")
		}
		at := instant(m[1:4])
		if at < w.now {
			w.fatalf("the clock goes back")
		}
		w.now = at
		w.world.clock(at)
		w.when(m[4])
	}
}

func (w *teller) when(text string) {
	at := w.now
	if m := lateForm.FindStringSubmatch(text); m != nil {
		at, text = instant(m[1:4]), m[4]
	}
	if text == "nothing happens" {
		return
	}
	if text == "the last message comes again" {
		w.world.send(w.last)
		return
	}
	if rule, ok := strings.CutPrefix(text, "policy: "); ok {
		w.changePolicy(rule)
		return
	}
	if m := mergeForm.FindStringSubmatch(text); m != nil {
		w.world.merge(strings.Fields(m[1]), m[2], m[3])
		return
	}
	if m := splitForm.FindStringSubmatch(text); m != nil {
		w.world.split(strings.Fields(m[1]), m[2], m[3], m[4])
		return
	}
	w.last = w.message(text)
	w.sent++
	w.last.id, w.last.at = fmt.Sprint("m", w.sent), at
	w.world.send(w.last)
}

func (w *teller) changePolicy(rule string) {
	p := w.policy
	switch {
	case rule == "aliases of users join":
		p.AliasUsers = true
	case strings.HasPrefix(rule, "join "):
		p.Join = nil
		for _, kind := range strings.Fields(rule)[1:] {
			p.Join = append(p.Join, domain.SubjectKind(kind))
		}
	case strings.HasSuffix(rule, " is nobody"):
		p.Nobody = append(slices.Clone(p.Nobody), strings.TrimSuffix(rule, " is nobody"))
	default:
		w.fatalf("no such policy")
	}
	w.policy = p
	w.world.apply(p)
}

func (w *teller) message(text string) told {
	if m := aliasForm.FindStringSubmatch(text); m != nil {
		return told{sent: sent{kind: domain.Alias, user: m[1], prev: m[2]}}
	}
	var m told
	words := strings.Fields(text)
	if words[0] == "identify" {
		m.kind = domain.Identify
		words = words[1:]
	}
	traits := map[string]any{}
	for len(words) > 0 {
		kind, value, isSubject := strings.Cut(words[0], ":")
		key, trait, isTrait := strings.Cut(words[0], "=")
		switch {
		case isSubject && kind == "user":
			m.user = value
		case isSubject && kind == "anon":
			m.anon = value
		case isSubject && m.kind == domain.Identify && (kind == "email" || kind == "phone"):
			traits[kind] = value
		case isSubject && m.kind == domain.Identify && kind == "device":
			m.device = value
		case isSubject && m.kind == domain.Identify:
			m.external = append(m.external, naive.ExternalID{ID: value, Type: kind, Collection: "users"})
		case isTrait && m.kind == domain.Identify && trait == "null":
			traits[key] = nil
		case isTrait && m.kind == domain.Identify:
			traits[key] = trait
		case m.kind == 0:
			w.what(&m, strings.Join(words, " "))
			return m
		default:
			w.fatalf("%q means nothing here", words[0])
		}
		words = words[1:]
	}
	if m.kind != domain.Identify {
		w.fatalf("nothing happened")
	}
	raw, err := json.Marshal(traits)
	if err != nil {
		w.fatalf("%v", err)
	}
	m.traits = string(raw)
	return m
}

// what reads what a subject did.
func (w *teller) what(m *told, text string) {
	if view := viewForm.FindStringSubmatch(text); view != nil {
		m.kind, m.name = domain.Page, view[1]
		return
	}
	order := orderForm.FindStringSubmatch(text)
	if order == nil {
		w.fatalf("%q means nothing", text)
	}
	m.kind, m.name = domain.Track, map[string]string{"orders": "Order Completed", "refunds": "Order Refunded"}[order[1]]
	m.properties = fmt.Sprintf(`{"order_id":%q,"currency":"USD"}`, order[2])
	if order[3] != "" {
		m.properties = fmt.Sprintf(`{"order_id":%q,"currency":"USD","total":%s}`, order[2], order[3])
	}
}

func (w *teller) then(text string) {
	var at At
	if m := knownForm.FindStringSubmatch(text); m != nil {
		at.KnownAt, text = instant(m[1:4]).Time(), m[4]
	}
	if m := asOfForm.FindStringSubmatch(text); m != nil {
		at.AsOf, text = instant(m[1:4]).Time(), m[4]
	}
	if m := customerIs.FindStringSubmatch(text); m != nil {
		w.customerIs(strings.Fields(m[1]), m[2], at)
		return
	}
	if m := unknownIs.FindStringSubmatch(text); m != nil {
		if c, ok := w.world.customer(m[1], at); ok {
			w.errorf("is %v, %s", c.Subjects, c.Stage)
		}
		return
	}
	if at != (At{}) {
		w.fatalf("cannot be asked of another time")
	}
	if text == "there is no open conflict" {
		if got := w.world.conflicts(); len(got) > 0 {
			w.errorf("there are %q", got)
		}
		return
	}
	if m := conflictsAre.FindStringSubmatch(text); m != nil {
		want := strings.Split(m[1], ", ")
		slices.Sort(want)
		if got := w.world.conflicts(); !slices.Equal(got, want) {
			w.errorf("there are %q", got)
		}
		return
	}
	if m := outcomeIs.FindStringSubmatch(text); m != nil {
		want := strings.ReplaceAll(strings.TrimPrefix(m[3], "a "), " ", "_")
		got := w.world.outcomes(m[1], m[2])
		if len(got) == 0 || slices.ContainsFunc(got, func(o string) bool { return o != want }) {
			w.errorf("the joins are %q", got)
		}
		return
	}
	if m := leadsTo.FindStringSubmatch(text); m != nil {
		if c, ok := w.world.customer(idOf(m[1]).String(), At{}); !ok || c.ID != idOf(m[2]) {
			w.errorf("leads to %s, %v", c.ID, c.Subjects)
		}
		return
	}
	if m := lifeWas.FindStringSubmatch(text); m != nil {
		var want []string
		for _, clause := range strings.Split(m[2], ", ") {
			s := stageForm.FindStringSubmatch(clause)
			if s == nil {
				w.fatalf("%q is no stage at a time", clause)
			}
			want = append(want, s[1]+" "+instant(s[2:5]).String())
		}
		if got := w.world.stages(m[1]); !slices.Equal(got, want) {
			w.errorf("\n got  %q\n want %q", got, want)
		}
		return
	}
	w.fatalf("means nothing")
}

// customerIs asks about each of the subjects; all are one customer, and no other
// subject is.
func (w *teller) customerIs(refs []string, clauses string, at At) {
	slices.Sort(refs)
	for _, ref := range refs {
		c, ok := w.world.customer(ref, at)
		if !ok {
			w.errorf("%s is not known", ref)
			continue
		}
		if got := slices.Sorted(slices.Values(c.Subjects)); !slices.Equal(got, refs) {
			w.errorf("%s is %q", ref, got)
			continue
		}
		if clauses == "" {
			continue
		}
		for _, clause := range strings.Split(clauses, ", ") {
			if got, ok := w.holds(c, clause); !ok {
				w.errorf("%s: %s does not hold: %s", ref, clause, got)
			}
		}
	}
}

// holds reports whether a clause holds of a customer, else what does.
func (w *teller) holds(c Customer, clause string) (string, bool) {
	if m := seenForm.FindStringSubmatch(clause); m != nil {
		got := map[string]time.Time{"first": c.FirstSeen, "last": c.LastSeen}[m[1]]
		return got.String(), got.Equal(instant(m[2:5]).Time())
	}
	if m := countForm.FindStringSubmatch(clause); m != nil {
		got := strconv.Itoa(map[string]int{"purchase": c.Purchases, "refund": c.Refunds}[m[2]])
		return got, got == m[1]
	}
	if m := moneyForm.FindStringSubmatch(clause); m != nil {
		return fmt.Sprint(c.Revenue), c.Revenue[m[1]] == m[2]
	}
	if ref, ok := strings.CutPrefix(clause, "id of "); ok {
		return c.ID.String(), c.ID == idOf(ref)
	}
	if key, ok := strings.CutPrefix(clause, "no "); ok {
		_, money := c.Revenue[key]
		_, trait := c.Traits[key]
		return fmt.Sprint(c.Revenue, c.Traits), !money && !trait
	}
	if key, value, ok := strings.Cut(clause, "="); ok {
		return string(c.Traits[key]), string(c.Traits[key]) == strconv.Quote(value)
	}
	return c.Stage, c.Stage == clause
}

// subjectOf reads a subject of any kind.
func subjectOf(ref string) domain.Subject {
	kind, value, _ := strings.Cut(ref, ":")
	return domain.Subject{Kind: domain.SubjectKind(kind), Value: value}
}

// idOf is the id that a subject has by itself.
func idOf(ref string) uuid.UUID { return domain.SubjectID(testKeyer.Stream(subjectOf(ref))) }
