package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sojourn/api/client"
	"sojourn/cmd/sojourn/importer"
)

func newImportBalances() *cobra.Command {
	var r remote
	var format, mapping, programme string
	var maxPrinted int
	c := &cobra.Command{
		Use:   "balances --programme P PATH",
		Short: "Import points and tiers from another loyalty engine",
		Long: "Records the opening balances of a loyalty programme: points with their expiry, tier and its\n" +
			"end. docs/import.md says which columns are read; --mapping names others. PATH - reads standard\n" +
			"input. A file imported again adds nothing. The exit status is 3 where rows could not be used.",
		Args: oneArg("the file to import"),
	}
	r.flags(c.Flags())
	c.Flags().StringVar(&programme, "programme", "", "id of the loyalty `programme` in the policy")
	c.Flags().StringVar(&format, "format", "", "csv or jsonl (default: by the name of the file, else csv)")
	c.Flags().StringVar(&mapping, "mapping", "", "YAML `file` that says what the columns mean")
	c.Flags().IntVar(&maxPrinted, "max-problems", 20, "how many problems with rows are printed; all are counted")
	c.RunE = func(c *cobra.Command, args []string) error {
		if programme == "" {
			return usageError{errors.New("name the loyalty programme with --programme; the default policy has one, default")}
		}
		f := importer.Format(format)
		if format == "" {
			f = formatOf(args[0])
		}
		if f != importer.CSV && f != importer.JSONL {
			return usageError{fmt.Errorf("--format is csv or jsonl, not %q", format)}
		}
		m := importer.StandardBalances()
		if mapping != "" {
			var err error
			m, err = importer.LoadBalanceMapping(mapping)
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
				return fmt.Errorf("mapping: %w", err)
			}
			if err != nil {
				return err
			}
		}
		file, _, err := openInput(args[0], c.InOrStdin())
		if err != nil {
			return err
		}
		defer func() { _ = file.Close() }()
		cl, err := r.client(true)
		if err != nil {
			return err
		}
		i := balanceImport{importRun: importRun{c: c, client: cl, maxPrinted: maxPrinted}, programme: programme}
		return i.run(c.Context(), file, f, m)
	}
	return c
}

// formatOf is the format that the name of a file tells.
func formatOf(path string) importer.Format {
	switch strings.ToLower(filepath.Ext(path)) {
	case ".jsonl", ".ndjson":
		return importer.JSONL
	}
	return importer.CSV
}

// The size of a request with opening balances.
const (
	requestBalances = 500
	requestParts    = 5000
)

type balanceImport struct {
	importRun
	programme string
	refused   int
	sum       client.OpeningResult
}

func (i *balanceImport) run(ctx context.Context, file io.Reader, format importer.Format, m *importer.BalanceMapping) error {
	started := time.Now()
	i.progress = newProgress(i.c.ErrOrStderr(), "import", 0, false)
	defer i.progress.finish()
	list, bad, err := importer.Balances(file, format, m, i.programme)
	i.unusable = len(bad)
	for _, b := range bad {
		i.say(b.Error())
	}
	if err != nil {
		return err
	}
	i.progress.setTotal(int64(len(list)))
	sent := 0
	for batch := range batches(list) {
		if err := i.send(ctx, batch); err != nil {
			return fmt.Errorf("the import broke off after %d balances, and can be started again: %w", sent, err)
		}
		sent += len(batch)
		i.progress.set(int64(sent))
	}
	i.progress.finish()
	if _, err := fmt.Fprintf(i.c.OutOrStdout(), "%d balances sent in %v: %d accepted, %d known already, %d refused; %d rows could not be used\n",
		sent, time.Since(started).Round(10*time.Millisecond), i.sum.Accepted, i.sum.Known, i.refused, i.unusable); err != nil {
		return err
	}
	if i.unusable > 0 || i.refused > 0 {
		return exitBadRows
	}
	return nil
}

// batches cuts the balances into requests.
func batches(list []importer.Balance) iter.Seq[[]importer.Balance] {
	return func(yield func([]importer.Balance) bool) {
		for first := 0; first < len(list); {
			n, parts := first, 0
			for n < len(list) && n-first < requestBalances && (n == first || parts+len(list[n].Parts) <= requestParts) {
				parts += len(list[n].Parts)
				n++
			}
			if !yield(list[first:n]) {
				return
			}
			first = n
		}
	}
}

func (i *balanceImport) send(ctx context.Context, batch []importer.Balance) error {
	out := make([]client.OpeningBalance, len(batch))
	byRow := make(map[string]importer.Balance, len(batch))
	for n, b := range batch {
		byRow[b.Row] = b
		out[n] = client.OpeningBalance{Row: b.Row, Subject: b.Subject, Parts: make([]client.OpeningPart, len(b.Parts)), Tier: b.Tier, TierUntil: b.TierUntil}
		for k, p := range b.Parts {
			out[n].Parts[k] = client.OpeningPart(p)
		}
	}
	got, err := i.client.OpenBalances(ctx, i.programme, out)
	if err != nil {
		return err
	}
	i.sum.Accepted += got.Accepted
	i.sum.Known += got.Known
	i.refused += len(got.Errors)
	for _, e := range got.Errors {
		b := byRow[e.Row]
		i.problem(b.Line, fmt.Sprintf("%s: %s", b.Subject, e.Message))
	}
	return nil
}
