package projections

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"sojourn/domain"
	"sojourn/domain/lifecycle"
	"sojourn/domain/policy"
	"sojourn/eventstore"
)

// previewed runs a preview to its end.
func (s *site) preview(p policy.Policy) Preview {
	s.t.Helper()
	run, err := s.views.StartPreview(p, time.Time{})
	if err != nil {
		s.t.Fatal(err)
	}
	return s.ended(run.ID)
}

func (s *site) ended(id uuid.UUID) Preview {
	s.t.Helper()
	s.views.previews.work.Wait()
	run, err := s.views.Preview(id)
	if err != nil {
		s.t.Fatal(err)
	}
	return run
}

// changesByCustomer are the changes of stage that the table has, as "at from>to".
func (s *site) changesByCustomer() map[string][]string {
	all := map[string][]string{}
	for _, row := range s.rows(`SELECT concat(toString(customer_id), ' ', toString(toUnixTimestamp64Milli(at)), ' ', from_stage, '>', to_stage) AS x FROM stage_transitions`) {
		id, change, _ := strings.Cut(row, " ")
		all[id] = append(all[id], change)
	}
	return all
}

// What a preview says is what the views say before and after the policy is applied.
func TestPreviewIsWhatApplyDoes(t *testing.T) {
	s := newSite(t)
	all, _ := crowd(12)
	s.clock.set(day0 + 300*domain.Day)
	s.send(all...)
	s.clock.set(day0 + 310*domain.Day)
	s.until("the clock", func() bool { return s.views.Status().Clock == day0+310*domain.Day })

	shorter := policy.Default()
	shorter.Lifecycle = policy.Lifecycle{AtRiskDays: 20, ChurnedDays: 40, LostDays: 200, WonBackDays: 30, LoyalPurchases: 2, LoyalDays: 365}
	apart := policy.Default()
	apart.Identity.Join = []string{"user"}
	apart.Events = []policy.Mapping{{Name: "Order Completed", Meaning: policy.Lead}}
	nobody := shorter
	nobody.Identity.Nobody = []string{"a-1", "u1-2", "b-3", "u2-4"}
	version := 1
	for i, p := range []policy.Policy{policy.Default(), shorter, apart, nobody, policy.Default()} {
		s.until("the end of the log", func() bool { return s.views.Status().LagEvents == 0 })
		run := s.preview(p)
		if run.State != PreviewDone || run.Report == nil || run.Done != run.Total || run.Total == 0 {
			t.Fatalf("policy %d: %+v", i, run)
		}
		r := run.Report
		if st := s.views.Status(); r.Position != st.Position || domain.MillisOf(r.Clock) != st.Clock || r.Policy != version {
			t.Errorf("policy %d: at %d, %v, version %d; want %+v", i, r.Position, r.Clock, r.Policy, st)
		}
		before := s.standings()
		changesBefore := s.changesByCustomer()
		v, applied, err := s.views.Apply(t.Context(), Proposal{Policy: p})
		if err != nil {
			t.Fatal(err)
		}
		if applied != (len(r.Changes) > 0) {
			t.Errorf("policy %d: applied %t, but the changes are %+v", i, applied, r.Changes)
		}
		version = v.Version
		s.under(version)
		s.tidy()
		after := s.standings()
		changesAfter := s.changesByCustomer()

		want := map[[2]string]uint64{}
		gained, lost := map[string]uint64{}, map[string]uint64{}
		for id := range merged(before, after) {
			want[[2]string{before[id].Stage, after[id].Stage}]++
			count := func(into map[string]uint64, of, without []string) {
				for _, c := range of {
					if !slices.Contains(without, c) {
						var at int64
						_, to, _ := strings.Cut(c, ">")
						if _, err := fmt.Sscan(c, &at); err != nil {
							t.Fatal(err)
						}
						day := time.UnixMilli(at).UTC()
						monday := day.AddDate(0, 0, -int(day.Weekday()+6)%7)
						into[monday.Format(time.DateOnly)+" "+to]++
					}
				}
			}
			count(gained, changesAfter[id.String()], changesBefore[id.String()])
			count(lost, changesBefore[id.String()], changesAfter[id.String()])
		}
		got := map[[2]string]uint64{}
		for _, cell := range r.Lifecycle.Cells {
			got[[2]string{cell.From, cell.To}] = cell.Customers
			if n := len(cell.Examples); n != int(min(cell.Customers, maxExamples)) {
				t.Errorf("policy %d, %s>%s: %d examples of %d", i, cell.From, cell.To, n, cell.Customers)
			}
			for _, e := range cell.Examples {
				if cell.From != "" {
					checkStanding(t, e.Old, before[e.Customer])
				}
				if cell.To != "" {
					checkStanding(t, e.New, after[e.Customer])
				}
				if cell.To == "" {
					c, err := s.views.Customer(t.Context(), e.Subject, At{})
					if errors.Is(err, ErrNotFound) && e.New == nil {
						continue
					}
					if err != nil || e.New == nil || e.New.Customer != c.ID || c.ID == e.Customer {
						t.Errorf("policy %d: %+v became part of %+v: %v", i, e, c, err)
					}
				}
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("policy %d: cells\n got  %v\n want %v", i, got, want)
		}
		gotGained, gotLost := map[string]uint64{}, map[string]uint64{}
		for _, w := range r.Lifecycle.Weeks {
			for to, n := range w.Gained {
				gotGained[w.Start.Format(time.DateOnly)+" "+to] = n
			}
			for to, n := range w.Lost {
				gotLost[w.Start.Format(time.DateOnly)+" "+to] = n
			}
		}
		if fmt.Sprint(gotGained, gotLost) != fmt.Sprint(gained, lost) {
			t.Errorf("policy %d: changes\n got  %v %v\n want %v %v", i, gotGained, gotLost, gained, lost)
		}
		if i == 0 && len(r.Lifecycle.Weeks) != 0 || i > 0 && len(r.Lifecycle.Weeks) == 0 {
			t.Errorf("policy %d: weeks %v", i, r.Lifecycle.Weeks)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(s.dir, previewPrefix+"*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func (s *site) standings() map[uuid.UUID]Customer {
	all := map[uuid.UUID]Customer{}
	for _, c := range s.pages("", At{}) {
		all[c.ID] = c
	}
	return all
}

func merged(a, b map[uuid.UUID]Customer) map[uuid.UUID]bool {
	ids := map[uuid.UUID]bool{}
	for id := range a {
		ids[id] = true
	}
	for id := range b {
		ids[id] = true
	}
	return ids
}

func checkStanding(t *testing.T, got *PreviewStanding, want Customer) {
	t.Helper()
	if got == nil || got.Customer != want.ID || got.Name != want.Stage || !got.Since.Equal(want.StageSince) ||
		got.Reason != want.Reason || got.Cause != want.Cause || got.Subjects != len(want.Subjects) {
		t.Errorf("%+v\nwant %+v", got, want)
	}
}

// heldStore is a log that is not read while it is held.
type heldStore struct {
	eventstore.Store
	reading chan struct{}
	release chan struct{}
}

func (h *heldStore) ReadAll(ctx context.Context, after eventstore.Position) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		h.reading <- struct{}{}
		select {
		case <-h.release:
		case <-ctx.Done():
			yield(eventstore.Recorded{}, ctx.Err())
			return
		}
		for e, err := range h.Store.ReadAll(ctx, after) {
			if !yield(e, err) {
				return
			}
		}
	}
}

func TestPreviewsOneAtATime(t *testing.T) {
	s := newSite(t)
	s.send(shop()...)
	held := &heldStore{s.store, make(chan struct{}), make(chan struct{})}
	s.views.cfg.Store = held
	first, err := s.views.StartPreview(loyalAfter(2), time.Time{})
	if err != nil || first.State != PreviewRunning {
		t.Fatalf("%+v, %v", first, err)
	}
	<-held.reading
	var running *PreviewRunningError
	if _, err := s.views.StartPreview(loyalAfter(3), time.Time{}); !errors.As(err, &running) || running.ID != first.ID {
		t.Errorf("a second one: %v", err)
	}
	if p, err := s.views.CancelPreview(first.ID); err != nil || p.ID != first.ID {
		t.Errorf("cancel: %+v, %v", p, err)
	}
	if p := s.ended(first.ID); p.State != PreviewCancelled || p.Report != nil || p.EndedAt.IsZero() {
		t.Errorf("cancelled: %+v", p)
	}
	// Once more, to the end this time, while a policy is applied and switched to.
	second, err := s.views.StartPreview(loyalAfter(2), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	<-held.reading
	if p, err := s.views.CancelPreview(first.ID); err != nil || p.State != PreviewCancelled {
		t.Errorf("cancel what has ended: %+v, %v", p, err)
	}
	if all := s.views.Previews(); len(all) != 2 || all[0].ID != second.ID || all[0].State != PreviewRunning || all[0].Total == 0 || all[1].ID != first.ID {
		t.Errorf("previews: %+v", all)
	}
	close(held.release)
	if p := s.ended(second.ID); p.State != PreviewDone || p.Report.Lifecycle.New[slices.Index(lifecycle.Stages, lifecycle.Loyal)].Customers == 0 {
		t.Errorf("done: %+v", p)
	}
	if p := s.views.Previews(); p[0].Report != nil {
		t.Error("the list has reports")
	}
	s.clock.set(day0 + domain.MillisOf(time.UnixMilli(int64(previewsKept/time.Millisecond))))
	if _, err := s.views.Preview(second.ID); !errors.Is(err, ErrNoPreview) {
		t.Errorf("an hour later: %v", err)
	}
	if all := s.views.Previews(); len(all) != 0 {
		t.Errorf("an hour later: %+v", all)
	}
	// A stop gives up the one under way.
	held.release = make(chan struct{})
	third, err := s.views.StartPreview(loyalAfter(2), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	<-held.reading
	s.stop()
	if p := s.ended(third.ID); p.State != PreviewCancelled {
		t.Errorf("after the stop: %+v", p)
	}
	if _, err := s.views.StartPreview(loyalAfter(2), time.Time{}); !errors.Is(err, errClosed) {
		t.Errorf("after the stop: %v", err)
	}
	s.start()
}
