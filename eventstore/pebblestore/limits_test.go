package pebblestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/google/uuid"

	"sojourn/eventstore"
)

func openStore(t *testing.T, dir string, o Options) *Store {
	t.Helper()
	s, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func closeStore(t *testing.T, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestLocked(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]Options{"memory": {FS: vfs.NewMem()}, "disk": {}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			s := openStore(t, dir, o)
			if _, err := Open(dir, o); !errors.Is(err, ErrLocked) {
				t.Errorf("opened twice: %v", err)
			}
			closeStore(t, s)
			closeStore(t, openStore(t, dir, o))
		})
	}
}

func TestTooLarge(t *testing.T) {
	t.Parallel()
	s := openStore(t, "store", Options{FS: vfs.NewMem(), QueueBytes: 1 << 20})
	defer closeStore(t, s)
	sized := func(n int) eventstore.NewEvent {
		return eventstore.NewEvent{ID: uuid.New(), Type: "t", Data: make([]byte, n)}
	}
	many := make([]eventstore.NewEvent, MaxAppendEvents+1)
	parts := []eventstore.Append{
		{Stream: "a", Events: []eventstore.NewEvent{sized(MaxEventBytes)}},
		{Stream: strings.Repeat("s", MaxStreamBytes+1), Events: []eventstore.NewEvent{newEvent()}},
		{Stream: "a", Events: []eventstore.NewEvent{{ID: uuid.New(), Type: strings.Repeat("t", MaxTypeBytes+1)}}},
		{Stream: "a", Events: many},
		{Stream: "a", Events: []eventstore.NewEvent{sized(MaxEventBytes - 2)}}, // larger than the queue
		{Stream: strings.Repeat("s", MaxStreamBytes), Events: []eventstore.NewEvent{newEvent()}},
	}
	results, err := s.AppendMany(t.Context(), parts)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range results {
		if tooLarge := i < 4; errors.Is(r.Err, eventstore.ErrTooLarge) != tooLarge || !tooLarge && r.Err != nil {
			t.Errorf("part %d: %v", i, r.Err)
		}
	}
	if _, err := s.Append(t.Context(), "", nil, newEvent()); err == nil {
		t.Error("a stream without a name was accepted")
	}
	n := 0
	for e, err := range s.ReadAll(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 && !bytes.Equal(e.Data, make([]byte, MaxEventBytes-2)) {
			t.Error("the largest event is not as it was")
		}
		n++
	}
	if n != 2 {
		t.Errorf("%d events", n)
	}
}

// slowDisk holds back every sync of the log until it is let go.
func slowDisk(mem vfs.FS) (fs vfs.FS, hold, letGo func()) {
	var mu sync.RWMutex
	return errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if isLog(op.Path) && (op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData) {
			mu.RLock()
			defer mu.RUnlock()
		}
		return nil
	})), mu.Lock, mu.Unlock
}

func TestOverload(t *testing.T) {
	t.Parallel()
	fs, hold, letGo := slowDisk(vfs.NewMem())
	o := smallOptions(fs)
	o.QueueBytes, o.QueueWait = 64<<10, time.Millisecond
	s := openStore(t, "store", o)
	ctx := t.Context()
	hold()
	var wg sync.WaitGroup
	refused := make(chan struct{})
	var once sync.Once
	for i := range 40 {
		wg.Go(func() {
			e := newEvent()
			e.Data = make([]byte, 4<<10)
			for {
				_, err := s.Append(ctx, fmt.Sprint("s", i), eventstore.NoStream{}, e)
				if err == nil {
					return
				}
				if !errors.Is(err, eventstore.ErrOverloaded) {
					t.Error(err)
					return
				}
				once.Do(func() { close(refused) })
			}
		})
	}
	<-refused
	// Nothing of this is durable, so nothing is seen.
	if head, err := s.Head(ctx); err != nil || head != 0 {
		t.Errorf("head %d while no sync returned: %v", head, err)
	}
	for _, err := range s.ReadAll(ctx, 0) {
		t.Errorf("an event is read before it is durable: %v", err)
	}
	letGo()
	wg.Wait()
	if head, err := s.Head(ctx); err != nil || head != 40 {
		t.Errorf("head %d: %v", head, err)
	}
	closeStore(t, s)
}

