package projections

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"sojourn/domain"
	"sojourn/eventstore"
)

// decided is the data of identity.merged.v1 and identity.split.v1: what a person
// has decided, by the names of the subjects' streams, so that nothing personal
// but the person's own words stands in it.
type decided struct {
	// Subjects are those named to be merged, or those that leave.
	Subjects []string `json:"subjects"`
	// Others are the members that the merged customers had, or the subjects that
	// stay.
	Others []string `json:"others"`
	Reason string   `json:"reason"`
	Author string   `json:"author"`
}

// decision is a decision of the log.
type decision struct {
	decided
	id         uuid.UUID // of the event
	position   eventstore.Position
	recordedAt domain.Millis
	split      bool
}

func (d *decision) streams() []string {
	return append(append(make([]string, 0, len(d.Subjects)+len(d.Others)), d.Subjects...), d.Others...)
}

// says reports whether a decision is the given one.
func (d *decision) says(split bool, o decided) bool {
	return d.split == split && d.Reason == o.Reason && d.Author == o.Author &&
		slices.Equal(d.Subjects, o.Subjects) && slices.Equal(d.Others, o.Others)
}

func streamsOf(all []*subject) []string {
	streams := make([]string, len(all))
	for i, s := range all {
		streams[i] = s.stream
	}
	return streams
}

// The record of a decision in the state: version, event id, recorded_at, whether it is a
// split, and the data of the event.
func (d *decision) append(buf []byte) ([]byte, error) {
	buf = append(append(buf, stateVersion), d.id[:]...)
	buf = binary.AppendVarint(buf, int64(d.recordedAt))
	split := byte(0)
	if d.split {
		split = 1
	}
	data, err := json.Marshal(d.decided)
	return append(append(buf, split), data...), err
}

func parseDecision(position eventstore.Position, b []byte) (*decision, error) {
	r := reader{b: b}
	r.version()
	d := &decision{id: r.uuid(), position: position, recordedAt: domain.Millis(r.varint()), split: r.byte() == 1}
	if r.err != nil {
		return nil, r.err
	}
	return d, json.Unmarshal(r.b, &d.decided)
}

// decisionAt is the decision at a position of the log.
func (f *fold) decisionAt(p eventstore.Position) *decision {
	if d := f.decisions[p]; d != nil || f.err != nil {
		return d
	}
	b, err := f.state.load(decisionKey(p))
	var d *decision
	if err == nil {
		d, err = parseDecision(p, b)
	}
	if err != nil {
		f.err = fmt.Errorf("state of the decision at %d: %w", p, err)
		return nil
	}
	f.decisions[p] = d
	return d
}

// decide takes what a person has decided.
func (f *fold) decide(d *decision) {
	f.decisions[d.position] = d
	f.newDecisions = append(f.newDecisions, d)
	var c *cluster
	for _, stream := range d.streams() {
		s := f.subject(stream)
		if f.err != nil {
			return
		}
		if o := f.clusterOf(s); c == nil {
			c = o
		} else {
			c = f.unite(c, o)
		}
	}
	if f.err != nil || c == nil {
		return
	}
	for _, stream := range d.streams() {
		t := f.tie(f.subject(stream))
		t.decisions = append(t.decisions, d.position)
	}
	c.graph.Decide(f.graphDecision(d))
	if groups := f.resolve(c); f.err == nil && len(groups) > 0 {
		f.regroup(groups, nil, false, true, func() {})
	}
}

// decisionOf reads a decision from its event.
func decisionOf(e *eventstore.Recorded) (*decision, error) {
	d := &decision{id: e.ID, position: e.Position, recordedAt: domain.MillisOf(e.RecordedAt), split: e.Type == domain.TypeIdentitySplit}
	if err := json.Unmarshal(e.Data, &d.decided); err != nil {
		return nil, fmt.Errorf("decision at position %d: %w", e.Position, err)
	}
	return d, nil
}
