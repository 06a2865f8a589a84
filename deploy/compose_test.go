// Package deploy has no code: its tests check the files that start Sojourn
// elsewhere, where no Docker engine runs. What they say of the binary is checked
// against docs/configuration.md here, and that page, metrics and tables against
// the binary in package e2e.
package deploy

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/goccy/go-yaml"
)

const root = ".."

// secrets are values for .env.example, as it asks for them.
func secrets(t *testing.T) []string {
	t.Helper()
	var env []string
	for name := range envExample(t) {
		value := "secret0of0" + strings.ToLower(strings.ReplaceAll(name, "_", "0"))
		switch name {
		case "SOJOURN_STREAM_KEY":
			value = hex.EncodeToString([]byte((value + value)[:32]))
		case "SOJOURN_SECRET_KEY":
			value = base64.StdEncoding.EncodeToString([]byte((value + value)[:32]))
		}
		env = append(env, name+"="+value)
	}
	return env
}

// envExample reads the names in .env.example; none has a value.
func envExample(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	for line := range strings.Lines(read(t, ".env.example")) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if !ok || strings.HasPrefix(line, "#") {
			continue
		}
		if value != "" {
			t.Errorf(".env.example has a secret: %s", name)
		}
		names[name] = true
	}
	if len(names) == 0 {
		t.Fatal(".env.example is empty")
	}
	return names
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// load reads a compose file as docker compose does.
func load(t *testing.T, file string, env ...string) (*types.Project, error) {
	t.Helper()
	o, err := cli.NewProjectOptions([]string{filepath.Join(root, file)}, cli.WithEnv(env), cli.WithResolvedPaths(true))
	if err != nil {
		t.Fatal(err)
	}
	return o.LoadProject(t.Context())
}

var composeFiles = []string{"docker-compose.yml", "docker-compose.single.yml"}

// TestCompose checks what all services have in common.
func TestCompose(t *testing.T) {
	for _, file := range composeFiles {
		p, err := load(t, file, secrets(t)...)
		if err != nil {
			t.Fatal(err)
		}
		if len(p.Services) == 0 {
			t.Fatalf("%s has no services", file)
		}
		used := map[string]bool{}
		for name, s := range p.Services {
			at := file + ": " + name + ": "
			pinned(t, at, s.Image)
			once := s.Restart == "no"
			if !once && (s.HealthCheck == nil || len(s.HealthCheck.Test) < 2) {
				t.Error(at + "no health check")
			}
			for _, v := range s.Volumes {
				switch v.Type {
				case types.VolumeTypeVolume:
					if _, ok := p.Volumes[v.Source]; !ok || v.Source == "" {
						t.Errorf("%sthe volume of %s has no name", at, v.Target)
					}
					used[v.Source] = true
				case types.VolumeTypeBind:
					if _, err := os.Stat(v.Source); err != nil || !v.ReadOnly {
						t.Errorf("%s%s (read-only: %v): %v", at, v.Source, v.ReadOnly, err)
					}
				default:
					t.Errorf("%svolume of type %s", at, v.Type)
				}
			}
			for _, port := range s.Ports {
				if port.HostIP != "127.0.0.1" {
					t.Errorf("%s%s is published on %q, not on loopback alone", at, port.Published, port.HostIP)
				}
			}
			for other, d := range s.DependsOn {
				o := p.Services[other]
				if d.Condition == types.ServiceConditionHealthy && o.HealthCheck == nil || d.Condition == types.ServiceConditionCompletedSuccessfully && o.Restart != "no" {
					t.Errorf("%swaits in vain for %s", at, other)
				}
			}
			for k, v := range s.Environment {
				if v == nil {
					t.Errorf("%s%s comes from who starts it", at, k)
				}
			}
		}
		for v := range p.Volumes {
			if !used[v] {
				t.Errorf("%s: nobody uses the volume %s", file, v)
			}
		}
		// Without a secret nothing starts.
		for _, missing := range secrets(t) {
			name, _, _ := strings.Cut(missing, "=")
			if !strings.Contains(read(t, file), "${"+name+":?") {
				continue
			}
			others := slices.DeleteFunc(secrets(t), func(kv string) bool { return strings.HasPrefix(kv, name+"=") })
			if _, err := load(t, file, others...); err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("%s without %s: %v", file, name, err)
			}
		}
	}
	// Every variable of .env.example is one of theirs, and the other way round.
	asked := map[string]bool{}
	for _, file := range composeFiles {
		for _, m := range regexp.MustCompile(`\$\{([A-Z_]+):\?`).FindAllStringSubmatch(read(t, file), -1) {
			asked[m[1]] = true
		}
	}
	if got, want := fmt.Sprint(asked), fmt.Sprint(envExample(t)); got != want {
		t.Errorf(".env.example has %s, the compose files ask for %s", want, got)
	}
}

