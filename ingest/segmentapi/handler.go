// Package segmentapi serves the Segment HTTP tracking API, so that Segment's
// SDKs work against Sojourn with another host and write key and no other change.
//
// Every call with a good write key that is JSON ends in the log, message by
// message, as a touchpoint or a reject; what else comes is refused, counted and
// logged by reason.
package segmentapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sojourn/domain"
	"sojourn/ingest"
)

// The limits of a call, in bytes after decompression.
const (
	// MaxBody is the size of a body. A larger one is answered 400.
	MaxBody = 524_288
	// MaxShared is the size of a batch's own context, integrations and sentAt
	// together, as of a message.
	MaxShared = ingest.MaxMessage
	// MaxExpanded is what they may come to when they stand beside every message
	// of the batch.
	MaxExpanded = 16 << 20

	// maxWire is how much of a body is read before decompression.
	maxWire = MaxBody + 64<<10
)

// PositionHeader tells, on success, the position that a read must wait for to
// see everything that was in the call. It is missing where the call is not in the
// log yet (a collector's).
const PositionHeader = "Sojourn-Position"

// RejectedHeader and DuplicatesHeader count, on success, the messages of the
// call that went to the rejects and those that the log held already; they are
// missing where there were none.
const (
	RejectedHeader   = "Sojourn-Rejected"
	DuplicatesHeader = "Sojourn-Duplicates"
)

// Service brings calls to where they are durable: ingest.Service to the log, a
// collector to Kafka.
type Service interface {
	Reserve(bytes int64) (*ingest.Reservation, error)
	Now() domain.Millis
	Ingest(ctx context.Context, b *ingest.Batch, limit int) (ingest.Outcome, error)
	Refuse(ctx context.Context, r ingest.Refusal) error
}

// Keys tells to which source a write key belongs. The error is
// ingest.ErrNoSuchKey where it is unknown or revoked; any other says that this
// cannot be told now, and the call is answered 503: SDKs drop what got a 401.
type Keys interface {
	Source(writeKey string) (source string, err error)
}

// Config is what a Handler is made of. Service and Keys are required.
type Config struct {
	Service Service
	Keys    Keys
	// Logger takes refused calls by reason; default: none.
	Logger *slog.Logger
	// Registerer takes the handler's counters; default: nobody reads them.
	Registerer prometheus.Registerer
	// PublicURL is the address under which SDKs reach this server, such as
	// https://track.example.com; where it is empty, the settings endpoints answer
	// with the request's Host. A path in it is put before /v1.
	PublicURL string
	// BodyTimeout is how long a client may take to send a body; default 30 s.
	BodyTimeout time.Duration
}

// Handler serves the tracking API. Mount it at Prefixes.
type Handler struct {
	service     Service
	keys        Keys
	logger      *slog.Logger
	metrics     *metrics
	public      *url.URL
	bodyTimeout time.Duration
	calls       sync.Pool
	quiet       quiet
}

// Prefixes are the beginnings of the paths that a Handler serves.
var Prefixes = []string{"/v1/", "/projects/"}

// New makes a Handler.
func New(c Config) (*Handler, error) {
	if c.Service == nil || c.Keys == nil {
		return nil, errors.New("the tracking API needs the ingest service and the write keys")
	}
	h := &Handler{
		service: c.Service, keys: c.Keys, logger: c.Logger, bodyTimeout: c.BodyTimeout,
		metrics: newMetrics(c.Registerer),
		calls:   sync.Pool{New: func() any { return new(call) }},
	}
	if h.logger == nil {
		h.logger = slog.New(slog.DiscardHandler)
	}
	if h.bodyTimeout == 0 {
		h.bodyTimeout = 30 * time.Second
	}
	if c.PublicURL != "" {
		u, err := url.Parse(c.PublicURL)
		if err != nil {
			return nil, fmt.Errorf("public URL: %w", err)
		}
		if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
			return nil, fmt.Errorf("public URL %q must be http:// or https:// and a host", c.PublicURL)
		}
		h.public = u
	}
	return h, nil
}

