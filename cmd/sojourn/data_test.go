package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gofrs/flock"
)

// holdData locks a data directory in the name of process 4711, which is reached
// at a URL.
func holdData(t *testing.T, url string) (path string, unlock func()) {
	t.Helper()
	path = t.TempDir()
	l := flock.New(filepath.Join(path, lockFile))
	if got, err := l.TryLock(); err != nil || !got {
		t.Fatal(got, err)
	}
	b, err := json.Marshal(holder{PID: 4711, URL: url})
	if err == nil {
		err = os.WriteFile(filepath.Join(path, serverFile), b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path, func() {
		if err := l.Unlock(); err != nil {
			t.Error(err)
		}
	}
}

// TestOpenDataWaitsForTheLock frees a directory once the wait for it has begun,
// as the kernel does for a process that was killed: whoever connects to it
// meanwhile gets no answer.
func TestOpenDataWaitsForTheLock(t *testing.T) {
	dying := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	defer dying.Close()
	for _, url := range []string{dying.URL, ""} {
		path, unlock := holdData(t, url)
		lines := 0
		log := slog.New(slog.NewTextHandler(lineFunc(func(line string) {
			lines++
			if !strings.Contains(line, path) || !strings.Contains(line, "process 4711") {
				t.Errorf("the line says neither what nor who: %s", line)
			}
			unlock()
		}), nil))
		d, err := openData(t.Context(), path, log)
		if err != nil {
			t.Fatal(err)
		}
		if h, err := readHolder(path); err != nil || h.PID != os.Getpid() || lines != 1 {
			t.Errorf("held by %+v, %v, after %d lines", h, err, lines)
		}
		if err := d.close(); err != nil {
			t.Error(err)
		}
	}
}

// TestOpenDataGivesUp waits for nobody who answers, and ends with the start.
func TestOpenDataGivesUp(t *testing.T) {
	busy := func(path string, err error) {
		t.Helper()
		want := fmt.Sprintf("process 4711 has %s open; stop it, or choose another directory with --data", path)
		if !errors.Is(err, errInUse) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	for _, start := range []func(http.Handler) *httptest.Server{httptest.NewServer, httptest.NewTLSServer} {
		s := start(http.NotFoundHandler())
		path, unlock := holdData(t, s.URL)
		log := slog.New(slog.NewTextHandler(lineFunc(func(line string) { t.Errorf("it waits: %s", line) }), nil))
		_, err := openData(t.Context(), path, log)
		busy(path, err)
		unlock()
		s.Close()
	}
	path, unlock := holdData(t, "")
	defer unlock()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err := openData(ctx, path, slog.New(slog.NewTextHandler(lineFunc(func(string) { cancel() }), nil)))
	busy(path, err)
}
