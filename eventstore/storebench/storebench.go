// Package storebench measures the durable append of pebblestore against raw
// Pebble: the same bytes, on the same options, in interleaved rounds.
package storebench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"sojourn/eventstore"
	"sojourn/eventstore/pebblestore"
)

// Config says what is measured. Zero fields take their defaults.
type Config struct {
	// Event makes the i-th event, for i from 0 on: no two alike, with an id of its
	// own. It is called before the clock starts, from one goroutine.
	Event func(i int) (stream string, e eventstore.NewEvent)
	// Held is how many events store and raw database hold before the first round
	// (default 3,000,000).
	Held int
	// Rounds is how often each figure is taken (default 5).
	Rounds int
	// Writers append one event a call (default 512).
	Writers int
	// WriterEvents are appended by all writers together in a round (default 500,000).
	WriterEvents int
	// BatchSize is how many events a batch has (default 1,000).
	BatchSize int
	// BatchCallers append batches side by side (default 4).
	BatchCallers int
	// BatchEvents are appended in batches in a round (default 1,000,000).
	BatchEvents int
	// Progress, if not nil, is told what is being done.
	Progress func(what string)
	// Logger is the store's; nil discards.
	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	set := func(p *int, v int) {
		if *p <= 0 {
			*p = v
		}
	}
	set(&c.Held, 3_000_000)
	set(&c.Rounds, 5)
	set(&c.Writers, 512)
	set(&c.WriterEvents, 500_000)
	set(&c.BatchSize, 1_000)
	set(&c.BatchCallers, 4)
	set(&c.BatchEvents, 1_000_000)
	if c.Progress == nil {
		c.Progress = func(string) {}
	}
	return c
}

// Figure is a rate of the store beside that of raw Pebble, in events a second.
type Figure struct {
	Store, Raw             []float64 // round by round
	StoreMedian, RawMedian float64
}

// Ratio is the store's median rate divided by raw Pebble's.
func (f Figure) Ratio() float64 { return f.StoreMedian / f.RawMedian }

func (f Figure) String() string {
	return fmt.Sprintf("%.2f (%.0f events/s, raw Pebble %.0f)", f.Ratio(), f.StoreMedian, f.RawMedian)
}

// Report is what Run measures.
type Report struct {
	// Writers is durable append by many writers, one event a call.
	Writers Figure
	// Batches is durable append in batches.
	Batches Figure
	// Scan is reading everything through ReadAll, beside a raw scan of the same
	// records.
	Scan Figure
	// Reopen is how long the store took to open again after it was closed.
	Reopen time.Duration
}

// Run measures in a directory, which it fills and leaves to the caller to
// remove. The store's clock stops when its indexes are written out, too; that
// of raw Pebble with its last answer.
func Run(ctx context.Context, dir string, c Config) (Report, error) {
	c = c.withDefaults()
	if c.Event == nil {
		return Report{}, errors.New("storebench: no events")
	}
	b := &bench{Config: c}
	var report Report
	err := b.open(dir)
	if err == nil {
		report, err = b.run(ctx)
	}
	return report, errors.Join(err, b.close())
}

type bench struct {
	Config
	dir   string
	store *pebblestore.Store
	raw   *pebble.DB
	made  int           // events taken from Event
	keys  atomic.Uint64 // last key of the raw database
}

func (b *bench) open(dir string) (err error) {
	b.dir = dir
	if b.store, err = pebblestore.Open(filepath.Join(dir, "store"), b.options()); err != nil {
		return err
	}
	b.raw, err = OpenRaw(filepath.Join(dir, "raw"))
	return err
}

func (b *bench) options() pebblestore.Options { return pebblestore.Options{Logger: b.Logger} }

// OpenRaw opens a bare Pebble database with the options of the store's log.
func OpenRaw(dir string) (*pebble.DB, error) {
	po := pebblestore.PebbleOptions(pebblestore.Options{})
	defer po.Cache.Unref()
	po.Logger = quiet{}
	return pebble.Open(dir, po)
}

type quiet struct{}

func (quiet) Infof(string, ...any)           {}
func (quiet) Errorf(string, ...any)          {}
func (quiet) Fatalf(format string, v ...any) { panic(fmt.Errorf(format, v...)) }

func (b *bench) close() error {
	var err error
	if b.store != nil {
		err = b.store.Close()
	}
	if b.raw != nil {
		err = errors.Join(err, b.raw.Close())
	}
	return err
}

// load is a round's events, prepared for both sides before the clock starts.
type load struct {
	parts  []eventstore.Append
	values [][]byte // of the raw records
}

func (b *bench) next(n int) load {
	l := load{parts: make([]eventstore.Append, n), values: make([][]byte, n)}
	events := make([]eventstore.NewEvent, n)
	for i := range n {
		stream, e := b.Event(b.made)
		b.made++
		events[i] = e
		l.parts[i] = eventstore.Append{Stream: stream, Events: events[i : i+1]}
		l.values[i] = rawValue(stream, e)
	}
	return l
}

