package kafkasource

import (
	"context"
	"errors"
	"hash/maphash"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/segmentio/kafka-go"

	"sojourn/domain"
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

	messages, bytes, duplicates, rejects, lost prometheus.Counter
	lag                                        prometheus.Gauge
}

func (s *Source) newPartition(t *topic, a kafka.PartitionAssignment, c *commits) *partition {
	id := strconv.Itoa(a.ID)
	m := s.metrics
	return &partition{
		topic: t, source: s, id: a.ID, offset: a.Offset, commits: c,
		logger:   s.logger.With(slog.String("topic", t.Name), slog.Int("partition", a.ID)),
		messages: m.messages.WithLabelValues(t.Name, id), bytes: m.bytes.WithLabelValues(t.Name, id),
		duplicates: m.duplicates.WithLabelValues(t.Name, id), rejects: m.rejects.WithLabelValues(t.Name, id),
		lost: m.lost.WithLabelValues(t.Name, id), lag: m.lag.WithLabelValues(t.Name, id),
	}
}

// parsed is what a fetch found, as messages.
type parsed struct {
	fetched
	lanes []lane
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
			p.lag.Set(float64(max(f.high-f.next, 0)))
			continue
		}
		p.offset = f.next
		select {
		case ready <- &parsed{fetched: *f, lanes: p.parse(f)}:
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
	return p.source.fetch(ctx, p.Name, p.id, p.offset)
}

// lane is messages of a fetch that are ingested one run after the other.
type lane struct {
	runs     []run
	refusals []ingest.Refusal
}

// run is messages that reached Kafka in the same millisecond: a call to ingest
// has one time of receipt.
type run struct {
	at       domain.Millis
	messages []ingest.Message
}

const maxLanes = 64

var laneSeed = maphash.MakeSeed()

// parse reads the messages of a fetch and puts them into lanes, by their key, so
// that the order within a key stays. The lanes are ingested side by side and
// share the store's commits: the more runs there are, the more lanes.
func (p *partition) parse(f *fetched) []lane {
	now := p.source.service.Now()
	runs, last := 0, domain.Millis(0)
	for i := range f.records {
		if at := receivedAt(&f.records[i], now); i == 0 || at != last {
			runs, last = runs+1, at
		}
	}
	lanes := make([]lane, min(max(maxLanes*runs/max(len(f.records), 1), 2), maxLanes))
	for i := range f.records {
		r := &f.records[i]
		at := receivedAt(r, now)
		l := &lanes[i%len(lanes)]
		if r.key != nil {
			l = &lanes[maphash.Bytes(laneSeed, r.key)%uint64(len(lanes))]
		}
		m, refused := p.message(r, p.id)
		if refused != "" {
			l.refusals = append(l.refusals, ingest.Refusal{
				Source: p.Source, Code: codeNoJSON, Reason: refused + "; it stands at " + placeID(p.Name, p.id, r.offset),
				ReceivedAt: at, Body: r.value,
			})
			continue
		}
		if n := len(l.runs); n == 0 || l.runs[n-1].at != at {
			l.runs = append(l.runs, run{at: at})
		}
		last := &l.runs[len(l.runs)-1]
		last.messages = append(last.messages, m)
	}
	return lanes
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
	var working sync.WaitGroup
	var mu sync.Mutex
	var sum ingest.Outcome
	done := true
	for i := range f.lanes {
		if l := &f.lanes[i]; len(l.runs)+len(l.refusals) > 0 {
			working.Go(func() {
				out, ok := p.lane(ctx, l)
				mu.Lock()
				defer mu.Unlock()
				sum.Duplicates += out.Duplicates
				sum.Rejected += out.Rejected
				done = done && ok
			})
		}
	}
	working.Wait()
	if !done {
		return false
	}
	p.commits.add(p.Name, p.id, f.next)
	p.messages.Add(float64(len(f.records)))
	p.bytes.Add(float64(f.bytes))
	p.duplicates.Add(float64(sum.Duplicates))
	p.rejects.Add(float64(sum.Rejected))
	p.lag.Set(float64(max(f.high-f.next, 0)))
	return true
}

// lane ingests a lane in order. ok is false where the context ended while the
// store took nothing.
func (p *partition) lane(ctx context.Context, l *lane) (sum ingest.Outcome, ok bool) {
	for i := range l.runs {
		batch := &ingest.Batch{Source: p.Source, ReceivedAt: l.runs[i].at, Messages: l.runs[i].messages}
		if !p.insist(ctx, func() error {
			out, err := p.source.service.Ingest(ctx, batch, 0)
			sum.Duplicates += out.Duplicates
			sum.Rejected += out.Rejected
			return err
		}) {
			return sum, false
		}
	}
	for _, r := range l.refusals {
		if !p.insist(ctx, func() error { return p.source.service.Refuse(ctx, r) }) {
			return sum, false
		}
		sum.Rejected++
	}
	return sum, true
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

