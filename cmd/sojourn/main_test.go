package main

import (
	"bytes"
	"context"
	"os"
	"strings"
	"testing"

	"sojourn/warehouse/chdb"
)

// asSojourn is set where a child of a test is to be sojourn itself.
const asSojourn = "TEST_BINARY_AS_SOJOURN"

func TestMain(m *testing.M) {
	chdb.ChildMain()
	if os.Getenv(asSojourn) != "" || len(os.Args) == 2 && os.Args[1] == previewCommand {
		main()
	}
	os.Exit(m.Run())
}

// sojourn runs a command line in this process.
func sojourn(ctx context.Context, args ...string) (status int, out, errOut string) {
	var o, e bytes.Buffer
	status = run(ctx, args, strings.NewReader(""), &o, &e)
	return status, o.String(), e.String()
}

func TestCommandLineMistakes(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		args   string
		status int
		want   string
	}{
		{"frobnicate", 2, `there is no command "frobnicate"; sojourn --help lists the commands`},
		{"serv", 2, `there is no command "serv"; did you mean serve?`},
		{"serve --lisen x", 2, "unknown flag: --lisen; sojourn serve --help lists the flags"},
		{"serve now", 2, `sojourn serve takes no argument, but got "now"`},
		{"serve --listen nowhere --data DIR", 1, `listen: "nowhere" is no address such as 127.0.0.1:8080`},
		{"serve --tls-cert x --data DIR", 1, "tls-cert: give tls-cert and tls-key, or neither"},
		{"serve --tls-cert DIR/none --tls-key DIR/none --data DIR", 1, "--tls-cert and --tls-key are PEM files"},
		{"serve --policy DIR/none --data DIR", 1, "policy: open DIR/none: no such file"},
		{"serve --config DIR/none --data DIR", 1, "configuration: open DIR/none: no such file"},
		{"keys create", 2, "sojourn keys create takes one argument, the source"},
		{"keys list --data DIR", 1, "there is no admin token in DIR; name the server's data directory with --data"},
		{"keys list --token x --server http://127.0.0.1:1", 1, "no server answers at http://127.0.0.1:1; start one with: sojourn serve"},
		{"keys list --token x --server 127.0.0.1:1", 1, `"127.0.0.1:1" is no address of a server`},
		{"demo --customers 0", 2, "customers must be 1 to 10000000, not 0"},
		{"demo --end soon", 2, `"soon" is no date`},
		{"import", 2, "takes one argument, the file to import"},
		{"import x", 2, `--format is csv or jsonl, not ""`},
		{"import --format csv x", 2, "name the mapping file with --mapping"},
		{"import --format csv --mapping DIR/none x", 1, "mapping: open DIR/none: no such file"},
		{"verify --data DIR/none", 2, "name the one of the server with --data"},
		{"policy check DIR/none", 1, "policy: open DIR/none"},
	} {
		args := strings.Fields(strings.ReplaceAll(c.args, "DIR", dir))
		status, out, errOut := sojourn(t.Context(), args...)
		want := strings.ReplaceAll(c.want, "DIR", dir)
		if status != c.status || !strings.Contains(errOut, want) || !strings.HasPrefix(errOut, "sojourn: ") || strings.Count(errOut, "\n") != 1 || out != "" {
			t.Errorf("%s: status %d\n%s%s\nwant %d: %s", c.args, status, out, errOut, c.status, want)
		}
	}
}

func TestHelpAndVersion(t *testing.T) {
	status, out, _ := sojourn(t.Context(), "version")
	if status != 0 || out != "sojourn dev\n" {
		t.Errorf("%d %q", status, out)
	}
	if _, again, _ := sojourn(t.Context(), "--version"); again != out {
		t.Errorf("--version prints %q", again)
	}
	status, out, _ = sojourn(t.Context())
	for _, name := range []string{"serve", "demo", "import", "tail", "keys", "rebuild", "verify", "policy", "version"} {
		if status != 0 || !strings.Contains(out, "\n  "+name+" ") {
			t.Errorf("the help does not list %s:\n%s", name, out)
		}
	}
}
