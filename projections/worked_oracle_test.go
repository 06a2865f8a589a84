package projections

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"sojourn/domain"
	"sojourn/domain/commerce"
	"sojourn/domain/policy"
	naive "sojourn/internal/oracle"
)

// oracleWorld is a world that answers from the log, anew for every question.
type oracleWorld struct {
	log naive.Log
	now domain.Millis
}

var standardNames = policy.Default().Compile()

// touchpointOf is a message as the oracle takes it, read by the standard names.
func touchpointOf(m told) *naive.Touchpoint {
	h := m.header()
	var said struct {
		Properties json.RawMessage            `json:"properties"`
		Traits     map[string]json.RawMessage `json:"traits"`
	}
	if err := json.Unmarshal(m.data(), &said); err != nil {
		panic(err) // the test wrote it wrong
	}
	meaning := standardNames.Classify(h.Kind, h.Source, h.Name).Meaning
	return &naive.Touchpoint{
		Kind: h.Kind, User: h.UserID, Anon: h.AnonymousID, Previous: h.PreviousID, OccurredAt: h.OccurredAt,
		Device: m.device, ExternalIDs: m.external, Traits: said.Traits,
		Meaning: meaning, Order: commerce.Read(meaning, property(string(said.Properties))),
	}
}

func subjectsOf(refs []string) []domain.Subject {
	var all []domain.Subject
	for _, ref := range refs {
		all = append(all, subjectOf(ref))
	}
	return all
}

func (w *oracleWorld) clock(t domain.Millis) { w.now = t }

func (w *oracleWorld) record(e naive.Event) {
	e.RecordedAt = w.now
	if e.ID == uuid.Nil {
		e.ID = domain.EventID("oracle", fmt.Sprint(len(w.log)))
	}
	w.log = append(w.log, e)
}

func (w *oracleWorld) send(m told) {
	w.record(naive.Event{ID: domain.EventID("test", m.id), Touchpoint: touchpointOf(m)})
}

func (w *oracleWorld) apply(p naive.Policy) { w.record(naive.Event{Policy: &p}) }

func (w *oracleWorld) merge(subjects []string, _, _ string) {
	w.record(naive.Event{Merge: w.log.MergeOf(subjectsOf(subjects)...)})
}

func (w *oracleWorld) split(subjects []string, from, _, _ string) {
	var froms []domain.Subject
	if from != "" {
		froms = append(froms, subjectOf(from))
	}
	w.record(naive.Event{Split: w.log.SplitOf(subjectsOf(subjects), froms...)})
}

func (w *oracleWorld) customer(ref string, at At) (Customer, bool) {
	log, asOf := w.log, w.now
	if !at.KnownAt.IsZero() {
		asOf = domain.MillisOf(at.KnownAt)
		log = log.KnownAt(asOf)
	}
	if !at.AsOf.IsZero() {
		asOf = domain.MillisOf(at.AsOf)
	}
	for _, a := range log.Customers(asOf) {
		var c Customer
		asked := false
		for _, s := range a.Subjects {
			id := domain.SubjectID(testKeyer.Stream(s))
			if c.Subjects == nil {
				c.ID = id
			}
			c.Subjects = append(c.Subjects, s.String())
			asked = asked || s.String() == ref || id.String() == ref
		}
		if !asked {
			continue
		}
		c.Stage, c.StageSince = string(a.Stage), a.StageSince.Time()
		c.Purchases, c.Refunds = a.Totals.Purchases, a.Totals.Refunds
		c.FirstSeen, c.LastSeen = a.FirstSeen.Time(), a.LastSeen.Time()
		c.Revenue, c.Traits = map[string]string{}, map[string]json.RawMessage{}
		for currency, amount := range a.Totals.Revenue {
			c.Revenue[currency] = amount.String()
		}
		for key, value := range a.Traits {
			c.Traits[key] = json.RawMessage(value)
		}
		c.AsOf = asOf.Time()
		return c, true
	}
	return Customer{}, false
}

func (w *oracleWorld) stages(ref string) []string {
	a, _ := w.log.Customer(subjectOf(ref), w.now)
	var all []string
	for _, tr := range a.Transitions {
		all = append(all, string(tr.To)+" "+tr.At.String())
	}
	return all
}

func (w *oracleWorld) outcomes(a, b string) []string {
	var all []string
	for _, j := range w.log.Identity().Joins {
		if hub, other := j.Hub.String(), j.Other.String(); hub == a && other == b || hub == b && other == a {
			all = append(all, string(j.Outcome))
		}
	}
	return all
}

func (w *oracleWorld) conflicts() []string {
	var all []string
	for _, j := range w.log.Identity().Joins {
		if j.Outcome == naive.Conflict {
			all = append(all, j.Hub.String()+" - "+j.Other.String())
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}
