package main

import (
	"archive/tar"
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"sojourn/api"
	"sojourn/automation/delivery"
	"sojourn/eventstore"
	"sojourn/eventstore/pebblestore"
)

// A backup is a tar file, in this order: backupFile, the stream key, where it is
// asked for the key of the secrets of destinations, the files of the log under the names they have in a data directory, and sumsFile, which
// sha256sum -c reads.
const (
	backupFile   = "backup.json"
	sumsFile     = "SHA256SUMS"
	backupFormat = 1

	checkpointDir = "backup" // in the data directory, while a backup is taken
)

// backupInfo is the first entry of a backup.
type backupInfo struct {
	Format  int       `json:"format"`
	Version string    `json:"version"` // of the program that made it
	TakenAt time.Time `json:"taken_at"`
	// Position is that of an event near the log's end; all up to it are there.
	Position eventstore.Position `json:"position"`
	// Bytes is the size of all entries but the first and the last.
	Bytes int64 `json:"bytes"`
}

// embedded returns the log in the data directory, if it is there.
func embedded(log eventLog) (*pebblestore.Store, bool) {
	if copied, ok := log.(copiedLog); ok {
		log = copied.eventLog
	}
	s, ok := log.(*pebblestore.Store)
	return s, ok
}

// errLogElsewhere is about a data directory that holds no log of its own.
var errLogElsewhere = fmt.Errorf("%w: the log is in EventStoreDB; back it up there, or copy it into a directory with sojourn copy, and keep %s", api.ErrNoBackup, keyFile)

// heldBackup is a checkpoint of the log that is to be written out.
type heldBackup struct {
	ctx     context.Context
	dir     string // the checkpoint
	key     []byte // the stream key
	secret  []byte // the key of the secrets of destinations; nil where it is left out
	info    backupInfo
	release func()
}

// backups returns what holds the log as it stands, for one backup at a time.
func (d *dataDir) backups(log eventLog) func(context.Context, bool) (api.Backup, error) {
	var busy sync.Mutex
	// What a process that was killed has left behind holds room; where it stays,
	// the next backup says why.
	_ = os.RemoveAll(filepath.Join(d.path, checkpointDir))
	return func(ctx context.Context, withSecretKey bool) (_ api.Backup, err error) {
		store, ok := embedded(log)
		if !ok {
			return nil, errLogElsewhere
		}
		if !busy.TryLock() {
			return nil, fmt.Errorf("%w: another one is being taken", api.ErrNoBackup)
		}
		b := &heldBackup{ctx: ctx, dir: filepath.Join(d.path, checkpointDir), release: busy.Unlock}
		defer func() {
			if err != nil {
				err = errors.Join(err, b.Close())
			}
		}()
		if err := os.RemoveAll(b.dir); err != nil {
			return nil, err
		}
		if b.key, err = os.ReadFile(filepath.Join(d.path, keyFile)); err != nil {
			return nil, fmt.Errorf("read the stream key: %w", err)
		}
		if withSecretKey {
			b.secret, err = os.ReadFile(filepath.Join(d.path, delivery.KeyFile))
			if errors.Is(err, fs.ErrNotExist) {
				return nil, fmt.Errorf("%w with the key of the secrets: it is not in the data directory but in %s; keep it apart", api.ErrNoBackup, delivery.KeyEnv)
			}
			if err != nil {
				return nil, fmt.Errorf("read the key of the secrets: %w", err)
			}
		}
		b.info = backupInfo{Format: backupFormat, Version: version, TakenAt: time.Now().UTC()}
		if b.info.Position, err = store.Head(ctx); err != nil {
			return nil, err
		}
		if err := store.Checkpoint(ctx, b.dir); err != nil {
			return nil, err
		}
		b.info.Bytes = int64(len(b.key) + len(b.secret))
		err = filepath.WalkDir(b.dir, func(_ string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			i, err := e.Info()
			if err == nil {
				b.info.Bytes += i.Size()
			}
			return err
		})
		return b, err
	}
}

// Close removes the checkpoint and lets the next backup begin.
func (b *heldBackup) Close() error {
	defer b.release()
	return os.RemoveAll(b.dir)
}

// WriteTo writes the tar file.
func (b *heldBackup) WriteTo(w io.Writer) (int64, error) {
	counted := &countingWriter{w: w}
	buffered := bufio.NewWriterSize(counted, 256<<10)
	t := tar.NewWriter(buffered)
	var sums strings.Builder
	entry := func(name string, size int64, content io.Reader) error {
		if err := b.ctx.Err(); err != nil {
			return err
		}
		if err := t.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: size, ModTime: b.info.TakenAt.Truncate(time.Second), Format: tar.FormatPAX}); err != nil {
			return err
		}
		hash := sha256.New()
		if _, err := io.Copy(io.MultiWriter(t, hash), content); err != nil {
			return err
		}
		fmt.Fprintf(&sums, "%x  %s\n", hash.Sum(nil), name)
		return nil
	}
	text := func(name, content string) error {
		return entry(name, int64(len(content)), strings.NewReader(content))
	}
	info, err := json.MarshalIndent(b.info, "", "  ")
	if err == nil {
		err = text(backupFile, string(info)+"\n")
	}
	if err == nil {
		err = text(keyFile, string(b.key))
	}
	if err == nil && b.secret != nil {
		err = text(delivery.KeyFile, string(b.secret))
	}
	if err == nil {
		err = filepath.WalkDir(b.dir, func(name string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			f, err := os.Open(name)
			if err != nil {
				return err
			}
			defer func() { _ = f.Close() }()
			i, err := f.Stat()
			if err != nil {
				return err
			}
			within, err := filepath.Rel(b.dir, name)
			if err != nil {
				return err
			}
			return entry(path.Join(logDir, filepath.ToSlash(within)), i.Size(), f)
		})
	}
	if err == nil {
		err = text(sumsFile, sums.String())
	}
	if err == nil {
		err = errors.Join(t.Close(), buffered.Flush())
	}
	return counted.n, err
}

