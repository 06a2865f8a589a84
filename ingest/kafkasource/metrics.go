package kafkasource

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	messages, bytes, duplicates, rejects, lost *prometheus.CounterVec
	lag                                        *prometheus.GaugeVec
	rebalances                                 prometheus.Counter
}

func newMetrics(r prometheus.Registerer) *metrics {
	labels := []string{"topic", "partition"}
	counter := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sojourn_kafka_" + name, Help: help}, labels)
	}
	m := &metrics{
		messages:   counter("messages_total", "Messages that are durable, as touchpoints or among the rejects."),
		bytes:      counter("bytes_total", "Bytes of the keys and values of these."),
		duplicates: counter("duplicates_total", "Messages that the log held already and that were dropped."),
		rejects:    counter("rejects_total", "Messages that went to the rejects."),
		lost:       counter("lost_offsets_total", "Offsets that Kafka had deleted before they were read."),
		lag: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "sojourn_kafka_lag_messages", Help: "Messages of an assigned partition that are not durable here yet.",
		}, labels),
		rebalances: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sojourn_kafka_rebalances_total", Help: "How often the consumer group was formed anew.",
		}),
	}
	if r != nil {
		r.MustRegister(m.messages, m.bytes, m.duplicates, m.rejects, m.lost, m.lag, m.rebalances)
	}
	return m
}

// forget drops the lag of a partition that may be another member's now.
func (m *metrics) forget(topic string, partition int) {
	m.lag.DeleteLabelValues(topic, strconv.Itoa(partition))
}
