package esdbserver

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"golang.org/x/sync/semaphore"
	"google.golang.org/protobuf/types/known/emptypb"

	"sojourn/eventstore"
)

// Limits of the appends of one call that wait for the log.
const (
	batchParts = 1024    // appended together at most
	batchBytes = 4 << 20 // appended together at most, but for a single larger one
	openParts  = 4096    // begun and not final
	openBytes  = 2 * maxAppendBytes
	queueBytes = 2 * maxAppendBytes // final and not answered; above it no more is read
)

// batchPart is one append of a call.
type batchPart struct {
	id       *shared.UUID
	part     eventstore.Append
	deadline time.Time // zero for none
	bytes    int
	err      error // why it is not tried
}

// BatchAppend appends what comes by one call to any number of streams, and
// answers each append by its correlation id once it is durable. What waits
// together is appended together, in the order in which it became final.
func (s *Server) BatchAppend(call streams.Streams_BatchAppendServer) error {
	ctx, cancel := s.untilStop(call.Context())
	defer cancel()
	parts := make(chan *batchPart, batchParts)
	room := semaphore.NewWeighted(queueBytes)
	received := make(chan error, 1)
	// The goroutine ends with the call: Recv returns once its handler has.
	go func() {
		err := s.receive(ctx, call, parts, room)
		close(parts)
		received <- err
	}()
	err := s.appendParts(ctx, call, parts, room)
	if err == nil {
		// The parts have ended: so has what came in.
		if err = <-received; errors.Is(err, io.EOF) {
			return nil
		}
	}
	f := s.failed(ctx, err)
	call.SetTrailer(f.trailer())
	return f
}

