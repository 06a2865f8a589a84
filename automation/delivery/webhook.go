package delivery

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

const secretPrefix = "whsec_"

// newSigningSecret is a signing secret of 256 random bits, as the Standard
// Webhooks spec writes them.
func newSigningSecret() Secret {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	return NewSecret(secretPrefix + base64.StdEncoding.EncodeToString(b[:]))
}

// validSigningSecret checks a signing secret that a user brings along. The error
// does not repeat it.
func validSigningSecret(s Secret) error {
	text, ok := strings.CutPrefix(s.Reveal(), secretPrefix)
	key, err := base64.StdEncoding.DecodeString(text)
	if !ok || err != nil || len(key) < 24 || len(key) > 64 {
		return invalid("secret", "it is no whsec_ and 24 to 64 bytes in base64")
	}
	return nil
}

// sign is the value of webhook-signature: one signature for each secret.
func sign(secrets []Secret, id string, at time.Time, body []byte) (string, error) {
	signatures := make([]string, 0, len(secrets))
	for _, s := range secrets {
		w, err := standardwebhooks.NewWebhook(s.Reveal())
		if err != nil {
			return "", errors.New("a signing secret is damaged")
		}
		signature, err := w.Sign(id, at, body)
		if err != nil {
			return "", errors.New("the body cannot be signed")
		}
		signatures = append(signatures, signature)
	}
	if len(signatures) == 0 {
		return "", errors.New("the destination has no signing secret")
	}
	return strings.Join(signatures, " "), nil
}

// Webhooks sends by HTTP POST, signed by the Standard Webhooks spec. It follows
// no redirect and uses no proxy, so that every connection is the guard's to judge.
type Webhooks struct {
	client *http.Client
	now    func() time.Time
}

// bodyWait is how long the answer's body has after its status, which decides.
const bodyWait = 2 * time.Second

// NewWebhooks makes a sender. now may be nil: time.Now; roots may be nil: those
// of the system.
func NewWebhooks(guard *Guard, roots *tls.Config, now func() time.Time) *Webhooks {
	if now == nil {
		now = time.Now
	}
	if roots == nil {
		roots = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	return &Webhooks{now: now, client: &http.Client{
		Transport: &http.Transport{
			DialContext:         guard.Dialer().DialContext,
			TLSClientConfig:     roots,
			TLSHandshakeTimeout: 10 * time.Second,
			ForceAttemptHTTP2:   true,
			MaxIdleConnsPerHost: 8,
			IdleConnTimeout:     time.Minute,
			DisableCompression:  true, // an answer is never unpacked
			// The status is all that is needed of an answer.
			MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Close closes idle connections.
func (w *Webhooks) Close() { w.client.CloseIdleConnections() }

// Send posts the body. 2xx is a delivery whatever comes after the status, 410 is
// Gone, and everything else asks for a retry, as the spec has it.
func (w *Webhooks) Send(ctx context.Context, a *Attempt) Outcome {
	started := time.Now()
	ctx, cancel := context.WithTimeout(ctx, a.Destination.Timeout())
	defer cancel()
	o := w.send(ctx, cancel, a)
	o.Latency = time.Since(started)
	return o
}

func (w *Webhooks) send(ctx context.Context, cancel func(), a *Attempt) Outcome {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, a.Destination.URL, bytes.NewReader(a.Body))
	if err != nil {
		return Outcome{Retry: true, Error: cause(err)}
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "Sojourn (Standard Webhooks)")
	for name, value := range a.Header {
		r.Header.Set(name, value)
	}
	at := w.now()
	signature, err := sign(a.Destination.Secrets, a.ID.String(), at, a.Body)
	if err != nil {
		return Outcome{Retry: true, Error: err.Error()}
	}
	r.Header.Set(standardwebhooks.HeaderWebhookID, a.ID.String())
	r.Header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(at.Unix(), 10))
	r.Header.Set(standardwebhooks.HeaderWebhookSignature, signature)

	res, err := w.client.Do(r)
	if err != nil {
		return Outcome{Retry: true, Error: cause(err)}
	}
	defer time.AfterFunc(bodyWait, cancel).Stop()
	// What breaks off behind the status changes nothing.
	response, _ := io.ReadAll(io.LimitReader(res.Body, MaxResponse))
	_ = res.Body.Close()
	o := Outcome{Status: res.StatusCode, Response: response}
	switch {
	case res.StatusCode >= 200 && res.StatusCode < 300:
		o.Delivered = true
		return o
	case res.StatusCode == http.StatusGone:
		o.Gone = true
	default:
		o.Retry = true
		o.RetryAfter = retryAfter(res.Header.Get("Retry-After"), at)
	}
	o.Error = "answered " + strconv.Itoa(res.StatusCode)
	if text := http.StatusText(res.StatusCode); text != "" {
		o.Error += " " + text
	}
	if res.StatusCode >= 300 && res.StatusCode < 400 {
		o.Error += "; redirects are not followed, change the address of the destination"
	}
	return o
}

// cause is an error in words, without the address, which may hold a token.
func cause(err error) string {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	var dns *net.DNSError
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "no answer in time"
	case errors.Is(err, context.Canceled):
		return "stopped"
	case errors.As(err, &dns) && dns.IsNotFound:
		return "there is no host of that name"
	case errors.Is(err, io.EOF):
		return "the connection was closed without an answer"
	}
	return err.Error()
}

// retryAfter reads Retry-After: seconds, or a date.
func retryAfter(value string, now time.Time) time.Duration {
	value = strings.TrimSpace(value)
	if value == "" {
		return 0
	}
	if seconds, err := strconv.ParseUint(value, 10, 63); err == nil {
		if seconds > uint64(MaxRetryAfter/time.Second) {
			return MaxRetryAfter
		}
		return time.Duration(seconds) * time.Second
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return min(max(at.Sub(now), 0), MaxRetryAfter)
}
