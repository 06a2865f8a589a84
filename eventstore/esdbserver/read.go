package esdbserver

import (
	"context"
	"errors"
	"iter"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"

	"sojourn/eventstore"
)

// reading is one call of Read.
type reading struct {
	s         *Server
	ctx       context.Context
	call      streams.Streams_ReadServer
	stringIDs bool
	links     bool // are followed to what they point at
	filter    filter
}

// Read answers reads of a stream or of $all, forwards and backwards, and
// catch-up subscriptions to them.
func (s *Server) Read(req *streams.ReadReq, call streams.Streams_ReadServer) error {
	ctx, cancel := s.untilStop(call.Context())
	defer cancel()
	err := s.read(ctx, req.GetOptions(), call)
	if err == nil {
		return nil
	}
	f := s.failed(ctx, err)
	call.SetTrailer(f.trailer())
	return f
}

func (s *Server) read(ctx context.Context, o *streams.ReadReq_Options, call streams.Streams_ReadServer) error {
	r := &reading{s: s, ctx: ctx, call: call, links: o.GetResolveLinks()}
	if o.GetUuidOption().GetString_() != nil {
		r.stringIDs = true
	}
	var err error
	if r.filter, err = newFilter(o); err != nil {
		return err
	}
	backwards := o.GetReadDirection() == streams.ReadReq_Options_Backwards
	_, subscribe := o.GetCountOption().(*streams.ReadReq_Options_Subscription)
	if subscribe && backwards {
		return invalid("a subscription goes forwards")
	}
	if subscribe {
		err := call.Send(&streams.ReadResp{Content: &streams.ReadResp_Confirmation{
			Confirmation: &streams.ReadResp_SubscriptionConfirmation{SubscriptionId: uuid.NewString()},
		}})
		if err != nil {
			return err
		}
	}
	switch from := o.GetStreamOption().(type) {
	case *streams.ReadReq_Options_All:
		switch {
		case subscribe:
			return r.subscribeAll(from.All)
		case backwards:
			return r.allBackwards(from.All, o.GetCount())
		}
		return r.allForwards(from.All, o.GetCount())
	case *streams.ReadReq_Options_Stream:
		name := string(from.Stream.GetStreamIdentifier().GetStreamName())
		switch {
		case name == "":
			return invalid("a stream needs a name")
		case name == "$all":
			return invalid("$all is not read as a stream")
		case subscribe:
			return r.subscribeStream(name, from.Stream)
		}
		return r.stream(name, from.Stream, o.GetCount(), backwards)
	}
	return invalid("a read names a stream or $all")
}

// What is read from the store before it is sent: a client that is slow to take
// it holds no reader of the store.
const (
	chunkEvents = 512
	chunkBytes  = 1 << 20
)

// chunks visits what a store yields, a chunk at a time. from opens the store's
// iterator behind the last event of the chunk before, which is nil at first.
// Events that are not wanted are visited without their content. A chunk holds
// count wanted ones at most. errStop from visit ends it without an error.
func (r *reading) chunks(
	from func(last *eventstore.Recorded) iter.Seq2[eventstore.Recorded, error], count uint64,
	wanted func(*eventstore.Recorded) bool, visit func(e *eventstore.Recorded, wanted bool) error,
) error {
	type item struct {
		e      eventstore.Recorded
		wanted bool
	}
	var last *eventstore.Recorded
	for {
		var chunk []item
		bytes, found, more := 0, uint64(0), false
		for e, err := range from(last) {
			if err != nil {
				return err
			}
			it := item{wanted: wanted == nil || wanted(&e)}
			if it.wanted {
				it.e = e.Clone()
				bytes += len(e.Data) + len(e.Metadata)
				found++
			} else {
				it.e.Position, it.e.Revision = e.Position, e.Revision
			}
			chunk = append(chunk, it)
			if more = len(chunk) == chunkEvents || bytes >= chunkBytes || found == count; more {
				break
			}
		}
		for i := range chunk {
			if err := visit(&chunk[i].e, chunk[i].wanted); err != nil {
				if errors.Is(err, errStop) {
					return nil
				}
				return err
			}
		}
		if !more {
			return nil
		}
		last = &chunk[len(chunk)-1].e
	}
}

