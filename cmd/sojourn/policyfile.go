package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"

	"sojourn/cmd/sojourn/yamlfile"
	"sojourn/domain/policy"
)

// loadPolicy reads a policy file onto the default policy; without a file it is
// the default. text is the file as it stands. Errors name line and column.
func loadPolicy(path string) (p policy.Policy, text string, err error) {
	p = policy.Default()
	if path == "" {
		return p, "", nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return p, "", fmt.Errorf("policy: %w", err)
	}
	d, err := yamlfile.Parse(path, data)
	if err != nil {
		return p, "", err
	}
	if err := d.Decode(&p); err != nil {
		return p, "", err
	}
	err = p.Validate()
	var problems policy.Problems
	if errors.As(err, &problems) {
		var errs []error
		for _, pr := range problems {
			errs = append(errs, d.Errorf(pr.Path, "%s", message(pr)))
		}
		return p, "", errors.Join(errs...)
	}
	return p, string(data), err
}

// message names the key, which the place alone does not where it is missing.
func message(p policy.Problem) string {
	if len(p.Path) == 0 {
		return p.Message
	}
	return p.PathString() + ": " + p.Message
}

func newPolicy() *cobra.Command {
	c := &cobra.Command{
		Use:   "policy",
		Short: "Print or check policy files",
		Long: "The policy says what event names mean and when a customer is in which stage.\n" +
			"It is a YAML file, given to sojourn serve with --policy; docs/policy.md describes it.",
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
			Use:   "check FILE",
			Short: "Check a policy file",
			Args:  oneArg("the policy file"),
			RunE: func(c *cobra.Command, args []string) error {
				p, _, err := loadPolicy(args[0])
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(c.OutOrStdout(), "%s is valid: %d mappings of its own, %d channel rules\n", args[0], len(p.Events), len(p.Channels))
				return err
			},
		},
	)
	return c
}

const policyHead = `# The policy: what event names mean, and when a customer is in which stage.
# Give it to the server with --policy FILE. What a file does not say stays as it
# is in the default, which this is. A change is taken up at the next start: new
# views are built under it beside the old.
#
# A day is 24 hours.

`

// defaultPolicyFile is the default policy as a file, with the standard names as
// comments: they hold as long as standard is true.
func defaultPolicyFile() (string, error) {
	var b strings.Builder
	b.WriteString(policyHead)
	p := policy.Default()
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
		{"Whether the names of Segment's specs are known, behind your own.", struct {
			Standard bool `yaml:"standard"`
		}{p.Standard}},
	} {
		y, err := yaml.Marshal(part.value)
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

# The standard names:
`)
	for _, m := range p.Expanded().Events {
		b.WriteString(comment(m))
	}
	return b.String(), nil
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
