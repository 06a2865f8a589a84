package esdbstore

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/google/uuid"

	"sojourn/eventstore"
)

// Limits of what one round of appends takes on.
const (
	roundParts   = 1024
	loadsAtATime = 32
)

// Append appends to one stream.
func (s *Store) Append(ctx context.Context, stream string, expected eventstore.Expected, events ...eventstore.NewEvent) (eventstore.Result, error) {
	res, err := s.AppendMany(ctx, []eventstore.Append{{Stream: stream, Expected: expected, Events: events}})
	if err != nil {
		return eventstore.Result{}, err
	}
	err, res[0].Err = res[0].Err, nil
	return res[0], err
}

// AppendMany appends to many streams, in rounds: each takes the parts that come
// next, up to the first whose stream the round appends to already, decides them,
// and sends what is new without waiting in between. A part whose stream has
// moved on meanwhile is decided again in the next round.
func (s *Store) AppendMany(ctx context.Context, parts []eventstore.Append) ([]eventstore.Result, error) {
	if s.closing.Err() != nil {
		return nil, errClosed
	}
	results := make([]eventstore.Result, len(parts))
	var open []int // the parts that are not settled
	for i, p := range parts {
		if len(p.Events) > 0 {
			open = append(open, i)
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if len(open) == 0 {
		return results, nil
	}
	err := s.do(ctx, "append", false, func(ctx context.Context, n *node) (progress bool, err error) {
		for len(open) > 0 {
			before := len(open)
			if open, err = s.round(ctx, n, parts, open, results); err != nil {
				return progress, err
			}
			progress = progress || len(open) < before
		}
		return progress, nil
	})
	if err != nil {
		return nil, err
	}
	for i := range results {
		if results[i].Err == nil && results[i].Position > 0 {
			s.index.need(results[i].Position)
		}
	}
	return results, nil
}

// request is what a part sends to the server.
type request struct {
	part     int
	stream   string
	expected eventstore.Expected // NoStream or Revision
	events   []eventstore.NewEvent
	decision decision
}

// round settles some of the open parts and returns the others, in their order.
func (s *Store) round(ctx context.Context, n *node, parts []eventstore.Append, open []int, results []eventstore.Result) ([]int, error) {
	window := open[:min(len(open), roundParts)]
	ends, err := s.loadAll(ctx, n, parts, window)
	if err != nil {
		return open, err
	}
	covered := eventstore.Position(s.index.covered.Load())
	sent := make(map[string]bool)
	var requests []request
	settled := make(map[int]bool)
	for _, i := range window {
		p := &parts[i]
		if sent[p.Stream] {
			break
		}
		end := ends[p.Stream]
		d, err := s.decide(end, p)
		if err != nil {
			return open, err
		}
		if d.result.Err != nil && end.guess { // it may be right by now
			if end, err = s.load(ctx, n, p.Stream); err != nil {
				return open, err
			}
			ends[p.Stream] = end
			if d, err = s.decide(end, p); err != nil {
				return open, err
			}
		}
		if len(d.events) == 0 { // settled without the server
			if d.result.Err == nil && d.result.Position == 0 {
				if d.result.Position, err = s.positionOf(ctx, n, p.Stream, d.result.Revision); err != nil {
					return open, err
				}
			}
			results[i], settled[i] = d.result, true
			continue
		}
		sent[p.Stream] = true
		r := request{part: i, stream: p.Stream, expected: eventstore.NoStream{}, events: d.events, decision: d}
		if end.next > 0 {
			r.expected = eventstore.Revision(end.next - 1)
		}
		requests = append(requests, r)
	}
	answers, err := s.send(ctx, n, requests)
	for k := len(answers); k < len(requests); k++ {
		s.ends.drop(requests[k].stream)
	}
	for k, a := range answers {
		r := &requests[k]
		if a.err == nil {
			s.ends.put(r.stream, ends[r.stream].after(r.events, a.position, covered))
		} else {
			s.ends.drop(r.stream)
		}
		switch {
		case errors.Is(a.err, errMoved):
		case errors.Is(a.err, eventstore.ErrTooLarge):
			results[r.part], settled[r.part] = eventstore.Result{Err: a.err}, true
		case a.err != nil:
			err = errors.Join(err, a.err)
		default:
			res := r.decision.result
			if res.Position == 0 {
				if res.Position = a.position; a.position == 0 || res.Revision != r.decision.last {
					var readErr error
					if res.Position, readErr = s.positionOf(ctx, n, r.stream, res.Revision); readErr != nil {
						s.ends.drop(r.stream)
						err = errors.Join(err, readErr)
						continue
					}
				}
			}
			results[r.part], settled[r.part] = res, true
		}
	}
	left := open[:0]
	for _, i := range open {
		if !settled[i] {
			left = append(left, i)
		}
	}
	return left, err
}

// end is the end of a stream as it was read, or as it stood after an append of
// this store. It is not changed.
type end struct {
	next uint64 // the revision of the next event
	// recent are the events that the index may not hold. A position of 0 is not
	// known.
	recent map[uuid.UUID]place
	guess  bool // it is remembered: the stream may have moved on
}

// ends remembers the ends of some streams.
type ends struct {
	mu sync.Mutex
	of map[string]*end
}

// Limits of what is remembered.
const (
	rememberedEnds   = 1 << 16 // streams
	rememberedEvents = 1 << 12 // events of one stream that the index does not cover
)

func (e *ends) get(stream string) *end {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.of[stream]
}

func (e *ends) put(stream string, x *end) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(x.recent) > rememberedEvents { // the index is far behind
		delete(e.of, stream)
		return
	}
	if len(e.of) >= rememberedEnds && e.of[stream] == nil {
		for other := range e.of { // any one
			delete(e.of, other)
			break
		}
	}
	e.of[stream] = x
}

func (e *ends) drop(stream string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.of, stream)
}

