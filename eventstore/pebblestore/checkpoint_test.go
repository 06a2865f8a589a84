package pebblestore

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"sojourn/eventstore"
)

// readWhole reads a log to its end.
func readWhole(t *testing.T, s interface {
	ReadAll(context.Context, eventstore.Position) iter.Seq2[eventstore.Recorded, error]
},
) []eventstore.Recorded {
	t.Helper()
	var all []eventstore.Recorded
	for e, err := range s.ReadAll(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e.Clone())
	}
	return all
}

// TestCheckpoint makes checkpoints while events are appended: each holds all
// that was acknowledged before it, as a beginning of the log.
func TestCheckpoint(t *testing.T) {
	t.Parallel()
	mem := vfs.NewMem()
	s, err := Open("data/log", smallOptions(mem))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var appended sync.WaitGroup
	var acknowledged atomic.Int64
	for w := range 4 {
		appended.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				r, err := s.Append(context.Background(), fmt.Sprint("s-", w, "-", n%7), nil, newEvent(), newEvent())
				if err != nil {
					t.Error(err)
					return
				}
				for have := acknowledged.Load(); int64(r.Position) > have && !acknowledged.CompareAndSwap(have, int64(r.Position)); have = acknowledged.Load() {
				}
			}
		})
	}
	var least []int64
	for i := range 5 {
		for from := acknowledged.Load(); acknowledged.Load() < from+300; {
			if err := s.Wait(t.Context(), eventstore.Position(from+300)); err != nil {
				t.Fatal(err)
			}
		}
		least = append(least, acknowledged.Load())
		if err := s.Checkpoint(t.Context(), fmt.Sprint("data/copy-", i)); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	appended.Wait()
	whole := readWhole(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for i, least := range least {
		r, err := OpenReadOnly(fmt.Sprint("data/copy-", i), smallOptions(mem))
		if err != nil {
			t.Fatal(err)
		}
		read := readWhole(t, r)
		if err := errors.Join(r.Close(), r.Close()); err != nil {
			t.Error(err)
		}
		for _, err := range r.ReadAll(t.Context(), 0) {
			if !errors.Is(err, eventstore.ErrClosed) {
				t.Errorf("after Close: %v", err)
			}
		}
		c, err := Open(fmt.Sprint("data/copy-", i), smallOptions(mem))
		if err != nil {
			t.Fatal(err)
		}
		got := readWhole(t, c)
		if !slices.EqualFunc(read, got, func(a, b eventstore.Recorded) bool { return reflect.DeepEqual(a, b) }) {
			t.Errorf("checkpoint %d has %d events to a reader, %d to a store", i, len(read), len(got))
		}
		if int64(len(got)) < least || len(got) > len(whole) {
			t.Fatalf("checkpoint %d holds %d events, want %d to %d", i, len(got), least, len(whole))
		}
		for n := range got {
			if a, b := got[n], whole[n]; a.ID != b.ID || a.Stream != b.Stream || a.Revision != b.Revision || a.Position != b.Position || !a.RecordedAt.Equal(b.RecordedAt) {
				t.Fatalf("event %d is %+v, want %+v", n, a, b)
			}
		}
		if _, err := c.Append(t.Context(), "goes on", nil, newEvent()); err != nil {
			t.Error(err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := s.Checkpoint(t.Context(), "data/late"); !errors.Is(err, eventstore.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// TestCheckpointThatFails leaves the store at work, and nothing behind.
func TestCheckpointThatFails(t *testing.T) {
	t.Parallel()
	for _, kind := range []errorfs.OpKind{errorfs.OpCreate, errorfs.OpFileWrite, errorfs.OpFileSync} {
		mem := vfs.NewMem()
		var full atomic.Bool
		fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if full.Load() && op.Kind == kind && len(op.Path) > 9 && op.Path[:9] == "data/copy" {
				return syscall.ENOSPC
			}
			return nil
		}))
		s, err := Open("data/log", smallOptions(fs))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Append(t.Context(), "s", nil, newEvent()); err != nil {
			t.Fatal(err)
		}
		full.Store(true)
		if err := s.Checkpoint(t.Context(), "data/copy"); !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("%v: %v", kind, err)
		}
		full.Store(false)
		if names, err := mem.List("data"); err != nil || len(names) != 1 {
			t.Errorf("left behind: %v, %v", names, err)
		}
		if _, err := s.Append(t.Context(), "s", nil, newEvent()); err != nil {
			t.Errorf("%v: the store has stopped: %v", kind, err)
		}
		if err := s.Checkpoint(t.Context(), "data/copy"); err != nil {
			t.Errorf("%v: %v", kind, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
