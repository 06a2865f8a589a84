package delivery

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	htmltemplate "html/template"
	"io"
	"maps"
	"net/http"
	"net/mail"
	"slices"
	"strings"
	"text/template"
	"time"
)

// Templates is a Content that is ready to render. It may be used concurrently.
type Templates struct {
	kind  Kind
	parts map[string]*part
}

// part is one compiled template.
type part struct {
	name string
	text *template.Template     // nil for the part html
	html *htmltemplate.Template // only of the part html
	open bool                   // what it makes depends on what is the sender's own
}

// DefaultTo is the recipient of an e-mail whose document names none.
const DefaultTo = "{{.customer.traits.email}}"

// DefaultKey is the key of a Kafka message whose document names none.
const DefaultKey = "{{.customer.id}}"

// reserved are headers that are ours to set.
var reserved = map[Kind][]string{
	Webhook: {
		"Webhook-Id", "Webhook-Timestamp", "Webhook-Signature", "Host", "Content-Length", "Transfer-Encoding", "Connection",
		"Trailer", "Te", "Upgrade", "Keep-Alive", "Proxy-Connection", "Expect", "Accept-Encoding",
	},
	Email: {
		"From", "To", "Cc", "Bcc", "Sender", "Return-Path", "Reply-To", "Subject", "Date", "Message-Id", "Mime-Version",
		"Content-Type", "Content-Transfer-Encoding", "Content-Disposition", "List-Unsubscribe", "List-Unsubscribe-Post", "Auto-Submitted",
		"Dkim-Signature", "Received",
	},
	Kafka: {"Delivery-Id"},
}

// Compile checks a content for a kind of destination and makes it ready. The
// error joins a *TemplateError for each part that is wrong. What can be known
// when a trigger is saved is found here: parts that the kind does not have,
// syntax, names that a template does not see, and a body that is no JSON.
func (c *Content) Compile(kind Kind) (*Templates, error) {
	t := &Templates{kind: kind, parts: make(map[string]*part)}
	var errs []error
	add := func(name, text string) {
		p, err := compile(name, text)
		if err != nil {
			errs = append(errs, err)
			return
		}
		t.parts[name] = p
	}
	bad := func(part, format string, args ...any) {
		errs = append(errs, &TemplateError{Part: part, Problem: fmt.Sprintf(format, args...)})
	}
	has := func(name, text, fallback string, kinds ...Kind) {
		switch {
		case !slices.Contains(kinds, kind):
			if text != "" {
				bad(name, "a destination of kind %s has no such part", kind)
			}
		case text != "":
			add(name, text)
		case fallback != "":
			add(name, fallback)
		}
	}
	has("body", c.Body, "", Webhook, Kafka) // its default is Data itself
	has("key", c.Key, DefaultKey, Kafka)
	has("to", c.To, DefaultTo, Email)
	has("subject", c.Subject, "", Email)
	has("text", c.Text, "", Email)
	has("html", c.HTML, "", Email)
	if kind == Email {
		if c.Subject == "" {
			bad("subject", "an e-mail needs one")
		}
		if c.Text == "" && c.HTML == "" {
			bad("text", "an e-mail needs text, html or both")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Header)) {
		canonical := http.CanonicalHeaderKey(name)
		switch {
		case !validHeader(name):
			bad("header."+name, "this is no name of a header")
		case slices.Contains(reserved[kind], canonical):
			bad("header."+name, "this header is not to be set")
		default:
			add("header."+name, c.Header[name])
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	// What fails with every customer there could be fails when it is saved.
	values, err := sample.values()
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(t.parts)) {
		p := t.parts[name]
		b, err := p.render(values)
		if p.open {
			continue // with a customer's own traits it may do well
		}
		if err == nil && name == "body" && isJSON(c.Header) && !json.Valid(b) {
			err = noJSON()
		}
		errs = append(errs, err)
	}
	return t, errors.Join(errs...)
}

// sample is a delivery as there could be.
var sample = Data{
	Delivery: "00000000-0000-0000-0000-000000000000", Trigger: TriggerData{"care", "Care", 1}, Type: "stage.entered",
	At: time.Unix(0, 0).UTC(), Reason: "no purchase for 60 days", UnsubscribeURL: "https://sojourn.example/unsubscribe/x",
	Event:    &EventData{ID: "00000000-0000-0000-0000-000000000000", Name: "Order Completed", Meaning: "purchase"},
	Customer: CustomerData{ID: "00000000-0000-0000-0000-000000000000", Stage: "at_risk", Timezone: "UTC"},
}

func noJSON() error {
	return &TemplateError{Part: "body", Problem: "it is no JSON; write values as {{json .customer.traits.name}}, or set the header Content-Type"}
}

func validHeader(name string) bool {
	if name == "" || len(name) > 128 {
		return false
	}
	for _, c := range []byte(name) {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' {
			continue
		}
		return false
	}
	return true
}

