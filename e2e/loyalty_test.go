package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// command gives a command about points, once.
func command(server, token, customer, name, key string, body any) (answer, error) {
	b, err := json.Marshal(body)
	if err != nil {
		return answer{}, err
	}
	req, err := http.NewRequest("POST", server+"/api/v1/customers/"+url.PathEscape(customer)+"/loyalty/"+name, bytes.NewReader(b))
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", key)
	return do(req)
}

// TestRedemptions redeems 10 of 5,000 points a thousand times at once, half of them
// through another subject, with a join and a kill between; whoever hears nothing
// comes again with the same key.
func TestRedemptions(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	s := start(t, dir)
	key, token := s.writeKey("shop"), s.token()
	at := func(hours int) string {
		return time.Now().Add(-time.Duration(hours) * time.Hour).UTC().Format(time.RFC3339)
	}
	s.send(key,
		message{"type": "page", "anonymousId": "phone", "timestamp": at(9)},
		message{"type": "page", "anonymousId": "tablet", "timestamp": at(8)},
		message{"type": "identify", "userId": "ann", "anonymousId": "phone", "timestamp": at(7)},
		message{
			"type": "track", "userId": "ann", "event": "Order Completed", "timestamp": at(6),
			"properties": message{"order_id": "o", "total": "5000.00", "currency": "USD"},
		},
	)
	const redemptions = 1000
	var server atomic.Pointer[string]
	server.Store(&s.url)
	var done, short, answered atomic.Int64
	var wait sync.WaitGroup
	deadline := time.Now().Add(2 * time.Minute)
	for i := range redemptions {
		wait.Go(func() {
			who := [...]string{"user:ann", "anon:phone"}[i%2]
			body := map[string]any{"points": 10, "reason": "voucher"}
			repeat := rand.IntN(5) == 0 // one that asks again although it was answered
			var heard string
			for time.Now().Before(deadline) {
				a, err := command(*server.Load(), token, who, "redeem", fmt.Sprintf("voucher-%d", i), body)
				switch {
				case err != nil || a.status == 503:
					continue
				case a.status == 200:
					if heard != "" && heard != a.body {
						t.Errorf("the same key was answered %s, then %s", heard, a.body)
					}
					if heard == "" {
						answered.Add(1)
						done.Add(1)
					}
					if heard = a.body; repeat {
						repeat = false
						continue
					}
				case a.status == 409 && heard == "":
					var lack struct {
						Balance struct{ Available int64 }
					}
					if err := json.Unmarshal([]byte(a.body), &lack); err != nil || lack.Balance.Available >= 10 {
						t.Errorf("409 with %s (%v)", a.body, err)
					}
					answered.Add(1)
					short.Add(1)
				default:
					t.Errorf("%d %s after %q", a.status, a.body, heard)
				}
				return
			}
			t.Errorf("redemption %d was never answered", i)
		})
	}
	some := func(n int64) {
		t.Helper()
		eventually(t, time.Minute, "redemptions are answered", func() error {
			if got := answered.Load(); got < n {
				return fmt.Errorf("%d of %d are", got, n)
			}
			return nil
		})
	}
	some(100)
	s.send(key, message{"type": "identify", "userId": "ann", "anonymousId": "tablet", "timestamp": at(1)})
	some(200)
	s.kill()
	s = launch(t, dir, nil)
	s.ready()
	server.Store(&s.url)
	wait.Wait()
	if done.Load() != redemptions/2 || short.Load() != redemptions/2 {
		t.Errorf("%d succeeded and %d got 409, want %d each", done.Load(), short.Load(), redemptions/2)
	}
	if a, err := command(s.url, token, "anon:tablet", "redeem", "one-more", map[string]any{"points": 1}); err != nil || a.status != 409 {
		t.Errorf("one more: %d %s %v", a.status, a.body, err)
	}
	s.caughtUp()
	eventually(t, 30*time.Second, "the views have all of it", func() error {
		rows := s.rows("SELECT available, redeemed, debt FROM loyalty_status")
		if got, want := fmt.Sprint(rows), "[map[available:0 debt:0 redeemed:5000]]"; got != want {
			return fmt.Errorf("balance %s, want %s", got, want)
		}
		return nil
	})
	s.verify()
}
