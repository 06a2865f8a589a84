package delivery

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, goleak.Cleanup(os.Exit)) }

// here is a guard that is open to this machine.
var here = &Guard{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}}

// received is a request as a receiver has seen it.
type received struct {
	header http.Header
	body   []byte
}

// receiver is an HTTP server that keeps what it gets.
type receiver struct {
	*httptest.Server
	mu  sync.Mutex
	got []received
}

func newReceiver(t *testing.T, answer http.HandlerFunc) *receiver {
	t.Helper()
	r := &receiver{}
	r.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		body, _ := io.ReadAll(q.Body)
		r.mu.Lock()
		r.got = append(r.got, received{q.Header.Clone(), body})
		r.mu.Unlock()
		answer(w, q)
	}))
	r.Config.ErrorLog = log.New(io.Discard, "", 0)
	r.Start()
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) all() []received {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]received(nil), r.got...)
}

func webhooks(t *testing.T, guard *Guard, roots *tls.Config) *Webhooks {
	w := NewWebhooks(guard, roots, nil)
	t.Cleanup(w.Close)
	return w
}

func attemptTo(url string, secrets ...Secret) *Attempt {
	if len(secrets) == 0 {
		secrets = []Secret{newSigningSecret()}
	}
	return &Attempt{
		ID: uuid.New(), Number: 1, Message: Message{Body: []byte(`{"a":1}`)},
		Destination: Destination{Name: "crm", Kind: Webhook, Enabled: true, URL: url, TimeoutMillis: 5000, Secrets: secrets},
	}
}

// What a receiver gets verifies with the library of the Standard Webhooks spec,
// by each of two secrets while one replaces the other, and by no other.
func TestWebhookIsSigned(t *testing.T) {
	r := newReceiver(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "thanks") })
	w := webhooks(t, here, nil)
	newer, older, other := newSigningSecret(), newSigningSecret(), newSigningSecret()
	a := attemptTo(r.URL, newer, older)
	a.Header = map[string]string{"x-team": "crm"}
	for range 2 {
		if o := w.Send(context.Background(), a); !o.Delivered || o.Status != 200 || string(o.Response) != "thanks" || o.Latency <= 0 || o.Error != "" || o.Retry {
			t.Fatalf("%+v", o)
		}
	}
	got := r.all()
	if len(got) != 2 || got[0].header.Get("webhook-id") != a.ID.String() || got[1].header.Get("webhook-id") != a.ID.String() {
		t.Fatalf("%+v", got)
	}
	for _, g := range got {
		if string(g.body) != `{"a":1}` || g.header.Get("Content-Type") != "application/json" || g.header.Get("X-Team") != "crm" {
			t.Errorf("%+v", g)
		}
		for secret, valid := range map[Secret]bool{newer: true, older: true, other: false} {
			v, err := standardwebhooks.NewWebhook(secret.Reveal())
			if err != nil {
				t.Fatal(err)
			}
			if err := v.Verify(g.body, g.header); (err == nil) != valid {
				t.Errorf("valid: %v, but %v", valid, err)
			}
			if valid && v.Verify(append(g.body, ' '), g.header) == nil {
				t.Error("another body verifies")
			}
		}
	}
}

