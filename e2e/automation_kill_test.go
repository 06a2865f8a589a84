package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// TestKillDuringDeliveries kills the server again and again while it delivers: each
// delivery is received at least once under one id, none is missing, and none is for
// a cause that did not happen.
func TestKillDuringDeliveries(t *testing.T) {
	t.Parallel()
	customers := 10_000
	if testing.Short() {
		customers = 1000
	}
	type data struct {
		Delivery string
		Event    struct {
			Properties struct {
				OrderID string `json:"order_id"`
			}
		}
	}
	var mu sync.Mutex
	ids, orders := map[string]string{}, map[string]map[string]bool{}
	random := rand.New(rand.NewPCG(7, 7))
	hooks := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body struct{ Data data }
		b, _ := io.ReadAll(r.Body)
		if err := json.Unmarshal(b, &body); err != nil {
			t.Errorf("the body is %s", b)
		}
		mu.Lock()
		defer mu.Unlock()
		id, order := r.Header.Get("webhook-id"), body.Data.Event.Properties.OrderID
		if before, known := ids[id]; known && before != string(b) {
			t.Errorf("delivery %s came with two bodies", id)
		}
		ids[id] = string(b)
		if orders[order] == nil {
			orders[order] = map[string]bool{}
		}
		orders[order][id] = true
		if random.IntN(50) == 0 { // it has taken it, and does not say so
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	t.Cleanup(hooks.Close)
	received := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(orders)
	}

	dir := filepath.Join(t.TempDir(), "data")
	args := []string{"--automation-allow", "127.0.0.0/8", "--flush-interval", "50ms"}
	s := start(t, dir, args...)
	if a := s.api(http.MethodPut, "/destinations/crm", map[string]any{"kind": "webhook", "url": hooks.URL, "concurrency": 32}, nil); a.status/100 != 2 {
		t.Fatalf("destination: %d %s", a.status, a.body)
	}
	const trigger = `{"id":"welcome","on":{"transition":{"to":["first_purchase"]}},"limits":{"once":true},"do":{"webhook":{"destination":"crm"}}}`
	if a := s.api(http.MethodPost, "/triggers", map[string]string{"source": trigger}, nil); a.status != 200 {
		t.Fatalf("trigger: %d %s", a.status, a.body)
	}
	key := s.writeKey("shop")
	for n := 0; n < customers; n += 500 {
		var batch []message
		for i := n; i < n+500; i++ {
			batch = append(batch, message{
				"type": "track", "event": "Order Completed", "userId": fmt.Sprint("user-", i), "messageId": fmt.Sprint("order-", i),
				"timestamp": time.Now().UTC().Format(time.RFC3339Nano), "properties": message{"order_id": fmt.Sprint(i), "total": 5, "currency": "EUR"},
			})
		}
		s.send(key, batch...)
	}
	kills := 0
	for last := time.Now(); received() < customers; {
		before := received()
		eventually(t, time.Minute, "deliveries arrive", func() error {
			if n := received(); n < min(before+customers/8, customers) {
				return fmt.Errorf("%d of %d are there", n, customers)
			}
			return nil
		})
		if received() == customers {
			break
		}
		s.kill()
		kills++
		s = start(t, dir, args...)
		t.Logf("killed after %v with %d received", time.Since(last).Round(time.Millisecond), before)
		last = time.Now()
	}
	if kills < 3 {
		t.Errorf("killed %d times only", kills)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(ids) != customers || len(orders) != customers {
		t.Errorf("%d ids for %d orders of %d", len(ids), len(orders), customers)
	}
	for order, of := range orders {
		if len(of) != 1 {
			t.Errorf("order %q came under %d ids", order, len(of))
		}
	}
}
