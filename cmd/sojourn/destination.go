package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"sojourn/api"
	"sojourn/api/client"
	"sojourn/automation/delivery"
	"sojourn/cmd/sojourn/yamlfile"
)

func newDestination() *cobra.Command {
	var r remote
	c := &cobra.Command{
		Use:     "destination",
		Aliases: []string{"destinations"},
		Short:   "Make, list and change where deliveries go",
		Long: "A destination is where deliveries go: a webhook, an SMTP server, a topic of Kafka. It is a YAML\n" +
			"file; docs/automation.md describes it. Secrets are in no file and no list: a password is read\n" +
			"from --secret-file, a signing secret is made and shown once.",
		Args: noArgs,
	}
	r.flags(c.PersistentFlags())
	c.AddCommand(newDestinationApply(&r), newDestinationList(&r), newDestinationShow(&r), newDestinationRotate(&r),
		&cobra.Command{
			Use:   "enable NAME",
			Short: "Let deliveries go out again",
			Args:  oneArg("the destination"),
			RunE: func(c *cobra.Command, args []string) error {
				cl, err := r.client(true)
				if err != nil {
					return err
				}
				if _, err := cl.EnableDestination(c.Context(), args[0]); err != nil {
					return err
				}
				_, err = fmt.Fprintln(c.OutOrStdout(), args[0]+" is enabled; what waits goes out")
				return err
			},
		}, newDestinationDisable(&r))
	return c
}

// destinationFile is the file of a destination.
type destinationFile struct {
	Name        string          `yaml:"name"`
	Kind        string          `yaml:"kind"`
	URL         string          `yaml:"url"`
	SMTP        *delivery.SMTP  `yaml:"smtp"`
	Topic       *delivery.Topic `yaml:"topic"`
	Rate        float64         `yaml:"rate"`
	Concurrency int             `yaml:"concurrency"`
	Timeout     time.Duration   `yaml:"timeout"`
	Enabled     bool            `yaml:"enabled"`
}

// readDestination reads the file of a destination; what is wrong is named with
// line and column.
func readDestination(path string) (string, *api.DestinationBody, error) {
	d, err := yamlfile.Open(path)
	if err != nil {
		return "", nil, err
	}
	return destinationOf(d)
}

// destinationOf is the destination that a document describes.
func destinationOf(d *yamlfile.Document) (string, *api.DestinationBody, error) {
	f := destinationFile{Enabled: true}
	if err := d.Decode(&f); err != nil {
		return "", nil, err
	}
	dest := delivery.Destination{
		Name: f.Name, Kind: delivery.Kind(f.Kind), URL: f.URL, SMTP: f.SMTP, Topic: f.Topic,
		Rate: f.Rate, Concurrency: f.Concurrency, TimeoutMillis: f.Timeout.Milliseconds(),
	}
	if err := dest.Validate(); err != nil {
		var errs []error
		for _, err := range several(err) {
			var field *delivery.FieldError
			if errors.As(err, &field) {
				name := strings.TrimSuffix(field.Field, "_ms")
				err = d.Errorf(strings.Split(name, "."), "%s: %s", name, field.Problem)
			}
			errs = append(errs, err)
		}
		return "", nil, errors.Join(errs...)
	}
	return f.Name, &api.DestinationBody{
		Kind: f.Kind, URL: f.URL, SMTP: f.SMTP, Topic: f.Topic, Rate: f.Rate, Concurrency: f.Concurrency,
		TimeoutMillis: dest.TimeoutMillis, Enabled: &f.Enabled,
	}, nil
}

// several are the errors that an error joins, or the one that it is.
func several(err error) []error {
	var joined interface{ Unwrap() []error }
	if errors.As(err, &joined) {
		return joined.Unwrap()
	}
	return []error{err}
}

// readSecret reads a secret, without the line's end; nothing where no file is
// named.
func readSecret(file string, in io.Reader) (string, error) {
	if file == "" {
		return "", nil
	}
	b, err := io.ReadAll(in)
	if file != "-" {
		b, err = os.ReadFile(file)
	}
	if err != nil {
		return "", fmt.Errorf("read the secret: %w", err)
	}
	secret := strings.TrimRight(string(b), "\r\n")
	if secret == "" {
		return "", fmt.Errorf("%s holds no secret", file)
	}
	return secret, nil
}

