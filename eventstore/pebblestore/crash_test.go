package pebblestore

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/google/uuid"

	"sojourn/eventstore"
)

// acked is an append that was answered.
type acked struct {
	stream string
	events []eventstore.NewEvent
	result eventstore.Result
}

// ledger is what a workload was told.
type ledger struct {
	mu   sync.Mutex
	list []acked
	sent map[uuid.UUID]int // how many events stand in the part of an id
}

func newLedger() *ledger { return &ledger{sent: make(map[uuid.UUID]int)} }

func (l *ledger) begin(events []eventstore.NewEvent) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range events {
		l.sent[e.ID] = len(events)
	}
}

func (l *ledger) end(a ...acked) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, a...)
}

func (l *ledger) snapshot() []acked {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.list)
}

// work appends parts of one to four events to few streams, repeats some of what
// was answered, and stops at the first error of a call.
func (l *ledger) work(ctx context.Context, s *Store, rng *rand.Rand, calls int) error {
	var mine []acked
	for range calls {
		var parts []eventstore.Append
		for range 1 + rng.IntN(3) {
			if len(mine) > 0 && rng.IntN(4) == 0 {
				old := mine[rng.IntN(len(mine))]
				parts = append(parts, eventstore.Append{Stream: old.stream, Events: old.events})
				continue
			}
			p := eventstore.Append{Stream: fmt.Sprint("stream-", rng.IntN(12))}
			for range 1 + rng.IntN(4) {
				var id uuid.UUID
				for i := range id {
					id[i] = byte(rng.Uint32())
				}
				data := make([]byte, rng.IntN(300))
				p.Events = append(p.Events, eventstore.NewEvent{ID: id, Type: "t", Data: data})
			}
			l.begin(p.Events)
			parts = append(parts, p)
		}
		results, err := s.AppendMany(ctx, parts)
		if err != nil {
			return err
		}
		var done []acked
		for i, r := range results {
			if r.Err != nil {
				return r.Err
			}
			done = append(done, acked{parts[i].Stream, parts[i].Events, r})
		}
		l.end(done...)
		mine = append(mine, done...)
	}
	return nil
}

// check reads the whole store in every way and compares it with what was
// answered.
func (l *ledger) check(ctx context.Context, t *testing.T, s *Store, answered []acked) {
	t.Helper()
	type place struct {
		stream   string
		revision uint64
	}
	at := make(map[uuid.UUID]place)
	streams := make(map[string][]eventstore.Position)
	first := make(map[uuid.UUID]eventstore.Position)
	parts := make(map[string]int)
	last := eventstore.Position(0)
	for e, err := range s.ReadAll(ctx, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Position != last+1 {
			t.Fatalf("position %d follows %d", e.Position, last)
		}
		last = e.Position
		stream := strings.Clone(e.Stream)
		if e.Revision != uint64(len(streams[stream])) {
			t.Fatalf("%s: revision %d at position %d, want %d", stream, e.Revision, e.Position, len(streams[stream]))
		}
		streams[stream] = append(streams[stream], e.Position)
		if _, twice := at[e.ID]; twice {
			t.Fatalf("%s stands twice in the log", e.ID)
		}
		at[e.ID] = place{stream, e.Revision}
		first[e.ID] = e.Position
		parts[e.ID.String()]++
	}
	for _, a := range answered {
		for i, e := range a.events {
			p, ok := at[e.ID]
			want := a.result.Revision - uint64(len(a.events)-1-i)
			if !ok || p.stream != a.stream || p.revision != want {
				t.Fatalf("an acknowledged event is not where it was: %+v, %v, want revision %d of %s", p, ok, want, a.stream)
			}
		}
		if first[a.events[len(a.events)-1].ID] != a.result.Position {
			t.Fatal("an acknowledged event stands at another position")
		}
	}
	for stream, positions := range streams {
		var got []eventstore.Position
		for e, err := range s.ReadStream(ctx, stream, 0, eventstore.Forwards) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, e.Position)
		}
		if !slices.Equal(got, positions) {
			t.Fatalf("%s: the index says %v, the log %v", stream, got, positions)
		}
		var back []eventstore.Position
		for e, err := range s.ReadStream(ctx, stream, eventstore.End, eventstore.Backwards) {
			if err != nil {
				t.Fatal(err)
			}
			back = append(back, e.Position)
		}
		slices.Reverse(back)
		if !slices.Equal(back, positions) {
			t.Fatalf("%s backwards: the index says %v, the log %v", stream, back, positions)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	ids := make([]uuid.UUID, 0, len(l.sent))
	for id := range l.sent {
		ids = append(ids, id)
	}
	got := make([]eventstore.Position, len(ids))
	if err := s.Lookup(ctx, ids, got); err != nil {
		t.Fatal(err)
	}
	for i, id := range ids {
		if got[i] != first[id] {
			t.Fatalf("the index of ids says %d, the log %d", got[i], first[id])
		}
	}
}

// checkWhole makes sure that of each part all events or none are there.
func (l *ledger) checkWhole(ctx context.Context, t *testing.T, s *Store) {
	t.Helper()
	run := 0
	var left int
	for e, err := range s.ReadAll(ctx, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if left == 0 {
			left = l.sent[e.ID]
		}
		left--
		run++
	}
	if left != 0 {
		t.Fatalf("the log ends in the middle of a part, after %d events", run)
	}
}

// cloned is a MemFS that is cloned while it is used, and would lock up where that meets
// a file that is reused or linked: new files are made instead of reusing old ones, and a
// link is waited for.
type cloned struct {
	*vfs.MemFS
	links *sync.RWMutex
}

func (fs cloned) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if err := fs.Remove(from); err != nil {
		return nil, err
	}
	return fs.Create(to, c)
}