// TestUndurable holds the sync of an event back: a repeat is not answered before
// the original is durable, and no index finds it.
func TestUndurable(t *testing.T) {
	t.Parallel()
	fs, hold, letGo := slowDisk(vfs.NewMem())
	s := openStore(t, "store", smallOptions(fs))
	defer closeStore(t, s)
	ctx := t.Context()
	hold()
	e := newEvent()
	answers := make(chan error, 2)
	send := func() {
		_, err := s.Append(ctx, "s", nil, e)
		answers <- err
	}
	go send()
	until(t, func() bool { return s.Stats().Appended == 1 })
	queued := s.Stats().QueuedBytes
	go send()
	until(t, func() bool { return s.Stats().QueuedBytes > queued })
	p := []eventstore.Position{9}
	if err := s.Lookup(ctx, []uuid.UUID{e.ID}, p); err != nil || p[0] != 0 {
		t.Errorf("lookup finds what is not durable: %v, %v", p, err)
	}
	for _, dir := range []eventstore.Direction{eventstore.Forwards, eventstore.Backwards} {
		for _, err := range s.ReadStream(ctx, "s", 0, dir) {
			if !errors.Is(err, eventstore.ErrStreamNotFound) {
				t.Errorf("the stream is seen before it is durable: %v", err)
			}
		}
	}
	if len(answers) > 0 {
		t.Error("answered before it was durable")
	}
	letGo()
	for range 2 {
		if err := <-answers; err != nil {
			t.Error(err)
		}
	}
	if st := s.Stats(); st.Head != 1 || st.Known != 1 {
		t.Errorf("%+v", st)
	}
}

// TestWithdraw ends the context of an append that the committer has not read:
// it is not appended.
func TestWithdraw(t *testing.T) {
	t.Parallel()
	fs, hold, letGo := slowDisk(vfs.NewMem())
	s := openStore(t, "store", smallOptions(fs))
	defer closeStore(t, s)
	hold()
	first := make(chan error, 1)
	go func() {
		_, err := s.Append(t.Context(), "s", nil, newEvent())
		first <- err
	}()
	until(t, func() bool { return s.Stats().Appended == 1 })
	queued := s.Stats().QueuedBytes
	ctx, cancel := context.WithCancel(t.Context())
	second := make(chan error, 1)
	go func() {
		_, err := s.Append(ctx, "s", nil, newEvent())
		second <- err
	}()
	until(t, func() bool { return s.Stats().QueuedBytes > queued })
	cancel()
	if err := <-second; !errors.Is(err, context.Canceled) {
		t.Errorf("withdrawn: %v", err)
	}
	letGo()
	if err := <-first; err != nil {
		t.Error(err)
	}
	if res, err := s.Append(t.Context(), "s", eventstore.Revision(0), newEvent()); err != nil || res.Position != 2 {
		t.Errorf("after the withdrawn append: %+v, %v", res, err)
	}
}

// until waits for a condition that others bring about.
func until(t *testing.T, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !condition(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal("the condition does not come")
		}
	}
}

// TestReopen opens a store again and again: with its indexes written out or
// not, all answers stay the same.
func TestReopen(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	l := newLedger()
	rng := rand.New(rand.NewPCG(5, 5))
	var clock time.Time
	o := smallOptions(fs)
	o.Now = func() time.Time { return clock }
	for round := range 8 {
		// A clock that goes back does not take recorded_at along.
		clock = time.UnixMilli(int64(1_000_000 - 1_000*round))
		s := openStore(t, "store", o)
		l.check(t.Context(), t, s, l.snapshot())
		if err := l.work(t.Context(), s, rng, 30); err != nil {
			t.Fatal(err)
		}
		if round%2 == 0 {
			if err := s.FlushIndexes(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if round%3 == 0 {
			if err := s.FlushTables(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		for e, err := range s.ReadAll(t.Context(), 0) {
			if err != nil || e.RecordedAt.UnixMilli() != 1_000_000 {
				t.Fatalf("recorded at %v: %v", e.RecordedAt, err)
			}
		}
		if n := s.Stats().IndexRuns; n > 12+28 { // of ids and of streams
			t.Errorf("%d runs: they are not merged", n)
		}
		closeStore(t, s)
	}
	s := openStore(t, "store", o)
	repeatAll(t, s, l.snapshot())
	closeStore(t, s)
}

// TestSegmentSorted checks that the walk through the table yields the order
// that the run needs, with the table as full as it gets.
func TestSegmentSorted(t *testing.T) {
	t.Parallel()
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 6))
		g := newSegment(1, 100, 1+rng.IntN(200))
		local := g.addStream(nameHash{}, 0)
		for !g.full() {
			// Few home slots, many at the table's end: collisions that wrap round.
			hash := toHashBits(rng.Uint64())
			if rng.IntN(2) == 0 {
				hash |= 0xff << (hashBits - 8)
			}
			if rng.IntN(8) == 0 {
				hash = 1
			}
			g.add(hash, uuid.UUID{byte(g.n)}, local, false)
		}
		table := g.table.Load()
		if sorted := sortedSlots(table.slots, table.shift, g.n); len(sorted) != g.n || !slices.IsSorted(sorted) {
			t.Fatalf("seed %d: not in order: %v", seed, sorted)
		}
	}
}

func TestBloomFilter(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 1))
	const n = 20_000
	f := newBloomFilter(n)
	known := make([]uint64, n)
	for i := range known {
		known[i] = toHashBits(rng.Uint64())
		f.add(known[i])
	}
	for _, h := range known {
		if !f.mayContain(h) {
			t.Fatal("a hash that was added is denied")
		}
	}
	wrong := 0
	for range n {
		if f.mayContain(toHashBits(rng.Uint64())) {
			wrong++
		}
	}
	if wrong > n/100 {
		t.Errorf("%d of %d unknown hashes pass", wrong, n)
	}
}

