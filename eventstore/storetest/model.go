package storetest

import (
	"github.com/google/uuid"

	"sojourn/eventstore"
)

// model is the contract written down as plainly as possible: a list of events,
// searched from end to end for every question.
type model struct {
	log []modelEvent
}

type modelEvent struct {
	stream   string
	id       uuid.UUID
	data     string
	revision uint64
	repeat   bool
}

func (m *model) stream(name string) []modelEvent {
	var out []modelEvent
	for _, e := range m.log {
		if e.stream == name {
			out = append(out, e)
		}
	}
	return out
}

func (m *model) holds(id uuid.UUID) bool {
	for _, e := range m.log {
		if e.id == id {
			return true
		}
	}
	return false
}

// modelResult is what an append must answer; at is the place in model.log of
// the call's last event, or -1 for a call without events.
type modelResult struct {
	wrong    bool
	appended int
	revision uint64
	at       int
}

func (m *model) append(p eventstore.Append) modelResult {
	if len(p.Events) == 0 {
		return modelResult{at: -1}
	}
	held := m.stream(p.Stream)
	known := func(id uuid.UUID) bool {
		for _, e := range held {
			if e.id == id {
				return true
			}
		}
		return false
	}
	// An id that stands twice in the call counts once.
	var call []eventstore.NewEvent
	seen := make(map[uuid.UUID]bool)
	allKnown := true
	for _, e := range p.Events {
		if !seen[e.ID] {
			seen[e.ID] = true
			call = append(call, e)
			allKnown = allKnown && known(e.ID)
		}
	}
	if !allKnown && !m.admits(p.Expected, held, call) {
		return modelResult{wrong: true}
	}
	res := modelResult{}
	for _, e := range call {
		if known(e.ID) {
			continue
		}
		m.log = append(m.log, modelEvent{
			stream: p.Stream, id: e.ID, data: string(e.Data),
			revision: uint64(len(held) + res.appended), repeat: m.holds(e.ID),
		})
		res.appended++
	}
	last := p.Events[len(p.Events)-1].ID
	for i, e := range m.log {
		if e.stream == p.Stream && e.id == last {
			res.revision, res.at = e.revision, i
		}
	}
	return res
}

func (m *model) admits(expected eventstore.Expected, held []modelEvent, call []eventstore.NewEvent) bool {
	behind := 0 // events that the expectation accounts for
	switch x := expected.(type) {
	case nil, eventstore.Any:
		return true
	case eventstore.StreamExists:
		return len(held) > 0
	case eventstore.NoStream:
	case eventstore.Revision:
		if uint64(x) >= uint64(len(held)) {
			return false
		}
		behind = int(x) + 1
	}
	if behind == len(held) {
		return true
	}
	own := held[behind:]
	if len(own) > len(call) {
		return false
	}
	for i, e := range own {
		if call[i].ID != e.id {
			return false
		}
	}
	return true
}
