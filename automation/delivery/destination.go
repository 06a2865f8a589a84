package delivery

import (
	"errors"
	"fmt"
	"net"
	"net/mail"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// Destination is where deliveries go.
type Destination struct {
	Name string `json:"name"`
	Kind Kind   `json:"kind"`
	// Enabled is false after Disable or a 410; what waits then goes on waiting.
	Enabled bool `json:"enabled"`
	// Reason says why it is disabled.
	Reason string `json:"reason,omitempty"`

	// URL is that of a webhook.
	URL   string `json:"url,omitempty"`
	SMTP  *SMTP  `json:"smtp,omitempty"`
	Topic *Topic `json:"topic,omitempty"`

	// Rate is how many attempts a second are made at most, on average; 0 for no
	// limit. Concurrency is how many at one time; 0 means DefaultConcurrency.
	Rate        float64 `json:"rate,omitempty"`
	Concurrency int     `json:"concurrency,omitempty"`
	// TimeoutMillis is how long an attempt may take; 0 means DefaultTimeout.
	TimeoutMillis int64 `json:"timeout_ms,omitempty"`

	// Secrets are the valid ones, the newest first: those that sign a webhook, or
	// the password of an SMTP server or of Kafka. They are in no JSON.
	Secrets []Secret `json:"-"`
}

// SMTP is the server that e-mails are handed to.
type SMTP struct {
	Host string `json:"host" yaml:"host"`
	Port int    `json:"port" yaml:"port"`
	// TLS is starttls (the default), tls (from the first byte, port 465), or none,
	// which sends a password to loopback only.
	TLS      string `json:"tls,omitempty" yaml:"tls"`
	Username string `json:"username,omitempty" yaml:"username"`
	From     string `json:"from" yaml:"from"` // an address, also with a name: Shop <hello@shop.example>
	ReplyTo  string `json:"reply_to,omitempty" yaml:"reply_to"`
}

// Topic is a topic of Kafka.
type Topic struct {
	Brokers  []string `json:"brokers" yaml:"brokers"`
	Name     string   `json:"name" yaml:"name"`
	TLS      bool     `json:"tls,omitempty" yaml:"tls"`
	SASL     string   `json:"sasl,omitempty" yaml:"sasl"` // plain, scram-sha-256 or scram-sha-512; empty for none
	Username string   `json:"username,omitempty" yaml:"username"`
}

// Defaults and limits of a destination.
const (
	DefaultTimeout     = 15 * time.Second
	MaxTimeout         = 30 * time.Second
	DefaultConcurrency = 8
	MaxConcurrency     = 256
	MaxRate            = 10_000
)

// Timeout is how long an attempt may take.
func (d *Destination) Timeout() time.Duration {
	if d.TimeoutMillis == 0 {
		return DefaultTimeout
	}
	return time.Duration(d.TimeoutMillis) * time.Millisecond
}

var namePattern = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,63}$`)

// ErrInvalid is what errors.Is finds in every error about what a destination says.
var ErrInvalid = errors.New("invalid destination")

// FieldError is what is wrong with a field of a destination.
type FieldError struct {
	Field   string // its name in JSON, such as smtp.port
	Problem string
}

func (e *FieldError) Error() string { return e.Field + ": " + e.Problem }

// Is makes errors.Is(err, ErrInvalid) true.
func (e *FieldError) Is(target error) bool { return target == ErrInvalid }

func invalid(field, format string, args ...any) error {
	return &FieldError{field, fmt.Sprintf(format, args...)}
}

// Validate checks a destination without trying it. The error joins a *FieldError for
// each field that is wrong.
func (d *Destination) Validate() error {
	var errs []error
	bad := func(field, format string, args ...any) {
		errs = append(errs, invalid(field, format, args...))
	}
	if !namePattern.MatchString(d.Name) {
		bad("name", "%q is not 1 to 64 of a to z, 0 to 9, '_' and '-', the first a letter or digit", d.Name)
	}
	only := func(kind Kind, field string, set bool) {
		if set && d.Kind != kind {
			bad(field, "belongs to kind %s", kind)
		}
	}
	only(Webhook, "url", d.URL != "")
	only(Email, "smtp", d.SMTP != nil)
	only(Kafka, "topic", d.Topic != nil)
	switch d.Kind {
	case Webhook:
		if err := validURL(d.URL); err != nil {
			bad("url", "%v", err)
		}
	case Email:
		d.SMTP.validate(bad)
	case Kafka:
		d.Topic.validate(bad)
	default:
		bad("kind", "%q is not webhook, email or kafka", d.Kind)
	}
	if !(d.Rate >= 0 && d.Rate <= MaxRate) {
		bad("rate", "%v is not from 0 (no limit) to %d a second", d.Rate, MaxRate)
	}
	if d.Concurrency < 0 || d.Concurrency > MaxConcurrency {
		bad("concurrency", "%d is not from 1 to %d, or 0 for %d", d.Concurrency, MaxConcurrency, DefaultConcurrency)
	}
	if t := d.Timeout(); t < 100*time.Millisecond || t > MaxTimeout {
		bad("timeout_ms", "%v is not from 100ms to %v", t, MaxTimeout)
	}
	return errors.Join(errs...)
}

func validURL(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("%q is no address such as https://example.com/hooks", s)
	case u.User != nil:
		return errors.New("a user and a password in the address would be logged by others; the signature says who sends")
	case u.Fragment != "":
		return errors.New("a fragment (#…) is never sent")
	}
	return nil
}

func (s *SMTP) validate(bad func(field, format string, args ...any)) {
	if s == nil {
		bad("smtp", "name the server: host, port, from")
		return
	}
	if s.Host == "" || strings.ContainsAny(s.Host, "/: \t") && net.ParseIP(s.Host) == nil {
		bad("smtp.host", "%q is no host", s.Host)
	}
	if s.Port < 1 || s.Port > 65535 {
		bad("smtp.port", "%d is not from 1 to 65535", s.Port)
	}
	if s.TLS != "" && s.TLS != "starttls" && s.TLS != "tls" && s.TLS != "none" {
		bad("smtp.tls", "%q is not starttls, tls or none", s.TLS)
	}
	if a, err := netip.ParseAddr(s.Host); s.TLS == "none" && s.Username != "" && s.Host != "localhost" && (err != nil || !a.IsLoopback()) {
		bad("smtp.tls", "a password would go in the clear to %s", s.Host)
	}
	if _, err := mail.ParseAddress(s.From); err != nil {
		bad("smtp.from", "%q is no address such as Shop <hello@shop.example>", s.From)
	}
	if s.ReplyTo != "" {
		if _, err := mail.ParseAddress(s.ReplyTo); err != nil {
			bad("smtp.reply_to", "%q is no address", s.ReplyTo)
		}
	}
}

var topicPattern = regexp.MustCompile(`^[A-Za-z0-9._-]{1,249}$`)

func (t *Topic) validate(bad func(field, format string, args ...any)) {
	if t == nil {
		bad("topic", "name it: brokers, name")
		return
	}
	if len(t.Brokers) == 0 {
		bad("topic.brokers", "name at least one, as host:port")
	}
	for _, b := range t.Brokers {
		if host, port, err := net.SplitHostPort(b); err != nil || host == "" || port == "" {
			bad("topic.brokers", "%q is no host:port", b)
		}
	}
	if !topicPattern.MatchString(t.Name) || t.Name == "." || t.Name == ".." {
		bad("topic.name", "%q is no name of a topic", t.Name)
	}
	if t.SASL != "" && t.SASL != "plain" && t.SASL != "scram-sha-256" && t.SASL != "scram-sha-512" {
		bad("topic.sasl", "%q is not plain, scram-sha-256 or scram-sha-512", t.SASL)
	}
	if (t.SASL == "") != (t.Username == "") {
		bad("topic.username", "goes with sasl")
	}
}
