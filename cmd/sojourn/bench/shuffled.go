package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"

	"sojourn/projections"
	"sojourn/warehouse"
)

// shuffled takes figure 11: the replay into ClickHouse of a million events that
// came in no order at all, beside the same events in the order of their times.
func (b *bench) shuffled(ctx context.Context) (err error) {
	from := newMessages(b.shop)
	texts := from.take(b.Events)
	from.stop()
	logs := make([]*data, 2)
	ends := make([]ending, 2)
	for i, name := range []string{"ordered", "shuffled"} {
		d := &data{dir: filepath.Join(b.dir, name)}
		if err := d.open(ctx); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, d.close(), os.RemoveAll(d.dir)) }()
		if i == 1 {
			rng := rand.New(rand.NewPCG(11, 11))
			rng.Shuffle(len(texts), func(i, j int) { texts[i], texts[j] = texts[j], texts[i] })
		}
		for at := 0; at < len(texts); at += fillSize {
			if err := d.ingest(ctx, texts[at:min(at+fillSize, len(texts))]); err != nil {
				return fmt.Errorf("figure 11: %w", err)
			}
		}
		if err := errors.Join(d.store.FlushIndexes(ctx), d.store.FlushTables(ctx)); err != nil {
			return err
		}
		if ends[i], _, err = d.first(ctx, len(texts)); err != nil {
			return err
		}
		logs[i] = d
		b.say("figure 11: a log holds %d events, %s", len(texts), name)
	}
	clear(texts)
	dir := filepath.Join(b.dir, "engine")
	db, stop, err := b.engine(ctx, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop(), os.RemoveAll(dir)) }()
	line := Line{
		Figure: "11", Name: "replay of shuffled history into ClickHouse", Unit: "s", YardstickName: "in order",
		Floor: 3, Most: true,
	}
	generation := warehouse.Generation(0)
	replay := func(i int) (seconds float64, err error) {
		generation++
		g := generation
		if err := db.CreateGeneration(ctx, g); err != nil {
			return 0, err
		}
		rate, err := timed(1, func() error { return b.replayInto(ctx, logs[i], ends[i], projections.TableSink(db, g)) })
		return 1 / rate, errors.Join(err, db.DropGeneration(ctx, g))
	}
	for round := range b.Rounds {
		var ours, ordered float64
		err := b.profiled(11, round, func() (err error) { ours, err = replay(1); return err })
		if err == nil {
			ordered, err = replay(0)
		}
		if err != nil {
			return fmt.Errorf("figure 11: %w", err)
		}
		line.OursRounds, line.YardstickRounds = append(line.OursRounds, ours), append(line.YardstickRounds, ordered)
		b.say("figure 11: round %d of %d: %.1f s, in order %.1f s", round+1, b.Rounds, ours, ordered)
	}
	b.report.add(line)
	return nil
}
