package projections

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"

	"sojourn/domain"
	"sojourn/eventstore"
)

// foldVersion changes whenever the folds would compute something else from the
// same log, or a public view would read it otherwise; views of another version are built anew.
const foldVersion = 7

// checkpoint is how far a generation has come. All that is at or before it is in
// the tables, the statements and the state.
type checkpoint struct {
	Position eventstore.Position `json:"position"`
	Clock    domain.Millis       `json:"clock"`
	Policy   int                 `json:"policy_version"`
	Fold     int                 `json:"fold_version"`
	Segments int                 `json:"segments_version,omitempty"`
	// Reconciled says that what stands in the statements is what stands in the
	// views, so that from here on the generation makes them.
	Reconciled bool `json:"reconciled"`
}

// intent is a flush that has begun: the batch ends at To and is as of Clock. After
// a crash exactly this batch is done again, so that it writes the same rows and
// statements.
type intent struct {
	To    eventstore.Position `json:"to"`
	Clock domain.Millis       `json:"clock"`
	// ID names it to the sink (Rows.Flush).
	ID string `json:"id,omitempty"`
	// Aloud: what it finds is news, though the views have not said what they hold yet
	// (generation.goOn).
	Aloud bool `json:"aloud,omitempty"`
}

var (
	checkpointKey = []byte("c")
	intentKey     = []byte("p")
)

// state is the local cache of a generation: what is kept of each subject and
// customer, and the checkpoint. It can always be rebuilt from the log.
type state struct {
	dir     string
	fs      vfs.FS
	options *pebble.Options
	db      *pebble.DB
	sync    *pebble.WriteOptions // of what must outlast a crash
	large   int                  // bytes of a flush from which on it is written as tables
	merged  chan struct{}        // holds one when Pebble has merged tables
	buf     []byte               // of load, which only the fold calls

	// mu is held while a flush becomes visible, so that a reader that holds it
	// sees one checkpoint.
	mu sync.RWMutex
	at checkpoint
}

func openState(fs vfs.FS, dir string, cacheBytes int64, logger *slog.Logger) (*state, error) {
	return openStateWith(&pebble.Options{FS: fs}, dir, cacheBytes, logger)
}

// openStateToRead opens a state that is not written to: nothing works on it in the
// background.
func openStateToRead(dir string, cacheBytes int64, logger *slog.Logger) (*state, error) {
	return openStateWith(&pebble.Options{FS: vfs.Default, ReadOnly: true}, dir, cacheBytes, logger)
}

// openStateForOnce opens a state that is written and read once: what is written of
// it is hardly ever put in order again, which would take a processor from others, and
// does not outlast a crash, for which others would wait at the disk. Where the disk is
// full, the process ends.
func openStateForOnce(dir string, cacheBytes int64, logger *slog.Logger) (*state, error) {
	full := pebble.EventListener{FlushEnd: func(info pebble.FlushInfo) {
		// Pebble would try it again for ever, while whoever writes waits. One that found
		// nothing to write is told as an error, too, which Pebble does not export.
		if info.Err != nil && info.Err.Error() != "pebble: empty table" {
			pebbleLogger{logger}.Fatalf("write a table: %v", info.Err)
		}
	}}
	return openStateWith(&pebble.Options{
		FS: vfs.Default, EventListener: &full, DisableWAL: true, L0CompactionThreshold: 24, L0CompactionFileThreshold: 10_000, L0StopWritesThreshold: 96,
	}, dir, cacheBytes, logger)
}

