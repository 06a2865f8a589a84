package e2e

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// history makes the messages of some customers over two years: visits, logins,
// orders, changes and refunds of them, and what joins visitors to users. No
// deadline of theirs comes near the time at which the tests run.
func history(random *rand.Rand) []message {
	now := time.Now()
	var all []message
	add := func(m message) {
		ago := time.Duration(1+random.IntN(700))*24*time.Hour + 2*time.Hour + time.Duration(random.IntN(12*3600))*time.Second
		m["timestamp"] = now.Add(-ago).UTC().Truncate(time.Second).Format(time.RFC3339)
		m["messageId"] = fmt.Sprint("m", len(all))
		all = append(all, m)
	}
	for c := range 40 {
		user, visitor := fmt.Sprint("u", c), fmt.Sprint("v", c)
		for range random.IntN(4) {
			add(message{"type": "page", "anonymousId": visitor, "name": "Home", "properties": message{"path": "/"}})
		}
		if c%4 == 0 {
			continue // never logs in
		}
		if c%2 == 0 {
			add(message{"type": "identify", "userId": user, "anonymousId": visitor, "traits": message{"email": user + "@example.com", "n": random.IntN(3)}})
		}
		if c%5 == 0 {
			// Two users on one device: the earlier login has it.
			add(message{"type": "identify", "userId": fmt.Sprint("u", c+1), "anonymousId": visitor, "traits": message{"n": random.IntN(3)}})
		}
		if c%7 == 0 {
			add(message{"type": "alias", "userId": user, "previousId": fmt.Sprint("old", c)})
			add(message{"type": "track", "anonymousId": fmt.Sprint("old", c), "event": "Checkout Started"})
		}
		if c%3 == 0 {
			add(message{"type": "track", "userId": user, "event": "Trial Started"})
		}
		for range random.IntN(7) {
			// Few numbers: some orders come twice, some refunds before their order.
			id := fmt.Sprint(c, "-", random.IntN(6))
			amount := fmt.Sprintf("%d.%02d", random.IntN(90), random.IntN(100))
			switch random.IntN(8) {
			case 0:
				add(message{"type": "track", "userId": user, "event": "Order Refunded", "properties": message{"order_id": id}})
			case 1:
				add(message{"type": "track", "userId": user, "event": "Order Refunded", "properties": message{"order_id": id, "total": amount}})
			case 2:
				add(message{"type": "track", "userId": user, "event": "Order Updated", "properties": message{"order_id": id, "total": amount}})
			case 3:
				add(message{"type": "track", "anonymousId": visitor, "event": "Completed Order", "properties": message{"order_id": id, "revenue": amount}})
			default:
				add(message{"type": "track", "userId": user, "event": "Order Completed", "properties": message{"order_id": id, "total": amount, "currency": "EUR"}})
			}
		}
	}
	return all
}

// views are the tables without what is about arrival: ids of customers,
// positions and times of receipt.
func views(s *server) map[string][]string {
	s.t.Helper()
	const named = `INNER JOIN (SELECT customer_id, arrayStringConcat(arraySort(groupUniqArray(subject)), ' ') AS who
		FROM touchpoints GROUP BY customer_id) AS named USING (customer_id)`
	got := map[string][]string{}
	for name, query := range map[string]string{
		"touchpoints": `SELECT event_id, who, subject, user_id, anonymous_id, source, type, name, meaning, channel, occurred_at,
			amount, currency, order_id, flags, properties, context FROM touchpoints ` + named + ` ORDER BY event_id`,
		"customers": `SELECT who, arraySort(user_ids), stage, stage_since, first_seen, last_seen, purchases, refunds, revenue, traits
			FROM customers ` + named + ` ORDER BY who`,
		"stage_transitions": `SELECT who, seq, from_stage, to_stage, at, reason, cause, policy_version
			FROM stage_transitions ` + named + ` ORDER BY who, seq`,
	} {
		a := s.ask(query + " FORMAT TSVWithNames")
		if a.status != 200 {
			s.t.Fatalf("%s: %d %s", name, a.status, a.body)
		}
		got[name] = strings.Split(strings.TrimSpace(a.body), "\n")
	}
	return got
}

// TestViewsAreAFunctionOfTheSet sends the same messages to two servers: to one
// in order and in one batch, to the other shuffled, some of them more than once,
// in small batches and single calls, with restarts in between.
func TestViewsAreAFunctionOfTheSet(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	messages := history(random)

	s := newServer(t)
	s.send(s.writeKey("shop"), messages...)
	s.caughtUp()
	want := views(s)
	if len(want["customers"]) < 40 || len(want["touchpoints"]) != len(messages)+1 || len(want["stage_transitions"]) < 100 {
		t.Fatalf("there are only %d customers, %d touchpoints, %d transitions", len(want["customers"]), len(want["touchpoints"]), len(want["stage_transitions"]))
	}
	s.stop()

	shuffled := slices.Clone(messages)
	for _, m := range messages {
		for random.IntN(3) == 0 {
			shuffled = append(shuffled, m)
		}
	}
	random.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	dir := filepath.Join(t.TempDir(), "data")
	// Flushed often, the messages of a customer come in many steps.
	const often = "--flush-interval=20ms"
	s = start(t, dir, often)
	key := s.writeKey("shop")
	restarts := []int{len(shuffled) / 3, 2 * len(shuffled) / 3}
	for done := 0; done < len(shuffled); {
		if len(restarts) > 0 && done >= restarts[0] {
			if len(restarts) == 1 {
				s.stop()
			} else {
				s.kill()
			}
			restarts = restarts[1:]
			s = start(t, dir, often)
		}
		n := min(1+random.IntN(30), len(shuffled)-done)
		if n > 1 {
			s.send(key, shuffled[done:done+n]...)
		} else if a, err := track(s.url, key, "/v1/"+shuffled[done]["type"].(string), shuffled[done]); err != nil || a.status != 200 {
			t.Fatalf("%d %s %v", a.status, a.body, err)
		}
		if random.IntN(8) == 0 {
			s.caughtUp()
		}
		done += n
	}
	s.caughtUp()
	equal(t, "shuffled", views(s), want)
	must(t, "rebuild", "--data", dir)
	equal(t, "rebuilt", views(s), want)
	s.verify()
}

func equal(t *testing.T, what string, got, want map[string][]string) {
	t.Helper()
	for table, rows := range want {
		if slices.Equal(got[table], rows) {
			continue
		}
		t.Errorf("%s: %s differs: %d rows, want %d", what, table, len(got[table])-1, len(rows)-1)
		shown := 0
		for i := range min(len(rows), len(got[table])) {
			if got[table][i] != rows[i] && shown < 3 {
				shown++
				t.Logf("got  %s\nwant %s", got[table][i], rows[i])
			}
		}
	}
}
