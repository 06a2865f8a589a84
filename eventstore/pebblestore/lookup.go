package pebblestore

import (
	"errors"

	"github.com/cockroachdb/pebble/v2"
	"github.com/google/uuid"

	"sojourn/eventstore"
)

// diskLookup finds what the frozen segments, the runs and the stream index
// hold. It opens iterators when it first needs them; release closes them.
type diskLookup struct {
	s       *Store
	log     *logReader
	streams *logReader
	since   *indexState // what stood in memory when streams was opened
	e       eventstore.Recorded
	found   []eventstore.Position
	key     []byte
}

func (d *diskLookup) release() {
	if d.log != nil {
		d.log.close()
		d.log = nil
	}
	if d.streams != nil {
		d.streams.close()
		d.streams, d.since = nil, nil
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
func (d *diskLookup) known(state *indexState, f *fact, id uuid.UUID, stream string) error {
	for {
		err := d.knownIn(state, f, id, stream)
		if !errors.Is(err, errRunRetired) {
			return err
		}
		state = d.s.index.Load() // the runs were merged meanwhile
	}
}

func (d *diskLookup) knownIn(state *indexState, f *fact, id uuid.UUID, stream string) error {
	f.here, f.elsewhere = false, false
	p, err := d.first(state, f, id)
	if err != nil || p == 0 {
		return err
	}
	if d.e.Stream == stream {
		f.here, f.position, f.revision = true, p, d.e.Revision
		return nil
	}
	f.elsewhere = true
	hash, name := d.s.seed.repeatHash(id, stream), d.s.committer.names.of(stream)
	for _, g := range state.frozen {
		local, ok := g.stream(stream, name)
		if !ok {
			continue
		}
		if at, ok := g.findRepeat(hash, id, local); ok {
			f.here, f.position, f.revision = true, g.position(at), g.revision(at)
			return nil
		}
	}
	return d.candidates(state, hash, func(p eventstore.Position) bool {
		if d.e.ID != id || !d.e.Repeat || d.e.Stream != stream {
			return false
		}
		f.here, f.position, f.revision = true, p, d.e.Revision
		return true
	})
}

// first returns the position of an id's first event in the frozen segments and
// runs, or 0, and its stream and revision in d.e.
func (d *diskLookup) first(state *indexState, f *fact, id uuid.UUID) (eventstore.Position, error) {
	for _, g := range state.frozen {
		if at, ok := g.findFirst(f.hash, id); ok {
			d.e.Stream, d.e.Revision = g.streams.at(int(g.local[at])).name, g.revision(at)
			return g.position(at), nil
		}
	}
	var first eventstore.Position
	err := d.candidates(state, f.hash, func(p eventstore.Position) bool {
		if d.e.ID != id || d.e.Repeat {
			return false
		}
		first = p
		return true
	})
	return first, err
}

// candidates reads the events that stand in the runs under a hash, until one is
// the one that was meant.
func (d *diskLookup) candidates(state *indexState, hash uint64, meant func(eventstore.Position) bool) error {
	for _, r := range state.runs {
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

// nextRevision returns the revision of the next event of a stream that no
// segment of a state holds: 0 where there is no stream.
func (d *diskLookup) nextRevision(state *indexState, stream string) (uint64, error) {
	if d.streams != nil && d.since != state {
		// A segment may have gone to the disk since, and be in neither.
		d.streams.close()
		d.streams = nil
	}
	if d.streams == nil {
		d.since = state
		var err error
		d.streams, err = d.s.newReader(d.s.streams, &pebble.IterOptions{
			LowerBound: streamLower, UpperBound: streamUpper, UseL6Filters: true,
		})
		if err != nil {
			return 0, err
		}
	}
	d.key = appendStreamPrefix(d.key[:0], stream)
	var first uint64
	ok, err := d.streams.move(func(it *pebble.Iterator) bool {
		if !it.SeekPrefixGE(d.key) {
			return false
		}
		first, _ = streamKeyRevision(it.Key())
		return true
	})
	if err != nil || !ok {
		return 0, err
	}
	n, err := placesCount(d.streams.buf)
	return first + uint64(n), err
}