const secretUsage = "`file` of the password, or of a signing secret of one's own; - for standard input"

func newDestinationApply(r *remote) *cobra.Command {
	var secretFile string
	c := &cobra.Command{
		Use:   "apply FILE",
		Short: "Make or change a destination",
		Long: "Makes the destination of a file, or changes the one of that name. Its secret stays where none is\n" +
			"given. A webhook that has none gets a signing secret, which is printed this once:\n\n" +
			"  SECRET=$(sojourn destination apply crm.yaml)",
		Args: oneArg("the file of the destination"),
		RunE: func(c *cobra.Command, args []string) error {
			name, body, err := readDestination(args[0])
			if err != nil {
				return err
			}
			if body.Secret, err = readSecret(secretFile, c.InOrStdin()); err != nil {
				return err
			}
			cl, err := r.client(true)
			if err != nil {
				return err
			}
			d, err := cl.SaveDestination(c.Context(), name, body)
			if err != nil {
				return passwordHint(err)
			}
			return printSaved(c, &d, d.Name+" is saved")
		},
	}
	c.Flags().StringVar(&secretFile, "secret-file", "", secretUsage)
	return c
}

// passwordHint says how a password is given, where the server asks for one.
func passwordHint(err error) error {
	var status *client.StatusError
	if errors.As(err, &status) && strings.HasPrefix(status.Detail, "secret: ") && strings.Contains(status.Detail, "password") {
		return fmt.Errorf("%w; give it with --secret-file", err)
	}
	return err
}

// printSaved has the secret of a webhook alone on standard output.
func printSaved(c *cobra.Command, d *api.DestinationSaved, what string) error {
	switch {
	case d.SigningSecret != "":
	case d.Kind == string(delivery.Webhook):
		// A script that takes standard output for the secret gets none.
		_, err := fmt.Fprintln(c.ErrOrStderr(), what+"; its signing secret is not shown again, sojourn destination rotate "+d.Name+" makes another")
		return err
	default:
		_, err := fmt.Fprintln(c.OutOrStdout(), what)
		return err
	}
	_, _ = fmt.Fprintf(c.ErrOrStderr(), "%s; its signing secret is shown this once:\n", what)
	_, err := fmt.Fprintln(c.OutOrStdout(), d.SigningSecret)
	return err
}

func newDestinationRotate(r *remote) *cobra.Command {
	var secretFile string
	var overlap time.Duration
	c := &cobra.Command{
		Use:   "rotate NAME",
		Short: "Replace the secret of a destination",
		Long: "Replaces the secret. A signing secret is made, unless one is given, and printed this once; the one\n" +
			"before stays valid for --overlap, while each webhook bears a signature of both.",
		Args: oneArg("the destination"),
		RunE: func(c *cobra.Command, args []string) error {
			seconds := int64(overlap / time.Second)
			body := api.RotateBody{OverlapSeconds: &seconds}
			var err error
			if body.Secret, err = readSecret(secretFile, c.InOrStdin()); err != nil {
				return err
			}
			cl, err := r.client(true)
			if err != nil {
				return err
			}
			d, err := cl.RotateDestination(c.Context(), args[0], &body)
			if err != nil {
				return passwordHint(err)
			}
			what := d.Name + " has a new secret"
			if d.OldUntil != nil {
				what += ", the old one is valid until " + d.OldUntil.Format(time.RFC3339)
			}
			return printSaved(c, &d, what)
		},
	}
	c.Flags().StringVar(&secretFile, "secret-file", "", secretUsage)
	c.Flags().DurationVar(&overlap, "overlap", delivery.DefaultOverlap, "`time` for which the signing secret before stays valid")
	return c
}

