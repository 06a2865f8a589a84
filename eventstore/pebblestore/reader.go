package pebblestore

import (
	"fmt"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"sojourn/eventstore"
)

// logReader reads log records one after another or by position. It copies each
// record, so that what it hands out outlives the database: Close may take its
// iterator away at any time.
type logReader struct {
	s    *Store
	mu   sync.Mutex
	it   *pebble.Iterator // nil once closed
	buf  []byte
	b    block
	rest []byte              // the events of b from next on
	next eventstore.Position // 0 before the first record
	typ  [4]string           // event types seen lately
	slot int
}

// newLogReader opens an iterator that Close can take away.
func (s *Store) newLogReader() (*logReader, error) {
	s.readersMu.Lock()
	defer s.readersMu.Unlock()
	if s.closed {
		return nil, eventstore.ErrClosed
	}
	it, err := s.db.NewIter(nil)
	if err != nil {
		return nil, fmt.Errorf("read event log: %w", err)
	}
	r := &logReader{s: s, it: it}
	s.readers[r] = struct{}{}
	return r, nil
}

func (r *logReader) close() {
	r.s.readersMu.Lock()
	delete(r.s.readers, r)
	r.s.readersMu.Unlock()
	r.closeIterator()
}

func (r *logReader) closeIterator() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.it == nil {
		return
	}
	if err := r.it.Close(); err != nil {
		r.s.log.Warn("iterator of the event log ended with an error", "error", err)
	}
	r.it = nil
}

// closeReaders takes the iterators of all readers away and refuses new ones.
func (s *Store) closeReaders() {
	s.readersMu.Lock()
	s.closed = true
	open := make([]*logReader, 0, len(s.readers))
	for r := range s.readers {
		open = append(open, r)
	}
	s.readersMu.Unlock()
	for _, r := range open {
		r.closeIterator()
	}
}

// move steps the iterator and copies the value it stops at. The key is to be
// read in step, while the iterator cannot be taken away.
func (r *logReader) move(step func(*pebble.Iterator) bool) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.it == nil {
		return false, eventstore.ErrClosed
	}
	if !step(r.it) {
		if err := r.it.Error(); err != nil {
			return false, fmt.Errorf("read event log: %w", err)
		}
		return false, nil
	}
	value, err := r.it.ValueAndErr()
	if err != nil {
		return false, fmt.Errorf("read event log: %w", err)
	}
	r.buf = append(r.buf[:0], value...)
	return true, nil
}

// record moves to another log record and opens it.
func (r *logReader) record(step func(*pebble.Iterator) bool) (bool, error) {
	r.next = 0
	var first eventstore.Position
	ok, err := r.move(func(it *pebble.Iterator) bool {
		ok := step(it)
		if ok {
			first = logKeyPosition(it.Key())
		}
		return ok
	})
	if err != nil || !ok {
		return false, err
	}
	if r.b, err = openBlock(first, r.buf); err != nil {
		return false, err
	}
	r.rest, r.next = r.b.events, first
	return true, nil
}

func (r *logReader) nextRecord() (bool, error) { return r.record((*pebble.Iterator).Next) }

func (r *logReader) lastRecord() (bool, error) { return r.record((*pebble.Iterator).Last) }

// seek moves to the record that holds a position or, where none does, to the
// one behind it.
func (r *logReader) seek(p eventstore.Position) (bool, error) {
	ok, err := r.record(func(it *pebble.Iterator) bool {
		var key [logKeyLen]byte
		putLogKey(key[:], p+1)
		return it.SeekLT(key[:]) || it.Error() == nil && it.First()
	})
	if err != nil || !ok {
		return false, err
	}
	if r.b.last() < p {
		if ok, err = r.nextRecord(); err != nil || !ok {
			return false, err
		}
	}
	return true, r.skipTo(p)
}

// skipTo moves forwards within the record.
func (r *logReader) skipTo(p eventstore.Position) error {
	for r.next < p {
		rest, ok := skipEvent(r.rest)
		if !ok {
			return r.torn()
		}
		r.rest = rest
		r.next++
	}
	return nil
}

// more says whether the record holds another event.
func (r *logReader) more() bool { return r.next != 0 && r.next <= r.b.last() }

// event reads the record's next event into e.
func (r *logReader) event(e *eventstore.Recorded) error {
	rest, ok := decodeEvent(r.rest, e)
	if !ok {
		return r.torn()
	}
	e.Type = r.intern(e.Type)
	e.Position = r.next
	e.RecordedAt = fromMillis(r.b.recordedAt)
	r.rest = rest
	r.next++
	return nil
}

func (r *logReader) torn() error {
	return fmt.Errorf("%w: event at position %d cannot be read", ErrCorrupt, r.next)
}

// intern returns a copy of a type that lasts; there are few types.
func (r *logReader) intern(t string) string {
	for _, known := range r.typ {
		if known == t {
			return known
		}
	}
	kept := string(append([]byte(nil), t...))
	r.typ[r.slot] = kept
	r.slot = (r.slot + 1) % len(r.typ)
	return kept
}

// at reads the event at a position.
func (r *logReader) at(p eventstore.Position, e *eventstore.Recorded) error {
	switch {
	case r.next != 0 && r.b.first <= p && p <= r.b.last():
		if p < r.next {
			r.rest, r.next = r.b.events, r.b.first
		}
		if err := r.skipTo(p); err != nil {
			return err
		}
	default:
		ok, err := r.seek(p)
		if err != nil {
			return err
		}
		if !ok || r.next != p {
			return fmt.Errorf("%w: no event at position %d", ErrCorrupt, p)
		}
	}
	return r.event(e)
}
