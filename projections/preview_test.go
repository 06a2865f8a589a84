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
	t.Parallel()
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
	// Other points and tiers, from now on and for the past, and a second programme.
	points := policy.Default()
	points.Loyalty.Programmes = []policy.Programme{{
		ID: policy.DefaultProgramme, Currency: "EUR",
		Earning: policy.Earning{Retroactive: true, PendingDays: 20},
		Value:   policy.PointValue{Point: number("0.02")},
		Tiers: policy.Tiers{Retroactive: true, Days: 90, Levels: []policy.Level{
			{Name: "member"}, {Name: "bronze", Threshold: *number("10")}, {Name: "gold", Threshold: *number("40")},
		}},
	}}
	two := points
	two.Loyalty.Programmes = append(slices.Clone(points.Loyalty.Programmes), policy.Programme{
		ID: "spend", Currency: "EUR", Retroactive: true, From: "2020-01-01", Tiers: policy.Tiers{By: policy.BySpend, Window: policy.Calendar},
	})
	nobody := shorter
	nobody.Identity.Nobody = []string{"a-1", "u1-2", "b-3", "u2-4"}
	version := 1
	for i, p := range []policy.Policy{policy.Default(), shorter, apart, points, two, nobody, policy.Default()} {
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
		pointsBefore := s.pointsByProgramme()
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

		s.checkPoints(fmt.Sprint("policy ", i), r.Loyalty, pointsBefore, s.pointsByProgramme())

		want := map[[2]string]uint64{}
		gained, lost := map[string]uint64{}, map[string]uint64{}
		for id := range merged(before, after) {
			want[[2]string{before[id].Stage, after[id].Stage}]++
			countChanges(t, gained, changesAfter[id.String()], changesBefore[id.String()])
			countChanges(t, lost, changesBefore[id.String()], changesAfter[id.String()])
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
		gotGained, gotLost := inWeeks(r.Lifecycle.Weeks)
		if fmt.Sprint(gotGained, gotLost) != fmt.Sprint(gained, lost) {
			t.Errorf("policy %d: changes\n got  %v %v\n want %v %v", i, gotGained, gotLost, gained, lost)
		}
		if same := i == 0 || i == 4; same != (len(r.Lifecycle.Weeks) == 0) {
			t.Errorf("policy %d: weeks %v", i, r.Lifecycle.Weeks)
		}
		if p := &r.Loyalty[0]; i == 3 && (p.Old.Totals.Earned != 0 || p.New.Totals.Earned == 0 || p.Changed == 0 || len(p.Tiers.Weeks) == 0) {
			t.Errorf("policy %d: points %+v", i, p)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(s.dir, previewPrefix+"*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// countChanges counts the changes, as "at from>to", that only one of two lists has.
func countChanges(t *testing.T, into map[string]uint64, of, without []string) {
	t.Helper()
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

func inWeeks(all []PreviewWeek) (gained, lost map[string]uint64) {
	gained, lost = map[string]uint64{}, map[string]uint64{}
	for _, w := range all {
		for to, n := range w.Gained {
			gained[w.Start.Format(time.DateOnly)+" "+to] = n
		}
		for to, n := range w.Lost {
			lost[w.Start.Format(time.DateOnly)+" "+to] = n
		}
	}
	return gained, lost
}

func number(text string) *policy.Number {
	d, ok := domain.ParseDecimal(text)
	if !ok {
		panic(text)
	}
	n := policy.Number(d)
	return &n
}

// shownPoints are what the tables say of a programme.
type shownPoints struct {
	members          int
	sums             string            // of all points
	tier, has        map[string]string // by customer; has is the balance
	changes          map[string][]string
	value, liability string
}

func (s *site) pointsByProgramme() map[string]*shownPoints {
	all := map[string]*shownPoints{}
	of := func(id string) *shownPoints {
		if all[id] == nil {
			all[id] = &shownPoints{tier: map[string]string{}, has: map[string]string{}, changes: map[string][]string{}}
		}
		return all[id]
	}
	for _, row := range s.rows(`SELECT concat(programme, ' ', toString(customer_id), ' ', tier, ' ', toString(available), '/', toString(pending), '/', toString(debt)) AS x
		FROM loyalty_status WHERE isNotNull(enrolled_at)`) {
		f := strings.Fields(row)
		p := of(f[0])
		p.members++
		p.tier[f[1]], p.has[f[1]] = f[2], f[3]
	}
	for _, row := range s.rows(`SELECT concat(programme, ' ', toString(sum(available)), ' ', toString(sum(pending)), ' ', toString(sum(debt)), ' ',
		toString(sum(earned)), ' ', toString(sum(reversed)), ' ', toString(sum(expired))) AS x FROM loyalty_status GROUP BY programme`) {
		id, sums, _ := strings.Cut(row, " ")
		of(id).sums = sums
	}
	for _, row := range s.rows(`SELECT concat(programme, ' ', toString(point_value), ' ', toString(liability)) AS x FROM loyalty_programmes`) {
		f := strings.Fields(row)
		of(f[0]).value, of(f[0]).liability = f[1], f[2]
	}
	for _, row := range s.rows(`SELECT concat(programme, ' ', toString(customer_id), ' ', toString(toUnixTimestamp64Milli(at)), ' ', from_tier, '>', to_tier) AS x FROM tier_transitions`) {
		id, rest, _ := strings.Cut(row, " ")
		customer, change, _ := strings.Cut(rest, " ")
		of(id).changes[customer] = append(of(id).changes[customer], change)
	}
	return all
}

// checkPoints compares what a preview says of each programme with what the tables
// said before the policy was applied, and after.
func (s *site) checkPoints(what string, got []LoyaltyComparison, before, after map[string]*shownPoints) {
	s.t.Helper()
	t := s.t.(*testing.T)
	seen := map[string]bool{}
	for _, p := range got {
		seen[p.Programme] = true
		for _, side := range [...]struct {
			got  *LoyaltySide
			want *shownPoints
		}{{p.Old, before[p.Programme]}, {p.New, after[p.Programme]}} {
			if side.want == nil {
				if side.got != nil && side.got.Members != 0 {
					t.Errorf("%s, %s: %+v, want nothing", what, p.Programme, side.got)
				}
				continue
			}
			g := &side.got.Totals
			sums := fmt.Sprint(g.Available, g.Pending, g.Debt, g.Earned, g.Reversed, g.Expired)
			if int(side.got.Members) != side.want.members || sums != side.want.sums ||
				side.got.PointValue.String() != side.want.value || side.got.Liability.String() != side.want.liability {
				t.Errorf("%s, %s: %+v, want %+v", what, p.Programme, side.got, side.want)
			}
		}
		cells, gained, lost, changed := map[[2]string]uint64{}, map[string]uint64{}, map[string]uint64{}, uint64(0)
		was, is := before[p.Programme], after[p.Programme]
		if was == nil {
			was = &shownPoints{}
		}
		if is == nil {
			is = &shownPoints{}
		}
		ids := map[string]bool{}
		for id := range was.tier {
			ids[id] = true
		}
		for id := range is.tier {
			ids[id] = true
		}
		for id := range ids {
			cells[[2]string{was.tier[id], is.tier[id]}]++
			countChanges(t, gained, is.changes[id], was.changes[id])
			countChanges(t, lost, was.changes[id], is.changes[id])
			if was.has[id] != is.has[id] && was.has[id] != "" && is.has[id] != "" {
				changed++
			}
		}
		gotCells := map[[2]string]uint64{}
		for _, c := range p.Tiers.Cells {
			gotCells[[2]string{c.From, c.To}] = c.Customers
			for _, e := range c.Examples {
				checkTier(t, e.Old, was, c.From)
				checkTier(t, e.New, is, c.To)
			}
		}
		if fmt.Sprint(gotCells) != fmt.Sprint(cells) {
			t.Errorf("%s, %s: cells\n got  %v\n want %v", what, p.Programme, gotCells, cells)
		}
		gotGained, gotLost := inWeeks(p.Tiers.Weeks)
		if fmt.Sprint(gotGained, gotLost) != fmt.Sprint(gained, lost) {
			t.Errorf("%s, %s: changes\n got  %v %v\n want %v %v", what, p.Programme, gotGained, gotLost, gained, lost)
		}
		// One that is in the programme under one policy only has changed, too, where
		// it has points.
		if was.tier != nil && is.tier != nil && p.Changed < changed {
			t.Errorf("%s, %s: %d have changed, want %d at least", what, p.Programme, p.Changed, changed)
		}
	}
	for id := range after {
		if !seen[id] {
			t.Errorf("%s: nothing of %s", what, id)
		}
	}
}

// checkTier compares an example with the tables; of another customer it is the part.
func checkTier(t *testing.T, got *PreviewStanding, want *shownPoints, cell string) {
	t.Helper()
	if got == nil {
		if cell != "" {
			t.Errorf("an example of %s says nothing", cell)
		}
		return
	}
	id := got.Customer.String()
	has := fmt.Sprintf("%d/%d/%d", got.Balance.Available, got.Balance.Pending, got.Balance.Debt)
	if got.Name != want.tier[id] || has != want.has[id] || got.Reason == "" {
		t.Errorf("%+v with %s, want %s with %s", got, has, want.tier[id], want.has[id])
	}
}

// With since the candidate's rules about points hold from that day on, as if nothing
// had been applied later.
func TestPreviewSince(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.send(shop()...)
	earning := func(perUnit string, retroactive bool) policy.Policy {
		p := policy.Default()
		p.Loyalty.Programmes = []policy.Programme{{
			ID: policy.DefaultProgramme, Currency: "EUR", Earning: policy.Earning{PerUnit: number(perUnit), Retroactive: retroactive},
		}}
		return p
	}
	// What was bought 9 days ago was 30, what was bought 2 days ago 12.
	earned := func(p policy.Policy, since domain.Millis, leftOut ...int) int64 {
		t.Helper()
		var at time.Time
		if since != 0 {
			at = since.Time()
		}
		run, err := s.views.StartPreview(p, at)
		if err != nil {
			t.Fatal(err)
		}
		r := s.ended(run.ID).Report
		if r == nil || !r.Since.Equal(at) || !slices.Equal(r.LeftOut, leftOut) || len(r.Loyalty) != 1 || r.Loyalty[0].Old.Totals.Earned != 0 {
			t.Fatalf("%+v", r)
		}
		return r.Loyalty[0].New.Totals.Earned
	}
	for _, c := range []struct {
		since       domain.Millis
		retroactive bool
		want        int64
	}{
		{0, false, 0},
		{0, true, 84},
		{day0 - 5*domain.Day, false, 24},
		{day0 - 5*domain.Day, true, 84},
		{day0 - 9*domain.Day, false, 84}, // at that instant
		{day0 - 100*domain.Day, false, 84},
	} {
		if got := earned(earning("2", c.retroactive), c.since); got != c.want {
			t.Errorf("%+v: %d", c, got)
		}
	}
	// A policy that was applied after the day counts for nothing, and the report says
	// which.
	s.clock.set(day0 + domain.Day)
	s.applyNow(Proposal{Policy: loyalAfter(3)}, 2, true)
	s.under(2)
	s.clock.set(day0 + 2*domain.Day)
	s.until("the clock", func() bool { return s.views.Status().LagEvents == 0 && s.views.Status().Clock == day0+2*domain.Day })
	if got := earned(earning("3", false), day0-5*domain.Day, 2); got != 36 {
		t.Errorf("%d points", got)
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
	t.Parallel()
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
	if _, err := s.views.StartPreview(loyalAfter(2), time.Time{}); !errors.Is(err, ErrClosed) {
		t.Errorf("after the stop: %v", err)
	}
	s.start()
}
