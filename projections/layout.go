package projections

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"sojourn/domain"
	"sojourn/eventstore"
)

// Several workers agree in the log on which generation they build and which one
// answers. The stream views holds the layout: generations that were begun, the parts
// of them that are built, and which became active. Each part has a stream of its own,
// in which the worker that holds it claims it and announces each batch before it
// writes a row, at the revision it knows: whoever is not the last to have claimed it
// is told so there. See docs/decisions/0010.

// laidOut is a generation of the layout.
type laidOut struct {
	Generation int `json:"generation"`
	Policy     int `json:"policy_version"`
	Segments   int `json:"segments_version,omitempty"`
	Fold       int `json:"fold_version"`
	Shards     int `json:"shards"`

	built  map[int]bool // the parts
	active bool
	since  time.Time // it is to answer from then on, where another did before
}

// layout is what the stream holds up to a revision.
type layout struct {
	next uint64
	all  []*laidOut // as they were begun
}

// layoutPart is the data of views.built.v1 with Shard, and of views.active.v1 without.
type layoutPart struct {
	Generation int `json:"generation"`
	Shard      int `json:"shard,omitempty"`
	// Since is when every process is to switch to it, Unix seconds: 0 for as soon as
	// it learns of it.
	Since int64 `json:"since,omitempty"`
}

// newest is the generation that was begun last, nil where there is none.
func (l *layout) newest() *laidOut {
	if len(l.all) == 0 {
		return nil
	}
	return l.all[len(l.all)-1]
}

// answering is the newest generation that became active, nil where none has.
func (l *layout) answering() (active *laidOut) {
	for _, g := range l.all {
		if g.active {
			active = g
		}
	}
	return active
}

// answeringAt is the generation that answers at an instant: the newest may be to answer
// from a later one on.
func (l *layout) answeringAt(now time.Time) (answers *laidOut) {
	for _, g := range l.all {
		if wait := g.since.Sub(now); g.active && (wait <= 0 || wait > mostAhead) {
			answers = g
		}
	}
	return answers
}

func (l *layout) find(generation int) *laidOut {
	for _, g := range l.all {
		if g.Generation == generation {
			return g
		}
	}
	return nil
}

// update reads what has come since.
func (l *layout) update(ctx context.Context, store eventstore.Store) error {
	for e, err := range store.ReadStream(ctx, domain.StreamViews, l.next, eventstore.Forwards) {
		if errors.Is(err, eventstore.ErrStreamNotFound) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read which views the workers keep: %w", err)
		}
		if err := l.take(&e); err != nil {
			return fmt.Errorf("read which views the workers keep: revision %d: %w", e.Revision, err)
		}
	}
	return nil
}

func (l *layout) take(e *eventstore.Recorded) error {
	l.next = e.Revision + 1
	if e.Type == domain.TypeViewsBegun {
		g := &laidOut{built: map[int]bool{}}
		if err := json.Unmarshal(e.Data, g); err != nil {
			return err
		}
		l.all = append(l.all, g)
		return nil
	}
	var p layoutPart
	if err := json.Unmarshal(e.Data, &p); err != nil {
		return err
	}
	if g := l.find(p.Generation); g != nil && e.Type == domain.TypeViewsBuilt {
		g.built[p.Shard] = true
	} else if g != nil && e.Type == domain.TypeViewsActive {
		g.active = true
		if p.Since > 0 {
			g.since = time.Unix(p.Since, 0)
		}
	}
	return nil
}

// append appends to the layout as it is known, and updates it. Where another came
// before, nothing is appended: whoever appends looks again.
func (l *layout) append(ctx context.Context, store eventstore.Store, typ string, data any) error {
	if _, err := appendNext(ctx, store, domain.StreamViews, l.next, typ, data); err != nil && !errors.Is(err, eventstore.ErrWrongRevision) {
		return fmt.Errorf("agree on the views: %w", err)
	}
	return l.update(ctx, store)
}

// appendNext appends an event that gets a revision; eventstore.ErrWrongRevision where
// another has it.
func appendNext(ctx context.Context, store eventstore.Store, stream string, revision uint64, typ string, content any) (uint64, error) {
	data, err := json.Marshal(content)
	if err != nil {
		return revision, err
	}
	expected := eventstore.Expected(eventstore.NoStream{})
	if revision > 0 {
		expected = eventstore.Revision(revision - 1)
	}
	_, err = store.Append(ctx, stream, expected, eventstore.NewEvent{ID: domain.StatementID(stream, revision, data), Type: typ, Data: data})
	if err != nil {
		return revision, err
	}
	return revision + 1, nil
}

