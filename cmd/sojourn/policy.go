package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"sojourn/api"
	"sojourn/api/client"
	"sojourn/cmd/sojourn/yamlfile"
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
		newPolicyValidate(), newPolicyDiff(), newPolicyPreview(), newPolicyApply(), newPolicyHistory(), newPolicyRollback(),
	)
	return c
}

func newPolicyValidate() *cobra.Command {
	var r remote
	c := &cobra.Command{
		Use:     "validate FILE",
		Aliases: []string{"check"},
		Short:   "Check a policy file",
		Long: "Checks a policy file by itself. With --server or --data it also asks that server whether the\n" +
			"policy could be applied now: rules about points may not change what is past unless they say so.",
		Args: oneArg("the policy file"),
	}
	r.flags(c.Flags())
	c.RunE = func(c *cobra.Command, args []string) error {
		p, text, err := loadPolicy(args[0])
		if err != nil {
			return err
		}
		if c.Flags().Changed("server") || c.Flags().Changed("data") {
			cl, err := r.client(true)
			if err != nil {
				return err
			}
			problems, err := cl.ValidatePolicy(c.Context(), text)
			for _, pr := range problems {
				err = errors.Join(err, &yamlfile.Error{File: args[0], Line: pr.Line, Column: pr.Column, Message: pr.Message})
			}
			if err != nil {
				return err
			}
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "%s is valid: %d events, %d channel rules and %d mappings of its own\n",
			args[0], len(p.Events), len(p.Channels), len(p.Mappings))
		return err
	}
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
			return mistakesIn(args[len(args)-1], err)
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
		return mistakesIn(args[0], apply(c, &r, s.request))
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
	c.Flags().IntVar(&version, "show", 0, "print the file of this `version` as it was given, and behind it as comments from when on its rules about points hold")
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
			_, err = fmt.Fprint(c.OutOrStdout(), withEnd(v.Source), holdsComment(&v))
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

// withEnd is a text that ends with its line.
func withEnd(text string) string {
	if text == "" || strings.HasSuffix(text, "\n") {
		return text
	}
	return text + "\n"
}

// holdsComment says from when on the rules about points of a version hold.
func holdsComment(v *api.PolicyInForce) string {
	var b strings.Builder
	for _, p := range v.HoldsFrom {
		for _, s := range [...]struct {
			key string
			at  *time.Time
		}{{"", p.From}, {".earning", p.Earning}, {".expiry", p.Expiry}, {".value", p.Value}, {".tiers", p.Tiers}} {
			if s.at != nil {
				fmt.Fprintf(&b, "#   loyalty.programmes[%s]%s: %s\n", p.Programme, s.key, s.at.Format(time.RFC3339))
			}
		}
	}
	if b.Len() == 0 {
		return ""
	}
	return fmt.Sprintf("\n# Version %d was applied at %s. Rules about points hold from\n%s", v.Version, v.AppliedAt.Format(time.RFC3339), b.String())
}

func newPolicyPreview() *cobra.Command {
	var r remote
	var since string
	var asJSON bool
	var examples int
	c := &cobra.Command{
		Use:   "preview FILE",
		Short: "Say what a policy would change",
		Long: "Has a running server fold a policy over its log, into nothing that anyone reads, and prints\n" +
			"what would change: customers by stage and by tier, before and after, and some of them by name;\n" +
			"what all points are worth. Ctrl-C gives up.",
		Example: "  sojourn policy preview policy.yaml\n  sojourn policy preview policy.yaml --since 2026-01-01",
		Args:    oneArg("the policy file"),
	}
	r.flags(c.Flags())
	c.Flags().StringVar(&since, "since", "", "take the rules about points for applied at this `date`: what would they have done since then?")
	c.Flags().BoolVar(&asJSON, "json", false, "print the whole report as JSON")
	c.Flags().IntVar(&examples, "examples", 3, "`customers` to show of each change, at most 100")
	c.RunE = func(c *cobra.Command, args []string) error {
		if examples < 0 || examples > api.MaxExamples {
			return usageError{fmt.Errorf("--examples: %d is not from 0 to %d", examples, api.MaxExamples)}
		}
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
		run, err := runPreview(c.Context(), cl, text, since, examples, c.ErrOrStderr())
		if err != nil {
			return mistakesIn(args[0], err)
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
func runPreview(ctx context.Context, cl *client.Client, text, since string, examples int, errOut io.Writer) (api.Preview, error) {
	run, err := cl.StartPreview(ctx, text, since)
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

// cancelPreview gives a preview up, and waits until it has ended: another may begin then.
func cancelPreview(ctx context.Context, cl *client.Client, id uuid.UUID) error {
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	err := cl.CancelPreview(stopping, id)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for err == nil {
		var run api.Preview
		if run, err = cl.Preview(stopping, id, 0); err == nil && run.State != "running" {
			break
		}
		select {
		case <-stopping.Done():
			err = fmt.Errorf("preview %s is cancelled, but has not ended yet", id)
		case <-tick.C:
		}
	}
	return errors.Join(ctx.Err(), err)
}
