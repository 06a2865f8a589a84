package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"sojourn/api"
	"sojourn/api/client"
	"sojourn/automation/delivery"
)

// Who gives up a preview is back when it has ended, and not before.
func TestAPreviewThatIsGivenUpHasEnded(t *testing.T) {
	ctx, giveUp := context.WithCancel(t.Context())
	run := api.Preview{ID: uuid.New(), State: "running"}
	cancelled, asked := false, 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodDelete:
			cancelled = true
		case r.Method == http.MethodGet && cancelled:
			if asked++; asked == 3 {
				run.State = "cancelled"
			}
		case r.Method == http.MethodGet:
			giveUp()
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(run)
	}))
	defer s.Close()
	cl, err := client.New(s.URL, "token")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := runPreview(ctx, cl, "", "", 3, io.Discard); !errors.Is(err, context.Canceled) || strings.Contains(err.Error(), "not ended") {
		t.Error(err)
	}
	if run.State != "cancelled" {
		t.Errorf("it is %s after %d questions", run.State, asked)
	}
	for _, examples := range []string{"-3", "101"} {
		if status, _, errOut := sojourn(t.Context(), "policy", "preview", "p.yaml", "--examples", examples); status != 2 || !strings.Contains(errOut, "--examples: "+examples+" is not from 0 to 100") {
			t.Errorf("%s examples: %d %s", examples, status, errOut)
		}
	}
}

func TestDestinationState(t *testing.T) {
	until := time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
	for want, d := range map[string]api.Destination{
		"ready":    {Enabled: true},
		"disabled": {Status: &api.DestinationStatus{State: string(delivery.StateOpen)}},
		"failing, tried again at 2026-03-02T12:00:00Z":   {Enabled: true, Status: &api.DestinationStatus{State: string(delivery.StateOpen), Until: &until}},
		"failing, one attempt at a time":                 {Enabled: true, Status: &api.DestinationStatus{State: string(delivery.StateTesting)}},
		"paused as it asked, until 2026-03-02T12:00:00Z": {Enabled: true, Status: &api.DestinationStatus{State: string(delivery.StatePaused), Until: &until}},
		"missing": {Enabled: true, Status: &api.DestinationStatus{State: string(delivery.StateMissing)}},
	} {
		if got := destinationState(&d); got != want {
			t.Errorf("%q, not %q", got, want)
		}
	}
}