func openStateWith(o *pebble.Options, dir string, cacheBytes int64, logger *slog.Logger) (*state, error) {
	cache := pebble.NewCache(cacheBytes)
	defer cache.Unref()
	o.Cache, o.MemTableSize, o.Logger, o.FormatMajorVersion = cache, 32<<20, pebbleLogger{logger}, pebble.FormatNewest
	merged := make(chan struct{}, 1)
	o.AddEventListener(pebble.EventListener{CompactionEnd: func(pebble.CompactionInfo) {
		select {
		case merged <- struct{}{}:
		default:
		}
	}})
	o.EnsureDefaults() // tables are written with them, too
	db, err := pebble.Open(dir, o)
	if err != nil {
		return nil, fmt.Errorf("open the state of the views in %s: %w", dir, err)
	}
	s := &state{dir: dir, fs: o.FS, options: o, large: ingestBytes, merged: merged, db: db, sync: &pebble.WriteOptions{Sync: !o.DisableWAL}}
	if !o.ReadOnly {
		if err := s.removeTables(); err != nil {
			return nil, errors.Join(fmt.Errorf("open the state of the views in %s: %w", dir, err), db.Close())
		}
	}
	if err := s.get(checkpointKey, &s.at); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return s, nil
}

func (s *state) close() error { return s.db.Close() }

// get reads a JSON record, leaving v as it is where there is none.
func (s *state) get(key []byte, v any) error {
	b, closer, err := s.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the state of the views: %w", err)
	}
	err = json.Unmarshal(b, v)
	return errors.Join(err, closer.Close())
}

// load implements loader for the one goroutine that folds.
func (s *state) load(key []byte) ([]byte, error) {
	b, closer, err := s.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the state of the views: %w", err)
	}
	s.buf = append(s.buf[:0], b...)
	return s.buf, closer.Close()
}

// begin makes durable which batch is about to be written.
func (s *state) begin(in intent) error {
	b, err := json.Marshal(in)
	if err != nil {
		return err
	}
	if err := s.db.Set(intentKey, b, s.sync); err != nil {
		return fmt.Errorf("write the state of the views: %w", err)
	}
	return nil
}

// intent is the batch that was begun and not finished, if any.
func (s *state) intent() (in intent, ok bool, err error) {
	if err := s.get(intentKey, &in); err != nil {
		return in, false, err
	}
	at := s.checkpoint()
	return in, in.To > at.Position || in.Clock > at.Clock, nil
}

// commit makes changes and their checkpoint visible, all at once, and durable. The intent
// is over, whether it still stands there or not.
func (s *state) commit(all []*records, at checkpoint) error {
	err := s.change(all, at)
	if err != nil {
		return fmt.Errorf("write the state of the views: %w", err)
	}
	return nil
}

func (s *state) change(all []*records, at checkpoint) error {
	b, err := json.Marshal(at)
	if err != nil {
		return err
	}
	last := new(records)
	last.set(checkpointKey, b)
	all = append(slices.Clip(all), last)
	size := 0
	for _, c := range all {
		size += c.bytes
	}
	if size >= s.large && s.sync.Sync {
		return s.ingest(all, at)
	}
	batch := s.db.NewBatchWithSize(size + size/4 + 64)
	for _, c := range all {
		if err := c.apply(batch); err != nil {
			return err
		}
	}
	s.mu.Lock()
	err = s.db.Apply(batch, pebble.NoSync)
	if err == nil {
		s.at = at
	}
	s.mu.Unlock()
	if err != nil {
		return err
	}
	return s.db.LogData(nil, s.sync)
}

// pass moves the checkpoint over events that changed nothing. It stays where it
// was on disk until the next flush, and those events are read again then.
func (s *state) pass(position eventstore.Position, clock domain.Millis) {
	s.mu.Lock()
	s.at.Position, s.at.Clock = position, max(s.at.Clock, clock)
	s.mu.Unlock()
}

func (s *state) checkpoint() checkpoint {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.at
}

// copyTo copies the state, as of the checkpoint that it returns or a later one, into a
// directory that does not exist. Files that never change are shared. No flush becomes
// visible meanwhile: of two, Pebble's copy could miss the first, which came as tables,
// and have the second.
func (s *state) copyTo(dir string) (checkpoint, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if err := s.db.Checkpoint(dir, pebble.WithFlushedWAL()); err != nil {
		return checkpoint{}, fmt.Errorf("copy the state of the views: %w", err)
	}
	return s.at, nil
}

