package api

import (
	"context"
	"errors"
	"net/http"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"sojourn/automation"
	"sojourn/automation/delivery"
	"sojourn/domain"
	"sojourn/domain/fact"
)

// DryRunLine is a line of a dry run. The last one has Result or Error.
type DryRunLine struct {
	Done     uint64                `json:"done,omitempty" doc:"Of Total, in no unit."`
	Total    uint64                `json:"total,omitempty"`
	Delivery *DeliveryBody         `json:"delivery,omitempty" doc:"What would have been done about a cause: delivered, or suppressed and why."`
	Message  *delivery.Message     `json:"message,omitempty" doc:"What would have been sent; of the first hundred."`
	Result   *automation.DryResult `json:"result,omitempty" doc:"On the last line."`
	Error    string                `json:"error,omitempty"`
}

// dryMessages is how many messages a dry run shows.
const dryMessages = 100

func (a *API) dryRunOperations() {
	op := a.streamOperation("dry-run-trigger", http.MethodPost, "/triggers/{id}/dry-run", "Triggers",
		"What a trigger would have done", "Goes through a past period with the version in force, as if it had been applied and not paused all the while. "+
			"A line of progress now and then, a line for each cause, and the last with the sums. Nothing is recorded and nothing is sent.",
		reflect.TypeFor[DryRunLine](), 404)
	huma.Register(a.huma, op, func(ctx context.Context, in *struct {
		TriggerID
		Body struct {
			From time.Time `json:"from" doc:"The beginning of the period."`
			To   time.Time `json:"to,omitempty" doc:"Its end, which is left out; now where it is missing."`
			As   string    `json:"as,omitempty" enum:"occurred,known" default:"occurred" doc:"occurred: each change as known when it happened, by all that is known today. known: the log as it was learnt."`
		}
	},
	) (*huma.StreamResponse, error) {
		if _, err := a.cfg.Automation.Triggers.Get(ctx, in.ID); err != nil {
			return nil, a.triggerError("read the trigger", err)
		}
		now, to := time.Now(), in.Body.To
		if to.IsZero() {
			to = now
		}
		switch {
		case in.Body.From.After(now):
			return nil, huma.Error422UnprocessableEntity("the period begins in the future, at " + in.Body.From.UTC().Format(time.RFC3339))
		case !in.Body.From.Before(to):
			return nil, huma.Error422UnprocessableEntity("the period ends before it begins")
		}
		return a.stream(func(ctx context.Context, send func(any) error) {
			gone := errors.New("the client has left")
			r, err := a.cfg.Automation.Engine.DryRun(ctx, &automation.DryRun{
				Trigger: in.ID, From: domain.MillisOf(in.Body.From), To: domain.MillisOf(to), Known: in.Body.As == "known",
				Messages: dryMessages,
				Progress: func(done, total uint64) {
					_ = send(DryRunLine{Done: done, Total: total})
				},
				Each: func(d *fact.Delivery, m *delivery.Message) error {
					if send(DryRunLine{Delivery: deliveryOf(d), Message: m}) != nil {
						return gone
					}
					return nil
				},
			})
			switch {
			case errors.Is(err, gone) || ctx.Err() != nil:
			case err != nil:
				a.cfg.Log.Error("api: dry run broke off", "trigger", in.ID, "error", err)
				_ = send(DryRunLine{Error: err.Error()})
			default:
				_ = send(DryRunLine{Result: r})
			}
		}), nil
	})
}
