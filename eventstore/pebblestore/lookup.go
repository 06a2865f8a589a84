package pebblestore

import (
	"errors"

	"github.com/google/uuid"

	"sojourn/eventstore"
)

// diskLookup finds what the frozen segments and the runs hold. It opens an iterator of
// the log when it first needs it; release closes it.
type diskLookup struct {
	s     *Store
	log   *logReader
	e     eventstore.Recorded
	found []eventstore.Position
}

func (d *diskLookup) release() {
	if d.log != nil {
		d.log.close()
		d.log = nil
	}
	d.e = eventstore.Recorded{}
}

// at reads the event at a position into d.e.
func (d *diskLookup) at(p eventstore.Position) error {
	if d.log == nil {
		var err error
		if d.log, err = d.s.newLogReader(); err != nil {
			return err
		}
	}
	return d.log.at(p, &d.e)
}

// known completes a fact by what frozen segments and runs hold of an id.
func (d *diskLookup) known(state *indexState, f *fact, id uuid.UUID, stream nameHash) error {
	for {
		err := d.knownIn(state, f, id, stream)
		if !errors.Is(err, errRunRetired) {
			return err
		}
		state = d.s.index.Load()
	}
}

func (d *diskLookup) knownIn(state *indexState, f *fact, id uuid.UUID, stream nameHash) error {
	f.here, f.elsewhere = false, false
	first, err := d.first(state, f.hash, id)
	if err != nil || first.position == 0 {
		return err
	}
	if first.stream == stream {
		f.here, f.position, f.revision = true, first.position, first.revision
		return nil
	}
	f.elsewhere = true
	hash := d.s.seed.repeatHash(id, stream)
	for _, g := range state.frozen {
		local, ok := g.stream(stream)
		if !ok {
			continue
		}
		if at, ok := g.findRepeat(hash, id, local); ok {
			f.here, f.position, f.revision = true, g.position(at), g.revision(at)
			return nil
		}
	}
	return d.candidates(state, hash, func(p eventstore.Position) bool {
		if d.e.ID != id || !d.e.Repeat || d.s.seed.nameHash(d.e.Stream) != stream {
			return false
		}
		f.here, f.position, f.revision = true, p, d.e.Revision
		return true
	})
}

// place is where an event stands; position is 0 where there is none.
type place struct {
	position eventstore.Position
	revision uint64
	stream   nameHash
}

// first returns where the frozen segments and runs hold an id's first event.
func (d *diskLookup) first(state *indexState, hash uint64, id uuid.UUID) (first place, err error) {
	for _, g := range state.frozen {
		if at, ok := g.findFirst(hash, id); ok {
			return place{g.position(at), g.revision(at), g.streams.at(int(g.local[at])).id()}, nil
		}
	}
	err = d.candidates(state, hash, func(p eventstore.Position) bool {
		if d.e.ID != id || d.e.Repeat {
			return false
		}
		first = place{p, d.e.Revision, d.s.seed.nameHash(d.e.Stream)}
		return true
	})
	return first, err
}

// candidates reads the events that stand in the runs under a hash, until one is
// the one that was meant.
func (d *diskLookup) candidates(state *indexState, hash uint64, meant func(eventstore.Position) bool) error {
	for _, r := range state.runs[idRuns] {
		var err error
		if d.found, err = r.find(d.found[:0], hash); err != nil {
			return err
		}
		for _, p := range d.found {
			if err := d.at(p); err != nil {
				return err
			}
			if meant(p) {
				return nil
			}
		}
	}
	return nil
}
