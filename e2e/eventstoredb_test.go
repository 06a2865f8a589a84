package e2e

import (
	"reflect"
	"regexp"
	"testing"
)

// TestEventStoreDBJavaScriptClient opens the log to the client of EventStoreDB's
// makers: it appends, reads and subscribes beside what Sojourn writes.
func TestEventStoreDBJavaScriptClient(t *testing.T) {
	t.Parallel()
	s := newServer(t, "--esdb-listen", "127.0.0.1:0", "--esdb-insecure")
	key := s.writeKey("shop")
	s.send(key, message{"type": "track", "messageId": "1", "userId": "42", "event": "Order Completed", "properties": message{"total": 12.5, "currency": "USD"}})
	address := regexp.MustCompile(`EventStoreDB (esdb://\S+)`).FindStringSubmatch(s.out.String())
	if address == nil {
		t.Fatal("the start prints no address")
	}
	var got map[string]any
	node(t, &got, "eventstore.mjs", address[1])
	want := map[string]any{
		"appended":     []any{true, 1.0, true, true},
		"batch":        true,
		"many":         200.0,
		"large":        true,
		"single":       true,
		"wrongVersion": "WrongExpectedVersionError",
		"wrongDetails": []any{true, 7.0, 3.0},
		"streamExists": "WrongExpectedVersionError",
		"ownAppend":    "AccessDeniedError",
		"ownDelete":    "AccessDeniedError",
		"ownTombstone": "AccessDeniedError",
		"ownMetadata":  "AccessDeniedError",
		"missing":      "StreamNotFoundError",
		"persistent":   "UNIMPLEMENTED",
		"read": []any{
			[]any{0.0, "OrderPlaced", 1.0, "test"},
			[]any{1.0, "OrderPlaced", 2.0, "test"},
			[]any{2.0, "Scan", []any{255.0, 0.0, 7.0}, []any{9.0}},
			[]any{3.0, "Single", 3.0, "test"},
		},
		"id":           true,
		"text":         "Grüße",
		"created":      true,
		"backwards":    []any{3.0, 2.0},
		"fromRevision": []any{2.0, 3.0},
		"last":         "Single",
		"touchpoint":   []any{"touchpoint.v1", true, "Order Completed"},
		"subscribed":   []any{"OrderPlaced", "OrderPlaced", "Scan", "Single", "Later"},
		"resumed":      []any{"Single", "Later"},
		"filtered":     []any{"Scan", "Later"},
		"checkpoints":  true,
		"maxCount":     []any{"Single", "Later"},
		"metadata":     2.0,
		"deleted":      "StreamNotFoundError",
		"recreated":    5.0,
		"ended":        []any{"StreamDeletedError", "StreamDeletedError"},
	}
	for key, w := range want {
		if !reflect.DeepEqual(got[key], w) {
			t.Errorf("%s: %#v, want %#v", key, got[key], w)
		}
	}
	for key := range got {
		if _, ok := want[key]; !ok {
			t.Errorf("%s is not looked at: %#v", key, got[key])
		}
	}
	// Sojourn goes on beside it.
	s.send(key, message{"type": "track", "messageId": "2", "userId": "42", "event": "Order Completed", "properties": message{"total": 1, "currency": "USD"}})
	s.caughtUp()
	if c := s.customer("user:42", ""); c.Purchases != 2 {
		t.Errorf("%+v", c)
	}
}
