package delivery

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"sojourn/domain"
	"sojourn/eventstore"
	"sojourn/eventstore/pebblestore"
)

// desk is the destinations of a test, over a log in memory.
type desk struct {
	*Destinations
	t       *testing.T
	log     eventstore.Store
	now     time.Time
	changes []string
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	log, err := pebblestore.Open("log", pebblestore.Options{FS: vfs.NewMem(), CacheBytes: 1 << 20, MemTableBytes: 1 << 20, SegmentEvents: 1 << 14})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	k := &desk{t: t, log: log, now: time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)}
	k.Destinations = k.load(key(1))
	k.changed = func(name string) { k.changes = append(k.changes, name) }
	return k
}

// load is another process on the same log.
func (k *desk) load(keys ...[]byte) *Destinations {
	k.t.Helper()
	sealer, err := NewSealer(keys...)
	if err != nil {
		k.t.Fatal(err)
	}
	d, err := LoadDestinations(context.Background(), k.log, sealer, &Guard{}, func() time.Time { return k.now }, nil)
	if err != nil {
		k.t.Fatal(err)
	}
	return d
}

func (k *desk) save(d Destination, secret Secret) Secret {
	k.t.Helper()
	made, err := k.Save(context.Background(), d, secret)
	if err != nil {
		k.t.Fatal(err)
	}
	return made
}

// logged is all that the log holds of destinations.
func (k *desk) logged() string {
	var b bytes.Buffer
	for e, err := range k.log.ReadStream(context.Background(), domain.StreamDestinations, 0, eventstore.Forwards) {
		if err != nil {
			k.t.Fatal(err)
		}
		b.Write(e.Data)
		b.Write(e.Metadata)
	}
	return b.String()
}

func hook() Destination {
	return Destination{Name: "crm", Kind: Webhook, Enabled: true, URL: "https://crm.example/hooks"}
}

func smtp() Destination {
	return Destination{Name: "mail", Kind: Email, Enabled: true, SMTP: &SMTP{Host: "mail.example", Port: 587, Username: "shop", From: "Shop <hello@shop.example>"}}
}

func TestDestinationsAreKept(t *testing.T) {
	k := newDesk(t)
	made := k.save(hook(), Secret{})
	if validSigningSecret(made) != nil {
		t.Fatalf("%v", made.Reveal())
	}
	password := NewSecret("tops3cret")
	if made := k.save(smtp(), password); !made.IsZero() {
		t.Error("a password is made up")
	}
	k.now = k.now.Add(time.Hour)
	changed := hook()
	changed.Rate, changed.TimeoutMillis = 5, 2000
	if made := k.save(changed, Secret{}); !made.IsZero() {
		t.Error("a change makes another secret")
	}
	for _, d := range []*Destinations{k.Destinations, k.load(key(1)), k.load(key(9), key(1))} {
		crm, _ := d.Get("crm")
		if len(crm.Secrets) != 1 || crm.Secrets[0] != made || crm.Rate != 5 || crm.Timeout() != 2*time.Second || !crm.Enabled {
			t.Errorf("%+v", crm)
		}
		mail, _ := d.Get("mail")
		if len(mail.Secrets) != 1 || mail.Secrets[0] != password || mail.SMTP.Host != "mail.example" {
			t.Errorf("%+v", mail)
		}
		if _, ok := d.Get("nothing"); ok {
			t.Error("there is one of no name")
		}
		all := d.List()
		if len(all) != 2 || all[0].Name != "crm" || all[0].Secrets != 1 || all[0].Destination.Secrets != nil || all[0].ChangedAt.Sub(all[0].CreatedAt) != time.Hour {
			t.Errorf("%+v", all)
		}
	}
	told, err := json.Marshal(k.List())
	if err != nil {
		t.Fatal(err)
	}
	for where, text := range map[string]string{"the log": k.logged(), "the list": string(told), "the list in Go": fmt.Sprintf("%#v", k.List())} {
		if strings.Contains(text, "tops3cret") || strings.Contains(text, made.Reveal()) || strings.Contains(text, strings.TrimPrefix(made.Reveal(), secretPrefix)) {
			t.Errorf("%s holds a secret", where)
		}
	}
	if strings.Join(k.changes, " ") != "crm mail crm" {
		t.Errorf("%v", k.changes)
	}
}

