package esdbserver

import (
	"context"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/gossip"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/serverfeatures"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// discovery answers what clients ask before anything else.
type discovery struct {
	gossip.UnimplementedGossipServer
	serverfeatures.UnimplementedServerFeaturesServer

	now func() time.Time
	id  uuid.UUID
}

// GetSupportedMethods lists what is served.
func (d *discovery) GetSupportedMethods(context.Context, *shared.Empty) (*serverfeatures.SupportedMethods, error) {
	out := &serverfeatures.SupportedMethods{EventStoreServerVersion: ProtocolVersion}
	for _, desc := range []grpc.ServiceDesc{streams.Streams_ServiceDesc, gossip.Gossip_ServiceDesc, serverfeatures.ServerFeatures_ServiceDesc} {
		add := func(method string) {
			out.Methods = append(out.Methods, &serverfeatures.SupportedMethod{
				ServiceName: strings.ToLower(desc.ServiceName), MethodName: strings.ToLower(method),
			})
		}
		for _, m := range desc.Methods {
			add(m.MethodName)
		}
		for _, m := range desc.Streams {
			add(m.StreamName)
		}
	}
	return out, nil
}

// Read answers with a cluster of one, at the address by which the caller came.
func (d *discovery) Read(ctx context.Context, _ *shared.Empty) (*gossip.ClusterInfo, error) {
	var known []string
	if md, ok := metadata.FromIncomingContext(ctx); ok {
		known = md.Get(":authority")
	}
	if p, ok := peer.FromContext(ctx); ok && p.LocalAddr != nil {
		known = append(known, p.LocalAddr.String())
	}
	for _, address := range known {
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			continue
		}
		number, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			continue
		}
		return &gossip.ClusterInfo{Members: []*gossip.MemberInfo{{
			InstanceId: structured(d.id), TimeStamp: ticks(d.now()), State: gossip.MemberInfo_Leader, IsAlive: true,
			HttpEndPoint: &gossip.EndPoint{Address: host, Port: uint32(number)},
		}}}, nil
	}
	return nil, status.Errorf(codes.FailedPrecondition, "the address of this server is not to be told from the call (%q)", known)
}
