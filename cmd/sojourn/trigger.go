package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sojourn/api"
	"sojourn/automation/trigger"
	"sojourn/cmd/sojourn/yamlfile"
	"sojourn/domain/fact"
)

func newTrigger() *cobra.Command {
	var r remote
	c := &cobra.Command{
		Use:   "trigger",
		Short: "Check, apply, pause and try triggers",
		Long: "A trigger says what is done when a customer changes. It is a YAML file; docs/automation.md\n" +
			"describes it. validate and schema need no server.",
		Args: noArgs,
	}
	r.flags(c.PersistentFlags())
	c.AddCommand(
		&cobra.Command{
			Use: "schema", Short: "Print the JSON Schema of a trigger file, for editors", Args: noArgs,
			RunE: func(c *cobra.Command, _ []string) error {
				b, err := trigger.Schema()
				if err != nil {
					return err
				}
				_, err = c.OutOrStdout().Write(b)
				return err
			},
		},
		newTriggerValidate(&r), newTriggerApply(&r), newTriggerList(&r), newTriggerHistory(&r), newTriggerTest(&r), newTriggerDryRun(&r),
		newTriggerPause(&r, true), newTriggerPause(&r, false), newTriggerDeliveries(&r), newTriggerSend(&r),
	)
	return c
}

func newTriggerValidate(r *remote) *cobra.Command {
	c := &cobra.Command{
		Use:     "validate FILE",
		Aliases: []string{"check"},
		Short:   "Check a trigger file",
		Long: "Checks a trigger file by itself. With --server or --data it also asks that server whether it\n" +
			"knows the segments, tiers and destinations that the file names.",
		Args: oneArg("the trigger file"),
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		text, d, err := loadTrigger(args[0])
		if err != nil {
			return err
		}
		if c.Flags().Changed("server") || c.Flags().Changed("data") {
			cl, err := r.client(true)
			if err != nil {
				return err
			}
			problems, err := cl.ValidateTrigger(c.Context(), text)
			for _, pr := range problems {
				err = errors.Join(err, &yamlfile.Error{File: args[0], Line: pr.Line, Column: pr.Column, Message: pr.Message})
			}
			if err != nil {
				return err
			}
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "%s is valid: trigger %s, action %s\n", args[0], d.ID, d.Do.Action())
		return err
	}
	return c
}

// loadTrigger reads a trigger file and checks it as far as that needs no server.
func loadTrigger(path string) (string, trigger.Document, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", trigger.Document{}, fmt.Errorf("trigger: %w", err)
	}
	d, err := readTrigger(path, data, &trigger.Names{Env: standardEnv()})
	return string(data), d, err
}

func newTriggerApply(r *remote) *cobra.Command {
	var in api.TriggerSource
	var existing, yes bool
	c := &cobra.Command{
		Use:   "apply FILE",
		Short: "Put a trigger in force",
		Long:  "Puts a trigger in force where it differs from the version that is. It acts on changes that are\nfound from then on. It can be repeated.",
		Args:  oneArg("the trigger file"),
	}
	c.Flags().StringVar(&in.Author, "author", "", "`name` of who decides, kept with the version")
	c.Flags().StringVar(&in.Reason, "reason", "", "why, in your own `words`, kept with the version")
	c.Flags().BoolVar(&existing, "fire-existing", false, "begin with those who are in the segment already, by its last change; says how many and asks")
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	c.Flags().IntVar(&in.ExpectedVersion, "expect", 0, "apply only where this `version` is in force")
	c.RunE = func(c *cobra.Command, args []string) (err error) {
		if in.Source, _, err = loadTrigger(args[0]); err != nil {
			return err
		}
		cl, err := r.client(true)
		if err != nil {
			return err
		}
		if existing {
			in.Fire = "existing"
		}
		a, err := cl.ApplyTrigger(c.Context(), in)
		if err != nil {
			return mistakesIn(args[0], err)
		}
		if a.Confirm != nil {
			if _, err := fmt.Fprintf(c.OutOrStdout(), "%d customers are in the segment by its last change\n", *a.Confirm); err != nil {
				return err
			}
			if !yes {
				ok, err := agreed(c)
				if err == nil && !ok {
					_, err = fmt.Fprintln(c.OutOrStdout(), "nothing is applied")
				}
				if !ok || err != nil {
					return err
				}
			}
			in.Confirm = a.Confirm
			if a, err = cl.ApplyTrigger(c.Context(), in); err != nil {
				return mistakesIn(args[0], err)
			}
		}
		text := "version %[1]d of trigger %[2]s is in force\n"
		if !a.Applied {
			text = "version %[1]d of trigger %[2]s says the same and is in force already\n"
		}
		t, err := cl.Trigger(c.Context(), a.ID)
		if err != nil {
			return err
		}
		if t.Paused {
			text += "it is paused; sojourn trigger resume %[2]s lets it go on\n"
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), text, a.Version, a.ID)
		return err
	}
	return c
}

