package pebblestore

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"

	"sojourn/eventstore"
)

// TestRevisions checks against a map: what is later replaces, what is earlier does
// not, and behind the limit nothing is known of streams that are not there.
func TestRevisions(t *testing.T) {
	t.Parallel()
	const limit, names = 20_000, 25_000
	seed := hashSeed{1, 2, 3}
	r := newRevisions(limit)
	r.all = true
	rng := rand.New(rand.NewPCG(1, 2))
	want := map[string]uint64{}
	for range 100_000 {
		name := fmt.Sprint("stream-", rng.IntN(names))
		next := 1 + rng.Uint64N(1<<33)
		r.set(seed.nameHash(name), next)
		if old, ok := want[name]; ok || len(want) < limit {
			want[name] = max(old, next)
		}
	}
	if r.n != limit || len(want) != limit {
		t.Fatalf("%d streams are known, %d should be", r.n, len(want))
	}
	for i := range names {
		name := fmt.Sprint("stream-", i)
		next, ok := r.get(seed.nameHash(name))
		if w, known := want[name]; ok != (known && w < 1<<32-1) || ok && next != w {
			t.Fatalf("%s: %d, %v, not %d, %v", name, next, ok, w, known)
		}
	}
}

// TestRevisionsAfterReopen appends to streams that only the disk holds, with the
// memory of revisions large enough and too small.
func TestRevisionsAfterReopen(t *testing.T) {
	t.Parallel()
	for _, limit := range []int{7, 1000} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			t.Parallel()
			opts := smallOptions(vfs.NewMem())
			opts.MaxRevisions = limit
			next := map[string]eventstore.Revision{}
			rng := rand.New(rand.NewPCG(3, uint64(limit)))
			for range 5 {
				s, err := Open("store", opts)
				if err != nil {
					t.Fatal(err)
				}
				for i := range 300 {
					if i == 150 {
						if err := s.FlushIndexes(t.Context()); err != nil {
							t.Fatal(err)
						}
						r := s.committer.revisions
						if r.all == r.full && limit > 100 {
							t.Errorf("revisions are not known: all %v, full %v", r.all, r.full)
						}
					}
					name := fmt.Sprint("stream-", rng.IntN(100))
					var expected eventstore.Expected = eventstore.NoStream{}
					revision, known := next[name]
					if known {
						expected = revision
						revision++
					}
					res, err := s.Append(t.Context(), name, expected, eventstore.NewEvent{ID: uuid.New(), Type: "t"})
					if err != nil || res.Revision != uint64(revision) {
						t.Fatalf("%s: revision %d (%v), not %d", name, res.Revision, err, revision)
					}
					next[name] = revision
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// TestRevisionsWhileIndexed appends to more streams than are remembered, in calls that
// are decided in several steps while the indexes are written out: each revision follows
// the one before.
func TestRevisionsWhileIndexed(t *testing.T) {
	t.Parallel()
	opts := smallOptions(vfs.NewMem())
	opts.MaxRevisions, opts.SegmentEvents = 1, 600
	s := openStore(t, "store", opts)
	next := map[string]uint64{}
	rng := rand.New(rand.NewPCG(4, 4))
	for range 60 {
		parts := make([]eventstore.Append, 1500)
		for i := range parts {
			parts[i] = eventstore.Append{
				Stream: fmt.Sprint("stream-", rng.IntN(3000)), Events: []eventstore.NewEvent{{ID: uuid.New(), Type: "t"}},
			}
		}
		results, err := s.AppendMany(t.Context(), parts)
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range results {
			name := parts[i].Stream
			if r.Err != nil || r.Revision != next[name] {
				t.Fatalf("%s: revision %d (%v), not %d", name, r.Revision, r.Err, next[name])
			}
			next[name]++
		}
	}
	closeStore(t, s)
}
