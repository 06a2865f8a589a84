package api_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"sojourn/api"
)

func TestLoadToken(t *testing.T) {
	dir := t.TempDir()
	if _, err := api.ReadToken(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("read before the first start: %v", err)
	}
	made, isNew, err := api.LoadToken(dir)
	if err != nil || !isNew || len(made) < 40 {
		t.Fatalf("%q, %v, %v", made, isNew, err)
	}
	info, err := os.Stat(filepath.Join(dir, api.TokenFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
	again, isNew, err := api.LoadToken(dir)
	if err != nil || isNew || again != made {
		t.Fatalf("the second start has %q, %v, %v", again, isNew, err)
	}
	if err := os.WriteFile(filepath.Join(dir, api.TokenFile), []byte(" \n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := api.LoadToken(dir); err == nil {
		t.Error("an empty token was taken")
	}
}
