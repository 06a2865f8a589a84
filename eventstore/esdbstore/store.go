// Package esdbstore keeps the event log in EventStoreDB (or KurrentDB), or in
// whatever speaks its gRPC protocol: eventstore/esdbserver does.
//
// It is built on the connection strings and the protocol of
// EventStore-Client-Go, and not on that module's Client: the Client gives up for
// good after a failed discovery, tells a wrong revision as text, ends the process
// where an event's date is not a number, and offers neither BatchAppend nor
// filtered reads.
//
// # How the contract maps
//
// A position is the commit position of $all. EventStoreDB keeps its own streams
// there, too: those whose names begin with "$" are left out, by the server.
//
// EventStoreDB knows an event id again by best effort only. So every append is
// decided here: the stream's end is read, the ids are looked up, and what is new
// is appended at exactly that revision; if the stream has moved on meanwhile, it
// is decided anew. So an append is exact under every expectation, with any
// number of writers, after lost answers and restarts.
//
// The ids are looked up in an index that follows $all. From the same index
// comes what the server does not tell of an event: whether it is a Repeat. A
// reader never gets ahead of the index. It is derived from the log, kept in
// Config.Dir and made anew where it does not belong to the log.
//
// RecordedAt is the server's "created", cut to milliseconds. A server's clock
// may go back; then the highest time at any lower position stands, as the index
// remembers.
package esdbstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/grpc"

	"sojourn/eventstore"
)

var (
	_ eventstore.Store   = (*Store)(nil)
	_ eventstore.IDIndex = (*Store)(nil)
)

var (
	// ErrUnreachable says that no node answered for as long as Config.RetryFor.
	ErrUnreachable = errors.New("no EventStoreDB node answers")
	// ErrReadOnly says that the node that was reached takes no appends and names
	// no leader, and that this stayed so for Config.RetryFor.
	ErrReadOnly = errors.New("the EventStoreDB node is read-only")
	// ErrDenied says that the node does not take the credentials of the connection
	// string, or does not let their user do this. It is not tried again.
	ErrDenied = errors.New("EventStoreDB denied access")
)

// Config configures a Store.
type Config struct {
	// Connection is EventStoreDB's connection string:
	// esdb://user:password@host:2113?tls=true, esdb://a,b,c for the nodes of a
	// cluster, esdb+discover://name for a cluster behind a DNS name. Its settings
	// tls, tlsCaFile, tlsVerifyCert, userCertFile, userKeyFile, nodePreference,
	// gossipTimeout, keepAliveInterval, keepAliveTimeout and defaultDeadline count.
	Connection string
	// Dir is where the index of event ids is kept. Without it the index is in
	// memory, and made anew from the whole log by each Open.
	Dir string
	// RetryFor bounds how long a call goes on while no node takes it (default
	// 30 s). Following the log goes on for as long as its context.
	RetryFor time.Duration
	// SingleAppends sends each append by a call of its own, as AppendToStream
	// does, also where the server offers BatchAppend.
	SingleAppends bool
	// Logger gets what happens to the connection; nil discards it.
	Logger *slog.Logger
	// DialOptions are added to those of each connection.
	DialOptions []grpc.DialOption
}

// Store is a log in EventStoreDB. Its methods may be called from many goroutines
// at once.
type Store struct {
	config   Config
	log      *slog.Logger
	cluster  *cluster
	index    *index
	catching catching // of followLog
	batch    *batcher
	ends     ends
	deadline time.Duration

	closing context.Context // ends with Close
	stop    context.CancelFunc
	done    sync.WaitGroup
	once    sync.Once
	err     error
}

// Open connects to a server. It returns when a node has answered; the index may
// still be catching up.
func Open(ctx context.Context, c Config) (*Store, error) {
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
	s := &Store{config: c, log: c.Logger, deadline: 10 * time.Second, ends: ends{of: make(map[string]*end)}}
	if conf.DefaultDeadline != nil {
		s.deadline = *conf.DefaultDeadline
	}
	s.closing, s.stop = context.WithCancel(context.Background())
	s.cluster = newCluster(conf, c.DialOptions, c.Logger)
	s.batch = newBatcher(s)
	fail := func(err error) (*Store, error) {
		s.stop()
		s.cluster.close()
		return nil, err
	}
	head, err := s.Head(ctx)
	if err != nil {
		return fail(fmt.Errorf("open EventStoreDB: %w", err))
	}
	fs := vfs.Default
	if c.Dir == "" {
		fs = vfs.NewMem()
	}
	if s.index, err = openIndex(ctx, s, fs, c.Dir, head); err != nil {
		return fail(err)
	}
	s.catching = catching{from: eventstore.Position(s.index.covered.Load()), to: head, began: time.Now()}
	s.done.Go(s.followLog)
	return s, nil
}

// parse reads a connection string. The error does not repeat it: it may hold a
// password.
func parse(connection string) (*esdb.Configuration, error) {
	conf, err := esdb.ParseConnectionString(connection)
	if err == nil {
		err = conf.Validate()
	}
	if err != nil {
		return nil, fmt.Errorf("this is no connection string such as esdb://user:password@host:2113: %w", withoutText(err, connection))
	}
	conf.Logger = nil
	return conf, nil
}

// Close ends what is under way and releases the index. The log stays as it is.
func (s *Store) Close() error {
	s.once.Do(func() {
		s.stop()
		s.done.Wait()
		s.batch.close()
		s.cluster.close()
		s.err = s.index.close()
	})
	return s.err
}
