package api_test

import (
	"context"
	"encoding/json"
	"iter"
	"testing"
	"time"

	"github.com/google/uuid"

	"sojourn/api"
	"sojourn/domain"
	"sojourn/domain/policy"
	"sojourn/eventstore"
)

// shelf is a log that holds what it was made with.
type shelf struct {
	eventstore.Store
	events []eventstore.Recorded
}

func (s shelf) ReadAll(_ context.Context, after eventstore.Position) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		for _, e := range s.events {
			if e.Position > after && !yield(e, nil) {
				return
			}
		}
	}
}

func (s shelf) Wait(ctx context.Context, _ eventstore.Position) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestFollow(t *testing.T) {
	at := domain.MillisOf(noon)
	keyer := domain.NewKeyer(make([]byte, domain.KeySize))
	touch := func(pos eventstore.Position, h domain.Header, data string) eventstore.Recorded {
		h.OccurredAt, h.Source = at, "shop"
		return eventstore.Recorded{
			NewEvent: eventstore.NewEvent{ID: uuid.New(), Type: domain.TypeTouchpoint, Metadata: h.Append(nil), Data: []byte(data)},
			Position: pos, RecordedAt: noon, Stream: keyer.Stream(h.Subject()),
		}
	}
	meta, err := json.Marshal(map[string]any{"v": 1, "code": "bad_time", "source": "shop", "received_at": int64(at)})
	if err != nil {
		t.Fatal(err)
	}
	repeat := touch(3, domain.Header{Kind: domain.Track, UserID: "42", Name: "Order Completed"}, `{}`)
	repeat.Repeat = true
	log := shelf{events: []eventstore.Recorded{
		touch(1, domain.Header{Kind: domain.Page, AnonymousID: "a"}, `{}`),
		touch(2, domain.Header{Kind: domain.Track, UserID: "42", Name: "Order Completed"}, `{"context":{"library":{"name":"analytics-swift"}}}`),
		repeat,
		{NewEvent: eventstore.NewEvent{Type: domain.TypePolicyApplied}, Position: 4},
		{NewEvent: eventstore.NewEvent{Type: domain.TypeTouchpoint, Data: []byte(`{}`)}, Stream: "invoice-1", Position: 4}, // somebody else's
		{NewEvent: eventstore.NewEvent{Type: domain.TypeReject, Metadata: meta, Data: []byte(`{"x":1}`)}, Position: 5},
		touch(6, domain.Header{Kind: domain.Track, UserID: "42", Name: "Thing"}, `{}`),
	}}
	rules := policy.Default().Compile()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var got []api.Arrival
	for v, err := range api.Follow(log, func() *policy.Compiled { return rules }).Arrivals(ctx, 1) {
		if err != nil {
			t.Fatal(err)
		}
		if got = append(got, v); len(got) == 3 {
			break
		}
	}
	if v := got[0]; v.Position != 2 || v.Kind != "touchpoint" || v.Meaning != "purchase" || v.Channel != "mobile" ||
		v.Subject != "user:42" || v.Type != "track" || !v.OccurredAt.Equal(noon) {
		t.Errorf("%+v", v)
	}
	if v := got[1]; v.Position != 5 || v.Kind != "reject" || v.Reason != "bad_time" || v.Source != "shop" || string(v.Message) != `{"x":1}` {
		t.Errorf("%+v", v)
	}
	if v := got[2]; v.Position != 6 || v.Meaning != "unmapped" {
		t.Errorf("%+v", v)
	}
}
