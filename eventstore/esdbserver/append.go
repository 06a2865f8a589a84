package esdbserver

import (
	"context"
	"errors"
	"io"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"sojourn/eventstore"
)

// Append appends what a call sends to one stream.
func (s *Server) Append(call streams.Streams_AppendServer) error {
	ctx := call.Context()
	resp, err := s.append(ctx, call)
	if err == nil {
		return call.SendAndClose(resp)
	}
	f := s.failed(ctx, err)
	call.SetTrailer(f.trailer())
	return f
}

func (s *Server) append(ctx context.Context, call streams.Streams_AppendServer) (*streams.AppendResp, error) {
	first, err := call.Recv()
	if err != nil {
		return nil, err
	}
	o := first.GetOptions()
	part := eventstore.Append{Stream: string(o.GetStreamIdentifier().GetStreamName())}
	switch x := o.GetExpectedStreamRevision().(type) {
	case *streams.AppendReq_Options_Revision:
		part.Expected = eventstore.Revision(x.Revision)
	case *streams.AppendReq_Options_NoStream:
		part.Expected = eventstore.NoStream{}
	case *streams.AppendReq_Options_StreamExists:
		part.Expected = eventstore.StreamExists{}
	case *streams.AppendReq_Options_Any:
		part.Expected = eventstore.Any{}
	default:
		return nil, invalid("an append begins with its options: the stream and the expected revision")
	}
	if err := s.mayWrite(ctx, part.Stream); err != nil {
		return nil, err
	}
	for bytes := 0; ; {
		req, err := call.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if req.GetProposedMessage() == nil {
			return nil, invalid("the options of an append come once")
		}
		e, err := newEvent(req.GetProposedMessage())
		if err != nil {
			return nil, err
		}
		if bytes += size(e); bytes > maxAppendBytes {
			return nil, tooLarge()
		}
		part.Events = append(part.Events, e)
	}
	res, err := s.write(ctx, part)
	var wrong *eventstore.WrongRevisionError
	if errors.As(err, &wrong) {
		return &streams.AppendResp{Result: &streams.AppendResp_WrongExpectedVersion_{WrongExpectedVersion: appendWrong(wrong)}}, nil
	}
	if err != nil {
		return nil, err
	}
	success := &streams.AppendResp_Success{}
	if res.Position == 0 { // nothing was asked for
		success.CurrentRevisionOption = &streams.AppendResp_Success_NoStream{NoStream: &shared.Empty{}}
		success.PositionOption = &streams.AppendResp_Success_NoPosition{NoPosition: &shared.Empty{}}
	} else {
		at := uint64(res.Position)
		success.CurrentRevisionOption = &streams.AppendResp_Success_CurrentRevision{CurrentRevision: res.Revision}
		success.PositionOption = &streams.AppendResp_Success_Position{Position: &streams.AppendResp_Position{CommitPosition: at, PreparePosition: at}}
	}
	return &streams.AppendResp{Result: &streams.AppendResp_Success_{Success: success}}, nil
}

// appendWrong says it twice: as clients before 20.6.1 read it, and as later ones.
func appendWrong(e *eventstore.WrongRevisionError) *streams.AppendResp_WrongExpectedVersion {
	out := &streams.AppendResp_WrongExpectedVersion{}
	empty := &shared.Empty{}
	switch x := e.Expected.(type) {
	case eventstore.Revision:
		out.ExpectedRevisionOption = &streams.AppendResp_WrongExpectedVersion_ExpectedRevision{ExpectedRevision: uint64(x)}
		out.ExpectedRevisionOption_20_6_0 = &streams.AppendResp_WrongExpectedVersion_ExpectedRevision_20_6_0{ExpectedRevision_20_6_0: uint64(x)}
	case eventstore.NoStream:
		out.ExpectedRevisionOption = &streams.AppendResp_WrongExpectedVersion_ExpectedNoStream{ExpectedNoStream: empty}
	case eventstore.StreamExists:
		out.ExpectedRevisionOption = &streams.AppendResp_WrongExpectedVersion_ExpectedStreamExists{ExpectedStreamExists: empty}
		out.ExpectedRevisionOption_20_6_0 = &streams.AppendResp_WrongExpectedVersion_StreamExists_20_6_0{StreamExists_20_6_0: empty}
	default:
		out.ExpectedRevisionOption = &streams.AppendResp_WrongExpectedVersion_ExpectedAny{ExpectedAny: empty}
		out.ExpectedRevisionOption_20_6_0 = &streams.AppendResp_WrongExpectedVersion_Any_20_6_0{Any_20_6_0: empty}
	}
	if e.Exists {
		out.CurrentRevisionOption = &streams.AppendResp_WrongExpectedVersion_CurrentRevision{CurrentRevision: e.Actual}
		out.CurrentRevisionOption_20_6_0 = &streams.AppendResp_WrongExpectedVersion_CurrentRevision_20_6_0{CurrentRevision_20_6_0: e.Actual}
	} else {
		out.CurrentRevisionOption = &streams.AppendResp_WrongExpectedVersion_CurrentNoStream{CurrentNoStream: empty}
		out.CurrentRevisionOption_20_6_0 = &streams.AppendResp_WrongExpectedVersion_NoStream_20_6_0{NoStream_20_6_0: empty}
	}
	return out
}