// rawValue holds the same bytes as the event does.
func rawValue(stream string, e eventstore.NewEvent) []byte {
	v := make([]byte, 0, 24+len(e.Type)+len(stream)+len(e.Metadata)+len(e.Data))
	v = append(v, e.ID[:]...)
	v = binary.AppendUvarint(v, uint64(len(e.Type)))
	v = append(v, e.Type...)
	v = binary.AppendUvarint(v, uint64(len(stream)))
	v = append(v, stream...)
	v = binary.AppendUvarint(v, uint64(len(e.Metadata)))
	v = append(v, e.Metadata...)
	return append(v, e.Data...)
}

// rawKey is as long as the store's keys, and grows like them.
func (b *bench) rawKey() []byte {
	return binary.BigEndian.AppendUint64([]byte{'l'}, b.keys.Add(1))
}

func (b *bench) run(ctx context.Context) (Report, error) {
	var report Report
	for b.made < b.Held {
		b.Progress(fmt.Sprintf("filling: %d of %d events", b.made, b.Held))
		l := b.next(min(100_000, b.Held-b.made))
		if _, err := b.store.AppendMany(ctx, l.parts); err != nil {
			return report, err
		}
		if err := b.rawBatch(l, 0, len(l.values)); err != nil {
			return report, err
		}
	}
	for round := range b.Rounds {
		b.Progress(fmt.Sprintf("round %d of %d", round+1, b.Rounds))
		for _, step := range []struct {
			figure *Figure
			events int
			store  func(context.Context, load) error
			raw    func(load) error
		}{
			{&report.Writers, b.WriterEvents, b.storeWriters, b.rawWriters},
			{&report.Batches, b.BatchEvents, b.storeBatches, b.rawCallers},
		} {
			l := b.next(step.events)
			took, err := b.timed(ctx, func() error {
				if err := step.store(ctx, l); err != nil {
					return err
				}
				return b.store.FlushIndexes(ctx)
			})
			if err != nil {
				return report, err
			}
			step.figure.Store = append(step.figure.Store, float64(step.events)/took.Seconds())
			if took, err = b.timed(ctx, func() error { return step.raw(l) }); err != nil {
				return report, err
			}
			step.figure.Raw = append(step.figure.Raw, float64(step.events)/took.Seconds())
		}
	}
	report.Writers.median()
	report.Batches.median()
	if err := b.scan(ctx, &report.Scan); err != nil {
		return report, err
	}
	return report, b.reopen(&report)
}

// timed measures one step; what earlier steps left to do is done before.
func (b *bench) timed(ctx context.Context, step func() error) (time.Duration, error) {
	if err := errors.Join(b.store.FlushTables(ctx), b.raw.Flush()); err != nil {
		return 0, err
	}
	runtime.GC()
	begun := time.Now()
	err := step()
	return time.Since(begun), err
}

func (f *Figure) median() {
	f.StoreMedian, f.RawMedian = median(f.Store), median(f.Raw)
}

func median(x []float64) float64 {
	x = slices.Sorted(slices.Values(x))
	if len(x) == 0 {
		return 0
	}
	return (x[(len(x)-1)/2] + x[len(x)/2]) / 2
}

// share runs n workers; each takes the next index until there is none.
func share(workers, n int, work func(i int) error) error {
	var (
		wg   sync.WaitGroup
		next atomic.Int64
		fail atomic.Pointer[error]
	)
	for range workers {
		wg.Go(func() {
			for fail.Load() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := work(i); err != nil {
					fail.CompareAndSwap(nil, &err)
				}
			}
		})
	}
	wg.Wait()
	if err := fail.Load(); err != nil {
		return *err
	}
	return nil
}

func (b *bench) storeWriters(ctx context.Context, l load) error {
	return share(b.Writers, len(l.parts), func(i int) error {
		p := &l.parts[i]
		_, err := b.store.Append(context.WithoutCancel(ctx), p.Stream, p.Expected, p.Events...)
		return err
	})
}

func (b *bench) rawWriters(l load) error {
	return share(b.Writers, len(l.values), func(i int) error {
		return b.raw.Set(b.rawKey(), l.values[i], pebble.Sync)
	})
}

func (b *bench) storeBatches(ctx context.Context, l load) error {
	batches := (len(l.parts) + b.BatchSize - 1) / b.BatchSize
	return share(b.BatchCallers, batches, func(i int) error {
		from := i * b.BatchSize
		results, err := b.store.AppendMany(ctx, l.parts[from:min(from+b.BatchSize, len(l.parts))])
		for _, r := range results {
			err = errors.Join(err, r.Err)
		}
		return err
	})
}

func (b *bench) rawCallers(l load) error {
	batches := (len(l.values) + b.BatchSize - 1) / b.BatchSize
	return share(b.BatchCallers, batches, func(i int) error {
		return b.rawBatch(l, i*b.BatchSize, b.BatchSize)
	})
}

// rawBatch commits the records from an index on as one batch.
func (b *bench) rawBatch(l load, from, size int) error {
	batch := b.raw.NewBatch()
	for _, v := range l.values[from:min(from+size, len(l.values))] {
		if err := batch.Set(b.rawKey(), v, nil); err != nil {
			return err
		}
	}
	return errors.Join(batch.Commit(pebble.Sync), batch.Close())
}
