package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

// composed reads the service sojourn of a compose file.
func composed(t *testing.T, file string) types.ServiceConfig {
	t.Helper()
	o, err := cli.NewProjectOptions([]string{filepath.Join(repository, file)},
		cli.WithEnv([]string{"SOJOURN_ADMIN_TOKEN=open-sesame-1", "CLICKHOUSE_PASSWORD=opensesame2", "GRAFANA_PASSWORD=opensesame3"}))
	if err != nil {
		t.Fatal(err)
	}
	p, err := o.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return p.Services["sojourn"]
}

// TestDocumentedSettings holds the page that the checks of deploy/ go by against
// the binary.
func TestDocumentedSettings(t *testing.T) {
	t.Parallel()
	has := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^ +(--[a-z-]+)`).FindAllStringSubmatch(must(t, "serve", "--help"), -1) {
		has[m[1]] = true
	}
	text, err := os.ReadFile(filepath.Join(repository, "docs", "configuration.md"))
	if err != nil {
		t.Fatal(err)
	}
	table := regexp.MustCompile("(?m)^\\| `--.*$").FindAllString(string(text), -1)
	documented := map[string]bool{}
	for _, row := range table {
		for _, m := range regexp.MustCompile("`(--[a-z-]+)`").FindAllStringSubmatch(strings.SplitN(row, "|", 3)[1], -1) {
			documented[m[1]] = true
		}
	}
	if !maps.Equal(has, documented) || len(has) < 15 {
		t.Errorf("serve has the flags %v, the page lists %v", slices.Sorted(maps.Keys(has)), slices.Sorted(maps.Keys(documented)))
	}
}

// TestComposedServer starts the single container's server, as far as that can be
// done without a container: its command, its environment, its health check.
func TestComposedServer(t *testing.T) {
	t.Parallel()
	service := composed(t, "docker-compose.single.yml")
	dir := filepath.Join(t.TempDir(), "data")
	configure := func(env types.MappingWithEquals) func(*exec.Cmd) {
		return func(c *exec.Cmd) {
			c.Env = environment("SOJOURN_DATA="+dir, "SOJOURN_LISTEN=127.0.0.1:0")
			for k, v := range env {
				c.Env = append(c.Env, k+"="+*v)
			}
		}
	}
	env := maps.Clone(service.Environment)
	port := "0.0.0.0:0"
	env["SOJOURN_CLICKHOUSE_LISTEN"] = &port // that of the file may be taken here
	s := &server{process: spawn(t, configure(env), binary, service.Command...), dir: dir}
	s.ready()

	// The health check of both files, asked here, is right about it.
	_, here, _ := strings.Cut(s.url, "://127.0.0.1:")
	for _, file := range []string{"docker-compose.single.yml", "docker-compose.yml"} {
		test := composed(t, file).HealthCheck.Test
		if len(test) != 4 || test[0] != "CMD" {
			t.Fatalf("%s: %q", file, test)
		}
		healthy := func(port string) error {
			script := strings.Replace(test[3], "/127.0.0.1/8080 ", "/127.0.0.1/"+port+" ", 1)
			if script == test[3] {
				t.Fatalf("%s asks elsewhere: %s", file, script)
			}
			return exec.CommandContext(t.Context(), test[1], test[2], script).Run()
		}
		if err := healthy(here); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		if err := healthy("1"); err == nil {
			t.Errorf("%s: nobody answers, and it is healthy", file)
		}
	}
	s.stop()

	// The settings of the cluster's server are read and valid; it does not get
	// further than its log, which is not there.
	service = composed(t, "docker-compose.yml")
	args := slices.Clone(service.Command)
	for i, a := range args {
		if a == "/etc/sojourn/sojourn.yaml" {
			args[i] = filepath.Join(repository, "deploy", "sojourn.yaml")
		}
	}
	env = maps.Clone(service.Environment)
	delete(env, "SOJOURN_CLICKHOUSE")
	store := strings.Replace(*env["SOJOURN_STORE"], "eventstore:2113", "127.0.0.1:1", 1)
	env["SOJOURN_STORE"] = &store
	dir = filepath.Join(t.TempDir(), "data")
	p := spawn(t, configure(env), binary, append(args, "--clickhouse-listen", "off")...)
	if status := p.wait(90 * time.Second); status != 1 || !strings.Contains(p.err.String(), "no EventStoreDB node answers") || !strings.Contains(p.err.String(), `"level"`) {
		t.Errorf("status %d: %s", status, p.err.String())
	}
}

// dashboard is what the tests read of a dashboard of Grafana.
type dashboard struct {
	UID    string
	Panels []struct {
		Title      string
		Type       string
		Datasource struct{ Type, UID string }
		Targets    []struct {
			Expr, LegendFormat, RawSQL string
			Datasource                 struct{ Type, UID string }
		}
	}
}

