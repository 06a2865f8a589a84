package projections

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"sojourn/domain"
	naive "sojourn/internal/oracle"
	"sojourn/warehouse"
	"sojourn/warehouse/chdb/chdbtest"
)

// A town has a few hundred organisations. Each is held by itself against the
// oracle, which is told its own events only: what the tables hold, what the API
// answers, now and about any other time.
//
// SOJOURN_SEED=n replays one town; SOJOURN_SOAK=10m goes on for that long.
func TestOrganisations(t *testing.T) {
	t.Parallel()
	seed, towns := 0, plans // one of each, and the same at each run
	if os.Getenv("SOJOURN_SOAK") != "" {
		seed = int(time.Now().UnixNano()%1_000_000) * plans
	}
	if s := os.Getenv("SOJOURN_SEED"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatalf("SOJOURN_SEED: %v", err)
		}
		seed, towns = n, 1
	}
	var soak time.Duration
	if s := os.Getenv("SOJOURN_SOAK"); s != "" {
		d, err := time.ParseDuration(s)
		if err != nil {
			t.Fatalf("SOJOURN_SOAK: %v", err)
		}
		soak = d
	}
	engine := chdbtest.Start(t)
	db, err := warehouse.Open(t.Context(), warehouse.Config{Socket: engine.Socket(), Hold: engine.Hold})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	began, histories, sum := time.Now(), 0, tally{}
	for i := 0; i < towns || time.Since(began) < soak; i++ {
		plan, orgs := drawTown(seed + i)
		n, err := check(t.Context(), db, dir, seed+i, plan, orgs)
		if err != nil {
			report(t, db, dir, seed+i, plan, err)
		}
		histories += len(orgs)
		sum.add(n)
		t.Logf("seed %d: %d histories hold so far, with %v, in %s", seed+i, histories, sum, time.Since(began).Round(time.Second))
	}
	if towns == plans {
		if histories < 2000 {
			t.Errorf("%d histories", histories)
		}
		for what, least := range map[string]int{"crash": 1, "merge": 100, "split": 100, "refused": 100, "joined": 1000, "conflict": 100, "kept_apart": 50, "not_tried": 100} {
			if sum[what] < least {
				t.Errorf("there was %q %d times only, which proves little", what, sum[what])
			}
		}
	}
}

// tally is how often things were.
type tally map[string]int

func (t tally) add(more tally) {
	for k, n := range more {
		t[k] += n
	}
}

// report tells of a failure; where the organisation fails by itself as well, with
// no more than it takes.
func report(t *testing.T, db *warehouse.DB, dir string, seed int, plan townPlan, err error) {
	t.Helper()
	var f *failure
	if !errors.As(err, &f) || f.org == nil {
		t.Fatalf("replay with SOJOURN_SEED=%d\n%v", seed, err)
	}
	what, how := f, "among others"
	plan.organisations, plan.batches = 1, []int{7}
	fails := func(o *organisation) *failure {
		_, err := check(t.Context(), db, dir, seed, plan, []*organisation{o})
		var alone *failure
		if errors.As(err, &alone) {
			return alone
		}
		return nil
	}
	if alone := fails(f.org.alone()); alone != nil {
		what, how = alone, "alone"
		deadline := time.Now().Add(time.Minute)
		for i := len(f.org.steps) - 1; i >= 0 && time.Now().Before(deadline); i-- {
			less := what.org.alone()
			if i >= len(less.steps) {
				continue
			}
			less.steps = slices.Delete(less.steps, i, i+1)
			if still := fails(less); still != nil {
				what = still
			}
		}
	}
	t.Fatalf("replay with SOJOURN_SEED=%d\norganisation %d, %s:\n%s\njoin %v, limits %v, alias_users %v\n%s", seed, f.org.number, how, what.what,
		plan.policy.Identity.Join, plan.policy.Identity.Limits, plan.policy.Identity.AliasUsers, what.org.tell())
}

