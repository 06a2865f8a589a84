package warehouse

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ClickHouse/clickhouse-go/v2"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

// golden holds text against a file of testdata.
func golden(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *rewrite {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if text != string(want) {
		t.Errorf("%s differs (go test ./warehouse -run %s -rewrite writes it anew):\n%s", path, t.Name(), text)
	}
}

func TestGoldenSQL(t *testing.T) {
	local := &DB{database: "sojourn", options: &clickhouse.Options{}}
	for folder, files := range map[string][]string{"tables": tableFiles, "views": viewFiles} {
		var all strings.Builder
		for _, name := range files {
			text, err := sqlFiles.ReadFile(folder + "/" + name + ".sql")
			if err != nil {
				t.Fatal(err)
			}
			all.WriteString(local.render(string(text), 7) + ";\n\n")
		}
		golden(t, folder+".sql", all.String())
	}
	var all strings.Builder
	for _, c := range compared {
		a, err := local.viewSelect(c.table, 1)
		if err != nil {
			t.Fatal(err)
		}
		b, err := local.viewSelect(c.table, 2)
		if err != nil {
			t.Fatal(err)
		}
		tc := tableComparison{db: local, table: c.table, key: c.key, columns: "*" + c.except, a: a, b: b}
		all.WriteString("-- " + c.table + "\n" + tc.both("key") + ";\n\n")
	}
	golden(t, "compare.sql", all.String())
}

// clusterStatements are all that a cluster is asked to do, under what it is for.
func clusterStatements(t *testing.T) (statements []string) {
	t.Helper()
	db := &DB{database: "sojourn", cluster: "main", options: &clickhouse.Options{}}
	add := func(all []string, err error) {
		if err != nil {
			t.Fatal(err)
		}
		statements = append(statements, all...)
	}
	add([]string{"CREATE DATABASE IF NOT EXISTS sojourn" + db.onCluster()}, nil)
	text, err := sqlFiles.ReadFile("migrations/0001_migrations.sql")
	add(db.migrationStatements(string(text)), err)
	for _, name := range tableFiles {
		add(db.tableStatements(name, 7))
	}
	for i := range addedColumns {
		add(db.addStatements(&addedColumns[i], 7), nil)
	}
	for _, name := range viewFiles {
		stmt, err := db.viewStatement(name, 7)
		add([]string{stmt}, err)
	}
	add(append(db.reloadStatements(7), db.trimStatement(7, 42)), nil)
	for _, name := range tableFiles {
		add(db.dropStatements(name, 7), nil)
	}
	return statements
}

func TestGoldenClusterSQL(t *testing.T) {
	golden(t, "cluster.sql", strings.Join(clusterStatements(t), ";\n\n")+";\n")
}

// TestShardsKeepReplacementsTogether: rows that replace one another agree on the
// columns that the table is ordered by, and so must on what chooses their shard.
func TestShardsKeepReplacementsTogether(t *testing.T) {
	for _, name := range tableFiles {
		if name == "moved" {
			continue
		}
		text, err := sqlFiles.ReadFile("tables/" + name + ".sql")
		if err != nil {
			t.Fatal(err)
		}
		_, order, _ := strings.Cut(string(text), "\nORDER BY ")
		order, _, _ = strings.Cut(order, "\n")
		columns := strings.FieldsFunc(order, func(r rune) bool { return strings.ContainsRune("(), ", r) })
		key := shardedBy[name]
		// A subject's id is made of the subject.
		if !slices.Contains(columns, key) && (key != "subject_id" || !slices.Contains(columns, "subject")) {
			t.Errorf("%s is ordered by %s and sharded by %q", name, order, key)
		}
	}
}

func TestDictionaryCredentials(t *testing.T) {
	text, err := sqlFiles.ReadFile("tables/moved.sql")
	if err != nil {
		t.Fatal(err)
	}
	for dsn, want := range map[string]string{
		"http://localhost:8123":                           "SOURCE(CLICKHOUSE(QUERY 'SELECT",
		"clickhouse://default@localhost:9000/sojourn":     "SOURCE(CLICKHOUSE(QUERY 'SELECT",
		"clickhouse://u%27ser:p%5Cw%27@localhost/journey": `SOURCE(CLICKHOUSE(USER 'u\'ser' PASSWORD 'p\\w\'' QUERY 'SELECT`,
	} {
		cfg := Config{DSN: dsn}
		opt, err := options(&cfg)
		if err != nil {
			t.Fatalf("%s: %v", dsn, err)
		}
		db := &DB{database: cfg.Database, options: opt}
		if got := db.render(string(text), 1); !strings.Contains(got, want) {
			t.Errorf("%s gives %s", dsn, got)
		}
	}
}

func TestConfig(t *testing.T) {
	for _, c := range []struct {
		cfg      Config
		database string // empty: an error
		says     string
	}{
		{Config{}, "", "neither"},
		{Config{Socket: "x", DSN: "http://x"}, "", "use one"},
		{Config{Socket: "x", Database: "a b"}, "", "letters"},
		{Config{DSN: "http://user:secret@[::1"}, "", "dsn"},
		{Config{DSN: "mysql://user:secret@host"}, "", "it begins with"},
		{Config{DSN: "clickhouse://user:secret@a:9000,b:9000"}, "", "name it"},
		{Config{DSN: "http://a:8123", Cluster: "a`b"}, "", "letters"},
		{Config{Socket: "x"}, "sojourn", ""},
		{Config{DSN: "http://localhost:8123"}, "sojourn", ""},
		{Config{DSN: "http://localhost:8123/default"}, "sojourn", ""},
		{Config{DSN: "clickhouse://u:p@localhost:9000/journeys"}, "journeys", ""},
		{Config{DSN: "clickhouse://localhost:9000/journeys", Database: "other"}, "other", ""},
	} {
		_, err := options(&c.cfg)
		if c.database != "" {
			if err != nil || c.cfg.Database != c.database {
				t.Errorf("%+v: %v", c.cfg, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%+v: %v", c.cfg, err)
		}
	}
}

// TestServers is what the parts of a DSN come to.
func TestServers(t *testing.T) {
	for _, c := range []struct {
		dsn, addr string
		protocol  clickhouse.Protocol
		secure    bool
	}{
		{"clickhouse://u:p@a:9000,b:9001/d", "a:9000 b:9001", clickhouse.Native, false},
		{"clickhouse://u:p@a:9440,b:9440/d?secure=true", "a:9440 b:9440", clickhouse.Native, true},
		{"http://u:p@a:8123,b:8124/d", "a:8123 b:8124", clickhouse.HTTP, false},
		{"https://u:p@a:8443,b:8443/d", "a:8443 b:8443", clickhouse.HTTP, true},
		{"https://u:p@a:8443/d?skip_verify=true", "a:8443", clickhouse.HTTP, true},
	} {
		cfg := Config{DSN: c.dsn, Cluster: "main"}
		opt, err := options(&cfg)
		if err != nil {
			t.Errorf("%s: %v", c.dsn, err)
			continue
		}
		if got := strings.Join(opt.Addr, " "); got != c.addr || opt.Protocol != c.protocol || (opt.TLS != nil) != c.secure || opt.Auth.Username != "u" || opt.Auth.Password != "p" || cfg.Database != "d" {
			t.Errorf("%s: %s %v secure %v, %+v", c.dsn, got, opt.Protocol, opt.TLS != nil, opt.Auth)
		}
		if opt.Settings["insert_quorum"] != "auto" || opt.Settings["distributed_foreground_insert"] != 1 {
			t.Errorf("%s: settings %v", c.dsn, opt.Settings)
		}
	}
	cfg := Config{DSN: "http://a:8123/d?insert_quorum=0", Cluster: "main"}
	if opt, err := options(&cfg); err != nil || opt.Settings["insert_quorum"] != 0 {
		t.Errorf("the DSN's setting does not count: %v, %v", opt.Settings, err)
	}
}
