package automation

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"sojourn/automation/trigger"
	"sojourn/domain"
	"sojourn/eventstore"
)

// Stream holds the triggers: what was applied, paused and resumed, and the cap over
// all of them.
const Stream = "triggers"

// The types of its events.
const (
	TypeApplied  = "trigger.applied.v1"
	TypePaused   = "trigger.paused.v1"
	TypeResumed  = "trigger.resumed.v1"
	TypeSettings = "automation.settings.v1"
)

// record is the data of an event of the stream.
type record struct {
	Trigger  string          `json:"trigger,omitempty"`
	Document json.RawMessage `json:"document,omitempty"`
	Source   string          `json:"source,omitempty"`
	Author   string          `json:"author,omitempty"`
	Reason   string          `json:"reason,omitempty"`
	Settings *Settings       `json:"settings,omitempty"`
	// Existing asks for those who are in the segment by this change of it.
	Existing *SegmentChange `json:"existing,omitempty"`
}

// Settings hold for all triggers.
type Settings struct {
	// Cap bounds what one customer gets from all triggers together; nil is no bound.
	Cap *trigger.Count `json:"cap,omitempty"`
}

// Version is a trigger as it was applied.
type Version struct {
	Version   int
	AppliedAt time.Time
	Document  trigger.Document
	Source    string // the text it was read from
	Author    string
	Reason    string
	// Existing, where it is not nil, is the change of its segment whose customers it was
	// asked to begin with.
	Existing *SegmentChange
	// Err says why this release cannot run it; it does nothing then.
	Err error

	position eventstore.Position
	compiled *trigger.Trigger
}

// Status is a trigger with its versions.
type Status struct {
	ID     string
	Paused bool
	// Changes are the applies, pauses and resumptions, the first first.
	Changes  []Change
	Versions []Version
}

// Change is one entry of a trigger's history.
type Change struct {
	At      time.Time
	What    string // applied, paused or resumed
	Version int
	Author  string
	Reason  string
}

// last is the version in force.
func (s *Status) last() *Version { return &s.Versions[len(s.Versions)-1] }

// registry is what the stream says up to a place in the log. Its methods may be
// called concurrently.
type registry struct {
	compile func(*trigger.Document) (*trigger.Trigger, error)

	mu       sync.RWMutex
	byID     map[string]*Status
	next     uint64 // revision
	settings Settings
	global   *trigger.Bound
}

func newRegistry(compile func(*trigger.Document) (*trigger.Trigger, error)) *registry {
	return &registry{compile: compile, byID: map[string]*Status{}}
}

// apply takes an event of the stream; those that are known change nothing.
func (r *registry) apply(e *eventstore.Recorded) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e.Revision < r.next {
		return nil
	}
	r.next = e.Revision + 1
	var rec record
	if err := json.Unmarshal(e.Data, &rec); err != nil {
		return fmt.Errorf("stream %s, revision %d: %w", e.Stream, e.Revision, err)
	}
	if e.Type == TypeSettings {
		if rec.Settings != nil {
			r.settings, r.global = *rec.Settings, boundOf(rec.Settings)
		}
		return nil
	}
	s := r.byID[rec.Trigger]
	if s == nil {
		s = &Status{ID: strings.Clone(rec.Trigger)}
		r.byID[s.ID] = s
	}
	c := Change{At: e.RecordedAt, Author: rec.Author, Reason: rec.Reason}
	switch e.Type {
	case TypeApplied:
		d, err := trigger.Decode(rec.Document)
		if err != nil {
			return fmt.Errorf("trigger %s: %w", rec.Trigger, err)
		}
		// What a later or an earlier release has let through stops no other trigger.
		t, err := r.compile(&d)
		if err == nil {
			t.Version = len(s.Versions) + 1
		}
		s.Versions = append(s.Versions, Version{
			Err: err, Version: len(s.Versions) + 1, AppliedAt: e.RecordedAt, Document: d,
			Source: rec.Source, Author: rec.Author, Reason: rec.Reason, Existing: rec.Existing, position: e.Position, compiled: t,
		})
		c.What = "applied"
	case TypePaused:
		s.Paused, c.What = true, "paused"
	case TypeResumed:
		s.Paused, c.What = false, "resumed"
	}
	c.Version = len(s.Versions)
	s.Changes = append(s.Changes, c)
	return nil
}

