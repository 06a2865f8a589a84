package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// TestKafkaOut: what Sojourn says of customers and every touchpoint stand in the
// topics, by customer, once, over kills of the server.
func TestKafkaOut(t *testing.T) {
	t.Parallel()
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(3, "said", "happened"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Close)
	config := filepath.Join(t.TempDir(), "out.yaml")
	if err := os.WriteFile(config, fmt.Appendf(nil, "kafka:\n  brokers: ['%s']\n  out: {statements: said, touchpoints: happened}\n",
		strings.Join(broker.ListenAddrs(), "', '")), 0o600); err != nil {
		t.Fatal(err)
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(broker.ListenAddrs()...), kgo.ConsumeTopics("said", "happened"), kgo.FetchMaxWait(100*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	got := make(map[string][]*kgo.Record)
	ids := make(map[string]bool)
	read := func() {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		client.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
			for _, h := range r.Headers {
				if h.Key == "ce_id" {
					if ids[string(h.Value)] {
						t.Errorf("%s is there twice", h.Value)
					}
					ids[string(h.Value)] = true
				}
			}
			got[r.Topic] = append(got[r.Topic], r)
		})
	}
	dir := filepath.Join(t.TempDir(), "data")
	s := start(t, dir, "--config", config)
	key := s.writeKey("shop")
	const users = 20
	for round := range 3 {
		var batch []message
		for u := range users {
			batch = append(batch, order(fmt.Sprint("u", u), fmt.Sprintf("o-%d-%d", round, u), 0))
		}
		s.send(key, batch...)
		if round < 2 {
			s.kill()
			s = start(t, dir, "--config", config)
		}
	}
	s.caughtUp()
	statements := 0
	eventually(t, time.Minute, "everything is in the topics", func() error {
		statements = s.count("SELECT count() FROM stage_transitions")
		read()
		if n := len(got["happened"]); n != 3*users || len(got["said"]) < statements || statements < users {
			return fmt.Errorf("%d touchpoints, %d statements of %d", n, len(got["said"]), statements)
		}
		return nil
	})
	for topic, records := range got {
		for _, r := range records {
			if id := string(r.Key); s.customer(id, "").ID != id {
				t.Errorf("%s: the key %s is no customer", topic, id)
			}
		}
	}
	s.stop()
}
