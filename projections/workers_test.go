package projections

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sojourn/domain"
	"sojourn/eventstore"
	"sojourn/warehouse"
	"sojourn/warehouse/chdb/chdbtest"
)

// crew are workers over one log and one engine, and a reader.
type crew struct {
	*site
	workers []*Views
	reader  *Views
	failed  chan error
	sent    int
	known   map[string]bool // who has been seen
}

func newCrew(t *testing.T) *crew {
	t.Helper()
	s := &site{t: t, dir: t.TempDir()}
	s.clock.set(day0)
	s.store = openStore(t, &s.clock)
	t.Cleanup(func() { _ = s.store.Close() })
	db, err := warehouse.Open(t.Context(), warehouse.Config{Socket: chdbtest.Start(t).Socket()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	s.db = db
	if err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	p := testRules().Policy
	s.apply(p)
	c := &crew{site: s, failed: make(chan error, 10), known: map[string]bool{}}
	t.Cleanup(func() { c.stopAll(); c.stopOne(c.reader) })
	return c
}

func (c *crew) open(cfg Config) *Views {
	c.t.Helper()
	cfg.Store, cfg.DB, cfg.Keyer, cfg.FlushInterval, cfg.Now, cfg.Logger = c.store, c.db, testKeyer, 20*time.Millisecond, c.clock.now, discard
	cfg.Workers, cfg.Failed = true, func(err error) { c.failed <- err }
	v, err := Start(c.t.Context(), cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	return v
}

func (c *crew) worker(i, n int) *Views {
	return c.open(Config{Shard: Shard{i, n}, Dir: filepath.Join(c.dir, fmt.Sprint(i))})
}

func (c *crew) startAll(n int) {
	c.t.Helper()
	for i := range n {
		c.workers = append(c.workers, c.worker(i+1, n))
	}
}

func (c *crew) stopOne(v *Views) {
	if v != nil {
		if err := v.Stop(); err != nil {
			c.t.Error(err)
		}
	}
}

func (c *crew) stopAll() {
	for _, v := range c.workers {
		c.stopOne(v)
	}
	c.workers = nil
}

// post appends messages of people who come to share devices.
func (c *crew) post(rng *rand.Rand, n int) {
	c.t.Helper()
	for range n {
		c.sent++
		m := sent{id: fmt.Sprintf("m%d", c.sent), at: day0 - domain.Millis(rng.IntN(90))*domain.Day, kind: domain.Track, name: "Product Viewed"}
		user, anon := fmt.Sprintf("u%d", rng.IntN(60)), fmt.Sprintf("a%d", rng.IntN(90))
		switch rng.IntN(6) {
		case 0:
			m = login(m.id, user, anon, m.at)
		case 1:
			m = bought(m.id, user, m.at, 30)
		case 2:
			m.user = user
		case 3:
			m.kind, m.user, m.group = domain.Group, user, fmt.Sprintf("acme%d", rng.IntN(5))
		case 4:
			m.decision = []string{"merge", "split"}[rng.IntN(2)]
			m.these = []domain.Subject{{Kind: domain.User, Value: user}}
			m.andThem = []domain.Subject{{Kind: domain.Anon, Value: anon}}
			if m.decision == "merge" {
				m.these, m.andThem = append(m.these, m.andThem...), nil
			}
		default:
			m.anon = anon
		}
		if m.decision != "" && (!c.known[user] || !c.known[anon]) {
			continue // nobody decides about who is not known
		}
		c.known[m.user], c.known[m.anon] = true, true
		stream, e := m.event()
		if _, err := c.store.Append(c.t.Context(), stream, eventstore.Any{}, e); err != nil {
			c.t.Fatal(err)
		}
	}
}

// settled waits until all workers are ready, hold the whole log and have said what
// they have to say.
func (c *crew) settled() {
	c.t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for quiet := 0; quiet < 3; {
		if time.Now().After(deadline) {
			for _, v := range c.workers {
				c.t.Logf("%s: %+v", v.cfg.Shard, v.Status())
			}
			c.t.Fatal("the workers do not come to an end")
		}
		head, err := c.store.Head(c.t.Context())
		if err != nil {
			c.t.Fatal(err)
		}
		ready := true
		for _, v := range c.workers {
			l := v.layout()
			st := v.Status()
			ready = ready && st.Ready && st.Err == "" && st.Generation == l.newest().Generation && v.fits(l.newest()) && st.Position >= head
		}
		again, err := c.store.Head(c.t.Context())
		if err != nil {
			c.t.Fatal(err)
		}
		if ready && again == head {
			quiet++
		} else {
			quiet = 0
		}
		if err := pause(c.t.Context(), 25*time.Millisecond); err != nil {
			c.t.Fatal(err)
		}
	}
}

func (c *crew) generation() warehouse.Generation {
	return warehouse.Generation(c.workers[0].Status().Generation)
}

// same compares two generations, and the statements with the transitions of the
// second.
func (c *crew) same(a, b warehouse.Generation) {
	c.t.Helper()
	d, err := c.db.Compare(c.t.Context(), a, b, 5)
	if err != nil {
		c.t.Fatal(err)
	}
	if !d.Equal() || d.Rows["touchpoints"] == 0 || d.Rows["customers"] == 0 || d.Rows["accounts"] == 0 {
		c.t.Fatalf("g%d and g%d differ: %v of %v\n%+v", a, b, d.Different, d.Rows, d.Differences[:min(2, len(d.Differences))])
	}
	said := slices.Sorted(maps.Keys(standing(c.t, c.store)))
	shown := c.rows("SELECT concat(toString(customer_id), ' ', from_stage, '→', to_stage, '@', formatDateTime(at, '%Y-%m-%dT%H:%i:%S.', 'UTC'), leftPad(toString(toUnixTimestamp64Milli(at) % 1000), 3, '0'), 'Z ', reason, ' ', cause) AS x FROM stage_transitions")
	slices.Sort(shown)
	if !slices.Equal(said, shown) {
		c.t.Fatalf("said %d, shown %d\n%q\n%q", len(said), len(shown), said[:min(3, len(said))], shown[:min(3, len(shown))])
	}
}

// TestWorkers has several workers keep the views through restarts with and without
// their states, through a new policy and other numbers of workers.
func TestWorkers(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	c := newCrew(t)
	c.reader = c.open(Config{Reader: true, Dir: filepath.Join(c.dir, "reader")})
	c.startAll(3)
	c.post(rng, 300)
	c.settled()

	// One restarts with its state, another without.
	c.stopOne(c.workers[1])
	c.post(rng, 100)
	c.workers[1] = c.worker(2, 3)
	c.post(rng, 100)
	c.stopOne(c.workers[2])
	if err := os.RemoveAll(filepath.Join(c.dir, "3")); err != nil {
		t.Fatal(err)
	}
	c.post(rng, 100)
	c.workers[2] = c.worker(3, 3)
	c.settled()
	three := c.generation()

	// Other numbers of workers; what comes meanwhile waits.
	c.stopAll()
	c.startAll(2)
	c.settled()
	two := c.generation()
	c.same(three, two)
	c.stopAll()
	c.post(rng, 100)
	c.startAll(4)
	c.settled()
	c.stopAll()
	four := two + 1
	c.startAll(1)
	c.settled()
	c.same(four, c.generation())

	// The reader knows everybody, with the same answer as the one worker that does.
	if err := c.reader.WaitFor(t.Context(), c.workers[0].Status().Position); err != nil {
		t.Fatal(err)
	}
	for u := range 60 {
		ref := fmt.Sprintf("user:u%d", u)
		want, err := c.workers[0].Customer(t.Context(), ref, At{})
		got, err2 := c.reader.Customer(t.Context(), ref, At{})
		want.AsOf, got.AsOf = time.Time{}, time.Time{}
		a, b := jsonOf(t, got), jsonOf(t, want)
		if !errors.Is(err2, err) || a != b {
			t.Fatalf("%s\nreader %s %v\nworker %s %v", ref, a, err2, b, err)
		}
	}

	// Another policy, while they run: each statement sees the views under one of them.
	c.stopAll()
	c.startAll(2)
	c.settled()
	const seen = "SELECT concat(toString((SELECT max(policy_version) FROM stage_transitions)), ': ', toString((SELECT countIf(stage = 'at_risk') FROM customers))) AS x"
	answers := map[string]bool{}
	ctx, cancel := context.WithCancel(t.Context())
	var asking sync.WaitGroup
	asking.Go(func() {
		for goOn := true; goOn; { // the last one is asked after the switch
			goOn = pause(ctx, 5*time.Millisecond) == nil
			answers[c.rows(seen)[0]] = true
		}
	})
	p := testRules().Policy
	p.Lifecycle.AtRiskDays = 30
	if _, _, err := c.reader.Apply(t.Context(), Proposal{Policy: p}); err != nil {
		t.Fatal(err)
	}
	c.eventually("the reader", func() bool { return c.reader.Status().PolicyVersion == 2 })
	if got := c.rows(seen)[0]; !strings.HasPrefix(got, "2: ") {
		t.Errorf("the reader answers under the policy, the tables say %s", got)
	}
	cancel()
	asking.Wait()
	c.eventually("the workers to see the policy", func() bool { return c.workers[0].latest().Version == 2 && c.workers[1].latest().Version == 2 })
	c.settled()
	if all := slices.Sorted(maps.Keys(answers)); len(all) != 2 || all[0][0] != '1' || all[1][0] != '2' || all[0][1:] == all[1][1:] {
		t.Errorf("the tables said %q", all)
	}
	many := c.generation()
	c.stopAll()
	c.startAll(1)
	c.settled()
	c.same(many, c.generation())
	c.eventually("the reader", func() bool { return c.reader.Status().PolicyVersion == 2 && c.reader.Status().Ready })
	if err := c.reader.Rebuild(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	c.settled()
	if g := c.generation(); g != many+2 {
		t.Errorf("after a rebuild generation %d answers, and %d before", g, many+1)
	}
	// All stopped before the tables showed what they had agreed on.
	c.stopAll()
	g := c.rows("SELECT comment AS x FROM system.tables WHERE database = 'sojourn' AND name = 'active_generation'")[0]
	if err := c.db.Exec(t.Context(), fmt.Sprintf("CREATE OR REPLACE VIEW active_generation AS SELECT toUInt32(%d) AS generation COMMENT 'g%d'", many+1, many+1)); err != nil {
		t.Fatal(err)
	}
	c.startAll(1)
	c.eventually("the tables to show what answers", func() bool {
		active, err := c.db.Active(t.Context())
		return err == nil && strings.HasPrefix(g, active.String())
	})
	select {
	case err := <-c.failed:
		t.Error(err)
	default:
	}
	// A server by itself would drop the tables.
	if v, err := Start(t.Context(), Config{Store: c.store, DB: c.db, Keyer: testKeyer, Dir: t.TempDir(), Now: c.clock.now}); err == nil {
		c.stopOne(v)
		t.Error("a server by itself starts beside workers")
	}
}

// A generation answers from the second on that was agreed, or at once where that is by a
// clock which is wrong.
func TestAnsweringAt(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_000_000, 0)
	for ahead, want := range map[time.Duration]int{-time.Hour: 2, 0: 2, time.Second: 1, mostAhead: 1, time.Hour: 2} {
		l := layout{all: []*laidOut{{Generation: 1, active: true}, {Generation: 2, active: true, since: now.Add(ahead)}, {Generation: 3}}}
		if got := l.answeringAt(now); got == nil || got.Generation != want {
			t.Errorf("%v ahead: %+v", ahead, got)
		}
	}
	if got := (&layout{all: []*laidOut{{Generation: 1}}}).answeringAt(now); got != nil {
		t.Errorf("%+v", got)
	}
}

func jsonOf(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func (c *crew) eventually(what string, ok func() bool) {
	c.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			c.t.Fatalf("waited in vain for %s", what)
		}
		if err := pause(c.t.Context(), 20*time.Millisecond); err != nil {
			c.t.Fatal(err)
		}
	}
}

// TestWorkersBuildSegments has segments applied, several in a row, and deleted while
// workers run and a reader answers.
func TestWorkersBuildSegments(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(5, 6))
	c := newCrew(t)
	c.reader = c.open(Config{Reader: true, Dir: filepath.Join(c.dir, "reader")})
	c.startAll(2)
	c.post(rng, 300)
	c.settled()
	change := func(name, condition string) {
		t.Helper()
		p := SegmentProposal{SegmentDocument: SegmentDocument{Name: name, Condition: condition}, Author: "ann"}
		var err error
		if condition == "" {
			err = c.reader.DeleteSegment(t.Context(), p)
		} else {
			_, _, err = c.reader.ApplySegment(t.Context(), p)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	followed := func() {
		t.Helper()
		c.eventually("all to be of the segments", func() bool {
			version := c.reader.latest().SegmentsVersion
			for _, v := range append(slices.Clone(c.workers), c.reader) {
				g := v.activeGeneration()
				if l := v.layout(); !v.Status().Ready || g.rules.SegmentsVersion != version || l.answering() == nil || l.answering().Generation != int(g.number) {
					return false
				}
			}
			return true
		})
		c.settled()
	}
	// One is begun to be built, and another asks for the next before it is done.
	change("buyers", `count(meaning("purchase")) >= 1`)
	c.eventually("the workers to build", func() bool { return c.workers[0].hasNext() || c.workers[1].hasNext() })
	change("lookers", `count(named("Product Viewed")) >= 1 && !in_segment("buyers")`)
	change("gone", `stage == "lost"`)
	change("gone", "")
	c.post(rng, 100)
	followed()
	for _, in := range c.reader.Segments() {
		if !in.Built {
			t.Errorf("%s is not built by what the reader says", in.Name)
		}
	}
	members := func() []string {
		return c.rows("SELECT concat(segment, ' ', toString(customer_id)) AS x FROM segment_members ORDER BY x")
	}
	shown := func(names ...string) {
		t.Helper()
		c.eventually("the tables to be switched", func() bool {
			return slices.Equal(c.rows("SELECT DISTINCT segment AS x FROM segment_members ORDER BY x"), names)
		})
	}
	shown("buyers", "lookers")
	many := c.generation()
	were := members()
	c.stopAll()
	c.startAll(1)
	c.settled()
	c.same(many, c.generation())
	if is := members(); !slices.Equal(is, were) {
		t.Errorf("members by one worker\n%q\nby two\n%q", is, were)
	}
	change("lookers", "")
	followed()
	shown("buyers")
	select {
	case err := <-c.failed:
		t.Error(err)
	default:
	}
}

// TestFence has a second process take a part, and workers of another number come.
func TestFence(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(3, 4))
	c := newCrew(t)
	c.startAll(2)
	c.post(rng, 100)
	c.settled()
	first := c.workers[0]
	c.workers[0] = c.open(Config{Shard: Shard{1, 2}, Dir: filepath.Join(c.dir, "other")})
	if err := <-c.failed; !errors.Is(err, ErrFenced) {
		t.Fatal(err)
	}
	at := first.Status().Position
	c.post(rng, 100)
	c.settled()
	if now := first.Status().Position; now != at {
		t.Errorf("the one that was fenced went on from %d to %d", at, now)
	}
	c.stopOne(first)
	two := c.generation()
	old := c.workers
	c.workers = nil
	c.startAll(1)
	for range old {
		if err := <-c.failed; !errors.Is(err, errRepartitioned) {
			t.Fatal(err)
		}
	}
	for _, v := range old {
		c.stopOne(v)
	}
	c.settled()
	c.same(two, c.generation())
}
