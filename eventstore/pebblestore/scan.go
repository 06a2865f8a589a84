package pebblestore

import (
	"fmt"

	"sojourn/eventstore"
)

// scan visits the events at some positions, none of which may be missing, record
// by record. They are valid during the visit only. Records are read and checked
// in a goroutine of their own, ahead of the visits.
func (s *Store) scan(first, last eventstore.Position, visit func([]eventstore.Recorded) error) error {
	type record struct {
		b   block
		buf []byte
		err error
	}
	const ahead = 32
	records, free := make(chan record, ahead), make(chan []byte, ahead)
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(records)
		log, err := s.newLogReader()
		if err != nil {
			records <- record{err: err}
			return
		}
		defer log.close()
		ok, err := log.seek(first)
		for ; ok && err == nil; ok, err = log.nextRecord() {
			select {
			case records <- record{b: log.b, buf: log.buf}:
			case <-stop:
				return
			}
			if log.b.last() >= last {
				return
			}
			log.buf = nil // it is the visits' now
			select {
			case log.buf = <-free:
			default:
			}
		}
		if err != nil {
			select {
			case records <- record{err: err}:
			case <-stop:
			}
		}
	}()
	defer func() {
		close(stop)
		<-done
	}()
	r := &logReader{s: s}
	var events []eventstore.Recorded
	next := first
	for rec := range records {
		if rec.err != nil {
			return rec.err
		}
		r.b, r.rest, r.next = rec.b, rec.b.events, rec.b.first
		if r.next > next {
			break
		}
		if err := r.skipTo(next); err != nil {
			return err
		}
		events = events[:0]
		for r.more() && r.next <= last {
			events = append(events, eventstore.Recorded{})
			if err := r.event(&events[len(events)-1]); err != nil {
				return err
			}
		}
		if err := visit(events); err != nil {
			return err
		}
		if next = r.next; next > last {
			return nil
		}
		select {
		case free <- rec.buf:
		default:
		}
	}
	return fmt.Errorf("%w: nothing stands at position %d", ErrCorrupt, next)
}
