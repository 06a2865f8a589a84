package pebblestore

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/google/uuid"

	"sojourn/eventstore"
)

func newEvent() eventstore.NewEvent {
	return eventstore.NewEvent{ID: uuid.New(), Type: "t", Data: []byte("data")}
}

func isLog(path string) bool { return strings.HasSuffix(path, ".log") }

// TestFailedWrite fails each kind of write to the log: from then on the store
// refuses everything, reads what is durable, and closes; opened anew it holds
// what was acknowledged.
func TestFailedWrite(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		err   error
		fails func(op errorfs.Op) bool
	}{
		"sync": {errors.New("i/o error"), func(op errorfs.Op) bool {
			return isLog(op.Path) && (op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData)
		}},
		"write": {errors.New("i/o error"), func(op errorfs.Op) bool {
			return isLog(op.Path) && op.Kind == errorfs.OpFileWrite
		}},
		"full disk": {syscall.ENOSPC, func(op errorfs.Op) bool {
			return isLog(op.Path) && op.Kind == errorfs.OpFileWrite
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var broken atomic.Bool
			mem := vfs.NewCrashableMem()
			fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
				if broken.Load() && test.fails(op) {
					return test.err
				}
				return nil
			}))
			ctx := t.Context()
			s, err := Open("store", smallOptions(fs))
			if err != nil {
				t.Fatal(err)
			}
			good := newEvent()
			if _, err := s.Append(ctx, "s", eventstore.NoStream{}, good); err != nil {
				t.Fatal(err)
			}
			broken.Store(true)
			lost := newEvent()
			_, err = s.Append(ctx, "s", eventstore.Revision(0), lost)
			if !errors.Is(err, eventstore.ErrUnavailable) || !errors.Is(err, test.err) {
				t.Fatalf("append on a failing disk: %v", err)
			}
			if errors.Is(test.err, syscall.ENOSPC) && !strings.Contains(err.Error(), "disk is full") {
				t.Errorf("a full disk is told as %v", err)
			}
			broken.Store(false)
			// The disk works again, but what it holds is not known.
			for _, e := range []eventstore.NewEvent{newEvent(), lost, good} {
				if _, err := s.Append(ctx, "s", eventstore.Any{}, e); !errors.Is(err, eventstore.ErrUnavailable) {
					t.Errorf("append after a failure: %v", err)
				}
			}
			n := 0
			for e, err := range s.ReadAll(ctx, 0) {
				if err != nil || e.ID != good.ID {
					t.Errorf("after a failure only what is durable is read: %v, %v", e.ID, err)
				}
				n++
			}
			if head, err := s.Head(ctx); n != 1 || head != 1 || err != nil {
				t.Errorf("%d events, head %d, %v", n, head, err)
			}
			if err := s.Wait(ctx, 1); !errors.Is(err, eventstore.ErrUnavailable) {
				t.Errorf("wait after a failure: %v", err)
			}
			positions := make([]eventstore.Position, 2)
			if err := s.Lookup(ctx, []uuid.UUID{good.ID, lost.ID}, positions); err != nil || positions[0] != 1 || positions[1] != 0 {
				t.Errorf("lookup after a failure: %v, %v", positions, err)
			}
			_ = s.Close() // tells the failure or not, as Pebble likes
			crashed := mem.CrashClone(vfs.CrashCloneCfg{})
			s, err = Open("store", smallOptions(crashed))
			if err != nil {
				t.Fatal(err)
			}
			res, err := s.Append(ctx, "s", eventstore.NoStream{}, good, lost)
			if err != nil || res.Revision != 1 {
				t.Errorf("opened anew: %+v, %v", res, err)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestFaultAtAnyWrite breaks the disk at a write chosen at random, for good or
// for that one write, and then takes the power away: nothing that was
// acknowledged may be lost.
func TestFaultAtAnyWrite(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(seed, 4))
			mem := vfs.NewCrashableMem()
			var count atomic.Int64
			var opened atomic.Bool
			at := int64(1 + rng.IntN(600))
			forGood := rng.IntN(2) == 0
			fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
				if op.Kind.ReadOrWrite() != errorfs.OpIsWrite || !opened.Load() {
					return nil
				}
				if n := count.Add(1); n == at || forGood && n > at {
					return errorfs.ErrInjected
				}
				return nil
			}))
			l := newLedger()
			s, err := Open("store", smallOptions(fs))
			if err != nil {
				t.Fatal(err)
			}
			opened.Store(true)
			for i := 0; err == nil && i < 100; i++ {
				err = l.work(t.Context(), s, rng, 5)
			}
			if err != nil && !errors.Is(err, eventstore.ErrUnavailable) {
				t.Errorf("appending: %v", err)
			}
			_ = s.Close()
			s, err = Open("store", smallOptions(mem.CrashClone(vfs.CrashCloneCfg{})))
			if err != nil {
				t.Fatal(err)
			}
			answered := l.snapshot()
			l.check(t.Context(), t, s, answered)
			l.checkWhole(t.Context(), t, s)
			repeatAll(t, s, answered)
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestFaultWhileOpening breaks the disk at a write chosen at random while the store is
// opened and makes indexes anew that were lost: Open returns and tells why it cannot,
// and nothing of the log is lost. What Open gives up stays until the process ends, so
// that this is one of its own.
func TestFaultWhileOpening(t *testing.T) {
	t.Parallel()
	if os.Getenv(givenUp) == "" {
		self := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestFaultWhileOpening$", "-test.timeout=2m")
		self.Env = append(os.Environ(), givenUp+"=1")
		if out, err := self.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	for seed := range uint64(40) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(seed, 5))
			mem := vfs.NewCrashableMem()
			l := newLedger()
			s, err := Open("store", smallOptions(mem))
			if err != nil {
				t.Fatal(err)
			}
			if err := l.work(t.Context(), s, rng, 120); err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if err := mem.RemoveAll("store/index"); err != nil {
				t.Fatal(err)
			}
			var count atomic.Int64
			at := int64(1 + rng.IntN(250))
			forGood := rng.IntN(2) == 0
			fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
				if op.Kind.ReadOrWrite() != errorfs.OpIsWrite {
					return nil
				}
				if n := count.Add(1); n == at || forGood && n > at {
					return errorfs.ErrInjected
				}
				return nil
			}))
			s, err = Open("store", smallOptions(fs))
			if err == nil {
				_ = s.Close()
			} else if !errors.Is(err, errorfs.ErrInjected) {
				t.Errorf("opening on a failing disk: %v", err)
			}
			s, err = Open("store", smallOptions(mem.CrashClone(vfs.CrashCloneCfg{})))
			if err != nil {
				t.Fatal(err)
			}
			answered := l.snapshot()
			l.check(t.Context(), t, s, answered)
			l.checkWhole(t.Context(), t, s)
			repeatAll(t, s, answered)
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestDamagedIndexes damages each index file in turn; the store makes it anew.
func TestDamagedIndexes(t *testing.T) {
	t.Parallel()
	damage := map[string]func(b []byte) []byte{
		"cut short":   func(b []byte) []byte { return b[:len(b)/2] },
		"empty":       func([]byte) []byte { return nil },
		"first byte":  func(b []byte) []byte { b[0] ^= 1; return b },
		"middle byte": func(b []byte) []byte { b[len(b)/2] ^= 0x80; return b },
		"last byte":   func(b []byte) []byte { b[len(b)-1] ^= 1; return b },
		"removed":     nil,
	}
	for name, change := range damage {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(7, uint64(len(name))))
			mem := vfs.NewMem()
			l := newLedger()
			s, err := Open("store", smallOptions(mem))
			if err != nil {
				t.Fatal(err)
			}
			// Runs may just have been merged into one.
			for steps := 120; len(indexFiles(t, mem)) < 5; steps = 10 { // two runs and the manifest
				if err := l.work(t.Context(), s, rng, steps); err != nil {
					t.Fatal(err)
				}
				if err := s.FlushIndexes(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			// Opening may merge runs, so they are listed anew each time.
			for i := 0; i < len(indexFiles(t, mem)); i++ {
				path := indexFiles(t, mem)[i]
				if change == nil {
					if err := mem.Remove(path); err != nil {
						t.Fatal(err)
					}
				} else {
					rewrite(t, mem, path, change)
				}
				s, err := Open("store", smallOptions(mem))
				if err != nil {
					t.Fatalf("%s %s: %v", path, name, err)
				}
				l.check(t.Context(), t, s, l.snapshot())
				repeatAll(t, s, l.snapshot())
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// TestDamageUnderneath damages the runs of an open store: what is read there fails and
// says why, and opened anew the store has made them anew.
func TestDamageUnderneath(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(8, 8))
	mem := vfs.NewMem()
	l := newLedger()
	s, err := Open("store", smallOptions(mem))
	if err != nil {
		t.Fatal(err)
	}
	if err := l.work(t.Context(), s, rng, 200); err != nil {
		t.Fatal(err)
	}
	if err := s.FlushIndexes(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, path := range indexFiles(t, mem) {
		if strings.HasSuffix(path, manifestName) {
			continue
		}
		f, err := mem.OpenReadWrite(path, vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		stat, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		for at := int64(3); at < stat.Size(); at += runChunkLen / 8 { // in every chunk
			if _, err := f.WriteAt([]byte("d"), at); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	answered := l.snapshot()
	for _, a := range answered {
		var read, back error
		for _, read = range s.ReadStream(t.Context(), a.stream, 0, eventstore.Forwards) { //nolint:revive // the last error
		}
		for _, back = range s.ReadStream(t.Context(), a.stream, eventstore.End, eventstore.Backwards) { //nolint:revive // the last error
		}
		if !errors.Is(read, errBadRun) || !errors.Is(back, errBadRun) {
			t.Fatalf("%s: %v and %v", a.stream, read, back)
		}
	}
	var ids []uuid.UUID
	for _, a := range answered {
		ids = append(ids, a.events[0].ID)
	}
	if err := s.Lookup(t.Context(), ids, make([]eventstore.Position, len(ids))); !errors.Is(err, errBadRun) {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = Open("store", smallOptions(mem)); err != nil {
		t.Fatal(err)
	}
	l.check(t.Context(), t, s, answered)
	repeatAll(t, s, answered)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestDamagedLog damages the log itself: that is told, not repaired.
func TestDamagedLog(t *testing.T) {
	t.Parallel()
	value := func() []byte {
		p := pendingEvent{event: &eventstore.NewEvent{ID: uuid.New(), Type: "t", Data: []byte("data")}, stream: "s"}
		n := p.bodyLen()
		b := make([]byte, blockHeaderLen+n+uvarintLen(uint64(n)))
		p.encode(b[blockHeaderLen:], n)
		sealBlock(7, 1, 1, b)
		return b
	}
	if _, err := openBlock(7, value()); err != nil {
		t.Fatal(err)
	}
	if _, err := openBlock(8, value()); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a record at another position: %v", err)
	}
	for i := range value() {
		b := value()
		b[i] ^= 0x10
		if _, err := openBlock(7, b); !errors.Is(err, ErrCorrupt) {
			t.Errorf("byte %d: %v", i, err)
		}
		if _, err := openBlock(7, value()[:i]); !errors.Is(err, ErrCorrupt) {
			t.Errorf("cut short at %d: %v", i, err)
		}
	}
}

// indexFiles are the manifest and the files of the runs.
func indexFiles(t *testing.T, fs vfs.FS) []string {
	t.Helper()
	names, err := fs.List("store/index")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, n := range names {
		out = append(out, filepath.Join("store/index", n))
	}
	return out
}

func rewrite(t *testing.T, fs vfs.FS, path string, change func([]byte) []byte) {
	t.Helper()
	f, err := fs.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := b.ReadFrom(f); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	f, err = fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(change(b.Bytes())); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}
