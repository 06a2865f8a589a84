package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

	"sojourn/domain"
	"sojourn/eventstore"
)

// Log is what the service needs of the event store.
type Log interface {
	AppendMany(ctx context.Context, parts []eventstore.Append) ([]eventstore.Result, error)
	ReadAll(ctx context.Context, after eventstore.Position) iter.Seq2[eventstore.Recorded, error]
	ReadStream(ctx context.Context, stream string, from uint64, dir eventstore.Direction) iter.Seq2[eventstore.Recorded, error]
}

// Config is what a Service is made of. Log, Index and Keyer are required.
type Config struct {
	Log   Log
	Index eventstore.IDIndex
	Keyer domain.Keyer
	// Logger takes what goes wrong on our side; default: none.
	Logger *slog.Logger
	// Metrics counts; default: counters that nobody reads.
	Metrics *Metrics
	// Clock gives received_at; default time.Now.
	Clock func() time.Time
	// Rand gives the ids of messages that come without one; default crypto/rand.
	Rand io.Reader
	// MaxInFlight bounds the bytes of all calls under way together; default
	// 64 MiB. Calls above it are ErrOverloaded.
	MaxInFlight int64
	// Nobody says of an identifier, as sent, that it names nobody by the policy in
	// force; default domain.NoIdentity, which it must go beyond and not below. It
	// is asked for every identifier of every message, at the same time by several
	// calls, and its answers may change with the policy.
	Nobody func(value string) bool
	// Remake makes a message of a reject that was made of something else: from and
	// raw are what Message.Origin gave. ok is false where it is not known any more
	// how; without it no such reject can be replayed.
	Remake func(from, raw []byte) (m Message, ok bool)
}

// DefaultMaxInFlight is how many bytes may be under way where the configuration
// does not say.
const DefaultMaxInFlight = 64 << 20

// Service brings calls to the log. Its methods may be called concurrently.
type Service struct {
	*Intake
	log       Log
	index     eventstore.IDIndex
	keyer     domain.Keyer
	logger    *slog.Logger
	metrics   *Metrics
	remake    func(from, raw []byte) (Message, bool)
	claims    claims
	scratches sync.Pool
	replaying sync.Mutex
}

