package bench

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"sojourn/domain"
	"sojourn/eventstore"
	"sojourn/eventstore/storebench"
)

// appends takes figure 1: durable append through the contract, beside raw Pebble
// commits of the same bytes.
func (b *bench) appends(ctx context.Context) (err error) {
	events, err := newEvents(b.shop, domain.NewKeyer(make([]byte, domain.KeySize)))
	if err != nil {
		return err
	}
	defer events.messages.stop()
	dir := filepath.Join(b.dir, "append")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	var failed error
	report, err := storebench.Run(ctx, dir, storebench.Config{
		Event: func(int) (string, eventstore.NewEvent) {
			stream, e, err := events.next()
			failed = errors.Join(failed, err)
			return stream, e
		},
		Held: b.Held, Rounds: b.Rounds,
		WriterEvents: b.size(300_000, 4_000), BatchEvents: b.size(600_000, 8_000),
		Progress: func(what string) { b.say("figure 1: %s", what) },
	})
	if err = errors.Join(err, failed); err != nil {
		return err
	}
	line := func(figure, name string, f storebench.Figure, floor, goal float64) {
		b.report.add(Line{
			Figure: figure, Name: name, Unit: "events/s", YardstickName: "raw Pebble Sync",
			OursRounds: f.Store, YardstickRounds: f.Raw, Floor: floor, Goal: goal,
		})
	}
	line("1a", "durable append, 512 writers", report.Writers, 0.60, 1.5)
	line("1b", "durable append, batches of 1,000", report.Batches, 0.30, 0.65)
	b.report.note("The log reads itself at %s events/s, a raw scan of the same records at %s; opened again in %v.",
		number(report.Scan.StoreMedian), number(report.Scan.RawMedian), report.Reopen)
	return nil
}
