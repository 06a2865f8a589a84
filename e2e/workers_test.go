package e2e

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestWorkers has several projectors keep the views, each a process: one log through
// EventStoreDB's protocol, one engine through its port for workers. Some are killed,
// one loses its disk, and four become three; every view is then that of a single
// server over the same log, which has nothing to say that they have not said.
//
// make test-workers has them keep 2 million touchpoints.
func TestWorkers(t *testing.T) {
	t.Parallel()
	touchpoints := 60_000
	if n, err := strconv.Atoi(os.Getenv("SOJOURN_TEST_TOUCHPOINTS")); err == nil {
		touchpoints = n
	}
	c := newCrew(t)
	c.people = max(300, touchpoints/20)
	random := rand.New(rand.NewPCG(5, uint64(touchpoints)))
	began := time.Now()
	c.start(4)
	c.host.ready()
	key := c.host.writeKey("shop")
	c.post(random, key, touchpoints/2)

	c.workers[1].kill()
	c.workers[3].kill()
	c.post(random, key, touchpoints/8)
	c.workers[1] = c.worker(2, 4)
	if err := os.RemoveAll(c.dir(4)); err != nil {
		t.Fatal(err)
	}
	c.post(random, key, touchpoints/8)
	c.workers[3] = c.worker(4, 4)
	c.settled()
	t.Logf("four workers hold %d touchpoints after %v", c.sent, time.Since(began).Round(time.Second))
	// A second process for a part: the first stops, and says why.
	first := c.workers[0]
	c.workers[0] = c.spawn("other", "1/4")
	// That one has nothing, and reads the whole log before it takes the part.
	if code := first.wait(settledWithin); code == 0 || !strings.Contains(first.err.String(), "another process has taken this part of the views") {
		t.Fatalf("status %d: %s", code, tailOf(first.err.String()))
	}
	c.settled()

	// Four become three; the intake goes on.
	for _, w := range c.workers {
		w.stop()
	}
	c.post(random, key, touchpoints/8)
	c.start(3)
	c.post(random, key, touchpoints-c.sent)
	c.workers[2].kill()
	c.workers[2] = c.worker(3, 3)
	began = time.Now()
	c.settled()
	t.Logf("three workers hold %d touchpoints after %v more", c.sent, time.Since(began).Round(time.Second))
	got := c.tables(c.host)
	for _, w := range c.workers {
		w.stop()
	}

	// One server by itself, with an engine of its own.
	head := c.host.metric("sojourn_log_position")
	// Without automation, which has its own things to say.
	one := launch(t, filepath.Join(t.TempDir(), "one"), c.settings("SOJOURN_STREAM_KEY="+c.key), "--store", c.store, "--roles", "write,project,api")
	began = time.Now()
	one.greetedWithin(settledWithin) // it makes an index of the log first
	one.caughtUpWithin(settledWithin)
	t.Logf("one server holds them after %v", time.Since(began).Round(time.Second))
	want := c.tables(one)
	for name, w := range want {
		if got[name] != w {
			t.Errorf("%s: the workers have %s, one server has %s", name, got[name], w)
		}
	}
	if n := one.count("SELECT count() FROM touchpoints"); n != c.sent {
		t.Errorf("%d touchpoints of %d", n, c.sent)
	}
	if now := c.host.metric("sojourn_log_position"); now != head {
		t.Errorf("one server had %v statements to make that the workers have not", now-head)
	}
	// Whoever answers for the workers, answers what the one server does.
	for i := range 20 {
		ref := fmt.Sprintf("user:user-%d", i)
		if a, b := fmt.Sprintf("%+v", c.host.customer(ref, "")), fmt.Sprintf("%+v", one.customer(ref, "")); a != b {
			t.Errorf("%s\n%s\n%s", ref, a, b)
		}
	}
	one.stop()
}

// settledWithin bounds how long workers take to read everything, millions of
// touchpoints where those are asked for.
const settledWithin = 30 * time.Minute

// crew are a server with the log and the engine, and projectors.
type crew struct {
	t          *testing.T
	host       *server
	root       string
	key        string // of streams, in hexadecimal
	store      string // where the log is
	clickhouse string // where the engine is, with the token
	workers    []*server
	sent       int
	people     int
}

func newCrew(t *testing.T) *crew {
	t.Helper()
	c := &crew{t: t, root: t.TempDir()}
	log, engine := freeAddress(t), freeAddress(t)
	c.host = launch(t, filepath.Join(c.root, "host"), c.settings(), "--roles", "write,api", "--esdb-listen", log, "--esdb-insecure", "--esdb-writable",
		"--clickhouse-worker-listen", engine)
	c.host.greeted()
	key, err := os.ReadFile(filepath.Join(c.host.dir, "stream-key"))
	if err != nil {
		t.Fatal(err)
	}
	c.key = hex.EncodeToString(key)
	c.store = "esdb://" + log + "?tls=false"
	c.clickhouse = "http://worker:" + c.host.token() + "@" + engine + "/sojourn"
	return c
}

func (c *crew) dir(i int) string { return filepath.Join(c.root, fmt.Sprint("worker-", i)) }

// settings gives a process settings from the environment. Each would take half of the
// machine's memory for its own.
func (c *crew) settings(all ...string) func(*exec.Cmd) {
	return func(cmd *exec.Cmd) { cmd.Env = append(append(cmd.Env, "GOMEMLIMIT=3GiB"), all...) }
}

