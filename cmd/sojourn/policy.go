package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"sojourn/api"
	"sojourn/api/client"
	"sojourn/domain/lifecycle"
	"sojourn/domain/policy"
)

func newPolicy() *cobra.Command {
	c := &cobra.Command{
		Use:   "policy",
		Short: "Check, compare, preview and apply policies",
		Long: "The policy says what event names mean, who is one customer and when one is in which stage.\n" +
			"It is a YAML file; docs/policy.md describes it. It comes into force with sojourn policy apply,\n" +
			"or at a start of sojourn serve with --policy. default, validate and schema need no server.",
		Args: noArgs,
	}
	c.AddCommand(
		&cobra.Command{
			Use:   "default",
			Short: "Print the default policy, to start a file of your own from",
			Args:  noArgs,
			RunE: func(c *cobra.Command, _ []string) error {
				text, err := defaultPolicyFile()
				if err != nil {
					return err
				}
				_, err = fmt.Fprint(c.OutOrStdout(), text)
				return err
			},
		},
		&cobra.Command{
			Use:     "validate FILE",
			Aliases: []string{"check"},
			Short:   "Check a policy file",
			Args:    oneArg("the policy file"),
			RunE: func(c *cobra.Command, args []string) error {
				p, _, err := loadPolicy(args[0])
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(c.OutOrStdout(), "%s is valid: %d mappings of its own, %d channel rules\n", args[0], len(p.Events), len(p.Channels))
				return err
			},
		},
		&cobra.Command{
			Use:   "schema",
			Short: "Print the JSON Schema of a policy file, for editors",
			Args:  noArgs,
			RunE: func(c *cobra.Command, _ []string) error {
				b, err := policy.Schema()
				if err != nil {
					return err
				}
				_, err = c.OutOrStdout().Write(b)
				return err
			},
		},
		newPolicyDiff(), newPolicyPreview(), newPolicyApply(), newPolicyHistory(), newPolicyRollback(),
	)
	return c
}

// readText reads a policy file that is sent to a server, once it is valid.
func readText(path string) (string, error) {
	_, text, err := loadPolicy(path)
	return text, err
}

func newPolicyDiff() *cobra.Command {
	var r remote
	c := &cobra.Command{
		Use:   "diff [VERSION] FILE|VERSION",
		Short: "Say by what a policy differs from another",
		Long: "Compares a policy file, or a version that was applied, with another version; with the one in\n" +
			"force where only one is named.",
		Example: "  sojourn policy diff policy.yaml\n  sojourn policy diff 3 policy.yaml\n  sojourn policy diff 1 2",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) != 1 && len(args) != 2 {
				return usageError{fmt.Errorf("%s takes a policy file or a version, and before it the version to compare it with; %s --help shows how it is used", c.CommandPath(), c.CommandPath())}
			}
			return nil
		},
	}
	r.flags(c.Flags())
	c.RunE = func(c *cobra.Command, args []string) error {
		from, to, text := 0, 0, ""
		var err error
		if len(args) == 2 {
			if from, err = versionArg(args[0]); err != nil {
				return err
			}
		}
		if to, err = versionArg(args[len(args)-1]); err != nil {
			if to, text, err = 0, "", nil; err == nil {
				text, err = readText(args[len(args)-1])
			}
		}
		if err != nil {
			return err
		}
		cl, err := r.client(true)
		if err != nil {
			return err
		}
		changes, err := cl.DiffPolicies(c.Context(), from, to, text)
		if err != nil {
			return err
		}
		return printChanges(c.OutOrStdout(), changes)
	}
	return c
}

func versionArg(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		return 0, usageError{fmt.Errorf("%q is no version of the policy; sojourn policy history lists them", s)}
	}
	return n, nil
}

func printChanges(out io.Writer, changes []api.PolicyChange) error {
	if len(changes) == 0 {
		_, err := fmt.Fprintln(out, "both say the same")
		return err
	}
	orNone := func(s string) string {
		if s == "" {
			return "(none)"
		}
		return s
	}
	for _, ch := range changes {
		if _, err := fmt.Fprintf(out, "%s: %s -> %s\n", ch.Key, orNone(ch.From), orNone(ch.To)); err != nil {
			return err
		}
	}
	return nil
}

// said are the flags of who applies a policy, and why.
type said struct{ request client.ApplyRequest }

func (s *said) flags(c *cobra.Command) {
	c.Flags().StringVar(&s.request.Author, "author", "", "`name` of who decides, kept with the version")
	c.Flags().StringVar(&s.request.Reason, "reason", "", "why, in your own `words`, kept with the version")
	c.Flags().IntVar(&s.request.Expected, "expect", 0, "apply only where this `version` is in force")
}