// after is the end of a stream when events have been appended to it, the last of
// them at a position.
func (e *end) after(events []eventstore.NewEvent, position, covered eventstore.Position) *end {
	out := &end{next: e.next + uint64(len(events)), recent: make(map[uuid.UUID]place, len(e.recent)+len(events)), guess: true}
	known := uint64(0) // the index covers the revisions before
	for _, p := range e.recent {
		if p.position > 0 && p.position <= covered {
			known = max(known, p.revision+1)
		}
	}
	for id, p := range e.recent {
		if p.revision >= known {
			out.recent[id] = p
		}
	}
	for i := range events {
		p := place{revision: e.next + uint64(i)}
		if i == len(events)-1 {
			p.position = position
		}
		out.recent[events[i].ID] = p
	}
	return out
}

// loadAll reads the ends of the streams of some parts, several at a time.
func (s *Store) loadAll(ctx context.Context, n *node, parts []eventstore.Append, window []int) (map[string]*end, error) {
	ends := make(map[string]*end)
	for _, i := range window {
		ends[parts[i].Stream] = nil
	}
	var mu sync.Mutex
	var errs []error
	var wg sync.WaitGroup
	slots := make(chan struct{}, loadsAtATime)
	loaded := make(map[string]*end, len(ends))
	for stream := range ends {
		if e := s.ends.get(stream); e != nil {
			mu.Lock()
			loaded[stream] = e
			mu.Unlock()
			continue
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			e, err := s.load(ctx, n, stream)
			mu.Lock()
			defer mu.Unlock()
			loaded[stream] = e
			if err != nil {
				errs = append(errs, err)
			}
		})
	}
	wg.Wait()
	if len(errs) > 0 {
		return nil, errs[0]
	}
	return loaded, nil
}

// load reads the end of a stream, back to what the index covers.
func (s *Store) load(ctx context.Context, n *node, stream string) (*end, error) {
	ctx, cancel := context.WithTimeout(ctx, s.deadline)
	defer cancel()
	covered := eventstore.Position(s.index.covered.Load())
	out := &end{recent: make(map[uuid.UUID]place)}
	some := uint64(1) // the last event is most often one that the index covers
	for from, first := eventstore.End, true; ; first, some = false, 64 {
		seen, done := uint64(0), false
		err := s.read(ctx, n, streamRequest(stream, from, eventstore.Backwards, some), func(e *eventstore.Recorded) error {
			if first && seen == 0 {
				out.next = e.Revision + 1
			}
			seen++
			if e.Position <= covered {
				done = true
				return errStop
			}
			out.recent[e.ID] = place{revision: e.Revision, position: e.Position}
			from = e.Revision - 1
			return nil
		})
		if errors.Is(err, eventstore.ErrStreamNotFound) {
			return out, nil
		}
		if err != nil || done || seen < some || from == eventstore.End {
			return out, err
		}
	}
}

