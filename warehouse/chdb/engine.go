// Package chdb runs ClickHouse's engine, which comes as a library (libchdb.so),
// in a child process of the same binary, and serves ClickHouse's HTTP protocol
// over it: on a private Unix socket with all rights, for Sojourn itself, and on
// a public TCP address that only reads.
//
// The child is supervised: a crash in the engine takes nothing else along, and a
// new child serves the same socket and address. It ends with its parent,
// whatever ends that.
package chdb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Config says how an engine runs. Only Dir is needed.
type Config struct {
	// Dir holds the tables. It is made where it is missing, mode 0700.
	Dir string
	// Library is the path of libchdb.so, or of its folder; empty looks it up
	// (Locate).
	Library string
	// Listen is the public address, such as 127.0.0.1:8123; empty means none.
	Listen string
	// Listener listens on Listen already; nil opens it. The engine closes it, also
	// where it does not start.
	Listener *net.TCPListener
	// Password is asked for on the public address if it is not empty; on any
	// address but loopback there must be one. The user's name does not matter.
	Password string
	// Workers, where not nil, is a listener on which other processes of Sojourn have
	// all rights. They log in as WorkerUser with WorkerPassword, which must not be
	// empty. The engine closes it, also where it does not start.
	Workers        *net.TCPListener
	WorkerPassword string
	// Hosts are names besides loopback's and Listen's by which requests from
	// outside may call this server.
	Hosts []string
	// Database is the one that requests from outside start in. Default "sojourn".
	Database string
	// MaxQueries is how many statements from outside run at once; more wait.
	// Default 8.
	MaxQueries int
	// MaxQueryTime ends a statement from outside. Default 60 s, at least 1 s.
	MaxQueryTime time.Duration
	// MaxQueryMemory bounds a statement from outside, in bytes. Default 1 GiB.
	MaxQueryMemory uint64
	// MaxMemory bounds the whole engine, in bytes. Default half of the machine's.
	MaxMemory uint64
	// MaxQueryRows bounds the rows that a statement from outside answers. Default
	// 10 million.
	MaxQueryRows uint64
	// Settings is a file of ClickHouse's server configuration, such as one with
	// remote_servers; empty for none. Tests of clusters use it.
	Settings string
	// Executable is the binary to run as the child. Default the running one; its
	// main calls ChildMain first.
	Executable string
	// Logger defaults to one that discards.
	Logger *slog.Logger
}

// WorkerUser is the name under which other processes of Sojourn log in.
const WorkerUser = "worker"

// ErrAddressInUse is what errors.Is finds where the public address is taken.
var ErrAddressInUse = errors.New("the address is in use")

// Engine is a running, supervised engine. Its methods are safe for concurrent
// use.
type Engine struct {
	cfg     Config
	log     *slog.Logger
	socket  string
	tempDir string // of the socket, where it is not in Dir
	private *net.UnixListener
	public  *net.TCPListener
	workers *net.TCPListener

	stop    chan struct{}
	once    sync.Once
	stopped chan struct{} // closed when the supervisor has ended

	mu    sync.Mutex
	child *process
}

// Start starts an engine and returns when it answers. ctx bounds the start only;
// Close ends the engine. The error is one line that says what to do.
func Start(ctx context.Context, cfg Config) (*Engine, error) {
	e := &Engine{
		public: cfg.Listener, workers: cfg.Workers,
		stop: make(chan struct{}), stopped: make(chan struct{}),
	}
	if err := cfg.complete(); err != nil {
		e.release()
		return nil, err
	}
	e.cfg, e.log = cfg, cfg.Logger
	if err := e.listen(); err != nil {
		e.release()
		return nil, err
	}
	child, err := e.spawn(ctx)
	if err != nil {
		e.release()
		return nil, err
	}
	e.child = child
	e.removeStaleSockets()
	go e.supervise(child)
	return e, nil
}

// removeStaleSockets removes those of parents that were killed: whoever holds
// the directory's lock is the only one.
func (e *Engine) removeStaleSockets() {
	all, err := filepath.Glob(filepath.Join(e.cfg.Dir, "engine-*.sock"))
	if err != nil {
		return
	}
	for _, path := range all {
		if path != e.socket {
			_ = os.Remove(path)
		}
	}
}

