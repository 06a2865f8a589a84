package pebblestore

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"

	"sojourn/eventstore"
	"sojourn/eventstore/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// smallOptions make everything that takes a million events in earnest happen
// after some dozens.
func smallOptions(fs vfs.FS) Options {
	return Options{FS: fs, SegmentEvents: 32, MaxStreams: 4, CacheBytes: 1 << 20, MemTableBytes: 1 << 20}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t testing.TB) eventstore.Store {
		s, err := Open("store", Options{FS: vfs.NewMem(), CacheBytes: 1 << 20, MemTableBytes: 1 << 20, SegmentEvents: 1 << 16})
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
}

func TestConformanceSmallSegments(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t testing.TB) eventstore.Store {
		s, err := Open("store", smallOptions(vfs.NewMem()))
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
}

func TestConformanceOnDisk(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t testing.TB) eventstore.Store {
		s, err := Open(t.(*testing.T).TempDir(), smallOptions(vfs.Default))
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
}
