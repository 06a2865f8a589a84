package esdbstore

import (
	"encoding/binary"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"sojourn/eventstore"
	"sojourn/eventstore/esdbserver"
	"sojourn/eventstore/pebblestore"
)

// The figures of docs/eventstoredb.md. An operation of each benchmark is one
// event of 400 bytes; the log is on disk.

// benchStores opens a log on disk, and the log over the wire in both ways.
func benchStores(b *testing.B) map[string]eventstore.Store {
	b.Helper()
	p, err := pebblestore.Open(b.TempDir(), pebblestore.Options{})
	if err != nil {
		b.Fatal(err)
	}
	server, err := esdbserver.New(esdbserver.Config{
		Store: p, Own: func(string) bool { return true },
		Authorize: func(string, string) esdbserver.Access { return esdbserver.Worker },
	})
	if err != nil {
		b.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	go func() { _ = server.Serve(l) }()
	b.Cleanup(func() {
		server.Stop(time.Second)
		if err := p.Close(); err != nil {
			b.Error(err)
		}
	})
	out := map[string]eventstore.Store{"direct": p}
	for name, single := range map[string]bool{"BatchAppend": false, "AppendToStream": true} {
		s, err := Open(b.Context(), Config{Connection: "esdb://" + l.Addr().String() + "?tls=false", SingleAppends: single, Dir: b.TempDir() + "/index"})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() {
			if err := s.Close(); err != nil {
				b.Error(err)
			}
		})
		out[name] = s
	}
	return out
}

// numbered makes the n-th event of a benchmark.
func numbered(n uint64) eventstore.NewEvent {
	var id uuid.UUID
	binary.BigEndian.PutUint64(id[8:], n)
	data := make([]byte, 340)
	copy(data, `{"event":"Product Viewed","text":"`)
	for i := len(`{"event":"Product Viewed","text":"`); i < len(data); i++ {
		data[i] = 'a' + byte((n+uint64(i))%26)
	}
	copy(data[len(data)-2:], `"}`)
	return eventstore.NewEvent{ID: id, Type: "touchpoint.v1", Metadata: data[100:140], Data: data}
}

// BenchmarkAppend appends one event a call, from as many writers as a busy
// server has, each call to the next of ten thousand streams.
func BenchmarkAppend(b *testing.B) {
	for _, writers := range []int{1, 64, 512} {
		for _, way := range []string{"direct", "BatchAppend", "AppendToStream"} {
			b.Run(fmt.Sprintf("%s/writers=%d", way, writers), func(b *testing.B) {
				s := benchStores(b)[way]
				var next atomic.Uint64
				b.ResetTimer()
				var wg sync.WaitGroup
				for range writers {
					wg.Go(func() {
						for {
							n := next.Add(1)
							if n > uint64(b.N) {
								return
							}
							if _, err := s.Append(b.Context(), fmt.Sprint("user-", n%10_000), eventstore.Any{}, numbered(n)); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
			})
		}
	}
}

// BenchmarkAppendMany appends batches of a thousand events of as many streams.
func BenchmarkAppendMany(b *testing.B) {
	for _, way := range []string{"direct", "BatchAppend"} {
		b.Run(way, func(b *testing.B) {
			s := benchStores(b)[way]
			b.ResetTimer()
			for n := 0; n < b.N; {
				var parts []eventstore.Append
				for ; len(parts) < 1_000 && n < b.N; n++ {
					parts = append(parts, eventstore.Append{Stream: fmt.Sprint("user-", n%10_000), Events: []eventstore.NewEvent{numbered(uint64(n))}})
				}
				if _, err := s.AppendMany(b.Context(), parts); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

// BenchmarkCatchUp reads the log from its start: the store itself, a store over
// the wire whose index is complete, and one that builds its index meanwhile.
func BenchmarkCatchUp(b *testing.B) {
	for _, way := range []string{"direct", "indexed", "index"} {
		b.Run(way, func(b *testing.B) {
			stores := benchStores(b)
			p, s := stores["direct"], stores["BatchAppend"].(*Store)
			if way == "index" { // the clock starts before the events are there to be indexed
				b.StopTimer()
			}
			for n := 0; n < b.N; {
				var parts []eventstore.Append
				for ; len(parts) < 1_000 && n < b.N; n++ {
					parts = append(parts, eventstore.Append{Stream: fmt.Sprint("user-", n%10_000), Events: []eventstore.NewEvent{numbered(uint64(n))}})
				}
				if _, err := p.AppendMany(b.Context(), parts); err != nil {
					b.Fatal(err)
				}
			}
			var from eventstore.Store = s
			switch way {
			case "direct":
				from = p
			case "indexed":
				if err := s.index.cover(b.Context(), eventstore.Position(b.N)); err != nil {
					b.Fatal(err)
				}
			case "index":
				fresh, err := Open(b.Context(), Config{Connection: s.config.Connection, Dir: b.TempDir() + "/index"})
				if err != nil {
					b.Fatal(err)
				}
				defer func() {
					if err := fresh.Close(); err != nil {
						b.Error(err)
					}
				}()
				from = fresh
				b.StartTimer()
			}
			b.ResetTimer()
			n := 0
			for _, err := range from.ReadAll(b.Context(), 0) {
				if err != nil {
					b.Fatal(err)
				}
				n++
			}
			if n != b.N {
				b.Fatalf("%d events of %d", n, b.N)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}
