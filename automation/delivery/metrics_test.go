package delivery

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestCollector(t *testing.T) {
	c := Collector(func() []Status {
		return []Status{{Name: "crm", State: StateOpen, Waiting: 7, Attempts: 5, Delivered: 2}}
	})
	want := `
# HELP sojourn_destination_attempts_total Attempts since the start, by whether they delivered.
# TYPE sojourn_destination_attempts_total counter
sojourn_destination_attempts_total{delivered="false",destination="crm"} 3
sojourn_destination_attempts_total{delivered="true",destination="crm"} 2
# HELP sojourn_destination_state 1 for the state that a destination is in.
# TYPE sojourn_destination_state gauge
sojourn_destination_state{destination="crm",state="open"} 1
# HELP sojourn_destination_waiting Deliveries in the queue of a destination, those not due yet included.
# TYPE sojourn_destination_waiting gauge
sojourn_destination_waiting{destination="crm"} 7
`
	if err := testutil.CollectAndCompare(c, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
	if problems, err := testutil.CollectAndLint(c); err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
}
