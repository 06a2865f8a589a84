package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"

	"github.com/spf13/cobra"

	"sojourn/api"
	"sojourn/api/client"
	"sojourn/automation/trigger"
	"sojourn/cmd/sojourn/yamlfile"
	"sojourn/docs/examples"
)

// The shop's triggers, and the destinations that they name.
var (
	demoDestinations = []string{"crm.yaml", "mail.yaml"}
	demoTriggers     = []string{"welcome.yaml", "care.yaml", "win-back.yaml"}
)

const demoAuthor = "sojourn demo"

// demoAutomation gives a server the worked triggers of docs/automation.md. Their
// destinations have invented addresses: these are made disabled and the triggers
// paused, to be read, tried and run dry. What a name stands for already stays as it
// is. ran says whether the triggers are there.
func demoAutomation(c *cobra.Command, cl *client.Client) (ran bool, err error) {
	var se *client.StatusError
	known, err := cl.Destinations(c.Context())
	if errors.As(err, &se) && (se.Status == http.StatusUnauthorized || se.Status == http.StatusNotFound) && !c.Flags().Changed("triggers") {
		return false, nil // a write key, and a server that does not act, are enough for the rest
	}
	if err != nil {
		return false, fmt.Errorf("the shop's destinations: %w", err)
	}
	there := map[string]bool{}
	for _, d := range known {
		there[d.Name] = true
	}
	for _, file := range demoDestinations {
		name, body, err := demoDestination(file)
		if err != nil {
			return false, err
		}
		if there[name] {
			continue
		}
		if _, err := cl.SaveDestination(c.Context(), name, body); err != nil {
			return false, fmt.Errorf("the shop's destination %s: %w", name, err)
		}
	}
	triggers, err := cl.Triggers(c.Context())
	if err != nil {
		return false, fmt.Errorf("the shop's triggers: %w", err)
	}
	clear(there)
	for _, t := range triggers {
		there[t.ID] = true
	}
	made := 0
	for _, file := range demoTriggers {
		source, err := examples.Automation.ReadFile(path.Join("automation", file))
		if err != nil {
			return false, err
		}
		d, err := readTrigger(file, source, &trigger.Names{Env: standardEnv()})
		if err != nil {
			return false, err
		}
		if there[d.ID] {
			continue
		}
		if _, err := cl.ApplyTrigger(c.Context(), api.TriggerSource{Source: string(source), Author: demoAuthor}); err != nil {
			return false, fmt.Errorf("the shop's trigger %s: %w", d.ID, err)
		}
		if _, err := cl.PauseTrigger(c.Context(), d.ID, true, demoAuthor, "its destination is invented"); err != nil {
			return false, fmt.Errorf("pause the shop's trigger %s: %w", d.ID, err)
		}
		made++
	}
	if made > 0 {
		_, err = fmt.Fprintf(c.OutOrStdout(), "%d triggers are applied and paused: their destinations are invented\n", made)
	}
	return true, err
}

// demoDestination is a destination of the examples, disabled.
func demoDestination(file string) (string, *api.DestinationBody, error) {
	source, err := examples.Automation.ReadFile(path.Join("automation", file))
	if err != nil {
		return "", nil, err
	}
	d, err := yamlfile.Parse(file, source)
	if err != nil {
		return "", nil, err
	}
	name, body, err := destinationOf(d)
	if err != nil {
		return "", nil, err
	}
	off := false
	body.Enabled = &off
	if body.SMTP != nil {
		body.Secret = "no password of anybody"
	}
	return name, body, nil
}

// suggestTriggers says what to ask of the shop's triggers.
func suggestTriggers(out io.Writer, r *remote, cl *client.Client, from string) error {
	where := "--data " + r.data
	if r.server != "" {
		where = "--server " + cl.Server()
	}
	_, err := fmt.Fprintf(out, "  sojourn trigger dry-run welcome --from %s %s\n", from, where)
	return err
}
