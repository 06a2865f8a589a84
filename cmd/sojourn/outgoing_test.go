package main

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"sojourn/automation/delivery"
	"sojourn/eventstore/pebblestore"
)

// engineDouble sends what it is asked for, and hands on the outcomes.
type engineDouble struct {
	outcomes chan delivery.Outcome
}

func (e *engineDouble) Prepare(context.Context, delivery.Job, *delivery.Destination) (*delivery.Attempt, error) {
	return &delivery.Attempt{Message: delivery.Message{Body: []byte(`{"a":1}`)}}, nil
}

func (e *engineDouble) Done(_ context.Context, _ delivery.Job, _ *delivery.Attempt, o delivery.Outcome) error {
	e.outcomes <- o
	return nil
}

// TestOutgoing takes a destination from its making to its end: a signed delivery,
// two signatures while a secret is replaced, and 410.
func TestOutgoing(t *testing.T) {
	store, err := pebblestore.Open("log", pebblestore.Options{FS: vfs.NewMem(), CacheBytes: 1 << 20, MemTableBytes: 1 << 20, SegmentEvents: 1 << 14})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	ctx := t.Context()
	c := defaultConfig()
	c.Data, c.AutomationAllow = t.TempDir(), "127.0.0.1"
	open := func() *outgoing {
		t.Helper()
		o, err := openOutgoing(ctx, &c, store, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	type call struct {
		header http.Header
		body   []byte
	}
	calls := make(chan call, 10)
	status := make(chan int, 10)
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		calls <- call{r.Header, b}
		w.WriteHeader(<-status)
	}))
	defer receiver.Close()

	o := open()
	first, err := o.destinations.Save(ctx, delivery.Destination{Name: "crm", Kind: delivery.Webhook, Enabled: true, URL: receiver.URL}, delivery.Secret{})
	if err != nil {
		t.Fatal(err)
	}
	if err := o.stop(); err != nil {
		t.Fatal(err)
	}
	o = open() // after a restart, with the key of the data directory
	defer func() { _ = o.stop() }()
	engine := &engineDouble{make(chan delivery.Outcome, 10)}
	d := o.begin(engine)
	send := func(answer int, secrets ...delivery.Secret) delivery.Outcome {
		t.Helper()
		status <- answer
		job := delivery.Job{ID: uuid.New(), Number: 1, Destination: "crm", Due: time.Now()}
		d.Submit(job)
		got := <-calls
		if got.header.Get("webhook-id") != job.ID.String() || len(strings.Fields(got.header.Get("webhook-signature"))) != len(secrets) {
			t.Errorf("%v", got.header)
		}
		for _, s := range secrets {
			w, err := standardwebhooks.NewWebhook(s.Reveal())
			if err != nil {
				t.Fatal(err)
			}
			if err := w.Verify(got.body, got.header); err != nil {
				t.Error(err)
			}
		}
		return <-engine.outcomes
	}
	if out := send(200, first); !out.Delivered {
		t.Errorf("%+v", out)
	}
	second, err := o.destinations.Rotate(ctx, "crm", delivery.Secret{}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if out := send(503, first, second); out.Delivered || !out.Retry {
		t.Errorf("%+v", out)
	}
	if out := send(410, first, second); !out.Gone {
		t.Errorf("%+v", out)
	}
	if got, _ := o.destinations.Get("crm"); got.Enabled || got.Reason != "answered 410 Gone" {
		t.Errorf("%+v", got)
	}
	if s := o.status(); len(s) != 1 || s[0].State != delivery.StateDisabled || s[0].Attempts != 3 || s[0].Delivered != 1 {
		t.Errorf("%+v", s)
	}
	// Another process on the same log learns of it.
	c.Store = "esdb://elsewhere"
	other := open()
	defer func() { _ = other.stop() }()
	if err := o.destinations.Enable(ctx, "crm"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the other process knows", func() bool { got, _ := other.destinations.Get("crm"); return got.Enabled })
	c.Store, c.AutomationAllow = "", ""
	shut := open()
	defer func() { _ = shut.stop() }()
	if _, err := shut.destinations.Save(ctx, delivery.Destination{Name: "in", Kind: delivery.Webhook, URL: receiver.URL}, delivery.Secret{}); err == nil {
		t.Error("an address inside is taken")
	}
}

func TestDestinationCommands(t *testing.T) {
	s := startServer(t, filepath.Join(t.TempDir(), "data"))
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	crm := file("crm.yaml", "name: crm\nkind: webhook\nurl: https://crm.example/hooks\nrate: 20\ntimeout: 5s\n")
	mail := file("mail.yaml", "name: mail\nkind: email\nsmtp:\n  host: mail.example\n  port: 587\n  username: shop\n  from: Shop <hello@shop.example>\n")
	password := file("password", "tops3cret\n")
	var all strings.Builder
	does := func(want string, args ...string) string {
		t.Helper()
		status, out, errOut := sojourn(t.Context(), append([]string{"destination", "--data", s.data}, args...)...)
		all.WriteString(out + errOut)
		if status != 0 || !strings.Contains(out+errOut, want) {
			t.Errorf("%v: %d %s%s\nwant %s", args, status, out, errOut, want)
		}
		return out
	}
	first := strings.TrimSpace(does("its signing secret is shown this once", "apply", crm))
	if !strings.HasPrefix(first, "whsec_") || strings.Contains(first, "\n") {
		t.Errorf("%q", first)
	}
	if out := does("crm is saved; its signing secret is not shown again", "apply", crm); out != "" {
		t.Errorf("a script would take %q for the secret", out)
	}
	does("mail is saved", "apply", mail, "--secret-file", password)
	does("the old one is valid until", "rotate", "crm", "--overlap", "1h")
	does("crm is disabled", "disable", "crm", "--reason", "they move house")
	does("disabled: they move house", "show", "crm")
	does("crm is enabled", "enable", "crm")
	list := does("mail.example:587", "list")
	if !strings.Contains(list, "crm") || !strings.Contains(list, "ready") {
		t.Error(list)
	}
	if strings.Contains(all.String(), "tops3cret") || strings.Contains(list, "whsec_") {
		t.Error("a secret is shown")
	}
	for want, args := range map[string][]string{
		"bad.yaml:3:6: url: \"ftp://x\" is no address":                                 {"apply", file("bad.yaml", "name: bad\nkind: webhook\nurl: ftp://x\n")},
		"unknown.yaml:3:1: ":                                                           {"apply", file("unknown.yaml", "name: x\nkind: webhook\nurll: https://x.example\n")},
		"operator can allow its range (serve --automation-allow)":                      {"apply", file("inside.yaml", "name: x\nkind: webhook\nurl: http://10.0.0.1/\n")},
		"password that belongs to the username is missing; give it with --secret-file": {"apply", file("second.yaml", "name: second\nkind: email\nsmtp:\n  host: mail.example\n  port: 587\n  username: shop\n  from: hello@shop.example\n")},
		"slow.yaml:4:10: timeout: 1h0m0s is not from 100ms to 30s":                     {"apply", file("slow.yaml", "name: slow\nkind: webhook\nurl: https://x.example\ntimeout: 1h\n")},
		"there is no destination of that name":                                         {"show", "nothing"},
		"sojourn destination rotate takes one argument":                                {"rotate"},
		"holds no secret": {"rotate", "mail", "--secret-file", file("empty", "\n")},
		"secret: it is no whsec_ and 24 to 64 bytes in base64": {"rotate", "crm", "--secret-file", password},
	} {
		status, out, errOut := sojourn(t.Context(), append([]string{"destination", "--data", s.data}, args...)...)
		if status == 0 || !strings.Contains(errOut, want) || strings.Contains(out+errOut, "tops3cret") {
			t.Errorf("%v: %d %s%s\nwant %s", args, status, out, errOut, want)
		}
	}
	if info, err := os.Stat(filepath.Join(s.data, delivery.KeyFile)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if status := s.stop(); status != 0 {
		t.Fatalf("status %d", status)
	}
	// Nothing that is kept holds a secret in the clear.
	err := filepath.WalkDir(s.data, func(path string, e os.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if err == nil && (strings.Contains(string(b), "tops3cret") || strings.Contains(string(b), strings.TrimPrefix(first, "whsec_"))) {
			t.Errorf("%s holds a secret", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestBackupLeavesTheSecretKeyOut takes a backup by the server: the key of the
// secrets is in it where it is asked for, and a restore puts it in place.
func TestBackupLeavesTheSecretKeyOut(t *testing.T) {
	s := startServer(t, filepath.Join(t.TempDir(), "data"))
	key, err := os.ReadFile(filepath.Join(s.data, delivery.KeyFile))
	if err != nil {
		t.Fatal(err)
	}
	for _, with := range []bool{false, true} {
		dir := t.TempDir()
		tar, back := filepath.Join(dir, "backup.tar"), filepath.Join(dir, "back")
		args := []string{"backup", "--data", s.data, "--to", tar}
		if with {
			args = append(args, "--with-secret-key")
		}
		if status, _, errOut := sojourn(t.Context(), args...); status != 0 {
			t.Fatal(errOut)
		}
		b, err := os.ReadFile(tar)
		if err != nil || strings.Contains(string(b), strings.TrimSpace(string(key))) != with {
			t.Errorf("asked for the key: %v, but it is otherwise (%v)", with, err)
		}
		if status, _, errOut := sojourn(t.Context(), "restore", "--from", tar, "--data", back); status != 0 {
			t.Fatal(errOut)
		}
		got, err := os.ReadFile(filepath.Join(back, delivery.KeyFile))
		if with != (err == nil) || with && string(got) != string(key) {
			t.Errorf("asked for the key: %v, restored is %q, %v", with, got, err)
		}
		if info, err := os.Stat(filepath.Join(back, delivery.KeyFile)); with && (err != nil || info.Mode().Perm() != 0o600) {
			t.Errorf("%v, %v", info, err)
		}
	}
}
