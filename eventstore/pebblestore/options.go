package pebblestore

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Limits of one append. Above them a part is answered eventstore.ErrTooLarge.
const (
	// MaxEventBytes bounds one event: its stream, type, metadata and data.
	MaxEventBytes = 16 << 20
	// MaxAppendBytes bounds the events that one part appends atomically.
	MaxAppendBytes = 64 << 20
	// MaxAppendEvents bounds their number.
	MaxAppendEvents = 1 << 18
	// MaxStreamBytes bounds the name of a stream.
	MaxStreamBytes = 1024
	// MaxTypeBytes bounds the type of an event.
	MaxTypeBytes = 255
)

var (
	// ErrLocked is returned by Open where another process, or this one, has the
	// directory open already.
	ErrLocked = errors.New("event store is in use by another process")
	// ErrCorrupt is found in the error of Open and of reads where the log itself
	// does not carry what was written.
	ErrCorrupt = errors.New("event log corrupt")
)

// Options configures a Store. The zero value is ready for use.
type Options struct {
	// FS is the file system; nil means the operating system's.
	FS vfs.FS
	// Logger gets what happens in the background; nil discards it.
	Logger *slog.Logger
	// Now is the clock behind recorded_at; nil means time.Now.
	Now func() time.Time
	// QueueBytes bounds the events that wait to become durable (default 64 MiB).
	// An append above it waits for QueueWait, then is refused with ErrOverloaded.
	// A single append larger than the bound passes while nothing else waits.
	QueueBytes int64
	// QueueWait is how long an append waits for room in the queue before it is
	// refused (default 100 ms; negative means not at all).
	QueueWait time.Duration
	// CacheBytes is the size of the log's cache, of which its memtables take a
	// share (default 64 MiB).
	CacheBytes int64
	// MemTableBytes is the size of one memtable; at most four are kept (default
	// 16 MiB).
	MemTableBytes uint64
	// SegmentEvents is how many events the indexes gather in memory before they
	// are written out: at most 1,048,576, the default.
	SegmentEvents int
	// MaxRevisions is how many streams' revisions are remembered, at some 17 bytes
	// each (default 16,777,216). An append to a stream beyond it searches the disk
	// first, unless a recent event is of that stream, too.
	MaxRevisions int
}

const maxSegmentEvents = 1 << slotIndexBits

func (o Options) withDefaults() Options {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.QueueBytes <= 0 {
		o.QueueBytes = 64 << 20
	}
	if o.QueueWait == 0 {
		o.QueueWait = 100 * time.Millisecond
	}
	if o.CacheBytes <= 0 {
		o.CacheBytes = 64 << 20
	}
	if o.MemTableBytes == 0 {
		o.MemTableBytes = 16 << 20
	}
	if o.SegmentEvents <= 0 || o.SegmentEvents > maxSegmentEvents {
		o.SegmentEvents = maxSegmentEvents
	}
	if o.MaxRevisions <= 0 {
		o.MaxRevisions = 1 << 24
	}
	return o
}

// PebbleOptions are the options the log runs on: large tables and memtables,
// because keys only grow and tables therefore move down the levels without
// being rewritten. They are exported so that a baseline can run on the same.
// The caller releases the cache with Cache.Unref after opening.
func PebbleOptions(o Options) *pebble.Options {
	o = o.withDefaults()
	po := &pebble.Options{
		FS:                          o.FS,
		Cache:                       pebble.NewCache(o.CacheBytes),
		FormatMajorVersion:          pebble.FormatValueSeparation,
		MemTableSize:                o.MemTableBytes,
		MemTableStopWritesThreshold: 4,
		L0CompactionThreshold:       4,
		L0StopWritesThreshold:       64,
		LBaseMaxBytes:               256 << 20,
		MaxOpenFiles:                1024,
		CompactionConcurrencyRange:  func() (int, int) { return 1, 2 },
	}
	po.TargetFileSizes[0] = 32 << 20
	for i := range po.Levels {
		l := &po.Levels[i]
		l.BlockSize = blockTarget
		l.IndexBlockSize = 64 << 10
		if i > 0 {
			po.TargetFileSizes[i] = 64 << 20
		}
	}
	return po
}

// pebbleLogger hands Pebble's messages to slog. Fatalf must not end the
// process: it makes the store refuse everything instead.
type pebbleLogger struct {
	log  *slog.Logger
	fail func(error)
}

func (l pebbleLogger) Infof(format string, args ...any) {
	l.log.Debug("pebble", "message", fmt.Sprintf(format, args...))
}

func (l pebbleLogger) Errorf(format string, args ...any) {
	l.log.Error("pebble", "message", fmt.Sprintf(format, args...))
}

func (l pebbleLogger) Fatalf(format string, args ...any) {
	err := fmt.Errorf(format, args...)
	for _, a := range args {
		if cause, ok := a.(error); ok {
			err = fmt.Errorf("pebble: %w", cause)
		}
	}
	l.fail(err)
}

// lockError turns what a file system says of a held lock into ErrLocked.
func lockError(dir string, err error) error {
	var pathErr *fs.PathError
	held := !errors.As(err, &pathErr) && (errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EACCES))
	// vfs has no sentinel for a lock that this very process holds.
	if held || err.Error() == "lock held by current process" {
		return fmt.Errorf("open event store %s: %w", dir, ErrLocked)
	}
	return fmt.Errorf("lock event store %s: %w", dir, err)
}
