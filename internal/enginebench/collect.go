package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"sojourn/domain"
	"sojourn/eventstore/pebblestore"
	"sojourn/ingest"
	"sojourn/ingest/collector"
	"sojourn/ingest/segmentapi"
)

const (
	connections = 32
	callSize    = 100 // messages
)

// collectFigures measure POST /v1/batch of 100 messages into Kafka beside the
// same into the embedded log.
func collectFigures(ctx context.Context, c *config) ([]figure, func() error, error) {
	if c.broker == "" {
		return nil, nil, errors.New("say by KAFKA_ADDRESS where the broker is")
	}
	k := &kafkaBench{config: c}
	removeTopic, err := k.topics(ctx, collected)
	closers := []func() error{removeTopic}
	end := func() (err error) {
		for i := len(closers) - 1; i >= 0; i-- {
			err = errors.Join(err, closers[i]())
		}
		return err
	}
	if err != nil {
		return nil, end, err
	}
	dir, err := c.folder()
	if err != nil {
		return nil, end, err
	}
	store, err := pebblestore.Open(filepath.Join(dir, "log"), pebblestore.Options{})
	if err != nil {
		return nil, end, err
	}
	closers = append(closers, store.Close)
	service, err := ingest.New(ingest.Config{Log: store, Index: store, Keyer: domain.NewKeyer(make([]byte, domain.KeySize))})
	if err != nil {
		return nil, end, err
	}
	keys, err := ingest.LoadKeys(ctx, store, nil)
	if err != nil {
		return nil, end, err
	}
	key, _, err := keys.Create(ctx, "shop")
	if err != nil {
		return nil, end, err
	}
	col, err := collector.New(collector.Config{Brokers: []string{c.broker}, Topic: collected, AllowUnreplicated: true})
	if err != nil {
		return nil, end, err
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- col.Run(running) }()
	closers = append(closers, func() error { stop(); return <-ended })
	for deadline := time.Now().Add(30 * time.Second); !col.Ready(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) || ctx.Err() != nil {
			return nil, end, errors.New("the collector does not get ready")
		}
	}
	var sides [2]side
	for i, s := range []segmentapi.Service{col, service} {
		h, err := segmentapi.New(segmentapi.Config{Service: s, Keys: keys})
		if err != nil {
			return nil, end, err
		}
		server := httptest.NewServer(h)
		closers = append(closers, func() error { server.Close(); return nil })
		sides[i] = func(ctx context.Context) (float64, error) {
			return load(ctx, server.Listener.Addr().String(), key, c.messages)
		}
	}
	return []figure{{
		name: "HTTP collect into Kafka", unit: "messages/s", ours: sides[0], yardstick: sides[1], beside: "HTTP into the embedded store",
	}}, end, nil
}

// load sends messages over connections of its own; the calls are made before the
// clock starts.
func load(ctx context.Context, addr, key string, messages int) (float64, error) {
	calls := make([][]byte, messages/callSize)
	for i := range calls {
		body := []byte(`{"batch":[`)
		for n := range callSize {
			if n > 0 {
				body = append(body, ',')
			}
			body = append(body, message(i*callSize+n)...)
		}
		body = append(body, "]}"...)
		calls[i] = append(fmt.Appendf(nil, "POST /v1/batch HTTP/1.1\r\nHost: sojourn\r\nContent-Type: application/json\r\n"+
			"Authorization: Basic %s\r\nContent-Length: %d\r\n\r\n", base64.StdEncoding.EncodeToString([]byte(key+":")), len(body)), body...)
	}
	var next atomic.Int64
	began := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	for range connections {
		group.Go(func() (err error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, conn.Close()) }()
			answers := bufio.NewReader(conn)
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= len(calls) {
					return nil
				}
				if _, err := conn.Write(calls[i]); err != nil {
					return err
				}
				res, err := http.ReadResponse(answers, nil)
				if err != nil {
					return err
				}
				_, err = io.Copy(io.Discard, res.Body)
				if err = errors.Join(err, res.Body.Close()); err != nil {
					return err
				}
				if res.StatusCode != http.StatusOK {
					return fmt.Errorf("answered %s", res.Status)
				}
			}
			return ctx.Err()
		})
	}
	err := group.Wait()
	return rate(len(calls)*callSize, time.Since(began)), err
}
