package projections

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"sojourn/domain"
	"sojourn/domain/customer"
	"sojourn/domain/loyalty"
	"sojourn/domain/policy"
	"sojourn/domain/satisfaction"
)

// lineKey names something that statements of a customer are about.
type lineKey struct {
	what      about
	programme string
}

// saidLine are the changes of a line, in words, where they lead and whether each
// was news.
type saidLine struct {
	keys, to []string
	news     []bool
}

func (l saidLine) stands() string {
	if len(l.to) == 0 {
		return ""
	}
	return l.to[len(l.to)-1]
}

// saidCustomer is a customer as the reader of the log has it.
type saidCustomer struct {
	made     string // of which events and subjects
	messages []sent
	commands []sent
	lines    map[lineKey]saidLine
}

// at are the lines of a customer at an instant, without marks.
func (c *saidCustomer) at(id uuid.UUID, rules *Rules, t domain.Millis) map[lineKey]saidLine {
	lines := map[lineKey]saidLine{}
	add := func(k lineKey, st Statement) {
		l := lines[k]
		st.Customer, st.Programme = id, k.programme
		l.keys, l.to = append(l.keys, st.key(k.what)), append(l.to, st.To)
		lines[k] = l
	}
	var facts customer.Facts
	for _, m := range c.messages {
		h := m.header()
		touch := rules.touch(&h, refOf(m), rules.compiled.Classify(h.Kind, h.Source, h.Name), m.data())
		facts.Add(&touch, rules.book)
	}
	for _, x := range rules.transitions(&facts) {
		if x.At <= t {
			add(lineKey{aboutStage, ""}, Statement{From: string(x.From), To: string(x.To), At: x.At.String(), Reason: x.Reason, Cause: x.Cause.String()})
		}
	}
	points, opinions := factsOf(c.messages, c.commands, rules)
	for _, p := range rules.book.Programmes() {
		for _, x := range loyalty.Fold(points, p, t).Transitions {
			st := Statement{From: x.From, To: x.To, At: x.At.String(), Reason: x.Reason, Cause: x.Cause.String()}
			if x.Until != policy.Never {
				st.Until = x.Until.String()
			}
			add(lineKey{aboutTier, p.ID}, st)
		}
	}
	for _, x := range satisfaction.Transitions(opinions, rules.satisfaction) {
		if x.At <= t {
			st := Statement{From: string(x.From), To: string(x.To), At: x.At.String(), Reason: x.Reason, Cause: x.Cause.String()}
			if x.To != satisfaction.Unknown {
				st.Index = &x.Index
			}
			add(lineKey{aboutStatus, ""}, st)
		}
	}
	c.segmentsAt(rules, t, func(name string, st Statement) { add(lineKey{aboutSegment, name}, st) })
	return lines
}

// wait lets time pass: what it brings is news.
func (c *saidCustomer) wait(id uuid.UUID, rules *Rules, t domain.Millis) {
	lines := c.at(id, rules, t)
	for k, l := range lines {
		l.news = c.lines[k].news
		for len(l.news) < len(l.keys) {
			l.news = append(slices.Clip(l.news), true)
		}
		lines[k] = l
	}
	c.lines = lines
}

// customersOf are the customers of a log, by their ids.
func customersOf(known []sent, rules *Rules) map[uuid.UUID]*saidCustomer {
	who := whoIsWho(known, rules)
	ids, all := map[string]uuid.UUID{}, map[uuid.UUID]*saidCustomer{}
	for _, m := range known {
		if !m.isMessage() {
			continue
		}
		s := m.header().Subject()
		if rules.compiled.Identity().Nobody(s.Value) {
			continue
		}
		name := who.name(s.String())
		if _, ok := ids[name]; !ok {
			ids[name] = domain.SubjectID(testKeyer.Stream(s))
			all[ids[name]] = &saidCustomer{}
		}
		c := all[ids[name]]
		c.messages = append(c.messages, m)
	}
	for _, m := range known {
		if m.command != nil {
			if c := all[ids[who.name(m.command.subject.String())]]; c != nil {
				c.commands = append(c.commands, m)
			}
		}
	}
	for name, id := range ids {
		c := all[id]
		var made []string
		for s := range who.of(name) {
			made = append(made, s)
		}
		slices.Sort(made)
		for _, m := range append(slices.Clone(c.messages), c.commands...) {
			made = append(made, m.id)
		}
		c.made = strings.Join(made, " ")
	}
	return all
}

// newsOf are the statements that stand at the end of a log that is read one event and
// one deadline at a time, with their marks.
func newsOf(order []sent, times []domain.Millis, rules *Rules) map[string]bool {
	customers := map[uuid.UUID]*saidCustomer{}
	step := domain.Millis(0)
	for i, m := range order {
		before := step
		step = max(step, times[i])
		before = max(before, step-1)
		for id, c := range customers {
			c.wait(id, rules, before)
		}
		after := customersOf(order[:i+1], rules)
		for id, c := range after {
			was := customers[id]
			if was != nil && was.made == c.made {
				c.lines = was.lines
				c.wait(id, rules, step)
				continue
			}
			if was == nil {
				was = &saidCustomer{}
			}
			c.lines = c.at(id, rules, step)
			for k, l := range c.lines {
				old := was.lines[k]
				// By hand nothing is news; and only the last line can have changed where
				// the customer stands.
				moved := m.decision == "" && l.stands() != old.stands()
				for j, key := range l.keys {
					mark := moved && j == len(l.keys)-1
					if at := slices.Index(old.keys, key); at >= 0 {
						mark = old.news[at]
					}
					l.news = append(l.news, mark)
				}
				c.lines[k] = l
			}
		}
		customers = after
	}
	said := map[string]bool{}
	for _, c := range customers {
		for _, l := range c.lines {
			for j, key := range l.keys {
				said[key] = l.news[j]
			}
		}
	}
	return said
}

// What stands, and which of it is news, is what a reader finds who goes through the
// log one event and one deadline at a time.
func TestNewsIsJudgedEventByEvent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		order := drawOrder(t, drawMessages(t))
		times := recordedTimes(t, order)
		if len(order) == 0 {
			return
		}
		var c clock
		log := openStore(t, &c)
		defer func() { _ = log.Close() }()
		c.set(min(day0, times[0]))
		rules := segmentRules()
		g := newGeneration(t, vfs.NewMem(), log, newMemory(), rules, &c)
		defer func() { _ = g.settle(); _ = g.state.close() }()
		g.batchEvents = 1
		if err := g.reconcile(context.Background()); err != nil {
			t.Fatalf("reconcile: %v", err)
		}
		appendAll(t, log, &c, order, times)
		if err := g.runToEnd(context.Background(), nil); err != nil {
			t.Fatalf("run: %v", err)
		}
		got, want := allStanding(t, log), newsOf(order, times, rules)
		var differ []string
		for key, news := range want {
			if is, ok := got[key]; !ok || is != news {
				differ = append(differ, fmt.Sprintf("want %v (stands %v): %s", news, ok, key))
			}
		}
		for key := range got {
			if _, ok := want[key]; !ok {
				differ = append(differ, "not to stand: "+key)
			}
		}
		if len(differ) > 0 {
			slices.Sort(differ)
			t.Fatalf("%s\n%s", strings.Join(differ, "\n"), toldOf(order, times))
		}
	})
}
