package esdbstore

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/gossip"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/serverfeatures"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
)

// maxMessage bounds one message in bytes: an event of 16 MiB and what is around it.
const maxMessage = 17 << 20

// cluster finds the node to speak to, and another one when that is needed.
type cluster struct {
	conf *esdb.Configuration
	more []grpc.DialOption
	log  *slog.Logger

	finding chan struct{} // holds one token while nobody looks for a node
	mu      sync.Mutex
	node    *node  // nil where one must be found
	leader  string // what a node has named, to be tried first
	closed  bool
}

// node is one server and the connection to it.
type node struct {
	streams streams.StreamsClient
	address string
	batch   bool // it offers BatchAppend

	conn    *grpc.ClientConn
	mu      sync.Mutex
	users   int
	retired bool
}

func newCluster(conf *esdb.Configuration, more []grpc.DialOption, log *slog.Logger) *cluster {
	c := &cluster{conf: conf, more: more, log: log, finding: make(chan struct{}, 1)}
	c.finding <- struct{}{}
	return c
}

// get returns the node to speak to. The caller releases it.
func (c *cluster) get(ctx context.Context) (*node, error) {
	if n, err := c.current(); n != nil || err != nil {
		return n, err
	}
	select {
	case <-c.finding:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { c.finding <- struct{}{} }()
	if n, err := c.current(); n != nil || err != nil {
		return n, err
	}
	found, err := c.find(ctx)
	if err != nil {
		return nil, err
	}
	found.users = 1
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, errors.Join(errClosed, found.conn.Close())
	}
	c.node, c.leader = found, ""
	return found, nil
}

func (c *cluster) current() (*node, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, errClosed
	}
	if c.node != nil {
		c.node.mu.Lock()
		c.node.users++
		c.node.mu.Unlock()
	}
	return c.node, nil
}

// release gives a node back. One that is left is closed with its last user.
func (n *node) release() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.users--; n.users == 0 && n.retired {
		_ = n.conn.Close() // nobody speaks to it any more
	}
}

// leave stops using a node: the next get looks for another, first at leader if
// that is named.
func (c *cluster) leave(n *node, leader string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.node != n {
		return
	}
	c.node, c.leader = nil, leader
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.retired = true; n.users == 0 {
		_ = n.conn.Close()
	}
}

func (c *cluster) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if c.node != nil {
		_ = c.node.conn.Close() // what is under way ends with it
	}
}

// single says that there is only one address to speak to. gRPC restores a
// connection to it by itself.
func (c *cluster) single() bool { return !c.conf.DnsDiscover && len(c.conf.GossipSeeds) == 0 }

// find looks for a node once.
func (c *cluster) find(ctx context.Context) (*node, error) {
	c.mu.Lock()
	leader := c.leader
	c.leader = ""
	c.mu.Unlock()
	if leader != "" {
		if n, err := c.connect(ctx, leader); err == nil {
			return n, nil
		}
	}
	if c.single() {
		return c.connect(ctx, c.conf.Address)
	}
	seeds := []string{c.conf.Address}
	if len(c.conf.GossipSeeds) > 0 {
		seeds = seeds[:0]
		for _, s := range c.conf.GossipSeeds {
			seeds = append(seeds, s.String())
		}
	}
	rand.Shuffle(len(seeds), func(i, j int) { seeds[i], seeds[j] = seeds[j], seeds[i] })
	var errs []error
	for _, seed := range seeds {
		address, err := c.ask(ctx, seed)
		if err == nil {
			var n *node
			if n, err = c.connect(ctx, address); err == nil {
				return n, nil
			}
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		errs = append(errs, fmt.Errorf("%s: %w", seed, err))
	}
	return nil, &unreachable{errors.Join(errs...)}
}

// unreachable is a discovery that found no node.
type unreachable struct{ error }

func (u *unreachable) Unwrap() error { return u.error }

// dial makes a connection, which is not opened before its first call.
func (c *cluster) dial(address string) (*grpc.ClientConn, error) {
	transport := insecure.NewCredentials()
	if !c.conf.DisableTLS {
		t := &tls.Config{InsecureSkipVerify: c.conf.SkipCertificateVerification, RootCAs: c.conf.RootCAs, MinVersion: tls.VersionTLS12}
		if c.conf.UserCertFile != "" {
			own, err := tls.LoadX509KeyPair(c.conf.UserCertFile, c.conf.UserKeyFile)
			if err != nil {
				return nil, fmt.Errorf("load the user certificate: %w", err)
			}
			t.Certificates = []tls.Certificate{own}
		}
		transport = credentials.NewTLS(t)
	}
	opts := []grpc.DialOption{
		grpc.WithTransportCredentials(transport),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)),
		grpc.WithInitialWindowSize(1 << 20),
		grpc.WithInitialConnWindowSize(4 << 20),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: 5 * time.Second,
		}),
	}
	if c.conf.KeepAliveInterval >= 0 {
		opts = append(opts, grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: c.conf.KeepAliveInterval, Timeout: c.conf.KeepAliveTimeout, PermitWithoutStream: true,
		}))
	}
	if !c.conf.DisableTLS && c.conf.Username != "" {
		opts = append(opts, grpc.WithPerRPCCredentials(basicAuth("Basic "+
			base64.StdEncoding.EncodeToString([]byte(c.conf.Username+":"+c.conf.Password)))))
	}
	return grpc.NewClient(address, append(opts, c.more...)...)
}

