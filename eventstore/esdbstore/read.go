package esdbstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"strconv"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"sojourn/eventstore"
)

// everything is the count of a read that has no bound.
const everything = math.MaxInt64

// notSystem leaves EventStoreDB's own streams out.
func notSystem() *streams.ReadReq_Options_Filter {
	return &streams.ReadReq_Options_Filter{Filter: &streams.ReadReq_Options_FilterOptions{
		Filter: &streams.ReadReq_Options_FilterOptions_StreamIdentifier{
			StreamIdentifier: &streams.ReadReq_Options_FilterOptions_Expression{Regex: `^[^\$]`},
		},
		Window:                       &streams.ReadReq_Options_FilterOptions_Max{Max: 1024},
		CheckpointIntervalMultiplier: 1,
	}}
}

func options() *streams.ReadReq_Options {
	return &streams.ReadReq_Options{UuidOption: &streams.ReadReq_Options_UUIDOption{
		Content: &streams.ReadReq_Options_UUIDOption_Structured{Structured: &shared.Empty{}},
	}}
}

// allRequest reads the log from a position on, which must be an event's: that
// event comes first.
func allRequest(after eventstore.Position, count uint64) *streams.ReadReq {
	o := options()
	all := &streams.ReadReq_Options_AllOptions{AllOption: &streams.ReadReq_Options_AllOptions_Start{Start: &shared.Empty{}}}
	if after > 0 {
		all.AllOption = &streams.ReadReq_Options_AllOptions_Position{
			Position: &streams.ReadReq_Options_Position{CommitPosition: uint64(after), PreparePosition: uint64(after)},
		}
	}
	o.StreamOption = &streams.ReadReq_Options_All{All: all}
	o.CountOption = &streams.ReadReq_Options_Count{Count: count}
	o.FilterOption = notSystem()
	return &streams.ReadReq{Options: o}
}

// headRequest reads the last event of the log.
func headRequest() *streams.ReadReq {
	r := allRequest(0, 1)
	r.Options.ReadDirection = streams.ReadReq_Options_Backwards
	r.Options.StreamOption = &streams.ReadReq_Options_All{All: &streams.ReadReq_Options_AllOptions{
		AllOption: &streams.ReadReq_Options_AllOptions_End{End: &shared.Empty{}},
	}}
	return r
}

// followRequest subscribes to the log from behind a position.
func followRequest(after eventstore.Position) *streams.ReadReq {
	r := allRequest(after, 0)
	r.Options.CountOption = &streams.ReadReq_Options_Subscription{Subscription: &streams.ReadReq_Options_SubscriptionOptions{}}
	return r
}

func streamRequest(stream string, from uint64, dir eventstore.Direction, count uint64) *streams.ReadReq {
	o := options()
	so := &streams.ReadReq_Options_StreamOptions{StreamIdentifier: &shared.StreamIdentifier{StreamName: []byte(stream)}}
	switch {
	case dir == eventstore.Backwards && from == eventstore.End:
		so.RevisionOption = &streams.ReadReq_Options_StreamOptions_End{End: &shared.Empty{}}
	case dir == eventstore.Forwards && from == 0:
		so.RevisionOption = &streams.ReadReq_Options_StreamOptions_Start{Start: &shared.Empty{}}
	default:
		// EventStoreDB numbers revisions as signed integers.
		so.RevisionOption = &streams.ReadReq_Options_StreamOptions_Revision{Revision: min(from, math.MaxInt64)}
	}
	if dir == eventstore.Backwards {
		o.ReadDirection = streams.ReadReq_Options_Backwards
	}
	o.StreamOption = &streams.ReadReq_Options_Stream{Stream: so}
	o.CountOption = &streams.ReadReq_Options_Count{Count: count}
	o.FilterOption = &streams.ReadReq_Options_NoFilter{NoFilter: &shared.Empty{}}
	return &streams.ReadReq{Options: o}
}

// errStop is returned by those who have seen enough; read then ends without an
// error.
var errStop = errors.New("enough")

// read makes a call of Read and visits its events. eventstore.ErrStreamNotFound
// is returned where the server says so.
func (s *Store) read(ctx context.Context, n *node, req *streams.ReadReq, visit func(*eventstore.Recorded) error) error {
	err := s.receive(ctx, n, req, func(m *streams.ReadResp) error {
		switch c := m.GetContent().(type) {
		case *streams.ReadResp_Event:
			e, err := fromServer(c.Event)
			if err != nil {
				return err
			}
			return visit(&e)
		case *streams.ReadResp_StreamNotFound_:
			return eventstore.ErrStreamNotFound
		}
		return nil // positions that newer servers tell beside
	})
	if errors.Is(err, errStop) {
		return nil
	}
	return err
}

// receive makes a call of Read and visits its messages.
func (s *Store) receive(ctx context.Context, n *node, req *streams.ReadReq, visit func(*streams.ReadResp) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var trailer metadata.MD
	call, err := n.streams.Read(ctx, req, grpc.Trailer(&trailer))
	if err != nil {
		return kind(err, nil)
	}
	for {
		m, err := call.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return kind(err, call.Trailer())
		}
		if err := visit(m); err != nil {
			return err
		}
	}
}

