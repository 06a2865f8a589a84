package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"sojourn/api"
	"sojourn/domain/policy"
	"sojourn/ingest"
	"sojourn/ingest/segmentapi"
	"sojourn/projections"
	"sojourn/warehouse"
	"sojourn/warehouse/chdb"
)

func newServe() *cobra.Command {
	var file string
	unused := defaultConfig()
	c := &cobra.Command{
		Use:   "serve",
		Short: "Start the server",
		Long: "Starts the server: the tracking API and the API at --listen, ClickHouse's HTTP protocol for\n" +
			"queries at --clickhouse-listen. Every setting can also come from the environment\n" +
			"(--data as SOJOURN_DATA, and so on) or from the file given by --config (YAML: data, listen,\n" +
			"flush_interval, …). A flag goes before the environment, that before the file. The admin token\n" +
			"comes from SOJOURN_ADMIN_TOKEN; without it one is made at the first start.\n\n" +
			"Ctrl-C or SIGTERM stops it.",
		Args: noArgs,
	}
	unused.flags(c.Flags())
	c.Flags().StringVar(&file, "config", "", "YAML `file` of settings")
	c.RunE = func(c *cobra.Command, _ []string) error {
		config, err := loadConfig(c.Flags(), file, os.LookupEnv)
		if err != nil {
			return err
		}
		return serve(c.Context(), config, c.OutOrStdout())
	}
	return c
}

// stopWithin is how long the parts have to stop, all together.
const stopWithin = 10 * time.Second