// pinned wants an image with a tag that is a version.
func pinned(t *testing.T, at, image string) {
	t.Helper()
	_, tag, ok := strings.Cut(image, ":")
	if strings.HasPrefix(image, "sojourn:") {
		return // built here
	}
	if !ok || !regexp.MustCompile(`^v?\d+\.\d+(\.\d+)*(-[a-z0-9.-]+)?$`).MatchString(tag) {
		t.Errorf("%simage %q has no version", at, image)
	}
}

// documented are the flags and the variables that docs/configuration.md lists.
func documented(t *testing.T) (flags, env map[string]bool) {
	t.Helper()
	flags, env = map[string]bool{}, map[string]bool{}
	text := read(t, "docs/configuration.md")
	for _, m := range regexp.MustCompile("`(--[a-z-]+)`").FindAllStringSubmatch(text, -1) {
		flags[m[1]] = true
	}
	for _, m := range regexp.MustCompile("`(SOJOURN_[A-Z_]+)`").FindAllStringSubmatch(text, -1) {
		env[m[1]] = true
	}
	// The table names one variable for --tls-cert and --tls-key.
	env["SOJOURN_TLS_KEY"] = true
	if len(flags) < 15 || len(env) < 15 {
		t.Fatalf("docs/configuration.md lists %d flags and %d variables", len(flags), len(env))
	}
	return flags, env
}

// TestSojournServices checks commands, variables, addresses and paths of the
// services that run Sojourn.
func TestSojournServices(t *testing.T) {
	flags, env := documented(t)
	d := dockerfile(t)
	for _, file := range composeFiles {
		p, err := load(t, file, secrets(t)...)
		if err != nil {
			t.Fatal(err)
		}
		crew := crew{data: map[string]string{}}
		for name, s := range p.Services {
			if !strings.HasPrefix(s.Image, "sojourn:") {
				continue
			}
			at := file + ": " + name + ": "
			if s.Build == nil || s.Build.Dockerfile != "deploy/Dockerfile" && filepath.Base(s.Build.Dockerfile) != "Dockerfile" || !sameDir(s.Build.Context, root) {
				t.Errorf("%sbuild is %+v", at, s.Build)
			}
			for arg := range s.Build.Args {
				if !slices.Contains(d.args, arg) {
					t.Errorf("%sthe Dockerfile has no ARG %s", at, arg)
				}
			}
			if !s.ReadOnly || !slices.Contains(s.CapDrop, "ALL") || len(s.Entrypoint) > 0 || s.User != "" {
				t.Errorf("%sit runs with more rights than it needs", at)
			}
			if !slices.Contains(s.Tmpfs, "/tmp") {
				t.Errorf("%sthe engine needs /tmp for its socket", at)
			}
			if s.StopGracePeriod == nil || *s.StopGracePeriod < types.Duration(15e9) {
				t.Errorf("%sSojourn may take 10 s to stop", at)
			}
			// The command.
			if len(s.Command) == 0 || s.Command[0] != "serve" {
				t.Fatalf("%scommand is %q", at, s.Command)
			}
			if len(s.Command)%2 == 0 {
				t.Fatalf("%ssomething is without a value: %q", at, s.Command)
			}
			given := map[string]string{}
			for i := 1; i < len(s.Command); i += 2 {
				if given[s.Command[i]] = s.Command[i+1]; !flags[s.Command[i]] {
					t.Errorf("%sserve has no flag %q", at, s.Command[i])
				}
			}
			// The environment: the image's and the service's.
			vars := maps.Clone(d.env)
			for k, v := range s.Environment {
				vars[k] = *v
			}
			for k, v := range vars {
				if !env[k] && k != "GOMEMLIMIT" || v == "" { // which is Go's own
					t.Errorf("%sSojourn knows no variable %s, or it is empty", at, k)
				}
			}
			if path := vars["SOJOURN_CONFIG"]; path != "" {
				mounted(t, at, &s, path)
			}
			i := slices.IndexFunc(s.Volumes, func(v types.ServiceVolumeConfig) bool {
				return v.Target == vars["SOJOURN_DATA"] && v.Type == types.VolumeTypeVolume
			})
			if i < 0 {
				t.Fatalf("%sno volume at %s", at, vars["SOJOURN_DATA"])
			}
			crew.add(t, at, s.Volumes[i].Source, given["--roles"], given["--shard"], vars)
			// The ports.
			listening := map[string]bool{portOf(t, vars["SOJOURN_LISTEN"]): true}
			if l := vars["SOJOURN_CLICKHOUSE_LISTEN"]; l != "" {
				listening[portOf(t, l)] = true
				if vars["SOJOURN_CLICKHOUSE_PASSWORD"] == "" {
					t.Errorf("%s%s without a password", at, l)
				}
			}
			for _, port := range s.Ports {
				n := strconv.Itoa(int(port.Target))
				if !listening[n] || !slices.Contains(d.expose, n) {
					t.Errorf("%snothing listens on %s, or the Dockerfile does not expose it", at, n)
				}
			}
			if check := strings.Join(s.HealthCheck.Test, " "); !regexp.MustCompile(`/127\.0\.0\.1/` + portOf(t, vars["SOJOURN_LISTEN"]) + ` .*GET /(healthz|readyz) `).MatchString(check) {
				t.Errorf("%sthe health check asks elsewhere: %s", at, check)
			}
			// What it is told to use is there.
			if dsn := vars["SOJOURN_STORE"]; dsn != "" {
				c, err := esdb.ParseConnectionString(dsn)
				if err != nil || !c.DisableTLS {
					t.Fatalf("%s%+v %v", at, c, err)
				}
				host, port, _ := strings.Cut(c.Address, ":")
				store := service(t, p, host, s.DependsOn)
				if port != "2113" || *store.Environment["EVENTSTORE_INSECURE"] != "true" {
					t.Errorf("%s%s: nobody answers there without TLS", at, c.Address)
				}
			}
			if dsn := vars["SOJOURN_CLICKHOUSE"]; dsn != "" {
				o, err := clickhouse.ParseDSN(dsn)
				if err != nil || len(o.Addr) != 1 {
					t.Fatalf("%s%v", at, err)
				}
				host, port, _ := strings.Cut(o.Addr[0], ":")
				ch := service(t, p, host, s.DependsOn)
				if port != "8123" || o.Protocol != clickhouse.HTTP || o.Auth.Username != *ch.Environment["CLICKHOUSE_USER"] ||
					o.Auth.Password != *ch.Environment["CLICKHOUSE_PASSWORD"] || o.Auth.Database != *ch.Environment["CLICKHOUSE_DB"] {
					t.Errorf("%sit asks ClickHouse as %+v at %v", at, o.Auth, o.Addr)
				}
			}
		}
		crew.complete(t, file)
	}
}

