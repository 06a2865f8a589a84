package segmentapi

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"sojourn/ingest"
	"sojourn/ingest/internal/jsonread"
)

// call is the memory of one call, used again by the next.
type call struct {
	body   []byte
	gzip   *gzip.Reader
	parsed batchBody
	wire   wire
}

// keep leaves the memory of a call to the next.
func (h *Handler) keep(c *call) {
	c.wire.r = nil
	c.parsed.writeKey = nil
	msgs := c.parsed.batch.Messages
	if cap(msgs) > 2*ingest.MaxMessages {
		msgs = nil
	}
	clear(msgs)
	c.parsed.batch = ingest.Batch{Messages: msgs[:0]}
	h.calls.Put(c)
}

// post answers a tracking call:
//
//  1. Room is reserved, so that memory is bounded whoever sends how much.
//  2. A write key in the header is checked before the body is read, so that
//     strangers cost little.
//  3. The body is read, decompressed and parsed to its end, and a write key in
//     it checked: from here on nothing is answered 400 or 401.
//  4. The service brings every message to the log; 200 says that all are durable.
func (h *Handler) post(w http.ResponseWriter, r *http.Request, ep endpoint) {
	if !h.allow(w, r, http.MethodPost) {
		return
	}
	control := http.NewResponseController(w)
	// Where the call ends before its body, the deadline holds for the rest of it,
	// which net/http reads on its own. Not every writer has one.
	timed := control.SetReadDeadline(time.Now().Add(h.bodyTimeout)) == nil
	room, err := h.service.Reserve(expectedSize(r))
	if err != nil {
		f, _ := refusalOf(err)
		h.refuse(w, r, f)
		return
	}
	defer room.Release()

	source, err := h.headerSource(r)
	if err != nil {
		f, _ := refusalOf(err)
		h.refuse(w, r, f)
		return
	}
	receivedAt := h.service.Now()
	c := h.calls.Get().(*call)
	if err := h.read(r, c, room); err != nil {
		f, _ := refusalOf(err)
		h.refuse(w, r, f)
		h.list(r.Context(), source, c.body, f)
		h.keep(c)
		return
	}
	if timed {
		// The connection is quiet while the call is worked on.
		_ = control.SetReadDeadline(time.Time{})
	}
	h.metrics.bytes.Add(float64(len(c.body)))
	batch, source, err := h.parse(c, ep, source, room)
	if err != nil {
		f, _ := refusalOf(err)
		h.list(r.Context(), source, c.body, f)
		h.refuse(w, r, f)
		h.keep(c)
		return
	}
	batch.Source, batch.ReceivedAt = source, receivedAt
	limit := 0
	if ep.batch {
		limit = ingest.MaxMessages
	}
	out, err := h.service.Ingest(r.Context(), batch, limit)
	if err != nil {
		// The store may still read the body: it is not used again.
		h.fail(w, r, err)
		return
	}
	h.keep(c)
	position(w, out)
	if out.Rejected > 0 {
		w.Header()[RejectedHeader] = []string{strconv.Itoa(out.Rejected)}
	}
	if out.Duplicates > 0 {
		w.Header()[DuplicatesHeader] = []string{strconv.Itoa(out.Duplicates)}
	}
	h.succeed(w)
}

// position says where the call stands in the log, where it does already.
func position(w http.ResponseWriter, out ingest.Outcome) {
	if !out.Ahead {
		w.Header()[PositionHeader] = []string{strconv.FormatUint(uint64(out.Position), 10)}
	}
}

func (h *Handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	f, ours := refusalOf(err)
	if ours {
		h.logger.LogAttrs(r.Context(), slog.LevelError, "tracking call not stored", slog.Any("error", err))
	}
	h.refuse(w, r, f)
}

// expectedSize is what a body will take as far as its header tells.
func expectedSize(r *http.Request) int64 {
	if r.ContentLength < 0 || r.Header.Get("Content-Encoding") != "" {
		return 64 << 10
	}
	return min(r.ContentLength, MaxBody+1)
}

// headerSource is the source whose write key is in the header, "" where there is
// none: then the body must have it. Bearer tokens are taken as they come, as the
// write key is in the body beside them.
func (h *Handler) headerSource(r *http.Request) (string, error) {
	key, err := basicKey(r.Header.Get("Authorization"))
	if err != nil || key == "" {
		return "", err
	}
	return h.keys.Source(key)
}

// basicKey reads the user of Basic authorization. The colon behind it may be
// missing, and so may the padding of the base64.
func basicKey(authorization string) (string, error) {
	scheme, credentials, _ := strings.Cut(authorization, " ")
	if !strings.EqualFold(scheme, "Basic") {
		return "", nil
	}
	credentials = strings.TrimRight(strings.TrimSpace(credentials), "=")
	b, err := base64.RawStdEncoding.DecodeString(credentials)
	if err != nil {
		return "", errWrongKey
	}
	key, _, _ := strings.Cut(string(b), ":")
	return key, nil
}

