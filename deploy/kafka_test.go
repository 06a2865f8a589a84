package deploy

import (
	"encoding/base64"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/goccy/go-yaml"
)

// TestKafka checks the brokers, the topics that are made in them, and what Sojourn
// asks of both.
func TestKafka(t *testing.T) {
	p, err := load(t, "docker-compose.yml", secrets(t)...)
	if err != nil {
		t.Fatal(err)
	}
	var sojourn struct {
		Kafka struct {
			Brokers []string
			Collect struct{ Topic string }
			Topics  []struct{ Name string }
		}
	}
	if err := yaml.Unmarshal([]byte(read(t, "deploy/sojourn.yaml")), &sojourn); err != nil {
		t.Fatal(err)
	}
	var brokers []string
	for name, s := range p.Services {
		if s.Environment["KAFKA_NODE_ID"] != nil {
			brokers = append(brokers, name)
		}
	}
	slices.Sort(brokers)
	ids, published, voters := map[string]bool{}, map[string]bool{}, ""
	for _, name := range brokers {
		s := p.Services[name]
		env := func(name string) string {
			if v := s.Environment[name]; v != nil {
				return *v
			}
			t.Errorf("kafka has no %s", name)
			return ""
		}
		id := env("KAFKA_NODE_ID")
		if ids[id] {
			t.Errorf("two brokers have the number %s", id)
		}
		ids[id] = true
		if controllers := env("KAFKA_CONTROLLER_QUORUM_VOTERS"); !strings.Contains(","+controllers+",", ","+id+"@"+name+":9093,") || voters != "" && voters != controllers ||
			strings.Count(controllers, "@") != len(brokers) {
			t.Errorf("%s: the controllers are %s", name, controllers)
		} else {
			voters = controllers
		}
		advertised := env("KAFKA_ADVERTISED_LISTENERS")
		if !slices.Contains(sojourn.Kafka.Brokers, name+":9092") || !strings.Contains(advertised, "INSIDE://"+name+":9092,") {
			t.Errorf("Sojourn asks %v, %s says that it is at %s", sojourn.Kafka.Brokers, name, advertised)
		}
		if env("KAFKA_INTER_BROKER_LISTENER_NAME") != "INSIDE" {
			t.Errorf("%s: the brokers do not find each other", name)
		}
		if len(s.Ports) != 1 || !strings.HasSuffix(advertised, ",MACHINE://127.0.0.1:"+s.Ports[0].Published) || published[s.Ports[0].Published] ||
			!strings.Contains(env("KAFKA_LISTENERS"), fmt.Sprint("MACHINE://:", s.Ports[0].Target)) {
			t.Errorf("%s: programs of this machine do not find it at %+v", name, s.Ports)
		} else {
			published[s.Ports[0].Published] = true
		}
		for listener := range strings.SplitSeq(env("KAFKA_LISTENERS"), ",") {
			of, port, _ := strings.Cut(listener, "://")
			if !strings.Contains(env("KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"), of+":") {
				t.Errorf("%s: no protocol for %s", name, of)
			}
			if of != env("KAFKA_CONTROLLER_LISTENER_NAMES") && !strings.Contains(advertised, of+"://") || !strings.HasPrefix(port, ":") {
				t.Errorf("%s: nobody finds %s", name, listener)
			}
		}
		if cluster, err := base64.RawURLEncoding.DecodeString(env("CLUSTER_ID")); err != nil || len(cluster) != 16 {
			t.Errorf("%s: the cluster's id is no UUID: %x %v", name, cluster, err)
		}
		if env("KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR") != strconv.Itoa(len(brokers)) {
			t.Errorf("%s: what the consumer group has read is not replicated", name)
		}
		if len(s.Volumes) != 1 || s.Volumes[0].Target != env("KAFKA_LOG_DIRS") {
			t.Errorf("%s keeps its data outside of its volume", name)
		}
	}
	if len(brokers) != len(sojourn.Kafka.Brokers) || len(brokers) < 3 {
		t.Errorf("Sojourn asks %v of %v", sojourn.Kafka.Brokers, brokers)
	}

	// The topics: those that Sojourn names, with copies enough for what a collector
	// acknowledges.
	maker := p.Services["kafka-topics"]
	names, settings := madeTopics(t, strings.Join(maker.Command, " "))
	want := []string{sojourn.Kafka.Collect.Topic}
	for _, topic := range sojourn.Kafka.Topics {
		want = append(want, topic.Name)
	}
	if !slices.Equal(names, want) || want[0] == "" {
		t.Errorf("the topics %v are made, Sojourn names %v", names, want)
	}
	inSync, copies := settings["min.insync.replicas"], settings["--replication-factor"]
	if n, err := strconv.Atoi(copies); err != nil || n > len(brokers) || inSync != "2" || n < 3 {
		t.Errorf("%s copies on %d brokers, %s of them in sync", copies, len(brokers), inSync)
	}
	for _, name := range brokers {
		if maker.DependsOn[name].Condition != types.ServiceConditionHealthy || p.Services[name].Image != maker.Image {
			t.Errorf("who makes the topics does not wait for %s, or is of another image", name)
		}
	}
	if host, _, _ := strings.Cut(settings["--bootstrap-server"], ":"); !slices.Contains(brokers, host) {
		t.Errorf("the topics are made at %s", settings["--bootstrap-server"])
	}
}

// madeTopics reads the loop that makes the topics: their names, and what they are
// made with.
func madeTopics(t *testing.T, script string) (names []string, settings map[string]string) {
	t.Helper()
	loop := regexp.MustCompile(`for topic in ([^;]+); do`).FindStringSubmatch(script)
	if loop == nil || !strings.Contains(script, "--topic $topic ") {
		t.Fatalf("no topics are made by %s", script)
	}
	settings = map[string]string{}
	for _, m := range regexp.MustCompile(`(--[a-z-]+) (?:([a-z.]+)=)?([^ =]+)`).FindAllStringSubmatch(script, -1) {
		name := m[1]
		if m[2] != "" {
			name = m[2]
		}
		settings[name] = strings.TrimSpace(m[3])
	}
	return strings.Fields(loop[1]), settings
}
