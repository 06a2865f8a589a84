package e2e

import (
	"bytes"
	"encoding/base64"
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

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

// composed reads a compose file, with secrets of the form that they have.
func composed(t *testing.T, file string) types.Services {
	t.Helper()
	o, err := cli.NewProjectOptions([]string{filepath.Join(repository, file)}, cli.WithEnv([]string{
		"SOJOURN_ADMIN_TOKEN=open-sesame-1", "CLICKHOUSE_PASSWORD=opensesame2", "GRAFANA_PASSWORD=opensesame3",
		"SOJOURN_STREAM_KEY=" + strings.Repeat("4d", 32), "SOJOURN_SECRET_KEY=" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{5}, 32)),
	}))
	if err != nil {
		t.Fatal(err)
	}
	p, err := o.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return p.Services
}

// healthy runs the health check of a service against a server here.
func healthy(t *testing.T, s *types.ServiceConfig, port string) error {
	t.Helper()
	test := s.HealthCheck.Test
	if len(test) != 4 || test[0] != "CMD" {
		t.Fatalf("%s: %q", s.Name, test)
	}
	script := strings.Replace(test[3], "/127.0.0.1/8080 ", "/127.0.0.1/"+port+" ", 1)
	if script == test[3] {
		t.Fatalf("%s asks elsewhere: %s", s.Name, script)
	}
	return exec.CommandContext(t.Context(), test[1], test[2], script).Run()
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
	service := composed(t, "docker-compose.single.yml")["sojourn"]
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

	_, here, _ := strings.Cut(s.url, "://127.0.0.1:")
	if err := healthy(t, &service, here); err != nil {
		t.Error(err)
	}
	if err := healthy(t, &service, "1"); err == nil {
		t.Error("nobody answers, and it is healthy")
	}
	s.stop()
}

// dashboard is what the tests read of a dashboard of Grafana.
type dashboard struct {
	UID    string
	Panels []struct {
		ID         int
		Title      string
		Type       string
		GridPos    struct{ X, Y, W int }
		Datasource struct{ Type, UID string }
		Targets    []struct {
			Expr, LegendFormat, RawSQL string
			Datasource                 struct{ Type, UID string }
		}
	}
}

// dashboards reads those that are provisioned, and checks where they ask.
func dashboards(t *testing.T) []dashboard {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(repository, "deploy", "grafana", "dashboards", "*.json"))
	if err != nil || len(files) < 2 {
		t.Fatalf("%v %v", files, err)
	}
	sources, err := os.ReadFile(filepath.Join(repository, "deploy", "grafana", "provisioning", "datasources", "sojourn.yml"))
	if err != nil {
		t.Fatal(err)
	}
	var all []dashboard
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
		all = append(all, d)
		places := map[[2]int]string{}
		for _, p := range d.Panels {
			if id := fmt.Sprint(d.UID, p.ID); seen[id] || p.ID == 0 {
				t.Errorf("%q has a number that another panel has", p.Title)
			} else {
				seen[id] = true
			}
			if other := places[[2]int{p.GridPos.X, p.GridPos.Y}]; other != "" || p.GridPos.X+p.GridPos.W > 24 {
				t.Errorf("%q lies on %q, or beside the board", p.Title, other)
			}
			places[[2]int{p.GridPos.X, p.GridPos.Y}] = p.Title
			if p.Type != "row" && len(p.Targets) == 0 {
				t.Errorf("%q asks nothing", p.Title)
			}
			for _, target := range p.Targets {
				if ds := target.Datasource; ds != p.Datasource || !strings.Contains(string(sources), "uid: "+ds.UID+"\n    type: "+ds.Type+"\n") {
					t.Errorf("%q asks %+v, which is not provisioned", p.Title, ds)
				}
				if (target.RawSQL == "") == (target.Expr == "") {
					t.Errorf("%q asks nothing, or two things", p.Title)
				}
			}
		}
	}
	return all
}

// TestDashboardTables holds every query of the dashboards to ClickHouse against the
// tables of a server that has seen some touchpoints.
func TestDashboardTables(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.send(s.writeKey("shop"),
		message{"type": "track", "userId": "1", "event": "Order Completed", "properties": message{"order_id": "1", "total": 9, "currency": "EUR"}})
	s.caughtUp()
	byTime, deliveries := false, false
	for _, d := range dashboards(t) {
		for _, p := range d.Panels {
			for _, target := range p.Targets {
				if target.RawSQL == "" {
					continue
				}
				if a := s.ask(withoutMacros(target.RawSQL)); a.status != 200 {
					t.Errorf("%q: %s: %s", p.Title, target.RawSQL, a.body)
				}
				byTime = byTime || strings.Contains(target.RawSQL, "AS time")
				deliveries = deliveries || strings.Contains(target.RawSQL, "FROM deliveries")
			}
		}
	}
	if !byTime || !deliveries {
		t.Error("no dashboard shows what became of deliveries, or anything by time")
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
	have := map[string]bool{"instance": true, "job": true, "role": true, "shard": true} // Prometheus adds these
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
