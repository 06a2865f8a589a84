package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"sojourn/automation/delivery"
	"sojourn/cmd/sojourn/yamlfile"
	"sojourn/warehouse"
)

// Config is what a server is configured by. A setting comes from its flag, else
// from the environment (SOJOURN_ and the flag's name in capitals, with
// underscores), else from the file given by --config (the flag's name with
// underscores), else it is the default.
type Config struct {
	// Data is the directory of everything that Sojourn keeps: the log, the
	// views, the keys. One server at a time uses it.
	Data string `yaml:"data"`
	// Listen is the address of the tracking API and the API.
	Listen string `yaml:"listen"`
	// PublicURL is where SDKs reach this server, if that is not the Host of their
	// requests: behind a proxy, or with a path before /v1.
	PublicURL string `yaml:"public_url"`
	// TLSCert and TLSKey are PEM files; with them the server speaks HTTPS only.
	TLSCert string `yaml:"tls_cert"`
	TLSKey  string `yaml:"tls_key"`
	// Policy is the file of the policy. Without it the default policy holds.
	Policy string `yaml:"policy"`

	// Store is the connection string of the EventStoreDB that keeps the log, in
	// place of the data directory.
	Store string `yaml:"store"`
	// ESDBListen is the address at which the log is open to EventStoreDB's clients
	// and tools; empty for none. ESDBInsecure serves them without TLS, on loopback
	// only, and ESDBWritable lets everybody there write Sojourn's own streams.
	ESDBListen   string `yaml:"esdb_listen"`
	ESDBInsecure bool   `yaml:"esdb_insecure"`
	ESDBWritable bool   `yaml:"esdb_writable"`

	// ClickHouse is the DSN of a ClickHouse server to keep the views in, in place
	// of the embedded engine.
	ClickHouse string `yaml:"clickhouse"`
	// ClickHouseCluster is the cluster that the server is a node of, by its name in
	// remote_servers. Empty for a server by itself.
	ClickHouseCluster string `yaml:"clickhouse_cluster"`
	// ClickHouseListen is the address at which the embedded engine answers
	// queries; off turns that off.
	ClickHouseListen string `yaml:"clickhouse_listen"`
	// ClickHousePassword is asked for there. Any address but loopback needs one.
	ClickHousePassword string `yaml:"clickhouse_password"`
	// ClickHouseWorkerListen is the address at which the embedded engine takes all
	// statements from Sojourn's other processes, who log in as worker with the admin
	// token; empty for none.
	ClickHouseWorkerListen string `yaml:"clickhouse_worker_listen"`
	// ClickHouseLibrary is libchdb.so or its folder, where it is not found.
	ClickHouseLibrary string `yaml:"clickhouse_library"`

	// AutomationAllow are ranges that deliveries may reach although they are not public,
	// with commas between: 10.1.0.0/16, fd12::/16.
	AutomationAllow string `yaml:"automation_allow"`

	// FlushInterval is the time between two writes to the views while they keep
	// up: above 0, at most 1 s.
	FlushInterval time.Duration `yaml:"flush_interval"`
	// LogLevel is debug, info, warn or error; LogFormat text or json.
	LogLevel  string `yaml:"log_level"`
	LogFormat string `yaml:"log_format"`

	// Roles are what this server does; all but collect where nothing is said.
	Roles roles `yaml:"roles"`
	// Shard is the part of the views that this server keeps, such as 2/4; empty for
	// all of them.
	Shard string `yaml:"shard"`
	// AllowUnreplicated lets a collector use a topic that has one copy.
	AllowUnreplicated bool `yaml:"allow_unreplicated"`
	// Kafka are topics to consume and to write; nil for none. It stands in the file
	// alone.
	Kafka *KafkaConfig `yaml:"kafka"`

	// AdminToken is for the API. It comes from SOJOURN_ADMIN_TOKEN alone, so that
	// it shows in no process list; without it one is made at the first start.
	AdminToken string `yaml:"-"`
	// StreamKey are the bytes of the key that names streams. It comes from
	// SOJOURN_STREAM_KEY alone; without it the data directory's is used.
	StreamKey string `yaml:"-"`
	// SecretKey encrypts the secrets of destinations. It comes from
	// SOJOURN_SECRET_KEY alone; without it one is made at the first start.
	SecretKey string `yaml:"-"`
}

