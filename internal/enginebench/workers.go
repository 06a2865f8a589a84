package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"sojourn/domain"
	"sojourn/domain/loyalty"
	"sojourn/domain/policy"
	"sojourn/eventstore"
	"sojourn/ingest"
	"sojourn/projections"
)

// parts is how many workers there are.
const parts = 4

// workersBench is a log of touchpoints that workers build views of.
type workersBench struct {
	*config
	*esdbBench
	keyer  domain.Keyer
	rules  *projections.Rules
	wires  []eventstore.Store // the log, over a connection for each worker
	events int
}

// dropped takes all rows and keeps none.
type dropped struct{ projections.NullSink }

func (dropped) WantsTouchpoints() bool { return true }

// workersFigures measure how long workers take to build the views of one log, with rows
// that are made and dropped: four goroutines of a process beside one, which is what a
// process has; four processes' parts beside one of all, within this process and over the
// wire; and what part of that is reading the log four times.
func workersFigures(ctx context.Context, c *config) ([]figure, func() error, error) {
	e, end, err := newESDBBench(ctx, c)
	if err != nil {
		return nil, end, err
	}
	b := &workersBench{
		config: c, esdbBench: e, keyer: domain.NewKeyer(make([]byte, domain.KeySize)),
		rules: projections.NewRules(loyalty.AppliedPolicy{Policy: policy.Default()}),
	}
	if err := b.fill(ctx); err != nil {
		return nil, end, err
	}
	for i := range parts {
		s, err := b.connect(ctx, fmt.Sprint("worker-", i))
		if err != nil {
			return nil, end, err
		}
		b.wires = append(b.wires, s)
	}
	// A reader never gets ahead of its index: the first reading waits for it.
	if _, err := b.readAll(ctx); err != nil {
		return nil, end, err
	}
	direct := make([]eventstore.Store, parts)
	for i := range direct {
		direct[i] = b.direct
	}
	var four float64
	return []figure{
		{
			name: "4 workers in one process", unit: "events/s", beside: "1 worker", floor: 1,
			ours:      func(ctx context.Context) (float64, error) { return b.build(ctx, parts, b.direct) },
			yardstick: func(ctx context.Context) (float64, error) { return b.build(ctx, 1, b.direct) },
		},
		{
			name: "4 parts in one process", unit: "events/s", beside: "all in one",
			ours:      func(ctx context.Context) (float64, error) { return b.build(ctx, 0, direct...) },
			yardstick: func(ctx context.Context) (float64, error) { return b.build(ctx, 0, b.direct) },
		},
		{
			name: "4 workers over gRPC, a connection each", unit: "events/s", beside: "1 worker over gRPC",
			ours: func(ctx context.Context) (_ float64, err error) {
				four, err = b.build(ctx, 0, b.wires...)
				return four, err
			},
			yardstick: func(ctx context.Context) (float64, error) { return b.build(ctx, 0, b.wires[0]) },
		},
		{
			name: "the same, share of reading four times", unit: "events/s", beside: "only read",
			ours:      func(context.Context) (float64, error) { return four, nil },
			yardstick: b.readAll,
		},
	}, end, nil
}

// fill makes the log: one customer for six touchpoints, of which every twentieth is an
// identify and every twentieth a purchase.
func (b *workersBench) fill(ctx context.Context) error {
	service, err := ingest.New(ingest.Config{Log: b.direct, Index: b.direct, Keyer: b.keyer})
	if err != nil {
		return err
	}
	for n := 0; n < b.messages; {
		batch := ingest.Batch{Source: "shop"}
		for ; len(batch.Messages) < batchSize && n < b.messages; n++ {
			m, err := ingest.ParseMessage(visit(n, b.messages/6+1))
			if err != nil {
				return err
			}
			batch.Messages = append(batch.Messages, m)
		}
		if _, err := service.Ingest(ctx, &batch, 0); err != nil {
			return err
		}
	}
	b.events, err = read(ctx, b.direct)
	return err
}

// visit is the n-th message of so many customers.
func visit(n, customers int) []byte {
	who := int(uint64(n) * 0x9e3779b97f4a7c15 >> 33 % uint64(customers))
	head := fmt.Sprintf(`{"messageId":"%s","timestamp":"2026-03-01T09:00:00.123Z","anonymousId":"a%d",`, uuid.NewString(), who)
	user := fmt.Sprintf(`"userId":"u%d",`, who)
	switch n % 20 {
	case 0:
		return fmt.Appendf(nil, `%s%s"type":"identify","traits":{"email":"a%d@example.com","plan":"free","name":"Somebody"}}`, head, user, who)
	case 1:
		return fmt.Appendf(nil, `%s%s"type":"track","event":"Order Completed","properties":{"order_id":"o%d","total":%d.50,"currency":"EUR"}}`, head, user, n, n%100)
	case 2, 3:
		user = ""
	}
	return fmt.Appendf(nil, `%s%s"type":"track","event":"Product Viewed","properties":{"product_id":"p%d","name":"Canvas Bag","price":12.5,"currency":"EUR"},"context":{"page":{"path":"/bags/%d"},"locale":"de-DE"}}`, head, user, n%500, n%500)
}

// build has as many parts as there are stores built, each by some goroutines: 0 stands for
// one a processor.
func (b *workersBench) build(ctx context.Context, workers int, stores ...eventstore.Store) (_ float64, err error) {
	dir, err := b.folder()
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	began := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	for i, s := range stores {
		shard := projections.Shard{Index: i + 1, Of: len(stores)}
		group.Go(func() error {
			_, err := projections.ReplayPart(ctx, s, b.keyer, b.rules, dropped{}, fmt.Sprintf("%s/%d", dir, i), shard, workers)
			return err
		})
	}
	err = group.Wait()
	return rate(b.events, time.Since(began)), err
}

// readAll reads the log over every connection at once.
func (b *workersBench) readAll(ctx context.Context) (float64, error) {
	began := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	for _, s := range b.wires {
		group.Go(func() error {
			_, err := read(ctx, s)
			return err
		})
	}
	err := group.Wait()
	return rate(b.events, time.Since(began)), err
}
