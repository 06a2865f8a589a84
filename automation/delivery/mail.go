package delivery

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	netmail "net/mail"
	"net/textproto"
	"strconv"
	"strings"
	"time"

	"github.com/wneessen/go-mail"
)

// Mails hands e-mails to the SMTP server of the destination, one connection for
// each. (go-mail rather than net/smtp: that package is frozen, knows neither a
// context nor a dialer of ours, and builds no message.)
type Mails struct {
	guard *Guard
	tls   *tls.Config
	links *Links
	now   func() time.Time
}

// NewMails makes a sender. links makes the addresses behind List-Unsubscribe; nil
// leaves that header out. roots and now may be nil: those of the system, time.Now.
func NewMails(guard *Guard, roots *tls.Config, links *Links, now func() time.Time) *Mails {
	if roots == nil {
		roots = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if now == nil {
		now = time.Now
	}
	return &Mails{guard, roots, links, now}
}

// Send hands the e-mail over. What the server takes is delivered, as far as we
// can know. A refusal of the recipient or of the content with 5xx is for good;
// everything else asks for a retry. Outcome.Status is SMTP's code.
func (m *Mails) Send(ctx context.Context, a *Attempt) Outcome {
	started := time.Now()
	ctx, cancel := context.WithTimeout(ctx, a.Destination.Timeout())
	defer cancel()
	o := m.send(ctx, a)
	o.Latency = time.Since(started)
	return o
}

func (m *Mails) send(ctx context.Context, a *Attempt) Outcome {
	msg, err := m.message(a)
	if err != nil {
		return Outcome{Error: err.Error()}
	}
	// The connection is ours to close, at the context's end too: go-mail does not
	// heed that once it has dialled, nor does it close what fails before the greeting.
	var conn net.Conn
	defer func() {
		if conn != nil {
			_ = conn.Close()
		}
	}()
	s := a.Destination.SMTP
	dial := func(ctx2 context.Context, network, address string) (net.Conn, error) {
		c, err := m.guard.Dialer().DialContext(ctx2, network, address)
		if err != nil {
			return nil, err
		}
		conn = c
		context.AfterFunc(ctx, func() { _ = c.Close() })
		if s.TLS == "tls" {
			return tls.Client(c, m.config(s.Host)), nil
		}
		return c, nil
	}
	options := []mail.Option{
		mail.WithPort(s.Port), mail.WithTimeout(2 * MaxTimeout), mail.WithDialContextFunc(dial),
		mail.WithTLSConfig(m.config(s.Host)), mail.WithHELO(domainOf(s.From)), mail.WithoutNoop(),
	}
	switch s.TLS {
	case "tls":
		// The connection is encrypted already.
		options = append(options, mail.WithSSL())
	case "none":
		options = append(options, mail.WithTLSPolicy(mail.NoTLS))
	default:
		options = append(options, mail.WithTLSPolicy(mail.TLSMandatory))
	}
	if s.Username != "" {
		if len(a.Destination.Secrets) == 0 {
			return Outcome{Retry: true, Error: "the destination has no password"}
		}
		options = append(options, mail.WithUsername(s.Username), mail.WithPassword(a.Destination.Secrets[0].Reveal()),
			mail.WithOpportunisticSMTPAuth(mail.SMTPAuthSCRAMSHA256, mail.SMTPAuthPlain, mail.SMTPAuthLogin, mail.SMTPAuthCramMD5))
	}
	c, err := mail.NewClient(s.Host, options...)
	if err != nil {
		return Outcome{Retry: true, Error: err.Error()}
	}
	err = c.DialWithContext(ctx)
	if err == nil {
		err = c.Send(msg)
		if quit := c.Close(); err == nil {
			err = quit
		}
	}
	switch {
	case msg.IsDelivered():
		// What goes wrong behind that changes nothing.
		return Outcome{Delivered: true, Status: 250, Response: cut(msg.ServerResponse())}
	case ctx.Err() != nil:
		return Outcome{Retry: true, Error: cause(ctx.Err())}
	}
	return refused(err)
}

// refused is the outcome of an error. The server's words may name the recipient
// and are kept with the response only.
func refused(err error) Outcome {
	var protocol *textproto.Error
	var send *mail.SendError
	switch {
	case errors.As(err, &send):
		code := send.ErrorCode()
		o := Outcome{Retry: true, Status: code, Response: cut(err.Error()), Error: send.Reason.String()}
		if code == 0 {
			return o
		}
		o.Error += ": answered " + strconv.Itoa(code)
		content := send.Reason == mail.ErrSMTPRcptTo || send.Reason == mail.ErrSMTPData || send.Reason == mail.ErrSMTPDataClose
		o.Retry = code < 500 || !content
		return o
	case errors.As(err, &protocol):
		return Outcome{Retry: true, Status: protocol.Code, Response: cut(err.Error()), Error: "answered " + strconv.Itoa(protocol.Code)}
	}
	if strings.Contains(err.Error(), "does not support STARTTLS") {
		return Outcome{Retry: true, Error: "the server offers no STARTTLS; smtp.tls may be tls or none"}
	}
	return Outcome{Retry: true, Error: cause(err)}
}

func (m *Mails) config(host string) *tls.Config {
	c := m.tls.Clone()
	c.ServerName = host
	return c
}

func cut(text string) []byte { return []byte(text[:min(len(text), MaxResponse)]) }

// domainOf is the domain of an address that Validate has seen.
func domainOf(address string) string {
	a, err := netmail.ParseAddress(address)
	if err != nil {
		return "localhost"
	}
	return a.Address[strings.LastIndexByte(a.Address, '@')+1:]
}

// message builds the e-mail. An error is about its content and for good.
func (m *Mails) message(a *Attempt) (*mail.Msg, error) {
	msg := mail.NewMsg(mail.WithNoDefaultUserAgent())
	s := a.Destination.SMTP
	if err := msg.From(s.From); err != nil {
		return nil, errors.New("the sender is no address")
	}
	if err := msg.To(a.To); err != nil {
		return nil, errors.New("the recipient is no address")
	}
	if s.ReplyTo != "" {
		if err := msg.ReplyTo(s.ReplyTo); err != nil {
			return nil, errors.New("reply_to is no address")
		}
	}
	msg.Subject(a.Subject)
	msg.SetDateWithValue(m.now())
	// The same on every attempt, so that whoever receives it twice can tell.
	msg.SetMessageIDWithValue(a.ID.String() + "@" + domainOf(s.From))
	msg.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834: no machine answers
	for name, value := range a.Header {
		msg.SetGenHeader(mail.Header(textproto.CanonicalMIMEHeaderKey(name)), value)
	}
	if m.links != nil && a.Category != "" {
		// Unfolded and unencoded: a long address is one word.
		msg.SetGenHeaderPreformatted("List-Unsubscribe", "<"+m.links.URL(a.Customer, a.Category)+">")
		msg.SetGenHeader("List-Unsubscribe-Post", "List-Unsubscribe=One-Click")
	}
	switch {
	case a.Text != "" && a.HTML != "":
		msg.SetBodyString(mail.TypeTextPlain, a.Text)
		msg.AddAlternativeString(mail.TypeTextHTML, a.HTML)
	case a.HTML != "":
		msg.SetBodyString(mail.TypeTextHTML, a.HTML)
	case a.Text != "":
		msg.SetBodyString(mail.TypeTextPlain, a.Text)
	default:
		return nil, fmt.Errorf("the e-mail has neither text nor html")
	}
	return msg, nil
}
