package delivery

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"log/slog"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/google/uuid"
)

type consent struct {
	customer uuid.UUID
	category string
	n        int
	err      error
}

func (c *consent) Unsubscribe(_ context.Context, customer uuid.UUID, category string) error {
	c.customer, c.category = customer, category
	c.n++
	return c.err
}

func ask(h http.Handler, method, target, contentType string, body io.Reader) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, body)
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

const form = "application/x-www-form-urlencoded"

func TestUnsubscribe(t *testing.T) {
	l := links(t)
	customer := uuid.New()
	link := l.URL(customer, `news & "offers" <b>`)
	if !strings.HasPrefix(link, "https://sojourn.shop.example/unsubscribe/") {
		t.Fatal(link)
	}
	var c consent
	h := l.Handler(&c, slog.New(slog.DiscardHandler))
	w := ask(h, http.MethodGet, link, "", nil)
	if w.Code != 200 || c.n != 0 || !strings.Contains(w.Body.String(), "<button") || !strings.Contains(w.Body.String(), "news &amp; &#34;offers&#34; &lt;b&gt;") {
		t.Errorf("%d, %d, %s", w.Code, c.n, w.Body)
	}
	if w.Header().Get("Cache-Control") != "no-store" || w.Header().Get("Referrer-Policy") != "no-referrer" {
		t.Errorf("%v", w.Header())
	}
	// RFC 8058: a mail program posts this, as either form.
	w = ask(h, http.MethodPost, link, form, strings.NewReader("List-Unsubscribe=One-Click"))
	if w.Code != 200 || c.n != 1 || c.customer != customer || c.category != `news & "offers" <b>` {
		t.Errorf("%d, %+v", w.Code, c)
	}
	var b bytes.Buffer
	m := multipart.NewWriter(&b)
	_ = m.WriteField("List-Unsubscribe", "One-Click")
	_ = m.Close()
	if w = ask(h, http.MethodPost, link, m.FormDataContentType(), &b); w.Code != 200 || c.n != 2 {
		t.Errorf("%d, %+v", w.Code, c)
	}
	for name, body := range map[string]string{"empty": "", "another": "a=b", "large": strings.Repeat("x", 10_000)} {
		if w := ask(h, http.MethodPost, link, form, strings.NewReader(body)); w.Code != 400 || c.n != 2 {
			t.Errorf("%s: %d", name, w.Code)
		}
	}
	c.err = errors.New("the log is away")
	if w := ask(h, http.MethodPost, link, form, strings.NewReader("List-Unsubscribe=One-Click")); w.Code != 503 || w.Header().Get("Retry-After") == "" {
		t.Errorf("%d", w.Code)
	}
	if w := ask(h, http.MethodDelete, link, "", nil); w.Code != http.StatusMethodNotAllowed {
		t.Errorf("%d", w.Code)
	}
}

func TestLinksCannotBeForged(t *testing.T) {
	l := links(t)
	var c consent
	h := l.Handler(&c, slog.New(slog.DiscardHandler))
	u, err := url.Parse(l.URL(uuid.New(), "newsletter"))
	if err != nil {
		t.Fatal(err)
	}
	token := strings.TrimPrefix(u.Path, UnsubscribePath)
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		t.Fatal(err)
	}
	var tokens []string
	for i := range raw {
		bad := bytes.Clone(raw)
		bad[i] ^= 0x40
		tokens = append(tokens, base64.RawURLEncoding.EncodeToString(bad), base64.RawURLEncoding.EncodeToString(raw[:i]))
	}
	other, err := NewSealer(key(4))
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := url.Parse(NewLinks("https://x.example", other).URL(uuid.New(), "newsletter"))
	if err != nil {
		t.Fatal(err)
	}
	tokens = append(tokens, token+"A", token+"=", "x", strings.Repeat("A", 5000), strings.TrimPrefix(foreign.Path, UnsubscribePath))
	for _, bad := range tokens {
		if w := ask(h, http.MethodPost, UnsubscribePath+bad, form, strings.NewReader("List-Unsubscribe=One-Click")); w.Code != 404 && w.Code != 301 || c.n != 0 {
			t.Errorf("%s: %d", bad, w.Code)
		}
	}
	// Links outlive the key that signed them, as long as it is still given.
	both, err := NewSealer(key(4), key(3))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := NewLinks("https://x.example", both).parse(token); err != nil {
		t.Error(err)
	}
}