// own says whether a stream, or the one whose metadata it holds, is Sojourn's.
func (s *Server) own(stream string) bool {
	if s.config.Own == nil {
		return false
	}
	of, _ := metadataOf(stream)
	return s.config.Own(stream) || s.config.Own(of)
}

// mayWrite refuses a write that the caller is not allowed.
func (s *Server) mayWrite(ctx context.Context, stream string) error {
	if stream == "" {
		return invalid("a stream needs a name")
	}
	if stream == "$all" {
		return accessDenied(stream, "it is all streams, and is written by writing them")
	}
	if s.own(stream) {
		if _, meta := metadataOf(stream); meta {
			return accessDenied(stream, "Sojourn's streams take no metadata")
		}
		if access(ctx) != Worker {
			return accessDenied(stream, "Sojourn writes it, and everybody else reads it")
		}
	}
	return nil
}

// write appends to one stream for a caller that may.
func (s *Server) write(ctx context.Context, p eventstore.Append) (eventstore.Result, error) {
	if s.own(p.Stream) {
		return s.store.Append(ctx, p.Stream, p.Expected, p.Events...)
	}
	defer s.lock(p.Stream)()
	return s.writeForeign(ctx, p)
}

// Delete hides the events of a stream that is not Sojourn's.
func (s *Server) Delete(ctx context.Context, req *streams.DeleteReq) (*streams.DeleteResp, error) {
	o := req.GetOptions()
	var expected eventstore.Expected
	switch x := o.GetExpectedStreamRevision().(type) {
	case *streams.DeleteReq_Options_Revision:
		expected = eventstore.Revision(x.Revision)
	case *streams.DeleteReq_Options_NoStream:
		expected = eventstore.NoStream{}
	case *streams.DeleteReq_Options_StreamExists:
		expected = eventstore.StreamExists{}
	}
	at, err := s.remove(ctx, string(o.GetStreamIdentifier().GetStreamName()), expected, false)
	if err != nil {
		return nil, s.withTrailer(ctx, err)
	}
	return &streams.DeleteResp{PositionOption: &streams.DeleteResp_Position_{Position: &streams.DeleteResp_Position{CommitPosition: at, PreparePosition: at}}}, nil
}

// Tombstone ends a stream that is not Sojourn's, for ever.
func (s *Server) Tombstone(ctx context.Context, req *streams.TombstoneReq) (*streams.TombstoneResp, error) {
	o := req.GetOptions()
	var expected eventstore.Expected
	switch x := o.GetExpectedStreamRevision().(type) {
	case *streams.TombstoneReq_Options_Revision:
		expected = eventstore.Revision(x.Revision)
	case *streams.TombstoneReq_Options_NoStream:
		expected = eventstore.NoStream{}
	case *streams.TombstoneReq_Options_StreamExists:
		expected = eventstore.StreamExists{}
	}
	at, err := s.remove(ctx, string(o.GetStreamIdentifier().GetStreamName()), expected, true)
	if err != nil {
		return nil, s.withTrailer(ctx, err)
	}
	return &streams.TombstoneResp{PositionOption: &streams.TombstoneResp_Position_{Position: &streams.TombstoneResp_Position{CommitPosition: at, PreparePosition: at}}}, nil
}

func (s *Server) withTrailer(ctx context.Context, err error) error {
	f := s.failed(ctx, err)
	if err := grpc.SetTrailer(ctx, f.trailer()); err != nil {
		return &failure{code: codes.Internal, message: err.Error()}
	}
	return f
}
