// Command enginebench measures Sojourn on the named engines: each figure is a rate
// of Sojourn's beside that of a yardstick, taken in turns on the same machine, and
// the median of each side counts. docs/performance.md says what the figures mean.
//
// The figures of Kafka need a broker, whose address KAFKA_ADDRESS gives; make
// bench-engines starts one.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"slices"
	"strings"
	"time"
)

// side is one side of a figure: a round of it does a fixed amount of work and
// returns the rate, in the figure's unit.
type side func(ctx context.Context) (rate float64, err error)

// figure is a rate beside that of a yardstick.
type figure struct {
	name      string // what -figures chooses by, up to the first space
	unit      string
	ours      side
	yardstick side   // nil where there is none, or a number that others published
	beside    string // what the yardstick is
	published float64
	floor     float64 // of the ratio; 0 where none is set
}

// group makes figures that share something, which close takes down.
type group struct {
	name string
	make func(ctx context.Context, c *config) (figures []figure, close func() error, err error)
}

// groups are all figures, in the order of the table.
var groups = []group{
	{"kafka", kafkaFigures},
	{"append", appendFigures},
	{"read", readFigures},
	{"workers", workersFigures},
	{"collect", collectFigures},
}

// config says how much is measured.
type config struct {
	rounds   int
	messages int // of a round
	dir      string
	broker   string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "enginebench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out, progress io.Writer) (err error) {
	c := config{}
	fs := flag.NewFlagSet("enginebench", flag.ContinueOnError)
	fs.StringVar(&c.broker, "kafka", os.Getenv("KAFKA_ADDRESS"), "address of a Kafka broker")
	fs.IntVar(&c.rounds, "rounds", 3, "rounds; the median counts")
	fs.IntVar(&c.messages, "messages", 200_000, "messages of a round")
	fs.StringVar(&c.dir, "dir", ".", "directory on the disk to measure")
	chosen := fs.String("figures", "", "which groups to take, with commas between (default all): kafka,append,read,workers,collect")
	profile := fs.String("cpuprofile", "", "write a CPU profile of all rounds to this file")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if c.dir, err = os.MkdirTemp(c.dir, "sojourn-engines-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(c.dir)) }()
	if c.dir, err = filepath.Abs(c.dir); err != nil {
		return err
	}
	if *profile != "" {
		f, err := os.Create(*profile)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	if _, err := io.WriteString(out, "| figure | Sojourn | beside | ratio | floor |\n| --- | --- | --- | --- | --- |\n"); err != nil {
		return err
	}
	for _, g := range groups {
		if *chosen != "" && !slices.Contains(strings.Split(*chosen, ","), g.name) {
			continue
		}
		if err := g.take(ctx, &c, out, progress); err != nil {
			return fmt.Errorf("%s: %w", g.name, err)
		}
	}
	return nil
}

// take takes the figures of a group, in rounds that take turns.
func (g *group) take(ctx context.Context, c *config, out, progress io.Writer) (err error) {
	figures, end, err := g.make(ctx, c)
	if end != nil {
		defer func() { err = errors.Join(err, end()) }()
	}
	if err != nil {
		return err
	}
	ours, yardsticks := make([][]float64, len(figures)), make([][]float64, len(figures))
	for round := range c.rounds {
		for i, f := range figures {
			_, _ = fmt.Fprintf(progress, "round %d of %d: %s\n", round+1, c.rounds, f.name)
			sides := []struct {
				side side
				to   *[]float64
			}{{f.ours, &ours[i]}, {f.yardstick, &yardsticks[i]}}
			if round%2 == 1 { // neither is always the one behind another figure
				slices.Reverse(sides)
			}
			for _, s := range sides {
				if s.side == nil {
					continue
				}
				runtime.GC() // the garbage of what went before
				rate, err := s.side(ctx)
				if err != nil {
					return fmt.Errorf("%s: %w", f.name, err)
				}
				*s.to = append(*s.to, rate)
			}
		}
	}
	for i, f := range figures {
		our, their := median(ours[i]), f.published
		if f.yardstick != nil {
			their = median(yardsticks[i])
		}
		beside, ratio, floor := "", "", ""
		if their > 0 {
			beside, ratio = fmt.Sprintf("%s, %s", number(their), f.beside), fmt.Sprintf("%.2f", our/their)
		}
		if f.floor > 0 {
			floor = fmt.Sprintf("%.2f", f.floor)
		}
		if _, err := fmt.Fprintf(out, "| %s | %s %s | %s | %s | %s |\n", f.name, number(our), f.unit, beside, ratio, floor); err != nil {
			return err
		}
	}
	return nil
}

func median(rates []float64) float64 {
	sorted := slices.Sorted(slices.Values(rates))
	if len(sorted) == 0 {
		return 0
	}
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}

// number is a rate with commas between thousands.
func number(rate float64) string {
	s := fmt.Sprintf("%.0f", rate)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// rate is a number of things in a time.
func rate(n int, took time.Duration) float64 { return float64(n) / took.Seconds() }
