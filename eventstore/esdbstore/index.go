package esdbstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"

	"sojourn/eventstore"
)

// The keys of the index; numbers are big-endian.
//
//	i id            → position, revision (uvarint), stream: the lowest position
//	j id position   → revision (uvarint), stream: the others
//	r position      → nothing: the event is a Repeat
//	t position      → milliseconds: the clock went back here, from this time
//	c               → the checkpoint
const (
	prefixID     = 'i'
	prefixOther  = 'j'
	prefixRepeat = 'r'
	prefixTime   = 't'
	keyOfIndex   = 'c'
)

const indexVersion = 1

// index is what is remembered of the log beside the log: where each id stands.
type index struct {
	db     *pebble.DB
	using  sync.RWMutex // held for reading by whoever uses db, for writing by close
	closed bool

	// covered is the position up to which the index is complete.
	covered atomic.Uint64
	repeats atomic.Uint64

	mu    sync.Mutex
	moved chan struct{}       // closed on each move of covered
	last  eventstore.Position // of the last event seen: covered may be beyond
	times []clockBack         // in the order of the log
	top   int64               // the highest time so far, in milliseconds
	// needed is what a look-up must cover: all that was in the log when the store
	// was opened, and all that this store has appended.
	needed eventstore.Position
	err    error // why the log is followed no more
}

// clockBack says that from a position on no event is told to be before a time.
type clockBack struct {
	position eventstore.Position
	floor    int64 // milliseconds
}

// place is where an event stands.
type place struct {
	revision uint64
	position eventstore.Position
}

// openIndex opens the index of a log that ends at head, and makes it anew where
// it belongs to another.
func openIndex(ctx context.Context, s *Store, fs vfs.FS, dir string, head eventstore.Position) (*index, error) {
	if dir == "" {
		dir = "index"
	}
	x, err := loadIndex(fs, dir)
	if err == nil {
		var known bool
		if known, err = x.belongs(ctx, s, head); err == nil && known {
			x.needed = head
			return x, nil
		}
		err = errors.Join(err, x.close())
		if err != nil {
			return nil, err
		}
		s.log.Warn("the index of event ids belongs to another log and is made anew")
	} else {
		if !pebble.IsCorruptionError(err) && !errors.Is(err, errIndexFormat) {
			return nil, fmt.Errorf("open the index of event ids: %w", err)
		}
		s.log.Warn("the index of event ids cannot be read and is made anew", "error", err)
	}
	if err := fs.RemoveAll(dir); err != nil {
		return nil, fmt.Errorf("make the index of event ids anew: %w", err)
	}
	if x, err = loadIndex(fs, dir); err != nil {
		return nil, fmt.Errorf("make the index of event ids anew: %w", err)
	}
	x.needed = head
	return x, nil
}

var errIndexFormat = errors.New("unknown format")

func loadIndex(fs vfs.FS, dir string) (x *index, err error) {
	po := &pebble.Options{
		FS: fs, FormatMajorVersion: pebble.FormatValueSeparation, MemTableSize: 16 << 20,
		// What is not flushed yet when the process dies is read from the log again.
		DisableWAL:                 true,
		CompactionConcurrencyRange: func() (int, int) { return 1, 1 },
		Logger:                     quiet{},
	}
	for i := range po.Levels {
		po.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	db, err := pebble.Open(dir, po)
	if err != nil {
		return nil, err
	}
	x = &index{db: db, moved: make(chan struct{})}
	defer func() {
		if err != nil {
			err = errors.Join(err, db.Close())
		}
	}()
	value, closer, err := db.Get([]byte{keyOfIndex})
	if errors.Is(err, pebble.ErrNotFound) {
		return x, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, closer.Close()) }()
	if len(value) != 33 || value[0] != indexVersion {
		return nil, errIndexFormat
	}
	x.covered.Store(binary.BigEndian.Uint64(value[1:]))
	x.last = eventstore.Position(binary.BigEndian.Uint64(value[9:]))
	x.top = int64(binary.BigEndian.Uint64(value[17:]))
	x.repeats.Store(binary.BigEndian.Uint64(value[25:]))
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: []byte{prefixTime}, UpperBound: []byte{prefixTime + 1}})
	if err != nil {
		return nil, err
	}
	for ok := it.First(); ok; ok = it.Next() {
		v, err := it.ValueAndErr()
		if err != nil || len(v) != 8 || len(it.Key()) != 9 {
			return nil, errors.Join(errIndexFormat, err, it.Close())
		}
		x.times = append(x.times, clockBack{
			position: eventstore.Position(binary.BigEndian.Uint64(it.Key()[1:])), floor: int64(binary.BigEndian.Uint64(v)),
		})
	}
	return x, it.Close()
}

