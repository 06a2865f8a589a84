// Package pebblestore keeps the event log in a Pebble database.
//
// One goroutine, the committer, decides every append and writes it: what waits
// is gathered into one Pebble batch, whose synced log write is the only commit
// point. The indexes (event ids, streams) are derived: they are gathered in
// memory and written out now and then together with the position they reach,
// and what lies behind that position is read again when the store is opened.
//
// The process may die, or the machine lose power, at any instant: what was
// acknowledged is there exactly once, and no event is ever there in part.
package pebblestore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/errors/oserror"
	"github.com/cockroachdb/pebble/v2"

	"sojourn/eventstore"
)

var (
	_ eventstore.Store   = (*Store)(nil)
	_ eventstore.IDIndex = (*Store)(nil)
)

// Store is an event store in a directory. Its methods may be called from many
// goroutines at once.
type Store struct {
	opts     Options
	fs       *failStop
	log      *slog.Logger
	db       *pebble.DB // the log
	indexDir string
	seed     hashSeed

	// durable is the position of the last durable event: the end of what readers
	// see.
	durable  atomic.Uint64
	advanced broadcast // on each move of durable

	queue     queue
	committer committer

	mu      sync.RWMutex // the streams of the active segment; changes of index
	index   atomic.Pointer[indexState]
	indexed broadcast // on each change of index by the indexer

	readersMu sync.Mutex
	readers   map[*logReader]struct{}
	closed    bool // readers are refused

	checkpoints sync.Mutex // held while one is made

	failed  chan struct{} // closed when the store has failed
	failure atomic.Pointer[error]

	closing   chan struct{} // closed when Close begins
	stopIndex chan struct{} // closed when the indexer is to end
	done      sync.WaitGroup
	closeOnce sync.Once
	closeErr  error
}

// indexState is what the indexes consist of at an instant. It is replaced as a
// whole, so that a look-up never misses what moves from one part to another.
type indexState struct {
	active *segment
	frozen []*segment           // oldest first
	runs   [runKinds][]*runFile // oldest first
}

// Open opens the store in a directory and makes it where there is none. What the
// indexes on disk do not reach is read again: about a million events take half a
// second. Index files that are damaged or missing are made anew from the log.
//
// Where a write fails meanwhile, Open returns at once with ErrUnavailable, and the
// directory stays locked until the process ends.
func Open(dir string, opts Options) (*Store, error) {
	s := newStore(dir, opts)
	if err := s.open(dir); err != nil {
		return nil, err
	}
	s.done.Add(4)
	go func() { defer s.done.Done(); s.loadRevisions() }()
	go func() { defer s.done.Done(); s.committer.run() }()
	go func() { defer s.done.Done(); s.committer.acknowledge() }()
	go func() { defer s.done.Done(); s.runIndexer() }()
	return s, nil
}

func newStore(dir string, opts Options) *Store {
	opts = opts.withDefaults()
	s := &Store{
		opts:      opts,
		log:       opts.Logger,
		indexDir:  opts.FS.PathJoin(dir, "index"),
		readers:   make(map[*logReader]struct{}),
		failed:    make(chan struct{}),
		closing:   make(chan struct{}),
		stopIndex: make(chan struct{}),
	}
	s.fs = newFailStop(opts.FS, s.fail, s.closing)
	s.opts.FS = s.fs
	s.queue.init(opts.QueueBytes)
	s.committer.init(s)
	return s
}

// open opens the databases and brings the indexes to the end of the log. After a failed
// write it returns, and gives up what it has begun: Pebble repeats some writes until
// they succeed, and waits for others when it is closed.
func (s *Store) open(dir string) error {
	opened := make(chan error, 1)
	go func() { opened <- s.openAll(dir) }()
	select {
	case err := <-opened:
		return err
	case <-s.fs.broken:
		return fmt.Errorf("open event store %s: %w", dir, s.failureErr())
	}
}

