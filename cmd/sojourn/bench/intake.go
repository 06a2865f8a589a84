package bench

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"sojourn/ingest/segmentapi"
)

// The sizes of a round of figure 2, in events.
const (
	intakeEvents = 200_000
	intakeQuick  = 4_000
)

const (
	// intakeConnections are how many clients send side by side.
	intakeConnections = 32
	parseRepeats      = 5
)

func basic(key string) string { return base64.StdEncoding.EncodeToString([]byte(key + ":")) }

// intake takes figure 2: POST /v1/batch, beside a handler that only parses.
func (b *bench) intake(ctx context.Context, d *data) error {
	tracking, err := segmentapi.New(segmentapi.Config{Service: d.service, Keys: d.keys, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	ours, stopOurs, err := listen(tracking)
	if err != nil {
		return err
	}
	defer stopOurs()
	only, stopOnly, err := listen(http.HandlerFunc(parseOnly))
	if err != nil {
		return err
	}
	defer stopOnly()
	line := Line{
		Figure: "2", Name: "POST /v1/batch of 100, answered 200", Unit: "events/s", YardstickName: "handler that only parses",
		Floor: 0.30, Goal: 0.60,
	}
	parser := Line{Figure: "2", Name: "the parser alone, one core", Unit: "events/s"}
	for round := range b.Rounds {
		calls := d.calls(b.size(intakeEvents, intakeQuick))
		n := len(calls) * batchSize
		if err := d.store.FlushTables(ctx); err != nil {
			return err
		}
		whole, err := timed(n, func() error {
			return b.profiled(2, round, func() error {
				return errors.Join(flood(ctx, ours, intakeConnections, calls), d.store.FlushIndexes(ctx))
			})
		})
		if err != nil {
			return fmt.Errorf("figure 2: %w", err)
		}
		// The yardstick is over so soon that it is taken several times in a row.
		parse, err := timed(parseRepeats*n, func() error {
			for range parseRepeats {
				if err := flood(ctx, only, intakeConnections, calls); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("figure 2: %w", err)
		}
		alone, err := timed(n, func() error {
			for i := range calls {
				if _, err := segmentapi.ParseOnly(calls[i].body); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		line.OursRounds, line.YardstickRounds = append(line.OursRounds, whole), append(line.YardstickRounds, parse)
		parser.OursRounds = append(parser.OursRounds, alone)
		b.say("figure 2: round %d of %d: %s, only parsed %s, the parser %s events/s",
			round+1, b.Rounds, number(whole), number(parse), number(alone))
	}
	b.rate = median(line.OursRounds)
	if b.wants(2) {
		b.report.add(line)
		b.report.add(parser)
	}
	return nil
}

// parseOnly is the yardstick of figure 2: it reads the body, parses it into the
// structs that the tracking API parses into, and answers.
func parseOnly(w http.ResponseWriter, r *http.Request) {
	buf := parseBuffers.Get().(*[]byte)
	defer parseBuffers.Put(buf)
	if n := int(r.ContentLength); cap(*buf) < n {
		*buf = make([]byte, n)
	}
	body := (*buf)[:r.ContentLength]
	if _, err := io.ReadFull(r.Body, body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if n, err := segmentapi.ParseOnly(body); err != nil || n != batchSize {
		http.Error(w, fmt.Sprint(n, err), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	// A client that has gone ends the measurement.
	_, _ = w.Write([]byte(`{"success":true}`))
}

var parseBuffers = sync.Pool{New: func() any { return new([]byte) }}

// listen serves a handler on a free port of the loopback.
func listen(h http.Handler) (addr string, stop func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	s := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, WriteTimeout: 90 * time.Second, IdleTimeout: 2 * time.Minute}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l) // ends with Close
	}()
	return l.Addr().String(), func() { _ = s.Close(); <-done }, nil
}
