package api_test

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"sojourn/api"
)

func (f *fake) WriteTo(w io.Writer) (int64, error) {
	n, err := io.WriteString(w, "a tar file")
	return int64(n), err
}

func (f *fake) Close() error { f.backupClosed.Store(true); return nil }

func TestBackup(t *testing.T) {
	f := &fake{}
	s, _ := start(t, f)
	status, h, body := ask(t, s, "GET", "/api/v1/backup", "")
	if status != 200 || body != "a tar file" || h.Get("Content-Type") != "application/x-tar" || h.Get("Cache-Control") != "no-store" {
		t.Errorf("%d %v %q", status, h, body)
	}
	if !f.backupClosed.Load() {
		t.Error("the backup was not closed")
	}
	if status, _, body = askAs(t, s, "GET", "/api/v1/backup", "", ""); status != 401 {
		t.Errorf("without a token: %d %s", status, body)
	}
	for err, want := range map[error]int{fmt.Errorf("%w: busy", api.ErrNoBackup): 409, errors.New("no room"): 500} {
		f.backupErr = err
		if status, _, body := ask(t, s, "GET", "/api/v1/backup", ""); status != want {
			t.Errorf("%v: %d %s", err, status, body)
		}
	}
}
