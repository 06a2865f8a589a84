package chdb

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"time"
)

// process is one child.
type process struct {
	cmd   *exec.Cmd
	stdin io.Closer
	ended chan struct{} // closed after the process has been waited for and its output read
	said  chan struct{} // closed when its output has been read
	err   error         // of Wait, once ended is closed
}

func (p *process) reason() string {
	if p.err == nil {
		return "exit status 0"
	}
	return p.err.Error()
}

func (p *process) kill() { _ = p.cmd.Process.Kill() }

// end asks the child to stop and ends it where it does not.
func (p *process) end() {
	_ = p.stdin.Close()
	select {
	case <-p.ended:
	case <-time.After(stopWithin + 1500*time.Millisecond):
		p.kill()
		<-p.ended
	}
}

// spawn starts a child and waits until it is ready.
func (e *Engine) spawn(ctx context.Context) (*process, error) {
	cmd := exec.Command(e.cfg.Executable, ChildCommand)
	cmd.Env = append(os.Environ(), "TZ=UTC")
	cmd.Dir = e.cfg.Dir
	cmd.SysProcAttr = childAttributes()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start clickhouse: %w", err)
	}
	stderr, stderrW, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start clickhouse: %w", err)
	}
	status, statusW, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, stderr.Close(), stderrW.Close())
	}
	defer func() { _ = status.Close() }()
	handed := []*os.File{stderrW, statusW}
	defer func() {
		for _, f := range handed {
			_ = f.Close()
		}
	}()
	private, err := e.private.File()
	if err != nil {
		_ = stderr.Close()
		return nil, fmt.Errorf("start clickhouse: %w", err)
	}
	handed = append(handed, private)
	cmd.ExtraFiles = []*os.File{statusW, private}
	if e.public != nil {
		public, err := e.public.File()
		if err != nil {
			_ = stderr.Close()
			return nil, fmt.Errorf("start clickhouse: %w", err)
		}
		handed = append(handed, public)
		cmd.ExtraFiles = append(cmd.ExtraFiles, public)
	}
	if e.workers != nil {
		workers, err := e.workers.File()
		if err != nil {
			_ = stderr.Close()
			return nil, fmt.Errorf("start clickhouse: %w", err)
		}
		handed = append(handed, workers)
		cmd.ExtraFiles = append(cmd.ExtraFiles, workers)
	}
	cmd.Stderr = stderrW
	p := &process{cmd: cmd, stdin: stdin, ended: make(chan struct{}), said: make(chan struct{})}
	if err := p.start(); err != nil {
		_ = stderr.Close()
		return nil, fmt.Errorf("start clickhouse: %w", err)
	}
	go func() {
		defer close(p.said)
		e.relay(stderr)
	}()
	for _, f := range handed {
		_ = f.Close()
	}
	handed = nil
	line, err := json.Marshal(childConfig{
		Dir: e.cfg.Dir, Library: e.cfg.Library, Database: e.cfg.Database, Password: e.cfg.Password,
		Public: e.public != nil, Workers: e.workers != nil, WorkerPassword: e.cfg.WorkerPassword, Hosts: e.cfg.Hosts, MaxQueries: e.cfg.MaxQueries,
		MaxTimeSeconds: int(e.cfg.MaxQueryTime / time.Second),
		MaxMemory:      e.cfg.MaxQueryMemory, TotalMemory: e.cfg.MaxMemory,
		MaxRows: e.cfg.MaxQueryRows, Settings: e.cfg.Settings,
	})
	if err == nil {
		_, err = stdin.Write(append(line, '\n'))
	}
	if err == nil {
		err = ready(ctx, status)
	}
	if err != nil {
		p.kill()
		<-p.ended
		return nil, err
	}
	return p, nil
}

// start runs the command from a thread that lives as long as the child: Linux
// ties the child's death signal to the thread that started it.
func (p *process) start() error {
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			p.err = p.cmd.Wait()
			<-p.said
			close(p.ended)
		}
	}()
	return <-started
}

// ready reads the child's one answer.
func ready(ctx context.Context, status *os.File) error {
	if deadline, ok := ctx.Deadline(); ok {
		_ = status.SetReadDeadline(deadline)
	}
	stop := context.AfterFunc(ctx, func() { _ = status.SetReadDeadline(time.Now()) })
	defer stop()
	var got childStatus
	err := json.NewDecoder(status).Decode(&got)
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("start clickhouse: %w", ctx.Err())
	case errors.Is(err, io.EOF):
		return errors.New("start clickhouse: the engine ended before it was ready; the log above says why")
	case err != nil:
		return fmt.Errorf("start clickhouse: %w", err)
	case got.Kind == "library":
		return fmt.Errorf("%w: %s", ErrLibraryMissing, got.Error)
	case got.Kind == "in use":
		return &childError{got.Error, ErrDirectoryInUse}
	case got.Error != "":
		return errors.New(got.Error)
	}
	return nil
}

// childError is an error that was a text on its way here.
type childError struct {
	text string
	kind error
}

func (e *childError) Error() string { return e.text }
func (e *childError) Unwrap() error { return e.kind }

// relay passes what the child prints to the log.
func (e *Engine) relay(stderr *os.File) {
	defer func() { _ = stderr.Close() }()
	lines := bufio.NewScanner(stderr)
	lines.Buffer(make([]byte, 64<<10), 1<<20)
	for lines.Scan() {
		e.log.Warn("clickhouse engine", "says", lines.Text())
	}
}
