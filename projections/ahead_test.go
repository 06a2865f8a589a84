package projections

import (
	"errors"
	"testing"

	"github.com/google/uuid"

	"sojourn/domain"
)

// What the log holds is answered before the views have written it, of customers that
// they do not know yet, too, and of those that join meanwhile.
func TestWholeAhead(t *testing.T) {
	var c clock
	c.set(day0)
	log := openStore(t, &c)
	defer func() { _ = log.Close() }()
	g := live(t, newMemory(), log, &c)
	views := &Views{cfg: Config{Store: log, Keyer: testKeyer, Now: c.now}, logger: discard, active: g, heavy: heavyCustomer}
	views.ahead.views = views
	login("m1", "u1", "tablet", day0-5*domain.Day).appendTo(t, log)
	id := domain.SubjectID(testKeyer.Stream(domain.Subject{Kind: domain.User, Value: "u1"}))
	got, err := views.WholeAhead(t.Context(), id, nil)
	if err != nil || got.Stage != "lead" || len(got.Members) != 2 {
		t.Fatalf("%+v, %v", got, err)
	}
	bought("o1", "u1", day0-domain.Day, 30).appendTo(t, log)
	if got, err = views.WholeAhead(t.Context(), id, nil); err != nil || got.Stage != "first_purchase" || got.Purchases != 1 {
		t.Fatalf("%+v, %v", got, err)
	}
	login("m2", "u1", "phone", day0-domain.Day).appendTo(t, log)
	if got, err = views.WholeAhead(t.Context(), id, nil); err != nil || len(got.Members) != 3 {
		t.Fatalf("%+v, %v", got, err)
	}
	if _, err := views.WholeAhead(t.Context(), uuid.New(), nil); !errors.Is(err, ErrNotFound) {
		t.Fatalf("somebody unknown: %v", err)
	}
	// The views have none of it yet.
	if _, err := views.Whole(t.Context(), id, At{}, nil); !errors.Is(err, ErrNotFound) {
		t.Fatalf("the views know it: %v", err)
	}
	flushAll(t, g, day0)
	if got, err = views.WholeAhead(t.Context(), id, nil); err != nil || got.Stage != "first_purchase" || len(got.Members) != 3 {
		t.Fatalf("with the views at the end of the log: %+v, %v", got, err)
	}
	views.ahead.close()
	if _, err := views.WholeAhead(t.Context(), id, nil); !errors.Is(err, ErrClosed) {
		t.Fatalf("after the end: %v", err)
	}
}