// errStop is returned by those who have seen enough.
var errStop = errors.New("enough")

// log visits the log behind a position, to its end. count is how many wanted
// events the caller takes, as far as it knows.
func (r *reading) log(after eventstore.Position, count uint64, wanted func(*eventstore.Recorded) bool, visit func(e *eventstore.Recorded, wanted bool) error) error {
	return r.chunks(func(last *eventstore.Recorded) iter.Seq2[eventstore.Recorded, error] {
		if last != nil {
			after = last.Position
		}
		return r.s.store.ReadAll(r.ctx, after)
	}, count, wanted, visit)
}

// events visits a stream from a revision on, to its end. The error is
// eventstore.ErrStreamNotFound where it has no event.
func (r *reading) events(stream string, from uint64, dir eventstore.Direction, count uint64, visit func(*eventstore.Recorded) error) error {
	return r.chunks(func(last *eventstore.Recorded) iter.Seq2[eventstore.Recorded, error] {
		switch {
		case last == nil:
		case dir == eventstore.Forwards:
			from = last.Revision + 1
		case last.Revision == 0:
			return func(func(eventstore.Recorded, error) bool) {}
		default:
			from = last.Revision - 1
		}
		return r.s.store.ReadStream(r.ctx, stream, from, dir)
	}, count, nil, func(e *eventstore.Recorded, _ bool) error { return visit(e) })
}

// send sends an event.
func (r *reading) send(e *eventstore.Recorded) error {
	at := uint64(e.Position)
	out := &streams.ReadResp_ReadEvent{
		Event:    recorded(e, r.stringIDs),
		Position: &streams.ReadResp_ReadEvent_CommitPosition{CommitPosition: at},
	}
	if r.links && e.Type == "$>" {
		target, err := r.target(string(e.Data))
		if err != nil {
			return err
		}
		out.Link, out.Event = out.Event, nil
		if target != nil {
			out.Event = recorded(target, r.stringIDs)
		}
	}
	return r.call.Send(&streams.ReadResp{Content: &streams.ReadResp_Event{Event: out}})
}

// target reads what a link points at, "revision@stream"; nil where there is no
// such event to be seen.
func (r *reading) target(link string) (*eventstore.Recorded, error) {
	number, stream, _ := strings.Cut(link, "@")
	revision, err := strconv.ParseUint(number, 10, 64)
	if err != nil || stream == "" {
		return nil, nil
	}
	v, err := r.view(stream)
	if err != nil || !v.exists || v.tombstone {
		return nil, err
	}
	for e, err := range r.s.store.ReadStream(r.ctx, stream, revision, eventstore.Forwards) {
		if err != nil {
			return nil, err
		}
		if e.Revision != revision || !v.shows(&e) {
			break
		}
		e = e.Clone()
		return &e, nil
	}
	return nil, nil
}

// view is what of a stream is shown.
type view struct {
	exists    bool // it is a stream to its readers
	tombstone bool
	first     uint64
	oldest    time.Time
}

func (v *view) shows(e *eventstore.Recorded) bool {
	return e.Revision >= v.first && !e.RecordedAt.Before(v.oldest)
}

// view reads what of a stream is shown. All of Sojourn's streams always is.
func (r *reading) view(stream string) (view, error) {
	if r.s.own(stream) {
		return view{exists: true}, nil // reading it says whether that is so
	}
	st, err := r.s.state(r.ctx, stream)
	if err != nil {
		return view{}, err
	}
	v := view{exists: st.shown(), tombstone: st.tombstone, first: st.first()}
	if age := st.rules.MaxAge; age != nil && *age > 0 && *age < math.MaxInt64/int64(time.Second) {
		v.oldest = r.s.now().Add(-time.Duration(*age) * time.Second)
	}
	return v, nil
}

// notFound answers a read of a stream that does not exist.
func (r *reading) notFound(stream string) error {
	return r.call.Send(&streams.ReadResp{Content: &streams.ReadResp_StreamNotFound_{
		StreamNotFound: &streams.ReadResp_StreamNotFound{StreamIdentifier: identifier(stream)},
	}})
}

