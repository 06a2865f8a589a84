package api

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"sojourn/automation/delivery"
)

// Destinations keeps the destinations of deliveries; *delivery.Destinations does.
type Destinations interface {
	Refresh(ctx context.Context) error
	List() []delivery.Info
	Info(name string) (delivery.Info, bool)
	Save(ctx context.Context, d delivery.Destination, secret delivery.Secret) (made delivery.Secret, err error)
	Rotate(ctx context.Context, name string, secret delivery.Secret, overlap time.Duration) (made delivery.Secret, err error)
	Enable(ctx context.Context, name string) error
	Disable(ctx context.Context, name, reason string) error
}

// Destination is a destination of deliveries, without its secrets.
type Destination struct {
	Name          string          `json:"name"`
	Kind          string          `json:"kind" enum:"webhook,email,kafka"`
	Enabled       bool            `json:"enabled" doc:"Where it is not, deliveries wait until they are given up."`
	Reason        string          `json:"reason,omitempty" doc:"Why it is disabled."`
	URL           string          `json:"url,omitempty"`
	SMTP          *delivery.SMTP  `json:"smtp,omitempty"`
	Topic         *delivery.Topic `json:"topic,omitempty"`
	Rate          float64         `json:"rate,omitempty"`
	Concurrency   int             `json:"concurrency,omitempty"`
	TimeoutMillis int64           `json:"timeout_ms"`
	CreatedAt     time.Time       `json:"created_at"`
	ChangedAt     time.Time       `json:"changed_at"`
	Secrets       int             `json:"secrets" doc:"How many secrets are valid. They are never told."`
	OldUntil      *time.Time      `json:"old_secret_until,omitempty" doc:"Until when the signing secret before this one is valid, too."`
	// Status is how it is and what waits; nothing where there was no delivery since
	// the start.
	Status *DestinationStatus `json:"status,omitempty"`
}

// DestinationStatus is the state of a destination's queue.
type DestinationStatus struct {
	State       string     `json:"state" enum:"ready,paused,open,testing,disabled,missing" doc:"paused: it asked to be left alone. open: the circuit breaker waits. testing: one attempt at a time is let through."`
	Until       *time.Time `json:"until,omitempty" doc:"The end of paused and open."`
	Waiting     int        `json:"waiting" doc:"Deliveries in the queue, those not due yet included."`
	Due         *time.Time `json:"due,omitempty" doc:"When the one that is next is or was due."`
	InFlight    int        `json:"in_flight"`
	Failures    int        `json:"failures" doc:"In a row."`
	Attempts    uint64     `json:"attempts" doc:"Since the start."`
	Delivered   uint64     `json:"delivered" doc:"Since the start."`
	LastAttempt *time.Time `json:"last_attempt,omitempty"`
	LastStatus  int        `json:"last_status,omitempty"`
	LastError   string     `json:"last_error,omitempty"`
}

// DestinationSaved is the answer to a change.
type DestinationSaved struct {
	Destination
	SigningSecret string `json:"signing_secret,omitempty" doc:"The signing secret that was made now. It is shown this once."`
}

// DestinationBody is a destination as it is saved.
type DestinationBody struct {
	Kind          string          `json:"kind" enum:"webhook,email,kafka"`
	URL           string          `json:"url,omitempty" maxLength:"2048" doc:"Of a webhook."`
	SMTP          *delivery.SMTP  `json:"smtp,omitempty" doc:"The server that e-mails are handed to."`
	Topic         *delivery.Topic `json:"topic,omitempty" doc:"The topic of Kafka."`
	Rate          float64         `json:"rate,omitempty" doc:"Attempts a second at most; 0 for no limit."`
	Concurrency   int             `json:"concurrency,omitempty" doc:"Attempts at one time; 0 for 8."`
	TimeoutMillis int64           `json:"timeout_ms,omitempty" doc:"How long an attempt may take; 0 for 15000."`
	Enabled       *bool           `json:"enabled,omitempty" default:"true"`
	Secret        string          `json:"secret,omitempty" writeOnly:"true" maxLength:"1024" doc:"The password, or a signing secret of one's own (whsec_…). Without it the secret stays, or a signing secret is made."`
}

