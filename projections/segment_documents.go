package projections

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"sojourn/condition"
	"sojourn/domain"
	"sojourn/domain/lifecycle"
	"sojourn/domain/policy"
	"sojourn/domain/satisfaction"
	"sojourn/eventstore"
)

// SegmentDocument is a segment as a person writes it.
type SegmentDocument struct {
	Name        string `json:"name" yaml:"name"`
	Description string `json:"description,omitempty" yaml:"description,omitempty"`
	Condition   string `json:"condition" yaml:"condition"`
}

// segmentEvent is the data of a segment.applied.v1 and, without description and
// condition, of a segment.deleted.v1.
type segmentEvent struct {
	SegmentDocument
	Author string `json:"author,omitempty"`
	Reason string `json:"reason,omitempty"`

	deleted    bool
	position   eventstore.Position
	recordedAt domain.Millis
}

// Segment is a segment in force.
type Segment struct {
	SegmentDocument
	// Author, Reason and AppliedAt are those of its last change, Position the change's
	// own.
	Author, Reason string
	AppliedAt      time.Time
	Position       eventstore.Position
	// Built says that the views that answer, and the tables, hold its members.
	Built bool
}

// SegmentProposal asks for a segment to be in force, or gone.
type SegmentProposal struct {
	SegmentDocument
	Author, Reason string
	// Trigger, where it is not empty, is the trigger that the segment belongs to; its
	// name is domain.TriggerSegment then. Nobody else can make, change or delete it.
	Trigger string
}

// CheckSegmentName says what is wrong with the name that people give a segment,
// *SegmentError.
func CheckSegmentName(name string) error {
	p := SegmentProposal{SegmentDocument: SegmentDocument{Name: name}}
	return p.owner()
}

// owner says what is wrong with the name of a segment, *SegmentError.
func (p *SegmentProposal) owner() error {
	trigger, owned := domain.SegmentTrigger(p.Name)
	if owned && trigger != p.Trigger && segmentName.MatchString(trigger) {
		return &SegmentError{Message: fmt.Sprintf("the segment %s belongs to the trigger %s; change that", p.Name, trigger)}
	}
	if !segmentName.MatchString(p.Name) && (!owned || !segmentName.MatchString(trigger)) {
		return &SegmentError{Message: fmt.Sprintf("name: %q: a segment's name is of lower case letters, digits, _ and -, a letter first, 64 at most", p.Name)}
	}
	return nil
}

// ErrNoSegment is returned for a segment that is not in force.
var ErrNoSegment = errors.New("there is no such segment")

// SegmentError says what is wrong with a segment document or why it cannot be deleted.
// Line and Column point into the condition, 0 where it is not about that.
type SegmentError struct {
	Message      string
	Line, Column int
}

func (e *SegmentError) Error() string {
	if e.Line > 0 {
		return fmt.Sprintf("condition, line %d, column %d: %s", e.Line, e.Column, e.Message)
	}
	return e.Message
}

