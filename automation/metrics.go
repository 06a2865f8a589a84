package automation

import (
	"github.com/prometheus/client_golang/prometheus"

	"sojourn/domain/fact"
)

// Metrics counts what automation does.
type Metrics struct {
	facts   *prometheus.CounterVec
	latency prometheus.Histogram
}

// NewMetrics registers the counters; nil registers them nowhere.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		facts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sojourn_automation_facts_total", Help: "Facts of automation since the start, by kind and reason.",
		}, []string{"kind", "reason"}),
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "sojourn_automation_delivery_seconds", Help: "Time from the beginning of an attempt to its outcome.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}),
	}
	if r != nil {
		r.MustRegister(m.facts, m.latency)
	}
	return m
}

func (m *Metrics) count(f *fact.Fact) {
	m.facts.WithLabelValues(f.Kind.String(), string(f.Reason)).Inc()
}

// Gauges are whether an engine acts, and how far it has read the log.
func (e *Engine) Gauges() []prometheus.Collector {
	return []prometheus.Collector{
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "sojourn_automation_acting", Help: "1 where this process is the one that acts, 0 where it stands by.",
		}, func() float64 {
			if e.State().Acting {
				return 1
			}
			return 0
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "sojourn_automation_position", Help: "Position of the log up to which the process that acts has dealt with everything; 0 where it stands by.",
		}, func() float64 {
			if s := e.State(); s.Acting { // of a term that has ended the position stays a while
				return float64(s.Position)
			}
			return 0
		}),
	}
}