// belongs says whether the log holds what the index knows of it.
func (x *index) belongs(ctx context.Context, s *Store, head eventstore.Position) (bool, error) {
	if x.last == 0 {
		return true, nil
	}
	if x.last > head {
		return false, nil
	}
	known := false
	err := s.do(ctx, "compare the index with the log", false, func(ctx context.Context, n *node) (bool, error) {
		return false, s.read(ctx, n, allRequest(x.last, 1), func(e *eventstore.Recorded) error {
			if e.Position != x.last {
				return nil
			}
			places, err := x.places(e.ID, e.Stream)
			known = slices.ContainsFunc(places, func(p place) bool { return p.position == x.last })
			return err
		})
	})
	return known, err
}

func (x *index) close() error {
	x.using.Lock()
	defer x.using.Unlock()
	if x.closed {
		return nil
	}
	x.closed = true
	return errors.Join(x.db.Flush(), x.db.Close())
}

// use keeps the index open until what it returns is called.
func (x *index) use() (done func(), err error) {
	x.using.RLock()
	if x.closed {
		x.using.RUnlock()
		return nil, errClosed
	}
	return x.using.RUnlock, nil
}

func idKey(prefix byte, id uuid.UUID) []byte {
	return append(append(make([]byte, 0, 25), prefix), id[:]...)
}

// first finds the event of an id that stands lowest. The stream's name is valid
// until closer is closed; closer is nil where there is no such event.
func (x *index) first(id uuid.UUID) (p place, stream []byte, closer io.Closer, err error) {
	v, closer, err := x.db.Get(idKey(prefixID, id))
	if errors.Is(err, pebble.ErrNotFound) {
		return place{}, nil, nil, nil
	}
	if err != nil {
		return place{}, nil, nil, err
	}
	if len(v) > 8 {
		if revision, n := binary.Uvarint(v[8:]); n > 0 {
			return place{revision: revision, position: eventstore.Position(binary.BigEndian.Uint64(v))}, v[8+n:], closer, nil
		}
	}
	return place{}, nil, nil, errors.Join(errIndexFormat, closer.Close())
}

// places lists where a stream holds an id, in the order of the log.
func (x *index) places(id uuid.UUID, stream string) (out []place, err error) {
	done, err := x.use()
	if err != nil {
		return nil, err
	}
	defer done()
	p, name, closer, err := x.first(id)
	if err != nil || closer == nil {
		return nil, err
	}
	if string(name) == stream {
		out = append(out, p)
	}
	if err := closer.Close(); err != nil || x.repeats.Load() == 0 {
		return out, err
	}
	lower := idKey(prefixOther, id)
	it, err := x.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: append(slices.Clone(lower), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)})
	if err != nil {
		return nil, err
	}
	for ok := it.First(); ok; ok = it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return nil, errors.Join(err, it.Close())
		}
		revision, n := binary.Uvarint(v)
		if n <= 0 || len(it.Key()) != 25 {
			return nil, errors.Join(errIndexFormat, it.Close())
		}
		if string(v[n:]) == stream {
			out = append(out, place{revision: revision, position: eventstore.Position(binary.BigEndian.Uint64(it.Key()[17:]))})
		}
	}
	return out, it.Close()
}

// lowest is the lowest position of an id, or 0.
func (x *index) lowest(id uuid.UUID) (eventstore.Position, error) {
	done, err := x.use()
	if err != nil {
		return 0, err
	}
	defer done()
	p, _, closer, err := x.first(id)
	if err != nil || closer == nil {
		return 0, err
	}
	return p.position, closer.Close()
}