func (c *crew) worker(i, n int) *server {
	return c.spawn(filepath.Base(c.dir(i)), fmt.Sprintf("%d/%d", i, n))
}

func (c *crew) spawn(dir, shard string) *server {
	c.t.Helper()
	w := &server{dir: filepath.Join(c.root, dir)}
	w.process = spawn(c.t, c.settings("SOJOURN_STREAM_KEY="+c.key, "SOJOURN_CLICKHOUSE="+c.clickhouse), binary,
		"serve", "--roles", "project", "--shard", shard, "--data", w.dir, "--listen", "127.0.0.1:0", "--store", c.store)
	eventually(c.t, 5*time.Minute, "the worker says where it answers", func() error {
		if w.over() {
			c.t.Fatalf("worker %s ended: %s", shard, w.err.String())
		}
		m := addressLine.FindStringSubmatch(w.out.String())
		if m == nil {
			return errors.New("it has not")
		}
		w.url = m[1]
		return nil
	})
	return w
}

func (c *crew) start(n int) {
	c.t.Helper()
	c.workers = nil
	for i := range n {
		c.workers = append(c.workers, c.worker(i+1, n))
	}
}

// post sends touchpoints of shoppers who come to share devices and accounts. None of
// them comes due while the test runs: all happened at the other end of the day.
func (c *crew) post(random *rand.Rand, key string, n int) {
	c.t.Helper()
	noon := time.Now().UTC().Add(12 * time.Hour).Truncate(time.Hour)
	for end := c.sent + n; c.sent < end; {
		batch := make([]message, 0, 500)
		for len(batch) < 500 && c.sent < end {
			c.sent++
			id := fmt.Sprint("m", c.sent)
			user, visitor := fmt.Sprint("user-", random.IntN(c.people)), fmt.Sprint("visitor-", random.IntN(2*c.people))
			m := message{"messageId": id, "timestamp": noon.AddDate(0, 0, -1-random.IntN(400)).Add(time.Duration(random.IntN(1000)) * time.Second).Format(time.RFC3339)}
			switch kind := random.IntN(40); {
			case kind == 0:
				m["type"], m["userId"], m["anonymousId"], m["traits"] = "identify", user, visitor, message{"plan": id}
			case kind == 1:
				m["type"], m["userId"], m["traits"] = "identify", user, message{"email": fmt.Sprintf("%d@example.com", random.IntN(c.people))}
			case kind == 2:
				m["type"], m["userId"], m["groupId"], m["traits"] = "group", user, fmt.Sprint("acme-", random.IntN(20)), message{"size": id}
			case kind < 12:
				m["type"], m["userId"], m["event"] = "track", user, "Order Completed"
				m["properties"] = message{"order_id": id, "total": random.IntN(9000), "currency": "EUR"}
			case kind < 14:
				m["type"], m["userId"], m["event"] = "track", user, "Survey Answered"
				m["properties"] = message{"kind": "nps", "score": random.IntN(11), "comment": "delivery took long"}
			case kind < 26:
				m["type"], m["anonymousId"], m["event"] = "track", visitor, "Product Viewed"
			default:
				m["type"], m["userId"], m["name"] = "page", user, "Home"
			}
			batch = append(batch, m)
		}
		eventually(c.t, 5*time.Minute, "a batch is taken", func() error {
			a, err := track(c.host.url, key, "/v1/batch", map[string]any{"batch": batch})
			if err == nil && a.status != http.StatusOK {
				err = fmt.Errorf("%d %s", a.status, a.body)
			}
			return err
		})
	}
}

// settled waits until all workers have read and said everything, and the reader too.
func (c *crew) settled() {
	c.t.Helper()
	quiet, last := 0, 0.0
	eventually(c.t, settledWithin, "the workers have read everything", func() error {
		for _, s := range append(slices.Clone(c.workers), c.host) {
			if s.over() {
				c.t.Fatalf("a process ended: %s", s.err.String())
			}
			r, err := s.readyState()
			if err == nil && (!r.Ready || r.Lag > 0 || r.Error != "") {
				err = fmt.Errorf("%s: %+v", s.dir, r)
			}
			if err != nil {
				quiet = 0
				return err
			}
		}
		if head := c.host.metric("sojourn_log_position"); head != last {
			quiet, last = 0, head
		} else if quiet++; quiet > 40 { // longer than a look at what the others do
			return nil
		}
		return errors.New("they still write")
	})
}

// tables are a count and a hash of the rows of each view, but for where and when they
// were computed.
func (c *crew) tables(s *server) map[string]string {
	c.t.Helper()
	all := map[string]string{}
	for _, view := range []string{
		"touchpoints", "customers", "stage_transitions", "subjects", "identity_conflicts", "accounts", "account_members",
		"loyalty_status", "loyalty_ledger", "tier_transitions", "satisfaction", "satisfaction_transitions", "cases", "surveys", "feedback",
	} {
		rows := "SELECT * EXCEPT (position, clock) FROM " + view
		if view == "touchpoints" {
			rows = "SELECT * FROM touchpoints"
		}
		a := s.ask("SELECT concat(toString(count()), ' rows, ', hex(sum(sipHash64(toString(tuple(*)))))) FROM (" + rows + ")")
		if a.status != http.StatusOK {
			c.t.Fatalf("%s: %d %s", view, a.status, a.body)
		}
		all[view] = strings.TrimSpace(a.body)
	}
	c.t.Log(all)
	return all
}
