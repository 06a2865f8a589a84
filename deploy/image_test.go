package deploy

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// image is what the Dockerfile says of the image, and of what goes into it.
type image struct {
	args, expose, stages []string
	env                  map[string]string
	copies               []copied
	user, entrypoint     string
	go_, data            string
}

// copied is a COPY from the build context.
type copied struct{ from, to string }

// dockerfile reads deploy/Dockerfile as far as the tests need it.
func dockerfile(t *testing.T) *image {
	t.Helper()
	d := &image{env: map[string]string{}}
	text := strings.ReplaceAll(read(t, "deploy/Dockerfile"), "\\\n", " ")
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 2 || f[0][0] == '#' {
			continue
		}
		switch f[0] {
		case "FROM":
			pinned(t, "Dockerfile: ", f[1])
			if rest, ok := strings.CutPrefix(f[1], "golang:"); ok {
				d.go_ = rest
			}
			if len(f) == 4 {
				d.stages = append(d.stages, f[3])
			}
		case "ARG":
			name, _, _ := strings.Cut(f[1], "=")
			d.args = append(d.args, name)
		case "ENV":
			for _, kv := range f[1:] {
				k, v, _ := strings.Cut(kv, "=")
				d.env[k] = v
			}
		case "EXPOSE":
			d.expose = append(d.expose, f[1:]...)
		case "USER":
			d.user = f[1]
		case "VOLUME":
			d.data = f[1]
		case "ENTRYPOINT":
			d.entrypoint = strings.Trim(f[1], `[]"`)
		case "COPY":
			var args []string
			stage := ""
			for _, a := range f[1:] {
				if s, ok := strings.CutPrefix(a, "--from="); ok {
					stage = s
				} else if !strings.HasPrefix(a, "--") {
					args = append(args, a)
				}
			}
			for _, from := range args[:len(args)-1] {
				if stage == "" {
					d.copies = append(d.copies, copied{from, args[len(args)-1]})
				} else if !slices.Contains(d.stages, stage) {
					t.Errorf("Dockerfile: there is no stage %s", stage)
				}
			}
		}
	}
	return d
}

// TestDockerfile checks its paths against the repository, and that the image runs
// as nobody special.
func TestDockerfile(t *testing.T) {
	d := dockerfile(t)
	for _, c := range d.copies {
		if _, err := os.Stat(filepath.Join(root, c.from)); err != nil {
			t.Error(err)
		}
		if c.from != "." && !sent(t, c.from) {
			t.Errorf("%s is not sent to Docker", c.from)
		}
	}
	if len(d.copies) < 4 {
		t.Errorf("only %v is copied", d.copies)
	}
	if d.user == "" || strings.HasPrefix(d.user, "0") || strings.HasPrefix(d.user, "root") {
		t.Errorf("it runs as %q", d.user)
	}
	if d.data != d.env["SOJOURN_DATA"] {
		t.Errorf("the volume is %s, the data go to %s", d.data, d.env["SOJOURN_DATA"])
	}
	text := read(t, "deploy/Dockerfile")
	if !strings.Contains(text, "/sojourn "+d.entrypoint+"\n") {
		t.Errorf("%s is not in the image", d.entrypoint)
	}
	// The library lies where the binary looks for it: in lib/ beside its folder.
	beside := filepath.Join(filepath.Dir(filepath.Dir(d.entrypoint)), "lib", "libchdb.so")
	if !strings.Contains(text, " "+beside+"\n") {
		t.Errorf("the library is not at %s", beside)
	}
	var lock struct {
		Packages map[string]struct{ Version, Integrity string }
	}
	if err := json.Unmarshal([]byte(read(t, "warehouse/chdb/lib/package-lock.json")), &lock); err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`/library/(node_modules/\S+)/libchdb\.so`).FindStringSubmatch(text)
	if m == nil || lock.Packages[m[1]].Integrity == "" {
		t.Errorf("the lockfile brings no %v", m)
	}
	mod := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(read(t, "go.mod"))
	if !strings.HasPrefix(d.go_, mod[1]+".") {
		t.Errorf("Go %s builds it, go.mod asks for %s", d.go_, mod[1])
	}
}

// sent says whether .dockerignore lets a path into the build context.
func sent(t *testing.T, path string) bool {
	t.Helper()
	in := true
	for s := bufio.NewScanner(strings.NewReader(read(t, ".dockerignore"))); s.Scan(); {
		pattern, out := s.Text(), true
		if pattern == "" || pattern[0] == '#' {
			continue
		}
		if pattern[0] == '!' {
			pattern, out = pattern[1:], false
		}
		parts := strings.Split(path, "/")
		for i := range parts {
			subject := strings.Join(parts[:i+1], "/")
			if rest, ok := strings.CutPrefix(pattern, "**/"); ok {
				pattern, subject = "**/"+rest, parts[i]
				if ok, err := filepath.Match(rest, subject); err != nil {
					t.Fatal(err)
				} else if ok {
					in = !out
				}
				continue
			}
			if ok, err := filepath.Match(pattern, subject); err != nil {
				t.Fatal(err)
			} else if ok {
				in = !out
			}
		}
	}
	return in
}

// TestBuildContext sends Docker everything that the binary is built from, and
// nothing that is large or secret.
func TestBuildContext(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f",
		`{{if not .Standard}}{{if .Module.Main}}{{$d := .Dir}}{{range .GoFiles}}{{$d}}/{{.}}{{"\n"}}{{end}}{{range .EmbedFiles}}{{$d}}/{{.}}{{"\n"}}{{end}}{{end}}{{end}}`, "./cmd/sojourn")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	abs, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	files := strings.Fields(string(out))
	if len(files) < 100 {
		t.Fatalf("the binary is built from %d files", len(files))
	}
	for _, f := range append(files, filepath.Join(abs, "go.mod"), filepath.Join(abs, "go.sum")) {
		path, err := filepath.Rel(abs, f)
		if err != nil {
			t.Fatal(err)
		}
		if !sent(t, path) {
			t.Errorf("%s is not sent to Docker", path)
		}
	}
	for _, path := range []string{".env", ".git/config", "data/admin-token", "bin/sojourn", "warehouse/chdb/lib/node_modules/x", "e2e/main_test.go", "domain/domain_test.go"} {
		if sent(t, path) {
			t.Errorf("%s is sent to Docker", path)
		}
	}
}

// TestSystemd checks the unit: by systemd itself where there is one, with another
// program in the place of ours.
func TestSystemd(t *testing.T) {
	_, env := documented(t)
	unit := read(t, "deploy/systemd/sojourn.service")
	for _, m := range regexp.MustCompile(`(?m)^Environment=([A-Z_]+)=(.*)$`).FindAllStringSubmatch(unit, -1) {
		if !env[m[1]] {
			t.Errorf("Sojourn knows no variable %s", m[1])
		}
		if m[1] == "SOJOURN_DATA" && m[2] != "/var/lib/"+regexp.MustCompile(`(?m)^StateDirectory=(.*)$`).FindStringSubmatch(unit)[1] {
			t.Errorf("the data go to %s, which systemd does not make", m[2])
		}
	}
	start := regexp.MustCompile(`(?m)^ExecStart=(\S+) serve$`).FindStringSubmatch(unit)
	if start == nil {
		t.Fatal("it does not start a server")
	}
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is missing; it comes with the package systemd")
	}
	file := filepath.Join(t.TempDir(), "sojourn.service")
	if err := os.WriteFile(file, []byte(strings.Replace(unit, start[1], "/bin/true", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), analyze, "verify", file).CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "sojourn.service:") {
			t.Error(line)
		}
	}
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
