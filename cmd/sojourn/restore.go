package main

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"sojourn/automation/delivery"
	"sojourn/domain"
	"sojourn/eventstore/pebblestore"
	"sojourn/internal/durable"
)

// restoringDir is where a restore gathers the files, in the data directory.
const restoringDir = "restoring"

// errBadBackup says that a file is no backup, or not the whole of one.
var errBadBackup = errors.New("this is no whole backup")

func newRestore() *cobra.Command {
	var from, to string
	c := &cobra.Command{
		Use:   "restore",
		Short: "Make a data directory of a backup",
		Long: "Makes a data directory of a file that sojourn backup wrote. Every checksum is compared, and\n" +
			"the log is read from its beginning to its end, before anything is in place. The first start\n" +
			"of a server there builds the views and makes an admin token.",
		Args: noArgs,
	}
	c.Flags().StringVar(&from, "from", "", "`file` that sojourn backup wrote; - for standard input")
	c.Flags().StringVar(&to, "data", envOr("SOJOURN_DATA", defaultConfig().Data), "data `directory` to make; it may exist, but hold no log")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if from == "" {
			return usageError{errors.New("restore needs --from; sojourn restore --help shows how it is used")}
		}
		return restore(c.Context(), from, to, c.InOrStdin(), c.OutOrStdout(), c.ErrOrStderr())
	}
	return c
}

// restore makes a data directory of a backup. The log comes into place last and
// at once: before that, the same command begins anew.
func restore(ctx context.Context, from, to string, in io.Reader, out, errOut io.Writer) (err error) {
	log := slog.New(slog.NewTextHandler(errOut, &slog.HandlerOptions{Level: slog.LevelError}))
	stopping := stopList{log: log}
	defer func() { err = errors.Join(err, stopping.stop()) }()
	if from != "-" {
		f, err := os.Open(from)
		if err != nil {
			return err
		}
		stopping.add("backup", f.Close)
		in = f
	}
	data, err := openData(ctx, to, log)
	if err != nil {
		return err
	}
	stopping.add("data directory", data.close)
	for _, name := range []string{logDir, idIndexDir, viewsDir, engineDir} {
		if _, err := os.Lstat(filepath.Join(to, name)); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s is in use already: it holds %s; name another directory with --data", to, name)
		}
	}
	gathered := filepath.Join(to, restoringDir)
	if err := os.RemoveAll(gathered); err != nil { // of a restore that was interrupted
		return err
	}
	stopping.add("files of the backup", func() error { return os.RemoveAll(gathered) })
	if err := os.MkdirAll(filepath.Join(gathered, logDir, logDir), 0o700); err != nil {
		return err
	}
	info, err := readBackup(in, newProgress(errOut, "restore", 0, true), func(name string, content io.Reader) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return writeEntry(filepath.Join(gathered, filepath.FromSlash(name)), content)
	})
	if err != nil {
		return err
	}
	if err := syncDir(filepath.Join(gathered, logDir, logDir)); err != nil {
		return err
	}
	events, err := checkLog(ctx, filepath.Join(gathered, logDir), &info, log)
	if err != nil {
		return err
	}

	// 1. The keys, without which the log is not to be there.
	key, err := os.ReadFile(filepath.Join(gathered, keyFile))
	if err != nil {
		return fmt.Errorf("%w: %w", errBadBackup, err)
	}
	if len(key) != domain.KeySize {
		return fmt.Errorf("%w: its stream key has %d bytes", errBadBackup, len(key))
	}
	there, err := os.ReadFile(filepath.Join(to, keyFile))
	if err == nil && !bytes.Equal(there, key) {
		return fmt.Errorf("%s is another key than that of the backup; name another directory with --data", filepath.Join(to, keyFile))
	}
	if err := durable.WriteFile(filepath.Join(to, keyFile), key); err != nil {
		return err
	}
	secret, err := os.ReadFile(filepath.Join(gathered, delivery.KeyFile))
	if err == nil {
		err = durable.WriteFile(filepath.Join(to, delivery.KeyFile), secret)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// 2. The log, as a whole.
	if err := os.Rename(filepath.Join(gathered, logDir), filepath.Join(to, logDir)); err != nil {
		return err
	}
	if err := syncDir(to); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%d events restored; the log ends as it stood at %s.\nStart a server on it, which builds the views: sojourn serve --data %s\n",
		events, info.TakenAt.Format("2006-01-02 15:04:05 UTC"), to)
	return err
}

