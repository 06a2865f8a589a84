package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sojourn/domain/policy"
	"sojourn/projections"
)

// TestPreviewWorkerSaysTheSame has previews of the demo shop computed in a process of
// their own and then in this one.
func TestPreviewWorkerSaysTheSame(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s := startServer(t, dir)
	if status, out, errOut := sojourn(t.Context(), "demo", "--data", dir, "--customers", "150", "--days", "200", "--end", "2026-10-01"); status != 0 {
		t.Fatalf("demo: %s%s", out, errOut)
	}
	if status := s.stop(); status != 0 {
		t.Fatalf("the server ended with status %d", status)
	}

	log := slog.New(slog.DiscardHandler)
	data, err := openData(t.Context(), dir, log)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = data.close() }()
	c := defaultConfig()
	c.Data = dir
	store, keyer, err := data.openLog(t.Context(), &c, log)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	db, engine, err := data.openWarehouse(t.Context(), &c, nil, nil, "", log)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = db.Close(), engine.Close() }()
	there := data.previews(&c, store, log)
	ended := make(chan *projections.PreviewReport, 1)
	views, err := projections.Start(t.Context(), projections.Config{
		Store: store, DB: db, Keyer: keyer, Dir: filepath.Join(dir, viewsDir), Logger: log,
		Preview: func(ctx context.Context, task *projections.PreviewTask, progress func(done, total uint64)) (*projections.PreviewReport, error) {
			var last [2]uint64
			got, err := there(ctx, task, func(done, total uint64) { last = [2]uint64{done, total}; progress(done, total) })
			if err != nil {
				return nil, err
			}
			if last[0] != last[1] || last[1] != uint64(got.Position) {
				t.Errorf("it has read %v of the log up to %d", last, got.Position)
			}
			copied := *task
			copied.Dir = t.TempDir()
			if err := os.CopyFS(copied.Dir, os.DirFS(task.Dir)); err != nil {
				return nil, err
			}
			if err := os.RemoveAll(filepath.Join(copied.Dir, "new")); err != nil {
				return nil, err
			}
			want, err := copied.Run(ctx, store, keyer, log, progress)
			if err == nil && !reflect.DeepEqual(got, want) {
				t.Errorf("it says\n%+v\nwant\n%+v", got, want)
			}
			ended <- got
			return got, err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := views.Stop(); err != nil {
			t.Error(err)
		}
	}()
	head, err := store.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := views.WaitFor(t.Context(), head); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		"{}\n",
		"lifecycle: {loyal_purchases: 2, at_risk_days: 20}\nidentity: {join: [user]}\n",
		"loyalty:\n  programmes:\n    - {id: points, earning: {per_unit: 2, retroactive: true}, tiers: {retroactive: true, levels: [{name: member}, {name: gold, threshold: 100}]}}\n",
	} {
		p, problems := parsePolicy(text, nil)
		if len(problems) > 0 {
			t.Fatalf("%s: %+v", text, problems)
		}
		for _, since := range []time.Time{{}, time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)} {
			preview(t, views, p, since, ended)
		}
	}
}

// preview runs one to its end.
func preview(t *testing.T, views *projections.Views, p policy.Policy, since time.Time, ended <-chan *projections.PreviewReport) {
	t.Helper()
	var run projections.Preview
	for running := errors.New("not yet"); running != nil; {
		var err error
		run, err = views.StartPreview(p, since)
		var busy *projections.PreviewRunningError
		if running = err; err != nil && !errors.As(err, &busy) {
			t.Fatal(err)
		}
	}
	select {
	case r := <-ended:
		if len(r.Lifecycle.Cells) == 0 || len(r.Loyalty) == 0 {
			t.Errorf("%+v", r)
		}
	case <-time.After(time.Minute):
		t.Fatalf("%+v", run)
	}
}

// What ends badly says so in a sentence.
func TestPreviewWorkerFails(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	in := previewInput{Task: &projections.PreviewTask{Dir: filepath.Join(t.TempDir(), "missing")}, Key: make([]byte, 32)}
	if r, err := runPreviewWorker(t.Context(), &in, func(uint64, uint64) {}, log); r != nil || err == nil || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("no log: %+v, %v", r, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := runPreviewWorker(ctx, &in, func(uint64, uint64) {}, log); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if status, _, errOut := sojourn(t.Context(), previewCommand); status != 2 || errOut == "" {
		t.Errorf("by hand: %d %s", status, errOut)
	}
	for said, want := range map[string]string{
		"":                                 "",
		"a warning\nno room\n":             "no room",
		"a warning\npanic: oh\n\nmain.f()": "panic: oh",
		strings.Repeat("x", 100_000):       strings.Repeat("x", headBytes),
	} {
		var w headWriter
		if n, err := io.WriteString(&w, said); n != len(said) || err != nil || w.reason() != want {
			t.Errorf("%.100q: %d, %v, %.100q", said, n, err, w.reason())
		}
	}
}

// TestPreviewYields has the process of a preview stand still while the views are
// flushed, and never for longer than it then has to itself.
func TestPreviewYields(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		flushing, ended := make(chan bool), make(chan struct{})
		var got []string
		began := time.Now()
		go yield(flushing, ended, func(s os.Signal) { got = append(got, fmt.Sprint(time.Since(began).Milliseconds(), " ", s)) })
		at := func(ms int, begins bool) {
			<-time.After(time.Until(began.Add(time.Duration(ms) * time.Millisecond)))
			flushing <- begins
		}
		at(100, true)
		at(130, false) // 30 ms
		at(140, true)  // too soon
		at(150, false)
		at(600, true) // hangs
		at(900, false)
		at(1000, true) // too soon
		at(1100, true) // without an end of the one before
		at(1110, true)
		at(1200, false)
		at(1300, false)
		at(2000, true)
		close(ended)
		synctest.Wait()
		want := []string{"100 stopped (signal)", "130 continued", "600 stopped (signal)", "850 continued", "1100 stopped (signal)", "1200 continued", "2000 stopped (signal)"}
		if !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	})
}
