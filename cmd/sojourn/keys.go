package main

import (
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
)

func newKeys() *cobra.Command {
	var r remote
	c := &cobra.Command{
		Use:   "keys",
		Short: "Make, list and revoke write keys",
		Long:  "A write key lets a source (an app or system) send touchpoints. Only a hash of it is kept.",
		Args:  noArgs,
	}
	r.flags(c.PersistentFlags())
	c.AddCommand(
		&cobra.Command{
			Use:   "create SOURCE",
			Short: "Make a write key and print it, this once",
			Args:  oneArg("the source, such as shop"),
			RunE: func(c *cobra.Command, args []string) error {
				cl, err := r.client(true)
				if err != nil {
					return err
				}
				k, err := cl.CreateWriteKey(c.Context(), args[0])
				if err != nil {
					return err
				}
				// The key alone on standard output: KEY=$(sojourn keys create shop).
				_, _ = fmt.Fprintf(c.ErrOrStderr(), "key %s of source %s; it is shown this once:\n", k.ID, k.Source)
				_, err = fmt.Fprintln(c.OutOrStdout(), k.WriteKey)
				return err
			},
		},
		&cobra.Command{
			Use:   "list",
			Short: "List the write keys",
			Args:  noArgs,
			RunE: func(c *cobra.Command, _ []string) error {
				cl, err := r.client(true)
				if err != nil {
					return err
				}
				keys, err := cl.WriteKeys(c.Context())
				if err != nil {
					return err
				}
				w := tabwriter.NewWriter(c.OutOrStdout(), 0, 8, 2, ' ', 0)
				_, _ = fmt.Fprintln(w, "ID\tSOURCE\tCREATED\tREVOKED")
				for _, k := range keys {
					revoked := ""
					if k.RevokedAt != nil {
						revoked = k.RevokedAt.Format(time.RFC3339)
					}
					_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", k.ID, k.Source, k.CreatedAt.Format(time.RFC3339), revoked)
				}
				return w.Flush()
			},
		},
		&cobra.Command{
			Use:   "revoke ID|SOURCE",
			Short: "Put a write key, or all of a source, out of force",
			Args:  oneArg("the id of the key, or the source"),
			RunE: func(c *cobra.Command, args []string) error {
				cl, err := r.client(true)
				if err != nil {
					return err
				}
				if err := cl.RevokeWriteKey(c.Context(), args[0]); err != nil {
					return err
				}
				_, err = fmt.Fprintln(c.OutOrStdout(), "revoked "+args[0])
				return err
			},
		},
	)
	return c
}
