package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestComposedCluster starts the services of docker-compose.yml that run Sojourn, with
// their commands and variables, as processes: on brokers and topics as the file has
// them, with a log and an engine that another server lends. A demo shop goes through
// all of them, and every metric of the dashboards is there.
func TestComposedCluster(t *testing.T) {
	t.Parallel()
	services := composed(t, "docker-compose.yml")
	dir := t.TempDir()
	var names []string
	for name, s := range services {
		if strings.HasPrefix(s.Image, "sojourn:") {
			names = append(names, name)
		}
	}
	slices.Sort(names)

	// What it stands on.
	log, engine := freeAddress(t), freeAddress(t)
	host := launch(t, filepath.Join(dir, "host"), func(c *exec.Cmd) {
		c.Env = append(c.Env, "SOJOURN_STREAM_KEY="+*services["api"].Environment["SOJOURN_STREAM_KEY"])
	}, "--roles", "write,api", "--esdb-listen", log, "--esdb-insecure", "--esdb-writable", "--clickhouse-worker-listen", engine)
	host.greeted()
	config := clusterConfig(t, dir, composedBrokers(t, services))
	here := map[string]string{
		"SOJOURN_CONFIG":     config,
		"SOJOURN_STORE":      strings.Replace(*services["api"].Environment["SOJOURN_STORE"], "eventstore:2113", log, 1),
		"SOJOURN_CLICKHOUSE": "http://worker:" + host.token() + "@" + engine + "/sojourn",
		"SOJOURN_LISTEN":     "127.0.0.1:0",
	}

	// The services.
	all := map[string]*server{}
	for _, name := range names {
		service := services[name]
		s := &server{dir: filepath.Join(dir, name)}
		s.process = spawn(t, func(c *exec.Cmd) {
			env := map[string]string{}
			for k, v := range service.Environment {
				env[k] = *v
			}
			maps.Copy(env, here)
			env["SOJOURN_DATA"] = s.dir
			for k, v := range env {
				c.Env = append(c.Env, k+"="+v)
			}
		}, binary, service.Command...)
		all[name] = s
	}
	for _, name := range names {
		s, service := all[name], services[name]
		eventually(t, 2*time.Minute, name+" is healthy", func() error {
			if s.over() {
				t.Fatalf("%s ended: %s", name, s.err.String())
			}
			m := addressLine.FindStringSubmatch(s.out.String())
			if m == nil {
				return errors.New("it has not said where it answers")
			}
			s.url = m[1]
			return healthy(t, &service, s.url[strings.LastIndex(s.url, ":")+1:])
		})
		if err := healthy(t, &service, "1"); err == nil {
			t.Errorf("%s: nobody answers, and it is healthy", name)
		}
	}

	// As make demo-cluster does.
	demo := makeDemo(t)
	if service, ok := services[demo[0]]; !ok || *service.Environment["SOJOURN_ADMIN_TOKEN"] == "" {
		t.Fatalf("the demo runs in %s, which has no admin token", demo[0])
	}
	run := func() string {
		t.Helper()
		args := slices.Clone(demo[2:])
		for i, a := range args {
			if a == "http://collect:8080" {
				args[i] = all["collect"].url
			}
		}
		cmd := exec.CommandContext(t.Context(), binary, append(args, "--customers", "40", "--days", "60")...)
		cmd.Env = environment("SOJOURN_DATA="+all["api"].dir, "SOJOURN_ADMIN_TOKEN="+*services["api"].Environment["SOJOURN_ADMIN_TOKEN"])
		var errOut bytes.Buffer
		cmd.Stderr = &errOut
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %v %s%s", cmd.Args, err, out, errOut.String())
		}
		return string(out)
	}
	api := "Authorization: Bearer " + *services["api"].Environment["SOJOURN_ADMIN_TOKEN"]
	if err := os.WriteFile(filepath.Join(all["api"].dir, "admin-token"), []byte(strings.TrimPrefix(api, "Authorization: Bearer ")), 0o600); err != nil {
		t.Fatal(err) // where the helpers look for it
	}
	all["api"].welcomes()
	for range 2 { // the second time the log holds them already
		out := run()
		m := regexp.MustCompile(`(?m)^(\d+) messages of 40 customers sent .*, 0 rejected$`).FindStringSubmatch(out)
		if m == nil || !strings.Contains(out, "the views hold them") {
			t.Fatalf("the demo says\n%s", out)
		}
		sent, err := strconv.Atoi(m[1])
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, time.Minute, "both shards have written their rows", func() error {
			if n := host.count("SELECT count() FROM touchpoints WHERE source = 'demo-shop'"); n != sent {
				return fmt.Errorf("%d touchpoints of %d", n, sent)
			}
			return nil
		})
	}

	// One more of each kind that is counted.
	key := all["api"].writeKey("shop")
	if a, err := track(all["collect"].url, key, "/v1/batch", map[string]any{"batch": []message{
		{"type": "track", "userId": "new", "event": "Order Completed", "properties": message{"order_id": "1", "total": 90, "currency": "EUR"}},
		{"type": "track"}, // a reject
	}}); err != nil || a.status != 200 {
		t.Fatalf("%+v %v", a, err)
	}
	if a, err := track(all["collect"].url, "nobody", "/v1/track", message{"userId": "1", "event": "X"}); err != nil || a.status != 401 {
		t.Fatalf("%+v %v", a, err)
	}
	eventually(t, time.Minute, "the trigger has fired", func() error {
		if n := host.count("SELECT count() FROM deliveries WHERE trigger = 'welcome'"); n == 0 {
			return errors.New("no delivery")
		}
		return nil
	})
	eventually(t, time.Minute, "every metric of the dashboards is there", func() error {
		labels := map[string]map[string]bool{"up": {}}
		for _, s := range append(slices.Collect(maps.Values(all)), host) { // the host has an embedded log
			s.metrics(t, labels)
		}
		return dashboardMetrics(t, labels)
	})
	for _, name := range names {
		all[name].stop()
	}
	host.stop()
}

