package chdb

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/gofrs/flock"
)

// ChildCommand is the hidden argument with which the binary runs as the engine.
const ChildCommand = "clickhouse-engine"

// ChildMain runs the engine and ends the process where the process was started
// as the engine's child; else it returns at once. It is the first statement of
// main, and of every TestMain whose tests start an engine.
func ChildMain() {
	if len(os.Args) != 2 || os.Args[1] != ChildCommand {
		return
	}
	os.Exit(runChild())
}

// childConfig is what the parent writes to the child's standard input: one line
// of JSON. Passwords stand in no argument and no environment.
type childConfig struct {
	Dir, Library, Database, Password string
	Public                           bool
	Workers                          bool
	WorkerPassword                   string
	Hosts                            []string
	MaxQueries                       int
	MaxTimeSeconds                   int
	MaxMemory, TotalMemory           uint64
	MaxRows                          uint64
	Settings                         string
}

// childStatus is the child's one answer about its start: empty if it is ready.
type childStatus struct {
	Kind, Error string
}

// The files the parent hands on, after standard input, output and error.
const (
	statusFile  = 3
	privateFile = 4
	publicFile  = 5 // where there is one; that of workers is the next
)

// stopWithin is how long the child gives running statements when it stops.
const stopWithin = 3 * time.Second

func runChild() int {
	// The parent says when to stop, by closing our standard input; a Ctrl-C for
	// the whole process group must not take the engine from under its last writes.
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	status := os.NewFile(statusFile, "status")
	in := bufio.NewReader(os.Stdin)
	var cfg childConfig
	line, err := in.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &cfg)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "this command is started by sojourn itself, not by hand")
		return 2
	}
	gone := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, in)
		close(gone)
		// Whatever hangs now, the directory must become free.
		time.Sleep(stopWithin + time.Second)
		os.Exit(0)
	}()
	if err := serveChild(cfg, log, status, gone); err != nil {
		kind := ""
		switch {
		case errors.Is(err, ErrLibraryMissing):
			kind = "library"
		case errors.Is(err, ErrDirectoryInUse):
			kind = "in use"
		}
		_ = json.NewEncoder(status).Encode(childStatus{Kind: kind, Error: err.Error()})
		return 1
	}
	return 0
}

func serveChild(cfg childConfig, log *slog.Logger, status *os.File, gone <-chan struct{}) error {
	unlock, err := lockDirectory(cfg.Dir)
	if err != nil {
		return err
	}
	defer unlock()
	lib, err := openLibrary(cfg.Library)
	if err != nil {
		return err
	}
	lib.signalHandlers(0)
	eng, err := startEngine(lib, cfg.Dir, log, serverOptions(cfg)...)
	if err != nil {
		return err
	}
	private, err := fileListener(privateFile)
	if err != nil {
		return err
	}
	outside := &gate{}
	server := newServer(&handler{
		engine: eng, log: log, database: "default", gate: outside,
		slots: make(chan struct{}, privateStatements),
	}, log)
	servers := []*http.Server{server}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(private) })
	if cfg.Public {
		listener, err := fileListener(publicFile)
		if err != nil {
			return err
		}
		hosts := map[string]bool{}
		for _, h := range cfg.Hosts {
			hosts[strings.ToLower(h)] = true
		}
		public := newServer(&handler{
			engine: eng, log: log, gate: outside, public: true, database: cfg.Database, password: cfg.Password, hosts: hosts,
			slots:   make(chan struct{}, cfg.MaxQueries),
			maxTime: time.Duration(cfg.MaxTimeSeconds) * time.Second, maxMem: cfg.MaxMemory, maxRows: cfg.MaxRows, threads: publicThreads,
		}, log)
		servers = append(servers, public)
		serving.Go(func() { _ = public.Serve(listener) })
	}
	if cfg.Workers {
		file := uintptr(publicFile)
		if cfg.Public {
			file++
		}
		listener, err := fileListener(file)
		if err != nil {
			return err
		}
		workers := newServer(&handler{
			engine: eng, log: log, database: "default", worker: true, password: cfg.WorkerPassword,
			slots: make(chan struct{}, privateStatements),
		}, log)
		servers = append(servers, workers)
		serving.Go(func() { _ = workers.Serve(listener) })
	}
	if err := json.NewEncoder(status).Encode(childStatus{}); err != nil {
		return err
	}
	_ = status.Close()

	<-gone
	ctx, cancel := context.WithTimeout(context.Background(), stopWithin)
	defer cancel()
	for _, s := range servers {
		if err := s.Shutdown(ctx); err != nil {
			_ = s.Close()
		}
	}
	serving.Wait()
	// The process ends without closing the engine: its directory is safe at every
	// instant, and closing it under a running merge can take long or abort.
	return nil
}

const (
	// privateStatements bounds what Sojourn itself runs at once.
	privateStatements = 64
	// publicThreads bounds the threads of one statement from outside.
	publicThreads = 4
)

func serverOptions(cfg childConfig) []string {
	options := []string{
		"--max_server_memory_usage=" + fmt.Sprint(cfg.TotalMemory),
		"--mark_cache_size=134217728",
		"--primary_index_cache_size=134217728",
		"--uncompressed_cache_size=0",
		"--compiled_expression_cache_size=33554432",
		"--query_condition_cache_size=16777216",
		"--mmap_cache_size=64",
	}
	if cfg.Settings != "" {
		options = append(options, "--config-file="+cfg.Settings)
	}
	return options
}

func newServer(h *handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       5 * time.Minute,
		MaxHeaderBytes:    512 << 10, // statements and parameters come in the URL
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// fileListener takes over a listener that the parent holds open across a crash
// of this process.
func fileListener(fd uintptr) (net.Listener, error) {
	f := os.NewFile(fd, "listener")
	l, err := net.FileListener(f)
	_ = f.Close()
	if err != nil {
		return nil, fmt.Errorf("take over a listener: %w", err)
	}
	return l, nil
}

// ErrDirectoryInUse is what errors.Is finds where another engine has the
// directory open.
var ErrDirectoryInUse = errors.New("the clickhouse directory is in use")

// lockDirectory takes the directory, waiting a little for an engine that is
// just ending.
func lockDirectory(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("clickhouse directory: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), lockWithin)
	defer cancel()
	take := func(name string) (*flock.Flock, error) {
		lock := flock.New(filepath.Join(dir, name), flock.SetPermissions(0o600))
		got, err := lock.TryLockContext(ctx, 20*time.Millisecond)
		if errors.Is(err, context.DeadlineExceeded) || err == nil && !got {
			return nil, fmt.Errorf("%w: another engine runs on %s; stop it first", ErrDirectoryInUse, dir)
		}
		if err != nil {
			return nil, fmt.Errorf("clickhouse directory: %w", err)
		}
		return lock, nil
	}
	lock, err := take("engine.lock")
	if err != nil {
		return nil, err
	}
	unlock = func() { _ = lock.Unlock() }
	// ClickHouse locks a file of its own, which an engine that was killed may still hold
	// when ours is free already.
	if _, err := os.Stat(filepath.Join(dir, "status")); err == nil {
		own, err := take("status")
		if err != nil {
			unlock()
			return nil, err
		}
		if err := own.Unlock(); err != nil {
			unlock()
			return nil, fmt.Errorf("clickhouse directory: %w", err)
		}
	}
	return unlock, nil
}

const lockWithin = 6 * time.Second
