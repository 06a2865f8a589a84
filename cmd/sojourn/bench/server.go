package bench

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"sojourn/api/client"
	"sojourn/eventstore"
)

// server is a server that runs as a child of this process.
type server struct {
	process    *exec.Cmd
	ended      chan struct{}
	err        error // of the process, once it has ended
	url        string
	addr       string // of url
	clickhouse string // URL of the port for queries
	token      string
	client     *client.Client
	http       *http.Client
	log        *tail
}

// tail keeps the end of what a process writes.
type tail struct {
	mu   sync.Mutex
	text []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if n := len(t.text) - 4<<10; n > 0 {
		t.text = t.text[n:]
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.text))
}

// The bounds of a child's life.
const (
	startWithin = 5 * time.Minute
	stopWithin  = 15 * time.Second
)

// child prepares a process of this binary that ends with the context: it is
// asked to stop, and killed where it does not.
func child(ctx context.Context, c Command) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := exec.CommandContext(ctx, self, c.Args...)
	// What the environment says of other servers is not for this one.
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "SOJOURN_") || strings.HasPrefix(e, "SOJOURN_CHDB_LIB=") || strings.HasPrefix(e, "SOJOURN_CLICKHOUSE_LIBRARY=") {
			p.Env = append(p.Env, e)
		}
	}
	p.Env = append(p.Env, c.Env...)
	p.Cancel = func() error { return p.Process.Signal(syscall.SIGTERM) }
	p.WaitDelay = stopWithin
	return p, nil
}

// startServer starts a server on a data directory and waits until it is ready.
func (b *bench) startServer(ctx context.Context, dir string, env ...string) (*server, error) {
	if b.Server == nil {
		return nil, errors.New("figures 5 to 8, 12 and 13 need a server")
	}
	secret := make([]byte, 16)
	if _, err := rand.Read(secret); err != nil {
		return nil, err
	}
	s := &server{
		token: hex.EncodeToString(secret), ended: make(chan struct{}), log: &tail{},
		http: &http.Client{Timeout: time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: 64}},
	}
	command := b.Server(dir)
	command.Env = append(append(command.Env, "SOJOURN_ADMIN_TOKEN="+s.token), env...)
	var err error
	if s.process, err = child(ctx, command); err != nil {
		return nil, err
	}
	s.process.Stderr = s.log
	out, err := s.process.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.process.Start(); err != nil {
		return nil, fmt.Errorf("start a server: %w", err)
	}
	greeted := make(chan error, 1)
	go func() {
		greeted <- s.greeting(out)
		_, _ = io.Copy(io.Discard, out)
		s.err = s.process.Wait()
		close(s.ended)
	}()
	select {
	case err = <-greeted:
	case <-time.After(startWithin):
		err = fmt.Errorf("the server has not started within %v", startWithin)
	}
	if err == nil {
		s.client, err = client.New(s.url, s.token)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start a server: %w: %s", err, s.log), s.stop())
	}
	return s, nil
}

// greeting reads the addresses from what a server prints when it is ready.
func (s *server) greeting(out io.Reader) error {
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if len(words) < 2 {
			continue
		}
		switch words[0] {
		case "Address":
			s.url = words[1]
			u, err := url.Parse(s.url)
			if err != nil {
				return err
			}
			s.addr = u.Host
		case "ClickHouse":
			s.clickhouse = words[1]
		}
		if s.url != "" && s.clickhouse != "" {
			return nil
		}
	}
	return errors.Join(errors.New("it ended without a greeting"), lines.Err())
}

// stop asks the server to stop and waits until it has.
func (s *server) stop() error {
	// It fails only where the process has ended.
	_ = s.process.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.ended:
	case <-time.After(stopWithin):
		_ = s.process.Process.Kill()
		<-s.ended
		return fmt.Errorf("the server did not stop within %v: %s", stopWithin, s.log)
	}
	var exit *exec.ExitError
	if errors.As(s.err, &exit) {
		return fmt.Errorf("the server ended with %w: %s", s.err, s.log)
	}
	return nil
}

// caughtUp waits until the views have read everything.
func (s *server) caughtUp(ctx context.Context, lag func(uint64)) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var told time.Time
	for {
		r, err := s.client.Ready(ctx)
		if err != nil {
			return fmt.Errorf("%w: %s", err, s.log)
		}
		if r.Ready && r.LagEvents == 0 {
			return nil
		}
		if lag != nil && time.Since(told) > 10*time.Second {
			told = time.Now()
			lag(r.LagEvents)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.ended:
			return fmt.Errorf("the server ended: %s", s.log)
		case <-tick.C:
		}
	}
}