// defaultConfig is what holds where nothing else is said.
func defaultConfig() Config {
	return Config{
		Data:             "./data",
		Roles:            defaultRoles,
		Listen:           "127.0.0.1:8080",
		ClickHouseListen: "127.0.0.1:8123",
		FlushInterval:    500 * time.Millisecond,
		LogLevel:         "info",
		LogFormat:        "text",
	}
}

// flags binds every setting to a flag.
func (c *Config) flags(fs *pflag.FlagSet) {
	fs.StringVar(&c.Data, "data", c.Data, "`directory` of everything that is kept")
	fs.Var(&c.Roles, "roles", "what this server does: collect, write, project, api, automate")
	fs.StringVar(&c.Shard, "shard", c.Shard, "the `part` of the views that this server keeps, such as 2/4: the second of four")
	fs.BoolVar(&c.AllowUnreplicated, "allow-unreplicated", c.AllowUnreplicated, "let a collector use a topic that has one copy: for development")
	fs.StringVar(&c.Listen, "listen", c.Listen, "`address` of the tracking API and the API")
	fs.StringVar(&c.PublicURL, "public-url", c.PublicURL, "`URL` under which SDKs reach this server, if not the Host they ask")
	fs.StringVar(&c.TLSCert, "tls-cert", c.TLSCert, "PEM `file` of the certificate; with it HTTPS is spoken")
	fs.StringVar(&c.TLSKey, "tls-key", c.TLSKey, "PEM `file` of the certificate's key")
	fs.StringVar(&c.Policy, "policy", c.Policy, "`file` of the policy; sojourn policy default prints one to start from")
	fs.StringVar(&c.Store, "store", c.Store, "connection `string` of the EventStoreDB that keeps the log, in place of the data directory")
	fs.StringVar(&c.ESDBListen, "esdb-listen", c.ESDBListen, "`address` at which the log is open to EventStoreDB's clients")
	fs.BoolVar(&c.ESDBInsecure, "esdb-insecure", c.ESDBInsecure, "serve them without TLS and credentials, on loopback only")
	fs.BoolVar(&c.ESDBWritable, "esdb-writable", c.ESDBWritable, "with --esdb-insecure, let them write Sojourn's own streams: for its own processes")
	fs.StringVar(&c.ClickHouse, "clickhouse", c.ClickHouse, "`DSN` of a ClickHouse server, in place of the embedded engine")
	fs.StringVar(&c.ClickHouseCluster, "clickhouse-cluster", c.ClickHouseCluster, "`name` of the cluster that the ClickHouse server is a node of")
	fs.StringVar(&c.ClickHouseListen, "clickhouse-listen", c.ClickHouseListen, "`address` at which the embedded engine answers queries, or off")
	fs.StringVar(&c.ClickHousePassword, "clickhouse-password", c.ClickHousePassword, "`password` for it; needed on any address but loopback")
	fs.StringVar(&c.ClickHouseWorkerListen, "clickhouse-worker-listen", c.ClickHouseWorkerListen, "`address` at which the embedded engine takes all statements from Sojourn's other processes")
	fs.StringVar(&c.ClickHouseLibrary, "clickhouse-library", c.ClickHouseLibrary, "`path` of libchdb.so, if it is not found")
	fs.StringVar(&c.AutomationAllow, "automation-allow", c.AutomationAllow, "`ranges` that deliveries may reach although they are not public, such as 10.1.0.0/16,fd12::/16")
	fs.DurationVar(&c.FlushInterval, "flush-interval", c.FlushInterval, "`time` between two writes to the views, at most 1s")
	fs.StringVar(&c.LogLevel, "log-level", c.LogLevel, "debug, info, warn or error")
	fs.StringVar(&c.LogFormat, "log-format", c.LogFormat, "text or json")
}

