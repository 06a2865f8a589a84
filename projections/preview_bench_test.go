package projections

import (
	"fmt"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"sojourn/domain"
	"sojourn/domain/policy"
	"sojourn/eventstore"
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
	// As a server has it: the default interval of flushes.
	s.stop()
	var err error
	s.views, err = Start(b.Context(), Config{Store: s.store, DB: s.db, Keyer: testKeyer, Dir: s.dir, Now: s.clock.now, Logger: discard})
	if err != nil {
		b.Fatal(err)
	}
	s.until("the views", func() bool { st := s.views.Status(); return st.Ready && st.LagEvents == 0 })
	stages := policy.Default()
	stages.Lifecycle.AtRiskDays, stages.Lifecycle.LoyalPurchases = 30, 2
	identity := stages
	identity.Identity.Join = []string{"user", "email"}
	preview := func(b *testing.B, p policy.Policy) {
		run, err := s.views.StartPreview(p, time.Time{})
		if err != nil {
			b.Fatal(err)
		}
		s.views.previews.work.Wait()
		if run, err = s.views.Preview(run.ID); err != nil || run.State != PreviewDone {
			b.Fatalf("%+v, %v", run, err)
		}
	}
	for name, p := range map[string]policy.Policy{"stages": stages, "identity": identity} {
		b.Run(name, func(b *testing.B) {
			used := processorTime(b)
			for b.Loop() {
				preview(b, p)
			}
			b.ReportMetric((processorTime(b)-used).Seconds()/float64(b.N), "cpu-s/op")
			b.ReportMetric(n*float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
	// What the preview costs those who append a thousand events a second meanwhile,
	// in turns with what it costs them without.
	b.Run("appending", func(b *testing.B) {
		var with, without []time.Duration
		sent := 0
		for b.Loop() {
			started := time.Now()
			with = append(with, s.appending(&sent, func() { preview(b, stages) })...)
			took := time.Since(started)
			without = append(without, s.appending(&sent, func() { <-time.After(took) })...)
		}
		b.ReportMetric(p99(with).Seconds()*1000, "p99-ms")
		b.ReportMetric(p99(without).Seconds()*1000, "p99-ms-without")
	})
}

// appending appends a thousand events a second while something is done, and returns
// how long each took from the instant it was due.
func (s *site) appending(sent *int, do func()) []time.Duration {
	done := make(chan struct{})
	go func() {
		defer close(done)
		do()
	}()
	var mu sync.Mutex
	var took []time.Duration
	var work sync.WaitGroup
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	due := time.Now()
	for {
		select {
		case <-done:
			work.Wait()
			return took
		case now := <-tick.C:
			for ; due.Before(now); due = due.Add(time.Millisecond) {
				*sent++
				stream, e := bought(fmt.Sprint("live", *sent), fmt.Sprint("u", *sent%1000), day0, 1).event()
				at := due
				work.Go(func() {
					if _, err := s.store.Append(s.t.Context(), stream, eventstore.Any{}, e); err != nil {
						s.t.Error(err)
					}
					d := time.Since(at)
					mu.Lock()
					took = append(took, d)
					mu.Unlock()
				})
			}
		}
	}
}

// processorTime is what this process has used so far.
func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func p99(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)*99/100]
}