// RotateBody is what a secret is replaced by.
type RotateBody struct {
	Secret         string `json:"secret,omitempty" writeOnly:"true" maxLength:"1024" doc:"The new password, or a signing secret of one's own. Without it a signing secret is made."`
	OverlapSeconds *int64 `json:"overlap_seconds,omitempty" minimum:"0" maximum:"2592000" doc:"How long the signing secret before stays valid; 86400 where it is not said. A password is replaced at once."`
}

// holdsSecret marks the operations whose request is not to be repeated in an error.
const holdsSecret = "holds a secret"

type destinationOutput struct{ Body Destination }

type destinationSavedOutput struct{ Body DestinationSaved }

func (a *API) destinationOperations() {
	const tag = "Destinations"

	type destinationsOutput struct {
		Body struct {
			Destinations []Destination `json:"destinations"`
		}
	}
	huma.Register(a.huma, operation("list-destinations", http.MethodGet, "/destinations", tag,
		"List destinations", "Where deliveries go, by name, with what waits there; never their secrets.", 503),
		func(ctx context.Context, in *struct{ AfterParam }) (*destinationsOutput, error) {
			if err := a.readDestinations(ctx, in.AfterParam); err != nil {
				return nil, err
			}
			status := a.deliveryStatus()
			out := &destinationsOutput{}
			out.Body.Destinations = []Destination{}
			for _, i := range a.cfg.Destinations.List() {
				out.Body.Destinations = append(out.Body.Destinations, destinationOf(&i, status))
			}
			return out, nil
		})

	huma.Register(a.huma, operation("get-destination", http.MethodGet, "/destinations/{name}", tag,
		"Get a destination", "One destination, with what waits there; never its secrets.", 404, 503),
		func(ctx context.Context, in *struct {
			AfterParam
			Name string `path:"name" maxLength:"64"`
		},
		) (*destinationOutput, error) {
			if err := a.readDestinations(ctx, in.AfterParam); err != nil {
				return nil, err
			}
			return a.destination(in.Name)
		})

	save := operation("save-destination", http.MethodPut, "/destinations/{name}", tag,
		"Make or change a destination", "The secret stays where none is given, unless a password would go to another server. A webhook that has none gets a signing secret, which is shown this once.", 429, 503)
	save.Metadata = map[string]any{holdsSecret: true}
	huma.Register(a.huma, save,
		func(ctx context.Context, in *struct {
			Name string `path:"name" maxLength:"64" doc:"a to z, 0 to 9, '_' and '-'."`
			Body DestinationBody
		},
		) (*destinationSavedOutput, error) {
			b := &in.Body
			made, err := a.cfg.Destinations.Save(ctx, delivery.Destination{
				Name: in.Name, Kind: delivery.Kind(b.Kind), Enabled: b.Enabled == nil || *b.Enabled, URL: b.URL, SMTP: b.SMTP, Topic: b.Topic,
				Rate: b.Rate, Concurrency: b.Concurrency, TimeoutMillis: b.TimeoutMillis,
			}, delivery.NewSecret(b.Secret))
			return a.saved(in.Name, made, err)
		})

	rotate := operation("rotate-destination-secret", http.MethodPost, "/destinations/{name}/rotate", tag,
		"Replace a secret", "While two signing secrets are valid a webhook bears a signature of each.", 404, 429, 503)
	rotate.Metadata = map[string]any{holdsSecret: true}
	huma.Register(a.huma, rotate,
		func(ctx context.Context, in *struct {
			Name string `path:"name" maxLength:"64"`
			Body RotateBody
		},
		) (*destinationSavedOutput, error) {
			overlap := delivery.DefaultOverlap
			if s := in.Body.OverlapSeconds; s != nil {
				overlap = time.Duration(*s) * time.Second
			}
			made, err := a.cfg.Destinations.Rotate(ctx, in.Name, delivery.NewSecret(in.Body.Secret), overlap)
			return a.saved(in.Name, made, err)
		})

	huma.Register(a.huma, operation("enable-destination", http.MethodPost, "/destinations/{name}/enable", tag,
		"Enable a destination", "What waits goes out.", 404, 429, 503),
		func(ctx context.Context, in *struct {
			Name string `path:"name" maxLength:"64"`
		},
		) (*destinationSavedOutput, error) {
			return a.saved(in.Name, delivery.Secret{}, a.cfg.Destinations.Enable(ctx, in.Name))
		})

	huma.Register(a.huma, operation("disable-destination", http.MethodPost, "/destinations/{name}/disable", tag,
		"Disable a destination", "Deliveries wait, until they are given up after three days.", 404, 429, 503),
		func(ctx context.Context, in *struct {
			Name string `path:"name" maxLength:"64"`
			Body struct {
				Reason string `json:"reason" minLength:"1" maxLength:"500"`
			}
		},
		) (*destinationSavedOutput, error) {
			return a.saved(in.Name, delivery.Secret{}, a.cfg.Destinations.Disable(ctx, in.Name, in.Body.Reason))
		})
}