// crew is what the services that run Sojourn are together.
type crew struct {
	data   map[string]string // by volume, who has it
	roles  []string
	shards []string
	one    map[string]string // variables that are the same everywhere
}

// add takes a service in.
func (c *crew) add(t *testing.T, at, volume, roles, shard string, vars map[string]string) {
	t.Helper()
	if other, taken := c.data[volume]; taken {
		t.Errorf("%sit shares its data with %s", at, other)
	}
	c.data[volume] = at
	if roles == "" {
		roles = "write,project,api,automate" // the default
	}
	c.roles = append(c.roles, strings.Split(roles, ",")...)
	if shard != "" {
		c.shards = append(c.shards, shard)
	}
	// Only who answers for the secrets knows them.
	answers := strings.Contains(roles, "api")
	if (vars["SOJOURN_ADMIN_TOKEN"] != "") != answers || (vars["SOJOURN_SECRET_KEY"] != "") && !answers {
		t.Errorf("%sthe admin token and the key of the secrets are for the role api", at)
	}
	for _, name := range []string{"SOJOURN_STREAM_KEY", "SOJOURN_STORE", "SOJOURN_CLICKHOUSE", "SOJOURN_CONFIG"} {
		if c.one == nil {
			c.one = map[string]string{}
		}
		if value, told := c.one[name]; told && value != vars[name] {
			t.Errorf("%sit has another %s", at, name)
		}
		c.one[name] = vars[name]
	}
}