var segmentName = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,63}$`)

// segmentHistory are all events of the stream of segments, and what follows from them.
type segmentHistory struct {
	events []segmentEvent
	logger *slog.Logger
}

// inForce are the segments after the first n events, by name.
func (h *segmentHistory) inForce(n int) map[string]*segmentEvent {
	all := map[string]*segmentEvent{}
	for i := range h.events[:n] {
		if e := &h.events[i]; e.deleted {
			delete(all, e.Name)
		} else {
			all[e.Name] = e
		}
	}
	return all
}

// version is the number of events up to the last that changed who is in any segment.
func (h *segmentHistory) version() int {
	for n := len(h.events); n > 0; n-- {
		e := &h.events[n-1]
		if before := h.inForce(n - 1)[e.Name]; e.deleted || before == nil || before.Condition != e.Condition {
			return n
		}
	}
	return 0
}

// set are the segments at a version, nil where there are none. One whose condition this
// release cannot read has no members.
func (h *segmentHistory) set(version int) *segmentSet {
	docs := h.inForce(version)
	if len(docs) == 0 {
		return nil
	}
	compiled := map[string]*condition.Condition{}
	for name, doc := range docs {
		c, err := condition.Compile(doc.Condition, condition.Env{})
		if err != nil {
			h.logger.Error("segment left out of the views: its condition cannot be read", "segment", name, "error", err)
			continue
		}
		compiled[name] = c
	}
	order, _ := dependencies(compiled)
	var all []segment
	var needs condition.Needs
	for _, name := range order {
		all = append(all, segment{name, compiled[name]})
		needs.Add(compiled[name].Needs())
	}
	s := setOf(&needs)
	s.all = all
	return s
}

// dependencies lists segments so that those that a condition names stand before it, else by
// name. circle names those that name each other in a circle, which are left out.
func dependencies(all map[string]*condition.Condition) (order, circle []string) {
	const (
		under = 1
		done  = 2
	)
	state := map[string]int{}
	var path []string
	var visit func(name string) bool
	visit = func(name string) bool {
		switch {
		case all[name] == nil || state[name] == done:
			return true
		case state[name] == under:
			circle = append(slices.Clone(path[slices.Index(path, name):]), name)
			return false
		}
		state[name] = under
		path = append(path, name)
		ok := true
		for _, other := range all[name].Needs().Segments {
			ok = ok && visit(other)
		}
		path = path[:len(path)-1]
		if state[name] = done; ok {
			order = append(order, name)
		}
		return ok
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		visit(name)
	}
	return order, circle
}

// readSegments reads the events of the stream of segments that follow those known.
func readSegments(ctx context.Context, store eventstore.Store, known segmentHistory) (segmentHistory, error) {
	h := segmentHistory{slices.Clip(known.events), known.logger}
	for e, err := range store.ReadStream(ctx, domain.StreamSegments, uint64(len(h.events)), eventstore.Forwards) {
		if errors.Is(err, eventstore.ErrStreamNotFound) {
			break
		}
		if err != nil {
			return h, fmt.Errorf("read the segments: %w", err)
		}
		s := segmentEvent{deleted: e.Type == domain.TypeSegmentDeleted, position: e.Position, recordedAt: domain.MillisOf(e.RecordedAt)}
		if err := json.Unmarshal(e.Data, &s); err != nil {
			return h, fmt.Errorf("read the segments, revision %d: %w", e.Revision, err)
		}
		h.events = append(h.events, s)
	}
	return h, nil
}

// with are the rules with the segments of a version.
func (r *Rules) with(h *segmentHistory, version int) *Rules {
	out := *r
	out.segments, out.SegmentsVersion = h.set(version), version
	return &out
}

// bare are the rules without segments, for folds that nobody asks about them.
func (r *Rules) bare() *Rules {
	if r.segments == nil {
		return r
	}
	out := *r
	out.segments = nil
	return &out
}

// ConditionEnv says what a condition may name under the policy and the segments in
// force; event says that it is asked about an event.
func (v *Views) ConditionEnv(event bool) condition.Env {
	rules := v.latest()
	env := condition.Env{
		Programmes: map[string][]string{}, Segments: []string{}, Event: event,
		Statuses: []string{string(satisfaction.Delighted), string(satisfaction.Satisfied), string(satisfaction.Neutral), string(satisfaction.Unhappy), string(satisfaction.Unknown)},
	}
	for _, s := range lifecycle.Stages {
		env.Stages = append(env.Stages, string(s))
	}
	for _, m := range policy.Meanings {
		env.Meanings = append(env.Meanings, string(m))
	}
	if !slices.Contains(env.Meanings, string(policy.Unmapped)) {
		env.Meanings = append(env.Meanings, string(policy.Unmapped))
	}
	for _, p := range rules.book.Programmes() {
		tiers := []string{}
		for _, l := range p.InForce(policy.Never).Tiers.Levels {
			tiers = append(tiers, l.Name)
		}
		env.Programmes[p.ID] = tiers
	}
	v.mu.RLock()
	defer v.mu.RUnlock()
	env.Segments = append(env.Segments, slices.Sorted(maps.Keys(v.segments.inForce(len(v.segments.events))))...)
	return env
}

// CheckSegment says what is wrong with a segment document, as an *SegmentError, and
// gives its condition.
func (v *Views) CheckSegment(d SegmentDocument) (*condition.Condition, error) {
	return v.checkSegment(&SegmentProposal{SegmentDocument: d})
}

func (v *Views) checkSegment(d *SegmentProposal) (*condition.Condition, error) {
	if err := d.owner(); err != nil {
		return nil, err
	}
	if len(d.Description) > 2000 {
		return nil, &SegmentError{Message: "description: at most 2000 bytes"}
	}
	c, err := condition.Compile(d.Condition, v.ConditionEnv(false))
	if wrong := (*condition.Error)(nil); errors.As(err, &wrong) {
		return nil, &SegmentError{wrong.Message, wrong.Line, wrong.Column}
	}
	if err != nil {
		return nil, err
	}
	v.mu.RLock()
	defer v.mu.RUnlock()
	all := map[string]*condition.Condition{d.Name: c}
	for name, doc := range v.segments.inForce(len(v.segments.events)) {
		if name != d.Name {
			if all[name], err = condition.Compile(doc.Condition, condition.Env{}); err != nil {
				delete(all, name)
			}
		}
	}
	if _, circle := dependencies(all); circle != nil {
		return nil, &SegmentError{Message: "the segments name each other in a circle: " + strings.Join(circle, " → "), Line: 1, Column: 1}
	}
	return c, nil
}

// ApplySegment puts a segment in force where it differs from the one of its name that
// is. It is durable when this returns; views that hold it are built beside those that
// answer, from the whole log, and switched to when they are done. Who is in it by the
// change itself is no news. *SegmentError where the document is wrong.
func (v *Views) ApplySegment(ctx context.Context, p SegmentProposal) (s Segment, applied bool, err error) {
	p.Condition = strings.TrimSpace(p.Condition)
	return v.changeSegment(ctx, p, func(now map[string]*segmentEvent) (bool, error) {
		if _, err := v.checkSegment(&p); err != nil {
			return false, err
		}
		is := now[p.Name]
		return is == nil || is.SegmentDocument != p.SegmentDocument, nil
	}, domain.TypeSegmentApplied)
}

// DeleteSegment takes a segment out of force; the statements about it are withdrawn when
// the views are built without it. ErrNoSegment where there is none, *SegmentError where
// another names it.
func (v *Views) DeleteSegment(ctx context.Context, p SegmentProposal) error {
	p.Description, p.Condition = "", ""
	_, _, err := v.changeSegment(ctx, p, func(now map[string]*segmentEvent) (bool, error) {
		if now[p.Name] == nil {
			return false, ErrNoSegment
		}
		if err := p.owner(); err != nil {
			return false, err
		}
		for _, name := range slices.Sorted(maps.Keys(now)) {
			c, err := condition.Compile(now[name].Condition, condition.Env{})
			if err == nil && name != p.Name && slices.Contains(c.Needs().Segments, p.Name) {
				return false, &SegmentError{Message: fmt.Sprintf("the segment %s names it; change or delete that first", name)}
			}
		}
		return true, nil
	}, domain.TypeSegmentDeleted)
	return err
}

func (v *Views) changeSegment(ctx context.Context, p SegmentProposal, check func(now map[string]*segmentEvent) (differs bool, err error), typ string) (Segment, bool, error) {
	v.applying.Lock()
	defer v.applying.Unlock()
	for {
		if v.ctx.Err() != nil {
			return Segment{}, false, ErrClosed
		}
		// Another server may have changed segments.
		if err := v.learnSegments(ctx); err != nil {
			return Segment{}, false, err
		}
		v.mu.RLock()
		n := len(v.segments.events)
		now := v.segments.inForce(n)
		v.mu.RUnlock()
		differs, err := check(now)
		if err != nil {
			return Segment{}, false, err
		}
		if !differs {
			s, err := v.Segment(p.Name)
			return s, false, err
		}
		data, err := json.Marshal(segmentEvent{SegmentDocument: p.SegmentDocument, Author: p.Author, Reason: p.Reason})
		if err != nil {
			return Segment{}, false, err
		}
		expected := eventstore.Expected(eventstore.NoStream{})
		if n > 0 {
			expected = eventstore.Revision(n - 1)
		}
		id := domain.StatementID(domain.StreamSegments, uint64(n), data)
		_, err = v.cfg.Store.Append(ctx, domain.StreamSegments, expected, eventstore.NewEvent{ID: id, Type: typ, Data: data})
		if errors.Is(err, eventstore.ErrWrongRevision) {
			continue
		}
		if err != nil {
			return Segment{}, false, fmt.Errorf("change the segment %s: %w", p.Name, err)
		}
		// What is durable is taken up even where the caller has gone.
		if err := v.learnSegments(context.WithoutCancel(ctx)); err != nil {
			return Segment{}, false, err
		}
		v.logger.Info("a segment has changed", "segment", p.Name, "type", typ)
		if typ == domain.TypeSegmentDeleted {
			return Segment{}, true, nil
		}
		s, err := v.Segment(p.Name)
		return s, true, err
	}
}

// learnSegments reads what the log says of segments and has views built where that asks
// for it.
func (v *Views) learnSegments(ctx context.Context) error {
	v.mu.RLock()
	known := v.segments
	v.mu.RUnlock()
	all, err := readSegments(ctx, v.cfg.Store, known)
	if err != nil || len(all.events) == len(known.events) {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.segments = all
	v.renew()
	return nil
}

// renew makes the rules in force those of the last policy and of the segments, and has
// views built under them where they differ. It is called with mu held.
func (v *Views) renew() {
	last := v.policies[len(v.policies)-1].Rules
	version := v.segments.version()
	if v.rules != nil && v.rules.Version == last.Version && v.rules.SegmentsVersion == version {
		return
	}
	first := v.rules == nil
	v.rules = last.with(&v.segments, version)
	if first {
		return // open has them built
	}
	if v.outdate != nil {
		v.outdate(errOutdated)
	}
	if v.ctx.Err() == nil && !v.cfg.Workers { // workers see it by themselves
		v.done.Go(v.buildLatest)
	}
}

// rulesOf are the rules that a checkpoint was computed under.
func (v *Views) rulesOf(at checkpoint) *Rules {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if at.Policy == 0 || at.Policy > len(v.policies) || at.Segments > len(v.segments.events) ||
		at.Policy == v.rules.Version && at.Segments == v.rules.SegmentsVersion {
		return v.rules
	}
	return v.policies[at.Policy-1].Rules.with(&v.segments, at.Segments)
}

// Segments are those in force, by name.
func (v *Views) Segments() []Segment {
	v.mu.RLock()
	defer v.mu.RUnlock()
	docs := v.segments.inForce(len(v.segments.events))
	all := make([]Segment, 0, len(docs))
	shown := v.shows == v.active.number
	if v.cfg.Workers {
		a := v.agreed.answeringAt(time.Now())
		shown = a != nil && a.Generation == int(v.active.number)
	}
	for _, name := range slices.Sorted(maps.Keys(docs)) {
		e := docs[name]
		s := Segment{SegmentDocument: e.SegmentDocument, Author: e.Author, Reason: e.Reason, AppliedAt: e.recordedAt.Time(), Position: e.position}
		if set := v.active.rules.segments; set != nil && shown {
			i := slices.IndexFunc(set.all, func(in segment) bool { return in.name == name })
			s.Built = i >= 0 && set.all[i].condition.String() == e.Condition
		}
		all = append(all, s)
	}
	return all
}

// Segment is a segment in force, or ErrNoSegment.
func (v *Views) Segment(name string) (Segment, error) {
	all := v.Segments()
	i := slices.IndexFunc(all, func(s Segment) bool { return s.Name == name })
	if i < 0 {
		return Segment{}, ErrNoSegment
	}
	return all[i], nil
}