// serve runs a server until the context ends, or it cannot go on. It reads from
// top to bottom: the parts in order, the wait, and the stop in reverse.
func serve(ctx context.Context, c Config, out io.Writer) (err error) {
	if c.Roles.only(roleCollect) {
		return serveCollector(ctx, c, out)
	}
	started := time.Now()
	log := c.logger()
	stopping := stopList{log: log}
	defer func() { err = errors.Join(err, stopping.stop()) }()

	// What can be wrong with the configuration is found before anything starts.
	rules, policyText, err := loadPolicy(c.Policy)
	if err != nil {
		return err
	}
	certificate, err := loadCertificate(c.TLSCert, c.TLSKey)
	if err != nil {
		return err
	}
	data, err := openData(ctx, c.Data, log)
	if err != nil {
		return err
	}
	stopping.add("data directory", data.close)
	listener, err := listen(ctx, c.Listen, log)
	if err != nil {
		return err
	}
	stopping.add("listener", func() error { return ignoreClosed(listener.Close()) })
	var public *net.TCPListener
	var workers *net.TCPListener
	if c.ClickHouse == "" && c.usesViews() {
		if _, err := chdb.Locate(c.ClickHouseLibrary); err != nil {
			return err
		}
		if c.ClickHouseListen != "off" {
			if public, err = listen(ctx, c.ClickHouseListen, log); err != nil {
				return err
			}
			stopping.add("clickhouse listener", func() error { return ignoreClosed(public.Close()) })
		}
		if c.ClickHouseWorkerListen != "" {
			if workers, err = listen(ctx, c.ClickHouseWorkerListen, log); err != nil {
				return err
			}
			stopping.add("clickhouse listener of workers", func() error { return ignoreClosed(workers.Close()) })
		}
	}
	var esdb *net.TCPListener
	if c.ESDBListen != "" {
		if esdb, err = listen(ctx, c.ESDBListen, log); err != nil {
			return err
		}
		stopping.add("esdb listener", func() error { return ignoreClosed(esdb.Close()) })
	}
	token, madeToken := c.AdminToken, false
	if token == "" {
		if token, madeToken, err = api.LoadToken(c.Data); err != nil {
			return err
		}
	}

	// The log.
	store, keyer, err := data.openLog(ctx, &c, log)
	if err != nil {
		return err
	}
	stopping.add("event store", store.Close)
	var inForce *rulesInForce
	if c.Roles.has(roleAPI) {
		policyVersion, applied, err := projections.ApplyPolicyFile(ctx, store, rules, policyText)
		if err != nil {
			return err
		}
		if applied {
			log.Info("a policy is in force from now on", "version", policyVersion, "file", c.Policy)
		}
	} else if inForce, err = followPolicy(ctx, store, log); err != nil {
		return err
	}

	// The views.
	var (
		engine        *chdb.Engine
		worker, views *projections.Views
		failed        = make(chan error, 8)
	)
	if c.usesViews() {
		var db *warehouse.DB
		if db, engine, err = data.openWarehouse(ctx, &c, public, workers, token, log); err != nil {
			return err
		}
		if engine != nil {
			stopping.add("clickhouse engine", engine.Close)
		}
		stopping.add("clickhouse connections", db.Close)
		if worker, views, err = data.startViews(ctx, &c, store, db, keyer, log, failed, &stopping); err != nil {
			return err
		}
	}

	// The intake and the API.
	registry, err := newRegistry(store, cmp.Or(worker, views))
	if err != nil {
		return err
	}
	var policyInForce func() *policy.Compiled
	if views != nil {
		policyInForce = views.InForce
	} else {
		policyInForce = inForce.last.Load
	}
	nobody := func(value string) bool { return policyInForce().Identity().Nobody(value) }
	intake, err := ingest.New(ingest.Config{
		Log: store, Index: store, Keyer: keyer, Logger: log, Metrics: ingest.NewMetrics(registry), Nobody: nobody,
		Remake: c.Kafka.remake(policyInForce),
	})
	if err != nil {
		return err
	}
	// One process makes and revokes write keys, the others follow the log.
	var writeKeys *ingest.Keys
	var keys segmentapi.Keys
	if c.Roles.has(roleAPI) {
		if writeKeys, err = ingest.LoadKeys(ctx, store, time.Now); err != nil {
			return err
		}
		keys = writeKeys
	} else if keys, err = data.writeKeys(store, log, &stopping); err != nil {
		return err
	}
	calls := segmentapi.Service(intake)
	if c.Roles.has(roleCollect) {
		collecting, stop, err := startCollector(&c, registry, log, failed)
		if err != nil {
			return err
		}
		stopping.add("collector", stop)
		calls = collecting
	}
	var tracking http.Handler
	if c.Roles.has(roleWrite) || c.Roles.has(roleCollect) {
		if tracking, err = segmentapi.New(segmentapi.Config{
			Service: calls, Keys: keys, Logger: log, Registerer: registry, PublicURL: c.PublicURL,
		}); err != nil {
			return err
		}
	}
	if c.Roles.has(roleWrite) {
		stopKafka, err := startKafka(c.Kafka, intake, policyInForce, registry, log)
		if err != nil {
			return err
		}
		stopping.add("kafka consumer", stopKafka)
	}
	stopOut, err := startKafkaOut(&c, store, views, registry, log)
	if err != nil {
		return err
	}
	stopping.add("kafka producer", stopOut)
	admin := workerHealth(worker, registry)
	var unsubscribe http.Handler
	if c.Roles.has(roleAPI) {
		deliveries, err := openOutgoing(ctx, &c, store, log)
		if err != nil {
			return err
		}
		stopping.add("deliveries", deliveries.stop)
		automated, err := startAutomation(ctx, &c, store, views, intake, deliveries, registry, log)
		if err != nil {
			return err
		}
		stopping.add("automation", automated.stop)
		unsubscribe = automated.unsubscribe
		if admin, err = api.New(api.Config{
			Version: version, Token: token, Views: views, Points: views, WriteKeys: writeKeys, Rejects: intake,
			Arrivals: api.Follow(store, views.InForce), Maintenance: views, Policies: views, Segments: views, ParsePolicy: parsePolicy,
			Backup: data.backups(store), Destinations: deliveries.destinations, DeliveryStatus: deliveries.status,
			Automation: automated.api(), Registry: registry, Log: log,
		}); err != nil {
			return err
		}
	}
	server := newServer(tracking, admin, unsubscribe, certificate, log)
	go func() { failed <- server.serve(listener) }()
	stopping.add("http server", server.stop)
	if esdb != nil {
		clients, err := data.newESDBServer(&c, store, token, certificate, log)
		if err != nil {
			return err
		}
		go func() { failed <- clients.Serve(esdb) }()
		stopping.add("esdb server", func() error { clients.Stop(drainTimeout); return nil })
	}

	url := serverURL(c, listener.Addr())
	if err := data.announce(url); err != nil {
		return err
	}
	clickhouse := ""
	if engine != nil && engine.PublicAddr() != "" {
		clickhouse = "http://" + reachable(engine.PublicAddr())
	}
	connection := ""
	if esdb != nil {
		connection = esdbURL(c, esdb.Addr())
	}
	if c.Roles.has(roleAPI) {
		greet(out, c, url, clickhouse, connection, madeToken, time.Since(started))
	} else {
		greetWorker(out, c, url, time.Since(started))
	}

	// A log that has failed refuses everything until it is opened anew: that is a
	// start's work, so the server ends and says why.
	go func() {
		if err := store.Wait(ctx, math.MaxUint64); ctx.Err() == nil {
			failed <- fmt.Errorf("the log cannot be written to any more: %w", err)
		}
	}()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		log.Info("stopping", "reason", context.Cause(ctx).Error())
		return nil
	}
}