// New makes a Service.
func New(c Config) (*Service, error) {
	if c.Log == nil || c.Index == nil {
		return nil, errors.New("ingest needs a log and its index of event ids")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Metrics == nil {
		c.Metrics = NewMetrics(nil)
	}
	intake, err := NewIntake(IntakeConfig{Clock: c.Clock, Rand: c.Rand, MaxInFlight: c.MaxInFlight, Nobody: c.Nobody})
	if err != nil {
		return nil, err
	}
	c.Metrics.inFlight(intake.InFlight)
	return &Service{
		Intake: intake, log: c.Log, index: c.Index, keyer: c.Keyer, logger: c.Logger, metrics: c.Metrics, remake: c.Remake,
		claims:    claims{byID: make(map[uuid.UUID]*flight)},
		scratches: sync.Pool{New: func() any { return new(scratch) }},
	}, nil
}

// chunk is how many messages go to the log at once, which bounds the memory that
// a call of very many tiny messages takes.
const chunk = MaxMessages

// Ingest brings the messages of a call to the log. When it returns without an
// error every message is durable, as a touchpoint or among the rejects; bad
// input is never an error. On an error (eventstore.ErrOverloaded,
// eventstore.ErrUnavailable, a context that has ended, …) some messages may be
// in the log; the same call again is harmless.
//
// limit is how many messages the call may hold, 0 for any number; those behind
// go to the rejects.
func (s *Service) Ingest(ctx context.Context, b *Batch, limit int) (Outcome, error) {
	if err := s.admission.enter(0, true); err != nil {
		return Outcome{}, err
	}
	defer s.admission.leave(0)
	env := b.envelope(s.Now)
	// What has been sent for is finished even where the caller hangs up: others
	// may wait for it.
	ctx = context.WithoutCancel(ctx)

	var out Outcome
	for start := 0; start < len(b.Messages); start += chunk {
		end := min(start+chunk, len(b.Messages))
		within := len(b.Messages)
		if limit > 0 {
			within = limit
		}
		if err := s.ingestChunk(ctx, env, b.Messages[start:end], within-start, &out); err != nil {
			return Outcome{}, err
		}
	}
	s.metrics.count(out)
	return out, nil
}

func (s *Service) ingestChunk(ctx context.Context, env *envelope, msgs []Message, within int, out *Outcome) error {
	sc := s.scratches.Get().(*scratch)
	sc.reset(len(msgs))
	for i := range msgs {
		if err := s.prepare(sc, env, &msgs[i], i < within); err != nil {
			return err
		}
	}
	if err := s.store(ctx, sc); err != nil {
		// The store may still hold what it was given: leave it to the collector.
		return err
	}
	for i := range sc.items {
		it := &sc.items[i]
		switch it.state {
		case accepted:
			out.Accepted++
		case duplicate:
			out.Duplicates++
		default:
			out.Rejected++
			s.metrics.reject(it.fault.code)
		}
		out.Position = max(out.Position, it.position)
	}
	sc.release()
	s.scratches.Put(sc)
	return nil
}

// state is what is known of a message on its way.
type state uint8

const (
	undecided state = iota
	accepted
	duplicate
	rejected
)

// item is a message on its way to the log.
type item struct {
	msg       *Message
	env       *envelope
	messageID string
	kind      domain.Kind
	state     state
	stored    bool // a reject that is durable
	replay    bool // from a reject, so not to be rejected anew
	fault     fault
	id        uuid.UUID
	stream    string
	typ       string
	metadata  []byte
	position  eventstore.Position
}

// scratch is the memory of one call, used again by the next.
type scratch struct {
	items     []item
	metadata  []byte
	events    []eventstore.NewEvent
	parts     []eventstore.Append
	partItems []int
	pending   []int
	claimed   []int
	later     []int
	ids       []uuid.UUID
	positions []eventstore.Position
	known     []int
	flights   []*flight
	header    domain.Header
}

func (sc *scratch) reset(n int) {
	if cap(sc.items) < n {
		sc.items = make([]item, 0, n)
	}
	sc.items = sc.items[:0]
	sc.metadata = sc.metadata[:0]
}

// release lets go of everything that belongs to the call.
func (sc *scratch) release() {
	clear(sc.items)
	clear(sc.events)
	clear(sc.parts)
	clear(sc.flights)
	sc.flights = sc.flights[:0]
	sc.header = domain.Header{}
	if cap(sc.metadata) > 1<<20 {
		sc.metadata = nil
	}
}

// prepare reads a message (steps 1 to 3 of a message's way; authentication and
// parsing are behind it):
//
//  1. Identifiers and time are normalised: from here on a message either has a
//     subject and an instant within the range of the views, or is a reject.
//  2. The header is written: a fold need not parse the message for it.
//  3. Source and message id give the event id: the same message is the same
//     event for ever, whoever brings it.
func (s *Service) prepare(sc *scratch, env *envelope, m *Message, within bool) error {
	if m.Call != nil {
		env = m.Call.envelope(s.Now)
	}
	sc.items = append(sc.items, item{msg: m, env: env})
	it := &sc.items[len(sc.items)-1]
	h := &sc.header
	f, err := s.read(env, m, h, within)
	if err != nil {
		return err
	}
	it.messageID = h.MessageID
	if f != nil {
		it.reject(*f)
		return nil
	}
	it.kind = h.Kind
	it.typ = domain.TypeTouchpoint
	if h.Kind == domain.Identify || h.Kind == domain.Alias {
		it.typ = domain.TypeJoin
	}
	start := len(sc.metadata)
	sc.metadata = h.Append(sc.metadata)
	it.metadata = sc.metadata[start:len(sc.metadata):len(sc.metadata)]
	it.stream = s.keyer.Stream(h.Subject())
	it.id = domain.EventID(env.source, it.messageID)
	return nil
}

func (it *item) reject(f fault) {
	it.state, it.fault = rejected, f
}

// store brings prepared messages to the log:
//
//  4. Each event id is claimed: no two calls decide about one id at a time,
//     whatever the subject, so none can be appended twice.
//  5. The log's index is asked which ids it holds. Where an id comes again, the
//     first stands; the other is dropped if its content is equal, else rejected.
//  6. What is new, and the rejects, go to the log in one append. When it returns
//     they are durable; only then is anything answered.
//  7. The claims end. Whoever waited for one looks again: the id is in the log
//     now, or, where this call failed, free.
func (s *Service) store(ctx context.Context, sc *scratch) error {
	pending := sc.pending[:0]
	for i := range sc.items {
		if sc.items[i].state == undecided {
			pending = append(pending, i)
		}
	}
	for {
		f := &flight{done: make(chan struct{})}
		sc.claimed, sc.later, sc.flights = s.claims.take(f, sc.items, pending, sc.claimed[:0], sc.later[:0], sc.flights[:0])
		err := func() error {
			// Whatever happens: a claim that stays would hold up its id for ever.
			defer s.claims.end(f, sc.items, sc.claimed)
			return s.decide(ctx, sc)
		}()
		if err != nil {
			return err
		}
		pending, sc.later = append(pending[:0], sc.later...), sc.later[:0]
		if len(pending) == 0 {
			sc.pending = pending
			return nil
		}
		for _, other := range sc.flights {
			<-other.done
		}
	}
}

// decide looks up the claimed items and appends what has to be.
func (s *Service) decide(ctx context.Context, sc *scratch) error {
	if len(sc.claimed) > 0 {
		sc.ids, sc.positions = sc.ids[:0], sc.positions[:0]
		for _, i := range sc.claimed {
			sc.ids = append(sc.ids, sc.items[i].id)
			sc.positions = append(sc.positions, 0)
		}
		if err := s.index.Lookup(ctx, sc.ids, sc.positions); err != nil {
			return fmt.Errorf("look up event ids: %w", err)
		}
		sc.known = sc.known[:0]
		for j, i := range sc.claimed {
			if it := &sc.items[i]; sc.positions[j] != 0 {
				it.position = sc.positions[j]
				sc.known = append(sc.known, i)
			} else {
				it.state = accepted
			}
		}
		if len(sc.known) > 0 {
			if err := s.compare(ctx, sc.items, sc.known); err != nil {
				return err
			}
		}
	}
	return s.append(ctx, sc)
}

func (s *Service) append(ctx context.Context, sc *scratch) error {
	sc.events, sc.parts, sc.partItems = sc.events[:0], sc.parts[:0], sc.partItems[:0]
	if cap(sc.events) < len(sc.items) {
		// Parts hold slices of it, so it must not move while it is filled.
		sc.events = make([]eventstore.NewEvent, 0, cap(sc.items))
	}
	for i := range sc.items {
		it := &sc.items[i]
		switch {
		case it.state == accepted && it.position == 0:
			sc.events = append(sc.events, eventstore.NewEvent{ID: it.id, Type: it.typ, Metadata: it.metadata, Data: it.msg.Raw})
			sc.part(i, it.stream)
		case it.state == rejected && !it.stored && !it.replay:
			e, err := it.rejectEvent()
			if err != nil {
				return err
			}
			sc.events = append(sc.events, e)
			sc.part(i, domain.StreamRejects)
		}
	}
	if len(sc.parts) == 0 {
		return nil
	}
	results, err := s.log.AppendMany(ctx, sc.parts)
	if err != nil {
		return fmt.Errorf("append to the log: %w", err)
	}
	for j, r := range results {
		if r.Err != nil {
			return fmt.Errorf("append to the log: %w", r.Err)
		}
		it := &sc.items[sc.partItems[j]]
		it.position = max(it.position, r.Position)
		if it.state == rejected {
			it.stored = true
		}
	}
	return nil
}

func (sc *scratch) part(item int, stream string) {
	n := len(sc.events)
	sc.parts = append(sc.parts, eventstore.Append{Stream: stream, Expected: eventstore.Any{}, Events: sc.events[n-1 : n : n]})
	sc.partItems = append(sc.partItems, item)
}
