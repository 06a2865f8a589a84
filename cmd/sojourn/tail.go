package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"sojourn/api"
	"sojourn/eventstore"
)

func newTail() *cobra.Command {
	var r remote
	var source, typ string
	var after uint64
	var asJSON bool
	c := &cobra.Command{
		Use:   "tail",
		Short: "Print touchpoints and rejects as they come",
		Args:  noArgs,
	}
	r.flags(c.Flags())
	c.Flags().StringVar(&source, "source", "", "only of this `source`")
	c.Flags().StringVar(&typ, "type", "", "only this `type`: track, identify, page, screen, group, alias, touchpoint or reject")
	c.Flags().Uint64Var(&after, "after", 0, "begin behind this `position` of the log; 0 for all of it (default: what comes from now on)")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON lines, with the messages as they were sent")
	c.RunE = func(c *cobra.Command, _ []string) error {
		cl, err := r.client(true)
		if err != nil {
			return err
		}
		var from *eventstore.Position
		if c.Flags().Changed("after") {
			p := eventstore.Position(after)
			from = &p
		}
		out := c.OutOrStdout()
		for line, err := range cl.Tail(c.Context(), source, typ, from) {
			if c.Context().Err() != nil {
				return nil // the user has seen enough
			}
			if err != nil {
				return err
			}
			if line.Error != "" {
				return fmt.Errorf("the server could not go on: %s", line.Error)
			}
			if err := printArrival(out, line, asJSON); err != nil {
				return err
			}
		}
		return nil
	}
	return c
}

func printArrival(out io.Writer, l api.ArrivalLine, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(out).Encode(l)
	}
	at := l.RecordedAt.Format("15:04:05.000")
	if l.Kind != "touchpoint" {
		message := string(l.Message)
		if len(message) > 120 {
			message = message[:120] + "…"
		}
		_, err := fmt.Fprintf(out, "%s  %-8s  %-10s  %s  %s\n", at, l.Kind, l.Source, l.Reason, printable(message))
		return err
	}
	name := l.Name
	if name == "" {
		name = "-"
	}
	_, err := fmt.Fprintf(out, "%s  %-8s  %-10s  %-32s  %-12s  %-8s  %s  %s\n",
		at, l.Type, l.Source, printable(name), l.Meaning, l.Channel, l.OccurredAt.Format(time.RFC3339), printable(l.Subject))
	return err
}

// printable writes out what a terminal would obey: a browser's write key is
// known to everybody, so names are what strangers have sent.
func printable(s string) string {
	if strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0 {
		return s
	}
	q := strconv.Quote(s)
	return q[1 : len(q)-1]
}
