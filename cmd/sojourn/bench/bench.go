// Package bench measures how fast Sojourn is: thirteen figures, each beside a
// yardstick taken on the same machine in the same minute. docs/performance.md
// says what each figure means.
package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"slices"
	"time"

	"sojourn/cmd/sojourn/demo"
)

// Config says what is measured, and on how much. Zero fields take their
// defaults.
type Config struct {
	// Figures are the numbers of those to take, 1 to 13; all where it is empty.
	Figures []int
	// Events is how many events one replay reads, and how many a million stands
	// for (default 1,000,000).
	Events int
	// Held is how many events the store holds before anything is measured
	// (default 3,000,000). It is at least Events.
	Held int
	// Rounds is how often each figure is taken; the median counts (default 5).
	Rounds int
	// Dir is where the stores are made; a folder is made in it, and removed at the
	// end. Default: the working directory, as a folder for temporary files may be
	// no disk.
	Dir string
	// Quick takes every figure in a few seconds, to see that it can be taken. What
	// it prints says nothing about speed.
	Quick bool
	// Server starts a server on a data directory, see Server; figures 5 to 8 need
	// it.
	Server func(dir string) Command
	// Import is the command line that sends a file to the server of a data
	// directory; figure 8 needs it.
	Import func(dir, mapping, file string) Command
	// Library is the ClickHouse library, where it is not found by itself.
	Library string
	// Profiles, where not empty, is a folder for a CPU profile of each figure's own
	// side, fig3.pprof and so on; a file's name where one figure alone is taken.
	Profiles string
	// Progress is told what is being done; default: nobody.
	Progress io.Writer
}

// Command is a command line of this binary.
type Command struct {
	Args []string
	Env  []string // beside the environment of this process
}

// customers is how many people the shop has.
const customers = 100_000

func (c Config) withDefaults() (Config, error) {
	set := func(p *int, full, quick int) {
		if *p <= 0 {
			*p = full
			if c.Quick {
				*p = quick
			}
		}
	}
	set(&c.Events, 1_000_000, 4_000)
	set(&c.Held, 3_000_000, 10_000)
	set(&c.Rounds, 5, 1)
	c.Held = max(c.Held, c.Events)
	if len(c.Figures) == 0 {
		c.Figures = []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13}
	}
	for _, f := range c.Figures {
		if f < 1 || f > 13 {
			return c, fmt.Errorf("there is no figure %d: they are 1 to 13", f)
		}
	}
	if c.Dir == "" {
		c.Dir = "."
	}
	if c.Progress == nil {
		c.Progress = io.Discard
	}
	return c, nil
}

func (c *Config) wants(figures ...int) bool {
	return slices.ContainsFunc(figures, func(f int) bool { return slices.Contains(c.Figures, f) })
}

// size is a number of events that a round takes in a full run, made small for a
// quick one.
func (c *Config) size(full, quick int) int {
	if c.Quick {
		return quick
	}
	return full
}

// bench is a run.
type bench struct {
	Config
	dir    string
	report *Report
	shop   demo.Config
	start  time.Time
	rate   float64 // of figure 2, events a second
}

// Run takes the figures. It leaves nothing behind, whatever happens. With an
// error it returns what it has found so far, nil if that is nothing.
func Run(ctx context.Context, c Config) (_ *Report, err error) {
	c, err = c.withDefaults()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(c.Dir, "sojourn-bench-")
	if err != nil {
		return nil, fmt.Errorf("make a folder to measure in: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	b := &bench{Config: c, dir: dir, start: time.Now(), report: newReport(&c)}
	b.shop = shopOf(&c)
	for _, part := range []struct {
		figures []int
		take    func(context.Context) error
	}{
		{[]int{1}, b.appends},
		{[]int{2, 3, 4, 5, 6, 7, 8}, b.held},
		{[]int{9}, b.known},
		{[]int{10}, b.funnel},
		{[]int{11}, b.shuffled},
		{[]int{12}, b.acting},
		{[]int{13}, b.preview},
	} {
		if !c.wants(part.figures...) {
			continue
		}
		if err == nil {
			err = part.take(ctx)
		}
	}
	b.report.Took = time.Since(b.start).Round(time.Second).String()
	if len(b.report.Lines) == 0 {
		return nil, err
	}
	return b.report, err
}

// say tells how far the run is.
func (b *bench) say(format string, args ...any) {
	// Nobody waits for it.
	_, _ = fmt.Fprintf(b.Progress, "%6.0fs  %s\n", time.Since(b.start).Seconds(), fmt.Sprintf(format, args...))
}

// profiled runs f, under the CPU profile of a figure where one is asked for.
func (b *bench) profiled(figure int, round int, f func() error) error {
	if b.Profiles == "" || round != b.Rounds-1 {
		return f()
	}
	path := b.Profiles
	if info, err := os.Stat(path); err == nil && info.IsDir() || len(b.Figures) > 1 {
		if err := os.MkdirAll(path, 0o755); err != nil {
			return err
		}
		path = filepath.Join(path, fmt.Sprintf("fig%d.pprof", figure))
	}
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := pprof.StartCPUProfile(out); err != nil {
		return errors.Join(err, out.Close())
	}
	err = f()
	pprof.StopCPUProfile()
	return errors.Join(err, out.Close())
}

// timed is the rate at which f does n things, a second. Garbage of what went
// before is collected first.
func timed(n int, f func() error) (float64, error) {
	runtime.GC()
	begun := time.Now()
	err := f()
	return float64(n) / time.Since(begun).Seconds(), err
}
