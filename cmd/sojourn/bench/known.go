package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/google/uuid"

	"sojourn/domain"
	"sojourn/eventstore"
	"sojourn/ingest/segmentapi"
)

// The sizes of figure 9: the events that both stores hold, which is how many
// subjects one of them knows, the subjects that the other knows, and the messages
// of a round: of three segments of the log's indexes two are written beside the
// intake, and runs are merged, as on a server that takes messages all day.
const (
	knownEvents = 10_000_000
	knownQuick  = 20_000
	knownFew    = 1_000
	knownRound  = 3_000_000
)

// known is a store that knows some subjects.
type known struct {
	data
	subjects int
	rng      *rand.Rand
	cpu      []float64 // of each round: processor time a message, in µs
}

// known takes figure 9: POST /v1/batch as in figure 2, of subjects at random, to
// a store that knows ten million of them, beside one that knows a thousand. Both
// hold as many events. One of them is open at a time, as a server has one.
func (b *bench) known(ctx context.Context) (err error) {
	held := b.size(knownEvents, knownQuick)
	var stores []*known
	for i, subjects := range []int{held, knownFew} {
		k := &known{
			data: data{dir: filepath.Join(b.dir, fmt.Sprintf("known-%d", i))}, subjects: subjects,
			rng: rand.New(rand.NewPCG(9, uint64(i))),
		}
		defer func() { err = errors.Join(err, k.close(), os.RemoveAll(k.dir)) }()
		begun := time.Now()
		if err := k.fill(ctx, held); err != nil {
			return fmt.Errorf("figure 9: %w", err)
		}
		b.say("figure 9: a store holds %d events of %d subjects after %v", held, subjects, time.Since(begun).Round(time.Millisecond))
		stores = append(stores, k)
	}
	line := Line{
		Figure: "9", Name: "POST /v1/batch, 10 million known subjects", Unit: "events/s", YardstickName: "with a thousand known",
		Floor: 0.9,
	}
	n := b.size(knownRound, intakeQuick)
	rates := [2]*[]float64{&line.OursRounds, &line.YardstickRounds}
	// The first round counts for nothing: whoever begins touches memory that the process has
	// not had yet. The others begin with each side in turn.
	for round := range b.Rounds + 1 {
		for i := range stores {
			side := (i + round) % len(stores)
			around := func(f func() error) error { return f() }
			if side == 0 && round > 0 {
				around = func(f func() error) error { return b.profiled(9, round-1, f) }
			}
			rate, cpu, err := stores[side].take(ctx, n, around)
			if err != nil {
				return fmt.Errorf("figure 9: %w", err)
			}
			if round > 0 {
				*rates[side] = append(*rates[side], rate)
				stores[side].cpu = append(stores[side].cpu, cpu)
			}
		}
		if round > 0 {
			b.say("figure 9: round %d of %d: %s, with a thousand known %s events/s", round, b.Rounds,
				number(line.OursRounds[round-1]), number(line.YardstickRounds[round-1]))
		}
	}
	b.report.add(line)
	b.report.note("In figure 9 a message takes %.1f µs of processor time, client included, with a thousand known %.1f µs.",
		median(stores[0].cpu), median(stores[1].cpu))
	return nil
}

// fill makes the store, with an event a subject in turn.
func (k *known) fill(ctx context.Context, held int) error {
	if err := k.open(ctx); err != nil {
		return err
	}
	const size = 10_000
	parts := make([]eventstore.Append, 0, size)
	events := make([]eventstore.NewEvent, size)
	for n := 0; n < held; n += len(parts) {
		parts = parts[:0]
		for i := range min(size, held-n) {
			e := &events[i]
			*e = eventstore.NewEvent{ID: k.newID(), Type: domain.TypeTouchpoint, Data: []byte("{}")}
			parts = append(parts, eventstore.Append{
				Stream: k.keyer.Stream(domain.Subject{Kind: domain.User, Value: k.user((n + i) % k.subjects)}),
				Events: events[i : i+1 : i+1],
			})
		}
		if _, err := k.store.AppendMany(ctx, parts); err != nil {
			return err
		}
	}
	return errors.Join(k.store.FlushIndexes(ctx), k.store.FlushTables(ctx), k.close())
}

func (k *known) newID() (id uuid.UUID) {
	binary.LittleEndian.PutUint64(id[:], k.rng.Uint64())
	binary.LittleEndian.PutUint64(id[8:], k.rng.Uint64())
	return id
}

func (k *known) user(i int) string { return fmt.Sprintf("c%d", 10_000_000+i) }

// take opens the store and sends it some messages; the rate, and the processor time a
// message in µs, are of that alone.
func (k *known) take(ctx context.Context, n int, around func(func() error) error) (rate, cpu float64, err error) {
	if err := k.reopen(ctx); err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, k.close()) }()
	tracking, err := segmentapi.New(segmentapi.Config{Service: k.service, Keys: k.keys, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return 0, 0, err
	}
	addr, stop, err := listen(tracking)
	if err != nil {
		return 0, 0, err
	}
	defer stop()
	calls := make([]call, n/batchSize)
	for i := range calls {
		texts := make([][]byte, batchSize)
		for j := range texts {
			texts[j] = k.message()
		}
		calls[i] = newCall(k.key, texts)
	}
	if err := errors.Join(k.store.FlushIndexes(ctx), k.store.FlushTables(ctx)); err != nil {
		return 0, 0, err
	}
	rate, err = timed(n, func() error {
		return around(func() error {
			begun, err := cpuTime()
			if err != nil {
				return err
			}
			if err := errors.Join(flood(ctx, addr, intakeConnections, calls), k.store.FlushIndexes(ctx)); err != nil {
				return err
			}
			ended, err := cpuTime()
			cpu = float64((ended - begun).Microseconds()) / float64(n)
			return err
		})
	})
	return rate, cpu, err
}

// cpuTime is the processor time that this process has taken.
func cpuTime() (time.Duration, error) {
	var u syscall.Rusage
	err := syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), err
}

// message is one of a subject that the store knows, as long as the shop's.
func (k *known) message() []byte {
	return fmt.Appendf(nil, `{"type":"track","event":"Product Viewed","messageId":"%s","userId":"%s","timestamp":"%s",`+
		`"properties":{"product_id":"p-%d","name":"Enamel Mug, blue","category":"Kitchen","price":%d.90,"currency":"EUR","quantity":1},`+
		`"context":{"library":{"name":"analytics.js","version":"2.1.0"},"locale":"de-DE","userAgent":"Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0"}}`,
		k.newID(), k.user(k.rng.IntN(k.subjects)), time.Now().UTC().Format(timeLayout), k.rng.IntN(100_000), k.rng.IntN(90))
}
