package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"sojourn/api/client"
	"sojourn/cmd/sojourn/demo"
)

func newDemo() *cobra.Command {
	var r remote
	var key, end string
	var wait bool
	config := demo.Config{Customers: 2000, Days: 365, Seed: 1}
	c := &cobra.Command{
		Use:   "demo",
		Short: "Fill a running server with the history of a shop",
		Long: "Makes the history of a believable shop and sends it through the tracking API. The same seed\n" +
			"and end give the same messages: sent twice, they are there once.",
		Args: noArgs,
	}
	r.flags(c.Flags())
	c.Flags().IntVar(&config.Customers, "customers", config.Customers, "how many people come")
	c.Flags().IntVar(&config.Days, "days", config.Days, "how many days the history has")
	c.Flags().Uint64Var(&config.Seed, "seed", config.Seed, "another seed is another shop")
	c.Flags().StringVar(&end, "end", "", "`date` before which the history ends (default today, UTC)")
	c.Flags().StringVar(&key, "write-key", "", "write `key` to send with (default: one is made for this run, for the source demo-shop)")
	c.Flags().BoolVar(&wait, "wait", true, "wait until the views hold everything")
	c.RunE = func(c *cobra.Command, _ []string) error {
		config.End = time.Now().UTC().Truncate(24 * time.Hour)
		if end != "" {
			t, err := time.Parse(time.DateOnly, end)
			if err != nil {
				return usageError{fmt.Errorf("--end: %q is no date such as 2026-03-01", end)}
			}
			config.End = t
		}
		if err := config.Validate(); err != nil {
			return usageError{err}
		}
		cl, writeKey, done, err := writeKey(c.Context(), &r, key, "demo-shop", c.ErrOrStderr())
		if err != nil {
			return err
		}
		defer done()
		return sendDemo(c, cl, writeKey, config, wait)
	}
	return c
}

func sendDemo(c *cobra.Command, cl *client.Client, key string, config demo.Config, wait bool) error {
	started := time.Now()
	p := newProgress(c.ErrOrStderr(), "demo", int64(demo.Count(config)), false)
	defer p.finish()
	s := cl.NewSender(c.Context(), key, func(sent client.Sent) { p.set(int64(sent.Messages)) })
	var err error
	for m := range demo.Messages(config) {
		if err = s.Add(m); err != nil {
			break
		}
	}
	sent, closeErr := s.Close()
	p.finish()
	if err = errors.Join(err, closeErr); err != nil {
		return err
	}
	out := c.OutOrStdout()
	took := time.Since(started)
	if _, err := fmt.Fprintf(out, "%d messages of %d customers sent in %v (%.0f a second): %d new, %d known already, %d rejected\n",
		sent.Messages, config.Customers, took.Round(10*time.Millisecond), float64(sent.Messages)/took.Seconds(),
		sent.Accepted(), sent.Known, sent.Rejected); err != nil {
		return err
	}
	if !wait {
		return nil
	}
	return waitForViews(c, cl, sent)
}

// waitForViews returns when the views hold what was sent.
func waitForViews(c *cobra.Command, cl *client.Client, sent client.Sent) error {
	started := time.Now()
	p := newProgress(c.ErrOrStderr(), "the views read", 0, false)
	defer p.finish()
	var most uint64
	err := cl.WaitFor(c.Context(), sent.Position, func(lag uint64) {
		if lag > most {
			most = lag
			p.setTotal(int64(most))
		}
		p.set(int64(most - lag))
	})
	p.finish()
	if err != nil {
		return fmt.Errorf("wait for the views: %w", err)
	}
	_, err = fmt.Fprintf(c.OutOrStdout(), "the views hold them %v later\n", time.Since(started).Round(10*time.Millisecond))
	return err
}