// known finds an event in a stream.
func (s *Store) known(e *end, stream string, id uuid.UUID) (place, bool, error) {
	if p, ok := e.recent[id]; ok {
		return p, true, nil
	}
	places, err := s.index.places(id, stream)
	if err != nil || len(places) == 0 {
		return place{}, false, err
	}
	return places[0], true, nil
}

// decision is what is to become of a part.
type decision struct {
	events []eventstore.NewEvent // to append, right behind the stream's end
	last   uint64                // the revision of the last of them
	// result is the part's result, once the events are appended; its position is 0
	// where the append will tell it.
	result eventstore.Result
}

// fact is what is known of an event of a part.
type fact struct {
	place
	here bool // its stream holds it
}

// decide applies the contract's rule of repeats to a part.
func (s *Store) decide(e *end, p *eventstore.Append) (decision, error) {
	facts := make([]fact, len(p.Events))
	unknown := 0
	for i := range p.Events {
		at, here, err := s.known(e, p.Stream, p.Events[i].ID)
		if err != nil {
			return decision{}, err
		}
		facts[i] = fact{place: at, here: here}
		if !here {
			unknown++
		}
	}
	var d decision
	if unknown > 0 && !admits(p.Expected, e.next, facts) {
		wrong := &eventstore.WrongRevisionError{Stream: p.Stream, Expected: p.Expected, Exists: e.next > 0}
		if wrong.Exists {
			wrong.Actual = e.next - 1
		}
		d.result.Err = wrong
		return d, nil
	}
	added := make(map[uuid.UUID]uint64)
	next := e.next
	for i := range p.Events {
		ev := &p.Events[i]
		revision, twice := added[ev.ID]
		switch {
		case facts[i].here:
			d.result.Revision, d.result.Position = facts[i].revision, facts[i].position
		case twice: // in this call
			d.result.Revision, d.result.Position = revision, 0
		default:
			d.result.Revision, d.result.Position = next, 0
			added[ev.ID] = next
			d.events = append(d.events, *ev)
			d.last = next
			next++
		}
	}
	d.result.Appended = len(d.events)
	return d, nil
}

// admits says whether the unknown ones of a part's events may be appended to a
// stream whose next revision is next.
func admits(expected eventstore.Expected, next uint64, facts []fact) bool {
	from := uint64(0) // the revision right behind the expected one
	switch x := expected.(type) {
	case nil, eventstore.Any:
		return true
	case eventstore.StreamExists:
		return next > 0
	case eventstore.Revision:
		if x == eventstore.Revision(eventstore.End) { // no stream is that long
			return false
		}
		from = uint64(x) + 1
	}
	if next <= from {
		return next == from
	}
	// The stream goes on: only with the call's own first events, in their order.
	want := from
	for _, f := range facts {
		switch {
		case want == next:
			return true
		case !f.here:
			return false
		case f.revision == want:
			want++
		case f.revision < from || f.revision > want:
			return false
		} // else the same id stood before in the call
	}
	return want == next
}

// positionOf reads where an event of a stream stands.
func (s *Store) positionOf(ctx context.Context, n *node, stream string, revision uint64) (eventstore.Position, error) {
	ctx, cancel := context.WithTimeout(ctx, s.deadline)
	defer cancel()
	at := eventstore.Position(0)
	err := s.read(ctx, n, streamRequest(stream, revision, eventstore.Forwards, 1), func(e *eventstore.Recorded) error {
		at = e.Position
		return errStop
	})
	if err == nil && at == 0 { // what an answer said to stand there does not
		err = &again{kind: ErrUnreachable, cause: fmt.Errorf("the stream %q has no event %d yet", stream, revision)}
	}
	return at, err
}
