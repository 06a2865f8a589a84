package main

import (
	"errors"
	"io/fs"
	"strings"
	"syscall"

	"sojourn/api/client"
	"sojourn/cmd/sojourn/yamlfile"
	"sojourn/warehouse/chdb"
)

// explain makes one line of an error, with what to do about it.
func explain(err error) string {
	text := strings.TrimSpace(err.Error())
	var status *client.StatusError
	switch {
	case errors.Is(err, syscall.EADDRINUSE), errors.Is(err, chdb.ErrAddressInUse):
		text = addHint(text, "stop what listens there, or choose another address with --listen or --clickhouse-listen")
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		text = addHint(text, "choose an address of this machine with --listen or --clickhouse-listen")
	case errors.Is(err, chdb.ErrLibraryMissing) && !strings.Contains(text, "make lib"):
		text = addHint(text, "run `make lib`, or name libchdb.so by --clickhouse-library or "+chdb.LibraryEnv)
	case errors.Is(err, syscall.ENOSPC):
		text = addHint(text, "the disk is full: make room, or move the data directory (--data), then start again")
	case errors.Is(err, syscall.EDQUOT):
		text = addHint(text, "the disk quota is used up: make room, then start again")
	case errors.Is(err, syscall.EROFS):
		text = addHint(text, "the file system is read-only: choose another data directory with --data")
	case errors.Is(err, fs.ErrNotExist):
		text = addHint(text, "check the path")
	case errors.Is(err, fs.ErrPermission):
		text = addHint(text, "give this user access, or choose another path")
	case errors.As(err, &status) && status.Status == 401 && status.Detail != "":
		text = addHint(text, "give it with --token or SOJOURN_ADMIN_TOKEN, or name the server's data directory with --data")
	}
	// Mistakes in a file come a line each; all else is one line.
	var mistake *yamlfile.Error
	if !errors.As(err, &mistake) {
		text = strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
	}
	return text
}

func addHint(text, hint string) string {
	// Some parts say themselves what to do.
	if strings.Contains(text, ";") {
		return text
	}
	return text + "; " + hint
}
