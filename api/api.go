// Package api is Sojourn's HTTP API: customers, accounts, stages, write keys, event names,
// rejects and policies under /api/v1, with the OpenAPI document at /openapi.json, and the
// endpoints for operators (/healthz, /readyz, /metrics).
//
// Everything under /api/v1 asks for the admin token as a bearer token. Errors
// are problem+json (RFC 9457). A request may carry at most 1 MiB of body, which
// must have arrived within 30 s; an answer that is not a stream takes 30 s at
// most, waiting for a position apart. Lists are read in pages: next_cursor of one page is the cursor of the
// next, and the last page has none.
package api

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"sojourn/automation/delivery"
	"sojourn/eventstore"
	"sojourn/ingest"
	"sojourn/projections"
)

// Limits of the API.
const (
	maxBody       = 1 << 20
	bodyTimeout   = 30 * time.Second
	answerTimeout = 30 * time.Second
	// DefaultWaitTimeout is how long a read waits for the views to hold the
	// position given as after.
	DefaultWaitTimeout = 10 * time.Second
)

// Views answers questions about customers from what the projections keep.
type Views interface {
	// Customer answers where a customer stands. ref is a customer id or a subject
	// such as "user:42". projections.ErrNotFound where there was no touchpoint by
	// then, *projections.MovedError where the customer bears another id by now.
	Customer(ctx context.Context, ref string, at projections.At) (projections.Customer, error)
	// Timeline is a page of a customer's touchpoints and transitions in the order
	// of time. The errors are those of Customer.
	Timeline(ctx context.Context, ref string, at projections.At, cursor string, limit int) ([]projections.Entry, string, error)
	// Customers is a page of the customers in a stage at a time, or of all there
	// were where stage is empty.
	Customers(ctx context.Context, stage string, limit int, cursor string, at projections.At) ([]projections.Customer, string, error)
	// Stages counts the customers by stage at a time.
	Stages(ctx context.Context, at projections.At) (projections.Stages, error)
	// Identity answers why a customer is one; the errors are those of Customer.
	Identity(ctx context.Context, ref string, at projections.At) (projections.Identity, error)
	// Conflicts is a page of the messages that name two subjects which are not one
	// customer, of a status or of all.
	Conflicts(ctx context.Context, status string, limit int, cursor string) ([]projections.ConflictEntry, string, error)
	// Merge and Split record what a person decides. *projections.DecisionError
	// where it makes no sense, projections.ErrNotFound for what is not known.
	Merge(ctx context.Context, r projections.MergeRequest) (projections.Decision, error)
	Split(ctx context.Context, r projections.SplitRequest) (projections.Decision, error)
	// Accounts is a page of the accounts there were at a time.
	Accounts(ctx context.Context, limit int, cursor string, at projections.At) ([]projections.Account, string, error)
	// Account answers where an account stands; ref is its id or "account:<groupId>".
	// projections.ErrNoAccount where there was nothing of it by then.
	Account(ctx context.Context, ref string, at projections.At) (projections.Account, error)
	// AccountMembers and AccountTimeline are pages of its members and of what these
	// did; the errors are those of Account.
	AccountMembers(ctx context.Context, ref string, at projections.At, cursor string, limit int) ([]projections.AccountMember, string, error)
	AccountTimeline(ctx context.Context, ref string, at projections.At, cursor string, limit int) ([]projections.Entry, string, error)
	LoyaltyViews
	// EventNames lists every name that was seen.
	EventNames(ctx context.Context) ([]projections.EventName, error)
	// WaitFor returns when the views hold a position, or with the context's error.
	WaitFor(ctx context.Context, pos eventstore.Position) error
	// Status tells how far the views are.
	Status() projections.Status

	SatisfactionViews
	FeedbackViews
}

// WriteKeys keeps the write keys of the sources; *ingest.Keys does.
type WriteKeys interface {
	Create(ctx context.Context, source string) (writeKey string, info ingest.KeyInfo, err error)
	List() []ingest.KeyInfo
	Revoke(ctx context.Context, ref string) ([]ingest.KeyInfo, error)
}

// Rejects lists what could not be used and tries it again; *ingest.Service does.
type Rejects interface {
	Rejects(ctx context.Context, cursor string, limit int) (ingest.RejectPage, error)
	Replay(ctx context.Context, filter ingest.ReplayFilter, progress func(ingest.ReplayResult)) (ingest.ReplayResult, error)
}

