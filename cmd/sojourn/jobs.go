package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"sojourn/api"
	"sojourn/api/client"
	"sojourn/projections"
)

// newRebuild and newVerify speak to the server that runs on the data directory;
// where none does, they open the parts themselves.

func newRebuild() *cobra.Command {
	return newJob(&cobra.Command{
		Use:   "rebuild",
		Short: "Build the views anew from the log",
		Long:  "Fills new tables from the log beside those in use, and switches to them. Readers notice nothing.",
	}, (*client.Client).Rebuild, "rebuild")
}

func newVerify() *cobra.Command {
	c := newJob(&cobra.Command{
		Use:   "verify",
		Short: "Compare every view with the log",
		Long: "Computes every view again from the log and prints each difference. The exit status is 1\n" +
			"if there is any, and 2 if the views could not be compared.",
	}, (*client.Client).Verify, "verify")
	verify := c.RunE
	c.RunE = func(c *cobra.Command, args []string) error {
		err := verify(c, args)
		if err == nil || errors.Is(err, errDifferent) {
			return err
		}
		return statusError{err, exitNotVerified}
	}
	return c
}

// The exit statuses of verify.
const (
	errDifferent    = exitError(1)
	exitNotVerified = 2
)

func newJob(c *cobra.Command, remotely func(*client.Client, context.Context) iter.Seq2[api.JobLine, error], job string) *cobra.Command {
	var r remote
	var file string
	config := defaultConfig()
	config.flags(c.Flags())
	c.Flags().StringVar(&file, "config", "", "YAML `file` of settings")
	c.Flags().StringVar(&r.server, "server", "", "`URL` of a server to do it; else the one that runs on --data, else this command itself")
	c.Flags().StringVar(&r.token, "token", "", "admin `token`; SOJOURN_ADMIN_TOKEN, else the one kept in --data")
	hide(c.Flags(), "listen", "public-url", "tls-cert", "tls-key", "policy", "clickhouse-listen", "clickhouse-password", "flush-interval")
	c.Args = noArgs
	c.RunE = func(c *cobra.Command, _ []string) error {
		config, err := loadConfig(c.Flags(), file, os.LookupEnv)
		if err != nil {
			return err
		}
		r.data = config.Data
		var lines iter.Seq2[api.JobLine, error]
		data, err := existingData(c.Context(), config, r.server)
		switch {
		case r.server != "" || errors.Is(err, errInUse):
			cl, err := r.client(true)
			if err != nil {
				return err
			}
			lines = remotely(cl, c.Context())
		case err != nil:
			return err
		default:
			lines = locally(c.Context(), data, config, job)
		}
		return show(c.OutOrStdout(), c.ErrOrStderr(), job, lines)
	}
	return c
}

func hide(fs *pflag.FlagSet, names ...string) {
	for _, name := range names {
		fs.Lookup(name).Hidden = true
	}
}

// existingData takes hold of a data directory that must be there.
func existingData(ctx context.Context, config Config, server string) (*dataDir, error) {
	if server != "" {
		return nil, nil
	}
	if _, err := os.Stat(config.Data); err != nil {
		return nil, fmt.Errorf("data directory: %w; name the one of the server with --data", err)
	}
	return openData(ctx, config.Data, config.logger())
}

// locally does a job without a server.
func locally(ctx context.Context, data *dataDir, config Config, job string) iter.Seq2[api.JobLine, error] {
	return func(yield func(api.JobLine, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		heard := true // false once the caller wants no more
		say := func(line api.JobLine, err error) {
			if heard {
				heard = yield(line, err)
			}
			if !heard {
				cancel()
			}
		}
		result, err := withViews(ctx, data, config, func(views *projections.Views) (api.JobLine, error) {
			progress := func(done, total uint64) {
				say(api.JobLine{Done: done, Total: total}, nil)
			}
			if job == "rebuild" {
				return api.JobLine{Result: "ok"}, views.Rebuild(ctx, progress)
			}
			v, err := views.Verify(ctx, api.MaxDifferences, progress)
			if err != nil {
				return api.JobLine{}, err
			}
			for _, d := range v.Differences {
				say(api.JobLine{Difference: api.DifferenceText(d)}, nil)
			}
			return api.VerifiedLine(v), nil
		})
		say(result, err)
	}
}

// withViews opens the parts that a job needs, and closes them again.
func withViews(ctx context.Context, data *dataDir, config Config, do func(*projections.Views) (api.JobLine, error)) (result api.JobLine, err error) {
	log := config.logger()
	stopping := stopList{log: log}
	defer func() { err = errors.Join(err, stopping.stop()) }()
	stopping.add("data directory", data.close)
	if config.sharesViews() {
		return result, projections.ErrManyWorkers
	}
	store, keyer, err := data.openLog(ctx, &config, log)
	if err != nil {
		return result, err
	}
	stopping.add("event store", store.Close)
	db, engine, err := data.openWarehouse(ctx, &config, nil, nil, "", log)
	if err != nil {
		return result, err
	}
	if engine != nil {
		stopping.add("clickhouse engine", engine.Close)
	}
	stopping.add("clickhouse connections", db.Close)
	_, views, err := data.startViews(ctx, &config, store, db, keyer, log, nil, &stopping)
	if errors.Is(err, projections.ErrNoPolicy) {
		return result, fmt.Errorf("%s holds no log yet; start a server on it first: sojourn serve --data %s", data.path, data.path)
	}
	if err != nil {
		return result, err
	}
	return do(views)
}

// show prints the lines of a job and turns its result into the exit status.
func show(out, errOut io.Writer, job string, lines iter.Seq2[api.JobLine, error]) error {
	p := newProgress(errOut, job, 0, false)
	defer p.finish()
	var last api.JobLine
	for l, err := range lines {
		if err != nil {
			return err
		}
		if l.Total > 0 {
			p.setTotal(int64(l.Total))
			p.set(int64(l.Done))
		}
		if l.Difference != "" {
			p.clear()
			if _, err := fmt.Fprintln(out, l.Difference); err != nil {
				return err
			}
		}
		last = l
	}
	p.finish()
	switch last.Result {
	case "ok", "different":
	case "error":
		return fmt.Errorf("%s: %s", job, last.Error)
	default:
		return fmt.Errorf("%s: the server broke off; its log says why", job)
	}
	if v := last.Verified; v != nil {
		tables := make([]string, 0, len(v.Rows))
		for t := range v.Rows {
			tables = append(tables, t)
		}
		slices.Sort(tables)
		for _, t := range tables {
			if _, err := fmt.Fprintf(out, "%s: %d rows compared, %d differ\n", t, v.Rows[t], v.Different[t]); err != nil {
				return err
			}
		}
	}
	if last.Result == "different" {
		return errDifferent
	}
	_, err := fmt.Fprintln(out, map[string]string{
		"rebuild": "the views are built anew and in use", "verify": "every view is what the log gives",
	}[job])
	return err
}
