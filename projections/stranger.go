package projections

import (
	"errors"
	"fmt"

	"sojourn/domain"
	"sojourn/eventstore"
)

// strangers are the subjects that are customers of others all by themselves: no message
// has named them beside another subject, no decision, no group call. A fold of part of
// the customers passes over their touchpoints and has no records of them. When one is
// named, the fold needs to know when it was seen first.
type strangers struct {
	seen map[streamKey]sighting
	// all says that every stranger is in seen: the fold has read the log from its
	// beginning and has forgotten none.
	all bool
}

// sighting is the first touchpoint of a stranger: its position, 0 where that is to be
// read from the log, and when it was recorded.
type sighting struct {
	first eventstore.Position
	at    domain.Millis
}

// strangersPerCached is how many strangers are remembered for each subject that a fold
// keeps in memory. They take some 50 bytes each.
const strangersPerCached = 5

func (s *strangers) evict(limit int) {
	if len(s.seen) > strangersPerCached*limit {
		s.seen, s.all = nil, false
	}
}

// passes reports whether a touchpoint is a stranger's and names nobody: nothing of it
// concerns this fold.
func (f *fold) passes(a *arrival) bool {
	if f.shard.holds(a.subject) || len(a.named) > 0 || a.group.groupID != "" {
		return false
	}
	if _, ok := f.subjects[a.key]; ok {
		return false
	}
	if _, ok := f.strangers.seen[a.key]; ok {
		return true
	}
	if f.findAt(a.key, a.stream) != nil || f.err != nil {
		return false
	}
	if f.strangers.seen == nil {
		f.strangers.seen = map[streamKey]sighting{}
	}
	var s sighting
	if f.strangers.all || a.initial {
		s = sighting{a.position, a.recordedAt}
	}
	f.strangers.seen[a.key] = s
	return true
}

// recall makes a subject known that was a stranger or has not been seen: its record is
// kept from here on. The value is empty where it is not at hand.
func (f *fold) recall(key streamKey, s *subject, value string) {
	seen, ok := f.strangers.seen[key]
	delete(f.strangers.seen, key)
	f.dirty(s)
	switch {
	case !ok && f.strangers.all:
		return // not seen
	case seen.first != 0 && value != "":
		s.first, s.firstAt = seen.first, seen.at
		f.name(s, value)
		return
	}
	err := f.history(s.stream, f.position-1, func(a *arrival) bool {
		s.first, s.firstAt = a.position, a.recordedAt
		f.name(s, a.value)
		return false
	})
	if err != nil && !errors.Is(err, eventstore.ErrStreamNotFound) {
		f.err = fmt.Errorf("read the first touchpoint of a subject: %w", err)
	}
}
