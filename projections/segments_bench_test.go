package projections

import (
	"fmt"
	"testing"

	"sojourn/domain"
	"sojourn/domain/customer"
	"sojourn/domain/lifecycle"
	"sojourn/domain/policy"
)

// BenchmarkSegmentLines computes twenty segments of one customer, which is what a flush
// costs for each customer that has changed.
func BenchmarkSegmentLines(b *testing.B) {
	h := segmentHistory{logger: discard}
	for i := range 20 {
		condition := []string{
			`count(meaning("purchase"), duration("30d")) >= %d`, `sum(meaning("purchase"), "EUR", duration("90d")) > %d`,
			`since(last(meaning("purchase"))) >= duration("%dd")`, `stage == "loyal" && traits.plan == "pro%d"`, `satisfaction == "unhappy" && open_complaints < %d`,
		}[i%5]
		h.events = append(h.events, segmentEvent{SegmentDocument: SegmentDocument{Name: fmt.Sprint("s", i), Condition: fmt.Sprintf(condition, i+1)}})
	}
	rules := testRules().with(&h, len(h.events))
	for _, n := range []int{5, 1000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var facts customer.Facts
			own := &segmentFacts{}
			for i := range n {
				m := bought(fmt.Sprint("o", i), "u", day0+domain.Millis(i)*domain.Day*400/domain.Millis(n), 10)
				header := m.header()
				touch := rules.touch(&header, refOf(m), policy.Rule{Meaning: policy.Purchase}, m.data())
				facts.Add(&touch, rules.book)
				if s := rules.segments.touch(rules, &header, policy.Rule{Meaning: policy.Purchase}, &touch, ""); s != nil {
					own.add(refOf(m), s, rules.segments)
				}
			}
			lifecycle.Transitions(&facts.Lifecycle, rules.Policy.Lifecycle, rules.Policy.Currency) // in order
			basis := &basis{&facts.Loyalty, &facts.Satisfaction, &segmentBasis{&facts.Lifecycle, own}}
			b.ReportAllocs()
			for b.Loop() {
				rules.segmentLines(basis, day0+500*domain.Day, nil)
			}
		})
	}
}
