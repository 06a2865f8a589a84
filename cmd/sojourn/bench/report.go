package bench

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
)

// Report is what a run found.
type Report struct {
	Machine string   `json:"machine"`
	Events  int      `json:"events"`
	Held    int      `json:"held"`
	Rounds  int      `json:"rounds"`
	Quick   bool     `json:"quick,omitempty"`
	Took    string   `json:"took"`
	Lines   []Line   `json:"figures"`
	Notes   []string `json:"notes,omitempty"`
}

// Line is one figure, or a part of one.
type Line struct {
	// Figure is "1a", "2", …; Name says what is measured.
	Figure string `json:"figure"`
	Name   string `json:"name"`
	Unit   string `json:"unit"`
	// Ours and Yardstick are medians over the rounds, whose values follow.
	Ours            float64   `json:"ours"`
	Yardstick       float64   `json:"yardstick,omitempty"`
	YardstickName   string    `json:"yardstick_name,omitempty"`
	OursRounds      []float64 `json:"ours_rounds,omitempty"`
	YardstickRounds []float64 `json:"yardstick_rounds,omitempty"`
	// Ratio is ours divided by the yardstick, 0 where there is none.
	Ratio float64 `json:"ratio,omitempty"`
	// Floor and Goal are of the ratio, or of ours where there is none; 0 where
	// there is none. They are limits from above where Most is true.
	Floor float64 `json:"floor,omitempty"`
	Goal  float64 `json:"goal,omitempty"`
	Most  bool    `json:"most,omitempty"`
}

func newReport(c *Config) *Report {
	return &Report{
		Machine: fmt.Sprintf("%d cores, %s/%s", runtime.NumCPU(), runtime.GOOS, runtime.GOARCH),
		Events:  c.Events, Held: c.Held, Rounds: c.Rounds, Quick: c.Quick,
	}
}

// add puts a line of rounds into the report.
func (r *Report) add(l Line) {
	if len(l.OursRounds) > 0 {
		l.Ours = median(l.OursRounds)
	}
	if len(l.YardstickRounds) > 0 {
		l.Yardstick = median(l.YardstickRounds)
	}
	if l.Yardstick > 0 {
		l.Ratio = l.Ours / l.Yardstick
	}
	r.Lines = append(r.Lines, l)
}

func (r *Report) note(format string, args ...any) {
	r.Notes = append(r.Notes, fmt.Sprintf(format, args...))
}

// verdict says whether a line reaches its goal or its floor; "" where it has
// neither.
func (l *Line) verdict() string {
	v := l.Ratio
	if l.Yardstick == 0 {
		v = l.Ours
	}
	reaches := func(limit float64) bool { return limit > 0 && (l.Most && v <= limit || !l.Most && v >= limit) }
	switch {
	case reaches(l.Goal):
		return "goal"
	case reaches(l.Floor):
		return "ok"
	case l.Floor > 0:
		return "below"
	}
	return ""
}

// Print writes the report as a table.
func (r *Report) Print(w io.Writer) error {
	// They are taken in another order, as some need what others leave.
	slices.SortStableFunc(r.Lines, func(a, b Line) int {
		return cmp.Or(cmp.Compare(len(a.digits()), len(b.digits())), strings.Compare(a.Figure, b.Figure))
	})
	var out strings.Builder
	fmt.Fprintf(&out, "%s; %d events on a store that holds %d; medians of %d rounds; took %s\n\n",
		r.Machine, r.Events, r.Held, r.Rounds, r.Took)
	if r.Quick {
		out.WriteString("A quick run: these numbers say nothing about speed.\n\n")
	}
	tw := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	// A tabwriter keeps what went wrong for Flush to tell.
	_, _ = fmt.Fprintln(tw, "figure\twhat\tours\tyardstick\tratio\tfloor\tgoal\t")
	for i := range r.Lines {
		l := &r.Lines[i]
		yard, ratio := "", ""
		if l.Yardstick > 0 {
			yard = number(l.Yardstick) + " " + l.YardstickName
			ratio = fmt.Sprintf("%.2f", l.Ratio)
		}
		_, _ = fmt.Fprintf(tw, "%s\t%s\t%s %s\t%s\t%s\t%s\t%s\t%s\n", l.Figure, l.Name, number(l.Ours), l.Unit,
			yard, ratio, l.limit(l.Floor), l.limit(l.Goal), l.verdict())
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	for _, n := range r.Notes {
		out.WriteString("\n" + n)
	}
	if len(r.Notes) > 0 {
		out.WriteByte('\n')
	}
	_, err := io.WriteString(w, out.String())
	return err
}

// digits is the number in the figure's name: "1" of "1a".
func (l *Line) digits() string { return strings.TrimRight(l.Figure, "ab") }

func (l *Line) limit(v float64) string {
	if v == 0 {
		return ""
	}
	sign := "≥"
	if l.Most {
		sign = "≤"
	}
	if l.Yardstick == 0 {
		return sign + " " + number(v)
	}
	return fmt.Sprintf("%s %.2f", sign, v)
}

// number writes a number with three digits that count, or whole with spaces.
func number(v float64) string {
	switch {
	case v >= 1000:
		s := fmt.Sprint(int64(math.Round(v)))
		for i := len(s) - 3; i > 0; i -= 3 {
			s = s[:i] + "," + s[i:]
		}
		return s
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// JSON writes the report with the values of each round.
func (r *Report) JSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

func median(x []float64) float64 {
	x = slices.Sorted(slices.Values(x))
	if len(x) == 0 {
		return 0
	}
	return (x[(len(x)-1)/2] + x[len(x)/2]) / 2
}

// percentile is the value that a share p of x is at or below; x is sorted by it.
func percentile(x []float64, p float64) float64 {
	if len(x) == 0 {
		return 0
	}
	slices.Sort(x)
	return x[min(len(x)-1, max(0, int(math.Ceil(p*float64(len(x))))-1))]
}
