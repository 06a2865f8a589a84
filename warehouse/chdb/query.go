package chdb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

// engine is the library with its directory open. Every statement runs on a
// connection of its own: that costs a fifth of a millisecond and keeps settings,
// and so readonly, from leaking from one request to another.
type engine struct {
	lib      *library
	path     string // the argument of every connection
	keeper   *conn  // the engine stops with its last connection
	settings map[string]bool
	version  string
	seq      atomic.Uint64
	log      *slog.Logger
}

// startEngine opens the directory. Server options count for this first
// connection only.
func startEngine(lib *library, dir string, log *slog.Logger, options ...string) (*engine, error) {
	e := &engine{lib: lib, path: "--path=" + dir, log: log}
	keeper, err := lib.open(append([]string{e.path}, options...)...)
	if err != nil {
		return nil, err
	}
	e.keeper = keeper
	if err := e.closeDefault(); err != nil {
		return nil, err
	}
	names, err := e.column("SELECT name FROM system.settings")
	if err != nil {
		return nil, err
	}
	e.settings = map[string]bool{}
	for _, n := range names {
		e.settings[n] = true
	}
	version, err := e.column("SELECT version()")
	if err != nil {
		return nil, err
	}
	e.version = version[0]
	return e, nil
}

// closeDefault replaces the engine's database "default", which answers to names
// of files, by one that only keeps tables in memory until the engine stops.
func (e *engine) closeDefault() error {
	for _, stmt := range []string{"DROP DATABASE IF EXISTS default", "CREATE DATABASE default ENGINE = Memory"} {
		if _, err := e.column(stmt); err != nil {
			return err
		}
	}
	return nil
}

// column runs a statement of our own on the keeper and gives its first column.
func (e *engine) column(query string) ([]string, error) {
	r := e.keeper.query(query, "TSVRaw", params{})
	defer r.free()
	if err := r.err(); err != nil {
		return nil, fmt.Errorf("%s: %w", query, err)
	}
	text := strings.TrimSuffix(string(r.bytes()), "\n")
	if text == "" {
		return nil, nil
	}
	return strings.Split(text, "\n"), nil
}

// statement is one statement to run.
type statement struct {
	text     string
	format   string
	params   params
	database string
	settings []string // name=value
	stream   bool     // a SELECT whose format can be written in parts
	growth   uint64   // how much the process may grow under one that is not; 0: any
	check    func(c *conn) error
}

// stats are the counts of X-ClickHouse-Summary.
type stats struct {
	readRows, readBytes, writtenRows, writtenBytes, resultRows, resultBytes uint64
}

// session opens a connection for one statement. The statement can be found and
// killed by its mark.
func (e *engine) session(s *statement) (c *conn, mark string, err error) {
	mark = fmt.Sprintf("sojourn-%d", e.seq.Add(1))
	args := make([]string, 0, len(s.settings)+2)
	args = append(args, e.path, "--log_comment="+mark)
	for _, set := range s.settings {
		args = append(args, "--"+set)
	}
	c, err = e.lib.open(args...)
	if err != nil {
		return nil, "", &Exception{Code: 72, Message: "The engine refuses the settings of the request: " +
			clip(strings.Join(s.settings, ", ")) + ". (CANNOT_PARSE_NUMBER)"}
	}
	if s.database != "" {
		r := c.query("USE "+quoteIdentifier(s.database), "Null", params{})
		defer r.free()
		if err := r.err(); err != nil {
			c.close()
			return nil, "", err
		}
	}
	if s.check != nil {
		if err := s.check(c); err != nil {
			c.close()
			return nil, "", err
		}
	}
	return c, mark, nil
}

// killWhenDone kills the statement when the context ends before stop is called.
// The engine has no other way into a running statement.
func (e *engine) killWhenDone(ctx context.Context, mark string) (stop func()) {
	done := make(chan struct{})
	cancel := context.AfterFunc(ctx, func() {
		defer close(done)
		c, err := e.lib.open(e.path)
		if err != nil {
			e.log.Warn("cannot cancel a statement", "error", err)
			return
		}
		defer c.close()
		r := c.query("KILL QUERY WHERE Settings['log_comment'] = '"+mark+"' ASYNC", "Null", params{})
		defer r.free()
		if err := r.err(); err != nil {
			e.log.Warn("cannot cancel a statement", "error", err)
		}
	})
	return func() {
		if !cancel() {
			<-done
		}
	}
}

// sink takes the result of a statement in parts. begin is called once, before
// the first part and only after the statement has begun well.
type sink interface {
	begin(stats) error
	write([]byte) error
}

// run runs a statement and hands its result on. Where the error comes after
// begin, what was written so far is incomplete.
func (e *engine) run(ctx context.Context, s *statement, out sink) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c, mark, err := e.session(s)
	if err != nil {
		return err
	}
	defer c.close()
	defer e.killWhenDone(ctx, mark)()
	if s.stream {
		return e.runStream(ctx, c, s, out)
	}
	tooLarge := func() bool { return false }
	if s.growth > 0 {
		tooLarge = e.watchGrowth(mark, s.growth)
	}
	r := c.query(s.text, s.format, s.params)
	err = r.err()
	if tooLarge() {
		// What it took is not given back to the machine by itself.
		defer e.purge()
		err = &Exception{Code: 241, Message: "The result is too large to be held in memory. (MEMORY_LIMIT_EXCEEDED)"}
	}
	defer r.free()
	if err != nil {
		return err
	}
	if err := out.begin(r.stats()); err != nil {
		return err
	}
	return out.write(r.bytes())
}