// complete wants every role once, but for project, of which every shard is there.
func (c *crew) complete(t *testing.T, file string) {
	t.Helper()
	want := []string{"api", "automate", "project", "write"}
	if len(c.data) > 1 {
		want = []string{"api", "automate", "collect", "project", "project", "write"}
		for _, name := range slices.Sorted(maps.Keys(c.one)) {
			if c.one[name] == "" {
				t.Errorf("%s: several processes need %s", file, name)
			}
		}
		for i := range len(c.shards) {
			if shard := fmt.Sprintf("%d/%d", i+1, len(c.shards)); !slices.Contains(c.shards, shard) {
				t.Errorf("%s: nobody has the shard %s of %v", file, shard, c.shards)
			}
		}
		if len(c.shards) != 2 {
			t.Errorf("%s: shards %v", file, c.shards)
		}
	}
	if slices.Sort(c.roles); !slices.Equal(c.roles, want) {
		t.Errorf("%s: the roles are %v, want %v", file, c.roles, want)
	}
}

func sameDir(a, b string) bool {
	a, errA := filepath.Abs(a)
	b, errB := filepath.Abs(b)
	return errA == nil && errB == nil && a == b
}

func portOf(t *testing.T, address string) string {
	t.Helper()
	u, err := url.Parse("tcp://" + address)
	if err != nil || u.Hostname() != "0.0.0.0" || u.Port() == "" {
		t.Fatalf("%q cannot be reached from outside of a container", address)
	}
	return u.Port()
}

func service(t *testing.T, p *types.Project, name string, needs types.DependsOnConfig) types.ServiceConfig {
	t.Helper()
	s, ok := p.Services[name]
	if !ok {
		t.Fatalf("there is no service %q", name)
	}
	if needs[name].Condition != types.ServiceConditionHealthy {
		t.Errorf("it does not wait for %s", name)
	}
	return s
}

// mounted wants a file at a path in a container.
func mounted(t *testing.T, at string, s *types.ServiceConfig, path string) {
	t.Helper()
	for _, v := range s.Volumes {
		if rest, ok := strings.CutPrefix(path, v.Target); ok && v.Type == types.VolumeTypeBind && (rest == "" || rest[0] == '/') {
			if _, err := os.Stat(v.Source + rest); err != nil {
				t.Errorf("%s%v", at, err)
			}
			return
		}
	}
	t.Errorf("%snothing is mounted at %s", at, path)
}

