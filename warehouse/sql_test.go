package warehouse

import (
	"flag"
	"os"
	"path/filepath"
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
