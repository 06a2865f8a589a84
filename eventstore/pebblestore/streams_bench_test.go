package pebblestore

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"sojourn/eventstore"
)

// BenchmarkAppendKnown appends to streams at random, in calls of 100 events to
// as many streams by 32 callers, to a store that has just been opened: of a
// thousand streams and of as many as it holds events. SOJOURN_BENCH_EVENTS is
// how many it holds (a million unless told).
func BenchmarkAppendKnown(b *testing.B) {
	held := 1_000_000
	if s := os.Getenv("SOJOURN_BENCH_EVENTS"); s != "" {
		var err error
		if held, err = strconv.Atoi(s); err != nil {
			b.Fatal(err)
		}
	}
	for _, streams := range []int{1_000, held} {
		for _, loaded := range []bool{false, true} {
			b.Run(fmt.Sprintf("streams=%d/loaded=%v", streams, loaded), func(b *testing.B) {
				benchmarkAppendKnown(b, held, streams, loaded)
			})
		}
	}
}

func benchmarkAppendKnown(b *testing.B, held, streams int, loaded bool) {
	ctx := b.Context()
	dir := b.TempDir()
	rng := rand.NewPCG(1, 1)
	newID := func() (id uuid.UUID) {
		binary.LittleEndian.PutUint64(id[:], rng.Uint64())
		binary.LittleEndian.PutUint64(id[8:], rng.Uint64())
		return id
	}
	name := func(i uint64) string {
		return fmt.Sprintf("user-%016x%016x", i*0x9e3779b97f4a7c15, i*0xbf58476d1ce4e5b9)
	}
	calls := func(n, size, bytes int, stream func() uint64) [][]eventstore.Append {
		data := make([]byte, bytes)
		out := make([][]eventstore.Append, n)
		for i := range out {
			for range size {
				out[i] = append(out[i], eventstore.Append{
					Stream: name(stream()), Events: []eventstore.NewEvent{{ID: newID(), Type: "touchpoint", Data: data}},
				})
			}
		}
		return out
	}
	open := func() *Store {
		s, err := Open(dir, Options{})
		if err != nil {
			b.Fatal(err)
		}
		return s
	}
	s := open()
	at := uint64(0)
	for n := 0; n < held; n += 10_000 {
		for _, parts := range calls(1, min(10_000, held-n), 16, func() uint64 { at++; return at % uint64(streams) }) {
			if _, err := s.AppendMany(ctx, parts); err != nil {
				b.Fatal(err)
			}
		}
	}
	if err := s.FlushIndexes(ctx); err != nil {
		b.Fatal(err)
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	pick := rand.New(rng)
	const size = 100
	all := calls(max(1, b.N/size), size, 400, func() uint64 { return pick.Uint64N(uint64(streams)) })
	s = open()
	defer func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	}()
	if loaded {
		if err := s.FlushIndexes(ctx); err != nil {
			b.Fatal(err)
		}
	}
	runtime.GC()
	b.ResetTimer()
	cpu := cpuTime(b)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(all) {
					return
				}
				if _, err := s.AppendMany(ctx, all[i]); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(len(all)*size)/b.Elapsed().Seconds(), "events/s")
	b.StartTimer()
	if err := s.FlushIndexes(ctx); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(len(all)*size)/b.Elapsed().Seconds(), "indexed/s")
	// Other work on the machine changes this less than the rates.
	b.ReportMetric(float64(cpuTime(b)-cpu)/float64(len(all)*size), "cpu-ns/event")
}

// cpuTime is the processor time that the process has taken.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
