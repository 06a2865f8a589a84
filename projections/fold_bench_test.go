package projections

import (
	"context"
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sync/errgroup"

	"sojourn/domain"
	"sojourn/eventstore"
	"sojourn/eventstore/pebblestore"
)

// dropped takes all rows and keeps none.
type dropped struct{ NullSink }

func (dropped) WantsTouchpoints() bool { return true }

// BenchmarkFold folds a log of 600,000 touchpoints of 100,000 customers into
// nothing. Its share of a bare read of the log is what docs/performance.md has.
func BenchmarkFold(b *testing.B) {
	const n, customers = 600_000, 100_000
	var c clock
	c.set(day0)
	store, err := pebblestore.Open("log", pebblestore.Options{FS: vfs.NewMem(), Now: c.now})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	parts := make([]eventstore.Append, 0, 1000)
	for i := range n {
		who := int(uint64(i) * 0x9e3779b97f4a7c15 >> 33 % customers)
		m := sent{
			id: fmt.Sprint("m", i), kind: domain.Track, name: "Product Viewed", user: fmt.Sprint("u", who),
			anon: fmt.Sprint("a", who), at: day0 - domain.Millis(n-i)*10_000,
			properties: `{"product_id":"p1","sku":"sku-1","category":"Books","name":"A long enough name of a product","price":19.99,"quantity":1,"url":"https://shop.example/p/1"}`,
		}
		switch i % 20 {
		case 0:
			m.kind, m.traits = domain.Identify, fmt.Sprintf(`{"email":"a%d@example.com","plan":"free","name":"Somebody"}`, who)
		case 1:
			m.name = "Order Completed"
			m.properties = fmt.Sprintf(`{"order_id":"o%d","total":%d.50,"currency":"EUR"}`, i, i%100)
		case 2, 3:
			m.user = ""
		}
		stream, e := m.event()
		parts = append(parts, eventstore.Append{Stream: stream, Events: []eventstore.NewEvent{e}})
		if len(parts) == cap(parts) {
			if _, err := store.AppendMany(context.Background(), parts); err != nil {
				b.Fatal(err)
			}
			parts = parts[:0]
		}
	}
	b.Run("read", func(b *testing.B) {
		for b.Loop() {
			for _, err := range store.ReadAll(context.Background(), 0) {
				if err != nil {
					b.Fatal(err)
				}
			}
		}
		b.ReportMetric(n*float64(b.N)/b.Elapsed().Seconds(), "events/s")
	})
	// What workers share, and what each does again: with the rows, which go nowhere.
	rows := func(b *testing.B, workers int, shards ...Shard) {
		for b.Loop() {
			var g errgroup.Group
			for _, s := range shards {
				dir := b.TempDir()
				g.Go(func() error {
					_, err := ReplayPart(context.Background(), store, testKeyer, testRules(), dropped{}, dir, s, workers)
					return err
				})
			}
			if err := g.Wait(); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(n*float64(b.N)/b.Elapsed().Seconds(), "events/s")
	}
	b.Run("one", func(b *testing.B) { rows(b, 0, Shard{}) })
	b.Run("one goroutine", func(b *testing.B) { rows(b, 1, Shard{}) })
	b.Run("four goroutines", func(b *testing.B) { rows(b, 4, Shard{}) })
	b.Run("quarter", func(b *testing.B) { rows(b, 0, Shard{2, 4}) })
	b.Run("four", func(b *testing.B) { rows(b, 0, Shard{1, 4}, Shard{2, 4}, Shard{3, 4}, Shard{4, 4}) })
	b.Run("fold", func(b *testing.B) {
		for b.Loop() {
			if _, err := Replay(context.Background(), store, testKeyer, testRules(), NullSink{}, b.TempDir()); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(n*float64(b.N)/b.Elapsed().Seconds(), "events/s")
	})
}