// agreed asks on the terminal whether to go on; it is an error where nobody answers.
func agreed(c *cobra.Command) (bool, error) {
	if _, err := fmt.Fprint(c.OutOrStdout(), "begin with them? (yes/no) "); err != nil {
		return false, err
	}
	var answer string
	if _, err := fmt.Fscanln(c.InOrStdin(), &answer); err != nil {
		return false, errors.New("nobody has answered; --yes goes on without asking")
	}
	return strings.EqualFold(answer, "yes") || strings.EqualFold(answer, "y"), nil
}

func newTriggerList(r *remote) *cobra.Command {
	c := &cobra.Command{Use: "list", Short: "List the triggers", Args: noArgs}
	c.RunE = func(c *cobra.Command, _ []string) error {
		cl, err := r.client(true)
		if err != nil {
			return err
		}
		all, err := cl.Triggers(c.Context())
		if err != nil {
			return err
		}
		var rows strings.Builder
		rows.WriteString("ID\tVERSION\tAPPLIED AT\tSTATE\tNAME\n")
		for _, t := range all {
			state := "active"
			if t.Paused {
				state = "paused"
			}
			fmt.Fprintf(&rows, "%s\t%d\t%s\t%s\t%s\n", t.ID, t.Version, t.AppliedAt.Format(time.RFC3339), state, t.Name)
		}
		return printTable(c.OutOrStdout(), rows.String(), 0)
	}
	return c
}

func newTriggerHistory(r *remote) *cobra.Command {
	c := &cobra.Command{Use: "history ID", Short: "List what became of a trigger, the last first", Args: oneArg("the trigger")}
	c.RunE = func(c *cobra.Command, args []string) error {
		cl, err := r.client(true)
		if err != nil {
			return err
		}
		t, err := cl.Trigger(c.Context(), args[0])
		if err != nil {
			return err
		}
		var rows strings.Builder
		rows.WriteString("AT\tWHAT\tVERSION\tAUTHOR\tREASON\n")
		for _, h := range t.History {
			fmt.Fprintf(&rows, "%s\t%s\t%d\t%s\t%s\n", h.At.Format(time.RFC3339), h.What, h.Version, h.Author, h.Reason)
		}
		return printTable(c.OutOrStdout(), rows.String(), 0)
	}
	return c
}

func newTriggerPause(r *remote, paused bool) *cobra.Command {
	var author, reason string
	use, short := "resume ID", "Let a trigger go on"
	if paused {
		use, short = "pause ID", "Stop a trigger; what waits and what happens meanwhile is not sent later"
	}
	c := &cobra.Command{Use: use, Short: short, Args: oneArg("the trigger")}
	c.Flags().StringVar(&author, "author", "", "`name` of who decides")
	c.Flags().StringVar(&reason, "reason", "", "why, in your own `words`")
	c.RunE = func(c *cobra.Command, args []string) error {
		cl, err := r.client(true)
		if err != nil {
			return err
		}
		t, err := cl.PauseTrigger(c.Context(), args[0], paused, author, reason)
		if err != nil {
			return mistakesIn("trigger "+args[0], err)
		}
		state := "goes on"
		if t.Paused {
			state = "is paused"
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "trigger %s %s\n", t.ID, state)
		return err
	}
	return c
}