// basicAuth sends credentials with each call, over TLS only.
type basicAuth string

func (b basicAuth) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": string(b)}, nil
}

func (basicAuth) RequireTransportSecurity() bool { return true }

// timeout bounds one question of discovery.
func (c *cluster) timeout(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, time.Duration(c.conf.GossipTimeout)*time.Second)
}

// connect opens a connection to a node and asks what it offers.
func (c *cluster) connect(ctx context.Context, address string) (*node, error) {
	conn, err := c.dial(address)
	if err != nil {
		return nil, err
	}
	n := &node{conn: conn, streams: streams.NewStreamsClient(conn), address: address}
	asking, cancel := c.timeout(ctx)
	defer cancel()
	methods, err := serverfeatures.NewServerFeaturesClient(conn).GetSupportedMethods(asking, &shared.Empty{})
	switch code := status.Code(err); {
	case code == codes.Unimplemented || code == codes.NotFound: // before 21.10
	case err != nil:
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, errors.Join(err, conn.Close())
	}
	for _, m := range methods.GetMethods() {
		if m.GetServiceName() == "event_store.client.streams.streams" && m.GetMethodName() == "batchappend" {
			n.batch = true
		}
	}
	c.log.Info("connected to EventStoreDB", "address", address, "version", methods.GetEventStoreServerVersion(), "batch_append", n.batch)
	return n, nil
}

// ask asks a seed for the best node of its cluster.
func (c *cluster) ask(ctx context.Context, seed string) (string, error) {
	conn, err := c.dial(seed)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	asking, cancel := c.timeout(ctx)
	defer cancel()
	info, err := gossip.NewGossipClient(conn).Read(asking, &shared.Empty{})
	if err != nil {
		return "", err
	}
	best := pick(info.GetMembers(), c.conf.NodePreference)
	if best == nil {
		return "", errors.New("no member of the cluster is alive and serves")
	}
	end := best.GetHttpEndPoint()
	return net.JoinHostPort(end.GetAddress(), strconv.FormatUint(uint64(end.GetPort()), 10)), nil
}

// pick chooses a member: the most preferred kind, else any that serves.
func pick(members []*gossip.MemberInfo, prefer esdb.NodePreference) *gossip.MemberInfo {
	rank := func(s gossip.MemberInfo_VNodeState) int {
		order := []gossip.MemberInfo_VNodeState{
			gossip.MemberInfo_Leader, gossip.MemberInfo_Follower, gossip.MemberInfo_ReadOnlyReplica,
			gossip.MemberInfo_PreReadOnlyReplica, gossip.MemberInfo_ReadOnlyLeaderless,
		}
		for i, o := range order {
			if s != o {
				continue
			}
			switch {
			case prefer == esdb.NodePreferenceFollower && o == gossip.MemberInfo_Follower,
				prefer == esdb.NodePreferenceReadOnlyReplica && i >= 2:
				return i
			case prefer == esdb.NodePreferenceRandom:
				return 0
			}
			return len(order) + i
		}
		return -1
	}
	var best *gossip.MemberInfo
	for _, i := range rand.Perm(len(members)) {
		m := members[i]
		r := rank(m.GetState())
		if !m.GetIsAlive() || r < 0 {
			continue
		}
		if best == nil || r < rank(best.GetState()) {
			best = m
		}
	}
	return best
}

// withoutText takes a connection string, and the password in it, out of an error.
func withoutText(err error, connection string) error {
	text := strings.ReplaceAll(err.Error(), connection, "…")
	if u, parseErr := url.Parse(connection); parseErr == nil && u.User != nil {
		if p, ok := u.User.Password(); ok && p != "" {
			text = strings.ReplaceAll(text, p, "…")
		}
	} else if parseErr != nil && strings.Contains(connection, "@") {
		return errors.New("it cannot be parsed")
	}
	return errors.New(text)
}