// Arrival is a touchpoint or a reject as it came.
type Arrival struct {
	Kind       string // "touchpoint", "reject" or "refusal"
	Position   eventstore.Position
	RecordedAt time.Time
	OccurredAt time.Time // of a touchpoint
	EventID    uuid.UUID
	Source     string
	Type       string // track, identify, page, screen, group, alias
	Name       string
	Subject    string
	Meaning    string // empty or "unmapped" where the policy has none
	Channel    string
	Reason     string // of a reject
	Message    []byte // as sent
}

// Arrivals follows the log.
type Arrivals interface {
	// Head is the position of the last event.
	Head(ctx context.Context) (eventstore.Position, error)
	// Arrivals yields what comes after a position until the context ends.
	Arrivals(ctx context.Context, after eventstore.Position) iter.Seq2[Arrival, error]
}

// Maintenance does the long jobs on the views; *projections.Views does.
type Maintenance interface {
	Rebuild(ctx context.Context, progress projections.Progress) error
	Verify(ctx context.Context, limit int, progress projections.Progress) (*projections.Verification, error)
}

// Config is what the API is made of. All fields are needed but Log, Registry,
// DeliveryStatus, Automation and WaitTimeout.
type Config struct {
	Version     string
	Token       string // the admin token
	Views       Views
	Points      Points
	WriteKeys   WriteKeys
	Rejects     Rejects
	Arrivals    Arrivals
	Maintenance Maintenance
	Policies    Policies
	Segments    Segments
	ParsePolicy ParsePolicy
	// Backup holds the log as it stands for a backup, with the key of the secrets of
	// destinations where that is asked for. ErrNoBackup where none can be made.
	Backup func(ctx context.Context, withSecretKey bool) (Backup, error)
	// Destinations are those of deliveries, and DeliveryStatus how they are; it may
	// be nil where this process delivers nothing.
	Destinations   Destinations
	DeliveryStatus func() []delivery.Status
	// Automation is what acts when a customer changes; nil for none.
	Automation *Automation
	// Registry is what /metrics shows, and where the API counts its requests.
	Registry *prometheus.Registry
	Log      *slog.Logger
	// WaitTimeout is that of after=POSITION; 0 means DefaultWaitTimeout.
	WaitTimeout time.Duration
}

// API is the handler of everything that the API serves.
type API struct {
	cfg     Config
	mux     *http.ServeMux
	huma    huma.API
	handler http.Handler
	// streams ends when the server stops, so that a stream does not hold it up.
	streams     context.Context
	stopStreams context.CancelFunc
	job         sync.Mutex // one rebuild or verify at a time
}

// New makes the API.
func New(cfg Config) (*API, error) {
	if cfg.Token == "" {
		return nil, errors.New("the API needs an admin token")
	}
	if cfg.WaitTimeout == 0 {
		cfg.WaitTimeout = DefaultWaitTimeout
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Registry == nil {
		cfg.Registry = prometheus.NewRegistry()
	}
	a := &API{cfg: cfg, mux: http.NewServeMux()}
	a.streams, a.stopStreams = context.WithCancel(context.Background())

	hc := huma.DefaultConfig("Sojourn", cfg.Version)
	hc.Info.Description = "Where customers stand in their lifecycle, and why."
	hc.Info.License = &huma.License{Name: "Apache-2.0", Identifier: "Apache-2.0"}
	hc.DocsPath, hc.SchemasPath, hc.CreateHooks = "", "", nil
	hc.RejectUnknownQueryParameters = true
	hc.Transformers = append(hc.Transformers, cutProblem)
	hc.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"admin": {Type: "http", Scheme: "bearer", Description: "The admin token."},
	}
	a.huma = humago.New(a.mux, hc)
	a.huma.UseMiddleware(a.deadline)

	a.customerOperations()
	a.identityOperations()
	a.accountOperations()
	a.satisfactionOperations()
	a.feedbackOperations()
	a.loyaltyOperations()
	a.loyaltyCommands()
	a.writeKeyOperations()
	a.eventOperations()
	a.policyOperations()
	a.segmentOperations()
	a.streamOperations()
	a.backupOperations()
	a.destinationOperations()
	a.automationOperations()
	a.healthOperations()
	a.mux.Handle("GET /metrics", promhttp.HandlerFor(cfg.Registry, promhttp.HandlerOpts{Registry: cfg.Registry}))
	a.mux.HandleFunc("GET /docs", a.docs)

	measured, err := measure(cfg.Registry, a.mux, cfg.Log)
	if err != nil {
		return nil, err
	}
	a.handler = a.authenticate(problems(a.mux, readBody(measured)))
	return a, nil
}

