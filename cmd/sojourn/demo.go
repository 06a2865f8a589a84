package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sojourn/api"
	"sojourn/api/client"
	"sojourn/cmd/sojourn/demo"
	"sojourn/eventstore"
)

func newDemo() *cobra.Command {
	var r remote
	var key, end, collector string
	var wait, redeem, triggers bool
	config := demo.Config{Customers: 2000, Days: 365, Seed: 1}
	c := &cobra.Command{
		Use:   "demo",
		Short: "Fill a running server with the history of a shop",
		Long: "Makes the history of a believable shop and sends it through the tracking API. The same seed\n" +
			"and end give the same messages: sent twice, they are there once. Its three triggers are\n" +
			"applied behind it, paused.\n\n" +
			"With --collector they go there; --server is asked for the rest.",
		Args: noArgs,
	}
	r.flags(c.Flags())
	c.Flags().IntVar(&config.Customers, "customers", config.Customers, "how many people come")
	c.Flags().IntVar(&config.Days, "days", config.Days, "how many days the history has")
	c.Flags().Uint64Var(&config.Seed, "seed", config.Seed, "another seed is another shop")
	c.Flags().StringVar(&end, "end", "", "`date` before which the history ends (default today, UTC)")
	c.Flags().StringVar(&key, "write-key", "", "write `key` to send with (default: one is made for this run, for the source demo-shop)")
	c.Flags().StringVar(&collector, "collector", "", "`URL` of the collector to send to, in place of the server")
	c.Flags().BoolVar(&wait, "wait", true, "wait until the views hold everything")
	c.Flags().BoolVar(&redeem, "redeem", true, "let some customers spend points when all is sent; needs the admin token")
	c.Flags().BoolVar(&triggers, "triggers", true, "apply the triggers of docs/automation.md, paused; needs the admin token")
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
		to := cl
		if collector != "" {
			if to, err = client.New(collector, ""); err != nil {
				return usageError{fmt.Errorf("--collector: %w", err)}
			}
		}
		sent, err := sendDemo(c, to, writeKey, config)
		if err != nil {
			return err
		}
		if wait && collector != "" {
			if sent.Position, err = arrived(c, cl, config); err != nil {
				return err
			}
		}
		if wait {
			if err := waitForViews(c, cl, sent); err != nil {
				return err
			}
		}
		// Behind the waiting: a command decides against the whole log, and the views
		// spare it the reading.
		best, spent, err := members(c, cl, config, redeem)
		if err != nil {
			return err
		}
		if wait && redeem {
			if err := cl.WaitFor(c.Context(), spent, nil); err != nil {
				return fmt.Errorf("wait for the views: %w", err)
			}
		}
		if triggers {
			if triggers, err = demoAutomation(c, cl); err != nil {
				return err
			}
		}
		if err := suggest(c.OutOrStdout(), cl.Server(), tokenForShell(&r), best, config.End); err != nil || !triggers {
			return err
		}
		return suggestTriggers(c.OutOrStdout(), &r, cl, config.End.AddDate(0, -3, 0).Format(time.DateOnly))
	}
	return c
}

// members finds the user with the most points, and lets some spend theirs; at is
// the position of the last redemption.
func members(c *cobra.Command, cl *client.Client, config demo.Config, redeem bool) (best string, at eventstore.Position, err error) {
	var most, spent, short int64
	for m := range demo.Members(config) {
		if m.Points > most {
			most, best = m.Points, m.User
		}
		if !redeem || m.Redeems == 0 {
			continue
		}
		pos, err := cl.Redeem(c.Context(), "user:"+m.User, m.Redeems, "voucher", m.Key)
		var se *client.StatusError
		switch {
		case errors.As(err, &se) && se.Status == http.StatusConflict:
			short++ // somebody has spent them before
		case errors.As(err, &se) && se.Status == http.StatusUnauthorized && !c.Flags().Changed("redeem"):
			redeem = false // a write key is enough for the rest
		case err != nil:
			return "", 0, fmt.Errorf("redeem points: %w", err)
		default:
			spent++
			at = max(at, pos)
		}
	}
	if redeem {
		_, err = fmt.Fprintf(c.OutOrStdout(), "%d customers have redeemed points, %d were short of them\n", spent, short)
	}
	return best, at, err
}

// tokenForShell is how a command line names the admin token without showing it.
func tokenForShell(r *remote) string {
	switch {
	case r.token != "":
		return "TOKEN"
	case os.Getenv("SOJOURN_ADMIN_TOKEN") != "":
		return "$SOJOURN_ADMIN_TOKEN"
	}
	return fmt.Sprintf("$(cat %s)", filepath.Join(r.data, api.TokenFile))
}

// suggest says what to ask: about a user's points, and the last quarter's scores.
func suggest(out io.Writer, server, token, user string, end time.Time) error {
	var b strings.Builder
	ask := func(path string) {
		fmt.Fprintf(&b, "  curl -s -H \"Authorization: Bearer %s\" \"%s/api/v1%s\"\n", token, server, path)
	}
	b.WriteString("\nTry:\n")
	if user != "" {
		ask("/customers/user:" + user + "/loyalty")
	}
	ask("/satisfaction?from=" + end.AddDate(0, -3, 0).Format(time.DateOnly) + "&to=" + end.Format(time.DateOnly))
	_, err := io.WriteString(out, b.String())
	return err
}

func sendDemo(c *cobra.Command, cl *client.Client, key string, config demo.Config) (client.Sent, error) {
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
		return sent, err
	}
	took := time.Since(started)
	if sent.Position == 0 { // a collector knows no more
		_, err = fmt.Fprintf(c.OutOrStdout(), "%d messages of %d customers sent in %v (%.0f a second), %d rejected\n",
			sent.Messages, config.Customers, took.Round(10*time.Millisecond), float64(sent.Messages)/took.Seconds(), sent.Rejected)
		return sent, err
	}
	_, err = fmt.Fprintf(c.OutOrStdout(), "%d messages of %d customers sent in %v (%.0f a second): %d new, %d known already, %d rejected\n",
		sent.Messages, config.Customers, took.Round(10*time.Millisecond), float64(sent.Messages)/took.Seconds(),
		sent.Accepted(), sent.Known, sent.Rejected)
	return sent, err
}

// arrived returns when the log holds every message of the shop, and the position of
// the last one that came. A collector's answers name no position, so the log is read
// from its beginning: what an earlier run has sent does not come again.
func arrived(c *cobra.Command, cl *client.Client, config demo.Config) (last eventstore.Position, err error) {
	missing := map[string]bool{}
	for m := range demo.Messages(config) {
		id, err := messageID(m)
		if err != nil {
			return 0, err
		}
		missing[id] = true
	}
	p := newProgress(c.ErrOrStderr(), "on their way", int64(len(missing)), false)
	defer p.finish()
	all := len(missing)
	for line, err := range cl.Tail(c.Context(), "", "", &last) {
		if err == nil && line.Error != "" {
			err = errors.New(line.Error)
		}
		if err != nil {
			return 0, fmt.Errorf("wait for the messages: %w", err)
		}
		id, err := messageID(line.Message)
		if err != nil || !missing[id] {
			continue // somebody else's
		}
		delete(missing, id)
		p.set(int64(all - len(missing)))
		if last = max(last, eventstore.Position(line.Position)); len(missing) == 0 {
			return last, nil
		}
	}
	return 0, fmt.Errorf("the server stopped before %d of %d messages had come", len(missing), all)
}

func messageID(message []byte) (string, error) {
	var m struct {
		MessageID string `json:"messageId"`
	}
	err := json.Unmarshal(message, &m)
	return m.MessageID, err
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
