package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"sojourn/internal/freeport"
)

// collectedTopic is the topic between collectors and writers.
const collectedTopic = "sojourn.tracking"

// collectConfig writes a configuration file with that topic and no other.
func collectConfig(t *testing.T, brokers ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "collect.yaml")
	text := fmt.Sprintf("kafka:\n  brokers: ['%s']\n  collect: {topic: %s}\n", strings.Join(brokers, "', '"), collectedTopic)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// freeAddress is one that nobody listens at now.
func freeAddress(t *testing.T) string {
	t.Helper()
	port, err := freeport.Find(1)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", port)
}

// startCollector starts a collector and waits until it takes calls.
func startCollector(t *testing.T, dir, config, store string) *server {
	t.Helper()
	s := &server{dir: dir, process: spawn(t, nil, binary, "serve", "--roles", "collect", "--allow-unreplicated",
		"--data", dir, "--listen", "127.0.0.1:0", "--config", config, "--store", "esdb://"+store+"?tls=false")}
	eventually(t, time.Minute, "the collector takes calls", func() error {
		m := addressLine.FindStringSubmatch(s.out.String())
		if s.over() || m == nil {
			if s.over() {
				t.Fatalf("the collector ended: %s", s.err.String())
			}
			return errors.New("it has not said where")
		}
		s.url = m[1]
		res, err := http.Get(s.url + "/readyz")
		if err != nil {
			return err
		}
		if err := res.Body.Close(); err != nil {
			return err
		}
		if res.StatusCode != http.StatusOK {
			return fmt.Errorf("/readyz answers %d", res.StatusCode)
		}
		return nil
	})
	return s
}

func page(n int) message {
	return message{"type": "page", "messageId": fmt.Sprintf("m%d", n), "userId": fmt.Sprintf("u%d", n%9), "name": "Home"}
}

// TestCollector: a collector goes on while everything behind Kafka is away, over
// a start of its own too, and what it has acknowledged is in the views in the end.
func TestCollector(t *testing.T) {
	t.Parallel()
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(3, collectedTopic))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Close)
	config, store := collectConfig(t, broker.ListenAddrs()...), freeAddress(t)
	dir := filepath.Join(t.TempDir(), "data")
	writer := []string{"--config", config, "--esdb-listen", store, "--esdb-insecure"}
	w := start(t, dir, writer...)
	key := w.writeKey("shop")
	own := filepath.Join(t.TempDir(), "data")
	c := startCollector(t, own, config, store)
	sent := 0
	send := func(want int, with string) {
		t.Helper()
		a, err := track(c.url, with, "/v1/batch", map[string]any{"batch": []message{page(sent), {"type": "page"}}})
		if err != nil || a.status != want {
			t.Fatalf("answered %d %s, %v; want %d", a.status, a.body, err, want)
		}
		if want == http.StatusOK {
			sent++
			if a.header.Get("Sojourn-Position") != "" || a.header.Get("Sojourn-Rejected") != "1" {
				t.Errorf("headers %v", a.header)
			}
		}
	}
	send(http.StatusOK, key)
	send(http.StatusUnauthorized, "nonsense")
	w.kill()
	for range 5 {
		send(http.StatusOK, key)
	}
	send(http.StatusServiceUnavailable, "nonsense")
	c.stop()
	c = startCollector(t, own, config, store)
	send(http.StatusOK, key)
	send(http.StatusServiceUnavailable, "nonsense")
	w = start(t, dir, writer...)
	eventually(t, time.Minute, "everything is in the views", func() error {
		if n, r := w.count("SELECT count() FROM touchpoints"), w.rejects(); n != sent || r != sent {
			return fmt.Errorf("%d touchpoints and %d rejects, want %d", n, r, sent)
		}
		return nil
	})
	// The new key is known at once.
	send(http.StatusOK, w.writeKey("app"))
	c.stop()
	w.stop()
}

// TestCollectorInOneProcess has all roles in one server.
func TestCollectorInOneProcess(t *testing.T) {
	t.Parallel()
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(3, collectedTopic))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Close)
	s := newServer(t, "--config", collectConfig(t, broker.ListenAddrs()...), "--allow-unreplicated", "--roles", "collect,write,project,api,automate")
	key := s.writeKey("shop")
	eventually(t, time.Minute, "Kafka is there", func() error {
		a, err := track(s.url, key, "/v1/batch", map[string]any{"batch": []message{page(1)}})
		if err == nil && a.status != http.StatusOK {
			err = fmt.Errorf("answered %d %s", a.status, a.body)
		}
		return err
	})
	eventually(t, time.Minute, "the message is in the views", func() error {
		if n := s.count("SELECT count() FROM touchpoints"); n != 1 {
			return fmt.Errorf("%d touchpoints", n)
		}
		return nil
	})
	s.stop()
}

