package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/goccy/go-yaml"

	"sojourn/api"
	"sojourn/cmd/sojourn/yamlfile"
	"sojourn/domain/policy"
)

// loadPolicy reads a policy file onto the default policy; without a file it is
// the default. text is the file as it stands. Errors name line and column.
func loadPolicy(path string) (p policy.Policy, text string, err error) {
	if path == "" {
		return policy.Default(), "", nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return p, "", fmt.Errorf("policy: %w", err)
	}
	p, err = readPolicy(path, data, nil)
	return p, string(data), err
}

// readPolicy reads the text of a policy file; name is what errors call it. They are
// *yamlfile.Error, several of them joined. Where check is not nil a valid policy must
// pass it, too.
func readPolicy(name string, data []byte, check func(policy.Policy) error) (policy.Policy, error) {
	p := policy.Default()
	d, err := yamlfile.Parse(name, data)
	if err != nil {
		return p, err
	}
	if err := d.Decode(&p); err != nil {
		return p, err
	}
	err = p.Validate()
	if err == nil && check != nil {
		err = check(p)
	}
	var problems policy.Problems
	if errors.As(err, &problems) {
		var errs []error
		for _, pr := range problems {
			errs = append(errs, d.Errorf(pr.Path, "%s", message(pr)))
		}
		return p, errors.Join(errs...)
	}
	return p, err
}

// parsePolicy reads the text of a policy file for the API.
func parsePolicy(source string, check func(policy.Policy) error) (policy.Policy, []api.PolicyProblem) {
	p, err := readPolicy("policy", []byte(source), check)
	return p, problemsOf(err)
}

// problemsOf are the mistakes of a file that an error is made of.
func problemsOf(err error) []api.PolicyProblem {
	var several interface{ Unwrap() []error }
	var one *yamlfile.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &several):
		var all []api.PolicyProblem
		for _, e := range several.Unwrap() {
			all = append(all, problemsOf(e)...)
		}
		return all
	case errors.As(err, &one):
		return []api.PolicyProblem{{Line: one.Line, Column: one.Column, Message: one.Message}}
	}
	return []api.PolicyProblem{{Line: 1, Column: 1, Message: err.Error()}}
}

// message names the key, which the place alone does not where it is missing.
func message(p policy.Problem) string {
	if len(p.Path) == 0 {
		return p.Message
	}
	return p.PathString() + ": " + p.Message
}

const policyHead = `# The policy: what event names mean, when a customer is in which stage, what earns points,
# and how opinions and service are judged.
# Give it to the server with --policy FILE, or put it in force while that runs with
# sojourn policy apply FILE. What a file does not say stays as it is in the default,
# which this is. New views are built under it beside the old. Editors check it with
# the schema that sojourn policy schema prints.
#
# A day is 24 hours.

`

