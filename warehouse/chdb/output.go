package chdb

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/ClickHouse/ch-go/compress"
	"github.com/klauspost/compress/gzip"
)

// maxHeld bounds a result that a client wants whole before its first byte.
const maxHeld = 64 << 20

// output writes a result in parts: into the response as it is, as gzip, or in
// ClickHouse's own compressed blocks.
type output struct {
	w      http.ResponseWriter
	r      *http.Request
	args   url.Values
	format string

	begun  bool
	first  func() // where not nil, is called when the answer begins
	tag    string // of an exception after the first byte
	zip    *gzip.Writer
	blocks *compress.Writer
	held   *bytes.Buffer // with wait_end_of_query
}

func (o *output) begin(s stats) error {
	o.begun = true
	if o.first != nil {
		o.first()
	}
	head := o.w.Header()
	head.Set("Content-Type", contentType(o.format))
	head.Set("X-ClickHouse-Format", o.format)
	head.Set("X-ClickHouse-Summary", summary(s))
	o.tag = rand.Text()[:16]
	head.Set("X-ClickHouse-Exception-Tag", o.tag)
	if on(o.args, "wait_end_of_query") {
		o.held = &bytes.Buffer{}
	}
	if on(o.args, "compress") {
		o.blocks = compress.NewWriter(compress.LevelZero, compress.LZ4)
	}
	if on(o.args, "enable_http_compression") && accepts(o.r.Header.Get("Accept-Encoding"), "gzip") {
		head.Set("Content-Encoding", "gzip")
		o.zip, _ = gzip.NewWriterLevel(o.w, gzip.BestSpeed)
	}
	return nil
}

func on(args url.Values, name string) bool {
	v := args.Get(name)
	return v == "1" || v == "true"
}

// accepts finds an encoding in an Accept-Encoding header.
func accepts(header, encoding string) bool {
	for part := range strings.SplitSeq(header, ",") {
		name, q, _ := strings.Cut(part, ";")
		if strings.EqualFold(strings.TrimSpace(name), encoding) {
			return !strings.HasPrefix(strings.ReplaceAll(q, " ", ""), "q=0") || strings.Contains(q, "0.")
		}
	}
	return false
}

// blockSize is how much of a result goes into one compressed block.
const blockSize = 1 << 20

func (o *output) write(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	if o.held != nil && o.held.Len()+len(b) <= maxHeld {
		o.held.Write(b)
		return nil
	}
	if err := o.release(); err != nil {
		return err
	}
	return o.send(b)
}

// release sends what was held back.
func (o *output) release() error {
	if o.held == nil {
		return nil
	}
	held := o.held
	o.held = nil
	return o.send(held.Bytes())
}

func (o *output) send(b []byte) error {
	if o.blocks == nil {
		return o.raw(b)
	}
	for len(b) > 0 {
		n := min(len(b), blockSize)
		if err := o.blocks.Compress(b[:n]); err != nil {
			return err
		}
		if err := o.raw(o.blocks.Data); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

func (o *output) raw(b []byte) error {
	if o.zip != nil {
		_, err := o.zip.Write(b)
		return err
	}
	_, err := o.w.Write(b)
	return err
}

// end finishes a result.
func (o *output) end() error {
	if err := o.release(); err != nil {
		return err
	}
	if o.zip != nil {
		return o.zip.Close()
	}
	return nil
}

// fail answers an error: with its status where nothing has gone out yet, else
// in the body, marked as ClickHouse marks it, and with a connection that breaks
// off, so that no client takes the part for the whole.
func (o *output) fail(err error) {
	e := exception(err)
	if !o.begun || o.held != nil {
		head := o.w.Header()
		head.Del("Content-Encoding")
		head.Del("X-ClickHouse-Exception-Tag")
		fail(o.w, httpStatus(e.Code), e)
		return
	}
	text := e.Error()
	mark := "__exception__"
	_ = o.send(fmt.Appendf(nil, "\r\n%s\r\n%s\r\n%s\n%d %s\r\n%s\r\n", mark, o.tag, text, len(text)+1, o.tag, mark))
	if o.zip != nil {
		_ = o.zip.Close()
	}
	_ = http.NewResponseController(o.w).Flush()
	panic(http.ErrAbortHandler)
}

func exception(err error) *Exception {
	var e *Exception
	if errors.As(err, &e) {
		return e
	}
	return &Exception{Code: 1001, Message: err.Error() + ". (STD_EXCEPTION)"}
}

// fail answers an error before anything else.
func fail(w http.ResponseWriter, status int, err error) {
	e := exception(err)
	head := w.Header()
	head.Set("Content-Type", "text/plain; charset=UTF-8")
	head.Set("X-ClickHouse-Exception-Code", fmt.Sprint(e.Code))
	if status == http.StatusUnauthorized {
		head.Set("WWW-Authenticate", `Basic realm="ClickHouse server HTTP API"`)
	}
	w.WriteHeader(status)
	_, _ = fmt.Fprintln(w, e.Error())
}

// httpStatus is the status ClickHouse answers for an exception.
func httpStatus(code int) int {
	switch code {
	case 194: // REQUIRED_PASSWORD
		return http.StatusUnauthorized
	case 192, 193, 516, accessDenied: // UNKNOWN_USER, WRONG_PASSWORD, AUTHENTICATION_FAILED
		return http.StatusForbidden
	case 36, // BAD_ARGUMENTS
		6, 27, 72, 41, 38, 43, 42, 53, 69, 70, // cannot parse, wrong types and arguments
		62, 26, 89, 427, 34, 354, 456, 457, 182, 181, 183, 117, 153, 190:
		return http.StatusBadRequest
	case 60, 46, 47, 50, 56, 81, 115, 63, 73, 82, 83, 16: // unknown table, function, identifier, …
		return http.StatusNotFound
	case 307: // QUERY_IS_TOO_LARGE
		return http.StatusRequestEntityTooLarge
	case 48, 344: // NOT_IMPLEMENTED
		return http.StatusNotImplemented
	case 159, 160: // TIMEOUT_EXCEEDED, TOO_SLOW
		return http.StatusRequestTimeout
	case 202: // TOO_MANY_SIMULTANEOUS_QUERIES
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}
