package chdb

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
)

// LibraryEnv names the library where it is not beside the binary.
const LibraryEnv = "SOJOURN_CHDB_LIB"

// ErrLibraryMissing is what errors.Is finds where libchdb.so is nowhere.
var ErrLibraryMissing = errors.New("the clickhouse library is missing")

// Locate finds libchdb.so: a path given, else the environment, else beside the
// running binary, else where npm installs it, in the binary's folder and the
// working directory and those above them.
func Locate(given string) (string, error) {
	if given == "" {
		given = os.Getenv(LibraryEnv)
	}
	if given != "" {
		if info, err := os.Stat(given); err == nil && info.IsDir() {
			given = filepath.Join(given, libraryFile)
		}
		if _, err := os.Stat(given); err != nil {
			return "", fmt.Errorf("%w: %s does not exist (it is named by the configuration or by %s)", ErrLibraryMissing, given, LibraryEnv)
		}
		return filepath.Abs(given)
	}
	var dirs []string
	if exe, err := os.Executable(); err == nil {
		if real, err := filepath.EvalSymlinks(exe); err == nil {
			exe = real
		}
		dirs = append(dirs, filepath.Dir(exe))
	}
	if wd, err := os.Getwd(); err == nil {
		dirs = append(dirs, wd)
	}
	for _, dir := range dirs {
		for {
			for _, place := range libraryPlaces() {
				path := filepath.Join(dir, place)
				if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
					return path, nil
				}
			}
			parent := filepath.Dir(dir)
			if parent == dir {
				break
			}
			dir = parent
		}
	}
	return "", fmt.Errorf("%w: run `make lib`, or name a %s by %s", ErrLibraryMissing, libraryFile, LibraryEnv)
}

const libraryFile = "libchdb.so"

// libraryPlaces are relative to the binary's folder and those above it.
func libraryPlaces() []string {
	pkg := filepath.Join("node_modules", "@chdb", npmPackage(), libraryFile)
	return []string{
		libraryFile,
		filepath.Join("lib", libraryFile),
		filepath.Join("warehouse", "chdb", "lib", pkg),
		pkg,
	}
}

// npmPackage is the package that carries the library for this machine.
func npmPackage() string {
	arch := map[string]string{"amd64": "x64", "arm64": "arm64"}[runtime.GOARCH]
	if runtime.GOOS == "darwin" {
		return "lib-darwin-" + arch
	}
	return "lib-linux-" + arch + "-gnu"
}