// add takes in events that follow what is covered, and moves to a position at or
// behind the last of them.
func (x *index) add(events []eventstore.Recorded, to eventstore.Position) error {
	b := x.db.NewBatch()
	defer func() { _ = b.Close() }()
	top, last, repeats := x.top, x.last, x.repeats.Load()
	var back []clockBack
	inBatch := make(map[uuid.UUID]bool)
	var value []byte
	for i := range events {
		e := &events[i]
		known := inBatch[e.ID]
		if !known {
			at, err := x.lowest(e.ID)
			if err != nil {
				return err
			}
			known = at > 0
		}
		inBatch[e.ID] = true
		key := idKey(prefixID, e.ID)
		value = value[:0]
		if known {
			key[0] = prefixOther
			key = binary.BigEndian.AppendUint64(key, uint64(e.Position))
		} else {
			value = binary.BigEndian.AppendUint64(value, uint64(e.Position))
		}
		value = append(binary.AppendUvarint(value, e.Revision), e.Stream...)
		if err := b.Set(key, value, nil); err != nil {
			return err
		}
		if known {
			repeats++
			if err := b.Set(binary.BigEndian.AppendUint64([]byte{prefixRepeat}, uint64(e.Position)), nil, nil); err != nil {
				return err
			}
		}
		if at := e.RecordedAt.UnixMilli(); at >= top {
			top = at
		} else if n := len(back); n > 0 && back[n-1].floor == top || n == 0 && len(x.times) > 0 && x.times[len(x.times)-1].floor == top {
			// It is known already that the clock is behind this time.
		} else {
			back = append(back, clockBack{position: e.Position, floor: top})
			key := binary.BigEndian.AppendUint64([]byte{prefixTime}, uint64(e.Position))
			if err := b.Set(key, binary.BigEndian.AppendUint64(nil, uint64(top)), nil); err != nil {
				return err
			}
		}
		last = e.Position
	}
	value = append(value[:0], indexVersion)
	for _, n := range []uint64{uint64(to), uint64(last), uint64(top), repeats} {
		value = binary.BigEndian.AppendUint64(value, n)
	}
	if err := b.Set([]byte{keyOfIndex}, value, nil); err != nil {
		return err
	}
	if err := b.Commit(pebble.NoSync); err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.times = append(x.times, back...)
	x.top, x.last = top, last
	x.repeats.Store(repeats)
	x.covered.Store(uint64(to))
	close(x.moved)
	x.moved = make(chan struct{})
	return nil
}

// wait returns when a condition on the index holds. The condition is called
// under the lock.
func (x *index) wait(ctx context.Context, holds func() bool) error {
	for {
		x.mu.Lock()
		ok, moved, failure := holds(), x.moved, x.err
		x.mu.Unlock()
		if ok {
			return nil
		}
		if failure != nil {
			return failure
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// fail ends all waiting: the index moves no more.
func (x *index) fail(err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.err = err
	close(x.moved)
	x.moved = make(chan struct{})
}

// cover returns when the index is complete up to a position.
func (x *index) cover(ctx context.Context, position eventstore.Position) error {
	if x.covered.Load() >= uint64(position) {
		return nil
	}
	return x.wait(ctx, func() bool { return x.covered.Load() >= uint64(position) })
}

// need makes look-ups cover a position from now on.
func (x *index) need(position eventstore.Position) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.needed = max(x.needed, position)
}

// complete tells of an event what only the whole log tells, once the index
// covers it.
func (x *index) complete(ctx context.Context, e *eventstore.Recorded) error {
	if err := x.cover(ctx, e.Position); err != nil {
		return err
	}
	x.mu.Lock()
	if n := len(x.times); n > 0 {
		i := sort.Search(n, func(i int) bool { return x.times[i].position > e.Position })
		if i > 0 && e.RecordedAt.UnixMilli() < x.times[i-1].floor {
			e.RecordedAt = time.UnixMilli(x.times[i-1].floor).UTC()
		}
	}
	x.mu.Unlock()
	if x.repeats.Load() == 0 {
		return nil
	}
	done, err := x.use()
	if err != nil {
		return err
	}
	defer done()
	_, closer, err := x.db.Get(binary.BigEndian.AppendUint64([]byte{prefixRepeat}, uint64(e.Position)))
	switch {
	case errors.Is(err, pebble.ErrNotFound):
		return nil
	case err != nil:
		return err
	}
	e.Repeat = true
	return closer.Close()
}

// Lookup finds events by their ids. It knows what was in the log when the store
// was opened and what this store has appended since; what others append is known
// a moment later.
func (s *Store) Lookup(ctx context.Context, ids []uuid.UUID, dst []eventstore.Position) error {
	ctx, cancel := s.untilClose(ctx)
	defer cancel()
	if ctx.Err() != nil {
		return s.ended(ctx)
	}
	s.index.mu.Lock()
	needed := s.index.needed
	s.index.mu.Unlock()
	if err := s.index.cover(ctx, needed); err != nil {
		return s.because(ctx, err)
	}
	for i, id := range ids {
		at, err := s.index.lowest(id)
		if err != nil {
			return fmt.Errorf("look up event id: %w", err)
		}
		dst[i] = at
	}
	return nil
}

// quiet drops what Pebble tells of itself. What it calls fatal is a disk that
// fails under it, after which it cannot go on.
type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(format string, args ...any) {
	panic(fmt.Sprintf(format, args...))
}
