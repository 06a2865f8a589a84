package delivery

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

func TestSecretShowsItselfNowhere(t *testing.T) {
	s := NewSecret("tops3cret")
	d := Destination{Name: "a", Secrets: []Secret{s}}
	var out bytes.Buffer
	for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(h).Info("x", "secret", s, "pointer", &s, "destination", d, "pointer to it", &d, "attempt", &Attempt{Destination: d})
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T"} {
		fmt.Fprintf(&out, verb+verb+verb+verb+"\n", s, &s, d, &d)
	}
	for _, v := range []any{s, &s, d, &d, map[Secret]Secret{s: s}, []any{s}} {
		b, err := json.Marshal(v)
		if err != nil {
			t.Error(err)
		}
		out.Write(b)
		b, err = yaml.Marshal(v)
		if err != nil {
			t.Error(err)
		}
		out.Write(b)
	}
	fmt.Fprintln(&out, s, errors.New(s.String()), s.LogValue())
	text := out.String()
	if strings.Contains(text, "s3cret") || strings.Contains(text, fmt.Sprintf("%x", "s3cret")) || !strings.Contains(text, hidden) {
		t.Error(text)
	}
	if s.Reveal() != "tops3cret" || s.IsZero() || !(Secret{}).IsZero() {
		t.Error("the secret itself is lost")
	}
}

func key(b byte) []byte { return bytes.Repeat([]byte{b}, keySize) }

func TestSeal(t *testing.T) {
	sealer, err := NewSealer(key(1))
	if err != nil {
		t.Fatal(err)
	}
	secret := NewSecret("tops3cret")
	sealed := sealer.Seal("crm", secret)
	if bytes.Contains(sealed, []byte("s3cret")) || bytes.Equal(sealed, sealer.Seal("crm", secret)) {
		t.Error("it is not encrypted, or twice the same")
	}
	if got, err := sealer.Open("crm", sealed); err != nil || got != secret {
		t.Errorf("%v, %v", got.Reveal(), err)
	}
	if _, err := sealer.Open("other", sealed); err == nil {
		t.Error("it opens under another name")
	}
	for i := range sealed {
		bad := bytes.Clone(sealed)
		bad[i] ^= 1
		if _, err := sealer.Open("crm", bad); err == nil {
			t.Errorf("byte %d is not held", i)
		}
		if _, err := sealer.Open("crm", sealed[:i]); err == nil {
			t.Errorf("%d bytes are enough", i)
		}
	}
	// A key is replaced: the new one encrypts, both decrypt.
	both, err := NewSealer(key(2), key(1))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := both.Open("crm", sealed); err != nil || got != secret {
		t.Errorf("%v", err)
	}
	if _, err := sealer.Open("crm", both.Seal("crm", secret)); !errors.Is(err, ErrWrongKey) {
		t.Errorf("%v", err)
	}
}

func TestLoadSealer(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, KeyFile)
	first, err := LoadSealer("", dir)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info, err)
	}
	sealed := first.Seal("a", NewSecret("x"))
	second, err := LoadSealer("", dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := second.Open("a", sealed); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	kept, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	moved, err := LoadSealer(base64.StdEncoding.EncodeToString(key(7))+", "+strings.TrimSpace(string(kept)), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := moved.Open("a", sealed); err != nil {
		t.Errorf("by the environment: %v", err)
	}
	for _, bad := range []string{"x", ",", "c2hvcnQ=", base64.StdEncoding.EncodeToString(key(1)) + ","} {
		if _, err := LoadSealer(bad, dir); err == nil || !strings.Contains(err.Error(), KeyEnv) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadSealer("", dir); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a key that others can read: %v", err)
	}
	if err := os.WriteFile(path, []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadSealer("", dir); err == nil || strings.Contains(err.Error(), "damaged\"") {
		t.Errorf("a damaged key: %v", err)
	}
}
