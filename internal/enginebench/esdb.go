package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"sojourn/eventstore"
	"sojourn/eventstore/esdbserver"
	"sojourn/eventstore/esdbstore"
	"sojourn/eventstore/pebblestore"
)

const (
	writers   = 64
	batchSize = 1_000
	callers   = 4
	streams   = 10_000
)

// publishedRead is EventStoreDB's own figure for reading through gRPC, events/s.
const publishedRead = 77_000

// esdbBench is a log on disk, and the log over the wire in both ways.
type esdbBench struct {
	dir, address    string
	direct          *pebblestore.Store
	batches, single *esdbstore.Store
	next            atomic.Uint64
	close           []func() error
}

func newESDBBench(ctx context.Context, c *config) (*esdbBench, func() error, error) {
	b := &esdbBench{}
	end := func() (err error) {
		for i := len(b.close) - 1; i >= 0; i-- {
			err = errors.Join(err, b.close[i]())
		}
		return err
	}
	dir, err := c.folder()
	if err != nil {
		return nil, end, err
	}
	if b.direct, err = pebblestore.Open(filepath.Join(dir, "log"), pebblestore.Options{}); err != nil {
		return nil, end, err
	}
	b.close = append(b.close, b.direct.Close)
	server, err := esdbserver.New(esdbserver.Config{
		Store: b.direct, Own: func(string) bool { return true },
		Authorize: func(string, string) esdbserver.Access { return esdbserver.Worker },
	})
	if err != nil {
		return nil, end, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, end, err
	}
	go func() { _ = server.Serve(l) }() // it ends with Stop
	b.close = append(b.close, func() error { server.Stop(time.Second); return nil })
	b.dir, b.address = dir, l.Addr().String()
	if b.batches, err = b.connect(ctx, "batches"); err == nil {
		b.single, err = b.connect(ctx, "single")
	}
	return b, end, err
}

// connect opens the log over a connection of its own.
func (b *esdbBench) connect(ctx context.Context, name string) (*esdbstore.Store, error) {
	s, err := esdbstore.Open(ctx, esdbstore.Config{
		Connection: "esdb://" + b.address + "?tls=false", SingleAppends: name == "single", Dir: filepath.Join(b.dir, name),
	})
	if err == nil {
		b.close = append(b.close, s.Close)
	}
	return s, err
}

// event is the n-th event of the log: 400 bytes with a random id.
func event(n uint64) eventstore.NewEvent {
	data := make([]byte, 340)
	head := `{"event":"Product Viewed","text":"`
	for i := copy(data, head); i < len(data); i++ {
		data[i] = 'a' + byte((n*31+uint64(i))%26)
	}
	binary.BigEndian.PutUint64(data[len(head):], n|0x6161616161616161)
	copy(data[len(data)-2:], `"}`)
	return eventstore.NewEvent{ID: uuid.New(), Type: "touchpoint.v1", Metadata: data[100:140], Data: data}
}

// one appends one event a call, from many writers.
func (b *esdbBench) one(s eventstore.Store, events int) side {
	return func(ctx context.Context) (float64, error) {
		var left atomic.Int64
		left.Store(int64(events))
		began := time.Now()
		group, ctx := errgroup.WithContext(ctx)
		for range writers {
			group.Go(func() error {
				for left.Add(-1) >= 0 {
					n := b.next.Add(1)
					if _, err := s.Append(ctx, fmt.Sprint("user-", n%streams), eventstore.Any{}, event(n)); err != nil {
						return err
					}
				}
				return nil
			})
		}
		err := group.Wait()
		return rate(events, time.Since(began)), err
	}
}

// many appends batches of a thousand events of as many streams.
func (b *esdbBench) many(s eventstore.Store, events int) side {
	return func(ctx context.Context) (float64, error) {
		var left atomic.Int64
		left.Store(int64(events / batchSize))
		began := time.Now()
		group, ctx := errgroup.WithContext(ctx)
		for range callers {
			group.Go(func() error {
				for left.Add(-1) >= 0 {
					parts := make([]eventstore.Append, batchSize)
					for i := range parts {
						n := b.next.Add(1)
						parts[i] = eventstore.Append{Stream: fmt.Sprint("user-", n%streams), Expected: eventstore.Any{}, Events: []eventstore.NewEvent{event(n)}}
					}
					if _, err := s.AppendMany(ctx, parts); err != nil {
						return err
					}
				}
				return nil
			})
		}
		err := group.Wait()
		return rate(events/batchSize*batchSize, time.Since(began)), err
	}
}

// appendFigures measure the append through EventStoreDB's protocol, to esdbserver
// over the embedded log, beside the embedded log itself.
func appendFigures(ctx context.Context, c *config) ([]figure, func() error, error) {
	b, end, err := newESDBBench(ctx, c)
	if err != nil {
		return nil, end, err
	}
	direct, events := "pebblestore direct", c.messages/10
	return []figure{
		{name: fmt.Sprintf("AppendToStream, %d writers", writers), unit: "events/s", ours: b.one(b.single, events), yardstick: b.one(b.direct, events), beside: direct},
		{name: fmt.Sprintf("BatchAppend, %d writers", writers), unit: "events/s", ours: b.one(b.batches, events), yardstick: b.one(b.direct, events), beside: direct},
		{
			name: "BatchAppend, 1,000 events a call", unit: "events/s",
			ours: b.many(b.batches, c.messages/4), yardstick: b.many(b.direct, c.messages/4), beside: direct,
		},
	}, end, nil
}

// read reads a whole log and counts its events.
func read(ctx context.Context, s eventstore.Store) (events int, err error) {
	for _, err := range s.ReadAll(ctx, 0) {
		if err != nil {
			return events, err
		}
		events++
	}
	return events, nil
}

// readFigures measure the reading of the whole log through gRPC.
func readFigures(ctx context.Context, c *config) ([]figure, func() error, error) {
	b, end, err := newESDBBench(ctx, c)
	if err != nil {
		return nil, end, err
	}
	if _, err := b.many(b.direct, c.messages)(ctx); err != nil {
		return nil, end, err
	}
	all := func(s eventstore.Store) side {
		return func(ctx context.Context) (float64, error) {
			began := time.Now()
			n, err := read(ctx, s)
			return rate(n, time.Since(began)), err
		}
	}
	// A reader never gets ahead of the index: the first reading waits for it.
	if _, err := all(b.batches)(ctx); err != nil {
		return nil, end, err
	}
	return []figure{
		{name: "catch-up read through gRPC", unit: "events/s", ours: all(b.batches), published: publishedRead, beside: "published for EventStoreDB"},
		{name: "catch-up read through gRPC, beside the store", unit: "events/s", ours: all(b.batches), yardstick: all(b.direct), beside: "pebblestore direct"},
	}, end, nil
}
