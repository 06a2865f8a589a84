package delivery

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	"net/http/httptest"
	"net/mail"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	gosmtp "github.com/emersion/go-smtp"
	"github.com/google/uuid"
)

// mailbox is an SMTP server that keeps what it takes.
type mailbox struct {
	port int
	mu   sync.Mutex
	got  []taken
	// What it answers; nil for yes. Where hang is not nil, DATA waits for it.
	onMail, onRcpt, onData error
	hang                   chan struct{}
	user, password         string // asked for where not empty
}

type taken struct {
	from, to string
	data     []byte
	user     string
}

func newMailbox(t *testing.T, config *tls.Config, implicit bool) *mailbox {
	t.Helper()
	m := &mailbox{}
	s := gosmtp.NewServer(m)
	s.Domain = "mail.example"
	s.TLSConfig = config
	s.ErrorLog = quiet{}
	s.AllowInsecureAuth = true
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m.port = l.Addr().(*net.TCPAddr).Port
	if implicit {
		l = tls.NewListener(l, config)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close(); _ = l.Close(); <-done })
	return m
}

type quiet struct{}

func (quiet) Printf(string, ...any) {}
func (quiet) Println(...any)        {}

func (m *mailbox) NewSession(*gosmtp.Conn) (gosmtp.Session, error) { return &session{m: m}, nil }

func (m *mailbox) all() []taken {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]taken(nil), m.got...)
}

type session struct {
	m *mailbox
	taken
}

func (s *session) Reset() {}

func (s *session) Logout() error { return nil }

func (s *session) AuthMechanisms() []string { return []string{sasl.Plain, sasl.Login} }

func (s *session) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if user != s.m.user || password != s.m.password {
			return gosmtp.ErrAuthFailed
		}
		s.user = user
		return nil
	}), nil
}

func (s *session) Mail(from string, _ *gosmtp.MailOptions) error {
	if s.m.user != "" && s.user == "" {
		return gosmtp.ErrAuthRequired
	}
	s.from = from
	return s.m.onMail
}

func (s *session) Rcpt(to string, _ *gosmtp.RcptOptions) error {
	s.to = to
	return s.m.onRcpt
}

func (s *session) Data(r io.Reader) error {
	if s.m.hang != nil {
		<-s.m.hang
	}
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if s.m.onData != nil {
		return s.m.onData
	}
	s.data = b
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	s.m.got = append(s.m.got, s.taken)
	return nil
}

func links(t *testing.T) *Links {
	t.Helper()
	s, err := NewSealer(key(3))
	if err != nil {
		t.Fatal(err)
	}
	return NewLinks("https://sojourn.shop.example/", s)
}

func mailTo(port int) *Attempt {
	return &Attempt{
		ID: uuid.MustParse("6f1c0d6e-0000-4000-8000-000000000001"), Number: 1,
		Customer: uuid.MustParse("6f1c0d6e-0000-4000-8000-00000000000c"), Category: "newsletter",
		Message: Message{To: "Ada <ada@example.com>", Subject: "Schön, dass Sie da sind", Text: "Grüße\n.\nvon uns", HTML: "<p>Grüße</p>", Header: map[string]string{"X-Campaign": "welcome"}},
		Destination: Destination{
			Name: "mail", Kind: Email, Enabled: true, TimeoutMillis: 5000,
			SMTP: &SMTP{Host: "127.0.0.1", Port: port, TLS: "none", From: "Müllers Shop <hello@shop.example>", ReplyTo: "help@shop.example"},
		},
	}
}

