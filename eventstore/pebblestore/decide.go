package pebblestore

import (
	"slices"
	"strings"

	"github.com/google/uuid"

	"sojourn/eventstore"
)

// decideEvents is about how many events are looked up and then decided at once:
// look-ups side by side overlap their waits for memory.
const decideEvents = 512

// fact is what the indexes say of an event to append.
type fact struct {
	hash      uint64 // of the id
	elsewhere bool   // another stream holds the id already
	here      bool   // its own stream does: at this place
	revision  uint64
	position  eventstore.Position
}

// partRef is a part of some call and the place of its result.
type partRef struct {
	part   *eventstore.Append
	name   nameHash // of its stream
	result *eventstore.Result
	hashes []uint64 // of its events' ids
	seen   *indexState
	next   uint64 // revision of the stream's next event, where the active segment does not say
}

// gather adds the parts of a call to those that are decided together, some
// hundred events at a time.
func (c *committer) gather(call *call) error {
	hashes := call.hashes
	for i := range call.parts {
		p, res := &call.parts[i], &call.results[i]
		own := hashes[:len(p.Events)]
		hashes = hashes[len(p.Events):]
		if res.Err != nil || len(p.Events) == 0 {
			continue
		}
		if c.gathered+len(p.Events) > decideEvents {
			if err := c.decide(); err != nil {
				return err
			}
		}
		c.refs = append(c.refs, partRef{part: p, name: call.names[i], result: res, hashes: own, seen: call.seen})
		c.gathered += len(p.Events)
	}
	return nil
}