// receive puts the appends of a call together and hands over the final ones.
// The error is io.EOF where the caller has no more.
func (s *Server) receive(ctx context.Context, call streams.Streams_BatchAppendServer, parts chan<- *batchPart, room *semaphore.Weighted) error {
	begun := 0 // bytes of what is open
	open := make(map[string]*batchPart)
	for {
		req, err := call.Recv()
		if err != nil {
			return err
		}
		id, err := parseID(req.GetCorrelationId())
		if err != nil {
			return err
		}
		p := open[string(id[:])]
		if p == nil {
			if len(open) == openParts {
				return invalid("more than %d appends are begun and not final", openParts)
			}
			p = &batchPart{id: req.GetCorrelationId()}
			open[string(id[:])] = p
			p.err = s.begin(ctx, p, req.GetOptions())
		}
		for _, m := range req.GetProposedMessages() {
			if p.err != nil {
				break
			}
			var e eventstore.NewEvent
			if e, p.err = newEvent(m); p.err != nil {
				break
			}
			p.bytes += size(e)
			begun += size(e)
			if p.bytes > maxAppendBytes {
				p.err = tooLarge()
			} else if begun > openBytes {
				p.err = eventstore.ErrOverloaded
			}
			p.part.Events = append(p.part.Events, e)
		}
		if p.err != nil {
			begun -= p.bytes
			p.part.Events, p.bytes = nil, 0
		}
		if !req.GetIsFinal() {
			continue
		}
		delete(open, string(id[:]))
		begun -= p.bytes
		if err := room.Acquire(ctx, int64(p.bytes)); err != nil {
			return context.Cause(ctx)
		}
		select {
		case parts <- p:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// begin takes the options of an append.
func (s *Server) begin(ctx context.Context, p *batchPart, o *streams.BatchAppendReq_Options) error {
	p.part.Stream = string(o.GetStreamIdentifier().GetStreamName())
	switch x := o.GetExpectedStreamPosition().(type) {
	case *streams.BatchAppendReq_Options_StreamPosition:
		p.part.Expected = eventstore.Revision(x.StreamPosition)
	case *streams.BatchAppendReq_Options_NoStream:
		p.part.Expected = eventstore.NoStream{}
	case *streams.BatchAppendReq_Options_StreamExists:
		p.part.Expected = eventstore.StreamExists{}
	case *streams.BatchAppendReq_Options_Any:
		p.part.Expected = eventstore.Any{}
	default:
		return invalid("an append begins with its options: the stream and the expected position")
	}
	switch x := o.GetDeadlineOption().(type) {
	case *streams.BatchAppendReq_Options_Deadline_21_10_0:
		p.deadline = x.Deadline_21_10_0.AsTime()
	case *streams.BatchAppendReq_Options_Deadline:
		p.deadline = s.now().Add(x.Deadline.AsDuration())
	}
	return s.mayWrite(ctx, p.part.Stream)
}

// appendParts appends what is ready, until no more comes.
func (s *Server) appendParts(ctx context.Context, call streams.Streams_BatchAppendServer, parts <-chan *batchPart, room *semaphore.Weighted) error {
	for {
		var p *batchPart
		select {
		case p = <-parts:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if p == nil { // closed: no more comes
			return nil
		}
		ready, bytes := []*batchPart{p}, p.bytes
	gather:
		for len(ready) < batchParts && bytes < batchBytes {
			select {
			case more, ok := <-parts:
				if !ok {
					break gather
				}
				ready = append(ready, more)
				bytes += more.bytes
			default:
				break gather
			}
		}
		results := make([]eventstore.Result, len(ready))
		s.appendReady(ctx, ready, results)
		for i, p := range ready {
			if err := call.Send(s.batchAnswer(ctx, p, results[i])); err != nil {
				return err
			}
			room.Release(int64(p.bytes))
		}
	}
}

// appendReady appends parts in their order: Sojourn's streams together, each
// other stream by itself.
func (s *Server) appendReady(ctx context.Context, ready []*batchPart, results []eventstore.Result) {
	var together []eventstore.Append
	var places []int
	flush := func() {
		if len(together) == 0 {
			return
		}
		res, err := s.store.AppendMany(ctx, together)
		for i, at := range places {
			if err != nil {
				results[at].Err = err
			} else {
				results[at] = res[i]
			}
		}
		together, places = together[:0], places[:0]
	}
	for i, p := range ready {
		switch {
		case p.err != nil:
			results[i].Err = p.err
		case !p.deadline.IsZero() && s.now().After(p.deadline):
			results[i].Err = deadlinePassed()
		case s.own(p.part.Stream):
			together, places = append(together, p.part), append(places, i)
		default:
			flush()
			unlock := s.lock(p.part.Stream)
			res, err := s.writeForeign(ctx, p.part)
			unlock()
			results[i] = res
			results[i].Err = err
		}
	}
	flush()
}

// batchAnswer is what became of a part.
func (s *Server) batchAnswer(ctx context.Context, p *batchPart, res eventstore.Result) *streams.BatchAppendResp {
	out := &streams.BatchAppendResp{CorrelationId: p.id, StreamIdentifier: identifier(p.part.Stream)}
	switch x := p.part.Expected.(type) {
	case eventstore.Revision:
		out.ExpectedStreamPosition = &streams.BatchAppendResp_StreamPosition{StreamPosition: uint64(x)}
	case eventstore.NoStream:
		out.ExpectedStreamPosition = &streams.BatchAppendResp_NoStream{NoStream: &emptypb.Empty{}}
	case eventstore.StreamExists:
		out.ExpectedStreamPosition = &streams.BatchAppendResp_StreamExists{StreamExists: &emptypb.Empty{}}
	default:
		out.ExpectedStreamPosition = &streams.BatchAppendResp_Any{Any: &emptypb.Empty{}}
	}
	if res.Err != nil {
		out.Result = &streams.BatchAppendResp_Error{Error: s.failed(ctx, res.Err).status()}
		return out
	}
	success := &streams.BatchAppendResp_Success{}
	if res.Position == 0 {
		success.CurrentRevisionOption = &streams.BatchAppendResp_Success_NoStream{NoStream: &emptypb.Empty{}}
		success.PositionOption = &streams.BatchAppendResp_Success_NoPosition{NoPosition: &emptypb.Empty{}}
	} else {
		at := uint64(res.Position)
		success.CurrentRevisionOption = &streams.BatchAppendResp_Success_CurrentRevision{CurrentRevision: res.Revision}
		success.PositionOption = &streams.BatchAppendResp_Success_Position{Position: &shared.AllStreamPosition{CommitPosition: at, PreparePosition: at}}
	}
	out.Result = &streams.BatchAppendResp_Success_{Success: success}
	return out
}