// get reads a path of the API; the status is the answer's.
func (s *server) get(ctx context.Context, path string) (status int, body []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+path, nil)
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Authorization", "Bearer "+s.token)
	return s.send(req)
}

// query asks the ClickHouse port.
func (s *server) query(ctx context.Context, sql string, params url.Values) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.clickhouse+"/?"+params.Encode(), strings.NewReader(sql))
	if err != nil {
		return "", err
	}
	status, body, err := s.send(req)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("ClickHouse answered %d: %s", status, body)
	}
	return strings.TrimSpace(string(body)), err
}

func (s *server) send(req *http.Request) (int, []byte, error) {
	res, err := s.http.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	return res.StatusCode, body, err
}

// memory is the resident memory of the server and of its engine. It is read from
// /proc; elsewhere ok is false.
func (s *server) memory() (own, engine resident, ok bool) {
	parent := strconv.Itoa(s.process.Process.Pid)
	if own, ok = residentOf(parent); !ok {
		return own, engine, false
	}
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return own, engine, false
	}
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended meanwhile
		}
		// pid (name) state parent …
		_, rest, found := strings.Cut(string(text), ") ")
		if words := strings.Fields(rest); found && len(words) > 1 && words[1] == parent {
			m, _ := residentOf(filepath.Base(filepath.Dir(path)))
			engine.all += m.all
			engine.files += m.files
		}
	}
	return own, engine, engine.all > 0
}

// resident is memory of a process in MiB; files is the part that are pages of
// files, which the system takes back when it needs them.
type resident struct{ all, files float64 }

func residentOf(pid string) (r resident, ok bool) {
	text, err := os.ReadFile("/proc/" + pid + "/status")
	if err != nil {
		return r, false
	}
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		if len(words) < 2 {
			continue
		}
		kib, err := strconv.ParseFloat(words[1], 64)
		switch {
		case err != nil:
		case words[0] == "VmRSS:":
			r.all = kib / 1024
		case words[0] == "RssFile:":
			r.files = kib / 1024
		}
	}
	return r, r.all > 0
}

// served takes the figures that need the whole server: 5 to 8, and its memory.
func (b *bench) served(ctx context.Context, d *data) (err error) {
	head, err := d.store.Head(ctx)
	if err != nil {
		return err
	}
	if err := d.close(); err != nil {
		return err
	}
	s, err := b.startServer(ctx, d.dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	begun := time.Now()
	err = s.caughtUp(ctx, func(lag uint64) { b.say("the server builds its views: %d events to go", lag) })
	if err != nil {
		return err
	}
	took := time.Since(begun)
	b.say("the views hold %d events after %v", head, took.Round(time.Millisecond))
	b.report.note("A server built its views of %d events in %v (%s events/s), with nobody waiting.",
		head, took.Round(100*time.Millisecond), number(float64(head)/took.Seconds()))
	for _, part := range []struct {
		figures []int
		take    func(context.Context, *data, *server) error
	}{
		{[]int{8}, b.imports},
		{[]int{5, 6}, b.live},
		{[]int{7}, b.questions},
		{[]int{5, 6, 7, 8}, b.atRest},
	} {
		if b.wants(part.figures...) {
			if err := part.take(ctx, d, s); err != nil {
				return fmt.Errorf("%w: %s", err, s.log)
			}
		}
	}
	return nil
}

// restFor is how long nothing happens before the memory is read.
const restFor = 30 * time.Second

// atRest takes the memory of both processes.
func (b *bench) atRest(ctx context.Context, _ *data, s *server) error {
	if err := s.caughtUp(ctx, nil); err != nil {
		return err
	}
	b.say("memory: at rest for %v", restFor)
	rest := restFor
	if b.Quick {
		rest = 0
	}
	select {
	case <-time.After(rest):
	case <-ctx.Done():
		return ctx.Err()
	}
	own, engine, ok := s.memory()
	if !ok {
		b.report.note("The memory of the processes is read from /proc, which this system does not have.")
		return nil
	}
	b.report.add(Line{Figure: "mem", Name: "resident memory at rest, both processes", Unit: "MiB", Ours: own.all + engine.all, Floor: 1024, Most: true})
	b.report.note("Of the resident memory %s MiB are the server's (%s of them pages of files) and %s MiB the ClickHouse engine's (%s).",
		number(own.all), number(own.files), number(engine.all), number(engine.files))
	return nil
}

// position is a position as the API takes it.
func position(p eventstore.Position) string { return strconv.FormatUint(uint64(p), 10) }
