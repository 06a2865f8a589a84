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

// BenchmarkConnected folds messages that connect very many subjects; what an event
// costs should not grow with how many there are.
func BenchmarkConnected(b *testing.B) {
	at := func(n, i int) domain.Millis { return day0 - domain.Millis(n-i)*1000 }
	for name, message := range map[string]func(n, i int) sent{
		// Each is a conflict with all before it.
		"people log in on one tablet": func(n, i int) sent {
			return login(fmt.Sprint("m", i), fmt.Sprint("u", i), "tablet", at(n, i))
		},
		"people log in on one tablet, shuffled": func(n, i int) sent {
			who := rand.New(rand.NewPCG(1, uint64(i))).IntN(n)
			return login(fmt.Sprint("m", i), fmt.Sprint("u", i), "tablet", at(n, who))
		},
		"people log in on one tablet, two of them merged": func(n, i int) sent {
			if i == 10 {
				two := []domain.Subject{{Kind: domain.User, Value: "u0"}, {Kind: domain.User, Value: "u1"}}
				return sent{id: "d", decision: "merge", these: two, andThem: two}
			}
			return login(fmt.Sprint("m", i), fmt.Sprint("u", i), "tablet", at(n, i))
		},
		"one user with a new visitor each time": func(n, i int) sent {
			return login(fmt.Sprint("m", i), "guest", fmt.Sprint("a", i), at(n, i))
		},
		"pages of the visitors of one user": func(n, i int) sent {
			if i < n/2 {
				return login(fmt.Sprint("m", i), "guest", fmt.Sprint("a", i), at(n, i))
			}
			return sent{id: fmt.Sprint("m", i), kind: domain.Page, anon: fmt.Sprint("a", i-n/2), at: at(n, i)}
		},
		// A kind that joins nothing by default, a little out of order.
		"people with one telephone number": func(n, i int) sent {
			m := login(fmt.Sprint("m", i), fmt.Sprint("u", i), fmt.Sprint("a", i), at(n, i^1))
			m.traits = `{"phone":"+49 30 1234567"}`
			return m
		},
	} {
		for _, n := range []int{1_000, 8_000} {
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				var c clock
				c.set(day0)
				store, err := pebblestore.Open("log", pebblestore.Options{FS: vfs.NewMem(), Now: c.now})
				if err != nil {
					b.Fatal(err)
				}
				defer func() { _ = store.Close() }()
				parts := make([]eventstore.Append, n)
				for i := range n {
					stream, e := message(n, i).event()
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