func newTriggerTest(r *remote) *cobra.Command {
	c := &cobra.Command{
		Use:   "test ID CUSTOMER",
		Short: "Try a trigger on a customer; nothing is sent",
		Long: "Prints as JSON what a trigger would decide about a customer, were the last change that it is\n" +
			"about found this moment, and the message that it would send.",
		Example: "  sojourn trigger test welcome user:42",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) != 2 {
				return usageError{fmt.Errorf("%s takes the trigger and the customer", c.CommandPath())}
			}
			return nil
		},
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		cl, err := r.client(true)
		if err != nil {
			return err
		}
		var out json.RawMessage
		if err := cl.TestTrigger(c.Context(), args[0], args[1], &out); err != nil {
			return err
		}
		e := json.NewEncoder(c.OutOrStdout())
		e.SetIndent("", "  ")
		return e.Encode(out)
	}
	return c
}

func newTriggerDryRun(r *remote) *cobra.Command {
	var from, to, as string
	var list, asJSON bool
	c := &cobra.Command{
		Use:   "dry-run ID",
		Short: "Say what a trigger would have done",
		Long: "Has the server go through a past period with the version in force, as if it had been applied\n" +
			"and not paused all the while, and prints who would have got something, and what would have been\n" +
			"suppressed and why. Nothing is recorded and nothing is sent. Ctrl-C gives up.",
		Example: "  sojourn trigger dry-run welcome --from 2026-01-01\n  sojourn trigger dry-run welcome --from 2026-01-01 --to 2026-02-01 --as known --list",
		Args:    oneArg("the trigger"),
	}
	c.Flags().StringVar(&from, "from", "", "beginning of the period, a `date` or a time; needed")
	c.Flags().StringVar(&to, "to", "", "its end, which is left out; now where it is not given")
	c.Flags().StringVar(&as, "as", "occurred", "occurred: each change as known when it happened; known: the log as it was learnt")
	c.Flags().BoolVar(&list, "list", false, "print a line for each cause")
	c.Flags().BoolVar(&asJSON, "json", false, "print every line as JSON")
	c.RunE = func(c *cobra.Command, args []string) error {
		if from == "" {
			return usageError{errors.New("--from is needed: the beginning of the period, such as 2026-01-31")}
		}
		begin, err := momentArg("from", from)
		if err != nil {
			return err
		}
		var end time.Time
		if to != "" {
			if end, err = momentArg("to", to); err != nil {
				return err
			}
		}
		if as != "occurred" && as != "known" {
			return usageError{fmt.Errorf("--as: %q is not occurred or known", as)}
		}
		cl, err := r.client(true)
		if err != nil {
			return err
		}
		p := newProgress(c.ErrOrStderr(), "dry run", 0, false)
		defer p.finish()
		var last api.DryRunLine
		for l, err := range cl.DryRun(c.Context(), args[0], begin, end, as) {
			if err != nil {
				return err
			}
			last = l
			switch {
			case l.Total > 0:
				p.setTotal(int64(l.Total))
				p.set(int64(l.Done))
				continue
			case asJSON:
				p.clear()
				if err := json.NewEncoder(c.OutOrStdout()).Encode(l); err != nil {
					return err
				}
			case list && l.Delivery != nil:
				p.clear()
				if _, err := io.WriteString(c.OutOrStdout(), deliveryLine(l.Delivery)); err != nil {
					return err
				}
			}
		}
		p.finish()
		switch {
		case last.Error != "":
			return fmt.Errorf("dry run: %s", last.Error)
		case last.Result == nil:
			return errors.New("dry run: the server broke off; its log says why")
		case asJSON:
			return nil
		}
		res := last.Result
		out := fmt.Sprintf("version %d: %d causes, %d sends to %d customers\n", res.Version, res.Causes, res.Sent, res.Customers)
		var reasons []string
		for reason := range res.Suppressed {
			reasons = append(reasons, string(reason))
		}
		slices.Sort(reasons)
		for _, reason := range reasons {
			out += fmt.Sprintf("  suppressed %-12s %d\n", reason, res.Suppressed[fact.Reason(reason)])
		}
		_, err = io.WriteString(c.OutOrStdout(), out)
		return err
	}
	return c
}

