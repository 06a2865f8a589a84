package projections

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"

	"sojourn/domain"
	"sojourn/domain/policy"
	"sojourn/eventstore"
	naive "sojourn/internal/oracle"
)

func init() {
	worlds["views"] = func(t *testing.T) world {
		w := &viewsWorld{t: t}
		w.store = openStore(t, &w.at)
		t.Cleanup(func() { _ = w.store.Close() })
		w.views = &Views{cfg: Config{Store: w.store, Keyer: testKeyer, Now: w.at.now}, logger: discard, ctx: t.Context()}
		return w
	}
}

// viewsWorld is a world that answers from the views, which follow the log.
type viewsWorld struct {
	t     *testing.T
	at    clock
	store eventstore.Store
	views *Views
	sink  *memory
}

func (w *viewsWorld) clock(t domain.Millis) {
	w.at.set(t)
	if w.sink == nil {
		w.build(policy.Default())
	}
}

// build lets views follow the log from its beginning, under a policy.
func (w *viewsWorld) build(p policy.Policy) {
	w.t.Helper()
	version, _, err := ApplyPolicy(w.t.Context(), w.store, p, "")
	if err == nil {
		w.views.policies, err = readPolicies(w.t.Context(), w.store)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.sink = newMemory()
	g := newGeneration(w.t, vfs.NewMem(), w.store, w.sink, w.views.policies[version-1].Rules, &w.at)
	w.t.Cleanup(func() { _ = g.state.close() })
	w.views.active = g
	w.read()
}

// read lets the views read everything.
func (w *viewsWorld) read() {
	w.t.Helper()
	g := w.views.active
	err := g.runToEnd(w.t.Context(), nil)
	if err == nil && g.fold.silent {
		err = g.reconcile(w.t.Context())
	}
	if err == nil {
		err = g.settle()
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *viewsWorld) send(m told) {
	w.t.Helper()
	stream, e := m.event()
	h := m.header()
	e.Metadata, e.Data = h.Append(nil), m.data()
	if _, err := w.store.Append(w.t.Context(), stream, eventstore.Any{}, e); err != nil {
		w.t.Fatal(err)
	}
	w.read()
}

func (w *viewsWorld) apply(p naive.Policy) {
	w.t.Helper()
	doc := policy.Default()
	doc.Identity.Join = nil
	for _, k := range p.Join {
		doc.Identity.Join = append(doc.Identity.Join, string(k))
	}
	doc.Identity.Limits = map[string]int{}
	for k, n := range p.Limits {
		doc.Identity.Limits[string(k)] = n
	}
	doc.Identity.AliasUsers, doc.Identity.Nobody = p.AliasUsers, p.Nobody
	if err := doc.Validate(); err != nil {
		w.t.Fatal(err)
	}
	w.build(doc)
}

func (w *viewsWorld) merge(subjects []string, reason, author string) {
	w.t.Helper()
	w.read()
	if _, err := w.views.Merge(w.t.Context(), MergeRequest{Subjects: subjects, Reason: reason, Author: author}); err != nil {
		w.t.Fatalf("merge %v: %v", subjects, err)
	}
	w.read()
}

func (w *viewsWorld) split(subjects []string, from, reason, author string) {
	w.t.Helper()
	w.read()
	if _, err := w.views.Split(w.t.Context(), SplitRequest{Subjects: subjects, From: from, Reason: reason, Author: author}); err != nil {
		w.t.Fatalf("split %v: %v", subjects, err)
	}
	w.read()
}

func (w *viewsWorld) customer(ref string, at At) (Customer, bool) {
	w.t.Helper()
	w.read()
	c, err := w.views.Customer(w.t.Context(), ref, at)
	var moved *MovedError
	if errors.As(err, &moved) {
		c, err = w.views.Customer(w.t.Context(), moved.To.String(), at)
	}
	if errors.Is(err, ErrNotFound) {
		return Customer{}, false
	}
	if err != nil {
		w.t.Fatalf("%s %+v: %v", ref, at, err)
	}
	return c, true
}

func (w *viewsWorld) stages(ref string) []string {
	w.t.Helper()
	w.read()
	entries, _, err := w.views.Timeline(context.Background(), ref, At{}, "", 1000)
	if err != nil {
		w.t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		if e.Transition != nil {
			all = append(all, e.Transition.To+" "+domain.MillisOf(e.At).String())
		}
	}
	return all
}

func (w *viewsWorld) outcomes(a, b string) []string {
	w.t.Helper()
	w.read()
	// A subject without a touchpoint has no customer to ask for, so ask for both.
	var all []string
	var seen []uuid.UUID
	for _, ref := range []string{a, b} {
		id, err := w.views.Identity(w.t.Context(), ref, At{})
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			w.t.Fatal(err)
		}
		for _, j := range id.Joins {
			if (j.Subject == a && j.Other == b || j.Subject == b && j.Other == a) && !slices.Contains(seen, j.Event) {
				seen, all = append(seen, j.Event), append(all, j.Outcome)
			}
		}
	}
	return all
}

func (w *viewsWorld) conflicts() []string {
	w.t.Helper()
	w.read()
	var all []string
	for _, c := range w.sink.conflicts {
		if !c.Removed && c.Status == "open" {
			all = append(all, c.Subject+" - "+c.Other)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}
