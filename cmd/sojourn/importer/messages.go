package importer

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/url"
	"strconv"
	"strings"
	"time"

	"sojourn/domain"
)

// Format is that of a file.
type Format string

// The formats.
const (
	CSV   Format = "csv"
	JSONL Format = "jsonl" // one JSON object a line
)

// Message is a row as a message of the tracking API.
type Message struct {
	Line int
	// JSON is valid until the iterator's next step.
	JSON []byte
	// Problems are values that could not be read as their mapping says. The
	// message is for the server to judge all the same.
	Problems []string
}

// Messages reads the rows of a file. An error that is a *RowError is about one
// row, which gives no message, and reading goes on; any other is the end.
func Messages(r io.Reader, format Format, m *Mapping) iter.Seq2[Message, error] {
	return func(yield func(Message, error) bool) {
		w, err := newWriter(format, m)
		if err != nil {
			yield(Message{}, err)
			return
		}
		rs, err := rowsOf(r, format, m.Separator, m.Header)
		if err != nil {
			yield(Message{}, err)
			return
		}
		for row, err := range rs(w.resolve) {
			if err != nil {
				if !yield(Message{}, err) {
					return
				}
				continue
			}
			if !yield(w.message(row), nil) {
				return
			}
		}
	}
}

// value is a Field, ready to write.
type value struct {
	name     string // as JSON, with the colon
	column   column
	constant []byte
	kind     string
}

// writer makes messages of rows.
type writer struct {
	m          *Mapping
	format     Format
	typ        domain.Kind
	time       func(string) (time.Time, error)
	user, anon *column
	at         column
	event      *value
	identity   []column
	groups     []group
	seen       map[[16]byte]uint32
	buf        []byte
	problems   []string
}

type group struct {
	name   string
	values []value
}

func newWriter(format Format, m *Mapping) (*writer, error) {
	if err := m.Validate(); err != nil {
		return nil, err
	}
	w := &writer{m: m, format: format, seen: map[[16]byte]uint32{}}
	w.typ, _ = domain.ParseKind(m.kind())
	var err error
	w.time, err = m.Time.parser()
	return w, err
}

