package ingest

import (
	"github.com/prometheus/client_golang/prometheus"
)

// Metrics counts what ingest does, for Prometheus.
type Metrics struct {
	accepted, duplicates, replayed prometheus.Counter
	rejects                        *prometheus.CounterVec
	rejectBy                       map[Code]prometheus.Counter
	register                       func(prometheus.Collector)
}

// NewMetrics makes the counters and registers them; r may be nil.
func NewMetrics(r prometheus.Registerer) *Metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "sojourn_ingest_" + name, Help: help})
	}
	m := &Metrics{
		accepted:   counter("accepted_total", "Messages that became touchpoints."),
		duplicates: counter("duplicates_total", "Messages that the log held already and that were dropped."),
		replayed:   counter("replayed_total", "Rejects that became touchpoints by a replay."),
		rejects: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sojourn_ingest_rejects_total", Help: "Messages that went to the rejects, by reason.",
		}, []string{"reason"}),
		rejectBy: make(map[Code]prometheus.Counter),
		register: func(c prometheus.Collector) {
			if r != nil {
				r.MustRegister(c)
			}
		},
	}
	for _, c := range []prometheus.Collector{m.accepted, m.duplicates, m.replayed, m.rejects} {
		m.register(c)
	}
	for _, code := range RejectCodes {
		m.rejectBy[code] = m.rejects.WithLabelValues(string(code))
	}
	return m
}

func (m *Metrics) inFlight(bytes func() int64) {
	m.register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "sojourn_ingest_in_flight_bytes", Help: "Bytes of the calls that are under way.",
	}, func() float64 { return float64(bytes()) }))
}

func (m *Metrics) count(o Outcome) {
	m.accepted.Add(float64(o.Accepted))
	m.duplicates.Add(float64(o.Duplicates))
}

func (m *Metrics) reject(code Code) {
	by, known := m.rejectBy[code]
	if !known { // of a collector of another release
		by = m.rejects.WithLabelValues("other")
	}
	by.Inc()
}