func boundOf(s *Settings) *trigger.Bound {
	if s.Cap == nil {
		return nil
	}
	per, err := trigger.ParsePeriod(s.Cap.Per)
	if err != nil {
		return nil
	}
	return &trigger.Bound{Times: s.Cap.Times, Per: per}
}

// inForce is a trigger with whether it is paused, at the place that was read.
type inForce struct {
	*trigger.Trigger
	paused   bool
	position eventstore.Position
	// since is when the times by the clock that it has were put in force.
	since    domain.Millis
	existing *SegmentChange
}

// all are the triggers in force, in the order of their ids.
func (r *registry) all() []inForce {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var all []inForce
	for _, s := range r.byID {
		if len(s.Versions) > 0 && s.last().Err == nil {
			v := s.last()
			all = append(all, inForce{v.compiled, s.Paused, v.position, s.scheduled(), v.Existing})
		}
	}
	slices.SortFunc(all, func(a, b inForce) int { return strings.Compare(a.ID, b.ID) })
	return all
}

// scheduled is when the times by the clock that are in force were first applied.
func (s *Status) scheduled() domain.Millis {
	last := s.last()
	at := domain.MillisOf(last.AppliedAt)
	s1, x1 := last.Document.On.Schedule, last.Document.On.PointsExpiring
	if s1 == nil && x1 == nil {
		return at
	}
	for i := len(s.Versions) - 1; i >= 0; i-- {
		v := &s.Versions[i]
		s2, x2 := v.Document.On.Schedule, v.Document.On.PointsExpiring
		if (s1 == nil) != (s2 == nil) || s1 != nil && *s1 != *s2 || (x1 == nil) != (x2 == nil) || x1 != nil && *x1 != *x2 {
			break
		}
		at = domain.MillisOf(v.AppliedAt)
	}
	return at
}

// revision is that behind the last event which was read.
func (r *registry) revision() uint64 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.next
}

// version is a version of a trigger, and whether the trigger is paused now.
func (r *registry) version(id string, version int) (t *trigger.Trigger, paused bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	s := r.byID[id]
	if s == nil || version < 1 || version > len(s.Versions) {
		return nil, false
	}
	return s.Versions[version-1].compiled, s.Paused
}

func (r *registry) bound() *trigger.Bound {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.global
}

var (
	// ErrNoTrigger is answered for an id that was never applied.
	ErrNoTrigger = errors.New("there is no such trigger")
	// ErrMoved is answered where another version is in force than was expected.
	ErrMoved = errors.New("another version of the trigger is in force by now")
)

// Triggers keeps the triggers in the log. Its methods may be called concurrently.
type Triggers struct {
	store   eventstore.Store
	compile func(*trigger.Document) (*trigger.Trigger, error)
}

// NewTriggers keeps triggers in a log; compile reads a document of the log, whatever
// words are known today.
func NewTriggers(store eventstore.Store, compile func(*trigger.Document) (*trigger.Trigger, error)) *Triggers {
	return &Triggers{store, compile}
}

// read reads the stream to its end.
func (t *Triggers) read(ctx context.Context) (*registry, error) {
	r := newRegistry(t.compile)
	for e, err := range t.store.ReadStream(ctx, Stream, 0, eventstore.Forwards) {
		if errors.Is(err, eventstore.ErrStreamNotFound) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read the triggers: %w", err)
		}
		if err := r.apply(&e); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// List are all triggers in the order of their ids.
func (t *Triggers) List(ctx context.Context) ([]Status, error) {
	r, err := t.read(ctx)
	if err != nil {
		return nil, err
	}
	all := make([]Status, 0, len(r.byID))
	for _, s := range r.byID {
		all = append(all, *s)
	}
	slices.SortFunc(all, func(a, b Status) int { return strings.Compare(a.ID, b.ID) })
	return all, nil
}

// OfSegment is the first trigger by id that names a segment and is not paused; empty
// where there is none.
func (t *Triggers) OfSegment(ctx context.Context, segment string) (string, error) {
	all, err := t.List(ctx)
	if err != nil {
		return "", err
	}
	for i := range all {
		v := all[i].last()
		on := v.Document.On.Segment
		names := on != nil && (on.Entered == segment || on.Left == segment)
		if v.compiled != nil && v.compiled.Condition != nil {
			names = names || slices.Contains(v.compiled.Condition.Needs().Segments, segment)
		}
		if names && !all[i].Paused {
			return all[i].ID, nil
		}
	}
	return "", nil
}

// Get is one trigger; ErrNoTrigger.
func (t *Triggers) Get(ctx context.Context, id string) (Status, error) {
	r, err := t.read(ctx)
	if err != nil {
		return Status{}, err
	}
	s := r.byID[id]
	if s == nil {
		return Status{}, ErrNoTrigger
	}
	return *s, nil
}

// Settings are those in force.
func (t *Triggers) Settings(ctx context.Context) (Settings, error) {
	r, err := t.read(ctx)
	if err != nil {
		return Settings{}, err
	}
	return r.settings, nil
}

// append adds a record behind what r has read; false where another came before.
func (t *Triggers) append(ctx context.Context, r *registry, typ string, rec record) (bool, error) {
	data, err := json.Marshal(rec)
	if err != nil {
		return false, fmt.Errorf("encode a trigger: %w", err)
	}
	expected := eventstore.Expected(eventstore.NoStream{})
	if r.next > 0 {
		expected = eventstore.Revision(r.next - 1)
	}
	id := domain.StatementID(Stream, r.next, data)
	_, err = t.store.Append(ctx, Stream, expected, eventstore.NewEvent{ID: id, Type: typ, Data: data})
	if errors.Is(err, eventstore.ErrWrongRevision) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("keep a trigger: %w", err)
	}
	return true, nil
}

