package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"

	"sojourn/api"
	"sojourn/domain/lifecycle"
)

// printReport prints what a preview has found, for people.
func printReport(out io.Writer, r *api.PreviewReport) error {
	var b strings.Builder
	fmt.Fprintf(&b, "Compared with policy version %d at position %d of the log, as of %s.\n", r.PolicyVersion, r.Position, r.Clock.Format(time.RFC3339))
	if r.Since != nil {
		fmt.Fprintf(&b, "The candidate's rules about points are taken for applied at %s.\n", r.Since.Format(time.RFC3339))
		switch n := len(r.LeftOut); n {
		case 0:
		case 1:
			fmt.Fprintf(&b, "Version %d was applied later: its rules about points are left out of what would be.\n", r.LeftOut[0])
		default:
			fmt.Fprintf(&b, "Versions %d to %d were applied later: their rules about points are left out of what would be.\n", r.LeftOut[0], r.LeftOut[n-1])
		}
	}
	b.WriteString("\nThe candidate changes:\n")
	if err := printChanges(&b, r.Changes); err != nil {
		return err
	}
	stages := make([]string, len(lifecycle.Stages))
	for i, s := range lifecycle.Stages {
		stages[i] = string(s)
	}
	l := &r.Lifecycle
	var cells []cell
	for _, c := range l.Matrix {
		cells = append(cells, cell{c.From, c.To, c.Customers})
	}
	b.WriteString("\nCustomers by stage, down as it is, across as it would be:\n")
	if err := printMatrix(&b, stages, cells); err != nil {
		return err
	}
	printWeeks(&b, "stage", stages, l.Weeks)
	for _, c := range l.Matrix {
		if c.From == c.To || len(c.Examples) == 0 {
			continue
		}
		fmt.Fprintf(&b, "\n%s -> %s: %d, such as\n", c.From, c.To, c.Customers)
		for _, e := range c.Examples {
			printExample(&b, e.Subject, e.ID, explained(e.ID, e.Old), explained(e.ID, e.New))
		}
	}
	for i := range r.Loyalty {
		if err := printProgramme(&b, &r.Loyalty[i]); err != nil {
			return err
		}
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// printProgramme prints points and tiers of a programme.
func printProgramme(b *strings.Builder, p *api.PreviewProgramme) error {
	fmt.Fprintf(b, "\nProgramme %s\n", p.Programme)
	fmt.Fprintf(b, "  as it is:       %s\n  as it would be: %s\n", pointsText(p.Old), pointsText(p.New))
	fmt.Fprintf(b, "  %d customers would have other points\n", p.Changed)
	if len(p.Tiers.Matrix) == 0 {
		return nil
	}
	var cells []cell
	for _, c := range p.Tiers.Matrix {
		cells = append(cells, cell{c.From, c.To, c.Customers})
	}
	var names []string
	for _, t := range p.Tiers.Old {
		names = append(names, t.Tier)
	}
	fmt.Fprintf(b, "\nCustomers of %s by tier, down as it is, across as it would be:\n", p.Programme)
	if err := printMatrix(b, names, cells); err != nil {
		return err
	}
	printWeeks(b, "tier", names, p.Tiers.Weeks)
	for _, c := range p.Tiers.Matrix {
		if c.From == c.To || len(c.Examples) == 0 {
			continue
		}
		fmt.Fprintf(b, "\n%s -> %s: %d, such as\n", c.From, c.To, c.Customers)
		for _, e := range c.Examples {
			printExample(b, e.Subject, e.ID, explainedTier(e.ID, e.Old), explainedTier(e.ID, e.New))
		}
	}
	return nil
}

func pointsText(s *api.PreviewPoints) string {
	if s == nil {
		return "there is no such programme"
	}
	return fmt.Sprintf("%d members, %d points available and %d pending, worth %s %s at %s; %d owed; ever earned %d, redeemed %d, expired %d, reversed %d",
		s.Members, s.Available, s.Pending, s.Liability, s.Currency, s.PointValue, s.Debt, s.Earned, s.Redeemed, s.Expired, s.Reversed)
}

func printExample(b *strings.Builder, subject string, id uuid.UUID, was, is string) {
	fmt.Fprintf(b, "  %s (%s)\n    as it is:       %s\n    as it would be: %s\n", subject, id, was, is)
}

// cell is how many customers are in a pair of stages or tiers.
type cell struct {
	from, to  string
	customers uint64
}

// printMatrix prints how many customers are in each pair; names that nobody bears
// are left out.
func printMatrix(b *strings.Builder, names []string, all []cell) error {
	cells := map[[2]string]uint64{}
	used := map[string]bool{}
	for _, c := range all {
		cells[[2]string{c.from, c.to}] = c.customers
		used[c.from], used[c.to] = true, true
	}
	names = slices.DeleteFunc(append(slices.Clone(names), api.NoStage), func(s string) bool { return !used[s] })
	var rows strings.Builder
	fmt.Fprintf(&rows, "\t%s\ttotal\t\n", strings.Join(names, "\t"))
	line := func(name string, count func(to string) uint64) {
		sum := uint64(0)
		rows.WriteString(name + "\t")
		for _, to := range names {
			n := count(to)
			sum += n
			if n == 0 {
				rows.WriteString("·\t")
				continue
			}
			fmt.Fprintf(&rows, "%d\t", n)
		}
		fmt.Fprintf(&rows, "%d\t\n", sum)
	}
	for _, from := range names {
		line(from, func(to string) uint64 { return cells[[2]string{from, to}] })
	}
	line("total", func(to string) (sum uint64) {
		for _, from := range names {
			sum += cells[[2]string{from, to}]
		}
		return sum
	})
	return printTable(b, rows.String(), tabwriter.AlignRight)
}

// printTable prints rows whose cells end with tabs.
func printTable(out io.Writer, rows string, flags uint) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', flags)
	_, err := io.WriteString(w, rows)
	return errors.Join(err, w.Flush())
}

// maxWeeks is how many weeks are printed for people.
const maxWeeks = 12

// printWeeks prints the changes of stage or tier that are gained and lost.
func printWeeks(b *strings.Builder, what string, names []string, weeks []api.PreviewWeek) {
	if len(weeks) == 0 {
		return
	}
	fmt.Fprintf(b, "\nChanges of %s gained and lost, by the week they happened in", what)
	if n := len(weeks) - maxWeeks; n > 0 {
		fmt.Fprintf(b, " (the last %d; --json has %d more)", maxWeeks, n)
		weeks = weeks[n:]
	}
	b.WriteString(":\n")
	// A tier that nobody holds now may have been held.
	var others []string
	for _, w := range weeks {
		for _, changes := range [...]map[string]uint64{w.Gained, w.Lost} {
			for name := range changes {
				if !slices.Contains(names, name) && !slices.Contains(others, name) {
					others = append(others, name)
				}
			}
		}
	}
	slices.Sort(others)
	names = append(slices.Clone(names), others...)
	for _, w := range weeks {
		var parts []string
		for _, s := range names {
			if g, l := w.Gained[s], w.Lost[s]; g+l > 0 {
				parts = append(parts, fmt.Sprintf("%s +%d −%d", s, g, l))
			}
		}
		fmt.Fprintf(b, "  %s  %s\n", w.Week, strings.Join(parts, ", "))
	}
}

func explained(id uuid.UUID, s *api.PreviewStanding) string {
	if s == nil {
		return "nobody's"
	}
	return partOf(id, s.ID, fmt.Sprintf("%s since %s, %s", s.Stage, s.Since.Format(time.DateOnly), s.Reason))
}

func explainedTier(id uuid.UUID, s *api.PreviewTierStanding) string {
	if s == nil {
		return "not in the programme"
	}
	text := fmt.Sprintf("%s since %s, %s; %d points", s.Tier, s.Since.Format(time.DateOnly), s.Reason, s.Available)
	if s.Pending != 0 {
		text += fmt.Sprintf(" and %d pending", s.Pending)
	}
	if s.Debt != 0 {
		text += fmt.Sprintf(", %d owed", s.Debt)
	}
	return partOf(id, s.ID, text)
}

// partOf says so where a customer stands somewhere as part of another.
func partOf(id, other uuid.UUID, text string) string {
	if other == id {
		return text
	}
	return fmt.Sprintf("part of %s, which is %s", other, text)
}
