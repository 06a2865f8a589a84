package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"sojourn/domain"
	"sojourn/domain/policy"
	"sojourn/eventstore"
	"sojourn/ingest"
	"sojourn/projections"
	"sojourn/warehouse"
)

// sharesViews reports whether the views are kept by workers in several processes, or
// may be: where a shard is named, or who keeps them and who answers are two.
func (c *Config) sharesViews() bool {
	return c.Shard != "" || c.Roles.has(roleProject) != c.Roles.has(roleAPI)
}

// usesViews reports whether this process needs ClickHouse.
func (c *Config) usesViews() bool { return c.Roles.has(roleProject) || c.Roles.has(roleAPI) }

func (c *Config) shard() projections.Shard {
	if c.Shard == "" {
		return projections.Shard{Index: 1, Of: 1}
	}
	s, _ := projections.ParseShard(c.Shard) // Validate has seen it
	return s
}

// validateWorkers checks what has to do with several processes on one log.
func (c *Config) validateWorkers(bad func(setting, format string, args ...any)) {
	if c.Roles.only(roleCollect) {
		return
	}
	if c.Shard != "" {
		if _, err := projections.ParseShard(c.Shard); err != nil {
			bad("shard", "%w", err)
		}
		if !c.Roles.has(roleProject) {
			bad("shard", "it is what the role project holds of the views, which is not among the roles")
		}
	}
	if c.Policy != "" && !c.Roles.has(roleAPI) {
		bad("policy", "a file is applied by the process with the role api; others follow the log")
	}
	if c.Roles.has(roleAutomate) && !c.Roles.has(roleAPI) {
		bad("roles", "automate goes with api")
	}
	alone := c.Roles.has(roleWrite) && c.Roles.has(roleProject) && c.Roles.has(roleAPI) && !c.sharesViews()
	if !alone && c.Store == "" && c.ESDBListen == "" {
		bad("store", "other processes are to use the same log: name the EventStoreDB that keeps it, or open this one with esdb-listen")
	}
	if c.usesViews() && c.sharesViews() && c.ClickHouse == "" && c.ClickHouseWorkerListen == "" {
		bad("clickhouse", "other processes are to use the same ClickHouse: name it, or open the embedded engine with clickhouse-worker-listen")
	}
	if c.ClickHouseWorkerListen == "" {
		return
	}
	if c.ClickHouse != "" || !c.usesViews() {
		bad("clickhouse-worker-listen", "it opens the embedded engine, which this process does not run")
	}
	if _, err := splitAddress(c.ClickHouseWorkerListen); err != nil {
		bad("clickhouse-worker-listen", "%w", err)
	}
}

// startViews starts what this process does with the views: worker keeps its part of
// them, and answers answer; both may be the same, and either may be nil. failed is
// told where the worker has stopped for good.
func (d *dataDir) startViews(ctx context.Context, c *Config, store eventLog, db *warehouse.DB, keyer domain.Keyer, log *slog.Logger, failed chan<- error, stopping *stopList) (worker, answers *projections.Views, err error) {
	config := projections.Config{
		Store: store, DB: db, Keyer: keyer, Dir: filepath.Join(d.path, viewsDir),
		FlushInterval: c.FlushInterval, Preview: d.previews(c, store, log), Now: time.Now, Logger: log,
	}
	if !c.sharesViews() {
		if worker, err = projections.Start(ctx, config); err == nil {
			stopping.add("views", worker.Stop)
		}
		return worker, worker, err
	}
	config.Workers = true
	config.Failed = func(err error) { failed <- err }
	if c.Roles.has(roleProject) {
		config.Shard = c.shard()
		if worker, err = projections.Start(ctx, config); err != nil {
			return nil, nil, err
		}
		stopping.add("views", worker.Stop)
		if config.Shard.Of == 1 && c.Roles.has(roleAPI) {
			return worker, worker, nil // it knows all customers
		}
	}
	if c.Roles.has(roleAPI) {
		config.Reader, config.Shard, config.Dir = true, projections.Shard{}, filepath.Join(d.path, answersDir)
		if answers, err = projections.Start(ctx, config); err != nil {
			return nil, nil, err
		}
		stopping.add("answers", answers.Stop)
	}
	return worker, answers, nil
}

// rulesInForce follows which policy is in force.
type rulesInForce struct {
	version int
	last    atomic.Pointer[policy.Compiled]
}

// policyEvery is how soon a process without views knows a policy that is applied.
const policyEvery = time.Second

// followPolicy waits until there is a policy, and then follows the log until the
// context ends.
func followPolicy(ctx context.Context, store eventstore.Store, log *slog.Logger) (*rulesInForce, error) {
	r := &rulesInForce{}
	tick := time.NewTicker(policyEvery)
	for first := true; ; first = false {
		err := r.look(ctx, store)
		if err == nil {
			break
		}
		if !errors.Is(err, projections.ErrNoPolicy) {
			return nil, err
		}
		if first {
			log.Info("waiting for the first policy, which a process with the role api applies")
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	go func() {
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			if err := r.look(ctx, store); err != nil && ctx.Err() == nil {
				log.Warn("the policy in force cannot be read now", "error", err)
			}
		}
	}()
	return r, nil
}

func (r *rulesInForce) look(ctx context.Context, store eventstore.Store) error {
	version, rules, err := projections.PolicyInForce(ctx, store, r.version)
	if err == nil && rules != nil {
		r.version = version
		r.last.Store(rules)
	}
	return err
}

// writeKeys are those of a process that does not change them: it follows the log.
func (d *dataDir) writeKeys(store ingest.KeyReader, log *slog.Logger, stopping *stopList) (*ingest.KnownKeys, error) {
	keys, err := ingest.OpenKnownKeys(filepath.Join(d.path, keysFile), store, log)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	followed := make(chan struct{})
	go func() {
		defer close(followed)
		keys.Run(ctx)
	}()
	stopping.add("write keys", func() error {
		cancel()
		<-followed
		return nil
	})
	return keys, nil
}

// greetWorker says that a process without the API is ready.
func greetWorker(out io.Writer, c Config, url string, took time.Duration) {
	part := ""
	if c.Roles.has(roleProject) {
		part = ", shard " + c.shard().String()
	}
	// Where nobody reads, the server runs all the same.
	_, _ = fmt.Fprintf(out, "Sojourn %s is ready after %v: %s%s.\n\n  Address      %s\n", version, took.Round(10*time.Millisecond), c.Roles, part, url)
}

// workerHealth answers those who run a process without the API: /healthz while it
// runs, /readyz while its part of the views keeps up, /metrics.
func workerHealth(worker *projections.Views, registry *prometheus.Registry) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{Registry: registry}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"status":"ok"}`)
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if worker == nil {
			_, _ = io.WriteString(w, `{"ready":true}`)
			return
		}
		s := worker.Status()
		if !s.Ready {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_, _ = fmt.Fprintf(w, `{"ready":%t,"position":%d,"lag_events":%d,"generation":%d,"error":%q}`, s.Ready, s.Position, s.LagEvents, s.Generation, s.Err)
	})
	return mux
}