// Proposal is a trigger that somebody wants in force.
type Proposal struct {
	Document               trigger.Document
	Source, Author, Reason string
	// Existing asks for those who are in the segment that starts the trigger by this
	// change of it, each with that change as the cause. It makes a version of its own.
	Existing *SegmentChange
	// Expected, where not 0, is the version that must be in force.
	Expected int
}

// Apply puts a trigger in force where it differs from the version that is. It is
// durable on return, and acts on changes that are found from then on.
func (t *Triggers) Apply(ctx context.Context, p Proposal) (version int, applied bool, err error) {
	document, err := p.Document.Canonical()
	if err != nil {
		return 0, false, err
	}
	for {
		r, err := t.read(ctx)
		if err != nil {
			return 0, false, err
		}
		version := 0
		if s := r.byID[p.Document.ID]; s != nil && len(s.Versions) > 0 {
			version = len(s.Versions)
			before, err := s.last().Document.Canonical()
			if err != nil {
				return 0, false, err
			}
			if bytes.Equal(before, document) && p.Existing == nil {
				return version, false, nil
			}
		}
		if p.Expected != 0 && p.Expected != version {
			return version, false, fmt.Errorf("%w: version %d", ErrMoved, version)
		}
		ok, err := t.append(ctx, r, TypeApplied, record{
			Trigger: p.Document.ID, Document: document, Source: p.Source, Author: p.Author, Reason: p.Reason, Existing: p.Existing,
		})
		if err != nil {
			return 0, false, err
		}
		if ok {
			return version + 1, true, nil
		}
	}
}

// Pause stops a trigger, and Resume lets it go on; false where it stood so already.
// What happens while it is paused is recorded as suppressed and not sent later.
func (t *Triggers) Pause(ctx context.Context, id, author, reason string) (bool, error) {
	return t.set(ctx, id, true, record{Trigger: id, Author: author, Reason: reason})
}

// Resume lets a trigger go on.
func (t *Triggers) Resume(ctx context.Context, id, author, reason string) (bool, error) {
	return t.set(ctx, id, false, record{Trigger: id, Author: author, Reason: reason})
}

func (t *Triggers) set(ctx context.Context, id string, paused bool, rec record) (bool, error) {
	typ := TypeResumed
	if paused {
		typ = TypePaused
	}
	for {
		r, err := t.read(ctx)
		if err != nil {
			return false, err
		}
		s := r.byID[id]
		if s == nil {
			return false, ErrNoTrigger
		}
		if s.Paused == paused {
			return false, nil
		}
		if ok, err := t.append(ctx, r, typ, rec); ok || err != nil {
			return ok, err
		}
	}
}

// Set puts the settings of all triggers in force.
func (t *Triggers) Set(ctx context.Context, s Settings, author string) error {
	for {
		r, err := t.read(ctx)
		if err != nil {
			return err
		}
		if ok, err := t.append(ctx, r, TypeSettings, record{Settings: &s, Author: author}); ok || err != nil {
			return err
		}
	}
}