// check lets organisations live and holds all there is against the oracle.
func check(ctx context.Context, db *warehouse.DB, dir string, seed int, plan townPlan, orgs []*organisation) (sum tally, err error) {
	w, err := openTown(ctx, db, dir, seed, plan, orgs)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	if err := w.hold(ctx); err != nil {
		return nil, err
	}
	now := domain.MillisOf(w.clock.now())
	instant := func() domain.Millis { return day0 + domain.Millis(w.rng.Int64N(int64(now-day0))) }
	asOf, knownAt := instant(), plan.rounds[w.rng.IntN(len(plan.rounds))]+domain.Millis(w.rng.IntN(3))
	everywhere := []moment{{}, {asOf: asOf}, {knownAt: knownAt}, {asOf: asOf, knownAt: knownAt}}
	counted := make([]map[uuid.UUID]string, len(everywhere)) // stage by customer
	for i := range counted {
		counted[i] = map[uuid.UUID]string{}
	}
	seeds := make([]uint64, len(orgs))
	for i := range seeds {
		seeds[i] = w.rng.Uint64()
	}
	results := make([][]map[uuid.UUID]string, len(orgs))
	var g errgroup.Group
	g.SetLimit(2)
	for i, o := range orgs {
		g.Go(func() error {
			c := w.checker(o, seeds[i])
			for _, at := range everywhere {
				stages, err := c.moment(at)
				if err != nil {
					return err
				}
				results[i] = append(results[i], stages)
			}
			for _, at := range []moment{{asOf: c.instant()}, {knownAt: c.recorded()}, {c.instant(), c.recorded()}} {
				if _, err := c.moment(at); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	for i, at := range everywhere {
		for _, r := range results {
			maps.Copy(counted[i], r[i])
		}
		if err := w.stages(at, counted[i]); err != nil {
			return nil, err
		}
	}
	sum = tally{"crash": w.crashed}
	for _, o := range orgs {
		for _, j := range o.log.Identity().Joins {
			sum[string(j.Outcome)]++
		}
		for i, became := range o.decisions {
			if len(became) == len("422") {
				sum["refused"]++
			} else {
				sum[o.steps[i].decision]++
			}
		}
	}
	return sum, nil
}

// hold holds the tables and the statements against the oracle.
func (w *town) hold(ctx context.Context) error {
	tables, err := w.readTables(ctx)
	if err != nil {
		return err
	}
	var g errgroup.Group
	g.SetLimit(2)
	for _, o := range w.orgs {
		g.Go(func() error {
			return w.checker(o, 0).tables(tables)
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if err := tables.rest(); err != nil {
		return err
	}
	return w.statements(ctx, tables)
}

// moment is the time of a question.
type moment struct{ asOf, knownAt domain.Millis }

func (m moment) query(more ...string) string {
	q := url.Values{}
	if m.asOf != 0 {
		q.Set("as_of", m.asOf.Time().Format(time.RFC3339Nano))
	}
	if m.knownAt != 0 {
		q.Set("known_at", m.knownAt.Time().Format(time.RFC3339Nano))
	}
	for i := 0; i < len(more); i += 2 {
		q.Set(more[i], more[i+1])
	}
	if len(q) == 0 {
		return ""
	}
	return "?" + q.Encode()
}

func (w *town) get(path string, into any) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	r.Header.Set("Authorization", "Bearer t")
	rec := httptest.NewRecorder()
	w.api.ServeHTTP(rec, r)
	if rec.Code == http.StatusOK {
		if err := json.Unmarshal(rec.Body.Bytes(), into); err != nil {
			panic(err)
		}
	}
	return rec
}

// checker holds one organisation against the oracle.
type checker struct {
	town *town
	o    *organisation
	now  domain.Millis
	rng  *rand.Rand
	// subjects are all that there are to ask for.
	subjects []domain.Subject
}

func (w *town) checker(o *organisation, seed uint64) *checker {
	return &checker{w, o, domain.MillisOf(w.clock.now()), rand.New(rand.NewPCG(seed, 2)), subjectsIn(o.log)}
}

// recorded is an instant about which it matters what was known.
func (c *checker) recorded() domain.Millis {
	return c.o.log[c.rng.IntN(len(c.o.log))].RecordedAt - domain.Millis(c.rng.IntN(2))
}

// instant is one at which something happens, or nearly.
func (c *checker) instant() domain.Millis {
	var all []domain.Millis
	for _, e := range c.o.log {
		if e.Touchpoint != nil {
			all = append(all, e.Touchpoint.OccurredAt)
		}
	}
	for _, a := range c.o.log.Customers(domain.MaxTime) {
		for _, tr := range a.Transitions {
			all = append(all, tr.At)
		}
	}
	if len(all) == 0 {
		return c.now
	}
	return all[c.rng.IntN(len(all))] - domain.Millis(c.rng.IntN(2))
}

// subjectsIn is knownIn as a list.
func subjectsIn(l naive.Log) []domain.Subject {
	var all []domain.Subject
	for s := range knownIn(l) {
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b domain.Subject) int { return strings.Compare(a.String(), b.String()) })
	return all
}

func ownID(s domain.Subject) uuid.UUID { return domain.SubjectID(testKeyer.Stream(s)) }

func wordsOf(subjects []domain.Subject) []string {
	var all []string
	for _, s := range subjects {
		all = append(all, s.String())
	}
	return all
}

func sortedWords(words []string) string {
	return strings.Join(slices.Sorted(slices.Values(words)), " ")
}

// sides are what a decision is to be about, and the status of its answer.
// standsFor is the subject that an id stands for: the user of the customer who was
// seen first.
func (o *organisation) standsFor(s domain.Subject, members []domain.Subject) domain.Subject {
	if s.Kind == domain.User {
		return s
	}
	isUser := func(m domain.Subject) bool { return m.Kind == domain.User && slices.Contains(members, m) }
	seen := map[uuid.UUID]bool{}
	for _, e := range o.log {
		if e.Touchpoint != nil && !seen[e.ID] && isUser(hubOf(e.Touchpoint)) {
			return hubOf(e.Touchpoint)
		}
		seen[e.ID] = true
	}
	users := slices.DeleteFunc(slices.Clone(members), func(m domain.Subject) bool { return m.Kind != domain.User })
	slices.SortFunc(users, func(a, b domain.Subject) int { return strings.Compare(testKeyer.Stream(a), testKeyer.Stream(b)) })
	return append(users, s)[0]
}

func (o *organisation) sides(s step) (status int, these, others []domain.Subject) {
	id := o.log.Identity()
	known := subjectsIn(o.log)
	resolve := func(ref string) (sub domain.Subject, members []domain.Subject, status int) {
		i := slices.IndexFunc(known, func(k domain.Subject) bool { return k.String() == ref || ownID(k).String() == ref })
		if i < 0 {
			return sub, nil, http.StatusNotFound
		}
		sub = known[i]
		if sub.Value == o.nobody() {
			return sub, nil, http.StatusUnprocessableEntity // nobody
		}
		if members = id.Customer(sub); members == nil {
			members = []domain.Subject{sub}
		}
		if ownID(sub).String() == ref {
			sub = o.standsFor(sub, members)
		}
		return sub, members, 0
	}
	var customers [][]domain.Subject
	add := func(list, more []domain.Subject) []domain.Subject {
		for _, m := range more {
			if !slices.Contains(list, m) {
				list = append(list, m)
			}
		}
		return list
	}
	for _, ref := range s.refs {
		if _, err := uuid.Parse(ref); err == nil && s.decision == "split" && s.from == "" {
			return http.StatusUnprocessableEntity, nil, nil
		}
	}
	for _, ref := range s.refs {
		sub, members, status := resolve(ref)
		switch {
		case slices.Contains(these, sub):
		case status != 0:
			return status, nil, nil
		default:
			these, customers = append(these, sub), append(customers, members)
		}
	}
	if s.decision == "merge" {
		if len(these) < 2 {
			return http.StatusUnprocessableEntity, nil, nil
		}
		for _, c := range customers {
			others = add(others, c)
		}
		return http.StatusCreated, these, others
	}
	others = customers[0]
	if s.from == "" {
		for _, c := range customers {
			if c[0] != others[0] {
				return http.StatusUnprocessableEntity, nil, nil
			}
		}
	} else {
		if _, others, status = resolve(s.from); status != 0 {
			return status, nil, nil
		}
		for _, c := range customers {
			if c[0] != others[0] {
				these = add(these, c)
			}
		}
	}
	others = slices.DeleteFunc(slices.Clone(others), func(s domain.Subject) bool { return slices.Contains(these, s) })
	if len(others) == 0 {
		return http.StatusUnprocessableEntity, nil, nil
	}
	return http.StatusCreated, these, others
}

// customerJSON is the customer of an answer.
type customerJSON struct {
	ID         uuid.UUID                  `json:"id"`
	Stage      string                     `json:"stage"`
	StageSince time.Time                  `json:"stage_since"`
	Cause      string                     `json:"cause"`
	Purchases  int                        `json:"purchases"`
	Refunds    int                        `json:"refunds"`
	Revenue    map[string]string          `json:"revenue"`
	FirstSeen  time.Time                  `json:"first_seen"`
	LastSeen   time.Time                  `json:"last_seen"`
	Traits     map[string]json.RawMessage `json:"traits"`
	Subjects   []string                   `json:"subjects"`
	AsOf       time.Time                  `json:"as_of"`
}

func (c customerJSON) String() string {
	var traits []string
	for k, v := range c.Traits {
		traits = append(traits, k+"="+string(v))
	}
	first := ""
	if len(c.Subjects) > 0 {
		first = c.Subjects[0]
	}
	return fmt.Sprintf("%s %s since %s by %s, %d purchases, %d refunds, %v, seen %s to %s, %s, %s: %s, as of %s", c.ID, c.Stage, domain.MillisOf(c.StageSince), c.Cause,
		c.Purchases, c.Refunds, c.Revenue, domain.MillisOf(c.FirstSeen), domain.MillisOf(c.LastSeen), sortedWords(traits), first, sortedWords(c.Subjects), domain.MillisOf(c.AsOf))
}

// answerJSON is what an answer should be.
func answerJSON(a naive.Answer, asOf domain.Millis) customerJSON {
	c := customerJSON{
		ID: ownID(a.Subjects[0]), Stage: string(a.Stage), StageSince: a.StageSince.Time(),
		Purchases: a.Totals.Purchases, Refunds: a.Totals.Refunds, Revenue: map[string]string{},
		FirstSeen: a.FirstSeen.Time(), LastSeen: a.LastSeen.Time(), Traits: map[string]json.RawMessage{},
		Subjects: wordsOf(a.Subjects), AsOf: asOf.Time(), Cause: a.Transitions[len(a.Transitions)-1].Cause.String(),
	}
	for currency, amount := range a.Totals.Revenue {
		c.Revenue[currency] = amount.String()
	}
	for k, v := range a.Traits {
		c.Traits[k] = json.RawMessage(v)
	}
	return c
}

// moment asks everything about a time and returns the stages of the customers.
func (c *checker) moment(at moment) (map[uuid.UUID]string, error) {
	log, asOf := c.o.log, c.now
	if at.knownAt != 0 {
		log, asOf = log.KnownAt(at.knownAt), at.knownAt
	}
	if at.asOf != 0 {
		asOf = at.asOf
	}
	answers, identity := log.Customers(asOf), log.Identity()
	stages := map[uuid.UUID]string{}
	of := map[domain.Subject]*naive.Answer{}
	for i := range answers {
		a := &answers[i]
		stages[ownID(a.Subjects[0])] = string(a.Stage)
		for _, s := range a.Subjects {
			of[s] = a
		}
	}
	asked := map[*naive.Answer]bool{}
	for _, s := range c.subjects {
		a := of[s]
		// By its name, by its id, or by both where it is the first of a customer's.
		first := a != nil && !asked[a]
		byName := first || c.rng.IntN(2) == 0
		if byName {
			if err := c.byName(s, at, a, asOf); err != nil {
				return nil, err
			}
		}
		if first || !byName {
			if err := c.byID(s, at, a, identity); err != nil {
				return nil, err
			}
		}
		if a == nil {
			continue
		}
		if asked[a] {
			continue
		}
		asked[a] = true
		if err := c.identity(s, at, a, identity); err != nil {
			return nil, err
		}
		if err := c.timeline(s, at, a); err != nil {
			return nil, err
		}
	}
	return stages, nil
}

// byName asks for the customer of a subject, who is nobody where a is nil.
func (c *checker) byName(s domain.Subject, at moment, a *naive.Answer, asOf domain.Millis) error {
	var got customerJSON
	rec := c.town.get("/api/v1/customers/"+url.PathEscape(s.String())+at.query(), &got)
	if a == nil {
		if rec.Code != http.StatusNotFound {
			return c.o.failf("%s%s: status %d, want 404: %s", s, at.query(), rec.Code, rec.Body)
		}
		return nil
	}
	if want := answerJSON(*a, asOf); rec.Code != http.StatusOK || got.String() != want.String() {
		return c.o.failf("%s%s: status %d\n got  %s\n want %s", s, at.query(), rec.Code, got, want)
	}
	return nil
}

// byID asks for the customer by a subject's own id, which leads on to the id of the
// customer.
func (c *checker) byID(s domain.Subject, at moment, a *naive.Answer, identity naive.Identity) error {
	rec := c.town.get("/api/v1/customers/"+ownID(s).String()+at.query(), &customerJSON{})
	code, to := rec.Code, rec.Header().Get("Location")
	wantCode, wantTo := http.StatusOK, ""
	switch {
	case a == nil:
		wantCode = http.StatusNotFound
		// It leads on where the customer has touchpoints at all.
		if set := identity.Customer(s); code == http.StatusPermanentRedirect && len(set) > 0 && set[0] != s {
			wantCode, wantTo = code, "/api/v1/customers/"+ownID(set[0]).String()+at.query()
		}
	case s != a.Subjects[0]:
		wantCode, wantTo = http.StatusPermanentRedirect, "/api/v1/customers/"+ownID(a.Subjects[0]).String()+at.query()
	}
	if code != wantCode || to != wantTo {
		return c.o.failf("the id of %s%s: status %d to %q, want %d to %q: %s", s, at.query(), code, to, wantCode, wantTo, rec.Body)
	}
	return nil
}

// identity holds the joins about a customer against the oracle's.
func (c *checker) identity(s domain.Subject, at moment, a *naive.Answer, identity naive.Identity) error {
	var body struct {
		ID    uuid.UUID `json:"id"`
		Joins []struct {
			EventID uuid.UUID `json:"event_id"`
			Subject string    `json:"subject"`
			Other   string    `json:"other"`
			Alias   bool      `json:"alias"`
			Outcome string    `json:"outcome"`
		} `json:"joins"`
	}
	rec := c.town.get("/api/v1/customers/"+url.PathEscape(s.String())+"/identity"+at.query(), &body)
	var got, want []string
	for _, j := range body.Joins {
		got = append(got, fmt.Sprint(j.EventID, " ", j.Subject, " ", j.Other, " ", j.Outcome))
	}
	// Messages that name what an earlier one has named may be left out.
	type pair struct {
		hub, other domain.Subject
		alias      bool
	}
	first := map[pair]bool{}
	for _, j := range identity.Joins {
		if slices.Contains(a.Subjects, j.Hub) || slices.Contains(a.Subjects, j.Other) {
			// Of an alias that joins nothing it is not told which of two things it means.
			if j.Alias && j.Outcome == naive.NotTried {
				continue
			}
			p, line := pair{j.Hub, j.Other, j.Alias}, fmt.Sprint(j.Event, " ", j.Hub, " ", j.Other, " ", j.Outcome)
			if !first[p] || slices.Contains(got, line) {
				want = append(want, line)
			}
			first[p] = true
		}
	}
	if rec.Code != http.StatusOK || body.ID != ownID(a.Subjects[0]) || !slices.Equal(got, want) {
		return c.o.failf("the identity of %s%s: status %d, %s\n got  %s\n want %s", s, at.query(), rec.Code, body.ID, strings.Join(got, "\n      "), strings.Join(want, "\n      "))
	}
	return nil
}

// timeline reads a customer's timeline in pages.
func (c *checker) timeline(s domain.Subject, at moment, a *naive.Answer) error {
	var touchpoints, transitions []string
	limit := strconv.Itoa(1 + c.rng.IntN(20))
	for cursor := ""; ; {
		var body struct {
			Entries []struct {
				At         time.Time
				Touchpoint *struct {
					EventID uuid.UUID `json:"event_id"`
				}
				Transition *struct{ From, To, Cause string }
			}
			NextCursor string `json:"next_cursor"`
		}
		more := []string{"limit", limit}
		if cursor != "" {
			more = append(more, "cursor", cursor)
		}
		if rec := c.town.get("/api/v1/customers/"+url.PathEscape(s.String())+"/timeline"+at.query(more...), &body); rec.Code != http.StatusOK {
			return c.o.failf("the timeline of %s%s: status %d: %s", s, at.query(more...), rec.Code, rec.Body)
		}
		for _, e := range body.Entries {
			if e.Touchpoint != nil {
				touchpoints = append(touchpoints, e.Touchpoint.EventID.String())
			} else {
				transitions = append(transitions, fmt.Sprint(domain.MillisOf(e.At), " ", e.Transition.From, "→", e.Transition.To, " ", e.Transition.Cause))
			}
		}
		if cursor = body.NextCursor; cursor == "" {
			break
		}
	}
	var wantTouchpoints, wantTransitions []string
	for _, id := range a.Touchpoints {
		wantTouchpoints = append(wantTouchpoints, id.String())
	}
	for _, tr := range a.Transitions {
		wantTransitions = append(wantTransitions, fmt.Sprint(tr.At, " ", tr.From, "→", tr.To, " ", tr.Cause))
	}
	if !slices.Equal(touchpoints, wantTouchpoints) || !slices.Equal(transitions, wantTransitions) {
		return c.o.failf("the timeline of %s%s\n got  %s\n      %s\n want %s\n      %s", s, at.query(),
			strings.Join(touchpoints, " "), strings.Join(transitions, "\n      "), strings.Join(wantTouchpoints, " "), strings.Join(wantTransitions, "\n      "))
	}
	return nil
}

// stages holds the counts and the list of all customers against those of the
// organisations.
func (w *town) stages(at moment, want map[uuid.UUID]string) error {
	var body struct {
		Customers int
		Stages    []struct {
			Stage     string
			Customers int
		}
	}
	rec := w.get("/api/v1/stages"+at.query(), &body)
	counts := map[string]int{}
	for _, stage := range want {
		counts[stage]++
	}
	for _, s := range body.Stages {
		if s.Customers != counts[s.Stage] {
			return &failure{what: fmt.Sprintf("stages%s: %d are %s, want %d", at.query(), s.Customers, s.Stage, counts[s.Stage])}
		}
	}
	if rec.Code != http.StatusOK || body.Customers != len(want) {
		return &failure{what: fmt.Sprintf("stages%s: status %d, %d customers, want %d", at.query(), rec.Code, body.Customers, len(want))}
	}
	got := map[uuid.UUID]string{}
	for cursor := ""; ; {
		var page struct {
			Customers  []customerJSON
			NextCursor string `json:"next_cursor"`
		}
		more := []string{"limit", "700"}
		if cursor != "" {
			more = append(more, "cursor", cursor)
		}
		if rec := w.get("/api/v1/customers"+at.query(more...), &page); rec.Code != http.StatusOK {
			return &failure{what: fmt.Sprintf("customers%s: status %d: %s", at.query(more...), rec.Code, rec.Body)}
		}
		for _, c := range page.Customers {
			if got[c.ID] != "" {
				return &failure{what: fmt.Sprintf("customers%s: %s is listed twice", at.query(), c.ID)}
			}
			got[c.ID] = c.Stage
		}
		if cursor = page.NextCursor; cursor == "" {
			break
		}
	}
	for id, stage := range want {
		if got[id] != stage {
			return &failure{what: fmt.Sprintf("customers%s: %s is %q, want %s", at.query(), id, got[id], stage)}
		}
	}
	if len(got) != len(want) {
		return &failure{what: fmt.Sprintf("customers%s: %d are listed, want %d", at.query(), len(got), len(want))}
	}
	return nil
}

// failing is a test that keeps its failure.
type failing struct{ err error }

func (f *failing) Helper() {}

func (f *failing) Fatalf(format string, args ...any) {
	f.err = fmt.Errorf(format, args...)
	panic(f)
}
