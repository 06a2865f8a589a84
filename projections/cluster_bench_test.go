package projections

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"sojourn/domain"
	"sojourn/eventstore"
	"sojourn/eventstore/pebblestore"
)

// BenchmarkSharedTablet folds the log-ins of many people on one device, in order
// and shuffled: each is a conflict with all before it.
func BenchmarkSharedTablet(b *testing.B) {
	for _, n := range []int{1_000, 5_000, 20_000} {
		for _, shuffled := range []bool{false, true} {
			b.Run(fmt.Sprintf("people=%d/shuffled=%v", n, shuffled), func(b *testing.B) {
				var c clock
				c.set(day0)
				store, err := pebblestore.Open("log", pebblestore.Options{FS: vfs.NewMem(), Now: c.now})
				if err != nil {
					b.Fatal(err)
				}
				defer func() { _ = store.Close() }()
				order := rand.New(rand.NewPCG(1, 2)).Perm(n)
				parts := make([]eventstore.Append, n)
				for i := range n {
					who := i
					if shuffled {
						who = order[i]
					}
					stream, e := sent{
						id: fmt.Sprint("m", who), kind: domain.Identify, user: fmt.Sprint("u", who), anon: "tablet", at: day0 - domain.Millis(n-who)*1000,
					}.event()
					parts[i] = eventstore.Append{Stream: stream, Events: []eventstore.NewEvent{e}}
				}
				if _, err := store.AppendMany(context.Background(), parts); err != nil {
					b.Fatal(err)
				}
				for b.Loop() {
					if _, err := Replay(context.Background(), store, testKeyer, testRules(), NullSink{}, b.TempDir()); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "events/s")
			})
		}
	}
}
