package deploy

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// makeSecrets runs secrets.sh in a folder, and reads what stands in .env then.
func makeSecrets(t *testing.T, dir string) (text string, values map[string]string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), "./secrets.sh", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	path := filepath.Join(dir, ".env")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if i, err := os.Stat(path); err != nil || i.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", i.Mode(), err)
	}
	if left, err := filepath.Glob(path + ".*"); err != nil || len(left) != 1 { // .env.example
		t.Errorf("it leaves %v behind, %v", left, err)
	}
	values = map[string]string{}
	for line := range strings.Lines(string(b)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(line, "#") {
			values[name] = value
		}
	}
	return string(b), values
}

// TestSecrets makes a .env, once, each secret of the form that its reader wants.
func TestSecrets(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, ".env.example"), []byte(read(t, ".env.example")), 0o600); err != nil {
		t.Fatal(err)
	}
	first, values := makeSecrets(t, dir)
	if again, _ := makeSecrets(t, dir); again != first {
		t.Error("it has made other secrets")
	}
	seen := map[string]bool{}
	for name := range envExample(t) {
		decode := hex.DecodeString
		if name == "SOJOURN_SECRET_KEY" {
			decode = base64.StdEncoding.DecodeString
		}
		key, err := decode(values[name])
		if err != nil || len(key) != 32 || seen[string(key)] || bytes.Equal(key, make([]byte, 32)) {
			t.Errorf("%s is %q: %v", name, values[name], err)
		}
		seen[string(key)] = true
	}
	if len(values) != len(seen) {
		t.Errorf("%d values for %d names", len(values), len(seen))
	}

	// An older file lacks one and has no end of line.
	line := "SOJOURN_STREAM_KEY=" + values["SOJOURN_STREAM_KEY"] + "\n"
	older := strings.TrimSpace(strings.Replace(first, line, "", 1))
	if err := os.WriteFile(filepath.Join(dir, ".env"), []byte(older), 0o600); err != nil {
		t.Fatal(err)
	}
	newer, more := makeSecrets(t, dir)
	if !strings.HasPrefix(newer, older+"\n") || len(more) != len(values) || len(more["SOJOURN_STREAM_KEY"]) != 64 {
		t.Errorf("it makes of\n%s\n%s", older, newer)
	}
	for name, value := range values {
		if name != "SOJOURN_STREAM_KEY" && more[name] != value {
			t.Errorf("%s was %q and is %q", name, value, more[name])
		}
	}
}
