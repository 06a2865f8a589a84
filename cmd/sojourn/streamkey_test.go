package main

import (
	"bytes"
	"encoding/hex"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sojourn/domain"
)

// TestStreamKey opens logs with keys from the environment and from the directory.
func TestStreamKey(t *testing.T) {
	t.Parallel()
	one, two := bytes.Repeat([]byte{1}, domain.KeySize), bytes.Repeat([]byte{2}, domain.KeySize)
	open := func(dir string, key []byte) (string, error) {
		log := slog.New(slog.DiscardHandler)
		d, err := openData(t.Context(), dir, log)
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := d.close(); err != nil {
				t.Error(err)
			}
		}()
		c := defaultConfig()
		c.StreamKey = string(key)
		store, keyer, err := d.openLog(t.Context(), &c, log)
		if err != nil {
			return "", err
		}
		name := keyer.Stream(domain.Subject{Kind: domain.User, Value: "42"})
		return name, store.Close()
	}
	must := func(dir string, key []byte) string {
		t.Helper()
		name, err := open(dir, key)
		if err != nil {
			t.Fatal(err)
		}
		return name
	}
	refused := func(dir string, key []byte, want string) {
		t.Helper()
		if _, err := open(dir, key); err == nil || !strings.Contains(err.Error(), want) {
			t.Fatalf("%v, want %s", err, want)
		}
	}
	a, b := t.TempDir(), t.TempDir()
	if made := must(a, nil); made != must(a, nil) || made == must(b, one) {
		t.Fatal("the key of a directory does not stay, or is that of another")
	}
	if i, err := os.Stat(filepath.Join(b, keyFile)); err != nil || i.Mode().Perm() != 0o600 {
		t.Fatalf("the key given is not kept for its owner alone: %v, %v", i, err)
	}
	if must(b, nil) != must(b, one) {
		t.Fatal("the directory has another key than was given")
	}
	refused(b, two, "is another key")
	// The file is lost, and the log's fingerprint tells.
	if err := os.Remove(filepath.Join(b, keyFile)); err != nil {
		t.Fatal(err)
	}
	refused(b, nil, "is missing")
	refused(b, two, "named with another key")
	must(b, one)
	// Another file in its place.
	if err := os.WriteFile(filepath.Join(b, keyFile), two, 0o600); err != nil {
		t.Fatal(err)
	}
	refused(b, nil, "named with another key (fingerprint "+domain.KeyFingerprint(one))

	if k, err := parseStreamKey(" " + hex.EncodeToString(one) + "\n"); err != nil || !bytes.Equal(k, one) {
		t.Fatal(k, err)
	}
	for _, bad := range []string{"", "01", strings.Repeat("x", 64), strings.Repeat("0", 66)} {
		if _, err := parseStreamKey(bad); err == nil {
			t.Errorf("%q is taken for a key", bad)
		}
	}
}