// TestNeighbours checks what the other services are told, and told of each other.
func TestNeighbours(t *testing.T) {
	p, err := load(t, "docker-compose.yml", secrets(t)...)
	if err != nil {
		t.Fatal(err)
	}
	var prometheus struct {
		Scrape []struct {
			Job     string `yaml:"job_name"`
			Targets []struct {
				Targets []string
				Labels  map[string]string
			} `yaml:"static_configs"`
		} `yaml:"scrape_configs"`
	}
	if err := yaml.Unmarshal([]byte(read(t, "deploy/prometheus.yml")), &prometheus); err != nil {
		t.Fatal(err)
	}
	server := read(t, "deploy/clickhouse/server.xml")
	// Each is asked once, Sojourn's with what they do as labels.
	ports := map[string]string{"eventstore": "2113", "clickhouse": between(t, server, "<prometheus>", "</prometheus>", "port")}
	for name, s := range p.Services {
		if strings.HasPrefix(s.Image, "sojourn:") {
			ports[name] = portOf(t, dockerfile(t).env["SOJOURN_LISTEN"])
		}
	}
	for _, job := range prometheus.Scrape {
		for _, s := range job.Targets {
			for _, target := range s.Targets {
				host, port, _ := strings.Cut(target, ":")
				if ports[host] != port {
					t.Errorf("Prometheus asks %s in vain, or twice", target)
				}
				delete(ports, host)
				command := strings.Join(p.Services[host].Command, " ") + " "
				for label, value := range s.Labels {
					flag := map[string]string{"role": "--roles", "shard": "--shard"}[label]
					if flag == "" || !strings.Contains(command, flag+" "+value+" ") {
						t.Errorf("Prometheus calls %s %s=%s; its command is %s", host, label, value, command)
					}
				}
				if strings.Contains(command, "--shard") != (s.Labels["shard"] != "") || (job.Job == "sojourn") != (s.Labels["role"] != "") {
					t.Errorf("Prometheus is not told what %s does", host)
				}
			}
		}
	}
	if len(ports) > 0 {
		t.Errorf("Prometheus does not ask %v", ports)
	}
	prom := p.Services["prometheus"]
	for _, arg := range prom.Command {
		if path, ok := strings.CutPrefix(arg, "--config.file="); ok {
			mounted(t, "prometheus: ", &prom, path)
		}
		if path, ok := strings.CutPrefix(arg, "--storage.tsdb.path="); ok && prom.Volumes[0].Target != path {
			t.Errorf("Prometheus keeps its data at %s, outside of its volume", path)
		}
	}

	keeper := read(t, "deploy/clickhouse/keeper.xml")
	for _, text := range []string{server, keeper} {
		for d := xml.NewDecoder(strings.NewReader(text)); ; {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, ok := p.Services[between(t, server, "<zookeeper>", "</zookeeper>", "host")]; !ok || between(t, server, "<zookeeper>", "</zookeeper>", "port") != between(t, keeper, "<keeper_server>", "</keeper_server>", "tcp_port") {
		t.Error("ClickHouse does not find its Keeper")
	}
	if _, ok := p.Services[between(t, server, "<replica>", "</replica>", "host")]; !ok {
		t.Error("the cluster has no such replica")
	}
	for _, tag := range []string{"log_storage_path", "snapshot_storage_path"} {
		if path := between(t, keeper, "<keeper_server>", "</keeper_server>", tag); !strings.HasPrefix(path, p.Services["keeper"].Volumes[0].Target+"/") {
			t.Errorf("Keeper keeps %s outside of its volume", path)
		}
	}
}

// TestGrafana checks where Grafana looks for dashboards and data.
func TestGrafana(t *testing.T) {
	p, err := load(t, "docker-compose.yml", secrets(t)...)
	if err != nil {
		t.Fatal(err)
	}
	grafana := p.Services["grafana"]
	var dashboards struct {
		Providers []struct{ Options struct{ Path string } }
	}
	var sources struct {
		Datasources []struct {
			Name, Type, URL string
			JSONData        struct {
				Host, Username  string
				DefaultDatabase string `yaml:"defaultDatabase"`
				Port            int
			} `yaml:"jsonData"`
			Secure struct{ Password string } `yaml:"secureJsonData"`
		}
	}
	for file, v := range map[string]any{"dashboards": &dashboards, "datasources": &sources} {
		mounted(t, "grafana: ", &grafana, "/etc/grafana/provisioning/"+file+"/sojourn.yml")
		if err := yaml.Unmarshal([]byte(read(t, "deploy/grafana/provisioning/"+file+"/sojourn.yml")), v); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range dashboards.Providers {
		mounted(t, "grafana: ", &grafana, d.Options.Path+"/operation.json")
	}
	mounted(t, "grafana: ", &grafana, *grafana.Environment["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
	if len(dashboards.Providers) != 1 || len(sources.Datasources) != 2 {
		t.Fatalf("%+v %+v", dashboards, sources)
	}
	for _, s := range sources.Datasources {
		switch s.Type {
		case "prometheus":
			u, err := url.Parse(s.URL)
			if err != nil {
				t.Fatal(err)
			}
			if target := service(t, p, u.Hostname(), grafana.DependsOn).Ports[0].Target; u.Port() != strconv.Itoa(int(target)) {
				t.Errorf("%s: nobody answers at %s", s.Name, s.URL)
			}
		case "grafana-clickhouse-datasource":
			env := service(t, p, s.JSONData.Host, grafana.DependsOn).Environment
			name, isVariable := strings.CutPrefix(s.Secure.Password, "$")
			if password := grafana.Environment[name]; !isVariable || password == nil || *password != *env["CLICKHOUSE_PASSWORD"] ||
				s.JSONData.Port != 8123 || s.JSONData.Username != *env["CLICKHOUSE_USER"] || s.JSONData.DefaultDatabase != *env["CLICKHOUSE_DB"] {
				t.Errorf("%s: it asks ClickHouse as %+v", s.Name, s)
			}
			if !strings.HasPrefix(*grafana.Environment["GF_PLUGINS_PREINSTALL_SYNC"], s.Type+"@") {
				t.Errorf("%s: nobody installs %s", s.Name, s.Type)
			}
		default:
			t.Errorf("%s is of type %s", s.Name, s.Type)
		}
	}
}

// between finds the text of the first element of a name in a part of a file.
func between(t *testing.T, text, from, to, tag string) string {
	t.Helper()
	_, rest, ok := strings.Cut(text, from)
	rest, _, end := strings.Cut(rest, to)
	_, rest, begin := strings.Cut(rest, "<"+tag+">")
	value, _, closed := strings.Cut(rest, "</"+tag+">")
	if !ok || !end || !begin || !closed {
		t.Fatalf("no %s in %s", tag, from)
	}
	return value
}
