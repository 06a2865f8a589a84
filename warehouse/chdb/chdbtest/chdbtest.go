// Package chdbtest starts engines for tests.
package chdbtest

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"sojourn/warehouse/chdb"
)

// Start starts an engine that is closed with the test, in a directory of its
// own unless the configuration names one. A missing library fails the test with
// what to do about it. The package's TestMain calls chdb.ChildMain first.
func Start(t testing.TB, configure ...func(*chdb.Config)) *chdb.Engine {
	t.Helper()
	cfg := chdb.Config{Dir: t.TempDir(), Logger: slog.New(slog.NewTextHandler(testWriter{t}, nil))}
	for _, f := range configure {
		f(&cfg)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	engine, err := chdb.Start(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = engine.Close() })
	return engine
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(string(p))
	return len(p), nil
}
