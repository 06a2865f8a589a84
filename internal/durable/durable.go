// Package durable writes small files that must not be lost or cut short.
package durable

import (
	"errors"
	"os"
	"path/filepath"
)

// WriteFile writes a file that only its owner can read, in place of one that is there;
// when it returns, the file is on disk as a whole. With an error the old one stands, or
// the new one does.
func WriteFile(path string, data []byte) error {
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
