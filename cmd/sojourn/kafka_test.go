package main

import (
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"sojourn/ingest/kafkasource"
)

func TestKafkaConfig(t *testing.T) {
	c, err := load(t, nil, map[string]string{kafkaPassword: "from the environment"}, `kafka:
  brokers: [127.0.0.1:9092, kafka.example.com:9093]
  start: newest
  tls: {enabled: true, server_name: kafka}
  sasl: {mechanism: SCRAM-SHA-512, user: sojourn, password: from the file}
  topics:
    - {name: events, source: shop}
    - name: orders
      source: erp
      format: json
      mapping:
        user: customer.id
        event: {value: Order Completed}
        identity: [$key]
        properties: {total: {field: sum, kind: number}, currency: {value: EUR}, retries: {value: 3}}
    - {name: erp, source: erp, format: json, mapping: erp-orders}
`)
	if err != nil {
		t.Fatal(err)
	}
	k := c.Kafka
	source := k.source()
	if source.Group != "sojourn" || !source.FromEnd || len(source.Brokers) != 2 || len(source.Topics) != 3 {
		t.Errorf("%+v", source)
	}
	if k.SASL.Password != "from the environment" {
		t.Errorf("password %q", k.SASL.Password)
	}
	if o := source.Topics[1]; o.Format != kafkasource.JSON || o.Mapping.Own.Identity[0] != "$key" || o.Mapping.Own.Properties["total"].Kind != "number" {
		t.Errorf("%+v", o)
	}
	if o := source.Topics[2]; o.Mapping.Name != "erp-orders" || o.Mapping.Own.User != "" {
		t.Errorf("%+v", o.Mapping)
	}
	if m, err := k.SASL.mechanism(); err != nil || m.Name() != "SCRAM-SHA-512" {
		t.Error(m, err)
	}
	if tls, err := k.TLS.config(); err != nil || tls.ServerName != "kafka" {
		t.Error(tls, err)
	}
	if c, err := load(t, nil, map[string]string{kafkaPassword: "p"}, "data: x\n"); err != nil || c.Kafka != nil {
		t.Error(c.Kafka, err)
	}
}

func TestKafkaConfigMistakes(t *testing.T) {
	const good = "kafka:\n  brokers: ['127.0.0.1:9092']\n  topics: [{name: a, source: b}]\n"
	if _, err := load(t, nil, nil, good); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		"kafka:\n  broker: []\n":                                                                  `c.yaml:2:3: unknown key "broker" under kafka; did you mean "brokers"?`,
		"kafka: {}\n":                                                                             "kafka.brokers: name at least one",
		good + "  start: now\n":                                                                   `kafka.start: "now" is not oldest or newest`,
		good + "  tls: {ca: x}\n":                                                                 "kafka.tls: set enabled: true",
		good + "  tls: {enabled: true, cert: x}\n":                                                "kafka.tls: give cert and key, or neither",
		good + "  sasl: {user: x}\n":                                                              "kafka.sasl.mechanism: name",
		good + "  sasl: {mechanism: GSSAPI}\n":                                                    `kafka.sasl.mechanism: "GSSAPI" is not`,
		good + "  sasl: {mechanism: PLAIN, user: x}\n":                                            "kafka.sasl: PLAIN needs user and password (or SOJOURN_KAFKA_PASSWORD)",
		good + "  sasl: {mechanism: OAUTHBEARER}\n":                                               "kafka.sasl.token_file",
		strings.Replace(good, "source: b", "source: b, format: x", 1):                             `kafka.topics[0].format: "x" is not`,
		strings.Replace(good, "source: b", "source: b, maping: {}", 1):                            `unknown key "maping" under kafka.topics[0]; did you mean "mapping"?`,
		strings.Replace(good, "source: b", "source: b, mapping: {}", 1):                           "kafka.topics[0].mapping: a Segment message needs none",
		strings.Replace(good, "source: b", "source: b, mapping: erp", 1):                          "kafka.topics[0].mapping: a Segment message needs none",
		strings.Replace(good, "source: b", "source: b, format: json, mapping: ERP orders", 1):     `kafka.topics[0].mapping: "ERP orders" is no name of a mapping`,
		strings.Replace(good, "source: b", "source: b, format: json, mapping: [erp]", 1):          "c.yaml:3:56: kafka.topics[0].mapping: this should be keys with values",
		strings.Replace(good, "source: b", "source: b, format: json, mapping: {usr: a}", 1):       `c.yaml:3:57: unknown key "usr" under kafka.topics[0].mapping; did you mean "user"?`,
		strings.Replace(good, "source: b", "source: b, format: json, mapping: {user: [a]}", 1):    "c.yaml:3:63: kafka.topics[0].mapping.user: this should be text",
		strings.Replace(good, "source: b", "source: b, format: json, mapping: {user: $hdr.a}", 1): `kafka.topics[0].mapping.user: "$hdr.a" is none of`,
		strings.Replace(good, "source: b", "source: b, format: json", 1):                          "kafka.topics[0].mapping: JSON needs one",
	} {
		if _, err := load(t, nil, nil, file); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q:\ngot  %v\nwant %s", file, err, want)
		}
	}
}