func (c *Config) complete() error {
	if c.Dir == "" {
		return errors.New("clickhouse: no directory is given")
	}
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return fmt.Errorf("clickhouse directory: %w", err)
	}
	c.Dir = dir
	if c.Library, err = Locate(c.Library); err != nil {
		return err
	}
	if c.Workers != nil && c.WorkerPassword == "" {
		return errors.New("clickhouse: workers need a password")
	}
	if c.Database == "" {
		c.Database = "sojourn"
	}
	if c.MaxQueries <= 0 {
		c.MaxQueries = 8
	}
	if c.MaxQueryTime <= 0 {
		c.MaxQueryTime = time.Minute
	}
	c.MaxQueryTime = max(c.MaxQueryTime, time.Second)
	if c.MaxQueryMemory == 0 {
		c.MaxQueryMemory = 1 << 30
	}
	if c.MaxQueryRows == 0 {
		c.MaxQueryRows = 10_000_000
	}
	if c.MaxMemory == 0 {
		c.MaxMemory = max(machineMemory()/2, 1<<30)
	}
	if c.Executable == "" {
		if c.Executable, err = os.Executable(); err != nil {
			return fmt.Errorf("clickhouse: find the running binary: %w", err)
		}
	}
	if c.Executable, err = filepath.Abs(c.Executable); err != nil {
		return fmt.Errorf("clickhouse: find the running binary: %w", err)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return checkDirectory(c.Dir)
}

// checkDirectory finds out here, where the message can be plain, what would stop
// the child.
func checkDirectory(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("clickhouse directory: %w; make it writable or choose another by --data", err)
	}
	probe, err := os.CreateTemp(dir, ".probe-")
	if err != nil {
		return fmt.Errorf("clickhouse directory: %w; make it writable or choose another by --data", err)
	}
	_ = probe.Close()
	if err := os.Remove(probe.Name()); err != nil {
		return fmt.Errorf("clickhouse directory: %w", err)
	}
	if _, err := os.ReadDir(dir); err != nil {
		return fmt.Errorf("clickhouse directory: %w; make it readable or choose another by --data", err)
	}
	return nil
}

// maxSocketPath is what a Unix socket's address holds.
const maxSocketPath = 100

// listen opens the sockets here, in the parent, so that they outlive a child.
func (e *Engine) listen() error {
	if e.cfg.Listen != "" {
		host, _, err := net.SplitHostPort(e.cfg.Listen)
		if err != nil {
			return fmt.Errorf("clickhouse address %q: %w", e.cfg.Listen, err)
		}
		if e.cfg.Password == "" && !isLoopback(host) {
			return fmt.Errorf("clickhouse address %s is open to the network: set a password for it (--clickhouse-password), or listen on 127.0.0.1", e.cfg.Listen)
		}
		if e.public == nil {
			l, err := net.Listen("tcp", e.cfg.Listen)
			if errors.Is(err, syscall.EADDRINUSE) {
				return fmt.Errorf("clickhouse address %s: %w; stop the other server or choose another by --clickhouse-listen", e.cfg.Listen, ErrAddressInUse)
			}
			if err != nil {
				return fmt.Errorf("clickhouse address %s: %w", e.cfg.Listen, err)
			}
			e.public = l.(*net.TCPListener)
		}
		if host != "" && net.ParseIP(host) == nil {
			e.cfg.Hosts = append(e.cfg.Hosts[:len(e.cfg.Hosts):len(e.cfg.Hosts)], host)
		}
	}
	// A socket of one's own: a second server on the directory, refused later by
	// the lock, must not have taken the first one's away by then.
	name := fmt.Sprintf("engine-%d-%d.sock", os.Getpid(), socketSeq.Add(1))
	e.socket = filepath.Join(e.cfg.Dir, name)
	if len(e.socket) > maxSocketPath {
		dir, err := os.MkdirTemp("", "sojourn-")
		if err != nil {
			return fmt.Errorf("clickhouse socket: %w", err)
		}
		e.tempDir = dir
		e.socket = filepath.Join(dir, "engine.sock")
	}
	if err := os.Remove(e.socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("clickhouse socket: %w", err)
	}
	private, err := net.ListenUnix("unix", &net.UnixAddr{Name: e.socket, Net: "unix"})
	if err != nil {
		return fmt.Errorf("clickhouse socket: %w", err)
	}
	e.private = private
	if err := os.Chmod(e.socket, 0o600); err != nil {
		return fmt.Errorf("clickhouse socket: %w", err)
	}
	return nil
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// Socket is the path of the private socket, with all rights.
func (e *Engine) Socket() string { return e.socket }

// PublicAddr is the public address, or empty.
func (e *Engine) PublicAddr() string {
	if e.public == nil {
		return ""
	}
	return e.public.Addr().String()
}

// PID is the process id of the child that runs now, or 0 between two.
func (e *Engine) PID() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.child == nil {
		return 0
	}
	return e.child.cmd.Process.Pid
}

