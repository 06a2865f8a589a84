package delivery

import "github.com/prometheus/client_golang/prometheus"

// What operators watch of each destination.
var (
	waitingDesc  = prometheus.NewDesc("sojourn_destination_waiting", "Deliveries in the queue of a destination, those not due yet included.", []string{"destination"}, nil)
	stateDesc    = prometheus.NewDesc("sojourn_destination_state", "1 for the state that a destination is in.", []string{"destination", "state"}, nil)
	attemptsDesc = prometheus.NewDesc("sojourn_destination_attempts_total", "Attempts since the start, by whether they delivered.", []string{"destination", "delivered"}, nil)
)

// Collector shows the state of destinations to Prometheus; status is
// Dispatcher.Status, or nothing before there is a dispatcher.
func Collector(status func() []Status) prometheus.Collector { return collector(status) }

type collector func() []Status

// Describe is prometheus.Collector's.
func (collector) Describe(c chan<- *prometheus.Desc) {
	c <- waitingDesc
	c <- stateDesc
	c <- attemptsDesc
}

// Collect is prometheus.Collector's.
func (status collector) Collect(c chan<- prometheus.Metric) {
	for _, s := range status() {
		c <- prometheus.MustNewConstMetric(waitingDesc, prometheus.GaugeValue, float64(s.Waiting), s.Name)
		c <- prometheus.MustNewConstMetric(stateDesc, prometheus.GaugeValue, 1, s.Name, string(s.State))
		c <- prometheus.MustNewConstMetric(attemptsDesc, prometheus.CounterValue, float64(s.Delivered), s.Name, "true")
		c <- prometheus.MustNewConstMetric(attemptsDesc, prometheus.CounterValue, float64(s.Attempts-s.Delivered), s.Name, "false")
	}
}
