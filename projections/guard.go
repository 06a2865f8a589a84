package projections

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"sojourn/domain"
	"sojourn/eventstore"
)

// guard is the end of a guard stream.
type guard struct {
	exists   bool
	revision uint64
	subjects string // fingerprint; empty where it was closed
	position eventstore.Position
}

// guardOf is the end of a guard stream, from its last event.
func guardOf(e *eventstore.Recorded) (guard, error) {
	g := guard{exists: true, revision: e.Revision, position: e.Position}
	var d struct {
		Guard string `json:"guard"`
	}
	if err := json.Unmarshal(e.Data, &d); err != nil {
		return g, fmt.Errorf("stream %s, revision %d: %w", e.Stream, e.Revision, err)
	}
	g.subjects = d.Guard
	return g, nil
}

// guard is the end of a customer's guard stream.
func (t *tail) guard(ctx context.Context, id uuid.UUID) (guard, error) {
	if g, ok := t.guards[id]; ok {
		return g, nil
	}
	var g guard
	for e, err := range t.generation.store.ReadStream(ctx, domain.GuardStream(id), eventstore.End, eventstore.Backwards) {
		if errors.Is(err, eventstore.ErrStreamNotFound) {
			break
		}
		if err != nil {
			return g, fmt.Errorf("read the commands of a customer: %w", err)
		}
		if g, err = guardOf(&e); err != nil {
			t.fold.logger.Error("entry of a guard stream cannot be read", "error", err)
		}
		break
	}
	if g.position > t.fold.position {
		return g, errBehind
	}
	t.guards[id] = g
	return g, nil
}

func (g guard) expected() eventstore.Expected {
	if !g.exists {
		return eventstore.NoStream{}
	}
	return eventstore.Revision(g.revision)
}

// next is the guard stream's end behind one more entry.
func (g guard) next(subjects string) guard {
	n := guard{exists: true, subjects: subjects, position: g.position}
	if g.exists {
		n.revision = g.revision + 1
	}
	return n
}

// fingerprint identifies the set of a customer's subjects under a policy, whose
// version it begins with.
func (h *holder) fingerprint(policyVersion int) string {
	streams := streamsOf(h.members)
	slices.Sort(streams)
	sum := sha256.Sum256([]byte(strings.Join(streams, " ")))
	return policyPrefix(policyVersion) + hex.EncodeToString(sum[:16])
}

func policyPrefix(version int) string { return strconv.Itoa(version) + ":" }

// clear makes sure that nobody decides about the customer for other subjects than
// these: where its guard stream was last used for others, it closes those of the
// customers that its subjects belonged to, and has the errand come again. It returns
// the guard stream's end and the fingerprint for its next entry.
func (t *tail) clear(h *holder, e *errand) (g guard, print string, ok bool, err error) {
	print = h.fingerprint(t.rules.Version)
	if t.clearing[h.id] {
		return g, print, false, errBehind // another errand of this round sees to it
	}
	if g, err = t.guard(e.ctx, h.id); err != nil {
		return g, print, false, err
	}
	if g.exists && g.subjects == print {
		return g, print, true, nil
	}
	others, err := t.others(h, g)
	if err != nil {
		return g, print, false, err
	}
	if !g.exists && len(others) == 0 {
		return g, print, true, nil
	}
	for _, id := range others {
		o, err := t.guard(e.ctx, id)
		if err != nil {
			return g, print, false, err
		}
		if o.exists && o.subjects == "" {
			continue // who uses it next opens it first, and then reads the log again
		}
		if err := e.guard(id, eventstore.Any{}, ""); err != nil {
			return g, print, false, err
		}
		delete(t.guards, id) // its end is another now; the log tells which
	}
	if err := e.guard(h.id, g.expected(), print); err != nil {
		return g, print, false, err
	}
	delete(t.guards, h.id)
	t.clearing[h.id] = true
	return g, print, false, nil
}

// guard has an entry appended to a guard stream.
func (e *errand) guard(customer uuid.UUID, expected eventstore.Expected, print string) error {
	data, err := json.Marshal(struct {
		Guard string `json:"guard"`
	}{print})
	if err != nil {
		return err
	}
	e.parts = append(e.parts, eventstore.Append{Stream: domain.GuardStream(customer), Expected: expected, Events: []eventstore.NewEvent{
		{ID: uuid.New(), Type: domain.TypeLoyaltyGuard, Data: data},
	}})
	return nil
}

// maxTied bounds how many subjects are looked at that another policy may have made
// one customer with these.
const maxTied = 1000

// others are the customers that somebody else may take the customer's subjects for:
// those that they have belonged to, and where the guard stream was not used under
// this policy, those of all subjects tied to them, which another policy may join.
func (t *tail) others(h *holder, g guard) ([]uuid.UUID, error) {
	var others []uuid.UUID
	seen := map[uuid.UUID]bool{h.id: true}
	add := func(id uuid.UUID) {
		if !seen[id] {
			seen[id] = true
			others = append(others, id)
		}
	}
	for _, m := range h.members {
		if m.first > 0 {
			add(m.id)
		}
		for _, id := range m.been {
			add(id)
		}
	}
	version := t.rules.Version
	if version == 1 || g.exists && strings.HasPrefix(g.subjects, policyPrefix(version)) {
		return others, nil
	}
	found := slices.Clone(h.members)
	known := map[*subject]bool{}
	for _, m := range found {
		known[m] = true
	}
	for i := 0; i < len(found) && len(found) < maxTied; i++ {
		for _, s := range t.fold.tied(found[i]) {
			if !known[s] {
				known[s] = true
				found = append(found, s)
				if s.first > 0 {
					add(s.id)
				}
			}
		}
	}
	return others, t.fold.err
}

// tied are the subjects that joins and decisions connect with one, whatever the
// policy makes of them.
func (f *fold) tied(s *subject) []*subject {
	ties := f.tiesOf(s)
	if ties == nil {
		return nil
	}
	streams := slices.Clone(ties.links)
	for i := range ties.joins {
		streams = append(streams, ties.joins[i].hub)
	}
	for _, p := range ties.decisions {
		if d := f.decisionAt(p); d != nil {
			streams = append(streams, d.streams()...)
		}
	}
	return f.subjectsAt(streams)
}