// checkLog opens the log, which makes its indexes and reads every event, and
// counts the events.
func checkLog(ctx context.Context, dir string, info *backupInfo, log *slog.Logger) (events int64, err error) {
	s, err := pebblestore.Open(dir, pebblestore.Options{Logger: log})
	if err != nil {
		return 0, fmt.Errorf("%w: %w", errBadBackup, err)
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	for _, err := range s.ReadAll(ctx, 0) {
		if err != nil {
			return 0, fmt.Errorf("%w: %w", errBadBackup, err)
		}
		events++
	}
	head, err := s.Head(ctx)
	if err == nil && head < info.Position {
		err = fmt.Errorf("%w: the log ends at position %d, not at %d or behind it", errBadBackup, head, info.Position)
	}
	return events, err
}

// writeEntry writes a file that only its owner can read, durably.
func writeEntry(name string, content io.Reader) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	return errors.Join(err, f.Sync(), f.Close())
}

// readBackup reads a backup from its beginning to its end and gives each entry
// but the first and the last to a function, which reads it. It returns without an
// error only where everything is there and every checksum is right.
func readBackup(r io.Reader, p *progress, entry func(name string, content io.Reader) error) (info backupInfo, err error) {
	defer p.finish()
	t := tar.NewReader(r)
	var sums strings.Builder
	var done int64
	for first := true; ; first = false {
		h, err := t.Next()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return info, fmt.Errorf("%w: %w", errBadBackup, err)
		}
		if h.Typeflag != tar.TypeReg || first != (h.Name == backupFile) {
			return info, fmt.Errorf("%w: %q is no entry of one", errBadBackup, h.Name)
		}
		if h.Name == sumsFile {
			break
		}
		hash := sha256.New()
		content := io.TeeReader(t, hash)
		switch base, inLog := strings.CutPrefix(h.Name, logDir+"/"+logDir+"/"); {
		case first:
			if err := json.NewDecoder(content).Decode(&info); err != nil {
				return info, fmt.Errorf("%w: %s: %w", errBadBackup, backupFile, err)
			}
			if info.Format != backupFormat {
				return info, fmt.Errorf("%w of this version of Sojourn: its format is %d", errBadBackup, info.Format)
			}
			p.setTotal(info.Bytes)
			if _, err := io.Copy(io.Discard, content); err != nil {
				return info, fmt.Errorf("%w: %w", errBadBackup, err)
			}
		case h.Name == keyFile, h.Name == delivery.KeyFile, inLog && base != "" && base == filepath.Base(base) && filepath.IsLocal(base):
			before := done
			err := entry(h.Name, io.TeeReader(content, writerFunc(func(b []byte) {
				done += int64(len(b))
				p.set(done)
			})))
			if errors.Is(err, io.ErrUnexpectedEOF) {
				err = fmt.Errorf("%w: %s is cut: %w", errBadBackup, h.Name, err)
			}
			if err != nil {
				return info, err
			}
			if done-before != h.Size {
				return info, fmt.Errorf("%w: %s is cut", errBadBackup, h.Name)
			}
		default:
			return info, fmt.Errorf("%w: %q is no entry of one", errBadBackup, h.Name)
		}
		fmt.Fprintf(&sums, "%x  %s\n", hash.Sum(nil), h.Name)
	}
	want, err := io.ReadAll(t)
	if err != nil {
		return info, fmt.Errorf("%w: %w", errBadBackup, err)
	}
	if string(want) != sums.String() {
		return info, fmt.Errorf("%w: a checksum of %s is wrong", errBadBackup, sumsFile)
	}
	// The end of a tar file is read, too, so that a copy of the stream has it.
	if _, err := t.Next(); !errors.Is(err, io.EOF) {
		return info, fmt.Errorf("%w: something stands behind its end", errBadBackup)
	}
	_, err = io.Copy(io.Discard, r)
	return info, err
}

// writerFunc is told of what is read.
type writerFunc func([]byte)

func (f writerFunc) Write(b []byte) (int, error) {
	f(b)
	return len(b), nil
}
