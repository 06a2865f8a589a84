package chdb

import (
	"context"
	"flag"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

const functionsHeader = `# The functions of the engine that a statement from outside may call: all of
# system.functions without those in deniedFunctions (guard.go) and the engine's
# internal ones. Look at what is new before you write this file anew, with
# go test ./warehouse/chdb -run TestAllowedFunctions -rewrite
`

// startForTest is chdbtest.Start for this package, which that one imports.
func startForTest(t *testing.T, configure ...func(*Config)) *Engine {
	t.Helper()
	cfg := Config{Dir: t.TempDir()}
	for _, f := range configure {
		f(&cfg)
	}
	e, err := Start(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e
}

// private runs a statement with all rights.
func private(t *testing.T, e *Engine, query string) string {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", e.Socket())
		},
	}}
	res, err := client.Get("http://localhost/?query=" + url.QueryEscape(query))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", query, body)
	}
	return string(body)
}

func TestAllowedFunctions(t *testing.T) {
	e := startForTest(t)
	var names []string
	for line := range strings.Lines(private(t, e, "SELECT name, alias_to FROM system.functions WHERE NOT startsWith(name, '__') ORDER BY name FORMAT TSVRaw")) {
		name, alias, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		if !deniedFunctions[strings.ToLower(name)] && !deniedFunctions[strings.ToLower(alias)] {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	want := functionsHeader + strings.Join(names, "\n") + "\n"
	if *rewrite {
		if err := os.WriteFile("functions.txt", []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if functionsFile != want {
		known := lines(functionsFile)
		for _, n := range names {
			if !known[strings.ToLower(n)] {
				t.Errorf("the engine has a function %s that functions.txt does not list", n)
			}
		}
		t.Error("functions.txt is not what the engine has; see its head")
	}
}
