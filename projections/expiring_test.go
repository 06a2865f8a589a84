package projections

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"sojourn/condition"
	"sojourn/domain"
	"sojourn/domain/loyalty"
	"sojourn/domain/policy"
)

// How many points expire soon is, at every instant, what a fold up to that instant
// leaves of the lots which expire by then.
func TestExpiringSteps(t *testing.T) {
	some := 0
	rapid.Check(t, func(t *rapid.T) {
		var messages, commands []sent
		for _, m := range drawOrder(t, drawMessages(t)) {
			switch {
			case m.command != nil:
				commands = append(commands, m)
			case m.isMessage():
				messages = append(messages, m)
			}
		}
		rules := testRules()
		facts, _ := factsOf(messages, commands, rules)
		within := domain.Millis(rapid.SampledFrom([]int64{1, int64(domain.Day), int64(30 * domain.Day), int64(400 * domain.Day)}).Draw(t, "within"))
		at := day0 + domain.Millis(rapid.Int64Range(-5, 800).Draw(t, "at"))*domain.Day
		for _, p := range rules.book.Programmes() {
			l := loyalty.Fold(facts, p, at)
			s := condition.Subject{Expiring: map[condition.Expiring][]condition.Step[int64]{{}: expiringSteps(&l, within)}}
			times := []domain.Millis{at, at - domain.Millis(rapid.Int64Range(0, int64(700*domain.Day)).Draw(t, "earlier"))}
			for _, step := range s.Expiring[condition.Expiring{}] {
				times = append(times, step.At, step.At-1)
			}
			for _, when := range times {
				// Behind the fold only time goes on.
				if when > at && (when >= l.Next || when >= facts.After(at)) {
					continue
				}
				var want int64
				then := loyalty.Fold(facts, p, when)
				for i := range then.Lots {
					if lot := &then.Lots[i]; lot.Expires != policy.Never && lot.Expires <= when+within {
						want += lot.Available + lot.Pending
					}
				}
				if want > 0 {
					some++
				}
				if got := s.ExpiringAt(condition.Expiring{}, when); got != want {
					t.Fatalf("%s, folded at %s, within %d: at %s %d points expire, not %d", p.ID, at, within, when, got, want)
				}
			}
		}
	})
	if some < 20 {
		t.Errorf("only %d times did points expire", some)
	}
}

// A segment holds who has points that expire soon, from that instant to the one at which
// they are spent or gone; that of a trigger is no other.
func TestSegmentOfExpiringPoints(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	programme := s.views.latest().book.Programmes()[0].ID
	doc := SegmentDocument{Name: "soon", Condition: `expiring("` + programme + `", duration("30d")) >= 1`}
	s.clock.set(day0 + 10*domain.Day)
	s.send(buy("o1", "ada", day0, "10"), buy("o2", "bob", day0+5*domain.Day, "10"), buy("o3", "cleo", day0+6*domain.Day, "10"))
	ada, bob, cleo := s.customer("user:ada", At{}).ID, s.customer("user:bob", At{}).ID, s.customer("user:cleo", At{}).ID
	of := SegmentProposal{SegmentDocument: SegmentDocument{Name: domain.TriggerSegment("soon"), Condition: doc.Condition}, Trigger: "soon"}
	for _, p := range []SegmentProposal{{SegmentDocument: doc}, of} {
		if _, _, err := s.views.ApplySegment(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	s.until("the segments", func() bool {
		in, err := s.views.Segment(of.Name)
		return err == nil && in.Built && s.views.Status().Ready
	})
	c, err := condition.Compile(doc.Condition, s.views.ConditionEnv(false))
	if err != nil {
		t.Fatal(err)
	}
	within := func(when string, want ...string) {
		t.Helper()
		s.expect(when, s.members(doc.Name, time.Time{}), want...)
		s.expect(when+", by the trigger", s.members(of.Name, time.Time{}), want...)
		sql, err := c.SQL(s.views.Status().Clock)
		if err != nil {
			t.Fatal(err)
		}
		in := s.rows("SELECT toString(arrayElement(user_ids, 1)) AS x FROM customers WHERE customer_id IN (" + sql + ") ORDER BY x")
		for i := range in {
			in[i] = "user:" + in[i]
		}
		s.expect(when+", in SQL", in, want...)
	}
	s.now(334)
	within("a month and a day before")
	s.now(338)
	within("within the month", "user:ada")
	s.now(350)
	within("later", "user:ada", "user:bob", "user:cleo")
	s.wait(s.must(redeem("user:bob", 10, "k")).Position)
	s.tidy()
	within("bob has spent his", "user:ada", "user:cleo")
	s.now(366)
	s.expect("said of ada", s.turns(ada), "soon entered.v1 day 335 by deadline news true", "trigger.soon entered.v1 day 335 by deadline news true", "soon left.v1 day 365 by deadline news true", "trigger.soon left.v1 day 365 by deadline news true")
	s.expect("said of bob", s.turns(bob), "soon entered.v1 day 340 by deadline news true", "trigger.soon entered.v1 day 340 by deadline news true", "soon left.v1 day 350 by touchpoint news true", "trigger.soon left.v1 day 350 by touchpoint news true")
	s.expect("said of cleo", s.turns(cleo), "soon entered.v1 day 341 by deadline news true", "trigger.soon entered.v1 day 341 by deadline news true")
	if v := s.verify(); !v.Equal() {
		t.Errorf("verify finds %+v", v)
	}
}