// ErrFenced is why a worker stops whose part another process has taken.
var ErrFenced = errors.New("another process has taken this part of the views")

// fence is a worker's hold on its part.
type fence struct {
	store  eventstore.Store
	stream string
	worker uuid.UUID // of this process and generation
	next   uint64    // revision behind its own last event, 0 before it has claimed
	held   atomic.Bool
}

// flushed is the data of views.flushed.v1: a batch that is about to be written.
type flushed struct {
	Worker uuid.UUID `json:"worker"`
	intent
	Reconciled bool `json:"reconciled"`

	position eventstore.Position // where it was announced
}

// claimed is the data of views.claimed.v1.
type claimed struct {
	Worker uuid.UUID `json:"worker"`
}

// claim takes the part, or makes sure that it is still held, and returns the last two
// batches that were announced, by whomever; nil where there are fewer.
func (f *fence) claim(ctx context.Context) (before, last *flushed, err error) {
	end, holder := uint64(0), uuid.Nil
	for e, err := range f.store.ReadStream(ctx, f.stream, eventstore.End, eventstore.Backwards) {
		if errors.Is(err, eventstore.ErrStreamNotFound) {
			break
		}
		var b flushed
		if err == nil {
			err = json.Unmarshal(e.Data, &b)
		}
		if err != nil {
			return nil, nil, fmt.Errorf("read who holds this part of the views: %w", err)
		}
		if end == 0 {
			end, holder = e.Revision+1, b.Worker
		}
		if e.Type != domain.TypeViewsFlushed {
			continue
		}
		b.position = e.Position
		if last == nil {
			last = &b
			continue
		}
		before = &b
		break
	}
	if f.next > 0 {
		if holder != f.worker {
			return nil, nil, fmt.Errorf("%w (%s)", ErrFenced, f.stream)
		}
		f.next = end
		return before, last, nil
	}
	if f.next, err = appendNext(ctx, f.store, f.stream, end, domain.TypeViewsClaimed, claimed{f.worker}); err != nil {
		f.next = 0
		return nil, nil, fmt.Errorf("claim this part of the views: %w", err)
	}
	f.held.Store(true)
	return before, last, nil
}

// begin announces a batch; ErrFenced where another has taken the part.
func (f *fence) begin(ctx context.Context, in intent, reconciled bool) error {
	next, err := appendNext(ctx, f.store, f.stream, f.next, domain.TypeViewsFlushed, flushed{Worker: f.worker, intent: in, Reconciled: reconciled})
	if errors.Is(err, eventstore.ErrWrongRevision) {
		return fmt.Errorf("%w (%s)", ErrFenced, f.stream)
	}
	if err != nil {
		return fmt.Errorf("announce a batch: %w", err)
	}
	f.next = next
	return nil
}

// check is ErrFenced where another has taken the part since it was claimed.
func (f *fence) check(ctx context.Context) error {
	if !f.held.Load() {
		return nil
	}
	for e, err := range f.store.ReadStream(ctx, f.stream, eventstore.End, eventstore.Backwards) {
		var b claimed
		if err == nil {
			err = json.Unmarshal(e.Data, &b)
		}
		if err != nil {
			return fmt.Errorf("read who holds this part of the views: %w", err)
		}
		if b.Worker != f.worker {
			return fmt.Errorf("%w (%s)", ErrFenced, f.stream)
		}
		return nil
	}
	return nil
}

// reached is how far the parts of a generation came: all of them to from, none of them
// further than to. ok is false where one of them has written nothing.
func (l *laidOut) reached(ctx context.Context, store eventstore.Store) (from, to eventstore.Position, ok bool, err error) {
	for i := 1; i <= l.Shards; i++ {
		var last eventstore.Position
		for e, err := range store.ReadStream(ctx, domain.WorkerStream(l.Generation, i, l.Shards), eventstore.End, eventstore.Backwards) {
			if errors.Is(err, eventstore.ErrStreamNotFound) {
				break
			}
			var b flushed
			if err == nil {
				err = json.Unmarshal(e.Data, &b)
			}
			if err != nil {
				return 0, 0, false, fmt.Errorf("read how far the views came: %w", err)
			}
			if e.Type == domain.TypeViewsFlushed {
				last = b.To
				break
			}
		}
		if last == 0 {
			return 0, 0, false, nil
		}
		if from, to = min(from, last), max(to, last); i == 1 {
			from = last
		}
	}
	return from, to, true, nil
}