// defaultPolicyFile is the default policy as a file, with the standard names as
// comments: they hold as long as standard is true.
func defaultPolicyFile() (string, error) {
	var b strings.Builder
	b.WriteString(policyHead)
	p := policy.Default()
	whole := p.Expanded()
	// These stay what they stand for: the policy's currency, the standard rules.
	whole.Loyalty.Programmes[0].Currency, whole.Satisfaction.Voice = "", p.Satisfaction.Voice
	comments, err := keyComments("loyalty", "satisfaction")
	if err != nil {
		return "", err
	}
	for _, part := range []struct {
		comment string
		value   any
	}{
		{"The currency of a purchase that names none.", struct {
			Currency string `yaml:"currency"`
		}{p.Currency}},
		{"When a customer who does not buy any more is at risk, churned and lost; after\n" +
			"# how long a pause a purchase wins back; how many purchases within how many days\n" +
			"# make loyal. accounts: whether accounts have a stage of their own.", struct {
			Lifecycle policy.Lifecycle `yaml:"lifecycle"`
		}{p.Lifecycle}},
		{"Who is one customer. join: the kinds of subject that join customers by themselves, the\n" +
			"# first first: user, anon, email, phone, device, or the type of an external id.\n" +
			"# limits: how many subjects of a kind one customer may have; 0 is any number, a kind\n" +
			"# that is not named has 5. alias_users: whether an alias may join two users.\n" +
			"# nobody: values that are no identity, such as guest@example.com.", struct {
			Identity policy.Identities `yaml:"identity"`
		}{p.Identity}},
		{"Points and tiers. Rules about points look forward: a section that a policy changes holds from\n" +
			"# the moment of its apply, or from the time that its from names. A from in the past needs\n" +
			"# retroactive: true beside it, which judges history anew.", struct {
			Loyalty policy.Loyalty `yaml:"loyalty"`
		}{whole.Loyalty}},
		{"How opinions and service are judged. A list that you give stands in place of the default's.", struct {
			Satisfaction policy.Satisfaction `yaml:"satisfaction"`
		}{whole.Satisfaction}},
		{"Whether the names of Segment's specs are known, behind your own.", struct {
			Standard bool `yaml:"standard"`
		}{p.Standard}},
	} {
		y, err := yaml.MarshalWithOptions(part.value, yaml.IndentSequence(true), yaml.WithComment(comments))
		if err != nil {
			return "", fmt.Errorf("write the policy: %w", err)
		}
		fmt.Fprintf(&b, "# %s\n%s\n", part.comment, y)
	}
	b.WriteString(`# Your own event names. type is track where it is not given; source and channel
# may be left out. A mapping of yours goes before a standard one of the same name.
#   - {name: Invoice Paid, meaning: purchase, channel: server}
#   - {names: [Call Taken, Call Missed], meaning: service, channel: phone, source: helpdesk}
events: []

# The channel of what no mapping gives one: the first rule that fits all it names.
#   - {library: analytics-node, channel: server}
channels: []

# How messages are made of the records of Kafka topics, by the name that the configuration
# of a topic calls them by.
#   erp-orders: {user: customer.id, event: {value: Order Completed}, identity: [order.number]}
mappings: {}

# The standard names:
`)
	for _, m := range p.Expanded().Events {
		b.WriteString(comment(m))
	}
	return b.String(), nil
}

// keyComments are the descriptions of the keys of sections, as comments above them: of
// a list of sections those of its first.
func keyComments(sections ...string) (yaml.CommentMap, error) {
	b, err := policy.Schema()
	if err != nil {
		return nil, err
	}
	type schema struct {
		Description string
		Properties  map[string]*schema
		Items       *schema
	}
	var root schema
	if err := json.Unmarshal(b, &root); err != nil {
		return nil, err
	}
	all := yaml.CommentMap{}
	var walk func(path string, s *schema)
	walk = func(path string, s *schema) {
		for key, p := range s.Properties {
			at := path + "." + key
			if p.Description != "" && key != "id" {
				all[at] = []*yaml.Comment{yaml.HeadComment(wrap(p.Description, 92)...)}
			}
			walk(at, p)
			if key == "programmes" {
				walk(at+"[0]", p.Items)
			}
		}
	}
	for _, section := range sections {
		walk("$."+section, root.Properties[section])
	}
	return all, nil
}

// wrap breaks a text into lines that begin with a space.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines, line = append(lines, line), ""
		}
		line += " " + word
	}
	return append(lines, line)
}

// comment writes a mapping as commented lines, to be taken out of the comment as
// they stand.
func comment(m policy.Mapping) string {
	const indent, width = "#      ", 96
	line := "#   - {meaning: " + string(m.Meaning)
	if m.As != "" {
		line += ", as: " + string(m.As)
	}
	if m.Channel != "" {
		line += ", channel: " + m.Channel
	}
	if m.Type != "" {
		line += ", type: " + m.Type
	}
	line += ", names: ["
	var text strings.Builder
	for i, name := range m.Names {
		word := name
		if i < len(m.Names)-1 {
			word += ","
		} else {
			word += "]}"
		}
		if i > 0 {
			if len(line)+1+len(word) > width {
				text.WriteString(line + "\n")
				line = indent + word
				continue
			}
			line += " "
		}
		line += word
	}
	if len(m.Names) == 0 {
		line += "]}"
	}
	text.WriteString(line + "\n")
	return text.String()
}
