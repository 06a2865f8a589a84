package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"syscall"
	"testing"
)

// lineFunc is called with each line of a log.
type lineFunc func(string)

func (f lineFunc) Write(b []byte) (int, error) {
	f(string(b))
	return len(b), nil
}

// TestListenWaitsForAnAddress frees an address once the wait for it has begun,
// as a killed server's engine does when it is gone.
func TestListenWaitsForAnAddress(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address, lines := busy.Addr().String(), 0
	log := slog.New(slog.NewTextHandler(lineFunc(func(line string) {
		lines++
		if !strings.Contains(line, address) {
			t.Errorf("the line does not name %s: %s", address, line)
		}
		if err := busy.Close(); err != nil {
			t.Error(err)
		}
	}), nil))
	l, err := listen(t.Context(), address, log)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if got := l.Addr().String(); got != address || lines != 1 {
		t.Errorf("listens on %s after %d lines, want %s after 1", got, lines, address)
	}
}

// TestListenGivesUp takes no other error for a busy address, and ends with the
// start.
func TestListenGivesUp(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = busy.Close() }()
	ctx, cancel := context.WithCancel(t.Context())
	log := slog.New(slog.NewTextHandler(lineFunc(func(string) { cancel() }), nil))
	if _, err := listen(ctx, busy.Addr().String(), log); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a busy address: %v", err)
	}
	log = slog.New(slog.NewTextHandler(lineFunc(func(line string) { t.Errorf("it waits: %s", line) }), nil))
	if _, err := listen(t.Context(), "192.0.2.1:1", log); err == nil || errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("an address of no machine: %v", err)
	}
}
