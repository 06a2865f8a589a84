package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"sojourn/eventstore"
	"sojourn/eventstore/esdbstore"
)

// How much is appended to the target at once.
const (
	copyEvents = 1000
	copyBytes  = 4 << 20
)

func newCopy() *cobra.Command {
	var from, to string
	var verify bool
	c := &cobra.Command{
		Use:   "copy",
		Short: "Copy the log to another store",
		Long: "Copies the whole log from one store to another: from a data directory that no server uses,\n" +
			"or an EventStoreDB, to a data directory or an EventStoreDB whose log is empty. Event ids, the\n" +
			"order of the whole log and the times at which it was recorded stay; positions change, and the\n" +
			"views are built anew by the first server that starts on the copy.\n\n" +
			"Called again, it goes on where it was interrupted, or with what has come since.",
		Args: noArgs,
	}
	c.Flags().StringVar(&from, "from", "", "data `directory`, or connection string (esdb://…) to copy from; SOJOURN_COPY_FROM")
	c.Flags().StringVar(&to, "to", "", "data `directory`, or connection string (esdb://…) to copy to; SOJOURN_COPY_TO")
	c.Flags().BoolVar(&verify, "verify", false, "compare both logs, event by event, when everything is copied")
	c.RunE = func(c *cobra.Command, _ []string) error {
		for _, f := range []struct {
			name  string
			value *string
		}{{"copy-from", &from}, {"copy-to", &to}} {
			if *f.value == "" {
				*f.value = os.Getenv(envName(f.name))
			}
		}
		if from == "" || to == "" {
			return usageError{errors.New("copy needs --from and --to; sojourn copy --help shows how it is used")}
		}
		return copyLog(c.Context(), from, to, verify, c.OutOrStdout(), c.ErrOrStderr())
	}
	return c
}

// copyEnd is one end of a copy.
type copyEnd struct {
	log eventLog
	dir string // of a data directory; else empty
}

// isConnection tells a connection string from a directory.
func isConnection(where string) bool {
	return strings.HasPrefix(where, "esdb://") || strings.HasPrefix(where, "esdb+discover://")
}

// openCopyEnd opens one end of a copy.
func openCopyEnd(ctx context.Context, where string, source bool, log *slog.Logger, stopping *stopList) (copyEnd, error) {
	if isConnection(where) {
		// The index of the copy is no one else's: a server keeps its own.
		index, err := os.MkdirTemp("", "sojourn-copy-")
		if err != nil {
			return copyEnd{}, err
		}
		stopping.add("index of event ids", func() error { return os.RemoveAll(index) })
		s, err := esdbstore.Open(ctx, esdbstore.Config{Connection: where, Dir: filepath.Join(index, idIndexDir), Logger: log})
		if err != nil {
			return copyEnd{}, err
		}
		stopping.add("event store", s.Close)
		return copyEnd{log: copiedLog{s}}, nil
	}
	if _, err := os.Stat(filepath.Join(where, logDir)); source && err != nil {
		return copyEnd{}, fmt.Errorf("%s holds no log: %w", where, err)
	}
	data, err := openData(ctx, where, log)
	if err != nil {
		return copyEnd{}, err
	}
	stopping.add("data directory", data.close)
	s, err := data.openStore(ctx, &Config{}, log)
	if err != nil {
		return copyEnd{}, err
	}
	stopping.add("event store", s.Close)
	return copyEnd{log: copiedLog{s}, dir: where}, nil
}

// copyLog copies a log.
func copyLog(ctx context.Context, from, to string, verify bool, out, errOut io.Writer) (err error) {
	log := slog.New(slog.NewTextHandler(errOut, &slog.HandlerOptions{Level: slog.LevelError}))
	stopping := stopList{log: log}
	defer func() { err = errors.Join(err, stopping.stop()) }()
	source, err := openCopyEnd(ctx, from, true, log, &stopping)
	if err != nil {
		return err
	}
	target, err := openCopyEnd(ctx, to, false, log, &stopping)
	if err != nil {
		return err
	}
	if err := copyKey(source.dir, target.dir); err != nil {
		return err
	}
	held, copied, err := walk(ctx, source.log, target.log, true, newProgress(errOut, "copy", 0, false))
	if err != nil {
		return fmt.Errorf("%w; %d events were copied, and the same command goes on behind them", err, copied)
	}
	if _, err := fmt.Fprintf(out, "%d events copied, %d were there already.\n", copied, held); err != nil {
		return err
	}
	if verify {
		same, _, err := walk(ctx, source.log, target.log, false, newProgress(errOut, "verify", 0, false))
		if err != nil {
			return statusError{err, 1}
		}
		if _, err := fmt.Fprintf(out, "Both logs hold the same %d events, in the same order.\n", same); err != nil {
			return err
		}
	}
	if source.dir != "" && target.dir == "" {
		_, err = fmt.Fprintf(out, "Put %s into the data directory of each server that will use the copy (mode 0600), before it starts, or set "+streamKeyEnv+": it names the streams.\n", filepath.Join(source.dir, keyFile))
	} else if key, _ := readStreamKey(target.dir); source.dir == "" && target.dir != "" && key == nil {
		_, err = fmt.Fprintf(out, "Put the %s of a server of the first log into %s, before a server starts there: it names the streams.\n", keyFile, target.dir)
	}
	return err
}

