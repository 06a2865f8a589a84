package projections

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"sojourn/domain"
)

// What time alone does to points shows at the clock of a flush also where the last
// batch was about the customer and not about points.
func TestTimePassesForWhoIsInTheBatch(t *testing.T) {
	var c clock
	c.set(day0)
	log := openStore(t, &c)
	defer func() { _ = log.Close() }()
	bought("o1", "42", day0-1, 30).appendTo(t, log)
	last := sent{id: "p1", kind: domain.Page, user: "42", at: day0}.appendTo(t, log)
	sink := newMemory()
	g := newGeneration(t, vfs.NewMem(), log, sink, testRules(), &c)
	defer func() { _ = g.state.close() }()
	g.batchEvents = 1
	if err := g.runTo(t.Context(), last, day0+100*domain.Day, nil); err != nil {
		t.Fatal(err)
	}
	for _, r := range sink.loyalty {
		if r.Pending != 0 || r.Expired != 30 {
			t.Errorf("after a hundred days: %+v", r)
		}
	}
	if len(sink.loyalty) != 1 {
		t.Errorf("%d rows of loyalty_status", len(sink.loyalty))
	}
}
