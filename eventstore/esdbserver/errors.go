package esdbserver

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"

	"sojourn/eventstore"
)

// maxAppendBytes bounds the events of one append.
const maxAppendBytes = 64 << 20

// failure is an error as EventStoreDB's clients read it: a status, what stands
// in the trailers of a call, and the detail of a batch's answer.
type failure struct {
	code     codes.Code
	message  string
	trailers []string // keys and values
	detail   proto.Message
}

func (f *failure) Error() string { return f.message }

// GRPCStatus is what gRPC answers with.
func (f *failure) GRPCStatus() *status.Status { return status.New(f.code, f.message) }

// status is the answer to one part of a batch. Clients read a detail always.
func (f *failure) status() *rpcstatus.Status {
	detail := f.detail
	if detail == nil {
		detail = &shared.Unknown{}
	}
	out := &rpcstatus.Status{Code: int32(f.code), Message: f.message}
	if packed, err := anypb.New(detail); err == nil {
		out.Details = append(out.Details, packed)
	}
	return out
}

func invalid(format string, args ...any) *failure {
	text := fmt.Sprintf(format, args...)
	return &failure{code: codes.InvalidArgument, message: text, detail: &shared.BadRequest{Message: text}}
}

func accessDenied(stream, why string) *failure {
	return &failure{
		code: codes.PermissionDenied, message: fmt.Sprintf("access to stream %q denied: %s", stream, why),
		trailers: []string{"exception", "access-denied"}, detail: &shared.AccessDenied{},
	}
}

func streamDeleted(stream string) *failure {
	return &failure{
		code: codes.FailedPrecondition, message: fmt.Sprintf("stream %q is deleted", stream),
		trailers: []string{"exception", "stream-deleted", "stream-name", stream},
		detail:   &shared.StreamDeleted{StreamIdentifier: identifier(stream)},
	}
}

func tooLarge() *failure {
	return &failure{
		code: codes.InvalidArgument, message: fmt.Sprintf("the append, or a name in it, is too large: at most %d bytes are taken", maxAppendBytes),
		trailers: []string{"exception", "maximum-append-size-exceeded", "maximum-append-size", strconv.Itoa(maxAppendBytes)},
		detail:   &shared.MaximumAppendSizeExceeded{MaxAppendSize: maxAppendBytes},
	}
}

func deadlinePassed() *failure {
	return &failure{code: codes.DeadlineExceeded, message: "the deadline passed before the append began", detail: &shared.Timeout{}}
}

func missingMetadata(property string) *failure {
	return &failure{
		code: codes.InvalidArgument, message: fmt.Sprintf("an event has no %q in its metadata", property),
		trailers: []string{"exception", "missing-required-metadata-property", "required-metadata-properties", property},
	}
}

// wrongVersion is the failure of a delete or a batch; Append answers otherwise.
func wrongVersion(e *eventstore.WrongRevisionError) *failure {
	expected := "-2" // as EventStoreDB numbers what is no revision
	detail := &shared.WrongExpectedVersion{}
	switch x := e.Expected.(type) {
	case eventstore.Revision:
		expected = strconv.FormatUint(uint64(x), 10)
		detail.ExpectedStreamPositionOption = &shared.WrongExpectedVersion_ExpectedStreamPosition{ExpectedStreamPosition: uint64(x)}
	case eventstore.NoStream:
		expected = "-1"
		detail.ExpectedStreamPositionOption = &shared.WrongExpectedVersion_ExpectedNoStream{ExpectedNoStream: &emptypb.Empty{}}
	case eventstore.StreamExists:
		expected = "-4"
		detail.ExpectedStreamPositionOption = &shared.WrongExpectedVersion_ExpectedStreamExists{ExpectedStreamExists: &emptypb.Empty{}}
	default:
		detail.ExpectedStreamPositionOption = &shared.WrongExpectedVersion_ExpectedAny{ExpectedAny: &emptypb.Empty{}}
	}
	trailers := []string{"exception", "wrong-expected-version", "stream-name", e.Stream, "expected-version", expected}
	detail.CurrentStreamRevisionOption = &shared.WrongExpectedVersion_CurrentNoStream{CurrentNoStream: &emptypb.Empty{}}
	if e.Exists {
		trailers = append(trailers, "actual-version", strconv.FormatUint(e.Actual, 10))
		detail.CurrentStreamRevisionOption = &shared.WrongExpectedVersion_CurrentStreamRevision{CurrentStreamRevision: e.Actual}
	}
	return &failure{code: codes.FailedPrecondition, message: e.Error(), trailers: trailers, detail: detail}
}

// failed turns any error into one that clients understand.
func (s *Server) failed(ctx context.Context, err error) *failure {
	var f *failure
	var wrong *eventstore.WrongRevisionError
	switch {
	case errors.As(err, &f):
		return f
	case errors.As(err, &wrong):
		return wrongVersion(wrong)
	case errors.Is(err, eventstore.ErrTooLarge):
		return tooLarge()
	case errors.Is(err, eventstore.ErrOverloaded):
		return &failure{code: codes.Unavailable, message: "Server Is Too Busy"}
	case errors.Is(err, eventstore.ErrClosed):
		return &failure{code: codes.Unavailable, message: "the server is stopping"}
	case errors.Is(err, eventstore.ErrUnavailable):
		return &failure{code: codes.Unavailable, message: "the log cannot be written to: " + err.Error()}
	case s.stopping.Err() != nil:
		return &failure{code: codes.Unavailable, message: "the server is stopping"}
	case errors.Is(err, context.DeadlineExceeded):
		return &failure{code: codes.DeadlineExceeded, message: "the deadline has passed", detail: &shared.Timeout{}}
	case ctx.Err() != nil:
		return &failure{code: codes.Canceled, message: "the call was cancelled"}
	}
	if st, ok := status.FromError(err); ok { // of sending and receiving
		return &failure{code: st.Code(), message: st.Message()}
	}
	s.log.Error("a call of EventStoreDB's protocol failed", "error", err)
	return &failure{code: codes.Internal, message: "internal error: " + err.Error()}
}

// trailer is what tells clients the kind of a failure.
func (f *failure) trailer() metadata.MD { return metadata.Pairs(f.trailers...) }
