package esdbstore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/gossip"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/serverfeatures"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"sojourn/eventstore"
	"sojourn/eventstore/esdbserver"
)

// member is a node of a made-up cluster. What it is asked for beside appends is
// answered by another server, over the same log.
type member struct {
	streams.StreamsServer
	serverfeatures.UnimplementedServerFeaturesServer
	refuse func(trailer func(metadata.MD)) error // nil takes appends
	asked  atomic.Int64
	info   atomic.Pointer[gossip.ClusterInfo]
}

func (m *member) Append(s streams.Streams_AppendServer) error {
	m.asked.Add(1)
	if m.refuse != nil {
		return m.refuse(s.SetTrailer)
	}
	return m.StreamsServer.Append(s)
}

func (m *member) BatchAppend(s streams.Streams_BatchAppendServer) error {
	m.asked.Add(1)
	if m.refuse != nil {
		return m.refuse(s.SetTrailer)
	}
	return m.StreamsServer.BatchAppend(s)
}

// members is gossip under another name: a member has a Read already.
type members struct {
	gossip.UnimplementedGossipServer
	m *member
}

func (g members) Read(context.Context, *shared.Empty) (*gossip.ClusterInfo, error) {
	return g.m.info.Load(), nil
}

func (m *member) GetSupportedMethods(context.Context, *shared.Empty) (*serverfeatures.SupportedMethods, error) {
	return &serverfeatures.SupportedMethods{EventStoreServerVersion: "23.10.0", Methods: []*serverfeatures.SupportedMethod{
		{ServiceName: "event_store.client.streams.streams", MethodName: "batchappend"},
	}}, nil
}

// listen starts a member and returns its address.
func (m *member) listen(t testing.TB, log eventstore.Store) *net.TCPAddr {
	t.Helper()
	inner, err := esdbserver.New(esdbserver.Config{Store: log})
	if err != nil {
		t.Fatal(err)
	}
	m.StreamsServer = inner
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	streams.RegisterStreamsServer(server, m)
	gossip.RegisterGossipServer(server, members{m: m})
	serverfeatures.RegisterServerFeaturesServer(server, m)
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() {
		server.Stop()
		inner.Stop(time.Second)
	})
	return l.Addr().(*net.TCPAddr)
}

func about(state gossip.MemberInfo_VNodeState, a *net.TCPAddr) *gossip.MemberInfo {
	return &gossip.MemberInfo{State: state, IsAlive: true, HttpEndPoint: &gossip.EndPoint{Address: "127.0.0.1", Port: uint32(a.Port)}}
}

// TestNotLeader appends to a follower that names its leader.
func TestNotLeader(t *testing.T) {
	t.Parallel()
	for _, single := range []bool{false, true} {
		log, _ := behind(t)
		leader, follower := &member{}, &member{}
		at := leader.listen(t, log)
		follower.refuse = func(trailer func(metadata.MD)) error {
			trailer(metadata.Pairs("exception", "not-leader", "leader-endpoint-host", "127.0.0.1", "leader-endpoint-port", fmt.Sprint(at.Port)))
			return status.Error(codes.NotFound, "Leader info available")
		}
		s := open(t, Config{Connection: fmt.Sprintf("esdb://%s?tls=false", follower.listen(t, log)), SingleAppends: single})
		for i := range 3 {
			if res, err := s.Append(t.Context(), "s", nil, event(fmt.Sprint(i))); err != nil || res.Revision != uint64(i) {
				t.Fatalf("%+v, %v", res, err)
			}
		}
		if n := follower.asked.Load(); n != 1 {
			t.Errorf("the follower was asked %d times", n)
		}
		if leader.asked.Load() == 0 {
			t.Error("the leader was not asked")
		}
	}
}

func TestReadOnlyNode(t *testing.T) {
	t.Parallel()
	for _, single := range []bool{false, true} {
		log, _ := behind(t)
		replica := &member{refuse: func(func(metadata.MD)) error {
			return status.Error(codes.Unknown, "No leader info available in response")
		}}
		s := open(t, Config{
			Connection: fmt.Sprintf("esdb://%s?tls=false", replica.listen(t, log)), RetryFor: 100 * time.Millisecond, SingleAppends: single,
		})
		_, err := s.Append(t.Context(), "s", nil, event("a"))
		if !errors.Is(err, ErrReadOnly) || !errors.Is(err, eventstore.ErrUnavailable) {
			t.Errorf("%v", err)
		}
		if _, err := s.Head(t.Context()); err != nil {
			t.Errorf("reads do not work: %v", err)
		}
	}
}

// TestClusterFailsOver finds the leader by gossip, loses it, and finds the next.
func TestClusterFailsOver(t *testing.T) {
	t.Parallel()
	log, _ := behind(t)
	first, second := &member{}, &member{}
	a, b := first.listen(t, log), second.listen(t, log)
	tell := func(leader, follower *net.TCPAddr, alive bool) {
		info := &gossip.ClusterInfo{Members: []*gossip.MemberInfo{about(gossip.MemberInfo_Follower, follower), about(gossip.MemberInfo_Leader, leader)}}
		info.Members[0].IsAlive = alive
		first.info.Store(info)
		second.info.Store(info)
	}
	tell(a, b, true)
	s := open(t, Config{Connection: fmt.Sprintf("esdb://%s,%s?tls=false", a, b)})
	if _, err := s.Append(t.Context(), "s", nil, event("1")); err != nil {
		t.Fatal(err)
	}
	if first.asked.Load() == 0 || second.asked.Load() != 0 {
		t.Fatalf("the leader was asked %d times, the follower %d", first.asked.Load(), second.asked.Load())
	}
	tell(b, a, false)
	s.batch.mu.Lock()
	s.batch.link.end(&again{kind: ErrUnreachable, cause: errors.New("the test ends it")})
	s.batch.mu.Unlock()
	n, err := s.cluster.get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.tried(n, &again{kind: ErrUnreachable, cause: errors.New("the leader is gone")}); err == nil {
		t.Fatal("no error")
	}
	if res, err := s.Append(t.Context(), "s", nil, event("2")); err != nil || res.Revision != 1 {
		t.Fatalf("%+v, %v", res, err)
	}
	if second.asked.Load() == 0 {
		t.Error("the new leader was not asked")
	}
}
