package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// binary is the program under test. It lies in a checkout, or in a tree like one,
// and finds the ClickHouse library by itself.
var binary string

// repository is the root of the checkout.
var repository string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "sojourn-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := build(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// build takes the binary that SOJOURN_E2E_BINARY names, as make test does; else
// it builds one from the sources as they are, in a tree like that of a checkout.
func build(dir string) error {
	var err error
	if repository, err = filepath.Abs(".."); err != nil {
		return err
	}
	if given := os.Getenv("SOJOURN_E2E_BINARY"); given != "" {
		binary, err = filepath.Abs(given)
		if err == nil {
			_, err = os.Stat(binary)
		}
		if err != nil {
			return fmt.Errorf("SOJOURN_E2E_BINARY: %w", err)
		}
		return nil
	}
	if err := checkout(dir); err != nil {
		return err
	}
	binary = filepath.Join(dir, "bin", "sojourn")
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	args := append([]string{"build"}, raceFlags...)
	cmd := exec.CommandContext(ctx, "go", append(args, "-o", binary, "./cmd/sojourn")...)
	cmd.Dir = repository
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the binary: %w\n%s", err, out)
	}
	return nil
}

// checkout makes a directory in which bin/sojourn finds the ClickHouse library
// as it does in a checkout.
func checkout(dir string) error {
	library := filepath.Join(dir, "warehouse", "chdb", "lib")
	for _, parent := range []string{filepath.Join(dir, "bin"), filepath.Dir(library)} {
		if err := os.MkdirAll(parent, 0o755); err != nil {
			return err
		}
	}
	return os.Symlink(filepath.Join(repository, "warehouse", "chdb", "lib"), library)
}
