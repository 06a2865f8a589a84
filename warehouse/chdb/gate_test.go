package chdb

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// A gate closes behind the statements that have found their tables, or have had time
// enough to, and lets nobody in until it opens.
func TestGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g gate
		ctx := t.Context()
		began := time.Now()
		after := func(want time.Duration, what string) {
			t.Helper()
			if got := time.Since(began); got != want {
				t.Errorf("%s after %v, not %v", what, got, want)
			}
		}
		must := func(f func(), err error) func() {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
			return f
		}
		open := must(g.close(ctx))
		after(0, "nobody is inside: closed")
		open()
		open()

		leave := must(g.enter(ctx))
		must(g.enter(ctx)) // never says that it has found its tables
		time.AfterFunc(300*time.Millisecond, leave)
		open = must(g.close(ctx))
		after(readsWithin, "closed")
		leave()

		entered := make(chan time.Duration)
		go func() {
			leave, err := g.enter(ctx)
			if err != nil {
				t.Error(err)
				return
			}
			entered <- time.Since(began)
			leave()
		}()
		again := make(chan func())
		go func() { again <- must(g.close(ctx)) }()
		impatient, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		if _, err := g.enter(impatient); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("let in: %v", err)
		}
		if _, err := g.close(impatient); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("closed twice: %v", err)
		}
		after(2*readsWithin, "given up")
		open()
		// Whichever of the two comes first.
		select {
		case at := <-entered:
			if at != 2*readsWithin {
				t.Errorf("let in after %v", at)
			}
			(<-again)()
		case open := <-again:
			open()
			<-entered
		}

		// Who gives up closing leaves it open.
		must(g.enter(ctx))
		impatient, cancel = context.WithTimeout(ctx, readsWithin/2)
		defer cancel()
		if _, err := g.close(impatient); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("closed: %v", err)
		}
		must(g.enter(ctx))()
	})
}