func apply(c *cobra.Command, r *remote, request client.ApplyRequest) error {
	cl, err := r.client(true)
	if err != nil {
		return err
	}
	v, err := cl.ApplyPolicy(c.Context(), request)
	if err != nil {
		return err
	}
	text := "version %d is in force; views are being built under it\n"
	if !v.Applied {
		text = "version %d says the same and is in force already\n"
	}
	_, err = fmt.Fprintf(c.OutOrStdout(), text, v.Version)
	return err
}

func newPolicyApply() *cobra.Command {
	var r remote
	var s said
	c := &cobra.Command{
		Use:   "apply FILE",
		Short: "Put a policy in force",
		Long: "Puts a policy in force on a running server, where it differs from the one that is. Views are\n" +
			"built under it beside those that answer, and switched to when they are done. It can be repeated.",
		Args: oneArg("the policy file"),
	}
	r.flags(c.Flags())
	s.flags(c)
	c.RunE = func(c *cobra.Command, args []string) (err error) {
		if s.request.Source, err = readText(args[0]); err != nil {
			return err
		}
		return apply(c, &r, s.request)
	}
	return c
}

func newPolicyRollback() *cobra.Command {
	var r remote
	var s said
	c := &cobra.Command{
		Use:   "rollback VERSION",
		Short: "Go back to an earlier version of the policy",
		Long:  "Applies a version again, as a version of its own.",
		Args:  oneArg("the version"),
	}
	r.flags(c.Flags())
	s.flags(c)
	c.RunE = func(c *cobra.Command, args []string) (err error) {
		if s.request.Rollback, err = versionArg(args[0]); err != nil {
			return err
		}
		return apply(c, &r, s.request)
	}
	return c
}

func newPolicyHistory() *cobra.Command {
	var r remote
	var version int
	c := &cobra.Command{
		Use:   "history",
		Short: "List the policies that were applied, the last first",
		Args:  noArgs,
	}
	r.flags(c.Flags())
	c.Flags().IntVar(&version, "show", 0, "print the file of this `version` as it was given")
	c.RunE = func(c *cobra.Command, _ []string) error {
		cl, err := r.client(true)
		if err != nil {
			return err
		}
		if version != 0 {
			v, err := cl.Policy(c.Context(), version)
			if err == nil && v.Source == "" {
				v.Source, err = defaultPolicyFile()
			}
			if err != nil {
				return err
			}
			_, err = fmt.Fprint(c.OutOrStdout(), v.Source)
			return err
		}
		all, err := cl.Policies(c.Context())
		if err != nil {
			return err
		}
		var rows strings.Builder
		rows.WriteString("VERSION\tAPPLIED AT\tAUTHOR\tREASON\n")
		for _, v := range all {
			reason := v.Reason
			if v.RollbackTo != 0 {
				reason = strings.TrimSuffix(fmt.Sprintf("rollback to %d: %s", v.RollbackTo, reason), ": ")
			}
			fmt.Fprintf(&rows, "%d\t%s\t%s\t%s\n", v.Version, v.AppliedAt.Format(time.RFC3339), v.Author, reason)
		}
		return printTable(c.OutOrStdout(), rows.String(), 0)
	}
	return c
}

func newPolicyPreview() *cobra.Command {
	var r remote
	var asJSON bool
	var examples int
	c := &cobra.Command{
		Use:   "preview FILE",
		Short: "Say what a policy would change",
		Long: "Has a running server fold a policy over its log, into nothing that anyone reads, and prints\n" +
			"what would change: customers by stage, before and after, and some of them by name. Ctrl-C gives up.",
		Args: oneArg("the policy file"),
	}
	r.flags(c.Flags())
	c.Flags().BoolVar(&asJSON, "json", false, "print the whole report as JSON")
	c.Flags().IntVar(&examples, "examples", 3, "`customers` to show of each change, at most 100")
	c.RunE = func(c *cobra.Command, args []string) error {
		text, err := readText(args[0])
		if err != nil {
			return err
		}
		if asJSON && !c.Flags().Changed("examples") {
			examples = api.MaxExamples
		}
		cl, err := r.client(true)
		if err != nil {
			return err
		}
		run, err := runPreview(c.Context(), cl, text, min(max(examples, 0), api.MaxExamples), c.ErrOrStderr())
		if err != nil {
			return err
		}
		if asJSON {
			e := json.NewEncoder(c.OutOrStdout())
			e.SetIndent("", "  ")
			return e.Encode(run.Report)
		}
		return printReport(c.OutOrStdout(), run.Report)
	}
	return c
}