func decoded8(t *testing.T, encoding string, r io.Reader) string {
	t.Helper()
	if strings.EqualFold(encoding, "quoted-printable") {
		r = quotedprintable.NewReader(r)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(strings.TrimSpace(string(b)), "\r\n", "\n")
}

func TestMail(t *testing.T) {
	box := newMailbox(t, nil, false)
	l := links(t)
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	m := NewMails(here, nil, l, func() time.Time { return now })
	a := mailTo(box.port)
	for range 2 {
		if o := m.Send(context.Background(), a); !o.Delivered || o.Status != 250 || o.Error != "" || o.Latency <= 0 {
			t.Fatalf("%+v", o)
		}
	}
	got := box.all()
	if len(got) != 2 || got[0].from != "hello@shop.example" || got[0].to != "ada@example.com" {
		t.Fatalf("%+v", got)
	}
	msg, err := mail.ReadMessage(bytes.NewReader(got[1].data))
	if err != nil {
		t.Fatal(err)
	}
	h := msg.Header
	subject, _ := new(mime.WordDecoder).DecodeHeader(h.Get("Subject"))
	from, err := h.AddressList("From")
	if err != nil {
		t.Fatal(err)
	}
	for what, pair := range map[string][2]string{
		"Message-ID":            {h.Get("Message-Id"), "<6f1c0d6e-0000-4000-8000-000000000001@shop.example>"},
		"Subject":               {subject, "Schön, dass Sie da sind"},
		"From":                  {from[0].Name, "Müllers Shop"},
		"To":                    {h.Get("To"), `"Ada" <ada@example.com>`},
		"Reply-To":              {h.Get("Reply-To"), "<help@shop.example>"},
		"X-Campaign":            {h.Get("X-Campaign"), "welcome"},
		"List-Unsubscribe":      {h.Get("List-Unsubscribe"), "<" + l.URL(a.Customer, a.Category) + ">"},
		"List-Unsubscribe-Post": {h.Get("List-Unsubscribe-Post"), "List-Unsubscribe=One-Click"},
		"Auto-Submitted":        {h.Get("Auto-Submitted"), "auto-generated"},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s: %q, not %q", what, pair[0], pair[1])
		}
	}
	if at, err := h.Date(); err != nil || !at.Equal(now) {
		t.Errorf("%v, %v", at, err)
	}
	kind, params, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil || kind != "multipart/alternative" {
		t.Fatalf("%s, %v", kind, err)
	}
	parts := multipart.NewReader(msg.Body, params["boundary"])
	for _, want := range [][2]string{{"text/plain", "Grüße\n.\nvon uns"}, {"text/html", "<p>Grüße</p>"}} {
		p, err := parts.NextRawPart()
		if err != nil {
			t.Fatal(err)
		}
		body := decoded8(t, p.Header.Get("Content-Transfer-Encoding"), p)
		if !strings.HasPrefix(p.Header.Get("Content-Type"), want[0]) || body != want[1] {
			t.Errorf("%s: %q", p.Header.Get("Content-Type"), body)
		}
	}
}

func TestMailWithOnePart(t *testing.T) {
	box := newMailbox(t, nil, false)
	m := NewMails(here, nil, links(t), nil)
	a := mailTo(box.port)
	a.HTML, a.Category = "", ""
	if o := m.Send(context.Background(), a); !o.Delivered {
		t.Fatalf("%+v", o)
	}
	msg, err := mail.ReadMessage(bytes.NewReader(box.all()[0].data))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(msg.Header.Get("Content-Type"), "text/plain") || msg.Header.Get("List-Unsubscribe") != "" || msg.Header.Get("List-Unsubscribe-Post") != "" {
		t.Errorf("%v", msg.Header)
	}
}

