package projections

import (
	"fmt"
	"testing"

	"sojourn/domain"
	"sojourn/domain/policy"
)

// BenchmarkPreview previews a policy over a million events of 100,000 customers,
// each a user and a visitor, a third of whom has bought: once with other lengths of
// stages, once with other customers as well.
func BenchmarkPreview(b *testing.B) {
	const n, customers = 1_000_000, 100_000
	s := newSite(b)
	s.clock.set(day0)
	s.fill(n, func(i int) sent {
		who := int(uint64(i) * 0x9e3779b97f4a7c15 >> 33 % customers)
		m := sent{
			id: fmt.Sprint("m", i), kind: domain.Track, name: "Product Viewed", user: fmt.Sprint("u", who),
			at:         day0 - domain.Millis(n-i)*10_000,
			properties: `{"product_id":"p1","sku":"sku-1","category":"Books","name":"A long enough name of a product","price":19.99,"quantity":1,"url":"https://shop.example/p/1"}`,
		}
		switch i % 20 {
		case 0:
			m.kind, m.name, m.anon, m.traits = domain.Identify, "", fmt.Sprint("a", who), fmt.Sprintf(`{"email":"u%d@example.com","plan":"free","name":"Somebody"}`, who)
		case 1:
			m.name = "Order Completed"
			m.properties = fmt.Sprintf(`{"order_id":"o%d","total":%d.50,"currency":"EUR"}`, i, i%100)
		case 2, 3:
			m.user, m.anon = "", fmt.Sprint("a", who)
		}
		return m
	})
	s.clock.set(day0 + 30*domain.Day)
	s.until("the clock", func() bool {
		st := s.views.Status()
		return st.LagEvents == 0 && st.Clock == day0+30*domain.Day
	})
	stages := policy.Default()
	stages.Lifecycle.AtRiskDays, stages.Lifecycle.LoyalPurchases = 30, 2
	identity := stages
	identity.Identity.Join = []string{"user", "email"}
	for name, p := range map[string]policy.Policy{"stages": stages, "identity": identity} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				run, err := s.views.StartPreview(p)
				if err != nil {
					b.Fatal(err)
				}
				s.views.previews.work.Wait()
				if run, err = s.views.Preview(run.ID); err != nil || run.State != PreviewDone {
					b.Fatalf("%+v, %v", run, err)
				}
			}
			b.ReportMetric(n*float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}
