package esdbstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"sojourn/eventstore"
)

// errClosed ends what waits when the store is closed.
var errClosed = eventstore.ErrClosed

// How long a call waits before it is tried again: at first and at most.
const (
	firstBackoff = 20 * time.Millisecond
	lastBackoff  = time.Second
)

// untilClose is a context that ends with Close, too.
func (s *Store) untilClose(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	if s.closing.Err() != nil {
		cancel(errClosed)
	}
	off := context.AfterFunc(s.closing, func() { cancel(errClosed) })
	return ctx, func() { off(); cancel(nil) }
}

// ended is why a context has ended.
func (s *Store) ended(ctx context.Context) error {
	if s.closing.Err() != nil {
		return errClosed
	}
	return ctx.Err()
}

// because is why a call ended with an error: its context, if that has ended.
func (s *Store) because(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return s.ended(ctx)
	}
	return err
}

// attempt is one try of a call at a node. Where it got somewhere before its
// error, the time for trying begins anew.
type attempt func(ctx context.Context, n *node) (progress bool, err error)

// do makes a call until it succeeds, cannot succeed, or has failed for
// Config.RetryFor. Calls must be repeatable. forever goes on as long as ctx.
func (s *Store) do(ctx context.Context, what string, forever bool, try attempt) error {
	ctx, cancel := s.untilClose(ctx)
	defer cancel()
	deadline := time.Now().Add(s.config.RetryFor)
	for wait := firstBackoff; ; wait = min(2*wait, lastBackoff) {
		if ctx.Err() != nil {
			return fmt.Errorf("%s: %w", what, s.ended(ctx))
		}
		progress := false
		n, err := s.cluster.get(ctx)
		if err == nil {
			progress, err = try(ctx, n)
			err = s.tried(n, err)
		} else {
			err = kind(err, nil)
		}
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%s: %w", what, s.ended(ctx))
		}
		var again *again
		if !errors.As(err, &again) {
			return fmt.Errorf("%s: %w", what, err)
		}
		if progress {
			wait, deadline = firstBackoff, time.Now().Add(s.config.RetryFor)
		}
		if !forever && time.Now().Add(wait).After(deadline) {
			return fmt.Errorf("%s: %w: %w: %w", what, eventstore.ErrUnavailable, again.kind, again.cause)
		}
		s.log.Warn("EventStoreDB does not answer, trying again", "doing", what, "error", again.cause)
		timer := time.NewTimer(wait/2 + rand.N(wait))
		select {
		case <-ctx.Done():
			timer.Stop()
		case <-timer.C:
		}
	}
}

// tried releases a node after an attempt, and leaves it where another may do
// better.
func (s *Store) tried(n *node, err error) error {
	defer n.release()
	if err == nil {
		return nil
	}
	var a *again
	if err = kind(err, nil); errors.As(err, &a) {
		switch {
		case a.leader != "":
			s.cluster.leave(n, a.leader)
		case !s.cluster.single():
			s.cluster.leave(n, "")
		}
	}
	return err
}

// again is an error that another try may not meet.
type again struct {
	kind   error  // ErrUnreachable, ErrReadOnly, …
	cause  error  // what was heard
	leader string // the node to try, where one was named
}

func (a *again) Error() string { return fmt.Sprintf("%v: %v", a.kind, a.cause) }

// kind makes of what gRPC says an *again, or one of the errors that are final.
func kind(err error, trailer metadata.MD) error {
	var a *again
	var lost *unreachable
	switch {
	case err == nil, errors.As(err, &a), errors.Is(err, errClosed):
		return err
	case errors.As(err, &lost):
		return &again{kind: ErrUnreachable, cause: err}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return &again{kind: ErrUnreachable, cause: errors.New("the node ended the call")}
	}
	value := func(key string) string {
		if v := trailer.Get(key); len(v) > 0 {
			return v[0]
		}
		return ""
	}
	switch value("exception") {
	case "not-leader":
		out := &again{kind: ErrReadOnly, cause: err}
		if host, port := value("leader-endpoint-host"), value("leader-endpoint-port"); host != "" && port != "" {
			out.leader = net.JoinHostPort(host, port)
		}
		return out
	case "access-denied":
		return fmt.Errorf("%w: %s", ErrDenied, status.Convert(err).Message())
	case "stream-deleted":
		return fmt.Errorf("the stream was deleted on the server, for ever: %s", status.Convert(err).Message())
	case "maximum-append-size-exceeded":
		return fmt.Errorf("%w: %s", eventstore.ErrTooLarge, status.Convert(err).Message())
	}
	st, ok := status.FromError(err)
	if !ok {
		return err
	}
	return ofStatus(st.Code(), st.Message(), err)
}

// ofStatus judges a status, of a call or of one part of a batch.
func ofStatus(code codes.Code, message string, err error) error {
	switch code {
	case codes.Unauthenticated, codes.PermissionDenied:
		return fmt.Errorf("%w: %s", ErrDenied, message)
	case codes.Unavailable, codes.DeadlineExceeded, codes.Aborted, codes.ResourceExhausted, codes.Canceled:
		return &again{kind: ErrUnreachable, cause: err}
	case codes.Unknown, codes.Internal, codes.FailedPrecondition, codes.OK:
		// A follower that knows no leader says it in words.
		lower := strings.ToLower(message)
		if strings.Contains(lower, "leader") || strings.Contains(lower, "read only") || strings.Contains(lower, "read-only") {
			return &again{kind: ErrReadOnly, cause: err}
		}
		for _, passing := range []string{"not ready", "too busy", "timed out", "timeout", "stream terminated", "rst_stream", "goaway"} {
			if strings.Contains(lower, passing) {
				return &again{kind: ErrUnreachable, cause: err}
			}
		}
	}
	return err
}
