package chdb_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gofrs/flock"

	"sojourn/warehouse/chdb"
	"sojourn/warehouse/chdb/chdbtest"
)

// until waits for a condition.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s", what)
		}
		<-tick.C
	}
}

func alive(pid int) bool {
	if err := syscall.Kill(pid, 0); err != nil {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return os.IsNotExist(err) && filepath.Separator != '/'
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z")
}

func TestKilledEngineComesBackWithItsData(t *testing.T) {
	t.Parallel()
	e := shop(t)
	if status, body, _ := askPrivate(t, e, "CREATE TABLE sojourn.n (n UInt64) ENGINE = MergeTree ORDER BY n SETTINGS fsync_after_insert = 1"); status != 200 {
		t.Fatal(body)
	}
	for round := range 3 {
		if status, body, _ := askPrivate(t, e, "INSERT INTO sojourn.n SELECT "+strconv.Itoa(round)+"000 + number FROM numbers(1000)"); status != 200 {
			t.Fatal(body)
		}
		old := e.PID()
		if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		until(t, "another child runs", func() bool { pid := e.PID(); return pid != 0 && pid != old })
		if _, body, _ := askPrivate(t, e, "SELECT count(), uniqExact(n) FROM sojourn.n"); body != fmt.Sprintf("%d\t%d\n", (round+1)*1000, (round+1)*1000) {
			t.Errorf("after kill %d: %q", round, body)
		}
		if status, body, _ := ask(t, http.MethodGet, at(e, "SELECT count() FROM touchpoints"), ""); status != 200 || body != "2\n" {
			t.Errorf("the public port answers %d %q after kill %d", status, body, round)
		}
	}
}

func TestRestartFindsItsData(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := chdbtest.Start(t, func(c *chdb.Config) { c.Dir = dir })
	for _, q := range []string{
		"CREATE DATABASE sojourn",
		"CREATE TABLE sojourn.n (n UInt64) ENGINE = MergeTree ORDER BY n",
		"INSERT INTO sojourn.n SELECT number FROM numbers(10)",
	} {
		if status, body, _ := askPrivate(t, first, q); status != 200 {
			t.Fatal(body)
		}
	}
	pid := first.PID()
	began := time.Now()
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("the engine took %v to stop", took)
	} else {
		t.Logf("stopped in %v", took)
	}
	if alive(pid) {
		t.Error("the child lives after Close")
	}
	if first.PID() != 0 {
		t.Error("a closed engine has a child")
	}
	began = time.Now()
	second := chdbtest.Start(t, func(c *chdb.Config) { c.Dir = dir })
	t.Logf("second start in %v", time.Since(began))
	if _, body, _ := askPrivate(t, second, "SELECT count() FROM sojourn.n"); body != "10\n" {
		t.Errorf("after a restart: %q", body)
	}
	if _, body, _ := askPrivate(t, second, "SELECT engine FROM system.databases WHERE name = 'default'"); body != "Memory\n" {
		t.Errorf("the database default is %q after a restart", body)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "engine-*.sock")); len(left) != 1 {
		t.Errorf("sockets in the directory: %v", left)
	}
}

func TestCloseEndsARunningStatement(t *testing.T) {
	t.Parallel()
	e := shop(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		res, err := privateClient(e).Get("http://localhost/?query=SELECT+sum(sipHash64(number))+FROM+numbers(1000000000000)+SETTINGS+log_queries=1")
		if err == nil {
			_ = res.Body.Close()
		}
	}()
	until(t, "the statement runs", func() bool { return running(t, e) == 1 })
	began := time.Now()
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 6*time.Second {
		t.Errorf("the engine took %v to stop", took)
	}
	<-done
}

// running counts the long statements of this file.
func running(t testing.TB, e *chdb.Engine) int {
	t.Helper()
	_, body, _ := askPrivate(t, e, "SELECT count() FROM system.processes WHERE query LIKE '%sipHash64(number)%' AND query NOT LIKE '%processes%'")
	n, err := strconv.Atoi(strings.TrimSpace(body))
	if err != nil {
		t.Fatalf("%q: %v", body, err)
	}
	return n
}

func TestAClientThatLeavesEndsItsStatement(t *testing.T) {
	t.Parallel()
	e := shop(t)
	for _, target := range []string{
		at(e, "SELECT sum(sipHash64(number)) FROM numbers(1000000000000)"),               // nothing to send until the end
		at(e, "SELECT sipHash64(number) FROM numbers(1000000000000) FORMAT TSV"),         // sends all the time
		at(e, "SELECT sum(sipHash64(number)) FROM numbers(1000000000000) FORMAT Pretty"), // not in parts
	} {
		ctx, cancel := context.WithCancel(context.Background())
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			res, err := http.DefaultTransport.RoundTrip(req)
			if err == nil {
				<-ctx.Done()
				_ = res.Body.Close()
			}
		}()
		until(t, "the statement runs", func() bool { return running(t, e) == 1 })
		cancel()
		until(t, "the statement has ended", func() bool { return running(t, e) == 0 })
	}
}

func TestTwoEnginesOnOneDirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := chdbtest.Start(t, func(c *chdb.Config) { c.Dir = dir })
	_, err := chdb.Start(context.Background(), chdb.Config{Dir: dir})
	if !errors.Is(err, chdb.ErrDirectoryInUse) || strings.Contains(err.Error(), "\n") {
		t.Fatalf("a second engine: %v", err)
	}
	if err := first.Healthy(t.Context()); err != nil {
		t.Errorf("the first engine has suffered: %v", err)
	}
}

func TestStartSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = busy.Close() }()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	notLibrary := filepath.Join(t.TempDir(), "libchdb.so")
	if err := os.WriteFile(notLibrary, []byte("no library"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		cfg  chdb.Config
		is   error
		says string
	}{
		{"a busy port", chdb.Config{Dir: t.TempDir(), Listen: busy.Addr().String()}, chdb.ErrAddressInUse, "--clickhouse-listen"},
		{"a missing library", chdb.Config{Dir: t.TempDir(), Library: "/nowhere/libchdb.so"}, chdb.ErrLibraryMissing, "SOJOURN_CHDB_LIB"},
		{"a broken library", chdb.Config{Dir: t.TempDir(), Library: notLibrary}, nil, "libchdb.so"},
		{"a file for a directory", chdb.Config{Dir: filepath.Join(file, "x")}, nil, "clickhouse directory"},
		{"an open address without a password", chdb.Config{Dir: t.TempDir(), Listen: "0.0.0.0:0"}, nil, "password"},
		{"every address without a password", chdb.Config{Dir: t.TempDir(), Listen: ":0"}, nil, "password"},
		{"no address", chdb.Config{Dir: t.TempDir(), Listen: "x"}, nil, "address"},
		{"no directory", chdb.Config{}, nil, "directory"},
	} {
		_, err := chdb.Start(context.Background(), c.cfg)
		if err == nil {
			t.Errorf("%s: it started", c.name)
			continue
		}
		if c.is != nil && !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %q does not say %q in one line", c.name, err, c.says)
		}
	}
}

// TestParentDeath starts this test binary as a parent of an engine, kills it,
// and expects the engine gone and the directory free.
func TestParentDeath(t *testing.T) {
	if dir := os.Getenv("SOJOURN_TEST_PARENT"); dir != "" {
		e, err := chdb.Start(context.Background(), chdb.Config{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Printf("child %d\n", e.PID())
		select {}
	}
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run=^TestParentDeath$")
	cmd.Env = append(os.Environ(), "SOJOURN_TEST_PARENT="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Fscanf(out, "child %d\n", &pid); err != nil {
		t.Fatal(err)
	}
	if !alive(pid) {
		t.Fatal("the child does not run")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	until(t, "the child is gone", func() bool { return !alive(pid) })
	chdbtest.Start(t, func(c *chdb.Config) { c.Dir = dir })
}

// An engine that was killed may hold ClickHouse's own lock for a moment longer than
// ours.
func TestWaitsForClickHousesLock(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := chdbtest.Start(t, func(c *chdb.Config) { c.Dir = dir })
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	held := flock.New(filepath.Join(dir, "status"))
	if got, err := held.TryLock(); err != nil || !got {
		t.Fatalf("the file of an engine that has stopped: %v, %v", got, err)
	}
	time.AfterFunc(300*time.Millisecond, func() { _ = held.Unlock() })
	second, err := chdb.Start(context.Background(), chdb.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
}

// A statement from outside that comes while they are held reads what stands there when
// they are let go.
func TestHold(t *testing.T) {
	e := shop(t)
	release, err := e.Hold(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	answered := make(chan string, 1)
	ask := func() {
		res, err := http.Get(at(e, "SELECT count() FROM touchpoints"))
		if err != nil {
			answered <- err.Error()
			return
		}
		defer func() { _ = res.Body.Close() }()
		b, err := io.ReadAll(res.Body)
		answered <- strings.TrimSpace(fmt.Sprint(string(b), " ", err))
	}
	go ask()
	if status, body, _ := askPrivate(t, e, "CREATE OR REPLACE VIEW sojourn.touchpoints AS SELECT * FROM sojourn.touchpoints_g1 WHERE subject = 'user:1'"); status != http.StatusOK {
		t.Fatal(body)
	}
	select {
	case got := <-answered:
		t.Errorf("answered while held: %s", got)
	default:
	}
	release()
	if got := <-answered; got != "1\n <nil>" {
		t.Errorf("answered %q", got)
	}
	// Whoever holds them may die.
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := e.Hold(ctx); err != nil {
		t.Fatal(err)
	}
	go ask()
	cancel()
	if got := <-answered; got != "1\n <nil>" {
		t.Errorf("answered %q", got)
	}
	res, err := http.Post("http://"+e.PublicAddr()+"/hold", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := res.Body.Close(); err != nil || res.StatusCode != http.StatusNotFound {
		t.Errorf("from outside: %s, %v", res.Status, err)
	}
}
