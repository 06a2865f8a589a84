package esdbserver

import (
	"fmt"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// raw is a client of the generated stubs.
func (f *fixture) raw(t testing.TB) streams.StreamsClient {
	t.Helper()
	conn, err := grpc.NewClient(f.address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return streams.NewStreamsClient(conn)
}

// proposals makes the events of an append.
func proposals(names ...string) (out []*streams.BatchAppendReq_ProposedMessage) {
	for _, n := range names {
		e := named(n)
		out = append(out, &streams.BatchAppendReq_ProposedMessage{
			Id: structured(e.EventID), Metadata: map[string]string{"type": e.EventType, "content-type": "application/json"}, Data: e.Data,
		})
	}
	return out
}

func to(stream string) *streams.BatchAppendReq_Options {
	return &streams.BatchAppendReq_Options{
		StreamIdentifier:       identifier(stream),
		ExpectedStreamPosition: &streams.BatchAppendReq_Options_Any{Any: &emptypb.Empty{}},
	}
}

func TestBatchAppend(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	f.say(t, "own-1", "a")
	call, err := f.raw(t).BatchAppend(deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	at := func(o *streams.BatchAppendReq_Options, revision uint64) *streams.BatchAppendReq_Options {
		o.ExpectedStreamPosition = &streams.BatchAppendReq_Options_StreamPosition{StreamPosition: revision}
		return o
	}
	none := func(o *streams.BatchAppendReq_Options) *streams.BatchAppendReq_Options {
		o.ExpectedStreamPosition = &streams.BatchAppendReq_Options_NoStream{NoStream: &emptypb.Empty{}}
		return o
	}
	late, lateToo := to("free"), to("free")
	late.DeadlineOption = &streams.BatchAppendReq_Options_Deadline_21_10_0{Deadline_21_10_0: timestamppb.New(time.Now().Add(-time.Second))}
	lateToo.DeadlineOption = &streams.BatchAppendReq_Options_Deadline{Deadline: durationpb.New(-time.Second)}
	untyped := proposals("u")
	untyped[0].Metadata = nil
	steps := []struct {
		options *streams.BatchAppendReq_Options
		events  []*streams.BatchAppendReq_ProposedMessage
		want    string
	}{
		{none(to("free")), proposals("b", "c"), "revision 1 at 3"},
		{at(to("free"), 1), proposals("d"), "revision 2 at 4"},
		{at(to("free"), 1), proposals("x"), "WrongExpectedVersion"},
		{at(to("free"), 1), proposals("d"), "revision 2 at 4"}, // again
		{none(to("other")), proposals("e"), "revision 0 at 5"},
		{to("own-1"), proposals("x"), "AccessDenied"},
		{to("$$own-1"), proposals("x"), "AccessDenied"},
		{to("$all"), proposals("x"), "AccessDenied"},
		{late, proposals("x"), "Timeout"},
		{lateToo, proposals("x"), "Timeout"},
		{to(""), proposals("x"), "BadRequest"},
		{to("free"), untyped, "Unknown"},
		{nil, proposals("x"), "BadRequest"},
		{to("free"), nil, "nothing"},
	}
	// All are sent before the first answer is read; the answers come in order.
	for i, step := range steps {
		id := structured(uuid.UUID{15: byte(i)})
		messages := []*streams.BatchAppendReq{{CorrelationId: id, Options: step.options, IsFinal: true, ProposedMessages: step.events}}
		if len(step.events) == 2 { // in two messages, another append in between
			messages = []*streams.BatchAppendReq{
				{CorrelationId: id, Options: step.options, ProposedMessages: step.events[:1]},
				{CorrelationId: id, ProposedMessages: step.events[1:], IsFinal: true},
			}
		}
		for _, m := range messages {
			if err := call.Send(m); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := call.CloseSend(); err != nil {
		t.Fatal(err)
	}
	for i, step := range steps {
		resp, err := call.Recv()
		if err != nil {
			t.Fatal(err)
		}
		id, err := parseID(resp.GetCorrelationId())
		if err != nil || id[15] != byte(i) {
			t.Fatalf("answer %d is to %v, %v", i, id, err)
		}
		got := "nothing"
		if p, ok := resp.GetSuccess().GetCurrentRevisionOption().(*streams.BatchAppendResp_Success_CurrentRevision); ok {
			got = fmt.Sprintf("revision %d at %d", p.CurrentRevision, resp.GetSuccess().GetPosition().GetCommitPosition())
		}
		if e := resp.GetError(); e != nil {
			got = string(e.GetDetails()[0].MessageName().Name())
		}
		if got != step.want {
			t.Errorf("append %d: %s (%v), want %s", i, got, resp.GetError().GetMessage(), step.want)
		}
		if wrong := new(shared.WrongExpectedVersion); got == "WrongExpectedVersion" {
			if err := resp.GetError().GetDetails()[0].UnmarshalTo(wrong); err != nil || wrong.GetCurrentStreamRevision() != 2 || wrong.GetExpectedStreamPosition() != 1 {
				t.Errorf("%v, %v", wrong, err)
			}
		}
	}
	c := f.client(t, "")
	r, err := c.ReadAll(deadline(t), esdb.ReadAllOptions{From: esdb.Start{}}, 100)
	if got := told(t, r, err); got != "a b c d e" {
		t.Errorf("the log holds %q", got)
	}
}

// TestBatchAppendOwn appends what waits for the log together.
func TestBatchAppendOwn(t *testing.T) {
	t.Parallel()
	f := start(t, func(c *Config) { c.Authorize = func(string, string) Access { return Worker } })
	call, err := f.raw(t).BatchAppend(deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	const total = 3_000 // more than are appended together
	sent := make(chan error, 1)
	go func() {
		defer close(sent)
		for i := range total {
			name := fmt.Sprint(i)
			err := call.Send(&streams.BatchAppendReq{
				CorrelationId: structured(uuid.UUID{0: 1, 14: byte(i >> 8), 15: byte(i)}), Options: to(fmt.Sprint("own-", i%5)),
				ProposedMessages: proposals(name), IsFinal: true,
			})
			if err != nil {
				sent <- err
				return
			}
		}
	}()
	for i := range total {
		resp, err := call.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if s := resp.GetSuccess(); s.GetPosition().GetCommitPosition() != uint64(i+1) || s.GetCurrentRevision() != uint64(i/5) {
			t.Fatalf("answer %d: %v", i, resp)
		}
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
}

// TestBatchAppendBounds begins more than a server keeps.
func TestBatchAppendBounds(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	call, err := f.raw(t).BatchAppend(deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	big := func(n byte, options *streams.BatchAppendReq_Options) *streams.BatchAppendReq {
		return &streams.BatchAppendReq{CorrelationId: structured(uuid.UUID{15: n}), Options: options, ProposedMessages: []*streams.BatchAppendReq_ProposedMessage{{
			Id: structured(uuid.New()), Metadata: map[string]string{"type": "t"}, Data: make([]byte, 15<<20),
		}}}
	}
	// One append grows above the limit of appends, and three above that of what is
	// begun.
	for range 5 {
		if err := call.Send(big(1, to("large"))); err != nil {
			t.Fatal(err)
		}
	}
	for n := byte(2); n < 5; n++ {
		for range 4 {
			if err := call.Send(big(n, to("many"))); err != nil {
				t.Fatal(err)
			}
		}
	}
	for n, want := range map[byte]string{1: "MaximumAppendSizeExceeded", 4: "Server Is Too Busy"} {
		if err := call.Send(&streams.BatchAppendReq{CorrelationId: structured(uuid.UUID{15: n}), IsFinal: true}); err != nil {
			t.Fatal(err)
		}
		resp, err := call.Recv()
		if err != nil {
			t.Fatal(err)
		}
		e := resp.GetError()
		if e == nil || string(e.GetDetails()[0].MessageName().Name()) != want && e.GetMessage() != want {
			t.Errorf("append %d: %v, want %s", n, resp, want)
		}
	}
	if head, err := f.store.Head(deadline(t)); err != nil || head != 0 {
		t.Errorf("head %d, %v", head, err)
	}
}

// TestReadIDsAsText reads with ids in the form that JavaScript asks for.
func TestReadIDsAsText(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	f.say(t, "own-1", "a")
	call, err := f.raw(t).Read(deadline(t), &streams.ReadReq{Options: &streams.ReadReq_Options{
		StreamOption: &streams.ReadReq_Options_Stream{Stream: &streams.ReadReq_Options_StreamOptions{StreamIdentifier: identifier("own-1")}},
		CountOption:  &streams.ReadReq_Options_Count{Count: 1},
		UuidOption:   &streams.ReadReq_Options_UUIDOption{Content: &streams.ReadReq_Options_UUIDOption_String_{String_: &shared.Empty{}}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := call.Recv()
	if err != nil {
		t.Fatal(err)
	}
	if got := resp.GetEvent().GetEvent().GetId().GetString_(); got != named("a").EventID.String() {
		t.Errorf("the id is %q", got)
	}
}
