package importer

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxLine is the longest line that is read, in bytes.
const maxLine = 1 << 20

// cell is a value of a row: text of a CSV file, or JSON.
type cell struct {
	text  string
	json  []byte // nil for text
	there bool
}

// row is a row of a file, before the mapping.
type row struct {
	line int
	// identity is what makes the row itself: the same for equal rows, however
	// they are quoted or their lines end.
	identity []byte
	cell     func(column) cell
}

// column is a column that a mapping names, found in the header.
type column struct {
	name  string
	index int // -1 for a JSON key
}

// locate finds a column that a mapping names by its name in the header or by its
// number. header is nil where the file has none.
func locate(format Format, header []string, name string) (column, error) {
	c := column{name: name, index: -1}
	if format == JSONL {
		return c, nil
	}
	for i, h := range header {
		if strings.TrimSpace(h) == name {
			c.index = i
			return c, nil
		}
	}
	n, err := strconv.Atoi(name)
	switch {
	case err == nil && n >= 1:
		c.index = n - 1
		if header != nil && n > len(header) {
			return c, fmt.Errorf("the mapping names column %d, the file has %d", n, len(header))
		}
	case header == nil:
		return c, fmt.Errorf("the mapping names column %q, but the file has no header; use its number", name)
	default:
		return c, fmt.Errorf("the mapping names column %q, the file has %s", name, strings.Join(header, ", "))
	}
	return c, nil
}

// RowError is a row that cannot be used. Reading goes on behind it.
type RowError struct {
	Line   int    // from 1
	Column string // as the mapping names it; empty where the row as a whole is meant
	Err    error
}

func (e *RowError) Error() string {
	if e.Column != "" {
		return fmt.Sprintf("line %d, column %s: %v", e.Line, e.Column, e.Err)
	}
	return fmt.Sprintf("line %d: %v", e.Line, e.Err)
}
func (e *RowError) Unwrap() error { return e.Err }

// rows yields the rows of a file. A *RowError is for one row; any other error is
// the end.
type rows func(resolve func(header []string) error) iter.Seq2[row, error]

// rowsOf reads a file in its format.
func rowsOf(r io.Reader, format Format, sep string, header bool) (rows, error) {
	switch format {
	case CSV:
		c, err := separator(sep)
		return csvRows(r, c, header), err
	case JSONL:
		return jsonRows(r), nil
	}
	return nil, fmt.Errorf("%q is no format: use csv or jsonl", format)
}

func csvRows(r io.Reader, sep rune, header bool) rows {
	if sep == spaces {
		return spacedRows(r, header)
	}
	return func(resolve func([]string) error) iter.Seq2[row, error] {
		return func(yield func(row, error) bool) {
			c := csv.NewReader(withoutMark(r))
			c.Comma, c.FieldsPerRecord, c.ReuseRecord = sep, -1, true
			named := !header
			if named && !begin(resolve, nil, yield) {
				return
			}
			var id []byte
			for {
				fields, err := c.Read()
				if errors.Is(err, io.EOF) {
					return
				}
				var pe *csv.ParseError
				if errors.As(err, &pe) && named {
					if !yield(row{}, &RowError{Line: pe.StartLine, Err: pe.Err}) {
						return
					}
					continue
				}
				if err != nil {
					yield(row{}, fmt.Errorf("read the file: %w", err))
					return
				}
				if !named {
					named = true
					if !begin(resolve, fields, yield) {
						return
					}
					continue
				}
				line, _ := c.FieldPos(0)
				id = fieldsIdentity(id[:0], fields)
				if !yield(textRow(line, id, fields), nil) {
					return
				}
			}
		}
	}
}

// spacedRows splits lines at runs of spaces and tabs; there are no quotes.
func spacedRows(r io.Reader, header bool) rows {
	return func(resolve func([]string) error) iter.Seq2[row, error] {
		return func(yield func(row, error) bool) {
			named := !header
			if named && !begin(resolve, nil, yield) {
				return
			}
			var id []byte
			for l, err := range lines(r) {
				if err != nil {
					if !yield(row{}, err) {
						return
					}
					continue
				}
				fields := strings.Fields(string(l.text))
				if len(fields) == 0 {
					continue
				}
				if !named {
					named = true
					if !begin(resolve, fields, yield) {
						return
					}
					continue
				}
				id = fieldsIdentity(id[:0], fields)
				if !yield(textRow(l.number, id, fields), nil) {
					return
				}
			}
		}
	}
}