func TestMailRefused(t *testing.T) {
	code := func(n int) error { return &gosmtp.SMTPError{Code: n, Message: "because ada@example.com"} }
	for name, c := range map[string]struct {
		change func(*mailbox, *Attempt)
		status int
		retry  bool
	}{
		"no such user":      {func(b *mailbox, _ *Attempt) { b.onRcpt = code(550) }, 550, false},
		"greylisted":        {func(b *mailbox, _ *Attempt) { b.onRcpt = code(451) }, 451, true},
		"spam":              {func(b *mailbox, _ *Attempt) { b.onData = code(554) }, 554, false},
		"full":              {func(b *mailbox, _ *Attempt) { b.onData = code(452) }, 452, true},
		"sender refused":    {func(b *mailbox, _ *Attempt) { b.onMail = code(550) }, 550, true},
		"wrong password":    {func(b *mailbox, a *Attempt) { b.user, b.password = "u", "p"; a.Destination.SMTP.Username = "u" }, 535, true},
		"no address":        {func(_ *mailbox, a *Attempt) { a.To = "nobody" }, 0, false},
		"nobody listens":    {func(_ *mailbox, a *Attempt) { a.Destination.SMTP.Port = 1 }, 0, true},
		"no TLS there":      {func(_ *mailbox, a *Attempt) { a.Destination.SMTP.TLS = "" }, 0, true},
		"nothing to send":   {func(_ *mailbox, a *Attempt) { a.Text, a.HTML = "", "" }, 0, false},
		"an address inside": {func(_ *mailbox, a *Attempt) { a.Destination.SMTP.Host = "10.0.0.1" }, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			box := newMailbox(t, nil, false)
			a := mailTo(box.port)
			a.Destination.Secrets = []Secret{NewSecret("tops3cret")}
			c.change(box, a)
			o := NewMails(here, nil, nil, nil).Send(context.Background(), a)
			if o.Delivered || o.Retry != c.retry || o.Status != c.status || o.Error == "" {
				t.Errorf("%+v", o)
			}
			if strings.Contains(o.Error, "ada@") || strings.Contains(o.Error+string(o.Response), "tops3cret") {
				t.Errorf("%q, %q", o.Error, o.Response)
			}
			if len(box.all()) != 0 {
				t.Error("it is taken all the same")
			}
		})
	}
}

func TestMailHangs(t *testing.T) {
	box := newMailbox(t, nil, false)
	box.hang = make(chan struct{})
	defer close(box.hang)
	a := mailTo(box.port)
	a.Destination.TimeoutMillis = 200
	o := NewMails(here, nil, nil, nil).Send(context.Background(), a)
	if o.Delivered || !o.Retry || o.Error != "no answer in time" || o.Latency > 3*time.Second {
		t.Errorf("%+v", o)
	}
	// One that does not even greet.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	a.Destination.SMTP.Port = l.Addr().(*net.TCPAddr).Port
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(50*time.Millisecond, cancel)
	if o := NewMails(here, nil, nil, nil).Send(ctx, a); o.Delivered || !o.Retry || o.Latency > 3*time.Second {
		t.Errorf("%+v", o)
	}
}

// The password goes over TLS, by STARTTLS or from the first byte, after the
// certificate is checked.
func TestMailTLS(t *testing.T) {
	plain := mailTo(newMailbox(t, nil, false).port)
	plain.Destination.SMTP.TLS = ""
	if o := NewMails(here, nil, nil, nil).Send(context.Background(), plain); o.Delivered || !o.Retry || !strings.Contains(o.Error, "smtp.tls may be tls or none") {
		t.Errorf("a server without STARTTLS: %+v", o)
	}
	s := httptest.NewTLSServer(nil) // for its certificate
	defer s.Close()
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	server := &tls.Config{Certificates: s.TLS.Certificates, MinVersion: tls.VersionTLS12}
	known := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	for mode, implicit := range map[string]bool{"": false, "starttls": false, "tls": true} {
		box := newMailbox(t, server, implicit)
		box.user, box.password = "shop", "tops3cret"
		a := mailTo(box.port)
		a.Destination.SMTP.TLS, a.Destination.SMTP.Username = mode, "shop"
		a.Destination.Secrets = []Secret{NewSecret("tops3cret")}
		if o := NewMails(here, nil, nil, nil).Send(context.Background(), a); o.Delivered || !o.Retry || !strings.Contains(o.Error, "certificate") {
			t.Errorf("%q: of an unknown authority: %+v", mode, o)
		}
		if o := NewMails(here, known, nil, nil).Send(context.Background(), a); !o.Delivered {
			t.Errorf("%q: %+v", mode, o)
		}
		if got := box.all(); len(got) != 1 || got[0].user != "shop" {
			t.Errorf("%q: %+v", mode, got)
		}
	}
}