// Render makes the message. The error is a *TemplateError: with these data there
// is nothing to send, such as for a customer without an address, and there will be
// nothing at a repeat either.
func (t *Templates) Render(d *Data) (Message, error) {
	data, err := d.values()
	if err != nil {
		return Message{}, &TemplateError{Part: "data", Problem: err.Error()}
	}
	var m Message
	text := func(name string) string {
		p := t.parts[name]
		if p == nil || err != nil {
			return ""
		}
		var b []byte
		b, err = p.render(data)
		return string(b)
	}
	line := func(name string) string {
		s := strings.TrimSpace(text(name))
		if err == nil && strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			err = &TemplateError{Part: name, Problem: "it has to be one line"}
		}
		if err == nil && len(s) > maxLine {
			err = &TemplateError{Part: name, Problem: fmt.Sprintf("it has more than %d bytes", maxLine)}
		}
		return s
	}
	m.Key = line("key")
	m.To, m.Subject, m.Text, m.HTML = line("to"), line("subject"), text("text"), text("html")
	for name := range t.parts {
		if header, ok := strings.CutPrefix(name, "header."); ok {
			if m.Header == nil {
				m.Header = make(map[string]string)
			}
			m.Header[header] = line(name)
		}
	}
	switch {
	case t.kind == Email:
		if err == nil {
			m.To, err = oneAddress(m.To)
		}
	case t.parts["body"] != nil:
		m.Body = []byte(text("body"))
		if err == nil && isJSON(m.Header) && !json.Valid(m.Body) {
			err = noJSON()
		}
	default:
		m.Body, err = d.defaultBody(err)
	}
	if err != nil {
		return Message{}, err
	}
	return m, nil
}

// maxLine is how long a header, a key, a subject or an address can be, in bytes.
const maxLine = 998

// isJSON tells whether a body is to be JSON: unless a header says otherwise.
func isJSON(header map[string]string) bool {
	for name, value := range header {
		if http.CanonicalHeaderKey(name) == "Content-Type" {
			return strings.HasPrefix(strings.ToLower(value), "application/json")
		}
	}
	return true
}

// oneAddress is the address of exactly one recipient.
func oneAddress(s string) (string, error) {
	a, err := mail.ParseAddress(s)
	if err != nil {
		return "", &TemplateError{Part: "to", Problem: "this customer has no e-mail address there"}
	}
	return a.String(), nil
}

// defaultBody is the body of a document that has none: type, timestamp and data,
// as the Standard Webhooks spec recommends.
func (d *Data) defaultBody(err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(struct {
		Type      string `json:"type"`
		Timestamp string `json:"timestamp"`
		Data      *Data  `json:"data"`
	}{d.Type, timestamp(d.At), d})
	if err == nil && len(b) > MaxBody {
		return nil, tooLong("body")
	}
	if err != nil {
		return nil, &TemplateError{Part: "body", Problem: err.Error()}
	}
	return b, nil
}

func tooLong(part string) *TemplateError {
	return &TemplateError{Part: part, Problem: fmt.Sprintf("it has more than %d bytes", MaxBody)}
}

// limited takes MaxBody bytes.
type limited struct {
	bytes.Buffer
	part string
}

func (l *limited) Write(b []byte) (int, error) {
	if l.Len()+len(b) > MaxBody {
		return 0, tooLong(l.part)
	}
	return l.Buffer.Write(b)
}

func (p *part) render(data map[string]any) ([]byte, error) {
	out := &limited{part: p.name}
	steps := 0
	step := func() (string, error) {
		if steps++; steps > maxSteps {
			return "", fmt.Errorf("it takes more than %d steps", maxSteps)
		}
		return "", nil
	}
	var err error
	// A copy has functions of its own, so that each rendering counts its own steps.
	if p.html != nil {
		err = executeHTML(p.html, out, data, step)
	} else {
		err = executeText(p.text, out, data, step)
	}
	if err != nil {
		return nil, asTemplateError(p.name, err)
	}
	return out.Bytes(), nil
}

func executeText(t *template.Template, out io.Writer, data map[string]any, step func() (string, error)) error {
	c, err := t.Clone()
	if err != nil {
		return err
	}
	return c.Funcs(template.FuncMap{stepName: step}).Execute(out, data)
}

func executeHTML(t *htmltemplate.Template, out io.Writer, data map[string]any, step func() (string, error)) error {
	c, err := t.Clone()
	if err != nil {
		return err
	}
	return c.Funcs(htmltemplate.FuncMap{stepName: step}).Execute(out, data)
}
