package main

import (
	"bytes"
	"encoding/json"
	"io"
	"mime/quotedprintable"
	"net"
	"net/http"
	"net/http/httptest"
	"net/mail"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// post is an SMTP server that hands on what it takes.
type post chan []byte

func (p post) NewSession(*smtp.Conn) (smtp.Session, error) { return p, nil }
func (p post) Reset()                                      {}
func (p post) Logout() error                               { return nil }
func (p post) Mail(string, *smtp.MailOptions) error        { return nil }
func (p post) Rcpt(string, *smtp.RcptOptions) error        { return nil }
func (p post) Data(r io.Reader) error {
	b, err := io.ReadAll(r)
	p <- b
	return err
}

// TestWorkedTriggers goes with the files of docs/examples/automation from the
// touchpoints to what is received: two webhooks and an e-mail, whose link then
// withdraws consent.
func TestWorkedTriggers(t *testing.T) {
	type call struct {
		header http.Header
		body   []byte
	}
	calls := make(chan call, 10)
	crm := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		calls <- call{r.Header, b}
	}))
	defer crm.Close()
	letters := make(post, 10)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := smtp.NewServer(letters)
	served := make(chan struct{})
	go func() { defer close(served); _ = server.Serve(l) }()
	defer func() { _ = server.Close(); _ = l.Close(); <-served }()

	// The files as they are, but for the addresses, and for what depends on the hour
	// and on chance.
	dir := t.TempDir()
	example := func(name string, replace ...string) string {
		t.Helper()
		b, err := os.ReadFile(filepath.Join("../../docs/examples/automation", name))
		if err != nil {
			t.Fatal(err)
		}
		text := string(b)
		for i := 0; i < len(replace); i += 2 {
			if !strings.Contains(text, replace[i]) {
				t.Fatalf("%s has no %q", name, replace[i])
			}
			text = strings.ReplaceAll(text, replace[i], replace[i+1])
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	s := startServer(t, filepath.Join(dir, "data"), "--automation-allow", "127.0.0.0/8", "--flush-interval", "20ms", "--public-url", "https://sojourn.shop.example")
	does := func(args ...string) string {
		t.Helper()
		status, out, errOut := sojourn(t.Context(), append(args, "--data", s.data)...)
		if status != 0 {
			t.Fatalf("%v: %s%s", args, out, errOut)
		}
		return strings.TrimSpace(out)
	}
	secret := does("destination", "apply", example("crm.yaml", "https://crm.example/hooks/sojourn", crm.URL))
	port := strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	does("destination", "apply", example("mail.yaml", "smtp.example", "127.0.0.1", "587", port, "username: shop", "tls: none"))
	for _, path := range []string{
		example("welcome.yaml"), example("care.yaml"), example("points.yaml", "at_least: 100", "at_least: 12"),
		example("win-back.yaml", "holdout: 0.1", "holdout: 0", `from: "09:00", to: "19:00"`, `from: "00:00", to: "24:00"`),
	} {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.call(t, http.MethodPost, "/api/v1/triggers", map[string]string{"source": string(text)}, nil); got != 200 {
			t.Fatalf("%s: %d", path, got)
		}
	}

	wrong, err := os.ReadFile(example("welcome.yaml", "crm", "mail"))
	if err != nil {
		t.Fatal(err)
	}
	if got := s.call(t, http.MethodPost, "/api/v1/triggers", map[string]string{"source": string(wrong)}, nil); got != 422 {
		t.Errorf("a webhook to a mail server: %d", got)
	}

	at := func(user string, ago time.Duration) []map[string]any {
		when := time.Now().Add(-ago).UTC()
		return []map[string]any{
			{
				"type": "identify", "userId": user, "messageId": "person-" + user, "timestamp": when.Add(-time.Second).Format(time.RFC3339Nano),
				"traits": map[string]any{"name": "Ada " + user, "email": user + "@example.com", "newsletter": true},
			},
			{
				"type": "track", "event": "Order Completed", "userId": user, "messageId": "order-" + user, "timestamp": when.Format(time.RFC3339Nano),
				"properties": map[string]any{"order_id": user, "total": 12.5, "currency": "EUR"},
			},
		}
	}
	const day = 24 * time.Hour
	receive := func(what string) call {
		t.Helper()
		select {
		case c := <-calls:
			w, err := standardwebhooks.NewWebhook(secret)
			if err == nil {
				err = w.Verify(c.body, c.header)
			}
			if err != nil {
				t.Errorf("%s: %v", what, err)
			}
			return c
		case <-time.After(time.Minute):
			t.Fatalf("%s: not within a minute", what)
		}
		return call{}
	}

	s.track(t, at("new", 0)...)
	c := receive("welcome")
	var welcome struct {
		Type string
		Data struct {
			Delivery string
			Trigger  struct{ ID string }
			Customer struct {
				ID, Stage string
				Traits    map[string]any
			}
			Before, After map[string]any
			Event         struct{ Name, Meaning string }
			Reason        string
		}
	}
	if err := json.Unmarshal(c.body, &welcome); err != nil {
		t.Fatal(err)
	}
	if d := welcome.Data; welcome.Type != "stage.entered" || d.Delivery != c.header.Get("webhook-id") || d.Trigger.ID != "welcome" || d.Customer.Traits["email"] != "new@example.com" ||
		d.Before["stage"] != "lead" || d.After["stage"] != "first_purchase" || d.Event.Name != "Order Completed" || d.Event.Meaning != "purchase" || d.Reason == "" {
		t.Errorf("%s", c.body)
	}

	// At risk after 60 days: in a moment.
	s.track(t, at("quiet", 60*day-2*time.Second)...)
	c = receive("care")
	var care map[string]string
	if err := json.Unmarshal(c.body, &care); err != nil {
		t.Fatalf("%v in %s", err, c.body)
	}
	if care["task"] != "call" || care["name"] != "Ada quiet" || care["was"] != "first_purchase" || care["why"] == "" || care["since"] != time.Now().UTC().Format("2006-01-02") || c.header.Get("X-Team") != "care" {
		t.Errorf("%s", c.body)
	}

	// Churned after 120 days.
	s.track(t, at("gone", 120*day-2*time.Second)...)
	var letter []byte
	select {
	case letter = <-letters:
	case <-time.After(time.Minute):
		t.Fatal("win-back: not within a minute")
	}
	msg, err := mail.ReadMessage(bytes.NewReader(letter))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(quotedprintable.NewReader(msg.Body))
	if err != nil {
		t.Fatal(err)
	}
	link := strings.Trim(msg.Header.Get("List-Unsubscribe"), "<>")
	if msg.Header.Get("Subject") != "We miss you, Ada gone" || msg.Header.Get("To") != "<gone@example.com>" || msg.Header.Get("List-Unsubscribe-Post") != "List-Unsubscribe=One-Click" ||
		!strings.HasPrefix(link, "https://sojourn.shop.example/unsubscribe/") || strings.Count(string(raw), link) != 2 {
		t.Errorf("%v\n%s", msg.Header, raw)
	}
	res, err := http.Post(strings.Replace(link, "https://sojourn.shop.example", s.url, 1), "application/x-www-form-urlencoded", strings.NewReader("List-Unsubscribe=One-Click"))
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != 200 {
		t.Errorf("unsubscribe: %s", res.Status)
	}
	eventually(t, "the trait", func() bool {
		var customer struct{ Traits map[string]any }
		s.get(t, "/api/v1/customers/user:gone", &customer)
		return customer.Traits["newsletter"] == false
	})
	// 12 points that were earned 360 days ago expire in five: on each of the last days a
	// mail was due, and one would have been sent. What it says is of the day.
	saver := at("saver", 360*day)
	saver[1]["properties"].(map[string]any)["currency"] = "USD" // what the programme counts in
	s.track(t, saver...)
	eventually(t, "the mail about points", func() bool {
		status, out, errOut := sojourn(t.Context(), "trigger", "dry-run", "points", "--data", s.data, "--json",
			"--from", time.Now().UTC().Add(-3*day).Format(time.DateOnly), "--to", time.Now().UTC().Format(time.DateOnly))
		if status != 0 {
			t.Fatalf("dry run: %s%s", out, errOut)
		}
		return strings.Contains(out, `"subject":"12 of your points expire soon"`) && strings.Contains(out, "Hello Ada saver") &&
			strings.Contains(out, `{"result":{"version":1,"causes":3,"sent":1,"customers":1,"suppressed":{"cool_down":2}}}`)
	})
	select {
	case c := <-calls:
		t.Errorf("one more: %s", c.body)
	default:
	}
}
