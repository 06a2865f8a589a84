package pebblestore

import (
	"slices"

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

// decide settles all parts of a call, some hundred events at a time.
func (c *committer) decide(call *call) error {
	for from := 0; from < len(call.parts); {
		to, events := from, 0
		for to < len(call.parts) && (to == from || events+len(call.parts[to].Events) <= decideEvents) {
			events += len(call.parts[to].Events)
			to++
		}
		if err := c.decideParts(call.parts[from:to], call.results[from:to], events); err != nil {
			return err
		}
		from = to
	}
	return nil
}

// decideParts settles some parts. They fit into the active segment as a whole,
// so that what one of them adds is found there by the next.
func (c *committer) decideParts(parts []eventstore.Append, results []eventstore.Result, events int) error {
	state := c.s.index.Load()
	if state.active.n+events > len(state.active.ids) {
		c.s.mu.Lock()
		c.s.rotate(max(events, c.s.opts.SegmentEvents))
		c.s.mu.Unlock()
		state = c.s.index.Load()
	}
	if err := c.lookUp(state, parts, results); err != nil {
		return err
	}
	// The heads are looked up before the lock is taken, because that may read the
	// disk; readers wait for the lock.
	heads := slices.Grow(c.heads[:0], len(parts))[:len(parts)]
	clear(heads)
	c.heads = heads
	c.names = c.names[:0]
	for i := range parts {
		hash := c.streams.hash(parts[i].Stream)
		c.names = append(c.names, hash)
		c.touched ^= c.streams.slot(hash)
	}
	for i := range parts {
		if results[i].Err != nil || len(parts[i].Events) == 0 {
			continue
		}
		var err error
		if heads[i], err = c.stream(c.names[i], parts[i].Stream); err != nil {
			return err
		}
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	at := 0
	for i := range parts {
		if heads[i] == nil {
			continue
		}
		n := len(parts[i].Events)
		c.decidePart(state.active, heads[i], &parts[i], &results[i], c.facts[at:at+n])
		at += n
	}
	return nil
}

// lookUp gathers what the frozen segments and the runs know of the events.
func (c *committer) lookUp(state *indexState, parts []eventstore.Append, results []eventstore.Result) error {
	c.facts = c.facts[:0]
	for i := range parts {
		if results[i].Err != nil {
			continue
		}
		for k := range parts[i].Events {
			c.facts = append(c.facts, fact{hash: c.s.seed.idHash(parts[i].Events[k].ID)})
		}
	}
	// One pass for each table: the loads of a pass do not depend on one another.
	c.touched ^= state.active.touch(c.facts)
	candidates := false
	for _, g := range state.frozen {
		for i := range c.facts {
			f := &c.facts[i]
			f.here = g.mayContain(f.hash) || f.here
			candidates = candidates || f.here
		}
	}
	for _, r := range state.runs {
		for i := range c.facts {
			f := &c.facts[i]
			f.here = r.filter.mayContain(f.hash) || f.here
			candidates = candidates || f.here
		}
	}
	if !candidates {
		return nil
	}
	at := 0
	for i := range parts {
		if results[i].Err != nil {
			continue
		}
		for k := range parts[i].Events {
			f := &c.facts[at]
			at++
			if !f.here {
				continue
			}
			f.here = false
			if err := c.disk.known(state, f, parts[i].Events[k].ID, parts[i].Stream); err != nil {
				return err
			}
		}
	}
	return nil
}

// decidePart settles one part: it adds its new events to the segment and to
// what is pending, or refuses all of them.
func (c *committer) decidePart(g *segment, st *stream, p *eventstore.Append, res *eventstore.Result, facts []fact) {
	unknown := 0
	for i := range facts {
		c.recent(g, st, p.Events[i].ID, &facts[i])
		if !facts[i].here {
			unknown++
		}
	}
	if unknown > 0 && !admits(p.Expected, st.next, facts) {
		res.Err = wrongRevision(st, p.Expected)
		return
	}
	local := uint32(0)
	if unknown > 0 {
		local = st.local
		if st.segment != g.number {
			local = g.streamAt(st.name, st.next)
			st.segment, st.local = g.number, local
		}
	}
	for i := range facts {
		f := &facts[i]
		e := &p.Events[i]
		if !f.here && res.Appended > 0 {
			// The same id may stand twice in the call.
			c.recent(g, st, e.ID, f)
		}
		if f.here {
			c.known.Add(1)
			res.Revision, res.Position = f.revision, f.position
			continue
		}
		hash := f.hash
		if f.elsewhere {
			hash = c.s.seed.repeatHash(e.ID, st.name)
			c.repeats.Add(1)
		}
		res.Revision, res.Position = st.next, g.end()
		res.Appended++
		c.pending = append(c.pending, pendingEvent{event: e, stream: st.name, revision: st.next, repeat: f.elsewhere})
		g.add(hash, e.ID, local, f.elsewhere)
		st.next++
	}
}

// recent completes a fact by what the active segment holds.
func (c *committer) recent(g *segment, st *stream, id uuid.UUID, f *fact) {
	if f.here {
		return
	}
	inSegment := st.segment == g.number
	var at uint32
	if !f.elsewhere {
		first, ok := g.findFirst(f.hash, id)
		if !ok {
			return
		}
		at = first
		f.here = inSegment && g.local[at] == st.local
		f.elsewhere = !f.here
	}
	if f.elsewhere && inSegment {
		at, f.here = g.findRepeat(c.s.seed.repeatHash(id, st.name), id, st.local)
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

func wrongRevision(st *stream, expected eventstore.Expected) error {
	e := &eventstore.WrongRevisionError{Stream: st.name, Expected: expected, Exists: st.next > 0}
	if e.Exists {
		e.Actual = st.next - 1
	}
	return e
}