// stream reads a stream.
func (r *reading) stream(name string, o *streams.ReadReq_Options_StreamOptions, count uint64, backwards bool) error {
	v, err := r.view(name)
	switch {
	case err != nil:
		return err
	case v.tombstone:
		return streamDeleted(name)
	case !v.exists:
		return r.notFound(name)
	}
	from, dir := uint64(0), eventstore.Forwards
	if backwards {
		dir = eventstore.Backwards
	}
	switch x := o.GetRevisionOption().(type) {
	case *streams.ReadReq_Options_StreamOptions_Revision:
		from = x.Revision
	case *streams.ReadReq_Options_StreamOptions_End:
		from = eventstore.End
	}
	if dir == eventstore.Forwards {
		from = max(from, v.first)
	}
	if count == 0 {
		return nil
	}
	err = r.events(name, from, dir, count, func(e *eventstore.Recorded) error {
		if !v.shows(e) {
			if backwards {
				return errStop
			}
			return nil
		}
		if err := r.send(e); err != nil {
			return err
		}
		if count--; count == 0 {
			return errStop
		}
		return nil
	})
	if errors.Is(err, eventstore.ErrStreamNotFound) {
		return r.notFound(name)
	}
	return err
}

// allForwards reads the log from a position on, that one included.
func (r *reading) allForwards(o *streams.ReadReq_Options_AllOptions, count uint64) error {
	var after eventstore.Position
	switch x := o.GetAllOption().(type) {
	case *streams.ReadReq_Options_AllOptions_Position:
		if at := x.Position.GetCommitPosition(); at > 0 {
			after = eventstore.Position(at - 1)
		}
	case *streams.ReadReq_Options_AllOptions_End:
		return nil
	}
	if count == 0 {
		return nil
	}
	return r.log(after, count, r.filter.passes, func(e *eventstore.Recorded, wanted bool) error {
		if !wanted {
			return nil
		}
		if err := r.send(e); err != nil {
			return err
		}
		if count--; count == 0 {
			return errStop
		}
		return nil
	})
}

// The stretches of the log that are read forwards in order to be told
// backwards: they grow and shrink so that each holds about so many events.
const (
	firstStretch  = 64
	stretchEvents = 512
)

// allBackwards reads the log backwards, from before a position.
func (r *reading) allBackwards(o *streams.ReadReq_Options_AllOptions, count uint64) error {
	end := uint64(math.MaxUint64) // the first position that is not told
	switch x := o.GetAllOption().(type) {
	case *streams.ReadReq_Options_AllOptions_Position:
		end = x.Position.GetCommitPosition()
	case *streams.ReadReq_Options_AllOptions_Start:
		return nil
	}
	head, err := r.s.store.Head(r.ctx)
	if err != nil {
		return err
	}
	if uint64(head) < end {
		end = uint64(head) + 1
	}
	stretch := min(uint64(firstStretch), max(count, 1))
	for end > 1 && count > 0 {
		begin := uint64(1)
		if end-1 > stretch {
			begin = end - stretch
		}
		var events []eventstore.Recorded
		n := 0
		for e, err := range r.s.store.ReadAll(r.ctx, eventstore.Position(begin-1)) {
			if err != nil {
				return err
			}
			if uint64(e.Position) >= end {
				break
			}
			n++
			if r.filter.passes(&e) {
				events = append(events, e.Clone())
			}
		}
		for i := len(events) - 1; i >= 0; i-- {
			if err := r.send(&events[i]); err != nil {
				return err
			}
			if count--; count == 0 {
				return nil
			}
		}
		switch end = begin; {
		case n < stretchEvents/2 && stretch < math.MaxUint64/2:
			stretch *= 2
		case n > stretchEvents:
			stretch = max(1, stretch/2)
		}
	}
	return nil
}