// TestCollectorRefusesOneCopy: a topic that is not replicated is no place for
// what is acknowledged.
func TestCollectorRefusesOneCopy(t *testing.T) {
	t.Parallel()
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(3, collectedTopic))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Close)
	status, _, out := sojourn(t, "serve", "--roles", "collect", "--data", filepath.Join(t.TempDir(), "data"), "--listen", "127.0.0.1:0",
		"--config", collectConfig(t, broker.ListenAddrs()...), "--store", "esdb://"+freeAddress(t)+"?tls=false")
	if status != 1 || !strings.Contains(out, "--allow-unreplicated") {
		t.Errorf("status %d, %s", status, out)
	}
}

// TestKafkaCollectorOutage sends calls to a collector while a real broker is away
// for a while (SOJOURN_TEST_KAFKA_OUTAGE, default 8s): every call is answered
// 200, 429 or 503, and what was answered 200 is in the views in the end, once.
func TestKafkaCollectorOutage(t *testing.T) {
	k := startKafka(t)
	outage := 8 * time.Second
	if given := os.Getenv("SOJOURN_TEST_KAFKA_OUTAGE"); given != "" {
		var err error
		if outage, err = time.ParseDuration(given); err != nil {
			t.Fatal(err)
		}
	}
	client := kafkaClient(t, k.address())
	create := kmsg.NewPtrCreateTopicsRequest()
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = collectedTopic, 4, 1
	create.Topics = append(create.Topics, topic)
	if _, err := create.RequestWith(t.Context(), client); err != nil {
		t.Fatal(err)
	}
	config, store := collectConfig(t, k.address()), freeAddress(t)
	w := newServer(t, "--config", config, "--esdb-listen", store, "--esdb-insecure")
	key := w.writeKey("shop")
	c := startCollector(t, filepath.Join(t.TempDir(), "data"), config, store)

	var mu sync.Mutex
	answers := make(map[int]int)
	acknowledged := make(map[string]bool)
	done := make(chan struct{})
	var load sync.WaitGroup
	for sender := range 16 {
		load.Go(func() {
			tick := time.NewTicker(5 * time.Millisecond)
			defer tick.Stop()
			for n := 0; ; n++ {
				select {
				case <-done:
					return
				case <-tick.C:
				}
				batch := make([]message, 5)
				for i := range batch {
					id := fmt.Sprintf("m-%d-%d-%d", sender, n, i)
					batch[i] = message{"type": "page", "messageId": id, "userId": fmt.Sprintf("u%d", sender), "name": "Home", "properties": message{"id": id}}
				}
				a, err := track(c.url, key, "/v1/batch", map[string]any{"batch": batch})
				mu.Lock()
				if err != nil {
					t.Error(err)
				}
				answers[a.status]++
				if a.status == http.StatusOK {
					for _, m := range batch {
						acknowledged[m["messageId"].(string)] = true
					}
				}
				mu.Unlock()
			}
		})
	}
	count := func(status int) int {
		mu.Lock()
		defer mu.Unlock()
		return answers[status]
	}
	after := func(status, n int) {
		t.Helper()
		eventually(t, time.Minute, fmt.Sprintf("more answers %d", status), func() error {
			if count(status) <= n {
				return errors.New("none")
			}
			return nil
		})
	}
	after(http.StatusOK, 500)
	k.do("kill")
	began := time.Now()
	after(http.StatusServiceUnavailable, 0)
	<-time.After(time.Until(began.Add(outage)))
	k.do("up")
	after(http.StatusOK, count(http.StatusOK)+500)
	close(done)
	load.Wait()
	for status := range answers {
		if status != http.StatusOK && status != http.StatusTooManyRequests && status != http.StatusServiceUnavailable {
			t.Errorf("%d calls are answered %d", answers[status], status)
		}
	}
	t.Logf("answers %v, %d messages acknowledged", answers, len(acknowledged))
	have := make(map[string]string)
	eventually(t, 2*time.Minute, "everything acknowledged is in the views", func() error {
		clear(have)
		for _, r := range w.rows("SELECT JSONExtractString(properties, 'id') AS id, toUInt32(count()) AS n FROM touchpoints GROUP BY id") {
			have[r["id"].(string)] = fmt.Sprint(r["n"])
		}
		missing := 0
		for id := range acknowledged {
			if have[id] == "" {
				missing++
			}
		}
		if missing > 0 {
			return fmt.Errorf("%d are missing", missing)
		}
		return nil
	})
	for id, n := range have {
		if n != "1" {
			t.Errorf("%s is there %s times", id, n)
		}
	}
	c.stop()
	w.stop()
}
