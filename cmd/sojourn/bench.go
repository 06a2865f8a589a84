package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"sojourn/cmd/sojourn/bench"
)

// benchWithin bounds a run, whatever hangs.
const benchWithin = time.Hour

func newBench() *cobra.Command {
	var config bench.Config
	var jsonFile string
	c := &cobra.Command{
		Use:   "bench",
		Short: "Measure how fast this machine runs Sojourn",
		Long: "Takes the thirteen figures that docs/performance.md describes, each beside a yardstick of the\n" +
			"same minute, in rounds that take turns. It takes some minutes and 15 GB of disk, makes a folder\n" +
			"in --dir and removes it, and starts servers of its own on free ports of 127.0.0.1. The exit\n" +
			"status says whether the figures were taken, not how good they are.",
		Args: noArgs,
	}
	c.Flags().IntSliceVar(&config.Figures, "figures", nil, "`numbers` of the figures to take, such as 1,2 (default all)")
	c.Flags().IntVar(&config.Events, "events", 0, "events of a replay (default 1000000)")
	c.Flags().IntVar(&config.Held, "held", 0, "events that the store holds before (default 3000000)")
	c.Flags().IntVar(&config.Rounds, "rounds", 0, "rounds; the median counts (default 5)")
	c.Flags().StringVar(&config.Dir, "dir", ".", "`directory` on the disk to measure")
	c.Flags().BoolVar(&config.Quick, "quick", false, "take every figure in a few seconds; the numbers then say nothing about speed")
	c.Flags().StringVar(&jsonFile, "json", "", "write the figures, round by round, to this `file` too")
	c.Flags().StringVar(&config.Profiles, "cpuprofile", "", "write a CPU profile of each figure into this `folder`, or of the only one to this file")
	c.RunE = func(c *cobra.Command, _ []string) (err error) {
		ctx, cancel := context.WithTimeout(c.Context(), benchWithin)
		defer cancel()
		config.Progress = c.ErrOrStderr()
		config.Library = os.Getenv(envName("clickhouse-library"))
		config.Server = func(dir string) bench.Command {
			return bench.Command{Args: []string{
				"serve", "--data", dir, "--listen", "127.0.0.1:0", "--clickhouse-listen", "127.0.0.1:0", "--log-level", "warn",
			}}
		}
		config.Import = func(dir, mapping, file string) bench.Command {
			return bench.Command{Args: []string{"import", "--data", dir, "--format", "jsonl", "--mapping", mapping, file}}
		}
		report, err := bench.Run(ctx, config)
		if report != nil {
			err = errors.Join(err, report.Print(c.OutOrStdout()))
			if jsonFile != "" {
				err = errors.Join(err, writeReport(report, jsonFile))
			}
		}
		if err != nil {
			return fmt.Errorf("bench: %w", err)
		}
		return nil
	}
	return c
}

func writeReport(r *bench.Report, path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(r.JSON(f), f.Close())
}
