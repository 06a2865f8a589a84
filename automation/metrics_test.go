package automation

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// An engine whose term has ended says neither that it acts nor how far it has read.
func TestGauges(t *testing.T) {
	e := &Engine{acting: true, position: 7}
	for _, want := range []map[string]float64{
		{"sojourn_automation_acting": 1, "sojourn_automation_position": 7},
		{"sojourn_automation_acting": 0, "sojourn_automation_position": 0},
	} {
		r := prometheus.NewRegistry()
		r.MustRegister(e.Gauges()...)
		all, err := r.Gather()
		if err != nil || len(all) != len(want) {
			t.Fatalf("%v, %v", all, err)
		}
		for _, m := range all {
			if got := m.GetMetric()[0].GetGauge().GetValue(); got != want[m.GetName()] {
				t.Errorf("%s is %v", m.GetName(), got)
			}
		}
		e.setErr(errDeposed)
	}
}
