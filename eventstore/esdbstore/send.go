package esdbstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
	"github.com/tidwall/gjson"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"

	"sojourn/eventstore"
)

// errMoved says that a stream is not where it was decided to be.
var errMoved = errors.New("the stream has moved on")

// errNoAnswer says that a part of a batch was not answered in time.
var errNoAnswer = errors.New("no answer to an append in time")

// reasonWithin is how long a call that has ended while it was sent is asked for
// the reason.
const reasonWithin = time.Second

// answer is what the server says to a request.
type answer struct {
	position eventstore.Position // of the last event; 0 where it is not told
	err      error               // errMoved, eventstore.ErrTooLarge, *again, …
}

// send sends requests in their order and returns the answers.
func (s *Store) send(ctx context.Context, n *node, requests []request) ([]answer, error) {
	if len(requests) == 0 {
		return nil, nil
	}
	if n.batch && !s.config.SingleAppends {
		return s.batch.send(ctx, n, requests)
	}
	answers := make([]answer, len(requests))
	for i := range requests {
		answers[i] = s.sendOne(ctx, n, &requests[i])
		if a := answers[i].err; a != nil && !errors.Is(a, errMoved) && !errors.Is(a, eventstore.ErrTooLarge) {
			return answers[:i], a
		}
	}
	return answers, nil
}

// leaderOnly asks a node of a cluster to name the leader rather than to pass a
// write on.
func (s *Store) leaderOnly(ctx context.Context) context.Context {
	if s.cluster.single() {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, "requires-leader", "true")
}

func wireID(id uuid.UUID) *shared.UUID {
	return &shared.UUID{Value: &shared.UUID_Structured_{Structured: &shared.UUID_Structured{
		MostSignificantBits:  int64(binary.BigEndian.Uint64(id[:8])),
		LeastSignificantBits: int64(binary.BigEndian.Uint64(id[8:])),
	}}}
}

// systemMetadata is what the server keeps beside an event. The content type is
// for the server's own tools.
func systemMetadata(e *eventstore.NewEvent) map[string]string {
	content := "application/octet-stream"
	if gjson.ValidBytes(e.Data) {
		content = "application/json"
	}
	return map[string]string{"type": e.Type, "content-type": content}
}

// sendOne appends by a call of its own.
func (s *Store) sendOne(ctx context.Context, n *node, r *request) answer {
	ctx, cancel := context.WithTimeout(s.leaderOnly(ctx), s.deadline)
	defer cancel()
	call, err := n.streams.Append(ctx)
	if err != nil {
		return answer{err: kind(err, nil)}
	}
	o := &streams.AppendReq_Options{StreamIdentifier: &shared.StreamIdentifier{StreamName: []byte(r.stream)}}
	if x, ok := r.expected.(eventstore.Revision); ok {
		o.ExpectedStreamRevision = &streams.AppendReq_Options_Revision{Revision: uint64(x)}
	} else {
		o.ExpectedStreamRevision = &streams.AppendReq_Options_NoStream{NoStream: &shared.Empty{}}
	}
	err = call.Send(&streams.AppendReq{Content: &streams.AppendReq_Options_{Options: o}})
	for i := 0; i < len(r.events) && err == nil; i++ {
		e := &r.events[i]
		err = call.Send(&streams.AppendReq{Content: &streams.AppendReq_ProposedMessage_{ProposedMessage: &streams.AppendReq_ProposedMessage{
			Id: wireID(e.ID), Metadata: systemMetadata(e), CustomMetadata: e.Metadata, Data: e.Data,
		}}})
	}
	resp := new(streams.AppendResp)
	if err == nil {
		resp, err = call.CloseAndRecv()
	} else {
		// An error of Send says only that the call has ended; its reason comes now.
		// The call must not be closed as if all had been sent: gRPC may have gone
		// over to another connection meanwhile, and the server would append the
		// events that it has got by that one, or none.
		stop := time.AfterFunc(reasonWithin, cancel)
		defer stop.Stop()
		err = call.RecvMsg(resp)
	}
	switch {
	case err != nil:
		return answer{err: kind(err, call.Trailer())}
	case resp.GetWrongExpectedVersion() != nil:
		return answer{err: errMoved}
	case resp.GetSuccess().GetPosition() == nil: // the server has got no event
		return answer{err: &again{kind: ErrUnreachable, cause: errors.New("the server has appended nothing")}}
	}
	return answer{position: eventstore.Position(resp.GetSuccess().GetPosition().GetCommitPosition())}
}

// batcher sends appends by one call of BatchAppend that stays open.
type batcher struct {
	s    *Store
	mu   sync.Mutex
	link *link
	done sync.WaitGroup
}

// link is an open call of BatchAppend.
type link struct {
	node *node
	call streams.Streams_BatchAppendClient
	stop context.CancelFunc

	sending sync.Mutex // one at a time, and in order
	mu      sync.Mutex
	waiting map[uuid.UUID]chan answer
	err     error // why it is over
}

func newBatcher(s *Store) *batcher { return &batcher{s: s} }

// open returns the call to a node, which it makes where there is none.
func (b *batcher) open(n *node) (*link, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if l := b.link; l != nil {
		if l.node == n && l.over() == nil {
			return l, nil
		}
		l.end(&again{kind: ErrUnreachable, cause: errors.New("the call was given up for another")})
		b.link = nil
	}
	if b.s.closing.Err() != nil {
		return nil, errClosed
	}
	ctx, cancel := context.WithCancel(b.s.leaderOnly(b.s.closing))
	call, err := n.streams.BatchAppend(ctx)
	if err != nil {
		cancel()
		return nil, kind(err, nil)
	}
	l := &link{node: n, call: call, stop: cancel, waiting: make(map[uuid.UUID]chan answer)}
	n.mu.Lock()
	n.users++
	n.mu.Unlock()
	b.link = l
	b.done.Go(func() {
		defer n.release()
		l.receive()
	})
	return l, nil
}