func newDestinationDisable(r *remote) *cobra.Command {
	var reason string
	c := &cobra.Command{
		Use:   "disable NAME",
		Short: "Keep deliveries back",
		Long:  "Deliveries wait until the destination is enabled, or are given up after three days.",
		Args:  oneArg("the destination"),
		RunE: func(c *cobra.Command, args []string) error {
			cl, err := r.client(true)
			if err != nil {
				return err
			}
			if _, err := cl.DisableDestination(c.Context(), args[0], reason); err != nil {
				return err
			}
			_, err = fmt.Fprintln(c.OutOrStdout(), args[0]+" is disabled; deliveries wait")
			return err
		},
	}
	c.Flags().StringVar(&reason, "reason", "by hand", "`text` that is shown with it")
	return c
}

func newDestinationList(r *remote) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the destinations and what waits there",
		Args:  noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cl, err := r.client(true)
			if err != nil {
				return err
			}
			return listDestinations(c.Context(), cl, c.OutOrStdout())
		},
	}
}

func listDestinations(ctx context.Context, cl interface {
	Destinations(context.Context) ([]api.Destination, error)
}, out io.Writer,
) error {
	all, err := cl.Destinations(ctx)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "NAME\tKIND\tSTATE\tWAITING\tTO\tLAST ERROR")
	for i := range all {
		d := &all[i]
		waiting, lastError := 0, ""
		if d.Status != nil {
			waiting, lastError = d.Status.Waiting, d.Status.LastError
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\n", d.Name, d.Kind, destinationState(d), waiting, destinationTo(d), lastError)
	}
	return w.Flush()
}

// destinationState is the state in words: to who has not read of circuit breakers, open
// sounds well.
func destinationState(d *api.Destination) string {
	switch {
	case !d.Enabled:
		return "disabled"
	case d.Status == nil:
		return "ready"
	}
	until := ""
	if d.Status.Until != nil {
		until = d.Status.Until.Format(time.RFC3339)
	}
	switch delivery.State(d.Status.State) {
	case delivery.StateOpen:
		return "failing, tried again at " + until
	case delivery.StateTesting:
		return "failing, one attempt at a time"
	case delivery.StatePaused:
		return "paused as it asked, until " + until
	}
	return d.Status.State
}

func destinationTo(d *api.Destination) string {
	switch {
	case d.SMTP != nil:
		return fmt.Sprintf("%s:%d", d.SMTP.Host, d.SMTP.Port)
	case d.Topic != nil:
		return d.Topic.Name + " at " + strings.Join(d.Topic.Brokers, ",")
	}
	return d.URL
}

func newDestinationShow(r *remote) *cobra.Command {
	return &cobra.Command{
		Use:   "show NAME",
		Short: "Show a destination and how it is",
		Args:  oneArg("the destination"),
		RunE: func(c *cobra.Command, args []string) error {
			cl, err := r.client(true)
			if err != nil {
				return err
			}
			d, err := cl.Destination(c.Context(), args[0])
			if err != nil {
				return err
			}
			return showDestination(&d, c.OutOrStdout())
		},
	}
}

func showDestination(d *api.Destination, out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	row := func(name, format string, args ...any) {
		_, _ = fmt.Fprintf(w, name+"\t"+format+"\n", args...)
	}
	row("name", "%s", d.Name)
	row("kind", "%s", d.Kind)
	row("to", "%s", destinationTo(d))
	state := destinationState(d)
	if d.Reason != "" {
		state += ": " + d.Reason
	}
	row("state", "%s", state)
	row("time-out", "%v", time.Duration(d.TimeoutMillis)*time.Millisecond)
	if d.Rate > 0 {
		row("rate", "%v a second", d.Rate)
	}
	secrets := fmt.Sprint(d.Secrets)
	if d.OldUntil != nil {
		secrets += ", the old one until " + d.OldUntil.Format(time.RFC3339)
	}
	row("secrets", "%s", secrets)
	row("changed", "%s", d.ChangedAt.Format(time.RFC3339))
	if s := d.Status; s != nil {
		row("waiting", "%d", s.Waiting)
		row("in flight", "%d", s.InFlight)
		row("delivered", "%d of %d attempts since the start", s.Delivered, s.Attempts)
		if s.Until != nil {
			row("next attempt", "%s, after %d failures in a row", s.Until.Format(time.RFC3339), s.Failures)
		}
		if s.LastError != "" {
			row("last error", "%s", s.LastError)
		}
	}
	return w.Flush()
}