// resolve finds the mapping's columns in the header; header is nil where the
// file has none.
func (w *writer) resolve(header []string) error {
	var errs []error
	find := func(name string) column {
		c, err := locate(w.format, header, name)
		errs = append(errs, err)
		return c
	}
	optional := func(name string) *column {
		if name == "" {
			return nil
		}
		c := find(name)
		return &c
	}
	field := func(name string, f Field) value {
		key, err := json.Marshal(name)
		v := value{name: string(key) + ":", kind: f.Kind}
		if f.Column != "" {
			v.column = find(f.Column)
		} else if err == nil {
			v.constant, err = json.Marshal(f.Value)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
		return v
	}
	w.user, w.anon, w.at = optional(w.m.User), optional(w.m.Anonymous), find(w.m.Time.Column)
	if w.m.Event.Column != "" || w.m.Event.Value != nil {
		name := "name"
		if w.typ == domain.Track {
			name = "event"
		}
		v := field(name, w.m.Event)
		v.kind = "string"
		w.event = &v
	}
	w.identity = nil
	for _, name := range w.m.Identity {
		w.identity = append(w.identity, find(name))
	}
	w.groups = nil
	for _, g := range []struct {
		name   string
		fields Fields
	}{{"properties", w.m.Properties}, {"traits", w.m.Traits}, {"context", w.m.Context}} {
		if len(g.fields) == 0 {
			continue
		}
		out := group{name: g.name}
		for _, name := range g.fields.names() {
			out.values = append(out.values, field(name, g.fields[name]))
		}
		w.groups = append(w.groups, out)
	}
	return errors.Join(errs...)
}

func (w *writer) message(r row) Message {
	w.problems = nil
	b := append(w.buf[:0], `{"type":"`...)
	b = append(b, w.typ.String()...)
	b = append(b, `","messageId":`...)
	b = appendText(b, w.messageID(r))
	if w.user != nil {
		b = w.id(b, `,"userId":`, r.cell(*w.user))
	}
	if w.anon != nil {
		key := `,"anonymousId":`
		if w.typ == domain.Alias {
			key = `,"previousId":`
		}
		b = w.id(b, key, r.cell(*w.anon))
	}
	b = append(b, `,"timestamp":`...)
	at := r.cell(w.at)
	t, err := w.time(at.text)
	if err != nil {
		// The server keeps the row among the rejects.
		w.problems = append(w.problems, fmt.Sprintf("time: %q is not written as the mapping says", at.text))
		b = appendText(b, "unreadable: "+at.text)
	} else {
		b = append(b, '"')
		b = t.UTC().AppendFormat(b, "2006-01-02T15:04:05.000Z")
		b = append(b, '"')
	}
	if w.event != nil {
		b = w.append(b, r, *w.event, true)
	}
	for _, g := range w.groups {
		b = append(b, `,"`...)
		b = append(b, g.name...)
		b = append(b, `":{`...)
		for _, v := range g.values {
			b = w.append(b, r, v, b[len(b)-1] != '{')
		}
		b = append(b, '}')
	}
	w.buf = append(b, '}')
	return Message{Line: r.line, JSON: w.buf, Problems: w.problems}
}

// id writes the text of an id; what is missing is left to the server, which
// knows what counts as missing.
func (w *writer) id(b []byte, key string, c cell) []byte {
	if !c.there {
		return b
	}
	return appendText(append(b, key...), c.text)
}

// append writes a value with its name; an empty cell is left out.
func (w *writer) append(b []byte, r row, v value, comma bool) []byte {
	c := cell{}
	if v.constant == nil {
		if c = r.cell(v.column); !c.there {
			return b
		}
	}
	if comma {
		b = append(b, ',')
	}
	b = append(b, v.name...)
	if v.constant != nil {
		return append(b, v.constant...)
	}
	problem := func(what string) []byte {
		w.problems = append(w.problems, fmt.Sprintf("%s %q is no %s and is sent as text", strings.Trim(v.name, `":`), c.text, what))
		return appendText(b, c.text)
	}
	switch v.kind {
	case "number":
		n, ok := number(c.text)
		if !ok {
			return problem("number")
		}
		return append(b, n...)
	case "boolean":
		switch strings.ToLower(c.text) {
		case "true", "t", "yes", "y", "1":
			return append(b, "true"...)
		case "false", "f", "no", "n", "0":
			return append(b, "false"...)
		}
		return problem("boolean")
	case "json":
		if c.json != nil {
			return append(b, c.json...)
		}
		if !json.Valid([]byte(c.text)) {
			return problem("JSON")
		}
		return append(b, c.text...)
	case "string":
		return appendText(b, c.text)
	}
	if c.json != nil {
		return append(b, c.json...)
	}
	return appendText(b, c.text)
}

// number writes a number as JSON has it, with all its digits.
func number(s string) (string, bool) {
	sign := ""
	switch {
	case strings.HasPrefix(s, "-"):
		sign, s = "-", s[1:]
	case strings.HasPrefix(s, "+"):
		s = s[1:]
	}
	for len(s) > 1 && s[0] == '0' && s[1] >= '0' && s[1] <= '9' {
		s = s[1:]
	}
	if strings.HasPrefix(s, ".") {
		s = "0" + s
	}
	if strings.HasSuffix(s, ".") {
		s += "0"
	}
	if s == "" || s[0] < '0' || s[0] > '9' || !json.Valid([]byte(s)) {
		return "", false
	}
	return sign + s, true
}

// messageID names the row for ever.
func (w *writer) messageID(r row) string {
	if len(w.identity) > 0 {
		parts := make([]string, len(w.identity))
		some := false
		for i, c := range w.identity {
			cell := r.cell(c)
			parts[i] = cell.text
			some = some || cell.there
		}
		if some {
			if len(parts) == 1 {
				return w.m.IdentityPrefix + parts[0]
			}
			for i := range parts {
				parts[i] = url.PathEscape(parts[i])
			}
			return w.m.IdentityPrefix + strings.Join(parts, "/")
		}
		w.problems = append(w.problems, "the identity columns are empty; the row counts by its content")
	}
	sum := sha256.Sum256(r.identity)
	key := [16]byte(sum[:16])
	n := w.seen[key]
	w.seen[key] = n + 1
	return w.m.IdentityPrefix + "row-" + hex.EncodeToString(key[:]) + "-" + strconv.FormatUint(uint64(n), 10)
}

// appendText writes a JSON string.
func appendText(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c == '"' || c == '\\' || c >= 0x7f {
			// Marshalling a string cannot fail.
			q, _ := json.Marshal(s)
			return append(b, q...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}