func (fs cloned) Link(from, to string) error {
	fs.links.RLock()
	defer fs.links.RUnlock()
	return fs.MemFS.Link(from, to)
}

func (fs cloned) CrashClone(cfg vfs.CrashCloneCfg) *vfs.MemFS {
	fs.links.Lock()
	defer fs.links.Unlock()
	return fs.MemFS.CrashClone(cfg)
}

// TestCrashAtAnyWrite takes the power away at a write chosen at random, with
// any share of what was not synced surviving, opens what is left, and does so
// again and again on the same data.
func TestCrashAtAnyWrite(t *testing.T) {
	t.Parallel()
	for seed := range uint64(10) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(seed, 1))
			l := newLedger()
			mem := vfs.NewCrashableMem()
			var survivors []acked
			for range 4 {
				crashed, before := crashOnce(t, l, mem, rng)
				survivors = before
				mem = crashed
				// What is left must be right however often it is opened.
				s, err := Open("store", smallOptions(mem))
				if err != nil {
					t.Fatal(err)
				}
				l.check(t.Context(), t, s, survivors)
				l.checkWhole(t.Context(), t, s)
				repeatAll(t, s, survivors)
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				// Only what survived counts from here on.
				l.mu.Lock()
				l.list = slices.Clone(survivors)
				l.mu.Unlock()
			}
		})
	}
}

// crashOnce runs a workload until a write that is chosen at random, and returns
// the disk as it is then and what had been answered by then.
func crashOnce(t *testing.T, l *ledger, mem *vfs.MemFS, rng *rand.Rand) (*vfs.MemFS, []acked) {
	t.Helper()
	return crashWith(t, l, mem, rng, smallOptions(nil), int64(1+rng.IntN(900)))
}

// crashWith does so at a given write, in a store with some options.
func crashWith(t *testing.T, l *ledger, mem *vfs.MemFS, rng *rand.Rand, o Options, crashAt int64) (*vfs.MemFS, []acked) {
	t.Helper()
	var (
		once    sync.Once
		crashed atomic.Pointer[vfs.MemFS]
		before  []acked
		count   atomic.Int64
	)
	percent := []int{0, 30, 70, 100}[rng.IntN(4)]
	cloneRNG := rand.New(rand.NewPCG(rng.Uint64(), 2))
	disk := cloned{MemFS: mem, links: new(sync.RWMutex)}
	crash := func() {
		once.Do(func() {
			before = l.snapshot()
			crashed.Store(disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: cloneRNG}))
		})
	}
	o.FS = errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && count.Add(1) == crashAt {
			crash()
		}
		return nil
	}))
	s, err := Open("store", o)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 3 {
		own := rand.New(rand.NewPCG(rng.Uint64(), 3))
		wg.Go(func() {
			for crashed.Load() == nil {
				if err := l.work(t.Context(), s, own, 5); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return crashed.Load(), before
}

// TestCrashWhileOpening takes the power away at a write chosen at random, which may be one
// of the opening's, and damages some of the indexes that are left.
func TestCrashWhileOpening(t *testing.T) {
	t.Parallel()
	for seed := range uint64(40) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(seed, 991))
			l := newLedger()
			mem := vfs.NewCrashableMem()
			for range 6 {
				o := smallOptions(nil)
				o.SegmentEvents = []int{5, 13, 32, 100}[rng.IntN(4)]
				o.MaxRevisions = []int{2, 8, 1000}[rng.IntN(3)]
				crashed, answered := crashWith(t, l, mem, rng, o, int64(1+rng.IntN([]int{60, 900}[rng.IntN(2)])))
				mem = crashed
				l.mu.Lock()
				l.list = answered
				l.mu.Unlock()
				damageSome(t, mem, rng)
				if rng.IntN(2) == 0 {
					continue
				}
				o.FS = mem
				s, err := Open("store", o)
				if err != nil {
					t.Fatal(err)
				}
				l.check(t.Context(), t, s, answered)
				l.checkWhole(t.Context(), t, s)
				repeatAll(t, s, answered)
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				want := map[string]bool{manifestName: true}
				for _, runs := range s.index.Load().runs {
					for _, r := range runs {
						want[r.fileName()] = true
					}
				}
				for _, path := range indexFiles(t, mem) {
					if !want[filepath.Base(path)] {
						t.Errorf("%s was left behind", path)
					}
				}
			}
		})
	}
}

// damageSome changes or cuts some of the index files.
func damageSome(t *testing.T, mem *vfs.MemFS, rng *rand.Rand) {
	t.Helper()
	if _, err := mem.Stat("store/index"); err != nil {
		return // not that far
	}
	for _, path := range indexFiles(t, mem) {
		if rng.IntN(4) > 0 || strings.HasSuffix(path, manifestName) && rng.IntN(4) > 0 {
			continue
		}
		rewrite(t, mem, path, func(b []byte) []byte {
			if len(b) > 0 {
				b[rng.IntN(len(b))] ^= 1 << rng.IntN(8)
				if rng.IntN(3) == 0 {
					b = b[:rng.IntN(len(b))]
				}
			}
			return b
		})
	}
}

// repeatAll appends everything that was acknowledged again: all of it must be
// known.
func repeatAll(t *testing.T, s *Store, answered []acked) {
	t.Helper()
	var parts []eventstore.Append
	for _, a := range answered {
		parts = append(parts, eventstore.Append{Stream: a.stream, Expected: eventstore.NoStream{}, Events: a.events})
	}
	results, err := s.AppendMany(t.Context(), parts)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range results {
		if r.Err != nil || r.Appended != 0 || r.Revision != answered[i].result.Revision || r.Position != answered[i].result.Position {
			t.Fatalf("repeating an acknowledged append: %+v, was %+v", r, answered[i].result)
		}
	}
}