// readDestinations waits for the position and takes in what other processes have
// changed.
func (a *API) readDestinations(ctx context.Context, p AfterParam) error {
	if err := a.reach(ctx, p); err != nil {
		return err
	}
	if err := a.cfg.Destinations.Refresh(ctx); err != nil {
		return a.internal("read the destinations", err)
	}
	return nil
}

func (a *API) deliveryStatus() map[string]delivery.Status {
	all := make(map[string]delivery.Status)
	if a.cfg.DeliveryStatus != nil {
		for _, s := range a.cfg.DeliveryStatus() {
			all[s.Name] = s
		}
	}
	return all
}

func (a *API) destination(name string) (*destinationOutput, error) {
	i, ok := a.cfg.Destinations.Info(name)
	if !ok {
		return nil, huma.Error404NotFound(delivery.ErrUnknown.Error())
	}
	return &destinationOutput{destinationOf(&i, a.deliveryStatus())}, nil
}

// saved is the answer to a change.
func (a *API) saved(name string, made delivery.Secret, err error) (*destinationSavedOutput, error) {
	switch {
	case errors.Is(err, delivery.ErrInvalid), errors.Is(err, delivery.ErrForbidden):
		return nil, huma.Error422UnprocessableEntity(err.Error())
	case errors.Is(err, delivery.ErrUnknown):
		return nil, huma.Error404NotFound(err.Error())
	case err != nil:
		return nil, a.internal("save the destination", err)
	}
	d, err := a.destination(name)
	if err != nil {
		return nil, err
	}
	return &destinationSavedOutput{DestinationSaved{d.Body, made.Reveal()}}, nil
}

func destinationOf(i *delivery.Info, status map[string]delivery.Status) Destination {
	d := Destination{
		Name: i.Name, Kind: string(i.Kind), Enabled: i.Enabled, Reason: i.Reason, URL: i.URL, SMTP: i.SMTP, Topic: i.Topic,
		Rate: i.Rate, Concurrency: i.Concurrency, TimeoutMillis: i.Timeout().Milliseconds(),
		CreatedAt: i.CreatedAt.UTC(), ChangedAt: i.ChangedAt.UTC(), Secrets: i.Secrets, OldUntil: known(i.OldUntil),
	}
	if s, ok := status[i.Name]; ok {
		d.Status = &DestinationStatus{
			State: string(s.State), Until: known(s.Until), Waiting: s.Waiting, Due: known(s.Due), InFlight: s.InFlight,
			Failures: s.Failures, Attempts: s.Attempts, Delivered: s.Delivered,
			LastAttempt: known(s.LastAttempt), LastStatus: s.LastStatus, LastError: s.LastError,
		}
	}
	return d
}

// known is a time that there is, in UTC.
func known(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