func TestKafkaFiles(t *testing.T) {
	dir := t.TempDir()
	token, empty := filepath.Join(dir, "token"), filepath.Join(dir, "empty.pem")
	for path, text := range map[string]string{token: "first\n", empty: ""} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m, err := (&KafkaSASL{Mechanism: "OAUTHBEARER", TokenFile: token}).mechanism()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"first", "second"} {
		if err := os.WriteFile(token, []byte(want+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, message, err := m.Start(t.Context()); err != nil || !strings.Contains(string(message), "Bearer "+want+"\x01") {
			t.Errorf("%q, %v", message, err)
		}
	}
	for want, c := range map[string]KafkaTLS{
		"kafka.tls.ca: open":       {Enabled: true, CA: filepath.Join(dir, "nothing")},
		"holds no PEM certificate": {Enabled: true, CA: empty},
		"kafka.tls.cert":           {Enabled: true, Cert: empty, Key: empty},
	} {
		if _, err := c.config(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if none, err := (&KafkaTLS{}).config(); none != nil || err != nil {
		t.Error(none, err)
	}
}

func TestCollectConfig(t *testing.T) {
	const good = "kafka:\n  brokers: ['127.0.0.1:9092']\n  collect: {topic: t}\n"
	c, err := load(t, []string{"--roles", "collect", "--store", "esdb://a:2113"}, nil, good)
	if err != nil || !c.Roles.only(roleCollect) {
		t.Fatal(c.Roles, err)
	}
	if topics := c.Kafka.source().Topics; len(topics) != 1 || topics[0].Format != kafkasource.Collected {
		t.Errorf("%+v", topics)
	}
	if c, err = load(t, nil, nil, good); err != nil || c.Roles.has(roleCollect) || !c.Roles.has(roleWrite) {
		t.Error(c.Roles, err)
	}
	for want, given := range map[string][]string{
		`did you mean collect?`:                  {"--roles", "colect"},
		`"x" is no role; they are collect`:       {"--roles", "x"},
		`write stands there twice`:               {"--roles", "write,write"},
		`store: a collector finds`:               {"--roles", "collect"},
		`kafka.collect.topic: name the topic`:    {"--policy", "-"},
		`needs the section kafka.collect of the`: {"--roles", "collect", "--store", "esdb://a:2113"},
	} {
		file := good
		switch given[0] {
		case "--policy":
			file = strings.Replace(good, "topic: t", "", 1)
		default:
			if strings.HasPrefix(want, "needs") {
				file = ""
			}
		}
		if _, err := load(t, given, nil, file); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %s", given, err, want)
		}
	}
}

func TestKafkaOutConfig(t *testing.T) {
	const good = "kafka:\n  brokers: ['127.0.0.1:9092']\n  out: {statements: a, touchpoints: b}\n"
	c, err := load(t, nil, nil, good)
	if err != nil || c.Kafka.consumes() || c.Kafka.Out.Statements != "a" {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		strings.Replace(good, "statements: a, touchpoints: b", "", 1):   "kafka.out: name a topic",
		strings.Replace(good, "touchpoints: b", "touchpoints: a", 1):    "need a topic each",
		strings.Replace(good, "touchpoints: b", "start: now", 1):        `kafka.out.start: "now" is not`,
		strings.Replace(good, "['127.0.0.1:9092']", "[]", 1):            "kafka.brokers: name at least one",
		strings.Replace(good, "out: {", "sasl: {user: x}\n  out: {", 1): "kafka.sasl.mechanism: name",
	} {
		if _, err := load(t, nil, nil, file); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", file, err, want)
		}
	}
}

// TestKafkaMappingsOfThePolicy has one server that applies policies and replays, and
// one that reads a topic by the mapping of the policy in force.
func TestKafkaMappingsOfThePolicy(t *testing.T) {
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, "orders"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Close)
	client, err := kgo.NewClient(kgo.SeedBrokers(broker.ListenAddrs()...), kgo.DefaultProduceTopic("orders"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	sent := 0
	send := func() {
		t.Helper()
		sent++
		order := fmt.Appendf(nil, `{"order":{"number":%d,"sum":9.90},"customer":{"id":"u%d"}}`, sent, sent)
		if err := client.ProduceSync(t.Context(), &kgo.Record{Value: order}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	file := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	settings := file("sojourn.yaml", "kafka:\n  brokers: ['"+broker.ListenAddrs()[0]+"']\n  topics:\n    - {name: orders, source: erp, format: json, mapping: erp-orders}\n")
	rules := file("policy.yaml", "mappings:\n  erp-orders:\n    user: customer.id\n    event: {value: Order Completed}\n"+
		"    identity: [order.number]\n    properties: {order_id: {field: order.number}, total: {field: order.sum}, currency: {value: EUR}}\n")
	answers := startServer(t, filepath.Join(dir, "answers"), "--roles", "project,api", "--config", settings,
		"--esdb-listen", "127.0.0.1:0", "--esdb-insecure", "--esdb-writable", "--flush-interval", "20ms")
	key, err := os.ReadFile(filepath.Join(answers.data, keyFile))
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(streamKeyEnv, hex.EncodeToString(key))
	connection := regexp.MustCompile(`EventStoreDB (esdb://\S+)`).FindStringSubmatch(answers.out.String())[1]
	startServer(t, filepath.Join(dir, "writes"), "--roles", "write", "--config", settings, "--store", connection)

	until := func(what string, done func() bool) {
		t.Helper()
		deadline := time.Now().Add(time.Minute)
		for tick := time.Tick(50 * time.Millisecond); !done(); <-tick {
			if time.Now().After(deadline) {
				t.Fatal("still not: " + what)
			}
		}
	}
	var page struct {
		Rejects []struct{ Reason, Detail string }
	}
	rejects := func() int {
		t.Helper()
		answers.get(t, "/api/v1/rejects?limit=1000", &page)
		return len(page.Rejects)
	}
	customers := func() int {
		t.Helper()
		var stages struct{ Customers int }
		answers.get(t, "/api/v1/stages", &stages)
		return stages.Customers
	}
	send()
	until("a reject", func() bool { return rejects() == 1 })
	if r := page.Rejects[0]; r.Reason != "no_mapping" || r.Detail != "the policy in force has no mapping erp-orders" {
		t.Errorf("%+v", r)
	}

	status, out, errOut := sojourn(t.Context(), "policy", "diff", rules, "--data="+answers.data)
	if status != 0 || !strings.Contains(out, "mappings.erp-orders.user") {
		t.Errorf("diff: %d %s%s", status, out, errOut)
	}
	if status, _, errOut := sojourn(t.Context(), "policy", "apply", rules, "--data="+answers.data); status != 0 {
		t.Fatal(errOut)
	}
	until("a customer, by the new mapping", func() bool {
		send()
		return customers() > 0
	})
	token, err := os.ReadFile(filepath.Join(answers.data, "admin-token"))
	if err != nil {
		t.Fatal(err)
	}
	until("the end of the topic", func() bool { return customers()+rejects() >= sent })
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, answers.url+"/api/v1/rejects/replay", strings.NewReader(`{"reason":"no_mapping"}`))
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
	if b, err := io.ReadAll(res.Body); err != nil || res.StatusCode != http.StatusOK {
		t.Fatal(res.Status, err, string(b))
	}
	until("every order's customer", func() bool { return customers() == sent })
}
