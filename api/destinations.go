package api

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"sojourn/automation/delivery"
)

// DestinationStore keeps destinations; *delivery.Destinations does, and the queues
// are those of the dispatcher.
type DestinationStore struct {
	Destinations *delivery.Destinations
	Queues       func() []delivery.Status
}

// DestinationBody is a destination and how its queue is.
type DestinationBody struct {
	delivery.Destination
	CreatedAt time.Time  `json:"created_at"`
	ChangedAt time.Time  `json:"changed_at"`
	Secrets   int        `json:"secrets" doc:"How many are valid; never the secrets themselves."`
	OldUntil  *time.Time `json:"old_secret_until,omitempty" doc:"When the secret before the last rotation ceases to be valid."`
	Queue     *QueueBody `json:"queue,omitempty" doc:"Missing where it has had nothing to do since the start."`
}

// QueueBody is how the queue of a destination is.
type QueueBody struct {
	State     string     `json:"state" enum:"ready,paused,open,testing,disabled,missing" doc:"open: the circuit breaker waits until until."`
	Until     *time.Time `json:"until,omitempty"`
	Waiting   int        `json:"waiting"`
	InFlight  int        `json:"in_flight"`
	Failures  int        `json:"failures" doc:"In a row."`
	Attempts  uint64     `json:"attempts" doc:"Since the start, as delivered."`
	Delivered uint64     `json:"delivered"`
	LastError string     `json:"last_error,omitempty"`
}

// DestinationName names a destination in a path.
type DestinationName struct {
	Name string `path:"name" maxLength:"64"`
}

func destinationOf(i *delivery.Info, queues []delivery.Status) DestinationBody {
	b := DestinationBody{Destination: i.Destination, CreatedAt: i.CreatedAt.UTC(), ChangedAt: i.ChangedAt.UTC(), Secrets: i.Secrets}
	if !i.OldUntil.IsZero() {
		b.OldUntil = utc(&i.OldUntil)
	}
	for _, q := range queues {
		if q.Name == i.Name {
			b.Queue = &QueueBody{
				State: string(q.State), Waiting: q.Waiting, InFlight: q.InFlight, Failures: q.Failures,
				Attempts: q.Attempts, Delivered: q.Delivered, LastError: q.LastError,
			}
			if !q.Until.IsZero() {
				b.Queue.Until = utc(&q.Until)
			}
		}
	}
	return b
}