// parse reads the body into the messages of the call and finds the source. The
// source is returned with an error too, where it is known.
func (h *Handler) parse(c *call, ep endpoint, source string, room *ingest.Reservation) (*ingest.Batch, string, error) {
	p := &c.parsed
	var key ingest.Scalar
	var parseErr error
	if ep.batch {
		parseErr = p.parse(c.body)
		key = p.writeKey
	} else {
		var m ingest.Message
		m, parseErr = ingest.ParseMessage(c.body)
		m.Kind = ep.kind
		p.batch = ingest.Batch{Messages: append(p.batch.Messages[:0], m)}
		key = m.WriteKey()
	}
	if errors.Is(parseErr, jsonread.ErrSyntax) {
		return nil, source, errNoJSON
	}
	source, err := h.bodySource(source, key)
	if err != nil {
		return nil, "", err
	}
	if parseErr != nil {
		return nil, source, errNoBatch
	}
	b := &p.batch
	shared := len(b.Context) + len(b.Integrations) + len(b.SentAt)
	if len(b.Messages) > 0 && (shared > MaxShared || shared*len(b.Messages) > MaxExpanded) {
		// Beside every message it would take too much; the batch is kept as one
		// reject, whole.
		b.Context, b.Integrations, b.SentAt, shared = nil, nil, nil, 0
		b.Messages = append(b.Messages[:0], ingest.Unusable(c.body, ingest.CodeContextTooBig, fmt.Sprintf(
			"the batch's context, integrations and sentAt have more than %d bytes, or more than %d beside all its messages", MaxShared, MaxExpanded)))
	}
	// What the messages become: their bytes, headers, and what they share.
	size := int64(len(c.body) + len(b.Messages)*(256+shared))
	if err := room.Resize(max(size, room.Bytes())); err != nil {
		return nil, source, err
	}
	return b, source, nil
}

// bodySource is the source already known, else that of the body's write key.
func (h *Handler) bodySource(source string, key ingest.Scalar) (string, error) {
	if source != "" {
		return source, nil
	}
	text, ok := key.Text()
	if ok && text == "" {
		return "", errMissingKey
	}
	if !ok {
		return "", errWrongKey
	}
	return h.keys.Source(text)
}

// read reads the body, decompressed, into c.body: all of it, or as much as tells
// that it is too large. The reservation grows with it. Where the body cannot be
// decompressed, c.body is its beginning as it came.
func (h *Handler) read(r *http.Request, c *call, room *ingest.Reservation) error {
	c.body = c.body[:0]
	c.wire = wire{r: r.Body, left: maxWire, head: c.wire.head[:0]}
	var src io.Reader = &c.wire
	encoding := r.Header.Get("Content-Encoding")
	zipped := strings.EqualFold(encoding, "gzip") || strings.EqualFold(encoding, "x-gzip")
	plain := encoding == "" || strings.EqualFold(encoding, "identity")
	if r.ContentLength > maxWire || !zipped && !plain {
		// Its beginning is still read, to be listed.
		c.body, _ = appendAll(c.body, src, ingest.RefusalBytes, nil)
		if plain {
			return errTooLarge
		}
		if !zipped {
			return errEncoding
		}
		return errTooLarge
	}
	if n := int(r.ContentLength); plain && n > cap(c.body) {
		c.body = make([]byte, 0, min(n, MaxBody)+bytes.MinRead)
	}
	var err error
	if zipped {
		c.wire.keep = true
		if c.gzip == nil {
			c.gzip, err = gzip.NewReader(src)
		} else {
			err = c.gzip.Reset(src)
		}
		src = c.gzip
	}
	if err == nil {
		c.body, err = appendAll(c.body, src, MaxBody+1, room)
	}
	f := refusal{}
	switch {
	case errors.As(err, &f):
		return f
	case len(c.body) > MaxBody || c.wire.left == 0:
		return errTooLarge
	case err == nil:
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errSlow
	case zipped:
		c.body = append(c.body[:0], c.wire.head...)
		return errGzip
	}
	return errIncomplete
}

// wire is a body before decompression: it ends where it is too long, and where
// it is compressed its beginning is kept.
type wire struct {
	r    io.Reader
	left int
	keep bool
	head []byte
}

func (c *wire) Read(p []byte) (int, error) {
	if c.left == 0 {
		return 0, io.EOF
	}
	n, err := c.r.Read(p[:min(len(p), c.left)])
	c.left -= n
	if c.keep && len(c.head) < ingest.RefusalBytes {
		c.head = append(c.head, p[:min(n, ingest.RefusalBytes-len(c.head))]...)
	}
	return n, err
}

// appendAll reads src to its end or to the limit, into dst. Where there is a
// reservation it grows before the memory does.
func appendAll(dst []byte, src io.Reader, limit int, room *ingest.Reservation) ([]byte, error) {
	for len(dst) < limit {
		if len(dst) == cap(dst) {
			grown := max(2*cap(dst), 16<<10)
			if room != nil && int64(grown) > room.Bytes() {
				if err := room.Resize(int64(min(grown, limit))); err != nil {
					f, _ := refusalOf(err)
					return dst, f
				}
			}
			dst = append(make([]byte, 0, grown), dst...)
		}
		n, err := src.Read(dst[len(dst):min(cap(dst), limit)])
		dst = dst[:len(dst)+n]
		if errors.Is(err, io.EOF) {
			return dst, nil
		}
		if err != nil {
			return dst, err
		}
	}
	return dst, nil
}