// runPreview runs a preview to its end, and cancels it where the context ends
// before.
func runPreview(ctx context.Context, cl *client.Client, text string, examples int, errOut io.Writer) (api.Preview, error) {
	run, err := cl.StartPreview(ctx, text)
	if err != nil {
		return run, err
	}
	p := newProgress(errOut, "preview", 0, false)
	defer p.finish()
	id := run.ID
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for run.State == "running" {
		if run.Total > 0 {
			p.setTotal(int64(run.Total))
			p.set(int64(run.Done))
		}
		select {
		case <-ctx.Done():
			return run, cancelPreview(ctx, cl, id)
		case <-tick.C:
		}
		if run, err = cl.Preview(ctx, id, examples); err != nil {
			if ctx.Err() != nil {
				err = cancelPreview(ctx, cl, id)
			}
			return run, err
		}
	}
	switch run.State {
	case "done":
		// The first answer may have been this one already, without examples.
		return cl.Preview(ctx, id, examples)
	case "cancelled":
		return run, errors.New("preview: it was cancelled")
	}
	return run, fmt.Errorf("preview: %s", run.Error)
}

func cancelPreview(ctx context.Context, cl *client.Client, id uuid.UUID) error {
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return errors.Join(ctx.Err(), cl.CancelPreview(stopping, id))
}

// printReport prints what a preview has found, for people.
func printReport(out io.Writer, r *api.PreviewReport) error {
	var b strings.Builder
	fmt.Fprintf(&b, "Compared with policy version %d at position %d of the log, as of %s.\n\nThe candidate changes:\n",
		r.PolicyVersion, r.Position, r.Clock.Format(time.RFC3339))
	if err := printChanges(&b, r.Changes); err != nil {
		return err
	}
	l := &r.Lifecycle
	b.WriteString("\nCustomers by stage, down as it is, across as it would be:\n")
	cells := map[[2]string]uint64{}
	used := map[string]bool{}
	for _, c := range l.Matrix {
		cells[[2]string{c.From, c.To}] = c.Customers
		used[c.From], used[c.To] = true, true
	}
	stages := []string{}
	for _, s := range lifecycle.Stages {
		stages = append(stages, string(s))
	}
	stages = slices.DeleteFunc(append(stages, api.NoStage), func(s string) bool { return !used[s] })
	var rows strings.Builder
	fmt.Fprintf(&rows, "\t%s\ttotal\t\n", strings.Join(stages, "\t"))
	line := func(name string, count func(to string) uint64) {
		sum := uint64(0)
		rows.WriteString(name + "\t")
		for _, to := range stages {
			n := count(to)
			sum += n
			if n == 0 {
				rows.WriteString("·\t")
				continue
			}
			fmt.Fprintf(&rows, "%d\t", n)
		}
		fmt.Fprintf(&rows, "%d\t\n", sum)
	}
	for _, from := range stages {
		line(from, func(to string) uint64 { return cells[[2]string{from, to}] })
	}
	line("total", func(to string) (sum uint64) {
		for _, from := range stages {
			sum += cells[[2]string{from, to}]
		}
		return sum
	})
	if err := printTable(&b, rows.String(), tabwriter.AlignRight); err != nil {
		return err
	}
	printWeeks(&b, l.Weeks)
	for _, c := range l.Matrix {
		if c.From == c.To || len(c.Examples) == 0 {
			continue
		}
		fmt.Fprintf(&b, "\n%s -> %s: %d, such as\n", c.From, c.To, c.Customers)
		for _, e := range c.Examples {
			fmt.Fprintf(&b, "  %s (%s)\n    as it is:       %s\n    as it would be: %s\n", e.Subject, e.ID, explained(e.ID, e.Old), explained(e.ID, e.New))
		}
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// printTable prints rows whose cells end with tabs.
func printTable(out io.Writer, rows string, flags uint) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', flags)
	_, err := io.WriteString(w, rows)
	return errors.Join(err, w.Flush())
}

// maxWeeks is how many weeks are printed for people.
const maxWeeks = 12

func printWeeks(b *strings.Builder, weeks []api.PreviewWeek) {
	if len(weeks) == 0 {
		return
	}
	b.WriteString("\nChanges of stage gained and lost, by the week they happened in")
	if n := len(weeks) - maxWeeks; n > 0 {
		fmt.Fprintf(b, " (the last %d; --json has %d more)", maxWeeks, n)
		weeks = weeks[n:]
	}
	b.WriteString(":\n")
	for _, w := range weeks {
		var parts []string
		for _, s := range lifecycle.Stages {
			if g, l := w.Gained[string(s)], w.Lost[string(s)]; g+l > 0 {
				parts = append(parts, fmt.Sprintf("%s +%d −%d", s, g, l))
			}
		}
		fmt.Fprintf(b, "  %s  %s\n", w.Week, strings.Join(parts, ", "))
	}
}

func explained(id uuid.UUID, s *api.PreviewStanding) string {
	if s == nil {
		return "nobody's"
	}
	text := fmt.Sprintf("%s since %s, %s", s.Stage, s.Since.Format(time.DateOnly), s.Reason)
	if s.ID != id {
		text = fmt.Sprintf("part of %s, which is %s", s.ID, text)
	}
	return text
}