// Healthy asks the engine for an answer.
func (e *Engine) Healthy(ctx context.Context) error {
	return query(ctx, e.socket, "SELECT 1")
}

// Close stops the engine within 5 s: statements under way get 3 s. Closing twice
// is harmless.
func (e *Engine) Close() error {
	e.once.Do(func() { close(e.stop) })
	<-e.stopped
	return nil
}

func (e *Engine) release() {
	if e.private != nil {
		_ = e.private.Close() // removes the socket
	}
	if e.public != nil {
		_ = e.public.Close()
	}
	if e.workers != nil {
		_ = e.workers.Close()
	}
	if e.tempDir != "" {
		_ = os.RemoveAll(e.tempDir)
	}
}

// The supervisor's pace.
const (
	firstBackoff  = 100 * time.Millisecond
	maxBackoff    = 10 * time.Second
	steadyAfter   = time.Minute      // a child that lasted so long starts the back-off anew
	startWithin   = 30 * time.Second // a child that is not ready by then is ended
	healthEvery   = 15 * time.Second
	healthWithin  = 60 * time.Second
	healthRetries = 2
)

// supervise keeps a child running until Close.
func (e *Engine) supervise(child *process) {
	defer close(e.stopped)
	defer e.release()
	backoff := firstBackoff
	for {
		started := time.Now()
		if stopped := e.watch(child); stopped {
			return
		}
		e.log.Error("the clickhouse engine ended, starting it again", "reason", child.reason())
		if time.Since(started) > steadyAfter {
			backoff = firstBackoff
		}
		for child = nil; child == nil; {
			select {
			case <-e.stop:
				return
			case <-time.After(backoff):
			}
			backoff = min(2*backoff, maxBackoff)
			ctx, cancel := context.WithTimeout(context.Background(), startWithin)
			next, err := e.spawn(ctx)
			cancel()
			if err != nil {
				e.log.Error("the clickhouse engine does not start, trying again", "error", err, "after", backoff)
				continue
			}
			child = next
		}
		e.mu.Lock()
		e.child = child
		e.mu.Unlock()
		e.log.Info("the clickhouse engine runs again", "pid", child.cmd.Process.Pid)
	}
}

// watch returns when the child has ended, by itself or because of Close.
func (e *Engine) watch(child *process) (stopped bool) {
	defer func() {
		e.mu.Lock()
		e.child = nil
		e.mu.Unlock()
	}()
	ticker := time.NewTicker(healthEvery)
	defer ticker.Stop()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	health := make(chan error, 1)
	checking, failures := false, 0
	for {
		select {
		case <-child.ended:
			return false
		case <-e.stop:
			child.end()
			return true
		case <-ticker.C:
			if !checking {
				checking = true
				go func() {
					ctx, cancel := context.WithTimeout(ctx, healthWithin)
					defer cancel()
					health <- query(ctx, e.socket, "SELECT 1")
				}()
			}
		case err := <-health:
			checking = false
			if err == nil {
				failures = 0
				continue
			}
			failures++
			e.log.Warn("the clickhouse engine does not answer", "error", err, "times", failures)
			if failures >= healthRetries {
				child.kill()
			}
		}
	}
}

// query runs a statement through the private socket and drops its result.
func query(ctx context.Context, socket, statement string) error {
	res, err := post(ctx, socket, "/?query="+url.QueryEscape(statement))
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(res.Body, 4096))
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d: %s", res.StatusCode, body)
	}
	return nil
}

// socketSeq numbers the sockets of this process.
var socketSeq atomic.Uint64

// post posts nothing to a path of the private socket.
func post(ctx context.Context, socket, path string) (*http.Response, error) {
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		},
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://localhost"+path, http.NoBody)
	if err != nil {
		return nil, err
	}
	return client.Do(req)
}