type countingWriter struct {
	w io.Writer
	n int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

func newBackup() *cobra.Command {
	var r remote
	var to string
	var withSecretKey bool
	c := &cobra.Command{
		Use:   "backup",
		Short: "Back up the log, while the server runs or not",
		Long: "Writes the log as it stands and the key that names its streams into one file, and checks what\n" +
			"was written. A server that runs goes on meanwhile. The views are not part of it: sojourn\n" +
			"restore makes a data directory of the file, and the first start there builds them.\n\n" +
			"Whoever has the file can read everything; it is made with mode 0600. The key that encrypts the\n" +
			"secrets of destinations is left out, unless --with-secret-key asks for it.",
		Args: noArgs,
	}
	r.flags(c.Flags())
	c.Flags().StringVar(&to, "to", "", "`file` to write, which must not exist, or a directory to put it in; - for standard output")
	c.Flags().BoolVar(&withSecretKey, "with-secret-key", false, "take in the key of the secrets of destinations, too")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if to == "" {
			return usageError{errors.New("backup needs --to; sojourn backup --help shows how it is used")}
		}
		return backup(c.Context(), &r, to, withSecretKey, c.OutOrStdout(), c.ErrOrStderr())
	}
	return c
}

// backup takes a backup from the server, or from a directory that none uses.
func backup(ctx context.Context, r *remote, to string, withSecretKey bool, out, errOut io.Writer) (err error) {
	var stream io.ReadCloser
	server := r.server
	if server == "" {
		server = os.Getenv("SOJOURN_SERVER")
	}
	data, err := existingData(ctx, Config{Data: r.data, LogLevel: "error"}, server)
	switch {
	case server != "" || errors.Is(err, errInUse):
		cl, err := r.client(true)
		if err != nil {
			return err
		}
		if stream, err = cl.Backup(ctx, withSecretKey); err != nil {
			return err
		}
	case err != nil:
		return err
	default:
		log := slog.New(slog.NewTextHandler(errOut, &slog.HandlerOptions{Level: slog.LevelError}))
		stopping := stopList{log: log}
		defer func() { err = errors.Join(err, stopping.stop()) }()
		stopping.add("data directory", data.close)
		if _, err := os.Stat(filepath.Join(data.path, idIndexDir)); err == nil {
			return errLogElsewhere
		}
		if _, err := os.Stat(filepath.Join(data.path, logDir)); err != nil {
			return fmt.Errorf("%s holds no log: %w", data.path, err)
		}
		store, err := data.openStore(ctx, &Config{}, log)
		if err != nil {
			return err
		}
		stopping.add("event store", store.Close)
		held, err := data.backups(store)(ctx, withSecretKey)
		if err != nil {
			return err
		}
		reader, writer := io.Pipe()
		closed := make(chan struct{})
		go func() {
			defer close(closed)
			_, err := held.WriteTo(writer)
			writer.CloseWithError(errors.Join(err, held.Close()))
		}()
		// Whoever stops reading early still leaves no checkpoint behind.
		stopping.add("checkpoint", func() error {
			<-closed
			return nil
		})
		stream = reader
	}
	defer func() { _ = stream.Close() }()
	return keepBackup(stream, to, out, errOut)
}

// keepBackup writes a backup to a file, and checks it on the way.
func keepBackup(stream io.Reader, to string, out, errOut io.Writer) error {
	if to == "-" {
		_, err := readBackup(io.TeeReader(stream, out), newProgress(errOut, "backup", 0, true), discardEntry)
		return err
	}
	dir, name := filepath.Split(to)
	if i, err := os.Stat(to); name == "" && err != nil {
		return usageError{fmt.Errorf("--to: the directory %s is not there", to)}
	} else if err == nil && i.IsDir() {
		dir, name = to, "sojourn-"+time.Now().UTC().Format("20060102T150405Z")+".tar"
	}
	to = filepath.Join(dir, name)
	if _, err := os.Lstat(to); err == nil {
		return fmt.Errorf("%s is there already; name another file", to)
	}
	f, err := os.CreateTemp(dir, name+".*.part") // mode 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	info, err := readBackup(io.TeeReader(stream, f), newProgress(errOut, "backup", 0, true), discardEntry)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), to); errors.Is(err, fs.ErrExist) {
		return err
	} else if err != nil { // a file system without links
		if err := os.Rename(f.Name(), to); err != nil {
			return err
		}
	}
	if err := syncDir(filepath.Dir(to)); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s holds the log up to position %d or a little more, and the key of its streams.\n", to, info.Position)
	return err
}

// discardEntry reads an entry of a backup to its end.
func discardEntry(_ string, content io.Reader) error {
	_, err := io.Copy(io.Discard, content)
	return err
}

func syncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
