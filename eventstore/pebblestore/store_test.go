package pebblestore

import (
	"os"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"

	"sojourn/eventstore"
	"sojourn/eventstore/storetest"
)

// givenUp is set for a process of this test in which stores are given up.
const givenUp = "SOJOURN_TEST_GIVEN_UP"

func TestMain(m *testing.M) {
	if os.Getenv(givenUp) != "" {
		os.Exit(m.Run())
	}
	goleak.VerifyTestMain(m)
}

// smallOptions make everything that takes a million events in earnest happen
// after some dozens.
func smallOptions(fs vfs.FS) Options {
	return Options{FS: fs, SegmentEvents: 32, CacheBytes: 1 << 20, MemTableBytes: 1 << 20}
}

func inMemory(o func(vfs.FS) Options) storetest.Open {
	return func(t testing.TB) eventstore.Store {
		s, err := Open("store", o(vfs.NewMem()))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
}

func largeSegments(fs vfs.FS) Options {
	return Options{FS: fs, CacheBytes: 1 << 20, MemTableBytes: 1 << 20, SegmentEvents: 1 << 16}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	storetest.Run(t, inMemory(largeSegments))
}

func TestConformanceSmallSegments(t *testing.T) {
	t.Parallel()
	storetest.Run(t, inMemory(smallOptions))
}

func TestConformanceOnDisk(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t testing.TB) eventstore.Store {
		s, err := Open(t.(*testing.T).TempDir(), Options{})
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
}

func TestModel(t *testing.T) {
	t.Parallel()
	storetest.RunModel(t, inMemory(largeSegments))
}

// TestModelSmallSegments freezes and merges after every few events.
func TestModelSmallSegments(t *testing.T) {
	t.Parallel()
	storetest.RunModel(t, inMemory(func(fs vfs.FS) Options {
		o := smallOptions(fs)
		o.SegmentEvents, o.MaxRevisions = 4, 3
		return o
	}))
}