// The example of the spec's own libraries.
func TestSignatureOfTheSpec(t *testing.T) {
	got, err := sign([]Secret{NewSecret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")}, "msg_p5jXN8AQM9LWM0D4loKWxJek", time.Unix(1614265330, 0), []byte(`{"test": 2432232314}`))
	if want := "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="; err != nil || got != want {
		t.Errorf("%s, %v; want %s", got, err, want)
	}
}

func TestTimestampIsOfTheAttempt(t *testing.T) {
	r := newReceiver(t, func(http.ResponseWriter, *http.Request) {})
	at := time.Unix(1_700_000_000, 0)
	w := NewWebhooks(here, nil, func() time.Time { at = at.Add(time.Hour); return at })
	defer w.Close()
	a := attemptTo(r.URL)
	for i := range 2 {
		w.Send(context.Background(), a)
		if got, want := r.all()[i].header.Get("webhook-timestamp"), strconv.Itoa(1_700_000_000+3600*(i+1)); got != want {
			t.Errorf("attempt %d says %s, not %s", i+1, got, want)
		}
	}
}

func TestAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		after  string
		want   Outcome
	}{
		"200":               {200, "", Outcome{Delivered: true}},
		"204":               {204, "", Outcome{Delivered: true}},
		"299":               {299, "", Outcome{Delivered: true}},
		"400":               {400, "", Outcome{Retry: true}},
		"404":               {404, "", Outcome{Retry: true}},
		"410":               {410, "60", Outcome{Gone: true}},
		"429":               {429, "120", Outcome{Retry: true, RetryAfter: 2 * time.Minute}},
		"503 with a date":   {503, "Fri, 29 Nov 2999 00:00:00 GMT", Outcome{Retry: true, RetryAfter: MaxRetryAfter}},
		"503 in the past":   {503, "Fri, 29 Nov 1999 00:00:00 GMT", Outcome{Retry: true}},
		"503 far away":      {503, "99999999999999999", Outcome{Retry: true, RetryAfter: MaxRetryAfter}},
		"503 with nonsense": {503, "-5", Outcome{Retry: true}},
		"500":               {500, "", Outcome{Retry: true}},
		"302":               {302, "", Outcome{Retry: true}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newReceiver(t, func(w http.ResponseWriter, _ *http.Request) {
				if c.after != "" {
					w.Header().Set("Retry-After", c.after)
				}
				w.WriteHeader(c.status)
			})
			o := webhooks(t, here, nil).Send(context.Background(), attemptTo(r.URL))
			if o.Delivered != c.want.Delivered || o.Retry != c.want.Retry || o.Gone != c.want.Gone || o.RetryAfter != c.want.RetryAfter || o.Status != c.status {
				t.Errorf("%+v", o)
			}
			if (o.Error == "") != o.Delivered {
				t.Errorf("delivered %v, error %q", o.Delivered, o.Error)
			}
		})
	}
}

// A receiver that is as bad as it can be costs at most the time-out, and the log
// learns why.
func TestFaults(t *testing.T) {
	hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	reset := func(w http.ResponseWriter, _ *http.Request) {
		c, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			_ = c.(*net.TCPConn).SetLinger(0)
			_ = c.Close()
		}
	}
	closed := func(w http.ResponseWriter, _ *http.Request) {
		if c, _, err := http.NewResponseController(w).Hijack(); err == nil {
			_ = c.Close()
		}
	}
	slow := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "beginning")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}
	slowRefusal := func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(500)
		slow(w, r)
	}
	huge := func(w http.ResponseWriter, _ *http.Request) {
		piece := bytes.Repeat([]byte("x"), 64<<10)
		for {
			if _, err := w.Write(piece); err != nil {
				return
			}
		}
	}
	hugeHeader := func(w http.ResponseWriter, _ *http.Request) {
		for i := range 200 {
			w.Header().Set("X-"+strconv.Itoa(i), strings.Repeat("y", 1000))
		}
	}
	garbage := func(w http.ResponseWriter, _ *http.Request) {
		if c, _, err := http.NewResponseController(w).Hijack(); err == nil {
			_, _ = io.WriteString(c, "220 mail.example ESMTP\r\n")
			_ = c.Close()
		}
	}
	for name, c := range map[string]struct {
		answer    http.HandlerFunc
		delivered bool
		status    int
		err       string
	}{
		"hang":                     {hang, false, 0, "no answer in time"},
		"reset":                    {reset, false, 0, "connection reset"},
		"closed":                   {closed, false, 0, "closed without an answer"},
		"slow body":                {slow, true, 200, ""},
		"slow body of a refusal":   {slowRefusal, false, 500, "answered 500"},
		"huge body":                {huge, true, 200, ""},
		"huge header":              {hugeHeader, false, 0, "header"},
		"something else than HTTP": {garbage, false, 0, "malformed"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newReceiver(t, c.answer)
			a := attemptTo(r.URL)
			a.Destination.TimeoutMillis = 300
			o := webhooks(t, here, nil).Send(context.Background(), a)
			if o.Delivered != c.delivered || o.Retry == c.delivered || o.Status != c.status || !strings.Contains(o.Error, c.err) {
				t.Errorf("%+v", o)
			}
			if len(o.Response) > MaxResponse || o.Latency > 3*time.Second {
				t.Errorf("%d bytes of the answer kept, after %v", len(o.Response), o.Latency)
			}
			if c.status != 0 && len(o.Response) == 0 {
				t.Error("nothing of the answer is kept")
			}
		})
	}
}