// decide settles the parts that were gathered. They fit into the active segment
// as a whole, so that what one of them adds is found there by the next.
func (c *committer) decide() error {
	if len(c.refs) == 0 {
		return nil
	}
	state := c.s.index.Load()
	if state.active.n+c.gathered > len(state.active.ids) {
		c.s.mu.Lock()
		c.s.rotate(max(c.gathered, c.s.opts.SegmentEvents))
		c.s.mu.Unlock()
		state = c.s.index.Load()
	}
	if err := c.lookUp(state); err != nil {
		return err
	}
	c.revisions.mu.Lock()
	defer c.revisions.mu.Unlock()
	// The streams are looked up before the lock is taken, because that may read the
	// disk; readers wait for the lock.
	if err := c.findStreams(state); err != nil {
		return err
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	at := 0
	for i := range c.refs {
		r := &c.refs[i]
		n := len(r.part.Events)
		c.decidePart(state.active, r, c.facts[at:at+n])
		at += n
	}
	clear(c.refs) // lets go of the callers' events
	c.refs, c.gathered = c.refs[:0], 0
	return nil
}

// findStreams finds out the revisions of the streams that the active segment does
// not hold, pass by pass: the loads of a pass do not depend on one another. The
// caller holds the lock of revisions.
func (c *committer) findStreams(state *indexState) error {
	g := state.active
	for i := range c.refs {
		c.touched ^= g.names.touch(c.refs[i].name.hash)
	}
	for i := range c.refs {
		hash := c.refs[i].name.hash
		if local := g.names.first(hash); local >= 0 {
			c.touched ^= uint64(g.streams.at(local).last)
			continue
		}
		c.touched ^= c.revisions.touch(hash)
		for _, g := range state.frozen {
			if g.mayHaveGrown(c.refs[i].name) {
				c.touched ^= g.names.touch(hash)
			}
		}
	}
	for i := range c.refs {
		r := &c.refs[i]
		if _, ok := g.stream(r.name); ok {
			continue
		}
		var err error
		if r.next, err = c.nextRevision(state, r.name); err != nil {
			return err
		}
	}
	return nil
}

// nextRevision returns the revision of the next event of a stream that the active
// segment does not hold. The caller holds the lock of revisions.
func (c *committer) nextRevision(state *indexState, name nameHash) (uint64, error) {
	// Revisions knows the first event of a stream in each segment, or nothing of the stream.
	next, known := c.revisions.get(name)
	for _, g := range slices.Backward(state.frozen) {
		if known && !g.mayHaveGrown(name) {
			continue
		}
		if local, ok := g.stream(name); ok {
			return max(next, g.streams.at(int(local)).next()), nil
		}
	}
	if known {
		return next, nil
	}
	t := streamPlaces{s: c.s, name: name, runs: state.runs[streamRuns]}
	return t.nextRevision()
}

// addStream adds a stream to a segment with the revision of the event that is to follow.
// The caller holds the lock of revisions.
func (c *committer) addStream(g *segment, name nameHash, next uint64) uint32 {
	c.revisions.set(name, next+1)
	return g.addStream(name, next)
}

// lookUp gathers what the frozen segments and the runs know of the events.
func (c *committer) lookUp(state *indexState) error {
	c.facts = c.facts[:0]
	candidates := false
	for i := range c.refs {
		r := &c.refs[i]
		if r.seen != state {
			// Something was frozen or written out since the caller looked.
			for k := range r.hashes {
				r.hashes[k] &^= candidate
			}
			state.mark(r.hashes)
		}
		for _, h := range r.hashes {
			may := h&candidate != 0
			candidates = candidates || may
			c.facts = append(c.facts, fact{hash: h &^ candidate, here: may})
		}
	}
	// The loads do not depend on one another.
	c.touched ^= state.active.touch(c.facts)
	if !candidates {
		return nil
	}
	at := 0
	for i := range c.refs {
		p := c.refs[i].part
		for k := range p.Events {
			f := &c.facts[at]
			at++
			if !f.here {
				continue
			}
			if err := c.disk.known(state, f, p.Events[k].ID, c.refs[i].name); err != nil {
				return err
			}
		}
	}
	return nil
}

// decidePart settles one part: it adds its new events to the segment and to
// what is pending, or refuses all of them.
func (c *committer) decidePart(g *segment, r *partRef, facts []fact) {
	p, res, next := r.part, r.result, r.next
	local, held := g.stream(r.name)
	if held {
		next = g.streams.at(int(local)).next()
	}
	unknown := 0
	for i := range facts {
		c.recent(g, r, local, held, p.Events[i].ID, &facts[i])
		if !facts[i].here {
			unknown++
		}
	}
	if unknown > 0 && !admits(p.Expected, next, facts) {
		res.Err = wrongRevision(p, next)
		return
	}
	if unknown > 0 && !held {
		local, held = c.addStream(g, r.name, next), true
	}
	for i := range facts {
		f := &facts[i]
		e := &p.Events[i]
		if !f.here && res.Appended > 0 {
			// The same id may stand twice in the call.
			c.recent(g, r, local, held, e.ID, f)
		}
		if f.here {
			c.known.Add(1)
			res.Revision, res.Position = f.revision, f.position
			continue
		}
		hash := f.hash
		if f.elsewhere {
			hash = c.s.seed.repeatHash(e.ID, r.name)
			c.repeats.Add(1)
		}
		res.Revision, res.Position = next, g.end()
		res.Appended++
		c.pending = append(c.pending, pendingEvent{event: e, stream: p.Stream, revision: next, repeat: f.elsewhere})
		g.add(hash, e.ID, local, f.elsewhere)
		next++
	}
}

// recent completes a fact by what the active segment holds, which holds the stream
// itself at a place, or does not.
func (c *committer) recent(g *segment, r *partRef, local uint32, held bool, id uuid.UUID, f *fact) {
	if f.here {
		return
	}
	var at uint32
	if !f.elsewhere {
		first, ok := g.findFirst(f.hash, id)
		if !ok {
			return
		}
		at = first
		f.here = held && g.local[at] == local
		f.elsewhere = !f.here
	}
	if f.elsewhere && held {
		at, f.here = g.findRepeat(c.s.seed.repeatHash(id, r.name), id, local)
	}
	if f.here {
		f.revision, f.position = g.revision(at), g.position(at)
	}
}

// admits says whether the unknown ones of a part's events may be appended to a
// stream whose next revision is next.
func admits(expected eventstore.Expected, next uint64, facts []fact) bool {
	var from uint64 // the revision right behind the expected one
	switch x := expected.(type) {
	case nil, eventstore.Any:
		return true
	case eventstore.StreamExists:
		return next > 0
	case eventstore.Revision:
		from = uint64(x) + 1
		if from == 0 { // no stream is that long
			return false
		}
	}
	if next == from {
		return true
	}
	if next < from {
		return false
	}
	// The stream goes on: only with the call's own first events.
	want := from
	for i := range facts {
		if want == next {
			return true
		}
		f := &facts[i]
		if !f.here {
			return false
		}
		if f.revision == want {
			want++
		} else if f.revision < from || f.revision > want {
			return false
		} // else the same id stood before in the call
	}
	return want == next
}

func wrongRevision(p *eventstore.Append, next uint64) error {
	// The stream's name may be part of a request.
	e := &eventstore.WrongRevisionError{Stream: strings.Clone(p.Stream), Expected: p.Expected, Exists: next > 0}
	if e.Exists {
		e.Actual = next - 1
	}
	return e
}
