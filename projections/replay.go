package projections

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"sojourn/domain"
	"sojourn/eventstore"
	"sojourn/warehouse"
)

// Replay folds a whole log from its beginning into a sink, with state in an empty
// directory, the way views are built anew, and returns how many positions it
// passed. It is there to be measured.
func Replay(ctx context.Context, store eventstore.Store, keyer domain.Keyer, rules *Rules, sink Sink, dir string) (eventstore.Position, error) {
	return ReplayPart(ctx, store, keyer, rules, sink, dir, Shard{}, 0)
}

// ReplayPart is Replay of a part of the views, by some goroutines; 0 stands for one a
// processor.
func ReplayPart(ctx context.Context, store eventstore.Store, keyer domain.Keyer, rules *Rules, sink Sink, dir string, shard Shard, workers int) (eventstore.Position, error) {
	s, err := openState(vfs.Default, dir, stateCacheBytes, slog.New(slog.DiscardHandler))
	if err != nil {
		return 0, err
	}
	g := &generation{
		number: 1, shard: shard, workers: workers, rules: rules, store: store, keyer: keyer, sink: sink, state: s,
		now: time.Now, logger: slog.New(slog.DiscardHandler), changed: func() {},
	}
	err = g.recover(ctx)
	if err == nil {
		err = g.runToEnd(ctx, nil)
	}
	return s.checkpoint().Position, errors.Join(err, g.settle(), s.close())
}

// TableSink writes into the tables of a generation, which must exist.
func TableSink(db *warehouse.DB, g warehouse.Generation) Sink { return tables{db, g, Shard{}} }
