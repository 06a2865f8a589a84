package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/prometheus/client_golang/prometheus"

	"sojourn/domain"
)

// writeProblem answers with an RFC 9457 problem.
func writeProblem(w http.ResponseWriter, status int, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	// A client that is gone cannot be told.
	_ = json.NewEncoder(w).Encode(&huma.ErrorModel{Title: http.StatusText(status), Status: status, Detail: detail})
}

// cutProblem cuts what a problem repeats of the request, where the framework has
// put it there whole. Of a request that holds a secret it repeats nothing.
func cutProblem(ctx huma.Context, _ string, v any) (any, error) {
	p, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	if op := ctx.Operation(); op != nil && op.Metadata[holdsSecret] != nil {
		for _, d := range p.Errors {
			d.Value = nil
		}
	}
	for _, d := range p.Errors {
		d.Location = domain.Excerpt(d.Location)
		if value, ok := d.Value.(string); ok {
			d.Value = domain.Excerpt(value)
		} else if text, err := json.Marshal(d.Value); err == nil {
			if cut := domain.Excerpt(string(text)); len(cut) < len(text) {
				d.Value = cut
			}
		}
	}
	return p, nil
}

// problems answers what the mux knows no handler for as a problem: 404, or 405
// with the methods that are allowed.
func problems(mux *http.ServeMux, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h, pattern := mux.Handler(r)
		if pattern != "" {
			next.ServeHTTP(w, r)
			return
		}
		// The mux's own answer knows which of the two it is, and what to allow.
		probe := &statusOnly{header: http.Header{}}
		h.ServeHTTP(probe, r)
		if allow := probe.header.Get("Allow"); probe.status == http.StatusMethodNotAllowed {
			w.Header().Set("Allow", allow)
			writeProblem(w, probe.status, fmt.Sprintf("%s is not allowed here; allowed: %s", r.Method, allow))
			return
		}
		writeProblem(w, http.StatusNotFound, "there is nothing at "+domain.Excerpt(r.URL.Path)+"; /openapi.json lists what there is")
	})
}

// statusOnly is a ResponseWriter that keeps the status and drops the body.
type statusOnly struct {
	header http.Header
	status int
}

func (s *statusOnly) Header() http.Header { return s.header }
func (s *statusOnly) WriteHeader(code int) {
	if s.status == 0 {
		s.status = code
	}
}

func (s *statusOnly) Write(b []byte) (int, error) {
	s.WriteHeader(http.StatusOK)
	return len(b), nil
}

// measure counts requests by route and answers a panic with 500.
func measure(reg prometheus.Registerer, mux *http.ServeMux, log *slog.Logger) (http.Handler, error) {
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "sojourn_api_requests_total", Help: "Requests to the API by route and status.",
	}, []string{"route", "status"})
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "sojourn_api_request_seconds", Help: "Time from a request to the end of its answer.",
		Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
	}, []string{"route"})
	for _, c := range []prometheus.Collector{requests, seconds} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register the metrics of the API: %w", err)
		}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		sw := &statusWriter{ResponseWriter: w}
		defer func() {
			if p := recover(); p != nil {
				log.Error("api: panic", "panic", p, "stack", string(debug.Stack()))
				if sw.status == 0 {
					writeProblem(sw, http.StatusInternalServerError, "the server made a mistake; its log says which")
				}
			}
			route := r.Pattern
			if _, path, ok := strings.Cut(route, " "); ok {
				route = r.Method + " " + path
			}
			requests.WithLabelValues(route, strconv.Itoa(max(sw.status, 200))).Inc()
			seconds.WithLabelValues(route).Observe(time.Since(start).Seconds())
		}()
		mux.ServeHTTP(sw, r)
	}), nil
}

// statusWriter remembers the status of an answer.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(code int) {
	if w.status == 0 {
		w.status = code
	}
	w.ResponseWriter.WriteHeader(code)
}

func (w *statusWriter) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// readBody takes in the body before anything is done with it, in bounded time
// and size.
func readBody(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Body == nil || r.Body == http.NoBody {
			next.ServeHTTP(w, r)
			return
		}
		rc := http.NewResponseController(w)
		// A test's recorder knows no deadlines.
		_ = rc.SetReadDeadline(time.Now().Add(bodyTimeout))
		b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		_ = rc.SetReadDeadline(time.Time{})
		var tooLarge *http.MaxBytesError
		switch {
		case errors.As(err, &tooLarge):
			writeProblem(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("a body may have %d bytes at most", maxBody))
			return
		case errors.Is(err, os.ErrDeadlineExceeded):
			writeProblem(w, http.StatusRequestTimeout, fmt.Sprintf("the body did not arrive within %v", bodyTimeout))
			return
		case err != nil:
			writeProblem(w, http.StatusBadRequest, "the body broke off")
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(b))
		next.ServeHTTP(w, r)
	})
}