// welcomes applies a destination and a trigger that goes there.
func (s *server) welcomes() {
	s.t.Helper()
	if a := s.api("PUT", "/destinations/crm", map[string]any{"kind": "webhook", "url": "https://crm.invalid/hooks"}, nil); a.status/100 != 2 {
		s.t.Fatalf("destination: %d %s", a.status, a.body)
	}
	const trigger = `{"id":"welcome","on":{"transition":{"to":["first_purchase"]}},"limits":{"once":true},"do":{"webhook":{"destination":"crm"}}}`
	if a := s.api("POST", "/triggers", map[string]string{"source": trigger}, nil); a.status != 200 {
		s.t.Fatalf("trigger: %d %s", a.status, a.body)
	}
}

// makeDemo is what make demo-cluster has the container do: service, program, arguments.
func makeDemo(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(repository, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^\tdocker compose exec (.* demo .*)$`).FindSubmatch(text)
	if m == nil {
		t.Fatal("make demo-cluster sends no demo")
	}
	return strings.Fields(string(m[1]))
}

// clusterConfig is deploy/sojourn.yaml with other brokers.
func clusterConfig(t *testing.T, dir string, brokers []string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(repository, "deploy", "sojourn.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	list := regexp.MustCompile(`(?m)^  brokers: \[.*\]$`)
	if !list.Match(text) {
		t.Fatal("deploy/sojourn.yaml names no brokers")
	}
	path := filepath.Join(dir, "sojourn.yaml")
	if err := os.WriteFile(path, list.ReplaceAll(text, []byte("  brokers: ['"+strings.Join(brokers, "', '")+"']")), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// composedBrokers starts as many brokers as the file has, in this process or, where
// SOJOURN_TEST_KAFKA asks for it, real ones with the file's settings; it makes the
// file's topics.
func composedBrokers(t *testing.T, services types.Services) []string {
	t.Helper()
	var names, addresses []string
	for name, s := range services {
		if s.Environment["KAFKA_NODE_ID"] != nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	if os.Getenv("SOJOURN_TEST_KAFKA") != "" {
		addresses = realBrokers(t, services, names)
	} else {
		brokers, err := kfake.NewCluster(kfake.NumBrokers(len(names)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(brokers.Close)
		addresses = brokers.ListenAddrs()
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(addresses...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	create := composedTopics(t, strings.Join(services["kafka-topics"].Command, " "))
	eventually(t, time.Minute, "the topics are made", func() error {
		answer, err := create.RequestWith(t.Context(), client)
		if err != nil {
			return err
		}
		for _, topic := range answer.Topics {
			if err := kerr.ErrorForCode(topic.ErrorCode); err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
				return fmt.Errorf("%s: %w", topic.Topic, err)
			}
		}
		return nil
	})
	return addresses
}

// composedTopics is what the script of kafka-topics asks for.
func composedTopics(t *testing.T, script string) *kmsg.CreateTopicsRequest {
	t.Helper()
	option := func(name string) string {
		m := regexp.MustCompile(regexp.QuoteMeta(name) + `[ =](\S+)`).FindStringSubmatch(script)
		if m == nil {
			t.Fatalf("%s is not in %s", name, script)
		}
		return m[1]
	}
	number := func(name string) int {
		n, err := strconv.Atoi(option(name))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	create := kmsg.NewPtrCreateTopicsRequest()
	for topic := range strings.FieldsSeq(regexp.MustCompile(`for topic in ([^;]+);`).FindStringSubmatch(script)[1]) {
		made := kmsg.NewCreateTopicsRequestTopic()
		made.Topic, made.NumPartitions, made.ReplicationFactor = topic, int32(number("--partitions")), int16(number("--replication-factor"))
		for _, name := range []string{"min.insync.replicas", "retention.ms"} {
			value, c := option(name), kmsg.NewCreateTopicsRequestTopicConfig()
			c.Name, c.Value = name, &value
			made.Configs = append(made.Configs, c)
		}
		create.Topics = append(create.Topics, made)
	}
	return create
}

// realBrokers starts brokers with the settings of services, which the image makes of
// the variables: KAFKA_LOG_DIRS is log.dirs. Names and ports are those of this machine.
func realBrokers(t *testing.T, services types.Services, names []string) []string {
	t.Helper()
	jars, err := exec.CommandContext(t.Context(), filepath.Join(repository, "deploy/dev/kafka/broker.sh"), "jars").Output()
	if err != nil {
		t.Fatalf("broker.sh jars: %v", err)
	}
	var here, addresses []string // what stands for names and ports
	for _, name := range names {
		inside := freeAddress(t)
		addresses = append(addresses, inside)
		here = append(here, name+":9092", inside, name+":9093", freeAddress(t))
	}
	others := strings.NewReplacer(here...)
	var brokers []*process
	for i, name := range names {
		published := "127.0.0.1:" + services[name].Ports[0].Published
		machine := freeAddress(t)
		own := strings.NewReplacer("://:9092", "://"+here[4*i+1], "://:9093", "://"+here[4*i+3], "://:29092", "://"+machine, published, machine)
		dir := t.TempDir()
		var properties strings.Builder
		for k, v := range services[name].Environment {
			key, ok := strings.CutPrefix(k, "KAFKA_")
			value := own.Replace(others.Replace(*v))
			if k == "KAFKA_LOG_DIRS" {
				value = filepath.Join(dir, "data")
			}
			if ok && k != "KAFKA_HEAP_OPTS" {
				fmt.Fprintf(&properties, "%s=%s\n", strings.ToLower(strings.ReplaceAll(key, "_", ".")), value)
			}
		}
		file := filepath.Join(dir, "server.properties")
		if err := os.WriteFile(file, []byte(properties.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		java := append(strings.Fields(*services[name].Environment["KAFKA_HEAP_OPTS"]),
			"-Dorg.slf4j.simpleLogger.defaultLogLevel=info", "-cp", strings.TrimSpace(string(jars))+"/*")
		format := exec.CommandContext(t.Context(), "java", append(slices.Clip(java), "kafka.tools.StorageTool", "format", "-t", *services[name].Environment["CLUSTER_ID"], "-c", file)...)
		if out, err := format.CombinedOutput(); err != nil {
			t.Fatalf("%s: format: %v %s\n%s", name, err, out, properties.String())
		}
		brokers = append(brokers, spawn(t, nil, "java", append(slices.Clip(java), "kafka.Kafka", file)...))
	}
	for i, broker := range brokers {
		eventually(t, 2*time.Minute, names[i]+" has started", func() error {
			if broker.over() {
				t.Fatalf("%s ended: %s", names[i], tailOf(broker.err.String()))
			}
			if !strings.Contains(broker.err.String(), "Kafka Server started") {
				return errors.New("it has not")
			}
			return nil
		})
	}
	return addresses
}

// metrics adds what a server shows at /metrics: the labels of each metric.
func (s *server) metrics(t *testing.T, labels map[string]map[string]bool) {
	t.Helper()
	a, err := do(newRequest(t, "GET", s.url+"/metrics"))
	if err != nil || a.status != 200 {
		t.Fatalf("%+v %v", a, err)
	}
	for line := range strings.Lines(a.body) {
		m := regexp.MustCompile(`^([a-z_:0-9]+)(?:\{(.*)\})? `).FindStringSubmatch(line)
		if m == nil {
			continue
		}
		if labels[m[1]] == nil {
			labels[m[1]] = map[string]bool{}
		}
		for _, l := range regexp.MustCompile(`([a-z_]+)="`).FindAllStringSubmatch(m[2], -1) {
			labels[m[1]][l[1]] = true
		}
	}
}

// dashboardMetrics holds the dashboards' questions to Prometheus against what there is.
func dashboardMetrics(t *testing.T, labels map[string]map[string]bool) error {
	t.Helper()
	seen := map[string]bool{}
	for _, d := range dashboards(t) {
		for _, p := range d.Panels {
			for _, target := range p.Targets {
				if target.Expr == "" {
					continue
				}
				if err := knownMetrics(target.Expr, target.LegendFormat, labels, seen); err != nil {
					return fmt.Errorf("%q: %w", p.Title, err)
				}
			}
		}
	}
	for _, metric := range []string{
		"sojourn_ingest_accepted_total", "sojourn_views_lag_events", "sojourn_kafka_lag_messages", "sojourn_ingest_rejects_total",
		"sojourn_collector_messages_total", "sojourn_collector_failed_total", "sojourn_destination_waiting", "sojourn_destination_state",
		"sojourn_automation_facts_total",
	} {
		if !seen[metric] {
			t.Fatalf("no dashboard shows %s", metric)
		}
	}
	return nil
}