func TestRotate(t *testing.T) {
	ctx := context.Background()
	k := newDesk(t)
	first := k.save(hook(), Secret{})
	second, err := k.Rotate(ctx, "crm", Secret{}, DefaultOverlap)
	if err != nil || second.IsZero() || second == first {
		t.Fatal(err)
	}
	valid := func(want ...Secret) {
		t.Helper()
		for _, d := range []*Destinations{k.Destinations, k.load(key(1))} {
			got, _ := d.Get("crm")
			if fmt.Sprint(len(got.Secrets)) != fmt.Sprint(len(want)) {
				t.Fatalf("%d secrets are valid, not %d", len(got.Secrets), len(want))
			}
			for i := range want {
				if got.Secrets[i] != want[i] {
					t.Errorf("secret %d is another", i)
				}
			}
		}
	}
	valid(second, first)
	if i, _ := k.Info("crm"); i.Secrets != 2 || !i.OldUntil.Equal(k.now.Add(DefaultOverlap)) {
		t.Errorf("%+v", i)
	}
	k.now = k.now.Add(DefaultOverlap - time.Millisecond)
	valid(second, first)
	k.now = k.now.Add(time.Millisecond)
	valid(second)
	own := newSigningSecret()
	if made, err := k.Rotate(ctx, "crm", own, time.Hour); err != nil || !made.IsZero() {
		t.Errorf("%v", err)
	}
	valid(own, second)
	third, err := k.Rotate(ctx, "crm", Secret{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	valid(third)
	k.save(smtp(), NewSecret("old"))
	if _, err := k.Rotate(ctx, "mail", NewSecret("new"), time.Hour); err != nil {
		t.Fatal(err)
	}
	if d, _ := k.Get("mail"); len(d.Secrets) != 1 || d.Secrets[0].Reveal() != "new" {
		t.Errorf("%+v", d)
	}
	for name, err := range map[string]error{
		"unknown":     onlyError(k.Rotate(ctx, "nothing", Secret{}, 0)),
		"overlap":     onlyError(k.Rotate(ctx, "crm", Secret{}, 31*24*time.Hour)),
		"no password": onlyError(k.Rotate(ctx, "mail", Secret{}, 0)),
		"no whsec_":   onlyError(k.Rotate(ctx, "crm", NewSecret("x"), 0)),
	} {
		if !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrUnknown) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func onlyError(_ Secret, err error) error { return err }

func TestEnable(t *testing.T) {
	ctx := context.Background()
	k := newDesk(t)
	k.save(hook(), Secret{})
	for range 2 {
		if err := k.Disable(ctx, "crm", "answered 410 Gone"); err != nil {
			t.Fatal(err)
		}
	}
	if d, _ := k.Get("crm"); d.Enabled || d.Reason != "answered 410 Gone" || len(d.Secrets) != 1 {
		t.Errorf("%+v", d)
	}
	if err := k.Enable(ctx, "crm"); err != nil {
		t.Fatal(err)
	}
	if d, _ := k.Get("crm"); !d.Enabled || d.Reason != "" {
		t.Errorf("%+v", d)
	}
	if len(k.changes) != 3 {
		t.Errorf("%v: what changes nothing is said, too", k.changes)
	}
	if err := k.Enable(ctx, "nothing"); !errors.Is(err, ErrUnknown) {
		t.Error(err)
	}
}

func TestSaveRefuses(t *testing.T) {
	k := newDesk(t)
	k.save(smtp(), NewSecret("p"))
	topic := func(change func(*Topic)) Destination {
		d := Destination{Name: "t", Kind: Kafka, Topic: &Topic{Brokers: []string{"k.example:9092"}, Name: "actions"}}
		change(d.Topic)
		return d
	}
	mail := func(change func(*SMTP)) Destination {
		d := smtp()
		change(d.SMTP)
		return d
	}
	with := func(change func(*Destination)) Destination {
		d := hook()
		change(&d)
		return d
	}
	for want, d := range map[string]Destination{
		"name: ":                         with(func(d *Destination) { d.Name = "Big Name" }),
		"kind: \"fax\"":                  with(func(d *Destination) { d.Kind = "fax" }),
		"url: \"ftp://x/\"":              with(func(d *Destination) { d.URL = "ftp://x/" }),
		"url: \"\"":                      with(func(d *Destination) { d.URL = "" }),
		"url: a user and a password":     with(func(d *Destination) { d.URL = "https://u:p@x.example/" }),
		"rate: -1":                       with(func(d *Destination) { d.Rate = -1 }),
		"timeout_ms: 1ms ":               with(func(d *Destination) { d.TimeoutMillis = 1 }),
		"concurrency: 1000":              with(func(d *Destination) { d.Concurrency = 1000 }),
		"smtp: belongs to kind email":    with(func(d *Destination) { d.SMTP = smtp().SMTP }),
		"127.0.0.1 is not public":        with(func(d *Destination) { d.URL = "http://127.0.0.1/" }),
		"169.254.169.254 is not public":  with(func(d *Destination) { d.URL = "http://[::ffff:169.254.169.254]/" }),
		"smtp.from":                      mail(func(s *SMTP) { s.From = "nobody" }),
		"smtp.port":                      mail(func(s *SMTP) { s.Port = 0 }),
		"smtp.tls":                       mail(func(s *SMTP) { s.TLS = "maybe" }),
		"would go in the clear":          mail(func(s *SMTP) { s.TLS = "none" }),
		"smtp.host":                      mail(func(s *SMTP) { s.Host = "a b" }),
		"10.0.0.1 is not public":         mail(func(s *SMTP) { s.Host = "10.0.0.1" }),
		"it would go to another server":  mail(func(s *SMTP) { s.Host = "evil.example" }),
		"topic.name":                     topic(func(t *Topic) { t.Name = "a b" }),
		"topic.brokers":                  topic(func(t *Topic) { t.Brokers = []string{"x"} }),
		"192.168.0.1 is not public":      topic(func(t *Topic) { t.Brokers = []string{"192.168.0.1:9092"} }),
		"secret: the password":           topic(func(t *Topic) { t.SASL, t.Username = "plain", "u" }),
		"kind: mail is of kind email":    with(func(d *Destination) { d.Name = "mail" }),
		"topic.username: goes with sasl": topic(func(t *Topic) { t.Username = "u" }),
	} {
		_, err := k.Save(context.Background(), d, Secret{})
		if !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrForbidden) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	if n := len(k.List()); n != 1 {
		t.Errorf("%d destinations", n)
	}
	// Without a username there is no password to give again, and none is kept.
	k.save(mail(func(s *SMTP) { s.Host, s.Username = "relay.example", "" }), Secret{})
	if i, _ := k.Info("mail"); i.Secrets != 0 {
		t.Errorf("%d secrets of a server without login", i.Secrets)
	}
}

// Several processes change destinations at once: none of the changes is lost.
func TestChangesOfSeveralProcesses(t *testing.T) {
	k := newDesk(t)
	var wait sync.WaitGroup
	for p := range 4 {
		d := k.load(key(1))
		wait.Go(func() {
			for i := range 10 {
				one := hook()
				one.Name = fmt.Sprintf("p%d-%d", p, i)
				if _, err := d.Save(context.Background(), one, Secret{}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wait.Wait()
	if err := k.Refresh(context.Background()); err != nil {
		t.Fatal(err)
	}
	if n := len(k.List()); n != 40 {
		t.Errorf("%d destinations", n)
	}
}

func TestWithoutTheKey(t *testing.T) {
	k := newDesk(t)
	k.save(hook(), Secret{})
	d := k.load(key(2))
	got, ok := d.Get("crm")
	if !ok || got.Enabled || len(got.Secrets) != 0 || !strings.Contains(got.Reason, KeyEnv) {
		t.Errorf("%+v", got)
	}
	if i, _ := d.Info("crm"); i.Reason == "" {
		t.Errorf("%+v", i)
	}
	// A new secret makes it whole again, also for who starts later.
	if _, err := d.Rotate(context.Background(), "crm", Secret{}, DefaultOverlap); err != nil {
		t.Fatal(err)
	}
	for _, d := range []*Destinations{d, k.load(key(2))} {
		if got, _ := d.Get("crm"); !got.Enabled || len(got.Secrets) != 1 {
			t.Errorf("%+v", got)
		}
	}
}

func TestTheKeyIsReplaced(t *testing.T) {
	k := newDesk(t)
	first := k.save(hook(), Secret{})
	d := k.load(key(2), key(1))
	second, err := d.Rotate(context.Background(), "crm", Secret{}, DefaultOverlap)
	if err != nil {
		t.Fatal(err)
	}
	// Without the old key both secrets are there.
	got, _ := k.load(key(2)).Get("crm")
	if !got.Enabled || len(got.Secrets) != 2 || got.Secrets[0] != second || got.Secrets[1] != first {
		t.Errorf("%+v with %d secrets", got, len(got.Secrets))
	}
}
