package bench

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"sojourn/domain"
	"sojourn/domain/policy"
	"sojourn/eventstore/pebblestore"
	"sojourn/ingest"
	"sojourn/projections"
)

// data is a data directory whose log holds what a run needs.
type data struct {
	dir      string
	keyer    domain.Keyer
	store    *pebblestore.Store
	keys     *ingest.Keys
	key      string // a write key of the source
	service  *ingest.Service
	messages *messages
}

// held takes the figures that need a log that holds events: 2 to 8.
func (b *bench) held(ctx context.Context) (err error) {
	d := &data{dir: filepath.Join(b.dir, "data"), messages: newMessages(b.shop)}
	defer d.messages.stop()
	if err := d.open(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	if err := b.fill(ctx, d, b.Held); err != nil {
		return err
	}
	for _, part := range []struct {
		figures []int
		take    func(context.Context, *data) error
	}{
		{[]int{3}, b.fold},
		{[]int{4}, b.replay},
		{[]int{2, 5, 6}, b.intake}, // 5 and 6 go by its rate
		{[]int{5, 6, 7, 8}, b.served},
	} {
		if b.wants(part.figures...) {
			if err := part.take(ctx, d); err != nil {
				return err
			}
		}
	}
	return nil
}

// open makes a data directory as a server does.
func (d *data) open(ctx context.Context) error {
	if err := os.Mkdir(d.dir, 0o700); err != nil {
		return err
	}
	key := make([]byte, domain.KeySize)
	if _, err := rand.Read(key); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(d.dir, "stream-key"), key, 0o600); err != nil {
		return err
	}
	d.keyer = domain.NewKeyer(key)
	return d.reopen(ctx)
}

// reopen opens the log of a directory that has been made.
func (d *data) reopen(ctx context.Context) (err error) {
	if d.store, err = pebblestore.Open(filepath.Join(d.dir, "log"), pebblestore.Options{}); err != nil {
		return err
	}
	if err = d.begin(ctx); err != nil {
		return errors.Join(err, d.close())
	}
	return nil
}

func (d *data) begin(ctx context.Context) (err error) {
	if _, _, err = projections.ApplyPolicy(ctx, d.store, policy.Default(), ""); err != nil {
		return err
	}
	d.service, err = ingest.New(ingest.Config{
		Log: d.store, Index: d.store, Keyer: d.keyer, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	if d.keys, err = ingest.LoadKeys(ctx, d.store, time.Now); err != nil {
		return err
	}
	d.key, _, err = d.keys.Create(ctx, source)
	return err
}

// close closes the log; a second call does nothing.
func (d *data) close() error {
	if d.store == nil {
		return nil
	}
	err := d.store.Close()
	d.store = nil
	return err
}

// fill brings the events that the store holds from the beginning to the log.
func (b *bench) fill(ctx context.Context, d *data, held int) error {
	begun := time.Now()
	for n := 0; n < held; {
		size := min(fillSize, held-n)
		if err := d.ingest(ctx, d.messages.take(size)); err != nil {
			return err
		}
		if n += size; n%500_000 == 0 || n == held {
			b.say("filling: %d of %d events", n, held)
		}
	}
	b.say("the store holds %d events after %v", held, time.Since(begun).Round(time.Millisecond))
	return errors.Join(d.store.FlushIndexes(ctx), d.store.FlushTables(ctx))
}

// fillSize is how many messages are brought to a log at once.
const fillSize = 2_000

// ingest brings messages to the log, all of which are new.
func (d *data) ingest(ctx context.Context, texts [][]byte) error {
	msgs, err := parse(texts)
	if err != nil {
		return err
	}
	out, err := d.service.Ingest(ctx, &ingest.Batch{Source: source, Messages: msgs}, 0)
	if err != nil {
		return err
	}
	if out.Accepted != len(texts) {
		return fmt.Errorf("of %d messages of the shop %d are new", len(texts), out.Accepted)
	}
	return ctx.Err()
}