// TestMergeable plays the life of a store of 60 million events: the runs stay few, and
// an entry is seldom written anew.
func TestMergeable(t *testing.T) {
	t.Parallel()
	for _, limit := range []struct {
		kind   runKind
		runs   int
		writes float64
	}{{idRuns, 12, 6}, {streamRuns, 40, 2.5}} {
		for _, segment := range []func(*rand.Rand) int{
			func(*rand.Rand) int { return 1 << 20 },
			func(*rand.Rand) int { return 200_000 },
			func(r *rand.Rand) int { return 1 + r.IntN(1<<20) },
			func(r *rand.Rand) int { return 1 << r.IntN(21) }, // now and then one is written out early
		} {
			rng := rand.New(rand.NewPCG(7, 8))
			var runs []*runFile
			add := func(first, last eventstore.Position) {
				runs = append(runs, &runFile{runInfo: runInfo{kind: limit.kind, first: first, last: last}})
			}
			head, written, most := eventstore.Position(0), 0, 0
			for head < 60_000_000 {
				n := eventstore.Position(segment(rng))
				add(head+1, head+n)
				head += n
				for k := mergeable(runs); k > 0; k = mergeable(runs) {
					first := runs[len(runs)-k].first
					runs = runs[:len(runs)-k]
					add(first, head)
					written += int(head - first + 1)
				}
				most = max(most, len(runs))
			}
			anew := float64(written) / float64(head)
			t.Logf("%v: at most %d runs, an entry written anew %.1f times", limit.kind, most, anew)
			if most > limit.runs || anew > limit.writes {
				t.Errorf("%v: at most %d runs, an entry written anew %.1f times", limit.kind, most, anew)
			}
		}
	}
}

// TestSegmentStreams checks that a segment finds its streams, and has them in the order
// of a run, where many share the upper half of a hash, the hash, or the tag.
func TestSegmentStreams(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 9))
		g := newSegment(1, 1, 1)
		var names []nameHash
		places := map[nameHash]uint32{}
		for range 3 * pageLen {
			name := nameHash{hash: rng.Uint64(), tag: uint16(rng.IntN(3))}
			if n := len(names); n > 0 && rng.IntN(2) == 0 {
				name.hash = names[rng.IntN(n)].hash
				if rng.IntN(2) == 0 {
					name.hash ^= uint64(rng.IntN(4))
				}
			}
			if rng.IntN(4) == 0 {
				name.hash |= 0xfff << 52 // they wrap round the end of the table
			}
			local, known := g.stream(name)
			want, ok := places[name]
			if known != ok || local != want {
				t.Fatalf("seed %d: %v stands at %d (%v), not %d (%v)", seed, name, local, known, want, ok)
			}
			if !known {
				places[name] = g.addStream(name, 1)
				names = append(names, name)
			}
		}
		order := g.byHash()
		slices.SortFunc(names, func(a, b nameHash) int { return a.key(0).compare(b.key(0)) })
		if len(order) != len(names) {
			t.Fatalf("seed %d: %d streams instead of %d", seed, len(order), len(names))
		}
		for i, local := range order {
			if g.streams.at(int(local)).id() != names[i] {
				t.Fatalf("seed %d: the %d-th is %v, not %v", seed, i, g.streams.at(int(local)).id(), names[i])
			}
		}
	}
}

// TestReadAcrossClose closes the store under somebody who reads its runs: that ends.
func TestReadAcrossClose(t *testing.T) {
	t.Parallel()
	s := openStore(t, "store", smallOptions(vfs.NewMem()))
	e := newEvent()
	if _, err := s.Append(t.Context(), "s", nil, e); err != nil {
		t.Fatal(err)
	}
	if err := s.FlushIndexes(t.Context()); err != nil {
		t.Fatal(err)
	}
	places, look := newStreamPlaces(s, "s"), diskLookup{s: s}
	state := s.index.Load()
	closeStore(t, s)
	visit := func(uint64, eventstore.Position) (bool, error) { return true, nil }
	known := fact{hash: s.seed.idHash(e.ID)}
	for name, err := range map[string]error{
		"forwards":  places.forwards(0, visit),
		"backwards": places.backwards(eventstore.End, visit),
		"known":     look.known(state, &known, e.ID, s.seed.nameHash("s")),
		"revisions": s.readRevisions(),
	} {
		if !errors.Is(err, eventstore.ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
