package projections

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"pgregory.net/rapid"

	"sojourn/eventstore"
)

// larges are the sizes from which on tests have a flush written as tables: all of them,
// some, and none.
var larges = []int{1, 512, ingestBytes}

// TestRecords: however records come to the state, as a batch or as tables, by one
// goroutine or by several, it holds what they say in their order, after a loss of power,
// too.
func TestRecords(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		mem := vfs.NewCrashableMem()
		s := mustOpenState(t, mem)
		want := map[string]string{}
		var at checkpoint
		for range rapid.IntRange(1, 4).Draw(t, "flushes") {
			s.large = rapid.SampledFrom(larges).Draw(t, "large")
			all := make([]*records, rapid.IntRange(0, 4).Draw(t, "goroutines"))
			for i := range all {
				all[i] = new(records)
				for range rapid.IntRange(0, 20).Draw(t, "records") {
					// Long keys that differ at their end, too.
					key := rapid.SampledFrom([]string{"a", "k", "z"}).Draw(t, "kind") +
						strings.Repeat("x", rapid.SampledFrom([]int{0, 7, 20}).Draw(t, "length")) +
						fmt.Sprint(rapid.IntRange(0, 9).Draw(t, "key"))
					if rapid.IntRange(0, 3).Draw(t, "gone") == 0 {
						all[i].delete([]byte(key))
						delete(want, key)
						continue
					}
					value := strings.Repeat("v", rapid.SampledFrom([]int{0, 3, 5000}).Draw(t, "value"))
					all[i].set([]byte(key), []byte(value))
					want[key] = value
				}
			}
			at.Position++
			if err := errors.Join(s.begin(intent{To: at.Position}), s.commit(all, at)); err != nil {
				t.Fatal(err)
			}
			if rapid.Bool().Draw(t, "crash") {
				mem = mem.CrashClone(vfs.CrashCloneCfg{})
				_ = s.close()
				s = mustOpenState(t, mem)
			}
			if _, under, err := s.intent(); under || err != nil {
				t.Fatalf("the flush is still under way: %v, %v", under, err)
			}
			if got := s.checkpoint(); got != at {
				t.Fatalf("the checkpoint is %+v, want %+v", got, at)
			}
			got := map[string]string{}
			if err := s.scan([]byte("a"), []byte("zz"), func(k, v []byte) error {
				if key := string(k); key != string(checkpointKey) && key != string(intentKey) {
					got[key] = string(v)
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			if !maps.Equal(got, want) {
				t.Fatalf("the state holds %d records, want %d:\n%v\n%v", len(got), len(want), got, want)
			}
		}
		if err := s.close(); err != nil {
			t.Fatal(err)
		}
	})
}

func mustOpenState(t *rapid.T, fs vfs.FS) *state {
	t.Helper()
	s, err := openState(fs, "state", 1<<20, discard)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestRecordsOnAFailingDisk has each write of a table fail in turn: nothing of the flush
// is there then, and once the disk works again all of it, and no table lies about.
func TestRecordsOnAFailingDisk(t *testing.T) {
	t.Parallel()
	for at := int64(1); ; at++ {
		var writes atomic.Int64
		mem := vfs.NewMem()
		s, err := openState(errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if strings.HasSuffix(op.Path, tableSuffix) && op.Kind.ReadOrWrite() == errorfs.OpIsWrite && writes.Add(1) == at {
				return errorfs.ErrInjected
			}
			return nil
		})), "state", 1<<20, discard)
		if err != nil {
			t.Fatal(err)
		}
		s.large = 1
		var r records
		for i := range 1000 { // two tables of one kind, and one of another
			kind := byte('k')
			if i%10 == 0 {
				kind = 'l'
			}
			r.set(fmt.Appendf(nil, "%c%d", kind, i), make([]byte, 5000))
		}
		commit := func() (int, error) {
			err := s.commit([]*records{&r}, checkpoint{Position: 1})
			n := 0
			return n, errors.Join(err, s.scan([]byte("k"), []byte("m"), func(_, _ []byte) error {
				n++
				return nil
			}))
		}
		n, err := commit()
		if writes.Load() < at {
			if n != 1000 || err != nil {
				t.Fatalf("%d records, %v", n, err)
			}
			if err := s.close(); err != nil {
				t.Fatal(err)
			}
			return
		}
		if err == nil && n != 1000 || err != nil && (n != 0 || !errors.Is(err, errorfs.ErrInjected) || s.checkpoint().Position != 0) {
			t.Fatalf("write %d fails: %d records, %v, at %+v", at, n, err, s.checkpoint())
		}
		if n, err = commit(); n != 1000 || err != nil || s.checkpoint().Position != 1 {
			t.Fatalf("write %d has failed: %d records, %v, at %+v", at, n, err, s.checkpoint())
		}
		names, err := mem.List("state")
		if err != nil || slices.ContainsFunc(names, func(name string) bool { return strings.HasSuffix(name, tableSuffix) }) {
			t.Errorf("%v, %v", names, err)
		}
		if err := s.close(); err != nil {
			t.Fatal(err)
		}
	}
}

