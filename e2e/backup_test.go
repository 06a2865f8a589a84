package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestBackupUnderLoad takes backups of a server while it takes in messages, and
// restores them elsewhere: each holds all that was acknowledged before it, as a
// beginning of the log.
func TestBackupUnderLoad(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	s := start(t, dir)
	l := &load{key: s.writeKey("shop"), users: map[string]string{}, orders: map[string]int{}}
	l.server.Store(&s.url)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	done := make(chan struct{})
	var senders sync.WaitGroup
	for i := range loadSenders {
		senders.Go(func() { l.sender(ctx, i, rand.New(rand.NewPCG(11, uint64(i))), done) })
	}
	into := t.TempDir()
	type taken struct {
		file  string
		least int // messages acknowledged before it was taken
	}
	var backups []taken
	for i := range 3 {
		more := l.acks.Load() + 40
		eventually(t, 30*time.Second, "batches are acknowledged", func() error {
			if got := l.acks.Load(); got < more {
				return fmt.Errorf("%d of %d are", got, more)
			}
			return nil
		})
		b := taken{file: filepath.Join(into, fmt.Sprint(i, ".tar")), least: int(l.acks.Load()) * loadBatch}
		must(t, "backup", "--data", dir, "--to", b.file)
		backups = append(backups, b)
	}
	close(done)
	senders.Wait()
	if l.failed != nil {
		t.Error(l.failed)
	}
	if _, err := os.Stat(filepath.Join(dir, "backup")); !os.IsNotExist(err) {
		t.Errorf("the server keeps what it held for a backup: %v", err)
	}
	if i, err := os.Stat(backups[0].file); err != nil || i.Mode().Perm() != 0o600 {
		t.Errorf("the backup has mode %v, %v", i.Mode(), err)
	}
	s.caughtUp()

	for _, b := range backups[1:] {
		back := filepath.Join(t.TempDir(), "back")
		must(t, "restore", "--from", b.file, "--data", back)
		r := start(t, back)
		r.caughtUp()
		n := r.count("SELECT count() FROM touchpoints")
		if n < b.least {
			t.Errorf("%s holds %d messages, %d were acknowledged before it", b.file, n, b.least)
		}
		// The same events at the same places as in the log it was taken of, and of
		// that none less.
		const digest = `SELECT count() AS n, groupBitXor(sipHash64(event_id, position, recorded_at, subject, properties)) AS digest, max(position) AS last
			FROM touchpoints WHERE position <= %v`
		last := r.rows("SELECT max(position) AS last FROM touchpoints")[0]["last"].(json.Number)
		query := fmt.Sprintf(digest, last)
		if got, want := fmt.Sprint(r.rows(query)), fmt.Sprint(s.rows(query)); got != want {
			t.Errorf("restored up to %v: %s, want %s", last, got, want)
		}
		r.verify()
		// The write keys came along, and the log goes on.
		before := r.count("SELECT count() FROM touchpoints")
		r.send(l.key, message{"type": "track", "userId": "somebody new", "event": "Product Viewed"})
		r.caughtUp()
		if got := r.count("SELECT count() FROM touchpoints"); got <= before {
			t.Errorf("%d touchpoints, want more than %d", got, before)
		}
		r.stop()
	}
	s.verify()
	s.stop()

	// With the server stopped it holds everything.
	whole := filepath.Join(into, "whole.tar")
	must(t, "backup", "--data", dir, "--to", whole)
	status, _, errOut := sojourn(t, "restore", "--from", whole, "--data", dir)
	if status != 1 || !strings.Contains(errOut, "is in use already") {
		t.Errorf("restored over a log: %d %s", status, errOut)
	}
}

// TestBackupOfALogElsewhere is refused with what to do instead, by a server and
// without one; what the log's own server gives is whole.
func TestBackupOfALogElsewhere(t *testing.T) {
	t.Parallel()
	owner := newServer(t, "--esdb-listen", "127.0.0.1:0", "--esdb-insecure", "--esdb-writable")
	address := regexp.MustCompile(`EventStoreDB (esdb://\S+)`).FindStringSubmatch(owner.out.String())
	if address == nil {
		t.Fatal("the start prints no address")
	}
	dir := filepath.Join(t.TempDir(), "data")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(filepath.Join(owner.dir, "stream-key"))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "stream-key"), key, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, dir, "--store", address[1])
	s.send(s.writeKey("shop"), message{"type": "track", "userId": "1", "event": "Product Viewed"})
	file := filepath.Join(t.TempDir(), "b.tar")
	status, _, errOut := sojourn(t, "backup", "--data", dir, "--to", file)
	if status != 1 || !strings.Contains(errOut, "the log is in EventStoreDB; back it up there") {
		t.Errorf("%d %s", status, errOut)
	}
	s.stop()
	if status, _, errOut = sojourn(t, "backup", "--data", dir, "--to", file); status != 1 || !strings.Contains(errOut, "the log is in EventStoreDB") {
		t.Errorf("%d %s", status, errOut)
	}
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Errorf("a refused backup left a file: %v", err)
	}
	must(t, "backup", "--server", owner.url, "--token", owner.token(), "--to", file)
	back := filepath.Join(t.TempDir(), "back")
	must(t, "restore", "--from", file, "--data", back)
	r := start(t, back)
	r.caughtUp()
	if n := r.count("SELECT count() FROM touchpoints"); n != 1 {
		t.Errorf("%d touchpoints", n)
	}
	r.stop()
	owner.stop()
}
