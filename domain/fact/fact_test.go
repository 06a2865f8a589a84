package fact_test

import (
	"os"
	"regexp"
	"slices"
	"testing"

	"github.com/google/uuid"

	"sojourn/domain/fact"
)

// One cause gives one delivery, whatever found it and whoever the customer is.
func TestOneCauseIsOneDelivery(t *testing.T) {
	touchpoint := uuid.New()
	a := fact.Change{Type: "stage.entered", From: "lead", To: "loyal", At: 1, Reason: "x", Cause: "touchpoint:" + touchpoint.String()}
	b := a
	b.From, b.At, b.Reason = "visitor", 2, "y"
	if fact.DeliveryID("t", "webhook", a.Key()) != fact.DeliveryID("t", "webhook", b.Key()) {
		t.Error("where it came from makes another delivery")
	}
	for name, other := range map[string]fact.Change{
		"what it leads to": {Type: a.Type, To: "at_risk", Cause: a.Cause},
		"the kind":         {Type: "tier.entered", To: a.To, Cause: a.Cause},
		"the cause":        {Type: a.Type, To: a.To, Cause: "deadline:churned:" + touchpoint.String()},
		"the programme":    {Type: a.Type, To: a.To, Cause: a.Cause, Programme: "p"},
	} {
		if other.Key() == a.Key() {
			t.Errorf("%s makes no difference", name)
		}
		if id, ok := other.Touchpoint(); !ok || id != touchpoint {
			t.Errorf("%s: the touchpoint is %s, %v", name, id, ok)
		}
	}
	if fact.DeliveryID("t", "webhook", a.Key()) == fact.DeliveryID("t", "email", a.Key()) {
		t.Error("another action is the same delivery")
	}
}

func TestFactsOfOneDelivery(t *testing.T) {
	id := uuid.New()
	planned := fact.Fact{Kind: fact.Planned, Delivery: id, Change: &fact.Change{}}
	refused := fact.Fact{Kind: fact.Suppressed, Delivery: id, Change: &fact.Change{}, Reason: fact.Once}
	if planned.ID() != refused.ID() {
		t.Error("a cause can be decided on twice")
	}
	later := fact.Fact{Kind: fact.Suppressed, Delivery: id, Reason: fact.Paused}
	first, second := fact.Fact{Kind: fact.Attempted, Delivery: id, Number: 1}, fact.Fact{Kind: fact.Attempted, Delivery: id, Number: 2}
	again := fact.Fact{Kind: fact.Planned, Delivery: id, Round: 1, Change: &fact.Change{}}
	seen := map[uuid.UUID]bool{}
	for _, f := range []fact.Fact{planned, later, first, second, again} {
		if seen[f.ID()] {
			t.Errorf("%+v has the id of another", f)
		}
		seen[f.ID()] = true
		kind, ok := fact.KindOf(f.Kind.Type())
		back, err := fact.Decode(kind, f.Encode())
		if !ok || err != nil || back.ID() != f.ID() {
			t.Errorf("%+v is read as %+v: %v", f, back, err)
		}
	}
	dead := fact.Fact{Kind: fact.Failed, Delivery: id, Number: 2, Dead: true}
	third := fact.Fact{Kind: fact.Attempted, Delivery: id, Round: 1, Number: 1}
	stale := fact.Fact{Kind: fact.Suppressed, Delivery: id, Change: &fact.Change{}, Reason: fact.Stale}
	planned.Round, planned.Arm = 0, fact.Treated
	var h fact.History
	for i, f := range []fact.Fact{stale, planned, first, second, dead, again, third} {
		h.Add(&fact.Entry{Fact: f, Position: uint64(i + 1)})
	}
	if d := h.Delivery(id); d.Total != 3 || d.Attempts != 1 || d.Arm != fact.Treated {
		t.Errorf("after a sending by hand: %d attempts, %d of the round, arm %q", d.Total, d.Attempts, d.Arm)
	}
	subject := uuid.New()
	if got, ok := fact.Subject(fact.Stream(subject)); !ok || got != subject {
		t.Errorf("the subject of %s is %s", fact.Stream(subject), got)
	}
	if _, ok := fact.Subject("automation_engine"); ok {
		t.Error("the stream of the lease is one of facts")
	}
}

func TestReasons(t *testing.T) {
	text, err := os.ReadFile("fact.go")
	if err != nil {
		t.Fatal(err)
	}
	var all []fact.Reason
	for _, m := range regexp.MustCompile(`Reason = "(\w+)"`).FindAllStringSubmatch(string(text), -1) {
		all = append(all, fact.Reason(m[1]))
	}
	if !slices.Equal(fact.Reasons, all) {
		t.Errorf("the reasons are %v, not %v", all, fact.Reasons)
	}
}
