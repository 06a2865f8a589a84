// Package esdbserver serves EventStoreDB's gRPC protocol over any event store:
// Streams, Gossip and ServerFeatures, as EventStoreDB 23.10 answers them.
//
// A position of the log is both the commit and the prepare position of an event.
// What the contract does not hold is told from what it holds: an event's content
// type is application/json where its data is valid JSON. The metadata of a
// stream lie in the stream "$$" and its name, as in EventStoreDB; a deleted
// stream is one whose metadata hide its events, which stay in the log.
//
// Streams that Config.Own names are read-only for everybody but a Worker, and
// nobody deletes them or gives them metadata that hide an event.
package esdbserver

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/gossip"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/serverfeatures"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"sojourn/eventstore"
)

// ProtocolVersion is the version of EventStoreDB whose protocol is served.
const ProtocolVersion = "23.10.0"

// maxMessage bounds one message in bytes: an event of 16 MiB and what is around it.
const maxMessage = 17 << 20

// Access is what a caller may do.
type Access int

// The kinds of access.
const (
	Denied  Access = iota // nothing
	Outside               // read everything, write streams that are nobody's
	Worker                // write every stream
)

// Config says what is served, and to whom.
type Config struct {
	// Store is the log. It stays the caller's to close, after the server's stop.
	Store eventstore.Store
	// Own says which streams outsiders may only read; nil means none.
	Own func(stream string) bool
	// Authorize says what the caller with these credentials may do; both are
	// empty where it sent none. Discovery (Gossip, ServerFeatures) is answered
	// without asking, because clients send no credentials with it. nil makes
	// everybody an outsider.
	Authorize func(user, password string) Access
	// TLS is nil for a server without it.
	TLS *tls.Config
	// Now is the clock that $maxAge is held against; nil means time.Now.
	Now func() time.Time
	// Logger gets what goes wrong inside; nil discards it.
	Logger *slog.Logger
}

// Server serves the protocol.
type Server struct {
	streams.UnimplementedStreamsServer

	config   Config
	store    eventstore.Store
	log      *slog.Logger
	now      func() time.Time
	grpc     *grpc.Server
	stopping context.Context // ends calls that would go on for ever
	stop     context.CancelFunc
	foreign  [64]sync.Mutex // one write at a time to each stream that is not Sojourn's
}

// New makes a server that does not listen yet.
func New(c Config) (*Server, error) {
	if c.Store == nil {
		return nil, errors.New("esdbserver: no store")
	}
	s := &Server{config: c, store: c.Store, log: c.Logger, now: c.Now}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	s.stopping, s.stop = context.WithCancel(context.Background())
	opts := []grpc.ServerOption{
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxSendMsgSize(maxMessage),
		grpc.InitialWindowSize(1 << 20),
		grpc.InitialConnWindowSize(4 << 20),
		// Clients ping every ten seconds, which gRPC takes for an attack unless told.
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 20 * time.Second}),
		grpc.ChainUnaryInterceptor(s.unary),
		grpc.ChainStreamInterceptor(s.streaming),
		grpc.UnknownServiceHandler(unimplemented),
	}
	if c.TLS != nil {
		opts = append(opts, grpc.Creds(credentials.NewTLS(c.TLS)))
	}
	s.grpc = grpc.NewServer(opts...)
	streams.RegisterStreamsServer(s.grpc, s)
	d := &discovery{now: s.now, id: uuid.New()}
	gossip.RegisterGossipServer(s.grpc, d)
	serverfeatures.RegisterServerFeaturesServer(s.grpc, d)
	return s, nil
}

// Serve answers the calls that come by a listener, which it closes. It returns
// nil after Stop.
func (s *Server) Serve(l net.Listener) error {
	if err := s.grpc.Serve(l); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serve EventStoreDB's protocol: %w", err)
	}
	return nil
}

// Stop ends subscriptions, lets other calls end, and returns when none is under
// way. What is still under way after a time is cut off.
func (s *Server) Stop(within time.Duration) {
	s.stop()
	timer := time.AfterFunc(within, s.grpc.Stop)
	defer timer.Stop()
	s.grpc.GracefulStop()
}

// accessKey finds a caller's Access in its context.
type accessKey struct{}

func access(ctx context.Context) Access {
	a, _ := ctx.Value(accessKey{}).(Access)
	return a
}

// authorize returns a context that carries what the caller may do.
func (s *Server) authorize(ctx context.Context, method string) (context.Context, error) {
	a := Outside
	discovery := strings.HasPrefix(method, "/"+gossip.Gossip_ServiceDesc.ServiceName+"/") ||
		strings.HasPrefix(method, "/"+serverfeatures.ServerFeatures_ServiceDesc.ServiceName+"/")
	if s.config.Authorize != nil && !discovery {
		user, password, err := basic(ctx)
		if err != nil {
			return nil, err
		}
		if a = s.config.Authorize(user, password); a == Denied {
			return nil, status.Error(codes.Unauthenticated, "these credentials are not known here: send the admin token as the password, with any user name")
		}
	}
	return context.WithValue(ctx, accessKey{}, a), nil
}

// basic reads the credentials of a call; without any, both are empty.
func basic(ctx context.Context) (user, password string, err error) {
	md, _ := metadata.FromIncomingContext(ctx)
	values := md.Get("authorization")
	if len(values) == 0 {
		return "", "", nil
	}
	scheme, rest, _ := strings.Cut(values[0], " ")
	if strings.EqualFold(scheme, "Basic") {
		if b, err := base64.StdEncoding.DecodeString(strings.TrimSpace(rest)); err == nil {
			if user, password, ok := strings.Cut(string(b), ":"); ok {
				return user, password, nil
			}
		}
	}
	return "", "", status.Error(codes.Unauthenticated, "only Basic credentials are known here")
}

func (s *Server) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	ctx, err := s.authorize(ctx, info.FullMethod)
	if err != nil {
		return nil, err
	}
	return next(ctx, req)
}

func (s *Server) streaming(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	ctx, err := s.authorize(stream.Context(), info.FullMethod)
	if err != nil {
		return err
	}
	return next(srv, &authorized{stream, ctx})
}

// authorized is a stream whose context says what its caller may do.
type authorized struct {
	grpc.ServerStream
	ctx context.Context
}

func (a *authorized) Context() context.Context { return a.ctx }

// untilStop is a context that ends with the server's stop, too.
func (s *Server) untilStop(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	off := context.AfterFunc(s.stopping, func() { cancel(errStopping) })
	return ctx, func() { off(); cancel(nil) }
}

// errStopping is the cause of a context that ended with the server's stop.
var errStopping = status.Error(codes.Unavailable, "the server is stopping")

// unimplemented answers the calls of the services that are not served.
func unimplemented(_ any, stream grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(stream)
	what := "this service"
	for part, name := range map[string]string{
		"persistent": "persistent subscriptions", "projections": "server-side projections",
		"users": "users", "operations": "operations such as scavenging", "monitoring": "monitoring",
	} {
		if strings.Contains(method, "."+part) {
			what = name
		}
	}
	return status.Errorf(codes.Unimplemented, "Sojourn does not serve %s (%s): it offers reads, appends and catch-up subscriptions", what, method)
}
