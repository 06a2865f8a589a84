package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"sojourn/api/client"
	"sojourn/cmd/sojourn/importer"
)

// exitBadRows is the status of an import that came to its end, but left out or
// rejected rows.
const exitBadRows = exitError(3)

func newImport() *cobra.Command {
	var r remote
	var format, mapping, key string
	var wait bool
	var maxPrinted int
	c := &cobra.Command{
		Use:   "import --format csv|jsonl --mapping FILE PATH",
		Short: "Import a file of rows",
		Long: "Sends the rows of a file to a running server, by a mapping that docs/import.md describes.\n" +
			"PATH - reads standard input. A file imported again adds nothing, so an import that broke off\n" +
			"is resumed by starting it again. The exit status is 3 where rows could not be used.",
		Args: oneArg("the file to import"),
	}
	c.AddCommand(newImportBalances())
	r.flags(c.Flags())
	c.Flags().StringVar(&format, "format", "", "csv or jsonl")
	c.Flags().StringVar(&mapping, "mapping", "", "YAML `file` that says what the columns mean")
	c.Flags().StringVar(&key, "write-key", "", "write `key` of the mapping's source (default: one is made for this run)")
	c.Flags().BoolVar(&wait, "wait", true, "wait until the views hold everything")
	c.Flags().IntVar(&maxPrinted, "max-problems", 20, "how many problems with rows are printed; all are counted")
	c.RunE = func(c *cobra.Command, args []string) error {
		if format != string(importer.CSV) && format != string(importer.JSONL) {
			return usageError{fmt.Errorf("--format is csv or jsonl, not %q", format)}
		}
		if mapping == "" {
			return usageError{errors.New("name the mapping file with --mapping; docs/import.md describes it")}
		}
		m, err := importer.LoadMapping(mapping)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			return fmt.Errorf("mapping: %w", err)
		}
		if err != nil {
			return err
		}
		file, size, err := openInput(args[0], c.InOrStdin())
		if err != nil {
			return err
		}
		defer func() { _ = file.Close() }()
		cl, writeKey, done, err := writeKey(c.Context(), &r, key, m.Source, c.ErrOrStderr())
		if err != nil {
			return err
		}
		defer done()
		run := importRun{c: c, client: cl, key: writeKey, maxPrinted: maxPrinted, wait: wait}
		return run.run(c.Context(), file, size, importer.Format(format), m)
	}
	return c
}

// openInput opens a file, or standard input for -. size is 0 where it is not
// known.
func openInput(path string, stdin io.Reader) (io.ReadCloser, int64, error) {
	if path == "-" {
		return io.NopCloser(stdin), 0, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, fmt.Errorf("import: %w", err)
	}
	info, err := f.Stat()
	if err == nil && info.IsDir() {
		err = fmt.Errorf("%s is a directory; name a file", path)
	}
	if err != nil {
		return nil, 0, errors.Join(fmt.Errorf("import: %w", err), f.Close())
	}
	return f, info.Size(), nil
}

type importRun struct {
	c          *cobra.Command
	client     *client.Client
	key        string
	maxPrinted int
	wait       bool
	progress   *progress

	unusable int // rows that gave no message
	odd      int // rows that were sent, with a value that could not be read
	printed  int
}

// counting counts what is read.
type counting struct {
	io.Reader
	n atomic.Int64
}

func (r *counting) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.n.Add(int64(n))
	return n, err
}

func (i *importRun) run(ctx context.Context, file io.Reader, size int64, format importer.Format, m *importer.Mapping) error {
	started := time.Now()
	i.progress = newProgress(i.c.ErrOrStderr(), "import", size, true)
	defer i.progress.finish()
	in := &counting{Reader: file}
	s := i.client.NewSender(ctx, i.key, func(client.Sent) { i.progress.set(in.n.Load()) })
	err := i.send(s, in, format, m)
	sent, closeErr := s.Close()
	i.progress.finish()
	if err = errors.Join(err, closeErr); err != nil {
		return fmt.Errorf("the import broke off after %d rows, and can be started again: %w", sent.Messages, err)
	}
	out := i.c.OutOrStdout()
	took := time.Since(started)
	if _, err := fmt.Fprintf(out, "%d rows sent in %v (%.0f a second): %d accepted, %d known already, %d rejected; %d could not be read\n",
		sent.Messages, took.Round(10*time.Millisecond), float64(sent.Messages)/took.Seconds(),
		sent.Accepted(), sent.Known, sent.Rejected, i.unusable); err != nil {
		return err
	}
	if i.wait && sent.Messages > 0 {
		if err := waitForViews(i.c, i.client, sent); err != nil {
			return err
		}
	}
	if sent.Rejected > 0 {
		if _, err := fmt.Fprintf(out, "the rejected rows are kept; see why: %s/api/v1/rejects\n", i.client.Server()); err != nil {
			return err
		}
	}
	if i.unusable > 0 || i.odd > 0 || sent.Rejected > 0 {
		return exitBadRows
	}
	return nil
}

func (i *importRun) send(s *client.Sender, in io.Reader, format importer.Format, m *importer.Mapping) error {
	for msg, err := range importer.Messages(in, format, m) {
		var row *importer.RowError
		if errors.As(err, &row) {
			i.unusable++
			i.say(row.Error() + "; left out")
			continue
		}
		if err != nil {
			return err
		}
		for _, p := range msg.Problems {
			i.problem(msg.Line, p)
		}
		if len(msg.Problems) > 0 {
			i.odd++
		}
		if err := s.Add(msg.JSON); errors.Is(err, client.ErrTooLarge) {
			i.unusable++
			i.problem(msg.Line, err.Error()+"; left out")
		} else if err != nil {
			return err
		}
	}
	return nil
}

// problem prints what is wrong with a row.
func (i *importRun) problem(line int, text string) { i.say(fmt.Sprintf("line %d: %s", line, text)) }

// say prints what is wrong, and stops printing after a while.
func (i *importRun) say(text string) {
	i.printed++
	if i.printed > i.maxPrinted+1 {
		return
	}
	i.progress.clear()
	if i.printed == i.maxPrinted+1 {
		text = "more problems are counted, not printed"
	}
	// A terminal that has gone holds nothing up.
	_, _ = fmt.Fprintln(i.c.ErrOrStderr(), text)
}