// watchGrowth kills a statement when the process has grown by so much since it
// began: the engine does not count the text of a result that it makes whole.
func (e *engine) watchGrowth(mark string, limit uint64) (stop func() bool) {
	before := residentMemory()
	ctx, cancel := context.WithCancel(context.Background())
	killed := e.killWhenDone(ctx, mark)
	exceeded := make(chan bool, 1)
	end := make(chan struct{})
	go func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-end:
				exceeded <- false
				return
			case <-tick.C:
				if now := residentMemory(); before > 0 && now > before && now-before > limit {
					cancel()
					exceeded <- true
					return
				}
			}
		}
	}()
	return func() bool {
		close(end)
		killed()
		cancel()
		return <-exceeded
	}
}

// purge gives freed memory back to the machine.
func (e *engine) purge() {
	c, err := e.lib.open(e.path)
	if err != nil {
		return
	}
	defer c.close()
	c.query("SYSTEM JEMALLOC PURGE", "Null", params{}).free()
}

func (e *engine) runStream(ctx context.Context, c *conn, s *statement, out sink) error {
	stream := result{e.lib, c.call(e.lib.streamParams, s.text, s.format, s.params)}
	defer stream.free()
	if err := stream.err(); err != nil {
		return err
	}
	for first := true; ; first = false {
		done, err := e.part(c, stream, s.format, first, out)
		if done || err != nil {
			if err != nil {
				e.lib.streamCancel(c.handle, stream.p)
			}
			return err
		}
		if err := ctx.Err(); err != nil {
			e.lib.streamCancel(c.handle, stream.p)
			return err
		}
	}
}

func (e *engine) part(c *conn, stream result, format string, first bool, out sink) (done bool, err error) {
	r := result{e.lib, e.lib.streamFetch(c.handle, stream.p)}
	defer r.free()
	if err := r.err(); err != nil {
		return false, err
	}
	if first {
		if err := out.begin(r.stats()); err != nil {
			return false, err
		}
	}
	b := r.bytes()
	if len(b) == 0 {
		return true, nil
	}
	if !first {
		b = cutHeader(format, b)
	}
	return false, out.write(b)
}

func (r result) stats() stats {
	return stats{
		readRows: r.lib.storageRowsRead(r.p), readBytes: r.lib.storageBytesRead(r.p),
		writtenRows: r.lib.rowsWritten(r.p), writtenBytes: r.lib.bytesWritten(r.p),
		resultRows: r.lib.rowsRead(r.p), resultBytes: r.lib.bytesRead(r.p),
	}
}

// insertPart is how much of an INSERT's data goes to the engine at once.
const insertPart = 1 << 20

var insertParts = sync.Pool{New: func() any { return new([insertPart]byte) }}

// insert runs an INSERT and feeds it the data, in the format. Where reading
// fails nothing is committed.
func (e *engine) insert(ctx context.Context, s *statement, data io.Reader) (stats, error) {
	c, mark, err := e.session(s)
	if err != nil {
		return stats{}, err
	}
	defer c.close()
	defer e.killWhenDone(ctx, mark)()
	stream := c.call(e.lib.insertParams, s.text, s.format, s.params)
	defer e.lib.insertDestroy(stream)
	failed := func() error {
		if text := e.lib.insertError(stream); text != 0 {
			return parseException(cstring(text))
		}
		return nil
	}
	if err := failed(); err != nil {
		return stats{}, err
	}
	part := insertParts.Get().(*[insertPart]byte)
	defer insertParts.Put(part)
	buf := part[:]
	for end := false; !end; {
		n, rerr := fill(data, buf)
		if rerr != nil && !errors.Is(rerr, io.EOF) {
			e.lib.insertCancel(stream)
			return stats{}, fmt.Errorf("read the data of an insert: %w", rerr)
		}
		end = rerr != nil
		if n > 0 && e.lib.insertAppend(stream, unsafe.Pointer(&buf[0]), uintptr(n)) != 0 {
			err := failed()
			if err == nil {
				err = &Exception{Code: 1001, Message: "the engine takes no more data"}
			}
			e.lib.insertCancel(stream)
			return stats{}, err
		}
	}
	r := result{e.lib, e.lib.insertDone(stream)}
	defer r.free()
	if err := r.err(); err != nil {
		return stats{}, err
	}
	return r.stats(), nil
}

// fill reads until buf is full. Unlike io.ReadFull it tells the end of the data,
// io.EOF, from data that was cut short.
func fill(r io.Reader, buf []byte) (n int, err error) {
	for n < len(buf) && err == nil {
		var m int
		m, err = r.Read(buf[n:])
		n += m
	}
	return n, err
}

// quoteIdentifier writes a name in backticks.
func quoteIdentifier(name string) string {
	return "`" + strings.NewReplacer("\\", "\\\\", "`", "\\`").Replace(name) + "`"
}
