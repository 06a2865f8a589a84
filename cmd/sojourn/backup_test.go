package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sojourn/api"
	"sojourn/eventstore"
	"sojourn/eventstore/pebblestore"
)

// events reads the log of a data directory.
func eventsOf(t *testing.T, dir string) []eventstore.Recorded {
	t.Helper()
	s, err := pebblestore.Open(filepath.Join(dir, logDir), pebblestore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var all []eventstore.Recorded
	for e, err := range s.ReadAll(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e.Clone())
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return all
}

// TestBackup takes a backup of a directory that no server uses, and restores it.
func TestBackup(t *testing.T) {
	source := dataWith(t, "a", 500)
	into := t.TempDir()
	status, out, errOut := sojourn(t.Context(), "backup", "--data", source, "--to", filepath.Join(into, "none")+"/")
	if status != 2 || !strings.Contains(errOut, "the directory "+filepath.Join(into, "none")+"/ is not there") {
		t.Errorf("into a directory that is not there: %d %s %s", status, out, errOut)
	}
	if _, err := os.Stat(filepath.Join(source, checkpointDir)); !os.IsNotExist(err) {
		t.Errorf("a backup that failed leaves its checkpoint: %v", err)
	}
	status, out, errOut = sojourn(t.Context(), "backup", "--data", source, "--to", into)
	if status != 0 || !strings.Contains(out, "holds the log up to position 600") {
		t.Fatalf("%d %s %s", status, out, errOut)
	}
	files, err := filepath.Glob(filepath.Join(into, "*"))
	if err != nil || len(files) != 1 || !strings.HasSuffix(files[0], ".tar") {
		t.Fatalf("%v, %v", files, err)
	}
	if i, err := os.Stat(files[0]); err != nil || i.Mode() != 0o600 {
		t.Errorf("%v, %v", i.Mode(), err)
	}
	if _, err := os.Stat(filepath.Join(source, checkpointDir)); !os.IsNotExist(err) {
		t.Errorf("the checkpoint is still there: %v", err)
	}
	back := filepath.Join(t.TempDir(), "back")
	status, out, errOut = sojourn(t.Context(), "restore", "--from", files[0], "--data", back)
	if status != 0 || !strings.Contains(out, "600 events restored") {
		t.Fatalf("%d %s %s", status, out, errOut)
	}
	want, got := eventsOf(t, source), eventsOf(t, back)
	if len(got) != len(want) {
		t.Fatalf("%d events, want %d", len(got), len(want))
	}
	for i := range got {
		if what := difference(&got[i], &want[i]); what != "" || got[i].Position != want[i].Position {
			t.Fatalf("event %d: another %s", i, what)
		}
	}
	key, err := os.ReadFile(filepath.Join(back, keyFile))
	if want, _ := os.ReadFile(filepath.Join(source, keyFile)); err != nil || !bytes.Equal(key, want) {
		t.Errorf("another key: %v", err)
	}
	if i, err := os.Stat(filepath.Join(back, keyFile)); err != nil || i.Mode() != 0o600 {
		t.Errorf("the key has mode %v, %v", i.Mode(), err)
	}
	// Through pipes.
	status, tar, errOut := sojourn(t.Context(), "backup", "--data", source, "--to", "-")
	if status != 0 {
		t.Fatal(errOut)
	}
	var o, e bytes.Buffer
	if status := run(t.Context(), []string{"restore", "--from", "-", "--data", filepath.Join(t.TempDir(), "d")}, strings.NewReader(tar), &o, &e); status != 0 {
		t.Errorf("%d %s", status, e.String())
	}
	for _, c := range []struct{ args, want string }{
		{"backup --data " + source + " --to " + files[0], "is there already"},
		{"backup --data " + t.TempDir() + " --to " + into, "holds no log"},
		{"backup --data " + filepath.Join(into, "none") + " --to " + into, "name the one of the server"},
		{"restore --from " + files[0] + " --data " + source, "is in use already"},
		{"restore --from " + filepath.Join(into, "none") + " --data " + back, "no such file"},
	} {
		if status, _, errOut := sojourn(t.Context(), strings.Fields(c.args)...); status != 1 || !strings.Contains(errOut, c.want) {
			t.Errorf("%s: %d %s", c.args, status, errOut)
		}
	}
	foreign := t.TempDir()
	if err := os.WriteFile(filepath.Join(foreign, keyFile), bytes.Repeat([]byte{7}, 32), 0o600); err != nil {
		t.Fatal(err)
	}
	if status, _, errOut := sojourn(t.Context(), "restore", "--from", files[0], "--data", foreign); status != 1 || !strings.Contains(errOut, "another key") {
		t.Errorf("%d %s", status, errOut)
	}
}

// TestDamagedBackup cuts a backup everywhere and flips bytes of it: no restore of
// it succeeds or leaves a log behind.
func TestDamagedBackup(t *testing.T) {
	source := dataWith(t, "a", 50)
	status, whole, errOut := sojourn(t.Context(), "backup", "--data", source, "--to", "-")
	if status != 0 {
		t.Fatal(errOut)
	}
	try := func(what string, n int, tar []byte) {
		t.Helper()
		_, err := readBackup(bytes.NewReader(tar), newProgress(new(bytes.Buffer), "", 0, true), discardEntry)
		if !errors.Is(err, errBadBackup) {
			t.Errorf("%s at %d: %v", what, n, err)
		}
	}
	// The zeros behind the last entry carry nothing.
	end := len(strings.TrimRight(whole, "\x00"))
	for n := 0; n < end; n += 211 {
		try("cut", n, []byte(whole[:n]))
		if whole[n] != 0 { // padding
			flipped := []byte(whole)
			flipped[n] ^= 0x10
			_, err := readBackup(bytes.NewReader(flipped), newProgress(new(bytes.Buffer), "", 0, true), discardEntry)
			if err == nil && !inHeader(whole, n) {
				t.Errorf("flipped at %d: no error", n)
			}
		}
	}
	dir := filepath.Join(t.TempDir(), "data")
	var o, e bytes.Buffer
	if status := run(t.Context(), []string{"restore", "--from", "-", "--data", dir}, strings.NewReader(whole[:end/2]), &o, &e); status != 1 || !strings.Contains(e.String(), "no whole backup") {
		t.Errorf("%d %s", status, e.String())
	}
	for _, name := range []string{logDir, keyFile, restoringDir} {
		if _, err := os.Stat(filepath.Join(dir, name)); !os.IsNotExist(err) {
			t.Errorf("%s is left behind: %v", name, err)
		}
	}
	// The same directory takes the whole one.
	if status := run(t.Context(), []string{"restore", "--from", "-", "--data", dir}, strings.NewReader(whole), &o, &e); status != 0 {
		t.Errorf("%d %s", status, e.String())
	}
}

// inHeader says whether a byte of a tar file stands in the header of an entry,
// whose own checksum and fields are tar's matter.
func inHeader(tar string, at int) bool {
	block := at &^ 511
	return block+262 <= len(tar) && tar[block+257:block+262] == "ustar"
}

// TestOneBackupAtATime refuses a second one, and one of a log that is elsewhere.
func TestOneBackupAtATime(t *testing.T) {
	dir := dataWith(t, "a", 5)
	d, err := openData(t.Context(), dir, (&Config{LogLevel: "error"}).logger())
	if err != nil {
		t.Fatal(err)
	}
	log, err := d.openStore(t.Context(), &Config{}, (&Config{LogLevel: "error"}).logger())
	if err != nil {
		t.Fatal(err)
	}
	// What a process that was killed has left is removed.
	if err := os.MkdirAll(filepath.Join(dir, checkpointDir, "log"), 0o700); err != nil {
		t.Fatal(err)
	}
	take := d.backups(log)
	if _, err := os.Stat(filepath.Join(dir, checkpointDir)); !os.IsNotExist(err) {
		t.Errorf("it stays: %v", err)
	}
	first, err := take(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := take(t.Context(), false); !errors.Is(err, api.ErrNoBackup) {
		t.Errorf("a second one: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	next, err := take(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(next.Close(), log.Close(), d.close()); err != nil {
		t.Fatal(err)
	}
	if _, err := d.backups(&failing{})(t.Context(), false); !errors.Is(err, api.ErrNoBackup) || !strings.Contains(err.Error(), "EventStoreDB") {
		t.Errorf("a log elsewhere: %v", err)
	}
}