// envName is the environment variable of a flag.
func envName(flag string) string {
	return "SOJOURN_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// loadConfig puts together the configuration: given are the flags of the command
// line, file the one of --config or empty. The result is valid.
func loadConfig(given *pflag.FlagSet, file string, getenv func(string) (string, bool)) (Config, error) {
	c := defaultConfig()
	if file == "" {
		file, _ = getenv(envName("config"))
	}
	if file != "" {
		d, err := yamlfile.Open(file)
		if err != nil {
			return c, fmt.Errorf("configuration: %w", err)
		}
		if err := d.Decode(&c); err != nil {
			return c, err
		}
	}
	var errs []error
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	c.flags(fs)
	fs.VisitAll(func(f *pflag.Flag) {
		if g := given.Lookup(f.Name); g != nil && g.Changed {
			if err := f.Value.Set(g.Value.String()); err != nil {
				errs = append(errs, fmt.Errorf("--%s: %w", f.Name, err))
			}
			return
		}
		if v, ok := getenv(envName(f.Name)); ok {
			if err := f.Value.Set(v); err != nil {
				errs = append(errs, fmt.Errorf("%s: %q: %w", envName(f.Name), v, err))
			}
		}
	})
	c.AdminToken, _ = getenv("SOJOURN_ADMIN_TOKEN")
	if text, ok := getenv(streamKeyEnv); ok {
		key, err := parseStreamKey(text)
		if err != nil {
			errs = append(errs, err)
		}
		c.StreamKey = string(key)
	}
	c.SecretKey, _ = getenv(delivery.KeyEnv)
	if password, ok := getenv(kafkaPassword); ok && c.Kafka != nil {
		c.Kafka.SASL.Password = password
	}
	return c, errors.Join(append(errs, c.Validate())...)
}

// Validate checks every setting that can be checked without trying it.
func (c *Config) Validate() error {
	var errs []error
	bad := func(setting, format string, args ...any) {
		errs = append(errs, fmt.Errorf(setting+": "+format, args...))
	}
	if c.Data == "" {
		bad("data", "name a directory")
	}
	if _, err := splitAddress(c.Listen); err != nil {
		bad("listen", "%w", err)
	}
	if c.PublicURL != "" {
		u, err := url.Parse(c.PublicURL)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
			bad("public-url", "%q is no address such as https://track.example.com", c.PublicURL)
		}
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		bad("tls-cert", "give tls-cert and tls-key, or neither")
	}
	c.validateESDB(bad)
	if c.ClickHouseCluster != "" && c.ClickHouse == "" {
		bad("clickhouse-cluster", "name a node of it with clickhouse")
	}
	if c.ClickHouse != "" {
		// The DSN may hold a password and is not repeated.
		if err := (warehouse.Config{DSN: c.ClickHouse, Cluster: c.ClickHouseCluster}).Validate(); err != nil {
			bad("clickhouse", "this is no DSN such as clickhouse://user:password@host:9000/sojourn: %w", err)
		}
	} else if c.ClickHouseListen != "off" {
		host, err := splitAddress(c.ClickHouseListen)
		if err != nil {
			bad("clickhouse-listen", "%w, or off", err)
		} else if !loopback(host) && c.ClickHousePassword == "" {
			bad("clickhouse-listen", "%s can be reached from the network: set clickhouse-password (%s), or listen on 127.0.0.1",
				c.ClickHouseListen, envName("clickhouse-password"))
		}
	}
	if _, err := c.guard(); err != nil {
		bad("automation-allow", "%w", err)
	}
	if c.SecretKey != "" {
		if _, err := delivery.LoadSealer(c.SecretKey, ""); err != nil {
			errs = append(errs, err)
		}
	}
	if c.FlushInterval <= 0 || c.FlushInterval > time.Second {
		bad("flush-interval", "%v is not above 0 and at most 1s", c.FlushInterval)
	}
	var level slog.Level
	if level.UnmarshalText([]byte(c.LogLevel)) != nil {
		bad("log-level", "%q is not debug, info, warn or error", c.LogLevel)
	}
	if c.LogFormat != "text" && c.LogFormat != "json" {
		bad("log-format", "%q is not text or json", c.LogFormat)
	}
	if c.Kafka != nil {
		errs = append(errs, c.Kafka.Validate())
	}
	c.validateCollect(bad)
	c.validateWorkers(bad)
	return errors.Join(errs...)
}

func splitAddress(address string) (host string, err error) {
	host, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = net.LookupPort("tcp", port)
	}
	if err != nil {
		return "", fmt.Errorf("%q is no address such as 127.0.0.1:8080", address)
	}
	return host, nil
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// logger makes the server's logger, which writes to standard error.
func (c *Config) logger() *slog.Logger {
	var level slog.Level
	// Validate has seen it.
	_ = level.UnmarshalText([]byte(c.LogLevel))
	opts := &slog.HandlerOptions{Level: level}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, opts))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, opts))
}