// hooked calls its hooks before a file is made or linked.
type hooked struct {
	vfs.FS
	create, link func(path string)
}

func (h *hooked) Create(path string, c vfs.DiskWriteCategory) (vfs.File, error) {
	h.create(path)
	return h.FS.Create(path, c)
}

func (h *hooked) Link(from, to string) error {
	h.link(to)
	return h.FS.Link(from, to)
}

func mustCommit(t *testing.T, s *state, to eventstore.Position, all ...*records) {
	t.Helper()
	if err := errors.Join(s.begin(intent{To: to}), s.commit(all, checkpoint{Position: to})); err != nil {
		t.Error(err)
	}
}

// oneOfAll is a record with each of some keys and a flush's position.
func oneOfAll(kind byte, keys int, at eventstore.Position) *records {
	r := new(records)
	for i := range keys {
		r.set(fmt.Appendf(nil, "%c%04d", kind, i), fmt.Append(nil, at))
	}
	return r
}

// TestFlushesWaitForMerges: while Pebble merges no tables, flushes that come as tables
// wait, before the level they lie in is so deep that Pebble keeps all writers waiting;
// who reads does not wait.
func TestFlushesWaitForMerges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		merge := make(chan struct{})
		s, err := openState(&hooked{vfs.NewMem(), func(path string) {
			if strings.HasSuffix(path, ".sst") {
				<-merge
			}
		}, func(string) {}}, "state", 1<<20, discard)
		if err != nil {
			t.Fatal(err)
		}
		s.large = 1
		depth := func() int { return int(s.db.Metrics().Levels[0].Sublevels) }
		const flushes = 30
		var done atomic.Int64
		go func() {
			for n := range eventstore.Position(flushes) {
				mustCommit(t, s, n+1, oneOfAll('k', 10, n+1))
				done.Add(1)
			}
		}()
		synctest.Wait()
		t.Logf("%d flushes, %d levels", done.Load(), depth())
		if n := done.Load(); n == flushes || n < 2 || depth() >= s.options.L0StopWritesThreshold {
			t.Errorf("%d flushes are through, and %d tables lie one upon the other", n, depth())
		}
		if got := s.checkpoint().Position; int64(got) != done.Load() {
			t.Errorf("the state is at %d after %d flushes", got, done.Load())
		}
		close(merge)
		synctest.Wait()
		if n := done.Load(); n != flushes || depth() >= s.options.L0StopWritesThreshold {
			t.Errorf("%d flushes are through, and %d tables lie one upon the other", n, depth())
		}
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
}

// TestCopyMissesNoFlush has flushes come, as tables and as a batch, in the middle of a
// copy of the state, if it lets them: the copy has all flushes up to its checkpoint.
func TestCopyMissesNoFlush(t *testing.T) {
	t.Parallel()
	var s *state
	copying := false
	s, err := openState(&hooked{vfs.NewMem(), func(string) {}, func(path string) {
		if !copying || !strings.HasPrefix(path, "copy") || !s.mu.TryLock() {
			return
		}
		s.mu.Unlock()
		copying = false
		s.large = 1
		mustCommit(t, s, 3, oneOfAll('k', 10, 3))
		s.large = ingestBytes
		mustCommit(t, s, 4, oneOfAll('l', 1, 4))
	}}, "state", 1<<20, discard)
	if err != nil {
		t.Fatal(err)
	}
	s.large = 1
	mustCommit(t, s, 1, oneOfAll('k', 10, 1))
	mustCommit(t, s, 2, oneOfAll('k', 10, 2))
	if err := s.db.Flush(); err != nil {
		t.Fatal(err)
	}
	copying = true
	at, err := s.copyTo("copy")
	copying = false
	if err != nil {
		t.Fatal(err)
	}
	c, err := openState(s.fs, "copy", 1<<20, discard)
	if err != nil {
		t.Fatal(err)
	}
	if c.at.Position < at.Position {
		t.Errorf("the copy is at %d, said to be at %d", c.at.Position, at.Position)
	}
	got, err := c.load([]byte("k0007"))
	if want := fmt.Append(nil, min(c.at.Position, 3)); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the copy at %d holds %q, %v, want %q", c.at.Position, got, err, want)
	}
	if err := errors.Join(c.close(), s.close()); err != nil {
		t.Error(err)
	}
}

// TestBlocksOfRecords: however many records there are, most share their memory.
func TestBlocksOfRecords(t *testing.T) {
	t.Parallel()
	var r records
	for i := range 200_000 {
		r.set(fmt.Appendf(nil, "k%d", i), make([]byte, 500))
	}
	if len(r.blocks) > 4+r.bytes/(recordBlock-1000) {
		t.Errorf("%d blocks of %d bytes", len(r.blocks), r.bytes)
	}
}