// TestDashboards holds every query of the dashboards against a server that has
// seen some of everything.
func TestDashboards(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	key := s.writeKey("shop")
	s.send(key,
		message{"type": "track", "userId": "1", "event": "Order Completed", "properties": message{"order_id": "1", "total": 9, "currency": "EUR"}},
		message{"type": "identify", "userId": "1", "traits": message{"email": "ada@example.com"}})
	// A reject, a refusal, a known message.
	for range 2 {
		if _, err := track(s.url, key, "/v1/batch", map[string]any{"batch": []message{{"type": "track", "messageId": "again"}}}); err != nil {
			t.Fatal(err)
		}
	}
	if a, err := track(s.url, "nobody", "/v1/track", message{"userId": "1", "event": "X"}); err != nil || a.status != 401 {
		t.Fatalf("%+v %v", a, err)
	}
	s.caughtUp()
	s.api("GET", "/stages", nil, nil)
	a, err := do(newRequest(t, "GET", s.url+"/metrics"))
	if err != nil || a.status != 200 {
		t.Fatalf("%+v %v", a, err)
	}
	labels := map[string]map[string]bool{"up": {}} // by metric
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
	// Those of Kafka are there with a consumer alone; their page lists them.
	page, err := os.ReadFile(filepath.Join(repository, "docs", "kafka.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("`(sojourn_kafka_[a-z_]+)`").FindAllStringSubmatch(string(page), -1) {
		labels[m[1]] = map[string]bool{"topic": true, "partition": true}
	}

	files, err := filepath.Glob(filepath.Join(repository, "deploy", "grafana", "dashboards", "*.json"))
	if err != nil || len(files) < 2 {
		t.Fatalf("%v %v", files, err)
	}
	sources, err := os.ReadFile(filepath.Join(repository, "deploy", "grafana", "provisioning", "datasources", "sojourn.yml"))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var d dashboard
		if err := json.Unmarshal(text, &d); err != nil || d.UID == "" || seen[d.UID] {
			t.Fatalf("%s: %v", file, err)
		}
		seen[d.UID] = true
		for _, p := range d.Panels {
			if p.Type != "row" && len(p.Targets) == 0 {
				t.Errorf("%q asks nothing", p.Title)
			}
			for _, target := range p.Targets {
				if ds := target.Datasource; ds != p.Datasource || !strings.Contains(string(sources), "uid: "+ds.UID+"\n    type: "+ds.Type+"\n") {
					t.Errorf("%q asks %+v, which is not provisioned", p.Title, ds)
				}
				switch {
				case target.RawSQL != "":
					if a := s.ask(withoutMacros(target.RawSQL)); a.status != 200 {
						t.Errorf("%q: %s: %s", p.Title, target.RawSQL, a.body)
					}
					if strings.Contains(target.RawSQL, "AS time") {
						seen["sql by time"] = true
					}
				case target.Expr != "":
					if err := knownMetrics(target.Expr, target.LegendFormat, labels, seen); err != nil {
						t.Errorf("%q: %v", p.Title, err)
					}
				default:
					t.Errorf("%q asks nothing", p.Title)
				}
			}
		}
	}
	for _, metric := range []string{
		"sojourn_ingest_accepted_total", "sojourn_views_lag_events", "sojourn_kafka_lag_messages", "sojourn_ingest_rejects_total", "sql by time",
	} {
		if !seen[metric] {
			t.Errorf("no dashboard shows %s", metric)
		}
	}
	s.stop()
}

// withoutMacros puts what the data source's macros stand for in their place.
func withoutMacros(sql string) string {
	return regexp.MustCompile(`\$__timeFilter\((\w+)\)`).ReplaceAllString(sql, "$1 >= toDateTime('2020-01-01') AND $1 <= now()")
}

// knownMetrics says what an expression asks for that the server does not have,
// and marks what it asks for.
func knownMetrics(expr, legend string, labels map[string]map[string]bool, seen map[string]bool) error {
	have := map[string]bool{"instance": true, "job": true} // Prometheus adds these
	metrics := regexp.MustCompile(`\b(?:sojourn|go|process|promhttp)_[a-z_]+\b|\bup\b`).FindAllString(expr, -1)
	if len(metrics) == 0 {
		return fmt.Errorf("no metric in %s", expr)
	}
	for _, m := range metrics {
		of, ok := labels[m]
		if !ok {
			return fmt.Errorf("the server has no metric %s", m)
		}
		seen[m] = true
		maps.Copy(have, of)
	}
	var used []string
	for _, by := range regexp.MustCompile(`\bby \(([^)]*)\)`).FindAllStringSubmatch(expr, -1) {
		used = append(used, strings.Split(strings.ReplaceAll(by[1], " ", ""), ",")...)
	}
	for _, m := range regexp.MustCompile(`([a-z_]+)=~?"|\{\{([a-z_]+)\}\}`).FindAllStringSubmatch(expr+legend, -1) {
		used = append(used, m[1]+m[2])
	}
	for _, label := range used {
		if !have[label] {
			return fmt.Errorf("%v have no label %s", metrics, label)
		}
	}
	if strings.Count(expr, "(") != strings.Count(expr, ")") || strings.Count(expr, "[") != strings.Count(expr, "]") {
		return fmt.Errorf("brackets of %s", expr)
	}
	return nil
}