// The letters of the two indexes of deadlines, one behind the other.
const (
	customerDeadlines = 'd'
	accountDeadlines  = 'e'
)

// due lists what has a deadline at or before a clock.
func (s *state) due(index byte, clock domain.Millis) ([]uuid.UUID, error) {
	var ids []uuid.UUID
	err := s.scan([]byte{index}, deadlineKey(index, clock+1, uuid.Nil), func(key, _ []byte) error {
		var id uuid.UUID
		copy(id[:], key[len(key)-16:])
		ids = append(ids, id)
		return nil
	})
	return ids, err
}

// dueBy is the latest instant, at most the clock, by which no more than limit
// customers are due; those of the first instant are never parted.
func (s *state) dueBy(clock domain.Millis, limit int) (domain.Millis, error) {
	var first, last, cut domain.Millis
	n := 0
	err := s.scan([]byte{customerDeadlines}, deadlineKey(customerDeadlines, clock+1, uuid.Nil), func(key, _ []byte) error {
		at := domain.Millis(binary.BigEndian.Uint64(key[1:]) ^ (1 << 63))
		if n == 0 {
			first, cut = at, at
		} else if at != last {
			cut = last
		}
		last = at
		if n++; n > limit && last != first {
			return errStop
		}
		return nil
	})
	if errors.Is(err, errStop) {
		return cut, nil
	}
	return clock, err
}

// customers lists the ids of up to limit customers after one, in order.
func (s *state) customers(after uuid.UUID, limit int) ([]uuid.UUID, error) {
	var ids []uuid.UUID
	from := append(customerKey(after), 0)
	if after == uuid.Nil {
		from = []byte{'k'}
	}
	err := s.scan(from, []byte{'k' + 1}, func(key, _ []byte) error {
		var id uuid.UUID
		copy(id[:], key[1:])
		ids = append(ids, id)
		if len(ids) == limit {
			return errStop
		}
		return nil
	})
	if errors.Is(err, errStop) {
		err = nil
	}
	return ids, err
}

// errStop ends a scan early.
var errStop = errors.New("stop")

// nextDeadline is the earliest deadline of any customer or account.
func (s *state) nextDeadline() (at domain.Millis, ok bool, err error) {
	for _, index := range []byte{customerDeadlines, accountDeadlines} {
		err = s.scan([]byte{index}, []byte{index + 1}, func(key, _ []byte) error {
			if next := domain.Millis(binary.BigEndian.Uint64(key[1:]) ^ (1 << 63)); !ok || next < at {
				at, ok = next, true
			}
			return errStop
		})
		if err != nil && !errors.Is(err, errStop) {
			return 0, false, err
		}
	}
	return at, ok, nil
}

// scan yields the records from a key on and below another. The slices are valid
// until fn returns.
func (s *state) scan(from, below []byte, fn func(key, value []byte) error) error {
	return scan(s.db, from, below, fn)
}

func scan(db pebble.Reader, from, below []byte, fn func(key, value []byte) error) error {
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: below})
	if err != nil {
		return fmt.Errorf("read the state of the views: %w", err)
	}
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		err = fn(it.Key(), it.Value())
	}
	return errors.Join(err, it.Error(), it.Close())
}

// pebbleLogger passes what Pebble has to say on to our log.
type pebbleLogger struct{ *slog.Logger }

func (l pebbleLogger) Infof(format string, args ...any) {
	l.Debug("pebble", "message", fmt.Sprintf(format, args...))
}

func (l pebbleLogger) Errorf(format string, args ...any) {
	l.Error("pebble", "message", fmt.Sprintf(format, args...))
}

func (l pebbleLogger) Fatalf(format string, args ...any) {
	l.Error("pebble cannot go on", "message", fmt.Sprintf(format, args...))
	os.Exit(1)
}
