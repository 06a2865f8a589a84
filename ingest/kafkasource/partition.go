package kafkasource

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/segmentio/kafka-go"
	"golang.org/x/sync/errgroup"

	"sojourn/eventstore"
	"sojourn/ingest"
)

// How long a failed fetch or append waits before it is tried again.
const (
	minBackoff = 100 * time.Millisecond
	maxBackoff = 5 * time.Second
)

// partition is a partition while it is assigned to this member.
type partition struct {
	*topic
	source  *Source
	id      int
	offset  int64 // to read next, or kafka.FirstOffset or kafka.LastOffset
	commits *commits
	logger  *slog.Logger
	durable atomic.Int64 // the offset behind the last message that is durable; below 0 where unknown

	messages, bytes, duplicates, rejects, lost prometheus.Counter
	lag                                        prometheus.Gauge
}

func (s *Source) newPartition(t *topic, a kafka.PartitionAssignment, c *commits) *partition {
	id := strconv.Itoa(a.ID)
	m := s.metrics
	p := &partition{
		topic: t, source: s, id: a.ID, offset: a.Offset, commits: c,
		logger:   s.logger.With(slog.String("topic", t.Name), slog.Int("partition", a.ID)),
		messages: m.messages.WithLabelValues(t.Name, id), bytes: m.bytes.WithLabelValues(t.Name, id),
		duplicates: m.duplicates.WithLabelValues(t.Name, id), rejects: m.rejects.WithLabelValues(t.Name, id),
		lost: m.lost.WithLabelValues(t.Name, id), lag: m.lag.WithLabelValues(t.Name, id),
	}
	p.durable.Store(a.Offset)
	return p
}

// behind sets the lag, where the partition ends at an offset.
func (p *partition) behind(end int64) {
	if at := p.durable.Load(); at >= 0 {
		p.lag.Set(float64(max(end-at, 0)))
	}
}

// parsed is what a fetch found, as messages.
type parsed struct {
	fetched
	messages []ingest.Message
	refusals []ingest.Refusal // values that are no message at all
}

// run reads the partition until the context ends: the next fetch is read and
// parsed while the one before it is ingested.
func (p *partition) run(ctx context.Context) {
	ready := make(chan *parsed)
	var reading sync.WaitGroup
	reading.Go(func() {
		defer close(ready)
		p.read(ctx, ready)
	})
	for next := range ready {
		if !p.ingest(ctx, next) {
			break
		}
	}
	for range ready { // what was read ahead goes to whoever comes next
	}
	reading.Wait()
}

// read fetches and parses until the context ends.
func (p *partition) read(ctx context.Context, ready chan<- *parsed) {
	wait := backoff{}
	for ctx.Err() == nil {
		f, err := p.next(ctx)
		if err != nil {
			if ctx.Err() == nil {
				p.logger.LogAttrs(ctx, slog.LevelWarn, "kafka partition not read, trying again", slog.Any("error", err))
				wait.sleep(ctx)
			}
			continue
		}
		wait = backoff{}
		if f.next == p.offset {
			p.behind(f.high)
			continue
		}
		p.offset = f.next
		next := &parsed{fetched: *f}
		next.messages, next.refusals = p.parse(f)
		select {
		case ready <- next:
		case <-ctx.Done():
		}
	}
}

// next fetches from where the partition stands. An offset that Kafka does not
// hold any more, or not yet, is set to the first that it holds.
func (p *partition) next(ctx context.Context) (*fetched, error) {
	if p.offset < 0 {
		at, err := p.source.bound(ctx, p.Name, p.id, p.offset)
		if err != nil {
			return nil, err
		}
		p.offset = at
		p.durable.Store(at)
		p.commits.add(p.Name, p.id, at)
	}
	f, err := p.source.fetch(ctx, p.Name, p.id, p.offset)
	if !errors.Is(err, kafka.OffsetOutOfRange) {
		return f, err
	}
	first, err := p.source.bound(ctx, p.Name, p.id, kafka.FirstOffset)
	if err != nil {
		return nil, err
	}
	p.logger.LogAttrs(ctx, slog.LevelError, "kafka does not hold the next offset, going on at the first that it holds",
		slog.Int64("wanted", p.offset), slog.Int64("first", first))
	p.lost.Add(float64(max(first-p.offset, 0)))
	p.offset = first
	p.durable.Store(first)
	return p.source.fetch(ctx, p.Name, p.id, p.offset)
}

