package ingest

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/google/uuid"

	"sojourn/domain"
	"sojourn/eventstore"
)

// flight is a call between its claim of event ids and their being durable.
type flight struct{ done chan struct{} }

// claims are the event ids that are being decided about.
type claims struct {
	mu   sync.Mutex
	byID map[uuid.UUID]*flight
}

// take claims for f the ids of the pending items that nobody else holds. The
// others come later: those whose id another call holds, when that flight has
// ended, and those whose id stands twice in this call, when the first has been
// decided. A call waits only while it holds nothing, so no two wait for each
// other.
func (c *claims) take(f *flight, items []item, pending, claimed, later []int, flights []*flight) ([]int, []int, []*flight) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, i := range pending {
		id := items[i].id
		held, ok := c.byID[id]
		if !ok {
			c.byID[id] = f
			claimed = append(claimed, i)
			continue
		}
		later = append(later, i)
		if held != f && !slices.Contains(flights, held) {
			flights = append(flights, held)
		}
	}
	return claimed, later, flights
}

// end gives up the ids that f had claimed and wakes those who wait for them.
func (c *claims) end(f *flight, items []item, claimed []int) {
	c.mu.Lock()
	for _, i := range claimed {
		delete(c.byID, items[i].id)
	}
	c.mu.Unlock()
	close(f.done)
}

// maxSkip is how many events are read past on the way to the next one wanted
// before a new read is begun.
const maxSkip = 64

// compare decides about items whose ids the log holds already, at the positions
// set in them: a duplicate where the content is equal, else a reject.
func (s *Service) compare(ctx context.Context, items []item, known []int) error {
	slices.SortFunc(known, func(a, b int) int {
		switch pa, pb := items[a].position, items[b].position; {
		case pa < pb:
			return -1
		case pa > pb:
			return 1
		}
		return 0
	})
	for len(known) > 0 {
		skipped := 0
		for e, err := range s.log.ReadAll(ctx, items[known[0]].position-1) {
			if err != nil {
				return fmt.Errorf("read the first event of an id: %w", err)
			}
			it := &items[known[0]]
			if e.Position < it.position {
				if skipped++; skipped > maxSkip {
					break
				}
				continue
			}
			if e.Position != it.position || e.ID != it.id {
				return fmt.Errorf("the index of event ids says that %s stands at position %d, and it does not", it.id, it.position)
			}
			skipped = 0
			if err := it.against(e); err != nil {
				return err
			}
			if known = known[1:]; len(known) == 0 {
				break
			}
		}
		if len(known) > 0 && skipped <= maxSkip {
			return fmt.Errorf("the index of event ids names position %d, which the log does not reach", items[known[0]].position)
		}
	}
	return nil
}

// against compares an item with the event that bears its id.
func (it *item) against(e eventstore.Recorded) error {
	h, err := domain.ParseHeader(string(e.Metadata))
	if err != nil {
		return fmt.Errorf("read event %s at position %d: %w", e.ID, e.Position, err)
	}
	if h.Kind == it.kind && string(e.Data) == string(it.msg.Raw) ||
		string(content(h.Kind, e.Data)) == string(content(it.kind, it.msg.Raw)) {
		it.state = duplicate
		return nil
	}
	it.reject(fault{CodeContentDiffer, "a message with this messageId and another content came before; the first stands"})
	return nil
}
