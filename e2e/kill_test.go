package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// load sends messages from several senders until it is told to stop. What was
// not acknowledged is sent again with the same message ids, to whatever server
// there is by then.
type load struct {
	key    string
	server atomic.Pointer[string]
	acks   atomic.Int64 // batches acknowledged

	mu     sync.Mutex
	failed error
	users  map[string]string // by n, of every message: the user or visitor it is of
	orders map[string]int    // purchases by user
}

const (
	loadSenders = 4
	loadBatch   = 25
)

// sender sends batches until done is closed; it leaves none unacknowledged.
func (l *load) sender(ctx context.Context, id int, random *rand.Rand, done <-chan struct{}) {
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	for batch := 0; ; batch++ {
		body := map[string]any{"batch": l.messages(id, batch, random)}
		again := random.IntN(10) == 0 // a sender that did not hear the answer
		for acked := false; !acked || again; {
			a, err := track(*l.server.Load(), l.key, "/v1/batch", body)
			switch {
			case err == nil && a.status == 200:
				if acked {
					again = false
				} else {
					l.acks.Add(1)
				}
				acked = true
				if n := a.header.Get("Sojourn-Rejected"); n != "" {
					l.fail(fmt.Errorf("%s messages of a batch were rejected", n))
				}
			case err == nil && a.status != 429 && a.status != 503:
				l.fail(fmt.Errorf("a batch was answered %d %s", a.status, a.body))
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
		select {
		case <-done:
			return
		default:
		}
	}
}

func (l *load) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed == nil {
		l.failed = err
	}
}

// messages makes a batch. Every message has a number n of its own in its
// properties or traits.
func (l *load) messages(sender, batch int, random *rand.Rand) []message {
	l.mu.Lock()
	defer l.mu.Unlock()
	messages := make([]message, loadBatch)
	for i := range messages {
		n := fmt.Sprintf("%d-%d-%d", sender, batch, i)
		user := random.IntN(300)
		m := message{
			"messageId": "message-" + n,
			"timestamp": time.Now().Add(-time.Duration(random.IntN(400*24*60)+60) * time.Minute).UTC().Format(time.RFC3339),
		}
		// Half of the visitors log in at some time.
		anonymous, id := fmt.Sprintf("visitor-%d", user), fmt.Sprintf("user-%d", user)
		of := id
		switch kind := random.IntN(20); {
		case kind < 6:
			of = anonymous
			m["type"], m["anonymousId"], m["event"], m["properties"] = "track", anonymous, "Product Viewed", message{"n": n}
		case kind < 7 && user < 150:
			m["type"], m["userId"], m["anonymousId"], m["traits"] = "identify", id, anonymous, message{"n": n}
		case kind < 12:
			m["type"], m["userId"], m["event"] = "track", id, "Order Completed"
			m["properties"] = message{"n": n, "order_id": n, "total": random.IntN(9000), "currency": "USD"}
			l.orders[id]++
		case kind < 13:
			m["type"], m["userId"], m["event"] = "track", id, "Order Refunded"
			m["properties"] = message{"n": n, "order_id": "unknown-" + n}
		default:
			m["type"], m["userId"], m["name"], m["properties"] = "page", id, "Home", message{"n": n}
		}
		l.users[n] = of
		messages[i] = m
	}
	return messages
}

// TestKillUnderLoad kills the server and its engine again and again while it
// takes in messages.
func TestKillUnderLoad(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	dir := filepath.Join(t.TempDir(), "data")
	s := start(t, dir)
	l := &load{key: s.writeKey("shop"), users: map[string]string{}, orders: map[string]int{}}
	l.server.Store(&s.url)
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	done := make(chan struct{})
	var senders sync.WaitGroup
	for i := range loadSenders {
		senders.Go(func() { l.sender(ctx, i, rand.New(rand.NewPCG(seed, uint64(i+1))), done) })
	}
	more := func(batches int) {
		t.Helper()
		from := l.acks.Load()
		eventually(t, 30*time.Second, "batches are acknowledged", func() error {
			if got := l.acks.Load() - from; got < int64(batches) {
				return fmt.Errorf("%d of %d are", got, batches)
			}
			return nil
		})
	}
	restart := func() {
		t.Helper()
		s = launch(t, dir, nil)
		s.ready()
		l.server.Store(&s.url)
	}
	for round := range 10 {
		more(1 + random.IntN(60))
		switch round % 6 {
		case 1:
			// The engine alone: it comes again, and the server has not gone.
			engine := childrenOf(s.cmd.Process.Pid)
			if len(engine) != 1 {
				t.Fatalf("the server has the children %v, want its engine", engine)
			}
			if err := syscall.Kill(engine[0], syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			before, err := s.readyState()
			if err != nil {
				t.Fatal(err)
			}
			more(5)
			eventually(t, 30*time.Second, "the views go on after the engine's death", func() error {
				r, err := s.readyState()
				if err == nil && (!r.Ready || r.Position <= before.Position) {
					err = fmt.Errorf("%+v", r)
				}
				return err
			})
			s.kill()
		case 2:
			// In the middle of a start.
			s.kill()
			s = launch(t, dir, nil)
			eventually(t, 30*time.Second, "the log is open", func() error {
				if !strings.Contains(s.err.String(), "event store opened") {
					return errors.New("not yet")
				}
				return nil
			})
			s.kill()
		case 3:
			// In the middle of a rebuild.
			rebuild := spawn(t, nil, binary, "rebuild", "--data", dir)
			eventually(t, 30*time.Second, "a rebuild is under way", func() error {
				r, err := s.readyState()
				if err == nil && !r.Building && !rebuild.over() {
					err = errors.New("not yet")
				}
				return err
			})
			s.kill()
			rebuild.wait(30 * time.Second)
		case 4:
			// The engine and, while it starts again, the server.
			for _, pid := range childrenOf(s.cmd.Process.Pid) {
				if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
			}
			s.kill()
		default:
			s.kill()
		}
		restart()
	}
	more(10)
	close(done)
	senders.Wait()
	if ctx.Err() != nil {
		t.Fatal("the senders did not come to their end")
	}
	if l.failed != nil {
		t.Error(l.failed)
	}
	s.caughtUp()
	t.Logf("%d messages", len(l.users))

	// The log, from its beginning: each message once, and nothing else.
	seen := map[string]int{}
	for line := range arrivals(t, s, l.key) {
		var m struct {
			MessageID string `json:"messageId"`
		}
		if err := json.Unmarshal(line.Message, &m); err != nil {
			t.Fatal(err)
		}
		if line.Kind != "touchpoint" {
			t.Errorf("there is a %s: %s", line.Kind, line.Reason)
		}
		seen[strings.TrimPrefix(m.MessageID, "message-")]++
	}
	check := func(where string, seen map[string]int) {
		t.Helper()
		wrong := 0
		for n := range l.users {
			if seen[n] != 1 {
				wrong++
			}
		}
		if wrong > 0 || len(seen) != len(l.users) {
			t.Errorf("%s has %d messages, %d were acknowledged, %d are not there exactly once", where, len(seen), len(l.users), wrong)
		}
	}
	check("the log", seen)

	s.caughtUp()
	clear(seen)
	for _, row := range s.rows(`SELECT JSONExtractString(properties, 'n') AS n, count() AS rows FROM touchpoints
		WHERE name != 'The End' GROUP BY n`) {
		n, err := row["rows"].(json.Number).Int64()
		if err != nil {
			t.Fatal(err)
		}
		seen[row["n"].(string)] += int(n)
	}
	check("ClickHouse", seen)
	if rows, events := s.count("SELECT count() FROM touchpoints"), s.count("SELECT uniqExact(event_id) FROM touchpoints"); rows != events || rows != len(l.users)+1 {
		t.Errorf("ClickHouse has %d rows of %d events, want %d", rows, events, len(l.users)+1)
	}

	// What was computed of them.
	for _, row := range s.rows("SELECT user_ids[1] AS user, toUInt64(purchases) AS n FROM customers WHERE user_ids != [] AND user_ids != ['end']") {
		user := row["user"].(string)
		if want := fmt.Sprint(l.orders[user]); row["n"].(json.Number).String() != want {
			t.Errorf("%s has made %s purchases, the view says %v", user, want, row["n"])
		}
	}
	for _, user := range []int{7, 42, 160} {
		want := 0
		for _, of := range l.users {
			if of == fmt.Sprintf("user-%d", user) || user < 150 && of == fmt.Sprintf("visitor-%d", user) {
				want++
			}
		}
		c := s.customer(fmt.Sprintf("user:user-%d", user), "")
		if user < 150 && len(c.Subjects) != 2 {
			continue // nobody has logged in
		}
		if got := len(names(s.timeline(c.ID, ""))); got != want {
			t.Errorf("the timeline of user %d has %d touchpoints, want %d", user, got, want)
		}
	}
	s.verify()
	s.stop()
}

// TestRestartOnTheSamePorts starts a server where one was killed an instant
// before. The engine of that one may still be ending, and then has the
// ClickHouse port.
func TestRestartOnTheSamePorts(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	listen, clickhouse := strings.TrimPrefix(s.url, "http://"), strings.TrimPrefix(s.clickhouse, "http://")
	for round := range 8 {
		s.signal(syscall.SIGKILL)
		s.wait(20 * time.Second)
		next := launch(t, s.dir, nil, "--listen", listen, "--clickhouse-listen", clickhouse)
		next.greeted() // fails where the server has ended
		// Both ports are open by then.
		if a, err := do(newRequest(t, "GET", next.url+"/healthz")); err != nil || a.status != 200 {
			t.Fatalf("round %d: %+v, %v", round, a, err)
		}
		if next.url != s.url || next.clickhouse != s.clickhouse || next.count("SELECT 1") != 1 {
			t.Fatalf("round %d: it listens on %s and %s", round, next.url, next.clickhouse)
		}
		s = next
	}
	s.stop()
}

// arrival is a line of GET /tail.
type arrival struct {
	Kind    string          `json:"kind"`
	Source  string          `json:"source"`
	Type    string          `json:"type"`
	Name    string          `json:"name"`
	Reason  string          `json:"reason"`
	Message json.RawMessage `json:"message"`
}

// arrivals yields what the log holds from its beginning, up to a message that it
// sends for that.
func arrivals(t *testing.T, s *server, key string) func(func(arrival) bool) {
	t.Helper()
	s.send(key, message{"type": "track", "event": "The End", "userId": "end", "messageId": "the-end", "timestamp": "2026-01-01T00:00:00Z"})
	return func(yield func(arrival) bool) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, "GET", s.url+"/api/v1/tail?after=0", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+s.token())
		res, err := tlsClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = res.Body.Close() }()
		lines := bufio.NewReaderSize(res.Body, 1<<20)
		for {
			line, err := lines.ReadBytes('\n')
			if err != nil {
				t.Fatal(errors.Join(err, io.ErrUnexpectedEOF))
			}
			var a arrival
			if err := json.Unmarshal(line, &a); err != nil {
				t.Fatalf("%v: %s", err, line)
			}
			if a.Name == "The End" || !yield(a) {
				return
			}
		}
	}
}
