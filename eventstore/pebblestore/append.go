package pebblestore

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"

	"sojourn/eventstore"
)

// eventOverhead is what an event costs in the queue beside its bytes.
const eventOverhead = 64

// single is an append of one part, in one allocation.
type single struct {
	call   call
	part   [1]eventstore.Append
	result [1]eventstore.Result
	name   [1]nameHash
	hash   [1]uint64
}

// Append appends events to one stream, atomically. An append of no events
// changes nothing and succeeds whatever is expected.
func (s *Store) Append(ctx context.Context, stream string, expected eventstore.Expected, events ...eventstore.NewEvent) (eventstore.Result, error) {
	if err := ctx.Err(); err != nil {
		return eventstore.Result{}, err
	}
	one := &single{part: [1]eventstore.Append{{Stream: stream, Expected: expected, Events: events}}}
	bytes, err := measure(&one.part[0])
	if err != nil {
		return eventstore.Result{}, err
	}
	c := &one.call
	c.parts, c.results, c.bytes = one.part[:], one.result[:], bytes
	c.names, c.hashes = one.name[:0], one.hash[:0]
	s.prepare(c)
	g, err := s.queue.put(ctx, c, max(s.opts.QueueWait, 0))
	if err == nil {
		err = s.await(ctx, c, g)
	}
	if err == nil {
		err = one.result[0].Err
	}
	if err != nil {
		return eventstore.Result{}, err
	}
	return one.result[0], nil
}

// AppendMany appends to many streams. A call whose events take more than 4 MiB
// is made durable in several commits, each part in one of them.
//
// The context can take back what the committer has not begun to read; an append
// that it has read is waited for.
func (s *Store) AppendMany(ctx context.Context, parts []eventstore.Append) ([]eventstore.Result, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	results := make([]eventstore.Result, len(parts))
	if len(parts) == 0 {
		return results, s.refusal()
	}
	type sent struct {
		call  *call
		group *group
	}
	var first sent
	var more []sent
	patience := max(s.opts.QueueWait, 0)
	send := func(from, to int, bytes int64) error {
		c := &call{parts: parts[from:to:to], results: results[from:to:to], bytes: bytes}
		s.prepare(c)
		g, err := s.queue.put(ctx, c, patience)
		if err != nil {
			return err
		}
		if first.call == nil {
			first = sent{c, g}
		} else {
			more = append(more, sent{c, g})
		}
		// What has begun goes on when there is room, however long that takes.
		patience = -1
		return nil
	}
	// Every part is measured before the first is sent: a call that cannot be
	// understood appends nothing.
	sizes := make([]int64, len(parts))
	for i := range parts {
		var err error
		if sizes[i], err = measure(&parts[i]); errors.Is(err, eventstore.ErrTooLarge) {
			results[i].Err = err
		} else if err != nil {
			return nil, err
		}
	}
	var err error
	from, bytes := 0, int64(0)
	for i, size := range sizes {
		if i > from && bytes+size > maxGroupBytes {
			if err = send(from, i, bytes); err != nil {
				break
			}
			from, bytes = i, 0
		}
		bytes += size
	}
	if err == nil {
		err = send(from, len(parts), bytes)
	}
	// Everything that was sent reads the caller's events: wait for all of it.
	if first.call != nil {
		err = errors.Join(err, s.await(ctx, first.call, first.group))
	}
	for _, m := range more {
		err = errors.Join(err, s.await(ctx, m.call, m.group))
	}
	if err != nil {
		return nil, err
	}
	return results, nil
}

// candidate marks the hash of an id that a frozen segment or a run may hold.
const candidate = 1 << 63

// prepare hashes a call's streams and ids, asks the filters for the ids and waits for
// memory, which callers do side by side and the committer would do alone.
func (s *Store) prepare(c *call) {
	n := 0
	for i := range c.parts {
		n += len(c.parts[i].Events)
	}
	c.names, c.hashes = slices.Grow(c.names, len(c.parts)), slices.Grow(c.hashes, n)
	for i := range c.parts {
		p := &c.parts[i]
		c.names = append(c.names, s.seed.nameHash(p.Stream))
		for k := range p.Events {
			c.hashes = append(c.hashes, s.seed.idHash(p.Events[k].ID))
		}
	}
	c.seen = s.index.Load()
	c.seen.mark(c.hashes)
	runtime.KeepAlive(s.committer.revisions.warm(c.names))
}

// mark marks the candidates among some hashes.
func (state *indexState) mark(hashes []uint64) {
	for _, g := range state.frozen {
		for i, h := range hashes {
			if g.mayContain(h &^ candidate) {
				hashes[i] |= candidate
			}
		}
	}
	for _, r := range state.runs[idRuns] {
		for i, h := range hashes {
			if r.filter.mayContain(h &^ candidate) {
				hashes[i] |= candidate
			}
		}
	}
}

// refusal is the error that every append gets at present, or nil.
func (s *Store) refusal() error {
	if s.isClosing() {
		return eventstore.ErrClosed
	}
	return s.failureErr()
}

// measure returns the size of a part, or why it cannot be appended.
func measure(p *eventstore.Append) (int64, error) {
	switch p.Expected.(type) {
	case nil, eventstore.Any, eventstore.NoStream, eventstore.StreamExists, eventstore.Revision:
	default:
		return 0, fmt.Errorf("append to stream %q: unknown expectation %T", p.Stream, p.Expected)
	}
	if p.Stream == "" {
		return 0, errors.New("append to a stream without a name")
	}
	if len(p.Stream) > MaxStreamBytes {
		return 0, fmt.Errorf("%w: the stream's name has %d bytes, at most %d are kept",
			eventstore.ErrTooLarge, len(p.Stream), MaxStreamBytes)
	}
	if len(p.Events) > MaxAppendEvents {
		return 0, fmt.Errorf("%w: %d events in one part, at most %d are appended at once",
			eventstore.ErrTooLarge, len(p.Events), MaxAppendEvents)
	}
	total := int64(eventOverhead)
	for i := range p.Events {
		e := &p.Events[i]
		if len(e.Type) > MaxTypeBytes {
			return 0, fmt.Errorf("%w: the event's type has %d bytes, at most %d are kept",
				eventstore.ErrTooLarge, len(e.Type), MaxTypeBytes)
		}
		size := len(p.Stream) + len(e.Type) + len(e.Metadata) + len(e.Data)
		if size > MaxEventBytes {
			return 0, fmt.Errorf("%w: %d bytes, at most %d are kept", eventstore.ErrTooLarge, size, MaxEventBytes)
		}
		total += int64(size) + eventOverhead
	}
	if total > MaxAppendBytes {
		return 0, fmt.Errorf("%w: %d bytes in one part, at most %d are appended at once",
			eventstore.ErrTooLarge, total, MaxAppendBytes)
	}
	return total, nil
}
