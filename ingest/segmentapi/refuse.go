package segmentapi

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sojourn/eventstore"
	"sojourn/ingest"
)

// refusal is an answer other than success.
type refusal struct {
	status     int
	code       ingest.Code
	message    string
	retryAfter string // seconds
}

func (f refusal) Error() string { return f.message }

// The refusals of the tracking API.
var (
	errMissingKey = refusal{
		status: http.StatusUnauthorized, code: "missing_write_key",
		message: `send the write key as the user of Basic authorization or as "writeKey" in the body`,
	}
	errWrongKey = refusal{status: http.StatusUnauthorized, code: "invalid_write_key", message: "the write key is unknown or revoked"}
	errNoJSON   = refusal{status: http.StatusBadRequest, code: "invalid_json", message: "the body is not valid JSON"}
	errNoBatch  = refusal{status: http.StatusBadRequest, code: "invalid_batch", message: errBatch.Error()}
	errTooLarge = refusal{
		status: http.StatusBadRequest, code: "batch_too_large",
		message: "the body has more than 524288 bytes after decompression",
	}
	errEncoding   = refusal{status: http.StatusBadRequest, code: "unsupported_encoding", message: "the body's Content-Encoding must be gzip or none"}
	errGzip       = refusal{status: http.StatusBadRequest, code: "invalid_gzip", message: "the body is not valid gzip"}
	errIncomplete = refusal{status: http.StatusBadRequest, code: "incomplete_body", message: "the body ended before its length"}
	errSlow       = refusal{status: http.StatusRequestTimeout, code: "body_timeout", message: "the body took too long to arrive"}
	errOverloaded = refusal{
		status: http.StatusTooManyRequests, code: "overloaded",
		message: "the server is busy: come again in a moment", retryAfter: "1",
	}
	errStopping = refusal{status: http.StatusServiceUnavailable, code: "stopping", message: "the server is stopping: come again in a moment"}
	errKeysAway = refusal{
		status: http.StatusServiceUnavailable, code: "keys_unavailable",
		message: "the write key is not known here and the event store cannot be asked now: come again", retryAfter: "5",
	}
	errAway = refusal{
		status: http.StatusServiceUnavailable, code: "unavailable",
		message: "messages cannot be kept now: come again", retryAfter: "5",
	}
	errUnavailable = refusal{status: http.StatusServiceUnavailable, code: "unavailable", message: "the event store does not take events"}
)

// refusalOf is the answer to an error of the ingest service. ours says that it
// is one to look into.
func refusalOf(err error) (f refusal, ours bool) {
	switch {
	case errors.Is(err, ingest.ErrNoSuchKey):
		return errWrongKey, false
	case errors.Is(err, ingest.ErrKeysAway):
		return errKeysAway, false
	case errors.Is(err, ingest.ErrAway):
		return errAway, false
	case errors.Is(err, ingest.ErrOverloaded), errors.Is(err, eventstore.ErrOverloaded):
		return errOverloaded, false
	case errors.Is(err, ingest.ErrStopping), errors.Is(err, eventstore.ErrClosed):
		return errStopping, false
	case errors.As(err, &f):
		return f, false
	}
	return errUnavailable, true
}

// refuse answers with a refusal, counts it and logs it by reason.
func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, f refusal) {
	h.note(r, f)
	header := w.Header()
	if f.retryAfter != "" {
		header.Set("Retry-After", f.retryAfter)
	}
	header["Content-Type"] = contentJSON
	body, err := json.Marshal(struct {
		Success bool        `json:"success"`
		Code    ingest.Code `json:"code"`
		Message string      `json:"message"`
	}{false, f.code, f.message})
	if err != nil {
		h.logger.Error("write an answer", slog.Any("error", err))
	}
	w.WriteHeader(f.status)
	_, _ = w.Write(body) // as in succeed
}

func (h *Handler) note(r *http.Request, f refusal) {
	h.metrics.refused.WithLabelValues(string(f.code)).Inc()
	if left, ok := h.quiet.pass(f.code); ok {
		h.logger.LogAttrs(r.Context(), slog.LevelWarn, "tracking call refused",
			slog.String("reason", string(f.code)), slog.Int("status", f.status),
			slog.String("method", r.Method), slog.Int("not_logged", left))
	}
}

// list puts a refused body beside the rejects, where its source is known.
func (h *Handler) list(ctx context.Context, source string, body []byte, f refusal) {
	if source == "" || f.status != http.StatusBadRequest {
		return
	}
	err := h.service.Refuse(ctx, ingest.Refusal{
		Source: source, Status: f.status, Code: f.code, Reason: f.message,
		ReceivedAt: h.service.Now(), Body: body,
	})
	if err != nil {
		h.logger.LogAttrs(ctx, slog.LevelError, "refused call not listed", slog.String("reason", string(f.code)), slog.Any("error", err))
	}
}

// quiet lets one line a second and reason into the log, so that a broken client
// does not fill it.
type quiet struct {
	mu   sync.Mutex
	last map[ingest.Code]time.Time
	left map[ingest.Code]int
}

func (q *quiet) pass(code ingest.Code) (left int, ok bool) {
	now := time.Now()
	q.mu.Lock()
	defer q.mu.Unlock()
	if last, seen := q.last[code]; seen && now.Sub(last) < time.Second {
		q.left[code]++
		return 0, false
	}
	if q.last == nil {
		q.last, q.left = make(map[ingest.Code]time.Time), make(map[ingest.Code]int)
	}
	left = q.left[code]
	q.last[code], q.left[code] = now, 0
	return left, true
}

type metrics struct {
	requests, refused *prometheus.CounterVec
	bytes             prometheus.Counter
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sojourn_tracking_requests_total", Help: "Calls of the tracking API, by endpoint.",
		}, []string{"endpoint"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sojourn_tracking_refused_total", Help: "Calls of the tracking API that were refused, by reason.",
		}, []string{"reason"}),
		bytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sojourn_tracking_bytes_total", Help: "Bytes of the bodies of the tracking API, after decompression.",
		}),
	}
	if r != nil {
		r.MustRegister(m.requests, m.refused, m.bytes)
	}
	return m
}