// How long a start waits for an address that is in use, and how often it tries.
// The engine of a server that was killed has the port of its own until the
// kernel has taken down its memory, which is a moment after the server is gone.
const (
	listenWithin = 6 * time.Second
	listenEvery  = 50 * time.Millisecond
)

// listen opens a listening socket. It waits up to listenWithin for an address
// that is in use; the error is that of the last try.
func listen(ctx context.Context, address string, log *slog.Logger) (*net.TCPListener, error) {
	ctx, cancel := context.WithTimeout(ctx, listenWithin)
	defer cancel()
	tick := time.NewTicker(listenEvery)
	defer tick.Stop()
	for waiting := false; ; waiting = true {
		l, err := net.Listen("tcp", address)
		if err == nil {
			return l.(*net.TCPListener), nil
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			return nil, err
		}
		if !waiting {
			log.Info("an address is in use, waiting for it", "address", address, "within", listenWithin)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, err
		}
	}
}

// stopList stops what was started, the last first.
type stopList struct {
	log   *slog.Logger
	parts []part
}

type part struct {
	name string
	stop func() error
}

func (l *stopList) add(name string, stop func() error) { l.parts = append(l.parts, part{name, stop}) }

// stop stops all parts. After stopWithin it gives up on what hangs: everything
// acknowledged is on disk, and a start finishes what was under way.
func (l *stopList) stop() error {
	done := make(chan error, 1)
	go func() {
		var errs []error
		for i := len(l.parts) - 1; i >= 0; i-- {
			p := l.parts[i]
			start := time.Now()
			if err := p.stop(); err != nil {
				errs = append(errs, fmt.Errorf("stop the %s: %w", p.name, err))
			}
			l.log.Debug("stopped", "part", p.name, "took", time.Since(start).Round(time.Millisecond))
		}
		done <- errors.Join(errs...)
	}()
	select {
	case err := <-done:
		return err
	case <-time.After(stopWithin - time.Second/2):
		return errors.New("some parts did not stop in time; nothing that was acknowledged is lost")
	}
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// serverURL is the address of the server for programs on this machine.
func serverURL(c Config, addr net.Addr) string {
	scheme := "http"
	if c.TLSCert != "" {
		scheme = "https"
	}
	return scheme + "://" + reachable(addr.String())
}

// reachable is an address at which this machine reaches a listener.
func reachable(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

// greet says where everything is, and what to try.
func greet(out io.Writer, c Config, url, clickhouse, esdb string, madeToken bool, took time.Duration) {
	tokenFile := filepath.Join(c.Data, api.TokenFile)
	token, where := fmt.Sprintf("$(cat %s)", tokenFile), tokenFile
	if c.AdminToken != "" {
		token, where = "$SOJOURN_ADMIN_TOKEN", "as given by SOJOURN_ADMIN_TOKEN"
	} else if madeToken {
		where += " (made now)"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Sojourn %s is ready after %v.\n\n", version, took.Round(10*time.Millisecond))
	fmt.Fprintf(&b, "  Address      %s\n  Admin token  %s\n", url, where)
	if clickhouse != "" {
		fmt.Fprintf(&b, "  ClickHouse   %s (reads only)\n", clickhouse)
	}
	if esdb != "" {
		fmt.Fprintf(&b, "  EventStoreDB %s\n", esdb)
	}
	fmt.Fprintf(&b, "\nTry:\n  sojourn demo --data %s\n", c.Data)
	fmt.Fprintf(&b, "  curl -s -H \"Authorization: Bearer %s\" %s/api/v1/stages\n", token, url)
	if clickhouse != "" {
		user := ""
		if c.ClickHousePassword != "" {
			user = "-u default:$SOJOURN_CLICKHOUSE_PASSWORD "
		}
		fmt.Fprintf(&b, "  curl -s "+user+"'%s/?query=SELECT+stage,+count()+FROM+customers+GROUP+BY+stage'\n", clickhouse)
	} else {
		fmt.Fprintf(&b, "  sojourn tail --data %s\n", c.Data)
	}
	// Where nobody reads, the server runs all the same.
	_, _ = io.WriteString(out, b.String())
}
