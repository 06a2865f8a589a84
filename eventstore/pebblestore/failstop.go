package pebblestore

import (
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/errors/oserror"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// failStop is a file system that stops at the first failed write: what the disk
// holds from then on is what a crash at that instant would have left. Pebble
// would go on otherwise; it would end the process where it cannot change to
// another log file, and repeat a failed flush without a pause.
//
// The store learns of the failure before the failed call returns. From then on
// writes to log files and manifests and syncs of directories are swallowed, because
// Pebble panics at some of their errors, or later where it is meant to have ended the
// process, and the store acknowledges nothing any more; every other write waits for
// Close and then fails. While the store is opened the failed write itself waits, too,
// for good: Pebble would let go of what its background work still uses.
type failStop struct {
	vfs.FS
	fail    func(error)     // told of the first failure
	release <-chan struct{} // closed when waiting writes are to fail
	opening atomic.Bool
	stopped atomic.Bool
	broken  chan struct{} // closed at the first failure
	once    sync.Once
	// spare is a directory below which a failed write is the caller's matter alone;
	// nil for none.
	spare atomic.Pointer[string]
}

// errStopped is what writes get after a failure.
var errStopped = fmt.Errorf("write after a failed write")

func newFailStop(files vfs.FS, fail func(error), release <-chan struct{}) *failStop {
	s := &failStop{FS: files, fail: fail, release: release, broken: make(chan struct{})}
	s.opening.Store(true)
	return s
}

// guard runs a write unless an earlier one has failed.
func (s *failStop) guard(name string, write func() error) error {
	if s.isSpare(name) {
		return write()
	}
	if s.stopped.Load() {
		return s.refuse(name)
	}
	err := write()
	if err == nil {
		return nil
	}
	// In this order: no write is swallowed before the store knows.
	s.fail(fmt.Errorf("write %s: %w", s.FS.PathBase(name), err))
	s.stopped.Store(true)
	s.once.Do(func() { close(s.broken) })
	if s.swallows(name) || s.opening.Load() {
		return s.refuse(name)
	}
	return err
}

func (s *failStop) isSpare(name string) bool {
	dir := s.spare.Load()
	return dir != nil && (name == *dir || strings.HasPrefix(name, *dir+"/"))
}

func (s *failStop) refuse(name string) error {
	if s.swallows(name) {
		return nil
	}
	<-s.release
	return errStopped
}

// swallows tells whether writes to a name are swallowed; a directory's ends in a slash.
func (s *failStop) swallows(name string) bool {
	return strings.HasSuffix(name, ".log") || strings.HasSuffix(name, "/") ||
		strings.HasPrefix(s.PathBase(name), "MANIFEST-")
}

// open guards an operation that yields a file to write to.
func (s *failStop) open(name string, open func() (vfs.File, error)) (f vfs.File, err error) {
	err = s.guard(name, func() error {
		f, err = open()
		return err
	})
	if err != nil {
		return nil, err
	}
	return &failStopFile{File: f, fs: s, name: name}, nil
}

// Create makes what a marker of Pebble's names durable before the marker, which a crash
// may leave behind alone otherwise.
func (s *failStop) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return s.open(name, func() (vfs.File, error) {
		if strings.HasPrefix(s.PathBase(name), "marker.") {
			if err := syncDir(s.FS, s.PathDir(name)); err != nil {
				return nil, err
			}
		}
		return s.FS.Create(name, c)
	})
}

func (s *failStop) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return s.open(to, func() (vfs.File, error) { return s.FS.ReuseForWrite(from, to, c) })
}

func (s *failStop) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return s.open(name, func() (vfs.File, error) { return s.FS.OpenReadWrite(name, c, opts...) })
}

func (s *failStop) OpenDir(name string) (vfs.File, error) {
	f, err := s.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return &failStopFile{File: f, fs: s, name: name + "/"}, nil
}

func (s *failStop) Link(from, to string) error {
	return s.guard(to, func() error { return s.FS.Link(from, to) })
}

func (s *failStop) Rename(from, to string) error {
	return s.guard(to, func() error { return s.FS.Rename(from, to) })
}

// Remove is not worth stopping for, but nothing is removed after a failure.
func (s *failStop) Remove(name string) error {
	if s.stopped.Load() {
		return nil
	}
	return s.FS.Remove(name)
}

func (s *failStop) RemoveAll(name string) error {
	if s.stopped.Load() {
		return nil
	}
	return s.FS.RemoveAll(name)
}

func (s *failStop) Unwrap() vfs.FS { return s.FS }

// failStopFile is a file that is written to. The file itself is nil where it was
// made after the failure, which only log files are.
type failStopFile struct {
	vfs.File
	fs   *failStop
	name string
}

func (f *failStopFile) Write(p []byte) (int, error) {
	err := f.fs.guard(f.name, func() error {
		_, err := f.File.Write(p)
		return err
	})
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

func (f *failStopFile) WriteAt(p []byte, off int64) (int, error) {
	err := f.fs.guard(f.name, func() error {
		_, err := f.File.WriteAt(p, off)
		return err
	})
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

func (f *failStopFile) Sync() error { return f.fs.guard(f.name, func() error { return f.File.Sync() }) }

func (f *failStopFile) SyncData() error {
	return f.fs.guard(f.name, func() error { return f.File.SyncData() })
}

func (f *failStopFile) SyncTo(length int64) (full bool, err error) {
	err = f.fs.guard(f.name, func() error {
		full, err = f.File.SyncTo(length)
		return err
	})
	return full, err
}

func (f *failStopFile) Preallocate(offset, length int64) error {
	return f.fs.guard(f.name, func() error { return f.File.Preallocate(offset, length) })
}

// Close gives the file back even after a failure.
func (f *failStopFile) Close() error {
	if f.File == nil {
		return nil
	}
	stopped := f.fs.stopped.Load()
	err := f.File.Close()
	if err != nil && !stopped && !oserror.IsNotExist(err) {
		return f.fs.guard(f.name, func() error { return err })
	}
	if f.fs.swallows(f.name) && !f.fs.isSpare(f.name) {
		return nil
	}
	return err
}

func (f *failStopFile) Stat() (vfs.FileInfo, error) {
	if f.File == nil {
		return noFile(f.fs.PathBase(f.name)), nil
	}
	return f.File.Stat()
}

func (f *failStopFile) Fd() uintptr {
	if f.File == nil {
		return vfs.InvalidFd
	}
	return f.File.Fd()
}

func (f *failStopFile) Prefetch(offset, length int64) error {
	if f.File == nil {
		return nil
	}
	return f.File.Prefetch(offset, length)
}

// noFile is what Stat says of a file, by its name, that was never made.
type noFile string

func (n noFile) Name() string         { return string(n) }
func (noFile) Size() int64            { return 0 }
func (noFile) Mode() fs.FileMode      { return 0 }
func (noFile) ModTime() time.Time     { return time.Time{} }
func (noFile) IsDir() bool            { return false }
func (noFile) Sys() any               { return nil }
func (noFile) DeviceID() vfs.DeviceID { return vfs.DeviceID{} }