// endpoint is what a path means.
type endpoint struct {
	name  string // label of the metrics
	kind  domain.Kind
	batch bool
	serve func(h *Handler, w http.ResponseWriter, r *http.Request, ep endpoint)
}

var endpoints = map[string]endpoint{
	"/v1/m": {name: "m", serve: (*Handler).discard},
}

func init() {
	for name, kind := range map[string]domain.Kind{
		"identify": domain.Identify, "track": domain.Track, "page": domain.Page,
		"screen": domain.Screen, "group": domain.Group, "alias": domain.Alias,
	} {
		ep := endpoint{name: name, kind: kind, serve: (*Handler).post}
		endpoints["/v1/"+name] = ep
		endpoints["/v1/"+name[:1]] = ep
	}
	for _, path := range []string{"/v1/batch", "/v1/b", "/v1/import"} {
		endpoints[path] = endpoint{name: "batch", batch: true, serve: (*Handler).post}
	}
}

const pixelPrefix = "/v1/pixel/"

// ServeHTTP answers a call of the tracking API.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	cors(w.Header(), r)
	path := strings.TrimSuffix(r.URL.Path, "/")
	ep, ok := endpoints[path]
	if !ok {
		if kind, isPixel := strings.CutPrefix(path, pixelPrefix); isPixel {
			k, _ := domain.ParseKind(kind)
			ep, ok = endpoint{name: "pixel", kind: k, serve: (*Handler).pixel}, true
		} else if _, isSettings := settingsKey(path); isSettings {
			ep, ok = endpoint{name: "settings", serve: (*Handler).settings}, true
		}
	}
	switch {
	case r.Method == http.MethodOptions:
		preflight(w)
	case !ok:
		h.refuse(w, r, refusal{status: http.StatusNotFound, code: "not_found", message: "there is no such endpoint of the tracking API"})
	default:
		h.metrics.requests.WithLabelValues(ep.name).Inc()
		ep.serve(h, w, r, ep)
	}
}

// allow answers 405 where the method is not one of those given.
func (h *Handler) allow(w http.ResponseWriter, r *http.Request, methods ...string) bool {
	for _, m := range methods {
		if r.Method == m {
			return true
		}
	}
	w.Header().Set("Allow", strings.Join(methods, ", ")+", OPTIONS")
	h.refuse(w, r, refusal{
		status: http.StatusMethodNotAllowed, code: "method_not_allowed",
		message: "this endpoint takes " + strings.Join(methods, " and "),
	})
	return false
}

func cors(header http.Header, r *http.Request) {
	header["Vary"] = varyOrigin
	origin := r.Header["Origin"]
	if len(origin) == 0 {
		return
	}
	header["Access-Control-Allow-Origin"] = origin[:1]
	header["Access-Control-Allow-Credentials"] = allowCredentials
	header["Access-Control-Expose-Headers"] = exposeHeaders
}

// Header values that never change; nobody writes to them.
var (
	varyOrigin       = []string{"Origin"}
	allowCredentials = []string{"true"}
	exposeHeaders    = []string{"Retry-After"}
	contentJSON      = []string{"application/json"}
)

func preflight(w http.ResponseWriter) {
	header := w.Header()
	header.Set("Access-Control-Allow-Methods", "GET, POST, OPTIONS")
	header.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, X-Retry-Count")
	header.Set("Access-Control-Max-Age", "900")
	header.Set("Allow", "GET, POST, OPTIONS")
	w.WriteHeader(http.StatusNoContent)
}

// discard takes what SDKs send about themselves and drops it.
func (h *Handler) discard(w http.ResponseWriter, r *http.Request, _ endpoint) {
	if h.allow(w, r, http.MethodPost) {
		h.succeed(w)
	}
}

var success = []byte(`{"success":true}`)

func (h *Handler) succeed(w http.ResponseWriter) {
	w.Header()["Content-Type"] = contentJSON
	_, _ = w.Write(success) // a client that has hung up has its answer elsewhere
}
