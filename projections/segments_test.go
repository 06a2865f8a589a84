package projections

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"sojourn/condition"
	"sojourn/domain"
	"sojourn/eventstore"
)

// segment puts a segment in force and waits until the tables show it.
func (s *site) segment(name, text string) {
	s.t.Helper()
	if _, _, err := s.views.ApplySegment(s.t.Context(), SegmentProposal{SegmentDocument: SegmentDocument{Name: name, Condition: text}, Author: "ann"}); err != nil {
		s.t.Fatal(err)
	}
	s.until("the segment "+name, func() bool {
		in, err := s.views.Segment(name)
		return err == nil && in.Built && s.views.Status().Ready
	})
	s.tidy()
}

// members are the users in a segment, by the table.
func (s *site) members(name string, asOf time.Time) (users []string) {
	s.t.Helper()
	err := s.views.EachSegmentMember(s.t.Context(), name, asOf, func(m SegmentMember) error {
		c := s.customer(m.Customer.String(), At{})
		users = append(users, c.Subjects[0])
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
	slices.Sort(users)
	return users
}

// turns are the statements about segments of a customer, in the order in which they
// were made; those withdrawn follow the word withdrawn.
func (s *site) turns(id uuid.UUID) (all []string) {
	s.t.Helper()
	for e, err := range s.store.ReadStream(s.t.Context(), domain.StatementStream(id), 0, eventstore.Forwards) {
		if errors.Is(err, eventstore.ErrStreamNotFound) {
			break
		}
		if err != nil {
			s.t.Fatal(err)
		}
		switch e.Type {
		case domain.TypeSegmentEntered, domain.TypeSegmentLeft:
			var st Statement
			if err := json.Unmarshal(e.Data, &st); err != nil {
				s.t.Fatal(err)
			}
			at, _ := time.Parse(time.RFC3339, st.At)
			cause, _, _ := strings.Cut(st.Cause, ":")
			all = append(all, fmt.Sprintf("%s %s day %d by %s news %t", st.Segment, strings.TrimPrefix(e.Type, "segment."), (domain.MillisOf(at)-day0)/domain.Day, cause, st.News))
		case domain.TypeSegmentWithdrawn:
			var w Withdrawal
			if err := json.Unmarshal(e.Data, &w); err != nil {
				s.t.Fatal(err)
			}
			all = append(all, fmt.Sprintf("withdrawn %d", len(w.Revisions)))
		}
	}
	return all
}

func (s *site) expect(what string, got []string, want ...string) {
	s.t.Helper()
	if !slices.Equal(got, want) {
		s.t.Errorf("%s:\n%s\nnot\n%s", what, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// now lets the views come to a day.
func (s *site) now(days domain.Millis) {
	s.t.Helper()
	at := day0 + days*domain.Day
	s.clock.set(at)
	s.until(fmt.Sprintf("day %d", days), func() bool { return s.views.Status().Clock >= at })
}

// A segment is computed over the whole log and restated; from then on who enters and
// leaves is news, found as the log goes on and as time passes.
func TestSegments(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.clock.set(day0 + 10*domain.Day)
	s.send(bought("o1", "ada", day0, 10), bought("o2", "ada", day0+5*domain.Day, 10), bought("o3", "bob", day0+9*domain.Day, 10))
	ada, bob := s.customer("user:ada", At{}).ID, s.customer("user:bob", At{}).ID
	s.segment("buyers", `count(meaning("purchase"), duration("30d")) >= 2`)
	s.expect("at first", s.members("buyers", time.Time{}), "user:ada")
	s.expect("said of ada", s.turns(ada), "buyers entered.v1 day 5 by touchpoint news false")

	s.send(bought("o4", "bob", day0+10*domain.Day, 10))
	s.expect("said of bob", s.turns(bob), "buyers entered.v1 day 10 by touchpoint news true")
	s.now(31)
	s.expect("said of ada", s.turns(ada), "buyers entered.v1 day 5 by touchpoint news false", "buyers left.v1 day 30 by deadline news true")
	s.expect("on day 31", s.members("buyers", time.Time{}), "user:bob")
	s.expect("on day 7", s.members("buyers", (day0+7*domain.Day).Time()), "user:ada")
	// What comes late changes the past; it is news where it changes what stands now.
	s.send(bought("o5", "ada", day0+2*domain.Day, 10))
	said := []string{
		"buyers entered.v1 day 5 by touchpoint news false", "buyers left.v1 day 30 by deadline news true",
		"withdrawn 2", "buyers entered.v1 day 2 by touchpoint news true",
	}
	s.expect("said of ada", s.turns(ada), said...)
	s.now(33)
	said = append(said, "buyers left.v1 day 32 by deadline news true")
	s.expect("said of ada", s.turns(ada), said...)
	s.send(bought("o6", "ada", day0+1*domain.Day, 10))
	s.expect("said of ada", s.turns(ada), append(said, "withdrawn 1", "buyers entered.v1 day 1 by touchpoint news false")...)
	s.expect("sizes", s.rows("SELECT concat(toString(day), ' ', toString(entries), ' ', toString(exits), ' ', toString(members)) AS x FROM segment_sizes ORDER BY day"),
		"2026-01-02 1 0 1", "2026-01-11 1 0 2", "2026-02-02 0 1 1")
	if v := s.verify(); !v.Equal() {
		t.Errorf("verify finds %+v", v)
	}
}

// Segments may name others, but not in a circle, and not what is not there.
func TestSegmentsThatNameOthers(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.clock.set(day0 + 10*domain.Day)
	s.send(bought("o1", "ada", day0, 10), bought("o2", "bob", day0+9*domain.Day, 10))
	s.segment("all", `true`)
	s.segment("fresh", `since(last(meaning("purchase"))) < duration("5d")`)
	s.segment("stale", `in_segment("all") && !in_segment("fresh")`)
	s.expect("stale", s.members("stale", time.Time{}), "user:ada")
	s.now(14)
	s.expect("stale on day 14", s.members("stale", time.Time{}), "user:ada", "user:bob")
	for text, says := range map[string]string{
		`in_segment("stale")`:               "circle: all → stale → all",
		`in_segment("all")`:                 "circle: all → all",
		`in_segment("gone")`:                `line 1, column 12: there is no segment "gone"`,
		`stage == "first"`:                  "line 1, column 10",
		`stage == "loyal" && points("x")>1`: `no programme "x"`,
	} {
		_, _, err := s.views.ApplySegment(t.Context(), SegmentProposal{SegmentDocument: SegmentDocument{Name: "all", Condition: text}})
		var wrong *SegmentError
		if !errors.As(err, &wrong) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", text, err)
		}
	}
	var wrong *SegmentError
	if err := s.views.DeleteSegment(t.Context(), SegmentProposal{SegmentDocument: SegmentDocument{Name: "fresh"}}); !errors.As(err, &wrong) {
		t.Errorf("a segment that another names is deleted: %v", err)
	}
	if err := s.views.DeleteSegment(t.Context(), SegmentProposal{SegmentDocument: SegmentDocument{Name: "none"}}); !errors.Is(err, ErrNoSegment) {
		t.Errorf("nothing is deleted: %v", err)
	}
	// Those of triggers are theirs alone.
	const theirs = "trigger.quiet"
	for _, owner := range []string{"", "other", "quiet"} {
		p := SegmentProposal{SegmentDocument: SegmentDocument{Name: theirs, Condition: "true"}, Trigger: owner}
		if _, applied, err := s.views.ApplySegment(t.Context(), p); applied != (owner == "quiet") || errors.As(err, &wrong) == applied {
			t.Errorf("%s applied by %q: %t, %v", theirs, owner, applied, err)
		}
	}
	s.until("the segment of the trigger", func() bool {
		in, err := s.views.Segment(theirs)
		return err == nil && in.Built && s.views.Status().Ready
	})
	s.expect(theirs, s.members(theirs, time.Time{}), s.members("all", time.Time{})...)
	for _, owner := range []string{"", "other", "quiet"} {
		p := SegmentProposal{SegmentDocument: SegmentDocument{Name: theirs}, Trigger: owner}
		if err := s.views.DeleteSegment(t.Context(), p); (err == nil) != (owner == "quiet") {
			t.Errorf("%s deleted by %q: %v", theirs, owner, err)
		}
	}
	// The same again changes nothing.
	if _, applied, err := s.views.ApplySegment(t.Context(), SegmentProposal{SegmentDocument: SegmentDocument{Name: "all", Condition: " true\n"}}); applied || err != nil {
		t.Errorf("the same again: %t, %v", applied, err)
	}
}

// Segments stay over restarts, rebuilds and policies; a deleted one is withdrawn.
func TestSegmentsStay(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.clock.set(day0 + 10*domain.Day)
	s.send(bought("o1", "ada", day0, 10), bought("o2", "ada", day0+5*domain.Day, 10), bought("o3", "bob", day0+9*domain.Day, 10))
	ada := s.customer("user:ada", At{}).ID
	s.segment("loyal", `stage == "loyal"`)
	s.segment("spenders", `sum(meaning("purchase"), "EUR") >= 20 && satisfaction == "unknown"`)
	s.expect("loyal", s.members("loyal", time.Time{}))
	s.expect("spenders", s.members("spenders", time.Time{}), "user:ada")
	s.stop()
	s.start()
	s.until("the views", func() bool { return s.views.Status().Ready })
	s.expect("spenders after a restart", s.members("spenders", time.Time{}), "user:ada")
	s.applyNow(Proposal{Policy: loyalAfter(2)}, 2, true)
	s.under(2)
	s.tidy()
	s.until("the statements", func() bool { return s.views.Status().Ready })
	s.expect("loyal under the policy", s.members("loyal", time.Time{}), "user:ada")
	if err := s.views.Rebuild(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	s.tidy()
	s.expect("spenders after a rebuild", s.members("spenders", time.Time{}), "user:ada")
	said := []string{"spenders entered.v1 day 5 by touchpoint news false", "loyal entered.v1 day 5 by touchpoint news false"}
	s.expect("said", s.turns(ada), said...)
	if err := s.views.DeleteSegment(t.Context(), SegmentProposal{SegmentDocument: SegmentDocument{Name: "spenders"}}); err != nil {
		t.Fatal(err)
	}
	s.until("the segment to be gone", func() bool { return len(s.turns(ada)) > len(said) })
	s.expect("said", s.turns(ada), append(said, "withdrawn 1")...)
	s.tidy()
	if got := s.rows("SELECT segment AS x FROM segment_members"); !slices.Equal(got, []string{"loyal"}) {
		t.Errorf("members of %v", got)
	}
	if v := s.verify(); !v.Equal() {
		t.Errorf("verify finds %+v", v)
	}
	// A segment that is not built yet when the server stops is built at the next start.
	late := SegmentProposal{SegmentDocument: SegmentDocument{Name: "late", Condition: `in_segment("loyal")`}}
	if _, _, err := s.views.ApplySegment(t.Context(), late); err != nil {
		t.Fatal(err)
	}
	s.stop()
	s.start()
	s.until("the late segment", func() bool {
		in, err := s.views.Segment("late")
		return err == nil && in.Built
	})
	s.expect("late", s.members("late", time.Time{}), "user:ada")
}

// Questions that fold by themselves go on beside segments: what was known, previews and
// commands about points.
func TestBesideSegments(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.clock.set(day0 + 10*domain.Day)
	s.send(bought("o1", "ada", day0, 10), bought("o2", "ada", day0+5*domain.Day, 10))
	s.segment("buyers", `count(meaning("purchase")) >= 2 && points("`+s.views.latest().book.Programmes()[0].ID+`") >= 0`)
	s.now(12)
	before := s.customer("user:ada", At{KnownAt: (day0 + 10*domain.Day).Time()})
	if before.Stage != s.customer("user:ada", At{}).Stage {
		t.Errorf("known at the time: %+v", before)
	}
	if run := s.preview(loyalAfter(2)); run.State != "done" || run.Report.Lifecycle.Cells == nil {
		t.Errorf("the preview: %+v", run)
	}
	if n, err := s.views.Stages(t.Context(), At{KnownAt: (day0 + 11*domain.Day).Time()}); err != nil || n.Customers != 1 {
		t.Errorf("stages by what was known: %+v, %v", n, err)
	}
	result := s.must(CommandRequest{
		Command: "adjust", Customer: "user:ada", Programme: s.views.latest().book.Programmes()[0].ID, Points: 7, Reason: "kindness", Author: "ann", Key: "k1",
	})
	s.wait(result.Position)
	s.expect("buyers", s.members("buyers", time.Time{}), "user:ada")
	if v := s.verify(); !v.Equal() {
		t.Errorf("verify finds %+v", v)
	}
}

// What the views keep, what a condition is asked of one customer and its SQL agree.
func TestSegmentsAgree(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.clock.set(day0 + 100*domain.Day)
	messages := []sent{
		{id: "i1", kind: domain.Identify, user: "ada", at: day0, traits: `{"plan":"pro","size":123456789012345678901234567890}`},
		{id: "i2", kind: domain.Identify, user: "bob", at: day0, traits: `{"plan":"\ud800","age":41.5}`},
		{id: "i3", kind: domain.Identify, user: "bob", at: day0 + 50*domain.Day, traits: `{"age":43}`},
		{id: "g1", kind: domain.Group, user: "cyd", at: day0, group: "acme"},
		{id: "s1", kind: domain.Track, name: "NPS Answered", user: "cyd", at: day0, properties: `{"score":1}`},
	}
	for i, user := range []string{"ada", "bob", "cyd", "dan", "ada", "bob", "ada"} {
		messages = append(messages, bought(fmt.Sprint("o", i), user, day0+domain.Millis(20*i)*domain.Day, 10*i))
	}
	s.send(messages[:len(messages)-1]...)
	conditions := []string{
		`traits.plan == "pro"`, `traits.size > 1`, `traits.age > 42`, `traits.plan.startsWith("\ufffd")`, `has(traits.age)`, `in_account("acme")`,
		`satisfaction_index < 50`, `open_complaints == 0`, `count(meaning("purchase"), duration("60d")) >= 1`,
		`sum(named("Order Completed"), "EUR", duration("90d")) >= 50`, `stage in ["repeat", "at_risk"]`, `since(stage_since) > duration("30d")`,
		`since(first(meaning("purchase"))) < duration("50d")`, `points("default") > 40 || tier("default") == "gold"`, `expiring("default", duration("290d")) >= 10`, `in_segment("s0") || in_segment("s2")`,
	}
	for i, text := range conditions {
		p := SegmentProposal{SegmentDocument: SegmentDocument{Name: fmt.Sprint("s", i), Condition: text}}
		if strings.Contains(text, "default") {
			p.Condition = strings.ReplaceAll(text, "default", s.views.latest().book.Programmes()[0].ID)
		}
		if strings.Contains(p.Condition, `"gold"`) {
			tiers := s.views.ConditionEnv(false).Programmes[s.views.latest().book.Programmes()[0].ID]
			p.Condition = strings.ReplaceAll(p.Condition, "gold", tiers[len(tiers)-1])
		}
		if _, _, err := s.views.ApplySegment(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	s.until("the segments", func() bool {
		return s.views.Status().Ready && !slices.ContainsFunc(s.views.Segments(), func(in Segment) bool { return !in.Built })
	})
	s.tidy()
	at := s.views.Status().Clock
	customers := s.rows("SELECT customer_id AS x FROM customers ORDER BY x")
	some := 0
	for _, in := range s.views.Segments() {
		c, err := condition.Compile(in.Condition, s.views.ConditionEnv(false))
		if err != nil {
			t.Fatal(err)
		}
		sql, err := c.SQL(at)
		if err != nil {
			t.Fatal(err)
		}
		kept := s.rows("SELECT customer_id AS x FROM segment_members WHERE segment = '" + in.Name + "' ORDER BY x")
		s.expect(in.Condition+" in SQL", s.rows("SELECT customer_id AS x FROM ("+sql+") ORDER BY x"), kept...)
		var asked []string
		for _, id := range customers {
			w, err := s.views.Whole(t.Context(), uuid.MustParse(id), At{}, c.Needs())
			if err != nil {
				t.Fatal(err)
			}
			if member, _ := c.Eval(w.Facts, at, nil); member {
				asked = append(asked, id)
			}
		}
		s.expect(in.Condition+" in Go", asked, kept...)
		if len(kept) > 0 {
			some++
		}
	}
	if some < 12 {
		t.Errorf("only %d segments have members", some)
	}
	// What no segment keeps is read from the log.
	c, err := condition.Compile(`count(named("Order Completed"), duration("7d")) == 1 && traits.plan == "pro" && in_segment("s0")`, condition.Env{})
	if err != nil {
		t.Fatal(err)
	}
	ada := s.customer("user:ada", At{}).ID
	w, err := s.views.Whole(t.Context(), ada, At{}, &condition.Needs{Touchpoints: c.Needs().Touchpoints, Traits: []string{"plan", "other"}, Segments: []string{"s0"}})
	if err != nil {
		t.Fatal(err)
	}
	if member, next := c.Eval(w.Facts, day0+80*domain.Day, nil); !member || next != day0+87*domain.Day {
		t.Errorf("read from the log: %t until %s", member, next)
	}
}
