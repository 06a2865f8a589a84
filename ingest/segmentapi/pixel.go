package segmentapi

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"sojourn/ingest"
)

// gif is an empty, transparent image of one pixel.
var gif = []byte("GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff!\xf9\x04\x01\x00\x00\x00\x00,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;")

// pixel takes a message from the address of an image. The answer is always 200
// and the image, and promises nothing: a mail client cannot try again.
func (h *Handler) pixel(w http.ResponseWriter, r *http.Request, ep endpoint) {
	if !h.allow(w, r, http.MethodGet, http.MethodHead) {
		return
	}
	out, err := h.fromQuery(r, ep)
	if err != nil {
		f, _ := refusalOf(err)
		h.note(r, f)
	} else {
		position(w, out)
	}
	header := w.Header()
	header.Set("Content-Type", "image/gif")
	header.Set("Content-Length", strconv.Itoa(len(gif)))
	header.Set("Cache-Control", "no-store")
	_, _ = w.Write(gif) // as in succeed
}

func (h *Handler) fromQuery(r *http.Request, ep endpoint) (ingest.Outcome, error) {
	room, err := h.service.Reserve(int64(len(r.URL.RawQuery)))
	if err != nil {
		return ingest.Outcome{}, err
	}
	defer room.Release()
	receivedAt := h.service.Now()
	// What of a query cannot be read is left out; the rest may still be a message.
	query, _ := url.ParseQuery(r.URL.RawQuery)
	source, err := h.headerSource(r)
	if err != nil {
		return ingest.Outcome{}, err
	}
	if key := query.Get("writeKey"); source == "" && key != "" {
		if source, err = h.keys.Source(key); err != nil {
			return ingest.Outcome{}, err
		}
	}
	var text []byte
	if query.Has("data") {
		text, err = decodeData(query.Get("data"))
	} else {
		text, err = flatMessage(query)
	}
	var m ingest.Message
	if err == nil {
		m, err = ingest.ParseMessage(text)
	}
	if err != nil {
		h.list(r.Context(), source, []byte(r.URL.RawQuery), errNoJSON)
		return ingest.Outcome{}, errNoJSON
	}
	m.Kind = ep.kind
	if source, err = h.bodySource(source, m.WriteKey()); err != nil {
		return ingest.Outcome{}, err
	}
	h.metrics.bytes.Add(float64(len(text)))
	return h.service.Ingest(r.Context(), &ingest.Batch{
		Source: source, ReceivedAt: receivedAt, Messages: []ingest.Message{m},
	}, 0)
}

// decodeData reads base64 of the standard or the URL alphabet, padded or not. A
// plus sign that the query turned into a space is one again. JSON that was not
// encoded is taken as it is.
func decodeData(data string) ([]byte, error) {
	if strings.HasPrefix(strings.TrimSpace(data), "{") {
		return []byte(data), nil
	}
	data = strings.NewReplacer(" ", "+", "-", "+", "_", "/", "\n", "", "\r", "").Replace(data)
	return base64.RawStdEncoding.DecodeString(strings.TrimRight(data, "="))
}

// nested are the members of a message that a flat query fills by a dot:
// properties.total=12.
var nested = []string{"properties", "traits", "context", "integrations"}

// flatMessage is the message of a flat query, as the JSON that is kept: each
// parameter is a string member.
func flatMessage(query url.Values) ([]byte, error) {
	message := make(map[string]any, len(query))
	for name := range query {
		value := query.Get(name)
		parent, child, dotted := strings.Cut(name, ".")
		if dotted && child != "" {
			for _, n := range nested {
				if n == parent {
					members, ok := message[parent].(map[string]any)
					if !ok {
						members = make(map[string]any)
						message[parent] = members
					}
					members[child] = value
					name = ""
				}
			}
		}
		if _, taken := message[name]; name != "" && !taken {
			message[name] = value
		}
	}
	return json.Marshal(message)
}