// fromServer reads an event.
func fromServer(r *streams.ReadResp_ReadEvent) (eventstore.Recorded, error) {
	e := r.GetEvent()
	out := eventstore.Recorded{
		NewEvent: eventstore.NewEvent{Type: e.GetMetadata()["type"], Metadata: e.GetCustomMetadata(), Data: e.GetData()},
		Stream:   string(e.GetStreamIdentifier().GetStreamName()),
		Revision: e.GetStreamRevision(),
		Position: eventstore.Position(e.GetCommitPosition()),
	}
	if c, ok := r.GetPosition().(*streams.ReadResp_ReadEvent_CommitPosition); ok {
		out.Position = eventstore.Position(c.CommitPosition)
	}
	if out.Position == math.MaxUint64 {
		return out, fmt.Errorf("the server does not tell the position of event %d of stream %q: EventStoreDB 22.10 or later is needed", out.Revision, out.Stream)
	}
	switch id := e.GetId().GetValue().(type) {
	case *shared.UUID_Structured_:
		binary.BigEndian.PutUint64(out.ID[:8], uint64(id.Structured.GetMostSignificantBits()))
		binary.BigEndian.PutUint64(out.ID[8:], uint64(id.Structured.GetLeastSignificantBits()))
	case *shared.UUID_String_:
		var err error
		if out.ID, err = uuid.Parse(id.String_); err != nil {
			return out, fmt.Errorf("the id of the event at position %d: %w", out.Position, err)
		}
	}
	ticks, err := strconv.ParseInt(e.GetMetadata()["created"], 10, 64)
	if err != nil {
		return out, fmt.Errorf("the time of the event at position %d: %w", out.Position, err)
	}
	out.RecordedAt = time.UnixMilli(ticks / 10_000).UTC()
	return out, nil
}

// ReadStream yields the events of a stream.
func (s *Store) ReadStream(ctx context.Context, stream string, from uint64, dir eventstore.Direction) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		from, seen := from, false
		s.yield(ctx, "read a stream", yield, func(ctx context.Context, n *node, each func(*eventstore.Recorded) error) error {
			if seen && dir == eventstore.Backwards && from == eventstore.End { // below the first
				return nil
			}
			err := s.read(ctx, n, streamRequest(stream, from, dir, everything), func(e *eventstore.Recorded) error {
				seen = true
				if from = e.Revision + 1; dir == eventstore.Backwards {
					from = e.Revision - 1
				}
				return each(e)
			})
			if errors.Is(err, eventstore.ErrStreamNotFound) && !seen {
				return fmt.Errorf("stream %q: %w", stream, err)
			}
			return err
		})
	}
}

// ReadAll yields the events of the log. EventStoreDB asks that after be 0 or the
// position of an event.
func (s *Store) ReadAll(ctx context.Context, after eventstore.Position) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		after := after
		s.yield(ctx, "read the log", yield, func(ctx context.Context, n *node, each func(*eventstore.Recorded) error) error {
			return s.read(ctx, n, allRequest(after, everything), func(e *eventstore.Recorded) error {
				if e.Position <= after {
					return nil
				}
				after = e.Position
				return each(e)
			})
		})
	}
}

// yield yields what a reading visits. The reading goes on where it stood when it
// is called again, after a drop.
func (s *Store) yield(
	ctx context.Context, what string, yield func(eventstore.Recorded, error) bool,
	reading func(ctx context.Context, n *node, each func(*eventstore.Recorded) error) error,
) {
	left := false
	err := s.do(ctx, what, false, func(ctx context.Context, n *node) (progress bool, err error) {
		err = reading(ctx, n, func(e *eventstore.Recorded) error {
			progress = true
			if s.index != nil { // a Reader has none
				if err := s.index.complete(ctx, e); err != nil {
					return s.because(ctx, err)
				}
			}
			if !yield(*e, nil) {
				left = true
				return errStop
			}
			return nil
		})
		return progress, err
	})
	if err != nil && !left {
		yield(eventstore.Recorded{}, err)
	}
}

// Head is the position of the last event.
func (s *Store) Head(ctx context.Context) (eventstore.Position, error) {
	head := eventstore.Position(0)
	err := s.do(ctx, "read the head of the log", false, func(ctx context.Context, n *node) (bool, error) {
		ctx, cancel := context.WithTimeout(ctx, s.deadline)
		defer cancel()
		return false, s.read(ctx, n, headRequest(), func(e *eventstore.Recorded) error {
			head = e.Position
			return errStop
		})
	})
	return head, err
}

// Wait returns when the log holds an event behind a position. While no node
// answers, it waits.
func (s *Store) Wait(ctx context.Context, after eventstore.Position) error {
	ctx, cancel := s.untilClose(ctx)
	defer cancel()
	if ctx.Err() != nil {
		return s.ended(ctx)
	}
	return s.because(ctx, s.index.wait(ctx, func() bool { return s.index.last > after }))
}