// ServeHTTP serves /api/v1, /openapi.json, /openapi.yaml, /docs, /healthz,
// /readyz and /metrics, and answers everything else 404.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.handler.ServeHTTP(w, r) }

// OpenAPI is the document that /openapi.json serves.
func (a *API) OpenAPI() *huma.OpenAPI { return a.huma.OpenAPI() }

// StopStreams ends the answers that would go on for ever. It may be called more
// than once.
func (a *API) StopStreams() { a.stopStreams() }

// operation is an operation under /api/v1 with what all have in common.
func operation(id, method, path, tag, summary, description string, codes ...int) huma.Operation {
	return huma.Operation{
		OperationID: id, Method: method, Path: "/api/v1" + path,
		Tags: []string{tag}, Summary: summary, Description: description,
		Errors:       append(codes, http.StatusUnauthorized, http.StatusUnprocessableEntity, http.StatusInternalServerError),
		Security:     []map[string][]string{{"admin": {}}},
		MaxBodyBytes: maxBody,
		// The body has arrived by then, and a deadline for reading would end the
		// request's context under a handler that takes longer.
		BodyReadTimeout: -1,
	}
}

// unbounded marks the operations that take as long as they take.
const unbounded = "unbounded"

// deadline bounds the time an answer takes.
func (a *API) deadline(ctx huma.Context, next func(huma.Context)) {
	if ctx.Operation().Metadata[unbounded] != nil {
		_, w := humago.Unwrap(ctx)
		rc := http.NewResponseController(w)
		// A test's recorder knows no deadlines.
		if err := errors.Join(rc.SetWriteDeadline(time.Time{}), rc.SetReadDeadline(time.Time{})); err != nil && !errors.Is(err, http.ErrNotSupported) {
			a.cfg.Log.Warn("api: lift the deadlines of an answer", "error", err)
		}
		next(ctx)
		return
	}
	c, cancel := context.WithTimeout(ctx.Context(), a.cfg.WaitTimeout+answerTimeout)
	defer cancel()
	next(huma.WithContext(ctx, c))
}

// AfterParam is the parameter that lets one read one's own writes.
type AfterParam struct {
	After uint64 `query:"after" doc:"Wait until the views hold this position of the log (the Sojourn-Position header of a tracking answer); 503 after 10 s."`
}

// await waits for the position, and for views that can answer at all.
func (a *API) await(ctx context.Context, p AfterParam) error {
	if err := a.reach(ctx, p); err != nil {
		return err
	}
	if s := a.cfg.Views.Status(); !s.Ready {
		return unavailable("the views are being built; GET /readyz tells how far they are")
	}
	return nil
}

// reach waits for the position. It is enough for answers that do not come from the
// views.
func (a *API) reach(ctx context.Context, p AfterParam) error {
	if p.After == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, a.cfg.WaitTimeout)
	defer cancel()
	err := a.cfg.Views.WaitFor(ctx, eventstore.Position(p.After))
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return unavailable("the views do not hold that position yet; try again")
	}
	return a.internal("wait for the views", err)
}

func unavailable(detail string) error {
	return huma.ErrorWithHeaders(huma.Error503ServiceUnavailable(detail), http.Header{"Retry-After": {"1"}})
}

// internal logs an error that is none of the client's business and answers 500.
func (a *API) internal(doing string, err error) error {
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return unavailable("the answer took too long")
	case errors.Is(err, eventstore.ErrOverloaded):
		return huma.ErrorWithHeaders(huma.Error429TooManyRequests("the log is overloaded; try again"), http.Header{"Retry-After": {"1"}})
	case errors.Is(err, eventstore.ErrClosed), errors.Is(err, projections.ErrClosed):
		return unavailable("the server is stopping")
	case errors.Is(err, eventstore.ErrUnavailable):
		a.cfg.Log.Error("api: the log refuses to write", "doing", doing, "error", err)
		return unavailable("the log cannot be written to; the server's log says why")
	}
	a.cfg.Log.Error("api: internal error", "doing", doing, "error", err)
	return huma.Error500InternalServerError("could not " + doing + "; the server's log says why")
}

// jsonValue is a JSON value of any kind.
type jsonValue = json.RawMessage
