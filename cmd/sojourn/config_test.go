package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

// load reads a configuration from a command line, an environment and a file.
func load(t *testing.T, args []string, env map[string]string, file string) (Config, error) {
	t.Helper()
	path := ""
	if file != "" {
		path = filepath.Join(t.TempDir(), "c.yaml")
		if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	given := pflag.NewFlagSet("", pflag.ContinueOnError)
	c := defaultConfig()
	c.flags(given)
	if err := given.Parse(args); err != nil {
		t.Fatal(err)
	}
	return loadConfig(given, path, func(name string) (string, bool) { v, ok := env[name]; return v, ok })
}

func TestConfigOrder(t *testing.T) {
	c, err := load(t, nil, nil, "")
	if err != nil || c != defaultConfig() {
		t.Fatalf("%+v, %v", c, err)
	}
	c, err = load(t,
		[]string{"--listen", "127.0.0.1:1"},
		map[string]string{"SOJOURN_LISTEN": "127.0.0.1:2", "SOJOURN_DATA": "env", "SOJOURN_FLUSH_INTERVAL": "250ms", "SOJOURN_ADMIN_TOKEN": "t"},
		"listen: 127.0.0.1:3\ndata: file\nlog_level: debug\nclickhouse_listen: 'off'\n")
	if err != nil {
		t.Fatal(err)
	}
	want := defaultConfig()
	want.Listen, want.Data, want.FlushInterval, want.LogLevel = "127.0.0.1:1", "env", 250*time.Millisecond, "debug"
	want.ClickHouseListen, want.AdminToken = "off", "t"
	if c != want {
		t.Errorf("got  %+v\nwant %+v", c, want)
	}
	// A flag that says the default goes before the environment all the same.
	c, err = load(t, []string{"--data", "./data"}, map[string]string{"SOJOURN_DATA": "env"}, "")
	if err != nil || c.Data != "./data" {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestConfigFileFromTheEnvironment(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(path, []byte("data: elsewhere\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := load(t, nil, map[string]string{"SOJOURN_CONFIG": path}, "")
	if err != nil || c.Data != "elsewhere" {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestConfigMistakes(t *testing.T) {
	for _, c := range []struct {
		args []string
		env  map[string]string
		file string
		want string
	}{
		{file: "data: x\nlistne: y\n", want: `c.yaml:2:1: unknown key "listne"; did you mean "listen"?`},
		{file: "clickhouse-listen: y\n", want: `c.yaml:1:1: unknown key "clickhouse-listen"; did you mean "clickhouse_listen"?`},
		{file: "admin_token: y\n", want: `unknown key "admin_token"`},
		{file: "flush_interval: soon\n", want: "c.yaml:1:17: "},
		{file: "data: [\n", want: "c.yaml:1:7: "},
		{file: "flush_interval: 2s\n", want: "flush-interval: 2s is not above 0 and at most 1s"},
		{env: map[string]string{"SOJOURN_FLUSH_INTERVAL": "soon"}, want: `SOJOURN_FLUSH_INTERVAL: "soon"`},
		{args: []string{"--flush-interval", "0s"}, want: "flush-interval: 0s is not above 0"},
		{args: []string{"--data", ""}, want: "data: name a directory"},
		{args: []string{"--public-url", "track.example.com"}, want: "public-url: "},
		{args: []string{"--clickhouse", "mysql://x"}, want: "clickhouse: this is no DSN"},
		{args: []string{"--clickhouse", "clickhouse://u:secret@a:9000,b:9000/d"}, want: "several hosts are nodes of a cluster; name it (clickhouse-cluster)"},
		{args: []string{"--clickhouse-cluster", "main"}, want: "clickhouse-cluster: name a node of it with clickhouse"},
		{args: []string{"--clickhouse", "http://h:8123", "--clickhouse-cluster", "a b"}, want: "use letters, digits"},
		{args: []string{"--clickhouse-listen", "0.0.0.0:8123"}, want: "set clickhouse-password (SOJOURN_CLICKHOUSE_PASSWORD)"},
		{args: []string{"--clickhouse-listen", ":8123"}, want: "set clickhouse-password"},
		{args: []string{"--clickhouse-listen", "x"}, want: `"x" is no address such as 127.0.0.1:8080, or off`},
		{args: []string{"--automation-allow", "10.1.0.0/16,intranet"}, want: `automation-allow: "intranet" is no range such as 10.1.0.0/16`},
		{args: []string{"--log-level", "loud"}, want: `log-level: "loud" is not`},
		{args: []string{"--log-format", "xml"}, want: `log-format: "xml" is not`},
		{args: []string{"--tls-key", "k"}, want: "give tls-cert and tls-key, or neither"},
		{args: []string{"--store", "http://x"}, want: "store: this is no connection string such as esdb://"},
		{args: []string{"--esdb-listen", "x"}, want: `esdb-listen: "x" is no address`},
		{args: []string{"--esdb-listen", "127.0.0.1:2113"}, want: "esdb-listen: give tls-cert and tls-key, or esdb-insecure on 127.0.0.1"},
		{args: []string{"--esdb-listen", "0.0.0.0:2113", "--esdb-insecure"}, want: "esdb-insecure: 0.0.0.0:2113 can be reached from the network"},
		{args: []string{"--esdb-listen", "[::]:2113", "--esdb-insecure", "--esdb-writable", "--tls-cert", "c", "--tls-key", "k"}, want: "can be reached from the network"},
		{args: []string{"--esdb-listen", "0.0.0.0:2113", "--esdb-writable", "--tls-cert", "c", "--tls-key", "k"}, want: "esdb-writable: it goes with esdb-insecure"},
		{env: map[string]string{"SOJOURN_SECRET_KEY": "hunter2"}, want: "SOJOURN_SECRET_KEY: a key is 32 random bytes in base64"},
		{env: map[string]string{"SOJOURN_SECRET_KEY": "c2hvcnQ="}, want: "SOJOURN_SECRET_KEY: a key is 32 random bytes in base64"},
		{args: []string{"--esdb-insecure"}, want: "esdb-insecure: it says how --esdb-listen listens"},
	} {
		_, err := load(t, c.args, c.env, c.file)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v %v %q:\ngot  %v\nwant %s", c.args, c.env, c.file, err, c.want)
		}
	}
	for _, args := range [][]string{
		{"--clickhouse-listen", "0.0.0.0:8123", "--clickhouse-password", "p"},
		{"--clickhouse-listen", "localhost:8123"},
		{"--clickhouse-listen", "[::1]:8123"},
		{"--clickhouse", "clickhouse://u:p@host:9000/sojourn", "--clickhouse-listen", "0.0.0.0:1"},
		{"--clickhouse", "https://u:p@a:8443,b:8443/sojourn", "--clickhouse-cluster", "main"},
		{"--public-url", "https://example.com/track"},
		{"--listen", ":8080"},
		{"--automation-allow", "10.1.0.0/16, fd12::/16,127.0.0.1"},
	} {
		if _, err := load(t, args, nil, ""); err != nil {
			t.Errorf("%v: %v", args, err)
		}
	}
}

// TestConfigIsDocumented keeps docs/configuration.md complete.
func TestConfigIsDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	c := defaultConfig()
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	c.flags(fs)
	fs.VisitAll(func(f *pflag.Flag) {
		for _, want := range []string{"`--" + f.Name + "`", "`" + envName(f.Name) + "`"} {
			if !strings.Contains(string(doc), want) {
				t.Errorf("docs/configuration.md does not name %s", want)
			}
		}
		if f.DefValue != "" && !strings.Contains(string(doc), "`"+f.DefValue+"`") {
			t.Errorf("docs/configuration.md does not say that the default of --%s is %s", f.Name, f.DefValue)
		}
	})
}