func (a *API) destinationOperations() {
	const tag = "Destinations"
	store := a.cfg.Automation.Destinations
	failure := func(doing string, err error) error {
		switch {
		case errors.Is(err, delivery.ErrUnknown):
			return huma.Error404NotFound(err.Error())
		case errors.Is(err, delivery.ErrInvalid), errors.Is(err, delivery.ErrForbidden):
			return huma.Error422UnprocessableEntity(err.Error())
		}
		return a.internal(doing, err)
	}
	type destinationOneOutput struct{ Body DestinationBody }
	one := func(name string) (*destinationOneOutput, error) {
		i, ok := store.Info(name)
		if !ok {
			return nil, huma.Error404NotFound(delivery.ErrUnknown.Error())
		}
		return &destinationOneOutput{destinationOf(&i, a.cfg.Automation.Queues())}, nil
	}
	type destinationListOutput struct {
		Body struct {
			Destinations []DestinationBody `json:"destinations"`
		}
	}
	huma.Register(a.huma, operation("list-destinations", http.MethodGet, "/destinations", tag, "List destinations", "Where deliveries go, and how their queues are.", 503),
		func(context.Context, *struct{}) (*destinationListOutput, error) {
			out := &destinationListOutput{}
			out.Body.Destinations = []DestinationBody{}
			queues := a.cfg.Automation.Queues()
			for _, i := range store.List() {
				out.Body.Destinations = append(out.Body.Destinations, destinationOf(&i, queues))
			}
			return out, nil
		})
	huma.Register(a.huma, operation("get-destination", http.MethodGet, "/destinations/{name}", tag, "A destination", "Where it goes, and how its queue is.", 404, 503),
		func(_ context.Context, in *DestinationName) (*destinationOneOutput, error) { return one(in.Name) })

	type destinationSavedOutput struct {
		Body struct {
			DestinationBody
			Secret string `json:"secret,omitempty" doc:"The signing secret where one was made now. It is shown this once."`
		}
	}
	saved := func(name string, made delivery.Secret) (*destinationSavedOutput, error) {
		d, err := one(name)
		if err != nil {
			return nil, err
		}
		out := &destinationSavedOutput{}
		out.Body.DestinationBody, out.Body.Secret = d.Body, made.Reveal()
		return out, nil
	}
	huma.Register(a.huma, operation("put-destination", http.MethodPut, "/destinations/{name}", tag, "Make or change a destination",
		"A webhook without a secret gets one. Addresses that are not public are refused unless the operator allows them (automation-allow).", 404, 429, 503),
		func(ctx context.Context, in *struct {
			DestinationName
			Body struct {
				Kind          string          `json:"kind" enum:"webhook,email,kafka"`
				URL           string          `json:"url,omitempty" doc:"Of a webhook."`
				SMTP          *delivery.SMTP  `json:"smtp,omitempty"`
				Topic         *delivery.Topic `json:"topic,omitempty"`
				Rate          float64         `json:"rate,omitempty" doc:"Attempts a second at most; 0 for no limit."`
				Concurrency   int             `json:"concurrency,omitempty"`
				TimeoutMillis int64           `json:"timeout_ms,omitempty"`
				Secret        string          `json:"secret,omitempty" maxLength:"1000" doc:"whsec_… of a webhook, or a password; what there is stays where it is missing."`
			}
		},
		) (*destinationSavedOutput, error) {
			b := &in.Body
			d := delivery.Destination{
				Name: in.Name, Kind: delivery.Kind(b.Kind), Enabled: true, URL: b.URL, SMTP: b.SMTP, Topic: b.Topic,
				Rate: b.Rate, Concurrency: b.Concurrency, TimeoutMillis: b.TimeoutMillis,
			}
			made, err := store.Save(ctx, d, delivery.NewSecret(b.Secret))
			if err != nil {
				return nil, failure("keep the destination", err)
			}
			return saved(in.Name, made)
		})
	huma.Register(a.huma, operation("rotate-destination", http.MethodPost, "/destinations/{name}/rotate", tag, "Rotate a secret",
		"A new signing secret; the one before signs beside it for a day.", 404, 429, 503),
		func(ctx context.Context, in *struct {
			DestinationName
			Body struct {
				Secret string `json:"secret,omitempty" maxLength:"1000"`
			} `required:"false"`
		},
		) (*destinationSavedOutput, error) {
			made, err := store.Rotate(ctx, in.Name, delivery.NewSecret(in.Body.Secret), delivery.DefaultOverlap)
			if err != nil {
				return nil, failure("rotate the secret", err)
			}
			return saved(in.Name, made)
		})
	huma.Register(a.huma, operation("enable-destination", http.MethodPost, "/destinations/{name}/enable", tag, "Enable a destination", "What waits is attempted again.", 404, 429, 503),
		func(ctx context.Context, in *DestinationName) (*destinationOneOutput, error) {
			if err := store.Enable(ctx, in.Name); err != nil {
				return nil, failure("enable the destination", err)
			}
			return one(in.Name)
		})
	huma.Register(a.huma, operation("disable-destination", http.MethodPost, "/destinations/{name}/disable", tag, "Disable a destination", "What waits goes on waiting.", 404, 429, 503),
		func(ctx context.Context, in *struct {
			DestinationName
			Body struct {
				Reason string `json:"reason,omitempty" maxLength:"200"`
			} `required:"false"`
		},
		) (*destinationOneOutput, error) {
			if err := store.Disable(ctx, in.Name, in.Body.Reason); err != nil {
				return nil, failure("disable the destination", err)
			}
			return one(in.Name)
		})
}