func momentArg(flag, s string) (time.Time, error) {
	for _, layout := range [...]string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	return time.Time{}, usageError{fmt.Errorf("--%s: %q is no date such as 2026-01-31 and no time such as 2026-01-31T12:00:00Z", flag, s)}
}

// deliveryColumns heads the lines of deliveryLine.
const deliveryColumns = "AT\tTRIGGER\tCUSTOMER\tSTATE\tCHANGE\tDELIVERY\tERROR\n"

// deliveryLine is a delivery in one line, its cells with tabs between.
func deliveryLine(d *api.DeliveryBody) string {
	what := d.State
	if d.Reason != "" {
		what += " (" + d.Reason + ")"
	}
	at := d.DecidedAt
	if d.PlannedFor != nil {
		at = *d.PlannedFor
	}
	change := []string{d.Change, d.Programme, d.From, "->", d.To}
	if d.From == "" {
		change = []string{d.Change, d.Programme, d.To}
	}
	change = slices.DeleteFunc(change, func(s string) bool { return s == "" })
	return strings.Join([]string{at.Format(time.RFC3339), d.Trigger, d.Customer.String(), what, strings.Join(change, " "), d.ID.String(), d.Error}, "\t") + "\n"
}

func newTriggerDeliveries(r *remote) *cobra.Command {
	var trig, state, reason string
	var limit int
	c := &cobra.Command{
		Use:     "deliveries",
		Short:   "List what automation did, the newest first",
		Example: "  sojourn trigger deliveries --trigger welcome\n  sojourn trigger deliveries --state dead",
		Args:    noArgs,
	}
	c.Flags().StringVar(&trig, "trigger", "", "only of this `trigger`")
	c.Flags().StringVar(&state, "state", "", "planned, attempted, retrying, delivered, suppressed or dead")
	c.Flags().StringVar(&reason, "reason", "", "only suppressed for this `reason`")
	c.Flags().IntVar(&limit, "limit", 100, "at most this `number`, up to 1000")
	c.RunE = func(c *cobra.Command, _ []string) error {
		cl, err := r.client(true)
		if err != nil {
			return err
		}
		q := url.Values{"limit": {fmt.Sprint(limit)}}
		for key, value := range map[string]string{"trigger": trig, "state": state, "reason": reason} {
			if value != "" {
				q.Set(key, value)
			}
		}
		all, _, err := cl.Deliveries(c.Context(), q)
		if err != nil {
			return err
		}
		rows := deliveryColumns
		for i := range all {
			rows += deliveryLine(&all[i])
		}
		return printTable(c.OutOrStdout(), rows, 0)
	}
	return c
}

func newTriggerSend(r *remote) *cobra.Command {
	var author, state, trig, destination string
	c := &cobra.Command{
		Use:     "send [DELIVERY]",
		Short:   "Send by hand what has failed for good or was stale",
		Example: "  sojourn trigger send 5b91c551-00d5-5553-be83-2bebbc1ae850\n  sojourn trigger send --destination crm\n  sojourn trigger send --state stale --trigger welcome",
	}
	c.Flags().StringVar(&author, "author", "", "`name` of who decides")
	c.Flags().StringVar(&state, "state", "dead", "of all: dead, or stale")
	c.Flags().StringVar(&trig, "trigger", "", "all of this `trigger`")
	c.Flags().StringVar(&destination, "destination", "", "all of this `destination`")
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) > 1 || (len(args) == 1) == (trig+destination != "") {
			return usageError{errors.New("name a delivery, or with --trigger or --destination all of one")}
		}
		cl, err := r.client(true)
		if err != nil {
			return err
		}
		if len(args) == 1 {
			d, err := cl.SendAgain(c.Context(), args[0], author)
			if err != nil {
				return err
			}
			_, err = io.WriteString(c.OutOrStdout(), deliveryLine(&d))
			return err
		}
		planned, suppressed, err := cl.SendAllAgain(c.Context(), state, trig, destination, author)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "%d will be attempted, %d are suppressed by another limit\n", planned, suppressed)
		return err
	}
	return c
}