// close returns when no call is open; the store's context has ended.
func (b *batcher) close() {
	b.mu.Lock()
	if b.link != nil {
		b.link.end(errClosed)
	}
	b.mu.Unlock()
	b.done.Wait()
}

func (l *link) over() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// end ends the call, and all who wait for an answer by it.
func (l *link) end(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return
	}
	l.err = err
	for id, w := range l.waiting {
		w <- answer{err: err}
		delete(l.waiting, id)
	}
	l.stop()
}

// receive hands the answers out until the call ends.
func (l *link) receive() {
	for {
		resp, err := l.call.Recv()
		if err != nil {
			l.end(kind(err, l.call.Trailer()))
			return
		}
		var id uuid.UUID
		switch v := resp.GetCorrelationId().GetValue().(type) {
		case *shared.UUID_Structured_:
			binary.BigEndian.PutUint64(id[:8], uint64(v.Structured.GetMostSignificantBits()))
			binary.BigEndian.PutUint64(id[8:], uint64(v.Structured.GetLeastSignificantBits()))
		case *shared.UUID_String_:
			id, _ = uuid.Parse(v.String_) // what is no id is nobody's
		}
		a := answer{position: eventstore.Position(resp.GetSuccess().GetPosition().GetCommitPosition())}
		if e := resp.GetError(); e != nil {
			a = answer{err: ofBatch(e)}
		}
		l.mu.Lock()
		if w := l.waiting[id]; w != nil {
			w <- a
			delete(l.waiting, id)
		}
		l.mu.Unlock()
	}
}

// ofBatch reads the error of one append of a batch.
func ofBatch(e *rpcstatus.Status) error {
	for _, d := range e.GetDetails() {
		switch d.MessageName() {
		case "event_store.client.WrongExpectedVersion":
			return errMoved
		case "event_store.client.MaximumAppendSizeExceeded":
			return fmt.Errorf("%w: %s", eventstore.ErrTooLarge, e.GetMessage())
		case "event_store.client.AccessDenied":
			return fmt.Errorf("%w: %s", ErrDenied, e.GetMessage())
		case "event_store.client.StreamDeleted":
			return errors.New("the stream was deleted on the server, for ever")
		case "event_store.client.Timeout":
			return &again{kind: ErrUnreachable, cause: errors.New("the server did not append in time")}
		}
	}
	text := e.GetMessage()
	return ofStatus(codes.Code(e.GetCode()), text, fmt.Errorf("the server refuses an append: %s", text))
}

// The bytes of events in one message of a batch, but for a single larger event.
const messageBytes = 1 << 20

// send sends requests by the open call and waits for their answers.
func (b *batcher) send(ctx context.Context, n *node, requests []request) ([]answer, error) {
	l, err := b.open(n)
	if err != nil {
		return nil, err
	}
	ids := make([]uuid.UUID, len(requests))
	waits := make([]chan answer, len(requests))
	l.mu.Lock()
	if err := l.err; err != nil {
		l.mu.Unlock()
		return nil, err
	}
	for i := range requests {
		ids[i], waits[i] = uuid.New(), make(chan answer, 1)
		l.waiting[ids[i]] = waits[i]
	}
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, id := range ids {
			delete(l.waiting, id)
		}
	}()
	patience := b.s.deadline + time.Second // a while longer than the server has
	l.sending.Lock()
	for i := range requests {
		if err := l.write(ids[i], &requests[i], b.s.deadline); err != nil {
			patience = reasonWithin // receive hears the reason
			break
		}
	}
	l.sending.Unlock()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	answers := make([]answer, len(requests))
	for i, w := range waits {
		select {
		case answers[i] = <-w:
		case <-ctx.Done():
			return answers[:i], ctx.Err()
		case <-timer.C:
			err := &again{kind: ErrUnreachable, cause: errNoAnswer}
			l.end(err)
			return answers[:i], err
		}
	}
	return answers, nil
}

// write sends one request, in as many messages as it takes.
func (l *link) write(id uuid.UUID, r *request, deadline time.Duration) error {
	o := &streams.BatchAppendReq_Options{
		StreamIdentifier: &shared.StreamIdentifier{StreamName: []byte(r.stream)},
		DeadlineOption:   &streams.BatchAppendReq_Options_Deadline{Deadline: durationpb.New(deadline)},
	}
	if x, ok := r.expected.(eventstore.Revision); ok {
		o.ExpectedStreamPosition = &streams.BatchAppendReq_Options_StreamPosition{StreamPosition: uint64(x)}
	} else {
		o.ExpectedStreamPosition = &streams.BatchAppendReq_Options_NoStream{NoStream: &emptypb.Empty{}}
	}
	req := &streams.BatchAppendReq{CorrelationId: wireID(id), Options: o}
	bytes := 0
	for i := range r.events {
		e := &r.events[i]
		size := len(e.Type) + len(e.Metadata) + len(e.Data)
		if bytes > 0 && bytes+size > messageBytes {
			if err := l.call.Send(req); err != nil {
				return err
			}
			req, bytes = &streams.BatchAppendReq{CorrelationId: wireID(id)}, 0
		}
		bytes += size
		req.ProposedMessages = append(req.ProposedMessages, &streams.BatchAppendReq_ProposedMessage{
			Id: wireID(e.ID), Metadata: systemMetadata(e), CustomMetadata: e.Metadata, Data: e.Data,
		})
	}
	req.IsFinal = true
	return l.call.Send(req)
}
