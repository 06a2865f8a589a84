package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"sojourn/domain"
	"sojourn/eventstore/esdbstore"
	"sojourn/eventstore/pebblestore"
	"sojourn/projections"
)

// previewCommand is the hidden command with which the binary computes a preview for
// the server that has started it, in a process of the lowest priority and with a
// memory of its own.
const previewCommand = "preview-worker"

// previewInput is what the server writes to the process's standard input, which then
// stays open for as long as the server lives.
type previewInput struct {
	Task *projections.PreviewTask
	Key  []byte // names the streams
	// Store is the log's connection string; empty where a checkpoint of the log stands
	// in the folder of the task.
	Store string
}

// previewOutput is a line that the process answers: how far it is, and last of all
// the report, or why there is none.
type previewOutput struct {
	Done, Total uint64
	Report      *projections.PreviewReport `json:",omitempty"`
	Error       string                     `json:",omitempty"`
}

const (
	// previewProgressEvery is how often the process says how far it is.
	previewProgressEvery = 100 * time.Millisecond
	// previewYields is for how long the process stands still at most while the views
	// are flushed. Then it has as long to itself.
	previewYields = 250 * time.Millisecond
	// minPreviewMemory is the least that the process tries to do with.
	minPreviewMemory = 256 << 20
)

// previews computes previews of a log, each in a process of its own that ends with the
// context, and with this process however that ends.
func (d *dataDir) previews(c *Config, store eventLog, log *slog.Logger) func(context.Context, *projections.PreviewTask, func(done, total uint64)) (*projections.PreviewReport, error) {
	return func(ctx context.Context, t *projections.PreviewTask, progress func(done, total uint64)) (*projections.PreviewReport, error) {
		in := previewInput{Task: t, Store: c.Store}
		var err error
		if in.Key, err = readStreamKey(d.path); err != nil {
			return nil, err
		}
		if s, ok := embedded(store); ok {
			if err := s.Checkpoint(ctx, filepath.Join(t.Dir, logDir)); err != nil {
				return nil, err
			}
		}
		return runPreviewWorker(ctx, &in, progress, log)
	}
}

func runPreviewWorker(ctx context.Context, in *previewInput, progress func(done, total uint64), log *slog.Logger) (*projections.PreviewReport, error) {
	exe, err := previewExecutable()
	if err != nil {
		return nil, fmt.Errorf("start the process of the preview: %w", err)
	}
	// Linux ties the child's death signal to the thread that has started it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(ctx, exe, previewCommand)
	// Most of what it takes it has for good: a collection finds little. At most it has
	// a quarter of what this process sets itself for a goal.
	cmd.Env = append(os.Environ(), "GOGC=400", "GOMEMLIMIT="+strconv.FormatInt(max(debug.SetMemoryLimit(-1)/4, minPreviewMemory), 10))
	cmd.SysProcAttr = previewAttributes()
	cmd.WaitDelay = time.Second
	var head headWriter
	cmd.Stderr = &head
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start the process of the preview: %w", err)
	}
	stdout, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("start the process of the preview: %w", err)
	}
	ended := make(chan struct{})
	defer close(ended)
	go yield(in.Task.Flushing, ended, func(s os.Signal) {
		_ = cmd.Process.Signal(s) // it may have ended
	})
	var last previewOutput
	// Where it does not take the task or say anything any more, it has ended.
	if err = json.NewEncoder(stdin).Encode(in); err == nil {
		for answers := json.NewDecoder(stdout); ; {
			var o previewOutput
			if err = answers.Decode(&o); err != nil {
				break
			}
			if last = o; o.Total > 0 {
				progress(o.Done, o.Total)
			}
		}
	}
	_ = cmd.Wait() // ProcessState says it
	if head.said.Len() > 0 && ctx.Err() == nil {
		log.Warn("the process of a preview says", "text", head.said.String())
	}
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case last.Report != nil:
		return last.Report, nil
	case last.Error != "":
		return nil, errors.New(last.Error)
	}
	reason := head.reason()
	if reason == "" {
		reason = "it was killed, as the system does where memory is short; the preview can be started again"
	}
	return nil, fmt.Errorf("the process that computed it has ended before its time (%s): %s", cmd.ProcessState, reason)
}

// yield stops a process while the views are flushed, which is when those who send
// events feel what else goes on: for previewYields at most, and never for longer than
// the process then has to itself.
func yield(flushing <-chan bool, ended <-chan struct{}, signal func(os.Signal)) {
	var stopped, free time.Time // stopped: zero while it runs; free: from then on it may be stopped
	over := time.NewTimer(0)
	<-over.C
	for {
		flush := false
		select {
		case <-ended:
			return // killed, or about to end
		case flush = <-flushing:
		case <-over.C:
		}
		now := time.Now()
		switch {
		case flush && stopped.IsZero() && !now.Before(free):
			signal(syscall.SIGSTOP)
			stopped = now
			over.Reset(previewYields)
		case !flush && !stopped.IsZero():
			signal(syscall.SIGCONT)
			over.Stop()
			stopped, free = time.Time{}, now.Add(now.Sub(stopped))
		}
	}
}

// headWriter keeps the beginning of what is written to it.
type headWriter struct{ said bytes.Buffer }

const headBytes = 16 << 10

func (w *headWriter) Write(p []byte) (int, error) {
	w.said.Write(p[:min(len(p), headBytes-w.said.Len())])
	return len(p), nil
}

// reason is the line in which a process says why it has ended, if it has said anything.
func (w *headWriter) reason() (line string) {
	for line = range strings.Lines(strings.TrimSpace(w.said.String())) {
		if strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "fatal error: ") {
			break
		}
	}
	return strings.TrimSpace(line)
}

func newPreviewWorker() *cobra.Command {
	return &cobra.Command{
		Use:    previewCommand,
		Short:  "Compute a preview; a server starts this",
		Hidden: true,
		Args:   noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			log := slog.New(slog.NewTextHandler(c.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelWarn}))
			var in previewInput
			input := json.NewDecoder(c.InOrStdin())
			if err := input.Decode(&in); err != nil || in.Task == nil {
				return usageError{errors.New("this command is started by sojourn itself, not by hand")}
			}
			if err := lowestPriority(); err != nil {
				log.Warn("the priority of a preview cannot be lowered", "error", err)
			}
			go func() {
				_, _ = io.Copy(io.Discard, c.InOrStdin())
				os.Exit(1) // the server is gone
			}()
			answers := json.NewEncoder(c.OutOrStdout())
			var out previewOutput
			var err error
			if out.Report, err = in.run(c.Context(), answers, log); err != nil {
				out.Error = err.Error()
			}
			return answers.Encode(&out)
		},
	}
}

// run computes the preview.
func (in *previewInput) run(ctx context.Context, answers *json.Encoder, log *slog.Logger) (_ *projections.PreviewReport, err error) {
	var store interface {
		projections.PreviewLog
		Close() error
	}
	if in.Store == "" {
		store, err = pebblestore.OpenReadOnly(filepath.Join(in.Task.Dir, logDir), pebblestore.Options{Logger: log})
	} else {
		store, err = esdbstore.Open(ctx, esdbstore.Config{Connection: in.Store, Dir: filepath.Join(in.Task.Dir, idIndexDir), Logger: log})
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	var told time.Time
	return in.Task.Run(ctx, recordedLog{store}, domain.NewKeyer(in.Key), log, func(done, total uint64) {
		if now := time.Now(); now.Sub(told) >= previewProgressEvery || done == total {
			told = now
			_ = answers.Encode(previewOutput{Done: done, Total: total}) // nobody reads: the server is gone
		}
	})
}