// subscribeAll sends the log behind a position, and then what comes.
func (r *reading) subscribeAll(o *streams.ReadReq_Options_AllOptions) error {
	var after eventstore.Position
	switch x := o.GetAllOption().(type) {
	case *streams.ReadReq_Options_AllOptions_Position:
		after = eventstore.Position(x.Position.GetCommitPosition())
	case *streams.ReadReq_Options_AllOptions_End:
		var err error
		if after, err = r.s.store.Head(r.ctx); err != nil {
			return err
		}
	}
	if after == math.MaxUint64 { // no event stands there, and the log ends before
		return invalid("a subscription begins at a position of the log, at its start or at its end")
	}
	var unseen uint64 // events behind the last that the caller knows of
	return r.follow(after, r.filter.passes, func(e *eventstore.Recorded, wanted bool) error {
		if wanted {
			unseen = 0
			return r.send(e)
		}
		if unseen++; unseen < r.filter.interval {
			return nil
		}
		unseen = 0
		return r.checkpoint(e.Position)
	}, func(at eventstore.Position) error {
		if unseen == 0 {
			return nil
		}
		unseen = 0
		return r.checkpoint(at)
	})
}

// checkpoint tells a subscriber up to where nothing more is of interest.
func (r *reading) checkpoint(at eventstore.Position) error {
	return r.call.Send(&streams.ReadResp{Content: &streams.ReadResp_Checkpoint_{
		Checkpoint: &streams.ReadResp_Checkpoint{CommitPosition: uint64(at), PreparePosition: uint64(at)},
	}})
}

// follow visits the events behind a position and those that come. It says once
// that the subscriber has caught up, and calls idle each time that the end of
// the log is reached.
func (r *reading) follow(
	after eventstore.Position, wanted func(*eventstore.Recorded) bool,
	visit func(e *eventstore.Recorded, wanted bool) error, idle func(eventstore.Position) error,
) error {
	for caughtUp := false; ; {
		err := r.log(after, math.MaxUint64, wanted, func(e *eventstore.Recorded, wanted bool) error {
			after = e.Position
			return visit(e, wanted)
		})
		if err != nil {
			return err
		}
		if err := idle(after); err != nil {
			return err
		}
		if !caughtUp {
			caughtUp = true
			if err := r.call.Send(&streams.ReadResp{Content: &streams.ReadResp_CaughtUp_{CaughtUp: &streams.ReadResp_CaughtUp{}}}); err != nil {
				return err
			}
		}
		if err := r.s.store.Wait(r.ctx, after); err != nil {
			return err
		}
	}
}

// subscribeStream sends the events of a stream behind a revision, and then those
// that come. The stream may not exist yet.
func (r *reading) subscribeStream(name string, o *streams.ReadReq_Options_StreamOptions) error {
	// What is appended from here on is found in the log.
	head, err := r.s.store.Head(r.ctx)
	if err != nil {
		return err
	}
	v, err := r.view(name)
	if err != nil {
		return err
	}
	if v.tombstone {
		return streamDeleted(name)
	}
	next := v.first
	switch x := o.GetRevisionOption().(type) {
	case *streams.ReadReq_Options_StreamOptions_Revision:
		if x.Revision == math.MaxUint64 {
			return invalid("a subscription begins behind a revision, at the start or at the end")
		}
		next = max(next, x.Revision+1)
	case *streams.ReadReq_Options_StreamOptions_End:
		e, ok, err := r.s.last(r.ctx, name)
		if err != nil {
			return err
		}
		if ok {
			next = max(next, e.Revision+1)
		}
	}
	visit := func(e *eventstore.Recorded) error {
		if e.Revision < next {
			return nil
		}
		next = e.Revision + 1
		if e.Type == typeTombstone && !r.s.own(name) {
			return streamDeleted(name)
		}
		if e.RecordedAt.Before(v.oldest) {
			return nil
		}
		return r.send(e)
	}
	if err := r.events(name, next, eventstore.Forwards, math.MaxUint64, visit); err != nil && !errors.Is(err, eventstore.ErrStreamNotFound) {
		return err
	}
	mine := func(e *eventstore.Recorded) bool { return e.Stream == name }
	return r.follow(head, mine, func(e *eventstore.Recorded, wanted bool) error {
		if !wanted {
			return nil
		}
		return visit(e)
	}, func(eventstore.Position) error { return nil })
}