func jsonRows(r io.Reader) rows {
	return func(resolve func([]string) error) iter.Seq2[row, error] {
		return func(yield func(row, error) bool) {
			if !begin(resolve, nil, yield) {
				return
			}
			for l, err := range lines(r) {
				if err != nil {
					if !yield(row{}, err) {
						return
					}
					continue
				}
				text := bytes.TrimSpace(l.text)
				if len(text) == 0 {
					continue
				}
				object := &jsonObject{}
				if err := json.Unmarshal(text, &object.values); err != nil || object.values == nil {
					if err == nil {
						err = errors.New("no JSON object")
					}
					if !yield(row{}, &RowError{Line: l.number, Err: err}) {
						return
					}
					continue
				}
				if !yield(row{line: l.number, identity: text, cell: func(c column) cell { return object.cell(c.name) }}, nil) {
					return
				}
			}
		}
	}
}

func begin(resolve func([]string) error, header []string, yield func(row, error) bool) bool {
	if err := resolve(header); err != nil {
		yield(row{}, err)
		return false
	}
	return true
}

func textRow(line int, id []byte, fields []string) row {
	return row{line: line, identity: id, cell: func(c column) cell {
		if c.index >= len(fields) {
			return cell{}
		}
		text := strings.TrimSpace(fields[c.index])
		return cell{text: text, there: text != ""}
	}}
}

// fieldsIdentity writes the fields so that no two rows look the same.
func fieldsIdentity(id []byte, fields []string) []byte {
	for _, f := range fields {
		id = strconv.AppendInt(id, int64(len(f)), 10)
		id = append(append(id, ':'), f...)
	}
	return id
}

// jsonObject is an object; those within it are read when they are first asked
// for, and once.
type jsonObject struct {
	values map[string]json.RawMessage
	inner  map[string]*jsonObject
}

// cell finds a key; one with dots may lead into objects.
func (o *jsonObject) cell(name string) cell {
	if v, ok := o.values[name]; ok {
		return jsonValue(v)
	}
	first, rest, ok := strings.Cut(name, ".")
	if !ok {
		return cell{}
	}
	inner, ok := o.inner[first]
	if !ok {
		inner = &jsonObject{}
		// What is no object has no values.
		if json.Unmarshal(o.values[first], &inner.values) != nil {
			inner.values = nil
		}
		if o.inner == nil {
			o.inner = map[string]*jsonObject{}
		}
		o.inner[first] = inner
	}
	return inner.cell(rest)
}

func jsonValue(v json.RawMessage) cell {
	c := cell{json: v, there: true}
	switch v[0] {
	case 'n':
		return cell{}
	case '"':
		c.text = strings.TrimSpace(jsonText(v))
		c.there = c.text != ""
	default:
		c.text = string(v)
	}
	return c
}

// jsonText is the text of a string that is valid JSON and valid UTF-8.
func jsonText(v json.RawMessage) string {
	if bytes.IndexByte(v, '\\') < 0 {
		return string(v[1 : len(v)-1])
	}
	var text string
	_ = json.Unmarshal(v, &text) // it is valid
	return text
}

type textLine struct {
	number int
	text   []byte
}

// lines yields the lines of a file with their numbers. One that is too long or
// no UTF-8 is a *RowError.
func lines(r io.Reader) iter.Seq2[textLine, error] {
	return func(yield func(textLine, error) bool) {
		br := bufio.NewReaderSize(withoutMark(r), 1<<16)
		var long []byte
		for number := 1; ; number++ {
			long = long[:0]
			tooLong := false
			text, err := br.ReadSlice('\n')
			for errors.Is(err, bufio.ErrBufferFull) {
				if len(long)+len(text) <= maxLine {
					long = append(long, text...)
				} else {
					tooLong = true
				}
				text, err = br.ReadSlice('\n')
			}
			if len(long) > 0 {
				long = append(long, text...)
				text = long
			}
			if err != nil && !errors.Is(err, io.EOF) {
				yield(textLine{}, fmt.Errorf("read the file: %w", err))
				return
			}
			last := err != nil
			if last && len(text) == 0 {
				return
			}
			var ok bool
			switch {
			case tooLong || len(text) > maxLine:
				ok = yield(textLine{}, &RowError{Line: number, Err: fmt.Errorf("longer than %d bytes", maxLine)})
			case !utf8.Valid(text):
				ok = yield(textLine{}, &RowError{Line: number, Err: errors.New("no UTF-8")})
			default:
				ok = yield(textLine{number, text}, nil)
			}
			if !ok || last {
				return
			}
		}
	}
}

// withoutMark skips the byte order mark that some programs write.
func withoutMark(r io.Reader) io.Reader {
	br := bufio.NewReader(r)
	if b, err := br.Peek(3); err == nil && string(b) == "\xef\xbb\xbf" {
		// What was peeked at is there.
		_, _ = br.Discard(3)
	}
	return br
}
