package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sojourn/api"
)

// receiver is somebody's webhook.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	got    map[string]int // by webhook-id
	bodies []string
	status func(n int) int
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{got: map[string]int{}}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.got[req.Header.Get("webhook-id")]++
		r.bodies = append(r.bodies, string(body))
		if r.status != nil {
			w.WriteHeader(r.status(len(r.bodies)))
		}
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.got)
}

// call asks the API to do something.
func (r running) call(t *testing.T, method, path string, body, out any) int {
	t.Helper()
	token, err := os.ReadFile(filepath.Join(r.data, "admin-token"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, r.url+path, bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if out != nil {
		if err := json.Unmarshal(text, out); err != nil {
			t.Fatalf("%s %s: %s: %v in %s", method, path, res.Status, err, text)
		}
	}
	if res.StatusCode >= 300 {
		t.Logf("%s %s: %s: %s", method, path, res.Status, text)
	}
	return res.StatusCode
}

// track sends messages under a new write key.
func (r running) track(t *testing.T, messages ...map[string]any) {
	t.Helper()
	var key struct {
		WriteKey string `json:"write_key"`
	}
	if r.call(t, http.MethodPost, "/api/v1/write-keys", map[string]string{"source": "shop"}, &key) != http.StatusCreated {
		t.Fatal("no write key")
	}
	b, err := json.Marshal(map[string]any{"batch": messages})
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.url+"/v1/batch", bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth(key.WriteKey, "")
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Fatalf("batch: %s", res.Status)
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for tick := time.Tick(20 * time.Millisecond); !ok(); <-tick {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within a minute", what)
		}
	}
}

const welcomeFile = `id: welcome
name: Welcome
on:
  transition: {to: [first_purchase]}
where: traits.vip == true && event.properties.total > 10
limits:
  once: true
  consent: {trait: news}
do:
  webhook: {destination: crm}
`

// order is a purchase of a customer.
func order(user string) map[string]any {
	return map[string]any{
		"type": "track", "event": "Order Completed", "userId": user, "messageId": "order-" + user,
		"timestamp": time.Now().UTC().Format(time.RFC3339Nano), "properties": map[string]any{"order_id": user, "total": 12.5, "currency": "EUR"},
	}
}

func person(user string, vip bool) map[string]any {
	return map[string]any{
		"type": "identify", "userId": user, "messageId": "person-" + user, "traits": map[string]any{"vip": vip, "news": true},
		"timestamp": time.Now().Add(-time.Second).UTC().Format(time.RFC3339Nano),
	}
}

// TestAutomation goes from a trigger file to the received webhook.
func TestAutomation(t *testing.T) {
	hooks := newReceiver(t)
	s := startServer(t, filepath.Join(t.TempDir(), "data"), "--automation-allow", "127.0.0.0/8", "--flush-interval", "20ms")
	if got := s.call(t, http.MethodPost, "/api/v1/triggers", map[string]string{"source": welcomeFile}, nil); got != 422 {
		t.Fatalf("a trigger without its destination: %d", got)
	}
	var made struct {
		Secret string `json:"signing_secret"`
	}
	if got := s.call(t, http.MethodPut, "/api/v1/destinations/crm", map[string]string{"kind": "webhook", "url": hooks.URL}, &made); got != 200 || !strings.HasPrefix(made.Secret, "whsec_") {
		t.Fatalf("destination: %d, %q", got, made.Secret)
	}
	var applied api.TriggerApplied
	if got := s.call(t, http.MethodPost, "/api/v1/triggers", map[string]string{"source": welcomeFile}, &applied); got != 200 || applied.Version != 1 || !applied.Applied {
		t.Fatalf("apply: %d %+v", got, applied)
	}
	s.track(t, person("1", true), person("2", false), order("1"), order("2"))
	eventually(t, "the webhook", func() bool { return hooks.count() == 1 })

	var list struct{ Deliveries []api.DeliveryBody }
	eventually(t, "the table", func() bool {
		s.get(t, "/api/v1/deliveries?trigger=welcome&state=delivered", &list)
		return len(list.Deliveries) == 1
	})
	d := list.Deliveries[0]
	if d.Trigger != "welcome" || d.Attempts != 1 || d.To != "first_purchase" || d.Status != 200 || hooks.got[d.ID.String()] != 1 {
		t.Errorf("the delivery is %+v; received were %v", d, hooks.got)
	}
	var one struct {
		api.DeliveryBody
		Message struct{ Body string }
	}
	s.get(t, "/api/v1/deliveries/"+d.ID.String(), &one)
	if one.Message.Body != hooks.bodies[0] || one.State != "delivered" {
		t.Errorf("the delivery by itself is %+v", one)
	}
	var timeline struct {
		Entries []struct{ Delivery *api.DeliveryBody }
	}
	s.get(t, "/api/v1/customers/user:1/timeline", &timeline)
	if last := timeline.Entries[len(timeline.Entries)-1].Delivery; last == nil || last.ID != d.ID {
		t.Errorf("the timeline does not end with the delivery: %+v", timeline)
	}
	var tested struct {
		Where    bool
		Suppress string
		Change   struct{ At time.Time }
		Message  struct{ Body string }
	}
	s.call(t, http.MethodPost, "/api/v1/triggers/welcome/test", map[string]string{"customer": "user:1"}, &tested)
	if !tested.Where || tested.Suppress != "once" || time.Since(tested.Change.At).Abs() > time.Hour || strings.Contains(tested.Message.Body, `"context"`) {
		t.Errorf("tried again it says %+v", tested)
	}
	// A dry run of both kinds says what was done.
	for _, as := range []string{"known", "occurred"} {
		status, out, errOut := sojourn(t.Context(), "trigger", "dry-run", "welcome", "--data", s.data, "--from", time.Now().AddDate(0, 0, -1).Format(time.DateOnly), "--as", as, "--list")
		want := "version 1: 1 causes, 1 sends to 1 customers"
		if status != 0 || !strings.Contains(out, want) || !strings.Contains(out, d.ID.String()) {
			t.Errorf("dry run as %s: status %d\n%s%s", as, status, out, errOut)
		}
	}
	if status, _, errOut := sojourn(t.Context(), "trigger", "dry-run", "welcome", "--data", s.data); status != 2 || !strings.Contains(errOut, "--from is needed") {
		t.Errorf("a dry run of no period: status %d: %s", status, errOut)
	}
	for want, args := range map[string][]string{
		"the period begins in the future, at 2199-01-01T00:00:00Z":        {"dry-run", "welcome", "--from", "2199-01-01"},
		"the period ends before it begins":                                {"dry-run", "welcome", "--from", "2026-02-01", "--to", "2026-01-01"},
		`"tired" is no reason; there are paused, stale, consent, holdout`: {"deliveries", "--reason", "tired"},
		`there is no trigger "welcom"`:                                    {"deliveries", "--trigger", "welcom"},
		`there is no trigger "hello"`:                                     {"send", "--trigger", "hello"},
	} {
		if status, _, errOut := sojourn(t.Context(), append([]string{"trigger", "--data", s.data}, args...)...); status != 1 || !strings.Contains(errOut, want) {
			t.Errorf("%v: status %d: %s, not %s", args, status, errOut, want)
		}
	}
	ok := func(args ...string) string {
		t.Helper()
		status, out, errOut := sojourn(t.Context(), append([]string{"trigger"}, args...)...)
		if status != 0 {
			t.Fatalf("trigger %v: status %d: %s", args, status, errOut)
		}
		return out
	}
	data := "--data=" + s.data
	if out := ok("pause", "welcome", data, "--reason", "summer"); out != "trigger welcome is paused\n" {
		t.Errorf("pause: %s", out)
	}
	file := filepath.Join(t.TempDir(), "wrong.yaml")
	if err := os.WriteFile(file, []byte("{id: x,\n on: {segment: {entered: nobody}},\n do: {webhook: {destination: nowhere}}}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if status, _, errOut := sojourn(t.Context(), "trigger", "validate", file, data); status != 1 || !strings.Contains(errOut, "\n"+file+":3:") {
		t.Errorf("two mistakes that only the server knows, a line each: status %d: %s", status, errOut)
	}
	if status, _, errOut := sojourn(t.Context(), "trigger", "send", "one", "two", data); status != 2 || !strings.Contains(errOut, "name a delivery") {
		t.Errorf("two deliveries to send: status %d: %s", status, errOut)
	}
	s.track(t, person("3", true), order("3"))
	eventually(t, "what happens while it is paused is on record", func() bool {
		return strings.Contains(ok("deliveries", data, "--reason", "paused"), "suppressed (paused)")
	})
	table := strings.Split(ok("deliveries", data), "\n")
	if head := strings.Fields(table[0]); len(head) < 2 || head[0] != "AT" || head[1] != "TRIGGER" || strings.Fields(table[1])[1] != "welcome" {
		t.Errorf("deliveries: %s", strings.Join(table, "\n"))
	}
	if out := ok("resume", "welcome", data); out != "trigger welcome goes on\n" {
		t.Errorf("resume: %s", out)
	}
	if out := ok("history", "welcome", data); strings.Count(out, "\n") != 4 || !strings.Contains(out, "summer") {
		t.Errorf("history: %s", out)
	}
	if s.stop() != 0 {
		t.Error("it did not stop well")
	}
	if n := len(hooks.bodies); n != 1 {
		t.Errorf("%d calls", n)
	}
}

// TestWhatTriggersAppend: a purchase leads to points, these to a tier, that to a
// touchpoint, and that to a call; a circle among them ends.
func TestWhatTriggersAppend(t *testing.T) {
	hooks := newReceiver(t)
	s := startServer(t, filepath.Join(t.TempDir(), "data"), "--automation-allow", "127.0.0.0/8", "--flush-interval", "20ms")
	if got := s.call(t, http.MethodPut, "/api/v1/destinations/crm", map[string]string{"kind": "webhook", "url": hooks.URL}, nil); got != 200 && got != 201 {
		t.Fatalf("destination: %d", got)
	}
	for _, source := range []string{
		`{id: thanks, on: {touchpoint: {meaning: purchase}}, do: {touchpoint: {name: Thanked, properties: '{"order": {{json .event.properties.order_id}}}'}}}`,
		`{id: again, on: {touchpoint: {name: Thanked}}, do: {touchpoint: {name: Order Completed, properties: '{"order_id": "gift", "total": 1}'}}}`,
		`{id: gift, on: {touchpoint: {name: thanked}}, limits: {once: true}, do: {points: {points: 100}}}`,
		`{id: tell, on: {touchpoint: {name: Thanked}}, where: 'event.properties.order == "1"', do: {webhook: {destination: crm}}}`,
	} {
		if got := s.call(t, http.MethodPost, "/api/v1/triggers", map[string]string{"source": source}, nil); got != 200 {
			t.Fatalf("%s: %d", source, got)
		}
	}
	s.track(t, order("1"))
	eventually(t, "the webhook", func() bool { return hooks.count() == 1 })
	var list struct{ Deliveries []api.DeliveryBody }
	eventually(t, "the circle ends", func() bool {
		s.get(t, "/api/v1/deliveries?reason=loop", &list)
		return len(list.Deliveries) == 1
	})
	if d := list.Deliveries[0]; d.Trigger != "thanks" {
		t.Errorf("it ends at %+v", d)
	}
	var customer struct {
		Loyalty []struct{ Available int64 }
	}
	eventually(t, "the points", func() bool {
		s.get(t, "/api/v1/customers/user:1", &customer)
		return len(customer.Loyalty) > 0 && customer.Loyalty[0].Available >= 100
	})
}

// TestASegmentStartsATrigger: a customer enters a segment, and the trigger on that acts.
func TestASegmentStartsATrigger(t *testing.T) {
	hooks := newReceiver(t)
	s := startServer(t, filepath.Join(t.TempDir(), "data"), "--automation-allow", "127.0.0.0/8", "--flush-interval", "20ms")
	if got := s.call(t, http.MethodPut, "/api/v1/destinations/crm", map[string]string{"kind": "webhook", "url": hooks.URL}, nil); got != 200 && got != 201 {
		t.Fatalf("destination: %d", got)
	}
	if got := s.call(t, http.MethodPut, "/api/v1/segments/buyers", map[string]string{"condition": `count(meaning("purchase")) >= 1`}, nil); got/100 != 2 {
		t.Fatalf("segment: %d", got)
	}
	var segment struct{ Built bool }
	eventually(t, "the segment is built", func() bool {
		s.get(t, "/api/v1/segments/buyers", &segment)
		return segment.Built
	})
	const source = `{id: bought, on: {segment: {entered: buyers}}, where: 'in_segment("buyers") && !in_account("acme")', while_there: true, do: {webhook: {destination: crm}}}`
	if got := s.call(t, http.MethodPost, "/api/v1/triggers", map[string]string{"source": source}, nil); got != 200 {
		t.Fatalf("trigger: %d", got)
	}
	s.track(t, person("1", true), order("1"), person("2", true))
	eventually(t, "the webhook", func() bool { return hooks.count() == 1 })
	var sent struct {
		Data struct {
			Type     string
			After    map[string]any
			Customer struct{ Segments []string }
		}
	}
	if err := json.Unmarshal([]byte(hooks.bodies[0]), &sent); err != nil {
		t.Fatal(err)
	}
	if d := sent.Data; d.Type != "segment.entered" || d.After["segment"] != "buyers" || len(d.Customer.Segments) != 1 {
		t.Errorf("the body is %s", hooks.bodies[0])
	}
	// A trigger that acts holds the segments it names.
	for _, on := range []string{"segment: {left: buyers}", "touchpoint: {name: x}"} {
		again := strings.Replace(source, "segment: {entered: buyers}", on, 1)
		again = strings.Replace(again, ", while_there: true", "", 1)
		if got := s.call(t, http.MethodPost, "/api/v1/triggers", map[string]string{"source": again}, nil); got != 200 {
			t.Fatalf("trigger: %d", got)
		}
		status, _, errOut := sojourn(t.Context(), "segment", "delete", "buyers", "--data", s.data)
		if status != 1 || !strings.Contains(errOut, "the trigger bought names it") {
			t.Errorf("delete: status %d: %s", status, errOut)
		}
	}
	for _, args := range [][]string{{"trigger", "pause", "bought"}, {"segment", "delete", "buyers"}} {
		if status, _, errOut := sojourn(t.Context(), append(args, "--data", s.data)...); status != 0 {
			t.Errorf("%v: status %d: %s", args, status, errOut)
		}
	}
	// And goes on only where they are there.
	status, out, errOut := sojourn(t.Context(), "trigger", "resume", "bought", "--data", s.data)
	if status != 1 || !strings.Contains(errOut, "buyers") || out != "" {
		t.Errorf("resume: status %d: %s%s", status, out, errOut)
	}
	if status, out, _ = sojourn(t.Context(), "trigger", "list", "--data", s.data); status != 0 || !strings.Contains(out, " paused ") {
		t.Errorf("list: status %d: %s", status, out)
	}
}

// TestTriggersByTheClock: an absence, a schedule, and those who are in a segment
// already.
func TestTriggersByTheClock(t *testing.T) {
	hooks := newReceiver(t)
	s := startServer(t, filepath.Join(t.TempDir(), "data"), "--automation-allow", "127.0.0.0/8", "--flush-interval", "20ms")
	if got := s.call(t, http.MethodPut, "/api/v1/destinations/crm", map[string]string{"kind": "webhook", "url": hooks.URL}, nil); got/100 != 2 {
		t.Fatalf("destination: %d", got)
	}
	s.track(t, person("1", true), order("1"), person("2", true))
	if got := s.call(t, http.MethodPut, "/api/v1/segments/buyers", map[string]string{"condition": `count(meaning("purchase")) >= 1`}, nil); got/100 != 2 {
		t.Fatalf("segment: %d", got)
	}
	built := func(name string) {
		t.Helper()
		var segment struct {
			Built   bool
			Members int
			Trigger string
		}
		eventually(t, name+" is built", func() bool {
			s.get(t, "/api/v1/segments/"+name, &segment)
			return segment.Built
		})
	}
	built("buyers")
	apply := func(want int, body map[string]any) (out api.TriggerApplied) {
		t.Helper()
		if got := s.call(t, http.MethodPost, "/api/v1/triggers", body, &out); got != want {
			t.Fatalf("%v: %d", body, got)
		}
		return out
	}

	// Who is in a segment already: the number first.
	existing := map[string]any{"source": `{id: bought, on: {segment: {entered: buyers}}, do: {webhook: {destination: crm}}}`, "fire": "existing"}
	if a := apply(200, existing); a.Applied || a.Confirm == nil || *a.Confirm != 1 {
		t.Fatalf("%+v", a)
	}
	existing["confirm"] = 2
	apply(409, existing)
	existing["confirm"] = 1
	if a := apply(200, existing); !a.Applied || a.Confirm != nil {
		t.Fatalf("%+v", a)
	}
	eventually(t, "the webhook of the one", func() bool { return hooks.count() == 1 })

	// The command asks, and takes no answer for a no.
	file := filepath.Join(t.TempDir(), "told.yaml")
	if err := os.WriteFile(file, []byte(`{id: told, on: {segment: {entered: buyers}}, do: {kafka: {destination: none}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if status, _, _ := sojourn(t.Context(), "trigger", "apply", file, "--data="+s.data, "--fire-existing", "--yes"); status != 1 {
		t.Errorf("a trigger without its destination: %d", status)
	}
	if err := os.WriteFile(file, []byte(`{id: told, on: {segment: {entered: buyers}}, do: {touchpoint: {name: Told}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if status, out, _ := sojourn(t.Context(), "trigger", "apply", file, "--data="+s.data, "--fire-existing"); status != 1 || !strings.Contains(out, "1 customers are in the segment") {
		t.Errorf("%d: %s", status, out)
	}
	if status, out, _ := sojourn(t.Context(), "trigger", "apply", file, "--data="+s.data, "--fire-existing", "--yes"); status != 0 || !strings.Contains(out, "version 1 of trigger told is in force") {
		t.Errorf("%d: %s", status, out)
	}
	var told struct{ Deliveries []api.DeliveryBody }
	eventually(t, "the touchpoint of the one", func() bool {
		s.get(t, "/api/v1/deliveries?trigger=told&state=delivered", &told)
		return len(told.Deliveries) == 1
	})

	// An absence has a segment of its own, which goes with it.
	absent := map[string]any{"source": `{id: quiet, on: {absence: {meaning: purchase, for: 2s}}, do: {webhook: {destination: crm, body: '"quiet"'}}}`}
	if a := apply(200, absent); a.Segment != "trigger.quiet" {
		t.Fatalf("%+v", a)
	}
	built("trigger.quiet")
	if got := s.call(t, http.MethodPut, "/api/v1/segments/trigger.quiet", map[string]string{"condition": "true"}, nil); got != 422 {
		t.Errorf("it was changed by hand: %d", got)
	}
	if got := s.call(t, http.MethodDelete, "/api/v1/segments/trigger.quiet", nil, nil); got != 422 {
		t.Errorf("it was deleted by hand: %d", got)
	}
	s.track(t, order("2"))
	eventually(t, "two and then quiet", func() bool { return hooks.count() == 3 })
	absent["source"] = `{id: quiet, on: {touchpoint: {name: Nothing}}, do: {webhook: {destination: crm}}}`
	apply(200, absent)
	var all struct{ Segments []api.SegmentBody }
	s.get(t, "/api/v1/segments", &all)
	if len(all.Segments) != 1 || all.Segments[0].Name != "buyers" {
		t.Errorf("the segments are %+v", all.Segments)
	}

	// What a schedule would have done; its first tick is not waited for.
	apply(200, map[string]any{"source": `{id: hourly, on: {schedule: {cron: "0 * * * *", segment: buyers}}, do: {webhook: {destination: crm}}}`})
	if got := s.call(t, http.MethodGet, "/api/v1/triggers/hourly", nil, nil); got != 200 {
		t.Errorf("%d", got)
	}
}
