package delivery

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"html/template"
	"log/slog"
	"net/http"
	"strings"

	"github.com/google/uuid"
)

// UnsubscribePath is where the handler of the signed links stands.
const UnsubscribePath = "/unsubscribe/"

// Links makes and reads the signed links behind List-Unsubscribe. They are valid
// for ever: an e-mail may be years old when its reader has had enough. They tell
// no more than a customer's id and the name of a category.
type Links struct {
	base   string
	sealer *Sealer
}

// NewLinks makes links under the address at which this server is reached from the
// outside, such as https://sojourn.shop.example.
func NewLinks(publicURL string, sealer *Sealer) *Links {
	return &Links{strings.TrimSuffix(publicURL, "/") + UnsubscribePath, sealer}
}

const linkFormat = 1

// URL is the link with which a customer withdraws consent to a category.
func (l *Links) URL(customer uuid.UUID, category string) string {
	k := &l.sealer.keys[0]
	b := append([]byte{linkFormat}, k.id[:]...)
	b = append(append(b, customer[:]...), category...)
	return l.base + base64.RawURLEncoding.EncodeToString(append(b, k.mac(b)...))
}

func (k *sealKey) mac(b []byte) []byte {
	h := hmac.New(sha256.New, k.link)
	h.Write(b)
	return h.Sum(nil)
}

// ErrLink is about a link that we have not signed.
var ErrLink = errors.New("this link is damaged or was not made here")

const maxLink = 2048

// parse reads what follows UnsubscribePath.
func (l *Links) parse(token string) (customer uuid.UUID, category string, err error) {
	if len(token) > maxLink {
		return customer, "", ErrLink
	}
	// Strict: no two links are one.
	b, err := base64.RawURLEncoding.Strict().DecodeString(token)
	const head = 1 + 4 + 16
	if err != nil || len(b) < head+1+sha256.Size || b[0] != linkFormat {
		return customer, "", ErrLink
	}
	signed, mac := b[:len(b)-sha256.Size], b[len(b)-sha256.Size:]
	for _, k := range l.sealer.keys {
		if k.id == [4]byte(signed[1:5]) && hmac.Equal(mac, k.mac(signed)) {
			return uuid.UUID(signed[5:head]), string(signed[head:]), nil
		}
	}
	return customer, "", ErrLink
}

// Unsubscriber records that a customer withdraws consent. The id is that of the
// e-mail's time; the customer may bear another by now.
type Unsubscriber interface {
	// Unsubscribe is durable when it returns. Doing it twice is harmless.
	Unsubscribe(ctx context.Context, customer uuid.UUID, category string) error
}

// Handler answers the signed links: a POST withdraws (RFC 8058: mail programs send
// List-Unsubscribe=One-Click), a GET changes nothing, as programs that look into
// e-mails follow links; it shows a page with a button that posts.
func (l *Links) Handler(u Unsubscriber, log *slog.Logger) http.Handler {
	mux := http.NewServeMux()
	handle := func(w http.ResponseWriter, r *http.Request) {
		customer, category, err := l.parse(r.PathValue("token"))
		if err != nil {
			page(w, http.StatusNotFound, pageData{Title: "This link does not work", Text: "It is damaged or was not made here. Please use the link of the e-mail as it is."})
			return
		}
		if r.Method != http.MethodPost {
			page(w, http.StatusOK, pageData{Title: "Unsubscribe", Text: "No more e-mails of this kind:", Category: strings.TrimPrefix(category, "trait:")})
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, 4<<10)
		if err := r.ParseMultipartForm(4 << 10); err != nil && !errors.Is(err, http.ErrNotMultipart) {
			page(w, http.StatusBadRequest, pageData{Title: "That did not work", Text: "The request is no form."})
			return
		}
		if r.PostForm.Get("List-Unsubscribe") != "One-Click" {
			page(w, http.StatusBadRequest, pageData{Title: "That did not work", Text: "The form lacks List-Unsubscribe=One-Click."})
			return
		}
		if err := u.Unsubscribe(r.Context(), customer, category); err != nil {
			log.Error("a customer cannot be unsubscribed", "customer", customer, "error", err)
			w.Header().Set("Retry-After", "60")
			page(w, http.StatusServiceUnavailable, pageData{Title: "That did not work", Text: "Please try again in a minute."})
			return
		}
		page(w, http.StatusOK, pageData{Title: "Unsubscribed", Text: "You will get no more e-mails of this kind."})
	}
	mux.HandleFunc("GET "+UnsubscribePath+"{token}", handle)
	mux.HandleFunc("POST "+UnsubscribePath+"{token}", handle)
	return mux
}

type pageData struct{ Title, Text, Category string }

var pageTemplate = template.Must(template.New("").Parse(`<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="robots" content="noindex">
<title>{{.Title}}</title>
<style>body{font:1.1rem/1.5 system-ui,sans-serif;max-width:32rem;margin:4rem auto;padding:0 1rem}button{font:inherit;padding:.5rem 1.5rem}</style>
<h1>{{.Title}}</h1>
<p>{{.Text}}</p>
{{- with .Category}}
<p><strong>{{.}}</strong></p>
<form method="post"><button name="List-Unsubscribe" value="One-Click">Unsubscribe</button></form>
{{- end}}
</html>
`))

func page(w http.ResponseWriter, status int, d pageData) {
	var b bytes.Buffer
	if err := pageTemplate.Execute(&b, d); err != nil {
		http.Error(w, "the page cannot be made", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer") // the link is the key to it
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes())
}