// maxValue is the size of a value that the rejects hold whole; it is far above
// that of a message that can be used, and below what the store takes.
const maxValue = 4 << 20

// maxRefusals is how many values that are no message a partition stores side by
// side.
const maxRefusals = 64

// parse reads the messages of a fetch, all by one mapping.
func (p *partition) parse(f *fetched) (messages []ingest.Message, refusals []ingest.Refusal) {
	now, by := p.source.service.Now(), p.reading()
	messages = make([]ingest.Message, 0, len(f.records))
	for i := range f.records {
		r := &f.records[i]
		at := receivedAt(r, now)
		if len(r.value) > maxValue {
			refusals = append(refusals, ingest.Refusal{
				Source: p.Source, Code: ingest.CodeTooLarge, ReceivedAt: at, Body: r.value,
				Reason: fmt.Sprintf("the value has more than %d bytes; it stands at %s", maxValue, placeID(p.Name, p.id, r.offset)),
			})
			continue
		}
		if p.format() == Collected {
			m, refusal := p.collected(r, now)
			if refusal != nil {
				refusals = append(refusals, *refusal)
			} else {
				messages = append(messages, *m)
			}
			continue
		}
		m := p.message(r, p.id, by)
		m.ReceivedAt = at
		messages = append(messages, m)
	}
	return messages, refusals
}

// maxReserved is how much a fetch asks for of the room that ingest has; one that
// is larger, as a well compressed one may be, waits for no more.
const maxReserved = 8 << 20

// ingest brings a fetch to the log and notes that it is durable. It is false
// where the context ended before it was.
func (p *partition) ingest(ctx context.Context, f *parsed) bool {
	room, ok := p.reserve(ctx, min(f.bytes, maxReserved))
	if !ok {
		return false
	}
	defer room.Release()
	sum, ok := p.store(ctx, f)
	if !ok {
		return false
	}
	p.durable.Store(f.next)
	p.commits.add(p.Name, p.id, f.next)
	p.messages.Add(float64(len(f.records)))
	p.bytes.Add(float64(f.bytes))
	p.duplicates.Add(float64(sum.Duplicates))
	p.rejects.Add(float64(sum.Rejected))
	p.behind(f.high)
	return true
}

// store makes a fetch durable. It is false where the context ended while the
// store took nothing.
func (p *partition) store(ctx context.Context, f *parsed) (sum ingest.Outcome, ok bool) {
	batch := &ingest.Batch{Source: p.Source, Messages: f.messages}
	if !p.insist(ctx, func() (err error) {
		sum, err = p.source.service.Ingest(ctx, batch, 0)
		return err
	}) {
		return sum, false
	}
	var calls errgroup.Group
	calls.SetLimit(maxRefusals)
	var stored atomic.Int64
	for _, r := range f.refusals {
		calls.Go(func() error {
			if p.insist(ctx, func() error { return p.source.service.Refuse(ctx, r) }) {
				stored.Add(1)
			}
			return nil
		})
	}
	_ = calls.Wait() // they return no error
	sum.Rejected += int(stored.Load())
	return sum, int(stored.Load()) == len(f.refusals)
}

// reserve waits until ingest has room.
func (p *partition) reserve(ctx context.Context, bytes int64) (room *ingest.Reservation, ok bool) {
	ok = p.insist(ctx, func() (err error) {
		room, err = p.source.service.Reserve(bytes)
		return err
	})
	return room, ok
}

// insist does something until it succeeds; false where the context ended first.
// It is tried once in any case, so that what was read is durable at the end of a
// generation, while the store takes events.
func (p *partition) insist(ctx context.Context, do func() error) bool {
	wait := backoff{}
	for {
		err := do()
		if err == nil {
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		if !errors.Is(err, ingest.ErrOverloaded) && !errors.Is(err, eventstore.ErrOverloaded) {
			p.logger.LogAttrs(ctx, slog.LevelWarn, "kafka messages not stored, trying again", slog.Any("error", err))
		}
		wait.sleep(ctx)
	}
}

// backoff waits longer each time.
type backoff struct{ last time.Duration }

func (b *backoff) sleep(ctx context.Context) {
	b.last = min(max(2*b.last, minBackoff), maxBackoff)
	timer := time.NewTimer(b.last)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
