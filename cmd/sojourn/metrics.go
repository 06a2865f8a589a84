package main

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"sojourn/projections"
)

// newRegistry makes the registry behind /metrics, with what the process, the log
// and the views tell of themselves; views is nil where the process has none.
func newRegistry(store eventLog, views *projections.Views) (*prometheus.Registry, error) {
	reg := prometheus.NewRegistry()
	gauge := func(name, help string, f func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "sojourn_" + name, Help: help}, f)
	}
	counter := func(name, help string, f func() float64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "sojourn_" + name, Help: help}, f)
	}
	all := []prometheus.Collector{
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	}
	if views != nil {
		all = append(all,
			gauge("views_position", "Position that the views have read.", func() float64 { return float64(views.Status().Position) }),
			gauge("views_lag_events", "Events that the views have yet to read.", func() float64 { return float64(views.Status().LagEvents) }),
			gauge("views_ready", "1 where the views answer.", func() float64 {
				if views.Status().Ready {
					return 1
				}
				return 0
			}),
		)
	}
	// What EventStoreDB keeps, it has figures of its own for.
	if store, ok := embedded(store); ok {
		all = append(all,
			gauge("log_position", "Position of the last event of the log.", func() float64 { return float64(store.Stats().Head) }),
			counter("log_appended_total", "Events appended since the start.", func() float64 { return float64(store.Stats().Appended) }),
			counter("log_commits_total", "Commits to the disk since the start.", func() float64 { return float64(store.Stats().Commits) }),
			gauge("log_queued_bytes", "Bytes that wait to become durable.", func() float64 { return float64(store.Stats().QueuedBytes) }),
			gauge("log_disk_bytes", "Size of the log on disk.", func() float64 { return float64(store.Stats().DiskBytes) }),
		)
	}
	var errs []error
	for _, c := range all {
		errs = append(errs, reg.Register(c))
	}
	return reg, errors.Join(errs...)
}
