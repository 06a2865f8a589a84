package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"sojourn/automation/delivery"
	"sojourn/ingest/segmentapi"
)

// The limits of a connection. The tracking API and the API bound bodies and
// answers further.
const (
	headerTimeout = 10 * time.Second
	writeTimeout  = 90 * time.Second
	idleTimeout   = 2 * time.Minute
	maxHeader     = 64 << 10
	drainTimeout  = 5 * time.Second
	// newTimeout is how long, while the server stops, a connection may take to its first
	// request. Clients keep some in reserve, and Shutdown waits more than five seconds
	// for one.
	newTimeout = time.Second
)

// server is the HTTP server.
type server struct {
	http     *http.Server
	admin    http.Handler
	stopping atomic.Bool

	mu    sync.Mutex
	fresh map[net.Conn]struct{} // connections without a request so far
}

// newServer puts the handlers together. tracking is nil where no tracking calls are
// taken, certificate for plain HTTP, and unsubscribe where no address is known for its
// links.
func newServer(tracking, admin, unsubscribe http.Handler, certificate *tls.Certificate, log *slog.Logger) *server {
	s := &server{admin: admin, fresh: make(map[net.Conn]struct{})}
	mux := http.NewServeMux()
	if tracking != nil {
		for _, prefix := range segmentapi.Prefixes {
			mux.Handle(prefix, tracking)
		}
	}
	if unsubscribe != nil {
		mux.Handle(delivery.UnsubscribePath, unsubscribe)
	}
	mux.Handle("/", admin)
	s.http = &http.Server{
		Handler:           s.gate(mux),
		ReadHeaderTimeout: headerTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ConnState:         s.track,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	if certificate != nil {
		s.http.TLSConfig = &tls.Config{Certificates: []tls.Certificate{*certificate}, MinVersion: tls.VersionTLS12}
	}
	return s
}

// gate answers 503 while the server stops, so that a client tries again, at
// another server or after the start.
func (s *server) gate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.stopping.Load() {
			w.Header().Set("Connection", "close")
			w.Header().Set("Retry-After", "5")
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusServiceUnavailable)
			// A client that has gone cannot be told.
			_, _ = w.Write([]byte(`{"title":"Service Unavailable","status":503,"detail":"the server is stopping"}`))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// serve returns nil after stop.
func (s *server) serve(l net.Listener) error {
	var err error
	if s.http.TLSConfig != nil {
		err = s.http.ServeTLS(l, "", "")
	} else {
		err = s.http.Serve(l)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve: %w", err)
}

// track keeps fresh.
func (s *server) track(c net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if state == http.StateNew {
		s.fresh[c] = struct{}{}
	} else {
		delete(s.fresh, c)
	}
}

// closeFresh closes the connections on which no request has begun.
func (s *server) closeFresh() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.fresh {
		_ = c.Close() // gone already, or gone now
	}
}

// stop lets the requests under way end, and no new one begin.
func (s *server) stop() error {
	s.stopping.Store(true)
	if streams, ok := s.admin.(interface{ StopStreams() }); ok {
		streams.StopStreams()
	}
	ctx, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	defer time.AfterFunc(newTimeout, s.closeFresh).Stop()
	if err := s.http.Shutdown(ctx); err != nil {
		return errors.Join(fmt.Errorf("requests were still under way: %w", err), s.http.Close())
	}
	return nil
}

// loadCertificate reads the certificate; without files there is none.
func loadCertificate(cert, key string) (*tls.Certificate, error) {
	if cert == "" && key == "" {
		return nil, nil
	}
	c, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("TLS: %w; --tls-cert and --tls-key are PEM files of a certificate and its key", err)
	}
	return &c, nil
}
