// Command sojourn is the whole of Sojourn: the server and the tools around it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	_ "time/tzdata" // time zones of import mappings, on machines without them

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/spf13/cobra"

	"sojourn/domain/policy"
	"sojourn/warehouse/chdb"
)

// version is set by the linker.
var version = "dev"

func main() {
	// Where this process is the ClickHouse engine's child, it never gets further.
	chdb.ChildMain()
	tuneMemory()

	// The first signal asks to stop, a second one ends the process.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	status := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}

// tuneMemory collects garbage half as often as Go does by itself: a tenth of the
// work of intake and replay. Where half of the memory that the process may have,
// by its cgroup or else the machine, is in use, it works harder; it is no limit: a
// log that takes more gets it. GOGC and GOMEMLIMIT have the last word.
func tuneMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(200)
	}
	// Without an answer there is no goal, and nothing else is lost.
	_, _ = memlimit.SetGoMemLimitWithOpts(
		memlimit.WithProvider(memlimit.ApplyFallback(memlimit.FromCgroup, memlimit.FromSystem)),
		memlimit.WithRatio(0.5), memlimit.WithLogger(slog.New(slog.DiscardHandler)))
}

// run returns the exit status: 0 for success, 1 for an error, 2 for a command
// line that makes no sense, and what an exitError or a statusError says.
func run(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errOut)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	status := 1
	var exit exitError
	var usage usageError
	var own statusError
	switch {
	case errors.As(err, &exit):
		return int(exit) // the command has said what there is to say
	case errors.As(err, &usage):
		status = 2
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		status, err = 130, errors.New("interrupted")
	case errors.As(err, &own):
		status = own.status
	}
	// A terminal that has gone cannot be told.
	_, _ = fmt.Fprintln(errOut, "sojourn: "+explain(err))
	return status
}

// exitError ends the process with a status; what there was to say is said.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// statusError is an error that ends the process with a status of its own.
type statusError struct {
	error
	status int
}

func (e statusError) Unwrap() error { return e.error }

// usageError is about the command line.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "sojourn",
		Short: "Where your customers stand in their lifecycle, and why",
		Long: "Sojourn takes in what customers do (Segment's tracking API), keeps it for ever, and\n" +
			"tells at any time where each of them stands in the lifecycle, and why.\n\n" +
			"Start a server with sojourn serve, fill it with sojourn demo.",
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       version,
		Args:          cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return c.Help()
			}
			text := fmt.Sprintf("there is no command %q", args[0])
			var names []string
			for _, sub := range c.Commands() {
				if sub.IsAvailableCommand() {
					names = append(names, sub.Name())
				}
			}
			if near, ok := policy.Nearest(args[0], names); ok {
				text += fmt.Sprintf("; did you mean %s?", near)
			} else {
				text += "; sojourn --help lists the commands"
			}
			return usageError{errors.New(text)}
		},
	}
	root.SetVersionTemplate("sojourn {{.Version}}\n")
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w; %s --help lists the flags", err, c.CommandPath())}
	})
	root.AddCommand(
		newServe(), newDemo(), newImport(), newTail(), newKeys(),
		newRebuild(), newVerify(), newCopy(), newBackup(), newRestore(), newBench(), newPolicy(), newSegment(), newTrigger(), newDestination(), newVersion(), newPreviewWorker(),
	)
	return root
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(c.OutOrStdout(), "sojourn "+version)
			return err
		},
	}
}

// noArgs refuses arguments in words.
func noArgs(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("%s takes no argument, but got %q; %s --help shows how it is used", c.CommandPath(), args[0], c.CommandPath())}
	}
	return nil
}

// oneArg asks for one argument and says what it is.
func oneArg(name string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) != 1 {
			return usageError{fmt.Errorf("%s takes one argument, %s; %s --help shows how it is used", c.CommandPath(), name, c.CommandPath())}
		}
		return nil
	}
}
