package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestAutomationTakeover has two processes that may act: one does, and where it is
// killed, or stands still, the other does within ten seconds. What goes on while one
// takes the place of the other is delivered under one id, and the one that wakes up
// finds that it acts no more.
func TestAutomationTakeover(t *testing.T) {
	t.Parallel()
	type delivery struct {
		ids   map[string]bool
		first time.Time
	}
	var mu sync.Mutex
	received := map[string]*delivery{} // by order
	hooks := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		var body struct {
			Data struct {
				Event struct {
					Properties struct {
						OrderID string `json:"order_id"`
					}
				}
			}
		}
		if err := json.Unmarshal(b, &body); err != nil {
			t.Errorf("the body is %s", b)
		}
		mu.Lock()
		defer mu.Unlock()
		order := body.Data.Event.Properties.OrderID
		if received[order] == nil {
			received[order] = &delivery{ids: map[string]bool{}, first: time.Now()}
		}
		received[order].ids[r.Header.Get("webhook-id")] = true
	}))
	t.Cleanup(hooks.Close)

	c := newCrew(t)
	c.start(1)
	c.host.ready()
	actor := func(name string) *server {
		t.Helper()
		return launch(t, filepath.Join(c.root, name), c.settings("SOJOURN_STREAM_KEY="+c.key, "SOJOURN_CLICKHOUSE="+c.clickhouse,
			"SOJOURN_SECRET_KEY=Y2hhbmdlIG1lLCBhbmQgdGVsbCBub2JvZHkgb2YgaXQ="), "--roles", "api,automate", "--store", c.store, "--automation-allow", "127.0.0.0/8")
	}
	actors := map[string]*server{"a": actor("a"), "b": actor("b")}
	for _, a := range actors {
		a.ready()
	}
	one := actors["a"]
	if a := one.api(http.MethodPut, "/destinations/crm", message{"kind": "webhook", "url": hooks.URL}, nil); a.status/100 != 2 {
		t.Fatalf("destination: %d %s", a.status, a.body)
	}
	const trigger = `{"id":"welcome","on":{"transition":{"to":["first_purchase"]}},"do":{"webhook":{"destination":"crm"}}}`
	if a := one.api(http.MethodPost, "/triggers", map[string]string{"source": trigger}, nil); a.status != 200 {
		t.Fatalf("trigger: %d %s", a.status, a.body)
	}
	key := c.host.writeKey("shop")
	orders := 0
	buy := func() string {
		t.Helper()
		orders++
		id := fmt.Sprint("order-", orders)
		c.host.send(key, message{
			"type": "track", "event": "Order Completed", "userId": "user-" + id, "messageId": id,
			"timestamp": time.Now().UTC().Format(time.RFC3339Nano), "properties": message{"order_id": id, "total": 5, "currency": "EUR"},
		})
		return id
	}
	arrived := func(order string) time.Time {
		t.Helper()
		var at time.Time
		eventually(t, time.Minute, order+" is delivered", func() error {
			mu.Lock()
			defer mu.Unlock()
			if d := received[order]; d != nil {
				at = d.first
				return nil
			}
			return fmt.Errorf("%d of %d are", len(received), orders)
		})
		return at
	}
	arrived(buy())
	acting := func() string {
		t.Helper()
		var who string
		eventually(t, 30*time.Second, "one of them acts", func() error {
			for name, a := range actors {
				if a.metric("sojourn_automation_acting") == 1 {
					who = name
					return nil
				}
			}
			return fmt.Errorf("none does")
		})
		return who
	}
	for round, how := range []syscall.Signal{syscall.SIGKILL, syscall.SIGSTOP} {
		was := acting()
		other := map[string]string{"a": "b", "b": "a"}[was]
		arrived(buy()) // and more that are under way when it happens
		began := time.Now()
		if how == syscall.SIGKILL {
			actors[was].kill()
		} else if err := actors[was].cmd.Process.Signal(how); err != nil {
			t.Fatal(err)
		}
		took := arrived(buy()).Sub(began)
		t.Logf("round %d: %s acts %v after %s has got %v", round+1, other, took.Round(time.Millisecond), was, how)
		if took > 10*time.Second {
			t.Errorf("%s acts %v after %s has got %v", other, took, was, how)
		}
		if how == syscall.SIGKILL {
			actors[was] = actor(was)
			actors[was].ready()
			continue
		}
		if err := actors[was].cmd.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		eventually(t, 30*time.Second, was+" has learned that it acts no more", func() error {
			if actors[was].metric("sojourn_automation_acting") != 0 {
				return fmt.Errorf("it has not: %s", strings.TrimSpace(tailOf(actors[was].err.String())))
			}
			return nil
		})
		arrived(buy())
	}
	mu.Lock()
	defer mu.Unlock()
	if len(received) != orders {
		t.Errorf("%d of %d orders were delivered", len(received), orders)
	}
	for order, d := range received {
		if len(d.ids) != 1 {
			t.Errorf("%s came under %d ids", order, len(d.ids))
		}
	}
}
