package esdbstore

import (
	"context"
	"iter"
	"log/slog"
	"time"

	"sojourn/eventstore"
)

// Reader reads streams of a log in EventStoreDB, and nothing else: it keeps no
// index of event ids, so it costs little and does not tell which events are
// Repeats. Its methods may be called from many goroutines at once.
type Reader struct{ s *Store }

// NewReader makes a Reader. It does not connect: a read does, and fails where no
// node has answered for Config.RetryFor. Config.Dir is not used.
func NewReader(c Config) (*Reader, error) {
	if c.RetryFor <= 0 {
		c.RetryFor = 30 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	conf, err := parse(c.Connection)
	if err != nil {
		return nil, err
	}
	s := &Store{config: c, log: c.Logger}
	s.closing, s.stop = context.WithCancel(context.Background())
	s.cluster = newCluster(conf, c.DialOptions, c.Logger)
	return &Reader{s}, nil
}

// ReadStream yields the events of a stream, as Store.ReadStream does.
func (r *Reader) ReadStream(ctx context.Context, stream string, from uint64, dir eventstore.Direction) iter.Seq2[eventstore.Recorded, error] {
	return r.s.ReadStream(ctx, stream, from, dir)
}

// Close ends what is under way.
func (r *Reader) Close() error {
	r.s.once.Do(func() {
		r.s.stop()
		r.s.cluster.close()
	})
	return nil
}