// copyKey takes the key that names streams along: from a directory, or from
// SOJOURN_STREAM_KEY where the source is none.
func copyKey(from, to string) error {
	if to == "" {
		return nil
	}
	var key []byte
	var err error
	if from != "" {
		key, err = readStreamKey(from)
	} else if text, ok := os.LookupEnv(streamKeyEnv); ok {
		key, err = parseStreamKey(text)
	}
	if err != nil || key == nil {
		return err // a log without subjects
	}
	return keepStreamKey(to, key)
}

// walk goes through both logs side by side, and ends with an error at the first
// difference. Where the target ends before the source, the rest is appended to
// it, or is a difference. The streams of EventStoreDB itself are no part of a
// log.
func walk(ctx context.Context, source, target eventLog, appending bool, p *progress) (held, copied int64, err error) {
	defer p.finish()
	there, stop := iter.Pull2(ofSojourn(target.ReadAll(ctx, 0)))
	defer stop()
	batch := copyBatch{log: target}
	atEnd := false
	for e, err := range ofSojourn(source.ReadAll(ctx, 0)) {
		if err != nil {
			return held, copied, fmt.Errorf("read the source: %w", err)
		}
		if !atEnd {
			t, err, more := there()
			if err != nil {
				return held, copied, fmt.Errorf("read the target: %w", err)
			}
			if more {
				if what := difference(&e, &t); what != "" {
					return held, copied, fmt.Errorf("the target holds another log: event %d has another %s (%s %s in stream %q of the source)", held+1, what, e.Type, e.ID, e.Stream)
				}
				held++
				p.set(held)
				continue
			}
			atEnd = true
		}
		if !appending {
			return held, copied, fmt.Errorf("the target ends after %d events, the source goes on with %s in stream %q", held, e.ID, e.Stream)
		}
		if batch.full(&e) {
			if copied, err = batch.flush(ctx, copied); err != nil {
				return held, copied, err
			}
			p.set(held + copied)
		}
		batch.add(&e)
	}
	if !atEnd {
		if t, err, more := there(); err != nil {
			return held, copied, fmt.Errorf("read the target: %w", err)
		} else if more {
			return held, copied, fmt.Errorf("the target holds more than the source: event %s in stream %q", t.ID, t.Stream)
		}
	}
	copied, err = batch.flush(ctx, copied)
	return held, copied, err
}

// ofSojourn leaves out the streams that EventStoreDB keeps for itself.
func ofSojourn(seq iter.Seq2[eventstore.Recorded, error]) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		for e, err := range seq {
			if strings.HasPrefix(e.Stream, "$") && err == nil {
				continue
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

// difference names what differs between two events, or nothing.
func difference(a, b *eventstore.Recorded) string {
	switch {
	case a.ID != b.ID:
		return "id"
	case a.Stream != b.Stream:
		return "stream"
	case a.Revision != b.Revision:
		return "revision"
	case a.Type != b.Type:
		return "type"
	case !a.RecordedAt.Equal(b.RecordedAt):
		return "time of recording"
	case a.Repeat != b.Repeat:
		return "standing as a repeat"
	case !bytes.Equal(a.Metadata, b.Metadata):
		return "metadata"
	case !bytes.Equal(a.Data, b.Data):
		return "data"
	}
	return ""
}

// copyBatch is what is appended to the target at once. Each part is a run of
// events of one stream, at the exact revision, so that nothing slips in between.
type copyBatch struct {
	log    eventLog
	parts  []eventstore.Append
	events int64
	bytes  int
}

func (b *copyBatch) full(e *eventstore.Recorded) bool {
	return b.events == copyEvents || b.events > 0 && b.bytes+len(e.Data)+len(e.Metadata) > copyBytes
}

func (b *copyBatch) add(e *eventstore.Recorded) {
	kept := e.Clone()
	kept.Metadata = carry(&kept)
	if n := len(b.parts); n == 0 || b.parts[n-1].Stream != kept.Stream {
		part := eventstore.Append{Stream: kept.Stream, Expected: eventstore.NoStream{}}
		if kept.Revision > 0 {
			part.Expected = eventstore.Revision(kept.Revision - 1)
		}
		b.parts = append(b.parts, part)
	}
	last := &b.parts[len(b.parts)-1]
	last.Events = append(last.Events, kept.NewEvent)
	b.events++
	b.bytes += len(kept.Data) + len(kept.Metadata)
}

// flush appends what was gathered and adds it to what is copied.
func (b *copyBatch) flush(ctx context.Context, copied int64) (int64, error) {
	if b.events == 0 {
		return copied, nil
	}
	results, err := b.log.AppendMany(ctx, b.parts)
	if err != nil {
		return copied, fmt.Errorf("append to the target: %w", err)
	}
	for i, r := range results {
		if r.Err != nil {
			return copied, fmt.Errorf("append to the target, which somebody else writes, too, or whose limits are lower: stream %q: %w", b.parts[i].Stream, r.Err)
		}
	}
	copied += b.events
	b.parts, b.events, b.bytes = b.parts[:0], 0, 0
	return copied, nil
}