func (s *Store) openAll(dir string) (err error) {
	logDir := s.fs.PathJoin(dir, "log")
	for _, d := range []string{logDir, s.indexDir} {
		if err := makeDir(s.fs, d); err != nil {
			return fmt.Errorf("open event store: %w", err)
		}
	}
	lock, err := pebble.LockDirectory(logDir, s.fs)
	if err != nil {
		return lockError(dir, err)
	}
	// The database holds the lock, too, until it is closed.
	defer func() { err = errors.Join(err, lock.Close()) }()

	po := PebbleOptions(s.opts)
	defer po.Cache.Unref()
	po.Lock = lock
	po.Logger = pebbleLogger{log: s.log, fail: s.fail}
	po.EventListener = s.listener()
	if s.db, err = pebble.Open(logDir, po); err != nil {
		return fmt.Errorf("open event store %s: %w", dir, err)
	}
	if err = s.removeOldIndexes(dir); err == nil {
		err = s.recover()
	}
	s.fs.opening.Store(false)
	if err = cmp.Or(err, s.failureErr()); err == nil {
		return nil
	}
	err = fmt.Errorf("open event store %s: %w", dir, err)
	if s.fs.stopped.Load() {
		return err
	}
	s.closeRuns()
	return errors.Join(err, s.db.Close())
}

// removeOldIndexes removes the two folders in which earlier builds kept the indexes. They
// are made anew.
func (s *Store) removeOldIndexes(dir string) error {
	for _, name := range []string{"streams", "ids"} {
		old := s.fs.PathJoin(dir, name)
		if _, err := s.fs.Stat(old); oserror.IsNotExist(err) {
			continue
		}
		s.log.Info("indexes of an earlier build are made anew from the log", "removed", old)
		if err := s.fs.RemoveAll(old); err != nil {
			return fmt.Errorf("remove indexes of an earlier build: %w", err)
		}
	}
	return nil
}

// listener makes a failed flush known, which Pebble would retry for ever.
func (s *Store) listener() *pebble.EventListener {
	l := &pebble.EventListener{
		FlushEnd: func(info pebble.FlushInfo) {
			// A flush that found nothing to write is told as an error, too, which
			// Pebble does not export.
			if info.Err != nil && info.Err.Error() != "pebble: empty table" {
				s.fail(fmt.Errorf("write table: %w", info.Err))
			}
		},
		BackgroundError: func(err error) {
			s.log.Error("background work of the event log failed", "error", err)
		},
		WriteStallBegin: func(info pebble.WriteStallBeginInfo) {
			s.log.Warn("event log writes stall", "reason", info.Reason)
		},
		DataCorruption: func(info pebble.DataCorruptionInfo) {
			s.fail(fmt.Errorf("%w: %s: %w", ErrCorrupt, info.Path, info.Details))
		},
	}
	l.EnsureDefaults(nil)
	return l
}

// fail makes the store refuse everything but reads of what is durable.
func (s *Store) fail(cause error) {
	err := fmt.Errorf("%w: %w", eventstore.ErrUnavailable, cause)
	if isDiskFull(cause) {
		err = fmt.Errorf("%w: the disk is full: %w", eventstore.ErrUnavailable, cause)
	}
	if !s.failure.CompareAndSwap(nil, &err) {
		return
	}
	s.log.Error("event store stopped accepting appends", "error", cause)
	close(s.failed)
	s.queue.stop(err)
	s.queue.abandon(err)
}

// failureErr is the reason of the failure, or nil.
func (s *Store) failureErr() error {
	if p := s.failure.Load(); p != nil {
		return *p
	}
	return nil
}

// Head is the position of the last durable event.
func (s *Store) Head(ctx context.Context) (eventstore.Position, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if s.isClosing() {
		return 0, eventstore.ErrClosed
	}
	return s.head(), nil
}

func (s *Store) head() eventstore.Position { return eventstore.Position(s.durable.Load()) }

func (s *Store) isClosing() bool {
	select {
	case <-s.closing:
		return true
	default:
		return false
	}
}

