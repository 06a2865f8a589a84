package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"sojourn/eventstore"
	"sojourn/eventstore/esdbserver"
	"sojourn/eventstore/pebblestore"
)

// dataWith makes a data directory whose log holds some events, recorded long ago.
func dataWith(t *testing.T, name string, events int) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	clock := time.Date(2025, 3, 1, 0, 0, 0, 0, time.UTC)
	s, err := pebblestore.Open(filepath.Join(dir, logDir), pebblestore.Options{Now: func() time.Time { clock = clock.Add(time.Second); return clock }})
	if err != nil {
		t.Fatal(err)
	}
	for n := range events {
		e := eventstore.NewEvent{ID: uuid.NewSHA1(uuid.Nil, []byte(fmt.Sprint(name, n))), Type: "t.v1", Metadata: []byte{byte(n)}, Data: fmt.Append(nil, n)}
		parts := []eventstore.Append{{Stream: fmt.Sprint("s-", n%5), Events: []eventstore.NewEvent{e}}}
		if n%10 == 3 { // stands in a second stream, too
			parts = append(parts, eventstore.Append{Stream: "again", Events: parts[0].Events})
		}
		if n%10 == 4 {
			parts = append(parts, eventstore.Append{Stream: "$$s-1", Events: parts[0].Events})
		}
		if _, err := s.AppendMany(t.Context(), parts); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(s.Close(), os.WriteFile(filepath.Join(dir, keyFile), make([]byte, 32), 0o600)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// esdbOver serves a log to workers until the test ends.
func esdbOver(t *testing.T, dir string) string {
	t.Helper()
	s, err := pebblestore.Open(dir, pebblestore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	server, err := esdbserver.New(esdbserver.Config{Store: s, Own: ownStream, Authorize: func(string, string) esdbserver.Access { return esdbserver.Worker }})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() {
		server.Stop(time.Second)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return "esdb://" + l.Addr().String() + "?tls=false"
}

// TestCopy moves a log from a directory to EventStoreDB, and on to another
// directory.
func TestCopy(t *testing.T) {
	const events = 2_500 // several batches; a tenth of them stands twice
	source := dataWith(t, "a", events)
	far := esdbOver(t, filepath.Join(t.TempDir(), "far"))
	status, out, errOut := sojourn(t.Context(), "copy", "--from", source, "--to", far, "--verify")
	if status != 0 || !strings.Contains(out, "2750 events copied, 0 were there already") || !strings.Contains(out, "the same 2750 events") || !strings.Contains(out, "Put "+filepath.Join(source, keyFile)) {
		t.Fatalf("%d %s %s", status, out, errOut)
	}
	back := filepath.Join(t.TempDir(), "back")
	status, out, errOut = sojourn(t.Context(), "copy", "--from", far, "--to", back, "--verify")
	if status != 0 || !strings.Contains(out, "2750 events copied") {
		t.Fatalf("%d %s %s", status, out, errOut)
	}
	status, out, errOut = sojourn(t.Context(), "copy", "--from", source, "--to", back, "--verify")
	if status != 0 || !strings.Contains(out, "0 events copied, 2750 were there already") {
		t.Fatalf("%d %s %s", status, out, errOut)
	}
	if key, err := os.ReadFile(filepath.Join(back, keyFile)); err != nil || len(key) != 32 {
		t.Errorf("the key did not come along: %v", err)
	}
	// What a server reads in the copy is what was recorded then.
	d, err := openData(t.Context(), back, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	log, err := d.openStore(t.Context(), &Config{}, (&Config{LogLevel: "error"}).logger())
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for e, err := range log.ReadStream(t.Context(), "s-2", 0, eventstore.Forwards) {
		if err != nil {
			t.Fatal(err)
		}
		if want := 5*n + 2; len(e.Metadata) != 1 || e.Metadata[0] != byte(want) || string(e.Data) != fmt.Sprint(want) || e.RecordedAt.Year() != 2025 {
			t.Fatalf("event %d is %+v", n, e)
		}
		n++
	}
	if n != events/5 {
		t.Errorf("%d events", n)
	}
	// What comes later has its own time.
	if _, err := log.Append(t.Context(), "s-2", nil, eventstore.NewEvent{ID: uuid.New(), Type: "t.v1"}); err != nil {
		t.Fatal(err)
	}
	for e, err := range log.ReadStream(t.Context(), "s-2", eventstore.End, eventstore.Backwards) {
		if err != nil || time.Since(e.RecordedAt) > time.Hour {
			t.Errorf("%+v, %v", e, err)
		}
		break
	}
	if err := errors.Join(log.Close(), d.close()); err != nil {
		t.Fatal(err)
	}
	// The target has gone on: no copy of this source any more.
	if status, _, errOut = sojourn(t.Context(), "copy", "--from", source, "--to", back); status != 1 || !strings.Contains(errOut, "the target holds more than the source") {
		t.Errorf("%d %s", status, errOut)
	}
	other := dataWith(t, "b", 5)
	if status, _, errOut = sojourn(t.Context(), "copy", "--from", back, "--to", other); status != 1 || !strings.Contains(errOut, "the target holds another log: event 1 has another id") {
		t.Errorf("%d %s", status, errOut)
	}
}

// failing is a log that ends the copy after some appends.
type failing struct {
	eventLog
	left int
}

var errFailing = errors.New("the connection is gone")

func (f *failing) AppendMany(ctx context.Context, parts []eventstore.Append) ([]eventstore.Result, error) {
	if f.left--; f.left < 0 {
		// As when a connection breaks: some of it is there.
		_, err := f.eventLog.AppendMany(ctx, parts[:len(parts)/2])
		return nil, errors.Join(errFailing, err)
	}
	return f.eventLog.AppendMany(ctx, parts)
}

// TestCopyGoesOn interrupts a copy in the middle of a batch and calls it again.
func TestCopyGoesOn(t *testing.T) {
	source, far := dataWith(t, "a", 2_500), esdbOver(t, filepath.Join(t.TempDir(), "far"))
	quiet := (&Config{LogLevel: "error"}).logger()
	stopping := stopList{log: quiet}
	from, err := openCopyEnd(t.Context(), source, true, quiet, &stopping)
	if err != nil {
		t.Fatal(err)
	}
	to, err := openCopyEnd(t.Context(), far, false, quiet, &stopping)
	if err != nil {
		t.Fatal(err)
	}
	silent := func() *progress { return newProgress(io.Discard, "copy", 0, false) }
	if _, copied, err := walk(t.Context(), from.log, &failing{to.log, 1}, true, silent()); !errors.Is(err, errFailing) || copied != 1_000 {
		t.Fatalf("%d, %v", copied, err)
	}
	if _, _, err := walk(t.Context(), from.log, to.log, false, silent()); err == nil || !strings.Contains(err.Error(), "the target ends after") {
		t.Errorf("half a copy is verified: %v", err)
	}
	held, copied, err := walk(t.Context(), from.log, to.log, true, silent())
	if err != nil || held <= 1_000 || held+copied != 2_750 {
		t.Errorf("%d there, %d copied, %v", held, copied, err)
	}
	if held, _, err := walk(t.Context(), from.log, to.log, false, silent()); err != nil || held != 2_750 {
		t.Errorf("%d, %v", held, err)
	}
	if err := stopping.stop(); err != nil {
		t.Error(err)
	}
}

// TestCopyServes starts a server on a copy: it says what the first one said, of
// any time.
func TestCopyServes(t *testing.T) {
	data, moved := filepath.Join(t.TempDir(), "data"), filepath.Join(t.TempDir(), "moved")
	ask := func(s running) (out []map[string]any) {
		t.Helper()
		for _, q := range []string{"as_of=2026-02-01", "as_of=2026-02-20", "known_at=2026-02-20", "as_of=2027-01-01"} {
			var v map[string]any
			s.get(t, "/api/v1/stages?"+q, &v)
			out = append(out, v)
		}
		return out
	}
	s := startServer(t, data)
	if status, out, errOut := sojourn(t.Context(), "demo", "--customers", "30", "--days", "60", "--end", "2026-03-01", "--data="+data); status != 0 {
		t.Fatalf("%s %s", out, errOut)
	}
	want := ask(s)
	if status, _, errOut := sojourn(t.Context(), "copy", "--from", data, "--to", moved); status != 1 || !strings.Contains(errOut, "in use") {
		t.Errorf("%d %s", status, errOut)
	}
	s.stop()
	if status, out, errOut := sojourn(t.Context(), "copy", "--from", data, "--to", moved, "--verify"); status != 0 {
		t.Fatalf("%s %s", out, errOut)
	}
	s = startServer(t, moved)
	if got := ask(s); !reflect.DeepEqual(got, want) {
		t.Errorf("the copy says %v, want %v", got, want)
	}
	if status, out, errOut := sojourn(t.Context(), "verify", "--data="+moved); status != 0 {
		t.Errorf("%s %s", out, errOut)
	}
}

func TestCopyMistakes(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"copy"}, "copy needs --from and --to"},
		{[]string{"copy", "--from", dir, "--to", dir}, "holds no log"},
		{[]string{"copy", "--from", "esdb://user:geheim@host:port", "--to", dir}, "this is no connection string"},
	} {
		status, _, errOut := sojourn(t.Context(), c.args...)
		if status == 0 || !strings.Contains(errOut, c.want) || strings.Contains(errOut, "geheim") {
			t.Errorf("%v: %d %s", c.args, status, errOut)
		}
	}
}