// The dialler is the one way out: a redirect is not followed, and an address
// within is not dialled, whatever names it.
func TestNoWayIn(t *testing.T) {
	inside := newReceiver(t, func(http.ResponseWriter, *http.Request) {})
	outside := newReceiver(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, inside.URL, http.StatusTemporaryRedirect)
	})
	o := webhooks(t, here, nil).Send(context.Background(), attemptTo(outside.URL))
	if o.Delivered || o.Status != 307 || !strings.Contains(o.Error, "redirects are not followed") {
		t.Errorf("%+v", o)
	}
	_, port, _ := net.SplitHostPort(inside.Listener.Addr().String())
	t.Setenv("HTTP_PROXY", inside.URL)
	t.Setenv("HTTPS_PROXY", inside.URL)
	closed := webhooks(t, &Guard{}, nil)
	for _, host := range []string{"127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0.0.0.0", "2130706433", "0x7f000001", "127.1"} {
		o := closed.Send(context.Background(), attemptTo("http://"+host+":"+port))
		if o.Delivered || o.Status != 0 || !o.Retry {
			t.Errorf("%s: %+v", host, o)
		}
	}
	if got := inside.all(); len(got) != 0 {
		t.Errorf("%d requests came in", len(got))
	}
}

func TestTLS(t *testing.T) {
	answer := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	s := httptest.NewUnstartedServer(answer)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	defer s.Close()
	o := webhooks(t, here, nil).Send(context.Background(), attemptTo(s.URL))
	if o.Delivered || !o.Retry || !strings.Contains(o.Error, "certificate") {
		t.Errorf("of an unknown authority: %+v", o)
	}
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	o = webhooks(t, here, &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}).Send(context.Background(), attemptTo(s.URL))
	if !o.Delivered {
		t.Errorf("of a known one: %+v", o)
	}
	plain := newReceiver(t, answer)
	o = webhooks(t, here, nil).Send(context.Background(), attemptTo("https"+strings.TrimPrefix(plain.URL, "http")))
	if o.Delivered || !o.Retry || o.Error == "" {
		t.Errorf("no TLS at all: %+v", o)
	}
}

// An error names neither the query of the address, which may hold a token, nor a
// secret.
func TestErrorsHoldNoSecret(t *testing.T) {
	secret := newSigningSecret()
	for _, url := range []string{"http://127.0.0.1:1/?token=tops3cret", "http://no-such-host.invalid/tops3cret", "http://x y/tops3cret"} {
		a := attemptTo(url, secret)
		o := webhooks(t, &Guard{}, nil).Send(context.Background(), a)
		all := fmt.Sprintf("%+v %v %s", o, a, o.Response)
		if o.Delivered || o.Error == "" || strings.Contains(o.Error, "s3cret") || strings.Contains(all, secret.Reveal()) {
			t.Errorf("%s", all)
		}
	}
	a := attemptTo("http://127.0.0.1:1", NewSecret("whsec_%%%"))
	if o := webhooks(t, here, nil).Send(context.Background(), a); o.Delivered || o.Error == "" || strings.Contains(o.Error, "%%%") {
		t.Errorf("%+v", o)
	}
}

func TestSigningSecrets(t *testing.T) {
	if err := validSigningSecret(newSigningSecret()); err != nil {
		t.Error(err)
	}
	of := func(n int) string { return base64.StdEncoding.EncodeToString(make([]byte, n)) }
	for text, ok := range map[string]bool{
		"whsec_" + of(24): true, "whsec_" + of(64): true, "whsec_" + of(23): false, "whsec_" + of(65): false, of(32): false, "whsec_": false, "whsec_ü": false,
	} {
		err := validSigningSecret(NewSecret(text))
		if (err == nil) != ok || err != nil && strings.Contains(err.Error(), text) && text != "whsec_" {
			t.Errorf("%s: %v", text, err)
		}
	}
}
