package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"sojourn/eventstore/esdbstore"
	"sojourn/ingest"
	"sojourn/ingest/collector"
	"sojourn/ingest/kafkasource"
	"sojourn/ingest/segmentapi"
)

// KafkaCollect is the section kafka.collect: the topic between collectors and
// writers.
type KafkaCollect struct {
	// Topic is written by the role collect and read by the role write. It must be
	// there.
	Topic string `yaml:"topic"`
}

// collectedSource is the source of what stands in the topic and no collector
// wrote.
const collectedSource = "collector"

// topics are those that the role write reads: those named, and the collectors'.
func (c *KafkaConfig) topics() []kafkasource.Topic {
	if c.Collect == nil {
		return c.Topics
	}
	return append(slices.Clip(c.Topics), kafkasource.Topic{
		Name: c.Collect.Topic, Source: collectedSource, Format: kafkasource.Collected,
	})
}

func (c *Config) validateCollect(bad func(setting, format string, args ...any)) {
	if err := c.Roles.validate(); err != nil {
		bad("roles", "%w", err)
	}
	if c.Kafka != nil && c.Kafka.Collect != nil && c.Kafka.Collect.Topic == "" {
		bad("kafka.collect.topic", "name the topic")
	}
	if !c.Roles.has(roleCollect) {
		return
	}
	if c.Kafka == nil || c.Kafka.Collect == nil {
		bad("roles", "a collector needs the section kafka.collect of the configuration file")
	}
	if !c.Roles.has(roleWrite) && c.Store == "" {
		bad("store", "a collector finds the write keys in the log of the others: say where it is")
	}
}

// startCollector starts to bring tracking calls to Kafka. failed is told where
// the topic is one that must not be used. stop waits until what is under way is
// written or given up.
func startCollector(c *Config, registry prometheus.Registerer, log *slog.Logger, failed chan<- error) (*collector.Collector, func() error, error) {
	k := c.Kafka
	config := collector.Config{
		Brokers: k.Brokers, Topic: k.Collect.Topic, AllowUnreplicated: c.AllowUnreplicated, Logger: log, Registerer: registry,
	}
	var err error
	if config.TLS, config.SASL, err = k.connection(log); err != nil {
		return nil, nil, err
	}
	made, err := collector.New(config)
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		err := made.Run(ctx)
		if err != nil && ctx.Err() == nil {
			failed <- err
		}
		ended <- err
	}()
	return made, func() error {
		cancel()
		if err := <-ended; !errors.Is(err, collector.ErrTopic) { // that has been told
			return err
		}
		return nil
	}, nil
}

// keysFile is the write keys that a collector knows, as hashes.
const keysFile = "write-keys"

// serveCollector is a server that collects and does nothing else: it asks the log
// for write keys, and goes on with those that it knows while the log is away.
func serveCollector(ctx context.Context, c Config, out io.Writer) (err error) {
	started := time.Now()
	log := c.logger()
	stopping := stopList{log: log}
	defer func() { err = errors.Join(err, stopping.stop()) }()

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

	// Without a logger: where no node answers, the keys say so once.
	store, err := esdbstore.NewReader(esdbstore.Config{Connection: c.Store})
	if err != nil {
		return err
	}
	stopping.add("event store", store.Close)
	keys, err := ingest.OpenKnownKeys(filepath.Join(data.path, keysFile), store, log)
	if err != nil {
		return err
	}
	following, stopFollowing := context.WithCancel(context.Background())
	followed := make(chan struct{})
	go func() {
		defer close(followed)
		keys.Run(following)
	}()
	stopping.add("write keys", func() error {
		stopFollowing()
		<-followed
		return nil
	})

	registry := prometheus.NewRegistry()
	if err := errors.Join(
		registry.Register(collectors.NewGoCollector()),
		registry.Register(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})),
	); err != nil {
		return err
	}
	failed := make(chan error, 2)
	intake, stopIntake, err := startCollector(&c, registry, log, failed)
	if err != nil {
		return err
	}
	stopping.add("collector", stopIntake)
	tracking, err := segmentapi.New(segmentapi.Config{
		Service: intake, Keys: keys, Logger: log, Registerer: registry, PublicURL: c.PublicURL,
	})
	if err != nil {
		return err
	}
	server := newServer(tracking, operators(intake, registry), certificate, log)
	go func() { failed <- server.serve(listener) }()
	stopping.add("http server", server.stop)
	url := serverURL(c, listener.Addr())
	if err := data.announce(url); err != nil {
		return err
	}
	// Where nobody reads, the server runs all the same.
	_, _ = fmt.Fprintf(out, "Sojourn %s collects after %v.\n\n  Address      %s\n  Kafka topic  %s\n",
		version, time.Since(started).Round(10*time.Millisecond), url, c.Kafka.Collect.Topic)
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		log.Info("stopping", "reason", context.Cause(ctx).Error())
		return nil
	}
}

// operators answers those who run a collector: /healthz while it runs, /readyz
// while Kafka takes messages, /metrics.
func operators(intake *collector.Collector, registry *prometheus.Registry) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{Registry: registry}))
	answer := func(w http.ResponseWriter, ok bool, text string) {
		w.Header().Set("Content-Type", "application/json")
		if !ok {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_, _ = io.WriteString(w, text) // a client that has gone cannot be told
	}
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, true, `{"status":"ok"}`) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		ready := intake.Ready()
		answer(w, ready, fmt.Sprintf(`{"ready":%t}`, ready))
	})
	return mux
}
