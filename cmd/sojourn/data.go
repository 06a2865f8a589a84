package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"

	"sojourn/warehouse"
	"sojourn/warehouse/chdb"
)

// The data directory.
const (
	lockFile   = "lock"       // held while a process uses the directory
	serverFile = "server"     // where the server that holds it is reached, as JSON
	keyFile    = "stream-key" // names streams; lost, the log cannot be read by subject
	logDir     = "log"
	engineDir  = "clickhouse"
	viewsDir   = "views"
	answersDir = "answers" // state of a process that answers and keeps no views, or a part
)

// errInUse says that another process uses the data directory.
var errInUse = errors.New("the data directory is in use")

// holder is who holds a data directory.
type holder struct {
	PID int    `json:"pid"`
	URL string `json:"url,omitempty"` // empty where it is no server, or not one yet
}

// dataDir is a data directory that this process holds.
type dataDir struct {
	path string
	lock *flock.Flock
}

// openData takes hold of a data directory, which is made where it is missing.
// errInUse where another process has it: at once where that is a server that
// answers, else after lockWithin. A process that was killed holds the lock until
// the kernel has taken down its memory.
func openData(ctx context.Context, path string, log *slog.Logger) (*dataDir, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w; make it writable or choose another with --data", err)
	}
	if _, err := os.ReadDir(path); err != nil {
		return nil, fmt.Errorf("data directory: %w; make it readable or choose another with --data", err)
	}
	l := flock.New(filepath.Join(path, lockFile), flock.SetPermissions(0o600))
	ctx, cancel := context.WithTimeout(ctx, lockWithin)
	defer cancel()
	tick := time.NewTicker(lockEvery)
	defer tick.Stop()
	for waiting := false; ; waiting = true {
		got, err := l.TryLock()
		if err != nil {
			return nil, fmt.Errorf("data directory: %w; make it writable or choose another with --data", err)
		}
		if got {
			break
		}
		h, err := readHolder(path)
		who := "another process"
		if err == nil {
			who = fmt.Sprintf("process %d", h.PID)
		}
		inUse := fmt.Errorf("%w: %s has %s open; stop it, or choose another directory with --data", errInUse, who, path)
		if h.answers(ctx) {
			return nil, inUse
		}
		if !waiting {
			log.Info("the data directory is in use, waiting for it", "directory", path, "by", who, "within", lockWithin)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, inUse
		}
	}
	d := &dataDir{path: path, lock: l}
	if err := d.announce(""); err != nil {
		return nil, errors.Join(err, d.close())
	}
	return d, nil
}

// How long openData waits for a directory that is in use, how often it tries, and
// how long it lets the server that has it take to answer.
const (
	lockWithin   = 6 * time.Second
	lockEvery    = 50 * time.Millisecond
	answerWithin = time.Second
)

// answers reports whether the holder is a server that runs. To connect says
// nothing: the kernel takes connections for a process that it is taking down.
func (h holder) answers(ctx context.Context) bool {
	if h.URL == "" {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, h.URL+"/healthz", http.NoBody)
	if err != nil {
		return false
	}
	// Whoever answers runs, whatever its certificate says; it is told nothing.
	t := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}
	res, err := t.RoundTrip(r)
	if err != nil {
		return false
	}
	_ = res.Body.Close()
	return true
}

// announce tells other processes who holds the directory.
func (d *dataDir) announce(url string) error {
	b, err := json.Marshal(holder{os.Getpid(), url})
	if err == nil {
		err = os.WriteFile(filepath.Join(d.path, serverFile), b, 0o600)
	}
	if err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	return nil
}

func (d *dataDir) close() error {
	return errors.Join(os.Remove(filepath.Join(d.path, serverFile)), d.lock.Unlock())
}

// readHolder reads who holds a directory, or held it last where that process was
// killed.
func readHolder(path string) (holder, error) {
	var h holder
	b, err := os.ReadFile(filepath.Join(path, serverFile))
	if err == nil {
		err = json.Unmarshal(b, &h)
	}
	return h, err
}

// openWarehouse connects to ClickHouse: to the server that the configuration
// names, else to an embedded engine, which is started. engine is nil for a
// server. public is what the engine answers on to the outside, and closes; nil
// for nothing; workers what it answers other workers on, who give the token.
func (d *dataDir) openWarehouse(ctx context.Context, c *Config, public, workers *net.TCPListener, token string, log *slog.Logger) (db *warehouse.DB, engine *chdb.Engine, err error) {
	wc := warehouse.Config{DSN: c.ClickHouse, Cluster: c.ClickHouseCluster, Logger: log}
	if c.ClickHouse == "" {
		ec := chdb.Config{Dir: filepath.Join(d.path, engineDir), Library: c.ClickHouseLibrary, Password: c.ClickHousePassword, Logger: log}
		if public != nil {
			ec.Listen, ec.Listener = c.ClickHouseListen, public
		}
		ec.Workers, ec.WorkerPassword = workers, token
		if engine, err = chdb.Start(ctx, ec); err != nil {
			return nil, nil, err
		}
		wc.Socket, wc.Hold = engine.Socket(), engine.Hold
	}
	closeEngine := func(err error) error {
		if engine != nil {
			err = errors.Join(err, engine.Close())
		}
		return err
	}
	if db, err = warehouse.Open(ctx, wc); err != nil {
		return nil, nil, closeEngine(err)
	}
	if err := db.Migrate(ctx); err != nil {
		return nil, nil, closeEngine(errors.Join(err, db.Close()))
	}
	return db, engine, nil
}
