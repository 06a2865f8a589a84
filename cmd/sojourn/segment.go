package main

import (
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"sojourn/api"
	"sojourn/cmd/sojourn/yamlfile"
	"sojourn/condition"
	"sojourn/projections"
)

func newSegment() *cobra.Command {
	var r remote
	c := &cobra.Command{
		Use:   "segment",
		Short: "List, check, apply and delete segments, and list who is in one",
		Long: "A segment is a name for the customers that meet a condition. It is a YAML file with name,\n" +
			"description and condition; docs/segments.md describes the language of conditions.",
		Args: noArgs,
	}
	r.flags(c.PersistentFlags())
	c.AddCommand(newSegmentList(&r), newSegmentApply(&r), newSegmentValidate(&r), newSegmentDelete(&r), newSegmentMembers(&r))
	return c
}

func newSegmentList(r *remote) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the segments and how many customers are in each",
		Args:  noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cl, err := r.client(true)
			if err != nil {
				return err
			}
			all, err := cl.Segments(c.Context())
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(c.OutOrStdout(), 0, 8, 2, ' ', 0)
			_, _ = fmt.Fprintln(w, "NAME\tMEMBERS\tAPPLIED\tDESCRIPTION")
			for _, s := range all {
				members := "being computed"
				if s.Members != nil {
					members = fmt.Sprint(*s.Members)
				}
				_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", s.Name, members, s.AppliedAt.Format(time.RFC3339), s.Description)
			}
			return w.Flush()
		},
	}
}

// loadSegment reads a segment file and checks it by itself.
func loadSegment(path string) (d projections.SegmentDocument, file *yamlfile.Document, err error) {
	if file, err = yamlfile.Open(path); err != nil {
		return d, nil, err
	}
	if err := file.Decode(&d); err != nil {
		return d, file, err
	}
	if d.Name == "" {
		return d, file, file.Errorf(nil, "name is missing")
	}
	if err := projections.CheckSegmentName(d.Name); err != nil {
		return d, file, file.Errorf([]string{"name"}, "%s", strings.TrimPrefix(err.Error(), "name: "))
	}
	_, err = condition.Compile(d.Condition, condition.Env{})
	if wrong := (*condition.Error)(nil); errors.As(err, &wrong) {
		return d, file, inCondition(file)(wrong.Line, wrong.Column, wrong.Message)
	}
	return d, file, err
}

// inCondition places a mistake in the condition of a file.
func inCondition(file *yamlfile.Document) func(line, column int, message string) error {
	return func(line, column int, message string) error {
		return file.Errorf([]string{"condition"}, "line %d, column %d of the condition: %s", line, column, message)
	}
}

func newSegmentValidate(r *remote) *cobra.Command {
	var sql bool
	c := &cobra.Command{
		Use:   "validate FILE",
		Short: "Check a segment file",
		Long: "Checks a segment file by itself. With --server or --data it also asks that server whether the\n" +
			"names in it are known there: stages, tiers, programmes and other segments.",
		Args: oneArg("the segment file"),
		RunE: func(c *cobra.Command, args []string) error {
			d, file, err := loadSegment(args[0])
			if err != nil {
				return err
			}
			if c.Flags().Changed("server") || c.Flags().Changed("data") || sql {
				cl, err := r.client(true)
				if err != nil {
					return err
				}
				checked, err := cl.ValidateSegment(c.Context(), d.Name, api.SegmentDocument{Description: d.Description, Condition: d.Condition})
				for _, p := range checked.Problems {
					err = errors.Join(err, inCondition(file)(p.Line, p.Column, p.Message))
				}
				if err != nil {
					return err
				}
				if sql {
					_, err = fmt.Fprintln(c.OutOrStdout(), checked.SQL)
					return err
				}
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s is valid\n", args[0])
			return err
		},
	}
	c.Flags().BoolVar(&sql, "sql", false, "print the query over the tables that gives the members")
	return c
}

func segmentSaid(c *cobra.Command, said *api.SegmentSaid) {
	c.Flags().StringVar(&said.Author, "author", "", "`name` of who decides, kept with the change")
	c.Flags().StringVar(&said.Reason, "reason", "", "why, in your own `words`, kept with the change")
}

func newSegmentApply(r *remote) *cobra.Command {
	var said api.SegmentSaid
	c := &cobra.Command{
		Use:   "apply FILE",
		Short: "Make or change a segment",
		Long: "Puts a segment in force. Who is in it is computed over the whole log, beside the views that\n" +
			"answer; until that is done, sojourn segment list says so.",
		Args: oneArg("the segment file"),
		RunE: func(c *cobra.Command, args []string) error {
			d, file, err := loadSegment(args[0])
			if err != nil {
				return err
			}
			cl, err := r.client(true)
			if err != nil {
				return err
			}
			s, err := cl.ApplySegment(c.Context(), d.Name, api.SegmentDocument{Description: d.Description, Condition: d.Condition}, said)
			if err != nil {
				return mistakes(err, "body.condition", inCondition(file))
			}
			what := "the segment %s is in force; its members are being computed\n"
			if !s.Applied {
				what = "the segment %s was in force already\n"
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), what, s.Name)
			return err
		},
	}
	segmentSaid(c, &said)
	return c
}

func newSegmentDelete(r *remote) *cobra.Command {
	var said api.SegmentSaid
	c := &cobra.Command{
		Use:   "delete NAME",
		Short: "Delete a segment",
		Args:  oneArg("the segment"),
		RunE: func(c *cobra.Command, args []string) error {
			cl, err := r.client(true)
			if err != nil {
				return err
			}
			if err := cl.DeleteSegment(c.Context(), args[0], said); err != nil {
				return err
			}
			_, err = fmt.Fprintln(c.OutOrStdout(), "deleted "+args[0])
			return err
		},
	}
	segmentSaid(c, &said)
	return c
}

func newSegmentMembers(r *remote) *cobra.Command {
	var asOf string
	var limit int
	var all bool
	c := &cobra.Command{
		Use:     "members NAME",
		Short:   "List who is in a segment: a sample, or with --csv everybody",
		Example: "  sojourn segment members big-spenders\n  sojourn segment members big-spenders --csv --as-of 2026-01-31 > members.csv",
		Args:    oneArg("the segment"),
		RunE: func(c *cobra.Command, args []string) error {
			cl, err := r.client(true)
			if err != nil {
				return err
			}
			if all {
				return cl.ExportSegment(c.Context(), args[0], asOf, c.OutOrStdout())
			}
			members, err := cl.SegmentMembers(c.Context(), args[0], asOf, limit)
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(c.OutOrStdout(), 0, 8, 2, ' ', 0)
			_, _ = fmt.Fprintln(w, "CUSTOMER\tSINCE\tCAUSE")
			for _, m := range members {
				_, _ = fmt.Fprintf(w, "%s\t%s\t%s\n", m.CustomerID, m.Since.Format(time.RFC3339), m.Cause)
			}
			return w.Flush()
		},
	}
	c.Flags().StringVar(&asOf, "as-of", "", "who was in it at this `time`: RFC 3339 or a date; now by default")
	c.Flags().IntVar(&limit, "limit", 20, "how many of the sample, 1000 at most")
	c.Flags().BoolVar(&all, "csv", false, "all members as CSV")
	return c
}