// Wait returns when the log holds a durable event after a position. Once the
// store has failed or is closed no event will come: then it returns why.
func (s *Store) Wait(ctx context.Context, after eventstore.Position) error {
	for {
		moved := s.advanced.wait()
		if err := ctx.Err(); err != nil {
			return err
		}
		if s.isClosing() {
			return eventstore.ErrClosed
		}
		if s.head() > after {
			return nil
		}
		if err := s.failureErr(); err != nil {
			return err
		}
		select {
		case <-moved:
		case <-ctx.Done():
		case <-s.failed:
		case <-s.closing:
		}
	}
}

// closeIndexEvents is how many recent events make it worth writing the indexes
// out on Close; fewer are read again faster at the next Open.
const closeIndexEvents = 1 << 15

// stuckTimeout is how long Close waits for a committer that a failed disk keeps
// from returning.
const stuckTimeout = 5 * time.Second

// Close finishes the appends under way, ends all iterators with ErrClosed and
// releases the directory. It may be called more than once. After a failure that
// keeps Pebble from returning, the directory stays locked until the process
// ends, and the error says so.
func (s *Store) Close() error {
	s.closeOnce.Do(func() { s.closeErr = s.close() })
	return s.closeErr
}

func (s *Store) close() error {
	close(s.closing)
	s.queue.stop(eventstore.ErrClosed)
	if !s.committer.stopped(s.failed) {
		return fmt.Errorf("close event store: the log writer does not return, the directory stays locked: %w", s.failureErr())
	}
	// Nothing is appended any more.
	if s.failureErr() == nil && s.index.Load().active.n >= min(closeIndexEvents, s.opts.SegmentEvents) {
		s.mu.Lock()
		s.rotate(s.opts.SegmentEvents)
		s.mu.Unlock()
	}
	close(s.stopIndex)
	s.done.Wait()
	s.checkpoints.Lock() // one under way ends, and none begins any more
	defer s.checkpoints.Unlock()
	s.closeReaders()
	s.closeRuns()
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("close event store: %w", err)
	}
	return nil
}

func (s *Store) closeRuns() {
	state := s.index.Load()
	if state == nil {
		return
	}
	for _, runs := range state.runs {
		for _, r := range runs {
			if err := r.end(eventstore.ErrClosed); err != nil {
				s.log.Warn("index run not closed", "path", r.path, "error", err)
			}
		}
	}
}

// Stats are figures for metrics.
type Stats struct {
	Head        eventstore.Position
	QueuedBytes int64 // waiting to become durable
	Commits     uint64
	Appended    uint64 // events since Open
	Repeats     uint64 // of those, ids that stand elsewhere in the log
	Known       uint64 // events left out because their stream held them
	IndexRuns   int
	DiskBytes   uint64
}

// Stats returns figures for metrics; each is right for some recent instant.
func (s *Store) Stats() Stats {
	state := s.index.Load()
	c := &s.committer
	st := Stats{
		Head:        s.head(),
		QueuedBytes: s.queue.queuedBytes(),
		Commits:     c.commits.Load(),
		Appended:    c.appended.Load(),
		Repeats:     c.repeats.Load(),
		Known:       c.known.Load(),
		IndexRuns:   len(state.runs[idRuns]) + len(state.runs[streamRuns]),
	}
	if !s.isClosing() {
		st.DiskBytes = s.db.Metrics().DiskSpaceUsage()
		for _, runs := range state.runs {
			for _, r := range runs {
				st.DiskBytes += uint64(r.size)
			}
		}
	}
	return st
}

// broadcast wakes all who wait for the next change of something.
type broadcast struct {
	mu sync.Mutex
	ch chan struct{} // nil while nobody waits
}

// wait returns a channel that is closed at the next notify.
func (b *broadcast) wait() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch == nil {
		b.ch = make(chan struct{})
	}
	return b.ch
}

func (b *broadcast) notify() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch != nil {
		close(b.ch)
		b.ch = nil
	}
}
